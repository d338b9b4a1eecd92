// SPDX-License-Identifier: GPL-2.0-only
//! The command line: `cargo xtask bench`, and what it does with reports that are there.

use std::path::PathBuf;

use anyhow::{Result, bail};
use harness::paths;
use harness::process::{self, say};

use super::reports::{THRESHOLD, compare, reference_path, render, report_folder};
use super::run::{Args, Outcome, run};

/// `cargo xtask bench`
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Cli {
	#[command(subcommand)]
	command: Option<Reports>,
	#[command(flatten)]
	args: Args,
}

impl Cli {
	/// Whether the command measures, not only reads reports.
	pub fn measures(&self) -> bool {
		self.command.is_none()
	}
}

/// What can be done with reports that are there.
#[derive(clap::Subcommand)]
enum Reports {
	/// Make the page of a report
	Render {
		/// report.json
		report: PathBuf,
		/// The page [default: beside the report, .html]
		#[arg(short, long, value_name = "FILE")]
		output: Option<PathBuf>,
	},
	/// Compare two reports; fails if anything got slower
	Compare {
		/// The older one
		base: PathBuf,
		/// The newer one
		new: PathBuf,
		/// How much slower is too slow, in percent of the instructions
		#[arg(long, value_name = "PERCENT", default_value_t = THRESHOLD, allow_negative_numbers = true)]
		threshold: f64,
	},
}

/// `cargo xtask bench`
pub fn main(cli: &Cli) -> Result<()> {
	match &cli.command {
		None => {}
		Some(Reports::Render { report, output }) => {
			let page = render(report, output.as_deref())?;
			println!("{}", paths::short(&page));
			return Ok(());
		}
		Some(Reports::Compare {
			base,
			new,
			threshold,
		}) => return compare(base, new, *threshold),
	}
	let Outcome {
		text,
		of_series,
		problems,
	} = run(&cli.args, &report_folder())?;
	print!("{text}");
	if problems.is_empty() {
		if cli.args.reference {
			for one in &of_series {
				let path = reference_path(one.series);
				process::write_whole(&path, one.reports[0].to_reference()?.as_bytes())?;
				say(format_args!("wrote {}", paths::short(&path)));
			}
		}
		return Ok(());
	}
	for problem in &problems {
		say(problem);
	}
	bail!("{} of the figures are missing or wrong", problems.len());
}
