// SPDX-License-Identifier: GPL-2.0-only
//! A decrementer that expires while the guest does not run: userspace has the vcpu, or it sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hcall::Number;
use powerpc::Spr;
use protocol::regs::Pattern;
use protocol::{Column, GuestMode, map, private};
use vmm::abi::KVM_REG_PPC_DEC_EXPIRY;
use vmm::machine::{Failure, Machine, Stop};
use vmm::timer::{self, Timer};

use super::code::{Code, andc, hcall, li, mfspr, mtspr, ori};
use super::one_reg::timebase;
use crate::common::{PATHS, Verdict, choose, machine, wrong};

/// What the guest sets DEC to: expired a thousand ticks ago.
const EXPIRED: u64 = 1000;
/// Longer than it takes 32 bits of `DEC` to change their sign: 2^31 ticks of 512 MHz are 4.2 s.
const PAUSE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);

/// The guest, without the large decrementer (LPCR\[LD\] = 0) and with interrupts disabled,
/// exits to userspace with an expired decrementer. Userspace sleeps. DEC still has to be
/// negative, or the guest's timer interrupt comes seconds late.
pub fn expired(guest: GuestMode, path: Column) -> Verdict {
	choose(path)?;
	let mut machine = machine(guest, &[Number::NULL])?;
	let mut code = Code::new();
	// r5 = -EXPIRED, by subtraction from 0: neg r5, r5.
	code.push([li(5, EXPIRED), 31 << 26 | 5 << 21 | 5 << 16 | 104 << 1]);
	code.push([mtspr(22, 5)]);
	code.push(hcall(private::UNKNOWN));
	code.push([mfspr(4, 22)]);
	code.push(hcall(private::UNKNOWN));
	code.start(&mut machine)?;
	let mut call = || -> Result<u64, Failure> {
		let end = Instant::now() + LIMIT;
		let _timer = Timer::every(Duration::from_millis(500), LIMIT)?;
		loop {
			match machine.step()? {
				Stop::Call((private::UNKNOWN, args)) => return Ok(args[0]),
				Stop::Interrupted if Instant::now() < end => {}
				_ => return wrong("the guest does not exit as it should".to_owned()),
			}
		}
	};
	call()?;
	std::thread::sleep(PAUSE);
	let dec = call()? as i32;
	if dec < 0 {
		Ok(format!("DEC is {dec} after {} s", PAUSE.as_secs()))
	} else {
		wrong(format!("DEC is {dec}, and the timer interrupt is lost"))
	}
}

const TICKS_PER_US: u64 = 512;
/// How late a wake-up may be, with other threads on the machine.
const PROMPT: u64 = 100_000 * TICKS_PER_US;
/// A sleep, in microseconds, that a signal ends. If the next one ended with this one, it would be too late.
const LONG: u64 = 400_000;
/// For how long a sleep is watched after its end is due.
const WATCH: Duration = Duration::from_millis(500);

/// The decrementer's vector, without and with translation.
const VECTORS: [u64; 2] = [map::VECTORS + 0x900, map::VECTORS_AIL + 0x900];
const RFID: u32 = 19 << 26 | 18 << 1;
const MSR_EE: u64 = 0x8000;

/// A guest that cedes, and then tells userspace so. H_CEDE enables its interrupts. If the decrementer
/// interrupts it, it disables them.
fn sleeper(guest: GuestMode) -> Result<Machine, Failure> {
	let mut machine = machine(guest, &[])?;
	let handler = [
		mfspr(30, Spr::SRR1.0.into()),
		andc(30, 30, 29),
		mtspr(Spr::SRR1.0.into(), 30),
		RFID,
	];
	for vector in VECTORS {
		for (address, instruction) in (vector..).step_by(4).zip(handler) {
			let bytes = instruction.to_le_bytes();
			machine.memory().write_bytes(address, &bytes);
		}
	}
	let mut code = Code::new();
	code.push([li(29, 0), ori(29, MSR_EE)]);
	code.push(hcall(Number::CEDE));
	code.push(hcall(private::UNKNOWN));
	code.start(&mut machine)?;
	Ok(machine)
}

/// How a sleep of a vcpu ended.
struct Woken {
	/// When its decrementer expires, in ticks of the timebase.
	expiry: u64,
	/// When it was awake.
	at: u64,
	/// A signal came before.
	by_signal: bool,
}

/// Has the vcpu sleep until its decrementer expires, or a signal comes.
fn sleep(
	machine: &mut Machine,
	time: Duration,
	signal: Option<Duration>,
) -> Result<Woken, Failure> {
	// In ticks of the guest's timebase, which is the host's here.
	let expiry = timebase() + time.as_micros() as u64 * TICKS_PER_US;
	machine
		.vcpu()
		.set_one_reg(KVM_REG_PPC_DEC_EXPIRY, expiry.into())?;
	let limit = signal.unwrap_or(time + WATCH);
	let _timer = Timer::at(timer::now() + limit)?;
	let mut by_signal = false;
	loop {
		match machine.step()? {
			Stop::Call((private::UNKNOWN, _)) => break,
			// The hcall is over then, too.
			Stop::Interrupted if !by_signal => by_signal = true,
			_ => return wrong("the guest does not exit as it should".to_owned()),
		}
	}
	let at = timebase();
	Ok(Woken {
		expiry,
		at,
		by_signal,
	})
}

/// A vcpu sleeps again and again, and its decrementer wakes it: not too early, and not too late. Each second
/// sleep, on the average, a signal ends before. So a timer of the host that is left from one sleep is too early
/// or too late for the next. Without a `path`, each sleep is on a path of its own.
pub fn wakes(guest: GuestMode, path: Option<Column>, seed: u64, rounds: u64) -> Verdict {
	if let Some(path) = path {
		choose(path)?;
	}
	let mut machine = sleeper(guest)?;
	let mut pattern = Pattern::new(seed);
	let (mut worst, mut signals) = (0, 0);
	for round in 0..rounds {
		let mut one_of = |values: &[u64]| values[pattern.next() as usize % values.len()];
		if path.is_none() {
			choose(PATHS[one_of(&[0, 1, 2]) as usize])?;
		}
		let time = one_of(&[30, 300, 1000, 9000, LONG]);
		let signal = match time {
			LONG => Some(LONG / 100),
			_ => (one_of(&[0, 1, 2]) == 0).then(|| time * one_of(&[1, 5, 9]) / 10),
		};
		let micros = Duration::from_micros;
		let woken = sleep(&mut machine, micros(time), signal.map(micros))?;
		let late = woken.at.wrapping_sub(woken.expiry) as i64;
		let line = format!("sleep {round}, of {time} us: awake {late} ticks after its end");
		if signal.is_none() && woken.by_signal {
			return wrong(format!("{line}: the decrementer did not wake it"));
		}
		if !woken.by_signal && late < 0 {
			return wrong(format!("{line}: too early"));
		}
		if late > PROMPT as i64 {
			return wrong(format!("{line}: too late"));
		}
		signals += u64::from(woken.by_signal);
		worst = worst.max(late);
	}
	let line = format!("{rounds} sleeps, {signals} ended by a signal, at most {worst} ticks late");
	match signals > rounds / 8 && signals < rounds * 7 / 8 {
		true => Ok(line),
		false => wrong(line),
	}
}

/// The host's time of day.
fn set_clock(to: Duration) -> Result<(), Failure> {
	let time = libc::timespec {
		tv_sec: to.as_secs() as i64,
		tv_nsec: to.subsec_nanos().into(),
	};
	// SAFETY: it reads the structure.
	match unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &time) } {
		0 => Ok(()),
		_ => Err(std::io::Error::last_os_error().into()),
	}
}

/// How far the clock is set: longer than a sleep is watched.
const STEP: Duration = Duration::from_secs(60);
/// How long the vcpu sleeps meanwhile.
const SLEEP: Duration = Duration::from_millis(60);

/// The host's clock is set back, or forward, while a vcpu sleeps. Its decrementer wakes it in time all the same.
pub fn clock_step(guest: GuestMode, path: Column) -> Verdict {
	choose(path)?;
	let mut machine = sleeper(guest)?;
	let mut told = vec![];
	for back in [true, false] {
		let stop = AtomicBool::new(false);
		let woken = std::thread::scope(|scope| {
			let setter = scope.spawn(|| {
				std::thread::sleep(SLEEP / 3);
				let began = timer::now();
				let was = std::time::SystemTime::now()
					.duration_since(std::time::UNIX_EPOCH)
					.expect("it is past 1970");
				let to = match back {
					true => was.saturating_sub(STEP),
					false => was + STEP,
				};
				let set = set_clock(to);
				while !stop.load(Ordering::Relaxed) {
					std::thread::sleep(Duration::from_millis(5));
				}
				set.and(set_clock(was + (timer::now() - began)))
			});
			let woken = sleep(&mut machine, SLEEP, None);
			stop.store(true, Ordering::Relaxed);
			setter.join().expect("it doesn't panic")?;
			woken
		})?;
		let how = if back { "back" } else { "forward" };
		let late = woken.at.wrapping_sub(woken.expiry) as i64;
		let line = format!("clock set {how}: awake {late} ticks after the decrementer's end");
		if woken.by_signal || late < 0 || late > PROMPT as i64 {
			return wrong(line);
		}
		told.push(line);
	}
	Ok(told.join("; "))
}
