// SPDX-License-Identifier: GPL-2.0-only
//! What is measured: cases, round trips of a batch, and batches.

use std::time::Duration;

use ::report::console::Cell;
use cases::Case;
use harness::programs::Job;
use protocol::{Column, GuestMode};

/// What to measure, how often.
///
/// The host's timer ticks every 10 million instructions. A batch takes a fraction
/// of that, so most batches see no tick, and the median is the cost without it.
pub struct Plan {
	/// Cases, and how many round trips a batch of them has.
	pub groups: Vec<(Vec<&'static Case>, u64)>,
	/// Batches of each.
	pub batches: u64,
	/// Only guests in these modes.
	pub guests: &'static [GuestMode],
	/// How long a machine may say nothing.
	pub silence: Duration,
}

impl Plan {
	/// A plan for these cases; `timeout` in seconds.
	pub fn new(quick: bool, cases: Vec<&'static Case>, timeout: u64) -> Self {
		let (iterations, batches) = if quick { (500, 15) } else { (1000, 25) };
		let mut groups: Vec<(Vec<&'static Case>, u64)> = Vec::new();
		for case in cases {
			let size = iterations / case.weight;
			match groups.iter_mut().find(|group| group.1 == size) {
				Some((cases, _)) => cases.push(case),
				None => groups.push((vec![case], size)),
			}
		}
		Self {
			groups,
			batches,
			guests: &GuestMode::ALL,
			silence: Duration::from_secs(timeout),
		}
	}

	/// The jobs of a kernel series, for the VMM: one for each size of batches.
	pub fn jobs(&self, series: &str, paths: &[Column], spans: bool) -> Vec<Job> {
		let job = |(cases, iterations): &(Vec<&'static Case>, u64)| Job::Bench {
			series: series.to_owned(),
			cases: cases.iter().map(|case| case.name).collect(),
			guests: self.guests.iter().map(|guest| guest.name()).collect(),
			paths: paths.iter().map(|path| path.name()).collect(),
			iterations: *iterations,
			batches: self.batches,
			spans,
		};
		self.groups.iter().map(job).collect()
	}

	/// The cases.
	pub fn cases(&self) -> impl Iterator<Item = &'static Case> {
		self.groups.iter().flat_map(|(cases, _)| cases).copied()
	}

	pub(super) fn cells(&self, paths: &[Column]) -> Vec<Cell> {
		let mut cells = Vec::new();
		for case in self.cases() {
			for &guest in case.modes.iter().filter(|mode| self.guests.contains(mode)) {
				cells.extend(paths.iter().map(|&path| Cell { case, guest, path }));
			}
		}
		cells
	}
}

#[cfg(test)]
mod tests {
	use cases::{CASES, case};
	use protocol::map;

	use super::*;
	use crate::cells::chosen_cases;

	fn plan(names: &[&str]) -> Plan {
		let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
		Plan::new(true, chosen_cases(Some(&names)).unwrap(), 1)
	}

	#[test]
	fn large_cases_have_smaller_batches() {
		let plan = plan(&["h_stuff_tce_512", "null", "null"]);
		assert_eq!(plan.groups.len(), 2);
		assert_eq!(plan.groups[0].0, [case!("h_stuff_tce_512")]);
		assert_eq!(plan.groups[1].0, [case!("null")]);
		assert!(plan.groups[1].1 > plan.groups[0].1 && plan.groups[0].1 > 0);
		assert_eq!(plan.cells(&[Column::C]).len(), 8);
	}

	#[test]
	fn guests_can_be_left_out() {
		let plan = Plan {
			guests: &[GuestMode::Radix],
			..plan(&["null", "h_prod"])
		};
		let cells = plan.cells(&[Column::C]);
		assert_eq!(cells.len(), 2);
		assert!(cells.iter().all(|cell| cell.guest == GuestMode::Radix));
	}

	#[test]
	fn every_case_has_round_trips_and_a_guest() {
		for quick in [true, false] {
			let plan = Plan::new(quick, CASES.iter().collect(), 1);
			let planned: usize = plan.groups.iter().map(|(cases, _)| cases.len()).sum();
			assert_eq!(planned, CASES.len());
			assert!(plan.groups.iter().all(|&(_, iterations)| iterations > 0));
			for (cases, iterations) in &plan.groups {
				assert!(!cases.contains(&case!("first_touch")) || *iterations <= map::FRESH_PAGES);
			}
			let cells = plan.cells(&Column::ALL);
			for case in CASES {
				assert!(cells.iter().any(|cell| cell.case == case), "{}", case.name);
			}
		}
	}
}
