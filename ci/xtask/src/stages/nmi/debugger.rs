// SPDX-License-Identifier: GPL-2.0-only
//! Interrupts the machine where a test wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use booted::nmi::{Interrupts, Kind, Where};
use harness::gdb::{Gdb, register};
use harness::process::say;
use hcall::Number;
use protocol::private;

use super::places::{Kernel, Place, State, msr, real};

/// How long the test may take to get to an hcall.
const BEGIN: Duration = Duration::from_secs(600);
/// How long it may take to get to an instruction of which it was seen that it gets there.
const AGAIN: Duration = Duration::from_secs(60);
/// Instructions of an hcall that is watched.
const LONGEST: usize = 20_000;

/// `li r3, 1; blr`
const HANDLED: [u32; 2] = [0x3860_0001, 0x4e80_0020];

/// `mfspr r5, SRR0`, after which the trampoline has what it has to.
const READ: u32 = 0x7cba_02a6;

/// How long the machine runs between two interrupts at random times: at least, and how much longer.
const BETWEEN: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));
/// Instructions that are executed one by one then, so that not all interrupts come where QEMU looks
/// whether the machine has to stop.
const STEPS: u64 = 24;

/// MSR of a machine check: 64 bits, hypervisor, little-endian.
const MSR_OF_CHECK: u64 = 0x9000_0000_0000_0001;
/// What SRR1 says besides in a machine check of a multihit in the ERAT by an instruction fetch.
const ERAT_MULTIHIT: u64 = 0x0010_0000;
/// What SRR1 has of a system reset.
const OF_RESET: u64 = 0x003f_0000;

/// What came of one test.
#[derive(Default)]
pub struct Done {
	/// How many interrupts there were.
	pub interrupts: u64,
	/// Where.
	pub places: BTreeMap<Place, u64>,
	/// Where there was none, because the host would not have survived it.
	pub refused: BTreeMap<Place, u64>,
}

impl Done {
	/// How many were there.
	pub fn at(&self, place: Place) -> u64 {
		self.places.get(&place).copied().unwrap_or(0)
	}
}

/// The debugger of a machine, which runs the tests in their order.
pub struct Debugger<'a> {
	gdb: Gdb,
	kernel: &'a Kernel,
	/// Tests that have ended.
	ended: &'a AtomicUsize,
	/// Where the trampoline has what it has to.
	read: u64,
	/// Numbers of the registers SRR0 and SRR1.
	srr: (usize, usize),
	/// For random numbers.
	random: u64,
	/// The number of the register that has the address of the PACA.
	hsprg0: usize,
}

impl<'a> Debugger<'a> {
	/// Of the machine that has just been connected, and is stopped.
	pub fn new(gdb: Gdb, kernel: &'a Kernel, ended: &'a AtomicUsize, seed: u64) -> Self {
		Self {
			gdb,
			kernel,
			ended,
			read: 0,
			hsprg0: 0,
			srr: (0, 0),
			random: seed,
		}
	}

	/// Interrupts one test after the other. Ends the machine if that fails.
	pub fn run(mut self, tests: &[String]) -> Result<Vec<Done>> {
		let done = self.interrupt(tests);
		if done.is_err() {
			// The machine may have ended: then that is the error.
			let _ = self.gdb.kill();
		}
		done
	}

	/// The machine is stopped before and runs after it.
	fn interrupt(&mut self, tests: &[String]) -> Result<Vec<Done>> {
		let mut done = Vec::new();
		self.prepare()?;
		say(format_args!("the debugger is ready"));
		for (index, test) in tests.iter().enumerate() {
			let Some(interrupts) = Interrupts::of(test) else {
				bail!("{test} is not for this machine");
			};
			let one = match interrupts.at {
				Where::Random(count) => {
					self.at_random(interrupts.kind, count, number_of(test).ok())
				}
				_ => number_of(test).and_then(|number| self.everywhere(interrupts, number)),
			};
			done.push(one.with_context(|| test.clone())?);
			say(format_args!(
				"{test}: {} interrupts made",
				done[index].interrupts
			));
			self.gdb.go_on()?;
			let until = Instant::now() + BEGIN;
			while self.ended.load(Ordering::SeqCst) <= index {
				ensure!(Instant::now() < until, "{test} does not end");
				std::thread::sleep(Duration::from_millis(5));
			}
			if index + 1 < tests.len() {
				self.gdb.stop()?;
			}
		}
		Ok(done)
	}

	/// From init's first system call on, system resets are for the platform's handler only,
	/// which says that all is well. Without one they would take the host down.
	fn prepare(&mut self) -> Result<()> {
		self.at_next_hcall(self.kernel.system_calls(), None)?;
		self.hsprg0 = self.gdb.spr("hsprg0")?;
		self.srr = (self.gdb.spr("srr0")?, self.gdb.spr("srr1")?);
		while self.gdb.register(register::MSR)? & msr::PR == 0 {
			self.gdb.step()?;
		}
		// The kernel looks whether there is a handler.
		let (looks, base, offset) = self.kernel.looks;
		self.gdb.stop_at(looks)?;
		self.gdb.monitor("nmi")?;
		self.gdb.go_on()?;
		ensure!(self.gdb.stopped(AGAIN)?, "no system reset");
		self.gdb.do_not_stop_at(looks)?;
		let pointer = self
			.gdb
			.register(register::GPR0 + base)?
			.wrapping_add(offset);
		self.gdb.write(pointer, &self.kernel.reset.to_le_bytes())?;
		let code: Vec<u8> = HANDLED.into_iter().flat_map(u32::to_le_bytes).collect();
		self.gdb.write(self.kernel.reset, &code)?;
		let (start, end) = self.kernel.hcall;
		let code = self.gdb.read(start, (end - start) as usize)?;
		let read = code
			.chunks_exact(4)
			.position(|word| word == READ.to_le_bytes());
		match read {
			Some(index) => self.read = start + 4 * (index as u64 + 1),
			None => bail!("the trampoline does not read SRR0"),
		}
		Ok(())
	}

	/// Stops where a guest's next hcall of this number arrives.
	fn at_next_hcall(&mut self, places: [u64; 2], number: Option<Number>) -> Result<()> {
		for place in places {
			self.gdb.stop_at(place)?;
		}
		self.until(number, BEGIN)?;
		for place in places {
			self.gdb.do_not_stop_at(place)?;
		}
		Ok(())
	}

	/// Lets the machine run until it stops where it was told to, with this number in r3.
	fn until(&mut self, number: Option<Number>, limit: Duration) -> Result<()> {
		let until = Instant::now() + limit;
		loop {
			self.gdb.go_on()?;
			if !self
				.gdb
				.stopped(until.saturating_duration_since(Instant::now()))?
			{
				self.gdb.stop()?;
				bail!("no hcall");
			}
			let r3 = self.gdb.register(register::GPR0 + 3)?;
			if number.is_none_or(|number| number.0 == r3) {
				return Ok(());
			}
			// The stub does not execute an instruction where it stops.
			self.gdb.step()?;
		}
	}

	/// The instructions of an hcall from the vector to where the trampoline has what it has to.
	fn arrival(&mut self, number: Number) -> Result<Vec<u64>> {
		'another: for _ in 0..50 {
			self.at_next_hcall(self.kernel.vectors(), Some(number))?;
			let mut list = Vec::new();
			for _ in 0..LONGEST {
				let pc = self.gdb.register(register::PC)?;
				if pc == self.read || pc == real(self.read) {
					return Ok(list);
				}
				// No handler: a guest has none before KVM knows that it does not use the PMU.
				if pc == self.kernel.exit.0 || pc == real(self.kernel.exit.0) {
					continue 'another;
				}
				list.push(pc);
				self.gdb.step()?;
			}
			break;
		}
		bail!("the trampoline is not reached")
	}

	/// The instructions of a fast hcall, from where the trampoline has what it has to.
	fn instructions(&mut self, number: Number) -> Result<Vec<u64>> {
		// A hash guest first enters the pages of its memory, which the host may not have.
		'another: for _ in 0..5000 {
			let (start, _) = self.kernel.hcall;
			self.at_next_hcall([start, real(start)], Some(number))?;
			let (mut seen, mut list) = (BTreeSet::new(), Vec::new());
			for _ in 0..LONGEST {
				self.gdb.step()?;
				let pc = self.gdb.register(register::PC)?;
				if pc == self.kernel.exit.0 || pc == real(self.kernel.exit.0) {
					continue 'another;
				}
				if self.gdb.register(register::MSR)? & msr::HV == 0 {
					if list.is_empty() {
						continue 'another;
					}
					return Ok(list);
				}
				let has = !list.is_empty() || pc == real(self.read) || pc == self.read;
				if has && seen.insert(pc) {
					list.push(pc);
				}
			}
			bail!("an hcall does not end");
		}
		bail!("no hcall is answered on the fast path")
	}

	/// The instructions of an entry, from where the mode byte is set.
	fn entry(&mut self, number: Number) -> Result<Vec<u64>> {
		/// More than an entry has.
		const LONG: usize = 2000;
		// Beyond what the guest does at first.
		self.at_next_hcall(self.kernel.vectors(), Some(number))?;
		// An entry that takes long returns before the mode byte is set: it is watched in vain.
		for _ in 0..50 {
			let (mut seen, mut list) = (BTreeSet::new(), Vec::new());
			self.at_next_hcall([self.kernel.entry, local(self.kernel.entry)], None)?;
			for _ in 0..LONG {
				self.gdb.step()?;
				let msr = self.gdb.register(register::MSR)?;
				if msr & (msr::HV | msr::PR) != msr::HV || msr & msr::LE == 0 {
					break;
				}
				let place = self.place()?;
				let pc = self.gdb.register(register::PC)?;
				if place == Place::Entry && seen.insert(pc) {
					list.push(pc);
				}
			}
			if !list.is_empty() {
				return Ok(list);
			}
		}
		bail!("no entry is watched to its end")
	}

	/// The instructions of a light exit, and of its way back into the guest, while the mode byte has its
	/// guest value: from the end of the trampoline on.
	fn light(&mut self, number: Number) -> Result<Vec<u64>> {
		/// More than a light exit has, and less than a full one and what the host does after it.
		const LONG: usize = 2500;
		let exit = self.kernel.exit.0;
		for _ in 0..50 {
			self.at_next_hcall([exit, real(exit)], Some(number))?;
			let (mut seen, mut list) = (BTreeSet::new(), Vec::new());
			for _ in 0..LONG {
				self.gdb.step()?;
				let pc = self.gdb.register(register::PC)?;
				if pc == self.kernel.entry || pc == local(self.kernel.entry) {
					break;
				}
				match self.place()? {
					Place::Exit | Place::Entry if seen.insert(pc) => list.push(pc),
					Place::Guest => return Ok(list),
					_ => {}
				}
			}
		}
		bail!("no light exit")
	}

	/// The instructions of an exit, from the end of the trampoline to where the mode byte is reset.
	fn exit(&mut self, number: Number) -> Result<Vec<u64>> {
		let exit = self.kernel.exit.0;
		self.at_next_hcall([exit, real(exit)], Some(number))?;
		let (mut seen, mut list) = (BTreeSet::new(), Vec::new());
		for _ in 0..LONGEST {
			self.gdb.step()?;
			let place = self.place()?;
			match place {
				Place::Lost => {}
				Place::Exit | Place::Entry => {
					let pc = self.gdb.register(register::PC)?;
					if place == Place::Exit && seen.insert(pc) {
						list.push(pc);
					}
				}
				_ if list.is_empty() => bail!("the exit begins in {}", place.name()),
				_ => return Ok(list),
			}
		}
		bail!("an exit does not end")
	}

	/// The instructions that a test is about, in one hcall, entry or exit of its guest.
	fn watch(&mut self, at: Where, number: Number) -> Result<Vec<u64>> {
		match at {
			Where::Arrival => self.arrival(number),
			Where::Entry => self.entry(number),
			Where::Exit => self.exit(number),
			Where::Light => self.light(number),
			_ => self.instructions(number),
		}
	}

	/// The instructions that two of them have, one after the other. What only one has may come so rarely that
	/// the test ends before. Two that have less than half in common are of different kinds.
	fn common(&mut self, at: Where, number: Number) -> Result<Vec<u64>> {
		let mut list = self.watch(at, number)?;
		for _ in 0..10 {
			self.gdb.step()?;
			let again = self.watch(at, number)?;
			let known: BTreeSet<_> = again.iter().collect();
			let common: Vec<_> = list
				.iter()
				.copied()
				.filter(|pc| known.contains(pc))
				.collect();
			if common.len() * 2 > list.len() {
				return Ok(common);
			}
			list = again;
		}
		bail!("no two are alike")
	}

	/// An interrupt at each instruction of a list, which is made by watching.
	fn everywhere(&mut self, interrupts: Interrupts, number: Number) -> Result<Done> {
		let mut done = Done::default();
		let list = self.common(interrupts.at, number)?;
		// A lost guest makes an hcall, too, and the host system calls.
		let number = (interrupts.at == Where::Arrival).then_some(number);
		for pc in list {
			self.gdb.stop_at(pc)?;
			let until = Instant::now() + AGAIN;
			let place = loop {
				let came = self.until(number, until.saturating_duration_since(Instant::now()));
				if came.is_err() {
					self.gdb.do_not_stop_at(pc)?;
				}
				came.with_context(|| format!("at {pc:#x}"))?;
				let place = self.place()?;
				// Other ways lead through the functions of the entry, and of the exit.
				let wanted = match interrupts.at {
					Where::Entry => place == Place::Entry,
					Where::Exit => place == Place::Exit,
					Where::Light => matches!(place, Place::Exit | Place::Entry),
					_ => true,
				};
				if wanted {
					break place;
				}
				self.gdb.step()?;
			};
			self.gdb.do_not_stop_at(pc)?;
			self.interrupt_at(interrupts.kind, place)?;
			done.interrupts += 1;
			*done.places.entry(place).or_default() += 1;
		}
		Ok(done)
	}

	/// So many interrupts at random times, while a guest makes hcalls of this number. Where the host
	/// would not survive, there is none.
	fn at_random(&mut self, kind: Kind, count: u64, number: Option<Number>) -> Result<Done> {
		let mut done = Done::default();
		while done.interrupts < count {
			// After a guest that was lost the next one begins, which takes the host long.
			if number.is_some() {
				self.at_next_hcall(self.kernel.vectors(), number)?;
			}
			self.gdb.go_on()?;
			let (least, more) = BETWEEN;
			std::thread::sleep(least + more * self.below(1000) as u32 / 1000);
			self.gdb.stop()?;
			for _ in 0..self.below(STEPS) {
				self.gdb.step()?;
			}
			let place = self.place()?;
			if !place.is_survived() {
				*done.refused.entry(place).or_default() += 1;
				continue;
			}
			self.interrupt_at(kind, place)?;
			done.interrupts += 1;
			*done.places.entry(place).or_default() += 1;
			if kind == Kind::MachineCheck && place != Place::Guest {
				self.run_to(self.kernel.print)?;
			}
			if place == Place::Lost {
				// A guest that is lost again before it has said so would say so once.
				self.at_next_hcall(self.kernel.vectors(), Some(private::EXCEPTION))?;
				self.gdb.step()?;
				self.at_next_hcall(self.kernel.system_calls(), None)?;
			}
		}
		Ok(done)
	}

	/// A random number below this one (xorshift).
	fn below(&mut self, limit: u64) -> u64 {
		let mut random = self.random | 1;
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		self.random = random;
		(random >> 20) % limit
	}

	/// Interrupts the CPU, and waits until the kernel looks at the interrupt.
	fn interrupt_at(&mut self, kind: Kind, place: Place) -> Result<()> {
		let pc = self.gdb.register(register::PC)?;
		let msr = self.gdb.register(register::MSR)?;
		self.gdb.monitor("nmi")?;
		let looks = match kind {
			// A guest's own go to KVM, which has nothing to do but to call the kernel.
			Kind::SystemReset => self.kernel.reset,
			Kind::MachineCheck => {
				// The stub can't set MSR[HV]. So the CPU takes a system reset, and does the first
				// instruction of its vector, which a machine check would do, too.
				self.gdb.step()?;
				self.gdb.set_register(self.srr.0, pc)?;
				self.gdb
					.set_register(self.srr.1, msr & !OF_RESET | ERAT_MULTIHIT)?;
				self.gdb.set_register(register::MSR, MSR_OF_CHECK)?;
				self.gdb.set_register(register::PC, 0x200)?;
				match place {
					Place::Guest => self.kernel.of_guest,
					_ => self.kernel.correct,
				}
			}
		};
		self.run_to(looks)
			.with_context(|| format!("{kind:?} at {pc:#x} ({})", place.name()))
	}

	/// Lets the machine run to an instruction, with the MMU on or off.
	fn run_to(&mut self, address: u64) -> Result<()> {
		let local = local(address);
		let places = [address, local, real(address), real(local)];
		for place in places {
			self.gdb.stop_at(place)?;
		}
		self.gdb.go_on()?;
		let stopped = self.gdb.stopped(AGAIN)?;
		if !stopped {
			self.gdb.stop()?;
		}
		for place in places {
			self.gdb.do_not_stop_at(place)?;
		}
		let pc = self.gdb.register(register::PC)?;
		ensure!(stopped, "{address:#x} is not reached: stopped at {pc:#x}");
		Ok(())
	}

	fn place(&mut self) -> Result<Place> {
		let pc = self.gdb.register(register::PC)?;
		let msr = self.gdb.register(register::MSR)?;
		let r1 = self.gdb.register(register::GPR0 + 1)?;
		let (mut host_r1, mut mode, mut in_nmi) = (0, 0, 0);
		// A process of the host cannot use the kernel's addresses.
		if msr & msr::LE != 0 && msr & msr::HV != 0 && msr & msr::PR == 0 {
			let paca = self.gdb.register(self.hsprg0)?;
			let bytes = self.gdb.read(self.kernel.host_r1(paca), 8)?;
			host_r1 = bytes.try_into().map_or(0, u64::from_le_bytes);
			mode = self.gdb.read(self.kernel.in_guest(paca), 1)?[0];
			in_nmi = self.gdb.read(self.kernel.in_nmi(paca), 1)?[0];
		}
		let state = State {
			pc,
			msr,
			r1,
			host_r1,
			mode,
			in_nmi,
		};
		Ok(self.kernel.place(&state, self.read))
	}
}

/// Where a function begins for callers of the kernel: after the two instructions that load its TOC
/// (ELFv2 ABI, 2.3.2.1). One without them passes there, too.
const fn local(function: u64) -> u64 {
	function + 8
}

/// The number of the hcall of a test, which its name ends with.
fn number_of(test: &str) -> Result<Number> {
	let numbers = [
		("-null", Number::NULL),
		("-h_prod", Number::PROD),
		("-h_put_tce_indirect", Number::PUT_TCE_INDIRECT),
		("-h_enter", Number::ENTER),
	];
	match numbers.iter().find(|(end, _)| test.ends_with(end)) {
		Some((_, number)) => Ok(*number),
		None => bail!("{test} has no known hcall"),
	}
}
