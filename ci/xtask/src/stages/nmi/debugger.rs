// SPDX-License-Identifier: GPL-2.0-only
//! Interrupts the machine where a test wants it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use booted::nmi::Interrupts;
use harness::gdb::{Gdb, register};
use hcall::Number;

use super::places::{Kernel, Place, State, msr, real};

/// How long the test may take to get to an hcall.
const BEGIN: Duration = Duration::from_secs(600);
/// How long it may take to get to an instruction of which it was seen that it gets there.
const AGAIN: Duration = Duration::from_secs(60);
/// Instructions of an hcall that is watched.
const LONGEST: usize = 20_000;

/// `li r3, 1; blr`
const HANDLED: [u32; 2] = [0x3860_0001, 0x4e80_0020];

/// `mtspr HSRR1, r4`, after which the trampoline has kept what it has to.
const KEPT: u32 = 0x7c9b_4ba6;

/// What came of one test.
#[derive(Default)]
pub struct Done {
	/// How many interrupts there were.
	pub interrupts: u64,
	/// Where.
	pub places: BTreeMap<Place, u64>,
}

/// The debugger of a machine, which runs the tests in their order.
pub struct Debugger<'a> {
	gdb: Gdb,
	kernel: &'a Kernel,
	/// Tests that have ended.
	ended: &'a AtomicUsize,
	/// Where the trampoline has kept what it has to.
	kept: u64,
	/// The number of the register that has the address of the PACA.
	hsprg0: usize,
}

impl<'a> Debugger<'a> {
	/// Of the machine that has just been connected, and is stopped.
	pub fn new(gdb: Gdb, kernel: &'a Kernel, ended: &'a AtomicUsize) -> Self {
		Self {
			gdb,
			kernel,
			ended,
			kept: 0,
			hsprg0: 0,
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
		for (index, test) in tests.iter().enumerate() {
			let Some(kind) = Interrupts::of(test) else {
				bail!("{test} is not for this machine");
			};
			done.push(self.everywhere(kind, number_of(test)?)?);
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
		let kept = code
			.chunks_exact(4)
			.position(|word| word == KEPT.to_le_bytes());
		match kept {
			Some(index) => self.kept = start + 4 * (index as u64 + 1),
			None => bail!("the trampoline does not write HSRR1"),
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

	/// The instructions of an hcall from the vector to where the trampoline has kept what it has to.
	fn arrival(&mut self, number: Number) -> Result<Vec<u64>> {
		self.at_next_hcall(self.kernel.vectors(), Some(number))?;
		let mut list = Vec::new();
		for _ in 0..LONGEST {
			let pc = self.gdb.register(register::PC)?;
			if pc == self.kept || pc == real(self.kept) {
				return Ok(list);
			}
			list.push(pc);
			self.gdb.step()?;
		}
		bail!("the trampoline is not reached")
	}

	/// The instructions of a fast hcall, from where the trampoline has kept what it has to.
	fn instructions(&mut self, number: Number) -> Result<Vec<u64>> {
		'another: for _ in 0..50 {
			let (start, _) = self.kernel.hcall;
			self.at_next_hcall([start, real(start)], Some(number))?;
			let (mut seen, mut list) = (BTreeSet::new(), Vec::new());
			for _ in 0..LONGEST {
				self.gdb.step()?;
				let pc = self.gdb.register(register::PC)?;
				if pc == self.kernel.exit || pc == real(self.kernel.exit) {
					continue 'another;
				}
				if self.gdb.register(register::MSR)? & msr::HV == 0 {
					if list.is_empty() {
						continue 'another;
					}
					return Ok(list);
				}
				let is_kept = !list.is_empty() || pc == real(self.kept) || pc == self.kept;
				if is_kept && seen.insert(pc) {
					list.push(pc);
				}
			}
			bail!("an hcall does not end");
		}
		bail!("no hcall is answered on the fast path")
	}

	fn everywhere(&mut self, kind: Interrupts, number: Number) -> Result<Done> {
		let mut done = Done::default();
		let list = match kind {
			Interrupts::ResetOfArrival => self.arrival(number)?,
			_ => self.instructions(number)?,
		};
		for pc in list {
			self.gdb.stop_at(pc)?;
			// A lost guest makes an hcall, too, and the host system calls.
			let arrival = kind == Interrupts::ResetOfArrival;
			let came = self.until(arrival.then_some(number), AGAIN);
			self.gdb.do_not_stop_at(pc)?;
			came.with_context(|| format!("at {pc:#x}"))?;
			let place = self.place()?;
			self.gdb.monitor("nmi")?;
			done.interrupts += 1;
			*done.places.entry(place).or_default() += 1;
		}
		Ok(done)
	}

	fn place(&mut self) -> Result<Place> {
		let pc = self.gdb.register(register::PC)?;
		let msr = self.gdb.register(register::MSR)?;
		let r1 = self.gdb.register(register::GPR0 + 1)?;
		let (mut host_r1, mut mode) = (0, 0);
		// A process of the host cannot use the kernel's addresses.
		if msr & msr::HV != 0 && msr & msr::PR == 0 {
			let paca = self.gdb.register(self.hsprg0)?;
			let bytes = self.gdb.read(self.kernel.host_r1(paca), 8)?;
			host_r1 = bytes.try_into().map_or(0, u64::from_le_bytes);
			mode = self.gdb.read(self.kernel.in_guest(paca), 1)?[0];
		}
		let state = State {
			pc,
			msr,
			r1,
			host_r1,
			mode,
		};
		Ok(self.kernel.place(&state, self.kept))
	}
}

/// The number of the hcall of a test, which its name ends with.
fn number_of(test: &str) -> Result<Number> {
	let numbers = [
		("-null", Number::NULL),
		("-h_prod", Number::PROD),
		("-h_put_tce_indirect", Number::PUT_TCE_INDIRECT),
	];
	match numbers.iter().find(|(end, _)| test.ends_with(end)) {
		Some((_, number)) => Ok(*number),
		None => bail!("{test} has no known hcall"),
	}
}
