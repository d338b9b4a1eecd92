// SPDX-License-Identifier: GPL-2.0-only
//! Who answers an hcall, and with what.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cases::{Case, case};
use hcall::{Code, Number};
use protocol::block::Probe;
use protocol::{Column, Command, GuestMode, Job, map, private};
use vmm::machine::{Call, Failure, Machine};
use vmm::{command, host};

use crate::common::{PATHS, Verdict, choose, counter, counters, machine, machine_for, wrong};
use crate::registers::hcall as registers;

/// Longer than any test's guest takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);

/// A measurement would find a wrong code.
pub fn selfcheck_code(guest: GuestMode) -> Verdict {
	const CALLS: u64 = 100;
	choose(Column::C)?;
	let mut machine = machine_for(guest, case!("h_prod"))?;
	let mut command = command::timing(case!("h_prod"), CALLS, 1);
	command.code = Code::SUCCESS.0;
	let outcome = machine.perform(command, LIMIT, |_| {})?;
	if outcome.mismatches != CALLS || outcome.wrong_code as i64 != case!("h_prod").code.0 {
		return wrong(format!(
			"found {} of {CALLS} wrong codes",
			outcome.mismatches
		));
	}
	Ok(format!("found {CALLS} of {CALLS} wrong codes"))
}

/// An exception in the guest would be told.
pub fn selfcheck_exception(guest: GuestMode) -> Verdict {
	choose(Column::C)?;
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
pub fn disabled(guest: GuestMode, path: Column) -> Verdict {
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

/// Every hcall that has a fast or a light handler, but for H_CEDE: KVM does not pass that to userspace
/// on a POWER9.
const HANDLED: [Number; 24] = [
	Number::BULK_REMOVE,
	Number::CLEAR_MOD,
	Number::CLEAR_REF,
	Number::CONFER,
	Number::CPPR,
	Number::ENTER,
	Number::EOI,
	Number::GET_TCE,
	Number::IPI,
	Number::IPOLL,
	Number::LOGICAL_CI_LOAD,
	Number::LOGICAL_CI_STORE,
	Number::NULL,
	Number::PROD,
	Number::PROTECT,
	Number::PUT_TCE,
	Number::PUT_TCE_INDIRECT,
	Number::RANDOM,
	Number::READ,
	Number::REMOVE,
	Number::SET_MODE,
	Number::STUFF_TCE,
	Number::XIRR,
	Number::XIRR_X,
];

/// Each hcall with a handler reaches userspace once userspace has turned it off, also if the vcpu
/// has run before. NULL is answered while it is on.
pub fn turned_off(guest: GuestMode, path: Column) -> Verdict {
	const ROUNDS: usize = 20;
	choose(path)?;
	let mut machine = machine(guest, &[Number::NULL])?;
	for round in 0..ROUNDS {
		let in_kernel = round % 2 == 0;
		machine.set_hcall(Number::NULL, in_kernel)?;
		let result = probe(&mut machine, &[Number::NULL.0])?;
		check_probe(&result)?;
		if result.to_userspace.is_empty() != in_kernel {
			return wrong(format!(
				"round {round}: NULL, {}, {} userspace",
				if in_kernel { "on" } else { "off" },
				if in_kernel {
					"reached"
				} else {
					"did not reach"
				},
			));
		}
	}
	for number in HANDLED {
		machine.set_hcall(number, false)?;
	}
	let result = probe(&mut machine, &HANDLED.map(|number| number.0))?;
	check_probe(&result)?;
	for (index, number) in HANDLED.iter().enumerate() {
		if !result.to_userspace.contains_key(&(index as u64)) {
			return wrong(format!(
				"{:#x} is off, and did not reach userspace",
				number.0
			));
		}
	}
	Ok(format!("{} hcalls turned off", HANDLED.len()))
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

/// Checks that each hcall that reached userspace had its own number and arguments, and got
/// the code of userspace.
fn check_probe(probed: &Probed) -> Result<(), Failure> {
	for (&index, &(number, args)) in &probed.to_userspace {
		let Some(&Probe {
			number: asked,
			code,
		}) = probed.codes.get(index as usize)
		else {
			return wrong(format!(
				"userspace got {:#x} with arguments that the guest did not send",
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
pub fn probe_c(guest: GuestMode) -> Verdict {
	choose(Column::C)?;
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
pub fn probe_rust(guest: GuestMode, path: Column, null: bool) -> Verdict {
	// So that the order of complaints is: no parameters, no hcall.
	choose(path)?;
	let enable: &[_] = if null { &[Number::NULL] } else { &[] };
	let numbers = numbers();
	let [c, rust] = {
		choose(Column::C)?;
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
pub fn problem_state(path: Column, case: &'static Case) -> Verdict {
	const PRIVILEGED: u64 = 0x4_0000;
	const PROBLEM_STATE: u64 = 0x4000;
	choose(path)?;
	let mut machine = machine_for(GuestMode::Radix, case)?;
	let command = Command {
		job: Job::PROBLEM,
		number: case.number.0,
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

/// H_SET_MODE sets CIABR, or says why it does not, or that there is no watchpoint: with the same codes
/// on each path, and the register that the next guest's instruction has is the one that userspace reads.
pub fn set_mode(guest: GuestMode, path: Column) -> Verdict {
	const CIABR: u64 = 1;
	const DAWR0: u64 = 2;
	const DAWR1: u64 = 5;
	const P2: i64 = -55;
	const P3: i64 = -56;
	const P4: i64 = -57;
	const UNSUPPORTED_FLAG: i64 = -256;
	const CALLS: u64 = 20;
	/// Flags, resource, values, and the code.
	const CASES: [([u64; 4], i64); 11] = [
		([0, CIABR, 0x1000_0002, 0], 0),
		([0, CIABR, 0xffff_ffff_ffff_fff1, 0], 0),
		([0, CIABR, 0x1003, 0], P3),
		([0, CIABR, u64::MAX, 0], P3),
		([0, CIABR, 0x1000, 1], P4),
		([0, CIABR, 0x1000, 1 << 63], P4),
		([1, CIABR, 0x1000, 0], UNSUPPORTED_FLAG),
		([0, DAWR0, 0x1000, 4], P2),
		([0, DAWR0, 0x1000, 0x50], P2),
		([7, DAWR1, 0, 0], P2),
		([0, CIABR, 0, 0], 0),
	];
	choose(path)?;
	let mut machine = machine(guest, &[Number::SET_MODE])?;
	let before = counters().unwrap_or_default();
	let (mut expected, mut answered) = (0, 0);
	for (args, code) in CASES {
		let command = Command {
			job: Job::BENCH,
			number: Number::SET_MODE.0,
			args,
			code,
			iterations: CALLS,
			batches: 1,
			..Command::default()
		};
		let outcome = machine.perform(command, LIMIT, |_| {})?;
		if outcome.mismatches != 0 {
			let found = outcome.wrong_code as i64;
			return wrong(format!("{args:x?}: code {found} instead of {code}"));
		}
		if code == 0 {
			expected = args[2];
		}
		if code == 0 || code == P2 {
			answered += outcome.rounds;
		}
		let found = machine.vcpu().one_reg(vmm::abi::KVM_REG_PPC_CIABR)? as u64;
		if found != expected {
			return wrong(format!(
				"{args:x?}: CIABR {found:#x} instead of {expected:#x}"
			));
		}
	}
	if path == Column::RustFast && GuestMode::RADIX.contains(&guest) {
		let after = counters()?;
		let light = counter(&after, "light_h_set_mode") - counter(&before, "light_h_set_mode");
		if light != answered {
			return wrong(format!("{light} of {answered} by a fast handler"));
		}
	}
	Ok(format!("{} sets of arguments", CASES.len()))
}

/// Parameters may be written while guests run.
pub fn switch_path(guest: GuestMode, seed: u64) -> Verdict {
	const LEAST: u64 = 100;
	const ROUNDS: u64 = 40_000;
	let cfar = registers::c_path_cfar(guest)?;
	choose(Column::RustFast)?;
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
		let rounds = registers::command(case!("null"), ROUNDS, seed, cfar);
		let outcome = machine.perform(rounds, LIMIT, |_| {});
		stop.store(true, Ordering::Relaxed);
		(outcome, flipper.join().expect("it doesn't panic"))
	});
	let (outcome, flips) = (outcome?, flips?);
	registers::check(&outcome, guest, ROUNDS)?;
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

/// The counters tell who served an hcall.
pub fn fast_counted(guest: GuestMode) -> Verdict {
	const CALLS: u64 = 1000;
	let mut served = vec![];
	for path in PATHS {
		choose(path)?;
		let mut machine = machine(guest, &[Number::NULL])?;
		// The guest registers its VPA, without which it has no fast handlers.
		machine.perform(command::timing(case!("null"), 1, 1), LIMIT, |_| {})?;
		let before = counters()?;
		let outcome = machine.perform(command::timing(case!("null"), CALLS, 1), LIMIT, |_| {})?;
		let after = counters()?;
		if outcome.mismatches > 0 {
			return wrong(format!(
				"{} wrong codes on {}",
				outcome.mismatches,
				path.name()
			));
		}
		let grown = |name: &str| counter(&after, name).saturating_sub(counter(&before, name));
		let fast = if path == Column::RustFast { CALLS } else { 0 };
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
		if (grown("entry_rust") == 0) != (path == Column::C) || reasons != 0 {
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
