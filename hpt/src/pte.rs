// SPDX-License-Identifier: GPL-2.0-only
//! The format of an HPTE.
//!
//! Guests use the format of Power ISA 2.07: the segment size (B) is in the first doubleword. A
//! POWER9 has B in the second doubleword (Power ISA 3.0B, Book III, 5.7.9.2). [`Pte`] is what
//! guests see.

/// First doubleword: B, the segment size. `0b1x` is reserved.
pub const V_B_SHIFT: u32 = 62;
/// A segment of 1 TiB.
pub const V_1TB: u64 = 1 << V_B_SHIFT;
/// What both formats have in common.
pub const V_COMMON: u64 = (1 << 52) - 1;
/// The abbreviated virtual page number, without B.
pub const V_AVPN: u64 = 0x3fff_ffff_ffff_ff80;
/// Software: the HPTE is locked.
pub const V_LOCK: u64 = 0x40;
/// Software: in use for the guest, but not valid for the MMU.
pub const V_ABSENT: u64 = 0x20;
/// The page is larger than 4 KiB, or so is the segment's base page.
pub const V_LARGE: u64 = 0x4;
/// The HPTE is in the secondary group of its hash.
pub const V_SECONDARY: u64 = 0x2;
/// The MMU may use it.
pub const V_VALID: u64 = 0x1;
/// All but the AVPN and B.
pub const V_FLAGS: u64 = 0x7f;

/// Second doubleword: the high bit of PP.
pub const R_PP0: u64 = 1 << 63;
/// The other bits of PP.
pub const R_PP: u64 = 0x3;
/// Not executable.
pub const R_N: u64 = 0x4;
/// Guarded, memory coherence, caching-inhibited, write-through.
pub const R_G: u64 = 0x08;
/// See [`R_G`].
pub const R_M: u64 = 0x10;
/// See [`R_G`].
pub const R_I: u64 = 0x20;
/// See [`R_G`].
pub const R_W: u64 = 0x40;
/// Changed.
pub const R_C: u64 = 0x80;
/// Referenced.
pub const R_R: u64 = 0x100;
/// Storage key, the low bits.
pub const R_KEY_LO: u64 = 0xe00;
/// Storage key, the high bits.
pub const R_KEY_HI: u64 = 0x3 << 60;
/// The real page number, with the page size in its low bits.
pub const R_RPN: u64 = 0x0fff_ffff_ffff_f000;
/// B in the format of POWER9.
const R_B_SHIFT: u32 = 58;
const R_B: u64 = 3 << R_B_SHIFT;

/// In [`Rev::guest_r`](crate::Rev::guest_r): changed since KVM_PPC_GET_HTAB_FD last read it. A
/// guest never sees it but by H_CLEAR_REF and H_CLEAR_MOD.
pub const GR_MODIFIED: u64 = 1 << 62;

/// The key that marks the HPTE of an emulated device, if it is absent.
pub const KEY: u64 = R_KEY_HI | R_KEY_LO;

/// What H_PROTECT sets.
pub const PROTECTION: u64 = R_PP0 | R_PP | R_N | KEY;

/// Logarithms of the sizes of a page: of the segment's base page and of this one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shifts {
	/// Base page.
	pub base: u32,
	/// This page.
	pub actual: u32,
}

/// Page sizes that a POWER9 has, by L and LP of an HPTE.
#[inline]
pub const fn shifts(v: u64, r: u64) -> Option<Shifts> {
	let (base, actual) = if v & V_LARGE == 0 {
		(12, 12)
	} else {
		match (r >> 12 & 0xf, r >> 16 & 0xf) {
			(0x0, 0x0) => (24, 24),
			(0x1, _) => (16, 16),
			(0x3, 0x0) => (34, 34),
			(0x7, _) => (12, 16),
			(0x8, 0x0) => (16, 24),
			(0x8, 0x3) => (12, 24),
			_ => return None,
		}
	};
	Some(Shifts { base, actual })
}

/// Writing is allowed, in privileged state or in problem state.
#[inline]
pub const fn is_writable(r: u64) -> bool {
	let pp = r & (R_PP0 | R_PP);
	pp != 3 && pp != R_PP0 | 2
}

/// The same without writing.
#[inline]
pub const fn read_only(r: u64) -> u64 {
	if r & R_PP0 != 0 || r & R_PP == 0 {
		r & !R_PP | R_PP0 | 2
	} else {
		r | 3
	}
}

/// Whether the attributes for caching fit memory, or a device.
#[inline]
pub const fn caching_fits(r: u64, is_uncached: bool) -> bool {
	let wimg = match r & (R_W | R_I | R_M | R_G) {
		// Strong access order.
		sao if sao == R_W | R_I | R_M => R_M,
		wimg => wimg,
	};
	if is_uncached {
		wimg & R_W == 0 && wimg & R_I != 0
	} else {
		wimg == R_M
	}
}

/// The page of the host's size that has the address in this second doubleword.
#[inline]
pub const fn page_number(r: u64, shift: u32, host_shift: u32) -> u64 {
	(r & R_RPN & !((1 << shift) - 1)) >> host_shift
}

/// An HPTE, as guests see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pte {
	/// First doubleword.
	pub v: u64,
	/// Second doubleword.
	pub r: u64,
}

impl Pte {
	/// Of what a POWER9 has.
	#[inline]
	pub const fn decode(v: u64, r: u64) -> Self {
		Self {
			v: v & V_COMMON | (r & R_B) << (V_B_SHIFT - R_B_SHIFT),
			r: r & !R_B,
		}
	}

	/// What a POWER9 has.
	#[inline]
	pub const fn encode(self) -> (u64, u64) {
		(
			self.v & V_COMMON,
			self.r & !R_B | self.v >> V_B_SHIFT << R_B_SHIFT,
		)
	}

	/// A guest has put it there.
	#[inline]
	pub const fn is_in_use(self) -> bool {
		self.v & (V_VALID | V_ABSENT) != 0
	}

	/// It names an emulated device.
	#[inline]
	pub const fn is_device(self) -> bool {
		self.v & V_ABSENT != 0 && self.r & KEY == KEY
	}

	/// RB of `tlbie` for this HPTE at `index` (Power ISA 3.0B, Book III, 5.9.3.3).
	#[inline]
	pub const fn translation(self, index: u64) -> u64 {
		let (base, actual) = match shifts(self.v, self.r) {
			Some(shifts) => (shifts.base, shifts.actual),
			// No such HPTE is ever made.
			None => (12, 12),
		};
		// The hash is VSID xor page number. The AVPN has the upper bits of the page number; the
		// low 11 of them come from the group.
		let group = index >> 3;
		let hash = if self.v & V_SECONDARY != 0 {
			!group
		} else {
			group
		};
		let vsid = if self.v & V_1TB != 0 {
			self.v >> (40 - 16)
		} else {
			self.v >> (28 - 16)
		};
		let low = (hash ^ vsid) & 0x7ff;

		let mut rb = (self.v & !V_FLAGS) << 16;
		if base == 12 {
			rb |= low << 12;
			rb |= match actual {
				12 => 0,
				16 => 5 << 5,
				_ => 4 << 5,
			};
		} else {
			let offset = (1 << actual) - 1;
			rb |= (low << base) & 0x7f_f000;
			rb &= !offset;
			rb |= (low << (base - 12)) & 0xfe;
			rb |= 1;
			rb |= self.r & 0xf_f000 & offset;
		}
		rb | self.v >> V_B_SHIFT << 8
	}
}
