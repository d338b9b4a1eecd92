// SPDX-License-Identifier: GPL-2.0-only
//! Judges a boot of the client by what host and guest printed.

use anyhow::{Context, Result, anyhow, bail, ensure};
use diskcheck::{Expected, WORKERS};

use super::{Boot, CELLS, Mmu, STEPS};
use crate::client::{Transcript, dmesg, expect, power_off};

/// How often the Rust path must have been taken to count as taken: any boot does it
/// many thousand times.
const TAKEN: u64 = 1000;

/// What answers a radix guest or a hash guest at work, and how often at least. Requests for the disk
/// that are made together share a store and an interrupt, so the number of both depends on time.
const ANSWERS: [(&str, &[Mmu], u64); 4] = [
	// How often a vcpu has work when it cedes is a matter of time: from 45 to 5991 were seen.
	("light_h_cede", &[Mmu::Radix, Mmu::Hash], 1),
	("light_store", &[Mmu::Radix, Mmu::Hash], SOME),
	("fast_h_enter", &[Mmu::Hash], SOME),
	("fast_h_remove", &[Mmu::Hash], SOME),
];
const SOME: u64 = STEPS * WORKERS / 16;

impl Boot {
	pub(super) fn judge(
		self,
		transcript: &Transcript,
		end: Result<()>,
	) -> Vec<(&'static str, Result<()>)> {
		vec![
			("booted", self.booted(transcript)),
			("fp", fp(transcript)),
			("files", files(transcript)),
			("processes", expect(transcript, "guest processes", "75")),
			("timer", timer(transcript)),
			("disk", steps(transcript).map(drop)),
			("disk interrupts", interrupts(transcript)),
			("guest dmesg", dmesg(transcript, "guest")),
			("host dmesg", dmesg(transcript, "host")),
			("counters", self.counters(transcript)),
			("light exits", self.light(transcript)),
			("power-off", power_off(transcript, end)),
		]
	}

	/// The kernel, the CPUs, the MMU and the path that were asked for.
	fn booted(self, transcript: &Transcript) -> Result<()> {
		transcript.one("guest release")?;
		expect(transcript, "guest cpus", "2")?;
		let mmu = match self.mmu {
			Mmu::Radix => "Radix",
			Mmu::Hash | Mmu::HostHash => "Hash",
		};
		expect(transcript, "guest mmu", mmu)?;
		expect(transcript, "host path", self.path)
	}

	fn counters(self, transcript: &Transcript) -> Result<()> {
		// The only counter of entries that may grow.
		let taker = match (self.path, self.mmu) {
			("c", _) => None,
			(_, Mmu::HostHash) => Some("c_host_mmu"),
			_ => Some("entry_rust"),
		};
		for name in ["entry_rust", "c_cpu", "c_host_mmu", "c_secure"] {
			let value = transcript.counter(name)?;
			if taker == Some(name) && value <= TAKEN {
				bail!("{name} is only {value}");
			}
			if taker != Some(name) && value != 0 {
				bail!("{name} is {value} with path={}", self.path);
			}
		}
		Ok(())
	}

	/// Only the Rust path has fast and light handlers, and not the same for each kind of guest.
	fn light(self, transcript: &Transcript) -> Result<()> {
		for (name, of, least) in ANSWERS {
			let value = transcript.counter(name)?;
			if self.path == "rust" && of.contains(&self.mmu) {
				ensure!(value >= least, "{name} is only {value}");
			} else {
				ensure!(value == 0, "{name} is {value} in a boot of {self}");
			}
		}
		Ok(())
	}
}

/// Three processes on two CPUs summed the same numbers as this does.
fn fp(transcript: &Transcript) -> Result<()> {
	let sum = (1..60_000)
		.map(f64::from)
		.fold(0.0, |sum, i| sum + i * 1.000_123 / (i + 1.7));
	let wanted = format!("{sum:.12}");
	let found = transcript.all("guest fp");
	if found.len() != 3 {
		bail!("{} sums, not 3", found.len());
	}
	match found.iter().find(|found| **found != wanted) {
		Some(wrong) => bail!("a sum is '{wrong}', not '{wanted}'"),
		None => Ok(()),
	}
}

fn files(transcript: &Transcript) -> Result<()> {
	match transcript.all("guest file")[..] {
		[first, last] if first.len() == 32 && first == last => Ok(()),
		[first, last] => bail!("MD5 was '{first}' and after copying '{last}'"),
		_ => bail!("not two lines '@guest file'"),
	}
}

/// Two seconds, and not so many more that a timer must have been lost.
fn timer(transcript: &Transcript) -> Result<()> {
	let times = transcript.one("guest slept")?;
	let slept = || {
		let (from, to) = times.split_once(' ')?;
		Some(to.parse::<f64>().ok()? - from.parse::<f64>().ok()?)
	};
	match slept() {
		// /proc/uptime has hundredths.
		Some(slept) if (1.98..20.0).contains(&slept) => Ok(()),
		Some(slept) => bail!("slept {slept:.2} s, not 2"),
		None => bail!("'{times}' is not two times"),
	}
}

/// Each worker checked the disk, did all of its steps, and found what it had written.
fn steps(transcript: &Transcript) -> Result<[u64; WORKERS as usize]> {
	let text = transcript.one("guest disk")?;
	let done: Vec<u64> = text
		.split(' ')
		.filter_map(|word| word.parse().ok())
		.collect();
	let done = done
		.try_into()
		.map_err(|_| anyhow!("guest disk is '{text}'"))?;
	ensure!(
		done == [STEPS; WORKERS as usize],
		"guest disk is '{text}', not {STEPS} of each worker"
	);
	Ok(done)
}

/// The disk interrupted the guest.
fn interrupts(transcript: &Transcript) -> Result<()> {
	let text = transcript.one("guest interrupts")?;
	let count: u64 = text
		.parse()
		.with_context(|| format!("guest interrupts is '{text}'"))?;
	ensure!(count >= SOME, "only {count} interrupts of the disk");
	Ok(())
}

/// What the file of the disk has is what these steps leave.
pub(super) fn disk(transcript: &Transcript, seed: u64, bytes: &[u8]) -> Result<()> {
	let mut expected = Expected::new(seed, CELLS);
	expected.done(1, steps(transcript)?);
	expected.compare(bytes).map_err(anyhow::Error::msg)
}

#[cfg(test)]
mod tests {
	use diskcheck::{CELL, Tag, WorkerPlan};

	use super::super::{ALL, RADIX_RUST};
	use super::*;

	const GOOD: &str = "\
@host path rust
Linux ppc64le
#1 SMP Debian 6.@guest release 6.1.0
@guest cpus 2
@guest mmu Radix
@guest fp 59989.028670722008
@guest fp 59989.028670722008
@guest fp 59989.028670722008
@guest file 0123456789abcdef0123456789abcdef
@guest file 0123456789abcdef0123456789abcdef
@guest processes 75
@guest slept 4.10 6.12
@guest disk 200 200 200 200
@guest interrupts 566
@guest dmesg 200
@guest done
[   13.545750] reboot: Power down
@host qemu 0
@host counter entry_rust 9663
@host counter c_cpu 0
@host counter c_host_mmu 0
@host counter c_secure 0
@host counter light_h_cede 2306
@host counter light_store 537
@host counter fast_h_enter 0
@host counter fast_h_remove 0
@host dmesg 90
@host done";

	fn failed(boot: Boot, text: &str, end: Result<()>) -> Vec<&'static str> {
		let verdicts = boot.judge(&Transcript::of(text), end).into_iter();
		verdicts
			.filter(|(_, result)| result.is_err())
			.map(|(name, _)| name)
			.collect()
	}

	#[test]
	fn a_good_run() {
		assert!(failed(RADIX_RUST, GOOD, Ok(())).is_empty());
	}

	#[test]
	fn each_check_can_fail() {
		for (from, to, name) in [
			("cpus 2", "cpus 1", "booted"),
			("mmu Radix", "mmu Hash", "booted"),
			("path rust", "path c", "booted"),
			("fp 59989.028670722008\n@", "fp 59989.028670722009\n@", "fp"),
			("file 0123456789", "file 0123456780", "files"),
			("processes 75", "processes 74", "processes"),
			("4.10 6.12", "4.10 5.12", "timer"),
			("4.10 6.12", "4.10 ", "timer"),
			("guest dmesg 200", "guest dmesg 0", "guest dmesg"),
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
			("entry_rust 9663", "entry_rust 1000", "counters"),
			("c_secure 0", "c_secure 1", "counters"),
			("c_cpu 0", "c_cpu 1", "counters"),
			("counter c_secure", "counter c_other", "counters"),
			("200 200 200 200", "200 200 200 199", "disk"),
			("200 200 200 200", "200 200 200", "disk"),
			("200 200 200 200", "error: cells 7+1 are old", "disk"),
			("interrupts 566", "interrupts 0", "disk interrupts"),
			("light_h_cede 2306", "light_h_cede 0", "light exits"),
			("light_store 537", "light_store 0", "light exits"),
			("counter light_store", "counter other_store", "light exits"),
			("@guest done", "", "power-off"),
			("qemu 0", "qemu 1", "power-off"),
			("@host done", "", "power-off"),
		] {
			let text = GOOD.replacen(from, to, 1);
			assert_ne!(text, GOOD, "{from}");
			assert_eq!(failed(RADIX_RUST, &text, Ok(())), [name], "{from}");
		}
		let wedged = Err(anyhow::anyhow!("stopped"));
		assert_eq!(failed(RADIX_RUST, GOOD, wedged), ["power-off"]);
	}

	#[test]
	fn the_path_must_be_the_one_that_was_taken() {
		let none: [&str; 0] = [];
		let heavy = GOOD
			.replace("light_h_cede 2306", "light_h_cede 0")
			.replace("light_store 537", "light_store 0");
		assert_eq!(failed(RADIX_RUST, &heavy, Ok(())), ["light exits"]);
		let c = GOOD.replace("path rust", "path c");
		assert_eq!(failed(ALL[1], &c, Ok(())), ["counters", "light exits"]);
		let c = heavy.replace("path rust", "path c");
		assert_eq!(failed(ALL[1], &c, Ok(())), ["counters"]);
		let c = c.replace("entry_rust 9663", "entry_rust 0");
		assert_eq!(failed(ALL[1], &c, Ok(())), none);
		let heavy = heavy.replace("Radix", "Hash");
		assert_eq!(failed(ALL[2], &heavy, Ok(())), ["light exits"]);
		let hash = heavy
			.replace("light_h_cede 0", "light_h_cede 1510")
			.replace("light_store 0", "light_store 537")
			.replace("fast_h_enter 0", "fast_h_enter 49595")
			.replace("fast_h_remove 0", "fast_h_remove 42295");
		assert_eq!(failed(ALL[2], &hash, Ok(())), none);
		let full = hash.replace("light_store 537", "light_store 0");
		assert_eq!(failed(ALL[2], &full, Ok(())), ["light exits"]);
		assert_eq!(failed(ALL[4], &heavy, Ok(())), ["counters"]);
		let hash = heavy;
		let hash = hash.replace("entry_rust 9663", "entry_rust 0");
		let hash = hash.replace("c_host_mmu 0", "c_host_mmu 159327");
		assert_eq!(failed(ALL[4], &hash, Ok(())), none);
		assert_eq!(failed(ALL[2], &hash, Ok(())), ["counters", "light exits"]);
	}

	#[test]
	fn a_disk_is_compared() {
		let transcript = Transcript::of("@guest disk 200 200 200 200");
		let mut bytes = vec![0; CELLS as usize * CELL];
		for (cell, bytes) in (0..).zip(bytes.chunks_exact_mut(CELL)) {
			diskcheck::fill(5, cell, Tag(0), bytes);
		}
		assert!(disk(&transcript, 5, &bytes).is_err(), "no step was done");
		for worker in 0..WORKERS {
			for step in WorkerPlan::new(5, 1, worker, CELLS).take(STEPS as usize) {
				let Some(tag) = step.write else { continue };
				for cell in step.first..step.first + step.count {
					let at = cell as usize * CELL;
					diskcheck::fill(5, cell, tag, &mut bytes[at..at + CELL]);
				}
			}
		}
		disk(&transcript, 5, &bytes).unwrap();
		assert!(disk(&Transcript::default(), 5, &bytes).is_err());
		bytes[CELLS as usize * CELL - 1] ^= 1;
		assert!(disk(&transcript, 5, &bytes).is_err(), "one wrong byte");
	}

	#[test]
	fn nothing_said_is_all_failed() {
		assert_eq!(failed(RADIX_RUST, "", Ok(())).len(), 12);
	}
}
