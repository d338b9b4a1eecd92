// SPDX-License-Identifier: GPL-2.0-only
//! What the hypervisor executes for a guest that reads from its passed-through disk.
//!
//! QEMU's plugin records spans ([`trace::span`]) while the guest does its reads, on each path
//! in turn, twice, in one boot. What the guest waits for is not the same each time, and
//! so are not its exits to wait; but a TCE hcall is a span of its own, and exact.
//!
//! An interrupt of the host's may arrive while it serves an hcall. That is not the hcall's:
//! the host would have had it a moment later, too, out of the guest. Long spans meet more
//! of them, so the mean of all spans is a little more than an hcall costs, and more so on
//! the slow path. Therefore the TCE hcalls' share is the mean of the spans that were
//! left alone, times the number of all. The mean of all and the median stand beside it.
//!
//! That a span has the instructions which were executed, no more and no less, is checked
//! in a second boot: there the benchmark's guest does TCE hcalls, and its own timebase
//! tells how many instructions each takes.

mod costs;
mod exact;
mod judge;
mod profile;
mod report;
#[cfg(test)]
mod sample;
mod section;
mod span_group;
mod table;

pub use section::{Section, sections};
