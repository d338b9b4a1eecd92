// SPDX-License-Identifier: GPL-2.0-only
//! Judges a boot: each guest, the disk, the drivers and the logs.

use anyhow::{Context, Result, bail, ensure};
use diskcheck::Expected;
use protocol::Column;

use super::cost;
use super::guest::{ENDLESS, GuestRun, READS, STEPS, Scenario};
use super::plan::{Boot, CELLS};
use super::run_log::{RunLog, numbers};
use crate::client::{self, Transcript};

/// Bound on the steps that an interrupted run may have done, of a worker.
const INTERRUPTED: u64 = 1 << 14;

/// Kilobytes of a guest's memory, and what is much less than that.
const MEMORY_KB: u64 = 512 << 10;
const LITTLE_KB: u64 = MEMORY_KB / 8;

impl Boot {
	/// What the disk must be in the end.
	pub(super) fn expected(&self, transcript: &Transcript) -> Result<Expected> {
		let mut expected = Expected::new(self.seed, CELLS);
		for (run, guest) in self.numbered() {
			match guest.scenario {
				Scenario::Work | Scenario::Reset => {
					if guest.scenario == Scenario::Reset {
						expected.begun(run, INTERRUPTED);
					}
					let log = RunLog { transcript, run };
					expected.done(run, log.steps().with_context(|| guest.to_string())?);
				}
				Scenario::Kill | Scenario::Unplug => expected.begun(run, INTERRUPTED),
				Scenario::Cost => {}
			}
		}
		Ok(expected)
	}

	pub(super) fn judge(
		&self,
		transcript: &Transcript,
		end: Result<()>,
	) -> Vec<(String, Result<()>)> {
		let mut verdicts = Vec::new();
		for (run, guest) in self.numbered() {
			let log = RunLog { transcript, run };
			let mut verdict =
				|name: &str, result| verdicts.push((format!("{guest} {name}"), result));
			verdict("path", log.is("host run", guest.parameters()));
			verdict("window", guest.window(&log));
			verdict("end", guest.end(&log));
			verdict("pages", pages(&log, guest.scenario));
			match guest.scenario {
				Scenario::Work => {
					verdict("work", guest.work(&log));
					verdict("hcalls", guest.hcalls(&log));
				}
				Scenario::Kill => {}
				Scenario::Reset => {
					verdict("reset", log.is("host reset", ""));
					verdict("work", guest.work(&log));
				}
				Scenario::Unplug => verdict("unplug", unplug(&log)),
				Scenario::Cost => {
					for section in cost::sections() {
						verdict(&format!("reads, {section}"), section_done(&log, section));
					}
				}
			}
		}
		let mut verdict = |name: &str, result| verdicts.push((name.to_owned(), result));
		for who in ["host before", "host after"] {
			verdict(
				&format!("disk, from the {who}"),
				expect(transcript, who, &CELLS.to_string()),
			);
		}
		verdict(
			"driver for the guests",
			expect(transcript, "host bound", "vfio-pci"),
		);
		verdict(
			"driver after them",
			expect(transcript, "host rebound", "nvme"),
		);
		verdict("host's log", client::dmesg(transcript, "host"));
		let complaint = transcript
			.all("guest complaint")
			.first()
			.map(|text| text.to_string());
		verdict(
			"guests' logs",
			complaint.map_or(Ok(()), |text| Err(anyhow::Error::msg(text))),
		);
		let done = end.and_then(|()| transcript.one("host done").map(drop));
		verdict("power-off", done);
		verdicts
	}
}

impl GuestRun {
	/// The guest made the windows that it could. A reset guest says so twice.
	fn window(self, log: &RunLog<'_>) -> Result<()> {
		let windows = log.all("guest windows");
		let boots = if self.scenario == Scenario::Reset {
			2
		} else {
			1
		};
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
	fn end(self, log: &RunLog<'_>) -> Result<()> {
		if self.scenario == Scenario::Kill {
			ensure!(
				log.all("guest work").is_empty(),
				"it was done before it was killed"
			);
			// 128 and SIGKILL
			return log.is("host qemu", "137");
		}
		log.is("host qemu", "0")?;
		log.is("guest done", "")
	}

	/// It did all steps, or as many as there was time for.
	fn work(self, log: &RunLog<'_>) -> Result<()> {
		let steps = log.steps()?;
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
	fn hcalls(self, log: &RunLog<'_>) -> Result<()> {
		let counts = log.counts()?;
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
		let steps: u64 = log.steps()?.iter().sum();
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

fn expect(transcript: &Transcript, name: &str, wanted: &str) -> Result<()> {
	let value = transcript.one(name)?;
	ensure!(value == wanted, "{name} is '{value}', not '{wanted}'");
	Ok(())
}

/// The guest's memory was pinned while it had the device, and is not any more.
fn pages(log: &RunLog<'_>, scenario: Scenario) -> Result<()> {
	let [taken, given] = log.numbers("host pins")?;
	ensure!(
		taken == given,
		"{taken} pages were pinned and {given} unpinned"
	);
	if scenario == Scenario::Cost {
		return Ok(());
	}
	// A reset guest is seen running twice.
	let seen = log.all("host pinned");
	ensure!(!seen.is_empty(), "it was not seen running");
	for text in seen {
		let [taken, given]: [u64; 2] = numbers("pinned", text)?;
		ensure!(taken > given, "no page was pinned while it ran: {text}");
	}
	for text in log.all("host locked") {
		let [locked]: [u64; 1] = numbers("locked", text)?;
		ensure!(
			locked > MEMORY_KB / 2,
			"only {locked} kB were locked while it ran"
		);
	}
	Ok(())
}

/// QEMU, which goes on, has let go of the device and of the memory that it could reach.
fn unplug(log: &RunLog<'_>) -> Result<()> {
	log.is("guest isolated", "isolated")?;
	let [files, locked, taken, given] = log.numbers("host unplugged")?;
	ensure!(files == 0, "QEMU still has {files} files of the device");
	ensure!(locked < LITTLE_KB, "{locked} kB are still locked");
	ensure!(
		taken == given,
		"{taken} pages were pinned and {given} unpinned"
	);
	Ok(())
}

/// A guest did its reads, on the path that it was to be on and no other.
fn section_done(log: &RunLog<'_>, section: cost::Section) -> Result<()> {
	let tag = section.tag.to_string();
	let values = |name: &str| -> Vec<&str> {
		let of_tag = |line: &'_ str| Some(line.strip_prefix(&tag)?.strip_prefix(' ')?.len());
		log.all(name)
			.into_iter()
			.filter_map(|line| Some(&line[line.len() - of_tag(line)?..]))
			.collect()
	};
	ensure!(
		values("guest read") == [READS.to_string()],
		"{:?}",
		values("guest read")
	);
	let parameters = GuestRun::new(section.path, false, Scenario::Cost).parameters();
	ensure!(
		values("host using") == [parameters],
		"kvm_p9 is '{}', not '{parameters}'",
		values("host using").join("', '")
	);
	let entries: Vec<u64> = values("host entries")
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
	match section.path {
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

	fn boot(guests: &[GuestRun]) -> Boot {
		Boot {
			name: "unit",
			files: "unit".to_owned(),
			count: false,
			guests: guests.to_vec(),
			seed: 1,
		}
	}

	const WORK: GuestRun = GuestRun::new(Column::RustFast, false, Scenario::Work);

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

	fn failed(guest: GuestRun, text: &str, end: Result<()>) -> Vec<String> {
		boot(&[guest])
			.judge(&Transcript::of(text), end)
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
		let c = GuestRun::new(Column::C, false, Scenario::Work);
		let text = worked(4000).replace("run 1 rust", "run 1 c");
		assert_eq!(failed(c, &text, Ok(())), ["c-32-bit hcalls"]);
		let text = text.replace("after entry_rust 4100", "after entry_rust 10");
		assert!(failed(c, &text, Ok(())).is_empty());
		let text = text.replace("after fast_h_stuff_tce 0", "after fast_h_stuff_tce 1");
		assert_eq!(failed(c, &text, Ok(())), ["c-32-bit hcalls"]);
	}

	#[test]
	fn a_killed_guest_was_killed_in_time() {
		let kill = GuestRun::new(Column::RustFast, false, Scenario::Kill);
		let good = text("@host qemu 1 137");
		assert!(failed(kill, &good, Ok(())).is_empty());
		let late = text("@guest work 1 1 1 1 1\n@host qemu 1 137");
		assert_eq!(failed(kill, &late, Ok(())), ["guest-kill end"]);
		let unasked = text("@host qemu 1 0");
		assert_eq!(failed(kill, &unasked, Ok(())), ["guest-kill end"]);
	}

	#[test]
	fn an_unplugged_device_is_gone() {
		let guest = GuestRun::new(Column::RustFast, false, Scenario::Unplug);
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
		let guest = GuestRun::new(Column::C, false, Scenario::Cost);
		let mut middle = String::new();
		for section in cost::sections() {
			let tag = section.tag;
			let rust = section.path != Column::C;
			let using = GuestRun::new(section.path, false, Scenario::Cost).parameters();
			let (before, after) = (1000 * tag, 1000 * tag + if rust { READS } else { 0 });
			middle.push_str(&format!(
				"@host using 1 {tag} {using}\n@host entries 1 {tag} {before}\n\
				 @guest read 1 {tag} {READS}\n@host entries 1 {tag} {after}\n"
			));
		}
		let text = text(&format!("{middle}@guest done 1\n@host qemu 1 0"));
		let text = text.replace("run 1 rust", "run 1 c");
		assert!(failed(guest, &text, Ok(())).is_empty());
		let name = |section| format!("c-32-bit-cost reads, {section}");
		for (from, to, section) in [
			("read 1 2 200", "read 1 2 error: x", "rust-full, round 1"),
			("@guest read 1 2 200", "", "rust-full, round 1"),
			("using 1 3 rust 1", "using 1 3 rust 0", "rust-fast, round 1"),
			("entries 1 4 4000", "entries 1 4 3999", "c, round 2"),
			("entries 1 5 5200", "entries 1 5 5199", "rust-full, round 2"),
			("@host entries 1 6 6200", "", "rust-fast, round 2"),
		] {
			let bad = text.replacen(from, to, 1);
			assert_ne!(bad, text, "{from}");
			assert_eq!(failed(guest, &bad, Ok(())), [name(section)], "{from}");
		}
	}

	#[test]
	fn nothing_said_is_all_failed() {
		assert!(failed(WORK, "", Ok(())).len() >= 11);
	}
}
