// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm-p9's kernel glue: parameters, counters, and the facts about the host
 * that decide whether the Rust path may run at all. Everything that happens
 * on the way into or out of a guest is in the Rust object and the trampoline;
 * what can be seen of VMs and vcpus is in kvm_p9_stats.c.
 */
#define pr_fmt(fmt) "kvm_p9: " fmt

#include <linux/context_tracking.h>
#include <linux/cpu.h>
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/cputable.h>
#include <asm/cputhreads.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/mmu.h>
#include <asm/ppc-opcode.h>
#if __has_include(<asm/text-patching.h>)
#include <asm/text-patching.h>
#else /* before Linux 6.13 */
#include <asm/code-patching.h>
#endif

#include "book3s_hv.h"
#include "kvm_p9_abi.h"
#include "kvm_p9_stats.h"
#include "kvm_p9_tce.h"

/* In kvm_p9_entry.S */
extern s32 patch__kvm_p9_seam;
extern s32 patch__kvm_p9_stamp_hcall;
extern s32 patch__kvm_p9_run_guest;
void kvm_p9_stamp_hcall(void);
void kvm_p9_run_guest(struct kvm_vcpu *vcpu);
void kvm_p9_run_guest_timed(struct kvm_vcpu *vcpu);

/* For entry/src/kernel.rs */
void kvm_p9_flush_guest_tlb(struct kvm *kvm, cpumask_t *wanted, int pcpu);
void kvm_p9_clear_slb(void);

/* In Rust: entry/src/kernel.rs */
bool kvm_p9_assists_tm(void);
int kvm_p9_rs_vcpu_entry(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr,
		      u64 *tb, struct kvm_p9_counters *counters);

/* The kernel's layout against Rust's; kvm_p9_layout.c has the other direction. */
#define ASSERT_FIELD(type, field, offset) \
	static_assert(offsetof(struct type, field) == (offset))

ASSERT_FIELD(kvm_p9_vcpu, fast_table, KVM_P9_ABI_VCPU_FAST_TABLE);
ASSERT_FIELD(kvm_p9_vcpu, fast[KVM_P9_NULL], KVM_P9_ABI_VCPU_FAST_NULL);
ASSERT_FIELD(kvm_p9_vcpu, fast[KVM_P9_GET_TCE], KVM_P9_ABI_VCPU_FAST_H_GET_TCE);
ASSERT_FIELD(kvm_p9_vcpu, fast[KVM_P9_PUT_TCE], KVM_P9_ABI_VCPU_FAST_H_PUT_TCE);
ASSERT_FIELD(kvm_p9_vcpu, fast[KVM_P9_PUT_TCE_INDIRECT],
	     KVM_P9_ABI_VCPU_FAST_H_PUT_TCE_INDIRECT);
ASSERT_FIELD(kvm_p9_vcpu, fast[KVM_P9_STUFF_TCE], KVM_P9_ABI_VCPU_FAST_H_STUFF_TCE);
ASSERT_FIELD(kvm_p9_vcpu, tce_list_gfn, KVM_P9_ABI_VCPU_TCE_LIST_GFN);
ASSERT_FIELD(kvm_p9_vcpu, tce_list_generation, KVM_P9_ABI_VCPU_TCE_LIST_GENERATION);
ASSERT_FIELD(kvm_p9_vcpu, tce_list_page, KVM_P9_ABI_VCPU_TCE_LIST_PAGE);
ASSERT_FIELD(kvm_p9_vcpu, tce_list_busy, KVM_P9_ABI_VCPU_TCE_LIST_BUSY);
ASSERT_FIELD(kvm_p9_vcpu, tce_list_wanted, KVM_P9_ABI_VCPU_TCE_LIST_WANTED);
ASSERT_FIELD(kvm_p9_vcpu, tce_list, KVM_P9_ABI_VCPU_TCE_LIST);
ASSERT_FIELD(kvm_p9_vcpu, stats, KVM_P9_ABI_VCPU_STATS);
ASSERT_FIELD(kvm_p9_vcpu, hcall_tb, KVM_P9_ABI_VCPU_HCALL_TB);
ASSERT_FIELD(kvm_p9_vcpu, hcall_cycles, KVM_P9_ABI_VCPU_HCALL_CYCLES);
static_assert(sizeof(struct kvm_p9_vcpu) == KVM_P9_ABI_VCPU_SIZE);
ASSERT_FIELD(kvm_p9_counters, entry_rust, KVM_P9_ABI_COUNTERS_ENTRY_RUST);
ASSERT_FIELD(kvm_p9_counters, c_cpu, KVM_P9_ABI_COUNTERS_C_CPU);
ASSERT_FIELD(kvm_p9_counters, c_host_mmu, KVM_P9_ABI_COUNTERS_C_HOST_MMU);
ASSERT_FIELD(kvm_p9_counters, c_nested, KVM_P9_ABI_COUNTERS_C_NESTED);
ASSERT_FIELD(kvm_p9_counters, c_hash, KVM_P9_ABI_COUNTERS_C_HASH);
ASSERT_FIELD(kvm_p9_counters, c_secure, KVM_P9_ABI_COUNTERS_C_SECURE);
static_assert(sizeof(struct kvm_p9_counters) == KVM_P9_ABI_COUNTERS_SIZE);
static_assert(KVMPPC_H_NULL == KVM_P9_ABI_H_NULL);
static_assert(H_TOO_HARD == KVM_P9_ABI_H_TOO_HARD);

EXPORT_SYMBOL_GPL(kvm_p9_vcpu_entry);

static DEFINE_PER_CPU(struct kvm_p9_counters, kvm_p9_counters);

int kvm_p9_vcpu_entry_rust(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr,
			   u64 *tb);

/* Where the seam leads while kvm_p9.path=rust. Preemption is off. */
int kvm_p9_vcpu_entry_rust(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr, u64 *tb)
{
	return kvm_p9_rs_vcpu_entry(vcpu, time_limit, lpcr, tb,
				 this_cpu_ptr(&kvm_p9_counters));
}

/* The same while somebody wants to know about time. */
static int kvm_p9_vcpu_entry_rust_timed(struct kvm_vcpu *vcpu, u64 time_limit,
				   unsigned long lpcr, u64 *tb)
{
	int trap = kvm_p9_vcpu_entry_rust(vcpu, time_limit, lpcr, tb);

	kvm_p9_scrub_guest_pmc(vcpu);
	kvm_p9_queue_events(vcpu);
	return trap;
}

/* Read by Rust at every entry. */
u64 kvm_p9_host_facts __ro_after_init;
u8 kvm_p9_fast_table __read_mostly = KVM_P9_ABI_TABLE_FAST;

static bool kvm_p9_fast = true;

/*
 * A guest may run for long without coming out, and a storm of fast hcalls is
 * no way out either. An interrupt is: it makes every vcpu come round through
 * the seam, where the new setting is seen.
 */
static void kvm_p9_setting_changed(void)
{
	if (system_state >= SYSTEM_RUNNING)
		kick_all_cpus_sync();
}

static bool kvm_p9_path_rust;

/* Who has asked for Rust should know where it won't be had. */
static void kvm_p9_warn_unsupported(void)
{
	if (!kvm_p9_path_rust)
		return;
	if (!(kvm_p9_host_facts & KVM_P9_ABI_HOST_CPU_SUPPORTED))
		pr_info_once("path=rust is for POWER9 DD2.2 and later: guests here stay with C\n");
	else if (!(kvm_p9_host_facts & KVM_P9_ABI_HOST_RADIX))
		pr_info_once("path=rust is for hosts with the radix MMU: guests here stay with C\n");
}

/* KVM_P9_ABI_TIMING_ bits; those above the lowest 8 change with every setting. */
u64 kvm_p9_timing;
#define KVM_P9_TIMING_BITS	0xffULL

/*
 * The seam is one branch instruction. Branches may be exchanged for each other
 * while CPUs execute them (Power ISA 3.0B, Book II, 1.8.1), so a running vcpu
 * takes either one, and the C path pays for the choice with that branch alone.
 *
 * Taking times is chosen likewise: the seam leads to a function that afterwards
 * emits events, the branch by which Rust has the guest run leads to one that
 * looks at the time before and behind, and a nop in the trampoline becomes a
 * branch that takes down when an hcall arrives. Fast handlers that take times are
 * in another table. Counters of cycles may count from before the first entry that
 * asks until after the last.
 */
static int kvm_p9_apply(bool rust, bool fast, u64 wanted)
{
	unsigned long target;
	int ret;

	lockdep_assert_held(&kvm_p9_lock);

	if (wanted & KVM_P9_ABI_TIMING_STATS)
		static_branch_enable(&kvm_p9_counts_cycles);
	WRITE_ONCE(kvm_p9_timing, ((kvm_p9_timing | KVM_P9_TIMING_BITS) + 1) | wanted);
	if (wanted) {
		/* Before anybody reads what it takes down */
		ret = patch_branch_site(&patch__kvm_p9_stamp_hcall,
					ppc_function_entry(kvm_p9_stamp_hcall), 0);
		if (ret)
			return ret;
		kvm_p9_setting_changed();
	}

	target = wanted ? ppc_function_entry(kvm_p9_run_guest_timed)
			: ppc_function_entry(kvm_p9_run_guest);
	ret = patch_branch_site(&patch__kvm_p9_run_guest, target, 0);
	if (ret)
		return ret;

	WRITE_ONCE(kvm_p9_fast_table, !fast ? KVM_P9_ABI_TABLE_NO_FAST :
		   wanted ? KVM_P9_ABI_TABLE_TIMED_FAST : KVM_P9_ABI_TABLE_FAST);

	if (!rust)
		target = ppc_function_entry(kvmhv_vcpu_entry_p9);
	else if (wanted)
		target = ppc_function_entry(kvm_p9_vcpu_entry_rust_timed);
	else
		target = ppc_function_entry(kvm_p9_vcpu_entry_rust);
	ret = patch_branch_site(&patch__kvm_p9_seam, target, 0);
	if (ret)
		return ret;

	kvm_p9_path_rust = rust;
	kvm_p9_fast = fast;
	if (rust)
		static_branch_enable(&kvm_p9_path_is_rust);
	else
		static_branch_disable(&kvm_p9_path_is_rust);
	kvm_p9_setting_changed();

	/* No vcpu is in the guest by an entry that lets them count */
	if (static_key_enabled(&kvm_p9_counts_cycles) &&
	    (!rust || !(wanted & KVM_P9_ABI_TIMING_STATS)))
		kvm_p9_stop_all_counters();
	if (!(wanted & KVM_P9_ABI_TIMING_STATS))
		static_branch_disable(&kvm_p9_counts_cycles);

	if (!wanted)
		ret = patch_instruction_site(&patch__kvm_p9_stamp_hcall,
					     ppc_inst(PPC_RAW_NOP()));
	return ret;
}

int kvm_p9_set_timing(u64 what, bool on)
{
	u64 wanted;
	int ret = 0;

	mutex_lock(&kvm_p9_lock);
	wanted = kvm_p9_timing & KVM_P9_TIMING_BITS & ~what;
	if (on) {
		wanted |= what;
		ret = kvm_p9_record_all();
	}
	if (!ret)
		ret = kvm_p9_apply(kvm_p9_path_rust, kvm_p9_fast, wanted);
	/* No vcpu is in the guest by an entry that still asks */
	if (ret ? !(kvm_p9_timing & KVM_P9_TIMING_BITS) : !wanted)
		kvm_p9_record_none();
	mutex_unlock(&kvm_p9_lock);
	return ret;
}

static int kvm_p9_set_path(const char *val, const struct kernel_param *kp)
{
	bool rust = sysfs_streq(val, "rust");
	int ret;

	if (!rust && !sysfs_streq(val, "c"))
		return -EINVAL;

	mutex_lock(&kvm_p9_lock);
	ret = kvm_p9_apply(rust, kvm_p9_fast, kvm_p9_timing & KVM_P9_TIMING_BITS);
	mutex_unlock(&kvm_p9_lock);
	/* Before there are facts, kvm_p9_init() will say it */
	if (!ret && system_state >= SYSTEM_RUNNING)
		kvm_p9_warn_unsupported();
	return ret;
}

static int kvm_p9_get_path(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%s\n", kvm_p9_path_rust ? "rust" : "c");
}

static const struct kernel_param_ops kvm_p9_path_ops = {
	.set = kvm_p9_set_path,
	.get = kvm_p9_get_path,
};
module_param_cb(path, &kvm_p9_path_ops, NULL, 0644);
MODULE_PARM_DESC(path, "Who does guest entry and exit: c (default) or rust");

static int kvm_p9_set_fast(const char *val, const struct kernel_param *kp)
{
	bool fast;
	int ret = kstrtobool(val, &fast);

	if (ret)
		return ret;

	mutex_lock(&kvm_p9_lock);
	ret = kvm_p9_apply(kvm_p9_path_rust, fast, kvm_p9_timing & KVM_P9_TIMING_BITS);
	mutex_unlock(&kvm_p9_lock);
	return ret;
}

static int kvm_p9_get_fast(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", READ_ONCE(kvm_p9_fast));
}

static const struct kernel_param_ops kvm_p9_fast_ops = {
	.set = kvm_p9_set_fast,
	.get = kvm_p9_get_fast,
};
module_param_cb(fast, &kvm_p9_fast_ops, NULL, 0644);
MODULE_PARM_DESC(fast, "Fast hcall handlers on the Rust path: 1 (default) or 0");

static int kvm_p9_set_stats(const char *val, const struct kernel_param *kp)
{
	bool stats;
	int ret = kstrtobool(val, &stats);

	return ret ? ret : kvm_p9_set_timing(KVM_P9_ABI_TIMING_STATS, stats);
}

static int kvm_p9_get_stats(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n",
			  !!(READ_ONCE(kvm_p9_timing) & KVM_P9_ABI_TIMING_STATS));
}

static const struct kernel_param_ops kvm_p9_stats_ops = {
	.set = kvm_p9_set_stats,
	.get = kvm_p9_get_stats,
};
module_param_cb(stats, &kvm_p9_stats_ops, NULL, 0644);
MODULE_PARM_DESC(stats, "Times of the Rust path, by vcpu: 1 or 0 (default)");

/*
 * Another CPU changed translations of a guest whose vcpu last ran here, and left
 * it to this CPU to flush what its TLB has of them. The four threads of a core
 * share the TLB: if all of them still have to flush, it was not done for any.
 * LPIDR is the guest's, and tlbiel goes by it. Two threads that both come to do it
 * do no harm. An L2 has a mask of its own, and a partition, but is of the L1's VM.
 */
void kvm_p9_flush_guest_tlb(struct kvm *kvm, cpumask_t *wanted, int pcpu)
{
	bool radix = kvm_is_radix(kvm);
	bool done = false;
	int cpu, set;

	for (cpu = cpu_first_tlb_thread_sibling(pcpu);
	     cpu <= cpu_last_tlb_thread_sibling(pcpu);
	     cpu += cpu_tlb_thread_sibling_step())
		done |= !cpumask_test_cpu(cpu, wanted);

	for (set = 0; !done && set < kvm->arch.tlb_sets; set++) {
		/* IS=2: by LPID, a congruence class at a time */
		unsigned long rb = PPC_BIT(52) | (unsigned long)set << PPC_BITLSHIFT(51);

		if (!radix)
			asm volatile(PPC_TLBIEL(%0, %1, 0, 0, 0)
				     : : "r" (rb), "r" (0) : "memory");
		/* Process-scoped too; the first also takes page walk caches: RIC=2 */
		else if (set == 0)
			asm volatile(PPC_TLBIEL(%0, %1, 2, 1, 1)
				     : : "r" (rb), "r" (0) : "memory");
		else
			asm volatile(PPC_TLBIEL(%0, %1, 0, 1, 1)
				     : : "r" (rb), "r" (0) : "memory");
	}
	/* Also where another thread flushed: its flush is complete behind this */
	asm volatile("ptesync" : : : "memory");
	/* tlbiel by class leaves the ERAT */
	if (!done && radix)
		asm volatile(PPC_RADIX_INVALIDATE_ERAT_GUEST : : : "memory");
	else if (!done)
		asm volatile(PPC_ISA_3_0_INVALIDATE_ERAT : : : "memory");

	cpumask_clear_cpu(pcpu, wanted);
}

/*
 * Leaves nothing of a hash guest's SLB, nor of what is cached of it. IH=6 spares
 * entry 0 and what is the host's own.
 */
void kvm_p9_clear_slb(void)
{
	asm volatile("slbmte %0, %1" : : "r" (0), "r" (0) : "memory");
	asm volatile(PPC_SLBIA(6) : : : "memory");
}

static int kvm_p9_counters_show(struct seq_file *m, void *unused)
{
	struct kvm_p9_counters sum = {};
	u64 fast[KVM_P9_HCALLS];
	int cpu;

	for_each_possible_cpu(cpu) {
		const struct kvm_p9_counters *c = per_cpu_ptr(&kvm_p9_counters, cpu);

		sum.entry_rust += READ_ONCE(c->entry_rust);
		sum.c_cpu += READ_ONCE(c->c_cpu);
		sum.c_host_mmu += READ_ONCE(c->c_host_mmu);
		sum.c_nested += READ_ONCE(c->c_nested);
		sum.c_hash += READ_ONCE(c->c_hash);
		sum.c_secure += READ_ONCE(c->c_secure);
	}

	kvm_p9_sum_fast(fast);

	seq_printf(m, "entry_rust %llu\n", sum.entry_rust);
	seq_printf(m, "c_cpu %llu\n", sum.c_cpu);
	seq_printf(m, "c_host_mmu %llu\n", sum.c_host_mmu);
	seq_printf(m, "c_nested %llu\n", sum.c_nested);
	seq_printf(m, "c_hash %llu\n", sum.c_hash);
	seq_printf(m, "c_secure %llu\n", sum.c_secure);
	seq_printf(m, "fast_null %llu\n", fast[KVM_P9_NULL]);
	seq_printf(m, "fast_h_get_tce %llu\n", fast[KVM_P9_GET_TCE]);
	seq_printf(m, "fast_h_put_tce %llu\n", fast[KVM_P9_PUT_TCE]);
	seq_printf(m, "fast_h_put_tce_indirect %llu\n", fast[KVM_P9_PUT_TCE_INDIRECT]);
	seq_printf(m, "fast_h_stuff_tce %llu\n", fast[KVM_P9_STUFF_TCE]);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(kvm_p9_counters);

static int __init kvm_p9_init(void)
{
	struct dentry *dir;

	/*
	 * The vector facilities and TIDR are switched without asking again, and
	 * transactional memory where the hypervisor has to assist with it: on a
	 * POWER9 there is no other kind. That is patched into Rust's code at boot,
	 * which has to have worked.
	 */
	if (cpu_has_feature(CPU_FTR_HVMODE) && cpu_has_feature(CPU_FTR_ARCH_300) &&
	    !cpu_has_feature(CPU_FTR_ARCH_31) && cpu_has_feature(CPU_FTR_P9_TIDR) &&
	    cpu_has_feature(CPU_FTR_ALTIVEC) && cpu_has_feature(CPU_FTR_VSX) &&
	    (cpu_has_feature(CPU_FTR_P9_TM_HV_ASSIST) || !cpu_has_feature(CPU_FTR_TM)) &&
	    !WARN_ON(kvm_p9_assists_tm() != cpu_has_feature(CPU_FTR_P9_TM_HV_ASSIST)) &&
	    !cpu_has_feature(CPU_FTR_P9_RADIX_PREFETCH_BUG))
		kvm_p9_host_facts |= KVM_P9_ABI_HOST_CPU_SUPPORTED;
	if (radix_enabled())
		kvm_p9_host_facts |= KVM_P9_ABI_HOST_RADIX;

	/* With full dynticks RCU doesn't wait for a CPU that is in a guest */
	if (!context_tracking_enabled())
		kvm_p9_host_facts |= KVM_P9_ABI_HOST_RCU_SEES_GUESTS;
	kvm_p9_tce_init();

	kvm_p9_warn_unsupported();
	dir = debugfs_create_dir("kvm_p9", NULL);
	debugfs_create_file("counters", 0444, dir, NULL, &kvm_p9_counters_fops);
	kvm_p9_stats_init(dir);
	return 0;
}
device_initcall(kvm_p9_init);
