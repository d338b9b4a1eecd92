// SPDX-License-Identifier: GPL-2.0-only
//! A VM, its windows, the hardware that follows them, and memory for DMA.

use std::collections::BTreeMap;
use std::sync::Arc;

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, GuestMode, map};
use vmm::kvm::{Memory, Slot, TceWindow, Vfio};
use vmm::machine::{Config, Failure, Machine};

use crate::common::{counter, counters, wrong};
use crate::tce::{self, LIST, PAGE, Random, TCES, window};
use crate::vfio::{self, Container, Edu, Group};

/// A device may read, and write.
pub const READ: u64 = 1;

pub const WRITE: u64 = 2;

pub const BOTH: u64 = READ | WRITE;

/// What the device's DMA is checked in.
pub const UNIT: u64 = 4096;

/// Where in them the device writes.
const SPOT: u64 = 8;

/// What the device's buffer holds where it could read nothing.
pub const NOTHING: u64 = 0x6e6f_7468_696e_6700;

/// Marks values that the device writes.
const WRITTEN: u64 = 0x77 << 56;

/// What 4 KiB of memory at that guest address begin with.
const fn identity(address: u64) -> u64 {
	0x1d << 56 | address
}

/// A guest's window.
#[derive(Clone, Copy)]
pub struct Table {
	pub page_shift: u32,
	pub entries: u64,
	/// Page shift and levels of the hardware table of each device.
	pub hardware: &'static [(u32, u32)],
}

/// The LIOBNs of a configuration's windows.
pub const LIOBNS: [u64; 2] = [map::LIOBN, map::LIOBN + 1];

/// Windows of the 32-bit and of the 64-bit bus addresses. The first is as large as that of
/// the hardware, the second is smaller, and the mailbox comes after it. Tables of several
/// levels have leaves of 8192 entries, and all but the root are allocated when needed.
pub type Tables = [Table; 2];

const fn table(page_shift: u32, entries: u64, hardware: &'static [(u32, u32)]) -> Table {
	Table {
		page_shift,
		entries,
		hardware,
	}
}

/// Entries as large as the hardware entries.
pub const SAME: Tables = [table(12, 0x4000, &[(12, 1)]), table(16, 0x4801, &[(16, 2)])];

/// Several levels in both, and entries of 16 hardware entries.
pub const DEEP: Tables = [table(16, 0x2000, &[(12, 2)]), table(12, 0x3001, &[(12, 3)])];

/// Entries of 256 hardware entries.
pub const LARGE: Tables = [table(16, 0x1000, &[(16, 1)]), table(24, 300, &[(16, 1)])];

/// Two devices, whose tables are unlike.
pub const TWO: Tables = [
	table(16, 0x1000, &[(12, 1), (16, 2)]),
	table(12, 0x2801, &[(12, 2), (12, 1)]),
];

/// What vcpus contend for: the first; the second is for the mailbox.
pub const CONTENDED: Tables = [
	table(map::TCE_SHIFT, map::TCE_PAGES, &[(12, 2), (12, 1)]),
	table(16, 15, &[(16, 1), (16, 1)]),
];

/// By name, for those who have to look for what went wrong.
pub const ALL: [(&str, Tables); 4] = [
	("same", SAME),
	("deep", DEEP),
	("large", LARGE),
	("two", TWO),
];

/// Guest memory that entries point to: slot, address, size, and the size of the regions
/// in which it is registered, or 0.
pub type Target = (u32, u64, u64, u64);

/// The second isn't registered. The third has pages for the largest entries. The first has
/// none that begins there, because C would map its beginning and count that for ever.
pub const TARGETS: [Target; 3] = [
	(1, 0x4010_0000, 1 << 20, 1 << 19),
	(2, 0x5000_0000, 1 << 19, 0),
	(3, 1 << 32, 32 << 20, 16 << 20),
];

/// For counting, with a region for each case.
pub const SMALL: [Target; 1] = [(1, 0x4000_0000, 1 << 20, PAGE)];

/// A piece of guest memory.
pub struct GuestBuffer {
	pub memory: Arc<Memory>,
	/// Where it is for the guest, and in the memory.
	pub address: u64,
	pub offset: u64,
	pub size: u64,
}

impl GuestBuffer {
	/// So many bytes of a memory, from an offset on.
	pub fn new(memory: &Arc<Memory>, address: u64, offset: u64, size: u64) -> Self {
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
pub struct Entry {
	pub table: usize,
	pub index: u64,
}

/// An entry, a place in its page, and what is expected of it.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
	pub entry: Entry,
	pub offset: u64,
	pub tce: u64,
}

/// What a device's read brings is what lies at that guest address; at none, nothing.
pub fn is_read(found: u64, address: Option<u64>) -> bool {
	match address {
		Some(address) => found == identity(address),
		None => found == 0 || found == NOTHING,
	}
}

/// A VM whose TCE hcalls KVM answers, without windows.
pub fn machine(guest: GuestMode) -> Result<Machine, Failure> {
	Machine::new(Config {
		guest,
		enable: &TCES,
		window: false,
	})
}

/// A VM, its windows, the hardware behind them, and memory for DMA.
// The order of the fields is the order in which they are dropped.
pub struct Rig {
	pub edus: Vec<Edu>,
	pub vfio: Vfio,
	pub windows: [TceWindow; 2],
	pub _slots: Vec<Slot>,
	pub machine: Machine,
	/// All memory that is watched.
	pub places: Vec<GuestBuffer>,
	/// What of it is registered.
	pub regions: Vec<GuestBuffer>,
	pub containers: Vec<Container>,
	pub groups: Vec<Group>,
	pub tables: Tables,
	pub starts: [u64; 2],
}

impl Rig {
	pub fn new(guest: GuestMode, tables: Tables, targets: &[Target]) -> Result<Self, Failure> {
		let machine = machine(guest)?;
		let (mut slots, mut places, mut regions) = (vec![], vec![], vec![]);
		for &(slot, address, size, region) in targets {
			let slot = machine
				.vm()
				.add_memory(slot, address, Memory::new(size as usize)?)?;
			let place =
				|offset, size| GuestBuffer::new(&slot.memory, address + offset, offset, size);
			places.push(place(0, size));
			if region != 0 {
				regions.extend((0..size).step_by(region as usize).map(|o| place(o, region)));
			}
			slots.push(slot);
		}
		Self::with(machine, tables, slots, places, regions)
	}

	pub fn with(
		machine: Machine,
		tables: Tables,
		slots: Vec<Slot>,
		places: Vec<GuestBuffer>,
		regions: Vec<GuestBuffer>,
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
	pub fn bus(&self, entry: Entry) -> u64 {
		self.starts[entry.table] + (entry.index << self.tables[entry.table].page_shift)
	}

	pub fn put(&self, entry: Entry, tce: u64) -> Call {
		call(
			Number::PUT_TCE,
			[LIOBNS[entry.table], self.bus(entry), tce, 0],
		)
	}

	pub fn stuff(&self, entry: Entry, tce: u64, count: u64) -> Call {
		let args = [LIOBNS[entry.table], self.bus(entry), tce, count];
		call(Number::STUFF_TCE, args)
	}

	/// Writes the entries to the list of that number, and is the hcall that takes them.
	pub fn list(&self, entry: Entry, list: u64, tces: &[u64]) -> Call {
		let address = map::TCE_LIST + list * LIST;
		for (place, tce) in (address..).step_by(8).zip(tces) {
			self.machine.memory().write(place, tce.to_be());
		}
		let count = tces.len() as u64;
		let args = [LIOBNS[entry.table], self.bus(entry), address, count];
		call(Number::PUT_TCE_INDIRECT, args)
	}

	/// Has the guest do calls that have to succeed.
	pub fn succeed(&mut self, calls: &[Call]) -> Result<Vec<Call>, Failure> {
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
	pub fn get(&mut self, entries: &[Entry]) -> Result<Vec<u64>, Failure> {
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
	pub fn page(&self, sample: Sample) -> Option<u64> {
		let mask = (1 << self.tables[sample.entry.table].page_shift) - 1;
		(sample.tce & BOTH != 0).then_some((sample.tce & !mask) + sample.offset)
	}

	/// Every device reads and writes what it should there, and nothing else.
	pub fn check_dma(&self, samples: &[Sample]) -> Result<(), Failure> {
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
			Some((address, _)) => wrong(format!("no region of the VMM is at {address:#x}")),
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

	pub fn unregister(&self, region: usize) -> Result<bool, Failure> {
		unregister(&self.containers, &self.regions[region])
	}

	/// Nothing is mapped in the region, and that is what it counts. It isn't registered
	/// any more then.
	pub fn check_free(&self, region: usize) -> Result<(), Failure> {
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
	pub fn check_last(&mut self, region: usize, last: Entry) -> Result<(), Failure> {
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
	pub fn clear(&mut self, random: &mut Random, but: Option<Entry>) -> Result<(), Failure> {
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
pub fn unregister(containers: &[Container], region: &GuestBuffer) -> Result<bool, Failure> {
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

pub fn call(number: Number, args: [u64; 4]) -> Call {
	Call {
		number: number.0,
		args,
		code: 0x5ca1_ab1e,
		r4: 0x5ca1_ab1e,
		..Call::default()
	}
}

/// Updates of tables that fast handlers have served so far.
pub fn fast_updates() -> Result<u64, Failure> {
	let counters = counters()?;
	let names = ["put_tce", "put_tce_indirect", "stuff_tce"];
	let count = |name| counter(&counters, &format!("fast_h_{name}"));
	Ok(names.into_iter().map(count).sum())
}

/// Checks the number of updates of hardware tables, and how many of them a fast handler did.
/// An update whose list or leaf is not available takes the full path.
pub fn check_served(path: Column, updates: u64, fast: u64) -> Result<(), Failure> {
	let good = if path == Column::RustFast {
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

/// Unmaps everything; on the way there, one region has one mapping left, if any has.
pub fn settle(rig: &mut Rig, random: &mut Random) -> Result<bool, Failure> {
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
