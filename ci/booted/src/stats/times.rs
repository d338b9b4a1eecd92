// SPDX-License-Identifier: GPL-2.0-only
//! Times by vcpu: `p9_times`.

use std::collections::BTreeMap;
use std::time::Duration;

use cases::{Case, SPIN, case};
use powerpc::SpanKind;
use protocol::{Column, GuestMode, map};
use vmm::command;
use vmm::kvm::EventFd;
use vmm::machine::{Failure, Machine, Request};
use vmm::timer::{Delivery, Volley};

use super::{ENABLE, LIMIT, Setting, machine, perform, read, write};
use crate::common::{choose, wrong};

/// A line of a vcpu's `p9_times`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Times {
	pub(super) count: u64,
	pub(super) total: u64,
	pub(super) min: u64,
	pub(super) max: u64,
	/// Spans by the least that they can have been.
	pub(super) histogram: BTreeMap<u64, u64>,
}

/// Lines of it, by path.
pub(super) type ByPath = BTreeMap<String, Times>;

/// Those in ticks.
pub(super) fn times(file: &str) -> Result<ByPath, Failure> {
	Ok(times_and_cycles(file)?.0)
}

/// Reads those in ticks and those in cycles, and checks that the numbers of each line
/// agree.
pub(super) fn times_and_cycles(file: &str) -> Result<(ByPath, ByPath), Failure> {
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
	if ticks.len() != SpanKind::COUNT || ticks.keys().ne(cycles.keys()) {
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

pub(super) fn check(name: &str, times: &Times) -> Result<(), Failure> {
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
	const JOBS: [(&Case, u64); 8] = [
		(case!("null"), 1000),
		(case!("h_get_tce"), 300),
		(case!("h_put_tce"), 200),
		(case!("h_put_tce_indirect"), 100),
		(case!("h_stuff_tce_512"), 50),
		(case!("h_prod"), 400),
		(case!("h_random"), 250),
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
		let (path, expected) = match case.fast {
			Some(counter) if counter.starts_with("light_") => ("light_hcall", calls),
			Some(counter) => (counter, calls),
			// And the hcall that ended the job before.
			None => ("userspace", calls + 1),
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
				"full_decrementer" | "full_external" | "full_other" | "full_data_storage"
				| "light_decrementer" | "light_external" | "light_page_fault" => u64::MAX,
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
	told.push(without_light(&mut machine, &file)?);
	let means = told.join(", ");

	// A longer hcall takes longer, and the full path longer than a light exit.
	let now = times(&file)?;
	let mean = |name: &str| now[name].total / now[name].count;
	let order = ["fast_null", "light_hcall", "full_hcall", "userspace"];
	if mean("fast_null") >= mean("fast_h_stuff_tce")
		|| order.windows(2).any(|pair| mean(pair[0]) >= mean(pair[1]))
	{
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
	if (after["fast_null"].count, after["light_hcall"].count) != (70, 0) {
		return wrong("times were taken after they had been turned off".into());
	}
	Ok(format!("mean ticks: {means}"))
}

/// The same hcall without light exits, which takes the full exit.
fn without_light(machine: &mut Machine, file: &str) -> Result<String, Failure> {
	const CALLS: u64 = 100;
	let _light = Setting::off("light")?;
	let before = times(file)?;
	perform(machine, case!("h_prod"), CALLS)?;
	let after = times(file)?;
	let grown = |name: &str| after[name].count - before[name].count;
	let light: u64 = after
		.keys()
		.filter(|name| name.starts_with("light_"))
		.map(|name| grown(name))
		.sum();
	if (grown("full_hcall"), light) != (CALLS, 0) {
		return wrong(format!(
			"without light exits {} of {CALLS} full, and {light} light",
			grown("full_hcall")
		));
	}
	let Times { count, total, .. } = &after["full_hcall"];
	Ok(format!("full_hcall {}", total / count))
}

/// What ends the guest's run for a light exit is counted as what it was, and each exit once: stores to
/// an eventfd, page faults, and the host's timer.
pub fn light(guest: GuestMode) -> Result<String, Failure> {
	const JOBS: [(&Case, u64, &str); 3] = [
		(case!("mmio_ioeventfd_any"), 150, "data_storage"),
		(case!("first_touch"), 30, "page_fault"),
		(case!("decrementer"), 30, "decrementer"),
	];
	/// From when timers are set to the first, and from one to the next: some time more than setting
	/// all takes, and less than the guest computes.
	const DELAY: Duration = Duration::from_micros(400);
	const INTERVAL: Duration = Duration::from_nanos(SPIN / 2);
	choose(Column::RustFast)?;
	let mut machine = machine(guest, &ENABLE)?;
	let event = EventFd::new()?;
	machine.vm().add_event(&event, map::MMIO_EVENT_ANY, 0)?;
	let file = format!("{}/vcpu0/p9_times", machine.vm().debugfs());
	let _setting = Setting::on("stats")?;
	perform(&mut machine, case!("null"), 1)?;
	let mut told = vec![];
	for (case, rounds, kind) in JOBS {
		let volley = Volley::new(rounds, Delivery::Blocked)?;
		let before = times(&file)?;
		machine.perform_with(command::timing(case, rounds, 1), LIMIT, |machine, seen| {
			match (seen, kind) {
				(Request::Batch, "decrementer") => volley.set(rounds, DELAY, INTERVAL)?,
				(Request::Batch, _) => {
					let size = map::FRESH_PAGE * map::FRESH_PAGES;
					machine.memory().renew(map::FRESH, size as usize)?;
				}
				_ => return wrong(format!("{}: something reached userspace", case.name)),
			}
			Ok(())
		})?;
		let after = times(&file)?;
		let grown = |name: &str| after[name].count - before[name].count;
		let (light, full) = (format!("light_{kind}"), format!("full_{kind}"));
		let others: u64 = [
			"full_data_storage",
			"light_data_storage",
			"light_page_fault",
		]
		.into_iter()
		.filter(|other| *other != light)
		.map(&grown)
		.sum();
		let what = format!("{light} {} of {rounds}, {others} others", grown(&light));
		let right = match kind {
			// Some come together, and the host has timers of its own.
			"decrementer" => grown(&light) >= rounds / 2 && grown(&light) > grown(&full),
			// The guest's first access to its code, data and stack, and the first store.
			_ => (rounds - 1..=rounds + 4).contains(&grown(&light)) && others <= 4,
		};
		if !right {
			return wrong(what);
		}
		let Times { count, total, .. } = &after[&light];
		told.push(format!("{what}, {} ticks", total / count));
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
