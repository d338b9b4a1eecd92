// SPDX-License-Identifier: GPL-2.0-only
//! Running other programs: their output goes to a log, and the user sees what matters.

use std::cell::RefCell;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

/// Interval between two signs of life of a long step.
const PROGRESS: Duration = Duration::from_secs(15);

/// Something that the user asked for does not exist: exit code 2, not 1.
#[derive(Debug)]
pub struct Usage(pub String);

impl fmt::Display for Usage {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(&self.0)
	}
}

impl std::error::Error for Usage {}

thread_local! {
	/// The work of this thread, if there are several threads.
	static TAG: RefCell<String> = const { RefCell::new(String::new()) };
}

/// What it works on.
pub fn tag() -> String {
	TAG.with_borrow(String::clone)
}

/// Begin each message of this thread with a tag, from now on.
pub fn set_tag(tag: String) {
	TAG.set(tag);
}

/// Tells the user what happens; standard output is for results.
pub fn say(message: impl fmt::Display) {
	// In one piece: other threads print, too.
	TAG.with_borrow(|tag| match tag.as_str() {
		"" => eprintln!("xtask: {message}"),
		tag => eprintln!("xtask: {tag}: {message}"),
	});
}

/// Work that several threads need and one does.
pub struct Once<T>(Mutex<Option<T>>);

impl<T: Clone> Default for Once<T> {
	fn default() -> Self {
		Self::new()
	}
}

impl<T: Clone> Once<T> {
	/// Not done.
	pub const fn new() -> Self {
		Self(Mutex::new(None))
	}

	/// Does the work, or waits for the thread that does. A failed attempt is repeated.
	pub fn get(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
		// After a panic there is no result, which is handled like a failure.
		let mut done = self.0.lock().unwrap_or_else(PoisonError::into_inner);
		match &*done {
			Some(result) => Ok(result.clone()),
			None => Ok(done.insert(work()?).clone()),
		}
	}
}

/// `1m05s`, `12.3s`
pub fn human(time: Duration) -> String {
	let seconds = time.as_secs();
	if seconds >= 60 {
		format!("{}m{:02}s", seconds / 60, seconds % 60)
	} else {
		format!("{:.1}s", time.as_secs_f64())
	}
}

/// Runs a command to its end and returns its standard output, trimmed.
pub fn output(command: &mut Command) -> Result<String> {
	let program = command.get_program().to_string_lossy().into_owned();
	let output = command
		.stderr(Stdio::inherit())
		.stdin(Stdio::null())
		.output()
		.with_context(|| format!("{program} can't be run"))?;
	if !output.status.success() {
		bail!("{program} failed ({})", output.status);
	}
	Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command whose output matters only if it fails.
///
/// The output replaces the content of the log; `count` selects the lines that count as
/// progress. On failure the end of the log is shown.
pub fn logged(
	command: &mut Command,
	log: &Path,
	what: &str,
	count: fn(&str) -> bool,
) -> Result<()> {
	logged_of(command, log, what, None, count)
}

/// The same, if it is known about how many such lines there will be.
pub fn logged_of(
	command: &mut Command,
	log: &Path,
	what: &str,
	total: Option<usize>,
	count: fn(&str) -> bool,
) -> Result<()> {
	let program = command.get_program().to_string_lossy().into_owned();
	if let Some(folder) = log.parent() {
		fs::create_dir_all(folder)?;
	}
	let out = File::create(log).with_context(|| format!("can't write {}", log.display()))?;
	let started = Instant::now();
	let mut child = command
		.stdin(Stdio::null())
		.stdout(out.try_clone()?)
		.stderr(out)
		.spawn()
		.with_context(|| format!("{program} can't be run"))?;
	let mut reader = Progress {
		log: File::open(log)?,
		rest: String::new(),
		lines: 0,
	};
	let mut told = Instant::now();
	let status = loop {
		if let Some(status) = child.try_wait()? {
			break status;
		}
		thread::sleep(Duration::from_millis(100));
		if told.elapsed() >= PROGRESS {
			told = Instant::now();
			reader.advance(count)?;
			let steps = match total {
				Some(total) => format!(
					"{} of about {} steps",
					reader.lines,
					total.max(reader.lines)
				),
				None => format!("{} steps", reader.lines),
			};
			say(format_args!(
				"{what}: {steps}, {}",
				human(started.elapsed())
			));
		}
	};
	if !status.success() {
		let end = String::from_utf8_lossy(&fs::read(log)?).into_owned();
		say(format_args!("{what}:\n{}", excerpt(&end, 20)));
		bail!("{what} failed ({status}); the whole log: {}", log.display());
	}
	Ok(())
}

struct Progress {
	log: File,
	rest: String,
	lines: usize,
}

impl Progress {
	fn advance(&mut self, count: fn(&str) -> bool) -> Result<()> {
		let mut new = Vec::new();
		self.log.read_to_end(&mut new)?;
		self.rest.push_str(&String::from_utf8_lossy(&new));
		while let Some(end) = self.rest.find('\n') {
			self.lines += usize::from(count(&self.rest[..end]));
			self.rest.drain(..=end);
		}
		Ok(())
	}
}

/// The lines of a log to show: from the first complaint, or else the last ones.
fn excerpt(log: &str, lines: usize) -> String {
	const COMPLAINTS: [&str; 5] = [
		"error:",
		"error[",
		"Error:",
		"undefined reference",
		"panicked",
	];
	let all: Vec<&str> = log.lines().collect();
	let first = all
		.iter()
		.position(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint)))
		.unwrap_or(all.len().saturating_sub(lines));
	all[first..]
		.iter()
		.take(lines)
		.copied()
		.collect::<Vec<_>>()
		.join("\n")
}

/// Writes a file such that it is either whole or not there.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
	let part = beside(path, ".part");
	if let Some(folder) = path.parent() {
		fs::create_dir_all(folder)?;
	}
	let mut file =
		File::create(&part).with_context(|| format!("can't write {}", part.display()))?;
	file.write_all(bytes)?;
	file.sync_all()?;
	fs::rename(&part, path)?;
	Ok(())
}

/// Copies a file such that the copy is either whole or not there.
pub fn copy_whole(from: &Path, to: &Path) -> Result<()> {
	let part = beside(to, ".part");
	if let Some(folder) = to.parent() {
		fs::create_dir_all(folder)?;
	}
	fs::copy(from, &part)
		.with_context(|| format!("can't copy {} to {}", from.display(), part.display()))?;
	fs::rename(&part, to)?;
	Ok(())
}

/// `path` with something appended to its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
	let mut name = path.as_os_str().to_owned();
	name.push(suffix);
	PathBuf::from(name)
}

/// Removes a folder or file, if there is one.
pub fn remove(path: &Path) -> Result<()> {
	let result = match fs::symlink_metadata(path) {
		Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
		Ok(_) => fs::remove_file(path),
		Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
		Err(error) => Err(error),
	};
	result.with_context(|| format!("can't remove {}", path.display()))
}

/// Holds a lock file until dropped; prints a message before waiting.
pub fn lock(path: &Path, what: &str) -> Result<File> {
	if let Some(folder) = path.parent() {
		fs::create_dir_all(folder)
			.with_context(|| format!("can't make the folder {}", folder.display()))?;
	}
	let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
	if file.try_lock().is_err() {
		say(format_args!(
			"{what}: another process holds the lock; waiting"
		));
		file.lock()
			.map_err(|error| anyhow!("can't lock {}: {error}", path.display()))?;
	}
	Ok(file)
}

/// Holds a lock file until dropped, or fails at once if another process holds the lock.
pub fn lock_or_fail(path: &Path, complaint: &str) -> Result<File> {
	if let Some(folder) = path.parent() {
		fs::create_dir_all(folder)
			.with_context(|| format!("can't make the folder {}", folder.display()))?;
	}
	let file = File::create(path).with_context(|| format!("can't write {}", path.display()))?;
	match file.try_lock() {
		Ok(()) => Ok(file),
		Err(TryLockError::WouldBlock) => bail!("{complaint}"),
		Err(TryLockError::Error(error)) => bail!("can't lock {}: {error}", path.display()),
	}
}

/// Collects what a result depends on.
#[derive(Default)]
pub struct Inputs(Sha256);

impl Inputs {
	/// Nothing yet.
	pub fn new() -> Self {
		Self::default()
	}

	/// Adds a piece of text or data.
	pub fn add(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
		let bytes = bytes.as_ref();
		self.0.update((bytes.len() as u64).to_le_bytes());
		self.0.update(bytes);
		self
	}

	/// Adds a file, or a folder with all that is below it; what isn't there adds nothing.
	pub fn add_tree(&mut self, path: &Path) -> Result<&mut Self> {
		let files = files_below(path)?;
		for file in files {
			let name = file.strip_prefix(path).unwrap_or(&file);
			self.add(name.to_string_lossy().as_bytes());
			self.add(fs::read(&file).with_context(|| format!("can't read {}", file.display()))?);
		}
		Ok(self)
	}

	/// The hash, in hexadecimal.
	pub fn finish(self) -> String {
		hex(&self.0.finalize())
	}
}

/// SHA-256 of a file.
pub fn sha256_file(path: &Path) -> Result<String> {
	let bytes = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
	Ok(hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
	bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files below `path`, sorted; `path` itself if it is one.
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
	if path.is_file() {
		return Ok(vec![path.to_owned()]);
	}
	if !path.is_dir() {
		return Ok(Vec::new());
	}
	let mut entries = fs::read_dir(path)?
		.map(|entry| Ok(entry?.path()))
		.collect::<Result<Vec<_>>>()?;
	entries.sort();
	let mut files = Vec::new();
	for entry in entries {
		files.extend(files_below(&entry)?);
	}
	Ok(files)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn the_first_complaint_is_shown() {
		let log = "one\ntwo\nx.c:1: error: no\nthree\nfour\n";
		assert_eq!(excerpt(log, 2), "x.c:1: error: no\nthree");
		assert_eq!(excerpt("one\ntwo\nthree\n", 2), "two\nthree");
		assert_eq!(excerpt("", 2), "");
	}

	#[test]
	fn inputs_do_not_run_together() {
		let hash = |parts: &[&str]| {
			let mut inputs = Inputs::new();
			for part in parts {
				inputs.add(part);
			}
			inputs.finish()
		};
		assert_ne!(hash(&["ab", "c"]), hash(&["a", "bc"]));
		assert_eq!(hash(&["ab", "c"]), hash(&["ab", "c"]));
	}

	#[test]
	fn once_is_enough() {
		let once = Once::new();
		assert!(once.get(|| bail!("failed")).is_err());
		assert_eq!(once.get(|| Ok(1)).unwrap(), 1);
		assert_eq!(once.get(|| Ok(2)).unwrap(), 1);
	}

	#[test]
	fn a_second_run_fails_at_once() {
		let path = std::env::temp_dir().join(format!("kvm-p9-lock-{}", std::process::id()));
		let first = lock_or_fail(&path, "another run").unwrap();
		let second = lock_or_fail(&path, "another run").unwrap_err();
		assert_eq!(second.to_string(), "another run");
		drop(first);
		lock_or_fail(&path, "another run").unwrap();
		fs::remove_file(&path).unwrap();
	}

	#[test]
	fn times() {
		assert_eq!(human(Duration::from_millis(1260)), "1.3s");
		assert_eq!(human(Duration::from_secs(65)), "1m05s");
	}
}
