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

use crate::booted_machine::{Boot, boot, names};
use crate::stage::{Args, Need, Part, Stage, stage};

/// A kernel build, and a machine.
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

/// What the kernel can do: take CPUs offline.
const OPTIONS: [&str; 1] = ["HOTPLUG_CPU"];

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
	let image = kernel::build_options(series, "hazards", &OPTIONS)?;
	let beside = names(&tests, registry::Boot::Hazards);
	let mut checks = Vec::new();
	if !beside.is_empty() {
		let limit = Duration::from_secs(240 + 60 * beside.len() as u64);
		let machine = Boot::parallel(series.file("hazards"), "", beside, limit);
		checks.extend(boot(args, &image, machine)?);
	}
	Ok(checks)
}
