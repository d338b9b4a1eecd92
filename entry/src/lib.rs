// SPDX-License-Identifier: GPL-2.0-only
//! Guest entry and exit on POWER9.
//!
//! This crate is the object that is linked into the kernel. Its entry point is
//! called at the seam in `kvmhv_p9_guest_entry()` for every guest entry while
//! `kvm_p9.path=rust`. It decides who takes the guest in ([`choose`]), hands the
//! trampoline the vcpu's table of fast handlers, and does the switch.
//!
//! - [`switch`] is the order of things: the one function to read.
//! - [`light`] is the light exit, which switches as little as it can.
//! - [`fetch`] finds the instruction of a guest's store.
//! - [`sprs`] lists the SPRs that are switched, each once.
//! - [`views`] lists the fields of the kernel's structures that are used, at the offsets of `layout`.
//! - [`choose`] decides between the Rust path and the C path.
//! - [`timing`] measures spans of time, and cycles while the PMU is free.
//! - `entry_point` is what the kernel calls; `power9` is the processor and the kernel as they are.
//! - `fast` is the list of fast handlers. `tce` and `hpt` have the TCE hcalls and the page table hcalls
//!   on the kernel's structures.
//! - [`radix`] walks page tables of the kernel.
//!
//! [`switch`], [`sprs`] and [`timing::pmu`] are generic over the processor. The host's tests run
//! them on a processor that writes every access to a journal.
#![cfg_attr(not(test), no_std)]

mod choose;
mod context;
#[cfg(kernel)]
mod entry_point;
#[cfg(kernel)]
mod fast;
pub mod fetch;
#[cfg(kernel)]
mod hpt;
mod layout;
pub mod light;
pub(crate) mod lock;
#[cfg(kernel)]
mod power9;
pub mod radix;
pub mod sprs;
pub mod switch;
#[cfg(kernel)]
mod tce;
#[cfg(test)]
mod tests;
pub mod timing;
pub mod views;
pub mod xics;

pub use choose::{EntryPath, GuestFacts, choose};
