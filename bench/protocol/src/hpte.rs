// SPDX-License-Identifier: GPL-2.0-only
//! The entries (HPTEs) that a hash guest enters into its page table to time hcalls on them.

use crate::map;

/// The first index. No address of the guest has its hash at these indexes.
pub const FIRST: u64 = 0x80;
/// How many there are.
pub const COUNT: u64 = 512;

/// H_ENTER: the place that is given, and no other of its group.
pub const EXACT: u64 = 1 << (63 - 24);
/// First doubleword: valid, larger than 4 KiB.
pub const V: u64 = 7 << 7 | 4 | 1;
/// Second doubleword: a page of the guest's text, which the host has. 64 KiB, reference and change,
/// memory coherence, read and write.
pub const R: u64 = map::TEXT | 1 << 12 | 0x100 | 0x80 | 0x10 | 2;

/// H_BULK_REMOVE: how many it removes.
pub const BULK: u64 = 4;
/// H_BULK_REMOVE: a request, by an absolute index.
pub const REQUEST: u64 = 1 << 62;
