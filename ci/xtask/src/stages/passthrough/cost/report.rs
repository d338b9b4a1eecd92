// SPDX-License-Identifier: GPL-2.0-only
//! What is told, judged and written of the costs of all sections.

use anyhow::Result;
use serde::Serialize;

use super::costs::Cost;
use super::judge::judge;
use super::profile::{Profile, tell_differences};
use super::section::{PATHS, ROUNDS, TCE, sections};
use super::table::table;
use crate::spans::{Spans, read};
use harness::check::Check;
use harness::kernel::{Image, Series};
use harness::paths;
use harness::process::{self, say};
use harness::qemu;

/// All that is written to the JSON file.
#[derive(Serialize)]
struct Report {
	kernel: String,
	object: Option<String>,
	machine: String,
	bytes_per_read: u64,
	costs: Vec<Cost>,
	profiles: Vec<Profile>,
}

impl Spans {
	/// Reads the record, tells and keeps what it says, and judges it.
	pub fn judge(&self, image: &Image, reads: u64) -> Vec<Check> {
		let recorded = match read(&self.file) {
			Ok(recorded) => recorded,
			Err(why) => return vec![Check::of("cost, record", Err(why))],
		};
		let (mut checks, mut costs) = (Vec::new(), Vec::new());
		for section in sections() {
			let cost = Cost::new(section, &recorded, reads);
			let result = cost.map(|cost| costs.push(cost));
			checks.push(Check::of(format!("cost on {section}"), result));
		}
		let profiles: Vec<Profile> = PATHS
			.iter()
			.flat_map(|&path| {
				let tags: Vec<u64> = sections()
					.filter(|section| section.path == path)
					.map(|section| section.tag)
					.collect();
				let of_path: Vec<_> = recorded
					.iter()
					.filter(|section| tags.contains(&section.tag))
					.collect();
				TCE.into_iter()
					.filter_map(|hcall| Profile::new(path, hcall, &of_path, &self.symbols))
					.collect::<Vec<_>>()
			})
			.collect();
		checks.extend(judge(&costs));
		say(format_args!(
			"instructions of the hypervisor, {reads} reads of 64 KiB on each path, {ROUNDS} times:"
		));
		println!("{}", table(&costs));
		tell_differences(&profiles);
		checks.push(Check::of(
			"cost, report",
			self.write(image, costs, profiles),
		));
		checks
	}

	fn write(&self, image: &Image, costs: Vec<Cost>, profiles: Vec<Profile>) -> Result<()> {
		let report = Report {
			kernel: image.release.clone(),
			object: image.object_hash.clone(),
			machine: qemu::version()?,
			bytes_per_read: 64 << 10,
			costs,
			profiles,
		};
		let path = paths::target().join(format!(
			"test/{}.json",
			Series::find(&image.series)?.file("passthrough-cost")
		));
		process::write_whole(&path, serde_json::to_string_pretty(&report)?.as_bytes())?;
		say(format_args!("{}", paths::short(&path)));
		Ok(())
	}
}
