// SPDX-License-Identifier: GPL-2.0-only
//! What the glue tells Rust of the host and of its settings.

use bitflags::bitflags;

/// `kvm_p9_fast_table`: no fast handlers (`kvm_p9.fast=0`).
pub const NO_FAST_TABLE: u8 = 0;
/// Fast handlers.
pub const FAST_TABLE: u8 = 1;
/// Fast handlers that take the time.
pub const TIMED_FAST_TABLE: u8 = 2;
/// No fast handlers, but light ones (`kvm_p9.fast=0`, `kvm_p9.light=1`). This table and those with a higher
/// number are for light exits.
pub const LIGHT_TABLE: u8 = 3;
/// Fast and light handlers.
pub const FAST_LIGHT_TABLE: u8 = 4;
/// Light handlers that take the time, and no fast ones.
pub const TIMED_LIGHT_TABLE: u8 = 5;
/// Fast and light handlers that take the time.
pub const TIMED_FAST_LIGHT_TABLE: u8 = 6;

bitflags! {
	/// What the glue found out about the host at boot: `kvm_p9_host_facts`.
	#[derive(Clone, Copy, PartialEq, Eq, Debug)]
	pub struct HostFacts: u64 {
		/// A POWER9 in hypervisor mode, without the radix prefetch bug of DD2.1
		/// and below: on those the MMU must be off before a guest's context is
		/// loaded, and the trampoline keeps it on.
		const CPU_SUPPORTED = 1 << 0;
		/// The host uses the radix MMU.
		const RADIX = 1 << 1;
		/// A CPU that is in a guest counts as busy with RCU, so that a grace period
		/// waits for a fast handler.
		const RCU_SEES_GUESTS = 1 << 2;
		/// CPU_FTR_P9_TLBIE_STQ_BUG: after tlbie, another one is needed.
		const TLBIE_STQ_BUG = 1 << 3;
		/// CPU_FTR_P9_TLBIE_ERAT_BUG: after tlbie, one for radix is needed.
		const TLBIE_ERAT_BUG = 1 << 4;
	}
}
