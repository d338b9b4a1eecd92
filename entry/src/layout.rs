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
	use powerpc::{Counters, P9Vcpu};
	use static_assertions::{const_assert, const_assert_eq};

	use super::kernel;

	const_assert_eq!(offset_of!(P9Vcpu, fast_table), kernel::P9_VCPU_FAST_TABLE);
	const_assert_eq!(offset_of!(P9Vcpu, fast_null), kernel::P9_VCPU_FAST_NULL);
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
	const_assert_eq!(size_of::<Counters>(), kernel::SIZEOF_P9_COUNTERS);

	const_assert_eq!(Number::NULL.0 as usize, kernel::HCALL_NULL);
	const_assert_eq!(Code::TOO_HARD.0 as usize, kernel::HCALL_TOO_HARD);
	// The trampoline reads `enabled_hcalls` for every number in the table.
	const_assert!(FastTable::LAST.0 as usize <= kernel::HCALL_MAX);
	const_assert_eq!(kernel::SIZEOF_HOST_OS_SPRS % 8, 0);
}
