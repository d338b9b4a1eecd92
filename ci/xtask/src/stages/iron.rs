// SPDX-License-Identifier: GPL-2.0-only
//! Stage `iron`: the folder of `cargo xtask iron`, used in emulated hosts as on a real machine.

use ::report::console::Line;
use ::report::iron::Iron;
use anyhow::{Context, Result, bail, ensure};
use cases::{Case, case};
use harness::check::Check;
use harness::initrd::Initrd;
use harness::kernel::{self, Series};
use harness::paths;
use harness::process::{self, say};
use harness::programs;
use harness::qemu::Machine;
use harness::setup::{self, Brought};
use protocol::{Column, GuestMode};

use crate::bench::Plan;
use crate::client::{Transcript, dmesg, expect, read, until_linux_starts};
use crate::iron;
use crate::stage::{Args, Need, Part, Stage, log_path, stage};

/// On a kernel with kvm-p9, and from Debian's kernel into ours.
pub const STAGE: Stage = stage("iron", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs, Need::Client];
		let part = Part::new(needs, 60, move || iron(args, series)).on(series);
		if asked(args) { part.alone() } else { part }
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

fn asked(args: &Args) -> bool {
	args.all || args.names("iron")
}

const CASES: [&Case; 2] = [case!("null"), case!("h_put_tce")];

const GUEST: GuestMode = GuestMode::Radix;

/// What `run check` and others have to say: code, last line, number of lines.
const SAID: [(&str, &str); 6] = [
	("check", "0 run: POWER9"),
	("power8", "1 run: the CPU is 'POWER8"),
	("dd21", "1 run: POWER9 revision '2.1"),
	("hash", "1 run: the MMU of the host is 'Hash'"),
	("guest", "1 run: the platform is 'pSeries', not PowerNV"),
	("nothing", "2 usage: run check | here | kexec --yes (1)"),
];

fn iron(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	if !asked(args) {
		let why = "two more machines; with --all or by name";
		return Ok(vec![Check::skipped("the folder for a real machine", why)]);
	}
	let client = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's kernel", why)]),
	};
	let kexec = match setup::bring("kexec")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's kexec", why)]),
	};
	let image = kernel::build(series, false)?;
	let plan = Plan {
		guests: &[GUEST],
		..Plan::new(true, CASES.to_vec(), 0)
	};
	let folder = paths::target().join("test").join(series.file("iron"));
	iron::bundle(&image, &plan, &programs::build()?, &folder)?;

	let scripts = paths::root().join("ci/client");
	let mut host = Initrd::new();
	host.file("common", false, &read(&scripts.join("common"))?);
	host.file("init", true, &read(&scripts.join("iron"))?);
	host.folder("bin");
	host.file(
		"bin/busybox",
		true,
		&read(&client.join("root/bin/busybox"))?,
	);
	host.tree(&kexec)?;
	host.folder("iron");
	let mut names = Vec::new();
	for file in process::files_below(&folder)? {
		let name = file.file_name().context("a file has a name")?;
		let name = format!("iron/{}", name.to_string_lossy());
		let executable = name == "iron/run" || name == "iron/vmm";
		host.file(&name, executable, &read(&file)?);
		names.push(name);
	}
	ensure!(names.len() == 9, "the folder has {names:?}");
	let initrd = paths::target()
		.join("boot")
		.join(series.file("iron"))
		.with_extension("cpio");
	process::write_whole(&initrd, &host.finish())?;

	let mut checks = Vec::new();
	for (what, kernel) in [
		("here", image.stripped()),
		("kexec", client.join("vmlinux")),
	] {
		say(format_args!("iron, {what} (half a minute)"));
		let machine = Machine {
			kernel,
			initrd: initrd.clone(),
			append: format!("iron_do={what}"),
			smp: 1,
			threads: 1,
			mem: "3G".to_owned(),
			icount: false,
		};
		let name = format!("{}-{what}", series.file("iron"));
		let (transcript, end) = until_linux_starts(&machine, &name)?;
		let mut check =
			|name: &str, result| checks.push(Check::of(format!("{what} {name}"), result));
		check("refusals", refusals(&transcript));
		check(
			"figures",
			figures(&transcript, if what == "here" { 2 } else { 1 }),
		);
		check("report", report(&name, &image.release, what == "here"));
		match what {
			"here" => {
				check("parameters and files", left_behind(&transcript));
				check("host dmesg", dmesg(&transcript, "host"));
			}
			_ => check(
				"commands of a kernel without kvm-p9",
				without_kvm_p9(&transcript),
			),
		}
		check("end of the machine", end);
	}
	Ok(checks)
}

/// Each machine that is not supported gets one line and its code.
fn refusals(transcript: &Transcript) -> Result<()> {
	for (name, wanted) in SAID {
		let name = format!("host {name}");
		let said = transcript.one(&name)?;
		if !said.starts_with(wanted) || !said.ends_with("(1)") {
			bail!("{name} is '{said}', not one line that begins with '{wanted}'");
		}
	}
	Ok(())
}

/// The program has measured everything, as often as it was started.
fn figures(transcript: &Transcript, runs: usize) -> Result<()> {
	let lines = &transcript.1;
	let count = |which: fn(&Line) -> bool| lines.iter().filter(|line| which(line)).count();
	let done = count(|line| matches!(line, Line::Done));
	ensure!(done == runs, "{done} of {runs} runs came to their end");
	for case in CASES {
		for path in [Column::C, Column::RustFull, Column::RustFast] {
			let measured = lines.iter().filter_map(|line| match line {
				Line::Result(measured) => Some(measured),
				_ => None,
			});
			let cells = measured.map(|measured| measured.cell);
			let of_cell = |cell: &::report::console::Cell| {
				cell.case == case && cell.guest == GUEST && cell.path == path
			};
			// The spans are collected on the Rust path only.
			let wanted = if path == Column::C { 1 } else { runs };
			let found = cells.filter(of_cell).count();
			let name = (case.name, path.name());
			ensure!(
				found == wanted,
				"{name:?} was measured {found} times, not {wanted}"
			);
		}
	}
	Ok(())
}

/// What `cargo xtask iron report` makes of the machine's console.
fn report(name: &str, release: &str, with_cycles: bool) -> Result<()> {
	let iron: Iron = iron::read(&[log_path(name)])?;
	ensure!(iron.problems.is_empty(), "{:?}", iron.problems);
	ensure!(
		iron.release == release,
		"Linux {} was measured",
		iron.release
	);
	for case in CASES {
		let nanoseconds = |path| {
			let mut figures = iron.figures.iter();
			let figure =
				figures.find(|figure| figure.cell.case == case && figure.cell.path == path);
			figure
				.and_then(|figure| figure.nanoseconds)
				.map(|ns| ns.min)
		};
		let (c, fast) = (nanoseconds(Column::C), nanoseconds(Column::RustFast));
		let (Some(c), Some(fast)) = (c, fast) else {
			bail!("{} has no time", case.name);
		};
		// The emulator takes real time for each instruction, so even its time is in this order.
		ensure!(fast < c, "{}: fast {fast:.0} ns, C {c:.0} ns", case.name);
	}
	let cycles = iron.figures.iter().any(|figure| !figure.cycles.is_empty());
	ensure!(cycles == with_cycles, "cycles: {cycles}");
	Ok(())
}

/// `run here` leaves the parameters as it found them, and a whole report.
fn left_behind(transcript: &Transcript) -> Result<()> {
	let said = transcript.one("host here")?;
	ensure!(
		said.starts_with("0 run: wrote report-"),
		"run here: '{said}'"
	);
	expect(transcript, "host fast", "0")?;
	let files = "console.log counters.jobs counters.jobs.spans dmesg environment perf spans.log";
	expect(transcript, "host files", files)
}

/// A kernel without kvm-p9 is not measured, and kexec wants to be asked for twice.
fn without_kvm_p9(transcript: &Transcript) -> Result<()> {
	for (name, wanted) in [
		(
			"host here",
			"is without kvm-p9: see 'kexec' in README.md (1)",
		),
		("host no", "say 'run kexec --yes' (1)"),
	] {
		let said = transcript.one(name)?;
		ensure!(
			said.starts_with("1 run: ") && said.ends_with(wanted),
			"{name} is '{said}'"
		);
	}
	Ok(())
}
