// SPDX-License-Identifier: GPL-2.0-only
//! Stage `timing`: the kernel's own account of where time goes.

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Series};
use protocol::Guest;

use crate::booted_machine::{Boot, Names, boot};
use crate::stage::{Args, MAIN_SERIES, Need, Part, Stage, stage};

/// A kernel of its own, with CONFIG_KVM_BOOK3S_HV_P9_TIMING.
pub const STAGE: Stage = stage("timing", |args| {
	let needs = &[Need::Kernel, Need::Programs];
	Ok(vec![Part::new(needs, 1, || timing(args))])
});

/// The kernel's own account of where time goes, C's and ours, in a kernel that keeps it.
fn timing(args: &Args) -> Result<Vec<Check>> {
	let tests = Guest::RADIX.map(|guest| format!("timings-{}", guest.name()));
	if !args.all && !args.names("timing") {
		let why = "a kernel of its own; with --all or by name";
		return Ok(tests.map(|name| Check::skipped(name, why)).into());
	}
	let option = "KVM_BOOK3S_HV_P9_TIMING";
	let image = kernel::build_option(Series::find(MAIN_SERIES)?, option)?;
	boot(
		args,
		&image,
		Boot::counted(
			args,
			"timing".to_owned(),
			"",
			Names::These(tests.to_vec()),
			tests.to_vec(),
		),
	)
}
