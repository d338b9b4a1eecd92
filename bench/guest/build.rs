// SPDX-License-Identifier: GPL-2.0-only
//! Links the payload at fixed addresses, without a C runtime.

fn main() {
	let script = concat!(env!("CARGO_MANIFEST_DIR"), "/guest.ld");
	println!("cargo::rerun-if-changed={script}");
	for arg in [
		"-nostdlib",
		"-static",
		"-no-pie",
		"-Wl,--build-id=none",
		"-Wl,-z,norelro",
	] {
		println!("cargo::rustc-link-arg-bins={arg}");
	}
	println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
}
