// SPDX-License-Identifier: GPL-2.0-only
/*
 * The C side of a light exit: what has to be true of the kernel's own state while C code runs
 * with most of a guest's registers loaded. See docs/light-exit.md.
 *
 * Rust calls these functions before the context of the host is back: no probe, trace or sanitizer
 * may run in them, so all are noinstr.
 */
#include <linux/context_tracking.h>
#include <linux/interrupt.h>
#include <linux/kvm_host.h>
#include <linux/rcupdate.h>
#include <linux/sched/signal.h>
#include <linux/thread_info.h>
#include <linux/uaccess.h>
#include <asm/dbell.h>
#include <asm/ftrace.h>
#include <asm/hw_irq.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/switch_to.h>
#include <asm/time.h>

#include "book3s_hv.h"
#include "kvm_p9_abi.h"
#include "kvm_p9_light.h"

/* In kvm_p9_vectors.S */
void kvm_p9_load_vectors(struct thread_fp_state *fp, struct thread_vr_state *vr);
void kvm_p9_store_vectors(struct thread_fp_state *fp, struct thread_vr_state *vr);

static const struct kvm_p9_light_ops *kvm_p9_light_ops __read_mostly;

/* KVM-HV may be a module. NULL before it is removed: then there is no vcpu. */
void kvm_p9_set_light_ops(const struct kvm_p9_light_ops *ops)
{
	WRITE_ONCE(kvm_p9_light_ops, ops);
}
EXPORT_SYMBOL_GPL(kvm_p9_set_light_ops);

#define VECTORS	(MSR_FP | MSR_VEC | MSR_VSX)

/*
 * RCU, lockdep and the tracing of interrupts take the CPU for one that runs a guest. Tell
 * them otherwise, if there is one that listens: without, the pair only notes a quiescent state
 * for RCU, which the next full exit does.
 */
static __always_inline bool kvm_p9_light_tells_state(void)
{
	return IS_ENABLED(CONFIG_TRACE_IRQFLAGS) || context_tracking_enabled();
}

/*
 * From here to kvm_p9_light_end() the guest's FP, VMX and VSX registers are the current
 * task's, with the vcpu as the place to save them. Kernel code that uses the registers
 * saves them there first (enable_kernel_fp() and others), as for any task.
 */
static __always_inline void kvm_p9_light_begin(struct kvm_vcpu *vcpu)
{
	struct thread_struct *thread = &current->thread;

	if (kvm_p9_light_tells_state())
		guest_state_exit_irqoff();
	thread->fp_save_area = &vcpu->arch.fp;
	thread->vr_save_area = &vcpu->arch.vr;
	thread->regs->msr |= VECTORS;
}

/* Kernel code has saved some of the guest's registers. Save the others, and load all. */
static noinstr void kvm_p9_light_reload(struct kvm_vcpu *vcpu)
{
	enable_kernel_vsx();
	kvm_p9_load_vectors(&vcpu->arch.fp, &vcpu->arch.vr);
	/*
	 * As after any exit: by MSR[FP] kvm_p9_interrupted takes what a system reset interrupts for the
	 * entry. The guest gets its own MSR.
	 */
	__msr_check_and_clear(VECTORS);
	kvm_p9_light_count(vcpu, KVM_P9_LIGHT_RELOADS);
}

static __always_inline void kvm_p9_light_end(struct kvm_vcpu *vcpu)
{
	struct thread_struct *thread = &current->thread;

	if (unlikely((thread->regs->msr & VECTORS) != VECTORS))
		kvm_p9_light_reload(vcpu);
	/* As KVM_RUN has it: the user's are saved, and none are live */
	thread->regs->msr &= ~VECTORS;
	thread->fp_save_area = NULL;
	thread->vr_save_area = NULL;
	if (kvm_p9_light_tells_state())
		guest_state_enter_irqoff();
}

/*
 * Save the guest's FP, VMX and VSX registers: all at once, for which this is faster than the kernel's way.
 * MSR[EE] must be off: a soft-masked interrupt would clear MSR[EE], and the second mtmsr would set it again.
 */
static __always_inline void kvm_p9_save_vectors(struct kvm_vcpu *vcpu)
{
	unsigned long msr = mfmsr();

	WARN_ON_ONCE(IS_ENABLED(CONFIG_PPC_IRQ_SOFT_MASK_DEBUG) && msr & MSR_EE);
	mtmsr_isync(msr | VECTORS);
	kvm_p9_store_vectors(&vcpu->arch.fp, &vcpu->arch.vr);
	mtmsr_isync(msr);
	current->thread.regs->msr &= ~VECTORS;
}

/* Take away the guest's FP, VMX and VSX registers. Those that kernel code has not saved are saved now. */
static __always_inline void kvm_p9_give_up_vectors(struct kvm_vcpu *vcpu)
{
	struct thread_struct *thread = &current->thread;

	if (likely((thread->regs->msr & VECTORS) == VECTORS)) {
		kvm_p9_save_vectors(vcpu);
	} else if (thread->regs->msr & VECTORS) {
		enable_kernel_vsx();
		disable_kernel_vsx();
	}
	thread->fp_save_area = NULL;
	thread->vr_save_area = NULL;
}

/*
 * The scheduler is about to run another task, in the middle of a light exit. Take away what of the
 * guest's is loaded, and put the host's in place. This must not sleep, wake or print.
 */
noinstr void __kvm_p9_flush(struct kvm_vcpu *vcpu)
{
	/* The scheduler has interrupts soft-disabled only */
	hard_irq_disable();
	kvm_p9_give_up_vectors(vcpu);
	kvm_p9_rs_flush(vcpu);
}
EXPORT_SYMBOL_GPL(__kvm_p9_flush);

/* The end of a light exit after which the guest does not go on. Rust takes the rest away. */
static __always_inline void kvm_p9_light_leave(struct kvm_vcpu *vcpu)
{
	kvm_p9_give_up_vectors(vcpu);
	if (kvm_p9_light_tells_state())
		guest_state_enter_irqoff();
}

/* Work for the run loop that does not depend on the time, or on the vcpu's doorbell */
static __always_inline bool kvm_p9_has_work(struct kvm_vcpu *vcpu)
{
	unsigned long flags = READ_ONCE(current_thread_info()->flags);

	return unlikely(flags & (_TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL | _TIF_NEED_RESCHED) ||
			local_softirq_pending() || local_paca->irq_work_pending ||
			local_paca->irq_happened != PACA_IRQ_HARD_DIS ||
			READ_ONCE(vcpu->arch.pending_exceptions) ||
			!READ_ONCE(vcpu->kvm->arch.mmu_ready) ||
			vcpu->arch.vpa.update_pending | vcpu->arch.slb_shadow.update_pending |
			vcpu->arch.dtl.update_pending);
}

/*
 * The handler may have left work for this task or this CPU for which no interrupt comes. Work
 * from elsewhere comes with an interrupt of its own.
 */
static __always_inline bool kvm_p9_light_left_work(struct kvm_vcpu *vcpu)
{
	return unlikely(kvm_p9_has_work(vcpu) ||
			timer_get_next_tb() < vcpu->arch.p9.light.limit ||
			vcpu->arch.doorbell_request);
}

/*
 * After an hcall, which the trampoline returns from: if there is work, send an interrupt. It ends
 * the guest's run at once, and the run loop looks at all of the work.
 */
static __always_inline void kvm_p9_light_look_for_work(struct kvm_vcpu *vcpu)
{
	if (likely(!kvm_p9_light_left_work(vcpu)))
		return;

	ppc_msgsnd_sync();
	ppc_msgsnd(PPC_DBELL_MSGTYPE, 0, local_paca->hw_cpu_id);
	kvm_p9_light_count(vcpu, KVM_P9_LIGHT_KICKS);
}

/*
 * Whether the guest may be entered as the last full entry has it: the way to enter it is still
 * the one that the parameters ask for, and LPCR is still what the run loop would take. The
 * run loop sets LPCR[MER] while the guest does not take an external interrupt.
 */
static __always_inline bool kvm_p9_entry_is_valid(struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_light *light = &vcpu->arch.p9.light;

	return static_branch_likely(&kvm_p9_path_is_rust) &&
	       READ_ONCE(kvm_p9_fast_table) == light->table &&
	       READ_ONCE(vcpu->arch.vcore->lpcr) == light->lpcr;
}

/*
 * Whether a light exit of a radix guest may answer what the guest left for, and the guest go on after
 * it. Called with the guest's context loaded.
 */
static __always_inline bool kvm_p9_may_go_on(struct kvm_vcpu *vcpu)
{
	return likely(!kvm_p9_has_work(vcpu) && kvm_p9_entry_is_valid(vcpu) &&
		      !READ_ONCE(kvm_p9_light_ops)->traced());
}

/*
 * Whether an interrupt of the host can be served, and the guest go on after it. Called with the
 * guest's context loaded, and for a hash guest with the MMU off: KVM-HV may be a module, and cannot
 * be called then. If there is work, the interrupt most likely came to say so, unless it is the timer's.
 * kvm_p9_light_served() has the same tests for what comes meanwhile.
 */
noinstr bool kvm_p9_light_may_serve(struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	bool timer = (vcpu->arch.trap & ~2) == BOOK3S_INTERRUPT_HV_DECREMENTER;

	if (likely((timer || (!kvm_p9_has_work(vcpu) && kvm_p9_entry_is_valid(vcpu))) &&
		   !(kvm_is_radix(vcpu->kvm) && ops->traced())))
		return true;

	kvm_p9_light_refuse(vcpu, KVM_P9_FULL_INTERRUPT);
	return false;
}

/* Whether the kernel can answer an hcall of a radix guest for which it may sleep */
noinstr bool kvm_p9_light_may_call(struct kvm_vcpu *vcpu)
{
	if (kvm_p9_may_go_on(vcpu))
		return true;
	kvm_p9_light_refuse(vcpu, KVM_P9_FULL_HCALL);
	return false;
}

/*
 * Times are taken with a counter of the PMU, which KVM may just have saved as the guest's: see
 * kvm_p9_scrub_guest_pmc(). The guest gets it back without a full exit.
 */
static __always_inline void kvm_p9_light_scrub(struct kvm_vcpu *vcpu)
{
	if (static_branch_unlikely(&kvm_p9_counts_cycles))
		kvm_p9_scrub_guest_pmc(vcpu);
}

/* While times are taken: the time until the guest goes on was a page fault's */
static __always_inline void kvm_p9_light_mapped(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);

	if (unlikely(stats))
		stats->mapped = 1;
}

/*
 * The end of a light exit that has enabled interrupts. Now that they are disabled: what came before is
 * seen here, and what comes later ends the guest's run.
 */
static __always_inline u64 kvm_p9_light_served(struct kvm_vcpu *vcpu)
{
	u64 limit = timer_get_next_tb();

	if (unlikely(kvm_p9_has_work(vcpu) || !kvm_p9_entry_is_valid(vcpu) || mftb() >= limit)) {
		kvm_p9_light_refuse(vcpu, KVM_P9_LIGHT_WORK);
		kvm_p9_light_leave(vcpu);
		return KVM_P9_ABI_SERVE_LEFT;
	}
	/* What the entry of a guest notes for RCU, if kvm_p9_light_end() does not */
	if (!kvm_p9_light_tells_state())
		rcu_virt_note_context_switch();
	kvm_p9_light_end(vcpu);
	vcpu->arch.p9.light.limit = limit;
	return limit;
}

/*
 * Serve the host's pending interrupts, and the softirqs that they raise, as the run loop does
 * after a full exit. Rust has put in place what interrupts depend on: see
 * docs/light-exit.md. Preemption is disabled, so no other task runs. Return the host timebase
 * of the next timer, or one of KVM_P9_ABI_SERVE_ if the exit has to become a full one.
 */
noinstr u64 kvm_p9_light_serve(struct kvm_vcpu *vcpu, int trap)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	unsigned long flags = IRQS_ENABLED;

	kvm_p9_light_begin(vcpu);
	/* Of a hash guest: kvm_p9_light_may_serve() could not ask whether a tracepoint is on */
	if (unlikely(!kvm_is_radix(vcpu->kvm) && ops->traced())) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_TRACED);
		kvm_p9_light_leave(vcpu);
		return KVM_P9_ABI_SERVE_REFUSED;
	}
	this_cpu_enable_ftrace();
	kvm_p9_light_scrub(vcpu);

	/* The guest's exit took the message. The other interrupts are still pending. */
	if (trap == BOOK3S_INTERRUPT_H_DOORBELL)
		local_paca->irq_happened |= PACA_IRQ_DBELL;
	if (trap == BOOK3S_INTERRUPT_HV_DECREMENTER) {
		vcpu->stat.dec_exits++;
		kvm_p9_light_count(vcpu, KVM_P9_LIGHT_TIMER);
	} else {
		vcpu->stat.ext_intr_exits++;
		kvm_p9_light_count(vcpu, KVM_P9_LIGHT_INTERRUPT);
	}
	vcpu->stat.sum_exits++;

	powerpc_local_irq_pmu_restore(flags);
	powerpc_local_irq_pmu_save(flags);
	hard_irq_disable();

	this_cpu_disable_ftrace();
	return kvm_p9_light_served(vcpu);
}

/*
 * From here to kvm_p9_light_slept() the thread may sleep, and be scheduled out: then the guest's context is
 * taken away by kvm_p9_flush(), and the thread may be on another CPU after it.
 */
static __always_inline void kvm_p9_light_may_sleep(struct kvm_vcpu *vcpu)
{
	unsigned long flags = IRQS_ENABLED;

	kvm_p9_light_begin(vcpu);
	this_cpu_enable_ftrace();
	kvm_p9_light_scrub(vcpu);
	guest_timing_exit_irqoff();
	powerpc_local_irq_pmu_restore(flags);
	preempt_enable();
}

/*
 * It is done, which counts as that, or it can't be, and the exit becomes a full one for that reason. Return
 * as kvm_p9_light_serve() does.
 */
static __always_inline u64 kvm_p9_light_slept(struct kvm_vcpu *vcpu, bool done,
					      enum kvm_p9_light_counter what,
					      enum kvm_p9_light_counter why)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	struct kvm_p9_light *light = &vcpu->arch.p9.light;
	unsigned long flags;

	preempt_disable();
	powerpc_local_irq_pmu_save(flags);
	hard_irq_disable();
	/* As it was, unless kvm_p9_flush() came */
	vcpu->arch.state = KVMPPC_VCPU_RUNNABLE;
	guest_timing_enter_irqoff();
	this_cpu_disable_ftrace();

	light->counters = this_cpu_ptr(&kvm_p9_counters);
	/* In place of what was noted when it could have been a store to a device, or a handler's hcall */
	kvm_p9_light_refuse(vcpu, done ? KVM_P9_LIGHT_NONE : why);
	if (done) {
		vcpu->stat.sum_exits++;
		kvm_p9_light_count(vcpu, what);
	}
	if (unlikely(!light->loaded)) {
		kvm_p9_light_count(vcpu, KVM_P9_LIGHT_FLUSHED);
		if (done)
			kvm_p9_light_refuse(vcpu, KVM_P9_LIGHT_WORK);
		/* The run loop notes the end of a dispatch, as after any other exit */
		ops->dispatch(vcpu);
		if (kvm_p9_light_tells_state())
			guest_state_enter_irqoff();
		return done ? KVM_P9_ABI_SERVE_LEFT : KVM_P9_ABI_SERVE_REFUSED;
	}
	if (unlikely(!done)) {
		kvm_p9_light_leave(vcpu);
		return KVM_P9_ABI_SERVE_REFUSED;
	}
	return kvm_p9_light_served(vcpu);
}

/* Have the host map a page of the guest's memory. Return as kvm_p9_light_serve() does. */
noinstr u64 kvm_p9_light_fault(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot, bool writing)
{
	bool done;

	kvm_p9_light_may_sleep(vcpu);
	done = READ_ONCE(kvm_p9_light_ops)->fault(vcpu, slot, writing);
	if (done)
		kvm_p9_light_mapped(vcpu);
	return kvm_p9_light_slept(vcpu, done, KVM_P9_LIGHT_FAULT, KVM_P9_FULL_FAULT);
}

/* Have the kernel answer an hcall. Return as kvm_p9_light_serve() does. */
noinstr u64 kvm_p9_light_call(struct kvm_vcpu *vcpu)
{
	bool done;

	kvm_p9_light_may_sleep(vcpu);
	done = READ_ONCE(kvm_p9_light_ops)->call(vcpu);
	return kvm_p9_light_slept(vcpu, done, KVM_P9_LIGHT_CALL, KVM_P9_FULL_HCALL);
}

/* Rust has put the host's MMU context in place. Interrupts are disabled in MSR. */
noinstr long kvm_p9_light_hcall(struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	long ret;

	kvm_p9_light_begin(vcpu);
	ret = ops->hcall(vcpu);
	kvm_p9_light_end(vcpu);
	if (ret != H_TOO_HARD) {
		vcpu->stat.sum_exits++;
		kvm_p9_light_look_for_work(vcpu);
	}
	return ret;
}

/* The address that the guest stored to */
static __always_inline gpa_t kvm_p9_fault_address(const struct kvm_vcpu *vcpu)
{
	/* ASDR has the page, and bits that are no address at its top */
	return (vcpu->arch.fault_gpa & ~0xf000000000000fffUL) | (vcpu->arch.fault_dar & 0xfff);
}

/* The memory at that address. The run loop holds kvm->srcu. */
static __always_inline struct kvm_memory_slot *kvm_p9_find_slot(struct kvm *kvm, gpa_t gpa)
{
	struct kvm_memory_slot *slot;

	slot = ____gfn_to_memslot(rcu_dereference_raw(kvm->memslots[0]), gpa >> PAGE_SHIFT, false);
	return !slot || slot->flags & KVM_MEMSLOT_INVALID ? NULL : slot;
}

/* Whether the host may map a page of the slot in a light exit */
static __always_inline bool kvm_p9_may_map(struct kvm_vcpu *vcpu,
					   const struct kvm_memory_slot *slot, bool writing)
{
	if (writing && slot->flags & KVM_MEM_READONLY)
		return false;
	if (kvm_p9_may_go_on(vcpu))
		return true;
	kvm_p9_light_refuse(vcpu, KVM_P9_FULL_FAULT);
	return false;
}

/*
 * What the guest stored to: the memory slot at that address, with a bit that says so, if the host may map
 * a page of it; or else the device of the kernel. Called with the guest's context loaded. The run loop
 * holds kvm->srcu, which keeps buses, devices and slots.
 */
noinstr unsigned long kvm_p9_light_find_target(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	struct kvm_memory_slot *slot = kvm_p9_find_slot(vcpu->kvm, gpa);
	const struct kvm_io_range *range;

	/* First: most are page faults */
	if (slot) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_STORE_FAULT);
		return kvm_p9_may_map(vcpu, slot, true) ? (unsigned long)slot | KVM_P9_ABI_TARGET_MEMORY : 0;
	}
	range = kvm_p9_find_device(vcpu->kvm, gpa);
	if (!range)
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_STORE);
	return (unsigned long)range;
}

/*
 * The memory slot at that address, if the host may map a page of it in a light exit. Called with the
 * guest's context loaded. The run loop holds kvm->srcu, which keeps the slot.
 */
noinstr struct kvm_memory_slot *kvm_p9_light_find_memory(struct kvm_vcpu *vcpu, gpa_t gpa, bool writing)
{
	struct kvm_memory_slot *slot = kvm_p9_find_slot(vcpu->kvm, gpa);

	return slot && kvm_p9_may_map(vcpu, slot, writing) ? slot : NULL;
}

/* For kvm_p9_fetch(): eight bytes of the guest's memory, which userspace has to have at hand */
noinstr bool kvm_p9_light_read(struct kvm_vcpu *vcpu, gpa_t gpa, u64 *value)
{
	struct kvm_memory_slot *slot = kvm_p9_find_slot(vcpu->kvm, gpa);
	unsigned long address;

	if (unlikely(!slot))
		return false;
	address = __gfn_to_hva_memslot(slot, gpa >> PAGE_SHIFT) | (gpa & ~PAGE_MASK);
	unsafe_get_user(*value, (u64 __user *)address, failed);
	return true;
failed:
	return false;
}

/* Have Rust look for the instruction, in the guest's memory, without sleeping for it */
noinstr bool kvm_p9_find_instruction(struct kvm_vcpu *vcpu)
{
	bool done;

	pagefault_disable();
	/* On a radix host that is all of userspace */
	done = user_read_access_begin((void __user *)0, sizeof(u64));
	if (likely(done)) {
		done = kvm_p9_fetch(vcpu);
		user_read_access_end();
	}
	pagefault_enable();
	return done;
}

static __always_inline bool kvm_p9_light_fetch(struct kvm_vcpu *vcpu)
{
	bool done = kvm_p9_find_instruction(vcpu);

	if (unlikely(!done))
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_FETCH);
	return done;
}

/*
 * The end of what a light exit answered in place of the run loop. Return one of KVM_P9_ABI_ANSWER_.
 * Work that is left is most often the task that was woken on this CPU.
 */
static __always_inline int kvm_p9_light_answered(struct kvm_vcpu *vcpu)
{
	vcpu->stat.sum_exits++;
	if (kvm_p9_light_left_work(vcpu)) {
		kvm_p9_light_refuse(vcpu, KVM_P9_LIGHT_WORK);
		return KVM_P9_ABI_ANSWER_DONE_LEAVE;
	}
	return KVM_P9_ABI_ANSWER_DONE;
}

/* The end of an instruction that a light exit emulated, or not */
static __always_inline int kvm_p9_light_emulated(struct kvm_vcpu *vcpu, bool done)
{
	if (!done)
		return KVM_P9_ABI_ANSWER_REFUSED;

	/* A POWER9 has no prefixed instructions */
	kvmppc_set_pc(vcpu, kvmppc_get_pc(vcpu) + 4);
	return kvm_p9_light_answered(vcpu);
}

/*
 * The range of an eventfd for stores of any length has length 0. The store to another device needs
 * the instruction.
 */
noinstr int kvm_p9_light_store(struct kvm_vcpu *vcpu, const struct kvm_io_range *range)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	gpa_t gpa = kvm_p9_fault_address(vcpu);
	bool done;

	kvm_p9_light_begin(vcpu);
	if (!range->len)
		done = ops->signal(vcpu, range, gpa);
	else
		done = kvm_p9_light_fetch(vcpu) && ops->store(vcpu, gpa);
	kvm_p9_light_end(vcpu);
	return kvm_p9_light_emulated(vcpu, done);
}

/* The guest wants to send a doorbell to a vcpu of its core, which needs the hypervisor */
noinstr int kvm_p9_light_ring(struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	bool done;

	kvm_p9_light_begin(vcpu);
	done = kvm_p9_light_fetch(vcpu) && ops->ring(vcpu);
	kvm_p9_light_end(vcpu);
	return kvm_p9_light_emulated(vcpu, done);
}

/*
 * Whether the kernel has a device where a hash guest stored, by an HPTE that KVM remembers as a
 * device's. Called with the guest's context loaded, and with the MMU off: all that this reads is in
 * the linear map. Whether the guest may store there is not known yet.
 */
noinstr bool kvm_p9_light_hash_finds_device(struct kvm_vcpu *vcpu, unsigned long ea)
{
	long updates = arch_atomic64_read(&vcpu->kvm->arch.mmio_update);
	const struct mmio_hpte_cache_entry *entry = vcpu->arch.mmio_cache.entry;
	int i;

	for (i = 0; i < MMIO_HPTE_CACHE_SIZE; i++, entry++) {
		if (entry->mmio_update != updates || (entry->eaddr ^ ea) >> entry->slb_base_pshift)
			continue;
		if (kvm_p9_find_device(vcpu->kvm, kvm_p9_hpte_address(entry, ea)))
			return true;
	}
	kvm_p9_light_refuse(vcpu, KVM_P9_FULL_STORE);
	return false;
}

/* A store of a hash guest, at an address that KVM remembers as a device's */
noinstr int kvm_p9_light_hash_store(struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	bool done;

	kvm_p9_light_begin(vcpu);
	pagefault_disable();
	done = ops->hash_store(vcpu);
	pagefault_enable();
	kvm_p9_light_end(vcpu);
	return kvm_p9_light_emulated(vcpu, done);
}

/*
 * An hcall of a hash guest. That of a radix guest comes by a handler, to kvm_p9_light_hcall(), which
 * userspace enabled.
 */
noinstr int kvm_p9_light_hash_hcall(struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_light_ops *ops = READ_ONCE(kvm_p9_light_ops);
	long ret = H_TOO_HARD;

	kvm_p9_light_begin(vcpu);
	if (test_bit(kvmppc_get_gpr(vcpu, 3) / 4, vcpu->kvm->arch.enabled_hcalls))
		ret = ops->hcall(vcpu);
	kvm_p9_light_end(vcpu);
	if (ret == H_TOO_HARD)
		return KVM_P9_ABI_ANSWER_REFUSED;

	kvmppc_set_gpr(vcpu, 3, ret);
	return kvm_p9_light_answered(vcpu);
}
