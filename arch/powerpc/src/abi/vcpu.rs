// SPDX-License-Identifier: GPL-2.0-only
//! The part of a vcpu that belongs to this project.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64};

use super::counters::Counter;
use super::fast::FastHcall;
use super::light::Light;
use super::shared;
use super::stats::Stats;

/// Entries of the longest list that H_PUT_TCE_INDIRECT takes.
pub const LIST_ENTRIES: usize = 512;

/// Pages with such lists that a vcpu remembers (`KVM_P9_TCE_LISTS`).
pub const TCE_LISTS: usize = 4;

/// No handler's stack pointer is lower than this below that of the trampoline. The gates have the
/// limit of what handlers need, and firmware calls come on top.
pub const HANDLER_STACK: u64 = 2048;

/// What functions that the full path calls while the mode byte has its guest value may need of the
/// stack. The trampoline's frame is larger, so that none of them has its stack pointer where a
/// handler can have it. The gates check it.
pub const FULL_PATH_STACK: u64 = 896;

shared! {
	/// Our part of `struct kvm_vcpu_arch`, in the kernel's `asm/kvm_host.h`.
	///
	/// Only the vcpu's own thread uses it, with preemption off or in a handler. Other CPUs write
	/// `tce_list_page` and read `tce_list_busy` and counters.
	#[derive(Debug)]
	pub struct P9Vcpu = "kvm_p9_vcpu" {
		/// The table of fast handlers that the trampoline looks in. Set before each
		/// entry, never null while the guest runs.
		pub fast_table: Cell<*const c_void>,
		/// Hcalls that each fast handler answered, by [`FastHcall`].
		pub fast: [Counter; FastHcall::COUNT],
		/// Guest frames of the pages that `tce_list_page` has.
		pub tce_list_gfn: [Cell<u64>; TCE_LISTS],
		/// Generations of the memory slots for which that holds.
		pub tce_list_generation: [Cell<u64>; TCE_LISTS],
		/// Kernel addresses of pages of the guest's, or null. Any CPU may reset one at any
		/// time, and then waits for `tce_list_busy` before it lets go of the page.
		pub tce_list_page: [AtomicPtr<u64>; TCE_LISTS],
		/// Not 0 while a handler reads a page.
		pub tce_list_busy: AtomicU64,
		/// Which of the pages the kernel replaces next.
		pub tce_list_next: Cell<u64>,
		/// Not 0 asks the C handler, which runs next, to remember its list's page.
		pub tce_list_wanted: Cell<u64>,
		/// The list of an H_PUT_TCE_INDIRECT, while its handler runs, or when the kernel
		/// has brought it here for the full path.
		pub tce_list: [Cell<u64>; LIST_ENTRIES],
		/// What `kvm_p9.stats` and the tracepoint know, or null while neither is on. What
		/// it points to stays as long as the vcpu.
		pub stats: AtomicPtr<Stats>,
		/// The timebase when the last `sc 1` arrived, while one of these is on.
		pub hcall_tb: Cell<u64>,
		/// The counter of cycles then, no matter who has it.
		pub hcall_cycles: Cell<u64>,
		/// What a light exit needs of the last full entry.
		pub light: Light,
	}
}

impl P9Vcpu {
	/// As the kernel initialises it: all zeroes.
	pub const fn new() -> Self {
		Self {
			fast_table: Cell::new(ptr::null()),
			fast: [const { Counter::new(0) }; FastHcall::COUNT],
			tce_list_gfn: [const { Cell::new(0) }; TCE_LISTS],
			tce_list_generation: [const { Cell::new(0) }; TCE_LISTS],
			tce_list_page: [const { AtomicPtr::new(ptr::null_mut()) }; TCE_LISTS],
			tce_list_busy: AtomicU64::new(0),
			tce_list_next: Cell::new(0),
			tce_list_wanted: Cell::new(0),
			tce_list: [const { Cell::new(0) }; LIST_ENTRIES],
			stats: AtomicPtr::new(ptr::null_mut()),
			hcall_tb: Cell::new(0),
			hcall_cycles: Cell::new(0),
			light: Light::new(),
		}
	}
}

impl Default for P9Vcpu {
	fn default() -> Self {
		Self::new()
	}
}
