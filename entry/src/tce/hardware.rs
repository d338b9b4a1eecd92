// SPDX-License-Identifier: GPL-2.0-only
//! `struct iommu_table` of a PHB4, and memory that userspace has registered for DMA.

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering};

use tce::{Attached, EntrySlice, Extent, Piece, Region, clamp};

use super::at;
use crate::layout::kernel as layout;
use crate::views::{IommuOpsView, IommuTableView, RegionView, StitView};

// SAFETY: a function and a variable of kvm_p9_tce.c. The variable is written during boot only.
unsafe extern "C" {
	fn kvm_p9_tce_kill(table: *mut u8, entry: u64, pages: u64);
	safe static kvm_p9_phb_useraddrptr: u64;
}

/// Largest page of a hardware table whose pages in the host are looked at here, as a shift:
/// 256 of them. What is larger is left to userspace, whose ioctls ask the page itself how
/// large it is.
pub(crate) const LARGEST_PAGE: u32 = layout::PAGE_SHIFT as u32 + 8;

/// Levels of a hardware table, beyond the last (`POWERNV_IOMMU_MAX_LEVELS`).
pub(crate) const MOST_LEVELS: u64 = 4;

/// Permissions, which entries of upper levels have, too.
pub(crate) const PERMISSIONS: u64 = (layout::TCE_PCI_READ | layout::TCE_PCI_WRITE) as u64;

/// The table of an element of the list of attached tables, if its kind is supported, and the
/// next element. `node` is the address of the list_head in the element. Under RCU.
#[inline(never)]
pub(crate) fn attachment(node: u64) -> Option<(HardwareTable, u64)> {
	let node: NonNull<u8> = at(node)?;
	// SAFETY: the element stays, and so does the table that it names.
	let (stit, table) = unsafe {
		let stit = StitView::new(node.sub(layout::STIT_NEXT.offset));
		(stit, IommuTableView::new(at(stit.table())?))
	};
	Some((HardwareTable::new(table)?, stit.next()))
}

/// `struct iommu_table`, of a PHB4.
#[derive(Clone, Copy)]
pub(crate) struct HardwareTable(pub(crate) IommuTableView);

impl HardwareTable {
	/// VFIO has taken the table out of use: no entry of it may be written.
	pub(crate) fn is_retired(&self) -> bool {
		self.0.retired() != 0
	}

	/// The table, if its entries are as `pnv_tce()` takes them to be.
	pub(crate) fn new(table: IommuTableView) -> Option<Self> {
		// SAFETY: every table has operations, which are constant.
		let ops = unsafe { IommuOpsView::new(at(table.ops())?) };
		(kvm_p9_phb_useraddrptr != 0
			&& ops.useraddrptr() == kvm_p9_phb_useraddrptr
			&& table.levels() <= MOST_LEVELS
			&& table.level_size().is_power_of_two()
			&& table.userspace() != 0)
			.then_some(Self(table))
	}

	/// The entry at `index`, below the table's size, in the tree at `root`, and how many
	/// there are in its array from there on.
	pub(crate) fn walk(&self, root: u64, index: u64) -> Option<(NonNull<AtomicU64>, usize)> {
		let mut array: NonNull<AtomicU64> = at(root)?;
		let (levels, size) = (self.0.levels(), self.0.level_size());
		let shift = size.trailing_zeros();
		for level in (1..=levels).rev() {
			let entry = index.wrapping_shr(level as u32 * shift) & size.wrapping_sub(1);
			// SAFETY: arrays of upper levels have that many entries, which are set once.
			let next = unsafe { array.add(entry as usize).as_ref() }.load(Ordering::Relaxed);
			let next = u64::from_be(next);
			if next == 0 {
				return None;
			}
			array = at((next & !PERMISSIONS) | layout::LINEAR_MAP as u64)?;
		}
		let (entry, size) = match levels {
			0 => (index, self.0.size()),
			_ => (index & size.wrapping_sub(1), size),
		};
		// SAFETY: the last array has `size` entries.
		let cell = unsafe { array.add(entry as usize) };
		Some((cell, size.saturating_sub(entry) as usize))
	}
}

impl Attached for HardwareTable {
	fn page_shift(&self) -> u32 {
		self.0.page_shift() as u32
	}

	#[inline(never)]
	fn entries(&self, index: u64) -> Option<EntrySlice<'_>> {
		if index >= self.0.size() {
			return None;
		}
		let index = clamp(index, self.0.size());
		let (tces, length) = self.walk(self.0.base(), index)?;
		let (users, _) = self.walk(self.0.userspace(), index)?;
		// SAFETY: both are arrays of the same shape, of entries that the kernel, devices and
		// we only read and write 64 bits at a time. They stay as long as the table does.
		unsafe {
			Some(EntrySlice {
				tces: slice::from_raw_parts(tces.as_ptr(), length),
				users: slice::from_raw_parts(users.as_ptr(), length),
			})
		}
	}

	fn invalidate(&self, first: u64, count: u64) {
		let entry = self.0.offset().wrapping_add(first);
		// SAFETY: a table of PHB4s, as `new` knows, which stays; interrupts are off.
		unsafe { kvm_p9_tce_kill(self.0.address().as_ptr(), entry, count) };
	}
}

/// `struct mm_iommu_table_group_mem_t`.
#[derive(Clone, Copy)]
pub(crate) struct KernelRegion(pub(crate) RegionView);

impl PartialEq for KernelRegion {
	#[inline]
	fn eq(&self, other: &Self) -> bool {
		self.0.address() == other.0.address()
	}
}

impl KernelRegion {
	/// Where `length` bytes at this address of userspace begin in the region.
	#[inline]
	pub(crate) fn offset(&self, user: u64, length: u64) -> Option<u64> {
		let offset = user.checked_sub(self.0.user())?;
		let last = (self.0.entries() << layout::PAGE_SHIFT).checked_sub(length)?;
		(offset <= last).then_some(offset)
	}

	/// How many entries map it, and one; 0 when it can't be mapped any more.
	#[inline]
	pub(crate) fn mapped(&self) -> &AtomicU64 {
		// SAFETY: an atomic64_t of the kernel's, which stays as long as the region does.
		unsafe {
			let mapped = self.0.address().add(layout::REGION_MAPPED.offset);
			mapped.cast::<AtomicU64>().as_ref()
		}
	}

	/// The host address of the page with this offset, with a mark whether a device may
	/// have written it. None of a device's memory.
	#[inline]
	pub(crate) fn page(&self, offset: u64) -> Option<&AtomicU64> {
		let pages: NonNull<AtomicU64> = at(self.0.hpas())?;
		// SAFETY: the array has an element for each page, it stays as long as the region, and
		// `offset` is inside of that.
		Some(unsafe { pages.add((offset >> layout::PAGE_SHIFT) as usize).as_ref() })
	}
}

impl KernelRegion {
	/// The host address of the page with this offset. None of a device's memory.
	#[inline]
	pub(crate) fn host_page(&self, offset: u64) -> Option<u64> {
		let page = self.page(offset)?.load(Ordering::Relaxed);
		Some(page & layout::REGION_PAGE_MASK as u64)
	}

	/// Whether `size` bytes from this offset are contiguous in the host. The page size of the
	/// region is not reliable: for normal pages after large ones, `mm_iommu_do_alloc()` computes
	/// the size of the large ones. Memory of a device is always contiguous.
	#[inline]
	pub(crate) fn is_in_one_piece(&self, offset: u64, host: u64, size: u64) -> bool {
		let mut others = (1 << layout::PAGE_SHIFT..size).step_by(1 << layout::PAGE_SHIFT);
		others.all(|at| {
			self.host_page(offset + at)
				.is_none_or(|page| page == host + at)
		})
	}
}

impl Region for KernelRegion {
	#[inline]
	fn extent(&self) -> Extent {
		Extent {
			start: self.0.user(),
			length: self.0.entries() << layout::PAGE_SHIFT,
		}
	}

	#[inline(never)]
	fn piece(&self, user: u64, shift: u32) -> Option<Piece> {
		if shift > self.0.page_shift().min(LARGEST_PAGE) {
			return None;
		}
		let size = 1_u64.wrapping_shl(shift);
		let offset = self.offset(user, size)?;
		let Some(page) = self.host_page(offset) else {
			let host = self.0.device();
			let is_aligned = host.wrapping_add(offset) & (size - 1) == 0;
			return is_aligned.then_some(Piece {
				user: self.extent(),
				host,
			});
		};
		// A region begins with a page of the host.
		let in_page = user & ((1 << layout::PAGE_SHIFT) - 1);
		let is_aligned = (page | in_page) & (size - 1) == 0;
		(is_aligned && self.is_in_one_piece(offset, page, size)).then_some(Piece {
			user: Extent {
				start: user.wrapping_sub(in_page),
				length: size.max(1 << layout::PAGE_SHIFT),
			},
			host: page,
		})
	}

	#[inline(never)]
	fn inc_mapped(&self, count: u64) -> bool {
		// Relaxed: the region was found under RCU, and as long as it is counted it stays.
		let counted = |mapped| (mapped != 0).then(|| count.wrapping_add(mapped));
		self.mapped()
			.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted)
			.is_ok()
	}

	#[inline(never)]
	fn dec_mapped(&self, count: u64) {
		// Never below 1, as in the kernel: unregistering drops the last one.
		let counted =
			|mapped: u64| Some(mapped.saturating_sub(count).max(1)).filter(|_| mapped > 1);
		// Release: a CPU that sees the lower count also sees the unmapped entries.
		let _ = self
			.mapped()
			.fetch_update(Ordering::Release, Ordering::Relaxed, counted);
	}

	#[inline(never)]
	fn set_dirty(&self, user: u64) -> Extent {
		let page = Extent {
			start: user & !((1 << layout::PAGE_SHIFT) - 1),
			length: 1 << layout::PAGE_SHIFT,
		};
		if let Some(cell) = self.offset(user, 1).and_then(|offset| self.page(offset)) {
			// The kernel marks the page itself then. It is pinned until the region is
			// unregistered, and this mark is looked at before it is unpinned.
			let mark = layout::REGION_PAGE_WRITTEN as u64;
			if cell.load(Ordering::Relaxed) & mark == 0 {
				cell.fetch_or(mark, Ordering::Relaxed);
			}
		}
		page
	}
}
