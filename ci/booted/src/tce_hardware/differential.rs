// SPDX-License-Identifier: GPL-2.0-only
//! The same random hcalls on C and on another path.

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, GuestMode, map};
use vmm::machine::Failure;

use super::rig::{
	ALL, BOTH, Entry, LIOBNS, Rig, Sample, TARGETS, Table, Tables, UNIT, call, check_served,
	fast_updates, settle,
};
use crate::common::{Verdict, choose, named, wrong};
use crate::tce::{self, Answers, BATCH, LIST, PAGE_ENTRIES, Random, write_list};

/// Batches on the same tables.
const ROUND: u64 = 4;

/// Entries that the device looks at after each.
const SAMPLES: usize = 16;

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

	/// A list for a window with that page size: mostly good to the end. No entry is in memory
	/// and without permissions: [`list_unmaps`](super::counts::list_unmaps) tests these.
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
fn record(guest: GuestMode, path: Column, tables: Tables, seed: u64) -> Result<Record, Failure> {
	choose(path)?;
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

/// The same random hcalls on C and on that path.
pub fn differential(guest: GuestMode, path: Column, seed: u64, calls: u64) -> Verdict {
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
		let [c, rust] = [Column::C, path].map(|path| {
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
	if path == Column::RustFast {
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
