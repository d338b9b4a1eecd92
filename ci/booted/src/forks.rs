// SPDX-License-Identifier: GPL-2.0-only
//! The host takes a guest's memory away again and again, while the guest checks its registers.
//!
//! A fork of the VMM makes all of its pages ones to be copied on a write, so the guest's next access
//! to each page is a page fault. The host copies, and waits for locks that the fork holds. If a light exit
//! handles the fault, the guest's registers are still loaded then.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use protocol::{Column, GuestMode};
use vmm::machine::Failure;

use crate::common::{Verdict, choose, counter, counters, wrong};
use crate::cpus;
use crate::registers::hcall::c_path_cfar;
use crate::soak::check_registers;

/// Fewer of each than this would say little.
const ENOUGH: u64 = 20;

/// Forks children, until it is told to stop. Returns how many. While a child lives, each page that the
/// guest writes to is copied.
fn fork(stop: &AtomicBool) -> Result<u64, Failure> {
	let life = libc::timespec {
		tv_sec: 0,
		tv_nsec: 3_000_000,
	};
	let mut forks = 0;
	while !stop.load(Ordering::Relaxed) {
		// SAFETY: the child makes two system calls, and needs nothing that another thread may hold.
		let child = unsafe { libc::fork() };
		if child == 0 {
			// SAFETY: `life` is the child's copy; then it ends the child.
			unsafe {
				libc::nanosleep(&life, std::ptr::null_mut());
				libc::_exit(0);
			}
		}
		if child < 0 {
			return Err(std::io::Error::last_os_error().into());
		}
		let mut status = 0;
		// SAFETY: waits for our child; `status` is a variable of ours.
		if unsafe { libc::waitpid(child, &mut status, 0) } != child || status != 0 {
			return wrong(format!("the child ended with status {status:#x}"));
		}
		forks += 1;
		std::thread::sleep(Duration::from_micros(500 + 300 * (forks % 5)));
	}
	Ok(forks)
}

/// Runs a guest that checks its registers, now on one CPU and now on the other, with other tasks that
/// want both CPUs.
pub fn registers(path: Column, seed: u64, time: Duration) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	let before = counters().unwrap_or_default();
	let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
	let results = std::thread::scope(|scope| {
		let (stop, rounds) = (&stop, &rounds);
		let guest =
			scope.spawn(move || check_registers(GuestMode::Radix, cfar, seed, stop, rounds));
		let forks = scope.spawn(move || fork(stop));
		for cpu in 0..2 {
			scope.spawn(move || {
				let here = cpus::OneCpu::new(cpu);
				cpus::nap(stop, Duration::from_micros(900));
				drop(here);
			});
		}
		let end = Instant::now() + time;
		let is_over = || guest.is_finished() || forks.is_finished();
		while Instant::now() < end && !is_over() {
			std::thread::sleep(Duration::from_millis(50));
		}
		stop.store(true, Ordering::Relaxed);
		let forks = forks.join().expect("it doesn't panic");
		(guest.join().expect("it doesn't panic"), forks)
	});
	let (guest, forks) = results;
	guest?;
	let forks = forks?;
	let rounds = rounds.load(Ordering::Relaxed);
	let mut line = format!("{rounds} rounds of registers, {forks} forks");
	if rounds == 0 || forks < ENOUGH {
		return wrong(line);
	}
	if path == Column::RustFast {
		let after = counters()?;
		let grown = |name| counter(&after, name) - counter(&before, name);
		let (faults, flushed) = (grown("light_page_fault"), grown("light_flushed"));
		line += &format!(
			", {faults} page faults handled by light exits, {flushed} of them with the thread scheduled \
			 out"
		);
		if faults < ENOUGH || flushed < ENOUGH / 4 {
			return wrong(line);
		}
	}
	Ok(line)
}
