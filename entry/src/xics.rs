// SPDX-License-Identifier: GPL-2.0-only
//! Hcalls of XICS for a guest whose XICS is implemented with the host's XIVE: a part of
//! `book3s_xive.c` that needs no more than kernel memory and registers of the XIVE.
//!
//! The XIVE puts an interrupt into the event queue of its priority, in memory, and notifies the vcpu
//! whose context is on a CPU. A guest with XICS knows neither queues nor priorities of the XIVE. So
//! KVM keeps a CPPR, an MFRR and the pending priorities for each vcpu, and reads the queue when the
//! guest asks for an interrupt.
//!
//! # Who writes what
//!
//! - CPPR, pending priorities, index and toggle of queues: the vcpu itself, in an hcall. The
//!   kernel's hcalls use the same fields, for the same vcpu and so never at the same time.
//! - The MFRR: any vcpu, by H_IPI, without a lock. H_IPI writes it, and then reads the CPPR; H_EOI
//!   and H_CPPR write the CPPR, and then read the MFRR. A full barrier is between the two on both
//!   sides, so one of them sees the other.
//! - Entries of a queue: the XIVE.
//! - A source: the CPU that has the lock of its block, and H_EOI. H_EOI sets `in_eoi`, and then looks
//!   whether the source is masked. The kernel masks a source, and then looks at `in_eoi`, again with
//!   a full barrier between the two.
//!
//! # What keeps the structures alive
//!
//! A vcpu is disconnected from the interrupt controller under `vcpu->mutex`, which KVM_RUN holds.
//! A patch of the series has the kernel take the mutexes of all vcpus before it frees the first
//! presentation. The controller and its blocks of sources are freed after that. Nodes of the array of
//! vcpus are freed after an RCU grace period, which waits for a CPU with interrupts disabled; without
//! such an RCU the array is left to C ([`Bus::rcu_waits`]).
//!
//! # What C prints
//!
//! C prints a warning if the XIVE acknowledges an interrupt that is not above the CPPR, or if an
//! entry has more than the 24 bits of an interrupt number. A fast handler cannot print. It goes on
//! as C does.

pub mod hcalls;
#[cfg(kernel)]
mod kernel;

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::layout::kernel as layout;
use crate::lock::SpinLock;
use crate::views::{
	EsbView, KvmView, PresentationView, QueueView, SourceView, VcpuView, XaNodeView,
};

/// The interrupt number of IPIs.
const IPI: u32 = layout::XICS_IRQ_IPI as u32;
/// What replaces an entry of a queue that has to be skipped.
const DUMMY: u32 = layout::XICS_IRQ_DUMMY as u32;
/// The priority that means no interrupt.
const MASKED: u8 = layout::XICS_MASKED as u8;
/// Priorities below this one are the guest's own. The XIVE's last ones are not for guests, and become
/// this one.
const LEAST_FAVOURED: u8 = 6;

/// Entries of a queue that one hcall looks at, and vcpus.
const MOST: u32 = 64;

/// C has to answer. Nothing has changed that C does not go on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooHard;

/// How an hcall reaches the registers of the XIVE, and orders what it does.
///
/// Values are as in memory: the XIVE is big-endian.
pub trait Bus {
	/// The MMU is off, so registers are reached by real addresses.
	fn is_real(&self) -> bool;

	/// Where the thread interrupt management area is.
	fn tima(&self) -> u64;

	/// This CPU, as the kernel numbers it.
	fn cpu(&self) -> u16;

	/// Whether an RCU grace period waits for the end of the hcall.
	fn rcu_waits(&self) -> bool;

	/// The guest's timebase.
	fn timebase(&self) -> u64;

	/// Loads two bytes.
	///
	/// # Safety
	///
	/// A register of the XIVE must be there.
	unsafe fn load16(&self, at: u64) -> u16;

	/// Loads eight bytes.
	///
	/// # Safety
	///
	/// A register of the XIVE must be there.
	unsafe fn load64(&self, at: u64) -> u64;

	/// Stores a byte.
	///
	/// # Safety
	///
	/// A register of the XIVE must be there, and what the store does must be the vcpu's own
	/// affair.
	unsafe fn store8(&self, at: u64, value: u8);

	/// Stores eight zero bytes.
	///
	/// # Safety
	///
	/// As for [`Self::store8`].
	unsafe fn store_zero64(&self, at: u64);

	/// Orders loads and stores of cache-inhibited memory among each other.
	fn eieio(&self);

	/// Orders everything: hwsync.
	fn sync(&self);
}

/// What a scan of the queues is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
	/// Take the interrupt.
	Fetch,
	/// Look.
	Poll,
	/// Find out which queues are empty.
	Eoi,
}

/// The guest's priority, as the XIVE has it.
#[inline(always)]
fn priority_from_guest(priority: u8) -> u8 {
	match priority {
		MASKED => MASKED,
		_ => priority.min(LEAST_FAVOURED),
	}
}

/// Where the pages of an ESB are.
#[inline(always)]
fn eoi_page<B: Bus>(bus: &B, esb: EsbView) -> Option<u64> {
	let at = match bus.is_real() {
		true => esb.eoi_real(),
		false => esb.eoi_mapped(),
	};
	(at != 0).then_some(at)
}

/// Triggers the interrupt, if the ESB has a page for that.
#[inline(always)]
fn trigger<B: Bus>(bus: &B, esb: EsbView) {
	let at = match bus.is_real() {
		true => esb.trigger_real(),
		false => esb.trigger_mapped(),
	};
	if at != 0 {
		// SAFETY: the ESB's page to trigger the interrupt, which is the guest's.
		unsafe { bus.store_zero64(at) };
	}
}

/// Ends an interrupt at its source, so that the source can send the next one. `at` is the page for
/// that.
#[inline(always)]
fn end<B: Bus>(bus: &B, esb: EsbView, at: u64) {
	let flags = esb.flags();
	// SAFETY: registers of the ESB of an interrupt that is the guest's.
	unsafe {
		if flags & layout::ESB_FLAG_STORE_EOI as u64 != 0 {
			bus.store_zero64(at + layout::ESB_STORE_EOI as u64);
		} else if flags & layout::ESB_FLAG_LSI as u64 != 0 {
			// The XIVE sends it again if the level is still there.
			bus.load64(at + layout::ESB_LOAD_EOI as u64);
		} else {
			// Q of before says that it came again meanwhile: once more, then.
			let pq = u64::from_be(bus.load64(at + layout::ESB_SET_PQ_00 as u64));
			if pq & layout::ESB_Q as u64 != 0 {
				trigger(bus, esb);
			}
		}
	}
}

/// Where a queue is read.
#[derive(Clone, Copy)]
struct Cursor {
	page: Option<NonNull<u32>>,
	mask: u32,
	index: u32,
	toggle: u32,
}

impl Cursor {
	/// The page is read once: it appears while vcpus run.
	#[inline(always)]
	fn new(queue: QueueView) -> Self {
		Self {
			index: queue.index(),
			toggle: queue.toggle(),
			page: NonNull::new(queue.page() as *mut u32),
			mask: queue.mask(),
		}
	}

	/// The next entry, or 0 if there is none.
	#[inline(always)]
	fn next(&mut self) -> u32 {
		let Some(page) = self.page else {
			return 0;
		};
		// SAFETY: the queue has `mask` + 1 entries, and the index is below that. The XIVE writes
		// entries at any time.
		let entry = u32::from_be(unsafe { page.add(self.index as usize).read_volatile() });
		if entry >> 31 == self.toggle {
			return 0;
		}
		self.index = (self.index + 1) & self.mask;
		if self.index == 0 {
			self.toggle ^= 1;
		}
		entry & !(1 << 31)
	}

	/// The vcpu has taken what was read.
	#[inline(always)]
	fn keep(&self, queue: QueueView) {
		queue.set_index(self.index);
		queue.set_toggle(self.toggle);
	}
}

/// A field that other CPUs change atomically.
///
/// # Safety
///
/// The view must have a 32-bit field at the offset, which all others access atomically.
#[inline(always)]
unsafe fn atomic<'a>(structure: NonNull<u8>, offset: usize) -> &'a AtomicU32 {
	// SAFETY: a 32-bit field is there, which all others access atomically, as this function requires.
	unsafe { structure.add(offset).cast().as_ref() }
}

/// Interrupts that were routed to an empty queue, and are no more, do not count for it.
#[inline(always)]
fn settle(queue: QueueView) {
	if queue.left() == 0 {
		return;
	}
	// SAFETY: atomic_t in the kernel.
	let (left, count) = unsafe {
		(
			atomic(queue.address(), layout::QUEUE_LEFT.offset),
			atomic(queue.address(), layout::QUEUE_COUNT.offset),
		)
	};
	count.fetch_sub(left.swap(0, Ordering::Relaxed), Ordering::Relaxed);
}

/// A vcpu with XICS, whose context is on this CPU.
#[derive(Clone, Copy)]
pub struct Presenter<'a, B> {
	/// Its way to the XIVE.
	pub bus: &'a B,
	/// What KVM keeps of it.
	pub own: PresentationView,
	/// Its VM.
	pub kvm: KvmView,
}

impl<B: Bus> Presenter<'_, B> {
	/// Sets the CPPR in the XIVE.
	#[inline(always)]
	fn write_cppr(&self, cppr: u8) {
		self.own.set_hw_cppr(cppr);
		// SAFETY: the CPPR of the context on this CPU, which is the vcpu's.
		unsafe {
			self.bus
				.store8(self.bus.tima() + layout::TIMA_CPPR as u64, cppr);
		}
	}

	/// Takes note of the priority that the XIVE has an interrupt of.
	#[inline(always)]
	fn acknowledge(&self) {
		// Stores to the CPPR come before the load that depends on it.
		self.bus.eieio();
		let at = self.bus.tima() + layout::TIMA_ACK as u64;
		// SAFETY: acknowledges for the context on this CPU, which is the vcpu's.
		let ack = u16::from_be(unsafe { self.bus.load16(at) });
		// Before queues are read: what was acknowledged is in them.
		self.bus.sync();
		let [state, cppr] = ack.to_be_bytes();
		if state & layout::TIMA_ACK_INTERRUPT as u8 == 0 {
			return;
		}
		if cppr < 8 {
			self.own.set_pending(self.own.pending() | 1 << cppr);
		}
		// The XIVE has set it.
		self.own.set_hw_cppr(cppr);
	}

	/// Looks for the most favoured interrupt above the CPPR; 0 is none.
	#[inline(always)]
	fn scan(&self, mut pending: u8, scan: Scan) -> Result<u32, TooHard> {
		let own = self.own;
		let cppr = own.cppr();
		let mut found = 0;
		let mut priority = MASKED;
		let mut left = MOST;
		let mut is_too_long = false;
		while (pending != 0 || own.mfrr() != MASKED) && found == 0 {
			priority = match pending {
				0 => MASKED,
				_ => pending.trailing_zeros() as u8,
			};
			let queue = own.queue(priority.into());
			let Some(queue) = queue.filter(|_| priority < cppr) else {
				let mfrr = own.mfrr();
				if mfrr < cppr {
					(priority, found) = (mfrr, IPI);
				}
				break;
			};
			let mut cursor = Cursor::new(queue);
			loop {
				found = cursor.next();
				// An IPI says that the MFRR has changed, which is read below, and can be sent
				// again from now on. If that was meanwhile, Q was set, and the IPI is sent
				// at once. Without a page IPIs have no entry, and their priority is 0.
				if found == IPI || (priority == 0 && cursor.page.is_none()) {
					if scan == Scan::Fetch {
						let ipi = own.ipi();
						let at = eoi_page(self.bus, ipi).ok_or(TooHard)?;
						end(self.bus, ipi, at);
						cursor.keep(queue);
					}
					if found == 0 {
						break;
					}
				} else if found != DUMMY {
					break;
				}
				left -= 1;
				if left == 0 {
					is_too_long = true;
					break;
				}
			}
			if is_too_long {
				found = 0;
				break;
			}
			if found == 0 {
				pending &= !(1 << priority);
				settle(queue);
			}
			let mfrr = own.mfrr();
			if priority >= mfrr && mfrr < cppr {
				(priority, found) = (mfrr, IPI);
				break;
			}
			if scan == Scan::Fetch {
				cursor.keep(queue);
			}
		}
		// An H_EOI leaves a queue that is too long pending, which is right. Others are for C, which
		// goes on from here.
		if is_too_long && scan != Scan::Eoi {
			return Err(TooHard);
		}
		if scan == Scan::Poll {
			return Ok(found);
		}
		own.set_pending(pending);
		if scan == Scan::Eoi {
			return Ok(found);
		}
		if found != 0 {
			own.set_cppr(priority);
		}
		// The IPI has priority 0 in the XIVE, so the CPPR there may be too low.
		let cppr = own.cppr();
		if cppr != own.hw_cppr() {
			self.write_cppr(cppr);
		}
		Ok(found)
	}

	/// Has the XIVE look again for what is pending above the CPPR that will be written.
	#[inline(always)]
	fn push_pending(&self) {
		let mfrr = self.own.mfrr();
		let pending = self.own.pending()
			| match mfrr {
				MASKED => 0,
				8.. => 0x80,
				_ => 1 << mfrr,
			};
		if pending != 0 {
			let priority = pending.trailing_zeros() as u8;
			let at = self.bus.tima() + layout::TIMA_SET_PENDING as u64;
			// SAFETY: for the context on this CPU, which is the vcpu's.
			unsafe { self.bus.store8(at, priority) };
		}
	}

	/// The source of an interrupt, and the lock of its block.
	#[inline(always)]
	fn source(&self, irq: u32) -> Option<(SourceView, &AtomicU32)> {
		let block = (irq >> layout::XICS_BLOCK_SHIFT) as usize;
		if block >= layout::XICS_BLOCKS {
			return None;
		}
		// The number is the guest's: no load may be made beyond the array, not even speculatively.
		let block = block & (layout::XICS_BLOCKS - 1);
		let index = irq as usize & ((1 << layout::XICS_BLOCK_SHIFT) - 1);
		let xive = NonNull::new(self.kvm.xive() as *mut u8)?;
		// SAFETY: an array of that many pointers in the controller, which stays as long as a vcpu is
		// connected; each block has a power of two of sources.
		unsafe {
			let blocks = xive.add(layout::XIVE_BLOCKS).cast::<u64>();
			let block = NonNull::new(blocks.add(block).read_volatile() as *mut u8)?;
			let sources = block.add(layout::BLOCK_SOURCES);
			let source = SourceView::new(sources.add(index * layout::SIZEOF_SOURCE));
			Some((source, atomic(block, layout::BLOCK_LOCK)))
		}
	}

	/// The vcpu that the guest knows by this number. C looks at the low 32 bits, too.
	#[inline(always)]
	fn server(&self, number: u64) -> Result<Option<PresentationView>, TooHard> {
		let number = number as u32;
		if self.own.server() == number {
			return Ok(Some(self.own));
		}
		self.other_server(number)
	}

	/// Most guests have numbers without gaps, so the place in the array is the number.
	#[inline(never)]
	fn other_server(&self, number: u32) -> Result<Option<PresentationView>, TooHard> {
		if !self.bus.rcu_waits() {
			return Err(TooHard);
		}
		let is_it = |own: &PresentationView| own.server() == number;
		if let Some(found) = self.at(number)?.filter(is_it) {
			return Ok(Some(found));
		}
		let online = self.kvm.online_vcpus();
		for index in 0..online.min(MOST) {
			if let Some(found) = self.at(index)?.filter(is_it) {
				return Ok(Some(found));
			}
		}
		match online {
			..=MOST => Ok(None),
			_ => Err(TooHard),
		}
	}

	/// What KVM keeps for the XIVE of the vcpu at this place in the array of vcpus.
	#[inline(never)]
	fn at(&self, index: u32) -> Result<Option<PresentationView>, TooHard> {
		let entry = find_in_array(self.kvm.vcpus(), index)?;
		// SAFETY: the array has vcpus of this VM, which all stay as long as the VM.
		let vcpu = NonNull::new(entry as *mut u8).map(|vcpu| unsafe { VcpuView::new(vcpu) });
		let own = vcpu.and_then(|vcpu| NonNull::new(vcpu.xive_vcpu() as *mut u8));
		// SAFETY: see the module.
		Ok(own.map(|own| unsafe { PresentationView::new(own) }))
	}
}

/// The low bits of an entry of an XArray, for a node or another internal entry.
const XA_INTERNAL: u64 = 2;
/// The highest internal entry that is no node.
const XA_NO_NODE: u64 = 4096;
/// A node for each 6 bits of an index, at least 4.
const XA_DEPTH: u32 = 8;

/// The entry of an XArray (`include/linux/xarray.h`) at this place, or 0. `root` is its first
/// entry.
#[inline(always)]
fn find_in_array(root: u64, index: u32) -> Result<u64, TooHard> {
	let mut entry = root;
	// Without a node there is place 0 only.
	if entry & 3 != XA_INTERNAL && index != 0 {
		return Ok(0);
	}
	let mut is_top = true;
	for _ in 0..XA_DEPTH {
		match entry & 3 {
			0 => return Ok(entry),
			XA_INTERNAL if entry > XA_NO_NODE => {}
			// Reserved for a vcpu that is not there yet, or in the middle of a change.
			_ => return Err(TooHard),
		}
		// SAFETY: a node of the array, freed by RCU, which waits for this CPU.
		let node = unsafe {
			XaNodeView::new(NonNull::new((entry - XA_INTERNAL) as *mut u8).ok_or(TooHard)?)
		};
		let slot = index as usize >> (u32::from(node.shift()) & 31);
		if is_top && slot >= layout::XA_SLOTS {
			return Ok(0);
		}
		is_top = false;
		// Also without speculation it stays in the node: there is a power of two of slots.
		let slot = slot & (layout::XA_SLOTS - 1);
		// SAFETY: a slot of the node.
		entry = unsafe {
			let slots = node.address().add(layout::XA_NODE_SLOTS).cast::<u64>();
			slots.add(slot).read_volatile()
		};
	}
	Err(TooHard)
}

const _: () = assert!(layout::XICS_BLOCKS.is_power_of_two() && layout::XA_SLOTS.is_power_of_two());

/// Takes the lock of a block of sources, if it is free.
#[inline(always)]
fn try_lock<'a, B: Bus>(bus: &B, word: &'a AtomicU32) -> Result<SpinLock<'a>, TooHard> {
	SpinLock::try_new(word, bus.cpu()).ok_or(TooHard)
}
