// SPDX-License-Identifier: GPL-2.0-only
//! A report with invented figures, for tests and for looking at the page.
//!
//! It has everything that a report can have, for every case that there is: figures of all
//! sizes, phases, functions, costly operations, modelled cycles, and cells that lack some
//! or all of it. Its kernel is called [`RELEASE`], so that it can't be taken for a real
//! one.

use std::collections::BTreeMap;

use cases::CASES;
use protocol::{Column, GuestMode};

use crate::console::Cell;
use crate::measure::Summary;
use crate::report::{
	Entry, Environment, Function, Kernel, Longest, Missing, Modelled, Origin, Phase, Report,
};

/// The kernel that all of this was not measured on.
pub const RELEASE: &str = "sample (invented figures)";

/// A name longer than there is room for in a figure.
const LONG: &str = "save the guest's general, vector and special registers and load the host's";

fn environment() -> Environment {
	let kernel = |series: &str, hash: &str| Kernel {
		series: series.to_owned(),
		release: RELEASE.to_owned(),
		package_version: format!("{series}.0-sample"),
		config_hash: hash.repeat(8),
		compiler: "sample-gcc (none) 0.0".to_owned(),
	};
	Environment {
		kernel_release: RELEASE.to_owned(),
		config_hash: "5a3b1e00".repeat(8),
		object_hash: "5a3b1e01".repeat(8),
		qemu: "no emulator, figures are invented".to_owned(),
		icount: "none".to_owned(),
		rustc: "rustc 0.0.0 (sample)".to_owned(),
		kernels: vec![kernel("6.12", "5a3b1e02"), kernel("5.10", "5a3b1e03")],
	}
}

fn instructions(index: usize, guest: usize, path: Column, large: bool) -> f64 {
	let scale = if large { 60.0 } else { 1.0 };
	let c = scale * (2068.0 + 97.0 * index as f64);
	let few = index < 7;
	let by_guest = 7.0 * guest as f64;
	match path {
		Column::Asm510 if index == 0 => 181.0,
		Column::Asm510 => (1.13 * c).round() + by_guest,
		Column::C => c,
		Column::RustFull => c - 254.0,
		Column::RustFast if few => (127.0 + 31.0 * index as f64) * scale.sqrt() + by_guest,
		Column::RustFast => c - 254.0,
	}
}

fn phases(path: Column, total: f64) -> Vec<Phase> {
	let (code, parts): (_, &[(&str, f64, f64)]) = match path {
		Column::RustFast => (
			Origin::Rust,
			&[
				("interrupt vector", 0.10, 2.0),
				("trampoline in", 0.30, 3.5),
				("handler", 0.25, 1.1),
				("trampoline out", 0.35, 5.0),
			],
		),
		_ => (
			if path == Column::RustFull {
				Origin::Rust
			} else {
				Origin::C
			},
			&[
				("interrupt vector", 0.02, 2.0),
				(LONG, 0.26, 4.2),
				("exit handling", 0.17, 1.2),
				("hcall", 0.11, 1.2),
				("prepare to enter", 0.12, 1.4),
				("load guest registers", 0.30, 4.8),
				("return to guest", 0.02, 6.0),
			],
		),
	};
	let phase = |&(name, share, cycles): &(&str, f64, f64)| {
		let instructions = (share * total).round();
		let functions = (1..=10).map(|number| Function {
			name: format!(
				"sample_{}_{number}",
				name.split(' ').next().unwrap_or_default()
			),
			kind: if number == 2 { Origin::Asm } else { code },
			instructions: instructions / f64::from(1 << number),
		});
		Phase {
			name: name.to_owned(),
			instructions,
			modelled_cycles: Some((instructions * cycles).round()),
			functions: functions.take(if share > 0.2 { 10 } else { 2 }).collect(),
		}
	};
	let mut phases: Vec<Phase> = parts.iter().map(phase).collect();
	let sum: f64 = phases.iter().map(|phase| phase.instructions).sum();
	if let Some(phase) = phases.get_mut(2) {
		phase.instructions += total - sum;
	}
	phases
}

fn costly(path: Column) -> BTreeMap<String, f64> {
	let (full, fast) = match path {
		Column::Asm510 => (3.0, 0.0),
		Column::C => (2.0, 0.0),
		Column::RustFull => (1.0, 0.0),
		Column::RustFast => (0.0, 1.0),
	};
	let mut counts = BTreeMap::new();
	for register in [
		"LPCR", "LPIDR", "PIDR", "DPDES", "DSCR", "TAR", "SPRG0", "SPRG3", "SRR0",
	] {
		counts.insert(format!("mtspr:{register}"), full);
		counts.insert(format!("mfspr:{register}"), full + fast);
	}
	counts.insert("mftb".to_owned(), 2.0 * full);
	counts.insert("mtmsrd".to_owned(), 2.0 + full);
	counts.insert("mtmsrd:L=0".to_owned(), full);
	counts.insert("mtmsrd:L=1".to_owned(), 2.0);
	counts.insert("isync".to_owned(), 2.04 * full);
	counts.insert("hrfid".to_owned(), 1.0);
	counts.retain(|_, count| *count > 0.0);
	counts
}

/// All of it.
pub fn report() -> Report {
	let mut report = Report::new(environment());
	for (index, case) in CASES.iter().enumerate() {
		for (position, guest) in GuestMode::ALL.into_iter().enumerate() {
			for path in Column::ALL {
				let cell = Cell { case, guest, path };
				let mut missing = |why: &str, failed| {
					report.missing.push(Missing {
						cell,
						why: why.to_owned(),
						failed,
					});
				};
				match (index, position, path) {
					(3, 1, _) => missing("a guest in this mode can't do that", false),
					(4, _, Column::Asm510) => missing("Linux 5.10 doesn't have this case", false),
					(5, 0, Column::RustFull) => missing(
						"3 of 7500 hcalls returned a wrong code, the first -4 instead of 0",
						true,
					),
					// Not asked for.
					(6, 1, Column::Asm510) => {}
					_ => {
						let total =
							instructions(index, position, path, case.name.ends_with("_512"));
						report.results.push(entry(cell, total, index < 6));
					}
				}
			}
		}
	}
	report
}

fn entry(cell: Cell, total: f64, whole: bool) -> Entry {
	let phases = if whole {
		phases(cell.path, total)
	} else {
		Vec::new()
	};
	let cycles = phases.iter().filter_map(|phase| phase.modelled_cycles);
	let cycles: f64 = cycles.sum();
	Entry {
		case: cell.case,
		guest: cell.guest,
		path: cell.path,
		instructions: Summary {
			min: total,
			median: total,
			max: total + 0.5,
		},
		iterations: 500,
		batches: 15,
		empty_loop: Summary {
			min: 10.0,
			median: 10.0,
			max: 10.0,
		},
		fast: (cell.path == Column::RustFast).then_some(7500),
		costly: whole.then(|| costly(cell.path)),
		phases,
		modelled_cycles: whole.then(|| Modelled {
			median: cycles,
			error: (0.2 * cycles).round(),
		}),
		longest: whole.then_some(Longest {
			interrupts_off: (0.75 * total) as u64,
			guest_mode: (0.5 * total) as u64,
		}),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn it_is_a_report_and_says_that_it_is_none() {
		let report = report();
		let text = report.to_json().unwrap();
		assert_eq!(Report::read(text.as_bytes()).unwrap(), report);
		assert!(text.contains(RELEASE) && RELEASE.starts_with("sample"));
	}

	#[test]
	fn it_has_everything() {
		let report = report();
		let has = |what: fn(&Entry) -> bool| {
			report.results.iter().any(what) && !report.results.iter().all(what)
		};
		assert!(has(|entry| !entry.phases.is_empty()));
		assert!(has(|entry| entry.costly.is_some()));
		assert!(has(|entry| entry.modelled_cycles.is_some()));
		assert!(has(|entry| entry.longest.is_some()));
		assert!(report.missing.iter().any(|missing| missing.failed));
		assert!(report.missing.iter().any(|missing| !missing.failed));
	}

	#[test]
	fn phases_add_up() {
		for entry in report().results {
			let sum: f64 = entry.phases.iter().map(|phase| phase.instructions).sum();
			assert!(entry.phases.is_empty() || (sum - entry.instructions.median).abs() < 1e-6);
		}
	}
}
