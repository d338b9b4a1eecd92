// SPDX-License-Identifier: GPL-2.0-only
//! Figures of a real machine: nanoseconds by its timebase, and cycles by its PMU.
//!
//! The log may be the console of a machine that died. What it has is shown, and what is missing is said.

use std::collections::BTreeMap;

use cases::{CASES, Case};
use protocol::{Column, GuestMode};
use serde::Serialize;

use crate::console::{self, Cell, Line, Measured};
use crate::measure::{self, Summary};
use crate::table::{Table, grouped, plain};

/// The paths that a kernel with kvm-p9 has.
const PATHS: [Column; 3] = [Column::C, Column::RustFull, Column::RustFast];

/// Cycles of the hypervisor in an exit of one kind.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Cycles {
	/// The kind: the name of the span in `p9_times`.
	pub span: String,
	/// How many of them had their cycles counted.
	pub count: u64,
	/// The mean.
	pub mean: f64,
}

/// One round trip of a case.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
	/// Of what.
	#[serde(flatten)]
	pub cell: Cell,
	/// By the timebase, without the loop around it. A tick of a POWER9's timebase is 1.95 ns.
	pub nanoseconds: Option<Summary>,
	/// By the PMU, with `kvm_p9.stats=1`.
	pub cycles: Vec<Cycles>,
}

/// What the logs say.
#[derive(Default, Debug, Serialize)]
pub struct Iron {
	/// `uname -r`.
	pub release: String,
	/// In the order in which they came.
	pub figures: Vec<Figure>,
	/// What went wrong, or is missing, in a line each.
	pub problems: Vec<String>,
}

fn cycles_of(measured: &Measured) -> Vec<Cycles> {
	let counted = |span: &&console::Span| span.unit == "cycles" && span.count > 0;
	let spans = measured.spans.iter().filter(counted);
	spans
		.map(|span| Cycles {
			span: span.span.clone(),
			count: span.count,
			mean: span.total as f64 / span.count as f64,
		})
		.collect()
}

impl Iron {
	/// Reads one log: one run of the program, or the console of a machine.
	pub fn read(&mut self, name: &str, log: &str) {
		let mut complain = |why: String| self.problems.push(plain(&format!("{name}: {why}")));
		let (mut lines, mut done) = (0, false);
		let mut last = None;
		for line in log.lines().filter_map(console::parse) {
			lines += 1;
			match line {
				Err(garbled) => complain(garbled.to_string()),
				Ok(Line::Hello { release, .. }) => self.release = release,
				Ok(Line::Result(measured)) => {
					last = Some(measured.cell);
					let place = self.figures.iter().position(|f| f.cell == measured.cell);
					let place = place.unwrap_or_else(|| {
						self.figures.push(Figure {
							cell: measured.cell,
							nanoseconds: None,
							cycles: Vec::new(),
						});
						self.figures.len() - 1
					});
					let figure = &mut self.figures[place];
					// While spans are collected, the round trip takes longer.
					if !measured.spans.is_empty() {
						figure.cycles = cycles_of(&measured);
						continue;
					}
					// The unit of cost() is 1000/512 of a tick of the timebase: a nanosecond.
					match measure::cost(&measured) {
						Ok(cost) => figure.nanoseconds = Some(cost.call),
						Err(why) => complain(why),
					}
				}
				Ok(Line::Na(reason) | Line::Error(reason)) => {
					last = Some(reason.cell);
					complain(format!("{}: {}", reason.cell, reason.why));
				}
				Ok(Line::Fatal { why }) => complain(why),
				Ok(Line::Test { name, .. }) => complain(format!("a test, '{name}'")),
				Ok(Line::Done) => done = true,
			}
		}
		if lines == 0 {
			complain("no line of the benchmark".to_owned());
		} else if !done {
			let last = last.map_or_else(|| "nothing".to_owned(), |cell| cell.to_string());
			complain(format!("the log ends early: the last was {last}"));
		}
	}

	/// Whether there is a figure at all.
	pub fn is_empty(&self) -> bool {
		self.figures.is_empty()
	}

	fn rows(&self) -> impl Iterator<Item = (&'static Case, GuestMode)> {
		CASES
			.iter()
			.flat_map(|case| GuestMode::ALL.map(|guest| (case, guest)))
			.filter(|&(case, guest)| {
				let mut cells = self.figures.iter().map(|figure| figure.cell);
				cells.any(|cell| cell.case == case && cell.guest == guest)
			})
	}

	fn get(&self, case: &'static Case, guest: GuestMode, path: Column) -> Option<&Figure> {
		let cell = Cell { case, guest, path };
		self.figures.iter().find(|figure| figure.cell == cell)
	}

	/// Tables of text, and the problems.
	pub fn render(&self) -> String {
		let header = ["case", "guest", "C", "Rust full", "Rust fast", "spread"];
		let mut times = Table::new(2, &header);
		for (case, guest) in self.rows() {
			let of = PATHS.map(|path| {
				let figure = self.get(case, guest, path)?;
				figure.nanoseconds
			});
			if of.iter().all(Option::is_none) {
				continue;
			}
			let spread = of.iter().flatten().map(Summary::spread).fold(0.0, f64::max);
			let cells = of.map(|summary| {
				summary.map_or_else(
					|| "-".to_owned(),
					|summary| grouped(&format!("{:.0}", summary.median)),
				)
			});
			let names = [case.name.to_owned(), guest.name().to_owned()];
			let spread = [format!("{:.1}%", spread * 100.0)];
			times.row(names.into_iter().chain(cells).chain(spread));
		}
		let mut text = format!(
			"Linux {}: nanoseconds of a round trip by the timebase, median of the batches\n\n{}",
			plain(&self.release),
			times.render()
		);
		let cycles = self.cycles();
		if !cycles.is_empty() {
			let mut table = Table::new(1, &["exit", "Rust full", "Rust fast"]);
			for (span, means) in cycles {
				let cells = means.map(|mean| {
					mean.map_or_else(|| "-".to_owned(), |mean| grouped(&format!("{mean:.0}")))
				});
				table.row([plain(&span)].into_iter().chain(cells));
			}
			text.push_str(&format!(
				"\nCycles of the hypervisor by the PMU, mean over all cases\n\n{}",
				table.render()
			));
		}
		for problem in &self.problems {
			text.push_str(&format!("\n{problem}"));
		}
		if !self.problems.is_empty() {
			text.push('\n');
		}
		text
	}

	/// The mean cycles of each kind of exit, over all cases: Rust full, Rust fast.
	fn cycles(&self) -> BTreeMap<String, [Option<f64>; 2]> {
		let mut sums: BTreeMap<String, [(u64, f64); 2]> = BTreeMap::new();
		for figure in &self.figures {
			let column = match figure.cell.path {
				Column::RustFull => 0,
				Column::RustFast => 1,
				Column::C | Column::Asm510 => continue,
			};
			for cycles in &figure.cycles {
				let sum = &mut sums.entry(cycles.span.clone()).or_default()[column];
				sum.0 += cycles.count;
				sum.1 += cycles.mean * cycles.count as f64;
			}
		}
		let mean = |(count, total): (u64, f64)| (count > 0).then(|| total / count as f64);
		sums.into_iter()
			.map(|(span, columns)| (span, columns.map(mean)))
			.collect()
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	const HELLO: &str = r#"@kvm-p9 {"kind":"hello","release":"6.12.118","params":true}"#;
	const DONE: &str = r#"@kvm-p9 {"kind":"done"}"#;

	fn result(path: &str, ticks: u64, more: &str) -> String {
		format!(
			r#"@kvm-p9 {{"kind":"result","case":"null","guest":"radix","path":"{path}","iterations":1000,"empty_ticks":[512,512,512],"ticks":[{ticks},{ticks},{ticks}],"fast":0{more}}}"#
		)
	}

	fn read(lines: &[&str]) -> Iron {
		let mut iron = Iron::default();
		iron.read("console.log", &lines.join("\n"));
		iron
	}

	#[test]
	fn a_tick_is_two_nanoseconds_nearly() {
		let c = result("c", 512 + 51_200, "");
		let fast = result("rust-fast", 512 + 5_120, "");
		let iron = read(&[HELLO, &c, &fast, DONE]);
		assert_eq!(iron.problems, [] as [String; 0]);
		let text = iron.render();
		assert!(text.starts_with("Linux 6.12.118: "), "{text}");
		let row = text.lines().find(|line| line.starts_with("null")).unwrap();
		let words: Vec<_> = row.split_whitespace().collect();
		assert_eq!(words, ["null", "radix", "100", "-", "10", "0.0%"]);
	}

	#[test]
	fn spans_give_cycles_and_no_time() {
		let spans = r#","spans":[{"span":"fast_null","unit":"ticks","count":4,"total":40},{"span":"fast_null","unit":"cycles","count":3,"total":600}]"#;
		let iron = read(&[HELLO, &result("rust-fast", 9_999, spans), DONE]);
		assert_eq!(iron.figures[0].nanoseconds, None);
		assert_eq!(iron.figures[0].cycles[0].mean, 200.0);
		let text = iron.render();
		let row = text.lines().find(|line| line.starts_with("fast_null"));
		assert_eq!(
			row.unwrap().split_whitespace().collect::<Vec<_>>(),
			["fast_null", "-", "200"]
		);
	}

	#[test]
	fn the_log_of_a_machine_that_died_says_where() {
		let iron = read(&[HELLO, "Oops: ", &result("c", 9_999, "")]);
		assert_eq!(
			iron.problems,
			["console.log: the log ends early: the last was null radix c"]
		);
		assert!(iron.render().contains("null  radix"));
		let empty = read(&["login:"]);
		assert!(empty.is_empty());
		assert_eq!(empty.problems, ["console.log: no line of the benchmark"]);
	}

	#[test]
	fn figures_that_cannot_be_are_refused() {
		let iron = read(&[HELLO, &result("c", 100, ""), DONE]);
		assert_eq!(iron.figures[0].nanoseconds, None);
		assert_eq!(iron.problems.len(), 1);
	}
}
