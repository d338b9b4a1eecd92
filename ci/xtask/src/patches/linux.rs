// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask patches export --linux DIR`: a kernel tree that contains all of kvm-p9.
//!
//! The tree gets the patches of its series, then one more that adds glue, crates and makefiles. It
//! builds with make, the kernel's flags and rustc: without cargo and without this checkout.
//!
//! Everything is tried in a repository below `target/` first, so that a tree to which something
//! does not apply stays as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;

use harness::kernel::{self, Series};
use harness::paths;
use harness::process::{self, Usage};

use super::{BRANCH, Git, STOCK, export, import, touched};
use crate::cargo::cargo;

/// The folder of a kernel tree that gets the glue.
const GLUE: &str = "arch/powerpc/kvm";
/// The folder that gets crates and makefiles.
const CRATES: &str = "arch/powerpc/kvm/p9";

/// The makefile of such a tree.
const MAKEFILE: &str = include_str!("linux.mk");

/// What the last patch of the series has for a checkout, and what such a tree has instead.
const INCLUDE: [&str; 2] = [
	"ifndef KVM_P9\n\
	 $(error CONFIG_KVM_BOOK3S_HV_P9_RUST needs make KVM_P9=/path/to/kvm-p9)\n\
	 endif\n\
	 include $(KVM_P9)/arch/powerpc/kernel/Makefile.kvm_p9\n",
	"include $(srctree)/arch/powerpc/kvm/p9/Makefile.kvm_p9\n",
];
/// The same of the option's help.
const HELP: [&str; 2] = [
	"\t  The code is not part of the kernel tree. Name its checkout when\n\
	 \t  building: make KVM_P9=/path/to/kvm-p9.\n",
	"\t  The build needs rustc and the source of Rust's core library.\n",
];

const MESSAGE: &str = "KVM: PPC: Book3S HV P9: Add the sources of kvm-p9

Add glue, trampoline and crates, so that the option needs no other tree. The
makefile compiles the crates with rustc and KBUILD_RUSTFLAGS. Rust's core is
compiled from the compiler's library sources, as for CONFIG_RUST, which the
option does not need.

The crates bitflags and static_assertions are copies of what crates.io has,
without their tests.
";

/// The series that a kernel tree is of.
pub fn series_of(tree: &Path) -> Result<&'static Series> {
	let text = fs::read_to_string(tree.join("Makefile")).unwrap_or_default();
	let value = |name: &str| {
		let mut lines = text.lines();
		lines.find_map(|line| {
			Some(
				line.strip_prefix(name)?
					.trim()
					.strip_prefix('=')?
					.trim()
					.to_owned(),
			)
		})
	};
	let (Some(version), Some(level)) = (value("VERSION"), value("PATCHLEVEL")) else {
		let why = format!(
			"{} is not the source tree of a Linux kernel",
			tree.display()
		);
		return Err(Usage(why).into());
	};
	let name = format!("{version}.{level}");
	Series::find_rust(&name).map_err(|_| {
		let known: Vec<_> = Series::all_rust().map(|series| series.name).collect();
		let why = format!(
			"{} is Linux {name}; there are patches for {}",
			tree.display(),
			known.join(" and ")
		);
		Usage(why).into()
	})
}

/// Lays the series with all sources into a kernel tree: as commits, if it is the work tree of a
/// git repository, or else as changes of its files. Returns the folder with the patches.
pub fn lay(tree: &Path) -> Result<PathBuf> {
	let series = series_of(tree)?;
	ensure!(
		!tree.join(CRATES).exists(),
		"{} has {CRATES} already: nothing was changed",
		tree.display()
	);
	let work = paths::target()
		.join("patches")
		.join(format!("{}-linux", series.name));
	let repository = work.join("tree");
	let folder = series.folder();
	check(tree, &folder, &work.join("check"))?;
	let mut files = touched(&folder)?;
	files.insert(format!("{GLUE}/Makefile"));
	files.insert(format!("{GLUE}/Kconfig"));
	import(tree, &files, &folder, &repository)?;
	for (name, bytes) in sources()? {
		process::write_whole(&repository.join(name), &bytes)?;
	}
	replace(&repository.join(GLUE).join("Makefile"), INCLUDE)?;
	replace(&repository.join(GLUE).join("Kconfig"), HELP)?;
	let git = Git(&repository);
	git.run(&["add", "--all", "--force"])?;
	git.run(&["commit", "--quiet", "--signoff", "--message", MESSAGE])?;
	let patches = work.join("patches");
	export(&repository, &patches)?;
	if tree.join(".git").exists() {
		commit(tree, &patches)?;
	} else {
		let changed = git.run(&["diff", "--name-only", "--no-renames", STOCK, BRANCH])?;
		change(tree, &repository, changed.lines())?;
	}
	Ok(patches)
}

/// Checks that the patches apply, and says which one does not apply to which file.
fn check(tree: &Path, folder: &Path, scratch: &Path) -> Result<()> {
	process::remove(scratch)?;
	for file in touched(folder)? {
		let from = tree.join(&file);
		if from.is_file() {
			process::copy_whole(&from, &scratch.join(&file))?;
		}
	}
	fs::create_dir_all(scratch)?;
	kernel::apply(scratch, &kernel::patches_in(folder)?)
		.with_context(|| format!("{}: nothing was changed", tree.display()))?;
	process::remove(scratch)
}

/// Commits the patches in the repository that the tree is.
fn commit(tree: &Path, patches: &Path) -> Result<()> {
	let git = Git(tree);
	let mut am = git.command(&["am", "--quiet"]);
	if let Err(error) = process::output(am.args(kernel::patches_in(patches)?)) {
		// A work tree with changes is refused before anything is begun.
		let _ = git.run(&["am", "--abort"]);
		return Err(error.context(format!("{}: nothing was changed", tree.display())));
	}
	Ok(())
}

/// Makes files of the tree what they are in the repository: all, or none.
fn change<'a>(tree: &Path, repository: &Path, files: impl Iterator<Item = &'a str>) -> Result<()> {
	let mut before = Vec::new();
	let mut result = Ok(());
	for file in files {
		let (old, new) = (tree.join(file), repository.join(file));
		let was = old.is_file().then(|| fs::read(&old)).transpose()?;
		before.push((old.clone(), was));
		result = if new.is_file() {
			fs::read(&new)
				.map_err(anyhow::Error::from)
				.and_then(|bytes| process::write_whole(&old, &bytes))
		} else {
			process::remove(&old)
		};
		if result.is_err() {
			break;
		}
	}
	result.map_err(|error| {
		for (path, was) in before.into_iter().rev() {
			let _ = match was {
				Some(bytes) => process::write_whole(&path, &bytes),
				None => process::remove(&path),
			};
		}
		error.context(format!("{}: nothing was changed", tree.display()))
	})
}

/// Replaces a text that must be there once.
fn replace(file: &Path, [old, new]: [&str; 2]) -> Result<()> {
	let text = fs::read_to_string(file)?;
	ensure!(
		text.matches(old).count() == 1,
		"{}: the last patch of the series is not the one that is known",
		file.display()
	);
	process::write_whole(file, text.replace(old, new).as_bytes())
}

/// All files that such a tree has besides the series: path in the tree, and content.
fn sources() -> Result<BTreeMap<String, Vec<u8>>> {
	let root = paths::root();
	let mut files = BTreeMap::new();
	let glue = root.join("arch/powerpc/kernel");
	for file in process::files_below(&glue)? {
		let name = file
			.strip_prefix(&glue)?
			.to_str()
			.context("a name is not UTF-8")?;
		let to = match name {
			"Makefile.glue" => format!("{CRATES}/{name}"),
			_ if name.ends_with(".c") || name.ends_with(".h") || name.ends_with(".S") => {
				format!("{GLUE}/{name}")
			}
			_ => continue,
		};
		files.insert(to, fs::read(&file)?);
	}
	let crates = crates()?;
	for one in &crates {
		for (name, bytes) in one.files()? {
			files.insert(format!("{CRATES}/{}/{name}", one.name), bytes);
		}
	}
	files.insert(format!("{CRATES}/Makefile.kvm_p9"), MAKEFILE.into());
	files.insert(format!("{CRATES}/Makefile.crates"), list(&crates).into());
	files.insert(format!("{CRATES}/compiler_builtins.rs"), BUILTINS.into());
	Ok(files)
}

/// rustc wants a crate of that name. The object calls nothing of it: what it would call is then an
/// undefined symbol of the kernel.
const BUILTINS: &str = "// SPDX-License-Identifier: GPL-2.0-only
//! The crate that rustc adds to each crate without std. The object needs nothing of it.

#![feature(compiler_builtins)]
#![compiler_builtins]
#![no_builtins]
#![no_std]
";

/// A crate that the object or the program which makes `kvm_p9_abi.h` consists of.
struct Crate {
	/// As `extern crate` has it.
	name: String,
	folder: PathBuf,
	edition: String,
	/// What it uses, by name.
	uses: Vec<String>,
	/// From a registry.
	foreign: bool,
	in_object: bool,
	in_program: bool,
}

impl Crate {
	/// Its files, without tests.
	fn files(&self) -> Result<BTreeMap<String, Vec<u8>>> {
		let mut files = BTreeMap::new();
		for file in process::files_below(&self.folder)? {
			let name = file.strip_prefix(&self.folder)?;
			let name = name.to_str().context("a name is not UTF-8")?.to_owned();
			let source = name.starts_with("src/")
				&& name.ends_with(".rs")
				&& !name
					.split('/')
					.any(|part| part == "tests" || part == "tests.rs");
			let ours = !self.foreign && ["build.rs", "object.ld"].contains(&name.as_str());
			let licence = self.foreign && name.starts_with("LICENSE");
			if source || ours || licence {
				files.insert(name, fs::read(&file)?);
			}
		}
		ensure!(
			files.contains_key("src/lib.rs"),
			"{}: no src/lib.rs",
			self.name
		);
		Ok(files)
	}
}

/// The crates, each after those that it uses.
fn crates() -> Result<Vec<Crate>> {
	let mut metadata = cargo();
	metadata.args(["metadata", "--format-version=1", "--locked", "--offline"]);
	// Without that cargo asks for crates that only other systems need.
	metadata.args(["--filter-platform", ::kbuild::object::TARGET]);
	let metadata: Value = serde_json::from_str(&process::output(&mut metadata)?)?;
	let graph = Graph::of(&metadata)?;
	let object = graph.closure("kvm-p9-entry")?;
	let program = graph.closure("kvm-p9-kbuild")?;
	let mut crates = Vec::new();
	for id in object
		.iter()
		.chain(program.iter().filter(|id| !object.contains(id)))
	{
		let mut one = graph.krate(id)?;
		one.in_object = object.contains(id);
		one.in_program = program.contains(id);
		crates.push(one);
	}
	Ok(crates)
}

/// What cargo knows of packages.
struct Graph<'a> {
	packages: BTreeMap<&'a str, &'a Value>,
	nodes: BTreeMap<&'a str, &'a Value>,
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
	value[name]
		.as_str()
		.with_context(|| format!("cargo metadata has no {name}"))
}

fn items<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
	value[name]
		.as_array()
		.with_context(|| format!("cargo metadata has no {name}"))
}

impl<'a> Graph<'a> {
	fn of(metadata: &'a Value) -> Result<Self> {
		let by_id = |list: &'a Vec<Value>| -> Result<BTreeMap<&'a str, &'a Value>> {
			list.iter().map(|one| Ok((text(one, "id")?, one))).collect()
		};
		Ok(Self {
			packages: by_id(items(metadata, "packages")?)?,
			nodes: by_id(items(&metadata["resolve"], "nodes")?)?,
		})
	}

	/// What a package needs when it is used, without tests and build scripts: name and id.
	fn needs(&self, id: &str) -> Result<Vec<(&'a str, &'a str)>> {
		let node = self
			.nodes
			.get(id)
			.context("cargo metadata lacks a package")?;
		let mut needs = Vec::new();
		for dep in items(node, "deps")? {
			if items(dep, "dep_kinds")?
				.iter()
				.any(|kind| kind["kind"].is_null())
			{
				needs.push((text(dep, "name")?, text(dep, "pkg")?));
			}
		}
		Ok(needs)
	}

	/// The package and all that it needs, each after what it needs.
	fn closure(&self, name: &str) -> Result<Vec<&'a str>> {
		let (id, _) = self
			.packages
			.iter()
			.find(|(_, package)| package["name"] == name)
			.with_context(|| format!("there is no package {name}"))?;
		let mut order = Vec::new();
		self.visit(id, &mut BTreeSet::new(), &mut order)?;
		Ok(order)
	}

	fn visit(
		&self,
		id: &'a str,
		seen: &mut BTreeSet<&'a str>,
		order: &mut Vec<&'a str>,
	) -> Result<()> {
		if seen.insert(id) {
			for (_, need) in self.needs(id)? {
				self.visit(need, seen, order)?;
			}
			order.push(id);
		}
		Ok(())
	}

	/// The makefile passes no features. Those that cargo names are of the whole workspace, so the
	/// manifests tell which ones a crate asks for.
	fn check_features(&self, package: &Value) -> Result<()> {
		for need in items(package, "dependencies")? {
			if !need["kind"].is_null() || need["optional"] == true {
				continue;
			}
			let named = |other: &&&Value| other["name"] == need["name"];
			let default = self
				.packages
				.values()
				.find(named)
				.map(|other| &other["features"]["default"]);
			let default = default
				.and_then(Value::as_array)
				.is_some_and(|list| !list.is_empty());
			if !items(need, "features")?.is_empty()
				|| default && need["uses_default_features"] == true
			{
				bail!(
					"{} is used with features, which a kernel's build can't choose",
					need["name"]
				);
			}
		}
		Ok(())
	}

	fn krate(&self, id: &str) -> Result<Crate> {
		let package = self
			.packages
			.get(id)
			.context("cargo metadata lacks a package")?;
		let foreign = !package["source"].is_null();
		let is = |target: &Value, kind: &str| {
			target["kind"]
				.as_array()
				.is_some_and(|kinds| kinds.iter().any(|one| one == kind))
		};
		let targets = items(package, "targets")?;
		let lib = targets
			.iter()
			.find(|target| is(target, "lib") || is(target, "rlib"));
		let lib = lib.with_context(|| format!("{id} is no library"))?;
		let scripted = targets.iter().any(|target| is(target, "custom-build"));
		if foreign && scripted {
			bail!("{id} has a build script, which a kernel's build can't run");
		}
		self.check_features(package)?;
		let manifest = Path::new(text(package, "manifest_path")?);
		Ok(Crate {
			name: text(lib, "name")?.replace('-', "_"),
			folder: manifest
				.parent()
				.context("a manifest has a folder")?
				.to_owned(),
			edition: text(lib, "edition")?.to_owned(),
			uses: self
				.needs(id)?
				.iter()
				.map(|(name, _)| (*name).to_owned())
				.collect(),
			foreign,
			in_object: false,
			in_program: false,
		})
	}
}

/// `Makefile.crates`: what the makefile has to know of crates.
fn list(crates: &[Crate]) -> String {
	let mut text = String::from(
		"# SPDX-License-Identifier: GPL-2.0-only\n\
		 #\n\
		 # Generated by kvm-p9's `cargo xtask patches export --linux`: what cargo knows of\n\
		 # the crates, each after those that it uses.\n\n",
	);
	let names = |chosen: fn(&Crate) -> bool| {
		let names = crates
			.iter()
			.filter(|one| chosen(one))
			.map(|one| one.name.as_str());
		names.collect::<Vec<_>>().join(" ")
	};
	writeln!(text, "kvm-p9-crates := {}", names(|one| one.in_object)).unwrap();
	writeln!(
		text,
		"kvm-p9-host-crates := {}",
		names(|one| one.in_program)
	)
	.unwrap();
	writeln!(
		text,
		"kvm-p9-entry-points := {}",
		::kbuild::object::ENTRY_POINTS.join(" ")
	)
	.unwrap();
	writeln!(
		text,
		"kvm-p9-text-bounds := {}\n",
		::kbuild::object::TEXT_BOUNDS.join(" ")
	)
	.unwrap();
	for one in crates {
		let name = &one.name;
		writeln!(text, "kvm-p9-edition-{name} := {}", one.edition).unwrap();
		writeln!(text, "kvm-p9-uses-{name} := {}", one.uses.join(" ")).unwrap();
	}
	let trimmed: Vec<_> = text.lines().map(str::trim_end).collect();
	trimmed.join("\n") + "\n"
}

/// A program of this machine that is not to be found, for a build that must not call it.
pub fn without_cargo(make: &mut Command, scratch: &Path) -> Result<()> {
	let stand_in = scratch.join("cargo");
	process::write_whole(
		&stand_in,
		b"#!/bin/sh\necho 'cargo was called' >&2\nexit 1\n",
	)?;
	use std::os::unix::fs::PermissionsExt;
	fs::set_permissions(&stand_in, fs::Permissions::from_mode(0o755))?;
	let path = std::env::var("PATH").map_err(|_| anyhow!("PATH is not set"))?;
	make.env("PATH", format!("{}:{path}", scratch.display()));
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_version_of_a_tree_chooses_the_series() {
		let tree = tempfile::tempdir().unwrap();
		let error = series_of(tree.path()).unwrap_err();
		assert!(
			error.is::<Usage>()
				&& error
					.to_string()
					.ends_with("is not the source tree of a Linux kernel")
		);
		let write = |version: &str| fs::write(tree.path().join("Makefile"), version).unwrap();
		write("# x\nVERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 4\n");
		assert_eq!(series_of(tree.path()).unwrap().name, "7.3");
		for (text, name) in [
			("VERSION = 6\nPATCHLEVEL = 6\n", "6.6"),
			("VERSION = 5\nPATCHLEVEL = 10\n", "5.10"),
		] {
			write(text);
			let error = series_of(tree.path()).unwrap_err();
			assert!(error.is::<Usage>());
			let error = error.to_string();
			assert!(
				error.ends_with(&format!(
					"is Linux {name}; there are patches for 6.12 and 7.3"
				)),
				"{error}"
			);
		}
	}

	#[test]
	fn each_crate_comes_after_what_it_uses() {
		let crates = crates().unwrap();
		let place = |name: &str| crates.iter().position(|one| one.name == name);
		for one in &crates {
			for used in &one.uses {
				assert!(
					place(used).unwrap() < place(&one.name).unwrap(),
					"{} {used}",
					one.name
				);
			}
		}
		assert!(
			crates
				.iter()
				.any(|one| one.name == "entry" && one.in_object && !one.in_program)
		);
		assert!(
			crates
				.iter()
				.any(|one| one.name == "kbuild" && !one.in_object && one.in_program)
		);
		let list = list(&crates);
		assert!(list.contains("kvm-p9-edition-entry := 2024\n"), "{list}");
	}

	#[test]
	fn the_series_has_what_is_replaced() {
		for series in Series::all_rust() {
			let last = kernel::patches_in(&series.folder()).unwrap().pop().unwrap();
			let patch = fs::read_to_string(last).unwrap();
			let added: String = patch
				.lines()
				.filter_map(|line| Some(format!("{}\n", line.strip_prefix('+')?)))
				.collect();
			for [old, _] in [INCLUDE, HELP] {
				assert!(added.contains(old), "{}: {old}", series.name);
			}
		}
	}

	#[test]
	fn all_files_are_changed_or_none() {
		let scratch = tempfile::tempdir().unwrap();
		let (tree, repository) = (scratch.path().join("tree"), scratch.path().join("new"));
		fs::create_dir_all(&tree).unwrap();
		fs::create_dir_all(&repository).unwrap();
		fs::write(tree.join("a"), "old").unwrap();
		fs::write(repository.join("a"), "new").unwrap();
		fs::write(repository.join("b"), "new").unwrap();
		// A folder in the place of a file can't be written.
		fs::create_dir_all(tree.join("c/d")).unwrap();
		fs::write(repository.join("c"), "new").unwrap();
		assert!(change(&tree, &repository, ["a", "b", "c"].into_iter()).is_err());
		assert_eq!(fs::read_to_string(tree.join("a")).unwrap(), "old");
		assert!(!tree.join("b").exists());
		change(&tree, &repository, ["a", "b"].into_iter()).unwrap();
		assert_eq!(fs::read_to_string(tree.join("a")).unwrap(), "new");
	}
}
