// SPDX-License-Identifier: GPL-2.0-only
//! Stage `timing`: the kernel's own account of where time goes.

use anyhow::Result;
use booted::registry;
use harness::check::Check;
use harness::kernel::{self, Series};

use crate::booted_machine::{Boot, boot, names};
use crate::stage::{Args, Need, Part, Stage, stage};

/// A kernel of its own, with CONFIG_KVM_BOOK3S_HV_P9_TIMING.
pub const STAGE: Stage = stage("timing", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		Part::new(needs, 1, move || timing(args, series)).on(series)
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

/// The kernel's own account of where time goes, C's and ours, in a kernel that keeps it.
fn timing(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	let tests = names(&registry::tests(), registry::Boot::Timing);
	if !args.all && !args.names("timing") {
		let why = "a kernel of its own; with --all or by name";
		let skipped = |name| Check::skipped(name, why);
		return Ok(tests.into_iter().map(skipped).collect());
	}
	let option = "KVM_BOOK3S_HV_P9_TIMING";
	let image = kernel::build_options(series, &option.to_lowercase(), &[option], &[])?;
	let machine = Boot::counted(args, series.file("timing"), "", tests);
	boot(args, &image, machine)
}
