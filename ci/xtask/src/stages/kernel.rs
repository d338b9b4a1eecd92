// SPDX-License-Identifier: GPL-2.0-only
//! Stage `kernel`: both kernels are built.

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Series};

use crate::stage::{MAIN_SERIES, Need, Part, Stage, stage};

/// The unpatched kernel and the patched one.
pub const STAGE: Stage = stage("kernel", |_| {
	Ok(vec![Part::new(&[Need::Kernel], 1, kernel)])
});

fn kernel() -> Result<Vec<Check>> {
	let series = Series::find(MAIN_SERIES)?;
	let build = |stock| kernel::build(series, stock).map(drop);
	Ok(vec![
		Check::of(format!("{MAIN_SERIES} unpatched"), build(true)),
		Check::of(format!("{MAIN_SERIES} patched"), build(false)),
	])
}
