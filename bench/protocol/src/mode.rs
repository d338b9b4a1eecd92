// SPDX-License-Identifier: GPL-2.0-only
//! How the guest runs.

/// The MMU and the translation that the guest uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestMode {
	/// A radix guest with translation off: an hcall arrives in real mode.
	Real,
	/// Radix translation on, AIL = 3: an hcall arrives with the MMU on.
	Radix,
	/// A hash guest with translation on, in pages of 64 KiB.
	Hash,
	/// A hash guest with translation off: the guest reaches memory through the virtual
	/// real mode area.
	HashReal,
	/// No guest at all.
	Host,
}

impl GuestMode {
	/// All modes, in the order of the tables.
	pub const ALL: [Self; 5] = [
		Self::Radix,
		Self::Real,
		Self::Hash,
		Self::HashReal,
		Self::Host,
	];

	/// The modes of a radix guest.
	pub const RADIX: [Self; 2] = [Self::Radix, Self::Real];

	/// The name in reports.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Real => "real",
			Self::Radix => "radix",
			Self::Hash => "hash",
			Self::HashReal => "hash-real",
			Self::Host => "host",
		}
	}

	/// The mode of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|mode| mode.name() == name)
	}

	/// Whether the guest uses the hash MMU.
	pub const fn is_hash(self) -> bool {
		matches!(self, Self::Hash | Self::HashReal)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn mode_names_lead_back() {
		for mode in GuestMode::ALL {
			assert_eq!(GuestMode::from_name(mode.name()), Some(mode));
		}
		assert_eq!(GuestMode::from_name("none"), None);
	}
}
