// SPDX-License-Identifier: GPL-2.0-only
//! A CPU is taken offline and brought online, while the thread of a vcpu runs there.
//!
//! The thread is moved to the other CPU by the kernel, maybe out of a light exit. A CPU that comes back
//! has the registers of a CPU that has just been started.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::regs::Pattern;
use protocol::{Column, GuestMode};
use vmm::machine::Failure;

use crate::common::{Verdict, choose, counter, counters, wrong};
use crate::cpus;
use crate::registers::hcall::c_path_cfar;
use crate::soak::{GUEST_THREAD, check_registers_beside};

/// The CPU that goes and comes. Linux does not take the first one offline on each machine.
const CPU: usize = 1;
const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
/// Fewer of each than this would say little.
const ENOUGH: u64 = 10;

/// How often the CPU went offline, and how often with the thread of the vcpu on it.
#[derive(Clone, Copy, Default)]
struct Done {
	offline: u64,
	with_vcpu: u64,
}

fn set(online: bool) -> Result<(), Failure> {
	let text = if online { "1" } else { "0" };
	fs::write(ONLINE, text).map_err(|e| Failure::Wrong(format!("{text} to {ONLINE}: {e}")))
}

/// Whether the vcpu's thread is on that CPU, or was when it ran last.
fn vcpu_is_on(cpu: usize) -> bool {
	let tasks = fs::read_dir("/proc/self/task").into_iter().flatten();
	tasks.flatten().any(|task| {
		// The thread may end meanwhile.
		let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
		let Some((name, rest)) = stat.split_once(") ") else {
			return false;
		};
		// The first field after the name is the third of all; the CPU is the 39th.
		let on = rest.split(' ').nth(39 - 3);
		name.ends_with(&format!("({GUEST_THREAD}")) && on == Some(&cpu.to_string())
	})
}

/// Takes the CPU offline and brings it online, from the other CPU.
fn plug(seed: u64, stop: &AtomicBool) -> Result<Done, Failure> {
	let _here = cpus::OneCpu::new(1 - CPU)?;
	let mut pattern = Pattern::new(seed);
	let mut done = Done::default();
	let mut wait = |most| std::thread::sleep(Duration::from_micros(pattern.next() % most));
	while !stop.load(Ordering::Relaxed) {
		done.with_vcpu += u64::from(vcpu_is_on(CPU));
		set(false)?;
		done.offline += 1;
		wait(10_000);
		set(true)?;
		wait(40_000);
	}
	Ok(done)
}

/// Runs a guest that checks its registers, now on one CPU and now on the other, while one of them comes and
/// goes.
pub fn registers(path: Column, seed: u64, time: Duration) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	let before = counters()?;
	let plug = |stop: &AtomicBool| plug(seed, stop);
	let nap = |stop: &AtomicBool| {
		let _here = cpus::OneCpu::new(1 - CPU)?;
		cpus::nap(stop, Duration::from_micros(900));
		Ok(Done::default())
	};
	let (rounds, others) = check_registers_beside(seed, time, cfar, &[&plug, &nap])?;
	let Done { offline, with_vcpu } = others[0];
	let mut line = format!(
		"{rounds} rounds of registers, CPU {CPU} {offline} times offline, {with_vcpu} times with \
		 the vcpu on it"
	);
	if rounds == 0 || offline < ENOUGH || with_vcpu < ENOUGH / 2 {
		return wrong(line);
	}
	if path == Column::RustFast {
		let after = counters()?;
		let grown = |name| counter(&after, name) - counter(&before, name);
		let (interrupts, flushed) = (grown("light_host_interrupt"), grown("light_flushed"));
		let light = interrupts + grown("light_host_timer") + grown("light_page_fault");
		line += &format!(", {light} light exits, {flushed} of them flushed");
		if light < ENOUGH {
			return wrong(line);
		}
	}
	Ok(line)
}
