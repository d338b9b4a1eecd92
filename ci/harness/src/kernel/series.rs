// SPDX-License-Identifier: GPL-2.0-only
//! The kernel series that are known, and their patches.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::paths;
use crate::process::{self, Usage};

/// The file in a folder of patches that is not a patch.
pub const COVER_LETTER: &str = "0000-cover-letter.patch";

/// A kernel series that we know.
#[derive(Debug, PartialEq, Eq)]
pub struct Series {
	/// As in Debian's `linux-source-NAME`.
	pub name: &'static str,
	/// Our patches add the Rust path, and with it [`RUST_OPTION`].
	pub(super) rust: bool,
}

/// All of them, the main one first.
pub const SERIES: [Series; 3] = [
	Series {
		name: "6.12",
		rust: true,
	},
	Series {
		name: "5.10",
		rust: false,
	},
	Series {
		name: "7.3",
		rust: true,
	},
];

impl Series {
	/// Finds a series by its name.
	pub fn find(name: &str) -> Result<&'static Self> {
		SERIES
			.iter()
			.find(|series| series.name == name)
			.ok_or_else(|| {
				let known: Vec<_> = SERIES.iter().map(|series| series.name).collect();
				Usage(format!(
					"unknown kernel series '{name}'; known: {}",
					known.join(", ")
				))
				.into()
			})
	}

	/// The folder of our patches.
	pub fn folder(&self) -> PathBuf {
		paths::root().join("arch/powerpc/patches").join(self.name)
	}

	/// Our patches, in their order.
	pub fn patches(&self) -> Result<Vec<PathBuf>> {
		patches_in(&self.folder())
	}

	/// Those of them that fix bugs of the kernel, whether our option is on or off.
	pub fn fixes(&self) -> Result<Vec<PathBuf>> {
		let mut fixes = Vec::new();
		for patch in self.patches()? {
			if is_fix(&fs::read_to_string(&patch)?) {
				fixes.push(patch);
			}
		}
		Ok(fixes)
	}
}

/// The patches of a folder in their order, without the cover letter.
pub fn patches_in(folder: &Path) -> Result<Vec<PathBuf>> {
	let mut patches = process::files_below(folder)?;
	patches.retain(|file| {
		file.extension() == Some(OsStr::new("patch"))
			&& file.file_name() != Some(OsStr::new(COVER_LETTER))
	});
	Ok(patches)
}

/// Whether a patch fixes a bug of the kernel: it has a Fixes: tag, or names a reproducer where the
/// commit that brought the bug is not known.
pub fn is_fix(patch: &str) -> bool {
	let mut message = patch.lines().take_while(|line| *line != "---");
	message.any(|line| line.starts_with("Fixes: ") || line.starts_with("Reproducer: "))
}

/// Debian's source of a series can't be had.
#[derive(Debug)]
pub struct NoSource(pub(super) &'static str);

impl fmt::Display for NoSource {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "no source of Linux {} to be had", self.0)
	}
}

impl std::error::Error for NoSource {}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn an_unknown_series_is_named() {
		let error = Series::find("4.19").unwrap_err();
		assert!(error.is::<Usage>());
		assert_eq!(
			error.to_string(),
			"unknown kernel series '4.19'; known: 6.12, 5.10, 7.3"
		);
	}

	#[test]
	fn a_fix_says_what_it_fixes_in_its_message() {
		assert!(is_fix(
			"Subject: a\n\nText.\n\nFixes: 12 (\"b\")\n---\n a | 1 +\n"
		));
		assert!(!is_fix(
			"Subject: a\n\nText.\n---\n a | 1 +\nFixes: 12 (\"b\")\n"
		));
	}
}
