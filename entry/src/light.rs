// SPDX-License-Identifier: GPL-2.0-only
//! The light exit: the host's MMU context and timebase, and all else still the guest's.
//!
//! A light exit lets C code run for a guest without a full switch. Interrupts stay disabled
//! in MSR\[EE\] from the guest's exit to the guest's next instruction, so no other task runs,
//! and no interrupt handler finds the guest's registers. See `docs/light-exit.md` for what
//! stays loaded, and why that is right, register by register.
//!
//! [`window`] is the switch. It is a part of the guest's run: the run loop, other vcpus and
//! other CPUs see a vcpu that runs. What they want from the vcpu arrives as an interrupt of
//! the host, which stays pending in the window and ends the guest's run after it.
//!
//! These use it:
//!
//! - An hcall, by a handler in the table of fast handlers ([`hcall`]). A handler that
//!   returns H_TOO_HARD has put the guest's context back, so the full exit starts from the
//!   same state as without it.
//! - A store to a device of the kernel, a doorbell for another vcpu, and an hcall of a hash guest, from
//!   the loop of [`switch::run`](crate::switch::run).
//!
//! Interrupts of the host need more, and have a switch of their own: `switch::serve`.

use hcall::Code;
use powerpc::{Cpu, LightCounter, Msr, Spr};

use crate::layout::kernel as layout;
use crate::switch::{set_timebase, trap};
use crate::views::{ExceptionView, KvmView, PacaView, VcoreView, VcpuView};

/// LPCR\[HDICE\]: HDEC can be an exception. A CPU may drop the exception of an HDEC that runs
/// out while the bit is clear, so the bit stays set in the window. With MSR\[EE\] clear in
/// hypervisor state the interrupt waits for the guest.
const HDICE: u64 = layout::HV_LPCR_HDICE as u64;

/// What a light exit puts in place of the guest's, and puts back, as the last full entry
/// found it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
	/// The guest's LPCR.
	pub lpcr: u64,
	/// The host's PIDR.
	pub pidr: u64,
	/// The host's AMR.
	pub amr: u64,
	/// The host's IAMR. [`window`] leaves the guest's in place.
	pub iamr: u64,
}

/// The structures that the window uses.
#[derive(Clone, Copy)]
pub struct Structures {
	/// The vcpu's vcore.
	pub vcore: VcoreView,
	/// Its VM.
	pub kvm: KvmView,
	/// This CPU.
	pub paca: PacaView,
}

/// Runs `body` with the host's MMU context, timebase and user-access registers.
///
/// Returns what `body` returns, and whether the interrupt registers may have been
/// overwritten: then DAR, DSISR, SRR0, SRR1, HSRR0, HSRR1 and the PACA's save area EXGEN have
/// to be written again.
///
/// The kernel clears `srr_valid` and `hsrr_valid` in the PACA when it returns from an
/// interrupt that used the registers. Only the host's interrupts write DAR, DSISR and EXGEN
/// here, and each of them uses SRR0 and SRR1, or HSRR0 and HSRR1. So a mark that was set at the
/// start and is set at the end means that there was no interrupt.
///
/// DEC goes on counting. `body` may set a timer of the host, which writes DEC; HDEC, which
/// the host does not write, tells how far the guest's has counted since.
///
/// IAMR stays the guest's. It restricts instruction fetches from pages of problem state (Power ISA 3.0B,
/// Book III, "Virtual Page Class Key Protection"), and the kernel makes none.
///
/// # Safety
///
/// The guest's whole state must be loaded, by a full entry that had `registers`; MSR\[EE\] must be
/// clear. A radix guest must have left the MMU on. A hash guest leaves it off: its SLB must be saved
/// and clear, and `body` has to turn the MMU on and off. `body` must return with MSR\[EE\] clear,
/// must not sleep, and must leave all registers but those above, DEC, and AMR as it finds them.
#[inline(always)]
pub unsafe fn window<C: Cpu, R>(
	cpu: &mut C,
	structures: Structures,
	registers: Registers,
	body: impl FnOnce(&mut C) -> R,
) -> (R, bool) {
	let Structures { vcore, kvm, paca } = structures;
	let pidr = cpu.mfspr::<{ Spr::PIDR.0 }>();
	let amr = cpu.mfspr::<{ Spr::AMR.0 }>();
	let dec = cpu.mfspr::<{ Spr::DEC.0 }>();
	let hdec = cpu.mfspr::<{ Spr::HDEC.0 }>();
	let offset = vcore.tb_offset_applied();

	// SAFETY: to the call of `body`. Each value is the host's own. Until the mode byte is
	// reset this function uses quadrant 3 only, which these registers do not change.
	unsafe {
		if offset != 0 {
			let now = cpu.mftb().wrapping_sub(offset);
			set_timebase(cpu, now);
			vcore.set_tb_offset_applied(0);
		}
		// As in a full exit; see the barriers in the text of `switch`.
		cpu.hwsync();
		cpu.mtspr::<{ Spr::PIDR.0 }>(registers.pidr);
		cpu.mtspr::<{ Spr::LPIDR.0 }>(kvm.host_lpid().into());
		cpu.mtspr::<{ Spr::LPCR.0 }>(kvm.host_lpcr() | HDICE);
		if amr != registers.amr {
			cpu.mtspr::<{ Spr::AMR.0 }>(registers.amr);
		}
		// A full exit has an mtmsrd with L=0 here.
		cpu.isync();
		paca.set_srr_valid(1);
		paca.set_hsrr_valid(1);
		// In this order, a system reset between both finds a handler, which goes on after it.
		cpu.mtmsrd_ee_ri(Msr::RI.bits());
		paca.set_in_guest(layout::GUEST_MODE_NONE as u8);
	}

	let answer = body(cpu);

	// First of all: from here on no interrupt is seen by the marks. A handler survives a system
	// reset without them: see `kvm_p9_interrupted`.
	paca.set_in_guest(layout::GUEST_MODE_P9_RS as u8);
	let interrupted = paca.srr_valid() & paca.hsrr_valid() == 0;
	paca.set_srr_valid(0);
	paca.set_hsrr_valid(0);
	// In 32 bits: all of it without LPCR[LD], and enough to tell with it.
	let counted = dec.wrapping_sub(cpu.mfspr::<{ Spr::DEC.0 }>()) as u32;
	let lost = if counted <= DEC_TOLERANCE {
		None
	} else {
		lost_dec(cpu, dec, hdec)
	};

	// SAFETY: to the end. Each value is what the guest had, or what the full entry loaded.
	unsafe {
		if offset != 0 {
			let now = cpu.mftb().wrapping_add(offset);
			set_timebase(cpu, now);
			vcore.set_tb_offset_applied(offset);
		}
		if amr != registers.amr {
			cpu.mtspr::<{ Spr::AMR.0 }>(amr);
		}
		cpu.hwsync();
		cpu.isync();
		cpu.mtspr::<{ Spr::LPIDR.0 }>(kvm.lpid());
		cpu.mtspr::<{ Spr::LPCR.0 }>(registers.lpcr);
		cpu.mtspr::<{ Spr::PIDR.0 }>(pidr);
		if let Some(dec) = lost {
			cpu.mtspr::<{ Spr::DEC.0 }>(dec);
		}
	}
	(answer, interrupted)
}

/// How far DEC may count in a window, in ticks of the timebase, and pass for the guest's own without
/// a look at HDEC: 1.5 µs, which is some time more than a window takes. If the host has written
/// DEC after all, to a value within this of the guest's, the guest's decrementer is wrong by so much at
/// most: about what a full exit takes.
const DEC_TOLERANCE: u32 = 768;

/// How far DEC may be from what HDEC says of it: more than what passes between two instructions.
const DEC_SKEW: u32 = 64;

/// What DEC has to be, if the host has written it: `dec` and `hdec` are what both were at the start. DEC is
/// not written without need, because each write makes it late by the time since HDEC was read.
#[cold]
#[inline(never)]
fn lost_dec<C: Cpu>(cpu: &mut C, dec: u64, hdec: u64) -> Option<u64> {
	// Adjacent, as they were at the start.
	let now = cpu.mfspr::<{ Spr::DEC.0 }>();
	let elapsed = hdec.wrapping_sub(cpu.mfspr::<{ Spr::HDEC.0 }>());
	let dec = dec.wrapping_sub(elapsed);
	((now.wrapping_sub(dec) as i32).unsigned_abs() > DEC_SKEW).then_some(dec)
}

/// What an interrupt of the host overwrites.
#[derive(Clone, Copy)]
struct Saved {
	srr0: u64,
	srr1: u64,
	dar: u64,
	dsisr: u64,
	r9: u64,
	r10: u64,
	r11: u64,
	r12: u64,
	r13: u64,
	ppr: u64,
	cfar: u64,
	ctr: u64,
}

impl Saved {
	#[inline(always)]
	fn new<C: Cpu>(cpu: &mut C, area: ExceptionView, srr0: u64, srr1: u64) -> Self {
		Self {
			srr0,
			srr1,
			dar: cpu.mfspr::<{ Spr::DAR.0 }>(),
			dsisr: cpu.mfspr::<{ Spr::DSISR.0 }>(),
			r9: area.r9(),
			r10: area.r10(),
			r11: area.r11(),
			r12: area.r12(),
			r13: area.r13(),
			ppr: area.ppr(),
			cfar: area.cfar(),
			ctr: area.ctr(),
		}
	}

	/// # Safety
	///
	/// The guest must be what runs next.
	#[cold]
	#[inline(never)]
	unsafe fn restore<C: Cpu>(&self, cpu: &mut C, area: ExceptionView) {
		area.set_r9(self.r9);
		area.set_r10(self.r10);
		area.set_r11(self.r11);
		area.set_r12(self.r12);
		area.set_r13(self.r13);
		area.set_ppr(self.ppr);
		area.set_cfar(self.cfar);
		area.set_ctr(self.ctr);
		// SAFETY: the guest's own values, and the guest runs next.
		unsafe {
			cpu.mtspr::<{ Spr::SRR0.0 }>(self.srr0);
			cpu.mtspr::<{ Spr::SRR1.0 }>(self.srr1);
			cpu.mtspr::<{ Spr::DAR.0 }>(self.dar);
			cpu.mtspr::<{ Spr::DSISR.0 }>(self.dsisr);
			cpu.mtspr::<{ Spr::HSRR0.0 }>(self.srr0);
			cpu.mtspr::<{ Spr::HSRR1.0 }>(self.srr1);
		}
	}
}

/// Answers an hcall in a light exit, by `body`.
///
/// `srr0` and `srr1` are the guest's NIA and MSR, as `sc` left them, with \[ME\].
///
/// # Safety
///
/// As for [`window`], with the trampoline's contract for fast handlers besides.
#[inline(always)]
pub unsafe fn hcall<C: Cpu, R>(
	cpu: &mut C,
	structures: Structures,
	registers: Registers,
	area: ExceptionView,
	(srr0, srr1): (u64, u64),
	body: impl FnOnce(&mut C) -> R,
) -> R {
	let saved = Saved::new(cpu, area, srr0, srr1);
	// SAFETY: this function requires what `window` does, and what an interrupt overwrites is saved.
	let (answer, interrupted) = unsafe { window(cpu, structures, registers, body) };
	if interrupted {
		// SAFETY: the guest's state is loaded again.
		unsafe { saved.restore(cpu, area) };
	}
	answer
}

/// Prods a vcpu that is awake, without a window. Returns whether there is no more to do: a vcpu
/// that sleeps has to be woken besides.
///
/// Both have the flag and the test in the other order: H_CEDE says that it sleeps, and looks
/// whether it was prodded.
#[inline(always)]
pub fn prod<C: Cpu>(cpu: &mut C, target: VcpuView) -> bool {
	target.set_prodded(1);
	// Between the store and the load, as in H_CEDE.
	cpu.hwsync();
	target.ceded() == 0
}

/// Answers H_CEDE if the vcpu has work, without a window: if it was prodded, or its decrementer
/// has run out. Returns whether it did.
///
/// H_CEDE enables the guest's interrupts. Both tests are the kernel's: `prodded` is taken, and
/// an expired decrementer interrupts the guest after its return.
///
/// # Safety
///
/// As for a fast handler. The guest must return by HSRR0 and HSRR1.
#[inline(always)]
pub unsafe fn cede<C: Cpu>(cpu: &mut C, vcpu: VcpuView, lpcr: u64, srr1: u64) -> bool {
	if vcpu.prodded() != 0 {
		vcpu.set_prodded(0);
		// Before the guest looks for what it was prodded for. H_PROD has the other barrier.
		cpu.hwsync();
	} else {
		let dec = cpu.mfspr::<{ Spr::DEC.0 }>();
		let dec = match lpcr & layout::HV_LPCR_LD as u64 {
			0 => dec as i32 as i64,
			_ => dec as i64,
		};
		if dec >= 0 {
			return false;
		}
	}
	// SAFETY: the guest's MSR, as H_CEDE changes it.
	unsafe { cpu.mtspr::<{ Spr::HSRR1.0 }>(srr1 | Msr::EE.bits()) };
	true
}

/// Registers of H_SET_MODE (`H_SET_MODE_RESOURCE_SET_CIABR`, `_DAWR0` and `_DAWR1`).
const RESOURCE_CIABR: u64 = 1;
const RESOURCE_DAWR0: u64 = 2;
const RESOURCE_DAWR1: u64 = 5;

/// CIABR\[PRIV\]: in which state the breakpoint matches. All bits set is the hypervisor's.
const CIABR_PRIV: u64 = 3;

/// Answers H_SET_MODE without a window, if it is for CIABR and the kernel would set it, or for a
/// watchpoint that no guest may set on this host (`dawr_enabled`). A guest in a compatibility mode takes the
/// full exit, as do most that get an error.
///
/// The vcpu's CIABR is what an exit compares the host's with, so register and vcpu get the value
/// together. With DAWR that is not so: whether the exit restores the host's was decided at the entry, and
/// the answer may be another by now.
#[inline(always)]
pub fn set_mode<C: Cpu>(
	cpu: &mut C,
	vcpu: VcpuView,
	vcore: VcoreView,
	dawr_enabled: impl FnOnce(&C) -> bool,
) -> Option<Code> {
	match vcpu.gpr5() {
		RESOURCE_CIABR => set_ciabr(cpu, vcpu, vcore),
		RESOURCE_DAWR0 | RESOURCE_DAWR1 => (!dawr_enabled(cpu)).then_some(Code::P2),
		_ => None,
	}
}

#[inline(always)]
fn set_ciabr<C: Cpu>(cpu: &mut C, vcpu: VcpuView, vcore: VcoreView) -> Option<Code> {
	let flags = vcpu.gpr4();
	let (ciabr, unused) = (vcpu.gpr6(), vcpu.gpr7());
	if flags | unused != 0 || ciabr & CIABR_PRIV == CIABR_PRIV || vcore.pcr() != 0 {
		return None;
	}
	vcpu.set_ciabr(ciabr);
	// SAFETY: the breakpoint does not match in hypervisor state, and the guest runs next.
	unsafe { cpu.mtspr::<{ Spr::CIABR.0 }>(ciabr) };
	Some(Code::SUCCESS)
}

/// Why an exit with this trap was a full one, if no light handler was called.
pub fn reason_of_trap(trap: u32, dsisr: u32) -> LightCounter {
	match trap {
		trap::SYSCALL => LightCounter::FullOtherHcall,
		trap::H_DATA_STORAGE if dsisr & layout::DSISR_STORE as u32 != 0 => LightCounter::FullStore,
		trap::H_DATA_STORAGE => LightCounter::FullLoad,
		trap::H_INST_STORAGE => LightCounter::FullExecute,
		trap::HV_DECREMENTER | trap::H_DOORBELL | trap::H_VIRT => LightCounter::FullMmuOff,
		_ => LightCounter::FullOther,
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn each_trap_has_a_reason_that_says_why_the_exit_is_full() {
		const STORE: u32 = layout::DSISR_STORE as u32;
		for trap in (0..0x2000).step_by(0x20) {
			for dsisr in [0, STORE, !STORE, !0] {
				let reason = reason_of_trap(trap, dsisr);
				assert!(reason.is_full(), "{trap:#x} {dsisr:#x}: {reason:?}");
				assert_ne!(reason, LightCounter::Work);
			}
		}
		assert_eq!(reason_of_trap(0xe00, STORE), LightCounter::FullStore);
		assert_eq!(reason_of_trap(0xe00, !STORE), LightCounter::FullLoad);
		assert_eq!(reason_of_trap(0xe20, 0), LightCounter::FullExecute);
		assert_eq!(reason_of_trap(0xc00, 0), LightCounter::FullOtherHcall);
		assert_eq!(reason_of_trap(0x980, 0), LightCounter::FullMmuOff);
		assert_eq!(reason_of_trap(0xf80, 0), LightCounter::FullOther);
	}
}
