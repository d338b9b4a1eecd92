// SPDX-License-Identifier: GPL-2.0-only
//! Judges the figures: no one may miss its goal, or be worse than the reference.

use ::report::client::{Client, Exits, Work, short_part};
use anyhow::{Result, ensure};
use harness::check::Check;
use protocol::Column;

use super::plan::{self, GUESTS, GuestConfig, MARGIN, NOT_MORE, SHORT, WORKS};

/// At most the goal, or what was reached in the reference and the margin.
fn at_most(value: f64, goal: f64, reached: Option<f64>, margin: f64) -> Result<()> {
	let limit = reached.map_or(goal, |reached| goal.max(reached + margin));
	ensure!(
		value <= limit,
		"{:.1}%, not at most {:.1}%",
		value * 100.0,
		limit * 100.0
	);
	Ok(())
}

/// At least the goal, or what was reached in the reference.
fn short(exits: Exits, reached: Option<Exits>) -> Result<()> {
	let part = |exits| 1.0 - short_part(exits);
	at_most(part(exits), 1.0 - SHORT, reached.map(part), MARGIN)
}

/// Judges the parts of C's instructions that a kind of work needs. A guest that hardly ever leaves on
/// any path has none.
fn parts(guest: GuestConfig, work: &plan::Work, found: &Work, known: Option<&Work>) -> Vec<Check> {
	let check = |path: Column, goal| {
		let name = format!("cost, {guest}, {}, part of C, {}", work.name, path.name());
		let known = known.and_then(|known| known.part_of_c(path));
		let part = found.part_of_c(path);
		Check::of(
			name,
			part.map_or(Ok(()), |part| {
				at_most(part, goal, known, guest.margin(work))
			}),
		)
	};
	let goal = guest.goal(work).unwrap_or(NOT_MORE);
	vec![
		check(Column::RustFull, NOT_MORE),
		check(Column::RustFast, goal),
	]
}

/// Judges the figures of all guests.
pub(super) fn judge(client: &Client, reference: Option<&Client>) -> Vec<Check> {
	let mut checks = Vec::new();
	for guest in GUESTS {
		let name = guest.to_string();
		for work in &WORKS {
			let Some(found) = client.find(&name, work.name) else {
				continue;
			};
			let known = reference.and_then(|known| known.find(&name, work.name));
			checks.extend(parts(guest, work, found, known));
			if found.rust_fast.short_part().is_some() {
				let all = found.rust_fast.all();
				checks.push(Check::of(
					format!("cost, {name}, {}, exits by a short way", work.name),
					short(all, known.map(|known| known.rust_fast.all())),
				));
			}
		}
		let of_guest = |client: &Client| {
			let is_there = client.guests().contains(&name.as_str());
			is_there.then(|| client.all_exits(&name))
		};
		if let Some(all) = of_guest(client) {
			checks.push(Check::of(
				format!("cost, {name}, all exits by a short way"),
				short(all, reference.and_then(of_guest)),
			));
		}
	}
	checks
}

#[cfg(test)]
mod tests {
	use super::*;
	use ::report::client::sample;
	use harness::check::Verdict;

	fn failed(client: &Client, reference: Option<&Client>) -> Vec<String> {
		judge(client, reference)
			.into_iter()
			.filter(|check| matches!(check.verdict, Verdict::Failed(_)))
			.map(|check| check.name)
			.collect()
	}

	/// The first guest at its first work.
	fn client(fast: u64, short: u64) -> Client {
		let guest = GUESTS[0].to_string();
		sample(
			&guest,
			WORKS[0].name,
			[1000, 990, fast],
			[short, 100 - short],
		)
	}

	#[test]
	fn each_way_to_be_too_bad() {
		let none: [&str; 0] = [];
		assert_eq!(failed(&client(550, 95), None), none);
		let name = "cost, radix, XIVE, 1 vcpu, 4 KiB read, sequential";
		assert_eq!(
			failed(&client(551, 95), None),
			[format!("{name}, part of C, rust-fast")]
		);
		assert_eq!(
			failed(&client(550, 94), None),
			[
				format!("{name}, exits by a short way"),
				"cost, radix, XIVE, 1 vcpu, all exits by a short way".to_owned()
			]
		);
		let mut full = client(550, 95);
		full.works[0].rust_full.hypervisor *= 2;
		assert_eq!(
			failed(&full, None),
			[format!("{name}, part of C, rust-full")]
		);
	}

	#[test]
	fn what_was_reached_is_the_limit_where_the_goal_was_not() {
		let none: [&str; 0] = [];
		let reference = client(700, 60);
		assert_eq!(failed(&client(779, 53), Some(&reference)), none);
		assert_eq!(failed(&client(782, 53), Some(&reference)).len(), 1);
		assert_eq!(failed(&client(779, 51), Some(&reference)).len(), 2);
		// A guest that hardly ever leaves has no part worth the name.
		let mut few = client(5000, 95);
		few.works[0].c.count = 10_000;
		few.works[0].rust_full.count = 10_000;
		few.works[0].rust_fast.count = 10_000;
		assert_eq!(failed(&few, None), none);
		// A reference that is better than the goal asks for no more than the goal.
		assert_eq!(failed(&client(550, 95), Some(&client(300, 100))), none);
	}

	#[test]
	fn the_file_in_the_tree_is_good_enough_for_itself() {
		let text = include_str!("../../../../../../bench/reference-client.json");
		let client = Client::read(text).unwrap();
		let none: [&str; 0] = [];
		assert_eq!(failed(&client, Some(&client)), none);
		assert_eq!(client.guests().len(), GUESTS.len());
		// It misses goals, and so do runs without it.
		assert!(!failed(&client, None).is_empty());
	}
}
