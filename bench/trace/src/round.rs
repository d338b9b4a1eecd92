// SPDX-License-Identifier: GPL-2.0-only
//! From a batch to one round trip.
//!
//! A batch is a loop, so its first instruction that was executed as often as there
//! were iterations begins each. The rounds are then compared, instruction by
//! instruction: most are the same, and the one that occurs most often is *the*
//! round trip. The others met the host's timer or other work that is not theirs. Where
//! the host's scheduler or memory allocator has a part in each, or the interrupts are not
//! where the loop begins, none stands for the others: then all of them are taken.

use std::collections::HashMap;

use crate::format::{Executed, Place, Window};
use crate::insn::{self, Op};

/// One instruction, executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TracedInsn {
	/// Effective address.
	pub address: u64,
	/// Real address.
	pub real: u64,
	/// The instruction.
	pub word: u32,
	/// In which [`state`](crate::format::state).
	pub state: u8,
}

/// The round trip that occurred most often, or stands for the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
	/// Its instructions, in order.
	pub steps: Vec<TracedInsn>,
	/// Of so many round trips: one, or all that were recorded if none stands for them.
	pub trips: usize,
	/// How many rounds were exactly this.
	pub same: usize,
	/// Of how many.
	pub of: usize,
}

impl Round {
	/// The longest stretch of consecutive instructions in states that have one of these bits. The
	/// round trip follows itself.
	pub fn longest(&self, bits: u8) -> u64 {
		let (mut longest, mut now) = (0, 0);
		for step in self.steps.iter().chain(&self.steps) {
			now = if step.state & bits != 0 { now + 1 } else { 0 };
			longest = longest.max(now);
		}
		longest.min(self.steps.len() as u64)
	}
}

/// Address of real address 0 in the emulator's memory.
///
/// The kernel's code is executed in its linear map most of the time: every such
/// instruction tells. Others at the same effective addresses would be a guest's, so
/// the most frequent answer counts.
pub fn memory_base(places: impl Iterator<Item = Place>) -> Option<u64> {
	let mut votes = HashMap::new();
	for place in places.filter(|place| place.address >> 60 == 0xc) {
		let real = place.address & !(0xf << 60);
		*votes.entry(place.memory.wrapping_sub(real)).or_insert(0u64) += 1;
	}
	// Of two equally frequent ones the lesser, so that the answer is always the same.
	votes
		.into_iter()
		.max_by_key(|&(base, votes)| (votes, u64::MAX - base))
		.map(|(base, _)| base)
}

/// Whether the first of two instructions, executed one after the other, was not completed.
///
/// A load or store that the MMU refuses, or a message that the hypervisor sends for the
/// guest, interrupts before it has done anything. It is done again afterwards, or by the
/// hypervisor, and is no instruction that was executed: not for QEMU's virtual time, and not for a
/// POWER9's counters. Others that interrupt, as `sc`, count.
fn was_refused(first: &Place, second: &Place) -> bool {
	let vector = second.address & !(0xf << 60);
	let vectors = vector < 0x1000 || (0x4000..0x5000).contains(&vector);
	let offset = vector & 0xfff;
	vectors
		&& match insn::decode(first.word) {
			Op::Load
			| Op::Store
			| Op::LoadVector
			| Op::StoreVector
			| Op::LoadInhibited
			| Op::StoreInhibited
			| Op::Larx
			// Data storage, data segment, hypervisor data storage.
			| Op::Stcx => matches!(offset, 0x300 | 0x380 | 0xe00),
			// Hypervisor facility unavailable.
			Op::Message(_) => offset == 0xf80,
			_ => false,
		}
}

/// What a window has of completed instructions, as entries of the table.
pub fn completed(window: &Window, place: impl Fn(Executed) -> Option<Place>) -> Vec<Executed> {
	let entries: Vec<Executed> = window.entries().collect();
	let refused = |index: usize| {
		let places = entries
			.get(index + 1)
			.and_then(|&next| Some((place(entries[index])?, place(next)?)));
		places.is_some_and(|(first, second)| was_refused(&first, &second))
	};
	(0..entries.len())
		.filter(|&index| !refused(index))
		.map(|index| entries[index])
		.collect()
}

/// Finds the round trip in a batch of `iterations`, given as entries of the table. Whether
/// one of them can stand for all says `steady`.
pub fn find(
	entries: &[Executed],
	iterations: u64,
	steady: bool,
	base: u64,
	place: impl Fn(Executed) -> Option<Place>,
) -> Result<Round, String> {
	// The last is the read of the timebase.
	let Some((_, entries)) = entries.split_last() else {
		return Err("nothing was recorded".to_owned());
	};
	let mut counts: HashMap<Executed, u64> = HashMap::new();
	for &entry in entries {
		*counts.entry(entry).or_default() += 1;
	}
	let head = entries
		.iter()
		.copied()
		.find(|entry| counts[entry] == iterations)
		.ok_or_else(|| format!("no instruction was executed {iterations} times"))?;
	let starts: Vec<usize> = (0..entries.len())
		.filter(|&index| entries[index] == head)
		.collect();
	let rounds: Vec<&[Executed]> = starts
		.iter()
		.zip(starts.iter().skip(1).chain([&entries.len()]))
		.map(|(&start, &end)| &entries[start..end])
		.collect();
	let mut votes: HashMap<&[Executed], usize> = HashMap::new();
	for &round in &rounds {
		*votes.entry(round).or_default() += 1;
	}
	let (round, same) = votes
		.into_iter()
		// Of two equally frequent ones the shorter: less has happened that is not its own.
		.max_by(|(a, x), (b, y)| x.cmp(y).then(b.len().cmp(&a.len())).then(b.cmp(a)))
		.ok_or("no rounds")?;
	let usual = steady && 2 * same > rounds.len();
	let taken = if usual { round } else { &entries[starts[0]..] };
	let steps = taken
		.iter()
		.map(|&entry| {
			let place = place(entry).ok_or("an instruction is not in the table")?;
			Ok(TracedInsn {
				address: place.address,
				real: place.memory.wrapping_sub(base),
				word: place.word,
				state: entry.state(),
			})
		})
		.collect::<Result<_, String>>()?;
	Ok(Round {
		steps,
		trips: if usual { 1 } else { rounds.len() },
		same,
		of: rounds.len(),
	})
}

/// Whether a window is as long as the timebase says.
///
/// From one read of the timebase to the other, the first included and the last not,
/// at one nanosecond each and 512 ticks a microsecond. A tick is nearly two
/// instructions, so the two ends leave that much open, over a whole batch.
pub fn agrees(instructions: u64, ticks: u64) -> bool {
	// Difference in 1/1000 of a tick.
	let exact = u128::from(instructions) * 512;
	let told = u128::from(ticks) * 1000;
	exact.abs_diff(told) < 1000
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::format::{Batch, state};
	use proptest::prelude::*;

	const BASE: u64 = 0x7f12_3400_0000;

	fn place(executed: Executed) -> Option<Place> {
		let entry = executed.entry();
		Some(Place {
			address: 0xc000_0000_0000_0000 | u64::from(entry) << 2,
			memory: BASE + (u64::from(entry) << 2),
			word: entry,
		})
	}

	fn window(entries: &[u32]) -> Window {
		let mut window = Window {
			tag: 0,
			kind: Batch::Calls,
			runs: vec![],
		};
		entries.iter().for_each(|&entry| window.push(entry, 0));
		window
	}

	/// mftb, padding, the rounds, mftb.
	fn batch(rounds: &[&[u32]]) -> Vec<Executed> {
		let rounds = rounds.iter().copied().flatten().copied();
		let entries = [1, 2].into_iter().chain(rounds).chain([1]);
		entries.map(|entry| Executed::new(entry, 0)).collect()
	}

	#[test]
	fn the_longest_stretch_goes_on_from_the_end() {
		let round = |states: &[u8]| Round {
			steps: states
				.iter()
				.map(|&state| TracedInsn {
					address: 0,
					real: 0,
					word: 0,
					state,
				})
				.collect(),
			trips: 1,
			same: 1,
			of: 1,
		};
		let of = round(&[1, 3, 0, 1, 1, 0, 2, 1, 3]);
		assert_eq!(of.longest(state::INTERRUPTS_OFF), 4);
		assert_eq!(of.longest(state::GUEST_MODE), 1);
		assert_eq!(of.longest(state::INTERRUPTS_OFF | state::GUEST_MODE), 5);
		assert_eq!(round(&[3; 7]).longest(state::GUEST_MODE), 7);
		assert_eq!(round(&[0; 7]).longest(state::GUEST_MODE), 0);
		assert_eq!(round(&[]).longest(state::GUEST_MODE), 0);
	}

	#[test]
	fn the_usual_round_is_found() {
		let usual: &[u32] = &[10, 11, 50, 51, 50, 51, 12];
		let odd: &[u32] = &[10, 11, 50, 51, 90, 91, 50, 51, 12];
		let round = find(&batch(&[usual, odd, usual, usual]), 4, true, BASE, place).unwrap();
		assert_eq!((round.same, round.of), (3, 4));
		let words: Vec<u32> = round.steps.iter().map(|step| step.word).collect();
		assert_eq!(words, usual);
		assert_eq!(round.steps[0].real, 40);
	}

	#[test]
	fn an_access_that_is_refused_does_not_count() {
		const STORE: u32 = 0x9085_0000;
		let places = [
			(0x1_0000, STORE),
			(0xc000_0000_0000_4e00, 0x6000_0000),
			(0x1_0000, STORE),
			// Any other interrupt finds it completed.
			(0xc000_0000_0000_4980, 0x6000_0000),
			(0xe00, STORE),
			(0xe04, STORE),
			(0x1_0e00, STORE),
			(0x300, 0x6000_0000),
			// sc has been executed.
			(0x1_0004, 0x4400_0022),
			(0xe00, STORE),
		];
		let place = |executed: Executed| {
			let &(address, word) = places.get(executed.entry() as usize)?;
			Some(Place {
				address,
				memory: address,
				word,
			})
		};
		let all: Vec<u32> = (0..places.len() as u32).collect();
		let completed = completed(&window(&all), place).into_iter();
		let completed: Vec<u32> = completed.map(Executed::entry).collect();
		assert_eq!(completed, [1, 2, 3, 4, 5, 7, 8, 9]);
	}

	#[test]
	fn where_none_is_usual_all_are_taken() {
		let rounds: [&[u32]; 3] = [&[10, 50, 12], &[10, 60, 61, 62, 12], &[10, 70, 71, 12]];
		let round = find(&batch(&rounds), 3, true, BASE, place).unwrap();
		assert_eq!((round.steps.len(), round.trips), (12, 3));
		assert_eq!((round.same, round.of), (1, 3));
		// The same if the case isn't steady.
		let round = find(&batch(&[rounds[0]; 4]), 4, false, BASE, place).unwrap();
		assert_eq!((round.steps.len(), round.trips, round.same), (12, 4, 4));
	}

	#[test]
	fn a_batch_that_is_no_loop_is_refused() {
		assert!(find(&batch(&[&[10], &[11]]), 2, true, BASE, place).is_err());
		assert!(find(&[], 1, true, BASE, place).is_err());
	}

	#[test]
	fn the_base_is_what_most_say() {
		let entries = (0..10).map(|entry| Executed::new(entry, 0));
		let mut places: Vec<Place> = entries.filter_map(place).collect();
		places.push(Place {
			address: 0xc000_0000_0000_4000,
			memory: 0x1000,
			word: 0,
		});
		places.push(Place {
			address: 0x4000,
			memory: 0x1000,
			word: 0,
		});
		assert_eq!(memory_base(places.into_iter()), Some(BASE));
		assert_eq!(memory_base([].into_iter()), None);
	}

	#[test]
	fn a_tick_is_the_resolution() {
		assert!(agrees(1000, 512));
		assert!(agrees(1001, 512) && agrees(1001, 513));
		assert!(!agrees(1002, 512) && agrees(1002, 513));
		assert!(!agrees(1000, 510));
	}

	proptest! {
		#[test]
		fn whatever_happens_in_between(noise in proptest::collection::vec(0usize..6, 1..20)) {
			// As many disturbed rounds as the vector has non-zero entries.
			let usual: Vec<u32> = vec![10, 20, 21, 22, 11];
			let rounds: Vec<Vec<u32>> = noise.iter().map(|&n| {
				let mut round = usual.clone();
				for extra in 0..n {
					round.insert(2, 100 + extra as u32);
				}
				round
			}).collect();
			let slices: Vec<&[u32]> = rounds.iter().map(Vec::as_slice).collect();
			let found = find(&batch(&slices), noise.len() as u64, true, BASE, place).unwrap();
			prop_assert_eq!(found.of, noise.len());
			let most = (0..6).map(|n| noise.iter().filter(|&&m| m == n).count()).max().unwrap();
			if 2 * most > noise.len() {
				prop_assert_eq!((found.same, found.trips), (most, 1));
			} else {
				let all: usize = rounds.iter().map(Vec::len).sum();
				prop_assert_eq!((found.steps.len(), found.trips), (all, noise.len()));
			}
		}
	}
}
