/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_P9_TCE_H
#define KVM_P9_TCE_H

#include <linux/types.h>

struct iommu_table;

/* For entry/src/handlers.rs */
extern u64 kvm_p9_struct_pages;
extern u64 kvm_p9_known_table;
void kvm_p9_tce_kill(struct iommu_table *tbl, unsigned long entry, unsigned long pages);

void kvm_p9_tce_init(void);

#endif /* KVM_P9_TCE_H */
