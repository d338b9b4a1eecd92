// SPDX-License-Identifier: GPL-2.0-only
//! Stage `off`: with the option off, the patches change nothing but for their fixes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Series};

use crate::stage::{Args, Part, Stage, stage};

/// A whole kernel build.
pub const STAGE: Stage = Stage {
	after: &["kernel"],
	..stage("off", |args| {
		let part = |series| Part::new([], 1, move || off(args, series)).on(series);
		Ok(args.series()?.into_iter().map(part).collect())
	})
};

/// Sections that may differ with the option off: the build ID, which hashes what was
/// compiled, and the line numbers of BUG() and WARN(), which the patches move.
const OFF_MAY_DIFFER: [&str; 2] = [".notes", "__bug_table"];

/// With the option off the patched kernel is the unpatched kernel with the patches that
/// fix its bugs, to the byte.
fn off(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	let name = "the option off changes nothing but for the fixes";
	if !args.all && !args.names("off") {
		return Ok(vec![Check::skipped(
			name,
			"two kernel builds; with --all or by name",
		)]);
	}
	let fixed = fs::read(kernel::build_fixed(series)?.vmlinux())?;
	let off = fs::read(kernel::build_off(series)?.vmlinux())?;
	let differing = differing_sections(&fixed, &off)?;
	let complaint = (!differing.is_empty()).then(|| format!("{} differs", differing.join(", ")));
	Ok(vec![Check::new(name, complaint)])
}

/// The sections of two images that are loaded, may not differ, and do. Names of symbols
/// are not: the compiler numbers some of them by what it has seen before.
fn differing_sections(a: &[u8], b: &[u8]) -> Result<Vec<String>> {
	use ::object::{Object, ObjectSection, SectionFlags, elf::SHF_ALLOC};
	let contents = |image| -> Result<BTreeMap<String, (u64, Vec<u8>)>> {
		let file = ::object::File::parse(image)?;
		let loaded = |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(SHF_ALLOC) != 0);
		file.sections()
			.filter(|section| loaded(section.flags()))
			.map(|section| {
				let data = section.data()?.to_owned();
				Ok((section.name()?.to_owned(), (section.address(), data)))
			})
			.collect()
	};
	let (a, b) = (contents(a)?, contents(b)?);
	let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
	Ok(names
		.into_iter()
		.filter(|name| !OFF_MAY_DIFFER.contains(&name.as_str()) && a.get(*name) != b.get(*name))
		.cloned()
		.collect())
}
