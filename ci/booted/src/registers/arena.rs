// SPDX-License-Identifier: GPL-2.0-only
//! A guest that does rounds: it fills every register, leaves the guest in one of many ways and
//! compares. The guest does the comparing (see `rounds.rs` of the payload). Here are its
//! device, and memory whose translations go away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hcall::Number;
use protocol::round::{self, RoundKind, RoundPlan, RoundReport};
use protocol::{Command, GuestMode, Job, Outcome, map, private};
use vmm::abi::Mmio;
use vmm::kvm::{EventFd, Memory, Slot};
use vmm::machine::{Config, Failure, Machine, Stop};

/// Longer than any test's guest takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(600);

/// The slot of the memory whose translations go away.
const TOUCH_SLOT: u32 = 8;

const ENABLE: [Number; 8] = [
	Number::NULL,
	Number::PAGE_INIT,
	Number::RANDOM,
	Number::LOGICAL_CI_STORE,
	Number::GET_TCE,
	Number::PUT_TCE,
	Number::PUT_TCE_INDIRECT,
	Number::STUFF_TCE,
];

/// Every kind that a guest can have.
pub fn kinds(guest: GuestMode) -> u64 {
	const OWN_FAULTS: [RoundKind; 3] = [
		RoundKind::Missing,
		RoundKind::MissingFetch,
		RoundKind::ReadOnly,
	];
	let all = RoundKind::ALL.iter().fold(0, |all, kind| all | kind.bit());
	let without = |kinds: &[RoundKind]| kinds.iter().fold(all, |all, kind| all & !kind.bit());
	match guest {
		GuestMode::Hash => all,
		// Only a hash guest's own faults leave the guest.
		GuestMode::Radix => without(&OWN_FAULTS),
		// Problem state needs translation.
		GuestMode::Real => without(&OWN_FAULTS) & !RoundKind::Problem.bit(),
		// A hash guest in real mode reaches its first slot of memory and nothing else.
		GuestMode::HashReal => without(&[
			RoundKind::ReadOnly,
			RoundKind::Problem,
			RoundKind::MmioLoad,
			RoundKind::MmioStore,
			RoundKind::TouchLoad,
			RoundKind::TouchStore,
			RoundKind::TouchFetch,
			RoundKind::EventStore,
		]),
		GuestMode::Host => 0,
	}
}

/// What takes the translations of memory away. What is in the memory stays.
pub type Forget = Arc<dyn Fn(&Memory) -> Result<(), Failure> + Send + Sync>;

/// A guest that does rounds, and what is around it.
// The order of the fields is the order in which they are dropped.
pub struct Arena {
	touch: Slot,
	forget: Forget,
	/// The guest.
	pub machine: Machine,
	device: [u8; map::DEVICE_SIZE as usize],
	/// For [`RoundKind::EventCall`] and [`RoundKind::EventStore`].
	events: [EventFd; 2],
	is_hash: bool,
}

impl Arena {
	/// Builds one.
	pub fn new(guest: GuestMode) -> Result<Self, Failure> {
		let memory = Memory::new(map::TOUCH_SIZE as usize)?;
		let forget = |memory: &Memory| memory.forget_translations().map_err(Failure::from);
		Self::of_memory(guest, memory, Arc::new(forget))
	}

	/// Builds one that touches this memory.
	pub fn of_memory(guest: GuestMode, memory: Memory, forget: Forget) -> Result<Self, Failure> {
		let machine = Machine::new(Config {
			guest,
			enable: &ENABLE,
			window: true,
		})?;
		let touch = machine.vm().add_memory(TOUCH_SLOT, map::TOUCH, memory)?;
		let events = [EventFd::new()?, EventFd::new()?];
		machine.vm().add_event(&events[0], map::MMIO_EVENT, 4)?;
		machine.vm().add_event(&events[1], map::MMIO_EVENT_ANY, 0)?;
		Ok(Self {
			touch,
			forget,
			machine,
			device: [0; map::DEVICE_SIZE as usize],
			events,
			is_hash: guest.is_hash(),
		})
	}

	/// Complains if the eventfds were not signalled once for each round that is to signal one.
	/// For the rounds since the last time.
	pub fn check_events(&self, report: &RoundReport) -> Result<(), Failure> {
		for (event, kind) in self
			.events
			.iter()
			.zip([RoundKind::EventCall, RoundKind::EventStore])
		{
			let (signals, rounds) = (event.take()?, report.kinds[kind as usize]);
			if signals != rounds {
				return Err(Failure::Wrong(format!(
					"{signals} signals in {rounds} rounds by {}",
					kind.name()
				)));
			}
		}
		Ok(())
	}

	/// Gives the guest its rounds to do. A hash guest fills the SLB, too.
	pub fn start(&mut self, command: Command, plan: RoundPlan) {
		let plan = RoundPlan {
			slb: self.is_hash.into(),
			..plan
		};
		self.device.fill(0);
		self.machine.memory().write(map::ROUND_PLAN, plan);
		self.machine.start(command);
	}

	/// What the guest found.
	pub fn report(&self) -> RoundReport {
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
	pub fn serve(&mut self, step: Stop) -> Result<Option<Outcome>, Failure> {
		match step {
			Stop::Done(outcome) => return Ok(Some(*outcome)),
			Stop::Mmio(mmio) => self.access(&mmio)?,
			Stop::Call((private::UNTOUCH, _)) => (self.forget)(&self.touch.memory)?,
			Stop::Call((private::UNKNOWN, _)) | Stop::Interrupted => {}
			Stop::Call((number, _)) => {
				return Err(Failure::Wrong(format!(
					"hcall {:#x} reached userspace",
					number.0
				)));
			}
		}
		Ok(None)
	}

	/// Runs the guest to the end of its rounds; `call` sees each hcall for userspace.
	pub fn finish(
		&mut self,
		mut call: impl FnMut(&mut Machine) -> Result<(), Failure>,
	) -> Result<Outcome, Failure> {
		let end = Instant::now() + LIMIT;
		loop {
			let step = self.machine.step()?;
			if matches!(step, Stop::Call((private::UNKNOWN, _))) {
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
pub fn check(outcome: &Outcome, report: &RoundReport) -> Result<(), Failure> {
	if outcome.mismatches == 0 {
		return Ok(());
	}
	let listed = (outcome.mismatches as usize).min(4);
	let first: Vec<String> = (0..listed)
		.map(|index| {
			let mismatch = report.mismatches[index];
			let kind = RoundKind::ALL.get(report.mismatch_kinds[index] as usize);
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
