// SPDX-License-Identifier: GPL-2.0-only
//! Lines for the runner: a prefix, and one JSON object.

use std::io::Write;

use serde::Serialize;

/// What marks our lines among the console's noise.
const PREFIX: &str = "@kvm-p9 ";

/// Spans of one kind, in one unit, summed up.
#[derive(Serialize)]
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

/// A line.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Line<'a> {
	/// The first.
	Hello {
		/// `uname -r`.
		release: &'a str,
		/// The kernel has the parameters of kvm-p9.
		params: bool,
	},
	/// A measurement.
	Result {
		/// The name of the case.
		case: &'a str,
		/// The name of the guest mode.
		guest: &'a str,
		/// The name of the path.
		path: &'a str,
		/// Round trips of a batch.
		iterations: u64,
		/// TB ticks of each batch of empty iterations.
		empty_ticks: &'a [u64],
		/// TB ticks of each batch of round trips.
		ticks: &'a [u64],
		/// Round trips that fast handlers served, where that is counted.
		fast: Option<u64>,
		/// Spans of the vcpus, if they were asked for.
		#[serde(skip_serializing_if = "<[Span]>::is_empty")]
		spans: &'a [Span],
	},
	/// A measurement that this kernel can't have.
	Na {
		/// The name of the case.
		case: &'a str,
		/// The name of the guest mode.
		guest: &'a str,
		/// The name of the path.
		path: &'a str,
		/// What the kernel lacks.
		why: &'a str,
	},
	/// A measurement that failed.
	Error {
		/// The name of the case.
		case: &'a str,
		/// The name of the guest mode.
		guest: &'a str,
		/// The name of the path.
		path: &'a str,
		/// What went wrong.
		why: &'a str,
	},
	/// A test.
	Test {
		/// Its name.
		name: &'a str,
		/// How it ended.
		status: Status,
		/// What it measured, or what went wrong.
		detail: &'a str,
	},
	/// Init can't go on.
	Fatal {
		/// What went wrong.
		why: &'a str,
	},
	/// The last.
	Done,
}

/// How a test ended.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
	/// As it should.
	Pass,
	/// Not so.
	Fail,
	/// The kernel lacks something that it needs.
	Skip,
}

/// Writes a line.
pub fn say(line: &Line<'_>) {
	let json = serde_json::to_string(line).expect("nothing in a line can fail to serialise");
	// A line break first, because the kernel may have printed a part of a line. An error of
	// the console cannot be reported.
	let _ = std::io::stdout().write_all(format!("\n{PREFIX}{json}\n").as_bytes());
	let _ = std::io::stdout().flush();
	// A file keeps the line if the machine dies next. A console has nothing to write through.
	// SAFETY: the call changes no memory of the process.
	let _ = unsafe { libc::fdatasync(libc::STDOUT_FILENO) };
}
