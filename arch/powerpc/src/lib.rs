// SPDX-License-Identifier: GPL-2.0-only
//! What is POWER9's or the powerpc kernel's, and not ours to choose: register
//! bits, and the structures that the kernel glue and Rust both define.
//!
//! The glue itself, the trampoline and the kernel patches are beside this crate,
//! in `kernel/` and `patches/`. They are C and assembly, built by kbuild.
#![cfg_attr(not(test), no_std)]

mod cpu;
mod shared;
mod spr;
mod stats;

pub use cpu::{Cpu, Spr};
pub use shared::{
	Counter, Counters, FAST_TABLE, HostFacts, LIST_ENTRIES, Missing, NO_FAST_TABLE, P9Vcpu,
	TIMED_FAST_TABLE, TceCall,
};
pub use spr::{Lpcr, Mmcr0, Msr};
pub use stats::{
	BUCKETS, Cycles, Distribution, EVENTS, Event, LONGEST_WITH_CYCLES, PathStats, Place,
	SHORTEST_BITS, SpanKind, Stats, TimingFlags,
};
