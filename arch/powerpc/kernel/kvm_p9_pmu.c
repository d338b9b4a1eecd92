// SPDX-License-Identifier: GPL-2.0-only
/*
 * The counter of cycles that Rust starts, and how it is stopped. See entry/src/cycles.rs.
 */
#include <linux/kvm_host.h>
#include <linux/smp.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/pmc.h>
#include <asm/reg.h>

#include "book3s_hv.h"
#include "kvm_p9.h"

/* Counters 5 and 6 only, and nothing that could raise an interrupt */
static_assert((KVM_P9_ABI_MMCR0_COUNTING & MMCR0_C56RUN) &&
	      !(KVM_P9_ABI_MMCR0_COUNTING &
		(MMCR0_FC | MMCR0_FC56 | MMCR0_FCS | MMCR0_FCP | MMCR0_FCHV | MMCR0_FCWAIT |
		 MMCR0_PMXE | MMCR0_FCECE | MMCR0_TBEE | MMCR0_EBE | MMCR0_PMCC |
		 MMCR0_PMC1CE | MMCR0_PMCjCE | MMCR0_PMAO)));

/* On while a vcpu may have cycles counted */
DEFINE_STATIC_KEY_FALSE(kvm_p9_counts_cycles);
EXPORT_SYMBOL_GPL(kvm_p9_counts_cycles);

/*
 * Stop the cycle counter of this CPU, if Rust started it and perf has not taken the
 * PMU since. Interrupts are disabled because perf takes the PMU in an interrupt.
 */
static void kvm_p9_stop_counter(void *unused)
{
	unsigned long flags;

	local_irq_save(flags);
	if (!ppc_get_pmu_inuse() && mfspr(SPRN_MMCR0) == KVM_P9_ABI_MMCR0_COUNTING) {
		mtspr(SPRN_MMCR0, MMCR0_FC);
		isync();
		mtspr(SPRN_PMC5, 0);
		mtspr(SPRN_PMC6, 0);
	}
	local_irq_restore(flags);
}

void kvm_p9_stop_all_counters(void)
{
	if (system_state >= SYSTEM_RUNNING)
		on_each_cpu(kvm_p9_stop_counter, NULL, 1);
}

/* The thread of the vcpu leaves this CPU or KVM_RUN. */
void __kvm_p9_sched_out(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_recorder *recorder = kvm_p9_recorder(vcpu);

	kvm_p9_stop_counter(NULL);
	if (recorder)
		recorder->stats.counter = 0;
}
EXPORT_SYMBOL_GPL(__kvm_p9_sched_out);

/*
 * If the guest set pmcregs_in_use while it ran, KVM saved the PMU state of Rust as
 * guest state at the exit. Remove that state. A guest that has not used the PMU
 * itself can't have this value of MMCR0 otherwise.
 */
noinstr void kvm_p9_scrub_guest_pmc(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);

	if (stats && stats->counter && vcpu->arch.mmcr[0] == KVM_P9_ABI_MMCR0_COUNTING) {
		vcpu->arch.mmcr[0] = MMCR0_FC;
		vcpu->arch.pmc[4] = 0;
		vcpu->arch.pmc[5] = 0;
	}
}
