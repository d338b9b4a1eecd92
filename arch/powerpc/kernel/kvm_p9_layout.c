// SPDX-License-Identifier: GPL-2.0-only
/*
 * What Rust and the trampoline need to know of the configured kernel, beyond
 * asm-offsets.h. Compiled to assembly only; see Makefile.kvm_p9.
 */
#include <linux/kbuild.h>
#include <linux/kvm_host.h>
#include <linux/sched.h>
#include <asm/hvcall.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/paca.h>

#include "book3s_hv.h"

int main(void)
{
	/* What Rust reads of the kernel's structures */
	OFFSET(VCPU_KVM, kvm_vcpu, kvm);
	OFFSET(VCPU_NESTED, kvm_vcpu, arch.nested);
	OFFSET(VCPU_P9, kvm_vcpu, arch.p9);
	OFFSET(KVM_RADIX, kvm, arch.radix);
	OFFSET(KVM_SECURE_GUEST, kvm, arch.secure_guest);
	DEFINE(SIZEOF_KVM_RADIX, sizeof_field(struct kvm, arch.radix));
	DEFINE(SIZEOF_KVM_SECURE_GUEST, sizeof_field(struct kvm, arch.secure_guest));

	OFFSET(PACA_CURRENT, paca_struct, __current);
	OFFSET(TASK_USER_REGS, task_struct, thread.regs);
	OFFSET(PT_REGS_MSR, pt_regs, msr);

	/* Structures that both sides define */
	OFFSET(P9_VCPU_FAST_TABLE, kvm_p9_vcpu, fast_table);
	OFFSET(P9_VCPU_FAST_NULL, kvm_p9_vcpu, fast_null);
	DEFINE(SIZEOF_P9_VCPU, sizeof(struct kvm_p9_vcpu));

	OFFSET(P9_COUNTERS_ENTRY_RUST, kvm_p9_counters, entry_rust);
	OFFSET(P9_COUNTERS_C_CPU, kvm_p9_counters, c_cpu);
	OFFSET(P9_COUNTERS_C_HOST_MMU, kvm_p9_counters, c_host_mmu);
	OFFSET(P9_COUNTERS_C_NESTED, kvm_p9_counters, c_nested);
	OFFSET(P9_COUNTERS_C_HASH, kvm_p9_counters, c_hash);
	OFFSET(P9_COUNTERS_C_SECURE, kvm_p9_counters, c_secure);
	OFFSET(P9_COUNTERS_FAST_NULL, kvm_p9_counters, fast_null);
	DEFINE(SIZEOF_P9_COUNTERS, sizeof(struct kvm_p9_counters));

	/* Numbers and codes */
	DEFINE(HCALL_NULL, KVMPPC_H_NULL);
	DEFINE(HCALL_MAX, MAX_HCALL_OPCODE);
	DEFINE(HCALL_TOO_HARD, H_TOO_HARD);

	return 0;
}
