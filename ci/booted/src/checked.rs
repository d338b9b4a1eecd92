// SPDX-License-Identifier: GPL-2.0-only
//! A kernel that checks itself: its reports before the first test, and that it still checks.

use std::fs;

use crate::common::{Verdict, wrong};
use crate::kmsg::Kmsg;

/// Words of a report.
const REPORTS: [&str; 7] = [
	"BUG",
	"WARNING",
	"DEBUG_LOCKS_WARN_ON",
	"possible circular",
	"possible recursive",
	"inconsistent lock",
	"suspicious RCU",
];

/// The kernel's log since boot has no report. Lockdep looks at nothing after its first report, so it
/// must still be on.
pub fn no_report_since_boot() -> Verdict {
	let lines = Kmsg::from_boot()
		.and_then(|mut kmsg| kmsg.complaints())
		.or_else(|e| wrong(format!("/dev/kmsg: {e}")))?;
	let is_report = |line: &&String| REPORTS.iter().any(|word| line.contains(word));
	if let Some(report) = lines.iter().find(is_report) {
		return wrong(format!("the kernel has logged {report:?}"));
	}
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
		"{} lines of warnings, none a report; {chains} dependency chains",
		lines.len()
	))
}
