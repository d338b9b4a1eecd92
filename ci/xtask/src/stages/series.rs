// SPDX-License-Identifier: GPL-2.0-only
//! Stage `series`: the patches, as a kernel maintainer would look at them.
//!
//! Each patch is built with the option off, the quick way: only the objects of the files
//! that the patch touches, and for headers some objects that include them, with the
//! commands of the unpatched tree's build. A patch without a Fixes: tag must leave each of
//! these objects as it was. The kernel under test is the last patch with the option on.
//!
//! All of this depends on the patches, the unpatched tree, some programs and this code
//! only. While none of these changes, the record of an earlier run stands for the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context, Result, anyhow, bail, ensure};
use harness::check::Check;
use harness::kernel::{self, NEXT_SERIES, Series, StockTree};
use harness::process::Inputs;
use harness::{jobs, paths, process, record};

use crate::patches;
use crate::stage::{Need, Part, Stage, log_path, stage};

/// checkpatch, git, and a build of each patch.
pub const STAGE: Stage = Stage {
	after: &["kernel"],
	..stage("series", |args| {
		Ok(vec![
			Part::new([Need::Kernel(Series::main())], 60, || {
				let main = Series::main();
				series(main, &kernel::stock_tree(main)?, args.all)
			})
			.named(Series::main().name),
			Part::new([], 60, || {
				let next = Series::find(NEXT_SERIES)?;
				match kernel::warm_tree(next) {
					Ok(tree) => series(next, &tree, args.all),
					Err(error) => Ok(vec![Check::skipped(
						format!("{NEXT_SERIES}: each patch"),
						format!("{error:#}: cargo xtask test {NEXT_SERIES} builds its tree"),
					)]),
				}
			})
			.named(NEXT_SERIES),
		])
	})
};

/// What is compiled for a patch that touches a header.
const INCLUDE_HEADERS: [&str; 4] = [
	"arch/powerpc/kvm/book3s_64_mmu_hv.o",
	"arch/powerpc/kvm/book3s_64_vio.o",
	"arch/powerpc/kvm/book3s_hv.o",
	"arch/powerpc/kvm/book3s_hv_p9_entry.o",
];

/// Sections of an object that a patch may change with the option off: the line numbers of
/// BUG() and WARN().
const MAY_DIFFER: &str = "__bug_table";

/// What this stage calls to judge a series.
const CODE: [&str; 5] = [
	"ci/xtask/src/stages/series.rs",
	"ci/xtask/src/patches.rs",
	"ci/harness/src/kernel",
	"ci/harness/src/process.rs",
	"Cargo.lock",
];

/// Programs whose version may change a result. The compiler's is in the key of the tree.
const PROGRAMS: [&str; 4] = ["powerpc64le-linux-gnu-as", "git", "patch", "perl"];

/// Files and folders of the unpatched tree that are not in its source package.
const GENERATED: [&str; 4] = [
	".config",
	"include/config/auto.conf",
	"include/generated",
	"arch/powerpc/include/generated",
];

fn series(series: &Series, tree: &StockTree, anew: bool) -> Result<Vec<Check>> {
	let key = || {
		let mut inputs = Inputs::new();
		add_programs(&mut inputs)?;
		add_files(&mut inputs, &paths::root(), &series.folder(), tree)?;
		Ok(inputs.finish())
	};
	let name = format!("series-{}", series.name);
	record::checks(&name, anew, key, || check_all(series, &tree.src))
}

fn add_programs(inputs: &mut Inputs) -> Result<()> {
	for program in PROGRAMS {
		inputs.add(process::output(Command::new(program).arg("--version"))?);
	}
	Ok(())
}

/// Adds all files that the checks depend on.
fn add_files(inputs: &mut Inputs, root: &Path, folder: &Path, tree: &StockTree) -> Result<()> {
	let mut add = |name: &str, path: &Path| -> Result<()> {
		ensure!(path.exists(), "there is no {}", path.display());
		inputs.add(name).add_tree(path).map(drop)
	};
	for name in CODE {
		add(name, &root.join(name))?;
	}
	add("patches", folder)?;
	for name in GENERATED {
		add(name, &tree.src.join(name))?;
	}
	let mut built = BTreeSet::new();
	for patch in kernel::patches_in(folder)? {
		built.extend(objects(&fs::read_to_string(patch)?));
	}
	for object in built {
		let object = tree.src.join(object);
		let command = saved_command(&object)?;
		// A patch may add a file. That its object can't be built is for the checks to say.
		for file in [object, command] {
			inputs.add(file.strip_prefix(&tree.src)?.to_string_lossy().as_bytes());
			inputs.add_tree(&file)?;
		}
	}
	// The other sources are those of the package, whose version is in the key of the tree.
	for name in patches::touched(folder)? {
		inputs.add(&name).add_tree(&tree.src.join(&name))?;
	}
	inputs.add(&tree.key);
	Ok(())
}

/// The file with the command that built an object.
fn saved_command(object: &Path) -> Result<PathBuf> {
	let name = object.file_name().and_then(|name| name.to_str());
	let name = name.context("an object has a name")?;
	Ok(object.with_file_name(format!(".{name}.cmd")))
}

fn check_all(series: &Series, tree: &Path) -> Result<Vec<Check>> {
	let patches = series.patches()?;
	if patches.is_empty() {
		bail!("there are no patches for {}", series.name);
	}
	let mut checks: Vec<_> = patches
		.iter()
		.map(|patch| checkpatch(tree, patch))
		.collect();
	checks.push(Check::of(
		format!("{}: git am, and export", series.name),
		patches::check_roundtrip(series, tree),
	));
	checks.extend(build_each(series.name, tree, &patches)?);
	Ok(checks)
}

fn checkpatch(tree: &Path, patch: &Path) -> Check {
	let mut checkpatch = Command::new("perl");
	checkpatch
		.current_dir(tree)
		// What is new in arch/powerpc is in MAINTAINERS by its folder or its name, and
		// the tree has no history to find a commit in.
		.args([
			"scripts/checkpatch.pl",
			"--quiet",
			"--ignore=FILE_PATH_CHANGES,UNKNOWN_COMMIT_ID",
		])
		.arg(patch);
	let log = log_path("checkpatch");
	let result = process::logged(&mut checkpatch, &log, "checkpatch", |_| true);
	Check::of(format!("checkpatch {}", paths::short(patch)), result)
}

/// Applies the patches one after the other to a shadow of the tree, and builds what each
/// of them touches.
fn build_each(name: &str, tree: &Path, patches: &[PathBuf]) -> Result<Vec<Check>> {
	let mut texts = Vec::new();
	for patch in patches {
		texts.push(fs::read_to_string(patch)?);
	}
	let touched: BTreeSet<String> = texts
		.iter()
		.flat_map(|text| kernel::touched_files(text))
		.collect();
	let shadow = paths::target().join("test").join(format!("shadow-{name}"));
	make_shadow(tree, &touched, &shadow)?;

	// The code of each object, as the last patch left it.
	let mut known: BTreeMap<String, Code> = BTreeMap::new();
	let mut checks = Vec::new();
	for (patch, text) in patches.iter().zip(&texts) {
		kernel::apply(&shadow, std::slice::from_ref(patch))?;
		let objects = objects(text);
		let built = build(tree, &shadow, &objects);
		let mut complaint = None;
		for (object, result) in built {
			let code = match result {
				Ok(code) => code,
				Err(error) => {
					complaint = Some(format!("{error:#}"));
					break;
				}
			};
			let before = match known.remove(&object) {
				Some(before) => before,
				None => code_of(&fs::read(tree.join(&object))?)?,
			};
			if before != code && !kernel::is_fix(text) {
				complaint = Some(format!("changes {object} with the option off"));
			}
			known.insert(object, code);
		}
		let what = match objects.len() {
			0 => "no object".to_owned(),
			1 => "1 object".to_owned(),
			n => format!("{n} objects"),
		};
		let number = patch.file_name().and_then(|name| name.to_str());
		let number = number.and_then(|name| name.get(..4)).unwrap_or_default();
		checks.push(Check::new(
			format!("{name}/{number} builds with the option off ({what})"),
			complaint,
		));
	}
	Ok(checks)
}

/// The objects that are built for a patch.
fn objects(patch: &str) -> BTreeSet<String> {
	let mut objects = BTreeSet::new();
	for file in kernel::touched_files(patch) {
		match file.rsplit_once('.') {
			Some((stem, "c" | "S")) => {
				objects.insert(format!("{stem}.o"));
			}
			Some((_, "h")) => objects.extend(INCLUDE_HEADERS.map(str::to_owned)),
			_ => {}
		}
	}
	objects
}

/// Makes a folder that looks like a tree: links to what is there, and copies of the files
/// that patches touch.
fn make_shadow(tree: &Path, touched: &BTreeSet<String>, shadow: &Path) -> Result<()> {
	process::remove(shadow)?;
	let mut folders = BTreeSet::new();
	for file in touched {
		folders.extend(Path::new(file).ancestors().skip(1).map(Path::to_owned));
	}
	for folder in &folders {
		fs::create_dir_all(shadow.join(folder))?;
		let Ok(entries) = fs::read_dir(tree.join(folder)) else {
			continue;
		};
		for entry in entries {
			let path = folder.join(entry?.file_name());
			if folders.contains(&path) {
				continue;
			}
			let (from, to) = (tree.join(&path), shadow.join(&path));
			if path.to_str().is_some_and(|path| touched.contains(path)) {
				fs::copy(&from, &to)?;
			} else {
				symlink(&from, &to)?;
			}
		}
	}
	Ok(())
}

/// Builds objects side by side. Their files go to a folder of their own.
fn build(tree: &Path, shadow: &Path, objects: &BTreeSet<String>) -> Vec<(String, Result<Code>)> {
	let waiting = Mutex::new(objects.iter());
	let built = Mutex::new(Vec::new());
	thread::scope(|scope| {
		for _ in 0..jobs::count().min(objects.len()) {
			scope.spawn(|| {
				loop {
					let next = waiting.lock().ok().and_then(|mut next| next.next());
					let Some(object) = next else { break };
					let code = compile(tree, shadow, object);
					if let Ok(mut built) = built.lock() {
						built.push((object.clone(), code));
					}
				}
			});
		}
	});
	built.into_inner().unwrap_or_default()
}

/// Builds one object with the command that built it in the tree.
fn compile(tree: &Path, shadow: &Path, object: &str) -> Result<Code> {
	let saved = fs::read_to_string(saved_command(&tree.join(object))?)
		.with_context(|| format!("{object} is not built in the tree"))?;
	let out = shadow.join(".out").join(object.replace('/', "_"));
	fs::create_dir_all(out.parent().context("a file has a folder")?)?;
	let command = command(&saved, &out).with_context(|| format!("no command for {object}"))?;
	let output = Command::new("sh")
		.current_dir(shadow)
		.env("LC_ALL", "C")
		.args(["-c", &command])
		.output()
		.context("sh can't be run")?;
	let text = String::from_utf8_lossy(&output.stderr);
	if let Some(first) = text.lines().find(|line| line.contains("error:")) {
		return Err(anyhow!("{object}: {first}"));
	}
	if let Some(first) = text.lines().find(|line| line.contains("warning:")) {
		return Err(anyhow!("{object}: {first}"));
	}
	if !output.status.success() {
		return Err(anyhow!("{object}: {}", text.trim()));
	}
	let read = fs::read_to_string(dep_file(&out))?;
	let (_, read) = read.split_once(": ").context("no list of what was read")?;
	if let Some(file) = outside(read) {
		// The key of the record would lack the file.
		bail!("{object}: {file} is not of the kernel's tree");
	}
	code_of(&fs::read(&out)?)
}

/// Where the compiler lists what it read for an object.
fn dep_file(out: &Path) -> PathBuf {
	process::beside(out, ".d")
}

/// A file that is not below the folder that the compiler ran in.
fn outside(read: &str) -> Option<&str> {
	let mut files = read.split_whitespace().filter(|word| *word != "\\");
	files.find(|file| {
		let mut depth = 0_i32;
		Path::new(file).components().any(|part| {
			match part {
				Component::Normal(_) => depth += 1,
				Component::ParentDir => depth -= 1,
				Component::CurDir => {}
				Component::RootDir | Component::Prefix(_) => return true,
			}
			depth < 0
		})
	})
}

/// The command of a `.cmd` file, with another output and another list of what was read.
fn command(saved: &str, out: &Path) -> Option<String> {
	let first = saved.lines().next()?;
	let (_, command) = first.split_once(" := ")?;
	let command = command.split(';').next()?;
	let list = format!("-Wp,-MMD,{}", dep_file(out).to_str()?);
	let mut words = Vec::new();
	let mut is_output = false;
	for word in command.split_whitespace() {
		let is_list = word.starts_with("-Wp,-MMD,");
		words.push(match word {
			_ if is_output => out.to_str()?,
			_ if is_list => &list,
			word => word,
		});
		is_output = word == "-o";
	}
	Some(words.join(" "))
}

/// What of an object gets into the kernel: sections, and what the linker writes there.
type Code = BTreeMap<String, (Vec<u8>, Vec<(u64, String, i64)>)>;

fn code_of(object: &[u8]) -> Result<Code> {
	use ::object::elf::SHF_ALLOC;
	use ::object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags};
	let file = ::object::File::parse(object)?;
	let mut code = Code::new();
	for section in file.sections() {
		let SectionFlags::Elf { sh_flags } = section.flags() else {
			continue;
		};
		let name = section.name()?;
		if sh_flags & u64::from(SHF_ALLOC) == 0 || name == MAY_DIFFER {
			continue;
		}
		let mut relocations = Vec::new();
		for (offset, relocation) in section.relocations() {
			let RelocationTarget::Symbol(index) = relocation.target() else {
				continue;
			};
			let symbol = file.symbol_by_index(index)?;
			let target = match symbol.section_index() {
				Some(index) if symbol.name()?.is_empty() => {
					file.section_by_index(index)?.name()?.to_owned()
				}
				// The compiler numbers static variables of functions.
				_ => symbol
					.name()?
					.trim_end_matches(|c: char| c.is_ascii_digit())
					.to_owned(),
			};
			relocations.push((offset, target, relocation.addend()));
		}
		code.insert(name.to_owned(), (section.data()?.to_owned(), relocations));
	}
	if code.is_empty() {
		bail!("an object without code");
	}
	Ok(code)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_command_gets_another_output() {
		let saved = "savedcmd_a/b.o := gcc -Wp,-MMD,a/.b.o.d -O2   -c -o a/b.o a/b.c ; ./check a/b.o\n\ndeps";
		assert_eq!(
			command(saved, Path::new("/x/b.o")).unwrap(),
			"gcc -Wp,-MMD,/x/b.o.d -O2 -c -o /x/b.o a/b.c"
		);
		assert!(command("", Path::new("x")).is_none());
	}

	#[test]
	fn what_the_compiler_reads_elsewhere_is_found() {
		let inside = "a/b.c \\\n include/x.h \\\n a/../include/y.h ./z.h\n\nz.h:\n";
		assert_eq!(outside(inside), None);
		for file in ["/usr/include/x.h", "../x.h", "a/../../x.h"] {
			let list = format!("a/b.c \\\n {file} \\\n a/c.h\n");
			assert_eq!(outside(&list), Some(file));
		}
	}

	#[test]
	fn each_byte_that_the_checks_depend_on_changes_the_key() {
		let scratch = tempfile::tempdir().unwrap();
		let write = |name: &str, text: &str| {
			let file = scratch.path().join(name);
			fs::create_dir_all(file.parent().unwrap()).unwrap();
			fs::write(file, text).unwrap();
		};
		let mut files: Vec<_> = CODE.iter().map(|name| format!("root/{name}")).collect();
		files[2].push_str("/patched.rs");
		files.extend(
			[
				"patches/0000-cover-letter.patch",
				"patches/0001-one.patch",
				"tree/.config",
				"tree/include/config/auto.conf",
				"tree/include/generated/autoconf.h",
				"tree/arch/powerpc/include/generated/asm/x.h",
				"tree/a/x.c",
				"tree/a/x.o",
				"tree/a/.x.o.cmd",
			]
			.map(str::to_owned),
		);
		let patch = "--- a/a/x.c\n+++ b/a/x.c\n";
		for file in &files {
			write(file, patch);
		}
		let key = |of_tree: &str| {
			let tree = StockTree {
				src: scratch.path().join("tree"),
				key: of_tree.to_owned(),
			};
			let mut inputs = Inputs::new();
			let (root, folder) = (scratch.path().join("root"), scratch.path().join("patches"));
			add_files(&mut inputs, &root, &folder, &tree).map(|()| inputs.finish())
		};
		let first = key("package").unwrap();
		assert_eq!(key("package").unwrap(), first);
		assert_ne!(key("another").unwrap(), first);
		for file in &files {
			write(file, &patch.replacen("+++", "++ ", 1));
			assert_ne!(key("package").unwrap(), first, "{file}");
			write(file, patch);
			assert_eq!(key("package").unwrap(), first, "{file}");
		}
		// A patch more, and one that is there under another name.
		write("patches/0002-two.patch", "");
		assert_ne!(key("package").unwrap(), first);
		let at = |name: &str| scratch.path().join("patches").join(name);
		fs::remove_file(at("0002-two.patch")).unwrap();
		fs::rename(at("0001-one.patch"), at("0002-one.patch")).unwrap();
		assert_ne!(key("package").unwrap(), first);
		// Code that was moved would be left out without a word.
		fs::remove_file(scratch.path().join("root/Cargo.lock")).unwrap();
		assert!(key("package").is_err());
	}

	/// The names of code are of this tree.
	#[test]
	fn code_that_the_key_has_is_there() {
		for name in CODE {
			assert!(paths::root().join(name).exists(), "{name}");
		}
	}

	#[test]
	fn objects_of_a_patch() {
		let of = |patch: &str| objects(patch).into_iter().collect::<Vec<_>>();
		assert_eq!(
			of("--- a/x/a.c\n+++ b/x/a.c\n--- a/x/b.S\n"),
			["x/a.o", "x/b.o"]
		);
		assert_eq!(of("--- a/x/a.h\n+++ b/x/a.h\n"), INCLUDE_HEADERS);
		assert!(of("--- a/x/Kconfig\n+++ b/x/Kconfig\n").is_empty());
	}

	#[test]
	fn a_shadow_has_copies_of_what_is_touched_only() {
		let root = tempfile::tempdir().unwrap();
		let (tree, shadow) = (root.path().join("tree"), root.path().join("shadow"));
		for file in ["a/x.c", "a/y.h", "b/z.c", "top"] {
			let file = tree.join(file);
			fs::create_dir_all(file.parent().unwrap()).unwrap();
			fs::write(file, "text").unwrap();
		}
		let touched = BTreeSet::from(["a/x.c".to_owned(), "new/file.h".to_owned()]);
		make_shadow(&tree, &touched, &shadow).unwrap();
		let is_link = |path: &str| shadow.join(path).is_symlink();
		assert!(!is_link("a") && !is_link("a/x.c") && is_link("a/y.h"));
		assert!(is_link("b") && is_link("top") && shadow.join("new").is_dir());
		fs::write(shadow.join("a/x.c"), "other").unwrap();
		assert_eq!(fs::read_to_string(tree.join("a/x.c")).unwrap(), "text");
	}
}
