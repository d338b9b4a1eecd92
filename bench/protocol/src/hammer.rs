// SPDX-License-Identifier: GPL-2.0-only
//! Page table hcalls of several vcpus while the VMM changes what the page table maps.
//!
//! All vcpus work in the same groups of the page table (HPT). Some entries (HPTEs) of a group are a
//! vcpu's own: only that vcpu changes them, and knows what they have. The other HPTEs are contended.
//! The first doubleword of a contended HPTE has a stamp that is used once, and the second doubleword
//! follows from the stamp. So each stamp that was entered is removed once, or is in the HPT at the end.
//!
//! All HPTEs are bolted, and their hash is that of a group of the smallest HPT. So KVM moves an HPTE
//! to the same index when it resizes the HPT.

use core::mem::offset_of;
use static_assertions::{assert_eq_size, const_assert, const_assert_eq};

use crate::map;

/// The vcpus.
pub const VCPUS: usize = 2;
/// Groups in which each vcpu has HPTEs of its own.
pub const GROUPS: [u64; 4] = [0x100, 0x101, 0x2a0, 0x37f];
/// Groups whose HPTEs are all contended.
pub const OPEN_GROUPS: [u64; 2] = [0x1fe, 0x40];
/// HPTEs of a group.
pub const GROUP: u64 = 8;
/// HPTEs of a vcpu's own in a group: the first has a page of 64 KiB, the second one of 4 KiB.
pub const OWN_OF_GROUP: usize = 2;
/// HPTEs of a vcpu's own.
pub const OWN: usize = GROUPS.len() * OWN_OF_GROUP;
/// Contended HPTEs in one of [`GROUPS`].
const CONTENDED_OF_GROUP: u64 = GROUP - (VCPUS * OWN_OF_GROUP) as u64;
/// Contended HPTEs.
pub const CONTENDED: u64 =
	GROUPS.len() as u64 * CONTENDED_OF_GROUP + OPEN_GROUPS.len() as u64 * GROUP;

/// First doubleword: in use, and so are the bits that follow.
pub const V_VALID: u64 = 1;
/// A page larger than 4 KiB.
const V_LARGE: u64 = 4;
/// Kept when the HPT is resized.
const V_BOLTED: u64 = 0x10;
/// All but the abbreviated virtual page number.
pub const V_FLAGS: u64 = 0x7f;
/// Second doubleword: referenced.
pub const R_R: u64 = 0x100;
/// Changed.
pub const R_C: u64 = 0x80;
/// Memory coherence, as all memory is mapped.
const R_M: u64 = 0x10;
/// Read and write.
pub const PP_WRITE: u64 = 2;
/// Read only.
pub const PP_READ: u64 = 3;
/// What H_PROTECT sets: protection, no execution, and the storage key.
pub const PROTECTION: u64 = 1 << 63 | 3 << 60 | 0xe00 | 7;
/// KVM's mark for KVM_PPC_GET_HTAB_FD, which H_CLEAR_REF and H_CLEAR_MOD return.
pub const MARKED: u64 = 1 << 62;
/// The address in the second doubleword, without the size of a page.
const R_ADDRESS: u64 = 0x0fff_ffff_ffff_0000;
/// A page of 64 KiB.
const R_LP_64K: u64 = 0x1000;

/// A page of the host.
pub const PAGE: u64 = 1 << 16;
/// Pages that are used of each memory slot.
pub const SLOT_PAGES: u64 = 8;
/// A slot whose memory stays, shared.
pub const STAYS: usize = 0;
/// A slot of private memory: a page becomes another one when it is written after a fork.
pub const PRIVATE: usize = 1;
/// A slot whose dirty pages are logged.
pub const LOGGED: usize = 2;
/// A slot that comes, moves and goes. A vcpu does not access its pages.
pub const MOVES: usize = 3;
/// Slots that vcpus access.
pub const ACCESSED: u64 = 3;
/// Addresses of the slots, and the second address of the last one.
pub const ADDRESSES: [u64; 5] = [1 << 34, 2 << 34, 3 << 34, 4 << 34, 5 << 34];
/// From one page that is used to the next.
pub const STRIDES: [u64; 4] = [PAGE, 8 * PAGE, PAGE, PAGE];
/// Parts of 4 KiB of a page that are used.
pub const PARTS: u64 = 4;
/// Size of a part.
pub const PART: u64 = 4096;
/// Parts that a vcpu writes.
pub const WRITTEN: usize = (ACCESSED * SLOT_PAGES * PARTS) as usize;

/// Size of a slot.
pub const fn size(slot: usize) -> u64 {
	SLOT_PAGES * STRIDES[slot]
}

/// The index of an HPTE of a vcpu's own.
pub const fn own_index(vcpu: usize, own: usize) -> u64 {
	let in_group = vcpu * OWN_OF_GROUP + own % OWN_OF_GROUP;
	GROUPS[own / OWN_OF_GROUP] * GROUP + in_group as u64
}

/// The index of a contended HPTE.
pub const fn contended_index(number: u64) -> u64 {
	let open = OPEN_GROUPS.len() as u64 * GROUP;
	if number < open {
		return OPEN_GROUPS[(number / GROUP) as usize] * GROUP + number % GROUP;
	}
	let number = number - open;
	let group = GROUPS[(number / CONTENDED_OF_GROUP) as usize];
	group * GROUP + GROUP - CONTENDED_OF_GROUP + number % CONTENDED_OF_GROUP
}

/// Whether an HPTE is contended.
pub fn is_contended(index: u64) -> bool {
	(0..CONTENDED).any(|number| contended_index(number) == index)
}

/// The page number in a segment that has this group for its hash.
const fn page_number(vsid: u64, group: u64) -> u64 {
	// Of the smallest HPT. The bits of a VSID above have no part in the hash of larger ones that are
	// used.
	(vsid & 0x7ff) ^ group
}

/// A first doubleword of that group.
const fn v_of(vsid: u64, group: u64, is_large: bool) -> u64 {
	let (shift, large) = if is_large { (16, V_LARGE) } else { (12, 0) };
	let address = vsid << 28 | page_number(vsid, group) << shift;
	(address >> 23) << 7 | large | V_BOLTED | V_VALID
}

/// Bits of a VSID that have no part in a hash begin here.
const VSID_FREE: u32 = 13;
/// VSIDs below this are a vcpu's own.
const FIRST_STAMP: u64 = 16;

/// The virtual segment of a vcpu's own HPTEs, of either kind.
pub const fn own_vsid(vcpu: usize, kind: usize) -> u64 {
	const LOW: [u64; OWN_OF_GROUP] = [0x155, 0x2aa];
	((1 + vcpu * OWN_OF_GROUP + kind) as u64) << VSID_FREE | LOW[kind]
}

/// The effective segment of the same, as a shifted number.
pub const fn own_segment(kind: usize) -> u64 {
	(1 + kind as u64) << 28
}

/// Whether an HPTE of a vcpu's own has a page of 64 KiB.
pub const fn is_large(own: usize) -> bool {
	own.is_multiple_of(OWN_OF_GROUP)
}

/// The first doubleword of an HPTE of a vcpu's own.
pub const fn own_v(vcpu: usize, own: usize) -> u64 {
	let vsid = own_vsid(vcpu, own % OWN_OF_GROUP);
	v_of(vsid, GROUPS[own / OWN_OF_GROUP], is_large(own))
}

/// The effective address that it translates.
pub const fn own_address(vcpu: usize, own: usize) -> u64 {
	let kind = own % OWN_OF_GROUP;
	let page = page_number(own_vsid(vcpu, kind), GROUPS[own / OWN_OF_GROUP]);
	own_segment(kind) | page << if is_large(own) { 16 } else { 12 }
}

/// Where a page is: of a slot by number, and of the moving slot at one of its addresses. What is above
/// all slots is a device.
pub const fn page_address(number: u64, second: bool) -> u64 {
	let slot = (number / SLOT_PAGES) as usize;
	if slot > MOVES {
		return map::MMIO_EVENT;
	}
	let address = ADDRESSES[if slot == MOVES && second {
		MOVES + 1
	} else {
		slot
	}];
	address + number % SLOT_PAGES * STRIDES[slot]
}

/// Pages of all slots, and a device.
pub const PAGES: u64 = 4 * SLOT_PAGES + 1;

/// The second doubleword that maps a page, or a part of the page.
pub const fn r_of(address: u64, part: u64, is_large: bool) -> u64 {
	let low = if is_large { R_LP_64K } else { part * PART };
	address | low | R_M
}

/// Mixes bits.
pub const fn mix(value: u64) -> u64 {
	let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
	let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
	value ^ value >> 31
}

const fn is_stamp_large(stamp: u64) -> bool {
	mix(stamp) & 1 != 0
}

/// The first doubleword with a stamp, for an HPTE of that group.
pub const fn contended_v(stamp: u64, index: u64) -> u64 {
	let vsid = (FIRST_STAMP + stamp) << VSID_FREE | (mix(stamp) >> 1 & 0x7ff);
	v_of(vsid, index / GROUP, is_stamp_large(stamp))
}

/// The second doubleword that goes with a stamp.
pub const fn contended_r(stamp: u64) -> u64 {
	let mixed = mix(stamp) >> 12;
	let address = page_address(mixed % PAGES, mixed >> 8 & 1 != 0);
	let r = r_of(address, mixed >> 9 & (PARTS - 1), is_stamp_large(stamp));
	r | PP_WRITE | mixed & (R_R | R_C)
}

/// The stamp of an HPTE at that index, if one of [`contended_v`] is there.
pub const fn stamp_of(index: u64, v: u64) -> Option<u64> {
	let Some(stamp) = (v >> 12 >> VSID_FREE).checked_sub(FIRST_STAMP) else {
		return None;
	};
	if v == contended_v(stamp, index) {
		Some(stamp)
	} else {
		None
	}
}

/// Whether a second doubleword is that of a stamp. H_PROTECT may have changed it.
pub const fn fits_stamp(stamp: u64, r: u64) -> bool {
	(r ^ contended_r(stamp)) & !(PROTECTION | R_R | R_C | MARKED) == 0
}

/// What the first word of a part has, by the address of the page and the number of the part.
pub const fn mark(address: u64, part: u64) -> u64 {
	mix((address | part) + 1)
}

/// Offset in a part of the word that a vcpu writes.
pub const fn written_at(vcpu: usize) -> u64 {
	128 * (1 + vcpu as u64)
}

/// The page and the part of a second doubleword: the number among those that vcpus access, if it is
/// one of them, and the address.
pub fn accessed_page(r: u64) -> Option<(u64, u64)> {
	let address = r & R_ADDRESS;
	let is_it = |number: &u64| page_address(*number, false) == address;
	let number = (0..ACCESSED * SLOT_PAGES).find(is_it)?;
	Some((number, address))
}

/// The part that a second doubleword of a page of 4 KiB maps.
pub const fn part_of(r: u64) -> u64 {
	r >> 12 & 15
}

/// What a vcpu knows of an HPTE of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Own {
	/// The second doubleword without R and C; 0 if the HPTE is not in use.
	pub r: u64,
	/// R and C that must be set.
	pub set: u64,
	/// R and C that may be set.
	pub may: u64,
}

/// Hcalls that are counted: H_ENTER, H_REMOVE, H_BULK_REMOVE, H_PROTECT, H_READ, H_CLEAR_REF,
/// H_CLEAR_MOD.
pub const HCALLS: usize = 7;

/// What a vcpu works with, and what came of it.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Hammer {
	/// Where its random numbers start.
	pub seed: u64,
	/// Its number among those that hammer.
	pub vcpu: u64,
	/// Hcalls of each kind that were answered H_SUCCESS.
	pub succeeded: [u64; HCALLS],
	/// Hcalls so far.
	pub rounds: u64,
	/// Loads and stores by HPTEs of its own.
	pub loads: u64,
	/// See `loads`.
	pub stores: u64,
	/// Contended HPTEs that it entered: how many, and the sum of their mixed stamps.
	pub entered: [u64; 2],
	/// The same of those that it removed.
	pub removed: [u64; 2],
	/// Contended HPTEs that were in use when it wanted to enter one, or not the same any more when it
	/// wanted to change one.
	pub lost: [u64; 2],
	/// How often something was wrong.
	pub bad: u64,
	/// The first time: which check, and what is known of it.
	pub first_bad: [u64; 6],
	/// The HPTEs of its own.
	pub own: [Own; OWN],
	/// What it wrote last into each part of each page.
	pub written: [u64; WRITTEN],
}

impl Default for Hammer {
	fn default() -> Self {
		Self {
			seed: 0,
			vcpu: 0,
			succeeded: [0; HCALLS],
			rounds: 0,
			loads: 0,
			stores: 0,
			entered: [0; 2],
			removed: [0; 2],
			lost: [0; 2],
			bad: 0,
			first_bad: [0; 6],
			own: [Own::default(); OWN],
			written: [0; WRITTEN],
		}
	}
}

assert_eq_size!(Hammer, [u64; HCALLS + 18 + 3 * OWN + WRITTEN]);
const_assert_eq!(offset_of!(Hammer, succeeded), 16);
const_assert_eq!(offset_of!(Hammer, own), 8 * (HCALLS + 18));
const_assert!(size_of::<Hammer>() as u64 <= map::CONTENDER_VPA);
const_assert!(written_at(VCPUS - 1) + 8 <= PART);
const_assert!(PARTS * PART <= PAGE);

#[cfg(test)]
mod tests {
	use super::*;
	use std::collections::BTreeSet;

	/// The hash of what a first doubleword translates, in an HPT of so many groups.
	fn group_of(v: u64, index: u64, groups: u64) -> u64 {
		let vsid = v >> 12;
		let shift = if v & V_LARGE != 0 { 16 } else { 12 };
		let high = (v >> 7 & 0x1f) << 23;
		let low = ((vsid ^ (index / GROUP)) & 0x7ff) << shift;
		(vsid ^ ((high | low) >> shift)) & (groups - 1)
	}

	#[test]
	fn an_hpte_keeps_its_index_in_each_hpt() {
		for order in [18, 19, 20] {
			let groups = 1 << (order - 7);
			for vcpu in 0..VCPUS {
				for own in 0..OWN {
					let index = own_index(vcpu, own);
					assert_eq!(group_of(own_v(vcpu, own), index, groups), index / GROUP);
				}
			}
			for stamp in (0..5000).chain([(1 << 26) - 1]) {
				let index = contended_index(stamp % CONTENDED);
				let v = contended_v(stamp, index);
				assert_eq!(group_of(v, index, groups), index / GROUP);
				// A POWER9 has 68 bits of virtual address.
				assert!(v >> 52 == 0);
			}
		}
	}

	#[test]
	fn every_hpte_has_one_index() {
		let own = (0..VCPUS).flat_map(|vcpu| (0..OWN).map(move |own| own_index(vcpu, own)));
		let all: BTreeSet<u64> = own.chain((0..CONTENDED).map(contended_index)).collect();
		let groups = (GROUPS.len() + OPEN_GROUPS.len()) as u64;
		assert_eq!(all.len() as u64, groups * GROUP);
		assert!(!is_contended(own_index(1, 3)) && is_contended(contended_index(9)));
	}

	#[test]
	fn a_stamp_is_found() {
		for stamp in 0..2000 {
			let index = contended_index(mix(stamp) % CONTENDED);
			let v = contended_v(stamp, index);
			assert_eq!(stamp_of(index, v), Some(stamp));
			assert_eq!(stamp_of(index, v ^ 1 << 7), None);
			assert!(fits_stamp(stamp, contended_r(stamp) | R_C | 3 << 60));
			assert!(!fits_stamp(stamp, contended_r(stamp) ^ PAGE));
		}
		for own in 0..OWN {
			assert_eq!(stamp_of(own_index(0, own), own_v(0, own)), None);
		}
	}

	#[test]
	fn a_second_doubleword_leads_back_to_its_page() {
		for number in 0..PAGES {
			for part in 0..PARTS {
				let address = page_address(number, false);
				let r = r_of(address, part, false);
				let accessed = number < ACCESSED * SLOT_PAGES;
				assert_eq!(accessed_page(r), accessed.then_some((number, address)));
				assert_eq!(part_of(r), part);
			}
		}
		let parts: BTreeSet<u64> = (0..PAGES)
			.flat_map(|number| (0..PARTS).map(move |part| mark(page_address(number, true), part)))
			.collect();
		assert_eq!(parts.len() as u64, PAGES * PARTS);
	}

	#[test]
	fn addresses_of_a_vcpu_differ() {
		let addresses: BTreeSet<u64> = (0..OWN).map(|own| own_address(0, own) >> 12).collect();
		assert_eq!(addresses.len(), OWN);
	}
}
