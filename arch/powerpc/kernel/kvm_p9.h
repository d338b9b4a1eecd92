/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of kvm-p9 share with each other. Structures that Rust shares, too, are
 * in kvm_p9_abi.h, which kvm-p9-kbuild prints from arch/powerpc/src/abi/.
 */
#ifndef KVM_P9_H
#define KVM_P9_H

#include <linux/cpumask.h>
#include <linux/irq_work.h>
#include <linux/kvm_host.h>
#include <linux/mutex.h>
#include <linux/percpu-defs.h>
#include <linux/types.h>

#include "kvm_p9_abi.h"

struct iommu_table;

/* What is allocated for a vcpu: the part of Rust, and what emits its events */
struct kvm_p9_recorder {
	struct kvm_p9_stats stats;
	struct irq_work emit;
	struct kvm_vcpu *vcpu;
};

/* Where hcalls were answered: columns of the vms file */
enum { KVM_P9_FAST, KVM_P9_FULL, KVM_P9_USERSPACE, KVM_P9_COLUMNS };

/* In Rust: entry/src/power9.rs and entry/src/entry_point.rs */
bool kvm_p9_assists_tm(void);
int kvm_p9_rs_vcpu_entry(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr,
			 u64 *tb, struct kvm_p9_counters *counters);

/* kvm_p9_main.c */
extern u64 kvm_p9_host_facts;
DECLARE_PER_CPU(struct kvm_p9_counters, kvm_p9_counters);
/* Protects settings, and the lists of VMs and vcpus */
extern struct mutex kvm_p9_lock;
extern struct list_head kvm_p9_vms;
extern u64 kvm_p9_destroyed[KVM_P9_COLUMNS][KVM_P9_HCALLS];
int kvm_p9_vcpu_entry_rust(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr,
			   u64 *tb);
int kvm_p9_vcpu_entry_rust_timed(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr,
				 u64 *tb);
void kvm_p9_add(u64 (*sum)[KVM_P9_HCALLS], const u64 (*other)[KVM_P9_HCALLS]);
void kvm_p9_add_vm(u64 (*sum)[KVM_P9_HCALLS], struct kvm_p9_vm *vm);

static inline struct kvm_vcpu *kvm_p9_vcpu_of(struct kvm_p9_served *served)
{
	return container_of(served, struct kvm_vcpu, arch.p9_served);
}

/* kvm_p9_params.c */
extern u8 kvm_p9_fast_table;
/* KVM_P9_ABI_TIMING_ bits */
extern u64 kvm_p9_timing;
/* Set or clear a KVM_P9_ABI_TIMING_ bit. */
int kvm_p9_set_timing(u64 what, bool on);
void kvm_p9_warn_unsupported(void);

/* kvm_p9_mmu.c, for entry/src/power9.rs */
void kvm_p9_flush_guest_tlb(struct kvm *kvm, cpumask_t *wanted, int pcpu);
void kvm_p9_clear_slb(void);

/* kvm_p9_mce.c, for kvm_p9_entry.S */
bool kvm_p9_correct_machine_check(void);

/* kvm_p9_pmu.c */
/* Stop the counters of cycles of all CPUs. */
void kvm_p9_stop_all_counters(void);
/* Called after an exit. */
void kvm_p9_scrub_guest_pmc(struct kvm_vcpu *vcpu);

/* kvm_p9_tce.c, for entry/src/tce/ */
extern u64 kvm_p9_page_address[2];
extern u64 kvm_p9_phb_useraddrptr;
void kvm_p9_tce_kill(struct iommu_table *tbl, unsigned long entry, unsigned long pages);
void kvm_p9_tce_init(void);

/* kvm_p9_trace.c */
/* Let one vcpu record times, all vcpus, or none. */
int kvm_p9_record(struct kvm_vcpu *vcpu);
int kvm_p9_record_all(void);
void kvm_p9_record_none(void);
/* Called after an exit. */
void kvm_p9_queue_events(struct kvm_vcpu *vcpu);
void kvm_p9_free_recorder(struct kvm_vcpu *vcpu);
void kvm_p9_trace_init(void);

static inline struct kvm_p9_recorder *kvm_p9_recorder(struct kvm_vcpu *vcpu)
{
	return smp_load_acquire(&vcpu->arch.p9_served.recorder);
}

/* kvm_p9_debugfs.c */
void kvm_p9_debugfs_init(void);

#endif /* KVM_P9_H */
