// SPDX-License-Identifier: GPL-2.0-only
//! Why an hcall body returns without doing its work.

use hcall::Code;

/// Why a body returns without doing its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
	/// The hcall's parameters are bad: H_PARAMETER.
	Parameter,
	/// The body needs something first, and has changed nothing.
	TooHard(TooHard),
}

/// What the body needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooHard {
	/// An answer of userspace: C has no PAPR code for these cases, either.
	Userspace,
	/// This page of the table.
	TablePage(u64),
	/// The list, in the buffer of the vcpu.
	TceList,
	/// The missing levels of this hardware table for this entry.
	TableLevel {
		/// The number of the table in [`Table::attached`].
		table: usize,
		/// The entry.
		index: u64,
	},
	/// Another call, after the kernel had the chance to take interrupts and to reschedule.
	Resched,
	/// Interrupts disabled: hardware tables are written only then.
	IrqsOff,
	/// The C handler: there are more attached tables than a body supports, or one of an
	/// unsupported kind.
	CFallback,
}

impl From<TooHard> for Refusal {
	#[inline]
	fn from(hard: TooHard) -> Self {
		Self::TooHard(hard)
	}
}

impl Refusal {
	/// The hcall's code.
	#[inline]
	pub const fn code(self) -> Code {
		match self {
			Self::Parameter => Code::PARAMETER,
			Self::TooHard(_) => Code::TOO_HARD,
		}
	}
}
