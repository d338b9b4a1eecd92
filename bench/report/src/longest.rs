// SPDX-License-Identifier: GPL-2.0-only
//! The table of the longest stretches of instructions in which the host has to wait.

use cases::CASES;
use protocol::{Column, GuestMode};

use crate::report::{Longest, Report};
use crate::table::{Table, grouped};

/// What is shown of a stretch: in the heading, and as a number.
type Shown = (&'static str, fn(&Longest) -> u64);

/// What there are tables of.
pub const SHOWN: [Shown; 2] = [
	(
		"Longest time with interrupts off, in instructions of the hypervisor",
		|longest| longest.interrupts_off,
	),
	(
		"Longest time with the mode byte of a guest set, in instructions of the hypervisor",
		|longest| longest.guest_mode,
	),
];

/// Both tables, of radix guests; `None` if nothing was recorded.
pub fn render(report: &Report) -> Option<String> {
	let tables = SHOWN.map(|shown| render_one(report, shown));
	let tables: Vec<_> = tables.into_iter().flatten().collect();
	(!tables.is_empty()).then(|| tables.join("\n"))
}

fn render_one(report: &Report, (heading, of): Shown) -> Option<String> {
	let mut table = Table::new(1, &["case", "5.10 asm", "C", "Rust full", "Rust fast"]);
	let mut any = false;
	for case in CASES {
		let cells = Column::ALL.map(|path| report.get(case, GuestMode::Radix, path)?.longest);
		if cells.iter().all(Option::is_none) {
			continue;
		}
		any = true;
		let figure = |longest: &Option<Longest>| match longest {
			Some(longest) => grouped(&of(longest).to_string()),
			None => "-".to_owned(),
		};
		table.row(
			[case.name.to_owned()]
				.into_iter()
				.chain(cells.iter().map(figure)),
		);
	}
	any.then(|| format!("{heading}; a radix guest\n\n{}", table.render()))
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::tests::sample;

	#[test]
	fn only_what_was_recorded_is_shown() {
		let mut report = sample();
		assert_eq!(render(&report), None);
		report.results[1].longest = Some(Longest {
			interrupts_off: 1234,
			guest_mode: 567,
		});
		let text = render(&report).unwrap();
		let rows: Vec<&str> = text
			.lines()
			.filter(|line| line.starts_with("null"))
			.collect();
		let cells: Vec<Vec<&str>> = rows
			.iter()
			.map(|row| row.split_whitespace().collect())
			.collect();
		assert_eq!(
			cells,
			[
				["null", "-", "1,234", "-", "-"],
				["null", "-", "567", "-", "-"]
			]
		);
	}

	#[test]
	fn a_report_without_stretches_is_read() {
		let mut report = sample();
		let text = report.to_json().unwrap();
		assert!(!text.contains("longest"));
		assert_eq!(Report::read(text.as_bytes()).unwrap(), report);
		report.results[0].longest = Some(Longest {
			interrupts_off: 2,
			guest_mode: 1,
		});
		let text = report.to_json().unwrap();
		assert_eq!(Report::read(text.as_bytes()).unwrap(), report);
	}
}
