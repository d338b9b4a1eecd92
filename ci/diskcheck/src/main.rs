// SPDX-License-Identifier: GPL-2.0-only
//! The I/O on a disk and other work, for scripts in the emulated machine, which pass the output on.
//!
//! - `diskcheck check DEVICE SEED`: reads all of a disk, prints the number of its cells.
//! - `diskcheck work DEVICE SEED RUN STEPS SECONDS`: checks the disk, does STEPS steps of the
//!   run's plan or stops after SECONDS, and checks the disk again. Prints a line
//!   `running` when the first steps are done, and the number of steps of each worker.
//! - `diskcheck read DEVICE KIB COUNT TAG`: reads blocks of KIB KiB one after the other:
//!   first some to warm up, then COUNT between two markers (`protocol::marker`), which
//!   give the recording plugin the tag TAG. Prints COUNT.
//! - `diskcheck random DEVICE KIB COUNT TAG`: the same, from random places.
//! - `diskcheck processes COUNT TAG`: the same with processes that are forked, execute `true` and end.
//! - `diskcheck turns COUNT TAG`: the same with turns of two processes, which wake each other by pipes
//!   and are on the first and on the last CPU.
//! - `diskcheck sleep MILLISECONDS TAG`, `diskcheck compute MILLISECONDS TAG`: sleeps, or computes, for
//!   that time between two markers.
//! - `diskcheck echo`: the other process of `turns`.
//! - `diskcheck batch PROGRAM ARGUMENT...`: executes the program in such a way that none of its threads
//!   takes the CPU from another when it wakes up (SCHED_BATCH).
//! - `diskcheck memory SEED PROCESS MIB ROUNDS`: fills MIB MiB of memory, and in each round writes some of it
//!   again, forks a child that does so in its copy, and checks all of it. Then spoils a byte, which the check must
//!   find. Prints how much was checked, and what was found (`diskcheck::memory::report`).
//! - `diskcheck isolate DRC`: asks the firmware of a pseries guest to isolate a slot, which
//!   is what lets the hypervisor take its device away.
//!
//! All I/O bypasses the page cache, so that the device does each step.

#[cfg(target_arch = "powerpc64")]
use std::arch::asm;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Seek, SeekFrom, Write, stdout};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diskcheck::memory::{self, MemoryPlan, Of};
use diskcheck::{CELL, DiskAccess, LONGEST, Tag, WORKERS, WorkerPlan};
#[cfg(target_arch = "powerpc64")]
use protocol::marker;

/// Cells of each read of a check of the whole disk.
const CHUNK: u64 = 64;

/// Reads before the measurement, so that code and data are in memory.
const WARM: u64 = 16;

/// Steps of all workers after which a run counts as running.
const RUNNING: u64 = 64;

/// Most memory of a process.
const MOST_MIB: u64 = 1 << 16;

/// A buffer that the device may read and write.
struct Buffer {
	bytes: Vec<u8>,
	start: usize,
}

impl Buffer {
	/// Room for `size` bytes at any [`DiskAccess::skew`].
	fn new(size: usize) -> Self {
		let bytes = vec![0; size + 2 * CELL];
		let start = bytes.as_ptr().align_offset(CELL);
		Self { bytes, start }
	}

	fn at(&mut self, skew: usize, size: usize) -> &mut [u8] {
		&mut self.bytes[self.start + skew..][..size]
	}
}

fn wrong(text: impl ToString) -> Error {
	Error::new(ErrorKind::InvalidData, text.to_string())
}

fn open(device: &str) -> Result<(File, u64)> {
	let mut file = OpenOptions::new()
		.read(true)
		.write(true)
		.custom_flags(libc::O_DIRECT)
		.open(device)?;
	let size = file.seek(SeekFrom::End(0))?;
	Ok((file, size / CELL as u64))
}

fn check(seed: u64, first: u64, bytes: &[u8]) -> Result<Vec<Tag>> {
	let cells = (first..).zip(bytes.chunks_exact(CELL));
	cells
		.map(|(cell, bytes)| diskcheck::check(seed, cell, bytes).map_err(wrong))
		.collect()
}

/// The tags of some cells; an error if the content of any cell is wrong.
fn tags(file: &File, seed: u64, cells: std::ops::Range<u64>) -> Result<Vec<Tag>> {
	let mut buffer = Buffer::new(CHUNK as usize * CELL);
	let mut tags = Vec::new();
	for first in cells.clone().step_by(CHUNK as usize) {
		let count = CHUNK.min(cells.end - first);
		let bytes = buffer.at(0, count as usize * CELL);
		file.read_exact_at(bytes, first * CELL as u64)?;
		tags.extend(check(seed, first, bytes)?);
	}
	Ok(tags)
}

/// Runs one worker's part of a run and returns the number of its steps.
struct Worker<'a> {
	file: &'a File,
	seed: u64,
	run: u64,
	worker: u64,
	cells: u64,
}

impl Worker<'_> {
	fn work(&self, steps: u64, until: Instant, all: &AtomicU64) -> Result<u64> {
		let part = self.cells / WORKERS;
		let cells = self.worker * part..(self.worker + 1) * part;
		let start = cells.start;
		let mut known = tags(self.file, self.seed, cells.clone())?;
		let mut buffer = Buffer::new(LONGEST as usize * CELL);
		let mut done = 0;
		let plan = WorkerPlan::new(self.seed, self.run, self.worker, self.cells);
		for step in plan.take(steps as usize) {
			if Instant::now() >= until {
				break;
			}
			let at = (step.first - start) as usize;
			self.step(&step, &mut known[at..at + step.count as usize], &mut buffer)?;
			done += 1;
			if all.fetch_add(1, Ordering::Relaxed) + 1 == RUNNING {
				say("running")?;
			}
		}
		if tags(self.file, self.seed, cells)? != known {
			return Err(wrong("the disk has lost what was written"));
		}
		Ok(done)
	}

	fn step(&self, step: &DiskAccess, known: &mut [Tag], buffer: &mut Buffer) -> Result<()> {
		let bytes = buffer.at(step.skew, step.count as usize * CELL);
		let offset = step.first * CELL as u64;
		let Some(tag) = step.write else {
			// Old content of the buffer must not pass for content that was read.
			bytes.fill(0);
			self.file.read_exact_at(bytes, offset)?;
			let read = check(self.seed, step.first, bytes)?;
			return match read == known {
				true => Ok(()),
				false => Err(wrong(format!(
					"cells {}+{} are old",
					step.first, step.count
				))),
			};
		};
		for (cell, bytes) in (step.first..).zip(bytes.chunks_exact_mut(CELL)) {
			diskcheck::fill(self.seed, cell, tag, bytes);
		}
		self.file.write_all_at(bytes, offset)?;
		known.fill(tag);
		Ok(())
	}
}

/// Prints a whole line at once: other threads may print, too.
fn say(text: &str) -> Result<()> {
	let mut out = stdout().lock();
	writeln!(out, "{text}")?;
	out.flush()
}

fn work(device: &str, seed: u64, run: u64, steps: u64, seconds: u64) -> Result<String> {
	let (file, cells) = open(device)?;
	let until = Instant::now() + Duration::from_secs(seconds);
	let all = AtomicU64::new(0);
	let done = thread::scope(|scope| {
		let threads: Vec<_> = (0..WORKERS)
			.map(|worker| {
				let worker = Worker {
					file: &file,
					seed,
					run,
					worker,
					cells,
				};
				let all = &all;
				scope.spawn(move || worker.work(steps, until, all))
			})
			.collect();
		let results = threads.into_iter().map(|thread| match thread.join() {
			Ok(result) => result,
			Err(_) => Err(wrong("a worker panicked")),
		});
		// Wait for all workers before the first error is reported.
		results.collect::<Vec<_>>()
	});
	file.sync_all()?;
	let done: Vec<String> = done
		.into_iter()
		.map(|done| Ok(done?.to_string()))
		.collect::<Result<_>>()?;
	Ok(done.join(" "))
}

/// Marks for the plugin that `tag` begins.
#[cfg(target_arch = "powerpc64")]
fn arm(tag: u64) -> Result<()> {
	// SAFETY: the word is `xori 16,16,0`, which does nothing.
	unsafe {
		asm!(
			".long {}", const marker::ARM,
			in("r3") tag,
			options(nostack, preserves_flags)
		);
	}
	Ok(())
}

/// Marks for the plugin that the tag ends.
#[cfg(target_arch = "powerpc64")]
fn disarm() {
	// SAFETY: the word is `xori 17,17,0`, which does nothing.
	unsafe {
		asm!(".long {}", const marker::DISARM, options(nostack, preserves_flags));
	}
}

#[cfg(not(target_arch = "powerpc64"))]
fn arm(_: u64) -> Result<()> {
	Err(Error::from(ErrorKind::Unsupported))
}

#[cfg(not(target_arch = "powerpc64"))]
fn disarm() {}

/// Does something some times to warm up, and then `count` times between two markers. It is told
/// how often it was done before.
fn measure(
	tag: u64,
	warm: u64,
	count: u64,
	mut each: impl FnMut(u64) -> Result<()>,
) -> Result<String> {
	(0..warm).try_for_each(&mut each)?;
	arm(tag)?;
	let result = (0..count).try_for_each(each);
	disarm();
	result.map(|()| count.to_string())
}

/// Which block is read after so many others.
type Order = fn(u64) -> u64;

/// A permutation of all numbers.
fn random(n: u64) -> u64 {
	// The constant is odd, so that no two products are the same; its upper half decides.
	n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32
}

fn read(device: &str, kib: u64, count: u64, tag: u64, order: Order) -> Result<String> {
	let (file, cells) = open(device)?;
	let size = kib * 1024;
	let blocks = (cells * CELL as u64).checked_div(size).unwrap_or(0);
	if blocks == 0 {
		return Err(wrong("the disk is smaller than a block"));
	}
	// The buffer begins with a page, whose size the kernel chooses. So every run of the
	// program maps the same number of pages.
	let mut buffer = Buffer::new(2 * size as usize);
	let skew = buffer.at(0, 1).as_ptr().align_offset(size as usize);
	let bytes = buffer.at(skew, size as usize);
	measure(tag, WARM, count, |n| {
		file.read_exact_at(bytes, order(n) % blocks * size)
	})
}

/// Processes and turns before the measurement.
const WARM_PROCESSES: u64 = 4;
const WARM_TURNS: u64 = 32;

fn processes(count: u64, tag: u64) -> Result<String> {
	let mut program = Command::new("/bin/busybox");
	program.arg("true").stdin(Stdio::null());
	// SAFETY: the function does nothing. With it the standard library forks.
	unsafe { program.pre_exec(|| Ok(())) };
	measure(tag, WARM_PROCESSES, count, |_| {
		match program.status()?.success() {
			true => Ok(()),
			false => Err(wrong("a process failed")),
		}
	})
}

/// Keeps this process on one CPU.
fn stay_on(cpu: usize) -> Result<()> {
	// SAFETY: a set of CPUs is a plain number of bits, and zeroes are the empty one.
	let mut cpus: libc::cpu_set_t = unsafe { std::mem::zeroed() };
	// SAFETY: the set is ours, and the function checks the number.
	unsafe { libc::CPU_SET(cpu, &mut cpus) };
	// SAFETY: the kernel reads a set of that size.
	match unsafe { libc::sched_setaffinity(0, size_of_val(&cpus), &raw const cpus) } {
		0 => Ok(()),
		_ => Err(Error::last_os_error()),
	}
}

fn turns(count: u64, tag: u64) -> Result<String> {
	stay_on(0)?;
	let mut other = Command::new("/proc/self/exe")
		.arg("echo")
		.stdin(Stdio::piped())
		.stdout(Stdio::piped())
		.spawn()?;
	let (Some(mut to), Some(mut from)) = (other.stdin.take(), other.stdout.take()) else {
		return Err(wrong("no pipes"));
	};
	let result = measure(tag, WARM_TURNS, count, |n| {
		let (sent, mut got) = ([n as u8], [0]);
		to.write_all(&sent)?;
		from.read_exact(&mut got)?;
		match got == sent {
			true => Ok(()),
			false => Err(wrong("the other process sends something else")),
		}
	});
	drop(to);
	other.wait()?;
	result
}

fn echo() -> Result<String> {
	// This process was on the first CPU until now, so it does not know all of them.
	let cpus = std::fs::read_to_string("/sys/devices/system/cpu/online")?;
	let last = cpus.trim().rsplit(['-', ',']).next().unwrap_or_default();
	stay_on(last.parse().map_err(wrong)?)?;
	// The locks and buffers of the standard library's are not what is measured.
	let (mut from, mut to) = (
		File::open("/proc/self/fd/0")?,
		OpenOptions::new().write(true).open("/proc/self/fd/1")?,
	);
	let mut byte = [0];
	while from.read(&mut byte)? != 0 {
		to.write_all(&byte)?;
	}
	Ok(String::new())
}

fn batch(program: &str, arguments: &[&str]) -> Result<String> {
	let param = libc::sched_param { sched_priority: 0 };
	// SAFETY: the kernel reads the structure.
	if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const param) } != 0 {
		return Err(Error::last_os_error());
	}
	Err(Command::new(program).args(arguments).exec())
}

fn compute(milliseconds: u64, tag: u64) -> Result<String> {
	let time = Duration::from_millis(milliseconds);
	measure(tag, 0, 1, |_| {
		let end = Instant::now() + time;
		while Instant::now() < end {}
		Ok(())
	})?;
	Ok(milliseconds.to_string())
}

fn sleep(milliseconds: u64, tag: u64) -> Result<String> {
	let time = Duration::from_millis(milliseconds);
	measure(tag, 0, 1, |_| {
		thread::sleep(time);
		Ok(())
	})?;
	Ok(milliseconds.to_string())
}

/// Forks a child that does this work, and returns the process of the child.
fn fork(work: impl FnOnce() -> Result<()>) -> Result<libc::pid_t> {
	// SAFETY: the program has one thread, so the child may do what the parent may.
	match unsafe { libc::fork() } {
		-1 => Err(Error::last_os_error()),
		0 => {
			let code = match work() {
				Ok(()) => 0,
				Err(error) => {
					println!("error: child: {error}");
					1
				}
			};
			std::process::exit(code)
		}
		child => Ok(child),
	}
}

fn wait_for(child: libc::pid_t) -> Result<()> {
	let mut status = 0;
	// SAFETY: the kernel writes the status.
	match unsafe { libc::waitpid(child, &raw mut status, 0) } {
		-1 => Err(Error::last_os_error()),
		_ if status == 0 => Ok(()),
		_ => Err(wrong(format!("a child ended with status {status}"))),
	}
}

fn memory(seed: u64, process: u64, mib: u64, rounds: u64) -> Result<String> {
	if rounds == 0 || !(1..=MOST_MIB).contains(&mib) {
		return Err(wrong(format!("1 to {MOST_MIB} MiB, and a round at least?")));
	}
	let plan = MemoryPlan::new(seed, process, mib);
	let mut bytes = vec![0; (mib as usize) << 20];
	let mut cells = 0;
	for round in 1..=rounds {
		plan.write(Of::Parent, round, &mut bytes);
		let child = fork(|| {
			plan.write(Of::Child, round, &mut bytes);
			plan.check(Of::Child, round, &bytes).map_err(wrong)?;
			Ok(())
		})?;
		let checked = plan.check(Of::Parent, round, &bytes);
		wait_for(child)?;
		cells += checked.map_err(|lost| wrong(format!("round {round}: {lost}")))?;
	}
	bytes[plan.spoilt()] ^= 1;
	match plan.check(Of::Parent, rounds, &bytes) {
		Ok(_) => Err(wrong("the check does not find a spoilt byte")),
		Err(lost) => Ok(memory::report(process, cells, lost.cell)),
	}
}

/// RTAS's arguments as the system call takes them, big-endian.
#[repr(C)]
struct Rtas {
	token: u32,
	nargs: u32,
	nret: u32,
	args: [u32; 16],
	rets: u64,
}

fn isolate(drc: u32) -> Result<String> {
	/// Number of the system call on powerpc, also in a build for another architecture.
	const SYS_RTAS: libc::c_long = 255;
	/// PAPR's indicator and value.
	const ISOLATION_STATE: u32 = 9001;
	const ISOLATE: u32 = 0;
	if cfg!(not(target_arch = "powerpc64")) {
		return Err(Error::from(ErrorKind::Unsupported));
	}
	let token = std::fs::read("/proc/device-tree/rtas/set-indicator")?;
	let token = token.try_into().map_err(|_| wrong("no RTAS token"))?;
	let mut args = [0; 16];
	for (to, arg) in args.iter_mut().zip([ISOLATION_STATE, drc, ISOLATE]) {
		*to = arg.to_be();
	}
	let mut call = Rtas {
		token: u32::from_ne_bytes(token),
		nargs: 3u32.to_be(),
		nret: 1u32.to_be(),
		args,
		rets: 0,
	};
	// SAFETY: the structure is the system call's, which reads and writes nothing else.
	if unsafe { libc::syscall(SYS_RTAS, &raw mut call) } < 0 {
		return Err(Error::last_os_error());
	}
	match u32::from_be(call.args[3]) as i32 {
		0 => Ok("isolated".to_owned()),
		code => Err(wrong(format!("set-indicator answers {code}"))),
	}
}

fn main() -> ExitCode {
	let args: Vec<String> = env::args().skip(1).collect();
	let args: Vec<&str> = args.iter().map(String::as_str).collect();
	let number = |text: &str| text.parse::<u64>().map_err(|_| wrong(format!("'{text}'?")));
	let result = (|| match args[..] {
		["check", device, seed] => {
			let (file, cells) = open(device)?;
			Ok(tags(&file, number(seed)?, 0..cells)?.len().to_string())
		}
		["work", device, seed, run, steps, seconds] => work(
			device,
			number(seed)?,
			number(run)?,
			number(steps)?,
			number(seconds)?,
		),
		["read", device, kib, count, tag] => {
			read(device, number(kib)?, number(count)?, number(tag)?, |n| n)
		}
		["random", device, kib, count, tag] => {
			read(device, number(kib)?, number(count)?, number(tag)?, random)
		}
		["processes", count, tag] => processes(number(count)?, number(tag)?),
		["turns", count, tag] => turns(number(count)?, number(tag)?),
		["sleep", milliseconds, tag] => sleep(number(milliseconds)?, number(tag)?),
		["compute", milliseconds, tag] => compute(number(milliseconds)?, number(tag)?),
		["echo"] => echo(),
		["batch", program, ref arguments @ ..] => batch(program, arguments),
		["memory", seed, process, mib, rounds] => memory(
			number(seed)?,
			number(process)?,
			number(mib)?,
			number(rounds)?,
		),
		["isolate", drc] => isolate(number(drc)? as u32),
		_ => Err(wrong(
			"check, work, read, random, processes, turns, sleep, compute, echo, batch, memory or isolate?",
		)),
	})();
	match result {
		Ok(text) => {
			println!("{text}");
			ExitCode::SUCCESS
		}
		Err(error) => {
			println!("error: {error}");
			ExitCode::FAILURE
		}
	}
}
