// SPDX-License-Identifier: GPL-2.0-only
//! The guest's memory: memory slots, registered regions, and the list of H_PUT_TCE_INDIRECT.

use core::arch::asm;
use core::cell::Cell;
use core::ptr::NonNull;
use core::sync::atomic::{Ordering, fence};

use powerpc::{P9Vcpu, TCE_LISTS};
use tce::{GuestMemory, List, Range, Refusal, Tce, TooHard};

use super::at;
use super::context::{CallSite, HcallContext};
use super::hardware::KernelRegion;
use crate::layout::kernel as layout;
use crate::views::{MmView, NodeView, RegionView, SlotView, SlotsView};

// SAFETY: a function of the kernel with this type (asm/exception-64s.h).
unsafe extern "C" {
	fn do_uaccess_flush();
}

/// Levels of the tree of memory slots, which has at most 2^15 of them and is never
/// more than twice as deep as it must be.
pub(crate) const DEEPEST_TREE: usize = 32;

/// Regions of registered memory that are looked through before it is left to C:
/// userspace may register as many as it likes.
pub(crate) const MOST_REGIONS: usize = 64;

/// The guest's memory: slots, and what of it is registered.
pub(crate) struct Memory<'a> {
	pub(crate) caller: &'a HcallContext<'a>,
	pub(crate) slots: SlotsView,
	/// The region that was found last.
	pub(crate) region: Cell<Option<KernelRegion>>,
}

/// The guest addresses of a slot.
#[inline]
pub(crate) fn range(slot: SlotView) -> Range {
	Range {
		start: slot.base_gfn() << layout::PAGE_SHIFT,
		length: slot.npages() << layout::PAGE_SHIFT,
		user: slot.user(),
	}
}

/// Looks for the slot with this address in the tree of all of them.
#[cold]
#[inline(never)]
pub(crate) fn search(slots: SlotsView, address: u64) -> Option<SlotView> {
	let index = slots.node_idx() as usize & 1;
	let offset = layout::SLOT_GFN_NODE + index * layout::SIZEOF_NODE;
	let mut next = slots.gfn_tree();
	for _ in 0..DEEPEST_TREE {
		let node: NonNull<u8> = at(next)?;
		// SAFETY: the tree isn't changed while it is in force, and its nodes are parts
		// of slots, at the place that `node_idx`, 0 or 1, tells.
		let (slot, node) = unsafe { (SlotView::new(node.sub(offset)), NodeView::new(node)) };
		let range = range(slot);
		if range.contains(address) {
			return Some(slot);
		}
		next = if address < range.start {
			node.left()
		} else {
			node.right()
		};
	}
	None
}

impl Memory<'_> {
	/// The slot that was used last, if it has this address.
	#[inline]
	fn last_slot(&self, address: u64) -> Option<Range> {
		let last = at(self.slots.last_used())?;
		// SAFETY: slots stay while `kvm->srcu` is held, and the one used last is one of those in
		// force.
		let range = range(unsafe { SlotView::new(last) });
		range.contains(address).then_some(range)
	}

	/// The list, if the vcpu remembers its page at place `n`.
	#[inline(always)]
	fn remembered(&self, n: usize, address: u64) -> Option<ListPage<'_>> {
		let p9 = self.caller.p9;
		if p9.tce_list_gfn.get(n)?.get() != address >> layout::PAGE_SHIFT
			|| p9.tce_list_generation.get(n)?.get() != self.slots.generation()
		{
			return None;
		}
		p9.tce_list_busy.store(1, Ordering::Relaxed);
		let guard = Busy(p9);
		// The notifier has a full barrier between its two steps as well.
		fence(Ordering::SeqCst);
		// Null if the notifier has reset it. The page may have come back at another place.
		let page = NonNull::new(p9.tce_list_page.get(n)?.load(Ordering::Relaxed))?;
		let offset = address as usize & ((1 << layout::PAGE_SHIFT) - 1);
		Some(ListPage {
			// SAFETY: the offset is inside the page.
			list: unsafe { page.byte_add(offset) },
			_guard: Some(guard),
		})
	}

	/// The same for all places but the first.
	#[cold]
	#[inline(never)]
	fn remembered_elsewhere(&self, address: u64) -> Option<ListPage<'_>> {
		(1..TCE_LISTS).find_map(|n| self.remembered(n, address))
	}
}

impl GuestMemory for Memory<'_> {
	type List<'b>
		= ListPage<'b>
	where
		Self: 'b;

	type Region = KernelRegion;

	#[inline]
	fn memory(&self, address: u64) -> Option<Range> {
		if let Some(range) = self.last_slot(address) {
			return Some(range);
		}
		search(self.slots, address).map(range)
	}

	#[inline]
	fn list(&self, address: u64) -> Option<ListPage<'_>> {
		let p9 = self.caller.p9;
		if let CallSite::Full { list_read, .. } = self.caller.path {
			return list_read.then(|| ListPage {
				list: NonNull::from(&p9.tce_list).cast(),
				_guard: None,
			});
		}
		// Most guests have one page for all their lists.
		if let Some(list) = self.remembered(0, address) {
			return Some(list);
		}
		if let Some(list) = self.remembered_elsewhere(address) {
			return Some(list);
		}
		p9.tce_list_wanted.set(1);
		None
	}

	#[inline(never)]
	fn region(&self, user: u64, length: u64) -> Result<KernelRegion, Refusal> {
		if let Some(last) = self.region.get()
			&& last.offset(user, length).is_some()
		{
			return Ok(last);
		}
		// SAFETY: the VM's, which stays as long as the VM.
		let mm = unsafe { MmView::new(at(self.caller.kvm.mm()).ok_or(TooHard::CFallback)?) };
		let head = mm.address().addr().get() + layout::MM_REGIONS.offset;
		let mut next = mm.regions();
		for _ in 0..MOST_REGIONS {
			if next == head as u64 {
				return Err(TooHard::Userspace.into());
			}
			// SAFETY: an element of the list, by the list_head in it, which stays: RCU waits
			// for us.
			let region = unsafe {
				let node: NonNull<u8> = at(next).ok_or(TooHard::CFallback)?;
				RegionView::new(node.sub(layout::REGION_NEXT.offset))
			};
			let found = KernelRegion(region);
			if found.offset(user, length).is_some() {
				self.region.set(Some(found));
				return Ok(found);
			}
			next = region.next();
		}
		Err(TooHard::CFallback.into())
	}
}

/// The guest's memory, of which only the slot that was used last is looked at: what takes no call.
pub(crate) struct LastSlot<'a>(pub(crate) Memory<'a>);

impl GuestMemory for LastSlot<'_> {
	type List<'b>
		= ListPage<'b>
	where
		Self: 'b;

	type Region = KernelRegion;

	fn memory(&self, address: u64) -> Option<Range> {
		self.0.last_slot(address)
	}

	#[inline]
	fn has(&self, address: u64) -> bool {
		at(self.0.slots.last_used()).is_some_and(|last| {
			// SAFETY: slots stay while `kvm->srcu` is held, and the one used last is one of
			// those in force.
			let last = unsafe { SlotView::new(last) };
			let frame = address >> layout::PAGE_SHIFT;
			frame.wrapping_sub(last.base_gfn()) < last.npages()
		})
	}

	#[inline]
	fn list(&self, _: u64) -> Option<ListPage<'_>> {
		None
	}

	#[inline]
	fn region(&self, _: u64, _: u64) -> Result<KernelRegion, Refusal> {
		Err(TooHard::CFallback.into())
	}
}

/// Keeps the page of a list where it is until it is dropped.
pub(crate) struct Busy<'a>(pub(crate) &'a P9Vcpu);

impl Drop for Busy<'_> {
	#[inline]
	fn drop(&mut self) {
		// Release: all has been read by then.
		self.0.tce_list_busy.store(0, Ordering::Release);
		// As prevent_user_access() does after an access to user memory. The function is a
		// return while the flush is off.
		// SAFETY: a leaf in assembly, which reads the linear map at most and changes only
		// registers that a C function may change.
		unsafe { do_uaccess_flush() };
	}
}

/// A list of H_PUT_TCE_INDIRECT, by its kernel address.
pub(crate) struct ListPage<'a> {
	pub(crate) list: NonNull<u64>,
	/// Of the guest's own page.
	pub(crate) _guard: Option<Busy<'a>>,
}

impl List for ListPage<'_> {
	#[inline]
	fn entry(&self, index: usize) -> Tce {
		let value;
		// SAFETY: the list is 4 KiB, does not cross a page and has 512 entries, and the
		// page stays while the guard lives. The guest may be writing it, which assembly
		// doesn't mind. A load that swaps bytes has no other way to be said: there is no
		// atomic type for it.
		unsafe {
			asm!(
				"ldbrx {value}, {list}, {offset}",
				value = lateout(reg) value,
				list = in(reg_nonzero) self.list.as_ptr(),
				offset = in(reg) index * 8,
				options(nostack, readonly, preserves_flags),
			);
		}
		Tce(value)
	}
}
