// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls: entries, DMA windows, and one body per hcall.
//!
//! A TCE table says, for each page of a device's DMA window, which page of guest
//! memory lies there. Guests write it with H_PUT_TCE (one entry),
//! H_PUT_TCE_INDIRECT (a list of entries) and H_STUFF_TCE (one value many times),
//! and read it with H_GET_TCE.
//!
//! The bodies in [`body`] are generic over how they reach the table, the guest's
//! memory and its list ([`Table`], [`Guest`]), so that they can be run on the host
//! against a model, and on more than one path in the kernel. What they answer is
//! what `kvmppc_h_*tce*()` in `arch/powerpc/kvm/book3s_64_vio.c` answer, with one
//! liberty: [`Code::TOO_HARD`](hcall::Code::TOO_HARD), which no guest ever sees,
//! hands the whole hcall on to C. A body that answers it has changed nothing.
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
#![cfg_attr(not(test), no_std)]

pub mod body;
mod entry;
mod window;

#[cfg(test)]
mod model;

pub use body::{Guest, List, MAX_ENTRIES, Range, Table};
pub use entry::{Permission, Tce};
pub use window::Window;
