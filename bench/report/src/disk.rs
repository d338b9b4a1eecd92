// SPDX-License-Identifier: GPL-2.0-only
//! What a guest's read from a disk that is passed through costs, as a file.
//!
//! The benchmark does not measure this: a stage of the tests does, which boots a guest with
//! an operating system. The file has the figures of one run.

use protocol::Column;
use serde::{Deserialize, Serialize};

use crate::table::{Table, grouped};

/// The figures, and of which run they are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Disk {
	/// When they were measured.
	pub date: String,
	/// On which kernel.
	pub kernel: String,
	/// Bytes of a read, in words.
	pub read: String,
	/// The rows of the table.
	pub rows: Vec<DiskRow>,
}

/// Hcalls or instructions per read.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DiskRow {
	/// What was counted.
	pub what: String,
	/// On the C path.
	pub c: f64,
	/// On the Rust path without fast handlers.
	#[serde(rename = "rust-full")]
	pub rust_full: f64,
	/// On the Rust path with fast handlers.
	#[serde(rename = "rust-fast")]
	pub rust_fast: f64,
}

/// The row with the instructions of all TCE hcalls of a read.
const TCE_HCALLS: &str = "TCE hcalls, per read";

impl Disk {
	/// From a file's content.
	pub fn read(text: &str) -> Result<Self, String> {
		let disk: Self = serde_json::from_str(text).map_err(|why| why.to_string())?;
		match disk.rows.iter().find(|row| row.what == TCE_HCALLS) {
			Some(_) => Ok(disk),
			None => Err(format!("no row is called '{TCE_HCALLS}'")),
		}
	}

	/// Instructions for TCE hcalls per read.
	pub fn tce_hcalls(&self, column: Column) -> Option<f64> {
		let row = self.rows.iter().find(|row| row.what == TCE_HCALLS)?;
		match column {
			// The stage runs on the kernels of this tree only.
			Column::Asm510 => None,
			Column::C => Some(row.c),
			Column::RustFull => Some(row.rust_full),
			Column::RustFast => Some(row.rust_fast),
		}
	}

	/// The table.
	pub fn render(&self) -> String {
		let mut table = Table::new(1, &["", "C", "Rust full", "Rust fast"]);
		for row in &self.rows {
			let figure = |value: f64| {
				if row.what.contains("hcalls per read") && !row.what.starts_with("TCE") {
					format!("{value:.2}")
				} else {
					grouped(&format!("{value:.0}"))
				}
			};
			let cells = [row.c, row.rust_full, row.rust_fast].map(figure);
			table.row([row.what.clone()].into_iter().chain(cells));
		}
		table.render()
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_file_in_the_tree_is_read() {
		let disk = Disk::read(include_str!("../../reference-disk.json")).unwrap();
		assert!(disk.tce_hcalls(Column::C) > disk.tce_hcalls(Column::RustFast));
		assert_eq!(disk.tce_hcalls(Column::Asm510), None);
		assert_eq!(disk.render().lines().count(), disk.rows.len() + 2);
	}

	#[test]
	fn a_file_without_the_figure_is_refused() {
		let text = r#"{"date": "", "kernel": "", "read": "", "rows": []}"#;
		assert!(Disk::read(text).unwrap_err().contains("no row"));
		assert!(Disk::read("[]").is_err());
	}
}
