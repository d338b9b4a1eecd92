// SPDX-License-Identifier: GPL-2.0-only
//! Stage `7.3`: the other series is built, and booted with a part of the tests.
//!
//! `--series` and `--all` run every stage on that series, and leave only the build to this one.

use anyhow::Result;
use booted::registry::{self, Also};
use harness::check::Check;
use harness::kernel::{self, NEXT_SERIES, NoSource, Series};

use crate::booted_machine::{Boot, boot, chosen_tests, names};
use crate::patches;
use crate::stage::{Args, Need, Part, Stage, stage};

/// The next series, as far as it is supported.
pub const STAGE: Stage = stage(NEXT_SERIES, |args| {
	Ok(vec![Part::new(
		[Need::Kernel(Series::main()), Need::Programs],
		60,
		|| next(args),
	)])
});

/// The next series: that it builds, that its patches are a series, and that the paths
/// work on it.
fn next(args: &Args) -> Result<Vec<Check>> {
	let series = Series::find(NEXT_SERIES)?;
	let whole = args.series()?.contains(&series);
	let chosen = whole || args.names(NEXT_SERIES);
	let image = if chosen {
		match kernel::build(series, false) {
			Err(error) if error.is::<NoSource>() => {
				return Ok(vec![Check::skipped("kernel", error.to_string())]);
			}
			image => image?,
		}
	} else {
		match kernel::build_if_warm(series)? {
			Some(image) => image,
			None => {
				let why = "its unpatched tree is not built yet, which takes 15 minutes; \
				           with --all or by name";
				return Ok(vec![Check::skipped("build and boot", why)]);
			}
		}
	};
	let mut checks = vec![Check::new("build", None)];
	let applied = patches::check_roundtrip(series, &kernel::warm_tree(series)?.src);
	checks.push(Check::of("git am, and export", applied));
	if whole {
		return Ok(checks);
	}
	let tests = chosen_tests(args, |test| test.is_also(Also::Next))?;
	let tests = names(&tests, registry::Boot::First);
	if !tests.is_empty() {
		let log = format!("booted-{NEXT_SERIES}");
		checks.extend(boot(args, &image, Boot::counted(args, log, "", tests))?);
	}
	Ok(checks)
}
