// SPDX-License-Identifier: GPL-2.0-only
//! A report, with what the sections look up in it: cases, rows, and why figures are missing.

use cases::{CASES, Case};
use maud::{Markup, html};
use protocol::{Column, GuestMode};

use super::parts::{dash, reason_link};
use crate::headline;
use crate::report::{Entry, Report};

/// A case in a guest.
pub(super) type Row = (&'static Case, GuestMode);

/// The report, and what is found in it again and again.
pub(super) struct Page<'a> {
	pub(super) report: &'a Report,
	/// Cases with any figure or reason, and the guests that have them.
	pub(super) cases: Vec<(&'static Case, Vec<GuestMode>)>,
	/// Why figures are missing, each reason once: its number is its place here.
	pub(super) reasons: Vec<&'a str>,
}

impl<'a> Page<'a> {
	pub(super) fn new(report: &'a Report) -> Self {
		let known = |case, guest| {
			let path = |path| {
				report.get(case, guest, path).is_some()
					|| report.missing(case, guest, path).is_some()
			};
			Column::ALL.into_iter().any(path)
		};
		let guests = |case| {
			GuestMode::ALL
				.into_iter()
				.filter(move |&guest| known(case, guest))
		};
		let cases = CASES
			.iter()
			.map(|case| (case, guests(case).collect::<Vec<_>>()))
			.filter(|(_, guests)| !guests.is_empty())
			.collect();
		let mut reasons: Vec<&str> = Vec::new();
		for missing in &report.missing {
			if !reasons.contains(&missing.why.as_str()) {
				reasons.push(&missing.why);
			}
		}
		Self {
			report,
			cases,
			reasons,
		}
	}

	fn rows(&self) -> impl Iterator<Item = Row> {
		self.cases
			.iter()
			.flat_map(|(case, guests)| guests.iter().map(move |guest| (*case, *guest)))
	}

	pub(super) fn entries(&self, (case, guest): Row) -> impl Iterator<Item = &'a Entry> {
		let report = self.report;
		Column::ALL
			.into_iter()
			.filter_map(move |path| report.get(case, guest, path))
	}

	/// The rows whose phases and costly operations are shown: those that the page begins
	/// with. A report without any of them has its first rows shown. All rows would make a
	/// page of several megabytes, and are in report.json.
	pub(super) fn detailed(&self, has: impl Fn(&Entry) -> bool) -> Vec<Row> {
		let all = self.rows_with(has);
		let chosen: Vec<Row> = all
			.iter()
			.copied()
			.filter(|(case, mode)| *mode == headline::MODE && headline::CASES.contains(case))
			.collect();
		if chosen.is_empty() {
			all.into_iter().take(headline::CASES.len()).collect()
		} else {
			chosen
		}
	}

	fn rows_with(&self, has: impl Fn(&Entry) -> bool) -> Vec<Row> {
		self.rows()
			.filter(|&row| self.entries(row).any(&has))
			.collect()
	}

	/// "n/a" or "failed", and the number of the reason.
	pub(super) fn absence(
		&self,
		(case, guest): Row,
		path: Column,
	) -> Option<(&'static str, usize)> {
		let missing = self.report.missing(case, guest, path)?;
		let index = self.reasons.iter().position(|&why| why == missing.why)?;
		let what = if missing.failed { "failed" } else { "n/a" };
		Some((what, index + 1))
	}

	/// A table's cell for what has no figure, and what wasn't done if there is no reason.
	pub(super) fn absent(&self, row: Row, path: Column, not: &str) -> Markup {
		html! {
			@match self.absence(row, path) {
				Some((what, number)) => {
					span.absent { (what) " " (reason_link(number)) }
				}
				None => (dash(not)),
			}
		}
	}
}
