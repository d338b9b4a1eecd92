// SPDX-License-Identifier: GPL-2.0-only
//! System resets of the host while a guest runs.
//!
//! They come from the runner, by QEMU's debugger stub (stage `nmi`). These tests look at what is
//! left of guest and host, and say how many there were.

use std::time::{Duration, Instant};

use cases::Case;
use protocol::{Column, Command, GuestMode, Job};
use vmm::machine::{Config, Failure, Machine};

use crate::common::{Verdict, choose, wrong};
use crate::nmi::counted;
use crate::registers::hcall;

/// How long the runner may take until its first system reset, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(120);

/// System resets since boot, of all CPUs (`NMI` of /proc/interrupts).
fn system_resets() -> Result<u64, Failure> {
	let text = std::fs::read_to_string("/proc/interrupts")?;
	let line = text
		.lines()
		.find(|line| line.trim_start().starts_with("NMI:"));
	let numbers = line.map(|line| {
		line.split_whitespace()
			.filter_map(|word| word.parse::<u64>().ok())
	});
	match numbers {
		Some(numbers) => Ok(numbers.sum::<u64>()),
		None => wrong("/proc/interrupts counts no system resets".into()),
	}
}

/// Every register survives hcalls that are interrupted at each of their instructions.
pub fn registers(guest: GuestMode, case: &'static Case, seed: u64) -> Verdict {
	/// More than an hcall has instructions.
	const ROUNDS: u64 = 4000;
	let before = system_resets()?;
	let detail = hcall::survive_exactly(guest, Column::RustFast, case, seed, ROUNDS)?;
	Ok(format!("{detail}; {}", counted(system_resets()? - before)))
}

/// What KVM tells a guest of which a system reset has overwritten NIA and MSR: a machine check.
const LOST: &str = "the guest took exception 0x200: ";

/// Whether this is the end of such a guest. It must not be told that it can go on.
fn is_lost(failure: &Failure) -> bool {
	/// MSR\[RI\]
	const RECOVERABLE: u64 = 2;
	let Failure::Wrong(why) = failure else {
		return false;
	};
	let srr1 = why
		.strip_prefix(LOST)
		.and_then(|rest| rest.split(" SRR1 0x").nth(1))
		.and_then(|rest| rest.split(' ').next())
		.and_then(|srr1| u64::from_str_radix(srr1, 16).ok());
	srr1.is_some_and(|srr1| srr1 & RECOVERABLE == 0)
}

/// One guest after the other is lost, by a system reset at each instruction from the vector to where
/// the trampoline has kept NIA and MSR. The next guest does not notice.
pub fn lost(guest: GuestMode, case: &'static Case, seed: u64) -> Verdict {
	const ROUNDS: u64 = 300;
	let before = system_resets()?;
	let end = Instant::now() + LIMIT;
	let mut lost = 0;
	loop {
		let resets = system_resets()? - before;
		match hcall::survive_exactly(guest, Column::RustFast, case, seed, ROUNDS) {
			Err(failure) if is_lost(&failure) => lost += 1,
			Err(failure) => return Err(failure),
			Ok(detail) if lost > 0 && system_resets()? - before == resets => {
				return match lost == resets {
					true => Ok(format!(
						"{detail} after {lost} lost guests; {}",
						counted(resets)
					)),
					false => wrong(format!("{lost} guests were lost by {resets} system resets")),
				};
			}
			Ok(_) if Instant::now() > end => return wrong("no system reset came".into()),
			Ok(_) => {}
		}
	}
}

/// Lists of TCEs go on that are interrupted at each of their instructions.
pub fn lists(case: &'static Case) -> Verdict {
	const ROUNDS: u64 = 4000;
	choose(Column::RustFast)?;
	let before = system_resets()?;
	let mut lists = Lists::new(case)?;
	for _ in 0..ROUNDS / Lists::BATCH {
		lists.batch()?;
	}
	Ok(format!(
		"{ROUNDS} hcalls; {}",
		counted(system_resets()? - before)
	))
}

/// A guest that does an hcall, with arguments.
struct Lists {
	machine: Machine,
	case: &'static Case,
}

impl Lists {
	const BATCH: u64 = 100;

	fn new(case: &'static Case) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest: GuestMode::Radix,
			enable: case.enable,
			window: true,
		})?;
		Ok(Self { machine, case })
	}

	/// Some hcalls, each with the right code.
	fn batch(&mut self) -> Result<(), Failure> {
		let command = Command {
			job: Job::BENCH,
			body: self.case.body,
			number: self.case.number.0,
			args: self.case.args,
			code: self.case.code.0,
			iterations: Self::BATCH,
			batches: 1,
			..Command::default()
		};
		let outcome = self.machine.perform(command, LIMIT, |_| {})?;
		match outcome.mismatches {
			0 => Ok(()),
			some => wrong(format!(
				"{some} hcalls returned a wrong code, first {}",
				outcome.wrong_code as i64
			)),
		}
	}
}
