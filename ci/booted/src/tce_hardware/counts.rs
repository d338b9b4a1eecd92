// SPDX-License-Identifier: GPL-2.0-only
//! How many mappings each region of registered memory counts.

use protocol::block::Call;
use protocol::{Column, GuestMode};

use super::rig::{ALL, BOTH, DEEP, Entry, READ, Rig, SMALL, Sample, WRITE};
use crate::common::{Verdict, choose, named, wrong};
use crate::tce::{PAGE, Random};

/// How an entry that maps a page of one region is made not to.
type Unmap = fn(&Rig, Entry, u64) -> Call;

/// Each kind of hcall that maps or unmaps counts for one, independent of the old entry.
pub fn counts(guest: GuestMode, path: Column) -> Verdict {
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
		choose(path)?;
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
pub fn list_unmaps(guest: GuestMode, path: Column) -> Verdict {
	choose(path)?;
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
