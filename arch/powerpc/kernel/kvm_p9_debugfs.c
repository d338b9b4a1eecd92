// SPDX-License-Identifier: GPL-2.0-only
/*
 * Files in debugfs: how hcalls of VMs were answered, and how long exits took.
 *
 * Each counter has one writer, the thread of its vcpu, and is read here while it runs.
 */
#include <linux/debugfs.h>
#include <linux/kvm_host.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/time.h>

#include "book3s_hv.h"
#include "kvm_p9.h"

static const char * const kvm_p9_path_names[KVM_P9_ABI_SPANS] = { KVM_P9_ABI_SPAN_NAMES };

/* By enum kvm_p9_hcall */
static const char * const kvm_p9_hcall_names[KVM_P9_HCALLS] = { KVM_P9_ABI_FAST_NAMES };

static void kvm_p9_sum_fast(u64 *fast)
{
	u64 sum[KVM_P9_COLUMNS][KVM_P9_HCALLS] = {};
	struct kvm_p9_vm *vm;

	mutex_lock(&kvm_p9_lock);
	kvm_p9_add(sum, kvm_p9_destroyed);
	list_for_each_entry(vm, &kvm_p9_vms, node)
		kvm_p9_add_vm(sum, vm);
	mutex_unlock(&kvm_p9_lock);
	memcpy(fast, sum[KVM_P9_FAST], sizeof(sum[KVM_P9_FAST]));
}

static const char * const kvm_p9_light_names[] = { KVM_P9_ABI_LIGHT_NAMES };

static int kvm_p9_counters_show(struct seq_file *m, void *unused)
{
	struct kvm_p9_counters sum = {};
	u64 fast[KVM_P9_HCALLS];
	int cpu, i;

	for_each_possible_cpu(cpu) {
		const struct kvm_p9_counters *c = per_cpu_ptr(&kvm_p9_counters, cpu);

		sum.entry_rust += READ_ONCE(c->entry_rust);
		sum.c_cpu += READ_ONCE(c->c_cpu);
		sum.c_host_mmu += READ_ONCE(c->c_host_mmu);
		sum.c_secure += READ_ONCE(c->c_secure);
		sum.full_page_table += READ_ONCE(c->full_page_table);
		for (i = 0; i < KVM_P9_LIGHT_COUNTERS; i++)
			sum.light[i] += READ_ONCE(c->light[i]);
	}

	kvm_p9_sum_fast(fast);

	seq_printf(m, "entry_rust %llu\n", sum.entry_rust);
	seq_printf(m, "c_cpu %llu\n", sum.c_cpu);
	seq_printf(m, "c_host_mmu %llu\n", sum.c_host_mmu);
	seq_printf(m, "c_secure %llu\n", sum.c_secure);
	for (i = 0; i < KVM_P9_HCALLS; i++)
		seq_printf(m, "fast_%s %llu\n", kvm_p9_hcall_names[i], fast[i]);
	seq_printf(m, "full_page_table %llu\n", sum.full_page_table);
	for (i = 0; i < KVM_P9_LIGHT_COUNTERS; i++)
		seq_printf(m, "%s %llu\n", kvm_p9_light_names[i], sum.light[i]);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(kvm_p9_counters);

static void kvm_p9_show_served(struct seq_file *m, const char *name,
			       const u64 (*served)[KVM_P9_HCALLS])
{
	int i;

	for (i = 0; i < KVM_P9_HCALLS; i++)
		seq_printf(m, "%s %s %llu %llu %llu\n", name, kvm_p9_hcall_names[i],
			   served[KVM_P9_FAST][i], served[KVM_P9_FULL][i], served[KVM_P9_USERSPACE][i]);
}

static int kvm_p9_vms_show(struct seq_file *m, void *unused)
{
	u64 total[KVM_P9_COLUMNS][KVM_P9_HCALLS] = {};
	struct kvm_p9_vm *vm;

	seq_puts(m, "# vm hcall fast full userspace\n");
	mutex_lock(&kvm_p9_lock);
	list_for_each_entry(vm, &kvm_p9_vms, node) {
		u64 sum[KVM_P9_COLUMNS][KVM_P9_HCALLS] = {};

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

/*
 * Copy numbers that agree with each other. If the vcpu keeps changing them, give up
 * after some tries: then they differ by a few spans.
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
	/* The vcpu resets them when it next runs */
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

/* Writing 0 resets the times. */
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

void __init kvm_p9_debugfs_init(void)
{
	struct dentry *dir = debugfs_create_dir("kvm_p9", NULL);

	debugfs_create_file("counters", 0444, dir, NULL, &kvm_p9_counters_fops);
	debugfs_create_file("vms", 0444, dir, NULL, &kvm_p9_vms_fops);
}
