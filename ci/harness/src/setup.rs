// SPDX-License-Identifier: GPL-2.0-only
//! Downloads that `ci/setup` makes only when a test needs them.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::paths;

/// Exit code of `ci/setup` if the download is not available here.
const NOT_TO_BE_HAD: i32 = 3;

/// The result.
pub enum Brought {
	/// It is available.
	Here(PathBuf),
	/// It is not available, for this reason.
	NotToBeHad(String),
}

/// Keeps the archive of a kernel's source for the series that it is of.
pub fn keep_source(file: &Path) -> Result<()> {
	let mut setup = Command::new(paths::root().join("ci/setup"));
	let status = setup.arg("source").arg(file).stdout(Stdio::null()).status();
	if !status.context("ci/setup can't be run")?.success() {
		bail!("{}: not used", file.display());
	}
	Ok(())
}

/// Call `ci/setup` to install something; pass its messages on at once.
pub fn bring(what: &str) -> Result<Brought> {
	let mut setup = Command::new(paths::root().join("ci/setup"))
		.arg(what)
		.stdin(Stdio::null())
		.stdout(Stdio::piped())
		.stderr(Stdio::piped())
		.spawn()
		.context("ci/setup can't be run")?;
	let mut last = String::new();
	for line in BufReader::new(setup.stderr.take().context("no pipe")?).lines() {
		last = line?;
		eprintln!("{last}");
	}
	// The output is one line, which fits into the pipe before it is read.
	let mut path = String::new();
	let mut stdout = setup.stdout.take().context("no pipe")?;
	stdout.read_to_string(&mut path)?;
	let status = setup.wait()?;
	if status.code() == Some(NOT_TO_BE_HAD) {
		let why = last.strip_prefix("setup: ").unwrap_or(&last);
		return Ok(Brought::NotToBeHad(why.to_owned()));
	}
	if !status.success() {
		bail!("ci/setup {what} failed ({status}): {last}");
	}
	Ok(Brought::Here(PathBuf::from(path.trim_end())))
}
