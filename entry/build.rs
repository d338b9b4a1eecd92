// SPDX-License-Identifier: GPL-2.0-only
//! Turns the configured kernel's layout into Rust constants.
//!
//! `KVM_P9_LAYOUT` names the `kvm_p9_layout.h` that kbuild made from
//! `kvm_p9_layout.c`. Without it there is no kernel to be linked into, as in the
//! host's unit tests: then the names are taken from `kvm_p9_layout.c` itself and the
//! offsets are invented, every field at a place of its own.
//!
//! The widths come from that file in both cases: its FIELDn macros have the kernel's
//! compiler assert them. The fields of switched SPRs, with their widths, come from the rows
//! in `powerpc`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use powerpc::SprField;

/// Values, rather than offsets, that the host's tests see. The kernel's own, as of
/// Linux 6.12; a test that depends on one says so.
const VALUES: [(&str, i64); 51] = [
	("GUEST_MODE_NONE", 0),
	("GUEST_MODE_P9_RS", 6),
	("INST_FETCH_FAILED", -1),
	("IRQ_HARD_DIS", 1),
	("HV_LPCR_LD", 1 << 17),
	("HV_LPCR_HDICE", 1),
	("DSISR_STORE", 0x0200_0000),
	("HISI_WRITE", 0x0001_0000),
	("DSISR_SRR1_MATCH", 0x582e_0000),
	("DSISR_CANARY", 0x7fff),
	("SRR1_STATUS", 0x783f_0000),
	("SRR1_IS_PREFIXED", 0x2000_0000),
	("DSISR_ODD", 0x040e_0000),
	("PCR_RESERVED", !0x7000_0000_0000_001e),
	("SIZEOF_HOST_OS_SPRS", 136),
	// Out of the way of the fields.
	("VCPU_SLB", 4096),
	("SLB_ENTRIES", 64),
	("SIZEOF_SLB_ENTRY", 40),
	("SLB_VALID", 1 << 27),
	("HAVE_TM", 1),
	("HAVE_TIMING", 0),
	("HAVE_QUEUED_SPINLOCK", 1),
	("SPINLOCK_LOCKED", 1),
	("SPINLOCK_OWNER_SHIFT", 1),
	("SPINLOCK_TAIL", 0xfffe_0000),
	("XA_NODE_SLOTS", 4096),
	("XA_SLOTS", 64),
	("VP_QUEUES", 4096),
	("VP_QUEUE_COUNT", 8),
	("SIZEOF_QUEUE", 4096),
	("VP_IPI_DATA", 9 * 4096),
	("XIVE_BLOCKS", 4096),
	("XICS_BLOCKS", 1024),
	("XICS_BLOCK_SHIFT", 10),
	("BLOCK_SOURCES", 4096),
	("SIZEOF_SOURCE", 2 * 4096),
	("SOURCE_IPI_DATA", 4096),
	("XICS_IRQ_IPI", 2),
	("XICS_IRQ_DUMMY", 1),
	("XICS_MASKED", 0xff),
	("ESB_FLAG_STORE_EOI", 1),
	("ESB_FLAG_LSI", 2),
	("ESB_STORE_EOI", 0x400),
	("ESB_LOAD_EOI", 0),
	("ESB_SET_PQ_00", 0xc00),
	("ESB_Q", 1),
	("TIMA_ACK", 0x810),
	("TIMA_ACK_INTERRUPT", 0x80),
	("TIMA_OS", 0x10),
	("TIMA_CPPR", 0x11),
	("TIMA_SET_PENDING", 0x812),
];

/// Where `kvm_p9_layout.c` is in this checkout. A kernel tree that contains the sources has the file
/// elsewhere, and names it in `KVM_P9_LAYOUT_SOURCE`.
const LAYOUT_SOURCE: &str = "../arch/powerpc/kernel/kvm_p9_layout.c";

fn main() {
	let layout_source = env::var("KVM_P9_LAYOUT_SOURCE");
	let layout_source = layout_source.as_deref().unwrap_or(LAYOUT_SOURCE);
	println!("cargo::rustc-check-cfg=cfg(kernel, have_tm, have_timing)");
	println!("cargo::rerun-if-env-changed=KVM_P9_LAYOUT");
	println!("cargo::rerun-if-changed={layout_source}");
	let source = fs::read_to_string(layout_source)
		.unwrap_or_else(|error| panic!("{layout_source}: {error}"));
	let widths = widths(&source);

	let header = env::var_os("KVM_P9_LAYOUT")
		.filter(|path| !path.is_empty())
		.map(PathBuf::from);
	let mut values = match &header {
		Some(path) => {
			println!("cargo::rerun-if-changed={}", path.display());
			println!("cargo::rustc-cfg=kernel");
			parse(path)
		}
		None => invent(&source),
	};

	let mut text = String::new();
	let mut modules: BTreeMap<&str, String> = BTreeMap::new();
	for field in SprField::ALL {
		let Some(offset) = values.remove(&field.to_string()) else {
			panic!("there is no {field}");
		};
		let (name, size) = (field.name, field.bits / 8);
		writeln!(
			modules.entry(field.home).or_default(),
			"pub const {name}: Field = Field {{ offset: {offset}, size: {size} }};"
		)
		.unwrap();
	}
	for (home, fields) in modules {
		writeln!(text, "pub mod {home} {{\nuse super::Field;\n{fields}}}").unwrap();
	}
	for (name, value) in &values {
		match widths.get(name) {
			Some(bits) => writeln!(
				text,
				"pub const {name}: Field = Field {{ offset: {value}, size: {} }};",
				bits / 8
			),
			None => writeln!(text, "pub const {name}: usize = {value}_i64 as usize;"),
		}
		.unwrap();
		if let (Some(option), 1) = (name.strip_prefix("HAVE_"), value) {
			println!("cargo::rustc-cfg=have_{}", option.to_lowercase());
		}
	}
	let out = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("layout.rs");
	fs::write(out, text).unwrap();
}

/// The arguments of a line `MACRO(a, b, ...);`, if it is one.
fn call<'a>(line: &'a str, name: &str) -> Option<Vec<&'a str>> {
	let rest = line.trim().strip_prefix(name)?.strip_prefix('(')?;
	Some(rest.split_once(");")?.0.split(',').map(str::trim).collect())
}

fn widths(source: &str) -> BTreeMap<String, u64> {
	let mut widths = BTreeMap::new();
	for line in source.lines() {
		for bits in [64, 32, 16, 8] {
			if let Some(arguments) = call(line, &format!("FIELD{bits}")) {
				widths.insert(arguments[0].to_owned(), bits);
			}
		}
		// A save area's fields are words of an array; the width is said in a comment.
		if let (Some(arguments), Some((_, comment))) =
			(call(line, "DEFINE"), line.split_once("/* u"))
			&& let Some(bits) = comment
				.strip_suffix(" */")
				.and_then(|bits| bits.parse().ok())
		{
			widths.insert(arguments[0].to_owned(), bits);
		}
	}
	widths
}

fn parse(path: &Path) -> BTreeMap<String, i64> {
	let header =
		fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
	let mut values = BTreeMap::new();
	for line in header.lines() {
		let mut words = line.split_whitespace();
		if words.next() != Some("#define") {
			continue;
		}
		// The include guard is the one name without a value.
		if let (Some(name), Some(value)) = (words.next(), words.next()) {
			let value = value
				.parse()
				.unwrap_or_else(|_| panic!("{}: {line}: not a number", path.display()));
			values.insert(name.to_owned(), value);
		}
	}
	values
}

fn invent(source: &str) -> BTreeMap<String, i64> {
	let names = source.lines().filter_map(|line| {
		[
			"FIELD64", "FIELD32", "FIELD16", "FIELD8", "OFFSET", "DEFINE",
		]
		.iter()
		.find_map(|name| call(line, name))
		.map(|arguments| arguments[0].to_owned())
		.filter(|name| name.chars().all(|c| !c.is_lowercase()))
	});
	let names = names.chain(SprField::ALL.iter().map(SprField::to_string));
	let mut values: BTreeMap<_, _> = names.zip(1..).map(|(name, n)| (name, n * 8)).collect();
	values.extend(VALUES.map(|(name, value)| (name.to_owned(), value)));
	values
}
