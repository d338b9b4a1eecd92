// SPDX-License-Identifier: GPL-2.0-only
//! Stage `prose`: plain English in documents, comments and messages of patches.
//!
//! The stage looks for the words of `ci/prose-banned`, each of which stands there with a
//! better word. `ci/prose-allowed` lists exceptions.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use harness::check::{Check, Found};
use harness::{paths, process};

use crate::stage::{Part, Stage, stage};

/// All prose of the tree.
pub const STAGE: Stage = stage("prose", |_| Ok(vec![Part::new([], 1, prose)]));

/// Whether a finding is a failure. If not, the stage only counts findings.
const ENFORCED: bool = true;

/// Folders and files with prose. Everything else at the top is generated or a licence.
const PROSE: [&str; 10] = [
	"README.md",
	"CONTRIBUTING.md",
	"CHANGELOG.md",
	"docs",
	"arch",
	"entry",
	"hcall",
	"tce",
	"bench",
	"ci",
];

/// A word that prose does not use.
#[derive(Debug, PartialEq, Eq)]
struct Banned {
	word: String,
	better: String,
}

/// One use of such a word.
#[derive(Debug, PartialEq, Eq)]
struct Finding<'a> {
	line: usize,
	banned: &'a Banned,
}

fn prose() -> Result<Found> {
	let root = paths::root();
	let banned = banned(&read(&root.join("ci/prose-banned"))?)?;
	let allowed = allowed(&read(&root.join("ci/prose-allowed"))?)?;
	let mut used = BTreeSet::new();
	let mut findings = Vec::new();
	let mut files = 0;
	for place in PROSE {
		for path in process::files_below(&root.join(place))? {
			let name = paths::short(&path);
			let Some(kind) = FileKind::of(&name) else {
				continue;
			};
			files += 1;
			for found in kind.findings(&read(&path)?, &banned) {
				let exception = (name.clone(), found.banned.word.clone());
				if allowed.contains(&exception) {
					used.insert(exception);
					continue;
				}
				let Banned { word, better } = found.banned;
				findings.push(format!("{name}:{}: '{word}': {better}", found.line));
			}
		}
	}
	let stale = allowed.difference(&used);
	let stale = stale.map(|(file, word)| {
		format!("ci/prose-allowed: {file} does not use '{word}'; remove the line")
	});
	findings.extend(stale);
	let check = match findings.len() {
		0 => Check::new(format!("{files} files"), None),
		count if ENFORCED => Check::new(
			format!("{files} files"),
			Some(format!("{count} findings, listed above")),
		),
		count => Check::skipped(
			format!("{files} files"),
			format!("{count} findings; the check is not switched on yet"),
		),
	};
	let mut text = findings.join("\n");
	if !text.is_empty() {
		text.push('\n');
	}
	Ok(Found {
		text,
		checks: vec![check],
	})
}

fn read(path: &Path) -> Result<String> {
	let bytes = fs::read(path).with_context(|| format!("can't read {}", paths::short(path)))?;
	Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Lines that are neither empty nor comments.
fn lines(text: &str) -> impl Iterator<Item = &str> {
	let lines = text.lines().map(str::trim);
	lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

fn banned(text: &str) -> Result<Vec<Banned>> {
	let mut all = Vec::new();
	for line in lines(text) {
		let Some((word, better)) = line.split_once(" -> ") else {
			bail!("ci/prose-banned: '{line}' is not WORD -> BETTER");
		};
		all.push(Banned {
			word: word.trim().to_lowercase(),
			better: better.trim().to_owned(),
		});
	}
	if all.is_empty() {
		bail!("ci/prose-banned has no words");
	}
	Ok(all)
}

fn allowed(text: &str) -> Result<BTreeSet<(String, String)>> {
	let mut all = BTreeSet::new();
	for line in lines(text) {
		let Some((file, word)) = line.split_once(": ") else {
			bail!("ci/prose-allowed: '{line}' is not FILE: WORD");
		};
		all.insert((file.trim().to_owned(), word.trim().to_lowercase()));
	}
	Ok(all)
}

/// Which part of a file is prose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
	/// All but blocks of code.
	Markdown,
	/// `// ...`
	Slashes,
	/// `/* ... */` and `// ...`
	Stars,
	/// `# ...`
	Hashes,
	/// What stands before the diff.
	Patch,
}

impl FileKind {
	fn of(name: &str) -> Option<Self> {
		let file = name.rsplit('/').next()?;
		let extension = file.rsplit_once('.').map_or("", |(_, extension)| extension);
		match extension {
			"md" => Some(Self::Markdown),
			"rs" => Some(Self::Slashes),
			"c" | "h" | "S" | "ld" | "css" | "js" => Some(Self::Stars),
			"patch" => Some(Self::Patch),
			"toml" | "config" | "s" => Some(Self::Hashes),
			_ if file.starts_with("Makefile") => Some(Self::Hashes),
			// Scripts.
			"" if name.starts_with("ci/") && !file.starts_with("prose-") => Some(Self::Hashes),
			_ => None,
		}
	}

	/// Each line's prose; lines without any are empty.
	fn prose(self, text: &str) -> Vec<&str> {
		let mut inside = false;
		let mut over = false;
		let each = |line| match self {
			Self::Markdown => {
				if str::trim_start(line).starts_with("```") {
					inside = !inside;
					return "";
				}
				if inside { "" } else { line }
			}
			Self::Slashes => after(line, "//"),
			Self::Hashes => after(line, "#"),
			Self::Patch => {
				over |= line == "---" || line.starts_with("diff --git ");
				if over { "" } else { line }
			}
			Self::Stars => {
				let start = match inside {
					true => Some(0),
					false => line.find("/*").map(|at| at + 2),
				};
				let Some(start) = start else {
					return after(line, "//");
				};
				let comment = &line[start..];
				match comment.find("*/") {
					Some(end) => {
						inside = false;
						&comment[..end]
					}
					None => {
						inside = true;
						comment
					}
				}
			}
		};
		text.lines().map(each).collect()
	}

	fn findings<'a>(self, text: &str, banned: &'a [Banned]) -> Vec<Finding<'a>> {
		// A phrase may go on in the next line, after what a comment's line begins with.
		let mut all = String::new();
		let mut starts = Vec::new();
		for line in self.prose(text) {
			starts.push(all.len());
			let line = line
				.trim_start_matches(['/', '!', '*', '#', ' ', '\t'])
				.trim_end();
			all.push_str(if line.is_empty() { "\n" } else { line });
			all.push(' ');
		}
		let all = all.to_ascii_lowercase();
		let mut findings = Vec::new();
		for banned in banned {
			for (at, word) in all.match_indices(banned.word.as_str()) {
				let letter = |c: char| c.is_alphanumeric() || c == '_';
				let before = all[..at].chars().next_back();
				let next = all[at + word.len()..].chars().next();
				if !before.is_some_and(letter) && !next.is_some_and(letter) {
					let line = starts.partition_point(|&start| start <= at);
					findings.push(Finding { line, banned });
				}
			}
		}
		findings.sort_by_key(|found| found.line);
		findings
	}
}

/// What follows a mark that begins a comment; not one that is part of a word or of an address.
fn after<'a>(line: &'a str, mark: &str) -> &'a str {
	let begins = |&(at, _): &(usize, &str)| {
		line[..at]
			.chars()
			.next_back()
			.is_none_or(|c| c.is_whitespace())
	};
	let found = line.match_indices(mark).find(begins);
	found.map_or("", |(at, _)| &line[at + mark.len()..])
}

#[cfg(test)]
mod tests {
	use super::*;

	fn found(kind: FileKind, text: &str) -> Vec<(usize, String)> {
		let banned = banned("nobody -> none\nby itself -> alone\n").unwrap();
		let findings = kind.findings(text, &banned);
		let pair = |found: &Finding<'_>| (found.line, found.banned.word.clone());
		findings.iter().map(pair).collect()
	}

	#[test]
	fn words_are_found_where_prose_is() {
		let nobody = |line| vec![(line, "nobody".to_owned())];
		assert_eq!(
			found(FileKind::Slashes, "let nobody = 1;\n/// Nobody is."),
			nobody(2)
		);
		assert_eq!(found(FileKind::Slashes, "x(); // for nobody"), nobody(1));
		assert_eq!(
			found(FileKind::Stars, "int nobody; /* x\n * nobody\n */ nobody"),
			nobody(2)
		);
		assert_eq!(found(FileKind::Hashes, "nobody = 1\n# nobody"), nobody(2));
		assert_eq!(
			found(FileKind::Markdown, "```\nnobody\n```\nnobody"),
			nobody(4)
		);
		assert_eq!(
			found(FileKind::Patch, "Subject: x\n\nnobody\n---\nnobody"),
			nobody(3)
		);
	}

	#[test]
	fn only_whole_words_are_found() {
		assert!(found(FileKind::Markdown, "nobodys, nobody_x").is_empty());
		assert_eq!(found(FileKind::Markdown, "nobody's").len(), 1);
	}

	#[test]
	fn a_phrase_may_go_on_in_the_next_line() {
		let text = "/// It does so by\n/// itself.";
		assert_eq!(
			found(FileKind::Slashes, text),
			[(1, "by itself".to_owned())]
		);
		assert!(found(FileKind::Slashes, "/// by\nx();\n/// itself").is_empty());
	}

	#[test]
	fn lists_are_read_or_refused() {
		assert!(banned("# x\n\nlest\n").is_err());
		assert!(banned("# x\n").is_err());
		assert!(allowed("docs/x.md\n").is_err());
		let one = allowed("docs/x.md: Nobody\n").unwrap();
		assert!(one.contains(&("docs/x.md".to_owned(), "nobody".to_owned())));
	}
}
