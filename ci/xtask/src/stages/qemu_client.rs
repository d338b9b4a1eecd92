// SPDX-License-Identifier: GPL-2.0-only
//! Stage `client`: Debian's own QEMU boots Debian's own kernel as a guest with two
//! CPUs, in the emulated host.
//!
//! The guest computes, copies, sleeps, starts processes, and reads and writes a virtio
//! disk at the same time, then powers off. The disk is an NVMe of the emulated host, and a
//! file out here, which is compared with what the guest must have written.
//!
//! Another guest works while it and its host have too little memory.

mod cost;
mod judge;
mod pressure;

use std::fmt;
use std::fs;

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::process::say;
use harness::qemu::Machine;
use harness::setup::{self, Brought};
use harness::{paths, programs};

use crate::client::{CELLS, TIME, make_disk, pack, put_modules, until_linux_starts_with};
use crate::stage::{Need, Part, Stage, seed, stage};

/// A boot of a client and one under memory pressure, or a boot of each kind, or what guests cost.
pub const STAGE: Stage = stage("client", |args| {
	let seed = seed(args)?;
	let mut parts = Vec::new();
	for series in args.series()? {
		if !args.cost {
			let needs = [Need::Kernel(series), Need::Programs, Need::Client];
			let work = move || run(series, args.all, seed);
			parts.push(Part::new(needs, 30, work).on(series).alone());
			parts.push(pressure::part(series, args.all, seed));
		}
		if args.cost || args.all {
			parts.push(cost::part(series));
		}
	}
	Ok(parts)
});

/// Reads and writes of each worker (`kvm-p9-disk`).
const STEPS: u64 = 200;

/// Which translation the guest uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mmu {
	Radix,
	Hash,
	/// Hash, as the host does.
	HostHash,
}

/// One boot.
#[derive(Clone, Copy)]
struct Boot {
	path: &'static str,
	mmu: Mmu,
}

impl fmt::Display for Boot {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let mmu = match self.mmu {
			Mmu::Radix => "radix",
			Mmu::Hash => "hash",
			Mmu::HostHash => "hash-host",
		};
		write!(f, "{mmu}-{}", self.path)
	}
}

const RADIX_RUST: Boot = Boot {
	path: "rust",
	mmu: Mmu::Radix,
};

const ALL: [Boot; 5] = [
	RADIX_RUST,
	Boot {
		path: "c",
		mmu: Mmu::Radix,
	},
	Boot {
		path: "rust",
		mmu: Mmu::Hash,
	},
	Boot {
		path: "c",
		mmu: Mmu::Hash,
	},
	Boot {
		path: "rust",
		mmu: Mmu::HostHash,
	},
];

/// Boots the client on the kernel, in one way or in all.
fn run(series: &'static Series, all: bool, seed: u64) -> Result<Vec<Check>> {
	let kernel = kernel::build(series, false)?.stripped();
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let tool = programs::build_diskcheck()?;
	let initrd = pack(&folder, "client", ("host", "guest"), |_, guest| {
		guest.file("diskcheck", true, &tool);
		put_modules(guest, &folder, "virtio")
	})?;
	let boots = if all { &ALL[..] } else { &[RADIX_RUST] };
	let mut checks = Vec::new();
	for &boot in boots {
		say(format_args!("client {boot}, --seed {seed} (half a minute)"));
		let machine = Machine {
			kernel: kernel.clone(),
			initrd: initrd.clone(),
			append: boot.append(seed),
			smp: 2,
			threads: 1,
			mem: "2G".to_owned(),
			icount: false,
		};
		let name = format!("{}-{boot}", series.file("client"));
		let disk = paths::target().join(format!("test/{name}.img"));
		let drive = format!("file={},if=none,id=disk,format=raw", disk.display());
		let options = [
			"-drive",
			&drive,
			"-device",
			"nvme,drive=disk,serial=client,bus=pcie.0",
		];
		let (transcript, end) = until_linux_starts_with(&machine, &options, &name, TIME, || {
			make_disk(&disk, seed, CELLS)
		})?;
		let mut verdicts = boot.judge(&transcript, end);
		let compared = fs::read(&disk)
			.map_err(anyhow::Error::from)
			.and_then(|bytes| judge::disk(&transcript, seed, &bytes));
		verdicts.push(("disk, from outside", compared));
		checks.extend(
			verdicts
				.into_iter()
				.map(|(name, result)| Check::of(format!("{boot} {name}"), result)),
		);
	}
	Ok(checks)
}

impl Boot {
	fn append(self, seed: u64) -> String {
		let mut append = format!(
			"kvm_p9.path={} client_disk=/dev/nvme0n1 disk_seed={seed} disk_steps={STEPS}",
			self.path
		);
		match self.mmu {
			Mmu::Radix => {}
			Mmu::Hash => append.push_str(" client_guest=disable_radix"),
			// Of such a host a guest can have nothing else.
			Mmu::HostHash => append.push_str(" disable_radix"),
		}
		append
	}
}
