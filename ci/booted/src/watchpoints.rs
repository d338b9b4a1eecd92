// SPDX-License-Identifier: GPL-2.0-only
//! The host watches addresses on the CPUs of a guest that checks its registers.
//!
//! Host and guest have one data address watchpoint register (DAWR) between them. A thread on each CPU
//! watches an address of its own, or one that the guest stores to in its address space, and counts what
//! is found. Each store of the host has to be found once, and no store of the guest. The guest watches an
//! address to which only the host stores. If such a store were found, the signal would end the program.

use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cases::case;
use protocol::{Column, GuestMode, Outcome, map};
use vmm::abi::{KVM_REG_PPC_DAWR, KVM_REG_PPC_DAWRX};
use vmm::machine::{Failure, Stop};
use vmm::timer::Timer;

use crate::common::{Verdict, choose, counter, counters, wrong};
use crate::cpus;
use crate::perf::{PerfStores, Who};
use crate::registers::arena::Arena;
use crate::registers::hcall::c_path_cfar;
use crate::soak::check_registers_of;
use crate::storms;

/// Linux enables watchpoints on a POWER9 only when it is told to.
const ENABLE: &str = "/sys/kernel/debug/powerpc/dawr_enable_dangerous";
/// Stores that are found of each watch.
const STORES: u64 = 8;
/// Fewer than this would say little.
const ENOUGH: u64 = 30;
/// Where rounds of registers store to, in each page of that memory.
const STORED: u64 = map::TOUCH + 24;

/// What the guest watches, where it has no memory.
static NOT_GUEST: AtomicU64 = AtomicU64::new(0);
/// DAWRX: stores in problem state and by the kernel.
const GUEST_STORES: u128 = 0x43;

/// A page of this process at an effective address that the guest uses, too.
struct SamePage;

impl SamePage {
	fn new() -> Result<Self, Failure> {
		// SAFETY: a new mapping, which replaces nothing.
		let page = unsafe {
			libc::mmap(
				map::TOUCH as *mut libc::c_void,
				map::TOUCH_PAGE as usize,
				libc::PROT_READ | libc::PROT_WRITE,
				libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
				-1,
				0,
			)
		};
		if page as u64 != map::TOUCH {
			return Err(std::io::Error::last_os_error().into());
		}
		Ok(Self)
	}

	/// The word that is stored to.
	fn word(&self) -> &AtomicU64 {
		// SAFETY: inside the mapping, which is as long as `self`, and aligned.
		unsafe { &*(STORED as *const AtomicU64) }
	}
}

impl Drop for SamePage {
	fn drop(&mut self) {
		// SAFETY: our mapping; references into it have ended with `self`.
		unsafe { libc::munmap(map::TOUCH as *mut libc::c_void, map::TOUCH_PAGE as usize) };
	}
}

/// Disables watchpoints and enables them again. Guests go on meanwhile.
fn enable_anew() -> Result<(), Failure> {
	for enabled in [false, true] {
		set_enabled(enabled)?;
		std::thread::sleep(Duration::from_millis(1));
	}
	Ok(())
}

fn set_enabled(enabled: bool) -> Result<(), Failure> {
	let text = if enabled { "Y" } else { "N" };
	fs::write(ENABLE, text).map_err(|e| Failure::Wrong(format!("{text} to {ENABLE}: {e}")))
}

/// A thread that goes on at once would have the lock again before the other one wakes up.
const OTHERS_TURN: Duration = Duration::from_micros(200);

/// Watches one after the other: stores of this thread to a word of its own, stores of all tasks of this
/// CPU to the word of `page`, and stores of all tasks of the other CPU to a word that only guests have.
/// Returns how many watches there were. One thread at a time watches.
fn watch(cpu: usize, page: &SamePage, one: &Mutex<()>, stop: &AtomicBool) -> Result<u64, Failure> {
	let _here = cpus::OneCpu::new(cpu)?;
	let own = AtomicU64::new(0);
	let mut watches = 0;
	while !stop.load(Ordering::Relaxed) {
		for what in [(Who::ThisThread, cpu, &own), (Who::All, cpu, page.word())] {
			let alone = one.lock().expect("nobody panics");
			let (who, cpu, word) = what;
			let perf = PerfStores::new(who, cpu as i32, word.as_ptr())?;
			for store in 0..STORES {
				word.store(store, Ordering::Relaxed);
				NOT_GUEST.store(store, Ordering::Relaxed);
				// The guest runs on this CPU meanwhile, or another task.
				std::thread::sleep(Duration::from_micros(300 + 200 * (watches % 5)));
			}
			check(perf.count()?, STORES, what)?;
			watches += 1;
			drop((perf, alone));
			std::thread::sleep(OTHERS_TURN);
		}
		let alone = one.lock().expect("nobody panics");
		enable_anew()?;
		let other = 1 - cpu;
		// By an interrupt of the other CPU, which may be in a light exit that began before.
		let perf = PerfStores::new(Who::All, other as i32, map::GOT as *mut u64)?;
		std::thread::sleep(Duration::from_millis(3));
		check(perf.count()?, 0, (Who::All, other, &own))?;
		watches += 1;
		drop((perf, alone));
		std::thread::sleep(OTHERS_TURN);
	}
	Ok(watches)
}

fn check(found: u64, made: u64, what: (Who, usize, &AtomicU64)) -> Result<(), Failure> {
	if found == made {
		return Ok(());
	}
	let (who, cpu, _) = what;
	wrong(format!(
		"{found} of {made} stores found on CPU {cpu}, of {who:?}"
	))
}

/// A guest makes one hcall over and over on the other CPU, and stores to a word each time, while the
/// word is watched there. Watchpoints are enabled after the guest was entered, and the guest need not
/// leave for that. Returns how often.
fn enable_beside_storm() -> Result<u64, Failure> {
	const TIMES: u64 = 10;
	const STORM: usize = 1;
	/// A guest that is interrupted so often is entered anew with watchpoints disabled.
	const INTERVAL: Duration = Duration::from_millis(10);
	let word = map::OUTCOME + core::mem::offset_of!(Outcome, rounds) as u64;
	let over = AtomicBool::new(false);
	std::thread::scope(|scope| {
		let storm = scope.spawn(|| {
			let _here = cpus::OneCpu::new(STORM)?;
			let mut machine = storms::start(GuestMode::Radix, case!("null"))?;
			let _timer = Timer::every(INTERVAL, INTERVAL)?;
			while !over.load(Ordering::Relaxed) {
				if !matches!(machine.step()?, Stop::Interrupted) {
					return wrong("a storm ended that the host watched".into());
				}
			}
			Ok(machine.outcome().rounds)
		});
		let result = (|| {
			let _here = cpus::OneCpu::new(1 - STORM)?;
			for _ in 0..TIMES {
				set_enabled(false)?;
				std::thread::sleep(2 * INTERVAL);
				set_enabled(true)?;
				let perf = PerfStores::new(Who::All, STORM as i32, word as *mut u64)?;
				std::thread::sleep(INTERVAL / 2);
				let found = perf.count()?;
				if found != 0 {
					return wrong(format!("{found} stores found of a guest"));
				}
			}
			Ok(())
		})();
		over.store(true, Ordering::Relaxed);
		let rounds = storm.join().expect("it doesn't panic")?;
		result?;
		if rounds < ENOUGH {
			return wrong(format!("{rounds} hcalls in a storm"));
		}
		Ok(TIMES)
	})
}

/// Runs a guest that checks its registers, now on one CPU and now on the other, both of which watch addresses.
pub fn registers(path: Column, seed: u64, time: Duration) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	set_enabled(true)?;
	let before = counters()?;
	let (page, one) = (SamePage::new()?, Mutex::new(()));
	let on = |cpu| {
		let (page, one) = (&page, &one);
		move |stop: &AtomicBool| watch(cpu, page, one, stop)
	};
	let make = |guest| {
		let mut arena = Arena::new(guest)?;
		let address = NOT_GUEST.as_ptr().expose_provenance() as u64;
		assert!(
			address > map::MMIO_EVENT,
			"the guest has no memory at {address:#x}"
		);
		let vcpu = arena.machine.vcpu();
		vcpu.set_one_reg(KVM_REG_PPC_DAWR, address.into())?;
		vcpu.set_one_reg(KVM_REG_PPC_DAWRX, GUEST_STORES)?;
		Ok(arena)
	};
	let result = check_registers_of(&make, seed, time, cfar, &[&on(0), &on(1)]);
	let both = result.and_then(|done| Ok((done, enable_beside_storm()?)));
	set_enabled(false)?;
	let ((rounds, watches), storms) = both?;
	let mut line = format!(
		"{rounds} rounds of registers, {watches:?} watches on the CPUs, {storms} beside a storm"
	);
	if rounds == 0 || watches.iter().any(|&watches| watches < ENOUGH) {
		return wrong(line);
	}
	if path == Column::RustFast {
		let after = counters()?;
		let grown = |name| counter(&after, name) - counter(&before, name);
		let (timer, flushed) = (grown("light_host_timer"), grown("light_flushed"));
		line += &format!(", {timer} light exits for the timer, {flushed} flushed");
		if timer < ENOUGH {
			return wrong(line);
		}
	}
	Ok(line)
}
