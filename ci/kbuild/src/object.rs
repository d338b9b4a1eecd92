// SPDX-License-Identifier: GPL-2.0-only
//! The Rust object that is linked into the kernel.
//!
//! kbuild gives the layout of the configured kernel. The crate `entry` and
//! `core` are built with the kernel's own target features, so that no vector or
//! floating-point register can be touched while it is the guest's or the user's,
//! and prelinked into one relocatable object in which only the entry points are
//! global.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What failed is for a person to read.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Functions that the kernel calls. Everything else in the object but [`TEXT_BOUNDS`] is local.
pub const ENTRY_POINTS: [&str; 7] = [
	"kvm_p9_assists_tm",
	"kvm_p9_fetch",
	"kvm_p9_rs_flush",
	"kvm_p9_rs_vcpu_entry",
	"kvm_p9_time_entry",
	"kvm_p9_time_exit",
	"kvm_p9_tce",
];

/// Where the code of the object begins and ends, by which the trampoline knows a handler
/// (`entry/object.ld`).
pub const TEXT_BOUNDS: [&str; 2] = ["kvm_p9_rs_text", "kvm_p9_rs_text_end"];

/// The compilation target.
pub const TARGET: &str = "powerpc64le-unknown-linux-gnu";

/// What the kernel itself compiles Rust with on ppc64le (`arch/powerpc/Makefile`
/// and the top `Makefile` of Linux 7.3).
const RUSTFLAGS: &str = "-Ctarget-feature=-mma,-vsx,-hard-float,-altivec \
	-Ctarget-cpu=pwr9 -Crelocation-model=static -Cforce-unwind-tables=no \
	-Csymbol-mangling-version=v0 -Cpanic=abort";

/// A binutils program of the cross toolchain.
pub fn binutil(name: &str) -> Command {
	let prefix = std::env::var("CROSS_COMPILE")
		.ok()
		.filter(|prefix| !prefix.is_empty())
		.unwrap_or_else(|| String::from("powerpc64le-linux-gnu-"));
	Command::new(format!("{prefix}{name}"))
}

/// Runs `command` and gives its standard output; an error names what failed.
pub fn output_of(command: &mut Command) -> Result<String> {
	let output = command
		.output()
		.map_err(|error| format!("can't run {:?}: {error}", command.get_program()))?;
	if !output.status.success() {
		let errors = String::from_utf8_lossy(&output.stderr);
		return Err(format!("{command:?} failed: {}", errors.trim_end()).into());
	}
	Ok(String::from_utf8(output.stdout)?)
}

/// Builds the object for the kernel whose layout is in `layout` and puts it at
/// `output`, which is left alone if nothing changed.
pub fn build(root: &Path, layout: &Path, output: &Path) -> Result<()> {
	// Another kernel may be built at the same time, and its library goes to the same place.
	let _lock = lock(&root.join("target/object.lock"))?;
	let library = compile(root, layout)?;
	let mut name = OsString::from(".tmp-");
	name.push(output.file_name().ok_or("--output names no file")?);
	let temporary = output.with_file_name(name);

	let mut link = binutil("ld");
	link.args(["-r", "--gc-sections", "-T"])
		.arg(root.join("entry/object.ld"));
	link.arg("-o").arg(&temporary);
	for entry in ENTRY_POINTS {
		link.args(["-u", entry]);
	}
	output_of(link.arg(&library))?;

	let mut localize = binutil("objcopy");
	localize.args(["--remove-section=.comment", "--strip-debug"]);
	for global in ENTRY_POINTS.into_iter().chain(TEXT_BOUNDS) {
		localize.arg(format!("--keep-global-symbol={global}"));
	}
	output_of(localize.arg(&temporary))?;

	let new = fs::read(&temporary)?;
	if fs::read(output).is_ok_and(|old| old == new) {
		fs::remove_file(&temporary)?;
	} else {
		fs::rename(&temporary, output)?;
	}
	Ok(())
}

/// Holds a lock file until dropped; says so if it has to wait.
fn lock(path: &Path) -> Result<File> {
	if let Some(folder) = path.parent() {
		fs::create_dir_all(folder)
			.map_err(|error| format!("can't make the folder {}: {error}", folder.display()))?;
	}
	let file =
		File::create(path).map_err(|error| format!("can't write {}: {error}", path.display()))?;
	if file.try_lock().is_err() {
		eprintln!("kvm-p9-kbuild: another build of the Rust object is running; waiting");
		file.lock()
			.map_err(|error| format!("can't lock {}: {error}", path.display()))?;
	}
	Ok(file)
}

fn compile(root: &Path, layout: &Path) -> Result<PathBuf> {
	let target_dir = root.join("target/object");
	let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
	cargo
		.current_dir(root)
		.args([
			"rustc",
			"--quiet",
			"--package",
			"kvm-p9-entry",
			"--lib",
			"--profile",
			"kernel",
		])
		.args([
			"--crate-type",
			"staticlib",
			"--target",
			TARGET,
			"-Zbuild-std=core",
		])
		.arg("--target-dir")
		.arg(&target_dir)
		.env("RUSTC_BOOTSTRAP", "1")
		.env("CARGO_ENCODED_RUSTFLAGS", encode(RUSTFLAGS))
		.env("KVM_P9_LAYOUT", layout);
	output_of(&mut cargo)?;
	Ok(target_dir.join(TARGET).join("kernel/libentry.a"))
}

/// Cargo's form of a list of flags that survives spaces in paths.
pub fn encode(flags: &str) -> String {
	flags.split_whitespace().collect::<Vec<_>>().join("\u{1f}")
}
