// SPDX-License-Identifier: GPL-2.0-only
//! Machines that run booted tests, and the results of the tests.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use ::report::console::{self, Line, Status};
use anyhow::{Result, anyhow, ensure};
use booted::job::Amounts;
use booted::nmi::AWAITS_RESET;
use booted::registry::{self, Test};
use harness::check::{Check, Verdict};
use harness::initrd::Initrd;
use harness::kernel::{self, Image, Series};
use harness::paths;
use harness::process::{self, Usage, say};
use harness::programs::{self, Job};
use harness::qemu::{Echo, Limits, Machine};

use crate::stage::{Args, Need, Part, log_path, seed};

/// How often a machine is started until its firmware gets as far as Linux: sometimes it stops
/// (see `client`).
const ATTEMPTS: usize = 3;

/// What firmware says when the kernel after a system reset calls it, and it was interrupted itself. That
/// machine stops.
const IN_FIRMWARE: &str = "ATTEMPT TO RE-ENTER FIRMWARE";

/// The booted tests that are run, of those that are wanted.
pub fn chosen_tests(args: &Args, wanted: impl Fn(&Test) -> bool) -> Result<Vec<Test>> {
	let on_request = [
		registry::Boot::Soak,
		registry::Boot::Timing,
		registry::Boot::Debug,
		registry::Boot::Nmi,
		registry::Boot::Hazards,
		registry::Boot::Kexec,
	];
	let mut tests = registry::tests();
	tests.retain(|test| !on_request.contains(&test.boot));
	for start in &args.booted {
		if !tests.iter().any(|test| test.name.starts_with(start)) {
			return Err(Usage(format!("no booted test is called '{start}'")).into());
		}
	}
	tests.retain(|test| wanted(test));
	if !args.booted.is_empty() {
		let asked = |test: &Test| args.booted.iter().any(|start| test.name.starts_with(start));
		tests.retain(asked);
	}
	Ok(tests)
}

/// The names of the tests that a machine runs.
pub fn names(tests: &[Test], boot: registry::Boot) -> Vec<String> {
	let of_machine = tests.iter().filter(|test| test.boot == boot);
	of_machine.map(|test| test.name.clone()).collect()
}

/// The booted tests on as many machines as it takes.
pub fn parts<'a>(
	args: &'a Args,
	stage: &'static str,
	append: &'static str,
	wanted: impl Fn(&Test) -> bool,
) -> Result<Vec<Part<'a>>> {
	let tests = chosen_tests(args, wanted)?;
	let mut parts = Vec::new();
	for series in args.series()? {
		parts.extend(on_series(args, series, stage, append, &tests));
	}
	Ok(parts)
}

/// The same on one series.
fn on_series<'a>(
	args: &'a Args,
	series: &'static Series,
	stage: &'static str,
	append: &'static str,
	tests: &[Test],
) -> Vec<Part<'a>> {
	let needs = [Need::Kernel(series), Need::Programs];
	let stage = series.file(stage);
	// Mitigations change nothing in what the hcalls do to the page table.
	let is_long = args.all && append.is_empty();
	let usual = Amounts {
		hpt_calls: if is_long {
			Amounts::ALL.hpt_calls
		} else {
			Amounts::default().hpt_calls
		},
		..Amounts::default()
	};
	let mut parts = Vec::new();
	for (name, boot_name) in [("1", registry::Boot::First), ("2", registry::Boot::Second)] {
		let tests = names(tests, boot_name);
		if tests.is_empty() {
			continue;
		}
		let log = format!("{stage}-{name}");
		let work = move || {
			let image = kernel::build(series, false)?;
			let machine = Boot::counted(args, log, append, tests).with(usual);
			boot(args, &image, machine)
		};
		parts.push(Part::new(needs, 100, work).named(name).on(series));
	}
	let smp = names(tests, registry::Boot::Smp);
	if !smp.is_empty() {
		let work = move || {
			let image = kernel::build(series, false)?;
			let limit = Duration::from_secs(240 + 60 * smp.len() as u64);
			boot(
				args,
				&image,
				Boot::parallel(format!("{stage}-smp"), append, smp, limit),
			)
		};
		let part = Part::new(needs, 30, work).named("smp").on(series);
		parts.push(part.alone());
	}
	parts
}

/// A machine to boot for tests.
pub struct Boot {
	/// Name of the log and the initramfs.
	log: String,
	append: &'static str,
	/// What it has to run.
	tests: Vec<String>,
	icount: bool,
	limits: Limits,
	/// How much there is of what the command line does not say.
	usual: Amounts,
	/// CPUs.
	cpus: u32,
	/// One core with so many threads, in place of cores with one thread each.
	threads: Option<u32>,
	/// Its kernel starts another one, also by a panic, and so has a copy.
	has_successor: bool,
}

impl Boot {
	/// A machine with so many CPUs whose kernel starts another one, by kexec or by a panic.
	pub fn with_successor(self, cpus: u32) -> Self {
		Self {
			cpus,
			has_successor: true,
			..self
		}
	}

	/// Less or more than usual.
	pub fn with(self, usual: Amounts) -> Self {
		Self { usual, ..self }
	}

	/// One core with so many threads, in place of two cores.
	pub fn of_threads(self, threads: u32) -> Self {
		Self {
			cpus: threads,
			threads: Some(threads),
			..self
		}
	}

	/// One CPU, in place of two cores, which a debugger stops at any time. A machine that counts
	/// instructions would set its clock forward at each stop, to the next timer.
	pub fn debugged(self) -> Self {
		let limits = Limits {
			silence: self.limits.total,
			..self.limits
		};
		Self {
			cpus: 1,
			icount: false,
			limits,
			..self
		}
	}

	/// A machine that counts instructions: times in its tests are its own, however busy this
	/// one is.
	pub fn counted(args: &Args, log: String, append: &'static str, tests: Vec<String>) -> Self {
		// A test says nothing before its end.
		let all = if args.all { Amounts::ALL.hpt_calls } else { 0 };
		let calls = args.tce_calls.unwrap_or(0) + 2 * args.hpt_calls.unwrap_or(all);
		let long = Duration::from_millis(20 * args.rounds.unwrap_or(0) + calls);
		Self {
			log,
			append,
			tests,
			icount: true,
			limits: Limits {
				total: Duration::from_secs(3600) + 2 * long,
				silence: Duration::from_secs(300) + long,
			},
			usual: Amounts::default(),
			cpus: 2,
			threads: None,
			has_successor: false,
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
			tests,
			icount: false,
			limits: Limits {
				total: limit,
				silence: limit,
			},
			usual: Amounts::default(),
			cpus: 2,
			threads: None,
			has_successor: false,
		}
	}
}

/// The devices in the machine: for DMA at any bus address, each on a bus of its own and so in
/// an IOMMU group of its own.
const DEVICES: [&str; 4] = [
	"-device",
	"edu,bus=pcie.0,dma_mask=0xffffffffffffffff",
	"-device",
	"edu,bus=pcie.1,dma_mask=0xffffffffffffffff",
];

/// Boots a machine and records which tests have run.
pub fn boot(args: &Args, image: &Image, boot: Boot) -> Result<Vec<Check>> {
	run(args, image, boot, &[], ATTEMPTS, |_, _| {})
}

/// The same with more options for QEMU, and once. `ended` gets the name of each test that has
/// ended, and what it has to say.
pub fn boot_once(
	args: &Args,
	image: &Image,
	boot: Boot,
	options: &[&str],
	ended: impl FnMut(&str, &str),
) -> Result<Vec<Check>> {
	run(args, image, boot, options, 1, ended)
}

fn run(
	args: &Args,
	image: &Image,
	boot: Boot,
	options: &[&str],
	attempts: usize,
	mut ended: impl FnMut(&str, &str),
) -> Result<Vec<Check>> {
	let programs = programs::build()?;
	let seed = seed(args)?;
	let log = boot.log.as_str();
	let usual = boot.usual;
	let job = booted::job::Job {
		tests: boot.tests.clone(),
		seed,
		amounts: Amounts {
			tce_calls: args.tce_calls.unwrap_or(usual.tce_calls),
			hpt_calls: args.hpt_calls.unwrap_or(usual.hpt_calls),
			rounds: args.rounds.unwrap_or(if args.all {
				Amounts::ALL.rounds
			} else {
				usual.rounds
			}),
			soak_minutes: args.soak.unwrap_or(usual.soak_minutes),
			percent: if args.all {
				Amounts::ALL.percent
			} else {
				usual.percent
			},
		},
	};
	say(format_args!("{log} tests, --seed {seed}"));
	let job = Job::Test(serde_json::to_value(job)?);
	let initrd = if boot.has_successor {
		let kernel = std::fs::read(image.stripped())?;
		// The last kernel starts no other one. Each one before has what the next one is started from.
		let mut next: Option<Vec<u8>> = None;
		for _ in 0..=boot.tests.len() {
			let mut initrd = Initrd::new();
			programs.put(&mut initrd, "init", &job)?;
			if let Some(next) = next {
				initrd.file("vmlinux", false, &kernel);
				initrd.file("initrd", false, &next);
			}
			next = Some(initrd.finish());
		}
		let path = paths::target().join("boot").join(format!("{log}.cpio"));
		process::write_whole(&path, &next.unwrap_or_default())?;
		path
	} else {
		programs.initrd(&job, log)?
	};
	let machine = Machine {
		kernel: image.stripped(),
		initrd,
		append: boot.append.to_owned(),
		smp: boot.cpus,
		threads: boot.threads.unwrap_or(1),
		mem: "2G".to_owned(),
		icount: boot.icount,
	};
	// By the monitor a machine whose kernel starts another one has a system reset.
	let monitor = log_path(log).with_extension("monitor");
	let chardev = format!(
		"socket,id=monitor,server=on,wait=off,path={}",
		monitor.display()
	);
	let mut options = [&DEVICES[..], options].concat();
	if boot.has_successor {
		process::remove(&monitor)?;
		options.extend([
			"-chardev",
			&chardev,
			"-mon",
			"chardev=monitor,mode=readline",
		]);
	}
	let mut attempt = 1;
	loop {
		let mut outcomes = Outcomes::new(boot.tests.clone());
		let total = outcomes.awaited.len();
		let mut told = Instant::now();
		let mut connection = None;
		let mut in_firmware = false;
		let line = |line: &str| {
			in_firmware |= line.contains(IN_FIRMWARE);
			if boot.has_successor && line.contains(AWAITS_RESET) {
				// The line itself was written by firmware, into which no other code may go then.
				std::thread::sleep(Duration::from_secs(1));
				let sent = UnixStream::connect(&monitor).and_then(|mut stream| {
					stream.write_all(b"nmi\n")?;
					Ok(stream)
				});
				connection = Some(sent);
			}
			let ours = outcomes.line(line, &mut ended);
			if told.elapsed() > Duration::from_secs(15) {
				told = Instant::now();
				say(format_args!(
					"{log} tests: {} of {total}",
					total - outcomes.awaited.len()
				));
			}
			ours
		};
		let end = machine.run_to_end(&options, boot.limits, Echo::No, line);
		let end = end.and_then(|end| {
			// Otherwise nothing tells why the machine has ended.
			if !outcomes.done {
				say(format_args!("the end of the console:\n{}", end.tail));
			}
			ensure!(boot.has_successor || !end.panicked, "the kernel panicked");
			Ok(())
		});
		if let Some(Err(error)) = connection {
			let complaint = format!("the monitor can't be reached: {error}");
			outcomes.checks.push(Check::new("monitor", Some(complaint)));
		}
		if end.is_err() && (!outcomes.started || in_firmware) && attempt < attempts {
			attempt += 1;
			say(format_args!(
				"{log} tests: the machine did not get to init, or was reset in its firmware; attempt {attempt} of {attempts}"
			));
			continue;
		}
		process::write_whole(&log_path(log), outcomes.details.as_bytes())?;
		return Ok(outcomes.finish(end));
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

	fn line(&mut self, text: &str, ended: &mut impl FnMut(&str, &str)) -> bool {
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
				ended(&name, &detail);
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
						Some("not asked for, or run twice".to_owned()),
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
			outcomes.line(&format!("@kvm-p9 {line}"), &mut |_, _| {});
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
