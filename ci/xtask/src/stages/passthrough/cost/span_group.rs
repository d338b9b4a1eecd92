// SPDX-License-Identifier: GPL-2.0-only
//! Spans of one kind, summed up: how many, their mean, their median.

use std::collections::BTreeMap;

use ::trace::span::{ExitReason, Part, Span};
use serde::Serialize;

/// Spans of one kind, in a section. Instructions are the hypervisor's.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct SpanGroup {
	pub(super) name: String,
	/// How many there were.
	pub(super) spans: u64,
	/// Instructions of all of them together.
	pub(super) instructions: u64,
	/// Of one, the mean of all.
	pub(super) mean: f64,
	/// The middle one.
	pub(super) median: u64,
	/// How many were left alone by interrupts and userspace.
	pub(super) quiet_spans: u64,
	/// The mean of these; of all, if there are none.
	pub(super) quiet_mean: f64,
	/// Of `mean`, the firmware's part.
	pub(super) firmware: f64,
	/// Of `mean`, the part of userspace: QEMU and all other processes that ran.
	pub(super) userspace: f64,
}

impl SpanGroup {
	/// `None` if there are none.
	pub(super) fn new(
		name: &str,
		spans: &BTreeMap<Span, u64>,
		which: impl Fn(ExitReason) -> bool,
	) -> Option<Self> {
		let mut ours: Vec<(Span, u64)> = spans
			.iter()
			.filter(|(span, _)| which(span.sort.event))
			.map(|(&span, &count)| (span, count))
			.collect();
		ours.sort_by_key(|(span, _)| span.len());
		let count: u64 = ours.iter().map(|(_, count)| count).sum();
		let (mut before, mut median) = (0, None);
		for (span, many) in &ours {
			before += many;
			if median.is_none() && 2 * before >= count {
				median = Some(span.len());
			}
		}
		let sum = |of: &dyn Fn(&Span) -> u64| -> u64 {
			ours.iter().map(|(span, count)| of(span) * count).sum()
		};
		let instructions = sum(&Span::len);
		let quiet_spans = sum(&|span| u64::from(span.is_quiet()));
		let quiet = sum(&|span| if span.is_quiet() { span.len() } else { 0 });
		let mean = |sum: u64| sum as f64 / count as f64;
		Some(Self {
			name: name.to_owned(),
			spans: count,
			instructions,
			mean: mean(instructions),
			median: median?,
			quiet_spans,
			quiet_mean: match quiet_spans {
				0 => mean(instructions),
				spans => quiet as f64 / spans as f64,
			},
			firmware: mean(sum(&|span| span.instructions[Part::Firmware as usize])),
			userspace: mean(sum(&|span| span.instructions[Part::User as usize])),
		})
	}
}

#[cfg(test)]
mod tests {
	use super::super::sample::{STUFF, spans};
	use super::*;

	#[test]
	fn a_median_counts_spans() {
		let of = |counts: &[(u64, u64)]| {
			let all: Vec<_> = counts
				.iter()
				.map(|&(len, count)| (STUFF, [len, 0, 0], 0, count))
				.collect();
			SpanGroup::new("", &spans(&all), |_| true).map(|group| group.median)
		};
		assert_eq!(of(&[(1, 2), (9, 3)]), Some(9));
		assert_eq!(of(&[(1, 3), (9, 2)]), Some(1));
		assert_eq!(of(&[(1, 1), (5, 1), (9, 1)]), Some(5));
		assert_eq!(of(&[]), None);
	}
}
