// SPDX-License-Identifier: GPL-2.0-only
//! A scheduler that runs several jobs at the same time.
//!
//! A machine that counts instructions is one thread, and most of a linker's work is one
//! thread, too: one job after the other would leave one of two cores idle. Counted
//! instructions do not depend on the load of the build machine. Work with limits in real
//! time does, so such a job can ask to run alone.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

use anyhow::{Result, anyhow};

use crate::process;

/// Limit of jobs at the same time: more has not been tried, and each needs memory.
const MOST: usize = 4;

/// How many jobs this machine runs at the same time.
pub fn count() -> usize {
	thread::available_parallelism()
		.map_or(1, usize::from)
		.min(MOST)
}

/// One piece of work.
pub struct Task<'a, T> {
	/// Name of the work, for a log.
	pub name: String,
	/// Indexes of the tasks that have to end before this one begins. This task begins even if
	/// one of them fails.
	pub after: Vec<usize>,
	/// No other task runs at the same time.
	pub alone: bool,
	/// Approximate time in seconds. A task at the start of a long chain begins early.
	pub seconds: u32,
	/// The work.
	pub work: Box<dyn FnOnce() -> Result<T> + Send + 'a>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
	Waiting,
	Running,
	Ended,
}

/// Decides which task begins next.
struct Plan {
	after: Vec<Vec<usize>>,
	alone: Vec<bool>,
	/// Seconds from the begin of a task to the end of the longest chain that waits for it.
	urgency: Vec<u32>,
	states: Vec<State>,
}

impl Plan {
	fn new<T>(tasks: &[Task<'_, T>]) -> Self {
		let mut urgency: Vec<_> = tasks.iter().map(|task| task.seconds).collect();
		// A task is listed after the tasks that it waits for.
		for (index, task) in tasks.iter().enumerate().rev() {
			for &before in &task.after {
				assert!(before < index, "{} waits for what follows it", task.name);
				urgency[before] = urgency[before].max(tasks[before].seconds + urgency[index]);
			}
		}
		Self {
			after: tasks.iter().map(|task| task.after.clone()).collect(),
			alone: tasks.iter().map(|task| task.alone).collect(),
			urgency,
			states: vec![State::Waiting; tasks.len()],
		}
	}

	fn running(&self) -> impl Iterator<Item = usize> {
		(0..self.states.len()).filter(|&index| self.states[index] == State::Running)
	}

	/// The next task to begin, if one can begin.
	fn next(&mut self, at_once: usize) -> Option<usize> {
		let running = self.running().count();
		if running >= at_once || self.running().any(|index| self.alone[index]) {
			return None;
		}
		let ready = |index: &usize| {
			let ended = |&before: &usize| self.states[before] == State::Ended;
			self.states[*index] == State::Waiting && self.after[*index].iter().all(ended)
		};
		// The first of the most urgent. A task that runs alone waits until the others are done.
		let most = |alone: bool| {
			(0..self.states.len())
				.rev()
				.filter(|&index| self.alone[index] == alone)
				.filter(ready)
				.max_by_key(|&index| self.urgency[index])
		};
		let next = most(false).or_else(|| if running == 0 { most(true) } else { None })?;
		self.states[next] = State::Running;
		Some(next)
	}

	fn ended(&mut self, index: usize) {
		self.states[index] = State::Ended;
	}
}

/// Runs all tasks and passes the result of each to `done` when the task ends. A task that
/// panics has failed; the others continue.
pub fn run<T: Send>(
	at_once: usize,
	tasks: Vec<Task<'_, T>>,
	mut done: impl FnMut(usize, Result<T>),
) {
	let mut plan = Plan::new(&tasks);
	let mut work: Vec<_> = tasks.into_iter().map(|task| Some(task.work)).collect();
	let (sender, receiver) = mpsc::channel();
	thread::scope(|scope| {
		loop {
			while let Some(index) = plan.next(at_once.max(1)) {
				let work = work[index].take().expect("begun once");
				let (sender, tag) = (sender.clone(), process::tag());
				scope.spawn(move || {
					process::set_tag(tag);
					let result = panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
						Err(anyhow!("the runner panicked; its words are above"))
					});
					// The receiver outlives the scope.
					let _ = sender.send((index, result));
				});
			}
			if plan.running().next().is_none() {
				break;
			}
			let (index, result) = receiver.recv().expect("one is running");
			plan.ended(index);
			done(index, result);
		}
	});
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::sync::Mutex;
	use std::sync::atomic::{AtomicUsize, Ordering};

	fn task(name: &str, after: &[usize], alone: bool, seconds: u32) -> Task<'static, ()> {
		Task {
			name: name.to_owned(),
			after: after.to_vec(),
			alone,
			seconds,
			work: Box::new(|| Ok(())),
		}
	}

	#[test]
	fn the_longest_chain_begins_first() {
		let tasks = [
			task("short", &[], false, 5),
			task("build", &[], false, 1),
			task("test", &[1], false, 50),
			task("long", &[], false, 20),
		];
		let mut plan = Plan::new(&tasks);
		assert_eq!(plan.next(2), Some(1));
		assert_eq!(plan.next(2), Some(3));
		assert_eq!(plan.next(2), None);
		plan.ended(3);
		// The test is not ready.
		assert_eq!(plan.next(2), Some(0));
		plan.ended(1);
		assert_eq!(plan.next(2), Some(2));
		assert_eq!(plan.next(2), None);
		plan.ended(0);
		assert_eq!(plan.next(2), None);
	}

	#[test]
	fn on_one_lane_the_order_is_the_same_each_time() {
		let tasks = [
			task("a", &[], false, 1),
			task("b", &[], true, 100),
			task("c", &[], false, 1),
			task("d", &[0], false, 1),
		];
		let mut plan = Plan::new(&tasks);
		let mut order = Vec::new();
		while let Some(next) = plan.next(1) {
			assert_eq!(plan.next(1), None);
			plan.ended(next);
			order.push(next);
		}
		assert_eq!(order, [0, 2, 3, 1]);
	}

	#[test]
	fn who_wants_to_be_alone_is() {
		let tasks = [
			task("a", &[], false, 1),
			task("alone", &[], true, 100),
			task("b", &[1], false, 1),
			task("c", &[1], false, 1),
		];
		let mut plan = Plan::new(&tasks);
		assert_eq!(plan.next(2), Some(0));
		assert_eq!(plan.next(2), None);
		plan.ended(0);
		assert_eq!(plan.next(2), Some(1));
		assert_eq!(plan.next(2), None);
		plan.ended(1);
		assert_eq!((plan.next(2), plan.next(2)), (Some(2), Some(3)));
	}

	#[test]
	fn lanes_are_used_and_failures_stay_where_they_are() {
		let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
		let both = std::sync::Barrier::new(2);
		let work = |index: usize| -> Result<usize> {
			most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
			if index < 2 {
				both.wait();
			}
			now.fetch_sub(1, Ordering::SeqCst);
			match index {
				0 => Err(anyhow!("failed")),
				3 => panic!("a test's panic"),
				_ => Ok(index),
			}
		};
		let work = &work;
		let tasks = (0..6).map(|index| Task {
			name: index.to_string(),
			after: if index < 2 { Vec::new() } else { vec![0] },
			alone: index == 4,
			seconds: 1,
			work: Box::new(move || work(index)),
		});
		let results = Mutex::new(vec![None; 6]);
		run(2, tasks.collect(), |index, result| {
			results.lock().unwrap()[index] = Some(result.map_err(|error| error.to_string()));
		});
		let results = results.into_inner().unwrap();
		let failed = |index: usize| results[index].as_ref().unwrap().as_ref().unwrap_err();
		assert_eq!(failed(0), "failed");
		assert!(failed(3).contains("panicked"));
		for index in [1, 2, 4, 5] {
			assert_eq!(results[index], Some(Ok(index)));
		}
		assert_eq!(most.into_inner(), 2);
	}
}
