// SPDX-License-Identifier: GPL-2.0-only
//! Tests of the TCE hcalls: the C path against the fast handlers.
//!
//! Two VMs alike, one for each path, do the same random hcalls on the same tables, and
//! have to get the same codes, the same r4 and the same entries. What is random is
//! chosen so that most hcalls do something and every check of the handlers fails now
//! and then. Meanwhile userspace does to both VMs what a handler must not miss: it
//! replaces the page that the lists are in, takes memory slots away and gives them
//! back, maps tables before or after their pages exist.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cases::case;
use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, Command, GuestMode, Job, map};

use vmm::abi::SpaprTce64;
use vmm::host;
use vmm::kvm::{Memory, Slot, Window};
use vmm::machine::{Config, Failure, Machine};

/// Hcalls that the guest does in one go.
pub const BATCH: u64 = 256;
/// Batches on the same tables.
const ROUND: u64 = 8;
/// Longer than a batch takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);

pub const TCES: [Number; 4] = [
	Number::GET_TCE,
	Number::PUT_TCE,
	Number::PUT_TCE_INDIRECT,
	Number::STUFF_TCE,
];

/// Host pages, which tables and memory slots are made of.
pub const PAGE: u64 = 1 << 16;
/// Entries of such a page.
pub const PAGE_ENTRIES: u64 = PAGE / 8;
/// Size of a list.
pub const LIST: u64 = 4096;

/// More guest memory: slot, address, size. The last comes and goes.
const SLOTS: [(u32, u64, u64); 3] = [
	(1, 1 << 34, 1 << 20),
	(2, 0x4000_0000, PAGE),
	(3, 0x5000_0000, PAGE),
];

/// A window: LIOBN, page shift, offset and size.
pub const fn window(liobn: u64, page_shift: u32, offset: u64, size: u64) -> SpaprTce64 {
	SpaprTce64 {
		liobn,
		page_shift,
		flags: 0,
		offset,
		size,
	}
}

/// The windows that hcalls go to.
const WINDOWS: [SpaprTce64; 8] = [
	window(0x8000_0000, 12, 0, 0x3000),
	// As QEMU places the 64-bit window; more than 4 GiB.
	window(0x8000_0001, 16, 1 << 43, 0x1_1000),
	window(0x8000_0100, 24, 0, 300),
	window(0x8000_0101, 12, 0x1234, PAGE_ENTRIES + 10),
	window(0x7100_0000, 16, 3, 20),
	window(0x8000_0200, 34, 1, 600),
	window(0x8000_0201, 21, 0, 1),
	window(0xffff_ffff_0000_0000, 12, 0x10_0000, 2000),
];

/// More windows, to have 64 in all.
const OTHERS: u64 = 56;
/// Their LIOBNs.
const fn other(index: u64) -> u64 {
	0x9000_0000 | index << 8
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
	pub fn next(&mut self) -> u64 {
		self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
		let mut z = self.0;
		z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
		z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
		z ^ z >> 31
	}

	pub fn below(&mut self, n: u64) -> u64 {
		self.next() % n
	}

	/// True in `percent` of all cases.
	pub fn chance(&mut self, percent: u64) -> bool {
		self.below(100) < percent
	}

	pub fn of<T: Copy>(&mut self, choice: &[T]) -> T {
		choice[self.below(choice.len() as u64) as usize]
	}

	/// An entry for a window with that page size.
	fn tce(&mut self, page_shift: u32) -> u64 {
		let low = if self.chance(75) { 3 } else { self.below(4) };
		let page = 1 << page_shift;
		match self.below(100) {
			// A page of guest memory, or just behind its end.
			0..70 => {
				let behind = u64::from(self.chance(3));
				(self.below((map::RAM / page).max(1) + behind) * page) | low
			}
			// In another slot, aligned for all page sizes up to some.
			70..78 => self.of(&SLOTS).1 | low,
			78..81 => (self.of(&SLOTS).1 + self.below(40) * 4096) | low,
			// Behind a slot.
			81..84 => {
				let (_, start, size) = self.of(&SLOTS);
				(start + size) | low
			}
			// Misaligned for larger pages, or for all.
			84..88 => (self.below(map::RAM >> 12) << 12) | low,
			88..90 => self.below(map::RAM) | low,
			// Poison.
			90..93 => self.next() & !3,
			93..97 => 0,
			97..99 => self.next(),
			_ => self.of(&[u64::MAX, 1 << 63, 3 << 62 | 3, map::RAM | 1, 4, 1 << 60 | 2]),
		}
	}

	/// How many entries, for a window with that many.
	pub fn pages(&mut self, size: u64) -> u64 {
		match self.below(100) {
			0..55 => 1 + self.below(4),
			55..75 => 1 + self.below(64),
			75..80 => 0,
			80..86 => self.below(600),
			86..93 => self.of(&[511, 512, 513]),
			93..95 => self.of(&[size - 1, size, size + 1]),
			_ => self.of(&[
				u64::MAX,
				u64::MAX - 3,
				1 << 63,
				(1 << 52) + 1,
				1 << 32 | 1,
				0x1_0000_0000,
			]),
		}
	}

	fn ioba(&mut self, window: &SpaprTce64) -> u64 {
		let size = window.size;
		let index = match self.below(100) {
			0..60 => self.below(size.min(32)),
			// Around the boundary of two pages of the table.
			60..75 => (PAGE_ENTRIES - 300 + self.below(310)) % size,
			75..88 => self.below(size),
			88..94 => size.saturating_sub(self.below(600)),
			94..96 => size + self.below(2),
			96..98 => 0_u64.wrapping_sub(1 + self.below(3)),
			_ => self.next(),
		};
		let ioba = window.offset.wrapping_add(index) << window.page_shift;
		match self.below(100) {
			0..95 => ioba,
			95..98 => ioba | 1 << self.below(u64::from(window.page_shift)),
			_ => self.next(),
		}
	}

	/// Where the list is: most often in the host page at `home`.
	fn list(&mut self, home: u64) -> u64 {
		let lists = map::TCE_LISTS_SIZE / LIST;
		match self.below(100) {
			0..88 => home + self.below(PAGE / LIST) * LIST,
			88..92 => map::TCE_LIST + self.below(lists) * LIST,
			92..95 => self.of(&SLOTS).1,
			95..97 => map::TCE_LIST | 1 << self.below(12),
			97..98 => map::RAM + self.below(16) * LIST,
			_ => self.next() & if self.chance(50) { !0xfff } else { !0 },
		}
	}

	fn call(&mut self, home: u64) -> Call {
		let window = &WINDOWS[self.below(WINDOWS.len() as u64) as usize];
		let liobn = match self.below(100) {
			0..92 => window.liobn,
			92..97 => other(self.below(OTHERS)),
			_ => self.of(&[0, u64::MAX, window.liobn | 1 << 40, other(OTHERS), self.0]),
		};
		let ioba = self.ioba(window);
		let (number, third, fourth) = match self.below(100) {
			0..25 => (Number::GET_TCE, self.next(), self.next()),
			25..55 => (Number::PUT_TCE, self.tce(window.page_shift), self.next()),
			55..80 => (
				Number::PUT_TCE_INDIRECT,
				self.list(home),
				self.pages(window.size),
			),
			_ => {
				let value = match self.below(10) {
					0..5 => 0,
					5..8 => self.next() & !3,
					_ => self.next(),
				};
				(Number::STUFF_TCE, value, self.pages(window.size))
			}
		};
		Call {
			number: number.0,
			args: [liobn, ioba, third, fourth],
			code: 0x5ca1_ab1e,
			r4: 0x5ca1_ab1e,
			..Call::default()
		}
	}

	/// A list for a window with that page size: mostly good to the end.
	fn entries(&mut self) -> [u64; 512] {
		let page_shift = self.of(&WINDOWS).page_shift;
		let good = self.chance(50);
		core::array::from_fn(|_| {
			if good || !self.chance(2) {
				let page = 1 << page_shift;
				(self.below((map::RAM / page).max(1)) * page) | 3
			} else {
				self.tce(page_shift)
			}
		})
	}
}

/// One of the two VMs.
// The order of the fields is the order in which they are dropped.
struct Side {
	path: Column,
	windows: Vec<Window>,
	others: Vec<Window>,
	_slots: [Slot; 2],
	/// The slot that comes and goes.
	coming_and_going: Option<Slot>,
	/// Its memory before: unchanged, so that an access to the wrong memory shows.
	gone: Vec<Arc<Memory>>,
	machine: Machine,
}

impl Side {
	fn new(guest: GuestMode, path: Column) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest,
			enable: &TCES,
			window: false,
		})?;
		let vm = machine.vm();
		let windows = WINDOWS.iter().map(|window| vm.create_window(window));
		let windows = windows.collect::<Result<_, _>>()?;
		let others = (0..OTHERS).map(|index| vm.create_window(&window(other(index), 12, 0, 64)));
		let others = others.collect::<Result<_, _>>()?;
		let [first, second, last] = SLOTS.map(|(slot, address, size)| {
			let memory = Memory::new(size as usize)?;
			machine.vm().add_memory(slot, address, memory)
		});
		Ok(Self {
			path,
			windows,
			others,
			_slots: [first?, second?],
			coming_and_going: Some(last?),
			gone: vec![],
			machine,
		})
	}

	/// Takes a memory slot away if there is one, and gives another if wanted.
	fn change_slots(&mut self, another: bool) -> Result<(), Failure> {
		if let Some(slot) = self.coming_and_going.take() {
			self.gone.push(slot.memory.clone());
		}
		if another {
			let (slot, address, size) = SLOTS[2];
			let memory = Memory::new(size as usize)?;
			let added = self.machine.vm().add_memory(slot, address, memory)?;
			self.coming_and_going = Some(added);
		}
		Ok(())
	}

	/// Does the calls on the side's path.
	fn perform(&mut self, calls: &[Call]) -> Result<(Vec<Call>, Vec<usize>), Failure> {
		host::choose(self.path).map_err(Failure::Unsupported)?;
		perform(&mut self.machine, calls)
	}
}

/// Has a guest do the calls. Returns them, with what came back, and which of them userspace
/// saw.
pub fn perform(machine: &mut Machine, calls: &[Call]) -> Result<(Vec<Call>, Vec<usize>), Failure> {
	let place = |index: usize| map::CALLS + (index * size_of::<Call>()) as u64;
	for (index, &call) in calls.iter().enumerate() {
		machine.memory().write(place(index), call);
	}
	let command = Command {
		job: Job::CALLS,
		iterations: calls.len() as u64,
		..Command::default()
	};
	// How many are done before the one that userspace sees: the guest counts them.
	let mut seen = vec![];
	let outcome = machine.perform(command, LIMIT, |call| seen.push(call))?;
	if outcome.rounds != calls.len() as u64 {
		let done = outcome.rounds;
		return Err(Failure::Wrong(format!(
			"{done} of {} calls done",
			calls.len()
		)));
	}
	let memory = machine.memory();
	let done: Vec<Call> = (0..calls.len())
		.map(|index| memory.read(place(index)))
		.collect();
	// They come in order, each with its own arguments.
	let mut to_userspace = vec![];
	let mut rest = done.iter().enumerate();
	for (number, args) in seen {
		let found = rest.find(|(_, call)| call.number == number.0 && call.args == args[..4]);
		match found {
			Some((index, _)) => to_userspace.push(index),
			None => {
				let number = number.0;
				return Err(Failure::Wrong(format!(
					"hcall {number:#x} {args:x?} reached userspace; the guest didn't do it"
				)));
			}
		}
	}
	Ok((done, to_userspace))
}

/// Hcalls that fast handlers have answered so far.
fn fast() -> Result<u64, Failure> {
	host::fast_total().ok_or_else(|| Failure::Wrong("no readable counters in debugfs".into()))
}

/// The same entries on both sides; `which` chooses the tables, and so those whose pages
/// all come into being.
fn compare(sides: &[Side; 2], which: impl Fn(usize) -> bool) -> Result<u64, Failure> {
	let mut filled = 0;
	let tables = |side: &Side, index: usize| match index.checked_sub(WINDOWS.len()) {
		None => side.windows[index].table(),
		Some(index) => side.others[index].table(),
	};
	for index in (0..WINDOWS.len() + OTHERS as usize).filter(|&index| which(index)) {
		let [c, fast] = [tables(&sides[0], index)?, tables(&sides[1], index)?];
		let different = c.iter().zip(&fast).position(|(c, fast)| c != fast);
		if let Some(entry) = different {
			return Err(Failure::Wrong(format!(
				"table {index}, entry {entry}: {:#x} instead of {:#x}",
				fast[entry], c[entry]
			)));
		}
		filled += c.iter().filter(|&&entry| entry != 0).count() as u64;
	}
	Ok(filled)
}

pub fn write_list(memory: &Memory, address: u64, entries: &[u64; 512]) {
	for (place, entry) in (address..).step_by(8).zip(entries) {
		memory.write(place, entry.to_be());
	}
}

/// What hcalls were answered, on C and on Rust alike.
#[derive(Default)]
pub struct Answers(BTreeMap<(u64, i64), u64>);

impl Answers {
	/// Adds an hcall as it came back from each, and whether userspace saw it. Fails if they
	/// are not alike.
	pub fn agree(
		&mut self,
		(c, c_seen): (Call, bool),
		(rust, rust_seen): (Call, bool),
		place: impl FnOnce() -> String,
	) -> Result<(), Failure> {
		if (c, c_seen) != (rust, rust_seen) {
			return Err(Failure::Wrong(format!(
				"{}: hcall {:#x} {:x?}: code {} r4 {:#x} userspace {rust_seen} instead of code {} \
				 r4 {:#x} userspace {c_seen}",
				place(),
				c.number,
				c.args,
				rust.code as i64,
				rust.r4,
				c.code as i64,
				c.r4,
			)));
		}
		*self.0.entry((c.number, c.code as i64)).or_insert(0) += 1;
		Ok(())
	}

	/// Of so many hcalls, each was answered with each of these codes, and not too seldom.
	pub fn cover(&self, done: u64, codes: &[Code]) -> Result<(), Failure> {
		for number in TCES {
			for code in codes {
				let times = self.0.get(&(number.0, code.0)).copied().unwrap_or(0);
				if times == 0 || times < done / 1000 {
					let (number, code) = (number.0, code.0);
					return Err(Failure::Wrong(format!(
						"too few calls of {number:#x} with code {code}: {:?}",
						self.0
					)));
				}
			}
		}
		Ok(())
	}
}

/// The same calls on both paths.
pub fn differential(guest: GuestMode, seed: u64, calls: u64) -> Result<String, Failure> {
	let mut random = Random(seed);
	let (mut done, mut served, mut filled, mut to_userspace) = (0, 0, 0, 0);
	let mut answers = Answers::default();
	while done < calls {
		let mut sides = [
			Side::new(guest, Column::C)?,
			Side::new(guest, Column::RustFast)?,
		];
		let mapped = random.next();
		let homes = [map::TCE_LIST, SLOTS[2].1];
		let mut home = random.of(&homes);
		for batch in 0..ROUND {
			if random.chance(25) {
				home = random.of(&homes);
			}
			if random.chance(25) {
				for side in &sides {
					let memory = side.machine.memory();
					memory.renew(map::TCE_LIST, PAGE as usize)?;
				}
			}
			if random.chance(50) {
				let another = random.chance(80);
				for side in &mut sides {
					side.change_slots(another)?;
				}
			}
			for list in 0..map::TCE_LISTS_SIZE / LIST {
				let entries = random.entries();
				for side in &sides {
					write_list(side.machine.memory(), map::TCE_LIST + list * LIST, &entries);
				}
			}
			for list in 0..PAGE / LIST {
				let entries = random.entries();
				for slot in sides
					.iter()
					.filter_map(|side| side.coming_and_going.as_ref())
				{
					write_list(&slot.memory, list * LIST, &entries);
				}
			}
			let calls: Vec<Call> = (0..BATCH).map(|_| random.call(home)).collect();
			let [c, rust] = &mut sides;
			let before = fast()?;
			let c = c.perform(&calls)?;
			let between = fast()?;
			let rust = rust.perform(&calls)?;
			served += fast()? - between;
			if between != before {
				return Err(Failure::Wrong("fast handlers on the C path".into()));
			}
			for (index, (c_call, rust_call)) in c.0.iter().zip(&rust.0).enumerate() {
				let [c_seen, rust_seen] = [&c, &rust].map(|side| side.1.contains(&index));
				answers.agree((*c_call, c_seen), (*rust_call, rust_seen), || {
					format!("batch {batch} from {done}")
				})?;
			}
			to_userspace += c.1.len();
			compare(&sides, |index| mapped >> index & 1 != 0)?;
			done += BATCH;
		}
		filled += compare(&sides, |_| true)?;
	}
	// Tests that nothing passes through would pass as well.
	if served < done / 2 || filled == 0 {
		return Err(Failure::Wrong(format!(
			"only {served} of {done} hcalls served fast, {filled} entries written"
		)));
	}
	answers.cover(done, &[Code::SUCCESS, Code::PARAMETER, Code::FUNCTION])?;
	Ok(format!(
		"{done} hcalls, {served} fast, {to_userspace} to userspace, {filled} entries at the end"
	))
}

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

/// A guest reads and writes a table while userspace closes it and opens another, and
/// looks at memory that comes free for entries which came too late.
pub fn closing_table(guest: GuestMode, path: Column) -> Result<String, Failure> {
	const CLOSES: u64 = 200;
	/// What closing may take: the vcpu has to leave the guest.
	const PROMPT: Duration = Duration::from_millis(100);
	/// An address that nothing else in this process or kernel would write.
	const ENTRY: u64 = 0x2b_5a5a_5a5a_5000;
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut machine = Machine::new(Config {
		guest,
		enable: &TCES,
		window: false,
	})?;
	let calls = (0..512_u64).map(|index| {
		let number = if index % 2 == 0 {
			Number::PUT_TCE
		} else {
			Number::GET_TCE
		};
		Call {
			number: number.0,
			args: [map::LIOBN, (index / 2) << map::TCE_SHIFT, ENTRY, 0],
			..Call::default()
		}
	});
	let calls: Vec<Call> = calls.collect();
	let windows = machine.vm().windows()?;
	let before = fast()?;
	let (hcalls, closed) = std::thread::scope(|scope| {
		let closer = scope.spawn(|| {
			let mut worst = Duration::ZERO;
			for close in 0..CLOSES {
				let window =
					windows.create(&window(map::LIOBN, map::TCE_SHIFT, 0, map::TCE_PAGES))?;
				std::thread::sleep(Duration::from_micros(100 + 37 * (close % 40)));
				let start = Instant::now();
				drop(window);
				worst = worst.max(start.elapsed());
				// Where its page may be now.
				let free = Memory::new(8 * PAGE as usize)?;
				for page in 0..8 {
					free.write(page * PAGE, 0_u64);
				}
				std::thread::sleep(Duration::from_micros(50));
				for address in (0..8 * PAGE).step_by(8) {
					if free.read::<u64>(address) == ENTRY {
						return Err(Failure::Wrong("a closed table was written to".into()));
					}
				}
			}
			Ok(worst)
		});
		let hcalls = (|| {
			let (mut answered, mut refused) = (0_u64, 0_u64);
			while !closer.is_finished() {
				let (done, _) = perform(&mut machine, &calls)?;
				for call in done {
					let found =
						call.number == Number::GET_TCE.0 && call.r4 != 0 && call.r4 != ENTRY;
					match Code(call.code as i64) {
						Code::SUCCESS if !found => answered += 1,
						Code::FUNCTION => refused += 1,
						code => {
							return Err(Failure::Wrong(format!(
								"hcall {:#x} {:x?} returned {} and r4 {:#x}",
								call.number, call.args, code.0, call.r4
							)));
						}
					}
				}
			}
			Ok((answered, refused))
		})();
		(hcalls, closer.join().expect("it doesn't panic"))
	});
	let ((answered, refused), worst) = (hcalls?, closed?);
	let served = fast()? - before;
	let what = format!(
		"{answered} hcalls on a table, {refused} without, {served} fast, {CLOSES} tables closed \
		 within {} us",
		worst.as_micros()
	);
	let expected = if path == Column::RustFast {
		served > 0
	} else {
		served == 0
	};
	if !expected || answered == 0 || refused == 0 || worst > PROMPT {
		return Err(Failure::Wrong(what));
	}
	Ok(what)
}
