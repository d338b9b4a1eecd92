// SPDX-License-Identifier: GPL-2.0-only
//! A counter of perf's.

use std::fs::File;
use std::io::{Error, Read};
use std::os::fd::FromRawFd;

use vmm::machine::Failure;

/// `struct perf_event_attr`, in its first published size.
#[repr(C)]
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
}

/// PERF_TYPE_HARDWARE.
const HARDWARE: u32 = 0;
/// PERF_COUNT_HW_CPU_CYCLES.
const CPU_CYCLES: u64 = 0;
/// Always on the PMU, or in error.
const PINNED: u64 = 1 << 2;

/// Counts all cycles of a CPU, independent of the task that runs there.
pub struct PerfCycles(File);

impl PerfCycles {
	/// Begins to count those of `cpu`.
	pub fn new(cpu: i32) -> Result<Self, Failure> {
		let attr = Attr {
			kind: HARDWARE,
			size: size_of::<Attr>() as u32,
			config: CPU_CYCLES,
			sample: 0,
			sample_type: 0,
			read_format: 0,
			flags: PINNED,
			wakeup: 0,
			breakpoint_type: 0,
			breakpoint: 0,
		};
		let (any_process, no_group, flags) = (-1, -1, 0_u64);
		// SAFETY: the kernel reads the structure, whose size is in it.
		let fd = unsafe {
			libc::syscall(
				libc::SYS_perf_event_open,
				&raw const attr,
				any_process,
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
		Ok(Self(unsafe { File::from_raw_fd(fd as i32) }))
	}

	/// What it has counted. An event in error can't be read.
	pub fn count(&self) -> Result<u64, Failure> {
		let mut count = [0; 8];
		(&self.0)
			.read_exact(&mut count)
			.map_err(|error| Failure::Wrong(format!("reading perf's counter: {error}")))?;
		Ok(u64::from_ne_bytes(count))
	}
}
