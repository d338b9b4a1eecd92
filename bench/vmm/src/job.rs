// SPDX-License-Identifier: GPL-2.0-only
//! What the runner wants: one JSON object in the initramfs.

use proto::block::MAX_BATCHES;
use proto::{Case, Guest, Path};
use serde::Deserialize;

use crate::{rounds, tce};

/// Where it is.
const FILE: &str = "/job";

/// The runner's wish.
#[derive(Deserialize)]
#[serde(tag = "job", rename_all = "lowercase")]
enum Raw {
	Bench {
		cases: Vec<String>,
		guests: Vec<String>,
		paths: Vec<String>,
		iterations: u64,
		batches: u64,
	},
	Test {
		tests: Vec<String>,
		#[serde(default)]
		except: Vec<String>,
		seed: u64,
		#[serde(default = "default_tce_calls")]
		tce_calls: u64,
		#[serde(default = "default_rounds")]
		rounds: u64,
		#[serde(default)]
		soak_minutes: u64,
	},
}

fn default_rounds() -> u64 {
	rounds::ROUNDS
}

fn default_tce_calls() -> u64 {
	tce::CALLS
}

/// The same, understood.
pub enum Job {
	/// Measure.
	Bench {
		cases: Vec<Case>,
		guests: Vec<Guest>,
		paths: Vec<Path>,
		iterations: u64,
		batches: u64,
	},
	/// Test; all tests if there is no name, but those that are excepted.
	Test {
		tests: Vec<String>,
		except: Vec<String>,
		seed: u64,
		/// How many random hcalls a test of TCEs does.
		tce_calls: u64,
		/// How many rounds each path does.
		rounds: u64,
		/// How long the soak test goes on.
		soak_minutes: u64,
	},
}

fn named<T>(names: &[String], what: &str, find: fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
	names
		.iter()
		.map(|name| find(name).ok_or_else(|| format!("{FILE}: there is no {what} \"{name}\"")))
		.collect()
}

/// Reads it.
pub fn read() -> Result<Job, String> {
	let text = std::fs::read_to_string(FILE).map_err(|e| format!("{FILE}: {e}"))?;
	Ok(
		match serde_json::from_str(&text).map_err(|e| format!("{FILE}: {e}"))? {
			Raw::Bench {
				cases,
				guests,
				paths,
				iterations,
				batches,
			} => {
				if iterations == 0 || batches == 0 || batches > MAX_BATCHES as u64 {
					return Err(format!(
						"{FILE}: {batches} batches of {iterations}; from 1 to {MAX_BATCHES} of at least 1"
					));
				}
				Job::Bench {
					cases: named(&cases, "case", Case::from_name)?,
					guests: named(&guests, "guest mode", Guest::from_name)?,
					paths: named(&paths, "path", Path::from_name)?,
					iterations,
					batches,
				}
			}
			Raw::Test {
				tests,
				except,
				seed,
				tce_calls,
				rounds,
				soak_minutes,
			} => Job::Test {
				tests,
				except,
				seed,
				tce_calls,
				rounds,
				soak_minutes,
			},
		},
	)
}
