// SPDX-License-Identifier: GPL-2.0-only
//! Stage `lint`: clippy without a warning, for this machine and for ppc64le.

use anyhow::Result;
use harness::check::Check;
use harness::{process, programs};

use crate::cargo::{cargo, has_cargo};
use crate::stage::{Part, Stage, log_path, stage};

/// Clippy.
pub const STAGE: Stage = Stage {
	after: &["host", "programs"],
	..stage("lint", |_| Ok(vec![Part::new([], 50, lint)]))
};

fn lint() -> Result<Vec<Check>> {
	if !has_cargo("clippy") {
		return Ok(vec![Check::skipped(
			"clippy",
			"not installed (rustup component add clippy)",
		)]);
	}
	let mut host = cargo();
	host.args(["clippy", "--all-targets", "--", "-Dwarnings"]);
	let lints = std::iter::once(("host", host)).chain(programs::lints());
	Ok(lints
		.map(|(name, mut command)| {
			let log = log_path(&format!("clippy-{name}"));
			let what = format!("clippy {name}");
			Check::of(
				&what,
				process::logged(&mut command, &log, &what, |line| line.contains("Checking")),
			)
		})
		.collect())
}
