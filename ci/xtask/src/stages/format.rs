// SPDX-License-Identifier: GPL-2.0-only
//! Stage `format`: the layout of the sources, and the generated parts of the documents.

use anyhow::Result;
use harness::check::Check;
use harness::process;

use crate::cargo::{cargo, has_cargo};
use crate::results;
use crate::stage::{Part, Stage, log_path, stage};

/// rustfmt, and whether the results are this tree's.
pub const STAGE: Stage = stage("format", |_| {
	Ok(vec![Part::new([], 1, || {
		let mut checks = format()?;
		checks.extend(results::checks());
		Ok(checks)
	})])
});

fn format() -> Result<Vec<Check>> {
	if !has_cargo("fmt") {
		return Ok(vec![Check::skipped(
			"rustfmt",
			"not installed (rustup component add rustfmt)",
		)]);
	}
	let mut fmt = cargo();
	fmt.args(["fmt", "--all", "--check"]);
	let result = process::logged(&mut fmt, &log_path("format"), "rustfmt", |_| true);
	Ok(vec![Check::of("rustfmt", result)])
}
