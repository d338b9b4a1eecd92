// SPDX-License-Identifier: GPL-2.0-only
//! What is POWER9's or the powerpc kernel's, and not ours to choose: register
//! bits, and the structures that the kernel glue and Rust both define.
//!
//! The glue itself, the trampoline and the kernel patches are beside this crate,
//! in `kernel/` and `patches/`. They are C and assembly, built by kbuild.
#![cfg_attr(not(test), no_std)]

pub mod abi;
mod cpu;
mod msr;
mod spr;

pub use abi::counters::{Counter, Counters};
pub use abi::fast::FastHcall;
pub use abi::host::{
	FAST_LIGHT_TABLE, FAST_TABLE, HostFacts, LIGHT_TABLE, NO_FAST_TABLE, TIMED_FAST_LIGHT_TABLE,
	TIMED_FAST_TABLE, TIMED_LIGHT_TABLE,
};
pub use abi::light::{Answered, Light, LightCounter, Served, Target};
pub use abi::stats::{
	BUCKETS, Cycles, Distribution, EVENTS, Event, LONGEST_WITH_CYCLES, PathStats, Place,
	SHORTEST_BITS, SpanKind, Stats, TimingFlags,
};
pub use abi::tce_call::{Needs, TceCall};
pub use abi::vcpu::{FULL_PATH_STACK, HANDLER_STACK, LIST_ENTRIES, P9Vcpu, TCE_LISTS};
pub use cpu::Cpu;
pub use msr::{Lpcr, Mmcr0, Msr};
pub use spr::{Spr, SprField};
