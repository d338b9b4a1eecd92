// SPDX-License-Identifier: GPL-2.0-only
//! QEMU's plugin: whether it can be used, and its build.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use harness::paths;
use harness::process::{self, Once, say};
use harness::qemu;

/// Whether there can be a trace. If not, why.
pub fn available() -> Result<()> {
	let mut command = Command::new(qemu::QEMU);
	command.args(["-plugin", "help"]);
	command
		.stdin(Stdio::null())
		.stdout(Stdio::null())
		.stderr(Stdio::null());
	if !command.status().is_ok_and(|status| status.success()) {
		bail!("this QEMU has no plugins");
	}
	Ok(())
}

/// Whether what figures consist of can be told. If not, that is said, and a report goes
/// without.
pub fn possible() -> bool {
	match available().and_then(|()| plugin()) {
		Ok(_) => true,
		Err(error) => {
			say(format_args!(
				"{error:#}: no costly operations, phases and modelled cycles"
			));
			false
		}
	}
}

/// Builds the plugin, or finds it built: each time that the runner runs, once.
pub fn plugin() -> Result<PathBuf> {
	static BUILT: Once<PathBuf> = Once::new();
	BUILT.get(build_plugin)
}

fn build_plugin() -> Result<PathBuf> {
	let mut cargo = Command::new("cargo");
	cargo.current_dir(paths::root());
	cargo.args(["build", "--release", "--package", "kvm-p9-plugin"]);
	// A folder of its own: the cargo that runs this program may hold the lock of the usual one.
	let target = paths::target().join("plugin");
	cargo.arg("--target-dir").arg(&target);
	process::logged(
		&mut cargo,
		&paths::target().join("plugin.log"),
		"building kvm-p9-plugin",
		|line| line.trim_start().starts_with("Compiling"),
	)?;
	Ok(target.join("release/libkvm_p9_plugin.so"))
}
