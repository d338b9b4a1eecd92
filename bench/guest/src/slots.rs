// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls without end, while the VMM adds, moves and deletes memory slots.
//!
//! After each hcall the vcpu checks the code, and the entries of the table that the hcall wrote or
//! had to leave alone. A vcpu has some entries for itself; others it shares.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::regs::Pattern;
use protocol::slots::{
	self, Allowed, LIST_COUNT, LIST_ENTRIES, LIST_SIZE, LISTS, LISTS_THAT_STAY, OWN, Place, SHARED,
	SHARED_COUNT, SLOTS, Storm, TARGETS, Word,
};
use protocol::{map, private};

use crate::{at, tell};

/// Rounds after which the decrementer is set again: before it runs out.
const DEC_ROUNDS: u64 = 1024;

/// What an hcall writes, if it succeeds.
#[derive(Clone, Copy)]
enum Writes {
	/// The same value into each entry.
	Value(u64),
	/// Entries of a list in memory whose contents have that number.
	List { list: u64, contents: Option<u64> },
}

/// An hcall, and what it needs.
struct Plan {
	number: Number,
	third: u64,
	fourth: u64,
	count: u64,
	/// The place of each slot that the hcall needs.
	needs: [Option<usize>; SLOTS],
	/// The code, if the hcall needs no slot.
	fixed: Option<Code>,
	writes: Writes,
}

struct State<'a> {
	storm: &'a mut Storm,
	pattern: Pattern,
}

/// A word that the VMM changes at any time.
fn shared(offset: usize) -> &'static AtomicU64 {
	let word = at::<u64>(map::SLOTS_SHARED + offset as u64);
	// SAFETY: the word is there for good, is aligned, and is accessed as a whole only.
	unsafe { AtomicU64::from_ptr(word) }
}

fn words() -> [Word; SLOTS] {
	let word = |slot: usize| Word(shared(8 * slot).load(Ordering::SeqCst));
	core::array::from_fn(word)
}

/// Does an hcall on the table. Returns the code and r4.
fn call(number: Number, index: u64, third: u64, fourth: u64) -> (u64, u64) {
	let mut call = Call {
		number: number.0,
		args: [map::LIOBN, index << map::TCE_SHIFT, third, fourth],
		..Call::default()
	};
	// SAFETY: TCE hcalls write to the table and to r4 only.
	unsafe { crate::asm::call(&raw mut call) };
	(call.code, call.r4)
}

fn entry(index: u64) -> (u64, u64) {
	call(Number::GET_TCE, index, 0, 0)
}

impl State<'_> {
	fn below(&mut self, limit: u64) -> u64 {
		self.pattern.next() % limit
	}

	fn bad(&mut self, what: [u64; 8]) {
		if self.storm.bad == 0 {
			self.storm.first_bad = what;
		}
		self.storm.bad += 1;
	}

	fn plan(&mut self) -> Plan {
		let place = self.below(2) as usize;
		let target = slots::target(place, self.pattern.next());
		let many = 1 + self.below(LIST_ENTRIES);
		let put = |value| Plan {
			number: Number::PUT_TCE,
			third: value,
			fourth: 0,
			count: 1,
			needs: [None; SLOTS],
			fixed: None,
			writes: Writes::Value(value),
		};
		let stuff = |value, fixed| Plan {
			number: Number::STUFF_TCE,
			fourth: many,
			count: many,
			fixed: Some(fixed),
			..put(value)
		};
		match self.below(10) {
			0..3 => {
				let mut plan = put(target);
				plan.needs[TARGETS] = Some(place);
				plan
			}
			// Without permissions nothing is looked up.
			3 => Plan {
				fixed: Some(Code::SUCCESS),
				..put(target & !3)
			},
			4 => stuff(target & !3, Code::SUCCESS),
			5 => stuff(target, Code::PARAMETER),
			6..9 => {
				let list = self.below(LIST_COUNT);
				let mut needs = [None; SLOTS];
				needs[LISTS] = Some(place);
				needs[TARGETS] = slots::needs(list);
				Plan {
					number: Number::PUT_TCE_INDIRECT,
					third: slots::ADDRESSES[LISTS][place] + list * LIST_SIZE,
					fourth: many,
					count: many,
					needs,
					writes: Writes::List {
						list,
						contents: None,
					},
					..put(0)
				}
			}
			_ => {
				let list = LISTS_THAT_STAY[place];
				let mut needs = [None; SLOTS];
				needs[TARGETS] = slots::needs(list);
				Plan {
					number: Number::PUT_TCE_INDIRECT,
					third: map::TCE_LIST + place as u64 * LIST_SIZE,
					fourth: many,
					count: many,
					needs,
					writes: Writes::List {
						list,
						contents: Some(0),
					},
					..put(0)
				}
			}
		}
	}

	/// Checks the code of an hcall. Says whether the hcall succeeded.
	fn check_code(
		&mut self,
		plan: &Plan,
		before: &[Word; SLOTS],
		after: &[Word; SLOTS],
		first: u64,
		code: u64,
	) -> bool {
		let refusal = shared(core::mem::offset_of!(slots::Shared, refusal)).load(Ordering::Relaxed);
		let success = Code::SUCCESS.0 as u64;
		let mut allowed = Allowed::Success;
		for (slot, wanted) in plan.needs.iter().enumerate() {
			if let Some(wanted) = wanted {
				allowed = allowed.and(Allowed::for_slot(before[slot], after[slot], *wanted));
			}
		}
		let storm = &mut *self.storm;
		let is_right = match (plan.fixed, allowed) {
			(Some(fixed), _) => {
				storm.fixed += 1;
				code == fixed.0 as u64
			}
			(None, Allowed::Success) => {
				storm.succeeded += 1;
				code == success
			}
			(None, Allowed::Userspace) => {
				storm.refused += 1;
				code == refusal
			}
			(None, Allowed::Either) => {
				storm.raced[usize::from(code != success)] += 1;
				code == success || code == refusal
			}
		};
		if !is_right {
			let (number, allowed) = (plan.number.0, allowed as u64);
			let [lists, targets] = [before[LISTS].0, before[TARGETS].0];
			let third = plan.third;
			self.bad([
				Storm::BAD_CODE,
				number,
				first << 32 | plan.count,
				third,
				code,
				allowed,
				lists,
				targets,
			]);
		}
		code == success
	}

	/// Checks the entries of its own that an hcall wrote, or had to leave alone.
	fn check_entries(
		&mut self,
		plan: &Plan,
		before: &[Word; SLOTS],
		after: &[Word; SLOTS],
		place: usize,
		succeeded: bool,
	) {
		let mut read = [0; LIST_ENTRIES as usize];
		let count = plan.count as usize;
		for (index, value) in read[..count].iter_mut().enumerate() {
			*value = entry(self.storm.first + (place + index) as u64).1;
		}
		let read = &read[..count];
		let first_wrong = |expected: &dyn Fn(u64) -> u64| {
			(0..count).find(|&index| read[index] != expected(index as u64))
		};
		let wrong = match plan.writes {
			_ if !succeeded => {
				let table = &self.storm.table[place..];
				first_wrong(&|index| table[index as usize])
			}
			Writes::Value(value) => first_wrong(&|_| value),
			Writes::List { list, contents } => {
				let range = match contents {
					Some(contents) => contents..=contents,
					None => {
						let [before, after] = [before[LISTS], after[LISTS]];
						let more = u64::from(after.place() == Place::Changing);
						before.contents()..=after.contents() + more
					}
				};
				// All of them were in the list at the same time.
				let mut wrong = Some(0);
				for contents in range {
					wrong = first_wrong(&|index| slots::entry(contents, list, index));
					if wrong.is_none() {
						break;
					}
				}
				wrong
			}
		};
		if let Some(index) = wrong {
			let (number, third) = (plan.number.0, plan.third);
			let (at, got) = ((place + index) as u64, read[index]);
			let should = self.storm.table[place + index];
			self.bad([
				Storm::BAD_ENTRY,
				number,
				at,
				third,
				u64::from(succeeded),
				got,
				should,
				before[LISTS].0,
			]);
		}
		self.storm.table[place..place + count].copy_from_slice(read);
	}

	fn round(&mut self) {
		let plan = self.plan();
		let is_own = self.below(4) != 0;
		let room = if is_own { OWN as u64 } else { SHARED_COUNT };
		let place = self.below(room - plan.count + 1);
		let first = place + if is_own { self.storm.first } else { SHARED };
		let before = words();
		let (code, _) = call(plan.number, first, plan.third, plan.fourth);
		let after = words();
		self.storm.rounds += 1;
		let succeeded = self.check_code(&plan, &before, &after, first, code);
		if is_own {
			self.check_entries(&plan, &before, &after, place as usize, succeeded);
			return;
		}
		let (code, value) = entry(first);
		if code != Code::SUCCESS.0 as u64 || !slots::is_possible(value) {
			let number = plan.number.0;
			self.bad([
				Storm::BAD_ENTRY,
				number,
				first,
				plan.third,
				code,
				value,
				0,
				0,
			]);
		}
	}
}

/// Where a vcpu begins that the VMM gave a block and a stack.
#[unsafe(no_mangle)]
extern "C" fn slots_main(block: *mut Storm) -> ! {
	// SAFETY: the block is this vcpu's, and the VMM reads it only after the vcpu has told that it
	// is done.
	let storm = unsafe { &mut *block };
	let pattern = Pattern::new(storm.seed);
	let mut state = State { storm, pattern };
	let stop = shared(core::mem::offset_of!(slots::Shared, stop));
	while stop.load(Ordering::Relaxed) == 0 {
		if state.storm.rounds.is_multiple_of(DEC_ROUNDS) {
			// SAFETY: no interrupt comes of it.
			unsafe { asm!("mtspr 22, {}", in(reg) 0x7fff_ffff_u64, options(nomem, nostack)) };
		}
		state.round();
	}
	loop {
		tell(private::DONE, 0);
	}
}
