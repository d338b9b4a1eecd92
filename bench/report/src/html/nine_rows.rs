// SPDX-License-Identifier: GPL-2.0-only
//! The table at the head of the page, and how to read it.

use maud::{Markup, html};
use protocol::Column;

use super::page::Page;
use super::parts::{dash, path_headers, scrolling};
use super::words::{number, times};
use crate::disk::Disk;
use crate::headline;

/// The nine rows, which also say which colour is whose.
pub(super) fn nine_rows(page: &Page, disk: Option<&Disk>) -> Markup {
	if page.report.results.is_empty() {
		return html! { p.lede { "This report has no figures." } };
	}
	let rows = headline::rows(page.report, disk);
	let of_disk = disk.map(|_| rows.len() - 1);
	let table = html! {
		thead {
			tr {
				th scope="col" { "Round trip" }
				(path_headers(&Column::ALL))
				th scope="col" { "C by Rust fast" }
			}
		}
		tbody {
			@for (index, row) in rows.iter().enumerate() {
				tr {
					th scope="row" {
						@if Some(index) == of_disk { (row.name) } @else { code { (row.name) } }
					}
					@for figure in row.figures {
						td { @match figure { Some(figure) => (number(figure)), None => (dash("not measured")) } }
					}
					td {
						@match (row.figures[1], row.figures[3]) {
							(Some(c), Some(fast)) => { (times(c / fast)) "\u{d7}" }
							_ => (dash("none")),
						}
					}
				}
			}
		}
	};
	html! {
		(scrolling("nine-rows", &html! { "Instructions per round trip of a " (headline::MODE.name()) " guest" }, &table))
		p.muted { (headline::disk_note(disk)) }
		p {
			"QEMU counts instructions exactly. "
			strong { "Instructions are not cycles." }
			" Modelled cycles come from a model of a POWER9, not from a POWER9, and are always called modelled. "
			"\u{201c}C \u{f7} 16\u{201d} means a sixteenth of what the C path needs."
		}
	}
}
