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

/// The series that the tests are about.
pub const MAIN_SERIES: &str = "6.12";

/// The series that is built and booted, but not tested in full.
pub const NEXT_SERIES: &str = "7.3";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub struct Args {
	/// More of it: the whole benchmark three times, every test with mitigations, every client
	#[arg(long)]
	pub all: bool,
	/// Seed of what is random in the booted tests [default: another each time]
	#[arg(long)]
	pub seed: Option<u64>,
	/// Random hcalls of each booted test of TCEs, a quarter for hardware's [default: some 10,000].
	/// Of tce-hw-diff-* a boot bears some 100,000: each round leaves a region pinned for ever, to
	/// see that it can't be let go while it is mapped
	#[arg(long, value_name = "N")]
	pub tce_calls: Option<u64>,
	/// Rounds of every register by every exit, for each path and guest mode [default: 5,000]; and a
	/// tenth as many cases of a hostile VMM
	#[arg(long, value_name = "N")]
	pub rounds: Option<u64>,
	/// Only these booted tests, by name or by the start of it, separated by commas
	#[arg(long, value_name = "NAMES", value_delimiter = ',')]
	pub booted: Vec<String>,
	/// Run the soak stage, too: everything at once on two CPUs, for so long; and I/O on a
	/// passed-through disk for so long, in place of the short run
	#[arg(long, value_name = "MINUTES", num_args = 0..=1, require_equals = true, default_missing_value = "10")]
	pub soak: Option<u64>,
	/// Of the passed-through disk only what I/O on it costs
	#[arg(long)]
	pub cost: bool,
	/// Only these stages: host, format, prose, lint, kernel, series, off, gates, booted, mitigations, timing,
	/// client, nested, passthrough, 7.3, stock, bench, report, soak
	#[arg(value_name = "STAGE")]
	pub stages: Vec<String>,
}

impl Args {
	/// Whether that stage was asked for by its name.
	pub fn names(&self, stage: &str) -> bool {
		self.stages.iter().any(|name| name == stage)
	}
}

/// What stages have in common. It is done before them, and what goes wrong then is told by
/// the stages, which find that it is not done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
	/// The kernel under test.
	Kernel,
	/// The one that it is compared with.
	OldKernel,
	/// VMM, payload and disk's tester.
	Programs,
	/// QEMU's.
	Plugin,
	/// Debian's QEMU.
	Client,
}

impl Need {
	/// As the user reads it.
	pub fn name(self) -> &'static str {
		match self {
			Self::Kernel => "kernel under test",
			Self::OldKernel => "old kernel",
			Self::Programs => "programs",
			Self::Plugin => "plugin",
			Self::Client => "client's files",
		}
	}

	/// About how long it takes.
	pub fn seconds(self) -> u32 {
		match self {
			Self::Kernel => 45,
			Self::Programs => 60,
			Self::OldKernel | Self::Plugin => 20,
			Self::Client => 10,
		}
	}

	/// Does it.
	pub fn work(self) -> Result<()> {
		match self {
			Self::Kernel => kernel::build(Series::find(MAIN_SERIES)?, false).map(drop),
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
	/// Of several, which.
	pub name: &'static str,
	/// What has to be there before it begins.
	pub needs: &'static [Need],
	/// It keeps all cores busy by itself, or has CPUs that run at the same time: what it does
	/// then has limits in real time.
	pub alone: bool,
	/// About how long it takes with two cores.
	pub seconds: u32,
	/// The work.
	pub work: Box<dyn FnOnce() -> Result<Found> + Send + 'a>,
}

impl<'a> Part<'a> {
	/// A part without a name.
	pub fn new<T: Into<Found>>(
		needs: &'static [Need],
		seconds: u32,
		work: impl FnOnce() -> Result<T> + Send + 'a,
	) -> Self {
		Self {
			name: "",
			needs,
			alone: false,
			seconds,
			work: Box::new(|| work().map(Into::into)),
		}
	}

	/// Gives it a name.
	pub fn named(self, name: &'static str) -> Self {
		Self { name, ..self }
	}

	/// Nothing else runs meanwhile.
	pub fn alone(self) -> Self {
		Self {
			alone: true,
			..self
		}
	}
}

/// What is checked under one name.
pub struct Stage {
	/// Its name on the command line.
	pub name: &'static str,
	/// It begins when these have ended, if they are run: stages, or what others need. Mostly
	/// cargo would let only one of them at its folder.
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

/// The seed that was asked for, or another one each time.
pub fn seed(args: &Args) -> Result<u64> {
	match args.seed {
		Some(seed) => Ok(seed),
		None => Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64),
	}
}
