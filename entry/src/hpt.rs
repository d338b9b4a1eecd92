// SPDX-License-Identifier: GPL-2.0-only
//! Page table hcalls of hash guests on the kernel's structures: the bodies of crate `hpt`, with
//! their trait implemented on memory that the kernel owns.
//!
//! Fast handlers use them, and [`full_path`]. What both leave, the kernel's C functions answer, which
//! use the same locks, so all may run at the same time for vcpus of the same guest.
//!
//! A fast handler for a hash guest runs in real mode. The linear map is reached as it is. The reverse
//! map is in vmalloc space, and its pages are found by a walk of the kernel's page table
//! ([`guest::Vmalloc`]). A dirty bitmap is there, too; a memory slot that has one is left to C.
//!
//! # What keeps the structures alive
//!
//! - The HPT and its `rev` array are replaced only while no vcpu of the guest is in the guest: the
//!   kernel clears `kvm->arch.mmu_ready`, interrupts all CPUs and waits until they are out. Handlers
//!   run with interrupts disabled, on both paths.
//! - Memory slots and their reverse maps stay while `kvm->srcu` is held.
//! - Page tables of the VMM are freed after an RCU grace period, which waits for a CPU that has
//!   interrupts disabled. With full dynticks it does not wait for a CPU in a guest. Then H_ENTER is
//!   left to C ([`HostFacts::RCU_SEES_GUESTS`](powerpc::HostFacts::RCU_SEES_GUESTS)).
//! - Page tables of vmalloc space are never freed.

pub(crate) mod full_path;
pub(crate) mod guest;
mod host;
mod tlb;
