// SPDX-License-Identifier: GPL-2.0-only
//! The accesses of the switch path to the CPU, as a trait.
//!
//! There are two implementations: the instructions (in the kernel object), and a fake CPU
//! of the host tests, which keeps a journal, an ordered list of every read, write and
//! barrier. Code that is generic over [`Cpu`] is tested on the second and runs on the first.
//!
//! # Which accesses are safe
//!
//! A read has no effect on the SPRs used here, so reads are safe. Every write can
//! take away what running code relies on (translation, the timebase, facilities,
//! the kernel's own scratch registers), so all writes are unsafe, and the caller
//! says why this value is right here.

/// A special purpose register, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spr(pub u16);

macro_rules! sprs {
	($($(#[$doc:meta])* $name:ident = $number:literal;)*) => {
		/// Numbers: Power ISA 3.0B, Book III, 4.4.1 (figure 18), but for those noted.
		impl Spr {
			$($(#[$doc])* pub const $name: Self = Self($number);)*

			/// All of them.
			pub const ALL: &[Self] = &[$(Self::$name),*];

			/// Its name, for people.
			pub fn name(self) -> Option<&'static str> {
				match self {
					$(Self::$name => Some(stringify!($name)),)*
					_ => None,
				}
			}
		}
	};
}

sprs! {
	/// Data Stream Control Register.
	DSCR = 17;
	/// Data Storage Interrupt Status Register.
	DSISR = 18;
	/// Data Address Register.
	DAR = 19;
	/// Decrementer.
	DEC = 22;
	/// Save/Restore Register 0.
	SRR0 = 26;
	/// Save/Restore Register 1.
	SRR1 = 27;
	/// Authority Mask Register.
	AMR = 29;
	/// Process ID.
	PIDR = 48;
	/// Instruction Authority Mask Register.
	IAMR = 61;
	/// Transaction Failure Handler Address Register.
	TFHAR = 128;
	/// Transaction Failure Instruction Address Register.
	TFIAR = 129;
	/// Transaction EXception And Summary Register.
	TEXASR = 130;
	/// Control Register, for reading.
	CTRLF = 136;
	/// Thread ID (POWER9 User's Manual; ISA 3.0B, 4.3.5).
	TIDR = 144;
	/// Control Register, for writing.
	CTRLT = 152;
	/// Facility Status and Control Register.
	FSCR = 153;
	/// User Authority Mask Override Register.
	UAMOR = 157;
	/// Problem State Priority Boost Register.
	PSPB = 159;
	/// Directed Privileged Doorbell Exception State.
	DPDES = 176;
	/// Data Address Watchpoint Register 0.
	DAWR0 = 180;
	/// Completed Instruction Address Breakpoint Register.
	CIABR = 187;
	/// Data Address Watchpoint Register Extension 0.
	DAWRX0 = 188;
	/// Hypervisor Facility Status and Control Register.
	HFSCR = 190;
	/// Vector Register Save Register.
	VRSAVE = 256;
	/// Software-use register 0; the guest's alone, the host keeps nothing there.
	SPRG0 = 272;
	/// Software-use register 1; the guest's alone.
	SPRG1 = 273;
	/// Software-use register 2; the guest's alone.
	SPRG2 = 274;
	/// Software-use register 3; the host's vDSO reads it from problem state.
	SPRG3 = 275;
	/// Timebase, upper 40 bits, for writing.
	TBU40 = 286;
	/// Scaled Processor Utilization of Resources Register.
	SPURR = 308;
	/// Processor Utilization of Resources Register.
	PURR = 309;
	/// Hypervisor Decrementer.
	HDEC = 310;
	/// Hypervisor Save/Restore Register 0.
	HSRR0 = 314;
	/// Hypervisor Save/Restore Register 1.
	HSRR1 = 315;
	/// Logical Partitioning Control Register.
	LPCR = 318;
	/// Logical Partition ID.
	LPIDR = 319;
	/// Processor Compatibility Register.
	PCR = 338;
	/// Hypervisor Emulation Instruction Register.
	HEIR = 339;
	/// Monitor Mode Control Register 2.
	MMCR2 = 785;
	/// Performance Monitor Counter 6: cycles.
	PMC6 = 792;
	/// Monitor Mode Control Register 0.
	MMCR0 = 795;
	/// Event-Based Branch Handler Register.
	EBBHR = 804;
	/// Event-Based Branch Return Register.
	EBBRR = 805;
	/// Branch Event Status and Control Register.
	BESCR = 806;
	/// Target Address Register.
	TAR = 815;
	/// Access Segment Descriptor Register.
	ASDR = 816;
	/// PSSCR through its privileged, not hypervisor, name.
	PSSCR_PR = 823;
	/// Instruction Counter.
	IC = 848;
	/// Virtual Time Base.
	VTB = 849;
	/// Processor Stop Status and Control Register.
	PSSCR = 855;
}

impl core::fmt::Debug for Spr {
	fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
		match self.name() {
			Some(name) => f.write_str(name),
			None => write!(f, "SPR {}", self.0),
		}
	}
}

/// Accesses to the processor's state. See the module for what is safe.
pub trait Cpu {
	/// mfspr.
	fn mfspr<const N: u16>(&mut self) -> u64;

	/// mtspr.
	///
	/// # Safety
	///
	/// What runs next must be right with the new value.
	unsafe fn mtspr<const N: u16>(&mut self, value: u64);

	/// mftb: POWER9 dispatches it next-to-complete, so it waits for all earlier instructions.
	fn mftb(&mut self) -> u64;

	/// mfmsr.
	fn mfmsr(&mut self) -> u64;

	/// mtmsrd with L=0: all bits, context synchronising.
	///
	/// # Safety
	///
	/// As for [`mtspr`](Self::mtspr); code must be at the same address with
	/// translation on and off.
	unsafe fn mtmsrd(&mut self, msr: u64);

	/// mtmsrd with L=1: only EE and RI.
	///
	/// # Safety
	///
	/// As for [`mtspr`](Self::mtspr).
	unsafe fn mtmsrd_ee_ri(&mut self, msr: u64);

	/// hwsync: all earlier accesses are performed before any later one.
	fn hwsync(&mut self);

	/// isync: no later instruction starts before all earlier ones have completed.
	fn isync(&mut self);

	/// slbmte of an entry that translates nothing, at `INDEX`.
	///
	/// # Safety
	///
	/// The host must not translate by the SLB.
	unsafe fn slb_clear<const INDEX: u64>(&mut self);

	/// slbmte: `esid` is RB, with the entry's index in it, and `vsid` is RS.
	///
	/// # Safety
	///
	/// The host must not translate by the SLB.
	unsafe fn slb_write(&mut self, esid: u64, vsid: u64);

	/// slbmfee: the ESID half of an entry. With LPCR\[UPRT\] set there are only four.
	fn slb_esid(&mut self, index: u64) -> u64;

	/// slbmfev: the VSID half.
	fn slb_vsid(&mut self, index: u64) -> u64;
}
