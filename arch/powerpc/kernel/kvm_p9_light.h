/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_P9_LIGHT_H
#define KVM_P9_LIGHT_H

#include "kvm_p9.h"

/*
 * What a light exit may call in KVM-HV: all of it. But for call() and fault() these run with interrupts
 * disabled, in the middle of a guest's run. They must not sleep, and must not enable interrupts. They
 * must do the whole job, or change nothing.
 */
struct kvm_p9_light_ops {
	/* A tracepoint of the run loop is on: each exit has to pass it */
	bool (*traced)(void);
	/* Answers the hcall in gpr[3], or returns H_TOO_HARD */
	long (*hcall)(struct kvm_vcpu *vcpu);
	/* Signals the eventfd for stores of any length that has this range */
	bool (*signal)(struct kvm_vcpu *vcpu, const struct kvm_io_range *range, gpa_t gpa);
	/* Emulates the vcpu's last instruction: a store to the device at that address */
	bool (*store)(struct kvm_vcpu *vcpu, gpa_t gpa);
	/* Emulates a hash guest's store to an address that KVM remembers as a device's */
	bool (*hash_store)(struct kvm_vcpu *vcpu);
	/* Emulates the vcpu's last instruction: a doorbell for another vcpu */
	bool (*ring)(struct kvm_vcpu *vcpu);

	/* The only two with interrupts enabled, and that may sleep. Answers the hcall in gpr[3]. */
	bool (*call)(struct kvm_vcpu *vcpu);
	/* Maps the page of fault_gpa */
	bool (*fault)(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot, bool writing);
	/* Has the VPA say that the vcpu runs */
	void (*dispatch)(struct kvm_vcpu *vcpu);
};

extern const struct kvm_p9_light_ops kvm_p9_light_hv_ops;

static __always_inline void kvm_p9_light_count(struct kvm_vcpu *vcpu, enum kvm_p9_light_counter which)
{
	u64 *counter = &vcpu->arch.p9.light.counters->light[which];

	WRITE_ONCE(*counter, *counter + 1);
}

/*
 * Why the exit that is under way becomes a full one. The end of the exit counts it: one reason for
 * each entry.
 */
static __always_inline void kvm_p9_light_refuse(struct kvm_vcpu *vcpu,
						enum kvm_p9_light_counter why)
{
	WRITE_ONCE(vcpu->arch.p9.light.counters->reason, why);
}

/* The last range that begins at that address or below. A bus has its ranges in order. */
static __always_inline const struct kvm_io_range *kvm_p9_find_range(const struct kvm_io_bus *bus,
								    gpa_t gpa)
{
	int low = 0, high = bus ? bus->dev_count : 0;

	while (low < high) {
		int middle = (low + high) / 2;

		if (bus->range[middle].addr <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? &bus->range[low - 1] : NULL;
}

/*
 * The device of the kernel at that address. The range of an eventfd for stores of any length has
 * length 0. The run loop holds kvm->srcu, which keeps buses and devices.
 */
static __always_inline const struct kvm_io_range *kvm_p9_find_device(struct kvm *kvm, gpa_t gpa)
{
	const struct kvm_io_range *range;

	range = kvm_p9_find_range(rcu_dereference_raw(kvm->buses[KVM_FAST_MMIO_BUS]), gpa);
	if (range && range->addr == gpa)
		return range;
	range = kvm_p9_find_range(rcu_dereference_raw(kvm->buses[KVM_MMIO_BUS]), gpa);
	return range && gpa - range->addr < range->len ? range : NULL;
}

/* The guest's physical address, by an HPTE that KVM remembers as a device's */
static __always_inline gpa_t kvm_p9_hpte_address(const struct mmio_hpte_cache_entry *entry,
						 unsigned long ea)
{
	unsigned long mask = kvmppc_actual_pgsz(entry->hpte_v, entry->rpte) - 1;

	return (entry->rpte & HPTE_R_RPN & ~mask) | (ea & mask);
}

/* For entry/src/power9.rs and entry/src/fast/light.rs */
long kvm_p9_light_hcall(struct kvm_vcpu *vcpu);
int kvm_p9_light_hash_hcall(struct kvm_vcpu *vcpu);
bool kvm_p9_light_hash_finds_device(struct kvm_vcpu *vcpu, unsigned long ea);
int kvm_p9_light_hash_store(struct kvm_vcpu *vcpu);
int kvm_p9_light_ring(struct kvm_vcpu *vcpu);
int kvm_p9_light_store(struct kvm_vcpu *vcpu, const struct kvm_io_range *range);
unsigned long kvm_p9_light_find_target(struct kvm_vcpu *vcpu, gpa_t gpa);
bool kvm_p9_light_read(struct kvm_vcpu *vcpu, gpa_t gpa, u64 *value);
bool kvm_p9_light_may_serve(struct kvm_vcpu *vcpu);
bool kvm_p9_light_may_call(struct kvm_vcpu *vcpu);
u64 kvm_p9_light_call(struct kvm_vcpu *vcpu);
struct kvm_memory_slot *kvm_p9_light_find_memory(struct kvm_vcpu *vcpu, gpa_t gpa, bool writing);
u64 kvm_p9_light_serve(struct kvm_vcpu *vcpu, int trap);
u64 kvm_p9_light_fault(struct kvm_vcpu *vcpu, struct kvm_memory_slot *slot, bool writing);

/* For kvm_p9_main.c */
bool kvm_p9_find_instruction(struct kvm_vcpu *vcpu);

/* entry/src/fetch.rs */
bool kvm_p9_fetch(struct kvm_vcpu *vcpu);

/* entry/src/entry_point.rs */
void kvm_p9_rs_flush(struct kvm_vcpu *vcpu);

#endif /* KVM_P9_LIGHT_H */
