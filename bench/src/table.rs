// SPDX-License-Identifier: GPL-2.0-only
//! The table that the user sees.

use proto::{Case, Guest, Path};

use crate::report::Report;

/// A table of text: the first `left` columns are flush left, the others right.
pub struct Table {
	left: usize,
	rows: Vec<Vec<String>>,
}

impl Table {
	/// With a header.
	pub fn new(left: usize, header: &[&str]) -> Self {
		Self {
			left,
			rows: vec![header.iter().map(|&text| text.to_owned()).collect()],
		}
	}

	/// Adds a row.
	pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
		self.rows.push(cells.into_iter().collect());
	}

	/// As text, a rule below the header, no trailing space.
	pub fn render(&self) -> String {
		let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
		let width = |column: usize| {
			let cells = self.rows.iter().filter_map(|row| row.get(column));
			cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
		};
		let widths: Vec<usize> = (0..columns).map(width).collect();
		let mut text = String::new();
		for (index, row) in self.rows.iter().enumerate() {
			let cells = row
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
	text.push_str("Instructions per round trip (not cycles), median, empty loop subtracted\n\n");

	let mut table = Table::new(
		2,
		&[
			"case",
			"guest",
			"5.10 asm",
			"C",
			"Rust full",
			"Rust fast",
			"C/fast",
			"5.10/fast",
			"empty loop",
		],
	);
	for case in Case::ALL {
		for guest in Guest::ALL {
			let median = |path| report.median(case, guest, path);
			let entries = Path::ALL.map(|path| report.get(case, guest, path));
			if entries.iter().all(Option::is_none) {
				continue;
			}
			let empty = entries
				.into_iter()
				.flatten()
				.map(|entry| entry.empty_loop.median);
			let mut row = vec![case.name().to_owned(), guest.name().to_owned()];
			row.extend(Path::ALL.map(|path| figure(median(path))));
			row.push(ratio(median(Path::C), median(Path::RustFast)));
			row.push(ratio(median(Path::Asm510), median(Path::RustFast)));
			row.push(figure(empty.reduce(f64::max)));
			table.row(row);
		}
	}
	text.push_str(&table.render());
	if !report.missing.is_empty() {
		text.push('\n');
		for missing in &report.missing {
			text.push_str(&format!("- {}: {}\n", missing.cell, missing.why));
		}
	}
	text
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
		null    radix       181  2230       2234        110   20.3x       1.6x        10.0
		h_prod  real          -  2232          -          -       -          -        10.0

		- h_prod real asm-5.10: no source of Linux 5.10
		");
	}
}
