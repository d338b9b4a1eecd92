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

mod figure;
mod palette;

use std::collections::{BTreeMap, BTreeSet};

use cases::{CASES, Case};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use protocol::{Column, GuestMode};

use crate::disk::Disk;
use crate::headline;
use crate::report::{Entry, Environment, Function, Kind, Modelled, Report};
use crate::table::{self, grouped};
use figure::{Group, LogScale, Naming, Shown, Step};
use palette::class;

/// The paths of this project, which are held against C.
const RUST: [Column; 2] = [Column::RustFull, Column::RustFast];

/// Functions of a phase that are named; the others are summed up.
const FUNCTIONS: usize = 8;

/// A path's name in the page.
fn label(path: Column) -> &'static str {
	match path {
		Column::Asm510 => "5.10 asm",
		Column::C => "C",
		Column::RustFull => "Rust full",
		Column::RustFast => "Rust fast",
	}
}

/// A figure, as precisely as the terminal has it.
fn number(value: f64) -> String {
	grouped(&table::figure(Some(value)))
}

/// A part of a figure, or a count, which are whole numbers unless they are a mean.
fn amount(value: f64) -> String {
	if value >= 1000.0 {
		return number(value);
	}
	let decimals = if value < 10.0 { 2 } else { 1 };
	let text = format!("{value:.decimals$}");
	text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Modelled cycles: they are not known to a fraction.
fn cycles(value: f64) -> String {
	amount(if value < 10.0 { value } else { value.round() })
}

/// A share of a whole.
fn percent(share: f64) -> String {
	match 100.0 * share {
		0.0 => "0%".to_owned(),
		..0.5 => "<1%".to_owned(),
		percent => format!("{percent:.0}%"),
	}
}

/// Modelled cycles and their error, whose second digit is the last that can mean anything.
fn with_error(cycles: Modelled) -> String {
	let unit = 10_f64.powf((cycles.error.log10() - 1.0).floor()).max(1.0);
	let round = |value: f64| grouped(&format!("{:.0}", (value / unit).round() * unit));
	// If a line has to end, then before the error.
	format!(
		"{} \u{b1}\u{a0}{}",
		round(cycles.median),
		round(cycles.error)
	)
}

/// How much a figure differs, with a sign that isn't a hyphen.
fn difference(from: f64, to: f64) -> String {
	let by = to - from;
	if by.abs() < 0.005 {
		"0".to_owned()
	} else if by < 0.0 {
		format!("\u{2212}{}", amount(-by))
	} else {
		format!("+{}", amount(by))
	}
}

/// How many times, as precisely as it is of use.
fn times(ratio: f64) -> String {
	match ratio {
		..10.0 => format!("{ratio:.2}"),
		..100.0 => format!("{ratio:.1}"),
		_ => format!("{ratio:.0}"),
	}
}

/// A figure by another: "C ÷ 16.3" if that is so much more, "C × 1.2" if it is less.
fn by(what: &str, of: f64, figure: f64) -> String {
	let ratio = of / figure;
	if !ratio.is_finite() || ratio <= 0.0 {
		String::new()
	} else if (ratio - 1.0).abs() < 0.005 {
		format!("= {what}")
	} else if ratio > 1.0 {
		format!("{what} \u{f7} {}", times(ratio))
	} else {
		format!("{what} \u{d7} {}", times(1.0 / ratio))
	}
}

/// Nouns with their number.
fn counted(number: usize, one: &str, many: &str) -> String {
	format!("{number} {}", if number == 1 { one } else { many })
}

fn short_hash(hash: &str) -> String {
	hash.chars().take(16).collect()
}

/// A case in a guest.
type Row = (&'static Case, GuestMode);

/// The report, and what is found in it again and again.
struct Page<'a> {
	report: &'a Report,
	/// Cases with any figure or reason, and the guests that have them.
	cases: Vec<(&'static Case, Vec<GuestMode>)>,
	/// Why figures are missing, each reason once: its number is its place here.
	reasons: Vec<&'a str>,
}

impl<'a> Page<'a> {
	fn new(report: &'a Report) -> Self {
		let known = |case, guest| {
			let path = |path| {
				report.get(case, guest, path).is_some()
					|| report.missing(case, guest, path).is_some()
			};
			Column::ALL.into_iter().any(path)
		};
		let guests = |case| {
			GuestMode::ALL
				.into_iter()
				.filter(move |&guest| known(case, guest))
		};
		let cases = CASES
			.iter()
			.map(|case| (case, guests(case).collect::<Vec<_>>()))
			.filter(|(_, guests)| !guests.is_empty())
			.collect();
		let mut reasons: Vec<&str> = Vec::new();
		for missing in &report.missing {
			if !reasons.contains(&missing.why.as_str()) {
				reasons.push(&missing.why);
			}
		}
		Self {
			report,
			cases,
			reasons,
		}
	}

	fn rows(&self) -> impl Iterator<Item = Row> {
		self.cases
			.iter()
			.flat_map(|(case, guests)| guests.iter().map(move |guest| (*case, *guest)))
	}

	fn entries(&self, (case, guest): Row) -> impl Iterator<Item = &'a Entry> {
		let report = self.report;
		Column::ALL
			.into_iter()
			.filter_map(move |path| report.get(case, guest, path))
	}

	/// The rows whose phases and costly operations are shown: those that the page begins
	/// with. A report without any of them has its first rows shown. All rows would make a
	/// page of several megabytes, and are in report.json.
	fn detailed(&self, has: impl Fn(&Entry) -> bool) -> Vec<Row> {
		let all = self.rows_with(has);
		let chosen: Vec<Row> = all
			.iter()
			.copied()
			.filter(|(case, mode)| *mode == headline::MODE && headline::CASES.contains(case))
			.collect();
		if chosen.is_empty() {
			all.into_iter().take(headline::CASES.len()).collect()
		} else {
			chosen
		}
	}

	fn rows_with(&self, has: impl Fn(&Entry) -> bool) -> Vec<Row> {
		self.rows()
			.filter(|&row| self.entries(row).any(&has))
			.collect()
	}

	/// "n/a" or "failed", and the number of the reason.
	fn absence(&self, (case, guest): Row, path: Column) -> Option<(&'static str, usize)> {
		let missing = self.report.missing(case, guest, path)?;
		let index = self.reasons.iter().position(|&why| why == missing.why)?;
		let what = if missing.failed { "failed" } else { "n/a" };
		Some((what, index + 1))
	}

	/// A table's cell for what has no figure, and what wasn't done if there is no reason.
	fn absent(&self, row: Row, path: Column, not: &str) -> Markup {
		html! {
			@match self.absence(row, path) {
				Some((what, number)) => {
					span.absent { (what) " " (reason_link(number)) }
				}
				None => (dash(not)),
			}
		}
	}
}

/// Nothing, and in words for those who don't see that.
fn dash(words: &str) -> Markup {
	html! { span.absent { span aria-hidden="true" { "\u{2013}" } span.unseen { (words) } } }
}

fn reason_link(number: usize) -> Markup {
	html! { a href={ "#reason-" (number) } aria-label={ "reason " (number) } { "[" (number) "]" } }
}

/// A table that may be wider than a phone: it scrolls, the page doesn't.
fn scrolling(id: &str, caption: &Markup, content: &Markup) -> Markup {
	let caption_id = format!("{id}-caption");
	html! {
		div.scroll role="region" tabindex="0" aria-labelledby=(caption_id) {
			table id=(id) {
				caption id=(caption_id) { span { (caption) } }
				(content)
			}
		}
	}
}

fn swatch(path: Column) -> Markup {
	html! {
		svg.swatch width="10" height="10" aria-hidden="true" focusable="false" {
			rect.(class(path)) width="10" height="10" {}
		}
	}
}

/// Column headers for the paths.
fn path_headers(paths: &[Column]) -> Markup {
	html! {
		@for path in paths {
			th scope="col" { (swatch(*path)) (label(*path)) }
		}
	}
}

/// The whole page.
pub fn render(report: &Report, disk: &Disk) -> String {
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

/// The nine rows, which also say which colour is whose.
fn nine_rows(page: &Page, disk: &Disk) -> Markup {
	if page.report.results.is_empty() {
		return html! { p.lede { "This report has no figures." } };
	}
	let rows = headline::rows(page.report, disk);
	let last = rows.len() - 1;
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
						@if index == last { (row.name) } @else { code { (row.name) } }
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

fn environment(env: &Environment) -> Markup {
	let rows = [
		("Kernel", env.kernel_release.clone()),
		("Configuration", short_hash(&env.config_hash)),
		("Rust object", short_hash(&env.object_hash)),
		("Machine", env.qemu.clone()),
		("icount", env.icount.clone()),
		("Rust compiler", env.rustc.clone()),
	];
	html! {
		dl.environment {
			@for (name, value) in rows {
				div { dt { (name) } dd { @if value.is_empty() { "unknown" } @else { (value) } } }
			}
		}
		@if !env.kernels.is_empty() {
			(scrolling("kernels", &html! { "Kernels that were booted" }, &html! {
				thead {
					tr {
						@for header in ["Series", "Release", "Debian package", "Configuration", "C compiler"] {
							th scope="col" { (header) }
						}
					}
				}
				tbody {
					@for kernel in &env.kernels {
						tr {
							th scope="row" { (kernel.series) }
							td { (kernel.release) }
							td { (kernel.package_version) }
							td { (short_hash(&kernel.config_hash)) }
							td { (kernel.compiler) }
						}
					}
				}
			}))
		}
	}
}

/// A card for each case, with what `shown` says of each cell.
fn cards(
	page: &Page,
	prefix: &str,
	unit: &str,
	modelled: bool,
	scale: LogScale,
	shown: impl Fn(Row, Column) -> Option<Shown>,
) -> Markup {
	html! {
		div.cards {
			@for (case, guests) in &page.cases {
				@let mut cited = BTreeSet::new();
				@let groups: Vec<Group> = guests
					.iter()
					.filter_map(|&guest| group(page, (*case, guest), &shown, &mut cited))
					.collect();
				@if groups.iter().any(|group| group.bars.iter().any(|(_, shown)| matches!(shown, Shown::Figure { .. }))) || !modelled {
					@let id = format!("{prefix}-{}", case.name);
					@let title = format!("{}: {unit} per round trip", case.name);
					figure.card {
						figcaption { code { (case.name) } span.muted { " " (unit) } }
						(figure::bars(
							&Naming { id: &id, title: &title, description: &in_words(&groups) },
							scale,
							&groups,
							modelled,
						))
						@if !cited.is_empty() {
							ul.cited {
								@for number in cited {
									li { (reason_link(number)) " " (page.reasons[number - 1]) }
								}
							}
						}
					}
				}
			}
		}
	}
}

fn group(
	page: &Page,
	row: Row,
	shown: impl Fn(Row, Column) -> Option<Shown>,
	cited: &mut BTreeSet<usize>,
) -> Option<Group> {
	let absent: Vec<_> = Column::ALL.map(|path| page.absence(row, path)).to_vec();
	let heading = format!("{} guest", row.1.name());
	// The same for all paths is said once.
	if let (Some(same), true) = (absent[0], absent.iter().all(|&one| one == absent[0])) {
		cited.insert(same.1);
		return Some(Group {
			heading: format!("{heading}: {} [{}]", same.0, same.1),
			bars: Vec::new(),
		});
	}
	let bars: Vec<_> = Column::ALL
		.into_iter()
		.zip(absent)
		.filter_map(|(path, absent)| {
			let shown = shown(row, path).or_else(|| {
				let (what, number) = absent?;
				cited.insert(number);
				Some(Shown::Note(format!("{what} [{number}]")))
			})?;
			Some((path, shown))
		})
		.collect();
	(!bars.is_empty()).then_some(Group { heading, bars })
}

/// What a card shows, for those who don't see it.
fn in_words(groups: &[Group]) -> String {
	let sentence = |group: &Group| {
		let bars = group.bars.iter().map(|(path, shown)| match shown {
			Shown::Figure { text, ratio, .. } => match ratio.as_deref() {
				Some(ratio) if !ratio.is_empty() => format!("{} {text} ({ratio})", label(*path)),
				_ => format!("{} {text}", label(*path)),
			},
			Shown::Note(why) => format!("{} {why}", label(*path)),
		});
		let bars = bars.collect::<Vec<_>>().join(", ");
		if bars.is_empty() {
			format!("{}.", group.heading)
		} else {
			format!("{}: {bars}.", group.heading)
		}
	};
	groups.iter().map(sentence).collect::<Vec<_>>().join(" ")
}

fn summary(page: &Page) -> Markup {
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

fn figures(page: &Page) -> Markup {
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

/// Dozens of pages of paper are the reader's to ask for.
fn on_paper() -> Markup {
	html! { p.muted.paper { "Printed as far as it was unfolded." } }
}

/// For what this report does not have.
fn lacking(what: &str) -> Markup {
	html! { p.muted { "This report has no " (what) ": they were not recorded in this run." } }
}

fn modelled(page: &Page) -> Markup {
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

/// The heading of what can be unfolded for a row: its totals, one for each path.
fn row_summary(page: &Page, row: Row) -> Markup {
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

fn phases(page: &Page) -> Markup {
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
	let steps: Vec<Step> = entry
		.phases
		.iter()
		.map(|phase| Step {
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

fn kind(kind: Kind) -> &'static str {
	match kind {
		Kind::Guest => "guest",
		Kind::Asm => "asm",
		Kind::Trampoline => "trampoline",
		Kind::Rust => "Rust",
		Kind::C => "C",
		Kind::User => "userspace",
	}
}

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

fn costly(page: &Page) -> Markup {
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

fn reasons(page: &Page) -> Markup {
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

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::tests::sample;
	use cases::case;

	fn disk() -> Disk {
		Disk::read(include_str!("../../reference-disk.json")).unwrap()
	}

	#[test]
	fn the_page_is_below_a_megabyte() {
		let size = render(&crate::sample::report(), &disk()).len();
		assert!(size < 1_000_000, "{size} bytes");
	}

	#[test]
	fn the_page_begins_with_the_nine_rows() {
		let page = render(&crate::sample::report(), &disk());
		let rows = page.find("id=\"nine-rows\"").unwrap();
		assert!(rows < page.find("<nav").unwrap());
		let table = &page[rows..][..page[rows..].find("</table>").unwrap()];
		assert_eq!(table.matches("<th scope=\"row\"").count(), 9);
	}

	#[test]
	fn numbers() {
		assert_eq!(number(9.96), "10.0");
		assert_eq!(number(2068.4), "2,068");
		assert_eq!(number(1_234_567.0), "1,234,567");
		assert_eq!(grouped("123.45"), "123.45");
		assert_eq!(
			[0.0, 2.04, 33.62, 134.5, 2260.0].map(amount),
			["0", "2.04", "33.6", "134.5", "2,260"]
		);
		assert_eq!([3.61, 223.5].map(cycles), ["3.61", "224"]);
		assert_eq!([0.0, 0.004, 0.26].map(percent), ["0%", "<1%", "26%"]);
		assert_eq!(difference(3.0, 1.5), "\u{2212}1.5");
		assert_eq!(difference(1.0, 3.0), "+2");
		assert_eq!(difference(1.0, 1.001), "0");
	}

	#[test]
	fn ratios_say_of_what() {
		assert_eq!(by("C", 2068.0, 127.0), "C \u{f7} 16.3");
		assert_eq!(by("C", 2055.0, 2325.0), "C \u{d7} 1.13");
		assert_eq!(by("C", 2055.0, 2055.4), "= C");
		assert_eq!(by("C", 2055.0, 0.0), "");
	}

	#[test]
	fn errors_end_the_precision() {
		let text = |median, error| with_error(Modelled { median, error }).replace('\u{a0}', " ");
		assert_eq!(text(6605.0, 1321.0), "6,600 \u{b1} 1,300");
		assert_eq!(text(414.4, 83.2), "414 \u{b1} 83");
		assert_eq!(text(509.0, 0.0), "509 \u{b1} 0");
	}

	#[test]
	fn every_figure_is_in_the_page() {
		let report = crate::sample::report();
		let page = render(&report, &disk());
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
		let page = render(&report, &disk());
		assert!(!page.contains("<script") && !page.contains("alert(1)</script>"));
		assert_eq!(page.matches("&lt;script&gt;alert(1)").count(), 4);
	}

	#[test]
	fn less_is_shown_as_far_as_it_goes() {
		let page = render(&sample(), &disk());
		assert!(page.contains("no modelled cycles") && page.contains("no phases"));
		assert!(page.contains("<td>2,230</td>"));
		assert!(render(&Report::new(Environment::default()), &disk()).contains("has no figures"));
	}

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
