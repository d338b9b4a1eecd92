// SPDX-License-Identifier: GPL-2.0-only
//! Hcalls of XICS: the same answers on all paths, and each interrupt once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, Command, GuestMode, Job};
use vmm::abi::{self, KVM_REG_PPC_ICP_STATE};
use vmm::kvm::{self, Controller};
use vmm::machine::{Config, Failure, Machine};

use crate::common::{Counters, PATHS, Verdict, choose, counter, counters, machine, wrong};
use crate::cpus::{OneCpu, move_to_cpu};
use crate::tce::{Random, perform};

/// Longer than any test's guest takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);

/// A CPPR that lets all through, in the upper byte of an XIRR.
const ALL: u64 = 0xff00_0000;
/// The interrupt number of IPIs.
const IPI: u64 = 2;
const NUMBER: u64 = 0xff_ffff;

/// The counters of the fast handlers.
const FAST: [&str; 6] = [
	"fast_h_xirr",
	"fast_h_xirr_x",
	"fast_h_eoi",
	"fast_h_ipi",
	"fast_h_ipoll",
	"fast_h_cppr",
];

/// What they answered.
fn fast(counters: &Counters) -> u64 {
	FAST.iter().map(|name| counter(counters, name)).sum()
}

/// A vcpu with XICS sends an interrupt to itself, accepts it and ends it; and what is wrong gets
/// its code. Each path has to find what C finds.
pub fn calls(guest: GuestMode) -> Verdict {
	/// What to ask, and the code.
	const CALLS: [(Number, [u64; 4], Code); 12] = [
		(Number::CPPR, [0xff, 0, 0, 0], Code::SUCCESS),
		(Number::XIRR, [0; 4], Code::SUCCESS),
		(Number::IPI, [0, 4, 0, 0], Code::SUCCESS),
		(Number::IPOLL, [0; 4], Code::SUCCESS),
		(Number::XIRR, [0; 4], Code::SUCCESS),
		(Number::XIRR, [0; 4], Code::SUCCESS),
		(Number::IPI, [0, 0xff, 0, 0], Code::SUCCESS),
		(Number::EOI, [ALL | IPI, 0, 0, 0], Code::SUCCESS),
		(Number::XIRR_X, [0; 4], Code::SUCCESS),
		(Number::EOI, [ALL | 0x1234, 0, 0, 0], Code::PARAMETER),
		(Number::IPI, [77, 4, 0, 0], Code::PARAMETER),
		(Number::IPOLL, [u64::MAX, 0, 0, 0], Code::PARAMETER),
	];
	/// The place of the H_XIRR that accepts it.
	const ACCEPTS: usize = 4;
	let mut first: Option<Vec<u64>> = None;
	for path in PATHS {
		choose(path)?;
		let mut machine = machine(guest, &[])?;
		machine.add_controller(Controller::Xics)?;
		// Until the guest has said that it does not use the PMU, nothing is fast.
		perform(&mut machine, &[call(Number::IPI, [0, 0xff]); 2])?;
		let before = counters()?;
		let mut found = vec![];
		for (number, args, code) in CALLS {
			let command = Command {
				job: Job::BENCH,
				number: number.0,
				args,
				code: code.0,
				iterations: 1,
				batches: 1,
				..Command::default()
			};
			let outcome = machine.perform(command, LIMIT, |_| {})?;
			if outcome.mismatches != 0 {
				let code = outcome.wrong_code as i64;
				let (path, number) = (path.name(), number.0);
				return wrong(format!("{path}: {number:#x} {args:x?}: code {code}"));
			}
			found.push(outcome.last_r4);
		}
		if found[ACCEPTS] != ALL | IPI {
			return wrong(format!("{}: accepted {:#x}", path.name(), found[ACCEPTS]));
		}
		if first.get_or_insert_with(|| found.clone()) != &found {
			return wrong(format!("{}: {found:x?}, with C {first:x?}", path.name()));
		}
		let after = counters()?;
		let grown = FAST.map(|name| counter(&after, name) - counter(&before, name));
		let fast = grown.iter().sum::<u64>();
		let expected = if path == Column::RustFast {
			CALLS.len() as u64
		} else {
			0
		};
		if fast < expected || (expected == 0 && fast != 0) {
			return wrong(format!("{}: {grown:?} by fast handlers", path.name()));
		}
	}
	Ok(format!(
		"{} hcalls: {:x?}",
		CALLS.len(),
		first.unwrap_or_default()
	))
}

/// A vcpu polls another one, which does not run: H_IPOLL tells the CPPR and the interrupt of the
/// other vcpu to the caller, and changes no register of the other vcpu.
pub fn poll_other(guest: GuestMode, path: Column) -> Verdict {
	/// The CPPR of the other vcpu: with an IPI of priority 4, and without one.
	const CPPR: u64 = 5;
	const R4: u64 = 0x1234_5678_9abc_def0;
	choose(path)?;
	let mut machine = machine(guest, &[])?;
	machine.add_controller(Controller::Xics)?;
	let other = machine.connect_other(Controller::Xics, OTHER)?;
	// CPPR in the upper byte, then 24 bits of XISR, MFRR and the pending priority: none.
	let state = CPPR << 56 | 0xff << 24 | 0xff << 16;
	other.set_one_reg(KVM_REG_PPC_ICP_STATE, state.into())?;
	let mut regs = other.regs()?;
	regs.gpr[4] = R4;
	other.set_regs(&regs)?;
	let polls = [
		(call(Number::IPOLL, [OTHER, 0]), CPPR << 24),
		(call(Number::IPI, [OTHER, 4]), OTHER),
		(call(Number::IPOLL, [OTHER, 0]), CPPR << 24 | IPI),
		(call(Number::IPI, [OTHER, 0xff]), OTHER),
		(call(Number::IPOLL, [OTHER, 0]), CPPR << 24),
	];
	let (done, _) = perform(&mut machine, &polls.map(|(call, _)| call))?;
	for (call, (_, r4)) in done.iter().zip(polls) {
		if call.code as i64 != Code::SUCCESS.0 || call.r4 != r4 {
			return wrong(format!(
				"{:#x} {:x?}: code {}, r4 {:#x} instead of {r4:#x}",
				call.number, call.args, call.code as i64, call.r4
			));
		}
	}
	let found = other.regs()?.gpr[4];
	if found != R4 {
		return wrong(format!("r4 of the other vcpu became {found:#x}"));
	}
	Ok(format!("{} hcalls", done.len()))
}

/// The sources: number, priority, whether it is level-sensitive.
const SOURCES: [(u64, u64, bool); 8] = [
	(0x10, 5, false),
	(0x11, 5, false),
	(0x12, 4, false),
	(0x13, 6, false),
	(0x14, 0, false),
	(0x15, 5, true),
	(0x16, 7, true),
	(0x1234, 3, false),
];

/// A vcpu that does not run is this server.
const OTHER: u64 = 1;

/// A machine on one path.
struct Side {
	path: Column,
	machine: Machine,
	/// XIRRs that the guest accepted and did not end.
	accepted: Vec<u64>,
	/// Sources that userspace has masked.
	masked: BTreeMap<u64, bool>,
	/// Of each source: interrupts sent, accepted, and whether one was accepted after the last was sent.
	counts: BTreeMap<u64, (u64, u64, bool)>,
	log: Vec<[u64; 4]>,
	_other: vmm::kvm::Vcpu,
}

impl Side {
	fn new(guest: GuestMode, path: Column) -> Result<Self, Failure> {
		choose(path)?;
		let mut machine = machine(guest, &[])?;
		machine.add_controller(Controller::Xics)?;
		let other = machine.connect_other(Controller::Xics, OTHER)?;
		for (irq, priority, is_level) in SOURCES {
			machine.set_source(irq, source(priority, is_level, 0))?;
		}
		Ok(Self {
			path,
			machine,
			accepted: vec![],
			masked: BTreeMap::new(),
			counts: SOURCES.map(|(irq, ..)| (irq, (0, 0, true))).into(),
			log: vec![],
			_other: other,
		})
	}

	/// Has the guest do the calls, and keeps what came of them.
	fn perform(&mut self, calls: &[Call]) -> Result<(), Failure> {
		choose(self.path)?;
		let (done, to_userspace) = perform(&mut self.machine, calls)?;
		if !to_userspace.is_empty() {
			return wrong(format!("{:x?} went to userspace", calls[to_userspace[0]]));
		}
		for call in done {
			self.log
				.push([call.number, call.args[0], call.code, call.r4]);
			let accepts = [Number::XIRR.0, Number::XIRR_X.0].contains(&call.number);
			if accepts && call.r4 & NUMBER != 0 {
				self.accepted.push(call.r4);
				if let Some(counts) = self.counts.get_mut(&(call.r4 & NUMBER)) {
					(counts.1, counts.2) = (counts.1 + 1, true);
				}
			}
		}
		Ok(())
	}

	/// What devices and userspace do between two batches of hcalls.
	fn meanwhile(&mut self, random: &mut Random) -> Result<(), Failure> {
		for _ in 0..random.below(6) {
			let (irq, _, is_level) = random.of(&SOURCES);
			let is_set = !is_level || random.chance(50);
			// Setting the state of a masked source would lose it.
			if self.masked.get(&irq) == Some(&true) {
				continue;
			}
			self.machine.set_irq(irq, is_set)?;
			if is_set && !is_level {
				let counts = self.counts.get_mut(&irq).expect("a source");
				(counts.0, counts.2) = (counts.0 + 1, false);
			}
		}
		if random.chance(20) {
			let (irq, priority, is_level) = random.of(&SOURCES);
			self.mask(irq, priority, is_level)?;
		}
		Ok(())
	}

	/// Masks a source, or unmasks it, as a VMM does that saves the state of all and sets it again. One
	/// that is in a queue would be sent again.
	fn mask(&mut self, irq: u64, priority: u64, is_level: bool) -> Result<(), Failure> {
		let mut state = 0;
		for (other, ..) in SOURCES {
			let one = self.machine.source(other)?;
			self.log.push([other, one, 0, 0]);
			if other == irq {
				state = one;
			}
		}
		let mask = self.masked.get(&irq) != Some(&true);
		if state & PENDING == 0 || !mask {
			let flags = state & (PENDING | PRESENTED | QUEUED) | if mask { MASKED } else { 0 };
			let state = source(priority, is_level, flags);
			self.machine.set_source(irq, state)?;
			self.masked.insert(irq, mask);
		}
		Ok(())
	}

	/// Priorities of a guest without an interrupt. With one that is signalled, QEMU's XIVE lets the guest
	/// accept it although the CPPR has been lowered, and the kernel prints that.
	fn priorities(&mut self, random: &mut Random) -> Result<(), Failure> {
		self.quiesce()?;
		let mut calls = vec![];
		for _ in 0..8 {
			let value = random.of(&PRIORITIES) | random.of(&[0, 0, 0x100, 1 << 63]);
			calls.push(call(Number::CPPR, [value, 0]));
			calls.push(call(Number::IPOLL, [0, 0]));
		}
		calls.push(call(Number::CPPR, [0xff, 0]));
		self.perform(&calls)
	}

	/// Has the guest end all that it has, and accept and end what comes.
	fn quiesce(&mut self) -> Result<(), Failure> {
		self.perform(&[call(Number::IPI, [0, 0xff]), call(Number::CPPR, [0xff, 0])])?;
		for (irq, _, is_level) in SOURCES {
			if is_level {
				self.machine.set_irq(irq, false)?;
			}
		}
		for _ in 0..50 {
			let ends: Vec<_> = self
				.accepted
				.drain(..)
				.rev()
				.map(|xirr| call(Number::EOI, [ALL | xirr & NUMBER, 0]))
				.collect();
			let had = ends.len();
			self.perform(&ends)?;
			self.perform(&[call(Number::XIRR, [0, 0]); 8])?;
			if had == 0 && self.accepted.is_empty() {
				return Ok(());
			}
		}
		wrong(format!("{:x?} do not end", self.accepted))
	}

	/// Unmasks all, and accepts what is left.
	fn drain(&mut self) -> Result<(), Failure> {
		for (irq, priority, is_level) in SOURCES {
			if self.masked.get(&irq) == Some(&true) {
				self.mask(irq, priority, is_level)?;
			}
		}
		self.quiesce()
	}
}

const PRIORITY_SHIFT: u32 = 32;
const LEVEL: u64 = 1 << 40;
const MASKED: u64 = 1 << 41;
const PENDING: u64 = 1 << 42;
const PRESENTED: u64 = 1 << 43;
const QUEUED: u64 = 1 << 44;

/// A source for the first vcpu, as KVM_DEV_XICS_GRP_SOURCES has it.
fn source(priority: u64, is_level: bool, flags: u64) -> u64 {
	priority << PRIORITY_SHIFT | if is_level { LEVEL } else { 0 } | flags
}

fn call(number: Number, [first, second]: [u64; 2]) -> Call {
	Call {
		number: number.0,
		args: [first, second, 0, 0],
		..Call::default()
	}
}

const PRIORITIES: [u64; 9] = [0, 3, 4, 5, 6, 7, 0xfe, 0xff, 0xff];

/// A random hcall. Ends one of the accepted interrupts, each once. None lowers the CPPR but H_XIRR.
fn random_call(random: &mut Random, accepted: &mut Vec<u64>) -> Call {
	let server = random.of(&[0, 0, 0, OTHER, OTHER, 2, 1 << 32, 0xffff_ffff, u64::MAX]);
	let odd = [0, 1, IPI, 0x17, 0x1235, 0x7_0000, NUMBER];
	match random.below(100) {
		0..30 => call(Number::XIRR, [0, 0]),
		30..35 => call(Number::XIRR_X, [0, 0]),
		35..68 if !accepted.is_empty() => {
			let which = random.below(accepted.len() as u64) as usize;
			let irq = accepted.remove(which) & NUMBER;
			call(Number::EOI, [ALL | irq | random.of(&[0, 1 << 32]), 0])
		}
		35..74 => call(Number::EOI, [ALL | random.of(&odd), 0]),
		74..78 => call(Number::CPPR, [random.of(&[0xff, 0x1ff]), 0]),
		78..92 => {
			let priority = random.of(&PRIORITIES) | random.of(&[0, 0, 0x100]);
			call(Number::IPI, [server, priority])
		}
		_ => call(Number::IPOLL, [server, 0]),
	}
}

/// Machines alike, one for each path, do the same random hcalls while devices send interrupts.
pub fn differential(guest: GuestMode, seed: u64, calls: u64) -> Verdict {
	const BATCH: u64 = 16;
	const CALLS: [Number; 5] = [
		Number::XIRR,
		Number::XIRR_X,
		Number::EOI,
		Number::IPI,
		Number::CPPR,
	];
	let before = counters()?;
	let mut answered = 0;
	let mut logs = vec![];
	let mut told = vec![];
	for path in PATHS {
		let mut random = Random(seed);
		let mut side = Side::new(guest, path)?;
		let start = counters()?;
		let mut done = 0;
		while done < calls {
			if random.chance(10) {
				side.priorities(&mut random)?;
			}
			side.meanwhile(&mut random)?;
			let mut accepted = side.accepted.clone();
			let batch: Vec<_> = (0..1 + random.below(BATCH))
				.map(|_| random_call(&mut random, &mut accepted))
				.collect();
			side.accepted = accepted;
			side.perform(&batch)?;
			done += batch.len() as u64;
		}
		side.drain()?;
		for (irq, (sent, accepted, is_last)) in &side.counts {
			let is_level = SOURCES.iter().any(|(n, _, level)| n == irq && *level);
			if !is_level && (!is_last || accepted > sent || *accepted == 0) {
				return wrong(format!(
					"{}: interrupt {irq:#x}: {accepted} of {sent}",
					path.name()
				));
			}
		}
		told = side
			.counts
			.values()
			.map(|&(sent, accepted, _)| (sent, accepted))
			.collect();
		if path == Column::RustFast {
			answered = fast(&counters()?) - fast(&start);
		}
		logs.push((path, side.log));
	}
	let (_, first) = &logs[0];
	for (path, log) in &logs[1..] {
		if let Some(place) = (0..first.len()).find(|&n| log.get(n) != first.get(n)) {
			let (found, expected) = (log.get(place), &first[place]);
			return wrong(format!(
				"{}: {place}: {found:x?}, C {expected:x?}",
				path.name()
			));
		}
	}
	// All but H_IPOLL of another vcpu. The log has the states of sources, too.
	let is_fast = |call: &&[u64; 4]| match Number(call[0]) {
		Number::IPOLL => call[1] != OTHER && call[1] != 1 << 32,
		number => CALLS.contains(&number),
	};
	let made = first.iter().filter(is_fast).count() as u64;
	if answered + 2 < made {
		return wrong(format!("{answered} of {made} by fast handlers"));
	}
	let full = fast(&counters()?) - fast(&before) - answered;
	if full != 0 {
		return wrong(format!("{full} by fast handlers that are off"));
	}
	Ok(format!(
		"{made} hcalls, {answered} fast; sent and accepted: {told:?}"
	))
}

/// Closes the interrupt controller while a vcpu makes H_IPI for a server that does not run. All servers
/// stay until the vcpu has left KVM_RUN; what the guest asks for after that is for userspace.
pub fn release(path: Column) -> Verdict {
	const ROUNDS: usize = 8;
	// The hcalls of one KVM_RUN, which take some 100 ms.
	let calls = if path == Column::RustFast {
		40_000
	} else {
		4000
	};
	choose(path)?;
	let _here = OneCpu::new(0)?;
	let mut waited = 0;
	for _ in 0..ROUNDS {
		let config = Config {
			guest: GuestMode::Radix,
			enable: &[],
			window: false,
		};
		let (mut machine, other) = Machine::after_other(config, OTHER)?;
		machine.add_controller(Controller::Xics)?;
		other.connect(Controller::Xics, machine.controller()?, OTHER)?;
		// A CPPR that lets IPIs through.
		let state = 0xff << 56 | 0xff << 24 | 0xff << 16;
		other.set_one_reg(KVM_REG_PPC_ICP_STATE, state)?;
		// Until the guest has said that it does not use the PMU, nothing is fast.
		perform(&mut machine, &[call(Number::IPI, [OTHER, 4]); 2])?;
		let controller = machine.take_controller();
		let command = Command {
			job: Job::BENCH,
			number: Number::IPI.0,
			args: [OTHER, 4, 0, 0],
			code: Code::SUCCESS.0,
			iterations: calls,
			batches: 1,
			..Command::default()
		};
		let (began, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
		let (result, was_over) = std::thread::scope(|scope| {
			let closing = scope.spawn(|| {
				move_to_cpu(1)?;
				while !began.load(Ordering::Acquire) {
					std::hint::spin_loop();
				}
				std::thread::sleep(Duration::from_millis(10));
				let was_over = is_over.load(Ordering::Acquire);
				drop(controller);
				Ok::<_, Failure>(was_over)
			});
			began.store(true, Ordering::Release);
			let mut seen = 0;
			let result = machine.perform(command, LIMIT, |_| seen += 1);
			is_over.store(true, Ordering::Release);
			let was_over = closing.join().expect("it doesn't panic");
			(result.map(|outcome| (outcome, seen)), was_over)
		});
		let (outcome, seen) = result?;
		if outcome.mismatches != seen {
			let code = outcome.wrong_code as i64;
			return wrong(format!(
				"{} of {calls} H_IPI got another code, {seen} of them in userspace; one is {code}",
				outcome.mismatches
			));
		}
		waited += usize::from(!was_over?);
	}
	if waited < ROUNDS / 2 {
		return wrong(format!(
			"the controller was closed in time {waited} of {ROUNDS} times"
		));
	}
	Ok(format!(
		"closed {waited} of {ROUNDS} times during {calls} hcalls"
	))
}

/// Userspace sends interrupts by all sources of a controller, again and again, while the controller is
/// closed, which frees them. Of both kinds.
pub fn closing() -> Verdict {
	const ROUNDS: usize = 6;
	let _here = OneCpu::new(0)?;
	let mut sent = 0;
	for kind in [Controller::Xics, Controller::Xive] {
		for _ in 0..ROUNDS {
			sent += close_while_sending(kind)?;
		}
	}
	Ok(format!(
		"closed {} times, after {sent} interrupts",
		2 * ROUNDS
	))
}

/// Sets a source of a controller that is new.
pub fn set_new_source(machine: &Machine, kind: Controller, irq: u64) -> Result<(), Failure> {
	match kind {
		Controller::Xics => machine.set_source(irq, source(4, false, 0)),
		Controller::Xive => {
			let group = abi::KVM_DEV_XIVE_GRP_SOURCE;
			Ok(kvm::set_controller(machine.controller()?, group, irq, 0)?)
		}
	}
}

/// Returns how many interrupts were sent before KVM said that there is no controller.
fn close_while_sending(kind: Controller) -> Result<u64, Failure> {
	const IRQS: std::ops::Range<u64> = 0x1000..0x1200;
	// Of threads on one CPU, all but one wait for it, each wherever the scheduler stopped it.
	const SENDERS: usize = 16;
	let mut machine = machine(GuestMode::Radix, &[])?;
	machine.add_controller(kind)?;
	for irq in IRQS {
		set_new_source(&machine, kind, irq)?;
	}
	let controller = machine.take_controller();
	let vm = machine.vm();
	let end = Instant::now() + LIMIT;
	let rounds = AtomicUsize::new(0);
	let send = || {
		move_to_cpu(1)?;
		let mut sent = 0;
		while Instant::now() < end {
			for irq in IRQS {
				if vm.set_irq(irq as u32, true).is_err() {
					return Ok(sent);
				}
				sent += 1;
			}
			rounds.fetch_add(1, Ordering::Release);
		}
		wrong("KVM sends interrupts by a controller that is closed".to_owned())
	};
	std::thread::scope(|scope| {
		let senders: Vec<_> = (0..SENDERS).map(|_| scope.spawn(send)).collect();
		while rounds.load(Ordering::Acquire) < SENDERS && Instant::now() < end {
			std::hint::spin_loop();
		}
		drop(controller);
		let mut sent = 0;
		for sender in senders {
			sent += sender.join().expect("it doesn't panic")?;
		}
		if rounds.load(Ordering::Acquire) < SENDERS {
			return wrong(format!("only {sent} interrupts could be sent"));
		}
		Ok(sent)
	})
}

/// Two threads set the same new sources of a controller at the same time. Of both kinds.
pub fn sources_at_once() -> Verdict {
	const ROUNDS: usize = 4;
	const IRQS: std::ops::Range<u64> = 0x1000..0x1200;
	for kind in [Controller::Xics, Controller::Xive] {
		for _ in 0..ROUNDS {
			let mut machine = machine(GuestMode::Radix, &[])?;
			machine.add_controller(kind)?;
			let machine = &machine;
			let next = AtomicUsize::new(0);
			let end = Instant::now() + LIMIT;
			let set = |cpu| {
				let _here = OneCpu::new(cpu)?;
				for (count, irq) in IRQS.enumerate() {
					// Both begin at once.
					next.fetch_add(1, Ordering::AcqRel);
					while next.load(Ordering::Acquire) < 2 * (count + 1) {
						if Instant::now() > end {
							return wrong(format!("no other thread at source {irq:#x}"));
						}
						std::hint::spin_loop();
					}
					set_new_source(machine, kind, irq)?;
				}
				Ok(())
			};
			std::thread::scope(|scope| {
				let other = scope.spawn(|| set(1));
				let result: Result<(), Failure> = set(0);
				result.and(other.join().expect("it doesn't panic"))
			})?;
		}
	}
	Ok(format!(
		"{} sources, each by two threads",
		2 * ROUNDS as u64 * (IRQS.end - IRQS.start)
	))
}

/// Userspace sets sources of both kinds of controllers, and reads what debugfs shows of them: a kernel
/// that checks itself looks at the locks.
pub fn sources(guest: GuestMode) -> Verdict {
	const GROUPS: [(u32, u64); 3] = [
		(abi::KVM_DEV_XIVE_GRP_SOURCE_SYNC, 0x10),
		(abi::KVM_DEV_XIVE_GRP_CTRL, abi::KVM_DEV_XIVE_EQ_SYNC),
		(abi::KVM_DEV_XIVE_GRP_CTRL, abi::KVM_DEV_XIVE_RESET),
	];
	let show = |machine: &Machine| {
		let file = format!("{}/xive", machine.vm().debugfs());
		let text = std::fs::read_to_string(&file);
		text.map_err(|e| Failure::Wrong(format!("{file}: {e}")))
	};
	let mut machine = machine(guest, &[])?;
	machine.add_controller(Controller::Xics)?;
	for (irq, priority, is_level) in SOURCES {
		machine.set_source(irq, source(priority, is_level, 0))?;
		machine.set_source(irq, source(priority, is_level, MASKED))?;
		machine.source(irq)?;
	}
	let xics = show(&machine)?.lines().count();
	let mut machine = crate::common::machine(guest, &[])?;
	machine.add_controller(Controller::Xive)?;
	let controller = machine.controller()?;
	for (irq, _, is_level) in SOURCES {
		let group = abi::KVM_DEV_XIVE_GRP_SOURCE;
		kvm::set_controller(controller, group, irq, is_level.into())?;
		// Masked, because the guest has given no queue; after that, the number that the guest is told.
		let group = abi::KVM_DEV_XIVE_GRP_SOURCE_CONFIG;
		kvm::set_controller(controller, group, irq, 1 << 32 | irq << 33)?;
	}
	for (group, attr) in GROUPS {
		kvm::set_controller(controller, group, attr, 0)?;
	}
	let xive = show(&machine)?.lines().count();
	Ok(format!(
		"{} sources; debugfs has {xics} and {xive} lines",
		SOURCES.len()
	))
}
