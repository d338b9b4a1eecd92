// SPDX-License-Identifier: GPL-2.0-only
//! Halt polling: how soon a vcpu runs again, what ends a poll, and what is counted.
//!
//! The machine that counts instructions lets another CPU run when a CPU lowers its priority, as a
//! poll does. So a poll does not keep the other CPU waiting there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use protocol::block::Turns;
use protocol::regs::Pattern;
use protocol::{Column, GuestMode};
use vmm::host;
use vmm::kvm::{Exit, Vcpu};
use vmm::machine::{Failure, Machine};
use vmm::timer::{self, Timer};

use crate::common::{PATHS, Verdict, choose, machine, wrong};
use crate::cpus::OneCpu;
use crate::turns;

/// Where generic KVM has its parameters.
const PARAMETERS: &str = "/sys/module/kvm/parameters";

/// The longest window, in nanoseconds.
const CEILING: &str = "halt_poll_ns";
/// What a window of 0 grows to.
const START: &str = "halt_poll_ns_grow_start";

/// Parameters of generic KVM, which are as they were when this is dropped.
pub struct Parameters(Vec<(&'static str, String)>);

impl Parameters {
	/// Sets parameters.
	pub fn set(values: &[(&'static str, u64)]) -> Result<Self, Failure> {
		let mut kept = Self(vec![]);
		for &(name, value) in values {
			let old = std::fs::read_to_string(format!("{PARAMETERS}/{name}"))?;
			kept.0.push((name, old));
			write(name, value)?;
		}
		Ok(kept)
	}
}

impl Drop for Parameters {
	fn drop(&mut self) {
		for (name, value) in self.0.iter().rev() {
			let written = std::fs::write(format!("{PARAMETERS}/{name}"), value);
			written.expect("it could be written before");
		}
	}
}

fn write(name: &str, value: u64) -> Result<(), Failure> {
	let file = format!("{PARAMETERS}/{name}");
	std::fs::write(&file, value.to_string()).map_err(|e| Failure::Wrong(format!("{file}: {e}")))
}

/// KVM's statistics of the halts of all VMs that there are.
#[derive(Clone, Copy, Default)]
struct Halts {
	attempted: u64,
	successful: u64,
	invalid: u64,
	success_ns: u64,
	fail_ns: u64,
	wait_ns: u64,
	wakeup: u64,
}

impl Halts {
	fn now() -> Result<Self, Failure> {
		let read = |name: &str| {
			let file = format!("/sys/kernel/debug/kvm/{name}");
			let text = std::fs::read_to_string(&file)
				.map_err(|e| Failure::Wrong(format!("{file}: {e}")))?;
			let number = text.trim().parse::<u64>();
			number.map_err(|e| Failure::Wrong(format!("{file}: {e}")))
		};
		Ok(Self {
			attempted: read("halt_attempted_poll")?,
			successful: read("halt_successful_poll")?,
			invalid: read("halt_poll_invalid")?,
			success_ns: read("halt_poll_success_ns")?,
			fail_ns: read("halt_poll_fail_ns")?,
			wait_ns: read("halt_wait_ns")?,
			wakeup: read("halt_wakeup")?,
		})
	}
}

/// A window that is longer than a vcpu sleeps in [`wake_up`].
const WINDOW: u64 = 200_000;
/// How often the vcpu that prods lets others run before each H_PROD.
const PAUSE: u64 = 64;
/// Fewer wake-ups than this would say little.
const ENOUGH: u64 = 200;

/// How long it takes to wake a vcpu on another CPU, and what is counted of that.
fn measure(path: Column, window: u64) -> Result<(u64, u64, Halts), Failure> {
	choose(path)?;
	let _parameters = Parameters::set(&[(CEILING, window)])?;
	let mut halts = Halts::default();
	let turns = turns::play([0, 1], PAUSE, false, |machine| {
		turns::watch(machine, Duration::from_millis(50))?;
		// The statistics are gone with the VM.
		halts = Halts::now()?;
		Ok(())
	})?;
	let [_, wakes] = turns.wakes;
	if wakes < ENOUGH {
		return wrong(format!("{wakes} wake-ups only"));
	}
	Ok((turns.ticks[1] / wakes, wakes, halts))
}

/// How long it takes to wake a vcpu on another CPU, without and with polling, on each path.
pub fn wake_up() -> Verdict {
	let mut told = vec![];
	for path in PATHS {
		let name = path.name();
		let (asleep, _, none) = measure(path, 0)?;
		let (polling, wakes, some) = measure(path, WINDOW)?;
		let line = format!("{name}: {asleep} ticks from sleep, {polling} with polling");
		if none.attempted | none.success_ns | none.fail_ns != 0 {
			return wrong(format!("{line}: {} polls without a window", none.attempted));
		}
		if some.invalid != 0 || some.successful > some.attempted {
			let Halts {
				attempted,
				successful,
				invalid,
				..
			} = some;
			return wrong(format!(
				"{line}: {attempted} polls, {successful} successful, {invalid} invalid"
			));
		}
		if path == Column::C {
			// Less than one in a hundred apart.
			if some.attempted != 0 || asleep.abs_diff(polling) > asleep / 100 {
				return wrong(format!("{line}: {} polls on C", some.attempted));
			}
			told.push(line);
			continue;
		}
		// All but those before the window has grown, and after a timer of the host.
		if some.successful < wakes * 9 / 10 || some.success_ns == 0 || some.wakeup > wakes / 10 {
			return wrong(format!(
				"{line}: of {wakes} wake-ups {} by a poll and {} from sleep",
				some.successful, some.wakeup
			));
		}
		if none.wakeup < ENOUGH || none.wait_ns == 0 {
			return wrong(format!("{line}: {} wake-ups counted", none.wakeup));
		}
		if 10 * polling > 6 * asleep {
			return wrong(line);
		}
		told.push(line);
	}
	Ok(told.join("; "))
}

/// Longer than a test takes, in nanoseconds: the largest number that the parameter takes.
const ABSURD: u64 = u32::MAX as u64;
/// What a vcpu may take to leave KVM_RUN when a signal came, and a thread to get the CPU.
const PROMPT: Duration = Duration::from_millis(100);
/// How long a poll lasts until it is ended. A thread of the kernel can end the poll sooner, so
/// several are tried.
const POLL: Duration = Duration::from_millis(5);
const TRIES: u32 = 10;

/// A vcpu that nothing wakes: it is never its turn.
fn sleeper() -> Result<(Machine, Vcpu), Failure> {
	let machine = machine(GuestMode::Radix, &[])?;
	let [_, sleeper] = machine.take_turns([1, 2], Turns::default(), false)?;
	Ok((machine, sleeper))
}

/// Runs a vcpu until a timer's signal. Says how late KVM_RUN returned, and how much of the CPU the
/// thread has used.
fn run_for(vcpu: &mut Vcpu, time: Duration) -> Result<(Duration, Duration), Failure> {
	let used = timer::thread_time();
	let expiry = timer::now() + time;
	let _timer = Timer::at(expiry)?;
	match vcpu.run()? {
		Exit::Interrupted => {}
		exit => return wrong(format!("the guest came out with {exit:?}")),
	}
	let Some(late) = timer::now().checked_sub(expiry) else {
		return wrong("KVM_RUN returned before the signal".into());
	};
	Ok((late, timer::thread_time() - used))
}

/// The window grows with the first halt, which a signal ends.
fn grow(vcpu: &mut Vcpu) -> Result<(), Failure> {
	let (_, used) = run_for(vcpu, POLL)?;
	if used > POLL / 4 {
		return wrong(format!("{used:?} of {POLL:?} used without a window"));
	}
	Ok(())
}

/// Signals end a poll.
fn signals(vcpu: &mut Vcpu) -> Result<Duration, Failure> {
	let (mut worst, mut longest) = (Duration::ZERO, Duration::ZERO);
	for _ in 0..TRIES {
		let (late, used) = run_for(vcpu, POLL)?;
		if late > PROMPT {
			return wrong(format!("{late:?} late after a signal"));
		}
		worst = worst.max(late);
		longest = longest.max(used);
	}
	if longest < POLL * 3 / 4 {
		return wrong(format!("polled {longest:?} of {POLL:?} only"));
	}
	Ok(worst)
}

/// Another thread gets the CPU of a poll, and keeps the CPU: the vcpu sleeps then.
fn other_thread(vcpu: &mut Vcpu) -> Result<Duration, Failure> {
	let (mut worst, mut longest) = (Duration::ZERO, Duration::ZERO);
	for _ in 0..TRIES {
		let (stop, late) = (AtomicBool::new(false), AtomicU64::new(0));
		let used = std::thread::scope(|scope| {
			scope.spawn(|| {
				let started = Instant::now();
				std::thread::sleep(2 * POLL);
				let elapsed = started.elapsed().as_nanos() as u64;
				late.store(elapsed, Ordering::Relaxed);
				while !stop.load(Ordering::Relaxed) {
					std::hint::spin_loop();
				}
			});
			// Until the other thread sleeps.
			std::thread::sleep(POLL / 2);
			let result = run_for(vcpu, 4 * POLL);
			stop.store(true, Ordering::Relaxed);
			result.map(|(_, used)| used)
		})?;
		let Some(late) = Duration::from_nanos(late.load(Ordering::Relaxed)).checked_sub(2 * POLL)
		else {
			return wrong("another thread did not get the CPU of a poll".into());
		};
		// The other thread is back after three quarters of that.
		if late > PROMPT || used > 2 * POLL {
			return wrong(format!(
				"another thread got the CPU {late:?} late, and the poll {used:?} of {:?}",
				4 * POLL
			));
		}
		worst = worst.max(late);
		longest = longest.max(used);
	}
	if longest < POLL {
		return wrong(format!("polled {longest:?} beside another thread"));
	}
	Ok(worst)
}

/// CPU time that a process has used.
fn process_time(process: i32) -> Duration {
	let mut clock = 0;
	let mut time = libc::timespec {
		tv_sec: 0,
		tv_nsec: 0,
	};
	// SAFETY: both fill what they are given; an error leaves zeroes.
	unsafe {
		if libc::clock_getcpuclockid(process, &mut clock) == 0 {
			libc::clock_gettime(clock, &mut time);
		}
	}
	Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// SIGKILL ends a poll.
fn killed() -> Result<Duration, Failure> {
	// SAFETY: this process has one thread while no test runs others, so the child may do what it likes.
	let child = unsafe { libc::fork() };
	if child < 0 {
		return Err(std::io::Error::last_os_error().into());
	}
	if child == 0 {
		let poll = || -> Result<(), Failure> {
			let (_machine, mut vcpu) = sleeper()?;
			grow(&mut vcpu)?;
			loop {
				run_for(&mut vcpu, POLL)?;
			}
		};
		let _ = poll();
		// SAFETY: it ends the child. The parent sees that it was not the signal.
		unsafe { libc::_exit(1) };
	}
	std::thread::sleep(20 * POLL);
	let before = process_time(child);
	std::thread::sleep(4 * POLL);
	let used = process_time(child) - before;
	let sent = Instant::now();
	let mut status = 0;
	// SAFETY: the child is not reaped before; the second call fills the status.
	let reaped = unsafe {
		libc::kill(child, libc::SIGKILL);
		libc::waitpid(child, &mut status, 0)
	};
	let late = sent.elapsed();
	let killed = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
	if reaped != child || !killed || late > PROMPT || used < POLL {
		return wrong(format!(
			"status {status:#x} {late:?} after SIGKILL, {used:?} of {:?} used before",
			4 * POLL
		));
	}
	Ok(late)
}

/// A window without end is ended by a signal, by another thread and by SIGKILL.
pub fn ends(path: Column) -> Verdict {
	choose(path)?;
	let _parameters = Parameters::set(&[(CEILING, ABSURD), (START, ABSURD - 1)])?;
	let _cpu = OneCpu::new(1)?;
	let (_machine, mut vcpu) = sleeper()?;
	grow(&mut vcpu)?;
	let signal = signals(&mut vcpu)?;
	let thread = other_thread(&mut vcpu)?;
	let kill = killed()?;
	let [signal, thread, kill] = [signal, thread, kill].map(|late| late.as_micros());
	Ok(format!(
		"at most {signal} us after a signal, {thread} us for another thread, {kill} us after SIGKILL"
	))
}

/// Polls long enough for an emulator whose CPUs run at the same time.
const LONG: u64 = 20_000_000;

/// Two vcpus that only wake each other, with polling: no wake-up is lost.
pub fn turns_while_polling(path: Column, time: Duration) -> Verdict {
	choose(path)?;
	let _parameters = Parameters::set(&[(CEILING, LONG), (START, LONG)])?;
	let mut told = vec![];
	for (what, places) in [("apart", [0, 1]), ("together", [0, 0])] {
		let mut halts = Halts::default();
		let turns = turns::play(places, 0, false, |machine| {
			turns::watch(machine, time)?;
			halts = Halts::now()?;
			Ok(())
		})?;
		let count: u64 = turns.rounds.iter().sum();
		let line = format!(
			"{what}: {count} turns, {} polls, {} successful",
			halts.attempted, halts.successful
		);
		// On one CPU the other vcpu ends a poll.
		if places[0] != places[1] && halts.successful < ENOUGH {
			return wrong(line);
		}
		told.push(line);
	}
	Ok(told.join("; "))
}

/// All parameters and paths change while two vcpus wake each other.
pub fn switch(seed: u64, time: Duration) -> Verdict {
	let names = [CEILING, START, "halt_poll_ns_grow", "halt_poll_ns_shrink"];
	let kept = names.map(|name| Parameters::set(&[(name, 1)]));
	let _kept = kept.into_iter().collect::<Result<Vec<_>, _>>()?;
	let mut changes = 0;
	let mut halts = Halts::default();
	let turns = turns::play([0, 1], 0, false, |machine| {
		let stop = AtomicBool::new(false);
		std::thread::scope(|scope| {
			let switcher = scope.spawn(|| {
				let mut pattern = Pattern::new(seed);
				let mut changes = 0;
				while !stop.load(Ordering::Relaxed) {
					let mut one_of =
						|values: &[u64]| values[pattern.next() as usize % values.len()];
					write(CEILING, one_of(&[0, 1, 10_000, WINDOW, LONG, ABSURD]))?;
					write(START, one_of(&[0, 1, 10_000, LONG, ABSURD]))?;
					write(names[2], one_of(&[0, 1, 2, ABSURD]))?;
					write(names[3], one_of(&[0, 1, 2, ABSURD]))?;
					let path = PATHS[one_of(&[0, 1, 2]) as usize];
					host::choose(path).map_err(Failure::Unsupported)?;
					changes += 1;
					std::thread::sleep(Duration::from_micros(one_of(&[300, 2000, 15_000])));
				}
				Ok::<u64, Failure>(changes)
			});
			let watched = turns::watch(machine, time);
			stop.store(true, Ordering::Relaxed);
			changes = switcher.join().expect("it doesn't panic")?;
			halts = Halts::now()?;
			watched
		})
	})?;
	let line = format!(
		"{} turns, {} polls, {} successful, {changes} changes",
		turns.rounds.iter().sum::<u64>(),
		halts.attempted,
		halts.successful
	);
	if changes == 0 || halts.attempted == 0 {
		return wrong(line);
	}
	Ok(line)
}
