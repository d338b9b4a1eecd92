// SPDX-License-Identifier: GPL-2.0-only
//! KVM_RUN with a value in every register of the calling process.
//!
//! Around one KVM_RUN every register is filled and read again: GPRs, CR, LR, CTR, XER, FP,
//! VMX and VSX with FPSCR and VSCR, VRSAVE, TAR, DSCR, and SPRG3 (what getcpu() reads) and
//! AMR, which a process only reads.
//!
//! What a process doesn't have here: TIDR, PSPB, IAMR and UAMOR, which are for kernels;
//! event-based branches, which Linux gives to users of perf events only; transactional
//! memory, which Linux gives to no process of a POWER9 host that needs TM assistance. PPR
//! is reset by every system call.

use core::arch::global_asm;
use core::mem::offset_of;

use crate::abi;

/// The registers.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct UserRegs {
	/// The 64 vector-scalar registers.
	pub vsr: [u128; 64],
	/// Its word 0 or 3 is the register, depending on how you look at it.
	pub vscr: u128,
	/// FPSCR.
	pub fpscr: u64,
	/// CR.
	pub cr: u64,
	/// LR.
	pub lr: u64,
	/// CTR.
	pub ctr: u64,
	/// XER.
	pub xer: u64,
	/// TAR.
	pub tar: u64,
	/// DSCR.
	pub dscr: u64,
	/// VRSAVE.
	pub vrsave: u64,
	/// SPRG3, for reading.
	pub sprg3: u64,
	/// AMR, for reading.
	pub amr: u64,
	/// r0 to r31. Those that KVM_RUN is called with, and the stack's, the TOC's and the
	/// thread's, are not filled.
	pub gpr: [u64; 32],
}

static_assertions::assert_eq_size!(UserRegs, [u128; 64 + 1 + 5 + 16]);

unsafe extern "C" {
	/// KVM_RUN on that vcpu, with `before` in the registers (FPSCR has bits that follow
	/// from others; they are put right in it). Says what was in them afterwards, and returns
	/// an errno or 0.
	///
	/// # Safety
	///
	/// The fd must be a vcpu's.
	pub fn kvm_run_with_user_regs(fd: i32, before: *mut UserRegs, after: *mut UserRegs) -> u64;
}

global_asm!(
	// The frame: 32 GPRs as they are after the system call, then what the calling
	// convention wants kept.
	".set .Lgot_gprs, 64",
	".set .Lown_gprs, 320",
	".set .Lfpscr, 464",
	".set .Lvrsave, 472",
	".set .Ltar, 480",
	".set .Ldscr, 488",
	".set .Lafter, 496",
	".set .Lxer, 504",
	".set .Lctr, 512",
	".set .Lvscr, 528",
	".set .Lown_fprs, 544",
	".set .Lown_vrs, 832",
	".set .Lframe, 1040",
	".section .text.kvm_run_with_user_regs, \"ax\", @progbits",
	".globl kvm_run_with_user_regs",
	".type kvm_run_with_user_regs, @function",
	"kvm_run_with_user_regs:",
	"mflr 0",
	"std 0, 16(1)",
	"mfcr 0",
	"stw 0, 8(1)",
	"stdu 1, -.Lframe(1)",
	".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
	"std \\n, .Lown_gprs + 8 * (\\n - 14)(1)",
	".endr",
	"std 5, .Lafter(1)",
	"mr 31, 4",
	"addi 6, 1, .Lown_fprs",
	".set .Ln, 14",
	".rept 18",
	".long 31 << 26 | .Ln << 21 | 6 << 11 | 972 << 1",
	"addi 6, 6, 16",
	".set .Ln, .Ln + 1",
	".endr",
	"addi 6, 1, .Lown_vrs",
	".set .Ln, 20",
	".rept 12",
	".long 31 << 26 | .Ln << 21 | 6 << 11 | 972 << 1 | 1",
	"addi 6, 6, 16",
	".set .Ln, .Ln + 1",
	".endr",
	"mffs 0",
	"stfd 0, .Lfpscr(1)",
	"addi 6, 1, .Lvscr",
	"mfvscr 0",
	"stvx 0, 0, 6",
	"mfspr 6, 256",
	"std 6, .Lvrsave(1)",
	"mfspr 6, 815",
	"std 6, .Ltar(1)",
	"mfspr 6, 3",
	"std 6, .Ldscr(1)",
	// Fill. FPSCR whole (L = 1).
	"lfd 0, {FPSCR}(31)",
	".long 63 << 26 | 1 << 25 | 711 << 1",
	"mffs 0",
	"stfd 0, {FPSCR}(31)",
	"addi 6, 31, {VSCR}",
	"lvx 0, 0, 6",
	"mtvscr 0",
	"addi 6, 31, {VSR}",
	".set .Ln, 0",
	".rept 64",
	".long 31 << 26 | (.Ln & 31) << 21 | 6 << 11 | 844 << 1 | .Ln >> 5",
	"addi 6, 6, 16",
	".set .Ln, .Ln + 1",
	".endr",
	"ld 6, {VRSAVE}(31)",
	"mtspr 256, 6",
	"ld 6, {TAR}(31)",
	"mtspr 815, 6",
	"ld 6, {DSCR}(31)",
	"mtspr 3, 6",
	"ld 6, {CR}(31)",
	"mtcrf 255, 6",
	"ld 6, {LR}(31)",
	"mtlr 6",
	"ld 6, {CTR}(31)",
	"mtctr 6",
	"ld 6, {XER}(31)",
	"mtxer 6",
	".irp n, 6,7,8,9,10,11,12,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
	"ld \\n, {GPR} + 8 * \\n(31)",
	".endr",
	"li 0, {IOCTL}",
	"lis 4, {RUN} >> 16",
	"ori 4, 4, {RUN} & 0xffff",
	"li 5, 0",
	"sc",
	".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,\
	 29,30,31",
	"std \\n, .Lgot_gprs + 8 * \\n(1)",
	".endr",
	"mfcr 6",
	"mfctr 7",
	"mfxer 8",
	"ld 31, .Lafter(1)",
	"std 6, {CR}(31)",
	"std 7, {CTR}(31)",
	"std 8, {XER}(31)",
	"mflr 6",
	"std 6, {LR}(31)",
	"mfspr 6, 256",
	"std 6, {VRSAVE}(31)",
	"mfspr 6, 815",
	"std 6, {TAR}(31)",
	"mfspr 6, 3",
	"std 6, {DSCR}(31)",
	"mfspr 6, 259",
	"std 6, {SPRG3}(31)",
	"mfspr 6, 13",
	"std 6, {AMR}(31)",
	".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,\
	 29,30,31",
	"ld 0, .Lgot_gprs + 8 * \\n(1)",
	"std 0, {GPR} + 8 * \\n(31)",
	".endr",
	"addi 6, 31, {VSR}",
	".set .Ln, 0",
	".rept 64",
	".long 31 << 26 | (.Ln & 31) << 21 | 6 << 11 | 972 << 1 | .Ln >> 5",
	"addi 6, 6, 16",
	".set .Ln, .Ln + 1",
	".endr",
	"mffs 0",
	"stfd 0, {FPSCR}(31)",
	"addi 6, 31, {VSCR}",
	"mfvscr 0",
	"stvx 0, 0, 6",
	// An errno, if CR0[SO] says so.
	"ld 3, .Lgot_gprs + 24(1)",
	"ld 6, {CR}(31)",
	"rlwinm. 6, 6, 0, 3, 3",
	"bne 1f",
	"li 3, 0",
	// Back to our own.
	"1: ld 6, .Lvrsave(1)",
	"mtspr 256, 6",
	"ld 6, .Ltar(1)",
	"mtspr 815, 6",
	"ld 6, .Ldscr(1)",
	"mtspr 3, 6",
	"lfd 0, .Lfpscr(1)",
	".long 63 << 26 | 1 << 25 | 711 << 1",
	"addi 6, 1, .Lvscr",
	"lvx 0, 0, 6",
	"mtvscr 0",
	"addi 6, 1, .Lown_fprs",
	".set .Ln, 14",
	".rept 18",
	".long 31 << 26 | .Ln << 21 | 6 << 11 | 844 << 1",
	"addi 6, 6, 16",
	".set .Ln, .Ln + 1",
	".endr",
	"addi 6, 1, .Lown_vrs",
	".set .Ln, 20",
	".rept 12",
	".long 31 << 26 | .Ln << 21 | 6 << 11 | 844 << 1 | 1",
	"addi 6, 6, 16",
	".set .Ln, .Ln + 1",
	".endr",
	".irp n, 14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
	"ld \\n, .Lown_gprs + 8 * (\\n - 14)(1)",
	".endr",
	"addi 1, 1, .Lframe",
	"ld 0, 16(1)",
	"mtlr 0",
	"lwz 0, 8(1)",
	"mtcrf 255, 0",
	"blr",
	".size kvm_run_with_user_regs, . - kvm_run_with_user_regs",
	".text",
	VSR = const offset_of!(UserRegs, vsr),
	VSCR = const offset_of!(UserRegs, vscr),
	FPSCR = const offset_of!(UserRegs, fpscr),
	CR = const offset_of!(UserRegs, cr),
	LR = const offset_of!(UserRegs, lr),
	CTR = const offset_of!(UserRegs, ctr),
	XER = const offset_of!(UserRegs, xer),
	TAR = const offset_of!(UserRegs, tar),
	DSCR = const offset_of!(UserRegs, dscr),
	VRSAVE = const offset_of!(UserRegs, vrsave),
	SPRG3 = const offset_of!(UserRegs, sprg3),
	AMR = const offset_of!(UserRegs, amr),
	GPR = const offset_of!(UserRegs, gpr),
	IOCTL = const libc::SYS_ioctl,
	RUN = const abi::KVM_RUN,
);

impl UserRegs {
	/// All zero.
	pub const fn zero() -> Self {
		Self {
			vsr: [0; 64],
			vscr: 0,
			fpscr: 0,
			cr: 0,
			lr: 0,
			ctr: 0,
			xer: 0,
			tar: 0,
			dscr: 0,
			vrsave: 0,
			sprg3: 0,
			amr: 0,
			gpr: [0; 32],
		}
	}

	/// Filled from a source of numbers, as far as a process can fill them.
	pub fn filled(mut next: impl FnMut() -> u64) -> Self {
		let mut regs = Self::zero();
		for vsr in &mut regs.vsr {
			*vsr = u128::from(next()) << 64 | u128::from(next());
		}
		// NJ and SAT.
		regs.vscr = u128::from(next() & 0x1_0001);
		// Sticky bits and the rounding mode; no exception is enabled.
		regs.fpscr = next() & 0x1ff9_ff03 & !0x6000_0000;
		regs.cr = next() & 0xffff_ffff;
		regs.lr = next();
		regs.ctr = next();
		regs.xer = next() & 0xe000_0000;
		regs.tar = next();
		regs.dscr = next() & 0x1ff_ffff;
		regs.vrsave = next() & 0xffff_ffff;
		for gpr in &mut regs.gpr {
			*gpr = next();
		}
		regs
	}
}

/// SPRG3 and AMR as they are on this CPU.
pub fn read_only() -> (u64, u64) {
	let (sprg3, amr);
	// SAFETY: reading them has no effect.
	unsafe {
		core::arch::asm!("mfspr {}, 259", "mfspr {}, 13", out(reg) sprg3, out(reg) amr);
	}
	(sprg3, amr)
}
