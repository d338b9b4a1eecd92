// SPDX-License-Identifier: GPL-2.0-only
//! What an exit costs that is light at first and then becomes a full one: the flush and all after it.

use std::time::Duration;

use cases::case;
use protocol::{Column, GuestMode, private};
use vmm::command;
use vmm::machine::{Failure, Machine, Stop};
use vmm::timer::Timer;

use crate::common::{Verdict, choose, counter, counters, machine, wrong};
use crate::stats::Setting;

/// Times that the guest spins in a run: some milliseconds. No other exit is expected.
const SPINS: u64 = 256;
/// From signal to signal: many times what an exit takes.
const INTERVAL: Duration = Duration::from_micros(60);
/// Runs with signals, and as many without. The host's own interrupts come in both.
const RUNS: u64 = 24;
/// What it may cost more than a full exit from the start with light exits off, in instructions. 107 of it
/// are what light exits cost each full exit. The goal is 100.
const MORE: i64 = 420;

/// Has the guest spin twice, with a signal now and then or without: signals come in what it times as the
/// empty loop, too. Returns the ticks that both took, and how many signals ended KVM_RUN.
fn run(machine: &mut Machine, signals: bool) -> Result<(u64, u64), Failure> {
	let mut ended = 0;
	machine.start(command::timing(case!("decrementer"), SPINS, 1));
	let _timer = match signals {
		true => Some(Timer::every(INTERVAL, INTERVAL)?),
		false => None,
	};
	loop {
		match machine.step()? {
			Stop::Done(outcome) => return Ok((outcome.empty_ticks[0] + outcome.ticks[0], ended)),
			Stop::Interrupted => ended += 1,
			Stop::Call((private::BATCH, _)) => {}
			_ => return wrong("something reached userspace".into()),
		}
	}
}

/// Instructions from the guest's exit for the host's timer, whose signal ends KVM_RUN, to the guest's next
/// instruction. The guest's clock ticks 512 times in 1000 instructions.
fn cost(machine: &mut Machine) -> Result<i64, Failure> {
	run(machine, false)?;
	let (mut all, mut signals) = (0, 0);
	for _ in 0..RUNS {
		let (alone, _) = run(machine, false)?;
		let (ticks, ended) = run(machine, true)?;
		all += ticks as i64 - alone as i64;
		signals += ended;
	}
	if signals < 20 * RUNS {
		return wrong(format!("only {signals} signals ended KVM_RUN"));
	}
	Ok(all * 1000 / 512 / signals as i64)
}

/// A light exit that finds a signal takes the guest's context away. With that it costs little more than an exit
/// that was full from the start.
pub fn cost_of_leaving(guest: GuestMode) -> Verdict {
	choose(Column::C)?;
	let c = cost(&mut machine(guest, &[])?)?;
	choose(Column::RustFast)?;
	let before = counters()?;
	let flushed = cost(&mut machine(guest, &[])?)?;
	let after = counters()?;
	let left = counter(&after, "light_then_full") - counter(&before, "light_then_full");
	let _light = Setting::off("light")?;
	let full = cost(&mut machine(guest, &[])?)?;
	let what = format!(
		"a signal costs {flushed} instructions by {left} light exits with a flush, {full} by full exits, {c} on C"
	);
	match left >= 20 * RUNS && flushed <= full + MORE {
		true => Ok(what),
		false => wrong(what),
	}
}
