// SPDX-License-Identifier: GPL-2.0-only
//! The fast handlers of `fast`, each with a look whether userspace lets the kernel handle its hcall.
//!
//! The trampoline could look for all of them, but would have to find the bit by the number. A
//! handler knows where its bit is.

use core::ptr::NonNull;

use hcall::{Code, FastTable, Number};
use powerpc::P9Vcpu;

use crate::entry_point::vcpu_of;
use crate::layout::kernel as layout;

/// Whether userspace lets the kernel handle hcall `NUMBER` of this vcpu's VM
/// (KVM_CAP_PPC_ENABLE_HCALL). Another thread can change that at any time.
///
/// # Safety
///
/// The trampoline is in a handler, for the vcpu that `p9` is part of.
#[inline(always)]
unsafe fn is_enabled<const NUMBER: u64>(p9: NonNull<P9Vcpu>) -> bool {
	const { assert!(Number(NUMBER).index(FastTable::LAST).is_some()) };
	let bit = NUMBER as usize >> 2;
	// SAFETY: the vcpu that `p9` is part of. Its VM stays as long, and has a bit for each number
	// of the table, which `layout` asserts. Volatile: other threads set and clear bits. The
	// kernel is little-endian, so the byte of a bit does not depend on the width of its words.
	let byte = unsafe {
		let enabled = (vcpu_of(p9).own_kvm() as *const u8).add(layout::KVM_ENABLED_HCALLS);
		enabled.add(bit / 8).read_volatile()
	};
	byte & 1 << (bit % 8) != 0
}

/// The answer to an hcall that is not enabled. Apart, so that the way of all others is straight.
#[cold]
#[inline(never)]
extern "C" fn not_enabled() -> Code {
	Code::TOO_HARD
}

/// Has `body` answer, if userspace lets the kernel handle hcall `NUMBER`.
///
/// # Safety
///
/// As for [`is_enabled`].
#[inline(always)]
pub(super) unsafe fn if_enabled<const NUMBER: u64>(
	p9: NonNull<P9Vcpu>,
	body: impl FnOnce() -> Code,
) -> Code {
	// SAFETY: this function requires the same.
	match unsafe { is_enabled::<NUMBER>(p9) } {
		true => body(),
		false => not_enabled(),
	}
}

macro_rules! enabled {
	($($(#[$doc:meta])* $variant:ident: $number:ident = $function:ident;)*) => {
		$(
			/// # Safety
			///
			/// As for the handler of the same name, which answers the hcall.
			pub(super) unsafe extern "C" fn $function(p9: NonNull<P9Vcpu>) -> Code {
				// SAFETY: the trampoline calls this function as it calls the handler.
				unsafe {
					if_enabled::<{ Number::$number.0 }>(p9, || super::$function(p9))
				}
			}
		)*
	};
}

powerpc::fast_handlers!(enabled);
