// SPDX-License-Identifier: GPL-2.0-only
//! The invariants of the architecture (`docs/architecture.md`), as tests.
//!
//! Each rule is a function that returns its complaints. One test runs the function on this
//! tree, and one on a tree that breaks the rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
	let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
	root.expect("ci/xtask is two folders deep").to_owned()
}

/// All files below a folder of the checkout: path from the checkout, and text.
fn sources(folder: &str) -> BTreeMap<String, String> {
	fn below(path: &Path, found: &mut Vec<PathBuf>) {
		for entry in fs::read_dir(path).unwrap() {
			let path = entry.unwrap().path();
			if path.is_dir() {
				below(&path, found);
			} else {
				found.push(path);
			}
		}
	}
	let root = root();
	let mut found = Vec::new();
	below(&root.join(folder), &mut found);
	let name = |path: &Path| path.strip_prefix(&root).unwrap().display().to_string();
	let text = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
	let files: BTreeMap<_, _> = found.iter().map(|path| (name(path), text(path))).collect();
	assert!(!files.is_empty(), "{folder} has no files");
	files
}

/// Code without its tests, which may name more, and without comments.
fn code(text: &str) -> String {
	let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
	let lines = code.lines().map(|line| match line.find("//") {
		// The two slashes of an address are in a string.
		Some(at) if !line[..at].ends_with(':') => &line[..at],
		_ => line,
	});
	lines.collect::<Vec<_>>().join("\n")
}

/// A package of this workspace.
struct Package {
	/// Folder of the package, from the checkout.
	folder: String,
	/// What the package depends on when it is used, by the names of packages.
	needs: BTreeSet<String>,
	/// What its tests and build scripts need besides.
	tests_need: BTreeSet<String>,
}

type Workspace = BTreeMap<String, Package>;

fn workspace() -> Workspace {
	let output = Command::new(env!("CARGO"))
		.current_dir(root())
		.args(["metadata", "--no-deps", "--offline", "--format-version=1"])
		.output()
		.expect("cargo runs");
	assert!(output.status.success(), "cargo metadata failed");
	let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
	let root = root();
	let packages = metadata["packages"].as_array().unwrap().iter();
	packages
		.map(|package| {
			let manifest = Path::new(package["manifest_path"].as_str().unwrap());
			let folder = manifest.parent().unwrap().strip_prefix(&root).unwrap();
			let needs = |normal: bool| {
				let all = package["dependencies"].as_array().unwrap().iter();
				all.filter(|one| one["kind"].is_null() == normal)
					.map(|one| one["name"].as_str().unwrap().to_owned())
					.collect()
			};
			(
				package["name"].as_str().unwrap().to_owned(),
				Package {
					folder: folder.display().to_string(),
					needs: needs(true),
					tests_need: needs(false),
				},
			)
		})
		.collect()
}

/// A workspace that is made up: name, folder, needs.
fn made_up(packages: &[(&str, &str, &[&str])]) -> Workspace {
	let package = |&(name, folder, needs): &(&str, &str, &[&str])| {
		(
			name.to_owned(),
			Package {
				folder: folder.to_owned(),
				needs: needs.iter().map(|&need| need.to_owned()).collect(),
				tests_need: BTreeSet::new(),
			},
		)
	};
	packages.iter().map(package).collect()
}

/// What a package needs, directly or not.
fn closure(workspace: &Workspace, name: &str) -> BTreeSet<String> {
	let mut all = BTreeSet::new();
	let mut next = vec![name.to_owned()];
	while let Some(name) = next.pop() {
		for need in workspace.get(&name).iter().flat_map(|one| &one.needs) {
			if all.insert(need.clone()) {
				next.push(need.clone());
			}
		}
	}
	all
}

fn kbuild_complaints(workspace: &Workspace) -> Vec<String> {
	let Some(kbuild) = workspace.get("kvm-p9-kbuild") else {
		return vec!["there is no package kvm-p9-kbuild".to_owned()];
	};
	let mut complaints = Vec::new();
	for need in kbuild.needs.iter().chain(&kbuild.tests_need) {
		if !["kvm-p9-powerpc", "kvm-p9-hcall"].contains(&need.as_str()) {
			complaints.push(format!("kbuild depends on {need}"));
		}
	}
	// What the object needs anyway is compiled for a kernel in any case.
	let object = closure(workspace, "kvm-p9-entry");
	for need in closure(workspace, "kvm-p9-kbuild") {
		if !object.contains(&need) && !complaints.iter().any(|known| known.ends_with(&need)) {
			complaints.push(format!(
				"kbuild needs {need}, which the object does not need"
			));
		}
	}
	complaints
}

#[test]
fn kbuild_depends_on_powerpc_and_hcall_only() {
	assert_eq!(kbuild_complaints(&workspace()), Vec::<String>::new());
}

#[test]
fn a_kbuild_that_depends_on_more_is_seen() {
	let entry = ("kvm-p9-entry", "entry", &["kvm-p9-powerpc"][..]);
	let powerpc = ("kvm-p9-powerpc", "arch/powerpc", &[][..]);
	let direct = (
		"kvm-p9-kbuild",
		"ci/kbuild",
		&["kvm-p9-powerpc", "clap"][..],
	);
	let complaints = kbuild_complaints(&made_up(&[entry, powerpc, direct]));
	assert_eq!(complaints, ["kbuild depends on clap"]);
	let hcall = ("kvm-p9-hcall", "hcall", &["serde"][..]);
	let indirect = ("kvm-p9-kbuild", "ci/kbuild", &["kvm-p9-hcall"][..]);
	let entry = ("kvm-p9-entry", "entry", &["kvm-p9-hcall2"][..]);
	let complaints = kbuild_complaints(&made_up(&[entry, hcall, indirect]));
	assert!(complaints.contains(&"kbuild needs serde, which the object does not need".to_owned()));
}

/// Folders of crates that go into the kernel.
const KERNEL_SIDE: [&str; 5] = ["arch/", "entry/", "hcall/", "hpt/", "tce/"];

/// The file by which a kernel's build calls ci/kbuild.
const CALLS_KBUILD: &str = "arch/powerpc/kernel/Makefile.kvm_p9";

fn dependency_complaints(workspace: &Workspace) -> Vec<String> {
	let mut complaints = Vec::new();
	let folder = |name: &str| workspace.get(name).map(|one| format!("{}/", one.folder));
	for (name, package) in workspace {
		let from = format!("{}/", package.folder);
		for need in package.needs.iter().chain(&package.tests_need) {
			let Some(to) = folder(need) else { continue };
			let kernel_side = KERNEL_SIDE.iter().any(|one| from.starts_with(one));
			let outside = to.starts_with("bench/") || to.starts_with("ci/");
			let wrong = kernel_side && outside
				// The benchmark is of use without the tests, and knows none of them.
				|| from.starts_with("bench/") && to.starts_with("ci/")
				// Booted tests share the VMM, its protocol and the rows of cases with the benchmark.
				|| from == "ci/booted/" && to.starts_with("bench/")
					&& !["bench/cases/", "bench/protocol/", "bench/vmm/"].contains(&to.as_str())
				|| from == "ci/booted/" && to.starts_with("ci/")
				|| from == "ci/harness/" && to.starts_with("ci/") && to != "ci/booted/";
			if wrong {
				complaints.push(format!("{name} depends on {need}"));
			}
		}
	}
	complaints
}

#[test]
fn crates_depend_downwards_only() {
	let workspace = workspace();
	assert_eq!(dependency_complaints(&workspace), Vec::<String>::new());
	// They do share the VMM.
	assert!(workspace["kvm-p9-booted"].needs.contains("kvm-p9-vmm"));
}

#[test]
fn a_crate_that_depends_upwards_is_seen() {
	for (from, to) in [
		("entry", "bench/protocol"),
		("hcall", "ci/kbuild"),
		("tce", "ci/harness"),
		("arch/powerpc", "bench/report"),
		("bench/vmm", "ci/booted"),
		("ci/booted", "bench/report"),
		("ci/booted", "ci/harness"),
		("ci/harness", "ci/xtask"),
		("ci/harness", "ci/gates"),
	] {
		let workspace = made_up(&[("a", from, &["b"]), ("b", to, &[])]);
		assert_eq!(
			dependency_complaints(&workspace),
			["a depends on b"],
			"{from} {to}"
		);
	}
}

/// Names of folders in the text of files that go into the kernel.
fn naming_complaints(files: &BTreeMap<String, String>) -> Vec<String> {
	let mut complaints = Vec::new();
	for (file, text) in files {
		if file == CALLS_KBUILD {
			continue;
		}
		for (number, line) in text.lines().enumerate() {
			for folder in ["bench/", "ci/"] {
				let named = line.match_indices(folder).any(|(at, _)| {
					let before = line[..at].chars().next_back();
					!before.is_some_and(|c| c.is_alphanumeric() || "_-/".contains(c))
				});
				if named {
					complaints.push(format!("{file}:{} names {folder}", number + 1));
				}
			}
		}
	}
	complaints
}

#[test]
fn what_goes_into_the_kernel_names_neither_benchmark_nor_tests() {
	let mut complaints = Vec::new();
	for folder in ["arch/powerpc", "entry", "hcall", "hpt", "tce"] {
		let mut files = sources(folder);
		// A cover letter says how the patches were tested.
		files.retain(|file, _| !file.ends_with(".patch") && !file.ends_with(".md"));
		complaints.extend(naming_complaints(&files));
	}
	assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn a_kernel_file_that_names_the_benchmark_is_seen() {
	let file = |text: &str| BTreeMap::from([("entry/src/a.rs".to_owned(), text.to_owned())]);
	for text in ["x\n//! see bench/guest", "x\n include!(\"ci/x.rs\");"] {
		assert_eq!(naming_complaints(&file(text)).len(), 1, "{text}");
	}
	for text in ["x\n//! see pci/iommu.c", "// benchmark"] {
		assert!(naming_complaints(&file(text)).is_empty(), "{text}");
	}
}

const STAGES: &str = "ci/xtask/src/stages/";

/// Names of the stages' modules.
fn stage_modules(files: &BTreeMap<String, String>) -> BTreeSet<String> {
	let names = files.keys().filter_map(|file| file.strip_prefix(STAGES));
	let tops = names.map(|name| name.split('/').next().unwrap().trim_end_matches(".rs"));
	tops.map(str::to_owned).collect()
}

fn stage_complaints(files: &BTreeMap<String, String>) -> Vec<String> {
	let stages = stage_modules(files);
	let mut complaints = Vec::new();
	for (file, text) in files {
		let Some(name) = file.strip_prefix(STAGES) else {
			continue;
		};
		let own = name.split('/').next().unwrap().trim_end_matches(".rs");
		let code = code(text);
		if code.contains("crate::stages") || code.contains("super::super") {
			complaints.push(format!("{file} names crate::stages"));
		}
		for stage in &stages {
			if stage != own && code.contains(&format!("super::{stage}")) {
				complaints.push(format!("{file} names stage {stage}"));
			}
		}
	}
	complaints
}

#[test]
fn a_stage_names_no_other_stage() {
	let files = sources("ci/xtask/src");
	assert!(stage_modules(&files).len() > 10);
	assert_eq!(stage_complaints(&files), Vec::<String>::new());
}

#[test]
fn a_stage_that_names_another_is_seen() {
	for text in [
		"use crate::stages::gates;",
		"fn f() { super::gates::main() }",
		"use super::super::stage::Part;",
	] {
		let files = BTreeMap::from([
			(format!("{STAGES}off.rs"), text.to_owned()),
			(format!("{STAGES}gates.rs"), String::new()),
		]);
		assert_eq!(stage_complaints(&files).len(), 1, "{text}");
	}
}

fn harness_complaints(files: &BTreeMap<String, String>, stages: &BTreeSet<String>) -> Vec<String> {
	let mut complaints = Vec::new();
	for (file, text) in files {
		let code = code(text);
		if code.contains("stages::") || code.contains("stage::") {
			complaints.push(format!("{file} names a module of stages"));
		}
		for stage in stages {
			// These are a folder of target/ and a program, too.
			let other = ["kernel", "booted"].contains(&stage.as_str());
			if !other && code.contains(&format!("\"{stage}\"")) {
				complaints.push(format!("{file} names stage {stage}"));
			}
		}
	}
	complaints
}

#[test]
fn the_harness_names_no_stage() {
	let stages = stage_modules(&sources("ci/xtask/src"));
	let complaints = harness_complaints(&sources("ci/harness/src"), &stages);
	assert_eq!(complaints, Vec::<String>::new());
}

#[test]
fn a_harness_that_names_a_stage_is_seen() {
	let stages = BTreeSet::from(["soak".to_owned()]);
	for text in ["if name == \"soak\" {}", "use xtask::stages::soak;"] {
		let files = BTreeMap::from([("ci/harness/src/a.rs".to_owned(), text.to_owned())]);
		assert_eq!(harness_complaints(&files, &stages).len(), 1, "{text}");
	}
}

/// The modules of a crate, by path (`a::b`, the crate's root is empty), and what they name.
fn imports(files: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
	let module = |file: &str| {
		let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
		match path {
			"lib" | "main" => String::new(),
			path => path.replace('/', "::"),
		}
	};
	let modules: BTreeSet<String> = files.keys().map(|file| module(file)).collect();
	let mut graph = BTreeMap::new();
	for (file, text) in files {
		let own = module(file);
		let parent = own.rsplit_once("::").map_or("", |(parent, _)| parent);
		let code = code(text);
		let mut named = BTreeSet::new();
		for (word, base) in [("crate::", ""), ("super::", parent), ("self::", &own)] {
			for (at, _) in code.match_indices(word) {
				let before = code[..at].chars().next_back();
				if before.is_some_and(|c| c.is_alphanumeric() || "_:$".contains(c)) {
					continue;
				}
				for path in paths_at(&code[at + word.len()..]) {
					let path = match base {
						"" => path,
						base => format!("{base}::{path}"),
					};
					// The longest part of the path that is a module.
					let mut known = path.as_str();
					while !modules.contains(known) {
						known = known.rsplit_once("::").map_or("", |(known, _)| known);
						if known.is_empty() {
							break;
						}
					}
					if known != own {
						named.insert(known.to_owned());
					}
				}
			}
		}
		// That an item of the root is named is the root's affair.
		named.remove("");
		graph.insert(own, named);
	}
	graph
}

/// The paths that begin here: one, or those in braces, without what they end in.
fn paths_at(text: &str) -> Vec<String> {
	let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
	if let Some(group) = text.strip_prefix('{') {
		let mut depth = 1;
		let mut end = group.len();
		let mut paths = vec![String::new()];
		for (at, c) in group.char_indices() {
			match c {
				'{' => depth += 1,
				'}' => depth -= 1,
				',' if depth == 1 => paths.push(String::new()),
				c if depth == 1 && word(c) => paths.last_mut().unwrap().push(c),
				_ => {}
			}
			if depth == 0 {
				end = at;
				break;
			}
		}
		assert!(end < group.len(), "a group ends: {group}");
		paths.retain(|path| !path.is_empty());
		let trim = |path: String| path.trim_end_matches(':').to_owned();
		return paths.into_iter().map(trim).collect();
	}
	let end = text.find(|c| !word(c)).unwrap_or(text.len());
	vec![text[..end].trim_end_matches(':').to_owned()]
}

/// A circle of modules that name each other, if there is one.
fn circle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
	fn visit<'a>(
		graph: &'a BTreeMap<String, BTreeSet<String>>,
		module: &'a str,
		path: &mut Vec<&'a str>,
		done: &mut BTreeSet<&'a str>,
	) -> Option<Vec<String>> {
		if let Some(at) = path.iter().position(|known| *known == module) {
			let circle = path[at..].iter().chain([&module]);
			return Some(circle.map(|one| (*one).to_owned()).collect());
		}
		if done.contains(module) {
			return None;
		}
		path.push(module);
		for next in graph.get(module).into_iter().flatten() {
			if let Some(circle) = visit(graph, next, path, done) {
				return Some(circle);
			}
		}
		path.pop();
		done.insert(module);
		None
	}
	let mut done = BTreeSet::new();
	let mut circles = graph
		.keys()
		.map(|module| visit(graph, module, &mut Vec::new(), &mut done));
	circles.find_map(|circle| circle)
}

#[test]
fn modules_of_ci_crates_have_no_circle() {
	let mut crates = 0;
	for entry in fs::read_dir(root().join("ci")).unwrap() {
		let entry = entry.unwrap();
		if !entry.path().join("src").is_dir() {
			continue;
		}
		crates += 1;
		let prefix = format!("ci/{}/src", entry.file_name().display());
		let files: BTreeMap<String, String> = sources(&prefix)
			.into_iter()
			.filter(|(file, _)| file.ends_with(".rs"))
			.map(|(file, text)| (file[prefix.len() + 1..].to_owned(), text))
			.collect();
		assert_eq!(circle(&imports(&files)), None, "in {prefix}");
	}
	assert!(crates >= 4, "{crates} crates");
}

#[test]
fn a_circle_is_seen() {
	let files = |texts: &[(&str, &str)]| -> BTreeMap<String, String> {
		let pair = |(file, text): &(&str, &str)| (file.to_string(), text.to_string());
		texts.iter().map(pair).collect()
	};
	let circle_of = |texts: &[(&str, &str)]| circle(&imports(&files(texts)));
	let found = circle_of(&[
		("main.rs", "mod a; mod b;"),
		("a.rs", "use crate::b::{B};"),
		("b.rs", "fn f() { crate::a::g() }"),
	]);
	assert_eq!(found.unwrap(), ["a", "b", "a"]);
	let found = circle_of(&[
		("a.rs", "use crate::{\n\tb::{X, Y},\n\tc,\n};"),
		("b.rs", ""),
		("c.rs", "use crate::d;"),
		("d.rs", "use crate::a::f;"),
	]);
	assert_eq!(found.unwrap(), ["a", "c", "d", "a"]);
	let found = circle_of(&[("a.rs", "use self::b::B;"), ("a/b.rs", "use super::A;")]);
	assert_eq!(found.unwrap(), ["a", "a::b", "a"]);
	let found = circle_of(&[
		("a.rs", "use crate::b::B;"),
		(
			"b.rs",
			"// use crate::a;\n#[cfg(test)]\nmod tests {\n\tuse crate::a;\n}",
		),
	]);
	assert_eq!(found, None);
}
