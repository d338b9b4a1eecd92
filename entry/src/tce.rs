// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls on the kernel's structures: the bodies of crate `tce`, with its traits implemented
//! on memory that the kernel owns.
//!
//! The same bodies answer on both paths. The trampoline calls a fast handler (`fast::tce`) with the
//! guest's context loaded. The kernel calls [`full_path`] on the full path. [`context::CallSite`]
//! says in what the two differ.
//!
//! # What keeps it all alive
//!
//! A handler takes no reference and no lock. Tables and memory slots stay because
//! KVM-HV holds `kvm->srcu` for reading from before a vcpu enters the guest until
//! after it has left: whoever removes a table or a slot makes it unreachable and
//! then waits for such readers. RCU itself would not do: with full dynticks the
//! CPU counts as idle while it is in a guest, and a handler doesn't tell RCU
//! otherwise. H_GET_TCE on the full path is under RCU alone, where that does: a table is
//! freed by `call_rcu()`, and it uses no memory slot.
//!
//! Of hardware's tables and registered memory only RCU keeps track. Without full
//! dynticks a CPU in a guest is a busy one, which reports nothing to RCU as long as
//! interrupts are off; with them fast handlers leave hardware's tables alone
//! ([`HostFacts::RCU_SEES_GUESTS`]).
//!
//! The page of an H_PUT_TCE_INDIRECT's list is userspace's memory, which nobody
//! holds. The full path leaves its kernel address in the vcpu, and the memory
//! notifier takes it away again before the page can go (`kvm_p9_forget_lists()`).
//! Between the two a handler may read it: it says that it is busy, then looks
//! whether the address is still there, then reads, then is no longer busy. The
//! notifier does the opposite, takes the address away and then looks for who is
//! busy, and so one of them sees the other. Handlers run with interrupts off and
//! read 4 KiB at most, so the notifier's wait is short.
//!
//! Pages of a table come and never go, until the table goes. So do the levels of a
//! hardware table.

pub(crate) mod context;
pub(crate) mod full_path;
pub(crate) mod guest_memory;
pub(crate) mod hardware;
pub(crate) mod table;

use core::ptr::NonNull;

/// A pointer that was read from one of the kernel's structures.
#[inline]
pub(crate) fn at<T>(address: u64) -> Option<NonNull<T>> {
	NonNull::new(address as *mut T)
}
