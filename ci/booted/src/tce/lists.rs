// SPDX-License-Identifier: GPL-2.0-only
//! The lists of H_PUT_TCE_INDIRECT: their page moves, or there are several.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cases::case;
use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, GuestMode, map};

use vmm::host;
use vmm::kvm::Memory;
use vmm::machine::{Config, Failure, Machine};

use super::{LIST, PAGE, TCES, fast, perform, write_list};

/// A guest writes from its list and reads what it wrote, again and again, while
/// userspace replaces the list's page by others. What the guest reads was in the list
/// at that time, and not before, and not in memory that came free.
pub fn moving_list(guest: GuestMode, path: Column) -> Result<String, Failure> {
	const MOVES: u64 = 300;
	const NOISE: u64 = (map::TCE_TARGET - LIST) | 3;
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut machine = Machine::new(Config {
		guest,
		enable: &TCES,
		window: true,
	})?;
	let memory = machine.memory().clone();
	let (stop, moves) = (AtomicBool::new(false), AtomicU64::new(0));
	let before = fast()?;
	let (hcalls, moved) = std::thread::scope(|scope| {
		let mover = scope.spawn(|| {
			while !stop.load(Ordering::Relaxed) {
				let moved = moves.load(Ordering::Relaxed);
				let page = Memory::new(PAGE as usize)?;
				write_list(&page, 0, &rotated(moved + 1));
				memory.take_over(map::TCE_LIST, page)?;
				moves.store(moved + 1, Ordering::Relaxed);
				// What was the list before may be this now.
				let noise = Memory::new(4 * PAGE as usize)?;
				for page in 0..4 {
					write_list(&noise, page * PAGE, &[NOISE; 512]);
				}
			}
			Ok::<(), Failure>(())
		});
		let hcalls = (|| {
			let mut hcalls = 0;
			loop {
				let before = moves.load(Ordering::Relaxed);
				if before >= MOVES || mover.is_finished() {
					return Ok::<u64, Failure>(hcalls);
				}
				let read = write_and_read(&mut machine)?;
				// One more may have been done and not yet counted.
				let after = moves.load(Ordering::Relaxed) + 1;
				for &(index, entry) in &read {
					if !(before..=after).any(|moved| rotated(moved)[index] == entry) {
						return Err(Failure::Wrong(format!(
							"entry {index} is {entry:#x}, which it was in none of the lists from \
							 {before} to {after}"
						)));
					}
				}
				hcalls += 2 * read.len() as u64;
			}
		})();
		stop.store(true, Ordering::Relaxed);
		(hcalls, mover.join().expect("it doesn't panic"))
	});
	let hcalls = hcalls?;
	moved?;
	let served = fast()? - before;
	let what = format!("{hcalls} hcalls, {served} fast, {MOVES} moves of the list's page");
	// Each move costs an hcall that C has to do.
	if path == Column::RustFast && served < hcalls / 2 || path != Column::RustFast && served != 0 {
		return Err(Failure::Wrong(what));
	}
	Ok(what)
}

/// The list after so many moves.
fn rotated(moved: u64) -> [u64; 512] {
	core::array::from_fn(|index| map::tce((index as u64 + moved) % 512))
}

/// Has the guest write 512 entries from its list and read one of them, some times.
/// Returns which it read, and what.
fn write_and_read(machine: &mut Machine) -> Result<Vec<(usize, u64)>, Failure> {
	const COUNT: usize = 50;
	let which = |pair: usize| pair * 10;
	let calls = (0..COUNT).flat_map(|pair| {
		let [write, mut read] =
			[case!("h_put_tce_indirect_512"), case!("h_get_tce")].map(|case| Call {
				number: case.number.0,
				args: case.args,
				..Call::default()
			});
		read.args[1] = (which(pair) as u64) << map::TCE_SHIFT;
		[write, read]
	});
	let (done, _) = perform(machine, &calls.collect::<Vec<_>>())?;
	if let Some(call) = done.iter().find(|call| call.code as i64 != Code::SUCCESS.0) {
		return Err(Failure::Wrong(format!(
			"hcall {:#x} {:x?} returned {}",
			call.number, call.args, call.code as i64
		)));
	}
	Ok((0..COUNT)
		.map(|pair| (which(pair), done[2 * pair + 1].r4))
		.collect())
}

/// A guest takes its lists from several pages in turn, and reads what it wrote. The pages that a
/// vcpu remembers are enough for fast handlers to answer all but the first hcalls. With one page
/// more the answers are the same.
pub fn several_lists(guest: GuestMode, path: Column) -> Result<String, Failure> {
	const ROUNDS: u64 = 20;
	/// Of one list.
	const ENTRIES: u64 = 8;
	/// The kernel's KVM_P9_TCE_LISTS.
	const REMEMBERED: u64 = 4;
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut machine = Machine::new(Config {
		guest,
		enable: &TCES,
		window: true,
	})?;
	let entry = |page: u64, index: u64| map::tce((page * 100 + index) % 512);
	let mut served = Vec::new();
	for pages in [REMEMBERED, REMEMBERED + 1] {
		for page in 0..pages {
			let list = core::array::from_fn(|index| entry(page, index as u64));
			// Not at the beginning of the page, for most.
			write_list(machine.memory(), list_of(page), &list);
		}
		let calls = (0..pages * ROUNDS).flat_map(|n| {
			let page = n % pages;
			let first = (page * 64) << map::TCE_SHIFT;
			let last = first + ((ENTRIES - 1) << map::TCE_SHIFT);
			[
				(
					Number::PUT_TCE_INDIRECT,
					[map::LIOBN, first, list_of(page), ENTRIES],
				),
				(Number::GET_TCE, [map::LIOBN, last, 0, 0]),
			]
		});
		let calls = calls.map(|(number, args)| Call {
			number: number.0,
			args,
			..Call::default()
		});
		let before = fast()?;
		let (done, _) = perform(&mut machine, &calls.collect::<Vec<_>>())?;
		served.push(fast()? - before);
		for (index, call) in done.iter().enumerate() {
			let page = index as u64 / 2 % pages;
			let is_right = call.code as i64 == Code::SUCCESS.0
				&& (call.number != Number::GET_TCE.0 || call.r4 == entry(page, ENTRIES - 1));
			if !is_right {
				return Err(Failure::Wrong(format!(
					"hcall {:#x} {:x?} of {pages} pages returned {} and r4 {:#x}",
					call.number, call.args, call.code as i64, call.r4
				)));
			}
		}
	}
	// H_GET_TCE is always fast, and each page's first list is not. The very first may find no page of
	// the table before it looks for its list, which is remembered one round later then.
	let (least, few) = (2 * REMEMBERED * ROUNDS - REMEMBERED - 1, served[0]);
	let what = format!("{few} and {} hcalls fast", served[1]);
	let is_right = match path {
		Column::RustFast => few >= least && served[1] >= (REMEMBERED + 1) * ROUNDS,
		_ => served == [0, 0],
	};
	match is_right {
		true => Ok(what),
		false => Err(Failure::Wrong(format!("{what}, of {least} at least"))),
	}
}

/// A list in a host page of its own.
fn list_of(page: u64) -> u64 {
	map::TCE_LIST + page * PAGE + page % 3 * LIST
}
