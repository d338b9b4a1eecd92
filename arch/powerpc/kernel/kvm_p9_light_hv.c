// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a light exit answers: the list of all that it may call. Part of KVM-HV, which can be a
 * module.
 *
 * Each of these does what the full exit does, without sleeping: kvmppc_pseries_do_hcall() and
 * kvmppc_hv_emulate_mmio() have the other copy.
 */
#include <linux/kvm_host.h>
#include <linux/pagemap.h>
#include <linux/version.h>
#include <kvm/iodev.h>
#include <asm/archrandom.h>
#include <asm/dbell.h>
#include <asm/disassemble.h>
#include <asm/hvcall.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/lppaca.h>
#include <asm/pte-walk.h>
#include <asm/sstep.h>

#include "book3s_hv.h"
#include "kvm_p9_light.h"
#include "trace_hv.h"

/* A tracepoint of the run loop is on: each exit has to pass it. */
static __always_inline bool kvm_p9_is_traced(void)
{
	return trace_kvm_guest_enter_enabled() || trace_kvm_guest_exit_enabled() ||
	       trace_kvm_hcall_enter_enabled() || trace_kvm_hcall_exit_enabled() ||
	       trace_kvmppc_run_vcpu_enter_enabled() || trace_kvmppc_run_vcpu_exit_enabled();
}

/* Called with the guest's context loaded, too */
static noinstr bool kvm_p9_light_traced(void)
{
	return kvm_p9_is_traced();
}

static long kvm_p9_light_prod(struct kvm_vcpu *vcpu)
{
	unsigned long id = kvmppc_get_gpr(vcpu, 4);
	struct kvm_vcpu *target = kvm_get_vcpu_by_id(vcpu->kvm, id);

	if (!target)
		return H_PARAMETER;
	/* Rust prods it without asking the next time. It stays as long as the VM. */
	vcpu->arch.p9.light.prod_id = id;
	vcpu->arch.p9.light.prod_vcpu = target;
	target->arch.prodded = 1;
	smp_mb(); /* Orders the store to prodded vs the load of ceded, as in H_CEDE */
	if (target->arch.ceded)
		kvmppc_fast_vcpu_kick(target);
	return H_SUCCESS;
}

/* Only where there is nothing to yield to */
static long kvm_p9_light_confer(struct kvm_vcpu *vcpu)
{
	unsigned long id = kvmppc_get_gpr(vcpu, 4);
	struct kvm_vcpu *target;
	struct lppaca *lppaca;
	int yield_count = 0;

	/* To all of them */
	if (id == -1UL)
		return H_SUCCESS;
	target = kvm_get_vcpu_by_id(vcpu->kvm, id);
	if (!target)
		return H_PARAMETER;
	spin_lock(&target->arch.vpa_update_lock);
	lppaca = target->arch.vpa.pinned_addr;
	if (lppaca)
		yield_count = be32_to_cpu(lppaca->yield_count);
	spin_unlock(&target->arch.vpa_update_lock);
	if (yield_count != (int)kvmppc_get_gpr(vcpu, 5))
		return H_SUCCESS;
	return H_TOO_HARD;
}

static long kvm_p9_light_random(struct kvm_vcpu *vcpu)
{
	unsigned long value;

	/* The full exit has an answer for this, too */
	if (!arch_get_random_seed_longs(&value, 1))
		return H_TOO_HARD;
	kvmppc_set_gpr(vcpu, 4, value);
	return H_SUCCESS;
}

/*
 * The interrupt context is loaded, as these need it. They write to the interrupt controller, and
 * take a spinlock at most. KVM answers them by the same function in a full exit.
 */
static long kvm_p9_light_xics(struct kvm_vcpu *vcpu)
{
	if (!IS_ENABLED(CONFIG_KVM_XIVE) || !vcpu->arch.xive_pushed)
		return H_TOO_HARD;
	return kvmppc_xive_xics_hcall(vcpu, kvmppc_get_gpr(vcpu, 3));
}

static long kvm_p9_light_hv_hcall(struct kvm_vcpu *vcpu)
{
	enum kvm_p9_light_counter which;
	long ret;

	if (kvm_p9_is_traced()) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_TRACED);
		return H_TOO_HARD;
	}
	switch (kvmppc_get_gpr(vcpu, 3)) {
	case H_PROD:
		ret = kvm_p9_light_prod(vcpu);
		which = KVM_P9_LIGHT_PROD;
		break;
	case H_CONFER:
		ret = kvm_p9_light_confer(vcpu);
		which = KVM_P9_LIGHT_CONFER;
		break;
	case H_RANDOM:
		ret = kvm_p9_light_random(vcpu);
		which = KVM_P9_LIGHT_RANDOM;
		break;
	case H_LOGICAL_CI_LOAD:
		ret = kvmppc_h_logical_ci_load(vcpu);
		which = KVM_P9_LIGHT_CI_LOAD;
		break;
	case H_LOGICAL_CI_STORE:
		ret = kvmppc_h_logical_ci_store(vcpu);
		which = KVM_P9_LIGHT_CI_STORE;
		break;
	case H_CPPR:
	case H_EOI:
	case H_IPI:
	case H_IPOLL:
	case H_XIRR:
	case H_XIRR_X:
		ret = kvm_p9_light_xics(vcpu);
		which = KVM_P9_LIGHT_XICS;
		break;
	default:
		return H_TOO_HARD;
	}
	if (ret == H_TOO_HARD)
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_HCALL);
	else
		kvm_p9_light_count(vcpu, which);
	return ret;
}

static void kvm_p9_count_store(struct kvm_vcpu *vcpu, bool done)
{
	if (done)
		kvm_p9_light_count(vcpu, KVM_P9_LIGHT_STORE);
	else
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_STORE);
}

/*
 * On the bus for stores of any length are eventfds only: their write takes a spinlock and
 * wakes who waits.
 */
static bool kvm_p9_light_hv_signal(struct kvm_vcpu *vcpu, const struct kvm_io_range *range,
				   gpa_t gpa)
{
	bool done;

	if (kvm_p9_is_traced()) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_TRACED);
		return false;
	}
	/* The run loop holds kvm->srcu */
	done = !kvm_iodevice_write(vcpu, range->dev, gpa, 0, NULL);
	kvm_p9_count_store(vcpu, done);
	return done;
}

/*
 * Of the devices that begin at one address one takes it: each eventfd has its length and value. The
 * bus is another one by now if a device came or went; the run loop keeps it by kvm->srcu.
 */
static bool kvm_p9_write_to_bus(struct kvm_vcpu *vcpu, gpa_t gpa, int size, const void *data)
{
	const struct kvm_io_bus *bus = rcu_dereference_raw(vcpu->kvm->buses[KVM_MMIO_BUS]);
	const struct kvm_io_range *range = kvm_p9_find_range(bus, gpa), *last = range;

	for (; range && range >= bus->range && range->addr == last->addr; range--) {
		if (gpa + size <= range->addr + range->len &&
		    !kvm_iodevice_write(vcpu, range->dev, gpa, size, data))
			return true;
	}
	return false;
}

/* The vcpu's last instruction. The guest can have any byte order. */
static u32 kvm_p9_last_instruction(struct kvm_vcpu *vcpu)
{
	u32 insn = vcpu->arch.last_inst;

	return kvmppc_need_byteswap(vcpu) ? swab32(insn) : insn;
}

/*
 * What KVM's emulation does with a store of a general purpose register. Another vcpu can have
 * changed the instruction meanwhile, so nothing about it is certain. A store that crosses into
 * another page is two to the MMU.
 */
static bool kvm_p9_emulate_store(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	struct instruction_op op;
	bool swap = kvmppc_need_byteswap(vcpu);
	u64 data;
	int size;

	vcpu->arch.regs.msr = kvmppc_get_msr(vcpu);
	if (analyse_instr(&op, &vcpu->arch.regs, ppc_inst(kvm_p9_last_instruction(vcpu))))
		return false;
	size = GETSIZE(op.type);
	if (GETTYPE(op.type) != STORE || op.ea != vcpu->arch.fault_dar ||
	    (gpa & 0xfff) + size > 0x1000)
		return false;

	data = kvmppc_get_gpr(vcpu, op.reg);
	if (!(op.type & BYTEREV) == swap)
		data = swab64(data) >> (64 - 8 * size);
	if (!kvm_p9_write_to_bus(vcpu, gpa, size, &data))
		return false;
	if (op.type & UPDATE)
		kvmppc_set_gpr(vcpu, op.update_reg, op.ea);
	return true;
}

/* On this bus are eventfds, and rings for userspace, which take a spinlock at most, too */
static bool kvm_p9_light_hv_store(struct kvm_vcpu *vcpu, gpa_t gpa)
{
	bool done;

	if (kvm_p9_is_traced()) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_TRACED);
		return false;
	}
	done = kvm_p9_emulate_store(vcpu, gpa);
	kvm_p9_count_store(vcpu, done);
	return done;
}

/* From kvmppc_hpte_hv_fault(): the guest may access the page, and there is a device and no memory */
#define HPTE_OF_DEVICE		(-2)

/* Find the device that a hash guest stored to, by the HPTE that KVM remembers */
static bool kvm_p9_hash_device(struct kvm_vcpu *vcpu, gpa_t *gpa)
{
	const struct mmio_hpte_cache_entry *entry;
	unsigned long ea = vcpu->arch.fault_dar;

	if (kvmppc_hpte_hv_fault(vcpu, ea, vcpu->arch.fault_gpa, vcpu->arch.fault_dsisr,
				 true) != HPTE_OF_DEVICE)
		return false;
	entry = vcpu->arch.pgfault_cache;
	if (!entry || entry->mmio_update != atomic64_read(&vcpu->kvm->arch.mmio_update))
		return false;
	*gpa = kvm_p9_hpte_address(entry, ea);
	return true;
}

static bool kvm_p9_light_hv_hash_store(struct kvm_vcpu *vcpu)
{
	const struct kvm_io_range *range;
	ppc_inst_t insn;
	gpa_t gpa;

	if (kvm_p9_is_traced()) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_TRACED);
		return false;
	}
	if (!kvm_p9_hash_device(vcpu, &gpa))
		return false;
	range = kvm_p9_find_device(vcpu->kvm, gpa);
	if (!range) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_STORE);
		return false;
	}
	if (!range->len)
		return kvm_p9_light_hv_signal(vcpu, range, gpa);
	if (kvmppc_get_last_inst(vcpu, INST_GENERIC, &insn) != EMULATE_DONE) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_FETCH);
		return false;
	}
	return kvm_p9_light_hv_store(vcpu, gpa);
}

/* Power ISA 3.0B, Book III, chapter 11: a message's type, and its thread */
#define MESSAGE_TYPE(message)	(((message) >> 27) & 0x1f)
#define MESSAGE_THREAD		0x7f

/*
 * A doorbell of the guest (msgsndp) for a vcpu of the same virtual core. A message that names no
 * such vcpu, or is of another type, has no effect.
 */
static bool kvm_p9_light_hv_ring(struct kvm_vcpu *vcpu)
{
	u32 insn = kvm_p9_last_instruction(vcpu);
	u32 thread, threads = vcpu->kvm->arch.emul_smt_mode;
	struct kvm_vcpu *target = NULL;
	unsigned long message;

	if (kvm_p9_is_traced()) {
		kvm_p9_light_refuse(vcpu, KVM_P9_FULL_TRACED);
		return false;
	}
	if (get_op(insn) != 31 || get_xop(insn) != OP_31_XOP_MSGSNDP)
		return false;

	message = kvmppc_get_gpr(vcpu, get_rb(insn));
	thread = message & MESSAGE_THREAD;
	if (MESSAGE_TYPE(message) == PPC_DBELL_SERVER && thread < threads)
		target = kvm_get_vcpu_by_id(vcpu->kvm, (vcpu->vcpu_id & ~(threads - 1)) + thread);
	if (target && !target->arch.doorbell_request) {
		target->arch.doorbell_request = 1;
		/* What the vcpu sends to itself is found before the guest goes on */
		if (target != vcpu)
			kvmppc_fast_vcpu_kick(target);
	}
	kvm_p9_light_count(vcpu, KVM_P9_LIGHT_DOORBELL);
	return true;
}

/* Whether userspace could access its page as the guest wants to */
static bool kvm_p9_is_mapped(unsigned long hva, bool writing)
{
	unsigned long flags;
	unsigned int shift;
	pte_t *ptep, pte;

	/* Keeps page tables: who frees one waits for an interrupt, or for RCU */
	local_irq_save(flags);
	ptep = find_linux_pte(current->mm->pgd, hva, NULL, &shift);
	pte = ptep ? READ_ONCE(*ptep) : __pte(0);
	local_irq_restore(flags);
	return pte_present(pte) && (!writing || pte_write(pte));
}

/*
 * A page of memory for a radix guest, as kvmppc_book3s_radix_page_fault() has it mapped. If it was
 * invalidated meanwhile, the guest tries again.
 *
 * KVM tries twice to get a page that is there before it has userspace's fault handled, and looks for it
 * before and after. Where it is not there have the fault handled first, so that KVM's first try finds
 * it. Whether the guest may have the page is KVM's decision.
 */
static bool kvm_p9_light_hv_fault(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot, bool writing)
{
	gpa_t gpa = vcpu->arch.fault_gpa & ~0xf000000000000fffUL;
	unsigned long hva = gfn_to_hva_memslot(slot, gpa >> PAGE_SHIFT);
	int ret;

	if (writing && !kvm_p9_is_mapped(hva, writing))
		fault_in_safe_writeable((const char __user *)hva, 1);
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	ret = kvmppc_book3s_instantiate_page(vcpu, gpa, slot, writing, NULL, NULL);
#else
	ret = kvmppc_book3s_instantiate_page(vcpu, gpa, slot, writing,
					     slot->flags & KVM_MEM_READONLY, NULL, NULL);
#endif
	return !ret || ret == -EAGAIN;
}

/* By the run loop's own function. What it does not answer it has not begun. */
static bool kvm_p9_light_hv_call(struct kvm_vcpu *vcpu)
{
	return is_kvmppc_resume_guest(kvmppc_pseries_do_hcall(vcpu));
}

const struct kvm_p9_light_ops kvm_p9_light_hv_ops = {
	.traced = kvm_p9_light_traced,
	.hcall = kvm_p9_light_hv_hcall,
	.signal = kvm_p9_light_hv_signal,
	.store = kvm_p9_light_hv_store,
	.hash_store = kvm_p9_light_hv_hash_store,
	.ring = kvm_p9_light_hv_ring,
	.call = kvm_p9_light_hv_call,
	.fault = kvm_p9_light_hv_fault,
	.dispatch = kvm_p9_dispatch,
};
