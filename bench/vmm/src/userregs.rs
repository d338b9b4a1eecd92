// SPDX-License-Identifier: GPL-2.0-only
//! Whose registers KVM_RUN returns with.
//!
//! Around one KVM_RUN every register of the calling process is filled and read again:
//! GPRs, CR, LR, CTR, XER, FP, VMX and VSX with FPSCR and VSCR, VRSAVE, TAR, DSCR, and
//! SPRG3 (what getcpu() reads) and AMR, which a process only reads. A system call may
//! lose the volatile ones, and Linux then clears them: so these may be zero, too, but not
//! what a guest had.
//!
//! What a process doesn't have here: TIDR, PSPB, IAMR and UAMOR, which are for kernels;
//! event-based branches, which Linux gives to users of perf events only; transactional
//! memory, which Linux gives to no process of a POWER9 host that needs TM assistance. PPR
//! is reset by every system call.

use core::arch::global_asm;
use core::mem::offset_of;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proto::regs::Pattern;
use proto::round::{Kind, Plan};
use proto::{Guest, Path};

use crate::machine::{Failure, Step};
use crate::rounds::{self, Arena, OneCpu};
use crate::timer::Timer;
use crate::{abi, host};

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

/// Groups of registers, by what becomes of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
	/// Non-volatile GPRs, LR, CR2 to CR4.
	Integer,
	/// Volatile GPRs, CTR, XER, the rest of CR.
	Volatile,
	/// FP, VMX and VSX registers.
	Vectors,
	/// FPSCR, VSCR.
	VectorStatus,
	/// VRSAVE.
	Vrsave,
	/// TAR.
	Tar,
	/// DSCR.
	Dscr,
	/// SPRG3.
	Sprg3,
	/// AMR.
	Amr,
}

impl fmt::Display for Class {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(match self {
			Self::Integer => "GPRs, LR or CR",
			Self::Volatile => "volatile GPRs, CTR or XER",
			Self::Vectors => "FP, VMX or VSX",
			Self::VectorStatus => "FPSCR or VSCR",
			Self::Vrsave => "VRSAVE",
			Self::Tar => "TAR",
			Self::Dscr => "DSCR",
			Self::Sprg3 => "SPRG3",
			Self::Amr => "AMR",
		})
	}
}

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

	/// Which registers are not what they were, if `self` was found where `before` was
	/// filled in.
	pub fn lost(&self, before: &Self) -> Vec<Class> {
		const CR_VOLATILE: u64 = 0xff00_0fff;
		let own_or_zero = |after: u64, before: u64| after == before || after == 0;
		let volatile = (6..=12).all(|n| own_or_zero(self.gpr[n], before.gpr[n]))
			&& own_or_zero(self.ctr, before.ctr)
			&& own_or_zero(self.xer, before.xer)
			// CR0 says whether there was an error.
			&& own_or_zero(
				self.cr & CR_VOLATILE & 0x0fff_ffff,
				before.cr & CR_VOLATILE & 0x0fff_ffff,
			);
		let integer = (14..32).all(|n| self.gpr[n] == before.gpr[n])
			&& self.lr == before.lr
			&& self.cr & !CR_VOLATILE == before.cr & !CR_VOLATILE;
		[
			(integer, Class::Integer),
			(volatile, Class::Volatile),
			(self.vsr == before.vsr, Class::Vectors),
			(
				self.fpscr == before.fpscr && self.vscr == before.vscr,
				Class::VectorStatus,
			),
			(self.vrsave == before.vrsave, Class::Vrsave),
			(self.tar == before.tar, Class::Tar),
			(self.dscr == before.dscr, Class::Dscr),
			(self.sprg3 == before.sprg3, Class::Sprg3),
			(self.amr == before.amr, Class::Amr),
		]
		.into_iter()
		.filter_map(|(kept, class)| (!kept).then_some(class))
		.collect()
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

/// What the C path is known to lose (see the README).
const LOST_BY_C: [Class; 2] = [Class::Vectors, Class::VectorStatus];

/// KVM_RUN, again and again, of a guest that changes every register, with values of our
/// own in all registers: which come back? Beside another thread that wants the CPU, too.
pub fn kept(guest: Guest, path: Path, busy: bool, seed: u64) -> Result<String, Failure> {
	let runs_wanted = if busy { 24 } else { 200 };
	host::choose(path).map_err(Failure::Unsupported)?;
	let _one_cpu = OneCpu::new(0)?;
	let mut arena = Arena::new(guest)?;
	// What isn't checked here may be off; the guest's timer is then late.
	let plan = Plan {
		kinds: rounds::kinds(guest) & !Kind::Decrementer.bit(),
		pmu: 0,
		dec_tolerance: u64::MAX >> 8,
		dec_slip: 0,
		longest: u64::MAX >> 8,
		table_is_ours: 1,
	};
	// H_PROD's CFAR isn't known here, so the guest's own complaints are of no interest.
	arena.start(rounds::command(u64::MAX, seed, 0), plan);
	let stop = AtomicBool::new(false);
	let mut pattern = Pattern::new(seed);
	let lost = std::thread::scope(|scope| {
		if busy {
			scope.spawn(|| {
				while !stop.load(Ordering::Relaxed) {
					std::hint::spin_loop();
				}
			});
		}
		let result = (|| {
			let interval = Duration::from_millis(if busy { 12 } else { 2 });
			let _timer = Timer::every(interval, interval)?;
			let mut lost: BTreeMap<Class, u64> = BTreeMap::new();
			let (mut runs, mut left) = (0, runs_wanted);
			while left > 0 {
				let mut before = UserRegs::filled(|| pattern.next());
				(before.sprg3, before.amr) = read_only();
				let (step, after) = arena.machine.step_with_user_regs(&mut before)?;
				// Beside a busy thread, what matters is runs that lasted until a signal.
				if !busy || matches!(step, Step::Interrupted) {
					left -= 1;
				}
				runs += 1;
				for class in after.lost(&before) {
					*lost.entry(class).or_default() += 1;
				}
				if arena.serve(step)?.is_some() {
					return Err(Failure::Wrong("the rounds ended by themselves".into()));
				}
				if busy && runs > 2000 * runs_wanted {
					return Err(Failure::Wrong("no signal ended a run".into()));
				}
			}
			Ok((runs, lost))
		})();
		stop.store(true, Ordering::Relaxed);
		result
	});
	let (runs, lost) = lost?;
	let list: Vec<String> = lost
		.iter()
		.map(|(class, times)| format!("{class} {times} times"))
		.collect();
	let list = list.join(", ");
	let known = path == Path::C && lost.keys().all(|class| LOST_BY_C.contains(class));
	match (lost.is_empty(), known) {
		(true, _) if path == Path::C && busy => Err(Failure::Wrong(format!(
			"the C path's known bug did not show in {runs} runs"
		))),
		(true, _) => Ok(format!("unchanged after {runs} runs")),
		(false, true) => Ok(format!(
			"the C path's known bug: of {runs} runs, lost {list}"
		)),
		(false, false) => Err(Failure::Wrong(format!("of {runs} runs, lost {list}"))),
	}
}
