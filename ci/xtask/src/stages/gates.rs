// SPDX-License-Identifier: GPL-2.0-only
//! Stage `gates`: what can be proved of the object that was linked.

use anyhow::{Result, bail};
use harness::check::{self, Found, Tally};
use harness::kernel::{self, Series};

use crate::stage::{Need, Part, Stage, stage};

/// The crate `gates`, on the kernel under test.
pub const STAGE: Stage = stage("gates", |args| {
	let part = |series| Part::new([Need::Kernel(series)], 1, move || gates(series)).on(series);
	Ok(args.series()?.into_iter().map(part).collect())
});

/// `cargo xtask gates`
pub fn main() -> Result<()> {
	let found = gates(Series::main())?;
	print!("{}", found.text);
	check::list("gates", found.checks.iter());
	let tally = Tally::of(found.checks.iter());
	println!("\n{}", tally.text());
	if tally.failed > 0 {
		bail!("the object breaks its rules");
	}
	Ok(())
}

fn gates(series: &'static Series) -> Result<Found> {
	::gates::rules::run(&kernel::build(series, false)?.tree())
}
