// SPDX-License-Identifier: GPL-2.0-only
//! Counters of perf.

use std::fs::File;
use std::io::{Error, Read};
use std::os::fd::FromRawFd;

use vmm::machine::Failure;

/// `struct perf_event_attr`, in its second published size.
#[repr(C)]
#[derive(Default)]
struct Attr {
	kind: u32,
	size: u32,
	config: u64,
	sample: u64,
	sample_type: u64,
	read_format: u64,
	flags: u64,
	wakeup: u32,
	breakpoint_type: u32,
	breakpoint: u64,
	breakpoint_length: u64,
}

/// PERF_TYPE_HARDWARE.
const HARDWARE: u32 = 0;
/// PERF_TYPE_BREAKPOINT.
const BREAKPOINT: u32 = 5;
/// PERF_COUNT_HW_CPU_CYCLES.
const CPU_CYCLES: u64 = 0;
/// HW_BREAKPOINT_W.
const STORES: u32 = 2;
/// Always on the PMU, or in error.
const PINNED: u64 = 1 << 2;

/// Opens a counter of a thread or a CPU.
fn open(attr: Attr, thread: i32, cpu: i32) -> Result<File, Failure> {
	let attr = Attr {
		size: size_of::<Attr>() as u32,
		flags: PINNED,
		..attr
	};
	let (no_group, flags) = (-1, 0_u64);
	// SAFETY: the kernel reads the structure, whose size is in it.
	let fd = unsafe {
		libc::syscall(
			libc::SYS_perf_event_open,
			&raw const attr,
			thread,
			cpu,
			no_group,
			flags,
		)
	};
	if fd < 0 {
		let error = Error::last_os_error();
		return Err(Failure::Wrong(format!("perf_event_open: {error}")));
	}
	// SAFETY: perf_event_open() has just returned this fd, and no other code has it.
	Ok(unsafe { File::from_raw_fd(fd as i32) })
}

/// What a counter has counted. One in error can't be read.
fn count(mut file: &File) -> Result<u64, Failure> {
	let mut count = [0; 8];
	file.read_exact(&mut count)
		.map_err(|error| Failure::Wrong(format!("reading perf's counter: {error}")))?;
	Ok(u64::from_ne_bytes(count))
}

/// Counts all cycles of a CPU, independent of the task that runs there.
pub struct PerfCycles(File);

impl PerfCycles {
	/// Begins to count those of `cpu`.
	pub fn new(cpu: i32) -> Result<Self, Failure> {
		let attr = Attr {
			kind: HARDWARE,
			config: CPU_CYCLES,
			..Attr::default()
		};
		open(attr, -1, cpu).map(Self)
	}

	/// What it has counted.
	pub fn count(&self) -> Result<u64, Failure> {
		count(&self.0)
	}
}

/// Whose accesses to memory are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
	/// Those of the calling thread.
	ThisThread,
	/// Those of all tasks, and of the kernel.
	All,
}

/// Counts stores to a word, by a watchpoint.
pub struct PerfStores(File);

impl PerfStores {
	/// Begins to count those that are made on `cpu`. A CPU has one watchpoint.
	pub fn new(who: Who, cpu: i32, word: *mut u64) -> Result<Self, Failure> {
		let attr = Attr {
			kind: BREAKPOINT,
			breakpoint_type: STORES,
			breakpoint: word.expose_provenance() as u64,
			breakpoint_length: 8,
			..Attr::default()
		};
		let thread = match who {
			Who::ThisThread => 0,
			Who::All => -1,
		};
		open(attr, thread, cpu).map(Self)
	}

	/// How many there were.
	pub fn count(&self) -> Result<u64, Failure> {
		count(&self.0)
	}
}
