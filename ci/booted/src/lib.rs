// SPDX-License-Identifier: GPL-2.0-only
//! The booted tests.
//!
//! [`registry`] lists them. The runner reads it on its own machine, to know which machine
//! has to run which tests. The program in the emulated host, whose init it is, runs those
//! that its [job](job::Job) names.

pub mod job;
pub mod nmi;
pub mod registry;

#[cfg(target_arch = "powerpc64")]
mod allocations;
#[cfg(target_arch = "powerpc64")]
mod big_endian;
#[cfg(target_arch = "powerpc64")]
mod checked;
#[cfg(target_arch = "powerpc64")]
mod common;
#[cfg(target_arch = "powerpc64")]
mod cpus;
#[cfg(target_arch = "powerpc64")]
mod crypt;
#[cfg(target_arch = "powerpc64")]
mod disturb;
#[cfg(target_arch = "powerpc64")]
mod flush;
#[cfg(target_arch = "powerpc64")]
mod forks;
#[cfg(target_arch = "powerpc64")]
mod halt;
#[cfg(target_arch = "powerpc64")]
mod hcalls;
#[cfg(target_arch = "powerpc64")]
mod hostile_vmm;
#[cfg(target_arch = "powerpc64")]
mod hotplug;
#[cfg(target_arch = "powerpc64")]
mod interrupts;
#[cfg(target_arch = "powerpc64")]
mod kexec;
#[cfg(target_arch = "powerpc64")]
mod kmsg;
#[cfg(target_arch = "powerpc64")]
mod ksm;
#[cfg(target_arch = "powerpc64")]
mod page_table;
#[cfg(target_arch = "powerpc64")]
mod perf;
#[cfg(target_arch = "powerpc64")]
mod registers;
#[cfg(target_arch = "powerpc64")]
mod resets;
#[cfg(target_arch = "powerpc64")]
pub mod run;
#[cfg(target_arch = "powerpc64")]
mod shared_file;
#[cfg(target_arch = "powerpc64")]
mod slots;
#[cfg(target_arch = "powerpc64")]
mod soak;
#[cfg(target_arch = "powerpc64")]
mod stats;
#[cfg(target_arch = "powerpc64")]
mod stores;
#[cfg(target_arch = "powerpc64")]
mod storms;
#[cfg(target_arch = "powerpc64")]
mod tce;
#[cfg(target_arch = "powerpc64")]
mod tce_hardware;
#[cfg(target_arch = "powerpc64")]
mod turns;
#[cfg(target_arch = "powerpc64")]
mod user_regs;
#[cfg(target_arch = "powerpc64")]
mod vfio;
#[cfg(target_arch = "powerpc64")]
mod watchpoints;
#[cfg(target_arch = "powerpc64")]
mod xics;
