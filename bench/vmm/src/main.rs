// SPDX-License-Identifier: GPL-2.0-only
//! The VMM of benchmark and booted tests.
//!
//! It is init of the emulated host and nearly all of its userspace. It reads what to
//! do from the initramfs, does it with VMs of its own, writes what came out to the
//! console as lines that the runner picks from the noise, and turns the machine off.

mod abi;
mod bench;
mod console;
mod elf;
mod hardware;
mod host;
mod hostile;
mod job;
mod kmsg;
mod kvm;
mod machine;
mod marker;
mod perf;
mod rounds;
mod soak;
mod stats;
mod tce;
mod tests;
mod timer;
mod userregs;
mod vfio;

use console::{Line, say};

fn work() -> Result<(), String> {
	if host::is_5_10() {
		host::avoid_scv();
	}
	host::set_up().map_err(|e| format!("setting up: {e}"))?;
	timer::install_handler().map_err(|e| format!("setting up: {e}"))?;
	say(&Line::Hello {
		release: &host::release(),
		params: host::has_parameters(),
	});
	match job::read()? {
		job::Job::Bench {
			cases,
			guests,
			paths,
			iterations,
			batches,
		} => {
			bench::run(&cases, &guests, &paths, iterations, batches);
		}
		job::Job::Test {
			tests,
			except,
			seed,
			tce_calls,
			rounds,
			soak_minutes,
		} => {
			let amounts = tests::Amounts {
				tce_calls,
				rounds,
				soak_minutes,
			};
			tests::run(&tests, &except, seed, amounts)?;
		}
	}
	Ok(())
}

fn main() {
	std::panic::set_hook(Box::new(|info| {
		say(&Line::Fatal {
			why: &info.to_string(),
		});
		host::power_off();
	}));
	match work() {
		Ok(()) => say(&Line::Done),
		Err(why) => say(&Line::Fatal { why: &why }),
	}
	host::power_off();
}
