// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask compare-stock`: the C path of our kernel against the unpatched kernel.

use ::report::console::Cell;
use ::report::report::Report;
use ::report::{measure, table};
use anyhow::{Result, bail};
use cases::CASES;
use protocol::Column;

use super::environment::environment;
use super::figures::Measured;
use super::plan::Plan;
use super::tasks::{all, task};
use harness::kernel::{self, DEFAULT_SERIES, Series};
use harness::process::say;
use harness::programs;

/// How much more our image's C path may cost than the unpatched kernel's, in instructions:
/// the seam's branch, the nops of static keys, and what else the compiler makes of them. Some round
/// trips have several hcalls, and so several times as much.
const STOCK_TOLERANCE: f64 = 2.0;
/// And where KVM_RUN returns to userspace, which has one more static key.
const STOCK_TOLERANCE_USERSPACE: f64 = 3.0;
/// Or this part of the unpatched figure, if that is more. An H_STUFF_TCE of 512 entries, 21,643
/// instructions, has 5 more: one is the seam's, and four are where the compiler saves registers in
/// kvmppc_h_stuff_tce(), which differs with any call in it. A C handler in a function of its own
/// was tried, and has 5 more, too.
const STOCK_TOLERANCE_PART: f64 = 0.000_25;

/// Options of `cargo xtask compare-stock`.
#[derive(clap::Args)]
pub struct StockArgs {
	/// Kernel series
	#[arg(long, default_value = DEFAULT_SERIES)]
	series: String,
}

/// One hcall on the C path, with and without our patches.
pub struct Compared {
	/// Which.
	pub cell: Cell,
	/// Instructions on the unpatched kernel.
	pub stock: f64,
	/// Instructions on ours.
	pub patched: f64,
	/// What two ticks of the timebase, one at each end of a batch, amount to.
	resolution: f64,
}

impl Compared {
	/// Cheap enough? Less is no cause for complaint.
	pub fn holds(&self) -> bool {
		self.patched - self.stock <= self.tolerance() + self.resolution
	}

	fn tolerance(&self) -> f64 {
		let least = if self.cell.case.ends_in_userspace() {
			STOCK_TOLERANCE_USERSPACE
		} else {
			STOCK_TOLERANCE
		};
		let hcalls = 1 + self.cell.case.also_fast.len();
		(least * hcalls as f64).max(self.stock * STOCK_TOLERANCE_PART)
	}
}

/// Compares the C path of our image with the unpatched kernel's.
pub fn compare_stock(series: &'static Series) -> Result<(Vec<Compared>, Vec<String>)> {
	// Where round trips vary, they are not the same to two instructions.
	let cases = CASES
		.iter()
		.filter(|case| !case.only_patched && case.is_steady())
		.collect();
	let plan = Plan::new(true, cases, 300);
	// What fixes of the kernel's own bugs cost is not our path's.
	let images = [kernel::build_fixed(series)?, kernel::build(series, false)?];
	let programs = programs::build()?;
	let names = [format!("{} fixed", series.name), series.name.to_owned()];
	let tasks = images.iter().zip(names).map(|(image, name)| {
		let measured = Measured {
			image,
			paths: &[Column::C],
			name: name.clone(),
			file: format!("compare-{}", name.replace(' ', "-")),
			append: "",
		};
		let (plan, programs) = (&plan, &programs);
		task(name, &[Column::C], move || measured.run(plan, programs))
	});
	let mut reports = Vec::new();
	let mut problems = Vec::new();
	for (image, figures) in images.iter().zip(all(tasks.collect())) {
		let mut report = Report::new(environment(std::slice::from_ref(image))?);
		problems.extend(figures?.put_into(&mut report));
		reports.push(report);
	}
	let compared = reports[0]
		.results
		.iter()
		.filter_map(|entry| {
			let cell = entry.cell();
			let mut others = reports[1].results.iter();
			let patched = others.find(|other| other.cell() == cell)?;
			// Not the median: the longest batches last longer than a tick of the host's timer, so
			// each has the tick or not. The least one has none on either kernel.
			Some(Compared {
				cell,
				stock: entry.instructions.min,
				patched: patched.instructions.min,
				resolution: measure::resolution(entry.iterations),
			})
		})
		.collect();
	Ok((compared, problems))
}

/// `cargo xtask compare-stock`
pub fn compare_stock_main(args: &StockArgs) -> Result<()> {
	let (compared, problems) = compare_stock(Series::find_rust(&args.series)?)?;
	let mut table = table::Table::new(
		2,
		&["case", "guest", "unpatched", "patched, C", "difference"],
	);
	for one in &compared {
		table.row([
			one.cell.case.name.to_owned(),
			one.cell.guest.name().to_owned(),
			format!("{:.2}", one.stock),
			format!("{:.2}", one.patched),
			format!("{:+.2}", one.patched - one.stock),
		]);
	}
	println!("{}", table.render().trim_end());
	for problem in &problems {
		say(problem);
	}
	let apart = compared.iter().filter(|one| !one.holds()).count();
	if apart + problems.len() > 0 || compared.is_empty() {
		bail!(
			"{apart} of {} round trips cost more than {STOCK_TOLERANCE} instructions more ({STOCK_TOLERANCE_USERSPACE} to userspace, {STOCK_TOLERANCE_PART} of a long one), {} figures are missing or wrong",
			compared.len(),
			problems.len()
		);
	}
	Ok(())
}
