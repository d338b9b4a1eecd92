// SPDX-License-Identifier: GPL-2.0-only
//! A hash guest under memory pressure, from inside and from outside.
//!
//! The processes of the guest need more memory than the guest has, so the guest swaps, and changes
//! its page table all the time. The host has less memory than the guest, and takes pages away
//! from it all the time, which makes their entries of the page table absent. The content of all memory
//! follows from the seed (`diskcheck::memory`), and is read again and again.

mod judge;

use std::fmt;
use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::process::{self, say};
use harness::qemu::Machine;
use harness::setup::{self, Brought};
use harness::{paths, programs};

use crate::client::{pack, put_modules, until_linux_starts_with};
use crate::stage::{Need, Part};

/// Memory of the guest, in MiB.
const GUEST: u64 = 256;

/// Processes of the guest, MiB of each, and their rounds. All of them together need more than the guest has.
const PROCESSES: u64 = 4;
const PROCESS: u64 = 60;
const ROUNDS: u64 = 2;

/// What the host leaves for the guest and for itself, in MiB.
const LEFT: u64 = 192;

/// The disk that the guest swaps to, in MiB.
const SWAP: u64 = 768;

/// Limit from power-on to power-off.
const TIME: Duration = Duration::from_secs(600);

/// Which code runs the guest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GuestPath {
	C,
	RustFull,
	RustFast,
}

impl fmt::Display for GuestPath {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(match self {
			Self::C => "c",
			Self::RustFull => "rust-full",
			Self::RustFast => "rust-fast",
		})
	}
}

const ALL: [GuestPath; 3] = [GuestPath::C, GuestPath::RustFull, GuestPath::RustFast];

/// Boots a host with such a guest, on the fast path or on each.
pub(super) fn part(series: &'static Series, all: bool, seed: u64) -> Part<'static> {
	let needs = [Need::Kernel(series), Need::Programs, Need::Client];
	let paths = if all {
		&ALL[..]
	} else {
		&[GuestPath::RustFast]
	};
	let seconds = 90 * paths.len() as u32;
	Part::new(needs, seconds, move || run(series, paths, seed))
		.named("pressure")
		.on(series)
		.alone()
}

fn run(series: &'static Series, guest_paths: &[GuestPath], seed: u64) -> Result<Vec<Check>> {
	let kernel = kernel::build(series, false)?.stripped();
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let tool = programs::build_diskcheck()?;
	let inits = ("pressure-host", "pressure-guest");
	let initrd = pack(&folder, "client-pressure", inits, |_, guest| {
		guest.file("diskcheck", true, &tool);
		put_modules(guest, &folder, "virtio")
	})?;
	let mut checks = Vec::new();
	for &path in guest_paths {
		say(format_args!(
			"client pressure {path}, --seed {seed} (a minute or two)"
		));
		let machine = Machine {
			kernel: kernel.clone(),
			initrd: initrd.clone(),
			append: path.append(seed),
			smp: 2,
			threads: 1,
			mem: "1G".to_owned(),
			icount: false,
		};
		let name = format!("{}-pressure-{path}", series.file("client"));
		let disks = Disks::new(&name);
		let options = disks.options();
		let options: Vec<&str> = options.iter().map(String::as_str).collect();
		let (transcript, end) =
			until_linux_starts_with(&machine, &options, &name, TIME, || disks.make())?;
		disks.remove()?;
		let verdicts = path.judge(seed, &transcript, end);
		checks.extend(
			verdicts
				.into_iter()
				.map(|(name, result)| Check::of(format!("pressure {path} {name}"), result)),
		);
	}
	Ok(checks)
}

impl GuestPath {
	fn append(self, seed: u64) -> String {
		format!(
			"host_path={self} host_left={LEFT} guest_mib={GUEST} guest_mmu=disable_radix \
			 memory_seed={seed} memory_processes={PROCESSES} memory_mib={PROCESS} memory_rounds={ROUNDS}"
		)
	}
}

/// The files of two disks: of the guest's memory, and of what the guest swaps.
struct Disks([(PathBuf, u64); 2]);

impl Disks {
	fn new(name: &str) -> Self {
		let file = |what: &str| paths::target().join(format!("test/{name}-{what}.img"));
		Self([(file("memory"), GUEST), (file("swap"), SWAP)])
	}

	/// Makes them, without content.
	fn make(&self) -> Result<()> {
		for (path, mib) in &self.0 {
			process::write_whole(path, &[])?;
			let made = File::options().write(true).open(path);
			let sized = made.and_then(|file| file.set_len(mib << 20));
			sized.with_context(|| format!("can't make {}", path.display()))?;
		}
		Ok(())
	}

	fn remove(&self) -> Result<()> {
		for (path, _) in &self.0 {
			process::remove(path)?;
		}
		Ok(())
	}

	/// Two namespaces of one controller, so that the host always gives them the same names.
	fn options(&self) -> Vec<String> {
		let mut options = vec![
			"-device".to_owned(),
			"nvme,serial=client,bus=pcie.0".to_owned(),
		];
		for (nsid, (path, _)) in (1..).zip(&self.0) {
			options.extend([
				"-drive".to_owned(),
				format!("file={},if=none,id=disk{nsid},format=raw", path.display()),
				"-device".to_owned(),
				format!("nvme-ns,drive=disk{nsid},nsid={nsid}"),
			]);
		}
		options
	}
}
