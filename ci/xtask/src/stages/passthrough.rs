// SPDX-License-Identifier: GPL-2.0-only
//! A device that is passed through: an NVMe of the emulated host belongs to a guest of
//! Debian's QEMU, which reads and writes it by DMA through TCE tables of the emulated
//! hardware.
//!
//! With the 64-bit window the guest maps its memory once. With the 32-bit window alone
//! it does TCE hcalls for each read and write, which is what the fast handlers are for.
//!
//! The disk is a file out here. Its content follows from a seed (crate `kvm-p9-disk`);
//! the guest reads, checks and writes at random, and what it must have written is known
//! here without asking it. One boot of the host runs several guests, one after the
//! other, on different paths, so each also proves that the one before it has let go of
//! the device. Some are killed, reset or lose the device while they do I/O. That no TCE
//! stays mapped and no page pinned is then seen from
//!
//! - the kernel's own WARN_ON in tce_iommu_release(), which fires if a region of
//!   memory can't be unregistered because a TCE still counts on it, and its message
//!   "Unexpected TCEs" when a table is freed with entries;
//! - nr_foll_pin_acquired and nr_foll_pin_released in /proc/vmstat, which are equal
//!   when no page is pinned any more, and were not while the guest ran;
//! - VmLck of QEMU, if it goes on without the device;
//! - the host, whose own driver takes the device back and reads all of the disk.

mod cost;
mod guest;
mod judge;
mod machine;
mod plan;
mod run_log;

use anyhow::Result;

use harness::check::Check;
use harness::kernel::{self, Series};
use harness::programs;
use harness::setup::{self, Brought};

use self::plan::{Boot, Options};
use crate::stage::{Need, Part, Stage, seed, stage};

/// A guest or two that do I/O, or all kinds of guests, or what I/O costs.
pub const STAGE: Stage = stage("passthrough", |args| {
	let seed = seed(args)?;
	let part = |series| {
		let options = Options {
			all: args.all,
			soak: args.soak,
			cost: args.cost,
			seed,
		};
		let mut needs = vec![Need::Kernel(series), Need::Programs, Need::Client];
		if options.counts() {
			needs.push(Need::Plugin);
		}
		let work = move || run(series, &options);
		Part::new(needs, 60, work).on(series).alone()
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

/// Boots hosts with guests that have the disk.
fn run(series: &'static Series, options: &Options) -> Result<Vec<Check>> {
	let image = kernel::build(series, false)?;
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let tool = programs::build_diskcheck()?;
	let mut checks = Vec::new();
	for (name, count, guests) in options.boots() {
		let boot = Boot {
			name,
			files: format!("{}-{name}", series.file("passthrough")),
			count,
			guests,
			seed: options.seed,
		};
		checks.extend(boot.run(&image, &folder, &tool)?);
	}
	Ok(checks)
}
