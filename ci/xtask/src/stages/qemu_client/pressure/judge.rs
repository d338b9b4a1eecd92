// SPDX-License-Identifier: GPL-2.0-only
//! Judges a guest under memory pressure by what host and guest printed.

use anyhow::{Context, Result, bail, ensure};
use diskcheck::memory::MemoryPlan;

use super::{GUEST, GuestPath, PROCESS, PROCESSES, ROUNDS};
use crate::client::{Transcript, dmesg, expect, power_off};

/// Pages of a MiB, of the host's and of the guest's size.
const PAGES: u64 = 16;

/// How many pages the guest must have swapped in each direction: half of its memory. Some 8,000 out
/// and 13,000 in were the fewest seen.
const SWAPPED: u64 = GUEST * PAGES / 2;

/// How many pages the host must have taken, and read again: as many as the guest has. 200,000 were
/// seen, because the host reads 2 MiB at a time where QEMU asks for huge pages.
const TAKEN: u64 = GUEST * PAGES;

/// What of the host's counters tells so.
const TAKES: [&str; 2] = ["pgsteal_file", "workingset_refault_file"];

/// Page table hcalls that a hash guest makes when it swaps and starts processes, and how many
/// at least must have been answered by fast handlers. In this order 25,000, 53,000, 1,400 and 2,700
/// were seen.
const FAST: [(&str, u64); 4] = [
	("fast_h_enter", 2048),
	("fast_h_remove", 2048),
	("fast_h_protect", 64),
	("fast_h_bulk_remove", 64),
];

/// The same hcalls, answered by Rust on the full path: 74,000 were seen.
const FULL: (&str, u64) = ("full_page_table", 4096);

/// How often the guest must have been entered by the path.
const ENTRIES: u64 = 1000;

/// Times that the file was read meanwhile.
const READ: u64 = 3;

impl GuestPath {
	pub(super) fn judge(
		self,
		seed: u64,
		transcript: &Transcript,
		end: Result<()>,
	) -> Vec<(&'static str, Result<()>)> {
		vec![
			("booted", self.booted(transcript)),
			("memory", memory(seed, transcript)),
			("file", file(transcript)),
			("guest swapped", swapped(transcript)),
			("host took pages", taken(transcript)),
			("counters", self.counters(transcript)),
			("guest dmesg", dmesg(transcript, "guest")),
			("host dmesg", dmesg(transcript, "host")),
			("power-off", power_off(transcript, end)),
		]
	}

	/// The path, the MMU and the CPUs that were asked for, and not enough memory.
	fn booted(self, transcript: &Transcript) -> Result<()> {
		let parameters = match self {
			Self::C => "c 1 1",
			Self::RustFull => "rust 0 0",
			Self::RustFast => "rust 1 1",
		};
		expect(transcript, "host path", parameters)?;
		transcript.one("guest release")?;
		expect(transcript, "guest cpus", "2")?;
		expect(transcript, "guest mmu", "Hash")?;
		let has = number(transcript.one("guest memory")?)?;
		let needs = PROCESSES * PROCESS;
		ensure!(
			has < needs,
			"the guest has {has} MiB, and needs only {needs}"
		);
		Ok(())
	}

	/// Which counters of kvm-p9 grew while the guest was under pressure.
	fn counters(self, transcript: &Transcript) -> Result<()> {
		let least = |(name, least)| (name, Some(least).filter(|_| self == Self::RustFast));
		let entries = Some(ENTRIES).filter(|_| self != Self::C);
		let mut wanted = vec![
			("entry_rust", entries),
			("c_cpu", None),
			("c_host_mmu", None),
			("c_secure", None),
		];
		wanted.extend(FAST.map(least));
		for (name, least) in wanted {
			let grown = grown(transcript, name)?;
			match least {
				Some(least) => ensure!(grown >= least, "{name} grew only by {grown}"),
				None => ensure!(grown == 0, "{name} grew by {grown} with {self}"),
			}
		}
		// A fast handler that finds a lock taken leaves the hcall to the full path.
		let (name, least) = FULL;
		let grown = grown(transcript, name)?;
		match self {
			Self::C => ensure!(grown == 0, "{name} grew by {grown} with {self}"),
			Self::RustFull => ensure!(grown >= least, "{name} grew only by {grown}"),
			Self::RustFast => {}
		}
		Ok(())
	}
}

fn number(text: &str) -> Result<u64> {
	text.parse()
		.with_context(|| format!("'{text}' is not a number"))
}

/// How much a counter of the host grew between the two lines of the guest.
fn grown(transcript: &Transcript, name: &str) -> Result<u64> {
	let at = |when: &str| {
		let begin = format!("{when} {name} ");
		let all = transcript.all("host counter");
		let mut values = all.iter().filter_map(|line| line.strip_prefix(&begin));
		match (values.next(), values.next()) {
			(Some(value), None) => number(value),
			_ => bail!("not one counter {name} {when}"),
		}
	};
	let (before, after) = (at("before")?, at("after")?);
	after
		.checked_sub(before)
		.with_context(|| format!("{name} was {before}, and {after} later"))
}

/// Each process found what it had written, in each round, and the byte that it had spoilt.
fn memory(seed: u64, transcript: &Transcript) -> Result<()> {
	let found = transcript.all("guest checked");
	let wanted: Vec<_> = (1..=PROCESSES)
		.map(|process| MemoryPlan::new(seed, process, PROCESS).report(ROUNDS))
		.collect();
	if let Some((found, wanted)) = found
		.iter()
		.zip(&wanted)
		.find(|(found, wanted)| found != wanted)
	{
		bail!("'{found}', not '{wanted}'");
	}
	ensure!(
		found.len() == wanted.len(),
		"{} processes, not {PROCESSES}",
		found.len()
	);
	Ok(())
}

/// All readers of the file found the same, and what was there first.
fn file(transcript: &Transcript) -> Result<()> {
	let text = transcript.one("guest file")?;
	match text.split_whitespace().collect::<Vec<_>>()[..] {
		[first, count, last] if first.len() == 32 && first == last => {
			ensure!(number(count)? >= READ, "read only {count} times");
			Ok(())
		}
		_ => bail!("MD5 before, and how often which later: '{text}'"),
	}
}

/// The guest swapped.
fn swapped(transcript: &Transcript) -> Result<()> {
	let lines = transcript.all("guest swapped");
	let at = |when: &str| -> Result<[u64; 2]> {
		let mut values = lines.iter().filter_map(|line| line.strip_prefix(when));
		let value = values.next().with_context(|| format!("no line {when}"))?;
		match value.split_whitespace().collect::<Vec<_>>()[..] {
			[from, to] => Ok([number(from)?, number(to)?]),
			_ => bail!("'{value}' is not two numbers"),
		}
	};
	let (before, after) = (at("before")?, at("after")?);
	for (what, before, after) in [("in", before[0], after[0]), ("out", before[1], after[1])] {
		let pages = after.saturating_sub(before);
		ensure!(pages >= SWAPPED, "only {pages} pages were swapped {what}");
	}
	Ok(())
}

/// The host took pages of the guest, and read them again. It has no other pages of a disk.
fn taken(transcript: &Transcript) -> Result<()> {
	for name in TAKES {
		let pages = grown(transcript, name)?;
		ensure!(pages >= TAKEN, "{name} grew only by {pages}");
	}
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::super::ALL;
	use super::*;

	const SEED: u64 = 7;

	const COUNTERS: [(&str, u64, u64); 11] = [
		("entry_rust", 18_868, 159_325),
		("c_cpu", 0, 0),
		("c_host_mmu", 0, 0),
		("c_secure", 0, 0),
		("fast_h_remove", 39_093, 92_471),
		("fast_h_enter", 39_825, 64_509),
		("fast_h_protect", 754, 2181),
		("fast_h_bulk_remove", 195, 2874),
		("full_page_table", 4100, 4110),
		("pgsteal_file", 0, 221_378),
		("workingset_refault_file", 0, 219_824),
	];

	fn good() -> String {
		let mut lines = vec![
			"@host path rust 1 1".to_owned(),
			"[    0.1] Linux@guest release 6.1.0".to_owned(),
			"@guest cpus 2".to_owned(),
			"@guest mmu Hash".to_owned(),
			"@guest memory 217".to_owned(),
			"@guest begin".to_owned(),
		];
		for (name, before, _) in COUNTERS {
			lines.push(format!("@host counter before {name} {before}"));
		}
		lines.push("@guest swapped before 0 0".to_owned());
		lines.push("@guest swapped after 16536 8623".to_owned());
		lines.push("@guest end".to_owned());
		for (name, _, after) in COUNTERS {
			lines.push(format!("@host counter after {name} {after}"));
		}
		for process in 1..=PROCESSES {
			let report = MemoryPlan::new(SEED, process, PROCESS).report(ROUNDS);
			lines.push(format!("@guest checked {report}"));
		}
		let md5 = "0123456789abcdef0123456789abcdef";
		lines.push(format!("@guest file {md5} 90 {md5}"));
		for line in [
			"@guest dmesg 244",
			"@guest done",
			"@host qemu 0",
			"@host dmesg 377",
			"@host done",
		] {
			lines.push(line.to_owned());
		}
		lines.join("\n")
	}

	fn failed(path: GuestPath, text: &str, end: Result<()>) -> Vec<&'static str> {
		let verdicts = path.judge(SEED, &Transcript::of(text), end).into_iter();
		verdicts
			.filter(|(_, result)| result.is_err())
			.map(|(name, _)| name)
			.collect()
	}

	#[test]
	fn a_good_run() {
		assert!(failed(GuestPath::RustFast, &good(), Ok(())).is_empty());
	}

	#[test]
	fn each_check_can_fail() {
		let good = good();
		for (from, to, name) in [
			("path rust 1 1", "path rust 1 0", "booted"),
			("cpus 2", "cpus 1", "booted"),
			("mmu Hash", "mmu Radix", "booted"),
			("memory 217", "memory 256", "booted"),
			(
				"process 4 cells",
				"error: cell 7 is wrong in word 3",
				"memory",
			),
			(
				"checked process 2 cells",
				"checked process 2 cells 1",
				"memory",
			),
			(
				"@guest checked process 4",
				"@guest other process 4",
				"memory",
			),
			("file 0123456789", "file 0123456780", "file"),
			(
				"90 0123456789",
				"89 1123456789abcdef0123456789abcdef 1 0123456789",
				"file",
			),
			("cdef 90", "cdef 2", "file"),
			("after 16536 8623", "after 2047 8623", "guest swapped"),
			("after 16536 8623", "after 16536 2047", "guest swapped"),
			(
				"swapped before 0 0",
				"swapped before 16000 0",
				"guest swapped",
			),
			(
				"@guest swapped before",
				"@guest other before",
				"guest swapped",
			),
			(
				"pgsteal_file 221378",
				"pgsteal_file 4095",
				"host took pages",
			),
			(
				"refault_file 219824",
				"refault_file 4095",
				"host took pages",
			),
			(
				"before pgsteal_file 0",
				"before pgsteal_file 220000",
				"host took pages",
			),
			("entry_rust 159325", "entry_rust 18868", "counters"),
			("after c_cpu 0", "after c_cpu 1", "counters"),
			("after c_secure 0", "after c_other 0", "counters"),
			("fast_h_enter 64509", "fast_h_enter 39900", "counters"),
			("fast_h_remove 92471", "fast_h_remove 39093", "counters"),
			("fast_h_protect 2181", "fast_h_protect 754", "counters"),
			(
				"fast_h_bulk_remove 2874",
				"fast_h_bulk_remove 195",
				"counters",
			),
			("full_page_table 4110", "full_page_table 4099", "counters"),
			("guest dmesg 244", "guest dmesg 0", "guest dmesg"),
			(
				"@guest done",
				"@guest complaint BUG: x\n@guest done",
				"guest dmesg",
			),
			(
				"@host dmesg",
				"@host complaint BUG: x\n@host dmesg",
				"host dmesg",
			),
			("@guest done", "", "power-off"),
			("qemu 0", "qemu 1", "power-off"),
			("@host done", "", "power-off"),
		] {
			let text = good.replacen(from, to, 1);
			assert_ne!(text, good, "{from}");
			assert_eq!(failed(GuestPath::RustFast, &text, Ok(())), [name], "{from}");
		}
		let wedged = Err(anyhow::anyhow!("stopped"));
		assert_eq!(failed(GuestPath::RustFast, &good, wedged), ["power-off"]);
	}

	#[test]
	fn the_path_must_be_the_one_that_was_taken() {
		let none: [&str; 0] = [];
		let fast = good();
		let mut full = fast.replace("path rust 1 1", "path rust 0 0");
		assert_eq!(failed(GuestPath::RustFull, &full, Ok(())), ["counters"]);
		for (name, before, after) in &COUNTERS[4..8] {
			full = full.replace(&format!("{name} {after}"), &format!("{name} {before}"));
		}
		assert_eq!(failed(GuestPath::RustFull, &full, Ok(())), ["counters"]);
		let c = full.replace("path rust 0 0", "path c 1 1");
		assert_eq!(failed(GuestPath::C, &c, Ok(())), ["counters"]);
		let c = c.replace("entry_rust 159325", "entry_rust 18868");
		assert_eq!(failed(GuestPath::C, &c, Ok(())), ["counters"]);
		let c = c.replace("full_page_table 4110", "full_page_table 4100");
		assert_eq!(failed(GuestPath::C, &c, Ok(())), none);
		full = full.replace("full_page_table 4110", "full_page_table 84110");
		assert_eq!(failed(GuestPath::RustFull, &full, Ok(())), none);
	}

	#[test]
	fn nothing_said_is_all_failed() {
		for path in ALL {
			assert_eq!(failed(path, "", Ok(())).len(), 9);
		}
	}
}
