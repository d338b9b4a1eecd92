// SPDX-License-Identifier: GPL-2.0-only
//! The table of costs on the terminal.

use std::fmt::Write;

use super::costs::{Cost, mean};
use super::section::{PATHS, TCE};

/// Says what the costs are.
pub(super) fn table(costs: &[Cost]) -> String {
	let titles = ["C", "Rust full", "Rust fast"];
	let mut rows: Vec<(String, Vec<Option<f64>>, usize)> = Vec::new();
	let mut row = |title: String, digits, of: &dyn Fn(&Cost) -> Option<f64>| {
		let all = PATHS.map(|path| mean(costs, path, |cost| of(cost).unwrap_or(f64::NAN)));
		rows.push((title, all.to_vec(), digits));
	};
	for (_, name) in TCE {
		let find = |cost: &Cost| cost.tce.iter().find(|group| group.name == name).cloned();
		if costs.iter().all(|cost| find(cost).is_none()) {
			continue;
		}
		row(format!("{name}, hcalls per read"), 2, &|cost| {
			Some(find(cost)?.spans as f64 / cost.reads as f64)
		});
		row("  each, left alone".to_owned(), 0, &|cost| {
			Some(find(cost)?.quiet_mean)
		});
		row("  each, median".to_owned(), 0, &|cost| {
			Some(find(cost)?.median as f64)
		});
		row("  each, mean of all".to_owned(), 0, &|cost| {
			Some(find(cost)?.mean)
		});
		row("  of these the firmware's".to_owned(), 0, &|cost| {
			Some(find(cost)?.firmware)
		});
	}
	row("TCE hcalls, per read".to_owned(), 0, &|cost| {
		Some(cost.tce_per_read)
	});
	for name in ["other hcalls", "other exits"] {
		row(format!("{name}, per read"), 0, &|cost| {
			let kind = cost.others.iter().find(|group| group.name == name);
			Some(kind.map_or(0.0, |group| group.instructions as f64 / cost.reads as f64))
		});
	}
	row("all exits, per read".to_owned(), 0, &|cost| {
		Some(cost.all_per_read)
	});

	let width = rows
		.iter()
		.map(|(title, ..)| title.len())
		.max()
		.unwrap_or(0);
	let mut text = format!("{:width$}", "");
	for title in titles {
		let _ = write!(text, "{title:>12}");
	}
	let _ = write!(text, "\n{}\n", "-".repeat(text.len()));
	for (title, values, digits) in rows {
		let _ = write!(text, "{title:width$}");
		for value in values {
			let _ = match value {
				Some(value) if value.is_finite() => write!(text, "{value:12.digits$}"),
				_ => write!(text, "{:>12}", "-"),
			};
		}
		text.push('\n');
	}
	if let [Some(c), Some(full), Some(fast)] =
		PATHS.map(|path| mean(costs, path, |cost| cost.tce_per_read))
	{
		let _ = writeln!(
			text,
			"\nOf C's share for TCE hcalls Rust full needs {:.1}% and Rust fast {:.1}%.",
			full / c * 100.0,
			fast / c * 100.0
		);
	}
	text
}

#[cfg(test)]
mod tests {
	use super::super::sample::costs;
	use super::*;

	#[test]
	fn the_table_has_all_that_was_measured() {
		let text = table(&costs([2000, 1900, 800]));
		let row = |title: &str| {
			let line = text.lines().find(|line| line.starts_with(title)).unwrap();
			let cells: Vec<_> = line[title.len()..].split_whitespace().collect();
			cells.join(" ")
		};
		assert_eq!(row("H_STUFF_TCE, hcalls per read"), "1.00 1.00 1.00");
		assert_eq!(row("  each, left alone"), "2100 2000 900");
		assert_eq!(row("  each, mean of all"), "2150 2050 950");
		assert_eq!(row("TCE hcalls, per read"), "4100 3900 1700");
		assert_eq!(row("other exits, per read"), "30 30 30");
		assert_eq!(row("all exits, per read"), "4550 4350 2150");
		assert!(
			text.contains("Rust full needs 95.1% and Rust fast 41.5%."),
			"{text}"
		);
		assert!(!text.contains("H_GET_TCE"));
		// Without one of the paths there is no column of nonsense.
		let c = &costs([2000, 1900, 800])[..1];
		assert!(
			table(c)
				.lines()
				.any(|line| line.ends_with("4100           -           -"))
		);
	}
}
