// SPDX-License-Identifier: GPL-2.0-only
//! Fast handlers of the page table hcalls of hash guests.
//!
//! A handler that a radix guest calls returns H_TOO_HARD, and C has the answer.
//!
//! The same functions answer on the full path: `hpt::full_path` calls them.

use core::ptr::NonNull;

use ::hpt::{Refusal, bulk_remove, hcalls};
use hcall::Code;
use powerpc::{FastHcall, P9Vcpu};

use crate::entry_point::{paca, vcpu_of};
use crate::hpt::guest::{KernelGuest, is_in_guest};
use crate::layout::kernel as layout;
use crate::views::{ExceptionView, VcpuView};

/// The guest's r9 to r11 at an hcall. A full exit has moved them to the vcpu.
#[inline(always)]
fn rest(vcpu: VcpuView) -> ExceptionView {
	const STEP: usize = layout::EX_R10.offset - layout::EX_R9.offset;
	const {
		assert!(layout::VCPU_GPR10.offset - layout::VCPU_GPR9.offset == STEP);
		assert!(layout::VCPU_GPR11.offset - layout::VCPU_GPR10.offset == STEP);
		assert!(layout::EX_R11.offset - layout::EX_R10.offset == STEP);
	};
	// SAFETY: a save area of this CPU, which no interrupt uses while MSR[RI] is zero; or the vcpu's
	// registers, of which three are as far from each other as in a save area.
	unsafe {
		ExceptionView::new(match is_in_guest() {
			true => paca().address().add(layout::PACA_EXGEN_AREA),
			false => vcpu
				.address()
				.add(layout::VCPU_GPR9.offset - layout::EX_R9.offset),
		})
	}
}

/// Writes what the hcall gives back in r4 and on.
#[inline(always)]
fn set_results(vcpu: VcpuView, results: &[u64]) {
	let rest = rest(vcpu);
	for (n, &value) in results.iter().enumerate() {
		match n {
			0 => vcpu.set_gpr4(value),
			1 => vcpu.set_gpr5(value),
			2 => vcpu.set_gpr6(value),
			3 => vcpu.set_gpr7(value),
			4 => vcpu.set_gpr8(value),
			5 => rest.set_r9(value),
			6 => rest.set_r10(value),
			7 => rest.set_r11(value),
			_ => {}
		}
	}
}

/// Has a body answer, and counts the hcall if the handler was a fast one.
///
/// # Safety
///
/// The trampoline or `hpt::full_path` calls for this, for the vcpu that `p9` is part of.
#[inline(always)]
unsafe fn answer(
	p9: NonNull<P9Vcpu>,
	hcall: FastHcall,
	body: impl FnOnce(&KernelGuest<'_>) -> Result<(), Refusal>,
) -> Code {
	// SAFETY: `p9` is in the vcpu that runs this handler, and a vcpu outlives its run.
	let guest = unsafe { KernelGuest::new(vcpu_of(p9)) };
	let Some(guest) = guest else {
		return Code::TOO_HARD;
	};
	let code = body(&guest).map_or_else(Refusal::code, |()| Code::SUCCESS);
	if code != Code::TOO_HARD && is_in_guest() {
		// SAFETY: `p9` is in the vcpu that runs this handler. The type allows shared access.
		unsafe { p9.as_ref() }.fast[hcall as usize].add(1);
	}
	code
}

macro_rules! handlers {
	($($(#[$doc:meta])* $name:ident = $hcall:ident, |$guest:ident, $vcpu:ident| $body:block)*) => {
		$(
			$(#[$doc])*
			///
			/// # Safety
			///
			/// The trampoline or `hpt::full_path` calls this, for the vcpu that `p9` is part of.
			#[inline(always)]
			pub unsafe extern "C" fn $name(p9: NonNull<P9Vcpu>) -> Code {
				// SAFETY: the trampoline passes `p9` of the vcpu whose context is loaded.
				unsafe {
					answer(p9, FastHcall::$hcall, |$guest| {
						let $vcpu = $guest.vcpu;
						$body
					})
				}
			}
		)*
	};
}

handlers! {
	/// H_ENTER(flags, index, HPTE): the index in r4.
	h_enter = Enter, |guest, vcpu| {
		let (flags, index, v, r) = (vcpu.gpr4(), vcpu.gpr5(), vcpu.gpr6(), vcpu.gpr7());
		vcpu.set_gpr4(hcalls::enter(guest, flags, index, v, r)?);
		Ok(())
	}

	/// H_REMOVE(flags, index, AVPN): the HPTE in r4 and r5.
	h_remove = Remove, |guest, vcpu| {
		let pte = hcalls::remove(guest, vcpu.gpr4(), vcpu.gpr5(), vcpu.gpr6())?;
		set_results(vcpu, &[pte.v, pte.r]);
		Ok(())
	}

	/// H_READ(flags, index): one HPTE or four from r4 on.
	h_read = Read, |guest, vcpu| {
		let (ptes, count) = hcalls::read(guest, vcpu.gpr4(), vcpu.gpr5())?;
		let [a, b, c, d] = ptes;
		if count == 1 {
			set_results(vcpu, &[a.v, a.r]);
		} else {
			set_results(vcpu, &[a.v, a.r, b.v, b.r, c.v, c.r, d.v, d.r]);
		}
		Ok(())
	}

	/// H_CLEAR_MOD(flags, index): the second doubleword in r4.
	h_clear_mod = ClearMod, |guest, vcpu| {
		vcpu.set_gpr4(hcalls::clear_mod(guest, vcpu.gpr5())?);
		Ok(())
	}

	/// H_CLEAR_REF(flags, index): the second doubleword in r4.
	h_clear_ref = ClearRef, |guest, vcpu| {
		vcpu.set_gpr4(hcalls::clear_ref(guest, vcpu.gpr5())?);
		Ok(())
	}

	/// H_PROTECT(flags, index, AVPN).
	h_protect = Protect, |guest, vcpu| {
		hcalls::protect(guest, vcpu.gpr4(), vcpu.gpr5(), vcpu.gpr6())
	}

	/// H_BULK_REMOVE: four requests in r4 to r11, which become responses.
	h_bulk_remove = BulkRemove, |guest, vcpu| {
		let rest = rest(vcpu);
		let mut arguments = [
			vcpu.gpr4(), vcpu.gpr5(), vcpu.gpr6(), vcpu.gpr7(),
			vcpu.gpr8(), rest.r9(), rest.r10(), rest.r11(),
		];
		let result = bulk_remove(guest, &mut arguments);
		if result != Err(Refusal::TooHard) {
			set_results(vcpu, &arguments);
		}
		result
	}
}
