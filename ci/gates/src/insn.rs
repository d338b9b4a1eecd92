// SPDX-License-Identifier: GPL-2.0-only
//! As much of the Power instruction encoding as the gates need.
//!
//! Instructions are classified from their 32 bits rather than from a
//! disassembler's text, so that a form which the disassembler prints without a
//! register name is not missed. Fields and opcodes: Power ISA 3.0B, Book I,
//! 1.6 and Appendix F.

/// One instruction word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Insn(pub u32);

/// What moving a special register does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SprAccess {
	/// mfspr
	Read(u16),
	/// mtspr
	Write(u16),
}

impl Insn {
	fn primary(self) -> u32 {
		self.0 >> 26
	}

	/// The 10-bit extended opcode of primary opcodes 19, 31 and 63.
	fn extended(self) -> u32 {
		self.0 >> 1 & 0x3ff
	}

	/// Whether it uses a floating-point, vector or VSX register or status.
	///
	/// Primary opcode 4 is all vector in what POWER9 implements except maddhd,
	/// maddhdu and maddld. Under 31 lie the indexed loads and stores and the moves
	/// between register files.
	pub fn uses_fp_or_vector(self) -> bool {
		match self.primary() {
			4 => !matches!(self.0 & 0x3f, 48 | 49 | 51),
			48..=55 | 57 | 59..=61 | 63 => true,
			31 => Self::EXTENDED_31.binary_search(&self.extended()).is_ok(),
			_ => false,
		}
	}

	/// Extended opcodes under primary opcode 31 that use those registers, sorted.
	/// XX1-form instructions have the register's top bit as bit 31, which is
	/// outside this field.
	const EXTENDED_31: [u32; 61] = [
		6,    // lvsl
		7,    // lvebx
		12,   // lxsiwzx
		38,   // lvsr
		39,   // lvehx
		51,   // mfvsrd
		71,   // lvewx
		76,   // lxsiwax
		103,  // lvx
		115,  // mfvsrwz
		135,  // stvebx
		140,  // stxsiwx
		167,  // stvehx
		179,  // mtvsrd
		199,  // stvewx
		211,  // mtvsrwa
		231,  // stvx
		243,  // mtvsrwz
		268,  // lxvx
		269,  // lxvl
		300,  // lxvx (DX reserved bit set)
		301,  // lxvll
		307,  // mfvsrld
		332,  // lxvdsx
		359,  // lvxl
		364,  // lxvwsx
		396,  // stxvx
		397,  // stxvl
		403,  // mtvsrws
		429,  // stxvll
		435,  // mtvsrdd
		487,  // stvxl
		524,  // lxsspx
		535,  // lfsx
		567,  // lfsux
		588,  // lxsdx
		599,  // lfdx
		631,  // lfdux
		652,  // stxsspx
		663,  // stfsx
		695,  // stfsux
		716,  // stxsdx
		727,  // stfdx
		759,  // stfdux
		780,  // lxvw4x
		781,  // lxsibzx
		791,  // lfdpx
		812,  // lxvh8x
		813,  // lxsihzx
		844,  // lxvd2x
		855,  // lfiwax
		876,  // lxvb16x
		887,  // lfiwzx
		908,  // stxvw4x
		909,  // stxsibx
		919,  // stfdpx
		940,  // stxvh8x
		941,  // stxsihx
		972,  // stxvd2x
		983,  // stfiwx
		1004, // stxvb16x
	];

	/// The special register it reads or writes.
	pub fn spr(self) -> Option<SprAccess> {
		if self.primary() != 31 {
			return None;
		}
		let spr = (self.0 >> 16 & 0x1f | (self.0 >> 11 & 0x1f) << 5) as u16;
		match self.extended() {
			339 => Some(SprAccess::Read(spr)),
			467 => Some(SprAccess::Write(spr)),
			// mftb is mfspr of TBR 268 or 269 under an opcode of its own.
			371 => Some(SprAccess::Read(spr)),
			_ => None,
		}
	}

	/// The frame that it opens: `stdu r1,-N(r1)` gives N.
	pub fn frame(self) -> Option<u32> {
		let opens = self.0 & 0xffff_0003 == 0xf821_0001;
		opens
			.then(|| -i32::from((self.0 & 0xfffc) as u16 as i16))
			.and_then(|n| n.try_into().ok())
	}

	/// Whether it is a `cmpld` into CR0.
	pub fn is_cmpld_cr0(self) -> bool {
		self.0 & 0xffe0_07ff == 0x7c20_0040
	}

	/// Whether it is an `isel` by CR0\[LT\] with two registers.
	pub fn is_isel_lt(self) -> bool {
		self.0 & 0xfc00_07ff == 0x7c00_001e && self.0 & 0x001f_0000 != 0
	}

	/// Whether it is hrfid.
	pub fn is_hrfid(self) -> bool {
		self.0 == 0x4c00_0224
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn table_is_sorted() {
		assert!(Insn::EXTENDED_31.is_sorted());
	}

	#[test]
	fn knows_fp_and_vector_instructions() {
		// As GNU as encodes them.
		for (word, text) in [
			(0xc823_0000, "lfd f1,0(r3)"),
			(0xd823_0000, "stfd f1,0(r3)"),
			(0x7c00_1e98, "lxvd2x vs0,0,r3"),
			(0x7c00_1e99, "lxvd2x vs32,0,r3"),
			(0x7c00_1f98, "stxvd2x vs0,0,r3"),
			(0x7c00_18ce, "lvx v0,0,r3"),
			(0x7c00_19ce, "stvx v0,0,r3"),
			(0x1000_0000, "vaddubm v0,v0,v0"),
			(0xf000_04d0, "xxlxor vs0,vs0,vs0"),
			(0xfc00_048e, "mffs f0"),
			(0xec01_102a, "fadds f0,f1,f2"),
			(0x7c03_0066, "mfvsrd r3,vs0"),
			(0x7c03_0166, "mtvsrd vs0,r3"),
			(0x7c00_1cae, "lfdx f0,0,r3"),
			(0xf403_0001, "lxv vs0,0(r3)"),
		] {
			assert!(Insn(word).uses_fp_or_vector(), "{text}");
		}
		for (word, text) in [
			(0xe863_0000, "ld r3,0(r3)"),
			(0x7c60_00a6, "mfmsr r3"),
			(0x7c63_182a, "ldx r3,r3,r3"),
			(0x7c63_19d2, "mulld r3,r3,r3"),
			(0x1063_18f3, "maddld r3,r3,r3,r3"),
			(0x4c00_0224, "hrfid"),
		] {
			assert!(!Insn(word).uses_fp_or_vector(), "{text}");
		}
	}

	#[test]
	fn knows_special_registers() {
		assert_eq!(
			Insn(0x7c7a_02a6).spr(),
			Some(SprAccess::Read(26)),
			"mfsrr0 r3"
		);
		assert_eq!(
			Insn(0x7c9a_4ba6).spr(),
			Some(SprAccess::Write(314)),
			"mthsrr0 r4"
		);
		assert_eq!(
			Insn(0x7c6c_42a6).spr(),
			Some(SprAccess::Read(268)),
			"mftb r3 (mfspr form)"
		);
		assert_eq!(
			Insn(0x7c6c_42e6).spr(),
			Some(SprAccess::Read(268)),
			"mftb r3"
		);
		assert_eq!(Insn(0x7c60_00a6).spr(), None, "mfmsr r3");
	}

	#[test]
	fn knows_frames() {
		assert_eq!(Insn(0xf821_ffc1).frame(), Some(64), "stdu r1,-64(r1)");
		assert_eq!(Insn(0xf821_0041).frame(), None, "stdu r1,64(r1)");
		assert_eq!(Insn(0xf801_0010).frame(), None, "std r0,16(r1)");
	}
}
