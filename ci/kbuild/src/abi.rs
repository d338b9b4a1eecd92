// SPDX-License-Identifier: GPL-2.0-only
//! `kvm_p9_abi.h`: what Rust defines and glue and trampoline use, as a header.
//!
//! Offsets are the same on the host as for ppc64le: the structures are
//! `repr(C)` with 64-bit fields and pointers only, and the kernel object's build
//! asserts them once more for the target.

use std::fmt::Write;
use std::mem::{offset_of, size_of};

use hcall::{Code, FastTable, Number};
use powerpc::{
	BUCKETS, Counters, Distribution, EVENTS, Event, FAST_TABLE, HostFacts, Missing, Mmcr0,
	NO_FAST_TABLE, P9Vcpu, PathStats, SHORTEST_BITS, SpanKind, Stats, TIMED_FAST_TABLE, TceCall,
	TimingFlags,
};

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
		("VCPU_TCE_LIST_GFN", offset_of!(P9Vcpu, tce_list_gfn) as u64),
		(
			"VCPU_TCE_LIST_GENERATION",
			offset_of!(P9Vcpu, tce_list_generation) as u64,
		),
		(
			"VCPU_TCE_LIST_PAGE",
			offset_of!(P9Vcpu, tce_list_page) as u64,
		),
		(
			"VCPU_TCE_LIST_BUSY",
			offset_of!(P9Vcpu, tce_list_busy) as u64,
		),
		(
			"VCPU_TCE_LIST_WANTED",
			offset_of!(P9Vcpu, tce_list_wanted) as u64,
		),
		("VCPU_TCE_LIST", offset_of!(P9Vcpu, tce_list) as u64),
		("VCPU_STATS", offset_of!(P9Vcpu, stats) as u64),
		("VCPU_HCALL_TB", offset_of!(P9Vcpu, hcall_tb) as u64),
		("VCPU_HCALL_CYCLES", offset_of!(P9Vcpu, hcall_cycles) as u64),
		("VCPU_SIZE", size_of::<P9Vcpu>() as u64),
		("TCE_CALL_NUMBER", offset_of!(TceCall, number) as u64),
		("TCE_CALL_DONE", offset_of!(TceCall, done) as u64),
		("TCE_CALL_LIST_READ", offset_of!(TceCall, list_read) as u64),
		("TCE_CALL_QUIET", offset_of!(TceCall, quiet) as u64),
		("TCE_CALL_MISSING", offset_of!(TceCall, missing) as u64),
		("TCE_CALL_TABLE", offset_of!(TceCall, table) as u64),
		("TCE_CALL_INDEX", offset_of!(TceCall, index) as u64),
		("TCE_CALL_SIZE", size_of::<TceCall>() as u64),
		("MISSING_NOTHING", Missing::Nothing as u64),
		("MISSING_PAGE", Missing::Page as u64),
		("MISSING_LEVELS", Missing::Levels as u64),
		("MISSING_LIST", Missing::List as u64),
		("MISSING_STEPS", Missing::Steps as u64),
		("MISSING_QUIET", Missing::Quiet as u64),
		("MISSING_ALL", Missing::All as u64),
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
		("COUNTERS_SIZE", size_of::<Counters>() as u64),
		("STATS_SEQUENCE", offset_of!(Stats, sequence) as u64),
		("STATS_WANTED", offset_of!(Stats, wanted) as u64),
		("STATS_TB_OFFSET", offset_of!(Stats, tb_offset) as u64),
		("STATS_OPEN", offset_of!(Stats, open) as u64),
		("STATS_SINCE", offset_of!(Stats, since) as u64),
		("STATS_COUNTER", offset_of!(Stats, counter) as u64),
		("STATS_COUNTED", offset_of!(Stats, counted) as u64),
		(
			"STATS_SINCE_COUNTED",
			offset_of!(Stats, since_counted) as u64,
		),
		("STATS_SINCE_CYCLES", offset_of!(Stats, since_cycles) as u64),
		("STATS_IN_USERSPACE", offset_of!(Stats, in_userspace) as u64),
		("STATS_RESET", offset_of!(Stats, reset) as u64),
		("STATS_EVENT_COUNT", offset_of!(Stats, event_count) as u64),
		("STATS_EVENTS", offset_of!(Stats, events) as u64),
		("STATS_PATHS", offset_of!(Stats, paths) as u64),
		("STATS_SIZE", size_of::<Stats>() as u64),
		("EVENT_TB", offset_of!(Event, tb) as u64),
		("EVENT_R4", offset_of!(Event, r4) as u64),
		("EVENT_CODE", offset_of!(Event, code) as u64),
		("EVENT_NUMBER", offset_of!(Event, number) as u64),
		("EVENT_TICKS", offset_of!(Event, ticks) as u64),
		("EVENT_SIZE", size_of::<Event>() as u64),
		("PATH_TICKS", offset_of!(PathStats, ticks) as u64),
		("PATH_CYCLES", offset_of!(PathStats, cycles) as u64),
		("PATH_SIZE", size_of::<PathStats>() as u64),
		("DISTRIBUTION_COUNT", offset_of!(Distribution, count) as u64),
		("DISTRIBUTION_TOTAL", offset_of!(Distribution, total) as u64),
		("DISTRIBUTION_MIN", offset_of!(Distribution, min) as u64),
		("DISTRIBUTION_MAX", offset_of!(Distribution, max) as u64),
		(
			"DISTRIBUTION_HISTOGRAM",
			offset_of!(Distribution, histogram) as u64,
		),
		("DISTRIBUTION_SIZE", size_of::<Distribution>() as u64),
		("SPAN_FAST_NULL", SpanKind::FastNull as u64),
		("SPAN_FAST_H_GET_TCE", SpanKind::FastHGetTce as u64),
		("SPAN_FAST_H_PUT_TCE", SpanKind::FastHPutTce as u64),
		(
			"SPAN_FAST_H_PUT_TCE_INDIRECT",
			SpanKind::FastHPutTceIndirect as u64,
		),
		("SPAN_FAST_H_STUFF_TCE", SpanKind::FastHStuffTce as u64),
		("SPAN_FULL_HCALL", SpanKind::FullHcall as u64),
		("SPAN_FULL_CEDE", SpanKind::FullCede as u64),
		("SPAN_FULL_DATA_STORAGE", SpanKind::FullDataStorage as u64),
		("SPAN_FULL_DECREMENTER", SpanKind::FullDecrementer as u64),
		("SPAN_FULL_EXTERNAL", SpanKind::FullExternal as u64),
		("SPAN_FULL_OTHER", SpanKind::FullOther as u64),
		("SPAN_USERSPACE", SpanKind::Userspace as u64),
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
		("TABLE_NO_FAST", NO_FAST_TABLE.into()),
		("TABLE_FAST", FAST_TABLE.into()),
		("TABLE_TIMED_FAST", TIMED_FAST_TABLE.into()),
		("FAST_TABLE_LAST", FastTable::LAST.0 >> 2),
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
	text.push_str("\n#endif /* KVM_P9_ABI_H */\n");
	text
}
