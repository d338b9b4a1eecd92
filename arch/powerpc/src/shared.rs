// SPDX-License-Identifier: GPL-2.0-only
//! Structures that the kernel glue defines in C and Rust defines here.
//!
//! Each side asserts the other's layout, a field at a time: the kernel object's
//! build asserts these against what the kernel's compiler said
//! (`entry/src/layout.rs`), and the glue asserts its own against `kvm_p9_abi.h`,
//! which `kvm-p9-kbuild abi` prints from these.

use bitflags::bitflags;
use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::Stats;

/// Our part of `struct kvm_vcpu_arch`: `struct kvm_p9_vcpu` in `asm/kvm_host.h`.
///
/// Only the vcpu's own thread uses it, with preemption off or in a handler, but
/// for what other CPUs do with `tce_list_page` and `tce_list_busy`, and that they read counters.
#[repr(C)]
#[derive(Debug)]
pub struct P9Vcpu {
	/// The table of fast handlers that the trampoline looks in. Set before each
	/// entry, never null while the guest runs.
	pub fast_table: Cell<*const c_void>,
	/// NULL hcalls answered by the fast handler.
	pub fast_null: Counter,
	/// The same for H_GET_TCE.
	pub fast_h_get_tce: Counter,
	/// The same for H_PUT_TCE.
	pub fast_h_put_tce: Counter,
	/// The same for H_PUT_TCE_INDIRECT.
	pub fast_h_put_tce_indirect: Counter,
	/// The same for H_STUFF_TCE.
	pub fast_h_stuff_tce: Counter,
	/// Guest frame of the page that `tce_list_page` is.
	pub tce_list_gfn: Cell<u64>,
	/// Generation of the memory slots for which that holds.
	pub tce_list_generation: Cell<u64>,
	/// Kernel address of a page of the guest's, or null. Any CPU may reset it at any
	/// time, and then waits for `tce_list_busy` before it lets go of the page.
	pub tce_list_page: AtomicPtr<u64>,
	/// Not 0 while a handler reads the page.
	pub tce_list_busy: AtomicU64,
	/// Not 0 asks the C handler, which runs next, to remember its list's page.
	pub tce_list_wanted: Cell<u64>,
	/// The list of an H_PUT_TCE_INDIRECT, while its handler runs, or when the kernel
	/// has brought it here for the full path.
	pub tce_list: [Cell<u64>; LIST_ENTRIES],
	/// What `kvm_p9.stats` and the tracepoint know, or null while neither is on. What
	/// it points to stays as long as the vcpu.
	pub stats: AtomicPtr<Stats>,
	/// The timebase when the last `sc 1` arrived, while somebody wants to know.
	pub hcall_tb: Cell<u64>,
	/// The counter of cycles then, whoever's it is.
	pub hcall_cycles: Cell<u64>,
}

/// Entries of the longest list that H_PUT_TCE_INDIRECT takes.
pub const LIST_ENTRIES: usize = 512;

impl P9Vcpu {
	/// As the kernel initialises it: all zeroes.
	pub const fn new() -> Self {
		Self {
			fast_table: Cell::new(ptr::null()),
			fast_null: Counter::new(0),
			fast_h_get_tce: Counter::new(0),
			fast_h_put_tce: Counter::new(0),
			fast_h_put_tce_indirect: Counter::new(0),
			fast_h_stuff_tce: Counter::new(0),
			tce_list_gfn: Cell::new(0),
			tce_list_generation: Cell::new(0),
			tce_list_page: AtomicPtr::new(ptr::null_mut()),
			tce_list_busy: AtomicU64::new(0),
			tce_list_wanted: Cell::new(0),
			tce_list: [const { Cell::new(0) }; LIST_ENTRIES],
			stats: AtomicPtr::new(ptr::null_mut()),
			hcall_tb: Cell::new(0),
			hcall_cycles: Cell::new(0),
		}
	}
}

impl Default for P9Vcpu {
	fn default() -> Self {
		Self::new()
	}
}

/// A TCE hcall on the full path, between one attempt and the next:
/// `struct kvm_p9_tce_call` in `book3s_hv.h`.
#[repr(C)]
#[derive(Debug, Default)]
pub struct TceCall {
	/// The hcall's number.
	pub number: u64,
	/// Entries that are written: H_STUFF_TCE goes in steps.
	pub done: u64,
	/// Not 0 if the list is in the vcpu's `list`.
	pub list_read: u64,
	/// Not 0 if interrupts are off.
	pub quiet: u64,
	/// One of [`Missing`], if it was too hard.
	pub missing: u64,
	/// The table that is short of something.
	pub table: u64,
	/// The page or the entry that it is short of.
	pub index: u64,
}

/// What a TCE hcall lacks: `enum kvm_p9_missing` in `book3s_hv.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Missing {
	/// Nothing that the kernel could help with; userspace may know better.
	Nothing,
	/// A page of the table.
	Page,
	/// Levels of a hardware table.
	Levels,
	/// The list of H_PUT_TCE_INDIRECT.
	List,
	/// Time: there are more entries than one attempt does.
	Steps,
	/// That interrupts are off.
	Quiet,
	/// It can't be done here at all: C does it.
	All,
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
}

/// One counter of [`Counters`] or [`P9Vcpu`].
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
	/// A counter that stands at `n`.
	pub const fn new(n: u64) -> Self {
		Self(AtomicU64::new(n))
	}

	/// Sets it. Only the owning CPU or vcpu may call this.
	#[inline]
	pub fn set(&self, n: u64) {
		self.0.store(n, Ordering::Relaxed);
	}

	/// Adds `n`. Only the owning CPU or vcpu may call this.
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

/// `kvm_p9_fast_table`: no fast handlers (`kvm_p9.fast=0`).
pub const NO_FAST_TABLE: u8 = 0;
/// Fast handlers.
pub const FAST_TABLE: u8 = 1;
/// Fast handlers that take the time.
pub const TIMED_FAST_TABLE: u8 = 2;

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
		/// A CPU that is in a guest counts as busy with RCU, so that a grace period
		/// waits for a fast handler.
		const RCU_SEES_GUESTS = 1 << 2;
	}
}
