// SPDX-License-Identifier: GPL-2.0-only
//! Fast handlers of the TCE hcalls.

use core::ptr::NonNull;

use hcall::{Code, Number};
use powerpc::{Counter, FastHcall, P9Vcpu};
use tce::{Progress, Refusal, Tce, hcalls};

use crate::tce::context::{CallSite, HcallContext};
use crate::tce::full_path::general_on;
use crate::tce::guest_memory::LastSlot;
use crate::tce::table::{Any, Emulated, KernelTable, is_emulated};
use crate::views::SttView;

/// Answers an hcall on a table with attached hardware tables.
///
/// # Safety
///
/// As for [`fast`].
#[cold]
#[inline(never)]
pub(crate) unsafe fn fast_hardware<const NUMBER: u64, const HCALL: usize>(
	p9: NonNull<P9Vcpu>,
	stt: SttView,
) -> Code {
	// SAFETY: `p9` is in the vcpu that runs this handler, and `kvm->srcu` is held.
	let caller = unsafe { HcallContext::new(p9, CallSite::Fast) };
	let table = KernelTable::<Any>::new(stt, CallSite::Fast);
	count(
		general_on(&caller, table, Number(NUMBER), &mut Progress::default()),
		&caller.p9.fast[HCALL],
	)
}

/// Counts an hcall that a fast handler answers.
#[inline(always)]
pub(crate) fn count(result: Result<(), Refusal>, counter: &Counter) -> Code {
	let code = result.map_or_else(Refusal::code, |()| Code::SUCCESS);
	if code != Code::TOO_HARD {
		counter.add(1);
	}
	code
}

/// Has a body answer an hcall from the trampoline, and counts it.
///
/// # Safety
///
/// The trampoline calls for this, for the vcpu that `p9` is part of.
#[inline(always)]
pub(crate) unsafe fn fast<const NUMBER: u64, const HCALL: usize>(p9: NonNull<P9Vcpu>) -> Code {
	// SAFETY: `p9` is in the vcpu that runs this handler, and `kvm->srcu` is held.
	let caller = unsafe { HcallContext::new(p9, CallSite::Fast) };
	let stt = match caller.table() {
		Ok(stt) => stt,
		Err(refusal) => return refusal.code(),
	};
	let (is_get, is_put) = (
		Number(NUMBER) == Number::GET_TCE,
		Number(NUMBER) == Number::PUT_TCE,
	);
	// The calls are tail calls, so that their stack frames do not add up.
	if !is_get && !is_emulated(stt) {
		if caller.kvm.radix() == 0 {
			// Regions of registered memory are in vmalloc space, which a hash guest's
			// handler does not reach.
			return Code::TOO_HARD;
		}
		// SAFETY: the trampoline is in the handler of this vcpu, and `caller` is not used any more.
		return unsafe { fast_hardware::<NUMBER, HCALL>(p9, stt) };
	}
	if is_get {
		let table = KernelTable::<Emulated>::new(stt, CallSite::Fast);
		return count(
			caller.run(&table, Number::GET_TCE, &mut Progress::default()),
			&caller.p9.fast[HCALL],
		);
	}
	if is_put {
		// As nearly always, the page is in the slot that was used last.
		let table = KernelTable::<Emulated>::new(stt, CallSite::Fast);
		let tce = Tce(caller.vcpu.gpr6());
		let memory = LastSlot(caller.memory());
		let put = hcalls::put(&table, &memory, caller.vcpu.gpr5(), tce);
		if put.is_ok() {
			caller.p9.fast[HCALL].add(1);
			return Code::SUCCESS;
		}
	}
	// SAFETY: the trampoline is in the handler of this vcpu, and `caller` is not used any more.
	unsafe { fast_emulated::<NUMBER, HCALL>(p9, stt) }
}

/// Answers an hcall on a table without attached hardware tables. A body is compiled for each
/// hcall.
///
/// # Safety
///
/// As for [`fast`].
#[inline(never)]
pub(crate) unsafe fn fast_emulated<const NUMBER: u64, const HCALL: usize>(
	p9: NonNull<P9Vcpu>,
	stt: SttView,
) -> Code {
	// SAFETY: `p9` is in the vcpu that runs this handler, and `kvm->srcu` is held.
	let caller = unsafe { HcallContext::new(p9, CallSite::Fast) };
	let table = KernelTable::<Emulated>::new(stt, CallSite::Fast);
	count(
		caller.run(&table, Number(NUMBER), &mut Progress::default()),
		&caller.p9.fast[HCALL],
	)
}

macro_rules! fast {
	($($(#[$doc:meta])* $name:ident = $number:ident, $hcall:ident;)*) => {
		$(
			$(#[$doc])*
			///
			/// # Safety
			///
			/// The trampoline calls this, for the vcpu that `p9` is part of.
			#[inline(always)]
			pub unsafe extern "C" fn $name(p9: NonNull<P9Vcpu>) -> Code {
				// SAFETY: the trampoline passes `p9` of the vcpu whose context is loaded.
				unsafe { fast::<{ Number::$number.0 }, { FastHcall::$hcall as usize }>(p9) }
			}
		)*
	};
}

fast! {
	/// H_GET_TCE(LIOBN, IOBA): the entry in r4.
	h_get_tce = GET_TCE, GetTce;
	/// H_PUT_TCE(LIOBN, IOBA, TCE).
	h_put_tce = PUT_TCE, PutTce;
	/// H_PUT_TCE_INDIRECT(LIOBN, IOBA, list, pages).
	h_put_tce_indirect = PUT_TCE_INDIRECT, PutTceIndirect;
	/// H_STUFF_TCE(LIOBN, IOBA, value, pages); with more pages than [`MAX_ENTRIES`] it
	/// takes the full path, where the kernel may be interrupted in between.
	h_stuff_tce = STUFF_TCE, StuffTce;
}
