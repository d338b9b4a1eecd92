// SPDX-License-Identifier: GPL-2.0-only
//! What is measured, in which guest, on which path.

use hcall::{Code, Number};

use crate::{map, private};

/// An hcall with fixed arguments, and the code that has to come back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
	/// The benchmark's own hcall, which does nothing.
	Null,
	/// H_PROD to a vcpu that doesn't exist: a virtual-mode round trip and little else.
	HProd,
	/// H_GET_TCE.
	HGetTce,
	/// H_PUT_TCE into an emulated table.
	HPutTce,
	/// H_PUT_TCE_INDIRECT with one entry.
	HPutTceIndirect,
	/// H_PUT_TCE_INDIRECT with 512.
	HPutTceIndirect512,
	/// H_STUFF_TCE over 512 entries.
	HStuffTce512,
	/// A number that no kernel knows, answered by userspace.
	Unknown,
}

impl Case {
	/// All of them, in the order of the table.
	pub const ALL: [Self; 8] = [
		Self::Null,
		Self::HProd,
		Self::HGetTce,
		Self::HPutTce,
		Self::HPutTceIndirect,
		Self::HPutTceIndirect512,
		Self::HStuffTce512,
		Self::Unknown,
	];

	/// The name in reports and on command lines.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Null => "null",
			Self::HProd => "h_prod",
			Self::HGetTce => "h_get_tce",
			Self::HPutTce => "h_put_tce",
			Self::HPutTceIndirect => "h_put_tce_indirect",
			Self::HPutTceIndirect512 => "h_put_tce_indirect_512",
			Self::HStuffTce512 => "h_stuff_tce_512",
			Self::Unknown => "unknown",
		}
	}

	/// The case of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|case| case.name() == name)
	}

	/// What r3 holds at the `sc 1`.
	pub const fn number(self) -> Number {
		match self {
			Self::Null => Number::NULL,
			Self::HProd => Number::PROD,
			Self::HGetTce => Number::GET_TCE,
			Self::HPutTce => Number::PUT_TCE,
			Self::HPutTceIndirect | Self::HPutTceIndirect512 => Number::PUT_TCE_INDIRECT,
			Self::HStuffTce512 => Number::STUFF_TCE,
			Self::Unknown => private::UNKNOWN,
		}
	}

	/// What r4 to r7 hold.
	pub const fn args(self) -> [u64; 4] {
		match self {
			Self::Null | Self::Unknown => [0; 4],
			// No vcpu, and KVM sees that at once: any other id is searched for.
			Self::HProd => [u64::MAX, 0, 0, 0],
			Self::HGetTce => [map::LIOBN, 0, 0, 0],
			Self::HPutTce => [map::LIOBN, 0, Self::tce(0), 0],
			Self::HPutTceIndirect => [map::LIOBN, 0, map::TCE_LIST, 1],
			Self::HPutTceIndirect512 => [map::LIOBN, 0, map::TCE_LIST, 512],
			Self::HStuffTce512 => [map::LIOBN, 0, 0, 512],
		}
	}

	/// What r3 has to hold afterwards.
	pub const fn code(self) -> Code {
		match self {
			Self::HProd => Code::PARAMETER,
			Self::Unknown => Code::FUNCTION,
			_ => Code::SUCCESS,
		}
	}

	/// KVM hands this one to userspace until KVM_CAP_PPC_ENABLE_HCALL enables it.
	pub const fn needs_enabling(self) -> bool {
		matches!(
			self,
			Self::Null | Self::HPutTceIndirect | Self::HPutTceIndirect512 | Self::HStuffTce512
		)
	}

	/// It needs a DMA window.
	pub const fn needs_window(self) -> bool {
		!matches!(self, Self::Null | Self::HProd | Self::Unknown)
	}

	/// Entry `index` of the list of TCEs: a page of guest memory, read and write.
	pub const fn tce(index: u64) -> u64 {
		const READ: u64 = 1;
		const WRITE: u64 = 2;
		(map::TCE_TARGET + (index << map::TCE_SHIFT)) | READ | WRITE
	}
}

/// How the guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guest {
	/// Translation off: an hcall arrives in real mode.
	Real,
	/// Radix translation on, AIL = 3: an hcall arrives with the MMU on.
	Radix,
}

impl Guest {
	/// Both.
	pub const ALL: [Self; 2] = [Self::Radix, Self::Real];

	/// The name in reports.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Real => "real",
			Self::Radix => "radix",
		}
	}

	/// The mode of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|guest| guest.name() == name)
	}
}

/// Who serves the hcall.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
	/// Linux 5.10, the last with real-mode handlers in assembly on a POWER9.
	Asm510,
	/// The C entry and exit path.
	C,
	/// The Rust path without fast handlers.
	RustFull,
	/// The Rust path with them.
	RustFast,
}

impl Path {
	/// All of them, in the order of the table.
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

	/// The path of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|path| path.name() == name)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn names_are_unique_and_lead_back() {
		for case in Case::ALL {
			assert_eq!(Case::from_name(case.name()), Some(case));
		}
		for guest in Guest::ALL {
			assert_eq!(Guest::from_name(guest.name()), Some(guest));
		}
		for path in Path::ALL {
			assert_eq!(Path::from_name(path.name()), Some(path));
		}
		assert_eq!(Case::from_name("h_nothing"), None);
	}

	#[test]
	fn batches_are_512_and_inside_the_window() {
		for case in Case::ALL
			.into_iter()
			.filter(|case| case.name().ends_with("_512"))
		{
			assert_eq!(case.args()[3], 512);
		}
		assert!(map::TCE_LIST.is_multiple_of(4096));
	}

	#[test]
	fn every_tce_points_into_guest_memory() {
		for index in 0..512 {
			let page = Case::tce(index) & !((1 << map::TCE_SHIFT) - 1);
			assert!(page >= map::TCE_TARGET && page + 4096 <= map::RAM);
			assert_eq!(Case::tce(index) - page, 3);
		}
	}

	#[test]
	fn private_numbers_are_outside_the_enabled_bitmap() {
		for number in [
			private::DONE,
			private::EXCEPTION,
			private::PANIC,
			private::UNKNOWN,
		] {
			assert_eq!(number.index(Number(0x500)), None);
		}
	}
}
