// SPDX-License-Identifier: GPL-2.0-only
//! Stage `nmi`: system resets and machine checks of the host while a guest runs.
//!
//! The tests run in the machine and look at guest and host. The runner interrupts the CPU by QEMU's
//! debugger stub: at each instruction of the fast path and of the entry in turn, or at random times.

mod debugger;
mod places;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use booted::nmi::{Interrupts, Kind, Seen, Where};
use booted::registry;
use harness::check::{Check, Found};
use harness::gdb::Gdb;
use harness::kernel::Series;
use harness::paths;

use self::debugger::{Debugger, Done};
use self::places::{Kernel, Place};
use crate::booted_machine::{Boot, boot_once, names};
use crate::stage::{Args, Need, Part, Stage, log_path, seed, stage};

/// One machine with one CPU.
pub const STAGE: Stage = stage("nmi", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		let seconds = if asked(args) { 110 } else { 1 };
		let part = Part::new(needs, seconds, move || nmi(args, series)).on(series);
		// The machine runs in real time.
		if asked(args) { part.alone() } else { part }
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

fn asked(args: &Args) -> bool {
	args.all || args.names("nmi")
}

fn nmi(args: &Args, series: &'static Series) -> Result<Found> {
	if !asked(args) {
		let why = "two minutes; with --all or by name";
		return Ok(Found::from(vec![Check::skipped("system resets", why)]));
	}
	let mut tests = names(&registry::tests(), registry::Boot::Nmi);
	if !args.booted.is_empty() {
		tests.retain(|test| args.booted.iter().any(|start| test.starts_with(start)));
	}
	let image = harness::kernel::build(series, false)?;
	let kernel = Kernel::of(&image)?;
	let log = series.file("nmi");
	let folder = paths::target().join("test");
	std::fs::create_dir_all(&folder)?;
	let socket = folder.join(format!("{log}.socket"));
	harness::process::remove(&socket)?;
	let chardev = format!("socket,id=gdb,server=on,wait=off,path={}", socket.display());
	let options = ["-chardev", &chardev, "-gdb", "chardev:gdb"];
	let machine = Boot::counted(args, log.clone(), "", tests.clone()).debugged();

	let seed = seed(args)?;
	let ended = AtomicUsize::new(0);
	let counted = Mutex::new(Vec::new());
	let (checks, done) = thread::scope(|scope| {
		let debugger = scope.spawn(|| {
			let gdb = Gdb::connect(&socket)?;
			Debugger::new(gdb, &kernel, &ended, seed).run(&tests)
		});
		let checks = boot_once(args, &image, machine, &options, |_, detail| {
			counted
				.lock()
				.expect("nobody panics")
				.push(Seen::of(detail));
			ended.fetch_add(1, Ordering::SeqCst);
		});
		(checks, debugger.join())
	});
	let mut checks = checks?;
	let done = done.map_err(|_| anyhow!("the debugger panicked"))?;
	let done = match done.context("debugger") {
		Ok(done) => done,
		Err(error) => {
			checks.push(Check::of("debugger", Err(error)));
			Vec::new()
		}
	};
	let counted = counted.into_inner().expect("nobody panics");
	let mut text = String::new();
	for ((test, done), seen) in tests.iter().zip(&done).zip(&counted) {
		let complaint = complaint(test, done, *seen);
		checks.push(Check::new(format!("{test}: interrupts"), complaint));
		text.push_str(&format!("{test}: {}\n", describe(done)));
	}
	harness::process::write_whole(&log_path(&format!("{log}-places")), text.as_bytes())?;
	Ok(Found { text, checks })
}

/// What is wrong with what a test has seen.
fn complaint(test: &str, done: &Done, seen: Option<Seen>) -> Option<String> {
	let Some(seen) = seen else {
		return Some("the test does not say how many it saw".to_owned());
	};
	let Some(Interrupts { kind, at }) = Interrupts::of(test) else {
		return Some("not a test of interrupts".to_owned());
	};
	// Of a machine check in a guest only the guest is told, and of each the kernel queues for its
	// log, which only so many fit into.
	let told = match kind {
		Kind::SystemReset => 0,
		Kind::MachineCheck => done.at(Place::Guest),
	};
	let all = done.interrupts - told;
	let least = match (kind, at) {
		(Kind::MachineCheck, Where::Fast | Where::Entry | Where::Exit | Where::Light) => 1,
		_ => all,
	};
	let right = done.interrupts > 0
		&& (least..=all).contains(&seen.interrupts)
		&& seen.lost == done.at(Place::Lost)
		&& seen.told == told;
	(!right).then(|| format!("{}, and the test saw {}", describe(done), seen.text()))
}

/// How many interrupts where.
fn describe(done: &Done) -> String {
	let list = |places: &BTreeMap<Place, u64>| {
		let all: Vec<_> = places
			.iter()
			.map(|(place, count)| format!("{} {count}", place.name()))
			.collect();
		all.join(", ")
	};
	let refused = match done.refused.is_empty() {
		true => String::new(),
		false => format!("; not where the host would end: {}", list(&done.refused)),
	};
	format!(
		"{} interrupts: {}{refused}",
		done.interrupts,
		list(&done.places)
	)
}
