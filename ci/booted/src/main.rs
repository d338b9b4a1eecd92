// SPDX-License-Identifier: GPL-2.0-only
//! The booted tests, as init of the emulated host.

mod hostile_vmm;
mod job;
mod kmsg;
mod perf;
mod registers;
mod soak;
mod stats;
mod tce;
mod tce_hardware;
mod tests;
mod user_regs;
mod vfio;

fn work() -> Result<(), String> {
	let job::Job::Test {
		tests,
		except,
		seed,
		tce_calls,
		rounds,
		soak_minutes,
	} = job::read()?;
	let amounts = tests::Amounts {
		tce_calls,
		rounds,
		soak_minutes,
	};
	tests::run(&tests, &except, seed, amounts)
}

fn main() {
	vmm::init::run(work)
}
