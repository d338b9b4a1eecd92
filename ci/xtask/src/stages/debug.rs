// SPDX-License-Identifier: GPL-2.0-only
//! Stage `debug`: booted tests on a kernel that checks itself.
//!
//! A warning in the kernel's log fails the test during which it appears, as in each stage. The last
//! test of each machine looks at the log from the boot on. Before it come tests that need a device which
//! the kernel under test does not have.

use std::time::Duration;

use anyhow::Result;
use booted::job::Amounts;
use booted::registry::{self, Also};
use harness::check::Check;
use harness::kernel::{self, Series};

use crate::booted_machine::{Boot, boot, chosen_tests, names};
use crate::stage::{Args, Need, Part, Stage, stage};

/// A whole kernel build, and two machines.
pub const STAGE: Stage = stage("debug", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		let seconds = if asked(args) { 900 } else { 1 };
		let part = Part::new(needs, seconds, move || debug(args, series)).on(series);
		// The machines are slow enough alone.
		if asked(args) { part.alone() } else { part }
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

/// What the kernel checks: locks and RCU; preemption, and sleeping where it is disabled; lists; the
/// masking of interrupts in software; what an interrupt returns to; access to user memory. And a RAM disk,
/// for `shared-file-*`.
const OPTIONS: [&str; 10] = [
	"PREEMPT",
	"DEBUG_PREEMPT",
	"PROVE_LOCKING",
	"DEBUG_ATOMIC_SLEEP",
	"DEBUG_LIST",
	"PPC_IRQ_SOFT_MASK_DEBUG",
	"PPC_RFI_SRR_DEBUG",
	"PPC_KUAP_DEBUG",
	"BLK_DEV",
	"BLK_DEV_RAM",
];

/// The checks make each hcall slow, and a report comes with an early one.
const TCE_CALLS: u64 = 4096;

fn asked(args: &Args) -> bool {
	args.all || args.names("debug")
}

fn debug(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	if !asked(args) {
		let why = "a whole kernel build; with --all or by name";
		return Ok(vec![Check::skipped("a kernel that checks itself", why)]);
	}
	let image = kernel::build_options(series, "debug", &OPTIONS)?;
	let amounts = Amounts {
		tce_calls: TCE_CALLS,
		hpt_calls: TCE_CALLS,
		..Amounts::ALL
	};
	let tests = chosen_tests(args, |test| test.is_also(Also::Checked))?;
	let last = names(&registry::tests(), registry::Boot::Debug);
	let mut checks = Vec::new();
	let counted: Vec<_> = [registry::Boot::First, registry::Boot::Second]
		.into_iter()
		.flat_map(|machine| names(&tests, machine))
		.collect();
	if !counted.is_empty() {
		let all = counted.into_iter().chain(last.clone()).collect();
		let machine = Boot::counted(args, series.file("debug"), "", all);
		checks.extend(boot(args, &image, machine.with(amounts))?);
	}
	let smp = names(&tests, registry::Boot::Smp);
	if !smp.is_empty() {
		let all: Vec<_> = smp.into_iter().chain(last).collect();
		let limit = Duration::from_secs(600 + 60 * all.len() as u64);
		let machine = Boot::parallel(series.file("debug-smp"), "", all, limit);
		let found = boot(args, &image, machine.with(amounts))?;
		checks.extend(found.into_iter().map(|mut check| {
			check.name = format!("smp {}", check.name);
			check
		}));
	}
	Ok(checks)
}
