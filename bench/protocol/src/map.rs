// SPDX-License-Identifier: GPL-2.0-only
//! Where things are in guest memory.
//!
//! Guest real addresses and guest effective addresses are the same numbers: the
//! translated guest has an identity map.
//!
//! The lowest 32 KiB are special. A D-form load or store with RA = 0 reaches them
//! with its displacement alone, so that code which has just found all 32 GPRs full
//! of values that it must not lose can still save them. [`FILL`], [`GOT`] and
//! [`SAVE`] lie there for that reason, between the two copies of the vectors and
//! the 0x8000 at which displacements turn negative.

use static_assertions::const_assert;

use crate::block::Contender;

/// Size of guest memory, one memory slot from guest real address 0.
pub const RAM: u64 = 32 << 20;

/// Interrupt vectors with translation off, each at its own offset.
pub const VECTORS: u64 = 0;
/// Interrupt vectors with AIL = 3, less the 0xc000000000000000 that the CPU adds.
pub const VECTORS_AIL: u64 = 0x4000;
/// Registers as they were at the `sc 1` of a register round.
pub const FILL: u64 = 0x5000;
/// Registers as they were found after it.
pub const GOT: u64 = 0x6000;
/// The payload's own registers meanwhile.
pub const SAVE: u64 = 0x7000;
/// The [`Command`](crate::Command).
pub const COMMAND: u64 = 0x8000;
/// The [`Outcome`](crate::Outcome).
pub const OUTCOME: u64 = 0x9000;
/// Where the payload is linked.
pub const TEXT: u64 = 0x1_0000;
/// Top of the payload's stack.
pub const STACK_TOP: u64 = 0x10_0000;
/// The virtual processor area.
pub const VPA: u64 = 0x11_0000;
/// Bytes of the VPA that are registered: the least that KVM accepts.
pub const VPA_SIZE: u16 = 640;
/// Offset of the byte by which a guest says that it uses the PMU.
pub const VPA_PMCREGS_IN_USE: u64 = 0xbb;
/// Offset of the count of dispatches, a big-endian u32.
pub const VPA_YIELD_COUNT: u64 = 0x100;
/// Offset of the VPA's own size, a big-endian u16.
pub const VPA_SIZE_OFFSET: u64 = 4;
/// The numbers to probe, and what came back: an array of [`Probe`](crate::block::Probe).
pub const PROBES: u64 = 0x12_0000;
/// Most entries that fit there.
pub const MAX_PROBES: usize = 2048;
/// The list of TCEs for H_PUT_TCE_INDIRECT, one page.
pub const TCE_LIST: u64 = 0x20_0000;
/// First page that the TCEs point to.
pub const TCE_TARGET: u64 = 0x40_0000;
/// Where other lists may lie: this one's host page, of 64 KiB at most, and the next.
pub const TCE_LISTS_SIZE: u64 = 2 << 16;
/// The hcalls to do, and what came back: an array of [`Call`](crate::block::Call).
pub const CALLS: u64 = 0x34_0000;
/// Most entries that are used there.
pub const MAX_CALLS: usize = 4096;
/// Process table of the translated guest, one entry used.
pub const PROCESS_TABLE: u64 = 0x30_0000;
/// Root of its radix tree, followed by one page for each lower level.
pub const RADIX_ROOT: u64 = 0x31_0000;
/// Second level.
pub const RADIX_PUD: u64 = 0x32_0000;
/// Third level, of 2 MiB leaves.
pub const RADIX_PMD: u64 = 0x32_1000;
/// The [`RoundPlan`](crate::round::RoundPlan) of rounds.
pub const ROUND_PLAN: u64 = 0xa0_0000;
/// The [`Report`](crate::round::RoundReport) of rounds.
pub const ROUND_REPORT: u64 = 0xa1_0000;
/// What the guest remembers of its DMA window and of the device.
pub const ROUND_SHADOW: u64 = 0xa4_0000;
/// The [`Contender`](crate::block::Contender)s of vcpus from 1 on.
pub const CONTENDERS: u64 = 0xa8_0000;
/// Distance of two.
pub const CONTENDER_SIZE: u64 = 0x1000;
/// Where the VPA of such a vcpu is, from its `Contender`.
pub const CONTENDER_VPA: u64 = 0x800;
/// What vcpus that do hcalls while memory slots change are told: [`Shared`](crate::slots::Shared).
/// The blocks of the vcpus follow, as those of `Contender`s do.
pub const SLOTS_SHARED: u64 = CONTENDERS;
/// Not 0: vcpus that do page table hcalls ([`Hammer`](crate::hammer::Hammer)) are to end.
pub const HAMMER_STOP: u64 = CONTENDERS;
/// Stacks of vcpus that run Rust code, one below the other's end.
pub const OTHER_STACKS: u64 = CONTENDERS + 16 * CONTENDER_SIZE;
/// Size of such a stack.
pub const OTHER_STACK_SIZE: u64 = 0x1_0000;
/// A page that H_PAGE_INIT clears.
pub const PAGE_INIT: u64 = 0xbf_0000;
/// Nothing is here, and no guest maps it.
pub const MISSING: u64 = 0xe00_0000;
/// A hash guest maps a page of [`FRESH`] here, for reading only.
pub const READ_ONLY: u64 = 0xd00_0000;
/// A device, outside guest memory: bytes that are what was last written to them.
pub const DEVICE: u64 = 0x200_0000;
/// Its size.
pub const DEVICE_SIZE: u64 = 4096;
/// More guest memory, in a slot of its own, whose pages the VMM takes the translations
/// of away.
pub const TOUCH: u64 = 0x240_0000;
/// Its size.
pub const TOUCH_SIZE: u64 = 4 << 20;
/// The host's pages.
pub const TOUCH_PAGE: u64 = 1 << 16;
/// Size of what one entry of the guest's radix tree maps.
pub const LEAF_SIZE: u64 = 2 << 20;

/// Pages that the host has nothing behind, until they are touched.
pub const FRESH: u64 = 16 << 20;
/// From one to the next: the largest page that a host gives out one at a time.
pub const FRESH_PAGE: u64 = 64 << 10;
/// How many.
pub const FRESH_PAGES: u64 = 128;
/// What is stored in each.
pub const FRESH_VALUE: u64 = 0x6b76_6d70_3966_7368;

/// Device registers: no memory is there, but translated guests map it. An ioeventfd of
/// four bytes is here.
pub const MMIO_EVENT: u64 = 0x0f00_0000;
/// An ioeventfd of any length.
pub const MMIO_EVENT_ANY: u64 = MMIO_EVENT + 0x1000;
/// Userspace emulates this one.
pub const MMIO_USER: u64 = MMIO_EVENT + 0x2000;
/// What is stored in registers, and loaded from them.
pub const MMIO_VALUE: u64 = 0x4b56_4d39;

/// Size of a hash guest's page table, as a shift: the least that there is.
pub const HPT_ORDER: u32 = 18;

/// A second vcpu's virtual processor area.
pub const PEER_VPA: u64 = VPA + 0x1000;

/// DMA window of the TCE cases.
pub const LIOBN: u64 = 0x8000_0000;
/// Its IOMMU page size, as a shift.
pub const TCE_SHIFT: u32 = 12;
/// Its pages.
pub const TCE_PAGES: u64 = 1024;

/// The TCE of page `index` of those from [`TCE_TARGET`] on: read and write. The list at
/// [`TCE_LIST`] holds these.
pub const fn tce(index: u64) -> u64 {
	const READ: u64 = 1;
	const WRITE: u64 = 2;
	(TCE_TARGET + (index << TCE_SHIFT)) | READ | WRITE
}

const _: () = assert!(FILL + 0x1000 <= GOT && GOT + 0x1000 <= SAVE && SAVE + 0x1000 <= 0x8000);
const _: () = assert!(core::mem::size_of::<crate::Command>() as u64 <= OUTCOME - COMMAND);
const _: () = assert!(core::mem::size_of::<crate::Outcome>() as u64 <= TEXT - OUTCOME);
const_assert!(
	PROBES as usize + MAX_PROBES * core::mem::size_of::<crate::block::Probe>() <= TCE_LIST as usize
);
const_assert!(TCE_PAGES >= 512);
const_assert!(TCE_LIST + TCE_LISTS_SIZE <= PROCESS_TABLE);
const_assert!(RADIX_PMD < CALLS);
const_assert!(
	CALLS as usize + MAX_CALLS * core::mem::size_of::<crate::block::Call>() <= TCE_TARGET as usize
);
const_assert!(TCE_TARGET + (512 << TCE_SHIFT) <= ROUND_PLAN);
const_assert!(size_of::<Contender>() as u64 <= CONTENDER_VPA);
const_assert!(CONTENDER_VPA + VPA_SIZE as u64 <= CONTENDER_SIZE);
const_assert!(
	OTHER_STACKS + 16 * OTHER_STACK_SIZE <= FRESH && ROUND_SHADOW + 0x1_0000 <= CONTENDERS
);
const_assert!(FRESH + FRESH_PAGES * FRESH_PAGE <= RAM);
const_assert!(PEER_VPA + 0x1000 <= PROBES);
// One page of 64 KiB or larger, in the first segment of 256 MiB.
const_assert!(RAM <= MMIO_EVENT && MMIO_EVENT.is_multiple_of(2 << 20));
const_assert!(MMIO_USER + 0x1000 <= MMIO_EVENT + (64 << 10) && MMIO_EVENT < 256 << 20);
const_assert!(TOUCH + TOUCH_SIZE <= READ_ONLY && READ_ONLY < MISSING);
const_assert!(MISSING + LEAF_SIZE <= MMIO_EVENT);
const_assert!(DEVICE >= RAM && TOUCH >= DEVICE + LEAF_SIZE && TOUCH + TOUCH_SIZE <= MMIO_EVENT);

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn every_tce_points_into_guest_memory() {
		assert!(TCE_LIST.is_multiple_of(4096));
		for index in 0..512 {
			let page = tce(index) & !((1 << TCE_SHIFT) - 1);
			assert!(page >= TCE_TARGET && page + 4096 <= RAM);
			assert_eq!(tce(index) - page, 3);
		}
	}
}
