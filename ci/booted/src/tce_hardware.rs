// SPDX-License-Identifier: GPL-2.0-only
//! Tests of the TCE hcalls on tables that hardware follows.
//!
//! A guest's window is attached to hardware tables of its own bus addresses, and a device
//! does DMA there ([`Edu`]). Three things have to agree at any time:
//!
//! - the guest's table, which H_GET_TCE and userspace read;
//! - the hardware's, which the device shows: every 4 KiB of memory begin with a word that
//!   tells where they are in the guest, and after that comes one for the device to write;
//! - the number of mappings that each region of registered memory counts. The kernel
//!   doesn't tell it, but when userspace takes back a region's registration then its pages
//!   are unlocked exactly if nothing is mapped, which VmLck shows. With one mapping left
//!   they mustn't be; that finds one that was taken off too often, and costs the region,
//!   because the kernel then forgets whose it was. With none left they must.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use protocol::block::{Call, Hammer};
use protocol::{Case, Guest, Path, map};
use static_assertions::const_assert;

use crate::registers;
use crate::tce::{
	self, Answers, BATCH, LIST, PAGE, PAGE_ENTRIES, Random, TCES, window, write_list,
};
use crate::vfio::{self, Container, Edu, Group};
use vmm::host;
use vmm::kvm::{Exit, Memory, Slot, Vcpu, Vfio, Window, Windows};
use vmm::machine::{Config, Failure, Machine};
use vmm::timer::Timer;

/// A device may read, and write.
const READ: u64 = 1;
const WRITE: u64 = 2;
const BOTH: u64 = READ | WRITE;

/// What the device's DMA is checked in.
const UNIT: u64 = 4096;
/// Where in them the device writes.
const SPOT: u64 = 8;
/// What the device's buffer holds where it could read nothing.
const NOTHING: u64 = 0x6e6f_7468_696e_6700;
/// Marks values that the device writes.
const WRITTEN: u64 = 0x77 << 56;

/// Batches on the same tables.
const ROUND: u64 = 4;
/// Entries that the device looks at after each.
const SAMPLES: usize = 16;

type Verdict = Result<String, Failure>;

fn wrong<T>(why: String) -> Result<T, Failure> {
	Err(Failure::Wrong(why))
}

/// What 4 KiB of memory at that guest address begin with.
const fn identity(address: u64) -> u64 {
	0x1d << 56 | address
}

/// A guest's window.
#[derive(Clone, Copy)]
struct Table {
	page_shift: u32,
	entries: u64,
	/// Page shift and levels of the hardware table of each device.
	hardware: &'static [(u32, u32)],
}

/// The LIOBNs of a configuration's windows.
const LIOBNS: [u64; 2] = [map::LIOBN, map::LIOBN + 1];

/// Windows of the 32-bit and of the 64-bit bus addresses. The first is as large as the
/// hardware's, the second smaller, and the mailbox is behind it. Tables of several levels
/// have leaves of 8192 entries, and all but the root come into being when needed.
type Tables = [Table; 2];

const fn table(page_shift: u32, entries: u64, hardware: &'static [(u32, u32)]) -> Table {
	Table {
		page_shift,
		entries,
		hardware,
	}
}

/// Entries as large as the hardware's.
const SAME: Tables = [table(12, 0x4000, &[(12, 1)]), table(16, 0x4801, &[(16, 2)])];
/// Several levels in both, and entries of 16 of the hardware's.
const DEEP: Tables = [table(16, 0x2000, &[(12, 2)]), table(12, 0x3001, &[(12, 3)])];
/// Entries of 256 of the hardware's.
const LARGE: Tables = [table(16, 0x1000, &[(16, 1)]), table(24, 300, &[(16, 1)])];
/// Two devices, whose tables are unlike.
const TWO: Tables = [
	table(16, 0x1000, &[(12, 1), (16, 2)]),
	table(12, 0x2801, &[(12, 2), (12, 1)]),
];
/// What vcpus hammer: the first; the second is for the mailbox.
const HAMMERED: Tables = [
	table(map::TCE_SHIFT, map::TCE_PAGES, &[(12, 2), (12, 1)]),
	table(16, 15, &[(16, 1), (16, 1)]),
];

/// By name, for those who have to look for what went wrong.
const ALL: [(&str, Tables); 4] = [
	("same", SAME),
	("deep", DEEP),
	("large", LARGE),
	("two", TWO),
];

/// Guest memory that entries point to: slot, address, size, and the size of the regions
/// in which it is registered, or 0.
type Target = (u32, u64, u64, u64);

/// The second isn't registered. The third has pages for the largest entries. The first has
/// none that begins there, lest C map the beginning of one and count that for ever.
const TARGETS: [Target; 3] = [
	(1, 0x4010_0000, 1 << 20, 1 << 19),
	(2, 0x5000_0000, 1 << 19, 0),
	(3, 1 << 32, 32 << 20, 16 << 20),
];
/// For counting, with a region for each case.
const SMALL: [Target; 1] = [(1, 0x4000_0000, 1 << 20, PAGE)];

/// A piece of guest memory.
struct Place {
	memory: Arc<Memory>,
	/// Where it is for the guest, and in the memory.
	address: u64,
	offset: u64,
	size: u64,
}

impl Place {
	/// So many bytes of a memory, from an offset on.
	fn new(memory: &Arc<Memory>, address: u64, offset: u64, size: u64) -> Self {
		Self {
			memory: memory.clone(),
			address,
			offset,
			size,
		}
	}

	/// By guest address.
	fn units(&self) -> impl Iterator<Item = (u64, u64)> {
		let addresses = (self.address..self.address + self.size).step_by(UNIT as usize);
		addresses.zip((self.offset..).step_by(UNIT as usize))
	}

	fn contains(&self, address: u64) -> bool {
		(self.address..self.address + self.size).contains(&address)
	}
}

/// An entry of one of the windows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
	table: usize,
	index: u64,
}

/// An entry, a place in its page, and what is expected of it.
#[derive(Clone, Copy, Debug)]
struct Sample {
	entry: Entry,
	offset: u64,
	tce: u64,
}

/// What a device's read brings is what lies at that guest address; at none, nothing.
fn is_read(found: u64, address: Option<u64>) -> bool {
	match address {
		Some(address) => found == identity(address),
		None => found == 0 || found == NOTHING,
	}
}

/// A VM whose TCE hcalls KVM answers, without windows.
fn machine(guest: Guest) -> Result<Machine, Failure> {
	Machine::new(Config {
		guest,
		enable: &TCES,
		window: false,
	})
}

/// A VM, its windows, the hardware behind them, and memory for DMA.
// The order of the fields is the order in which they are dropped.
struct Rig {
	edus: Vec<Edu>,
	vfio: Vfio,
	windows: [Window; 2],
	_slots: Vec<Slot>,
	machine: Machine,
	/// All memory that is watched.
	places: Vec<Place>,
	/// What of it is registered.
	regions: Vec<Place>,
	containers: Vec<Container>,
	groups: Vec<Group>,
	tables: Tables,
	starts: [u64; 2],
}

impl Rig {
	fn new(guest: Guest, tables: Tables, targets: &[Target]) -> Result<Self, Failure> {
		let machine = machine(guest)?;
		let (mut slots, mut places, mut regions) = (vec![], vec![], vec![]);
		for &(slot, address, size, region) in targets {
			let slot = machine
				.vm()
				.add_memory(slot, address, Memory::new(size as usize)?)?;
			let place = |offset, size| Place::new(&slot.memory, address + offset, offset, size);
			places.push(place(0, size));
			if region != 0 {
				regions.extend((0..size).step_by(region as usize).map(|o| place(o, region)));
			}
			slots.push(slot);
		}
		Self::with(machine, tables, slots, places, regions)
	}

	fn with(
		machine: Machine,
		tables: Tables,
		slots: Vec<Slot>,
		places: Vec<Place>,
		regions: Vec<Place>,
	) -> Result<Self, Failure> {
		for place in &places {
			// The kernel goes on for ever taking what is at these addresses for what is there
			// now if it has counted wrong.
			place.memory.keep_addresses();
			for (address, offset) in place.units() {
				place.memory.write(offset, identity(address));
				place.memory.write(offset + SPOT, 0_u64);
			}
		}
		let groups = Group::open(tables[0].hardware.len())?;
		let (mut containers, mut edus) = (vec![], vec![]);
		let mut starts = [0; 2];
		for (device, group) in groups.iter().enumerate() {
			let container = Container::new(group)?;
			for region in &regions {
				container.register(&region.memory, region.offset, region.size)?;
			}
			let mut mailbox = (0, 0);
			for (table, start) in tables.iter().zip(&mut starts) {
				let (shift, levels) = table.hardware[device];
				let bytes = (table.entries << table.page_shift).next_power_of_two();
				*start = container.create_window(shift, bytes, levels)?;
				mailbox = (*start + bytes - (1 << shift), shift);
			}
			edus.push(Edu::new(group, &container, mailbox.0, mailbox.1)?);
			containers.push(container);
		}
		let vfio = machine.vm().create_vfio()?;
		for group in &groups {
			vfio.add(group)?;
		}
		let create = |index: usize| {
			let Table {
				page_shift,
				entries,
				..
			} = tables[index];
			let offset = starts[index] >> page_shift;
			let window =
				machine
					.vm()
					.create_window(&window(LIOBNS[index], page_shift, offset, entries))?;
			for group in &groups {
				vfio.attach(group, &window)?;
			}
			Ok::<_, Failure>(window)
		};
		let windows = [create(0)?, create(1)?];
		Ok(Self {
			edus,
			vfio,
			windows,
			_slots: slots,
			machine,
			places,
			regions,
			containers,
			groups,
			tables,
			starts,
		})
	}

	/// An entry's bus address.
	fn bus(&self, entry: Entry) -> u64 {
		self.starts[entry.table] + (entry.index << self.tables[entry.table].page_shift)
	}

	fn put(&self, entry: Entry, tce: u64) -> Call {
		call(
			Number::PUT_TCE,
			[LIOBNS[entry.table], self.bus(entry), tce, 0],
		)
	}

	fn stuff(&self, entry: Entry, tce: u64, count: u64) -> Call {
		let args = [LIOBNS[entry.table], self.bus(entry), tce, count];
		call(Number::STUFF_TCE, args)
	}

	/// Writes the entries to the list of that number, and is the hcall that takes them.
	fn list(&self, entry: Entry, list: u64, tces: &[u64]) -> Call {
		let address = map::TCE_LIST + list * LIST;
		for (place, tce) in (address..).step_by(8).zip(tces) {
			self.machine.memory().write(place, tce.to_be());
		}
		let count = tces.len() as u64;
		let args = [LIOBNS[entry.table], self.bus(entry), address, count];
		call(Number::PUT_TCE_INDIRECT, args)
	}

	/// Has the guest do calls that have to succeed.
	fn succeed(&mut self, calls: &[Call]) -> Result<Vec<Call>, Failure> {
		let mut done = vec![];
		for calls in calls.chunks(map::MAX_CALLS) {
			done.extend(tce::perform(&mut self.machine, calls)?.0);
		}
		match done.iter().find(|call| call.code as i64 != Code::SUCCESS.0) {
			None => Ok(done),
			Some(call) => wrong(format!(
				"hcall {:#x} {:x?} returned {}",
				call.number, call.args, call.code as i64
			)),
		}
	}

	/// What the guest reads there.
	fn get(&mut self, entries: &[Entry]) -> Result<Vec<u64>, Failure> {
		let calls: Vec<_> = entries
			.iter()
			.map(|&entry| {
				call(
					Number::GET_TCE,
					[LIOBNS[entry.table], self.bus(entry), 0, 0],
				)
			})
			.collect();
		Ok(self.succeed(&calls)?.iter().map(|call| call.r4).collect())
	}

	/// The guest address that a device reaches there, if any.
	fn page(&self, sample: Sample) -> Option<u64> {
		let mask = (1 << self.tables[sample.entry.table].page_shift) - 1;
		(sample.tce & BOTH != 0).then_some((sample.tce & !mask) + sample.offset)
	}

	/// Every device reads and writes what it should there, and nothing else.
	fn check_dma(&self, samples: &[Sample]) -> Result<(), Failure> {
		let addresses: Vec<_> = samples
			.iter()
			.map(|sample| self.bus(sample.entry) + sample.offset)
			.collect();
		for (device, edu) in self.edus.iter().enumerate() {
			let found = edu.read(&addresses, NOTHING)?;
			for (&sample, found) in samples.iter().zip(found) {
				// The kernel lets devices read wherever they may write.
				if !is_read(found, self.page(sample)) {
					return wrong(format!("device {device} reads {found:#x} at {sample:x?}"));
				}
			}
			let values: Vec<_> = (1_u64..)
				.map(|value| WRITTEN | value)
				.zip(&addresses)
				.map(|(value, address)| (address + SPOT, value))
				.collect();
			edu.write(&values)?;
			let mut expected = BTreeMap::new();
			for (&sample, (_, value)) in samples.iter().zip(values) {
				if let (Some(address), true) = (self.page(sample), sample.tce & WRITE != 0) {
					expected.insert(address, value);
				}
			}
			self.check_spots(device, samples, expected)?;
		}
		Ok(())
	}

	/// Finds the values where they are expected and nowhere else, and takes them away.
	fn check_spots(
		&self,
		device: usize,
		samples: &[Sample],
		mut expected: BTreeMap<u64, u64>,
	) -> Result<(), Failure> {
		for place in &self.places {
			for (address, offset) in place.units() {
				let spot = offset + SPOT;
				let found: u64 = place.memory.read(spot);
				let wanted = expected.remove(&address).unwrap_or(0);
				if found != 0 {
					place.memory.write(spot, 0_u64);
				}
				if found != wanted {
					return wrong(format!(
						"device {device} wrote {found:#x} to {address:#x} instead of {wanted:#x}: \
						 {samples:x?}"
					));
				}
			}
		}
		match expected.first_key_value() {
			None => Ok(()),
			Some((address, _)) => wrong(format!("nobody watches {address:#x}")),
		}
	}

	/// The entries that map a part of the region.
	fn mappings(&self, region: usize) -> Result<Vec<Entry>, Failure> {
		let region = &self.regions[region];
		let mut found = vec![];
		for (table, window) in self.windows.iter().enumerate() {
			for (index, tce) in (0..).zip(window.table()?) {
				if tce & BOTH != 0 && region.contains(tce & !(BOTH | (UNIT - 1))) {
					found.push(Entry { table, index });
				}
			}
		}
		Ok(found)
	}

	fn unregister(&self, region: usize) -> Result<bool, Failure> {
		unregister(&self.containers, &self.regions[region])
	}

	/// Nothing is mapped in the region, and that is what it counts. It isn't registered
	/// any more then.
	fn check_free(&self, region: usize) -> Result<(), Failure> {
		if self.unregister(region)? {
			return Ok(());
		}
		wrong(format!(
			"nothing is mapped at {:#x}, and it is counted as if",
			self.regions[region].address
		))
	}

	/// Only that entry maps a part of the region. Takes all of it but one hardware entry of
	/// one device away, and that is what the region counts. It isn't registered any more
	/// then, and nothing is mapped.
	fn check_last(&mut self, region: usize, last: Entry) -> Result<(), Failure> {
		let (bus, page_shift) = (self.bus(last), self.tables[last.table].page_shift);
		let bytes = 1 << page_shift;
		for (device, container) in self.containers.iter().enumerate() {
			let keep = match device {
				0 => 1 << self.tables[last.table].hardware[0].0,
				_ => 0,
			};
			if keep < bytes {
				container.unmap(bus + keep, bytes - keep)?;
			}
		}
		if self.unregister(region)? {
			return wrong(format!(
				"{:#x} was let go with {last:?} mapped",
				self.regions[region].address
			));
		}
		self.succeed(&[self.put(last, 0)]).map(drop)
	}

	/// Hcalls that unmap everything but one entry.
	fn clear(&mut self, random: &mut Random, but: Option<Entry>) -> Result<(), Failure> {
		let mut calls = vec![];
		for table in 0..self.tables.len() {
			let entries = self.tables[table].entries;
			let mut index = 0;
			while index < entries {
				let entry = Entry { table, index };
				let end = match but {
					Some(but) if but == entry => {
						index += 1;
						continue;
					}
					Some(but) if but.table == table && but.index > index => but.index,
					_ => entries,
				};
				let poison = if random.chance(50) {
					0
				} else {
					random.next() & !BOTH
				};
				let count = if random.chance(30) {
					calls.push(self.put(entry, poison));
					1
				} else {
					let count = (1 + random.below(512)).min(end - index);
					calls.push(self.stuff(entry, poison, count));
					count
				};
				index += count;
			}
		}
		self.succeed(&calls).map(drop)
	}
}

/// Takes a region's registration back. Returns whether its pages were unlocked.
fn unregister(containers: &[Container], region: &Place) -> Result<bool, Failure> {
	let before = vfio::locked_kb()?;
	for container in containers {
		container.unregister(&region.memory, region.offset, region.size)?;
	}
	match before.checked_sub(vfio::locked_kb()?) {
		Some(0) => Ok(false),
		Some(unlocked) if unlocked == region.size >> 10 => Ok(true),
		unlocked => wrong(format!("{unlocked:?} kB were unlocked")),
	}
}

fn call(number: Number, args: [u64; 4]) -> Call {
	Call {
		number: number.0,
		args,
		code: 0x5ca1_ab1e,
		r4: 0x5ca1_ab1e,
	}
}

/// Updates of tables that fast handlers have served so far.
fn fast_updates() -> Result<u64, Failure> {
	let counters = host::counters()
		.ok_or_else(|| Failure::Wrong("no readable counters in debugfs".to_owned()))?;
	let names = ["put_tce", "put_tce_indirect", "stuff_tce"];
	let count = |name| {
		counters
			.get(&format!("fast_h_{name}"))
			.copied()
			.unwrap_or(0)
	};
	Ok(names.into_iter().map(count).sum())
}

/// So many updates of hardware's tables, of which so many were served fast, are what the
/// path should do. One whose list or leaf is not at hand takes the full path.
fn check_served(path: Path, updates: u64, fast: u64) -> Result<(), Failure> {
	let good = if path == Path::RustFast {
		fast > updates / 2
	} else {
		fast == 0
	};
	if good {
		return Ok(());
	}
	wrong(format!(
		"{fast} of {updates} updates served fast on {}",
		path.name()
	))
}

/// What the device reaches is what the entries say, after each kind of hcall, at both ends
/// of each window and of the pages of its tables.
pub fn translation(guest: Guest, path: Path) -> Verdict {
	let mut told = vec![];
	for (name, tables) in ALL {
		host::choose(path).map_err(Failure::Unsupported)?;
		let before = fast_updates()?;
		let mut rig = Rig::new(guest, tables, &TARGETS)?;
		let (updates, looked) = translate(&mut rig).map_err(|failure| named(failure, name))?;
		check_served(path, updates, fast_updates()? - before)
			.map_err(|failure| named(failure, name))?;
		told.push(format!("{name} {looked}"));
	}
	Ok(format!("DMA right at {}", told.join(", ")))
}

fn named(failure: Failure, name: &str) -> Failure {
	match failure {
		Failure::Wrong(why) => Failure::Wrong(format!("{name}: {why}")),
		other => other,
	}
}

/// Returns how many updates there were, and how many places the device looked at.
fn translate(rig: &mut Rig) -> Result<(u64, u64), Failure> {
	let mut entries = vec![];
	for (table, shape) in rig.tables.iter().enumerate() {
		let last = shape.entries - 1;
		// Where the hardware's first leaf ends, and a page of the guest's table.
		let leaf = PAGE_ENTRIES >> (shape.page_shift - shape.hardware[0].0);
		let indices = [
			0,
			1,
			leaf - 1,
			leaf,
			PAGE_ENTRIES - 1,
			PAGE_ENTRIES,
			last - 1,
			last,
		];
		let mut indices: Vec<_> = indices.into_iter().filter(|&i| i <= last).collect();
		indices.sort_unstable();
		indices.dedup();
		entries.extend(indices.into_iter().map(|index| Entry { table, index }));
	}
	// A page of registered memory for each, and another one for another step.
	let page = |rig: &Rig, number: usize, step: u64| {
		let page_shift = rig.tables[entries[number].table].page_shift;
		let (_, start, size, _) = if page_shift > 16 {
			TARGETS[2]
		} else {
			TARGETS[0]
		};
		start + ((number as u64 + step) << page_shift) % size
	};
	let (mut updates, mut looked) = (0, 0);
	// How the entries are changed, and to what.
	type Step = fn(&Rig, Entry, u64, u64) -> (Call, u64);
	let put: Step = |rig, entry, tce, _| (rig.put(entry, tce), tce);
	let list: Step = |rig, entry, tce, list| (rig.list(entry, list, &[tce]), tce);
	let stuff: Step = |rig, entry, tce, _| (rig.stuff(entry, tce & !BOTH, 1), tce & !BOTH);
	let zero: Step = |rig, entry, _, _| (rig.put(entry, 0), 0);
	let stuff_zero: Step = |rig, entry, _, _| (rig.stuff(entry, 0, 1), 0);
	let poison: Step = |rig, entry, tce, _| (rig.put(entry, tce | 3 << 60), tce | 3 << 60);
	let steps: [(Step, u64); 14] = [
		(put, BOTH),
		// The same once more, another page, and fewer permissions.
		(put, BOTH),
		(put, READ),
		(list, WRITE),
		(list, BOTH),
		(zero, 0),
		(list, BOTH),
		(stuff_zero, 0),
		(stuff_zero, 0),
		(list, READ),
		// A page of memory without permissions, and none of memory.
		(put, 0),
		(put, WRITE),
		(poison, 0),
		(stuff, BOTH),
	];
	for (number, (step, permissions)) in (0_u64..).zip(steps) {
		let moved = if number == 1 { 0 } else { number };
		let (calls, tces): (Vec<_>, Vec<_>) = entries
			.iter()
			.enumerate()
			.map(|(n, &entry)| step(rig, entry, page(rig, n, moved) | permissions, n as u64))
			.unzip();
		rig.succeed(&calls)?;
		updates += calls.len() as u64;
		let samples: Vec<_> = entries
			.iter()
			.zip(tces)
			.enumerate()
			.map(|(n, (&entry, tce))| {
				// The first, the last and others.
				let units = (1 << rig.tables[entry.table].page_shift) / UNIT;
				let unit = (n as u64 + number) * (units / 3 + 1);
				let offset = match (n as u64 + number) % 3 {
					0 => 0,
					1 => (units - 1) * UNIT,
					_ => unit % units * UNIT,
				};
				Sample { entry, offset, tce }
			})
			.collect();
		let read = rig.get(&entries)?;
		if let Some((sample, read)) = samples
			.iter()
			.zip(read)
			.find(|(sample, read)| sample.tce != *read)
		{
			return wrong(format!(
				"step {number}: the guest reads {read:#x} at {sample:x?}"
			));
		}
		rig.check_dma(&samples)
			.map_err(|failure| named(failure, &format!("step {number}")))?;
		looked += samples.len() as u64;
	}
	Ok((updates, looked))
}

/// How an entry that maps a page of one region is made not to.
type Unmap = fn(&Rig, Entry, u64) -> Call;

/// Each kind of hcall that maps or unmaps counts for one, whatever was there before.
pub fn counts(guest: Guest, path: Path) -> Verdict {
	const OTHER: usize = 15;
	/// A page of the region that everything else is remapped to.
	const ELSEWHERE: u64 = SMALL[0].1 + OTHER as u64 * PAGE;
	let unmaps: [Unmap; 7] = [
		|rig, entry, _| rig.put(entry, 0),
		|rig, entry, _| rig.put(entry, 3 << 60),
		|rig, entry, address| rig.put(entry, address),
		|rig, entry, _| rig.stuff(entry, 0, 1),
		|rig, entry, _| rig.stuff(entry, 3 << 60, 2),
		|rig, entry, _| rig.put(entry, ELSEWHERE | BOTH),
		|rig, entry, _| rig.list(entry, 1, &[ELSEWHERE | READ]),
	];
	let mut counted = 0;
	for (name, tables) in ALL {
		// Its entries are larger than these regions.
		if tables[1].page_shift > 16 {
			continue;
		}
		host::choose(path).map_err(Failure::Unsupported)?;
		for table in 0..tables.len() {
			let mut rig = Rig::new(guest, tables, &SMALL)?;
			for (region, unmap) in unmaps.iter().enumerate() {
				let end = rig.tables[table].entries;
				let entry = |index: u64| Entry { table, index };
				let first = [entry(0), entry(4), entry(end - 2), entry(end / 2)];
				let first = first[region % 4];
				let second = entry(first.index + 1);
				let address = rig.regions[region].address;
				let result = (|| {
					// Everything, and once more what is there already.
					let calls = [
						rig.put(first, address | BOTH),
						rig.put(second, address | READ),
						rig.list(first, 0, &[address | WRITE, address | BOTH]),
					];
					rig.succeed(&calls)?;
					rig.succeed(&[unmap(&rig, second, address)])?;
					rig.succeed(&[unmap(&rig, first, address)])?;
					rig.check_free(region)?;
					// And with one left.
					let region = region + unmaps.len();
					let address = rig.regions[region].address;
					let calls = [
						rig.list(first, 0, &[address | BOTH, address | BOTH]),
						unmap(&rig, second, address),
					];
					rig.succeed(&calls)?;
					rig.check_last(region, first)
				})();
				result.map_err(|failure| {
					named(
						failure,
						&format!("{name}, table {table}, unmapping {region}"),
					)
				})?;
				counted += 2;
			}
			rig.clear(&mut Random(0), None)?;
			rig.check_free(OTHER)
				.map_err(|failure| named(failure, &format!("{name}, table {table}, the rest")))?;
		}
	}
	Ok(format!("{counted} regions counted right"))
}

/// An entry of a list without permissions, which lies in memory. It unmaps, on all paths
/// of a kernel with ours. Other kernels count its region once more for ever, or, if it
/// isn't registered, give the hcall up with the entry cleared and still counted.
pub fn list_unmaps(guest: Guest, path: Path) -> Verdict {
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut rig = Rig::new(guest, DEEP, &SMALL)?;
	let entry = |index| Entry { table: 0, index };
	// In memory that is registered, and not.
	for (region, to) in [(0, SMALL[0].1 + PAGE), (2, 0)] {
		let address = rig.regions[region].address;
		rig.succeed(&[rig.put(entry(0), address | BOTH)])?;
		rig.succeed(&[rig.list(entry(0), 0, &[to])])?;
		let table = rig.get(&[entry(0)])?[0];
		if table != to {
			return wrong(format!("entry {to:#x}: the table has {table:#x}"));
		}
		let nothing = Sample {
			entry: entry(0),
			offset: 0,
			tce: 0,
		};
		rig.check_dma(&[nothing])?;
	}
	rig.succeed(&[rig.stuff(entry(0), 0, 1)])?;
	for region in 0..4 {
		if !rig.unregister(region)? {
			return wrong(format!("region {region} is not free"));
		}
	}
	Ok("unmapped, and not counted".to_owned())
}

/// A page that is longer than the memory slot it begins in. Userspace's memory goes on
/// behind the slot, all of it registered; but it isn't the guest's.
pub fn slot_end(guest: Guest, path: Path) -> Verdict {
	const MIB: u64 = 1 << 20;
	/// Here the guest's memory ends with the slot.
	const SHORT: u64 = 0x4000_0000;
	/// Here another slot begins where the first ends, which is elsewhere in userspace.
	const FIRST: u64 = 0x6000_0000;
	const SECOND: u64 = FIRST + 8 * MIB;
	/// What userspace's memory begins with where it is not the guest's.
	const BEHIND: u64 = 0x7000_0000;
	host::choose(path).map_err(Failure::Unsupported)?;
	let ours = path != Path::C;
	let machine = machine(guest)?;
	let (mut slots, mut places, mut regions) = (vec![], vec![], vec![]);
	for (slot, address, size, mapped) in [
		(1, SHORT, MIB, 16 * MIB),
		(2, FIRST, 8 * MIB, 16 * MIB),
		(3, SECOND, 8 * MIB, 8 * MIB),
	] {
		let memory = Arc::new(Memory::new(mapped as usize)?);
		slots.push(machine.vm().add_part(slot, address, &memory, size)?);
		let place = |address, offset, size| Place::new(&memory, address, offset, size);
		places.push(place(address, 0, size));
		if size < mapped {
			places.push(place(BEHIND + address, size, mapped - size));
		}
		regions.push(place(address, 0, mapped));
	}
	// Pages of 16 MiB, and for the hardware of 64 KiB.
	let mut rig = Rig::with(machine, LARGE, slots, places, regions)?;
	let entry = |index| Entry { table: 1, index };
	let calls = [
		rig.put(entry(0), SHORT | BOTH),
		rig.put(entry(1), FIRST | BOTH),
		rig.list(entry(2), 0, &[FIRST | READ, SHORT | READ]),
	];
	let (done, seen) = tce::perform(&mut rig.machine, &calls)?;
	let codes: Vec<_> = done.iter().map(|call| call.code as i64).collect();
	let (good, refused) = (Code::SUCCESS.0, Code::FUNCTION.0);
	let (wanted, wanted_seen): (_, &[usize]) = if ours {
		([refused, good, refused], &[0, 2])
	} else {
		([good; 3], &[])
	};
	if codes != wanted || seen != wanted_seen {
		return wrong(format!("codes {codes:?}, userspace had {seen:?}"));
	}
	let only_c = |address| (!ours).then_some(address);
	let second = if ours { SECOND } else { BEHIND + FIRST };
	// The page, where in it, and what is there.
	let expected = [
		(0, 0, only_c(SHORT)),
		(0, MIB, only_c(BEHIND + SHORT)),
		(1, 0, Some(FIRST)),
		(1, 8 * MIB - UNIT, Some(FIRST + 8 * MIB - UNIT)),
		(1, 8 * MIB, Some(second)),
		(1, 16 * MIB - UNIT, Some(second + 8 * MIB - UNIT)),
		(2, 8 * MIB, only_c(BEHIND + FIRST)),
		(3, 0, only_c(SHORT)),
	];
	let addresses: Vec<_> = expected
		.iter()
		.map(|&(index, offset, _)| rig.bus(entry(index)) + offset)
		.collect();
	let found = rig.edus[0].read(&addresses, NOTHING)?;
	for ((index, offset, address), found) in expected.into_iter().zip(found) {
		if !is_read(found, address) {
			return wrong(format!(
				"entry {index} + {offset:#x}: {found:#x}, not what is at {address:#x?}"
			));
		}
	}
	rig.succeed(&[rig.stuff(entry(0), 0, 4)])?;
	for region in 0..rig.regions.len() {
		rig.check_free(region)?;
	}
	Ok(if ours {
		"a page ends with its slot, or goes on in the next".to_owned()
	} else {
		"the C path's known bug: userspace's memory behind a slot was mapped".to_owned()
	})
}

/// Random hcalls for the windows of a rig.
struct Script<'a> {
	random: &'a mut Random,
	tables: Tables,
	starts: [u64; 2],
}

impl Script<'_> {
	/// The address of a registered page, for a window with that page size.
	fn good(&mut self, page_shift: u32) -> u64 {
		let (_, start, size, _) = if page_shift > 16 {
			TARGETS[2]
		} else {
			self.random.of(&[TARGETS[0], TARGETS[0], TARGETS[2]])
		};
		start + (self.random.below(size >> page_shift) << page_shift)
	}

	fn permissions(&mut self) -> u64 {
		if self.random.chance(80) {
			BOTH
		} else {
			1 + self.random.below(3)
		}
	}

	fn tce(&mut self, page_shift: u32) -> u64 {
		let page = 1 << page_shift;
		let permissions = self.permissions();
		match self.random.below(100) {
			0..66 => self.good(page_shift) | permissions,
			// Memory that isn't registered.
			66..70 => {
				let (_, start, size, _) = TARGETS[1];
				(start + self.random.below((size / page).max(1)) * page) | permissions
			}
			70..72 => (self.random.below(map::RAM / page) * page) | permissions,
			// No memory.
			72..75 => {
				let (_, start, size, _) = self.random.of(&TARGETS);
				(start + size).next_multiple_of(page) | permissions
			}
			// Misaligned, for large pages or for all.
			75..79 if page_shift > 12 => (self.good(page_shift) + UNIT) | permissions,
			75..81 => (self.good(page_shift) + 4 + self.random.below(100)) | permissions,
			81..87 => 0,
			87..90 => self.good(page_shift),
			90..96 => self.random.next() & !BOTH,
			96..98 => self.random.next(),
			_ => self
				.random
				.of(&[u64::MAX, 1 << 63, 3 << 62 | 3, 4, 1 << 60 | 2]),
		}
	}

	/// A list for a window with that page size: mostly good to the end. Nothing in it lies
	/// in memory and has no permissions, which is tested by itself (see [`list_unmaps`]).
	fn entries(&mut self) -> [u64; 512] {
		let page_shift = self.random.of(&self.tables).page_shift;
		let good = self.random.chance(60);
		core::array::from_fn(|_| {
			if good || !self.random.chance(2) {
				return self.good(page_shift) | self.permissions();
			}
			loop {
				let tce = self.tce(page_shift);
				if tce & BOTH != 0 || !is_memory(tce) {
					break tce;
				}
			}
		})
	}

	fn call(&mut self) -> Call {
		let table = self.random.below(2) as usize;
		let Table {
			page_shift,
			entries,
			..
		} = self.tables[table];
		let leaf = (PAGE_ENTRIES >> (page_shift - self.tables[table].hardware[0].0)) % entries;
		let index = match self.random.below(100) {
			0..60 => self.random.below(32),
			// Around the end of a leaf, or of a page of the guest's table.
			60..75 => (leaf + self.random.below(20)).saturating_sub(10),
			75..80 => (PAGE_ENTRIES - 300 + self.random.below(310)) % entries,
			80..88 => self.random.below(entries),
			88..96 => entries.saturating_sub(1 + self.random.below(20)),
			96..98 => entries + self.random.below(2),
			_ => self.random.next(),
		};
		let mut bus = self.starts[table].wrapping_add(index << page_shift);
		if self.random.chance(2) {
			bus |= 1 << self.random.below(u64::from(page_shift));
		}
		let list = map::TCE_LIST + self.random.below(map::TCE_LISTS_SIZE / LIST) * LIST;
		let (number, third, fourth) = match self.random.below(100) {
			0..15 => (Number::GET_TCE, self.random.next(), self.random.next()),
			15..50 => (Number::PUT_TCE, self.tce(page_shift), self.random.next()),
			50..78 => {
				let list = if self.random.chance(95) {
					list
				} else {
					self.random
						.of(&[list | 8, TARGETS[1].1 + TARGETS[1].2, self.random.0])
				};
				(Number::PUT_TCE_INDIRECT, list, self.random.pages(entries))
			}
			_ => {
				let value = match self.random.below(10) {
					0..5 => 0,
					5..9 => self.random.next() & !BOTH,
					_ => self.random.next(),
				};
				(Number::STUFF_TCE, value, self.random.pages(entries))
			}
		};
		call(number, [LIOBNS[table], bus, third, fourth])
	}

	/// An entry that the call was about, most often.
	fn touched(&mut self, call: &Call) -> Option<Entry> {
		let table = LIOBNS.iter().position(|&liobn| liobn == call.args[0])?;
		let Table {
			page_shift,
			entries,
			..
		} = self.tables[table];
		let first = call.args[1].checked_sub(self.starts[table])? >> page_shift;
		let count = match Number(call.number) {
			Number::PUT_TCE_INDIRECT | Number::STUFF_TCE => call.args[3].clamp(1, 512),
			_ => 1,
		};
		let index = first + self.random.below(count);
		(index < entries).then_some(Entry { table, index })
	}
}

fn is_memory(tce: u64) -> bool {
	let others = TARGETS.iter().map(|&(_, start, size, _)| (start, size));
	others
		.chain([(0, map::RAM)])
		.any(|(start, size)| (start..start + size).contains(&tce))
}

/// What hcalls on a rig came to.
#[derive(Default)]
struct Record {
	/// With what came back, and whether userspace saw them.
	calls: Vec<(Call, bool)>,
	/// The tables' entries at the end.
	tables: [Vec<u64>; 2],
	/// Updates, and those that fast handlers served.
	updates: u64,
	fast: u64,
	/// Entries that the device looked at and reached memory by.
	mapped: u64,
	/// A region was looked at with one mapping left.
	last: u64,
}

/// Batches of random hcalls on one path.
fn record(guest: Guest, path: Path, tables: Tables, seed: u64) -> Result<Record, Failure> {
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut rig = Rig::new(guest, tables, &TARGETS)?;
	let mut record = Record::default();
	let mut random = Random(seed);
	for _ in 0..ROUND {
		let mut script = Script {
			random: &mut random,
			tables,
			starts: rig.starts,
		};
		for list in 0..map::TCE_LISTS_SIZE / LIST {
			let entries = script.entries();
			write_list(rig.machine.memory(), map::TCE_LIST + list * LIST, &entries);
		}
		let calls: Vec<Call> = (0..BATCH).map(|_| script.call()).collect();
		let touched = loop {
			let calls = (0..4 * SAMPLES).map(|_| script.random.of(&calls));
			let calls: Vec<_> = calls.collect();
			let touched = calls.iter().filter_map(|call| script.touched(call));
			let touched: Vec<Entry> = touched.take(SAMPLES).collect();
			if touched.len() == SAMPLES {
				break touched;
			}
		};
		let before = fast_updates()?;
		let (done, seen) = tce::perform(&mut rig.machine, &calls)?;
		record.fast += fast_updates()? - before;
		// Those that change nothing are answered fast as well.
		let answered = [Code::SUCCESS, Code::PARAMETER].map(|code| code.0 as u64);
		let updates = done
			.iter()
			.filter(|call| call.number != Number::GET_TCE.0 && answered.contains(&call.code));
		record.updates += updates.count() as u64;
		let seen = |index| seen.contains(&index);
		record.calls.extend(
			done.into_iter()
				.enumerate()
				.map(|(n, call)| (call, seen(n))),
		);
		let tces = rig.get(&touched)?;
		let samples: Vec<_> = touched
			.into_iter()
			.zip(tces)
			.map(|(entry, tce)| {
				let units = (1 << tables[entry.table].page_shift) / UNIT;
				let offset = random.below(units) * UNIT;
				Sample { entry, offset, tce }
			})
			.collect();
		rig.check_dma(&samples)?;
		record.mapped += samples.iter().filter(|s| rig.page(**s).is_some()).count() as u64;
	}
	for (table, window) in record.tables.iter_mut().zip(&rig.windows) {
		*table = window.table()?;
	}
	record.last = u64::from(settle(&mut rig, &mut random)?);
	Ok(record)
}

/// Unmaps everything; on the way there, one region has one mapping left, if any has.
fn settle(rig: &mut Rig, random: &mut Random) -> Result<bool, Failure> {
	let regions = rig.regions.len();
	let first = random.below(regions as u64) as usize;
	let mut last = None;
	for region in (0..regions).map(|n| (first + n) % regions) {
		let mappings = rig.mappings(region)?;
		if !mappings.is_empty() {
			last = Some((region, random.of(&mappings)));
			break;
		}
	}
	rig.clear(random, last.map(|(_, entry)| entry))?;
	if let Some((region, entry)) = last {
		let tce = rig.get(&[entry])?[0];
		let offset = 0;
		rig.check_dma(&[Sample { entry, offset, tce }])?;
		rig.check_last(region, entry)?;
	}
	for region in 0..regions {
		if last.is_none_or(|(done, _)| done != region) {
			rig.check_free(region)?;
		}
	}
	Ok(last.is_some())
}

/// The same random hcalls on C and on that path.
pub fn differential(guest: Guest, path: Path, seed: u64, calls: u64) -> Verdict {
	let mut random = Random(seed);
	let mut total = Record::default();
	let mut answers = Answers::default();
	let mut done = 0;
	// Each of the configurations at least once.
	for (name, tables) in ALL.into_iter().cycle() {
		if done >= calls && done >= ALL.len() as u64 * ROUND * BATCH {
			break;
		}
		let seed = random.next();
		let [c, rust] = [Path::C, path].map(|path| {
			record(guest, path, tables, seed)
				.map_err(|failure| named(failure, &format!("{name} on {}", path.name())))
		});
		let (c, rust) = (c?, rust?);
		for ((c_call, c_seen), (call, seen)) in c.calls.iter().zip(&rust.calls) {
			answers.agree((*c_call, *c_seen), (*call, *seen), || name.to_owned())?;
		}
		for (table, (c, rust)) in c.tables.iter().zip(&rust.tables).enumerate() {
			if let Some(index) = c.iter().zip(rust).position(|(c, rust)| c != rust) {
				return wrong(format!(
					"{name}: table {table}, entry {index}: {:#x} instead of {:#x}",
					rust[index], c[index]
				));
			}
		}
		if c.fast != 0 {
			return wrong(format!("{} fast updates on the C path", c.fast));
		}
		total.updates += rust.updates;
		total.fast += rust.fast;
		total.mapped += rust.mapped;
		total.last += rust.last;
		done += rust.calls.len() as u64;
	}
	if path == Path::RustFast {
		check_served(path, total.updates, total.fast)?;
	}
	let what = format!(
		"{done} hcalls, {} fast updates of {}, {} entries mapped for the device, {} last mappings",
		total.fast, total.updates, total.mapped, total.last
	);
	// Tests that nothing passes through would pass as well.
	if total.updates < done / 4 || total.mapped < done / 256 || total.last == 0 {
		return wrong(what);
	}
	answers.cover(done, &[Code::SUCCESS, Code::PARAMETER])?;
	Ok(what)
}

/// Vcpus that hammer.
const HAMMERS: [u64; 2] = [1, 2];
/// Their lists and H_STUFF_TCEs have up to this many entries. They go over them at
/// different speeds, and so are often at the same one.
const HAMMER_ENTRIES: u64 = 512;
const_assert!(HAMMERS.len() as u64 * HAMMER_ENTRIES == map::TCE_PAGES);
/// Regions of what the vcpus' lists point to, which stay registered.
const COUNTED_REGIONS: usize = 2;
/// Entries with a mapping that the device looks at in the end, and entries without.
const LOOKED_AT: usize = 6;

/// What userspace does while vcpus hammer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
	/// Nothing, but where registrations may go while a vcpu uses them, it takes them back
	/// and gives them anew.
	Registrations,
	/// It takes the hardware away from the guest's table and gives it back, and closes the
	/// table and makes another.
	Attachments,
}

/// Two vcpus on the same entries of one table, for some time.
pub fn hammer(path: Path, seed: u64, meanwhile: Meanwhile, time: Duration) -> Verdict {
	host::choose(path).map_err(Failure::Unsupported)?;
	let ours = path != Path::C;
	let machine = machine(Guest::Radix)?;
	let mut vcpus = HAMMERS
		.iter()
		.map(|&id| {
			let block = Hammer {
				seed: seed.wrapping_mul(2 * id + 1) | 1,
				lists: [map::TCE_LIST, map::TCE_LIST + LIST],
				// Always from the first entry on, and nearly all of them.
				cleared: Hammer::ENTRIES - 1,
				more: HAMMER_ENTRIES - Hammer::ENTRIES,
				..Hammer::default()
			};
			machine.hammer(id, block)
		})
		.collect::<Result<Vec<Vcpu>, _>>()?;
	for (number, step) in (0_u64..).zip([1, 3]) {
		let list = map::TCE_LIST + number * LIST;
		write_list(machine.memory(), list, &hammer_list(0, 256, step));
	}
	// All that the entries point to. The lists' pages are in the first half, of two regions:
	// where the vcpus meet at an entry there often is one in each, and whoever takes the
	// other's for its own counts wrong. The second half has many regions, to lose some.
	let (start, size) = (map::TCE_TARGET, 512 << map::TCE_SHIFT);
	let memory = machine.memory().clone();
	let place = |address, size| Place::new(&memory, address, address, size);
	let places = vec![place(start, size)];
	let mut regions: Vec<_> = (0..COUNTED_REGIONS as u64)
		.map(|number| place(start + number * size / 4, size / 4))
		.collect();
	let small = (start + size / 2..start + size).step_by(PAGE as usize);
	regions.extend(small.map(|address| place(address, PAGE)));
	let mut rig = Rig::with(machine, HAMMERED, vec![], places, regions)?;

	let before = fast_updates()?;
	let (stop, failed) = (AtomicBool::new(false), AtomicBool::new(false));
	let mut disturber = Disturber {
		vfio: &rig.vfio,
		groups: &rig.groups,
		containers: &rig.containers,
		windows: rig.machine.vm().windows()?,
		window: &mut rig.windows[0],
		regions: &rig.regions,
		lost: vec![],
		changes: 0,
		pauses: Random(seed),
	};
	let memory = rig.machine.memory();
	let result = std::thread::scope(|scope| {
		let mut threads: Vec<_> = vcpus
			.iter_mut()
			.map(|vcpu| scope.spawn(|| warn(&failed, run(vcpu, &stop))))
			.collect();
		threads.push(scope.spawn(|| {
			let result = match meanwhile {
				Meanwhile::Attachments => disturber.attachments(&stop),
				Meanwhile::Registrations if ours => disturber.registrations(memory, &stop),
				Meanwhile::Registrations => Ok(()),
			};
			warn(&failed, result)
		}));
		let end = Instant::now() + time;
		while Instant::now() < end && !failed.load(Ordering::Relaxed) {
			std::thread::sleep(Duration::from_millis(20));
		}
		stop.store(true, Ordering::Relaxed);
		threads
			.into_iter()
			.map(|thread| thread.join().expect("it doesn't panic"))
			.collect::<Result<Vec<()>, Failure>>()
	});
	result?;
	let (changes, lost) = (disturber.changes, disturber.lost);
	let (mut rounds, mut answered, mut refused) = (0, 0, 0);
	for id in HAMMERS {
		let one = rig.machine.hammered(id);
		if one.bad != 0 || one.answered == 0 {
			return wrong(format!("vcpu {id}: {one:?}"));
		}
		rounds += one.rounds;
		answered += one.answered;
		refused += one.refused;
	}
	// Those still in the vcpus are counted when they come out.
	drop(vcpus);
	let fast = fast_updates()? - before;
	let what =
		format!("{rounds} hcalls, {refused} refused, {fast} fast updates, {changes} changes");
	// Without hardware a table is emulated, and served fast in any case.
	if meanwhile == Meanwhile::Registrations && path == Path::RustFast {
		check_served(path, answered * 3 / 4, fast)?;
	}
	let disturbed = meanwhile == Meanwhile::Attachments || ours;
	if (refused != 0 && !disturbed) || (changes == 0) == disturbed {
		return wrong(what);
	}
	// Bring the tables together first. What hardware got to know while it was attached it
	// still knows; and where the vcpus' last hcalls met at an entry, one device's table may
	// have what one vcpu wrote and the other's what the other did.
	rig.clear(&mut Random(seed), None)?;
	let entry = |index| Entry { table: 0, index };
	let calls: Vec<_> = (0..32)
		.map(|n| rig.put(entry(n), Case::tce(5 * n)))
		.collect();
	rig.succeed(&calls)?;
	// Some that are mapped, and some that are not. A copy takes a tenth of a second here.
	let mut samples = vec![];
	for (index, tce) in (0..).zip(rig.windows[0].table()?) {
		let entry = Entry { table: 0, index };
		let offset = 0;
		samples.push(Sample { entry, offset, tce });
	}
	let some = |mapped: bool| {
		let alike = samples
			.iter()
			.filter(move |s| (s.tce & BOTH != 0) == mapped);
		alike.step_by(3).take(LOOKED_AT).copied()
	};
	let samples: Vec<_> = some(true).chain(some(false)).collect();
	rig.check_dma(&samples)?;
	// The last hcalls may have left nothing, and then nothing could be the last mapping.
	let end = Entry {
		table: 0,
		index: map::TCE_PAGES - 1,
	};
	rig.succeed(&[rig.put(end, Case::tce(0))])?;
	// Last first, so that what is left has the right numbers.
	for &region in lost.iter().rev() {
		rig.regions.remove(region);
	}
	if settle(&mut rig, &mut Random(seed))? {
		Ok(what)
	} else {
		wrong(what)
	}
}

/// A list of entries for so many pages from some page on, in some order.
fn hammer_list(first: u64, pages: u64, step: u64) -> [u64; 512] {
	core::array::from_fn(|index| Case::tce(first + step * index as u64 % pages))
}

/// Passes a result on; if it is an error, says so at once.
fn warn(failed: &AtomicBool, result: Result<(), Failure>) -> Result<(), Failure> {
	if result.is_err() {
		failed.store(true, Ordering::Relaxed);
	}
	result
}

/// Runs a vcpu that hammers, here and there, until it is told to stop.
fn run(vcpu: &mut Vcpu, stop: &AtomicBool) -> Result<(), Failure> {
	const CPUS: usize = 2;
	let interval = Duration::from_millis(7);
	let _timer = Timer::every(interval, interval)?;
	let mut runs = 0;
	while !stop.load(Ordering::Relaxed) {
		match vcpu.run()? {
			Exit::Hcall(..) => vcpu.answer(Code::FUNCTION),
			Exit::Interrupted => drop(registers::move_to_cpu(runs % CPUS)?),
			exit => return wrong(format!("the hammer's guest: {exit:?}")),
		}
		runs += 1;
	}
	Ok(())
}

/// Changes what vcpus are using.
struct Disturber<'a> {
	vfio: &'a Vfio,
	groups: &'a [Group],
	containers: &'a [Container],
	windows: Windows,
	window: &'a mut Window,
	regions: &'a [Place],
	/// Regions that were mapped when they were taken back: the kernel keeps them for ever.
	lost: Vec<usize>,
	changes: u64,
	pauses: Random,
}

impl Disturber<'_> {
	fn pause(&mut self) {
		std::thread::sleep(Duration::from_micros(200 + self.pauses.below(5000)));
	}

	fn attachments(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
		while !stop.load(Ordering::Relaxed) {
			if self.changes % 3 == 2 {
				// The old one goes first: there can't be two of one LIOBN.
				let Table {
					page_shift,
					entries,
					..
				} = HAMMERED[0];
				let other = window(LIOBNS[0] + 0x100, page_shift, 0, entries);
				drop(core::mem::replace(
					self.window,
					self.windows.create(&other)?,
				));
				self.pause();
				let same = window(LIOBNS[0], page_shift, 0, entries);
				*self.window = self.windows.create(&same)?;
			} else {
				for group in self.groups {
					self.vfio.remove(group)?;
				}
				self.pause();
				for group in self.groups {
					self.vfio.add(group)?;
				}
			}
			for group in self.groups {
				self.vfio.attach(group, self.window)?;
			}
			self.changes += 1;
			self.pause();
		}
		Ok(())
	}

	/// Has the vcpus map a region, then not any more, and takes its registration back while
	/// they may still be at it.
	fn registrations(&mut self, memory: &Memory, stop: &AtomicBool) -> Result<(), Failure> {
		const PAGES: u64 = PAGE >> map::TCE_SHIFT;
		let list = map::TCE_LIST + LIST;
		// Not the first, which are for counting.
		for number in (COUNTED_REGIONS..self.regions.len()).cycle() {
			let left = self.regions.len() - self.lost.len();
			if stop.load(Ordering::Relaxed) || left == COUNTED_REGIONS {
				break;
			}
			if self.lost.contains(&number) {
				continue;
			}
			let region = &self.regions[number];
			let first = (region.address - map::TCE_TARGET) >> map::TCE_SHIFT;
			write_list(memory, list, &hammer_list(first, PAGES, 1));
			self.pause();
			write_list(memory, list, &hammer_list(0, 256, 3));
			if self.changes.is_multiple_of(2) {
				self.pause();
			}
			let unlocked = unregister(self.containers, region)?;
			self.pause();
			for container in self.containers {
				container.register(&region.memory, region.offset, region.size)?;
			}
			if !unlocked {
				self.lost.push(number);
			}
			self.changes += 1;
		}
		self.lost.sort_unstable();
		Ok(())
	}
}
