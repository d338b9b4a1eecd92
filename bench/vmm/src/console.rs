// SPDX-License-Identifier: GPL-2.0-only
//! Lines for the runner: a prefix, and one JSON object.

use std::io::Write;

use serde::Serialize;

/// What marks our lines among the console's noise.
const PREFIX: &str = "@kvm-p9 ";

/// A line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line<'a> {
	/// The first.
	Hello { release: &'a str, params: bool },
	/// A measurement.
	Result {
		case: &'a str,
		guest: &'a str,
		path: &'a str,
		iterations: u64,
		empty_ticks: &'a [u64],
		ticks: &'a [u64],
		fast: Option<u64>,
	},
	/// A measurement that this kernel can't have.
	Na {
		case: &'a str,
		guest: &'a str,
		path: &'a str,
		why: &'a str,
	},
	/// A measurement that failed.
	Error {
		case: &'a str,
		guest: &'a str,
		path: &'a str,
		why: &'a str,
	},
	/// A test.
	Test {
		name: &'a str,
		status: Status,
		detail: &'a str,
	},
	/// The VMM can't go on.
	Fatal { why: &'a str },
	/// The last.
	Done,
}

/// How a test ended.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
	Pass,
	Fail,
	Skip,
}

/// Writes a line.
pub fn say(line: &Line<'_>) {
	let json = serde_json::to_string(line).expect("nothing in a line can fail to serialise");
	// A line break first, as the kernel may have left the cursor anywhere. There is
	// nobody to tell when the console is gone.
	let _ = std::io::stdout().write_all(format!("\n{PREFIX}{json}\n").as_bytes());
	let _ = std::io::stdout().flush();
}
