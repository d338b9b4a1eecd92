// SPDX-License-Identifier: GPL-2.0-only
//! One measurement: the VM that the case's row asks for, and the batches.

use std::time::Duration;

use cases::{Case, Evidence, Setup};
use protocol::{Column, Outcome, map};
use vmm::command::{once, timing};
use vmm::kvm::{Controller, EventFd, TceWindow};
use vmm::machine::{self, Failure, Machine};
use vmm::timer::{Delivery, Volley};
use vmm::{abi, host};

use crate::bench::Figures;
use crate::evidence::{Before, check_access, check_fresh, check_served};

/// Longer than any measurement takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(120);
/// Iterations before a measurement. They bring guest memory and facilities in.
const WARM_UP: u64 = 16;
/// A breakpoint address that is not in force: bits 62 and 63 say in which state it is.
const CIABR: u64 = 0x1_0000;
/// Bytes of all fresh pages.
pub const FRESH_SIZE: usize = (map::FRESH_PAGE * map::FRESH_PAGES) as usize;
/// From when the timers of a batch are set and the guest spins to the first timer.
const VOLLEY_DELAY: Duration = Duration::from_micros(60);
/// The time that setting a timer takes.
const SETTING: Duration = Duration::from_micros(8);

/// From one timer to the next, where an iteration of the guest spins so long: all go off while it
/// still does.
const fn volley_interval(spins: u64) -> Duration {
	Duration::from_nanos(spins / 2)
}

pub fn wrong<T>(why: String) -> Result<T, Failure> {
	Err(Failure::Wrong(why))
}

/// What reached userspace in the course of a measurement.
#[derive(Default)]
pub struct Seen {
	pub hcalls: u64,
	pub loads: u64,
	pub stores: u64,
	pub signals: u64,
}

/// A machine, and what else a case needs.
pub struct Scene {
	pub case: &'static Case,
	pub machine: Machine,
	/// The tables of [`Setup::Tables`].
	pub windows: Vec<TceWindow>,
	pub event: Option<EventFd>,
	volley: Option<Volley>,
	/// Timers that went off.
	pub timers: u64,
}

impl Scene {
	/// Gives the machine what the case's setup names.
	pub fn new(case: &'static Case, machine: Machine, iterations: u64) -> Result<Self, Failure> {
		let mut scene = Self {
			case,
			machine,
			windows: vec![],
			event: None,
			volley: None,
			timers: 0,
		};
		let vm = scene.machine.vm();
		match case.setup {
			Setup::Tables(tables) => {
				for index in 0..tables.count {
					scene.windows.push(vm.create_window(&abi::SpaprTce64 {
						liobn: map::LIOBN + index,
						page_shift: map::TCE_SHIFT,
						flags: 0,
						offset: 0,
						size: tables.entries,
					})?);
				}
			}
			Setup::Event { address, bytes } => {
				let event = EventFd::new()?;
				vm.add_event(&event, address, bytes)?;
				scene.event = Some(event);
			}
			Setup::Timers => scene.volley = Some(Volley::new(iterations, Delivery::Blocked)?),
			Setup::Signals => scene.volley = Some(Volley::new(iterations, Delivery::Handler)?),
			Setup::Xics => scene.machine.add_controller(Controller::Xics)?,
			Setup::RandomDevice if host::is_5_10() && !vm.has_random_device()? => {
				return Err(Failure::Unsupported(
					"Linux 5.10 answers from a device that this machine lacks".to_owned(),
				));
			}
			// The machine was made with the window or the second vcpu, and the fresh pages
			// come before each batch.
			Setup::Plain
			| Setup::Window
			| Setup::FreshPages
			| Setup::Peer
			| Setup::RandomDevice
			| Setup::NoGuest => {}
		}
		Ok(scene)
	}

	/// Leaves in the table what the case will change or find.
	fn fill_table(&mut self) -> Result<(), Failure> {
		let Some(hcall) = self.case.before else {
			return Ok(());
		};
		let outcome = self.machine.perform(once(hcall), LIMIT, |_| {})?;
		if outcome.mismatches > 0 {
			let code = outcome.wrong_code as i64;
			return wrong(format!("filling the table was answered with {code}"));
		}
		Ok(())
	}

	/// Does `batches` of `iterations`.
	fn perform(&mut self, iterations: u64, batches: u64) -> Result<(Outcome, Seen), Failure> {
		let (case, volley) = (self.case, self.volley.take());
		let mut seen = Seen::default();
		let mut timers = 0;
		let mut touched = false;
		let outcome = self.machine.perform_with(
			timing(case, iterations, batches),
			LIMIT,
			|machine, event| {
				match event {
					machine::Request::Call((number, _)) if number == case.number => {
						seen.hcalls += 1;
					}
					machine::Request::Call((number, _)) => {
						return wrong(format!("hcall {:#x} reached userspace", number.0));
					}
					machine::Request::Access(access) => {
						check_access(&access)?;
						match access.is_write {
							0 => seen.loads += 1,
							_ => seen.stores += 1,
						}
					}
					machine::Request::Signal => seen.signals += 1,
					machine::Request::Batch => {
						if let Some(volley) = &volley {
							timers += volley.gone_off();
							let delay = VOLLEY_DELAY + SETTING * iterations as u32;
							volley.set(iterations, delay, volley_interval(case.args[0]))?;
						} else {
							if std::mem::replace(&mut touched, true) {
								check_fresh(machine, iterations)?;
							}
							machine.memory().renew(map::FRESH, FRESH_SIZE)?;
							check_fresh(machine, 0)?;
						}
					}
				}
				Ok(())
			},
		)?;
		if let Some(volley) = &volley {
			timers += volley.gone_off();
		}
		if touched {
			check_fresh(&self.machine, iterations)?;
		}
		(self.volley, self.timers) = (volley, timers);
		if outcome.mismatches > 0 {
			return wrong(format!(
				"{} of {} round trips returned a wrong code, the first {} instead of {}",
				outcome.mismatches, outcome.rounds, outcome.wrong_code as i64, case.code.0
			));
		}
		Ok((outcome, seen))
	}

	/// Measures, and looks for evidence that the round trips were the case's.
	pub fn measure(
		&mut self,
		column: Column,
		iterations: u64,
		batches: u64,
	) -> Result<Figures, Failure> {
		self.fill_table()?;
		let (warm_up, _) = self.perform(iterations.min(WARM_UP), 1)?;
		if let Some(event) = &self.event {
			event.take()?;
		}
		if let Some(volley) = &self.volley {
			// A kernel that has just booted may still count in ticks of 10 ms.
			std::thread::sleep(Duration::from_millis(50));
			volley.gone_off();
		}
		let vcpu = self.machine.vcpu();
		vcpu.set_one_reg(abi::KVM_REG_PPC_CIABR, CIABR.into())?;
		let before = Before {
			served: host::served(self.case),
			reasons: host::reasons(),
			decrementer_exits: if self.case.leaves(Evidence::TimerExits) {
				host::decrementer_exits()?
			} else {
				0
			},
			last_r4: warm_up.last_r4,
		};
		let (outcome, seen) = self.perform(iterations, batches)?;
		let rounds = iterations * batches;
		if outcome.rounds != rounds {
			return wrong(format!("{} of {rounds} round trips done", outcome.rounds));
		}
		let fast = check_served(&before, self.case, column, rounds)?;
		self.check(&before, &outcome, &seen, iterations, rounds)?;
		Ok(Figures {
			empty_ticks: outcome.empty_ticks[..batches as usize].to_vec(),
			ticks: outcome.ticks[..batches as usize].to_vec(),
			fast,
			spans: Vec::new(),
		})
	}
}
