// SPDX-License-Identifier: GPL-2.0-only
/*
 * TLB and SLB of guests. Rust calls these while it switches to or from a guest, with LPIDR
 * or the SLB of the guest loaded: all are noinstr.
 */
#include <linux/cpumask.h>
#include <linux/kvm_host.h>
#include <asm/cputhreads.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/ppc-opcode.h>

#include "kvm_p9.h"

/*
 * Flush translations of a guest that another CPU changed after a vcpu ran here.
 * LPIDR holds the LPID of the guest, which tlbiel uses. The four threads of a core
 * share the TLB: flush only if no thread has. Two threads may both flush. An L2 has
 * its own mask and LPID, but belongs to the VM of its L1.
 */
noinstr void kvm_p9_flush_guest_tlb(struct kvm *kvm, cpumask_t *wanted, int pcpu)
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
	/* Also if another thread flushed: completes that flush, too */
	asm volatile("ptesync" : : : "memory");
	/* tlbiel by class leaves the ERAT */
	if (!done && radix)
		asm volatile(PPC_RADIX_INVALIDATE_ERAT_GUEST : : : "memory");
	else if (!done)
		asm volatile(PPC_ISA_3_0_INVALIDATE_ERAT : : : "memory");

	cpumask_clear_cpu(pcpu, wanted);
}

/*
 * Clear the SLB of a hash guest and the translations that are cached from it. IH=6
 * keeps entry 0 and translations of the host.
 */
noinstr void kvm_p9_clear_slb(void)
{
	asm volatile("slbmte %0, %1" : : "r" (0), "r" (0) : "memory");
	asm volatile(PPC_SLBIA(6) : : : "memory");
}
