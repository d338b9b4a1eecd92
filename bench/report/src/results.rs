// SPDX-License-Identifier: GPL-2.0-only
//! The generated parts of README.md and docs/results.md.
//!
//! A part lies between two markers. [`replace`] puts the text of this tree's reference
//! there, and nothing else in the file changes. The same input gives the same text.

use crate::disk::Disk;
use crate::report::Report;
use crate::{costly, headline, table};

/// Line before the nine rows in README.md.
pub const ROWS: [&str; 2] = ["<!-- results:begin -->", "<!-- results:end -->"];
/// Line before the benchmark's tables in docs/results.md.
pub const TABLES: [&str; 2] = ["<!-- table -->", "<!-- /table -->"];
/// Line before the disk's table in docs/results.md.
pub const DISK: [&str; 2] = ["<!-- disk -->", "<!-- /disk -->"];

/// As a block of code in Markdown.
fn block(text: &str) -> String {
	let lines = text.trim_end().lines().map(|line| {
		if line.is_empty() {
			"\n".to_owned()
		} else {
			format!("\t{line}\n")
		}
	});
	lines.collect()
}

/// The nine rows, for README.md.
pub fn rows(report: &Report, disk: &Disk) -> String {
	format!(
		"{}\n{}\n",
		block(&headline::table(report, disk)),
		headline::disk_note(disk)
	)
}

/// The environment and both tables, for docs/results.md.
pub fn tables(report: &Report) -> String {
	let mut text = block(&table::render_with_modelled(report));
	if let Some(costly) = costly::render(report) {
		text.push('\n');
		text.push_str(&block(&costly));
	}
	text
}

/// The disk's table, for docs/results.md.
pub fn disk(disk: &Disk) -> String {
	format!(
		"Instructions of the hypervisor per read of {}, Linux {}, {}.\n\n{}",
		disk.read,
		disk.kernel,
		disk.date,
		block(&disk.render())
	)
}

/// The file's text with `part` between the markers, which are lines of their own.
pub fn replace(file: &str, [begin, end]: [&str; 2], part: &str) -> Result<String, String> {
	let once = |marker: &str| {
		let mut found = file.match_indices(marker).map(|(at, _)| at);
		match (found.next(), found.next()) {
			(Some(at), None) => Ok(at),
			(None, _) => Err(format!("no line is '{marker}'")),
			(_, Some(_)) => Err(format!("more than one line is '{marker}'")),
		}
	};
	let (from, to) = (once(begin)? + begin.len(), once(end)?);
	if from > to {
		return Err(format!("'{end}' comes before '{begin}'"));
	}
	Ok(format!(
		"{}\n\n{}\n\n{}",
		&file[..from],
		part.trim_end(),
		&file[to..]
	))
}

/// README.md with this tree's rows.
pub fn readme(file: &str, report: &Report, of_disk: &Disk) -> Result<String, String> {
	replace(file, ROWS, &rows(report, of_disk))
}

/// docs/results.md with this tree's tables.
pub fn page(file: &str, report: &Report, of_disk: &Disk) -> Result<String, String> {
	let file = replace(file, TABLES, &tables(report))?;
	replace(&file, DISK, &disk(of_disk))
}

#[cfg(test)]
mod tests {
	use super::*;

	fn of_disk() -> Disk {
		Disk::read(include_str!("../../reference-disk.json")).unwrap()
	}

	#[test]
	fn only_what_is_between_the_markers_changes() {
		let file = "a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb\n";
		let new = replace(file, ROWS, "\tnew\n").unwrap();
		assert_eq!(
			new,
			"a\n<!-- results:begin -->\n\n\tnew\n\n<!-- results:end -->\nb\n"
		);
		assert_eq!(replace(&new, ROWS, "\tnew\n").unwrap(), new);
	}

	#[test]
	fn markers_that_are_missing_or_twice_are_told() {
		for (file, expected) in [
			("", "no line is '<!-- results:begin -->'"),
			(
				"<!-- results:begin -->",
				"no line is '<!-- results:end -->'",
			),
			(
				"<!-- results:end --><!-- results:begin -->",
				"'<!-- results:end -->' comes before '<!-- results:begin -->'",
			),
			(
				"<!-- results:begin --><!-- results:begin -->",
				"more than one line is '<!-- results:begin -->'",
			),
		] {
			assert_eq!(replace(file, ROWS, "x").unwrap_err(), expected);
		}
	}

	#[test]
	fn a_reference_gives_the_same_text_each_time() {
		let reference = Report::read(include_bytes!("../../reference.json")).unwrap();
		let file = "<!-- table --><!-- /table --><!-- disk --><!-- /disk -->";
		let once = page(file, &reference, &of_disk()).unwrap();
		assert_eq!(page(&once, &reference, &of_disk()).unwrap(), once);
		for case in cases::CASES {
			assert!(once.contains(case.name), "{}", case.name);
		}
		assert_eq!(rows(&reference, &of_disk()).lines().count(), 13);
	}
}
