// SPDX-License-Identifier: GPL-2.0-only
//! A TCE hcall on the full path.

use super::shared;

shared! {
	/// A TCE hcall on the full path, between one attempt and the next: in the kernel's
	/// `book3s_hv.h`.
	#[derive(Debug, Default)]
	pub struct TceCall = "kvm_p9_tce_call" {
		/// The hcall's number.
		pub number: u64,
		/// Entries that are looked at or written: long hcalls go in steps.
		pub done: u64,
		/// Entries of the list that can be written.
		pub good: u64,
		/// Not 0 if the list is in the vcpu's `tce_list`.
		pub list_read: u64,
		/// Not 0 if interrupts are off.
		pub irqs_off: u64,
		/// One of [`Needs`], after H_TOO_HARD.
		pub needs: u64,
		/// The table that lacks something.
		pub table: u64,
		/// The page or the entry that the table lacks.
		pub index: u64,
	}
}

/// What a TCE hcall lacks: `enum kvm_p9_needs` in `book3s_hv.h`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub enum Needs {
	/// Nothing that the kernel could help with; userspace may know better.
	Userspace,
	/// A page of the table.
	TablePage,
	/// Levels of a hardware table.
	TableLevel,
	/// The list of H_PUT_TCE_INDIRECT.
	TceList,
	/// Time: there are more entries than one attempt does.
	Resched,
	/// That interrupts are off.
	IrqsOff,
	/// It can't be done here at all: C does it.
	CFallback,
}

impl Needs {
	/// All of them, with the end of the name in C.
	pub const ALL: [(Self, &str); 7] = [
		(Self::Userspace, "USERSPACE"),
		(Self::TablePage, "TABLE_PAGE"),
		(Self::TableLevel, "TABLE_LEVEL"),
		(Self::TceList, "TCE_LIST"),
		(Self::Resched, "RESCHED"),
		(Self::IrqsOff, "IRQS_OFF"),
		(Self::CFallback, "C_FALLBACK"),
	];
}
