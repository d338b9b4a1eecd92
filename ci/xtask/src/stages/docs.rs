// SPDX-License-Identifier: GPL-2.0-only
//! Stage `docs`: what the documents name has to exist.
//!
//! Links, paths, booted tests, stages, commands and symbols are looked up in this tree. A
//! document that names something else is out of date.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::CommandFactory;
use harness::check::Check;
use harness::{paths, process};
use powerpc::abi::Shared;
use powerpc::{Counters, FastHcall, LightCounter};

use crate::stage::{Part, Stage, stage};

/// One check for each document.
pub const STAGE: Stage = stage("docs", |_| Ok(vec![Part::new([], 1, docs)]));

/// Names of the kernel that documents mention and no source of this tree contains.
const KERNEL_NAMES: &[&str] = &[
	"call_rcu",
	"enable_kernel_fp",
	"guest_state_exit_irqoff",
	"hsrr_valid",
	"kvm_stat",
	"kvmhv_p9_guest_entry",
	"kvmppc_spapr_tce_table",
	"load_fp",
	"load_spr_state",
	"load_vec",
	"mm_iommu_do_alloc",
	"mm_iommu_is_devmem",
	"mmu_ready",
	"need_resched",
	"powernv_defconfig",
	"rcu_read_lock",
	"single_task_running",
	"srr_valid",
	"thread_cpu",
	"vr_save_area",
];

/// What the documents may name.
struct Known {
	root: PathBuf,
	/// Names of booted tests: each line of `ci/booted-tests` begins with a machine.
	booted: Vec<String>,
	stages: BTreeSet<String>,
	commands: BTreeSet<String>,
	/// Every word of the sources and of the patches.
	words: BTreeSet<String>,
}

fn docs() -> Result<Vec<Check>> {
	let root = paths::root();
	let mut git = Command::new("git");
	let listed = process::output(git.current_dir(&root).arg("ls-files"))?;
	let files: Vec<_> = listed
		.lines()
		.filter(|file| root.join(file).is_file())
		.collect();
	let mut words = BTreeSet::new();
	for file in files.iter().filter(|file| !file.ends_with(".md")) {
		let bytes = fs::read(root.join(file)).with_context(|| format!("can't read {file}"))?;
		words.extend(words_of(&String::from_utf8_lossy(&bytes)).map(str::to_owned));
	}
	// Put together from a row of the list of handlers.
	let fast = FastHcall::ALL.iter();
	words.extend(fast.map(|hcall| format!("fast_{}", hcall.name())));
	let booted = fs::read_to_string(root.join("ci/booted-tests"))?;
	let booted = booted.lines().filter(|line| !line.starts_with('#'));
	let cli = crate::Cli::command();
	let known = Known {
		booted: booted
			.filter_map(|line| line.split_whitespace().nth(1))
			.map(str::to_owned)
			.collect(),
		stages: super::STAGES
			.iter()
			.map(|stage| stage.name.to_owned())
			.collect(),
		commands: cli
			.get_subcommands()
			.map(|command| command.get_name().to_owned())
			.collect(),
		words,
		root,
	};
	let documents: Vec<_> = files.iter().filter(|file| file.ends_with(".md")).collect();
	ensure!(!documents.is_empty(), "no documents");
	let operators = fs::read_to_string(known.root.join(OPERATORS))?;
	let unexplained = unexplained(&operators);
	let counters = (!unexplained.is_empty()).then(|| unexplained.join("; "));
	let counters = Check::new(format!("{OPERATORS} has each counter"), counters);
	let checks: Result<Vec<_>> = documents
		.into_iter()
		.map(|file| {
			let text = fs::read_to_string(known.root.join(file))?;
			let complaints = complaints(&known, Path::new(file), &text);
			let complaint = (!complaints.is_empty()).then(|| complaints.join("; "));
			Ok(Check::new(*file, complaint))
		})
		.collect();
	Ok([counters].into_iter().chain(checks?).collect())
}

/// The document for operators.
const OPERATORS: &str = "docs/operators.md";

/// Counters of the file `counters` of which the table in the document has no row.
fn unexplained(document: &str) -> Vec<String> {
	let rows: BTreeSet<_> = document
		.lines()
		.filter_map(|line| line.strip_prefix("| `"))
		.flat_map(|row| words_of(row.split('|').next().unwrap_or("")))
		.collect();
	// The counters of entries come first. What follows the array is no counter.
	let entries = Counters::FIELDS
		.iter()
		.take_while(|field| field.length.is_none());
	let entries = entries.map(|field| field.name.to_owned());
	let fast = FastHcall::ALL
		.iter()
		.map(|hcall| format!("fast_{}", hcall.name()));
	let light = LightCounter::ALL.iter().map(|one| one.name().to_owned());
	entries
		.chain(fast)
		.chain(light)
		.filter(|name| !rows.contains(name.as_str()))
		.map(|name| format!("{name} is not explained"))
		.collect()
}

fn words_of(text: &str) -> impl Iterator<Item = &str> {
	text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
		.filter(|word| !word.is_empty())
}

/// What a document names that does not exist.
fn complaints(known: &Known, file: &Path, text: &str) -> Vec<String> {
	let mut complaints = Vec::new();
	for (number, line) in text.lines().enumerate() {
		let mut found = Vec::new();
		for target in links(line) {
			if !link_exists(known, file, text, target) {
				found.push(format!("no {target}"));
			}
		}
		if line.starts_with('\t') {
			found.extend(command(known, line.trim()));
		}
		for span in line.split('`').skip(1).step_by(2) {
			found.extend(command(known, span));
			found.extend(name(known, span));
		}
		complaints.extend(
			found
				.into_iter()
				.map(|what| format!("line {}: {what}", number + 1)),
		);
	}
	complaints
}

/// Targets of the Markdown links in a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
	line.split("](")
		.skip(1)
		.filter_map(|rest| Some(rest.split_once(')')?.0))
		.filter(|target| !target.contains("://"))
}

fn link_exists(known: &Known, file: &Path, text: &str, target: &str) -> bool {
	let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
	if path.is_empty() {
		return has_heading(text, anchor);
	}
	let folder = known.root.join(file);
	let path = folder.parent().unwrap_or(&known.root).join(path);
	path.exists()
		&& (anchor.is_empty()
			|| fs::read_to_string(path).is_ok_and(|text| has_heading(&text, anchor)))
}

/// Whether a document has the heading of an anchor.
fn has_heading(text: &str, anchor: &str) -> bool {
	text.lines()
		.filter_map(|line| Some(line.strip_prefix('#')?.trim_start_matches('#').trim()))
		.any(|heading| {
			let kept = heading
				.chars()
				.filter(|c| c.is_alphanumeric() || " -_".contains(*c));
			kept.collect::<String>().to_lowercase().replace(' ', "-") == anchor
		})
}

/// What is wrong with commands of this repository in a line.
fn command(known: &Known, line: &str) -> Vec<String> {
	let line = line.split('#').next().unwrap_or("");
	let mut complaints = Vec::new();
	for command in line.split(" && ") {
		let mut words = command.split_whitespace();
		match (words.next(), words.next(), words.next()) {
			(Some("cargo"), Some("xtask"), Some(task)) if !known.commands.contains(task) => {
				complaints.push(format!("no command cargo xtask {task}"));
			}
			(Some("ci/test"), first, second) => {
				// What follows an option may be its value.
				let mut skip = false;
				for word in first.into_iter().chain(second).chain(words) {
					let value = std::mem::replace(&mut skip, false);
					if word.starts_with("--") {
						skip =
							!word.contains('=') && !["--all", "--soak", "--cost"].contains(&word);
					} else if !value && !known.stages.contains(word) {
						complaints.push(format!("no stage {word}"));
					}
				}
			}
			_ => {}
		}
	}
	complaints
}

/// What is wrong with a name in backticks: a path, a booted test or a symbol.
fn name(known: &Known, span: &str) -> Option<String> {
	let complaint = || Some(format!("no {span}"));
	if span.contains(char::is_whitespace) || span.is_empty() {
		return None;
	}
	let is_ours = |path: &str| {
		let first = path.split('/').next().unwrap_or("");
		["arch", "bench", "ci", "docs", "entry", "hcall", "tce"].contains(&first)
	};
	if span.contains('/') && is_ours(span) && !span.contains("SERIES") {
		// arch/powerpc is a folder of the kernel, too.
		let kernel = ["arch/powerpc/kvm", "arch/powerpc/include"];
		let in_kernel = kernel.iter().any(|folder| span.starts_with(folder));
		return (!in_kernel && !known.root.join(span).exists())
			.then(complaint)
			.flatten();
	}
	let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
	if let Some(test) = span.strip_suffix("-*")
		&& test.chars().all(plain)
	{
		let exists = known.booted.iter().any(|name| name.starts_with(test));
		return (!exists).then(complaint).flatten();
	}
	let symbol = span.strip_suffix("()").unwrap_or(span);
	let is_symbol = symbol.contains('_')
		&& symbol
			.chars()
			.all(|c| c.is_ascii_alphanumeric() || c == '_')
		&& symbol.starts_with(|c: char| c.is_ascii_lowercase());
	let exists = || known.words.contains(symbol) || KERNEL_NAMES.contains(&symbol);
	(is_symbol && !exists()).then(complaint).flatten()
}

#[cfg(test)]
mod tests {
	use super::*;

	fn known() -> Known {
		let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
		Known {
			root: paths::root(),
			booted: vec!["tce-diff-radix".to_owned()],
			stages: set(&["host", "booted"]),
			commands: set(&["kernel"]),
			words: set(&["kvm_p9_tce"]),
		}
	}

	fn complaints_of(text: &str) -> usize {
		complaints(&known(), Path::new("docs/some.md"), text).len()
	}

	#[test]
	fn a_counter_without_a_row_is_seen() {
		let all = unexplained("");
		assert!(
			all.len() > 20 && all[0].starts_with("entry_rust "),
			"{all:?}"
		);
		let one = unexplained("x `c_cpu`\n| `entry_rust`, `light_store` | exits | `c_secure` |");
		assert_eq!(one.len(), all.len() - 2);
		let name = |name: &str| one.contains(&format!("{name} is not explained"));
		assert!(name("c_cpu") && name("c_secure") && !name("light_store"));
	}

	#[test]
	fn what_exists_is_not_complained_of() {
		for text in [
			"# Some heading, here\nsee [it](#some-heading-here)",
			"[a](../README.md), [b](https://example.org/none), [c](../ci)",
			"`ci/xtask/src/main.rs`, `arch/powerpc/kvm/none.c`, `arch/powerpc/patches/SERIES`",
			"`tce-diff-*`, `powerpc64le-linux-gnu-`",
			"`kvm_p9_tce()`, `kvm_p9_tce`, `call_rcu()`",
			"\tci/test host booted --booted tce-   # and a comment",
			"`ci/test --soak=60 host`, `cargo xtask kernel --stock`",
		] {
			assert_eq!(complaints_of(text), 0, "{text}");
		}
	}

	#[test]
	fn what_does_not_exist_is_complained_of() {
		for text in [
			"see [it](#none)",
			"[a](none.md)",
			"[a](../README.md#none)",
			"`ci/none.rs`",
			"`tce-none-*`",
			"`kvm_p9_none()`",
			"\tci/test none",
			"\tci/test --all none",
			"`cargo xtask none`",
		] {
			assert_eq!(complaints_of(text), 1, "{text}");
		}
	}
}
