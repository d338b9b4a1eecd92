// SPDX-License-Identifier: GPL-2.0-only
//! One run of the benchmark: measures on each kernel, and writes the report and its page.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path as FilePath, PathBuf};

use ::report::report::{Missing, Report};
use ::report::{costly, headline, html, longest, spread, table};
use anyhow::{Result, anyhow};
use cases::Case;
use protocol::Column;

use super::environment::environment;
use super::figures::{Figures, Measured};
use super::plan::Plan;
use super::reports::disk_of;
use super::tasks::{all, task};
use crate::cells::{ASM_SERIES, chosen_cases, paths_of};
use crate::trace;
use harness::kernel::{self, Image, NoSource, Series};
use harness::paths;
use harness::process::{self, Usage, say};
use harness::programs::{self, Programs};

/// Options of `cargo xtask bench`.
#[derive(clap::Args, Clone, Default)]
pub struct Args {
	/// Fewer round trips, the same columns
	#[arg(long)]
	pub quick: bool,
	/// Where to write the report to, besides target/bench/report.json. The report of each further
	/// series goes beside it, with the series in its name
	#[arg(long, value_name = "FILE")]
	pub json: Option<PathBuf>,
	/// Only these cases, separated by commas
	#[arg(long, value_name = "A,B", value_delimiter = ',')]
	pub cases: Option<Vec<String>>,
	/// Kernel under test [default: 6.12]. Several, separated by commas, stand side by side; 5.10
	/// alone measures nothing else
	#[arg(long, alias = "kernel", value_name = "SERIES", value_delimiter = ',')]
	pub series: Vec<String>,
	/// Measure N times, each in a fresh boot, and show how far the runs lie apart
	#[arg(long, value_name = "N", default_value_t = 1)]
	pub repeat: usize,
	/// Keep the figures as the ones that ci/test compares with: bench/reference.json, for another
	/// series bench/reference-SERIES.json
	#[arg(long, conflicts_with = "cases")]
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
	/// What was measured of each series, in the order of the command line.
	pub of_series: Vec<OfSeries>,
	/// What went wrong.
	pub problems: Vec<String>,
}

/// What was measured of a series, beside Linux 5.10.
pub struct OfSeries {
	/// Which.
	pub series: &'static Series,
	/// Each run's report. The first one tells what its figures consist of.
	pub reports: Vec<Report>,
}

/// What a machine measured.
enum Measurement {
	Figures(Figures),
	Trace(Box<trace::Outcome>),
}

/// The series of the command line.
fn chosen_series(names: &[String]) -> Result<Vec<&'static Series>> {
	if let [name] = names
		&& name == ASM_SERIES
	{
		return Ok(vec![Series::find(ASM_SERIES)?]);
	}
	let mut chosen = Vec::new();
	for name in names {
		let series = Series::find_rust(name.trim())?;
		if !chosen.contains(&series) {
			chosen.push(series);
		}
	}
	if chosen.is_empty() {
		chosen.push(Series::main());
	}
	Ok(chosen)
}

/// The kernel with the first column, or the reason why that column stays empty.
fn asm_image(alone: bool) -> Result<Result<Image, String>> {
	match kernel::build_direct(Series::find(ASM_SERIES)?) {
		Ok(image) => Ok(Ok(image)),
		Err(error) if !alone && error.chain().any(|cause| cause.is::<NoSource>()) => {
			say(format_args!("{error:#}; its column stays empty"));
			Ok(Err(format!("no source of Linux {ASM_SERIES} to be had")))
		}
		Err(error) => Err(error),
	}
}

/// Measures and prints the first rows on the kernel under test, before anything is built that they
/// do not need.
fn first_rows(
	args: &Args,
	image: &Image,
	cases: &[&'static Case],
	programs: &Programs,
) -> Result<()> {
	let chosen = headline::CASES
		.into_iter()
		.filter(|case| cases.contains(case));
	let plan = Plan {
		guests: &[headline::MODE],
		..Plan::new(true, chosen.collect(), args.timeout)
	};
	if plan.groups.is_empty() {
		return Ok(());
	}
	let measured = Measured {
		image,
		paths: paths_of(image),
		name: format!("{} (first rows)", image.series),
		file: "bench-first".to_owned(),
		append: "",
	};
	let mut report = Report::new(environment(std::slice::from_ref(image))?);
	for problem in measured.run(&plan, programs)?.put_into(&mut report) {
		say(problem);
	}
	let disk = disk_of(&report)?;
	let rows = headline::OfSeries {
		name: &image.series,
		report: &report,
		disk: disk.as_ref(),
		client: None,
	};
	println!("{}", headline::render(&[rows]));
	say(format_args!(
		"still to come: kernel {ASM_SERIES} (10 minutes) for its column, then all figures"
	));
	Ok(())
}

/// Measures, and writes report.json and report.html into the folder. The machines count
/// instructions, so that several can run at the same time. The last whole report stays
/// until there is a new one.
pub fn run(args: &Args, folder: &FilePath) -> Result<Outcome> {
	let cases = chosen_cases(args.cases.as_deref())?;
	let series = chosen_series(&args.series)?;
	if args.reference && series[0].name == ASM_SERIES {
		let why = format!("--reference keeps the figures of a series beside those of {ASM_SERIES}");
		return Err(Usage(why).into());
	}
	if args.repeat == 0 {
		return Err(Usage("--repeat 0 measures nothing".to_owned()).into());
	}
	let plan = Plan::new(args.quick, cases.clone(), args.timeout);
	let asm = Series::find(ASM_SERIES)?;
	let asm_is_built = kernel::has_image(asm);
	if !asm_is_built {
		say(format_args!(
			"to come: kernel {} (10 minutes), programs (2 minutes), the first rows, kernel {ASM_SERIES}, all figures",
			series[0].name
		));
	}
	let mut images = Vec::new();
	let mut programs = None;
	for series in &series {
		if series.name == ASM_SERIES {
			continue;
		}
		let image = kernel::build_direct(series)?;
		if programs.is_none() {
			let built = programs::build()?;
			if !asm_is_built {
				first_rows(args, &image, &cases, &built)?;
			}
			programs = Some(built);
		}
		images.push(image);
	}
	let missing_column = match asm_image(images.is_empty())? {
		Ok(image) => {
			images.push(image);
			None
		}
		Err(why) => Some(why),
	};
	let programs = match programs {
		Some(programs) => programs,
		None => programs::build()?,
	};

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

	let mut problems = Vec::new();
	// Of each run, of each kernel.
	let mut figures = Vec::new();
	for _ in 0..args.repeat {
		let mut of_run = Vec::new();
		for _ in &images {
			if let Some(Measurement::Figures(one)) = results.pop_front().transpose()? {
				of_run.push(one);
			}
		}
		figures.push(of_run);
	}
	let traces: Vec<Result<trace::Outcome>> = results
		.into_iter()
		.map(|result| {
			result.map(|measured| match measured {
				Measurement::Trace(outcome) => *outcome,
				Measurement::Figures(_) => unreachable!("the figures come first"),
			})
		})
		.collect();

	let mut of_series = Vec::new();
	for series in series {
		let mine = |image: &Image| image.series == series.name || image.series == ASM_SERIES;
		let chosen: Vec<usize> = (0..images.len())
			.filter(|&index| mine(&images[index]))
			.collect();
		let chosen_images: Vec<Image> = chosen.iter().map(|&index| images[index].clone()).collect();
		let mut reports = Vec::new();
		for of_run in &figures {
			let mut report = Report::new(environment(&chosen_images)?);
			for &index in &chosen {
				problems.extend(of_run[index].clone().put_into(&mut report));
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
			let outcomes = chosen.iter().map(|&index| {
				let outcome = traces[index].as_ref();
				let outcome = outcome.cloned().map_err(|error| anyhow!("{error:#}"));
				(&images[index], outcome)
			});
			problems.extend(trace::fill(&mut reports[0], outcomes.collect()));
		}
		of_series.push(OfSeries { series, reports });
	}
	// What is wrong with 5.10 is wrong in each report.
	let mut seen = BTreeSet::new();
	problems.retain(|problem| seen.insert(problem.clone()));

	let text = text(args, &of_series)?;
	for (number, one) in of_series.iter().enumerate() {
		let default = folder.join("report.json");
		let report = &one.reports[0];
		let json = report.to_json()?;
		let place = |path: &FilePath| match number {
			0 => path.to_owned(),
			_ => path.with_extension(format!("{}.json", one.series.name)),
		};
		for path in [Some(&default), args.json.as_ref()].into_iter().flatten() {
			process::write_whole(&place(path), json.as_bytes())?;
		}
		let page = place(&default).with_extension("html");
		let html = html::render(report, disk_of(report)?.as_ref());
		process::write_whole(&page, html.as_bytes())?;
		say(format_args!(
			"the report as a page: {}",
			paths::short(&page)
		));
	}
	Ok(Outcome {
		text,
		of_series,
		problems,
	})
}

/// What the terminal shows.
fn text(args: &Args, of_series: &[OfSeries]) -> Result<String> {
	let disks: Vec<_> = of_series
		.iter()
		.map(|one| disk_of(&one.reports[0]))
		.collect::<Result<_>>()?;
	let rows: Vec<_> = of_series
		.iter()
		.zip(&disks)
		.map(|(one, disk)| headline::OfSeries {
			name: one.series.name,
			report: &one.reports[0],
			disk: disk.as_ref(),
			client: None,
		})
		.collect();
	let mut text = headline::render(&rows);
	for one in of_series {
		let report = &one.reports[0];
		if of_series.len() > 1 {
			text.push_str(&format!("\nLinux {}\n", one.series.name));
		}
		if args.all {
			text.push_str(&format!("\n{}\n", table::render(report).trim_end()));
			if let Some(costly) = costly::render(report) {
				text.push_str(&format!("\n{costly}\n"));
			}
			if let Some(longest) = longest::render(report) {
				text.push_str(&format!("\n{longest}\n"));
			}
		} else {
			text.push_str(&format!("\n{}\n", table::render_notes(report).trim()));
		}
		if one.reports.len() > 1 {
			text.push_str(&format!(
				"\nSpread over {} runs: (max - min) / median\n\n{}\n",
				one.reports.len(),
				spread::render(&spread::between(&one.reports)).trim_end()
			));
		}
	}
	Ok(text)
}

#[cfg(test)]
mod tests {
	use super::*;

	fn chosen(line: &str) -> Result<Vec<&'static str>> {
		let names: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
		let series = chosen_series(&names)?;
		Ok(series.iter().map(|series| series.name).collect())
	}

	#[test]
	fn series_are_chosen_by_name() {
		assert_eq!(chosen("").unwrap(), [Series::main().name]);
		assert_eq!(chosen("7.3").unwrap(), ["7.3"]);
		assert_eq!(chosen("7.3 6.12 7.3").unwrap(), ["7.3", "6.12"]);
		assert_eq!(chosen("5.10").unwrap(), ["5.10"]);
		for line in ["5.10 6.12", "4.19"] {
			assert!(chosen(line).unwrap_err().is::<Usage>(), "{line}");
		}
	}
}
