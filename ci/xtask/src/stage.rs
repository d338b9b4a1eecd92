// SPDX-License-Identifier: GPL-2.0-only
//! What a stage of `cargo xtask test` is: its parts, what they need, and the options.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use harness::check::Found;
use harness::kernel::{self, Series};
use harness::{paths, programs, setup};

use crate::cells::ASM_SERIES;
use crate::trace;

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
	/// Run more: the whole benchmark three times, every test with mitigations, every client, and
	/// no check from the record of an earlier run
	#[arg(long)]
	pub all: bool,
	/// Seed of the random booted tests [default: another each time]
	#[arg(long)]
	pub seed: Option<u64>,
	/// Random hcalls of each booted test of TCEs, a quarter for hardware tables [default: some
	/// 10,000]. For tce-hw-diff-* the limit of a boot is some 100,000: each round leaves a region
	/// pinned, to show that a mapped region cannot be unregistered
	#[arg(long, value_name = "N")]
	pub tce_calls: Option<u64>,
	/// Random page table hcalls of each booted test of them [default: some 16,000; with --all 500,000]
	#[arg(long, value_name = "N")]
	pub hpt_calls: Option<u64>,
	/// Rounds of each register test for each path and guest mode [default: 5,000]; a tenth as
	/// many cases of a hostile VMM
	#[arg(long, value_name = "N")]
	pub rounds: Option<u64>,
	/// Only these booted tests, by name or by the start of it, separated by commas
	#[arg(long, value_name = "NAMES", value_delimiter = ',')]
	pub booted: Vec<String>,
	/// Only these configurations of stage `configs`, separated by commas
	#[arg(long, value_name = "NAMES", value_delimiter = ',')]
	pub configs: Vec<String>,
	/// Run the soak stage, too: everything at once on two CPUs for this time; and I/O on a
	/// passed-through disk for this time, in place of the short run
	#[arg(long, value_name = "MINUTES", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
	pub soak: Option<u64>,
	/// Of a real guest and of the passed-through disk, test only the cost
	#[arg(long)]
	pub cost: bool,
	/// Test these kernel series, separated by commas [default: 6.12; all with --all]
	#[arg(long, value_name = "SERIES", value_delimiter = ',')]
	pub series: Vec<String>,
	/// Only these stages: host, format, docs, prose, lint, kernel, series, off, tree, configs, gates,
	/// booted, mitigations, timing, debug, threads, nmi, hazards, client, nested, iron, passthrough, 7.3, stock, bench, report, soak
	#[arg(value_name = "STAGE")]
	pub stages: Vec<String>,
}

impl Args {
	/// The kernel series that are tested.
	pub fn series(&self) -> Result<Vec<&'static Series>> {
		if !self.series.is_empty() {
			let mut found = Vec::new();
			for name in &self.series {
				let series = Series::find_rust(name.trim())?;
				if !found.contains(&series) {
					found.push(series);
				}
			}
			Ok(found)
		} else if self.all {
			Ok(Series::all_rust().collect())
		} else {
			Ok(vec![Series::main()])
		}
	}

	/// Whether that stage was asked for by its name.
	pub fn names(&self, stage: &str) -> bool {
		self.stages.iter().any(|name| name == stage)
	}
}

/// Shared prerequisites, built first. Each stage that needs a failed one reports the failure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
	/// The kernel under test, of this series.
	Kernel(&'static Series),
	/// The kernel that the kernel under test is compared with.
	OldKernel,
	/// VMM, payload and the disk checker.
	Programs,
	/// The plugin for QEMU.
	Plugin,
	/// Debian's QEMU.
	Client,
}

impl Need {
	/// The name in messages.
	pub fn name(self) -> String {
		let name = match self {
			Self::Kernel(series) if series.is_main() => "kernel under test",
			Self::Kernel(series) => return format!("kernel {} under test", series.name),
			Self::OldKernel => "old kernel",
			Self::Programs => "programs",
			Self::Plugin => "plugin",
			Self::Client => "client's files",
		};
		name.to_owned()
	}

	/// About how long it takes.
	pub fn seconds(self) -> u32 {
		match self {
			Self::Kernel(_) => 45,
			Self::Programs => 60,
			Self::OldKernel | Self::Plugin => 20,
			Self::Client => 10,
		}
	}

	/// Builds the prerequisite.
	pub fn work(self) -> Result<()> {
		match self {
			Self::Kernel(series) => kernel::build(series, false).map(drop),
			Self::OldKernel => kernel::build(Series::find(ASM_SERIES)?, false).map(drop),
			Self::Programs => programs::build()
				.and_then(|_| programs::build_diskcheck())
				.map(drop),
			Self::Plugin => trace::plugin().map(drop),
			Self::Client => setup::bring("client").map(drop),
		}
	}
}

/// A part of a stage.
pub struct Part<'a> {
	/// The name of the part, if the stage has several.
	pub name: String,
	/// Prerequisites of the part.
	pub needs: Vec<Need>,
	/// No other part runs at the same time: this one keeps all cores busy, or boots a machine
	/// whose CPUs run at the same time, and then has limits in real time.
	pub alone: bool,
	/// Approximate time with two cores.
	pub seconds: u32,
	/// The work.
	pub work: Box<dyn FnOnce() -> Result<Found> + Send + 'a>,
}

impl<'a> Part<'a> {
	/// A part without a name.
	pub fn new<T: Into<Found>>(
		needs: impl IntoIterator<Item = Need>,
		seconds: u32,
		work: impl FnOnce() -> Result<T> + Send + 'a,
	) -> Self {
		Self {
			name: String::new(),
			needs: needs.into_iter().collect(),
			alone: false,
			seconds,
			work: Box::new(|| work().map(Into::into)),
		}
	}

	/// Gives it a name.
	pub fn named(self, name: impl Into<String>) -> Self {
		let name = name.into();
		Self { name, ..self }
	}

	/// Says of which series part and checks are, unless it is the default.
	pub fn on(self, series: &'static Series) -> Self {
		if series.is_main() {
			return self;
		}
		let prefixed = |name: &str| format!("{} {name}", series.name).trim_end().to_owned();
		let work = self.work;
		Self {
			name: prefixed(&self.name),
			work: Box::new(move || {
				let mut found = work()?;
				for check in &mut found.checks {
					check.name = prefixed(&check.name);
				}
				Ok(found)
			}),
			..self
		}
	}

	/// Run the part while no other part runs.
	pub fn alone(self) -> Self {
		Self {
			alone: true,
			..self
		}
	}
}

/// The checks under one name.
pub struct Stage {
	/// Its name on the command line.
	pub name: &'static str,
	/// Stages and prerequisites that have to end before this stage begins, if they are run.
	/// Mostly, because cargo locks its folder.
	pub after: &'static [&'static str],
	/// Its parts, with these options.
	pub parts: fn(&Args) -> Result<Vec<Part<'_>>>,
}

/// A stage that waits for no other.
pub const fn stage(name: &'static str, parts: fn(&Args) -> Result<Vec<Part<'_>>>) -> Stage {
	Stage {
		name,
		after: &[],
		parts,
	}
}

/// Where a log of the tests is.
pub fn log_path(name: &str) -> PathBuf {
	paths::target().join("test").join(format!("{name}.log"))
}

/// The seed of the command line, or another seed each time.
pub fn seed(args: &Args) -> Result<u64> {
	match args.seed {
		Some(seed) => Ok(seed),
		None => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64),
	}
}
