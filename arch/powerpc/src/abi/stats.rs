// SPDX-License-Identifier: GPL-2.0-only
//! What `kvm_p9.stats` and the tracepoint `kvm_p9:fast_hcall` know of a vcpu.
//!
//! Times are ticks of the timebase, 512 MHz on a POWER9, and of some spans cycles, too:
//! of those during which no one had the PMU. Who may have it, and how it is known that
//! no one else had it meanwhile, is said in `entry/src/timing/pmu.rs`.
//!
//! # What is measured
//!
//! - spans of fast hcalls, and of hcalls that a handler of the table answers in a light exit: from the
//!   trampoline's first instruction, a few dozen behind the `sc 1`, to the end of the handler. What is missing is
//!   the system call vector, and the way back, which is the same for every hcall.
//! - All others: from the guest's way out to its next way in, both in this object,
//!   with all that the host did meanwhile, also other threads and sleep. In a light exit the way
//!   out and the way in are those of the same entry. For an `sc 1` a span
//!   begins with the trampoline's first instruction, for all other interrupts where
//!   the trampoline returns to Rust. It ends before the guest's GPRs are loaded. If
//!   the thread was in userspace in between it is [`SpanKind::Userspace`], no matter
//!   what the guest left for.
//!
//! # Who writes
//!
//! The vcpu's own thread, with preemption off, and in a handler. debugfs reads at any
//! time; `sequence` is odd while numbers that belong together are being changed, and
//! another afterwards. Others write only `reset` and `in_userspace`, and the glue, on the
//! vcpu's own thread, `counter`, `full_entry` and `mapped`.

use core::array;
use core::cell::Cell;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::counters::Counter;
use super::fast::FastHcall;
use super::{CType, shared};

/// Places of a histogram: durations below 16 ticks or cycles, of 16 to 31, of 32 to 63, and so
/// on; the last has all that are longer, 2^22 (8 ms of ticks) and more.
pub const BUCKETS: usize = 20;
/// The first place has durations of so many bits. Nothing that a guest can do is shorter.
pub const SHORTEST_BITS: u32 = 4;
/// Only shorter spans have cycles, in ticks: half a second. The counter has 32 bits, and
/// up to 16 cycles a tick, four times what a POWER9 does, they can't have wrapped.
pub const LONGEST_WITH_CYCLES: u64 = 1 << 28;
/// Fast hcalls that a vcpu can remember for the tracepoint.
pub const EVENTS: usize = 8;

/// What a span of time went to: an hcall that a fast handler answered, or what the guest left for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpanKind(u64);

macro_rules! other_spans {
	($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
		enum Order { $($name,)* }

		#[expect(non_upper_case_globals, reason = "a kind is used like a variant")]
		impl SpanKind {
			$($(#[$doc])* pub const $name: Self = Self(FastHcall::COUNT as u64 + Order::$name as u64);)*

			/// Names in debugfs of the kinds that are not a fast hcall's, in order.
			pub const OTHER_NAMES: &[&str] = &[$($text),*];
		}
	};
}

other_spans! {
	/// `sc 1` that was answered in the kernel.
	FullHcall = "full_hcall";
	/// H_CEDE, with the guest's sleep.
	FullCede = "full_cede";
	/// Hypervisor data storage: page faults, MMIO that the kernel emulates.
	FullDataStorage = "full_data_storage";
	/// The host's timer.
	FullDecrementer = "full_decrementer";
	/// Interrupts for the host, from devices or other CPUs.
	FullExternal = "full_external";
	/// Any other interrupt.
	FullOther = "full_other";
	/// The thread was in userspace.
	Userspace = "userspace";
	/// `sc 1` that was answered in a light exit, or by a handler of the light tiers.
	LightHcall = "light_hcall";
	/// Hypervisor data storage in a light exit, but for page faults: a store to a device of the kernel,
	/// or a fault of a hash guest's own.
	LightDataStorage = "light_data_storage";
	/// A page fault that the host handled in a light exit.
	LightPageFault = "light_page_fault";
	/// The host's timer, in a light exit.
	LightDecrementer = "light_decrementer";
	/// Interrupts for the host in a light exit.
	LightExternal = "light_external";
	/// Any other interrupt in a light exit: a doorbell of the guest's.
	LightOther = "light_other";
}

impl SpanKind {
	/// How many there are.
	pub const COUNT: usize = FastHcall::COUNT + Self::OTHER_NAMES.len();

	/// An hcall that a fast handler answered.
	#[inline]
	pub const fn fast(hcall: FastHcall) -> Self {
		Self(hcall as u64)
	}

	/// What it was if the exit turned out to be a light one, which has `mapped` a page of the guest's or not.
	fn if_light(self, mapped: bool) -> Self {
		match self {
			_ if mapped => Self::LightPageFault,
			Self::FullHcall | Self::FullCede => Self::LightHcall,
			Self::FullDataStorage => Self::LightDataStorage,
			Self::FullDecrementer => Self::LightDecrementer,
			Self::FullExternal => Self::LightExternal,
			_ => Self::LightOther,
		}
	}
}

/// A place of a histogram: how many spans. It stays at 2^32 - 1 once it is there; that takes
/// minutes of nothing else, and twice the memory for all would take a vcpu's above 12 KiB.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Place(AtomicU32);

impl CType for Place {
	const NAME: &'static str = "u32";
}

impl Place {
	const fn new() -> Self {
		Self(AtomicU32::new(0))
	}

	fn get(&self) -> u32 {
		self.0.load(Ordering::Relaxed)
	}

	/// Sets it. Only the vcpu may call this.
	fn set(&self, n: u32) {
		self.0.store(n, Ordering::Relaxed);
	}
}

shared! {
	/// Lengths of spans, in ticks or in cycles.
	#[derive(Debug)]
	pub struct Distribution = "kvm_p9_distribution" {
		/// How many spans.
		pub count: Counter,
		/// Their sum.
		pub total: Counter,
		/// The shortest, if there is any.
		pub min: Counter,
		/// The longest.
		pub max: Counter,
		/// How many by length, see [`BUCKETS`].
		pub histogram: [Place; BUCKETS],
	}
}

impl Distribution {
	fn new() -> Self {
		Self {
			count: Counter::new(0),
			total: Counter::new(0),
			min: Counter::new(0),
			max: Counter::new(0),
			histogram: [const { Place::new() }; BUCKETS],
		}
	}

	/// The histogram's place for a span.
	#[inline]
	pub fn bucket(length: u64) -> usize {
		let bits = u64::BITS - length.leading_zeros();
		(bits.saturating_sub(SHORTEST_BITS) as usize).min(BUCKETS - 1)
	}

	#[inline]
	fn record(&self, length: u64) {
		if self.count.get() == 0 || length < self.min.get() {
			self.min.set(length);
		}
		if length > self.max.get() {
			self.max.set(length);
		}
		self.count.add(1);
		self.total.add(length);
		if let Some(place) = self.histogram.get(Self::bucket(length)) {
			place.set(place.get().saturating_add(1));
		}
	}

	#[cold]
	#[inline(never)]
	fn clear(&self) {
		for counter in [&self.count, &self.total, &self.min, &self.max] {
			counter.set(0);
		}
		for place in &self.histogram {
			place.set(0);
		}
	}
}

shared! {
	/// The spans of one kind.
	#[derive(Debug)]
	pub struct PathStats = "kvm_p9_path" {
		/// All of them, in ticks of the timebase.
		pub ticks: Distribution,
		/// Those that have cycles, in these.
		pub cycles: Distribution,
	}
}

impl PathStats {
	fn new() -> Self {
		Self {
			ticks: Distribution::new(),
			cycles: Distribution::new(),
		}
	}

	#[inline]
	fn record(&self, ticks: u64, cycles: Option<u32>) {
		self.ticks.record(ticks);
		if let Some(cycles) = cycles
			&& ticks < LONGEST_WITH_CYCLES
		{
			self.cycles.record(cycles.into());
		}
	}

	fn clear(&self) {
		self.ticks.clear();
		self.cycles.clear();
	}
}

/// What the counter of cycles says when a guest is about to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cycles {
	/// Nothing: it is not ours.
	Unknown,
	/// It begins to count with this.
	Begun(u32),
	/// It has gone on all the time since the vcpu's last run.
	Continued(u32),
}

shared! {
	/// One hcall that a fast handler answered.
	#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
	pub struct Event = "kvm_p9_event" {
		/// The host's timebase when it arrived.
		pub tb: u64,
		/// The guest's r4 at the `sc 1`: the LIOBN.
		pub r4: u64,
		/// What it was answered.
		pub code: i64,
		/// Its number.
		pub number: u32,
		/// How long it took, as spans of fast hcalls.
		pub ticks: u32,
	}
}

/// What is wanted, in the lowest bits of the glue's `kvm_p9_timing`. The rest of it
/// changes with each setting that makes an open span worthless.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct TimingFlags(pub u64);

impl TimingFlags {
	/// Counters: `kvm_p9.stats=1`.
	pub const STATS: u64 = 1;
	/// Events: the tracepoint is enabled.
	pub const TRACE: u64 = 2;

	/// Whether this is.
	#[inline]
	pub fn has(self, what: u64) -> bool {
		self.0 & what != 0
	}
}

shared! {
	/// What is measured of a vcpu: allocated when first wanted.
	#[derive(Debug)]
	pub struct Stats = "kvm_p9_stats" {
		/// Odd while `paths` change.
		pub sequence: AtomicU64,
		/// What was wanted at the last entry.
		pub wanted: Cell<u64>,
		/// The guest's timebase less the host's, since the last entry.
		pub tb_offset: Cell<u64>,
		/// The open span's kind, plus 1, or 0 if none is open.
		pub open: Cell<u64>,
		/// The host's timebase at its begin.
		pub since: Cell<u64>,
		/// Which CPU's counter of cycles the vcpu has counting, plus 1, or 0. The glue stops it
		/// before the vcpu leaves the CPU.
		pub counter: Cell<u64>,
		/// Not 0 if it counts during this run of the guest.
		pub counted: Cell<u64>,
		/// Not 0 if it did at the open span's begin.
		pub since_counted: Cell<u64>,
		/// What it said then, in 32 bits.
		pub since_cycles: Cell<u64>,
		/// Set by the glue when the thread returns to userspace.
		pub in_userspace: AtomicU64,
		/// Not 0 from the begin of a full entry until the guest runs. The glue sets it, on the vcpu's
		/// own thread.
		pub full_entry: Cell<u64>,
		/// Not 0 if a light exit has mapped a page since the guest came out. By the glue, too.
		pub mapped: Cell<u64>,
		/// Set by debugfs: start again.
		pub reset: AtomicU64,
		/// Valid ones of `events`. The glue empties it when the guest has come out.
		pub event_count: AtomicU64,
		/// Fast hcalls since then.
		pub events: [Cell<Event>; EVENTS],
		/// Times, by [`SpanKind`].
		pub paths: [PathStats; SpanKind::COUNT],
	}
}

impl Stats {
	/// As the glue allocates it: all zeroes.
	pub fn new() -> Self {
		Self {
			sequence: AtomicU64::new(0),
			wanted: Cell::new(0),
			tb_offset: Cell::new(0),
			open: Cell::new(0),
			since: Cell::new(0),
			counter: Cell::new(0),
			counted: Cell::new(0),
			since_counted: Cell::new(0),
			since_cycles: Cell::new(0),
			in_userspace: AtomicU64::new(0),
			full_entry: Cell::new(0),
			mapped: Cell::new(0),
			reset: AtomicU64::new(0),
			event_count: AtomicU64::new(0),
			events: [const {
				Cell::new(Event {
					tb: 0,
					r4: 0,
					code: 0,
					number: 0,
					ticks: 0,
				})
			}; EVENTS],
			paths: array::from_fn(|_| PathStats::new()),
		}
	}

	/// Changes numbers that belong together.
	#[inline]
	fn change(&self, change: impl FnOnce(&[PathStats; SpanKind::COUNT])) {
		let sequence = self.sequence.load(Ordering::Relaxed);
		self.sequence
			.store(sequence.wrapping_add(1), Ordering::Relaxed);
		// A reader that sees a change also sees that the sequence was odd.
		fence(Ordering::Release);
		change(&self.paths);
		self.sequence
			.store(sequence.wrapping_add(2), Ordering::Release);
	}

	#[inline(never)]
	fn record(&self, kind: u64, ticks: u64, cycles: Option<u32>) {
		self.change(|paths| {
			if let Some(path) = paths.get(kind as usize) {
				path.record(ticks, cycles);
			}
		});
	}

	/// The switch begins, and this is what is wanted now.
	#[inline]
	pub fn begin(&self, wanted: TimingFlags) {
		if self.wanted.get() != wanted.0 {
			self.wanted.set(wanted.0);
			self.abandon();
		}
		if self.reset.load(Ordering::Relaxed) != 0 {
			self.change(|paths| paths.iter().for_each(PathStats::clear));
			self.abandon();
			// debugfs shows zeroes until here.
			self.reset.store(0, Ordering::Release);
		}
	}

	/// Forgets an open span: the guest runs without our seeing it.
	#[inline]
	pub fn abandon(&self) {
		self.open.set(0);
	}

	/// The guest is about to run. `guest_tb` is the timebase now, with `tb_offset` in it.
	#[inline]
	pub fn enter(&self, guest_tb: u64, tb_offset: u64, cycles: Cycles) {
		self.tb_offset.set(tb_offset);
		self.counted.set((cycles != Cycles::Unknown).into());
		let open = self.open.take();
		let is_full = self.full_entry.take() != 0;
		let mapped = self.mapped.take() != 0;
		let was_in_userspace = self.in_userspace.load(Ordering::Relaxed) != 0;
		if was_in_userspace {
			self.in_userspace.store(0, Ordering::Relaxed);
		}
		if open != 0 {
			let kind = match SpanKind(open - 1) {
				_ if was_in_userspace => SpanKind::Userspace,
				kind if is_full => kind,
				kind => kind.if_light(mapped),
			};
			let now = guest_tb.wrapping_sub(tb_offset);
			let cycles = match cycles {
				Cycles::Continued(now) if self.since_counted.get() != 0 => {
					Some(now.wrapping_sub(self.since_cycles.get() as u32))
				}
				_ => None,
			};
			self.record(kind.0, now.wrapping_sub(self.since.get()), cycles);
		}
	}

	/// Whether cycles are counted during this run of the guest.
	#[inline]
	pub fn counts_cycles(&self) -> bool {
		self.counted.get() != 0
	}

	/// The guest came out, at `guest_tb` by the guest's timebase and at `cycles` by the
	/// counter, no matter who has it.
	#[inline]
	pub fn leave(&self, kind: SpanKind, guest_tb: u64, cycles: u32) {
		if TimingFlags(self.wanted.get()).has(TimingFlags::STATS) {
			self.since.set(guest_tb.wrapping_sub(self.tb_offset.get()));
			self.since_counted.set(self.counted.get());
			self.since_cycles.set(cycles.into());
			self.open.set(kind.0 + 1);
		}
	}

	/// Is there no room for the event of one more fast hcall?
	#[inline]
	pub fn is_full(&self) -> bool {
		TimingFlags(self.wanted.get()).has(TimingFlags::TRACE)
			&& self.event_count.load(Ordering::Relaxed) >= EVENTS as u64
	}

	/// A fast handler has answered. `start` and `end` are by the guest's timebase, and
	/// `cycles` what passed by the counter, no matter who has it.
	#[inline]
	pub fn fast(&self, kind: SpanKind, start: u64, end: u64, cycles: u32, call: Event) {
		let wanted = TimingFlags(self.wanted.get());
		let ticks = end.wrapping_sub(start);
		if wanted.has(TimingFlags::STATS) {
			let cycles = self.counts_cycles().then_some(cycles);
			self.record(kind.0, ticks, cycles);
		}
		if wanted.has(TimingFlags::TRACE) {
			let count = self.event_count.load(Ordering::Relaxed);
			if let Some(place) = self.events.get(count as usize) {
				place.set(Event {
					tb: start.wrapping_sub(self.tb_offset.get()),
					ticks: u32::try_from(ticks).unwrap_or(u32::MAX),
					..call
				});
				self.event_count.store(count + 1, Ordering::Relaxed);
			}
		}
	}
}

impl Default for Stats {
	fn default() -> Self {
		Self::new()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	const STATS: TimingFlags = TimingFlags(TimingFlags::STATS);
	const HCALL: usize = SpanKind::FullHcall.0 as usize;
	const USERSPACE: usize = SpanKind::Userspace.0 as usize;

	fn counts(stats: &Stats) -> Vec<u64> {
		stats
			.paths
			.iter()
			.map(|path| path.ticks.count.get())
			.collect()
	}

	/// The guest is about to run, by a full entry.
	fn enter(stats: &Stats, guest_tb: u64, tb_offset: u64, cycles: Cycles) {
		stats.full_entry.set(1);
		stats.enter(guest_tb, tb_offset, cycles);
	}

	#[test]
	fn buckets_are_powers_of_two() {
		let expected = [
			(0, 0),
			(1, 0),
			(15, 0),
			(16, 1),
			(31, 1),
			(32, 2),
			((1 << 22) - 1, 18),
			(1 << 22, 19),
			(1 << 23, 19),
			(u64::MAX, 19),
		];
		for (ticks, bucket) in expected {
			assert_eq!(Distribution::bucket(ticks), bucket, "{ticks}");
		}
	}

	#[test]
	fn a_place_stays_at_its_highest() {
		let path = Distribution::new();
		path.histogram[1].set(u32::MAX - 1);
		for _ in 0..3 {
			path.record(16);
		}
		assert_eq!(path.histogram[1].get(), u32::MAX);
		assert_eq!(path.count.get(), 3);
	}

	proptest! {
		#[test]
		fn numbers_of_a_distribution_agree(spans in proptest::collection::vec(
			prop_oneof![any::<u64>(), 0..1000_u64], 1..50)) {
			let path = Distribution::new();
			for &ticks in &spans {
				path.record(ticks);
			}
			let sum = spans.iter().fold(0_u64, |sum, &ticks| sum.wrapping_add(ticks));
			prop_assert_eq!(path.count.get(), spans.len() as u64);
			prop_assert_eq!(path.total.get(), sum);
			prop_assert_eq!(Some(path.min.get()), spans.iter().copied().min());
			prop_assert_eq!(Some(path.max.get()), spans.iter().copied().max());
			for (place, counter) in path.histogram.iter().enumerate() {
				let here = spans.iter().filter(|&&t| Distribution::bucket(t) == place);
				prop_assert_eq!(counter.get(), here.count() as u32);
			}
			path.clear();
			prop_assert_eq!(path.count.get() | path.total.get() | path.max.get(), 0);
		}

		/// With any timebase of the guest, a span is the host's time.
		#[test]
		fn the_guests_timebase_does_not_show(
			start in any::<u64>(), ticks in any::<u64>(),
			before in any::<u64>(), after in any::<u64>(),
		) {
			let stats = Stats::new();
			stats.begin(STATS);
			enter(&stats, start.wrapping_add(before), before, Cycles::Unknown);
			stats.leave(SpanKind::FullHcall, start.wrapping_add(before), 0);
			stats.begin(STATS);
			enter(&stats, start.wrapping_add(ticks).wrapping_add(after), after, Cycles::Unknown);
			prop_assert_eq!(stats.paths[HCALL].ticks.total.get(), ticks);
			prop_assert_eq!(counts(&stats).iter().sum::<u64>(), 1);
		}
	}

	#[test]
	fn a_visit_to_userspace_is_told_apart() {
		let stats = Stats::new();
		stats.begin(STATS);
		enter(&stats, 100, 0, Cycles::Unknown);
		stats.leave(SpanKind::FullHcall, 110, 0);
		stats.in_userspace.store(1, Ordering::Relaxed);
		enter(&stats, 150, 0, Cycles::Unknown);
		stats.leave(SpanKind::FullHcall, 160, 0);
		enter(&stats, 165, 0, Cycles::Unknown);
		assert_eq!(stats.paths[USERSPACE].ticks.total.get(), 40);
		assert_eq!(stats.paths[HCALL].ticks.total.get(), 5);
		// Twice in a row without a run of the guest is still one.
		stats.in_userspace.store(1, Ordering::Relaxed);
		enter(&stats, 170, 0, Cycles::Unknown);
		assert_eq!(counts(&stats).iter().sum::<u64>(), 2);
	}

	#[test]
	fn an_exit_without_a_full_entry_after_it_is_a_light_one() {
		let kinds = [
			(SpanKind::FullHcall, SpanKind::LightHcall),
			(SpanKind::FullCede, SpanKind::LightHcall),
			(SpanKind::FullDataStorage, SpanKind::LightDataStorage),
			(SpanKind::FullDecrementer, SpanKind::LightDecrementer),
			(SpanKind::FullExternal, SpanKind::LightExternal),
			(SpanKind::FullOther, SpanKind::LightOther),
		];
		for (full, light) in kinds {
			for (by_full_entry, mapped, expected) in [
				(0, 0, light),
				(0, 1, SpanKind::LightPageFault),
				(1, 0, full),
				(1, 1, full),
			] {
				let stats = Stats::new();
				stats.begin(STATS);
				enter(&stats, 100, 0, Cycles::Unknown);
				stats.leave(full, 110, 0);
				stats.full_entry.set(by_full_entry);
				stats.mapped.set(mapped);
				stats.enter(150, 0, Cycles::Unknown);
				let mut counted = vec![0; SpanKind::COUNT];
				counted[expected.0 as usize] = 1;
				assert_eq!(counts(&stats), counted, "{full:?} {by_full_entry} {mapped}");
				// Neither is for the next exit.
				assert_eq!((stats.full_entry.get(), stats.mapped.get()), (0, 0));
			}
		}
	}

	#[test]
	fn every_kind_has_a_name_of_its_own() {
		let mut names = SpanKind::OTHER_NAMES.to_vec();
		names.sort_unstable();
		names.dedup();
		assert_eq!(FastHcall::COUNT + names.len(), SpanKind::COUNT);
	}

	fn cycles(stats: &Stats, path: usize) -> (u64, u64) {
		let cycles = &stats.paths[path].cycles;
		(cycles.count.get(), cycles.total.get())
	}

	#[test]
	fn a_span_has_cycles_if_the_counter_was_ours_at_both_ends_and_between() {
		use Cycles::{Begun, Continued, Unknown};
		// At its begin, and at its end.
		let cases = [
			(Begun(7), Continued(0x1234), Some(0x234)),
			(Continued(7), Continued(0x1234), Some(0x234)),
			(Continued(7), Continued(0x1000), Some(0)),
			(Continued(7), Continued(0xfff), Some(u32::MAX)),
			(Unknown, Continued(0x1234), None),
			(Continued(7), Begun(0x1234), None),
			(Continued(7), Unknown, None),
			(Unknown, Begun(0x1234), None),
		];
		for (begin, end, expected) in cases {
			let stats = Stats::new();
			stats.begin(STATS);
			enter(&stats, 100, 0, begin);
			assert_eq!(stats.counts_cycles(), begin != Unknown);
			stats.leave(SpanKind::FullHcall, 110, 0x1000);
			enter(&stats, 150, 0, end);
			let expected = expected.map_or((0, 0), |cycles| (1, cycles.into()));
			assert_eq!(cycles(&stats, HCALL), expected, "{begin:?} {end:?}");
			assert_eq!(counts(&stats)[HCALL], 1);
		}
	}

	#[test]
	fn the_counter_may_wrap_once_and_no_more() {
		for (ticks, expected) in [
			(1, (1, 0x20)),
			(LONGEST_WITH_CYCLES - 1, (1, 0x20)),
			(LONGEST_WITH_CYCLES, (0, 0)),
			(u64::MAX, (0, 0)),
		] {
			let stats = Stats::new();
			stats.begin(STATS);
			enter(&stats, 100, 0, Cycles::Begun(0));
			stats.leave(SpanKind::FullHcall, 110, 0xffff_fff0);
			enter(
				&stats,
				110_u64.wrapping_add(ticks),
				0,
				Cycles::Continued(0x10),
			);
			assert_eq!(cycles(&stats, HCALL), expected, "{ticks}");
			assert_eq!(counts(&stats)[HCALL], 1);
			stats.fast(
				SpanKind::fast(FastHcall::Null),
				5,
				ticks.wrapping_add(5),
				0x20,
				Event::default(),
			);
			assert_eq!(cycles(&stats, 0), expected, "{ticks}");
		}
	}

	#[test]
	fn a_fast_hcall_has_cycles_if_they_are_counted() {
		let stats = Stats::new();
		stats.begin(STATS);
		enter(&stats, 100, 0, Cycles::Unknown);
		stats.fast(SpanKind::fast(FastHcall::Null), 1, 9, 40, Event::default());
		assert_eq!(cycles(&stats, 0), (0, 0));
		enter(&stats, 100, 0, Cycles::Begun(3));
		stats.fast(SpanKind::fast(FastHcall::Null), 1, 9, 40, Event::default());
		stats.fast(SpanKind::fast(FastHcall::Null), 1, 9, 50, Event::default());
		assert_eq!(cycles(&stats, 0), (2, 90));
		assert_eq!(counts(&stats)[0], 3);
		// Starting again is for both.
		stats.reset.store(1, Ordering::Relaxed);
		stats.begin(STATS);
		assert_eq!(cycles(&stats, 0), (0, 0));
	}

	#[test]
	fn a_change_of_settings_ends_an_open_span() {
		let stats = Stats::new();
		stats.begin(STATS);
		stats.leave(SpanKind::FullOther, 10, 0);
		stats.begin(TimingFlags(TimingFlags::STATS | 1 << 8));
		enter(&stats, 1000, 0, Cycles::Unknown);
		assert_eq!(counts(&stats), [0; SpanKind::COUNT]);
		// What is not wanted is not kept.
		stats.begin(TimingFlags(TimingFlags::TRACE));
		stats.leave(SpanKind::FullOther, 10, 0);
		enter(&stats, 20, 0, Cycles::Unknown);
		stats.fast(SpanKind::fast(FastHcall::Null), 1, 2, 0, Event::default());
		assert_eq!(counts(&stats), [0; SpanKind::COUNT]);
	}

	#[test]
	fn a_reset_clears_all_and_is_acknowledged() {
		let stats = Stats::new();
		stats.begin(STATS);
		stats.fast(SpanKind::fast(FastHcall::Null), 1, 9, 0, Event::default());
		stats.leave(SpanKind::FullOther, 10, 0);
		stats.reset.store(1, Ordering::Relaxed);
		stats.begin(STATS);
		enter(&stats, 20, 0, Cycles::Unknown);
		assert_eq!(stats.reset.load(Ordering::Relaxed), 0);
		assert_eq!(counts(&stats), [0; SpanKind::COUNT]);
		assert_eq!(stats.sequence.load(Ordering::Relaxed) % 2, 0);
		stats.fast(SpanKind::fast(FastHcall::Null), 1, 9, 0, Event::default());
		assert_eq!(stats.paths[0].ticks.min.get(), 8);
	}

	#[test]
	fn events_fill_up_and_no_further() {
		let stats = Stats::new();
		stats.begin(STATS);
		stats.event_count.store(EVENTS as u64, Ordering::Relaxed);
		assert!(!stats.is_full(), "nobody wants events");
		stats.event_count.store(0, Ordering::Relaxed);
		stats.begin(TimingFlags(TimingFlags::TRACE));
		enter(&stats, 5000, 1000, Cycles::Unknown);
		for n in 0..EVENTS as u64 {
			assert!(!stats.is_full());
			let call = Event {
				number: 0x1c,
				r4: n,
				code: -4,
				..Event::default()
			};
			stats.fast(
				SpanKind::fast(FastHcall::GetTce),
				5000 + n,
				5007 + n,
				0,
				call,
			);
			let event = stats.events[n as usize].get();
			assert_eq!((event.tb, event.r4, event.ticks), (4000 + n, n, 7));
			assert_eq!((event.number, event.code), (0x1c, -4));
		}
		assert!(stats.is_full());
		let last = stats.events[EVENTS - 1].get();
		stats.fast(SpanKind::fast(FastHcall::GetTce), 1, 2, 0, Event::default());
		assert_eq!(stats.events[EVENTS - 1].get(), last);
		assert_eq!(stats.event_count.load(Ordering::Relaxed), EVENTS as u64);
	}
}
