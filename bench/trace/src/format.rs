// SPDX-License-Identifier: GPL-2.0-only
//! What the plugin writes and the runner reads.
//!
//! A file is [`MAGIC`] and then records, each a tag byte and little-endian fields.
//! An *instructions* record adds to a table: where an instruction was executed, where
//! that is in the emulator's memory, and its word. A *window* record is one batch, as
//! runs of consecutive entries of the table, each with the CPU's [state] meanwhile. Code is mostly
//! straight, so a run stands for five instructions or so, and a window of a hundred thousand instructions takes
//! two hundred KiB. An *end* record closes the file, so that one which was cut off
//! is known as such.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read, Write};

/// First bytes of a file; the digit is the format's version.
pub const MAGIC: &[u8; 8] = b"kvmp9tr2";

const INSTRUCTIONS: u8 = b'I';
const WINDOW: u8 = b'W';
const END: u8 = b'E';

/// What is so while the hypervisor executes an instruction. Of a guest's instructions, and of
/// userspace's, nothing is.
pub mod state {
	/// The host can take no interrupt: MSR\[EE\] is off, or the kernel holds interrupts back.
	pub const INTERRUPTS_OFF: u8 = 1;
	/// The mode byte of the PACA says that a guest runs.
	pub const GUEST_MODE: u8 = 2;
	/// Bits of a state.
	pub const BITS: u32 = 2;
}

/// An entry of the table, and the state in which it was executed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Executed(u32);

impl Executed {
	/// Of both.
	pub const fn new(entry: u32, state: u8) -> Self {
		Self(entry << state::BITS | state as u32 & ((1 << state::BITS) - 1))
	}

	/// The entry of the table.
	pub const fn entry(self) -> u32 {
		self.0 >> state::BITS
	}

	/// The state.
	pub const fn state(self) -> u8 {
		(self.0 & ((1 << state::BITS) - 1)) as u8
	}
}

/// One instruction at one place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
	/// Effective address.
	pub address: u64,
	/// Where the emulator has that byte: the real address plus a constant.
	pub memory: u64,
	/// The instruction.
	pub word: u32,
}

/// What a batch consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Batch {
	/// Calls.
	Calls,
	/// The same loop without.
	Empty,
}

/// `count` consecutive entries of the table, executed in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
	/// The first.
	pub first: u32,
	/// How many.
	pub count: u32,
	/// In which [`state`].
	pub state: u8,
}

/// One batch, from the marker that begins it to the one that ends it, without both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Window {
	/// What the VMM said it measures.
	pub tag: u64,
	/// With or without calls.
	pub kind: Batch,
	/// Everything that was executed.
	pub runs: Vec<Run>,
}

impl Window {
	/// How many instructions it has.
	pub fn len(&self) -> u64 {
		self.runs.iter().map(|run| u64::from(run.count)).sum()
	}

	/// Whether it has none.
	pub fn is_empty(&self) -> bool {
		self.runs.is_empty()
	}

	/// Entries of the table, in the order of their execution.
	pub fn entries(&self) -> impl Iterator<Item = Executed> + '_ {
		self.runs
			.iter()
			.flat_map(|run| (0..run.count).map(move |n| Executed::new(run.first + n, run.state)))
	}

	/// Adds one more.
	pub fn push(&mut self, entry: u32, state: u8) {
		match self.runs.last_mut() {
			Some(run)
				if run.first + run.count == entry && run.state == state && run.count < u32::MAX =>
			{
				run.count += 1;
			}
			_ => self.runs.push(Run {
				first: entry,
				count: 1,
				state,
			}),
		}
	}
}

/// Writes a file.
pub struct Writer<W: Write> {
	out: W,
	written: HashSet<u32>,
}

impl<W: Write> Writer<W> {
	/// Begins it.
	pub fn new(mut out: W) -> io::Result<Self> {
		out.write_all(MAGIC)?;
		Ok(Self {
			out,
			written: HashSet::new(),
		})
	}

	/// Writes a window, and what of the table it needs and is not yet there.
	pub fn window(&mut self, window: &Window, place: impl Fn(u32) -> Place) -> io::Result<()> {
		let mut new = Vec::new();
		for run in &window.runs {
			for entry in (0..run.count).map(|n| run.first + n) {
				if self.written.insert(entry) {
					new.push(entry);
				}
			}
		}
		self.out.write_all(&[INSTRUCTIONS])?;
		self.out.write_all(&(new.len() as u32).to_le_bytes())?;
		for entry in new {
			let place = place(entry);
			self.out.write_all(&entry.to_le_bytes())?;
			self.out.write_all(&place.address.to_le_bytes())?;
			self.out.write_all(&place.memory.to_le_bytes())?;
			self.out.write_all(&place.word.to_le_bytes())?;
		}
		self.out.write_all(&[WINDOW])?;
		self.out.write_all(&window.tag.to_le_bytes())?;
		self.out.write_all(&[window.kind as u8])?;
		self.out
			.write_all(&(window.runs.len() as u32).to_le_bytes())?;
		for run in &window.runs {
			self.out.write_all(&run.first.to_le_bytes())?;
			self.out.write_all(&run.count.to_le_bytes())?;
			self.out.write_all(&[run.state])?;
		}
		self.out.flush()
	}

	/// Closes the file.
	pub fn finish(&mut self) -> io::Result<()> {
		self.out.write_all(&[END])?;
		self.out.flush()
	}
}

/// Why a file can't be read.
#[derive(Debug)]
pub enum Error {
	/// The file can't be read at all.
	Io(io::Error),
	/// It is not of this format, or of another version.
	NotATrace,
	/// It ends in the middle: QEMU was stopped, or the disk is full.
	Truncated,
	/// It has something in it that can't be.
	Corrupt(&'static str),
}

impl fmt::Display for Error {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self {
			Self::Io(error) => write!(f, "the trace can't be read: {error}"),
			Self::NotATrace => f.write_str("this is not a trace of this version"),
			Self::Truncated => f.write_str("the trace ends in the middle"),
			Self::Corrupt(what) => write!(f, "the trace is damaged: {what}"),
		}
	}
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
	fn from(error: io::Error) -> Self {
		match error.kind() {
			io::ErrorKind::UnexpectedEof => Self::Truncated,
			_ => Self::Io(error),
		}
	}
}

/// Reads a file, window by window.
pub struct Reader<R: Read> {
	from: R,
	table: Vec<Option<Place>>,
}

/// More entries than QEMU translates in hours: what asks for them is no trace.
const MAX_ENTRIES: u32 = 1 << 26;

impl<R: Read> Reader<R> {
	/// Looks at its beginning.
	pub fn new(mut from: R) -> Result<Self, Error> {
		let mut magic = [0; 8];
		match from.read_exact(&mut magic) {
			Ok(()) if magic == *MAGIC => {}
			Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => {
				return Err(Error::Io(error));
			}
			_ => return Err(Error::NotATrace),
		}
		Ok(Self {
			from,
			table: Vec::new(),
		})
	}

	fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Error> {
		let mut bytes = [0; N];
		self.from.read_exact(&mut bytes)?;
		Ok(bytes)
	}

	fn u32(&mut self) -> Result<u32, Error> {
		Ok(u32::from_le_bytes(self.bytes()?))
	}

	fn u64(&mut self) -> Result<u64, Error> {
		Ok(u64::from_le_bytes(self.bytes()?))
	}

	/// The next window; `None` at the file's end.
	pub fn window(&mut self) -> Result<Option<Window>, Error> {
		loop {
			match self.bytes::<1>()?[0] {
				INSTRUCTIONS => self.instructions()?,
				WINDOW => return self.runs().map(Some),
				END => return Ok(None),
				_ => return Err(Error::Corrupt("a record of no known kind")),
			}
		}
	}

	fn instructions(&mut self) -> Result<(), Error> {
		for _ in 0..self.u32()? {
			let entry = self.u32()?;
			let place = Place {
				address: self.u64()?,
				memory: self.u64()?,
				word: self.u32()?,
			};
			if entry >= MAX_ENTRIES {
				return Err(Error::Corrupt("too many instructions"));
			}
			let entry = entry as usize;
			if entry >= self.table.len() {
				self.table.resize(entry + 1, None);
			}
			self.table[entry] = Some(place);
		}
		Ok(())
	}

	fn runs(&mut self) -> Result<Window, Error> {
		let tag = self.u64()?;
		let kind = match self.bytes::<1>()?[0] {
			0 => Batch::Calls,
			1 => Batch::Empty,
			_ => return Err(Error::Corrupt("a window of no known kind")),
		};
		let mut runs = Vec::new();
		for _ in 0..self.u32()? {
			let run = Run {
				first: self.u32()?,
				count: self.u32()?,
				state: self.bytes::<1>()?[0],
			};
			if run.state >> state::BITS != 0 {
				return Err(Error::Corrupt("a state of no known kind"));
			}
			let end = run.first.checked_add(run.count);
			let places = end.and_then(|end| self.table.get(run.first as usize..end as usize));
			if run.count == 0 || places.is_none_or(|places| places.contains(&None)) {
				return Err(Error::Corrupt("an instruction that the table lacks"));
			}
			runs.push(run);
		}
		Ok(Window { tag, kind, runs })
	}

	/// The whole table so far.
	pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
		self.table.iter().copied().flatten()
	}

	/// Where that was executed, if a window has named the entry.
	pub fn place(&self, executed: Executed) -> Option<Place> {
		self.table.get(executed.entry() as usize).copied().flatten()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	fn place(entry: u32) -> Place {
		Place {
			address: 0xc000_0000_0000_0000 | u64::from(entry) << 2,
			memory: 0x7f00_0000_0000 | u64::from(entry) << 2,
			word: entry.wrapping_mul(0x9e37_79b9),
		}
	}

	fn written(windows: &[Window]) -> Vec<u8> {
		let mut bytes = Vec::new();
		let mut writer = Writer::new(&mut bytes).unwrap();
		for window in windows {
			writer.window(window, place).unwrap();
		}
		writer.finish().unwrap();
		bytes
	}

	fn read(bytes: &[u8]) -> Result<Vec<Window>, Error> {
		let mut reader = Reader::new(bytes)?;
		let mut windows = Vec::new();
		while let Some(window) = reader.window()? {
			for entry in window.entries() {
				assert_eq!(reader.place(entry), Some(place(entry.entry())));
			}
			windows.push(window);
		}
		Ok(windows)
	}

	fn window_of(entries: &[(u32, u8)]) -> Window {
		let mut window = Window {
			tag: 7,
			kind: Batch::Empty,
			runs: Vec::new(),
		};
		for &(entry, state) in entries {
			window.push(entry, state);
		}
		window
	}

	fn window(entries: &[u32]) -> Window {
		let entries: Vec<_> = entries.iter().map(|&entry| (entry, 0)).collect();
		window_of(&entries)
	}

	#[test]
	fn straight_code_is_one_run() {
		let window = window(&[5, 6, 7, 7, 8, 3]);
		assert_eq!(window.runs.len(), 3);
		assert_eq!(window.len(), 6);
	}

	#[test]
	fn another_state_is_another_run() {
		let window = window_of(&[(5, 0), (6, 1), (7, 1), (8, 3), (9, 3)]);
		assert_eq!(window.runs.len(), 3);
		let states: Vec<u8> = window.entries().map(Executed::state).collect();
		assert_eq!(states, [0, 1, 1, 3, 3]);
		assert_eq!(
			read(&written(std::slice::from_ref(&window))).unwrap(),
			[window]
		);
	}

	#[test]
	fn what_is_cut_off_is_known_as_such() {
		let whole = written(&[window(&[1, 2, 9]), window(&[2, 3])]);
		assert_eq!(read(&whole).unwrap().len(), 2);
		for length in 0..whole.len() {
			let error = read(&whole[..length]).unwrap_err();
			assert!(
				matches!(error, Error::Truncated | Error::NotATrace),
				"{length}: {error}"
			);
		}
	}

	#[test]
	fn damage_is_told() {
		let mut bytes = MAGIC.to_vec();
		bytes.push(b'?');
		assert!(matches!(read(&bytes), Err(Error::Corrupt(_))));
		// A window whose entry no record has brought.
		let mut bytes = MAGIC.to_vec();
		bytes.push(WINDOW);
		bytes.extend([0; 9]);
		bytes.extend(1u32.to_le_bytes());
		bytes.extend(0u32.to_le_bytes());
		bytes.extend(1u32.to_le_bytes());
		bytes.push(0);
		assert!(matches!(read(&bytes), Err(Error::Corrupt(_))));
		assert!(matches!(
			read(b"\x7fELF\x02\x01\x01\0"),
			Err(Error::NotATrace)
		));
	}

	proptest! {
		#[test]
		fn what_is_written_is_read(lists in proptest::collection::vec(
			proptest::collection::vec((0u32..200, 0u8..4), 0..300), 0..5,
		)) {
			let windows: Vec<Window> = lists.iter().map(|list| window_of(list)).collect();
			let back = read(&written(&windows)).unwrap();
			prop_assert_eq!(&back, &windows);
			for (window, list) in back.iter().zip(&lists) {
				let entries = window.entries().map(|one| (one.entry(), one.state()));
				prop_assert_eq!(&entries.collect::<Vec<_>>(), list);
			}
		}

		#[test]
		fn nothing_makes_the_reader_fall(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
			let mut file = MAGIC.to_vec();
			file.append(&mut bytes);
			if let Ok(mut reader) = Reader::new(&file[..]) {
				while let Ok(Some(_)) = reader.window() {}
			}
		}
	}
}
