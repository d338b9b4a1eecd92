/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_P9_TCE_H
#define KVM_P9_TCE_H

#include <linux/types.h>

struct iommu_table;

/* For entry/src/handlers.rs */
extern u64 kvm_p9_vmemmap;
extern u64 kvm_p9_phb_useraddrptr;
void kvm_p9_tce_kill(struct iommu_table *tbl, unsigned long entry, unsigned long pages);

void kvm_p9_tce_init(void);

#endif /* KVM_P9_TCE_H */
