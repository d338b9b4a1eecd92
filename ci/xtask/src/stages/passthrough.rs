// SPDX-License-Identifier: GPL-2.0-only
//! A device that is passed through: an NVMe of the emulated host belongs to a guest of
//! Debian's QEMU, which reads and writes it by DMA through TCE tables of the emulated
//! hardware.
//!
//! With the 64-bit window the guest maps its memory once. With the 32-bit window alone
//! it does TCE hcalls for each read and write, which is what the fast handlers are for.
//!
//! The disk is a file out here. Its content follows from a seed (crate `kvm-p9-disk`);
//! the guest reads, checks and writes at random, and what it must have written is known
//! here without asking it. One boot of the host runs several guests, one after the
//! other, on different paths, so each also proves that the one before it has let go of
//! the device. Some are killed, reset or lose the device while they do I/O. That no TCE
//! stays mapped and no page pinned is then seen from
//!
//! - the kernel's own WARN_ON in tce_iommu_release(), which fires if a region of
//!   memory can't be unregistered because a TCE still counts on it, and its message
//!   "Unexpected TCEs" when a table is freed with entries;
//! - nr_foll_pin_acquired and nr_foll_pin_released in /proc/vmstat, which are equal
//!   when no page is pinned any more, and were not while the guest ran;
//! - VmLck of QEMU, if it goes on without the device;
//! - the host, whose own driver takes the device back and reads all of the disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use diskcheck::{CELL, Expected, Tag, WORKERS};
use protocol::Column;

use harness::check::Check;
use harness::kernel::{self, Image, Series};
use harness::paths;
use harness::process::{self, say};
use harness::programs;
use harness::qemu::{Echo, Limits, Machine};
use harness::setup::{self, Brought};

use self::cost::Spans;
use crate::client::{self, Transcript};
use crate::stage::{MAIN_SERIES, Need, Part, Stage, seed, stage};

mod cost;

/// A guest or two that do I/O, or all kinds of guests, or what I/O costs.
pub const STAGE: Stage = stage("passthrough", |args| {
	let options = Options {
		all: args.all,
		soak: args.soak,
		cost: args.cost,
		seed: seed(args)?,
	};
	let needs: &[Need] = if options.counts() {
		&[Need::Kernel, Need::Programs, Need::Client, Need::Plugin]
	} else {
		&[Need::Kernel, Need::Programs, Need::Client]
	};
	Ok(vec![
		Part::new(needs, 60, move || {
			let image = kernel::build(Series::find(MAIN_SERIES)?, false)?;
			run(&image, &options)
		})
		.alone(),
	])
});

/// Of the disk: 32 MiB, so that all of it can be looked at often.
const CELLS: u64 = 8192;

/// How long a host with one guest may take. It takes half a minute on an idle machine.
const TIME: Duration = Duration::from_secs(300);

/// How long each further guest may take.
const TIME_OF_GUEST: Duration = Duration::from_secs(240);

/// Steps of a worker in a run that is to come to its end.
const STEPS: u64 = 400;

/// and in one that is not.
const ENDLESS: u64 = 1 << 20;

/// Bound on the steps that an interrupted run may have done, of a worker.
const INTERRUPTED: u64 = 1 << 14;

/// Reads of 64 KiB in each phase of a guest whose hypervisor is counted.
const READS: u64 = 200;

/// Kilobytes of a guest's memory, and what is much less than that.
const MEMORY_KB: u64 = 512 << 10;
const LITTLE_KB: u64 = MEMORY_KB / 8;

/// What becomes of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
	/// It does its steps and powers off.
	Work,
	/// Its QEMU is killed in the middle of them.
	Kill,
	/// It is reset in the middle of them, boots again and does them all.
	Reset,
	/// It loses the device in the middle of them.
	Unplug,
	/// It only reads, on each path in turn, and its hypervisor's instructions are counted.
	Cost,
}

impl Scenario {
	const fn name(self) -> &'static str {
		match self {
			Self::Work => "work",
			Self::Kill => "kill",
			Self::Reset => "reset",
			Self::Unplug => "unplug",
			Self::Cost => "cost",
		}
	}
}

/// One guest.
#[derive(Clone, Copy, Debug)]
struct Guest {
	path: Column,
	/// With the 64-bit window.
	wide: bool,
	act: Scenario,
	/// How long it may work; what it has done by then is enough.
	seconds: Option<u64>,
}

impl Guest {
	const fn new(path: Column, wide: bool, act: Scenario) -> Self {
		// A reset guest boots into the same work once more, which must come to an end,
		// but not before the reset.
		let seconds = match act {
			Scenario::Reset => Some(6),
			_ => None,
		};
		Self {
			path,
			wide,
			act,
			seconds,
		}
	}

	fn steps(self) -> u64 {
		match self.act {
			Scenario::Cost => READS,
			Scenario::Work if self.seconds.is_none() => STEPS,
			_ => ENDLESS,
		}
	}

	/// Its line for the host's init.
	fn line(self, run: u64) -> String {
		let (path, fast) = match self.path {
			Column::C | Column::Asm510 => ("c", 1),
			Column::RustFull => ("rust", 0),
			Column::RustFast => ("rust", 1),
		};
		let ddw = if self.wide { "on" } else { "off" };
		let seconds = self.seconds.unwrap_or(1 << 20);
		let (act, steps) = (self.act.name(), self.steps());
		format!("{run} {path} {fast} {ddw} {act} {steps} {seconds}\n")
	}

	/// What the parameters of kvm_p9 must be.
	fn parameters(self) -> &'static str {
		match self.path {
			Column::C | Column::Asm510 => "c 1",
			Column::RustFull => "rust 0",
			Column::RustFast => "rust 1",
		}
	}
}

impl fmt::Display for Guest {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let window = if self.wide { 64 } else { 32 };
		write!(f, "{}-{window}-bit", self.path.name())?;
		match self.act {
			Scenario::Work => Ok(()),
			act => write!(f, "-{}", act.name()),
		}
	}
}

/// What is tested.
struct Options {
	/// Every path with every window, killed, reset and unplugged guests, and what I/O costs.
	all: bool,
	/// One guest that does I/O for so many minutes, instead.
	soak: Option<u64>,
	/// Only what I/O costs, instead.
	cost: bool,
	/// For what is random.
	seed: u64,
}

impl Options {
	/// Instructions are counted, by QEMU's plugin.
	fn counts(&self) -> bool {
		self.boots().iter().any(|(_, counts, _)| *counts)
	}

	/// The guests of each boot of a host; whether instructions are counted.
	fn boots(&self) -> Vec<(&'static str, bool, Vec<Guest>)> {
		use Column::{C, RustFast, RustFull};
		let cost = ("cost", true, vec![Guest::new(C, false, Scenario::Cost)]);
		if self.cost {
			return vec![cost];
		}
		if let Some(minutes) = self.soak {
			let guest = |wide, share| Guest {
				seconds: Some(60 * minutes * share / 4),
				..Guest::new(RustFast, wide, Scenario::Work)
			};
			let fourth_on_c = Guest {
				seconds: Some(60 * minutes / 4),
				..Guest::new(C, false, Scenario::Work)
			};
			return vec![(
				"soak",
				false,
				vec![guest(false, 2), guest(true, 1), fourth_on_c],
			)];
		}
		if !self.all {
			let guests = [RustFast, C].map(|path| Guest::new(path, false, Scenario::Work));
			return vec![("short", false, guests.to_vec())];
		}
		let each = |wide: bool, act: Scenario| {
			[RustFast, RustFull, C].map(|path| Guest::new(path, wide, act))
		};
		let work = [each(false, Scenario::Work), each(true, Scenario::Work)].concat();
		let last = Guest::new(C, false, Scenario::Work);
		let mut acts = Vec::new();
		for path in [RustFast, C] {
			acts.extend(
				[Scenario::Kill, Scenario::Reset, Scenario::Unplug]
					.map(|act| Guest::new(path, false, act)),
			);
		}
		acts.push(Guest::new(RustFast, true, Scenario::Kill));
		acts.push(last);
		vec![("work", false, work), ("acts", false, acts), cost]
	}
}

/// Boots hosts with guests that have the disk.
fn run(image: &Image, options: &Options) -> Result<Vec<Check>> {
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let tool = programs::build_diskcheck()?;
	let mut checks = Vec::new();
	for (name, count, guests) in options.boots() {
		let boot = Boot {
			name,
			count,
			guests,
			seed: options.seed,
		};
		checks.extend(boot.run(image, &folder, &tool)?);
	}
	Ok(checks)
}

/// One boot of the host.
struct Boot {
	name: &'static str,
	/// The hypervisor's instructions are counted.
	count: bool,
	guests: Vec<Guest>,
	seed: u64,
}

impl Boot {
	/// Runs are numbered from 1.
	fn numbered(&self) -> impl Iterator<Item = (u64, Guest)> {
		(1..).zip(self.guests.iter().copied())
	}

	fn run(&self, image: &Image, folder: &Path, tool: &[u8]) -> Result<Vec<Check>> {
		let initrd = self.initrd(folder, tool)?;
		let file = paths::target().join(format!("test/passthrough-{}.img", self.name));
		let spans = match self.count.then(|| Spans::new(image)).transpose() {
			Ok(spans) => spans,
			Err(why) => return Ok(vec![Check::skipped(self.name, format!("{why:#}"))]),
		};
		let machine = Machine {
			kernel: image.stripped(),
			initrd,
			append: format!("disk_seed={}", self.seed),
			smp: if self.count { 1 } else { 2 },
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
			options.extend(spans.options());
			// The disk takes real time. If virtual time jumped whenever all CPUs are idle, every
			// timeout of the drivers would expire.
			options.extend(["-icount", "shift=0,sleep=on"].map(str::to_owned));
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
		let (said, end) = loop {
			make_disk(&file, self.seed)?;
			let (mut said, mut log) = (Transcript::default(), String::new());
			let end = machine.run_with(&options, limits, Echo::No, |line| {
				log.push_str(line);
				log.push('\n');
				let ours = said.line(line);
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
			let path = paths::target().join(format!("test/passthrough-{}.log", self.name));
			process::write_whole(&path, log.as_bytes())?;
			if log.contains(client::LINUX_STARTS) || attempt == client::ATTEMPTS {
				break (said, end.map(drop));
			}
			attempt += 1;
			say(format_args!(
				"passthrough: the firmware's console stopped before Linux was started; \
				 attempt {attempt} of {}",
				client::ATTEMPTS
			));
		};
		self.figures(&said);
		let verdicts = self.judge(&said, end).into_iter();
		checks.extend(
			verdicts.map(|(name, result)| Check::of(format!("{} {name}", self.name), result)),
		);
		let compared = self.expected(&said).and_then(|expected| {
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
			guest.folder("modules");
			for module in process::files_below(&folder.join("modules"))? {
				let name = module.file_name().context("a module has a name")?;
				let name = format!("modules/{}", name.to_string_lossy());
				guest.file(&name, false, &fs::read(&module)?);
			}
			Ok(())
		})
	}

	/// What the disk must be in the end.
	fn expected(&self, said: &Transcript) -> Result<Expected> {
		let mut expected = Expected::new(self.seed, CELLS);
		for (run, guest) in self.numbered() {
			match guest.act {
				Scenario::Work | Scenario::Reset => {
					if guest.act == Scenario::Reset {
						expected.begun(run, INTERRUPTED);
					}
					let of = RunLog { said, run };
					expected.done(run, of.steps().with_context(|| guest.to_string())?);
				}
				Scenario::Kill | Scenario::Unplug => expected.begun(run, INTERRUPTED),
				Scenario::Cost => {}
			}
		}
		Ok(expected)
	}

	fn judge(&self, said: &Transcript, end: Result<()>) -> Vec<(String, Result<()>)> {
		let mut verdicts = Vec::new();
		for (run, guest) in self.numbered() {
			let of = RunLog { said, run };
			let mut verdict =
				|name: &str, result| verdicts.push((format!("{guest} {name}"), result));
			verdict("path", of.is("host run", guest.parameters()));
			verdict("window", guest.window(&of));
			verdict("end", guest.end(&of));
			verdict("pages", pages(&of, guest.act));
			match guest.act {
				Scenario::Work => {
					verdict("work", guest.work(&of));
					verdict("hcalls", guest.hcalls(&of));
				}
				Scenario::Kill => {}
				Scenario::Reset => {
					verdict("reset", of.is("host reset", ""));
					verdict("work", guest.work(&of));
				}
				Scenario::Unplug => verdict("unplug", unplug(&of)),
				Scenario::Cost => {
					for phase in cost::phases() {
						verdict(&format!("reads, {phase}"), phase_done(&of, phase));
					}
				}
			}
		}
		let mut verdict = |name: &str, result| verdicts.push((name.to_owned(), result));
		for who in ["host before", "host after"] {
			verdict(
				&format!("disk, from the {who}"),
				expect(said, who, &CELLS.to_string()),
			);
		}
		verdict(
			"driver for the guests",
			expect(said, "host bound", "vfio-pci"),
		);
		verdict("driver after them", expect(said, "host rebound", "nvme"));
		verdict("host's log", client::dmesg(said, "host"));
		let complaint = said
			.all("guest complaint")
			.first()
			.map(|text| text.to_string());
		verdict(
			"guests' logs",
			complaint.map_or(Ok(()), |text| Err(anyhow::Error::msg(text))),
		);
		let done = end.and_then(|()| said.one("host done").map(drop));
		verdict("power-off", done);
		verdicts
	}

	/// Tells what is not judged.
	fn figures(&self, said: &Transcript) {
		for (run, guest) in self.numbered() {
			let of = RunLog { said, run };
			let Ok(counts) = of.counts() else { continue };
			let fast: Vec<String> = counts
				.iter()
				.filter(|(name, _)| name.starts_with("fast_"))
				.map(|(name, value)| format!("{name} {value}"))
				.collect();
			let steps: u64 = of.steps().map_or(0, |done| done.iter().sum());
			let exits = counts.get("exits").copied().unwrap_or(0);
			say(format_args!(
				"passthrough {guest}: {steps} reads and writes, {exits} exits, {}",
				fast.join(", ")
			));
		}
	}
}

fn make_disk(path: &Path, seed: u64) -> Result<()> {
	if let Some(folder) = path.parent() {
		fs::create_dir_all(folder)?;
	}
	let mut file =
		fs::File::create(path).with_context(|| format!("can't write {}", path.display()))?;
	let mut bytes = vec![0; CELL];
	let mut whole = Vec::with_capacity(CELLS as usize * CELL);
	for cell in 0..CELLS {
		diskcheck::fill(seed, cell, Tag(0), &mut bytes);
		whole.extend_from_slice(&bytes);
	}
	file.write_all(&whole)?;
	Ok(())
}

/// What was said of one run: lines whose first word is its number.
struct RunLog<'a> {
	said: &'a Transcript,
	run: u64,
}

impl<'a> RunLog<'a> {
	fn all(&self, name: &str) -> Vec<&'a str> {
		let run = self.run.to_string();
		let of_run = |text: &'a str| match text.split_once(' ') {
			Some((number, rest)) => (number == run).then_some(rest),
			None => (text == run).then_some(""),
		};
		self.said.all(name).into_iter().filter_map(of_run).collect()
	}

	fn one(&self, name: &str) -> Result<&'a str> {
		match self.all(name)[..] {
			[text] => Ok(text),
			[] => bail!("no line '@{name} {}'", self.run),
			_ => bail!("several lines '@{name} {}'", self.run),
		}
	}

	fn is(&self, name: &str, wanted: &str) -> Result<()> {
		let text = self.one(name)?;
		ensure!(text == wanted, "{name} is '{text}', not '{wanted}'");
		Ok(())
	}

	fn numbers<const N: usize>(&self, name: &str) -> Result<[u64; N]> {
		numbers(name, self.one(name)?)
	}

	/// How many steps each worker did.
	fn steps(&self) -> Result<[u64; WORKERS as usize]> {
		self.numbers("guest work")
	}

	/// How much each counter has grown while the guest worked.
	fn counts(&self) -> Result<BTreeMap<&'a str, u64>> {
		let mut counts = [BTreeMap::new(), BTreeMap::new()];
		for line in self.all("host counter") {
			let words: Vec<_> = line.split(' ').collect();
			let [when, name, value] = words[..] else {
				bail!("'@host counter {} {line}'?", self.run);
			};
			let value: u64 = value.parse().with_context(|| format!("counter '{line}'"))?;
			let when = usize::from(when == "after");
			ensure!(
				counts[when].insert(name, value).is_none(),
				"{name} is counted twice"
			);
		}
		let [before, after] = counts;
		ensure!(!before.is_empty(), "no counters");
		let grown = before.into_iter().map(|(name, before)| {
			let after = after
				.get(name)
				.with_context(|| format!("{name} is not counted again"))?;
			Ok((
				name,
				after
					.checked_sub(before)
					.with_context(|| format!("{name} shrinks"))?,
			))
		});
		grown.collect()
	}
}

fn numbers<const N: usize>(name: &str, text: &str) -> Result<[u64; N]> {
	let numbers: Vec<u64> = text
		.split(' ')
		.filter_map(|word| word.parse().ok())
		.collect();
	numbers
		.try_into()
		.map_err(|_| anyhow::anyhow!("{name} is '{text}'"))
}

fn expect(said: &Transcript, name: &str, wanted: &str) -> Result<()> {
	let value = said.one(name)?;
	ensure!(value == wanted, "{name} is '{value}', not '{wanted}'");
	Ok(())
}

impl Guest {
	/// The guest made the windows that it could. A reset guest says so twice.
	fn window(self, of: &RunLog<'_>) -> Result<()> {
		let windows = of.all("guest windows");
		let boots = if self.act == Scenario::Reset { 2 } else { 1 };
		ensure!(
			windows.len() == boots,
			"{} boots of the guest, not {boots}",
			windows.len()
		);
		let wanted = if self.wide { "1" } else { "0" };
		match windows.iter().find(|count| **count != wanted) {
			Some(count) => bail!("{count} 64-bit windows, not {wanted}"),
			None => Ok(()),
		}
	}

	/// Its QEMU ended as it should, and the guest before it.
	fn end(self, of: &RunLog<'_>) -> Result<()> {
		if self.act == Scenario::Kill {
			ensure!(
				of.all("guest work").is_empty(),
				"it was done before it was killed"
			);
			// 128 and SIGKILL
			return of.is("host qemu", "137");
		}
		of.is("host qemu", "0")?;
		of.is("guest done", "")
	}

	/// It did all steps, or as many as there was time for.
	fn work(self, of: &RunLog<'_>) -> Result<()> {
		let steps = of.steps()?;
		let wanted = match self.seconds {
			None => STEPS..=STEPS,
			Some(_) => 1..=ENDLESS,
		};
		match steps.iter().find(|steps| !wanted.contains(steps)) {
			Some(steps) => bail!("a worker did {steps} steps"),
			None => Ok(()),
		}
	}

	/// On the 32-bit window each step takes at least two hcalls, one that maps and one
	/// that unmaps; on the other it takes none. They were served by who was asked to.
	fn hcalls(self, of: &RunLog<'_>) -> Result<()> {
		let counts = of.counts()?;
		let count = |name| {
			counts
				.get(name)
				.copied()
				.with_context(|| format!("no counter {name}"))
		};
		let mut fast = 0;
		for name in [
			"fast_h_put_tce",
			"fast_h_put_tce_indirect",
			"fast_h_stuff_tce",
		] {
			fast += count(name)?;
		}
		let (exits, rust) = (count("exits")?, count("entry_rust")?);
		match self.path {
			Column::RustFast => {}
			_ if fast > 0 => bail!("{fast} fast TCE hcalls"),
			_ => {}
		}
		match self.path {
			Column::C | Column::Asm510 => ensure!(rust == 0, "{rust} entries by the Rust path"),
			_ => ensure!(rust > 0, "no entry by the Rust path"),
		}
		if self.wide {
			return Ok(());
		}
		let steps: u64 = of.steps()?.iter().sum();
		// The first ones, and as many again that are under way, went uncounted.
		let least = 2 * steps.saturating_sub(128);
		ensure!(
			exits + fast >= least,
			"{exits} exits and {fast} fast hcalls, not {least}"
		);
		if self.path == Column::RustFast {
			ensure!(fast >= least, "{fast} fast hcalls, not {least}");
		}
		Ok(())
	}
}

/// The guest's memory was pinned while it had the device, and is not any more.
fn pages(of: &RunLog<'_>, act: Scenario) -> Result<()> {
	let [taken, given] = of.numbers("host pins")?;
	ensure!(
		taken == given,
		"{taken} pages were pinned and {given} unpinned"
	);
	if act == Scenario::Cost {
		return Ok(());
	}
	// A reset guest is seen running twice.
	let seen = of.all("host pinned");
	ensure!(!seen.is_empty(), "it was not seen running");
	for text in seen {
		let [taken, given]: [u64; 2] = numbers("pinned", text)?;
		ensure!(taken > given, "no page was pinned while it ran: {text}");
	}
	for text in of.all("host locked") {
		let [locked]: [u64; 1] = numbers("locked", text)?;
		ensure!(
			locked > MEMORY_KB / 2,
			"only {locked} kB were locked while it ran"
		);
	}
	Ok(())
}

/// QEMU, which goes on, has let go of the device and of the memory that it could reach.
fn unplug(of: &RunLog<'_>) -> Result<()> {
	of.is("guest isolated", "isolated")?;
	let [files, locked, taken, given] = of.numbers("host unplugged")?;
	ensure!(files == 0, "QEMU still has {files} files of the device");
	ensure!(locked < LITTLE_KB, "{locked} kB are still locked");
	ensure!(
		taken == given,
		"{taken} pages were pinned and {given} unpinned"
	);
	Ok(())
}

/// A guest did its reads, on the path that it was to be on and no other.
fn phase_done(of: &RunLog<'_>, phase: cost::Phase) -> Result<()> {
	let tag = phase.tag.to_string();
	let said = |name: &str| -> Vec<&str> {
		let of_tag = |line: &'_ str| Some(line.strip_prefix(&tag)?.strip_prefix(' ')?.len());
		of.all(name)
			.into_iter()
			.filter_map(|line| Some(&line[line.len() - of_tag(line)?..]))
			.collect()
	};
	ensure!(
		said("guest read") == [READS.to_string()],
		"{:?}",
		said("guest read")
	);
	let parameters = Guest::new(phase.path, false, Scenario::Cost).parameters();
	ensure!(
		said("host using") == [parameters],
		"kvm_p9 is '{}', not '{parameters}'",
		said("host using").join("', '")
	);
	let entries: Vec<u64> = said("host entries")
		.iter()
		.filter_map(|entries| entries.parse().ok())
		.collect();
	let [before, after] = entries[..] else {
		bail!(
			"entries by the Rust path were counted {} times",
			entries.len()
		);
	};
	let taken = after.saturating_sub(before);
	match phase.path {
		Column::C | Column::Asm510 => ensure!(taken == 0, "{taken} entries by the Rust path"),
		// Each hcall takes the guest out, or only what it waits for.
		Column::RustFull => ensure!(taken >= READS, "{taken} entries by the Rust path"),
		Column::RustFast => ensure!(taken > 0, "no entry by the Rust path"),
	}
	Ok(())
}

#[cfg(test)]
mod tests {
	use super::*;

	fn boot(guests: &[Guest]) -> Boot {
		Boot {
			name: "unit",
			count: false,
			guests: guests.to_vec(),
			seed: 1,
		}
	}

	const WORK: Guest = Guest::new(Column::RustFast, false, Scenario::Work);

	/// One guest with that in its middle.
	fn text(middle: &str) -> String {
		format!(
			"\
@host before 8192
@host bound vfio-pci
@host run 1 rust 1
Linux ppc64le
#1 SMP Debian 6.@guest windows 1 0
@guest running 1
@host pinned 1 8832 640
@host locked 1 530496
{middle}
@host pins 1 8832 8832
@host rebound nvme
@host after 8192
@host dmesg 384
@host done"
		)
	}

	/// It was served fast, but for so many hcalls.
	fn worked(slow: u64) -> String {
		let mut middle = String::new();
		for (when, exits, rust, fast) in [
			("before", 0, 10, 0),
			("after", slow + 100, slow + 100, 4000 - slow),
		] {
			for (name, value) in [
				("exits", exits),
				("entry_rust", rust),
				("fast_h_put_tce", 0),
				("fast_h_put_tce_indirect", 0),
				("fast_h_stuff_tce", fast),
			] {
				middle.push_str(&format!("@host counter 1 {when} {name} {value}\n"));
			}
		}
		text(&format!(
			"{middle}@guest work 1 400 400 400 400\n@guest done 1\n@host qemu 1 0"
		))
	}

	fn failed(guest: Guest, text: &str, end: Result<()>) -> Vec<String> {
		let mut said = Transcript::default();
		text.lines().for_each(|line| {
			said.line(line);
		});
		boot(&[guest])
			.judge(&said, end)
			.into_iter()
			.filter(|(_, result)| result.is_err())
			.map(|(name, _)| name.replace("rust-fast-32-bit", "guest"))
			.collect()
	}

	#[test]
	fn a_good_run_and_each_way_to_fail() {
		let good = worked(0);
		assert!(failed(WORK, &good, Ok(())).is_empty());
		for (from, to, name) in [
			("run 1 rust 1", "run 1 rust 0", "guest path"),
			("windows 1 0", "windows 1 1", "guest window"),
			("pinned 1 8832 640", "pinned 1 640 640", "guest pages"),
			("locked 1 530496", "locked 1 64", "guest pages"),
			("pins 1 8832 8832", "pins 1 8832 8831", "guest pages"),
			("stuff_tce 4000", "stuff_tce 2900", "guest hcalls"),
			(
				"after entry_rust 100",
				"after entry_rust 10",
				"guest hcalls",
			),
			("after entry_rust", "after other", "guest hcalls"),
			("@guest done 1", "", "guest end"),
			("qemu 1 0", "qemu 1 1", "guest end"),
			(
				"before 8192",
				"before error: x",
				"disk, from the host before",
			),
			("after 8192", "after 8191", "disk, from the host after"),
			("bound vfio-pci", "bound nvme", "driver for the guests"),
			("rebound nvme", "rebound vfio-pci", "driver after them"),
			(
				"@host dmesg",
				"@host complaint WARNING: x\n@host dmesg",
				"host's log",
			),
			(
				"@host dmesg",
				"@guest complaint BUG: x\n@host dmesg",
				"guests' logs",
			),
			("@host done", "", "power-off"),
		] {
			let text = good.replacen(from, to, 1);
			assert_ne!(text, good, "{from}");
			assert_eq!(failed(WORK, &text, Ok(())), [name], "{from}");
		}
		let wedged = Err(anyhow::anyhow!("stopped"));
		assert_eq!(failed(WORK, &good, wedged), ["power-off"]);
		let lazy = good.replace("400 400 400", "400 400 399");
		assert_eq!(failed(WORK, &lazy, Ok(())), ["guest work"]);
	}

	#[test]
	fn c_does_not_take_the_rust_path() {
		let c = Guest::new(Column::C, false, Scenario::Work);
		let text = worked(4000).replace("run 1 rust", "run 1 c");
		assert_eq!(failed(c, &text, Ok(())), ["c-32-bit hcalls"]);
		let text = text.replace("after entry_rust 4100", "after entry_rust 10");
		assert!(failed(c, &text, Ok(())).is_empty());
		let text = text.replace("after fast_h_stuff_tce 0", "after fast_h_stuff_tce 1");
		assert_eq!(failed(c, &text, Ok(())), ["c-32-bit hcalls"]);
	}

	#[test]
	fn a_killed_guest_was_killed_in_time() {
		let kill = Guest::new(Column::RustFast, false, Scenario::Kill);
		let good = text("@host qemu 1 137");
		assert!(failed(kill, &good, Ok(())).is_empty());
		let late = text("@guest work 1 1 1 1 1\n@host qemu 1 137");
		assert_eq!(failed(kill, &late, Ok(())), ["guest-kill end"]);
		let by_itself = text("@host qemu 1 0");
		assert_eq!(failed(kill, &by_itself, Ok(())), ["guest-kill end"]);
	}

	#[test]
	fn an_unplugged_device_is_gone() {
		let guest = Guest::new(Column::RustFast, false, Scenario::Unplug);
		let good = text(
			"@guest isolated 1 isolated\n@host unplugged 1 0 2112 8832 8832\n\
			 @guest done 1\n@host qemu 1 0",
		);
		assert!(failed(guest, &good, Ok(())).is_empty());
		for (from, to) in [
			("1 0 2112", "1 1 2112"),
			("1 0 2112", "1 0 530496"),
			("8832 8832\n@guest", "8832 640\n@guest"),
			("isolated 1 isolated", "isolated 1 error: x"),
		] {
			let text = good.replacen(from, to, 1);
			assert_ne!(text, good, "{from}");
			assert_eq!(failed(guest, &text, Ok(())), ["guest-unplug unplug"]);
		}
	}

	#[test]
	fn reads_on_another_path_are_found() {
		let guest = Guest::new(Column::C, false, Scenario::Cost);
		let mut middle = String::new();
		for phase in cost::phases() {
			let tag = phase.tag;
			let rust = phase.path != Column::C;
			let using = Guest::new(phase.path, false, Scenario::Cost).parameters();
			let (before, after) = (1000 * tag, 1000 * tag + if rust { READS } else { 0 });
			middle.push_str(&format!(
				"@host using 1 {tag} {using}\n@host entries 1 {tag} {before}\n\
				 @guest read 1 {tag} {READS}\n@host entries 1 {tag} {after}\n"
			));
		}
		let text = text(&format!("{middle}@guest done 1\n@host qemu 1 0"));
		let text = text.replace("run 1 rust", "run 1 c");
		assert!(failed(guest, &text, Ok(())).is_empty());
		let name = |phase| format!("c-32-bit-cost reads, {phase}");
		for (from, to, phase) in [
			("read 1 2 200", "read 1 2 error: x", "rust-full, round 1"),
			("@guest read 1 2 200", "", "rust-full, round 1"),
			("using 1 3 rust 1", "using 1 3 rust 0", "rust-fast, round 1"),
			("entries 1 4 4000", "entries 1 4 3999", "c, round 2"),
			("entries 1 5 5200", "entries 1 5 5199", "rust-full, round 2"),
			("@host entries 1 6 6200", "", "rust-fast, round 2"),
		] {
			let bad = text.replacen(from, to, 1);
			assert_ne!(bad, text, "{from}");
			assert_eq!(failed(guest, &bad, Ok(())), [name(phase)], "{from}");
		}
	}

	#[test]
	fn nothing_said_is_all_failed() {
		assert!(failed(WORK, "", Ok(())).len() >= 11);
	}
}
