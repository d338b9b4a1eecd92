// SPDX-License-Identifier: GPL-2.0-only
//! Tests of the TCE hcalls, and what they share: how a guest makes hcalls, and how answers are
//! compared.

use std::collections::BTreeMap;
use std::time::Duration;

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Command, Job, map};

use vmm::abi::SpaprTce64;
use vmm::host;
use vmm::kvm::Memory;
use vmm::machine::{Failure, Machine};

pub use closing::closing_table;
pub use differential::differential;
pub use lists::{moving_list, several_lists};
pub use random::Random;

mod closing;
mod differential;
mod lists;
mod random;

/// Hcalls that the guest does in one go.
pub const BATCH: u64 = 256;
/// Longer than a batch takes, in the emulated host's time.
const LIMIT: Duration = Duration::from_secs(60);

pub const TCES: [Number; 4] = [
	Number::GET_TCE,
	Number::PUT_TCE,
	Number::PUT_TCE_INDIRECT,
	Number::STUFF_TCE,
];

/// Host pages, which tables and memory slots are made of.
pub const PAGE: u64 = 1 << 16;
/// Entries of such a page.
pub const PAGE_ENTRIES: u64 = PAGE / 8;
/// Size of a list.
pub const LIST: u64 = 4096;

/// A window: LIOBN, page shift, offset and size.
pub const fn window(liobn: u64, page_shift: u32, offset: u64, size: u64) -> SpaprTce64 {
	SpaprTce64 {
		liobn,
		page_shift,
		flags: 0,
		offset,
		size,
	}
}

/// Has a guest do the calls. Returns them, with what came back, and which of them userspace
/// saw.
pub fn perform(machine: &mut Machine, calls: &[Call]) -> Result<(Vec<Call>, Vec<usize>), Failure> {
	let place = |index: usize| map::CALLS + (index * size_of::<Call>()) as u64;
	for (index, &call) in calls.iter().enumerate() {
		machine.memory().write(place(index), call);
	}
	let command = Command {
		job: Job::CALLS,
		iterations: calls.len() as u64,
		..Command::default()
	};
	// How many are done before the one that userspace sees: the guest counts them.
	let mut seen = vec![];
	let outcome = machine.perform(command, LIMIT, |call| seen.push(call))?;
	if outcome.rounds != calls.len() as u64 {
		let done = outcome.rounds;
		return Err(Failure::Wrong(format!(
			"{done} of {} calls done",
			calls.len()
		)));
	}
	let memory = machine.memory();
	let done: Vec<Call> = (0..calls.len())
		.map(|index| memory.read(place(index)))
		.collect();
	// They come in order, each with its own arguments.
	let mut to_userspace = vec![];
	let mut rest = done.iter().enumerate();
	for (number, args) in seen {
		let found = rest.find(|(_, call)| call.number == number.0 && call.args == args[..4]);
		match found {
			Some((index, _)) => to_userspace.push(index),
			None => {
				let number = number.0;
				return Err(Failure::Wrong(format!(
					"hcall {number:#x} {args:x?} reached userspace; the guest didn't do it"
				)));
			}
		}
	}
	Ok((done, to_userspace))
}

/// Hcalls that fast handlers have answered so far.
fn fast() -> Result<u64, Failure> {
	host::fast_total().ok_or_else(|| Failure::Wrong("no readable counters in debugfs".into()))
}

pub fn write_list(memory: &Memory, address: u64, entries: &[u64; 512]) {
	for (place, entry) in (address..).step_by(8).zip(entries) {
		memory.write(place, entry.to_be());
	}
}

/// What hcalls were answered, on C and on Rust alike.
#[derive(Default)]
pub struct Answers(BTreeMap<(u64, i64), u64>);

impl Answers {
	/// Adds an hcall as it came back from each, and whether userspace saw it. Fails if they
	/// are not alike.
	pub fn agree(
		&mut self,
		(c, c_seen): (Call, bool),
		(rust, rust_seen): (Call, bool),
		place: impl FnOnce() -> String,
	) -> Result<(), Failure> {
		if (c, c_seen) != (rust, rust_seen) {
			return Err(Failure::Wrong(format!(
				"{}: hcall {:#x} {:x?}: code {} r4 {:#x} userspace {rust_seen} instead of code {} \
				 r4 {:#x} userspace {c_seen}",
				place(),
				c.number,
				c.args,
				rust.code as i64,
				rust.r4,
				c.code as i64,
				c.r4,
			)));
		}
		*self.0.entry((c.number, c.code as i64)).or_insert(0) += 1;
		Ok(())
	}

	/// Of so many hcalls, each was answered with each of these codes, and not too seldom.
	pub fn cover(&self, done: u64, codes: &[Code]) -> Result<(), Failure> {
		for number in TCES {
			for code in codes {
				let times = self.0.get(&(number.0, code.0)).copied().unwrap_or(0);
				if times == 0 || times < done / 1000 {
					let (number, code) = (number.0, code.0);
					return Err(Failure::Wrong(format!(
						"too few calls of {number:#x} with code {code}: {:?}",
						self.0
					)));
				}
			}
		}
		Ok(())
	}
}
