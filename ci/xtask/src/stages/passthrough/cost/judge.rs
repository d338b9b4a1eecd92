// SPDX-License-Identifier: GPL-2.0-only
//! Judges the costs: the rounds of a path agree, and no path costs more than it may.

use anyhow::anyhow;
use harness::check::Check;
use protocol::Column;

use super::costs::{Cost, mean};
use super::section::PATHS;

/// How far the two rounds on a path may lie apart, and how much more than C's path the
/// full Rust path may need: parts of the TCE hcalls' share.
const STEADY: f64 = 0.02;
const NOT_MORE: f64 = 0.005;
/// What the fast handlers may need of C's share.
const FAST: f64 = 0.5;

/// Judges the costs of all sections.
pub(super) fn judge(costs: &[Cost]) -> Vec<Check> {
	let mut checks = Vec::new();
	for path in PATHS {
		let shares: Vec<f64> = costs
			.iter()
			.filter(|cost| cost.path == path.name())
			.map(|cost| cost.tce_per_read)
			.collect();
		let result = match shares[..] {
			[one, other] if (one - other).abs() <= STEADY * one.min(other) => Ok(()),
			_ => Err(anyhow!(
				"TCE hcalls take {shares:.1?} instructions per read"
			)),
		};
		checks.push(Check::of(
			format!("cost, steady on {}", path.name()),
			result,
		));
	}
	let share = |path| mean(costs, path, |cost| cost.tce_per_read);
	let at_most = |path: Column, part: f64| {
		let result = match (share(path), share(Column::C)) {
			(Some(ours), Some(c)) if ours <= part * c => Ok(()),
			(Some(ours), Some(c)) => Err(anyhow!(
				"{ours:.0} instructions per read, and C's {c:.0}: {:.1}%, not {:.1}%",
				ours / c * 100.0,
				part * 100.0
			)),
			_ => Err(anyhow!("not measured")),
		};
		Check::of(format!("cost, TCE hcalls on {}", path.name()), result)
	};
	checks.push(at_most(Column::RustFull, 1.0 + NOT_MORE));
	checks.push(at_most(Column::RustFast, FAST));
	checks
}

#[cfg(test)]
mod tests {
	use super::super::sample::costs;
	use super::*;
	use harness::check::Verdict;

	fn failed(costs: &[Cost]) -> Vec<String> {
		judge(costs)
			.into_iter()
			.filter(|check| matches!(check.verdict, Verdict::Failed(_)))
			.map(|check| check.name)
			.collect()
	}

	#[test]
	fn each_way_to_cost_too_much() {
		let none: [&str; 0] = [];
		assert_eq!(failed(&costs([1000, 1000, 400])), none);
		// 1050 and 525 with the firmware's part.
		assert_eq!(failed(&costs([1000, 1000, 475])), none);
		assert_eq!(
			failed(&costs([1000, 1000, 476])),
			["cost, TCE hcalls on rust-fast"]
		);
		assert_eq!(
			failed(&costs([1000, 1020, 400])),
			["cost, TCE hcalls on rust-full"]
		);
		let mut unsteady = costs([1000, 1000, 400]);
		unsteady[4] = Cost {
			tce_per_read: 1.03 * unsteady[4].tce_per_read,
			..unsteady[4].clone()
		};
		unsteady[0].tce_per_read *= 1.02;
		assert_eq!(failed(&unsteady), ["cost, steady on rust-full"]);
		assert_eq!(failed(&[]).len(), 5);
	}
}
