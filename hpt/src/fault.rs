// SPDX-License-Identifier: GPL-2.0-only
//! Storage faults of a hash guest: is the fault the guest's own, or the host's?
//!
//! On a POWER9 all faults of a hash guest go to the hypervisor (LPCR\[VPM\]). Most are the guest's
//! own: the HPT has no HPTE, or the HPTE does not allow the access. The guest gets these as a data
//! or instruction storage interrupt. The host's are those for a page that the HPT has, but the host
//! does not, and for emulated devices.
//!
//! The answer is the one of `kvmppc_hpte_hv_fault()` and of its callers.

use crate::lock::Locked;
use crate::pte::{
	self, Pte, R_G, R_KEY_HI, R_KEY_LO, R_N, R_PP, R_PP0, V_ABSENT, V_AVPN, V_B_SHIFT, V_FLAGS,
	V_LARGE, V_LOCK, V_SECONDARY, V_VALID,
};
use crate::{Guest, Refusal};

/// In DSISR, and in SRR1 of an instruction storage interrupt: no translation was found.
pub const NO_HPTE: u32 = 1 << 30;
/// In SRR1: the page is not executable, or guarded.
pub const NO_EXECUTE: u32 = 1 << 28;
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
	// A valid HPTE has been there if the fault is for its protection.
	let in_use = if is_missing {
		V_VALID | V_ABSENT
	} else {
		V_VALID
	};
	let Some((index, locked)) = find(guest, &fault, in_use)? else {
		return Ok(if is_missing {
			Owner::Guest(fault.status)
		} else {
			Owner::Nobody
		});
	};
	if is_missing && locked.v & V_VALID != 0 {
		return Ok(Owner::Nobody);
	}
	let guest_r = guest.rev(index).ok_or(Refusal::TooHard)?.guest_r();
	drop(locked);
	let status = fault.status & !NO_HPTE;
	Ok(match forbidden(&fault, guest_r) {
		Some(reason) => Owner::Guest(status | reason),
		None => Owner::Host,
	})
}

/// Why the guest's own HPTE does not allow the access, if it does not.
#[inline]
fn forbidden(fault: &Fault, guest_r: u64) -> Option<u32> {
	let key = fault.segment & if fault.is_problem_state { KP } else { KS } != 0;
	let pp = guest_r & (R_PP0 | R_PP);
	let may_read = !key || (1..=3).contains(&pp);
	if fault.is_fetch {
		if guest_r & (R_N | R_G) != 0 {
			return Some(NO_EXECUTE);
		}
		return (!may_read).then_some(PROTECTION);
	}
	let is_store = fault.status & STORE != 0;
	let may_write = if key { pp == 2 } else { pp <= 2 };
	if !(if is_store { may_write } else { may_read }) {
		return Some(PROTECTION);
	}
	let number = (guest_r & R_KEY_HI) >> 57 | (guest_r & R_KEY_LO) >> 9;
	// Two bits each, from the top: no store, no load.
	let mask = fault.amr? >> (62 - 2 * number) & 3;
	(mask & if is_store { 2 } else { 1 } != 0).then_some(KEY_FAULT)
}

/// Looks for the HPTE of an access, and locks it.
#[inline]
fn find<'g, G: Guest>(
	guest: &'g G,
	fault: &Fault,
	in_use: u64,
) -> Result<Option<(u64, Locked<'g>)>, Refusal> {
	let (address, segment) = (fault.address, fault.segment);
	let base = base_page_shift(segment);
	let mut mask = B | V_AVPN | V_SECONDARY;
	let mut wanted = 0;
	if segment & L != 0 {
		mask |= V_LARGE;
		wanted = V_LARGE;
	}
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
	wanted |= (segment & !((1 << (size - 16)) - 1) | offset >> 16) & !low;

	let groups = guest.table().len() as u64 / 8;
	let group_mask = groups.wrapping_sub(1);
	let mut hash = (vsid ^ offset >> base) & group_mask;
	for secondary in [0, V_SECONDARY] {
		wanted |= secondary;
		let first = hash << 3;
		let group = guest
			.table()
			.get(first as usize..)
			.and_then(|from| from.get(..8));
		for (index, hpte) in (first..).zip(group.unwrap_or_default()) {
			let fits = |v: u64, r: u64| {
				let pte = Pte::decode(v, r);
				pte.v & in_use != 0 && pte.v & mask == wanted
			};
			// Without the lock the two halves need not belong together.
			if !fits(hpte.v() & !V_LOCK, hpte.r()) {
				continue;
			}
			let locked = Locked::new(hpte)?;
			let pte = locked.pte();
			if fits(pte.v & !V_LOCK, hpte.r())
				&& pte::shifts(pte.v, pte.r).is_some_and(|shifts| shifts.base == base)
			{
				return Ok(Some((index, locked)));
			}
		}
		hash ^= group_mask;
	}
	Ok(None)
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
