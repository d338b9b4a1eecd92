// SPDX-License-Identifier: GPL-2.0-only
//! A built kernel and its description.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::kernel::base::Base;
use crate::kernel::config::RUST_OPTION;
use crate::kernel::make::strip;
use crate::process::{self, Inputs};

/// A built kernel, as the JSON file beside it describes it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Image {
	/// `6.12`
	pub series: String,
	/// Without our patches, or with those only that fix bugs.
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

	/// Hash of all that the image was made from.
	pub fn inputs(&self) -> &str {
		&self.inputs
	}

	/// The tree that a patched kernel was built in.
	pub fn tree(&self) -> PathBuf {
		self.folder.join("src")
	}

	pub(super) fn load(folder: &Path, inputs: &str) -> Option<Self> {
		let text = fs::read(folder.join("build.json")).ok()?;
		let mut image: Self = serde_json::from_slice(&text).ok()?;
		image.folder = folder.to_owned();
		let whole = image.vmlinux().exists() && image.stripped().exists();
		(whole && image.inputs == inputs).then_some(image)
	}
}

/// Puts a built kernel where it is looked for, its description last.
pub(super) fn finish(
	base: &Base,
	src: &Path,
	folder: &Path,
	stock: bool,
	inputs: &str,
) -> Result<Image> {
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
