// SPDX-License-Identifier: GPL-2.0-only
//! Chromium without a window, told what to do over a pipe.
//!
//! The DevTools protocol is JSON, and with `--remote-debugging-pipe` Chromium speaks it
//! on file descriptors 3 and 4, messages ending in a NUL. The few calls that a test of a
//! page needs are not worth a client library with all thousand of them, and a WebSocket.
//! What the page does unasked (messages, requests) comes as events, which are kept.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use harness::process;

/// How long Chromium may take for one answer.
const PATIENCE: Duration = Duration::from_secs(300);

/// A running Chromium with one tab.
pub struct Browser {
	process: Child,
	to: Option<ChildStdin>,
	from: Receiver<Value>,
	session: String,
	calls: u64,
	events: Vec<Value>,
	profile: PathBuf,
	log: PathBuf,
}

impl Browser {
	/// Starts the program; its profile and its log go into the folder.
	pub fn start(program: &Path, folder: &Path) -> Result<Self> {
		let (profile, log) = (folder.join("profile"), folder.join("chromium.log"));
		process::remove(&profile)?;
		fs::create_dir_all(&profile)?;
		// The shell only moves the pipes to where Chromium expects them.
		let mut process = Command::new("sh")
			.args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >&2"#, "sh"])
			.arg(program)
			.args([
				"--headless",
				"--remote-debugging-pipe",
				// A page of ours, and root may not have a sandbox.
				"--no-sandbox",
				"--disable-gpu",
				"--disable-dev-shm-usage",
				"--disable-extensions",
				"--no-first-run",
				"--no-default-browser-check",
				"--force-renderer-accessibility",
			])
			.arg(format!("--user-data-dir={}", profile.display()))
			.stdin(Stdio::piped())
			.stdout(Stdio::piped())
			.stderr(File::create(&log)?)
			.spawn()
			.with_context(|| format!("{} can't be run", program.display()))?;
		let to = process.stdin.take();
		let mut lines = BufReader::new(process.stdout.take().context("no pipe")?);
		let (sender, from) = mpsc::channel();
		thread::spawn(move || {
			let mut message = Vec::new();
			while lines.read_until(0, &mut message).is_ok_and(|n| n > 0) {
				let text = message.strip_suffix(&[0]).unwrap_or(&message);
				let Ok(value) = serde_json::from_slice(text) else {
					return;
				};
				if sender.send(value).is_err() {
					return;
				}
				message.clear();
			}
		});
		let mut browser = Self {
			process,
			to,
			from,
			session: String::new(),
			calls: 0,
			events: Vec::new(),
			profile,
			log,
		};
		let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
		let attached = browser.call(
			"Target.attachToTarget",
			json!({ "targetId": target["targetId"], "flatten": true }),
		)?;
		attached["sessionId"]
			.as_str()
			.context("Chromium gave no session")?
			.clone_into(&mut browser.session);
		for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
			browser.call(&format!("{domain}.enable"), json!({}))?;
		}
		Ok(browser)
	}

	/// Calls a method and waits for its result.
	pub fn call(&mut self, method: &str, params: Value) -> Result<Value> {
		self.calls += 1;
		let id = self.calls;
		let mut message = json!({ "id": id, "method": method, "params": params });
		if !self.session.is_empty() {
			message["sessionId"] = json!(self.session);
		}
		let mut bytes = serde_json::to_vec(&message)?;
		bytes.push(0);
		let to = self.to.as_mut().context("the browser was stopped")?;
		let sent = to.write_all(&bytes).and_then(|()| to.flush());
		sent.map_err(|_| self.gone(method))?;
		let deadline = Instant::now() + PATIENCE;
		loop {
			let mut answer = self.next(deadline, method)?;
			if answer["id"] != id {
				self.events.push(answer);
			} else if let Some(error) = answer.get("error") {
				bail!("{method}: {}", error["message"]);
			} else {
				return Ok(answer["result"].take());
			}
		}
	}

	fn next(&mut self, deadline: Instant, what: &str) -> Result<Value> {
		let left = deadline.saturating_duration_since(Instant::now());
		self.from.recv_timeout(left).map_err(|why| match why {
			RecvTimeoutError::Disconnected => self.gone(what),
			RecvTimeoutError::Timeout => {
				anyhow!(
					"{what}: Chromium didn't answer for {}",
					process::human(PATIENCE)
				)
			}
		})
	}

	fn gone(&self, what: &str) -> anyhow::Error {
		anyhow!(
			"{what}: Chromium has ended; its log: {}",
			self.log.display()
		)
	}

	/// Waits for an event, and takes it.
	fn await_event(&mut self, method: &str) -> Result<()> {
		let deadline = Instant::now() + PATIENCE;
		loop {
			if let Some(index) = self
				.events
				.iter()
				.position(|event| event["method"] == method)
			{
				self.events.remove(index);
				return Ok(());
			}
			let event = self.next(deadline, method)?;
			self.events.push(event);
		}
	}

	/// Opens a file and waits until it is there; what happened before is forgotten.
	pub fn open(&mut self, file: &Path) -> Result<()> {
		self.events.clear();
		let url = url_of(&fs::canonicalize(file)?)?;
		let answer = self.call("Page.navigate", json!({ "url": url }))?;
		if let Some(error) = answer.get("errorText") {
			bail!("{}: {error}", file.display());
		}
		self.await_event("Page.loadEventFired")
	}

	/// A window of that size, on a phone or not, in light or dark surroundings.
	pub fn surroundings(&mut self, width: u32, height: u32, phone: bool, dark: bool) -> Result<()> {
		self.call(
			"Emulation.setDeviceMetricsOverride",
			json!({ "width": width, "height": height, "mobile": phone,
				"deviceScaleFactor": if phone { 2 } else { 1 } }),
		)?;
		let scheme = if dark { "dark" } else { "light" };
		self.call(
			"Emulation.setEmulatedMedia",
			json!({ "media": "",
				"features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
		)?;
		Ok(())
	}

	/// As it would be printed.
	pub fn on_paper(&mut self) -> Result<()> {
		self.call("Emulation.setEmulatedMedia", json!({ "media": "print" }))?;
		Ok(())
	}

	/// The value of an expression, in the page.
	pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
		let mut answer = self.call(
			"Runtime.evaluate",
			json!({ "expression": expression, "returnByValue": true }),
		)?;
		if let Some(thrown) = answer.get("exceptionDetails") {
			bail!("the test's own script: {thrown}");
		}
		Ok(answer["result"]["value"].take())
	}

	/// The messages of the page on the console, and those of Chromium about the page.
	pub fn messages(&self) -> Vec<String> {
		const SPEAKING: [&str; 3] = [
			"Runtime.consoleAPICalled",
			"Runtime.exceptionThrown",
			"Log.entryAdded",
		];
		let messages = self
			.events
			.iter()
			.filter(|event| SPEAKING.iter().any(|method| event["method"] == **method));
		messages
			.map(|event| match event["params"]["entry"]["text"].as_str() {
				Some(text) => text.to_owned(),
				None => event["params"].to_string(),
			})
			.collect()
	}

	/// All that the page asked for, itself included.
	pub fn requests(&self) -> Vec<String> {
		self.events
			.iter()
			.filter(|event| event["method"] == "Network.requestWillBeSent")
			.filter_map(|event| event["params"]["request"]["url"].as_str())
			.map(str::to_owned)
			.collect()
	}

	/// The page as those have it who don't see it.
	pub fn accessibility(&mut self) -> Result<Vec<Value>> {
		let mut tree = self.call("Accessibility.getFullAXTree", json!({}))?;
		match tree["nodes"].take() {
			Value::Array(nodes) => Ok(nodes),
			_ => bail!("Chromium has no accessibility tree"),
		}
	}

	/// The whole page, as high as it is, up to a limit.
	pub fn screenshot(&mut self, file: &Path, width: u32, most: u32) -> Result<()> {
		let height = self.evaluate("document.documentElement.scrollHeight")?;
		let height = height.as_u64().unwrap_or(0).min(u64::from(most));
		let answer = self.call(
			"Page.captureScreenshot",
			json!({ "captureBeyondViewport": true,
				"clip": { "x": 0, "y": 0, "width": width, "height": height, "scale": 1 } }),
		)?;
		let data = answer["data"].as_str().context("no picture")?;
		fs::write(file, BASE64_STANDARD.decode(data)?)?;
		Ok(())
	}
}

impl Drop for Browser {
	fn drop(&mut self) {
		// Chromium exits when its pipe is closed. Kill the process if it does not.
		self.to = None;
		let deadline = Instant::now() + Duration::from_secs(5);
		while matches!(self.process.try_wait(), Ok(None)) {
			if Instant::now() > deadline {
				let _ = self.process.kill();
				let _ = self.process.wait();
				break;
			}
			thread::sleep(Duration::from_millis(20));
		}
		let _ = process::remove(&self.profile);
	}
}

/// The `file://` URL of a file, with every special character encoded.
fn url_of(file: &Path) -> Result<String> {
	let path = file
		.to_str()
		.with_context(|| format!("{}: not UTF-8", file.display()))?;
	let mut url = "file://".to_owned();
	for byte in path.bytes() {
		match byte {
			b'/' | b'-' | b'_' | b'.' | b'~' => url.push(char::from(byte)),
			_ if byte.is_ascii_alphanumeric() => url.push(char::from(byte)),
			_ => url.push_str(&format!("%{byte:02X}")),
		}
	}
	Ok(url)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn urls() {
		let url = |path| url_of(Path::new(path)).unwrap();
		assert_eq!(url("/a/b-1.html"), "file:///a/b-1.html");
		assert_eq!(url("/a b/#?%.html"), "file:///a%20b/%23%3F%25.html");
	}
}
