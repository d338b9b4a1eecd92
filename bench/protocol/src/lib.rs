// SPDX-License-Identifier: GPL-2.0-only
//! What the guest payload, the VMM and the runner agree on.
//!
//! The VMM and the guest share nothing but guest memory. The VMM writes a
//! [`Command`] at a fixed address and runs the vcpu. The guest does what the command says,
//! leaves an [`Outcome`] at another fixed address and makes an hcall that no kernel knows,
//! which therefore ends in the VMM. Addresses are fixed rather than negotiated, because
//! some of the guest's code has no register to spare for a base: see [`map`].
//!
//! The names of guest modes and of columns are here too: the report's readers see the
//! names, and the VMM and the runner have to spell them alike. The benchmark's cases are
//! in the crate `cases`.
#![cfg_attr(not(test), no_std)]

pub mod block;
pub mod column;
pub mod hammer;
pub mod hpte;
pub mod loop_body;
pub mod map;
pub mod marker;
pub mod mode;
pub mod private;
pub mod regs;
pub mod round;
pub mod slb;
pub mod slots;

pub use block::{Command, Job, Outcome};
pub use column::Column;
pub use loop_body::LoopBody;
pub use mode::GuestMode;
