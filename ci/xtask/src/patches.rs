// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask patches`: a folder of patches as a git branch, and back.
//!
//! The branch starts at the unpatched files of the kernel. `import` makes it with
//! `git am`, `export` writes the folder with `git format-patch`. What is written depends
//! on the commits only: not on the machine, on its git configuration or on the time.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use harness::kernel::{self, COVER_LETTER, DEFAULT_SERIES, Series};
use harness::paths;
use harness::process::{self, Usage, say};

pub mod linux;

/// The branch that the patches are.
const BRANCH: &str = "series";
/// The tag of the commit that the branch starts at.
const STOCK: &str = "stock";
/// Stands for an object's name where a hash would change with each rebase.
const NO_HASH: &str = "0000000000000000000000000000000000000000";

/// Folders whose sources are in the branch although no patch touches them.
const EDITED: [&str; 5] = [
	"arch/powerpc/include",
	"arch/powerpc/kvm",
	"arch/powerpc/platforms/powernv",
	"drivers/vfio",
	"virt/kvm",
];

/// Commands of `cargo xtask patches`.
#[derive(clap::Subcommand)]
pub enum Task {
	/// Make a git branch of a series' patches, to be edited there
	Import {
		#[command(flatten)]
		branch: Branch,
		/// Take the patches of another series, to port them
		#[arg(long, value_name = "SERIES")]
		from: Option<String>,
		/// Replace a repository that is there
		#[arg(long)]
		force: bool,
	},
	/// Write a series' patches from its git branch; or lay a series into a kernel tree
	Export {
		#[command(flatten)]
		branch: Branch,
		/// A kernel tree that gets the patches of its version, with all sources: as commits if it is
		/// a git repository. It builds with make and rustc, without cargo and without this checkout
		#[arg(long, value_name = "DIR", conflicts_with_all = ["series", "repository"])]
		linux: Option<PathBuf>,
	},
}

/// Which series, and where its branch is.
#[derive(clap::Args)]
pub struct Branch {
	/// Kernel series
	#[arg(long, default_value = DEFAULT_SERIES)]
	series: String,
	/// The repository [default: target/patches/SERIES]
	#[arg(long, value_name = "FOLDER")]
	repository: Option<PathBuf>,
}

impl Branch {
	fn series(&self) -> Result<&'static Series> {
		Series::find(&self.series)
	}

	fn repository(&self) -> PathBuf {
		let given = self.repository.clone();
		given.unwrap_or_else(|| paths::target().join("patches").join(&self.series))
	}
}

/// `cargo xtask patches`
pub fn main(task: &Task) -> Result<()> {
	match task {
		Task::Import {
			branch,
			from,
			force,
		} => {
			let series = branch.series()?;
			let repository = branch.repository();
			if repository.exists() && !force {
				return Err(Usage(format!(
					"{} exists; --force replaces it",
					paths::short(&repository)
				))
				.into());
			}
			let tree = kernel::stock_tree(series)?.src;
			let mut files = touched(&series.folder())?;
			for name in EDITED {
				files.extend(sources(&tree, Path::new(name))?);
			}
			match from {
				None => import(&tree, &files, &series.folder(), &repository)?,
				Some(from) => port(&tree, files, Series::find(from)?, &repository)?,
			}
			println!("{}", paths::short(&repository));
			Ok(())
		}
		Task::Export {
			linux: Some(tree),
			branch: _,
		} => {
			let patches = linux::lay(tree)?;
			say(format_args!(
				"laid Linux {} with kvm-p9 into {}; the same as patches: {}",
				linux::series_of(tree)?.name,
				tree.display(),
				paths::short(&patches)
			));
			Ok(())
		}
		Task::Export {
			branch,
			linux: None,
		} => {
			let folder = branch.series()?.folder();
			let count = export(&branch.repository(), &folder)?;
			say(format_args!("{count} patches in {}", paths::short(&folder)));
			Ok(())
		}
	}
}

/// The files that the patches of a folder touch.
pub fn touched(folder: &Path) -> Result<BTreeSet<String>> {
	let mut touched = BTreeSet::new();
	for patch in kernel::patches_in(folder)? {
		touched.extend(kernel::touched_files(&fs::read_to_string(patch)?));
	}
	Ok(touched)
}

/// The sources below a folder of a tree, whether it is built or not.
fn sources(tree: &Path, folder: &Path) -> Result<Vec<String>> {
	let is_source = |name: &str| {
		matches!(name.rsplit_once('.'), Some((stem, "c" | "h" | "S")) if !stem.ends_with(".mod"))
			|| name == "Makefile"
			|| name.starts_with("Kconfig")
	};
	let mut found = Vec::new();
	for entry in fs::read_dir(tree.join(folder))
		.with_context(|| format!("can't read {}", folder.display()))?
	{
		let entry = entry?;
		let path = folder.join(entry.file_name());
		let kind = entry.file_type()?;
		if kind.is_dir() && entry.file_name() != "generated" {
			found.extend(sources(tree, &path)?);
		} else if kind.is_file() && entry.file_name().to_str().is_some_and(is_source) {
			found.extend(path.to_str().map(str::to_owned));
		}
	}
	Ok(found)
}

/// Makes a repository whose branch is the patches of a folder, on top of files of a tree.
pub fn import(
	tree: &Path,
	files: &BTreeSet<String>,
	folder: &Path,
	repository: &Path,
) -> Result<()> {
	process::remove(repository)?;
	fs::create_dir_all(repository)?;
	for file in files {
		let from = tree.join(file);
		// The others are files that a patch makes.
		if from.is_file() {
			process::copy_whole(&from, &repository.join(file))?;
		}
	}
	let git = Git(repository);
	git.run(&["init", "--quiet", "--initial-branch", BRANCH])?;
	git.run(&["add", "--all", "--force"])?;
	git.run(&["commit", "--quiet", "--allow-empty", "--message=stock"])?;
	git.run(&["tag", STOCK])?;
	describe(&git, folder)?;
	apply(&git, &[], folder)
}

/// Makes a repository whose branch is another series' patches, as far as they apply. What
/// git needs to merge those that do not apply by themselves is in the repository.
fn port(
	tree: &Path,
	mut files: BTreeSet<String>,
	from: &'static Series,
	repository: &Path,
) -> Result<()> {
	let folder = from.folder();
	files.extend(touched(&folder)?);
	let other = process::beside(repository, ".from");
	import(
		&kernel::stock_tree(from)?.src,
		&touched(&folder)?,
		&folder,
		&other,
	)?;
	let none = process::beside(repository, ".none");
	import(tree, &files, &none, repository)?;
	let git = Git(repository);
	let source = other.canonicalize()?;
	let source = source.to_str().context("the folder's name is not UTF-8")?;
	git.run(&[
		"fetch",
		"--quiet",
		source,
		&format!("{BRANCH}:{}", from.name),
	])?;
	process::remove(&other)?;
	describe(&git, &folder)?;
	apply(&git, &["--3way"], &folder)
		.context("resolve the conflict in the repository, then run git am --continue there")
}

fn describe(git: &Git, folder: &Path) -> Result<()> {
	let Ok(cover) = fs::read_to_string(folder.join(COVER_LETTER)) else {
		return Ok(());
	};
	let description = description(&cover).context("the cover letter can't be read")?;
	git.run(&[
		"config",
		&format!("branch.{BRANCH}.description"),
		&description,
	])
	.map(drop)
}

fn apply(git: &Git, options: &[&str], folder: &Path) -> Result<()> {
	let patches = kernel::patches_in(folder)?;
	if patches.is_empty() {
		return Ok(());
	}
	let mut am = git.command(&["am", "--quiet", "--committer-date-is-author-date"]);
	process::output(am.args(options).args(patches)).map(drop)
}

/// Checks that a series' patches apply with `git am`, and that its folder is what the
/// branch made of them exports.
pub fn check_roundtrip(series: &Series, tree: &Path) -> Result<()> {
	let folder = series.folder();
	let repository = paths::target()
		.join("test")
		.join(format!("patches-{}", series.name));
	let exported = process::beside(&repository, "-exported");
	process::remove(&exported)?;
	import(tree, &touched(&folder)?, &folder, &repository)?;
	export(&repository, &exported)?;
	let (kept, made) = (contents(&folder)?, contents(&exported)?);
	let names: BTreeSet<_> = kept.keys().chain(made.keys()).collect();
	let differing: Vec<_> = names
		.into_iter()
		.filter(|name| kept.get(*name) != made.get(*name))
		.map(String::as_str)
		.collect();
	if !differing.is_empty() {
		bail!(
			"not what cargo xtask patches export writes: {}",
			differing.join(", ")
		);
	}
	Ok(())
}

/// The patches of a folder and its cover letter, by name.
fn contents(folder: &Path) -> Result<BTreeMap<String, String>> {
	let mut contents = BTreeMap::new();
	for file in process::files_below(folder)? {
		if file.extension() == Some(OsStr::new("patch")) {
			let name = file.file_name().and_then(OsStr::to_str);
			let name = name.context("a patch's name is not UTF-8")?.to_owned();
			contents.insert(name, fs::read_to_string(&file)?);
		}
	}
	Ok(contents)
}

/// Writes the patches of a repository's branch to a folder, and removes all others there.
/// Returns how many.
pub fn export(repository: &Path, folder: &Path) -> Result<usize> {
	let git = Git(repository);
	let range = format!("{STOCK}..{BRANCH}");
	let part = process::beside(folder, ".part");
	process::remove(&part)?;
	fs::create_dir_all(&part)?;
	let described = git
		.run(&["config", &format!("branch.{BRANCH}.description")])
		.is_ok_and(|text| !text.is_empty());
	let out = format!("--output-directory={}", part.display());
	let mut options = vec![
		"format-patch",
		"--quiet",
		"--zero-commit",
		"--no-signature",
		"--no-thread",
		"--no-renames",
		"--no-ext-diff",
		"--no-base",
		"--abbrev=12",
		"--unified=3",
		"--diff-algorithm=myers",
		"--no-indent-heuristic",
		"--src-prefix=a/",
		"--dst-prefix=b/",
		"--subject-prefix=PATCH",
		&out,
	];
	if described {
		options.extend(["--cover-letter", "--cover-from-description=subject"]);
	}
	git.run(&[&options[..], &[&range]].concat())?;
	if described {
		let newest = git.run(&["log", "-1", "--format=%aD", BRANCH])?;
		let cover = fs::read_to_string(part.join(COVER_LETTER))?;
		fs::write(part.join(COVER_LETTER), dateless(&cover, &newest))?;
	}
	let count = kernel::patches_in(&part)?.len();
	if count == 0 {
		bail!("there is no commit in {range}");
	}
	fs::create_dir_all(folder)?;
	for old in process::files_below(folder)? {
		if old.extension() == Some(OsStr::new("patch")) {
			process::remove(&old)?;
		}
	}
	for new in process::files_below(&part)? {
		let name = new.file_name().context("a patch has a name")?;
		process::copy_whole(&new, &folder.join(name))?;
	}
	process::remove(&part)?;
	Ok(count)
}

/// A cover letter with the date of its newest patch, not of its making.
fn dateless(cover: &str, date: &str) -> String {
	let mut text = String::new();
	let mut head = true;
	for line in cover.lines() {
		head &= !line.is_empty();
		match line.strip_prefix("From ").filter(|_| head) {
			Some(_) => text.push_str(&format!("From {NO_HASH} Mon Sep 17 00:00:00 2001")),
			None if head && line.starts_with("Date: ") => text.push_str(&format!("Date: {date}")),
			None => text.push_str(line),
		}
		text.push('\n');
	}
	text.trim_end().to_owned() + "\n"
}

/// What a branch's description has to be for its cover letter to be this one: subject,
/// an empty line, and the text as far as git's own list of the patches.
fn description(cover: &str) -> Option<String> {
	let (head, body) = cover.split_once("\n\n")?;
	let mut subject = String::new();
	for line in head.lines() {
		if let Some(start) = line.strip_prefix("Subject: ") {
			subject = start.split_once("] ")?.1.to_owned();
		} else if !subject.is_empty() {
			// A long subject is folded; what follows is another header.
			match line.strip_prefix(' ') {
				Some(rest) => subject = format!("{subject} {rest}"),
				None => break,
			}
		}
	}
	// git lists the patches by author: "NAME (COUNT):".
	let lines: Vec<_> = body.lines().collect();
	let end = lines
		.iter()
		.rposition(|line| !line.starts_with(' ') && line.ends_with("):") && line.contains(" ("))?;
	let text = lines[..end].join("\n");
	(!subject.is_empty()).then(|| format!("{subject}\n\n{}\n", text.trim_end()))
}

/// git in a repository, without the user's configuration.
struct Git<'a>(&'a Path);

impl Git<'_> {
	fn command(&self, args: &[&str]) -> Command {
		let mut git = Command::new("git");
		git.current_dir(self.0)
			.env("GIT_CONFIG_GLOBAL", "/dev/null")
			.env("GIT_CONFIG_SYSTEM", "/dev/null")
			.env_remove("GIT_DIR")
			.env_remove("GIT_WORK_TREE")
			.env_remove("GIT_INDEX_FILE")
			.env("LC_ALL", "C")
			.env("TZ", "UTC")
			.stdin(Stdio::null())
			.args(["-c", &format!("user.name={}", self.name())])
			.args(["-c", &format!("user.email={}", self.email())])
			.args(args);
		git
	}

	/// The author of the newest commit, who signs the cover letter.
	fn name(&self) -> String {
		self.newest("%an").unwrap_or_else(|| "kvm-p9".to_owned())
	}

	fn email(&self) -> String {
		let email = self.newest("%ae");
		email.unwrap_or_else(|| "kvm-p9@localhost".to_owned())
	}

	fn newest(&self, what: &str) -> Option<String> {
		let output = Command::new("git")
			.current_dir(self.0)
			.args(["log", "-1", &format!("--format={what}"), BRANCH])
			.stderr(Stdio::null())
			.output()
			.ok()?;
		let text = String::from_utf8(output.stdout).ok()?;
		Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
	}

	fn run(&self, args: &[&str]) -> Result<String> {
		process::output(&mut self.command(args))
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_description_makes_its_cover_letter() {
		let cover = "From 0 Mon Sep 17 00:00:00 2001\nFrom: A <a@b>\nDate: x\n\
		             Subject: [PATCH 00/19] KVM: a\n long subject\nMIME-Version: 1.0\n\n\
		             Text (of two):\n\nparts\n\nA (2):\n  one\n  two\n\n a.c | 2 +-\n";
		assert_eq!(
			description(cover).unwrap(),
			"KVM: a long subject\n\nText (of two):\n\nparts\n"
		);
		assert!(description("no header").is_none());
	}

	/// What is exported is imported, and exported again as it was, with a cover letter and
	/// without one.
	#[test]
	fn an_imported_folder_is_exported_as_it_was() {
		let scratch = tempfile::tempdir().unwrap();
		let (tree, first) = (scratch.path().join("tree"), scratch.path().join("first"));
		fs::create_dir_all(tree.join("sub")).unwrap();
		fs::write(tree.join("sub/a.c"), "one\ntwo\nthree\n").unwrap();
		fs::create_dir_all(scratch.path().join("none")).unwrap();
		let files = BTreeSet::from(["sub/a.c".to_owned()]);
		import(&tree, &files, &scratch.path().join("none"), &first).unwrap();

		let git = Git(&first);
		for (text, message) in [("one\nTWO\nthree\n", "a: say it louder"), ("", "a: go")] {
			fs::write(first.join("sub/a.c"), text).unwrap();
			fs::write(first.join("new.c"), text).unwrap();
			git.run(&["add", "--all"]).unwrap();
			git.run(&["commit", "--quiet", "--message", message, "--signoff"])
				.unwrap();
		}
		for cover in [
			None,
			Some("KVM: two patches\n\nThe text\n(of it):\n\nis here.\n"),
		] {
			if let Some(cover) = cover {
				git.run(&["config", "branch.series.description", cover])
					.unwrap();
			}
			let (out, again) = (scratch.path().join("out"), scratch.path().join("again"));
			assert_eq!(export(&first, &out).unwrap(), 2);
			let names: Vec<_> = contents(&out).unwrap().into_keys().collect();
			let patches = ["0001-a-say-it-louder.patch", "0002-a-go.patch"];
			assert_eq!(names[names.len() - 2..], patches);
			assert_eq!(names.len(), 2 + usize::from(cover.is_some()));

			let second = scratch.path().join("second");
			import(&tree, &touched(&out).unwrap(), &out, &second).unwrap();
			assert_eq!(export(&second, &again).unwrap(), 2);
			assert_eq!(contents(&out).unwrap(), contents(&again).unwrap());
		}
	}
}
