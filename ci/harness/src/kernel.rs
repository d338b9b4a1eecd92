// SPDX-License-Identifier: GPL-2.0-only
//! Kernels: Debian's newest source of a series, our configuration, with or
//! without our patches.
//!
//! The unpatched tree is built once per source version, configuration and
//! compiler, in the cache that all checkouts share. A patched kernel starts as a
//! copy of that built tree, so that only what the patches touch is compiled
//! again. Every step either leaves a whole result or one that the next run
//! recognises as unfinished and goes on with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::process::{self, Inputs, Usage};
use crate::{copy, paths};

use self::base::Base;
use self::config::enable_rust;
use self::image::finish;
use self::make::build_kvm;
use self::patched::{Extra, patched_image};

mod base;
mod config;
mod configured;
mod image;
mod make;
mod patched;
mod series;

pub use self::configured::{Configurations, Configured};
pub use self::image::Image;
pub use self::make::strip;
pub use self::patched::{apply, touched_files};
pub use self::series::{
	COVER_LETTER, DEFAULT_SERIES, NEXT_SERIES, NoSource, SERIES, Series, is_fix, patches_in,
};

/// Builds the kernel of a series, or finds it built.
pub fn build(series: &'static Series, stock: bool) -> Result<Image> {
	build_with(series, stock, &[])
}

/// Builds the kernel with the patches only that fix its bugs.
pub fn build_fixed(series: &'static Series) -> Result<Image> {
	let base = Base::find(series, &[])?;
	let name = format!("{}-fixed", series.name);
	let folder = paths::target().join("kernel").join(&name);
	let _lock = process::lock(
		&process::beside(&folder, ".lock"),
		&format!("kernel {name}"),
	)?;
	let mut image = patched_image(
		&base,
		&series.fixes()?,
		&folder,
		&name,
		false,
		Extra::default(),
		false,
	)?;
	image.stock = true;
	Ok(image)
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
	patched_image(
		&base,
		&series.patches()?,
		&folder,
		&name,
		false,
		Extra::default(),
		false,
	)
}

/// Builds the patched kernel with more options, from the tree that is there for the one
/// without: `--config-extra` would build a whole stock kernel first. `what` ends the kernel's name.
/// `variables` are more of make's, each `NAME=VALUE`.
pub fn build_options(
	series: &'static Series,
	what: &str,
	options: &[&str],
	variables: &[String],
) -> Result<Image> {
	let base = Base::find(series, &[])?;
	let name = format!("{}-{what}", series.name);
	let folder = paths::target().join("kernel").join(&name);
	let _lock = process::lock(
		&process::beside(&folder, ".lock"),
		&format!("kernel {name}"),
	)?;
	let options: String = options
		.iter()
		.map(|option| format!("CONFIG_{option}=y\n"))
		.collect();
	let extra = Extra {
		options: &options,
		variables,
	};
	patched_image(
		&base,
		&series.patches()?,
		&folder,
		&name,
		series.rust,
		extra,
		false,
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
	patched_image(
		&base,
		&series.patches()?,
		&folder,
		name,
		series.rust,
		Extra::default(),
		false,
	)
	.map(Some)
}

/// Copies the built, unpatched tree of a series into a folder, has `lay` put all of kvm-p9 into the
/// copy, and builds KVM there without this checkout. `prepare` is given the make that does so.
/// Returns the copy.
pub fn build_laid(
	series: &'static Series,
	folder: &Path,
	lay: impl FnOnce(&Path) -> Result<()>,
	prepare: impl FnOnce(&mut Command) -> Result<()>,
) -> Result<PathBuf> {
	let base = Base::find(series, &[])?;
	base.complete()?;
	let src = folder.join("src");
	let name = format!("tree-{}", series.name);
	copy::tree(&format!("kernel {name}"), &base.src(), &src)?;
	lay(&src)?;
	enable_rust(&src, &name, &base.fragment, "")?;
	build_kvm(&src, &name, prepare)?;
	Ok(src)
}

/// The unpatched source tree of a series, built.
pub struct StockTree {
	/// Where it is.
	pub src: PathBuf,
	/// Hash of what it was made from: source package, configuration and compiler.
	pub key: String,
}

impl StockTree {
	fn of(base: &Base) -> Self {
		Self {
			src: base.src(),
			key: base.key.clone(),
		}
	}
}

/// The unpatched source tree of a series that is built already.
pub fn warm_tree(series: &'static Series) -> Result<StockTree> {
	let base = Base::warm(series)?.ok_or(NoSource(series.name))?;
	Ok(StockTree::of(&base))
}

/// The unpatched source tree of a series, built.
pub fn stock_tree(series: &'static Series) -> Result<StockTree> {
	let base = Base::find(series, &[])?;
	base.complete()?;
	Ok(StockTree::of(&base))
}

/// Builds the patched kernel of a series, from an unpatched tree that need not be built: half the
/// time, where nothing is built yet.
pub fn build_direct(series: &'static Series) -> Result<Image> {
	build_from(series, false, &[], true)
}

/// Whether a kernel of the series was built in this checkout, of whichever version.
pub fn has_image(series: &Series) -> bool {
	let folder = paths::target().join("kernel").join(series.name);
	folder.join("build.json").exists()
}

/// The same as [`build`] with more configuration lines, each `KEY=VALUE`; the result gets a folder
/// of its own.
pub fn build_with(series: &'static Series, stock: bool, extra: &[String]) -> Result<Image> {
	build_from(series, stock, extra, false)
}

fn build_from(
	series: &'static Series,
	stock: bool,
	extra: &[String],
	direct: bool,
) -> Result<Image> {
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
		patched_image(
			&base,
			&patches,
			&folder,
			&name,
			series.rust,
			Extra::default(),
			direct,
		)
	}
}

fn stock_image(base: &Base, folder: &Path) -> Result<Image> {
	if let Some(image) = Image::load(folder, &base.key) {
		return Ok(image);
	}
	base.complete()?;
	finish(base, &base.src(), folder, true, &base.key)
}
