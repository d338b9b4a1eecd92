// SPDX-License-Identifier: GPL-2.0-only
//! What the hypervisor executes for a guest that reads from its passed-through disk.
//!
//! QEMU's plugin records spans ([`trace::span`]) while the guest does its reads, on each path
//! in turn, twice, in one boot. What the guest waits for is not the same each time, and
//! so are not its exits to wait; but a TCE hcall is a span of its own, and exact.
//!
//! An interrupt of the host's may arrive while it serves an hcall. That is not the hcall's:
//! the host would have had it a moment later, too, out of the guest. Long spans meet more
//! of them, so the mean of all spans is a little more than an hcall costs, and more so on
//! the slow path. Therefore the TCE hcalls' share is the mean of the spans that were
//! left alone, times the number of all. The mean of all and the median stand beside it.
//!
//! That a span has the instructions which were executed, no more and no less, is checked
//! in a second boot: there the benchmark's guest does TCE hcalls, and its own timebase
//! tells how many instructions each takes.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::report::console::{self, Cell, Line, Measured};
use ::report::measure;
use ::trace::attribute::FIRMWARE;
use ::trace::span::{self, Event, Part, Span};
use ::trace::symbols::{self, LINEAR, Symbols};
use anyhow::{Context, Result, anyhow, bail, ensure};
use cases::{Case, case};
use hcall::Number;
use protocol::{Column, GuestMode, marker};
use serde::Serialize;

use crate::trace;
use harness::check::Check;
use harness::kernel::Image;
use harness::paths;
use harness::process::{self, say};
use harness::programs::{self, Job};
use harness::qemu::{self, Echo, Limits, Machine};

/// Paths that are compared, in the order in which a guest goes through them.
const PATHS: [Column; 3] = [Column::C, Column::RustFull, Column::RustFast];
const ROUNDS: u64 = 2;

/// How far the two rounds on a path may lie apart, and how much more than C's path the
/// full Rust path may need: parts of the TCE hcalls' share.
const STEADY: f64 = 0.02;
const NOT_MORE: f64 = 0.005;
/// What the fast handlers may need of C's share.
const FAST: f64 = 0.5;

/// The hcalls that the reads are about.
const TCE: [(Number, &str); 4] = [
	(Number::GET_TCE, "H_GET_TCE"),
	(Number::PUT_TCE, "H_PUT_TCE"),
	(Number::PUT_TCE_INDIRECT, "H_PUT_TCE_INDIRECT"),
	(Number::STUFF_TCE, "H_STUFF_TCE"),
];

/// Some reads on one path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phase {
	/// What the guest calls it.
	pub tag: u64,
	/// The path.
	pub path: Column,
	/// From 1.
	pub round: u64,
}

/// All of them, as the guest does them.
pub fn phases() -> impl Iterator<Item = Phase> {
	(1..=ROUNDS)
		.flat_map(|round| PATHS.map(|path| (round, path)))
		.zip(1..)
		.map(|((round, path), tag)| Phase { tag, path, round })
}

impl fmt::Display for Phase {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "{}, round {}", self.path.name(), self.round)
	}
}

/// Spans of one kind, in a phase. Instructions are the hypervisor's.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Kind {
	name: String,
	/// How many there were.
	spans: u64,
	/// Instructions of all of them together.
	instructions: u64,
	/// Of one, the mean of all.
	mean: f64,
	/// The middle one.
	median: u64,
	/// How many were left alone by interrupts and userspace.
	quiet_spans: u64,
	/// The mean of these; of all, if there are none.
	quiet_mean: f64,
	/// Of `mean`, the firmware's part.
	firmware: f64,
	/// Of `mean`, the part of userspace: QEMU and all other processes that ran.
	userspace: f64,
}

impl Kind {
	/// `None` if there are none.
	fn new(name: &str, spans: &BTreeMap<Span, u64>, which: impl Fn(Event) -> bool) -> Option<Self> {
		let mut ours: Vec<(Span, u64)> = spans
			.iter()
			.filter(|(span, _)| which(span.event))
			.map(|(&span, &count)| (span, count))
			.collect();
		ours.sort_by_key(|(span, _)| span.len());
		let count: u64 = ours.iter().map(|(_, count)| count).sum();
		let (mut before, mut median) = (0, None);
		for (span, many) in &ours {
			before += many;
			if median.is_none() && 2 * before >= count {
				median = Some(span.len());
			}
		}
		let sum = |of: &dyn Fn(&Span) -> u64| -> u64 {
			ours.iter().map(|(span, count)| of(span) * count).sum()
		};
		let instructions = sum(&Span::len);
		let quiet_spans = sum(&|span| u64::from(span.is_quiet()));
		let quiet = sum(&|span| if span.is_quiet() { span.len() } else { 0 });
		let mean = |sum: u64| sum as f64 / count as f64;
		Some(Self {
			name: name.to_owned(),
			spans: count,
			instructions,
			mean: mean(instructions),
			median: median?,
			quiet_spans,
			quiet_mean: match quiet_spans {
				0 => mean(instructions),
				spans => quiet as f64 / spans as f64,
			},
			firmware: mean(sum(&|span| span.instructions[Part::Firmware as usize])),
			userspace: mean(sum(&|span| span.instructions[Part::User as usize])),
		})
	}
}

/// What a phase has cost.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Cost {
	path: &'static str,
	round: u64,
	reads: u64,
	/// Each TCE hcall that occurred.
	tce: Vec<Kind>,
	/// Other hcalls, and other exits, if there were any.
	others: Vec<Kind>,
	/// Instructions per read for TCE hcalls: the quiet mean for each of them.
	tce_per_read: f64,
	/// Instructions per read for all exits, everything included.
	all_per_read: f64,
}

impl Cost {
	fn new(phase: Phase, recorded: &[span::Phase], reads: u64) -> Result<Self> {
		let mut of_tag = recorded.iter().filter(|one| one.tag == phase.tag);
		let (Some(recorded), None) = (of_tag.next(), of_tag.next()) else {
			bail!("it was not recorded, or twice");
		};
		let spans = &recorded.spans;
		let all = |which: &dyn Fn(Event) -> bool| Kind::new("all", spans, which);
		for (event, what) in [
			(Event::Lost, "exits came through no vector"),
			(Event::Before, "exits came before the guest had begun"),
		] {
			if let Some(kind) = all(&|other| other == event) {
				bail!("{} {what}", kind.spans);
			}
		}
		let is_tce = |event| {
			TCE.iter()
				.any(|(number, _)| event == Event::Hcall(number.0))
		};
		let is_hcall = |event| matches!(event, Event::Hcall(_));
		let tce: Vec<Kind> = TCE
			.iter()
			.filter_map(|(number, name)| {
				Kind::new(name, spans, |event| event == Event::Hcall(number.0))
			})
			.collect();
		let hcalls: u64 = tce.iter().map(|kind| kind.spans).sum();
		// One that maps and one that unmaps.
		ensure!(
			hcalls >= 2 * reads,
			"only {hcalls} TCE hcalls in {reads} reads"
		);
		let others = [
			Kind::new("other hcalls", spans, |event| {
				is_hcall(event) && !is_tce(event)
			}),
			Kind::new("other exits", spans, |event| !is_hcall(event)),
		];
		let share: f64 = tce
			.iter()
			.map(|kind| kind.quiet_mean * kind.spans as f64)
			.sum();
		let everything = all(&|_| true).map_or(0, |kind| kind.instructions);
		Ok(Self {
			path: phase.path.name(),
			round: phase.round,
			reads,
			tce,
			others: others.into_iter().flatten().collect(),
			tce_per_read: share / reads as f64,
			all_per_read: everything as f64 / reads as f64,
		})
	}
}

/// A function's part of a TCE hcall.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Function {
	name: String,
	/// In what it is written.
	kind: String,
	/// Instructions per hcall.
	instructions: f64,
	/// Calls per hcall: how often its first instruction was executed. Unknown and 0 for
	/// the firmware.
	calls: f64,
}

/// From a function's global entry point to its local one, where it has two.
const LOCAL: u64 = 8;

struct Sum {
	kind: symbols::Kind,
	instructions: u64,
	/// Executions of what may be the one entry point and the other.
	global: u64,
	local: u64,
}

impl Sum {
	fn new(kind: symbols::Kind) -> Self {
		Self {
			kind,
			instructions: 0,
			global: 0,
			local: 0,
		}
	}
}

/// Which functions the quiet spans of a hcall consist of, on one path.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Profile {
	path: &'static str,
	hcall: &'static str,
	/// Most instructions first.
	functions: Vec<Function>,
}

impl Profile {
	fn new(
		path: Column,
		(number, hcall): (Number, &'static str),
		phases: &[&span::Phase],
		symbols: &Symbols,
	) -> Option<Self> {
		let event = Event::Hcall(number.0);
		let spans: u64 = phases
			.iter()
			.flat_map(|phase| &phase.spans)
			.filter(|(span, _)| span.event == event && span.is_quiet())
			.map(|(_, count)| count)
			.sum();
		let mut functions: BTreeMap<&str, Sum> = BTreeMap::new();
		let codes = phases.iter().filter_map(|phase| phase.code.get(&event));
		for (&real, &count) in codes.flatten() {
			let (name, kind, start) = match symbols.at(LINEAR + real) {
				_ if FIRMWARE.contains(&real) => ("firmware (OPAL)", symbols::Kind::Asm, None),
				Some(function) => (
					function.name.as_str(),
					function.kind,
					Some(function.start - LINEAR),
				),
				None => ("unknown", symbols::Kind::Asm, None),
			};
			let sum = functions.entry(name).or_insert_with(|| Sum::new(kind));
			sum.instructions += count;
			match start.map(|start| real - start) {
				Some(0) => sum.global += count,
				Some(LOCAL) => sum.local += count,
				_ => {}
			}
		}
		if spans == 0 {
			return None;
		}
		let each = |sum: u64| (sum as f64 / spans as f64 * 100.0).round() / 100.0;
		let mut functions: Vec<Function> = functions
			.into_iter()
			.map(|(name, sum)| Function {
				name: name.to_owned(),
				kind: format!("{:?}", sum.kind).to_lowercase(),
				instructions: each(sum.instructions),
				calls: each(sum.global.max(sum.local)),
			})
			.collect();
		functions.sort_by(|a, b| b.instructions.total_cmp(&a.instructions));
		Some(Self {
			path: path.name(),
			hcall,
			functions,
		})
	}

	/// What another has more, by function, the greatest differences first.
	fn difference<'a>(&'a self, other: &'a Self) -> Vec<(&'a str, f64)> {
		let mut differences: BTreeMap<&str, f64> = BTreeMap::new();
		for (profile, sign) in [(self, -1.0), (other, 1.0)] {
			for function in &profile.functions {
				*differences.entry(&function.name).or_default() += sign * function.instructions;
			}
		}
		let mut differences: Vec<_> = differences.into_iter().collect();
		differences.retain(|(_, difference)| difference.abs() >= 0.5);
		differences.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
		differences
	}
}

/// All that is written to the JSON file.
#[derive(Serialize)]
struct Report {
	kernel: String,
	object: Option<String>,
	machine: String,
	bytes_per_read: u64,
	costs: Vec<Cost>,
	profiles: Vec<Profile>,
}

/// Mean over the rounds on a path.
fn mean(costs: &[Cost], path: Column, of: impl Fn(&Cost) -> f64) -> Option<f64> {
	let values: Vec<f64> = costs
		.iter()
		.filter(|cost| cost.path == path.name())
		.map(of)
		.collect();
	(!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Says what the costs are.
fn table(costs: &[Cost]) -> String {
	let titles = ["C", "Rust full", "Rust fast"];
	let mut rows: Vec<(String, Vec<Option<f64>>, usize)> = Vec::new();
	let mut row = |title: String, digits, of: &dyn Fn(&Cost) -> Option<f64>| {
		let all = PATHS.map(|path| mean(costs, path, |cost| of(cost).unwrap_or(f64::NAN)));
		rows.push((title, all.to_vec(), digits));
	};
	for (_, name) in TCE {
		let find = |cost: &Cost| cost.tce.iter().find(|kind| kind.name == name).cloned();
		if costs.iter().all(|cost| find(cost).is_none()) {
			continue;
		}
		row(format!("{name}, hcalls per read"), 2, &|cost| {
			Some(find(cost)?.spans as f64 / cost.reads as f64)
		});
		row("  each, left alone".to_owned(), 0, &|cost| {
			Some(find(cost)?.quiet_mean)
		});
		row("  each, median".to_owned(), 0, &|cost| {
			Some(find(cost)?.median as f64)
		});
		row("  each, mean of all".to_owned(), 0, &|cost| {
			Some(find(cost)?.mean)
		});
		row("  of these the firmware's".to_owned(), 0, &|cost| {
			Some(find(cost)?.firmware)
		});
	}
	row("TCE hcalls, per read".to_owned(), 0, &|cost| {
		Some(cost.tce_per_read)
	});
	for name in ["other hcalls", "other exits"] {
		row(format!("{name}, per read"), 0, &|cost| {
			let kind = cost.others.iter().find(|kind| kind.name == name);
			Some(kind.map_or(0.0, |kind| kind.instructions as f64 / cost.reads as f64))
		});
	}
	row("all exits, per read".to_owned(), 0, &|cost| {
		Some(cost.all_per_read)
	});

	let width = rows
		.iter()
		.map(|(title, ..)| title.len())
		.max()
		.unwrap_or(0);
	let mut text = format!("{:width$}", "");
	for title in titles {
		let _ = write!(text, "{title:>12}");
	}
	let _ = write!(text, "\n{}\n", "-".repeat(text.len()));
	for (title, values, digits) in rows {
		let _ = write!(text, "{title:width$}");
		for value in values {
			let _ = match value {
				Some(value) if value.is_finite() => write!(text, "{value:12.digits$}"),
				_ => write!(text, "{:>12}", "-"),
			};
		}
		text.push('\n');
	}
	if let [Some(c), Some(full), Some(fast)] =
		PATHS.map(|path| mean(costs, path, |cost| cost.tce_per_read))
	{
		let _ = writeln!(
			text,
			"\nOf C's share for TCE hcalls Rust full needs {:.1}% and Rust fast {:.1}%.",
			full / c * 100.0,
			fast / c * 100.0
		);
	}
	text
}

/// Judges the costs of all phases.
fn judge(costs: &[Cost]) -> Vec<Check> {
	let mut checks = Vec::new();
	for path in PATHS {
		let shares: Vec<f64> = costs
			.iter()
			.filter(|cost| cost.path == path.name())
			.map(|cost| cost.tce_per_read)
			.collect();
		let result = match shares[..] {
			[one, other] if (one - other).abs() <= STEADY * one.min(other) => Ok(()),
			_ => Err(anyhow!(
				"TCE hcalls take {shares:.1?} instructions per read"
			)),
		};
		checks.push(Check::of(
			format!("cost, steady on {}", path.name()),
			result,
		));
	}
	let share = |path| mean(costs, path, |cost| cost.tce_per_read);
	let at_most = |path: Column, part: f64| {
		let result = match (share(path), share(Column::C)) {
			(Some(ours), Some(c)) if ours <= part * c => Ok(()),
			(Some(ours), Some(c)) => Err(anyhow!(
				"{ours:.0} instructions per read, and C's {c:.0}: {:.1}%, not {:.1}%",
				ours / c * 100.0,
				part * 100.0
			)),
			_ => Err(anyhow!("not measured")),
		};
		Check::of(format!("cost, TCE hcalls on {}", path.name()), result)
	};
	checks.push(at_most(Column::RustFull, 1.0 + NOT_MORE));
	checks.push(at_most(Column::RustFast, FAST));
	checks
}

/// Cases of the benchmark that are done to find out whether spans are exact.
const CALIBRATED: [(&Case, Number); 2] = [
	(case!("h_get_tce"), Number::GET_TCE),
	(case!("h_put_tce_indirect_16"), Number::PUT_TCE_INDIRECT),
];
/// So few that the host's timer doesn't come into most batches.
const ITERATIONS: u64 = 64;
const BATCHES: u64 = 3;

/// What rounding may do to a figure.
const ROUNDING: f64 = 0.001;

/// For a boot that takes some seconds on an idle machine.
const TIME: Duration = Duration::from_secs(300);

/// What QEMU has recorded.
fn read(file: &Path) -> Result<Vec<span::Phase>> {
	let name = || paths::short(file);
	let open = File::open(file).with_context(name)?;
	span::read(open).with_context(name)
}

/// Whether the spans of a case are as long as the guest's timebase says.
fn exact(
	measured: &[Measured],
	recorded: &[span::Phase],
	case: &'static Case,
	number: Number,
	path: Column,
) -> Result<()> {
	let of_cell = |cell: Cell| (cell.case, cell.guest, cell.path) == (case, GuestMode::Radix, path);
	let measured = measured
		.iter()
		.find(|measured| of_cell(measured.cell))
		.context("the guest has measured nothing")?;
	let told = measure::cost(measured)
		.map_err(anyhow::Error::msg)?
		.call
		.median;
	let tag = cases::tag(case, GuestMode::Radix, path);
	let spans = recorded
		.iter()
		.find(|phase| phase.tag == tag)
		.and_then(|phase| {
			Kind::new(case.name, &phase.spans, |event| {
				event == Event::Hcall(number.0)
			})
		})
		.context("no spans")?;
	let least = ITERATIONS * BATCHES;
	ensure!(spans.spans >= least, "only {} spans", spans.spans);
	// The guest's own part of the round trip is `sc 1`.
	let counted = spans.median as f64 + 1.0;
	// The empty loop's figure is off by as much as the other.
	let tolerance = 2.0 * measure::resolution(ITERATIONS) + ROUNDING;
	ensure!(
		(told - counted).abs() <= tolerance,
		"the spans have {counted} instructions, the timebase says {told}"
	);
	Ok(())
}

/// A record of spans that QEMU makes.
pub struct Spans {
	plugin: PathBuf,
	file: PathBuf,
	symbols: Symbols,
}

impl Spans {
	/// Builds the plugin. An error if there can be no record.
	pub fn new(image: &Image) -> Result<Self> {
		trace::available()?;
		let plugin = trace::plugin()?;
		let vmlinux = fs::read(image.vmlinux())
			.with_context(|| format!("can't read {}", image.vmlinux().display()))?;
		if symbols::contains_word(&vmlinux, &marker::ALL).map_err(|e| anyhow!(e))? {
			bail!("the kernel's code has a word that is a marker of ours");
		}
		let symbols = Symbols::new(&vmlinux, &trace::sources(image)?).map_err(|e| anyhow!(e))?;
		let file = paths::target().join("test/passthrough-cost.spans");
		fs::create_dir_all(paths::target().join("test"))?;
		process::remove(&file)?;
		Ok(Self {
			plugin,
			file,
			symbols,
		})
	}

	/// What QEMU has to be told.
	pub fn options(&self) -> Vec<String> {
		// A comma in a path would end the option.
		let path = |path: &Path| path.display().to_string().replace(',', ",,");
		let plugin = format!(
			"file={},spans={},kernel={:#x}",
			path(&self.plugin),
			path(&self.file),
			self.symbols.end() - LINEAR
		);
		["-plugin".to_owned(), plugin].to_vec()
	}

	/// Has the benchmark's guest do TCE hcalls, of which its timebase says what they take,
	/// on this file. It is gone afterwards.
	pub fn calibrate(&self, image: &Image) -> Result<Vec<Check>> {
		let job = Job::Bench {
			series: image.series.clone(),
			cases: CALIBRATED.map(|(case, _)| case.name).to_vec(),
			guests: vec![GuestMode::Radix.name()],
			paths: PATHS.map(|path| path.name()).to_vec(),
			iterations: ITERATIONS,
			batches: BATCHES,
		};
		let machine = Machine {
			kernel: image.stripped(),
			initrd: programs::build()?.initrd(&job, "cost")?,
			append: String::new(),
			smp: 1,
			mem: "2G".to_owned(),
			icount: true,
		};
		let options = self.options();
		let options: Vec<&str> = options.iter().map(String::as_str).collect();
		let limits = Limits {
			total: TIME,
			silence: TIME,
		};
		let mut measured = Vec::new();
		machine.run_with(&options, limits, Echo::No, |line| {
			let Some(Ok(line)) = console::parse(line) else {
				return false;
			};
			if let Line::Result(result) = line {
				measured.push(result);
			}
			true
		})?;
		let recorded = read(&self.file)?;
		process::remove(&self.file)?;
		let checks = CALIBRATED.iter().flat_map(|&(case, number)| {
			let (measured, recorded) = (&measured, &recorded);
			PATHS.map(move |path| {
				let result = exact(measured, recorded, case, number, path);
				Check::of(
					format!("cost, exact for {} on {}", case.name, path.name()),
					result,
				)
			})
		});
		Ok(checks.collect())
	}

	/// Reads the record, tells and keeps what it says, and judges it.
	pub fn judge(&self, image: &Image, reads: u64) -> Vec<Check> {
		let recorded = match read(&self.file) {
			Ok(recorded) => recorded,
			Err(why) => return vec![Check::of("cost, record", Err(why))],
		};
		let (mut checks, mut costs) = (Vec::new(), Vec::new());
		for phase in phases() {
			let cost = Cost::new(phase, &recorded, reads);
			let result = cost.map(|cost| costs.push(cost));
			checks.push(Check::of(format!("cost on {phase}"), result));
		}
		let profiles: Vec<Profile> = PATHS
			.iter()
			.flat_map(|&path| {
				let tags: Vec<u64> = phases()
					.filter(|phase| phase.path == path)
					.map(|phase| phase.tag)
					.collect();
				let of_path: Vec<_> = recorded
					.iter()
					.filter(|phase| tags.contains(&phase.tag))
					.collect();
				TCE.into_iter()
					.filter_map(|hcall| Profile::new(path, hcall, &of_path, &self.symbols))
					.collect::<Vec<_>>()
			})
			.collect();
		checks.extend(judge(&costs));
		say(format_args!(
			"instructions of the hypervisor, {reads} reads of 64 KiB on each path, {ROUNDS} times:"
		));
		println!("{}", table(&costs));
		tell_differences(&profiles);
		checks.push(Check::of(
			"cost, report",
			self.write(image, costs, profiles),
		));
		checks
	}

	fn write(&self, image: &Image, costs: Vec<Cost>, profiles: Vec<Profile>) -> Result<()> {
		let report = Report {
			kernel: image.release.clone(),
			object: image.object_hash.clone(),
			machine: qemu::version()?,
			bytes_per_read: 64 << 10,
			costs,
			profiles,
		};
		let path = paths::target().join("test/passthrough-cost.json");
		process::write_whole(&path, serde_json::to_string_pretty(&report)?.as_bytes())?;
		say(format_args!("{}", paths::short(&path)));
		Ok(())
	}
}

/// Functions of which the paths differ most.
const TOLD: usize = 8;

fn tell_differences(profiles: &[Profile]) {
	for (_, hcall) in TCE {
		let of = |path: Column| {
			profiles
				.iter()
				.find(|profile| profile.path == path.name() && profile.hcall == hcall)
		};
		for path in [Column::RustFull, Column::RustFast] {
			let (Some(c), Some(ours)) = (of(Column::C), of(path)) else {
				continue;
			};
			let all = c.difference(ours);
			let sum: f64 = all.iter().map(|(_, difference)| difference).sum();
			let told: Vec<String> = all
				.iter()
				.take(TOLD)
				.map(|(name, difference)| format!("{name} {difference:+.0}"))
				.collect();
			say(format_args!(
				"{hcall} on {} against C: {sum:+.0}; {}",
				path.name(),
				told.join(", ")
			));
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use harness::check::Verdict;

	const INDIRECT: Event = Event::Hcall(Number::PUT_TCE_INDIRECT.0);
	const STUFF: Event = Event::Hcall(Number::STUFF_TCE.0);
	const CEDE: Event = Event::Hcall(Number::CEDE.0);

	fn spans(all: &[(Event, [u64; 3], u64, u64)]) -> BTreeMap<Span, u64> {
		let spans = all.iter().map(|&(event, instructions, interrupts, count)| {
			let span = Span {
				event,
				instructions,
				interrupts,
			};
			(span, count)
		});
		spans.collect()
	}

	fn phase(tag: u64, each: u64) -> span::Phase {
		span::Phase {
			tag,
			spans: spans(&[
				(INDIRECT, [each, 100, 0], 0, 9),
				(INDIRECT, [each + 500, 100, 0], 1, 1),
				(STUFF, [each, 0, 0], 0, 10),
				(CEDE, [1000, 0, 0], 0, 2),
				(CEDE, [1000, 0, 700], 0, 1),
				(Event::Vector(0x980), [300, 0, 0], 0, 1),
			]),
			code: BTreeMap::new(),
		}
	}

	fn costs(each: [u64; 3]) -> Vec<Cost> {
		phases()
			.map(|which| {
				let path = PATHS.iter().position(|&path| path == which.path).unwrap();
				Cost::new(which, &[phase(which.tag, each[path])], 10).unwrap()
			})
			.collect()
	}

	#[test]
	fn shares_are_of_what_was_left_alone() {
		let costs = costs([1000, 1000, 1000]);
		let cost = &costs[0];
		let indirect = &cost.tce[0];
		assert_eq!(
			(indirect.name.as_str(), indirect.spans),
			("H_PUT_TCE_INDIRECT", 10)
		);
		assert_eq!((indirect.quiet_spans, indirect.quiet_mean), (9, 1100.0));
		assert_eq!(
			(indirect.mean, indirect.median, indirect.firmware),
			(1150.0, 1100, 100.0)
		);
		assert_eq!(cost.tce_per_read, 2100.0);
		assert_eq!(cost.others[0].userspace, 700.0 / 3.0);
		// 11500, 10000, 3700 and 300 in ten reads.
		assert_eq!(cost.all_per_read, 2550.0);
	}

	#[test]
	fn a_median_counts_spans() {
		let of = |counts: &[(u64, u64)]| {
			let all: Vec<_> = counts
				.iter()
				.map(|&(len, count)| (STUFF, [len, 0, 0], 0, count))
				.collect();
			Kind::new("", &spans(&all), |_| true).map(|kind| kind.median)
		};
		assert_eq!(of(&[(1, 2), (9, 3)]), Some(9));
		assert_eq!(of(&[(1, 3), (9, 2)]), Some(1));
		assert_eq!(of(&[(1, 1), (5, 1), (9, 1)]), Some(5));
		assert_eq!(of(&[]), None);
	}

	#[test]
	fn what_was_not_seen_is_no_cost() {
		let first = phases().next().unwrap();
		let error = |recorded: &[span::Phase], reads| {
			Cost::new(first, recorded, reads).unwrap_err().to_string()
		};
		assert_eq!(error(&[], 10), "it was not recorded, or twice");
		let twice = [phase(1, 5), phase(1, 5)];
		assert_eq!(error(&twice, 10), "it was not recorded, or twice");
		assert_eq!(error(&[phase(1, 5)], 11), "only 20 TCE hcalls in 11 reads");
		let mut lost = phase(1, 5);
		lost.spans.extend(spans(&[(Event::Lost, [1, 0, 0], 0, 3)]));
		assert_eq!(error(&[lost], 10), "3 exits came through no vector");
	}

	fn failed(costs: &[Cost]) -> Vec<String> {
		judge(costs)
			.into_iter()
			.filter(|check| matches!(check.verdict, Verdict::Failed(_)))
			.map(|check| check.name)
			.collect()
	}

	#[test]
	fn each_way_to_cost_too_much() {
		let none: [&str; 0] = [];
		assert_eq!(failed(&costs([1000, 1000, 400])), none);
		// 1050 and 525 with the firmware's part.
		assert_eq!(failed(&costs([1000, 1000, 475])), none);
		assert_eq!(
			failed(&costs([1000, 1000, 476])),
			["cost, TCE hcalls on rust-fast"]
		);
		assert_eq!(
			failed(&costs([1000, 1020, 400])),
			["cost, TCE hcalls on rust-full"]
		);
		let mut unsteady = costs([1000, 1000, 400]);
		unsteady[4] = Cost {
			tce_per_read: 1.03 * unsteady[4].tce_per_read,
			..unsteady[4].clone()
		};
		unsteady[0].tce_per_read *= 1.02;
		assert_eq!(failed(&unsteady), ["cost, steady on rust-full"]);
		assert_eq!(failed(&[]).len(), 5);
	}

	#[test]
	fn the_table_has_all_that_was_measured() {
		let text = table(&costs([2000, 1900, 800]));
		let row = |title: &str| {
			let line = text.lines().find(|line| line.starts_with(title)).unwrap();
			let cells: Vec<_> = line[title.len()..].split_whitespace().collect();
			cells.join(" ")
		};
		assert_eq!(row("H_STUFF_TCE, hcalls per read"), "1.00 1.00 1.00");
		assert_eq!(row("  each, left alone"), "2100 2000 900");
		assert_eq!(row("  each, mean of all"), "2150 2050 950");
		assert_eq!(row("TCE hcalls, per read"), "4100 3900 1700");
		assert_eq!(row("other exits, per read"), "30 30 30");
		assert_eq!(row("all exits, per read"), "4550 4350 2150");
		assert!(
			text.contains("Rust full needs 95.1% and Rust fast 41.5%."),
			"{text}"
		);
		assert!(!text.contains("H_GET_TCE"));
		// Without one of the paths there is no column of nonsense.
		let c = &costs([2000, 1900, 800])[..1];
		assert!(
			table(c)
				.lines()
				.any(|line| line.ends_with("4100           -           -"))
		);
	}

	#[test]
	fn profiles_tell_what_is_more() {
		let profile = |functions: &[(&str, f64)]| Profile {
			path: "c",
			hcall: "H_STUFF_TCE",
			functions: functions
				.iter()
				.map(|&(name, instructions)| Function {
					name: name.to_owned(),
					kind: "c".to_owned(),
					instructions,
					calls: 1.0,
				})
				.collect(),
		};
		let c = profile(&[("same", 5.0), ("c_only", 400.0), ("less", 10.0)]);
		let rust = profile(&[("same", 5.2), ("rust_only", 300.0), ("less", 4.0)]);
		assert_eq!(
			c.difference(&rust),
			[("c_only", -400.0), ("rust_only", 300.0), ("less", -6.0)]
		);
	}

	#[test]
	fn a_record_that_is_none_is_one_line() {
		let file = std::env::temp_dir().join(format!("kvm-p9-spans-{}", std::process::id()));
		let error = |content: &[u8]| {
			fs::write(&file, content).unwrap();
			format!("{:#}", read(&file).unwrap_err())
		};
		for (content, why) in [
			("", "this is not a record of spans of this version"),
			(
				"kvm-p9 spans 0\nend\n",
				"this is not a record of spans of this version",
			),
			(
				"kvm-p9 spans 1\nphase 1\n",
				"the record of spans ends in the middle",
			),
			(
				"kvm-p9 spans 1\nphase\nend\n",
				"the record of spans is damaged in line 2",
			),
		] {
			let error = error(content.as_bytes());
			assert!(
				error.ends_with(why) && error.lines().count() == 1,
				"{error}"
			);
		}
		fs::remove_file(&file).unwrap();
		assert_eq!(format!("{:#}", read(&file).unwrap_err()).lines().count(), 1);
	}

	fn measured(case: &'static Case, path: Column, each: f64) -> Measured {
		let ticks = |instructions: f64| (instructions * ITERATIONS as f64 * 0.512) as u64;
		Measured {
			cell: Cell {
				case,
				guest: GuestMode::Radix,
				path,
			},
			iterations: ITERATIONS,
			empty_ticks: vec![ticks(10.0)],
			ticks: vec![ticks(10.0 + each)],
			fast: None,
		}
	}

	#[test]
	fn spans_that_are_not_exact_are_found() {
		let (case, path) = (case!("h_get_tce"), Column::C);
		let recorded = |each, count| span::Phase {
			tag: cases::tag(case, GuestMode::Radix, path),
			spans: spans(&[(Event::Hcall(Number::GET_TCE.0), [each, 0, 0], 0, count)]),
			code: BTreeMap::new(),
		};
		let judge = |told, each, count| {
			let measured = [measured(case, path, told)];
			exact(
				&measured,
				&[recorded(each, count)],
				case,
				Number::GET_TCE,
				path,
			)
		};
		let count = ITERATIONS * BATCHES;
		judge(181.0, 180, count).unwrap();
		assert!(judge(181.0, 179, count).is_err());
		assert!(judge(181.0, 181, count).is_err());
		assert!(judge(181.0, 180, count - 1).is_err());
		assert!(exact(&[], &[recorded(180, count)], case, Number::GET_TCE, path).is_err());
	}
}
