// SPDX-License-Identifier: GPL-2.0-only
//! The bodies of the hcalls.

use core::sync::atomic::AtomicU64;

use crate::lock::{Locked, find};
use crate::pte::{
	self, GR_MODIFIED, KEY, PROTECTION, Pte, R_C, R_G, R_I, R_KEY_HI, R_KEY_LO, R_M, R_N, R_PP,
	R_PP0, R_R, R_RPN, R_W, V_ABSENT, V_B_SHIFT, V_FLAGS, V_LOCK, V_VALID,
};
use crate::rmap::{self, slot_of, word_of};
use crate::{Guest, Hpte, Refusal, Rev};

/// H_ENTER: this HPTE, not any of its group.
pub const EXACT: u64 = 1 << (63 - 24);
/// H_READ: all of a group of four.
pub const READ_4: u64 = 1 << (63 - 26);
/// H_REMOVE and H_PROTECT: only if the AVPN is the one that is given.
pub const AVPN: u64 = 1 << (63 - 32);
/// H_REMOVE: only if none of the bits that are given is set.
pub const ANDCOND: u64 = 1 << (63 - 33);

/// HPTEs in a group.
const GROUP: u64 = 8;

/// Marks an HPTE as changed, if there is interest.
#[inline]
pub(crate) fn note(guest: &impl Guest, rev: &Rev) {
	if guest.wants_changes() {
		rev.set_guest_r(rev.guest_r() | GR_MODIFIED);
	}
}

/// H_REMOVE: takes an HPTE out of use. Returns the HPTE.
#[inline]
pub fn remove<G: Guest>(guest: &G, flags: u64, index: u64, avpn: u64) -> Result<Pte, Refusal> {
	let locked = Locked::new(find(guest, index)?)?;
	let mut pte = locked.pte();
	if !pte.is_in_use()
		|| flags & AVPN != 0 && pte.v & !V_FLAGS != avpn
		|| flags & ANDCOND != 0 && pte.v & avpn != 0
	{
		return Err(Refusal::NOT_FOUND);
	}
	let rev = guest.rev(index).ok_or(Refusal::TooHard)?;
	pte.v &= !V_LOCK;
	if pte.v & V_VALID != 0 {
		if let Some(word) = word_of(guest, pte.v, rev.guest_r())? {
			let mut chain = rmap::Locked::new(word)?;
			let neighbours = chain.neighbours(guest, rev)?;
			let rc = invalidate(guest, &locked, pte, index);
			rev.set_guest_r(rev.guest_r() | rc);
			chain.unlink(index, rev, neighbours);
			chain.collect(rc);
		} else {
			let rc = invalidate(guest, &locked, pte, index);
			rev.set_guest_r(rev.guest_r() | rc);
		}
	}
	let is_device = pte.is_device();
	pte.r = rev.guest_r() & !GR_MODIFIED;
	note(guest, rev);
	locked.unlock(0);
	if is_device {
		guest.forget_devices();
	}
	if pte.v & V_ABSENT != 0 {
		pte.v = pte.v & !V_ABSENT | V_VALID;
	}
	Ok(pte)
}

/// Makes an HPTE invalid for the MMU, and returns R and C.
#[inline]
fn invalidate<G: Guest>(guest: &G, locked: &Locked<'_>, pte: Pte, index: u64) -> u64 {
	locked.hpte.set_v(locked.v & !V_VALID);
	guest.flush(&[pte.translation(index)]);
	locked.hpte.r() & (R_R | R_C)
}

/// H_PROTECT: changes protection and storage key of an HPTE.
#[inline]
pub fn protect<G: Guest>(guest: &G, flags: u64, index: u64, avpn: u64) -> Result<(), Refusal> {
	let locked = Locked::new(find(guest, index)?)?;
	let old_r = locked.hpte.r();
	let pte = Pte::decode(locked.v, old_r);
	if !pte.is_in_use() || flags & AVPN != 0 && pte.v & !V_FLAGS != avpn {
		return Err(Refusal::NOT_FOUND);
	}
	let rev = guest.rev(index).ok_or(Refusal::TooHard)?;
	let bits = flags << 55 & R_PP0 | flags << 48 & R_KEY_HI | flags & (R_PP | R_N | R_KEY_LO);
	rev.set_guest_r(rev.guest_r() & !PROTECTION | bits);
	note(guest, rev);
	if pte.v & V_VALID != 0 {
		let mut r = old_r & !PROTECTION | bits;
		// A page that is read-only for the host, too, becomes writable by a fault.
		if pte::is_writable(r) && !pte::is_writable(old_r) {
			r = pte::read_only(r);
		}
		if r != old_r {
			locked.hpte.set_v(locked.v & !V_VALID | V_ABSENT);
			guest.flush(&[Pte { v: pte.v, r }.translation(index)]);
			locked.hpte.set_r(r | locked.hpte.r() & (R_R | R_C));
		}
	}
	let v = locked.v;
	locked.unlock(v);
	guest.sync();
	if pte.is_device() {
		guest.forget_devices();
	}
	Ok(())
}

/// H_READ: reads one HPTE or four of them. Returns them, and how many they are. An HPTE that is not in
/// use reads as zeros: what is left in the HPTE has a real address of the host.
#[inline]
pub fn read<G: Guest>(guest: &G, flags: u64, index: u64) -> Result<([Pte; 4], usize), Refusal> {
	find(guest, index)?;
	let (first, count) = if flags & READ_4 != 0 {
		(index & !3, 4)
	} else {
		(index, 1)
	};
	let mut read = [Pte { v: 0, r: 0 }; 4];
	for (index, pte) in (first..).zip(read.iter_mut().take(count)) {
		let hpte = find(guest, index)?;
		let found = Pte::decode(hpte.v() & !V_LOCK, hpte.r());
		if found.is_in_use() {
			let rev = guest.rev(index).ok_or(Refusal::TooHard)?;
			*pte = Pte {
				v: found.v & !V_ABSENT | V_VALID,
				r: (rev.guest_r() | found.r & (R_R | R_C)) & !GR_MODIFIED,
			};
		}
	}
	Ok((read, count))
}

/// H_CLEAR_REF: clears R. Returns the second doubleword as it was.
#[inline]
pub fn clear_ref<G: Guest>(guest: &G, index: u64) -> Result<u64, Refusal> {
	let locked = Locked::new(find(guest, index)?)?;
	let pte = locked.pte();
	if !pte.is_in_use() {
		return Err(Refusal::NOT_FOUND);
	}
	let rev = guest.rev(index).ok_or(Refusal::TooHard)?;
	let mut guest_r = rev.guest_r();
	let is_valid = pte.v & V_VALID != 0;
	let is_referenced = is_valid && pte.r & R_R != 0;
	let chain = if is_referenced {
		// R and C are not part of what the page is found by.
		let word = word_of(guest, pte.v, guest_r)?;
		word.map(rmap::Locked::new).transpose()?
	} else {
		None
	};

	if guest_r & R_R != 0 {
		rev.set_guest_r(guest_r & !R_R);
		note(guest, rev);
	}
	if is_valid {
		guest_r |= pte.r & (R_R | R_C);
	}
	if is_referenced {
		guest.clear_reference(locked.hpte);
		guest.flush_everywhere(pte.translation(index), false);
		if let Some(mut chain) = chain {
			chain.collect(R_R);
		}
	}
	let v = locked.v;
	locked.unlock(v);
	Ok(guest_r)
}

/// H_CLEAR_MOD: clears C. Returns the second doubleword as it was.
#[inline]
pub fn clear_mod<G: Guest>(guest: &G, index: u64) -> Result<u64, Refusal> {
	let locked = Locked::new(find(guest, index)?)?;
	let pte = locked.pte();
	if !pte.is_in_use() {
		return Err(Refusal::NOT_FOUND);
	}
	let rev = guest.rev(index).ok_or(Refusal::TooHard)?;
	let mut guest_r = rev.guest_r();
	if pte.v & V_VALID != 0 {
		// C would be logged.
		slot_of(guest, pte.v, guest_r)?;
	}
	if guest_r & R_C != 0 {
		rev.set_guest_r(guest_r & !R_C);
		note(guest, rev);
	}
	if pte.v & V_VALID != 0 {
		// Hardware sets C of a valid HPTE at any time.
		locked.hpte.set_v(locked.v & !V_VALID | V_ABSENT);
		guest.flush_everywhere(pte.translation(index), true);
		let r = locked.hpte.r();
		guest_r |= r & (R_R | R_C);
		if r & R_C != 0 {
			locked.hpte.set_r(r & !R_C);
			guest.order();
		}
	}
	let v = locked.v;
	locked.unlock(v);
	Ok(guest_r)
}

/// H_ENTER: puts an HPTE into a group, or into a place of it with [`EXACT`]. Returns its index.
#[inline]
pub fn enter<G: Guest>(
	guest: &G,
	flags: u64,
	index: u64,
	mut v: u64,
	mut r: u64,
) -> Result<u64, Refusal> {
	if v >> V_B_SHIFT & 2 != 0 {
		return Err(Refusal::PARAMETER);
	}
	let shift = pte::shifts(v, r).ok_or(Refusal::PARAMETER)?.actual;
	let offset = (1_u64 << shift) - 1;
	v &= !(V_LOCK | V_ABSENT | V_VALID);
	r &= !GR_MODIFIED;
	let guest_r = r;

	let notifications = guest.notifications();
	let address = r & R_RPN & !offset;
	let page = address >> G::PAGE_SHIFT;
	let mut word = None;
	match guest.slot(page).filter(|slot| !slot.is_invalid) {
		None => {
			v |= V_ABSENT;
			r |= KEY;
		}
		Some(slot) => {
			let mask = offset >> G::PAGE_SHIFT;
			if slot.first & mask != 0 || slot.pages & mask != 0 {
				return Err(Refusal::PARAMETER);
			}
			let user = slot
				.user
				.wrapping_add(page.wrapping_sub(slot.first) << G::PAGE_SHIFT);
			let entry = guest.host_entry(user, notifications, pte::is_writable(r))?;
			let mut host = 0;
			let mut is_uncached = false;
			if let Some(entry) = entry {
				if entry.size <= offset {
					return Err(Refusal::PARAMETER);
				}
				if let Some(found) = entry.page {
					if pte::is_writable(r) && !found.is_writable {
						r = pte::read_only(r);
					}
					is_uncached = found.is_uncached;
					host = found.address
						| user & entry.size.wrapping_sub(1)
						| address & ((1 << G::PAGE_SHIFT) - 1);
				}
			}
			r &= KEY | R_PP0 | offset;
			r |= host;
			if host != 0 {
				v |= V_VALID;
				// Before any lock: what the chain needs is here, or the hcall is C's.
				word = Some(guest.rmap(&slot, page).ok_or(Refusal::TooHard)?);
			} else {
				v |= V_ABSENT;
				r &= !KEY;
			}
			if entry.is_some() && !pte::caching_fits(r, is_uncached) {
				if is_uncached {
					return Err(Refusal::PARAMETER);
				}
				// A guest may map an emulated device uncached. Its memory is cached.
				r = r & !(R_W | R_I | R_G) | R_M;
			}
		}
	}

	let (index, locked) = find_free(guest, flags, index)?;
	insert(
		guest,
		index,
		locked,
		(Pte { v, r }, guest_r),
		word,
		notifications,
	)?;
	Ok(index)
}

/// An HPTE that is not in use, locked.
#[inline]
fn find_free<G: Guest>(guest: &G, flags: u64, index: u64) -> Result<(u64, Locked<'_>), Refusal> {
	let exact = find(guest, index)?;
	if flags & EXACT != 0 {
		let locked = Locked::new(exact)?;
		return match locked.v & (V_VALID | V_ABSENT) {
			0 => Ok((index, locked)),
			_ => Err(Refusal::PTEG_FULL),
		};
	}
	// As in find(): the branch above can be mispredicted.
	let first = index & (guest.table().len() as u64).wrapping_sub(1) & !(GROUP - 1);
	let group: &[Hpte] = guest
		.table()
		.get(first as usize..)
		.and_then(|from| from.get(..GROUP as usize))
		.ok_or(Refusal::PARAMETER)?;
	for (index, hpte) in (first..).zip(group) {
		if let Some(locked) = Locked::try_new(hpte, V_LOCK | V_VALID | V_ABSENT) {
			return Ok((index, locked));
		}
	}
	// One that was locked a moment ago may be free.
	for (index, hpte) in (first..).zip(group) {
		let locked = Locked::new(hpte)?;
		if locked.v & (V_VALID | V_ABSENT) == 0 {
			return Ok((index, locked));
		}
	}
	Err(Refusal::PTEG_FULL)
}

/// Writes a new HPTE, and links a valid one into the chain of its page.
#[inline]
fn insert<G: Guest>(
	guest: &G,
	index: u64,
	locked: Locked<'_>,
	(mut pte, guest_r): (Pte, u64),
	word: Option<&AtomicU64>,
	notifications: u64,
) -> Result<(), Refusal> {
	let rev = guest.rev(index).ok_or(Refusal::TooHard)?;
	let chain = word.map(rmap::Locked::new).transpose()?;
	if let Some(mut chain) = chain {
		if guest.is_invalidated(notifications) {
			pte.v = pte.v & !V_VALID | V_ABSENT;
			pte.r &= !KEY;
			rev.set_guest_r(guest_r);
			note(guest, rev);
		} else {
			let ends = chain.ends(guest)?;
			rev.set_guest_r(guest_r);
			note(guest, rev);
			chain.append(index, rev, ends);
			// Hardware must not know of R and C what the kernel does not know.
			pte.r &= chain.rc() | !(R_R | R_C);
		}
	} else {
		rev.set_guest_r(guest_r);
		note(guest, rev);
	}
	let (v, r) = pte.encode();
	locked.hpte.set_r(r);
	guest.order();
	locked.unlock_ordered(v);
	guest.sync();
	Ok(())
}
