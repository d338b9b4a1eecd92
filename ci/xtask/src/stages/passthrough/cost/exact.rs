// SPDX-License-Identifier: GPL-2.0-only
//! Whether spans have the instructions that were executed: the guest's timebase tells.

use std::time::Duration;

use ::report::console::{self, Cell, Line, Measured};
use ::report::measure;
use ::trace::span::{self, ExitReason};
use anyhow::{Context, Result, ensure};
use cases::{Case, case};
use hcall::Number;
use protocol::{Column, GuestMode};

use super::section::PATHS;
use super::span_group::SpanGroup;
use crate::spans::{Spans, read};
use harness::check::Check;
use harness::kernel::Image;
use harness::process;
use harness::programs::{self, Job};
use harness::qemu::{Echo, Limits, Machine};

/// Cases of the benchmark that are done to find out whether spans are exact.
const CALIBRATED: [(&Case, Number); 2] = [
	(case!("h_get_tce"), Number::GET_TCE),
	(case!("h_put_tce_indirect_16"), Number::PUT_TCE_INDIRECT),
];

/// So few that the host's timer doesn't come into most batches.
const ITERATIONS: u64 = 64;
const BATCHES: u64 = 3;

/// What rounding may do to a figure.
const ROUNDING: f64 = 0.001;

/// For a boot that takes some seconds on an idle machine.
const TIME: Duration = Duration::from_secs(300);

/// Whether the spans of a case are as long as the guest's timebase says.
fn exact(
	measured: &[Measured],
	recorded: &[span::Recording],
	case: &'static Case,
	number: Number,
	path: Column,
) -> Result<()> {
	let of_cell = |cell: Cell| (cell.case, cell.guest, cell.path) == (case, GuestMode::Radix, path);
	let measured = measured
		.iter()
		.find(|measured| of_cell(measured.cell))
		.context("the guest has measured nothing")?;
	let told = measure::cost(measured)
		.map_err(anyhow::Error::msg)?
		.call
		.median;
	let tag = cases::tag(case, GuestMode::Radix, path);
	let spans = recorded
		.iter()
		.find(|section| section.tag == tag)
		.and_then(|section| {
			SpanGroup::new(case.name, &section.spans, |event| {
				event == ExitReason::Hcall(number.0)
			})
		})
		.context("no spans")?;
	let least = ITERATIONS * BATCHES;
	ensure!(spans.spans >= least, "only {} spans", spans.spans);
	// The guest's own part of the round trip is `sc 1`.
	let counted = spans.median as f64 + 1.0;
	// The empty loop's figure is off by as much as the other.
	let tolerance = 2.0 * measure::resolution(ITERATIONS) + ROUNDING;
	ensure!(
		(told - counted).abs() <= tolerance,
		"the spans have {counted} instructions, the timebase says {told}"
	);
	Ok(())
}

impl Spans {
	/// Has the benchmark's guest do TCE hcalls, of which its timebase says what they take,
	/// on this file. It is gone afterwards.
	pub fn calibrate(&self, image: &Image) -> Result<Vec<Check>> {
		let job = Job::Bench {
			series: image.series.clone(),
			cases: CALIBRATED.map(|(case, _)| case.name).to_vec(),
			guests: vec![GuestMode::Radix.name()],
			paths: PATHS.map(|path| path.name()).to_vec(),
			iterations: ITERATIONS,
			batches: BATCHES,
			spans: false,
		};
		let machine = Machine {
			kernel: image.stripped(),
			initrd: programs::build()?.initrd(&job, "cost")?,
			append: String::new(),
			smp: 1,
			threads: 1,
			mem: "2G".to_owned(),
			icount: true,
		};
		let options = self.options()?;
		let options: Vec<&str> = options.iter().map(String::as_str).collect();
		let limits = Limits {
			total: TIME,
			silence: TIME,
		};
		let mut measured = Vec::new();
		machine.run_with(&options, limits, Echo::No, |line| {
			let Some(Ok(line)) = console::parse(line) else {
				return false;
			};
			if let Line::Result(result) = line {
				measured.push(result);
			}
			true
		})?;
		let recorded = read(&self.file)?;
		process::remove(&self.file)?;
		let checks = CALIBRATED.iter().flat_map(|&(case, number)| {
			let (measured, recorded) = (&measured, &recorded);
			PATHS.map(move |path| {
				let result = exact(measured, recorded, case, number, path);
				Check::of(
					format!("cost, exact for {} on {}", case.name, path.name()),
					result,
				)
			})
		});
		Ok(checks.collect())
	}
}

#[cfg(test)]
mod tests {
	use super::super::sample::spans;
	use super::*;

	fn measured(case: &'static Case, path: Column, each: f64) -> Measured {
		let ticks = |instructions: f64| (instructions * ITERATIONS as f64 * 0.512) as u64;
		Measured {
			cell: Cell {
				case,
				guest: GuestMode::Radix,
				path,
			},
			iterations: ITERATIONS,
			empty_ticks: vec![ticks(10.0)],
			ticks: vec![ticks(10.0 + each)],
			fast: None,
			spans: vec![],
		}
	}

	#[test]
	fn spans_that_are_not_exact_are_found() {
		let (case, path) = (case!("h_get_tce"), Column::C);
		let recorded = |each, count| span::Recording {
			tag: cases::tag(case, GuestMode::Radix, path),
			spans: spans(&[(ExitReason::Hcall(Number::GET_TCE.0), [each, 0, 0], 0, count)]),
			..span::Recording::default()
		};
		let judge = |told, each, count| {
			let measured = [measured(case, path, told)];
			exact(
				&measured,
				&[recorded(each, count)],
				case,
				Number::GET_TCE,
				path,
			)
		};
		let count = ITERATIONS * BATCHES;
		judge(181.0, 180, count).unwrap();
		assert!(judge(181.0, 179, count).is_err());
		assert!(judge(181.0, 181, count).is_err());
		assert!(judge(181.0, 180, count - 1).is_err());
		assert!(exact(&[], &[recorded(180, count)], case, Number::GET_TCE, path).is_err());
	}
}
