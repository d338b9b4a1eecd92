// SPDX-License-Identifier: GPL-2.0-only
//! The sections on instructions: cards with all figures, and the table of them.

use maud::{Markup, html};
use protocol::Column;

use super::cards::cards;
use super::figure::{LogScale, Shown};
use super::page::{Page, Row};
use super::parts::{dash, path_headers, scrolling};
use super::words::{by, number, times};
use crate::report::Entry;

pub(super) fn summary(page: &Page) -> Markup {
	if page.cases.is_empty() {
		return html! { p.muted { "This report has no figures." } };
	}
	let results = page.report.results.iter();
	let scale = LogScale::over(results.map(|entry| entry.instructions.median));
	html! {
		p {
			"Median over the batches, the empty loop subtracted. All figures here have the same "
			"logarithmic scale: equal lengths are equal factors, and bars do not start at 0."
		}
		(cards(page, "bars", "instructions", false, scale, |(case, guest), path| {
			let value = page.report.median(case, guest, path)?;
			let ratio = match page.report.median(case, guest, Column::C) {
				Some(c) if path != Column::C => by("C", c, value),
				_ => String::new(),
			};
			Some(Shown::Figure { value, error: None, text: number(value), ratio: Some(ratio) })
		}))
	}
}

pub(super) fn figures(page: &Page) -> Markup {
	if page.cases.is_empty() {
		return html! { p.muted { "This report has no figures." } };
	}
	let caption = html! { "Instructions per round trip, not cycles: median over the batches, empty loop subtracted" };
	let ratio = |row: Row, slow, fast| {
		let median = |path| page.report.median(row.0, row.1, path);
		match (median(slow), median(fast)) {
			(Some(slow), Some(fast)) => html! { (times(slow / fast)) "\u{d7}" },
			_ => dash("none"),
		}
	};
	let most = |row, of: fn(&Entry) -> f64| page.entries(row).map(of).reduce(f64::max);
	let or_dash =
		|value: Option<f64>| value.map_or_else(|| dash("none"), |value| html! { (number(value)) });
	let table = html! {
		thead {
			tr {
				th scope="col" { "Guest" }
				(path_headers(&Column::ALL))
				th scope="col" { "C / Rust full" }
				th scope="col" { "C / Rust fast" }
				th scope="col" { "5.10 / Rust fast" }
				th scope="col" { "Widest range" }
				th scope="col" { "Empty loop" }
			}
		}
		@for (case, guests) in &page.cases {
			tbody {
				tr.group { th scope="rowgroup" colspan="10" { code { (case.name) } } }
				@for &guest in guests {
					@let row = (*case, guest);
					tr {
						th scope="row" { (guest.name()) }
						@for path in Column::ALL {
							td {
								@match page.report.median(case, guest, path) {
									Some(figure) => (number(figure)),
									None => (page.absent(row, path, "not measured")),
								}
							}
						}
						td { (ratio(row, Column::C, Column::RustFull)) }
						td { (ratio(row, Column::C, Column::RustFast)) }
						td { (ratio(row, Column::Asm510, Column::RustFast)) }
						td { (or_dash(most(row, |entry| entry.instructions.max - entry.instructions.min))) }
						td { (or_dash(most(row, |entry| entry.empty_loop.median))) }
					}
				}
			}
		}
	};
	html! {
		(scrolling("all-figures", &caption, &table))
		p.muted {
			"Widest range: greatest less least batch, of the path where they are furthest apart. "
			"Empty loop: what the loop around the call costs; it is subtracted."
		}
	}
}
