// SPDX-License-Identifier: GPL-2.0-only
//! The benchmark: as init of a host, or as a program of root's that is started beside others.

mod bench;
mod evidence;
mod job;
mod marker;
mod scene;
mod spans;
mod system_call;

fn work() -> Result<(), String> {
	let jobs = job::read()?;
	jobs.iter().try_for_each(bench::run)
}

fn main() -> std::process::ExitCode {
	vmm::init::run(work)
}
