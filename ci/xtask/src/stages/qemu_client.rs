// SPDX-License-Identifier: GPL-2.0-only
//! Stage `client`: Debian's own QEMU boots Debian's own kernel as a guest with two
//! CPUs, in the emulated host.
//!
//! The guest computes, copies, sleeps and starts processes at the same time, then
//! powers off.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::process::say;
use harness::qemu::Machine;
use harness::setup::{self, Brought};

use crate::client::{Transcript, dmesg, expect, pack, until_linux_starts};
use crate::stage::{MAIN_SERIES, Need, Part, Stage, stage};

/// One boot of a client, or one of each kind.
pub const STAGE: Stage = stage("client", |args| {
	Ok(vec![
		Part::new(&[Need::Kernel, Need::Client], 30, || {
			let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
			run(&image.stripped(), args.all)
		})
		.alone(),
	])
});

/// How often the Rust path must have been taken to count as taken: any boot does it
/// many thousand times.
const TAKEN: u64 = 1000;

/// Which translation the guest uses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mmu {
	Radix,
	Hash,
	/// Hash, as the host does.
	HostHash,
}

/// One boot.
#[derive(Clone, Copy)]
struct Boot {
	path: &'static str,
	mmu: Mmu,
}

impl fmt::Display for Boot {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let mmu = match self.mmu {
			Mmu::Radix => "radix",
			Mmu::Hash => "hash",
			Mmu::HostHash => "hash-host",
		};
		write!(f, "{mmu}-{}", self.path)
	}
}

const RADIX_RUST: Boot = Boot {
	path: "rust",
	mmu: Mmu::Radix,
};

const ALL: [Boot; 5] = [
	RADIX_RUST,
	Boot {
		path: "c",
		mmu: Mmu::Radix,
	},
	Boot {
		path: "rust",
		mmu: Mmu::Hash,
	},
	Boot {
		path: "c",
		mmu: Mmu::Hash,
	},
	Boot {
		path: "rust",
		mmu: Mmu::HostHash,
	},
];

/// Boots the client on the kernel, in one way or in all.
fn run(kernel: &Path, all: bool) -> Result<Vec<Check>> {
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let initrd = pack(&folder, "client", ("host", "guest"), |_, _| Ok(()))?;
	let boots = if all { &ALL[..] } else { &[RADIX_RUST] };
	let mut checks = Vec::new();
	for &boot in boots {
		say(format_args!("client {boot} (half a minute)"));
		let machine = Machine {
			kernel: kernel.to_owned(),
			initrd: initrd.clone(),
			append: boot.append(),
			smp: 2,
			mem: "2G".to_owned(),
			icount: false,
		};
		let (said, end) = until_linux_starts(&machine, &format!("client-{boot}"))?;
		let verdicts = boot.judge(&said, end);
		checks.extend(
			verdicts
				.into_iter()
				.map(|(name, result)| Check::of(format!("{boot} {name}"), result)),
		);
	}
	Ok(checks)
}

impl Boot {
	fn append(self) -> String {
		let mut append = format!("kvm_p9.path={}", self.path);
		match self.mmu {
			Mmu::Radix => {}
			Mmu::Hash => append.push_str(" client_guest=disable_radix"),
			// Of such a host a guest can have nothing else.
			Mmu::HostHash => append.push_str(" disable_radix"),
		}
		append
	}

	fn judge(self, said: &Transcript, end: Result<()>) -> Vec<(&'static str, Result<()>)> {
		vec![
			("booted", self.booted(said)),
			("fp", fp(said)),
			("files", files(said)),
			("processes", expect(said, "guest processes", "75")),
			("timer", timer(said)),
			("guest dmesg", dmesg(said, "guest")),
			("host dmesg", dmesg(said, "host")),
			("counters", self.counters(said)),
			("power-off", power_off(said, end)),
		]
	}

	/// The kernel, the CPUs, the MMU and the path that were asked for.
	fn booted(self, said: &Transcript) -> Result<()> {
		said.one("guest release")?;
		expect(said, "guest cpus", "2")?;
		let mmu = match self.mmu {
			Mmu::Radix => "Radix",
			Mmu::Hash | Mmu::HostHash => "Hash",
		};
		expect(said, "guest mmu", mmu)?;
		expect(said, "host path", self.path)
	}

	fn counters(self, said: &Transcript) -> Result<()> {
		// The only counter of entries that may grow.
		let taker = match (self.path, self.mmu) {
			("c", _) => None,
			(_, Mmu::HostHash) => Some("c_host_mmu"),
			_ => Some("entry_rust"),
		};
		for name in ["entry_rust", "c_cpu", "c_host_mmu", "c_secure"] {
			let value = said.counter(name)?;
			if taker == Some(name) && value <= TAKEN {
				bail!("{name} is only {value}");
			}
			if taker != Some(name) && value != 0 {
				bail!("{name} is {value} with path={}", self.path);
			}
		}
		Ok(())
	}
}

/// Three processes on two CPUs summed the same numbers as this does.
fn fp(said: &Transcript) -> Result<()> {
	let sum = (1..60_000)
		.map(f64::from)
		.fold(0.0, |sum, i| sum + i * 1.000_123 / (i + 1.7));
	let wanted = format!("{sum:.12}");
	let found = said.all("guest fp");
	if found.len() != 3 {
		bail!("{} sums, not 3", found.len());
	}
	match found.iter().find(|found| **found != wanted) {
		Some(wrong) => bail!("a sum is '{wrong}', not '{wanted}'"),
		None => Ok(()),
	}
}

fn files(said: &Transcript) -> Result<()> {
	match said.all("guest file")[..] {
		[first, last] if first.len() == 32 && first == last => Ok(()),
		[first, last] => bail!("MD5 was '{first}' and after copying '{last}'"),
		_ => bail!("not two lines '@guest file'"),
	}
}

/// Two seconds, and not so many more that a timer must have been lost.
fn timer(said: &Transcript) -> Result<()> {
	let times = said.one("guest slept")?;
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

fn power_off(said: &Transcript, end: Result<()>) -> Result<()> {
	end?;
	said.one("guest done")?;
	expect(said, "host qemu", "0")?;
	said.one("host done")?;
	Ok(())
}

#[cfg(test)]
mod tests {
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
@guest dmesg 200
@guest done
[   13.545750] reboot: Power down
@host qemu 0
@host counter entry_rust 9663
@host counter c_cpu 0
@host counter c_host_mmu 0
@host counter c_secure 0
@host dmesg 90
@host done";

	fn failed(boot: Boot, text: &str, end: Result<()>) -> Vec<&'static str> {
		let mut said = Transcript::default();
		text.lines().for_each(|line| {
			said.line(line);
		});
		let verdicts = boot.judge(&said, end).into_iter();
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
		let c = GOOD.replace("path rust", "path c");
		assert_eq!(failed(ALL[1], &c, Ok(())), ["counters"]);
		let c = c.replace("entry_rust 9663", "entry_rust 0");
		assert!(failed(ALL[1], &c, Ok(())).is_empty());
		let hash = GOOD.replace("Radix", "Hash");
		assert!(failed(ALL[2], &hash, Ok(())).is_empty());
		assert_eq!(failed(ALL[4], &hash, Ok(())), ["counters"]);
		let hash = hash.replace("entry_rust 9663", "entry_rust 0");
		let hash = hash.replace("c_host_mmu 0", "c_host_mmu 159327");
		assert!(failed(ALL[4], &hash, Ok(())).is_empty());
		assert_eq!(failed(ALL[2], &hash, Ok(())), ["counters"]);
	}

	#[test]
	fn nothing_said_is_all_failed() {
		assert_eq!(failed(RADIX_RUST, "", Ok(())).len(), 9);
	}
}
