// SPDX-License-Identifier: GPL-2.0-only
//! Rounds: every register, every way out of the guest.
//!
//! The guest does the comparing (see its `rounds.rs`). What is here is the world around
//! it: a device, memory whose translations go away, other threads that make the host's
//! timers and interrupts come, signals. And the proof that the guest's comparison works:
//! between two rounds each register is changed behind its back, one by one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hcall::Number;
use protocol::regs::{self, Pattern};
use protocol::round::{self, Kind, Plan, Report};
use protocol::{Command, Guest, Job, Outcome, Path, map, private};

use vmm::abi::{self, KVM_REG_PPC_U32, KVM_REG_PPC_U64, KVM_REG_PPC_U128, Mmio};
use vmm::host;
use vmm::kvm::{Memory, Slot};
use vmm::machine::{Config, Failure, Machine, Step};
use vmm::timer::{self, Timer};

/// Rounds of each path if nobody says otherwise.
pub const ROUNDS: u64 = 5_000;

/// Longer than any test's guest takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(600);
/// Ticks of the timebase in a microsecond.
const MICROSECOND: u64 = 512;
/// What DEC may be off after a round: each exit reads the time and sets DEC some hundred
/// instructions apart.
const DEC_TOLERANCE: u64 = 50 * MICROSECOND;
/// What the C path takes off DEC now and then where there is a timebase offset. To move
/// the timebase it writes the upper 40 bits, and adds a carry if the lower 24 wrapped since
/// it had read the time. It adds the carry to the time that it remembers, too, whose lower
/// bits are from before the wrap: that is then 2^24 ticks ahead, and DEC, which is set by
/// it, as much behind. (The guest's timer comes up to 33 ms early.)
const DEC_SLIP_OF_C: u64 = 1 << 24;
/// Longer than a round takes where time is counted in instructions.
const LONGEST: u64 = 100_000 * MICROSECOND;
/// The slot of the memory whose translations go away.
const TOUCH_SLOT: u32 = 8;

const ENABLE: [Number; 5] = [
	Number::NULL,
	Number::GET_TCE,
	Number::PUT_TCE,
	Number::PUT_TCE_INDIRECT,
	Number::STUFF_TCE,
];

/// Every kind that a guest can have.
pub fn kinds(guest: Guest) -> u64 {
	let all = Kind::ALL.iter().fold(0, |all, kind| all | kind.bit());
	match guest {
		Guest::Radix => all,
		// Problem state needs translation.
		_ => all & !Kind::Problem.bit(),
	}
}

/// A guest that does rounds, and what is around it.
// The order of the fields is the order in which they are dropped.
pub struct Arena {
	touch: Slot,
	/// The guest.
	pub machine: Machine,
	device: [u8; map::DEVICE_SIZE as usize],
}

impl Arena {
	/// Builds one.
	pub fn new(guest: Guest) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest,
			enable: &ENABLE,
			window: true,
		})?;
		let memory = Memory::new(map::TOUCH_SIZE as usize)?;
		let touch = machine.vm().add_memory(TOUCH_SLOT, map::TOUCH, memory)?;
		Ok(Self {
			touch,
			machine,
			device: [0; map::DEVICE_SIZE as usize],
		})
	}

	/// Gives the guest its rounds to do.
	pub fn start(&mut self, command: Command, plan: Plan) {
		self.device.fill(0);
		self.machine.memory().write(map::ROUND_PLAN, plan);
		self.machine.start(command);
	}

	/// What the guest found.
	pub fn report(&self) -> Report {
		self.machine.memory().read(map::ROUND_REPORT)
	}

	/// The device: a load is answered, a store kept.
	fn access(&mut self, mmio: &Mmio) -> Result<(), Failure> {
		let length = mmio.len as usize;
		let place = mmio
			.phys_addr
			.checked_sub(map::DEVICE)
			.map(|place| place as usize)
			.filter(|&place| length <= 8 && place + length <= self.device.len());
		let Some(place) = place else {
			return Err(vmm::machine::unexpected(mmio));
		};
		let bytes = &mut self.device[place..place + length];
		if mmio.is_write != 0 {
			bytes.copy_from_slice(&mmio.data[..length]);
		} else {
			let mut data = [0; 8];
			data[..length].copy_from_slice(bytes);
			self.machine.vcpu().answer_load(data);
		}
		Ok(())
	}

	/// Does what the guest asked for with a step. Returns the outcome if that was its last.
	pub fn serve(&mut self, step: Step) -> Result<Option<Outcome>, Failure> {
		match step {
			Step::Done(outcome) => return Ok(Some(*outcome)),
			Step::Mmio(mmio) => self.access(&mmio)?,
			Step::Call((private::UNTOUCH, _)) => self.touch.memory.forget_translations()?,
			Step::Call((private::UNKNOWN, _)) | Step::Interrupted => {}
			Step::Call((number, _)) => {
				return Err(Failure::Wrong(format!(
					"hcall {:#x} reached userspace",
					number.0
				)));
			}
		}
		Ok(None)
	}

	/// Runs the guest to the end of its rounds; `call` sees each hcall for userspace.
	fn finish(
		&mut self,
		mut call: impl FnMut(&mut Machine) -> Result<(), Failure>,
	) -> Result<Outcome, Failure> {
		let end = Instant::now() + LIMIT;
		loop {
			let step = self.machine.step()?;
			if matches!(step, Step::Call((private::UNKNOWN, _))) {
				call(&mut self.machine)?;
			}
			if let Some(outcome) = self.serve(step)? {
				return Ok(outcome);
			}
			if Instant::now() >= end {
				return Err(Failure::Wrong(format!(
					"the guest isn't done after {} s (rounds so far: {})",
					LIMIT.as_secs(),
					self.machine.outcome().rounds
				)));
			}
		}
	}
}

/// The command for rounds.
pub fn command(rounds: u64, seed: u64, cfar: u64) -> Command {
	Command {
		job: Job::ROUNDS,
		iterations: rounds,
		seed,
		cfar,
		..Command::default()
	}
}

/// The mismatches, as a complaint.
pub fn check(outcome: &Outcome, report: &Report) -> Result<(), Failure> {
	if outcome.mismatches == 0 {
		return Ok(());
	}
	let listed = (outcome.mismatches as usize).min(4);
	let first: Vec<String> = (0..listed)
		.map(|index| {
			let mismatch = report.mismatches[index];
			let kind = Kind::ALL.get(report.mismatch_kinds[index] as usize);
			format!(
				"{} in round {} ({}): {:#x} instead of {:#x}",
				round::name(mismatch.register as usize),
				mismatch.round,
				kind.map_or("?", |kind| kind.name()),
				mismatch.got,
				mismatch.expected
			)
		})
		.collect();
	Err(Failure::Wrong(format!(
		"{} mismatches in {} rounds; {}",
		outcome.mismatches,
		outcome.rounds,
		first.join("; ")
	)))
}

/// Keeps the calling thread, and those it starts, on one CPU until it is dropped.
pub struct OneCpu(libc::cpu_set_t);

/// The CPUs that the calling thread may use become that one; returns what they were.
pub fn move_to_cpu(cpu: usize) -> std::io::Result<libc::cpu_set_t> {
	assert!(cpu < 8 * size_of::<libc::cpu_set_t>());
	// SAFETY: an empty set is all zeroes, the CPU is in range, and the calls read or fill a
	// set of the size that they are told.
	unsafe {
		let mut all: libc::cpu_set_t = core::mem::zeroed();
		let mut one: libc::cpu_set_t = core::mem::zeroed();
		libc::CPU_SET(cpu, &mut one);
		let size = size_of::<libc::cpu_set_t>();
		if libc::sched_getaffinity(0, size, &mut all) != 0
			|| libc::sched_setaffinity(0, size, &one) != 0
		{
			return Err(std::io::Error::last_os_error());
		}
		Ok(all)
	}
}

impl OneCpu {
	/// The CPU with that number.
	pub fn new(cpu: usize) -> std::io::Result<Self> {
		move_to_cpu(cpu).map(Self)
	}
}

impl Drop for OneCpu {
	fn drop(&mut self) {
		// SAFETY: it reads the set. What was allowed before can't fail now.
		unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &self.0) };
	}
}

/// Sleeps and wakes on the caller's CPU, which makes the host's timer end the guest's run
/// and the scheduler take the CPU away.
pub fn nap(stop: &AtomicBool, interval: Duration) {
	// SAFETY: it has no preconditions. Wake in time, not when it suits.
	unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
	while !stop.load(Ordering::Relaxed) {
		std::thread::sleep(interval);
	}
}

/// Has an interrupt sent to every CPU that runs a thread of this process, again and again,
/// from another CPU.
pub fn interrupt(stop: &AtomicBool, cpu: usize, interval: Duration) -> Result<u64, Failure> {
	const REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
	const PRIVATE_EXPEDITED: i32 = 1 << 3;
	let membarrier = |command: i32| {
		// SAFETY: a barrier.
		let result = unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) };
		if result < 0 {
			let error = std::io::Error::last_os_error();
			return Err(Failure::Wrong(format!("membarrier: {error}")));
		}
		Ok(())
	};
	let _cpu = OneCpu::new(cpu)?;
	// SAFETY: it has no preconditions.
	unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
	membarrier(REGISTER_PRIVATE_EXPEDITED)?;
	let mut sent = 0;
	while !stop.load(Ordering::Relaxed) {
		membarrier(PRIVATE_EXPEDITED)?;
		sent += 1;
		std::thread::sleep(interval);
	}
	Ok(sent)
}

/// KVM's own count of exits, of all VMs there are.
fn exits(name: &str) -> Result<u64, Failure> {
	let file = format!("/sys/kernel/debug/kvm/{name}");
	let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
	let count = text.trim().parse().map_err(|e| format!("{file}: {e}"))?;
	Ok(count)
}

/// What rounds on one path came to.
struct Result1 {
	digests: Vec<u64>,
	rounds: u64,
	timer: u64,
	interrupt: u64,
	signal: u64,
	dec_error: u64,
	dec_slips: u64,
}

/// The same rounds on one path, in two guests: one as Linux is most of the time, one that
/// uses its PMU and has a timebase of its own.
fn on_path(
	guest: Guest,
	path: Path,
	seed: u64,
	rounds: u64,
	cfar: u64,
) -> Result<Result1, Failure> {
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut result = Result1 {
		digests: vec![],
		rounds: 0,
		timer: 0,
		interrupt: 0,
		signal: 0,
		dec_error: 0,
		dec_slips: 0,
	};
	for pmu in [false, true] {
		let mut pattern = Pattern::new(seed ^ u64::from(pmu));
		let mut arena = Arena::new(guest)?;
		if pmu {
			const TB_OFFSET: u64 = KVM_REG_PPC_U64 | 0x9c;
			arena
				.machine
				.vcpu()
				.set_one_reg(TB_OFFSET, pattern.next().into())?;
		}
		arena.start(
			command(rounds / 2, pattern.next(), cfar),
			Plan {
				kinds: kinds(guest),
				pmu: pmu.into(),
				dec_tolerance: DEC_TOLERANCE,
				dec_slip: if path == Path::C { DEC_SLIP_OF_C } else { 0 },
				longest: LONGEST,
				table_is_ours: 1,
			},
		);
		let _cpu = OneCpu::new(0)?;
		let before = (
			exits("dec_exits")?,
			exits("ext_intr_exits")?,
			exits("signal_exits")?,
		);
		let stop = AtomicBool::new(false);
		let (outcome, sent) = std::thread::scope(|scope| {
			scope.spawn(|| nap(&stop, Duration::from_micros(130)));
			let sender = scope.spawn(|| interrupt(&stop, 1, Duration::from_micros(170)));
			let outcome = (|| {
				let interval = Duration::from_micros(410);
				let _timer = Timer::every(interval, interval)?;
				arena.finish(|_| Ok(()))
			})();
			stop.store(true, Ordering::Relaxed);
			(outcome, sender.join().expect("it doesn't panic"))
		});
		let (outcome, _) = (outcome?, sent?);
		let report = arena.report();
		check(&outcome, &report).map_err(|failure| of_guest(failure, path, pmu))?;
		if outcome.rounds != rounds / 2 {
			let done = outcome.rounds;
			return Err(Failure::Wrong(format!(
				"{done} of {} rounds done",
				rounds / 2
			)));
		}
		check_variety(guest, pmu, &report).map_err(|failure| of_guest(failure, path, pmu))?;
		result.digests.push(report.digest);
		result.rounds += outcome.rounds;
		result.dec_error = result.dec_error.max(report.dec_error);
		result.dec_slips += report.dec_slips;
		// While the VM is still there: its counts go with it.
		result.timer += exits("dec_exits")? - before.0;
		result.interrupt += exits("ext_intr_exits")? - before.1;
		result.signal += exits("signal_exits")? - before.2;
	}
	Ok(result)
}

fn of_guest(failure: Failure, path: Path, pmu: bool) -> Failure {
	match failure {
		Failure::Wrong(why) => {
			let with = if pmu { ", with PMU" } else { "" };
			Failure::Wrong(format!("{}{with}: {why}", path.name()))
		}
		other => other,
	}
}

/// Each way was taken, and each register had different values.
fn check_variety(guest: Guest, pmu: bool, report: &Report) -> Result<(), Failure> {
	let wanted = kinds(guest);
	let missing = Kind::ALL
		.into_iter()
		.filter(|kind| wanted & kind.bit() != 0 && report.kinds[*kind as usize] == 0)
		.map(|kind| format!("no round by {}", kind.name()));
	let stuck = (0..round::COUNT)
		.filter(|&word| round::is_compared(word) && report.varied[word] == 0)
		.filter(|&word| match word {
			// What QEMU lets a guest read, but not change; and half of a vector.
			round::PSSCR | regs::VSCR_UPPER => false,
			regs::PID => guest == Guest::Real,
			round::PMU..round::CLOCK => pmu,
			_ => true,
		})
		.map(|word| format!("{} never changed", round::name(word)));
	let complaints: Vec<String> = missing.chain(stuck).collect();
	if complaints.is_empty() {
		Ok(())
	} else {
		Err(Failure::Wrong(complaints.join(", ")))
	}
}

/// The same rounds on every path: nothing differs from what it should be, and the digests
/// of what was found are the same.
pub fn compare(
	guest: Guest,
	paths: &[Path],
	seed: u64,
	rounds: u64,
	cfar: u64,
) -> Result<String, Failure> {
	let mut digests: Option<Vec<u64>> = None;
	let mut told = vec![];
	for &path in paths {
		let result = on_path(guest, path, seed, rounds, cfar)?;
		let name = path.name();
		if result.timer == 0 || result.interrupt == 0 || result.signal == 0 {
			return Err(Failure::Wrong(format!(
				"{name}: {} exits by timer, {} by interrupt, {} by signal",
				result.timer, result.interrupt, result.signal
			)));
		}
		told.push(format!(
			"{name}: {} timer, {} interrupts, {} signals, DEC off by {} ticks, {} times by 2^24",
			result.timer, result.interrupt, result.signal, result.dec_error, result.dec_slips
		));
		match &digests {
			None => digests = Some(result.digests),
			Some(first) if *first == result.digests => {}
			Some(first) => {
				return Err(Failure::Wrong(format!(
					"{name}: digests {:x?} instead of {first:x?}",
					result.digests
				)));
			}
		}
	}
	Ok(format!(
		"{rounds} rounds on each path, digests {:x?}; {}",
		digests.unwrap_or_default(),
		told.join("; ")
	))
}

/// Moves a thread of ours from CPU to CPU until it is told to stop. Says how often.
fn drive(thread: i32, stop: &AtomicBool, interval: Duration) -> Result<u64, Failure> {
	// SAFETY: it has no preconditions.
	unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
	let mut moves = 0;
	while !stop.load(Ordering::Relaxed) {
		// SAFETY: an empty set is all zeroes, and the call reads one of that size.
		let result = unsafe {
			let mut one: libc::cpu_set_t = core::mem::zeroed();
			libc::CPU_SET(moves as usize % 2, &mut one);
			libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &one)
		};
		if result != 0 {
			return Err(std::io::Error::last_os_error().into());
		}
		moves += 1;
		std::thread::sleep(interval);
	}
	Ok(moves)
}

/// Rounds of a vcpu that goes from CPU to CPU: it finds everything as it left it, on every
/// path, but for the registers of transactional memory. KVM switches those for guests
/// that have asked for the facility, which takes an interrupt that QEMU doesn't know; the
/// host's scheduler has no reason to; so they are the CPU's, and 0 where no guest
/// has been. EBB's registers, which are on demand as well, the scheduler switches always.
pub fn moving(guest: Guest, seed: u64, rounds: u64, cfar: u64) -> Result<String, Failure> {
	const TM: [u32; 3] = [128, 129, 130];
	let mut told = vec![];
	for path in [Path::C, Path::RustFull] {
		host::choose(path).map_err(Failure::Unsupported)?;
		let mut arena = Arena::new(guest)?;
		arena.start(
			command(rounds, seed, cfar),
			Plan {
				kinds: kinds(guest),
				pmu: 0,
				dec_tolerance: DEC_TOLERANCE,
				dec_slip: 0,
				longest: LONGEST,
				table_is_ours: 1,
			},
		);
		let cpu = OneCpu::new(0)?;
		let stop = AtomicBool::new(false);
		let thread = timer::thread();
		let (outcome, moves) = std::thread::scope(|scope| {
			let driver = scope.spawn(|| {
				let _cpu = OneCpu::new(1)?;
				drive(thread, &stop, Duration::from_micros(330))
			});
			let outcome = arena.finish(|_| Ok(()));
			stop.store(true, Ordering::Relaxed);
			(outcome, driver.join().expect("it doesn't panic"))
		});
		drop(cpu);
		let (outcome, moves) = (outcome?, moves?);
		let report = arena.report();
		let listed = (outcome.mismatches as usize).min(report.mismatches.len());
		let is_tm = |index: &usize| {
			let register = report.mismatches[*index].register as usize;
			// That kind of round reads TFHAR into r5.
			let copy = register == 5 && report.mismatch_kinds[*index] == Kind::Tm as u64;
			copy || TM.iter().any(|&spr| regs::spr_index(spr) == register)
		};
		let lost = (0..listed).filter(is_tm).count();
		if lost < listed {
			return check(&outcome, &report)
				.map_err(|failure| of_guest(failure, path, false))
				.map(|()| String::new());
		}
		told.push(format!(
			"{}: {moves} moves, {} registers of transactional memory stayed behind, the first {:#x}",
			path.name(),
			outcome.mismatches,
			report.mismatches[0].got
		));
	}
	Ok(format!("{rounds} rounds; {}", told.join("; ")))
}

/// How to change a register while its guest waits for userspace.
#[derive(Clone, Copy, Debug)]
enum Handle {
	/// Among what KVM_SET_REGS sets.
	Regs(fn(&mut abi::Regs) -> &mut u64),
	/// A GPR, by number, not of those that go through the run structure.
	Gpr(usize),
	/// r4 to r12: from 0, its place in the run structure.
	Argument(usize),
	/// By KVM_SET_ONE_REG; the bit's position there is that in the register, plus this.
	One(u64, u32),
}

/// Every register that userspace can change: its word, a bit of it, and how.
fn handles(guest: Guest, pmu: bool) -> Vec<(usize, u32, Handle)> {
	let mut handles = vec![];
	for gpr in (0..32).filter(|&gpr| gpr != 3) {
		let handle = match gpr {
			4..=12 => Handle::Argument(gpr - 4),
			_ => Handle::Gpr(gpr),
		};
		handles.push((regs::GPR + gpr, (gpr * 2) as u32, handle));
	}
	handles.push((regs::LR, 17, Handle::Regs(|regs| &mut regs.lr)));
	// XER[CA]; a field of CR that hcalls keep.
	handles.push((regs::XER, 29, Handle::Regs(|regs| &mut regs.xer)));
	handles.push((regs::CR, 5, Handle::Regs(|regs| &mut regs.cr)));
	for (spr, field) in [(272, 0), (273, 1), (274, 2), (275, 3)] {
		let handle = match field {
			0 => Handle::Regs(|regs| &mut regs.sprg[0]),
			1 => Handle::Regs(|regs| &mut regs.sprg[1]),
			2 => Handle::Regs(|regs| &mut regs.sprg[2]),
			_ => Handle::Regs(|regs| &mut regs.sprg[3]),
		};
		handles.push((regs::spr_index(spr), 40, handle));
	}
	handles.push((regs::SRR0, 33, Handle::Regs(|regs| &mut regs.srr0)));
	handles.push((regs::SRR1, 15, Handle::Regs(|regs| &mut regs.srr1)));
	for vsr in 0..64_usize {
		// The second half of them are the vector registers, with numbers of their own.
		let id = KVM_REG_PPC_U128 | if vsr < 32 { 0x60 } else { 0x20 };
		let id = id + vsr as u64;
		let word = regs::VSR + 2 * vsr;
		handles.push((word, vsr as u32, Handle::One(id, 0)));
		handles.push((word + 1, 63 - vsr as u32, Handle::One(id, 64)));
	}
	// The rounding mode. Not VSCR: KVM_REG_PPC_VSCR sets another word than the one that a
	// little-endian kernel loads.
	handles.push((regs::FPSCR, 0, Handle::One(KVM_REG_PPC_U64 | 0x80, 0)));
	let one = |spr: u32, bit: u32, id: u64| (regs::spr_index(spr), bit, Handle::One(id, 0));
	handles.extend([
		one(19, 51, KVM_REG_PPC_U64 | 0xc),
		one(18, 9, KVM_REG_PPC_U32 | 0xd),
		one(17, 3, KVM_REG_PPC_U64 | 0x9),
		one(815, 22, KVM_REG_PPC_U64 | 0xa8),
		one(157, 30, KVM_REG_PPC_U64 | 0xf),
		one(29, 20, KVM_REG_PPC_U64 | 0xe),
		one(61, 20, KVM_REG_PPC_U64 | 0x9f),
		one(159, 11, KVM_REG_PPC_U32 | 0xa4),
		one(144, 7, KVM_REG_PPC_U64 | 0xbc),
		one(256, 19, KVM_REG_PPC_U32 | 0xb4),
		one(804, 27, KVM_REG_PPC_U64 | 0xa5),
		one(805, 28, KVM_REG_PPC_U64 | 0xa6),
		one(806, 33, KVM_REG_PPC_U64 | 0xa7),
		one(128, 35, KVM_REG_PPC_U64 | 0xa0),
		one(129, 36, KVM_REG_PPC_U64 | 0xa1),
		one(130, 37, KVM_REG_PPC_U64 | 0xa2),
		one(896, 50, KVM_REG_PPC_U64 | 0xb6),
	]);
	// FSCR[TAR].
	handles.push(one(153, 8, KVM_REG_PPC_U64 | 0xa3));
	if guest == Guest::Real {
		handles.push(one(48, 13, KVM_REG_PPC_U64 | 0xb2));
	}
	if pmu {
		let ids = [
			KVM_REG_PPC_U64 | 0x10,
			KVM_REG_PPC_U64 | 0x11,
			KVM_REG_PPC_U64 | 0x13,
			KVM_REG_PPC_U64 | 0x12,
			KVM_REG_PPC_U32 | 0x18,
			KVM_REG_PPC_U32 | 0x19,
			KVM_REG_PPC_U32 | 0x1a,
			KVM_REG_PPC_U32 | 0x1b,
			KVM_REG_PPC_U32 | 0x1c,
			KVM_REG_PPC_U32 | 0x1d,
			KVM_REG_PPC_U64 | 0x17,
			KVM_REG_PPC_U64 | 0x15,
			KVM_REG_PPC_U64 | 0x16,
		];
		for (index, id) in ids.into_iter().enumerate() {
			handles.push((round::PMU + index, 12, Handle::One(id, 0)));
		}
	}
	handles
}

impl Handle {
	/// Flips a bit.
	fn flip(self, machine: &mut Machine, bit: u32) -> Result<(), Failure> {
		let vcpu = machine.vcpu();
		match self {
			Self::Argument(index) => vcpu.change_args(|args| args[index] ^= 1 << bit),
			Self::Gpr(gpr) => {
				let mut regs = vcpu.regs()?;
				regs.gpr[gpr] ^= 1 << bit;
				vcpu.set_regs(&regs)?;
			}
			Self::Regs(field) => {
				let mut regs = vcpu.regs()?;
				*field(&mut regs) ^= 1 << bit;
				vcpu.set_regs(&regs)?;
			}
			Self::One(id, shift) => {
				let value = vcpu.one_reg(id)?;
				vcpu.set_one_reg(id, value ^ (1 << ((bit + shift) % 128)))?;
			}
		}
		Ok(())
	}
}

/// Rounds would find a register that changed: of every class, each register that
/// userspace can change is changed once, and just it must be found.
pub fn detect(guest: Guest, seed: u64, cfar: u64) -> Result<String, Failure> {
	host::choose(Path::C).map_err(Failure::Unsupported)?;
	let handles = handles(guest, true);
	let mut arena = Arena::new(guest)?;
	let plan = Plan {
		kinds: Kind::Unknown.bit(),
		pmu: 1,
		dec_tolerance: DEC_TOLERANCE,
		dec_slip: 0,
		longest: LONGEST,
		table_is_ours: 1,
	};
	let rounds = handles.len() as u64;
	arena.start(command(rounds, seed, cfar), plan);
	let mut next = handles.iter();
	let outcome = arena.finish(|machine| match next.next() {
		Some(&(_, bit, handle)) => handle.flip(machine, bit),
		None => Err(Failure::Wrong("more hcalls than rounds".into())),
	})?;
	let report = arena.report();
	let (mut missed, mut unswitched) = (vec![], vec![]);
	let found = &report.mismatches[..(outcome.mismatches as usize).min(round::MAX_MISMATCHES)];
	for (number, &(word, bit, _)) in handles.iter().enumerate() {
		let name = round::name(word);
		let mut of_round = found.iter().filter(|m| m.round == number as u64);
		match (of_round.next(), of_round.next()) {
			// DSCR has two numbers.
			(Some(one), rest) if one.register == word as u64 => {
				let twice = word == regs::spr_index(17)
					&& rest.is_some_and(|m| m.register == regs::spr_index(3) as u64);
				if one.got ^ one.expected != 1 << bit || rest.is_some() && !twice {
					missed.push(format!("{name} and more"));
				}
			}
			(Some(other), _) => {
				let other = round::name(other.register as usize);
				missed.push(format!("{other} instead of {name}"));
			}
			(None, _) if round::is_on_demand(word) => {
				unswitched.push(name.to_string());
			}
			(None, _) => missed.push(format!("not {name}")),
		}
	}
	if !unswitched.is_empty() && unswitched.len() != round::ON_DEMAND.len() {
		missed.push(format!("not {}", unswitched.join(", not ")));
	}
	if !missed.is_empty() {
		return Err(Failure::Wrong(format!("found {}", missed.join(", "))));
	}
	// And time: a decrementer that is off, and a clock that goes back.
	const DEC_EXPIRY: u64 = KVM_REG_PPC_U64 | 0xbe;
	const VTB: u64 = KVM_REG_PPC_U64 | 0xae;
	const TB_OFFSET: u64 = KVM_REG_PPC_U64 | 0x9c;
	let clocks = [
		(round::DEC, DEC_EXPIRY, 2 * u128::from(DEC_TOLERANCE)),
		(round::VTB, VTB, 0_u128.wrapping_sub(1 << 30)),
		(round::TB, TB_OFFSET, 1 << 30),
	];
	arena.start(command(clocks.len() as u64, seed, cfar), plan);
	let mut next = clocks.iter();
	let outcome = arena.finish(|machine| match next.next() {
		Some(&(_, id, add)) => {
			let vcpu = machine.vcpu();
			let value = vcpu.one_reg(id)?;
			let value = value.wrapping_add(add) & u128::from(u64::MAX);
			Ok(vcpu.set_one_reg(id, value)?)
		}
		None => Err(Failure::Wrong("more hcalls than rounds".into())),
	})?;
	let report = arena.report();
	let found = &report.mismatches[..(outcome.mismatches as usize).min(round::MAX_MISMATCHES)];
	for (number, (word, ..)) in clocks.iter().enumerate() {
		let of_round = |m: &&protocol::block::Mismatch| m.round == number as u64;
		let all = found.iter().filter(of_round);
		if !all.clone().any(|m| m.register == *word as u64) {
			let others: Vec<_> = all
				.map(|m| round::name(m.register as usize).to_string())
				.collect();
			return Err(Failure::Wrong(format!(
				"found {others:?} instead of {}",
				round::name(*word)
			)));
		}
	}
	let what = format!(
		"found {} registers and {} clocks, each changed once",
		handles.len() - unswitched.len(),
		clocks.len()
	);
	if unswitched.is_empty() {
		return Ok(what);
	}
	Ok(format!(
		"{what}; this machine lets guests use {} unasked, so that KVM doesn't switch them",
		unswitched.join(", ")
	))
}
