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
