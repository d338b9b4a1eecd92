// SPDX-License-Identifier: GPL-2.0-only
//! A real client: Debian's own QEMU boots Debian's own kernel as a guest with two
//! CPUs, in the emulated host.
//!
//! The guest computes, copies, sleeps and starts processes at the same time, then
//! powers off. Or the guest is a hypervisor (L1), in which our VMM runs a guest of its
//! own (L2). All inits only say what they found, in lines `@guest NAME VALUE` and
//! `@host NAME VALUE`; it is judged here.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::report::console::{self, Line};
use anyhow::{Context, Result, bail};
use protocol::{Case, Guest};

use harness::check::Check;
use harness::initrd::Initrd;
use harness::paths;
use harness::process::{self, say};
use harness::programs::{self, Job};
use harness::qemu::{Echo, Limits, Machine};
use harness::setup::{self, Brought};

/// From power-on to power-off. It takes half a minute on an idle machine.
const TIME: Duration = Duration::from_secs(300);

/// How often the Rust path must have been taken to count as taken: any boot does it
/// many thousand times.
const TAKEN: u64 = 1000;

/// The firmware's last words. With two emulated CPUs that run in parallel its console
/// sometimes stops early, in the middle of a line; why is not known. What happens
/// after that can't be seen, good or bad, so such a machine is started again.
pub const LINUX_STARTS: &str = "INIT: Starting kernel";

/// How often a machine is started until its firmware gets that far.
pub const ATTEMPTS: u32 = 5;

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
pub fn run(kernel: &Path, all: bool) -> Result<Vec<Check>> {
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

/// Round trips of each kind that the L2 makes in a batch, and batches.
const L2_ROUNDS: u64 = 10_000;
const L2_BATCHES: u64 = 2;

/// Has a guest of our host be a hypervisor, and its guest make hcalls: those that the
/// L1's kernel answers and those that its userspace does.
pub fn nested(kernel: &Path) -> Result<Vec<Check>> {
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let job = Job::Bench {
		series: "L1".to_owned(),
		cases: L2_CASES.map(Case::name).to_vec(),
		guests: L2_GUESTS.map(Guest::name).to_vec(),
		// The L1's kernel is not ours: it has one path.
		paths: vec![protocol::Path::C.name()],
		iterations: L2_ROUNDS,
		batches: L2_BATCHES,
	};
	let initrd = pack(&folder, "nested", ("host", "l1"), |_, l1| {
		for module in ["kvm.ko", "kvm-hv.ko"] {
			l1.file(module, false, &read(&folder.join("kvm").join(module))?);
		}
		programs::build()?.put(l1, "vmm", &job)
	})?;
	let mut checks = Vec::new();
	for path in ["rust", "c"] {
		say(format_args!("nested {path} (half a minute)"));
		let machine = Machine {
			kernel: kernel.to_owned(),
			initrd: initrd.clone(),
			append: format!("kvm_p9.path={path} kvm_hv.nested=1 client_l1=1"),
			smp: 2,
			mem: "3G".to_owned(),
			icount: false,
		};
		let (said, end) = until_linux_starts(&machine, &format!("nested-{path}"))?;
		for (name, result) in [
			("hcalls", l2_hcalls(&said)),
			("host dmesg", dmesg(&said, "host")),
			("counters", l2_counters(&said, path)),
			("power-off", l1_power_off(&said, end)),
		] {
			checks.push(Check::of(format!("{path} {name}"), result));
		}
	}
	Ok(checks)
}

const L2_CASES: [Case; 2] = [Case::HProd, Case::Unknown];
const L2_GUESTS: [Guest; 2] = [Guest::Radix, Guest::Real];

/// The VMM in the L1 measured all of it, and found nothing wrong.
fn l2_hcalls(said: &Said) -> Result<()> {
	let mut measured = Vec::new();
	let mut done = false;
	for line in &said.1 {
		match line {
			Line::Hello { .. } => {}
			Line::Result(result) => {
				let batches = result.ticks.len() as u64;
				if (result.iterations, batches) != (L2_ROUNDS, L2_BATCHES) {
					bail!(
						"{}: {batches} batches of {}",
						result.cell,
						result.iterations
					);
				}
				measured.push((result.cell.case, result.cell.guest));
			}
			Line::Done => done = true,
			other => bail!("the VMM says {other:?}"),
		}
	}
	for case in L2_CASES {
		for guest in L2_GUESTS {
			if !measured.contains(&(case, guest)) {
				bail!(
					"{} by a guest in mode {}: not done",
					case.name(),
					guest.name()
				);
			}
		}
	}
	if !done {
		bail!("the VMM did not come to its end");
	}
	Ok(())
}

/// Each hcall of the L2 is an exit to the L1 and one from it: none went another way.
fn l2_counters(said: &Said, path: &str) -> Result<()> {
	let cells = (L2_CASES.len() * L2_GUESTS.len()) as u64;
	let wanted = match path {
		"c" => 0,
		_ => 2 * cells * L2_ROUNDS * L2_BATCHES,
	};
	let rust = said.counter("entry_rust")?;
	if rust < wanted || wanted == 0 && rust != 0 {
		bail!("entry_rust is {rust} with path={path}; the L2 alone makes {wanted}");
	}
	for name in ["c_cpu", "c_host_mmu", "c_nested", "c_hash", "c_secure"] {
		let value = said.counter(name)?;
		if value != 0 {
			bail!("{name} is {value}");
		}
	}
	Ok(())
}

fn l1_power_off(said: &Said, end: Result<()>) -> Result<()> {
	end?;
	expect(said, "host qemu", "0")?;
	said.one("host done")?;
	Ok(())
}

/// Runs the machine, again if its firmware doesn't get to the kernel.
fn until_linux_starts(machine: &Machine, name: &str) -> Result<(Said, Result<()>)> {
	let mut attempt = 1;
	loop {
		let (said, log, end) = once(machine);
		let path = paths::target().join(format!("test/{name}.log"));
		process::write_whole(&path, log.as_bytes())?;
		if log.contains(LINUX_STARTS) || attempt == ATTEMPTS {
			return Ok((said, end));
		}
		attempt += 1;
		say(format_args!(
			"{name}: the firmware's console stopped before Linux was started; \
			 attempt {attempt} of {ATTEMPTS}"
		));
	}
}

/// Runs the machine: what the inits said, the whole console, and how it ended.
fn once(machine: &Machine) -> (Said, String, Result<()>) {
	let mut said = Said::default();
	let mut log = String::new();
	let limits = Limits {
		total: TIME,
		silence: TIME,
	};
	let end = machine.run(limits, Echo::No, |line| {
		log.push_str(line);
		log.push('\n');
		said.line(line)
	});
	(said, log, end.map(drop))
}

/// Makes the host's initramfs with the guest's in it: `inits` are theirs, and `more`
/// adds to both.
pub fn pack(
	folder: &Path,
	name: &str,
	inits: (&str, &str),
	more: impl FnOnce(&mut Initrd, &mut Initrd) -> Result<()>,
) -> Result<PathBuf> {
	let scripts = paths::root().join("ci/client");
	let mut guest = Initrd::new();
	guest.folder("bin");
	guest.file(
		"bin/busybox",
		true,
		&read(&folder.join("root/bin/busybox"))?,
	);
	guest.file("init", true, &read(&scripts.join(inits.1))?);
	let mut host = Initrd::new();
	host.tree(&folder.join("root"))?;
	host.file("init", true, &read(&scripts.join(inits.0))?);
	host.folder("client");
	host.file("client/vmlinux", false, &read(&folder.join("vmlinux"))?);
	more(&mut host, &mut guest)?;
	host.file("client/initrd", false, &guest.finish());
	let path = paths::target().join("boot").join(format!("{name}.cpio"));
	process::write_whole(&path, &host.finish())?;
	Ok(path)
}

fn read(path: &Path) -> Result<Vec<u8>> {
	fs::read(path).with_context(|| format!("can't read {}", path.display()))
}

/// What the inits said, and our VMM, if there is one, in their order.
#[derive(Default)]
pub struct Said(Vec<(String, String)>, Vec<Line>);

impl Said {
	/// Takes a line of the console; says whether it is one of ours.
	pub fn line(&mut self, line: &str) -> bool {
		// One that can't be read will be missed.
		if let Some(Ok(line)) = console::parse(line) {
			self.1.push(line);
			return true;
		}
		// Without a line's end the kernel's own text may stand before it.
		let Some(at) = ["@host ", "@guest "].iter().find_map(|who| line.find(who)) else {
			return false;
		};
		let mut words = line[at + 1..].splitn(3, ' ');
		let (who, name) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
		self.0.push((
			format!("{who} {name}"),
			words.next().unwrap_or("").trim().to_owned(),
		));
		true
	}

	/// Each thing that was said under that name.
	pub fn all(&self, name: &str) -> Vec<&str> {
		self.0
			.iter()
			.filter(|(known, _)| known == name)
			.map(|(_, value)| value.as_str())
			.collect()
	}

	/// What was said exactly once.
	pub fn one(&self, name: &str) -> Result<&str> {
		match self.all(name)[..] {
			[value] => Ok(value),
			[] => bail!("no line '@{name}'"),
			_ => bail!("several lines '@{name}'"),
		}
	}

	fn counter(&self, name: &str) -> Result<u64> {
		let mut found = self
			.all("host counter")
			.into_iter()
			.filter_map(|line| line.split_once(' '))
			.filter(|(known, _)| *known == name);
		let (_, value) = found.next().with_context(|| format!("no counter {name}"))?;
		value
			.parse()
			.with_context(|| format!("counter {name} is '{value}'"))
	}
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

	fn judge(self, said: &Said, end: Result<()>) -> Vec<(&'static str, Result<()>)> {
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
	fn booted(self, said: &Said) -> Result<()> {
		said.one("guest release")?;
		expect(said, "guest cpus", "2")?;
		let mmu = match self.mmu {
			Mmu::Radix => "Radix",
			Mmu::Hash | Mmu::HostHash => "Hash",
		};
		expect(said, "guest mmu", mmu)?;
		expect(said, "host path", self.path)
	}

	fn counters(self, said: &Said) -> Result<()> {
		// Who has to have taken the guest in. Nobody else may.
		let taker = match (self.path, self.mmu) {
			("c", _) => None,
			(_, Mmu::HostHash) => Some("c_host_mmu"),
			_ => Some("entry_rust"),
		};
		for name in [
			"entry_rust",
			"c_cpu",
			"c_host_mmu",
			"c_nested",
			"c_hash",
			"c_secure",
		] {
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

fn expect(said: &Said, name: &str, wanted: &str) -> Result<()> {
	let value = said.one(name)?;
	if value != wanted {
		bail!("{name} is '{value}', not '{wanted}'");
	}
	Ok(())
}

/// Three processes on two CPUs summed the same numbers as this does.
fn fp(said: &Said) -> Result<()> {
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

fn files(said: &Said) -> Result<()> {
	match said.all("guest file")[..] {
		[first, last] if first.len() == 32 && first == last => Ok(()),
		[first, last] => bail!("MD5 was '{first}' and after copying '{last}'"),
		_ => bail!("not two lines '@guest file'"),
	}
}

/// Two seconds, and not so many more that a timer must have been lost.
fn timer(said: &Said) -> Result<()> {
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

/// The kernel's log was there and had nothing to complain of.
pub fn dmesg(said: &Said, who: &str) -> Result<()> {
	if let Some(complaint) = said.all(&format!("{who} complaint")).first() {
		bail!("{complaint}");
	}
	// One without any lines would never have a complaint.
	let lines = said.one(&format!("{who} dmesg"))?;
	if !lines.parse::<u32>().is_ok_and(|lines| lines > 10) {
		bail!("'{lines}' lines in the log");
	}
	Ok(())
}

fn power_off(said: &Said, end: Result<()>) -> Result<()> {
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
@host counter c_nested 0
@host counter c_hash 0
@host counter c_secure 0
@host dmesg 90
@host done";

	fn failed(boot: Boot, text: &str, end: Result<()>) -> Vec<&'static str> {
		let mut said = Said::default();
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
			("c_hash 0", "c_hash 1", "counters"),
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
