// SPDX-License-Identifier: GPL-2.0-only
//! The kernel merges pages of a guest with equal pages (KSM), while the guest checks its registers.
//!
//! Each page of the memory that rounds touch has a twin, which the guest does not know. The kernel
//! merges the two, and so takes the translation of the page away. A store of the guest gets a copy.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use protocol::{Column, GuestMode, map};
use vmm::kvm::Memory;
use vmm::machine::Failure;

use crate::common::{Verdict, choose, counter, counters, wrong};
use crate::cpus;
use crate::registers::arena::Arena;
use crate::registers::hcall::c_path_cfar;
use crate::soak::check_registers_of;

/// What the kernel is told: to merge all the time.
const SETTINGS: [(&str, &str); 3] = [
	("pages_to_scan", "10000"),
	("sleep_millisecs", "2"),
	("run", "1"),
];
/// Stops, and takes merged pages apart.
const STOP: (&str, &str) = ("run", "2");
/// Words in each page that the guest writes.
const WORDS: u64 = 4;
/// Fewer copies than this would say little.
const ENOUGH: u64 = 50;

fn set((name, value): (&str, &str)) -> Result<(), Failure> {
	let file = format!("/sys/kernel/mm/ksm/{name}");
	fs::write(&file, value).map_err(|e| Failure::Wrong(format!("{value} to {file}: {e}")))
}

/// How often a store to a merged page got a copy so far.
fn copies() -> Result<u64, Failure> {
	let text = fs::read_to_string("/proc/vmstat")?;
	let count = text
		.lines()
		.find_map(|line| line.strip_prefix("cow_ksm "))
		.and_then(|count| count.parse().ok());
	count.ok_or_else(|| Failure::Wrong("/proc/vmstat has no cow_ksm".into()))
}

/// Memory that the kernel may merge with other such memory.
fn mergeable() -> Result<Memory, Failure> {
	let memory = Memory::private(map::TOUCH_SIZE as usize)?;
	memory.merge()?;
	Ok(memory)
}

/// Makes the pages of a twin equal.
fn make_equal(twin: &Memory, memory: &Memory) {
	for page in (0..map::TOUCH_SIZE).step_by(map::TOUCH_PAGE as usize) {
		for place in (page..).step_by(8).take(WORDS as usize) {
			twin.write::<u64>(place, memory.read(place));
		}
	}
}

/// Runs a guest that checks its registers, now on one CPU and now on the other, a part of whose memory is
/// merged again and again.
pub fn registers(path: Column, seed: u64, time: Duration) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	let (before, copied) = (counters()?, copies()?);
	SETTINGS.into_iter().try_for_each(set)?;
	let make = |guest| {
		let (memory, twin) = (mergeable()?, mergeable()?);
		let forget = move |memory: &Memory| {
			make_equal(&twin, memory);
			Ok(())
		};
		Arena::of_memory(guest, memory, Arc::new(forget))
	};
	let nap = |stop: &AtomicBool| {
		cpus::nap(stop, Duration::from_micros(900));
		Ok(())
	};
	let result = check_registers_of(&make, seed, time, cfar, &[&nap]);
	set(STOP)?;
	let (rounds, _) = result?;
	let copied = copies()? - copied;
	let mut line = format!("{rounds} rounds of registers, {copied} copies of merged pages");
	let after = counters()?;
	let grown = |name| counter(&after, name) - counter(&before, name);
	let faults = grown("light_page_fault");
	line += &format!(", {faults} page faults handled by light exits");
	if rounds == 0 || copied < ENOUGH || path == Column::RustFast && faults < ENOUGH {
		return wrong(line);
	}
	Ok(line)
}
