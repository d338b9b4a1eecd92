// SPDX-License-Identifier: GPL-2.0-only
//! Which guests are measured, and at which work.

use std::fmt;

use protocol::Column;

/// Paths that are compared, in the order in which a guest goes through them.
pub(super) const PATHS: [Column; 3] = [Column::C, Column::RustFull, Column::RustFast];

/// What a guest does.
pub(super) struct Work {
	/// In tables, with what a figure is for.
	pub(super) name: &'static str,
	/// As `diskcheck` is told; the tag follows.
	command: &'static str,
	/// Of C's instructions, what the Rust path with fast handlers and light exits is to need at
	/// most: of a radix guest's and of a hash guest's.
	pub(super) goals: Option<[f64; 2]>,
}

/// All kinds.
pub(super) const WORKS: [Work; 6] = [
	Work {
		name: "4 KiB read, sequential",
		command: "read /dev/vda 4 200",
		goals: Some([0.55, 0.55]),
	},
	Work {
		name: "4 KiB read, random",
		command: "random /dev/vda 4 200",
		goals: Some([0.55, 0.55]),
	},
	Work {
		name: "fork, exec, exit",
		command: "processes 30",
		goals: Some([0.55, 0.40]),
	},
	Work {
		name: "two turns of a ping-pong",
		command: "turns 200",
		goals: Some([0.55, 0.55]),
	},
	Work {
		name: "millisecond idle",
		command: "sleep 1500",
		goals: None,
	},
	Work {
		name: "millisecond of computing",
		command: "compute 200",
		goals: None,
	},
];

/// Of C's instructions, what the Rust path may need where there is no goal.
pub(super) const NOT_MORE: f64 = 1.02;

/// How far a part may be from that of the reference, because what a guest waits for is not
/// the same each time.
pub(super) const MARGIN: f64 = 0.08;
const UNSTEADY: f64 = 0.25;

/// Of the exits that do not sleep, those that are to take a short way at least.
pub(super) const SHORT: f64 = 0.95;

/// A guest.
#[derive(Clone, Copy)]
pub(super) struct GuestConfig {
	hash: bool,
	controller: &'static str,
	vcpus: u32,
}

/// Those that are measured.
pub(super) const GUESTS: [GuestConfig; 4] = [
	GuestConfig::new(false, "xive", 1),
	GuestConfig::new(false, "xive", 2),
	GuestConfig::new(false, "xics", 1),
	GuestConfig::new(true, "xive", 1),
];

/// Memory of a guest in MiB.
const MEMORY: u32 = 256;

impl GuestConfig {
	const fn new(hash: bool, controller: &'static str, vcpus: u32) -> Self {
		Self {
			hash,
			controller,
			vcpus,
		}
	}

	/// How far the part of C's instructions may be from that of the reference. How often processes
	/// go from one vcpu to another is not the same in each run.
	pub(super) fn margin(self, work: &Work) -> f64 {
		match self.vcpus > 1 && work.command.starts_with("processes") {
			true => UNSTEADY,
			false => MARGIN,
		}
	}

	/// What is goal for the guest.
	pub(super) fn goal(self, work: &Work) -> Option<f64> {
		work.goals.map(|goals| goals[usize::from(self.hash)])
	}

	/// Its line for the host's init.
	pub(super) fn line(self, run: u64) -> String {
		let Self {
			vcpus, controller, ..
		} = self;
		let mmu = if self.hash { " disable_radix" } else { "" };
		format!("{run} {vcpus} {MEMORY} {controller}{mmu}\n")
	}

	/// What it must say of itself: the MMU, its interrupt controller, its vcpus.
	pub(super) fn says(self) -> [(&'static str, String); 3] {
		let mmu = if self.hash { "Hash" } else { "Radix" };
		let controller = self.controller.to_uppercase();
		[
			("guest mmu", mmu.to_owned()),
			("guest controller", controller),
			("guest cpus", self.vcpus.to_string()),
		]
	}
}

impl fmt::Display for GuestConfig {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let mmu = if self.hash { "hash" } else { "radix" };
		let plural = if self.vcpus == 1 { "" } else { "s" };
		let (controller, vcpus) = (self.controller.to_uppercase(), self.vcpus);
		write!(f, "{mmu}, {controller}, {vcpus} vcpu{plural}")
	}
}

/// The lines for the guests' init.
pub(super) fn works() -> String {
	let line = |work: &Work| format!("{} {}\n", work.name.replace(' ', "-"), work.command);
	WORKS.iter().map(line).collect()
}

/// Some work on one path, as a guest calls it.
#[derive(Clone, Copy)]
pub(super) struct Section {
	pub(super) tag: u64,
	pub(super) work: &'static Work,
	pub(super) path: Column,
}

/// All of a guest's, in its order.
pub(super) fn sections(run: u64) -> impl Iterator<Item = Section> {
	let all = PATHS
		.into_iter()
		.flat_map(|path| WORKS.iter().map(move |work| (path, work)));
	(run * 100 + 1..)
		.zip(all)
		.map(|(tag, (path, work))| Section { tag, work, path })
}
