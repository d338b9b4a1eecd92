// SPDX-License-Identifier: GPL-2.0-only
//! The section on phases: in what order a round trip does what, and in which functions.

use maud::{Markup, html};

use super::details::{on_paper, row_summary};
use super::figure::{self, Bar, Naming};
use super::page::{Page, Row};
use super::parts::{dash, lacking, scrolling, swatch};
use super::words::{amount, counted, cycles, label, number, percent};
use crate::report::{Entry, Function, Origin};

/// Functions of a phase that are named; the others are summed up.
const FUNCTIONS: usize = 8;

pub(super) fn phases(page: &Page) -> Markup {
	let rows = page.detailed(|entry| !entry.phases.is_empty());
	if rows.is_empty() {
		return lacking("phases");
	}
	html! {
		p {
			"A round trip\u{2019}s phases in their order, each beginning where the one before it ended. "
			"Every figure has a scale of its own and is as wide as its total; modelled cycles are hatched. "
			"Here are the rows that the page begins with. All others are in report.json."
		}
		(on_paper())
		@for (index, &row) in rows.iter().enumerate() {
			details open[index == 0] {
				(row_summary(page, row))
				div.cards {
					@for entry in page.entries(row).filter(|entry| !entry.phases.is_empty()) {
						(waterfall(entry))
					}
				}
				(phase_table(page, row))
			}
		}
	}
}

fn waterfall(entry: &Entry) -> Markup {
	let steps: Vec<Bar> = entry
		.phases
		.iter()
		.map(|phase| Bar {
			name: &phase.name,
			instructions: phase.instructions,
			cycles: phase.modelled_cycles,
		})
		.collect();
	let cell = entry.cell();
	let id = format!("phases-{}", cell.to_string().replace(' ', "-"));
	let title = format!(
		"{}: phases of {} from a {} guest",
		label(cell.path),
		cell.case.name,
		cell.guest.name()
	);
	let words: Vec<String> = steps
		.iter()
		.map(|step| match step.cycles {
			Some(modelled) => format!(
				"{}: {} instructions, {} modelled cycles",
				step.name,
				amount(step.instructions),
				cycles(modelled)
			),
			None => format!("{}: {} instructions", step.name, amount(step.instructions)),
		})
		.collect();
	let sum: f64 = steps.iter().map(|step| step.instructions).sum();
	let apart = (sum - entry.instructions.median).abs();
	html! {
		figure.card {
			figcaption { (swatch(cell.path)) (label(cell.path)) }
			(figure::waterfall(
				&Naming { id: &id, title: &title, description: &words.join("; ") },
				cell.path,
				&steps,
			))
			@if apart > 0.01 * entry.instructions.median + 1.0 {
				p.muted {
					"The phases add up to " (number(sum)) " instructions, but "
					(number(entry.instructions.median)) " were measured."
				}
			}
		}
	}
}

fn phase_table(page: &Page, row: Row) -> Markup {
	let entries: Vec<_> = page
		.entries(row)
		.filter(|entry| !entry.phases.is_empty())
		.collect();
	let modelled = entries.iter().any(|entry| {
		entry
			.phases
			.iter()
			.any(|phase| phase.modelled_cycles.is_some())
	});
	let columns = 3 + usize::from(modelled);
	let id = format!("phase-table-{}-{}", row.0.name, row.1.name());
	let caption = html! { "Phases of " code { (row.0.name) } ", " (row.1.name()) " guest" };
	scrolling(
		&id,
		&caption,
		&html! {
			thead {
				tr {
					th scope="col" { "Phase" }
					th scope="col" { "Instructions" }
					th scope="col" { "Share" }
					@if modelled { th scope="col" { "Modelled cycles" } }
				}
			}
			@for entry in entries {
				@let sum: f64 = entry.phases.iter().map(|phase| phase.instructions).sum();
				tbody {
					tr.group { th scope="rowgroup" colspan=(columns) { (swatch(entry.path)) (label(entry.path)) } }
					@for phase in &entry.phases {
						tr {
							th.words scope="row" { (phase.name) }
							td { (amount(phase.instructions)) }
							td { @if sum > 0.0 { (percent(phase.instructions / sum)) } }
							@if modelled {
								td { @match phase.modelled_cycles { Some(modelled) => (cycles(modelled)), None => (dash("none")) } }
							}
						}
						@if !phase.functions.is_empty() {
							tr.functions {
								td colspan=(columns) {
									span.unseen { "Instructions by function: " }
									(by_function(&phase.functions))
								}
							}
						}
					}
				}
			}
		},
	)
}

fn by_function(functions: &[Function]) -> Markup {
	let (named, others) = functions.split_at(functions.len().min(FUNCTIONS));
	let rest: f64 = others.iter().map(|function| function.instructions).sum();
	html! {
		@for (index, function) in named.iter().enumerate() {
			@if index > 0 { ", " }
			span.function {
				code { (function.name) } " " (amount(function.instructions)) " (" (kind(function.kind)) ")"
			}
		}
		@if !others.is_empty() {
			", and " (counted(others.len(), "other", "others")) " " (amount(rest))
		}
	}
}

fn kind(kind: Origin) -> &'static str {
	match kind {
		Origin::Guest => "guest",
		Origin::Asm => "asm",
		Origin::Trampoline => "trampoline",
		Origin::Rust => "Rust",
		Origin::C => "C",
		Origin::User => "userspace",
	}
}
