// SPDX-License-Identifier: GPL-2.0-only
//! Machines that run booted tests, and what the tests say.

use std::fs;
use std::time::{Duration, Instant};

use ::report::console::{self, Line, Status};
use anyhow::{Context, Result, anyhow};
use harness::check::{Check, Verdict};
use harness::kernel::{self, Image, Series};
use harness::paths;
use harness::process::{self, Usage, say};
use harness::programs::{self, Job};
use harness::qemu::{Echo, Limits, Machine};

use crate::stage::{Args, MAIN_SERIES, Need, Part, log_path, seed};

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

/// Tests on a machine whose CPUs run at the same time.
const SMP: &str = "smp-";

/// How often such a machine is started until its firmware gets as far as Linux: sometimes
/// it stops (see `client`).
const ATTEMPTS: usize = 3;

/// The booted tests that are run, of those that are wanted.
pub fn chosen_tests(args: &Args, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
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
pub fn parts<'a>(
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

/// Minutes of the soak stage, if nobody says how many.
pub const SOAK_MINUTES: u64 = 10;

/// Which tests a machine is told to run.
pub enum Names {
	/// These.
	These(Vec<String>),
	/// Whatever it knows, but for these and those that run by name only.
	AllBut(Vec<String>),
}

/// A machine to boot for tests.
pub struct Boot {
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
	pub fn counted(
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
	pub fn parallel(
		log: String,
		append: &'static str,
		tests: Vec<String>,
		limit: Duration,
	) -> Self {
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
pub fn boot(args: &Args, image: &Image, boot: Boot) -> Result<Vec<Check>> {
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

#[cfg(test)]
mod tests {
	use super::*;
	use harness::check::Tally;

	const ONE: &str = r#"{"kind":"test","name":"one","status":"pass","detail":""}"#;
	const TWO: &str = r#"{"kind":"test","name":"two","status":"skip","detail":"why"}"#;
	const DONE: &str = r#"{"kind":"done"}"#;

	fn outcomes(lines: &[&str], end: Result<()>) -> Tally {
		let mut outcomes = Outcomes::new(vec!["one".into(), "two".into()]);
		for line in lines {
			outcomes.line(&format!("@kvm-p9 {line}"));
		}
		Tally::of(outcomes.finish(end).iter())
	}

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
