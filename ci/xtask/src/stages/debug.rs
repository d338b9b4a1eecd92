// SPDX-License-Identifier: GPL-2.0-only
//! Stage `debug`: booted tests on kernels that check themselves.
//!
//! A warning in the kernel's log fails the test during which it appears, as in each stage. The last
//! test of each machine looks at the log from the boot on. Before it come tests that need a device which
//! the kernel under test does not have.

use std::fs;
use std::path::Path;
use std::time::Duration;

use ::object::{Object, ObjectSymbol};
use anyhow::{Context, Result};
use booted::job::Amounts;
use booted::registry::{self, Also};
use harness::check::Check;
use harness::kernel::{self, NEXT_SERIES, Series};

use crate::booted_machine::{Boot, boot, chosen_tests, names};
use crate::stage::{Args, Need, Part, Stage, stage};

/// Kernel builds, and two machines each.
pub const STAGE: Stage = stage("debug", |args| {
	let part = |series, kernel: &'static Kernel| {
		let needs = [Need::Kernel(series), Need::Programs];
		let seconds = if asked(args) { 900 } else { 1 };
		let part = Part::new(needs, seconds, move || debug(args, series, kernel));
		let part = part.named(kernel.name).on(series);
		// The machines are slow enough alone.
		if asked(args) { part.alone() } else { part }
	};
	let series = args.series()?;
	Ok(series
		.into_iter()
		.flat_map(|series| KERNELS.iter().map(move |kernel| part(series, kernel)))
		.collect())
});

/// A kernel that checks itself.
struct Kernel {
	/// How its name ends.
	name: &'static str,
	/// Its options.
	options: &'static [&'static str],
	/// Objects that KASAN instruments although the kernel's Makefile says that it does not.
	instrumented: &'static [&'static str],
	/// How the names of tests begin that only this kernel can run. The last one looks at the log.
	own: &'static [&'static str],
}

/// A RAM disk, for `shared-file-*`.
const RAM_DISK: [&str; 2] = ["BLK_DEV", "BLK_DEV_RAM"];

/// The first checks locks and RCU; preemption, and sleeping where it is disabled; lists; the masking of
/// interrupts in software; what an interrupt returns to; access to user memory.
///
/// The second checks each access to memory, and can have allocations fail.
const KERNELS: [Kernel; 2] = [
	Kernel {
		name: "debug",
		options: &[
			"PREEMPT",
			"DEBUG_PREEMPT",
			"PROVE_LOCKING",
			"DEBUG_ATOMIC_SLEEP",
			"DEBUG_LIST",
			"PPC_IRQ_SOFT_MASK_DEBUG",
			"PPC_RFI_SRR_DEBUG",
			"PPC_KUAP_DEBUG",
		],
		instrumented: &[],
		own: &["no-report-since-boot"],
	},
	Kernel {
		name: "kasan",
		options: &[
			"KASAN",
			"PREEMPT",
			"FAULT_INJECTION",
			"FAULT_INJECTION_DEBUG_FS",
			"FAILSLAB",
			"FAIL_PAGE_ALLOC",
		],
		instrumented: &INSTRUMENTED,
		own: &[FAILING, "no-kasan-report-since-boot"],
	},
];

/// What of KVM runs with the MMU on, and in no guest's context. The rest of its folder does not, and so
/// its Makefile leaves out the folder.
const INSTRUMENTED: [&str; 18] = [
	"book3s",
	"book3s_64_mmu_hv",
	"book3s_64_mmu_radix",
	"book3s_64_vio",
	"book3s_hv",
	"book3s_hv_nested",
	"book3s_rtas",
	"book3s_xics",
	"book3s_xive",
	"book3s_xive_native",
	"emulate_loadstore",
	"kvm_p9_debugfs",
	"kvm_p9_params",
	"kvm_p9_tce",
	"powerpc",
	"../../../virt/kvm/eventfd",
	"../../../virt/kvm/kvm_main",
	"../../../virt/kvm/vfio",
];

/// The last test reads the kernel's log from the boot on.
const APPEND: &str = "log_buf_len=4M";

/// Tests of allocations that fail.
const FAILING: &str = "failing-allocations-";

/// Why Linux 7.3 is left out. The timer interrupt of 7.3 breaks a rule of lockdep before there is a process, and
/// lockdep looks at nothing after that. With KASAN 7.3 does not boot on this machine, nor does it without patches.
const NEXT_FAILS: &str =
	"Linux 7.3 itself fails the first kernel's checks at boot, and does not boot with KASAN";

/// The checks make each hcall slow, and a report comes with an early one.
const TCE_CALLS: u64 = 4096;

fn asked(args: &Args) -> bool {
	args.all || args.names("debug")
}

fn debug(args: &Args, series: &'static Series, kernel: &Kernel) -> Result<Vec<Check>> {
	let name = kernel.name;
	if !asked(args) {
		let what = format!("kernel {name}, which checks itself");
		let why = "a whole kernel build; with --all or by name";
		return Ok(vec![Check::skipped(&what, why)]);
	}
	if series.name == NEXT_SERIES {
		return Ok(vec![Check::skipped(format!("kernel {name}"), NEXT_FAILS)]);
	}
	let options = [kernel.options, &RAM_DISK].concat();
	let image = kernel::build_options(series, name, &options, &kernel.variables())?;
	let mut checks = Vec::new();
	if !kernel.instrumented.is_empty() {
		let complaint = kernel.complaint(&image.tree())?;
		checks.push(Check::new(format!("{name} objects"), complaint));
	}
	let amounts = Amounts {
		tce_calls: TCE_CALLS,
		hpt_calls: TCE_CALLS,
		..Amounts::ALL
	};
	let tests = chosen_tests(args, |test| test.is_also(Also::Checked))?;
	let mut last = names(&registry::tests(), registry::Boot::Debug);
	last.retain(|test| {
		let mut others = KERNELS.iter().filter(|other| other.name != name);
		!others.any(|other| other.own.iter().any(|start| test.starts_with(start)))
	});
	let mut add = |machine: &str, found: Vec<Check>| {
		checks.extend(found.into_iter().map(|mut check| {
			check.name = format!("{machine}{}", check.name);
			check
		}));
	};
	let counted: Vec<_> = [registry::Boot::First, registry::Boot::Second]
		.into_iter()
		.flat_map(|machine| names(&tests, machine))
		.collect();
	if !counted.is_empty() {
		let all = counted.into_iter().chain(last.clone()).collect();
		let machine = Boot::counted(args, series.file(name), APPEND, all);
		let found = boot(args, &image, machine.with(amounts))?;
		add(&format!("{name} "), found);
	}
	let smp = names(&tests, registry::Boot::Smp);
	if !smp.is_empty() {
		// Those are the same with more CPUs.
		last.retain(|test| !test.starts_with(FAILING));
		let all: Vec<_> = smp.into_iter().chain(last).collect();
		let limit = Duration::from_secs(600 + 60 * all.len() as u64);
		let log = series.file(&format!("{name}-smp"));
		let found = boot(
			args,
			&image,
			Boot::parallel(log, APPEND, all, limit).with(amounts),
		)?;
		add(&format!("{name} smp "), found);
	}
	Ok(checks)
}

impl Kernel {
	/// The variables of make that have the compiler instrument objects.
	fn variables(&self) -> Vec<String> {
		let objects = self.instrumented.iter();
		objects
			.map(|object| format!("KASAN_SANITIZE_{object}.o=y"))
			.collect()
	}

	/// What is wrong with the objects: one of them is not instrumented after all, or one breaks the rules, as
	/// by code in a guest's context that is.
	fn complaint(&self, tree: &Path) -> Result<Option<String>> {
		let mut found = gates::rules::of_configuration(tree)?;
		for object in self.instrumented {
			let path = tree.join("arch/powerpc/kvm").join(format!("{object}.o"));
			let data = fs::read(&path).with_context(|| path.display().to_string())?;
			let file = ::object::File::parse(&*data)?;
			let mut names = file.symbols().filter_map(|symbol| symbol.name().ok());
			if !names.any(|name| name.starts_with("__asan_")) {
				found.push(format!("{object} is not instrumented"));
			}
		}
		Ok((!found.is_empty()).then(|| found.join("; ")))
	}
}
