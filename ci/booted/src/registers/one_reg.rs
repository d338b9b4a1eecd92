// SPDX-License-Identifier: GPL-2.0-only
//! Every register that KVM_GET_ONE_REG and KVM_SET_ONE_REG know: what userspace sets is what
//! the guest reads, and what the guest writes is what userspace gets.
//!
//! The guest runs a few instructions for each register: it reads the register, exits to
//! userspace, writes the register, does a NULL hcall (which the fast path answers), reads the
//! register again and exits. A register that a guest cannot reach has to hold its value over
//! the same exits.
//!
//! [`REGISTERS`] has all of them, and [`EXCEPTIONS`] what is known to be different, with the
//! reason. An exception that does not show fails the test as well.

use std::collections::BTreeSet;
use std::io::Error;
use std::time::{Duration, Instant};

use hcall::Number;
use protocol::regs::Pattern;
use protocol::{Column, Command, GuestMode, Job, map, private};
use vmm::abi::{
	KVM_REG_PPC_DEC_EXPIRY, KVM_REG_PPC_TB_OFFSET, KVM_REG_PPC_U32, KVM_REG_PPC_U64,
	KVM_REG_PPC_U128,
};
use vmm::machine::{Failure, Machine, Stop};
use vmm::timer::Timer;

use super::code::{Code, ISYNC, hcall, ld, li, mfspr, mr, mtspr, std};
use crate::common::{Verdict, choose, machine, wrong};

/// Memory that an instruction reaches without a base register.
const SCRATCH: u64 = map::SAVE + 0x800;
/// Longer than the instructions take, in the time of the emulated host.
const LIMIT: Duration = Duration::from_secs(10);
/// Ticks of the timebase that a value may be off where time passes: 100 ms.
const SLACK: u64 = 51_200_000;

const U32: u64 = KVM_REG_PPC_U32;
const U64: u64 = KVM_REG_PPC_U64;
const U128: u64 = KVM_REG_PPC_U128;
/// Registers of a suspended transaction have numbers of their own.
const TM: u64 = 0x8000_0000;

/// How the guest reaches a register.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
	/// By mfspr and mtspr.
	Spr(u32),
	/// By mfspr. A write is ignored or privileged.
	ReadSpr(u32),
	/// By mfspr; the register counts up.
	Counter(u32),
	/// The register is the offset of the guest's timebase.
	TbOffset,
	/// The register is the time at which DEC expires.
	DecExpiry,
	/// A floating point register.
	Fpr(u32),
	/// A vector-scalar register.
	Vsr(u32),
	/// FPSCR.
	Fpscr,
	/// VSCR.
	Vscr,
	/// Not at all: userspace sets it, the guest runs, userspace gets it.
	Kept,
	/// The kernel answers EINVAL or ENXIO to both requests.
	Refused,
	/// Userspace gets this value and can set no other.
	Constant(u64),
}

use Access::{Constant, Counter, Fpscr, Kept, ReadSpr, Refused, Spr, Vscr};

/// A register of the kernel's `asm/kvm.h`.
struct Register {
	name: &'static str,
	id: u64,
	/// How many there are, with numbers one after the other.
	count: u64,
	access: Access,
	/// Bits that are tried.
	mask: u64,
	/// Bits that are always set.
	set: u64,
}

const fn reg(name: &'static str, id: u64, access: Access, mask: u64) -> Register {
	Register {
		name,
		id,
		count: 1,
		access,
		mask,
		set: 0,
	}
}

const fn with(name: &'static str, id: u64, access: Access, mask: u64, set: u64) -> Register {
	let mut register = reg(name, id, access, mask);
	register.set = set;
	register
}

const fn many(name: &'static str, id: u64, count: u64, access: Access, mask: u64) -> Register {
	let mut register = reg(name, id, access, mask);
	register.count = count;
	register
}

const ALL: u64 = u64::MAX;
const WORD: u64 = 0xffff_ffff;

/// Every register, in the order of its number.
const REGISTERS: &[Register] = &[
	reg("HIOR", U64 | 0x01, Constant(0), 0),
	// Of BookE.
	many("IAC1 to DAC2", U64 | 0x02, 6, Refused, 0),
	// Of POWER8: KVM keeps a value that no POWER9 has.
	reg("DABR", U64 | 0x08, Kept, ALL),
	reg("DSCR", U64 | 0x09, Spr(17), 0x1ff_ffff),
	reg("PURR", U64 | 0x0a, Counter(309), ALL >> 8),
	reg("SPURR", U64 | 0x0b, Counter(308), ALL >> 8),
	reg("DAR", U64 | 0x0c, Spr(19), ALL),
	reg("DSISR", U32 | 0x0d, Spr(18), WORD),
	// Key 0 belongs to the pages of the code.
	reg("AMR", U64 | 0x0e, Spr(29), ALL >> 2),
	reg("UAMOR", U64 | 0x0f, Spr(157), ALL),
	// Frozen (FC), and without the bits that ask for interrupts.
	with("MMCR0", U64 | 0x10, Spr(795), 0x5800_1f00, 0x8000_0000),
	reg("MMCR1", U64 | 0x11, Spr(798), ALL),
	reg("MMCRA", U64 | 0x12, Spr(786), 0x7fff_fffe),
	reg("MMCR2", U64 | 0x13, Spr(785), ALL),
	reg("MMCRS", U64 | 0x14, Kept, ALL),
	reg("SIAR", U64 | 0x15, Spr(796), ALL),
	reg("SDAR", U64 | 0x16, Spr(797), ALL),
	reg("SIER", U64 | 0x17, Spr(784), ALL),
	reg("PMC1", U32 | 0x18, Spr(787), WORD),
	reg("PMC2", U32 | 0x19, Spr(788), WORD),
	reg("PMC3", U32 | 0x1a, Spr(789), WORD),
	reg("PMC4", U32 | 0x1b, Spr(790), WORD),
	reg("PMC5", U32 | 0x1c, Spr(791), WORD),
	reg("PMC6", U32 | 0x1d, Spr(792), WORD),
	many("PMC7 and PMC8", U32 | 0x1e, 2, Kept, WORD),
	many("FPR", U64 | 0x20, 32, Access::Fpr(0), ALL),
	many("VR", U128 | 0x40, 32, Access::Vsr(32), ALL),
	many("VSR", U128 | 0x60, 32, Access::Vsr(0), ALL),
	// Bits that do not follow from others, without those that enable an exception.
	reg("FPSCR", U64 | 0x80, Fpscr, 0x9e07_f003),
	with("VSCR", U32 | 0x81, Vscr, 1, 0x1_0000),
	// Addresses of memory: see `value`.
	reg("VPA_ADDR", U64 | 0x82, Kept, 0),
	reg("VPA_SLB", U128 | 0x83, Kept, 0),
	reg("VPA_DTL", U128 | 0x84, Kept, 0),
	many("EPCR to TSR", U32 | 0x85, 6, Refused, 0),
	reg("DEBUG_INST", U32 | 0x8b, Constant(0), 0),
	many("MAS0 and MAS1", U32 | 0x8c, 2, Refused, 0),
	// Without an interrupt controller.
	reg("ICP_STATE", U64 | 0x8c, Refused, 0),
	reg("VP_STATE", U128 | 0x8d, Refused, 0),
	many("MAS2 and MAS7_3", U64 | 0x8e, 2, Refused, 0),
	many("MAS4 to EPTCFG", U32 | 0x90, 12, Refused, 0),
	reg(
		"TB_OFFSET",
		KVM_REG_PPC_TB_OFFSET,
		Access::TbOffset,
		0xffff << 24,
	),
	many("SPMC1 and SPMC2", U32 | 0x9d, 2, Kept, WORD),
	reg("IAMR", U64 | 0x9f, Spr(61), ALL >> 2),
	reg("TFHAR", U64 | 0xa0, Spr(128), ALL & !3),
	reg("TFIAR", U64 | 0xa1, Spr(129), ALL),
	reg("TEXASR", U64 | 0xa2, Spr(130), ALL),
	// SCV, MSGP, TAR, EBB, DSCR: they matter in problem state only.
	reg("FSCR", U64 | 0xa3, Spr(153), 0x1584),
	reg("PSPB", U32 | 0xa4, Spr(159), WORD),
	reg("EBBHR", U64 | 0xa5, Spr(804), ALL & !3),
	reg("EBBRR", U64 | 0xa6, Spr(805), ALL & !3),
	reg("BESCR", U64 | 0xa7, Spr(806), ALL),
	reg("TAR", U64 | 0xa8, Spr(815), ALL),
	// A doorbell, which stays pending with interrupts disabled.
	reg("DPDES", U64 | 0xa9, Kept, 1),
	reg("DAWR", U64 | 0xaa, Kept, ALL),
	// Without any bit that enables the match, and without HYP.
	reg("DAWRX", U64 | 0xab, Kept, 0x3f80),
	// Disabled: the low two bits.
	reg("CIABR", U64 | 0xac, Kept, ALL & !3),
	reg("IC", U64 | 0xad, Counter(848), ALL >> 8),
	reg("VTB", U64 | 0xae, Counter(849), ALL >> 8),
	reg("CSIGR", U64 | 0xaf, Kept, ALL),
	reg("TACR", U64 | 0xb0, Kept, ALL),
	reg("TCSCR", U64 | 0xb1, Kept, ALL),
	// In real mode only: see `masks`.
	reg("PID", U64 | 0xb2, Spr(48), 0xf_ffff),
	reg("ACOP", U64 | 0xb3, Kept, ALL),
	reg("VRSAVE", U32 | 0xb4, Spr(256), WORD),
	// LD and DPFD: see `value`.
	reg("LPCR", U32 | 0xb5, Kept, 0x2_0000),
	reg("LPCR_64", U64 | 0xb5, Kept, 0x0070_0000_0000_0000),
	// Priorities 2 (low) and 3 of 8: what a kernel of a guest may set.
	with("PPR", U64 | 0xb6, Spr(896), 1 << 50, 2 << 50),
	// See `value`.
	reg("ARCH_COMPAT", U32 | 0xb7, Kept, 0),
	reg("DABRX", U32 | 0xb8, Kept, 0x3),
	reg("WORT", U64 | 0xb9, Kept, ALL),
	reg("SPRG9", U64 | 0xba, Refused, 0),
	reg("DBSR", U32 | 0xbb, Refused, 0),
	reg("TIDR", U64 | 0xbc, Spr(144), 0xffff),
	reg("PSSCR", U64 | 0xbd, ReadSpr(823), 0xf000_0000_0000_03ff),
	reg("DEC_EXPIRY", KVM_REG_PPC_DEC_EXPIRY, Access::DecExpiry, 0),
	// 0: a vcpu that never runs.
	reg("ONLINE", U32 | 0xbf, Kept, 0),
	reg("PTCR", U64 | 0xc0, Kept, 0),
	// Of POWER10.
	many("MMCR3 to DAWRX1", U64 | 0xc1, 5, Kept, ALL & !7),
	many("DEXCR to HASHPKEYR", U64 | 0xc6, 3, Kept, ALL),
	reg("a number after the last", U64 | 0xc9, Refused, 0),
	many("TM_GPR", U64 | TM, 32, Kept, ALL),
	many("TM_VSR", U128 | TM | 0x20, 64, Kept, ALL),
	reg("TM_CR", U64 | TM | 0x60, Kept, WORD),
	reg("TM_LR", U64 | TM | 0x61, Kept, ALL),
	reg("TM_CTR", U64 | TM | 0x62, Kept, ALL),
	reg("TM_FPSCR", U64 | TM | 0x63, Kept, WORD),
	reg("TM_AMR", U64 | TM | 0x64, Kept, ALL),
	reg("TM_PPR", U64 | TM | 0x65, Kept, ALL),
	reg("TM_VRSAVE", U64 | TM | 0x66, Kept, WORD),
	with("TM_VSCR", U32 | TM | 0x67, Kept, 1, 0x1_0000),
	reg("TM_DSCR", U64 | TM | 0x68, Kept, ALL),
	reg("TM_TAR", U64 | TM | 0x69, Kept, ALL),
	reg("TM_XER", U64 | TM | 0x6a, Kept, WORD),
	reg("a number after the last of TM", U64 | TM | 0x6b, Refused, 0),
];

/// What is known to be different.
struct Exception {
	register: &'static str,
	/// What differs: see [`Finding`].
	finding: Finding,
	/// On these paths; always in all guest modes.
	paths: &'static [Column],
	/// Why that is so. If it is a fault, also where it is going to be fixed.
	reason: &'static str,
}

const EVERY_PATH: &[Column] = &[Column::C, Column::RustFull, Column::RustFast];

const fn except(register: &'static str, finding: Finding, reason: &'static str) -> Exception {
	Exception {
		register,
		finding,
		paths: EVERY_PATH,
		reason,
	}
}

const VSCR: &str = "the kernel takes the word of VSCR that is right for big-endian only";
const TM_VSCR: &str = "the kernel sets VSCR instead";
const TM_SPRS: &str = "KVM loads the SPRs of TM for guests that asked for TM by an interrupt that \
                       QEMU does not take";
const EBB_SPRS: &str = "KVM loads the SPRs of EBB for guests that asked for EBB by an interrupt \
                        that QEMU does not take";
const PSSCR: &str = "QEMU has no PSSCR for a guest";
const ONLINE: &str = "KVM_RUN makes a vcpu online";

const EXCEPTIONS: &[Exception] = &[
	except("VSCR", Finding::GuestReadsOther, VSCR),
	except("VSCR", Finding::GetsOtherAfterRun, VSCR),
	except("VSCR", Finding::GetsOtherThanWritten, VSCR),
	except("TM_VSCR", Finding::GetsOther, TM_VSCR),
	except("TM_VSCR", Finding::GetsOtherAfterRun, TM_VSCR),
	except("TFHAR", Finding::GuestReadsOther, TM_SPRS),
	except("TFHAR", Finding::GetsOtherThanWritten, TM_SPRS),
	except("TFIAR", Finding::GuestReadsOther, TM_SPRS),
	except("TFIAR", Finding::GetsOtherThanWritten, TM_SPRS),
	except("TEXASR", Finding::GuestReadsOther, TM_SPRS),
	except("TEXASR", Finding::GetsOtherThanWritten, TM_SPRS),
	except("EBBHR", Finding::GuestReadsOther, EBB_SPRS),
	except("EBBHR", Finding::GetsOtherThanWritten, EBB_SPRS),
	except("EBBRR", Finding::GuestReadsOther, EBB_SPRS),
	except("EBBRR", Finding::GetsOtherThanWritten, EBB_SPRS),
	except("BESCR", Finding::GuestReadsOther, EBB_SPRS),
	except("BESCR", Finding::GetsOtherThanWritten, EBB_SPRS),
	except("PSSCR", Finding::GuestReadsOther, PSSCR),
	except("PSSCR", Finding::GetsOtherAfterRun, PSSCR),
	except("ONLINE", Finding::GetsOtherAfterRun, ONLINE),
];

/// What differs from what is set.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Finding {
	/// Userspace cannot set it.
	NotSet,
	/// Userspace gets another value at once.
	GetsOther,
	/// The guest reads another value.
	GuestReadsOther,
	/// Userspace gets another value after the guest ran.
	GetsOtherAfterRun,
	/// What the guest wrote is lost at the next hcall.
	GuestLosesWrite,
	/// Userspace gets another value than the guest wrote.
	GetsOtherThanWritten,
	/// The kernel knows it.
	NotRefused,
}

impl Access {
	/// Instructions that read the register into r4, and r6 if it is longer.
	fn read(self) -> Vec<u32> {
		let scratch = SCRATCH as u32;
		match self {
			Self::Spr(spr) | Self::ReadSpr(spr) | Self::Counter(spr) => vec![mfspr(4, spr)],
			Self::TbOffset => vec![mfspr(4, 268)],
			Self::DecExpiry => vec![mfspr(4, 22), mfspr(6, 268)],
			// stfd
			Self::Fpr(n) => vec![54 << 26 | n << 21 | scratch, ld(4, SCRATCH)],
			// stxv
			Self::Vsr(n) => vec![
				61 << 26 | (n & 31) << 21 | scratch | (n >> 5) << 3 | 5,
				ld(4, SCRATCH),
				ld(6, SCRATCH + 8),
			],
			// mffs and stfd
			Self::Fpscr => vec![63 << 26 | 583 << 1, 54 << 26 | scratch, ld(4, SCRATCH)],
			// mfvscr and stxv: the register is in the first word, in memory order.
			Self::Vscr => vec![
				4 << 26 | 1540,
				61 << 26 | scratch | 1 << 3 | 5,
				ld(4, SCRATCH),
			],
			Self::Kept | Self::Refused | Self::Constant(_) => vec![li(4, 0)],
		}
	}

	/// Instructions that write r5, and r7 if it is longer, into the register.
	fn write(self) -> Vec<u32> {
		let scratch = SCRATCH as u32;
		match self {
			Self::Spr(spr) => vec![mtspr(spr, 5), ISYNC],
			Self::DecExpiry => vec![mtspr(22, 5)],
			// lfd
			Self::Fpr(n) => vec![std(5, SCRATCH), 50 << 26 | n << 21 | scratch],
			// lxv
			Self::Vsr(n) => vec![
				std(5, SCRATCH),
				std(7, SCRATCH + 8),
				61 << 26 | (n & 31) << 21 | scratch | (n >> 5) << 3 | 1,
			],
			// lfd and mtfsf with all fields
			Self::Fpscr => vec![
				std(5, SCRATCH),
				50 << 26 | scratch,
				63 << 26 | 1 << 25 | 711 << 1,
			],
			// lxv and mtvscr
			Self::Vscr => vec![
				std(5, SCRATCH),
				li(7, 0),
				std(7, SCRATCH + 8),
				61 << 26 | scratch | 1 << 3 | 1,
				4 << 26 | 1604,
			],
			_ => vec![],
		}
	}

	fn is_written(self) -> bool {
		!self.write().is_empty()
	}

	/// The register `index` after the first.
	fn number(self, index: u64) -> Self {
		match self {
			Self::Fpr(n) => Self::Fpr(n + index as u32),
			Self::Vsr(n) => Self::Vsr(n + index as u32),
			other => other,
		}
	}
}

/// The instructions for a register.
fn code(access: Access) -> Code {
	let mut code = Code::new();
	let read = |code: &mut Code| {
		code.push([li(6, 0)]);
		code.push(access.read());
	};
	code.push(hcall(Number::NULL));
	read(&mut code);
	code.push(hcall(private::UNKNOWN));
	code.push(access.write());
	read(&mut code);
	code.push([mr(14, 4), mr(15, 6)]);
	code.push(hcall(Number::NULL));
	read(&mut code);
	code.push([mr(5, 14), mr(7, 15)]);
	code.push(hcall(private::UNKNOWN));
	code
}

/// The guest that runs the instructions.
struct Bench {
	machine: Machine,
	guest: GuestMode,
	findings: BTreeSet<(String, Finding)>,
	/// The first of each register, in words.
	told: Vec<String>,
}

pub fn timebase() -> u64 {
	let tb;
	// SAFETY: reading the timebase has no effect.
	unsafe { core::arch::asm!("mftb {}", out(reg) tb, options(nomem, nostack)) };
	tb
}

fn is_refusal(error: &Error) -> bool {
	[Some(libc::EINVAL), Some(libc::ENXIO)].contains(&error.raw_os_error())
}

impl Bench {
	fn new(guest: GuestMode) -> Result<Self, Failure> {
		let mut machine = machine(guest, &[Number::NULL])?;
		// The payload registers its VPA, and turns the translation of a hash guest on.
		let nothing = Command {
			job: Job::PROBE,
			..Command::default()
		};
		machine.perform(nothing, LIMIT, |_| {})?;
		// The PMU is the guest's, so that KVM switches it.
		let in_use = map::VPA + map::VPA_PMCREGS_IN_USE;
		machine.memory().write(in_use, 1_u8);
		Ok(Self {
			machine,
			guest,
			findings: BTreeSet::new(),
			told: vec![],
		})
	}

	/// Runs to the next hcall for userspace; gives r4 to r7.
	fn run(&mut self) -> Result<[u64; 4], Failure> {
		let end = Instant::now() + LIMIT;
		let _timer = Timer::every(Duration::from_millis(200), LIMIT)?;
		loop {
			match self.machine.step()? {
				Stop::Call((private::UNKNOWN, args)) => {
					return Ok([args[0], args[1], args[2], args[3]]);
				}
				Stop::Interrupted if Instant::now() < end => {}
				Stop::Interrupted => return wrong("the guest does not come back".to_owned()),
				_ => return wrong("the guest does something else".to_owned()),
			}
		}
	}

	fn find(&mut self, name: &str, finding: Finding, expected: u128, got: u128) {
		if self.findings.insert((name.to_owned(), finding)) {
			self.told.push(format!(
				"{name}: {finding:?}: {got:#x} instead of {expected:#x}"
			));
		}
	}

	/// A value to try.
	fn value(
		&mut self,
		register: &Register,
		id: u64,
		random: &mut Pattern,
	) -> Result<u128, Failure> {
		let older = random.next() & 1 == 0;
		let mut bits = || random.next() & register.mask | register.set;
		let low = bits();
		Ok(match register.name {
			"VPA_ADDR" => map::VPA.into(),
			// The address, and the bytes.
			"VPA_SLB" => u128::from(map::PEER_VPA) | 0x80_u128 << 64,
			"VPA_DTL" => u128::from(map::PEER_VPA + 0x400) | 0x60_u128 << 64,
			// As POWER9, and as POWER8.
			"ARCH_COMPAT" if older => 0x0f00_0004,
			"ARCH_COMPAT" => 0x0f00_0005,
			"DEC_EXPIRY" => {
				let offset: u128 = self.machine.vcpu().one_reg(KVM_REG_PPC_TB_OFFSET)?;
				(u128::from(timebase()) + offset + (1 << 28) + u128::from(low & 0xffff))
					& u128::from(u64::MAX)
			}
			"LPCR" | "LPCR_64" => {
				let now = self.machine.vcpu().one_reg(id)?;
				now ^ u128::from(register.mask)
			}
			_ if id & U128 == U128 => u128::from(low) | u128::from(bits()) << 64,
			_ => low.into(),
		})
	}

	/// Tries one register.
	fn register(
		&mut self,
		register: &Register,
		index: u64,
		random: &mut Pattern,
	) -> Result<(), Failure> {
		let (id, access) = (register.id + index, register.access.number(index));
		let name = register.name;
		if access == Refused {
			let vcpu = self.machine.vcpu();
			let refused = [vcpu.one_reg(id).map(drop), vcpu.set_one_reg(id, 0)];
			if !refused.iter().all(|r| r.as_ref().is_err_and(is_refusal)) {
				self.find(name, Finding::NotRefused, 0, id.into());
			}
			return Ok(());
		}
		let old = self.machine.vcpu().one_reg(id)?;
		if let Constant(_) = access {
			let refused = self.machine.vcpu().set_one_reg(id, !old & 0xffff_ffff);
			if !refused.is_err_and(|error| is_refusal(&error)) {
				self.find(name, Finding::NotRefused, 0, id.into());
			}
			return Ok(());
		}
		// No other address space while translation is on.
		let can_change =
			register.name != "PID" || matches!(self.guest, GuestMode::Real | GuestMode::HashReal);
		let first = if can_change {
			self.value(register, id, random)?
		} else {
			old
		};
		let mut second = first;
		let varies = can_change && access.is_written() && register.mask != 0;
		while varies && second == first {
			second = self.value(register, id, random)?;
		}
		code(access).start(&mut self.machine)?;
		let host = timebase();
		if register.name == "PURR" {
			// QEMU has one register for both, and KVM loads this one last.
			self.machine.vcpu().set_one_reg(U64 | 0x0b, first)?;
		}
		if let Err(error) = self.machine.vcpu().set_one_reg(id, first) {
			let errno = error.raw_os_error().unwrap_or(0);
			self.find(name, Finding::NotSet, first, errno as u128);
			return Ok(());
		}
		let at_once = self.machine.vcpu().one_reg(id)?;
		if !is_close(access, at_once, first) {
			self.find(name, Finding::GetsOther, first, at_once);
		}
		let [low, _, high, _] = self.run()?;
		let got = self.machine.vcpu().one_reg(id)?;
		let read = u128::from(low) | u128::from(high) << 64;
		let sees = match access {
			Kept => first,
			Access::TbOffset => {
				// What has to be added to the host's time to give the guest's.
				let passed = timebase().wrapping_sub(host);
				let since = low.wrapping_sub(host).wrapping_sub(first as u64);
				if since <= passed {
					first
				} else {
					low.wrapping_sub(host).into()
				}
			}
			Access::DecExpiry => {
				// DEC has 32 bits or more; the guest's time is beside it.
				let expiry = high.wrapping_add(i64::from(low as i32) as u64);
				u128::from(expiry)
			}
			_ => read,
		};
		if !is_close(access, sees, first) {
			self.find(name, Finding::GuestReadsOther, first, sees);
		}
		if !is_close(access, got, first) {
			self.find(name, Finding::GetsOtherAfterRun, first, got);
		}
		// DEC is written, not the time of its end.
		let written = match access {
			Access::DecExpiry => 1 << 27,
			_ => second,
		};
		self.machine.vcpu().change_args(|args| {
			args[1] = written as u64;
			args[3] = (written >> 64) as u64;
		});
		let [low, before_low, high, before_high] = self.run()?;
		let got = self.machine.vcpu().one_reg(id)?;
		let read = u128::from(low) | u128::from(high) << 64;
		let before = u128::from(before_low) | u128::from(before_high) << 64;
		if access.is_written() {
			let (read, before) = match access {
				Access::DecExpiry => {
					let expiry = |dec: u64, tb: u64| {
						u128::from(tb.wrapping_add(i64::from(dec as i32) as u64))
					};
					(expiry(low, high), expiry(before_low, before_high))
				}
				_ => (read, before),
			};
			// The register may not have all bits: what counts is what it held.
			if !is_close(access, read, before) {
				self.find(name, Finding::GuestLosesWrite, before, read);
			}
			if !is_close(access, got, before) {
				self.find(name, Finding::GetsOtherThanWritten, before, got);
			}
			if varies && before == first {
				self.find(name, Finding::GuestLosesWrite, second, before);
			}
		} else if !is_close(access, got, first) {
			self.find(name, Finding::GetsOtherAfterRun, first, got);
		}
		// Not what would end the guest, or leave a doorbell pending.
		self.machine.vcpu().set_one_reg(id, old)?;
		Ok(())
	}
}

/// Is that value right where the other was set?
fn is_close(access: Access, got: u128, set: u128) -> bool {
	match access {
		Counter(_) => got.wrapping_sub(set) <= SLACK.into(),
		Access::DecExpiry => {
			let off = (got as u64).wrapping_sub(set as u64) as i64;
			off.unsigned_abs() <= SLACK
		}
		_ => got == set,
	}
}

/// Every register, on one path.
pub fn all(guest: GuestMode, path: Column, seed: u64) -> Verdict {
	choose(path)?;
	let mut random = Pattern::new(seed);
	let mut bench = Bench::new(guest)?;
	let mut count = 0;
	for register in REGISTERS {
		for index in 0..register.count {
			bench
				.register(register, index, &mut random)
				.map_err(|failure| crate::common::named(failure, register.name))?;
			count += 1;
		}
	}
	let mut unexpected = bench.told.clone();
	let mut known = 0;
	for exception in EXCEPTIONS.iter().filter(|one| one.paths.contains(&path)) {
		let key = (exception.register.to_owned(), exception.finding);
		if bench.findings.contains(&key) {
			known += 1;
			let start = format!("{}: {:?}:", exception.register, exception.finding);
			unexpected.retain(|told| !told.starts_with(&start));
		} else {
			unexpected.push(format!(
				"{}: no longer {:?}: take the exception out ({})",
				exception.register, exception.finding, exception.reason
			));
		}
	}
	if unexpected.is_empty() {
		Ok(format!("{count} registers, {known} known exceptions"))
	} else {
		wrong(unexpected.join("; "))
	}
}
