// SPDX-License-Identifier: GPL-2.0-only
//! Why a hcall body does not do what it was asked for.

use hcall::Code;

/// Why a body doesn't do what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
	/// The hcall's parameters are bad: H_PARAMETER.
	Parameter,
	/// It can't be done here and now, and nothing was changed.
	TooHard(TooHard),
}

/// What would have to be done first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TooHard {
	/// Userspace may know better: where C has no code of PAPR's, either.
	Userspace,
	/// This page of the table must be made.
	TablePage(u64),
	/// The list must be brought here.
	TceList,
	/// The hardware's table of that number must be given what it lacks for this entry
	/// of its own.
	TableLevel {
		/// Which of [`Table::attached`].
		table: usize,
		/// The entry.
		index: u64,
	},
	/// It takes several steps.
	Resched,
	/// Hardware's tables are written with interrupts off, and they are on.
	IrqsOff,
	/// Too odd for this: there are more attached tables than a body takes, or one of
	/// another make.
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
