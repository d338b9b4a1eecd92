// SPDX-License-Identifier: GPL-2.0-only
//! The thread of a vcpu is scheduled out in page faults, while the guest checks its registers.
//!
//! Some rounds of registers leave the guest by a page fault. A fork of the VMM holds the lock of its
//! address space, so the fault waits, and another task runs. If a light exit handles the fault, the
//! guest's registers are still loaded then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::{Column, GuestMode};
use vmm::machine::Failure;

use crate::common::{Verdict, choose, counter, counters, wrong};
use crate::cpus;
use crate::registers::hcall::c_path_cfar;
use crate::soak::check_registers_beside;

/// Fewer of each than this would say little.
const ENOUGH: u64 = 20;

/// Forks children that end at once, until it is told to stop. Returns how many.
fn fork(stop: &AtomicBool) -> Result<u64, Failure> {
	let mut forks = 0;
	while !stop.load(Ordering::Relaxed) {
		// A fork, but with the same table of files: a VM that is closed meanwhile is gone at once, and a
		// new one can have its number.
		let how = libc::CLONE_FILES | libc::SIGCHLD;
		// SAFETY: the child has its own memory, and the stack of this thread in it. It makes one
		// system call, and needs nothing that another thread may hold.
		let child = unsafe { libc::syscall(libc::SYS_clone, how, 0, 0, 0, 0) } as libc::pid_t;
		if child == 0 {
			// SAFETY: it ends the child.
			unsafe { libc::_exit(0) };
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
	let nap = |cpu| {
		move |stop: &AtomicBool| {
			let _here = cpus::OneCpu::new(cpu)?;
			cpus::nap(stop, Duration::from_micros(900));
			Ok(0)
		}
	};
	let (rounds, others) = check_registers_beside(seed, time, cfar, &[&fork, &nap(0), &nap(1)])?;
	let forks = others[0];
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
