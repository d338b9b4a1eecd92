// SPDX-License-Identifier: GPL-2.0-only
//! The section on cells without a figure: each reason once, with its cells.

use maud::{Markup, html};

use super::page::Page;
use super::words::{counted, label};

pub(super) fn reasons(page: &Page) -> Markup {
	if page.reasons.is_empty() {
		return html! { p.muted { "None: every cell that was asked for has its figure." } };
	}
	let cells = |why: &str| -> Vec<String> {
		let missing = page.report.missing.iter();
		missing
			.filter(|missing| missing.why == why)
			.map(|missing| {
				let cell = missing.cell;
				let what = if missing.failed { ", failed" } else { "" };
				format!(
					"{} {} {}{what}",
					cell.case.name,
					cell.guest.name(),
					label(cell.path)
				)
			})
			.collect()
	};
	html! {
		p { "n/a: that path does not have that case. Failed: it should have been measured." }
		ol.reasons {
			@for (index, why) in page.reasons.iter().enumerate() {
				@let cells = cells(why);
				li id={ "reason-" (index + 1) } value=(index + 1) {
					(why)
					p.muted { (counted(cells.len(), "cell", "cells")) ": " (cells.join("; ")) }
				}
			}
		}
	}
}
