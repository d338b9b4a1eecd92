// SPDX-License-Identifier: GPL-2.0-only
//! Stage `nested`: a guest is a hypervisor (L1), in which our VMM runs a guest of its
//! own (L2).

use ::report::console::Line;
use anyhow::{Result, bail};
use cases::{Case, case};
use harness::check::Check;
use harness::kernel::{self, Series};
use harness::process::say;
use harness::programs::{self, Job};
use harness::qemu::Machine;
use harness::setup::{self, Brought};
use protocol::GuestMode;

use crate::client::{Transcript, dmesg, expect, pack, read, until_linux_starts};
use crate::stage::{Args, Need, Part, Stage, stage};

/// On both paths.
pub const STAGE: Stage = stage("nested", |args| {
	let part = |series| {
		let needs = [Need::Kernel(series), Need::Programs, Need::Client];
		let work = move || nested(args, series);
		Part::new(needs, 1, work).on(series).alone()
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

fn nested(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	// Asked for by name it is run, too.
	if !args.all && args.stages.is_empty() {
		let why = "only with --all or by name";
		return Ok(vec![Check::skipped("L2 guests", why)]);
	}
	l2_guests(series)
}

/// Round trips of each kind that the L2 makes in a batch, and batches.
const L2_ROUNDS: u64 = 10_000;

const L2_BATCHES: u64 = 2;

/// Has a guest of our host be a hypervisor, and its guest make hcalls: those that the
/// L1's kernel answers and those that its userspace does.
fn l2_guests(series: &'static Series) -> Result<Vec<Check>> {
	let kernel = kernel::build(series, false)?.stripped();
	let folder = match setup::bring("client")? {
		Brought::Here(folder) => folder,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Debian's QEMU", why)]),
	};
	let job = Job::Bench {
		series: "L1".to_owned(),
		cases: L2_CASES.map(|case| case.name).to_vec(),
		guests: L2_GUESTS.map(GuestMode::name).to_vec(),
		// The L1's kernel is not ours: it has one path.
		paths: vec![protocol::Column::C.name()],
		iterations: L2_ROUNDS,
		batches: L2_BATCHES,
		spans: false,
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
			kernel: kernel.clone(),
			initrd: initrd.clone(),
			append: format!("kvm_p9.path={path} kvm_hv.nested=1 client_l1=1"),
			smp: 2,
			threads: 1,
			mem: "3G".to_owned(),
			icount: false,
		};
		let (transcript, end) =
			until_linux_starts(&machine, &format!("{}-{path}", series.file("nested")))?;
		for (name, result) in [
			("hcalls", l2_hcalls(&transcript)),
			("host dmesg", dmesg(&transcript, "host")),
			("counters", l2_counters(&transcript, path)),
			("power-off", l1_power_off(&transcript, end)),
		] {
			checks.push(Check::of(format!("{path} {name}"), result));
		}
	}
	Ok(checks)
}

const L2_CASES: [&Case; 2] = [case!("h_prod"), case!("unknown")];

const L2_GUESTS: [GuestMode; 2] = [GuestMode::Radix, GuestMode::Real];

/// The VMM in the L1 measured all of it, and found nothing wrong.
fn l2_hcalls(transcript: &Transcript) -> Result<()> {
	let mut measured = Vec::new();
	let mut done = false;
	for line in &transcript.1 {
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
					case.name,
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
fn l2_counters(transcript: &Transcript, path: &str) -> Result<()> {
	let cells = (L2_CASES.len() * L2_GUESTS.len()) as u64;
	let wanted = match path {
		"c" => 0,
		_ => 2 * cells * L2_ROUNDS * L2_BATCHES,
	};
	let rust = transcript.counter("entry_rust")?;
	if rust < wanted || wanted == 0 && rust != 0 {
		bail!("entry_rust is {rust} with path={path}; the L2 alone makes {wanted}");
	}
	for name in ["c_cpu", "c_host_mmu", "c_secure"] {
		let value = transcript.counter(name)?;
		if value != 0 {
			bail!("{name} is {value}");
		}
	}
	Ok(())
}

fn l1_power_off(transcript: &Transcript, end: Result<()>) -> Result<()> {
	end?;
	expect(transcript, "host qemu", "0")?;
	transcript.one("host done")?;
	Ok(())
}
