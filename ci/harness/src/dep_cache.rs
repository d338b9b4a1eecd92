// SPDX-License-Identifier: GPL-2.0-only
//! Built dependencies and the built standard library, kept in the cache. `ci/setup` copies
//! them into a checkout that has built nothing yet.
//!
//! Cargo decides what it can use, by its own fingerprints of compiler, flags, features and
//! dependencies. No crate of this workspace is kept: cargo compares their time stamps, so
//! each checkout has to compile its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::process::{self, say};
use crate::{copy, paths};

/// Depth of the folders of cargo below target/: ppc64le/vmm/TARGET/PROFILE.
const DEPTH: usize = 4;

/// The folder, in each of them, that has a folder for each compiled unit.
const FINGERPRINTS: &str = ".fingerprint";

/// Files on the command line of one command.
const CHUNK: usize = 500;

#[derive(Deserialize)]
struct Metadata {
	packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
	name: String,
}

/// The names of this workspace's packages.
fn own() -> Result<BTreeSet<String>> {
	let mut cargo = Command::new("cargo");
	cargo.current_dir(paths::root());
	cargo.args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
	let metadata: Metadata = serde_json::from_str(&process::output(&mut cargo)?)?;
	Ok(metadata.packages.into_iter().map(|one| one.name).collect())
}

/// The folders of cargo below a target/.
fn folders(target: &Path) -> Result<Vec<PathBuf>> {
	let mut found = Vec::new();
	for name in names_in(target)? {
		// Kernel trees are large and have no folder of cargo.
		if name != "kernel" {
			below(&target.join(name), DEPTH - 1, &mut found)?;
		}
	}
	Ok(found)
}

fn below(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
	if folder.join(FINGERPRINTS).is_dir() {
		found.push(folder.to_owned());
	} else if depth > 0 {
		for name in names_in(folder)? {
			below(&folder.join(name), depth - 1, found)?;
		}
	}
	Ok(())
}

/// `serde-0123456789abcdef`: package and hash.
fn split(unit: &str) -> Option<(&str, &str)> {
	let (package, hash) = unit.rsplit_once('-')?;
	let hexadecimal = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
	hexadecimal.then_some((package, hash))
}

/// The hash in the name of a file in deps/.
fn hash_of(file: &str) -> Option<&str> {
	split(file.split('.').next()?).map(|(_, hash)| hash)
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
	if !folder.is_dir() {
		return Ok(Vec::new());
	}
	let name = |entry: std::io::Result<fs::DirEntry>| -> Result<String> {
		Ok(entry?.file_name().to_string_lossy().into_owned())
	};
	fs::read_dir(folder)?.map(name).collect()
}

/// The parts of a folder of cargo that are kept, relative to the folder: fingerprints first.
fn kept(folder: &Path, own: &BTreeSet<String>) -> Result<(Vec<String>, Vec<PathBuf>)> {
	let mut units = names_in(&folder.join(FINGERPRINTS))?;
	units.retain(|unit| split(unit).is_some_and(|(package, _)| !own.contains(package)));
	units.sort();
	let hashes: BTreeSet<_> = units.iter().filter_map(|unit| split(unit)).collect();
	let hashes: BTreeSet<_> = hashes.into_iter().map(|(_, hash)| hash).collect();
	let mut files = Vec::new();
	for unit in &units {
		files.push(Path::new(FINGERPRINTS).join(unit));
		let build = Path::new("build").join(unit);
		if folder.join(&build).is_dir() {
			files.push(build);
		}
	}
	for file in names_in(&folder.join("deps"))? {
		if hash_of(&file).is_some_and(|hash| hashes.contains(hash)) {
			files.push(Path::new("deps").join(file));
		}
	}
	Ok((units, files))
}

/// Keeps what this checkout has built, unless all of it is in the cache.
pub fn keep() -> Result<()> {
	let target = paths::target();
	let store = paths::cache()?.join("crates");
	let own = own()?;
	let mut all = BTreeMap::new();
	let _lock = process::lock(&process::beside(&store, ".lock"), "crates in the cache")?;
	let mut missing = false;
	for folder in folders(&target)? {
		let below = folder.strip_prefix(&target)?.to_owned();
		let (units, files) = kept(&folder, &own)?;
		let there = store.join(&below).join(FINGERPRINTS);
		missing |= units.iter().any(|unit| !there.join(unit).is_dir());
		all.insert(below, files);
	}
	if !missing {
		return Ok(());
	}
	say("keeping other people's crates, as they were built, for the next checkout");
	let part = process::beside(&store, ".part");
	process::remove(&part)?;
	let copied = all.iter().try_for_each(|(below, files)| {
		let to = part.join(below);
		fs::create_dir_all(&to).with_context(|| format!("can't make {}", to.display()))?;
		let mut chunks = files.chunks(CHUNK);
		chunks.try_for_each(|files| copy(&target.join(below), files, &to))
	});
	copied.inspect_err(|_: &anyhow::Error| copy::remove_part(&part))?;
	process::remove(&store)?;
	fs::rename(&part, &store)?;
	Ok(())
}

/// Copies files and folders below one folder to the same places below another, with their
/// time stamps.
fn copy(from: &Path, files: &[PathBuf], to: &Path) -> Result<()> {
	let mut cp = Command::new("cp");
	cp.current_dir(from)
		.args(["-a", "--reflink=auto", "--parents", "-t"])
		.arg(to)
		.arg("--")
		.args(files.iter().map(AsRef::<OsStr>::as_ref));
	copy::run(&mut cp)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn only_what_is_not_ours_is_kept() {
		let target = std::env::temp_dir().join(format!("kvm-p9-crates-{}", std::process::id()));
		let folder = target.join("plugin/release");
		let (theirs, ours) = ("0123456789abcdef", "fedcba9876543210");
		for unit in [format!("their-crate-{theirs}"), format!("our-crate-{ours}")] {
			for place in [FINGERPRINTS, "build"] {
				fs::create_dir_all(folder.join(place).join(&unit)).unwrap();
			}
		}
		fs::create_dir_all(folder.join("deps")).unwrap();
		for name in [
			format!("libtheir_crate-{theirs}.rlib"),
			format!("their_crate-{theirs}.d"),
			format!("libour_crate-{ours}.rlib"),
			format!("our_crate-{ours}"),
		] {
			fs::write(folder.join("deps").join(name), "").unwrap();
		}
		fs::create_dir_all(target.join("kernel/6.12").join(FINGERPRINTS)).unwrap();

		let found = folders(&target).unwrap();
		let own = BTreeSet::from(["our-crate".to_owned()]);
		let (units, mut files) = kept(&folder, &own).unwrap();
		let to = target.join("copy");
		fs::create_dir_all(&to).unwrap();
		copy(&folder, &files, &to).unwrap();
		let copied = to.join(format!("deps/their_crate-{theirs}.d")).is_file();
		fs::remove_dir_all(&target).unwrap();

		assert_eq!(found, [folder]);
		assert_eq!(units, [format!("their-crate-{theirs}")]);
		files.sort();
		let expected = [
			format!(".fingerprint/their-crate-{theirs}"),
			format!("build/their-crate-{theirs}"),
			format!("deps/libtheir_crate-{theirs}.rlib"),
			format!("deps/their_crate-{theirs}.d"),
		];
		assert_eq!(files, expected.map(PathBuf::from));
		assert!(copied);
	}
}
