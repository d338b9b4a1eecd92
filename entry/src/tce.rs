// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls on the kernel's structures: the bodies of crate `tce`, with its traits implemented
//! on memory that the kernel owns.
//!
//! The same bodies answer on both paths. The trampoline calls a fast handler (`fast::tce`) with the
//! guest's context loaded. The kernel calls [`full_path`] on the full path. [`context::CallSite`]
//! says in what the two differ.
//!
//! # What keeps the structures alive
//!
//! A handler takes no reference and no lock. Tables and memory slots stay because
//! KVM-HV holds `kvm->srcu` for reading from before a vcpu enters the guest until
//! after it has left: code that removes a table or a slot makes it unreachable and
//! then waits for such readers. RCU alone is not enough: with full dynticks the
//! CPU counts as idle while it is in a guest, and a handler does not tell RCU
//! otherwise. H_GET_TCE on the full path is under RCU alone. That is enough there: a table
//! is freed by `call_rcu()`, and H_GET_TCE uses no memory slot.
//!
//! Only RCU protects hardware tables and registered memory. Without full dynticks a CPU in
//! a guest counts as busy and reports no quiescent state while interrupts are off. With full
//! dynticks fast handlers do not touch hardware tables ([`HostFacts::RCU_SEES_GUESTS`]).
//!
//! The page of the list of H_PUT_TCE_INDIRECT is memory of userspace that is not pinned. The
//! full path leaves the kernel address of the page in the vcpu, and the MMU notifier clears
//! the address before the page can be freed (`kvm_p9_forget_lists()`). Between the two a
//! handler may read the page. The handler sets `tce_list_busy`, then reads the address, then
//! reads the page, then clears `tce_list_busy`. The notifier clears the address and then
//! waits for `tce_list_busy`. So one of them sees the other. Handlers run with interrupts off
//! and read 4 KiB at most, so the wait is short.
//!
//! Pages of a table are freed with the table only. So are the levels of a hardware table.

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
