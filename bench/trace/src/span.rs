// SPDX-License-Identifier: GPL-2.0-only
//! What a hypervisor executes while its guest waits, by what the guest left for.
//!
//! A *span* begins when the hypervisor comes to an interrupt vector out of a guest, and
//! ends when a guest is entered again: [`Recorder`] gets both, and every instruction in
//! between, from the QEMU plugin. Unlike a window (crate::format) a span is not kept as
//! a sequence: it is some numbers, and spans with the same numbers are counted. This profiles
//! a whole workload on an unmodified guest kernel.
//!
//! A file is text, one record a line, so that `grep` and `sort` can be used on it:
//!
//! | line | |
//! |---|---|
//! | `kvm-p9 spans 1` | the first line; the number is the format's version |
//! | `phase TAG` | what follows was recorded after [`ARM`](protocol::marker::ARM) with TAG in r3 |
//! | `span EVENT KERNEL FIRMWARE USER INTERRUPTS COUNT` | so many spans were like this |
//! | `code EVENT ADDRESS WORDS COUNT` | so often the spans of that kind executed each of these consecutive instructions; the address is real; only spans that are [quiet](Span::is_quiet) |
//! | `end` | the last line, without which the file was cut off |

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

const FIRST_LINE: &str = "kvm-p9 spans 1";
const LAST_LINE: &str = "end";

/// What the guest left for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
	/// An hcall, by its number.
	Hcall(u64),
	/// Any other interrupt, by its vector.
	Vector(u16),
	/// The hypervisor ran already when the phase began.
	Before,
	/// The hypervisor runs, and has not come through a vector. That can't be.
	Lost,
}

impl fmt::Display for Event {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Hcall(number) => write!(f, "hcall:{number:x}"),
			Self::Vector(vector) => write!(f, "vector:{vector:x}"),
			Self::Before => f.write_str("before"),
			Self::Lost => f.write_str("lost"),
		}
	}
}

impl FromStr for Event {
	type Err = ();

	fn from_str(text: &str) -> Result<Self, ()> {
		Ok(match text.split_once(':') {
			Some(("hcall", number)) => Self::Hcall(u64::from_str_radix(number, 16).map_err(drop)?),
			Some(("vector", vector)) => {
				Self::Vector(u16::from_str_radix(vector, 16).map_err(drop)?)
			}
			None if text == "before" => Self::Before,
			None if text == "lost" => Self::Lost,
			_ => return Err(()),
		})
	}
}

/// Interrupts that can arrive in the kernel of a hypervisor at any time.
const ASYNCHRONOUS: [u16; 9] = [
	0x100, 0x200, 0x500, 0x900, 0x980, 0xa00, 0xe60, 0xe80, 0xea0,
];
/// Interrupts by an instruction that has not been done: it is done again afterwards.
const REFUSED: [u16; 4] = [0x300, 0x380, 0xe00, 0xf80];
/// All others that a POWER9 has.
const OTHER: [u16; 14] = [
	0x400, 0x480, 0x600, 0x700, 0x800, 0xc00, 0xd00, 0xe20, 0xe40, 0xf00, 0xf20, 0xf40, 0xf60,
	0x1500,
];

/// Where `sc` comes to.
pub const SYSTEM_CALL: u16 = 0xc00;

/// The interrupt vector that begins at a real address of Linux's: each is there twice, for
/// interrupts that find the MMU off and on.
pub fn vector(real: u64) -> Option<u16> {
	let offset = match real {
		0x4000..0x6000 => real - 0x4000,
		_ => real,
	};
	let offset = u16::try_from(offset).ok()?;
	[&ASYNCHRONOUS[..], &REFUSED, &OTHER]
		.iter()
		.any(|vectors| vectors.contains(&offset))
		.then_some(offset)
}

/// Whose an instruction of the hypervisor is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Part {
	/// The kernel's.
	Kernel,
	/// The firmware's, which the kernel calls.
	Firmware,
	/// Userspace's.
	User,
}

/// What is known of a span. Instructions are those that were completed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
	/// What it was for.
	pub event: Event,
	/// Instructions by [`Part`].
	pub instructions: [u64; 3],
	/// Interrupts meanwhile that had nothing to do with it.
	pub interrupts: u64,
}

impl Span {
	/// All its instructions.
	pub fn len(&self) -> u64 {
		self.instructions.iter().sum()
	}

	/// Whether it has none.
	pub fn is_empty(&self) -> bool {
		self.len() == 0
	}

	/// Whether the kernel did in it what the guest had left for and nothing else: it got no
	/// interrupt, and userspace had no turn.
	pub fn is_quiet(&self) -> bool {
		self.interrupts == 0 && self.instructions[Part::User as usize] == 0
	}
}

/// What was recorded from one marker to the other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Phase {
	/// What was said of it.
	pub tag: u64,
	/// How often each span occurred.
	pub spans: BTreeMap<Span, u64>,
	/// How often the quiet spans of a kind executed the instruction at a real address.
	pub code: BTreeMap<Event, HashMap<u64, u64>>,
}

/// A span that lasts.
struct Open {
	span: Span,
	/// Where the kernel's and the firmware's instructions were.
	code: Vec<u64>,
	/// Whose the last one was.
	last: Option<Part>,
}

impl Open {
	fn new(event: Event) -> Self {
		Self {
			span: Span {
				event,
				instructions: [0; 3],
				interrupts: 0,
			},
			code: Vec::new(),
			last: None,
		}
	}
}

/// Makes spans of what is executed.
#[derive(Default)]
pub struct Recorder {
	phase: Option<Phase>,
	/// None while a guest runs.
	open: Option<Open>,
}

impl Recorder {
	/// A phase begins. Whether the hypervisor or a guest has said so is `in_guest`.
	pub fn begin(&mut self, tag: u64, in_guest: bool) {
		self.phase = Some(Phase {
			tag,
			..Phase::default()
		});
		self.open = (!in_guest).then(|| Open::new(Event::Before));
	}

	/// It is over. `None` if none has begun.
	pub fn end(&mut self) -> Option<Phase> {
		self.close();
		self.phase.take()
	}

	/// Whether the next instruction that is not the kernel's and not the firmware's is
	/// a guest's.
	pub fn in_guest(&self) -> bool {
		self.open.is_none()
	}

	/// An instruction of the hypervisor's kernel or firmware is executed, at a real
	/// address. If an hcall may arrive by it, r3 is the number.
	pub fn host(&mut self, part: Part, real: u64, r3: u64) {
		let vector = match part {
			Part::Kernel => vector(real),
			_ => None,
		};
		if let Some(open) = &mut self.open {
			match vector {
				Some(vector) if ASYNCHRONOUS.contains(&vector) => open.span.interrupts += 1,
				Some(vector) if REFUSED.contains(&vector) => {
					if let Some(last) = open.last.take() {
						open.span.instructions[last as usize] -= 1;
						if last != Part::User {
							open.code.pop();
						}
					}
				}
				_ => {}
			}
		}
		let open = self.open.get_or_insert_with(|| {
			Open::new(match vector {
				Some(SYSTEM_CALL) => Event::Hcall(r3),
				Some(vector) => Event::Vector(vector),
				None => Event::Lost,
			})
		});
		open.span.instructions[part as usize] += 1;
		open.code.push(real);
		open.last = Some(part);
	}

	/// An instruction of the hypervisor's userspace is executed.
	pub fn user(&mut self) {
		if let Some(open) = &mut self.open {
			open.span.instructions[Part::User as usize] += 1;
			open.last = Some(Part::User);
		}
	}

	/// A guest is entered by the instruction that was executed last.
	pub fn enter(&mut self) {
		self.close();
	}

	fn close(&mut self) {
		let (Some(open), Some(phase)) = (self.open.take(), &mut self.phase) else {
			return;
		};
		if open.span.is_quiet() {
			let code = phase.code.entry(open.span.event).or_default();
			for real in open.code {
				*code.entry(real).or_default() += 1;
			}
		}
		*phase.spans.entry(open.span).or_default() += 1;
	}
}

/// Begins a file.
pub fn write_start(out: &mut impl Write) -> io::Result<()> {
	writeln!(out, "{FIRST_LINE}")
}

/// Ends it.
pub fn write_end(out: &mut impl Write) -> io::Result<()> {
	writeln!(out, "{LAST_LINE}")?;
	out.flush()
}

/// Writes a phase.
pub fn write(out: &mut impl Write, phase: &Phase) -> io::Result<()> {
	writeln!(out, "phase {:x}", phase.tag)?;
	for (span, count) in &phase.spans {
		let [kernel, firmware, user] = span.instructions;
		let Span {
			event, interrupts, ..
		} = span;
		writeln!(
			out,
			"span {event} {kernel} {firmware} {user} {interrupts} {count}"
		)?;
	}
	for (event, code) in &phase.code {
		let mut all: Vec<(u64, u64)> = code.iter().map(|(&real, &count)| (real, count)).collect();
		all.sort_unstable();
		for run in all.chunk_by(|a, b| a.0 + 4 == b.0 && a.1 == b.1) {
			let (real, count) = run[0];
			writeln!(out, "code {event} {real:x} {} {count}", run.len())?;
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
pub fn read(mut from: impl Read) -> Result<Vec<Phase>, Error> {
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

fn record(text: &str, phases: &mut Vec<Phase>) -> Option<()> {
	let words: Vec<&str> = text.split(' ').collect();
	match words[..] {
		["phase", tag] => {
			let tag = u64::from_str_radix(tag, 16).ok()?;
			phases.push(Phase {
				tag,
				..Phase::default()
			});
		}
		["span", event, kernel, firmware, user, interrupts, count] => {
			let number = |text: &str| text.parse::<u64>().ok();
			let span = Span {
				event: event.parse().ok()?,
				instructions: [number(kernel)?, number(firmware)?, number(user)?],
				interrupts: number(interrupts)?,
			};
			let twice = phases.last_mut()?.spans.insert(span, number(count)?);
			if twice.is_some() {
				return None;
			}
		}
		["code", event, real, words, count] => {
			let event = event.parse().ok()?;
			let real = u64::from_str_radix(real, 16).ok()?;
			let words: u64 = words.parse().ok()?;
			let count: u64 = count.parse().ok()?;
			if words > MOST_WORDS || real.checked_add(4 * words).is_none() {
				return None;
			}
			let code = phases.last_mut()?.code.entry(event).or_default();
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

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	const CEDE: u64 = 0xe0;
	const PUT: u64 = 0x20;

	/// Real addresses as they come, from a vector to the entry of the guest.
	fn exit(recorder: &mut Recorder, vector: u64, r3: u64, more: &[(Part, u64)]) {
		recorder.host(Part::Kernel, vector, r3);
		for &(part, real) in more {
			match part {
				Part::User => recorder.user(),
				part => recorder.host(part, real, !0),
			}
		}
		recorder.enter();
		// The guest's instructions, which are not counted.
		recorder.user();
	}

	fn recorded(work: impl FnOnce(&mut Recorder)) -> Phase {
		let mut recorder = Recorder::default();
		recorder.begin(7, true);
		work(&mut recorder);
		recorder.end().unwrap()
	}

	fn span(event: Event, instructions: [u64; 3], interrupts: u64) -> Span {
		Span {
			event,
			instructions,
			interrupts,
		}
	}

	use Part::{Firmware, Kernel, User};

	#[test]
	fn spans_belong_to_what_the_guest_left_for() {
		let phase = recorded(|recorder| {
			for _ in 0..3 {
				// With the MMU on, and off.
				exit(
					recorder,
					0x4c00,
					PUT,
					&[(Kernel, 0x8000), (Firmware, 0x3000_0000)],
				);
			}
			exit(recorder, 0xc00, CEDE, &[(Kernel, 0x8000), (User, 0)]);
			exit(recorder, 0x4500, PUT, &[]);
			exit(recorder, 0x4ea0, PUT, &[(Kernel, 0x8000)]);
		});
		let wanted = BTreeMap::from([
			(span(Event::Hcall(PUT), [2, 1, 0], 0), 3),
			(span(Event::Hcall(CEDE), [2, 0, 1], 0), 1),
			(span(Event::Vector(0x500), [1, 0, 0], 0), 1),
			(span(Event::Vector(0xea0), [2, 0, 0], 0), 1),
		]);
		assert_eq!((phase.tag, phase.spans), (7, wanted));
		let code = &phase.code[&Event::Hcall(PUT)];
		assert_eq!(
			code,
			&HashMap::from([(0x4c00, 3), (0x8000, 3), (0x3000_0000, 3)])
		);
		// Userspace had a turn.
		assert!(!phase.code.contains_key(&Event::Hcall(CEDE)));
	}

	#[test]
	fn a_system_call_of_the_hosts_is_no_hcall() {
		let phase = recorded(|recorder| {
			exit(
				recorder,
				0x4c00,
				CEDE,
				&[(User, 0), (Kernel, 0x4c00), (User, 0)],
			);
		});
		let wanted = BTreeMap::from([(span(Event::Hcall(CEDE), [2, 0, 2], 0), 1)]);
		assert_eq!(phase.spans, wanted);
	}

	#[test]
	fn interrupts_of_the_host_are_told() {
		let phase = recorded(|recorder| {
			exit(
				recorder,
				0x4c00,
				PUT,
				&[(Kernel, 0x8000), (Kernel, 0x4900), (Kernel, 0x8004)],
			);
		});
		let wanted = span(Event::Hcall(PUT), [4, 0, 0], 1);
		assert_eq!(phase.spans, BTreeMap::from([(wanted, 1)]));
		assert!(!wanted.is_quiet() && phase.code.is_empty());
	}

	#[test]
	fn what_is_done_twice_is_counted_once() {
		let phase = recorded(|recorder| {
			// The kernel's load is refused, done again; then userspace's.
			let load = (Kernel, 0x8000);
			exit(recorder, 0x4c00, PUT, &[load, (Kernel, 0x4300), load]);
			exit(
				recorder,
				0x4c00,
				CEDE,
				&[(User, 0), (Kernel, 0x4300), (User, 0)],
			);
		});
		let wanted = BTreeMap::from([
			(span(Event::Hcall(PUT), [3, 0, 0], 0), 1),
			(span(Event::Hcall(CEDE), [2, 0, 1], 0), 1),
		]);
		assert_eq!(phase.spans, wanted);
		assert_eq!(phase.code[&Event::Hcall(PUT)][&0x8000], 1);
	}

	#[test]
	fn an_exit_without_vector_is_lost() {
		let phase = recorded(|recorder| recorder.host(Kernel, 0x8000, PUT));
		let wanted = BTreeMap::from([(span(Event::Lost, [1, 0, 0], 0), 1)]);
		assert_eq!(phase.spans, wanted);
	}

	#[test]
	fn the_host_may_begin_a_phase() {
		let mut recorder = Recorder::default();
		recorder.begin(0, false);
		recorder.user();
		exit(&mut recorder, 0x4c00, PUT, &[]);
		assert!(recorder.in_guest());
		let phase = recorder.end().unwrap();
		let wanted = BTreeMap::from([(span(Event::Before, [1, 0, 1], 0), 1)]);
		assert_eq!(phase.spans, wanted);
		assert_eq!(recorder.end(), None);
	}

	#[test]
	fn vectors_are_where_linux_has_them() {
		for (real, wanted) in [
			(0xc00, Some(0xc00)),
			(0x4c00, Some(0xc00)),
			(0x4e80, Some(0xe80)),
			(0x5500, Some(0x1500)),
			(0xc04, None),
			(0x8c00, None),
			(1 << 40 | 0xc00, None),
		] {
			assert_eq!(vector(real), wanted, "{real:x}");
		}
	}

	fn written(phases: &[Phase]) -> Vec<u8> {
		let mut bytes = Vec::new();
		write_start(&mut bytes).unwrap();
		for phase in phases {
			write(&mut bytes, phase).unwrap();
		}
		write_end(&mut bytes).unwrap();
		bytes
	}

	fn some() -> Phase {
		recorded(|recorder| {
			exit(recorder, 0x4c00, PUT, &[(Kernel, 0x8000), (Kernel, 0x8004)]);
			exit(recorder, 0x4c00, PUT, &[(Kernel, 0x8004)]);
			exit(recorder, 0x4500, 0, &[(Firmware, 0x3000_0000), (User, 0)]);
			recorder.host(Kernel, 0x8000, PUT);
		})
	}

	#[test]
	fn what_is_cut_off_is_known_as_such() {
		let whole = written(&[some(), some()]);
		assert_eq!(read(&whole[..]).unwrap(), [some(), some()]);
		for length in 0..whole.len() {
			let error = read(&whole[..length]).unwrap_err();
			assert!(!error.to_string().contains('\n'));
			assert!(
				matches!(error, Error::Truncated | Error::NotSpans),
				"{length}: {error}"
			);
		}
	}

	#[test]
	fn other_files_and_damage_are_told() {
		let text = |bytes| String::from_utf8(bytes).unwrap();
		let good = text(written(&[some()]));
		let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
		let other = good.replace("spans 1", "spans 2");
		assert_eq!(
			error(&other),
			"this is not a record of spans of this version"
		);
		assert_eq!(error(""), "this is not a record of spans of this version");
		assert!(matches!(read(&b"\x7fELF\xff\n"[..]), Err(Error::NotSpans)));
		for (from, to) in [
			("span hcall:20", "span hcall:xyz"),
			("phase 7", "phase"),
			("phase 7\n", ""),
			("code hcall:20 8000", "code hcall:20 fffffffffffffffc"),
			("end\n", "end\nend\n"),
			("span hcall", "\u{fffd}"),
		] {
			let bad = good.replacen(from, to, 1);
			assert_ne!(bad, good, "{from}");
			let error = error(&bad);
			assert!(
				error.starts_with("the record of spans is damaged in line "),
				"{error}"
			);
		}
		let line = good.lines().find(|line| line.starts_with("span")).unwrap();
		let twice = good.replacen(line, &format!("{line}\n{line}"), 1);
		assert!(matches!(read(twice.as_bytes()), Err(Error::Corrupt(4))));
	}

	fn any_span() -> impl Strategy<Value = Span> {
		let event = prop_oneof![
			(0u64..8).prop_map(Event::Hcall),
			any::<u64>().prop_map(Event::Hcall),
			any::<u16>().prop_map(Event::Vector),
			Just(Event::Before),
			Just(Event::Lost),
		];
		(event, any::<[u64; 3]>(), 0u64..3).prop_map(|(event, instructions, interrupts)| Span {
			event,
			instructions,
			interrupts,
		})
	}

	proptest! {
		#[test]
		fn what_is_written_is_read(
			spans in proptest::collection::btree_map(any_span(), any::<u64>(), 0..20),
			code in proptest::collection::hash_map((0u64..50).prop_map(|n| 4 * n), 1u64..4, 1..50),
		) {
			let phase = Phase {
				tag: 9,
				spans,
				code: BTreeMap::from([(Event::Hcall(PUT), code)]),
			};
			let back = read(&written(std::slice::from_ref(&phase))[..]).unwrap();
			prop_assert_eq!(back, [phase]);
		}

		#[test]
		fn nothing_makes_the_reader_fall(lines in "(phase|span|code|end| |[0-9a-f]|:|hcall|\n|.){0,80}") {
			let text = format!("{FIRST_LINE}\nphase 0\n{lines}\nend\n");
			let _ = read(text.as_bytes());
		}

		#[test]
		fn no_instruction_is_lost(
			steps in proptest::collection::vec((0u8..4, 0u64..0x1800), 0..200),
		) {
			// Without refused instructions, the spans have what was executed from the first exit on.
			let mut recorder = Recorder::default();
			recorder.begin(0, true);
			let mut executed = 0;
			for (what, word) in steps {
				let real = 4 * word;
				match what {
					0 => recorder.enter(),
					1 if !recorder.in_guest() => {
						executed += 1;
						recorder.user();
					}
					2 | 3 if vector(real).is_none_or(|vector| !REFUSED.contains(&vector)) => {
						executed += 1;
						recorder.host(Part::Kernel, real, 0);
					}
					_ => {}
				}
			}
			let phase = recorder.end().unwrap();
			let counted: u64 = phase.spans.iter().map(|(span, count)| span.len() * count).sum();
			prop_assert_eq!(counted, executed);
		}
	}
}
