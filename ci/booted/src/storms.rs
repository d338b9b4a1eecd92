// SPDX-License-Identifier: GPL-2.0-only
//! Storms of hcalls, which signals and the scheduler must get through.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cases::Case;
use protocol::{Column, Command, GuestMode, Job};
use vmm::machine::{Failure, Machine, Stop, unexpected};
use vmm::timer::{self, Timer};

use crate::common::{Verdict, choose, machine_for, wrong};
use crate::cpus::OneCpu;

/// What a vcpu may take to leave the guest when a signal came.
const PROMPT: Duration = Duration::from_millis(100);

/// A guest that does an hcall over and over.
pub fn start(guest: GuestMode, case: &'static Case) -> Result<Machine, Failure> {
	let mut machine = machine_for(guest, case)?;
	let (number, code) = (case.number.0, case.code.0);
	machine.start(Command {
		job: Job::STORM,
		number,
		code,
		..Command::default()
	});
	Ok(machine)
}

/// The storm's hcalls so far, all with the right code.
fn rounds(machine: &Machine) -> Result<u64, Failure> {
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
pub fn signal(guest: GuestMode, path: Column, case: &'static Case, signals: u64) -> Verdict {
	choose(path)?;
	let mut machine = start(guest, case)?;
	let mut worst = Duration::ZERO;
	let mut rounds = 0;
	for signal in 0..signals {
		// Not in step with the host's tick.
		let expiry = timer::now() + Duration::from_micros(20_000 + 777 * signal);
		let _timer = Timer::at(expiry)?;
		match machine.step()? {
			Stop::Interrupted => {}
			Stop::Done(_) => return wrong("the storm ended too early".into()),
			Stop::Call((number, _)) => {
				return wrong(format!("hcall {:#x} reached userspace", number.0));
			}
			Stop::Mmio(mmio) => return Err(unexpected(&mmio)),
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
		let now = self::rounds(&machine)?;
		if now <= rounds {
			return wrong(format!("no hcall before signal {signal}"));
		}
		rounds = now;
	}
	Ok(format!(
		"{signals} signals in {rounds} hcalls, at most {} us late",
		worst.as_micros()
	))
}

/// A storm of hcalls leaves the CPU to others when the scheduler wants it.
pub fn resched(guest: GuestMode, path: Column, case: &'static Case, wall: Duration) -> Verdict {
	choose(path)?;
	let _one_cpu = OneCpu::new(0)?;
	let mut machine = start(guest, case)?;
	let (stop, spins) = (AtomicBool::new(false), AtomicU64::new(0));
	let (own, other) = std::thread::scope(|scope| {
		let spinner = scope.spawn(|| {
			while !stop.load(Ordering::Relaxed) {
				spins.fetch_add(1, Ordering::Relaxed);
			}
			timer::thread_time()
		});
		let before = timer::thread_time();
		let end = Instant::now() + wall;
		let result = (|| {
			let _timer = Timer::every(Duration::from_millis(20), wall)?;
			while Instant::now() < end {
				if !matches!(machine.step()?, Stop::Interrupted) {
					return wrong("the storm ended too early".into());
				}
			}
			Ok(())
		})();
		stop.store(true, Ordering::Relaxed);
		let own = timer::thread_time() - before;
		let other = spinner.join().expect("it doesn't panic");
		result.map(|()| (own, other))
	})?;
	let rounds = self::rounds(&machine)?;
	// Fair would be half each.
	if other < wall / 4 || own < wall / 4 || rounds == 0 {
		return wrong(format!(
			"of {} ms the storm got {} and the other thread {} ({rounds} hcalls)",
			wall.as_millis(),
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
