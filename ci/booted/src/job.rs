// SPDX-License-Identifier: GPL-2.0-only
//! What the runner wants: one JSON object in the initramfs.

use serde::Deserialize;

use crate::{registers, tce};

/// Where it is.
const FILE: &str = "/job";

/// The runner's wish. All tests if there is no name, but those that are excepted.
#[derive(Deserialize)]
#[serde(tag = "job", rename_all = "lowercase")]
pub enum Job {
	Test {
		tests: Vec<String>,
		#[serde(default)]
		except: Vec<String>,
		seed: u64,
		/// How many random hcalls a test of TCEs does.
		#[serde(default = "default_tce_calls")]
		tce_calls: u64,
		/// How many rounds each path does.
		#[serde(default = "default_rounds")]
		rounds: u64,
		/// How long the soak test goes on.
		#[serde(default)]
		soak_minutes: u64,
	},
}

fn default_rounds() -> u64 {
	registers::ROUNDS
}

fn default_tce_calls() -> u64 {
	tce::CALLS
}

/// Reads it.
pub fn read() -> Result<Job, String> {
	let text = std::fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
	serde_json::from_str(&text).map_err(|e| format!("{FILE}: {e}"))
}
