// SPDX-License-Identifier: GPL-2.0-only
//! Interrupts, signals and H_PROD at random, of more vcpus than there are CPUs.
//!
//! One vcpu checks its registers, and gets signals. Two wake each other by IPIs of XICS, two by H_PROD,
//! and one accepts what a device sends by an irqfd. So each of them is preempted while others send it
//! something. All but the first have a timebase of their own, and that one has one in each second VM.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::regs::Pattern;
use protocol::{Column, GuestMode};
use vmm::abi::KVM_REG_PPC_TB_OFFSET;
use vmm::kvm::{Controller, EventFd};
use vmm::machine::{Failure, Machine};

use crate::common::{Verdict, choose, counter, counters, machine, wrong};
use crate::cpus;
use crate::registers::hcall::c_path_cfar;
use crate::soak::check_registers_beside;
use crate::tce::perform;
use crate::turns;

/// The device's interrupt, and its priority.
const IRQ: u64 = 0x10;
const PRIORITY: u64 = 5;
/// A CPPR that lets all through, in the upper byte of an XIRR.
const ALL: u64 = 0xff00_0000;
const NUMBER: u64 = 0xff_ffff;
/// Fewer of each than this would say little.
const ENOUGH: u64 = 50;

fn call(number: Number, argument: u64) -> Call {
	Call {
		number: number.0,
		args: [argument, 0, 0, 0],
		..Call::default()
	}
}

/// What came of interrupts of a device.
#[derive(Default)]
struct Device {
	sent: AtomicU64,
	accepted: u64,
}

/// Has the guest accept what there is, and end it. Returns how many it accepted.
fn accept(machine: &mut Machine) -> Result<u64, Failure> {
	let mut accepted = 0;
	loop {
		let (done, _) = perform(machine, &[call(Number::XIRR, 0)])?;
		let (code, xirr) = (done[0].code as i64, done[0].r4);
		if code != Code::SUCCESS.0 {
			return wrong(format!("H_XIRR: code {code}"));
		}
		match xirr & NUMBER {
			0 => return Ok(accepted),
			IRQ => accepted += 1,
			other => return wrong(format!("accepted {other:#x}, which no device sends")),
		}
		let (done, _) = perform(machine, &[call(Number::EOI, ALL | IRQ)])?;
		if done[0].code as i64 != Code::SUCCESS.0 {
			return wrong(format!("H_EOI: code {}", done[0].code as i64));
		}
	}
}

/// A device sends interrupts by an irqfd, while the vcpu accepts them, now on one CPU and now on the other.
fn irqfd(seed: u64, stop: &AtomicBool) -> Result<Device, Failure> {
	let mut machine = machine(GuestMode::Radix, &[])?;
	machine.add_controller(Controller::Xics)?;
	machine.set_source(IRQ, PRIORITY << 32)?;
	let mut pattern = Pattern::new(seed);
	let offset = pattern.next();
	machine
		.vcpu()
		.set_one_reg(KVM_REG_PPC_TB_OFFSET, offset.into())?;
	let event = EventFd::new()?;
	machine.vm().add_irq_event(&event, IRQ as u32)?;
	perform(&mut machine, &[call(Number::CPPR, 0xff)])?;
	let mut device = Device::default();
	let over = AtomicBool::new(false);
	let accepted = std::thread::scope(|scope| {
		let sender = scope.spawn(|| {
			let mut pattern = Pattern::new(!seed);
			while !over.load(Ordering::Relaxed) {
				device.sent.fetch_add(1, Ordering::Relaxed);
				event.signal()?;
				cpus::move_to_cpu(pattern.next() as usize % 2)?;
				std::thread::sleep(Duration::from_micros(pattern.next() % 3000));
			}
			Ok::<_, Failure>(())
		});
		let accepted: Result<u64, Failure> = (|| {
			let mut accepted = 0;
			while !stop.load(Ordering::Relaxed) {
				cpus::move_to_cpu(pattern.next() as usize % 2)?;
				accepted += accept(&mut machine)?;
			}
			Ok(accepted)
		})();
		over.store(true, Ordering::Relaxed);
		sender.join().expect("it doesn't panic")?;
		accepted
	})?;
	// One that was sent while the one before was not ended yet is one with it, but the last one comes.
	device.accepted = accepted + accept(&mut machine)?;
	event.signal()?;
	let mut last = 0;
	for _ in 0..1000 {
		last += accept(&mut machine)?;
		if last > 0 {
			break;
		}
		std::thread::sleep(Duration::from_millis(1));
	}
	let (sent, accepted) = (device.sent.load(Ordering::Relaxed), device.accepted);
	if last != 1 || accepted > sent {
		return wrong(format!(
			"{accepted} of {sent} interrupts accepted, and {last} of one after them"
		));
	}
	Ok(device)
}

/// What a thread came to.
enum Done {
	Device(Device),
	Turns(u64),
}

/// Runs them all.
pub fn registers(path: Column, seed: u64, time: Duration) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	let before = counters()?;
	let device = |stop: &AtomicBool| irqfd(seed, stop).map(Done::Device);
	let wake = |by_xics| {
		move |stop: &AtomicBool| {
			let turns = turns::play_ahead([0, 1], 0, by_xics, seed | 1, |machine| {
				turns::watch_until(machine, stop)
			})?;
			Ok(Done::Turns(turns.rounds.iter().sum()))
		}
	};
	let (rounds, done) =
		check_registers_beside(seed, time, cfar, &[&device, &wake(true), &wake(false)])?;
	let mut line = format!("{rounds} rounds of registers");
	let mut few = rounds == 0;
	for (done, name) in done.iter().zip(["irqfd", "XICS", "H_PROD"]) {
		let count = match done {
			Done::Device(device) => device.accepted,
			Done::Turns(turns) => *turns,
		};
		few |= count < ENOUGH;
		line += &format!(", {count} by {name}");
	}
	if path == Column::RustFast {
		let after = counters()?;
		let grown = |name| counter(&after, name) - counter(&before, name);
		let names = ["fast_h_ipi", "fast_h_xirr", "light_h_prod"];
		for name in names {
			few |= grown(name) < ENOUGH;
			line += &format!(", {name} {}", grown(name));
		}
	}
	if few {
		return wrong(line);
	}
	Ok(line)
}
