// SPDX-License-Identifier: GPL-2.0-only
//! Stage `stock`: C's path in our image costs what it costs in an unpatched kernel.

use anyhow::Result;
use harness::check::Check;

use crate::bench;
use crate::stage::{Need, Part, Stage, stage};

/// Both kernels are measured.
pub const STAGE: Stage = stage("stock", |_| {
	Ok(vec![
		Part::new(&[Need::Kernel, Need::Programs], 60, stock).alone(),
	])
});

fn stock() -> Result<Vec<Check>> {
	let (compared, problems) = bench::compare_stock()?;
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
