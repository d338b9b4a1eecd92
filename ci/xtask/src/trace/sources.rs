// SPDX-License-Identifier: GPL-2.0-only
//! Which language each symbol of a kernel is written in.

use std::fs;

use ::trace::symbols::{Origin, Sources};
use anyhow::{Result, anyhow, bail};
use harness::kernel::Image;
use harness::process;

/// What the symbols of an image are written in, from the objects that it was linked from.
pub fn sources(image: &Image) -> Result<Sources> {
	let mut sources = Sources::default();
	let tree = image.tree();
	for file in process::files_below(&tree.join("arch/powerpc"))? {
		if file.extension().is_none_or(|extension| extension != "S") {
			continue;
		}
		let object = file.with_extension("o");
		let Ok(bytes) = fs::read(&object) else {
			continue;
		};
		let ours = file
			.file_name()
			.is_some_and(|name| name.to_string_lossy().starts_with("kvm_p9_"));
		let kind = if ours {
			Origin::Trampoline
		} else {
			Origin::Asm
		};
		// What is made for 32-bit userspace or the boot wrapper is none of the kernel's.
		if let Err(error) = sources.add(&bytes, kind) {
			bail!("{}: {error}", object.display());
		}
	}
	if let Ok(bytes) = fs::read(tree.join("arch/powerpc/kvm/kvm_p9_rust.o")) {
		sources
			.add(&bytes, Origin::Rust)
			.map_err(|error| anyhow!("kvm_p9_rust.o: {error}"))?;
	}
	Ok(sources)
}
