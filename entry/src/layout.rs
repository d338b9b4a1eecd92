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
	use powerpc::{Counters, LIST_ENTRIES, P9Vcpu};
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
	const_assert_eq!(offset_of!(P9Vcpu, list_gfn), kernel::P9_VCPU_LIST_GFN);
	const_assert_eq!(
		offset_of!(P9Vcpu, list_generation),
		kernel::P9_VCPU_LIST_GENERATION
	);
	const_assert_eq!(offset_of!(P9Vcpu, list_page), kernel::P9_VCPU_LIST_PAGE);
	const_assert_eq!(offset_of!(P9Vcpu, list_busy), kernel::P9_VCPU_LIST_BUSY);
	const_assert_eq!(offset_of!(P9Vcpu, list_wanted), kernel::P9_VCPU_LIST_WANTED);
	const_assert_eq!(offset_of!(P9Vcpu, list), kernel::P9_VCPU_LIST);
	const_assert_eq!(size_of::<P9Vcpu>(), kernel::SIZEOF_P9_VCPU);

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
	const_assert_eq!(
		offset_of!(Counters, fast_null),
		kernel::P9_COUNTERS_FAST_NULL
	);
	const_assert_eq!(
		offset_of!(Counters, fast_h_get_tce),
		kernel::P9_COUNTERS_FAST_H_GET_TCE
	);
	const_assert_eq!(
		offset_of!(Counters, fast_h_put_tce),
		kernel::P9_COUNTERS_FAST_H_PUT_TCE
	);
	const_assert_eq!(
		offset_of!(Counters, fast_h_put_tce_indirect),
		kernel::P9_COUNTERS_FAST_H_PUT_TCE_INDIRECT
	);
	const_assert_eq!(
		offset_of!(Counters, fast_h_stuff_tce),
		kernel::P9_COUNTERS_FAST_H_STUFF_TCE
	);
	const_assert_eq!(size_of::<Counters>(), kernel::SIZEOF_P9_COUNTERS);

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
