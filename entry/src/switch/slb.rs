// SPDX-License-Identifier: GPL-2.0-only
//! A hash guest's SLB, and what a radix guest may have left of its own.

use crate::context::Kernel;
use crate::layout::kernel as layout;
use crate::views::VcpuView;

/// Loads a hash guest's SLB.
///
/// # Safety
///
/// The MMU must be off, the SLB clear, LPCR the guest's.
pub(super) unsafe fn load<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	for index in 0..vcpu.slb_max() {
		// The array has room for more than any CPU has; should `slb_max` be wrong, the
		// guest's loss.
		let Some(entry) = vcpu.slb(index) else { break };
		// SAFETY: nothing translates by it until the guest runs.
		unsafe { k.slb_write(entry.orige(), entry.origv()) };
	}
}

/// Saves a hash guest's SLB: the valid entries, closely packed, each with its index.
fn save<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	let mut saved = 0;
	for index in 0..vcpu.slb_nr() {
		let esid = k.slb_esid(index.into());
		if esid & layout::SLB_VALID as u64 == 0 {
			continue;
		}
		let Some(entry) = vcpu.slb(saved) else { break };
		entry.set_orige(esid | u64::from(index));
		entry.set_origv(k.slb_vsid(index.into()));
		saved += 1;
	}
	vcpu.set_slb_max(saved);
}

/// Saves a hash guest's SLB, and clears it.
///
/// # Safety
///
/// The host must not translate by the SLB.
#[inline(always)]
pub(super) unsafe fn take<K: Kernel>(k: &mut K, vcpu: VcpuView) {
	save(k, vcpu);
	// SAFETY: this function requires the same.
	unsafe { k.slb_clear_all() };
}

/// Clears what a radix guest may have put into the first four entries: it runs with LPCR\[UPRT\]
/// (Power ISA 3.0B, Book III, 5.9.3.2). The next guest must not see them. slbmte, as slbia would
/// drop cached translations too.
///
/// # Safety
///
/// The host must not translate by the SLB.
#[inline(always)]
pub(super) unsafe fn clear_four<K: Kernel>(k: &mut K) {
	// SAFETY: a radix host translates nothing by the SLB.
	unsafe {
		k.slb_clear::<0>();
		k.slb_clear::<1>();
		k.slb_clear::<2>();
		k.slb_clear::<3>();
	}
}
