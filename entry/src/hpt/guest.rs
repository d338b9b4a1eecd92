// SPDX-License-Identifier: GPL-2.0-only
//! A hash guest whose vcpu is in a handler.

use core::arch::asm;
use core::cell::Cell;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};

use ::hpt::{Guest, HostEntry, Hpte, Refusal, Rev, Slot};
use powerpc::HostFacts;

use super::host;
use super::tlb;
use crate::layout::kernel as layout;
use crate::lock::SpinLock;
use crate::radix::{Malformed, PRESENT, walk};
use crate::tce::at;
use crate::tce::guest_memory::{range, search};
use crate::views::{KvmView, MmView, SlotView, SlotsView, VcpuView};

// SAFETY: variables of the glue, which are written during boot only.
unsafe extern "C" {
	safe static kvm_p9_host_facts: u64;
	safe static kvm_p9_kernel_pgd: u64;
}

/// Bits of an address that select a place in the linear map.
const REAL: u64 = !(0xf << 60);
/// The most HPTEs: an index has 32 bits in the reverse map.
const MOST_ENTRIES_SHIFT: u32 = 32;
/// Bytes of an HPTE, and of a [`Rev`], as a shift.
const HPTE_SHIFT: u32 = 4;

/// Reads a doubleword of the kernel's or of a process's page tables.
///
/// # Safety
///
/// There must be a page table at the real address.
#[inline(always)]
unsafe fn read_table(address: u64) -> u64 {
	let at = (address | layout::LINEAR_MAP as u64) as *const u64;
	// SAFETY: a page table is at the real address, and all page tables are in the linear map.
	unsafe { at.read_volatile() }
}

/// The address in the linear map of a page of vmalloc space. Here once: there are many callers.
#[inline(never)]
fn find_page(page: u64) -> Option<u64> {
	let root = kvm_p9_kernel_pgd & REAL;
	// SAFETY: the kernel's page table, whose tables stay.
	let read = |at| unsafe { read_table(at) };
	let found = walk(root, page, layout::PAGE_SHIFT as u32, read).ok()??;
	if found.entry & PRESENT == 0 {
		return None;
	}
	let in_entry = page & ((1 << found.shift) - 1);
	Some(found.page() | in_entry | layout::LINEAR_MAP as u64)
}

/// Addresses of vmalloc space in the linear map.
pub(crate) struct Vmalloc {
	/// The last page that was found: its address, and that address in the linear map.
	last: Cell<(u64, u64)>,
}

impl Vmalloc {
	const fn new() -> Self {
		Self {
			last: Cell::new((1, 0)),
		}
	}

	/// The address in the linear map of the same byte.
	#[inline(always)]
	fn linear(&self, address: u64) -> Option<u64> {
		let offset = address & ((1 << layout::PAGE_SHIFT) - 1);
		let page = address - offset;
		let (last, linear) = self.last.get();
		if page == last {
			return Some(linear | offset);
		}
		let linear = find_page(page)?;
		self.last.set((page, linear));
		Some(linear | offset)
	}
}

/// A hash guest.
pub(crate) struct KernelGuest<'a> {
	pub(crate) vcpu: VcpuView,
	kvm: KvmView,
	slots: SlotsView,
	table: &'a [Hpte],
	/// The array of [`Rev`], in vmalloc space.
	revs: u64,
	rev_pages: Vmalloc,
	rmap_pages: Vmalloc,
}

/// Loads a field of this CPU's PACA in one instruction: r13 has its address.
macro_rules! load_of_paca {
	($instruction:literal, $field:ident) => {{
		let value: u64;
		// SAFETY: r13 is the PACA of this CPU in all kernel code, and the field is at that offset.
		unsafe {
			asm!(
				concat!($instruction, " {value}, {offset}(13)"),
				value = out(reg) value,
				offset = const layout::$field.offset,
				options(pure, readonly, nostack, preserves_flags),
			);
		}
		value
	}};
}

/// Whether the guest's context is loaded: in a fast handler, and not on the full path.
#[inline(always)]
pub(crate) fn is_in_guest() -> bool {
	load_of_paca!("lbz", PACA_IN_GUEST) != layout::GUEST_MODE_NONE as u64
}

/// The number of this CPU.
#[inline(always)]
fn own_cpu() -> u16 {
	load_of_paca!("lhz", PACA_INDEX) as u16
}

impl KernelGuest<'_> {
	/// The guest of a vcpu, if it is a hash guest.
	///
	/// # Safety
	///
	/// The vcpu must be in a handler on this CPU for as long as the value exists, with interrupts
	/// disabled and `kvm->srcu` held: in a fast handler, or right after a full exit.
	#[inline(always)]
	pub(crate) unsafe fn new(vcpu: VcpuView) -> Option<Self> {
		// SAFETY: a vcpu's VM lives as long as the vcpu. Memory slots stay while `kvm->srcu` is
		// held.
		let (kvm, slots) = unsafe {
			let kvm = KvmView::new(at(vcpu.kvm())?);
			(kvm, SlotsView::new(at(kvm.memslots())?))
		};
		let entries_shift = kvm.hpt_order().wrapping_sub(HPTE_SHIFT);
		if kvm.radix() != 0 || entries_shift > MOST_ENTRIES_SHIFT {
			return None;
		}
		let table: NonNull<Hpte> = at(kvm.hpt_table())?;
		// SAFETY: the HPT has 1 << order bytes in the linear map, and stays while a vcpu is in a
		// handler: see the module. Everything that writes it writes doublewords or less.
		let table = unsafe { slice::from_raw_parts(table.as_ptr(), 1 << entries_shift) };
		Some(Self {
			vcpu,
			kvm,
			slots,
			table,
			revs: kvm.hpt_revs(),
			rev_pages: Vmalloc::new(),
			rmap_pages: Vmalloc::new(),
		})
	}

	/// A field of `struct kvm` that other CPUs write at any time.
	///
	/// # Safety
	///
	/// There must be a `T` at the offset, which the kernel accesses atomically.
	#[inline(always)]
	unsafe fn shared<T>(&self, offset: usize) -> &T {
		// SAFETY: a `T` is at the offset in the VM, which outlives its vcpus. The kernel's accesses to
		// it are atomic.
		unsafe { self.kvm.address().add(offset).cast().as_ref() }
	}

	/// Whether this vcpu is the only one, so that only this CPU has translations of the guest, or
	/// will have flushed them. On the full path LPIDR is the host's, and tlbiel would invalidate
	/// translations of the host.
	#[inline(always)]
	fn is_alone(&self) -> bool {
		self.kvm.online_vcores() == 1 && is_in_guest()
	}

	/// Has all other CPUs flush the guest's translations before they run it.
	#[inline(always)]
	fn mark_others(&self) {
		// Before the marks: the HPTEs that are changed.
		fence(Ordering::Release);
		let own = usize::from(own_cpu());
		for number in 0..layout::SIZEOF_CPUMASK / 8 {
			// SAFETY: a doubleword of the mask.
			let word: &AtomicU64 = unsafe { self.shared(layout::KVM_NEED_TLB_FLUSH + 8 * number) };
			if number == own / 64 {
				word.fetch_or(!(1 << (own % 64)), Ordering::Relaxed);
			} else {
				word.store(!0, Ordering::Relaxed);
			}
		}
	}

	// Here once, as `flush` and `flush_everywhere`: many bodies call them.
	#[inline(never)]
	fn find_slot(&self, page: u64) -> Option<SlotView> {
		let address = page << layout::PAGE_SHIFT;
		if let Some(last) = at(self.slots.last_used()) {
			// SAFETY: one of the slots in force, which stay while `kvm->srcu` is held.
			let last = unsafe { SlotView::new(last) };
			if range(last).contains(address) {
				return Some(last);
			}
		}
		search(self.slots, address)
	}
}

impl Guest for KernelGuest<'_> {
	const PAGE_SHIFT: u32 = layout::PAGE_SHIFT as u32;

	#[inline(always)]
	fn table(&self) -> &[Hpte] {
		self.table
	}

	#[inline(always)]
	fn rev(&self, index: u64) -> Option<&Rev> {
		if index >= self.table.len() as u64 {
			return None;
		}
		// See `find()` of crate `hpt`.
		let index = index & (self.table.len() as u64).wrapping_sub(1);
		let rev = self.rev_pages.linear(self.revs + (index << HPTE_SHIFT))?;
		let rev: NonNull<Rev> = at(rev)?;
		// SAFETY: the array has an element for each HPTE. Others access the fields like this code,
		// under the same locks.
		Some(unsafe { rev.as_ref() })
	}

	#[inline(always)]
	fn slot(&self, page: u64) -> Option<Slot> {
		// A page number whose address has more than 64 bits is in no slot.
		let slot = self
			.find_slot(page)
			.filter(|_| page >> (64 - layout::PAGE_SHIFT) == 0)?;
		Some(Slot {
			first: slot.base_gfn(),
			pages: slot.npages(),
			user: slot.user(),
			rmaps: slot.rmaps(),
			is_invalid: slot.flags() & layout::SLOT_INVALID as u32 != 0,
			is_logged: slot.dirty_bitmap() != 0,
		})
	}

	#[inline(always)]
	fn rmap(&self, slot: &Slot, page: u64) -> Option<&AtomicU64> {
		let number = page.wrapping_sub(slot.first);
		if number >= slot.pages {
			return None;
		}
		let word = self.rmap_pages.linear(slot.rmaps + (number << 3))?;
		let word: NonNull<AtomicU64> = at(word)?;
		// SAFETY: the array has a word for each page of the slot, and stays as long as the slot.
		Some(unsafe { word.as_ref() })
	}

	#[inline(always)]
	fn notifications(&self) -> u64 {
		let notifications = self.kvm.mmu_notifications();
		fence(Ordering::Acquire);
		notifications
	}

	#[inline(always)]
	fn is_invalidated(&self, notifications: u64) -> bool {
		if self.kvm.mmu_notified() != 0 {
			return true;
		}
		fence(Ordering::Acquire);
		self.kvm.mmu_notifications() != notifications
	}

	#[inline(always)]
	fn host_entry(
		&self,
		user: u64,
		notifications: u64,
		write: bool,
	) -> Result<Option<HostEntry>, Refusal> {
		let facts = HostFacts::from_bits_retain(kvm_p9_host_facts);
		if !facts.contains(HostFacts::RCU_SEES_GUESTS) {
			return Err(Refusal::TooHard);
		}
		// SAFETY: the lock word of `mmu_lock`.
		let word: &AtomicU32 = unsafe { self.shared(layout::KVM_MMU_LOCK) };
		let _lock = SpinLock::try_new(word, own_cpu()).ok_or(Refusal::TooHard)?;
		if self.is_invalidated(notifications) {
			return Ok(None);
		}
		let mm: NonNull<u8> = at(self.kvm.mm()).ok_or(Refusal::TooHard)?;
		// SAFETY: the VM's, which stays as long as the VM.
		let root = unsafe { MmView::new(mm) }.pgd() & REAL;
		// SAFETY: page tables of the VMM, which stay: see the module.
		let read = |at| unsafe { read_table(at) };
		match walk(root, user, layout::PAGE_SHIFT as u32, read) {
			Ok(Some(found)) => host::entry(found, write).map(Some),
			Ok(None) => Ok(None),
			Err(Malformed) => Err(Refusal::TooHard),
		}
	}

	#[inline(always)]
	fn wants_changes(&self) -> bool {
		self.kvm.hpte_mod_interest() != 0
	}

	#[inline(always)]
	fn forget_devices(&self) {
		// SAFETY: an atomic64_t.
		let updates: &AtomicU64 = unsafe { self.shared(layout::KVM_MMIO_UPDATE.offset) };
		updates.fetch_add(1, Ordering::Relaxed);
	}

	#[inline(always)]
	fn order(&self) {
		tlb::eieio();
	}

	#[inline(always)]
	fn sync(&self) {
		tlb::ptesync();
	}

	#[inline(never)]
	fn flush(&self, translations: &[u64]) {
		if self.is_alone() {
			self.mark_others();
			tlb::local(translations);
		} else {
			let facts = HostFacts::from_bits_retain(kvm_p9_host_facts);
			tlb::global(translations, self.kvm.lpid(), facts, true);
		}
	}

	#[inline(never)]
	fn flush_everywhere(&self, translation: u64, after_store: bool) {
		let facts = HostFacts::from_bits_retain(kvm_p9_host_facts);
		tlb::global(&[translation], self.kvm.lpid(), facts, after_store);
	}

	#[inline(always)]
	fn clear_reference(&self, hpte: &Hpte) {
		/// R is in the byte before the last.
		const BYTE: usize = size_of::<Hpte>() - 2;
		let r = hpte.r() & !::hpt::pte::R_R;
		// SAFETY: a byte of the HPTE, which consists of atomics. Hardware writes the byte after this
		// one at any time, so no more may be written.
		unsafe {
			let byte = (&raw const *hpte).cast::<u8>().add(BYTE);
			AtomicU8::from_ptr(byte.cast_mut()).store((r >> 8) as u8, Ordering::Relaxed);
		}
	}
}
