// SPDX-License-Identifier: GPL-2.0-only
//! The fast handlers of `fast`, timed.
//!
//! They are functions of their own, in a table of their own, so that handlers that are not timed do
//! not even ask. Each ends with a reading of the timebase and of the counter of cycles. The
//! trampoline has stored both when the hcall arrived.

use core::ptr::NonNull;

use hcall::{Code, Number};
use powerpc::{Event, FastHcall, P9Vcpu, SpanKind, Stats};

use crate::entry_point::vcpu_of;
use crate::timing::spans::{cycle_counter, stats, timebase};

/// Has `answer` answer the hcall, and takes the time.
///
/// # Safety
///
/// The trampoline must be in a handler, for the vcpu that `p9` is part of.
#[inline(always)]
pub(super) unsafe fn run(
	p9: NonNull<P9Vcpu>,
	kind: SpanKind,
	number: Number,
	answer: impl FnOnce() -> Code,
) -> Code {
	// SAFETY: `p9` is in the vcpu that runs this handler. The handler's own reference is shared, too.
	let own = unsafe { p9.as_ref() };
	let stats = stats(own);
	if stats.is_some_and(Stats::is_full) {
		// Before the handler has done anything. On the full path the vcpu gets rid of
		// its events.
		return Code::TOO_HARD;
	}
	// SAFETY: the vcpu that this is part of, which is in this handler.
	let r4 = unsafe { vcpu_of(p9) }.gpr4();
	let code = answer();
	if let Some(stats) = stats
		&& code != Code::TOO_HARD
	{
		record(own, stats, kind, number, r4, code);
	}
	code
}

/// Takes down what the hcall took until now. Here once, for all of them.
#[inline(never)]
fn record(own: &P9Vcpu, stats: &Stats, kind: SpanKind, number: Number, r4: u64, code: Code) {
	let (end, end_cycles) = (timebase(), cycle_counter());
	let call = Event {
		r4,
		code: code.0,
		number: number.0 as u32,
		..Event::default()
	};
	let cycles = end_cycles.wrapping_sub(own.hcall_cycles.get() as u32);
	stats.fast(kind, own.hcall_tb.get(), end, cycles, call);
}

macro_rules! timed {
	($($(#[$doc:meta])* $variant:ident: $number:ident = $function:ident;)*) => {
		$(
			/// # Safety
			///
			/// As for the handler of the same name, which answers the hcall.
			pub(super) unsafe extern "C" fn $function(p9: NonNull<P9Vcpu>) -> Code {
				// SAFETY: the trampoline calls this function as it calls the handler.
				unsafe {
					run(
						p9,
						SpanKind::fast(FastHcall::$variant),
						Number::$number,
						|| super::enabled::$function(p9),
					)
				}
			}
		)*
	};
}

powerpc::fast_handlers!(timed);
