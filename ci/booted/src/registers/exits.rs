// SPDX-License-Identifier: GPL-2.0-only
//! Every register over every way out of the guest.
//!
//! Other threads make the timers and interrupts of the host come, and signals.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use powerpc::LightCounter;
use protocol::block::Mismatch;
use protocol::regs::{self, Pattern};
use protocol::round::{self, RoundKind, RoundPlan, RoundReport};
use protocol::{Column, GuestMode};
use vmm::abi::KVM_REG_PPC_TB_OFFSET;
use vmm::host;
use vmm::kvm::Controller;
use vmm::machine::Failure;
use vmm::timer::{self, Timer};

use super::arena::{self, Arena};
use crate::common::{Counters, choose, counter, counters};
use crate::cpus::{self, OneCpu};
use crate::stats;

/// Ticks of the timebase in a microsecond.
const MICROSECOND: u64 = 512;

/// What DEC may be off after a round: each exit reads the time and sets DEC some hundred
/// instructions apart.
pub const DEC_TOLERANCE: u64 = 50 * MICROSECOND;

/// What the C path takes off DEC now and then where there is a timebase offset. To move
/// the timebase it writes the upper 40 bits, and adds a carry if the lower 24 wrapped since
/// it had read the time. It adds the carry to the time that it remembers, too, whose lower
/// bits are from before the wrap: that is then 2^24 ticks ahead, and DEC, which is set by
/// it, as much behind. (The guest's timer comes up to 33 ms early.)
const DEC_SLIP_OF_C: u64 = 1 << 24;

/// Longer than a round takes where time is counted in instructions.
pub const LONGEST: u64 = 100_000 * MICROSECOND;

/// KVM's own count of exits, of all VMs there are.
fn exits(name: &str) -> Result<u64, Failure> {
	let file = format!("/sys/kernel/debug/kvm/{name}");
	let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
	let count = text.trim().parse().map_err(|e| format!("{file}: {e}"))?;
	Ok(count)
}

/// Exits that a fast handler or a light exit has answered so far.
fn short_exits() -> u64 {
	let short = |name: &str| name.starts_with("fast_") || host::is_light_answer(name);
	let counters = host::counters().unwrap_or_default().into_iter();
	counters
		.filter(|(name, _)| short(name))
		.map(|(_, n)| n)
		.sum()
}

/// Storage faults of hash guests that were delivered without a full exit so far.
fn own_faults() -> u64 {
	let counters = host::counters().unwrap_or_default();
	let mut counters = counters.into_iter();
	counters
		.find(|(name, _)| name == "light_hash_fault")
		.map_or(0, |(_, count)| count)
}

/// Each entry of the Rust path with light exits has one reason for which the next exit was full, and
/// other entries have none. No guest runs while the counters are read.
fn check_reasons(path: Column, before: &Counters, after: &Counters) -> Result<u64, Failure> {
	let grown = |name| counter(after, name) - counter(before, name);
	let is_light = path == Column::RustFast;
	let entries = if is_light { grown("entry_rust") } else { 0 };
	let reasons = LightCounter::ALL.iter().filter(|reason| reason.is_full());
	let told: Vec<(&str, u64)> = reasons
		.map(|reason| (reason.name(), grown(reason.name())))
		.filter(|(_, count)| *count != 0)
		.collect();
	let sum: u64 = told.iter().map(|(_, count)| count).sum();
	if sum != entries || (is_light && told.len() < LEAST_REASONS) {
		return Err(Failure::Wrong(format!(
			"{entries} entries, and {sum} reasons for full exits: {told:?}"
		)));
	}
	Ok(sum)
}

/// A hash guest's own faults are delivered without a full exit on the fast path, if the PMU is not
/// in use, and nowhere else.
fn check_faults(
	guest: GuestMode,
	path: Column,
	pmu: bool,
	report: &RoundReport,
	faults: u64,
) -> Result<(), Failure> {
	let kinds = [
		RoundKind::Missing,
		RoundKind::MissingFetch,
		RoundKind::ReadOnly,
	];
	let own: u64 = kinds.iter().map(|kind| report.kinds[*kind as usize]).sum();
	let is_light = path == Column::RustFast && !pmu;
	let is_right = if guest.is_hash() && is_light {
		faults == own && own > 0
	} else {
		faults == 0
	};
	if is_right {
		return Ok(());
	}
	Err(Failure::Wrong(format!(
		"{faults} faults delivered without a full exit, of {own}"
	)))
}

/// So many kinds of reasons there are at least: the rounds leave in many ways.
const LEAST_REASONS: usize = 4;

/// What rounds on one path came to.
struct OnPath {
	digests: Vec<u64>,
	rounds: u64,
	timer: u64,
	interrupt: u64,
	signal: u64,
	dec_error: u64,
	dec_slips: u64,
	reasons: u64,
}

/// The same rounds on one path, in two guests: one as Linux is most of the time, one that
/// uses its PMU and has a timebase of its own.
fn on_path(
	guest: GuestMode,
	path: Column,
	controller: Option<Controller>,
	seed: u64,
	rounds: u64,
	cfar: u64,
) -> Result<OnPath, Failure> {
	choose(path)?;
	let mut result = OnPath {
		digests: vec![],
		rounds: 0,
		timer: 0,
		interrupt: 0,
		signal: 0,
		dec_error: 0,
		dec_slips: 0,
		reasons: 0,
	};
	let mut short_ways = [0; 2];
	for pmu in [false, true] {
		let (short_before, faults_before) = (short_exits(), own_faults());
		let counters_before = counters()?;
		let mut pattern = Pattern::new(seed ^ u64::from(pmu));
		let mut arena = Arena::new(guest)?;
		if let Some(controller) = controller {
			arena.machine.add_controller(controller)?;
		}
		if pmu {
			arena
				.machine
				.vcpu()
				.set_one_reg(KVM_REG_PPC_TB_OFFSET, pattern.next().into())?;
		}
		arena.start(
			arena::command(rounds / 2, pattern.next(), cfar),
			RoundPlan {
				kinds: arena::kinds(guest),
				pmu: pmu.into(),
				dec_tolerance: DEC_TOLERANCE,
				dec_slip: if path == Column::C { DEC_SLIP_OF_C } else { 0 },
				longest: LONGEST,
				table_is_ours: 1,
				..RoundPlan::default()
			},
		);
		let _cpu = OneCpu::new(0)?;
		let before = (
			exits("dec_exits")?,
			exits("ext_intr_exits")?,
			exits("signal_exits")?,
		);
		let stop = AtomicBool::new(false);
		let (outcome, sent) = std::thread::scope(|scope| {
			scope.spawn(|| cpus::nap(&stop, Duration::from_micros(130)));
			let sender = scope.spawn(|| cpus::interrupt(&stop, 1, Duration::from_micros(170)));
			let outcome = (|| {
				let interval = Duration::from_micros(410);
				let _timer = Timer::every(interval, interval)?;
				arena.finish(|_| Ok(()))
			})();
			stop.store(true, Ordering::Relaxed);
			(outcome, sender.join().expect("it doesn't panic"))
		});
		let (outcome, _) = (outcome?, sent?);
		let report = arena.report();
		arena::check(&outcome, &report).map_err(|failure| of_guest(failure, path, pmu))?;
		if outcome.rounds != rounds / 2 {
			let done = outcome.rounds;
			return Err(Failure::Wrong(format!(
				"{done} of {} rounds done",
				rounds / 2
			)));
		}
		check_variety(guest, pmu, &report).map_err(|failure| of_guest(failure, path, pmu))?;
		arena
			.check_events(&report)
			.map_err(|failure| of_guest(failure, path, pmu))?;
		short_ways[usize::from(pmu)] = short_exits() - short_before;
		check_faults(guest, path, pmu, &report, own_faults() - faults_before)
			.map_err(|failure| of_guest(failure, path, pmu))?;
		result.reasons += check_reasons(path, &counters_before, &counters()?)
			.map_err(|failure| of_guest(failure, path, pmu))?;
		result.digests.push(report.digest);
		result.rounds += outcome.rounds;
		result.dec_error = result.dec_error.max(report.dec_error);
		result.dec_slips += report.dec_slips;
		// While the VM is still there: its counts go with it.
		result.timer += exits("dec_exits")? - before.0;
		result.interrupt += exits("ext_intr_exits")? - before.1;
		result.signal += exits("signal_exits")? - before.2;
	}
	// The guest says that it uses the PMU after its first entry, and no more at its end: some
	// hcalls are before the next full entry.
	let [without, with] = short_ways;
	if path == Column::RustFast && (without == 0 || with * 10 > without) {
		return Err(Failure::Wrong(format!(
			"{}: {without} exits answered the short way, and {with} of a guest that uses the PMU",
			path.name()
		)));
	}
	Ok(result)
}

fn of_guest(failure: Failure, path: Column, pmu: bool) -> Failure {
	match failure {
		Failure::Wrong(why) => {
			let with = if pmu { ", with PMU" } else { "" };
			Failure::Wrong(format!("{}{with}: {why}", path.name()))
		}
		other => other,
	}
}

/// Each way was taken, and each register had different values.
fn check_variety(guest: GuestMode, pmu: bool, report: &RoundReport) -> Result<(), Failure> {
	let wanted = arena::kinds(guest);
	let missing = RoundKind::ALL
		.into_iter()
		.filter(|kind| wanted & kind.bit() != 0 && report.kinds[*kind as usize] == 0)
		.map(|kind| format!("no round by {}", kind.name()));
	let stuck = (0..round::COUNT)
		.filter(|&word| round::is_compared(word) && report.varied[word] == 0)
		.filter(|&word| match word {
			// What QEMU lets a guest read, but not change; and half of a vector.
			round::PSSCR | regs::VSCR_UPPER => false,
			regs::PID => guest == GuestMode::Real,
			round::PMU..round::CLOCK => pmu,
			_ => true,
		})
		.map(|word| format!("{} never changed", round::name(word)));
	let complaints: Vec<String> = missing.chain(stuck).collect();
	if complaints.is_empty() {
		Ok(())
	} else {
		Err(Failure::Wrong(complaints.join(", ")))
	}
}

/// The same rounds on every path: nothing differs from what it should be, and the digests
/// of what was found are the same.
pub fn compare(
	guest: GuestMode,
	paths: &[Column],
	controller: Option<Controller>,
	seed: u64,
	rounds: u64,
	cfar: u64,
) -> Result<String, Failure> {
	let mut digests: Option<Vec<u64>> = None;
	let mut told = vec![];
	for &path in paths {
		let result = on_path(guest, path, controller, seed, rounds, cfar)?;
		let name = path.name();
		if result.timer == 0 || result.interrupt == 0 || result.signal == 0 {
			return Err(Failure::Wrong(format!(
				"{name}: {} exits by timer, {} by interrupt, {} by signal",
				result.timer, result.interrupt, result.signal
			)));
		}
		told.push(format!(
			"{name}: {} timer, {} interrupts, {} signals, DEC off by {} ticks, {} times by 2^24, {} \
			 reasons for full exits",
			result.timer,
			result.interrupt,
			result.signal,
			result.dec_error,
			result.dec_slips,
			result.reasons
		));
		match &digests {
			None => digests = Some(result.digests),
			Some(first) if *first == result.digests => {}
			Some(first) => {
				return Err(Failure::Wrong(format!(
					"{name}: digests {:x?} instead of {first:x?}",
					result.digests
				)));
			}
		}
	}
	Ok(format!(
		"{rounds} rounds on each path, digests {:x?}; {}",
		digests.unwrap_or_default(),
		told.join("; ")
	))
}

/// The same on C and the fast path, with times kept.
pub fn compare_timed(
	guest: GuestMode,
	seed: u64,
	rounds: u64,
	cfar: u64,
) -> Result<String, Failure> {
	let _stats = stats::Setting::on("stats")?;
	compare(
		guest,
		&[Column::C, Column::RustFast],
		None,
		seed,
		rounds,
		cfar,
	)
}

/// Rounds of a vcpu that goes from CPU to CPU: it finds everything as it left it, on every
/// path, but for the registers of transactional memory. KVM switches those for guests
/// that have asked for the facility, which takes an interrupt that QEMU doesn't know; the
/// host's scheduler has no reason to; so they are the CPU's, and 0 where no guest
/// has been. EBB's registers, which are on demand as well, the scheduler switches always.
pub fn migrate(guest: GuestMode, seed: u64, rounds: u64, cfar: u64) -> Result<String, Failure> {
	const TM: [u32; 3] = [128, 129, 130];
	let mut told = vec![];
	for path in [Column::C, Column::RustFull] {
		choose(path)?;
		let mut arena = Arena::new(guest)?;
		arena.start(
			arena::command(rounds, seed, cfar),
			RoundPlan {
				// The decrementer has to come while the guest waits for it. On the debug kernel an exit
				// before that can take longer.
				kinds: arena::kinds(guest) & !RoundKind::Decrementer.bit(),
				pmu: 0,
				dec_tolerance: DEC_TOLERANCE,
				dec_slip: 0,
				longest: LONGEST,
				table_is_ours: 1,
				..RoundPlan::default()
			},
		);
		let cpu = OneCpu::new(0)?;
		let stop = AtomicBool::new(false);
		let thread = timer::thread();
		let (outcome, moves) = std::thread::scope(|scope| {
			let driver = scope.spawn(|| {
				let _cpu = OneCpu::new(1)?;
				cpus::drive(thread, &stop, Duration::from_micros(330))
			});
			let outcome = arena.finish(|_| Ok(()));
			stop.store(true, Ordering::Relaxed);
			(outcome, driver.join().expect("it doesn't panic"))
		});
		drop(cpu);
		let (outcome, moves) = (outcome?, moves?);
		let report = arena.report();
		let listed = (outcome.mismatches as usize).min(report.mismatches.len());
		let is_tm = |index: &usize| {
			let register = report.mismatches[*index].register as usize;
			// That kind of round reads TFHAR into r5.
			let copy = register == 5 && report.mismatch_kinds[*index] == RoundKind::Tm as u64;
			copy || TM.iter().any(|&spr| regs::spr_index(spr) == register)
		};
		if let Some(index) = (0..listed).find(|index| !is_tm(index)) {
			let Mismatch {
				register,
				expected,
				got,
				round,
			} = report.mismatches[index];
			let kind = RoundKind::ALL[report.mismatch_kinds[index] as usize].name();
			let name = round::name(register as usize);
			return Err(Failure::Wrong(format!(
				"{}: {} of {} mismatches are of transactional memory; {name} in round {round} ({kind}): \
				 {got:#x} instead of {expected:#x}",
				path.name(),
				(0..listed).filter(is_tm).count(),
				outcome.mismatches,
			)));
		}
		told.push(format!(
			"{}: {moves} moves, {} registers of transactional memory stayed behind, the first {:#x}",
			path.name(),
			outcome.mismatches,
			report.mismatches[0].got
		));
	}
	Ok(format!("{rounds} rounds; {}", told.join("; ")))
}
