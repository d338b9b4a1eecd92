// SPDX-License-Identifier: GPL-2.0-only
//! A guest in memory, with what may be in the way of a body, and a page fault handler and an MMU
//! notifier that work on the raw structures as the kernel does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::{Guest, HostEntry, HostPage, Hpte, Refusal, Rev, Slot};

pub const PAGE_SHIFT: u32 = 16;
pub const PAGE: u64 = 1 << PAGE_SHIFT;

/// Slots: (first page, pages, userspace address, invalid, logged).
pub const SLOTS: [(u64, u64, u64, bool, bool); 5] = [
	(0x0, 0x20, 0x1000_0000_0000, false, false),
	(0x28, 0x4, 0x1000_1000_0000, true, false),
	(0x30, 0x4, 0x1000_2000_0000, false, true),
	// Pages of 16 MiB.
	(0x100, 0x200, 0x1000_4000_0000, false, false),
	// Not aligned to 16 MiB.
	(0x400, 0x1f0, 0x1000_8000_0000, false, false),
];

/// What is in the way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
	None,
	/// This HPTE is locked.
	Hpte(usize),
	/// The reverse map word of this page is locked.
	Rmap(u64),
	/// The Rev of this HPTE can't be reached.
	Rev(u64),
	/// `mmu_lock` is taken.
	MmuLock,
	/// The reverse map can't be reached.
	Rmaps,
	/// An MMU notification is in progress.
	Notified,
	/// One comes after the VMM's page table was read.
	NotifiedLater,
}

/// The host's answer for each page, by what a test says of the page: see [`host_entry`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Host {
	pub kind: u8,
	pub is_writable: bool,
}

/// What the VMM's page table has for a guest page that is `page` in its slot.
pub fn host_entry(host: Host, user: u64) -> Option<HostEntry> {
	let page = |size: u64, is_uncached| HostEntry {
		size,
		page: Some(HostPage {
			address: 0x7_0000_0000_0000 | user & 0xff_ffff_ffff & !(size - 1),
			is_writable: host.is_writable,
			is_uncached,
		}),
	};
	match host.kind {
		0 => None,
		1 => Some(HostEntry {
			size: PAGE,
			page: None,
		}),
		2 => Some(page(PAGE, true)),
		3 => Some(page(1 << 24, false)),
		4 => Some(page(1 << 30, false)),
		_ => Some(page(PAGE, false)),
	}
}

pub struct Fake {
	pub table: Vec<Hpte>,
	pub revs: Vec<Rev>,
	pub rmaps: Vec<Vec<AtomicU64>>,
	pub host: Mutex<Vec<Host>>,
	pub obstacle: Mutex<Obstacle>,
	pub wants_changes: bool,
	pub notifications: AtomicU64,
	pub in_progress: AtomicI64,
	pub devices: AtomicU64,
	/// R and C that hardware sets in the last moment.
	pub late: AtomicU64,
	/// HPTEs that were valid before the hcall.
	pub were_valid: Mutex<Vec<bool>>,
	/// Translations that were flushed, and whether everywhere; whether each HPTE was invalid.
	pub flushed: Mutex<Vec<(u64, bool)>>,
	/// Pages that were marked as dirty in the host.
	pub dirtied: Mutex<Vec<u64>>,
	/// Many threads use it: no log is kept.
	pub is_shared: bool,
}

impl Fake {
	pub fn new(entries: usize, host: Vec<Host>, wants_changes: bool) -> Self {
		Self {
			table: (0..entries).map(|_| Hpte::default()).collect(),
			revs: (0..entries).map(|_| Rev::default()).collect(),
			rmaps: SLOTS
				.iter()
				.map(|slot| (0..slot.1).map(|_| AtomicU64::new(0)).collect())
				.collect(),
			host: Mutex::new(host),
			obstacle: Mutex::new(Obstacle::None),
			wants_changes,
			notifications: AtomicU64::new(0),
			in_progress: AtomicI64::new(0),
			devices: AtomicU64::new(0),
			late: AtomicU64::new(0),
			were_valid: Mutex::default(),
			flushed: Mutex::default(),
			dirtied: Mutex::default(),
			is_shared: false,
		}
	}

	fn obstacle(&self) -> Obstacle {
		if self.is_shared {
			Obstacle::None
		} else {
			*self.obstacle.lock().unwrap()
		}
	}

	/// Puts something in the way.
	pub fn obstruct(&self, obstacle: Obstacle) {
		*self.obstacle.lock().unwrap() = obstacle;
		match obstacle {
			Obstacle::Hpte(index) => {
				let hpte = &self.table[index];
				hpte.set_v(hpte.v() | 0x40);
			}
			Obstacle::Rmap(page) => {
				if let Some(word) = self.word(page) {
					word.fetch_or(1 << 43, Ordering::Relaxed);
				}
			}
			_ => {}
		}
	}

	/// Takes it away.
	pub fn clear(&self) {
		let obstacle = std::mem::replace(&mut *self.obstacle.lock().unwrap(), Obstacle::None);
		match obstacle {
			Obstacle::Hpte(index) => {
				let hpte = &self.table[index];
				assert_ne!(hpte.v() & 0x40, 0, "the lock of another was taken");
				hpte.set_v(hpte.v() & !0x40);
			}
			Obstacle::Rmap(page) => {
				if let Some(word) = self.word(page) {
					let old = word.fetch_and(!(1 << 43), Ordering::Relaxed);
					assert_ne!(old & 1 << 43, 0, "the lock of another was taken");
				}
			}
			_ => {}
		}
	}

	pub fn word(&self, page: u64) -> Option<&AtomicU64> {
		let number = SLOTS
			.iter()
			.position(|slot| page.wrapping_sub(slot.0) < slot.1)?;
		self.rmaps[number].get((page - SLOTS[number].0) as usize)
	}

	/// All that a body may change.
	pub fn snapshot(&self) -> Vec<u64> {
		let hptes = self.table.iter().flat_map(|hpte| [hpte.v(), hpte.r()]);
		let revs = self.revs.iter().flat_map(|rev| {
			[
				rev.guest_r(),
				rev.next.load(Ordering::Relaxed).into(),
				rev.prev.load(Ordering::Relaxed).into(),
			]
		});
		let words = self.rmaps.iter().flatten();
		hptes
			.chain(revs)
			.chain(words.map(|word| word.load(Ordering::Relaxed)))
			.chain([self.devices.load(Ordering::Relaxed)])
			.chain(self.flushed.lock().unwrap().iter().map(|flushed| flushed.0))
			.collect()
	}

	/// The chain of a page, which must be a ring.
	pub fn chain(&self, page: u64) -> Vec<u64> {
		let word = self.word(page).unwrap().load(Ordering::Relaxed);
		if word & 1 << 32 == 0 {
			return Vec::new();
		}
		let head = word & 0xffff_ffff;
		let mut chain = vec![head];
		let mut at = head;
		loop {
			let next = u64::from(self.revs[at as usize].next.load(Ordering::Relaxed));
			let back = self.revs[next as usize].prev.load(Ordering::Relaxed);
			assert_eq!(u64::from(back), at, "broken chain of page {page:#x}");
			if next == head {
				return chain;
			}
			assert!(chain.len() <= self.table.len(), "endless chain");
			chain.push(next);
			at = next;
		}
	}

	/// What the MMU notifier does for a page: all HPTEs of the page become absent. Only tries to
	/// lock HPTEs while it has the reverse map word.
	pub fn unmap(&self, page: u64) {
		self.in_progress.fetch_add(1, Ordering::SeqCst);
		let word = self.word(page).unwrap();
		loop {
			if word.fetch_or(1 << 43, Ordering::Acquire) & 1 << 43 != 0 {
				std::thread::yield_now();
				continue;
			}
			let value = word.load(Ordering::Relaxed);
			if value & 1 << 32 == 0 {
				word.store(value & !(1 << 43), Ordering::Release);
				break;
			}
			let index = value & 0xffff_ffff;
			let hpte = &self.table[index as usize];
			let v = hpte.v();
			if v & 0x40 != 0 || !hpte.exchange_v(v, v | 0x40) {
				word.store(value & !(1 << 43), Ordering::Release);
				std::thread::yield_now();
				continue;
			}
			assert_ne!(v & 1, 0, "an HPTE in a chain is not valid");
			let rev = &self.revs[index as usize];
			let (next, prev) = (
				rev.next.load(Ordering::Relaxed),
				rev.prev.load(Ordering::Relaxed),
			);
			self.revs[prev as usize].next.store(next, Ordering::Relaxed);
			self.revs[next as usize].prev.store(prev, Ordering::Relaxed);
			let rc = hpte.r() & 0x180;
			let mut value = value & !0xffff_ffff | rc << 32;
			if u64::from(next) == index {
				value &= !(1 << 32);
			} else {
				value |= u64::from(next);
			}
			rev.next.store(index as u32, Ordering::Relaxed);
			rev.prev.store(index as u32, Ordering::Relaxed);
			if rc & !rev.guest_r() != 0 {
				let mark = if self.wants_changes { 1 << 62 } else { 0 };
				rev.set_guest_r(rev.guest_r() | rc | mark);
			}
			hpte.set_r(hpte.r() & !(0x3 << 60 | 0xe00));
			word.store(value & !(1 << 43), Ordering::Release);
			hpte.release_v(v & !1 | 0x20);
		}
		self.notifications.fetch_add(1, Ordering::SeqCst);
		self.in_progress.fetch_sub(1, Ordering::SeqCst);
	}
}

impl Guest for Fake {
	const PAGE_SHIFT: u32 = PAGE_SHIFT;

	fn table(&self) -> &[Hpte] {
		&self.table
	}

	fn rev(&self, index: u64) -> Option<&Rev> {
		if self.obstacle() == Obstacle::Rev(index) {
			return None;
		}
		self.revs.get(usize::try_from(index).unwrap())
	}

	fn slot(&self, page: u64) -> Option<Slot> {
		let number = SLOTS
			.iter()
			.position(|slot| page.wrapping_sub(slot.0) < slot.1)?;
		let slot = SLOTS[number];
		Some(Slot {
			first: slot.0,
			pages: slot.1,
			user: slot.2,
			rmaps: number as u64,
			is_invalid: slot.3,
			is_logged: slot.4,
		})
	}

	fn rmap(&self, slot: &Slot, page: u64) -> Option<&AtomicU64> {
		if self.obstacle() == Obstacle::Rmaps {
			return None;
		}
		self.rmaps[slot.rmaps as usize].get((page - slot.first) as usize)
	}

	fn notifications(&self) -> u64 {
		self.notifications.load(Ordering::SeqCst)
	}

	fn is_invalidated(&self, notifications: u64) -> bool {
		matches!(
			self.obstacle(),
			Obstacle::Notified | Obstacle::NotifiedLater
		) || self.in_progress.load(Ordering::SeqCst) != 0
			|| self.notifications.load(Ordering::SeqCst) != notifications
	}

	fn host_entry(
		&self,
		user: u64,
		notifications: u64,
		write: bool,
	) -> Result<Option<HostEntry>, Refusal> {
		match self.obstacle() {
			Obstacle::MmuLock => return Err(Refusal::TooHard),
			Obstacle::Notified => return Ok(None),
			Obstacle::NotifiedLater => {}
			_ if self.is_invalidated(notifications) => return Ok(None),
			_ => {}
		}
		let hosts = self.host.lock().unwrap();
		let host = hosts[(user >> PAGE_SHIFT) as usize % hosts.len()];
		let entry = host_entry(host, user);
		if write && host.is_writable && entry.is_some_and(|entry| entry.page.is_some()) {
			self.dirtied.lock().unwrap().push(user);
		}
		Ok(entry)
	}

	fn wants_changes(&self) -> bool {
		self.wants_changes
	}

	fn forget_devices(&self) {
		self.devices.fetch_add(1, Ordering::Relaxed);
	}

	fn order(&self) {
		std::sync::atomic::fence(Ordering::Release);
	}

	fn sync(&self) {
		std::sync::atomic::fence(Ordering::SeqCst);
	}

	fn flush(&self, translations: &[u64]) {
		assert!(!translations.is_empty());
		if self.is_shared {
			return;
		}
		self.hardware();
		let mut flushed = self.flushed.lock().unwrap();
		flushed.extend(translations.iter().map(|&rb| (rb, false)));
	}

	fn flush_everywhere(&self, translation: u64, _: bool) {
		if self.is_shared {
			return;
		}
		self.hardware();
		self.flushed.lock().unwrap().push((translation, true));
	}

	fn clear_reference(&self, hpte: &Hpte) {
		hpte.set_r(hpte.r() & !0x100);
	}
}

impl Fake {
	/// Until the flush, hardware may set R and C of an HPTE that a CPU has in its TLB.
	fn hardware(&self) {
		let late = self.late.load(Ordering::Relaxed);
		for (hpte, was_valid) in self.table.iter().zip(&*self.were_valid.lock().unwrap()) {
			if *was_valid && hpte.v() & 0x41 == 0x40 {
				hpte.set_r(hpte.r() | late);
			}
		}
	}

	/// Which HPTEs are valid, before an hcall.
	pub fn remember(&self) {
		let valid = self.table.iter().map(|hpte| hpte.v() & 1 != 0);
		*self.were_valid.lock().unwrap() = valid.collect();
	}
}
