// SPDX-License-Identifier: GPL-2.0-only
//! What was executed, instruction by instruction, and what is made of it.
//!
//! The QEMU plugin in `bench/plugin` writes down every instruction of a batch of
//! round trips ([`format`]). From that [`round`] takes the round trip that most of them
//! were, [`symbols`] says which function each instruction belongs to, [`insn`] what it
//! is, and [`attribute`] in which phase it was executed. Nothing is sampled and nothing
//! estimated: a batch has as many instructions as the timebase says.
//!
//! Of a workload that is too long for that, [`span`] has what the hypervisor executes
//! for each kind of exit.

pub mod attribute;
pub mod format;
pub mod insn;
pub mod round;
pub mod span;
pub mod symbols;
