// SPDX-License-Identifier: GPL-2.0-only
//! Cargo, and whether it has a subcommand.

use std::process::{Command, Stdio};

use harness::paths;

/// Cargo in this checkout.
pub fn cargo() -> Command {
	let mut cargo = Command::new("cargo");
	cargo.current_dir(paths::root());
	cargo
}

/// Whether cargo has that subcommand.
pub fn has_cargo(subcommand: &str) -> bool {
	let mut cargo = cargo();
	cargo
		.args([subcommand, "--version"])
		.stdout(Stdio::null())
		.stderr(Stdio::null());
	cargo.status().is_ok_and(|status| status.success())
}
