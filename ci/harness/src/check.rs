// SPDX-License-Identifier: GPL-2.0-only
//! Checks, and how they ended.

use anyhow::Result;

/// How one check ended.
pub enum Verdict {
	/// Passed.
	Passed,
	/// Passed on this date. Nothing that the check depends on has changed since.
	Recorded(String),
	/// Failed, for this reason.
	Failed(String),
	/// Not made, for this reason.
	Skipped(String),
}

/// One check.
pub struct Check {
	/// Its name.
	pub name: String,
	/// How it ended.
	pub verdict: Verdict,
}

impl Check {
	/// Passed if there is no complaint.
	pub fn new(name: impl Into<String>, complaint: Option<String>) -> Self {
		Self {
			name: name.into(),
			verdict: complaint.map_or(Verdict::Passed, Verdict::Failed),
		}
	}

	/// Passed if it is `Ok`.
	pub fn of(name: impl Into<String>, result: Result<()>) -> Self {
		Self::new(name, result.err().map(|error| format!("{error:#}")))
	}

	/// Passed on this date, and not made again.
	pub fn recorded(name: impl Into<String>, date: impl Into<String>) -> Self {
		Self {
			name: name.into(),
			verdict: Verdict::Recorded(date.into()),
		}
	}

	/// Skipped, for this reason.
	pub fn skipped(name: impl Into<String>, why: impl Into<String>) -> Self {
		Self {
			name: name.into(),
			verdict: Verdict::Skipped(why.into()),
		}
	}
}

/// Number of checks by how they ended.
#[derive(Default)]
pub struct Tally {
	/// Passed.
	pub passed: usize,
	/// Those of them that passed in an earlier run.
	pub recorded: usize,
	/// Failed.
	pub failed: usize,
	/// Skipped.
	pub skipped: usize,
}

impl Tally {
	/// Counts them.
	pub fn of<'a>(checks: impl Iterator<Item = &'a Check>) -> Self {
		let mut tally = Self::default();
		for check in checks {
			match check.verdict {
				Verdict::Passed => tally.passed += 1,
				Verdict::Recorded(_) => {
					tally.passed += 1;
					tally.recorded += 1;
				}
				Verdict::Failed(_) => tally.failed += 1,
				Verdict::Skipped(_) => tally.skipped += 1,
			}
		}
		tally
	}

	/// As the user reads it.
	pub fn text(&self) -> String {
		let mut text = format!("{} passed", self.passed);
		if self.recorded > 0 {
			text.push_str(&format!(" ({} in an earlier run)", self.recorded));
		}
		text.push_str(&format!(", {} failed", self.failed));
		if self.skipped > 0 {
			text.push_str(&format!(", {} skipped", self.skipped));
		}
		text
	}
}

/// What a part of a stage found.
#[derive(Default)]
pub struct Found {
	/// Text that is shown as well: tables.
	pub text: String,
	/// The checks.
	pub checks: Vec<Check>,
}

impl From<Vec<Check>> for Found {
	fn from(checks: Vec<Check>) -> Self {
		Self {
			text: String::new(),
			checks,
		}
	}
}

/// Lists the checks that failed, were skipped, or passed in an earlier run.
pub fn list<'a>(stage: &str, checks: impl Iterator<Item = &'a Check>) {
	for Check { name, verdict } in checks {
		match verdict {
			Verdict::Passed => {}
			Verdict::Recorded(date) => {
				println!("passed {stage} {name}: as on {date}: unchanged since");
			}
			Verdict::Failed(why) => println!("FAILED {stage} {name}: {why}"),
			Verdict::Skipped(why) => println!("skipped {stage} {name}: {why}"),
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn checks_of_an_earlier_run_are_counted_apart() {
		let text = |checks: &[Check]| Tally::of(checks.iter()).text();
		let checks = [
			Check::new("a", None),
			Check::recorded("b", "2026-11-28 20:00 UTC"),
			Check::skipped("c", "why"),
		];
		assert_eq!(text(&checks[..1]), "1 passed, 0 failed");
		assert_eq!(
			text(&checks),
			"2 passed (1 in an earlier run), 0 failed, 1 skipped"
		);
	}
}
