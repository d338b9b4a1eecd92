// SPDX-License-Identifier: GPL-2.0-only
//! What a machine is to do: one JSON object in its initramfs.

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
	/// Rounds of a register test, on each path.
	pub rounds: u64,
	/// Minutes of the soak test.
	pub soak_minutes: u64,
}

impl Default for Amounts {
	fn default() -> Self {
		Self {
			tce_calls: 16_384,
			rounds: 5_000,
			soak_minutes: 10,
		}
	}
}
