// SPDX-License-Identifier: GPL-2.0-only
//! Another CPU has a CPU's registers written and read, while a guest runs there.
//!
//! The kernel does so by an interrupt. If a light exit serves the interrupt, most of the
//! guest's registers are still loaded. The guest checks its registers all the while.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::{Column, GuestMode};
use vmm::machine::Failure;

use crate::common::{Verdict, choose, counter, counters, wrong};
use crate::cpus;
use crate::perf::PerfCycles;
use crate::registers::hcall::c_path_cfar;
use crate::soak::check_registers_beside;

/// Sets DSCR on each CPU, and in each task.
const DSCR_DEFAULT: &str = "/sys/devices/system/cpu/dscr_default";
/// Fewer of each than this would say little.
const ENOUGH: u64 = 50;

/// How often a thread disturbed a CPU. A turn is one write of DSCR and one read of PURR, and each
/// fourth turn makes a counter of perf.
#[derive(Clone, Copy, Default)]
struct Done {
	turns: u64,
	perf: u64,
}

fn failed(file: &str) -> impl Fn(std::io::Error) -> Failure {
	move |error| Failure::Wrong(format!("{file}: {error}"))
}

/// Writes and reads registers of the CPU `target`, from another CPU.
fn disturb(target: usize, stop: &AtomicBool) -> Result<Done, Failure> {
	let _here = cpus::OneCpu::new(1 - target)?;
	let purr = format!("/sys/devices/system/cpu/cpu{target}/purr");
	let (mut done, mut last_purr) = (Done::default(), 0);
	while !stop.load(Ordering::Relaxed) {
		done.turns += 1;
		let value = format!("{:x}", done.turns % 8);
		fs::write(DSCR_DEFAULT, value).map_err(failed(DSCR_DEFAULT))?;

		let text = fs::read_to_string(&purr).map_err(failed(&purr))?;
		let now = u64::from_str_radix(text.trim(), 16)
			.map_err(|e| Failure::Wrong(format!("{purr}: {}: {e}", text.trim())))?;
		if now < last_purr {
			return wrong(format!("{purr} went from {last_purr:#x} to {now:#x}"));
		}
		last_purr = now;

		if done.turns.is_multiple_of(4) {
			let perf = PerfCycles::new(target as i32)?;
			std::thread::sleep(Duration::from_micros(700));
			if perf.count()? == 0 {
				return wrong(format!("perf counted no cycles on CPU {target}"));
			}
			done.perf += 1;
		}
		std::thread::sleep(Duration::from_micros(300 + 100 * (done.turns % 5)));
	}
	Ok(done)
}

/// Runs a guest that checks its registers, now on one CPU and now on the other. A thread on each
/// CPU disturbs the other CPU.
pub fn registers(path: Column, seed: u64, time: Duration) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	let dscr = fs::read_to_string(DSCR_DEFAULT).map_err(failed(DSCR_DEFAULT))?;
	let before = counters().unwrap_or_default();
	let on = |cpu| move |stop: &AtomicBool| disturb(cpu, stop);
	let result = check_registers_beside(seed, time, cfar, &[&on(0), &on(1)]);
	fs::write(DSCR_DEFAULT, dscr.trim()).map_err(failed(DSCR_DEFAULT))?;
	let (rounds, done) = result?;
	let turns: u64 = done.iter().map(|done| done.turns).sum();
	let perf: u64 = done.iter().map(|done| done.perf).sum();
	let mut line = format!(
		"{rounds} rounds of registers, {turns} writes of DSCR and reads of PURR, {perf} counters of \
		 perf"
	);
	if rounds == 0 || done.iter().any(|done| done.turns < ENOUGH) {
		return wrong(line);
	}
	if path == Column::RustFast {
		let after = counters()?;
		let grown = |name| counter(&after, name) - counter(&before, name);
		let (timer, other) = (grown("light_host_timer"), grown("light_host_interrupt"));
		let (refused, then_full) = (
			grown("not_light_interrupt_with_work"),
			grown("light_then_full"),
		);
		line += &format!(
			", {timer} light exits for the timer, {other} for other interrupts ({then_full} of \
			 both with work after them), {refused} interrupts with work before"
		);
		// QEMU has a guest with MSR[EE]=0 hold up the interrupts of other CPUs, until the host's
		// timer ends its run. They are served then.
		if timer < ENOUGH {
			return wrong(line);
		}
	}
	Ok(line)
}
