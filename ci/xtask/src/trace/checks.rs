// SPDX-License-Identifier: GPL-2.0-only
//! What `cargo xtask test` demands of a report with traces.

use ::report::costly;
use ::report::report::Report;
use cases::{Case, case};
use protocol::{Column, GuestMode};

use harness::check::Check;

/// Operations of which the Rust path must not do more than C on a NULL hcall.
const COMPARED: [(&str, &[&str]); 5] = [
	("mtspr", &["mtspr"]),
	("mfspr", &["mfspr"]),
	("mftb", &["mftb"]),
	("isync and sync", &["isync", "sync"]),
	("mtmsrd", &["mtmsrd"]),
];

/// How many of an operation a round trip by a fast handler or a light exit may do.
const MOST: [(&Case, &str, f64); 6] = [
	(case!("null"), "mtspr", 5.0),
	(case!("null"), "mfspr", 5.0),
	// A light exit with next to no work in it.
	(case!("h_prod"), "mtspr", 14.0),
	(case!("h_prod"), "mfspr", 12.0),
	(case!("h_put_tce_indirect_512"), "mtspr", 19.0),
	(case!("h_put_tce_indirect_512"), "isync", 5.0),
];

/// What `cargo xtask test` demands of a traced report.
pub fn checks(report: &Report) -> Vec<Check> {
	let mut checks: Vec<Check> = report
		.results
		.iter()
		.map(|entry| {
			let missing = entry.costly.is_none() || entry.phases.is_empty();
			let complaint = missing.then(|| "it was not traced".to_owned());
			Check::new(format!("trace of {}", entry.cell()), complaint)
		})
		.collect();
	let count = |case, path, operations: &[&str]| {
		let entry = report.get(case, GuestMode::Radix, path)?;
		operations
			.iter()
			.map(|operation| costly::count(entry, operation))
			.sum::<Option<f64>>()
	};
	for (case, operation, limit) in MOST {
		let done = count(case, Column::RustFast, &[operation]);
		let complaint = match done {
			None => Some("not counted".to_owned()),
			Some(done) => (done > limit).then(|| {
				format!(
					"{done}, C's path does {}",
					count(case, Column::C, &[operation]).unwrap_or_default()
				)
			}),
		};
		checks.push(Check::new(
			format!("{}: at most {limit} {operation}", case.name),
			complaint,
		));
	}
	for (name, operations) in COMPARED {
		let of = |path| count(case!("null"), path, operations);
		let complaint = match (of(Column::C), of(Column::RustFull)) {
			(Some(c), Some(rust)) => (rust > c).then(|| format!("{rust}, and C {c}")),
			_ => Some("not counted".to_owned()),
		};
		checks.push(Check::new(
			format!("null by Rust, full: no more {name} than C"),
			complaint,
		));
	}
	checks
}
