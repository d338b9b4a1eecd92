// SPDX-License-Identifier: GPL-2.0-only
//! The vcpu that makes a TCE hcall, and the path that the hcall takes.

use core::cell::Cell;
use core::ptr::NonNull;

use hcall::Number;
use powerpc::{HostFacts, P9Vcpu};
use tce::{MAX_ENTRIES, Progress, Refusal, Table, Tce, TooHard, hcalls};

use super::at;
use super::guest_memory::Memory;
use crate::entry_point::vcpu_of;
use crate::layout::kernel as layout;
use crate::views::{KvmView, SlotsView, SttView, VcpuView};

// SAFETY: a variable of kvm_p9_main.c, which is written during boot only.
unsafe extern "C" {
	safe static kvm_p9_host_facts: u64;
}

/// Tables that may share a bucket before a handler gives up looking.
pub(crate) const LONGEST_CHAIN: usize = 8;

/// The vcpu that did the hcall.
///
/// For as long as this lives the vcpu is in a handler: its thread does nothing else, and
/// `kvm->srcu` is held, or RCU for H_GET_TCE on the full path.
pub(crate) struct HcallContext<'a> {
	pub(crate) p9: &'a P9Vcpu,
	pub(crate) vcpu: VcpuView,
	pub(crate) kvm: KvmView,
	pub(crate) path: CallSite,
}

/// How a handler was called.
#[derive(Clone, Copy)]
pub(crate) enum CallSite {
	/// By the trampoline.
	Fast,
	/// By the kernel.
	Full {
		/// The list is in `p9.tce_list`.
		list_read: bool,
		/// Interrupts are off.
		irqs_off: bool,
	},
}

impl CallSite {
	/// Checks that hardware tables and registered memory stay while the handler runs, and that
	/// no interrupt arrives while an entry is locked.
	pub(crate) fn may_write_hardware(self) -> Result<(), Refusal> {
		let facts = HostFacts::from_bits_retain(kvm_p9_host_facts);
		match self {
			Self::Fast if facts.contains(HostFacts::RCU_SEES_GUESTS) => Ok(()),
			Self::Fast => Err(TooHard::CFallback.into()),
			Self::Full { irqs_off: true, .. } => Ok(()),
			Self::Full {
				irqs_off: false, ..
			} => Err(TooHard::IrqsOff.into()),
		}
	}
}

impl<'a> HcallContext<'a> {
	/// # Safety
	///
	/// `p9` must be part of a vcpu which is in a handler for as long as `'a` lasts, called
	/// as `path` says.
	#[inline]
	pub(crate) unsafe fn new(p9: NonNull<P9Vcpu>, path: CallSite) -> Self {
		// SAFETY: that's where `struct kvm_vcpu` begins, of which this is a part. It has a VM
		// from its creation to its end, and its VM stays as long as it does. What others may do
		// with the part, its type allows.
		unsafe {
			let vcpu = vcpu_of(p9);
			let kvm = NonNull::new_unchecked(vcpu.own_kvm() as *mut u8);
			Self {
				p9: p9.as_ref(),
				vcpu,
				kvm: KvmView::new(kvm),
				path,
			}
		}
	}

	/// The table with the LIOBN in r4.
	#[inline]
	pub(crate) fn table(&self) -> Result<SttView, Refusal> {
		let liobn = self.vcpu.gpr4();
		// hash_32() of linux/hash.h: a LIOBN has 32 bits, and two that differ above share a
		// bucket.
		let hash = (liobn as u32).wrapping_mul(layout::HASH_32_FACTOR as u32);
		let bucket = (hash >> (32 - layout::KVM_P9_TABLE_BITS)) as usize;
		let buckets = self.kvm.address();
		// SAFETY: the array has 1 << KVM_P9_TABLE_BITS elements, which others write.
		let mut next = unsafe {
			let buckets = buckets.add(layout::KVM_P9_TABLES).cast::<u64>();
			buckets.add(bucket).read_volatile()
		};
		for _ in 0..LONGEST_CHAIN {
			let Some(table) = at(next) else {
				return Err(TooHard::Userspace.into());
			};
			// SAFETY: tables stay while `kvm->srcu` is held, or RCU outside of a guest, and
			// one that was removed still leads on to the next.
			let stt = unsafe { SttView::new(table) };
			if stt.liobn() == liobn {
				return Ok(stt);
			}
			next = stt.p9_next();
		}
		Err(TooHard::CFallback.into())
	}

	/// Out-of-line copy of [`table`](Self::table), for callers that are not performance critical.
	#[inline(never)]
	pub(crate) fn table_apart(&self) -> Result<SttView, Refusal> {
		self.table()
	}

	/// The guest's memory, as it is now.
	#[inline]
	pub(crate) fn memory(&self) -> Memory<'_> {
		// SAFETY: a VM has memory slots from its creation to its end. They are read under
		// `kvm->srcu`, which keeps what they point to: H_GET_TCE does not come here.
		let slots = unsafe {
			let slots = NonNull::new_unchecked(self.kvm.memslots() as *mut u8);
			SlotsView::new(slots)
		};
		Memory {
			caller: self,
			slots,
			region: Cell::new(None),
		}
	}

	/// Has a body answer the hcall of that number on this table, or a part of it.
	#[inline(always)]
	pub(crate) fn run(
		&self,
		table: &impl Table,
		number: Number,
		progress: &mut Progress,
	) -> Result<(), Refusal> {
		let ioba = self.vcpu.gpr5();
		let (r6, r7) = (|| self.vcpu.gpr6(), || self.vcpu.gpr7());
		match number {
			Number::GET_TCE => {
				let tce = hcalls::get(table, ioba)?;
				self.vcpu.set_gpr4(tce.0);
			}
			Number::PUT_TCE => hcalls::put(table, &self.memory(), ioba, Tce(r6()))?,
			// A vcpu is in one handler at a time, so no other code uses the buffer.
			Number::PUT_TCE_INDIRECT => {
				let (memory, list) = (self.memory(), &self.p9.tce_list);
				hcalls::put_indirect(table, &memory, list, ioba, r6(), r7(), progress)?;
			}
			Number::STUFF_TCE => {
				let (value, pages) = (Tce(r6()), r7());
				if matches!(self.path, CallSite::Fast) && pages > MAX_ENTRIES as u64 {
					return Err(TooHard::Resched.into());
				}
				hcalls::stuff(table, &self.memory(), ioba, value, pages, progress)?;
			}
			_ => return Err(TooHard::CFallback.into()),
		}
		Ok(())
	}
}
