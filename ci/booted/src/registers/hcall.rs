// SPDX-License-Identifier: GPL-2.0-only
//! Every register over an hcall.

use std::time::Duration;

use cases::{Case, case};
use protocol::{Column, Command, GuestMode, Job, Outcome, regs, round};
use vmm::machine::Failure;

use crate::common::{Verdict, choose, machine_for, wrong};
use crate::stats;

/// Longer than any test's guest takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);

/// What the C path leaves in CTR: the system call vector keeps the caller's r13 there for
/// a moment, which PAPR allows.
const CTR: u64 = 0;

/// Every register survives the hcall: the NULL hcall twice as often as `rounds` says, the others,
/// which take longer, less often.
pub fn survive(
	guest: GuestMode,
	path: Column,
	case: &'static Case,
	seed: u64,
	rounds: u64,
) -> Verdict {
	let rounds = if case == case!("null") {
		2 * rounds
	} else {
		rounds * 2 / 5
	};
	survive_exactly(guest, path, case, seed, rounds)
}

/// Every register survives so many hcalls.
pub fn survive_exactly(
	guest: GuestMode,
	path: Column,
	case: &'static Case,
	seed: u64,
	rounds: u64,
) -> Verdict {
	let cfar = c_path_cfar(guest)?;
	choose(path)?;
	let mut machine = machine_for(guest, case)?;
	let mut to_userspace = 0;
	let command = Command {
		slb: guest.is_hash().into(),
		..command(case, rounds, seed, cfar)
	};
	let outcome = machine.perform(command, LIMIT, |_| to_userspace += 1)?;
	check(&outcome, guest, rounds)?;
	let expected = if case == case!("unknown") { rounds } else { 0 };
	if to_userspace != expected {
		return wrong(format!(
			"{to_userspace} hcalls reached userspace instead of {expected}"
		));
	}
	Ok(format!("{rounds} rounds of {} registers", regs::COUNT))
}

/// The value that the C path leaves in CFAR. The C path restores 0, because the system call
/// vector saves no CFAR. But where software flushes the L1D cache on entry, the last branch
/// of the flush comes after that, and the guest finds its address. In both cases the Rust
/// path must leave the same value. (Afterwards the C path is chosen.)
pub fn c_path_cfar(guest: GuestMode) -> Result<u64, Failure> {
	choose(Column::C)?;
	let mut machine = machine_for(guest, case!("h_prod"))?;
	let outcome = machine.perform(command(case!("h_prod"), 1, 0, 0), LIMIT, |_| {})?;
	match (outcome.mismatches, outcome.mismatch.register as usize) {
		(0, _) => Ok(0),
		(1, regs::CFAR) => Ok(outcome.mismatch.got),
		_ => wrong("the C path changed another register than CFAR".into()),
	}
}

pub fn command(case: &'static Case, rounds: u64, seed: u64, cfar: u64) -> Command {
	Command {
		job: Job::REGISTERS,
		number: case.number.0,
		code: case.code.0,
		iterations: rounds,
		seed,
		cfar,
		ctr: CTR,
		..Command::default()
	}
}

pub fn check(outcome: &Outcome, guest: GuestMode, rounds: u64) -> Result<(), Failure> {
	if outcome.mismatches > 0 {
		let first = outcome.mismatch;
		return wrong(format!(
			"{} mismatches in {} rounds; first {} in round {}: {:#x} instead of {:#x}",
			outcome.mismatches,
			outcome.rounds,
			round::name(first.register as usize),
			first.round,
			first.got,
			first.expected
		));
	}
	if outcome.rounds != rounds {
		return wrong(format!("{} rounds instead of {rounds}", outcome.rounds));
	}
	// A register that ignores what is written to it would compare equal for ever.
	let stuck: Vec<_> = (0..regs::COUNT)
		.filter(|&index| outcome.varied[index] == 0 && may_vary(guest, index))
		.map(|index| regs::name(index).to_string())
		.collect();
	if !stuck.is_empty() {
		return wrong(format!("never changed: {}", stuck.join(", ")));
	}
	Ok(())
}

/// Should this register have changed from round to round?
fn may_vary(guest: GuestMode, index: usize) -> bool {
	match index {
		// The number, the guest's own MSR, and the half of a vector that VSCR leaves 0.
		3 | regs::MSR | regs::VSCR_UPPER => false,
		regs::PID => guest == GuestMode::Real,
		_ => regs::exists(index),
	}
}

/// A register test would find a register that changed.
pub fn selfcheck(guest: GuestMode, seed: u64) -> Verdict {
	const ROUNDS: u64 = 100;
	choose(Column::C)?;
	let mut machine = machine_for(guest, case!("h_prod"))?;
	let cfar = c_path_cfar(guest)?;
	let command = self::command(case!("h_prod"), ROUNDS, seed, cfar + 4);
	let outcome = machine.perform(command, LIMIT, |_| {})?;
	let found = (
		outcome.mismatches,
		outcome.mismatch.register as usize,
		outcome.mismatch.got,
	);
	if found != (ROUNDS, regs::CFAR, cfar) {
		return wrong(format!(
			"{} mismatches in {ROUNDS} rounds with a wrong CFAR in each; first {}",
			outcome.mismatches,
			regs::name(outcome.mismatch.register as usize)
		));
	}
	Ok(format!("found {ROUNDS} of {ROUNDS} wrong registers"))
}

/// The same on the fast path, with times kept.
pub fn survive_timed(guest: GuestMode, seed: u64, rounds: u64) -> Verdict {
	let _stats = stats::Setting::on("stats")?;
	survive(guest, Column::RustFast, case!("null"), seed, rounds)
}
