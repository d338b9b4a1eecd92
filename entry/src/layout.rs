// SPDX-License-Identifier: GPL-2.0-only
//! The configured kernel's layout, and the proof that ours agrees with it.

/// As the kernel's compiler said; see `kvm_p9_layout.c` for each name. The fields of switched SPRs
/// are in a module for each structure, by the names of their accessors.
pub mod kernel {
	#![allow(missing_docs, dead_code, non_upper_case_globals)]

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
	use hcall::{Code, FastTable, Number};
	use powerpc::LIST_ENTRIES;
	use static_assertions::{const_assert, const_assert_eq};
	use tce::Permission;

	use super::kernel;

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
	const_assert_eq!(crate::radix::PRESENT as usize, kernel::PTE_PRESENT);
	const_assert_eq!(crate::radix::LEAF as usize, kernel::PTE_LEAF);
	const_assert_eq!(crate::radix::TREE_BITS as usize, kernel::TREE_BITS);
	const_assert_eq!(crate::radix::LEVEL_BITS[0] as usize, kernel::TREE_ROOT_BITS);
	const_assert_eq!(
		crate::radix::LAST_SHIFT as usize,
		kernel::TREE_LAST_BITS + kernel::PAGE_SHIFT
	);
	const_assert_eq!(size_of::<hpt::Rev>(), kernel::SIZEOF_REV);
	const_assert_eq!(kernel::SIZEOF_CPUMASK % 8, 0);
	const_assert_eq!(Number::NULL.0 as usize, kernel::HCALL_NULL);
	const_assert_eq!(Code::TOO_HARD.0 as usize, kernel::HCALL_TOO_HARD);
	// A handler reads its bit of `enabled_hcalls`.
	const_assert!(FastTable::LAST.0 as usize <= kernel::HCALL_MAX);
	const_assert_eq!(kernel::SIZEOF_HOST_OS_SPRS % 8, 0);
}
