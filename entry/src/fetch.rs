// SPDX-License-Identifier: GPL-2.0-only
//! The guest's instruction: a walk of a radix guest's tables.
//!
//! An access to a device has to be emulated, and a POWER9 does not tell the instruction. The guest's
//! quadrants could be read while its LPIDR is loaded (Power ISA 3.0B, Book III, 5.7.5.1), but QEMU
//! takes the addresses in a guest's tables for real addresses then, so nothing of that could be
//! tested. This walk reads the tables as the hypervisor reads any memory of the guest.
//!
//! Other vcpus of the guest can change tables and instruction at any time. Each value that is read is
//! checked, and the result is a word of this guest's memory, or `None`.

use powerpc::Msr;

use crate::views::{KvmView, VcpuView};

/// The bits of an effective address that are always 0 (EA bits 2 to 11): else a segment interrupt.
const EA_ZERO: u64 = 0x3ff << 52;

/// The bits of an effective address that real mode uses.
const REAL_MODE: u64 = (1 << 60) - 1;

/// Process table, as `kvm->arch.process_table` has it: where it is (PRTB), and the logarithm of its
/// size in 4 KiB (PRTS).
const PRTB: u64 = 0x0fff_ffff_ffff_f000;
const PRTS: u64 = 0x1f;
/// Bytes of one of its entries.
const PROCESS_ENTRY: u64 = 16;

/// Its entry: the size of the tree (RTS, in two fields), with an offset of 31.
const RTS_HIGH_SHIFT: u32 = 61;
const RTS_LOW_SHIFT: u32 = 5;
const RTS_OFFSET: u64 = 31;

/// A process table entry or page directory entry: the next level (RPDB, NLB), and the logarithm of
/// how many entries it has (RPDS, NLS).
const NEXT_TABLE: u64 = 0x0fff_ffff_ffff_ff00;
const NEXT_BITS: u64 = 0x1f;

/// An entry is valid, and an entry is a leaf.
const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
/// A leaf: its page, and its EAA bits.
const RPN: u64 = 0x01ff_ffff_ffff_f000;
const EAA_PRIVILEGED: u64 = 0x8;
const EAA_EXECUTE: u64 = 0x1;

/// What a POWER9 translates, in bits, and the bits of each level but the last (POWER9 Processor
/// User's Manual, 4.10.4).
const TREE_BITS: u64 = 52;
const LEVEL_BITS: [u64; 3] = [13, 9, 9];
const LAST_LEVEL_BITS: [u64; 2] = [5, 9];

/// The instruction at the vcpu's NIA, by `read`, which reads eight bytes at a guest real address.
///
/// The word is as memory has it, in the host's byte order: a guest of the other one has it swapped.
pub fn instruction(
	vcpu: VcpuView,
	kvm: KvmView,
	mut read: impl FnMut(u64) -> Option<u64>,
) -> Option<u32> {
	let nia = vcpu.nip();
	let msr = Msr::from_bits_retain(vcpu.msr());
	let address = match msr.contains(Msr::IR) {
		true => relocated(vcpu, kvm, nia, msr.contains(Msr::PR), &mut read)?,
		// Real mode ignores the upper bits (Power ISA 3.0B, Book III, 5.7.3.1).
		false => nia & REAL_MODE,
	};
	let word = read(address & !7)?;
	// The host is little-endian.
	Some((word >> (8 * (address & 4))) as u32)
}

/// The guest real address of `nia`, which the guest executes with translation on.
#[inline(always)]
fn relocated(
	vcpu: VcpuView,
	kvm: KvmView,
	nia: u64,
	user: bool,
	read: impl FnMut(u64) -> Option<u64>,
) -> Option<u64> {
	let pid = match nia >> 62 {
		0 => vcpu.pid().into(),
		3 => 0,
		// A guest has no such quadrants.
		_ => return None,
	};
	if nia & EA_ZERO != 0 {
		return None;
	}
	translate(kvm.process_table(), pid, nia, user, read)
}

/// The guest real address of what problem state, or else the guest's kernel, executes at `nia`.
#[inline(always)]
fn translate(
	table: u64,
	pid: u64,
	nia: u64,
	user: bool,
	mut read: impl FnMut(u64) -> Option<u64>,
) -> Option<u64> {
	let offset = pid * PROCESS_ENTRY;
	if offset >= 0x1000 << (table & PRTS) {
		return None;
	}
	let mut entry = u64::from_be(read((table & PRTB) + offset)?);
	let size = (entry >> RTS_HIGH_SHIFT & 3) << 3 | entry >> RTS_LOW_SHIFT & 7;
	if size + RTS_OFFSET != TREE_BITS {
		return None;
	}
	let mut shift = TREE_BITS;
	for level in 0..=LEVEL_BITS.len() {
		let bits = entry & NEXT_BITS;
		let is_known = match LEVEL_BITS.get(level) {
			Some(&known) => bits == known,
			None => LAST_LEVEL_BITS.contains(&bits),
		};
		let next = entry & NEXT_TABLE;
		// A table is aligned to its size.
		if !is_known || next & ((8 << bits) - 1) != 0 {
			return None;
		}
		shift -= bits;
		let index = nia >> shift & ((1 << bits) - 1);
		entry = u64::from_be(read(next + 8 * index)?);
		if entry & VALID == 0 {
			return None;
		}
		if entry & LEAF != 0 {
			let offset = (1 << shift) - 1;
			let page = entry & RPN;
			// In the root it would be a page of 512 GiB, which a POWER9 does not have.
			let is_usable = level > 0
				&& page & offset == 0
				&& entry & EAA_EXECUTE != 0
				&& !(user && entry & EAA_PRIVILEGED != 0);
			return is_usable.then_some(page | nia & offset);
		}
	}
	None
}

#[cfg(kernel)]
mod kernel {
	use core::ptr::NonNull;

	use super::*;
	use crate::entry_point::KvmVcpu;

	// SAFETY: a function of the glue with this type (kvm_p9_light.h).
	unsafe extern "C" {
		fn kvm_p9_light_read(vcpu: *mut KvmVcpu, address: u64, value: &mut u64) -> bool;
	}

	/// Puts the instruction at the vcpu's NIA into the vcpu, as its last, and returns whether it
	/// was to be had. Called by the glue in a light exit, and after a full one.
	///
	/// # Safety
	///
	/// `vcpu` must be a loaded vcpu of a radix guest, with all that the walk reads of it saved. Page
	/// faults must be disabled, and userspace readable.
	#[unsafe(no_mangle)]
	unsafe extern "C" fn kvm_p9_fetch(vcpu: NonNull<KvmVcpu>) -> bool {
		// SAFETY: `vcpu` is a loaded vcpu, which this function requires. A vcpu's VM lives as long as the vcpu.
		let (view, kvm) = unsafe {
			let view = VcpuView::new(vcpu.cast());
			(
				view,
				KvmView::new(NonNull::new_unchecked(view.kvm() as *mut u8)),
			)
		};
		let read = |address| {
			let mut value = 0;
			// SAFETY: it reads what the VM has registered as memory, and survives a fault.
			unsafe { kvm_p9_light_read(vcpu.as_ptr(), address, &mut value) }.then_some(value)
		};
		let Some(word) = instruction(view, kvm, read) else {
			return false;
		};
		view.set_last_inst(word.into());
		true
	}
}
