// SPDX-License-Identifier: GPL-2.0-only
/*
 * Recorders of vcpus, which hold times and fast hcalls, and the tracepoint.
 *
 * Times cost something. They are taken on request only, and memory for them is allocated
 * at the first request. It is freed with the vcpu.
 */
#include <linux/irq_work.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>

#include "book3s_hv.h"
#include "kvm_p9.h"

#define CREATE_TRACE_POINTS
#include "kvm_p9_trace.h"

/* Limit the memory that kvm-p9 adds to a vcpu */
static_assert(sizeof(struct kvm_p9_vcpu) + sizeof(struct kvm_p9_served) +
	      sizeof(struct kvm_p9_recorder) <= SZ_8K + SZ_4K);

static struct kmem_cache *kvm_p9_cache;

/*
 * The first interrupt after the exit. Preemption is still disabled, so this is the
 * thread of the vcpu and its CPU.
 */
static void kvm_p9_emit(struct irq_work *work)
{
	struct kvm_p9_recorder *recorder = container_of(work, struct kvm_p9_recorder, emit);
	struct kvm_p9_stats *stats = &recorder->stats;
	u64 i, count = min_t(u64, stats->event_count, KVM_P9_ABI_EVENTS);

	for (i = 0; i < count; i++) {
		const struct kvm_p9_event *event = &stats->events[i];

		trace_fast_hcall(recorder->vcpu->vcpu_id, event->number, event->r4,
				 event->code, event->tb, event->ticks);
	}
	stats->event_count = 0;
}

/*
 * Tracing is not possible right after an exit: for RCU and lockdep the guest still
 * runs. Queue an interrupt, which comes as soon as interrupts are enabled.
 */
void kvm_p9_queue_events(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);

	if (stats && stats->event_count)
		irq_work_queue(&container_of(stats, struct kvm_p9_recorder, stats)->emit);
}

int kvm_p9_trace_reg(void)
{
	return kvm_p9_set_timing(KVM_P9_ABI_TIMING_TRACE, true);
}

void kvm_p9_trace_unreg(void)
{
	kvm_p9_set_timing(KVM_P9_ABI_TIMING_TRACE, false);
}

int kvm_p9_record(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_recorder *recorder = vcpu->arch.p9_served.recorder;

	lockdep_assert_held(&kvm_p9_lock);
	if (!recorder) {
		recorder = kmem_cache_zalloc(kvm_p9_cache, GFP_KERNEL_ACCOUNT);
		if (!recorder)
			return -ENOMEM;
		recorder->emit = IRQ_WORK_INIT_HARD(kvm_p9_emit);
		recorder->vcpu = vcpu;
		/* Readers that find the recorder find it zeroed */
		smp_store_release(&vcpu->arch.p9_served.recorder, recorder);
	}
	if (!vcpu->arch.p9.stats) {
		/* Stopped, if it counted when times were last taken */
		recorder->stats.counter = 0;
		smp_store_release(&vcpu->arch.p9.stats, &recorder->stats);
	}
	return 0;
}

int kvm_p9_record_all(void)
{
	struct kvm_p9_served *served;
	struct kvm_p9_vm *vm;
	int ret;

	lockdep_assert_held(&kvm_p9_lock);
	list_for_each_entry(vm, &kvm_p9_vms, node) {
		list_for_each_entry(served, &vm->vcpus, node) {
			ret = kvm_p9_record(kvm_p9_vcpu_of(served));
			if (ret)
				return ret;
		}
	}
	return 0;
}

/* What was recorded can still be read. */
void kvm_p9_record_none(void)
{
	struct kvm_p9_served *served;
	struct kvm_p9_vm *vm;

	lockdep_assert_held(&kvm_p9_lock);
	list_for_each_entry(vm, &kvm_p9_vms, node) {
		list_for_each_entry(served, &vm->vcpus, node)
			WRITE_ONCE(kvm_p9_vcpu_of(served)->arch.p9.stats, NULL);
	}
}

void kvm_p9_free_recorder(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_recorder *recorder = kvm_p9_recorder(vcpu);

	if (recorder) {
		irq_work_sync(&recorder->emit);
		kmem_cache_free(kvm_p9_cache, recorder);
	}
}

void __init kvm_p9_trace_init(void)
{
	kvm_p9_cache = KMEM_CACHE(kvm_p9_recorder, SLAB_PANIC | SLAB_ACCOUNT);
}
