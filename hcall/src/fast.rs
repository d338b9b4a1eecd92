// SPDX-License-Identifier: GPL-2.0-only
//! The fast handlers, their table, and the routing rule.

use core::ptr::NonNull;

use powerpc::{FastHcall, Msr, P9Vcpu};

use crate::{Code, Number};

/// A fast handler. See the crate's documentation for what it may do.
///
/// Its only argument is the vcpu's part that is ours, by pointer because a handler
/// may go on from there to the rest of the vcpu. The result goes to the guest's r3
/// unless it is [`Code::TOO_HARD`].
///
/// # Safety
///
/// The pointer must be valid, and all others must use what it points to only as
/// [`P9Vcpu`] says. A handler may ask for more than that.
pub type Handler = unsafe extern "C" fn(NonNull<P9Vcpu>) -> Code;

/// Fast handlers by hcall number, as the trampoline indexes them: 8 bytes each,
/// zero where there is none.
#[repr(transparent)]
#[derive(Debug)]
pub struct FastTable([Option<Handler>; Self::LEN]);

static_assertions::assert_eq_size!(Option<Handler>, u64);

impl FastTable {
	/// The logarithm of the length: the trampoline finds a place by a mask.
	pub const BITS: u32 = 8;
	const LEN: usize = 1 << Self::BITS;
	/// The highest number that has a place in the table.
	pub const LAST: Number = Number((Self::LEN as u64 - 1) << 2);

	/// No hcall has a fast handler (`kvm_p9.fast=0`).
	pub const fn empty() -> Self {
		Self([None; Self::LEN])
	}

	/// Only the handler that needs nothing of the kernel: [`Number::NULL`]'s.
	pub const fn null() -> Self {
		Self::empty().with(Number::NULL, null)
	}

	/// The same table with a handler for `number`. For constants: a number that has
	/// no place in the table is an error in the program.
	///
	/// The handler is called whether or not userspace lets the kernel handle the hcall, so it
	/// has to look ([`Enabled`]).
	pub const fn with(mut self, number: Number, handler: Handler) -> Self {
		match number.index(Self::LAST) {
			Some(index) => self.0[index] = Some(handler),
			None => panic!("number beyond the table"),
		}
		self
	}

	/// The same table with a handler for `number`, if the table has none. For constants, as
	/// [`Self::with`].
	pub const fn or(self, number: Number, handler: Handler) -> Self {
		match number.index(Self::LAST) {
			Some(index) if self.0[index].is_some() => self,
			_ => self.with(number, handler),
		}
	}

	/// The handler for `number`.
	#[inline]
	pub fn get(&self, number: Number) -> Option<Handler> {
		number.index(Self::LAST).and_then(|index| self.0[index])
	}
}

/// The hcalls that userspace lets the kernel handle for a VM: `enabled_hcalls`
/// of `struct kvm_arch`, one bit per number divided by 4.
#[derive(Clone, Copy, Debug)]
pub struct Enabled<'a>(pub &'a [u64]);

impl Enabled<'_> {
	/// Whether the hcall that has place `index` may be handled in the kernel.
	#[inline]
	pub fn contains(&self, index: usize) -> bool {
		self.0
			.get(index / 64)
			.is_some_and(|word| word >> (index % 64) & 1 != 0)
	}
}

/// Where an `sc 1` goes.
#[derive(Clone, Copy, Debug)]
pub enum Route {
	/// To this fast handler.
	Fast(Handler),
	/// Out of the guest by the full path, which decides everything else.
	Full,
}

/// What becomes of an hcall, for a guest's r3 and SRR1 at the `sc 1`.
///
/// The trampoline decides by the number, problem state and transactions. The handler looks
/// whether the hcall is enabled, since it knows where its bit is.
///
/// Problem state has no hcalls: what an `sc 1` from there means differs between
/// radix and hash guests and is the full path's business. So is one made inside
/// a transaction, whose state the full path has to carry.
pub fn route(table: &FastTable, enabled: Enabled<'_>, r3: u64, srr1: Msr) -> Route {
	let number = Number(r3);
	match (table.get(number), number.index(FastTable::LAST)) {
		(Some(handler), Some(index))
			if enabled.contains(index) && !srr1.intersects(Msr::PR | Msr::TS_T | Msr::TS_S) =>
		{
			Route::Fast(handler)
		}
		_ => Route::Full,
	}
}

/// The benchmark's NULL hcall: nothing but the count of its calls.
///
/// # Safety
///
/// As for any [`Handler`].
#[inline(always)]
pub unsafe extern "C" fn null(vcpu: NonNull<P9Vcpu>) -> Code {
	// SAFETY: a `Handler` gets a valid pointer, and shared access is what `P9Vcpu` allows.
	unsafe { vcpu.as_ref() }.fast[FastHcall::Null as usize].add(1);
	Code::SUCCESS
}

#[cfg(test)]
mod tests {
	use super::*;
	use proptest::prelude::*;

	static ALL: FastTable = FastTable::null();
	static EMPTY: FastTable = FastTable::empty();
	const GUEST: Msr = Msr::SF
		.union(Msr::ME)
		.union(Msr::RI)
		.union(Msr::LE)
		.union(Msr::IR)
		.union(Msr::DR);

	fn bitmap(numbers: &[Number]) -> [u64; 5] {
		let mut words = [0; 5];
		for n in numbers {
			let bit = n.0 / 4;
			words[(bit / 64) as usize] |= 1 << (bit % 64);
		}
		words
	}

	fn is_fast(table: &FastTable, words: &[u64], r3: u64, srr1: Msr) -> bool {
		matches!(route(table, Enabled(words), r3, srr1), Route::Fast(_))
	}

	#[test]
	fn null_is_fast_only_where_enabled() {
		let on = bitmap(&[Number::NULL]);
		assert!(is_fast(&ALL, &on, Number::NULL.0, GUEST));
		assert!(!is_fast(&EMPTY, &on, Number::NULL.0, GUEST));
		assert!(!is_fast(&ALL, &[0; 5], Number::NULL.0, GUEST));
		assert!(!is_fast(&ALL, &on[..3 - 3], Number::NULL.0, GUEST));
	}

	#[test]
	#[should_panic(expected = "number beyond the table")]
	fn number_beyond_the_table_has_no_handler() {
		FastTable::empty().with(Number(FastTable::LAST.0 + 4), null);
	}

	#[test]
	fn a_handler_stays_if_another_is_offered() {
		/// Another one.
		unsafe extern "C" fn other(_: NonNull<P9Vcpu>) -> Code {
			Code::FUNCTION
		}
		let answer = |table: FastTable| {
			let handler = table.get(Number::NULL).unwrap();
			let vcpu = P9Vcpu::new();
			// SAFETY: the vcpu is a local variable, and this thread alone uses it.
			unsafe { handler(NonNull::from(&vcpu)) }
		};
		let null = FastTable::null;
		assert_eq!(
			answer(FastTable::empty().or(Number::NULL, other)),
			Code::FUNCTION
		);
		assert_eq!(answer(null().or(Number::NULL, other)), Code::SUCCESS);
		assert_eq!(answer(null().with(Number::NULL, other)), Code::FUNCTION);
	}

	#[test]
	fn problem_state_and_transactions_take_the_full_path() {
		let on = bitmap(&[Number::NULL]);
		for bit in [Msr::PR, Msr::TS_S, Msr::TS_T] {
			assert!(!is_fast(&ALL, &on, Number::NULL.0, GUEST | bit), "{bit:?}");
		}
	}

	#[test]
	fn null_answers_success_and_counts() {
		let Route::Fast(handler) = route(
			&ALL,
			Enabled(&bitmap(&[Number::NULL])),
			Number::NULL.0,
			GUEST,
		) else {
			panic!("NULL has no fast handler");
		};
		let vcpu = P9Vcpu::new();
		vcpu.fast[FastHcall::Null as usize].add(u64::MAX);
		for count in 0..2 {
			// SAFETY: the vcpu is a local variable, and this thread alone uses it.
			assert_eq!(unsafe { handler(NonNull::from(&vcpu)) }, Code::SUCCESS);
			assert_eq!(vcpu.fast[FastHcall::Null as usize].get(), count);
		}
	}

	proptest! {
		/// Against the rule in words: a multiple of 4, in the table, with a
		/// handler, enabled, from privileged state, outside a transaction.
		#[test]
		fn routing_follows_the_rule(
			r3 in prop_oneof![any::<u64>(), 0..0x200u64, Just(Number::NULL.0),
				Just(Number::NULL.0 | 1 << 63), Just(Number::NULL.0 | 1 << 32),
				(0..4u64).prop_map(|low| Number::NULL.0 | low)],
			words in proptest::array::uniform5(prop_oneof![any::<u64>(), Just(0), Just(!0)]),
			msr in any::<u64>(),
		) {
			let srr1 = Msr::from_bits_retain(msr);
			let listed = r3 == Number::NULL.0;
			let bit = r3 / 4;
			let enabled = bit < 320 && words[(bit / 64) as usize] & 1 << (bit % 64) != 0;
			let privileged = msr & 1 << 14 == 0;
			let transaction = msr >> 33 & 3 != 0;
			prop_assert_eq!(
				is_fast(&ALL, &words, r3, srr1),
				listed && enabled && privileged && !transaction
			);
			prop_assert!(!is_fast(&EMPTY, &words, r3, srr1));
		}

		/// The trampoline's arithmetic on the number: rldicl to look whether it has a place,
		/// and rlwinm for the place. Each number gets a place in the table.
		#[test]
		fn trampoline_stays_in_the_table(
			r3 in prop_oneof![any::<u64>(), 0..0x800u64, Just(0), Just(1), Just(u64::MAX),
				(0..0x800u64).prop_map(|low| low | 1 << 63),
				(0..0x400u64).prop_map(|low| low | 1 << 32)],
		) {
			let has_no_place = r3.rotate_left(64 - 2 - FastTable::BITS) & (!0 >> FastTable::BITS);
			let mask = (1u32 << (3 + FastTable::BITS)) - (1 << 3);
			let offset = ((r3 as u32).rotate_left(1) & mask) as usize;
			prop_assert!(offset.is_multiple_of(8) && offset / 8 < FastTable::LEN);
			let index = Number(r3).index(FastTable::LAST);
			prop_assert_eq!(has_no_place == 0, index.is_some());
			if let Some(index) = index {
				prop_assert_eq!(offset / 8, index);
			}
		}

		/// The trampoline's arithmetic on MSR and SRR1: rldicl, rlwimi and cmpldi. An interrupt
		/// leaves the upper bits of MSR as they are, and \[TS\].
		#[test]
		fn trampoline_sees_what_is_unusual(
			upper in any::<u64>(),
			is_on in any::<bool>(),
			ts in 0..4u64,
			srr1 in any::<u64>(),
		) {
			let usual = (Msr::ME | Msr::IR | Msr::DR | Msr::LE).bits();
			let off = (Msr::IR | Msr::DR).bits();
			let msr = upper << 35 | ts << 33 | if is_on { usual } else { usual & !off };
			let pr = Msr::PR.bits();
			let seen = msr & ((1 << 35) - 1) & !pr | srr1 & pr;
			prop_assert_eq!(seen == usual, is_on && ts == 0 && srr1 & pr == 0);
		}
	}
}
