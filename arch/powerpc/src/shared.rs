// SPDX-License-Identifier: GPL-2.0-only
//! Structures that the kernel glue defines in C and Rust defines here.
//!
//! Each side asserts the other's layout, a field at a time: the kernel object's
//! build asserts these against what the kernel's compiler said
//! (`entry/src/layout.rs`), and the glue asserts its own against `kvm_p9_abi.h`,
//! which `cargo xtask abi` prints from these.

use bitflags::bitflags;
use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

/// Our part of `struct kvm_vcpu_arch`: `struct kvm_p9_vcpu` in `asm/kvm_host.h`.
///
/// Only the vcpu's own thread uses it, with preemption off or in a handler.
#[repr(C)]
#[derive(Debug)]
pub struct P9Vcpu {
	/// The table of fast handlers that the trampoline looks in. Set before each
	/// entry, never null while the guest runs.
	pub fast_table: *const c_void,
	/// NULL hcalls answered by the fast handler since the last full exit.
	pub fast_null: u64,
}

/// Per-CPU counters: `struct kvm_p9_counters` in `book3s_hv.h`.
///
/// Written by one CPU, with preemption off, and read by any, so they are atomic
/// but never need a read-modify-write.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Counters {
	/// Entries by the Rust path.
	pub entry_rust: Counter,
	/// Entries by C because the CPU is not a supported POWER9.
	pub c_cpu: Counter,
	/// Entries by C because the host uses the hash MMU.
	pub c_host_mmu: Counter,
	/// Entries by C because the guest is an L2.
	pub c_nested: Counter,
	/// Entries by C because the guest uses the hash MMU.
	pub c_hash: Counter,
	/// Entries by C because the guest is secure.
	pub c_secure: Counter,
	/// NULL hcalls answered by the fast handler.
	pub fast_null: Counter,
}

/// One counter of [`Counters`].
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
	/// Adds `n`. Only the owning CPU may call this.
	///
	/// Relaxed: nothing else is published by a counter.
	#[inline]
	pub fn add(&self, n: u64) {
		self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
	}

	/// Its value.
	#[inline]
	pub fn get(&self) -> u64 {
		self.0.load(Ordering::Relaxed)
	}
}

bitflags! {
	/// What the glue found out about the host at boot: `kvm_p9_host_facts`.
	#[derive(Clone, Copy, PartialEq, Eq, Debug)]
	pub struct HostFacts: u64 {
		/// A POWER9 in hypervisor mode, without the radix prefetch bug of DD2.1
		/// and below: on those the MMU must be off before a guest's context is
		/// loaded, and the trampoline keeps it on.
		const CPU_SUPPORTED = 1 << 0;
		/// The host uses the radix MMU.
		const RADIX = 1 << 1;
		/// The hypervisor has to help with transactional memory.
		const TM_ASSIST = 1 << 2;
	}
}
