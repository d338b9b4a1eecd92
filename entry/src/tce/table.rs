// SPDX-License-Identifier: GPL-2.0-only
//! `struct kvmppc_spapr_tce_table`: the table of a guest's window.

use core::hint;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::AtomicU64;

use tce::{MAX_ATTACHED, MAX_WRITES, Refusal, Table, TooHard, Window};

use super::context::{CallSite, HcallContext};
use super::hardware::{HardwareTable, attachment};
use crate::layout::kernel as layout;
use crate::views::SttView;

// SAFETY: a variable of kvm_p9_tce.c, which is written during boot only.
unsafe extern "C" {
	safe static kvm_p9_page_address: [u64; 2];
}

/// Hardware tables in a list, retired ones included, before a handler gives up.
const LONGEST_LIST: usize = 2 * MAX_ATTACHED + 1;

/// What is known of a [`KernelTable`].
pub(crate) trait Attachment {
	/// Hardware tables may be attached.
	const POSSIBLE: bool;
}

/// No hardware table is attached.
pub(crate) struct Emulated;

impl Attachment for Emulated {
	const POSSIBLE: bool = false;
}

/// Not known whether a hardware table is attached.
pub(crate) struct Any;

impl Attachment for Any {
	const POSSIBLE: bool = true;
}

/// Whether no hardware table is attached.
#[inline]
pub(crate) fn is_emulated(stt: SttView) -> bool {
	// An empty list's head points to itself.
	let head = stt.address().addr().get() + layout::STT_IOMMU_TABLES.offset;
	stt.iommu_tables() == head as u64
}

/// `struct kvmppc_spapr_tce_table`.
pub(crate) struct KernelTable<'a, A> {
	pub(crate) stt: SttView,
	pub(crate) path: CallSite,
	pub(crate) kept_by: PhantomData<(&'a HcallContext<'a>, A)>,
}

impl<A> KernelTable<'_, A> {
	#[inline]
	pub(crate) fn new(stt: SttView, path: CallSite) -> Self {
		Self {
			stt,
			path,
			kept_by: PhantomData,
		}
	}
}

impl<A: Attachment> Table for KernelTable<'_, A> {
	const PAGE_SHIFT: u32 = layout::PAGE_SHIFT as u32 - 3;
	const IN_LINE: bool = !A::POSSIBLE;

	type Attached = HardwareTable;

	#[inline]
	fn window(&self) -> Window {
		let page_shift = self.stt.page_shift();
		// SAFETY: KVM makes tables with pages from 1 << 12 to 1 << 34 bytes, and never changes
		// that.
		unsafe { hint::assert_unchecked(page_shift < u64::BITS) };
		Window {
			page_shift,
			offset: self.stt.offset(),
			size: self.stt.size(),
		}
	}

	#[inline]
	fn is_emulated(&self) -> bool {
		!A::POSSIBLE || is_emulated(self.stt)
	}

	fn most_writes(&self) -> u64 {
		match self.path {
			// All the while nothing interrupts.
			CallSite::Fast => MAX_WRITES as u64,
			// Interrupts are off here, too. Only the parts of a single entry are more than a
			// step: 16 MiB are 256 pages of 64 KiB.
			CallSite::Full { .. } => 2 * MAX_WRITES as u64,
		}
	}

	#[inline]
	fn may_continue(&self) -> bool {
		matches!(self.path, CallSite::Full { .. })
	}

	fn attached(&self) -> Result<[Option<HardwareTable>; MAX_ATTACHED], Refusal> {
		self.path.may_write_hardware()?;
		let mut attached = [None; MAX_ATTACHED];
		let head = self.stt.address().addr().get() + layout::STT_IOMMU_TABLES.offset;
		let mut next = self.stt.iommu_tables();
		let mut free = attached.iter_mut();
		for _ in 0..LONGEST_LIST {
			if next == head as u64 {
				return Ok(attached);
			}
			let (table, following) = attachment(next).ok_or(TooHard::CFallback)?;
			next = following;
			// VFIO clears a retired table for the last time after it has waited for RCU.
			if !table.is_retired() {
				*free.next().ok_or(TooHard::CFallback)? = Some(table);
			}
		}
		Err(TooHard::CFallback.into())
	}

	#[inline]
	fn page(&self, number: u64) -> Option<&[AtomicU64]> {
		// SAFETY: the array has a pointer for each page that the window needs, and
		// `number` comes from an index inside the window.
		let page = unsafe {
			let pages = self.stt.address().add(layout::STT_PAGES).cast::<u64>();
			pages.add(number as usize).read_volatile()
		};
		if page == 0 {
			return None;
		}
		// page_address()
		let [factor, bias] = kvm_p9_page_address;
		let page = page.wrapping_mul(factor).wrapping_add(bias);
		// SAFETY: that is the address of a page in the linear map, which is not 0. A page stays
		// as long as its table, is never written but 64 bits at a time, and was cleared before the
		// pointer to it was set.
		Some(unsafe {
			let page = NonNull::new_unchecked(page as *mut AtomicU64);
			slice::from_raw_parts(page.as_ptr(), 1 << Self::PAGE_SHIFT)
		})
	}
}
