// SPDX-License-Identifier: GPL-2.0-only
//! Commands for the payload.

use cases::{Case, Hcall};
use protocol::{Command, Job};

/// Times `batches` of `iterations` of a case.
pub fn timing(case: &Case, iterations: u64, batches: u64) -> Command {
	Command {
		job: Job::BENCH,
		number: case.number.0,
		args: case.args,
		code: case.code.0,
		iterations,
		batches,
		body: case.body,
		announce: case.needs_preparation().into(),
		..Command::default()
	}
}

/// Does one hcall, which has to succeed.
pub fn once(hcall: Hcall) -> Command {
	Command {
		job: Job::BENCH,
		number: hcall.number.0,
		args: hcall.args,
		iterations: 1,
		batches: 1,
		..Command::default()
	}
}
