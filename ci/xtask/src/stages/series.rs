// SPDX-License-Identifier: GPL-2.0-only
//! Stage `series`: the patches, as a kernel maintainer would look at them.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::{paths, process};

use crate::patches::git_am;
use crate::stage::{MAIN_SERIES, NEXT_SERIES, Part, Stage, log_path, stage};

/// checkpatch and `git am`.
pub const STAGE: Stage = Stage {
	after: &["kernel"],
	..stage("series", |_| Ok(vec![Part::new(&[], 10, series)]))
};

/// The patches, as a kernel maintainer would look at them.
fn series() -> Result<Vec<Check>> {
	let main = Series::find(MAIN_SERIES)?;
	let tree = kernel::stock_tree(main)?;
	let patches = main.patches()?;
	let mut checks: Vec<_> = patches
		.iter()
		.map(|patch| checkpatch(&tree, patch))
		.collect();
	if !patches.is_empty() {
		checks.push(Check::of(
			format!("git am {MAIN_SERIES}"),
			git_am(MAIN_SERIES, &tree, &patches),
		));
	}
	for (own, other) in Series::find(NEXT_SERIES)?.own_patches()? {
		checks.push(checkpatch(&tree, &own));
		let Some(other) = other else { continue };
		// Its own because it stands elsewhere: what it does must not fall behind.
		let name = format!(
			"{} does what {} does",
			paths::short(&own),
			paths::short(&other)
		);
		let (own, other) = (fs::read_to_string(own)?, fs::read_to_string(other)?);
		let complaint = (kernel::changes(&own) != kernel::changes(&other))
			.then(|| "they add or remove different lines".to_owned());
		checks.push(Check::new(name, complaint));
	}
	Ok(checks)
}

fn checkpatch(tree: &Path, patch: &Path) -> Check {
	let mut checkpatch = Command::new("perl");
	checkpatch
		.current_dir(tree)
		// What is new in arch/powerpc is in MAINTAINERS by its folder or its name.
		.args([
			"scripts/checkpatch.pl",
			"--quiet",
			"--ignore=FILE_PATH_CHANGES",
		])
		.arg(patch);
	let log = log_path("checkpatch");
	let result = process::logged(&mut checkpatch, &log, "checkpatch", |_| true);
	Check::of(format!("checkpatch {}", paths::short(patch)), result)
}
