// SPDX-License-Identifier: GPL-2.0-only
//! What can be proved of the Rust object and the trampoline as they were linked.

mod insn;
mod object;
pub mod rules;
