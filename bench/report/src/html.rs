// SPDX-License-Identifier: GPL-2.0-only
//! The report as one page for a browser: `report.html`.
//!
//! It is whole in itself: no script, no font, no request, and a policy in it that would
//! forbid them. What it shows as a figure it says in a table, too, in whose cells are
//! all the numbers; a cell without one has a number of its own that leads to the reason.
//! Instructions were counted and modelled cycles were not, so each figure and each
//! column says which of them it has, and none has both.
//!
//! Everything that comes from the report goes through maud's escaping.

mod cards;
mod costly;
mod details;
mod environment;
mod figure;
mod instructions;
mod longest;
mod modelled;
mod nine_rows;
mod page;
mod palette;
mod parts;
mod phases;
mod reasons;
mod words;

use maud::{DOCTYPE, PreEscaped, html};

use crate::disk::Disk;
use crate::report::Report;
use costly::costly;
use environment::environment;
use instructions::{figures, summary};
use longest::longest;
use modelled::modelled;
use nine_rows::nine_rows;
use page::Page;
use phases::phases;
use reasons::reasons;

/// The whole page.
pub fn render(report: &Report, disk: Option<&Disk>) -> String {
	let page = Page::new(report);
	let release = match report.environment.kernel_release.as_str() {
		"" => "unknown",
		release => release,
	};
	let style = format!(
		":root{{color-scheme:light dark;{}}}@media (prefers-color-scheme:dark){{:root{{{}}}}}\
		@media print{{:root{{color-scheme:light;{}}}}}{}",
		palette::LIGHT.variables(),
		palette::DARK.variables(),
		palette::LIGHT.variables(),
		include_str!("html/page.css")
	);
	let sections = [
		(
			"environment",
			"Environment",
			"Measured on",
			environment(&report.environment),
		),
		(
			"summary",
			"Summary",
			"Instructions per round trip",
			summary(&page),
		),
		("figures", "All figures", "All figures", figures(&page)),
		(
			"modelled",
			"Modelled cycles",
			"Modelled POWER9 cycles",
			modelled(&page),
		),
		(
			"phases",
			"Phases",
			"Where the instructions go",
			phases(&page),
		),
		(
			"costly",
			"Costly operations",
			"Costly operations, C and Rust",
			costly(&page),
		),
		(
			"longest",
			"Interrupts off",
			"Longest time with interrupts off",
			longest(&page),
		),
		(
			"reasons",
			"Missing",
			"Cells without a figure",
			reasons(&page),
		),
	];
	html! {
		(DOCTYPE)
		html lang="en" {
			head {
				meta charset="utf-8";
				meta name="viewport" content="width=device-width, initial-scale=1";
				meta http-equiv="Content-Security-Policy"
					content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
				// Else browsers ask for one.
				link rel="icon" href="data:,";
				meta name="color-scheme" content="light dark";
				title { "kvm-p9: cost of a round trip, Linux " (release) }
				style { (PreEscaped(style)) }
			}
			body {
				a.skip href="#summary" { "Skip to the figures" }
				(figure::patterns())
				header {
					h1 { "kvm-p9: what a round trip costs" }
					p.muted { "Linux " (release) ", emulated POWER9" }
					(nine_rows(&page, disk))
				}
				nav aria-label="Sections" {
					ul {
						@for (id, short, ..) in &sections {
							li { a href={ "#" (id) } { (short) } }
						}
					}
				}
				main {
					@for (id, _, title, content) in &sections {
						section id=(id) aria-labelledby={ (id) "-title" } {
							h2 id={ (id) "-title" } { (title) }
							(content)
						}
					}
				}
			}
		}
	}
	.into_string()
}

#[cfg(test)]
mod tests {
	use cases::CASES;

	use super::words::{amount, number, with_error};
	use super::*;
	use crate::headline;
	use crate::report::Environment;
	use crate::report::tests::sample;

	fn disk() -> Disk {
		Disk::read(include_str!("../../reference-disk.json")).unwrap()
	}

	#[test]
	fn the_page_is_below_a_megabyte() {
		let size = render(&crate::sample::report(), Some(&disk())).len();
		assert!(size < 1_000_000, "{size} bytes");
	}

	#[test]
	fn the_page_begins_with_the_nine_rows() {
		let page = render(&crate::sample::report(), Some(&disk()));
		let rows = page.find("id=\"nine-rows\"").unwrap();
		assert!(rows < page.find("<nav").unwrap());
		let table = &page[rows..][..page[rows..].find("</table>").unwrap()];
		assert_eq!(table.matches("<th scope=\"row\"").count(), 9);
	}

	#[test]
	fn every_figure_is_in_the_page() {
		let report = crate::sample::report();
		let page = render(&report, Some(&disk()));
		for entry in &report.results {
			assert!(page.contains(&format!("<td>{}</td>", number(entry.instructions.median))));
			if let Some(cycles) = entry.modelled_cycles {
				assert!(page.contains(&with_error(cycles)));
			}
			let shown = headline::CASES.contains(&entry.case) && entry.guest == headline::MODE;
			for phase in entry.phases.iter().filter(|_| shown) {
				assert!(page.contains(&amount(phase.instructions)));
			}
		}
		for missing in &report.missing {
			assert!(
				page.contains(&missing.why.replace('\'', "&#39;")) || page.contains(&missing.why)
			);
		}
		for case in CASES {
			assert!(
				page.contains(&format!("<code>{}</code>", case.name)),
				"{}",
				case.name
			);
		}
		assert!(page.contains(">failed <") && page.contains(">n/a <"));
	}

	#[test]
	fn what_comes_from_the_report_is_text() {
		let mut report = sample();
		let evil = "<script>alert(1)</script>\"'&";
		report.environment.rustc = evil.to_owned();
		report.missing[0].why = evil.to_owned();
		report.results[0].costly = Some([(evil.to_owned(), 1.0)].into());
		let page = render(&report, Some(&disk()));
		assert!(!page.contains("<script") && !page.contains("alert(1)</script>"));
		assert_eq!(page.matches("&lt;script&gt;alert(1)").count(), 4);
	}

	#[test]
	fn less_is_shown_as_far_as_it_goes() {
		let page = render(&sample(), Some(&disk()));
		assert!(page.contains("no modelled cycles") && page.contains("no phases"));
		assert!(page.contains("<td>2,230</td>"));
		assert!(
			render(&Report::new(Environment::default()), Some(&disk())).contains("has no figures")
		);
	}
}
