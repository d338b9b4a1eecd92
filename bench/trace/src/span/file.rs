// SPDX-License-Identifier: GPL-2.0-only
//! The file of spans.
//!
//! A file is text, one record a line, so that `grep` and `sort` can be used on it:
//!
//! | line | |
//! |---|---|
//! | `kvm-p9 spans 2` | the first line; the number is the format's version |
//! | `phase TAG` | what follows was recorded after [`ARM`](protocol::marker::ARM) with TAG in r3 |
//! | `span EVENT LANDMARKS KERNEL FIRMWARE USER INTERRUPTS SWITCHES COUNT` | so many spans were like this |
//! | `others LANDMARKS KERNEL FIRMWARE USER` | instructions of threads that were in no span |
//! | `code EVENT LANDMARKS quiet ADDRESS WORDS COUNT` | so often the [quiet](Span::is_quiet) spans of that kind executed each of these consecutive instructions; the address is real. Of spans that are not quiet the word is `busy` |
//! | `end` | the last line, without which the file was cut off |

use std::fmt;
use std::io::{self, Read, Write};

use super::{CodeOf, Recording, Sort, Span};

pub(super) const FIRST_LINE: &str = "kvm-p9 spans 2";
const LAST_LINE: &str = "end";

/// Begins a file.
pub fn write_start(out: &mut impl Write) -> io::Result<()> {
	writeln!(out, "{FIRST_LINE}")
}

/// Ends it.
pub fn write_end(out: &mut impl Write) -> io::Result<()> {
	writeln!(out, "{LAST_LINE}")?;
	out.flush()
}

/// The word for spans that are quiet, and that for others.
const QUIET: [&str; 2] = ["busy", "quiet"];

/// Writes a phase.
pub fn write(out: &mut impl Write, phase: &Recording) -> io::Result<()> {
	writeln!(out, "phase {:x}", phase.tag)?;
	for (span, count) in &phase.spans {
		let [kernel, firmware, user] = span.instructions;
		let Span {
			sort: Sort { event, landmarks },
			interrupts,
			switches,
			..
		} = span;
		writeln!(
			out,
			"span {event} {landmarks} {kernel} {firmware} {user} {interrupts} {switches} {count}"
		)?;
	}
	for (landmarks, [kernel, firmware, user]) in &phase.others {
		writeln!(out, "others {landmarks} {kernel} {firmware} {user}")?;
	}
	for (of, code) in &phase.code {
		let Sort { event, landmarks } = of.sort;
		let quiet = QUIET[usize::from(of.quiet)];
		let mut all: Vec<(u64, u64)> = code.iter().map(|(&real, &count)| (real, count)).collect();
		all.sort_unstable();
		for run in all.chunk_by(|a, b| a.0 + 4 == b.0 && a.1 == b.1) {
			let ((real, count), words) = (run[0], run.len());
			writeln!(
				out,
				"code {event} {landmarks} {quiet} {real:x} {words} {count}"
			)?;
		}
	}
	out.flush()
}

/// Why a file can't be read.
#[derive(Debug)]
pub enum Error {
	/// The file can't be read at all.
	Io(io::Error),
	/// It is not of this format, or of another version.
	NotSpans,
	/// It ends in the middle: QEMU was stopped, or the disk is full.
	Truncated,
	/// A line, by its number, that can't be.
	Corrupt(usize),
}

impl fmt::Display for Error {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Io(error) => write!(f, "the record of spans can't be read: {error}"),
			Self::NotSpans => f.write_str("this is not a record of spans of this version"),
			Self::Truncated => f.write_str("the record of spans ends in the middle"),
			Self::Corrupt(line) => write!(f, "the record of spans is damaged in line {line}"),
		}
	}
}

impl std::error::Error for Error {}

/// Longest run of instructions that is believed: more than there are in a kernel.
const MOST_WORDS: u64 = 1 << 24;

/// Reads a file, which is some megabytes.
pub fn read(mut from: impl Read) -> Result<Vec<Recording>, Error> {
	let mut bytes = Vec::new();
	from.read_to_end(&mut bytes).map_err(Error::Io)?;
	let text = String::from_utf8_lossy(&bytes);
	// What is cut off within its first line can't be told from another file.
	let Some(records) = text
		.strip_prefix(FIRST_LINE)
		.and_then(|rest| rest.strip_prefix('\n'))
	else {
		return Err(Error::NotSpans);
	};
	let Some(records) = records
		.strip_suffix('\n')
		.and_then(|rest| rest.strip_suffix(LAST_LINE))
	else {
		return Err(Error::Truncated);
	};
	let mut phases = Vec::new();
	for (line, text) in (2..).zip(records.lines()) {
		record(text, &mut phases).ok_or(Error::Corrupt(line))?;
	}
	Ok(phases)
}

fn sort(event: &str, landmarks: &str) -> Option<Sort> {
	Some(Sort {
		event: event.parse().ok()?,
		landmarks: landmarks.parse().ok()?,
	})
}

fn numbers(words: [&str; 3]) -> Option<[u64; 3]> {
	let mut numbers = [0; 3];
	for (number, word) in numbers.iter_mut().zip(words) {
		*number = word.parse().ok()?;
	}
	Some(numbers)
}

fn record(text: &str, phases: &mut Vec<Recording>) -> Option<()> {
	let words: Vec<&str> = text.split(' ').collect();
	match words[..] {
		["phase", tag] => {
			let tag = u64::from_str_radix(tag, 16).ok()?;
			phases.push(Recording {
				tag,
				..Recording::default()
			});
		}
		[
			"span",
			event,
			landmarks,
			kernel,
			firmware,
			user,
			interrupts,
			switches,
			count,
		] => {
			let span = Span {
				sort: sort(event, landmarks)?,
				instructions: numbers([kernel, firmware, user])?,
				interrupts: interrupts.parse().ok()?,
				switches: switches.parse().ok()?,
			};
			let count = count.parse().ok()?;
			if phases.last_mut()?.spans.insert(span, count).is_some() {
				return None;
			}
		}
		["others", landmarks, kernel, firmware, user] => {
			let (landmarks, all) = (landmarks.parse().ok()?, numbers([kernel, firmware, user])?);
			if phases.last_mut()?.others.insert(landmarks, all).is_some() {
				return None;
			}
		}
		["code", event, landmarks, quiet, real, words, count] => {
			let of = CodeOf {
				sort: sort(event, landmarks)?,
				quiet: QUIET.iter().position(|word| *word == quiet)? == 1,
			};
			let real = u64::from_str_radix(real, 16).ok()?;
			let words: u64 = words.parse().ok()?;
			let count: u64 = count.parse().ok()?;
			if words > MOST_WORDS || real.checked_add(4 * words).is_none() {
				return None;
			}
			let code = phases.last_mut()?.code.entry(of).or_default();
			for word in 0..words {
				if code.insert(real + 4 * word, count).is_some() {
					return None;
				}
			}
		}
		_ => return None,
	}
	Some(())
}
