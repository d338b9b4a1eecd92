// SPDX-License-Identifier: GPL-2.0-only
//! Stores to devices, by each instruction that stores a register.
//!
//! A light exit finds the instruction and emulates it. C has to find the same: which eventfd is
//! signalled, what userspace is asked for, and what registers the guest has after it.

use std::time::Duration;

use cases::case;
use protocol::{Column, GuestMode, map};
use vmm::abi;
use vmm::command;
use vmm::kvm::{EventFd, Exit};
use vmm::machine::{Failure, Machine};

use crate::common::{PATHS, Verdict, choose, counter, counters, machine, wrong};

/// A store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Form {
	name: &'static str,
	bytes: u32,
	/// The instruction, of r4, by r5 and r6.
	word: u32,
	/// It adds r5 and r6, instead of r5 and [`DISPLACEMENT`].
	is_indexed: bool,
	/// r5 is the address after it.
	updates: bool,
	/// It stores the bytes the other way round.
	reverses: bool,
}

const DISPLACEMENT: u64 = 0x58;

const fn displaced(name: &'static str, bytes: u32, opcode: u32, low: u32) -> Form {
	Form {
		name,
		bytes,
		word: opcode << 26 | 4 << 21 | 5 << 16 | DISPLACEMENT as u32 | low,
		is_indexed: false,
		updates: false,
		reverses: false,
	}
}

const fn indexed(name: &'static str, bytes: u32, extended: u32) -> Form {
	Form {
		name,
		bytes,
		word: 31 << 26 | 4 << 21 | 5 << 16 | 6 << 11 | extended << 1,
		is_indexed: true,
		updates: false,
		reverses: false,
	}
}

const fn updating(form: Form) -> Form {
	Form {
		updates: true,
		..form
	}
}

const fn reversing(form: Form) -> Form {
	Form {
		reverses: true,
		..form
	}
}

/// Power ISA 3.0B, Book I, 3.3.3 and 3.3.4.
const FORMS: [Form; 19] = [
	displaced("stb", 1, 38, 0),
	displaced("sth", 2, 44, 0),
	displaced("stw", 4, 36, 0),
	displaced("std", 8, 62, 0),
	updating(displaced("stbu", 1, 39, 0)),
	updating(displaced("sthu", 2, 45, 0)),
	updating(displaced("stwu", 4, 37, 0)),
	updating(displaced("stdu", 8, 62, 1)),
	indexed("stbx", 1, 215),
	indexed("sthx", 2, 407),
	indexed("stwx", 4, 151),
	indexed("stdx", 8, 149),
	updating(indexed("stbux", 1, 247)),
	updating(indexed("sthux", 2, 439)),
	updating(indexed("stwux", 4, 183)),
	updating(indexed("stdux", 8, 181)),
	reversing(indexed("sthbrx", 2, 918)),
	reversing(indexed("stwbrx", 4, 662)),
	reversing(indexed("stdbrx", 8, 660)),
];

/// stb r4,0(r30): userspace gets it, and the test is over.
const LAST: u32 = 38 << 26 | 4 << 21 | 30 << 16;

/// Where the instructions are: memory of the guest that nothing else uses.
const CODE: u64 = map::STACK_TOP;
/// What is stored.
const VALUE: u64 = 0x8142_2443_c618_e7f5;

/// Eventfds of each length are here.
const LENGTHS: u64 = map::MMIO_EVENT + 0x100;
/// Eventfds of each length for [`VALUE`], and for its bytes reversed.
const VALUES: u64 = map::MMIO_EVENT + 0x200;
/// One of eight bytes, into which other stores reach.
const WITHIN: u64 = map::MMIO_EVENT + 0x300;
/// One at the end of a page.
const EDGE: u64 = map::MMIO_EVENT + 0xffe;

/// What is stored to.
const TARGETS: [u64; 5] = [LENGTHS, VALUES, WITHIN + 4, EDGE, map::MMIO_EVENT + 0x400];

/// What became of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Outcome {
	/// How often each eventfd was signalled.
	signals: Vec<u64>,
	/// Address, length and data of what userspace was asked for before the last.
	asked: Vec<(u64, u32, [u8; 8])>,
	/// r4 to r6 after it.
	registers: [u64; 3],
}

struct Rig {
	machine: Machine,
	events: Vec<EventFd>,
	is_big_endian: bool,
}

impl Rig {
	fn new(guest: GuestMode, is_big_endian: bool) -> Result<Self, Failure> {
		let mut machine = machine(guest, &[])?;
		// With a VPA, by which the guest says that it does not use the PMU.
		let command = command::timing(case!("h_prod"), 1, 1);
		machine.perform(command, Duration::from_secs(60), |_| {})?;
		let mut events = vec![];
		let mut add = |address, length: u32, value| {
			let event = EventFd::new()?;
			let vm = machine.vm();
			vm.add_event_for(&event, address, length, value)?;
			events.push(event);
			Ok::<_, Failure>(())
		};
		for length in [1, 2, 4, 8] {
			add(LENGTHS, length, None)?;
		}
		for length in [2, 4, 8] {
			let shift = 64 - 8 * length;
			add(VALUES, length, Some(VALUE << shift >> shift))?;
			add(VALUES, length, Some((VALUE << shift).swap_bytes()))?;
		}
		add(WITHIN, 8, None)?;
		add(EDGE, 2, None)?;
		let mut rig = Self {
			machine,
			events,
			is_big_endian,
		};
		// The command's last hcall is answered by the next run, in r3 to r12. So this store goes to
		// low memory, and nothing follows from it.
		rig.store(&FORMS[0], LENGTHS)?;
		Ok(rig)
	}

	fn store(&mut self, form: &Form, target: u64) -> Result<Outcome, Failure> {
		let words = [form.word, LAST].map(|word| match self.is_big_endian {
			true => word.to_be(),
			false => word,
		});
		self.machine
			.memory()
			.write_bytes(CODE, &words.map(u32::to_le_bytes).concat());
		let mut regs = self.machine.vcpu().regs()?;
		regs.pc = CODE;
		if self.is_big_endian {
			regs.msr &= !1;
		}
		regs.gpr[4] = VALUE;
		regs.gpr[5] = target - DISPLACEMENT;
		regs.gpr[6] = DISPLACEMENT;
		regs.gpr[30] = map::MMIO_USER;
		self.machine.vcpu().set_regs(&regs)?;
		let mut asked = vec![];
		loop {
			match self.machine.vcpu().run()? {
				Exit::Mmio(abi::Mmio {
					phys_addr,
					len,
					is_write: 1,
					data,
					..
				}) => {
					if phys_addr == map::MMIO_USER {
						break;
					}
					let mut stored = [0; 8];
					stored[..len as usize].copy_from_slice(&data[..len as usize]);
					asked.push((phys_addr, len, stored));
				}
				Exit::Interrupted => {}
				_ => return wrong("another exit to userspace".into()),
			}
		}
		let regs = self.machine.vcpu().regs()?;
		let signals = self
			.events
			.iter()
			.map(EventFd::take)
			.collect::<Result<_, _>>()?;
		Ok(Outcome {
			signals,
			asked,
			registers: [regs.gpr[4], regs.gpr[5], regs.gpr[6]],
		})
	}
}

/// What the ISA says of the registers, and of which eventfd is signalled where that is simple.
fn is_right(form: &Form, target: u64, is_big_endian: bool, found: &Outcome) -> bool {
	let base = if form.updates {
		target
	} else {
		target - DISPLACEMENT
	};
	let signals = |at: usize| {
		let mut signals = vec![0; found.signals.len()];
		signals[at] = 1;
		signals
	};
	let is_signalled = match (target, form.bytes.trailing_zeros() as usize) {
		(LENGTHS, length) => found.signals == signals(length),
		(VALUES, 0) => found.asked.len() == 1,
		(VALUES, length) => {
			let swapped = usize::from(form.reverses != is_big_endian);
			found.signals == signals(4 + 2 * (length - 1) + swapped)
		}
		_ => true,
	};
	found.registers == [VALUE, base, DISPLACEMENT] && is_signalled
}

/// Each store, to each place, little-endian and big-endian: C and Rust find the same, and what an
/// eventfd got Rust answers in a light exit.
pub fn stores(guest: GuestMode) -> Verdict {
	let mut first: Option<Vec<Outcome>> = None;
	let (mut count, mut events) = (0, 0);
	for path in PATHS {
		choose(path)?;
		let before = counters()?;
		let mut outcomes = vec![];
		for is_big_endian in [false, true] {
			let mut rig = Rig::new(guest, is_big_endian)?;
			for target in TARGETS {
				for form in &FORMS {
					let found = rig.store(form, target)?;
					if !is_right(form, target, is_big_endian, &found) {
						let (path, name) = (path.name(), form.name);
						return wrong(format!("{path}: {name} to {target:#x}: {found:x?}"));
					}
					outcomes.push(found);
				}
			}
		}
		let signalled: u64 = outcomes.iter().flat_map(|one| &one.signals).sum();
		let known = first.get_or_insert_with(|| outcomes.clone());
		if let Some(at) = (0..known.len()).find(|&at| known[at] != outcomes[at]) {
			let form = FORMS[at % FORMS.len()].name;
			let (c, found) = (&known[at], &outcomes[at]);
			return wrong(format!("{}: {form}: {found:x?}, C {c:x?}", path.name()));
		}
		let after = counters()?;
		let light = counter(&after, "light_store") - counter(&before, "light_store");
		let expected = match (path, guest) {
			// KVM knows the page as a device's, by the store that begins.
			(Column::RustFast, GuestMode::Radix | GuestMode::Hash) => signalled,
			_ => 0,
		};
		if light != expected {
			let grown: Vec<_> = after
				.iter()
				.map(|(name, count)| (name, count - counter(&before, name)))
				.filter(|(_, count)| *count != 0)
				.collect();
			let path = path.name();
			return wrong(format!(
				"{path}: {light} of {expected} in light exits; {grown:?}"
			));
		}
		(count, events) = (outcomes.len(), signalled);
	}
	Ok(format!("{count} stores, {events} of them signals"))
}
