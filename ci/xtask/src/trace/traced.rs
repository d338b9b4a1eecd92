// SPDX-License-Identifier: GPL-2.0-only
//! One round trip as the plugin recorded it: instructions, costly operations and phases.

use std::collections::BTreeMap;

use ::report::console::Cell;
use ::report::report;
use ::trace::attribute::{self, Labelled};
use ::trace::format::state;
use ::trace::round;
use ::trace::symbols::{Origin, Symbols};
use model::ModelInsn;

/// One cell's round trip.
#[derive(Clone)]
pub struct Traced {
	/// Which.
	pub cell: Cell,
	/// Instructions, without the loop.
	pub instructions: f64,
	/// How many round trips of those recorded were exactly this one.
	pub same: usize,
	/// Of how many.
	pub of: usize,
	/// Instructions of the whole batch, from one read of the timebase to the other.
	pub batch: u64,
	/// What the timebase said of it, in its ticks.
	pub ticks: u64,
	/// Operations per round trip, without the loop's.
	pub costly: BTreeMap<String, f64>,
	/// Phases, without the loop; empty without symbols.
	pub phases: Vec<report::Phase>,
	/// The longest stretches of consecutive instructions without the host.
	pub longest: report::Longest,
	/// What was executed in `trips` round trips, for the model.
	pub steps: Vec<ModelInsn>,
	/// One, if one stands for all; else as many as were recorded.
	pub trips: usize,
	/// The loop alone, once.
	pub empty: Vec<ModelInsn>,
}

impl Traced {
	/// Whether the whole batch is as long as the guest's timebase says.
	///
	/// QEMU's virtual time may have counted a few more: see [`Case::overcounted`].
	pub(super) fn exact(&self) -> bool {
		let over = self.cell.case.overcounted * self.of as u64;
		(self.batch..=self.batch + over).any(|instructions| round::agrees(instructions, self.ticks))
	}

	pub(super) fn new(
		cell: Cell,
		calls: &round::Round,
		empty: &round::Round,
		(batch, ticks): (u64, u64),
		symbols: Option<&Symbols>,
	) -> Self {
		let none = Symbols::unknown();
		let labelled = attribute::label(calls, symbols.unwrap_or(&none));
		let looped = attribute::label(empty, symbols.unwrap_or(&none));
		let trips = calls.trips as f64;
		// Of one trip, but for the loop; there is no less than nothing.
		let share = |count: u64, looped: usize| (count as f64 / trips - looped as f64).max(0.0);
		let mut costly = attribute::count(&labelled);
		costly.values_mut().for_each(|count| *count /= trips);
		for (name, count) in attribute::count(&looped) {
			if let Some(rest) = costly.get_mut(&name) {
				*rest -= count;
			}
		}
		costly.retain(|_, count| *count > 0.0);
		let mut phases = Vec::new();
		// Whose the loop is: the guest's, or, where none is entered, the VMM's.
		let loops = |kind| kind == looped.first().map_or(Origin::Guest, |step| step.kind);
		let mut rest = looped.len();
		if symbols.is_some() {
			for part in attribute::phases(&labelled) {
				let mut less = 0;
				let functions = part
					.functions
					.into_iter()
					.map(|one| {
						let there = (one.instructions as f64 / trips) as usize;
						let own = if loops(one.kind) { rest.min(there) } else { 0 };
						rest -= own;
						less += own;
						report::Function {
							name: one.name,
							kind: kind(one.kind),
							instructions: share(one.instructions, own),
						}
					})
					.collect();
				phases.push(report::Phase {
					name: part.phase.to_string(),
					instructions: share(part.instructions, less),
					modelled_cycles: None,
					functions,
				});
			}
		}
		let steps = |labelled: &[Labelled<'_>]| {
			labelled
				.iter()
				.map(|step| ModelInsn {
					op: step.op,
					jumps: step.jumps,
					phase: step.phase,
				})
				.collect::<Vec<_>>()
		};
		Self {
			cell,
			instructions: labelled.len() as f64 / trips - looped.len() as f64,
			same: calls.same,
			of: calls.of,
			batch,
			ticks,
			costly,
			phases,
			longest: report::Longest {
				interrupts_off: calls.longest(state::INTERRUPTS_OFF),
				guest_mode: calls.longest(state::GUEST_MODE),
			},
			trips: calls.trips,
			steps: steps(&labelled),
			empty: steps(&looped),
		}
	}
}

fn kind(kind: Origin) -> report::Origin {
	match kind {
		Origin::Guest => report::Origin::Guest,
		Origin::Asm => report::Origin::Asm,
		Origin::Trampoline => report::Origin::Trampoline,
		Origin::Rust => report::Origin::Rust,
		Origin::C => report::Origin::C,
		Origin::User => report::Origin::User,
	}
}
