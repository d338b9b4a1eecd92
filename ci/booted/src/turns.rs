// SPDX-License-Identifier: GPL-2.0-only
//! Two vcpus that wake each other with H_PROD, or with interrupts of XICS, and sleep with H_CEDE.
//!
//! Nothing else wakes them: no signal, no interrupt and no decrementer of their own. A wake-up
//! that is lost is the end of it, and the test sees that nothing moves any more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::block::Turns;
use protocol::{Column, GuestMode, map, private};
use vmm::kvm::{Controller, Exit, Vcpu};
use vmm::machine::{Failure, Machine};
use vmm::timer::Timer;

use crate::common::{Verdict, choose, counter, counters, machine, named, wrong};
use crate::cpus::move_to_cpu;

const IDS: [u64; 2] = [1, 2];
/// After so long without a turn a wake-up was lost.
const STUCK: Duration = Duration::from_secs(4);
/// Ends vcpus that sleep for good, after all is over.
const END: Duration = Duration::from_secs(40);
/// Fewer turns than this would say little.
const ENOUGH: u64 = 100;

fn turns(machine: &Machine) -> Turns {
	machine.memory().read(map::CONTENDERS)
}

fn run(vcpu: &mut Vcpu, cpu: usize) -> Result<(), Failure> {
	move_to_cpu(cpu)?;
	let _timer = Timer::every(END, END)?;
	match vcpu.run()? {
		Exit::Hcall(private::EXCEPTION, _) => Ok(()),
		exit => wrong(format!("the guest came out with {exit:?}")),
	}
}

/// Waits until time is over, or no vcpu moves.
pub fn watch(machine: &Machine, time: Duration) -> Result<(), Failure> {
	let end = Instant::now() + time;
	watch_while(machine, || Instant::now() < end)
}

/// Waits until it is told to stop, or no vcpu moves.
pub fn watch_until(machine: &Machine, stop: &AtomicBool) -> Result<(), Failure> {
	watch_while(machine, || !stop.load(Ordering::Relaxed))
}

fn watch_while(machine: &Machine, go_on: impl Fn() -> bool) -> Result<(), Failure> {
	let (mut last, mut since) = ([0; 2], Instant::now());
	while go_on() {
		std::thread::sleep(Duration::from_millis(50));
		let now = turns(machine).rounds;
		if now != last {
			(last, since) = (now, Instant::now());
		} else if since.elapsed() > STUCK {
			return wrong(format!("a wake-up was lost after {now:?} turns"));
		}
	}
	Ok(())
}

/// Two vcpus take turns, each on its CPU, while `meanwhile` runs. Says what they did. For `pause` see
/// [`Turns`].
pub fn play(
	places: [usize; 2],
	pause: u64,
	by_xics: bool,
	meanwhile: impl FnOnce(&Machine) -> Result<(), Failure>,
) -> Result<Turns, Failure> {
	play_ahead(places, pause, by_xics, 0, meanwhile)
}

/// The same with a timebase that is so much ahead of the host's.
pub fn play_ahead(
	places: [usize; 2],
	pause: u64,
	by_xics: bool,
	offset: u64,
	meanwhile: impl FnOnce(&Machine) -> Result<(), Failure>,
) -> Result<Turns, Failure> {
	let mut machine = machine(GuestMode::Radix, &[])?;
	if by_xics {
		machine.add_controller(Controller::Xics)?;
	}
	let block = Turns {
		pause,
		..Turns::default()
	};
	let mut vcpus = machine.take_turns(IDS, block, by_xics)?;
	for vcpu in &vcpus {
		vcpu.set_one_reg(vmm::abi::KVM_REG_PPC_TB_OFFSET, offset.into())?;
	}
	let results = std::thread::scope(|scope| {
		let threads: Vec<_> = vcpus
			.iter_mut()
			.zip(places)
			.map(|(vcpu, cpu)| scope.spawn(move || run(vcpu, cpu)))
			.collect();
		let watched = meanwhile(&machine);
		machine.memory().write(map::CONTENDERS + 8, 1_u64);
		let ended = threads
			.into_iter()
			.map(|thread| thread.join().expect("it doesn't panic"));
		core::iter::once(watched).chain(ended).collect::<Vec<_>>()
	});
	results.into_iter().collect::<Result<(), Failure>>()?;
	let turns = turns(&machine);
	let [first, second] = turns.rounds;
	if turns.bad != 0 || first.abs_diff(second) > 1 || first < ENOUGH {
		return wrong(format!("{:?} turns, code {:#x}", turns.rounds, turns.bad));
	}
	Ok(turns)
}

/// On two CPUs, then on one, for some time each.
pub fn wake_each_other(path: Column, time: Duration, by_xics: bool) -> Verdict {
	choose(path)?;
	let mut told = vec![];
	for (what, places) in [("apart", [0, 1]), ("together", [0, 0])] {
		let before = counters().unwrap_or_default();
		let turns = play(places, 0, by_xics, |machine| watch(machine, time))
			.map_err(|failure| named(failure, what))?;
		let count: u64 = turns.rounds.iter().sum();
		let mut line = format!("{what}: {count} turns");
		if path == Column::RustFast {
			let after = counters()?;
			let grown = |name| counter(&after, name) - counter(&before, name);
			// Each turn has an IPI and its H_EOI.
			let names = match by_xics {
				true => ["fast_h_ipi", "fast_h_eoi"],
				false => ["light_h_prod", "light_h_cede"],
			};
			let [wakes, others] = names.map(grown);
			if wakes < count / 2 || (by_xics && others < count / 2) {
				return wrong(format!("{line}, but {names:?} {wakes} and {others}"));
			}
			line += &format!(", {names:?} {wakes} and {others}");
		}
		told.push(line);
	}
	Ok(told.join("; "))
}
