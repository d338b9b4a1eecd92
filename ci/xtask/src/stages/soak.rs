// SPDX-License-Identifier: GPL-2.0-only
//! Stage `soak`: everything at once, for minutes.

use std::time::Duration;

use anyhow::Result;
use booted::job::Amounts;
use booted::registry;
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::process::Usage;

use crate::booted_machine::{Boot, boot, names};
use crate::stage::{Args, Need, Part, Stage, stage};

/// Only when it is asked for.
pub const STAGE: Stage = stage("soak", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		let work = move || soak(args, series);
		Part::new(needs, 1, work).on(series).alone()
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

fn soak(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	let tests = names(&registry::tests(), registry::Boot::Soak);
	if args.soak.is_none() && !args.names("soak") {
		let skipped = |name| Check::skipped(name, "ten minutes; with --soak");
		return Ok(tests.into_iter().map(skipped).collect());
	}
	let minutes = args.soak.unwrap_or(Amounts::default().soak_minutes);
	if minutes == 0 {
		return Err(Usage("--soak=0 tests nothing".to_owned()).into());
	}
	let time = Duration::from_secs(60 * minutes);
	let limit = 2 * time + Duration::from_secs(300);
	let image = kernel::build(series, false)?;
	boot(
		args,
		&image,
		Boot::parallel(series.file("soak"), "", tests, limit),
	)
}
