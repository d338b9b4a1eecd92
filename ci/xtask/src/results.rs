// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask results`: the generated parts of README.md and docs/results.md.

use std::fs;

use ::report::headline::OfSeries;
use ::report::results;
use anyhow::{Context, Result, anyhow, bail};
use harness::check::Check;
use harness::kernel::Series;
use harness::paths;
use harness::process::{self, say};

use crate::bench;

/// Options of `cargo xtask results`.
#[derive(clap::Args)]
pub struct Args {
	/// Write nothing, and fail if a file is not what this tree's reference gives
	#[arg(long)]
	check: bool,
}

/// A file's text with this tree's results in it.
type Renew = fn(&str, &[OfSeries]) -> Result<String, String>;

const FILES: [(&str, Renew); 2] = [
	("README.md", results::readme),
	("docs/results.md", results::page),
];

/// The text of a file as it is, and as it should be.
fn texts(name: &str, renew: Renew) -> Result<(String, String)> {
	let mut references = Vec::new();
	for series in Series::all_rust() {
		let report = bench::read(&bench::reference_path(series))?;
		references.push((
			series.name,
			report,
			bench::disk(series)?,
			bench::client(series)?,
		));
	}
	let of_series: Vec<_> = references
		.iter()
		.map(|(name, report, disk, client)| OfSeries {
			name,
			report,
			disk: disk.as_ref(),
			client: client.as_ref(),
		})
		.collect();
	let now = fs::read_to_string(paths::root().join(name)).with_context(|| name.to_owned())?;
	let new = renew(&now, &of_series).map_err(|why| anyhow!("{name}: {why}"))?;
	Ok((now, new))
}

/// `cargo xtask results`
pub fn main(args: &Args) -> Result<()> {
	for (name, renew) in FILES {
		let (now, new) = texts(name, renew)?;
		if now == new {
			continue;
		}
		if args.check {
			bail!("{name}: not the results of this tree; cargo xtask results writes them");
		}
		process::write_whole(&paths::root().join(name), new.as_bytes())?;
		say(format_args!("wrote {name}"));
	}
	Ok(())
}

/// One check for each file.
pub fn checks() -> Vec<Check> {
	let complaint = |name, renew| match texts(name, renew) {
		Ok((now, new)) if now == new => None,
		Ok(_) => Some("not this tree's; cargo xtask results writes them".to_owned()),
		Err(error) => Some(format!("{error:#}")),
	};
	FILES
		.map(|(name, renew)| Check::new(format!("results in {name}"), complaint(name, renew)))
		.into()
}
