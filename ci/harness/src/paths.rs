// SPDX-License-Identifier: GPL-2.0-only
//! Locations: the checkout, its `target/`, and the cache that outlives both.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The checkout that this runner belongs to.
pub fn root() -> PathBuf {
	// `cargo run` names the folder of the crate. Without cargo, use the folder of the build.
	let krate = env::var_os("CARGO_MANIFEST_DIR")
		.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
	krate
		.ancestors()
		.nth(2)
		.unwrap_or(Path::new("/"))
		.to_owned()
}

/// The folder of everything that is built from this checkout.
pub fn target() -> PathBuf {
	root().join("target")
}

/// Downloads and stock kernel trees, shared by all checkouts of this user.
pub fn cache() -> Result<PathBuf> {
	if let Some(cache) = env::var_os("KVM_P9_CACHE") {
		return Ok(PathBuf::from(cache));
	}
	if let Some(cache) = env::var_os("XDG_CACHE_HOME") {
		return Ok(PathBuf::from(cache).join("kvm-p9"));
	}
	let home = env::var_os("HOME").context("neither KVM_P9_CACHE nor HOME is set")?;
	Ok(PathBuf::from(home).join(".cache/kvm-p9"))
}

/// `path` as a user would write it: relative to the checkout if it lies inside.
pub fn short(path: &Path) -> String {
	path.strip_prefix(root())
		.unwrap_or(path)
		.display()
		.to_string()
}
