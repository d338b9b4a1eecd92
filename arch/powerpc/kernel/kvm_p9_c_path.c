// SPDX-License-Identifier: GPL-2.0-only
/*
 * The full virtual-mode switch for guests that kvm-p9 enters, for as long as
 * that part is still C: the kernel's own source, compiled a second time.
 *
 * Only two things differ from the stock instance: the mode byte in the PACA,
 * by which interrupt entry finds kvm-p9's exits, and the entry stub that
 * belongs to them. The stock instance keeps its instructions, and there is no
 * second copy of its source to fall behind.
 */
#include <linux/kernel.h>
#include <linux/export.h>
#include <linux/kvm_host.h>
#include <asm/asm-prototypes.h>
#include <asm/kvm_asm.h>

/* The second instance of each function that the file defines for others. */
#define load_vcpu_state				kvm_p9_c_load_vcpu_state
#define store_vcpu_state			kvm_p9_c_store_vcpu_state
#define save_p9_host_os_sprs			kvm_p9_c_save_host_os_sprs
#define restore_p9_host_os_sprs			kvm_p9_c_restore_host_os_sprs
#define kvmppc_msr_hard_disable_set_facilities	kvm_p9_c_hard_disable_set_facilities
#define kvmhv_vcpu_entry_p9			kvm_p9_c_vcpu_entry
#ifdef CONFIG_KVM_BOOK3S_HV_P9_TIMING
#define accumulate_time				kvm_p9_c_accumulate_time
#endif

int kvm_p9_c_vcpu_entry(struct kvm_vcpu *vcpu, u64 time_limit, unsigned long lpcr, u64 *tb);
unsigned long kvm_p9_c_hard_disable_set_facilities(struct kvm_vcpu *vcpu, unsigned long msr);

#undef KVM_GUEST_MODE_HV_P9
#define KVM_GUEST_MODE_HV_P9			KVM_GUEST_MODE_HV_P9_RS

void kvm_p9_enter_guest(struct kvm_vcpu *vcpu);
#define kvmppc_p9_enter_guest			kvm_p9_enter_guest

#undef EXPORT_SYMBOL_GPL
#define EXPORT_SYMBOL_GPL(symbol)

#include "book3s_hv_p9_entry.c"
