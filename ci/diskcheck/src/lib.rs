// SPDX-License-Identifier: GPL-2.0-only
//! A disk whose content names its place and its writer, and random I/O that can be
//! computed in advance.
//!
//! The disk is divided into cells. A cell begins with its own number and with the
//! [`Tag`] of the write that it comes from; the rest is a pattern that follows from
//! both and from the disk's seed. So any reader can check any cell alone. The check finds
//! a cell that was written to the wrong place, in part, or not at all.
//!
//! The steps of a [`WorkerPlan`] follow from the seed, too. The guest does the steps on the disk
//! and reports how many were done. The runner does the same steps on [`Expected`] and then
//! checks the image file of the disk. So neither relies on the other.
//!
//! [`memory`] has the same for the memory of a process.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use protocol::regs::Pattern;

pub mod memory;

/// Bytes of a cell: the smallest page that a TCE maps.
pub const CELL: usize = 4096;

/// Writers that work at the same time, each in its own part of the disk.
pub const WORKERS: u64 = 4;

/// Most cells of one read or write.
pub const LONGEST: u64 = 32;

/// Buffers begin at any multiple of this in memory.
pub const SECTOR: usize = 512;

/// The write that a cell comes from. Zero is the disk as it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(pub u64);

impl Tag {
	fn new(run: u64, worker: u64, step: u64) -> Self {
		Self(run << 48 | worker << 40 | step)
	}
}

impl fmt::Display for Tag {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let (run, worker, step) = (self.0 >> 48, self.0 >> 40 & 0xff, self.0 & 0xff_ffff_ffff);
		match self.0 {
			0 => f.write_str("the disk as it was made"),
			_ => write!(f, "run {run}, worker {worker}, step {step}"),
		}
	}
}

/// Why the content of a cell is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wrong {
	/// The cell that was read.
	pub cell: u64,
	/// The cell number in the content.
	pub says: u64,
	/// The write that the content names.
	pub tag: Tag,
	/// The first wrong 64-bit word.
	pub word: usize,
}

impl fmt::Display for Wrong {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let Self {
			cell,
			says,
			tag,
			word,
		} = self;
		write!(
			f,
			"cell {cell} is wrong in word {word}: it says cell {says}, {tag}"
		)
	}
}

fn words(seed: u64, cell: u64, tag: Tag) -> impl Iterator<Item = u64> {
	let mut key = Pattern::new(seed ^ tag.0);
	let mut pattern = Pattern::new(key.next() ^ cell);
	let rest = std::iter::repeat_with(move || pattern.next());
	[cell, tag.0].into_iter().chain(rest).take(CELL / 8)
}

/// Makes the content of a cell; `bytes` has its size.
pub fn fill(seed: u64, cell: u64, tag: Tag, bytes: &mut [u8]) {
	for (to, word) in bytes.chunks_exact_mut(8).zip(words(seed, cell, tag)) {
		to.copy_from_slice(&word.to_le_bytes());
	}
}

/// Checks the content of a cell and returns the write that it comes from.
pub fn check(seed: u64, cell: u64, bytes: &[u8]) -> Result<Tag, Wrong> {
	let word = |index: usize| {
		let bytes = &bytes[8 * index..8 * index + 8];
		u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
	};
	let (says, tag) = (word(0), Tag(word(1)));
	let first = words(seed, cell, tag)
		.enumerate()
		.find(|&(index, expected)| word(index) != expected);
	match first {
		None => Ok(tag),
		Some((word, _)) => Err(Wrong {
			cell,
			says,
			tag,
			word,
		}),
	}
}

/// One step of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskAccess {
	/// The first cell.
	pub first: u64,
	/// Cells.
	pub count: u64,
	/// Written as this, or only read.
	pub write: Option<Tag>,
	/// Where the buffer begins in its page, a multiple of [`SECTOR`].
	pub skew: usize,
}

/// What a worker does, without an end.
#[derive(Clone, Debug)]
pub struct WorkerPlan {
	random: Pattern,
	run: u64,
	worker: u64,
	part: Range<u64>,
	step: u64,
}

impl WorkerPlan {
	/// The plan of one worker, on a disk of `cells` cells. Runs are numbered from 1.
	pub fn new(seed: u64, run: u64, worker: u64, cells: u64) -> Self {
		let part = cells / WORKERS;
		let mut key = Pattern::new(seed ^ Tag::new(run, worker, 0).0);
		Self {
			random: Pattern::new(key.next()),
			run,
			worker,
			part: worker * part..(worker + 1) * part,
			step: 0,
		}
	}
}

impl Iterator for WorkerPlan {
	type Item = DiskAccess;

	fn next(&mut self) -> Option<DiskAccess> {
		self.step += 1;
		let mut below = |n: u64| self.random.next() % n;
		// Half of them a single cell, which is what costs most hcalls per byte.
		let most = if below(2) == 0 { 1 } else { LONGEST };
		let size = self.part.end - self.part.start;
		let count = (1 + below(most)).min(size);
		let first = self.part.start + below(size - count + 1);
		let write = (below(2) == 0).then(|| Tag::new(self.run, self.worker, self.step));
		let skew = SECTOR * below((CELL / SECTOR) as u64) as usize;
		Some(DiskAccess {
			first,
			count,
			write,
			skew,
		})
	}
}

/// The content that each cell of a disk may have.
pub struct Expected {
	seed: u64,
	cells: Vec<BTreeSet<Tag>>,
}

impl Expected {
	/// A disk as it was made.
	pub fn new(seed: u64, cells: u64) -> Self {
		Self {
			seed,
			cells: vec![BTreeSet::from([Tag(0)]); cells as usize],
		}
	}

	/// Adds a run that did this number of steps in each worker.
	pub fn done(&mut self, run: u64, steps: [u64; WORKERS as usize]) {
		for (worker, steps) in (0..).zip(steps) {
			let plan = WorkerPlan::new(self.seed, run, worker, self.cells.len() as u64);
			for (cell, tag) in written(plan, steps) {
				self.cells[cell] = BTreeSet::from([tag]);
			}
		}
	}

	/// Adds an interrupted run, which did at most this number of steps in each worker.
	pub fn begun(&mut self, run: u64, steps: u64) {
		for worker in 0..WORKERS {
			let plan = WorkerPlan::new(self.seed, run, worker, self.cells.len() as u64);
			for (cell, tag) in written(plan, steps) {
				self.cells[cell].insert(tag);
			}
		}
	}

	/// Compares a whole disk and returns the first wrong cell.
	pub fn compare(&self, disk: &[u8]) -> Result<(), String> {
		if disk.len() != self.cells.len() * CELL {
			let (is, was) = (disk.len(), self.cells.len() * CELL);
			return Err(format!("the disk has {is} bytes, not {was}"));
		}
		for ((cell, may), bytes) in (0..).zip(&self.cells).zip(disk.chunks_exact(CELL)) {
			let tag = check(self.seed, cell, bytes).map_err(|wrong| wrong.to_string())?;
			if !may.contains(&tag) {
				return Err(format!(
					"cell {cell} comes from {tag}, which is not its last"
				));
			}
		}
		Ok(())
	}
}

/// The cells that the first steps of a plan write, one after the other.
fn written(plan: WorkerPlan, steps: u64) -> impl Iterator<Item = (usize, Tag)> {
	plan.take(steps as usize).flat_map(|step| {
		let cells = step.write.map(|tag| {
			let cells = step.first..step.first + step.count;
			cells.map(move |cell| (cell as usize, tag))
		});
		cells.into_iter().flatten()
	})
}

#[cfg(test)]
mod tests {
	use super::*;

	const CELLS: u64 = 512;

	fn disk(seed: u64) -> Vec<u8> {
		let mut disk = vec![0; CELLS as usize * CELL];
		for (cell, bytes) in (0..).zip(disk.chunks_exact_mut(CELL)) {
			fill(seed, cell, Tag(0), bytes);
		}
		disk
	}

	fn work(disk: &mut [u8], seed: u64, run: u64, steps: u64) {
		for worker in 0..WORKERS {
			let plan = WorkerPlan::new(seed, run, worker, CELLS);
			for (cell, tag) in written(plan, steps) {
				fill(seed, cell as u64, tag, &mut disk[cell * CELL..][..CELL]);
			}
		}
	}

	#[test]
	fn a_cell_is_known_by_its_content() {
		let mut bytes = vec![0; CELL];
		fill(1, 2, Tag(3), &mut bytes);
		assert_eq!(check(1, 2, &bytes), Ok(Tag(3)));
		assert!(check(2, 2, &bytes).is_err(), "another disk");
		assert_eq!(check(1, 3, &bytes).unwrap_err().says, 2, "another place");
		for at in [8, 16, CELL - 1] {
			bytes[at] ^= 1;
			assert!(check(1, 2, &bytes).is_err(), "byte {at}");
			bytes[at] ^= 1;
		}
	}

	#[test]
	fn workers_stay_in_their_parts() {
		for worker in 0..WORKERS {
			let mut writes = 0;
			for step in WorkerPlan::new(7, 1, worker, CELLS).take(1000) {
				assert!(step.first >= worker * CELLS / WORKERS);
				assert!(step.first + step.count <= (worker + 1) * CELLS / WORKERS);
				assert!((1..=LONGEST).contains(&step.count));
				assert!(step.skew < CELL && step.skew % SECTOR == 0);
				writes += usize::from(step.write.is_some());
			}
			assert!((400..600).contains(&writes));
		}
	}

	#[test]
	fn a_whole_run_leaves_one_state() {
		let mut disk = disk(9);
		let mut expected = Expected::new(9, CELLS);
		assert_eq!(expected.compare(&disk), Ok(()));
		work(&mut disk, 9, 1, 50);
		assert!(expected.compare(&disk).is_err(), "writes of no run");
		expected.done(1, [50; 4]);
		assert_eq!(expected.compare(&disk), Ok(()));
		expected.done(2, [1000; 4]);
		assert!(expected.compare(&disk).is_err(), "writes that are lost");
		assert!(expected.compare(&disk[CELL..]).is_err());
	}

	#[test]
	fn an_interrupted_run_may_have_come_anywhere() {
		for steps in [0, 1, 20, 40] {
			let mut disk = disk(9);
			let mut expected = Expected::new(9, CELLS);
			work(&mut disk, 9, 1, steps);
			expected.begun(1, 40);
			assert_eq!(expected.compare(&disk), Ok(()));
			work(&mut disk, 9, 2, 1);
			assert!(expected.compare(&disk).is_err());
			expected.done(2, [1; 4]);
			assert_eq!(expected.compare(&disk), Ok(()));
		}
	}
}
