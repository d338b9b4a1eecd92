// SPDX-License-Identifier: GPL-2.0-only
//! The fast handlers, by hcall number. The list is `powerpc::fast_handlers`; each function that a row
//! names is in scope here.

mod enabled;
mod hpt;
pub(crate) mod light;
mod tce;
mod timed;

use self::hpt::{h_bulk_remove, h_clear_mod, h_clear_ref, h_enter, h_protect, h_read, h_remove};
use crate::xics::hcalls::*;
use core::ptr::NonNull;

use ::hcall::{Code, FastTable, Number, null};
use powerpc::{FastHcall, P9Vcpu};
use tce::{h_get_tce, h_put_tce, h_put_tce_indirect, h_stuff_tce};

macro_rules! table {
	($($(#[$doc:meta])* $variant:ident: $number:ident = $function:ident;)*) => {
		/// The handlers that need nothing of the host's. They also run in real mode, for hash guests.
		const NOTHING_SWITCHED: FastTable = FastTable::empty()
			$(.with(Number::$number, enabled::$function))*;

		/// The same handlers, timed.
		const TIMED: FastTable = FastTable::empty()
			$(.with(Number::$number, timed::$function))*;
	};
}

powerpc::fast_handlers!(table);

pub(crate) static FAST: FastTable = NOTHING_SWITCHED;
pub(crate) static TIMED_FAST: FastTable = TIMED;

/// With handlers that make a light exit.
pub(crate) static FAST_LIGHT: FastTable = light::with(NOTHING_SWITCHED);
pub(crate) static LIGHT: FastTable = light::with(FastTable::empty());

/// With handlers of [`light`] that make no light exit, for hash guests.
pub(crate) static FAST_REAL_MODE: FastTable = light::without_exit(NOTHING_SWITCHED);
pub(crate) static REAL_MODE: FastTable = light::without_exit(FastTable::empty());

/// The tables with light handlers, timed.
pub(crate) static TIMED_FAST_LIGHT: FastTable = light::timed_with(TIMED);
pub(crate) static TIMED_LIGHT: FastTable = light::timed_with(FastTable::empty());
pub(crate) static TIMED_FAST_REAL_MODE: FastTable = light::timed_without_exit(TIMED);
pub(crate) static TIMED_REAL_MODE: FastTable = light::timed_without_exit(FastTable::empty());

pub(crate) static NO_FAST: FastTable = FastTable::empty();

/// Has the handler of a page table hcall answer after a full exit; none if it is another hcall.
///
/// # Safety
///
/// The vcpu that `p9` is part of must have just left the guest, with that hcall, on this CPU.
#[inline(always)]
pub(crate) unsafe fn page_table(p9: NonNull<P9Vcpu>, number: Number) -> Option<(FastHcall, Code)> {
	macro_rules! answer {
		($($(#[$doc:meta])* $hcall:ident: $number:ident = $handler:ident;)*) => {
			match number {
				$(Number::$number if FastHcall::$hcall.is_page_table() => {
					// SAFETY: a handler does on the full path what it does in a fast hcall.
					Some((FastHcall::$hcall, unsafe { enabled::$handler(p9) }))
				})*
				_ => None,
			}
		};
	}
	powerpc::fast_handlers!(answer)
}
