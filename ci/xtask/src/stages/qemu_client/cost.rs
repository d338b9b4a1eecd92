// SPDX-License-Identifier: GPL-2.0-only
//! What a real guest leaves for, and what that costs.
//!
//! Guests run one after the other in one boot of the host, and do one kind of work at a time, on each
//! path in turn. QEMU's plugin records spans ([`trace::span`]) meanwhile: every instruction of
//! the hypervisor in a vcpu's thread, from an exit to the next entry, and which way the exit took.

mod figures;
mod judge;
mod machine;
mod plan;
mod profile;

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::programs;
use harness::setup::{self, Brought};

use crate::stage::{Need, Part};

/// Boots the host with its guests.
pub(super) fn part(series: &'static Series) -> Part<'static> {
	let needs = [
		Need::Kernel(series),
		Need::Programs,
		Need::Client,
		Need::Plugin,
	];
	Part::new(needs, 300, move || run(series))
		.named("cost")
		.on(series)
		.alone()
}

fn run(series: &'static Series) -> Result<Vec<Check>> {
	let image = kernel::build(series, false)?;
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let tool = programs::build_diskcheck()?;
	machine::run(series, &image, &folder, &tool)
}
