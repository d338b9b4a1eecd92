// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask test`: everything that is checked, in stages.
//!
//! A stage that can't do its work has failed, and so has one that finds nothing to
//! check. What is left out is said and counted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::report::compare::{Comparison, Limit, Verdict as Slowness};
use ::report::console::{self, Cell, Line, Status};
use ::report::report::Report as Measured;
use ::report::spread;
use anyhow::{Context, Result, anyhow, bail};
use protocol::{Case, Guest, Path as Column};

use crate::bench;
use crate::client;
use crate::page;
use crate::passthrough;
use crate::trace;
use harness::check::{self, Check, Found, Tally, Verdict};
use harness::dep_cache;
use harness::jobs::{self, Task};
use harness::kernel::{self, Image, NoSource, Series};
use harness::paths;
use harness::process::{self, Usage, say};
use harness::programs::{self, Job};
use harness::qemu::{Echo, Limits, Machine};
use harness::setup;

/// The series that the tests are about.
const MAIN_SERIES: &str = "6.12";

/// The series that is built and booted, but not tested in full.
const NEXT_SERIES: &str = "7.3";

/// The booted tests that it has to pass, by the beginnings of their names.
const NEXT_TESTS: [&str; 6] = [
	"probe-radix-",
	"regs-radix-c-",
	"regs-radix-rust-",
	"user-vectors-radix-rust-",
	"tce-diff-radix",
	"fast-counted-radix",
];

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
	/// More of it: the whole benchmark three times, every test with mitigations, every client
	#[arg(long)]
	all: bool,
	/// Seed of what is random in the booted tests [default: another each time]
	#[arg(long)]
	seed: Option<u64>,
	/// Random hcalls of each booted test of TCEs, a quarter for hardware's [default: some 10,000].
	/// Of tce-hw-diff-* a boot bears some 100,000: each round leaves a region pinned for ever, to
	/// see that it can't be let go while it is mapped
	#[arg(long, value_name = "N")]
	tce_calls: Option<u64>,
	/// Rounds of every register by every exit, for each path and guest mode [default: 5,000]; and a
	/// tenth as many cases of a hostile VMM
	#[arg(long, value_name = "N")]
	rounds: Option<u64>,
	/// Only these booted tests, by name or by the start of it, separated by commas
	#[arg(long, value_name = "NAMES", value_delimiter = ',')]
	booted: Vec<String>,
	/// Run the soak stage, too: everything at once on two CPUs, for so long; and I/O on a
	/// passed-through disk for so long, in place of the short run
	#[arg(long, value_name = "MINUTES", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
	soak: Option<u64>,
	/// Of the passed-through disk only what I/O on it costs
	#[arg(long)]
	cost: bool,
	/// Only these stages: host, format, lint, kernel, series, off, gates, booted, mitigations, timing,
	/// client, nested, passthrough, 7.3, stock, bench, report, soak
	#[arg(value_name = "STAGE")]
	stages: Vec<String>,
}

/// What stages have in common. It is done before them, and what goes wrong then is told by
/// the stages, which find that it is not done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
	/// The kernel under test.
	Kernel,
	/// The one that it is compared with.
	OldKernel,
	/// VMM, payload and disk's tester.
	Programs,
	/// QEMU's.
	Plugin,
	/// Debian's QEMU.
	Client,
}

impl Need {
	fn name(self) -> &'static str {
		match self {
			Self::Kernel => "kernel under test",
			Self::OldKernel => "old kernel",
			Self::Programs => "programs",
			Self::Plugin => "plugin",
			Self::Client => "client's files",
		}
	}

	fn seconds(self) -> u32 {
		match self {
			Self::Kernel => 45,
			Self::Programs => 60,
			Self::OldKernel | Self::Plugin => 20,
			Self::Client => 10,
		}
	}

	fn work(self) -> Result<()> {
		match self {
			Self::Kernel => kernel::build(Series::find(MAIN_SERIES)?, false).map(drop),
			Self::OldKernel => kernel::build(Series::find(bench::ASM_SERIES)?, false).map(drop),
			Self::Programs => programs::build()
				.and_then(|_| programs::build_diskcheck())
				.map(drop),
			Self::Plugin => trace::plugin().map(drop),
			Self::Client => setup::bring("client").map(drop),
		}
	}
}

/// A part of a stage.
struct Part<'a> {
	/// Of several, which.
	name: &'static str,
	needs: &'static [Need],
	/// It keeps all cores busy by itself, or has CPUs that run at the same time: what it does
	/// then has limits in real time.
	alone: bool,
	/// About how long it takes with two cores.
	seconds: u32,
	work: Box<dyn FnOnce() -> Result<Found> + Send + 'a>,
}

impl<'a> Part<'a> {
	fn new<T: Into<Found>>(
		needs: &'static [Need],
		seconds: u32,
		work: impl FnOnce() -> Result<T> + Send + 'a,
	) -> Self {
		Self {
			name: "",
			needs,
			alone: false,
			seconds,
			work: Box::new(|| work().map(Into::into)),
		}
	}

	fn named(self, name: &'static str) -> Self {
		Self { name, ..self }
	}

	fn alone(self) -> Self {
		Self {
			alone: true,
			..self
		}
	}
}

/// What is checked under one name.
struct Stage {
	name: &'static str,
	/// It begins when these have ended, if they are run: stages, or what others need. Mostly
	/// cargo would let only one of them at its folder.
	after: &'static [&'static str],
	parts: fn(&Args) -> Result<Vec<Part<'_>>>,
}

const fn stage(name: &'static str, parts: fn(&Args) -> Result<Vec<Part<'_>>>) -> Stage {
	Stage {
		name,
		after: &[],
		parts,
	}
}

/// In the order of their reports.
const STAGES: &[Stage] = &[
	stage("host", |args| Ok(vec![Part::new(&[], 40, || host(args))])),
	stage("format", |args| {
		Ok(vec![Part::new(&[], 1, || format(args))])
	}),
	Stage {
		after: &["host", "programs"],
		..stage("lint", |args| Ok(vec![Part::new(&[], 50, || lint(args))]))
	},
	stage("kernel", |args| {
		Ok(vec![Part::new(&[Need::Kernel], 1, || kernel(args))])
	}),
	Stage {
		after: &["kernel"],
		..stage("series", |args| {
			Ok(vec![Part::new(&[], 10, || series(args))])
		})
	},
	Stage {
		after: &["kernel"],
		..stage("off", |args| Ok(vec![Part::new(&[], 1, || off(args))]))
	},
	stage("gates", |_| Ok(vec![Part::new(&[Need::Kernel], 1, gates)])),
	stage("booted", |args| booted(args, "booted", "", |_| true)),
	// The last word on the command line wins. What the flushes could disturb is
	// registers, so without --all these are compared and the rest is left.
	stage("mitigations", |args| {
		let registers = |name: &str| {
			["detect-", "regs-", "pr-"]
				.iter()
				.any(|p| name.starts_with(p))
		};
		booted(args, "mitigations", "mitigations=auto", |name| {
			args.all || registers(name)
		})
	}),
	stage("timing", |args| {
		let needs = &[Need::Kernel, Need::Programs];
		Ok(vec![Part::new(needs, 1, || timing(args))])
	}),
	stage("client", |args| {
		Ok(vec![
			Part::new(&[Need::Kernel, Need::Client], 30, || {
				let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
				client::run(&image.stripped(), args.all)
			})
			.alone(),
		])
	}),
	stage("nested", |args| {
		let needs = &[Need::Kernel, Need::Programs, Need::Client];
		Ok(vec![Part::new(needs, 1, || nested(args)).alone()])
	}),
	stage("passthrough", |args| {
		let options = passthrough::Options {
			all: args.all,
			soak: args.soak,
			cost: args.cost,
			seed: seed(args)?,
		};
		let needs: &[Need] = if options.counts() {
			&[Need::Kernel, Need::Programs, Need::Client, Need::Plugin]
		} else {
			&[Need::Kernel, Need::Programs, Need::Client]
		};
		Ok(vec![
			Part::new(needs, 60, move || {
				let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
				passthrough::run(&image, &options)
			})
			.alone(),
		])
	}),
	stage(NEXT_SERIES, |args| {
		Ok(vec![Part::new(&[Need::Kernel, Need::Programs], 60, || {
			next(args)
		})])
	}),
	stage("stock", |args| {
		Ok(vec![
			Part::new(&[Need::Kernel, Need::Programs], 60, || stock(args)).alone(),
		])
	}),
	stage("bench", |args| {
		Ok(vec![
			Part::new(
				&[Need::Kernel, Need::OldKernel, Need::Programs, Need::Plugin],
				200,
				|| measure(args),
			)
			.alone(),
			Part::new(&[Need::Kernel, Need::Programs], 10, without_debugfs)
				.named("without debugfs"),
		])
	}),
	stage("report", |_| Ok(vec![Part::new(&[], 20, page::check)])),
	stage("soak", |args| {
		let needs = &[Need::Kernel, Need::Programs];
		Ok(vec![Part::new(needs, 1, || soak(args)).alone()])
	}),
];

/// What came of a stage.
#[derive(Default)]
struct Report {
	parts: Vec<(Found, Duration)>,
	/// Parts that have not ended.
	awaited: usize,
}

impl Report {
	fn checks(&self) -> impl Iterator<Item = &Check> {
		self.parts.iter().flat_map(|(found, _)| &found.checks)
	}

	/// How it ended, and how long its parts took together.
	fn summary(&self, name: &str) -> String {
		let tally = Tally::of(self.checks());
		let time = self.parts.iter().map(|(_, time)| *time).sum();
		format!("{name}: {} ({})", tally.text(), process::human(time))
	}

	fn print(&self, name: &str) {
		for (found, _) in &self.parts {
			print!("{}", found.text);
		}
		check::list(name, self.checks());
		println!("{}", self.summary(name));
	}
}

/// `cargo xtask test`
pub fn main(args: &Args) -> Result<()> {
	for name in &args.stages {
		if !STAGES.iter().any(|stage| stage.name == name) {
			let known: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
			return Err(Usage(format!(
				"unknown stage '{name}'; known: {}",
				known.join(", ")
			))
			.into());
		}
	}
	let started = Instant::now();
	let (stages, planned) = plan(args)?;
	let mut reports: Vec<Report> = planned
		.iter()
		.map(|parts| Report {
			// One for each, in their order.
			parts: parts.iter().map(|_| Default::default()).collect(),
			awaited: parts.len(),
		})
		.collect();
	let (tasks, places) = tasks(&stages, planned);
	let names: Vec<_> = tasks.iter().map(|task| task.name.clone()).collect();
	let mut times = String::new();
	let mut printed = 0;
	jobs::run(jobs::count(), tasks, |index, result| {
		let (found, begun) = match result {
			Ok((found, begun)) => (found, begun),
			Err(error) => (Err(error), Instant::now()),
		};
		let (from, took) = (begun.duration_since(started), begun.elapsed());
		times.push_str(&format!(
			"{:7.1} {:7.1}  {}\n",
			from.as_secs_f64(),
			took.as_secs_f64(),
			names[index]
		));
		let Some((stage, part)) = places[index] else {
			return;
		};
		let found = found
			.unwrap_or_else(|error| vec![Check::new("stage", Some(format!("{error:#}")))].into());
		let report = &mut reports[stage];
		report.parts[part] = (found, took);
		report.awaited -= 1;
		if report.awaited == 0 && report.checks().next().is_none() {
			let nothing = "there was nothing to check".to_owned();
			let check = Check::new("stage", Some(nothing));
			report.parts[part].0.checks.push(check);
		}
		// In their order, whichever ends first.
		while printed < reports.len() && reports[printed].awaited == 0 {
			reports[printed].print(stages[printed].name);
			printed += 1;
		}
		if stage > printed && reports[stage].awaited == 0 {
			say(reports[stage].summary(stages[stage].name));
		}
	});
	process::write_whole(&log_path("times"), times.as_bytes())?;
	// Not with a few stages only: then it would be little that the next checkout gets.
	if args.stages.is_empty()
		&& let Err(error) = dep_cache::keep()
	{
		say(format_args!(
			"{error:#}: the next checkout has to compile other people's crates"
		));
	}
	let total = Tally::of(reports.iter().flat_map(Report::checks));
	println!("\n{}", total.text());
	say(format_args!(
		"all of it took {}",
		process::human(started.elapsed())
	));
	if total.failed > 0 || total.passed == 0 {
		bail!("the tests failed");
	}
	Ok(())
}

/// The stages that were asked for, and their parts: at least one of each.
fn plan(args: &Args) -> Result<(Vec<&'static Stage>, Vec<Vec<Part<'_>>>)> {
	let asked = |stage: &&Stage| {
		args.stages.is_empty() || args.stages.iter().any(|name| name == stage.name)
	};
	let stages: Vec<_> = STAGES.iter().filter(asked).collect();
	let mut planned = Vec::new();
	for stage in &stages {
		let mut parts = (stage.parts)(args)?;
		if parts.is_empty() {
			parts.push(Part::new(&[], 0, || Ok(Vec::new())));
		}
		planned.push(parts);
	}
	Ok((stages, planned))
}

/// What a task gives: what it found, and when it began.
type Timed = (Result<Found>, Instant);

/// Where a part belongs: the number of its stage, and its own in that.
type Place = (usize, usize);

/// The parts of the stages as tasks, and before them what they need, which has no place in
/// a stage.
fn tasks<'a>(
	stages: &[&Stage],
	planned: Vec<Vec<Part<'a>>>,
) -> (Vec<Task<'a, Timed>>, Vec<Option<Place>>) {
	let mut tasks: Vec<Task<'a, Timed>> = Vec::new();
	let mut places: Vec<Option<Place>> = Vec::new();
	let mut needs: Vec<Need> = Vec::new();
	for &need in planned.iter().flatten().flat_map(|part| part.needs) {
		if !needs.contains(&need) {
			needs.push(need);
			tasks.push(Task {
				name: need.name().to_owned(),
				after: Vec::new(),
				alone: false,
				seconds: need.seconds(),
				work: work(need.name().to_owned(), move || {
					need.work().map(|()| Found::default())
				}),
			});
			places.push(None);
		}
	}
	for (number, (stage, parts)) in stages.iter().zip(planned).enumerate() {
		let first: Vec<_> = (0..tasks.len())
			.filter(|&index| {
				let name = match places[index] {
					Some((other, _)) => stages[other].name,
					None => &tasks[index].name,
				};
				stage.after.contains(&name)
			})
			.collect();
		for (of_stage, part) in parts.into_iter().enumerate() {
			let name = format!("{} {}", stage.name, part.name)
				.trim_end()
				.to_owned();
			let needed = |need: &Need| needs.iter().position(|known| known == need);
			let after = part.needs.iter().filter_map(needed);
			tasks.push(Task {
				name: name.clone(),
				after: after.chain(first.iter().copied()).collect(),
				alone: part.alone,
				seconds: part.seconds,
				work: work(name, part.work),
			});
			places.push(Some((number, of_stage)));
		}
	}
	(tasks, places)
}

/// Has what is said meanwhile say where it comes from, and takes the time.
fn work<'a>(
	name: String,
	work: impl FnOnce() -> Result<Found> + Send + 'a,
) -> Box<dyn FnOnce() -> Result<Timed> + Send + 'a> {
	Box::new(move || {
		let begun = Instant::now();
		process::set_tag(name);
		Ok((work(), begun))
	})
}

fn nested(args: &Args) -> Result<Vec<Check>> {
	// Asked for by name it is run, too.
	if !args.all && args.stages.is_empty() {
		let why = "only with --all or by name";
		return Ok(vec![Check::skipped("L2 guests", why)]);
	}
	let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
	client::nested(&image.stripped())
}

/// `cargo xtask gates`
pub fn gates_main() -> Result<()> {
	let found = gates()?;
	print!("{}", found.text);
	check::list("gates", found.checks.iter());
	let tally = Tally::of(found.checks.iter());
	println!("\n{}", tally.text());
	if tally.failed > 0 {
		bail!("the object breaks its rules");
	}
	Ok(())
}

fn gates() -> Result<Found> {
	let series = Series::find(MAIN_SERIES)?;
	::gates::rules::run(&kernel::build(series, false)?.tree())
}

fn log_path(name: &str) -> PathBuf {
	paths::target().join("test").join(format!("{name}.log"))
}

fn cargo() -> Command {
	let mut cargo = Command::new("cargo");
	cargo.current_dir(paths::root());
	cargo
}

/// Whether cargo has that subcommand.
fn has_cargo(subcommand: &str) -> bool {
	let mut cargo = cargo();
	cargo
		.args([subcommand, "--version"])
		.stdout(Stdio::null())
		.stderr(Stdio::null());
	cargo.status().is_ok_and(|status| status.success())
}

fn host(_: &Args) -> Result<Vec<Check>> {
	let mut checks = Vec::new();
	if has_cargo("nextest") {
		let log = log_path("nextest");
		let mut nextest = cargo();
		nextest.args([
			"nextest",
			"run",
			"--no-fail-fast",
			"--color=never",
			"--status-level=all",
		]);
		let result = process::logged(&mut nextest, &log, "host tests", is_nextest_line);
		checks.extend(finished(&log, result, nextest_check)?);
		let log = log_path("doctest");
		let mut doc = cargo();
		doc.args(["test", "--doc", "--no-fail-fast"]);
		let result = process::logged(&mut doc, &log, "documentation tests", is_libtest_line);
		let found = finished_or_none(&log, result, libtest_check)?;
		checks.extend(found);
	} else {
		let log = log_path("test");
		let mut test = cargo();
		test.args(["test", "--no-fail-fast"]);
		let result = process::logged(&mut test, &log, "host tests", is_libtest_line);
		checks.extend(finished(&log, result, libtest_check)?);
	}
	Ok(checks)
}

fn is_nextest_line(line: &str) -> bool {
	nextest_check(line).is_some()
}

fn is_libtest_line(line: &str) -> bool {
	libtest_check(line).is_some()
}

/// `        PASS [   0.005s] ( 1/20) crate module::test`
fn nextest_check(line: &str) -> Option<Check> {
	let (status, rest) = line.trim_start().split_once(' ')?;
	let (time, name) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
	time.trim().strip_suffix('s')?.parse::<f64>().ok()?;
	let name = match name.trim_start().strip_prefix('(') {
		Some(counted) => counted.split_once(')')?.1,
		None => name,
	};
	let name = name.trim();
	match status {
		"PASS" | "LEAK" => Some(Check::new(name, None)),
		// Whatever else is spelled like that (FAIL, TIMEOUT, SIGSEGV, ...) is no good.
		_ if status == "SLOW" || status.contains(|c: char| c.is_ascii_lowercase()) => None,
		_ => Some(Check::new(
			name,
			Some(format!(
				"{status}; see {}",
				paths::short(&log_path("nextest"))
			)),
		)),
	}
}

/// `test module::test ... ok`
fn libtest_check(line: &str) -> Option<Check> {
	let (name, status) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
	match status.split(',').next()? {
		"ok" => Some(Check::new(name, None)),
		"FAILED" => Some(Check::new(
			name,
			Some("see the log in target/test".to_owned()),
		)),
		"ignored" => Some(Check::skipped(name, status)),
		_ => None,
	}
}

/// The checks in a log; an error if the run failed without any of them failing.
fn finished(
	log: &Path,
	result: Result<()>,
	check: fn(&str) -> Option<Check>,
) -> Result<Vec<Check>> {
	let checks = finished_or_none(log, result, check)?;
	if checks.is_empty() {
		bail!("no tests were run; see {}", paths::short(log));
	}
	Ok(checks)
}

fn finished_or_none(
	log: &Path,
	result: Result<()>,
	check: fn(&str) -> Option<Check>,
) -> Result<Vec<Check>> {
	let text = fs::read_to_string(log)?;
	let mut checks: Vec<Check> = Vec::new();
	for found in text.lines().filter_map(check) {
		// nextest names a failed test again at its end.
		let failed = |check: &Check| matches!(check.verdict, Verdict::Failed(_));
		if !failed(&found)
			|| !checks
				.iter()
				.any(|known| failed(known) && known.name == found.name)
		{
			checks.push(found);
		}
	}
	let failed = checks
		.iter()
		.any(|check| matches!(check.verdict, Verdict::Failed(_)));
	match result {
		Err(error) if !failed => Err(error),
		_ => Ok(checks),
	}
}

fn format(_: &Args) -> Result<Vec<Check>> {
	if !has_cargo("fmt") {
		return Ok(vec![Check::skipped(
			"rustfmt",
			"not installed (rustup component add rustfmt)",
		)]);
	}
	let mut fmt = cargo();
	fmt.args(["fmt", "--all", "--check"]);
	let result = process::logged(&mut fmt, &log_path("format"), "rustfmt", |_| true);
	Ok(vec![Check::of("rustfmt", result)])
}

fn lint(_: &Args) -> Result<Vec<Check>> {
	if !has_cargo("clippy") {
		return Ok(vec![Check::skipped(
			"clippy",
			"not installed (rustup component add clippy)",
		)]);
	}
	let mut host = cargo();
	host.args(["clippy", "--all-targets", "--", "-Dwarnings"]);
	let lints = std::iter::once(("host", host)).chain(programs::lints());
	Ok(lints
		.map(|(name, mut command)| {
			let log = log_path(&format!("clippy-{name}"));
			let what = format!("clippy {name}");
			Check::of(
				&what,
				process::logged(&mut command, &log, &what, |line| line.contains("Checking")),
			)
		})
		.collect())
}

fn kernel(_: &Args) -> Result<Vec<Check>> {
	let series = Series::find(MAIN_SERIES)?;
	let build = |stock| kernel::build(series, stock).map(drop);
	Ok(vec![
		Check::of(format!("{MAIN_SERIES} unpatched"), build(true)),
		Check::of(format!("{MAIN_SERIES} patched"), build(false)),
	])
}

/// Sections that may differ with the option off: the build ID, which hashes what was
/// compiled, and the line numbers of BUG() and WARN(), which the patches move.
const OFF_MAY_DIFFER: [&str; 2] = [".notes", "__bug_table"];

/// With the option off the patched kernel is the stock kernel, to the byte.
fn off(args: &Args) -> Result<Vec<Check>> {
	let name = "the option off changes nothing";
	if !args.all && !args.stages.iter().any(|stage| stage == "off") {
		return Ok(vec![Check::skipped(
			name,
			"a whole kernel build; with --all or by name",
		)]);
	}
	let series = Series::find(MAIN_SERIES)?;
	let stock = fs::read(kernel::build(series, true)?.vmlinux())?;
	let off = fs::read(kernel::build_off(series)?.vmlinux())?;
	let differing = differing_sections(&stock, &off)?;
	let complaint = (!differing.is_empty()).then(|| format!("{} differs", differing.join(", ")));
	Ok(vec![Check::new(name, complaint)])
}

/// The sections of two images that are loaded, may not differ, and do. Names of symbols
/// are not: the compiler numbers some of them by what it has seen before.
fn differing_sections(a: &[u8], b: &[u8]) -> Result<Vec<String>> {
	use ::object::{Object, ObjectSection, SectionFlags, elf::SHF_ALLOC};
	let contents = |image| -> Result<BTreeMap<String, (u64, Vec<u8>)>> {
		let file = ::object::File::parse(image)?;
		let loaded = |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(SHF_ALLOC) != 0);
		file.sections()
			.filter(|section| loaded(section.flags()))
			.map(|section| {
				let data = section.data()?.to_owned();
				Ok((section.name()?.to_owned(), (section.address(), data)))
			})
			.collect()
	};
	let (a, b) = (contents(a)?, contents(b)?);
	let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
	Ok(names
		.into_iter()
		.filter(|name| !OFF_MAY_DIFFER.contains(&name.as_str()) && a.get(*name) != b.get(*name))
		.cloned()
		.collect())
}

/// The patches, as a kernel maintainer would look at them.
fn series(_: &Args) -> Result<Vec<Check>> {
	let main = Series::find(MAIN_SERIES)?;
	let tree = kernel::stock_tree(main)?;
	let patches = main.patches()?;
	let mut checks: Vec<_> = patches
		.iter()
		.map(|patch| checkpatch(&tree, patch))
		.collect();
	if !patches.is_empty() {
		checks.push(Check::of(
			format!("git am {MAIN_SERIES}"),
			git_am(MAIN_SERIES, &tree, &patches),
		));
	}
	for (own, other) in Series::find(NEXT_SERIES)?.own_patches()? {
		checks.push(checkpatch(&tree, &own));
		let Some(other) = other else { continue };
		// Its own because it stands elsewhere: what it does must not fall behind.
		let name = format!(
			"{} does what {} does",
			paths::short(&own),
			paths::short(&other)
		);
		let (own, other) = (fs::read_to_string(own)?, fs::read_to_string(other)?);
		let complaint = (kernel::changes(&own) != kernel::changes(&other))
			.then(|| "they add or remove different lines".to_owned());
		checks.push(Check::new(name, complaint));
	}
	Ok(checks)
}

fn checkpatch(tree: &Path, patch: &Path) -> Check {
	let mut checkpatch = Command::new("perl");
	checkpatch
		.current_dir(tree)
		// What is new in arch/powerpc is in MAINTAINERS by its folder or its name.
		.args([
			"scripts/checkpatch.pl",
			"--quiet",
			"--ignore=FILE_PATH_CHANGES",
		])
		.arg(patch);
	let log = log_path("checkpatch");
	let result = process::logged(&mut checkpatch, &log, "checkpatch", |_| true);
	Check::of(format!("checkpatch {}", paths::short(patch)), result)
}

/// The next series: that it builds, that its patches are a series, and that the paths
/// work on it.
fn next(args: &Args) -> Result<Vec<Check>> {
	let series = Series::find(NEXT_SERIES)?;
	let chosen = args.all || args.stages.iter().any(|stage| stage == NEXT_SERIES);
	let image = if chosen {
		match kernel::build(series, false) {
			Err(error) if error.is::<NoSource>() => {
				return Ok(vec![Check::skipped("kernel", error.to_string())]);
			}
			image => image?,
		}
	} else {
		match kernel::build_if_warm(series)? {
			Some(image) => image,
			None => {
				let why = "its unpatched tree is not built yet, which takes 15 minutes; \
				           with --all or by name";
				return Ok(vec![Check::skipped("build and boot", why)]);
			}
		}
	};
	let mut checks = vec![Check::new("build", None)];
	let applied = git_am(NEXT_SERIES, &kernel::warm_tree(series)?, &series.patches()?);
	checks.push(Check::of("git am", applied));
	let wanted = |name: &str| NEXT_TESTS.iter().any(|start| name.starts_with(start));
	let tests = chosen_tests(args, wanted)?;
	if !tests.is_empty() {
		let names = Names::These(tests.clone());
		let log = format!("booted-{NEXT_SERIES}");
		let machine = Boot::counted(args, log, "", names, tests);
		checks.extend(boot(args, &image, machine)?);
	}
	Ok(checks)
}

/// Applies the patches with `git am`, in a repository that has the files they touch.
fn git_am(series: &str, tree: &Path, patches: &[PathBuf]) -> Result<()> {
	let name = format!("git-am-{series}");
	let repository = paths::target().join("test").join(&name);
	process::remove(&repository)?;
	fs::create_dir_all(&repository)?;
	for patch in patches {
		for line in fs::read_to_string(patch)?.lines() {
			let Some(file) = line.strip_prefix("--- a/") else {
				continue;
			};
			let (from, to) = (tree.join(file), repository.join(file));
			if from.is_file() && !to.exists() {
				fs::create_dir_all(to.parent().context("a file has a folder")?)?;
				fs::copy(&from, &to)?;
			}
		}
	}
	let git = |args: &[&str], patches: &[PathBuf]| {
		let mut git = Command::new("git");
		git.current_dir(&repository)
			.env("GIT_CONFIG_GLOBAL", "/dev/null")
			.env("GIT_CONFIG_SYSTEM", "/dev/null")
			.env_remove("GIT_DIR")
			.env_remove("GIT_WORK_TREE")
			.env_remove("GIT_INDEX_FILE")
			.args([
				"-c",
				"user.name=kvm-p9",
				"-c",
				"user.email=kvm-p9@localhost",
			])
			.args(args)
			.args(patches);
		process::logged(&mut git, &log_path(&name), "git am", |_| true)
	};
	git(&["init", "--quiet"], &[])?;
	git(&["add", "--all"], &[])?;
	git(&["commit", "--quiet", "--message=stock"], &[])?;
	git(&["am", "--quiet"], patches)
}

/// Every booted test there is; `ci/booted-tests` lists them, so that none gets lost.
fn expected_tests() -> Result<Vec<String>> {
	let path = paths::root().join("ci/booted-tests");
	let text =
		fs::read_to_string(&path).with_context(|| format!("can't read {}", paths::short(&path)))?;
	let names = text
		.lines()
		.map(str::trim)
		.filter(|line| !line.is_empty() && !line.starts_with('#'));
	Ok(names.map(str::to_owned).collect())
}

/// The seed that was asked for, or another one each time.
fn seed(args: &Args) -> Result<u64> {
	match args.seed {
		Some(seed) => Ok(seed),
		None => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64),
	}
}

/// Tests on a machine whose CPUs run at the same time.
const SMP: &str = "smp-";

/// How often such a machine is started until its firmware gets as far as Linux: sometimes
/// it stops (see `client`).
const ATTEMPTS: usize = 3;

/// The booted tests that are run, of those that are wanted.
fn chosen_tests(args: &Args, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
	let mut tests = expected_tests()?;
	for start in &args.booted {
		if !tests.iter().any(|name| name.starts_with(start)) {
			return Err(Usage(format!("no booted test is called '{start}'")).into());
		}
	}
	tests.retain(|name| wanted(name));
	if !args.booted.is_empty() {
		tests.retain(|name| args.booted.iter().any(|start| name.starts_with(start)));
	}
	Ok(tests)
}

/// Whether a test is one of the half that the second of two machines does.
fn in_second_half(name: &str) -> bool {
	name.contains("-real") || name.starts_with("pr-")
}

/// The booted tests on as many machines as it takes.
fn booted<'a>(
	args: &'a Args,
	stage: &'static str,
	append: &'static str,
	wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Part<'a>>> {
	let needs = &[Need::Kernel, Need::Programs];
	let tests = chosen_tests(args, wanted)?;
	let (smp, others): (Vec<_>, Vec<_>) = tests.into_iter().partition(|name| name.starts_with(SMP));
	let listed = expected_tests()?;
	let all = others.len() == listed.iter().filter(|name| !name.starts_with(SMP)).count();
	let (second, first): (Vec<_>, Vec<_>) =
		others.into_iter().partition(|name| in_second_half(name));
	let mut parts = Vec::new();
	let halves = [
		("1", format!("{stage}-1"), first, &second),
		("2", format!("{stage}-2"), second.clone(), &Vec::new()),
	];
	for (name, log, tests, others) in halves {
		if tests.is_empty() {
			continue;
		}
		// One of them runs all but what the others do, so that a test which is not on the
		// list shows.
		let names = if all && name == "1" {
			Names::AllBut(others.clone())
		} else {
			Names::These(tests.clone())
		};
		let work = move || {
			let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
			boot(args, &image, Boot::counted(args, log, append, names, tests))
		};
		parts.push(Part::new(needs, 100, work).named(name));
	}
	if !smp.is_empty() {
		let work = move || {
			let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
			let limit = Duration::from_secs(240 + 60 * smp.len() as u64);
			boot(
				args,
				&image,
				Boot::parallel(format!("{stage}-smp"), append, smp, limit),
			)
		};
		parts.push(Part::new(needs, 30, work).named("smp").alone());
	}
	Ok(parts)
}

/// The kernel's own account of where time goes, C's and ours, in a kernel that keeps it.
fn timing(args: &Args) -> Result<Vec<Check>> {
	let tests = Guest::RADIX.map(|guest| format!("timings-{}", guest.name()));
	if !args.all && !args.stages.iter().any(|stage| stage == "timing") {
		let why = "a kernel of its own; with --all or by name";
		return Ok(tests.map(|name| Check::skipped(name, why)).into());
	}
	let option = "KVM_BOOK3S_HV_P9_TIMING";
	let image = kernel::build_option(Series::find(MAIN_SERIES)?, option)?;
	boot(
		args,
		&image,
		Boot::counted(
			args,
			"timing".to_owned(),
			"",
			Names::These(tests.to_vec()),
			tests.to_vec(),
		),
	)
}

/// Minutes of the soak stage, if nobody says how many.
const SOAK_MINUTES: u64 = 10;

fn soak(args: &Args) -> Result<Vec<Check>> {
	let name = "smp-soak";
	if args.soak.is_none() && !args.stages.iter().any(|stage| stage == "soak") {
		return Ok(vec![Check::skipped(name, "ten minutes; with --soak")]);
	}
	let minutes = args.soak.unwrap_or(SOAK_MINUTES);
	if minutes == 0 {
		return Err(Usage("--soak=0 tests nothing".to_owned()).into());
	}
	let time = Duration::from_secs(60 * minutes);
	let limit = 2 * time + Duration::from_secs(300);
	let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
	boot(
		args,
		&image,
		Boot::parallel("soak".to_owned(), "", vec![name.to_owned()], limit),
	)
}

/// Which tests a machine is told to run.
enum Names {
	These(Vec<String>),
	/// Whatever it knows, but for these and those that run by name only.
	AllBut(Vec<String>),
}

/// A machine to boot for tests.
struct Boot {
	/// Name of the log and the initramfs.
	log: String,
	append: &'static str,
	names: Names,
	/// What it has to run.
	expected: Vec<String>,
	icount: bool,
	limits: Limits,
}

impl Boot {
	/// A machine that counts instructions: times in its tests are its own, however busy this
	/// one is.
	fn counted(
		args: &Args,
		log: String,
		append: &'static str,
		names: Names,
		expected: Vec<String>,
	) -> Self {
		// A test says nothing before its end.
		let tce_calls = args.tce_calls.unwrap_or(0);
		let long = Duration::from_millis(20 * args.rounds.unwrap_or(0) + tce_calls);
		Self {
			log,
			append,
			names,
			expected,
			icount: true,
			limits: Limits {
				total: Duration::from_secs(3600) + 2 * long,
				silence: Duration::from_secs(300) + long,
			},
		}
	}

	/// A machine whose CPUs run at the same time. Its tests say nothing for long.
	fn parallel(log: String, append: &'static str, tests: Vec<String>, limit: Duration) -> Self {
		Self {
			log,
			append,
			names: Names::These(tests.clone()),
			expected: tests,
			icount: false,
			limits: Limits {
				total: limit,
				silence: limit,
			},
		}
	}
}

/// What the tests find in the machine: devices for DMA at any bus address, each on a bus
/// and so in an IOMMU group of its own.
const DEVICES: [&str; 4] = [
	"-device",
	"edu,bus=pcie.0,dma_mask=0xffffffffffffffff",
	"-device",
	"edu,bus=pcie.1,dma_mask=0xffffffffffffffff",
];

/// Boots a machine and checks off what it runs.
fn boot(args: &Args, image: &Image, boot: Boot) -> Result<Vec<Check>> {
	let programs = programs::build()?;
	let seed = seed(args)?;
	let log = boot.log.as_str();
	let (tests, except) = match boot.names {
		Names::These(names) => (names, Vec::new()),
		Names::AllBut(names) => (Vec::new(), names),
	};
	say(format_args!("{log} tests, --seed {seed}"));
	let machine = Machine {
		kernel: image.stripped(),
		initrd: programs.initrd(
			&Job::Test {
				tests,
				except,
				seed,
				tce_calls: args.tce_calls,
				rounds: args.rounds,
				soak_minutes: Some(args.soak.unwrap_or(SOAK_MINUTES)),
			},
			log,
		)?,
		append: boot.append.to_owned(),
		smp: 2,
		mem: "2G".to_owned(),
		icount: boot.icount,
	};
	let mut attempt = 1;
	loop {
		let mut outcomes = Outcomes::new(boot.expected.clone());
		let total = outcomes.awaited.len();
		let mut told = Instant::now();
		let end = machine.run_with(&DEVICES, boot.limits, Echo::No, |line| {
			let ours = outcomes.line(line);
			if told.elapsed() > Duration::from_secs(15) {
				told = Instant::now();
				say(format_args!(
					"{log} tests: {} of {total}",
					total - outcomes.awaited.len()
				));
			}
			ours
		});
		if end.is_err() && !outcomes.started && attempt < ATTEMPTS {
			attempt += 1;
			say(format_args!(
				"{log} tests: the machine did not get to init; attempt {attempt} of {ATTEMPTS}"
			));
			continue;
		}
		process::write_whole(&log_path(log), outcomes.details.as_bytes())?;
		return Ok(outcomes.finish(end.map(drop)));
	}
}

/// Checks off the booted tests.
struct Outcomes {
	awaited: Vec<String>,
	/// What each test had to say for itself, and how long it took, for those who want to know.
	details: String,
	/// When the last one ended.
	last: Instant,
	/// Init said hello.
	started: bool,
	checks: Vec<Check>,
	done: bool,
}

impl Outcomes {
	fn new(expected: Vec<String>) -> Self {
		Self {
			awaited: expected,
			details: String::new(),
			last: Instant::now(),
			started: false,
			checks: Vec::new(),
			done: false,
		}
	}

	fn line(&mut self, text: &str) -> bool {
		let line = match console::parse(text) {
			None => return false,
			Some(Err(garbled)) => {
				self.checks
					.push(Check::new("console", Some(garbled.to_string())));
				return true;
			}
			Some(Ok(line)) => line,
		};
		match line {
			Line::Hello { .. } => self.started = true,
			Line::Done => self.done = true,
			Line::Fatal { why } => self.checks.push(Check::new("init", Some(why))),
			Line::Test {
				name,
				status,
				detail,
			} => {
				let took = process::human(self.last.elapsed());
				self.last = Instant::now();
				self.details
					.push_str(&format!("{name}: {detail} ({took})\n"));
				let verdict = match status {
					Status::Pass => Verdict::Passed,
					Status::Fail => Verdict::Failed(detail),
					Status::Skip => Verdict::Skipped(detail),
				};
				match self.awaited.iter().position(|awaited| *awaited == name) {
					Some(index) => drop(self.awaited.swap_remove(index)),
					None => self.checks.push(Check::new(
						name.clone(),
						Some("not in ci/booted-tests, or run twice".to_owned()),
					)),
				}
				self.checks.push(Check { name, verdict });
			}
			Line::Result(_) | Line::Na(_) | Line::Error(_) => self.checks.push(Check::new(
				"console",
				Some(format!("a benchmark's line: {text}")),
			)),
		}
		true
	}

	fn finish(mut self, end: Result<()>) -> Vec<Check> {
		if let Err(error) = end {
			self.checks.push(Check::of("machine", Err(error)));
		} else if !self.done {
			let error = anyhow!("init did not get to its end");
			self.checks.push(Check::of("machine", Err(error)));
		}
		for name in self.awaited {
			self.checks
				.push(Check::new(name, Some("did not run".to_owned())));
		}
		self.checks
	}
}

fn stock(_: &Args) -> Result<Vec<Check>> {
	let (compared, problems) = bench::compare_stock()?;
	let mut checks: Vec<Check> = compared
		.iter()
		.map(|one| {
			let (stock, patched) = (one.stock, one.patched);
			let complaint = (!one.holds())
				.then(|| format!("{stock:.2} instructions unpatched, {patched:.2} patched"));
			Check::new(one.cell.to_string(), complaint)
		})
		.collect();
	checks.extend(
		problems
			.into_iter()
			.map(|problem| Check::new("figure", Some(problem))),
	);
	Ok(checks)
}

/// What hcalls may cost on the fast path, in instructions.
const FAST_LIMITS: [(Case, Guest, f64); 6] = [
	(Case::Null, Guest::Radix, 140.0),
	(Case::Null, Guest::Real, 170.0),
	(Case::HGetTce, Guest::Radix, 200.0),
	(Case::HPutTce, Guest::Radix, 260.0),
	(Case::HPutTceIndirect512, Guest::Radix, 512.0 * 16.0),
	(Case::HStuffTce512, Guest::Radix, 512.0 * 4.0),
];

/// How far the figures of two runs may lie apart.
const SPREAD: f64 = 0.001;
/// The same for cases in which the host's scheduler or allocator of pages has a part.
const UNSTEADY_SPREAD: f64 = 0.02;

/// By how much the Rust path may be above C and still count as the same.
fn same(case: Case) -> f64 {
	1.0 + if case.is_steady() {
		SPREAD
	} else {
		UNSTEADY_SPREAD
	}
}

/// Where the Rust path may be above C, and by how much: the full path brings the list of an
/// H_PUT_TCE_INDIRECT before its entries are looked at, which pays from the second entry on.
/// For radix guests the shorter way into the guest makes up for that.
const ABOVE_C: [(Case, Guest, f64); 2] = [
	(Case::HPutTceIndirect, Guest::Hash, 1.035),
	(Case::HPutTceIndirect, Guest::HashReal, 1.035),
];

/// What the Rust path may need in a cell, as a multiple of what C does.
fn allowed(cell: Cell) -> f64 {
	let mut known = ABOVE_C.iter();
	let known = known.find(|(case, guest, _)| (*case, *guest) == (cell.case, cell.guest));
	known.map_or_else(|| same(cell.case), |(_, _, factor)| *factor)
}

fn measure(args: &Args) -> Result<Found> {
	let options = bench::Args {
		quick: !args.all,
		repeat: if args.all { 3 } else { 2 },
		timeout: 300,
		..bench::Args::default()
	};
	let bench::Outcome {
		text,
		reports,
		problems,
	} = bench::run(&options)?;
	let mut checks: Vec<Check> = problems
		.into_iter()
		.map(|problem| Check::new("figure", Some(problem)))
		.collect();
	for (case, guest, limit) in FAST_LIMITS {
		let (c, g) = (case.name(), guest.name());
		let name = format!("{c} {g} within {limit} instructions");
		let complaint = match reports[0].median(case, guest, Column::RustFast) {
			None => Some("not measured".to_owned()),
			Some(cost) => (cost > limit).then(|| format!("{cost:.1}")),
		};
		checks.push(Check::new(name, complaint));
	}
	checks.extend(trace::checks(&reports[0]));
	for entry in &reports[0].results {
		let (cell, cost) = (entry.cell(), entry.instructions.median);
		if !matches!(cell.path, Column::RustFull | Column::RustFast) {
			continue;
		}
		let name = format!("{cell} not above C");
		let complaint = match reports[0].median(cell.case, cell.guest, Column::C) {
			None => Some("C was not measured".to_owned()),
			Some(c) => (cost > c * allowed(cell)).then(|| format!("{cost:.1}, C {c:.1}")),
		};
		checks.push(Check::new(name, complaint));
	}
	let spreads = spread::between(&reports);
	for one in &spreads {
		let spread = one.medians.spread();
		let allowed = same(one.cell.case) - 1.0;
		let complaint = (spread >= allowed).then(|| format!("{:.3}%", 100.0 * spread));
		checks.push(Check::new(format!("spread of {}", one.cell), complaint));
	}
	checks.extend(against_reference(&reports[0]));
	if spreads.is_empty() {
		checks.push(Check::new(
			"spread",
			Some("no figures to compare".to_owned()),
		));
	}
	Ok(Found { text, checks })
}

/// A kernel without debugfs: the figures are there, and one line says what can't be known.
fn without_debugfs() -> Result<Vec<Check>> {
	let (figures, problems) = bench::without_debugfs()?;
	let complaint = match &problems[..] {
		[one] if figures > 0 && one.contains("no counters") => None,
		_ => Some(format!("{figures} figures, and: {}", problems.join("; "))),
	};
	Ok(vec![Check::new("a kernel without debugfs", complaint)])
}

/// What is too slow for `ci/test`: two instructions of a hundred are nothing.
fn reference_limit(cell: Cell) -> Limit {
	let percent = if cell.case.is_steady() {
		bench::THRESHOLD
	} else {
		100.0 * UNSTEADY_SPREAD
	};
	Limit {
		percent,
		slack: 2.0,
	}
}

/// Compares a run with the figures that the repository keeps.
fn against_reference(report: &Measured) -> Vec<Check> {
	match bench::read(&bench::reference_path()) {
		Ok(reference) => regressions(&reference, report),
		Err(error) => vec![Check::of("reference report", Err(error))],
	}
}

/// A check for each figure of the reference, and one for all that it doesn't have.
fn regressions(reference: &Measured, report: &Measured) -> Vec<Check> {
	let comparison = Comparison::of(reference, report, reference_limit);
	let others = comparison.environments.iter();
	let others: Vec<_> = others.map(|(what, ..)| format!("another {what}")).collect();
	let because = if others.is_empty() {
		String::new()
	} else {
		format!(" (the reference was measured on {})", others.join(", "))
	};
	let name = |cell: Cell| format!("{cell} against the reference");
	let mut checks = Vec::new();
	for one in &comparison.differences {
		let complaint = (one.verdict == Slowness::Slower).then(|| {
			let (base, new) = (one.base, one.new);
			format!("{new:.1} instructions, {base:.1} in the reference{because}")
		});
		checks.push(Check::new(name(one.cell), complaint));
	}
	for (cell, why) in comparison.lost {
		let why = why.unwrap_or_else(|| "not measured".to_owned());
		checks.push(Check::new(name(cell), Some(why)));
	}
	if !comparison.gained.is_empty() {
		let count = comparison.gained.len();
		checks.push(Check::skipped(
			format!("{count} figures against the reference"),
			"it doesn't have them; cargo xtask bench --quick --reference",
		));
	}
	checks
}

#[cfg(test)]
mod tests {
	use super::*;

	fn passed(check: &Check) -> bool {
		matches!(check.verdict, Verdict::Passed)
	}

	fn args(words: &str) -> Args {
		use clap::Parser;
		#[derive(Parser)]
		struct Line {
			#[command(flatten)]
			args: Args,
		}
		Line::parse_from(["test"].into_iter().chain(words.split_whitespace())).args
	}

	/// The tasks of a command line: name, and the names of what has to end before.
	fn planned(words: &str) -> Vec<(String, Vec<String>)> {
		let args = args(words);
		let (stages, planned) = plan(&args).unwrap();
		let (tasks, places) = tasks(&stages, planned);
		assert_eq!(tasks.len(), places.len());
		let name = |&index: &usize| tasks[index].name.clone();
		tasks
			.iter()
			.map(|task| (task.name.clone(), task.after.iter().map(name).collect()))
			.collect()
	}

	#[test]
	fn what_is_needed_comes_first_and_once() {
		let names =
			|words| -> Vec<String> { planned(words).into_iter().map(|(name, _)| name).collect() };
		assert_eq!(names("format"), ["format"]);
		assert_eq!(names("lint"), ["lint"]);
		assert_eq!(
			names("gates client"),
			["kernel under test", "client's files", "gates", "client"]
		);
		let all = planned("");
		for (name, _) in &all {
			assert_eq!(all.iter().filter(|(other, _)| other == name).count(), 1);
		}
		let after = |task: &str| &all.iter().find(|(name, _)| name == task).unwrap().1;
		assert_eq!(*after("lint"), ["programs", "host"]);
		assert_eq!(*after("booted 2"), ["kernel under test", "programs"]);
		// A name that nothing has would be waited for by nobody.
		for name in STAGES.iter().flat_map(|stage| stage.after) {
			assert!(all.iter().any(|(known, _)| known == name), "{name}");
		}
	}

	#[test]
	fn booted_tests_are_divided_among_machines() {
		let parts = |words| {
			planned(words)
				.iter()
				.map(|(name, _)| name.clone())
				.filter(|name| name.starts_with("booted"))
				.collect::<Vec<_>>()
		};
		assert_eq!(parts("booted"), ["booted 1", "booted 2", "booted smp"]);
		assert_eq!(parts("booted --booted rounds-real"), ["booted 2"]);
		assert_eq!(parts("booted --booted smp-tce-hammer"), ["booted smp"]);
		assert!(plan(&args("booted --booted nothing-like-that")).is_err());
	}

	#[test]
	fn nextest_lines() {
		let check =
			nextest_check("        PASS [   0.005s] ( 1/20) kvm-p9-report console::tests::x")
				.unwrap();
		assert_eq!(check.name, "kvm-p9-report console::tests::x");
		assert!(passed(&check));
		let check = nextest_check("        FAIL [   1.005s] xtask a::b").unwrap();
		assert_eq!(check.name, "xtask a::b");
		assert!(!passed(&check));
		for line in [
			"     Summary [   0.105s] 20 tests run: 20 passed, 0 skipped",
			"    Starting 20 tests across 3 binaries",
			"        SLOW [> 60.000s] xtask a::b",
			"[",
			"",
		] {
			assert!(nextest_check(line).is_none(), "{line}");
		}
	}

	#[test]
	fn libtest_lines() {
		assert!(passed(&libtest_check("test a::b ... ok").unwrap()));
		assert!(!passed(&libtest_check("test a::b ... FAILED").unwrap()));
		let ignored = libtest_check("test a::b ... ignored, needs more").unwrap();
		assert!(matches!(ignored.verdict, Verdict::Skipped(_)));
		assert!(libtest_check("test result: ok. 1 passed; 0 failed").is_none());
	}

	#[test]
	fn a_slower_path_is_a_failure() {
		let reference = ::report::sample::report();
		let tally = |report: &Measured| Tally::of(regressions(&reference, report).iter());
		assert_eq!(tally(&reference).failed, 0);
		assert_eq!(tally(&reference).passed, reference.results.len());

		let mut slower = reference.clone();
		slower.results[0].instructions.median += 1.9;
		assert_eq!(tally(&slower).failed, 0);
		slower.results[0].instructions.median += 0.2;
		assert_eq!(tally(&slower).failed, 1);
		let mut faster = reference.clone();
		faster.results[0].instructions.median -= 50.0;
		assert_eq!(tally(&faster).failed, 0);

		let mut fewer = reference.clone();
		fewer.results.pop();
		assert_eq!(tally(&fewer).failed, 1);
		let more = Tally::of(regressions(&fewer, &reference).iter());
		assert_eq!((more.failed, more.skipped), (0, 1));
	}

	fn outcomes(lines: &[&str], end: Result<()>) -> Tally {
		let mut outcomes = Outcomes::new(vec!["one".into(), "two".into()]);
		for line in lines {
			outcomes.line(&format!("@kvm-p9 {line}"));
		}
		Tally::of(outcomes.finish(end).iter())
	}

	const ONE: &str = r#"{"kind":"test","name":"one","status":"pass","detail":""}"#;
	const TWO: &str = r#"{"kind":"test","name":"two","status":"skip","detail":"why"}"#;
	const DONE: &str = r#"{"kind":"done"}"#;

	#[test]
	fn a_whole_run() {
		assert_eq!(
			outcomes(&[ONE, TWO, DONE], Ok(())).text(),
			"1 passed, 0 failed, 1 skipped"
		);
	}

	#[test]
	fn a_lost_test_is_a_failure() {
		assert_eq!(outcomes(&[ONE, DONE], Ok(())).text(), "1 passed, 1 failed");
	}

	#[test]
	fn a_test_that_nobody_expects_is_a_failure() {
		let twice = outcomes(&[ONE, ONE, TWO, DONE], Ok(()));
		assert_eq!(twice.failed, 1);
		let unknown = ONE.replace("one", "three");
		assert_eq!(outcomes(&[ONE, TWO, &unknown, DONE], Ok(())).failed, 1);
	}

	#[test]
	fn an_early_end_is_a_failure() {
		assert_eq!(outcomes(&[ONE, TWO], Ok(())).failed, 1);
		assert_eq!(
			outcomes(&[ONE, TWO, DONE], Err(anyhow!("wedged"))).failed,
			1
		);
		assert_eq!(outcomes(&[ONE, TWO, "{", DONE], Ok(())).failed, 1);
		assert_eq!(
			outcomes(&[r#"{"kind":"fatal","why":"no kvm"}"#], Ok(())).failed,
			4
		);
	}
}
