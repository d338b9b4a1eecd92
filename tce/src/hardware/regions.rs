// SPDX-License-Identifier: GPL-2.0-only
//! Memory that is registered for DMA, and how many entries map it.

use super::MAX_REGIONS;
use crate::{GuestMemory, Permission, Refusal, Tce, TooHard};

/// Memory that userspace has registered for DMA.
pub trait Region: Copy + PartialEq {
	/// The host address of `1 << shift` bytes at a userspace address, if they are all of
	/// this region, in one piece in the host, and aligned there.
	fn host(&self, user: u64, shift: u32) -> Option<u64>;

	/// Counts so many entries more. Not if it is being unregistered.
	fn inc_mapped(&self, count: u64) -> bool;

	/// Counts so many entries less.
	fn dec_mapped(&self, count: u64);

	/// A device may have written the page at this address.
	fn set_dirty(&self, user: u64);
}

/// How many entries of which regions.
pub(super) struct Tally<R> {
	pub(super) regions: [Option<(R, u64)>; MAX_REGIONS],
}

impl<R: Region> Tally<R> {
	pub(super) const fn new() -> Self {
		Self {
			regions: [None; MAX_REGIONS],
		}
	}

	/// Is there room for any region?
	pub(super) fn has_room(&self) -> bool {
		self.regions[MAX_REGIONS - 1].is_none()
	}

	/// One more of this region; not if there are too many regions.
	#[inline(never)]
	pub(super) fn add(&mut self, region: R) -> bool {
		for place in &mut self.regions {
			match place {
				Some((known, count)) if *known == region => {
					*count += 1;
					return true;
				}
				Some(_) => {}
				None => {
					*place = Some((region, 1));
					return true;
				}
			}
		}
		false
	}

	pub(super) fn regions(&self) -> impl Iterator<Item = R> {
		self.regions
			.iter()
			.map_while(|place| Some(place.as_ref()?.0))
	}

	/// Counts them all at their regions, or none.
	pub(super) fn inc_mapped(&self) -> bool {
		for (taken, (region, count)) in self.regions.iter().flatten().enumerate() {
			if !region.inc_mapped(*count) {
				for (region, count) in self.regions.iter().flatten().take(taken) {
					region.dec_mapped(*count);
				}
				return false;
			}
		}
		true
	}

	/// Counts them back, and forgets them.
	#[inline(never)]
	pub(super) fn dec_mapped(&mut self) {
		for place in &mut self.regions {
			if let Some((region, count)) = place.take() {
				region.dec_mapped(count);
			}
		}
	}
}

/// What one entry of the guest's table becomes in one of a hardware table.
pub(super) struct Mapping<R> {
	pub(super) region: R,
	pub(super) user: u64,
	/// As the hardware wants it, in this CPU's byte order.
	pub(super) tce: u64,
}

/// Finds the page, or part of a page of the guest's table, that entry `part` of those
/// for `tce` maps, in one of the regions that are `known` already if it can. `None` if
/// `tce` maps nothing.
#[inline]
pub(super) fn mapping<G: GuestMemory>(
	guest: &G,
	known: &Tally<G::Region>,
	tce: Tce,
	part: u64,
	shift: u32,
) -> Result<Option<Mapping<G::Region>>, Refusal> {
	if tce.is_mapping() {
		translate(guest, known, tce, part, shift).map(Some)
	} else {
		Ok(None)
	}
}

#[inline(never)]
pub(super) fn translate<G: GuestMemory>(
	guest: &G,
	known: &Tally<G::Region>,
	tce: Tce,
	part: u64,
	shift: u32,
) -> Result<Mapping<G::Region>, Refusal> {
	// Look up each part alone: the page may continue in another slot, or end with its slot.
	let address = tce.address().wrapping_add(part << shift);
	let memory = guest.memory(address);
	let user = memory
		.and_then(|memory| memory.user(address, 1 << shift))
		.ok_or(TooHard::Userspace)?;
	let in_region = |region: G::Region| Some((region, region.host(user, shift)?));
	let (region, host) = match known.regions().find_map(in_region) {
		Some(found) => found,
		None => in_region(guest.region(user, 1 << shift)?).ok_or(TooHard::Userspace)?,
	};
	let mut permission = tce.permission();
	// The hardware knows no pages that can only be written.
	if permission.contains(Permission::WRITE) {
		permission |= Permission::READ;
	}
	Ok(Mapping {
		region,
		user,
		tce: host | permission.bits(),
	})
}
