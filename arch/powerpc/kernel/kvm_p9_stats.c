// SPDX-License-Identifier: GPL-2.0-only
/*
 * What kvm-p9 tells of VMs and vcpus: who answered their hcalls, how long it
 * took, and each fast hcall as a trace event.
 *
 * Counters have one writer each, the vcpu's own thread, and are read here as it
 * runs. Who answered is always counted while kvm_p9.path=rust. Times cost
 * something, so they are only taken on request, and only then is there memory
 * for them: until the vcpu goes.
 */
#define pr_fmt(fmt) "kvm_p9: " fmt

#include <linux/debugfs.h>
#include <linux/irq_work.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/smp.h>
#include <linux/string.h>
#include <asm/hvcall.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/pmc.h>
#include <asm/reg.h>
#include <asm/time.h>

#include "book3s_hv.h"
#include "kvm_p9_stats.h"

#define CREATE_TRACE_POINTS
#include "kvm_p9_trace.h"

#define ASSERT_FIELD(type, field, offset) \
	static_assert(offsetof(struct type, field) == (offset))

ASSERT_FIELD(kvm_p9_stats, sequence, KVM_P9_ABI_STATS_SEQUENCE);
ASSERT_FIELD(kvm_p9_stats, wanted, KVM_P9_ABI_STATS_WANTED);
ASSERT_FIELD(kvm_p9_stats, tb_offset, KVM_P9_ABI_STATS_TB_OFFSET);
ASSERT_FIELD(kvm_p9_stats, open, KVM_P9_ABI_STATS_OPEN);
ASSERT_FIELD(kvm_p9_stats, since, KVM_P9_ABI_STATS_SINCE);
ASSERT_FIELD(kvm_p9_stats, counter, KVM_P9_ABI_STATS_COUNTER);
ASSERT_FIELD(kvm_p9_stats, counted, KVM_P9_ABI_STATS_COUNTED);
ASSERT_FIELD(kvm_p9_stats, since_counted, KVM_P9_ABI_STATS_SINCE_COUNTED);
ASSERT_FIELD(kvm_p9_stats, since_cycles, KVM_P9_ABI_STATS_SINCE_CYCLES);
ASSERT_FIELD(kvm_p9_stats, in_userspace, KVM_P9_ABI_STATS_IN_USERSPACE);
ASSERT_FIELD(kvm_p9_stats, reset, KVM_P9_ABI_STATS_RESET);
ASSERT_FIELD(kvm_p9_stats, event_count, KVM_P9_ABI_STATS_EVENT_COUNT);
ASSERT_FIELD(kvm_p9_stats, events, KVM_P9_ABI_STATS_EVENTS);
ASSERT_FIELD(kvm_p9_stats, paths, KVM_P9_ABI_STATS_PATHS);
static_assert(sizeof(struct kvm_p9_stats) == KVM_P9_ABI_STATS_SIZE);
ASSERT_FIELD(kvm_p9_event, tb, KVM_P9_ABI_EVENT_TB);
ASSERT_FIELD(kvm_p9_event, r4, KVM_P9_ABI_EVENT_R4);
ASSERT_FIELD(kvm_p9_event, code, KVM_P9_ABI_EVENT_CODE);
ASSERT_FIELD(kvm_p9_event, number, KVM_P9_ABI_EVENT_NUMBER);
ASSERT_FIELD(kvm_p9_event, ticks, KVM_P9_ABI_EVENT_TICKS);
static_assert(sizeof(struct kvm_p9_event) == KVM_P9_ABI_EVENT_SIZE);
ASSERT_FIELD(kvm_p9_path, ticks, KVM_P9_ABI_PATH_TICKS);
ASSERT_FIELD(kvm_p9_path, cycles, KVM_P9_ABI_PATH_CYCLES);
static_assert(sizeof(struct kvm_p9_path) == KVM_P9_ABI_PATH_SIZE);
ASSERT_FIELD(kvm_p9_distribution, count, KVM_P9_ABI_DISTRIBUTION_COUNT);
ASSERT_FIELD(kvm_p9_distribution, total, KVM_P9_ABI_DISTRIBUTION_TOTAL);
ASSERT_FIELD(kvm_p9_distribution, min, KVM_P9_ABI_DISTRIBUTION_MIN);
ASSERT_FIELD(kvm_p9_distribution, max, KVM_P9_ABI_DISTRIBUTION_MAX);
ASSERT_FIELD(kvm_p9_distribution, histogram, KVM_P9_ABI_DISTRIBUTION_HISTOGRAM);
static_assert(sizeof(struct kvm_p9_distribution) == KVM_P9_ABI_DISTRIBUTION_SIZE);
/* Counters 5 and 6 only, and nothing that could raise an interrupt */
static_assert((KVM_P9_ABI_MMCR0_COUNTING & MMCR0_C56RUN) &&
	      !(KVM_P9_ABI_MMCR0_COUNTING &
		(MMCR0_FC | MMCR0_FC56 | MMCR0_FCS | MMCR0_FCP | MMCR0_FCHV | MMCR0_FCWAIT |
		 MMCR0_PMXE | MMCR0_FCECE | MMCR0_TBEE | MMCR0_EBE | MMCR0_PMCC |
		 MMCR0_PMC1CE | MMCR0_PMCjCE | MMCR0_PMAO)));

static const char * const kvm_p9_path_names[KVM_P9_ABI_SPANS] = {
	[KVM_P9_ABI_SPAN_FAST_NULL] = "fast_null",
	[KVM_P9_ABI_SPAN_FAST_H_GET_TCE] = "fast_h_get_tce",
	[KVM_P9_ABI_SPAN_FAST_H_PUT_TCE] = "fast_h_put_tce",
	[KVM_P9_ABI_SPAN_FAST_H_PUT_TCE_INDIRECT] = "fast_h_put_tce_indirect",
	[KVM_P9_ABI_SPAN_FAST_H_STUFF_TCE] = "fast_h_stuff_tce",
	[KVM_P9_ABI_SPAN_FULL_HCALL] = "full_hcall",
	[KVM_P9_ABI_SPAN_FULL_CEDE] = "full_cede",
	[KVM_P9_ABI_SPAN_FULL_DATA_STORAGE] = "full_data_storage",
	[KVM_P9_ABI_SPAN_FULL_DECREMENTER] = "full_decrementer",
	[KVM_P9_ABI_SPAN_FULL_EXTERNAL] = "full_external",
	[KVM_P9_ABI_SPAN_FULL_OTHER] = "full_other",
	[KVM_P9_ABI_SPAN_USERSPACE] = "userspace",
};

static const char * const kvm_p9_hcall_names[KVM_P9_HCALLS] = {
	[KVM_P9_NULL] = "null",
	[KVM_P9_GET_TCE] = "h_get_tce",
	[KVM_P9_PUT_TCE] = "h_put_tce",
	[KVM_P9_PUT_TCE_INDIRECT] = "h_put_tce_indirect",
	[KVM_P9_STUFF_TCE] = "h_stuff_tce",
};

/* Who answered: columns of the vms file */
enum { FAST, FULL, USERSPACE, COLUMNS };

/* What is allocated for a vcpu: Rust's part, and what emits its events */
struct kvm_p9_recorder {
	struct kvm_p9_stats stats;
	struct irq_work emit;
	struct kvm_vcpu *vcpu;
};

/* What a vcpu needs more than without kvm-p9, at most */
static_assert(sizeof(struct kvm_p9_vcpu) + sizeof(struct kvm_p9_served) +
	      sizeof(struct kvm_p9_recorder) <= SZ_8K);

DEFINE_STATIC_KEY_FALSE(kvm_p9_path_is_rust);
EXPORT_SYMBOL_GPL(kvm_p9_path_is_rust);

/* On while a vcpu may have cycles counted */
DEFINE_STATIC_KEY_FALSE(kvm_p9_counts_cycles);
EXPORT_SYMBOL_GPL(kvm_p9_counts_cycles);

DEFINE_MUTEX(kvm_p9_lock);
static LIST_HEAD(kvm_p9_vms);
static struct kmem_cache *kvm_p9_cache;
/* Hcalls of VMs that are gone */
static u64 kvm_p9_destroyed[COLUMNS][KVM_P9_HCALLS];

static struct kvm_p9_recorder *kvm_p9_recorder(struct kvm_vcpu *vcpu)
{
	return smp_load_acquire(&vcpu->arch.p9_served.recorder);
}

/*
 * Interrupts were off since the guest came out, and preemption still is: this is
 * the vcpu's thread and CPU.
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
 * Tracing is not possible where the guest has just come out, as for RCU and lockdep
 * it still runs. The first moment at which it is comes with the first interrupt
 * after that.
 */
void kvm_p9_queue_events(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);

	if (stats && stats->event_count)
		irq_work_queue(&container_of(stats, struct kvm_p9_recorder, stats)->emit);
}

/*
 * Stops this CPU's counters of cycles, if Rust has let them count and nobody has
 * taken them since: entry/src/cycles.rs. perf can take them by an interrupt.
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

/* The vcpu's thread leaves this CPU, or KVM_RUN. */
void __kvm_p9_sched_out(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_recorder *recorder = kvm_p9_recorder(vcpu);

	kvm_p9_stop_counter(NULL);
	if (recorder)
		recorder->stats.counter = 0;
}
EXPORT_SYMBOL_GPL(__kvm_p9_sched_out);

/*
 * After the guest has come out. If it has said meanwhile that it uses the PMU, KVM
 * has saved as the guest's what was Rust's. As long as the guest has not itself had
 * the PMU, this is the only way by which it can have such a value.
 */
void kvm_p9_scrub_guest_pmc(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);

	if (stats && stats->counter && vcpu->arch.mmcr[0] == KVM_P9_ABI_MMCR0_COUNTING) {
		vcpu->arch.mmcr[0] = MMCR0_FC;
		vcpu->arch.pmc[4] = 0;
		vcpu->arch.pmc[5] = 0;
	}
}

int kvm_p9_trace_reg(void)
{
	return kvm_p9_set_timing(KVM_P9_ABI_TIMING_TRACE, true);
}

void kvm_p9_trace_unreg(void)
{
	kvm_p9_set_timing(KVM_P9_ABI_TIMING_TRACE, false);
}

/* Has a vcpu's times taken. */
static int kvm_p9_record(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_recorder *recorder = vcpu->arch.p9_served.recorder;

	lockdep_assert_held(&kvm_p9_lock);
	if (!recorder) {
		recorder = kmem_cache_zalloc(kvm_p9_cache, GFP_KERNEL_ACCOUNT);
		if (!recorder)
			return -ENOMEM;
		recorder->emit = IRQ_WORK_INIT_HARD(kvm_p9_emit);
		recorder->vcpu = vcpu;
		/* Whoever finds it finds it clear */
		smp_store_release(&vcpu->arch.p9_served.recorder, recorder);
	}
	if (!vcpu->arch.p9.stats) {
		/* Stopped, if it counted when times were last taken */
		recorder->stats.counter = 0;
		smp_store_release(&vcpu->arch.p9.stats, &recorder->stats);
	}
	return 0;
}

static struct kvm_vcpu *kvm_p9_vcpu_of(struct kvm_p9_served *served)
{
	return container_of(served, struct kvm_vcpu, arch.p9_served);
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

/* What was recorded stays to be read. */
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

static void kvm_p9_add_vcpu(u64 (*sum)[KVM_P9_HCALLS], struct kvm_vcpu *vcpu)
{
	const struct kvm_p9_vcpu *p9 = &vcpu->arch.p9;
	const struct kvm_p9_served *served = &vcpu->arch.p9_served;
	int i;

	for (i = 0; i < KVM_P9_HCALLS; i++) {
		sum[FAST][i] += READ_ONCE(p9->fast[i]);
		sum[FULL][i] += READ_ONCE(served->full[i]);
		sum[USERSPACE][i] += READ_ONCE(served->userspace[i]);
	}
}

static void kvm_p9_add(u64 (*sum)[KVM_P9_HCALLS], const u64 (*other)[KVM_P9_HCALLS])
{
	int column, i;

	for (column = 0; column < COLUMNS; column++)
		for (i = 0; i < KVM_P9_HCALLS; i++)
			sum[column][i] += other[column][i];
}

static void kvm_p9_add_vm(u64 (*sum)[KVM_P9_HCALLS], struct kvm_p9_vm *vm)
{
	struct kvm_p9_served *served;

	lockdep_assert_held(&kvm_p9_lock);
	kvm_p9_add(sum, vm->destroyed);
	list_for_each_entry(served, &vm->vcpus, node)
		kvm_p9_add_vcpu(sum, kvm_p9_vcpu_of(served));
}

void kvm_p9_sum_fast(u64 *fast)
{
	u64 sum[COLUMNS][KVM_P9_HCALLS] = {};
	struct kvm_p9_vm *vm;

	mutex_lock(&kvm_p9_lock);
	kvm_p9_add(sum, kvm_p9_destroyed);
	list_for_each_entry(vm, &kvm_p9_vms, node)
		kvm_p9_add_vm(sum, vm);
	mutex_unlock(&kvm_p9_lock);
	memcpy(fast, sum[FAST], sizeof(sum[FAST]));
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

/* Its vcpus are gone by now. */
void kvm_p9_destroy_vm(struct kvm *kvm)
{
	struct kvm_p9_vm *vm = &kvm->arch.p9;

	mutex_lock(&kvm_p9_lock);
	kvm_p9_add_vm(kvm_p9_destroyed, vm);
	list_del(&vm->node);
	mutex_unlock(&kvm_p9_lock);
}
EXPORT_SYMBOL_GPL(kvm_p9_destroy_vm);

/* Takes the VM's name from its directory, which may go before the VM does. */
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
	/* Without memory the vcpu has no times, and is as good as others otherwise */
	if (kvm_p9_timing & (KVM_P9_ABI_TIMING_STATS | KVM_P9_ABI_TIMING_TRACE))
		kvm_p9_record(vcpu);
	mutex_unlock(&kvm_p9_lock);
}
EXPORT_SYMBOL_GPL(kvm_p9_create_vcpu);

void kvm_p9_free_vcpu(struct kvm_vcpu *vcpu)
{
	struct kvm_p9_served *served = &vcpu->arch.p9_served;
	struct kvm_p9_recorder *recorder;

	/* Creation may have failed before it was on the list */
	if (!served->node.next)
		return;

	mutex_lock(&kvm_p9_lock);
	kvm_p9_add_vcpu(vcpu->kvm->arch.p9.destroyed, vcpu);
	list_del(&served->node);
	mutex_unlock(&kvm_p9_lock);

	recorder = kvm_p9_recorder(vcpu);
	if (recorder) {
		irq_work_sync(&recorder->emit);
		kmem_cache_free(kvm_p9_cache, recorder);
	}
}
EXPORT_SYMBOL_GPL(kvm_p9_free_vcpu);

static int kvm_p9_hcall(unsigned long number)
{
	switch (number) {
	case KVMPPC_H_NULL:
		return KVM_P9_NULL;
	case H_GET_TCE:
		return KVM_P9_GET_TCE;
	case H_PUT_TCE:
		return KVM_P9_PUT_TCE;
	case H_PUT_TCE_INDIRECT:
		return KVM_P9_PUT_TCE_INDIRECT;
	case H_STUFF_TCE:
		return KVM_P9_STUFF_TCE;
	default:
		return KVM_P9_HCALLS;
	}
}

void __kvm_p9_to_userspace(struct kvm_vcpu *vcpu, int r)
{
	struct kvm_p9_served *served = &vcpu->arch.p9_served;
	struct kvm_p9_stats *stats = READ_ONCE(vcpu->arch.p9.stats);
	unsigned long number = kvmppc_get_gpr(vcpu, 3);
	int hcall = kvm_p9_hcall(number);

	if (stats) {
		WRITE_ONCE(stats->in_userspace, 1);
		kvm_p9_sched_out(vcpu);
	}
	if (r != RESUME_HOST || vcpu->run->exit_reason != KVM_EXIT_PAPR_HCALL ||
	    hcall == KVM_P9_HCALLS)
		return;

	WRITE_ONCE(served->userspace[hcall], served->userspace[hcall] + 1);
	/* An hcall that is enabled was tried before, and counted as done; NULL never fails */
	if (hcall != KVM_P9_NULL && test_bit(number / 4, vcpu->kvm->arch.enabled_hcalls) &&
	    served->full[hcall])
		WRITE_ONCE(served->full[hcall], served->full[hcall] - 1);
}
EXPORT_SYMBOL_GPL(__kvm_p9_to_userspace);

/*
 * A copy whose numbers agree with each other. A vcpu may be changing them faster
 * than they can be copied; then, in the end, they are a few spans apart.
 */
static void kvm_p9_read_path(const struct kvm_p9_stats *stats, int path,
			     struct kvm_p9_path *copy)
{
	int tries;

	for (tries = 0; tries < 1000; tries++) {
		u64 sequence = smp_load_acquire(&stats->sequence);

		memcpy(copy, &stats->paths[path], sizeof(*copy));
		smp_rmb();
		if (!(sequence & 1) && READ_ONCE(stats->sequence) == sequence)
			break;
		cpu_relax();
	}
	/* Asked for, and to be done by the vcpu when it next runs */
	if (READ_ONCE(stats->reset))
		memset(copy, 0, sizeof(*copy));
}

static void kvm_p9_show_distribution(struct seq_file *m, const char *path, const char *unit,
				     const struct kvm_p9_distribution *spans)
{
	int place;

	seq_printf(m, "%s %s %llu %llu %llu %llu", path, unit,
		   spans->count, spans->total, spans->min, spans->max);
	for (place = 0; place < KVM_P9_ABI_BUCKETS; place++) {
		if (spans->histogram[place])
			seq_printf(m, " %llu:%u",
				   place ? 1ULL << (place + KVM_P9_ABI_SHORTEST_BITS - 1) : 0,
				   spans->histogram[place]);
	}
	seq_putc(m, '\n');
}

static int kvm_p9_times_show(struct seq_file *m, void *unused)
{
	struct kvm_vcpu *vcpu = m->private;
	struct kvm_p9_recorder *recorder = kvm_p9_recorder(vcpu);
	struct kvm_p9_path copy = {};
	int path;

	seq_printf(m, "# ticks: all spans, in ticks of the timebase, %lu a second\n",
		   tb_ticks_per_sec);
	seq_puts(m, "# cycles: those while the PMU was not in use, in cycles of the CPU\n");
	seq_puts(m, "# from:spans: how many were that long, or up to twice as long\n");
	seq_puts(m, "# path unit count total min max from:spans...\n");
	for (path = 0; path < KVM_P9_ABI_SPANS; path++) {
		if (recorder)
			kvm_p9_read_path(&recorder->stats, path, &copy);
		kvm_p9_show_distribution(m, kvm_p9_path_names[path], "ticks", &copy.ticks);
		kvm_p9_show_distribution(m, kvm_p9_path_names[path], "cycles", &copy.cycles);
	}
	return 0;
}

/* 0 starts again. */
static ssize_t kvm_p9_times_write(struct file *file, const char __user *buffer,
				  size_t count, loff_t *pos)
{
	struct kvm_vcpu *vcpu = file_inode(file)->i_private;
	struct kvm_p9_recorder *recorder = kvm_p9_recorder(vcpu);
	u64 value;
	int ret = kstrtou64_from_user(buffer, count, 0, &value);

	if (ret)
		return ret;
	if (value)
		return -EINVAL;
	if (recorder)
		WRITE_ONCE(recorder->stats.reset, 1);
	return count;
}

DEFINE_SHOW_STORE_ATTRIBUTE(kvm_p9_times);

void kvm_p9_create_vcpu_debugfs(struct kvm_vcpu *vcpu, struct dentry *dir)
{
	debugfs_create_file("p9_times", 0644, dir, vcpu, &kvm_p9_times_fops);
}
EXPORT_SYMBOL_GPL(kvm_p9_create_vcpu_debugfs);

static void kvm_p9_show_served(struct seq_file *m, const char *name,
			       const u64 (*served)[KVM_P9_HCALLS])
{
	int i;

	for (i = 0; i < KVM_P9_HCALLS; i++)
		seq_printf(m, "%s %s %llu %llu %llu\n", name, kvm_p9_hcall_names[i],
			   served[FAST][i], served[FULL][i], served[USERSPACE][i]);
}

static int kvm_p9_vms_show(struct seq_file *m, void *unused)
{
	u64 total[COLUMNS][KVM_P9_HCALLS] = {};
	struct kvm_p9_vm *vm;

	seq_puts(m, "# vm hcall fast full userspace\n");
	mutex_lock(&kvm_p9_lock);
	list_for_each_entry(vm, &kvm_p9_vms, node) {
		u64 sum[COLUMNS][KVM_P9_HCALLS] = {};

		kvm_p9_add_vm(sum, vm);
		kvm_p9_add(total, sum);
		kvm_p9_show_served(m, vm->name, sum);
	}
	kvm_p9_add(total, kvm_p9_destroyed);
	kvm_p9_show_served(m, "destroyed", kvm_p9_destroyed);
	kvm_p9_show_served(m, "total", total);
	mutex_unlock(&kvm_p9_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(kvm_p9_vms);

void __init kvm_p9_stats_init(struct dentry *dir)
{
	kvm_p9_cache = KMEM_CACHE(kvm_p9_recorder, SLAB_PANIC | SLAB_ACCOUNT);
	debugfs_create_file("vms", 0444, dir, NULL, &kvm_p9_vms_fops);
}
