// SPDX-License-Identifier: GPL-2.0-only
//! The report that a run leaves behind: `report.json`.

use std::collections::BTreeMap;

use proto::{Case, Guest, Path};
use serde::{Deserialize, Serialize};

use crate::console::{Cell, Measured, Reason};
use crate::measure::{self, Summary};
use crate::names;

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

/// On what a report's figures were measured.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
	/// `uname -r` of the kernel under test.
	pub kernel_release: String,
	/// Hash of its configuration.
	pub config_hash: String,
	/// Hash of the Rust object that is linked into it.
	pub object_hash: String,
	/// QEMU's version.
	pub qemu: String,
	/// The option that makes it count.
	pub icount: String,
	/// The Rust compiler.
	pub rustc: String,
	/// All kernels that were booted.
	pub kernels: Vec<Kernel>,
}

/// A kernel that was booted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Kernel {
	/// Series.
	pub series: String,
	/// `uname -r`
	pub release: String,
	/// Debian's source package.
	pub package_version: String,
	/// Hash of its configuration.
	pub config_hash: String,
	/// The C compiler.
	pub compiler: String,
}

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
	/// What was called.
	#[serde(with = "names::case")]
	pub case: Case,
	/// By whom.
	#[serde(with = "names::guest")]
	pub guest: Guest,
	/// Who served it.
	#[serde(with = "names::path")]
	pub path: Path,
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
	pub kind: Kind,
	/// Instructions per round trip.
	pub instructions: f64,
}

/// Whose instructions they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
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
		})
	}

	/// Case, guest and path.
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
}

impl From<Reason> for Missing {
	fn from(reason: Reason) -> Self {
		Self {
			cell: reason.cell,
			why: reason.why,
		}
	}
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
	pub fn get(&self, case: Case, guest: Guest, path: Path) -> Option<&Entry> {
		let cell = Cell { case, guest, path };
		self.results.iter().find(|entry| entry.cell() == cell)
	}

	/// The same, but only its median.
	pub fn median(&self, case: Case, guest: Guest, path: Path) -> Option<f64> {
		self.get(case, guest, path)
			.map(|entry| entry.instructions.median)
	}

	/// As a file's content.
	pub fn to_json(&self) -> serde_json::Result<String> {
		let mut text = serde_json::to_string_pretty(self)?;
		text.push('\n');
		Ok(text)
	}
}

#[cfg(test)]
pub(crate) mod tests {
	use super::*;

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
			(Path::Asm510, 181),
			(Path::C, 2230),
			(Path::RustFull, 2234),
			(Path::RustFast, 110),
		] {
			report
				.results
				.push(entry(Case::Null, Guest::Radix, path, instructions));
		}
		report
			.results
			.push(entry(Case::HProd, Guest::Real, Path::C, 2232));
		report.missing.push(Missing {
			cell: Cell {
				case: Case::HProd,
				guest: Guest::Real,
				path: Path::Asm510,
			},
			why: "no source of Linux 5.10".into(),
		});
		report
	}

	fn entry(case: Case, guest: Guest, path: Path, instructions: u64) -> Entry {
		Entry::new(&Measured {
			cell: Cell { case, guest, path },
			iterations: 512,
			empty_ticks: vec![512 * 512 / 100; 3],
			ticks: [0, 0, 1]
				.map(|more| 512 * 512 * (instructions + 10) / 1000 + more)
				.to_vec(),
			fast: (path == Path::RustFast).then_some(1536),
		})
		.unwrap()
	}

	#[test]
	fn it_survives_the_round_trip() {
		let report = sample();
		let text = report.to_json().unwrap();
		assert!(text.ends_with("}\n"));
		assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
	}

	#[test]
	fn fields_have_the_names_that_readers_expect() {
		let json: serde_json::Value = serde_json::from_str(&sample().to_json().unwrap()).unwrap();
		assert_eq!(json["version"], VERSION);
		for field in [
			"kernel_release",
			"config_hash",
			"qemu",
			"rustc",
			"object_hash",
		] {
			assert!(json["environment"][field].is_string(), "{field}");
		}
		let first = &json["results"][0];
		assert_eq!(first["case"], "null");
		assert_eq!(first["guest"], "radix");
		assert_eq!(first["path"], "asm-5.10");
		assert_eq!(first["iterations"], 512);
		for field in ["min", "median", "max"] {
			assert!(first["instructions"][field].is_number(), "{field}");
			assert!(first["empty_loop"][field].is_number(), "{field}");
		}
		assert_eq!(json["missing"][0]["case"], "h_prod");
	}

	#[test]
	fn another_name_is_refused() {
		let text = sample()
			.to_json()
			.unwrap()
			.replace("\"h_prod\"", "\"h_nothing\"");
		let error = serde_json::from_str::<Report>(&text)
			.unwrap_err()
			.to_string();
		assert!(error.contains("h_nothing"), "{error}");
	}
}
