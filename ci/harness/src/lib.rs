// SPDX-License-Identifier: GPL-2.0-only
//! What the tests, the benchmark and the traces have in common: kernels and programs are
//! built, machines are booted, jobs run side by side.
//!
//! This library names no stage of `ci/test`: a test in `ci/xtask` insists.

pub mod check;
pub mod copy;
pub mod dep_cache;
pub mod gdb;
pub mod initrd;
pub mod jobs;
pub mod kernel;
pub mod paths;
pub mod process;
pub mod programs;
pub mod qemu;
pub mod record;
pub mod setup;
