// SPDX-License-Identifier: GPL-2.0-only
//! What the runner wants: JSON objects in a file, one after the other.

use cases::Case;
use protocol::block::MAX_BATCHES;
use protocol::{Column, GuestMode};
use serde::Deserialize;

/// Where the objects are, if no other file is named: in the folder in which the program starts. For
/// init that is the root of the initramfs.
const FILE: &str = "job";

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
		/// Also collect the spans of the Rust path (`kvm_p9.stats`).
		#[serde(default)]
		spans: bool,
	},
}

/// The same, understood.
pub struct Job {
	pub cases: Vec<&'static Case>,
	pub guests: Vec<GuestMode>,
	pub paths: Vec<Column>,
	pub iterations: u64,
	pub batches: u64,
	pub spans: bool,
}

fn named<T>(names: &[String], what: &str, find: fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
	names
		.iter()
		.map(|name| find(name).ok_or_else(|| format!("there is no {what} \"{name}\"")))
		.collect()
}

impl Raw {
	fn understood(self) -> Result<Job, String> {
		let Self::Bench {
			cases,
			guests,
			paths,
			iterations,
			batches,
			spans,
		} = self;
		if iterations == 0 || batches == 0 || batches > MAX_BATCHES as u64 {
			return Err(format!(
				"{batches} batches of {iterations}; from 1 to {MAX_BATCHES} of at least 1"
			));
		}
		Ok(Job {
			cases: named(&cases, "case", Case::from_name)?,
			guests: named(&guests, "guest mode", GuestMode::from_name)?,
			paths: named(&paths, "path", Column::from_name)?,
			iterations,
			batches,
			spans,
		})
	}
}

/// Reads the jobs. A program that is not init may name another file.
pub fn read() -> Result<Vec<Job>, String> {
	let named = std::env::args().nth(1).filter(|_| !vmm::init::is_init());
	let file = named.unwrap_or_else(|| FILE.to_owned());
	let text = std::fs::read_to_string(&file).map_err(|e| format!("{file}: {e}"))?;
	let jobs: Vec<Job> = serde_json::Deserializer::from_str(&text)
		.into_iter::<Raw>()
		.map(|raw| raw.map_err(|e| e.to_string())?.understood())
		.collect::<Result<_, _>>()
		.map_err(|e| format!("{file}: {e}"))?;
	if jobs.is_empty() {
		return Err(format!("{file}: no job"));
	}
	Ok(jobs)
}
