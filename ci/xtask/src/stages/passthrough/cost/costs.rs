// SPDX-License-Identifier: GPL-2.0-only
//! What a section has cost: its TCE hcalls, other hcalls and other exits.

use ::trace::span::{self, ExitReason};
use anyhow::{Result, bail, ensure};
use protocol::Column;
use serde::Serialize;

use super::section::{Section, TCE};
use super::span_group::SpanGroup;

/// What a section has cost.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Cost {
	pub(super) path: &'static str,
	pub(super) round: u64,
	pub(super) reads: u64,
	/// Each TCE hcall that occurred.
	pub(super) tce: Vec<SpanGroup>,
	/// Other hcalls, and other exits, if there were any.
	pub(super) others: Vec<SpanGroup>,
	/// Instructions per read for TCE hcalls: the quiet mean for each of them.
	pub(super) tce_per_read: f64,
	/// Instructions per read for all exits, everything included.
	pub(super) all_per_read: f64,
}

impl Cost {
	pub(super) fn new(section: Section, recorded: &[span::Recording], reads: u64) -> Result<Self> {
		let mut of_tag = recorded.iter().filter(|one| one.tag == section.tag);
		let (Some(recorded), None) = (of_tag.next(), of_tag.next()) else {
			bail!("it was not recorded, or twice");
		};
		let spans = &recorded.spans;
		let all = |which: &dyn Fn(ExitReason) -> bool| SpanGroup::new("all", spans, which);
		if let Some(group) = all(&|event| event == ExitReason::Lost) {
			bail!("{} exits came through no vector", group.spans);
		}
		let is_tce = |event| {
			TCE.iter()
				.any(|(number, _)| event == ExitReason::Hcall(number.0))
		};
		let is_hcall = |event| matches!(event, ExitReason::Hcall(_));
		let tce: Vec<SpanGroup> = TCE
			.iter()
			.filter_map(|(number, name)| {
				SpanGroup::new(name, spans, |event| event == ExitReason::Hcall(number.0))
			})
			.collect();
		let hcalls: u64 = tce.iter().map(|group| group.spans).sum();
		// One that maps and one that unmaps.
		ensure!(
			hcalls >= 2 * reads,
			"only {hcalls} TCE hcalls in {reads} reads"
		);
		let others = [
			SpanGroup::new("other hcalls", spans, |event| {
				is_hcall(event) && !is_tce(event)
			}),
			SpanGroup::new("other exits", spans, |event| !is_hcall(event)),
		];
		let share: f64 = tce
			.iter()
			.map(|group| group.quiet_mean * group.spans as f64)
			.sum();
		let everything = all(&|_| true).map_or(0, |group| group.instructions);
		Ok(Self {
			path: section.path.name(),
			round: section.round,
			reads,
			tce,
			others: others.into_iter().flatten().collect(),
			tce_per_read: share / reads as f64,
			all_per_read: everything as f64 / reads as f64,
		})
	}
}

/// Mean over the rounds on a path.
pub(super) fn mean(costs: &[Cost], path: Column, of: impl Fn(&Cost) -> f64) -> Option<f64> {
	let values: Vec<f64> = costs
		.iter()
		.filter(|cost| cost.path == path.name())
		.map(of)
		.collect();
	(!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

#[cfg(test)]
mod tests {
	use super::super::sample::{costs, section, spans};
	use super::super::section::sections;
	use super::*;

	#[test]
	fn shares_are_of_what_was_left_alone() {
		let costs = costs([1000, 1000, 1000]);
		let cost = &costs[0];
		let indirect = &cost.tce[0];
		assert_eq!(
			(indirect.name.as_str(), indirect.spans),
			("H_PUT_TCE_INDIRECT", 10)
		);
		assert_eq!((indirect.quiet_spans, indirect.quiet_mean), (9, 1100.0));
		assert_eq!(
			(indirect.mean, indirect.median, indirect.firmware),
			(1150.0, 1100, 100.0)
		);
		assert_eq!(cost.tce_per_read, 2100.0);
		assert_eq!(cost.others[0].userspace, 700.0 / 3.0);
		// 11500, 10000, 3700 and 300 in ten reads.
		assert_eq!(cost.all_per_read, 2550.0);
	}

	#[test]
	fn what_was_not_seen_is_no_cost() {
		let first = sections().next().unwrap();
		let error = |recorded: &[span::Recording], reads| {
			Cost::new(first, recorded, reads).unwrap_err().to_string()
		};
		assert_eq!(error(&[], 10), "it was not recorded, or twice");
		let twice = [section(1, 5), section(1, 5)];
		assert_eq!(error(&twice, 10), "it was not recorded, or twice");
		assert_eq!(
			error(&[section(1, 5)], 11),
			"only 20 TCE hcalls in 11 reads"
		);
		let mut lost = section(1, 5);
		lost.spans
			.extend(spans(&[(ExitReason::Lost, [1, 0, 0], 0, 3)]));
		assert_eq!(error(&[lost], 10), "3 exits came through no vector");
	}
}
