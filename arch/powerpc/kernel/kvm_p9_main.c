// SPDX-License-Identifier: GPL-2.0-only
/*
 * Initialisation of kvm-p9: the facts about the host that decide whether the Rust
 * path may be used, the entries that the seam leads to, and the lists of VMs and vcpus.
 */
#include <linux/context_tracking.h>
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/slab.h>
#include <asm/cputable.h>
#include <asm/hvcall.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/mmu.h>

#include "book3s_hv.h"
#include "kvm_p9.h"
#include "kvm_p9_light.h"

/* Structures and enumerations of kernel headers are what Rust takes them for */
KVM_P9_ABI_ASSERT();

EXPORT_SYMBOL_GPL(kvm_p9_vcpu_entry);

DEFINE_PER_CPU(struct kvm_p9_counters, kvm_p9_counters);

/* Read by Rust at every entry */
u64 kvm_p9_host_facts __ro_after_init;

/* The root of the page table of the kernel, for handlers that run in real mode */
u64 kvm_p9_kernel_pgd __ro_after_init;

DEFINE_MUTEX(kvm_p9_lock);
LIST_HEAD(kvm_p9_vms);

/* Hcalls of VMs that were destroyed */
u64 kvm_p9_destroyed[KVM_P9_COLUMNS][KVM_P9_HCALLS];

/* The target of the seam while kvm_p9.path=rust. Preemption is disabled. */
int kvm_p9_vcpu_entry_rust(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr, u64 *tb)
{
	return kvm_p9_rs_vcpu_entry(vcpu, time_limit, lpcr, tb,
				 this_cpu_ptr(&kvm_p9_counters));
}

/* The target of the seam while times are taken */
int kvm_p9_vcpu_entry_rust_timed(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr,
				 u64 *tb)
{
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);
	int trap;

	if (stats)
		stats->full_entry = 1;
	trap = kvm_p9_vcpu_entry_rust(vcpu, time_limit, lpcr, tb);
	kvm_p9_scrub_guest_pmc(vcpu);
	kvm_p9_queue_events(vcpu);
	return trap;
}

static void kvm_p9_add_vcpu(u64 (*sum)[KVM_P9_HCALLS], struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_vcpu *p9 = &vcpu->arch.p9;
	const struct kvm_p9_served *served = &vcpu->arch.p9_served;
	int i;

	for (i = 0; i < KVM_P9_HCALLS; i++) {
		sum[KVM_P9_FAST][i] += READ_ONCE(p9->fast[i]);
		sum[KVM_P9_FULL][i] += READ_ONCE(served->full[i]);
		sum[KVM_P9_USERSPACE][i] += READ_ONCE(served->userspace[i]);
	}
}

void kvm_p9_add(u64 (*sum)[KVM_P9_HCALLS], const u64 (*other)[KVM_P9_HCALLS])
{
	int column, i;

	for (column = 0; column < KVM_P9_COLUMNS; column++)
		for (i = 0; i < KVM_P9_HCALLS; i++)
			sum[column][i] += other[column][i];
}

void kvm_p9_add_vm(u64 (*sum)[KVM_P9_HCALLS], struct kvm_p9_vm *vm)
{
	struct kvm_p9_served *served;

	lockdep_assert_held(&kvm_p9_lock);
	kvm_p9_add(sum, vm->destroyed);
	list_for_each_entry(served, &vm->vcpus, node)
		kvm_p9_add_vcpu(sum, kvm_p9_vcpu_of(served));
}

void kvm_p9_init_vm(struct kvm *kvm)
{
	struct kvm_p9_vm *vm = &kvm->arch.p9;

	INIT_LIST_HEAD(&vm->vcpus);
	snprintf(vm->name, sizeof(vm->name), "%d", kvm->userspace_pid);
	mutex_lock(&kvm_p9_lock);
	list_add_tail(&vm->node, &kvm_p9_vms);
	mutex_unlock(&kvm_p9_lock);
}
EXPORT_SYMBOL_GPL(kvm_p9_init_vm);

/* All vcpus of the VM are destroyed by now. */
void kvm_p9_destroy_vm(struct kvm *kvm)
{
	struct kvm_p9_vm *vm = &kvm->arch.p9;

	mutex_lock(&kvm_p9_lock);
	kvm_p9_add_vm(kvm_p9_destroyed, vm);
	list_del(&vm->node);
	mutex_unlock(&kvm_p9_lock);
}
EXPORT_SYMBOL_GPL(kvm_p9_destroy_vm);

/* Copy the name of the VM's directory, which may be removed before the VM is. */
void kvm_p9_create_vm_debugfs(struct kvm *kvm)
{
	struct kvm_p9_vm *vm = &kvm->arch.p9;

	mutex_lock(&kvm_p9_lock);
	snprintf(vm->name, sizeof(vm->name), "%pd", kvm->debugfs_dentry);
	mutex_unlock(&kvm_p9_lock);
}
EXPORT_SYMBOL_GPL(kvm_p9_create_vm_debugfs);

void kvm_p9_create_vcpu(struct kvm_vcpu *vcpu)
{
	mutex_lock(&kvm_p9_lock);
	list_add_tail(&vcpu->arch.p9_served.node, &vcpu->kvm->arch.p9.vcpus);
	/* Without memory the vcpu records no times, and works otherwise */
	if (kvm_p9_timing & (KVM_P9_ABI_TIMING_STATS | KVM_P9_ABI_TIMING_TRACE))
		kvm_p9_record(vcpu);
	mutex_unlock(&kvm_p9_lock);
}
EXPORT_SYMBOL_GPL(kvm_p9_create_vcpu);

void kvm_p9_free_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_served *served = &vcpu->arch.p9_served;

	/* Creation may have failed before the vcpu was added to the list */
	if (!served->node.next)
		return;

	mutex_lock(&kvm_p9_lock);
	kvm_p9_add_vcpu(vcpu->kvm->arch.p9.destroyed, vcpu);
	list_del(&served->node);
	mutex_unlock(&kvm_p9_lock);

	kvm_p9_free_recorder(vcpu);
}
EXPORT_SYMBOL_GPL(kvm_p9_free_vcpu);

static const u16 kvm_p9_hcall_numbers[KVM_P9_HCALLS] = { KVM_P9_ABI_FAST_NUMBERS };

static int kvm_p9_hcall(unsigned long number)
{
	int i;

	for (i = 0; i < KVM_P9_HCALLS; i++)
		if (kvm_p9_hcall_numbers[i] == number)
			break;
	return i;
}

void __kvm_p9_to_userspace(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_p9_served *served = &vcpu->arch.p9_served;
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);
	unsigned long number;
	int hcall;

	if (stats) {
		WRITE_ONCE(stats->in_userspace, 1);
		kvm_p9_sched_out(vcpu);
	}
	if (r != RESUME_HOST || vcpu->run->exit_reason != KVM_EXIT_PAPR_HCALL)
		return;
	/* The search takes some instructions: for hcalls only */
	number = kvmppc_get_gpr(vcpu, 3);
	hcall = kvm_p9_hcall(number);
	if (hcall == KVM_P9_HCALLS)
		return;

	WRITE_ONCE(served->userspace[hcall], served->userspace[hcall] + 1);
	/* The kernel tried an enabled hcall first, and counted it; NULL never fails */
	if (hcall != KVM_P9_NULL && test_bit(number / 4, vcpu->kvm->arch.enabled_hcalls) &&
	    served->full[hcall])
		WRITE_ONCE(served->full[hcall], served->full[hcall] - 1);
}
EXPORT_SYMBOL_GPL(__kvm_p9_to_userspace);

/*
 * Find an instruction that is emulated after a full exit. An L2's tables are other ones, and a
 * hash guest has no such tables. If the instruction is not to be had here, the caller loads it.
 */
void __kvm_p9_fetch_instruction(struct kvm_vcpu *vcpu)
{
	int idx;

	if (vcpu->arch.last_inst != KVM_INST_FETCH_FAILED || !kvm_is_radix(vcpu->kvm) ||
	    vcpu->arch.nested)
		return;
	/* For the memory slots */
	idx = srcu_read_lock(&vcpu->kvm->srcu);
	kvm_p9_find_instruction(vcpu);
	srcu_read_unlock(&vcpu->kvm->srcu, idx);
}
EXPORT_SYMBOL_GPL(__kvm_p9_fetch_instruction);

static int __init kvm_p9_init(void)
{
	/*
	 * Rust switches vector facilities and TIDR unconditionally, and transactional
	 * memory where the hypervisor has to assist. Check that the host has all of
	 * these. The assist is patched into the code of Rust at boot; check that, too.
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

	/* With full dynticks RCU does not wait for a CPU in a guest */
	if (!context_tracking_enabled())
		kvm_p9_host_facts |= KVM_P9_ABI_HOST_RCU_SEES_GUESTS;
	if (cpu_has_feature(CPU_FTR_P9_TLBIE_STQ_BUG))
		kvm_p9_host_facts |= KVM_P9_ABI_HOST_TLBIE_STQ_BUG;
	if (cpu_has_feature(CPU_FTR_P9_TLBIE_ERAT_BUG))
		kvm_p9_host_facts |= KVM_P9_ABI_HOST_TLBIE_ERAT_BUG;
	kvm_p9_kernel_pgd = (u64)init_mm.pgd;
	kvm_p9_tce_init();

	kvm_p9_warn_unsupported();
	kvm_p9_trace_init();
	kvm_p9_debugfs_init();
	return 0;
}
device_initcall(kvm_p9_init);
