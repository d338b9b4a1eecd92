// SPDX-License-Identifier: GPL-2.0-only
//! The configured kernel's layout, and the proof that ours agrees with it.

/// As the kernel's compiler said; see `kvm_p9_layout.c` for each name.
pub mod kernel {
	#![allow(missing_docs, dead_code)]

	/// A field of one of the kernel's structures.
	#[derive(Clone, Copy, Debug)]
	pub struct Field {
		/// Bytes from the structure's start.
		pub offset: usize,
		/// Bytes.
		pub size: usize,
	}

	include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}

#[cfg(kernel)]
mod assertions {
	use core::mem::{offset_of, size_of};

	use hcall::{Code, FastTable, Number};
	use powerpc::{
		Counters, Distribution, Event, LIST_ENTRIES, Missing, P9Vcpu, PathStats, Stats, TceCall,
	};
	use static_assertions::{const_assert, const_assert_eq};
	use tce::Permission;

	use super::kernel;

	const_assert_eq!(offset_of!(P9Vcpu, fast_table), kernel::P9_VCPU_FAST_TABLE);
	const_assert_eq!(offset_of!(P9Vcpu, fast_null), kernel::P9_VCPU_FAST_NULL);
	const_assert_eq!(
		offset_of!(P9Vcpu, fast_h_get_tce),
		kernel::P9_VCPU_FAST_H_GET_TCE
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, fast_h_put_tce),
		kernel::P9_VCPU_FAST_H_PUT_TCE
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, fast_h_put_tce_indirect),
		kernel::P9_VCPU_FAST_H_PUT_TCE_INDIRECT
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, fast_h_stuff_tce),
		kernel::P9_VCPU_FAST_H_STUFF_TCE
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, tce_list_gfn),
		kernel::P9_VCPU_TCE_LIST_GFN
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, tce_list_generation),
		kernel::P9_VCPU_TCE_LIST_GENERATION
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, tce_list_page),
		kernel::P9_VCPU_TCE_LIST_PAGE
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, tce_list_busy),
		kernel::P9_VCPU_TCE_LIST_BUSY
	);
	const_assert_eq!(
		offset_of!(P9Vcpu, tce_list_wanted),
		kernel::P9_VCPU_TCE_LIST_WANTED
	);
	const_assert_eq!(offset_of!(P9Vcpu, tce_list), kernel::P9_VCPU_TCE_LIST);
	const_assert_eq!(offset_of!(P9Vcpu, stats), kernel::P9_VCPU_STATS);
	const_assert_eq!(offset_of!(P9Vcpu, hcall_tb), kernel::P9_VCPU_HCALL_TB);
	const_assert_eq!(
		offset_of!(P9Vcpu, hcall_cycles),
		kernel::P9_VCPU_HCALL_CYCLES
	);
	const_assert_eq!(size_of::<P9Vcpu>(), kernel::SIZEOF_P9_VCPU);

	const_assert_eq!(offset_of!(TceCall, number), kernel::P9_TCE_CALL_NUMBER);
	const_assert_eq!(offset_of!(TceCall, done), kernel::P9_TCE_CALL_DONE);
	const_assert_eq!(
		offset_of!(TceCall, list_read),
		kernel::P9_TCE_CALL_LIST_READ
	);
	const_assert_eq!(offset_of!(TceCall, quiet), kernel::P9_TCE_CALL_QUIET);
	const_assert_eq!(offset_of!(TceCall, missing), kernel::P9_TCE_CALL_MISSING);
	const_assert_eq!(offset_of!(TceCall, table), kernel::P9_TCE_CALL_TABLE);
	const_assert_eq!(offset_of!(TceCall, index), kernel::P9_TCE_CALL_INDEX);
	const_assert_eq!(size_of::<TceCall>(), kernel::SIZEOF_P9_TCE_CALL);
	const_assert_eq!(Missing::Nothing as usize, kernel::MISSING_NOTHING);
	const_assert_eq!(Missing::Page as usize, kernel::MISSING_PAGE);
	const_assert_eq!(Missing::Levels as usize, kernel::MISSING_LEVELS);
	const_assert_eq!(Missing::List as usize, kernel::MISSING_LIST);
	const_assert_eq!(Missing::Steps as usize, kernel::MISSING_STEPS);
	const_assert_eq!(Missing::Quiet as usize, kernel::MISSING_QUIET);
	const_assert_eq!(Missing::All as usize, kernel::MISSING_ALL);

	const_assert_eq!(
		offset_of!(Counters, entry_rust),
		kernel::P9_COUNTERS_ENTRY_RUST
	);
	const_assert_eq!(offset_of!(Counters, c_cpu), kernel::P9_COUNTERS_C_CPU);
	const_assert_eq!(
		offset_of!(Counters, c_host_mmu),
		kernel::P9_COUNTERS_C_HOST_MMU
	);
	const_assert_eq!(offset_of!(Counters, c_nested), kernel::P9_COUNTERS_C_NESTED);
	const_assert_eq!(offset_of!(Counters, c_hash), kernel::P9_COUNTERS_C_HASH);
	const_assert_eq!(offset_of!(Counters, c_secure), kernel::P9_COUNTERS_C_SECURE);
	const_assert_eq!(size_of::<Counters>(), kernel::SIZEOF_P9_COUNTERS);

	const_assert_eq!(offset_of!(Stats, sequence), kernel::P9_STATS_SEQUENCE);
	const_assert_eq!(offset_of!(Stats, wanted), kernel::P9_STATS_WANTED);
	const_assert_eq!(offset_of!(Stats, tb_offset), kernel::P9_STATS_TB_OFFSET);
	const_assert_eq!(offset_of!(Stats, open), kernel::P9_STATS_OPEN);
	const_assert_eq!(offset_of!(Stats, since), kernel::P9_STATS_SINCE);
	const_assert_eq!(offset_of!(Stats, counter), kernel::P9_STATS_COUNTER);
	const_assert_eq!(offset_of!(Stats, counted), kernel::P9_STATS_COUNTED);
	const_assert_eq!(
		offset_of!(Stats, since_counted),
		kernel::P9_STATS_SINCE_COUNTED
	);
	const_assert_eq!(
		offset_of!(Stats, since_cycles),
		kernel::P9_STATS_SINCE_CYCLES
	);
	const_assert_eq!(
		offset_of!(Stats, in_userspace),
		kernel::P9_STATS_IN_USERSPACE
	);
	const_assert_eq!(offset_of!(Stats, reset), kernel::P9_STATS_RESET);
	const_assert_eq!(offset_of!(Stats, event_count), kernel::P9_STATS_EVENT_COUNT);
	const_assert_eq!(offset_of!(Stats, events), kernel::P9_STATS_EVENTS);
	const_assert_eq!(offset_of!(Stats, paths), kernel::P9_STATS_PATHS);
	const_assert_eq!(size_of::<Stats>(), kernel::SIZEOF_P9_STATS);

	const_assert_eq!(offset_of!(Event, tb), kernel::P9_EVENT_TB);
	const_assert_eq!(offset_of!(Event, r4), kernel::P9_EVENT_R4);
	const_assert_eq!(offset_of!(Event, code), kernel::P9_EVENT_CODE);
	const_assert_eq!(offset_of!(Event, number), kernel::P9_EVENT_NUMBER);
	const_assert_eq!(offset_of!(Event, ticks), kernel::P9_EVENT_TICKS);
	const_assert_eq!(size_of::<Event>(), kernel::SIZEOF_P9_EVENT);

	const_assert_eq!(offset_of!(PathStats, ticks), kernel::P9_PATH_TICKS);
	const_assert_eq!(offset_of!(PathStats, cycles), kernel::P9_PATH_CYCLES);
	const_assert_eq!(size_of::<PathStats>(), kernel::SIZEOF_P9_PATH);

	const_assert_eq!(
		offset_of!(Distribution, count),
		kernel::P9_DISTRIBUTION_COUNT
	);
	const_assert_eq!(
		offset_of!(Distribution, total),
		kernel::P9_DISTRIBUTION_TOTAL
	);
	const_assert_eq!(offset_of!(Distribution, min), kernel::P9_DISTRIBUTION_MIN);
	const_assert_eq!(offset_of!(Distribution, max), kernel::P9_DISTRIBUTION_MAX);
	const_assert_eq!(
		offset_of!(Distribution, histogram),
		kernel::P9_DISTRIBUTION_HISTOGRAM
	);
	const_assert_eq!(size_of::<Distribution>(), kernel::SIZEOF_P9_DISTRIBUTION);

	const_assert_eq!(kernel::TCE_PCI_READ as u64, Permission::READ.bits());
	const_assert_eq!(kernel::TCE_PCI_WRITE as u64, Permission::WRITE.bits());
	const_assert_eq!(LIST_ENTRIES, tce::MAX_ENTRIES);

	const_assert_eq!(Number::GET_TCE.0 as usize, kernel::HCALL_GET_TCE);
	const_assert_eq!(Number::PUT_TCE.0 as usize, kernel::HCALL_PUT_TCE);
	const_assert_eq!(
		Number::PUT_TCE_INDIRECT.0 as usize,
		kernel::HCALL_PUT_TCE_INDIRECT
	);
	const_assert_eq!(Number::STUFF_TCE.0 as usize, kernel::HCALL_STUFF_TCE);
	const_assert_eq!(Code::SUCCESS.0 as usize, kernel::HCALL_SUCCESS);
	const_assert_eq!(Code::PARAMETER.0 as usize, kernel::HCALL_PARAMETER);
	const_assert_eq!(Number::NULL.0 as usize, kernel::HCALL_NULL);
	const_assert_eq!(Code::TOO_HARD.0 as usize, kernel::HCALL_TOO_HARD);
	// The trampoline reads `enabled_hcalls` for every number in the table.
	const_assert!(FastTable::LAST.0 as usize <= kernel::HCALL_MAX);
	const_assert_eq!(kernel::SIZEOF_HOST_OS_SPRS % 8, 0);
}
