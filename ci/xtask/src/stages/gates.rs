// SPDX-License-Identifier: GPL-2.0-only
//! Stage `gates`: what can be proved of the object that was linked.

use anyhow::{Result, bail};
use harness::check::{self, Found, Tally};
use harness::kernel::{self, Series};

use crate::stage::{MAIN_SERIES, Need, Part, Stage, stage};

/// The crate `gates`, on the kernel under test.
pub const STAGE: Stage = stage("gates", |_| Ok(vec![Part::new(&[Need::Kernel], 1, gates)]));

/// `cargo xtask gates`
pub fn main() -> Result<()> {
	let found = gates()?;
	print!("{}", found.text);
	check::list("gates", found.checks.iter());
	let tally = Tally::of(found.checks.iter());
	println!("\n{}", tally.text());
	if tally.failed > 0 {
		bail!("the object breaks its rules");
	}
	Ok(())
}

fn gates() -> Result<Found> {
	let series = Series::find(MAIN_SERIES)?;
	::gates::rules::run(&kernel::build(series, false)?.tree())
}
