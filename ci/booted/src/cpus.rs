// SPDX-License-Identifier: GPL-2.0-only
//! Threads and CPUs: what runs where, and what disturbs it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use vmm::machine::Failure;

/// Keeps the calling thread, and those it starts, on one CPU until it is dropped.
pub struct OneCpu(libc::cpu_set_t);

/// The CPUs that the calling thread may use become that one; returns what they were.
pub fn move_to_cpu(cpu: usize) -> std::io::Result<libc::cpu_set_t> {
	assert!(cpu < 8 * size_of::<libc::cpu_set_t>());
	// SAFETY: an empty set is all zeroes, the CPU is in range, and the calls read or fill a
	// set of the size that they are told.
	unsafe {
		let mut all: libc::cpu_set_t = core::mem::zeroed();
		let mut one: libc::cpu_set_t = core::mem::zeroed();
		libc::CPU_SET(cpu, &mut one);
		let size = size_of::<libc::cpu_set_t>();
		if libc::sched_getaffinity(0, size, &mut all) != 0
			|| libc::sched_setaffinity(0, size, &one) != 0
		{
			return Err(std::io::Error::last_os_error());
		}
		Ok(all)
	}
}

/// The same, unless the CPU is offline.
pub fn move_if_online(cpu: usize) -> std::io::Result<()> {
	match move_to_cpu(cpu) {
		Err(error) if error.kind() != std::io::ErrorKind::InvalidInput => Err(error),
		_ => Ok(()),
	}
}

impl OneCpu {
	/// The CPU with that number.
	pub fn new(cpu: usize) -> std::io::Result<Self> {
		move_to_cpu(cpu).map(Self)
	}
}

impl Drop for OneCpu {
	fn drop(&mut self) {
		// SAFETY: it reads the set. What was allowed before can't fail now.
		unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) };
	}
}

/// Whether a core of the host has several threads.
pub fn are_threads() -> std::io::Result<bool> {
	let siblings = "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list";
	Ok(std::fs::read_to_string(siblings)?.trim() != "0")
}

/// Sleeps and wakes on the caller's CPU, which makes the host's timer end the guest's run
/// and the scheduler take the CPU away.
pub fn nap(stop: &AtomicBool, interval: Duration) {
	// SAFETY: it has no preconditions. Wake in time, not when it suits.
	unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
	while !stop.load(Ordering::Relaxed) {
		std::thread::sleep(interval);
	}
}

/// Has an interrupt sent to every CPU that runs a thread of this process, again and again,
/// from another CPU.
pub fn interrupt(stop: &AtomicBool, cpu: usize, interval: Duration) -> Result<u64, Failure> {
	const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
	const PRIVATE_EXPEDITED: i32 = 1 << 3;
	let membarrier = |command: i32| {
		// SAFETY: a barrier.
		let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
		if result < 0 {
			let error = std::io::Error::last_os_error();
			return Err(Failure::Wrong(format!("membarrier: {error}")));
		}
		Ok(())
	};
	let _cpu = OneCpu::new(cpu)?;
	// SAFETY: it has no preconditions.
	unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
	membarrier(REGISTER_PRIVATE_EXPEDITED)?;
	let mut sent = 0;
	while !stop.load(Ordering::Relaxed) {
		membarrier(PRIVATE_EXPEDITED)?;
		sent += 1;
		std::thread::sleep(interval);
	}
	Ok(sent)
}

/// Moves a thread of ours from CPU to CPU until it is told to stop. Says how often.
pub fn drive(thread: i32, stop: &AtomicBool, interval: Duration) -> Result<u64, Failure> {
	// SAFETY: it has no preconditions.
	unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
	let mut moves = 0;
	while !stop.load(Ordering::Relaxed) {
		// SAFETY: an empty set is all zeroes, and the call reads one of that size.
		let result = unsafe {
			let mut one: libc::cpu_set_t = core::mem::zeroed();
			libc::CPU_SET(moves as usize % 2, &mut one);
			libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &one)
		};
		if result != 0 {
			return Err(std::io::Error::last_os_error().into());
		}
		moves += 1;
		std::thread::sleep(interval);
	}
	Ok(moves)
}
