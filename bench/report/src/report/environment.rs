// SPDX-License-Identifier: GPL-2.0-only
//! On what the figures of a report were measured.

use serde::{Deserialize, Serialize};

/// On what a report's figures were measured.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Environment {
	/// `uname -r` of the kernel under test.
	pub kernel_release: String,
	/// Hash of its configuration.
	pub config_hash: String,
	/// Hash of the Rust object that is linked into it.
	pub object_hash: String,
	/// QEMU's version.
	pub qemu: String,
	/// The option that makes it count.
	pub icount: String,
	/// The Rust compiler.
	pub rustc: String,
	/// All kernels that were booted.
	pub kernels: Vec<Kernel>,
}

/// A kernel that was booted.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Kernel {
	/// Series.
	pub series: String,
	/// `uname -r`
	pub release: String,
	/// Debian's source package.
	pub package_version: String,
	/// Hash of its configuration.
	pub config_hash: String,
	/// The C compiler.
	pub compiler: String,
}
