// SPDX-License-Identifier: GPL-2.0-only
//! The report that a run leaves behind: `report.json`.
//!
//! [`Report::read`] takes what may have been made by another version, cut short or
//! written by hand, and says in one line what is wrong with it. What it lets through
//! has figures that can be drawn and divided by.

use cases::Case;
use protocol::{Column, GuestMode};
use serde::{Deserialize, Serialize};

use crate::console::Cell;

mod entry;
mod environment;
mod read;
mod write;

pub use self::entry::{Entry, Function, Longest, Missing, Modelled, Origin, Phase};
pub use self::environment::{Environment, Kernel};
pub use self::read::Unreadable;

/// Version of the file's layout.
pub const VERSION: u32 = 2;

/// All of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Report {
	/// [`VERSION`]
	pub version: u32,
	/// Figures are these, not cycles.
	pub unit: String,
	/// On what they were measured.
	pub environment: Environment,
	/// The figures.
	pub results: Vec<Entry>,
	/// Figures that there can't be, and why.
	pub missing: Vec<Missing>,
}

impl Report {
	/// Without figures yet.
	pub fn new(environment: Environment) -> Self {
		Self {
			version: VERSION,
			unit: "instructions".to_owned(),
			environment,
			results: Vec::new(),
			missing: Vec::new(),
		}
	}

	/// The figure for a cell.
	pub fn get(&self, case: &'static Case, guest: GuestMode, path: Column) -> Option<&Entry> {
		let cell = Cell { case, guest, path };
		self.results.iter().find(|entry| entry.cell() == cell)
	}

	/// The same, but only its median.
	pub fn median(&self, case: &'static Case, guest: GuestMode, path: Column) -> Option<f64> {
		self.get(case, guest, path)
			.map(|entry| entry.instructions.median)
	}

	/// Why there is no figure for a cell.
	pub fn missing(&self, case: &'static Case, guest: GuestMode, path: Column) -> Option<&Missing> {
		let cell = Cell { case, guest, path };
		self.missing.iter().find(|missing| missing.cell == cell)
	}
}

#[cfg(test)]
pub(crate) mod tests {
	use super::*;
	use crate::console::Measured;
	use cases::case;

	/// A report with a figure for each path of one case, and less of a second.
	pub(crate) fn sample() -> Report {
		let mut report = Report::new(Environment {
			kernel_release: "6.12.117".into(),
			config_hash: "c0ffee".into(),
			object_hash: "0123456789abcdef".into(),
			qemu: "QEMU emulator version 10.0.2".into(),
			icount: "shift=0,sleep=off".into(),
			rustc: "rustc 1.95.0".into(),
			kernels: vec![
				Kernel {
					series: "6.12".into(),
					release: "6.12.117".into(),
					package_version: "6.12.117-1".into(),
					config_hash: "c0ffee".into(),
					compiler: "gcc 12".into(),
				},
				Kernel {
					series: "5.10".into(),
					release: "5.10.262".into(),
					package_version: "5.10.262-1".into(),
					config_hash: "decaf".into(),
					compiler: "gcc 12".into(),
				},
			],
		});
		for (path, instructions) in [
			(Column::Asm510, 181),
			(Column::C, 2230),
			(Column::RustFull, 2234),
			(Column::RustFast, 110),
		] {
			report
				.results
				.push(entry(case!("null"), GuestMode::Radix, path, instructions));
		}
		report
			.results
			.push(entry(case!("h_prod"), GuestMode::Real, Column::C, 2232));
		report.missing.push(Missing {
			cell: Cell {
				case: case!("h_prod"),
				guest: GuestMode::Real,
				path: Column::Asm510,
			},
			why: "no source of Linux 5.10".into(),
			failed: false,
		});
		report
	}

	fn entry(case: &'static Case, guest: GuestMode, path: Column, instructions: u64) -> Entry {
		Entry::new(&Measured {
			cell: Cell { case, guest, path },
			iterations: 512,
			empty_ticks: vec![512 * 512 / 100; 3],
			ticks: [0, 0, 1]
				.map(|more| 512 * 512 * (instructions + 10) / 1000 + more)
				.to_vec(),
			fast: (path == Column::RustFast).then_some(1536),
			spans: vec![],
		})
		.unwrap()
	}
}
