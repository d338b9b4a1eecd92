// SPDX-License-Identifier: GPL-2.0-only
//! One tree in which the folder of KVM is built for one configuration after the other.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::kernel::config::{RUST_OPTION, lost_lines};
use crate::kernel::image::Image;
use crate::kernel::make::{build_kvm_in, log_path, make};
use crate::{copy, process};

/// What Kconfig made of a configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum Configured {
	/// Each line took effect, and our option is on.
	On,
	/// Each line took effect, and our option is off: the option depends on something else.
	Refused,
	/// Lines that Kconfig did not take.
	Lost(Vec<String>),
}

/// A copy of the tree that a patched kernel was built in.
pub struct Configurations {
	src: PathBuf,
	/// Begins the names of the logs.
	name: String,
	/// The configuration of the kernel.
	config: String,
}

impl Configurations {
	/// Copies the tree of a kernel into a folder.
	pub fn new(image: &Image, folder: &Path) -> Result<Self> {
		let name = format!("configs-{}", image.series);
		let src = folder.join("src");
		copy::tree(&format!("kernel {name}"), &image.tree(), &src)?;
		let config = fs::read_to_string(src.join(".config"))?;
		Ok(Self { src, name, config })
	}

	/// The tree.
	pub fn tree(&self) -> &Path {
		&self.src
	}

	/// Configures the tree as the kernel is configured, with these lines on top.
	pub fn configure(&self, name: &str, lines: &str) -> Result<Configured> {
		let config = self.src.join(".config");
		process::write_whole(&config, format!("{}{lines}", self.config).as_bytes())?;
		process::logged(
			make(&self.src).arg("olddefconfig"),
			&self.log(&format!("{name}-config")),
			"configuring",
			|_| true,
		)?;
		let text = fs::read_to_string(&config)?;
		let lost = lost_lines(&text, lines);
		Ok(if !lost.is_empty() {
			Configured::Lost(lost.into_iter().map(str::to_owned).collect())
		} else if lost_lines(&text, &format!("{RUST_OPTION}=y")).is_empty() {
			Configured::On
		} else {
			Configured::Refused
		})
	}

	/// Builds the folder of KVM, and gives the warnings of all programs that the build ran.
	pub fn build(&self, name: &str) -> Result<Vec<String>> {
		let log = self.log(name);
		build_kvm_in(make(&self.src), &log, &format!("{} {name}", self.name))?;
		let text = fs::read_to_string(log)?;
		Ok(warnings(&text).map(str::to_owned).collect())
	}

	fn log(&self, name: &str) -> PathBuf {
		log_path(&format!("{}-{name}", self.name))
	}
}

/// The lines of a log that are warnings.
fn warnings(log: &str) -> impl Iterator<Item = &str> {
	log.lines()
		.filter(|line| line.to_ascii_lowercase().contains("warning:"))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn warnings_of_all_programs_are_found() {
		let log = "  CC      arch/powerpc/kvm/a.o\na.c:1:2: warning: unused variable 'b'\n\
		           WARNING: modpost: c\n  CC      warning.o\n";
		let found: Vec<_> = warnings(log).collect();
		assert_eq!(
			found,
			[
				"a.c:1:2: warning: unused variable 'b'",
				"WARNING: modpost: c"
			]
		);
	}
}
