// SPDX-License-Identifier: GPL-2.0-only
//! Memory slots are added, moved and deleted during a storm of TCE hcalls.
//!
//! Two vcpus do H_PUT_TCE, H_PUT_TCE_INDIRECT and H_STUFF_TCE, with addresses in a slot and with
//! lists in another one. A thread changes the slots all the while. The rules are these:
//!
//! - While no slot changes, an hcall that needs a slot is answered H_SUCCESS if the slot is where
//!   the hcall needs it, and goes to userspace if the slot is elsewhere or nowhere.
//! - During a change both are right, and no other code is.
//! - An hcall that needs no slot always has its own code: H_SUCCESS, or H_PARAMETER for H_STUFF_TCE
//!   with permissions.
//! - What an hcall writes is one list as a whole, of a slot that was there during the hcall. An
//!   hcall without success changes nothing.
//!
//! The guest checks all of that (`slots.rs` of the payload).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use protocol::slots::{
	self, ADDRESSES, LIST_COUNT, LIST_ENTRIES, LIST_SIZE, LISTS, LISTS_THAT_STAY, OWN, Place,
	SHARED, SHARED_COUNT, SIZES, SLOTS, Shared, Storm, Word,
};
use protocol::{Column, GuestMode, map, private};
use vmm::host;
use vmm::kvm::{Exit, Memory, Slot, Vcpu};
use vmm::machine::{Config, Failure, Machine};
use vmm::timer::Timer;

use crate::common::{Verdict, choose, wrong};
use crate::cpus;
use crate::tce::{PAGE, Random, TCES};

/// Which vcpus there are.
const VCPUS: [u64; 2] = [1, 2];
/// The numbers of the slots.
const NUMBERS: [u32; SLOTS] = [9, 10];
/// H_RESOURCE, which KVM answers to no TCE hcall.
const REFUSAL: Code = Code(-16);
/// Changes, hcalls of each kind: fewer would say little. The storm lasts until there are enough, but
/// not longer than this.
const ENOUGH: u64 = 20;
const LIMIT: Duration = Duration::from_secs(60);
/// What may be missing of the free memory of the host afterwards: the machine goes on. What a
/// storm allocates must be several times as much.
const TOLERANCE: u64 = 16 << 20;

/// What a thread does to the slots.
struct Changer<'a> {
	machine: &'a Machine,
	random: Random,
	slots: [Option<Slot>; SLOTS],
	words: [Word; SLOTS],
	done: &'a Changes,
}

/// How often it did what.
#[derive(Default)]
struct Changes {
	added: AtomicU64,
	moved: AtomicU64,
	deleted: AtomicU64,
	bytes: AtomicU64,
}

impl Changes {
	/// Times added, moved and deleted, and bytes added.
	fn counts(&self) -> [u64; 4] {
		let counts = [&self.added, &self.moved, &self.deleted, &self.bytes];
		counts.map(|count| count.load(Ordering::Relaxed))
	}

	fn are_enough(&self) -> bool {
		let [times @ .., bytes] = self.counts();
		times.iter().all(|&count| count >= ENOUGH) && bytes >= 2 * TOLERANCE
	}
}

/// Hcalls that had to succeed, that had to go to userspace, those of either kind during a change,
/// and those with a code of their own.
fn kinds(storms: &[Storm]) -> [u64; 5] {
	let sum = |count: fn(&Storm) -> u64| storms.iter().map(count).sum();
	[
		sum(|storm| storm.succeeded),
		sum(|storm| storm.refused),
		sum(|storm| storm.raced[0]),
		sum(|storm| storm.raced[1]),
		sum(|storm| storm.fixed),
	]
}

impl Changer<'_> {
	/// Tells the vcpus. What they see is never newer than what they are told before a change, and
	/// never older than what they are told after it.
	fn tell(&mut self, slot: usize, contents: u64, place: Place) {
		self.words[slot] = self.words[slot].next(contents, place);
		fence(Ordering::SeqCst);
		let address = map::SLOTS_SHARED + 8 * slot as u64;
		self.machine.memory().write(address, self.words[slot].0);
		fence(Ordering::SeqCst);
	}

	/// Memory for a slot, with something in each page.
	fn memory(slot: usize, contents: u64) -> Result<Memory, Failure> {
		let memory = Memory::new(SIZES[slot] as usize)?;
		for page in (0..SIZES[slot]).step_by(PAGE as usize) {
			memory.write(page, contents);
		}
		if slot == LISTS {
			for list in 0..LIST_COUNT {
				write_list(&memory, list * LIST_SIZE, contents, list);
			}
		}
		Ok(memory)
	}

	/// One change of one slot.
	fn change(&mut self) -> Result<(), Failure> {
		let which = self.random.below(SLOTS as u64) as usize;
		let contents = self.words[which].contents();
		let moves = self.random.chance(40);
		match self.slots[which].take() {
			None => {
				// Made before the change, which is short then.
				let memory = Self::memory(which, contents + 1)?;
				let to = self.random.below(2) as usize;
				self.tell(which, contents, Place::Changing);
				self.done.added.fetch_add(1, Ordering::Relaxed);
				self.done.bytes.fetch_add(memory.size(), Ordering::Relaxed);
				let vm = self.machine.vm();
				let slot = vm.add_memory(NUMBERS[which], ADDRESSES[which][to], memory)?;
				self.slots[which] = Some(slot);
				self.tell(which, contents + 1, Place::At(to));
			}
			Some(mut slot) if moves => {
				let to = usize::from(slot.address() == ADDRESSES[which][0]);
				self.tell(which, contents, Place::Changing);
				self.done.moved.fetch_add(1, Ordering::Relaxed);
				slot.move_to(ADDRESSES[which][to])?;
				self.slots[which] = Some(slot);
				self.tell(which, contents, Place::At(to));
			}
			Some(slot) => {
				self.tell(which, contents, Place::Changing);
				self.done.deleted.fetch_add(1, Ordering::Relaxed);
				drop(slot);
				self.tell(which, contents, Place::Nowhere);
			}
		}
		Ok(())
	}

	/// Changes until it is told to stop, and deletes what is left.
	fn run(mut self, stop: &AtomicBool) -> Result<(), Failure> {
		while !stop.load(Ordering::Relaxed) {
			self.change()?;
			std::thread::sleep(Duration::from_micros(200 + self.random.below(3000)));
		}
		for which in 0..SLOTS {
			self.tell(which, self.words[which].contents(), Place::Changing);
			self.slots[which] = None;
			self.tell(which, self.words[which].contents(), Place::Nowhere);
		}
		Ok(())
	}
}

fn write_list(memory: &Memory, address: u64, contents: u64, list: u64) {
	for index in 0..LIST_ENTRIES {
		let entry = slots::entry(contents, list, index);
		memory.write(address + 8 * index, entry.to_be());
	}
}

/// Runs a vcpu here and there until it says that it is done. Returns how many hcalls came here.
fn run(vcpu: &mut Vcpu, seed: u64) -> Result<u64, Failure> {
	let mut random = Random(seed);
	let interval = Duration::from_millis(7);
	let _timer = Timer::every(interval, interval)?;
	let mut refused = 0;
	loop {
		match vcpu.run()? {
			Exit::Hcall(private::DONE, _) => {
				vcpu.answer(Code::SUCCESS);
				return Ok(refused);
			}
			Exit::Hcall(Number::PUT_TCE | Number::PUT_TCE_INDIRECT, _) => {
				refused += 1;
				vcpu.answer(REFUSAL);
			}
			Exit::Interrupted => {
				cpus::move_to_cpu(random.below(2) as usize)?;
			}
			exit => return wrong(format!("a vcpu of the storm: {exit:x?}")),
		}
	}
}

/// What the host could give out now.
fn free_memory() -> Result<u64, Failure> {
	const FILE: &str = "/proc/meminfo";
	let text = std::fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
	let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
	let size = line.and_then(|line| line.trim().strip_suffix(" kB"));
	let size: Option<u64> = size.and_then(|size| size.parse().ok());
	Ok(size.ok_or_else(|| format!("{FILE} has no MemFree"))? << 10)
}

/// The table is what the vcpus say, where each has its own part, and plausible elsewhere.
fn check_table(machine: &Machine, storms: &[Storm]) -> Result<u64, Failure> {
	let table = machine.table()?;
	let mut filled = 0;
	for storm in storms {
		let own = &table[storm.first as usize..][..OWN];
		if let Some(index) = (0..OWN).find(|&index| own[index] != storm.table[index]) {
			return wrong(format!(
				"entry {}: {:#x} at the end, {:#x} for its vcpu",
				storm.first as usize + index,
				own[index],
				storm.table[index]
			));
		}
		filled += own.iter().filter(|&&entry| entry != 0).count() as u64;
	}
	let shared = &table[SHARED as usize..][..SHARED_COUNT as usize];
	if let Some(&entry) = shared.iter().find(|&&entry| !slots::is_possible(entry)) {
		return wrong(format!("no vcpu wrote {entry:#x}"));
	}
	let others = (0_u64..).zip(&table).filter(|(index, _)| {
		let is_own = storms
			.iter()
			.any(|storm| (storm.first..storm.first + OWN as u64).contains(index));
		!is_own && !(SHARED..SHARED + SHARED_COUNT).contains(index)
	});
	if let Some((index, entry)) = others.into_iter().find(|(_, entry)| **entry != 0) {
		return wrong(format!("entry {index}, which is no vcpu's: {entry:#x}"));
	}
	Ok(filled)
}

/// What a vcpu complains of.
fn complaint(id: u64, storm: &Storm) -> Option<String> {
	let first = storm.first_bad;
	(storm.bad != 0).then(|| {
		let what = match first[0] {
			Storm::BAD_CODE => "a code that is not allowed",
			_ => "a wrong entry",
		};
		format!(
			"vcpu {id}: {} of {} hcalls went wrong; the first, {:#x}: {what}: {:x?}",
			storm.bad,
			storm.rounds,
			first[1],
			&first[2..]
		)
	})
}

/// Two vcpus and the thread, for some time at least.
pub fn storm(guest: GuestMode, path: Column, seed: u64, time: Duration) -> Verdict {
	choose(path)?;
	let free_before = free_memory()?;
	let fast_before = host::fast_total().unwrap_or(0);
	let machine = Machine::new(Config {
		guest,
		enable: &TCES,
		window: true,
	})?;
	machine.memory().write(
		map::SLOTS_SHARED,
		Shared {
			refusal: REFUSAL.0 as u64,
			..Shared::default()
		},
	);
	for (place, list) in (0..).zip(LISTS_THAT_STAY) {
		write_list(machine.memory(), map::TCE_LIST + place * LIST_SIZE, 0, list);
	}
	let vcpu = |id: u64| {
		machine.storm(
			id,
			Storm {
				seed: seed.wrapping_mul(2 * id + 1),
				first: id * OWN as u64,
				..Storm::default()
			},
		)
	};
	let mut vcpus = [vcpu(VCPUS[0])?, vcpu(VCPUS[1])?];
	let (stop, left) = (AtomicBool::new(false), AtomicU64::new(0));
	let changes = Changes::default();
	let changer = Changer {
		machine: &machine,
		random: Random(seed),
		slots: [const { None }; SLOTS],
		words: [Word(0); SLOTS],
		done: &changes,
	};
	let (seen, changed) = std::thread::scope(|scope| {
		let (stop, left) = (&stop, &left);
		let running = vcpus.each_mut().map(|vcpu| {
			scope.spawn(move || {
				let result = run(vcpu, seed);
				left.fetch_add(1, Ordering::Relaxed);
				result
			})
		});
		let changing = scope.spawn(move || changer.run(stop));
		let start = Instant::now();
		let is_over = || {
			let storms = VCPUS.map(|id| machine.stormed(id));
			let is_enough = kinds(&storms).iter().all(|&count| count >= ENOUGH);
			let is_bad = storms.iter().any(|storm| storm.bad != 0);
			let is_done = start.elapsed() >= time && is_enough && changes.are_enough();
			is_done || is_bad || start.elapsed() >= LIMIT
		};
		while !is_over() && left.load(Ordering::Relaxed) == 0 && !changing.is_finished() {
			std::thread::sleep(Duration::from_millis(20));
		}
		// The vcpus go on until the slots are gone.
		stop.store(true, Ordering::Relaxed);
		let changed = changing.join().expect("it doesn't panic");
		let at = map::SLOTS_SHARED + core::mem::offset_of!(Shared, stop) as u64;
		machine.memory().write(at, 1_u64);
		(
			running.map(|thread| thread.join().expect("it doesn't panic")),
			changed,
		)
	});
	let [first, second] = seen;
	changed?;
	let seen = [first?, second?];
	let storms = VCPUS.map(|id| machine.stormed(id));
	for ((id, storm), seen) in VCPUS.iter().zip(&storms).zip(seen) {
		if let Some(complaint) = complaint(*id, storm) {
			return wrong(complaint);
		}
		let refused = storm.refused + storm.raced[1];
		if refused != seen {
			return wrong(format!(
				"vcpu {id}: {refused} answers of userspace, which gave {seen}"
			));
		}
	}
	let filled = check_table(&machine, &storms)?;
	drop((vcpus, machine));
	let lost = free_before.saturating_sub(free_memory()?);
	let fast = host::fast_total().unwrap_or(0) - fast_before;
	let rounds: u64 = storms.iter().map(|storm| storm.rounds).sum();
	let counts = kinds(&storms);
	let [added, moved, deleted, bytes] = changes.counts();
	let what = format!(
		"{rounds} hcalls: {} had to succeed, {} had to go to userspace, {} and {} of those during a \
		 change did, {} had a code of their own; {fast} fast; slots {added} times added, {moved} moved, \
		 {deleted} deleted; {filled} entries at the end; {} of {} MiB not free again",
		counts[0],
		counts[1],
		counts[2],
		counts[3],
		counts[4],
		lost >> 20,
		bytes >> 20
	);
	let is_enough = counts.iter().all(|&count| count >= ENOUGH) && changes.are_enough();
	// Half of what the vcpus do reads back.
	let is_fast = match path {
		Column::RustFast => fast >= rounds / 2,
		_ => fast == 0,
	};
	if !is_enough || !is_fast || filled == 0 || lost > TOLERANCE {
		return wrong(what);
	}
	Ok(what)
}
