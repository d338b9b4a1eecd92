// SPDX-License-Identifier: GPL-2.0-only
//! The section on stretches of instructions in which the host has to wait.

use maud::{Markup, html};
use protocol::Column;

use super::page::{Page, Row};
use super::parts::{lacking, path_headers, scrolling};
use super::words::number;
use crate::longest::SHOWN;
use crate::report::Longest;

pub(super) fn longest(page: &Page) -> Markup {
	let mut entries = page.report.results.iter();
	if !entries.any(|entry| entry.longest.is_some()) {
		return lacking("longest stretches");
	}
	html! {
		p {
			"Instructions of the hypervisor, one after the other. The guest\u{2019}s own instructions end a stretch: "
			"the host takes interrupts while a guest runs."
		}
		@for (index, (heading, of)) in SHOWN.iter().enumerate() {
			(scrolling(&format!("longest-{index}"), &html! { (heading) }, &table(page, *of)))
		}
	}
}

fn table(page: &Page, of: fn(&Longest) -> u64) -> Markup {
	let found = |(case, guest): Row, path| page.report.get(case, guest, path)?.longest;
	html! {
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
								@match found(row, path) {
									Some(longest) => (number(of(&longest) as f64)),
									None => (page.absent(row, path, "not recorded")),
								}
							}
						}
					}
				}
			}
		}
	}
}
