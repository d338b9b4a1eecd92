// SPDX-License-Identifier: GPL-2.0-only
//! What one guest leaves in the SLB, the next guest on that CPU does not see.

use hcall::Number;
use protocol::slb::{ENTRIES, Entry, VALID};
use protocol::{Column, GuestMode, map, private};
use vmm::machine::{Failure, Machine, Stop};

use super::code::{Code, hcall, ld, li, slbmfee, slbmfev, slbmte, std};
use crate::common::{Verdict, choose, machine, wrong};
use crate::cpus::OneCpu;

/// Entries of a radix guest.
const OF_RADIX: usize = 4;
/// Where a guest has what it writes, and where it puts what it reads. Displacements reach both.
const WRITTEN: u64 = map::FILL;
const READ: u64 = map::GOT;
const TURNS: u64 = 50;

fn entries_of(guest: GuestMode) -> usize {
	if guest.is_hash() { ENTRIES } else { OF_RADIX }
}

/// Instructions that read that many entries.
fn read(code: &mut Code, count: usize) {
	for (index, place) in (0..count as u64).zip((READ..).step_by(16)) {
		code.push([li(5, index), slbmfee(6, 5), slbmfev(7, 5)]);
		code.push([std(6, place), std(7, place + 8)]);
	}
}

/// A guest that writes all its entries, reads them, and exits, again and again. Without translation.
fn owner(guest: GuestMode) -> Result<Machine, Failure> {
	let mut machine = machine(guest, &[])?;
	let mut code = Code::new();
	for place in (WRITTEN..).step_by(16).take(entries_of(guest)) {
		code.push([ld(6, place), ld(7, place + 8), slbmte(7, 6)]);
	}
	read(&mut code, entries_of(guest));
	code.push(hcall(private::UNKNOWN));
	code.start(&mut machine)?;
	Ok(machine)
}

/// A guest that reads as many entries and exits. It has written none.
fn other(guest: GuestMode, count: usize) -> Result<Machine, Failure> {
	let mut machine = machine(guest, &[])?;
	let mut code = Code::new();
	read(&mut code, count);
	code.push(hcall(private::UNKNOWN));
	code.start(&mut machine)?;
	Ok(machine)
}

fn run(machine: &mut Machine) -> Result<(), Failure> {
	loop {
		match machine.step()? {
			Stop::Call((private::UNKNOWN, _)) => return Ok(()),
			Stop::Interrupted => {}
			Stop::Call((Number(number), args)) => {
				return wrong(format!("hcall {number:#x} {args:x?}"));
			}
			_ => return wrong("the guest does not exit as it should".to_owned()),
		}
	}
}

fn found(machine: &Machine, count: usize) -> Vec<Entry> {
	let memory = machine.memory();
	let entry = |place| Entry {
		esid: memory.read(place),
		vsid: memory.read(place + 8),
	};
	(READ..).step_by(16).take(count).map(entry).collect()
}

/// Guests with entries, and after each of them on the same CPU guests without.
pub fn is_private(path: Column) -> Verdict {
	const MODES: [GuestMode; 2] = [GuestMode::Real, GuestMode::HashReal];
	choose(path)?;
	let _cpu = OneCpu::new(0)?;
	let mut looked_at = 0;
	for first in MODES {
		let count = entries_of(first);
		let mut owner = owner(first)?;
		for second in MODES {
			let mut other = other(second, count)?;
			for turn in 0..TURNS {
				let written = |index: u64| Entry {
					esid: (1 << 62 | turn << 48 | index << 40) | VALID,
					vsid: (turn << 32 | (index + 1) << 16) << 4,
				};
				for (index, place) in (0..count as u64).zip((WRITTEN..).step_by(16)) {
					let entry = written(index);
					owner.memory().write(place, entry.esid | index);
					owner.memory().write(place + 8, entry.vsid);
				}
				run(&mut owner)?;
				let own = found(&owner, count);
				if let Some(index) = (0..count).find(|&i| own[i] != written(i as u64)) {
					return wrong(format!(
						"{}: entry {index} of its own is {:x?}",
						first.name(),
						own[index]
					));
				}
				for entry in 0..count as u64 {
					other.memory().write(READ + 16 * entry, u64::MAX);
				}
				run(&mut other)?;
				for (index, entry) in found(&other, count).into_iter().enumerate() {
					// QEMU's slbia leaves all but the valid bit of a hash guest's.
					let is_seen = entry.is_valid() || !first.is_hash() && entry.vsid != 0;
					if is_seen {
						return wrong(format!(
							"{} after {}: entry {index} is {entry:x?}",
							second.name(),
							first.name()
						));
					}
					looked_at += 1;
				}
			}
		}
	}
	Ok(format!("{looked_at} entries of a guest before, none seen"))
}
