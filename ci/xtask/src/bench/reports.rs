// SPDX-License-Identifier: GPL-2.0-only
//! Reports as files: where they are, what reads them, the page of one, and two compared.

use std::fs;
use std::path::{Path as FilePath, PathBuf};

use ::report::client::Client;
use ::report::compare::{Comparison, Limit};
use ::report::disk::Disk;
use ::report::html;
use ::report::report::Report;
use anyhow::{Context, Result, anyhow, bail};
use harness::kernel::Series;
use harness::paths;
use harness::process::{self, Usage};

/// How much slower is too slow, in percent.
pub const THRESHOLD: f64 = 0.5;

/// Reads a report, or says in a line why that can't be.
pub fn read(path: &FilePath) -> Result<Report> {
	let unusable = |why: String| Usage(format!("{}: {why}", path.display()));
	let bytes = fs::read(path).map_err(|why| unusable(why.to_string()))?;
	Ok(Report::read(&bytes).map_err(|why| unusable(why.to_string()))?)
}

/// `cargo xtask bench render`: returns where the page is.
pub fn render(json: &FilePath, output: Option<&FilePath>) -> Result<PathBuf> {
	let report = read(json)?;
	let page = output.map_or_else(|| json.with_extension("html"), FilePath::to_owned);
	if page == json {
		let why = format!("{}: the page would replace the report", page.display());
		return Err(Usage(why).into());
	}
	process::write_whole(
		&page,
		html::render(&report, disk_of(&report)?.as_ref()).as_bytes(),
	)?;
	Ok(page)
}

/// `cargo xtask bench compare`
pub(super) fn compare(base: &FilePath, new: &FilePath, threshold: f64) -> Result<()> {
	if !(threshold >= 0.0 && threshold.is_finite()) {
		let why = format!("--threshold {threshold}: a percentage of at least 0 is needed");
		return Err(Usage(why).into());
	}
	let limit = Limit {
		percent: threshold,
		slack: 0.0,
	};
	let comparison = Comparison::of(&read(base)?, &read(new)?, |_| limit);
	println!("{}", comparison.render().trim_end());
	let (compared, slower) = (comparison.differences.len(), comparison.slower().count());
	if compared == 0 {
		bail!("the reports have no figure in common");
	}
	if slower > 0 {
		bail!("{slower} of {compared} figures are more than {threshold}% slower");
	}
	Ok(())
}

/// Where a run of the benchmark leaves its report.
pub(super) fn report_folder() -> PathBuf {
	paths::target().join("bench")
}

/// A file of figures beside the reference, whose name begins like that. Other series than the main
/// one may have none.
fn beside<T>(
	series: &Series,
	name: &str,
	parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>> {
	let path = paths::root().join(format!("bench/{}.json", series.file(name)));
	if !series.is_main() && !path.exists() {
		return Ok(None);
	}
	let text = fs::read_to_string(&path).with_context(|| paths::short(&path).to_string())?;
	let parsed = parse(&text).map_err(|why| anyhow!("{}: {why}", paths::short(&path)))?;
	Ok(Some(parsed))
}

/// What reads from a passed-through disk cost.
pub fn disk(series: &Series) -> Result<Option<Disk>> {
	beside(series, "reference-disk", Disk::read)
}

/// What a real guest costs.
pub fn client(series: &Series) -> Result<Option<Client>> {
	beside(series, "reference-client", Client::read)
}

/// The same for the kernel that a report is about.
pub(super) fn disk_of(report: &Report) -> Result<Option<Disk>> {
	let kernel = report.environment.kernels.first();
	match kernel.map(|kernel| Series::find(&kernel.series)) {
		Some(Ok(series)) => disk(series),
		// A report of another version of this program, or an invented one.
		_ => Ok(None),
	}
}

/// What `ci/test` compares a series with.
pub fn reference_path(series: &Series) -> PathBuf {
	let name = series.file("reference");
	paths::root().join(format!("bench/{name}.json"))
}
