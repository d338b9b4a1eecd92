// SPDX-License-Identifier: GPL-2.0-only
//! Boots a kernel under the plugin, and reads what the plugin wrote.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;
use std::time::Duration;

use ::report::console::{self, Line, Measured};
use ::trace::format::{Batch, Executed, Reader};
use ::trace::round;
use ::trace::symbols::{self, Symbols};
use anyhow::{Context, Result, anyhow, bail};
use cases::Case;
use protocol::{Column, GuestMode, marker};

use super::plugin::plugin;
use super::sources::sources;
use super::traced::Traced;
use harness::kernel::Image;
use harness::paths;
use harness::process::{self, say};
use harness::programs::{Job, Programs};
use harness::qemu::{Echo, Limits, Machine};

/// Round trips that are recorded of each cell.
const ITERATIONS: u64 = 64;
/// Of those that do so much in each that batches of them are smaller.
const LEAST: u64 = 16;

/// What a traced machine gave.
#[derive(Clone, Default)]
pub struct Outcome {
	/// The cells that went well.
	pub traced: Vec<Traced>,
	/// What did not.
	pub problems: Vec<String>,
}

/// Boots an image with the plugin, and says what its round trips consist of.
pub fn run(
	image: &Image,
	programs: &Programs,
	cases: &[&'static Case],
	paths: &[Column],
) -> Result<Outcome> {
	let plugin = plugin()?;
	let mut outcome = Outcome::default();
	let vmlinux = fs::read(image.vmlinux())
		.with_context(|| format!("can't read {}", image.vmlinux().display()))?;
	if symbols::contains_word(&vmlinux, &marker::ALL).map_err(|e| anyhow!(e))? {
		bail!("the kernel's code has a word that is a marker of ours");
	}
	let symbols = match Symbols::new(&vmlinux, &sources(image)?) {
		Ok(symbols) => Some(symbols),
		Err(why) => {
			outcome.problems.push(format!(
				"{}: {why}: costly operations, but no phases",
				paths::short(&image.vmlinux())
			));
			None
		}
	};
	let mut groups: BTreeMap<u64, Vec<&'static Case>> = BTreeMap::new();
	for &case in cases {
		let iterations = (ITERATIONS / case.weight).max(LEAST);
		groups.entry(iterations).or_default().push(case);
	}
	for (iterations, cases) in groups {
		let file = paths::target().join(format!("trace/{}.trace", image.series));
		fs::create_dir_all(paths::target().join("trace"))?;
		process::remove(&file)?;
		let job = job(image, &cases, paths, iterations);
		let measured = boot(image, programs, &job, &plugin, &file, &mut outcome.problems)?;
		outcome.add(&file, &measured, symbols.as_ref())?;
		process::remove(&file)?;
	}
	Ok(outcome)
}

fn job(image: &Image, cases: &[&'static Case], paths: &[Column], iterations: u64) -> Job {
	say(format_args!(
		"tracing on {}: {} cells of {iterations} round trips",
		image.series,
		cases.iter().map(|case| case.modes.len()).sum::<usize>() * paths.len()
	));
	Job::Bench {
		series: image.series.clone(),
		cases: cases.iter().map(|case| case.name).collect(),
		guests: GuestMode::ALL.map(GuestMode::name).to_vec(),
		paths: paths.iter().map(|path| path.name()).collect(),
		iterations,
		batches: 1,
		spans: false,
	}
}

fn boot(
	image: &Image,
	programs: &Programs,
	job: &Job,
	plugin: &Path,
	file: &Path,
	problems: &mut Vec<String>,
) -> Result<Vec<Measured>> {
	let machine = Machine {
		kernel: image.stripped(),
		initrd: programs.initrd(job, &format!("trace-{}", image.series))?,
		append: String::new(),
		smp: 1,
		threads: 1,
		mem: "2G".to_owned(),
		icount: true,
	};
	let limits = Limits {
		total: Duration::from_secs(1800),
		silence: Duration::from_secs(300),
	};
	// A comma in a path would end the option.
	let argument = format!(
		"file={},out={},paca={}",
		plugin.display().to_string().replace(',', ",,"),
		file.display().to_string().replace(',', ",,"),
		paca(image)?
	);
	let mut measured = Vec::new();
	let mut done = false;
	machine.run_with(&["-plugin", &argument], limits, Echo::No, |line| {
		match console::parse(line) {
			Some(Ok(Line::Result(result))) => measured.push(result),
			Some(Ok(Line::Error(reason))) => {
				problems.push(format!("{} under the plugin: {}", reason.cell, reason.why));
			}
			Some(Ok(Line::Fatal { why })) => problems.push(why),
			Some(Err(garbled)) => problems.push(garbled.to_string()),
			Some(Ok(Line::Done)) => done = true,
			// What a path doesn't have is told by the run that measures.
			Some(Ok(Line::Na(_) | Line::Hello { .. } | Line::Test { .. })) => {}
			None => return false,
		}
		true
	})?;
	if !done {
		bail!(
			"{}: init did not get to its end under the plugin",
			image.release
		);
	}
	Ok(measured)
}

/// Where in the PACA the kernel has what the plugin reads there.
fn paca(image: &Image) -> Result<String> {
	let header = image.tree().join("include/generated/asm-offsets.h");
	let text = fs::read_to_string(&header).with_context(|| paths::short(&header))?;
	let offset = |name: &str| {
		let mut lines = text.lines().map(str::split_whitespace);
		let line = lines.find_map(|mut words| {
			(words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next())
		});
		let offset = line.flatten().and_then(|offset| offset.parse::<u64>().ok());
		offset.with_context(|| format!("{}: no {name}", paths::short(&header)))
	};
	Ok(format!(
		"{}:{}",
		offset("PACAIRQSOFTMASK")?,
		offset("HSTATE_IN_GUEST")?
	))
}

impl Outcome {
	/// Reads a trace, and makes of it what the cells need that were measured meanwhile.
	fn add(&mut self, file: &Path, measured: &[Measured], symbols: Option<&Symbols>) -> Result<()> {
		let open = File::open(file).with_context(|| format!("no {}", file.display()))?;
		let mut reader = Reader::new(BufReader::new(open))?;
		let mut windows = Vec::new();
		while let Some(window) = reader.window()? {
			windows.push(window);
		}
		if measured.is_empty() {
			return Ok(());
		}
		let base = round::memory_base(reader.places())
			.ok_or_else(|| anyhow!("the trace has nothing of the kernel in it"))?;
		for result in measured {
			let cell = result.cell;
			let tag = cases::tag(cell.case, cell.guest, cell.path);
			// Those before were to bring things in.
			let of = |kind| {
				windows
					.iter()
					.rfind(|window| window.tag == tag && window.kind == kind)
					.ok_or_else(|| format!("{cell}: no batch of it was recorded"))
			};
			let one = of(Batch::Calls).and_then(|calls| {
				let place = |entry| reader.place(entry);
				let calls = round::completed(calls, place);
				let empty = round::completed(of(Batch::Empty)?, place);
				let find = |entries: &[Executed], steady| {
					round::find(entries, result.iterations, steady, base, place)
						.map_err(|why| format!("{cell}: {why}"))
				};
				let ticks = result.ticks.first().copied().unwrap_or_default();
				// The last instruction, the second read of the timebase, is not in what it tells.
				let batch = calls.len().saturating_sub(1) as u64;
				Ok(Traced::new(
					cell,
					&find(&calls, cell.case.is_steady())?,
					&find(&empty, true)?,
					(batch, ticks),
					symbols,
				))
			});
			match one {
				Ok(traced) => {
					if !traced.exact() {
						self.problems.push(format!(
							"{cell}: the plugin counted {} instructions, and {} ticks of the timebase are {}",
							traced.batch,
							traced.ticks,
							traced.ticks * 1000 / 512
						));
					}
					self.traced.push(traced);
				}
				Err(why) => self.problems.push(why),
			}
		}
		Ok(())
	}
}
