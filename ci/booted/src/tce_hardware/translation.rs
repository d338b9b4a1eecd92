// SPDX-License-Identifier: GPL-2.0-only
//! What a device reaches is what the entries say.

use std::sync::Arc;

use hcall::Code;
use protocol::block::Call;
use protocol::{Column, GuestMode};
use vmm::kvm::Memory;
use vmm::machine::Failure;

use super::rig::{
	ALL, BOTH, Entry, GuestBuffer, LARGE, NOTHING, READ, Rig, Sample, TARGETS, UNIT, WRITE,
	check_served, fast_updates, is_read, machine,
};
use crate::common::{Verdict, choose, named, wrong};
use crate::tce::{self, PAGE_ENTRIES};

/// What the device reaches is what the entries say, after each kind of hcall, at both ends
/// of each window and of the pages of its tables.
pub fn translation(guest: GuestMode, path: Column) -> Verdict {
	let mut told = vec![];
	for (name, tables) in ALL {
		choose(path)?;
		let before = fast_updates()?;
		let mut rig = Rig::new(guest, tables, &TARGETS)?;
		let (updates, looked) = translate(&mut rig).map_err(|failure| named(failure, name))?;
		// 256 hardware entries for one of the second window are too many for a fast handler.
		let may_be_fast = if name == "large" {
			updates / 2
		} else {
			updates
		};
		check_served(path, may_be_fast, fast_updates()? - before)
			.map_err(|failure| named(failure, name))?;
		told.push(format!("{name} {looked}"));
	}
	Ok(format!("DMA right at {}", told.join(", ")))
}

/// Returns how many updates there were, and how many places the device looked at.
fn translate(rig: &mut Rig) -> Result<(u64, u64), Failure> {
	let mut entries = vec![];
	for (table, shape) in rig.tables.iter().enumerate() {
		let last = shape.entries - 1;
		// The end of the first leaf of the hardware table, and of a page of the guest's table.
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

/// A page that is longer than the memory slot it begins in. Userspace's memory goes on
/// behind the slot, all of it registered; but it isn't the guest's.
pub fn slot_end(guest: GuestMode, path: Column) -> Verdict {
	const MIB: u64 = 1 << 20;
	/// Here the guest's memory ends with the slot.
	const SHORT: u64 = 0x4000_0000;
	/// Here another slot begins where the first ends, which is elsewhere in userspace.
	const FIRST: u64 = 0x6000_0000;
	const SECOND: u64 = FIRST + 8 * MIB;
	/// What userspace's memory begins with where it is not the guest's.
	const BEHIND: u64 = 0x7000_0000;
	choose(path)?;
	let ours = path != Column::C;
	let machine = machine(guest)?;
	let (mut slots, mut places, mut regions) = (vec![], vec![], vec![]);
	for (slot, address, size, mapped) in [
		(1, SHORT, MIB, 16 * MIB),
		(2, FIRST, 8 * MIB, 16 * MIB),
		(3, SECOND, 8 * MIB, 8 * MIB),
	] {
		let memory = Arc::new(Memory::new(mapped as usize)?);
		slots.push(machine.vm().add_part(slot, address, &memory, size)?);
		let place = |address, offset, size| GuestBuffer::new(&memory, address, offset, size);
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
