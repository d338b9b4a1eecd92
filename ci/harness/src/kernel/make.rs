// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's own make, with the cross toolchain.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result};

use crate::{paths, process};

const CROSS: &str = "powerpc64le-linux-gnu-";

pub(super) fn make(src: &Path) -> Command {
	let mut make = make_alone(src);
	make.arg(format!("KVM_P9={}", paths::root().display()));
	make
}

/// The same without this checkout.
pub(super) fn make_alone(src: &Path) -> Command {
	let mut make = Command::new("make");
	make.arg("-C").arg(src);
	make.args([
		"ARCH=powerpc",
		&format!("CROSS_COMPILE={CROSS}"),
		"LOCALVERSION=",
	]);
	// The same input gives the same image, independent of make flags in the environment.
	make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC")
		.env("KBUILD_BUILD_USER", "kvm-p9")
		.env("KBUILD_BUILD_HOST", "kvm-p9")
		.env("KBUILD_BUILD_VERSION", "1")
		.env("LC_ALL", "C")
		.env_remove("MAKEFLAGS")
		.env_remove("KCONFIG_ALLCONFIG");
	make
}

/// Builds the folder of KVM in a tree that needs no checkout.
pub(super) fn build_kvm(
	src: &Path,
	name: &str,
	prepare: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<()> {
	let mut make = make_alone(src);
	prepare(&mut make)?;
	build_kvm_in(make, &log_path(name), name)
}

/// Builds the folder of KVM with this make.
pub(super) fn build_kvm_in(mut make: Command, log: &Path, what: &str) -> Result<()> {
	make.arg(format!("-j{}", cores())).arg("arch/powerpc/kvm/");
	process::logged(&mut make, log, what, |line| line.starts_with("  "))
}

pub(super) fn build_vmlinux(
	src: &Path,
	series: &str,
	name: &str,
	variables: &[String],
	total: Option<usize>,
) -> Result<()> {
	process::logged_of(
		make(src)
			.arg(format!("-j{}", cores()))
			.args(variables)
			.arg("vmlinux"),
		&log_path(name),
		&format!("kernel {series}"),
		total,
		|line| line.starts_with("  "),
	)
}

/// QEMU's firmware loads the whole file, so symbols are left out.
pub fn strip(from: &Path, to: &Path) -> Result<()> {
	let part = process::beside(to, ".part");
	process::output(
		Command::new(format!("{CROSS}strip"))
			.arg("-o")
			.args([&part, from]),
	)
	.with_context(|| format!("{} can't be stripped", from.display()))?;
	fs::rename(&part, to)?;
	Ok(())
}

pub(super) fn compiler() -> Result<String> {
	let text = process::output(Command::new(format!("{CROSS}gcc")).arg("--version"))
		.context("install gcc-powerpc64le-linux-gnu, or run ci/setup")?;
	Ok(text.lines().next().unwrap_or_default().to_owned())
}

pub(super) fn log_path(name: &str) -> PathBuf {
	paths::target().join("kernel").join(format!("{name}.log"))
}

fn cores() -> usize {
	thread::available_parallelism().map_or(1, usize::from)
}

pub(super) fn human_cores() -> String {
	match cores() {
		1 => "1 core".to_owned(),
		n => format!("{n} cores"),
	}
}
