// SPDX-License-Identifier: GPL-2.0-only
//! Tests of what kvm-p9 tells operators: times by vcpu, who answered by VM, trace
//! events, and the kernel's own phases.
//!
//! The guest does known numbers of hcalls, so all counts are known too.

mod cycles;
mod events;
mod phases;
mod served;
mod times;

use std::time::Duration;

use cases::Case;
use hcall::Number;
use protocol::GuestMode;
use vmm::machine::{Config, Failure, Machine};
use vmm::{command, host};

use crate::common::wrong;

pub use cycles::{cycles, guest_has_the_pmu, perf_comes_and_goes, perf_has_the_pmu};
pub use events::traced;
pub use phases::timings;
pub use served::by_vm;
pub use times::{counted, free, later_vcpu, light};

/// Longer than any of the guest's jobs here takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);
const VMS: &str = "/sys/kernel/debug/kvm_p9/vms";
const TRACING: &str = "/sys/kernel/tracing";
const EVENT: &str = "events/kvm_p9/fast_hcall/enable";

/// What has to be enabled for the hcalls here.
const ENABLE: [Number; 4] = [
	Number::NULL,
	Number::PUT_TCE_INDIRECT,
	Number::STUFF_TCE,
	Number::RANDOM,
];

fn read(file: &str) -> Result<String, Failure> {
	std::fs::read_to_string(file).map_err(|e| Failure::Wrong(format!("{file}: {e}")))
}

fn write(file: &str, text: &str) -> Result<(), Failure> {
	std::fs::write(file, text).map_err(|e| Failure::Wrong(format!("{file}: {e}")))
}

fn machine(guest: GuestMode, enable: &[Number]) -> Result<Machine, Failure> {
	Machine::new(Config {
		guest,
		enable,
		window: true,
	})
}

/// Has the guest do an hcall `calls` times, and gives the ticks that it took, by the
/// guest's clock.
fn perform(machine: &mut Machine, case: &'static Case, calls: u64) -> Result<u64, Failure> {
	let outcome = machine.perform(command::timing(case, calls, 1), LIMIT, |_| {})?;
	if outcome.mismatches > 0 {
		let (name, code) = (case.name, outcome.wrong_code as i64);
		return wrong(format!("{name}: wrong codes, the first {code}"));
	}
	Ok(outcome.ticks[0])
}

/// A parameter that has another value until this is dropped.
pub struct Setting {
	name: &'static str,
	before: &'static str,
}

impl Setting {
	/// Turns it on, which is off.
	pub fn on(name: &'static str) -> Result<Self, Failure> {
		Self::set(name, "1", "0")
	}

	/// Turns it off, which is on.
	pub fn off(name: &'static str) -> Result<Self, Failure> {
		Self::set(name, "0", "1")
	}

	fn set(name: &'static str, now: &str, before: &'static str) -> Result<Self, Failure> {
		host::set_parameter(name, now).map_err(|e| Failure::Unsupported(e.to_string()))?;
		Ok(Self { name, before })
	}
}

impl Drop for Setting {
	fn drop(&mut self) {
		host::set_parameter(self.name, self.before).expect("what was set can be reset");
	}
}
