// SPDX-License-Identifier: GPL-2.0-only
//! Stage `host`: the tests that run on this machine.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use harness::check::{Check, Verdict};
use harness::{paths, process};

use crate::cargo::{cargo, has_cargo};
use crate::stage::{Part, Stage, log_path, stage};

/// Tests of the default members, with nextest if it is there.
pub const STAGE: Stage = stage("host", |_| Ok(vec![Part::new([], 40, host)]));

fn host() -> Result<Vec<Check>> {
	let mut checks = Vec::new();
	if has_cargo("nextest") {
		let log = log_path("nextest");
		let mut nextest = cargo();
		nextest.args([
			"nextest",
			"run",
			"--no-fail-fast",
			"--color=never",
			"--status-level=all",
		]);
		let result = process::logged(&mut nextest, &log, "host tests", is_nextest_line);
		checks.extend(finished(&log, result, nextest_check)?);
		let log = log_path("doctest");
		let mut doc = cargo();
		doc.args(["test", "--doc", "--no-fail-fast"]);
		let result = process::logged(&mut doc, &log, "documentation tests", is_libtest_line);
		let found = finished_or_none(&log, result, libtest_check)?;
		checks.extend(found);
	} else {
		let log = log_path("test");
		let mut test = cargo();
		test.args(["test", "--no-fail-fast"]);
		let result = process::logged(&mut test, &log, "host tests", is_libtest_line);
		checks.extend(finished(&log, result, libtest_check)?);
	}
	Ok(checks)
}

fn is_nextest_line(line: &str) -> bool {
	nextest_check(line).is_some()
}

fn is_libtest_line(line: &str) -> bool {
	libtest_check(line).is_some()
}

/// `        PASS [   0.005s] ( 1/20) crate module::test`
fn nextest_check(line: &str) -> Option<Check> {
	let (status, rest) = line.trim_start().split_once(' ')?;
	let (time, name) = rest.trim_start().strip_prefix('[')?.split_once(']')?;
	time.trim().strip_suffix('s')?.parse::<f64>().ok()?;
	let name = match name.trim_start().strip_prefix('(') {
		Some(counted) => counted.split_once(')')?.1,
		None => name,
	};
	let name = name.trim();
	match status {
		"PASS" | "LEAK" => Some(Check::new(name, None)),
		// Any other word in capitals (FAIL, TIMEOUT, SIGSEGV, ...) is a failure.
		_ if status == "SLOW" || status.contains(|c: char| c.is_ascii_lowercase()) => None,
		_ => Some(Check::new(
			name,
			Some(format!(
				"{status}; see {}",
				paths::short(&log_path("nextest"))
			)),
		)),
	}
}

/// `test module::test ... ok`
fn libtest_check(line: &str) -> Option<Check> {
	let (name, status) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
	match status.split(',').next()? {
		"ok" => Some(Check::new(name, None)),
		"FAILED" => Some(Check::new(
			name,
			Some("see the log in target/test".to_owned()),
		)),
		"ignored" => Some(Check::skipped(name, status)),
		_ => None,
	}
}

/// The checks in a log; an error if the run failed without any of them failing.
fn finished(
	log: &Path,
	result: Result<()>,
	check: fn(&str) -> Option<Check>,
) -> Result<Vec<Check>> {
	let checks = finished_or_none(log, result, check)?;
	if checks.is_empty() {
		bail!("no tests were run; see {}", paths::short(log));
	}
	Ok(checks)
}

fn finished_or_none(
	log: &Path,
	result: Result<()>,
	check: fn(&str) -> Option<Check>,
) -> Result<Vec<Check>> {
	let text = fs::read_to_string(log)?;
	let mut checks: Vec<Check> = Vec::new();
	for found in text.lines().filter_map(check) {
		// nextest names a failed test again at its end.
		let failed = |check: &Check| matches!(check.verdict, Verdict::Failed(_));
		if !failed(&found)
			|| !checks
				.iter()
				.any(|known| failed(known) && known.name == found.name)
		{
			checks.push(found);
		}
	}
	let failed = checks
		.iter()
		.any(|check| matches!(check.verdict, Verdict::Failed(_)));
	match result {
		Err(error) if !failed => Err(error),
		_ => Ok(checks),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn passed(check: &Check) -> bool {
		matches!(check.verdict, Verdict::Passed)
	}

	#[test]
	fn nextest_lines() {
		let check =
			nextest_check("        PASS [   0.005s] ( 1/20) kvm-p9-report console::tests::x")
				.unwrap();
		assert_eq!(check.name, "kvm-p9-report console::tests::x");
		assert!(passed(&check));
		let check = nextest_check("        FAIL [   1.005s] xtask a::b").unwrap();
		assert_eq!(check.name, "xtask a::b");
		assert!(!passed(&check));
		for line in [
			"     Summary [   0.105s] 20 tests run: 20 passed, 0 skipped",
			"    Starting 20 tests across 3 binaries",
			"        SLOW [> 60.000s] xtask a::b",
			"[",
			"",
		] {
			assert!(nextest_check(line).is_none(), "{line}");
		}
	}

	#[test]
	fn libtest_lines() {
		assert!(passed(&libtest_check("test a::b ... ok").unwrap()));
		assert!(!passed(&libtest_check("test a::b ... FAILED").unwrap()));
		let ignored = libtest_check("test a::b ... ignored, needs more").unwrap();
		assert!(matches!(ignored.verdict, Verdict::Skipped(_)));
		assert!(libtest_check("test result: ok. 1 passed; 0 failed").is_none());
	}
}
