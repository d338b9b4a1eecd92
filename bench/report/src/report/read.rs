// SPDX-License-Identifier: GPL-2.0-only
//! Reads a report, and says in one line what is wrong with a file.

use std::fmt;

use crate::console::Cell;
use crate::report::{Entry, Report, VERSION};
use crate::table::plain;

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
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::tests::sample;

	fn complaint(bytes: &[u8]) -> String {
		Report::read(bytes).unwrap_err().to_string()
	}

	#[test]
	fn every_beginning_of_a_report_is_cut_short() {
		let text = sample().to_json().unwrap();
		for end in 1..text.trim_end().len() {
			let message = complaint(&text.as_bytes()[..end]);
			assert!(message.starts_with("cut short: "), "{end}: {message}");
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
			let message = complaint(bytes);
			assert!(
				message.starts_with(expected) && !message.contains('\n'),
				"{message}"
			);
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
		let message = with(|report| report.results.push(report.results[0].clone()));
		assert_eq!(
			message,
			"not a whole report: null radix asm-5.10 is there twice"
		);
		let message = with(|report| report.missing[0].cell = report.results[0].cell());
		assert_eq!(
			message,
			"not a whole report: null radix asm-5.10 is there twice"
		);
		let message = with(|report| report.results[0].instructions.median = 1e300);
		assert_eq!(
			message,
			"not a whole report: null radix asm-5.10 can't cost 1e300"
		);
		let message = with(|report| report.results[0].instructions.median = 0.0);
		assert_eq!(
			message,
			"not a whole report: null radix asm-5.10 can't cost 0.0"
		);
		let message =
			with(|report| report.results[0].costly = Some([("mftb".into(), -1.0)].into()));
		assert_eq!(
			message,
			"not a whole report: null radix asm-5.10 can't cost -1.0"
		);
	}

	#[test]
	fn another_name_is_refused() {
		let text = sample().to_json().unwrap();
		let message = complaint(text.replace("\"h_prod\"", "\"h_\\u001b\\nx\"").as_bytes());
		assert_eq!(
			message,
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
