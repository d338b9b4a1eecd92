// SPDX-License-Identifier: GPL-2.0-only
//! Storage faults of a hash guest.
//!
//! All of them end the guest's run, and most are the guest's own: the guest gets a storage
//! interrupt, or tries again. These are answered here, with the MMU off and nothing of the host's
//! loaded, as an hcall is by a fast handler. The others leave by a full exit.

use ::hpt::fault::{Fault, Owner};
use powerpc::{Lpcr, Msr, Spr};

use super::exit::save_interrupt_state;
use super::{enter, trap};
use crate::context::{Context, Kernel};
use crate::layout::kernel as layout;
use crate::views::VcpuView;

/// The guest's data storage interrupt.
const DATA_STORAGE: u64 = 0x300;

/// The guest's instruction storage interrupt.
const INST_STORAGE: u64 = 0x400;

/// Added to a vector with LPCR\[AIL\] = 3 (Power ISA 3.0B, Book III, 6.4).
const AIL_3_OFFSET: u64 = 0xc000_0000_0000_4000;

/// How the guest's run ended.
pub(super) enum Ended {
	/// By a fault of the guest's own, which was answered: the guest can go straight on.
	Answered,
	/// By an access to an address that the kernel knows as a device's. Nothing has changed.
	ByDevice,
	/// Otherwise. Nothing has changed.
	Otherwise,
}

/// Answers the fault that ended the guest's run, if it is the guest's own.
///
/// # Safety
///
/// A hash guest must have just left the trampoline.
#[inline(always)]
pub(super) unsafe fn answer<K: Kernel>(k: &mut K, context: Context, lpcr: u64) -> Ended {
	// Interrupts with HSRRs are told by bit 1, which only other paths use.
	let trap = context.vcpu.trap() & !2;
	if !matches!(trap, trap::H_DATA_STORAGE | trap::H_INST_STORAGE)
		|| !k.answers_faults(context.vcpu)
	{
		return Ended::Otherwise;
	}
	if trap == trap::H_DATA_STORAGE
		&& k.is_known_device(context.vcpu, context.kvm, k.exception_area(trap).dar())
	{
		return Ended::ByDevice;
	}
	// SAFETY: the caller's word.
	match unsafe { answer_storage(k, context, lpcr, trap) } {
		true => Ended::Answered,
		false => Ended::Otherwise,
	}
}

/// # Safety
///
/// As for [`answer`], after a storage fault.
#[inline(never)]
unsafe fn answer_storage<K: Kernel>(k: &mut K, context: Context, lpcr: u64, trap: u32) -> bool {
	let vcpu = context.vcpu;
	let msr = Msr::from_bits_retain(vcpu.msr());
	if msr.intersects(Msr::TS) {
		return false;
	}
	let is_fetch = trap == trap::H_INST_STORAGE;
	let area = k.exception_area(trap);
	let (address, status, translation) = if is_fetch {
		let status = vcpu.msr() as u32 & layout::DSISR_SRR1_MATCH as u32;
		(vcpu.nip(), status, Msr::IR)
	} else {
		(area.dar(), area.dsisr(), Msr::DR)
	};
	if !is_fetch && status == layout::DSISR_CANARY as u32 {
		// The CPU did not write DSISR. C has the guest try again.
		return false;
	}
	let is_translated = msr.contains(translation);
	let fault = Fault {
		address,
		segment: match is_translated {
			true => k.mfspr::<{ Spr::ASDR.0 }>(),
			false => context.kvm.vrma_slb_v(),
		},
		status,
		is_fetch,
		is_problem_state: msr.contains(Msr::PR),
		amr: (!is_fetch && is_translated).then(|| k.mfspr::<{ Spr::AMR.0 }>()),
	};
	let status = match k.fault_owner(vcpu, fault) {
		Owner::Host => return false,
		Owner::Nobody => None,
		Owner::Guest(status) => Some(status),
	};
	save_interrupt_state(k, &context);
	if let Some(status) = status {
		// The instruction was a prefixed one. A POWER9 has none.
		let prefixed = msr.bits() & layout::SRR1_IS_PREFIXED as u64;
		if is_fetch {
			interrupt(vcpu, lpcr, INST_STORAGE, u64::from(status) | prefixed);
		} else {
			vcpu.set_dar(address);
			vcpu.set_dsisr(status);
			interrupt(vcpu, lpcr, DATA_STORAGE, prefixed);
		}
	}
	k.count_fault(vcpu);
	// SAFETY: the guest runs next.
	unsafe { enter::load_way_back(k, vcpu) };
	true
}

/// Delivers an interrupt to the guest, which is not in a transaction, as hardware does. `flags` are
/// the bits of SRR1 that say why.
fn interrupt(vcpu: VcpuView, lpcr: u64, vector: u64, flags: u64) {
	let msr = Msr::from_bits_retain(vcpu.msr());
	let is_relocated =
		Lpcr::from_bits_retain(lpcr).contains(Lpcr::AIL_3) && msr.contains(Msr::IR | Msr::DR);
	vcpu.set_srr0(vcpu.nip());
	vcpu.set_srr1(msr.bits() & !(layout::SRR1_STATUS as u64) | flags);
	if is_relocated {
		vcpu.set_nip(vector + AIL_3_OFFSET);
		vcpu.set_msr(vcpu.intr_msr() | (Msr::IR | Msr::DR).bits());
	} else {
		vcpu.set_nip(vector);
		vcpu.set_msr(vcpu.intr_msr());
	}
}
