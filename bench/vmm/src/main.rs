// SPDX-License-Identifier: GPL-2.0-only
//! The benchmark, as init of the emulated host.

mod bench;
mod job;
mod marker;

fn work() -> Result<(), String> {
	let job::Job {
		cases,
		guests,
		paths,
		iterations,
		batches,
	} = job::read()?;
	bench::run(&cases, &guests, &paths, iterations, batches);
	Ok(())
}

fn main() {
	vmm::init::run(work)
}
