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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
	/// As in Debian's `linux-source-NAME`.
	pub name: &'static str,
	/// Our patches add the Rust path, and with it [`RUST_OPTION`].
	pub(super) rust: bool,
	/// About how many files a whole build makes, to tell how far it is.
	pub(super) steps: usize,
}

/// All of them. The first one is the default of each command, and the one that the tests and the
/// documents are about.
pub const SERIES: [Series; 3] = [
	Series {
		name: "6.12",
		rust: true,
		steps: 1360,
	},
	Series {
		name: "5.10",
		rust: false,
		steps: 1030,
	},
	Series {
		name: "7.3",
		rust: true,
		steps: 1440,
	},
];

/// The name of the default series, for the command line.
pub const DEFAULT_SERIES: &str = SERIES[0].name;

/// The name of the other series with the Rust path.
pub const NEXT_SERIES: &str = next().name;

const fn next() -> Series {
	let mut index = 1;
	while index < SERIES.len() {
		if SERIES[index].rust {
			return SERIES[index];
		}
		index += 1;
	}
	panic!("there is no other series with the Rust path")
}

impl Series {
	/// The default.
	pub fn main() -> &'static Self {
		&SERIES[0]
	}

	/// Whether the series is the default.
	pub fn is_main(&self) -> bool {
		self.name == DEFAULT_SERIES
	}

	/// All series with the Rust path, the default first.
	pub fn all_rust() -> impl Iterator<Item = &'static Self> {
		SERIES.iter().filter(|series| series.rust)
	}

	/// Finds a series with the Rust path by its name.
	pub fn find_rust(name: &str) -> Result<&'static Self> {
		let series = Self::find(name)?;
		if !series.rust {
			let why =
				format!("Linux {name} has no Rust path; it only serves a column of the benchmark");
			return Err(Usage(why).into());
		}
		Ok(series)
	}

	/// A name for the series' files: nothing is added for the default.
	pub fn file(&self, name: &str) -> String {
		if self.is_main() {
			name.to_owned()
		} else {
			format!("{name}-{}", self.name)
		}
	}

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
	fn the_order_of_the_table_says_which_is_the_default() {
		assert!(Series::main().rust && Series::main().is_main());
		assert_eq!(Series::main().name, DEFAULT_SERIES);
		assert_ne!(NEXT_SERIES, DEFAULT_SERIES);
		let names: Vec<_> = Series::all_rust().map(|series| series.name).collect();
		assert_eq!(names, [DEFAULT_SERIES, NEXT_SERIES]);
		assert_eq!(Series::main().file("reference"), "reference");
		let next = Series::find_rust(NEXT_SERIES).unwrap();
		assert_eq!(next.file("reference"), format!("reference-{NEXT_SERIES}"));
	}

	#[test]
	fn a_series_without_the_rust_path_is_refused() {
		let error = Series::find_rust("5.10").unwrap_err();
		assert!(error.is::<Usage>());
		assert!(error.to_string().starts_with("Linux 5.10 has no Rust path"));
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
