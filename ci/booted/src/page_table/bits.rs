// SPDX-License-Identifier: GPL-2.0-only
//! Reference (R) and change (C) bits, step by step: the guest loads and stores by one HPTE, reads and
//! clears the bits by hcalls, and userspace reads the dirty log in between.
//!
//! What each step has to give follows from PAPR and from KVM_GET_DIRTY_LOG, and not from another path.
//! An access after a bit was cleared sets the bit only if the translation was flushed.

use std::fmt::Write;

use hcall::Number;
use protocol::block::Call;
use protocol::hammer::{self, PAGE, PROTECTION, R_C, R_R};
use protocol::{Column, GuestMode, private};
use vmm::kvm::{Memory, Slot};
use vmm::machine::{Config, Failure, Machine};

use super::{EXACT, answered};
use crate::common::{Verdict, choose, wrong};
use crate::tce::perform;

use Step::*;

/// What is done. R and C are those that the hcall or the log has to say.
#[derive(Clone, Copy, Debug)]
enum Step {
	/// H_ENTER without R and C, for reading and writing.
	Enter,
	Load,
	Store,
	/// H_READ.
	Read(u64),
	ClearRef(u64),
	ClearMod(u64),
	/// H_PROTECT: for reading only.
	ReadOnly,
	/// H_PROTECT: for reading and writing.
	Writable,
	/// H_REMOVE.
	Remove(u64),
	/// H_BULK_REMOVE.
	BulkRemove(u64),
	/// Whether the page is dirty, by the log, since the last time.
	Log(bool),
}

const RC: u64 = R_R | R_C;

const SCRIPT: &[Step] = &[
	// R by a load, and again after it was cleared.
	Enter,
	Read(0),
	Load,
	Read(R_R),
	Log(false),
	ClearRef(R_R),
	Read(0),
	ClearRef(0),
	Load,
	Read(R_R),
	ClearMod(R_R),
	Read(R_R),
	Log(false),
	// C by a store, and again after the log has taken it. The guest still sees it.
	Store,
	Read(RC),
	Log(true),
	Read(RC),
	Log(false),
	Load,
	Log(false),
	Store,
	Log(true),
	// The log learns of C that the guest cleared first, and the guest of C that the log took.
	ClearMod(RC),
	Read(R_R),
	Log(false),
	Store,
	ClearMod(RC),
	Read(R_R),
	Log(true),
	Store,
	Read(RC),
	ClearRef(RC),
	Read(R_C),
	Load,
	Read(RC),
	ClearMod(RC),
	Log(true),
	// Protection keeps both.
	Store,
	ReadOnly,
	Read(RC),
	Log(true),
	Load,
	Log(false),
	Writable,
	Read(RC),
	ClearMod(RC),
	ClearRef(R_R),
	Read(0),
	Store,
	Read(RC),
	Log(true),
	Store,
	// And so does the end of the HPTE.
	Remove(RC),
	Log(true),
	Enter,
	Read(0),
	Load,
	Remove(R_R),
	Log(false),
	Enter,
	Store,
	BulkRemove(RC),
	Log(true),
	Enter,
	Load,
	ClearRef(R_R),
	BulkRemove(0),
	Log(false),
];

/// How often all is done.
const ROUNDS: u64 = 3;
/// The page of the slot that the HPTE maps.
const NUMBER: u64 = 2;
/// An entry of the SLB that no guest uses.
const ENTRY: u64 = 5;

/// One HPTE, and the page that it maps.
struct Bits<'a> {
	machine: &'a mut Machine,
	slot: &'a Slot,
	is_logged: bool,
	own: usize,
	/// A value for the next store.
	value: u64,
}

impl Bits<'_> {
	fn index(&self) -> u64 {
		hammer::own_index(0, self.own)
	}

	/// The second doubleword, without R and C.
	fn r(&self, protection: u64) -> u64 {
		let address = self.slot.address() + NUMBER * PAGE;
		hammer::r_of(address, 1, hammer::is_large(self.own)) | protection
	}

	/// The word that the guest accesses, in the slot and by the HPTE.
	fn word(&self) -> [u64; 2] {
		let part = if hammer::is_large(self.own) {
			hammer::PART
		} else {
			0
		};
		let (in_slot, ea) = (
			NUMBER * PAGE + hammer::PART,
			hammer::own_address(0, self.own) + part,
		);
		[in_slot, ea].map(|start| start + hammer::written_at(0))
	}

	fn call(&mut self, number: Number, args: [u64; 4]) -> Result<Call, Failure> {
		let call = Call {
			number: number.0,
			args,
			// The end of a list of H_BULK_REMOVE.
			more: [0xc0 << 56, 0, 0, 0],
			..Call::default()
		};
		let (done, to_userspace) = perform(self.machine, &[call])?;
		match (done.first(), to_userspace.is_empty()) {
			(Some(done), true) if done.code == 0 => Ok(*done),
			(done, _) => wrong(format!("{:#x} {args:x?}: {done:x?}", number.0)),
		}
	}

	/// Does a step. Returns what it gave and what it has to give.
	fn step(&mut self, step: Step) -> Result<(u64, u64), Failure> {
		let index = self.index();
		let [in_slot, ea] = self.word();
		Ok(match step {
			Enter => {
				let (v, r) = (hammer::own_v(0, self.own), self.r(hammer::PP_WRITE));
				(self.call(Number::ENTER, [EXACT, index, v, r])?.r4, index)
			}
			Load => {
				let loaded = self.call(private::LOAD, [ea, 0, 0, 0])?.r4;
				(loaded, self.slot.memory.read(in_slot))
			}
			Store => {
				self.value += 1;
				self.call(private::STORE, [ea, self.value, 0, 0])?;
				(self.slot.memory.read(in_slot), self.value)
			}
			Read(rc) => {
				let read = self.call(Number::READ, [0, index, 0, 0])?;
				(read.results[0] & !PROTECTION, self.r(0) & !PROTECTION | rc)
			}
			ClearRef(rc) => (self.call(Number::CLEAR_REF, [0, index, 0, 0])?.r4 & RC, rc),
			ClearMod(rc) => (self.call(Number::CLEAR_MOD, [0, index, 0, 0])?.r4 & RC, rc),
			ReadOnly => {
				self.call(Number::PROTECT, [hammer::PP_READ, index, 0, 0])?;
				(0, 0)
			}
			Writable => {
				self.call(Number::PROTECT, [hammer::PP_WRITE, index, 0, 0])?;
				(0, 0)
			}
			Remove(rc) => {
				let removed = self.call(Number::REMOVE, [0, index, 0, 0])?;
				(removed.results[0] & RC, rc)
			}
			BulkRemove(rc) => {
				let request = 0x40 << 56 | index;
				let removed = self.call(Number::BULK_REMOVE, [request, 0, 0xc0 << 56, 0])?;
				// R and C are bits 2 and 3 of the response, which says that the HPTE was there.
				(removed.r4 >> 56, 0x80 | rc >> 5)
			}
			Log(is_dirty) => {
				// What the guest does not know of the page is logged all the same.
				if !self.is_logged {
					return Ok((0, 0));
				}
				let dirty = self.slot.dirty_pages(PAGE)?;
				(dirty.contains(&NUMBER).into(), is_dirty.into())
			}
		})
	}
}

/// The script on a path, with pages of 4 KiB and of 64 KiB, of a memory slot with a dirty log and of one
/// without.
pub fn bits(guest: GuestMode, path: Column) -> Verdict {
	choose(path)?;
	let before = answered()?;
	let mut machine = Machine::new(Config {
		guest,
		enable: &[Number::CLEAR_MOD, Number::CLEAR_REF],
		window: false,
	})?;
	let size = (hammer::SLOT_PAGES * PAGE) as usize;
	let vm = machine.vm();
	let plain = vm.add_memory(9, hammer::ADDRESSES[0], Memory::new(size)?)?;
	let logged = vm.add_logged(10, hammer::ADDRESSES[1], Memory::new(size)?)?;
	let mut steps = 0;
	for (slot, is_logged) in [(&plain, false), (&logged, true)] {
		// The page is there, and is not new to the log.
		slot.memory.write(NUMBER * PAGE, 1_u64);
		for own in 0..hammer::OWN_OF_GROUP {
			let mut bits = Bits {
				machine: &mut machine,
				slot,
				is_logged,
				own,
				value: 0x1000,
			};
			let size = if hammer::is_large(own) { 0x110 } else { 0 };
			let segment = hammer::own_segment(own) | 1 << 27 | (ENTRY + own as u64);
			let vsid = hammer::own_vsid(0, own) << 12 | size;
			bits.call(private::SET_SEGMENT, [vsid, segment, 0, 0])?;
			if is_logged {
				slot.dirty_pages(PAGE)?;
			}
			for round in 0..ROUNDS {
				for (number, &step) in SCRIPT.iter().enumerate() {
					let (gave, should) = bits.step(step)?;
					if gave != should {
						let mut done = String::new();
						for step in &SCRIPT[..number] {
							write!(done, "{step:x?} ").expect("a string has room");
						}
						return wrong(format!(
							"{step:x?} gave {gave:#x} instead of {should:#x}; HPTE {own}, logged {is_logged}, \
							 round {round}, after {done}"
						));
					}
					steps += 1;
				}
			}
		}
	}
	let after = answered()?;
	let [fast, full] = [0, 1].map(|n| after[n] - before[n]);
	let what = format!("{steps} steps, {fast} hcalls fast, {full} by Rust on the full path");
	let is_by_path = match path {
		Column::RustFast => fast >= steps / 4,
		Column::RustFull => fast == 0 && full >= steps / 4,
		_ => fast == 0 && full == 0,
	};
	if is_by_path { Ok(what) } else { wrong(what) }
}
