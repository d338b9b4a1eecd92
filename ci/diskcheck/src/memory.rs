// SPDX-License-Identifier: GPL-2.0-only
//! The memory of a process, whose cells name their place and their writer as those of a disk do.
//!
//! The process works in rounds. In each it writes some cells again and forks a child, which
//! writes other cells of its copy. What each cell has at the end of a round, in the process and in
//! its child, follows from the seed.

use std::fmt;
use std::ops::Range;

use protocol::regs::Pattern;

use crate::{CELL, Tag, check, fill};

/// Cells of a MiB.
pub const CELLS_OF_MIB: u64 = (1 << 20) / CELL as u64;

/// The child of a round has this part of the memory to look at.
const PARTS: u64 = 4;

/// In the second round and later one cell of so many is written again.
const ONE_OF: u64 = 3;

/// Whose memory it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
	/// The process.
	Parent,
	/// The child of this round.
	Child,
}

/// A cell that does not have what was written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
	/// The cell.
	pub cell: u64,
	/// What it has.
	pub why: String,
}

impl fmt::Display for Lost {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(&self.why)
	}
}

/// What a process does with its memory.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
	seed: u64,
	process: u64,
	cells: u64,
}

impl MemoryPlan {
	/// The plan of one process. Processes are numbered from 1.
	pub fn new(seed: u64, process: u64, mib: u64) -> Self {
		Self {
			seed,
			process,
			cells: mib * CELLS_OF_MIB,
		}
	}

	fn random(&self, round: u64, cell: u64) -> u64 {
		let mut key = Pattern::new(self.seed ^ Tag::new(self.process, 0, round).0);
		Pattern::new(key.next() ^ cell).next()
	}

	/// The cells that may be written, and that are looked at.
	fn cells(&self, of: Of, round: u64) -> Range<u64> {
		let part = self.cells / PARTS;
		match of {
			Of::Parent => 0..self.cells,
			Of::Child => (round % PARTS) * part..(round % PARTS + 1) * part,
		}
	}

	fn writes(&self, of: Of, round: u64, cell: u64) -> bool {
		match of {
			Of::Parent => round == 1 || self.random(round, cell).is_multiple_of(ONE_OF),
			Of::Child => cell % 2 == 1,
		}
	}

	/// The last write of a cell.
	fn tag(&self, of: Of, round: u64, cell: u64) -> Tag {
		if of == Of::Child && self.writes(of, round, cell) {
			return Tag::new(self.process, 1, round);
		}
		let mut rounds = (1..=round).rev();
		let last = rounds.find(|&round| self.writes(Of::Parent, round, cell));
		Tag::new(self.process, 0, last.unwrap_or(0))
	}

	/// Does the writes of a round.
	pub fn write(&self, of: Of, round: u64, bytes: &mut [u8]) {
		for cell in self.cells(of, round) {
			if self.writes(of, round, cell) {
				let at = cell as usize * CELL;
				let tag = self.tag(of, round, cell);
				fill(self.seed, cell, tag, &mut bytes[at..at + CELL]);
			}
		}
	}

	/// Looks at each byte after the writes of a round, and returns the number of cells.
	pub fn check(&self, of: Of, round: u64, bytes: &[u8]) -> Result<u64, Lost> {
		let cells = self.cells(of, round);
		for cell in cells.clone() {
			let at = cell as usize * CELL;
			let wanted = self.tag(of, round, cell);
			let why = match check(self.seed, cell, &bytes[at..at + CELL]) {
				Ok(tag) if tag == wanted => continue,
				Ok(tag) => format!("cell {cell} comes from {tag}, not from {wanted}"),
				Err(wrong) => wrong.to_string(),
			};
			return Err(Lost { cell, why });
		}
		Ok(cells.end - cells.start)
	}

	/// The byte that is spoilt at the end, to see that the check finds it.
	pub fn spoilt(&self) -> usize {
		let bytes = self.cells * CELL as u64;
		(self.random(0, self.cells) % bytes) as usize
	}

	/// What a process says that found all cells right in each round, and the spoilt one then.
	pub fn report(&self, rounds: u64) -> String {
		let cell = self.spoilt() / CELL;
		report(self.process, rounds * self.cells, cell as u64)
	}
}

/// What a process says that looked at so many cells, and found this one spoilt.
pub fn report(process: u64, cells: u64, spoilt: u64) -> String {
	format!("process {process} cells {cells} spoilt {spoilt}")
}

#[cfg(test)]
mod tests {
	use super::*;

	const ROUNDS: u64 = 6;

	#[test]
	fn each_round_leaves_what_the_check_expects() {
		let plan = MemoryPlan::new(5, 1, 1);
		let mut bytes = vec![0; 1 << 20];
		assert!(
			plan.check(Of::Parent, 1, &bytes).is_err(),
			"nothing written"
		);
		for round in 1..=ROUNDS {
			let before = bytes.clone();
			plan.write(Of::Parent, round, &mut bytes);
			assert_eq!(plan.check(Of::Parent, round, &bytes), Ok(CELLS_OF_MIB));
			assert!(plan.check(Of::Parent, round, &before).is_err(), "old cells");
			let mut child = bytes.clone();
			assert!(plan.check(Of::Child, round, &child).is_err());
			plan.write(Of::Child, round, &mut child);
			assert_eq!(
				plan.check(Of::Child, round, &child),
				Ok(CELLS_OF_MIB / PARTS)
			);
			let lost = plan.check(Of::Parent, round, &child).unwrap_err();
			assert!(plan.cells(Of::Child, round).contains(&lost.cell));
		}
		let other = MemoryPlan::new(5, 2, 1);
		assert!(other.check(Of::Parent, ROUNDS, &bytes).is_err());
	}

	#[test]
	fn each_spoilt_byte_is_found() {
		for seed in 0..20 {
			let plan = MemoryPlan::new(seed, 3, 1);
			let mut bytes = vec![0; 1 << 20];
			plan.write(Of::Parent, 1, &mut bytes);
			bytes[plan.spoilt()] ^= 1;
			let lost = plan.check(Of::Parent, 1, &bytes).unwrap_err();
			assert_eq!(plan.report(1), report(3, CELLS_OF_MIB, lost.cell));
		}
	}
}
