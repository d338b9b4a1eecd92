// SPDX-License-Identifier: GPL-2.0-only
//! Where the hypervisor's instructions go, by function.

use std::collections::BTreeMap;
use std::fmt::Write;

use ::trace::attribute::FIRMWARE;
use ::trace::span;
use ::trace::symbols::{LINEAR, Symbols};
use anyhow::Result;
use harness::kernel::Series;
use harness::paths;
use harness::process::{self, say};

use super::figures::reason;
use super::plan::{GuestConfig, sections};

/// Functions of a section that are told.
const TOLD: usize = 60;

/// Writes a file for readers: of each section the functions with most instructions, and of each
/// reason.
pub(super) fn write(
	series: &Series,
	runs: &[(u64, GuestConfig)],
	recorded: &[span::Recording],
	symbols: &Symbols,
) -> Result<()> {
	let mut text = String::new();
	for (run, guest) in runs {
		for section in sections(*run) {
			let Some(recorded) = recorded.iter().find(|one| one.tag == section.tag) else {
				continue;
			};
			writeln!(
				text,
				"{guest}; {}; {}",
				section.work.name,
				section.path.name()
			)?;
			let mut functions: BTreeMap<(String, &str), u64> = BTreeMap::new();
			for (of, code) in &recorded.code {
				for (&real, &count) in code {
					let name = match symbols.at(LINEAR + real) {
						_ if FIRMWARE.contains(&real) => "firmware (OPAL)",
						Some(function) => function.name.as_str(),
						None => "unknown",
					};
					let full = of.sort.landmarks & span::landmark::FULL != 0;
					let way = if full { "full" } else { "short" };
					let reason = format!("{} {way}", reason(of.sort.event));
					*functions.entry((reason, name)).or_default() += count;
				}
			}
			let mut functions: Vec<_> = functions.into_iter().collect();
			functions.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
			for ((reason, name), count) in functions.iter().take(TOLD) {
				writeln!(text, "{count:10} {reason}: {name}")?;
			}
		}
	}
	let path = paths::target().join(format!("test/{}.txt", series.file("client-cost-functions")));
	process::write_whole(&path, text.as_bytes())?;
	say(format_args!("{}", paths::short(&path)));
	Ok(())
}
