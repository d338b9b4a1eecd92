// SPDX-License-Identifier: GPL-2.0-only
//! What booted tests have in common: choosing a path, building a machine, counters.

use std::collections::BTreeMap;

use cases::Case;
use hcall::Number;
use protocol::{Column, GuestMode};
use vmm::host;
use vmm::machine::{Config, Failure, Machine};

/// What a passed test found, or why a test did not pass.
pub type Verdict = Result<String, Failure>;

/// All paths of a kernel with kvm-p9.
pub const PATHS: [Column; 3] = [Column::C, Column::RustFull, Column::RustFast];

/// The test failed, for this reason.
pub fn wrong<T>(why: String) -> Result<T, Failure> {
	Err(Failure::Wrong(why))
}

/// Says in which part of a test it failed.
pub fn named(failure: Failure, name: &str) -> Failure {
	match failure {
		Failure::Wrong(why) => Failure::Wrong(format!("{name}: {why}")),
		other => other,
	}
}

/// Makes vcpus take that path.
pub fn choose(path: Column) -> Result<(), Failure> {
	host::choose(path).map_err(Failure::Unsupported)
}

/// A machine without a DMA window.
pub fn machine(guest: GuestMode, enable: &[Number]) -> Result<Machine, Failure> {
	Machine::new(Config {
		guest,
		enable,
		window: false,
	})
}

/// A machine for a case, with what the case needs.
pub fn machine_for(guest: GuestMode, case: &'static Case) -> Result<Machine, Failure> {
	machine(guest, case.enable)
}

/// What debugfs counts, by name.
pub type Counters = BTreeMap<String, u64>;

/// The counters as they are now.
pub fn counters() -> Result<Counters, Failure> {
	host::counters().ok_or_else(|| Failure::Wrong("no readable counters in debugfs".into()))
}

/// One of them.
pub fn counter(counters: &Counters, name: &str) -> u64 {
	counters.get(name).copied().unwrap_or(0)
}
