// SPDX-License-Identifier: GPL-2.0-only
//! Which code served the round trips, by the kernel's counters.

use protocol::Column;

use crate::{Case, Setup};

/// What the kernel's counters say of a measurement, each as the difference that the
/// measurement made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Served {
	/// Answered by this case's fast handler.
	pub fast: u64,
	/// Answered by a fast handler for another hcall of the same round trip.
	pub also_fast: u64,
	/// Answered by another fast handler.
	pub other_fast: u64,
	/// Entries by Rust.
	pub rust: u64,
	/// Entries by C although the parameters ask for Rust.
	pub c: u64,
}

/// What [`Served::judge`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServedBy {
	/// The column's code.
	Column,
	/// C, which takes all such guests in.
	C,
	/// Other code, or the counters do not tell.
	Other,
}

impl Served {
	/// Which code served the `rounds` round trips of a case that `column` is to serve. This
	/// is for kernels that have the counters.
	pub fn judge(self, case: &Case, column: Column, rounds: u64) -> ServedBy {
		let fast = self.fast + self.also_fast + self.other_fast;
		let full = fast == 0 && self.c == 0 && self.rust >= case.exits(rounds);
		let right = match column {
			_ if case.setup == Setup::NoGuest => fast + self.rust + self.c == 0,
			Column::Asm510 | Column::C => fast + self.rust + self.c == 0,
			Column::RustFast if case.fast.is_some() => {
				// A few entries are due to the host's timer, and to begin and end.
				self.fast == rounds
					&& self.also_fast == rounds * case.also_fast.len() as u64
					&& self.other_fast == 0
					&& self.c == 0 && self.rust < rounds.div_ceil(8) + 8
			}
			Column::RustFull | Column::RustFast => full,
		};
		if right {
			ServedBy::Column
		} else if matches!(column, Column::RustFull | Column::RustFast)
			&& fast + self.rust == 0
			&& self.c >= case.exits(rounds)
		{
			ServedBy::C
		} else {
			ServedBy::Other
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::case;
	use protocol::GuestMode;

	#[test]
	fn a_column_is_believed_only_with_its_counters() {
		use ServedBy::{C, Column as Asked, Other};
		let served = |fast, other_fast, rust, c| Served {
			fast,
			also_fast: 0,
			other_fast,
			rust,
			c,
		};
		let [null, unknown, getppid] = [case!("null"), case!("unknown"), case!("getppid")];
		for (case, column, counters, expected) in [
			(null, Column::C, served(0, 0, 0, 0), Asked),
			(null, Column::C, served(0, 0, 1, 0), Other),
			(null, Column::C, served(1, 0, 0, 0), Other),
			(null, Column::RustFull, served(0, 0, 100, 0), Asked),
			(null, Column::RustFull, served(0, 0, 99, 0), Other),
			(null, Column::RustFull, served(1, 0, 100, 0), Other),
			(null, Column::RustFull, served(0, 0, 0, 0), Other),
			(null, Column::RustFull, served(0, 0, 0, 100), C),
			(null, Column::RustFast, served(100, 0, 2, 0), Asked),
			(null, Column::RustFast, served(99, 0, 2, 0), Other),
			(null, Column::RustFast, served(101, 0, 2, 0), Other),
			(null, Column::RustFast, served(100, 1, 2, 0), Other),
			(null, Column::RustFast, served(100, 0, 100, 0), Other),
			(null, Column::RustFast, served(0, 0, 100, 0), Other),
			(unknown, Column::RustFast, served(0, 0, 100, 0), Asked),
			(unknown, Column::RustFast, served(0, 1, 100, 0), Other),
			(unknown, Column::RustFast, served(0, 0, 100, 1), Other),
			(unknown, Column::RustFast, served(0, 0, 0, 101), C),
			(unknown, Column::RustFast, served(0, 0, 0, 99), Other),
			(getppid, Column::C, served(0, 0, 0, 0), Asked),
			(getppid, Column::C, served(0, 0, 0, 100), Other),
		] {
			assert_eq!(
				counters.judge(case, column, 100),
				expected,
				"{} {} {counters:?}",
				case.name,
				column.name()
			);
		}
	}

	#[test]
	fn what_is_absent_has_a_reason() {
		let absent = |case: &Case, mode, column| case.absent(mode, column).is_some();
		let [null, prod, unknown, store, touch, getppid] = [
			case!("null"),
			case!("h_prod"),
			case!("unknown"),
			case!("mmio_store"),
			case!("first_touch"),
			case!("getppid"),
		];
		assert!(!absent(null, GuestMode::Hash, Column::RustFull));
		assert!(!absent(null, GuestMode::Hash, Column::RustFast));
		assert!(!absent(prod, GuestMode::Hash, Column::RustFast));
		assert!(!absent(null, GuestMode::Real, Column::RustFast));
		assert!(!absent(unknown, GuestMode::Hash, Column::RustFast));
		assert!(absent(store, GuestMode::HashReal, Column::C));
		assert!(!absent(store, GuestMode::Hash, Column::C));
		assert!(!absent(touch, GuestMode::HashReal, Column::C));
		assert!(absent(getppid, GuestMode::Host, Column::RustFull));
		assert!(!absent(getppid, GuestMode::Host, Column::C));
	}
}
