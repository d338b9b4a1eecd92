// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask test`: everything that is checked, in stages.
//!
//! A stage that cannot do its work fails, and so does a stage that finds nothing to check.
//! Skipped checks are printed and counted.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::check::{self, Check, Found, Tally};
use harness::dep_cache;
use harness::jobs::{self, Task};
use harness::process::{self, Usage, say};

use crate::stage::{Args, Need, Part, Stage, log_path};

mod booted;
mod configs;
mod debug;
mod docs;
mod format;
pub mod gates;
mod hazards;
mod host;
mod iron;
mod kernel;
mod limits;
mod lint;
mod mitigations;
mod nested;
mod next_series;
mod nmi;
mod off;
mod passthrough;
mod prose;
mod qemu_client;
mod report_page;
mod series;
mod soak;
mod stock;
mod threads;
mod timing;
mod whole_tree;

/// All stages, in the order of their reports.
const STAGES: &[Stage] = &[
	host::STAGE,
	format::STAGE,
	docs::STAGE,
	prose::STAGE,
	lint::STAGE,
	kernel::STAGE,
	series::STAGE,
	off::STAGE,
	whole_tree::STAGE,
	configs::STAGE,
	gates::STAGE,
	booted::STAGE,
	mitigations::STAGE,
	timing::STAGE,
	debug::STAGE,
	threads::STAGE,
	nmi::STAGE,
	hazards::STAGE,
	qemu_client::STAGE,
	nested::STAGE,
	iron::STAGE,
	passthrough::STAGE,
	next_series::STAGE,
	stock::STAGE,
	limits::STAGE,
	report_page::STAGE,
	soak::STAGE,
];

/// The result of a stage.
#[derive(Default)]
struct StageReport {
	parts: Vec<(Found, Duration)>,
	/// Parts that have not ended.
	awaited: usize,
}

impl StageReport {
	fn checks(&self) -> impl Iterator<Item = &Check> {
		self.parts.iter().flat_map(|(found, _)| &found.checks)
	}

	/// The counts of its checks, and the sum of the times of its parts.
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
	args.series()?;
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
	let mut reports: Vec<StageReport> = planned
		.iter()
		.map(|parts| StageReport {
			// One entry for each part, in their order.
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
		// Print in the order of the stages, independent of which one ends first.
		while printed < reports.len() && reports[printed].awaited == 0 {
			reports[printed].print(stages[printed].name);
			printed += 1;
		}
		if stage > printed && reports[stage].awaited == 0 {
			say(reports[stage].summary(stages[stage].name));
		}
	});
	process::write_whole(&log_path("times"), times.as_bytes())?;
	// Not after a few stages only: the next checkout would get only a few crates.
	if args.stages.is_empty()
		&& let Err(error) = dep_cache::keep()
	{
		say(format_args!(
			"{error:#}: the next checkout has to compile other people's crates"
		));
	}
	let total = Tally::of(reports.iter().flat_map(StageReport::checks));
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

/// The stages of the command line and their parts, at least one part of each stage.
fn plan(args: &Args) -> Result<(Vec<&'static Stage>, Vec<Vec<Part<'_>>>)> {
	let asked = |stage: &&Stage| {
		args.stages.is_empty() || args.stages.iter().any(|name| name == stage.name)
	};
	let stages: Vec<_> = STAGES.iter().filter(asked).collect();
	let mut planned = Vec::new();
	for stage in &stages {
		let mut parts = (stage.parts)(args)?;
		if parts.is_empty() {
			parts.push(Part::new([], 0, || Ok(Vec::new())));
		}
		planned.push(parts);
	}
	Ok((stages, planned))
}

/// The result of a task: what the task found, and when the task began.
type Timed = (Result<Found>, Instant);

/// The place of a part: the number of its stage, and its number in the stage.
type Position = (usize, usize);

/// The parts of the stages as tasks. The tasks of prerequisites come first and have no place
/// in a stage.
fn tasks<'a>(
	stages: &[&Stage],
	planned: Vec<Vec<Part<'a>>>,
) -> (Vec<Task<'a, Timed>>, Vec<Option<Position>>) {
	let mut tasks: Vec<Task<'a, Timed>> = Vec::new();
	let mut places: Vec<Option<Position>> = Vec::new();
	let mut needs: Vec<Need> = Vec::new();
	for &need in planned.iter().flatten().flat_map(|part| &part.needs) {
		if !needs.contains(&need) {
			needs.push(need);
			tasks.push(Task {
				name: need.name(),
				after: Vec::new(),
				alone: false,
				seconds: need.seconds(),
				work: work(need.name(), move || need.work().map(|()| Found::default())),
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

/// Tags the messages of the work with its name, and measures its time.
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

#[cfg(test)]
mod tests {
	use super::*;

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
			[
				"kernel under test",
				"programs",
				"client's files",
				"gates",
				"client",
				"client pressure"
			]
		);
		let all = planned("");
		for (name, _) in &all {
			assert_eq!(all.iter().filter(|(other, _)| other == name).count(), 1);
		}
		let after = |task: &str| &all.iter().find(|(name, _)| name == task).unwrap().1;
		assert_eq!(*after("lint"), ["programs", "host"]);
		assert_eq!(*after("booted 2"), ["kernel under test", "programs"]);
		// No task would wait for a name that no stage and no prerequisite has.
		for name in STAGES.iter().flat_map(|stage| stage.after) {
			assert!(all.iter().any(|(known, _)| known == name), "{name}");
		}
	}

	#[test]
	fn the_help_names_each_stage() {
		use clap::Args as _;
		let mut command = Args::augment_args(clap::Command::new("test"));
		let help = command.render_long_help().to_string();
		let (_, stages) = help.split_once("Only these stages: ").unwrap();
		let (stages, _) = stages.split_once('\n').unwrap_or((stages, ""));
		let named: Vec<_> = stages.trim().split(", ").collect();
		let known: Vec<_> = STAGES.iter().map(|stage| stage.name).collect();
		assert_eq!(named, known);
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
		assert_eq!(parts("booted --booted registers-exits-real"), ["booted 2"]);
		assert_eq!(parts("booted --booted smp-tce-contend"), ["booted smp"]);
		assert!(plan(&args("booted --booted nothing-like-that")).is_err());
	}
}
