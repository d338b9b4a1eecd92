// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask kernel`.

use anyhow::Result;
use harness::kernel::{self, DEFAULT_SERIES, Series};
use harness::paths;

/// Options of `cargo xtask kernel`.
#[derive(clap::Args)]
pub struct Args {
	/// Kernel series
	#[arg(long, default_value = DEFAULT_SERIES)]
	series: String,
	/// The unpatched kernel of the same configuration
	#[arg(long)]
	stock: bool,
	/// One more configuration line, like KVM_BOOK3S_HV_P9_TIMING=y; the result gets a folder of its own
	#[arg(long, value_name = "KEY=VAL")]
	config_extra: Vec<String>,
}

/// `cargo xtask kernel`
pub fn main(args: &Args) -> Result<()> {
	let series = Series::find(&args.series)?;
	let image = kernel::build_with(series, args.stock, &args.config_extra)?;
	println!("{}", paths::short(&image.vmlinux()));
	Ok(())
}
