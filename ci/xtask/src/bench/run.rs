// SPDX-License-Identifier: GPL-2.0-only
//! One run of the benchmark: measures on each kernel, and writes the report and its page.

use std::collections::VecDeque;
use std::path::{Path as FilePath, PathBuf};

use ::report::report::{Missing, Report};
use ::report::{costly, headline, html, spread, table};
use anyhow::Result;
use protocol::Column;

use super::environment::environment;
use super::figures::{Figures, Measured};
use super::plan::Plan;
use super::reports::disk;
use super::tasks::{all, task};
use crate::cells::{ASM_SERIES, chosen_cases, paths_of};
use crate::trace;
use harness::kernel::{self, NoSource, Series};
use harness::paths;
use harness::process::{self, Usage, say};
use harness::programs;

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Clone, Default)]
pub struct Args {
	/// Fewer round trips, the same columns
	#[arg(long)]
	pub quick: bool,
	/// Where to write the report to, besides target/bench/report.json
	#[arg(long, value_name = "FILE")]
	pub json: Option<PathBuf>,
	/// Only these cases, separated by commas
	#[arg(long, value_name = "A,B", value_delimiter = ',')]
	pub cases: Option<Vec<String>>,
	/// Kernel under test [default: 6.12]; 5.10 measures nothing else
	#[arg(long, value_name = "SERIES")]
	pub kernel: Option<String>,
	/// Measure N times, each in a fresh boot, and show how far the runs lie apart
	#[arg(long, value_name = "N", default_value_t = 1)]
	pub repeat: usize,
	/// Keep the figures as the ones that ci/test compares with: bench/reference.json
	#[arg(long, conflicts_with_all = ["cases", "kernel"])]
	pub reference: bool,
	/// Print the tables of all cases and of costly operations, too
	#[arg(long)]
	pub all: bool,
	/// Only measure: don't look where the instructions go
	#[arg(long)]
	pub no_trace: bool,
	/// Seconds without a result after which a machine is stopped
	#[arg(long, value_name = "S", default_value_t = 300)]
	pub timeout: u64,
}

/// What came of measuring.
pub struct Outcome {
	/// The tables.
	pub text: String,
	/// Each run's report. The first one tells what its figures consist of.
	pub reports: Vec<Report>,
	/// What went wrong.
	pub problems: Vec<String>,
}

/// What a machine measured.
enum Measurement {
	Figures(Figures),
	Trace(Box<trace::Outcome>),
}

/// Measures, and writes report.json and report.html into the folder. The machines count
/// instructions, so that several can run at the same time. The last whole report stays
/// until there is a new one.
pub fn run(args: &Args, folder: &FilePath) -> Result<Outcome> {
	let cases = chosen_cases(args.cases.as_deref())?;
	let series = Series::find(args.kernel.as_deref().unwrap_or("6.12"))?;
	if args.repeat == 0 {
		return Err(Usage("--repeat 0 measures nothing".to_owned()).into());
	}
	let plan = Plan::new(args.quick, cases.clone(), args.timeout);

	let mut images = Vec::new();
	let mut missing_column = None;
	if series.name != ASM_SERIES {
		images.push(kernel::build(series, false)?);
	}
	match kernel::build(Series::find(ASM_SERIES)?, false) {
		Ok(image) => images.push(image),
		Err(error) if !images.is_empty() && error.chain().any(|cause| cause.is::<NoSource>()) => {
			say(format_args!("{error:#}; its column stays empty"));
			missing_column = Some(format!("no source of Linux {ASM_SERIES} to be had"));
		}
		Err(error) => return Err(error),
	}
	let programs = programs::build()?;

	let mut tasks = Vec::new();
	for round in 1..=args.repeat {
		for image in &images {
			let name = if args.repeat > 1 {
				format!("{} (run {round} of {})", image.series, args.repeat)
			} else {
				image.series.clone()
			};
			let measured = Measured {
				image,
				paths: paths_of(image),
				name: name.clone(),
				file: format!("bench-{}-{round}", image.series),
				append: "",
			};
			let (plan, programs) = (&plan, &programs);
			tasks.push(task(name, paths_of(image), move || {
				measured.run(plan, programs).map(Measurement::Figures)
			}));
		}
	}
	let trace = !args.no_trace && trace::possible();
	if trace {
		for image in &images {
			let (cases, programs) = (&cases, &programs);
			let name = format!("trace of {}", image.series);
			tasks.push(task(name, paths_of(image), move || {
				trace::run(image, programs, cases, paths_of(image))
					.map(|outcome| Measurement::Trace(Box::new(outcome)))
			}));
		}
	}
	let mut results: VecDeque<_> = all(tasks).into();

	let mut reports = Vec::new();
	let mut problems = Vec::new();
	for _ in 0..args.repeat {
		let mut report = Report::new(environment(&images)?);
		for _ in &images {
			if let Some(Measurement::Figures(figures)) = results.pop_front().transpose()? {
				problems.extend(figures.put_into(&mut report));
			}
		}
		if let Some(why) = &missing_column {
			let cells = plan.cells(&[Column::Asm510]).into_iter();
			report.missing.extend(cells.map(|cell| Missing {
				cell,
				why: why.clone(),
				failed: false,
			}));
		}
		reports.push(report);
	}
	if trace {
		let outcomes = images.iter().zip(results).map(|(image, result)| {
			let outcome = result.map(|measured| match measured {
				Measurement::Trace(outcome) => *outcome,
				Measurement::Figures(_) => unreachable!("the figures come first"),
			});
			(image, outcome)
		});
		problems.extend(trace::fill(&mut reports[0], outcomes.collect()));
	}
	let report = &reports[0];
	let mut text = headline::render(report, &disk()?);
	if args.all {
		text.push_str(&format!("\n{}\n", table::render(report).trim_end()));
		if let Some(costly) = costly::render(report) {
			text.push_str(&format!("\n{costly}\n"));
		}
	} else {
		text.push_str(&format!("\n{}\n", table::render_notes(report).trim()));
	}
	if reports.len() > 1 {
		text.push_str(&format!(
			"\nSpread over {} runs: (max - min) / median\n\n{}\n",
			reports.len(),
			spread::render(&spread::between(&reports)).trim_end()
		));
	}
	let json = report.to_json()?;
	let default = folder.join("report.json");
	for path in [Some(&default), args.json.as_ref()].into_iter().flatten() {
		process::write_whole(path, json.as_bytes())?;
	}
	let page = default.with_extension("html");
	process::write_whole(&page, html::render(report, &disk()?).as_bytes())?;
	say(format_args!(
		"the report as a page: {}",
		paths::short(&page)
	));
	Ok(Outcome {
		text,
		reports,
		problems,
	})
}
