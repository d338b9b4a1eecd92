// SPDX-License-Identifier: GPL-2.0-only
//! What the kernel complains of.
//!
//! The console shows little of it (`quiet`); /dev/kmsg has it all.

use std::fs::File;
use std::io::{ErrorKind, Read, Result};
use std::os::unix::fs::OpenOptionsExt;

use crate::nmi::Interrupts;

/// A warning that says nothing of the kernel under test: how its line begins and ends.
struct Harmless {
	start: &'static str,
	end: &'static str,
}

const HARMLESS: [Harmless; 5] = [
	// How slow the emulation was is no fault of the kernel's.
	Harmless {
		start: "hrtimer: interrupt took ",
		end: "",
	},
	// Linux 7.3 says so of a page table for which there is no memory.
	Harmless {
		start: "cma: __cma_alloc_frozen: kvm_cma: alloc failed, req-size: ",
		end: "",
	},
	Harmless {
		start: "=> ",
		end: " total pages",
	},
	// Linux 7.3 says so each time that VFIO opens or closes a device.
	Harmless {
		start: "vfio-pci ",
		end: ": resetting",
	},
	Harmless {
		start: "vfio-pci ",
		end: ": reset done",
	},
];

/// What the kernel says of the interrupts that the runner makes in the tests of system resets and
/// machine checks, and in no other test.
const INTERRUPTED: [Harmless; 9] = [
	// The first machine check taints the kernel.
	Harmless {
		start: "Disabling lock debugging due to kernel taint",
		end: "taint",
	},
	// Of a guest that is lost: there is no event.
	Harmless {
		start: "mce: Machine Check Exception, Unknown event version 0 !",
		end: "!",
	},
	Harmless {
		start: "kvmppc_handle_exit_hv: ",
		end: " callbacks suppressed",
	},
	// Of a machine check in the host that was corrected.
	Harmless {
		start: CORRECTED.start,
		end: CORRECTED.end,
	},
	// Of one in the guest, to which it is left.
	Harmless {
		start: "MCE: CPU0: machine check (Warning) Guest ERAT Multihit [Not recovered]",
		end: "]",
	},
	// Where it was, and what it may come from.
	Harmless {
		start: "MCE: CPU0: NIP: [",
		end: "",
	},
	Harmless {
		start: "MCE: CPU0: PID: ",
		end: "",
	},
	Harmless {
		start: "MCE: CPU0: Initiator CPU",
		end: "CPU",
	},
	Harmless {
		start: "MCE: CPU0: Probable Software error (some chance of hardware cause)",
		end: ")",
	},
];

/// What the kernel says of threads that may run only on a CPU that goes offline, in the tests that take one
/// offline. It names the CPU that the thread was on last.
const OFFLINE: [Harmless; 3] = [
	Harmless {
		start: "process ",
		end: " (registers) no longer affine to cpu0",
	},
	Harmless {
		start: "process ",
		end: " (registers) no longer affine to cpu1",
	},
	Harmless {
		start: "select_fallback_rq: ",
		end: " callbacks suppressed",
	},
];

/// What the kernel says of a machine check in the host that was corrected.
const CORRECTED: Harmless = Harmless {
	start: "MCE: CPU0: machine check (Warning)  ERAT Multihit [Recovered]",
	end: "]",
};

/// Words of a report.
const REPORTS: [&str; 7] = [
	"BUG",
	"WARNING",
	"DEBUG_LOCKS_WARN_ON",
	"possible circular",
	"possible recursive",
	"inconsistent lock",
	"suspicious RCU",
];

/// Linux removes the files of an interrupt from /proc that it had no memory to make, and warns of that.
const NEVER_MADE: &str = " at fs/proc/generic.c:";

/// Whether a line begins a report on a fault of the kernel.
pub fn is_report(line: &str) -> bool {
	REPORTS.iter().any(|word| line.contains(word))
}

/// The same where allocations fail on request.
pub fn is_report_but_of_memory(line: &str) -> bool {
	is_report(line) && !line.contains(NEVER_MADE)
}

impl Harmless {
	fn is(&self, line: &str) -> bool {
		line.starts_with(self.start) && line.ends_with(self.end)
	}
}

/// The kernel's log from some moment on.
pub struct Kmsg(File);

impl Kmsg {
	/// From now on.
	pub fn from_now() -> Result<Self> {
		let mut kmsg = Self::from_boot()?;
		kmsg.complaints()?;
		Ok(kmsg)
	}

	/// From the oldest message that the kernel has kept.
	pub fn from_boot() -> Result<Self> {
		let mut options = File::options();
		let options = options.read(true).custom_flags(libc::O_NONBLOCK);
		Ok(Self(options.open("/dev/kmsg")?))
	}

	/// Every message since the last call that is a warning or worse, from any part of the
	/// kernel, or that was lost before it was read.
	pub fn complaints(&mut self) -> Result<Vec<String>> {
		self.complaints_but(&[])
	}

	/// The same in the time of this test.
	pub fn complaints_of(&mut self, test: &str) -> Result<Vec<String>> {
		match Interrupts::of(test) {
			Some(_) => self.complaints_but(&INTERRUPTED),
			None if test.starts_with("smp-hotplug-") => self.complaints_but(&OFFLINE),
			// The kernel warns of much that fails for want of memory, as it should.
			None if test.starts_with("failing-allocations-") => {
				let mut found = self.complaints()?;
				found.retain(|line| is_report_but_of_memory(line));
				Ok(found)
			}
			None => self.complaints(),
		}
	}

	fn complaints_but(&mut self, expected: &[Harmless]) -> Result<Vec<String>> {
		const WARNING: u32 = 4;
		let mut found = vec![];
		self.read(|priority, line| {
			let warns = priority.is_none_or(|priority| priority & 7 <= WARNING);
			let mut harmless = HARMLESS.iter().chain(expected);
			if warns && !harmless.any(|harmless| harmless.is(line)) {
				found.push(line.to_owned());
			}
		})?;
		Ok(found)
	}

	/// Whether one of the messages since the last call is this one.
	pub fn has(&mut self, wanted: &str) -> Result<bool> {
		let mut found = false;
		self.read(|_, line| found |= line == wanted)?;
		Ok(found)
	}

	/// Tells of each machine check in the host that was corrected since the last call.
	pub fn corrected(&mut self, mut each: impl FnMut()) -> Result<()> {
		self.read(|_, line| {
			if CORRECTED.is(line) {
				each();
			}
		})
	}

	/// All messages since the last call, each with its priority. One without a priority says that
	/// messages were lost.
	fn read(&mut self, mut each: impl FnMut(Option<u32>, &str)) -> Result<()> {
		// One record per read; no record is longer.
		let mut record = [0; 8192];
		loop {
			let length = match self.0.read(&mut record) {
				Ok(length) => length,
				Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(()),
				// Overwritten before it was read: the next read goes on behind.
				Err(e) if e.raw_os_error() == Some(libc::EPIPE) => {
					each(None, "messages that were lost");
					continue;
				}
				Err(e) => return Err(e),
			};
			// "6,339,5140900,-;the text", then lines that begin with a space.
			let text = String::from_utf8_lossy(&record[..length]);
			let Some((header, message)) = text.split_once(';') else {
				continue;
			};
			let priority = header.split(',').next().and_then(|n| n.parse().ok());
			each(priority, message.lines().next().unwrap_or_default());
		}
	}
}
