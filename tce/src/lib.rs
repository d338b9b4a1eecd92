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
//! against a model, and in the kernel by fast handlers and on the full path. What they
//! answer is what `kvmppc_h_*tce*()` in `arch/powerpc/kvm/book3s_64_vio.c` answer, or
//! [`TooHard`], which says what would have to be done first and has changed nothing.
//! Tables of hardware's, which follow the guest's, are written by [`hardware`].
//!
//! # What C does that may surprise
//!
//! - An entry without permission bits isn't checked at all, so that userspace can
//!   poison a table: H_PUT_TCE and H_STUFF_TCE write such a value as it is.
//!   H_PUT_TCE_INDIRECT first accepts it like the other two, but finds out when it
//!   writes that there is no such memory. It then answers H_PARAMETER, with all
//!   entries before that one written.
//! - An entry with permission bits that is bad answers "too hard" and no code of
//!   PAPR's: userspace may know better.
//! - H_STUFF_TCE has no limit but the window, H_PUT_TCE_INDIRECT has 512 entries.
//! - Zero entries are fine everywhere in the window and just behind its end.
//! - Table pages come into being with the first entry that isn't zero.
//!
//! # What is different on purpose
//!
//! - Of an entry that takes several of a hardware table's, C looks for the first part
//!   only before it writes them one by one, and stops where it can't go on, with a wrong
//!   count. Here all parts are looked for, or nothing is changed.
//! - An entry of H_PUT_TCE_INDIRECT without permission bits maps nothing for hardware, as
//!   with the other two. C as it comes counts its page as mapped, and never takes that
//!   back; with `CONFIG_KVM_BOOK3S_HV_P9_RUST` it does as here.
//! - A page of the guest's table that is larger than the hardware's may go on in another
//!   memory slot, or be longer than the last. Each part is looked for where it is in the
//!   guest, and if it is nowhere then nothing is changed. C looks for the first, and goes on
//!   from there in userspace's memory: what is behind the slot and happens to be registered
//!   is mapped for the guest's device.
//! - The hardware is told to forget what it may have cached, once an hcall. C tells it
//!   once an entry, of entries that mapped nothing, too.
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
pub use hardware::{Attached, EntrySlice, MAX_ATTACHED, Region};
pub use hcalls::{MAX_ENTRIES, Values};
pub use too_hard::{Refusal, TooHard};
pub use window::Window;
