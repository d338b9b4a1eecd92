// SPDX-License-Identifier: GPL-2.0-only
//! A real client in the emulated host: Debian's own QEMU boots a guest there. What the
//! stages with such a guest have in common.
//!
//! All inits only say what they found, in lines `@guest NAME VALUE` and
//! `@host NAME VALUE`; the stages judge it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::report::console::{self, Line};
use anyhow::{Context, Result, bail};
use harness::initrd::Initrd;
use harness::paths;
use harness::process::{self, say};
use harness::qemu::{Echo, Limits, Machine};

/// From power-on to power-off. It takes half a minute on an idle machine.
const TIME: Duration = Duration::from_secs(300);

/// The firmware's last words. With two emulated CPUs that run in parallel its console
/// sometimes stops early, in the middle of a line; why is not known. What happens
/// after that can't be seen, good or bad, so such a machine is started again.
pub const LINUX_STARTS: &str = "INIT: Starting kernel";

/// How often a machine is started until its firmware gets that far.
pub const ATTEMPTS: u32 = 5;

/// Runs the machine, again if its firmware doesn't get to the kernel.
pub fn until_linux_starts(machine: &Machine, name: &str) -> Result<(Said, Result<()>)> {
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

/// A file's content.
pub fn read(path: &Path) -> Result<Vec<u8>> {
	fs::read(path).with_context(|| format!("can't read {}", path.display()))
}

/// What the inits said, and our VMM, if there is one, in their order.
#[derive(Default)]
pub struct Said(Vec<(String, String)>, pub Vec<Line>);

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

	/// One of the host's counters.
	pub fn counter(&self, name: &str) -> Result<u64> {
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

/// That was said exactly once, and is as wanted.
pub fn expect(said: &Said, name: &str, wanted: &str) -> Result<()> {
	let value = said.one(name)?;
	if value != wanted {
		bail!("{name} is '{value}', not '{wanted}'");
	}
	Ok(())
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
