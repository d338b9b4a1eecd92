// SPDX-License-Identifier: GPL-2.0-only
//! Turns the configured kernel's layout into Rust constants.
//!
//! `KVM_P9_LAYOUT` names the `kvm_p9_layout.h` that kbuild made from
//! `kvm_p9_layout.c`. Without it there is no kernel to be linked into, as in the
//! host's unit tests, and what depends on the kernel is left out.

use std::fmt::Write;
use std::path::PathBuf;
use std::{env, fs};

fn main() {
	println!("cargo::rustc-check-cfg=cfg(kernel)");
	println!("cargo::rerun-if-env-changed=KVM_P9_LAYOUT");
	let Some(path) = env::var_os("KVM_P9_LAYOUT").filter(|path| !path.is_empty()) else {
		return;
	};
	let path = PathBuf::from(path);
	println!("cargo::rerun-if-changed={}", path.display());
	let header = fs::read_to_string(&path)
		.unwrap_or_else(|error| panic!("KVM_P9_LAYOUT={}: {error}", path.display()));

	let mut constants = String::new();
	for line in header.lines() {
		let mut words = line.split_whitespace();
		if words.next() != Some("#define") {
			continue;
		}
		// The include guard is the one name without a value.
		if let (Some(name), Some(value)) = (words.next(), words.next()) {
			let value: u64 = value
				.parse()
				.unwrap_or_else(|_| panic!("{}: {line}: not a number", path.display()));
			writeln!(constants, "pub const {name}: usize = {value};").unwrap();
		}
	}
	let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("layout.rs");
	fs::write(out, constants).unwrap();
	println!("cargo::rustc-cfg=kernel");
}
