// SPDX-License-Identifier: GPL-2.0-only
//! All that a kernel's build calls: the header with the layout that Rust and C share, and
//! the Rust object that is linked into the kernel.
//!
//! `arch/powerpc/kernel/Makefile.kvm_p9` runs the program of this crate. The crate depends
//! on the crates that describe that layout and on nothing else, so that a kernel's build
//! needs neither the test runner nor a crate from a registry that the object itself does
//! not need.

pub mod abi;
pub mod object;
