// SPDX-License-Identifier: GPL-2.0-only
//! Stage `kernel`: both kernels are built.

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Series};

use crate::stage::{Need, Part, Stage, stage};

/// The unpatched kernel and the patched one.
pub const STAGE: Stage = stage("kernel", |args| {
	let part = |series| Part::new([Need::Kernel(series)], 1, move || kernel(series)).on(series);
	Ok(args.series()?.into_iter().map(part).collect())
});

fn kernel(series: &'static Series) -> Result<Vec<Check>> {
	let build = |stock| kernel::build(series, stock).map(drop);
	Ok(vec![
		Check::of("unpatched", build(true)),
		Check::of("patched", build(false)),
	])
}
