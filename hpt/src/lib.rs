// SPDX-License-Identifier: GPL-2.0-only
//! Hcalls for the hashed page table (HPT) of a hash guest: one body per hcall.
//!
//! The HPT is memory of the host that the MMU reads. A guest changes the HPT with H_ENTER,
//! H_REMOVE, H_BULK_REMOVE, H_PROTECT, H_CLEAR_REF and H_CLEAR_MOD, and reads it with H_READ. An
//! entry (HPTE) names a page of the host. What the guest gave is kept in the entry's [`Rev`].
//!
//! The bodies in [`hcalls`] are generic over how they reach all of that ([`Guest`]), so that they
//! can be run on the host against a model, and in the kernel by fast handlers. They return what
//! the functions of `arch/powerpc/kvm/book3s_hv_rm_mmu.c` return, or change nothing and return
//! [`Refusal::TooHard`].
//!
//! # Locks
//!
//! The kernel's own code and the bodies work on the same structures at the same time, so the locks
//! are the kernel's:
//!
//! | lock | protects | order |
//! |---|---|---|
//! | [`pte::V_LOCK`] in each HPTE | the HPTE and its [`Rev::guest_r`] | first |
//! | [`rmap::LOCK`] in each reverse map word | the word, and the chain of all HPTEs that map the page | second |
//! | `mmu_lock` | the page table of the VMM while [`Guest::host_entry`] reads it | alone |
//!
//! The MMU notifier takes a reverse map word first and only tries to lock an HPTE.
//!
//! **Invariant:** a body waits for no lock. It tries a bounded number of times, and a lock that is
//! still held gives [`Refusal::TooHard`].
//!
//! **Invariant:** a body takes all locks and finds all structures before it changes anything.
//!
//! **Invariant:** hardware sets the reference (R) and change (C) bits of a valid HPTE at any time
//! until the HPTE is invalid and the TLB is flushed. So the bits are read after that, and go into
//! the reverse map word.
//!
//! **Invariant:** an HPTE becomes valid only under the lock of the reverse map word of its page,
//! after [`Guest::is_invalidated`] said no. So each MMU notifier either finds the HPTE in the
//! chain, or is seen by the body.
//!
//! # What C does that may surprise
//!
//! - The condition of H_ANDCOND is applied to the HPTE while its lock bit is set. So a condition
//!   with that bit never holds.
//! - H_CLEAR_REF and H_CLEAR_MOD return bit 1 of the guest's second doubleword, which is the mark for
//!   KVM_PPC_GET_HTAB_FD. H_READ and H_REMOVE clear the bit.
//! - H_ENTER for a page that the host does not have now succeeds: the HPTE is absent, and the first
//!   access faults to the host.
//!
//! # What is different on purpose
//!
//! - Nothing that a user of the interfaces can see. A page in a memory slot with a dirty bitmap is
//!   left to C, which can reach the bitmap.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod access;
mod bulk;
pub mod fault;
pub mod hcalls;
mod lock;
pub mod pte;
pub mod rmap;
#[cfg(test)]
mod tests;

pub use access::{Guest, HostEntry, HostPage, Hpte, Refusal, Rev, Slot};
pub use bulk::bulk_remove;
