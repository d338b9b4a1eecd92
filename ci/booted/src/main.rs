// SPDX-License-Identifier: GPL-2.0-only
//! The booted tests, as init of the emulated host.

#[cfg(target_arch = "powerpc64")]
fn main() -> std::process::ExitCode {
	vmm::init::run(booted::run::run)
}

#[cfg(not(target_arch = "powerpc64"))]
fn main() -> std::process::ExitCode {
	eprintln!(
		"This program is init of an emulated POWER9. `cargo xtask test booted` builds and boots it."
	);
	std::process::ExitCode::FAILURE
}
