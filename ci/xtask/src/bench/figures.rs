// SPDX-License-Identifier: GPL-2.0-only
//! Boots a kernel and measures on it: its figures, what is missing, and what went wrong.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ::report::report::{Entry, Missing, Report};
use anyhow::Result;
use cases::case;
use protocol::Column;

use super::collector::Collector;
use super::plan::Plan;
use harness::kernel::{self, Image, Series};
use harness::process::{self, say};
use harness::programs::{self, Programs};
use harness::qemu::{Echo, Limits, Machine};

/// A kernel that is measured.
pub(super) struct Measured<'a> {
	pub(super) image: &'a Image,
	pub(super) paths: &'a [Column],
	/// What it is called.
	pub(super) name: String,
	/// Name of the initramfs, which no other has that is used at the same time.
	pub(super) file: String,
	pub(super) append: &'a str,
}

/// What a kernel's figures are.
#[derive(Clone)]
pub(super) struct Figures {
	entries: Vec<Entry>,
	missing: Vec<Missing>,
	problems: Vec<String>,
}

impl Figures {
	/// Adds them to a report; returns what went wrong.
	pub(super) fn put_into(self, report: &mut Report) -> Vec<String> {
		report.results.extend(self.entries);
		report.missing.extend(self.missing);
		self.problems
	}
}

/// QEMU 10.0 now and then ends with this, in the middle of a measurement that it has done
/// many times. Why is not known; what it measured before that is thrown away.
const BAD_ICOUNT: &str = "Bad icount read";

impl Measured<'_> {
	/// Boots the kernel and measures.
	pub(super) fn run(&self, plan: &Plan, programs: &Programs) -> Result<Figures> {
		match self.run_once(plan, programs) {
			Err(error) if format!("{error:#}").contains(BAD_ICOUNT) => {
				say(format_args!(
					"{error:#}: measuring on {} once more",
					self.name
				));
				self.run_once(plan, programs)
			}
			result => result,
		}
	}

	fn run_once(&self, plan: &Plan, programs: &Programs) -> Result<Figures> {
		let Self {
			image, paths, name, ..
		} = self;
		let mut collector = Collector::new(plan, paths, &image.release);
		let total = collector.awaited.len();
		say(format_args!("measuring on {name}: {total} figures"));
		let mut told = Instant::now();
		let mut time = Duration::ZERO;
		for job in plan.jobs(&image.series, paths, false) {
			let machine = Machine {
				kernel: image.stripped(),
				initrd: programs.initrd(&job, &self.file)?,
				append: self.append.to_owned(),
				smp: 1,
				threads: 1,
				mem: "2G".to_owned(),
				icount: true,
			};
			let limits = Limits {
				total: Duration::from_secs(24 * 3600),
				silence: plan.silence,
			};
			time += machine.run(limits, Echo::No, |line| {
				let ours = collector.line(line);
				let have = total - collector.awaited.len();
				if told.elapsed() >= Duration::from_secs(5) {
					told = Instant::now();
					say(format_args!("measuring on {name}: {have} of {total}"));
				}
				ours
			})?;
			collector.machine_ended();
		}
		say(format_args!(
			"measured on {name} in {}",
			process::human(time)
		));
		let (entries, missing, mut problems) = collector.finish(!image.stock);
		// What is wrong with the kernel is wrong with each figure; it is said once.
		let mut seen = BTreeSet::new();
		problems.retain(|problem| seen.insert(problem.clone()));
		Ok(Figures {
			entries,
			missing,
			problems,
		})
	}
}

/// Measures the NULL hcall on the Rust path of a kernel that has no debugfs: how many
/// figures there are, and the complaints.
pub fn without_debugfs(series: &'static Series) -> Result<(usize, Vec<String>)> {
	let image = kernel::build(series, false)?;
	let plan = Plan::new(true, vec![case!("null")], 300);
	let measured = Measured {
		image: &image,
		paths: &[Column::RustFast],
		name: format!("{} without debugfs", series.name),
		file: series.file("bench-without-debugfs"),
		append: "debugfs=off",
	};
	let figures = measured.run(&plan, &programs::build()?)?;
	Ok((figures.entries.len(), figures.problems))
}
