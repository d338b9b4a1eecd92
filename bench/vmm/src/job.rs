// SPDX-License-Identifier: GPL-2.0-only
//! What the runner wants: one JSON object in the initramfs.

use cases::Case;
use protocol::block::MAX_BATCHES;
use protocol::{Column, GuestMode};
use serde::Deserialize;

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
}

/// The same, understood.
pub struct Job {
	pub cases: Vec<&'static Case>,
	pub guests: Vec<GuestMode>,
	pub paths: Vec<Column>,
	pub iterations: u64,
	pub batches: u64,
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
	let Raw::Bench {
		cases,
		guests,
		paths,
		iterations,
		batches,
	} = serde_json::from_str(&text).map_err(|e| format!("{FILE}: {e}"))?;
	if iterations == 0 || batches == 0 || batches > MAX_BATCHES as u64 {
		return Err(format!(
			"{FILE}: {batches} batches of {iterations}; from 1 to {MAX_BATCHES} of at least 1"
		));
	}
	Ok(Job {
		cases: named(&cases, "case", Case::from_name)?,
		guests: named(&guests, "guest mode", GuestMode::from_name)?,
		paths: named(&paths, "path", Column::from_name)?,
		iterations,
		batches,
	})
}
