// SPDX-License-Identifier: GPL-2.0-only
//! Times of the vcpus of this process, as `kvm_p9.stats` collects them: `p9_times` in debugfs.

use std::fs;
use std::path::PathBuf;

use vmm::console::Span;
use vmm::machine::Failure;

const VMS: &str = "/sys/kernel/debug/kvm";

/// `p9_times` of each vcpu of this process.
fn files() -> std::io::Result<Vec<PathBuf>> {
	let mine = format!("{}-", std::process::id());
	let mut files = Vec::new();
	for vm in fs::read_dir(VMS)? {
		let vm = vm?;
		if !vm.file_name().to_string_lossy().starts_with(&mine) {
			continue;
		}
		for vcpu in fs::read_dir(vm.path())? {
			let file = vcpu?.path().join("p9_times");
			if file.exists() {
				files.push(file);
			}
		}
	}
	Ok(files)
}

/// A line of the file: name, unit, count, total, and more that is not wanted here.
fn span(line: &str) -> Option<Span> {
	let mut words = line.split(' ');
	Some(Span {
		span: words.next()?.to_owned(),
		unit: words.next()?.to_owned(),
		count: words.next()?.parse().ok()?,
		total: words.next()?.parse().ok()?,
	})
}

/// The spans that there were, of all vcpus together.
pub fn read() -> Result<Vec<Span>, Failure> {
	let mut all: Vec<Span> = Vec::new();
	for file in files().map_err(|e| Failure::Unsupported(format!("{VMS}: {e}")))? {
		let garbled = |e: &str| Failure::Wrong(format!("{}: {e}", file.display()));
		let text = fs::read_to_string(&file).map_err(|e| garbled(&e.to_string()))?;
		for line in text.lines().filter(|line| !line.starts_with('#')) {
			let new = span(line).ok_or_else(|| garbled(line))?;
			let same = |old: &&mut Span| old.span == new.span && old.unit == new.unit;
			match all.iter_mut().find(same) {
				Some(old) => {
					old.count += new.count;
					old.total += new.total;
				}
				None if new.count > 0 => all.push(new),
				None => {}
			}
		}
	}
	Ok(all)
}
