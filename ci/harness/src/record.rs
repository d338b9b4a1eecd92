// SPDX-License-Identifier: GPL-2.0-only
//! Records of checks that passed, in the cache that all checkouts share.
//!
//! Some checks depend on files and on versions of programs only, and take minutes. A hash
//! of all that they depend on is their key. While the key stays the same, the record
//! stands for the checks, and each of them says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::check::{Check, Verdict};
use crate::paths;
use crate::process::{self, say};

/// Records of one name that are kept: checkouts with other patches share the cache.
const KEPT: usize = 16;

/// Checks that all passed.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
	/// Hash of all that the checks depend on.
	key: String,
	/// When they passed.
	date: String,
	/// Their names.
	checks: Vec<String>,
}

/// The checks of a record with this key, or the checks that `work` makes.
///
/// `anew` makes the checks although there is a record. Only if all of them pass, and `key`
/// is the same afterwards, a record is left.
pub fn checks(
	name: &str,
	anew: bool,
	key: impl Fn() -> Result<String>,
	work: impl FnOnce() -> Result<Vec<Check>>,
) -> Result<Vec<Check>> {
	checks_in(&paths::cache()?.join("passed"), name, anew, key, work)
}

fn checks_in(
	folder: &Path,
	name: &str,
	anew: bool,
	key: impl Fn() -> Result<String>,
	work: impl FnOnce() -> Result<Vec<Check>>,
) -> Result<Vec<Check>> {
	let before = key()?;
	let path = path(folder, name, &before);
	if !anew && let Some(record) = load(&path, &before) {
		let checks = record.checks.into_iter();
		return Ok(checks
			.map(|name| Check::recorded(name, record.date.as_str()))
			.collect());
	}
	// A run that fails or is interrupted leaves none.
	process::remove(&path)?;
	let checks = work()?;
	let passed = |check: &Check| matches!(check.verdict, Verdict::Passed);
	if !checks.is_empty() && checks.iter().all(passed) && key()? == before {
		let record = Record {
			key: before,
			date: now()?,
			checks: checks.iter().map(|check| check.name.clone()).collect(),
		};
		// The checks passed all the same.
		if let Err(error) = save(&path, &record).and_then(|()| prune(folder, name)) {
			say(format_args!("{name}: no record is kept: {error:#}"));
		}
	}
	Ok(checks)
}

fn path(folder: &Path, name: &str, key: &str) -> PathBuf {
	let short = key.get(..12).unwrap_or(key);
	folder.join(format!("{name}_{short}.json"))
}

/// The record, if it is whole and of this key.
fn load(path: &Path, key: &str) -> Option<Record> {
	let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
	(record.key == key && !record.checks.is_empty()).then_some(record)
}

fn save(path: &Path, record: &Record) -> Result<()> {
	let folder = path.parent().context("a record has a folder")?;
	let _lock = process::lock(&process::beside(folder, ".lock"), "records of checks")?;
	let mut text = serde_json::to_string_pretty(record)?;
	text.push('\n');
	process::write_whole(path, text.as_bytes())
}

/// Removes the oldest records of a name.
fn prune(folder: &Path, name: &str) -> Result<()> {
	let mut records: Vec<(SystemTime, PathBuf)> = Vec::new();
	for entry in fs::read_dir(folder)? {
		let entry = entry?;
		let of = entry.file_name();
		let of = of.to_str().and_then(|file| file.rsplit_once('_'));
		if of.is_some_and(|(of, _)| of == name) {
			records.push((entry.metadata()?.modified()?, entry.path()));
		}
	}
	records.sort();
	let surplus = records.len().saturating_sub(KEPT);
	for (_, path) in records.iter().take(surplus) {
		process::remove(path)?;
	}
	Ok(())
}

fn now() -> Result<String> {
	process::output(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))
}

#[cfg(test)]
mod tests {
	use super::*;
	use anyhow::bail;
	use std::cell::Cell;
	use tempfile::TempDir;

	/// A folder of records.
	struct Scratch {
		folder: PathBuf,
		_parent: TempDir,
	}

	impl Scratch {
		fn new() -> Self {
			let parent = tempfile::tempdir().unwrap();
			Self {
				folder: parent.path().join("records"),
				_parent: parent,
			}
		}

		/// Whether the checks were made, and whether all of them say that they are recorded.
		fn run(&self, anew: bool, key: &str) -> (bool, bool) {
			let made = Cell::new(false);
			let work = || {
				made.set(true);
				Ok(vec![Check::new("one", None), Check::new("two", None)])
			};
			let checks =
				checks_in(&self.folder, "stage", anew, || Ok(key.to_owned()), work).unwrap();
			let names: Vec<_> = checks.iter().map(|check| check.name.as_str()).collect();
			assert_eq!(names, ["one", "two"]);
			let recorded = |check: &Check| matches!(&check.verdict, Verdict::Recorded(date) if date.ends_with(" UTC"));
			(made.get(), checks.iter().all(recorded))
		}

		fn files(&self) -> usize {
			fs::read_dir(&self.folder).map_or(0, Iterator::count)
		}
	}

	const MADE: (bool, bool) = (true, false);
	const RECORDED: (bool, bool) = (false, true);

	#[test]
	fn a_record_stands_for_checks_with_its_key_only() {
		let scratch = Scratch::new();
		// The name of the file has the start of the key only.
		let (key, other) = ("0123456789abcdef", "0123456789abcdee");
		assert_eq!(scratch.run(false, key), MADE);
		assert_eq!(scratch.run(false, key), RECORDED);
		assert_eq!(scratch.run(false, other), MADE);
		assert_eq!(scratch.run(false, key), MADE);
		assert_eq!(scratch.run(true, key), MADE);
		assert_eq!(scratch.run(false, key), RECORDED);
	}

	#[test]
	fn a_record_that_is_not_whole_is_not_used() {
		let scratch = Scratch::new();
		assert_eq!(scratch.run(false, "key"), MADE);
		let file = path(&scratch.folder, "stage", "key");
		let whole = fs::read_to_string(&file).unwrap();
		for end in [0, 1, whole.len() / 2, whole.trim_end().len() - 1] {
			fs::write(&file, &whole[..end]).unwrap();
			assert_eq!(scratch.run(false, "key"), MADE, "{end}");
		}
		let empty = r#"{"key": "key", "date": "today", "checks": []}"#;
		fs::write(&file, empty).unwrap();
		assert_eq!(scratch.run(false, "key"), MADE);
		assert_eq!(scratch.run(false, "key"), RECORDED);
	}

	#[test]
	fn what_does_not_pass_leaves_no_record() {
		let scratch = Scratch::new();
		let key = || Ok("key".to_owned());
		for verdict in [
			Verdict::Failed("no".to_owned()),
			Verdict::Skipped("no".to_owned()),
		] {
			// The record of an earlier run goes, too.
			assert_eq!(scratch.run(true, "key"), MADE);
			assert_eq!(scratch.files(), 1);
			let mut checks = vec![Check::new("one", None), Check::new("two", None)];
			checks[1].verdict = verdict;
			checks_in(&scratch.folder, "stage", true, key, || Ok(checks)).unwrap();
			assert_eq!(scratch.files(), 0);
		}
		assert_eq!(scratch.run(false, "key"), MADE);
		let interrupted = || bail!("interrupted");
		assert!(checks_in(&scratch.folder, "stage", true, key, interrupted).is_err());
		assert_eq!(scratch.files(), 0);
		checks_in(&scratch.folder, "stage", false, key, || Ok(Vec::new())).unwrap();
		assert_eq!(scratch.files(), 0);
	}

	#[test]
	fn what_changed_meanwhile_is_not_recorded() {
		let scratch = Scratch::new();
		let calls = Cell::new(0);
		let key = || {
			calls.set(calls.get() + 1);
			Ok(calls.get().to_string())
		};
		let work = || Ok(vec![Check::new("one", None)]);
		checks_in(&scratch.folder, "stage", false, key, work).unwrap();
		assert_eq!((calls.get(), scratch.files()), (2, 0));
	}

	#[test]
	fn old_records_go() {
		let scratch = Scratch::new();
		for key in 0..KEPT + 3 {
			assert_eq!(scratch.run(false, &format!("key {key}")), MADE);
		}
		assert_eq!(scratch.files(), KEPT);
		let newest = format!("key {}", KEPT + 2);
		assert_eq!(scratch.run(false, &newest), RECORDED);
	}
}
