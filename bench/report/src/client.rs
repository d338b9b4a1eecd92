// SPDX-License-Identifier: GPL-2.0-only
//! What a real guest leaves for, and what that costs, as a file.
//!
//! A stage of the tests measures this on a guest with an operating system. The file has the
//! figures of one run, and is what later runs are judged by.

use std::collections::BTreeMap;

use protocol::Column;
use serde::{Deserialize, Serialize};

use crate::table::{Table, grouped};

/// The figures, and of which run they are.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Client {
	/// When they were measured.
	pub date: String,
	/// On which kernel.
	pub kernel: String,
	/// Each kind of work of each guest.
	pub works: Vec<Work>,
	/// The boot of each guest, on the Rust path with fast handlers and light exits.
	pub boots: Vec<Boot>,
}

/// What one kind of work of a guest costs.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Work {
	/// Which guest.
	pub guest: String,
	/// What it does.
	pub work: String,
	/// On the C path.
	pub c: Cost,
	/// On the Rust path without fast handlers and light exits.
	#[serde(rename = "rust-full")]
	pub rust_full: Cost,
	/// On the Rust path with both.
	#[serde(rename = "rust-fast")]
	pub rust_fast: Cost,
}

/// Of one kind of work on one path.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Cost {
	/// How often the guest did it.
	pub count: u64,
	/// Instructions of kernel and firmware in the vcpus' threads, from exit to entry.
	pub hypervisor: u64,
	/// Instructions of the VMM in these threads, from exit to entry.
	pub userspace: u64,
	/// Instructions of kernel and firmware in other threads, without the idle ones.
	pub others: u64,
	/// Exits by what the guest left for.
	pub exits: BTreeMap<String, Exits>,
}

/// Exits for one reason, by the way that they took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Exits {
	/// Answered by a fast handler.
	pub fast: u64,
	/// By a light exit.
	pub light: u64,
	/// By a full exit, without those that slept.
	pub full: u64,
	/// H_CEDE after which the vcpu slept.
	pub slept: u64,
	/// Instructions of all of them: of kernel and firmware in the vcpus' threads.
	pub hypervisor: u64,
}

/// Exits of a guest's boot, as the counters tell them.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Boot {
	/// Which guest.
	pub guest: String,
	/// How much each counter grew, if it did.
	pub counters: BTreeMap<String, u64>,
}

impl Exits {
	/// Those that could have taken a short way: all that did not sleep.
	pub fn awake(&self) -> u64 {
		self.short() + self.full
	}

	/// Those that took a short way.
	pub fn short(&self) -> u64 {
		self.fast + self.light
	}

	/// Adds others.
	pub fn add(&mut self, more: Self) {
		self.fast += more.fast;
		self.light += more.light;
		self.full += more.full;
		self.slept += more.slept;
		self.hypervisor += more.hypervisor;
	}
}

/// The part of the exits that took a short way, of those that did not sleep. All of them, if there
/// were none.
pub fn short_part(exits: Exits) -> f64 {
	match exits.awake() {
		0 => 1.0,
		awake => exits.short() as f64 / awake as f64,
	}
}

/// Less than one exit in so many times that the guest does something is hardly any. Most of these
/// are the host's own timer.
const FEW_TIMES: u64 = 2;

/// Fewer exits in all have no part worth the name.
const FEW: u64 = 50;

impl Cost {
	/// Whether the guest hardly ever leaves.
	pub fn has_few_exits(&self) -> bool {
		let all = self.all();
		(all.awake() + all.slept) * FEW_TIMES < self.count
	}

	/// The part of the exits that took a short way, if there are enough.
	pub fn short_part(&self) -> Option<f64> {
		let all = self.all();
		(all.awake() >= FEW).then(|| short_part(all))
	}

	/// All exits.
	pub fn all(&self) -> Exits {
		let mut all = Exits::default();
		self.exits.values().for_each(|exits| all.add(*exits));
		all
	}

	/// Instructions of the hypervisor for each time that the guest did it.
	pub fn each(&self) -> f64 {
		self.hypervisor as f64 / self.count as f64
	}
}

impl Work {
	/// On a path.
	pub fn on(&self, path: Column) -> Option<&Cost> {
		match path {
			// The stage runs on the kernels of this tree only.
			Column::Asm510 => None,
			Column::C => Some(&self.c),
			Column::RustFull => Some(&self.rust_full),
			Column::RustFast => Some(&self.rust_fast),
		}
	}

	/// The part of C's instructions that a path needs, if the guest leaves often enough.
	pub fn part_of_c(&self, path: Column) -> Option<f64> {
		let ours = self.on(path)?;
		match self.c.has_few_exits() && ours.has_few_exits() {
			true => None,
			false => Some(ours.each() / self.c.each()),
		}
	}
}

impl Client {
	/// From a file's content.
	pub fn read(text: &str) -> Result<Self, String> {
		let client: Self = serde_json::from_str(text).map_err(|why| why.to_string())?;
		match client.works.is_empty() {
			true => Err("no work was measured".to_owned()),
			false => Ok(client),
		}
	}

	/// The figures of that work, if they are there.
	pub fn find(&self, guest: &str, work: &str) -> Option<&Work> {
		let is_it = |one: &&Work| one.guest == guest && one.work == work;
		self.works.iter().find(is_it)
	}

	/// The guests, in their order.
	pub fn guests(&self) -> Vec<&str> {
		let mut guests: Vec<&str> = self.works.iter().map(|work| work.guest.as_str()).collect();
		guests.dedup();
		guests
	}

	/// All exits of a guest on the Rust path with fast handlers and light exits.
	pub fn all_exits(&self, guest: &str) -> Exits {
		let mut all = Exits::default();
		for work in self.works.iter().filter(|work| work.guest == guest) {
			all.add(work.rust_fast.all());
		}
		all
	}

	/// The table of costs.
	pub fn costs(&self) -> String {
		let header = [
			"",
			"C",
			"Rust full",
			"Rust fast",
			"of C",
			"exits",
			"slept",
			"fast",
			"light",
			"full",
			"short",
		];
		let mut table = Table::new(1, &header);
		for guest in self.guests() {
			table.title(guest);
			for work in self.works.iter().filter(|work| work.guest == guest) {
				let fast = &work.rust_fast;
				let all = fast.all();
				let each = |cost: &Cost| grouped(&format!("{:.0}", cost.each()));
				let rate = |exits: u64| format!("{:.2}", exits as f64 / fast.count as f64);
				table.row([
					format!("  {}", work.work),
					each(&work.c),
					each(&work.rust_full),
					each(fast),
					percent(work.part_of_c(Column::RustFast)),
					rate(all.awake() + all.slept),
					rate(all.slept),
					rate(all.fast),
					rate(all.light),
					rate(all.full),
					percent(fast.short_part()),
				]);
			}
			let all = self.all_exits(guest);
			let mut cells = vec![String::new(); header.len()];
			cells[0] = "  all exits".to_owned();
			cells[10] = percent(Some(short_part(all)));
			table.row(cells);
		}
		table.render()
	}

	/// The table of reasons, on the Rust path with fast handlers and light exits.
	pub fn reasons(&self) -> String {
		let mut table = Table::new(
			1,
			&[
				"",
				"exits",
				"slept",
				"fast",
				"light",
				"full",
				"instructions",
			],
		);
		for work in &self.works {
			let cost = &work.rust_fast;
			if cost.exits.is_empty() {
				continue;
			}
			table.title(&format!("{}, {}", work.guest, work.work));
			let mut reasons: Vec<_> = cost.exits.iter().collect();
			reasons.sort_by_key(|(_, exits)| std::cmp::Reverse(exits.hypervisor));
			for (reason, exits) in reasons {
				let rate = |exits: u64| format!("{:.3}", exits as f64 / cost.count as f64);
				table.row([
					format!("  {reason}"),
					rate(exits.awake() + exits.slept),
					rate(exits.slept),
					rate(exits.fast),
					rate(exits.light),
					rate(exits.full),
					grouped(&format!(
						"{:.0}",
						exits.hypervisor as f64 / cost.count as f64
					)),
				]);
			}
		}
		table.render()
	}
}

fn percent(part: Option<f64>) -> String {
	part.map_or_else(|| "-".to_owned(), |part| format!("{:.1}%", part * 100.0))
}

/// Figures that are made up, for tests: of one kind of work, the instructions on each path, and the
/// exits that take a short way and a full one.
pub fn sample(guest: &str, work: &str, each: [u64; 3], [short, full]: [u64; 2]) -> Client {
	let exits = Exits {
		light: short,
		full,
		slept: 7,
		..Exits::default()
	};
	let [c, rust_full, rust_fast] = each.map(|each| Cost {
		count: 100,
		hypervisor: 100 * each,
		userspace: 0,
		others: 0,
		exits: BTreeMap::from([("H_CEDE".to_owned(), exits)]),
	});
	Client {
		date: "2026-11-29".to_owned(),
		kernel: "6.12".to_owned(),
		works: vec![Work {
			guest: guest.to_owned(),
			work: work.to_owned(),
			c,
			rust_full,
			rust_fast,
		}],
		boots: Vec::new(),
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_vcpu_that_sleeps_takes_no_way() {
		let client = sample("radix", "read", [1000, 900, 500], [190, 10]);
		let work = client.find("radix", "read").unwrap();
		assert_eq!(short_part(work.rust_fast.all()), 0.95);
		assert_eq!(short_part(Exits::default()), 1.0);
		assert_eq!(work.part_of_c(Column::RustFast), Some(0.5));
		assert_eq!(work.part_of_c(Column::Asm510), None);
		assert!(client.find("hash", "read").is_none());
	}

	#[test]
	fn the_tables_have_all_that_was_measured() {
		let client = sample("radix", "read", [1000, 900, 500], [190, 10]);
		let words = |text: &str, row: &str| {
			let line = text.lines().find(|line| line.starts_with(row)).unwrap();
			line.split_whitespace().collect::<Vec<_>>().join(" ")
		};
		assert_eq!(
			words(&client.costs(), "  read"),
			"read 1,000 900 500 50.0% 2.07 0.07 0.00 1.90 0.10 95.0%"
		);
		assert_eq!(words(&client.costs(), "  all exits"), "all exits 95.0%");
		// A guest that hardly ever leaves has no parts.
		let mut few = sample("radix", "read", [1000, 900, 500], [20, 10]);
		assert_eq!(
			words(&few.costs(), "  read"),
			"read 1,000 900 500 - 0.37 0.07 0.00 0.20 0.10 -"
		);
		few.works[0].rust_fast.exits.clear();
		assert_eq!(few.reasons().lines().count(), 2);
		assert_eq!(
			words(&client.reasons(), "  H_CEDE"),
			"H_CEDE 2.070 0.070 0.000 1.900 0.100 0"
		);
	}

	#[test]
	fn a_file_without_figures_is_refused() {
		let text = r#"{"date": "", "kernel": "", "works": [], "boots": []}"#;
		assert!(Client::read(text).unwrap_err().contains("no work"));
		assert!(Client::read("[]").is_err());
	}
}
