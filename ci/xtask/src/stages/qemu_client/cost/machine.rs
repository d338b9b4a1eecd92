// SPDX-License-Identifier: GPL-2.0-only
//! Boots the host with its guests, and listens to them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ::report::client::{Boot, Client, Work};
use ::trace::span;
use anyhow::{Context, Result, bail, ensure};
use harness::check::Check;
use harness::kernel::{Image, Series};
use harness::paths;
use harness::process::{self, say};
use harness::qemu::{self, Machine};
use protocol::Column;

use super::figures::cost;
use super::judge;
use super::plan::{GUESTS, GuestConfig, PATHS, Section, WORKS, sections, works};
use super::profile;
use crate::bench;
use crate::client::{
	CELLS, Transcript, dmesg, make_disk, pack, put_modules, until_linux_starts_with,
};
use crate::spans::{self, Spans};

/// How long a host may take, and how long each of its guests: a minute on an idle machine.
const TIME: Duration = Duration::from_secs(300);
const TIME_OF_GUEST: Duration = Duration::from_secs(400);

/// CPUs of the host. With one, virtual time is exact, and a run like the last one.
const CPUS: u32 = 1;

pub(super) fn run(
	series: &'static Series,
	image: &Image,
	folder: &Path,
	tool: &[u8],
) -> Result<Vec<Check>> {
	let name = series.file("client-cost");
	let spans = match Spans::new(image, &format!("{name}.spans")) {
		Ok(spans) => spans,
		Err(why) => return Ok(vec![Check::skipped("cost", format!("{why:#}"))]),
	};
	let runs: Vec<(u64, GuestConfig)> = (1..).zip(GUESTS).collect();
	let lines: String = runs.iter().map(|(run, guest)| guest.line(*run)).collect();
	let inits = ("cost-host", "cost-guest");
	let initrd = pack(folder, "client-cost", inits, |host, guest| {
		host.file("runs", false, lines.as_bytes());
		host.file("diskcheck", true, tool);
		guest.file("works", false, works().as_bytes());
		guest.file("diskcheck", true, tool);
		put_modules(guest, folder, "virtio")
	})?;
	let machine = Machine {
		kernel: image.stripped(),
		initrd,
		append: String::new(),
		smp: CPUS,
		threads: 1,
		mem: "2G".to_owned(),
		icount: true,
	};
	let disk = paths::target().join(format!("test/{name}.img"));
	let drive = format!("file={},if=none,id=disk,format=raw", disk.display());
	let device = "nvme,drive=disk,serial=client,bus=pcie.0";
	let mut options = ["-drive", &drive, "-device", device]
		.map(str::to_owned)
		.to_vec();
	options.extend(spans.options()?);
	options.extend(qemu::IN_REAL_TIME.map(str::to_owned));
	let options: Vec<&str> = options.iter().map(String::as_str).collect();
	say(format_args!(
		"client cost: {} guests (a minute each)",
		runs.len()
	));
	let time = TIME + TIME_OF_GUEST * runs.len() as u32;
	let (transcript, end) = until_linux_starts_with(&machine, &options, &name, time, || {
		make_disk(&disk, 1, CELLS)
	})?;
	let recorded = spans::read(&spans.file);
	let recorded = match recorded {
		Ok(recorded) => recorded,
		Err(why) => {
			return Ok(vec![
				Check::of("cost, boot", end),
				Check::of("cost, record", Err(why)),
			]);
		}
	};
	let mut checks = vec![
		Check::of("cost, boot", end),
		Check::of("cost, host dmesg", dmesg(&transcript, "host")),
	];
	let mut client = Client {
		date: process::output(Command::new("date").args(["-u", "+%Y-%m-%d"]))?,
		kernel: image.release.clone(),
		works: Vec::new(),
		boots: Vec::new(),
	};
	for (run, guest) in &runs {
		let log = Log {
			transcript: &transcript,
			run: *run,
		};
		let said = guest
			.says()
			.iter()
			.try_for_each(|(name, wanted)| log.expect(name, wanted));
		checks.push(Check::of(format!("cost, {guest}"), said));
		match log.works(*guest, &recorded) {
			Ok(works) => client.works.extend(works),
			Err(why) => checks.push(Check::of(format!("cost, {guest}, figures"), Err(why))),
		}
		match log.boot(*guest) {
			Ok(boot) => client.boots.push(boot),
			Err(why) => checks.push(Check::of(format!("cost, {guest}, counters"), Err(why))),
		}
		for section in sections(*run).filter(|section| section.path == Column::RustFast) {
			let sum = log.reasons_add_up(section.tag);
			let what = format!(
				"cost, {guest}, reasons of full exits, {}",
				section.work.name
			);
			checks.push(Check::of(what, sum));
		}
	}
	println!("{}\n{}", client.costs(), client.reasons());
	profile::write(series, &runs, &recorded, &spans.symbols)?;
	let path = paths::target().join(format!("test/{}.json", series.file("reference-client")));
	process::write_whole(&path, serde_json::to_string_pretty(&client)?.as_bytes())?;
	say(format_args!("{}", paths::short(&path)));
	let reference = bench::client(series)?;
	checks.extend(judge::judge(&client, reference.as_ref()));
	Ok(checks)
}

/// The lines of one guest.
struct Log<'a> {
	transcript: &'a Transcript,
	run: u64,
}

impl<'a> Log<'a> {
	/// The rest of the only line that begins with these words after its name.
	fn one(&self, name: &str, words: &str) -> Result<&'a str> {
		let begin = format!("{} {words}", self.run);
		let begin = begin.trim_end();
		let all = self.transcript.all(name);
		let mut of_guest = all.iter().filter_map(|line| {
			let rest = line.strip_prefix(begin)?;
			(rest.is_empty() || rest.starts_with(' ')).then(|| rest.trim_start())
		});
		match (of_guest.next(), of_guest.next()) {
			(Some(rest), None) => Ok(rest),
			(None, _) => bail!("no line '@{name} {begin}'"),
			_ => bail!("several lines '@{name} {begin}'"),
		}
	}

	fn expect(&self, name: &str, wanted: &str) -> Result<()> {
		let value = self.one(name, "")?;
		ensure!(
			value.starts_with(wanted),
			"{name} is '{value}', not '{wanted}'"
		);
		Ok(())
	}

	fn cost(
		&self,
		section: Section,
		recorded: &[span::Recording],
	) -> Result<::report::client::Cost> {
		let wanted = match section.path {
			Column::C | Column::Asm510 => "c 1 1",
			Column::RustFull => "rust 0 0",
			Column::RustFast => "rust 1 1",
		};
		let using = self.one("host using", &section.tag.to_string())?;
		ensure!(using == wanted, "the host uses '{using}', not '{wanted}'");
		let did = self.one("guest did", &section.tag.to_string())?;
		let count = did.parse().with_context(|| format!("did '{did}'"))?;
		let mut of_tag = recorded.iter().filter(|one| one.tag == section.tag);
		let (Some(recorded), None) = (of_tag.next(), of_tag.next()) else {
			bail!("section {} was not recorded, or twice", section.tag);
		};
		cost(recorded, count).with_context(|| format!("section {}", section.tag))
	}

	fn works(&self, guest: GuestConfig, recorded: &[span::Recording]) -> Result<Vec<Work>> {
		let costs = sections(self.run)
			.map(|section| self.cost(section, recorded))
			.collect::<Result<Vec<_>>>()?;
		let of_path = costs.chunks(WORKS.len()).collect::<Vec<_>>();
		let [c, full, fast] = of_path[..] else {
			bail!("not {} paths", PATHS.len());
		};
		let works = WORKS.iter().enumerate().map(|(index, work)| Work {
			guest: guest.to_string(),
			work: work.name.to_owned(),
			c: c[index].clone(),
			rust_full: full[index].clone(),
			rust_fast: fast[index].clone(),
		});
		Ok(works.collect())
	}

	fn counters(&self, tag: u64, when: &str) -> Result<BTreeMap<&'a str, u64>> {
		let line = self.one("host counters", &format!("{tag} {when}"))?;
		line.split_whitespace()
			.map(|word| {
				let (name, value) = word.split_once('=').context("no counter")?;
				Ok((name, value.parse()?))
			})
			.collect()
	}

	/// How much each counter grew.
	fn grown(&self, tag: u64) -> Result<BTreeMap<String, u64>> {
		let (begin, end) = (self.counters(tag, "begin")?, self.counters(tag, "end")?);
		let grown = end.into_iter().map(|(name, value)| {
			let grown = value - begin.get(name).copied().unwrap_or(0);
			(name.to_owned(), grown)
		});
		Ok(grown.filter(|(_, grown)| *grown != 0).collect())
	}

	fn boot(&self, guest: GuestConfig) -> Result<Boot> {
		Ok(Boot {
			guest: guest.to_string(),
			counters: self.grown(0)?,
		})
	}

	/// Each full exit has one reason among the counters, but for those that are under way.
	fn reasons_add_up(&self, tag: u64) -> Result<()> {
		let grown = self.grown(tag)?;
		let entries = grown.get("entry_rust").copied().unwrap_or(0);
		let reasons: u64 = powerpc::LightCounter::ALL
			.iter()
			.filter(|counter| counter.is_full())
			.filter_map(|counter| grown.get(counter.name()))
			.sum();
		ensure!(
			entries.abs_diff(reasons) <= u64::from(CPUS),
			"{reasons} reasons for the exits of {entries} entries"
		);
		Ok(())
	}
}
