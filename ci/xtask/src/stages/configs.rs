// SPDX-License-Identifier: GPL-2.0-only
//! Stage `configs`: the folder of KVM in other configurations than that of the tests.
//!
//! In one copy of the tree, one configuration after the other. Either all of the folder compiles
//! without a warning, the objects keep their rules, and what they take from the rest of the kernel
//! is there; or Kconfig does not offer the option. What does not compile is a fault.

use anyhow::Result;
use harness::check::Check;
use harness::kernel::{self, Configurations, Configured, Series};
use harness::paths;
use harness::process::{self, Usage, say};

use crate::stage::{Args, Need, Part, Stage, stage};

mod symbols;

/// A copy of a kernel tree, and a build of one folder for each configuration.
pub const STAGE: Stage = stage("configs", |args| {
	let part = |series| {
		let work = move || configs(args, series);
		Part::new([Need::Kernel(series)], 1, work).on(series)
	};
	Ok(args.series()?.into_iter().map(part).collect())
});

/// The folder that is built.
const FOLDER: &str = "arch/powerpc/kvm";

/// What is expected of a configuration.
#[derive(Clone, Copy)]
enum Expected {
	/// The folder builds.
	Builds,
	/// Kconfig does not offer our option, for this reason.
	Refused(&'static str),
	/// Kconfig does not take the configuration while KVM-HV is on, for this reason.
	Impossible(&'static str),
}

use Expected::{Builds, Impossible, Refused};

/// A configuration.
struct Row {
	name: &'static str,
	/// Lines on top of the configuration of the tests, without `CONFIG_`.
	lines: &'static [&'static str],
	expected: Expected,
}

const fn row(name: &'static str, lines: &'static [&'static str], expected: Expected) -> Row {
	Row {
		name,
		lines,
		expected,
	}
}

/// The configurations, those first that change the least.
const ROWS: &[Row] = &[
	row("module", &["KVM_BOOK3S_64=m", "KVM_BOOK3S_64_HV=m"], Builds),
	row("debugfs-off", &["DEBUG_FS=n"], Builds),
	row("vfio-off", &["VFIO=n"], Builds),
	row("timing", &["KVM_BOOK3S_HV_P9_TIMING=y"], Builds),
	row(
		"accounting-native",
		&["VIRT_CPU_ACCOUNTING_NATIVE=y"],
		Builds,
	),
	row("nohz-full", &["NO_HZ_IDLE=n", "NO_HZ_FULL=y"], Builds),
	row(
		"simple-spinlocks",
		&["EXPERT=y", "PPC_QUEUED_SPINLOCKS=n"],
		Builds,
	),
	row("events-off", &["FTRACE=n"], Builds),
	row("jump-labels-off", &["JUMP_LABEL=n"], Builds),
	row("pseries", &["PPC_PSERIES=y"], Builds),
	row(
		"function-tracer",
		&["FUNCTION_TRACER=y", "DYNAMIC_FTRACE=y"],
		Builds,
	),
	row("4k-pages", &["PPC_64K_PAGES=n", "PPC_4K_PAGES=y"], Builds),
	row("preempt", &["PREEMPT_NONE=n", "PREEMPT=y"], Builds),
	row("lockdep", &["PROVE_LOCKING=y"], Builds),
	row("kasan", &["KASAN=y"], Builds),
	row(
		"tm-off",
		&["PPC_TRANSACTIONAL_MEM=n"],
		Refused("the vcpu has no registers of transactional memory"),
	),
	row(
		"xics-off",
		&["KVM_XICS=n"],
		Refused("the vcpu has no interrupt context"),
	),
	row(
		"iommu-off",
		&["IOMMU_SUPPORT=n"],
		Refused("there are no TCE tables"),
	),
	row(
		"radix-off",
		&["PPC_RADIX_MMU=n"],
		Refused("the host would not be radix"),
	),
	row(
		"big-endian",
		&["CPU_LITTLE_ENDIAN=n", "CPU_BIG_ENDIAN=y"],
		Refused("the code is little-endian"),
	),
	row(
		"vmemmap-off",
		&["SPARSEMEM_VMEMMAP=n"],
		Refused("a handler could not find a struct page by its address"),
	),
	row("smp-off", &["SMP=n"], Impossible("PPC_POWERNV selects SMP")),
	row(
		"realtime",
		&["EXPERT=y", "PREEMPT_RT=y"],
		Impossible("powerpc has no PREEMPT_RT"),
	),
	row(
		"virtual-stacks",
		&["VMAP_STACK=y"],
		Impossible("ppc64 has no VMAP_STACK"),
	),
];

impl Row {
	/// The lines as Kconfig takes them.
	fn fragment(&self) -> String {
		let lines = self.lines.iter();
		lines.map(|line| format!("CONFIG_{line}\n")).collect()
	}

	/// The row of the table in the documents.
	#[cfg(test)]
	fn documented(&self) -> String {
		let lines: Vec<_> = self.lines.iter().map(|line| format!("`{line}`")).collect();
		let expected = match self.expected {
			Builds => "builds".to_owned(),
			Refused(why) => format!("option not offered: {why}"),
			Impossible(why) => format!("not with KVM-HV: {why}"),
		};
		format!("| `{}` | {} | {expected} |\n", self.name, lines.join(", "))
	}
}

fn configs(args: &Args, series: &'static Series) -> Result<Vec<Check>> {
	if !args.all && !args.names("configs") {
		let why = "a copy of a kernel tree and many builds; with --all or by name";
		return Ok(vec![Check::skipped("other configurations", why)]);
	}
	if let Some(unknown) = args
		.configs
		.iter()
		.find(|name| !ROWS.iter().any(|row| row.name == **name))
	{
		return Err(Usage(format!("no configuration is called '{unknown}'")).into());
	}
	let image = kernel::build(series, false)?;
	let folder = paths::target().join("test").join(series.file("configs"));
	process::remove(&folder)?;
	let tree = Configurations::new(&image, &folder)?;
	let mut checks = Vec::new();
	for row in ROWS.iter().filter(|row| is_chosen(args, row)) {
		let complaint = complaint(&tree, row).unwrap_or_else(|error| Some(format!("{error:#}")));
		if let Some(complaint) = &complaint {
			// The others take minutes.
			say(format_args!("{}: {complaint}", row.name));
		}
		checks.push(Check::new(row.name, complaint));
	}
	process::remove(&folder)?;
	Ok(checks)
}

/// Whether the command line leaves the configuration in.
fn is_chosen(args: &Args, row: &Row) -> bool {
	args.configs.is_empty() || args.configs.iter().any(|name| name == row.name)
}

/// What is not as expected.
fn complaint(tree: &Configurations, row: &Row) -> Result<Option<String>> {
	let configured = tree.configure(row.name, &row.fragment())?;
	Ok(match (row.expected, configured) {
		(Builds, Configured::On) => {
			let mut found = tree.build(row.name)?;
			found.extend(gates::rules::of_configuration(tree.tree())?);
			found.extend(symbols::missing(tree.tree())?);
			(!found.is_empty()).then(|| found.join("; "))
		}
		(Refused(_), Configured::Refused) | (Impossible(_), Configured::Lost(_)) => None,
		(Refused(why) | Impossible(why), Configured::On) => {
			Some(format!("Kconfig offers the option, although {why}"))
		}
		(Builds | Impossible(_), Configured::Refused) => {
			Some("Kconfig does not offer the option".to_owned())
		}
		(Builds | Refused(_), Configured::Lost(lines)) => {
			Some(format!("Kconfig did not take {}", lines.join(", ")))
		}
	})
}

#[cfg(test)]
mod tests {
	use std::collections::BTreeSet;
	use std::fs;

	use super::*;

	#[test]
	fn names_are_unique() {
		let names: BTreeSet<_> = ROWS.iter().map(|row| row.name).collect();
		assert_eq!(names.len(), ROWS.len());
	}

	/// docs/kernel-build.md has the table.
	#[test]
	fn the_documents_have_the_list() {
		const MARKS: [&str; 2] = ["<!-- configs:begin -->\n", "<!-- configs:end -->\n"];
		let file = paths::root().join("docs/kernel-build.md");
		let text = fs::read_to_string(&file).unwrap();
		let (before, rest) = text.split_once(MARKS[0]).unwrap();
		let (_, after) = rest.split_once(MARKS[1]).unwrap();
		let head = "\n| name | lines | what is checked |\n|---|---|---|\n".to_owned();
		let table = ROWS
			.iter()
			.fold(head, |table, row| table + &row.documented());
		let new = [before, MARKS[0], &table, "\n", MARKS[1], after].concat();
		if std::env::var_os("BLESS").is_some() {
			process::write_whole(&file, new.as_bytes()).unwrap();
		} else {
			assert!(
				text == new,
				"docs/kernel-build.md lists other configurations: BLESS=1 writes the list anew"
			);
		}
	}
}
