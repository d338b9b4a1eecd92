// SPDX-License-Identifier: GPL-2.0-only
//! The table that the user sees.

use cases::{CASES, Case};
use protocol::{Column, GuestMode};

use crate::console::Cell;
use crate::report::{Entry, Report};

/// A table of text: the first `left` columns are flush left, the others right.
pub struct Table {
	left: usize,
	rows: Vec<Row>,
}

enum Row {
	Cells(Vec<String>),
	/// A headline for the rows below it, as long as it likes.
	Title(String),
}

impl Table {
	/// With a header.
	pub fn new(left: usize, header: &[&str]) -> Self {
		Self {
			left,
			rows: vec![Row::Cells(
				header.iter().map(|&text| text.to_owned()).collect(),
			)],
		}
	}

	/// Adds a row.
	pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
		self.rows.push(Row::Cells(cells.into_iter().collect()));
	}

	/// Adds a headline.
	pub fn title(&mut self, text: &str) {
		self.rows.push(Row::Title(text.to_owned()));
	}

	/// As text, a rule below the header, no trailing space.
	pub fn render(&self) -> String {
		let rows = || {
			self.rows.iter().filter_map(|row| match row {
				Row::Cells(cells) => Some(cells),
				Row::Title(_) => None,
			})
		};
		let columns = rows().map(Vec::len).max().unwrap_or(0);
		let width = |column: usize| {
			let cells = rows().filter_map(|row| row.get(column));
			cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
		};
		let widths: Vec<usize> = (0..columns).map(width).collect();
		let mut text = String::new();
		for (index, row) in self.rows.iter().enumerate() {
			let cells = match row {
				Row::Cells(cells) => cells,
				Row::Title(title) => {
					text.push_str(&format!("\n{title}\n"));
					continue;
				}
			};
			let cells = cells
				.iter()
				.zip(&widths)
				.enumerate()
				.map(|(column, (cell, &width))| {
					if column < self.left {
						format!("{cell:<width$}")
					} else {
						format!("{cell:>width$}")
					}
				});
			let line = cells.collect::<Vec<_>>().join("  ");
			text.push_str(line.trim_end());
			text.push('\n');
			if index == 0 {
				text.push_str(&"-".repeat(widths.iter().sum::<usize>() + 2 * columns.max(1) - 2));
				text.push('\n');
			}
		}
		text
	}
}

/// Text from a file, without what a terminal would obey.
pub fn plain(text: &str) -> String {
	text.chars()
		.map(|c| if c.is_control() { '\u{fffd}' } else { c })
		.collect()
}

/// A number in digits, its thousands apart.
pub fn grouped(digits: &str) -> String {
	let (whole, rest) = digits.split_at(digits.find('.').unwrap_or(digits.len()));
	let mut grouped = String::new();
	for (index, digit) in whole.chars().enumerate() {
		if index > 0 && (whole.len() - index).is_multiple_of(3) {
			grouped.push(',');
		}
		grouped.push(digit);
	}
	grouped + rest
}

/// A figure as it is printed.
pub fn figure(value: Option<f64>) -> String {
	match value {
		None => "-".to_owned(),
		// Below a hundred, tenths of an instruction tell interrupts from none.
		Some(value) if value < 100.0 => format!("{value:.1}"),
		Some(value) => format!("{value:.0}"),
	}
}

fn ratio(slow: Option<f64>, fast: Option<f64>) -> String {
	match (slow, fast) {
		(Some(slow), Some(fast)) => format!("{:.1}x", slow / fast),
		_ => "-".to_owned(),
	}
}

/// The report's header and table.
pub fn render(report: &Report) -> String {
	render_columns(report, false)
}

/// The same with a column of modelled cycles for each path, if the report has some.
pub fn render_with_modelled(report: &Report) -> String {
	let mut entries = report.results.iter();
	render_columns(report, entries.any(|entry| entry.modelled_cycles.is_some()))
}

/// Headings of the columns of modelled cycles, in the order of [`Column::ALL`].
const MODELLED: [&str; Column::ALL.len()] = [
	"modelled 5.10",
	"modelled C",
	"modelled full",
	"modelled fast",
];

/// Modelled cycles as they are printed: never without their error.
pub fn modelled(entry: Option<&Entry>) -> String {
	let cycles = entry.and_then(|entry| entry.modelled_cycles);
	cycles.map_or_else(
		|| "-".to_owned(),
		|cycles| format!("{:.0} +-{:.0}", cycles.median, cycles.error),
	)
}

fn render_columns(report: &Report, with_modelled: bool) -> String {
	let env = &report.environment;
	let mut text = String::new();
	let short = |hash: &str| hash.chars().take(16).collect::<String>();
	for kernel in &env.kernels {
		text.push_str(&format!(
			"kernel {:<5} {} (Debian {}), configuration {}, {}\n",
			kernel.series,
			kernel.release,
			kernel.package_version,
			short(&kernel.config_hash),
			kernel.compiler
		));
	}
	text.push_str(&format!(
		"object       {}, {}\n",
		short(&env.object_hash),
		env.rustc
	));
	text.push_str(&format!(
		"machine      {}, powernv9, -icount {}\n",
		env.qemu, env.icount
	));
	let per_batch = Summarised::of(report.results.iter().map(|entry| entry.iterations));
	let batches = Summarised::of(report.results.iter().map(|entry| entry.batches as u64));
	text.push_str(&format!(
		"round trips  {per_batch} per batch, {batches} batches\n\n"
	));
	text.push_str("Instructions per round trip (not cycles), median, empty loop subtracted");
	if with_modelled {
		text.push_str(
			"; and cycles of a POWER9\nas a model estimates them, with their error: modelled cycles, not measured ones",
		);
	}
	text.push_str("\n\n");

	let mut header = vec![
		"case",
		"guest",
		"5.10 asm",
		"C",
		"Rust full",
		"Rust fast",
		"C/fast",
		"5.10/fast",
		"empty loop",
	];
	if with_modelled {
		header.extend(MODELLED);
	}
	let mut table = Table::new(2, &header);
	let mut kind = None;
	for case in CASES {
		for guest in GuestMode::ALL {
			let cells = Column::ALL.map(|path| Found::of(report, Cell { case, guest, path }));
			if cells.iter().all(|found| matches!(found, Found::Nothing)) {
				continue;
			}
			if kind.replace(case.group) != Some(case.group) {
				table.title(case.group.title());
			}
			let empty = cells.iter().filter_map(|found| match found {
				Found::Figure(entry) => Some(entry.empty_loop.median),
				_ => None,
			});
			let empty = empty.reduce(f64::max);
			let median = |path| report.median(case, guest, path);
			let mut row = vec![case.name.to_owned(), guest.name().to_owned()];
			row.extend(cells.iter().map(Found::text));
			row.push(ratio(median(Column::C), median(Column::RustFast)));
			row.push(ratio(median(Column::Asm510), median(Column::RustFast)));
			row.push(figure(empty));
			if with_modelled {
				row.extend(Column::ALL.map(|path| modelled(report.get(case, guest, path))));
			}
			table.row(row);
		}
	}
	text.push_str(&table.render());
	text.push_str(&render_notes(report));
	text
}

/// Where Rust costs more than C, and why figures are missing.
pub fn render_notes(report: &Report) -> String {
	render_worse(report) + &render_missing(report)
}

/// What a report has for a cell.
enum Found<'a> {
	Figure(&'a Entry),
	Reason,
	Nothing,
}

impl<'a> Found<'a> {
	fn of(report: &'a Report, cell: Cell) -> Self {
		if let Some(entry) = report.get(cell.case, cell.guest, cell.path) {
			Self::Figure(entry)
		} else if report.missing.iter().any(|missing| missing.cell == cell) {
			Self::Reason
		} else {
			Self::Nothing
		}
	}

	fn text(&self) -> String {
		match self {
			Self::Figure(entry) => figure(Some(entry.instructions.median)),
			Self::Reason => "n/a".to_owned(),
			Self::Nothing => figure(None),
		}
	}
}

/// By how much a figure may be above another and still count as the same.
const SAME: f64 = 1.001;

/// Where Rust needs more instructions than C: this must not need looking for.
fn render_worse(report: &Report) -> String {
	let mut compared = 0;
	let mut worse = String::new();
	for entry in &report.results {
		let (Cell { case, guest, path }, cost) = (entry.cell(), entry.instructions.median);
		if !matches!(path, Column::RustFull | Column::RustFast) {
			continue;
		}
		let Some(c) = report.median(case, guest, Column::C) else {
			continue;
		};
		compared += 1;
		if cost > c * SAME {
			let (cost, c) = (figure(Some(cost)), figure(Some(c)));
			worse.push_str(&format!("- {}: {cost}, C {c}\n", entry.cell()));
		}
	}
	match (compared, worse.is_empty()) {
		(0, _) => String::new(),
		(_, true) => format!("\nRust needs more than C in none of {compared} figures.\n"),
		(_, false) => format!("\nRust needs more than C in some of {compared} figures:\n{worse}"),
	}
}

/// Why there is no figure, each reason once: for which guests and paths, and which cases.
fn render_missing(report: &Report) -> String {
	let mut reasons: Vec<(&str, Vec<Cell>)> = Vec::new();
	for missing in &report.missing {
		match reasons.iter_mut().find(|(why, _)| *why == missing.why) {
			Some((_, cells)) => cells.push(missing.cell),
			None => reasons.push((&missing.why, vec![missing.cell])),
		}
	}
	let mut text = String::new();
	for (why, cells) in reasons {
		text.push_str(&format!("\nn/a: {why}\n"));
		let mut groups: Vec<(GuestMode, Vec<&'static Case>, Vec<&str>)> = Vec::new();
		for guest in GuestMode::ALL {
			for path in Column::ALL {
				let of_column = |cell: &&Cell| cell.guest == guest && cell.path == path;
				let cases: Vec<&'static Case> = cells
					.iter()
					.filter(of_column)
					.map(|cell| cell.case)
					.collect();
				let known = |group: &&mut (GuestMode, Vec<&'static Case>, _)| {
					group.0 == guest && group.1 == cases
				};
				match groups.iter_mut().find(known) {
					_ if cases.is_empty() => {}
					Some((_, _, paths)) => paths.push(path.name()),
					None => groups.push((guest, cases, vec![path.name()])),
				}
			}
		}
		for (guest, cases, paths) in groups {
			let (guest_name, paths) = (guest.name(), paths.join(", "));
			let cases = list(guest, &cases);
			text.push_str(&wrapped(&format!("{guest_name}, {paths}: {cases}")));
		}
	}
	text
}

/// The names of a guest's cases; but where most are among them, those of the others.
fn list(guest: GuestMode, cases: &[&'static Case]) -> String {
	let others: Vec<_> = CASES
		.iter()
		.filter(|case| case.modes.contains(&guest) && !cases.contains(case))
		.collect();
	let names = |cases: &[&'static Case]| {
		let names: Vec<_> = cases.iter().map(|case| case.name).collect();
		names.join(", ")
	};
	match others.len() {
		_ if cases.len() <= 4 => names(cases),
		0 => "all cases".to_owned(),
		1..=4 => format!("all cases but {}", names(&others)),
		_ => names(cases),
	}
}

/// As an item of a list, in lines of 90 columns at most.
fn wrapped(item: &str) -> String {
	let mut lines = vec!["-".to_owned()];
	for word in item.split(' ') {
		let last = lines.last().map_or(0, String::len);
		if last + 1 + word.len() > 90 {
			lines.push(" ".to_owned());
		}
		if let Some(line) = lines.last_mut() {
			line.push(' ');
			line.push_str(word);
		}
	}
	lines.join("\n") + "\n"
}

/// One number, or the range of several.
struct Summarised(Option<(u64, u64)>);

impl Summarised {
	fn of(values: impl Iterator<Item = u64>) -> Self {
		Self(values.fold(None, |range, value| match range {
			None => Some((value, value)),
			Some((min, max)) => Some((min.min(value), max.max(value))),
		}))
	}
}

impl std::fmt::Display for Summarised {
	fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
		match self.0 {
			None => f.write_str("no"),
			Some((min, max)) if min == max => write!(f, "{min}"),
			Some((min, max)) => write!(f, "{min} to {max}"),
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::{Missing, Modelled};
	use cases::case;

	#[test]
	fn columns_line_up() {
		let mut table = Table::new(1, &["a", "bb"]);
		table.row(["long".to_owned(), "1".to_owned()]);
		table.row([String::new(), "100".to_owned()]);
		insta::assert_snapshot!(table.render(), @r"
		a      bb
		---------
		long    1
		      100
		");
	}

	#[test]
	fn figures() {
		assert_eq!(figure(None), "-");
		assert_eq!(figure(Some(9.96)), "10.0");
		assert_eq!(figure(Some(2230.4)), "2230");
		assert_eq!(ratio(Some(10.0), None), "-");
		assert_eq!(ratio(Some(10.0), Some(4.0)), "2.5x");
	}

	#[test]
	fn titles_do_not_widen_columns() {
		let mut table = Table::new(1, &["a", "b"]);
		table.title("a long title");
		table.row(["x".to_owned(), "1".to_owned()]);
		insta::assert_snapshot!(table.render(), @r"
		a  b
		----

		a long title
		x  1
		");
	}

	#[test]
	fn long_lists_are_told_by_what_is_not_in_them() {
		assert_eq!(
			list(GuestMode::Hash, &[case!("null"), case!("unknown")]),
			"null, unknown"
		);
		let of_hash: Vec<_> = CASES
			.iter()
			.filter(|case| case.modes.contains(&GuestMode::Hash))
			.collect();
		assert_eq!(list(GuestMode::Hash, &of_hash), "all cases");
		assert_eq!(list(GuestMode::Hash, &of_hash[1..]), "all cases but null");
	}

	#[test]
	fn each_reason_is_told_once() {
		let mut report = crate::report::tests::sample();
		for (guest, path, case) in [
			(GuestMode::Hash, Column::RustFull, case!("null")),
			(GuestMode::Hash, Column::RustFast, case!("null")),
			(GuestMode::HashReal, Column::RustFull, case!("h_prod")),
		] {
			report.missing.push(Missing {
				cell: Cell { case, guest, path },
				why: "by C".to_owned(),
				failed: false,
			});
		}
		insta::assert_snapshot!(render_missing(&report), @r"

		n/a: no source of Linux 5.10
		- real, asm-5.10: h_prod

		n/a: by C
		- hash, rust-full, rust-fast: null
		- hash-real, rust-full: h_prod
		");
	}

	#[test]
	fn items_are_wrapped() {
		let text = wrapped(&["word"; 30].join(" "));
		assert_eq!(text.lines().count(), 2);
		assert!(text.lines().all(|line| line.len() <= 90));
		assert!(text.starts_with("- word") && text.lines().nth(1).unwrap().starts_with("  word"));
	}

	#[test]
	fn modelled_cycles_are_called_so_and_have_their_error() {
		let mut report = crate::report::tests::sample();
		assert_eq!(render_with_modelled(&report), render(&report));
		report.results[1].modelled_cycles = Some(Modelled {
			median: 4894.4,
			error: 700.0,
		});
		assert!(!render(&report).contains("modelled"));
		let text = render_with_modelled(&report);
		let rows: Vec<_> = text
			.lines()
			.skip_while(|line| !line.starts_with("case"))
			.collect();
		insta::assert_snapshot!(rows[..6].join("\n"), @r"
		case    guest  5.10 asm     C  Rust full  Rust fast  C/fast  5.10/fast  empty loop  modelled 5.10  modelled C  modelled full  modelled fast
		-------------------------------------------------------------------------------------------------------------------------------------------

		hypercalls
		null    radix       181  2230       2234        110   20.3x       1.6x        10.0              -  4894 +-700              -              -
		h_prod  real        n/a  2232          -          -       -          -        10.0              -           -              -              -
		");
		assert!(text.contains("modelled cycles, not measured ones"));
	}

	#[test]
	fn a_whole_report() {
		insta::assert_snapshot!(render(&crate::report::tests::sample()), @r"
		kernel 6.12  6.12.117 (Debian 6.12.117-1), configuration c0ffee, gcc 12
		kernel 5.10  5.10.262 (Debian 5.10.262-1), configuration decaf, gcc 12
		object       0123456789abcdef, rustc 1.95.0
		machine      QEMU emulator version 10.0.2, powernv9, -icount shift=0,sleep=off
		round trips  512 per batch, 3 batches

		Instructions per round trip (not cycles), median, empty loop subtracted

		case    guest  5.10 asm     C  Rust full  Rust fast  C/fast  5.10/fast  empty loop
		----------------------------------------------------------------------------------

		hypercalls
		null    radix       181  2230       2234        110   20.3x       1.6x        10.0
		h_prod  real        n/a  2232          -          -       -          -        10.0

		Rust needs more than C in some of 2 figures:
		- null radix rust-full: 2234, C 2230

		n/a: no source of Linux 5.10
		- real, asm-5.10: h_prod
		");
	}
}
