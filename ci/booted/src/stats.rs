// SPDX-License-Identifier: GPL-2.0-only
//! Tests of what kvm-p9 tells operators: times by vcpu, who answered by VM, trace
//! events, and the kernel's own phases.
//!
//! The guest does known numbers of hcalls, so all counts are known too.

use core::arch::asm;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cases::{Case, case};
use hcall::Number;
use powerpc::Mmcr0;
use protocol::{Column, Command, GuestMode, Job, map, private};

use crate::common::{choose, wrong};
use crate::cpus::OneCpu;
use crate::perf::PerfCycles;
use vmm::abi::{KVM_REG_PPC_MMCR0, KVM_REG_PPC_PMC6};
use vmm::command;
use vmm::host;
use vmm::machine::{Config, Failure, Machine, Step};

/// Longer than any of the guest's jobs here takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);
const VMS: &str = "/sys/kernel/debug/kvm_p9/vms";
const TRACING: &str = "/sys/kernel/tracing";
const EVENT: &str = "events/kvm_p9/fast_hcall/enable";

/// What has to be enabled for the hcalls here.
const ENABLE: [Number; 3] = [Number::NULL, Number::PUT_TCE_INDIRECT, Number::STUFF_TCE];

fn read(file: &str) -> Result<String, Failure> {
	std::fs::read_to_string(file).map_err(|e| Failure::Wrong(format!("{file}: {e}")))
}

fn write(file: &str, text: &str) -> Result<(), Failure> {
	std::fs::write(file, text).map_err(|e| Failure::Wrong(format!("{file}: {e}")))
}

fn machine(guest: GuestMode, enable: &[Number]) -> Result<Machine, Failure> {
	Machine::new(Config {
		guest,
		enable,
		window: true,
	})
}

/// Has the guest do an hcall `calls` times, and gives the ticks that it took, by the
/// guest's clock.
fn perform(machine: &mut Machine, case: &'static Case, calls: u64) -> Result<u64, Failure> {
	let outcome = machine.perform(command::timing(case, calls, 1), LIMIT, |_| {})?;
	if outcome.mismatches > 0 {
		let (name, code) = (case.name, outcome.wrong_code as i64);
		return wrong(format!("{name}: wrong codes, the first {code}"));
	}
	Ok(outcome.ticks[0])
}

/// A parameter that is 1 until this is dropped.
pub struct Setting(&'static str);

impl Setting {
	/// Sets it.
	pub fn on(name: &'static str) -> Result<Self, Failure> {
		host::set_parameter(name, "1").map_err(|e| Failure::Unsupported(e.to_string()))?;
		Ok(Self(name))
	}
}

impl Drop for Setting {
	fn drop(&mut self) {
		host::set_parameter(self.0, "0").expect("what was set can be reset");
	}
}

/// A line of a vcpu's `p9_times`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Times {
	count: u64,
	total: u64,
	min: u64,
	max: u64,
	/// Spans by the least that they can have been.
	histogram: BTreeMap<u64, u64>,
}

/// Lines of it, by path.
type ByPath = BTreeMap<String, Times>;

/// Those in ticks.
fn times(file: &str) -> Result<ByPath, Failure> {
	Ok(times_and_cycles(file)?.0)
}

/// Reads those in ticks and those in cycles, and checks that the numbers of each line
/// agree.
fn times_and_cycles(file: &str) -> Result<(ByPath, ByPath), Failure> {
	let text = read(file)?;
	let (mut ticks, mut cycles) = (ByPath::new(), ByPath::new());
	for line in text.lines().filter(|line| !line.starts_with('#')) {
		let garbled = || Failure::Wrong(format!("{file}: \"{line}\""));
		let number = |text: &str| text.parse::<u64>().map_err(|_| garbled());
		let words: Vec<_> = line.split(' ').collect();
		let [name, unit, count, total, min, max, histogram @ ..] = &words[..] else {
			return Err(garbled());
		};
		let histogram = histogram
			.iter()
			.map(|place| {
				let (from, spans) = place.split_once(':').ok_or_else(garbled)?;
				Ok((number(from)?, number(spans)?))
			})
			.collect::<Result<BTreeMap<_, _>, Failure>>()?;
		let times = Times {
			count: number(count)?,
			total: number(total)?,
			min: number(min)?,
			max: number(max)?,
			histogram,
		};
		check(name, &times)?;
		let all = match *unit {
			"ticks" => &mut ticks,
			"cycles" => &mut cycles,
			_ => return Err(garbled()),
		};
		all.insert((*name).to_owned(), times);
	}
	if ticks.len() != 12 || ticks.keys().ne(cycles.keys()) {
		return wrong(format!(
			"{file} is of {:?} in ticks and {:?} in cycles",
			ticks.keys(),
			cycles.keys()
		));
	}
	if ticks
		.iter()
		.any(|(name, all)| cycles[name].count > all.count)
	{
		return wrong(format!("{file}: more spans with cycles than without"));
	}
	Ok((ticks, cycles))
}

fn check(name: &str, times: &Times) -> Result<(), Failure> {
	let Times {
		count,
		total,
		min,
		max,
		histogram,
	} = times;
	let spans: u64 = histogram.values().sum();
	// Each span is at least its place's bound and less than twice that, but in the last.
	let least: u64 = histogram.iter().map(|(from, spans)| from * spans).sum();
	let first = histogram.keys().next().copied().unwrap_or(0);
	let last = histogram.keys().next_back().copied().unwrap_or(0);
	let agree = if *count == 0 {
		(*total, *min, *max, spans) == (0, 0, 0, 0)
	} else {
		min.checked_mul(*count).is_some_and(|low| low <= *total)
			&& max.checked_mul(*count).is_some_and(|high| *total <= high)
			&& spans == *count
			&& least <= *total
			&& first <= *min
			&& (*min < 2 * first || first == 0)
			&& last <= *max
	};
	if agree {
		Ok(())
	} else {
		wrong(format!("{name}: {times:?} don't agree"))
	}
}

/// Times are counted where they belong, exactly, only while they are asked for, and can
/// be started again.
pub fn counted(guest: GuestMode) -> Result<String, Failure> {
	const JOBS: [(&Case, u64); 7] = [
		(case!("null"), 1000),
		(case!("h_get_tce"), 300),
		(case!("h_put_tce"), 200),
		(case!("h_put_tce_indirect"), 100),
		(case!("h_stuff_tce_512"), 50),
		(case!("h_prod"), 400),
		(case!("unknown"), 60),
	];
	choose(Column::RustFast)?;
	let mut machine = machine(guest, &ENABLE)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	// The table's page comes into being, and the list's page is remembered.
	perform(&mut machine, case!("h_put_tce"), 2)?;
	perform(&mut machine, case!("h_put_tce_indirect"), 2)?;
	if times(&file)?
		.values()
		.any(|times| *times != Times::default())
	{
		return wrong("times were recorded while kvm_p9.stats was 0".into());
	}

	let setting = Setting::on("stats")?;
	// A span of any kind is open now.
	perform(&mut machine, case!("null"), 1)?;
	let mut told = vec![];
	for (case, calls) in JOBS {
		let before = times(&file)?;
		perform(&mut machine, case, calls)?;
		let after = times(&file)?;
		let grown = |name: &str| after[name].count - before[name].count;
		// Light exits are off while times are taken.
		let fast = case.fast.filter(|counter| counter.starts_with("fast_"));
		let (path, expected) = match (fast, case.name) {
			(Some(counter), _) => (counter, calls),
			(None, "h_prod") => ("full_hcall", calls),
			// And the hcall that ended the job before.
			(None, _) => ("userspace", calls + 1),
		};
		if grown(path) != expected {
			return wrong(format!(
				"{path}: {} instead of {expected} of {}",
				grown(path),
				case.name
			));
		}
		for other in after.keys() {
			let allowed = match other.as_str() {
				"full_decrementer" | "full_external" | "full_other" | "full_data_storage" => {
					u64::MAX
				}
				"userspace" => 1,
				_ => 0,
			};
			if other != path && grown(other) > allowed {
				return wrong(format!(
					"{}: {} counted as {other}",
					case.name,
					grown(other)
				));
			}
		}
		let Times { count, total, .. } = &after[path];
		told.push(format!("{path} {}", total / count));
	}
	let means = told.join(", ");

	// A longer hcall takes longer, and the full path longer than a fast handler.
	let now = times(&file)?;
	let mean = |name: &str| now[name].total / now[name].count;
	let order = ["fast_null", "fast_h_stuff_tce", "full_hcall", "userspace"];
	if order.windows(2).any(|pair| mean(pair[0]) >= mean(pair[1])) {
		return wrong(format!("mean ticks: {means}"));
	}

	match std::fs::write(&file, "1") {
		Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
		other => return wrong(format!("writing 1 to {file}: {other:?}")),
	}
	write(&file, "0")?;
	let (ticks, cycles) = times_and_cycles(&file)?;
	if ticks
		.values()
		.chain(cycles.values())
		.any(|times| *times != Times::default())
	{
		return wrong("0 did not start again at once".into());
	}
	perform(&mut machine, case!("null"), 70)?;
	let fast = times(&file)?["fast_null"].count;
	if fast != 70 {
		return wrong(format!("{fast} instead of 70 after starting again"));
	}

	drop(setting);
	perform(&mut machine, case!("null"), 100)?;
	perform(&mut machine, case!("h_prod"), 100)?;
	let after = times(&file)?;
	if (after["fast_null"].count, after["full_hcall"].count) != (70, 0) {
		return wrong("times were taken after they had been turned off".into());
	}
	Ok(format!("mean ticks: {means}"))
}

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
		(case!("h_prod"), 400, "full_hcall"),
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
		// All, unless the thread was scheduled out meanwhile: never in a fast handler.
		let missed = spans - counted;
		if spans != calls || missed > if path == "full_hcall" { calls / 20 } else { 0 } {
			return wrong(what);
		}
		if missed == 0 {
			// Each end of a span is rounded to a tick, and read some instructions apart.
			let apart = (cycles * 512).abs_diff(ticks * 1000);
			if cycles == 0 || apart > spans * 2 * 1000 {
				return wrong(what);
			}
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
		let paths = ["fast_null", "full_hcall"];
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
	let mut found = None;
	machine.start(command);
	loop {
		match machine.step()? {
			Step::Done(_) => break,
			Step::Call((private::UNKNOWN, _)) => {
				let vcpu = machine.vcpu();
				found = Some((
					vcpu.one_reg(KVM_REG_PPC_MMCR0)? as u64,
					vcpu.one_reg(KVM_REG_PPC_PMC6)? as u32,
				));
			}
			Step::Interrupted => {}
			_ => return wrong("the guest does something else".into()),
		}
	}
	if found != Some((Mmcr0::FC.bits(), 0)) {
		return wrong(format!("the guest's MMCR0 and PMC6: {found:x?}"));
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
	const JOBS: u64 = 20;
	const CALLS: u64 = 1000;
	const INTERVAL: Duration = Duration::from_micros(150);
	choose(Column::RustFast)?;
	let mut machine = machine(guest, &ENABLE)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	let _setting = Setting::on("stats")?;
	let _cpu = OneCpu::new(0)?;
	perform(&mut machine, case!("null"), 1)?;
	let before = times_and_cycles(&file)?;
	let stop = AtomicBool::new(false);
	let (result, taken) = thread::scope(|scope| {
		let taker = scope.spawn(|| -> Result<u64, Failure> {
			let _cpu = OneCpu::new(1)?;
			let mut taken = 0;
			while !stop.load(Ordering::Relaxed) {
				let perf = PerfCycles::new(0)?;
				thread::sleep(INTERVAL);
				if perf.count()? == 0 {
					return wrong("perf counted nothing".into());
				}
				drop(perf);
				taken += 1;
				thread::sleep(INTERVAL);
			}
			Ok(taken)
		});
		let result = (0..JOBS).try_for_each(|_| {
			perform(&mut machine, case!("h_prod"), CALLS)?;
			perform(&mut machine, case!("null"), CALLS).map(drop)
		});
		stop.store(true, Ordering::Relaxed);
		(result, taker.join().expect("it doesn't panic"))
	});
	result?;
	let taken = taken?;
	// perf leaves in PMC6 what it didn't use.
	let (mmcr0, _) = user_pmu();
	if !Mmcr0::from_bits_retain(mmcr0).contains(Mmcr0::FC) {
		return wrong(format!("the PMU has not been stopped: MMCR0 {mmcr0:#x}"));
	}
	let after = times_and_cycles(&file)?;
	let mut told = vec![];
	for path in ["full_hcall", "fast_null"] {
		let (spans, _) = since(&before.0, &after.0, path);
		let (counted, _) = since(&before.1, &after.1, path);
		let (ticks, cycles) = (&after.0[path], &after.1[path]);
		let what = format!(
			"{path}: {spans} spans of {} to {} ticks, {counted} of {} to {} cycles; perf came \
			 {taken} times",
			ticks.min, ticks.max, cycles.min, cycles.max
		);
		// A span would be too short or too long if another user had the counter.
		let shortest = (cycles.min + 4) * 512 >= ticks.min * 1000;
		let longest = cycles.max * 512 <= (ticks.max + 2) * 1000;
		let some = counted > 0 && counted < spans;
		if spans < JOBS * CALLS || taken < 20 || !some || !shortest || !longest {
			return wrong(what);
		}
		told.push(what);
	}
	Ok(told.join("; "))
}

/// A vcpu that comes while times are taken has them, too.
pub fn later_vcpu(guest: GuestMode) -> Result<String, Failure> {
	choose(Column::RustFast)?;
	let _setting = Setting::on("stats")?;
	let mut machine = machine(guest, &ENABLE)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	perform(&mut machine, case!("null"), 123)?;
	let times = times(&file)?;
	match times["fast_null"].count {
		123 => Ok(format!("123, {} ticks", times["fast_null"].total)),
		some => wrong(format!("{some} instead of 123")),
	}
}

/// What it costs not to ask, in hundredths of instructions per hcall: the guest's clock
/// ticks 512 times in 1000 instructions.
pub fn free(guest: GuestMode) -> Result<String, Failure> {
	const CALLS: u64 = 2000;
	let per_call = |ticks: u64| ticks * 100_000 / 512 / CALLS;
	let mut told = vec![];
	for (path, case) in [
		(Column::RustFast, case!("null")),
		(Column::RustFull, case!("null")),
		(Column::RustFull, case!("h_prod")),
		(Column::RustFull, case!("unknown")),
	] {
		choose(path)?;
		let mut machine = machine(guest, &ENABLE)?;
		perform(&mut machine, case, 16)?;
		// The least of some, as the host's timer comes into most.
		let mut least = || -> Result<u64, Failure> {
			let mut best = u64::MAX;
			for _ in 0..5 {
				best = best.min(perform(&mut machine, case, CALLS)?);
			}
			Ok(per_call(best))
		};
		let never = least()?;
		let setting = Setting::on("stats")?;
		let on = least()?;
		drop(setting);
		let off = least()?;
		let name = format!("{} {}", path.name(), case.name);
		let what = format!(
			"{name} {}.{:02} before, {}.{:02} on, {}.{:02} off",
			never / 100,
			never % 100,
			on / 100,
			on % 100,
			off / 100,
			off % 100
		);
		// The VMM's own instructions are in what goes to userspace, and are not always the same.
		let tolerance = if case.ends_in_userspace() { 600 } else { 200 };
		if never.abs_diff(off) > tolerance || on <= never + 500 {
			return wrong(what);
		}
		told.push(what);
	}
	Ok(told.join("; "))
}

/// Fast, full and to userspace, by VM and hcall.
type Served = BTreeMap<(String, String), [u64; 3]>;

fn served() -> Result<Served, Failure> {
	let mut all = BTreeMap::new();
	let text = read(VMS)?;
	for line in text.lines().filter(|line| !line.starts_with('#')) {
		let words: Vec<_> = line.split(' ').collect();
		let [vm, hcall, numbers @ ..] = &words[..] else {
			return wrong(format!("{VMS}: \"{line}\""));
		};
		let numbers: Vec<u64> = numbers.iter().flat_map(|word| word.parse()).collect();
		let Ok(numbers) = <[u64; 3]>::try_from(numbers) else {
			return wrong(format!("{VMS}: \"{line}\""));
		};
		let key = ((*vm).to_owned(), (*hcall).to_owned());
		if all.insert(key, numbers).is_some() {
			return wrong(format!("{VMS}: twice {vm} {hcall}"));
		}
	}
	Ok(all)
}

fn of(served: &Served, vm: &str, hcall: &str) -> Result<[u64; 3], Failure> {
	let key = (vm.to_owned(), hcall.to_owned());
	match served.get(&key) {
		Some(numbers) => Ok(*numbers),
		None => wrong(format!("{VMS}: no line {vm} {hcall}")),
	}
}

/// Every VM has its own numbers, they add up, and they outlive it.
pub fn by_vm(guest: GuestMode) -> Result<String, Failure> {
	choose(Column::RustFast)?;
	let before = served()?;
	let mut one = machine(guest, &ENABLE)?;
	// Here NULL, H_PUT_TCE_INDIRECT and H_STUFF_TCE are userspace's.
	let mut other = machine(guest, &[])?;
	let names = [one.vm().name(), other.vm().name()];

	perform(&mut one, case!("null"), 100)?;
	perform(&mut one, case!("h_put_tce"), 40)?;
	perform(&mut one, case!("h_put_tce_indirect"), 30)?;
	perform(&mut one, case!("h_stuff_tce_512"), 20)?;
	perform(&mut one, case!("h_get_tce"), 10)?;
	choose(Column::RustFull)?;
	perform(&mut one, case!("null"), 7)?;
	perform(&mut one, case!("h_get_tce"), 5)?;
	let mut command = command::timing(case!("null"), 9, 1);
	command.code = hcall::Code::FUNCTION.0;
	other.perform(command, LIMIT, |_| {})?;
	// Nothing is counted on the C path.
	choose(Column::C)?;
	perform(&mut one, case!("null"), 1000)?;
	choose(Column::RustFast)?;

	let now = served()?;
	let got = |vm: &str, hcall: &str| of(&now, vm, hcall);
	// The first of its kind took the full path: no page of the table, no list.
	let expected = [
		(0, "null", [100, 7, 0]),
		(0, "h_put_tce", [39, 1, 0]),
		(0, "h_put_tce_indirect", [29, 1, 0]),
		(0, "h_stuff_tce", [20, 0, 0]),
		(0, "h_get_tce", [10, 5, 0]),
		(1, "null", [0, 0, 9]),
		(1, "h_put_tce", [0, 0, 0]),
		(1, "h_get_tce", [0, 0, 0]),
	];
	for (vm, hcall, numbers) in expected {
		let found = got(&names[vm], hcall)?;
		if found != numbers {
			return wrong(format!("VM {vm}: {hcall} {found:?} instead of {numbers:?}"));
		}
	}
	drop((one, other));
	let after = served()?;
	if names.iter().any(|name| of(&after, name, "null").is_ok()) {
		return wrong("a VM is shown that was destroyed".into());
	}
	for hcall in [
		"null",
		"h_put_tce",
		"h_put_tce_indirect",
		"h_stuff_tce",
		"h_get_tce",
	] {
		let sum = |vm: &str| -> Result<[u64; 3], Failure> {
			let (a, b) = (of(&before, vm, hcall)?, of(&after, vm, hcall)?);
			Ok(std::array::from_fn(|n| b[n] - a[n]))
		};
		let mut both = [0; 3];
		for (_, _, numbers) in expected.iter().filter(|(_, name, _)| *name == hcall) {
			for (sum, number) in both.iter_mut().zip(numbers) {
				*sum += number;
			}
		}
		if sum("destroyed")? != both || sum("total")? != both {
			return wrong(format!(
				"{hcall}: {both:?} by two VMs, {:?} when they are gone, {:?} in all",
				sum("destroyed")?,
				sum("total")?
			));
		}
	}
	Ok("two VMs, fast, full, to userspace, and gone".into())
}

/// One trace event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
	vcpu: u64,
	hcall: u64,
	r4: u64,
	code: i64,
	tb: u64,
	ticks: u64,
}

fn event(line: &str) -> Option<Event> {
	let (_, rest) = line.split_once(" fast_hcall: VCPU ")?;
	let (vcpu, fields) = rest.split_once(": ")?;
	let fields: BTreeMap<_, _> = fields
		.split(' ')
		.filter_map(|field| field.split_once('='))
		.collect();
	let hex = |name: &str| {
		let text = fields.get(name)?;
		u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
	};
	Some(Event {
		vcpu: vcpu.parse().ok()?,
		hcall: hex("hcall")?,
		r4: hex("r4")?,
		code: fields.get("code")?.parse().ok()?,
		tb: fields.get("tb")?.parse().ok()?,
		ticks: fields.get("ticks")?.parse().ok()?,
	})
}

/// All fast hcalls are traced, in their order, and only while the event is enabled.
pub fn traced(guest: GuestMode) -> Result<String, Failure> {
	choose(Column::RustFast)?;
	host::mount_tracefs()?;
	let enable = format!("{TRACING}/{EVENT}");
	let trace = format!("{TRACING}/trace");
	let events = || -> Result<Vec<Event>, Failure> {
		read(&trace)?
			.lines()
			.filter(|line| !line.starts_with('#'))
			.map(|line| event(line).ok_or_else(|| Failure::Wrong(format!("trace: \"{line}\""))))
			.collect()
	};
	let mut machine = machine(guest, &ENABLE)?;
	let name = machine.vm().name();
	perform(&mut machine, case!("h_put_tce"), 2)?;
	write(&trace, "")?;

	let before = served()?;
	write(&enable, "1")?;
	let result = perform(&mut machine, case!("null"), 500)
		.and_then(|_| perform(&mut machine, case!("h_get_tce"), 100));
	write(&enable, "0")?;
	result?;
	let after = served()?;
	let traced = events()?;
	perform(&mut machine, case!("null"), 50)?;
	if events()?.len() != traced.len() {
		return wrong("an event came after they had been turned off".into());
	}
	write(&trace, "")?;

	let mut told = vec![];
	for (case, calls, hcall, r4) in [
		(case!("null"), 500, "null", 0),
		(
			case!("h_get_tce"),
			100,
			"h_get_tce",
			case!("h_get_tce").args[0],
		),
	] {
		let (a, b) = (of(&before, &name, hcall)?, of(&after, &name, hcall)?);
		let (fast, full) = (b[0] - a[0], b[1] - a[1]);
		let number = case.number.0;
		let these = traced.iter().filter(|event| event.hcall == number);
		let good = these
			.clone()
			.filter(|event| (event.vcpu, event.r4, event.code) == (0, r4, 0) && event.ticks > 0)
			.count() as u64;
		let what = format!(
			"{hcall}: {calls} calls, {fast} fast, {full} full, {} events, {good} of them right",
			these.count()
		);
		// A vcpu remembers 8, so one in 9 at most is sent the other way.
		if fast + full != calls || good != fast || full == 0 || full > calls / 8 {
			return wrong(what);
		}
		told.push(what);
	}
	if traced
		.windows(2)
		.any(|pair| pair[0].tb + pair[0].ticks > pair[1].tb)
	{
		return wrong("events are out of order".into());
	}
	Ok(told.join("; "))
}

/// Count, total, least and most of each of the kernel's own phases.
fn phases(file: &str) -> Result<BTreeMap<String, [u64; 4]>, Failure> {
	let mut all = BTreeMap::new();
	for line in read(file)?.lines() {
		let parsed = line.split_once(": ").and_then(|(name, rest)| {
			let numbers: Vec<u64> = rest.split(' ').flat_map(|word| word.parse()).collect();
			Some((name.to_owned(), <[u64; 4]>::try_from(numbers).ok()?))
		});
		let Some((name, numbers)) = parsed else {
			return wrong(format!("{file}: \"{line}\""));
		};
		all.insert(name, numbers);
	}
	Ok(all)
}

/// The phases that CONFIG_KVM_BOOK3S_HV_P9_TIMING adds come out alike on both paths.
pub fn timings(guest: GuestMode) -> Result<String, Failure> {
	const CALLS: u64 = 2000;
	const UNKNOWN: u64 = 200;
	let mut by_path = vec![];
	for path in [Column::C, Column::RustFull] {
		choose(path)?;
		let mut machine = machine(guest, &ENABLE)?;
		let file = format!("{}/vcpu0/timings", machine.vm().debugfs());
		if !std::path::Path::new(&file).exists() {
			return Err(Failure::Unsupported(
				"the kernel was built without CONFIG_KVM_BOOK3S_HV_P9_TIMING".into(),
			));
		}
		perform(&mut machine, case!("h_prod"), CALLS)?;
		perform(&mut machine, case!("unknown"), UNKNOWN)?;
		by_path.push(phases(&file)?);
	}
	let [c, rust] = &by_path[..] else {
		unreachable!("two paths");
	};
	let names = [
		"vcpu_entry",
		"guest_entry",
		"in_guest",
		"guest_exit",
		"vcpu_exit",
		"hypercall",
		"page_fault",
	];
	if c.keys().ne(rust.keys()) || names.iter().any(|name| !c.contains_key(*name)) {
		return wrong(format!("phases are {:?} and {:?}", c.keys(), rust.keys()));
	}
	let mut told = vec![];
	for name in names {
		let (c, rust) = (c[name], rust[name]);
		for [count, total, min, max] in [c, rust] {
			if count == 0 || min > max || min * count > total || total > max * count {
				return wrong(format!("{name}: C {c:?}, Rust {rust:?}"));
			}
		}
		// The host's timer comes in now and then.
		let least = match name {
			"guest_entry" | "in_guest" | "guest_exit" | "hypercall" => CALLS + UNKNOWN,
			"vcpu_entry" | "vcpu_exit" => UNKNOWN,
			_ => 1,
		};
		if c[0] < least || rust[0] < least || c[0].abs_diff(rust[0]) > 20 {
			return wrong(format!("{name}: {} by C, {} by Rust", c[0], rust[0]));
		}
		told.push(format!("{name} {}/{}", c[1] / c[0], rust[1] / rust[0]));
	}
	Ok(format!("mean ns C/Rust: {}", told.join(", ")))
}
