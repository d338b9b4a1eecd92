// SPDX-License-Identifier: GPL-2.0-only
//! Spans and costs that are made up, for the tests of this folder.

use std::collections::BTreeMap;

use ::trace::span::{self, ExitReason, Sort, Span};
use hcall::Number;

use super::costs::Cost;
use super::section::{PATHS, sections};

const INDIRECT: ExitReason = ExitReason::Hcall(Number::PUT_TCE_INDIRECT.0);
pub(super) const STUFF: ExitReason = ExitReason::Hcall(Number::STUFF_TCE.0);
const CEDE: ExitReason = ExitReason::Hcall(Number::CEDE.0);

pub(super) fn spans(all: &[(ExitReason, [u64; 3], u64, u64)]) -> BTreeMap<Span, u64> {
	let spans = all.iter().map(|&(event, instructions, interrupts, count)| {
		let span = Span {
			sort: Sort {
				event,
				landmarks: 0,
			},
			instructions,
			interrupts,
			switches: 0,
		};
		(span, count)
	});
	spans.collect()
}

pub(super) fn section(tag: u64, each: u64) -> span::Recording {
	span::Recording {
		tag,
		spans: spans(&[
			(INDIRECT, [each, 100, 0], 0, 9),
			(INDIRECT, [each + 500, 100, 0], 1, 1),
			(STUFF, [each, 0, 0], 0, 10),
			(CEDE, [1000, 0, 0], 0, 2),
			(CEDE, [1000, 0, 700], 0, 1),
			(ExitReason::Vector(0x980), [300, 0, 0], 0, 1),
		]),
		..span::Recording::default()
	}
}

pub(super) fn costs(each: [u64; 3]) -> Vec<Cost> {
	sections()
		.map(|which| {
			let path = PATHS.iter().position(|&path| path == which.path).unwrap();
			Cost::new(which, &[section(which.tag, each[path])], 10).unwrap()
		})
		.collect()
}
