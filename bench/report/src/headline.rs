// SPDX-License-Identifier: GPL-2.0-only
//! The nine rows that say most: what README, the terminal and the page begin with.

use cases::{Case, case};
use protocol::{Column, GuestMode};

use crate::client::Client;
use crate::disk::Disk;
use crate::report::Report;
use crate::table::{Table, grouped};

/// The cases, in a radix guest. The ninth row is the disk's.
pub const CASES: [&Case; 8] = [
	case!("null"),
	case!("h_get_tce"),
	case!("h_put_tce"),
	case!("h_put_tce_indirect_512"),
	case!("h_prod_awake"),
	case!("h_cede"),
	case!("mmio_ioeventfd_any"),
	case!("decrementer"),
];

/// The guest mode of all rows.
pub const MODE: GuestMode = GuestMode::Radix;

/// A row: its name, and a figure for each column that has one.
pub struct Row {
	/// A case's name, or the disk's.
	pub name: String,
	/// In the order of [`Column::ALL`].
	pub figures: [Option<f64>; Column::ALL.len()],
}

/// The rows. Cases that the report lacks are left out, and the disk where it was not measured.
pub fn rows(report: &Report, disk: Option<&Disk>) -> Vec<Row> {
	let cases = CASES.iter().map(|&case| Row {
		name: case.name.to_owned(),
		figures: Column::ALL.map(|column| report.median(case, MODE, column)),
	});
	let mut rows: Vec<Row> = cases
		.filter(|row| row.figures.iter().any(Option::is_some))
		.collect();
	rows.extend(disk.map(|disk| Row {
		name: format!("{} disk read (TCE hcalls)", disk.read),
		figures: Column::ALL.map(|column| disk.tce_hcalls(column)),
	}));
	rows
}

/// The rows as a table of text.
pub fn table(report: &Report, disk: Option<&Disk>) -> String {
	let mut table = Table::new(1, &["", "5.10 asm", "C", "Rust full", "Rust fast"]);
	for row in rows(report, disk) {
		table.row([row.name].into_iter().chain(row.figures.map(cell)));
	}
	table.render()
}

fn cell(figure: Option<f64>) -> String {
	figure.map_or_else(
		|| "n/a".to_owned(),
		|figure| grouped(&format!("{figure:.0}")),
	)
}

/// The figures of one kernel series, for a table with several.
#[derive(Clone, Copy)]
pub struct OfSeries<'a> {
	/// The name of the series.
	pub name: &'a str,
	/// Its figures.
	pub report: &'a Report,
	/// Those of the disk test, if the test was run on the series.
	pub disk: Option<&'a Disk>,
	/// Those of a real guest, if the test was run on the series and the figures are wanted.
	pub client: Option<&'a Client>,
}

/// The rows of several series, side by side. The column of 5.10 is the first report's.
pub fn beside(series: &[OfSeries]) -> String {
	let paths = [
		(Column::C, "C"),
		(Column::RustFull, "Rust full"),
		(Column::RustFast, "Rust fast"),
	];
	let mut header = vec![String::new(), "5.10 asm".to_owned()];
	for one in series {
		header.extend(paths.map(|(_, path)| format!("{} {path}", one.name)));
	}
	let header: Vec<_> = header.iter().map(String::as_str).collect();
	let mut table = Table::new(1, &header);
	let rows: Vec<_> = series
		.iter()
		.map(|one| rows(one.report, one.disk))
		.collect();
	let mut names: Vec<&str> = Vec::new();
	for row in rows.iter().flatten() {
		if !names.contains(&row.name.as_str()) {
			names.push(&row.name);
		}
	}
	for name in names {
		let found = rows
			.iter()
			.map(|rows| rows.iter().find(|row| row.name == name));
		let found: Vec<Option<&Row>> = found.collect();
		let figure = |row: Option<&Row>, column: Column| {
			let index = Column::ALL.iter().position(|known| *known == column);
			cell(row.and_then(|row| row.figures[index?]))
		};
		let mut cells = vec![
			name.to_owned(),
			figure(found.first().copied().flatten(), Column::Asm510),
		];
		for row in found {
			cells.extend(paths.map(|(column, _)| figure(row, column)));
		}
		table.row(cells);
	}
	table.render()
}

/// Where the figures of the last row come from.
pub fn disk_note(disk: Option<&Disk>) -> String {
	match disk {
		Some(disk) => format!(
			"The disk read is from the reference: NVMe passed through, Linux {}, {}.",
			disk.kernel, disk.date
		),
		None => "There is no reference of the disk read on this kernel.".to_owned(),
	}
}

/// What the terminal begins with.
pub fn render(series: &[OfSeries]) -> String {
	let (rows, notes) = match series {
		[one] => (table(one.report, one.disk), disk_note(one.disk)),
		_ => {
			let notes = series.iter().map(|one| disk_note(one.disk));
			(beside(series), notes.collect::<Vec<_>>().join("\n"))
		}
	};
	format!(
		"Instructions per round trip of a radix guest. They are instructions, not cycles.\n\n\
		 {rows}\n{notes}\n"
	)
}

#[cfg(test)]
mod tests {
	use super::*;

	fn disk() -> Disk {
		Disk::read(include_str!("../../reference-disk.json")).unwrap()
	}

	#[test]
	fn there_are_nine_rows() {
		assert_eq!(rows(&crate::sample::report(), Some(&disk())).len(), 9);
		assert_eq!(rows(&crate::sample::report(), None).len(), 8);
	}

	#[test]
	fn what_was_not_measured_is_left_out() {
		let (report, disk) = (crate::report::tests::sample(), disk());
		let text = render(&[OfSeries {
			name: "6.12",
			report: &report,
			disk: Some(&disk),
			client: None,
		}]);
		assert!(text.starts_with("Instructions per round trip"));
		assert!(text.contains("null ") && text.contains("disk read"));
		assert!(!text.contains("h_get_tce"));
		assert!(text.contains("instructions, not cycles"));
	}

	#[test]
	fn series_stand_side_by_side() {
		let (first, mut second) = (
			crate::report::tests::sample(),
			crate::report::tests::sample(),
		);
		for entry in &mut second.results {
			entry.instructions.median += 1000.0;
		}
		let disk = disk();
		let client = None;
		let one = |name, report, disk| OfSeries {
			name,
			report,
			disk,
			client,
		};
		let both = [one("6.12", &first, Some(&disk)), one("7.3", &second, None)];
		let text = beside(&both);
		let rows: Vec<Vec<&str>> = text
			.lines()
			.map(|line| {
				line.split("  ")
					.map(str::trim)
					.filter(|cell| !cell.is_empty())
					.collect()
			})
			.collect();
		assert_eq!(rows[0].len(), 7);
		assert_eq!(rows[0][4], "7.3 C");
		// The column of 5.10 is there once, and is not the second report's.
		assert_eq!(
			rows[2],
			[
				"null", "181", "2,230", "2,234", "110", "3,230", "3,234", "1,110"
			]
		);
		let disk_row = rows.last().unwrap();
		assert_eq!(disk_row[5..], ["n/a", "n/a", "n/a"]);
		assert!(render(&both).contains("There is no reference of the disk read"));
	}
}
