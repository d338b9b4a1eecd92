// SPDX-License-Identifier: GPL-2.0-only
//! The nine rows that say most: what README, the terminal and the page begin with.

use cases::{Case, case};
use protocol::{Column, GuestMode};

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

/// The rows. Cases that the report lacks are left out.
pub fn rows(report: &Report, disk: &Disk) -> Vec<Row> {
	let cases = CASES.iter().map(|&case| Row {
		name: case.name.to_owned(),
		figures: Column::ALL.map(|column| report.median(case, MODE, column)),
	});
	let mut rows: Vec<Row> = cases
		.filter(|row| row.figures.iter().any(Option::is_some))
		.collect();
	rows.push(Row {
		name: format!("{} disk read (TCE hcalls)", disk.read),
		figures: Column::ALL.map(|column| disk.tce_hcalls(column)),
	});
	rows
}

/// The rows as a table of text.
pub fn table(report: &Report, disk: &Disk) -> String {
	let mut table = Table::new(1, &["", "5.10 asm", "C", "Rust full", "Rust fast"]);
	for row in rows(report, disk) {
		let cells = row.figures.map(|figure| match figure {
			Some(figure) => grouped(&format!("{figure:.0}")),
			None => "n/a".to_owned(),
		});
		table.row([row.name].into_iter().chain(cells));
	}
	table.render()
}

/// Where the figures of the last row come from.
pub fn disk_note(disk: &Disk) -> String {
	format!(
		"The disk read is from the reference: NVMe passed through, Linux {}, {}.",
		disk.kernel, disk.date
	)
}

/// What the terminal begins with.
pub fn render(report: &Report, disk: &Disk) -> String {
	format!(
		"Instructions per round trip of a radix guest. They are instructions, not cycles.\n\n\
		 {}\n{}\n",
		table(report, disk),
		disk_note(disk)
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
		assert_eq!(rows(&crate::sample::report(), &disk()).len(), 9);
	}

	#[test]
	fn what_was_not_measured_is_left_out() {
		let text = render(&crate::report::tests::sample(), &disk());
		assert!(text.starts_with("Instructions per round trip"));
		assert!(text.contains("null ") && text.contains("disk read"));
		assert!(!text.contains("h_get_tce"));
		assert!(text.contains("instructions, not cycles"));
	}
}
