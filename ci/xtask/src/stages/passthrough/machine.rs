// SPDX-License-Identifier: GPL-2.0-only
//! Boots a host with the disk, and listens to it and its guests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use harness::check::Check;
use harness::kernel::Image;
use harness::paths;
use harness::process::{self, say};
use harness::qemu::{Echo, IN_REAL_TIME, Limits, Machine};

use super::guest::READS;
use super::plan::{Boot, CELLS};
use super::run_log::RunLog;
use crate::client::{self, Transcript};
use crate::spans::Spans;

/// How long a host with one guest may take. It takes half a minute on an idle machine.
const TIME: Duration = Duration::from_secs(300);

/// How long each further guest may take.
const TIME_OF_GUEST: Duration = Duration::from_secs(240);

impl Boot {
	pub(super) fn run(&self, image: &Image, folder: &Path, tool: &[u8]) -> Result<Vec<Check>> {
		let initrd = self.initrd(folder, tool)?;
		let file = paths::target().join(format!("test/{}.img", self.files));
		let spans = match self
			.count
			.then(|| Spans::new(image, &format!("{}.spans", self.files)))
			.transpose()
		{
			Ok(spans) => spans,
			Err(why) => return Ok(vec![Check::skipped(self.name, format!("{why:#}"))]),
		};
		let machine = Machine {
			kernel: image.stripped(),
			initrd,
			append: format!("disk_seed={}", self.seed),
			smp: if self.count { 1 } else { 2 },
			threads: 1,
			mem: "4G".to_owned(),
			icount: self.count,
		};
		let drive = format!("file={},if=none,id=disk,format=raw", file.display());
		let device = "nvme,drive=disk,serial=passthrough,bus=pcie.0";
		let mut options = ["-drive", &drive, "-device", device]
			.map(str::to_owned)
			.to_vec();
		let mut checks = Vec::new();
		if let Some(spans) = &spans {
			match spans.calibrate(image) {
				Ok(exact) => checks.extend(exact),
				Err(why) => checks.push(Check::of("cost, exact", Err(why))),
			}
			options.extend(spans.options()?);
			options.extend(IN_REAL_TIME.map(str::to_owned));
		}
		let options: Vec<&str> = options.iter().map(String::as_str).collect();
		let count = self.guests.len() as u32;
		let working = self.guests.iter().filter_map(|guest| guest.seconds).sum();
		// One thread emulates it all then, and counts.
		let slower = if self.count { 4 } else { 1 };
		let silence = TIME * slower + Duration::from_secs(working) * 2;
		let limits = Limits {
			total: silence + TIME_OF_GUEST * slower * count,
			silence,
		};
		let time = if self.count {
			"three minutes"
		} else {
			"half a minute each"
		};
		say(format_args!(
			"passthrough {}: {count} guests, --seed {} ({time})",
			self.name, self.seed
		));
		let mut attempt = 1;
		let (transcript, end) = loop {
			client::make_disk(&file, self.seed, CELLS)?;
			let (mut transcript, mut log) = (Transcript::default(), String::new());
			let end = machine.run_with(&options, limits, Echo::No, |line| {
				log.push_str(line);
				log.push('\n');
				let ours = transcript.line(line);
				if let Some(run) = line.split("@host run ").nth(1) {
					let number = run.split(' ').next().unwrap_or_default();
					let guest = number
						.parse()
						.ok()
						.and_then(|n: usize| self.guests.get(n - 1));
					if let Some(guest) = guest {
						say(format_args!("passthrough {number} of {count}: {guest}"));
					}
				}
				ours
			});
			let path = paths::target().join(format!("test/{}.log", self.files));
			process::write_whole(&path, log.as_bytes())?;
			if log.contains(client::LINUX_STARTS) || attempt == client::ATTEMPTS {
				break (transcript, end.map(drop));
			}
			attempt += 1;
			say(format_args!(
				"passthrough: the firmware's console stopped before Linux was started; \
				 attempt {attempt} of {}",
				client::ATTEMPTS
			));
		};
		self.figures(&transcript);
		let verdicts = self.judge(&transcript, end).into_iter();
		checks.extend(
			verdicts.map(|(name, result)| Check::of(format!("{} {name}", self.name), result)),
		);
		let compared = self.expected(&transcript).and_then(|expected| {
			let bytes = fs::read(&file)?;
			expected.compare(&bytes).map_err(anyhow::Error::msg)
		});
		checks.push(Check::of(
			format!("{} disk, from outside", self.name),
			compared,
		));
		if let Some(spans) = spans {
			checks.extend(spans.judge(image, READS));
		}
		Ok(checks)
	}

	fn initrd(&self, folder: &Path, tool: &[u8]) -> Result<PathBuf> {
		let runs: String = self
			.numbered()
			.map(|(run, guest)| guest.line(run))
			.collect();
		let inits = ("passthrough-host", "passthrough-guest");
		client::pack(folder, "passthrough", inits, |host, guest| {
			host.file("runs", false, runs.as_bytes());
			host.file("diskcheck", true, tool);
			guest.file("diskcheck", true, tool);
			client::put_modules(guest, folder, "modules")
		})
	}

	/// Tells what is not judged.
	fn figures(&self, transcript: &Transcript) {
		for (run, guest) in self.numbered() {
			let log = RunLog { transcript, run };
			let Ok(counts) = log.counts() else { continue };
			let fast: Vec<String> = counts
				.iter()
				.filter(|(name, _)| name.starts_with("fast_"))
				.map(|(name, value)| format!("{name} {value}"))
				.collect();
			let steps: u64 = log.steps().map_or(0, |done| done.iter().sum());
			let exits = counts.get("exits").copied().unwrap_or(0);
			say(format_args!(
				"passthrough {guest}: {steps} reads and writes, {exits} exits, {}",
				fast.join(", ")
			));
		}
	}
}
