// SPDX-License-Identifier: GPL-2.0-only
//! The memory of a guest is a shared mapping of a disk: a page that the guest has only read becomes
//! writable with its first store, in the place where it is.

use std::fs::File;

use protocol::block::Call;
use protocol::{Column, GuestMode, map, private};
use vmm::kvm::Memory;
use vmm::machine::Failure;

use crate::common::{Verdict, choose, machine, wrong};
use crate::tce::perform;

/// A RAM disk.
const DISK: &str = "/dev/ram0";
/// A memory slot that no other memory has.
const SLOT: u32 = 9;
/// Where in a page.
const WORD: u64 = 64;

/// The guest loads from each page, stores to it, and loads what it has stored.
pub fn stores(guest: GuestMode, path: Column) -> Verdict {
	choose(path)?;
	let mut machine = machine(guest, &[])?;
	let file = File::options().read(true).write(true).open(DISK);
	let file = file.map_err(|e| Failure::Wrong(format!("{DISK}: {e}")))?;
	let memory = Memory::shared_of_file(&file, map::TOUCH_SIZE as usize)?;
	let slot = machine.vm().add_memory(SLOT, map::TOUCH, memory)?;
	let pages = map::TOUCH_SIZE / map::TOUCH_PAGE;
	for page in 0..pages {
		let at = page * map::TOUCH_PAGE + WORD;
		let before: u64 = slot.memory.read(at);
		let value = before.wrapping_add(page + 1);
		let call = |number: hcall::Number, value| Call {
			number: number.0,
			args: [map::TOUCH + at, value, 0, 0],
			..Call::default()
		};
		let calls = [
			call(private::LOAD, 0),
			call(private::STORE, value),
			call(private::LOAD, 0),
		];
		let (done, _) = perform(&mut machine, &calls)?;
		let found = [done[0].r4, done[2].r4, slot.memory.read(at)];
		if found != [before, value, value] {
			return wrong(format!(
				"page {page}: found {found:x?} instead of {before:#x} and {value:#x}"
			));
		}
	}
	Ok(format!("{pages} pages"))
}
