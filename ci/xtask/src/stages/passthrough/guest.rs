// SPDX-License-Identifier: GPL-2.0-only
//! A guest: its path, its window, what becomes of it, and its line for the host.

use std::fmt;

use protocol::Column;

/// Steps of a worker in a run that is to come to its end.
pub(super) const STEPS: u64 = 400;

/// and in one that is not.
pub(super) const ENDLESS: u64 = 1 << 20;

/// Reads of 64 KiB in each section of a guest whose hypervisor is counted.
pub(super) const READS: u64 = 200;

/// What becomes of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scenario {
	/// It does its steps and powers off.
	Work,
	/// Its QEMU is killed in the middle of them.
	Kill,
	/// It is reset in the middle of them, boots again and does them all.
	Reset,
	/// It loses the device in the middle of them.
	Unplug,
	/// It only reads, on each path in turn, and its hypervisor's instructions are counted.
	Cost,
}

impl Scenario {
	const fn name(self) -> &'static str {
		match self {
			Self::Work => "work",
			Self::Kill => "kill",
			Self::Reset => "reset",
			Self::Unplug => "unplug",
			Self::Cost => "cost",
		}
	}
}

/// One guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct GuestRun {
	pub(super) path: Column,
	/// With the 64-bit window.
	pub(super) wide: bool,
	pub(super) scenario: Scenario,
	/// How long it may work; what it has done by then is enough.
	pub(super) seconds: Option<u64>,
}

impl GuestRun {
	pub(super) const fn new(path: Column, wide: bool, scenario: Scenario) -> Self {
		// A reset guest boots into the same work once more, which must come to an end,
		// but not before the reset.
		let seconds = match scenario {
			Scenario::Reset => Some(6),
			_ => None,
		};
		Self {
			path,
			wide,
			scenario,
			seconds,
		}
	}

	fn steps(self) -> u64 {
		match self.scenario {
			Scenario::Cost => READS,
			Scenario::Work if self.seconds.is_none() => STEPS,
			_ => ENDLESS,
		}
	}

	/// Its line for the host's init.
	pub(super) fn line(self, run: u64) -> String {
		let (path, fast) = match self.path {
			Column::C | Column::Asm510 => ("c", 1),
			Column::RustFull => ("rust", 0),
			Column::RustFast => ("rust", 1),
		};
		let ddw = if self.wide { "on" } else { "off" };
		let seconds = self.seconds.unwrap_or(1 << 20);
		let (scenario, steps) = (self.scenario.name(), self.steps());
		format!("{run} {path} {fast} {ddw} {scenario} {steps} {seconds}\n")
	}

	/// What the parameters of kvm_p9 must be.
	pub(super) fn parameters(self) -> &'static str {
		match self.path {
			Column::C | Column::Asm510 => "c 1",
			Column::RustFull => "rust 0",
			Column::RustFast => "rust 1",
		}
	}
}

impl fmt::Display for GuestRun {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let window = if self.wide { 64 } else { 32 };
		write!(f, "{}-{window}-bit", self.path.name())?;
		match self.scenario {
			Scenario::Work => Ok(()),
			scenario => write!(f, "-{}", scenario.name()),
		}
	}
}
