// SPDX-License-Identifier: GPL-2.0-only
//! Stage `stock`: C's path in our image costs what it costs in an unpatched kernel.

use anyhow::Result;
use harness::check::Check;

use harness::kernel::{self, Series};

use crate::stage::{Need, Part, Stage, stage};
use crate::{bench, counted};

/// Both kernels are measured.
pub const STAGE: Stage = stage("stock", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		Part::new(needs, 60, move || {
			let images = [kernel::build_fixed(series)?, kernel::build(series, false)?];
			let name = series.file("stock");
			counted::checks(&name, args.all, &images.each_ref(), || stock(series))
		})
		.on(series)
		.alone()
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

fn stock(series: &'static Series) -> Result<Vec<Check>> {
	let (compared, problems) = bench::compare_stock(series)?;
	let mut checks: Vec<Check> = compared
		.iter()
		.map(|one| {
			let (stock, patched) = (one.stock, one.patched);
			let complaint = (!one.holds())
				.then(|| format!("{stock:.2} instructions unpatched, {patched:.2} patched"));
			Check::new(one.cell.to_string(), complaint)
		})
		.collect();
	checks.extend(
		problems
			.into_iter()
			.map(|problem| Check::new("figure", Some(problem))),
	);
	Ok(checks)
}
