// SPDX-License-Identifier: GPL-2.0-only
//! The measurements.

use std::time::Duration;

use hcall::Code;
use proto::{Case, Command, Guest, Job, Outcome, Path};

use crate::console::{Line, say};
use crate::host;
use crate::machine::{Config, Failure, Machine};

/// Longer than any measurement takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(120);
/// Iterations before a measurement: they bring guest memory and facilities in.
const WARM_UP: u64 = 16;

/// The command for `batches` of `iterations` of a case.
pub fn command(case: Case, iterations: u64, batches: u64) -> Command {
	Command {
		job: Job::BENCH,
		number: case.number().0,
		args: case.args(),
		code: case.code().0,
		iterations,
		batches,
		..Command::default()
	}
}

fn check(case: Case, outcome: &Outcome) -> Result<(), Failure> {
	if outcome.mismatches > 0 {
		return Err(Failure::Wrong(format!(
			"{} of {} hcalls returned a wrong code, the first {} instead of {}",
			outcome.mismatches,
			outcome.rounds,
			outcome.wrong_code as i64,
			case.code().0
		)));
	}
	if case == Case::HGetTce && outcome.last_r4 != Case::tce(0) {
		return Err(Failure::Wrong(format!(
			"H_GET_TCE found {:#x} instead of {:#x}",
			outcome.last_r4,
			Case::tce(0)
		)));
	}
	Ok(())
}

fn measure(
	case: Case,
	guest: Guest,
	path: Path,
	iterations: u64,
	batches: u64,
) -> Result<(Outcome, Option<u64>), Failure> {
	host::choose(path).map_err(Failure::Unsupported)?;
	let number = [case.number()];
	let enable = if case.needs_enabling() {
		&number[..]
	} else {
		&[]
	};
	let mut machine = Machine::new(Config {
		guest,
		enable,
		window: case.needs_window(),
	})?;
	let mut to_userspace = 0_u64;
	if case.needs_window() {
		// Something to get; and a page of the table, which the first entry brings.
		machine.perform(command(Case::HPutTce, 1, 1), LIMIT, |_| {})?;
	}
	let outcome = machine.perform(command(case, WARM_UP, 1), LIMIT, |_| {})?;
	check(case, &outcome)?;
	let before = host::fast_total();
	let outcome = machine.perform(command(case, iterations, batches), LIMIT, |_| {
		to_userspace += 1
	})?;
	let fast = host::fast_total()
		.zip(before)
		.map(|(after, before)| after - before);
	check(case, &outcome)?;
	let expected = if case.code() == Code::FUNCTION {
		outcome.rounds
	} else {
		0
	};
	if outcome.rounds != iterations * batches || to_userspace != expected {
		return Err(Failure::Wrong(format!(
			"{} of {} hcalls done, {to_userspace} instead of {expected} of them by userspace",
			outcome.rounds,
			iterations * batches
		)));
	}
	Ok((outcome, fast))
}

/// Measures everything and says so as it goes.
pub fn run(cases: &[Case], guests: &[Guest], paths: &[Path], iterations: u64, batches: u64) {
	for &path in paths {
		for &guest in guests {
			for &case in cases {
				let measured = measure(case, guest, path, iterations, batches);
				let (case, guest, path) = (case.name(), guest.name(), path.name());
				match measured {
					Ok((outcome, fast)) => say(&Line::Result {
						case,
						guest,
						path,
						iterations,
						empty_ticks: &outcome.empty_ticks[..batches as usize],
						ticks: &outcome.ticks[..batches as usize],
						fast,
					}),
					Err(Failure::Unsupported(why)) => say(&Line::Na {
						case,
						guest,
						path,
						why: &why,
					}),
					Err(Failure::Wrong(why)) => say(&Line::Error {
						case,
						guest,
						path,
						why: &why,
					}),
				}
			}
		}
	}
}
