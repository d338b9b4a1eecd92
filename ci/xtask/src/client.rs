// SPDX-License-Identifier: GPL-2.0-only
//! A real client in the emulated host: the QEMU of Debian boots a guest there. This module is
//! shared by the stages with such a guest.
//!
//! The init scripts only print what they found, in lines `@guest NAME VALUE` and
//! `@host NAME VALUE`. The stages judge these values.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ::report::console::{self, Line};
use anyhow::{Context, Result, bail};
use diskcheck::{CELL, Tag};
use harness::initrd::Initrd;
use harness::paths;
use harness::process::{self, say};
use harness::qemu::{Echo, Limits, Machine};

/// Of a virtio disk: 8 MiB.
pub const CELLS: u64 = 2048;

/// Limit from power-on to power-off, which takes half a minute on an idle machine.
pub const TIME: Duration = Duration::from_secs(300);

/// The last words of the firmware. With two emulated CPUs that run in parallel the console
/// of the firmware sometimes stops early, in the middle of a line; the reason is not known.
/// No result can be seen after that, good or bad, so start such a machine again.
pub const LINUX_STARTS: &str = "INIT: Starting kernel";

/// How many times a machine is started until its firmware prints these words.
pub const ATTEMPTS: u32 = 5;

/// Runs the machine, again if its firmware does not start the kernel.
pub fn until_linux_starts(machine: &Machine, name: &str) -> Result<(Transcript, Result<()>)> {
	until_linux_starts_with(machine, &[], name, TIME, || Ok(()))
}

/// The same, with more options for QEMU, and a limit from power-on to power-off. `prepare` makes what the machine changes, for example
/// the file of a disk: a machine whose console has stopped may have changed it unseen.
pub fn until_linux_starts_with(
	machine: &Machine,
	options: &[&str],
	name: &str,
	time: Duration,
	prepare: impl Fn() -> Result<()>,
) -> Result<(Transcript, Result<()>)> {
	let mut attempt = 1;
	loop {
		prepare()?;
		let (transcript, log, end) = once(machine, options, time);
		let path = paths::target().join(format!("test/{name}.log"));
		process::write_whole(&path, log.as_bytes())?;
		if log.contains(LINUX_STARTS) || attempt == ATTEMPTS {
			return Ok((transcript, end));
		}
		attempt += 1;
		say(format_args!(
			"{name}: the firmware's console stopped before Linux was started; \
			 attempt {attempt} of {ATTEMPTS}"
		));
	}
}

/// Runs the machine and returns the values, the whole console, and how the machine ended.
fn once(machine: &Machine, options: &[&str], time: Duration) -> (Transcript, String, Result<()>) {
	let mut transcript = Transcript::default();
	let mut log = String::new();
	let limits = Limits {
		total: time,
		silence: time,
	};
	let end = machine.run_with(options, limits, Echo::No, |line| {
		log.push_str(line);
		log.push('\n');
		transcript.line(line)
	});
	(transcript, log, end.map(drop))
}

/// Makes the initramfs of the host, which contains that of the guest. `inits` are the init
/// scripts of both, and `more` adds to both.
pub fn pack(
	folder: &Path,
	name: &str,
	inits: (&str, &str),
	more: impl FnOnce(&mut Initrd, &mut Initrd) -> Result<()>,
) -> Result<PathBuf> {
	let scripts = paths::root().join("ci/client");
	let common = read(&scripts.join("common"))?;
	let mut guest = Initrd::new();
	guest.file("common", false, &common);
	guest.folder("bin");
	guest.file(
		"bin/busybox",
		true,
		&read(&folder.join("root/bin/busybox"))?,
	);
	guest.file("init", true, &read(&scripts.join(inits.1))?);
	let mut host = Initrd::new();
	host.file("common", false, &common);
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

/// Adds kernel modules to an initramfs, from a folder of the client's to one of the same name.
pub fn put_modules(initrd: &mut Initrd, folder: &Path, name: &str) -> Result<()> {
	initrd.folder(name);
	for module in process::files_below(&folder.join(name))? {
		let file = module.file_name().context("a module has a name")?;
		let file = format!("{name}/{}", file.to_string_lossy());
		initrd.file(&file, false, &read(&module)?);
	}
	Ok(())
}

/// Makes the file of a disk on which no step was done.
pub fn make_disk(path: &Path, seed: u64, cells: u64) -> Result<()> {
	let mut whole = vec![0; cells as usize * CELL];
	for (cell, bytes) in (0..).zip(whole.chunks_exact_mut(CELL)) {
		diskcheck::fill(seed, cell, Tag(0), bytes);
	}
	process::write_whole(path, &whole)
}

/// A file's content.
pub fn read(path: &Path) -> Result<Vec<u8>> {
	fs::read(path).with_context(|| format!("can't read {}", path.display()))
}

/// The values that the init scripts, and our VMM if there is one, printed, in their order.
#[derive(Default)]
pub struct Transcript(Vec<(String, String)>, pub Vec<Line>);

impl Transcript {
	/// What a console has printed.
	#[cfg(test)]
	pub fn of(text: &str) -> Self {
		let mut transcript = Self::default();
		for line in text.lines() {
			transcript.line(line);
		}
		transcript
	}

	/// Takes a line of the console and returns whether the line has a value.
	pub fn line(&mut self, line: &str) -> bool {
		// The check of a value reports it as missing if its line was unreadable.
		if let Some(Ok(line)) = console::parse(line) {
			self.1.push(line);
			return true;
		}
		// Text of the kernel without a line end may stand before the value.
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

	/// Each value with that name.
	pub fn all(&self, name: &str) -> Vec<&str> {
		self.0
			.iter()
			.filter(|(known, _)| known == name)
			.map(|(_, value)| value.as_str())
			.collect()
	}

	/// The value, if there is exactly one with that name.
	pub fn one(&self, name: &str) -> Result<&str> {
		match self.all(name)[..] {
			[value] => Ok(value),
			[] => bail!("no line '@{name}'"),
			_ => bail!("several lines '@{name}'"),
		}
	}

	/// A counter of the host.
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

/// Checks that there is exactly one value with that name, and that the value is as wanted.
pub fn expect(transcript: &Transcript, name: &str, wanted: &str) -> Result<()> {
	let value = transcript.one(name)?;
	if value != wanted {
		bail!("{name} is '{value}', not '{wanted}'");
	}
	Ok(())
}

/// Checks that the kernel log is there and has no warning.
pub fn dmesg(transcript: &Transcript, who: &str) -> Result<()> {
	if let Some(complaint) = transcript.all(&format!("{who} complaint")).first() {
		bail!("{complaint}");
	}
	// An empty log would pass.
	let lines = transcript.one(&format!("{who} dmesg"))?;
	if !lines.parse::<u32>().is_ok_and(|lines| lines > 10) {
		bail!("'{lines}' lines in the log");
	}
	Ok(())
}

/// Checks that the guest, QEMU and the host got to their ends.
pub fn power_off(transcript: &Transcript, end: Result<()>) -> Result<()> {
	end?;
	transcript.one("guest done")?;
	expect(transcript, "host qemu", "0")?;
	transcript.one("host done")?;
	Ok(())
}
