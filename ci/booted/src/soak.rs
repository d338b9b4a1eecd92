// SPDX-License-Identifier: GPL-2.0-only
//! Much at once, on a host with two CPUs that really run at the same time.
//!
//! Two guests check their registers round after round; two vcpus of a third do TCE hcalls
//! on the same few entries of one table, while the page of their list is replaced and a
//! memory slot comes and goes. All vcpus move between CPUs and get signals, timers go
//! off, interrupts are sent, and the path is changed all the while. Nothing may come out
//! wrong, and the kernel must have nothing to say.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use protocol::block::Contender;
use protocol::regs::Pattern;
use protocol::round::{RoundKind, RoundPlan};
use protocol::{Column, GuestMode, map};

use crate::common::PATHS;
use crate::cpus;
use crate::registers::arena::{self, Arena};
use crate::registers::hcall::c_path_cfar;
use vmm::host;
use vmm::kvm::{Exit, Memory, Slot, Vcpu};
use vmm::machine::{Config, Failure, Machine};
use vmm::timer::Timer;

const CPUS: usize = 2;
/// The host's largest page.
const PAGE: usize = 1 << 16;
/// Where a second list is, when it is there.
const SLOT: (u32, u64) = (9, 0x300_0000);
const ENABLE: [Number; 4] = [
	Number::GET_TCE,
	Number::PUT_TCE,
	Number::PUT_TCE_INDIRECT,
	Number::STUFF_TCE,
];
/// Which vcpus contend.
const CONTENDERS: [u64; 2] = [1, 2];
/// The guest whose vcpus contend.
struct Target {
	vcpus: Vec<Vcpu>,
	machine: Machine,
}

fn write_list(memory: &Memory, address: u64, first: u64) {
	for index in 0..Contender::ENTRIES {
		let tce = map::tce((first + index) % 512);
		memory.write(address + 8 * index, tce.to_be());
	}
}

impl Target {
	fn new(guest: GuestMode, seed: u64) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest,
			enable: &ENABLE,
			window: true,
		})?;
		let block = |id: u64| Contender {
			seed: seed.wrapping_mul(2 * id + 1) | 1,
			lists: [map::TCE_LIST, SLOT.1],
			..Contender::default()
		};
		let vcpus = CONTENDERS
			.iter()
			.map(|&id| machine.contend(id, block(id)))
			.collect::<Result<_, _>>()?;
		Ok(Self { vcpus, machine })
	}
}

/// Runs a vcpu that contends, here and there, until it is told to stop.
fn run(vcpu: &mut Vcpu, seed: u64, stop: &AtomicBool) -> Result<(), Failure> {
	let mut pattern = Pattern::new(seed);
	let interval = Duration::from_millis(7);
	let _timer = Timer::every(interval, interval)?;
	while !stop.load(Ordering::Relaxed) {
		match vcpu.run()? {
			// A list that isn't there, or a page of the table that KVM couldn't get.
			Exit::Hcall(..) => vcpu.answer(Code::FUNCTION),
			Exit::Interrupted => {
				cpus::move_to_cpu(pattern.next() as usize % CPUS)?;
			}
			exit => {
				return Err(Failure::Wrong(format!(
					"the guest of a vcpu that contends: {exit:?}"
				)));
			}
		}
	}
	Ok(())
}

/// Takes the list's page away again and again, and the other list's slot.
fn disturb(machine: &Machine, stop: &AtomicBool, changes: &AtomicU64) -> Result<(), Failure> {
	let mut slot: Option<Slot> = None;
	while !stop.load(Ordering::Relaxed) {
		let change = changes.fetch_add(1, Ordering::Relaxed);
		match change % 4 {
			0 => {
				let page = Memory::new(PAGE)?;
				write_list(&page, 0, change);
				machine.memory().take_over(map::TCE_LIST, page)?;
			}
			// Gone, and then there with nothing in it.
			1 => machine.memory().renew(map::TCE_LIST, PAGE)?,
			2 if slot.is_some() => slot = None,
			2 => {
				let page = Memory::new(PAGE)?;
				write_list(&page, 0, change);
				slot = Some(machine.vm().add_memory(SLOT.0, SLOT.1, page)?);
			}
			_ => write_list(machine.memory(), map::TCE_LIST, change),
		}
		if change.is_multiple_of(64) {
			check_table(machine)?;
		}
		std::thread::sleep(Duration::from_micros(300 + 50 * (change % 7)));
	}
	Ok(())
}

fn check_table(machine: &Machine) -> Result<(), Failure> {
	let good = |entry: u64| entry == 0 || (0..512).any(|index| map::tce(index) == entry);
	match machine.table()?.iter().position(|&entry| !good(entry)) {
		None => Ok(()),
		Some(index) => Err(Failure::Wrong(format!(
			"no vcpu wrote the value of TCE {index}"
		))),
	}
}

/// What the vcpus say.
fn contended(machine: &Machine) -> Result<[u64; 3], Failure> {
	let mut sums = [0; 3];
	for id in CONTENDERS {
		let one = machine.contended(id);
		if one.bad != 0 {
			let [number, code, r4] = one.last_bad;
			return Err(Failure::Wrong(format!(
				"vcpu {id}: {} of {} hcalls went wrong, the last {number:#x}: code {} r4 {r4:#x}",
				one.bad, one.rounds, code as i64
			)));
		}
		if one.answered == 0 {
			return Err(Failure::Wrong(format!("vcpu {id} did nothing")));
		}
		for (sum, part) in sums.iter_mut().zip([one.rounds, one.answered, one.refused]) {
			*sum += part;
		}
	}
	Ok(sums)
}

/// Two vcpus on one table, for some time, on the fast path.
pub fn contend(guest: GuestMode, seed: u64, time: Duration) -> Result<String, Failure> {
	host::choose(Column::RustFast).map_err(Failure::Unsupported)?;
	let mut target = Target::new(guest, seed)?;
	let (stop, changes) = (AtomicBool::new(false), AtomicU64::new(0));
	let before = host::fast_total().unwrap_or(0);
	let Target { vcpus, machine } = &mut target;
	let machine = &*machine;
	let result = std::thread::scope(|scope| {
		let mut threads = vec![];
		for (vcpu, n) in vcpus.iter_mut().zip(1_u64..) {
			let stop = &stop;
			threads.push(scope.spawn(move || run(vcpu, seed ^ n, stop)));
		}
		let disturber = scope.spawn(|| disturb(machine, &stop, &changes));
		sleep_unless(&stop, time, || {
			disturber.is_finished() || threads.iter().any(|thread| thread.is_finished())
		});
		stop.store(true, Ordering::Relaxed);
		let mut results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
		results.push(disturber.join());
		results
			.into_iter()
			.try_for_each(|result| result.expect("it doesn't panic"))
	});
	result?;
	check_table(machine)?;
	let [rounds, answered, refused] = contended(machine)?;
	// Those still in the vcpus are counted with their next exit.
	let fast = host::fast_total().unwrap_or(0) - before;
	let what = format!(
		"{rounds} hcalls, {answered} answered, {refused} refused, {fast} fast, {} changes",
		changes.load(Ordering::Relaxed)
	);
	if refused == 0 || fast < answered / 2 {
		return Err(Failure::Wrong(what));
	}
	Ok(what)
}

/// Waits, but not longer than there is something to wait for.
fn sleep_unless(stop: &AtomicBool, time: Duration, over: impl Fn() -> bool) {
	let end = Instant::now() + time;
	while Instant::now() < end && !over() && !stop.load(Ordering::Relaxed) {
		std::thread::sleep(Duration::from_millis(50));
	}
}

/// What builds a guest that checks its registers.
pub type Make<'a> = &'a (dyn Fn(GuestMode) -> Result<Arena, Failure> + Sync);

/// A guest that checks its registers until it is told to stop.
pub fn check_registers(
	guest: GuestMode,
	cfar: u64,
	seed: u64,
	stop: &AtomicBool,
	done: &AtomicU64,
) -> Result<(), Failure> {
	check_registers_in(&Arena::new, guest, cfar, seed, stop, done)
}

fn check_registers_in(
	make: Make<'_>,
	guest: GuestMode,
	cfar: u64,
	seed: u64,
	stop: &AtomicBool,
	done: &AtomicU64,
) -> Result<(), Failure> {
	const SEGMENT: u64 = 500;
	let mut pattern = Pattern::new(seed);
	// Where time isn't counted in instructions, nothing is sure of it.
	let mut without = RoundKind::Decrementer.bit();
	if cpus::are_threads()? {
		// KVM emulates TIR and tells the vcpu's own thread. QEMU lets the guest read that of the host.
		without |= RoundKind::Tir.bit();
	}
	while !stop.load(Ordering::Relaxed) {
		// New VMs now and then, one with a timebase of its own.
		let mut arena = make(guest)?;
		// A thread beside this one may fork.
		arena.machine.vcpu().keep_from_children()?;
		if pattern.next() & 1 != 0 {
			let offset = pattern.next();
			arena
				.machine
				.vcpu()
				.set_one_reg(vmm::abi::KVM_REG_PPC_TB_OFFSET, offset.into())?;
		}
		let interval = Duration::from_micros(6000 + pattern.next() % 10_000);
		// Not while VMs are made: that can be interrupted, too.
		let _timer = Timer::every(interval, interval)?;
		for segment in 0..8 {
			if stop.load(Ordering::Relaxed) {
				break;
			}
			let plan = RoundPlan {
				kinds: arena::kinds(guest) & !without,
				pmu: segment & 1,
				dec_tolerance: u64::MAX >> 8,
				dec_slip: 0,
				longest: u64::MAX >> 8,
				table_is_ours: 1,
				..RoundPlan::default()
			};
			arena.start(arena::command(SEGMENT, pattern.next(), cfar), plan);
			let outcome = loop {
				let step = arena.machine.step()?;
				let interrupted = matches!(step, vmm::machine::Stop::Interrupted);
				if let Some(outcome) = arena.serve(step)? {
					break outcome;
				}
				if interrupted {
					cpus::move_if_online(pattern.next() as usize % CPUS)?;
				}
			};
			arena::check(&outcome, &arena.report())?;
			done.fetch_add(outcome.rounds, Ordering::Relaxed);
		}
	}
	Ok(())
}

/// What a thread does beside a guest, until it is told to stop.
pub type Beside<'a, T> = &'a (dyn Fn(&AtomicBool) -> Result<T, Failure> + Sync);

/// The name of the thread of the vcpu of [`check_registers_beside`].
pub const GUEST_THREAD: &str = "registers";

/// A radix guest that checks its registers for some time, now on one CPU and now on the other, on the path
/// that is chosen. Returns how many rounds it made, and what each of the `others` came to.
pub fn check_registers_beside<T: Send>(
	seed: u64,
	time: Duration,
	cfar: u64,
	others: &[Beside<'_, T>],
) -> Result<(u64, Vec<T>), Failure> {
	check_registers_of(&Arena::new, seed, time, cfar, others)
}

/// The same with a guest that `make` builds.
pub fn check_registers_of<T: Send>(
	make: Make<'_>,
	seed: u64,
	time: Duration,
	cfar: u64,
	others: &[Beside<'_, T>],
) -> Result<(u64, Vec<T>), Failure> {
	let (stop, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
	let results = std::thread::scope(|scope| {
		let (stop, rounds) = (&stop, &rounds);
		let guest = std::thread::Builder::new()
			.name(GUEST_THREAD.to_owned())
			.spawn_scoped(scope, move || {
				check_registers_in(make, GuestMode::Radix, cfar, seed, stop, rounds)
			})
			.expect("a thread can be made");
		let others: Vec<_> = others
			.iter()
			.map(|&other| scope.spawn(move || other(stop)))
			.collect();
		sleep_unless(stop, time, || {
			guest.is_finished() || others.iter().any(|other| other.is_finished())
		});
		stop.store(true, Ordering::Relaxed);
		let others: Vec<_> = others
			.into_iter()
			.map(|other| other.join().expect("it doesn't panic"))
			.collect();
		(guest.join().expect("it doesn't panic"), others)
	});
	let (guest, others) = results;
	guest?;
	let others = others.into_iter().collect::<Result<_, _>>()?;
	Ok((rounds.into_inner(), others))
}

/// Changes the path and the handlers.
fn flip(seed: u64, stop: &AtomicBool) -> Result<u64, Failure> {
	let mut pattern = Pattern::new(seed);
	let mut flips = 0;
	while !stop.load(Ordering::Relaxed) {
		let path = PATHS[pattern.next() as usize % PATHS.len()];
		host::choose(path).map_err(Failure::Unsupported)?;
		for parameter in ["fast", "light"] {
			if pattern.next() & 3 == 0 {
				let on = if pattern.next() & 1 == 0 { "0" } else { "1" };
				host::set_parameter(parameter, on)?;
			}
		}
		flips += 1;
		std::thread::sleep(Duration::from_micros(200 + pattern.next() % 20_000));
	}
	Ok(flips)
}

/// All of it, for some time.
pub fn all(seed: u64, time: Duration) -> Result<String, Failure> {
	let [radix, real] = GuestMode::RADIX.map(c_path_cfar);
	let cfars = [radix?, real?];
	let mut target = Target::new(GuestMode::Radix, seed)?;
	let stop = AtomicBool::new(false);
	let (changes, rounds_done) = (AtomicU64::new(0), AtomicU64::new(0));
	let Target { vcpus, machine } = &mut target;
	let machine = &*machine;
	let started = Instant::now();
	let flips = AtomicU64::new(0);
	let result = std::thread::scope(|scope| {
		let mut threads: Vec<std::thread::ScopedJoinHandle<'_, Result<(), Failure>>> = vec![];
		for (vcpu, n) in vcpus.iter_mut().zip(1_u64..) {
			let stop = &stop;
			threads.push(scope.spawn(move || run(vcpu, seed ^ n, stop)));
		}
		let (stop_ref, done) = (&stop, &rounds_done);
		for ((guest, cfar), n) in GuestMode::RADIX.into_iter().zip(cfars).zip(10_u64..) {
			threads
				.push(scope.spawn(move || check_registers(guest, cfar, seed ^ n, stop_ref, done)));
		}
		threads.push(scope.spawn(|| disturb(machine, &stop, &changes)));
		threads.push(scope.spawn(|| {
			flips.store(flip(seed, &stop)?, Ordering::Relaxed);
			Ok(())
		}));
		for cpu in 0..CPUS {
			let stop = &stop;
			threads.push(
				scope.spawn(move || cpus::interrupt(stop, cpu, Duration::from_millis(3)).map(drop)),
			);
			threads.push(scope.spawn(move || {
				let _cpu = cpus::OneCpu::new(cpu)?;
				cpus::nap(stop, Duration::from_micros(1700));
				Ok(())
			}));
		}
		sleep_unless(&stop, time, || {
			threads.iter().any(|thread| thread.is_finished())
		});
		stop.store(true, Ordering::Relaxed);
		let results: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
		results
			.into_iter()
			.try_for_each(|result| result.expect("it doesn't panic"))
	});
	result?;
	check_table(machine)?;
	let [hcalls, answered, refused] = contended(machine)?;
	let rounds = rounds_done.load(Ordering::Relaxed);
	let flips = flips.load(Ordering::Relaxed);
	let what = format!(
		"{} s: {rounds} rounds of registers, {hcalls} TCE hcalls ({answered} answered, {refused} \
		 refused), {} changes of lists and slots, {flips} of path",
		started.elapsed().as_secs(),
		changes.load(Ordering::Relaxed)
	);
	if rounds == 0 || refused == 0 || flips == 0 {
		return Err(Failure::Wrong(what));
	}
	Ok(what)
}
