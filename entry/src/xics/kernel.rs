// SPDX-License-Identifier: GPL-2.0-only
//! The vcpu in a fast handler, and the XIVE of the machine.

use core::arch::asm;
use core::ptr::NonNull;

use hcall::Code;
use powerpc::{FastHcall, HostFacts, P9Vcpu};

use super::{Bus, Presenter, TooHard};
use crate::entry_point::{paca, vcpu_of};
use crate::layout::kernel as layout;
use crate::tce::at;
use crate::views::{KvmView, PresentationView, VcoreView, VcpuView};

// SAFETY: a variable of the glue, which is written during boot only.
unsafe extern "C" {
	safe static kvm_p9_host_facts: u64;
}

/// The registers of the XIVE. The kernel has them mapped without a cache, outside the linear map. A
/// hash guest's handler runs with the MMU off, and has instructions that load and store without
/// a cache (Power ISA 3.0B, Book III, 4.4.1).
pub(super) struct Registers {
	is_real: bool,
	tima: u64,
	cpu: u16,
}

impl Bus for Registers {
	#[inline(always)]
	fn is_real(&self) -> bool {
		self.is_real
	}

	#[inline(always)]
	fn tima(&self) -> u64 {
		self.tima
	}

	#[inline(always)]
	fn cpu(&self) -> u16 {
		self.cpu
	}

	#[inline(always)]
	fn rcu_waits(&self) -> bool {
		HostFacts::from_bits_retain(kvm_p9_host_facts).contains(HostFacts::RCU_SEES_GUESTS)
	}

	#[inline(always)]
	fn timebase(&self) -> u64 {
		let value;
		// SAFETY: no effect.
		unsafe { asm!("mftb {}", out(reg) value, options(nostack, preserves_flags)) };
		value
	}

	#[inline(always)]
	unsafe fn load16(&self, at: u64) -> u16 {
		let value: u64;
		// SAFETY: the caller has a register there. Neither block is `nomem`, so both stay where
		// they are among other accesses.
		unsafe {
			if self.is_real {
				asm!("lhzcix {}, 0, {}", out(reg) value, in(reg) at, options(nostack, preserves_flags));
			} else {
				asm!("lhz {}, 0({})", out(reg) value, in(reg_nonzero) at, options(nostack, preserves_flags));
			}
		}
		value as u16
	}

	#[inline(always)]
	unsafe fn load64(&self, at: u64) -> u64 {
		let value;
		// SAFETY: as for `load16`.
		unsafe {
			if self.is_real {
				asm!("ldcix {}, 0, {}", out(reg) value, in(reg) at, options(nostack, preserves_flags));
			} else {
				asm!("ld {}, 0({})", out(reg) value, in(reg_nonzero) at, options(nostack, preserves_flags));
			}
		}
		value
	}

	#[inline(always)]
	unsafe fn store8(&self, at: u64, value: u8) {
		// SAFETY: as for `load16`, and what it does is right, which the caller knows.
		unsafe {
			if self.is_real {
				asm!("stbcix {}, 0, {}", in(reg) u64::from(value), in(reg) at, options(nostack, preserves_flags));
			} else {
				asm!("stb {}, 0({})", in(reg) u64::from(value), in(reg_nonzero) at, options(nostack, preserves_flags));
			}
		}
	}

	#[inline(always)]
	unsafe fn store_zero64(&self, at: u64) {
		// SAFETY: as for `store8`.
		unsafe {
			if self.is_real {
				asm!("stdcix {}, 0, {}", in(reg) 0_u64, in(reg) at, options(nostack, preserves_flags));
			} else {
				asm!("std {}, 0({})", in(reg) 0_u64, in(reg_nonzero) at, options(nostack, preserves_flags));
			}
		}
	}

	#[inline(always)]
	fn eieio(&self) {
		// SAFETY: a barrier.
		unsafe { asm!("eieio", options(nostack, preserves_flags)) };
	}

	#[inline(always)]
	fn sync(&self) {
		// SAFETY: a barrier.
		unsafe { asm!("sync", options(nostack, preserves_flags)) };
	}
}

/// Has a body answer, and counts the hcall. Other interrupt controllers than XICS on the XIVE are for
/// C, and a vcpu without a context.
///
/// # Safety
///
/// The trampoline calls for this, for the vcpu that `p9` is part of.
#[inline(always)]
pub(super) unsafe fn answer(
	p9: NonNull<P9Vcpu>,
	hcall: FastHcall,
	body: impl FnOnce(&Presenter<'_, Registers>, VcpuView) -> Result<Code, TooHard>,
) -> Code {
	// SAFETY: `p9` is part of the vcpu that the trampoline calls for, whose thread is in this handler.
	let vcpu = unsafe { vcpu_of(p9) };
	if vcpu.irq_type() != layout::IRQ_TYPE_XICS as u32 || vcpu.xive_pushed() == 0 {
		return Code::TOO_HARD;
	}
	let (Some(own), Some(kvm), Some(vcore)) =
		(at(vcpu.xive_vcpu()), at(vcpu.kvm()), at(vcpu.vcore()))
	else {
		return Code::TOO_HARD;
	};
	// SAFETY: a vcpu's VM and vcore live as long as the vcpu. It stays connected while it runs.
	let (own, kvm, vcore) = unsafe {
		(
			PresentationView::new(own),
			KvmView::new(kvm),
			VcoreView::new(vcore),
		)
	};
	let (is_real, paca) = (kvm.radix() == 0, paca());
	let bus = Registers {
		is_real,
		tima: match is_real {
			true => paca.tima_phys(),
			false => paca.tima_virt(),
		},
		cpu: vcore.pcpu(),
	};
	let presenter = Presenter {
		bus: &bus,
		own,
		kvm,
	};
	match body(&presenter, vcpu) {
		Ok(code) => {
			// SAFETY: part of that vcpu; shared access is what the type allows.
			unsafe { p9.as_ref() }.fast[hcall as usize].add(1);
			code
		}
		Err(TooHard) => Code::TOO_HARD,
	}
}
