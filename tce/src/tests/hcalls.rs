// SPDX-License-Identifier: GPL-2.0-only
//! Cases of each hcall body.

use std::cell::Cell;

use hcall::Code;
use proptest::prelude::*;

use super::model::{self, Call, Setup, World};
use crate::hcalls::{self, get, put};
use crate::{
	GuestMemory, MAX_ATTACHED, MAX_ENTRIES, MAX_WRITES, Progress, Range, Refusal, Table, Tce,
	TooHard, Window,
};

fn setup() -> Setup {
	Setup {
		window: Window {
			page_shift: 12,
			offset: 0,
			size: 0x3000,
		},
		present: vec![true, false],
		..Setup::default()
	}
}

fn buffer() -> [Cell<u64>; MAX_ENTRIES] {
	[const { Cell::new(0x5a) }; MAX_ENTRIES]
}

/// An H_STUFF_TCE that one call does.
fn stuff<T: Table>(
	table: &T,
	guest: &impl GuestMemory,
	ioba: u64,
	value: Tce,
	pages: u64,
) -> Result<(), Refusal> {
	hcalls::stuff(table, guest, ioba, value, pages, &mut Progress::default())
}

/// An H_PUT_TCE_INDIRECT that one call does.
fn put_indirect<T: Table>(
	table: &T,
	guest: &impl GuestMemory,
	ioba: u64,
	list: u64,
	pages: u64,
) -> Result<(), Refusal> {
	let progress = &mut Progress::default();
	hcalls::put_indirect(table, guest, &buffer(), ioba, list, pages, progress)
}

const HARD: Result<(), Refusal> = Err(Refusal::TooHard(TooHard::Userspace));

#[test]
fn a_list_is_read_once_and_written_as_it_was_read() {
	let world = &World::new(&setup());
	world.set_list(&[0x3003, 0x4001, 0x5002]);
	// The guest changes each entry as soon as it was read.
	world.spoil_list();
	let result = put_indirect(&world, &world, 0x1000, 0, 3);
	assert_eq!(result, Ok(()));
	assert_eq!(world.reads(), [0, 1, 2]);
	assert_eq!(world.contents()[..5], [0, 0x3003, 0x4001, 0x5002, 0]);
}

#[test]
fn poison_outside_memory_ends_a_list_with_what_came_before_written() {
	let world = &World::new(&setup());
	let nowhere = 0xdead_0000_0000;
	world.set_list(&[0x3003, nowhere, 0x5003]);
	let put = || put_indirect(&world, &world, 0, 0, 3);
	assert_eq!(put(), Err(Refusal::Parameter));
	assert_eq!(world.contents()[..3], [0x3003, 0, 0]);
	// A worse entry after it is found before anything is written.
	world.set_list(&[0x7003, nowhere, nowhere | 1]);
	assert_eq!(put(), HARD);
	assert_eq!(world.contents()[..3], [0x3003, 0, 0]);
}

#[test]
fn pages_of_the_table_are_not_made_for_zeroes() {
	let world = &World::new(&setup());
	let last = 1 << <&World>::PAGE_SHIFT;
	let stuff = |ioba, tce, pages| stuff(&world, &world, ioba, tce, pages);
	assert_eq!(stuff((last - 2) << 12, Tce(0), 4), Ok(()));
	assert_eq!(put(&world, &world, last << 12, Tce(0)), Ok(()));
	assert_eq!(get(&world, last << 12), Ok(Tce(0)));
	let missing = Refusal::TooHard(TooHard::TablePage(1));
	assert_eq!(put(&world, &world, last << 12, Tce(4)), Err(missing));
	// Not even in the half that exists.
	assert_eq!(stuff((last - 2) << 12, Tce(4), 4), Err(missing));
	assert!(world.contents().iter().all(|&tce| tce == 0));
}

#[test]
fn poison_is_written_unchecked() {
	let world = &World::new(&setup());
	let poison = Tce(0xffff_ffff_ffff_fffc);
	assert_eq!(put(&world, &world, 0x1000, poison), Ok(()));
	assert_eq!(stuff(&world, &world, 0x2000, poison, 2), Ok(()));
	assert_eq!(world.contents()[..5], [0, poison.0, poison.0, poison.0, 0]);
	assert_eq!(get(&world, 0x3000), Ok(poison));
}

#[test]
fn permissions_in_h_stuff_tce_are_a_bad_parameter() {
	let world = &World::new(&setup());
	for low in 1..4 {
		let stuffed = stuff(&world, &world, 0, Tce(low), 1);
		assert_eq!(stuffed, Err(Refusal::Parameter));
	}
}

/// A table with a hardware table, which lacks its second array.
fn attached() -> Setup {
	let memory = Setup::default().memory[0];
	Setup {
		hardware: vec![model::Hardware {
			page_shift: 12,
			present: vec![true, false],
		}],
		regions: vec![
			model::Registered {
				user: model::USER,
				length: 0x8000,
				host: 1 << 40,
				page_shift: 16,
				apart: 0,
			},
			model::Registered {
				user: memory.user + 0x1_0000,
				length: 0x8000,
				host: 2 << 40,
				page_shift: 12,
				apart: 0,
			},
		],
		window: Window {
			page_shift: 12,
			offset: 0x800,
			size: 0x400,
		},
		present: vec![true, true],
		..Setup::default()
	}
}

const IOBA: u64 = 0x800 << 12;

#[test]
fn a_mapping_goes_to_the_hardware_and_back() {
	let world = &World::new(&attached());
	assert_eq!(put(&world, &world, IOBA + 0x1000, Tce(0x3002)), Ok(()));
	// What can be written can be read, too.
	let entry = |guest: u64| ((1 << 40) | guest | 3, model::USER + guest);
	assert_eq!(world.hardware(), [[(1, entry(0x3000))].into()]);
	assert_eq!(world.mapped(), [1, 0]);
	// It was nothing before, and even that may be cached.
	assert_eq!(world.forgotten(), [[(1, 1)]]);
	assert!(world.set_dirty().is_empty());

	let other = ((2 << 40) | 0x2000 | 1, model::USER + 0x1_2000);
	assert_eq!(put(&world, &world, IOBA + 0x1000, Tce(0x1_2001)), Ok(()));
	assert_eq!(world.hardware(), [[(1, other)].into()]);
	assert_eq!(world.mapped(), [0, 1]);
	assert_eq!(world.forgotten(), [[(1, 1)]]);
	assert_eq!(world.set_dirty(), [model::USER].into());

	// Once for all of them.
	assert_eq!(put(&world, &world, IOBA + 0x5000, Tce(0x3001)), Ok(()));
	assert_eq!(world.forgotten(), [[(5, 1)]]);
	assert_eq!(stuff(&world, &world, IOBA, Tce(0), 16), Ok(()));
	assert_eq!(world.hardware(), [[].into()]);
	assert_eq!(world.mapped(), [0, 0]);
	assert_eq!(world.forgotten(), [[(1, 5)]]);
	assert!(world.contents().iter().all(|&tce| tce == 0));
}

#[test]
fn what_the_hardware_cannot_have_changes_nothing() {
	let world = &World::new(&attached());
	let put = |index: u64, tce| put(&world, &world, IOBA + (index << 12), Tce(tce));
	assert_eq!(put(1, 0x3003), Ok(()));
	world.forgotten();
	let before = (world.contents(), world.hardware(), world.mapped());
	// Memory, but not registered; beyond the end of a region.
	assert_eq!(put(1, 0x2_0003), HARD);
	assert_eq!(put(1, 0x8003), HARD);
	let level = TooHard::TableLevel {
		table: 0,
		index: 256,
	};
	assert_eq!(put(256, 0x3003), Err(level.into()));
	world.set_list(&[0x1003, 0x2003, 0x2_0003]);
	let indirect = |pages| put_indirect(&world, &world, IOBA, 0, pages);
	assert_eq!(indirect(3), HARD);
	world.unregister(1);
	world.set_list(&[0x1003, 0x1_2003]);
	assert_eq!(indirect(2), HARD);
	let mapped = world.hardware();
	assert_eq!((world.contents(), mapped), (before.0, before.1));
	assert_eq!(world.forgotten(), [[]]);
	// Nothing is mapped where there is no array.
	assert_eq!(put(256, 0), Ok(()));
	assert_eq!(put(256, 0x5a5a_0000), Ok(()));
	assert_eq!(get(&world, IOBA + (256 << 12)), Ok(Tce(0x5a5a_0000)));
}

#[test]
fn a_page_ends_with_its_slot_or_goes_on_in_the_next() {
	const SHIFT: u32 = 16;
	let slot = |start, length, user| Range {
		start,
		length,
		user: model::USER + user,
	};
	let setup = Setup {
		window: Window {
			page_shift: SHIFT,
			..attached().window
		},
		// The first two pages, in another order in userspace; then half a page, and in
		// userspace the memory goes on.
		memory: vec![
			slot(0, 0x8000, 0x10_0000),
			slot(0x8000, 0x1_8000, 0x8_0000),
			slot(0x2_0000, 0x8000, 0),
			slot(0x3_0000, 0x8800, 0x20_0000),
		],
		regions: vec![model::Registered {
			user: model::USER,
			length: 1 << 24,
			host: 1 << 40,
			page_shift: 12,
			apart: 0,
		}],
		..attached()
	};
	let world = &World::new(&setup);
	let ioba = 0x800 << SHIFT;
	let put = |page: u64, tce| put(&world, &world, ioba + (page << SHIFT), Tce(tce));
	assert_eq!(put(0, 0x3), Ok(()));
	assert_eq!(put(1, 0x1_0003), Ok(()));
	let mapped = world.hardware();
	let users: Vec<_> = mapped[0]
		.values()
		.map(|(_, user)| user - model::USER)
		.collect();
	let expected: Vec<_> = (0..8)
		.map(|part| 0x10_0000 + (part << 12))
		.chain((0..24).map(|part| 0x8_0000 + (part << 12)))
		.collect();
	assert_eq!(users, expected);
	let before = (world.contents(), world.mapped());
	// Its slot ends at a hardware page, or within one.
	assert_eq!(put(0, 0x2_0003), HARD);
	assert_eq!(put(1, 0x3_0003), HARD);
	assert_eq!((world.contents(), world.mapped()), before);
	assert_eq!(world.hardware(), mapped);
}

#[test]
fn more_regions_than_are_counted_together() {
	let mut setup = attached();
	setup.regions = (0..32)
		.map(|number| model::Registered {
			user: model::USER + number * 0x1000,
			length: 0x1000,
			host: (number + 1) << 40,
			page_shift: 12,
			apart: 0,
		})
		.collect();
	let world = &World::new(&setup);
	for number in 0..32 {
		let ioba = IOBA + (number << 12);
		assert_eq!(put(&world, &world, ioba, Tce(number << 12 | 3)), Ok(()));
	}
	world.forgotten();
	// To unmap them takes more than one telling.
	assert_eq!(stuff(&world, &world, IOBA, Tce(0), 32), Ok(()));
	assert_eq!(world.mapped(), [0; 32]);
	let forgotten = world.forgotten().concat();
	let covered: u64 = forgotten.iter().map(|(_, count)| count).sum();
	assert!(forgotten.len() > 1 && covered == 32, "{forgotten:?}");
	// To map them is too much.
	let entries: Vec<_> = (0..32).map(|number| number << 12 | 3).collect();
	world.set_list(&entries);
	let indirect = put_indirect(&world, &world, IOBA, 0, 32);
	assert_eq!(indirect, Err(TooHard::CFallback.into()));
	assert_eq!(world.mapped(), [0; 32]);
}

/// A full path with 512 pages in one region, and a hardware table of 512 entries.
fn long() -> Setup {
	let memory = Setup::default().memory[0];
	let mut setup = attached();
	setup.full = true;
	setup.hardware[0].present = vec![true; 4];
	setup.regions = vec![model::Registered {
		user: memory.user,
		length: 512 << 12,
		host: 1 << 40,
		page_shift: 12,
		apart: 0,
	}];
	setup
}

#[test]
fn a_long_list_is_looked_at_and_written_in_steps() {
	let world = &World::new(&long());
	let mut entries: Vec<_> = (0..512).map(|page| page << 12 | 3).collect();
	let call = |entries: &[u64]| Call::Indirect {
		ioba: IOBA,
		list: 0,
		pages: 512,
		entries: entries.to_vec(),
	};
	// The last step of those that look at the entries finds a page that is not registered.
	entries[511] = 512 << 12 | 3;
	world.set_list(&entries);
	assert_eq!(world.perform(&call(&entries)).0, Code::TOO_HARD);
	assert_eq!(world.attempts(), 4);
	assert_eq!(
		(world.hardware(), world.mapped()),
		(vec![[].into()], vec![0])
	);
	assert!(world.contents().iter().all(|&tce| tce == 0));
	assert_eq!(world.forgotten(), [[]]);

	entries[511] = 3;
	world.set_list(&entries);
	world.spoil_list();
	let reads = world.reads().len();
	assert_eq!(world.perform(&call(&entries)), (Code::SUCCESS, None));
	assert_eq!(world.attempts(), 4 + 8);
	// Each entry of the list once, however many steps there are.
	assert_eq!(world.reads()[reads..], (0..512).collect::<Vec<_>>());
	assert_eq!(world.contents()[..512], entries);
	assert_eq!(
		(world.hardware()[0].len(), world.mapped()),
		(512, vec![512])
	);
	let step = MAX_WRITES as u64;
	let steps = |first: u64| (0..4).map(move |n| (first + n * step, step));
	assert_eq!(world.forgotten(), [steps(0).collect::<Vec<_>>()]);

	let stuff = Call::Stuff {
		ioba: IOBA,
		value: 0,
		pages: 512,
	};
	assert_eq!(world.perform(&stuff), (Code::SUCCESS, None));
	assert_eq!(world.attempts(), 4 + 8 + 4);
	assert_eq!((world.hardware()[0].len(), world.mapped()), (0, vec![0]));
	assert_eq!(world.forgotten(), [steps(0).collect::<Vec<_>>()]);
}

#[test]
fn poison_ends_a_long_list_in_any_step() {
	for at in [0, 1, 127, 128, 129, 300, 511] {
		let world = &World::new(&long());
		let mut entries: Vec<_> = (0..512).map(|page| page << 12 | 3).collect();
		entries[at] = 0xdead_0000_0000;
		world.set_list(&entries);
		let call = Call::Indirect {
			ioba: IOBA,
			list: 0,
			pages: 512,
			entries: entries.clone(),
		};
		assert_eq!(world.perform(&call), (Code::PARAMETER, None));
		assert_eq!(world.contents()[..at], entries[..at]);
		assert!(world.contents()[at..].iter().all(|&tce| tce == 0));
		assert_eq!(
			(world.hardware()[0].len(), world.mapped()),
			(at, vec![at as u64])
		);
	}
}

#[test]
fn a_fast_handler_writes_one_step_or_nothing() {
	let setup = Setup {
		full: false,
		..long()
	};
	let world = &World::new(&setup);
	let entries: Vec<_> = (0..512).map(|page| page << 12 | 3).collect();
	world.set_list(&entries);
	let most = MAX_WRITES as u64;
	let hard = Err(TooHard::CFallback.into());
	assert_eq!(put_indirect(&world, &world, IOBA, 0, most + 1), hard);
	assert_eq!(world.hardware(), [[].into()]);
	assert_eq!(put_indirect(&world, &world, IOBA, 0, most), Ok(()));
	assert_eq!(world.hardware()[0].len(), MAX_WRITES);
	assert_eq!(stuff(&world, &world, IOBA, Tce(0), most + 1), hard);
	assert_eq!(stuff(&world, &world, IOBA, Tce(0), most), Ok(()));
	assert_eq!(world.hardware(), [[].into()]);
}

#[test]
fn more_tables_than_are_written_here() {
	let mut setup = attached();
	setup.hardware = vec![setup.hardware[0].clone(); MAX_ATTACHED + 1];
	let world = &World::new(&setup);
	let hard = Err(TooHard::CFallback.into());
	assert_eq!(put(&world, &world, IOBA, Tce(0x3003)), hard);
	assert_eq!(get(&world, IOBA), Ok(Tce(0)));
}

/// Threads that write the same few entries, as vcpus do, each time of one of these
/// tables.
fn write_at_once(worlds: &[World]) {
	let rounds = if cfg!(miri) { 20 } else { 20_000 };
	for world in worlds {
		world.set_list(match world.window().page_shift {
			12 => &[0x1003, 0x2003, 0x1_3003],
			_ => &[0x3, 0x1_0003, 0x1_0003],
		});
	}
	std::thread::scope(|scope| {
		for vcpu in 0..4_u64 {
			scope.spawn(move || {
				let mut random = vcpu + 1;
				for _ in 0..rounds {
					random = random
						.wrapping_mul(6364136223846793005)
						.wrapping_add(1442695040888963407);
					let world = &worlds[(random >> 45) as usize % worlds.len()];
					let Window {
						page_shift, offset, ..
					} = world.window();
					let (index, page) = (random >> 62, random >> 40 & 7);
					let region = random >> 39 & 1;
					let ioba = (offset + index) << page_shift;
					let tce = match page_shift {
						12 => region << 16 | page << 12 | 3,
						_ => region << 16 | 3,
					};
					let result = match random >> 50 & 7 {
						0 | 1 => stuff(&world, &world, ioba, Tce(0), 3),
						2 => put(&world, &world, ioba, Tce(0)),
						3 | 4 => put_indirect(&world, &world, ioba, 0, 3),
						_ => put(&world, &world, ioba, Tce(tce)),
					};
					assert_eq!(result, Ok(()));
				}
			});
		}
	});
}

/// Checks that each hardware entry is one that was written, and that the counts are those of
/// the entries.
fn assert_whole(world: &World) {
	let mut mapped = vec![0; world.mapped().len()];
	for (tce, user) in world.hardware().iter().flat_map(model::Entries::values) {
		let (region, at) = (tce >> 40, tce & 0xf_ffff_f000);
		let region_user = model::USER + ((region - 1) << 16);
		assert_eq!((*user, tce & 0xfff), (region_user + (at & 0xffff), 3));
		mapped[region as usize - 1] += 1;
	}
	assert_eq!(world.mapped(), mapped);
}

/// If one hardware entry stands for one guest entry, the guest's table agrees with it, too.
#[test]
fn vcpus_at_the_same_entries_leave_them_whole() {
	let worlds = [World::new(&attached())];
	write_at_once(&worlds);
	let [world] = &worlds;
	assert_whole(world);
	let contents = world.contents();
	for index in 0..7 {
		let own = contents[index as usize];
		let user = (own != 0).then(|| model::USER + (own & !3));
		let entry = world.hardware()[0].get(&index).map(|(_, user)| *user);
		assert_eq!(entry, user, "entry {index}");
	}
}

/// Tables of two page sizes, to which the same hardware tables are attached: a
/// guest page of one is many entries there, any of which the other may be writing.
#[test]
fn tables_of_several_page_sizes_leave_shared_entries_whole() {
	let mut setup = attached();
	setup.hardware.push(setup.hardware[0].clone());
	setup.regions.iter_mut().for_each(|region| {
		(region.length, region.page_shift) = (1 << 16, 16);
	});
	let small = World::new(&setup);
	let large = small.sibling(&Setup {
		window: Window {
			page_shift: 16,
			offset: setup.window.offset >> 4,
			size: setup.window.size >> 4,
		},
		..setup
	});
	let worlds = [small, large];
	write_at_once(&worlds);
	assert_whole(&worlds[0]);
}

/// The regions that an hcall's pages were found in are those that its entries count
/// for, even if they can't be found again.
#[test]
fn what_was_reserved_is_what_is_written() {
	let world = World::new(&attached());
	let forgetful = &Forgetful {
		world: &world,
		left: Cell::new(2),
	};
	world.set_list(&[0x3003, 0x1_2003]);
	let written = put_indirect(&&world, forgetful, IOBA, 0, 2);
	assert_eq!(written, Ok(()));
	assert_eq!(world.hardware()[0].len(), 2);
	assert_eq!(world.mapped(), [1, 1]);
}

/// A guest of which some regions can be looked for, and no more.
struct Forgetful<'w> {
	world: &'w World,
	left: Cell<u32>,
}

impl<'w> GuestMemory for Forgetful<'w> {
	type List<'a>
		= &'a World
	where
		Self: 'a;

	type Region = model::RegionOf<'w>;

	fn memory(&self, address: u64) -> Option<Range> {
		self.world.memory(address)
	}

	fn list(&self, address: u64) -> Option<&World> {
		self.world.list(address)
	}

	fn region(&self, user: u64, length: u64) -> Result<Self::Region, Refusal> {
		let left = self.left.get().checked_sub(1).ok_or(TooHard::CFallback)?;
		self.left.set(left);
		self.world.region(user, length)
	}
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 512 }))]

	/// Any calls on any table: what the model of C answers, and the same entries
	/// afterwards; or "too hard", and nothing has changed.
	#[test]
	fn fast_is_c_or_too_hard(
		setup in model::setups(),
		calls in proptest::collection::vec(model::calls(), 1..40),
	) {
		let world = &World::new(&setup);
		let mut c = model::C::new(&setup);
		for call in &calls {
			let call = call.within(&setup);
			world.prepare(&call);
			let state = || (world.contents(), world.hardware(), world.mapped(), world.set_dirty());
			let before = state();
			let fast = world.perform(&call);
			if fast.0 == Code::TOO_HARD {
				prop_assert_eq!(state(), before, "changed by {:?}", call);
				prop_assert!(world.forgotten().concat().is_empty());
				prop_assert!(c.may_be_hard(&call, world), "why is this hard: {:?}", call);
				// As in the kernel, where C then does it and userspace and other
				// vcpus see what it did.
				c.perform(&call);
				c.stale();
				world.follow(&c);
			} else {
				prop_assert_eq!(fast, c.perform(&call), "{:?}", call);
				agree(world, &mut c, &call, &setup)?;
			}
		}
	}

	/// Runs of entries end where a slot, a region, a piece of the host or an array ends: what is
	/// looked up once for several entries is what each of them would have found.
	#[test]
	fn runs_end_where_memory_does(
		setup in model::broken_memory(),
		calls in proptest::collection::vec(model::runs(), 1..24),
	) {
		let setup = Setup { full: true, ..setup };
		let world = &World::new(&setup);
		let mut c = model::C::new(&setup);
		for call in &calls {
			let call = call.within(&setup);
			world.prepare(&call);
			let before = (world.contents(), world.hardware(), world.mapped());
			let code = world.perform(&call);
			prop_assert_eq!(code, c.perform(&call), "{:?}", call);
			if code.0 == Code::TOO_HARD {
				let after = (world.contents(), world.hardware(), world.mapped());
				prop_assert_eq!(after, before, "changed by {:?}", call);
			}
			agree(world, &mut c, &call, &setup)?;
		}
	}

	/// An instance that can make pages and read every list, as the full path's
	/// does, answers as C does without exception.
	#[test]
	fn full_is_c(
		setup in model::setups(),
		calls in proptest::collection::vec(model::calls(), 1..40),
	) {
		let setup = Setup { full: true, ..setup };
		let world = &World::new(&setup);
		let mut c = model::C::new(&setup);
		for call in &calls {
			let call = call.within(&setup);
			if setup.all_parts() > setup.most_writes() {
				continue;
			}
			world.prepare(&call);
			prop_assert_eq!(world.perform(&call), c.perform(&call), "{:?}", call);
			agree(world, &mut c, &call, &setup)?;
		}
		// And has made the same pages.
		prop_assert_eq!(world.present(), c.present);
	}
}

/// The world is as C would have made it, and the hardware was told so: once a table and step.
fn agree(world: &World, c: &mut model::C, call: &Call, setup: &Setup) -> Result<(), TestCaseError> {
	prop_assert_eq!(world.contents(), c.contents(), "after {:?}", call);
	prop_assert_eq!(world.hardware(), c.hardware.clone(), "after {:?}", call);
	prop_assert_eq!(world.mapped(), c.mapped(), "after {:?}", call);
	prop_assert_eq!(world.set_dirty(), c.written.clone(), "after {:?}", call);
	let steps = match setup.full {
		true => call.steps(setup),
		false => 1,
	};
	for (forgotten, stale) in world.forgotten().iter().zip(c.stale()) {
		prop_assert!(forgotten.len() as u64 <= steps, "{:?}", forgotten);
		let most = (MAX_WRITES as u64).max(setup.all_parts());
		let is_step = |(_, count): &(u64, u64)| *count <= most;
		prop_assert!(forgotten.iter().all(is_step), "{:?}", forgotten);
		let told = |index: &u64| {
			let mut ranges = forgotten.iter();
			ranges.any(|(first, count)| index.wrapping_sub(*first) < *count)
		};
		prop_assert!(stale.iter().all(told), "{:?} of {:?}", forgotten, stale);
		// And of nothing if nothing was mapped.
		prop_assert!(!stale.is_empty() || forgotten.is_empty());
	}
	Ok(())
}

/// The property of runs would hold of runs that are all refused, or that never end.
#[test]
fn generated_runs_are_written() {
	use proptest::strategy::ValueTree;
	use proptest::test_runner::TestRunner;

	let mut runner = TestRunner::deterministic();
	let (mut written, mut refused, mut broken) = (0, 0, 0);
	for _ in 0..300 {
		let setup = model::broken_memory()
			.new_tree(&mut runner)
			.unwrap()
			.current();
		let world = &World::new(&Setup {
			full: true,
			..setup.clone()
		});
		for _ in 0..8 {
			let call = model::runs().new_tree(&mut runner).unwrap().current();
			let call = call.within(&setup);
			world.prepare(&call);
			match (world.perform(&call).0, &call) {
				(Code::SUCCESS, Call::Indirect { .. }) => written += 1,
				(Code::TOO_HARD, Call::Indirect { .. }) => refused += 1,
				_ => {}
			}
			// Entries whose pages are next to each other in the guest and not in the host.
			let hardware = world.hardware();
			let entries: Vec<_> = hardware[0].values().collect();
			let apart = |pair: &[&(u64, u64)]| {
				pair[1].1 - pair[0].1 == 0x1000 && pair[1].0 & !3 != (pair[0].0 & !3) + 0x1000
			};
			broken += entries
				.windows(2)
				.filter(|pair| pair[1].1 > pair[0].1 && apart(pair))
				.count();
		}
	}
	assert!(
		written > 200 && refused > 50 && broken > 200,
		"{written}, {refused}, {broken}"
	);
}

/// The properties above would hold of calls that are all refused.
#[test]
fn generated_calls_have_all_outcomes() {
	use proptest::strategy::ValueTree;
	use proptest::test_runner::TestRunner;
	use std::collections::BTreeMap;

	let mut runner = TestRunner::deterministic();
	let mut outcomes = BTreeMap::new();
	for _ in 0..3000 {
		let setup = model::setups().new_tree(&mut runner).unwrap().current();
		let world = &World::new(&setup);
		for _ in 0..4 {
			let call = model::calls().new_tree(&mut runner).unwrap().current();
			let call = call.within(&setup);
			world.prepare(&call);
			let code = world.perform(&call).0;
			*outcomes.entry((call.name(), code.0)).or_insert(0) += 1;
		}
	}
	for name in ["get", "put", "stuff", "indirect"] {
		for code in [Code::SUCCESS, Code::PARAMETER, Code::TOO_HARD] {
			let seen = outcomes.get(&(name, code.0)).copied().unwrap_or(0);
			let least = if name == "get" && code == Code::TOO_HARD {
				0
			} else {
				25
			};
			assert!(seen >= least, "{name}, {code:?}: {seen} of {outcomes:?}");
		}
	}
}

const _: () = assert!(1 << <&World>::PAGE_SHIFT >= MAX_ENTRIES);
