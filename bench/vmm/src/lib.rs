// SPDX-License-Identifier: GPL-2.0-only
//! A small VMM for KVM-HV, which runs as init of the emulated host.
//!
//! The benchmark and the booted tests are programs of their own that use it. They read
//! what to do from the initramfs, do it with VMs of their own, write what came out to the
//! console as lines that the runner picks from the noise, and turn the machine off.

pub mod abi;
pub mod command;
pub mod console;
mod elf;
pub mod host;
pub mod init;
pub mod kvm;
pub mod machine;
pub mod timer;
pub mod user_regs;
