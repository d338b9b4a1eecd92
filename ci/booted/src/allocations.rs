// SPDX-License-Identifier: GPL-2.0-only
//! Each allocation of memory in what userspace asks KVM for fails in turn. After that the same request
//! must succeed, the guest must run, and nothing may be left when the VM is gone.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

use protocol::block::Call;
use protocol::{Column, Command, GuestMode, Job, map, private};
use vmm::abi;
use vmm::kvm::{Controller, EventFd, Memory, Slot, TceWindow, Vcpu};
use vmm::machine::{Failure, Machine, Stop};

use crate::common::{Verdict, choose, machine, named, wrong};
use crate::stats::Setting;
use crate::tce::perform;
use crate::xics::set_new_source;

/// A source of an interrupt controller.
const IRQ: u32 = 0x1001;
/// More memory of a guest's, and a device.
const MORE: u64 = 0x4000_0000;
const DEVICE: u64 = 0x5000_0000;

/// An hcall that userspace answers.
fn call() -> Call {
	Call {
		number: private::UNKNOWN.0,
		..Call::default()
	}
}

/// The kernel's fault injection, for this thread (Documentation/fault-injection).
struct Injection(File);

impl Injection {
	/// Lets all kinds of allocations fail that may fail. By default the kernel leaves out those that can sleep.
	fn new() -> Result<Self, Failure> {
		for (file, value) in [
			("failslab/ignore-gfp-wait", "N"),
			("failslab/verbose", "0"),
			("fail_page_alloc/ignore-gfp-wait", "N"),
			("fail_page_alloc/ignore-gfp-highmem", "N"),
			("fail_page_alloc/min-order", "0"),
			("fail_page_alloc/verbose", "0"),
		] {
			let path = format!("/sys/kernel/debug/{file}");
			fs::write(&path, value).or_else(|e| wrong(format!("{path}: {e}")))?;
		}
		const FILE: &str = "/proc/thread-self/fail-nth";
		let file = OpenOptions::new().read(true).write(true).open(FILE);
		Ok(Self(file.or_else(|e| wrong(format!("{FILE}: {e}")))?))
	}

	/// The allocation with this number fails, the first being 1. With 0 none does.
	fn set(&self, number: u64) -> Result<(), Failure> {
		// In one write, and without memory of our own.
		let mut text = [0; 20];
		let mut rest = number;
		let mut start = text.len();
		while rest > 0 || start == text.len() {
			start -= 1;
			text[start] = b'0' + (rest % 10) as u8;
			rest /= 10;
		}
		Ok(self.0.write_all_at(&text[start..], 0)?)
	}

	/// How many allocations later the next one would fail; 0 if one has failed.
	fn left(&self) -> Result<u64, Failure> {
		let mut text = [0; 32];
		let length = self.0.read_at(&mut text, 0)?;
		self.set(0)?;
		let text = String::from_utf8_lossy(&text[..length]);
		let left = text.trim().parse();
		left.or_else(|_| wrong(format!("fail-nth has {text:?}")))
	}

	/// Does it with a failing allocation. Returns the result, and what is left.
	fn with(
		&self,
		number: u64,
		ask: impl FnOnce() -> Result<(), Failure>,
	) -> Result<(Result<(), Failure>, u64), Failure> {
		self.set(number)?;
		let result = ask();
		Ok((result, self.left()?))
	}
}

/// A guest, and what it has been given.
struct Given {
	machine: Machine,
	slot: Option<Slot>,
	window: Option<TceWindow>,
	event: EventFd,
	vcpu: Option<Vcpu>,
	/// Of the newest vcpu.
	number: u64,
	times: Option<Setting>,
}

/// What userspace asks for.
struct Request {
	name: &'static str,
	/// What has to be there.
	before: fn(&mut Given) -> Result<(), Failure>,
	ask: fn(&mut Given) -> Result<(), Failure>,
}

const fn request(name: &'static str, ask: fn(&mut Given) -> Result<(), Failure>) -> Request {
	Request {
		name,
		before: |_| Ok(()),
		ask,
	}
}

const fn request_after(
	name: &'static str,
	before: fn(&mut Given) -> Result<(), Failure>,
	ask: fn(&mut Given) -> Result<(), Failure>,
) -> Request {
	Request { name, before, ask }
}

fn create(given: &mut Given, kind: Controller) -> Result<(), Failure> {
	given.machine.create_controller(kind)
}

fn connected(given: &mut Given, kind: Controller) -> Result<(), Failure> {
	given.machine.add_controller(kind)
}

const REQUESTS: &[Request] = &[
	request("memory", |given| {
		let memory = Memory::new(1 << 20)?;
		given.slot = Some(given.machine.vm().add_memory(1, MORE, memory)?);
		Ok(())
	}),
	// KVM keeps the core of a vcpu that could not be created, and the number with it.
	request("vcpu", |given| {
		given.number += 1;
		given.vcpu = Some(given.machine.vm().create_vcpu(given.number)?);
		Ok(())
	}),
	request("window", |given| {
		given.window = Some(given.machine.vm().create_window(&abi::SpaprTce64 {
			liobn: map::LIOBN,
			page_shift: map::TCE_SHIFT,
			flags: 0,
			offset: 0,
			size: map::TCE_PAGES,
		})?);
		Ok(())
	}),
	request("eventfd", |given| {
		Ok(given.machine.vm().add_event(&given.event, DEVICE, 4)?)
	}),
	request("xics", |given| create(given, Controller::Xics)),
	request("xive", |given| create(given, Controller::Xive)),
	request_after(
		"xics-vcpu",
		|given| create(given, Controller::Xics),
		|given| given.machine.connect(Controller::Xics),
	),
	request_after(
		"xive-vcpu",
		|given| create(given, Controller::Xive),
		|given| given.machine.connect(Controller::Xive),
	),
	request_after(
		"xics-source",
		|given| connected(given, Controller::Xics),
		|given| set_new_source(&given.machine, Controller::Xics, IRQ.into()),
	),
	request_after(
		"xive-source",
		|given| connected(given, Controller::Xive),
		|given| set_new_source(&given.machine, Controller::Xive, IRQ.into()),
	),
	request_after(
		"irqfd",
		|given| {
			connected(given, Controller::Xics)?;
			set_new_source(&given.machine, Controller::Xics, IRQ.into())
		},
		|given| Ok(given.machine.vm().add_irq_event(&given.event, IRQ)?),
	),
	request("times", |given| {
		let times = Setting::on("stats").or_else(|_| wrong("kvm_p9.stats stays 0".to_owned()));
		given.times = Some(times?);
		Ok(())
	}),
	// The guest's first run has the host map its memory.
	request_after(
		"run",
		|given| {
			given.machine.memory().write(map::CALLS, call());
			given.machine.start(Command {
				job: Job::CALLS,
				iterations: 1,
				..Command::default()
			});
			Ok(())
		},
		|given| {
			while !matches!(given.machine.step()?, Stop::Done(_)) {}
			Ok(())
		},
	),
];

/// A guest that makes an hcall when it runs.
fn given(guest: GuestMode) -> Result<Given, Failure> {
	Ok(Given {
		machine: machine(guest, &[])?,
		slot: None,
		window: None,
		event: EventFd::new()?,
		vcpu: None,
		number: 0,
		times: None,
	})
}

/// The guest makes an hcall, and what it was given goes with it.
fn use_up(mut given: Given) -> Result<(), Failure> {
	perform(&mut given.machine, &[call()]).map(drop)
}

/// Returns how many allocations the request makes that may fail.
fn fail_each(injection: &Injection, guest: GuestMode, request: &Request) -> Result<u64, Failure> {
	// At first none fails: all memory of our own is there after that.
	for number in 0.. {
		let mut given = given(guest)?;
		(request.before)(&mut given)?;
		let ask = || (request.ask)(&mut given);
		let (result, left) = injection.with(number, ask)?;
		match (result, left) {
			(Ok(()), 0) => {}
			(Err(e), _) if number == 0 => return Err(e),
			// It made fewer.
			(Ok(()), _) => {
				use_up(given)?;
				return Ok(number - 1);
			}
			(Err(_), 0) => {
				let again = (request.ask)(&mut given);
				let complain =
					|e| named(e, &format!("once more, after allocation {number} failed"));
				again.map_err(complain)?;
			}
			(Err(e), _) => return Err(e),
		}
		use_up(given)?;
	}
	unreachable!("a request makes some allocations")
}

/// All of it on one path.
pub fn fail(guest: GuestMode, path: Column) -> Verdict {
	choose(path)?;
	let injection = Injection::new()?;
	let mut told = vec![];
	for request in REQUESTS {
		let name = request.name;
		let count = fail_each(&injection, guest, request).map_err(|e| named(e, name))?;
		if count == 0 {
			return wrong(format!("{name}: no allocation has failed"));
		}
		told.push(format!("{name} {count}"));
	}
	// KVM names the interrupts of a guest so.
	const INTERRUPTS: &str = "/proc/interrupts";
	let text = fs::read_to_string(INTERRUPTS).or_else(|e| wrong(format!("{INTERRUPTS}: {e}")))?;
	let left = text.lines().filter(|line| line.contains(" kvm-")).count();
	if left > 0 {
		return wrong(format!("{left} interrupts of VMs are left in {INTERRUPTS}"));
	}
	Ok(told.join(", "))
}
