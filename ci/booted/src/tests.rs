// SPDX-License-Identifier: GPL-2.0-only
//! The booted tests.
//!
//! Each has a name and runs in VMs of its own. A test that needs a path or an hcall
//! which this kernel lacks says so and is skipped; the runner decides whether that is
//! all right for the kernel that it booted.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use protocol::block::Probe;
use protocol::regs;
use protocol::{Case, Command, Guest, Job, Outcome, Path, map, private};

use vmm::console::{Line, Status, say};
use vmm::kvm::VectorRegs;
use vmm::machine::{Call, Config, Failure, Machine, Step, unexpected};
use vmm::timer::{self, Timer};
use vmm::{command, host};

use crate::kmsg::Kmsg;
use crate::registers::{self, OneCpu};
use crate::tce_hardware::{self, Meanwhile};
use crate::{hostile_vmm, soak, stats, tce, user_regs, vfio};

/// Longer than any test's guest takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);
/// Rounds of a register test: with the NULL hcall, and with others.
const NULL_ROUNDS: u64 = 10_000;
const OTHER_ROUNDS: u64 = 2_000;
/// What a vcpu may take to leave the guest when a signal came.
const PROMPT: Duration = Duration::from_millis(100);

/// What the C path leaves in CTR: the system call vector keeps the caller's r13 there for
/// a moment, which PAPR allows.
const CTR: u64 = 0;

const PATHS: [Path; 3] = [Path::C, Path::RustFull, Path::RustFast];

/// What a passed test has to say for itself.
type Verdict = Result<String, Failure>;

struct Test {
	name: String,
	body: Box<dyn Fn(u64) -> Verdict>,
}

fn wrong<T>(why: String) -> Result<T, Failure> {
	Err(Failure::Wrong(why))
}

fn choose(path: Path) -> Result<(), Failure> {
	host::choose(path).map_err(Failure::Unsupported)
}

fn machine(guest: Guest, enable: &[Number]) -> Result<Machine, Failure> {
	Machine::new(Config {
		guest,
		enable,
		window: false,
	})
}

/// A machine for a case, with what the case needs.
fn machine_for(guest: Guest, case: Case) -> Result<Machine, Failure> {
	let number = [case.number()];
	machine(guest, if case.needs_enabling() { &number } else { &[] })
}

/// Every register survives the hcall.
fn hcall_registers(guest: Guest, path: Path, case: Case, seed: u64) -> Verdict {
	let cfar = c_path_cfar(guest)?;
	choose(path)?;
	let mut machine = machine_for(guest, case)?;
	let rounds = if case == Case::Null {
		NULL_ROUNDS
	} else {
		OTHER_ROUNDS
	};
	let mut to_userspace = 0;
	let outcome = machine.perform(register_rounds(case, rounds, seed, cfar), LIMIT, |_| {
		to_userspace += 1
	})?;
	check_registers(&outcome, guest, rounds)?;
	let expected = if case == Case::Unknown { rounds } else { 0 };
	if to_userspace != expected {
		return wrong(format!(
			"{to_userspace} hcalls reached userspace instead of {expected}"
		));
	}
	Ok(format!("{rounds} rounds of {} registers", regs::COUNT))
}

/// What the C path leaves in CFAR. It restores a 0, as the system call vector saves no
/// CFAR. But where the L1D flush on the way into a guest is done in software, the last
/// branch of that is behind it, and its address is what the guest finds. Whatever it is,
/// the Rust path must leave the same. (It leaves the C path chosen.)
fn c_path_cfar(guest: Guest) -> Result<u64, Failure> {
	choose(Path::C)?;
	let mut machine = machine_for(guest, Case::HProd)?;
	let outcome = machine.perform(register_rounds(Case::HProd, 1, 0, 0), LIMIT, |_| {})?;
	match (outcome.mismatches, outcome.mismatch.register as usize) {
		(0, _) => Ok(0),
		(1, regs::CFAR) => Ok(outcome.mismatch.got),
		_ => wrong("the C path changed another register than CFAR".into()),
	}
}

fn register_rounds(case: Case, rounds: u64, seed: u64, cfar: u64) -> Command {
	Command {
		job: Job::REGISTERS,
		number: case.number().0,
		code: case.code().0,
		iterations: rounds,
		seed,
		cfar,
		ctr: CTR,
		..Command::default()
	}
}

fn check_registers(outcome: &Outcome, guest: Guest, rounds: u64) -> Result<(), Failure> {
	if outcome.mismatches > 0 {
		let first = outcome.mismatch;
		return wrong(format!(
			"{} mismatches in {} rounds; first {} in round {}: {:#x} instead of {:#x}",
			outcome.mismatches,
			outcome.rounds,
			regs::name(first.register as usize),
			first.round,
			first.got,
			first.expected
		));
	}
	if outcome.rounds != rounds {
		return wrong(format!("{} rounds instead of {rounds}", outcome.rounds));
	}
	// A register that ignores what is written to it would compare equal for ever.
	let stuck: Vec<_> = (0..regs::COUNT)
		.filter(|&index| outcome.varied[index] == 0 && may_vary(guest, index))
		.map(|index| regs::name(index).to_string())
		.collect();
	if !stuck.is_empty() {
		return wrong(format!("never changed: {}", stuck.join(", ")));
	}
	Ok(())
}

/// Should this register have changed from round to round?
fn may_vary(guest: Guest, index: usize) -> bool {
	match index {
		// The number, the guest's own MSR, and the half of a vector that VSCR leaves 0.
		3 | regs::MSR | regs::VSCR_UPPER => false,
		regs::PID => guest == Guest::Real,
		_ => regs::exists(index),
	}
}

/// A register test would find a register that changed.
fn registers_detect(guest: Guest, seed: u64) -> Verdict {
	const ROUNDS: u64 = 100;
	choose(Path::C)?;
	let mut machine = machine_for(guest, Case::HProd)?;
	let cfar = c_path_cfar(guest)?;
	let command = register_rounds(Case::HProd, ROUNDS, seed, cfar + 4);
	let outcome = machine.perform(command, LIMIT, |_| {})?;
	let found = (
		outcome.mismatches,
		outcome.mismatch.register as usize,
		outcome.mismatch.got,
	);
	if found != (ROUNDS, regs::CFAR, cfar) {
		return wrong(format!(
			"{} mismatches in {ROUNDS} rounds with a wrong CFAR in each; first {}",
			outcome.mismatches,
			regs::name(outcome.mismatch.register as usize)
		));
	}
	Ok(format!("found {ROUNDS} of {ROUNDS} wrong registers"))
}

/// A measurement would find a wrong code.
fn code_detect(guest: Guest) -> Verdict {
	const CALLS: u64 = 100;
	choose(Path::C)?;
	let mut machine = machine_for(guest, Case::HProd)?;
	let mut command = command::timing(Case::HProd, CALLS, 1);
	command.code = Code::SUCCESS.0;
	let outcome = machine.perform(command, LIMIT, |_| {})?;
	if outcome.mismatches != CALLS || outcome.wrong_code as i64 != Case::HProd.code().0 {
		return wrong(format!(
			"found {} of {CALLS} wrong codes",
			outcome.mismatches
		));
	}
	Ok(format!("found {CALLS} of {CALLS} wrong codes"))
}

/// An exception in the guest would be told.
fn exception_detect(guest: Guest) -> Verdict {
	choose(Path::C)?;
	let command = Command {
		job: Job::TRAP,
		..Command::default()
	};
	match machine(guest, &[])?.perform(command, LIMIT, |_| {}) {
		Err(Failure::Wrong(why)) if why.starts_with("the guest took exception 0x700") => Ok(why),
		Err(failure) => Err(failure),
		Ok(_) => wrong("a trap had no consequence".into()),
	}
}

/// A number that isn't enabled reaches userspace, with its arguments, and userspace's
/// answer reaches the guest.
fn disabled(guest: Guest, path: Path) -> Verdict {
	const ROUNDS: usize = 200;
	choose(path)?;
	let mut machine = machine(guest, &[])?;
	let result = probe(&mut machine, &[Number::NULL.0; ROUNDS])?;
	check_probe(&result)?;
	match result.to_userspace.len() {
		ROUNDS => Ok(format!("{ROUNDS} of {ROUNDS} reached userspace")),
		some => wrong(format!("{some} of {ROUNDS} reached userspace")),
	}
}

/// What came of probing numbers.
#[derive(PartialEq, Eq)]
struct Probed {
	/// Number and code, in order.
	codes: Vec<Probe>,
	/// Which probes ended in userspace, with what.
	to_userspace: BTreeMap<u64, Call>,
}

fn probe(machine: &mut Machine, numbers: &[u64]) -> Result<Probed, Failure> {
	assert!(numbers.len() <= map::MAX_PROBES);
	let entry = |index: usize| map::PROBES + (index * size_of::<Probe>()) as u64;
	for (index, &number) in numbers.iter().enumerate() {
		machine.memory().write(
			entry(index),
			Probe {
				number,
				code: 0x5ca1_ab1e,
			},
		);
	}
	let mut to_userspace = BTreeMap::new();
	let command = Command {
		job: Job::PROBE,
		iterations: numbers.len() as u64,
		..Command::default()
	};
	let outcome = machine.perform(command, LIMIT, |call| {
		to_userspace.insert((call.1[0] & 0xffff_ffff) >> 16, call);
	})?;
	if outcome.rounds != numbers.len() as u64 {
		return wrong(format!(
			"{} of {} numbers probed",
			outcome.rounds,
			numbers.len()
		));
	}
	let codes = (0..numbers.len())
		.map(|index| machine.memory().read(entry(index)))
		.collect();
	Ok(Probed {
		codes,
		to_userspace,
	})
}

/// Whatever reached userspace came with its own number and arguments, and was
/// answered with userspace's code.
fn check_probe(probed: &Probed) -> Result<(), Failure> {
	for (&index, &(number, args)) in &probed.to_userspace {
		let Some(&Probe {
			number: asked,
			code,
		}) = probed.codes.get(index as usize)
		else {
			return wrong(format!(
				"userspace got {:#x} with arguments that nobody sent",
				number.0
			));
		};
		let first = Probe::first_arg(index);
		if number.0 != asked || !args.iter().zip(first..).all(|(&arg, sent)| arg == sent) {
			return wrong(format!(
				"{asked:#x} reached userspace as {:#x} with {args:#x?}",
				number.0
			));
		}
		if code as i64 != Code::FUNCTION.0 {
			return wrong(format!(
				"{asked:#x}: userspace's code arrived as {:#x}",
				code
			));
		}
	}
	Ok(())
}

/// Every multiple of 4 up to 0x500, and some that only look like hcalls.
fn numbers() -> Vec<u64> {
	let near = |number: Number| {
		let n = number.0;
		[
			n + 1,
			n + 2,
			n + 3,
			n | 1 << 31,
			n | 1 << 32,
			n | 1 << 62,
			n | 1 << 63,
			n << 2,
			n << 32,
		]
	};
	// H_CEDE waits for an interrupt that will never come.
	(0..=0x500)
		.step_by(4)
		.filter(|&number| number != Number::CEDE.0)
		.chain(near(Number::NULL))
		.chain(near(Number::PROD))
		.chain([
			0xf000,
			0xf001,
			0xf002,
			0xffff,
			1 << 31,
			u64::MAX,
			u64::MAX - 3,
		])
		.chain([private::UNKNOWN.0, i64::MIN as u64])
		.collect()
}

fn describe(probed: &Probed) -> String {
	let (all, userspace) = (probed.codes.len(), probed.to_userspace.len());
	format!("{all} numbers, {userspace} of them reached userspace")
}

/// What each number does on the C path makes sense.
fn probe_c(guest: Guest) -> Verdict {
	choose(Path::C)?;
	let numbers = numbers();
	let probed = probe(&mut machine(guest, &[])?, &numbers)?;
	check_probe(&probed)?;
	let reached = |number: u64| {
		let index = numbers
			.iter()
			.position(|&n| n == number)
			.expect("it is in the list");
		probed.to_userspace.contains_key(&(index as u64))
	};
	if reached(Number::PROD.0) || !reached(private::UNKNOWN.0) || !reached(Number::NULL.0) {
		return wrong("H_PROD reached userspace, or an unknown or disabled number didn't".into());
	}
	Ok(describe(&probed))
}

/// Every number does on a Rust path what it does on the C path.
fn probe_rust(guest: Guest, path: Path, null: bool) -> Verdict {
	// So that the order of complaints is: no parameters, no hcall.
	choose(path)?;
	let enable: &[_] = if null { &[Number::NULL] } else { &[] };
	let numbers = numbers();
	let [c, rust] = {
		choose(Path::C)?;
		let c = probe(&mut machine(guest, enable)?, &numbers)?;
		choose(path)?;
		[c, probe(&mut machine(guest, enable)?, &numbers)?]
	};
	check_probe(&c)?;
	check_probe(&rust)?;
	for (index, (c_probe, rust_probe)) in c.codes.iter().zip(&rust.codes).enumerate() {
		let reached = |probed: &Probed| probed.to_userspace.contains_key(&(index as u64));
		if c_probe != rust_probe || reached(&c) != reached(&rust) {
			return wrong(format!(
				"{:#x}: code {:#x} (userspace: {}) instead of {:#x} (userspace: {})",
				c_probe.number,
				rust_probe.code,
				reached(&rust),
				c_probe.code,
				reached(&c)
			));
		}
	}
	Ok(describe(&rust))
}

/// `sc 1` in problem state is a privilege violation, not an hcall.
fn problem_state(path: Path, case: Case) -> Verdict {
	const PRIVILEGED: u64 = 0x4_0000;
	const PROBLEM_STATE: u64 = 0x4000;
	choose(path)?;
	let mut machine = machine_for(Guest::Radix, case)?;
	let command = Command {
		job: Job::PROBLEM,
		number: case.number().0,
		..Command::default()
	};
	let mut to_userspace = 0;
	for _ in 0..100 {
		let outcome = machine.perform(command, LIMIT, |_| to_userspace += 1)?;
		let expected = PRIVILEGED | PROBLEM_STATE;
		if outcome.srr0 != 0 || outcome.srr1 & (0x7_0000 | PROBLEM_STATE) != expected {
			return wrong(format!(
				"program check {:+} bytes from the instruction after it, SRR1 {:#x}",
				outcome.srr0 as i64, outcome.srr1
			));
		}
	}
	match to_userspace {
		0 => Ok("100 privileged-instruction program checks".into()),
		some => wrong(format!("{some} hcalls reached userspace")),
	}
}

/// Parameters may be written while guests run.
fn switch_path(guest: Guest, seed: u64) -> Verdict {
	const LEAST: u64 = 100;
	let cfar = c_path_cfar(guest)?;
	choose(Path::RustFast)?;
	let mut machine = machine(guest, &[Number::NULL])?;
	let before = counters()?;
	let stop = AtomicBool::new(false);
	let (outcome, flips) = std::thread::scope(|scope| {
		let flipper = scope.spawn(|| {
			let mut flips = 0;
			while !stop.load(Ordering::Relaxed) {
				for path in PATHS {
					host::choose(path)?;
					flips += 1;
					std::thread::sleep(Duration::from_micros(300));
				}
			}
			Ok::<u64, String>(flips)
		});
		let rounds = register_rounds(Case::Null, 4 * NULL_ROUNDS, seed, cfar);
		let outcome = machine.perform(rounds, LIMIT, |_| {});
		stop.store(true, Ordering::Relaxed);
		(outcome, flipper.join().expect("it doesn't panic"))
	});
	let (outcome, flips) = (outcome?, flips?);
	check_registers(&outcome, guest, 4 * NULL_ROUNDS)?;
	let after = counters()?;
	let grown = |name: &str| counter(&after, name).saturating_sub(counter(&before, name));
	// A round is served fast, or it takes an entry by Rust, or the C path had it, which
	// counts nothing.
	let (rust, fast) = (grown("entry_rust"), grown("fast_null"));
	let c = outcome.rounds.saturating_sub(rust + fast);
	let what = format!(
		"{flips} switches in {} rounds: {fast} fast, {rust} entries by Rust, at least {c} by C",
		outcome.rounds
	);
	if flips < LEAST || rust == 0 || fast == 0 || c == 0 {
		wrong(what)
	} else {
		Ok(what)
	}
}

type Counters = BTreeMap<String, u64>;

fn counters() -> Result<Counters, Failure> {
	host::counters().ok_or_else(|| Failure::Wrong("no readable counters in debugfs".into()))
}

fn counter(counters: &Counters, name: &str) -> u64 {
	counters.get(name).copied().unwrap_or(0)
}

/// The counters tell who served an hcall.
fn fast_counted(guest: Guest) -> Verdict {
	const CALLS: u64 = 1000;
	let mut served = vec![];
	for path in PATHS {
		choose(path)?;
		let mut machine = machine(guest, &[Number::NULL])?;
		let before = counters()?;
		let outcome = machine.perform(command::timing(Case::Null, CALLS, 1), LIMIT, |_| {})?;
		let after = counters()?;
		if outcome.mismatches > 0 {
			return wrong(format!(
				"{} wrong codes on {}",
				outcome.mismatches,
				path.name()
			));
		}
		let grown = |name: &str| counter(&after, name).saturating_sub(counter(&before, name));
		let fast = if path == Path::RustFast { CALLS } else { 0 };
		if grown("fast_null") != fast {
			let (name, is) = (path.name(), grown("fast_null"));
			return wrong(format!(
				"{name}: {is} of {CALLS} counted as fast instead of {fast}"
			));
		}
		// Nothing here is a reason to take the C path though path=rust.
		let reasons: u64 = after
			.keys()
			.filter(|name| name.starts_with("c_"))
			.map(|n| grown(n))
			.sum();
		if (grown("entry_rust") == 0) != (path == Path::C) || reasons != 0 {
			let (name, entries) = (path.name(), grown("entry_rust"));
			return wrong(format!(
				"{name}: {entries} entries by Rust, {reasons} by C after all"
			));
		}
		served.push(format!("{} {fast}", path.name()));
	}
	Ok(format!(
		"of {CALLS} calls served fast: {}",
		served.join(", ")
	))
}

fn start_storm(guest: Guest, case: Case) -> Result<Machine, Failure> {
	let mut machine = machine_for(guest, case)?;
	let (number, code) = (case.number().0, case.code().0);
	machine.start(Command {
		job: Job::STORM,
		number,
		code,
		..Command::default()
	});
	Ok(machine)
}

/// The storm's hcalls so far, all with the right code.
fn storm_rounds(machine: &Machine) -> Result<u64, Failure> {
	let outcome = machine.outcome();
	match outcome.mismatches {
		0 => Ok(outcome.rounds),
		some => wrong(format!(
			"{some} of {} hcalls returned a wrong code",
			outcome.rounds
		)),
	}
}

/// A timer's signal gets a vcpu out of a storm of hcalls.
fn signal_storm(guest: Guest, path: Path, case: Case) -> Verdict {
	choose(path)?;
	let mut machine = start_storm(guest, case)?;
	let mut worst = Duration::ZERO;
	let mut rounds = 0;
	for signal in 0..20_u32 {
		// Not in step with the host's tick.
		let expiry = timer::now() + Duration::from_micros(20_000 + 777 * u64::from(signal));
		let _timer = Timer::at(expiry)?;
		match machine.step()? {
			Step::Interrupted => {}
			Step::Done(_) => return wrong("the storm ended by itself".into()),
			Step::Call((number, _)) => {
				return wrong(format!("hcall {:#x} reached userspace", number.0));
			}
			Step::Mmio(mmio) => return Err(unexpected(&mmio)),
		}
		let Some(late) = timer::now().checked_sub(expiry) else {
			return wrong("KVM_RUN returned before the signal".into());
		};
		worst = worst.max(late);
		if late > PROMPT {
			return wrong(format!(
				"{} ms from the signal to KVM_RUN's return",
				late.as_millis()
			));
		}
		let now = storm_rounds(&machine)?;
		if now <= rounds {
			return wrong(format!("no hcall before signal {signal}"));
		}
		rounds = now;
	}
	Ok(format!(
		"20 signals in {rounds} hcalls, at most {} us late",
		worst.as_micros()
	))
}

/// A storm of hcalls leaves the CPU to others when the scheduler wants it.
fn resched_storm(guest: Guest, path: Path, case: Case) -> Verdict {
	const WALL: Duration = Duration::from_millis(600);
	choose(path)?;
	let _one_cpu = OneCpu::new(0)?;
	let mut machine = start_storm(guest, case)?;
	let (stop, spins) = (AtomicBool::new(false), AtomicU64::new(0));
	let (own, other) = std::thread::scope(|scope| {
		let spinner = scope.spawn(|| {
			while !stop.load(Ordering::Relaxed) {
				spins.fetch_add(1, Ordering::Relaxed);
			}
			timer::thread_time()
		});
		let before = timer::thread_time();
		let end = Instant::now() + WALL;
		let result = (|| {
			let _timer = Timer::every(Duration::from_millis(20), WALL)?;
			while Instant::now() < end {
				if !matches!(machine.step()?, Step::Interrupted) {
					return wrong("the storm ended by itself".into());
				}
			}
			Ok(())
		})();
		stop.store(true, Ordering::Relaxed);
		let own = timer::thread_time() - before;
		let other = spinner.join().expect("it doesn't panic");
		result.map(|()| (own, other))
	})?;
	let rounds = storm_rounds(&machine)?;
	// Fair would be half each.
	if other < WALL / 4 || own < WALL / 4 || rounds == 0 {
		return wrong(format!(
			"of {} ms the storm got {} and the other thread {} ({rounds} hcalls)",
			WALL.as_millis(),
			own.as_millis(),
			other.as_millis()
		));
	}
	Ok(format!(
		"storm {} ms, other thread {} ms, {rounds} hcalls",
		own.as_millis(),
		other.as_millis()
	))
}

/// Whose FP, VMX and VSX registers KVM_RUN returns with, while another thread wants
/// the CPU.
///
/// Linux's C path returns with the guest's once the thread has been scheduled out inside
/// KVM_RUN. That this test finds it there shows that it would find it on the Rust path.
fn user_vectors(guest: Guest, path: Path, seed: u64) -> Verdict {
	const RUNS: u64 = 60;
	const INTERVAL: Duration = Duration::from_millis(15);
	choose(path)?;
	let _one_cpu = OneCpu::new(0)?;
	let mut machine = start_storm(guest, Case::HProd)?;
	let stop = AtomicBool::new(false);
	let wrong_runs = std::thread::scope(|scope| {
		scope.spawn(|| {
			while !stop.load(Ordering::Relaxed) {
				std::hint::spin_loop();
			}
		});
		let result = (|| {
			let _timer = Timer::every(INTERVAL, INTERVAL)?;
			let mut wrong_runs = 0;
			let mut pattern = regs::Pattern::new(seed);
			for _ in 0..RUNS {
				let before = VectorRegs(std::array::from_fn(|_| {
					u128::from(pattern.next()) << 64 | u128::from(pattern.next())
				}));
				let (interrupted, after) = machine.step_with(&before)?;
				if !interrupted {
					return wrong("the storm ended by itself".into());
				}
				wrong_runs += u64::from(after != before);
			}
			Ok(wrong_runs)
		})();
		stop.store(true, Ordering::Relaxed);
		result
	})?;
	match (path, wrong_runs) {
		(Path::C, 0) => wrong(format!(
			"the C path's known bug did not show in {RUNS} runs"
		)),
		(Path::C, _) => Ok(format!(
			"the C path's known bug: wrong after {wrong_runs} of {RUNS} runs"
		)),
		(_, 0) => Ok(format!("unchanged after {RUNS} runs")),
		_ => wrong(format!(
			"not the caller's after {wrong_runs} of {RUNS} runs"
		)),
	}
}

/// How much of what there can be any amount of.
#[derive(Clone, Copy)]
pub struct Amounts {
	/// Random hcalls of a test of TCEs.
	pub tce_calls: u64,
	/// Rounds of each path.
	pub rounds: u64,
	/// Minutes of the soak test.
	pub soak_minutes: u64,
}

/// All tests, in the order in which they run.
fn all(amounts: Amounts) -> Vec<Test> {
	let mut tests = vec![];
	let mut add = |name: String, body: Box<dyn Fn(u64) -> Verdict>| tests.push(Test { name, body });
	for guest in Guest::RADIX {
		let g = guest.name();
		add(format!("probe-{g}-c"), Box::new(move |_| probe_c(guest)));
		add(
			format!("detect-register-{g}"),
			Box::new(move |seed| registers_detect(guest, seed)),
		);
		add(
			format!("detect-code-{g}"),
			Box::new(move |_| code_detect(guest)),
		);
		add(
			format!("detect-exception-{g}"),
			Box::new(move |_| exception_detect(guest)),
		);
		add(
			format!("detect-rounds-{g}"),
			Box::new(move |seed| registers::detect(guest, seed, c_path_cfar(guest)?)),
		);
		add(
			format!("rounds-{g}"),
			Box::new(move |seed| {
				let cfar = c_path_cfar(guest)?;
				registers::compare(guest, &PATHS, seed, amounts.rounds, cfar)
			}),
		);
		add(
			format!("rounds-{g}-timed"),
			Box::new(move |seed| {
				let cfar = c_path_cfar(guest)?;
				let _stats = stats::Setting::on("stats")?;
				let paths = [Path::C, Path::RustFast];
				registers::compare(guest, &paths, seed, amounts.rounds, cfar)
			}),
		);
		add(
			format!("rounds-{g}-moving"),
			Box::new(move |seed| {
				registers::moving(guest, seed, amounts.rounds / 2, c_path_cfar(guest)?)
			}),
		);
		for path in PATHS {
			let p = path.name();
			for case in [Case::Null, Case::HProd, Case::Unknown] {
				add(
					format!("regs-{g}-{p}-{}", case.name()),
					Box::new(move |seed| hcall_registers(guest, path, case, seed)),
				);
			}
			add(
				format!("user-vectors-{g}-{p}"),
				Box::new(move |seed| user_vectors(guest, path, seed)),
			);
			for (busy, name) in [(false, "idle"), (true, "busy")] {
				add(
					format!("user-regs-{g}-{p}-{name}"),
					Box::new(move |seed| user_regs::kept(guest, path, busy, seed)),
				);
			}
			add(
				format!("disabled-null-{g}-{p}"),
				Box::new(move |_| disabled(guest, path)),
			);
			for case in [Case::Null, Case::HProd] {
				let c = case.name();
				add(
					format!("signal-storm-{g}-{p}-{c}"),
					Box::new(move |_| signal_storm(guest, path, case)),
				);
				add(
					format!("resched-storm-{g}-{p}-{c}"),
					Box::new(move |_| resched_storm(guest, path, case)),
				);
			}
			if path != Path::C {
				add(
					format!("probe-{g}-{p}-null-off"),
					Box::new(move |_| probe_rust(guest, path, false)),
				);
				add(
					format!("probe-{g}-{p}-null-on"),
					Box::new(move |_| probe_rust(guest, path, true)),
				);
			}
		}
		add(
			format!("switch-path-{g}"),
			Box::new(move |seed| switch_path(guest, seed)),
		);
		add(
			format!("tce-diff-{g}"),
			Box::new(move |seed| tce::differential(guest, seed, amounts.tce_calls)),
		);
		for path in PATHS {
			add(
				format!("tce-moving-list-{g}-{}", path.name()),
				Box::new(move |_| tce::moving_list(guest, path)),
			);
			add(
				format!("tce-closing-table-{g}-{}", path.name()),
				Box::new(move |_| tce::closing_table(guest, path)),
			);
		}
		add(
			format!("fast-counted-{g}"),
			Box::new(move |_| fast_counted(guest)),
		);
		add(
			format!("regs-{g}-rust-fast-timed"),
			Box::new(move |seed| {
				let _stats = stats::Setting::on("stats")?;
				hcall_registers(guest, Path::RustFast, Case::Null, seed)
			}),
		);
		for (name, body) in stats::all(guest) {
			add(name, Box::new(move |_| body(guest)));
		}
	}
	for path in [Path::RustFull, Path::RustFast] {
		add(
			format!("hostile-{}", path.name()),
			Box::new(move |seed| {
				hostile_vmm::differential(path, seed, amounts.rounds / hostile_vmm::ROUNDS_OF_CASE)
			}),
		);
	}
	for path in PATHS {
		let (guest, p) = (Guest::Radix, path.name());
		add(
			format!("tce-hw-dma-{p}"),
			Box::new(move |_| tce_hardware::translation(guest, path)),
		);
		add(
			format!("tce-hw-count-{p}"),
			Box::new(move |_| tce_hardware::counts(guest, path)),
		);
		add(
			format!("tce-hw-list-unmap-{p}"),
			Box::new(move |_| tce_hardware::list_unmaps(guest, path)),
		);
		add(
			format!("tce-hw-slot-end-{p}"),
			Box::new(move |_| tce_hardware::slot_end(guest, path)),
		);
		if path != Path::C {
			add(
				format!("tce-hw-diff-{p}"),
				Box::new(move |seed| {
					tce_hardware::differential(guest, path, seed, amounts.tce_calls / 4)
				}),
			);
		}
	}
	for path in PATHS {
		for case in [Case::Null, Case::HProd] {
			add(
				format!("pr-sc1-{}-{}", path.name(), case.name()),
				Box::new(move |_| problem_state(path, case)),
			);
		}
	}
	// For a machine whose CPUs run at the same time: only by name.
	add(
		"smp-tce-hammer".into(),
		Box::new(|seed| soak::hammer(Guest::Radix, seed, Duration::from_secs(8))),
	);
	for path in PATHS {
		for (name, meanwhile) in [
			("hammer", Meanwhile::Registrations),
			("attach", Meanwhile::Attachments),
		] {
			add(
				format!("smp-tce-hw-{name}-{}", path.name()),
				Box::new(move |seed| {
					tce_hardware::hammer(path, seed, meanwhile, Duration::from_secs(6))
				}),
			);
		}
	}
	add(
		"smp-soak".into(),
		Box::new(move |seed| {
			let time = Duration::from_secs(60 * amounts.soak_minutes);
			let [radix, real] = Guest::RADIX.map(c_path_cfar);
			soak::soak([radix?, real?], seed, time)
		}),
	);
	tests
}

/// Tests that need another kernel configuration, and run by name only.
fn by_name() -> Vec<Test> {
	let test = |guest: Guest| Test {
		name: format!("timings-{}", guest.name()),
		body: Box::new(move |_| stats::timings(guest)),
	};
	Guest::RADIX.into_iter().map(test).collect()
}

/// Runs the tests of those names, or all but some, and says how each ended.
pub fn run(names: &[String], except: &[String], seed: u64, amounts: Amounts) -> Result<(), String> {
	let mut tests = all(amounts);
	if !names.is_empty() {
		tests.extend(by_name());
	}
	if let Some(name) = names
		.iter()
		.chain(except)
		.find(|&name| !tests.iter().any(|test| test.name == *name))
	{
		return Err(format!("there is no test \"{name}\""));
	}
	vfio::take_devices().map_err(|e| format!("devices for DMA: {e}"))?;
	let mut kmsg = Kmsg::from_now().map_err(|e| format!("/dev/kmsg: {e}"))?;
	for test in tests.iter().filter(|test| match names {
		[] => !test.name.starts_with("smp-") && !except.contains(&test.name),
		names => names.contains(&test.name),
	}) {
		let (status, detail) = match (test.body)(seed) {
			Ok(detail) => (Status::Pass, detail),
			Err(Failure::Unsupported(why)) => (Status::Skip, why),
			Err(Failure::Wrong(why)) => (Status::Fail, why),
		};
		// Whatever the test found: the kernel mustn't have complained meanwhile.
		let complaints = kmsg.complaints().map_err(|e| format!("/dev/kmsg: {e}"))?;
		let (status, detail) = if complaints.is_empty() {
			(status, detail)
		} else {
			let first = complaints.first().map_or("", |line| line);
			let count = complaints.len();
			(
				Status::Fail,
				format!("the kernel complains, {count} times: {first:?}; {detail}"),
			)
		};
		say(&Line::Test {
			name: &test.name,
			status,
			detail: &detail,
		});
	}
	Ok(())
}
