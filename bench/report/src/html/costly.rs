// SPDX-License-Identifier: GPL-2.0-only
//! The section on costly operations: counts on each path, and differences from C.

use std::collections::BTreeMap;

use maud::{Markup, html};
use protocol::Column;

use super::details::{on_paper, row_summary};
use super::page::{Page, Row};
use super::parts::{lacking, path_headers, scrolling};
use super::words::{amount, difference, label};

/// The paths of this project, which are held against C.
const RUST: [Column; 2] = [Column::RustFull, Column::RustFast];

/// An operation's counts, one for each path, and those of its registers or kinds.
#[derive(Default)]
struct Operation<'a> {
	counts: [Option<f64>; Column::ALL.len()],
	parts: BTreeMap<&'a str, [Option<f64>; Column::ALL.len()]>,
}

/// The operations of a row. One that is only counted by parts is their sum.
fn operations<'a>(page: &Page<'a>, row: Row) -> BTreeMap<&'a str, Operation<'a>> {
	let mut operations: BTreeMap<&str, Operation> = BTreeMap::new();
	for (index, path) in Column::ALL.into_iter().enumerate() {
		let Some(counts) = page
			.report
			.get(row.0, row.1, path)
			.and_then(|entry| entry.costly.as_ref())
		else {
			continue;
		};
		for (name, &count) in counts {
			match name.split_once(':') {
				None => {
					operations.entry(name).or_default().counts[index] = Some(count);
				}
				Some((name, part)) => {
					let operation = operations.entry(name).or_default();
					operation.parts.entry(part).or_default()[index] = Some(count);
					if !counts.contains_key(name) {
						*operation.counts[index].get_or_insert(0.0) += count;
					}
				}
			}
		}
	}
	operations
}

pub(super) fn costly(page: &Page) -> Markup {
	let rows = page.detailed(|entry| entry.costly.is_some());
	if rows.is_empty() {
		return lacking("counts of costly operations");
	}
	html! {
		p {
			"Operations that cost a POWER9 more than their instruction, counted, a round trip. "
			"Differences are Rust less C: \u{2212} is fewer. "
			"Here are the rows that the page begins with. All others are in report.json."
		}
		(on_paper())
		@for (index, &row) in rows.iter().enumerate() {
			details open[index == 0] {
				(row_summary(page, row))
				(costly_table(page, row))
			}
		}
	}
}

fn costly_table(page: &Page, row: Row) -> Markup {
	let has = |path| {
		page.report
			.get(row.0, row.1, path)
			.is_some_and(|entry| entry.costly.is_some())
	};
	let place = |path| Column::ALL.iter().position(|&one| one == path);
	let differences: Vec<Column> = RUST
		.into_iter()
		.filter(|&path| has(Column::C) && has(path))
		.collect();
	let cells = |counts: &[Option<f64>; Column::ALL.len()]| {
		// An operation that a path doesn't do was counted, too.
		let count_of = |path| {
			let counted = place(path).and_then(|index| counts[index]);
			has(path).then(|| counted.unwrap_or(0.0))
		};
		html! {
			@for path in Column::ALL {
				td { @match count_of(path) { Some(value) => (amount(value)), None => (page.absent(row, path, "not counted")) } }
			}
			@for &path in &differences {
				td {
					@if let (Some(c), Some(rust)) = (count_of(Column::C), count_of(path)) {
						(difference(c, rust))
					}
				}
			}
		}
	};
	let id = format!("costly-{}-{}", row.0.name, row.1.name());
	let caption = html! { "Costly operations per round trip of " code { (row.0.name) } ", " (row.1.name()) " guest" };
	scrolling(
		&id,
		&caption,
		&html! {
			thead {
				tr {
					th scope="col" { "Operation" }
					(path_headers(&Column::ALL))
					@for &path in &differences { th scope="col" { (label(path)) " \u{2212} C" } }
				}
			}
			@for (name, operation) in operations(page, row) {
				tbody {
					tr.operation { th scope="row" { code { (name) } } (cells(&operation.counts)) }
					@for (part, counts) in &operation.parts {
						tr.part { th scope="row" { code { (name) ":" (part) } } (cells(counts)) }
					}
				}
			}
		},
	)
}

#[cfg(test)]
mod tests {
	use cases::case;
	use protocol::GuestMode;

	use super::*;
	use crate::report::tests::sample;

	#[test]
	fn parts_are_summed_only_if_there_is_no_sum() {
		let mut report = sample();
		let counts = |counts: &[(&str, f64)]| {
			Some(
				counts
					.iter()
					.map(|&(name, count)| (name.to_owned(), count))
					.collect(),
			)
		};
		report.results[1].costly = counts(&[("load", 461.0), ("load:vector", 68.0)]);
		report.results[2].costly = counts(&[("mtspr:LPCR", 2.0), ("mtspr:PIDR", 1.0)]);
		let page = Page::new(&report);
		let operations = operations(&page, (case!("null"), GuestMode::Radix));
		assert_eq!(operations["load"].counts, [None, Some(461.0), None, None]);
		assert_eq!(operations["mtspr"].counts, [None, None, Some(3.0), None]);
		assert_eq!(
			operations["mtspr"].parts["LPCR"],
			[None, None, Some(2.0), None]
		);
	}
}
