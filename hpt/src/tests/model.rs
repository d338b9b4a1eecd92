// SPDX-License-Identifier: GPL-2.0-only
//! What each hcall does, on plain data and one step after the other: a table of entries, and for
//! each page a list of the entries that map it.

use std::collections::{BTreeMap, VecDeque};

use super::fake::{Host, Obstacle, PAGE, PAGE_SHIFT, SLOTS, host_entry};

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Entry {
	/// As the guest gave it, without flags.
	pub v: u64,
	pub is_valid: bool,
	pub is_absent: bool,
	/// What the MMU sees.
	pub r: u64,
	/// What the guest sees.
	pub guest_r: u64,
}

impl Entry {
	fn is_used(&self) -> bool {
		self.is_valid || self.is_absent
	}

	/// The first doubleword, as conditions see it.
	fn v_locked(&self) -> u64 {
		self.v | 0x40 | u64::from(self.is_valid) | if self.is_absent { 0x20 } else { 0 }
	}

	fn is_device(&self) -> bool {
		self.is_absent && self.r & 0x3000_0000_0000_0e00 == 0x3000_0000_0000_0e00
	}
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Model {
	pub entries: Vec<Entry>,
	pub chains: BTreeMap<u64, VecDeque<usize>>,
	/// R and C that were collected.
	pub rc: BTreeMap<u64, u64>,
	pub devices: u64,
	pub host: Vec<Host>,
	pub wants_changes: bool,
}

pub type Answer<T> = Result<T, i64>;
const PARAMETER: i64 = -4;
const FULL: i64 = -6;
const NOT_FOUND: i64 = -7;

/// Bytes of a page.
fn size(v: u64, r: u64) -> Option<u64> {
	let (low, high) = (r >> 12 & 15, r >> 16 & 15);
	Some(if v & 4 == 0 {
		0x1000
	} else if low == 1 || low == 7 {
		0x1_0000
	} else if low == 0 && high == 0 || low == 8 && (high == 0 || high == 3) {
		0x100_0000
	} else if low == 3 && high == 0 {
		0x4_0000_0000
	} else {
		return None;
	})
}

fn writes(r: u64) -> bool {
	// PP of 3 bits: 0, 1, 2 write; 3 reads; 4 to 7: only 6 is read-only by definition.
	!matches!(r >> 63 << 2 | r & 3, 3 | 6)
}

fn without_writes(r: u64) -> u64 {
	match r >> 63 << 2 | r & 3 {
		1..=3 => r & !3 | 3,
		_ => r & !3 | 2 | 1 << 63,
	}
}

fn page_of(entry: &Entry) -> Option<u64> {
	let address = entry.guest_r & 0x0fff_ffff_ffff_f000;
	let size = size(entry.v, entry.guest_r)?;
	let page = address / size * size / PAGE;
	let mut slots = SLOTS.iter();
	slots
		.any(|slot| (slot.0..slot.0 + slot.1).contains(&page))
		.then_some(page)
}

impl Model {
	pub fn new(entries: usize, host: Vec<Host>, wants_changes: bool) -> Self {
		Self {
			entries: vec![Entry::default(); entries],
			chains: BTreeMap::new(),
			rc: BTreeMap::new(),
			devices: 0,
			host,
			wants_changes,
		}
	}

	fn at(&self, index: u64) -> Answer<usize> {
		if index < self.entries.len() as u64 {
			Ok(index as usize)
		} else {
			Err(PARAMETER)
		}
	}

	fn mark(&mut self, index: usize) {
		if self.wants_changes {
			self.entries[index].guest_r |= 1 << 62;
		}
	}

	/// C would write a dirty bitmap.
	pub fn is_logged(&self, index: u64) -> bool {
		let Some(entry) = usize::try_from(index)
			.ok()
			.and_then(|index| self.entries.get(index))
		else {
			return false;
		};
		entry.is_valid && page_of(entry).is_some_and(|page| (0x30..0x34).contains(&page))
	}

	/// Hardware sets these bits, then the entry leaves its chain.
	fn drop_entry(&mut self, index: usize, late: u64) {
		if self.entries[index].is_valid {
			self.entries[index].r |= late;
			let rc = self.entries[index].r & 0x180;
			if let Some(page) = page_of(&self.entries[index]) {
				let chain = self.chains.get_mut(&page).unwrap();
				let at = chain.iter().position(|&one| one == index).unwrap();
				chain.remove(at);
				*self.rc.entry(page).or_default() |= rc;
			}
			self.entries[index].guest_r |= rc;
		}
	}

	fn free(&mut self, index: usize) {
		if self.entries[index].is_device() {
			self.devices += 1;
		}
		self.mark(index);
		let Entry { v, r, guest_r, .. } = self.entries[index];
		// The second doubleword of the HPTE stays, and so does B, which is there.
		self.entries[index] = Entry {
			v: v & 3 << 62,
			r,
			guest_r,
			..Entry::default()
		};
	}

	pub fn remove(&mut self, flags: u64, index: u64, avpn: u64, late: u64) -> Answer<(u64, u64)> {
		let index = self.at(index)?;
		let entry = self.entries[index];
		if !entry.is_used()
			|| flags & 0x8000_0000 != 0 && entry.v & !0x7f != avpn
			|| flags & 0x4000_0000 != 0 && entry.v_locked() & avpn != 0
		{
			return Err(NOT_FOUND);
		}
		self.drop_entry(index, late);
		let r = self.entries[index].guest_r & !(1 << 62);
		self.free(index);
		Ok((entry.v | 1, r))
	}

	pub fn bulk_remove(&mut self, arguments: &mut [u64; 8], late: u64) -> Answer<()> {
		for n in (0..8).step_by(2) {
			let word = arguments[n];
			let index = word & 0xff_ffff_ffff_ffff;
			let kind = word >> 56 & 3;
			if word >> 62 == 3 {
				return Ok(());
			}
			if word >> 62 != 1 || kind == 3 || index >= self.entries.len() as u64 {
				arguments[n] = 0xa0 << 56 | kind << 56 | index;
				return Err(PARAMETER);
			}
			let entry = self.entries[index as usize];
			let fits = match kind {
				0 => true,
				1 => entry.v_locked() & arguments[n + 1] == 0,
				_ => entry.v & !0x7f == arguments[n + 1],
			};
			if !entry.is_used() || !fits {
				arguments[n] = 0x90 << 56 | kind << 56 | index;
				continue;
			}
			self.drop_entry(index as usize, late);
			let rc = self.entries[index as usize].guest_r >> 7 & 3;
			self.free(index as usize);
			arguments[n] = 0x80 << 56 | kind << 56 | rc << 58 | index;
		}
		Ok(())
	}

	pub fn protect(&mut self, flags: u64, index: u64, avpn: u64, late: u64) -> Answer<()> {
		let index = self.at(index)?;
		let entry = self.entries[index];
		if !entry.is_used() || flags & 0x8000_0000 != 0 && entry.v & !0x7f != avpn {
			return Err(NOT_FOUND);
		}
		let mask = 0xb000_0000_0000_0e07;
		let bits = flags << 55 & 1 << 63 | flags << 48 & 0x3 << 60 | flags & 0xe07;
		self.entries[index].guest_r = entry.guest_r & !mask | bits;
		self.mark(index);
		if entry.is_valid {
			let mut r = entry.r & !mask | bits;
			if writes(r) && !writes(entry.r) {
				r = without_writes(r);
			}
			if r != entry.r {
				self.entries[index].r = r | late;
			}
		}
		if entry.is_device() {
			self.devices += 1;
		}
		Ok(())
	}

	pub fn read(&self, flags: u64, index: u64) -> Answer<Vec<(u64, u64)>> {
		let index = self.at(index)?;
		let range = if flags & 1 << 37 != 0 {
			index / 4 * 4..index / 4 * 4 + 4
		} else {
			index..index + 1
		};
		let read = self.entries[range].iter().map(|entry| {
			if entry.is_used() {
				(entry.v | 1, (entry.guest_r | entry.r & 0x180) & !(1 << 62))
			} else {
				(0, 0)
			}
		});
		Ok(read.collect())
	}

	pub fn clear_ref(&mut self, index: u64, late: u64) -> Answer<u64> {
		let index = self.at(index)?;
		let entry = self.entries[index];
		if !entry.is_used() {
			return Err(NOT_FOUND);
		}
		if entry.guest_r & 0x100 != 0 {
			self.entries[index].guest_r &= !0x100;
			self.mark(index);
		}
		if !entry.is_valid {
			return Ok(entry.guest_r);
		}
		if entry.r & 0x100 != 0 {
			// The HPTE stays valid, so hardware does not set anything in these tests.
			let _ = late;
			self.entries[index].r &= !0x100;
			if let Some(page) = page_of(&entry) {
				*self.rc.entry(page).or_default() |= 0x100;
			}
		}
		Ok(entry.guest_r | entry.r & 0x180)
	}

	pub fn clear_mod(&mut self, index: u64, late: u64) -> Answer<u64> {
		let index = self.at(index)?;
		let entry = self.entries[index];
		if !entry.is_used() {
			return Err(NOT_FOUND);
		}
		if entry.guest_r & 0x80 != 0 {
			self.entries[index].guest_r &= !0x80;
			self.mark(index);
		}
		if !entry.is_valid {
			return Ok(entry.guest_r);
		}
		let r = entry.r | late;
		self.entries[index].r = r & !0x80;
		Ok(entry.guest_r | r & 0x180)
	}

	/// H_ENTER with something in the way.
	pub fn enter(
		&mut self,
		flags: u64,
		index: u64,
		v: u64,
		r: u64,
		obstacle: Obstacle,
	) -> Answer<u64> {
		if v >> 63 != 0 {
			return Err(PARAMETER);
		}
		let size = size(v, r).ok_or(PARAMETER)?;
		let guest_r = r & !(1 << 62);
		let mut entry = Entry {
			v: v & !0x61,
			r: guest_r,
			guest_r,
			..Entry::default()
		};
		let address = (r & 0x0fff_ffff_ffff_f000) / size * size;
		let page = address >> PAGE_SHIFT;
		let slot = SLOTS
			.iter()
			.find(|slot| (slot.0..slot.0 + slot.1).contains(&page) && !slot.3);
		if let Some(slot) = slot {
			let pages = (size / PAGE).max(1);
			if slot.0 % pages != 0 || slot.1 % pages != 0 {
				return Err(PARAMETER);
			}
			let user = slot.2 + (page - slot.0) * PAGE;
			let host = self.host[(user / PAGE) as usize % self.host.len()];
			let host_entry = match obstacle {
				Obstacle::Notified => None,
				_ => host_entry(host, user),
			};
			let key = 0x3000_0000_0000_0e00;
			let mut r = guest_r;
			let found = host_entry.and_then(|host| host.page);
			if host_entry.is_some_and(|host| host.size < size) {
				return Err(PARAMETER);
			}
			if writes(r) && found.is_some_and(|found| !found.is_writable) {
				r = without_writes(r);
			}
			let attributes = r >> 3 & 15;
			r &= key | 1 << 63 | (size - 1);
			if let (Some(found), Some(host)) = (found, host_entry) {
				entry.is_valid = true;
				r |= found.address + user % host.size + address % PAGE;
			} else {
				entry.is_absent = true;
				r &= !key;
			}
			if host_entry.is_some() {
				// Memory coherence, or all but guarded: strong access order.
				let is_normal = matches!(attributes, 0b0010 | 0b1110);
				if found.is_some_and(|found| found.is_uncached) {
					// Caching-inhibited, not write-through. Strong access order is not.
					if attributes & 0b1100 != 0b0100 {
						return Err(PARAMETER);
					}
				} else if !is_normal {
					r = r & !0x78 | 0x10;
				}
			}
			if entry.is_valid && obstacle == Obstacle::NotifiedLater {
				entry.is_valid = false;
				entry.is_absent = true;
				r &= !key;
			}
			entry.r = r;
		} else {
			entry.is_absent = true;
			entry.r |= 0x3000_0000_0000_0e00;
		}

		let index = self.at(index)?;
		let candidates = if flags & 1 << 39 != 0 {
			index..index + 1
		} else {
			index / 8 * 8..index / 8 * 8 + 8
		};
		let index = candidates
			.filter(|&index| obstacle != Obstacle::Hpte(index))
			.find(|&index| !self.entries[index].is_used())
			.ok_or(FULL)?;
		if entry.is_valid {
			let page = page_of(&entry).unwrap();
			let rc = *self.rc.entry(page).or_default();
			entry.r &= rc | !0x180;
			self.chains.entry(page).or_default().push_back(index);
		}
		// A POWER9 keeps B where the highest bits of the real page number are.
		entry.r &= !(3 << 58);
		entry.v &= 3 << 62 | 0xf_ffff_ffff_ffff;
		self.entries[index] = entry;
		self.mark(index);
		Ok(index as u64)
	}

	/// The MMU sets bits.
	pub fn touch(&mut self, index: usize, rc: u64) {
		if self.entries[index].is_valid {
			self.entries[index].r |= rc;
		}
	}

	/// The MMU notifier.
	pub fn unmap(&mut self, page: u64) {
		for index in self.chains.remove(&page).unwrap_or_default() {
			let rc = self.entries[index].r & 0x180;
			*self.rc.entry(page).or_default() |= rc;
			if rc & !self.entries[index].guest_r != 0 {
				self.entries[index].guest_r |= rc;
				self.mark(index);
			}
			let entry = &mut self.entries[index];
			entry.is_valid = false;
			entry.is_absent = true;
			entry.r &= !0x3000_0000_0000_0e00;
		}
	}
}
