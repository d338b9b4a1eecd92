// SPDX-License-Identifier: GPL-2.0-only
//! Bits of MSR, LPCR and MMCR0.
//!
//! Saved values are kept with `from_bits_retain`: a bit that has no name here is
//! still state of the guest or the host, and must survive.

use bitflags::bitflags;

bitflags! {
	/// Machine State Register (Power ISA 3.0B, Book III, 4.2.1).
	#[derive(Clone, Copy, PartialEq, Eq, Debug)]
	pub struct Msr: u64 {
		/// 64-bit mode.
		const SF = 1 << 63;
		/// Hypervisor state.
		const HV = 1 << 60;
		/// Transaction state, transactional.
		const TS_T = 1 << 34;
		/// Transaction state, suspended.
		const TS_S = 1 << 33;
		/// Transaction state, both bits.
		const TS = 3 << 33;
		/// Transactional memory available.
		const TM = 1 << 32;
		/// Vector facility available.
		const VEC = 1 << 25;
		/// VSX facility available.
		const VSX = 1 << 23;
		/// External interrupts enabled.
		const EE = 1 << 15;
		/// Problem state.
		const PR = 1 << 14;
		/// Floating-point facility available.
		const FP = 1 << 13;
		/// Floating-point exception mode 0.
		const FE0 = 1 << 11;
		/// Floating-point exception mode 1.
		const FE1 = 1 << 8;
		/// Machine check interrupts enabled.
		const ME = 1 << 12;
		/// Instruction address translation.
		const IR = 1 << 5;
		/// Data address translation.
		const DR = 1 << 4;
		/// Interrupt is recoverable.
		const RI = 1 << 1;
		/// Little-endian mode.
		const LE = 1 << 0;
	}
}

bitflags! {
	/// Logical Partitioning Control Register (Power ISA 3.0B, Book III, 2.2).
	#[derive(Clone, Copy, PartialEq, Eq, Debug)]
	pub struct Lpcr: u64 {
		/// Interrupts are taken in little-endian mode.
		const ILE = 1 << 25;
		/// Alternate interrupt location 3: with translation on, interrupts are
		/// taken with translation on, at 0xc000_0000_0000_4000.
		const AIL_3 = 3 << 23;
		/// The process table is used, by hash guests too; and there are four SLB
		/// entries only.
		const UPRT = 1 << 22;
		/// The partition uses the radix MMU.
		const HR = 1 << 20;
	}
}

bitflags! {
	/// Monitor Mode Control Register 0 (Power ISA 3.0B, Book III, 9.4.4).
	#[derive(Clone, Copy, PartialEq, Eq, Debug)]
	pub struct Mmcr0: u64 {
		/// No counter counts.
		const FC = 1 << 31;
		/// Counters 5 and 6 count independent of the run latch.
		const CC56RUN = 1 << 8;
		/// Counters 1 to 4 don't count.
		const FC14 = 1 << 5;
	}
}

impl Mmcr0 {
	/// While the switch path has counters 5 and 6 count: see `entry/src/cycles.rs`.
	pub const COUNTING: Self = Self::CC56RUN.union(Self::FC14);
}
