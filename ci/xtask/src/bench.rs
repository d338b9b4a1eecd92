// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask bench` with what can be done with its reports, and `compare-stock`.
//!
//! The kernel under test serves three columns in one boot, Linux 5.10 the fourth.
//! A problem with one figure does not keep the others from being shown. All problems are
//! listed and set the exit code.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path as FilePath, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use ::report::compare::{Comparison, Limit};
use ::report::console::{self, Cell, Line};
use ::report::disk::Disk;
use ::report::measure;
use ::report::report::{Entry, Environment, Kernel, Missing, Report};
use ::report::{costly, headline, html, spread, table};
use anyhow::{Context, Result, anyhow, bail};
use cases::{CASES, Case, case};
use protocol::{Column, GuestMode};

use crate::cells::{ASM_SERIES, chosen_cases, paths_of};
use crate::trace;
use harness::jobs::{self, Task};
use harness::kernel::{self, Image, NoSource, Series};
use harness::paths;
use harness::process::{self, Usage, say};
use harness::programs::{self, Job, Programs};
use harness::qemu::{self, Echo, Limits, Machine};

/// `cargo xtask bench`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
	#[command(subcommand)]
	command: Option<Reports>,
	#[command(flatten)]
	args: Args,
}

impl Cli {
	/// Whether the command measures, not only reads reports.
	pub fn measures(&self) -> bool {
		self.command.is_none()
	}
}

/// What can be done with reports that are there.
#[derive(clap::Subcommand)]
enum Reports {
	/// Make the page of a report
	Render {
		/// report.json
		report: PathBuf,
		/// The page [default: beside the report, .html]
		#[arg(short, long, value_name = "FILE")]
		output: Option<PathBuf>,
	},
	/// Compare two reports; fails if anything got slower
	Compare {
		/// The older one
		base: PathBuf,
		/// The newer one
		new: PathBuf,
		/// How much slower is too slow, in percent of the instructions
		#[arg(long, value_name = "PERCENT", default_value_t = THRESHOLD, allow_negative_numbers = true)]
		threshold: f64,
	},
}

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Clone, Default)]
pub struct Args {
	/// Fewer round trips, the same columns
	#[arg(long)]
	pub quick: bool,
	/// Where to write the report to, besides target/bench/report.json
	#[arg(long, value_name = "FILE")]
	pub json: Option<PathBuf>,
	/// Only these cases, separated by commas
	#[arg(long, value_name = "A,B", value_delimiter = ',')]
	pub cases: Option<Vec<String>>,
	/// Kernel under test [default: 6.12]; 5.10 measures nothing else
	#[arg(long, value_name = "SERIES")]
	pub kernel: Option<String>,
	/// Measure N times, each in a fresh boot, and show how far the runs lie apart
	#[arg(long, value_name = "N", default_value_t = 1)]
	pub repeat: usize,
	/// Keep the figures as the ones that ci/test compares with: bench/reference.json
	#[arg(long, conflicts_with_all = ["cases", "kernel"])]
	pub reference: bool,
	/// Print the tables of all cases and of costly operations, too
	#[arg(long)]
	pub all: bool,
	/// Only measure: don't look where the instructions go
	#[arg(long)]
	pub no_trace: bool,
	/// Seconds without a result after which a machine is stopped
	#[arg(long, value_name = "S", default_value_t = 300)]
	pub timeout: u64,
}

/// What to measure, how often.
///
/// The host's timer ticks every 10 million instructions. A batch takes a fraction
/// of that, so most batches see no tick, and the median is the cost without it.
struct Plan {
	/// Cases, and how many round trips a batch of them has.
	groups: Vec<(Vec<&'static Case>, u64)>,
	batches: u64,
	silence: Duration,
}

impl Plan {
	fn new(quick: bool, cases: Vec<&'static Case>, timeout: u64) -> Self {
		let (iterations, batches) = if quick { (500, 15) } else { (1000, 25) };
		let mut groups: Vec<(Vec<&'static Case>, u64)> = Vec::new();
		for case in cases {
			let size = iterations / case.weight;
			match groups.iter_mut().find(|group| group.1 == size) {
				Some((cases, _)) => cases.push(case),
				None => groups.push((vec![case], size)),
			}
		}
		Self {
			groups,
			batches,
			silence: Duration::from_secs(timeout),
		}
	}

	fn cells(&self, paths: &[Column]) -> Vec<Cell> {
		let mut cells = Vec::new();
		for &case in self.groups.iter().flat_map(|(cases, _)| cases) {
			for &guest in case.modes {
				cells.extend(paths.iter().map(|&path| Cell { case, guest, path }));
			}
		}
		cells
	}
}

/// `cargo xtask bench`
pub fn main(cli: &Cli) -> Result<()> {
	match &cli.command {
		None => {}
		Some(Reports::Render { report, output }) => {
			let page = render(report, output.as_deref())?;
			println!("{}", paths::short(&page));
			return Ok(());
		}
		Some(Reports::Compare {
			base,
			new,
			threshold,
		}) => return compare(base, new, *threshold),
	}
	let Outcome {
		text,
		reports,
		problems,
	} = run(&cli.args, &report_folder())?;
	print!("{text}");
	if problems.is_empty() {
		if cli.args.reference {
			let path = reference_path();
			process::write_whole(&path, reports[0].to_reference()?.as_bytes())?;
			say(format_args!("wrote {}", paths::short(&path)));
		}
		return Ok(());
	}
	for problem in &problems {
		say(problem);
	}
	bail!("{} of the figures are missing or wrong", problems.len());
}

/// What came of measuring.
pub struct Outcome {
	/// The tables.
	pub text: String,
	/// Each run's report. The first one tells what its figures consist of.
	pub reports: Vec<Report>,
	/// What went wrong.
	pub problems: Vec<String>,
}

/// What a machine gave.
enum Measurement {
	Figures(Figures),
	Trace(Box<trace::Outcome>),
}

/// Measures, and writes report.json and report.html into the folder. The machines count
/// instructions, so that several can run at the same time. The last whole report stays
/// until there is a new one.
pub fn run(args: &Args, folder: &FilePath) -> Result<Outcome> {
	let cases = chosen_cases(args.cases.as_deref())?;
	let series = Series::find(args.kernel.as_deref().unwrap_or("6.12"))?;
	if args.repeat == 0 {
		return Err(Usage("--repeat 0 measures nothing".to_owned()).into());
	}
	let plan = Plan::new(args.quick, cases.clone(), args.timeout);

	let mut images = Vec::new();
	let mut missing_column = None;
	if series.name != ASM_SERIES {
		images.push(kernel::build(series, false)?);
	}
	match kernel::build(Series::find(ASM_SERIES)?, false) {
		Ok(image) => images.push(image),
		Err(error) if !images.is_empty() && error.chain().any(|cause| cause.is::<NoSource>()) => {
			say(format_args!("{error:#}; its column stays empty"));
			missing_column = Some(format!("no source of Linux {ASM_SERIES} to be had"));
		}
		Err(error) => return Err(error),
	}
	let programs = programs::build()?;

	let mut tasks = Vec::new();
	for round in 1..=args.repeat {
		for image in &images {
			let name = if args.repeat > 1 {
				format!("{} (run {round} of {})", image.series, args.repeat)
			} else {
				image.series.clone()
			};
			let measured = Measured {
				image,
				paths: paths_of(image),
				name: name.clone(),
				file: format!("bench-{}-{round}", image.series),
				append: "",
			};
			let (plan, programs) = (&plan, &programs);
			tasks.push(task(name, paths_of(image), move || {
				measured.run(plan, programs).map(Measurement::Figures)
			}));
		}
	}
	let trace = !args.no_trace && trace::possible();
	if trace {
		for image in &images {
			let (cases, programs) = (&cases, &programs);
			let name = format!("trace of {}", image.series);
			tasks.push(task(name, paths_of(image), move || {
				trace::run(image, programs, cases, paths_of(image))
					.map(|outcome| Measurement::Trace(Box::new(outcome)))
			}));
		}
	}
	let mut gave: VecDeque<_> = all(tasks).into();

	let mut reports = Vec::new();
	let mut problems = Vec::new();
	for _ in 0..args.repeat {
		let mut report = Report::new(environment(&images)?);
		for _ in &images {
			if let Some(Measurement::Figures(figures)) = gave.pop_front().transpose()? {
				problems.extend(figures.put_into(&mut report));
			}
		}
		if let Some(why) = &missing_column {
			let cells = plan.cells(&[Column::Asm510]).into_iter();
			report.missing.extend(cells.map(|cell| Missing {
				cell,
				why: why.clone(),
				failed: false,
			}));
		}
		reports.push(report);
	}
	if trace {
		let outcomes = images.iter().zip(gave).map(|(image, gave)| {
			let outcome = gave.map(|gave| match gave {
				Measurement::Trace(outcome) => *outcome,
				Measurement::Figures(_) => unreachable!("the figures come first"),
			});
			(image, outcome)
		});
		problems.extend(trace::fill(&mut reports[0], outcomes.collect()));
	}
	let report = &reports[0];
	let mut text = headline::render(report, &disk()?);
	if args.all {
		text.push_str(&format!("\n{}\n", table::render(report).trim_end()));
		if let Some(costly) = costly::render(report) {
			text.push_str(&format!("\n{costly}\n"));
		}
	} else {
		text.push_str(&format!("\n{}\n", table::render_notes(report).trim()));
	}
	if reports.len() > 1 {
		text.push_str(&format!(
			"\nSpread over {} runs: (max - min) / median\n\n{}\n",
			reports.len(),
			spread::render(&spread::between(&reports)).trim_end()
		));
	}
	let json = report.to_json()?;
	let default = folder.join("report.json");
	for path in [Some(&default), args.json.as_ref()].into_iter().flatten() {
		process::write_whole(path, json.as_bytes())?;
	}
	let page = default.with_extension("html");
	process::write_whole(&page, html::render(report, &disk()?).as_bytes())?;
	say(format_args!(
		"the report as a page: {}",
		paths::short(&page)
	));
	Ok(Outcome {
		text,
		reports,
		problems,
	})
}

/// A machine's work. One that has more paths to go takes longer.
fn task<'a, T>(
	name: String,
	paths: &[Column],
	work: impl FnOnce() -> Result<T> + Send + 'a,
) -> Task<'a, T> {
	Task {
		name,
		after: Vec::new(),
		alone: false,
		seconds: paths.len() as u32,
		work: Box::new(work),
	}
}

/// Does all of it, and gives the results in the order of the tasks.
fn all<T: Send>(tasks: Vec<Task<'_, T>>) -> Vec<Result<T>> {
	let mut results: Vec<_> = tasks.iter().map(|_| None).collect();
	jobs::run(jobs::count(), tasks, |index, result| {
		results[index] = Some(result);
	});
	results.into_iter().flatten().collect()
}

/// How much slower is too slow, in percent.
pub const THRESHOLD: f64 = 0.5;

/// Reads a report, or says in a line why that can't be.
pub fn read(path: &FilePath) -> Result<Report> {
	let unusable = |why: String| Usage(format!("{}: {why}", path.display()));
	let bytes = fs::read(path).map_err(|why| unusable(why.to_string()))?;
	Ok(Report::read(&bytes).map_err(|why| unusable(why.to_string()))?)
}

/// `cargo xtask bench render`: returns where the page is.
pub fn render(json: &FilePath, output: Option<&FilePath>) -> Result<PathBuf> {
	let report = read(json)?;
	let page = output.map_or_else(|| json.with_extension("html"), FilePath::to_owned);
	if page == json {
		let why = format!("{}: the page would replace the report", page.display());
		return Err(Usage(why).into());
	}
	process::write_whole(&page, html::render(&report, &disk()?).as_bytes())?;
	Ok(page)
}

/// `cargo xtask bench compare`
fn compare(base: &FilePath, new: &FilePath, threshold: f64) -> Result<()> {
	if !(threshold >= 0.0 && threshold.is_finite()) {
		let why = format!("--threshold {threshold}: a percentage of at least 0 is needed");
		return Err(Usage(why).into());
	}
	let limit = Limit {
		percent: threshold,
		slack: 0.0,
	};
	let comparison = Comparison::of(&read(base)?, &read(new)?, |_| limit);
	println!("{}", comparison.render().trim_end());
	let (compared, slower) = (comparison.differences.len(), comparison.slower().count());
	if compared == 0 {
		bail!("the reports have no figure in common");
	}
	if slower > 0 {
		bail!("{slower} of {compared} figures are more than {threshold}% slower");
	}
	Ok(())
}

fn environment(images: &[Image]) -> Result<Environment> {
	// The first is the one under test.
	let first = images.first();
	Ok(Environment {
		kernel_release: first.map(|image| image.release.clone()).unwrap_or_default(),
		config_hash: first
			.map(|image| image.config_hash.clone())
			.unwrap_or_default(),
		object_hash: first
			.and_then(|image| image.object_hash.clone())
			.unwrap_or_else(|| "none".to_owned()),
		qemu: qemu::version()?,
		icount: qemu::ICOUNT.to_owned(),
		rustc: process::output(Command::new("rustc").arg("--version"))?,
		kernels: images
			.iter()
			.map(|image| Kernel {
				series: image.series.clone(),
				release: image.release.clone(),
				package_version: image.package_version.clone(),
				config_hash: image.config_hash.clone(),
				compiler: image.compiler.clone(),
			})
			.collect(),
	})
}

/// A kernel that is measured.
struct Measured<'a> {
	image: &'a Image,
	paths: &'a [Column],
	/// What it is called.
	name: String,
	/// Name of the initramfs, which no other has that is used at the same time.
	file: String,
	append: &'a str,
}

/// What a kernel's figures are.
struct Figures {
	entries: Vec<Entry>,
	missing: Vec<Missing>,
	problems: Vec<String>,
}

impl Figures {
	/// Adds them to a report; returns what went wrong.
	fn put_into(self, report: &mut Report) -> Vec<String> {
		report.results.extend(self.entries);
		report.missing.extend(self.missing);
		self.problems
	}
}

/// QEMU 10.0 now and then ends with this, in the middle of a measurement that it has done
/// many times. Why is not known; what it measured before that is thrown away.
const BAD_ICOUNT: &str = "Bad icount read";

impl Measured<'_> {
	/// Boots the kernel and measures.
	fn run(&self, plan: &Plan, programs: &Programs) -> Result<Figures> {
		match self.run_once(plan, programs) {
			Err(error) if format!("{error:#}").contains(BAD_ICOUNT) => {
				say(format_args!(
					"{error:#}: measuring on {} once more",
					self.name
				));
				self.run_once(plan, programs)
			}
			result => result,
		}
	}

	fn run_once(&self, plan: &Plan, programs: &Programs) -> Result<Figures> {
		let Self {
			image, paths, name, ..
		} = self;
		let mut collector = Collector::new(plan, paths, &image.release);
		let total = collector.awaited.len();
		say(format_args!("measuring on {name}: {total} figures"));
		let mut told = Instant::now();
		let mut time = Duration::ZERO;
		for (cases, iterations) in &plan.groups {
			let job = Job::Bench {
				series: image.series.clone(),
				cases: cases.iter().map(|case| case.name).collect(),
				guests: GuestMode::ALL.map(GuestMode::name).to_vec(),
				paths: paths.iter().map(|path| path.name()).collect(),
				iterations: *iterations,
				batches: plan.batches,
			};
			let machine = Machine {
				kernel: image.stripped(),
				initrd: programs.initrd(&job, &self.file)?,
				append: self.append.to_owned(),
				smp: 1,
				mem: "2G".to_owned(),
				icount: true,
			};
			let limits = Limits {
				total: Duration::from_secs(24 * 3600),
				silence: plan.silence,
			};
			time += machine.run(limits, Echo::No, |line| {
				let ours = collector.line(line);
				let have = total - collector.awaited.len();
				if told.elapsed() >= Duration::from_secs(5) {
					told = Instant::now();
					say(format_args!("measuring on {name}: {have} of {total}"));
				}
				ours
			})?;
			collector.machine_ended();
		}
		say(format_args!(
			"measured on {name} in {}",
			process::human(time)
		));
		let (entries, missing, mut problems) = collector.finish(!image.stock);
		// What is wrong with the kernel is wrong with each figure; it is said once.
		let mut seen = BTreeSet::new();
		problems.retain(|problem| seen.insert(problem.clone()));
		Ok(Figures {
			entries,
			missing,
			problems,
		})
	}
}

/// Checks off what the VMM has to deliver.
struct Collector {
	release: String,
	awaited: Vec<Cell>,
	batches: u64,
	entries: Vec<Entry>,
	missing: Vec<Missing>,
	problems: Vec<String>,
	hello: bool,
	done: bool,
}

impl Collector {
	fn new(plan: &Plan, paths: &[Column], release: &str) -> Self {
		Self {
			release: release.to_owned(),
			awaited: plan.cells(paths),
			batches: plan.batches,
			entries: Vec::new(),
			missing: Vec::new(),
			problems: Vec::new(),
			hello: false,
			done: false,
		}
	}

	/// Reads a line of the console; says whether it was the VMM's.
	fn line(&mut self, text: &str) -> bool {
		let line = match console::parse(text) {
			None => return false,
			Some(Err(garbled)) => {
				self.problems.push(garbled.to_string());
				return true;
			}
			Some(Ok(line)) => line,
		};
		match line {
			Line::Hello { release, .. } => {
				self.hello = true;
				if release != self.release {
					self.problems
						.push(format!("{release} was booted, not {}", self.release));
				}
			}
			Line::Result(measured) => {
				self.check_off(measured.cell);
				if measured.ticks.len() as u64 != self.batches
					|| measured.empty_ticks.len() as u64 != self.batches
				{
					self.problems
						.push(format!("{}: not {} batches", measured.cell, self.batches));
				}
				match Entry::new(&measured) {
					Ok(entry) => {
						if counters_missed(&entry) {
							self.problems.push(format!(
								"{}: no counters (no debugfs?), so it is not known which code served the fast figures",
								self.release
							));
						} else {
							self.problems.extend(served_wrongly(&entry));
						}
						self.entries.push(entry);
					}
					Err(problem) => self.problems.push(problem),
				}
			}
			Line::Na(reason) => {
				self.check_off(reason.cell);
				self.missing.push(reason.into());
			}
			Line::Error(reason) => {
				self.check_off(reason.cell);
				self.problems
					.push(format!("{}: {}", reason.cell, reason.why));
				self.missing.push(Missing {
					failed: true,
					..reason.into()
				});
			}
			Line::Fatal { why } => self.problems.push(why),
			Line::Test { name, .. } => self
				.problems
				.push(format!("a test, '{name}', in a benchmark")),
			Line::Done => self.done = true,
		}
		true
	}

	fn check_off(&mut self, cell: Cell) {
		match self.awaited.iter().position(|&awaited| awaited == cell) {
			Some(index) => drop(self.awaited.swap_remove(index)),
			None => self
				.problems
				.push(format!("{cell}: not asked for, or twice")),
		}
	}

	fn machine_ended(&mut self) {
		if !(std::mem::take(&mut self.hello) && std::mem::take(&mut self.done)) {
			self.problems
				.push(format!("{}: init did not get to its end", self.release));
		}
	}

	fn finish(mut self, patched: bool) -> (Vec<Entry>, Vec<Missing>, Vec<String>) {
		for cell in self.awaited {
			let why = "the machine reported nothing".to_owned();
			self.problems.push(format!("{cell}: {why}"));
			self.missing.push(Missing {
				cell,
				why,
				failed: true,
			});
		}
		// Only an old or an unpatched kernel may lack a case.
		for missing in self
			.missing
			.iter()
			.filter(|missing| !is_no_loss(missing.cell))
		{
			let known = self
				.problems
				.iter()
				.any(|text| text.starts_with(&missing.cell.to_string()));
			if patched && missing.cell.path != Column::Asm510 && !known {
				self.problems
					.push(format!("{}: {}", missing.cell, missing.why));
			}
		}
		(self.entries, self.missing, self.problems)
	}
}

/// Figures that even our kernel need not have: those that there can't be.
fn is_no_loss(cell: Cell) -> bool {
	let Cell { case, guest, path } = cell;
	case.absent(guest, path).is_some()
}

/// Whether hcalls were served by whom the column's name says. The VMM has looked at the
/// other counters already.
fn served_wrongly(entry: &Entry) -> Option<String> {
	let calls = entry.iterations * entry.batches as u64;
	let fast = entry.fast.unwrap_or(0);
	match entry.path {
		Column::RustFast if entry.case.fast.is_some() && fast != calls => Some(format!(
			"{}: {fast} of {calls} were served fast",
			entry.cell()
		)),
		Column::Asm510 | Column::C | Column::RustFull if fast != 0 => {
			Some(format!("{}: {fast} were served fast", entry.cell()))
		}
		_ => None,
	}
}

/// Whether the kernel should have said who served the hcalls, and did not.
fn counters_missed(entry: &Entry) -> bool {
	entry.path == Column::RustFast && entry.fast.is_none()
}

/// Measures the NULL hcall on the Rust path of a kernel that has no debugfs: how many
/// figures there are, and the complaints.
pub fn without_debugfs() -> Result<(usize, Vec<String>)> {
	let image = kernel::build(Series::find("6.12")?, false)?;
	let plan = Plan::new(true, vec![case!("null")], 300);
	let measured = Measured {
		image: &image,
		paths: &[Column::RustFast],
		name: "6.12 without debugfs".to_owned(),
		file: "bench-without-debugfs".to_owned(),
		append: "debugfs=off",
	};
	let figures = measured.run(&plan, &programs::build()?)?;
	Ok((figures.entries.len(), figures.problems))
}

/// How much more our image's C path may cost than the unpatched kernel's, in instructions:
/// the seam's branch, the nops of static keys, and what else the compiler makes of them.
const STOCK_TOLERANCE: f64 = 2.0;
/// And where KVM_RUN returns to userspace, which has one more static key.
const STOCK_TOLERANCE_USERSPACE: f64 = 3.0;
/// Or this part of the unpatched figure, if that is more. An H_STUFF_TCE of 512 entries, 21,643
/// instructions, has 5 more: one is the seam's, and four are where the compiler saves registers in
/// kvmppc_h_stuff_tce(), which differs with any call in it. A C handler in a function of its own
/// was tried, and has 5 more, too.
const STOCK_TOLERANCE_PART: f64 = 0.000_25;

/// One hcall on the C path, with and without our patches.
pub struct Compared {
	/// Which.
	pub cell: Cell,
	/// Instructions on the unpatched kernel.
	pub stock: f64,
	/// Instructions on ours.
	pub patched: f64,
	/// What two ticks of the timebase, one at each end of a batch, amount to.
	resolution: f64,
}

impl Compared {
	/// Cheap enough? Less is no cause for complaint.
	pub fn holds(&self) -> bool {
		self.patched - self.stock <= self.tolerance() + self.resolution
	}

	fn tolerance(&self) -> f64 {
		let least = if self.cell.case.ends_in_userspace() {
			STOCK_TOLERANCE_USERSPACE
		} else {
			STOCK_TOLERANCE
		};
		least.max(self.stock * STOCK_TOLERANCE_PART)
	}
}

/// Compares the C path of our image with the unpatched kernel's.
pub fn compare_stock() -> Result<(Vec<Compared>, Vec<String>)> {
	// Where round trips vary, they are not the same to two instructions.
	let cases = CASES
		.iter()
		.filter(|case| !case.only_patched && case.is_steady())
		.collect();
	let plan = Plan::new(true, cases, 300);
	let series = Series::find("6.12")?;
	// What fixes of the kernel's own bugs cost is not our path's.
	let images = [kernel::build_fixed(series)?, kernel::build(series, false)?];
	let programs = programs::build()?;
	let names = ["6.12 fixed", "6.12"];
	let tasks = images.iter().zip(names).map(|(image, name)| {
		let measured = Measured {
			image,
			paths: &[Column::C],
			name: name.to_owned(),
			file: format!("compare-{}", name.replace(' ', "-")),
			append: "",
		};
		let (plan, programs) = (&plan, &programs);
		task(name.to_owned(), &[Column::C], move || {
			measured.run(plan, programs)
		})
	});
	let mut reports = Vec::new();
	let mut problems = Vec::new();
	for (image, figures) in images.iter().zip(all(tasks.collect())) {
		let mut report = Report::new(environment(std::slice::from_ref(image))?);
		problems.extend(figures?.put_into(&mut report));
		reports.push(report);
	}
	let compared = reports[0]
		.results
		.iter()
		.filter_map(|entry| {
			let cell = entry.cell();
			let patched = reports[1].median(cell.case, cell.guest, cell.path)?;
			Some(Compared {
				cell,
				stock: entry.instructions.median,
				patched,
				resolution: measure::resolution(entry.iterations),
			})
		})
		.collect();
	Ok((compared, problems))
}

/// `cargo xtask compare-stock`
pub fn compare_stock_main() -> Result<()> {
	let (compared, problems) = compare_stock()?;
	let mut table = table::Table::new(
		2,
		&["case", "guest", "unpatched", "patched, C", "difference"],
	);
	for one in &compared {
		table.row([
			one.cell.case.name.to_owned(),
			one.cell.guest.name().to_owned(),
			format!("{:.2}", one.stock),
			format!("{:.2}", one.patched),
			format!("{:+.2}", one.patched - one.stock),
		]);
	}
	println!("{}", table.render().trim_end());
	for problem in &problems {
		say(problem);
	}
	let apart = compared.iter().filter(|one| !one.holds()).count();
	if apart + problems.len() > 0 || compared.is_empty() {
		bail!(
			"{apart} of {} round trips cost more than {STOCK_TOLERANCE} instructions more ({STOCK_TOLERANCE_USERSPACE} to userspace, {STOCK_TOLERANCE_PART} of a long one), {} figures are missing or wrong",
			compared.len(),
			problems.len()
		);
	}
	Ok(())
}

/// Where a run of the benchmark leaves its report.
fn report_folder() -> PathBuf {
	paths::target().join("bench")
}

/// The figures of the disk test.
pub fn disk() -> Result<Disk> {
	let path = paths::root().join("bench/reference-disk.json");
	let text = fs::read_to_string(&path).with_context(|| paths::short(&path).to_string())?;
	Disk::read(&text).map_err(|why| anyhow!("{}: {why}", paths::short(&path)))
}

/// What `ci/test` compares with.
pub fn reference_path() -> PathBuf {
	paths::root().join("bench/reference.json")
}

#[cfg(test)]
mod tests {
	use super::*;
	use protocol::map;

	fn plan(names: &[&str]) -> Plan {
		let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
		Plan::new(true, chosen_cases(Some(&names)).unwrap(), 1)
	}

	#[test]
	fn an_unknown_case_is_named() {
		let error = chosen_cases(Some(&["null".to_owned(), "nil".to_owned()])).unwrap_err();
		assert!(error.is::<Usage>());
		assert!(
			error
				.to_string()
				.starts_with("unknown case 'nil'; known: null, "),
			"{error}"
		);
	}

	#[test]
	fn large_cases_have_smaller_batches() {
		let plan = plan(&["h_stuff_tce_512", "null", "null"]);
		assert_eq!(plan.groups.len(), 2);
		assert_eq!(plan.groups[0].0, [case!("h_stuff_tce_512")]);
		assert_eq!(plan.groups[1].0, [case!("null")]);
		assert!(plan.groups[1].1 > plan.groups[0].1 && plan.groups[0].1 > 0);
		assert_eq!(plan.cells(&[Column::C]).len(), 8);
	}

	#[test]
	fn every_case_has_round_trips_and_a_guest() {
		for quick in [true, false] {
			let plan = Plan::new(quick, CASES.iter().collect(), 1);
			let planned: usize = plan.groups.iter().map(|(cases, _)| cases.len()).sum();
			assert_eq!(planned, CASES.len());
			assert!(plan.groups.iter().all(|&(_, iterations)| iterations > 0));
			for (cases, iterations) in &plan.groups {
				assert!(!cases.contains(&case!("first_touch")) || *iterations <= map::FRESH_PAGES);
			}
			let cells = plan.cells(&Column::ALL);
			for case in CASES {
				assert!(cells.iter().any(|cell| cell.case == case), "{}", case.name);
			}
		}
	}

	fn result(guest: &str, path: &str, fast: Option<u64>) -> String {
		let ticks = vec!["70000"; 15].join(",");
		let empty = vec!["2500"; 15].join(",");
		let fast = fast.map_or("null".to_owned(), |fast| fast.to_string());
		format!(
			r#"@kvm-p9 {{"kind":"result","case":"null","guest":"{guest}","path":"{path}","iterations":500,"empty_ticks":[{empty}],"ticks":[{ticks}],"fast":{fast}}}"#
		)
	}

	const HELLO: &str = r#"@kvm-p9 {"kind":"hello","release":"6.12.1","params":true}"#;
	const DONE: &str = r#"@kvm-p9 {"kind":"done"}"#;

	/// The lines of a machine that measured the NULL hcall in all guests.
	fn all_guests(path: &str, fast: Option<u64>) -> Vec<String> {
		let results = case!("null").modes.iter();
		let results = results.map(|guest| result(guest.name(), path, fast));
		[HELLO.to_owned()]
			.into_iter()
			.chain(results)
			.chain([DONE.to_owned()])
			.collect()
	}

	fn collect(path: Column, lines: &[String]) -> (usize, Vec<String>) {
		let mut collector = Collector::new(&plan(&["null"]), &[path], "6.12.1");
		for line in lines {
			assert!(collector.line(line), "{line}");
		}
		assert!(!collector.line("[    0.1] noise"));
		collector.machine_ended();
		let (entries, _, problems) = collector.finish(true);
		(entries.len(), problems)
	}

	#[test]
	fn a_whole_run_has_no_problems() {
		assert_eq!(collect(Column::C, &all_guests("c", Some(0))), (4, vec![]));
		assert_eq!(collect(Column::C, &all_guests("c", None)), (4, vec![]));
	}

	#[test]
	fn a_lost_figure_is_a_problem() {
		let mut lines = all_guests("c", None);
		lines.remove(2);
		let (entries, problems) = collect(Column::C, &lines);
		assert_eq!((entries, problems.len()), (3, 1), "{problems:?}");
		assert!(problems[0].starts_with("null real c: "), "{problems:?}");
	}

	#[test]
	fn a_lost_end_is_a_problem() {
		let mut lines = all_guests("c", None);
		lines.pop();
		assert_eq!(collect(Column::C, &lines).1.len(), 1);
	}

	#[test]
	fn an_absent_case_is_a_problem_on_our_kernel() {
		let mut lines = all_guests("c", None);
		lines[2] =
			r#"@kvm-p9 {"kind":"na","case":"null","guest":"real","path":"c","why":"x"}"#.to_owned();
		assert_eq!(collect(Column::C, &lines).1, ["null real c: x"]);
	}

	#[test]
	fn only_what_hash_guests_do_not_have_may_be_missing() {
		for (path, kind, guest, problems) in [
			("rust-fast", "na", "hash", 0),
			("rust-full", "na", "hash", 1),
			("rust-full", "error", "hash", 1),
			("rust-fast", "na", "radix", 1),
		] {
			let fast = (path == "rust-fast").then_some(7500);
			let mut lines = all_guests(path, fast);
			let index = lines
				.iter()
				.position(|line| line.contains(&format!("\"{guest}\"")))
				.unwrap();
			lines[index] = format!(
				r#"@kvm-p9 {{"kind":"{kind}","case":"null","guest":"{guest}","path":"{path}","why":"x"}}"#
			);
			let column = Column::from_name(path).unwrap();
			assert_eq!(
				collect(column, &lines).1.len(),
				problems,
				"{path} {kind} {guest}"
			);
		}
	}

	#[test]
	fn the_column_must_be_true() {
		let problems = |path: Column, fast| collect(path, &all_guests(path.name(), fast)).1.len();
		assert_eq!(problems(Column::RustFast, Some(7500)), 0);
		assert_eq!(problems(Column::RustFast, Some(7499)), 4);
		assert_eq!(problems(Column::RustFast, Some(7501)), 4);
		assert_eq!(problems(Column::RustFast, None), 4);
		assert_eq!(problems(Column::RustFull, Some(1)), 4);
	}
}
