// SPDX-License-Identifier: GPL-2.0-only
//! From what was recorded to figures.

use std::collections::BTreeMap;

use ::report::client::{Cost, Exits};
use ::trace::span::{self, ExitReason, Part, Way, landmark};
use anyhow::{Result, ensure};
use hcall::Number;

/// The names of hcalls that a real guest makes at work.
const HCALLS: [(Number, &str); 20] = [
	(Number::REMOVE, "H_REMOVE"),
	(Number::ENTER, "H_ENTER"),
	(Number::READ, "H_READ"),
	(Number::CLEAR_MOD, "H_CLEAR_MOD"),
	(Number::CLEAR_REF, "H_CLEAR_REF"),
	(Number::PROTECT, "H_PROTECT"),
	(Number::BULK_REMOVE, "H_BULK_REMOVE"),
	(Number::EOI, "H_EOI"),
	(Number::CPPR, "H_CPPR"),
	(Number::IPI, "H_IPI"),
	(Number::IPOLL, "H_IPOLL"),
	(Number::XIRR, "H_XIRR"),
	(Number::XIRR_X, "H_XIRR_X"),
	(Number::CEDE, "H_CEDE"),
	(Number::CONFER, "H_CONFER"),
	(Number::PROD, "H_PROD"),
	(Number::STUFF_TCE, "H_STUFF_TCE"),
	(Number::RANDOM, "H_RANDOM"),
	(Number::SET_MODE, "H_SET_MODE"),
	(Number::PUT_TCE_INDIRECT, "H_PUT_TCE_INDIRECT"),
];

/// What a guest leaves for, by the vector.
const VECTORS: [(u16, &str); 9] = [
	(0x500, "external interrupt"),
	(0x980, "timer of the host"),
	(0xe00, "data storage"),
	(0xe20, "instruction storage"),
	(0xe40, "emulation assistance"),
	(0xe80, "doorbell of the host"),
	(0xea0, "interrupt of the host"),
	(0xf80, "facility unavailable"),
	(0x1500, "softpatch"),
];

/// A reason in words.
pub(super) fn reason(event: ExitReason) -> String {
	let known = match event {
		ExitReason::Hcall(number) => HCALLS
			.iter()
			.find(|(known, _)| known.0 == number)
			.map(|(_, name)| *name),
		ExitReason::Vector(vector) => VECTORS
			.iter()
			.find(|(known, _)| *known == vector)
			.map(|(_, name)| *name),
		ExitReason::Lost => None,
	};
	known.map_or_else(|| event.to_string(), str::to_owned)
}

/// What a section has cost.
pub(super) fn cost(section: &span::Recording, count: u64) -> Result<Cost> {
	let mut exits: BTreeMap<String, Exits> = BTreeMap::new();
	let (mut hypervisor, mut userspace) = (0, 0);
	for (span, &times) in &section.spans {
		let event = span.sort.event;
		ensure!(
			event != ExitReason::Lost,
			"{times} exits came through no vector"
		);
		let ours = exits.entry(reason(event)).or_default();
		let slept = event == ExitReason::Hcall(Number::CEDE.0) && span.switches != 0;
		let way = match span.way() {
			Way::Fast => &mut ours.fast,
			Way::Light => &mut ours.light,
			Way::Full if slept => &mut ours.slept,
			Way::Full => &mut ours.full,
		};
		*way += times;
		ours.hypervisor += span.hypervisor() * times;
		hypervisor += span.hypervisor() * times;
		userspace += span.instructions[Part::User as usize] * times;
	}
	let busy = section
		.others
		.iter()
		.filter(|(landmarks, _)| *landmarks & landmark::IDLE == 0);
	let others = busy
		.map(|(_, all)| all[Part::Kernel as usize] + all[Part::Firmware as usize])
		.sum();
	ensure!(count != 0, "the guest did nothing");
	Ok(Cost {
		count,
		hypervisor,
		userspace,
		others,
		exits,
	})
}

#[cfg(test)]
mod tests {
	use super::*;
	use ::trace::span::{Sort, Span};

	fn spans(all: &[(ExitReason, u8, u64, u64)]) -> span::Recording {
		let spans = all.iter().map(|&(event, landmarks, switches, count)| {
			let span = Span {
				sort: Sort { event, landmarks },
				instructions: [100, 10, 1],
				interrupts: 0,
				switches,
			};
			(span, count)
		});
		span::Recording {
			spans: spans.collect(),
			others: BTreeMap::from([(0, [7, 2, 5]), (landmark::IDLE, [90, 0, 0])]),
			..span::Recording::default()
		}
	}

	const CEDE: ExitReason = ExitReason::Hcall(Number::CEDE.0);

	#[test]
	fn exits_are_counted_by_reason_and_way() {
		let section = spans(&[
			(CEDE, 0, 0, 5),
			(CEDE, landmark::FULL, 1, 3),
			(CEDE, landmark::FULL, 0, 2),
			(ExitReason::Vector(0xe00), landmark::LIGHT, 0, 4),
			(
				ExitReason::Vector(0xe00),
				landmark::LIGHT | landmark::FULL,
				1,
				1,
			),
			(ExitReason::Hcall(0x58), landmark::FULL, 1, 1),
		]);
		let cost = cost(&section, 10).unwrap();
		let exits = |fast, light, full, slept| Exits {
			fast,
			light,
			full,
			slept,
			hypervisor: 110 * (fast + light + full + slept),
		};
		let wanted = BTreeMap::from([
			("H_CEDE".to_owned(), exits(5, 0, 2, 3)),
			("data storage".to_owned(), exits(0, 4, 1, 0)),
			("hcall:58".to_owned(), exits(0, 0, 1, 0)),
		]);
		assert_eq!(cost.exits, wanted);
		assert_eq!(
			(cost.hypervisor, cost.userspace, cost.others),
			(16 * 110, 16, 9)
		);
	}

	#[test]
	fn what_was_not_seen_is_no_figure() {
		assert!(cost(&spans(&[(ExitReason::Lost, 0, 0, 1)]), 10).is_err());
		assert!(cost(&spans(&[]), 0).is_err());
	}
}
