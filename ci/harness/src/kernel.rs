// SPDX-License-Identifier: GPL-2.0-only
//! Kernels: Debian's newest source of a series, our configuration, with or
//! without our patches.
//!
//! The unpatched tree is built once per source version, configuration and
//! compiler, in the cache that all checkouts share. A patched kernel starts as a
//! copy of that built tree, so that only what the patches touch is compiled
//! again. Every step either leaves a whole result or one that the next run
//! recognises as unfinished and goes on with.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use crate::paths;
use crate::process::{self, Inputs, Usage, say};

/// Changes when trees in the cache can't be used any more.
const SCHEME: &str = "1";

const CROSS: &str = "powerpc64le-linux-gnu-";

/// The option that our series adds, and what it makes of a kernel tree.
const RUST_OPTION: &str = "CONFIG_KVM_BOOK3S_HV_P9_RUST";

/// A kernel series that we know.
#[derive(Debug, PartialEq, Eq)]
pub struct Series {
	/// As in Debian's `linux-source-NAME`.
	pub name: &'static str,
	/// Our patches add the Rust path, and with it [`RUST_OPTION`].
	rust: bool,
	/// Whose patches apply to this one, too, unless it has its own of the same name.
	patches_of: Option<&'static str>,
}

/// All of them, the main one first.
pub const SERIES: [Series; 3] = [
	Series {
		name: "6.12",
		rust: true,
		patches_of: None,
	},
	Series {
		name: "5.10",
		rust: false,
		patches_of: None,
	},
	Series {
		name: "7.3",
		rust: true,
		patches_of: Some("6.12"),
	},
];

impl Series {
	/// Finds a series by its name.
	pub fn find(name: &str) -> Result<&'static Self> {
		SERIES
			.iter()
			.find(|series| series.name == name)
			.ok_or_else(|| {
				let known: Vec<_> = SERIES.iter().map(|series| series.name).collect();
				Usage(format!(
					"unknown kernel series '{name}'; known: {}",
					known.join(", ")
				))
				.into()
			})
	}

	/// Our patches, in their order.
	pub fn patches(&self) -> Result<Vec<PathBuf>> {
		let own = patches_in(self.name)?;
		match self.patches_of {
			Some(other) => Ok(overlaid(patches_in(other)?, own)),
			None => Ok(own),
		}
	}

	/// The patches that only this series has, and those of the same name that they stand
	/// for.
	pub fn own_patches(&self) -> Result<Vec<(PathBuf, Option<PathBuf>)>> {
		let others = match self.patches_of {
			Some(other) => patches_in(other)?,
			None => Vec::new(),
		};
		let same_name = |own: &Path| {
			let mut others = others.iter();
			others
				.find(|other| other.file_name() == own.file_name())
				.cloned()
		};
		let own = patches_in(self.name)?.into_iter();
		Ok(own.map(|own| (own.clone(), same_name(&own))).collect())
	}
}

fn patches_in(series: &str) -> Result<Vec<PathBuf>> {
	let folder = paths::root().join("arch/powerpc/patches").join(series);
	let mut patches = process::files_below(&folder)?;
	patches.retain(|file| {
		file.extension()
			.is_some_and(|extension| extension == "patch")
	});
	Ok(patches)
}

/// The patches of both lists in the order of their names; of two with the same name, the
/// second list's.
fn overlaid(below: Vec<PathBuf>, above: Vec<PathBuf>) -> Vec<PathBuf> {
	let mut by_name = BTreeMap::new();
	for patch in below.into_iter().chain(above) {
		by_name.insert(patch.file_name().map(OsStr::to_owned), patch);
	}
	by_name.into_values().collect()
}

/// What a patch adds to and takes away from files, without where that is.
pub fn changes(patch: &str) -> Vec<&str> {
	let mut changes: Vec<_> = patch
		.lines()
		.skip_while(|line| !line.starts_with("diff --git "))
		.filter(|line| !line.starts_with("+++ ") && !line.starts_with("--- "))
		.filter(|line| line.starts_with(['+', '-']))
		.collect();
	changes.sort_unstable();
	changes
}

/// Debian's source of a series can't be had.
#[derive(Debug)]
pub struct NoSource(&'static str);

impl fmt::Display for NoSource {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "no source of Linux {} to be had", self.0)
	}
}

impl std::error::Error for NoSource {}

/// A built kernel, as the JSON file beside it describes it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Image {
	/// `6.12`
	pub series: String,
	/// Without our patches.
	pub stock: bool,
	/// Version of Debian's source package.
	pub package_version: String,
	/// What `uname -r` says on it.
	pub release: String,
	/// SHA-256 of the configuration's CONFIG_ lines.
	pub config_hash: String,
	/// SHA-256 of the linked Rust object, if there is one.
	pub object_hash: Option<String>,
	/// The C compiler.
	pub compiler: String,
	/// Hash of all that the image was made from.
	inputs: String,
	#[serde(skip)]
	folder: PathBuf,
}

impl Image {
	/// The kernel with its symbols.
	pub fn vmlinux(&self) -> PathBuf {
		self.folder.join("vmlinux")
	}

	/// The kernel that QEMU is given.
	pub fn stripped(&self) -> PathBuf {
		self.folder.join("vmlinux.stripped")
	}

	/// The tree that a patched kernel was built in.
	pub fn tree(&self) -> PathBuf {
		self.folder.join("src")
	}

	fn load(folder: &Path, inputs: &str) -> Option<Self> {
		let text = fs::read(folder.join("build.json")).ok()?;
		let mut image: Self = serde_json::from_slice(&text).ok()?;
		image.folder = folder.to_owned();
		let whole = image.vmlinux().exists() && image.stripped().exists();
		(whole && image.inputs == inputs).then_some(image)
	}
}

/// Builds the kernel of a series, or finds it built.
pub fn build(series: &'static Series, stock: bool) -> Result<Image> {
	build_with(series, stock, &[])
}

/// Builds the patched kernel with our option off.
pub fn build_off(series: &'static Series) -> Result<Image> {
	let base = Base::find(series, &[])?;
	let name = format!("{}-off", series.name);
	let folder = paths::target().join("kernel").join(&name);
	let _lock = process::lock(
		&process::beside(&folder, ".lock"),
		&format!("kernel {name}"),
	)?;
	patched_image(&base, &series.patches()?, &folder, &name, false, "")
}

/// Builds the patched kernel with one more option, from the tree that is there for the
/// one without: `--config-extra` would build a whole stock kernel first.
pub fn build_option(series: &'static Series, option: &str) -> Result<Image> {
	let base = Base::find(series, &[])?;
	let name = format!("{}-{}", series.name, option.to_lowercase());
	let folder = paths::target().join("kernel").join(&name);
	let _lock = process::lock(
		&process::beside(&folder, ".lock"),
		&format!("kernel {name}"),
	)?;
	let option = format!("CONFIG_{option}=y\n");
	patched_image(
		&base,
		&series.patches()?,
		&folder,
		&name,
		series.rust,
		&option,
	)
}

/// Builds the patched kernel if its unpatched tree is built already, of whichever
/// version: nothing is fetched.
pub fn build_if_warm(series: &'static Series) -> Result<Option<Image>> {
	let name = series.name;
	let folder = paths::target().join("kernel").join(name);
	let _lock = process::lock(
		&process::beside(&folder, ".lock"),
		&format!("kernel {name}"),
	)?;
	let Some(base) = Base::warm(series)? else {
		return Ok(None);
	};
	patched_image(&base, &series.patches()?, &folder, name, series.rust, "").map(Some)
}

/// The unpatched source tree of a series that is built already.
pub fn warm_tree(series: &'static Series) -> Result<PathBuf> {
	let base = Base::warm(series)?.ok_or(NoSource(series.name))?;
	Ok(base.src())
}

/// The unpatched source tree of a series, built.
pub fn stock_tree(series: &'static Series) -> Result<PathBuf> {
	let base = Base::find(series, &[])?;
	base.complete()?;
	Ok(base.src())
}

/// The same with more configuration lines, each `KEY=VALUE`; the result gets a folder of its own.
pub fn build_with(series: &'static Series, stock: bool, extra: &[String]) -> Result<Image> {
	let patches = series.patches()?;
	if !stock && patches.is_empty() {
		return Err(Usage(format!(
			"no patches for {} yet; --stock builds it without",
			series.name
		))
		.into());
	}
	let mut name = series.name.to_owned();
	if stock {
		name.push_str("-stock");
	}
	if !extra.is_empty() {
		let mut inputs = Inputs::new();
		extra.iter().for_each(|line| {
			inputs.add(line);
		});
		name.push_str("-x");
		name.push_str(&inputs.finish()[..8]);
	}
	let folder = paths::target().join("kernel").join(&name);
	let _lock = process::lock(
		&process::beside(&folder, ".lock"),
		&format!("kernel {name}"),
	)?;
	let base = Base::find(series, extra)?;
	if stock {
		stock_image(&base, &folder)
	} else {
		patched_image(&base, &patches, &folder, &name, series.rust, "")
	}
}

/// The unpatched tree in the cache.
struct Base {
	series: &'static Series,
	package: PathBuf,
	package_version: String,
	compiler: String,
	fragment: String,
	key: String,
	folder: PathBuf,
}

impl Base {
	fn find(series: &'static Series, extra: &[String]) -> Result<Self> {
		let mut setup = Command::new(paths::root().join("ci/setup"));
		setup
			.arg("fetch")
			.arg(format!("linux-source-{}", series.name));
		// It has said why.
		let package =
			PathBuf::from(process::output(&mut setup).map_err(|_| NoSource(series.name))?);
		let package_version = package
			.file_stem()
			.and_then(|name| name.to_str())
			.and_then(|name| name.split('_').nth(1))
			.ok_or_else(|| anyhow!("{} is not named like a Debian package", package.display()))?
			.to_owned();
		Self::of(series, package, package_version, extra)
	}

	/// The newest that is built.
	fn warm(series: &'static Series) -> Result<Option<Self>> {
		let cache = paths::cache()?;
		let mut warm = Vec::new();
		let Ok(entries) = fs::read_dir(cache.join("kernel")) else {
			return Ok(None);
		};
		for entry in entries {
			let name = entry?.file_name();
			let Some((_, version)) = name
				.to_str()
				.and_then(|name| name.rsplit_once('_'))
				.and_then(|(name, _key)| name.split_once('_'))
				.filter(|(found, _)| *found == series.name)
			else {
				continue;
			};
			let package = cache
				.join("deb")
				.join(format!("linux-source-{}_{version}_all.deb", series.name));
			let base = Self::of(series, package, version.to_owned(), &[])?;
			// Others are of another configuration or compiler.
			if base.folder.file_name() == Some(&name) && base.folder.join("done").exists() {
				warm.push((fs::metadata(base.folder.join("done"))?.modified()?, base));
			}
		}
		Ok(warm
			.into_iter()
			.max_by_key(|(built, _)| *built)
			.map(|(_, base)| base))
	}

	fn of(
		series: &'static Series,
		package: PathBuf,
		package_version: String,
		extra: &[String],
	) -> Result<Self> {
		let compiler = compiler()?;
		let mut fragment = String::new();
		let on_top = series.rust.then_some("ci/kernel-rust.config");
		for name in iter::once("ci/kernel.config").chain(on_top) {
			let path = paths::root().join(name);
			fragment += &fs::read_to_string(&path)
				.with_context(|| format!("can't read {}", path.display()))?;
		}
		for line in extra {
			if !line.contains('=') {
				return Err(Usage(format!("--config-extra '{line}' is not KEY=VAL")).into());
			}
			let key = line.strip_prefix("CONFIG_").unwrap_or(line);
			fragment.push_str(&format!("CONFIG_{key}\n"));
		}
		let mut inputs = Inputs::new();
		inputs
			.add(SCHEME)
			.add(&package_version)
			.add(&fragment)
			.add(&compiler);
		let key = inputs.finish();
		let folder = paths::cache()?.join("kernel").join(format!(
			"{}_{package_version}_{}",
			series.name,
			&key[..12]
		));
		Ok(Self {
			series,
			package,
			package_version,
			compiler,
			fragment,
			key,
			folder,
		})
	}

	fn src(&self) -> PathBuf {
		self.folder.join("src")
	}

	/// Where the same tree is kept as it was built with our patches.
	fn snapshot(&self) -> PathBuf {
		process::beside(&self.folder, "-patched")
	}

	fn lock_snapshot(&self) -> Result<fs::File> {
		let what = format!("patched kernel {}", self.package_version);
		process::lock(&process::beside(&self.folder, "-patched.lock"), &what)
	}

	/// Extracts, configures and builds it, as far as that is not done.
	fn complete(&self) -> Result<()> {
		let _lock = process::lock(
			&process::beside(&self.folder, ".lock"),
			&format!("stock kernel {}", self.package_version),
		)?;
		let done = self.folder.join("done");
		if done.exists() {
			return Ok(());
		}
		let started = Instant::now();
		let src = self.src();
		if src.exists() {
			say(format_args!(
				"going on with the interrupted build of {}",
				self.package_version
			));
		} else {
			say(format_args!(
				"extracting linux-source-{} (half a minute)",
				self.series.name
			));
			self.extract(&src)?;
		}
		let config = src.join(".config");
		if !config.exists() {
			let fragment = self.folder.join("fragment.config");
			process::write_whole(&fragment, self.fragment.as_bytes())?;
			let mut make = make(&src);
			make.env("KCONFIG_ALLCONFIG", &fragment).arg("allnoconfig");
			process::logged(
				&mut make,
				&log_path(&format!("{}-config", self.series.name)),
				"configuring",
				|_| true,
			)?;
		}
		if let Err(error) = check_config(&config, &self.fragment) {
			process::remove(&self.folder)?;
			return Err(error);
		}
		say(format_args!(
			"building Linux {} ({}); this takes several minutes, once",
			self.package_version,
			human_cores()
		));
		build_vmlinux(
			&src,
			self.series.name,
			&format!("{}-stock", self.series.name),
		)?;
		process::write_whole(&done, b"")?;
		say(format_args!(
			"built Linux {} in {}",
			self.package_version,
			process::human(started.elapsed())
		));
		Ok(())
	}

	fn extract(&self, src: &Path) -> Result<()> {
		let part = process::beside(src, ".part");
		process::remove(&part)?;
		fs::create_dir_all(&part)
			.with_context(|| format!("can't make the folder {}", part.display()))?;
		let inner = format!("./usr/src/linux-source-{}.tar.xz", self.series.name);
		let mut unpack = Command::new("dpkg-deb")
			.arg("--fsys-tarfile")
			.arg(&self.package)
			.stdout(Stdio::piped())
			.spawn()
			.context("dpkg-deb can't be run")?;
		let mut pick = Command::new("tar")
			.args(["-xOf", "-", &inner])
			.stdin(unpack.stdout.take().context("no pipe")?)
			.stdout(Stdio::piped())
			.spawn()
			.context("tar can't be run")?;
		let status = Command::new("tar")
			.args(["-xJf", "-", "--strip-components=1", "-C"])
			.arg(&part)
			.stdin(pick.stdout.take().context("no pipe")?)
			.status()
			.context("tar can't be run")?;
		let whole = status.success() & pick.wait()?.success() & unpack.wait()?.success();
		if !whole {
			process::remove(&part)?;
			bail!(
				"{} can't be unpacked; if it is damaged, remove it",
				self.package.display()
			);
		}
		fs::rename(&part, src)?;
		Ok(())
	}
}

fn stock_image(base: &Base, folder: &Path) -> Result<Image> {
	if let Some(image) = Image::load(folder, &base.key) {
		return Ok(image);
	}
	base.complete()?;
	finish(base, &base.src(), folder, true, &base.key)
}

fn patched_image(
	base: &Base,
	patches: &[PathBuf],
	folder: &Path,
	name: &str,
	rust: bool,
	options: &str,
) -> Result<Image> {
	// The snapshot is of the tree as it is mostly built.
	let snapshots = rust == base.series.rust;
	let key = || patched_key(base, patches, rust, options);
	if let Some(image) = Image::load(folder, &key()?) {
		return Ok(image);
	}

	base.complete()?;
	let started = Instant::now();
	// What is there was made from something else.
	for file in ["build.json", "vmlinux", "vmlinux.stripped"] {
		process::remove(&folder.join(file))?;
	}
	let src = folder.join("src");
	let key = stable(key, || {
		patch_tree(base, patches, folder, &src, snapshots)?;
		if rust {
			enable_rust(&src, name, &base.fragment, options)?;
		}
		say(format_args!("building kernel {name}"));
		build_vmlinux(&src, base.series.name, name)
	})?;
	let image = finish(base, &src, folder, false, &key)?;
	if snapshots && options.is_empty() {
		save_snapshot(base, patches, folder)?;
	}
	say(format_args!(
		"built kernel {name} in {}",
		process::human(started.elapsed())
	));
	Ok(image)
}

/// Hash of all that a patched kernel is made from.
fn patched_key(base: &Base, patches: &[PathBuf], rust: bool, options: &str) -> Result<String> {
	let mut inputs = Inputs::new();
	inputs.add(&base.key).add(options);
	for patch in patches {
		inputs.add_tree(patch)?;
	}
	if rust {
		add_rust_inputs(&mut inputs)?;
	}
	Ok(inputs.finish())
}

/// Builds what `key` is the hash of, and gives the hash. What was edited while it was
/// being built may be in it or not: then it is built once more.
fn stable(key: impl Fn() -> Result<String>, build: impl Fn() -> Result<()>) -> Result<String> {
	let mut before = key()?;
	for _ in 0..2 {
		build()?;
		let after = key()?;
		if after == before {
			return Ok(after);
		}
		say(format_args!(
			"the sources changed while they were being built"
		));
		before = after;
	}
	bail!("the sources keep changing while they are being built; leave them alone for a moment");
}

/// Keeps the built, patched tree for other checkouts of this user: the patches touch
/// headers that most of the kernel includes, so compiling after them takes minutes.
fn save_snapshot(base: &Base, patches: &[PathBuf], folder: &Path) -> Result<()> {
	let mut inputs = Inputs::new();
	inputs.add(&base.key);
	for patch in patches {
		inputs.add_tree(patch)?;
	}
	let key = inputs.finish();
	let snapshot = base.snapshot();
	let _lock = base.lock_snapshot()?;
	let done = snapshot.join("done");
	if fs::read_to_string(&done).is_ok_and(|text| text == key) {
		return Ok(());
	}
	process::remove(&snapshot)?;
	fs::create_dir_all(&snapshot)
		.with_context(|| format!("can't make the folder {}", snapshot.display()))?;
	copy_tree(&folder.join("src"), &snapshot.join("src"))?;
	process::copy_whole(&folder.join("tree"), &snapshot.join("tree"))?;
	process::write_whole(&done, key.as_bytes())
}

/// Makes `src` the built tree with the patches applied.
///
/// The patches are applied to copies of the files that they touch, and only files
/// that differ are put into the tree: after a change of a patch, make compiles what
/// that change touches.
fn patch_tree(
	base: &Base,
	patches: &[PathBuf],
	folder: &Path,
	src: &Path,
	snapshots: bool,
) -> Result<()> {
	let mut touched = BTreeSet::new();
	for patch in patches {
		touched.extend(touched_files(&fs::read_to_string(patch)?));
	}
	let stage = folder.join("patched");
	process::remove(&stage)?;
	fs::create_dir_all(&stage)?;
	for file in &touched {
		let from = base.src().join(file);
		if from.is_file() {
			process::copy_whole(&from, &stage.join(file))?;
		}
	}
	if let Err(error) = apply(&stage, patches) {
		process::remove(&stage)?;
		// Goes only if nothing else is in it.
		let _ = fs::remove_dir(folder);
		return Err(error);
	}

	// The stamp names the tree that was copied, then each file that is not as in it.
	let stamp = folder.join("tree");
	let known = fs::read_to_string(&stamp).unwrap_or_default();
	let mut lines = known.lines();
	if lines.next() == Some(base.key.as_str()) && src.exists() {
		touched.extend(lines.map(str::to_owned));
	} else {
		say(format_args!(
			"copying the built tree of Linux {}",
			base.package_version
		));
		process::remove(&stamp)?;
		process::remove(src)?;
		let part = process::beside(src, ".part");
		process::remove(&part)?;
		let _lock = base.lock_snapshot()?;
		let snapshot = base.snapshot();
		if snapshots && snapshot.join("done").exists() {
			copy_tree(&snapshot.join("src"), &part)?;
			let tree = fs::read_to_string(snapshot.join("tree"))?;
			touched.extend(tree.lines().skip(1).map(str::to_owned));
		} else {
			copy_tree(&base.src(), &part)?;
		}
		fs::rename(&part, src)?;
	}
	let files: Vec<&str> = touched.iter().map(String::as_str).collect();
	process::write_whole(
		&stamp,
		format!("{}\n{}\n", base.key, files.join("\n")).as_bytes(),
	)?;
	for file in files {
		let (new, old) = (stage.join(file), src.join(file));
		// A file that no patch touches any more is the stock tree's again.
		let new = if new.is_file() {
			new
		} else {
			base.src().join(file)
		};
		if !new.is_file() {
			process::remove(&old)?;
		} else if fs::read(&old).ok() != Some(fs::read(&new)?) {
			process::write_whole(&old, &fs::read(&new)?)?;
		}
	}
	process::remove(&stage)
}

/// The files that a patch changes, makes or removes.
fn touched_files(patch: &str) -> impl Iterator<Item = String> {
	patch
		.lines()
		.filter_map(|line| {
			line.strip_prefix("--- a/")
				.or_else(|| line.strip_prefix("+++ b/"))
		})
		.filter_map(|name| name.split('\t').next())
		.map(str::to_owned)
}

/// What a kernel with the Rust path is made from, apart from the patches.
fn add_rust_inputs(inputs: &mut Inputs) -> Result<()> {
	let root = paths::root();
	for part in [
		"arch/powerpc/kernel",
		"arch/powerpc/src",
		"arch/powerpc/Cargo.toml",
		"arch/powerpc/build.rs",
		"entry",
		"hcall",
		"tce",
		"ci/kbuild",
		"Cargo.toml",
		"Cargo.lock",
	] {
		inputs.add(part).add_tree(&root.join(part))?;
	}
	inputs.add(process::output(Command::new("rustc").arg("-vV"))?);
	Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
	let status = Command::new("cp")
		.args(["-a", "--reflink=auto", "--"])
		.args([from, to])
		.status()
		.context("cp can't be run")?;
	if !status.success() {
		bail!("copying {} to {} failed", from.display(), to.display());
	}
	Ok(())
}

/// Applies a series of patches to a tree, or says which one does not apply to what.
pub fn apply(tree: &Path, patches: &[PathBuf]) -> Result<()> {
	for patch in patches {
		for dry in [true, false] {
			let mut command = Command::new("patch");
			command.args([
				"-p1",
				"--batch",
				"--forward",
				"--fuzz=0",
				"--no-backup-if-mismatch",
			]);
			if dry {
				command.arg("--dry-run");
			}
			let output = command
				.arg("-d")
				.arg(tree)
				.arg("-i")
				.arg(patch)
				.output()
				.context("patch can't be run")?;
			if !output.status.success() {
				let text = String::from_utf8_lossy(&output.stdout);
				bail!(
					"the kernel tree does not match: {} does not apply to {}",
					paths::short(patch),
					failed_file(&text).unwrap_or("it")
				);
			}
		}
	}
	Ok(())
}

/// The file that the first complaint in patch's output is about.
fn failed_file(text: &str) -> Option<&str> {
	let mut file = None;
	for line in text.lines() {
		if let Some(name) = line
			.strip_prefix("checking file ")
			.or_else(|| line.strip_prefix("patching file "))
		{
			file = Some(name);
		} else if line.starts_with("can't find file") || line.starts_with("|+++ ") {
			if let Some(name) = line.strip_prefix("|+++ b/") {
				return name.split('\t').next();
			}
		} else if line.contains("FAILED") || line.starts_with("Reversed (or previously applied)") {
			return file;
		}
	}
	file
}

/// Switches our option on in a patched tree, and others.
fn enable_rust(src: &Path, name: &str, fragment: &str, options: &str) -> Result<()> {
	let config = src.join(".config");
	let wanted = format!("{RUST_OPTION}=y\n{options}");
	let text = fs::read_to_string(&config)?;
	if wanted
		.lines()
		.all(|line| text.lines().any(|set| set == line))
	{
		return Ok(());
	}
	process::write_whole(&config, format!("{text}{wanted}").as_bytes())?;
	process::logged(
		make(src).arg("olddefconfig"),
		&log_path(&format!("{name}-config")),
		"configuring",
		|_| true,
	)?;
	check_config(&config, &format!("{fragment}{wanted}"))
}

/// Checks that each line of a fragment took effect.
fn check_config(config: &Path, fragment: &str) -> Result<()> {
	let text =
		fs::read_to_string(config).with_context(|| format!("can't read {}", config.display()))?;
	let lost = lost_lines(&text, fragment);
	if !lost.is_empty() {
		bail!(
			"the kernel's configuration did not take {}",
			lost.join(", ")
		);
	}
	Ok(())
}

/// The lines of a fragment that a configuration does not have.
fn lost_lines<'a>(config: &str, fragment: &'a str) -> Vec<&'a str> {
	let is_set = |key: &str| {
		config
			.lines()
			.any(|line| line.split_once('=').is_some_and(|(name, _)| name == key))
	};
	let settings = fragment.lines().filter(|line| line.starts_with("CONFIG_"));
	settings
		.filter(|setting| match setting.strip_suffix("=n") {
			Some(key) => is_set(key),
			None => !config.lines().any(|line| line == *setting),
		})
		.collect()
}

fn make(src: &Path) -> Command {
	let mut make = Command::new("make");
	make.arg("-C").arg(src);
	make.args([
		"ARCH=powerpc",
		&format!("CROSS_COMPILE={CROSS}"),
		"LOCALVERSION=",
	]);
	make.arg(format!("KVM_P9={}", paths::root().display()));
	// The same input shall give the same image, and nobody's make flags matter.
	make.env("KBUILD_BUILD_TIMESTAMP", "1970-01-01 00:00:00 UTC")
		.env("KBUILD_BUILD_USER", "kvm-p9")
		.env("KBUILD_BUILD_HOST", "kvm-p9")
		.env("KBUILD_BUILD_VERSION", "1")
		.env("LC_ALL", "C")
		.env_remove("MAKEFLAGS")
		.env_remove("KCONFIG_ALLCONFIG");
	make
}

fn build_vmlinux(src: &Path, series: &str, name: &str) -> Result<()> {
	process::logged(
		make(src).arg(format!("-j{}", cores())).arg("vmlinux"),
		&log_path(name),
		&format!("kernel {series}"),
		|line| line.starts_with("  "),
	)
}

/// Puts a built kernel where it is looked for, its description last.
fn finish(base: &Base, src: &Path, folder: &Path, stock: bool, inputs: &str) -> Result<Image> {
	process::remove(&folder.join("build.json"))?;
	let config = fs::read_to_string(src.join(".config"))?;
	let settings: Vec<_> = config
		.lines()
		.filter(|line| line.starts_with("CONFIG_"))
		.collect();
	let mut config_hash = Inputs::new();
	config_hash.add(settings.join("\n"));
	let release = fs::read_to_string(src.join("include/config/kernel.release"))?;
	let object = src.join("arch/powerpc/kvm/kvm_p9_rust.o");
	let has_object = settings.contains(&format!("{RUST_OPTION}=y").as_str());
	let object_hash = has_object
		.then(|| process::sha256_file(&object))
		.transpose()?;
	let image = Image {
		series: base.series.name.to_owned(),
		stock,
		package_version: base.package_version.clone(),
		release: release.trim().to_owned(),
		config_hash: config_hash.finish(),
		object_hash,
		compiler: base.compiler.clone(),
		inputs: inputs.to_owned(),
		folder: folder.to_owned(),
	};
	process::copy_whole(&src.join("vmlinux"), &image.vmlinux())?;
	strip(&image.vmlinux(), &image.stripped())?;
	let mut text = serde_json::to_string_pretty(&image)?;
	text.push('\n');
	process::write_whole(&folder.join("build.json"), text.as_bytes())?;
	Ok(image)
}

/// QEMU's firmware loads the whole file, so symbols are left out.
pub fn strip(from: &Path, to: &Path) -> Result<()> {
	let part = process::beside(to, ".part");
	process::output(
		Command::new(format!("{CROSS}strip"))
			.arg("-o")
			.args([&part, from]),
	)
	.with_context(|| format!("{} can't be stripped", from.display()))?;
	fs::rename(&part, to)?;
	Ok(())
}

fn compiler() -> Result<String> {
	let text = process::output(Command::new(format!("{CROSS}gcc")).arg("--version"))
		.context("install gcc-powerpc64le-linux-gnu, or run ci/setup")?;
	Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn log_path(name: &str) -> PathBuf {
	paths::target().join("kernel").join(format!("{name}.log"))
}

fn cores() -> usize {
	thread::available_parallelism().map_or(1, usize::from)
}

fn human_cores() -> String {
	match cores() {
		1 => "1 core".to_owned(),
		n => format!("{n} cores"),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_fragment_line_must_take_effect() {
		let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_N=8\nCONFIG_AB=y\n";
		assert!(lost_lines(config, "# text\nCONFIG_A=y\nCONFIG_B=n\nCONFIG_N=8\n").is_empty());
		assert_eq!(
			lost_lines(config, "CONFIG_B=y\nCONFIG_A=n\nCONFIG_N=4\nCONFIG_C=y\n"),
			["CONFIG_B=y", "CONFIG_A=n", "CONFIG_N=4", "CONFIG_C=y"]
		);
	}

	#[test]
	fn an_unknown_series_is_named() {
		let error = Series::find("4.19").unwrap_err();
		assert!(error.is::<Usage>());
		assert_eq!(
			error.to_string(),
			"unknown kernel series '4.19'; known: 6.12, 5.10, 7.3"
		);
	}

	#[test]
	fn the_file_that_does_not_match_is_named() {
		let hunk = "checking file a/one.c\nchecking file b/two.c\nHunk #1 FAILED at 3.\n1 out of 1 hunk FAILED\n";
		assert_eq!(failed_file(hunk), Some("b/two.c"));
		let missing = "can't find file to patch at input line 5\n|--- a/x.c\n|+++ b/x.c\n";
		assert_eq!(failed_file(missing), Some("x.c"));
	}

	#[test]
	fn touched_files_are_found() {
		let patch = "--- a/one.c\n+++ b/one.c\n--- /dev/null\n+++ b/new/two.c\t2026\n--- x\n";
		let files: BTreeSet<String> = touched_files(patch).collect();
		assert_eq!(
			files.into_iter().collect::<Vec<_>>(),
			["new/two.c", "one.c"]
		);
	}

	#[test]
	fn what_changed_while_it_was_built_is_built_again() {
		use std::cell::Cell;
		// How often the sources change while they are built, and how often that is.
		for (changes, builds) in [(0, 1), (1, 2), (2, 2)] {
			let (version, built) = (Cell::new(0), Cell::new(0));
			let result = stable(
				|| Ok(version.get().to_string()),
				|| {
					built.set(built.get() + 1);
					version.set(changes.min(version.get() + 1));
					Ok(())
				},
			);
			assert_eq!(built.get(), builds);
			match result {
				Ok(key) => assert_eq!(key, changes.to_string()),
				Err(error) => {
					assert_eq!(changes, 2);
					assert!(error.to_string().contains("keep changing"));
				}
			}
			assert_eq!(changes == 2, built.get() == 2 && version.get() == 2);
		}
		let failed = stable(|| Ok(String::new()), || bail!("no compiler"));
		assert_eq!(failed.unwrap_err().to_string(), "no compiler");
	}

	#[test]
	fn a_series_takes_the_patches_that_it_does_not_have() {
		let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
		let below = paths(&["6/0001-a.patch", "6/0002-b.patch", "6/0003-c.patch"]);
		let above = paths(&["7/0002-b.patch", "7/0002-x.patch"]);
		assert_eq!(
			overlaid(below, above),
			paths(&[
				"6/0001-a.patch",
				"7/0002-b.patch",
				"7/0002-x.patch",
				"6/0003-c.patch"
			])
		);
	}

	#[test]
	fn changes_are_the_same_wherever_they_are() {
		let patch = |at, context, new| {
			format!(
				"Subject: x\n---\n a | 2 +-\ndiff --git a/a b/a\n--- a/a\n+++ b/a\n@@ {at} @@\n {context}\n-one\n+{new}\n"
			)
		};
		let (a, b) = (
			patch("-1,2 +1,2", "x", "two"),
			patch("-9,2 +9,2", "y", "two"),
		);
		assert_eq!(changes(&a), ["+two", "-one"]);
		assert_eq!(changes(&a), changes(&b));
		assert_ne!(changes(&a), changes(&patch("-1,2 +1,2", "x", "three")));
	}

	#[test]
	fn patches_are_applied_or_refused() {
		let folder = std::env::temp_dir().join(format!("kvm-p9-apply-{}", std::process::id()));
		fs::create_dir_all(&folder).unwrap();
		fs::write(folder.join("file"), "one\n").unwrap();
		let patch = folder.join("0001.patch");
		fs::write(&patch, "--- a/file\n+++ b/file\n@@ -1 +1 @@\n-one\n+two\n").unwrap();
		apply(&folder, std::slice::from_ref(&patch)).unwrap();
		assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "two\n");
		let error = apply(&folder, &[patch]).unwrap_err().to_string();
		assert!(
			error.ends_with("0001.patch does not apply to file"),
			"{error}"
		);
		assert_eq!(fs::read_to_string(folder.join("file")).unwrap(), "two\n");
		fs::remove_dir_all(&folder).unwrap();
	}
}
