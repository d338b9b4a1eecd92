// SPDX-License-Identifier: GPL-2.0-only
//! The emulated POWER9 host.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{self, say};

/// Options with which virtual time is one nanosecond per instruction.
pub const ICOUNT: &str = "shift=0,sleep=off";

/// Options that replace these for a machine with a disk. The disk takes real time: if virtual time
/// jumped whenever all CPUs are idle, every timeout of the drivers would expire.
pub const IN_REAL_TIME: [&str; 2] = ["-icount", "shift=0,sleep=on"];

/// The emulator.
pub const QEMU: &str = "qemu-system-ppc64";

/// A machine to boot.
pub struct Machine {
	/// A stripped vmlinux.
	pub kernel: PathBuf,
	/// Initramfs.
	pub initrd: PathBuf,
	/// More kernel parameters.
	pub append: String,
	/// CPUs.
	pub smp: u32,
	/// Of them, threads of one core.
	pub threads: u32,
	/// Memory, as QEMU takes it.
	pub mem: String,
	/// Count instructions.
	pub icount: bool,
}

/// How long a machine may run.
#[derive(Clone, Copy)]
pub struct Limits {
	/// From start to end.
	pub total: Duration,
	/// Between two signs of life.
	pub silence: Duration,
}

/// Whether the console is shown as it comes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Echo {
	/// It is.
	Yes,
	/// Only the end of the console, and only if the machine hangs or its kernel panics.
	No,
}

/// How a machine ended that powered off.
pub struct End {
	/// How long it ran.
	pub time: Duration,
	/// Whether a kernel has panicked.
	pub panicked: bool,
	/// The end of the console.
	pub tail: String,
}

/// Stops the machine when the runner is done with it, also after an error.
struct Running(Child);

impl Drop for Running {
	fn drop(&mut self) {
		// The machine may have ended already: then there is nothing to do.
		let _ = self.0.kill();
		let _ = self.0.wait();
	}
}

impl Machine {
	fn command(&self, options: &[&str]) -> Command {
		// A machine must not outlive a runner that was killed.
		let mut command = Command::new("setpriv");
		command.args(["--pdeathsig", "KILL", "--", QEMU, "-M", "powernv9"]);
		if self.icount {
			command.args(["-accel", "tcg,thread=single", "-icount", ICOUNT]);
		} else {
			command.args(["-accel", "tcg,thread=multi"]);
		}
		let smp = match self.threads {
			1 => self.smp.to_string(),
			threads => format!("{},threads={threads}", self.smp),
		};
		command.args(["-smp", &smp, "-m", &self.mem]);
		// Not -nodefaults: the firmware powers off through the default BMC.
		command.args([
			"-display",
			"none",
			"-monitor",
			"none",
			"-serial",
			"stdio",
			"-no-reboot",
		]);
		command
			.arg("-kernel")
			.arg(&self.kernel)
			.arg("-initrd")
			.arg(&self.initrd);
		let append = format!("console=hvc0 panic=1 mitigations=off quiet {}", self.append);
		command.args(["-append", append.trim_end()]);
		command.args(options);
		command
			.stdin(Stdio::null())
			.stdout(Stdio::piped())
			.stderr(Stdio::piped());
		command
	}

	/// Boots the machine and runs it until it powers off.
	///
	/// `line` gets each line of the console and returns whether it is a sign of life.
	pub fn run(
		&self,
		limits: Limits,
		echo: Echo,
		line: impl FnMut(&str) -> bool,
	) -> Result<Duration> {
		self.run_with(&[], limits, echo, line)
	}

	/// The same, with more options for QEMU, for example devices.
	pub fn run_with(
		&self,
		options: &[&str],
		limits: Limits,
		echo: Echo,
		line: impl FnMut(&str) -> bool,
	) -> Result<Duration> {
		let end = self.run_to_end(options, limits, echo, line)?;
		// The exit code of the machine is 0 even then.
		if end.panicked {
			if echo == Echo::No {
				say(format_args!("the end of the console:\n{}", end.tail));
			}
			bail!("the kernel panicked");
		}
		Ok(end.time)
	}

	/// The same with a machine whose kernel may panic, because another kernel takes over then.
	pub fn run_to_end(
		&self,
		options: &[&str],
		limits: Limits,
		echo: Echo,
		mut line: impl FnMut(&str) -> bool,
	) -> Result<End> {
		let started = Instant::now();
		let mut child = self
			.command(options)
			.spawn()
			.context("setpriv can't be run")?;
		let mut stdout = child.stdout.take().context("no pipe")?;
		let mut stderr = child.stderr.take().context("no pipe")?;
		let mut running = Running(child);
		let (sender, receiver) = mpsc::channel();
		let console = thread::spawn(move || {
			let mut buffer = [0; 4096];
			while let Ok(n @ 1..) = stdout.read(&mut buffer) {
				if sender.send(buffer[..n].to_vec()).is_err() {
					break;
				}
			}
		});
		let complaints = thread::spawn(move || {
			let mut text = String::new();
			// Output that cannot be read is only missing from the error message.
			let _ = stderr.read_to_string(&mut text);
			text
		});

		let mut panicked = false;
		let mut line = |text: &str| {
			panicked |= text.contains("Kernel panic - not syncing");
			line(text)
		};
		let mut lines = Lines::default();
		let mut alive = Instant::now();
		let wedged = loop {
			let left = limits.total.checked_sub(started.elapsed());
			let quiet = limits.silence.checked_sub(alive.elapsed());
			let (Some(left), Some(quiet)) = (left, quiet) else {
				break true;
			};
			match receiver.recv_timeout(left.min(quiet)) {
				Ok(bytes) => {
					if echo == Echo::Yes {
						let mut out = std::io::stdout().lock();
						out.write_all(&bytes)?;
						out.flush()?;
					}
					lines.feed(&bytes, |text| {
						if line(text) {
							alive = Instant::now();
						}
					});
				}
				Err(RecvTimeoutError::Timeout) => {}
				Err(RecvTimeoutError::Disconnected) => break false,
			}
		};
		if wedged {
			drop(running);
			let time = process::human(started.elapsed());
			say(format_args!("the end of the console:\n{}", lines.tail()));
			bail!("the machine was stopped after {time} without an end; its last lines are above");
		}
		let status = running.0.wait()?;
		// Both end with the process.
		let _ = console.join();
		let complaints = complaints.join().unwrap_or_default();
		lines.finish(&mut line);
		if !status.success() {
			let reason = complaints
				.lines()
				.last()
				.unwrap_or("no reason given")
				.to_owned();
			say(format_args!("the end of the console:\n{}", lines.tail()));
			bail!("{QEMU} failed ({status}): {reason}");
		}
		Ok(End {
			time: started.elapsed(),
			panicked,
			tail: lines.tail(),
		})
	}
}

/// Cuts a console's bytes into lines, and remembers the last ones.
#[derive(Default)]
struct Lines {
	partial: Vec<u8>,
	last: VecDeque<String>,
}

impl Lines {
	const KEPT: usize = 80;

	fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&str)) {
		self.partial.extend_from_slice(bytes);
		while let Some(end) = self.partial.iter().position(|&byte| byte == b'\n') {
			let text: Vec<u8> = self.partial.drain(..=end).collect();
			let text = String::from_utf8_lossy(&text).trim_end().to_owned();
			line(&text);
			self.keep(text);
		}
	}

	fn finish(&mut self, line: &mut impl FnMut(&str) -> bool) {
		if !self.partial.is_empty() {
			let text = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
			line(&text);
			self.keep(text);
			self.partial.clear();
		}
	}

	fn keep(&mut self, text: String) {
		if self.last.len() == Self::KEPT {
			self.last.pop_front();
		}
		self.last.push_back(text);
	}

	fn tail(&self) -> String {
		let mut text: Vec<String> = self.last.iter().cloned().collect();
		if !self.partial.is_empty() {
			text.push(String::from_utf8_lossy(&self.partial).into_owned());
		}
		text.join("\n")
	}
}

/// `QEMU emulator version 10.0.2 (Debian ...)`
pub fn version() -> Result<String> {
	let text = process::output(Command::new(QEMU).arg("--version"))
		.context("install qemu-system-ppc, or run ci/setup")?;
	Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn lines_are_cut_wherever_the_pipe_cuts_them() {
		let mut lines = Lines::default();
		let mut seen = Vec::new();
		for bytes in [&b"one\r\ntw"[..], b"o\n\xff", b"\nrest"] {
			lines.feed(bytes, |text| seen.push(text.to_owned()));
		}
		assert_eq!(seen, ["one", "two", "\u{fffd}"]);
		assert_eq!(lines.tail(), "one\ntwo\n\u{fffd}\nrest");
		lines.finish(&mut |text: &str| {
			seen.push(text.to_owned());
			true
		});
		assert_eq!(seen.last().unwrap(), "rest");
	}

	#[test]
	fn only_the_last_lines_are_kept() {
		let mut lines = Lines::default();
		for n in 0..100 {
			lines.feed(format!("{n}\n").as_bytes(), |_| {});
		}
		assert_eq!(lines.tail().lines().count(), Lines::KEPT);
		assert!(lines.tail().ends_with("\n99"));
	}
}
