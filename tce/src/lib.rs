// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls: entries, DMA windows, and one body per hcall.
//!
//! A TCE table says, for each page of a device's DMA window, which page of guest
//! memory lies there. Guests write it with H_PUT_TCE (one entry),
//! H_PUT_TCE_INDIRECT (a list of entries) and H_STUFF_TCE (one value many times),
//! and read it with H_GET_TCE.
//!
//! The bodies in [`hcalls`] are generic over how they reach the table, the guest's
//! memory and its list ([`Table`], [`GuestMemory`]), so that they can be run on the host
//! against a model, and in the kernel by fast handlers and on the full path. They return
//! what `kvmppc_h_*tce*()` in `arch/powerpc/kvm/book3s_64_vio.c` return, or change nothing
//! and return [`TooHard`] with what they need first.
//! [`hardware`] writes the hardware tables that follow the guest's table.
//!
//! # What C does that may surprise
//!
//! - An entry without permission bits is not checked at all, so that userspace can
//!   poison a table: H_PUT_TCE and H_STUFF_TCE write such a value as it is.
//!   H_PUT_TCE_INDIRECT first accepts such a value like the other two. When it writes the
//!   entry it finds that there is no such memory, and returns H_PARAMETER. The entries
//!   before that one are written.
//! - A bad entry with permission bits gives H_TOO_HARD and no PAPR code: userspace may have
//!   an answer.
//! - H_STUFF_TCE has no limit but the window, H_PUT_TCE_INDIRECT has 512 entries.
//! - Zero entries are valid everywhere in the window and directly after its end.
//! - Table pages are allocated with the first entry that is not zero.
//!
//! # What is different on purpose
//!
//! - One guest entry may stand for several hardware entries. C looks up only the first part
//!   before it writes them one by one, and stops where it cannot continue, with a wrong
//!   count. This crate looks up all parts first, or changes nothing.
//! - An entry of H_PUT_TCE_INDIRECT without permission bits maps nothing for hardware, as
//!   with the other two. An unpatched kernel counts its page as mapped and never drops that
//!   count; the first patch of the series fixes C as well.
//! - A page of the guest's table that is larger than the pages of the hardware may continue in
//!   another memory slot, or be longer than the last slot. This crate looks up each part in the
//!   guest, and changes nothing if a part is in no slot. C looks up the first part and continues
//!   in userspace addresses: registered memory after the slot is mapped for the guest's device.
//! - The TCE cache of the hardware is invalidated once per hcall, or once per step of a long one. C
//!   invalidates once per entry, also for entries that mapped nothing.
//! - A long hcall on hardware tables goes in steps of [`MAX_WRITES`] hardware entries, because
//!   interrupts are disabled all the while. All entries are looked at before the first is written.
#![cfg_attr(not(test), no_std)]

mod access;
mod entry;
pub mod hardware;
pub mod hcalls;
mod list;
#[cfg(test)]
mod tests;
mod too_hard;
mod window;

pub use access::{GuestMemory, List, Range, Table};
pub use entry::{Permission, Tce};
pub use hardware::{Attached, EntrySlice, Extent, MAX_ATTACHED, Piece, Region};
pub use hcalls::{MAX_ENTRIES, MAX_WRITES, Progress, Values};
pub use too_hard::{Refusal, TooHard};
pub use window::{Window, clamp};
