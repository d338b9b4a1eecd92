// SPDX-License-Identifier: GPL-2.0-only
//! The VMM's lines on the console.

use std::fmt;

use cases::Case;
use protocol::{Column, GuestMode};
use serde::{Deserialize, Serialize};

use crate::names;

/// Stands before each of the VMM's lines.
pub const MARK: &str = "@kvm-p9 ";

/// What the VMM says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line {
	/// It runs.
	Hello {
		/// `uname -r`
		release: String,
		/// The kernel has our parameters.
		params: bool,
	},
	/// A case was measured.
	Result(Measured),
	/// This path doesn't have this case.
	Na(Reason),
	/// A case went wrong.
	Error(Reason),
	/// A test's outcome.
	Test {
		/// Its name.
		name: String,
		/// Its outcome.
		status: Status,
		/// What there is to say of it.
		#[serde(default)]
		detail: String,
	},
	/// The VMM can't go on.
	Fatal {
		/// For this reason.
		why: String,
	},
	/// All is done, the machine powers off.
	Done,
}

/// A case, in a guest, on a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cell {
	/// What was called.
	#[serde(with = "names::case")]
	pub case: &'static Case,
	/// By whom.
	#[serde(with = "names::guest")]
	pub guest: GuestMode,
	/// Who served it.
	#[serde(with = "names::path")]
	pub path: Column,
}

impl fmt::Display for Cell {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(
			f,
			"{} {} {}",
			self.case.name,
			self.guest.name(),
			self.path.name()
		)
	}
}

/// What was measured of one [`Cell`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Measured {
	/// Of what.
	#[serde(flatten)]
	pub cell: Cell,
	/// Round trips per batch.
	pub iterations: u64,
	/// Timebase ticks of as many rounds of the empty loop, per batch.
	pub empty_ticks: Vec<u64>,
	/// Timebase ticks of the round trips, loop included, per batch.
	pub ticks: Vec<u64>,
	/// How many of them the kernel's fast handlers served, if it counts that.
	#[serde(default)]
	pub fast: Option<u64>,
	/// Spans of the vcpus on the Rust path, if they were asked for.
	#[serde(default, skip_serializing_if = "Vec::is_empty")]
	pub spans: Vec<Span>,
}

/// Spans of one kind, in one unit, summed up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Span {
	/// Its name in `p9_times`.
	pub span: String,
	/// `ticks` or `cycles`.
	pub unit: String,
	/// How many.
	pub count: u64,
	/// Of all.
	pub total: u64,
}

/// Why there is no figure for a [`Cell`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reason {
	/// For what.
	#[serde(flatten)]
	pub cell: Cell,
	/// The VMM's words.
	pub why: String,
}

/// How a test ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
	/// As it should.
	Pass,
	/// Not so.
	Fail,
	/// It could not run here.
	Skip,
}

/// A line with our mark that can't be understood.
#[derive(Debug)]
pub struct Garbled {
	/// What stood behind the mark.
	pub text: String,
	/// What is wrong with it.
	pub why: serde_json::Error,
}

impl fmt::Display for Garbled {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(
			f,
			"garbled line from the machine ({}): {}",
			self.why, self.text
		)
	}
}

impl std::error::Error for Garbled {}

/// Reads one line of the console; `None` if it is none of the VMM's.
///
/// The kernel may have written on the same line, before or after.
pub fn parse(line: &str) -> Option<Result<Line, Garbled>> {
	let (_, text) = line.split_once(MARK)?;
	let mut values = serde_json::Deserializer::from_str(text).into_iter::<Line>();
	let value = match values.next() {
		Some(value) => value,
		// Nothing but space: let serde_json say what is missing.
		None => serde_json::from_str(text),
	};
	Some(value.map_err(|why| Garbled {
		text: text.to_owned(),
		why,
	}))
}

#[cfg(test)]
mod tests {
	use super::*;
	use cases::case;

	const RESULT: &str = r#"@kvm-p9 {"kind":"result","case":"null","guest":"radix","path":"rust-fast","iterations":10,"empty_ticks":[5,5],"ticks":[700,701],"fast":20}"#;

	fn cell() -> Cell {
		Cell {
			case: case!("null"),
			guest: GuestMode::Radix,
			path: Column::RustFast,
		}
	}

	#[test]
	fn a_result_is_read() {
		let line = parse(RESULT).unwrap().unwrap();
		assert_eq!(
			line,
			Line::Result(Measured {
				cell: cell(),
				iterations: 10,
				empty_ticks: vec![5, 5],
				ticks: vec![700, 701],
				fast: Some(20),
				spans: vec![],
			})
		);
	}

	#[test]
	fn every_kind_is_read_back_as_written() {
		let reason = Reason {
			cell: cell(),
			why: "no \"such\" hcall".into(),
		};
		for line in [
			Line::Hello {
				release: "6.12.117".into(),
				params: true,
			},
			Line::Na(reason.clone()),
			Line::Error(reason),
			Line::Test {
				name: "gpr".into(),
				status: Status::Skip,
				detail: "why".into(),
			},
			Line::Fatal {
				why: "no /dev/kvm".into(),
			},
			Line::Done,
		] {
			let text = format!("{MARK}{}", serde_json::to_string(&line).unwrap());
			assert_eq!(parse(&text).unwrap().unwrap(), line, "{text}");
		}
	}

	#[test]
	fn the_kernel_may_talk_on_the_same_line() {
		let line = format!("[    1.234567] kvm: something {RESULT} [    1.3] more {{}}");
		assert_eq!(
			parse(&line).unwrap().unwrap(),
			parse(RESULT).unwrap().unwrap()
		);
	}

	#[test]
	fn noise_is_noise() {
		for line in [
			"",
			"[    0.0] Linux version",
			"{\"kind\":\"done\"}",
			"@kvm-p8 {}",
		] {
			assert!(parse(line).is_none(), "{line}");
		}
	}

	#[test]
	fn what_is_ours_but_garbled_is_an_error() {
		for end in 1..RESULT.len() - MARK.len() {
			let line = &RESULT[..RESULT.len() - end];
			assert!(parse(line).unwrap().is_err(), "{line}");
		}
		for text in [
			r#"{"kind":"nonsense"}"#,
			r#"{"kind":"na","case":"h_nothing","guest":"real","path":"c","why":""}"#,
			r#"{"kind":"test","name":"x","status":"maybe"}"#,
			"\u{fffd}\u{0}[1]",
			"",
		] {
			let line = format!("{MARK}{text}");
			assert!(parse(&line).unwrap().is_err(), "{line}");
		}
		let error = parse("@kvm-p9 {\"kind\":\"nonsense\"}")
			.unwrap()
			.unwrap_err()
			.to_string();
		assert!(error.contains("nonsense"), "{error}");
	}
}
