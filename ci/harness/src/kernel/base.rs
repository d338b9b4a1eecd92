// SPDX-License-Identifier: GPL-2.0-only
//! The unpatched tree of a series, built once in the cache of all checkouts.

use std::ffi::OsStr;
use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};

use crate::kernel::config::check_config;
use crate::kernel::make::{build_vmlinux, compiler, human_cores, log_path, make};
use crate::kernel::series::{NoSource, Series};
use crate::paths;
use crate::process::{self, Inputs, Usage, say};

/// Changes when trees in the cache can't be used any more.
const SCHEME: &str = "1";

/// The unpatched tree in the cache.
pub(super) struct Base {
	pub(super) series: &'static Series,
	package: PathBuf,
	pub(super) package_version: String,
	pub(super) compiler: String,
	pub(super) fragment: String,
	pub(super) key: String,
	folder: PathBuf,
}

impl Base {
	pub(super) fn find(series: &'static Series, extra: &[String]) -> Result<Self> {
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
	pub(super) fn warm(series: &'static Series) -> Result<Option<Self>> {
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

	pub(super) fn src(&self) -> PathBuf {
		self.folder.join("src")
	}

	/// Where the same tree is kept as it was built with our patches.
	pub(super) fn snapshot(&self) -> PathBuf {
		process::beside(&self.folder, "-patched")
	}

	pub(super) fn lock_snapshot(&self) -> Result<fs::File> {
		let what = format!("patched kernel {}", self.package_version);
		process::lock(&process::beside(&self.folder, "-patched.lock"), &what)
	}

	/// Whether it is built.
	pub(super) fn is_done(&self) -> bool {
		self.folder.join("done").exists()
	}

	/// Keeps others from building in it.
	pub(super) fn lock(&self) -> Result<fs::File> {
		process::lock(
			&process::beside(&self.folder, ".lock"),
			&format!("stock kernel {}", self.package_version),
		)
	}

	/// Extracts, configures and builds it, as far as that is not done.
	pub(super) fn complete(&self) -> Result<()> {
		let _lock = self.lock()?;
		if self.is_done() {
			return Ok(());
		}
		self.prepare()?;
		let started = Instant::now();
		say(format_args!(
			"building Linux {} ({}); this takes several minutes, once",
			self.package_version,
			human_cores()
		));
		build_vmlinux(
			&self.src(),
			self.series.name,
			&format!("{}-stock", self.series.name),
			&[],
			Some(self.series.steps),
		)?;
		process::write_whole(&self.folder.join("done"), b"")?;
		say(format_args!(
			"built Linux {} in {}",
			self.package_version,
			process::human(started.elapsed())
		));
		Ok(())
	}

	/// Extracts and configures it. The caller has the lock.
	pub(super) fn prepare(&self) -> Result<()> {
		let src = self.src();
		if !src.exists() {
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
		Ok(())
	}

	fn extract(&self, src: &Path) -> Result<()> {
		let part = process::beside(src, ".part");
		process::remove(&part)?;
		fs::create_dir_all(&part)
			.with_context(|| format!("can't make the folder {}", part.display()))?;
		// An archive that the user named (`--source`) is not in a package.
		if self.package.extension() == Some(OsStr::new("tar")) {
			let status = Command::new("tar")
				.arg("-xf")
				.arg(&self.package)
				.args(["--strip-components=1", "-C"])
				.arg(&part)
				.status()
				.context("tar can't be run")?;
			if !status.success() {
				process::remove(&part)?;
				bail!("{} can't be unpacked", self.package.display());
			}
			fs::rename(&part, src)?;
			return Ok(());
		}
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
