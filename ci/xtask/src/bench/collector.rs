// SPDX-License-Identifier: GPL-2.0-only
//! Reads the console of a machine that measures, and checks off what it has to deliver.

use ::report::console::{self, Cell, Line};
use ::report::report::{Entry, Missing};
use protocol::Column;

use super::plan::Plan;

/// Checks off what the VMM has to deliver.
pub(super) struct Collector {
	release: String,
	pub(super) awaited: Vec<Cell>,
	batches: u64,
	entries: Vec<Entry>,
	missing: Vec<Missing>,
	problems: Vec<String>,
	hello: bool,
	done: bool,
}

impl Collector {
	pub(super) fn new(plan: &Plan, paths: &[Column], release: &str) -> Self {
		Self {
			release: release.to_owned(),
			awaited: plan.cells(paths),
			batches: plan.batches,
			entries: Vec::new(),
			missing: Vec::new(),
			problems: Vec::new(),
			hello: false,
			done: false,
		}
	}

	/// Reads a line of the console; says whether it was the VMM's.
	pub(super) fn line(&mut self, text: &str) -> bool {
		let line = match console::parse(text) {
			None => return false,
			Some(Err(garbled)) => {
				self.problems.push(garbled.to_string());
				return true;
			}
			Some(Ok(line)) => line,
		};
		match line {
			Line::Hello { release, .. } => {
				self.hello = true;
				if release != self.release {
					self.problems
						.push(format!("{release} was booted, not {}", self.release));
				}
			}
			Line::Result(measured) => {
				self.check_off(measured.cell);
				if measured.ticks.len() as u64 != self.batches
					|| measured.empty_ticks.len() as u64 != self.batches
				{
					self.problems
						.push(format!("{}: not {} batches", measured.cell, self.batches));
				}
				match Entry::new(&measured) {
					Ok(entry) => {
						if counters_missed(&entry) {
							self.problems.push(format!(
								"{}: no counters (no debugfs?), so it is not known which code served the fast figures",
								self.release
							));
						} else {
							self.problems.extend(served_wrongly(&entry));
						}
						self.entries.push(entry);
					}
					Err(problem) => self.problems.push(problem),
				}
			}
			Line::Na(reason) => {
				self.check_off(reason.cell);
				self.missing.push(reason.into());
			}
			Line::Error(reason) => {
				self.check_off(reason.cell);
				self.problems
					.push(format!("{}: {}", reason.cell, reason.why));
				self.missing.push(Missing {
					failed: true,
					..reason.into()
				});
			}
			Line::Fatal { why } => self.problems.push(why),
			Line::Test { name, .. } => self
				.problems
				.push(format!("a test, '{name}', in a benchmark")),
			Line::Done => self.done = true,
		}
		true
	}

	fn check_off(&mut self, cell: Cell) {
		match self.awaited.iter().position(|&awaited| awaited == cell) {
			Some(index) => drop(self.awaited.swap_remove(index)),
			None => self
				.problems
				.push(format!("{cell}: not asked for, or twice")),
		}
	}

	pub(super) fn machine_ended(&mut self) {
		if !(std::mem::take(&mut self.hello) && std::mem::take(&mut self.done)) {
			self.problems
				.push(format!("{}: init did not get to its end", self.release));
		}
	}

	pub(super) fn finish(mut self, patched: bool) -> (Vec<Entry>, Vec<Missing>, Vec<String>) {
		for cell in self.awaited {
			let why = "the machine reported nothing".to_owned();
			self.problems.push(format!("{cell}: {why}"));
			self.missing.push(Missing {
				cell,
				why,
				failed: true,
			});
		}
		// Only an old or an unpatched kernel may lack a case.
		for missing in self
			.missing
			.iter()
			.filter(|missing| !is_no_loss(missing.cell))
		{
			let known = self
				.problems
				.iter()
				.any(|text| text.starts_with(&missing.cell.to_string()));
			if patched && missing.cell.path != Column::Asm510 && !known {
				self.problems
					.push(format!("{}: {}", missing.cell, missing.why));
			}
		}
		(self.entries, self.missing, self.problems)
	}
}

/// Figures that even our kernel need not have: those that there can't be.
fn is_no_loss(cell: Cell) -> bool {
	let Cell { case, guest, path } = cell;
	case.absent(guest, path).is_some()
}

/// Whether hcalls were served by whom the column's name says. The VMM has looked at the
/// other counters already.
fn served_wrongly(entry: &Entry) -> Option<String> {
	let calls = entry.iterations * entry.batches as u64;
	let fast = entry.fast.unwrap_or(0);
	match entry.path {
		Column::RustFast if entry.case.fast.is_some() && fast != calls => Some(format!(
			"{}: {fast} of {calls} were served fast",
			entry.cell()
		)),
		Column::Asm510 | Column::C | Column::RustFull if fast != 0 => {
			Some(format!("{}: {fast} were served fast", entry.cell()))
		}
		_ => None,
	}
}

/// Whether the kernel should have said who served the hcalls, and did not.
fn counters_missed(entry: &Entry) -> bool {
	entry.path == Column::RustFast && entry.fast.is_none()
}

#[cfg(test)]
mod tests {
	use cases::{Case, case};

	use super::*;

	fn result(guest: &str, path: &str, fast: Option<u64>) -> String {
		let ticks = vec!["70000"; 15].join(",");
		let empty = vec!["2500"; 15].join(",");
		let fast = fast.map_or("null".to_owned(), |fast| fast.to_string());
		format!(
			r#"@kvm-p9 {{"kind":"result","case":"null","guest":"{guest}","path":"{path}","iterations":500,"empty_ticks":[{empty}],"ticks":[{ticks}],"fast":{fast}}}"#
		)
	}

	const HELLO: &str = r#"@kvm-p9 {"kind":"hello","release":"6.12.1","params":true}"#;
	const DONE: &str = r#"@kvm-p9 {"kind":"done"}"#;

	/// The lines of a machine that measured the NULL hcall in all guests.
	fn all_guests(path: &str, fast: Option<u64>) -> Vec<String> {
		let results = case!("null").modes.iter();
		let results = results.map(|guest| result(guest.name(), path, fast));
		[HELLO.to_owned()]
			.into_iter()
			.chain(results)
			.chain([DONE.to_owned()])
			.collect()
	}

	fn collect(path: Column, lines: &[String]) -> (usize, Vec<String>) {
		collect_case(case!("null"), path, lines)
	}

	fn collect_case(case: &'static Case, path: Column, lines: &[String]) -> (usize, Vec<String>) {
		let mut collector = Collector::new(&Plan::new(true, vec![case], 1), &[path], "6.12.1");
		for line in lines {
			assert!(collector.line(line), "{line}");
		}
		assert!(!collector.line("[    0.1] noise"));
		collector.machine_ended();
		let (entries, _, problems) = collector.finish(true);
		(entries.len(), problems)
	}

	#[test]
	fn a_whole_run_has_no_problems() {
		assert_eq!(collect(Column::C, &all_guests("c", Some(0))), (4, vec![]));
		assert_eq!(collect(Column::C, &all_guests("c", None)), (4, vec![]));
	}

	#[test]
	fn a_lost_figure_is_a_problem() {
		let mut lines = all_guests("c", None);
		lines.remove(2);
		let (entries, problems) = collect(Column::C, &lines);
		assert_eq!((entries, problems.len()), (3, 1), "{problems:?}");
		assert!(problems[0].starts_with("null real c: "), "{problems:?}");
	}

	#[test]
	fn a_lost_end_is_a_problem() {
		let mut lines = all_guests("c", None);
		lines.pop();
		assert_eq!(collect(Column::C, &lines).1.len(), 1);
	}

	#[test]
	fn an_absent_case_is_a_problem_on_our_kernel() {
		let mut lines = all_guests("c", None);
		lines[2] =
			r#"@kvm-p9 {"kind":"na","case":"null","guest":"real","path":"c","why":"x"}"#.to_owned();
		assert_eq!(collect(Column::C, &lines).1, ["null real c: x"]);
	}

	#[test]
	fn only_what_there_cannot_be_may_be_missing() {
		let (null, store) = (case!("null"), case!("mmio_store"));
		for (case, path, kind, guest, problems) in [
			(null, "rust-fast", "na", "hash", 1),
			(store, "rust-fast", "na", "hash-real", 0),
			(store, "rust-fast", "na", "hash", 1),
			(store, "rust-full", "na", "hash-real", 0),
			(store, "rust-full", "na", "real", 1),
			(store, "rust-full", "error", "hash-real", 1),
		] {
			let fast = (path == "rust-fast").then_some(7500);
			let mut lines = all_guests(path, fast);
			for line in &mut lines {
				*line = line.replace("\"null\"", &format!("\"{}\"", case.name));
			}
			let index = lines
				.iter()
				.position(|line| line.contains(&format!("\"{guest}\"")))
				.unwrap();
			lines[index] = format!(
				r#"@kvm-p9 {{"kind":"{kind}","case":"{}","guest":"{guest}","path":"{path}","why":"x"}}"#,
				case.name
			);
			let column = Column::from_name(path).unwrap();
			assert_eq!(
				collect_case(case, column, &lines).1.len(),
				problems,
				"{} {path} {kind} {guest}",
				case.name
			);
		}
	}

	#[test]
	fn the_column_must_be_true() {
		let problems = |path: Column, fast| collect(path, &all_guests(path.name(), fast)).1.len();
		assert_eq!(problems(Column::RustFast, Some(7500)), 0);
		assert_eq!(problems(Column::RustFast, Some(7499)), 4);
		assert_eq!(problems(Column::RustFast, Some(7501)), 4);
		assert_eq!(problems(Column::RustFast, None), 4);
		assert_eq!(problems(Column::RustFull, Some(1)), 4);
	}
}
