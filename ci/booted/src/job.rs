// SPDX-License-Identifier: GPL-2.0-only
//! What a machine is to do: one JSON object in its initramfs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Tests to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
	/// Their names.
	pub tests: Vec<String>,
	/// For what is random in them.
	pub seed: u64,
	/// How many there are of what there can be any number of.
	#[serde(flatten)]
	pub amounts: Amounts,
}

/// How many there are of what there can be any number of.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Amounts {
	/// Random hcalls of a test of TCEs.
	pub tce_calls: u64,
	/// Random hcalls of a test of the page table of a hash guest.
	pub hpt_calls: u64,
	/// Rounds of a register test, on each path.
	pub rounds: u64,
	/// Minutes of the soak test.
	pub soak_minutes: u64,
	/// What the longest tests do of what they do with `--all`, in percent.
	pub percent: u64,
}

impl Amounts {
	/// With `--all`.
	pub const ALL: Self = Self {
		tce_calls: 16_384,
		hpt_calls: 500_000,
		rounds: 5_000,
		soak_minutes: 10,
		percent: 100,
	};

	/// So many of what a long test does `all` times with `--all`.
	pub fn part(&self, all: u64) -> u64 {
		all * self.percent / 100
	}

	/// How long a test goes on that takes so many milliseconds with `--all`.
	pub fn millis(&self, all: u64) -> Duration {
		Duration::from_millis(self.part(all))
	}
}

impl Default for Amounts {
	/// Half of what takes longest, and fewer random hcalls of the page table.
	fn default() -> Self {
		Self {
			hpt_calls: Self::ALL.tce_calls,
			rounds: Self::ALL.rounds / 2,
			percent: 50,
			..Self::ALL
		}
	}
}
