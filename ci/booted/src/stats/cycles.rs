// SPDX-License-Identifier: GPL-2.0-only
//! Cycles in `p9_times`: only while neither the guest nor perf uses the PMU.

use core::arch::asm;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cases::{Case, case};
use powerpc::Mmcr0;
use protocol::{Column, Command, GuestMode, Job, map, private};
use vmm::abi::{KVM_REG_PPC_MMCR0, KVM_REG_PPC_PMC6};
use vmm::machine::{Failure, Machine, Stop};

use super::times::{ByPath, times_and_cycles};
use super::{ENABLE, Setting, machine, perform};
use crate::common::{choose, counter, counters, wrong};
use crate::cpus::OneCpu;
use crate::perf::PerfCycles;

/// The PMU's registers as problem state sees them: MMCR0 but for most bits, and PMC6.
fn user_pmu() -> (u64, u64) {
	let (mmcr0, pmc6);
	// SAFETY: the kernel lets userspace read these, and reading them has no effect.
	unsafe {
		asm!("mfspr {}, 779", out(reg) mmcr0, options(nomem, nostack));
		asm!("mfspr {}, 776", out(reg) pmc6, options(nomem, nostack));
	}
	(mmcr0, pmc6)
}

/// Checks that the PMU is in the state that it has while it is not used.
fn pmu_at_rest() -> Result<(), Failure> {
	match user_pmu() {
		(mmcr0, 0) if Mmcr0::from_bits_retain(mmcr0).contains(Mmcr0::FC) => Ok(()),
		(mmcr0, pmc6) => wrong(format!(
			"the PMU has not been stopped: MMCR0 {mmcr0:#x}, PMC6 {pmc6:#x}"
		)),
	}
}

/// Has the guest say that it uses the PMU, or that it doesn't.
fn guest_pmu(machine: &Machine, in_use: bool) {
	let place = map::VPA + map::VPA_PMCREGS_IN_USE;
	machine.memory().write(place, u8::from(in_use));
}

/// What was counted since `before`, by path: spans and their sum.
fn since(before: &ByPath, after: &ByPath, path: &str) -> (u64, u64) {
	let (before, after) = (&before[path], &after[path]);
	(after.count - before.count, after.total - before.total)
}

/// Spans have cycles while the PMU is not used: one per nanosecond, which is what QEMU counts
/// as cycles.
pub fn cycles(guest: GuestMode) -> Result<String, Failure> {
	const JOBS: [(&Case, u64, &str); 6] = [
		(case!("null"), 1000, "fast_null"),
		(case!("h_get_tce"), 300, "fast_h_get_tce"),
		(case!("h_put_tce"), 200, "fast_h_put_tce"),
		(case!("h_stuff_tce_512"), 50, "fast_h_stuff_tce"),
		(case!("h_prod"), 400, "light_hcall"),
		(case!("unknown"), 60, "userspace"),
	];
	choose(Column::RustFast)?;
	let mut machine = machine(guest, &ENABLE)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	perform(&mut machine, case!("h_put_tce"), 2)?;
	let setting = Setting::on("stats")?;
	let mut told = vec![];
	for (case, calls, path) in JOBS {
		let before = times_and_cycles(&file)?;
		perform(&mut machine, case, calls)?;
		pmu_at_rest()?;
		let after = times_and_cycles(&file)?;
		let (spans, ticks) = since(&before.0, &after.0, path);
		let (counted, cycles) = since(&before.1, &after.1, path);
		let what = format!("{path}: {spans} spans, {ticks} ticks; {counted}, {cycles} cycles");
		if path == "userspace" {
			if spans < calls || counted != 0 {
				return wrong(format!("{what} although the vcpu was away"));
			}
			continue;
		}
		// The thread is not scheduled out meanwhile.
		if (spans, counted) != (calls, calls) {
			return wrong(what);
		}
		// Each end of a span is rounded to a tick, and read some instructions apart.
		let apart = (cycles * 512).abs_diff(ticks * 1000);
		if cycles == 0 || apart > spans * 2 * 1000 {
			return wrong(what);
		}
		told.push(format!("{path} {}", cycles / counted));
	}
	drop(setting);
	// In the middle of a job, too.
	perform(&mut machine, case!("null"), 100)?;
	pmu_at_rest()?;
	Ok(format!("mean cycles: {}", told.join(", ")))
}

/// Does hcalls, and says for how many of them there are ticks and cycles.
fn hcalls_with_cycles(machine: &mut Machine, file: &str) -> Result<(u64, u64), Failure> {
	let before = times_and_cycles(file)?;
	perform(machine, case!("null"), 100)?;
	perform(machine, case!("h_prod"), 100)?;
	let after = times_and_cycles(file)?;
	let sum = |before: &ByPath, after: &ByPath| -> u64 {
		// Full while the PMU is in use.
		let paths = ["fast_null", "light_hcall", "full_hcall"];
		paths.iter().map(|path| since(before, after, path).0).sum()
	};
	Ok((sum(&before.0, &after.0), sum(&before.1, &after.1)))
}

/// All but those in which the thread was scheduled out, and the hcall that registers the VPA,
/// should have cycles.
fn mostly_uncounted((spans, counted): (u64, u64)) -> bool {
	!(200..=201).contains(&spans) || counted < 190
}

/// A guest that uses the PMU has it, and no cycles are claimed.
pub fn guest_has_the_pmu(guest: GuestMode) -> Result<String, Failure> {
	choose(Column::RustFast)?;
	let mut machine = machine(guest, &ENABLE)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	let _setting = Setting::on("stats")?;
	let free = hcalls_with_cycles(&mut machine, &file)?;
	guest_pmu(&machine, true);
	let used = hcalls_with_cycles(&mut machine, &file)?;
	guest_pmu(&machine, false);
	// KVM takes the PMU away at the end of the first run without it.
	perform(&mut machine, case!("null"), 1)?;
	let again = hcalls_with_cycles(&mut machine, &file)?;
	if used != (200, 0) || [free, again].into_iter().any(mostly_uncounted) {
		return wrong(format!(
			"hcalls with ticks and cycles: {free:?}, {used:?} with the PMU in use, {again:?}"
		));
	}

	// It says so while it runs, with our counter counting.
	let command = Command {
		job: Job::CLAIM_PMU,
		..Command::default()
	};
	// After the claim the first exit is a page fault: by a light exit if translation is on.
	machine
		.memory()
		.renew(map::FRESH, map::FRESH_PAGE as usize)?;
	let before = counters()?;
	let mut found = None;
	machine.start(command);
	loop {
		match machine.step()? {
			Stop::Done(_) => break,
			Stop::Call((private::UNKNOWN, [seen, ..])) => {
				let vcpu = machine.vcpu();
				found = Some((
					(seen as u32).into(),
					(seen >> 32) as u32,
					vcpu.one_reg(KVM_REG_PPC_MMCR0)? as u64,
					vcpu.one_reg(KVM_REG_PPC_PMC6)? as u32,
				));
			}
			Stop::Interrupted => {}
			_ => return wrong("the guest does something else".into()),
		}
	}
	let frozen = Mmcr0::FC.bits();
	if found != Some((frozen, 0, frozen, 0)) {
		return wrong(format!(
			"the guest's MMCR0 and PMC6, seen by it and by userspace: {found:x?}"
		));
	}
	let after = counters()?;
	let faults = counter(&after, "light_page_fault") - counter(&before, "light_page_fault");
	if guest == GuestMode::Radix && faults == 0 {
		return wrong("the page fault was no light exit".into());
	}
	Ok(format!(
		"of 200 hcalls {}, {}, {} with cycles",
		free.1, used.1, again.1
	))
}

/// While perf counts on the CPU the PMU is perf's, and no cycles are claimed.
pub fn perf_has_the_pmu(guest: GuestMode) -> Result<String, Failure> {
	choose(Column::RustFast)?;
	let mut machine = machine(guest, &ENABLE)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	let _setting = Setting::on("stats")?;
	let free = hcalls_with_cycles(&mut machine, &file)?;
	let _cpu = OneCpu::new(0)?;
	let perf = PerfCycles::new(0)?;
	let before = perf.count()?;
	let used = hcalls_with_cycles(&mut machine, &file)?;
	let after = perf.count()?;
	drop(perf);
	let again = hcalls_with_cycles(&mut machine, &file)?;
	pmu_at_rest()?;
	let what = format!(
		"hcalls with ticks and cycles: {free:?}, {used:?} with perf, which counted {} cycles, \
		 {again:?}",
		after - before
	);
	if used != (200, 0) || [free, again].into_iter().any(mostly_uncounted) {
		return wrong(what);
	}
	// Some hundred thousand instructions, and what the guest does is not perf's.
	if after - before < 100_000 {
		return wrong(what);
	}
	Ok(what)
}

/// perf takes the PMU at any moment, from another CPU. Both count right, each in its time.
pub fn perf_comes_and_goes(guest: GuestMode) -> Result<String, Failure> {
	const CALLS: u64 = 1000;
	/// How often perf has to come, and jobs in which it does at the latest.
	const TAKEN: u64 = 40;
	const JOBS: u64 = 2000;
	const INTERVAL: Duration = Duration::from_micros(150);
	choose(Column::RustFast)?;
	let mut machine = machine(guest, &ENABLE)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	let _setting = Setting::on("stats")?;
	let _cpu = OneCpu::new(0)?;
	perform(&mut machine, case!("null"), 1)?;
	let before = times_and_cycles(&file)?;
	let (stop, taken) = (AtomicBool::new(false), AtomicU64::new(0));
	let (result, taker) = thread::scope(|scope| {
		let taker = scope.spawn(|| -> Result<(), Failure> {
			let _cpu = OneCpu::new(1)?;
			while !stop.load(Ordering::Relaxed) {
				let perf = PerfCycles::new(0)?;
				thread::sleep(INTERVAL);
				if perf.count()? == 0 {
					return wrong("perf counted nothing".into());
				}
				drop(perf);
				taken.fetch_add(1, Ordering::Relaxed);
				thread::sleep(INTERVAL);
			}
			Ok(())
		});
		// A job of NULL hcalls is short, so perf has the PMU in most of them on a slow kernel.
		let null_was_counted = || {
			let cycles = times_and_cycles(&file)?.1;
			Ok::<_, Failure>(since(&before.1, &cycles, "fast_null").0 > 0)
		};
		let result = (|| {
			let mut jobs = 0;
			while jobs < JOBS && (taken.load(Ordering::Relaxed) < TAKEN || !null_was_counted()?) {
				perform(&mut machine, case!("h_prod"), CALLS)?;
				perform(&mut machine, case!("null"), CALLS)?;
				jobs += 1;
			}
			Ok::<_, Failure>(jobs)
		})();
		stop.store(true, Ordering::Relaxed);
		(result, taker.join().expect("it doesn't panic"))
	});
	let calls = result? * CALLS;
	taker?;
	let taken = taken.into_inner();
	// perf leaves in PMC6 what it didn't use.
	let (mmcr0, _) = user_pmu();
	if !Mmcr0::from_bits_retain(mmcr0).contains(Mmcr0::FC) {
		return wrong(format!("the PMU has not been stopped: MMCR0 {mmcr0:#x}"));
	}
	let after = times_and_cycles(&file)?;
	let mut told = vec![format!("perf came {taken} times")];
	let (mut wrong_ones, mut spans_of, mut counted_of) = (vec![], vec![], vec![]);
	for path in ["fast_null", "light_hcall", "full_hcall"] {
		let (spans, _) = since(&before.0, &after.0, path);
		let (counted, _) = since(&before.1, &after.1, path);
		let (ticks, cycles) = (&after.0[path], &after.1[path]);
		// A span would be too short or too long if another user had the counter.
		let shortest = (cycles.min + 4) * 512 >= ticks.min * 1000;
		let longest = cycles.max * 512 <= (ticks.max + 2) * 1000;
		if counted > 0 && !(shortest && longest) {
			wrong_ones.push(path);
		}
		spans_of.push(spans);
		counted_of.push(counted);
		told.push(format!(
			"{path}: {spans} spans of {} to {} ticks, {counted} of {} to {} cycles",
			ticks.min, ticks.max, cycles.min, cycles.max
		));
	}
	let told = told.join("; ");
	// H_PROD takes the full exit while perf has the PMU. perf can come and go in one.
	let [null, light, full] = spans_of[..] else {
		return wrong(told);
	};
	let all = null >= calls && light + full >= calls;
	let some = counted_of[0] > 0 && counted_of[0] < null && counted_of[1] > 0 && full > 0;
	if taken < TAKEN || !all || !some || !wrong_ones.is_empty() {
		return wrong(told);
	}
	Ok(told)
}
