// SPDX-License-Identifier: GPL-2.0-only
//! Records of checks on counted instructions.
//!
//! A machine that counts instructions does the same each time, so a figure depends on kernels, on the
//! programs in the machine, on the emulator and on the code that judges it. While none of these
//! changes, the record of an earlier run stands for the checks.

use std::process::Command;

use anyhow::Result;
use harness::check::Check;
use harness::kernel::Image;
use harness::process::Inputs;
use harness::qemu::QEMU;
use harness::{paths, process, record};

/// Sources of the programs in the machine, of the plugin, and of what judges the figures; and the figures
/// that they are compared with. The kernel's own sources are in the key of an image.
const SOURCES: [&str; 7] = [
	"Cargo.lock",
	"Cargo.toml",
	"arch/powerpc/src",
	"bench",
	"ci/harness/src",
	"ci/xtask/src",
	"hcall",
];

/// The checks that `work` makes on these kernels, or their record.
pub fn checks(
	name: &str,
	anew: bool,
	images: &[&Image],
	work: impl FnOnce() -> Result<Vec<Check>>,
) -> Result<Vec<Check>> {
	let key = || {
		let mut inputs = Inputs::new();
		for image in images {
			inputs.add(image.inputs());
		}
		for program in [QEMU, "rustc"] {
			inputs.add(process::output(Command::new(program).arg("--version"))?);
		}
		for source in SOURCES {
			let path = paths::root().join(source);
			anyhow::ensure!(path.exists(), "there is no {source}");
			inputs.add(source).add_tree(&path)?;
		}
		Ok(inputs.finish())
	};
	record::checks(name, anew, key, work)
}
