// SPDX-License-Identifier: GPL-2.0-only
//! How far the figures of several runs lie apart.

use crate::console::Cell;
use crate::measure::Summary;
use crate::report::Report;
use crate::table::{Table, figure};

/// One figure, over several runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Spread {
	/// Which.
	pub cell: Cell,
	/// Of the runs' medians.
	pub medians: Summary,
}

/// The spread of each figure that all the runs have, worst first.
pub fn between(runs: &[Report]) -> Vec<Spread> {
	let Some((first, others)) = runs.split_first() else {
		return Vec::new();
	};
	let mut spreads: Vec<Spread> = first
		.results
		.iter()
		.filter_map(|entry| {
			let cell = entry.cell();
			let mut medians = vec![entry.instructions.median];
			for run in others {
				medians.push(run.median(cell.case, cell.guest, cell.path)?);
			}
			Some(Spread {
				cell,
				medians: Summary::of(medians)?,
			})
		})
		.collect();
	spreads.sort_by(|a, b| b.medians.spread().total_cmp(&a.medians.spread()));
	spreads
}

/// As a table.
pub fn render(spreads: &[Spread]) -> String {
	let mut table = Table::new(
		3,
		&["case", "guest", "path", "min", "median", "max", "spread"],
	);
	for Spread { cell, medians } in spreads {
		table.row([
			cell.case.name.to_owned(),
			cell.guest.name().to_owned(),
			cell.path.name().to_owned(),
			figure(Some(medians.min)),
			figure(Some(medians.median)),
			figure(Some(medians.max)),
			format!("{:.4}%", 100.0 * medians.spread()),
		]);
	}
	table.render()
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::tests::sample;

	#[test]
	fn the_worst_comes_first() {
		let (one, mut two) = (sample(), sample());
		two.results[1].instructions.median += 22.3;
		let spreads = between(&[one, two]);
		assert_eq!(spreads.len(), 5);
		assert_eq!(spreads[0].cell, sample().results[1].cell());
		assert!(
			(spreads[0].medians.spread() - 0.01).abs() < 1e-3,
			"{:?}",
			spreads[0]
		);
		assert_eq!(spreads[1].medians.spread(), 0.0);
		assert!(render(&spreads).contains("h_prod"));
	}

	#[test]
	fn nothing_comes_of_nothing() {
		assert!(between(&[]).is_empty());
	}
}
