// SPDX-License-Identifier: GPL-2.0-only
//! Tests of the TCE hcalls on tables that hardware follows.
//!
//! A guest's window is attached to hardware tables of its own bus addresses, and a device
//! does DMA there ([`Edu`]). Three things have to agree at any time:
//!
//! - the guest's table, which H_GET_TCE and userspace read;
//! - the hardware's, which the device shows: every 4 KiB of memory begin with a word that
//!   tells where they are in the guest, and after that comes one for the device to write;
//! - the number of mappings that each region of registered memory counts. The kernel
//!   doesn't tell it, but when userspace takes back a region's registration then its pages
//!   are unlocked exactly if nothing is mapped, which VmLck shows. With one mapping left
//!   they mustn't be; that finds one that was taken off too often, and costs the region,
//!   because the kernel then forgets whose it was. With none left they must.

pub mod contend;
pub mod counts;
pub mod differential;
mod rig;
pub mod translation;
