// SPDX-License-Identifier: GPL-2.0-only
//! Stage `hazards`: what a host may do beside a guest, on a kernel that can do it.
//!
//! The kernel under test of the other stages has none of these options, so the figures of the
//! benchmark do not depend on them.

use std::time::Duration;

use anyhow::Result;
use booted::registry;
use harness::check::Check;
use harness::kernel::{self, Series};
use protocol::Column;

use crate::booted_machine::{Boot, boot, names};
use crate::stage::{Args, Need, Part, Stage, stage};

/// A kernel build, and several machines.
pub const STAGE: Stage = stage("hazards", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		let seconds = if asked(args) { 300 } else { 1 };
		let part = Part::new(needs, seconds, move || hazards(args, series)).on(series);
		// The machines run in real time.
		if asked(args) { part.alone() } else { part }
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

/// What the kernel can do: take CPUs offline; merge equal pages; start another kernel, also after a
/// panic, and read the memory of the kernel before; encrypt a disk in memory with vector registers.
const OPTIONS: [&str; 13] = [
	"HOTPLUG_CPU",
	"KSM",
	"KEXEC_FILE",
	"CRASH_DUMP",
	"PROC_VMCORE",
	"BLK_DEV",
	"BLK_DEV_RAM",
	"MD",
	"BLK_DEV_DM",
	"DM_CRYPT",
	"CRYPTO",
	"CRYPTO_DEV_VMX",
	"CRYPTO_DEV_VMX_ENCRYPT",
];

/// Memory for a kernel that runs after a panic.
const SUCCESSOR: &str = "crashkernel=448M";
/// One that ends the kernel, and one for each of the guests.
const CPUS: u32 = 3;

fn asked(args: &Args) -> bool {
	args.all || args.names("hazards")
}

fn hazards(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	if !asked(args) {
		let why = "a kernel build; with --all or by name";
		return Ok(vec![Check::skipped(
			"what the host does beside a guest",
			why,
		)]);
	}
	let mut tests = registry::tests();
	if !args.booted.is_empty() {
		tests.retain(|test| args.booted.iter().any(|start| test.name.starts_with(start)));
	}
	let image = kernel::build_options(series, "hazards", &OPTIONS, &[])?;
	let beside = names(&tests, registry::Boot::Hazards);
	let mut checks = Vec::new();
	if !beside.is_empty() {
		let limit = Duration::from_secs(240 + 60 * beside.len() as u64);
		let machine = Boot::parallel(series.file("hazards"), "", beside, limit);
		checks.extend(boot(args, &image, machine)?);
	}
	for path in [Column::C, Column::RustFull, Column::RustFast] {
		let mut tests = names(&tests, registry::Boot::Kexec);
		tests.retain(|test| test.ends_with(&format!("-{}", path.name())));
		// A machine crashes once.
		let (reset, others): (Vec<_>, Vec<_>) = tests
			.into_iter()
			.partition(|test| test.starts_with("crash-reset-"));
		for (name, tests) in [("kexec", others), ("reset", reset)] {
			if tests.is_empty() {
				continue;
			}
			let log = format!("{}-{}", series.file(name), path.name());
			let machine = Boot::parallel(log, SUCCESSOR, tests, Duration::from_secs(300));
			checks.extend(boot(args, &image, machine.with_successor(CPUS))?);
		}
	}
	Ok(checks)
}
