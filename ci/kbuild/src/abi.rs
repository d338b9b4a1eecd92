// SPDX-License-Identifier: GPL-2.0-only
//! `kvm_p9_abi.h`: what Rust defines and glue and trampoline use, as a header.
//!
//! The structures have no padding, as their definition asserts: offsets are the same on the host
//! as for ppc64le.

use std::fmt::Write;
use std::mem::size_of;

use hcall::{Code, FastTable, Number};
use powerpc::abi::{Field, Shared};
use powerpc::{
	Answered, BUCKETS, Counters, Distribution, EVENTS, Event, FAST_LIGHT_TABLE, FAST_TABLE,
	FULL_PATH_STACK, FastHcall, HANDLER_STACK, HostFacts, LIGHT_TABLE, Light, LightCounter, Mmcr0,
	NO_FAST_TABLE, Needs, P9Vcpu, PathStats, SHORTEST_BITS, Served, SpanKind, SprField, Stats,
	TIMED_FAST_LIGHT_TABLE, TIMED_FAST_TABLE, TIMED_LIGHT_TABLE, Target, TceCall, TimingFlags,
};

/// The text of `kvm_p9_abi.h`.
pub fn header() -> String {
	let defines = [
		("SPANS", SpanKind::COUNT as u64),
		("BUCKETS", BUCKETS as u64),
		("SHORTEST_BITS", SHORTEST_BITS.into()),
		("EVENTS", EVENTS as u64),
		("TIMING_STATS", TimingFlags::STATS),
		("TIMING_TRACE", TimingFlags::TRACE),
		("MMCR0_COUNTING", Mmcr0::COUNTING.bits()),
		("HOST_CPU_SUPPORTED", HostFacts::CPU_SUPPORTED.bits()),
		("HOST_RADIX", HostFacts::RADIX.bits()),
		("HOST_RCU_SEES_GUESTS", HostFacts::RCU_SEES_GUESTS.bits()),
		("HOST_TLBIE_STQ_BUG", HostFacts::TLBIE_STQ_BUG.bits()),
		("HOST_TLBIE_ERAT_BUG", HostFacts::TLBIE_ERAT_BUG.bits()),
		("TABLE_NO_FAST", NO_FAST_TABLE.into()),
		("TABLE_FAST", FAST_TABLE.into()),
		("TABLE_TIMED_FAST", TIMED_FAST_TABLE.into()),
		("TABLE_LIGHT", LIGHT_TABLE.into()),
		("TABLE_FAST_LIGHT", FAST_LIGHT_TABLE.into()),
		("TABLE_TIMED_LIGHT", TIMED_LIGHT_TABLE.into()),
		("TABLE_TIMED_FAST_LIGHT", TIMED_FAST_LIGHT_TABLE.into()),
		("ANSWER_REFUSED", Answered::Refused as u64),
		("ANSWER_DONE", Answered::Done as u64),
		("ANSWER_DONE_LEAVE", Answered::DoneLeave as u64),
		("TARGET_MEMORY", Target::MEMORY as u64),
		("SERVE_LEFT", Served::LEFT),
		("SERVE_REFUSED", Served::REFUSED),
		("HANDLER_STACK", HANDLER_STACK),
		("FULL_PATH_STACK", FULL_PATH_STACK),
		("FAST_TABLE_BITS", FastTable::BITS.into()),
		("H_NULL", Number::NULL.0),
		("H_TOO_HARD", Code::TOO_HARD.0 as u64),
	];
	let mut text = String::from(
		"/* SPDX-License-Identifier: GPL-2.0-only */\n\
		 /* Generated from kvm-p9's Rust sources by ci/kbuild. */\n\
		 #ifndef KVM_P9_ABI_H\n#define KVM_P9_ABI_H\n\n",
	);
	for (name, value) in defines {
		writeln!(text, "#define KVM_P9_ABI_{name} {value}").unwrap();
	}
	// The trampoline needs offsets, too.
	for field in P9Vcpu::FIELDS {
		let (name, offset) = (field.name.to_uppercase(), field.offset);
		writeln!(text, "#define KVM_P9_ABI_VCPU_{name} {offset}").unwrap();
	}
	text.push_str(&names());
	text.push_str(&spr_fields());
	text.push_str("\n#ifndef __ASSEMBLY__\n\n#include <linux/types.h>\n");
	text.push_str(&light_counters());
	text.push_str(&structure::<Counters>());
	text.push_str(&structure::<Event>());
	text.push_str(&structure::<Distribution>());
	text.push_str(&structure::<PathStats>());
	text.push_str(&structure::<Stats>());
	text.push_str(&assertions());
	text.push_str("\n#endif /* __ASSEMBLY__ */\n\n#endif /* KVM_P9_ABI_H */\n");
	text
}

/// Names of fast hcalls by `enum kvm_p9_hcall`, the hcalls' numbers in that order, and names of
/// spans by their kind: initialisers of arrays.
fn names() -> String {
	let fast = || FastHcall::ALL.iter().map(|hcall| hcall.name());
	let quoted = |names: &mut dyn Iterator<Item = String>| {
		names
			.map(|name| format!("\"{name}\""))
			.collect::<Vec<_>>()
			.join(", ")
	};
	let hcalls = quoted(&mut fast().map(str::to_owned));
	let spans = quoted(
		&mut fast()
			.map(|name| format!("fast_{name}"))
			.chain(SpanKind::OTHER_NAMES.iter().map(|name| (*name).to_owned())),
	);
	let numbers: Vec<_> = FastHcall::ALL
		.iter()
		.map(|hcall| Number::of(*hcall).0.to_string())
		.collect();
	let numbers = numbers.join(", ");
	let light = quoted(&mut LightCounter::ALL.iter().map(|one| one.name().to_owned()));
	format!(
		"#define KVM_P9_ABI_FAST_NAMES {hcalls}\n\
		 #define KVM_P9_ABI_FAST_NUMBERS {numbers}\n\
		 #define KVM_P9_ABI_SPAN_NAMES {spans}\n\
		 #define KVM_P9_ABI_LIGHT_NAMES {light}\n"
	)
}

/// `KVM_P9_ABI_SPR_FIELDS()`: calls a macro of `kvm_p9_layout.c` for each field of a switched SPR, with
/// the name of the offset, the structure, the field, and its width in bits.
fn spr_fields() -> String {
	let fields: Vec<_> = SprField::ALL
		.iter()
		.map(|field| {
			let (structure, member, bits) = (field.structure(), field.member, field.bits);
			format!("\tFIELD({field}, {structure}, {member}, {bits})")
		})
		.collect();
	format!(
		"#define KVM_P9_ABI_SPR_FIELDS(FIELD) \\\n{}\n",
		fields.join("; \\\n")
	)
}

/// The numbers of the counters of light exits.
fn light_counters() -> String {
	let mut text = String::from("\nenum kvm_p9_light_counter {\n");
	for counter in LightCounter::ALL {
		writeln!(text, "\tKVM_P9_{},", counter.c_name()).unwrap();
	}
	text.push_str("\tKVM_P9_LIGHT_COUNTERS,\n\tKVM_P9_LIGHT_NONE = KVM_P9_LIGHT_COUNTERS,\n};\n");
	text
}

/// A field as C declares it.
fn declaration(field: &Field) -> String {
	let length = field.length.map_or(String::new(), |n| format!("[{n}]"));
	format!("{} {}{length}", field.c_type, field.name)
}

/// A structure that only the glue uses.
fn structure<T: Shared>() -> String {
	let mut text = format!("\nstruct {} {{\n", T::C_NAME);
	for field in T::FIELDS {
		writeln!(text, "\t{};", declaration(field)).unwrap();
	}
	text.push_str("};\n");
	text
}

/// `KVM_P9_ABI_ASSERT()`: that structures and enumerations in kernel headers are the same as here.
fn assertions() -> String {
	let mut asserts = Vec::new();
	structure_asserts::<P9Vcpu>(&mut asserts);
	structure_asserts::<Light>(&mut asserts);
	structure_asserts::<TceCall>(&mut asserts);
	for (value, name) in Needs::ALL {
		asserts.push(format!("KVM_P9_NEEDS_{name} == {}", value as u64));
	}
	for hcall in FastHcall::ALL {
		asserts.push(format!("KVM_P9_{} == {}", hcall.c_name(), *hcall as u64));
	}
	asserts.push(format!("KVM_P9_HCALLS == {}", FastHcall::COUNT));
	asserts.push("KVMPPC_H_NULL == KVM_P9_ABI_H_NULL".to_owned());
	asserts.push("H_TOO_HARD == KVM_P9_ABI_H_TOO_HARD".to_owned());
	let asserts: Vec<_> = asserts
		.iter()
		.map(|assert| format!("\tstatic_assert({assert})"))
		.collect();
	format!(
		"\n#define KVM_P9_ABI_ASSERT() \\\n{}\n",
		asserts.join("; \\\n")
	)
}

fn structure_asserts<T: Shared>(asserts: &mut Vec<String>) {
	for field in T::FIELDS {
		asserts.push(format!(
			"offsetof(struct {}, {}) == {}",
			T::C_NAME,
			field.name,
			field.offset
		));
	}
	asserts.push(format!(
		"sizeof(struct {}) == {}",
		T::C_NAME,
		size_of::<T>()
	));
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_structure_is_declared_as_rust_defines_it() {
		let text = structure::<Distribution>();
		assert_eq!(
			text,
			"\nstruct kvm_p9_distribution {\n\tu64 count;\n\tu64 total;\n\tu64 min;\n\
			 \tu64 max;\n\tu32 histogram[20];\n};\n"
		);
	}

	#[test]
	fn every_switched_spr_has_its_field() {
		let text = spr_fields();
		for line in [
			"\tFIELD(VCPU_TAR, kvm_vcpu, arch.tar, 64); \\",
			"\tFIELD(TASK_VRSAVE, task_struct, thread.vrsave, 64); \\",
			"\tFIELD(VCPU_DSISR, kvm_vcpu, arch.shregs.dsisr, 32); \\",
		] {
			assert!(text.lines().any(|one| one == line), "{line}");
		}
		assert_eq!(text.lines().count(), 1 + SprField::ALL.len());
		assert!(!text.trim_end().ends_with('\\'));
	}

	#[test]
	fn every_fast_handler_has_its_name_and_number() {
		let text = names();
		assert!(text.contains("\"h_get_tce\"") && text.contains("\"fast_h_get_tce\""));
		for hcall in FastHcall::ALL {
			assert!(assertions().contains(&format!("KVM_P9_{} == ", hcall.c_name())));
			assert!(
				Number::of(*hcall)
					.index(FastTable::LAST)
					.is_some_and(|index| index > 0)
			);
		}
	}
}
