// SPDX-License-Identifier: GPL-2.0-only
//! System resets and machine checks of the host while a guest runs.
//!
//! They come from the runner, by QEMU's debugger stub (stage `nmi`). These tests look at what is
//! left of guest and host, and say how many there were.

use std::time::{Duration, Instant};

use cases::Case;
use protocol::{Column, Command, GuestMode, Job};
use vmm::machine::{Config, Failure, Machine};

use crate::common::{Verdict, choose, wrong};
use crate::kmsg::Kmsg;
use crate::nmi::{AT_RANDOM, Kind, Seen};
use crate::registers::hcall;

/// How long the runner may take, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(600);

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

/// Counts what the kernel has seen of the runner's interrupts since some moment.
struct Count {
	kind: Kind,
	resets: u64,
	kmsg: Kmsg,
	seen: Seen,
}

impl Count {
	fn from_now(kind: Kind) -> Result<Self, Failure> {
		Ok(Self {
			kind,
			resets: system_resets()?,
			kmsg: Kmsg::from_now()?,
			seen: Seen::default(),
		})
	}

	/// So far.
	fn seen(&mut self) -> Result<Seen, Failure> {
		match self.kind {
			Kind::SystemReset => self.seen.interrupts = system_resets()? - self.resets,
			Kind::MachineCheck => {
				let Seen { interrupts, .. } = &mut self.seen;
				self.kmsg.corrected(|| *interrupts += 1)?;
			}
		}
		Ok(self.seen)
	}

	/// Notes what a guest was told, if that is what `failure` is about.
	fn note(&mut self, failure: Failure) -> Result<(), Failure> {
		match srr1_of_machine_check(&failure) {
			Some(srr1) if srr1 & RECOVERABLE == 0 => self.seen.lost += 1,
			Some(_) if self.kind == Kind::MachineCheck => self.seen.told += 1,
			_ => return Err(failure),
		}
		Ok(())
	}
}

/// MSR\[RI\]
const RECOVERABLE: u64 = 2;

/// SRR1 of the machine check that a guest took and cannot handle.
fn srr1_of_machine_check(failure: &Failure) -> Option<u64> {
	let Failure::Wrong(why) = failure else {
		return None;
	};
	let rest = why.strip_prefix("the guest took exception 0x200: ")?;
	let srr1 = rest.split(" SRR1 0x").nth(1)?.split(' ').next()?;
	u64::from_str_radix(srr1, 16).ok()
}

/// Every register survives hcalls that are interrupted at each of their instructions.
pub fn registers(
	kind: Kind,
	guest: GuestMode,
	path: Column,
	case: &'static Case,
	seed: u64,
) -> Verdict {
	/// More than an hcall has instructions.
	const ROUNDS: u64 = 4000;
	let mut count = Count::from_now(kind)?;
	let detail = hcall::survive_exactly(guest, path, case, seed, ROUNDS)?;
	Ok(format!("{detail}; {}", count.seen()?.text()))
}

/// One guest after the other is lost, by an interrupt at each instruction from the vector to where
/// the trampoline has kept NIA and MSR. The next guest does not notice.
pub fn lost(kind: Kind, guest: GuestMode, case: &'static Case, seed: u64) -> Verdict {
	const ROUNDS: u64 = 300;
	let mut count = Count::from_now(kind)?;
	let end = Instant::now() + LIMIT;
	loop {
		let before = count.seen()?;
		match hcall::survive_exactly(guest, Column::RustFast, case, seed, ROUNDS) {
			Err(failure) => count.note(failure)?,
			Ok(detail) if before.lost > 0 && count.seen()? == before => {
				return Ok(format!("{detail}; {}", before.text()));
			}
			Ok(_) if Instant::now() > end => return wrong("no interrupt came".into()),
			Ok(_) => {}
		}
	}
}

/// Hcalls that are interrupted at each of their instructions get the right code.
pub fn codes(kind: Kind, guest: GuestMode, case: &'static Case) -> Verdict {
	const ROUNDS: u64 = 4000;
	const BATCH: u64 = 100;
	choose(Column::RustFast)?;
	let mut count = Count::from_now(kind)?;
	let mut storm = Storm::new(guest, case)?;
	for _ in 0..ROUNDS / BATCH {
		storm.batch(BATCH)?;
	}
	Ok(format!("{ROUNDS} hcalls; {}", count.seen()?.text()))
}

/// Guests do the same over and over, until there were enough interrupts at random times. A guest
/// ends when it is told of a machine check; then the next one begins. A batch of rounds is so long
/// that the VMM and the host take little of the time.
pub fn random(kind: Kind, guest: GuestMode, case: &'static Case, batch: u64) -> Verdict {
	choose(Column::RustFast)?;
	let mut count = Count::from_now(kind)?;
	let end = Instant::now() + LIMIT;
	let mut rounds = 0;
	let mut storm = None;
	loop {
		let done = match storm.take() {
			Some(storm) => Ok(storm),
			None => Storm::new(guest, case),
		}
		.and_then(|mut storm| storm.batch(batch).map(|()| storm));
		match done {
			Ok(one) => {
				rounds += batch;
				storm = Some(one);
			}
			Err(failure) => count.note(failure)?,
		}
		let seen = count.seen()?;
		if storm.is_some() && seen.interrupts + seen.told >= AT_RANDOM {
			return Ok(format!("{rounds} rounds; {}", seen.text()));
		}
		if Instant::now() > end {
			return wrong(format!("not enough interrupts: {}", seen.text()));
		}
	}
}

/// A guest that does a case, with arguments.
struct Storm {
	machine: Machine,
	case: &'static Case,
}

impl Storm {
	fn new(guest: GuestMode, case: &'static Case) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest,
			enable: case.enable,
			window: true,
		})?;
		Ok(Self { machine, case })
	}

	/// So many rounds, each with the right code.
	fn batch(&mut self, rounds: u64) -> Result<(), Failure> {
		let command = Command {
			job: Job::BENCH,
			body: self.case.body,
			number: self.case.number.0,
			args: self.case.args,
			code: self.case.code.0,
			iterations: rounds,
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
