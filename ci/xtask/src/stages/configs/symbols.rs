// SPDX-License-Identifier: GPL-2.0-only
//! Whether a folder that was compiled could be linked: into vmlinux, and as modules.
//!
//! The rest of the kernel is not built for each configuration. What the rest defines and exports is
//! known of the kernel whose tree was copied. Functions that an option adds to the whole kernel, such
//! as those of lockdep, are known by their use in objects of the kernel's own.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use ::object::{Object, ObjectSymbol};
use anyhow::{Context, Result, ensure};
use harness::process;

use super::FOLDER;

/// The objects of kvm-p9 begin so.
const OURS: &str = "kvm_p9_";
/// The modules that the folder may become.
const MODULES: [&str; 2] = ["kvm", "kvm-hv"];
/// Labels of exported symbols begin so.
const EXPORT: &str = "__export_symbol_";

/// What modules have besides: modpost gives each a structure, and the kernel exports the function
/// where KVM-HV is a module.
const ONLY_FOR_MODULES: [&str; 2] = ["__this_module", "irq_to_desc"];

/// The symbols of an object.
#[derive(Default)]
struct Symbols {
	name: String,
	defined: BTreeSet<String>,
	undefined: BTreeSet<String>,
	exported: BTreeSet<String>,
}

impl Symbols {
	fn read(path: &Path) -> Result<Self> {
		let data = fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
		let name = path.file_name().unwrap_or_default().to_string_lossy();
		let mut symbols = Self {
			name: name.into_owned(),
			..Self::default()
		};
		for symbol in ::object::File::parse(&*data)?.symbols() {
			let name = symbol.name()?;
			if let Some(exported) = name.strip_prefix(EXPORT) {
				symbols.exported.insert(exported.to_owned());
			} else if symbol.is_undefined() && !name.is_empty() {
				symbols.undefined.insert(name.to_owned());
			} else if symbol.is_global() {
				symbols.defined.insert(name.to_owned());
			}
		}
		Ok(symbols)
	}

	fn is_ours(&self) -> bool {
		self.name.starts_with(OURS)
	}
}

/// What the linker or modpost would complain about in a tree where the folder was built.
pub(super) fn missing(tree: &Path) -> Result<Vec<String>> {
	let archive = tree.join(FOLDER).join("built-in.a");
	let mut list = Command::new("ar");
	let members = process::output(list.arg("t").arg(&archive))?;
	// The names are relative to the archive, or to the tree.
	let base = [archive.parent().context("no folder")?, tree];
	let mut built_in = Vec::new();
	for member in members.lines() {
		let paths = base.map(|base| base.join(member));
		let path = paths.iter().find(|path| path.exists());
		built_in.push(Symbols::read(path.with_context(|| member.to_owned())?)?);
	}
	ensure!(built_in.iter().any(Symbols::is_ours), "nothing of kvm-p9");
	let config = fs::read_to_string(tree.join(".config"))?;
	let mut modules = Vec::new();
	if config
		.lines()
		.any(|line| line == "CONFIG_KVM_BOOK3S_64_HV=m")
	{
		for name in MODULES {
			modules.push(Symbols::read(&tree.join(FOLDER).join(format!("{name}.o")))?);
		}
	}
	let column = |file: &str, number: usize| -> Result<BTreeSet<String>> {
		let text = fs::read_to_string(tree.join(file)).with_context(|| file.to_owned())?;
		let words = text
			.lines()
			.filter_map(|line| line.split_whitespace().nth(number));
		Ok(words.map(str::to_owned).collect())
	};
	let (map, exports) = (column("System.map", 2)?, column("vmlinux.symvers", 1)?);
	Ok(complaints(&built_in, &modules, map, exports))
}

/// The same, with what the whole kernel defines and exports, this folder included.
fn complaints(
	built_in: &[Symbols],
	modules: &[Symbols],
	mut defined: BTreeSet<String>,
	mut exported: BTreeSet<String>,
) -> Vec<String> {
	let folder = || built_in.iter().chain(modules);
	// What modules define is not in vmlinux.
	for name in folder().flat_map(|object| &object.defined) {
		defined.remove(name);
		exported.remove(name);
	}
	defined.extend(built_in.iter().flat_map(|object| object.defined.clone()));
	defined.insert(".TOC.".to_owned());
	exported.insert(".TOC.".to_owned());
	exported.extend(ONLY_FOR_MODULES.map(str::to_owned));
	exported.extend(folder().flat_map(|object| object.exported.clone()));
	let kernels_own = |object: &&Symbols| !object.is_ours();
	for object in built_in.iter().filter(kernels_own) {
		let outside = object.undefined.iter();
		let outside = outside.filter(|name| !folder().any(|other| other.defined.contains(*name)));
		defined.extend(outside.cloned());
	}
	let ours = built_in.iter().filter(|object| object.is_ours());
	let not_linked = ours.flat_map(|object| {
		let missing = object.undefined.difference(&defined);
		missing.map(|name| format!("{}: {name} is not in vmlinux", object.name))
	});
	let not_exported = modules.iter().flat_map(|module| {
		let missing = module.undefined.difference(&exported);
		missing.map(|name| format!("{}: {name} is not exported", module.name))
	});
	not_linked.chain(not_exported).collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	fn object(name: &str, defined: &[&str], undefined: &[&str], exported: &[&str]) -> Symbols {
		let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
		Symbols {
			name: name.to_owned(),
			defined: set(defined),
			undefined: set(undefined),
			exported: set(exported),
		}
	}

	/// vmlinux with KVM built in defines `printk`, `entry` and `run`, and exports the first two.
	fn broken(built_in: &[Symbols], modules: &[Symbols]) -> Vec<String> {
		let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
		let (map, exports) = (set(&["printk", "entry", "run"]), set(&["printk", "entry"]));
		complaints(built_in, modules, map, exports)
	}

	#[test]
	fn what_vmlinux_takes_is_in_vmlinux() {
		let hv = || object("book3s_hv.o", &["run"], &["entry", "lock_acquire"], &[]);
		let main = |takes| object("kvm_p9_main.o", &["entry"], &[takes], &["entry"]);
		assert!(broken(&[main("printk"), hv()], &[]).is_empty());
		assert!(broken(&[main("run"), hv()], &[]).is_empty());
		// An object of the kernel's own uses it.
		assert!(broken(&[main("lock_acquire"), hv()], &[]).is_empty());
		assert_eq!(
			broken(&[main("nowhere"), hv()], &[]),
			["kvm_p9_main.o: nowhere is not in vmlinux"]
		);
		assert_eq!(
			broken(&[main("run")], &[hv()]),
			[
				"kvm_p9_main.o: run is not in vmlinux",
				"book3s_hv.o: lock_acquire is not exported"
			]
		);
	}

	#[test]
	fn what_a_module_takes_is_exported() {
		let hv = || object("kvm-hv.o", &["run"], &["entry", "printk"], &[]);
		let main = |exports: &[&str]| object("kvm_p9_main.o", &["entry"], &[], exports);
		assert!(broken(&[main(&["entry"])], &[hv()]).is_empty());
		assert_eq!(
			broken(&[main(&[])], &[hv()]),
			["kvm-hv.o: entry is not exported"]
		);
	}
}
