// SPDX-License-Identifier: GPL-2.0-only
//! The section on modelled cycles.

use maud::{Markup, html};
use protocol::Column;

use super::cards::cards;
use super::figure::{LogScale, Shown};
use super::page::{Page, Row};
use super::parts::{lacking, path_headers, scrolling};
use super::words::with_error;

pub(super) fn modelled(page: &Page) -> Markup {
	let all: Vec<f64> = page
		.report
		.results
		.iter()
		.filter_map(|entry| entry.modelled_cycles)
		.flat_map(|cycles| [cycles.median, cycles.median + cycles.error])
		.collect();
	if all.is_empty() {
		return lacking("modelled cycles");
	}
	let of = |(case, guest): Row, path| page.report.get(case, guest, path)?.modelled_cycles;
	let table = html! {
		thead { tr { th scope="col" { "Guest" } (path_headers(&Column::ALL)) } }
		@for (case, guests) in &page.cases {
			tbody {
				tr.group { th scope="rowgroup" colspan="5" { code { (case.name) } } }
				@for &guest in guests {
					@let row = (*case, guest);
					tr {
						th scope="row" { (guest.name()) }
						@for path in Column::ALL {
							td {
								@match of(row, path) {
									Some(cycles) => (with_error(cycles)),
									None => (page.absent(row, path, "not modelled")),
								}
							}
						}
					}
				}
			}
		}
	};
	html! {
		p {
			strong { "Modelled, not measured." }
			" What a model of a POWER9 makes of the operations that were counted, and how far it may be off. "
			"The scale is logarithmic; the line across a bar\u{2019}s end is the error."
		}
		(cards(page, "cycles", "modelled cycles", true, LogScale::over(all), |row, path| {
			let cycles = of(row, path)?;
			Some(Shown::Figure {
				value: cycles.median,
				error: Some(cycles.error),
				text: with_error(cycles),
				ratio: None,
			})
		}))
		(scrolling("modelled-cycles", &html! { "Modelled cycles per round trip, and their error" }, &table))
	}
}
