// SPDX-License-Identifier: GPL-2.0-only
//! The command line: `cargo xtask trace`.

use anyhow::{Result, bail};
use protocol::GuestMode;

use super::boot::run;
use super::plugin::available;
use super::traced::Traced;
use crate::bench;
use crate::cells::{chosen_cases, paths_of};
use harness::kernel::{self, DEFAULT_SERIES, Image, Series};
use harness::paths;
use harness::process::{self, say};

/// Options of `cargo xtask trace`.
#[derive(clap::Args)]
pub struct Args {
	/// Only these cases, separated by commas [default: null]
	#[arg(long, value_name = "A,B", value_delimiter = ',')]
	cases: Option<Vec<String>>,
	/// Kernel series
	#[arg(long, alias = "kernel", default_value = DEFAULT_SERIES)]
	series: String,
	/// Write the round trips that the model is fitted to, into bench/model/reference
	#[arg(long)]
	reference: bool,
	/// Put the longest stretches, and nothing else, into the figures that ci/test compares with
	#[arg(long)]
	longest: bool,
}

/// `cargo xtask trace`
pub fn main(args: &Args) -> Result<()> {
	let null = ["null".to_owned()];
	let cases = chosen_cases(Some(args.cases.as_deref().unwrap_or(&null)))?;
	let image = kernel::build(Series::find(&args.series)?, false)?;
	let programs = harness::programs::build()?;
	available()?;
	let outcome = run(&image, &programs, &cases, paths_of(&image))?;
	for one in &outcome.traced {
		println!(
			"{}: {} instructions, {} of {} the same{}",
			one.cell,
			one.instructions,
			one.same,
			one.of,
			if one.exact() { "" } else { ", INEXACT" }
		);
		for (name, count) in &one.costly {
			println!("\t{count:8} {name}");
		}
		println!(
			"    interrupts off: {}, mode byte set: {}",
			one.longest.interrupts_off, one.longest.guest_mode
		);
		for phase in &one.phases {
			println!("    {}: {}", phase.name, phase.instructions);
			for function in &phase.functions {
				println!(
					"\t{:8} {} ({:?})",
					function.instructions, function.name, function.kind
				);
			}
		}
	}
	if args.reference {
		write_reference(&image, &outcome.traced)?;
	}
	if args.longest {
		write_longest(Series::find_rust(&args.series)?, &outcome.traced)?;
	}
	for problem in &outcome.problems {
		say(problem);
	}
	if !outcome.problems.is_empty() {
		bail!("{} problems", outcome.problems.len());
	}
	Ok(())
}

fn write_longest(series: &'static Series, traced: &[Traced]) -> Result<()> {
	let path = bench::reference_path(series);
	let mut report = bench::read(&path)?;
	for entry in &mut report.results {
		if let Some(one) = traced.iter().find(|one| one.cell == entry.cell()) {
			entry.longest = Some(one.longest);
		}
	}
	process::write_whole(&path, report.to_reference()?.as_bytes())
}

fn write_reference(image: &Image, traced: &[Traced]) -> Result<()> {
	for one in traced
		.iter()
		.filter(|one| one.cell.guest == GuestMode::Radix)
	{
		let series = format!("-{}", image.series);
		let path = one.cell.path.name().trim_end_matches(&series);
		let name = format!("{path}{series}-{}", one.cell.case.name);
		if model::reference::ALL
			.iter()
			.any(|(known, _)| *known == name)
		{
			let title = format!(
				"{} radix, Linux {}",
				one.cell.case.name, image.package_version
			);
			let text = model::reference::render(&title, &one.steps, &one.empty);
			let file = paths::root().join("bench/model/reference").join(name);
			process::write_whole(&file, text.as_bytes())?;
		}
	}
	Ok(())
}
