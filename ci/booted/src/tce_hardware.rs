// SPDX-License-Identifier: GPL-2.0-only
//! Tests of the TCE hcalls on tables that hardware follows.
//!
//! A guest's window is attached to hardware tables of its own bus addresses, and a device
//! does DMA there ([`Edu`]). Three things have to agree at any time:
//!
//! - the guest's table, which H_GET_TCE and userspace read;
//! - the hardware table, which the device shows: every 4 KiB of memory begin with a word that
//!   holds their guest address, followed by a word for the device to write;
//! - the mapping count of each region of registered memory. The kernel does not show the
//!   count. But when userspace unregisters a region, its pages are unlocked exactly if no
//!   entry maps them, which VmLck shows. With one mapping left they must stay locked, which
//!   finds a count that was dropped too often. That check costs the region, because the
//!   kernel then forgets its owner. With no mapping left the pages must be unlocked.

pub mod contend;
pub mod counts;
pub mod differential;
mod rig;
pub mod translation;
