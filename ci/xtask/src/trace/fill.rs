// SPDX-License-Identifier: GPL-2.0-only
//! Adds to each figure of a report what its round trip consists of.

use ::report::measure;
use ::report::report::{self, Report};
use anyhow::Result;

use super::boot::Outcome;
use super::traced::Traced;
use harness::kernel::Image;
use harness::process::say;

/// Fills in what a report's figures consist of, as each image's traced run has it. Returns
/// what is wrong.
pub fn fill(report: &mut Report, outcomes: Vec<(&Image, Result<Outcome>)>) -> Vec<String> {
	let mut problems = Vec::new();
	let model = match model::Fitting::new(model::POWER9) {
		Ok(model) => Some(model),
		Err(error) => {
			problems.push(format!(
				"bench/model/power9.toml: {error}: no modelled cycles"
			));
			None
		}
	};
	for (image, outcome) in outcomes {
		match outcome {
			Ok(outcome) => {
				let alike = outcome
					.traced
					.iter()
					.filter(|one| one.same == one.of)
					.count();
				say(format_args!(
					"traced on {}: {} cells, in {alike} of them every round trip was the same",
					image.series,
					outcome.traced.len()
				));
				let means = outcome.traced.iter().filter(|one| one.trips > 1).count();
				if means > 0 {
					say(format_args!(
						"in {means} cells no round trip stands for the others: what is told is their mean"
					));
				}
				problems.extend(outcome.problems);
				for one in outcome.traced {
					problems.extend(one.put_into(report, model.as_ref()));
				}
			}
			Err(error) => problems.push(format!("tracing on {}: {error:#}", image.series)),
		}
	}
	problems
}

impl Traced {
	/// Fills in the cell's figure; says if it is another round trip than the figure's.
	fn put_into(self, report: &mut Report, model: Option<&model::Fitting>) -> Option<String> {
		let cell = self.cell;
		let entry = report
			.results
			.iter_mut()
			.find(|entry| entry.cell() == cell)?;
		let measured = entry.instructions.median;
		let traced = self.instructions;
		let sum: f64 = self.phases.iter().map(|phase| phase.instructions).sum();
		let summed = self.phases.is_empty() || (sum - traced).abs() < 0.01;
		// Where rounds differ, the figure is their mean and this the most frequent one.
		let tolerance = measured
			* if self.trips == 1 && self.same == self.of {
				SAME
			} else if self.trips == 1 {
				VARIED
			} else {
				UNLIKE
			};
		let tolerance = tolerance.max(EXACT + measure::resolution(entry.iterations));
		entry.phases = self.phases;
		entry.costly = Some(self.costly);
		entry.longest = Some(self.longest);
		if let Some(model) = model {
			let prediction = model.predict(&self.steps, &self.empty, self.trips);
			let round = |cycles: f64| (cycles * 10.0).round() / 10.0;
			entry.modelled_cycles = Some(report::Modelled {
				median: round(prediction.cycles),
				error: round(prediction.error),
			});
			for phase in &mut entry.phases {
				let found = prediction
					.phases
					.iter()
					.find(|(known, _)| known.to_string() == phase.name);
				phase.modelled_cycles = found.map(|&(_, cycles)| round(cycles));
			}
		}
		if !summed {
			return Some(format!(
				"{cell}: the phases have {sum} instructions of {traced}"
			));
		}
		((traced - measured).abs() > tolerance).then(|| {
			format!("{cell}: the plugin counted {traced} instructions, the timebase {measured}")
		})
	}
}

/// How far a figure, which is a median over batches, may be from the round trip, in
/// instructions. Nothing, but a figure has three digits after its point.
const EXACT: f64 = 0.01;
/// As a part of it, where all recorded rounds were alike: what the host does once in
/// hundreds of exits to userspace is in every batch, but hardly in what was recorded: up to
/// 6 of the 5500 instructions of an MMIO access by a hash guest.
const SAME: f64 = 0.002;
/// The same where they were not.
const VARIED: f64 = 0.02;
/// The same where hardly two were: the recorded ones are few, and the host's allocator
/// is not in the same state as in the boot that measures. CI has seen a page's first touch
/// with half as much again. That nothing is lost is tested against the timebase of the same
/// boot, and exactly.
const UNLIKE: f64 = 1.0;
