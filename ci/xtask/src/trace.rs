// SPDX-License-Identifier: GPL-2.0-only
//! Where the instructions of a round trip go.
//!
//! The figures of the benchmark come from a machine without the plugin. This module boots the
//! same image, payload and VMM once more, with the project's QEMU plugin, for fewer round
//! trips, and adds what the figures consist of: costly operations, phases with their
//! functions, and modelled cycles. Both runs must execute the same instructions. So the
//! plugin's count is compared with the guest's timebase in the same run, and the round trip
//! with the figure of the other run.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ::report::console::{self, Cell, Line, Measured};
use ::report::report::{self, Report};
use ::report::{costly, measure};
use ::trace::attribute::{self, Labelled};
use ::trace::format::{Kind as Batch, Reader};
use ::trace::round;
use ::trace::symbols::{self, Kind, Sources, Symbols};
use anyhow::{Context, Result, anyhow, bail};
use cases::{Case, case};
use protocol::{Column, GuestMode, marker};

use crate::cells::{chosen_cases, paths_of};
use harness::check::Check;
use harness::kernel::Image;
use harness::paths;
use harness::process::{self, Once, say};
use harness::programs::{Job, Programs};
use harness::qemu::{self, Echo, Limits, Machine};

/// Round trips that are recorded of each cell.
const ITERATIONS: u64 = 64;
/// Of those that do so much in each that batches of them are smaller.
const LEAST: u64 = 16;

use model::Step;

/// One cell's round trip.
pub struct Traced {
	/// Which.
	pub cell: Cell,
	/// Instructions, without the loop.
	pub instructions: f64,
	/// How many round trips of those recorded were exactly this one.
	pub same: usize,
	/// Of how many.
	pub of: usize,
	/// Instructions of the whole batch, from one read of the timebase to the other.
	pub batch: u64,
	/// What the timebase said of it, in its ticks.
	pub ticks: u64,
	/// Operations per round trip, without the loop's.
	pub costly: BTreeMap<String, f64>,
	/// Phases, without the loop; empty without symbols.
	pub phases: Vec<report::Phase>,
	/// What was executed in `trips` round trips, for the model.
	pub steps: Vec<Step>,
	/// One, if one stands for all; else as many as were recorded.
	pub trips: usize,
	/// The loop alone, once.
	pub empty: Vec<Step>,
}

/// What a traced machine gave.
#[derive(Default)]
pub struct Outcome {
	/// The cells that went well.
	pub traced: Vec<Traced>,
	/// What did not.
	pub problems: Vec<String>,
}

/// Whether there can be a trace. If not, why.
pub fn available() -> Result<()> {
	let mut command = Command::new(qemu::QEMU);
	command.args(["-plugin", "help"]);
	command
		.stdin(Stdio::null())
		.stdout(Stdio::null())
		.stderr(Stdio::null());
	if !command.status().is_ok_and(|status| status.success()) {
		bail!("this QEMU has no plugins");
	}
	Ok(())
}

/// Builds the plugin, or finds it built: each time that the runner runs, once.
pub fn plugin() -> Result<PathBuf> {
	static BUILT: Once<PathBuf> = Once::new();
	BUILT.get(build_plugin)
}

fn build_plugin() -> Result<PathBuf> {
	let mut cargo = Command::new("cargo");
	cargo.current_dir(paths::root());
	cargo.args(["build", "--release", "--package", "kvm-p9-plugin"]);
	// A folder of its own: the cargo that runs this program may hold the lock of the usual one.
	let target = paths::target().join("plugin");
	cargo.arg("--target-dir").arg(&target);
	process::logged(
		&mut cargo,
		&paths::target().join("plugin.log"),
		"building kvm-p9-plugin",
		|line| line.trim_start().starts_with("Compiling"),
	)?;
	Ok(target.join("release/libkvm_p9_plugin.so"))
}

/// What the symbols of an image are written in, from the objects that it was linked from.
pub fn sources(image: &Image) -> Result<Sources> {
	let mut sources = Sources::default();
	let tree = image.tree();
	for file in process::files_below(&tree.join("arch/powerpc"))? {
		if file.extension().is_none_or(|extension| extension != "S") {
			continue;
		}
		let object = file.with_extension("o");
		let Ok(bytes) = fs::read(&object) else {
			continue;
		};
		let ours = file
			.file_name()
			.is_some_and(|name| name.to_string_lossy().starts_with("kvm_p9_"));
		let kind = if ours { Kind::Trampoline } else { Kind::Asm };
		// What is made for 32-bit userspace or the boot wrapper is none of the kernel's.
		if let Err(error) = sources.add(&bytes, kind) {
			bail!("{}: {error}", object.display());
		}
	}
	if let Ok(bytes) = fs::read(tree.join("arch/powerpc/kvm/kvm_p9_rust.o")) {
		sources
			.add(&bytes, Kind::Rust)
			.map_err(|error| anyhow!("kvm_p9_rust.o: {error}"))?;
	}
	Ok(sources)
}

/// Boots an image with the plugin, and says what its round trips consist of.
pub fn run(
	image: &Image,
	programs: &Programs,
	cases: &[&'static Case],
	paths: &[Column],
) -> Result<Outcome> {
	let plugin = plugin()?;
	let mut outcome = Outcome::default();
	let vmlinux = fs::read(image.vmlinux())
		.with_context(|| format!("can't read {}", image.vmlinux().display()))?;
	if symbols::contains_word(&vmlinux, &marker::ALL).map_err(|e| anyhow!(e))? {
		bail!("the kernel's code has a word that is a marker of ours");
	}
	let symbols = match Symbols::new(&vmlinux, &sources(image)?) {
		Ok(symbols) => Some(symbols),
		Err(why) => {
			outcome.problems.push(format!(
				"{}: {why}: costly operations, but no phases",
				paths::short(&image.vmlinux())
			));
			None
		}
	};
	let mut groups: BTreeMap<u64, Vec<&'static Case>> = BTreeMap::new();
	for &case in cases {
		let iterations = (ITERATIONS / case.weight).max(LEAST);
		groups.entry(iterations).or_default().push(case);
	}
	for (iterations, cases) in groups {
		let file = paths::target().join(format!("trace/{}.trace", image.series));
		fs::create_dir_all(paths::target().join("trace"))?;
		process::remove(&file)?;
		let job = job(image, &cases, paths, iterations);
		let measured = boot(image, programs, &job, &plugin, &file, &mut outcome.problems)?;
		outcome.add(&file, &measured, symbols.as_ref())?;
		process::remove(&file)?;
	}
	Ok(outcome)
}

fn job(image: &Image, cases: &[&'static Case], paths: &[Column], iterations: u64) -> Job {
	say(format_args!(
		"tracing on {}: {} cells of {iterations} round trips",
		image.series,
		cases.iter().map(|case| case.modes.len()).sum::<usize>() * paths.len()
	));
	Job::Bench {
		series: image.series.clone(),
		cases: cases.iter().map(|case| case.name).collect(),
		guests: GuestMode::ALL.map(GuestMode::name).to_vec(),
		paths: paths.iter().map(|path| path.name()).collect(),
		iterations,
		batches: 1,
	}
}

fn boot(
	image: &Image,
	programs: &Programs,
	job: &Job,
	plugin: &Path,
	file: &Path,
	problems: &mut Vec<String>,
) -> Result<Vec<Measured>> {
	let machine = Machine {
		kernel: image.stripped(),
		initrd: programs.initrd(job, &format!("trace-{}", image.series))?,
		append: String::new(),
		smp: 1,
		mem: "2G".to_owned(),
		icount: true,
	};
	let limits = Limits {
		total: Duration::from_secs(1800),
		silence: Duration::from_secs(300),
	};
	// A comma in a path would end the option.
	let argument = format!(
		"file={},out={}",
		plugin.display().to_string().replace(',', ",,"),
		file.display().to_string().replace(',', ",,")
	);
	let mut measured = Vec::new();
	let mut done = false;
	machine.run_with(&["-plugin", &argument], limits, Echo::No, |line| {
		match console::parse(line) {
			Some(Ok(Line::Result(result))) => measured.push(result),
			Some(Ok(Line::Error(reason))) => {
				problems.push(format!("{} under the plugin: {}", reason.cell, reason.why));
			}
			Some(Ok(Line::Fatal { why })) => problems.push(why),
			Some(Err(garbled)) => problems.push(garbled.to_string()),
			Some(Ok(Line::Done)) => done = true,
			// What a path doesn't have is told by the run that measures.
			Some(Ok(Line::Na(_) | Line::Hello { .. } | Line::Test { .. })) => {}
			None => return false,
		}
		true
	})?;
	if !done {
		bail!(
			"{}: init did not get to its end under the plugin",
			image.release
		);
	}
	Ok(measured)
}

impl Outcome {
	/// Reads a trace, and makes of it what the cells need that were measured meanwhile.
	fn add(&mut self, file: &Path, measured: &[Measured], symbols: Option<&Symbols>) -> Result<()> {
		let open = File::open(file).with_context(|| format!("no {}", file.display()))?;
		let mut reader = Reader::new(BufReader::new(open))?;
		let mut windows = Vec::new();
		while let Some(window) = reader.window()? {
			windows.push(window);
		}
		if measured.is_empty() {
			return Ok(());
		}
		let base = round::memory_base(reader.places())
			.ok_or_else(|| anyhow!("the trace has nothing of the kernel in it"))?;
		for result in measured {
			let cell = result.cell;
			let tag = cases::tag(cell.case, cell.guest, cell.path);
			// Those before were to bring things in.
			let of = |kind| {
				windows
					.iter()
					.rfind(|window| window.tag == tag && window.kind == kind)
					.ok_or_else(|| format!("{cell}: no batch of it was recorded"))
			};
			let one = of(Batch::Calls).and_then(|calls| {
				let place = |entry| reader.place(entry);
				let calls = round::completed(calls, place);
				let empty = round::completed(of(Batch::Empty)?, place);
				let find = |entries: &[u32], steady| {
					round::find(entries, result.iterations, steady, base, place)
						.map_err(|why| format!("{cell}: {why}"))
				};
				let ticks = result.ticks.first().copied().unwrap_or_default();
				// The last instruction, the second read of the timebase, is not in what it tells.
				let batch = calls.len().saturating_sub(1) as u64;
				Ok(Traced::new(
					cell,
					&find(&calls, cell.case.is_steady())?,
					&find(&empty, true)?,
					(batch, ticks),
					symbols,
				))
			});
			match one {
				Ok(traced) => {
					if !traced.exact() {
						self.problems.push(format!(
							"{cell}: the plugin counted {} instructions, and {} ticks of the timebase are {}",
							traced.batch,
							traced.ticks,
							traced.ticks * 1000 / 512
						));
					}
					self.traced.push(traced);
				}
				Err(why) => self.problems.push(why),
			}
		}
		Ok(())
	}
}

fn kind(kind: Kind) -> report::Kind {
	match kind {
		Kind::Guest => report::Kind::Guest,
		Kind::Asm => report::Kind::Asm,
		Kind::Trampoline => report::Kind::Trampoline,
		Kind::Rust => report::Kind::Rust,
		Kind::C => report::Kind::C,
		Kind::User => report::Kind::User,
	}
}

impl Traced {
	/// Whether the whole batch is as long as the guest's timebase says.
	///
	/// QEMU's virtual time may have counted a few more: see [`Case::overcounted`].
	fn exact(&self) -> bool {
		let over = self.cell.case.overcounted * self.of as u64;
		(self.batch..=self.batch + over).any(|instructions| round::agrees(instructions, self.ticks))
	}

	fn new(
		cell: Cell,
		calls: &round::Round,
		empty: &round::Round,
		(batch, ticks): (u64, u64),
		symbols: Option<&Symbols>,
	) -> Self {
		let none = Symbols::unknown();
		let labelled = attribute::label(calls, symbols.unwrap_or(&none));
		let looped = attribute::label(empty, symbols.unwrap_or(&none));
		let trips = calls.trips as f64;
		// Of one trip, but for the loop; there is no less than nothing.
		let share = |count: u64, looped: usize| (count as f64 / trips - looped as f64).max(0.0);
		let mut costly = attribute::count(&labelled);
		costly.values_mut().for_each(|count| *count /= trips);
		for (name, count) in attribute::count(&looped) {
			if let Some(rest) = costly.get_mut(&name) {
				*rest -= count;
			}
		}
		costly.retain(|_, count| *count > 0.0);
		let mut phases = Vec::new();
		// Whose the loop is: the guest's, or, where none is entered, the VMM's.
		let loops = |kind| kind == looped.first().map_or(Kind::Guest, |step| step.kind);
		let mut rest = looped.len();
		if symbols.is_some() {
			for part in attribute::phases(&labelled) {
				let mut less = 0;
				let functions = part
					.functions
					.into_iter()
					.map(|one| {
						let there = (one.instructions as f64 / trips) as usize;
						let own = if loops(one.kind) { rest.min(there) } else { 0 };
						rest -= own;
						less += own;
						report::Function {
							name: one.name,
							kind: kind(one.kind),
							instructions: share(one.instructions, own),
						}
					})
					.collect();
				phases.push(report::Phase {
					name: part.phase.to_string(),
					instructions: share(part.instructions, less),
					modelled_cycles: None,
					functions,
				});
			}
		}
		let steps = |labelled: &[Labelled<'_>]| {
			labelled
				.iter()
				.map(|step| Step {
					op: step.op,
					jumps: step.jumps,
					phase: step.phase,
				})
				.collect::<Vec<_>>()
		};
		Self {
			cell,
			instructions: labelled.len() as f64 / trips - looped.len() as f64,
			same: calls.same,
			of: calls.of,
			batch,
			ticks,
			costly,
			phases,
			trips: calls.trips,
			steps: steps(&labelled),
			empty: steps(&looped),
		}
	}
}

/// Whether what figures consist of can be told. If not, that is said, and a report goes
/// without.
pub fn possible() -> bool {
	match available().and_then(|()| plugin()) {
		Ok(_) => true,
		Err(error) => {
			say(format_args!(
				"{error:#}: no costly operations, phases and modelled cycles"
			));
			false
		}
	}
}

/// Fills in what a report's figures consist of, as each image's traced run has it. Returns
/// what is wrong.
pub fn fill(report: &mut Report, outcomes: Vec<(&Image, Result<Outcome>)>) -> Vec<String> {
	let mut problems = Vec::new();
	let model = match model::Fitting::new(model::POWER9) {
		Ok(model) => Some(model),
		Err(error) => {
			problems.push(format!(
				"bench/model/power9.toml: {error}: no modelled cycles"
			));
			None
		}
	};
	for (image, outcome) in outcomes {
		match outcome {
			Ok(outcome) => {
				let alike = outcome
					.traced
					.iter()
					.filter(|one| one.same == one.of)
					.count();
				say(format_args!(
					"traced on {}: {} cells, in {alike} of them every round trip was the same",
					image.series,
					outcome.traced.len()
				));
				let means = outcome.traced.iter().filter(|one| one.trips > 1).count();
				if means > 0 {
					say(format_args!(
						"in {means} cells no round trip stands for the others: what is told is their mean"
					));
				}
				problems.extend(outcome.problems);
				for one in outcome.traced {
					problems.extend(one.put_into(report, model.as_ref()));
				}
			}
			Err(error) => problems.push(format!("tracing on {}: {error:#}", image.series)),
		}
	}
	problems
}

impl Traced {
	/// Fills in the cell's figure; says if it is another round trip than the figure's.
	fn put_into(self, report: &mut Report, model: Option<&model::Fitting>) -> Option<String> {
		let cell = self.cell;
		let entry = report
			.results
			.iter_mut()
			.find(|entry| entry.cell() == cell)?;
		let measured = entry.instructions.median;
		let traced = self.instructions;
		let sum: f64 = self.phases.iter().map(|phase| phase.instructions).sum();
		let summed = self.phases.is_empty() || (sum - traced).abs() < 0.01;
		// Where rounds differ, the figure is their mean and this the most frequent one.
		let tolerance = measured
			* if self.trips == 1 && self.same == self.of {
				SAME
			} else if self.trips == 1 {
				VARIED
			} else {
				UNLIKE
			};
		let tolerance = tolerance.max(EXACT + measure::resolution(entry.iterations));
		entry.phases = self.phases;
		entry.costly = Some(self.costly);
		if let Some(model) = model {
			let prediction = model.predict(&self.steps, &self.empty, self.trips);
			let round = |cycles: f64| (cycles * 10.0).round() / 10.0;
			entry.modelled_cycles = Some(report::Modelled {
				median: round(prediction.cycles),
				error: round(prediction.error),
			});
			for phase in &mut entry.phases {
				let found = prediction
					.phases
					.iter()
					.find(|(known, _)| known.to_string() == phase.name);
				phase.modelled_cycles = found.map(|&(_, cycles)| round(cycles));
			}
		}
		if !summed {
			return Some(format!(
				"{cell}: the phases have {sum} instructions of {traced}"
			));
		}
		((traced - measured).abs() > tolerance).then(|| {
			format!("{cell}: the plugin counted {traced} instructions, the timebase {measured}")
		})
	}
}

/// How far a figure, which is a median over batches, may be from the round trip, in
/// instructions. Nothing, but a figure has three digits after its point.
const EXACT: f64 = 0.01;
/// As a part of it, where all recorded rounds were alike: what the host does once in
/// hundreds of exits to userspace is in every batch, but hardly in what was recorded: up to
/// 6 of the 5500 instructions of an MMIO access by a hash guest.
const SAME: f64 = 0.002;
/// The same where they were not.
const VARIED: f64 = 0.02;
/// The same where hardly two were: the recorded ones are few, and the host's allocator
/// is not in the same state.
const UNLIKE: f64 = 0.3;

/// Operations of which the Rust path must not do more than C on a NULL hcall.
const COMPARED: [(&str, &[&str]); 5] = [
	("mtspr", &["mtspr"]),
	("mfspr", &["mfspr"]),
	("mftb", &["mftb"]),
	("isync and sync", &["isync", "sync"]),
	("mtmsrd", &["mtmsrd"]),
];

/// What `cargo xtask test` demands of a traced report.
pub fn checks(report: &Report) -> Vec<Check> {
	let mut checks: Vec<Check> = report
		.results
		.iter()
		.map(|entry| {
			let missing = entry.costly.is_none() || entry.phases.is_empty();
			let complaint = missing.then(|| "it was not traced".to_owned());
			Check::new(format!("trace of {}", entry.cell()), complaint)
		})
		.collect();
	let count = |case, path, operations: &[&str]| {
		let entry = report.get(case, GuestMode::Radix, path)?;
		operations
			.iter()
			.map(|operation| costly::count(entry, operation))
			.sum::<Option<f64>>()
	};
	let case = case!("h_put_tce_indirect_512");
	for (operation, limit) in [("mtspr", 20.0), ("isync", 6.0)] {
		let done = count(case, Column::RustFast, &[operation]);
		let complaint = match done {
			None => Some("not counted".to_owned()),
			Some(done) => (done >= limit).then(|| {
				format!(
					"{done}, C's path does {}",
					count(case, Column::C, &[operation]).unwrap_or_default()
				)
			}),
		};
		checks.push(Check::new(
			format!("{}: fewer than {limit} {operation}", case.name),
			complaint,
		));
	}
	for (name, operations) in COMPARED {
		let of = |path| count(case!("null"), path, operations);
		let complaint = match (of(Column::C), of(Column::RustFull)) {
			(Some(c), Some(rust)) => (rust > c).then(|| format!("{rust}, and C {c}")),
			_ => Some("not counted".to_owned()),
		};
		checks.push(Check::new(
			format!("null by Rust, full: no more {name} than C"),
			complaint,
		));
	}
	checks
}

/// Options of `cargo xtask trace`.
#[derive(clap::Args)]
pub struct Args {
	/// Only these cases, separated by commas [default: null]
	#[arg(long, value_name = "A,B", value_delimiter = ',')]
	cases: Option<Vec<String>>,
	/// Kernel: 6.12 or 5.10
	#[arg(long, value_name = "SERIES", default_value = "6.12")]
	kernel: String,
	/// Write the round trips that the model is fitted to, into bench/model/reference
	#[arg(long)]
	reference: bool,
}

/// `cargo xtask trace`
pub fn main(args: &Args) -> Result<()> {
	let null = ["null".to_owned()];
	let cases = chosen_cases(Some(args.cases.as_deref().unwrap_or(&null)))?;
	let image = harness::kernel::build(harness::kernel::Series::find(&args.kernel)?, false)?;
	let programs = harness::programs::build()?;
	available()?;
	let outcome = run(&image, &programs, &cases, paths_of(&image))?;
	for one in &outcome.traced {
		println!(
			"{}: {} instructions, {} of {} the same{}",
			one.cell,
			one.instructions,
			one.same,
			one.of,
			if one.exact() { "" } else { ", INEXACT" }
		);
		for (name, count) in &one.costly {
			println!("\t{count:8} {name}");
		}
		for phase in &one.phases {
			println!("    {}: {}", phase.name, phase.instructions);
			for function in &phase.functions {
				println!(
					"\t{:8} {} ({:?})",
					function.instructions, function.name, function.kind
				);
			}
		}
	}
	if args.reference {
		write_reference(&image, &outcome.traced)?;
	}
	for problem in &outcome.problems {
		say(problem);
	}
	if !outcome.problems.is_empty() {
		bail!("{} problems", outcome.problems.len());
	}
	Ok(())
}

fn write_reference(image: &Image, traced: &[Traced]) -> Result<()> {
	for one in traced
		.iter()
		.filter(|one| one.cell.guest == GuestMode::Radix)
	{
		let series = format!("-{}", image.series);
		let path = one.cell.path.name().trim_end_matches(&series);
		let name = format!("{path}{series}-{}", one.cell.case.name);
		if model::reference::ALL
			.iter()
			.any(|(known, _)| *known == name)
		{
			let title = format!(
				"{} radix, Linux {}",
				one.cell.case.name, image.package_version
			);
			let text = model::reference::render(&title, &one.steps, &one.empty);
			let file = paths::root().join("bench/model/reference").join(name);
			process::write_whole(&file, text.as_bytes())?;
		}
	}
	Ok(())
}
