// SPDX-License-Identifier: GPL-2.0-only
//! Vcpus that contend for the same entries, while userspace changes what is behind them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hcall::Code;
use protocol::block::Contender;
use protocol::{Column, GuestMode, map};
use static_assertions::const_assert;
use vmm::kvm::{Exit, Memory, TceWindow, Vcpu, Vfio, Windows};
use vmm::machine::Failure;
use vmm::timer::Timer;

use super::rig::{
	BOTH, CONTENDED, Entry, GuestBuffer, LIOBNS, Rig, Sample, Table, check_served, fast_updates,
	machine, settle, unregister,
};
use crate::common::{Verdict, choose, wrong};
use crate::cpus::move_to_cpu;
use crate::tce::{LIST, PAGE, Random, window, write_list};
use crate::vfio::{Container, Group};

/// Vcpus that contend.
const CONTENDERS: [u64; 2] = [1, 2];

/// Their lists and H_STUFF_TCEs have up to this many entries. They go over them at
/// different speeds, and so are often at the same one.
const CONTENDER_ENTRIES: u64 = 512;

const_assert!(CONTENDERS.len() as u64 * CONTENDER_ENTRIES == map::TCE_PAGES);

/// What a fast handler takes of these at most: 128 entries of two hardware tables.
const FAST_ENTRIES: u64 = 64;

/// Regions of what the vcpus' lists point to, which stay registered.
const COUNTED_REGIONS: usize = 2;

/// Entries with a mapping that the device looks at in the end, and entries without.
const LOOKED_AT: usize = 6;

/// What userspace does while vcpus contend.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meanwhile {
	/// Nothing, but where registrations may go while a vcpu uses them, it takes them back
	/// and gives them anew.
	Registrations,
	/// It takes the hardware away from the guest's table and gives it back, and closes the
	/// table and makes another.
	Attachments,
	/// It removes the hardware's window while the guest's table still has it attached, and
	/// makes and attaches another.
	Removals,
}

/// Two vcpus on the same entries of one table, for some time.
pub fn contend(path: Column, seed: u64, meanwhile: Meanwhile, time: Duration) -> Verdict {
	choose(path)?;
	let ours = path != Column::C;
	let machine = machine(GuestMode::Radix)?;
	// The full path takes the longest ones in steps. Where handlers are to meet, they must not be
	// too long.
	let most = match (path, meanwhile) {
		(Column::RustFast, Meanwhile::Registrations) => FAST_ENTRIES,
		_ => CONTENDER_ENTRIES,
	};
	let mut vcpus = CONTENDERS
		.iter()
		.map(|&id| {
			let block = Contender {
				seed: seed.wrapping_mul(2 * id + 1) | 1,
				lists: [map::TCE_LIST, map::TCE_LIST + LIST],
				// Always from the first entry on, and nearly all of them.
				cleared: Contender::ENTRIES - 1,
				more: most - Contender::ENTRIES,
				..Contender::default()
			};
			machine.contend(id, block)
		})
		.collect::<Result<Vec<Vcpu>, _>>()?;
	for (number, step) in (0_u64..).zip([1, 3]) {
		let list = map::TCE_LIST + number * LIST;
		write_list(machine.memory(), list, &contend_list(0, 256, step));
	}
	// All that the entries point to. The pages of the lists are in the first half, which has
	// two regions: the two pages that vcpus write to one entry are often in different regions,
	// so that a vcpu that confuses them counts wrong. The second half has many regions, because
	// the check costs some.
	let (start, size) = (map::TCE_TARGET, 512 << map::TCE_SHIFT);
	let memory = machine.memory().clone();
	let place = |address, size| GuestBuffer::new(&memory, address, address, size);
	let places = vec![place(start, size)];
	let mut regions: Vec<_> = (0..COUNTED_REGIONS as u64)
		.map(|number| place(start + number * size / 4, size / 4))
		.collect();
	let small = (start + size / 2..start + size).step_by(PAGE as usize);
	regions.extend(small.map(|address| place(address, PAGE)));
	let mut rig = Rig::with(machine, CONTENDED, vec![], places, regions)?;

	let before = fast_updates()?;
	let (stop, failed) = (AtomicBool::new(false), AtomicBool::new(false));
	let mut disturber = Disturber {
		vfio: &rig.vfio,
		groups: &rig.groups,
		containers: &rig.containers,
		windows: rig.machine.vm().windows()?,
		window: &mut rig.windows[0],
		regions: &rig.regions,
		lost: vec![],
		changes: 0,
		pauses: Random(seed),
	};
	let memory = rig.machine.memory();
	let result = std::thread::scope(|scope| {
		let mut threads: Vec<_> = vcpus
			.iter_mut()
			.map(|vcpu| scope.spawn(|| warn(&failed, run(vcpu, &stop))))
			.collect();
		threads.push(scope.spawn(|| {
			let result = match meanwhile {
				Meanwhile::Attachments => disturber.attachments(&stop),
				Meanwhile::Removals => disturber.removals(&stop),
				Meanwhile::Registrations if ours => disturber.registrations(memory, &stop),
				Meanwhile::Registrations => Ok(()),
			};
			warn(&failed, result)
		}));
		let end = Instant::now() + time;
		while Instant::now() < end && !failed.load(Ordering::Relaxed) {
			std::thread::sleep(Duration::from_millis(20));
		}
		stop.store(true, Ordering::Relaxed);
		threads
			.into_iter()
			.map(|thread| thread.join().expect("it doesn't panic"))
			.collect::<Result<Vec<()>, Failure>>()
	});
	result?;
	let (changes, lost) = (disturber.changes, disturber.lost);
	let (mut rounds, mut answered, mut refused) = (0, 0, 0);
	for id in CONTENDERS {
		let one = rig.machine.contended(id);
		if one.bad != 0 || one.answered == 0 {
			return wrong(format!("vcpu {id}: {one:?}"));
		}
		rounds += one.rounds;
		answered += one.answered;
		refused += one.refused;
	}
	// Those still in the vcpus are counted when they come out.
	drop(vcpus);
	let fast = fast_updates()? - before;
	let what =
		format!("{rounds} hcalls, {refused} refused, {fast} fast updates, {changes} changes");
	// Without hardware a table is emulated, and served fast in any case.
	if meanwhile == Meanwhile::Registrations && path == Column::RustFast {
		check_served(path, answered * 3 / 4, fast)?;
	}
	let disturbed = meanwhile != Meanwhile::Registrations || ours;
	if (refused != 0 && !disturbed) || (changes == 0) == disturbed {
		return wrong(what);
	}
	// Bring the tables together first. What hardware got to know while it was attached it
	// still knows; and where the vcpus' last hcalls met at an entry, one device's table may
	// have what one vcpu wrote and the other's what the other did.
	rig.clear(&mut Random(seed), None)?;
	let entry = |index| Entry { table: 0, index };
	let calls: Vec<_> = (0..32)
		.map(|n| rig.put(entry(n), map::tce(5 * n)))
		.collect();
	rig.succeed(&calls)?;
	// Some that are mapped, and some that are not. A copy takes a tenth of a second here.
	let mut samples = vec![];
	for (index, tce) in (0..).zip(rig.windows[0].table()?) {
		let entry = Entry { table: 0, index };
		let offset = 0;
		samples.push(Sample { entry, offset, tce });
	}
	let some = |mapped: bool| {
		let alike = samples
			.iter()
			.filter(move |s| (s.tce & BOTH != 0) == mapped);
		alike.step_by(3).take(LOOKED_AT).copied()
	};
	let samples: Vec<_> = some(true).chain(some(false)).collect();
	rig.check_dma(&samples)?;
	// The last hcalls may have left nothing, and then nothing could be the last mapping.
	let end = Entry {
		table: 0,
		index: map::TCE_PAGES - 1,
	};
	rig.succeed(&[rig.put(end, map::tce(0))])?;
	// Last first, so that what is left has the right numbers.
	for &region in lost.iter().rev() {
		rig.regions.remove(region);
	}
	if settle(&mut rig, &mut Random(seed))? {
		Ok(what)
	} else {
		wrong(what)
	}
}

/// A list of entries for so many pages from some page on, in some order.
fn contend_list(first: u64, pages: u64, step: u64) -> [u64; 512] {
	core::array::from_fn(|index| map::tce(first + step * index as u64 % pages))
}

/// Passes a result on; if it is an error, says so at once.
fn warn(failed: &AtomicBool, result: Result<(), Failure>) -> Result<(), Failure> {
	if result.is_err() {
		failed.store(true, Ordering::Relaxed);
	}
	result
}

/// Runs a vcpu that contends, here and there, until it is told to stop.
fn run(vcpu: &mut Vcpu, stop: &AtomicBool) -> Result<(), Failure> {
	const CPUS: usize = 2;
	let interval = Duration::from_millis(7);
	let _timer = Timer::every(interval, interval)?;
	let mut runs = 0;
	while !stop.load(Ordering::Relaxed) {
		match vcpu.run()? {
			Exit::Hcall(..) => vcpu.answer(Code::FUNCTION),
			Exit::Interrupted => drop(move_to_cpu(runs % CPUS)?),
			exit => return wrong(format!("the guest of a vcpu that contends: {exit:?}")),
		}
		runs += 1;
	}
	Ok(())
}

/// Changes what vcpus are using.
struct Disturber<'a> {
	vfio: &'a Vfio,
	groups: &'a [Group],
	containers: &'a [Container],
	windows: Windows,
	window: &'a mut TceWindow,
	regions: &'a [GuestBuffer],
	/// Regions that were mapped when they were taken back: the kernel keeps them for ever.
	lost: Vec<usize>,
	changes: u64,
	pauses: Random,
}

impl Disturber<'_> {
	fn pause(&mut self) {
		std::thread::sleep(Duration::from_micros(200 + self.pauses.below(5000)));
	}

	fn attachments(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
		while !stop.load(Ordering::Relaxed) {
			if self.changes % 3 == 2 {
				// The old one goes first: there can't be two of one LIOBN.
				let Table {
					page_shift,
					entries,
					..
				} = CONTENDED[0];
				let other = window(LIOBNS[0] + 0x100, page_shift, 0, entries);
				drop(core::mem::replace(
					self.window,
					self.windows.create(&other)?,
				));
				self.pause();
				let same = window(LIOBNS[0], page_shift, 0, entries);
				*self.window = self.windows.create(&same)?;
			} else {
				for group in self.groups {
					self.vfio.remove(group)?;
				}
				self.pause();
				for group in self.groups {
					self.vfio.add(group)?;
				}
			}
			for group in self.groups {
				self.vfio.attach(group, self.window)?;
			}
			self.changes += 1;
			self.pause();
		}
		Ok(())
	}

	fn removals(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
		let Table {
			page_shift,
			entries,
			hardware,
		} = CONTENDED[0];
		let bytes = (entries << page_shift).next_power_of_two();
		while !stop.load(Ordering::Relaxed) {
			let devices = self.containers.iter().zip(self.groups).zip(hardware);
			for ((container, group), &(shift, levels)) in devices {
				container.remove_window(0)?;
				self.pause();
				let start = container.create_window(shift, bytes, levels)?;
				if start != 0 {
					return wrong(format!("the new window begins at {start:#x}"));
				}
				self.vfio.attach(group, self.window)?;
			}
			self.changes += 1;
			self.pause();
		}
		Ok(())
	}

	/// Has the vcpus map a region, then not any more, and takes its registration back while
	/// they may still be at it.
	fn registrations(&mut self, memory: &Memory, stop: &AtomicBool) -> Result<(), Failure> {
		const PAGES: u64 = PAGE >> map::TCE_SHIFT;
		let list = map::TCE_LIST + LIST;
		// Not the first, which are for counting.
		for number in (COUNTED_REGIONS..self.regions.len()).cycle() {
			let left = self.regions.len() - self.lost.len();
			if stop.load(Ordering::Relaxed) || left == COUNTED_REGIONS {
				break;
			}
			if self.lost.contains(&number) {
				continue;
			}
			let region = &self.regions[number];
			let first = (region.address - map::TCE_TARGET) >> map::TCE_SHIFT;
			write_list(memory, list, &contend_list(first, PAGES, 1));
			self.pause();
			write_list(memory, list, &contend_list(0, 256, 3));
			if self.changes.is_multiple_of(2) {
				self.pause();
			}
			let unlocked = unregister(self.containers, region)?;
			self.pause();
			for container in self.containers {
				container.register(&region.memory, region.offset, region.size)?;
			}
			if !unlocked {
				self.lost.push(number);
			}
			self.changes += 1;
		}
		self.lost.sort_unstable();
		Ok(())
	}
}
