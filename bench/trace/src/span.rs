// SPDX-License-Identifier: GPL-2.0-only
//! What a hypervisor executes while its guest waits, by what the guest left for.
//!
//! A *span* begins when a vcpu's thread comes to an interrupt vector out of a guest, and
//! ends when the thread enters the guest again: [`Recorder`] gets both, and every instruction
//! in between, from the QEMU plugin. Instructions of other threads are no part of a span, even if
//! they run meanwhile on the same CPU, and a thread may go on on another CPU. Unlike a window
//! (crate::format) a span is not kept as a sequence: it is some numbers, and spans with the same
//! numbers are counted. This profiles a whole workload on an unmodified guest kernel.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::str::FromStr;

pub use file::{Error, read, write, write_end, write_start};
pub use recorder::Recorder;

mod file;
mod recorder;
#[cfg(test)]
mod tests;

/// What the guest left for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ExitReason {
	/// An hcall, by its number.
	Hcall(u64),
	/// Any other interrupt, by its vector.
	Vector(u16),
	/// The hypervisor runs, and has not come through a vector. That can't be.
	Lost,
}

impl fmt::Display for ExitReason {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Hcall(number) => write!(f, "hcall:{number:x}"),
			Self::Vector(vector) => write!(f, "vector:{vector:x}"),
			Self::Lost => f.write_str("lost"),
		}
	}
}

impl FromStr for ExitReason {
	type Err = ();

	fn from_str(text: &str) -> Result<Self, ()> {
		Ok(match text.split_once(':') {
			Some(("hcall", number)) => Self::Hcall(u64::from_str_radix(number, 16).map_err(drop)?),
			Some(("vector", vector)) => {
				Self::Vector(u16::from_str_radix(vector, 16).map_err(drop)?)
			}
			None if text == "lost" => Self::Lost,
			_ => return Err(()),
		})
	}
}

/// Interrupts that can arrive in the kernel of a hypervisor at any time.
const ASYNCHRONOUS: [u16; 9] = [
	0x100, 0x200, 0x500, 0x900, 0x980, 0xa00, 0xe60, 0xe80, 0xea0,
];
/// Interrupts by an instruction that has not been done: it is done again afterwards.
const REFUSED: [u16; 4] = [0x300, 0x380, 0xe00, 0xf80];
/// All others that a POWER9 has.
const OTHER: [u16; 14] = [
	0x400, 0x480, 0x600, 0x700, 0x800, 0xc00, 0xd00, 0xe20, 0xe40, 0xf00, 0xf20, 0xf40, 0xf60,
	0x1500,
];

/// Where `sc` comes to.
pub const SYSTEM_CALL: u16 = 0xc00;

/// The interrupt vector that begins at a real address of Linux's: each is there twice, for
/// interrupts that find the MMU off and on.
pub fn vector(real: u64) -> Option<u16> {
	let offset = match real {
		0x4000..0x6000 => real - 0x4000,
		_ => real,
	};
	let offset = u16::try_from(offset).ok()?;
	[&ASYNCHRONOUS[..], &REFUSED, &OTHER]
		.iter()
		.any(|vectors| vectors.contains(&offset))
		.then_some(offset)
}

/// Whose an instruction of the hypervisor is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
	/// The kernel's.
	Kernel,
	/// The firmware's, which the kernel calls.
	Firmware,
	/// Userspace's.
	User,
}

/// What of the kernel a thread has come through. The plugin is told the addresses.
pub mod landmark {
	/// The run loop has a guest entered.
	pub const FULL: u8 = 1;
	/// Code of the kernel is called in a light exit.
	pub const LIGHT: u8 = 2;
	/// The idle task.
	pub const IDLE: u8 = 4;
}

/// Which way an exit took.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Way {
	/// No switch at all.
	Fast,
	/// A light exit.
	Light,
	/// A full exit.
	Full,
}

/// What sort of span it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sort {
	/// What it was for.
	pub event: ExitReason,
	/// Those of [`landmark`] that it came through.
	pub landmarks: u8,
}

/// What is known of a span. Instructions are those that were completed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
	/// What it was for, and what it came through.
	pub sort: Sort,
	/// Instructions by [`Part`].
	pub instructions: [u64; 3],
	/// Interrupts meanwhile that had nothing to do with it.
	pub interrupts: u64,
	/// How often another thread ran meanwhile.
	pub switches: u64,
}

impl Span {
	/// All its instructions.
	pub fn len(&self) -> u64 {
		self.instructions.iter().sum()
	}

	/// Whether it has none.
	pub fn is_empty(&self) -> bool {
		self.len() == 0
	}

	/// Those of the kernel and the firmware.
	pub fn hypervisor(&self) -> u64 {
		self.instructions[Part::Kernel as usize] + self.instructions[Part::Firmware as usize]
	}

	/// Which way the exit took.
	pub fn way(&self) -> Way {
		let came_through = |what| self.sort.landmarks & what != 0;
		match () {
			() if came_through(landmark::FULL) => Way::Full,
			() if came_through(landmark::LIGHT) => Way::Light,
			() => Way::Fast,
		}
	}

	/// Whether the kernel did in it what the guest had left for and nothing else: it got no
	/// interrupt, and neither userspace nor another thread had a turn.
	pub fn is_quiet(&self) -> bool {
		self.interrupts == 0 && self.switches == 0 && self.instructions[Part::User as usize] == 0
	}
}

/// Of which spans code is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CodeOf {
	/// The sort of the spans.
	pub sort: Sort,
	/// Whether they were [quiet](Span::is_quiet).
	pub quiet: bool,
}

/// What was recorded from one marker to the other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Recording {
	/// What was said of it.
	pub tag: u64,
	/// How often each span occurred.
	pub spans: BTreeMap<Span, u64>,
	/// How often spans executed the instruction at a real address.
	pub code: BTreeMap<CodeOf, HashMap<u64, u64>>,
	/// Instructions by [`Part`] of threads that were in no span that ended, by what they came through.
	pub others: BTreeMap<u8, [u64; 3]>,
}
