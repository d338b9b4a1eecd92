// SPDX-License-Identifier: GPL-2.0-only
//! The report's page, looked at in Chromium.
//!
//! The reports are invented ([`::report::sample`]), and go the way that `bench render` goes.
//! Each is opened on a phone and on a desk, in light and in dark surroundings, and asked
//! whether anything is cut off, lies on something else or can't be told from what is
//! behind it; whether those who don't see it get names for its tables and figures; and
//! whether it said, asked for or ran anything. What a script can't judge is in
//! `target/test/report/`, as pictures.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ::report::report::{Environment, Report};
use ::report::sample;
use anyhow::{Context, Result};
use serde_json::Value;

use harness::check::Check;
use harness::paths;
use harness::setup::{self, Brought};

use self::browser::Browser;
use crate::bench;
use crate::stage::{Part, Stage, stage};

mod browser;

/// The page of reports that are invented.
pub const STAGE: Stage = stage("report", |_| Ok(vec![Part::new([], 20, check)]));

/// What is wrong with the page's layout, colours and references: a list of complaints.
const LAYOUT: &str = include_str!("report_page/page.js");

/// Pictures are this high at most.
const PICTURE: u32 = 4000;

struct Viewport {
	name: &'static str,
	width: u32,
	height: u32,
	phone: bool,
	dark: bool,
}

const fn window(name: &'static str, width: u32, height: u32, phone: bool, dark: bool) -> Viewport {
	Viewport {
		name,
		width,
		height,
		phone,
		dark,
	}
}

const WINDOWS: [Viewport; 4] = [
	window("360-light", 360, 740, true, false),
	window("360-dark", 360, 740, true, true),
	window("1280-light", 1280, 800, false, false),
	window("1280-dark", 1280, 800, false, true),
];

/// The report that has everything.
const SAMPLE: &str = "sample";

/// Of A4 between margins of a centimetre, in CSS pixels.
const PAPER: u32 = 718;

fn check() -> Result<Vec<Check>> {
	let chromium = match setup::bring("chromium")? {
		Brought::Here(program) => program,
		Brought::NotToBeHad(why) => return Ok(vec![Check::skipped("Chromium", why)]),
	};
	let folder = paths::target().join("test/report");
	fs::create_dir_all(&folder)?;
	let mut browser = Browser::start(&chromium, &folder)?;
	let mut checks = Vec::new();
	for (name, report) in reports() {
		let page = written(&folder, name, &report)?;
		// How the others look is not of interest in each of them.
		let windows = if name == SAMPLE {
			&WINDOWS[..]
		} else {
			&WINDOWS[..1]
		};
		for window in windows {
			browser.surroundings(window.width, window.height, window.phone, window.dark)?;
			browser.open(&page)?;
			let place = format!("{name} {}", window.name);
			// As a reader finds it, before the script unfolds all.
			let picture = folder.join(format!("{name}-{}.png", window.name));
			browser.screenshot(&picture, window.width, PICTURE)?;
			let complaints = complaints(&mut browser, window)?;
			checks.push(Check::new(format!("{place} layout"), first(complaints)));
			checks.push(Check::new(
				format!("{place} names"),
				first(nameless(
					&browser.accessibility()?,
					!report.results.is_empty(),
				)),
			));
			checks.push(Check::new(
				format!("{place} keeps to itself"),
				first(sociable(&browser)),
			));
		}
		// On paper nothing can be unfolded, and it is white.
		browser.surroundings(PAPER, 1000, false, true)?;
		browser.on_paper()?;
		browser.open(&page)?;
		let complaints = strings(browser.evaluate(&format!("({LAYOUT})('paper', {PAPER})"))?)?;
		checks.push(Check::new(format!("{name} on paper"), first(complaints)));
		let picture = folder.join(format!("{name}-paper.png"));
		browser.screenshot(&picture, PAPER, PICTURE)?;
	}
	Ok(checks)
}

/// Reports, and what to call them: one with everything, one with nothing, and one with
/// markup wherever there is text.
fn reports() -> [(&'static str, Report); 3] {
	let mut hostile = sample::report();
	let evil = r#"</title></style><script>console.error("ran")</script><img src=x onerror='console.error("ran")'>"&amp;' -->]]>"#;
	for missing in &mut hostile.missing {
		missing.why.push_str(evil);
	}
	for entry in &mut hostile.results {
		if let Some(costly) = &mut entry.costly {
			costly.insert(format!("mtspr:{evil}"), 1.0);
			costly.insert(evil.to_owned(), 1.0);
		}
		for phase in &mut entry.phases {
			phase.name.insert_str(0, evil);
			for function in &mut phase.functions {
				function.name.push_str(evil);
			}
		}
	}
	let environment = &mut hostile.environment;
	for text in [
		&mut environment.kernel_release,
		&mut environment.config_hash,
		&mut environment.object_hash,
		&mut environment.qemu,
		&mut environment.icount,
		&mut environment.rustc,
	] {
		text.insert_str(0, evil);
	}
	for kernel in &mut environment.kernels {
		kernel.compiler.push_str(evil);
		kernel.series.push_str(evil);
	}
	[
		(SAMPLE, sample::report()),
		("empty", Report::new(Environment::default())),
		("hostile", hostile),
	]
}

/// As `bench render` makes it.
fn written(folder: &Path, name: &str, report: &Report) -> Result<PathBuf> {
	let json = folder.join(name).with_extension("json");
	fs::write(&json, report.to_json()?)?;
	bench::render(&json, None)
}

fn first(complaints: impl IntoIterator<Item = String>) -> Option<String> {
	let complaints: Vec<String> = complaints.into_iter().collect();
	let (first, others) = complaints.split_first()?;
	Some(match others.len() {
		0 => first.clone(),
		more => format!("{first} (and {more} more)"),
	})
}

fn strings(value: Value) -> Result<Vec<String>> {
	serde_json::from_value(value).context("the test's own script has no list of complaints")
}

fn complaints(browser: &mut Browser, window: &Viewport) -> Result<Vec<String>> {
	let scheme = if window.dark { "dark" } else { "light" };
	strings(browser.evaluate(&format!("({LAYOUT})('{scheme}', {})", window.width))?)
}

/// Messages of the page, and requests for other files.
fn sociable(browser: &Browser) -> Vec<String> {
	let messages = browser.messages().into_iter();
	let messages = messages.map(|text| format!("a message: {text}"));
	let requests = browser.requests();
	let mut asked: Vec<String> = requests
		.iter()
		.filter(|url| !url.starts_with("data:"))
		.skip(1)
		.map(|url| format!("a request: {url}"))
		.collect();
	// That there was one shows that requests are seen at all.
	if requests.is_empty() {
		asked.push("not even the page was requested".to_owned());
	}
	messages.chain(asked).collect()
}

/// Tables and pictures without a name, and pages without any that should have them.
fn nameless(nodes: &[Value], figures: bool) -> Vec<String> {
	let mut complaints = Vec::new();
	let mut counts = [0; 5];
	let mut names = BTreeSet::new();
	for node in nodes.iter().filter(|node| node["ignored"] != true) {
		let role = node["role"]["value"].as_str().unwrap_or_default();
		let name = node["name"]["value"].as_str().unwrap_or_default().trim();
		match role {
			"table" | "image" | "region" if name.is_empty() => {
				complaints.push(format!("a {role} without a name"));
			}
			// A table and the region that it scrolls in share theirs.
			"table" | "image" if !names.insert(format!("{role} {name}")) => {
				complaints.push(format!("two times {role} '{name}'"));
			}
			_ => {}
		}
		let description = node["description"]["value"].as_str().unwrap_or_default();
		if role == "image" && description.trim().is_empty() {
			complaints.push(format!("a picture without a description: {name}"));
		}
		for (count, role_counted) in
			counts
				.iter_mut()
				.zip(["table", "columnheader", "rowheader", "heading", "image"])
		{
			*count += usize::from(role == role_counted);
		}
	}
	let [tables, columns, rows, headings, pictures] = counts;
	let some = tables > 0 && columns >= 2 * tables && rows >= tables && pictures > 0;
	if headings == 0 || figures != some {
		complaints.push(format!(
			"{tables} tables, {columns} column headers, {rows} row headers, {headings} headings, {pictures} figures"
		));
	}
	complaints
}

#[cfg(test)]
mod tests {
	use super::*;
	use serde_json::json;

	fn node(role: &str, name: &str) -> Value {
		json!({ "role": { "value": role }, "name": { "value": name }, "description": { "value": "x" } })
	}

	#[test]
	fn names_are_missed() {
		let page = |table: Value| {
			vec![
				table,
				node("columnheader", "a"),
				node("columnheader", "b"),
				node("rowheader", "c"),
				node("heading", "d"),
				node("image", "e"),
			]
		};
		let good = page(node("table", "figures"));
		assert!(nameless(&good, true).is_empty());
		assert_eq!(nameless(&good, false).len(), 1);
		assert_eq!(nameless(&page(node("table", "")), true).len(), 1);
		assert_eq!(nameless(&page(node("generic", "figures")), true).len(), 1);
		assert_eq!(nameless(&[], true).len(), 1);
		assert_eq!(nameless(&[], false).len(), 1);
		assert!(nameless(&[node("heading", "d")], false).is_empty());
		let mut twice = good.clone();
		twice.extend(page(node("table", "other")));
		// The same picture.
		assert_eq!(nameless(&twice, true).len(), 1);
		let mut picture = good;
		picture.push(json!({ "role": { "value": "image" }, "name": { "value": "x" } }));
		// No description.
		assert_eq!(nameless(&picture, true).len(), 1);
	}
}
