// SPDX-License-Identifier: GPL-2.0-only
//! What the guest payload, the VMM and the runner agree on.
//!
//! The VMM and the guest share nothing but guest memory. The VMM writes a
//! [`Command`] at a fixed address and runs the vcpu; the guest does what it says,
//! leaves an [`Outcome`] at another fixed address and tells so with an hcall that
//! no kernel knows, which therefore ends in the VMM. Fixed addresses rather than a
//! negotiated layout, because some of the guest's code has no register to spare
//! for a base: see [`map`].
//!
//! The names of cases, guest modes and paths are here too, because they are what
//! the report's readers see and the VMM and the runner have to spell alike.
#![cfg_attr(not(test), no_std)]

pub mod block;
pub mod case;
pub mod map;
pub mod marker;
pub mod private;
pub mod regs;
pub mod round;

pub use block::{Command, Job, Outcome};
pub use case::{Case, Guest, Path, Round};
