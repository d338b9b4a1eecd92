// SPDX-License-Identifier: GPL-2.0-only
/*
 * Parameters of kvm-p9, and the branches that they patch.
 */
#define pr_fmt(fmt) "kvm_p9: " fmt
/* Parameters belong to kvm_p9, not to this file: kvm_p9.path and so on */
#undef KBUILD_MODNAME
#define KBUILD_MODNAME "kvm_p9"

#include <linux/cpu.h>
#include <linux/kvm_host.h>
#include <linux/moduleparam.h>
#include <linux/mutex.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/ppc-opcode.h>

#if __has_include(<asm/text-patching.h>)
#include <asm/text-patching.h>
#else /* before Linux 6.13 */
#include <asm/code-patching.h>
#endif

#include "book3s_hv.h"
#include "kvm_p9.h"

/* In kvm_p9_entry.S */
extern s32 patch__kvm_p9_seam;
extern s32 patch__kvm_p9_stamp_hcall;
extern s32 patch__kvm_p9_run_guest;
void kvm_p9_stamp_hcall(void);
void kvm_p9_run_guest(struct kvm_vcpu *vcpu);
void kvm_p9_run_guest_timed(struct kvm_vcpu *vcpu);

DEFINE_STATIC_KEY_FALSE(kvm_p9_path_is_rust);
EXPORT_SYMBOL_GPL(kvm_p9_path_is_rust);

/* Read by Rust at every entry */
u8 kvm_p9_fast_table __read_mostly = KVM_P9_ABI_TABLE_FAST_LIGHT;

static bool kvm_p9_fast = true;
static bool kvm_p9_light = true;
static bool kvm_p9_path_rust;

/*
 * A guest may run for long without an exit, also if it does fast hcalls. Interrupt
 * all CPUs, so that every vcpu passes the seam, where the new setting takes effect.
 */
static void kvm_p9_setting_changed(void)
{
	if (system_state >= SYSTEM_RUNNING)
		kick_all_cpus_sync();
}

/* Warn when kvm_p9.path=rust has no effect on this host. */
void kvm_p9_warn_unsupported(void)
{
	if (!kvm_p9_path_rust)
		return;
	if (!(kvm_p9_host_facts & KVM_P9_ABI_HOST_CPU_SUPPORTED))
		pr_info_once("path=rust is for POWER9 DD2.2 and later: guests use the C path\n");
	else if (!(kvm_p9_host_facts & KVM_P9_ABI_HOST_RADIX))
		pr_info_once("path=rust is for hosts with the radix MMU: guests use the C path\n");
}

/* By whether times are taken, light exits are on, and fast handlers are */
static const u8 kvm_p9_tables[2][2][2] = {
	{ { KVM_P9_ABI_TABLE_NO_FAST, KVM_P9_ABI_TABLE_FAST },
	  { KVM_P9_ABI_TABLE_LIGHT, KVM_P9_ABI_TABLE_FAST_LIGHT } },
	{ { KVM_P9_ABI_TABLE_NO_FAST, KVM_P9_ABI_TABLE_TIMED_FAST },
	  { KVM_P9_ABI_TABLE_TIMED_LIGHT, KVM_P9_ABI_TABLE_TIMED_FAST_LIGHT } },
};

/* KVM_P9_ABI_TIMING_ bits, and above the lowest 8 a count of the settings */
u64 kvm_p9_timing;
#define KVM_P9_TIMING_BITS	0xffULL

/* Have guests entered by this path, with or without times */
static int kvm_p9_patch_seam(bool rust, bool timed)
{
	unsigned long target;

	if (!rust)
		target = ppc_function_entry(kvmhv_vcpu_entry_p9);
	else if (timed)
		target = ppc_function_entry(kvm_p9_vcpu_entry_rust_timed);
	else
		target = ppc_function_entry(kvm_p9_vcpu_entry_rust);
	return patch_branch_site(&patch__kvm_p9_seam, target, 0);
}

/*
 * The seam is one branch instruction. A branch may be replaced by another branch
 * while CPUs execute it (Power ISA 3.0B, Book II, 1.8.1). A vcpu takes one or the
 * other, and the C path pays for the choice with that branch only.
 *
 * To take times, three places are patched. The seam leads to a function that notes the full
 * entry, and queues events after the exit. The branch to kvm_p9_run_guest() leads to a function
 * that reads the time before entry and after exit. An instruction of the trampoline becomes a
 * branch that stores when an hcall arrived. Timed handlers are in tables of their own.
 *
 * Order: what stores something for a span is patched before what reads it, and the other
 * way round at the end. Cycle counters are stopped after the last entry that may start one.
 */
static int kvm_p9_apply(bool rust, bool fast, bool light, u64 wanted)
{
	unsigned long target;
	int ret;

	lockdep_assert_held(&kvm_p9_lock);

	if (wanted & KVM_P9_ABI_TIMING_STATS)
		static_branch_enable(&kvm_p9_counts_cycles);
	WRITE_ONCE(kvm_p9_timing, ((kvm_p9_timing | KVM_P9_TIMING_BITS) + 1) | wanted);
	if (wanted) {
		/* Before a timed handler reads what it stores */
		ret = patch_branch_site(&patch__kvm_p9_stamp_hcall,
					ppc_function_entry(kvm_p9_stamp_hcall), 0);
		if (!ret)
			ret = kvm_p9_patch_seam(rust, true);
		if (ret)
			return ret;
		kvm_p9_setting_changed();
	}

	target = wanted ? ppc_function_entry(kvm_p9_run_guest_timed)
			: ppc_function_entry(kvm_p9_run_guest);
	ret = patch_branch_site(&patch__kvm_p9_run_guest, target, 0);
	if (ret)
		return ret;

	WRITE_ONCE(kvm_p9_fast_table, kvm_p9_tables[wanted != 0][light][fast]);

	if (!wanted) {
		ret = kvm_p9_patch_seam(rust, false);
		if (ret)
			return ret;
	}

	kvm_p9_path_rust = rust;
	kvm_p9_fast = fast;
	kvm_p9_light = light;
	if (rust)
		static_branch_enable(&kvm_p9_path_is_rust);
	else
		static_branch_disable(&kvm_p9_path_is_rust);
	kvm_p9_setting_changed();

	/* All vcpus have left the guest since; none was entered with counting on */
	if (static_key_enabled(&kvm_p9_counts_cycles) &&
	    (!rust || !(wanted & KVM_P9_ABI_TIMING_STATS)))
		kvm_p9_stop_all_counters();
	if (!(wanted & KVM_P9_ABI_TIMING_STATS))
		static_branch_disable(&kvm_p9_counts_cycles);

	if (!wanted) {
		/* The site's own instruction is the first of the function */
		const u32 *first = (u32 *)ppc_function_entry(kvm_p9_stamp_hcall);

		ret = patch_instruction_site(&patch__kvm_p9_stamp_hcall, ppc_inst_read(first));
	}
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
		ret = kvm_p9_apply(kvm_p9_path_rust, kvm_p9_fast, kvm_p9_light, wanted);
	/* All vcpus have left the guest since; none was entered with timing on */
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
	ret = kvm_p9_apply(rust, kvm_p9_fast, kvm_p9_light,
			   kvm_p9_timing & KVM_P9_TIMING_BITS);
	mutex_unlock(&kvm_p9_lock);
	/* Before that, kvm_p9_init() warns when it knows the host */
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
MODULE_PARM_DESC(path, "Guest entry and exit path: c (default) or rust");

static int kvm_p9_set_fast(const char *val, const struct kernel_param *kp)
{
	bool fast;
	int ret = kstrtobool(val, &fast);

	if (ret)
		return ret;

	mutex_lock(&kvm_p9_lock);
	ret = kvm_p9_apply(kvm_p9_path_rust, fast, kvm_p9_light,
			   kvm_p9_timing & KVM_P9_TIMING_BITS);
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

static int kvm_p9_set_light(const char *val, const struct kernel_param *kp)
{
	bool light;
	int ret = kstrtobool(val, &light);

	if (ret)
		return ret;

	mutex_lock(&kvm_p9_lock);
	ret = kvm_p9_apply(kvm_p9_path_rust, kvm_p9_fast, light,
			   kvm_p9_timing & KVM_P9_TIMING_BITS);
	mutex_unlock(&kvm_p9_lock);
	return ret;
}

static int kvm_p9_get_light(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "%d\n", READ_ONCE(kvm_p9_light));
}

static const struct kernel_param_ops kvm_p9_light_param_ops = {
	.set = kvm_p9_set_light,
	.get = kvm_p9_get_light,
};
module_param_cb(light, &kvm_p9_light_param_ops, NULL, 0644);
MODULE_PARM_DESC(light, "Light exits on the Rust path: 1 (default) or 0");

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
MODULE_PARM_DESC(stats, "Record times of the Rust path for each vcpu: 1 or 0 (default)");
