// SPDX-License-Identifier: GPL-2.0-only
//! Any world, and any hcall.

use proptest::prelude::*;

use super::*;

/// Any table.
pub fn setups() -> impl Strategy<Value = Setup> {
	let shift = prop_oneof![
		6 => Just(12_u32),
		3 => Just(16),
		1 => Just(21),
		1 => Just(24),
		1 => Just(34),
		1 => 12..=34_u32
	];
	let size = prop_oneof![
		1..8_u64,
		Just(511),
		Just(512),
		Just(513),
		1000..1100_u64,
		1..2000_u64
	];
	let table = (
		prop_oneof![3 => Just(0_u32), 1 => Just(1), 1 => Just(4)],
		prop_oneof![
			Just(vec![true; 125]),
			proptest::collection::vec(any::<bool>(), 125)
		],
	);
	let hardware = prop_oneof![
		3 => Just(vec![]),
		3 => proptest::collection::vec(table.clone(), 1),
		1 => proptest::collection::vec(table, 2..4),
	];
	let memory = prop_oneof![
		3 => Just(vec![(0, 1 << 24)]),
		1 => Just(vec![(0, 1 << 16), (1 << 16, 1 << 16), (1 << 34, 1 << 34)]),
		1 => Just(vec![(0, 1 << 20), (1 << 20, 7 << 20), (8 << 20, 8 << 20), (1 << 24, 1 << 12)]),
		1 => Just(vec![(1 << 20, 1 << 20), (u64::MAX - 0xffff, 0x1_0000)]),
		1 => Just(vec![]),
	];
	(
		shift,
		prop_oneof![Just(0_u64), 0..0x1_0000_u64, any::<u64>()],
		size,
		proptest::collection::vec(any::<bool>(), 4),
		// How much smaller the pages of the hardware tables are than those of the guest's
		// table, and which of their arrays exist.
		hardware,
		memory,
		// How much of each slot is registered, in sixteenths, and how well it lies.
		proptest::collection::vec(
			(
				prop_oneof![Just(16_u64), Just(8), 0..17_u64],
				prop_oneof![3 => Just(34_u32), 2 => 12..25_u32],
				0..2_u64,
			),
			4,
		),
		// Where they are in userspace: apart, or one after the other.
		prop_oneof![Just(1_u64), Just(2)],
		prop_oneof![Just(u64::MAX), Just(0_u64), Just(1 << 15)],
	)
		.prop_map(
			|(
				page_shift,
				offset,
				size,
				mut present,
				hardware,
				memory,
				registered,
				apart,
				readable,
			)| {
				// What KVM creates ends within the address space.
				let most = (u64::MAX >> page_shift) - size;
				let window = Window {
					page_shift,
					offset: offset % (most + 1),
					size,
				};
				present.truncate(window.size.div_ceil(PAGE) as usize);
				let memory = memory.into_iter().map(|(start, length): (u64, u64)| Range {
					start,
					length,
					user: USER.wrapping_add(start.wrapping_mul(apart)),
				});
				let memory: Vec<_> = memory.collect();
				let regions = memory.iter().zip(registered).enumerate();
				let regions =
					regions.map(
						|(number, (slot, (sixteenths, page_shift, apart)))| Registered {
							user: slot.user,
							length: slot.length / 16 * sixteenths,
							host: (number as u64 + 1) << 40,
							page_shift,
							apart,
						},
					);
				let hardware = hardware.into_iter().map(|(less, present)| Hardware {
					page_shift: (page_shift - less.min(page_shift - 12)),
					present,
				});
				Setup {
					window,
					present,
					hardware: hardware.collect(),
					regions: regions.collect(),
					memory,
					readable,
					full: false,
				}
			},
		)
}

fn tces() -> impl Strategy<Value = u64> {
	prop_oneof![
		4 => (0..16_u64, 0..4_u64).prop_map(|(page, low)| page << 12 | low),
		2 => (0..4_u64, 0..4_u64).prop_map(|(page, low)| page << 24 | low),
		1 => (0..4_u64).prop_map(|low| 1 << 34 | low),
		1 => (0..4_u64).prop_map(|low| !0xffff | low),
		2 => Just(0),
		1 => any::<u64>(),
	]
}

/// Any hcall, most of them reasonable.
pub fn calls() -> impl Strategy<Value = Call> {
	let ioba = || {
		prop_oneof![
			3 => (0..2000_u64).prop_map(|page| page << 12),
			6 => (2..12_u64).prop_map(|page| page << 12),
			1 => (0..2000_u64, 1..0x1000_u64).prop_map(|(page, low)| page << 12 | low),
			1 => any::<u64>(),
		]
	};
	let pages = || {
		prop_oneof![
			4 => 0..6_u64,
			2 => 0..600_u64,
			2 => prop_oneof![Just(511_u64), Just(512), Just(513), Just(1000)],
			1 => prop_oneof![Just(u64::MAX), Just(1 << 63), Just(u64::MAX - 3), any::<u64>()],
		]
	};
	let list = prop_oneof![
		6 => (0..32_u64).prop_map(|page| page << 12),
		1 => 0..0x2_0000_u64,
		1 => (0..0x10_0000_u64).prop_map(|page| page << 12),
		1 => any::<u64>(),
	];
	// Long lists of good entries, with something else among them now and then.
	let entries = (
		proptest::collection::vec((0..16_u64).prop_map(|page| page << 12 | 3), 512),
		proptest::collection::vec((0..512_usize, tces()), 0..4),
		prop_oneof![2 => Just(vec![]), 1 => proptest::collection::vec(tces(), 0..6)],
	)
		.prop_map(|(mut entries, others, head)| {
			for (at, tce) in others {
				entries[at] = tce;
			}
			entries[..head.len()].copy_from_slice(&head);
			entries
		});
	prop_oneof![
		ioba().prop_map(|ioba| Call::Get { ioba }),
		(ioba(), tces()).prop_map(|(ioba, tce)| Call::Put { ioba, tce }),
		(
			ioba(),
			prop_oneof![3 => Just(0_u64), 1 => Just(0x5a_5000), 1 => any::<u64>()],
			pages()
		)
			.prop_map(|(ioba, value, pages)| Call::Stuff { ioba, value, pages }),
		(ioba(), list, pages(), entries).prop_map(|(ioba, list, pages, entries)| Call::Indirect {
			ioba,
			list,
			pages,
			entries
		}),
	]
}

/// Tables and memory that runs of entries meet the ends of: small slots, one after the other in
/// the guest and now and then in userspace, regions that end elsewhere, and pieces of the host of
/// a few pages.
pub fn broken_memory() -> impl Strategy<Value = Setup> {
	let hole = || prop_oneof![6 => Just(0_u64), 1 => Just(1)];
	let slots = proptest::collection::vec((4..32_u64, hole(), 0..2_u64), 2..6);
	let regions = proptest::collection::vec((8..60_u64, 12..17_u32, 0..2_u64), 2..6);
	let hardware = proptest::collection::vec(prop_oneof![5 => Just(12_u32), 1 => Just(16)], 1..4);
	let page_shift = prop_oneof![3 => Just(12_u32), 1 => Just(16)];
	(page_shift, slots, regions, hardware, 0..2000_u64).prop_map(
		|(page_shift, slots, regions, hardware, offset)| {
			let (mut start, mut user) = (0, USER);
			let memory = slots.into_iter().map(|(pages, hole, user_hole)| {
				let slot = Range {
					start: start + (hole << 12),
					length: pages << 12,
					user: user + (user_hole << 12),
				};
				(start, user) = (slot.start + slot.length, slot.user + slot.length);
				slot
			});
			let memory = memory.collect();
			let mut registered = USER;
			let regions = (1..)
				.zip(regions)
				.map(|(number, (pages, page_shift, apart))| {
					let region = Registered {
						user: registered,
						length: pages << 12,
						host: number << 40,
						page_shift,
						apart,
					};
					registered += region.length;
					region
				});
			let size = 700;
			Setup {
				window: Window {
					page_shift,
					offset,
					size,
				},
				present: vec![true; 2],
				hardware: hardware
					.into_iter()
					.map(|shift| Hardware {
						page_shift: shift.min(page_shift),
						present: vec![true; 125],
					})
					.collect(),
				regions: regions.collect(),
				memory,
				..Setup::default()
			}
		},
	)
}

/// Hcalls with consecutive pages, most of them in memory.
pub fn runs() -> impl Strategy<Value = Call> {
	let ioba = || prop_oneof![4 => 4..24_u64, 1 => 500..520_u64].prop_map(|page| page << 12);
	let permissions = prop_oneof![3 => Just(3_u64), 1 => 0..4_u64];
	let parts = (0..30_u64, 0..3_u64, permissions, 1..16_usize);
	let entries = proptest::collection::vec(parts, 1..3).prop_map(|parts| {
		let mut entries = vec![];
		for (page, step, permission, count) in parts {
			// Upwards, downwards, or the same page.
			let page =
				|n: usize| page.wrapping_add((step.wrapping_sub(1)).wrapping_mul(n as u64)) % 64;
			entries.extend((0..count).map(|n| page(n) << 12 | permission));
		}
		entries
	});
	prop_oneof![
		3 => (ioba(), entries).prop_map(|(ioba, entries)| Call::Indirect {
			ioba,
			list: 0,
			pages: entries.len() as u64,
			entries,
		}),
		2 => (ioba(), 1..40_u64, prop_oneof![4 => Just(0_u64), 1 => Just(0x5a_5000)])
			.prop_map(|(ioba, pages, value)| Call::Stuff { ioba, value, pages }),
		1 => (ioba(), 0..40_u64).prop_map(|(ioba, page)| Call::Put { ioba, tce: page << 12 | 3 }),
	]
}
