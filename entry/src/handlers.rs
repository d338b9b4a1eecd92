// SPDX-License-Identifier: GPL-2.0-only
//! Fast handlers of the TCE hcalls: the bodies of crate `tce`, on the kernel's
//! structures.
//!
//! # What keeps it all alive
//!
//! A handler takes no reference and no lock. Tables and memory slots stay because
//! KVM-HV holds `kvm->srcu` for reading from before a vcpu enters the guest until
//! after it has left: whoever removes a table or a slot makes it unreachable and
//! then waits for such readers. RCU itself would not do: with full dynticks the
//! CPU counts as idle while it is in a guest, and a handler doesn't tell RCU
//! otherwise.
//!
//! The page of an H_PUT_TCE_INDIRECT's list is userspace's memory, which nobody
//! holds. The C handler leaves its kernel address in the vcpu, and the memory
//! notifier takes it away again before the page can go (`kvm_p9_forget_lists()`).
//! Between the two a handler may read it: it says that it is busy, then looks
//! whether the address is still there, then reads, then is no longer busy. The
//! notifier does the opposite, takes the address away and then looks for who is
//! busy, and so one of them sees the other. Handlers run with interrupts off and
//! read 4 KiB at most, so the notifier's wait is short.
//!
//! Pages of a table come and never go, until the table goes.

use core::arch::asm;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use hcall::Code;
use powerpc::{Counter, P9Vcpu};
use tce::{Guest, List, Range, Table, Tce, Window, body};

use crate::layout::kernel as layout;
use crate::views::{KvmView, NodeView, SlotView, SlotsView, SttView, VcpuView};

/// Tables that may share a bucket before a handler gives up looking.
const LONGEST_CHAIN: usize = 8;
/// Levels of the tree of memory slots, which has at most 2^15 of them and is never
/// more than twice as deep as it must be.
const DEEPEST_TREE: usize = 32;

/// A pointer that was read from one of the kernel's structures.
#[inline]
fn at<T>(address: u64) -> Option<NonNull<T>> {
	NonNull::new(address as *mut T)
}

/// The vcpu that did the hcall.
///
/// For as long as this lives the vcpu is in a handler: interrupts are off and
/// `kvm->srcu` is held.
struct Caller<'a> {
	p9: &'a P9Vcpu,
	vcpu: VcpuView,
	kvm: KvmView,
}

impl<'a> Caller<'a> {
	/// # Safety
	///
	/// `p9` must be part of a vcpu which is in a handler for as long as `'a` lasts, and
	/// not yet used by anything else in that handler.
	#[inline]
	unsafe fn new(p9: NonNull<P9Vcpu>) -> Option<Self> {
		// SAFETY: that's where `struct kvm_vcpu` begins, of which this is a part, and
		// its VM stays as long as it does. What others may do with the part, its type
		// allows.
		unsafe {
			let vcpu = VcpuView::new(p9.cast().sub(layout::VCPU_P9));
			Some(Self {
				p9: p9.as_ref(),
				vcpu,
				kvm: KvmView::new(at(vcpu.kvm())?),
			})
		}
	}

	/// The table with the LIOBN in r4.
	#[inline]
	fn table(&self) -> Option<KernelTable<'_>> {
		let liobn = self.vcpu.gpr4();
		// hash_64() of linux/hash.h.
		let hash = liobn.wrapping_mul(layout::HASH_64_FACTOR as u64);
		let bucket = (hash >> (64 - layout::KVM_P9_TABLE_BITS)) as usize;
		let buckets = self.kvm.address();
		// SAFETY: the array has 1 << KVM_P9_TABLE_BITS elements, which others write.
		let mut next = unsafe {
			let buckets = buckets.add(layout::KVM_P9_TABLES).cast::<u64>();
			buckets.add(bucket).read_volatile()
		};
		for _ in 0..LONGEST_CHAIN {
			// SAFETY: tables stay while `kvm->srcu` is held, and one that was removed
			// still leads on to the next.
			let stt = unsafe { SttView::new(at(next)?) };
			if stt.liobn() == liobn {
				return Some(KernelTable {
					stt,
					kept_by: PhantomData,
				});
			}
			next = stt.p9_next();
		}
		None
	}

	/// The memory slots that are in force.
	#[inline]
	fn slots(&self) -> Option<SlotsView> {
		// SAFETY: it is read under `kvm->srcu`, which keeps what it points to.
		Some(unsafe { SlotsView::new(at(self.kvm.memslots())?) })
	}

	/// Counts an hcall that is answered, and answers it.
	#[inline]
	fn answer(result: Result<(), Code>, counter: &Counter) -> Code {
		match result {
			Err(Code::TOO_HARD) => return Code::TOO_HARD,
			_ => counter.add(1),
		}
		result.err().unwrap_or(Code::SUCCESS)
	}
}

/// `struct kvmppc_spapr_tce_table`.
struct KernelTable<'a> {
	stt: SttView,
	kept_by: PhantomData<&'a Caller<'a>>,
}

impl Table for KernelTable<'_> {
	const PAGE_SHIFT: u32 = layout::PAGE_SHIFT as u32 - 3;

	#[inline]
	fn window(&self) -> Window {
		Window {
			page_shift: self.stt.page_shift(),
			offset: self.stt.offset(),
			size: self.stt.size(),
		}
	}

	#[inline]
	fn is_emulated(&self) -> bool {
		// An empty list's head points to itself.
		let head = self.stt.address().addr().get() + layout::STT_IOMMU_TABLES.offset;
		self.stt.iommu_tables() == head as u64
	}

	#[inline]
	fn page(&self, number: u64) -> Option<&[AtomicU64]> {
		let pages: NonNull<u64> = at(self.stt.p9_pages())?;
		// SAFETY: the array has a pointer for each page that the window needs, and
		// `number` comes from an index inside the window. A page stays as long as its
		// table, is never written but 64 bits at a time, and was cleared before the
		// pointer to it was set.
		unsafe {
			let page = pages.add(number as usize).read_volatile();
			let page: NonNull<AtomicU64> = at(page)?;
			Some(slice::from_raw_parts(page.as_ptr(), 1 << Self::PAGE_SHIFT))
		}
	}

	fn make_page(&self, _: u64) -> Result<&[AtomicU64], Code> {
		Err(Code::TOO_HARD)
	}
}

/// The guest addresses of a slot.
#[inline]
fn range(slot: SlotView) -> Range {
	Range {
		start: slot.base_gfn() << layout::PAGE_SHIFT,
		length: slot.npages() << layout::PAGE_SHIFT,
	}
}

/// Looks for the slot with this address in the tree of all of them.
#[cold]
#[inline(never)]
fn search(slots: SlotsView, address: u64) -> Option<Range> {
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
			return Some(range);
		}
		next = if address < range.start {
			node.left()
		} else {
			node.right()
		};
	}
	None
}

impl Guest for Caller<'_> {
	type List<'b>
		= ListPage<'b>
	where
		Self: 'b;

	#[inline]
	fn memory(&self, address: u64) -> Option<Range> {
		let slots = self.slots()?;
		if let Some(last) = at(slots.last_used()) {
			// SAFETY: slots stay while `kvm->srcu` is held, and the one used last is one
			// of those in force.
			let range = range(unsafe { SlotView::new(last) });
			if range.contains(address) {
				return Some(range);
			}
		}
		search(slots, address)
	}

	#[inline]
	fn list(&self, address: u64) -> Option<ListPage<'_>> {
		let p9 = self.p9;
		let generation = self.slots()?.generation();
		if p9.list_gfn.get() == address >> layout::PAGE_SHIFT
			&& p9.list_generation.get() == generation
		{
			p9.list_busy.store(1, Ordering::Relaxed);
			let guard = Busy(p9);
			// The notifier has a full barrier between its two steps as well.
			fence(Ordering::SeqCst);
			if let Some(page) = NonNull::new(p9.list_page.load(Ordering::Relaxed)) {
				let offset = address as usize & ((1 << layout::PAGE_SHIFT) - 1);
				return Some(ListPage {
					// SAFETY: the offset is inside the page.
					list: unsafe { page.byte_add(offset) },
					_guard: guard,
				});
			}
		}
		p9.list_wanted.set(1);
		None
	}
}

/// Keeps the page of a list where it is until it is dropped.
struct Busy<'a>(&'a P9Vcpu);

impl Drop for Busy<'_> {
	#[inline]
	fn drop(&mut self) {
		// Release: all has been read by then.
		self.0.list_busy.store(0, Ordering::Release);
	}
}

/// A list of H_PUT_TCE_INDIRECT, by its kernel address.
struct ListPage<'a> {
	list: NonNull<u64>,
	_guard: Busy<'a>,
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

/// H_GET_TCE(LIOBN, IOBA): the entry in r4.
///
/// # Safety
///
/// The trampoline calls this, for the vcpu that `p9` is part of.
pub unsafe extern "C" fn h_get_tce(p9: NonNull<P9Vcpu>) -> Code {
	// SAFETY: as the caller vouches.
	let Some(caller) = (unsafe { Caller::new(p9) }) else {
		return Code::TOO_HARD;
	};
	let Some(table) = caller.table() else {
		return Code::TOO_HARD;
	};
	let result = body::get(&table, caller.vcpu.gpr5());
	if let Ok(tce) = result {
		caller.vcpu.set_gpr4(tce.0);
	}
	Caller::answer(result.map(drop), &caller.p9.fast_h_get_tce)
}

/// H_PUT_TCE(LIOBN, IOBA, TCE).
///
/// # Safety
///
/// As [`h_get_tce`].
pub unsafe extern "C" fn h_put_tce(p9: NonNull<P9Vcpu>) -> Code {
	// SAFETY: as the caller vouches.
	let Some(caller) = (unsafe { Caller::new(p9) }) else {
		return Code::TOO_HARD;
	};
	let Some(table) = caller.table() else {
		return Code::TOO_HARD;
	};
	let result = body::put(&table, &caller, caller.vcpu.gpr5(), Tce(caller.vcpu.gpr6()));
	Caller::answer(result, &caller.p9.fast_h_put_tce)
}

/// H_PUT_TCE_INDIRECT(LIOBN, IOBA, list, pages).
///
/// # Safety
///
/// As [`h_get_tce`].
pub unsafe extern "C" fn h_put_tce_indirect(p9: NonNull<P9Vcpu>) -> Code {
	// SAFETY: as the caller vouches.
	let Some(caller) = (unsafe { Caller::new(p9) }) else {
		return Code::TOO_HARD;
	};
	let Some(table) = caller.table() else {
		return Code::TOO_HARD;
	};
	// SAFETY: only this handler uses it, and a vcpu is in one handler at a time.
	let buffer = unsafe { &mut *caller.p9.list.get() };
	let (ioba, list, pages) = (caller.vcpu.gpr5(), caller.vcpu.gpr6(), caller.vcpu.gpr7());
	let result = body::put_indirect(&table, &caller, buffer, ioba, list, pages);
	Caller::answer(result, &caller.p9.fast_h_put_tce_indirect)
}

/// H_STUFF_TCE(LIOBN, IOBA, value, pages).
///
/// # Safety
///
/// As [`h_get_tce`].
pub unsafe extern "C" fn h_stuff_tce(p9: NonNull<P9Vcpu>) -> Code {
	// SAFETY: as the caller vouches.
	let Some(caller) = (unsafe { Caller::new(p9) }) else {
		return Code::TOO_HARD;
	};
	let Some(table) = caller.table() else {
		return Code::TOO_HARD;
	};
	let (ioba, value, pages) = (
		caller.vcpu.gpr5(),
		Tce(caller.vcpu.gpr6()),
		caller.vcpu.gpr7(),
	);
	let result = body::stuff(&table, ioba, value, pages);
	Caller::answer(result, &caller.p9.fast_h_stuff_tce)
}
