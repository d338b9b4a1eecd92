// SPDX-License-Identifier: GPL-2.0-only
//! A figure of a report, what it is made of, and a figure that is missing.

use std::collections::BTreeMap;

use cases::Case;
use protocol::{Column, GuestMode};
use serde::{Deserialize, Serialize};

use crate::console::{Cell, Measured, Reason};
use crate::measure::{self, Summary};
use crate::names;

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
	/// What was called.
	#[serde(with = "names::case")]
	pub case: &'static Case,
	/// By whom.
	#[serde(with = "names::guest")]
	pub guest: GuestMode,
	/// Who served it.
	#[serde(with = "names::path")]
	pub path: Column,
	/// Instructions per round trip, empty loop subtracted, over the batches.
	pub instructions: Summary,
	/// Round trips per batch.
	pub iterations: u64,
	/// Batches.
	pub batches: usize,
	/// Instructions per round of the empty loop.
	pub empty_loop: Summary,
	/// Round trips that the kernel's fast handlers served, if it counts them.
	pub fast: Option<u64>,
	/// Operations that cost a POWER9 more than their instruction, a round trip:
	/// `mtspr`, `isync` and so on, and, after a colon, which register or kind
	/// (`mtspr:LPCR`). Where they were counted.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub costly: Option<BTreeMap<String, f64>>,
	/// Where the instructions went, in the order of the first of each.
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	pub phases: Vec<Phase>,
	/// What a model of a POWER9 makes of it. Not measured.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub modelled_cycles: Option<Modelled>,
	/// The longest stretches without the host, where they were recorded.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub longest: Option<Longest>,
}

/// Longest stretches of consecutive instructions of the hypervisor in a round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Longest {
	/// The host can take no interrupt.
	pub interrupts_off: u64,
	/// The mode byte of the PACA says that a guest runs: a machine check or system reset now is
	/// taken for one of the guest's.
	pub guest_mode: u64,
}

/// A part of a round trip.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Phase {
	/// What happens in it.
	pub name: String,
	/// Instructions per round trip.
	pub instructions: f64,
	/// Modelled, not measured.
	#[serde(default, skip_serializing_if = "Option::is_none")]
	pub modelled_cycles: Option<f64>,
	/// Which functions it went to, the most expensive first.
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	pub functions: Vec<Function>,
}

/// A function's share of a phase.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Function {
	/// Its symbol.
	pub name: String,
	/// In what it is written, or what it is part of.
	pub kind: Origin,
	/// Instructions per round trip.
	pub instructions: f64,
}

/// Whose instructions they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
	/// The guest's own.
	Guest,
	/// Interrupt vectors and the kernel's other assembly.
	Asm,
	/// This project's assembly.
	Trampoline,
	/// This project's Rust.
	Rust,
	/// The kernel's C.
	C,
	/// Userspace on the host.
	User,
}

/// Cycles that a model says, and how far it may be off.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize)]
pub struct Modelled {
	/// Cycles per round trip.
	pub median: f64,
	/// Half the width of the range that they are thought to lie in.
	pub error: f64,
}

impl Entry {
	/// From what the VMM measured.
	pub fn new(measured: &Measured) -> Result<Self, String> {
		let cost = measure::cost(measured)?;
		let Cell { case, guest, path } = measured.cell;
		Ok(Self {
			case,
			guest,
			path,
			instructions: cost.call,
			iterations: measured.iterations,
			batches: measured.ticks.len(),
			empty_loop: cost.empty,
			fast: measured.fast,
			costly: None,
			phases: Vec::new(),
			modelled_cycles: None,
			longest: None,
		})
	}

	/// &'static Case, guest and path.
	pub fn cell(&self) -> Cell {
		Cell {
			case: self.case,
			guest: self.guest,
			path: self.path,
		}
	}
}

/// A figure that there can't be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Missing {
	/// Which.
	#[serde(flatten)]
	pub cell: Cell,
	/// The reason.
	pub why: String,
	/// It should have been measured, but that went wrong. Else the path lacks the case.
	#[serde(default, skip_serializing_if = "std::ops::Not::not")]
	pub failed: bool,
}

impl From<Reason> for Missing {
	/// For want of the case; see [`Missing::failed`].
	fn from(reason: Reason) -> Self {
		Self {
			cell: reason.cell,
			why: reason.why,
			failed: false,
		}
	}
}
