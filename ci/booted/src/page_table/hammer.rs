// SPDX-License-Identifier: GPL-2.0-only
//! Two vcpus do page table hcalls in the same groups while userspace changes what they map. Or one vcpu
//! does them alone, on one CPU and then on the other: KVM flushes its translations in another way.
//!
//! A thread of userspace unmaps, remaps and write-protects the memory, lets pages become other pages,
//! moves a memory slot, and resizes the page table (HPT), which is read at the same time. The rules are
//! these:
//!
//! - A vcpu finds each HPTE of its own as it left it, and is answered what follows from that.
//! - Of vcpus that want the same HPTE one gets it: each stamp that was entered was removed once, or
//!   is in the HPT at the end.
//! - A load by an HPTE finds the page that the HPTE names, with what the vcpu wrote there last.
//! - R and C of an HPTE are set if the vcpu has accessed the page by it, and C is set only then.
//! - Dirty pages are copied as in a migration, and so are changed HPTEs: after the last copy, page by
//!   page and HPTE by HPTE, the copies are what the guest has.
//!
//! The guest checks the first four (`hammer.rs` of the payload). An HPTE that stays locked stops the
//! test: KVM waits for it when the HPT is read.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use protocol::hammer::{
	self, ADDRESSES, Hammer, LOGGED, MOVES, OWN, PAGE, PART, PARTS, PRIVATE, R_C, R_R, SLOT_PAGES,
	STAYS, VCPUS,
};
use protocol::{Column, GuestMode, map, private};
use vmm::kvm::{Exit, HptFile, HptFiles, Memory, Slot, Vcpu};
use vmm::machine::{Config, Failure, Machine};
use vmm::timer::Timer;

use super::changes::{CHANGES, Change, Counts, counts};
use crate::common::{Verdict, choose, wrong};
use crate::cpus;
use crate::tce::Random;

/// The blocks of the vcpus, and their numbers if they are two.
const IDS: [u64; VCPUS] = [1, 2];
/// The number of the first slot.
const FIRST_SLOT: u32 = 9;
/// The orders that the HPT may have: an HPTE has the same index in each.
const ORDERS: [u32; 3] = [map::HPT_ORDER, map::HPT_ORDER + 1, map::HPT_ORDER + 2];
/// Changes of each kind, and hcalls of each: fewer would say little. The test lasts until there are
/// enough, but not so much longer.
const ENOUGH: u64 = 10;
const LIMIT: Duration = Duration::from_secs(120);
/// KVM's lock of an HPTE, which the file of the HPT shows.
const V_LOCK: u64 = 0x40;

/// The thread of userspace.
struct Changer<'a> {
	machine: &'a Machine,
	random: Random,
	slots: [Option<Slot>; 4],
	hpt: HptFiles,
	/// The HPT as it was copied last.
	file: Option<HptFile>,
	/// The logged slot's pages as they were copied last.
	pages: Vec<u64>,
	order: u32,
	counts: &'a Counts,
	/// Dirty pages that were copied.
	copied: u64,
	/// HPTEs that were copied.
	changed: u64,
	/// How often the HPT was read during a resize.
	read: u64,
}

/// Words of a slot that guests use: of each part the mark, and what each vcpu writes.
fn words(slot: usize) -> impl Iterator<Item = u64> {
	(0..SLOT_PAGES).flat_map(move |page| {
		let start = page * hammer::STRIDES[slot];
		(0..PARTS).flat_map(move |part| {
			let start = start + part * PART;
			let written = (0..VCPUS).map(move |vcpu| start + hammer::written_at(vcpu));
			std::iter::once(start).chain(written)
		})
	})
}

/// Memory for a slot, with its marks.
fn memory(slot: usize) -> Result<Memory, Failure> {
	let size = hammer::size(slot) as usize;
	let memory = if slot == PRIVATE {
		Memory::private(size)?
	} else {
		Memory::new(size)?
	};
	for page in 0..SLOT_PAGES {
		let address = hammer::page_address(slot as u64 * SLOT_PAGES + page, false);
		for part in 0..PARTS {
			let place = page * hammer::STRIDES[slot] + part * PART;
			memory.write(place, hammer::mark(address, part));
		}
	}
	Ok(memory)
}

impl<'a> Changer<'a> {
	fn new(machine: &'a Machine, seed: u64, counts: &'a Counts) -> Result<Self, Failure> {
		let vm = machine.vm();
		let number = |slot: usize| FIRST_SLOT + slot as u32;
		let stays = vm.add_memory(number(STAYS), ADDRESSES[STAYS], memory(STAYS)?)?;
		let private = vm.add_memory(number(PRIVATE), ADDRESSES[PRIVATE], memory(PRIVATE)?)?;
		let logged = vm.add_logged(number(LOGGED), ADDRESSES[LOGGED], memory(LOGGED)?)?;
		let pages = words(LOGGED).map(|at| logged.memory.read(at)).collect();
		Ok(Self {
			machine,
			random: Random(seed),
			slots: [Some(stays), Some(private), Some(logged), None],
			hpt: vm.hpt()?,
			file: None,
			pages,
			order: map::HPT_ORDER,
			counts,
			copied: 0,
			changed: 0,
			read: 0,
		})
	}

	fn memory(&self, slot: usize) -> &Memory {
		&self.slots[slot].as_ref().expect("the slot stays").memory
	}

	/// Some pages of one of these slots: where, and how many bytes.
	fn some_pages(&mut self, slots: &[usize]) -> (usize, u64, usize) {
		let slot = self.random.of(slots);
		let pages = hammer::size(slot) / PAGE;
		let first = self.random.below(pages);
		let count = 1 + self.random.below(pages - first);
		(slot, first * PAGE, (count * PAGE) as usize)
	}

	fn copy_pages(&mut self) -> Result<(), Failure> {
		let slot = self.slots[LOGGED].as_ref().expect("the slot stays");
		let dirty = slot.dirty_pages(PAGE)?;
		for (copy, at) in self.pages.iter_mut().zip(words(LOGGED)) {
			if dirty.contains(&(at / PAGE)) {
				*copy = slot.memory.read(at);
			}
		}
		self.copied += dirty.len() as u64;
		Ok(())
	}

	fn copy_hptes(&mut self) -> Result<(), Failure> {
		if self.file.is_some() && self.random.chance(30) {
			self.file = None;
			return Ok(());
		}
		let file = match &mut self.file {
			Some(file) => file,
			none => none.insert(self.hpt.open()?),
		};
		self.changed += file.read()?;
		Ok(())
	}

	fn move_slot(&mut self) -> Result<(), Failure> {
		let to = ADDRESSES[MOVES + self.random.below(2) as usize];
		let vm = self.machine.vm();
		match self.slots[MOVES].take() {
			None => {
				let slot = vm.add_memory(FIRST_SLOT + MOVES as u32, to, memory(MOVES)?)?;
				self.slots[MOVES] = Some(slot);
			}
			Some(mut slot) if self.random.chance(50) => {
				if slot.address() != to {
					slot.move_to(to)?;
				}
				self.slots[MOVES] = Some(slot);
			}
			Some(slot) => drop(slot),
		}
		Ok(())
	}

	/// Another process shares the private pages for a while. Who writes one meanwhile gets a copy.
	fn fork(&mut self) -> Result<(), Failure> {
		// SAFETY: the child does nothing but to wait for its end.
		let child = unsafe {
			let child = libc::fork();
			if child == 0 {
				loop {
					libc::pause();
				}
			}
			child
		};
		if child < 0 {
			return Err(std::io::Error::last_os_error().into());
		}
		std::thread::sleep(Duration::from_micros(500 + self.random.below(2000)));
		// SAFETY: a child of ours, and no status is asked for.
		let ended = unsafe {
			libc::kill(child, libc::SIGKILL);
			libc::waitpid(child, core::ptr::null_mut(), 0)
		};
		if ended != child {
			return Err(std::io::Error::last_os_error().into());
		}
		Ok(())
	}

	/// While the vcpus make hcalls, and the HPT is read. Linux stops all other CPUs instead, but KVM does
	/// not depend on that.
	fn resize(&mut self) -> Result<(), Failure> {
		let other = ORDERS.map(|order| {
			if order == self.order {
				ORDERS[0]
			} else {
				order
			}
		});
		self.order = self.random.of(&other);
		let (hpt, order) = (&self.hpt, self.order);
		// The marks of HPTEs that were removed before end with the old HPT, so this copy does, too.
		let mut file = match self.file.take() {
			Some(file) => file,
			None => hpt.open()?,
		};
		let table = format!("{}/htab", self.machine.vm().debugfs());
		std::thread::scope(|scope| {
			let resizing = scope.spawn(move || hpt.resize(order));
			while !resizing.is_finished() {
				file.read()?;
				std::fs::read(&table).map_err(|e| format!("{table}: {e}"))?;
				self.read += 1;
			}
			Ok(resizing.join().expect("it doesn't panic")?)
		})
	}

	fn change(&mut self) -> Result<(), Failure> {
		let mut choice = self.random.below(100);
		let which = CHANGES.iter().position(|(_, weight)| {
			let is_this = choice < *weight;
			choice = choice.wrapping_sub(*weight);
			is_this
		});
		let which = which.expect("the weights are 100");
		match CHANGES[which].0 {
			Change::Unmap => {
				let (slot, at, size) = self.some_pages(&[STAYS, LOGGED]);
				self.memory(slot).forget_part(at, size)?;
			}
			Change::Remap => {
				let (slot, at, size) = self.some_pages(&[STAYS, LOGGED]);
				self.memory(slot).remap(at, size)?;
			}
			Change::WriteProtect => {
				let (slot, at, size) = self.some_pages(&[STAYS, PRIVATE, LOGGED]);
				self.memory(slot).protect(at, size, false)?;
				std::thread::sleep(Duration::from_micros(200 + self.random.below(1000)));
				self.memory(slot).protect(at, size, true)?;
			}
			Change::Fork => self.fork()?,
			Change::Compact => {
				const FILE: &str = "/proc/sys/vm/compact_memory";
				std::fs::write(FILE, "1").map_err(|e| format!("{FILE}: {e}"))?;
			}
			Change::MoveSlot => self.move_slot()?,
			Change::CopyPages => self.copy_pages()?,
			Change::CopyHptes => self.copy_hptes()?,
			Change::Resize => self.resize()?,
		}
		self.counts[which].fetch_add(1, Ordering::Relaxed);
		Ok(())
	}

	/// Changes until it is told to stop. HPTEs are being copied then.
	fn run(mut self, stop: &AtomicBool) -> Result<Self, Failure> {
		while !stop.load(Ordering::Relaxed) {
			self.change()?;
			std::thread::sleep(Duration::from_micros(100 + self.random.below(1000)));
		}
		while self.file.is_none() {
			self.copy_hptes()?;
		}
		std::thread::sleep(Duration::from_millis(50));
		Ok(self)
	}

	/// Compares the copies with what the guest has. Returns the HPT.
	fn check_copies(&mut self) -> Result<HptFile, Failure> {
		self.copy_pages()?;
		let slot = self.slots[LOGGED].as_ref().expect("the slot stays");
		for (copy, at) in self.pages.iter().zip(words(LOGGED)) {
			let has: u64 = slot.memory.read(at);
			if has != *copy {
				return wrong(format!(
					"{at:#x} of the logged slot has {has:#x}, its copy {copy:#x}: written, and not dirty"
				));
			}
		}
		let mut copy = self.file.take().expect("it was opened");
		self.changed += copy.read()?;
		// A read ends at the end of the HPT, wherever it began.
		self.changed += copy.read()?;
		// The marks of changed HPTEs are there once for all files.
		let mut now = self.hpt.open()?;
		now.read()?;
		for entries in [&mut copy.entries, &mut now.entries] {
			entries.values_mut().for_each(|[v, _]| *v &= !V_LOCK);
		}
		let mut indexes = now.entries.keys().chain(copy.entries.keys());
		if let Some(index) = indexes.find(|&at| now.entries.get(at) != copy.entries.get(at)) {
			return wrong(format!(
				"HPTE {index:#x} is {:x?}, and {:x?} in the copy",
				now.entries.get(index),
				copy.entries.get(index)
			));
		}
		Ok(now)
	}

	/// Compares the memory with what the vcpus wrote, and the marks.
	fn check_memory(&self, hammers: &[Hammer]) -> Result<(), Failure> {
		for slot in 0..hammer::ACCESSED as usize {
			let vcpus = hammers.iter().enumerate();
			for ((vcpu, hammer), page) in
				vcpus.flat_map(|one| (0..SLOT_PAGES).map(move |n| (one, n)))
			{
				let number = slot as u64 * SLOT_PAGES + page;
				for part in 0..PARTS {
					let at = page * hammer::STRIDES[slot] + part * PART;
					let mark = hammer::mark(hammer::page_address(number, false), part);
					let written = hammer.written[(number * PARTS + part) as usize];
					let has: [u64; 2] =
						[at, at + hammer::written_at(vcpu)].map(|at| self.memory(slot).read(at));
					if has != [mark, written] {
						return wrong(format!(
							"slot {slot} at {at:#x}: {has:x?} instead of {mark:#x}, {written:#x}"
						));
					}
				}
			}
		}
		Ok(())
	}
}

/// Runs a vcpu here and there until it says that it is done. Counts stores to read-only pages.
fn run(vcpu: &mut Vcpu, seed: u64, faults: &AtomicU64) -> Result<(), Failure> {
	let mut random = Random(seed);
	let interval = Duration::from_millis(7);
	let _timer = Timer::every(interval, interval)?;
	loop {
		match vcpu.run()? {
			Exit::Hcall(private::DONE, _) => {
				vcpu.answer(Code::SUCCESS);
				return Ok(());
			}
			Exit::Interrupted => drop(cpus::move_to_cpu(random.below(2) as usize)?),
			Exit::Fault => {
				faults.fetch_add(1, Ordering::Relaxed);
				std::thread::sleep(Duration::from_micros(50));
			}
			exit => return wrong(format!("a vcpu that hammers: {exit:x?}")),
		}
	}
}

/// Compares the HPT with what the vcpus say. Returns how many HPTEs of their own and how many others
/// are in use.
fn check_hpt(hpt: &HptFile, hammers: &[Hammer]) -> Result<[u64; 2], Failure> {
	let mut in_use = [0; 2];
	for (vcpu, hammer) in hammers.iter().enumerate() {
		for own in 0..OWN {
			let index = hammer::own_index(vcpu, own);
			let (found, should) = (hpt.entries.get(&index), hammer.own[own]);
			let is_right = match found {
				None => should.r == 0,
				Some(&[v, r]) => {
					v == hammer::own_v(vcpu, own)
						&& should.r != 0 && (r ^ should.r) & !(R_R | R_C) == 0
						&& should.set & !r == 0
						&& r & R_C & !should.may == 0
				}
			};
			if !is_right {
				return wrong(format!(
					"HPTE {index:#x} of vcpu {vcpu} is {found:x?} instead of {should:x?}"
				));
			}
			in_use[0] += u64::from(found.is_some());
		}
	}
	let mut left = [0, 0_u64];
	let mut real_mode = 0;
	for (&index, &[v, r]) in &hpt.entries {
		if hammer::is_contended(index) {
			let stamp = hammer::stamp_of(index, v);
			let Some(stamp) = stamp.filter(|&stamp| hammer::fits_stamp(stamp, r)) else {
				return wrong(format!("no vcpu entered HPTE {index:#x}: {v:#x} {r:#x}"));
			};
			left[0] += 1;
			left[1] = left[1].wrapping_add(hammer::mix(stamp));
		} else if v >> 62 == 1 {
			// A segment of 1 TiB: the guest's memory in real mode.
			real_mode += 1;
		}
	}
	in_use[1] = left[0];
	let sum = |count: fn(&Hammer) -> [u64; 2]| {
		let add = |[a, b]: [u64; 2], [c, d]: [u64; 2]| [a + c, b.wrapping_add(d)];
		hammers.iter().map(count).fold([0; 2], add)
	};
	let (entered, removed) = (sum(|one| one.entered), sum(|one| one.removed));
	let balance = [
		entered[0].wrapping_sub(removed[0]),
		entered[1].wrapping_sub(removed[1]),
	];
	if balance != left {
		return wrong(format!(
			"contended HPTEs: {} entered, {} removed, {} left; the stamps' sums {:#x}, {:#x}, {:#x}",
			entered[0], removed[0], left[0], entered[1], removed[1], left[1]
		));
	}
	let expected = in_use[0] + in_use[1] + map::RAM / PAGE;
	if real_mode != map::RAM / PAGE || hpt.entries.len() as u64 != expected {
		return wrong(format!(
			"{} HPTEs, {real_mode} of them for real mode, instead of {expected}",
			hpt.entries.len()
		));
	}
	Ok(in_use)
}

/// Pages that have moved in the memory of the host since it was booted.
fn migrated() -> Result<u64, Failure> {
	const FILE: &str = "/proc/vmstat";
	let text = std::fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
	let count = |line: &str| line.strip_prefix("pgmigrate_success ")?.parse().ok();
	let count = text.lines().find_map(count);
	Ok(count.ok_or_else(|| format!("{FILE} has no count of migrated pages"))?)
}

/// Each hcall has succeeded, pages were accessed, and HPTEs were lost to the other vcpu, if there is one.
fn did_enough(hammer: &Hammer, vcpus: usize) -> bool {
	let [in_use, changed] = hammer.lost;
	let others = if vcpus > 1 { changed } else { in_use };
	let accesses = [hammer.loads, hammer.stores, in_use, others];
	let all = hammer.succeeded.iter().chain(&accesses);
	all.copied().all(|count| count >= ENOUGH)
}

/// One or two vcpus and the thread, for some time at least.
pub fn hammer(guest: GuestMode, path: Column, vcpus: usize, seed: u64, time: Duration) -> Verdict {
	choose(path)?;
	let before = super::answered()?;
	let migrated_before = migrated()?;
	let machine = Machine::new(Config {
		guest,
		enable: &[Number::CLEAR_MOD, Number::CLEAR_REF],
		window: false,
	})?;
	machine.memory().write(map::HAMMER_STOP, 0_u64);
	let done = Counts::default();
	let changer = Changer::new(&machine, seed, &done)?;
	let vcpu = |number: usize| {
		let block = Hammer {
			seed: seed.wrapping_mul(2 * number as u64 + 3),
			vcpu: number as u64,
			..Hammer::default()
		};
		machine.hammer(IDS[number], block, vcpus == 1)
	};
	let mut running: Vec<Vcpu> = (0..vcpus).map(vcpu).collect::<Result<_, _>>()?;
	let hammers = || -> Vec<Hammer> {
		let ids = IDS.iter().take(vcpus);
		ids.map(|&id| machine.hammered(id)).collect()
	};
	let (stop, left) = (AtomicBool::new(false), AtomicU64::new(0));
	let faults = AtomicU64::new(0);
	let is_enough = || {
		counts(&done).iter().all(|&count| count >= ENOUGH)
			&& faults.load(Ordering::Relaxed) > 0
			&& hammers().iter().all(|one| did_enough(one, vcpus))
	};
	let (ended, changer) = std::thread::scope(|scope| {
		let (stop, left, faults) = (&stop, &left, &faults);
		let run = |vcpu| {
			scope.spawn(move || {
				let result = run(vcpu, seed, faults);
				left.fetch_add(1, Ordering::Relaxed);
				result
			})
		};
		let running: Vec<_> = running.iter_mut().map(run).collect();
		let changing = scope.spawn(move || changer.run(stop));
		let start = Instant::now();
		let is_over = || {
			let is_bad = hammers().iter().any(|one| one.bad != 0);
			start.elapsed() >= time && is_enough() || is_bad || start.elapsed() >= time + LIMIT
		};
		while !is_over() && left.load(Ordering::Relaxed) == 0 && !changing.is_finished() {
			std::thread::sleep(Duration::from_millis(20));
		}
		stop.store(true, Ordering::Relaxed);
		let changed = changing.join().expect("it doesn't panic");
		machine.memory().write(map::HAMMER_STOP, 1_u64);
		let ended = running
			.into_iter()
			.try_for_each(|thread| thread.join().expect("it doesn't panic"));
		(ended, changed)
	});
	ended?;
	let mut changer = changer?;
	let hammers = hammers();
	for (vcpu, hammer) in hammers.iter().enumerate() {
		if hammer.bad != 0 {
			let [line, rest @ ..] = hammer.first_bad;
			return wrong(format!(
				"vcpu {vcpu}: {} of {} hcalls and {} accesses went wrong; the first, line {line} of the \
				 payload's hammer.rs: {rest:x?}",
				hammer.bad,
				hammer.rounds,
				hammer.loads + hammer.stores
			));
		}
	}
	changer.check_memory(&hammers)?;
	let hpt = changer.check_copies()?;
	let in_use = check_hpt(&hpt, &hammers)?;
	let after = super::answered()?;
	let [fast, full] = [0, 1].map(|n| after[n] - before[n]);
	let sum = |count: fn(&Hammer) -> u64| hammers.iter().map(count).sum::<u64>();
	let rounds = sum(|one| one.rounds);
	let accesses = [sum(|one| one.loads), sum(|one| one.stores)];
	let lost = [sum(|one| one.lost[0]), sum(|one| one.lost[1])];
	let faults = faults.load(Ordering::Relaxed);
	let migrated = migrated()? - migrated_before;
	let each: Vec<String> = CHANGES
		.iter()
		.zip(counts(&done))
		.map(|((change, _), count)| format!("{change:?} {count}"))
		.collect();
	let what = format!(
		"{rounds} hcalls, {fast} fast, {full} by Rust on the full path, {} loads, {} stores, {} and {} lost to the other vcpu; {} and {} \
		 HPTEs at the end; {faults} stores to read-only pages; {migrated} pages migrated; {} dirty pages and {} \
		 HPTEs copied; read {} times during a resize; {}",
		accesses[0],
		accesses[1],
		lost[0],
		lost[1],
		in_use[0],
		in_use[1],
		changer.copied,
		changer.changed,
		changer.read,
		each.join(", ")
	);
	let is_fast = match path {
		Column::RustFast => fast >= rounds / 2,
		Column::RustFull => fast == 0 && full >= rounds / 2,
		_ => fast == 0 && full == 0,
	};
	let copied =
		changer.copied >= ENOUGH && changer.changed >= 10 * ENOUGH && changer.read >= ENOUGH;
	if !is_enough() || !is_fast || !copied || in_use.contains(&0) {
		return wrong(what);
	}
	Ok(what)
}
