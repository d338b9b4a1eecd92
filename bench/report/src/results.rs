// SPDX-License-Identifier: GPL-2.0-only
//! The generated parts of README.md and docs/results.md.
//!
//! A part lies between two markers. [`replace`] puts the text of this tree's reference
//! there, and nothing else in the file changes. The same input gives the same text.

use crate::client::Client;
use crate::disk::Disk;
use crate::headline::{self, OfSeries};
use crate::report::Report;
use crate::{costly, longest, table};

/// Line before the nine rows in README.md.
pub const ROWS: [&str; 2] = ["<!-- results:begin -->", "<!-- results:end -->"];
/// Line before the nine rows of all series in docs/results.md.
pub const BESIDE: [&str; 2] = ["<!-- series -->", "<!-- /series -->"];
/// Line before the tables of the default series in docs/results.md. Those of another series have
/// its name in the line.
pub const TABLES: [&str; 2] = ["<!-- table -->", "<!-- /table -->"];
/// Line before the disk's table in docs/results.md.
pub const DISK: [&str; 2] = ["<!-- disk -->", "<!-- /disk -->"];

/// Line before the tables of a real guest in docs/results.md.
pub const CLIENT: [&str; 2] = ["<!-- client -->", "<!-- /client -->"];

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
pub fn rows(series: OfSeries) -> String {
	format!(
		"{}\n{}\n",
		block(&headline::table(series.report, series.disk)),
		headline::disk_note(series.disk)
	)
}

/// The environment and all tables, for docs/results.md.
pub fn tables(report: &Report) -> String {
	let mut text = block(&table::render_with_modelled(report));
	if let Some(costly) = costly::render(report) {
		text.push('\n');
		text.push_str(&block(&costly));
	}
	if let Some(longest) = longest::render(report) {
		text.push('\n');
		text.push_str(&block(&longest));
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

/// The tables of a real guest.
pub fn client(client: &Client) -> String {
	format!(
		"Linux {}, {}. Instructions and exits each time that the guest does it.\n\n{}\n\
		 On the Rust path with fast handlers and light exits, each time, by what the guest leaves for:\n\n{}",
		client.kernel,
		client.date,
		block(&client.costs()),
		block(&client.reasons())
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

/// README.md with the rows of this tree's default series.
pub fn readme(file: &str, series: &[OfSeries]) -> Result<String, String> {
	let main = series.first().ok_or("no series")?;
	replace(file, ROWS, &rows(*main))
}

/// docs/results.md with this tree's tables: the nine rows of all series, all figures of the
/// default, which comes first, then those of the others.
pub fn page(file: &str, series: &[OfSeries]) -> Result<String, String> {
	let (main, others) = series.split_first().ok_or("no series")?;
	let mut file = replace(file, BESIDE, &block(&headline::beside(series)))?;
	file = replace(&file, TABLES, &tables(main.report))?;
	file = replace(&file, DISK, &main.disk.map_or_else(String::new, disk))?;
	file = replace(&file, CLIENT, &main.client.map_or_else(String::new, client))?;
	for one in others {
		let marker = |kind: &str| format!("<!-- {kind} {} -->", one.name);
		let mut text = tables(one.report);
		if let Some(of_disk) = one.disk {
			text.push('\n');
			text.push_str(&disk(of_disk));
		}
		if let Some(of_client) = one.client {
			text.push('\n');
			text.push_str(&client(of_client));
		}
		file = replace(&file, [&marker("table"), &marker("/table")], &text)?;
	}
	Ok(file)
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
		let file = "<!-- series --><!-- /series --><!-- table --><!-- /table --><!-- disk -->\
		            <!-- /disk --><!-- client --><!-- /client --><!-- table 7.3 --><!-- /table 7.3 -->";
		let disk = of_disk();
		let client = crate::client::sample("radix", "read", [1000, 900, 500], [190, 10]);
		let of = |name| OfSeries {
			name,
			report: &reference,
			disk: Some(&disk),
			client: Some(&client),
		};
		let both = [of("6.12"), of("7.3")];
		let once = page(file, &both).unwrap();
		assert_eq!(page(&once, &both).unwrap(), once);
		assert_eq!(once.matches("7.3 Rust fast").count(), 1);
		assert_eq!(once.matches("round trips  ").count(), 2);
		assert_eq!(
			page(file, &[of("6.12"), of("8.0")]).unwrap_err(),
			"no line is '<!-- table 8.0 -->'"
		);
		for case in cases::CASES {
			assert!(once.contains(case.name), "{}", case.name);
		}
		assert_eq!(rows(of("6.12")).lines().count(), 13);
	}
}
