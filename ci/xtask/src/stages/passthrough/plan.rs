// SPDX-License-Identifier: GPL-2.0-only
//! Which guests run, and in which boots of a host.

use protocol::Column;

use super::guest::{GuestRun, Scenario};

/// Of the disk: 32 MiB, so that all of it can be looked at often.
pub(super) const CELLS: u64 = 8192;

/// What is tested.
pub(super) struct Options {
	/// Every path with every window, killed, reset and unplugged guests, and what I/O costs.
	pub(super) all: bool,
	/// One guest that does I/O for so many minutes, instead.
	pub(super) soak: Option<u64>,
	/// Only what I/O costs, instead.
	pub(super) cost: bool,
	/// For what is random.
	pub(super) seed: u64,
}

impl Options {
	/// Instructions are counted, by QEMU's plugin.
	pub(super) fn counts(&self) -> bool {
		self.boots().iter().any(|(_, counts, _)| *counts)
	}

	/// The guests of each boot of a host; whether instructions are counted.
	pub(super) fn boots(&self) -> Vec<(&'static str, bool, Vec<GuestRun>)> {
		use Column::{C, RustFast, RustFull};
		let cost = ("cost", true, vec![GuestRun::new(C, false, Scenario::Cost)]);
		if self.cost {
			return vec![cost];
		}
		if let Some(minutes) = self.soak {
			let guest = |wide, share| GuestRun {
				seconds: Some(60 * minutes * share / 4),
				..GuestRun::new(RustFast, wide, Scenario::Work)
			};
			let fourth_on_c = GuestRun {
				seconds: Some(60 * minutes / 4),
				..GuestRun::new(C, false, Scenario::Work)
			};
			return vec![(
				"soak",
				false,
				vec![guest(false, 2), guest(true, 1), fourth_on_c],
			)];
		}
		if !self.all {
			let guests = [RustFast, C].map(|path| GuestRun::new(path, false, Scenario::Work));
			return vec![("short", false, guests.to_vec())];
		}
		let each = |wide: bool, scenario: Scenario| {
			[RustFast, RustFull, C].map(|path| GuestRun::new(path, wide, scenario))
		};
		let work = [each(false, Scenario::Work), each(true, Scenario::Work)].concat();
		let last = GuestRun::new(C, false, Scenario::Work);
		let mut scenarios = Vec::new();
		for path in [RustFast, C] {
			scenarios.extend(
				[Scenario::Kill, Scenario::Reset, Scenario::Unplug]
					.map(|scenario| GuestRun::new(path, false, scenario)),
			);
		}
		scenarios.push(GuestRun::new(RustFast, true, Scenario::Kill));
		scenarios.push(last);
		vec![("work", false, work), ("scenarios", false, scenarios), cost]
	}
}

/// One boot of the host.
pub(super) struct Boot {
	pub(super) name: &'static str,
	/// How the names of its files begin.
	pub(super) files: String,
	/// The hypervisor's instructions are counted.
	pub(super) count: bool,
	pub(super) guests: Vec<GuestRun>,
	pub(super) seed: u64,
}

impl Boot {
	/// Runs are numbered from 1.
	pub(super) fn numbered(&self) -> impl Iterator<Item = (u64, GuestRun)> {
		(1..).zip(self.guests.iter().copied())
	}
}
