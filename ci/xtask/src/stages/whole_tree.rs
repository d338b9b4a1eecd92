// SPDX-License-Identifier: GPL-2.0-only
//! Stage `tree`: a kernel tree that contains all of kvm-p9.
//!
//! `cargo xtask patches export --linux` lays the series into a copy of the unpatched tree. The
//! folder of KVM is built there with make alone, and each of its objects must be the one that the
//! kernel under test is linked from.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::{paths, process};

use crate::patches::{self, linux};
use crate::stage::{Args, Need, Part, Stage, stage};

use self::same::difference;

mod same;

/// A copy of a kernel tree, and a build of one folder.
pub const STAGE: Stage = stage("tree", |args| {
	let part = |series| {
		let work = move || tree(args, series);
		Part::new([Need::Kernel(series)], 1, work).on(series)
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

/// The folder that is built.
const FOLDER: &str = "arch/powerpc/kvm";
/// The object that the crates become.
const RUST: &str = "kvm_p9_rust.o";

fn tree(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	let name = "a tree with all sources";
	if !args.all && !args.names("tree") {
		let why = "a copy of a kernel tree; with --all or by name";
		return Ok(vec![Check::skipped(name, why)]);
	}
	let image = kernel::build(series, false)?;
	let folder = paths::target().join("test").join(series.file("tree"));
	process::remove(&folder)?;
	let prepare = |make: &mut Command| linux::without_cargo(make, &folder.join("bin"));
	let built = kernel::build_laid(series, &folder, |tree| linux::lay(tree).map(drop), prepare)?;
	let (ours, theirs) = (objects(&image.tree())?, objects(&built)?);
	let mut checks = Vec::new();
	let names: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
	ensure!(names.contains(&RUST.to_owned()), "{FOLDER} has no {RUST}");
	for name in names {
		let complaint = match (ours.get(name), theirs.get(name)) {
			(Some(ours), Some(theirs)) => difference(&fs::read(ours)?, &fs::read(theirs)?)?,
			(Some(_), None) => Some("was not built in the tree".to_owned()),
			_ => Some("was built in the tree only".to_owned()),
		};
		checks.push(Check::new(format!("{name} is the same"), complaint));
	}
	let again = linux::lay(&built).err();
	let refused = again.is_some_and(|error| error.to_string().contains("already"));
	let complaint = (!refused).then(|| "not refused".to_owned());
	checks.push(Check::new("a second time", complaint));
	checks.push(Check::of("as commits", commits(series)));
	process::remove(&folder)?;
	Ok(checks)
}

/// In a git repository the series becomes commits, one for each patch and one for the sources.
fn commits(series: &'static Series) -> Result<()> {
	let stock = kernel::stock_tree(series)?.src;
	let repository = paths::target().join("test").join(series.file("tree-git"));
	let mut files = patches::touched(&series.folder())?;
	files.insert("Makefile".to_owned());
	patches::import(&stock, &files, Path::new("/nonexistent"), &repository)?;
	linux::lay(&repository)?;
	let count = |range: &str| -> Result<usize> {
		let mut git = Command::new("git");
		git.current_dir(&repository)
			.args(["rev-list", "--count", range]);
		Ok(process::output(&mut git)?.parse()?)
	};
	let expected = series.patches()?.len() + 1;
	let found = count("stock..HEAD")?;
	ensure!(found == expected, "{found} commits, not {expected}");
	let mut git = Command::new("git");
	git.current_dir(&repository).args(["status", "--porcelain"]);
	let left = process::output(&mut git)?;
	ensure!(left.is_empty(), "left over: {left}");
	process::remove(&repository)
}

/// The objects of the folder that were compiled, by name.
fn objects(tree: &Path) -> Result<BTreeMap<String, PathBuf>> {
	let mut objects = BTreeMap::new();
	for entry in fs::read_dir(tree.join(FOLDER))? {
		let path = entry?.path();
		if path.extension().is_some_and(|extension| extension == "o") {
			let name = path.file_name().and_then(|name| name.to_str());
			objects.insert(name.context("a name is not UTF-8")?.to_owned(), path);
		}
	}
	Ok(objects)
}
