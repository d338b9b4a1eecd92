// SPDX-License-Identifier: GPL-2.0-only
//! From ticks of the timebase to instructions per round trip.
//!
//! Under `-icount shift=0` QEMU's virtual time advances one nanosecond per
//! instruction, and a POWER9's timebase runs at 512 MHz of that time. The guest
//! times a whole batch and reads the timebase only at its ends, so the error is a
//! tick or two per batch, independent of the number of round trips in the batch.

use serde::{Deserialize, Serialize};

use crate::console::Measured;

/// Instructions per 512 ticks.
const PER_512_TICKS: f64 = 1000.0;

/// Least, middle and greatest of some figures.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Summary {
	/// Least.
	pub min: f64,
	/// Middle; of an even number, the mean of the two in the middle.
	pub median: f64,
	/// Greatest.
	pub max: f64,
}

impl Summary {
	/// `None` if there are no figures.
	pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
		let mut figures: Vec<f64> = figures.into_iter().collect();
		figures.sort_by(f64::total_cmp);
		let (&min, &max) = (figures.first()?, figures.last()?);
		let half = figures.len() / 2;
		let median = if figures.len() % 2 == 1 {
			figures[half]
		} else {
			(figures[half - 1] + figures[half]) / 2.0
		};
		Some(Self { min, median, max })
	}

	/// With each figure replaced.
	fn map(self, f: impl Fn(f64) -> f64) -> Self {
		Self {
			min: f(self.min),
			median: f(self.median),
			max: f(self.max),
		}
	}

	/// Distance between greatest and least, relative to the middle.
	pub fn spread(&self) -> f64 {
		if self.min == self.max {
			0.0
		} else {
			(self.max - self.min) / self.median.abs()
		}
	}
}

/// What one [`Measured`] means, in instructions per round trip.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
	/// The round trip, without the loop around it.
	pub call: Summary,
	/// The empty loop.
	pub empty: Summary,
}

/// Computes the cost of a round trip; an error if the figures can't be true.
pub fn cost(measured: &Measured) -> Result<Cost, String> {
	let cell = measured.cell;
	if measured.iterations == 0 {
		return Err(format!("{cell}: no iterations"));
	}
	let per_call = |ticks: f64| ticks * PER_512_TICKS / 512.0 / measured.iterations as f64;
	let summary = |ticks: &[u64]| Summary::of(ticks.iter().map(|&ticks| per_call(ticks as f64)));
	let (Some(empty), Some(total)) = (summary(&measured.empty_ticks), summary(&measured.ticks))
	else {
		return Err(format!("{cell}: no batches"));
	};
	if empty.median <= 0.0 || total.min <= empty.median {
		return Err(format!(
			"{cell}: {:.2} instructions per round trip, but {:.2} for the empty loop",
			total.min, empty.median
		));
	}
	let call = total.map(|figure| figure - empty.median);
	// A tick is two instructions of a whole batch: more digits mean nothing.
	let round = |figure: f64| (figure * 1000.0).round() / 1000.0;
	Ok(Cost {
		call: call.map(round),
		empty: empty.map(round),
	})
}

/// What two ticks, one at each end of a batch, amount to per round trip.
pub fn resolution(iterations: u64) -> f64 {
	2.0 * PER_512_TICKS / 512.0 / iterations as f64
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::console::Cell;
	use cases::case;
	use protocol::{Column, GuestMode};

	fn measured(iterations: u64, empty: &[u64], ticks: &[u64]) -> Measured {
		Measured {
			cell: Cell {
				case: case!("null"),
				guest: GuestMode::Real,
				path: Column::C,
			},
			iterations,
			empty_ticks: empty.to_vec(),
			ticks: ticks.to_vec(),
			fast: None,
			spans: vec![],
		}
	}

	#[test]
	fn medians() {
		assert_eq!(Summary::of([]), None);
		let odd = Summary::of([3.0, 1.0, 2.0]).unwrap();
		assert_eq!(
			odd,
			Summary {
				min: 1.0,
				median: 2.0,
				max: 3.0
			}
		);
		assert_eq!(Summary::of([4.0, 1.0, 2.0, 9.0]).unwrap().median, 3.0);
		assert_eq!(Summary::of([7.0]).unwrap().spread(), 0.0);
		assert_eq!(odd.spread(), 1.0);
		assert_eq!(Summary::of([0.0, 0.0]).unwrap().spread(), 0.0);
	}

	#[test]
	fn ticks_become_instructions_without_the_loop() {
		// 100 round trips of 10 loop and 190 other instructions.
		let cost = cost(&measured(100, &[512, 512, 512], &[10240, 10241, 10240])).unwrap();
		assert_eq!(cost.empty.median, 10.0);
		assert_eq!(cost.call.median, 190.0);
		assert_eq!(cost.call.min, 190.0);
		assert_eq!(cost.call.max, 190.02);
	}

	#[test]
	fn short_batches_are_coarse() {
		assert_eq!(resolution(1), 3.90625);
		assert!(resolution(500) < 0.01);
	}

	#[test]
	fn impossible_figures_are_refused() {
		assert!(cost(&measured(0, &[1], &[2])).is_err());
		assert!(cost(&measured(1, &[], &[2])).is_err());
		assert!(cost(&measured(1, &[1], &[])).is_err());
		assert!(cost(&measured(1, &[3], &[3])).is_err());
		assert!(cost(&measured(1, &[0], &[3])).is_err());
	}
}
