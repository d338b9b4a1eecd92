// SPDX-License-Identifier: GPL-2.0-only
//! The record of spans that QEMU's plugin makes.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use ::trace::span::{self, landmark};
use ::trace::symbols::{self, LINEAR, Symbols};
use anyhow::{Context, Result, anyhow, bail};
use protocol::marker;

use crate::trace;
use harness::kernel::Image;
use harness::paths;
use harness::process;

/// Where a CPU changes its thread.
const SWITCH: &str = "_switch";

/// Functions of the kernel that a span may come through.
const LANDMARKS: [(u8, &str); 8] = [
	(landmark::FULL, "kvm_p9_vcpu_entry"),
	(landmark::LIGHT, "kvm_p9_light_hcall"),
	(landmark::LIGHT, "kvm_p9_light_hash_hcall"),
	(landmark::LIGHT, "kvm_p9_light_hash_store"),
	(landmark::LIGHT, "kvm_p9_light_ring"),
	(landmark::LIGHT, "kvm_p9_light_store"),
	(landmark::LIGHT, "kvm_p9_light_serve"),
	(landmark::IDLE, "tick_nohz_idle_enter"),
];

/// From a function's global entry point to its local one, where it has two. All callers execute
/// the instruction there.
pub const LOCAL_ENTRY: u64 = 8;

/// What QEMU has recorded.
pub fn read(file: &Path) -> Result<Vec<span::Recording>> {
	let name = || paths::short(file);
	let open = File::open(file).with_context(name)?;
	span::read(open).with_context(name)
}

/// A record of spans that QEMU makes.
pub struct Spans {
	plugin: PathBuf,
	/// Where QEMU writes the record.
	pub file: PathBuf,
	/// Of the kernel.
	pub symbols: Symbols,
}

impl Spans {
	/// Builds the plugin. An error if there can be no record. The file is below target/test.
	pub fn new(image: &Image, name: &str) -> Result<Self> {
		trace::available()?;
		let plugin = trace::plugin()?;
		let vmlinux = fs::read(image.vmlinux())
			.with_context(|| format!("can't read {}", image.vmlinux().display()))?;
		if symbols::contains_word(&vmlinux, &marker::ALL).map_err(|e| anyhow!(e))? {
			bail!("the kernel's code has a word that is a marker of ours");
		}
		let symbols = Symbols::new(&vmlinux, &trace::sources(image)?).map_err(|e| anyhow!(e))?;
		let file = paths::target().join("test").join(name);
		fs::create_dir_all(paths::target().join("test"))?;
		process::remove(&file)?;
		Ok(Self {
			plugin,
			file,
			symbols,
		})
	}

	/// What QEMU has to be told.
	pub fn options(&self) -> Result<Vec<String>> {
		let real = |name: &str| {
			let function = self.symbols.named(name);
			let function = function.with_context(|| format!("the kernel has no {name}()"))?;
			anyhow::Ok(function.start - LINEAR + LOCAL_ENTRY)
		};
		// A comma in a path would end the option.
		let path = |path: &Path| path.display().to_string().replace(',', ",,");
		let mut plugin = format!(
			"file={},spans={},kernel={:#x},switch={:#x}",
			path(&self.plugin),
			path(&self.file),
			self.symbols.end() - LINEAR,
			real(SWITCH)?
		);
		for (bit, name) in LANDMARKS {
			write!(plugin, ",landmark={bit}:{:#x}", real(name)?)?;
		}
		Ok(["-plugin".to_owned(), plugin].to_vec())
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_record_that_is_none_is_one_line() {
		let file = std::env::temp_dir().join(format!("kvm-p9-spans-{}", std::process::id()));
		let error = |content: &[u8]| {
			fs::write(&file, content).unwrap();
			format!("{:#}", read(&file).unwrap_err())
		};
		for (content, why) in [
			("", "this is not a record of spans of this version"),
			(
				"kvm-p9 spans 0\nend\n",
				"this is not a record of spans of this version",
			),
			(
				"kvm-p9 spans 2\nphase 1\n",
				"the record of spans ends in the middle",
			),
			(
				"kvm-p9 spans 2\nphase\nend\n",
				"the record of spans is damaged in line 2",
			),
		] {
			let error = error(content.as_bytes());
			assert!(
				error.ends_with(why) && error.lines().count() == 1,
				"{error}"
			);
		}
		fs::remove_file(&file).unwrap();
		assert_eq!(format!("{:#}", read(&file).unwrap_err()).lines().count(), 1);
	}
}
