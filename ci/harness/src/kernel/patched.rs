// SPDX-License-Identifier: GPL-2.0-only
//! A tree with the patches, and the kernel that is built in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::kernel::base::Base;
use crate::kernel::config::enable_rust;
use crate::kernel::image::{Image, finish};
use crate::kernel::make::build_vmlinux;
use crate::process::{self, Inputs, say};
use crate::{copy, paths};

/// What a kernel is built with besides.
#[derive(Clone, Copy, Default)]
pub(super) struct Extra<'a> {
	/// Lines of its configuration.
	pub options: &'a str,
	/// Variables of its make.
	pub variables: &'a [String],
}

pub(super) fn patched_image(
	base: &Base,
	patches: &[PathBuf],
	folder: &Path,
	name: &str,
	rust: bool,
	extra: Extra<'_>,
	direct: bool,
) -> Result<Image> {
	// The snapshot is of the tree as it is mostly built.
	let snapshots = rust == base.series.rust;
	let key = || patched_key(base, patches, rust, extra);
	if let Some(image) = Image::load(folder, &key()?) {
		return Ok(image);
	}

	if !direct {
		base.complete()?;
	}
	let started = Instant::now();
	// What is there was made from something else.
	for file in ["build.json", "vmlinux", "vmlinux.stripped"] {
		process::remove(&folder.join(file))?;
	}
	let src = folder.join("src");
	if direct && !base.is_done() {
		let _lock = base.lock()?;
		base.prepare()?;
	}
	let key = stable(key, || {
		patch_tree(base, patches, folder, &src, snapshots)?;
		if rust {
			enable_rust(&src, name, &base.fragment, extra.options)?;
		}
		say(format_args!("building kernel {name}"));
		// Only a copy of a tree that is not built is built from nothing.
		let total = (!base.is_done()).then_some(base.series.steps);
		build_vmlinux(&src, base.series.name, name, extra.variables, total)
	})?;
	let image = finish(base, &src, folder, false, &key)?;
	if snapshots && extra.options.is_empty() && extra.variables.is_empty() {
		// The kernel is built all the same.
		if let Err(error) = save_snapshot(base, patches, folder) {
			say(format_args!(
				"no copy is kept for other checkouts: {error:#}"
			));
		}
	}
	say(format_args!(
		"built kernel {name} in {}",
		process::human(started.elapsed())
	));
	Ok(image)
}

/// Hash of all that a patched kernel is made from.
fn patched_key(base: &Base, patches: &[PathBuf], rust: bool, extra: Extra<'_>) -> Result<String> {
	let mut inputs = Inputs::new();
	inputs.add(&base.key).add(extra.options);
	for variable in extra.variables {
		inputs.add(variable);
	}
	for patch in patches {
		inputs.add_tree(patch)?;
	}
	if rust {
		add_rust_inputs(&mut inputs)?;
	}
	Ok(inputs.finish())
}

/// Builds what `key` is the hash of, and gives the hash. What was edited while it was
/// being built may be in it or not: then it is built once more.
fn stable(key: impl Fn() -> Result<String>, build: impl Fn() -> Result<()>) -> Result<String> {
	let mut before = key()?;
	for _ in 0..2 {
		build()?;
		let after = key()?;
		if after == before {
			return Ok(after);
		}
		say(format_args!(
			"the sources changed while they were being built"
		));
		before = after;
	}
	bail!("the sources keep changing while they are being built; leave them alone for a moment");
}

/// Keeps the built, patched tree for other checkouts of this user: the patches touch
/// headers that most of the kernel includes, so compiling after them takes minutes.
fn save_snapshot(base: &Base, patches: &[PathBuf], folder: &Path) -> Result<()> {
	let mut inputs = Inputs::new();
	inputs.add(&base.key);
	for patch in patches {
		inputs.add_tree(patch)?;
	}
	let key = inputs.finish();
	let snapshot = base.snapshot();
	let _lock = base.lock_snapshot()?;
	let done = snapshot.join("done");
	if fs::read_to_string(&done).is_ok_and(|text| text == key) {
		return Ok(());
	}
	process::remove(&snapshot)?;
	let what = format!("a copy of kernel {}", base.series.name);
	copy::tree(&what, &folder.join("src"), &snapshot.join("src"))
		.and_then(|()| process::copy_whole(&folder.join("tree"), &snapshot.join("tree")))
		.and_then(|()| process::write_whole(&done, key.as_bytes()))
		.inspect_err(|_| copy::remove_part(&snapshot))
}

/// Makes `src` the built tree with the patches applied.
///
/// The patches are applied to copies of the files that they touch, and only files
/// that differ are put into the tree: after a change of a patch, make compiles what
/// that change touches.
fn patch_tree(
	base: &Base,
	patches: &[PathBuf],
	folder: &Path,
	src: &Path,
	snapshots: bool,
) -> Result<()> {
	let mut touched = BTreeSet::new();
	for patch in patches {
		touched.extend(touched_files(&fs::read_to_string(patch)?));
	}
	let stage = folder.join("patched");
	process::remove(&stage)?;
	fs::create_dir_all(&stage)?;
	for file in &touched {
		let from = base.src().join(file);
		if from.is_file() {
			process::copy_whole(&from, &stage.join(file))?;
		}
	}
	if let Err(error) = apply(&stage, patches) {
		process::remove(&stage)?;
		// Goes only if nothing else is in it.
		let _ = fs::remove_dir(folder);
		return Err(error);
	}

	// The stamp names the tree that was copied, then each file that is not as in it.
	let stamp = folder.join("tree");
	let known = fs::read_to_string(&stamp).unwrap_or_default();
	let mut lines = known.lines();
	if lines.next() == Some(base.key.as_str()) && src.exists() {
		touched.extend(lines.map(str::to_owned));
	} else {
		// As long as it is not built, no other process may begin to.
		let unbuilt = if base.is_done() {
			None
		} else {
			Some(base.lock()?)
		};
		say(format_args!(
			"copying the tree of Linux {}",
			base.package_version
		));
		process::remove(&stamp)?;
		process::remove(src)?;
		let part = process::beside(src, ".part");
		process::remove(&part)?;
		let _lock = base.lock_snapshot()?;
		let snapshot = base.snapshot();
		let name = folder.file_name().unwrap_or_default().to_string_lossy();
		let what = format!("kernel {name}");
		let snapshot = Some(snapshot).filter(|there| snapshots && there.join("done").exists());
		let from = match &snapshot {
			Some(snapshot) => snapshot.join("src"),
			None => base.src(),
		};
		if let Err(error) = copy::tree(&what, &from, &part) {
			process::remove(&stage)?;
			let _ = fs::remove_dir(folder);
			return Err(error);
		}
		if let Some(snapshot) = snapshot {
			let tree = fs::read_to_string(snapshot.join("tree"))?;
			touched.extend(tree.lines().skip(1).map(str::to_owned));
		}
		fs::rename(&part, src)?;
		drop(unbuilt);
	}
	let files: Vec<&str> = touched.iter().map(String::as_str).collect();
	process::write_whole(
		&stamp,
		format!("{}\n{}\n", base.key, files.join("\n")).as_bytes(),
	)?;
	for file in files {
		let (new, old) = (stage.join(file), src.join(file));
		// A file that no patch touches any more is the stock tree's again.
		let new = if new.is_file() {
			new
		} else {
			base.src().join(file)
		};
		if !new.is_file() {
			process::remove(&old)?;
		} else if fs::read(&old).ok() != Some(fs::read(&new)?) {
			process::write_whole(&old, &fs::read(&new)?)?;
		}
	}
	process::remove(&stage)
}

/// The files that a patch changes, makes or removes.
pub fn touched_files(patch: &str) -> impl Iterator<Item = String> {
	patch
		.lines()
		.filter_map(|line| {
			line.strip_prefix("--- a/")
				.or_else(|| line.strip_prefix("+++ b/"))
		})
		.filter_map(|name| name.split('\t').next())
		.map(str::to_owned)
}

/// What a kernel with the Rust path is made from, apart from the patches.
fn add_rust_inputs(inputs: &mut Inputs) -> Result<()> {
	let root = paths::root();
	for part in [
		"arch/powerpc/kernel",
		"arch/powerpc/src",
		"arch/powerpc/Cargo.toml",
		"arch/powerpc/build.rs",
		"entry",
		"hcall",
		"hpt",
		"tce",
		"ci/kbuild",
		"Cargo.toml",
		"Cargo.lock",
	] {
		inputs.add(part).add_tree(&root.join(part))?;
	}
	inputs.add(process::output(Command::new("rustc").arg("-vV"))?);
	Ok(())
}

/// Applies a series of patches to a tree, or says which one does not apply to what.
pub fn apply(tree: &Path, patches: &[PathBuf]) -> Result<()> {
	for patch in patches {
		for dry in [true, false] {
			let mut command = Command::new("patch");
			command.args([
				"-p1",
				"--batch",
				"--forward",
				"--fuzz=0",
				"--no-backup-if-mismatch",
			]);
			if dry {
				command.arg("--dry-run");
			}
			let output = command
				.arg("-d")
				.arg(tree)
				.arg("-i")
				.arg(patch)
				.output()
				.context("patch can't be run")?;
			if !output.status.success() {
				let text = String::from_utf8_lossy(&output.stdout);
				bail!(
					"the kernel tree does not match: {} does not apply to {}",
					paths::short(patch),
					failed_file(&text).unwrap_or("it")
				);
			}
		}
	}
	Ok(())
}

/// The file that the first complaint in patch's output is about.
fn failed_file(text: &str) -> Option<&str> {
	let mut file = None;
	for line in text.lines() {
		if let Some(name) = line
			.strip_prefix("checking file ")
			.or_else(|| line.strip_prefix("patching file "))
		{
			file = Some(name);
		} else if line.starts_with("can't find file") || line.starts_with("|+++ ") {
			if let Some(name) = line.strip_prefix("|+++ b/") {
				return name.split('\t').next();
			}
		} else if line.contains("FAILED") || line.starts_with("Reversed (or previously applied)") {
			return file;
		}
	}
	file
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_file_that_does_not_match_is_named() {
		let hunk = "checking file a/one.c\nchecking file b/two.c\nHunk #1 FAILED at 3.\n1 out of 1 hunk FAILED\n";
		assert_eq!(failed_file(hunk), Some("b/two.c"));
		let missing = "can't find file to patch at input line 5\n|--- a/x.c\n|+++ b/x.c\n";
		assert_eq!(failed_file(missing), Some("x.c"));
	}

	#[test]
	fn touched_files_are_found() {
		let patch = "--- a/one.c\n+++ b/one.c\n--- /dev/null\n+++ b/new/two.c\t2026\n--- x\n";
		let files: BTreeSet<String> = touched_files(patch).collect();
		assert_eq!(
			files.into_iter().collect::<Vec<_>>(),
			["new/two.c", "one.c"]
		);
	}

	#[test]
	fn what_changed_while_it_was_built_is_built_again() {
		use std::cell::Cell;
		// How often the sources change while they are built, and how often that is.
		for (changes, builds) in [(0, 1), (1, 2), (2, 2)] {
			let (version, built) = (Cell::new(0), Cell::new(0));
			let result = stable(
				|| Ok(version.get().to_string()),
				|| {
					built.set(built.get() + 1);
					version.set(changes.min(version.get() + 1));
					Ok(())
				},
			);
			assert_eq!(built.get(), builds);
			match result {
				Ok(key) => assert_eq!(key, changes.to_string()),
				Err(error) => {
					assert_eq!(changes, 2);
					assert!(error.to_string().contains("keep changing"));
				}
			}
			assert_eq!(changes == 2, built.get() == 2 && version.get() == 2);
		}
		let failed = stable(|| Ok(String::new()), || bail!("no compiler"));
		assert_eq!(failed.unwrap_err().to_string(), "no compiler");
	}

	#[test]
	fn patches_are_applied_or_refused() {
		let folder = std::env::temp_dir().join(format!("kvm-p9-apply-{}", std::process::id()));
		fs::create_dir_all(&folder).unwrap();
		fs::write(folder.join("file"), "one\n").unwrap();
		let patch = folder.join("0001.patch");
		fs::write(&patch, "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-one\n+two\n").unwrap();
		apply(&folder, std::slice::from_ref(&patch)).unwrap();
		assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "two\n");
		let error = apply(&folder, &[patch]).unwrap_err().to_string();
		assert!(
			error.ends_with("0001.patch does not apply to file"),
			"{error}"
		);
		assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "two\n");
		fs::remove_dir_all(&folder).unwrap();
	}
}
