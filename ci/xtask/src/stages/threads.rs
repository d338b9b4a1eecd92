// SPDX-License-Identifier: GPL-2.0-only
//! Stage `threads`: booted tests on a machine of one core with four threads.
//!
//! KVM on a POWER9 enters a guest on each thread of its own accord, while the host or other guests
//! run on the other threads of the core.

use std::time::Duration;

use anyhow::Result;
use booted::registry::{self, Also};
use harness::check::Check;
use harness::kernel::{self, Series};

use crate::booted_machine::{Boot, boot, chosen_tests, names};
use crate::stage::{Args, Need, Part, Stage, stage};

/// Threads of a core of a POWER9 with SMT4.
const THREADS: u32 = 4;

/// One machine, whose CPUs run at the same time.
pub const STAGE: Stage = stage("threads", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		let seconds = if asked(args) { 120 } else { 1 };
		let part = Part::new(needs, seconds, move || threads(args, series)).on(series);
		if asked(args) { part.alone() } else { part }
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

fn asked(args: &Args) -> bool {
	args.all || args.names("threads")
}

/// The tests of CPUs that run at the same time, if their path is that with fast handlers, or if they
/// choose paths.
fn threads(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	if !asked(args) {
		let why = "one more machine; with --all or by name";
		return Ok(vec![Check::skipped("a core of four threads", why)]);
	}
	let tests = chosen_tests(args, |test| test.is_also(Also::Checked))?;
	let tests = names(&tests, registry::Boot::Smp);
	if tests.is_empty() {
		return Ok(Vec::new());
	}
	let image = kernel::build(series, false)?;
	let limit = Duration::from_secs(600 + 60 * tests.len() as u64);
	let machine = Boot::parallel(series.file("threads"), "", tests, limit);
	boot(args, &image, machine.of_threads(THREADS))
}
