// SPDX-License-Identifier: GPL-2.0-only
//! Hcalls: numbers, return codes, routing and fast handlers.
//!
//! Numbers and codes are shared by the handlers, the guest payload and the
//! bench. Routing is the decision that the trampoline takes in a few
//! instructions; [`route`] says the same in Rust, for tests to hold both to one
//! definition.
//!
//! # What a fast handler may do
//!
//! It is called by `kvm_p9_entry.S` with interrupts off, on the host's stack, with the MMU on, or
//! off for a hash guest, while every other register is still the guest's: timebase, LPIDR and
//! PIDR, AMR, DSCR, PMU, FP and vector. So it may use kernel memory, which on a radix host is
//! mapped for as long as it is allocated (with the MMU off, that in the linear map), and the
//! registers of the C calling convention. It may not touch user or guest addresses, read the
//! timebase as if it were the host's, use floating point, block, fault, allocate or panic;
//! `cargo xtask gates` proves of the object what can be proved. What it cannot do at once it answers
//! with [`Code::TOO_HARD`], having changed nothing, and the hcall takes the full path.
#![cfg_attr(not(test), no_std)]

mod code;
mod fast;
mod number;

pub use code::Code;
pub use fast::{Enabled, FastTable, Handler, Route, null, route};
pub use number::Number;
