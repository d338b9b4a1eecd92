// SPDX-License-Identifier: GPL-2.0-only
//! The rest of a full exit, for a light exit that has enabled interrupts.
//!
//! While the host's interrupts are served or a page fault is handled, what only userspace or
//! another task would see is still the guest's. If the thread is scheduled out, or the guest
//! can't go on, the flush takes it away. `docs/light-exit.md` has the registers.

use powerpc::{Msr, Spr};

use super::enter::Facilities;
use super::{exit, facilities, slb};
use crate::context::{Context, GuestKind, Kernel, Profile};
use crate::sprs::{Conditions, User};
use crate::views::VcpuView;

/// What is still the guest's, and what of the host's has to come back.
#[derive(Clone, Copy)]
pub struct Loaded<'a> {
	pub(super) context: &'a Context,
	pub(super) host: Facilities,
	pub(super) when: Conditions,
	/// The guest's DSCR. Another CPU's call may have written the register since it was read.
	pub(super) dscr: u64,
}

impl Loaded<'_> {
	/// Whose it is.
	pub fn vcpu(&self) -> VcpuView {
		self.context.vcpu
	}

	/// Saves what is still the guest's, and restores the host's. FP, VMX and VSX registers are the
	/// caller's job: they belong to the task.
	///
	/// # Safety
	///
	/// Interrupts must be disabled in MSR\[EE\], on the CPU that has the guest's context, and
	/// this must be the first call for it.
	#[inline(never)]
	pub unsafe fn flush<P: Profile, K: Kernel>(&self, k: &mut K) {
		let Self {
			context,
			host,
			when,
			dscr,
		} = *self;
		// Not kept since the entry: registers know nothing of it.
		const { assert!(User::KEPT_ELSEWHERE) };
		let user = User::host(k, when);
		let mut msr = None;
		if when.tm {
			let now = k.mfmsr();
			msr = Some(now);
			// SAFETY: the facility on, which only the next lines use.
			unsafe { k.mtmsrd(now | Msr::TM.bits()) };
		}

		// All of the guest's that has to be read comes before the first write.
		exit::save_deferred(k, context, when);
		context.vcpu.set_dscr(dscr);
		let psscr = k.mfspr::<{ Spr::PSSCR_PR.0 }>();
		context.vcpu.set_psscr(psscr);
		facilities::store_transactions::<P, _>(k, context, when);
		// SAFETY: each value is the host's own. A radix host translates nothing by the SLB. A hash
		// guest's was cleared before the MMU was turned on.
		unsafe {
			if !matches!(P::KIND, GuestKind::Hash) {
				slb::clear_four(k);
			}
			exit::restore_deferred::<P, _>(k, context, &user, host, when);
			if let Some(msr) = msr {
				k.mtmsrd(msr);
			}
		}
		exit::age_ebb::<P>(context, when);
	}
}
