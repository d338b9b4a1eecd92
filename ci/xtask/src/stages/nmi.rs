// SPDX-License-Identifier: GPL-2.0-only
//! Stage `nmi`: system resets of the host while a guest runs.
//!
//! The tests run in the machine and look at guest and host. QEMU's debugger stub interrupts the CPU
//! at each instruction of the fast path in turn.

mod debugger;
mod places;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow};
use booted::nmi::count_of;
use booted::registry;
use harness::check::{Check, Found};
use harness::gdb::Gdb;
use harness::kernel::Series;
use harness::paths;

use self::debugger::{Debugger, Done};
use self::places::Kernel;
use crate::booted_machine::{Boot, boot_once, names};
use crate::stage::{Args, Need, Part, Stage, log_path, stage};

/// One machine with one CPU.
pub const STAGE: Stage = stage("nmi", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs];
		Part::new(needs, 40, move || nmi(args, series)).on(series)
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

fn nmi(args: &Args, series: &'static Series) -> Result<Found> {
	let mut tests = names(&registry::tests(), registry::Boot::Nmi);
	if !args.booted.is_empty() {
		tests.retain(|test| args.booted.iter().any(|start| test.starts_with(start)));
	}
	let image = harness::kernel::build(series, false)?;
	let kernel = Kernel::of(&image)?;
	let log = series.file("nmi");
	let socket = paths::target().join("test").join(format!("{log}.socket"));
	harness::process::remove(&socket)?;
	let chardev = format!("socket,id=gdb,server=on,wait=off,path={}", socket.display());
	let options = ["-chardev", &chardev, "-gdb", "chardev:gdb"];
	let machine = Boot::counted(args, log.clone(), "", tests.clone()).debugged();

	let ended = AtomicUsize::new(0);
	let counted = Mutex::new(Vec::new());
	let (checks, done) = thread::scope(|scope| {
		let debugger = scope.spawn(|| {
			let gdb = Gdb::connect(&socket)?;
			Debugger::new(gdb, &kernel, &ended).run(&tests)
		});
		let checks = boot_once(args, &image, machine, &options, |_, detail| {
			counted
				.lock()
				.expect("nobody panics")
				.push(count_of(detail));
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
	for ((test, done), counted) in tests.iter().zip(&done).zip(&counted) {
		let complaint = match counted {
			Some(counted) if *counted == done.interrupts && *counted > 0 => None,
			counted => Some(format!(
				"{} interrupts, and the test saw {counted:?}",
				done.interrupts
			)),
		};
		checks.push(Check::new(format!("{test}: interrupts"), complaint));
		text.push_str(&format!("{test}: {}\n", describe(done)));
	}
	harness::process::write_whole(&log_path(&format!("{log}-places")), text.as_bytes())?;
	Ok(Found { text, checks })
}

/// How many interrupts where.
fn describe(done: &Done) -> String {
	let places = done.places.iter();
	let all: Vec<_> = places
		.map(|(place, count)| format!("{} {count}", place.name()))
		.collect();
	all.join(", ")
}
