// SPDX-License-Identifier: GPL-2.0-only
//! Commands for the payload.

use protocol::{Case, Command, Job};

/// Times `batches` of `iterations` of a case.
pub fn timing(case: Case, iterations: u64, batches: u64) -> Command {
	Command {
		job: Job::BENCH,
		number: case.number().0,
		args: case.args(),
		code: case.code().0,
		iterations,
		batches,
		round: case.round(),
		announce: case.needs_preparation().into(),
		..Command::default()
	}
}
