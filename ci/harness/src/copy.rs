// SPDX-License-Identifier: GPL-2.0-only
//! Copies of large folders: whether there is room, and nothing half-made after a failure.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths;
use crate::process;

/// The unit of `st_blocks`.
const BLOCK: u64 = 512;

/// Copies a folder with all that is below it, for `what`. There may be nothing at `to`.
///
/// A file system that can share the blocks of both copies does so. Hard links would save as
/// much elsewhere, but a build writes some files in place.
pub fn tree(what: &str, from: &Path, to: &Path) -> Result<()> {
	let parent = to.parent().context("a copy has a folder")?;
	fs::create_dir_all(parent)
		.with_context(|| format!("can't make the folder {}", parent.display()))?;
	tree_into(what, from, to, free(parent)?)
}

/// The same with this many free bytes.
fn tree_into(what: &str, from: &Path, to: &Path, free: u64) -> Result<()> {
	let needed = with_build(size(from)?);
	if free < needed && !shares_blocks(from, to) {
		let folder = to.parent().unwrap_or(to);
		bail!("{}", no_room(what, folder, needed, free));
	}
	let mut cp = Command::new("cp");
	cp.args(["-a", "-T", "--reflink=auto", "--"]);
	run(cp.args([from, to])).inspect_err(|_| remove_part(to))
}

/// Runs cp, and gives the first line of its complaints: a full disk has one for each file.
pub fn run(cp: &mut Command) -> Result<()> {
	let output = cp
		.env("LC_ALL", "C")
		.stdin(Stdio::null())
		.output()
		.context("cp can't be run")?;
	if !output.status.success() {
		let complaints = String::from_utf8_lossy(&output.stderr);
		let first = complaints.lines().next().unwrap_or("cp failed");
		bail!("{first}");
	}
	Ok(())
}

/// Removes what a failed copy left.
pub fn remove_part(part: &Path) {
	if let Err(error) = process::remove(part) {
		process::say(format_args!("{error:#}"));
	}
}

/// Bytes on the disk of all that is below a folder.
fn size(folder: &Path) -> Result<u64> {
	let mut bytes = 0;
	let entries =
		fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))?;
	for entry in entries {
		let entry = entry?;
		let metadata = entry.metadata()?;
		bytes += metadata.blocks() * BLOCK;
		if metadata.is_dir() {
			bytes += size(&entry.path())?;
		}
	}
	Ok(bytes)
}

/// A copied tree and what is built in it: some per cent more, for a kernel with patches.
fn with_build(size: u64) -> u64 {
	size + size / 16
}

/// Free bytes for this user in the file system of a folder.
fn free(folder: &Path) -> Result<u64> {
	let of = rustix::fs::statvfs(folder)
		.with_context(|| format!("can't tell the free space of {}", folder.display()))?;
	Ok(of.f_bavail * of.f_frsize)
}

/// Whether a copy takes no space, tried with a file of the folder.
fn shares_blocks(from: &Path, to: &Path) -> bool {
	let files = process::files_below(from).unwrap_or_default();
	let Some(file) = files.first() else {
		return false;
	};
	let probe = process::beside(to, ".probe");
	let mut cp = Command::new("cp");
	let shared = run(cp.arg("--reflink=always").args([file, &probe])).is_ok();
	remove_part(&probe);
	shared
}

fn no_room(what: &str, folder: &Path, needed: u64, free: u64) -> String {
	let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
	format!(
		"{what} needs {} in {}, and {} are free",
		gib(needed),
		paths::short(folder),
		gib(free)
	)
}

#[cfg(test)]
mod tests {
	use super::*;
	use tempfile::TempDir;

	/// A folder with `from`, which has three files.
	fn scratch() -> TempDir {
		let scratch = tempfile::tempdir().unwrap();
		for file in ["from/a", "from/b", "from/sub/c"] {
			let file = scratch.path().join(file);
			fs::create_dir_all(file.parent().unwrap()).unwrap();
			fs::write(file, vec![1; 10_000]).unwrap();
		}
		scratch
	}

	#[test]
	fn a_tree_is_copied_where_there_is_room() {
		let scratch = scratch();
		let (from, to) = (scratch.path().join("from"), scratch.path().join("new/to"));
		tree("the copy", &from, &to).unwrap();
		assert_eq!(fs::read(to.join("sub/c")).unwrap(), vec![1; 10_000]);
		assert!(size(&to).unwrap() >= 30_000);
		assert!(free(&to).unwrap() > 0);
	}

	#[test]
	fn a_tree_is_not_copied_where_there_is_none() {
		let scratch = scratch();
		let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
		let needed = with_build(size(&from).unwrap());
		let result = tree_into("the copy", &from, &to, needed - 1);
		// Some file systems need no room for a copy.
		if !shares_blocks(&from, &to) {
			let error = result.unwrap_err().to_string();
			assert!(error.starts_with("the copy needs "), "{error}");
			assert!(!to.exists());
		}
		process::remove(&to).unwrap();
		tree_into("the copy", &from, &to, needed).unwrap();
		let names = fs::read_dir(scratch.path()).unwrap().count();
		assert_eq!(names, 2, "only from and to are there");
	}

	#[test]
	fn a_full_disk_is_one_line() {
		let folder = paths::root().join("target/kernel/6.12");
		let line = no_room("kernel 6.12", &folder, 2 << 30, 300 << 20);
		assert_eq!(
			line,
			"kernel 6.12 needs 2.0 GiB in target/kernel/6.12, and 0.3 GiB are free"
		);
	}

	#[test]
	fn a_failed_copy_leaves_nothing_and_one_line() {
		let scratch = scratch();
		let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
		// Neither file can be written: a complaint each.
		fs::create_dir_all(to.join("a")).unwrap();
		fs::create_dir_all(to.join("b")).unwrap();
		let error = tree("the copy", &from, &to).unwrap_err().to_string();
		assert!(error.starts_with("cp: cannot overwrite"), "{error}");
		assert_eq!(error.lines().count(), 1, "{error}");
		assert!(!to.exists());
		assert!(from.join("a").is_file());
	}
}
