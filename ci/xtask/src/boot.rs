// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask boot`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use harness::kernel::{self, DEFAULT_SERIES, Series};
use harness::paths;
use harness::process::Usage;
use harness::qemu::{Echo, Limits, Machine};

/// Options of `cargo xtask boot`.
#[derive(clap::Args)]
pub struct Args {
	/// Initramfs (cpio, may be gzipped)
	#[arg(long, value_name = "FILE")]
	initrd: PathBuf,
	/// More kernel parameters
	#[arg(long, value_name = "STR")]
	append: Option<String>,
	/// CPUs
	#[arg(long, default_value_t = 1)]
	smp: u32,
	/// Memory
	#[arg(long, default_value = "2G", value_name = "SIZE")]
	mem: String,
	/// Virtual time is one nanosecond per instruction
	#[arg(long)]
	icount: bool,
	/// Kernel: a series, a series with -stock, or the path of a vmlinux
	#[arg(long, default_value = DEFAULT_SERIES, value_name = "SERIES|PATH")]
	kernel: String,
	/// Seconds after which the machine is stopped
	#[arg(long, default_value_t = 600, value_name = "S")]
	timeout: u64,
}

/// `cargo xtask boot`
pub fn main(args: &Args) -> Result<()> {
	if !args.initrd.is_file() {
		return Err(Usage(format!("no such initrd: {}", args.initrd.display())).into());
	}
	let machine = Machine {
		kernel: boot_kernel(&args.kernel)?,
		initrd: args.initrd.clone(),
		append: args.append.clone().unwrap_or_default(),
		smp: args.smp,
		threads: 1,
		mem: args.mem.clone(),
		icount: args.icount,
	};
	let total = Duration::from_secs(args.timeout);
	let limits = Limits {
		total,
		silence: total,
	};
	machine.run(limits, Echo::Yes, |_| true)?;
	Ok(())
}

fn boot_kernel(name: &str) -> Result<PathBuf> {
	let path = Path::new(name);
	if path.is_file() {
		let stripped = paths::target().join("boot/vmlinux.stripped");
		std::fs::create_dir_all(paths::target().join("boot"))?;
		kernel::strip(path, &stripped)?;
		return Ok(stripped);
	}
	if name.contains('/') {
		return Err(Usage(format!("no such kernel: {name}")).into());
	}
	let (series, stock) = match name.strip_suffix("-stock") {
		Some(series) => (series, true),
		None => (name, false),
	};
	Ok(kernel::build(Series::find(series)?, stock)?.stripped())
}
