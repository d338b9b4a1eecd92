// SPDX-License-Identifier: GPL-2.0-only
//! Every register that a register round fills and compares.
//!
//! A flat array of 64-bit words: the guest's assembly reaches each by displacement,
//! the comparison is one loop, and a mismatch is reported as an index which
//! [`name`] turns into something readable.
//!
//! The list of SPRs is [`spr_table!`](crate::spr_table): the registers that are switched, from their
//! rows, and some others. Both the table and the guest's instructions are made from the list. Not in it: what only a hypervisor
//! may write, the clocks (TB, DEC, PURR, VTB, IC), the PMU, which KVM
//! neither saves nor clears for a guest whose VPA says that it isn't in use, and PSSCR,
//! which ignores what a guest under QEMU writes.

use core::fmt;

/// Registers of one moment.
pub type Registers = [u64; COUNT];

/// r0 to r31.
pub const GPR: usize = 0;
/// vs0 to vs63, two words each, in memory order.
pub const VSR: usize = 32;
/// CR.
pub const CR: usize = 160;
/// LR.
pub const LR: usize = 161;
/// CTR.
pub const CTR: usize = 162;
/// XER.
pub const XER: usize = 163;
/// CFAR.
pub const CFAR: usize = 164;
/// MSR.
pub const MSR: usize = 165;
/// FPSCR.
pub const FPSCR: usize = 166;
/// VSCR, as a vector register holds it. Even, so that it is aligned.
pub const VSCR: usize = 168;
/// The rest of that vector register.
pub const VSCR_UPPER: usize = VSCR + 1;
/// First of the SPRs of [`SPRS`].
pub const SPR: usize = 170;
/// How many there are in all.
pub const COUNT: usize = SPR + SPRS.len();

const _: () = assert!(VSR.is_multiple_of(2) && VSCR.is_multiple_of(2));
const _: () = assert!(COUNT * 8 <= 0x1000);

/// An SPR that a guest's kernel can read and write.
#[derive(Clone, Copy, Debug)]
pub struct Spr {
	/// What to call it.
	pub name: &'static str,
	/// Number for mtspr.
	pub write: u32,
	/// Number for mfspr.
	pub read: u32,
	/// Bits to fill. What they hold is read back, so bits that don't exist are fine;
	/// this is about bits that would take the guest away from under itself.
	pub mask: u64,
	/// The same when translation is on.
	pub mask_translated: u64,
	/// Bits always set.
	pub set: u64,
}

/// Calls `$table!` with the list of SPRs: name, number for mtspr, number for mfspr,
/// bits to fill in real mode, with translation on, and bits always set.
#[macro_export]
macro_rules! spr_table {
	($table:ident) => {
		$crate::regs::switched_sprs!($crate::spr_rows, { $table });
	};
}
#[doc(hidden)]
pub use powerpc::switched_sprs;

/// The list of SPRs: those that are switched, by their rows, and others.
#[doc(hidden)]
#[macro_export]
macro_rules! spr_rows {
	({$table:ident} $($(#[$group_doc:meta])* $group:ident {
		$(
			$(#[$doc:meta])*
			$name:ident / $set:ident: $spr:ident = $number:literal,
				$home:ident($($member:tt)*) as $width:ident, $when:ident,
				$host:ident $(($($kept:tt)*))? $(+ $checkpointed:ident)?
				$(, guest($mask:expr $(, problem state $problem:literal)?))?;
		)*
	})*) => {
		$table! {
			$($($(
				(stringify!($spr), $number, $number, $mask, $mask, 0),
				// Directly after the register: QEMU ignores an mfspr of the other number by a
				// guest's kernel, which leaves what was read before.
				$((concat!(stringify!($spr), " (problem state)"),
					$problem, $problem, $mask, $mask, 0),)?
			)?)*)*
			("CTRL", 152, 136, 1, 1, 0),
			// With translation on, another PID is another address space.
			("PID", 48, 48, 0xf_ffff, 0, 0),
			// Priorities 2 (low) to 5: what a guest's kernel may set without the
			// hypervisor's own 7.
			("PPR", 896, 896, 1 << 50, 1 << 50, 2 << 50),
		}
	};
}

macro_rules! sprs {
	($((
		$name:expr, $write:literal, $read:literal, $mask:expr, $translated:expr, $set:expr
	),)*) => {
		/// The SPRs, in the order in which they are written.
		pub const SPRS: &[Spr] = &[$(Spr {
			name: $name,
			write: $write,
			read: $read,
			mask: $mask,
			mask_translated: $translated,
			set: $set,
		}),*];
	};
}
spr_table!(sprs);

/// Index of the SPR that mfspr knows by that number.
pub const fn spr_index(read: u32) -> usize {
	let mut i = 0;
	while i < SPRS.len() {
		if SPRS[i].read == read {
			return SPR + i;
		}
		i += 1;
	}
	panic!("no such SPR in the table");
}

/// Index of SRR0.
pub const SRR0: usize = spr_index(26);
/// Index of SRR1.
pub const SRR1: usize = spr_index(27);
/// Index of PID.
pub const PID: usize = spr_index(48);

/// Is there a register at that index? There is a gap, to align VSCR.
pub const fn exists(index: usize) -> bool {
	index < COUNT && index != FPSCR + 1
}

/// The readable name of a register.
pub fn name(index: usize) -> impl fmt::Display {
	Name(index)
}

struct Name(usize);

impl fmt::Display for Name {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self.0 {
			gpr @ GPR..VSR => write!(f, "r{}", gpr - GPR),
			vsr @ VSR..CR => write!(f, "vs{} word {}", (vsr - VSR) / 2, (vsr - VSR) % 2),
			CR => f.write_str("CR"),
			LR => f.write_str("LR"),
			CTR => f.write_str("CTR"),
			XER => f.write_str("XER"),
			CFAR => f.write_str("CFAR"),
			MSR => f.write_str("MSR"),
			FPSCR => f.write_str("FPSCR"),
			VSCR => f.write_str("VSCR"),
			VSCR_UPPER => f.write_str("VSCR upper word"),
			spr @ SPR..COUNT => f.write_str(SPRS[spr - SPR].name),
			other => write!(f, "register {other}"),
		}
	}
}

/// The pattern: splitmix64, whose every output depends on the whole seed and whose
/// outputs are all different over any run that we could make.
#[derive(Clone, Copy, Debug)]
pub struct Pattern(u64);

impl Pattern {
	/// A pattern that starts from `seed`.
	pub const fn new(seed: u64) -> Self {
		Self(seed)
	}

	/// The next word.
	pub const fn next(&mut self) -> u64 {
		self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
		let mut z = self.0;
		z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
		z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
		z ^ (z >> 31)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn every_register_has_a_name_of_its_own() {
		let mut seen = std::collections::BTreeSet::new();
		for index in (0..COUNT).filter(|&index| exists(index)) {
			assert!(seen.insert(name(index).to_string()), "{}", name(index));
			assert!(!name(index).to_string().starts_with("register"), "{index}");
		}
		assert!(!exists(COUNT));
		assert_eq!(name(COUNT).to_string(), format!("register {COUNT}"));
	}

	#[test]
	fn patterns_repeat_by_seed_and_differ_between_seeds() {
		let (mut a, mut b, mut c) = (Pattern::new(1), Pattern::new(1), Pattern::new(2));
		for _ in 0..100 {
			let word = a.next();
			assert_eq!(word, b.next());
			assert_ne!(word, c.next());
		}
		// The published first output of splitmix64 for seed 0.
		assert_eq!(Pattern::new(0).next(), 0xe220_a839_7b1d_cdaf);
	}

	#[test]
	fn translated_guests_keep_their_address_space() {
		assert_eq!(SPRS[PID - SPR].mask_translated, 0);
		assert_eq!(SPRS[spr_index(29) - SPR].mask_translated >> 62, 0);
		assert_eq!(SPRS[spr_index(61) - SPR].mask_translated >> 62, 0);
	}

	#[test]
	fn every_register_is_within_reach_of_a_displacement() {
		assert!(crate::map::FILL + 8 * (COUNT as u64) <= crate::map::GOT);
		assert!(crate::map::GOT + 8 * (COUNT as u64) <= crate::map::SAVE);
	}
}
