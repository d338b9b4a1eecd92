// SPDX-License-Identifier: GPL-2.0-only
//! What the reader unfolds, row by row: the heading, and a note for the printed page.

use maud::{Markup, html};
use protocol::Column;

use super::page::{Page, Row};
use super::parts::swatch;
use super::words::{label, number};

/// Dozens of pages of paper are the reader's to ask for.
pub(super) fn on_paper() -> Markup {
	html! { p.muted.paper { "Printed as far as it was unfolded." } }
}

/// The heading of what can be unfolded for a row: its totals, one for each path.
pub(super) fn row_summary(page: &Page, row: Row) -> Markup {
	html! {
		summary {
			span.what { code { (row.0.name) } ", " (row.1.name()) " guest" }
			@for path in Column::ALL {
				span.total {
					(swatch(path)) (label(path)) " "
					@match page.report.median(row.0, row.1, path) {
						Some(figure) => b { (number(figure)) },
						None => (page.absence(row, path).map_or("\u{2013}", |(what, _)| what)),
					}
				}
			}
		}
	}
}
