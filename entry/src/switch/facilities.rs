// SPDX-License-Identifier: GPL-2.0-only
//! Facilities that are switched on demand: event-based branches and transactional memory.

use super::hfscr;
use crate::context::{Context, GuestKind, Kernel, Profile};
use crate::layout::kernel as layout;
use crate::sprs::{Conditions, Transactions};
use crate::views::VcpuView;

/// There is transactional memory, and the kernel knows of it.
#[inline(always)]
pub(super) fn has_tm<P: Profile>() -> bool {
	layout::HAVE_TM != 0 && P::tm_assist()
}

/// Saves what can only be read while MSR has the host's facilities on, if there is no
/// transaction.
#[inline(always)]
pub(super) fn store<P: Profile, K: Kernel>(k: &mut K, context: &Context, when: Conditions) {
	k.store_vectors(context.vcpu);
	store_transactions::<P, _>(k, context, when);
}

/// Of these the registers of transactional memory.
#[inline(always)]
pub(super) fn store_transactions<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	when: Conditions,
) {
	if when.tm {
		Transactions::save(k, context, when);
		age::<P>(context, hfscr::TM, VcpuView::load_tm, VcpuView::set_load_tm);
	}
}

/// Counts that a facility was switched, and now and then takes it away, to see
/// whether the guest still uses it. What an L2 has is its L1's decision.
#[inline(always)]
pub(super) fn age<P: Profile>(
	context: &Context,
	facility: u64,
	count: fn(VcpuView) -> u8,
	set_count: fn(VcpuView, u8),
) {
	let vcpu = context.vcpu;
	if P::KIND == GuestKind::L2 {
		return;
	}
	let count = count(vcpu).wrapping_add(1);
	set_count(vcpu, count);
	if count == 0 {
		vcpu.set_hfscr(vcpu.hfscr() & !facility);
	}
}
