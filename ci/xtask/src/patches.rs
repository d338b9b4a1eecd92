// SPDX-License-Identifier: GPL-2.0-only
//! The patches as a series of commits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use harness::{paths, process};

use crate::stage::log_path;

/// Applies the patches with `git am`, in a repository that has the files they touch.
pub fn git_am(series: &str, tree: &Path, patches: &[PathBuf]) -> Result<()> {
	let name = format!("git-am-{series}");
	let repository = paths::target().join("test").join(&name);
	process::remove(&repository)?;
	fs::create_dir_all(&repository)?;
	for patch in patches {
		for line in fs::read_to_string(patch)?.lines() {
			let Some(file) = line.strip_prefix("--- a/") else {
				continue;
			};
			let (from, to) = (tree.join(file), repository.join(file));
			if from.is_file() && !to.exists() {
				fs::create_dir_all(to.parent().context("a file has a folder")?)?;
				fs::copy(&from, &to)?;
			}
		}
	}
	let git = |args: &[&str], patches: &[PathBuf]| {
		let mut git = Command::new("git");
		git.current_dir(&repository)
			.env("GIT_CONFIG_GLOBAL", "/dev/null")
			.env("GIT_CONFIG_SYSTEM", "/dev/null")
			.env_remove("GIT_DIR")
			.env_remove("GIT_WORK_TREE")
			.env_remove("GIT_INDEX_FILE")
			.args([
				"-c",
				"user.name=kvm-p9",
				"-c",
				"user.email=kvm-p9@localhost",
			])
			.args(args)
			.args(patches);
		process::logged(&mut git, &log_path(&name), "git am", |_| true)
	};
	git(&["init", "--quiet"], &[])?;
	git(&["add", "--all"], &[])?;
	git(&["commit", "--quiet", "--message=stock"], &[])?;
	git(&["am", "--quiet"], patches)
}
