// SPDX-License-Identifier: GPL-2.0-only
//! Configurations: a fragment, and whether each line of it took effect.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::kernel::make::{log_path, make};
use crate::process;

/// The option that our series adds, and what it makes of a kernel tree.
pub(super) const RUST_OPTION: &str = "CONFIG_KVM_BOOK3S_HV_P9_RUST";

/// The option of our series that adds the hcall whose cost is the way there and back.
const NULL_OPTION: &str = "CONFIG_KVM_BOOK3S_HV_NULL_HCALL";

/// Switches our option on in a patched tree, and others.
pub(super) fn enable_rust(src: &Path, name: &str, fragment: &str, options: &str) -> Result<()> {
	let config = src.join(".config");
	let wanted = format!("{RUST_OPTION}=y\n{NULL_OPTION}=y\n{options}");
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
pub(super) fn check_config(config: &Path, fragment: &str) -> Result<()> {
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
pub(super) fn lost_lines<'a>(config: &str, fragment: &'a str) -> Vec<&'a str> {
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
}
