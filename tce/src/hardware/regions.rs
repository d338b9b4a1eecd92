// SPDX-License-Identifier: GPL-2.0-only
//! Memory that is registered for DMA, and how many entries map it.

use super::MAX_REGIONS;
use crate::{GuestMemory, Permission, Refusal, TooHard};

/// Addresses of userspace, from `start` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
	/// The first.
	pub start: u64,
	/// How many.
	pub length: u64,
}

impl Extent {
	/// No address.
	pub(super) const NONE: Self = Self {
		start: 0,
		length: 0,
	};

	/// Is this one of them?
	#[inline]
	pub(super) const fn has(&self, address: u64) -> bool {
		address.wrapping_sub(self.start) < self.length
	}
}

/// Addresses of userspace that are in one piece in the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
	/// The addresses.
	pub user: Extent,
	/// The host address of the first.
	pub host: u64,
}

/// Memory that userspace has registered for DMA.
pub trait Region: Copy + PartialEq {
	/// The addresses of userspace that are this region.
	fn extent(&self) -> Extent;

	/// The piece of this region that has `1 << shift` bytes at a userspace address, if there is
	/// one that has them all, and they are aligned in the host.
	fn piece(&self, user: u64, shift: u32) -> Option<Piece>;

	/// Counts so many entries more. Not if it is being unregistered.
	fn inc_mapped(&self, count: u64) -> bool;

	/// Counts so many entries less.
	fn dec_mapped(&self, count: u64);

	/// A device may have written the page at this address. Returns for which addresses that is
	/// known now: it stays known while an entry that maps one of them counts.
	fn set_dirty(&self, user: u64) -> Extent;
}

/// How many entries of which regions.
pub(super) struct Tally<R> {
	regions: [Option<(R, u64)>; MAX_REGIONS],
	/// The regions count them.
	counted: bool,
}

impl<R: Region> Tally<R> {
	pub(super) const fn new() -> Self {
		Self {
			regions: [None; MAX_REGIONS],
			counted: false,
		}
	}

	/// Is there room for any region?
	#[inline]
	pub(super) fn has_room(&self) -> bool {
		self.regions[MAX_REGIONS - 1].is_none()
	}

	/// So many more of this region; not if there are too many regions.
	#[inline(never)]
	pub(super) fn add(&mut self, region: R, more: u64) -> bool {
		for place in &mut self.regions {
			match place {
				Some((known, count)) if *known == region => {
					*count += more;
					return true;
				}
				Some(_) => {}
				None => {
					*place = Some((region, more));
					return true;
				}
			}
		}
		false
	}

	fn regions(&self) -> impl Iterator<Item = R> {
		self.regions
			.iter()
			.map_while(|place| Some(place.as_ref()?.0))
	}

	/// Has their regions count them all, or none.
	#[inline]
	pub(super) fn reserve(&mut self) -> Result<(), Refusal> {
		for (taken, place) in self.regions.iter().enumerate() {
			let Some((region, count)) = place else { break };
			if !region.inc_mapped(*count) {
				for (region, count) in self.regions.iter().flatten().take(taken) {
					region.dec_mapped(*count);
				}
				return Err(TooHard::Userspace.into());
			}
		}
		self.counted = true;
		Ok(())
	}

	/// Counts them back, and forgets them.
	#[inline(never)]
	pub(super) fn dec_mapped(&mut self) {
		for place in &mut self.regions {
			let Some((region, count)) = place.take() else {
				return;
			};
			region.dec_mapped(count);
		}
	}
}

/// Addresses at which a page may begin.
#[derive(Clone, Copy)]
pub(super) struct Span {
	start: u64,
	length: u64,
}

impl Span {
	/// None.
	pub(super) const NONE: Self = Self {
		start: 0,
		length: 0,
	};

	/// Where a page of `size` bytes may begin among these addresses, of which there are that many.
	#[inline]
	const fn new(start: u64, length: u64, size: u64) -> Self {
		Self {
			start,
			length: length.wrapping_sub(size).wrapping_add(1),
		}
	}

	/// Is this one of them?
	#[inline]
	pub(super) const fn has(self, address: u64) -> bool {
		address.wrapping_sub(self.start) < self.length
	}

	/// Those of them that are in an extent, all of which belongs to these pages.
	#[inline]
	pub(super) fn within(self, extent: Extent) -> Self {
		let offset = extent.start.wrapping_sub(self.start);
		let left = self.length.saturating_sub(offset);
		Self {
			start: extent.start,
			length: extent.length.min(left),
		}
	}
}

/// Memory of the guest that is in one memory slot, in one region, and in one piece in the host.
/// Consecutive pages of the guest mostly are.
#[derive(Clone, Copy)]
pub(super) struct Place<R> {
	pub(super) region: R,
	/// Guest addresses.
	span: Span,
	mapper: Mapper,
}

/// Tells what pages of a place become in a hardware table.
#[derive(Clone, Copy)]
pub(super) struct Mapper {
	/// What is added to a guest address to get that of userspace and that of the host.
	user: u64,
	host: u64,
	/// The host addresses of all pages, without the lowest 16 bits, as the hardware stores them.
	stored: u64,
}

impl Mapper {
	/// For no page.
	pub(super) const NONE: Self = Self {
		user: 0,
		host: 0,
		stored: 0,
	};

	/// The entry of the page at this guest address as it is stored, and the userspace address.
	#[inline]
	pub(super) fn map(self, address: u64, mut permission: Permission) -> (u64, u64) {
		// The hardware knows no pages that can only be written.
		if permission.contains(Permission::WRITE) {
			permission |= Permission::READ;
		}
		// To swap the bytes of all of it takes many instructions.
		let low = address.wrapping_add(self.host) | permission.bits();
		let low = u64::from((low as u16).to_be());
		let low = if cfg!(target_endian = "little") {
			low << 48
		} else {
			low
		};
		(self.stored | low, address.wrapping_add(self.user))
	}
}

/// A place is within a block of that many bytes of the host, or is one page.
const BLOCK: u64 = 1 << 16;

impl<R: Region> Place<R> {
	/// The guest addresses at which a page of this place may begin. Only multiples of the size
	/// of a page are asked for.
	#[inline]
	pub(super) fn span(&self) -> Span {
		self.span
	}

	/// What tells what these pages become.
	#[inline]
	pub(super) fn mapper(&self) -> Mapper {
		self.mapper
	}

	/// Finds the place of the page of `1 << shift` bytes at a guest address, in one of the
	/// regions that are `known` already if it can, and in no other once the regions count what
	/// will be mapped.
	#[inline(never)]
	pub(super) fn find<G: GuestMemory<Region = R>>(
		place: &mut Option<Self>,
		guest: &G,
		known: &Tally<R>,
		(address, shift): (u64, u32),
	) -> Result<(), Refusal> {
		*place = None;
		let size = 1 << shift;
		let slot = guest.memory(address).ok_or(TooHard::Userspace)?;
		// Nothing is below zero here: the address is in the slot.
		let in_slot = address.wrapping_sub(slot.start);
		let left_in_slot = slot.length.wrapping_sub(in_slot);
		let user = slot.user(address, size).ok_or(TooHard::Userspace)?;
		let in_region = |region: R| Some((region, region.piece(user, shift)?));
		let (region, piece) = match known.regions().find_map(in_region) {
			Some(found) => found,
			None if known.counted => return Err(TooHard::CFallback.into()),
			None => in_region(guest.region(user, size)?).ok_or(TooHard::Userspace)?,
		};
		// Nor here: `user` is in the piece.
		let in_piece = user.wrapping_sub(piece.user.start);
		let host = piece.host.wrapping_add(in_piece);
		let block = size.max(BLOCK);
		let in_block = host & (block - 1);
		let before = in_slot.min(in_piece).min(in_block);
		let after = left_in_slot
			.min(piece.user.length.wrapping_sub(in_piece))
			.min(block.wrapping_sub(in_block));
		*place = Some(Self {
			region,
			span: Span::new(
				address.wrapping_sub(before),
				before.wrapping_add(after),
				size,
			),
			mapper: Mapper {
				user: user.wrapping_sub(address),
				host: host.wrapping_sub(address),
				stored: (host & !(BLOCK - 1)).to_be(),
			},
		});
		Ok(())
	}
}

/// A region, as the owner of pages of one size.
#[derive(Clone, Copy)]
pub(super) struct Owner<R> {
	pub(super) region: R,
	/// Addresses of userspace.
	span: Span,
}

impl<R: Region> Owner<R> {
	/// The addresses of userspace at which a page of this region may begin.
	#[inline]
	pub(super) fn span(&self) -> Span {
		self.span
	}

	/// The owner of the page of `1 << shift` bytes at this address.
	#[inline]
	pub(super) fn of<G: GuestMemory<Region = R>>(
		guest: &G,
		user: u64,
		shift: u32,
	) -> Result<Self, Refusal> {
		let size = 1_u64 << shift;
		let region = guest.region(user, size)?;
		let Extent { start, length } = region.extent();
		// The region has the page, so it is as long as that.
		let span = Span::new(start, length, size);
		Ok(Self { region, span })
	}
}
