// SPDX-License-Identifier: GPL-2.0-only
//! Guest entry and exit on POWER9.
//!
//! This crate is the object that is linked into the kernel. Its entry point is
//! called at the seam in `kvmhv_p9_guest_entry()` for every guest entry while
//! `kvm_p9.path=rust`; it decides who takes the guest in ([`choose`]), hands the
//! trampoline the vcpu's table of fast handlers, and settles the counters when
//! the guest has come out.
//!
//! The full switch of MMU context, timebase and SPRs is still the kernel's C,
//! built a second time for this path (`arch/powerpc/kernel/kvm_p9_c_path.c`):
//! the exits are ours, the switch is theirs.
#![cfg_attr(not(test), no_std)]

mod choose;
#[cfg(kernel)]
mod kernel;
#[cfg(kernel)]
mod layout;

pub use choose::{GuestFacts, Path, choose};
