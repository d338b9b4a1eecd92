// SPDX-License-Identifier: GPL-2.0-only
//! The benchmark, as init of the emulated host.

mod bench;
mod evidence;
mod job;
mod marker;
mod scene;
mod system_call;

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
