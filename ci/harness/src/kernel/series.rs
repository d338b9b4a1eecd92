// SPDX-License-Identifier: GPL-2.0-only
//! The kernel series that are known, and their patches.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::paths;
use crate::process::{self, Usage};

/// A kernel series that we know.
#[derive(Debug, PartialEq, Eq)]
pub struct Series {
	/// As in Debian's `linux-source-NAME`.
	pub name: &'static str,
	/// Our patches add the Rust path, and with it [`RUST_OPTION`].
	pub(super) rust: bool,
	/// Whose patches apply to this one, too, unless it has its own of the same name.
	patches_of: Option<&'static str>,
}

/// All of them, the main one first.
pub const SERIES: [Series; 3] = [
	Series {
		name: "6.12",
		rust: true,
		patches_of: None,
	},
	Series {
		name: "5.10",
		rust: false,
		patches_of: None,
	},
	Series {
		name: "7.3",
		rust: true,
		patches_of: Some("6.12"),
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

	/// Our patches, in their order.
	pub fn patches(&self) -> Result<Vec<PathBuf>> {
		let own = patches_in(self.name)?;
		match self.patches_of {
			Some(other) => Ok(overlaid(patches_in(other)?, own)),
			None => Ok(own),
		}
	}

	/// The patches that only this series has, and those of the same name that they stand
	/// for.
	pub fn own_patches(&self) -> Result<Vec<(PathBuf, Option<PathBuf>)>> {
		let others = match self.patches_of {
			Some(other) => patches_in(other)?,
			None => Vec::new(),
		};
		let same_name = |own: &Path| {
			let mut others = others.iter();
			others
				.find(|other| other.file_name() == own.file_name())
				.cloned()
		};
		let own = patches_in(self.name)?.into_iter();
		Ok(own.map(|own| (own.clone(), same_name(&own))).collect())
	}
}

fn patches_in(series: &str) -> Result<Vec<PathBuf>> {
	let folder = paths::root().join("arch/powerpc/patches").join(series);
	let mut patches = process::files_below(&folder)?;
	patches.retain(|file| {
		file.extension()
			.is_some_and(|extension| extension == "patch")
	});
	Ok(patches)
}

/// The patches of both lists in the order of their names; of two with the same name, the
/// second list's.
fn overlaid(below: Vec<PathBuf>, above: Vec<PathBuf>) -> Vec<PathBuf> {
	let mut by_name = BTreeMap::new();
	for patch in below.into_iter().chain(above) {
		by_name.insert(patch.file_name().map(OsStr::to_owned), patch);
	}
	by_name.into_values().collect()
}

/// What a patch adds to and takes away from files, without where that is.
pub fn changes(patch: &str) -> Vec<&str> {
	let mut changes: Vec<_> = patch
		.lines()
		.skip_while(|line| !line.starts_with("diff --git "))
		.filter(|line| !line.starts_with("+++ ") && !line.starts_with("--- "))
		.filter(|line| line.starts_with(['+', '-']))
		.collect();
	changes.sort_unstable();
	changes
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
	fn a_series_takes_the_patches_that_it_does_not_have() {
		let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
		let below = paths(&["6/0001-a.patch", "6/0002-b.patch", "6/0003-c.patch"]);
		let above = paths(&["7/0002-b.patch", "7/0002-x.patch"]);
		assert_eq!(
			overlaid(below, above),
			paths(&[
				"6/0001-a.patch",
				"7/0002-b.patch",
				"7/0002-x.patch",
				"6/0003-c.patch"
			])
		);
	}

	#[test]
	fn changes_are_the_same_wherever_they_are() {
		let patch = |at, context, new| {
			format!(
				"Subject: x\n---\n a | 2 +-\ndiff --git a/a b/a\n--- a/a\n+++ b/a\n@@ {at} @@\n {context}\n-one\n+{new}\n"
			)
		};
		let (a, b) = (
			patch("-1,2 +1,2", "x", "two"),
			patch("-9,2 +9,2", "y", "two"),
		);
		assert_eq!(changes(&a), ["+two", "-one"]);
		assert_eq!(changes(&a), changes(&b));
		assert_ne!(changes(&a), changes(&patch("-1,2 +1,2", "x", "three")));
	}
}
