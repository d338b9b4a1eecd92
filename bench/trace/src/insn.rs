// SPDX-License-Identifier: GPL-2.0-only
//! What an instruction is, from its word.
//!
//! Only what costs a POWER9 noticeably more than its place in the pipeline is told
//! apart, and what moves data or control. Opcodes: Power ISA 3.0B, Book I to III
//! and Appendix F.

use std::fmt;

/// A special register's number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Spr(pub u16);

/// Registers by the names that the ISA and the POWER9 User's Manual give them.
const SPRS: &[(u16, &str)] = &[
	(1, "XER"),
	(8, "LR"),
	(9, "CTR"),
	(3, "UDSCR"),
	(13, "UAMR"),
	(17, "DSCR"),
	(18, "DSISR"),
	(19, "DAR"),
	(22, "DEC"),
	(26, "SRR0"),
	(27, "SRR1"),
	(28, "CFAR"),
	(29, "AMR"),
	(48, "PIDR"),
	(61, "IAMR"),
	(128, "TFHAR"),
	(129, "TFIAR"),
	(130, "TEXASR"),
	(136, "CTRL"),
	(144, "TIDR"),
	(152, "CTRL"),
	(153, "FSCR"),
	(157, "UAMOR"),
	(159, "PSPB"),
	(176, "DPDES"),
	(180, "DAWR"),
	(186, "RPR"),
	(187, "CIABR"),
	(188, "DAWRX"),
	(190, "HFSCR"),
	(256, "VRSAVE"),
	(259, "USPRG3"),
	(268, "TB"),
	(269, "TBU"),
	(272, "SPRG0"),
	(273, "SPRG1"),
	(274, "SPRG2"),
	(275, "SPRG3"),
	(284, "TBL"),
	(285, "TBU"),
	(286, "TBU40"),
	(287, "PVR"),
	(304, "HSPRG0"),
	(305, "HSPRG1"),
	(306, "HDSISR"),
	(307, "HDAR"),
	(308, "SPURR"),
	(309, "PURR"),
	(310, "HDEC"),
	(313, "HRMOR"),
	(314, "HSRR0"),
	(315, "HSRR1"),
	(318, "LPCR"),
	(319, "LPIDR"),
	(336, "HMER"),
	(337, "HMEER"),
	(338, "PCR"),
	(339, "HEIR"),
	(349, "AMOR"),
	(446, "TIR"),
	(464, "PTCR"),
	(768, "USIER"),
	(769, "UMMCR2"),
	(784, "SIER"),
	(785, "MMCR2"),
	(786, "MMCRA"),
	(787, "PMC1"),
	(788, "PMC2"),
	(789, "PMC3"),
	(790, "PMC4"),
	(791, "PMC5"),
	(792, "PMC6"),
	(795, "MMCR0"),
	(796, "SIAR"),
	(797, "SDAR"),
	(798, "MMCR1"),
	(804, "EBBHR"),
	(805, "EBBRR"),
	(806, "BESCR"),
	(815, "TAR"),
	(816, "ASDR"),
	(823, "PSSCR"),
	(848, "IC"),
	(849, "VTB"),
	(853, "PMSR"),
	(855, "PSSCR"),
	(895, "WORT"),
	(896, "PPR"),
	(898, "PPR32"),
	(1008, "HID0"),
	(1023, "PIR"),
];

impl Spr {
	/// Fixed-point exception register.
	pub const XER: Self = Self(1);
	/// Link register.
	pub const LR: Self = Self(8);
	/// Count register.
	pub const CTR: Self = Self(9);

	/// The register of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		let (number, _) = SPRS.iter().find(|(_, known)| *known == name)?;
		Some(Self(*number))
	}

	/// Whether `name` is one that [`Display`](fmt::Display) gives.
	pub fn is_name(name: &str) -> bool {
		SPRS.iter().any(|(_, known)| *known == name)
	}

	/// LR and CTR are written and read by ordinary branches, and renamed like GPRs.
	pub fn is_for_branches(self) -> bool {
		matches!(self, Self::LR | Self::CTR)
	}
}

impl fmt::Display for Spr {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match SPRS.iter().find(|(number, _)| *number == self.0) {
			Some((_, name)) => f.write_str(name),
			None => write!(f, "SPR{}", self.0),
		}
	}
}

/// How storage accesses are ordered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Barrier {
	/// `sync 0`
	Hwsync,
	/// `sync 1`
	Lwsync,
	/// `sync 2`
	Ptesync,
	/// `eieio`
	Eieio,
}

/// A kind of instruction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Op {
	/// Anything that works on general registers only.
	Plain,
	/// mtspr
	Mtspr(Spr),
	/// mfspr
	Mfspr(Spr),
	/// mftb, in either form
	Mftb,
	/// mtmsrd, with its L field
	Mtmsrd(u8),
	/// mfmsr
	Mfmsr,
	/// isync
	Isync,
	/// One of the storage barriers.
	Barrier(Barrier),
	/// One that works on the SLB, by name.
	Slb(&'static str),
	/// One that works on the TLB, by name.
	Tlb(&'static str),
	/// One that sends, clears or waits for a message between threads, by name.
	Message(&'static str),
	/// A load that reserves.
	Larx,
	/// A store that depends on the reservation.
	Stcx,
	/// rfid
	Rfid,
	/// hrfid
	Hrfid,
	/// rfscv
	Rfscv,
	/// sc, with its LEV field
	Sc(u8),
	/// scv
	Scv,
	/// Load from storage.
	Load,
	/// A load that bypasses caches: a device's register.
	LoadInhibited,
	/// Store to storage.
	Store,
	/// Store that bypasses caches.
	StoreInhibited,
	/// A load or store of a floating-point, vector or VSX register.
	LoadVector,
	/// The same for a store.
	StoreVector,
	/// A branch; whether it sets LR.
	Branch {
		/// It is a call.
		link: bool,
		/// Where it goes is in LR: a return.
		to_lr: bool,
	},
}

/// What `word` is.
pub fn decode(word: u32) -> Op {
	match word >> 26 {
		16 | 18 => Op::Branch {
			link: word & 1 != 0,
			to_lr: false,
		},
		17 if word & 2 != 0 => Op::Sc((word >> 5 & 0x7f) as u8),
		17 if word & 1 != 0 => Op::Scv,
		19 => decode_19(word),
		31 => decode_31(word),
		32..=35 | 40..=43 | 46 | 56 | 58 => Op::Load,
		36..=39 | 44 | 45 | 47 | 62 => Op::Store,
		48..=51 | 57 => Op::LoadVector,
		52..=55 => Op::StoreVector,
		// lxv is the only load there.
		61 if word & 7 == 1 => Op::LoadVector,
		61 => Op::StoreVector,
		_ => Op::Plain,
	}
}

fn decode_19(word: u32) -> Op {
	match word >> 1 & 0x3ff {
		16 | 528 | 560 => Op::Branch {
			link: word & 1 != 0,
			to_lr: word >> 1 & 0x3ff == 16,
		},
		18 => Op::Rfid,
		82 => Op::Rfscv,
		150 => Op::Isync,
		274 => Op::Hrfid,
		_ => Op::Plain,
	}
}

fn decode_31(word: u32) -> Op {
	let spr = Spr((word >> 16 & 0x1f | (word >> 11 & 0x1f) << 5) as u16);
	match word >> 1 & 0x3ff {
		339 if matches!(spr.0, 268 | 269) => Op::Mftb,
		371 => Op::Mftb,
		339 => Op::Mfspr(spr),
		467 => Op::Mtspr(spr),
		146 | 178 => Op::Mtmsrd((word >> 16 & 1) as u8),
		83 => Op::Mfmsr,
		598 => match word >> 21 & 3 {
			1 => Op::Barrier(Barrier::Lwsync),
			2 => Op::Barrier(Barrier::Ptesync),
			_ => Op::Barrier(Barrier::Hwsync),
		},
		854 => Op::Barrier(Barrier::Eieio),
		402 => Op::Slb("slbmte"),
		434 => Op::Slb("slbie"),
		466 => Op::Slb("slbieg"),
		498 => Op::Slb("slbia"),
		338 => Op::Slb("slbsync"),
		851 => Op::Slb("slbmfev"),
		915 => Op::Slb("slbmfee"),
		979 => Op::Slb("slbfee."),
		306 => Op::Tlb("tlbie"),
		274 => Op::Tlb("tlbiel"),
		566 => Op::Tlb("tlbsync"),
		206 => Op::Message("msgsnd"),
		238 => Op::Message("msgclr"),
		142 => Op::Message("msgsndp"),
		174 => Op::Message("msgclrp"),
		886 => Op::Message("msgsync"),
		20 | 52 | 84 | 116 | 276 => Op::Larx,
		150 | 182 | 214 | 694 | 726 => Op::Stcx,
		// lwzx, lbzx, lhzx, lhax, lwax, ldx with their update forms, byte-reversed,
		// strings and copy-paste's ldat and lwat.
		21 | 23 | 53 | 55 | 87 | 119 | 279 | 311 | 341 | 343 | 373 | 375 | 532 | 533 | 534
		| 582 | 597 | 614 | 790 => Op::Load,
		789 | 821 | 853 | 885 => Op::LoadInhibited,
		149 | 151 | 181 | 183 | 215 | 247 | 407 | 439 | 660 | 661 | 662 | 710 | 725 | 742 | 918
		| 1014 => Op::Store,
		917 | 949 | 981 | 1013 => Op::StoreInhibited,
		6 | 7 | 12 | 38 | 39 | 71 | 76 | 103 | 268 | 269 | 300 | 301 | 332 | 359 | 364 | 524
		| 535 | 567 | 588 | 599 | 631 | 780 | 781 | 791 | 812 | 813 | 844 | 855 | 876 | 887 => {
			// lvsl and lvsr only compute.
			if matches!(word >> 1 & 0x3ff, 6 | 38) {
				Op::Plain
			} else {
				Op::LoadVector
			}
		}
		135 | 140 | 167 | 199 | 231 | 396 | 397 | 429 | 487 | 652 | 663 | 695 | 716 | 727 | 759
		| 908 | 909 | 919 | 940 | 941 | 972 | 983 | 1004 => Op::StoreVector,
		_ => Op::Plain,
	}
}

impl Op {
	/// Names under which it is counted: of its kind and, if there are several of that,
	/// its own. `None` for an operation that is not counted apart.
	pub fn names(self) -> Option<(&'static str, Option<String>)> {
		let sub = |kind, name: &str| Some((kind, Some(format!("{kind}:{name}"))));
		match self {
			Self::Plain | Self::Branch { .. } => None,
			Self::Mtspr(Spr::LR) => Some(("mtlr", None)),
			Self::Mtspr(Spr::CTR) => Some(("mtctr", None)),
			Self::Mfspr(Spr::LR) => Some(("mflr", None)),
			Self::Mfspr(Spr::CTR) => Some(("mfctr", None)),
			Self::Mtspr(spr) => sub("mtspr", &spr.to_string()),
			Self::Mfspr(spr) => sub("mfspr", &spr.to_string()),
			Self::Mftb => Some(("mftb", None)),
			Self::Mtmsrd(l) => sub("mtmsrd", &format!("L={l}")),
			Self::Mfmsr => Some(("mfmsr", None)),
			Self::Isync => Some(("isync", None)),
			Self::Barrier(barrier) => sub(
				"sync",
				match barrier {
					Barrier::Hwsync => "hwsync",
					Barrier::Lwsync => "lwsync",
					Barrier::Ptesync => "ptesync",
					Barrier::Eieio => "eieio",
				},
			),
			Self::Slb(name) => sub("slb", name),
			Self::Tlb(name) => sub("tlb", name),
			Self::Message(name) => sub("msg", name),
			Self::Larx => Some(("larx", None)),
			Self::Stcx => Some(("stcx.", None)),
			Self::Rfid => Some(("rfid", None)),
			Self::Hrfid => Some(("hrfid", None)),
			Self::Rfscv => Some(("rfscv", None)),
			Self::Sc(lev) => sub("sc", &lev.to_string()),
			Self::Scv => Some(("scv", None)),
			Self::Load => Some(("load", None)),
			Self::Store => Some(("store", None)),
			Self::LoadVector => sub("load", "vector"),
			Self::StoreVector => sub("store", "vector"),
			Self::LoadInhibited => sub("load", "cache-inhibited"),
			Self::StoreInhibited => sub("store", "cache-inhibited"),
		}
	}
}

/// Is it the address of a vector?
pub fn is_vector(address: u64) -> bool {
	let vector = address & !(0xf << 60);
	let is_one = vector < 0x2000 || (0x4000..0x6000).contains(&vector) || vector == 0x3000;
	is_one && vector.is_multiple_of(0x20)
}

/// May the instruction change MSR\[EE\], MSR\[HV\] or MSR\[PR\], or a byte in memory?
pub fn changes_state(word: u32) -> bool {
	let extended = word >> 1 & 0x3ff;
	match word >> 26 {
		// sc and scv; stb and stbu.
		17 | 38 | 39 => true,
		// rfid, rfscv, hrfid.
		19 => matches!(extended, 18 | 82 | 274),
		// mtmsr, mtmsrd, stbx, stbux.
		31 => matches!(extended, 146 | 178 | 215 | 247),
		_ => false,
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	#[test]
	fn words_are_what_the_assembler_says() {
		// As GNU as encodes them.
		let cases: &[(u32, Op, &str)] = &[
			(0x7c60_02a6 | 26 << 16, Op::Mfspr(Spr(26)), "mfsrr0 r3"),
			(0x7c9a_4ba6, Op::Mtspr(Spr(314)), "mthsrr0 r4"),
			(0x7c68_02a6, Op::Mfspr(Spr::LR), "mflr r3"),
			(0x7c69_03a6, Op::Mtspr(Spr::CTR), "mtctr r3"),
			(0x7c6c_42a6, Op::Mftb, "mftb r3, as mfspr"),
			(0x7c6c_42e6, Op::Mftb, "mftb r3"),
			(0x7c60_0164, Op::Mtmsrd(0), "mtmsrd r3"),
			(0x7c61_0164, Op::Mtmsrd(1), "mtmsrd r3,1"),
			(0x7c60_00a6, Op::Mfmsr, "mfmsr r3"),
			(0x4c00_012c, Op::Isync, "isync"),
			(0x7c00_04ac, Op::Barrier(Barrier::Hwsync), "hwsync"),
			(0x7c20_04ac, Op::Barrier(Barrier::Lwsync), "lwsync"),
			(0x7c40_04ac, Op::Barrier(Barrier::Ptesync), "ptesync"),
			(0x7c00_06ac, Op::Barrier(Barrier::Eieio), "eieio"),
			(0x7c60_2324, Op::Slb("slbmte"), "slbmte r3,r4"),
			(0x7c00_03e4, Op::Slb("slbia"), "slbia"),
			(0x7c00_046c, Op::Tlb("tlbsync"), "tlbsync"),
			(0x7c80_1a64, Op::Tlb("tlbie"), "tlbie r3,r4"),
			(0x7c00_1a24, Op::Tlb("tlbiel"), "tlbiel r3"),
			(0x7c60_20a8, Op::Larx, "ldarx r3,0,r4"),
			(0x7c60_2028, Op::Larx, "lwarx r3,0,r4"),
			(0x7c60_21ad, Op::Stcx, "stdcx. r3,0,r4"),
			(0x7c60_212d, Op::Stcx, "stwcx. r3,0,r4"),
			(0x4c00_0024, Op::Rfid, "rfid"),
			(0x4c00_0224, Op::Hrfid, "hrfid"),
			(0x4c00_00a4, Op::Rfscv, "rfscv"),
			(0x4400_0002, Op::Sc(0), "sc"),
			(0x4400_0022, Op::Sc(1), "sc 1"),
			(0x4400_0001, Op::Scv, "scv 0"),
			(0xe864_0008, Op::Load, "ld r3,8(r4)"),
			(0x8064_0000, Op::Load, "lwz r3,0(r4)"),
			(0x7c64_282a, Op::Load, "ldx r3,r4,r5"),
			(0x7c60_26ea, Op::LoadInhibited, "ldcix r3,0,r4"),
			(0xf864_0008, Op::Store, "std r3,8(r4)"),
			(0xf821_ff91, Op::Store, "stdu r1,-112(r1)"),
			(0x7c64_292a, Op::Store, "stdx r3,r4,r5"),
			(0x7c00_27ec, Op::Store, "dcbz 0,r4"),
			(0xc823_0000, Op::LoadVector, "lfd f1,0(r3)"),
			(0xf403_0001, Op::LoadVector, "lxv vs0,0(r3)"),
			(0xf403_0005, Op::StoreVector, "stxv vs0,0(r3)"),
			(0xf403_000d, Op::StoreVector, "stxv vs32,0(r3)"),
			(0xf403_0009, Op::LoadVector, "lxv vs32,0(r3)"),
			(0x7c00_1f98, Op::StoreVector, "stxvd2x vs0,0,r3"),
			(0x7c00_1e98, Op::LoadVector, "lxvd2x vs0,0,r3"),
			(0x3863_0001, Op::Plain, "addi r3,r3,1"),
			(0x7c64_2a14, Op::Plain, "add r3,r4,r5"),
			(0x6a10_0000, Op::Plain, "xori r16,r16,0"),
		];
		for &(word, op, text) in cases {
			assert_eq!(decode(word), op, "{text}");
		}
		let branch = |word| match decode(word) {
			Op::Branch { link, to_lr } => (link, to_lr),
			op => panic!("{word:#x} is {op:?}"),
		};
		assert_eq!(branch(0x4800_0010), (false, false), "b");
		assert_eq!(branch(0x4800_0011), (true, false), "bl");
		assert_eq!(branch(0x4182_0010), (false, false), "beq");
		assert_eq!(branch(0x4e80_0020), (false, true), "blr");
		assert_eq!(branch(0x4e80_0421), (true, false), "bctrl");
	}

	#[test]
	fn registers_are_counted_by_name() {
		assert_eq!(
			Op::Mtspr(Spr(318)).names(),
			Some(("mtspr", Some("mtspr:LPCR".into())))
		);
		assert_eq!(
			Op::Mfspr(Spr(1000)).names(),
			Some(("mfspr", Some("mfspr:SPR1000".into())))
		);
		assert_eq!(Op::Mtspr(Spr::LR).names(), Some(("mtlr", None)));
		assert_eq!(Spr::from_name("LPIDR"), Some(Spr(319)));
	}

	proptest! {
		#[test]
		fn every_word_is_something(word: u32) {
			let op = decode(word);
			if let Some((kind, Some(name))) = op.names() {
				prop_assert!(name.starts_with(kind) && name[kind.len()..].starts_with(':'));
			}
		}

		#[test]
		fn the_register_is_the_split_field(spr in 0u16..1024, gpr in 0u32..32) {
			let field = u32::from(spr & 31) << 16 | u32::from(spr >> 5) << 11;
			let write = decode(31 << 26 | gpr << 21 | field | 467 << 1);
			prop_assert_eq!(write, Op::Mtspr(Spr(spr)));
			let read = decode(31 << 26 | gpr << 21 | field | 339 << 1);
			if spr == 268 || spr == 269 {
				prop_assert_eq!(read, Op::Mftb);
			} else {
				prop_assert_eq!(read, Op::Mfspr(Spr(spr)));
			}
		}

		#[test]
		fn displacements_and_registers_do_not_matter(fields in 0u32..1 << 26) {
			// D-form loads and stores with any operands.
			for primary in 32u32..=55 {
				let op = decode(primary << 26 | fields);
				let store = matches!(primary, 36..=39 | 44 | 45 | 47 | 52..=55);
				prop_assert_eq!(matches!(op, Op::Store | Op::StoreVector), store);
				prop_assert_eq!(matches!(op, Op::Load | Op::LoadVector), !store);
			}
		}
	}
}
