// SPDX-License-Identifier: GPL-2.0-only
//! The report that a run leaves behind: `report.json`.
//!
//! [`Report::read`] takes what may have been made by another version, cut short or
//! written by hand, and says in one line what is wrong with it. What it lets through
//! has figures that can be drawn and divided by.

use std::collections::BTreeMap;
use std::fmt;

use cases::Case;
use protocol::{Column, GuestMode};
use serde::{Deserialize, Serialize};

use crate::console::{Cell, Measured, Reason};
use crate::measure::{self, Summary};
use crate::names;
use crate::table::plain;

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

/// Why a file is no report that could be used.
#[derive(Debug)]
pub enum Unreadable {
	/// It isn't JSON.
	NotJson(serde_json::Error),
	/// It is the beginning of some JSON.
	Truncated(serde_json::Error),
	/// It is JSON, but of something else.
	NoReport,
	/// Of another version, which is a number in all versions so far.
	Version(Option<u64>),
	/// A field is not what it should be.
	Malformed(serde_json::Error),
	/// A cell is there more than once.
	Twice(Cell),
	/// A number that can't be a cost.
	Impossible(Cell, f64),
}

impl fmt::Display for Unreadable {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::NotJson(why) => write!(f, "not JSON: {why}"),
			Self::Truncated(why) => write!(
				f,
				"cut short: the JSON ends at line {} before it is complete",
				why.line()
			),
			Self::NoReport => f.write_str("JSON, but not a report of this benchmark"),
			Self::Version(Some(found)) => {
				write!(f, "a report of version {found}, but this reads {VERSION}")
			}
			Self::Version(None) => {
				write!(f, "a report of another version, but this reads {VERSION}")
			}
			// The text quotes names of any content.
			Self::Malformed(why) => {
				let why = plain(&why.to_string());
				let short: String = why.chars().take(200).collect();
				write!(f, "not a whole report: {short}")
			}
			Self::Twice(cell) => write!(f, "not a whole report: {cell} is there twice"),
			Self::Impossible(cell, figure) => {
				write!(f, "not a whole report: {cell} can't cost {figure:?}")
			}
		}
	}
}

impl std::error::Error for Unreadable {}

/// Beyond this nothing was measured, and sums and ratios could overflow.
const ABSURD: f64 = 1e15;

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

	/// From a file's content.
	pub fn read(bytes: &[u8]) -> Result<Self, Unreadable> {
		use serde_json::error::Category;
		let value: serde_json::Value =
			serde_json::from_slice(bytes).map_err(|why| match why.classify() {
				// An empty file has no beginning.
				Category::Eof if !bytes.trim_ascii().is_empty() => Unreadable::Truncated(why),
				_ => Unreadable::NotJson(why),
			})?;
		match value.get("version") {
			Some(version) if *version == VERSION => {}
			Some(version) if value.get("results").is_some() => {
				return Err(Unreadable::Version(version.as_u64()));
			}
			_ => return Err(Unreadable::NoReport),
		}
		let report: Self = serde_json::from_value(value).map_err(Unreadable::Malformed)?;
		report.check()?;
		Ok(report)
	}

	/// Each cell at most once, and figures that there can be.
	fn check(&self) -> Result<(), Unreadable> {
		let mut seen: Vec<Cell> = Vec::new();
		let cells = self.results.iter().map(Entry::cell);
		for cell in cells.chain(self.missing.iter().map(|missing| missing.cell)) {
			if seen.contains(&cell) {
				return Err(Unreadable::Twice(cell));
			}
			seen.push(cell);
		}
		for entry in &self.results {
			let cell = entry.cell();
			let totals = [
				entry.instructions.min,
				entry.instructions.median,
				entry.instructions.max,
				entry.empty_loop.median,
			];
			let modelled = entry.modelled_cycles.iter();
			let modelled = modelled.flat_map(|cycles| [cycles.median, cycles.error]);
			let costly = entry
				.costly
				.iter()
				.flat_map(|counts| counts.values().copied());
			let phases = entry.phases.iter().flat_map(|phase| {
				let functions = phase.functions.iter().map(|function| function.instructions);
				functions
					.chain(phase.modelled_cycles)
					.chain([phase.instructions])
			});
			let all = totals
				.into_iter()
				.chain(modelled)
				.chain(costly)
				.chain(phases);
			for figure in all {
				if !(0.0..ABSURD).contains(&figure) {
					return Err(Unreadable::Impossible(cell, figure));
				}
			}
			if entry.instructions.median <= 0.0 {
				return Err(Unreadable::Impossible(cell, entry.instructions.median));
			}
		}
		Ok(())
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

	/// As the content of a file to compare with: without phases, which nothing is compared
	/// by, and a line for each figure.
	pub fn to_reference(&self) -> serde_json::Result<String> {
		let lines = |lines: Vec<String>| lines.join(",\n\t\t");
		let results = self.results.iter().map(|entry| {
			serde_json::to_string(&Entry {
				phases: Vec::new(),
				..entry.clone()
			})
		});
		let missing = self.missing.iter().map(serde_json::to_string);
		Ok(format!(
			"{{\n\t\"version\": {},\n\t\"unit\": {},\n\t\"environment\": {},\n\t\"results\": [\n\t\t{}\n\t],\n\t\"missing\": [\n\t\t{}\n\t]\n}}\n",
			self.version,
			serde_json::to_string(&self.unit)?,
			serde_json::to_string(&self.environment)?,
			lines(results.collect::<Result<_, _>>()?),
			lines(missing.collect::<Result<_, _>>()?),
		))
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

	fn complaint(bytes: &[u8]) -> String {
		Report::read(bytes).unwrap_err().to_string()
	}

	#[test]
	fn what_was_written_is_read() {
		for text in [
			sample().to_json().unwrap(),
			sample().to_reference().unwrap(),
		] {
			assert_eq!(Report::read(text.as_bytes()).unwrap(), sample());
		}
	}

	#[test]
	fn a_reference_has_what_is_compared_and_a_line_for_each_figure() {
		let whole = crate::sample::report();
		let text = whole.to_reference().unwrap();
		let read = Report::read(text.as_bytes()).unwrap();
		assert_eq!(read.results.len(), whole.results.len());
		for (read, whole) in read.results.iter().zip(&whole.results) {
			assert_eq!(read.instructions, whole.instructions);
			assert_eq!(read.costly, whole.costly);
			assert!(read.phases.is_empty());
			assert_eq!(read.modelled_cycles, whole.modelled_cycles);
		}
		let lines = text
			.lines()
			.filter(|line| line.contains("\"instructions\":{"));
		assert_eq!(lines.count(), whole.results.len());
		let none = Report::new(Environment::default()).to_reference().unwrap();
		assert!(Report::read(none.as_bytes()).is_ok());
	}

	#[test]
	fn every_beginning_of_a_report_is_cut_short() {
		let text = sample().to_json().unwrap();
		for end in 1..text.trim_end().len() {
			let said = complaint(&text.as_bytes()[..end]);
			assert!(said.starts_with("cut short: "), "{end}: {said}");
		}
	}

	#[test]
	fn what_is_no_report_is_said_in_a_line() {
		let cases: [(&[u8], &str); 6] = [
			(b"", "not JSON: "),
			(b"hello", "not JSON: "),
			(b"\xff\xfe{}", "not JSON: "),
			(b"[]", "JSON, but not"),
			(b"{\"version\": 1}", "JSON, but not"),
			(
				b"{\"version\": 2, \"results\": []}",
				"not a whole report: missing field",
			),
		];
		for (bytes, expected) in cases {
			let said = complaint(bytes);
			assert!(said.starts_with(expected) && !said.contains('\n'), "{said}");
		}
		let deep = "[".repeat(100_000);
		assert!(complaint(deep.as_bytes()).starts_with("not JSON: "));
	}

	#[test]
	fn versions_are_told() {
		let with = |version: &str| {
			let text = sample().to_json().unwrap();
			complaint(
				text.replacen("\"version\": 2", &format!("\"version\": {version}"), 1)
					.as_bytes(),
			)
		};
		assert_eq!(with("1"), "a report of version 1, but this reads 2");
		assert_eq!(with("3"), "a report of version 3, but this reads 2");
		for odd in ["\"2\\n\"", "-1", "null", "[2]"] {
			assert_eq!(with(odd), "a report of another version, but this reads 2");
		}
	}

	#[test]
	fn impossible_reports_are_refused() {
		let with = |change: fn(&mut Report)| {
			let mut report = sample();
			change(&mut report);
			complaint(report.to_json().unwrap().as_bytes())
		};
		let said = with(|report| report.results.push(report.results[0].clone()));
		assert_eq!(
			said,
			"not a whole report: null radix asm-5.10 is there twice"
		);
		let said = with(|report| report.missing[0].cell = report.results[0].cell());
		assert_eq!(
			said,
			"not a whole report: null radix asm-5.10 is there twice"
		);
		let said = with(|report| report.results[0].instructions.median = 1e300);
		assert_eq!(
			said,
			"not a whole report: null radix asm-5.10 can't cost 1e300"
		);
		let said = with(|report| report.results[0].instructions.median = 0.0);
		assert_eq!(
			said,
			"not a whole report: null radix asm-5.10 can't cost 0.0"
		);
		let said = with(|report| report.results[0].costly = Some([("mftb".into(), -1.0)].into()));
		assert_eq!(
			said,
			"not a whole report: null radix asm-5.10 can't cost -1.0"
		);
	}

	#[test]
	fn another_name_is_refused() {
		let text = sample().to_json().unwrap();
		let said = complaint(text.replace("\"h_prod\"", "\"h_\\u001b\\nx\"").as_bytes());
		assert_eq!(
			said,
			"not a whole report: no case is called 'h_\u{fffd}\u{fffd}x'"
		);
	}

	#[test]
	fn serde_alone_refuses_it_too() {
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
