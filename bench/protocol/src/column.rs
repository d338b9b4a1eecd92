// SPDX-License-Identifier: GPL-2.0-only
//! Which code serves a round trip.

/// A column of the tables: the code that serves a round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column {
	/// Linux 5.10, the last with real-mode handlers in assembly on a POWER9.
	Asm510,
	/// The C entry and exit path.
	C,
	/// The Rust path without fast handlers.
	RustFull,
	/// The Rust path with fast handlers.
	RustFast,
}

impl Column {
	/// All columns, in the order of the tables.
	pub const ALL: [Self; 4] = [Self::Asm510, Self::C, Self::RustFull, Self::RustFast];

	/// The name in reports.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Asm510 => "asm-5.10",
			Self::C => "c",
			Self::RustFull => "rust-full",
			Self::RustFast => "rust-fast",
		}
	}

	/// The column of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|column| column.name() == name)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn column_names_lead_back() {
		for column in Column::ALL {
			assert_eq!(Column::from_name(column.name()), Some(column));
		}
		assert_eq!(Column::from_name("asm"), None);
	}
}
