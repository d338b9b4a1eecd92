// SPDX-License-Identifier: GPL-2.0-only
//! The sections of a guest that reads: paths in turn, twice, and the hcalls that are counted.

use std::fmt;

use hcall::Number;
use protocol::Column;

/// Paths that are compared, in the order in which a guest goes through them.
pub(super) const PATHS: [Column; 3] = [Column::C, Column::RustFull, Column::RustFast];
pub(super) const ROUNDS: u64 = 2;

/// The hcalls that the reads are about.
pub(super) const TCE: [(Number, &str); 4] = [
	(Number::GET_TCE, "H_GET_TCE"),
	(Number::PUT_TCE, "H_PUT_TCE"),
	(Number::PUT_TCE_INDIRECT, "H_PUT_TCE_INDIRECT"),
	(Number::STUFF_TCE, "H_STUFF_TCE"),
];

/// Some reads on one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Section {
	/// What the guest calls it.
	pub tag: u64,
	/// The path.
	pub path: Column,
	/// From 1.
	pub round: u64,
}

/// All of them, as the guest does them.
pub fn sections() -> impl Iterator<Item = Section> {
	(1..=ROUNDS)
		.flat_map(|round| PATHS.map(|path| (round, path)))
		.zip(1..)
		.map(|((round, path), tag)| Section { tag, path, round })
}

impl fmt::Display for Section {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{}, round {}", self.path.name(), self.round)
	}
}
