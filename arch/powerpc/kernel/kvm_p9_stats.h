/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What kvm_p9.stats and the tracepoint know of a vcpu. Rust writes it, and says
 * what it means: arch/powerpc/src/stats.rs.
 */
#ifndef KVM_P9_STATS_H
#define KVM_P9_STATS_H

#include <linux/mutex.h>
#include <linux/types.h>

#include "kvm_p9_abi.h"

struct dentry;
struct kvm_vcpu;

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

/* Over settings, VMs and their vcpus */
extern struct mutex kvm_p9_lock;

/* What is wanted now: see kvm_p9.c */
extern u64 kvm_p9_timing;
/* Sets or clears a KVM_P9_ABI_TIMING_ bit. */
int kvm_p9_set_timing(u64 what, bool on);

/* Lets all vcpus record times, or none. */
int kvm_p9_record_all(void);
void kvm_p9_record_none(void);
/* Of all VMs that there were, by enum kvm_p9_hcall. */
void kvm_p9_sum_fast(u64 *sum);
/* After the guest has come out. */
void kvm_p9_queue_events(struct kvm_vcpu *vcpu);
void kvm_p9_scrub_guest_pmc(struct kvm_vcpu *vcpu);
/* Stops what still counts cycles, on any CPU. */
void kvm_p9_stop_all_counters(void);
void kvm_p9_stats_init(struct dentry *dir);

#endif /* KVM_P9_STATS_H */
