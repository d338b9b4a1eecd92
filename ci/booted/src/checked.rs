// SPDX-License-Identifier: GPL-2.0-only
//! A kernel that checks itself: its reports before the first test, and that it still checks.

use std::fs;

use crate::common::{Verdict, wrong};
use crate::kmsg::{self, Kmsg};
use vmm::machine::Failure;

/// The kernel's log since boot has no report, as `is_report` tells. Returns how many warnings it has.
fn warnings(is_report: fn(&str) -> bool) -> Result<usize, Failure> {
	let lines = Kmsg::from_boot()
		.and_then(|mut kmsg| kmsg.complaints())
		.or_else(|e| wrong(format!("/dev/kmsg: {e}")))?;
	match lines.iter().find(|line| is_report(line)) {
		Some(report) => wrong(format!("the kernel has logged {report:?}")),
		None => Ok(lines.len()),
	}
}

/// No report, and KASAN is on. KASAN writes nothing after its first report, which would be found here.
pub fn no_kasan_report_since_boot() -> Verdict {
	const ON: &str = "KASAN init done";
	let warnings = warnings(kmsg::is_report_but_of_memory)?;
	let is_on = Kmsg::from_boot().and_then(|mut kmsg| kmsg.has(ON));
	if !is_on.or_else(|e| wrong(format!("/dev/kmsg: {e}")))? {
		return wrong(format!("the kernel has not logged {ON:?}"));
	}
	Ok(format!("{warnings} lines of warnings, none a report"))
}

/// No report. Lockdep looks at nothing after its first one, so it must still be on.
pub fn no_report_since_boot() -> Verdict {
	let warnings = warnings(kmsg::is_report)?;
	const STATS: &str = "/proc/lockdep_stats";
	let text = fs::read_to_string(STATS).or_else(|e| wrong(format!("{STATS}: {e}")))?;
	let value = |name: &str| {
		let mut lines = text.lines().filter_map(|line| line.split_once(':'));
		let (_, value) = lines.find(|(found, _)| found.trim() == name)?;
		Some(value.trim().to_owned())
	};
	let on = value("debug_locks");
	if on.as_deref() != Some("1") {
		return wrong(format!("{STATS}: debug_locks is {on:?}"));
	}
	let chains = value("dependency chains").unwrap_or_default();
	Ok(format!(
		"{warnings} lines of warnings, none a report; {chains} dependency chains"
	))
}
