// SPDX-License-Identifier: GPL-2.0-only
//! Machines that measure at the same time.

use anyhow::Result;
use harness::jobs::{self, Task};
use protocol::Column;

/// A machine's work. One that has more paths to go takes longer.
pub(super) fn task<'a, T>(
	name: String,
	paths: &[Column],
	work: impl FnOnce() -> Result<T> + Send + 'a,
) -> Task<'a, T> {
	Task {
		name,
		after: Vec::new(),
		alone: false,
		seconds: paths.len() as u32,
		work: Box::new(work),
	}
}

/// Does all of it, and gives the results in the order of the tasks.
pub(super) fn all<T: Send>(tasks: Vec<Task<'_, T>>) -> Vec<Result<T>> {
	let mut results: Vec<_> = tasks.iter().map(|_| None).collect();
	jobs::run(jobs::count(), tasks, |index, result| {
		results[index] = Some(result);
	});
	results.into_iter().flatten().collect()
}
