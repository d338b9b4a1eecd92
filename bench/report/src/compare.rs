// SPDX-License-Identifier: GPL-2.0-only
//! Whether anything got slower between two reports.
//!
//! Instructions are counted, so two runs on the same kernel differ by next to nothing and
//! a limit of half a percent is generous. Only what got slower is past it: what got
//! faster is shown, and so are figures that only one of the reports has, operations whose
//! counts changed, and on what else the two were measured, since a kernel or a compiler
//! may be the reason.

use std::collections::BTreeSet;

use crate::console::Cell;
use crate::report::{Entry, Environment, Report};
use crate::table::{Table, figure, plain};

/// How much slower is too slow.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Limit {
	/// In percent of the base; at least zero.
	pub percent: f64,
	/// Differences of this many instructions are ignored, independent of their percentage.
	pub slack: f64,
}

/// What is made of a difference.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
	/// Past the limit.
	Slower,
	/// As far in the other direction.
	Faster,
	/// Neither.
	Within,
}

/// A figure that both reports have.
#[derive(Clone, PartialEq, Debug)]
pub struct Difference {
	/// Which.
	pub cell: Cell,
	/// Instructions per round trip in the first report.
	pub base: f64,
	/// In the second.
	pub new: f64,
	/// What is made of it.
	pub verdict: Verdict,
	/// Costly operations whose counts differ, if both reports have counts.
	pub costly: Vec<Changed>,
}

impl Difference {
	/// In percent of the base.
	pub fn percent(&self) -> f64 {
		100.0 * (self.new - self.base) / self.base
	}
}

/// A costly operation's count per round trip.
#[derive(Clone, PartialEq, Debug)]
pub struct Changed {
	/// As in [`Entry::costly`].
	pub operation: String,
	/// In the first report.
	pub base: f64,
	/// In the second.
	pub new: f64,
}

/// Of two reports.
#[derive(Clone, PartialEq, Debug)]
pub struct Comparison {
	/// Figures of both, in the first one's order.
	pub differences: Vec<Difference>,
	/// Figures of the first only, and what the second says of them.
	pub lost: Vec<(Cell, Option<String>)>,
	/// Figures of the second only.
	pub gained: Vec<Cell>,
	/// In what their environments differ: what, in the first, in the second.
	pub environments: Vec<(String, String, String)>,
}

/// Counts that are means may differ by rounding.
const SAME_COUNT: f64 = 0.01;

impl Comparison {
	/// Compares two reports; a limit for each cell.
	pub fn of(base: &Report, new: &Report, limit: impl Fn(Cell) -> Limit) -> Self {
		let mut differences = Vec::new();
		let mut lost = Vec::new();
		for entry in &base.results {
			let cell = entry.cell();
			match new.get(cell.case, cell.guest, cell.path) {
				Some(other) => differences.push(difference(entry, other, limit(cell))),
				None => {
					let missing = new.missing(cell.case, cell.guest, cell.path);
					lost.push((cell, missing.map(|missing| missing.why.clone())));
				}
			}
		}
		let gained = new
			.results
			.iter()
			.map(Entry::cell)
			.filter(|cell| base.get(cell.case, cell.guest, cell.path).is_none())
			.collect();
		Self {
			differences,
			lost,
			gained,
			environments: environments(&base.environment, &new.environment),
		}
	}

	/// Figures past the limit.
	pub fn slower(&self) -> impl Iterator<Item = &Difference> {
		let all = self.differences.iter();
		all.filter(|difference| difference.verdict == Verdict::Slower)
	}

	/// As text.
	pub fn render(&self) -> String {
		let mut text = String::new();
		for (what, base, new) in &self.environments {
			text.push_str(&format!(
				"another {what}: {} before, {} now\n",
				plain(base),
				plain(new)
			));
		}
		if !self.environments.is_empty() {
			text.push('\n');
		}
		let mut table = Table::new(
			3,
			&[
				"case",
				"guest",
				"path",
				"before",
				"now",
				"difference",
				"percent",
				"",
			],
		);
		for difference in &self.differences {
			let cell = difference.cell;
			table.row([
				cell.case.name.to_owned(),
				cell.guest.name().to_owned(),
				cell.path.name().to_owned(),
				figure(Some(difference.base)),
				figure(Some(difference.new)),
				signed(difference.new - difference.base, 1),
				signed(difference.percent(), 2),
				match difference.verdict {
					Verdict::Slower => "SLOWER",
					Verdict::Faster => "faster",
					Verdict::Within => "",
				}
				.to_owned(),
			]);
		}
		text.push_str("Instructions per round trip, median\n\n");
		text.push_str(&table.render());
		let changed: Vec<_> = self
			.differences
			.iter()
			.filter(|difference| !difference.costly.is_empty())
			.collect();
		if !changed.is_empty() {
			text.push_str("\nCostly operations whose count per round trip changed\n\n");
		}
		for difference in changed {
			let counts = difference.costly.iter().map(|changed| {
				let name = plain(&changed.operation);
				format!("{name} {} to {}", count(changed.base), count(changed.new))
			});
			let counts = counts.collect::<Vec<_>>().join(", ");
			text.push_str(&format!("- {}: {counts}\n", difference.cell));
		}
		if !self.lost.is_empty() || !self.gained.is_empty() {
			text.push('\n');
		}
		for (cell, why) in &self.lost {
			let why = why.as_deref().map(plain);
			let why = why.map_or(String::new(), |why| format!(" (now: {why})"));
			text.push_str(&format!("- {cell}: only before{why}\n"));
		}
		for cell in &self.gained {
			text.push_str(&format!("- {cell}: only now\n"));
		}
		text
	}
}

fn difference(base: &Entry, new: &Entry, limit: Limit) -> Difference {
	let (before, now) = (base.instructions.median, new.instructions.median);
	let past = |by: f64| by > limit.slack && 100.0 * by > limit.percent * before;
	Difference {
		cell: base.cell(),
		base: before,
		new: now,
		verdict: if past(now - before) {
			Verdict::Slower
		} else if past(before - now) {
			Verdict::Faster
		} else {
			Verdict::Within
		},
		costly: changed(base, new),
	}
}

/// Operations whose counts differ; what isn't counted at all in one report doesn't.
fn changed(base: &Entry, new: &Entry) -> Vec<Changed> {
	let (Some(base), Some(new)) = (&base.costly, &new.costly) else {
		return Vec::new();
	};
	let operations: BTreeSet<_> = base.keys().chain(new.keys()).collect();
	let count = |counts: &std::collections::BTreeMap<String, f64>, operation| {
		counts.get(operation).copied().unwrap_or(0.0)
	};
	operations
		.into_iter()
		.map(|operation| Changed {
			operation: operation.clone(),
			base: count(base, operation),
			new: count(new, operation),
		})
		.filter(|changed| (changed.base - changed.new).abs() > SAME_COUNT)
		.collect()
}

fn environments(base: &Environment, new: &Environment) -> Vec<(String, String, String)> {
	let compilers = |environment: &Environment| {
		let kernels = environment.kernels.iter();
		let compilers = kernels.map(|kernel| kernel.compiler.as_str());
		compilers
			.collect::<BTreeSet<_>>()
			.into_iter()
			.collect::<Vec<_>>()
			.join("; ")
	};
	let pairs = [
		("kernel", &base.kernel_release, &new.kernel_release),
		("configuration", &base.config_hash, &new.config_hash),
		("QEMU", &base.qemu, &new.qemu),
		("icount option", &base.icount, &new.icount),
		("Rust compiler", &base.rustc, &new.rustc),
		("C compiler", &compilers(base), &compilers(new)),
	];
	pairs
		.into_iter()
		.filter(|(_, base, new)| base != new)
		.map(|(what, base, new)| {
			let short = |text: &str| {
				if what == "configuration" {
					text.chars().take(16).collect()
				} else {
					text.to_owned()
				}
			};
			(what.to_owned(), short(base), short(new))
		})
		.collect()
}

/// A count that may be a mean.
fn count(value: f64) -> String {
	let text = format!("{value:.2}");
	text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// With its sign; a zero has none.
fn signed(value: f64, decimals: usize) -> String {
	let text = format!("{value:+.decimals$}");
	if text.bytes().any(|byte| matches!(byte, b'1'..=b'9')) {
		text
	} else {
		"0".to_owned()
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::tests::sample;
	use cases::case;
	use protocol::{Column, GuestMode};

	const STRICT: Limit = Limit {
		percent: 0.5,
		slack: 0.0,
	};

	fn verdict(base: f64, new: f64, limit: Limit) -> Verdict {
		let (mut a, mut b) = (sample(), sample());
		a.results[0].instructions.median = base;
		b.results[0].instructions.median = new;
		let comparison = Comparison::of(&a, &b, |_| limit);
		assert!(
			comparison.differences[1..]
				.iter()
				.all(|one| one.verdict == Verdict::Within)
		);
		comparison.differences[0].verdict
	}

	#[test]
	fn a_report_is_like_itself() {
		let comparison = Comparison::of(&sample(), &sample(), |_| STRICT);
		assert_eq!(comparison.differences.len(), 5);
		assert_eq!(comparison.slower().count(), 0);
		assert!(comparison.lost.is_empty() && comparison.gained.is_empty());
		assert!(comparison.environments.is_empty());
	}

	#[test]
	fn the_threshold_is_in_percent() {
		assert_eq!(verdict(1000.0, 1004.9, STRICT), Verdict::Within);
		assert_eq!(verdict(1000.0, 1005.0, STRICT), Verdict::Within);
		assert_eq!(verdict(1000.0, 1005.1, STRICT), Verdict::Slower);
		assert_eq!(verdict(1000.0, 994.9, STRICT), Verdict::Faster);
		let none = Limit {
			percent: 0.0,
			slack: 0.0,
		};
		assert_eq!(verdict(1000.0, 1000.0, none), Verdict::Within);
		assert_eq!(verdict(1000.0, 1000.1, none), Verdict::Slower);
	}

	#[test]
	fn an_instruction_of_a_hundred_is_much_but_may_be_allowed() {
		let slack = Limit {
			slack: 2.0,
			..STRICT
		};
		assert_eq!(verdict(127.0, 128.0, STRICT), Verdict::Slower);
		assert_eq!(verdict(127.0, 128.0, slack), Verdict::Within);
		assert_eq!(verdict(127.0, 129.1, slack), Verdict::Slower);
		assert_eq!(verdict(127.0, 124.0, slack), Verdict::Faster);
	}

	#[test]
	fn what_only_one_has_is_listed() {
		let (mut base, mut new) = (sample(), sample());
		base.results.remove(0);
		new.results.remove(1);
		new.missing[0].cell = sample().results[1].cell();
		let comparison = Comparison::of(&base, &new, |_| STRICT);
		assert_eq!(comparison.gained, [sample().results[0].cell()]);
		let why = Some("no source of Linux 5.10".to_owned());
		assert_eq!(comparison.lost, [(sample().results[1].cell(), why)]);
		assert_eq!(comparison.differences.len(), 3);
	}

	#[test]
	fn counts_are_compared_where_both_have_them() {
		let (mut base, mut new) = (sample(), sample());
		let counts = |of: &[(&str, f64)]| {
			Some(
				of.iter()
					.map(|&(name, count)| (name.to_owned(), count))
					.collect(),
			)
		};
		base.results[0].costly = counts(&[("mftb", 2.0), ("isync", 1.0), ("mtspr:LPCR", 1.0)]);
		new.results[0].costly = counts(&[("mftb", 2.001), ("isync", 3.0), ("hrfid", 1.0)]);
		base.results[1].costly = counts(&[("mftb", 2.0)]);
		let comparison = Comparison::of(&base, &new, |_| STRICT);
		let changed: Vec<_> = comparison.differences[0]
			.costly
			.iter()
			.map(|one| (one.operation.as_str(), one.base, one.new))
			.collect();
		assert_eq!(
			changed,
			[
				("hrfid", 0.0, 1.0),
				("isync", 1.0, 3.0),
				("mtspr:LPCR", 1.0, 0.0)
			]
		);
		assert!(comparison.differences[1].costly.is_empty());
	}

	#[test]
	fn as_text() {
		let (mut base, mut new) = (sample(), sample());
		base.environment.kernel_release = "6.12.90".into();
		new.environment.qemu = "QEMU 11\u{1b}[31m".into();
		new.results[0].instructions.median += 3.0;
		new.results[1].instructions.median -= 30.0;
		new.results[3].costly = Some([("mftb".to_owned(), 1.0)].into());
		base.results[3].costly = Some([("mftb".to_owned(), 0.0)].into());
		let gone = new.results.pop().unwrap().cell();
		assert_eq!(
			(gone.case, gone.guest, gone.path),
			(case!("h_prod"), GuestMode::Real, Column::C)
		);
		insta::assert_snapshot!(Comparison::of(&base, &new, |_| STRICT).render(), @r"
		another kernel: 6.12.90 before, 6.12.117 now
		another QEMU: QEMU emulator version 10.0.2 before, QEMU 11�[31m now

		Instructions per round trip, median

		case  guest  path       before   now  difference  percent
		-----------------------------------------------------------------
		null  radix  asm-5.10      181   184        +3.0    +1.66  SLOWER
		null  radix  c            2230  2200       -30.0    -1.35  faster
		null  radix  rust-full    2234  2234           0        0
		null  radix  rust-fast     110   110           0        0

		Costly operations whose count per round trip changed

		- null radix rust-fast: mftb 0 to 1

		- h_prod real c: only before
		");
	}
}
