// SPDX-License-Identifier: GPL-2.0-only
//! Runs the tests of the job, in the order of the registry.
//!
//! A test that needs a path or an hcall which the kernel lacks says so and is skipped. The
//! runner decides whether that is all right for the kernel that it booted.

use vmm::console::{Line, Status, say};
use vmm::machine::Failure;

use crate::common::Verdict;
use crate::job::Job;
use crate::kexec::After;
use crate::kmsg::Kmsg;
use crate::registry;
use crate::vfio;

/// Where the job is.
const FILE: &str = "/job";

fn judge(verdict: Verdict) -> (Status, String) {
	match verdict {
		Ok(detail) => (Status::Pass, detail),
		Err(Failure::Unsupported(why)) => (Status::Skip, why),
		Err(Failure::Wrong(why)) => (Status::Fail, why),
	}
}

/// Does the job, and says how each test ended.
pub fn run() -> Result<(), String> {
	let text = std::fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
	let job: Job = serde_json::from_str(&text).map_err(|e| format!("{FILE}: {e}"))?;
	let tests = registry::tests();
	if let Some(name) = job
		.tests
		.iter()
		.find(|&name| !tests.iter().any(|test| test.name == *name))
	{
		return Err(format!("there is no test \"{name}\""));
	}
	let after = After::of_environment();
	let mut tests: Vec<_> = tests
		.iter()
		.filter(|test| job.tests.contains(&test.name))
		.collect();
	if let Some(after) = &after {
		let (status, detail) = judge(after.arrive(job.seed));
		say(&Line::Test {
			name: &after.test,
			status,
			detail: &detail,
		});
		// What runs after a crash has little memory, and no more to do.
		let done = tests.iter().position(|test| test.name == after.test);
		let left = match done {
			Some(done) if !after.is_crash() => done + 1,
			_ => tests.len(),
		};
		tests.drain(..left);
	}
	vfio::take_devices().map_err(|e| format!("devices for DMA: {e}"))?;
	let mut kmsg = Kmsg::from_now().map_err(|e| format!("/dev/kmsg: {e}"))?;
	for test in tests {
		let (status, detail) = judge(test.run(job.seed, job.amounts));
		// A test fails as well if the kernel has logged a warning in its time.
		let complaints = kmsg.complaints_of(&test.name);
		let complaints = complaints.map_err(|e| format!("/dev/kmsg: {e}"))?;
		let (status, detail) = if complaints.is_empty() {
			(status, detail)
		} else {
			let first = complaints.first().map_or("", |line| line);
			let count = complaints.len();
			(
				Status::Fail,
				format!("the kernel complains, {count} times: {first:?}; {detail}"),
			)
		};
		say(&Line::Test {
			name: &test.name,
			status,
			detail: &detail,
		});
	}
	Ok(())
}
