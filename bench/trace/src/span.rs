// SPDX-License-Identifier: GPL-2.0-only
//! What a hypervisor executes while its guest waits, by what the guest left for.
//!
//! A *span* begins when a vcpu's thread comes to an interrupt vector out of a guest, and
//! ends when the thread enters the guest again: [`Recorder`] gets both, and every instruction
//! in between, from the QEMU plugin. Instructions of other threads are no part of a span, even if
//! they run meanwhile on the same CPU, and a thread may go on on another CPU. Unlike a window
//! (crate::format) a span is not kept as a sequence: it is some numbers, and spans with the same
//! numbers are counted. This profiles a whole workload on an unmodified guest kernel.
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

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Read, Write};
use std::str::FromStr;

const FIRST_LINE: &str = "kvm-p9 spans 2";
const LAST_LINE: &str = "end";

/// What the guest left for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
	/// An hcall, by its number.
	Hcall(u64),
	/// Any other interrupt, by its vector.
	Vector(u16),
	/// The hypervisor runs, and has not come through a vector. That can't be.
	Lost,
}

impl fmt::Display for Event {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Hcall(number) => write!(f, "hcall:{number:x}"),
			Self::Vector(vector) => write!(f, "vector:{vector:x}"),
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

/// What of the kernel a thread has come through. The plugin is told the addresses.
pub mod landmark {
	/// The run loop has a guest entered.
	pub const FULL: u8 = 1;
	/// Code of the kernel is called in a light exit.
	pub const LIGHT: u8 = 2;
	/// The idle task.
	pub const IDLE: u8 = 4;
}

/// Which way an exit took.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Way {
	/// No switch at all.
	Fast,
	/// A light exit.
	Light,
	/// A full exit.
	Full,
}

/// What sort of span it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Sort {
	/// What it was for.
	pub event: Event,
	/// Those of [`landmark`] that it came through.
	pub landmarks: u8,
}

/// What is known of a span. Instructions are those that were completed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Span {
	/// What it was for, and what it came through.
	pub sort: Sort,
	/// Instructions by [`Part`].
	pub instructions: [u64; 3],
	/// Interrupts meanwhile that had nothing to do with it.
	pub interrupts: u64,
	/// How often another thread ran meanwhile.
	pub switches: u64,
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

	/// Those of the kernel and the firmware.
	pub fn hypervisor(&self) -> u64 {
		self.instructions[Part::Kernel as usize] + self.instructions[Part::Firmware as usize]
	}

	/// Which way the exit took.
	pub fn way(&self) -> Way {
		let came_through = |what| self.sort.landmarks & what != 0;
		match () {
			() if came_through(landmark::FULL) => Way::Full,
			() if came_through(landmark::LIGHT) => Way::Light,
			() => Way::Fast,
		}
	}

	/// Whether the kernel did in it what the guest had left for and nothing else: it got no
	/// interrupt, and neither userspace nor another thread had a turn.
	pub fn is_quiet(&self) -> bool {
		self.interrupts == 0 && self.switches == 0 && self.instructions[Part::User as usize] == 0
	}
}

/// Of which spans code is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CodeOf {
	/// The sort of the spans.
	pub sort: Sort,
	/// Whether they were [quiet](Span::is_quiet).
	pub quiet: bool,
}

/// What was recorded from one marker to the other.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Phase {
	/// What was said of it.
	pub tag: u64,
	/// How often each span occurred.
	pub spans: BTreeMap<Span, u64>,
	/// How often spans executed the instruction at a real address.
	pub code: BTreeMap<CodeOf, HashMap<u64, u64>>,
	/// Instructions by [`Part`] of threads that were in no span that ended, by what they came through.
	pub others: BTreeMap<u8, [u64; 3]>,
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
				sort: Sort {
					event,
					landmarks: 0,
				},
				instructions: [0; 3],
				interrupts: 0,
				switches: 0,
			},
			code: Vec::new(),
			last: None,
		}
	}

	fn host(&mut self, part: Part, real: u64, vector: Option<u16>, landmarks: u8) {
		match vector {
			Some(vector) if ASYNCHRONOUS.contains(&vector) => self.span.interrupts += 1,
			Some(vector) if REFUSED.contains(&vector) => {
				if let Some(last) = self.last.take() {
					self.span.instructions[last as usize] -= 1;
					if last != Part::User {
						self.code.pop();
					}
				}
			}
			_ => {}
		}
		self.span.instructions[part as usize] += 1;
		self.span.sort.landmarks |= landmarks;
		self.code.push(real);
		self.last = Some(part);
	}
}

/// What a CPU does.
#[derive(Clone, Copy)]
struct Cpu {
	/// Which thread it runs: any number that no other thread has.
	thread: u64,
	in_guest: bool,
}

/// Makes spans of what is executed. CPUs have numbers, and so have threads.
#[derive(Default)]
pub struct Recorder {
	phase: Option<Phase>,
	cpus: Vec<Cpu>,
	/// By the thread. A thread whose guest runs has none.
	open: HashMap<u64, Open>,
	/// Threads that have been in no span since the phase began.
	others: HashMap<u64, (u8, [u64; 3])>,
}

impl Recorder {
	/// A phase begins.
	pub fn begin(&mut self, tag: u64) {
		self.phase = Some(Phase {
			tag,
			..Phase::default()
		});
		self.open.clear();
		self.others.clear();
	}

	/// It is over. What lasts is no span. `None` if none has begun.
	pub fn end(&mut self) -> Option<Phase> {
		let mut phase = self.phase.take()?;
		// What lasts has not shown which way it takes.
		let lasting = self
			.open
			.drain()
			.map(|(_, Open { span, .. })| (span.sort.landmarks, span.instructions));
		let others = self.others.drain().map(|(_, other)| other);
		for (landmarks, instructions) in lasting.chain(others) {
			let sum = phase.others.entry(landmarks).or_default();
			for (sum, more) in sum.iter_mut().zip(instructions) {
				*sum += more;
			}
		}
		Some(phase)
	}

	fn cpu(&mut self, cpu: usize) -> &mut Cpu {
		while self.cpus.len() <= cpu {
			// Until the CPU first changes its thread, its own number stands for one: addresses of
			// threads are larger.
			let thread = self.cpus.len() as u64;
			let in_guest = false;
			self.cpus.push(Cpu { thread, in_guest });
		}
		&mut self.cpus[cpu]
	}

	/// Whether a phase lasts.
	pub fn is_on(&self) -> bool {
		self.phase.is_some()
	}

	/// Whether the next instruction of a CPU that is not the kernel's and not the firmware's is
	/// a guest's.
	pub fn in_guest(&mut self, cpu: usize) -> bool {
		self.cpu(cpu).in_guest
	}

	/// A CPU is about to run another thread.
	pub fn switch(&mut self, cpu: usize, thread: u64) {
		let last = std::mem::replace(&mut self.cpu(cpu).thread, thread);
		if let Some(open) = self.open.get_mut(&last) {
			open.span.switches += 1;
		}
	}

	/// An instruction of the hypervisor's kernel or firmware is executed, at a real
	/// address. If an hcall may arrive by it, r3 is the number. Needed outside of phases for
	/// [vectors](vector) only.
	pub fn host(&mut self, cpu: usize, part: Part, real: u64, r3: u64, landmarks: u8) {
		let vector = match part {
			Part::Kernel => vector(real),
			_ => None,
		};
		let Cpu { thread, in_guest } = self.cpu(cpu);
		let (thread, left) = (*thread, std::mem::take(in_guest));
		if self.phase.is_none() {
			return;
		}
		if left {
			let event = match vector {
				Some(SYSTEM_CALL) => Event::Hcall(r3),
				Some(vector) => Event::Vector(vector),
				None => Event::Lost,
			};
			let mut open = Open::new(event);
			open.host(part, real, None, landmarks);
			self.open.insert(thread, open);
		} else if let Some(open) = self.open.get_mut(&thread) {
			open.host(part, real, vector, landmarks);
		} else {
			let (all, instructions) = self.others.entry(thread).or_default();
			*all |= landmarks;
			instructions[part as usize] += 1;
		}
	}

	/// An instruction of the hypervisor's userspace or a guest's is executed.
	pub fn user(&mut self, cpu: usize) {
		let Cpu { thread, in_guest } = *self.cpu(cpu);
		if self.phase.is_none() || in_guest {
			return;
		}
		if let Some(open) = self.open.get_mut(&thread) {
			open.span.instructions[Part::User as usize] += 1;
			open.last = Some(Part::User);
		} else {
			self.others.entry(thread).or_default().1[Part::User as usize] += 1;
		}
	}

	/// A guest is entered by the instruction that was executed last.
	pub fn enter(&mut self, cpu: usize) {
		let Cpu { thread, in_guest } = self.cpu(cpu);
		*in_guest = true;
		let thread = *thread;
		if let (Some(open), Some(phase)) = (self.open.remove(&thread), &mut self.phase) {
			Self::close(phase, open);
		}
	}

	fn close(phase: &mut Phase, open: Open) {
		let of = CodeOf {
			sort: open.span.sort,
			quiet: open.span.is_quiet(),
		};
		let code = phase.code.entry(of).or_default();
		for real in open.code {
			*code.entry(real).or_default() += 1;
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

/// The word for spans that are quiet, and that for others.
const QUIET: [&str; 2] = ["busy", "quiet"];

/// Writes a phase.
pub fn write(out: &mut impl Write, phase: &Phase) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	const CEDE: u64 = 0xe0;
	const PUT: u64 = 0x20;

	/// Real addresses as they come, from a vector to the entry of the guest.
	fn exit(recorder: &mut Recorder, vector: u64, r3: u64, more: &[(Part, u64)]) {
		recorder.host(0, Part::Kernel, vector, r3, 0);
		for &(part, real) in more {
			match part {
				Part::User => recorder.user(0),
				part => recorder.host(0, part, real, !0, 0),
			}
		}
		recorder.enter(0);
		// The guest's instructions, which are not counted.
		recorder.user(0);
	}

	fn recorded(work: impl FnOnce(&mut Recorder)) -> Phase {
		let mut recorder = Recorder::default();
		recorder.enter(0);
		recorder.begin(7);
		work(&mut recorder);
		recorder.end().unwrap()
	}

	fn span(event: Event, instructions: [u64; 3], interrupts: u64) -> Span {
		Span {
			sort: Sort {
				event,
				landmarks: 0,
			},
			instructions,
			interrupts,
			switches: 0,
		}
	}

	/// Of the quiet spans.
	fn code(phase: &Phase, event: Event) -> Option<&HashMap<u64, u64>> {
		let sort = Sort {
			event,
			landmarks: 0,
		};
		phase.code.get(&CodeOf { sort, quiet: true })
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
		assert_eq!((phase.tag, &phase.spans), (7, &wanted));
		assert_eq!(
			code(&phase, Event::Hcall(PUT)).unwrap(),
			&HashMap::from([(0x4c00, 3), (0x8000, 3), (0x3000_0000, 3)])
		);
		// Userspace had a turn.
		assert!(code(&phase, Event::Hcall(CEDE)).is_none());
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
		assert!(!wanted.is_quiet() && code(&phase, Event::Hcall(PUT)).is_none());
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
		assert_eq!(code(&phase, Event::Hcall(PUT)).unwrap()[&0x8000], 1);
	}

	#[test]
	fn an_exit_without_vector_is_lost() {
		let phase = recorded(|recorder| {
			recorder.host(0, Kernel, 0x8000, PUT, 0);
			recorder.enter(0);
		});
		let wanted = BTreeMap::from([(span(Event::Lost, [1, 0, 0], 0), 1)]);
		assert_eq!(phase.spans, wanted);
	}

	#[test]
	fn what_begins_in_the_host_is_in_no_span() {
		let mut recorder = Recorder::default();
		recorder.begin(0);
		recorder.user(0);
		exit(&mut recorder, 0x4c00, PUT, &[]);
		assert!(recorder.in_guest(0));
		exit(&mut recorder, 0x4c00, PUT, &[]);
		let phase = recorder.end().unwrap();
		let wanted = BTreeMap::from([(span(Event::Hcall(PUT), [1, 0, 0], 0), 1)]);
		assert_eq!(phase.spans, wanted);
		assert_eq!(phase.others, BTreeMap::from([(0, [1, 0, 1])]));
		assert_eq!(recorder.end(), None);
	}

	#[test]
	fn what_a_cpu_did_before_a_phase_is_known() {
		let mut recorder = Recorder::default();
		recorder.enter(1);
		recorder.begin(0);
		assert!(recorder.in_guest(1) && !recorder.in_guest(0));
		recorder.host(1, Kernel, 0x4c00, PUT, 0);
		recorder.enter(1);
		let phase = recorder.end().unwrap();
		assert_eq!(phase.spans[&span(Event::Hcall(PUT), [1, 0, 0], 0)], 1);
		// Out of a phase, too.
		recorder.enter(1);
		recorder.host(1, Kernel, 0x4c00, PUT, 0);
		assert!(!recorder.in_guest(1));
	}

	#[test]
	fn a_span_is_a_threads_wherever_it_runs() {
		const VCPU: u64 = 0x1000;
		const OTHER: u64 = 0x2000;
		let phase = recorded(|recorder| {
			recorder.switch(0, VCPU);
			recorder.host(0, Kernel, 0x4c00, CEDE, 0);
			recorder.switch(0, OTHER);
			recorder.host(0, Kernel, 0x4500, 0, 0);
			recorder.host(0, Kernel, 0x8000, 0, landmark::IDLE);
			recorder.user(0);
			recorder.switch(1, VCPU);
			recorder.host(1, Kernel, 0x8000, 0, landmark::FULL);
			recorder.host(1, Firmware, 0x3000_0000, 0, 0);
			recorder.enter(1);
			recorder.user(1);
			assert!(recorder.in_guest(1) && !recorder.in_guest(0));
		});
		let mut wanted = span(Event::Hcall(CEDE), [2, 1, 0], 0);
		wanted.sort.landmarks = landmark::FULL;
		wanted.switches = 1;
		assert_eq!(phase.spans, BTreeMap::from([(wanted, 1)]));
		assert!(!wanted.is_quiet());
		assert_eq!((wanted.way(), wanted.hypervisor()), (Way::Full, 3));
		assert_eq!(phase.others, BTreeMap::from([(landmark::IDLE, [2, 0, 1])]));
	}

	#[test]
	fn what_lasts_at_the_end_is_in_no_span() {
		let phase = recorded(|recorder| recorder.host(0, Kernel, 0x4c00, CEDE, landmark::LIGHT));
		assert!(phase.spans.is_empty() && phase.code.is_empty());
		assert_eq!(phase.others, BTreeMap::from([(landmark::LIGHT, [1, 0, 0])]));
	}

	#[test]
	fn landmarks_tell_the_way() {
		let way = |landmarks| {
			let mut span = span(Event::Hcall(CEDE), [1, 0, 0], 0);
			span.sort.landmarks = landmarks;
			span.way()
		};
		assert_eq!(way(0), Way::Fast);
		assert_eq!(way(landmark::LIGHT), Way::Light);
		// A light exit that became a full one.
		assert_eq!(way(landmark::LIGHT | landmark::FULL), Way::Full);
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
			recorder.host(0, Kernel, 0x8000, PUT, 0);
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
		let other = good.replace("spans 2", "spans 1");
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
			("quiet 8000", "quiet fffffffffffffffc"),
			("quiet 8000", "silent 8000"),
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
			Just(Event::Lost),
		];
		let sort = (event, 0u8..8).prop_map(|(event, landmarks)| Sort { event, landmarks });
		let counts = (0u64..3, 0u64..3);
		(sort, any::<[u64; 3]>(), counts).prop_map(|(sort, instructions, counts)| Span {
			sort,
			instructions,
			interrupts: counts.0,
			switches: counts.1,
		})
	}

	proptest! {
		#[test]
		fn what_is_written_is_read(
			spans in proptest::collection::btree_map(any_span(), any::<u64>(), 0..20),
			others in proptest::collection::btree_map(any::<u8>(), any::<[u64; 3]>(), 0..4),
			quiet in any::<bool>(),
			code in proptest::collection::hash_map((0u64..50).prop_map(|n| 4 * n), 1u64..4, 1..50),
		) {
			let phase = Phase {
				tag: 9,
				spans,
				code: BTreeMap::from([(CodeOf { sort: span(Event::Hcall(PUT), [0; 3], 0).sort, quiet }, code)]),
				others,
			};
			let back = read(&written(std::slice::from_ref(&phase))[..]).unwrap();
			prop_assert_eq!(back, [phase]);
		}

		#[test]
		fn nothing_makes_the_reader_fall(lines in "(phase|span|others|code|end|quiet| |[0-9a-f]|:|hcall|\n|.){0,80}") {
			let text = format!("{FIRST_LINE}\nphase 0\n{lines}\nend\n");
			let _ = read(text.as_bytes());
		}

		#[test]
		fn no_instruction_is_lost(
			steps in proptest::collection::vec((0u8..4, 0u64..0x1800), 0..200),
		) {
			// Without refused instructions, spans and other threads have what was executed.
			let mut recorder = Recorder::default();
			recorder.begin(0);
			let mut executed = 0;
			for (what, word) in steps {
				let real = 4 * word;
				let cpu = (word % 2) as usize;
				match what {
					0 => recorder.enter(cpu),
					1 if !recorder.in_guest(cpu) => {
						executed += 1;
						recorder.user(cpu);
					}
					2 | 3 if vector(real).is_none_or(|vector| !REFUSED.contains(&vector)) => {
						executed += 1;
						recorder.host(cpu, Part::Kernel, real, 0, 0);
					}
					_ => {}
				}
			}
			let phase = recorder.end().unwrap();
			let in_spans: u64 = phase.spans.iter().map(|(span, count)| span.len() * count).sum();
			let others: u64 = phase.others.values().flatten().sum();
			prop_assert_eq!(in_spans + others, executed);
		}
	}
}
