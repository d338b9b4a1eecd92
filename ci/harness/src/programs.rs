// SPDX-License-Identifier: GPL-2.0-only
//! The programs that run inside the emulated host: the benchmark or the booted tests,
//! which are its init, and the payload of their guest. A [`Job`] tells init what to do. For the real client
//! there is one that does I/O.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::initrd::Initrd;
use crate::paths;
use crate::process::{self, Once};

const TARGET: &str = "powerpc64le-unknown-linux-gnu";

/// What init is to do: `/job` in its initramfs.
#[derive(Serialize)]
#[serde(tag = "job", rename_all = "lowercase")]
pub enum Job {
	/// Measure.
	Bench {
		/// Series of the kernel it runs on.
		series: String,
		/// Names of the cases.
		cases: Vec<&'static str>,
		/// Names of the guest modes.
		guests: Vec<&'static str>,
		/// Names of the paths.
		paths: Vec<&'static str>,
		/// Round trips per batch.
		iterations: u64,
		/// Batches.
		batches: u64,
		/// Also collect spans.
		#[serde(skip_serializing_if = "std::ops::Not::not")]
		spans: bool,
	},
	/// Test: a job as `kvm-p9-booted` defines it.
	Test(serde_json::Value),
}

/// A crate that is built for the emulated machine, not for this one.
struct Foreign {
	package: &'static str,
	binary: &'static str,
	/// Below target/ppc64le: one for all that are built with the same flags.
	folder: &'static str,
	/// Of the workspace.
	profile: &'static str,
	/// What of the standard library is built with it.
	std: &'static str,
	flags: &'static str,
}

/// No floating point or vector register may change but by the payload's own hand.
const GUEST: Foreign = Foreign {
	package: "kvm-p9-guest",
	binary: "guest",
	folder: "guest",
	profile: "guest",
	std: "core",
	flags: "-Ctarget-feature=-mma,-vsx,-hard-float,-altivec",
};

const VMM: Foreign = Foreign {
	package: "kvm-p9-vmm",
	binary: "vmm",
	folder: "vmm",
	profile: "guest",
	std: "std,panic_abort",
	flags: "-Ctarget-feature=+crt-static",
};

const BOOTED: Foreign = Foreign {
	package: "kvm-p9-booted",
	binary: "booted",
	profile: "booted",
	..VMM
};

/// Runs in the emulated host and in its guest, with an operating system each.
const DISKCHECK: Foreign = Foreign {
	package: "kvm-p9-diskcheck",
	binary: "diskcheck",
	..VMM
};

impl Foreign {
	fn cargo(&self, task: &str) -> Command {
		let mut cargo = Command::new("cargo");
		cargo.arg(task).current_dir(paths::root());
		cargo.args([
			"--package",
			self.package,
			"--target",
			TARGET,
			"--profile",
			self.profile,
		]);
		cargo.arg(format!("-Zbuild-std={}", self.std));
		// Standard libraries that are built with different flags are kept apart.
		cargo
			.arg("--target-dir")
			.arg(paths::target().join("ppc64le").join(self.folder));
		cargo
			.env("RUSTC_BOOTSTRAP", "1")
			.env(
				"CARGO_TARGET_POWERPC64LE_UNKNOWN_LINUX_GNU_LINKER",
				"powerpc64le-linux-gnu-gcc",
			)
			.env(
				"CARGO_TARGET_POWERPC64LE_UNKNOWN_LINUX_GNU_RUSTFLAGS",
				self.flags,
			)
			.env_remove("RUSTFLAGS")
			.env_remove("CARGO_ENCODED_RUSTFLAGS");
		cargo
	}

	fn build(&self) -> Result<Vec<u8>> {
		let log = paths::target()
			.join("ppc64le")
			.join(format!("{}.log", self.binary));
		process::logged(
			&mut self.cargo("build"),
			&log,
			&format!("building {}", self.package),
			|line| line.trim_start().starts_with("Compiling"),
		)?;
		let path: PathBuf = paths::target()
			.join("ppc64le")
			.join(self.folder)
			.join(TARGET)
			.join(self.profile)
			.join(self.binary);
		fs::read(&path).with_context(|| format!("can't read {}", path.display()))
	}

	fn lint(&self) -> Command {
		let mut cargo = self.cargo("clippy");
		cargo.args(["--", "-Dwarnings"]);
		cargo
	}
}

/// The programs, built.
#[derive(Clone)]
pub struct Programs {
	guest: Vec<u8>,
	vmm: Vec<u8>,
	booted: Vec<u8>,
}

/// Builds benchmark, booted tests and payload, or finds them built: each time that the runner
/// runs, once.
pub fn build() -> Result<Programs> {
	static BUILT: Once<Programs> = Once::new();
	BUILT.get(|| {
		Ok(Programs {
			guest: GUEST.build()?,
			vmm: VMM.build()?,
			booted: BOOTED.build()?,
		})
	})
}

/// Builds the program that does I/O on a disk.
pub fn build_diskcheck() -> Result<Vec<u8>> {
	DISKCHECK.build()
}

/// Clippy, as it has to be called for each.
pub fn lints() -> [(&'static str, Command); 4] {
	[GUEST, VMM, BOOTED, DISKCHECK].map(|foreign| (foreign.package, foreign.lint()))
}

impl Programs {
	/// Puts the payload and the program for that job into an initramfs, the latter by that
	/// name, with the job for it.
	pub fn put(&self, initrd: &mut Initrd, name: &str, job: &Job) -> Result<()> {
		let program = match job {
			Job::Bench { .. } => &self.vmm,
			Job::Test(_) => &self.booted,
		};
		initrd.file(name, true, program);
		initrd.file("guest", false, &self.guest);
		initrd.file("job", false, &serde_json::to_vec(job)?);
		Ok(())
	}

	/// The benchmark, as a program.
	pub fn vmm(&self) -> &[u8] {
		&self.vmm
	}

	/// The payload of its guests.
	pub fn guest(&self) -> &[u8] {
		&self.guest
	}

	/// Writes an initramfs that does a job; `name` tells several apart.
	pub fn initrd(&self, job: &Job, name: &str) -> Result<PathBuf> {
		let mut initrd = Initrd::new();
		self.put(&mut initrd, "init", job)?;
		let path = paths::target().join("boot").join(format!("{name}.cpio"));
		process::write_whole(&path, &initrd.finish())?;
		Ok(path)
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn jobs_are_written_as_the_vmm_reads_them() {
		let job = Job::Test(serde_json::json!({ "tests": ["tce-diff-real"], "seed": 7 }));
		let text = serde_json::to_string(&job).unwrap();
		let read: serde_json::Value = serde_json::from_str(&text).unwrap();
		assert_eq!(
			read,
			serde_json::json!({ "job": "test", "tests": ["tce-diff-real"], "seed": 7 })
		);
		let job = Job::Bench {
			series: "6.12".into(),
			cases: vec!["null"],
			guests: vec!["radix"],
			paths: vec!["c"],
			iterations: 2,
			batches: 3,
			spans: false,
		};
		assert_eq!(
			serde_json::to_string(&job).unwrap(),
			r#"{"job":"bench","series":"6.12","cases":["null"],"guests":["radix"],"paths":["c"],"iterations":2,"batches":3}"#
		);
	}
}
