/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the files of kvm-p9 share with each other and with Rust. The statistics of a
 * vcpu are written by Rust: see arch/powerpc/src/stats.rs.
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

/* How often each way into the guest was taken while kvm_p9.path=rust, for each CPU */
struct kvm_p9_counters {
	u64 entry_rust;		/* entries by the Rust path */
	u64 c_cpu;		/* C path: not a POWER9, or one with a bug */
	u64 c_host_mmu;		/* C path: the host uses the hash MMU */
	u64 c_nested;		/* C path: L2 guest */
	u64 c_hash;		/* C path: hash guest */
	u64 c_secure;		/* C path: secure guest */
};

/* A fast hcall */
struct kvm_p9_event {
	u64 tb;
	u64 r4;
	s64 code;
	u32 number;
	u32 ticks;
};

/* Lengths of spans of time */
struct kvm_p9_distribution {
	u64 count;
	u64 total;
	u64 min;
	u64 max;
	u32 histogram[KVM_P9_ABI_BUCKETS];
};

/* Spans of time of one kind, in ticks of the timebase, and of some in cycles */
struct kvm_p9_path {
	struct kvm_p9_distribution ticks;
	struct kvm_p9_distribution cycles;
};

struct kvm_p9_stats {
	u64 sequence;
	u64 wanted;
	u64 tb_offset;
	u64 open;
	u64 since;
	u64 counter;
	u64 counted;
	u64 since_counted;
	u64 since_cycles;
	u64 in_userspace;
	u64 reset;
	u64 event_count;
	struct kvm_p9_event events[KVM_P9_ABI_EVENTS];
	struct kvm_p9_path paths[KVM_P9_ABI_SPANS];
};

/* What is allocated for a vcpu: the part of Rust, and what emits its events */
struct kvm_p9_recorder {
	struct kvm_p9_stats stats;
	struct irq_work emit;
	struct kvm_vcpu *vcpu;
};

/* Where hcalls were answered: columns of the vms file */
enum { KVM_P9_FAST, KVM_P9_FULL, KVM_P9_USERSPACE, KVM_P9_COLUMNS };

/* In Rust: entry/src/kernel.rs */
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

/* kvm_p9_mmu.c, for entry/src/kernel.rs */
void kvm_p9_flush_guest_tlb(struct kvm *kvm, cpumask_t *wanted, int pcpu);
void kvm_p9_clear_slb(void);

/* kvm_p9_pmu.c */
/* Stop the counters of cycles of all CPUs. */
void kvm_p9_stop_all_counters(void);
/* Called after an exit. */
void kvm_p9_scrub_guest_pmc(struct kvm_vcpu *vcpu);

/* kvm_p9_tce.c, for entry/src/handlers.rs */
extern u64 kvm_p9_vmemmap;
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
