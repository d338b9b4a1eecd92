// SPDX-License-Identifier: GPL-2.0-only
//! Guest entry and exit on POWER9.
//!
//! This crate is the object that is linked into the kernel. Its entry point is
//! called at the seam in `kvmhv_p9_guest_entry()` for every guest entry while
//! `kvm_p9.path=rust`. It decides who takes the guest in ([`choose`]), hands the
//! trampoline the vcpu's table of fast handlers, and does the switch.
//!
//! - [`switch`] is the order of things: the one function to read.
//! - [`sprs`] lists the SPRs that are switched, each once.
//! - [`views`] lists the fields of the kernel's structures that are used.
//! - [`cycles`] has the PMU count cycles while it is nobody's.
//! - `kernel` is the processor as it is, and the entry point.
//!
//! All but the last are generic over the processor, and the host's tests run them on
//! one that writes everything down.
#![cfg_attr(not(test), no_std)]

mod choose;
pub mod cycles;
#[cfg(kernel)]
mod handlers;
#[cfg(test)]
mod journal;
#[cfg(kernel)]
mod kernel;
mod layout;
pub mod sprs;
pub mod stats;
pub mod switch;
pub mod views;

pub use choose::{GuestFacts, Path, choose};
