// SPDX-License-Identifier: GPL-2.0-only
//! Every register, over hcalls and over every other way out of the guest.

pub mod arena;
mod code;
pub mod decrementer;
pub mod exits;
pub mod hcall;
pub mod one_reg;
pub mod selfcheck;
pub mod slb;
