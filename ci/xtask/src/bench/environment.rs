// SPDX-License-Identifier: GPL-2.0-only
//! What a report says of the kernels and the tools that its figures come from.

use std::process::Command;

use ::report::report::{Environment, Kernel};
use anyhow::Result;
use harness::kernel::Image;
use harness::process;
use harness::qemu;

pub(super) fn environment(images: &[Image]) -> Result<Environment> {
	// The first is the one under test.
	let first = images.first();
	Ok(Environment {
		kernel_release: first.map(|image| image.release.clone()).unwrap_or_default(),
		config_hash: first
			.map(|image| image.config_hash.clone())
			.unwrap_or_default(),
		object_hash: first
			.and_then(|image| image.object_hash.clone())
			.unwrap_or_else(|| "none".to_owned()),
		qemu: qemu::version()?,
		icount: qemu::ICOUNT.to_owned(),
		rustc: process::output(Command::new("rustc").arg("--version"))?,
		kernels: images
			.iter()
			.map(|image| Kernel {
				series: image.series.clone(),
				release: image.release.clone(),
				package_version: image.package_version.clone(),
				config_hash: image.config_hash.clone(),
				compiler: image.compiler.clone(),
			})
			.collect(),
	})
}
