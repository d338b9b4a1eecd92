// SPDX-License-Identifier: GPL-2.0-only
//! Hcalls of several vcpus and the MMU notifier at the same time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::fake::{Fake, Host, SLOTS};
use crate::{Guest, Refusal, bulk_remove, hcalls};

const ENTRIES: u64 = 16;

/// A sequence of numbers.
struct Random(u64);

impl Random {
	fn below(&mut self, limit: u64) -> u64 {
		self.0 = self
			.0
			.wrapping_mul(6_364_136_223_846_793_005)
			.wrapping_add(1);
		(self.0 >> 33) % limit
	}
}

fn hammer(fake: &Fake, seed: u64) -> u64 {
	let mut random = Random(seed);
	let mut done = 0;
	for _ in 0..60_000 {
		let index = random.below(ENTRIES);
		let page = random.below(3);
		let result = match random.below(8) {
			0..=2 => {
				hcalls::enter(fake, random.below(2) << 39, index, 4, page << 16 | 0x1190).map(drop)
			}
			3 => hcalls::remove(fake, 0, index, 0).map(drop),
			4 => {
				let request = |random: &mut Random| 0x40 << 56 | random.below(ENTRIES);
				let mut arguments = [0; 8];
				for pair in arguments.chunks_mut(2) {
					pair[0] = request(&mut random);
				}
				bulk_remove(fake, &mut arguments)
			}
			5 => hcalls::protect(fake, random.below(4), index, 0),
			6 => hcalls::clear_ref(fake, index).map(drop),
			_ => hcalls::clear_mod(fake, index).map(drop),
		};
		done += u64::from(result != Err(Refusal::TooHard));
	}
	done
}

#[test]
fn vcpus_and_notifier() {
	let hosts = vec![
		Host {
			kind: 9,
			is_writable: true
		};
		31
	];
	let mut fake = Fake::new(ENTRIES as usize, hosts, true);
	fake.is_shared = true;
	let over = AtomicBool::new(false);
	thread::scope(|scope| {
		let vcpus: Vec<_> = (1..4)
			.map(|seed| {
				let fake = &fake;
				scope.spawn(move || hammer(fake, seed))
			})
			.collect();
		scope.spawn(|| {
			let mut random = Random(99);
			while !over.load(Ordering::Relaxed) {
				fake.unmap(random.below(3));
			}
		});
		for vcpu in vcpus {
			assert!(vcpu.join().unwrap() > 1000, "nothing but H_TOO_HARD");
		}
		over.store(true, Ordering::Relaxed);
	});
	// Each valid HPTE is in the chain of its page and in no other.
	let mut chained = Vec::new();
	for page in SLOTS[0].0..SLOTS[0].0 + SLOTS[0].1 {
		for index in fake.chain(page) {
			assert_eq!(fake.revs[index as usize].guest_r() >> 16 & 0xff, page);
			chained.push(index);
		}
	}
	chained.sort_unstable();
	let valid: Vec<u64> = (0..ENTRIES)
		.filter(|&index| fake.table()[index as usize].v() & 1 != 0)
		.collect();
	assert_eq!(chained, valid);
	assert!(fake.table().iter().all(|hpte| hpte.v() & 0x40 == 0));
}
