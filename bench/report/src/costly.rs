// SPDX-License-Identifier: GPL-2.0-only
//! The table of costly operations, as the terminal shows it.
//!
//! Cycles are in it only as what the model makes of them, and always called so.

use cases::CASES;
use protocol::{Column, GuestMode};

use crate::report::{Entry, Report};
use crate::table::{self, Table};

/// Columns: a heading, and the operations that it sums up.
const COLUMNS: [(&str, &[&str]); 12] = [
	("mtspr", &["mtspr"]),
	("mfspr", &["mfspr"]),
	("mftb", &["mftb"]),
	("mtmsrd", &["mtmsrd"]),
	("mfmsr", &["mfmsr"]),
	("isync", &["isync"]),
	("sync", &["sync"]),
	("slb/tlb", &["slb", "tlb"]),
	("larx", &["larx"]),
	("loads", &["load"]),
	("stores", &["store"]),
	("taken", &["taken branch"]),
];

/// How often an operation was done per round trip.
pub fn count(entry: &Entry, operation: &str) -> Option<f64> {
	let costly = entry.costly.as_ref()?;
	Some(costly.get(operation).copied().unwrap_or_default())
}

/// The table, of radix guests; `None` if nothing was counted.
pub fn render(report: &Report) -> Option<String> {
	let mut header = vec!["case", "path"];
	header.extend(COLUMNS.iter().map(|(heading, _)| *heading));
	// A reference of an earlier tree has none.
	let modelled = report
		.results
		.iter()
		.any(|entry| entry.modelled_cycles.is_some());
	if modelled {
		header.push("modelled cycles");
	}
	let mut table = Table::new(2, &header);
	let mut any = false;
	for case in CASES {
		for path in Column::ALL {
			let Some(entry) = report.get(case, GuestMode::Radix, path) else {
				continue;
			};
			if entry.costly.is_none() {
				continue;
			}
			any = true;
			let mut row = vec![case.name.to_owned(), path.name().to_owned()];
			row.extend(COLUMNS.iter().map(|(_, operations)| {
				let sum: f64 = operations
					.iter()
					.filter_map(|operation| count(entry, operation))
					.sum();
				format!("{sum:.0}")
			}));
			if modelled {
				row.push(table::modelled(Some(entry)));
			}
			table.row(row);
		}
	}
	any.then(|| {
		let and = if modelled {
			"; and what a model makes of the\nwhole sequence: modelled cycles, not measured ones"
		} else {
			""
		};
		format!(
			"Costly operations per round trip of a radix guest, counted{and}\n\n{}",
			table.render().trim_end()
		)
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::Modelled;
	use crate::report::tests::sample;

	#[test]
	fn only_what_was_counted_is_shown() {
		let mut report = sample();
		assert_eq!(render(&report), None);
		let entry = &mut report.results[1];
		entry.costly = Some([("mtspr".to_owned(), 44.0), ("tlb".to_owned(), 2.0)].into());
		entry.modelled_cycles = Some(Modelled {
			median: 4894.4,
			error: 700.0,
		});
		let text = render(&report).unwrap();
		let rows: Vec<&str> = text.lines().skip(5).collect();
		assert_eq!(rows.len(), 1, "{text}");
		let cells: Vec<&str> = rows[0].split_whitespace().collect();
		assert_eq!(cells[..3], ["null", "c", "44"]);
		assert_eq!(cells[9], "2");
		assert!(text.contains("modelled cycles") && rows[0].ends_with("4894 +-700"));
		assert_eq!(count(&report.results[1], "mtspr"), Some(44.0));
		assert_eq!(count(&report.results[1], "isync"), Some(0.0));
		assert_eq!(count(&report.results[0], "isync"), None);
	}
}
