// SPDX-License-Identifier: GPL-2.0-only
//! The measurements.
//!
//! A figure is worth nothing if the guest did something else than the case's name says.
//! So there are three kinds of evidence for each: the guest compares r3 after every round
//! trip; the kernel's counters tell who served it ([`protocol::case::Served`]); and for what
//! a round trip leaves behind (a table's entries, an eventfd's count, a page, an interrupt
//! taken) see [`Scene::check`].

use std::arch::asm;
use std::time::Duration;

use hcall::Number;
use protocol::case::{Access, SPIN, Served, Tables, Verdict};
use protocol::{Case, Guest, Outcome, Path, map};

use vmm::command::timing as command;
use vmm::console::{Line, say};
use vmm::kvm::{Event, Window};
use vmm::machine::{self, Config, Failure, Machine};
use vmm::timer::Volley;
use vmm::{abi, host};

use crate::marker;

/// Longer than any measurement takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(120);
/// Iterations before a measurement: they bring guest memory and facilities in.
const WARM_UP: u64 = 16;
/// A breakpoint address that isn't in force: bits 62 and 63 say in which state it is.
const CIABR: u64 = 0x1_0000;
/// All of the fresh pages.
const FRESH_SIZE: usize = (map::FRESH_PAGE * map::FRESH_PAGES) as usize;
/// From when the timers of a batch are set and the guest spins to the first.
const VOLLEY_DELAY: Duration = Duration::from_micros(60);
/// What setting a timer takes.
const SETTING: Duration = Duration::from_micros(8);
/// From one of them to the next: all go off while the guest still spins.
const VOLLEY_INTERVAL: Duration = Duration::from_nanos(SPIN / 2);

fn wrong<T>(why: String) -> Result<T, Failure> {
	Err(Failure::Wrong(why))
}

/// What was measured.
struct Figures {
	empty_ticks: Vec<u64>,
	ticks: Vec<u64>,
	/// Round trips that fast handlers served, where that is counted.
	fast: Option<u64>,
}

/// What came to us in the course of a measurement.
#[derive(Default)]
struct Seen {
	calls: u64,
	loads: u64,
	stores: u64,
}

/// A machine, and what else a case needs.
struct Scene {
	case: Case,
	machine: Machine,
	/// The tables of a [`Case::Scale`].
	windows: Vec<Window>,
	event: Option<Event>,
	volley: Option<Volley>,
	/// Timers that went off.
	timers: u64,
}

impl Scene {
	fn new(case: Case, machine: Machine, iterations: u64) -> Result<Self, Failure> {
		let mut scene = Self {
			case,
			machine,
			windows: vec![],
			event: None,
			volley: None,
			timers: 0,
		};
		let vm = scene.machine.vm();
		match case {
			Case::Scale(_, tables) => {
				for index in 0..tables.count() {
					scene.windows.push(vm.create_window(&abi::SpaprTce64 {
						liobn: map::LIOBN + index,
						page_shift: map::TCE_SHIFT,
						flags: 0,
						offset: 0,
						size: tables.entries(),
					})?);
				}
			}
			Case::HLogicalCiStore | Case::MmioEvent => {
				let event = Event::new()?;
				vm.add_event(&event, map::MMIO_EVENT, 4)?;
				scene.event = Some(event);
			}
			Case::MmioEventAny => {
				let event = Event::new()?;
				vm.add_event(&event, map::MMIO_EVENT_ANY, 0)?;
				scene.event = Some(event);
			}
			Case::Decrementer => scene.volley = Some(Volley::new(iterations)?),
			// There it would read the device, which isn't there, and take the host down.
			Case::HRandom if host::is_5_10() && !vm.has_random_device()? => {
				return Err(Failure::Unsupported(
					"Linux 5.10 answers from a device that this machine lacks".to_owned(),
				));
			}
			_ => {}
		}
		Ok(scene)
	}

	/// Hcalls that this takes.
	fn enables(case: Case) -> Vec<Number> {
		let mut numbers = vec![];
		if case.needs_enabling() {
			numbers.push(case.number());
		}
		if case == Case::HStuffTce512 {
			// To have something to clear.
			numbers.push(Number::PUT_TCE_INDIRECT);
		}
		numbers
	}

	/// Leaves in the table what the case will change, or find.
	fn fill_table(&mut self) -> Result<(), Failure> {
		let mut put = match self.case {
			Case::HStuffTce512 => command(Case::HPutTceIndirect512, 1, 1),
			Case::Scale(_, tables) => command(Case::Scale(Access::Put, tables), 1, 1),
			_ if self.case.needs_window() => command(Case::HPutTce, 1, 1),
			_ => return Ok(()),
		};
		let finds = matches!(self.case, Case::HGetTce | Case::Scale(Access::Get, _));
		if put.number == Number::PUT_TCE.0 && !finds {
			put.args[2] = Case::tce(511);
		}
		let outcome = self.machine.perform(put, LIMIT, |_| {})?;
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
			command(case, iterations, batches),
			LIMIT,
			|machine, event| {
				match event {
					machine::Event::Call((number, _)) if number == case.number() => seen.calls += 1,
					machine::Event::Call((number, _)) => {
						return wrong(format!("hcall {:#x} reached userspace", number.0));
					}
					machine::Event::Access(access) => {
						check_access(&access)?;
						match access.is_write {
							0 => seen.loads += 1,
							_ => seen.stores += 1,
						}
					}
					machine::Event::Batch => {
						if let Some(volley) = &volley {
							timers += volley.gone_off();
							let delay = VOLLEY_DELAY + SETTING * iterations as u32;
							volley.set(iterations, delay, VOLLEY_INTERVAL)?;
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
				outcome.mismatches,
				outcome.rounds,
				outcome.wrong_code as i64,
				case.code().0
			));
		}
		Ok((outcome, seen))
	}

	/// Measures, and looks for evidence that it was the right thing.
	fn measure(&mut self, path: Path, iterations: u64, batches: u64) -> Result<Figures, Failure> {
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
			decrementer_exits: match self.case {
				Case::Decrementer => host::decrementer_exits()?,
				_ => 0,
			},
			last_r4: warm_up.last_r4,
		};
		let (outcome, seen) = self.perform(iterations, batches)?;
		let rounds = iterations * batches;
		if outcome.rounds != rounds {
			return wrong(format!("{} of {rounds} round trips done", outcome.rounds));
		}
		let fast = before.judge(self.case, path, rounds)?;
		self.check(&before, &outcome, &seen, iterations, rounds)?;
		Ok(Figures {
			empty_ticks: outcome.empty_ticks[..batches as usize].to_vec(),
			ticks: outcome.ticks[..batches as usize].to_vec(),
			fast,
		})
	}

	/// Is what the round trips should have left behind there, and no more?
	fn check(
		&mut self,
		before: &Before,
		outcome: &Outcome,
		seen: &Seen,
		iterations: u64,
		rounds: u64,
	) -> Result<(), Failure> {
		let all_if = |condition: bool| if condition { rounds } else { 0 };
		let case = self.case;
		let counts = [
			("hcalls", seen.calls, all_if(case == Case::Unknown)),
			("stores", seen.stores, all_if(case == Case::MmioStore)),
			("loads", seen.loads, all_if(case == Case::MmioLoad)),
		];
		for (what, came, expected) in counts {
			if came != expected {
				return wrong(format!(
					"{came} instead of {expected} {what} reached userspace"
				));
			}
		}
		let interrupts = all_if(case.round().vector() != 0);
		if outcome.interrupts != interrupts {
			let taken = outcome.interrupts;
			return wrong(format!(
				"the guest took {taken} interrupts instead of {interrupts}"
			));
		}
		if let Some(event) = &self.event {
			let signals = event.take()?;
			if signals != rounds {
				return wrong(format!(
					"the eventfd was signalled {signals} times, not {rounds}"
				));
			}
		}
		match case {
			Case::HGetTce | Case::Scale(Access::Get, _) if outcome.last_r4 != Case::tce(0) => {
				let found = outcome.last_r4;
				wrong(format!("found {found:#x} instead of {:#x}", Case::tce(0)))
			}
			Case::Scale(Access::Put, tables) => self.check_table(tables),
			_ if case.needs_window() => check_entries(case, &self.machine.table()?),
			Case::HRandom if outcome.last_r4 == before.last_r4 => {
				wrong(format!("{:#x} twice is not random", outcome.last_r4))
			}
			Case::HSetMode => match self.machine.vcpu().one_reg(abi::KVM_REG_PPC_CIABR)? {
				0 => Ok(()),
				ciabr => wrong(format!("CIABR is {ciabr:#x}")),
			},
			Case::Decrementer => {
				let exits = host::decrementer_exits()? - before.decrementer_exits;
				// The host's own ticks come on top.
				let expected = case.exits(rounds)..=rounds + rounds / 4 + 8;
				if self.timers != rounds || !expected.contains(&exits) {
					return wrong(format!(
						"{} of {rounds} timers went off, and made {exits} exits",
						self.timers
					));
				}
				Ok(())
			}
			Case::FirstTouch => {
				let page = |index| map::FRESH + index * map::FRESH_PAGE;
				let lost = (0..iterations)
					.filter(|&index| {
						self.machine.memory().read::<u64>(page(index)) != map::FRESH_VALUE
					})
					.count();
				match lost {
					0 => Ok(()),
					_ => wrong(format!("{lost} of {iterations} stores are lost")),
				}
			}
			_ => Ok(()),
		}
	}

	/// The last entry of the first table is what was put there, and all else is empty.
	fn check_table(&self, tables: Tables) -> Result<(), Failure> {
		let last = tables.entries() as usize - 1;
		for (number, window) in self.windows.iter().enumerate() {
			let table = window.table()?;
			let expected = if number == 0 { Case::tce(0) } else { 0 };
			if table[last] != expected || table[..last].iter().any(|&entry| entry != 0) {
				return wrong(format!("table {number} is not as it should be"));
			}
			// One of the large ones will do: looking at a table brings its pages in.
			if last > 0 {
				break;
			}
		}
		Ok(())
	}
}

/// Does the host have exactly so many of the fresh pages?
fn check_fresh(machine: &Machine, pages: u64) -> Result<(), Failure> {
	let has = machine.memory().resident(map::FRESH, FRESH_SIZE)? as u64;
	if has == pages * map::FRESH_PAGE {
		Ok(())
	} else {
		wrong(format!("{has} bytes are there instead of {pages} pages"))
	}
}

/// Is the table what the case leaves behind?
fn check_entries(case: Case, table: &[u64]) -> Result<(), Failure> {
	let put = match case {
		Case::HStuffTce512 => 0,
		Case::HPutTceIndirect512 => 512,
		Case::HPutTceIndirect16 => 16,
		_ => 1,
	};
	let expected = |index: usize| match index {
		index if index < put => Case::tce(index as u64),
		_ => 0,
	};
	match (0..table.len()).find(|&index| table[index] != expected(index)) {
		None => Ok(()),
		Some(index) => wrong(format!(
			"entry {index} is {:#x} instead of {:#x}",
			table[index],
			expected(index)
		)),
	}
}

/// Is this what a load or store of the guest should look like to userspace?
fn check_access(access: &abi::Mmio) -> Result<(), Failure> {
	let stored = access.is_write == 0 || access.data[..4] == map::MMIO_VALUE.to_le_bytes()[..4];
	if access.phys_addr == map::MMIO_USER && access.len == 4 && stored {
		Ok(())
	} else {
		wrong(format!("not the guest's access: {access:x?}"))
	}
}

/// How things were when the measurement began.
struct Before {
	served: Option<Served>,
	reasons: Vec<(String, u64)>,
	decrementer_exits: u64,
	last_r4: u64,
}

impl Before {
	/// Has this path served the round trips? Says how many were served fast.
	fn judge(&self, case: Case, path: Path, rounds: u64) -> Result<Option<u64>, Failure> {
		let (Some(before), Some(after)) = (self.served, host::served(case)) else {
			return Ok(None);
		};
		let served = Served {
			fast: after.fast - before.fast,
			other_fast: after.other_fast - before.other_fast,
			rust: after.rust - before.rust,
			c: after.c - before.c,
		};
		match served.judge(case, path, rounds) {
			Verdict::AsAsked => Ok(Some(served.fast)),
			Verdict::ByC => {
				let mut reasons = host::reasons();
				reasons.retain(|reason| !self.reasons.contains(reason));
				let names: Vec<_> = reasons.into_iter().map(|(name, _)| name).collect();
				let names = names.join(", ");
				Err(Failure::Unsupported(format!(
					"the C path takes these guests in (counter {names})"
				)))
			}
			Verdict::Wrong => wrong(format!(
				"of {rounds} round trips {} were served fast, {} by other fast handlers, with {} \
				 entries by Rust and {} by C",
				served.fast, served.other_fast, served.rust, served.c
			)),
		}
	}
}

/// The host's own system call, in this very process.
fn system_calls(iterations: u64, batches: u64) -> Result<Figures, Failure> {
	let parent = std::os::unix::process::parent_id();
	let mut figures = Figures {
		empty_ticks: vec![],
		ticks: vec![],
		fast: None,
	};
	macro_rules! time {
		($call:literal) => {{
			let (begin, end, wrong): (u64, u64, u64);
			// SAFETY: the system call has no argument and changes nothing; what the kernel may
			// change of the registers is listed.
			unsafe {
				asm!(
					"li {wrong}, 0",
					".long {BEGIN}",
					"mftb {begin}",
					"2:",
					"li 0, {number}",
					"mr 3, {expected}",
					$call,
					"xor 3, 3, {expected}",
					"or {wrong}, {wrong}, 3",
					"addi {count}, {count}, -1",
					"cmpdi {count}, 0",
					"bne 2b",
					"mftb {end}",
					".long {END}",
					BEGIN = const protocol::marker::BEGIN,
					END = const protocol::marker::END,
					number = const libc::SYS_getppid,
					expected = in(reg) u64::from(parent),
					count = inout(reg_nonzero) iterations => _,
					begin = out(reg) begin,
					end = out(reg) end,
					wrong = out(reg) wrong,
					out("r0") _, out("r3") _, out("r4") _, out("r5") _, out("r6") _,
					out("r7") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
					out("r12") _, out("cr0") _, out("cr1") _, out("cr5") _, out("cr6") _,
					out("cr7") _, out("ctr") _, out("xer") _,
					options(nostack),
				);
			}
			if wrong != 0 {
				return self::wrong("getppid() is not the parent".to_owned());
			}
			end - begin
		}};
	}
	for _ in 0..batches {
		figures.empty_ticks.push(time!(""));
		figures.ticks.push(time!("li 3, -1\nsc"));
	}
	Ok(figures)
}

fn measure(
	case: Case,
	guest: Guest,
	path: Path,
	iterations: u64,
	batches: u64,
) -> Result<Figures, Failure> {
	if let Some(why) = case.absent(guest, path) {
		return Err(Failure::Unsupported(why.to_owned()));
	}
	host::choose(path).map_err(Failure::Unsupported)?;
	if case == Case::Getppid {
		return system_calls(iterations, batches);
	}
	let enable = Scene::enables(case);
	let config = Config {
		guest,
		enable: &enable,
		window: case.needs_window(),
	};
	if case == Case::Doorbell {
		let (machine, peer) = Machine::with_peer(config)?;
		let mut scene = Scene::new(case, machine, iterations)?;
		return peer.while_running(|| scene.measure(path, iterations, batches));
	}
	let machine = Machine::new(config)?;
	Scene::new(case, machine, iterations)?.measure(path, iterations, batches)
}

/// Measures everything and says so as it goes.
pub fn run(cases: &[Case], guests: &[Guest], paths: &[Path], iterations: u64, batches: u64) {
	for &path in paths {
		for &case in cases {
			for &guest in case.guests().iter().filter(|guest| guests.contains(guest)) {
				marker::arm(case, guest, path);
				let measured = measure(case, guest, path, iterations, batches);
				marker::disarm();
				let (case, guest, path) = (case.name(), guest.name(), path.name());
				match measured {
					Ok(figures) => say(&Line::Result {
						case,
						guest,
						path,
						iterations,
						empty_ticks: &figures.empty_ticks,
						ticks: &figures.ticks,
						fast: figures.fast,
					}),
					Err(Failure::Unsupported(why)) => say(&Line::Na {
						case,
						guest,
						path,
						why: &why,
					}),
					Err(Failure::Wrong(why)) => say(&Line::Error {
						case,
						guest,
						path,
						why: &why,
					}),
				}
			}
		}
	}
}
