// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls: the bodies of crate `tce`, on the kernel's structures.
//!
//! The same bodies answer on both paths. A fast handler is called by the trampoline,
//! with the guest's context loaded; [`kvm_p9_tce`] by the kernel on the full path. What a
//! body lacks sends a fast hcall to the full path, and there the kernel makes it and asks
//! again (`__kvmppc_p9_answer()`). What differs between the two is said by [`Path`].
//!
//! # What keeps it all alive
//!
//! A handler takes no reference and no lock. Tables and memory slots stay because
//! KVM-HV holds `kvm->srcu` for reading from before a vcpu enters the guest until
//! after it has left: whoever removes a table or a slot makes it unreachable and
//! then waits for such readers. RCU itself would not do: with full dynticks the
//! CPU counts as idle while it is in a guest, and a handler doesn't tell RCU
//! otherwise. H_GET_TCE on the full path is under RCU alone, where that does: a table is
//! freed by `call_rcu()`, and it uses no memory slot.
//!
//! Of hardware's tables and registered memory only RCU keeps track. Without full
//! dynticks a CPU in a guest is a busy one, which reports nothing to RCU as long as
//! interrupts are off; with them fast handlers leave hardware's tables alone
//! ([`HostFacts::RCU_SEES_GUESTS`]).
//!
//! The page of an H_PUT_TCE_INDIRECT's list is userspace's memory, which nobody
//! holds. The full path leaves its kernel address in the vcpu, and the memory
//! notifier takes it away again before the page can go (`kvm_p9_forget_lists()`).
//! Between the two a handler may read it: it says that it is busy, then looks
//! whether the address is still there, then reads, then is no longer busy. The
//! notifier does the opposite, takes the address away and then looks for who is
//! busy, and so one of them sees the other. Handlers run with interrupts off and
//! read 4 KiB at most, so the notifier's wait is short.
//!
//! Pages of a table come and never go, until the table goes. So do the levels of a
//! hardware table.

use core::arch::asm;
use core::cell::Cell;
use core::marker::PhantomData;
use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use hcall::{Code, Number};
use powerpc::{Counter, HostFacts, Missing, P9Vcpu, TceCall};
use tce::{
	Attached, Guest, Hard, List, MAX_ATTACHED, MAX_ENTRIES, Range, Refusal, Region, Run, Table,
	Tce, Window, body,
};

use crate::layout::kernel as layout;
use crate::views::{
	IommuOpsView, IommuTableView, KvmView, MmView, NodeView, RegionView, SlotView, SlotsView,
	StitView, SttView, VcpuView,
};

// SAFETY: a function and variables of kvm_p9_tce.c and kvm_p9.c. The variables are written
// during boot only.
unsafe extern "C" {
	fn kvm_p9_tce_kill(table: *mut u8, entry: u64, pages: u64);
	safe static kvm_p9_host_facts: u64;
	safe static kvm_p9_vmemmap: u64;
	safe static kvm_p9_phb_useraddrptr: u64;
}

/// Tables that may share a bucket before a handler gives up looking.
const LONGEST_CHAIN: usize = 8;
/// Levels of the tree of memory slots, which has at most 2^15 of them and is never
/// more than twice as deep as it must be.
const DEEPEST_TREE: usize = 32;
/// Regions of registered memory that are looked through before it is left to C:
/// userspace may register as many as it likes.
const MOST_REGIONS: usize = 64;
/// Largest page of a hardware table whose pages in the host are looked at here, as a shift:
/// 256 of them. What is larger is left to userspace, whose ioctls ask the page itself how
/// large it is.
const LARGEST_PAGE: u32 = 24;
/// Levels of a hardware table, beyond the last (`POWERNV_IOMMU_MAX_LEVELS`).
const MOST_LEVELS: u64 = 4;
/// Permissions, which entries of upper levels have, too.
const PERMISSIONS: u64 = (layout::TCE_PCI_READ | layout::TCE_PCI_WRITE) as u64;

/// A pointer that was read from one of the kernel's structures.
#[inline]
fn at<T>(address: u64) -> Option<NonNull<T>> {
	NonNull::new(address as *mut T)
}

/// The vcpu that did the hcall.
///
/// For as long as this lives the vcpu is in a handler: its thread does nothing else, and
/// `kvm->srcu` is held, or RCU for H_GET_TCE on the full path.
struct Caller<'a> {
	p9: &'a P9Vcpu,
	vcpu: VcpuView,
	kvm: KvmView,
	path: Path,
}

/// How a handler was called.
#[derive(Clone, Copy)]
enum Path {
	/// By the trampoline.
	Fast,
	/// By the kernel.
	Full {
		/// The list is in `p9.tce_list`.
		list_read: bool,
		/// Interrupts are off.
		quiet: bool,
	},
}

impl Path {
	/// Hardware's tables and registered memory stay for as long as the handler runs, and
	/// it isn't interrupted while it has an entry locked.
	fn may_write_hardware(self) -> Result<(), Refusal> {
		let facts = HostFacts::from_bits_retain(kvm_p9_host_facts);
		match self {
			Self::Fast if facts.contains(HostFacts::RCU_SEES_GUESTS) => Ok(()),
			Self::Fast => Err(Hard::Kernel.into()),
			Self::Full { quiet: true, .. } => Ok(()),
			Self::Full { quiet: false, .. } => Err(Hard::Quiet.into()),
		}
	}
}

impl<'a> Caller<'a> {
	/// # Safety
	///
	/// `p9` must be part of a vcpu which is in a handler for as long as `'a` lasts, called
	/// as `path` says.
	#[inline]
	unsafe fn new(p9: NonNull<P9Vcpu>, path: Path) -> Option<Self> {
		// SAFETY: that's where `struct kvm_vcpu` begins, of which this is a part, and
		// its VM stays as long as it does. What others may do with the part, its type
		// allows.
		unsafe {
			let vcpu = VcpuView::new(p9.cast().sub(layout::VCPU_P9));
			Some(Self {
				p9: p9.as_ref(),
				vcpu,
				kvm: KvmView::new(at(vcpu.kvm())?),
				path,
			})
		}
	}

	/// The table with the LIOBN in r4.
	#[inline]
	fn table(&self) -> Result<SttView, Refusal> {
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
			let Some(table) = at(next) else {
				return Err(Hard::Userspace.into());
			};
			// SAFETY: tables stay while `kvm->srcu` is held, or RCU outside of a guest, and
			// one that was removed still leads on to the next.
			let stt = unsafe { SttView::new(table) };
			if stt.liobn() == liobn {
				return Ok(stt);
			}
			next = stt.p9_next();
		}
		Err(Hard::Kernel.into())
	}

	/// The same, here once for those that it is no matter to.
	#[inline(never)]
	fn table_apart(&self) -> Result<SttView, Refusal> {
		self.table()
	}

	/// The guest's memory, as it is now.
	#[inline]
	fn memory(&self) -> Result<Memory<'_>, Refusal> {
		let slots = at(self.kvm.memslots()).ok_or(Hard::Kernel)?;
		Ok(Memory {
			caller: self,
			// SAFETY: it is read under `kvm->srcu`, which keeps what it points to: H_GET_TCE
			// does not come here.
			slots: unsafe { SlotsView::new(slots) },
			region: Cell::new(None),
		})
	}

	/// Has a body answer the hcall of that number on this table, an H_STUFF_TCE from entry
	/// `done` on. Returns how many entries of that have their value now.
	#[inline(always)]
	fn run(&self, table: &impl Table, number: Number, done: u64) -> Result<u64, Refusal> {
		let (ioba, r6, r7) = (self.vcpu.gpr5(), self.vcpu.gpr6(), self.vcpu.gpr7());
		match number {
			Number::GET_TCE => {
				let tce = body::get(table, ioba)?;
				self.vcpu.set_gpr4(tce.0);
			}
			Number::PUT_TCE => body::put(table, &self.memory()?, ioba, Tce(r6))?,
			// A vcpu is in one handler at a time, so nobody else uses the buffer.
			Number::PUT_TCE_INDIRECT => {
				body::put_indirect(table, &self.memory()?, &self.p9.tce_list, ioba, r6, r7)?;
			}
			Number::STUFF_TCE => {
				if matches!(self.path, Path::Fast) && r7 > MAX_ENTRIES as u64 {
					return Err(Hard::Steps.into());
				}
				return body::stuff(table, &self.memory()?, ioba, Tce(r6), r7, done);
			}
			_ => return Err(Hard::Kernel.into()),
		}
		Ok(0)
	}
}

/// Has a body answer an hcall of any number, on a table of any kind. These are here once,
/// and away from what the most frequent hcalls execute.
#[inline(always)]
fn general(caller: &Caller<'_>, number: Number, done: u64) -> Result<u64, Refusal> {
	let table = KernelTable::<Any>::new(caller.table_apart()?, caller.path);
	match number {
		Number::GET_TCE => caller.run(&table, Number::GET_TCE, done),
		Number::PUT_TCE => general_put(caller, table),
		Number::PUT_TCE_INDIRECT => general_put_indirect(caller, table),
		Number::STUFF_TCE => general_stuff(caller, table, done),
		_ => Err(Hard::Kernel.into()),
	}
}

// Apart, so that no stack has room for all of them.

#[inline(never)]
fn general_put(caller: &Caller<'_>, table: KernelTable<'_, Any>) -> Result<u64, Refusal> {
	caller.run(&table, Number::PUT_TCE, 0)
}

#[inline(never)]
fn general_put_indirect(caller: &Caller<'_>, table: KernelTable<'_, Any>) -> Result<u64, Refusal> {
	caller.run(&table, Number::PUT_TCE_INDIRECT, 0)
}

#[inline(never)]
fn general_stuff(
	caller: &Caller<'_>,
	table: KernelTable<'_, Any>,
	done: u64,
) -> Result<u64, Refusal> {
	caller.run(&table, Number::STUFF_TCE, done)
}

/// The same from the trampoline.
#[cold]
#[inline(never)]
fn fast_general(p9: NonNull<P9Vcpu>, number: Number, counter: &Counter) -> Code {
	// SAFETY: our caller has one for the same vcpu, and won't use it any more.
	let Some(caller) = (unsafe { Caller::new(p9, Path::Fast) }) else {
		return Code::TOO_HARD;
	};
	count(general(&caller, number, 0), counter)
}

/// Counts an hcall that a fast handler answers.
#[inline(always)]
fn count(result: Result<u64, Refusal>, counter: &Counter) -> Code {
	let code = result.map_or_else(Refusal::code, |_| Code::SUCCESS);
	if code != Code::TOO_HARD {
		counter.add(1);
	}
	code
}

/// What is known of a [`KernelTable`].
trait Attachment {
	/// Hardware's tables may be attached.
	const POSSIBLE: bool;
}

/// None is attached.
struct Emulated;
impl Attachment for Emulated {
	const POSSIBLE: bool = false;
}

/// Nothing.
struct Any;
impl Attachment for Any {
	const POSSIBLE: bool = true;
}

/// No hardware's table is attached.
#[inline]
fn is_emulated(stt: SttView) -> bool {
	// An empty list's head points to itself.
	let head = stt.address().addr().get() + layout::STT_IOMMU_TABLES.offset;
	stt.iommu_tables() == head as u64
}

/// `struct kvmppc_spapr_tce_table`.
struct KernelTable<'a, A> {
	stt: SttView,
	path: Path,
	kept_by: PhantomData<(&'a Caller<'a>, A)>,
}

impl<A> KernelTable<'_, A> {
	#[inline]
	fn new(stt: SttView, path: Path) -> Self {
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
		Window {
			page_shift: self.stt.page_shift(),
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
			// A longest list's for two tables. All the while nothing interrupts.
			Path::Fast => 2 * MAX_ENTRIES as u64,
			// A longest list's for all tables. Interrupts are off here, too.
			Path::Full { .. } => (MAX_ATTACHED * MAX_ENTRIES) as u64,
		}
	}

	fn attached(&self) -> Result<[Option<HardwareTable>; MAX_ATTACHED], Refusal> {
		self.path.may_write_hardware()?;
		let mut attached = [None; MAX_ATTACHED];
		let head = self.stt.address().addr().get() + layout::STT_IOMMU_TABLES.offset;
		let mut next = self.stt.iommu_tables();
		for place in &mut attached {
			if next == head as u64 {
				return Ok(attached);
			}
			let (table, behind) = attachment(next).ok_or(Hard::Kernel)?;
			*place = Some(table);
			next = behind;
		}
		if next == head as u64 {
			Ok(attached)
		} else {
			Err(Hard::Kernel.into())
		}
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
		// page_address(): all struct pages are in one array.
		let frame = page.wrapping_sub(kvm_p9_vmemmap) / layout::SIZEOF_STRUCT_PAGE as u64;
		let page: NonNull<AtomicU64> =
			at((frame << layout::PAGE_SHIFT) | layout::LINEAR_MAP as u64)?;
		// SAFETY: a page stays as long as its table, is never written but 64 bits at a time,
		// and was cleared before the pointer to it was set.
		Some(unsafe { slice::from_raw_parts(page.as_ptr(), 1 << Self::PAGE_SHIFT) })
	}
}

/// The table of an element of the list of those attached, if it is known, and the element
/// behind. By the list_head in it, under RCU.
#[inline(never)]
fn attachment(node: u64) -> Option<(HardwareTable, u64)> {
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
struct HardwareTable(IommuTableView);

impl HardwareTable {
	/// The table, if its entries are as `pnv_tce()` takes them to be.
	fn new(table: IommuTableView) -> Option<Self> {
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
	fn walk(&self, root: u64, index: u64) -> Option<(NonNull<AtomicU64>, usize)> {
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

	fn run(&self, index: u64) -> Option<Run<'_>> {
		if index >= self.0.size() {
			return None;
		}
		let (tces, length) = self.walk(self.0.base(), index)?;
		let (users, _) = self.walk(self.0.userspace(), index)?;
		// SAFETY: both are arrays of the same shape, of entries that the kernel, devices and
		// we only read and write 64 bits at a time. They stay as long as the table does.
		unsafe {
			Some(Run {
				tces: slice::from_raw_parts(tces.as_ptr(), length),
				users: slice::from_raw_parts(users.as_ptr(), length),
			})
		}
	}

	fn forget(&self, first: u64, count: u64) {
		let entry = self.0.offset().wrapping_add(first);
		// SAFETY: a table of PHB4s, as `new` knows, which stays; interrupts are off.
		unsafe { kvm_p9_tce_kill(self.0.address().as_ptr(), entry, count) };
	}
}

/// `struct mm_iommu_table_group_mem_t`.
#[derive(Clone, Copy)]
struct KernelRegion(RegionView);

impl PartialEq for KernelRegion {
	#[inline]
	fn eq(&self, other: &Self) -> bool {
		self.0.address() == other.0.address()
	}
}

impl KernelRegion {
	/// Where `length` bytes at this address of userspace begin in the region.
	#[inline]
	fn offset(&self, user: u64, length: u64) -> Option<u64> {
		let offset = user.checked_sub(self.0.user())?;
		let last = (self.0.entries() << layout::PAGE_SHIFT).checked_sub(length)?;
		(offset <= last).then_some(offset)
	}

	/// How many entries map it, and one; 0 when it can't be mapped any more.
	#[inline]
	fn mapped(&self) -> &AtomicU64 {
		// SAFETY: an atomic64_t of the kernel's, which stays as long as the region does.
		unsafe {
			let mapped = self.0.address().add(layout::REGION_MAPPED.offset);
			mapped.cast::<AtomicU64>().as_ref()
		}
	}

	/// The host address of the page with this offset, with a mark whether a device may
	/// have written it. None of a device's memory.
	#[inline]
	fn page(&self, offset: u64) -> Option<&AtomicU64> {
		let pages: NonNull<AtomicU64> = at(self.0.hpas())?;
		// SAFETY: the array has an element for each page, it stays as long as the region, and
		// `offset` is inside of that.
		Some(unsafe { pages.add((offset >> layout::PAGE_SHIFT) as usize).as_ref() })
	}
}

impl KernelRegion {
	/// The host address of the page with this offset. None of a device's memory.
	#[inline]
	fn host_page(&self, offset: u64) -> Option<u64> {
		let page = self.page(offset)?.load(Ordering::Relaxed);
		Some(page & layout::REGION_PAGE_MASK as u64)
	}

	/// Is what begins at this offset so large a piece of the host's memory? The region's
	/// page size doesn't tell: of normal pages behind large ones the kernel takes it to be
	/// the large ones' (`mm_iommu_do_alloc()`). A device's memory always is.
	#[inline]
	fn is_in_one_piece(&self, offset: u64, host: u64, size: u64) -> bool {
		let mut others = (1 << layout::PAGE_SHIFT..size).step_by(1 << layout::PAGE_SHIFT);
		others.all(|at| {
			self.host_page(offset + at)
				.is_none_or(|page| page == host + at)
		})
	}
}

impl Region for KernelRegion {
	fn host(&self, user: u64, shift: u32) -> Option<u64> {
		if shift > self.0.page_shift().min(LARGEST_PAGE) {
			return None;
		}
		let size = 1_u64.wrapping_shl(shift);
		let offset = self.offset(user, size)?;
		let host = match self.host_page(offset) {
			Some(page) => page | (user & ((1 << layout::PAGE_SHIFT) - 1)),
			None => self.0.device().wrapping_add(offset),
		};
		let is_aligned = host & (size - 1) == 0;
		(is_aligned && self.is_in_one_piece(offset, host, size)).then_some(host)
	}

	#[inline(never)]
	fn take(&self, count: u64) -> bool {
		// Relaxed: the region was found under RCU, and as long as it is counted it stays.
		let counted = |mapped| (mapped != 0).then(|| count.wrapping_add(mapped));
		self.mapped()
			.fetch_update(Ordering::Relaxed, Ordering::Relaxed, counted)
			.is_ok()
	}

	#[inline(never)]
	fn give(&self, count: u64) {
		// Never below 1, as the kernel has it: that is for whoever unregisters it.
		let counted =
			|mapped: u64| Some(mapped.saturating_sub(count).max(1)).filter(|_| mapped > 1);
		// Release: whoever sees that nothing maps it sees that nothing maps it.
		let _ = self
			.mapped()
			.fetch_update(Ordering::Release, Ordering::Relaxed, counted);
	}

	#[inline(never)]
	fn written(&self, user: u64) {
		let Some(page) = self.offset(user, 1).and_then(|offset| self.page(offset)) else {
			return;
		};
		// The kernel marks the page itself then. It is pinned until the region is
		// unregistered, and this mark is looked at before it is unpinned.
		let mark = layout::REGION_PAGE_WRITTEN as u64;
		if page.load(Ordering::Relaxed) & mark == 0 {
			page.fetch_or(mark, Ordering::Relaxed);
		}
	}
}

/// The guest's memory: slots, and what of it is registered.
struct Memory<'a> {
	caller: &'a Caller<'a>,
	slots: SlotsView,
	/// The region that was found last.
	region: Cell<Option<KernelRegion>>,
}

/// The guest addresses of a slot.
#[inline]
fn range(slot: SlotView) -> Range {
	Range {
		start: slot.base_gfn() << layout::PAGE_SHIFT,
		length: slot.npages() << layout::PAGE_SHIFT,
		user: slot.user(),
	}
}

/// Looks for the slot with this address in the tree of all of them.
#[cold]
#[inline(never)]
fn search(slots: SlotsView, address: u64) -> Option<SlotView> {
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

impl Guest for Memory<'_> {
	type List<'b>
		= ListPage<'b>
	where
		Self: 'b;

	type Region = KernelRegion;

	#[inline]
	fn memory(&self, address: u64) -> Option<Range> {
		if let Some(last) = at(self.slots.last_used()) {
			// SAFETY: slots stay while `kvm->srcu` is held, and the one used last is one
			// of those in force.
			let range = range(unsafe { SlotView::new(last) });
			if range.contains(address) {
				return Some(range);
			}
		}
		search(self.slots, address).map(range)
	}

	#[inline]
	fn list(&self, address: u64) -> Option<ListPage<'_>> {
		let p9 = self.caller.p9;
		if let Path::Full { list_read, .. } = self.caller.path {
			return list_read.then(|| ListPage {
				list: NonNull::from(&p9.tce_list).cast(),
				_guard: None,
			});
		}
		if p9.tce_list_gfn.get() == address >> layout::PAGE_SHIFT
			&& p9.tce_list_generation.get() == self.slots.generation()
		{
			p9.tce_list_busy.store(1, Ordering::Relaxed);
			let guard = Busy(p9);
			// The notifier has a full barrier between its two steps as well.
			fence(Ordering::SeqCst);
			if let Some(page) = NonNull::new(p9.tce_list_page.load(Ordering::Relaxed)) {
				let offset = address as usize & ((1 << layout::PAGE_SHIFT) - 1);
				return Some(ListPage {
					// SAFETY: the offset is inside the page.
					list: unsafe { page.byte_add(offset) },
					_guard: Some(guard),
				});
			}
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
		let mm = unsafe { MmView::new(at(self.caller.kvm.mm()).ok_or(Hard::Kernel)?) };
		let head = mm.address().addr().get() + layout::MM_REGIONS.offset;
		let mut next = mm.regions();
		for _ in 0..MOST_REGIONS {
			if next == head as u64 {
				return Err(Hard::Userspace.into());
			}
			// SAFETY: an element of the list, by the list_head in it, which stays: RCU waits
			// for us.
			let region = unsafe {
				let node: NonNull<u8> = at(next).ok_or(Hard::Kernel)?;
				RegionView::new(node.sub(layout::REGION_NEXT.offset))
			};
			let found = KernelRegion(region);
			if found.offset(user, length).is_some() {
				self.region.set(Some(found));
				return Ok(found);
			}
			next = region.next();
		}
		Err(Hard::Kernel.into())
	}
}

/// Keeps the page of a list where it is until it is dropped.
struct Busy<'a>(&'a P9Vcpu);

impl Drop for Busy<'_> {
	#[inline]
	fn drop(&mut self) {
		// Release: all has been read by then.
		self.0.tce_list_busy.store(0, Ordering::Release);
	}
}

/// A list of H_PUT_TCE_INDIRECT, by its kernel address.
struct ListPage<'a> {
	list: NonNull<u64>,
	/// Of the guest's own page.
	_guard: Option<Busy<'a>>,
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

/// Has a body answer an hcall from the trampoline, and counts it.
///
/// # Safety
///
/// The trampoline calls for this, for the vcpu that `p9` is part of.
#[inline(always)]
unsafe fn fast<const NUMBER: u64>(p9: NonNull<P9Vcpu>, counter: &Counter) -> Code {
	// SAFETY: as the caller vouches.
	let Some(caller) = (unsafe { Caller::new(p9, Path::Fast) }) else {
		return Code::TOO_HARD;
	};
	match caller.table() {
		Ok(stt) if Number(NUMBER) == Number::GET_TCE || is_emulated(stt) => {
			// SAFETY: as the caller vouches; this one is done.
			unsafe { fast_emulated::<NUMBER>(p9, stt, counter) }
		}
		// Both end this function, so that neither's stack is below the other's.
		Ok(_) => fast_general(p9, Number(NUMBER), counter),
		Err(refusal) => refusal.code(),
	}
}

/// On a table that no hardware's is attached to, of which a body is compiled for each
/// hcall.
///
/// # Safety
///
/// As for [`fast`].
#[inline(never)]
unsafe fn fast_emulated<const NUMBER: u64>(
	p9: NonNull<P9Vcpu>,
	stt: SttView,
	counter: &Counter,
) -> Code {
	// SAFETY: as the caller vouches.
	let Some(caller) = (unsafe { Caller::new(p9, Path::Fast) }) else {
		return Code::TOO_HARD;
	};
	let table = KernelTable::<Emulated>::new(stt, Path::Fast);
	count(caller.run(&table, Number(NUMBER), 0), counter)
}

macro_rules! fast {
	($($(#[$doc:meta])* $name:ident = $number:ident, $counter:ident;)*) => {
		$(
			$(#[$doc])*
			///
			/// # Safety
			///
			/// The trampoline calls this, for the vcpu that `p9` is part of.
			pub unsafe extern "C" fn $name(p9: NonNull<P9Vcpu>) -> Code {
				// SAFETY: as the caller vouches.
				unsafe { fast::<{ Number::$number.0 }>(p9, &p9.as_ref().$counter) }
			}
		)*
	};
}

fast! {
	/// H_GET_TCE(LIOBN, IOBA): the entry in r4.
	h_get_tce = GET_TCE, fast_h_get_tce;
	/// H_PUT_TCE(LIOBN, IOBA, TCE).
	h_put_tce = PUT_TCE, fast_h_put_tce;
	/// H_PUT_TCE_INDIRECT(LIOBN, IOBA, list, pages).
	h_put_tce_indirect = PUT_TCE_INDIRECT, fast_h_put_tce_indirect;
	/// H_STUFF_TCE(LIOBN, IOBA, value, pages); with more pages than [`MAX_ENTRIES`] it
	/// takes the full path, where the kernel may be interrupted in between.
	h_stuff_tce = STUFF_TCE, fast_h_stuff_tce;
}

/// Answers a TCE hcall on the full path, or [`Code::TOO_HARD`], with `call` saying why:
/// then the kernel supplies what is missing and calls again.
///
/// # Safety
///
/// `p9` must be part of the vcpu that does the hcall, which the current thread runs.
/// `kvm->srcu` must have been held for reading since before the first call for this hcall,
/// or RCU for H_GET_TCE; and interrupts must be off if `call` says so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_p9_tce(p9: NonNull<P9Vcpu>, call: &mut TceCall) -> Code {
	let facts = HostFacts::from_bits_retain(kvm_p9_host_facts);
	let path = Path::Full {
		list_read: call.list_read != 0,
		quiet: call.quiet != 0,
	};
	// SAFETY: as the caller vouches.
	let caller = unsafe { Caller::new(p9, path) };
	let Some(caller) =
		caller.filter(|_| facts.contains(HostFacts::CPU_SUPPORTED | HostFacts::RADIX))
	else {
		call.missing = Missing::All as u64;
		return Code::TOO_HARD;
	};
	let number = Number(call.number);
	let refusal = match general(&caller, number, call.done) {
		Ok(done) if number == Number::STUFF_TCE && done < caller.vcpu.gpr7() => {
			call.done = done;
			Hard::Steps.into()
		}
		Ok(_) => return Code::SUCCESS,
		Err(refusal) => refusal,
	};
	if let Refusal::Hard(hard) = refusal {
		// The next attempt reads the list anew: this one may have it in this CPU's byte
		// order by now.
		call.list_read = 0;
		call.missing = caller.missing(hard, call) as u64;
	}
	refusal.code()
}

impl Caller<'_> {
	/// Tells the kernel what is missing.
	#[cold]
	fn missing(&self, hard: Hard, call: &mut TceCall) -> Missing {
		match (hard, self.table_apart()) {
			(Hard::Userspace, _) => Missing::Nothing,
			(Hard::List, _) => Missing::List,
			(Hard::Steps, _) => Missing::Steps,
			(Hard::Quiet, _) => Missing::Quiet,
			(Hard::Page(number), Ok(stt)) => {
				call.table = stt.address().addr().get() as u64;
				call.index = number;
				Missing::Page
			}
			(Hard::Level { table: of, index }, Ok(stt)) => {
				let table = KernelTable::<Any>::new(stt, self.path);
				let attached = table.attached().ok();
				let Some(one) = attached.and_then(|attached| *attached.get(of)?) else {
					return Missing::All;
				};
				call.table = one.0.address().addr().get() as u64;
				call.index = one.0.offset().wrapping_add(index);
				Missing::Levels
			}
			_ => Missing::All,
		}
	}
}
