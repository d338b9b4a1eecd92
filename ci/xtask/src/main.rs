// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask`: builds kernels, boots them, runs the benchmark and the tests.

mod bench;
mod boot;
mod booted_machine;
mod cargo;
mod cells;
mod client;
mod counted;
mod iron;
mod kernel;
mod patches;
mod results;
mod spans;
mod stage;
mod stages;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use harness::process::{self, Usage};
use harness::{paths, setup};

#[derive(Parser)]
#[command(about, disable_help_subcommand = true)]
struct Cli {
	/// Build the kernel series that this archive is of (linux-VERSION.tar.xz) from it, now and from
	/// now on, in place of Debian's package
	#[arg(long, global = true, value_name = "FILE")]
	source: Option<PathBuf>,
	#[command(subcommand)]
	task: Task,
}

#[derive(Subcommand)]
enum Task {
	/// Build a kernel: target/kernel/SERIES/vmlinux
	Kernel(kernel::Args),
	/// Boot an initramfs on the emulated POWER9 host
	Boot(boot::Args),
	/// Measure hcalls: a table, target/bench/report.json and report.html
	Bench(bench::Cli),
	/// Print where the instructions of round trips go, function by function
	Trace(trace::Args),
	/// Compare the C path of our image with the unpatched kernel's
	CompareStock(bench::StockArgs),
	/// Turn a series' patches into a git branch, or a branch into patches
	#[command(subcommand)]
	Patches(patches::Task),
	/// Make a folder that measures on a real POWER9, or print what it brought home
	Iron(iron::Cli),
	/// Write the results in README.md and docs/results.md from the reference
	Results(results::Args),
	/// Run all tests
	Test(stage::Args),
	/// Check the Rust object of the last kernel build
	Gates,
}

impl Task {
	/// Whether the task writes what another run in this checkout writes, too.
	fn is_exclusive(&self) -> bool {
		match self {
			Self::Bench(cli) => cli.measures(),
			Self::Trace(_) | Self::CompareStock(_) | Self::Test(_) => true,
			Self::Kernel(_)
			| Self::Boot(_)
			| Self::Iron(_)
			| Self::Results(_)
			| Self::Gates
			| Self::Patches(_) => false,
		}
	}
}

fn run(task: Task) -> Result<()> {
	let _lock = if task.is_exclusive() {
		let complaint = "another benchmark, test or trace is running in this checkout";
		let path = paths::target().join("xtask.lock");
		Some(process::lock_or_fail(&path, complaint)?)
	} else {
		None
	};
	match task {
		Task::Kernel(args) => kernel::main(&args),
		Task::Boot(args) => boot::main(&args),
		Task::Bench(cli) => bench::main(&cli),
		Task::Trace(args) => trace::main(&args),
		Task::CompareStock(args) => bench::compare_stock_main(&args),
		Task::Patches(task) => patches::main(&task),
		Task::Iron(cli) => iron::main(&cli),
		Task::Results(args) => results::main(&args),
		Task::Test(args) => stages::main(&args),
		Task::Gates => stages::gates::main(),
	}
}

fn main() -> ExitCode {
	let cli = Cli::parse();
	let source = cli.source.as_deref().map_or(Ok(()), setup::keep_source);
	match source.and_then(|()| run(cli.task)) {
		Ok(()) => ExitCode::SUCCESS,
		Err(error) => {
			eprintln!("xtask: {error:#}");
			ExitCode::from(if error.is::<Usage>() { 2 } else { 1 })
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn parses(line: &str) -> bool {
		let words = line.split(' ');
		Cli::try_parse_from(std::iter::once("xtask").chain(words)).is_ok()
	}

	#[test]
	fn bench_is_a_command_and_has_commands() {
		for line in [
			"bench",
			"bench --quick --cases null,h_prod --json out.json",
			"bench --quick --reference",
			"bench --quick --reference --series 7.3",
			"bench --series 6.12,7.3",
			"bench render report.json",
			"bench render report.json -o page.html",
			"bench compare base.json new.json",
			"results",
			"results --check",
			"iron --quick --series 7.3 -o folder",
			"iron report console.log --json figures.json",
			"bench compare base.json new.json --threshold 2.5",
		] {
			assert!(parses(line), "{line}");
		}
		for line in [
			"bench render",
			"iron report",
			"iron --quick report console.log",
			"bench compare base.json",
			"bench --quick compare base.json new.json",
			"bench --reference --cases null",
			"bench compare base.json new.json --threshold much",
		] {
			assert!(!parses(line), "{line}");
		}
	}
}
