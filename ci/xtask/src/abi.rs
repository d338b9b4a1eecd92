// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask abi`: what Rust defines and glue and trampoline use, as a header.
//!
//! Offsets are the same on the host as for ppc64le: the structures are
//! `repr(C)` with 64-bit fields and pointers only, and the kernel object's build
//! asserts them once more for the target.

use std::fmt::Write;
use std::mem::{offset_of, size_of};

use hcall::{Code, FastTable, Number};
use powerpc::{Counters, HostFacts, P9Vcpu};

/// The text of `kvm_p9_abi.h`.
pub fn header() -> String {
	let defines = [
		("VCPU_FAST_TABLE", offset_of!(P9Vcpu, fast_table) as u64),
		("VCPU_FAST_NULL", offset_of!(P9Vcpu, fast_null) as u64),
		(
			"VCPU_FAST_H_GET_TCE",
			offset_of!(P9Vcpu, fast_h_get_tce) as u64,
		),
		(
			"VCPU_FAST_H_PUT_TCE",
			offset_of!(P9Vcpu, fast_h_put_tce) as u64,
		),
		(
			"VCPU_FAST_H_PUT_TCE_INDIRECT",
			offset_of!(P9Vcpu, fast_h_put_tce_indirect) as u64,
		),
		(
			"VCPU_FAST_H_STUFF_TCE",
			offset_of!(P9Vcpu, fast_h_stuff_tce) as u64,
		),
		("VCPU_LIST_GFN", offset_of!(P9Vcpu, list_gfn) as u64),
		(
			"VCPU_LIST_GENERATION",
			offset_of!(P9Vcpu, list_generation) as u64,
		),
		("VCPU_LIST_PAGE", offset_of!(P9Vcpu, list_page) as u64),
		("VCPU_LIST_BUSY", offset_of!(P9Vcpu, list_busy) as u64),
		("VCPU_LIST_WANTED", offset_of!(P9Vcpu, list_wanted) as u64),
		("VCPU_LIST", offset_of!(P9Vcpu, list) as u64),
		("VCPU_SIZE", size_of::<P9Vcpu>() as u64),
		(
			"COUNTERS_ENTRY_RUST",
			offset_of!(Counters, entry_rust) as u64,
		),
		("COUNTERS_C_CPU", offset_of!(Counters, c_cpu) as u64),
		(
			"COUNTERS_C_HOST_MMU",
			offset_of!(Counters, c_host_mmu) as u64,
		),
		("COUNTERS_C_NESTED", offset_of!(Counters, c_nested) as u64),
		("COUNTERS_C_HASH", offset_of!(Counters, c_hash) as u64),
		("COUNTERS_C_SECURE", offset_of!(Counters, c_secure) as u64),
		("COUNTERS_FAST_NULL", offset_of!(Counters, fast_null) as u64),
		(
			"COUNTERS_FAST_H_GET_TCE",
			offset_of!(Counters, fast_h_get_tce) as u64,
		),
		(
			"COUNTERS_FAST_H_PUT_TCE",
			offset_of!(Counters, fast_h_put_tce) as u64,
		),
		(
			"COUNTERS_FAST_H_PUT_TCE_INDIRECT",
			offset_of!(Counters, fast_h_put_tce_indirect) as u64,
		),
		(
			"COUNTERS_FAST_H_STUFF_TCE",
			offset_of!(Counters, fast_h_stuff_tce) as u64,
		),
		("COUNTERS_SIZE", size_of::<Counters>() as u64),
		("HOST_CPU_SUPPORTED", HostFacts::CPU_SUPPORTED.bits()),
		("HOST_RADIX", HostFacts::RADIX.bits()),
		("HOST_TM_ASSIST", HostFacts::TM_ASSIST.bits()),
		("FAST_TABLE_LAST", FastTable::LAST.0 >> 2),
		("H_NULL", Number::NULL.0),
		("H_TOO_HARD", Code::TOO_HARD.0 as u64),
	];
	let mut text = String::from(
		"/* SPDX-License-Identifier: GPL-2.0-only */\n\
		 /* Generated from kvm-p9's Rust sources by `cargo xtask abi`. */\n\
		 #ifndef KVM_P9_ABI_H\n#define KVM_P9_ABI_H\n\n",
	);
	for (name, value) in defines {
		writeln!(text, "#define KVM_P9_ABI_{name} {value}").unwrap();
	}
	text.push_str("\n#endif /* KVM_P9_ABI_H */\n");
	text
}
