// SPDX-License-Identifier: GPL-2.0-only
//! `kvm_p9.stats` and the tracepoint: how long each kind of exit takes, in ticks and in cycles.

pub mod kind;
pub mod pmu;
#[cfg(kernel)]
pub(crate) mod spans;
