// SPDX-License-Identifier: GPL-2.0-only
//! Storage faults of a hash guest: is the fault the guest's own, or the host's?
//!
//! On a POWER9 all faults of a hash guest go to the hypervisor (LPCR\[VPM\]). Most are the guest's
//! own: the HPT has no HPTE, or the HPTE does not allow the access. The guest gets these as a data
//! or instruction storage interrupt. The host's are those for a page that the HPT has, but the host
//! does not, and for emulated devices.
//!
//! The answer is the one of `kvmppc_hpte_hv_fault()` and of its callers, but for an absent HPTE that
//! forbids the access: that fault leaves, and the kernel has the answer.

use crate::lock::Locked;
use crate::pte::{
	self, Pte, R_KEY_HI, R_KEY_LO, R_PP, R_PP0, V_ABSENT, V_AVPN, V_B_SHIFT, V_COMMON, V_FLAGS,
	V_LARGE, V_LOCK, V_SECONDARY, V_VALID,
};
use crate::{Guest, Hpte, Refusal};

/// In DSISR, and in SRR1 of an instruction storage interrupt: no translation was found.
pub const NO_HPTE: u32 = 1 << 30;
/// The page does not allow the access. In DSISR and in SRR1.
pub const PROTECTION: u32 = 1 << 27;
/// In DSISR: the access was a store.
pub const STORE: u32 = 1 << 25;
/// In DSISR: the storage key does not allow the access.
pub const KEY_FAULT: u32 = 1 << 21;

/// Of a segment, as in the second doubleword of an SLB entry: the size of the segment.
const B: u64 = 3 << V_B_SHIFT;
/// Kₛ and Kₚ: the key for privileged state and for problem state.
const KS: u64 = 0x800;
const KP: u64 = 0x400;
/// L and LP: the base page size.
const L: u64 = 0x100;
const LP: u64 = 0x30;

/// An access that faulted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
	/// The effective address.
	pub address: u64,
	/// The segment, as in the second doubleword of an SLB entry.
	pub segment: u64,
	/// DSISR, or the bits of SRR1 that say why, for a fetch.
	pub status: u32,
	/// Whether the access was the fetch of an instruction.
	pub is_fetch: bool,
	/// Whether the guest was in problem state.
	pub is_problem_state: bool,
	/// The guest's AMR, if storage keys apply: for data, with translation on.
	pub amr: Option<u64>,
}

/// Whose a fault is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
	/// The guest's: it gets a storage interrupt with this status.
	Guest(u32),
	/// None's any more: the guest tries again.
	Nobody,
	/// The host's, or a lock was held.
	Host,
}

/// Says whose a fault is. Changes nothing.
#[inline]
pub fn owner<G: Guest>(guest: &G, fault: Fault) -> Owner {
	let asks = if fault.is_fetch {
		NO_HPTE
	} else {
		NO_HPTE | PROTECTION
	};
	if fault.status & asks == 0 {
		return Owner::Guest(fault.status);
	}
	look(guest, fault).unwrap_or(Owner::Host)
}

#[inline]
fn look<G: Guest>(guest: &G, fault: Fault) -> Result<Owner, Refusal> {
	let is_missing = fault.status & NO_HPTE != 0;
	let wanted = Wanted::of(&fault);
	let Some((index, hpte)) = find(guest, wanted) else {
		return Ok(if is_missing {
			Owner::Guest(fault.status)
		} else {
			Owner::Nobody
		});
	};
	if is_missing {
		// Without the lock: to try again, or to leave, is never wrong. An absent HPTE may forbid
		// the access, too; the host finds out.
		return Ok(if hpte.v() & V_VALID != 0 {
			Owner::Nobody
		} else {
			Owner::Host
		});
	}
	let locked = Locked::new(hpte)?;
	if !wanted.fits(locked.pte()) {
		return Err(Refusal::TooHard);
	}
	let guest_r = guest.rev(index).ok_or(Refusal::TooHard)?.guest_r();
	drop(locked);
	Ok(match forbidden(&fault, guest_r) {
		Some(reason) => Owner::Guest(fault.status | reason),
		None => Owner::Host,
	})
}

/// Why the guest's own HPTE does not allow the access to data, if it does not.
#[inline]
fn forbidden(fault: &Fault, guest_r: u64) -> Option<u32> {
	let key = fault.segment & if fault.is_problem_state { KP } else { KS } != 0;
	let pp = guest_r & (R_PP0 | R_PP);
	let is_store = fault.status & STORE != 0;
	let is_allowed = match (key, is_store) {
		(false, false) => true,
		(false, true) => pp <= 2,
		(true, false) => (1..=3).contains(&pp),
		(true, true) => pp == 2,
	};
	if !is_allowed {
		return Some(PROTECTION);
	}
	let number = (guest_r & R_KEY_HI) >> 57 | (guest_r & R_KEY_LO) >> 9;
	// Two bits each, from the top: no store, no load.
	let mask = fault.amr? >> (62 - 2 * number) & 3;
	(mask & if is_store { 2 } else { 1 } != 0).then_some(KEY_FAULT)
}

/// What the HPTE of an access looks like, and where it is.
#[derive(Clone, Copy)]
struct Wanted {
	/// Bits of which one has to be set.
	in_use: u64,
	/// Bits that have to be as in `value`.
	mask: u64,
	/// B, L and AVPN.
	value: u64,
	/// Logarithm of the base page size.
	base: u32,
	/// The hash.
	hash: u64,
}

impl Wanted {
	#[inline]
	fn of(fault: &Fault) -> Self {
		let (address, segment) = (fault.address, fault.segment);
		let base = base_page_shift(segment);
		let (size, vsid) = if segment & 1 << V_B_SHIFT != 0 {
			let vsid = (segment & !B) >> 24;
			(40, vsid ^ vsid << 25)
		} else {
			(28, (segment & !B) >> 12)
		};
		let offset = address & ((1 << size) - 1);
		// The hash tells the low bits of the page number.
		let low = if base >= 24 {
			(1 << (base - 16)) - 1
		} else {
			V_FLAGS
		};
		let large = if segment & L != 0 { V_LARGE } else { 0 };
		let avpn = (segment & !((1 << (size - 16)) - 1) | offset >> 16) & !low;
		Self {
			in_use: if fault.status & NO_HPTE != 0 {
				V_VALID | V_ABSENT
			} else {
				// A valid HPTE has been there if the fault is for its protection.
				V_VALID
			},
			mask: B | V_AVPN | V_SECONDARY | large,
			value: avpn | large,
			base,
			hash: vsid ^ offset >> base,
		}
	}

	/// The HPTE is that one, but for its group.
	#[inline]
	fn fits(&self, pte: Pte) -> bool {
		pte.v & self.in_use != 0
			&& (pte.v ^ self.value) & (self.mask & !V_SECONDARY) == 0
			&& pte::shifts(pte.v, pte.r).is_some_and(|shifts| shifts.base == self.base)
	}
}

/// Looks for the HPTE of an access. The two halves of an HPTE that is being changed need not belong
/// together.
#[inline]
fn find<G: Guest>(guest: &G, wanted: Wanted) -> Option<(u64, &Hpte)> {
	let group_mask = (guest.table().len() as u64 / 8).wrapping_sub(1);
	let mut hash = wanted.hash & group_mask;
	for secondary in [0, V_SECONDARY] {
		let first = hash << 3;
		let group = guest.table().get(first as usize..)?.get(..8)?;
		for (index, hpte) in (first..).zip(group) {
			// B is in the other half, so most HPTEs need one load.
			let value = (wanted.value | secondary) & !B;
			let v = hpte.v();
			if v & wanted.in_use == 0 || (v ^ value) & wanted.mask & V_COMMON != 0 {
				continue;
			}
			if wanted.fits(Pte::decode(v & !V_LOCK, hpte.r())) {
				return Some((index, hpte));
			}
		}
		hash ^= group_mask;
	}
	None
}

/// Logarithm of a segment's base page size.
#[inline]
const fn base_page_shift(segment: u64) -> u32 {
	if segment & L == 0 {
		return 12;
	}
	match (segment & LP) >> 4 {
		0 => 24,
		1 => 16,
		2 => 34,
		// 1 MiB, which no HPTE has.
		_ => 20,
	}
}
