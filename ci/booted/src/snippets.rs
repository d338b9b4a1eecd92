// SPDX-License-Identifier: GPL-2.0-only
//! Tests whose guests are a few instructions, without the payload.
//!
//! The code is assembled into this program and copied to guest memory, so it has to be
//! position independent. Guests run in real mode, and have their interrupt vectors at 0.

use core::arch::global_asm;
use core::slice;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use hcall::Number;
use powerpc::{Lpcr, Msr};
use protocol::{Column, private};
use vmm::kvm::{Exit, Vcpu, Vm};
use vmm::machine::Failure;
use vmm::{abi, host, timer};

use crate::common::{Verdict, choose, wrong};

/// Guest memory.
const RAM: u64 = 64 << 20;
/// Where code of a guest begins.
const CODE: u64 = 0x1_0000;
/// Longer than any of these guests takes.
const LIMIT: Duration = Duration::from_secs(30);
/// What a guest in real mode runs with.
const MSR: Msr = Msr::SF.union(Msr::ME).union(Msr::RI).union(Msr::LE);
/// Little-endian interrupts and the large decrementer (LPCR\[LD\]).
const LPCR: u64 = Lpcr::ILE.bits() | 1 << 17;

global_asm!(
	".pushsection .text.snippets, \"ax\"",
	// Counts an interrupt in the doubleword at SPRG3.
	".globl snippet_count",
	"snippet_count:",
	"mtspr 272, 3",
	"mtspr 273, 4",
	"mfspr 4, 275",
	"ld 3, 0(4)",
	"addi 3, 3, 1",
	"std 3, 0(4)",
	"mfspr 3, 272",
	"mfspr 4, 273",
	"rfid",
	".globl snippet_count_end",
	"snippet_count_end:",
	// An L1 that runs its L2 until told to stop. r14: struct hv_guest_state, r15: struct
	// pt_regs, r16: shared page, r17: ticks for the L2 each time.
	".globl snippet_l1",
	"snippet_l1:",
	"mtspr 275, 19",
	"lis 3, 0",
	"ori 3, 3, 0xf800", // H_SET_PARTITION_TABLE
	"mr 4, 18",
	"sc 1",
	"cmpdi 3, 0",
	"bne 3f",
	"2: mftb 5",
	"add 5, 5, 17",
	"std 5, {hdec_expiry}(14)",
	"lis 3, 0",
	"ori 3, 3, 0xf804", // H_ENTER_NESTED
	"mr 4, 14",
	"mr 5, 15",
	"sc 1",
	"ld 5, {entries}(16)",
	"addi 5, 5, 1",
	"std 5, {entries}(16)",
	"std 3, {code}(16)",
	"ld 5, {stop}(16)",
	"cmpdi 5, 0",
	"beq 2b",
	"3: mr 4, 3",
	"mr 3, 31",
	"sc 1",
	"b .",
	// Its other vcpu: sends r17 doorbells, and waits at most r20 ticks for each.
	".globl snippet_sender",
	"snippet_sender:",
	// Until the L2 ran once.
	"1: ld 5, {entries}(16)",
	"cmpdi 5, 2",
	"blt 1b",
	"lis 21, 0x2800", // directed privileged doorbell, thread 0
	"2: ld 6, {taken_l1}(16)",
	".long 0x7c00011c | 21 << 11", // msgsndp 21
	"mftb 7",
	"3: ld 5, {taken_l1}(16)",
	"cmpd 5, 6",
	"bne 4f",
	"mftb 5",
	"subf 5, 7, 5",
	"cmpd 5, 20",
	"blt 3b",
	"ld 5, {late}(16)",
	"addi 5, 5, 1",
	"std 5, {late}(16)",
	"4: addi 17, 17, -1",
	"cmpdi 17, 0",
	"bne 2b",
	"li 5, 1",
	"std 5, {stop}(16)",
	"mr 3, 31",
	"sc 1",
	"b .",
	// Sets DEC to r14, cedes, and says what DSCR is after its interrupt.
	".globl snippet_cede",
	"snippet_cede:",
	"mtspr 275, 19",
	"mtspr 17, 15",
	"mtspr 22, 14",
	"li 3, 0xe0", // H_CEDE
	"sc 1",
	"mfspr 4, 17",
	"ld 5, 0(19)",
	"mr 3, 31",
	"sc 1",
	"b .",
	".globl snippet_end",
	"snippet_end:",
	"b .",
	".popsection",
	hdec_expiry = const hv_state::HDEC_EXPIRY,
	entries = const shared::ENTRIES,
	code = const shared::CODE,
	stop = const shared::STOP,
	taken_l1 = const shared::TAKEN_L1,
	late = const shared::LATE,
);

// SAFETY: the labels of the code above.
unsafe extern "C" {
	static snippet_count: u8;
	static snippet_count_end: u8;
	static snippet_l1: u8;
	static snippet_sender: u8;
	static snippet_cede: u8;
	static snippet_end: u8;
}

/// The code between two labels.
fn code(start: &'static u8, end: &'static u8) -> &'static [u8] {
	let (start, end) = (&raw const *start, &raw const *end);
	// SAFETY: both labels are in the same piece of assembly, in this order.
	unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// Offsets in `struct hv_guest_state` (arch/powerpc/include/asm/hvcall.h), version 1.
mod hv_state {
	pub const VERSION: u64 = 0;
	pub const LPID_TOKEN: u64 = 8;
	pub const LPCR: u64 = 16;
	pub const TB_OFFSET: u64 = 56;
	pub const HDEC_EXPIRY: u64 = 88;
	/// SPRG0 to SPRG3.
	pub const SPRG: u64 = 176;
}

/// Offsets in `struct pt_regs` (arch/powerpc/include/asm/ptrace.h).
mod pt_regs {
	pub const NIP: u64 = 32 * 8;
	pub const MSR: u64 = 33 * 8;
}

/// Offsets in the page that the vcpus share with us.
mod shared {
	/// Doorbells that the L1 took.
	pub const TAKEN_L1: u64 = 0;
	/// Times that H_ENTER_NESTED returned.
	pub const ENTRIES: u64 = 8;
	/// What it returned last.
	pub const CODE: u64 = 16;
	/// The L1 is to stop.
	pub const STOP: u64 = 24;
	/// Doorbells that were not taken in time.
	pub const LATE: u64 = 32;
}

/// Where things are in an L1's memory.
mod at {
	pub const HV_STATE: u64 = 0x2_0000;
	pub const PT_REGS: u64 = 0x3_0000;
	pub const SHARED: u64 = 0x4_0000;
	pub const PARTITION_TABLE: u64 = 0x10_0000;
	/// 64 KiB.
	pub const ROOT: u64 = 0x11_0000;
	pub const PUD: u64 = 0x12_0000;
	pub const PMD: u64 = 0x13_0000;
	/// The L2's memory, one page of 2 MiB, which it has at address 0.
	pub const L2: u64 = 32 << 20;
	/// In the L2's memory: how many doorbells it took, and its code.
	pub const L2_COUNT: u64 = 0x8000;
	pub const L2_CODE: u64 = 0x9000;
}

/// The interrupt vectors of the decrementer and of a directed privileged doorbell.
const VECTOR_DECREMENTER: u64 = 0x900;
const VECTOR_DOORBELL: u64 = 0xa00;

/// Makes a vcpu that starts at `pc` in real mode.
fn vcpu(vm: &Vm, id: u64, pc: u64, gprs: &[(usize, u64)], msr: Msr) -> Result<Vcpu, Failure> {
	let vcpu = vm.create_vcpu(id)?;
	vcpu.enable_papr()?;
	vcpu.set_lpcr(LPCR)?;
	let mut regs = abi::Regs {
		pc,
		msr: msr.bits(),
		..abi::Regs::default()
	};
	for &(number, value) in gprs {
		regs.gpr[number] = value;
	}
	regs.gpr[31] = private::DONE.0;
	vcpu.set_regs(&regs)?;
	Ok(vcpu)
}

/// Runs until the guest says that it is done, and gives the hcall's arguments.
fn until_done(vcpu: &mut Vcpu) -> Result<[u64; 9], Failure> {
	let end = Instant::now() + LIMIT;
	let _alarm = timer::Timer::every(Duration::from_millis(200), LIMIT)?;
	loop {
		match vcpu.run()? {
			Exit::Hcall(private::DONE, args) => return Ok(args),
			Exit::Interrupted if Instant::now() < end => {}
			Exit::Interrupted => return Err("the guest is not done in time".to_owned().into()),
			other => return Err(format!("the vcpu stopped: {other:?}").into()),
		}
	}
}

/// An L1 gets the doorbells that its other vcpu sends while its L2 runs, and the L2 gets
/// none of them.
pub fn doorbell_of_l1(path: Column) -> Verdict {
	const DOORBELLS: u64 = 200;
	/// Ticks of the timebase.
	const MILLISECOND: u64 = 512_000;
	const LPID: u64 = 1;
	choose(path)?;
	host::allow_nesting().map_err(Failure::Unsupported)?;
	let vm = Vm::new(RAM)?;
	vm.enable_nesting()?;
	vm.set_threads(2)?;
	let memory = &vm.memory;
	// SAFETY: the labels exist for as long as the program runs.
	let (count, l1, all) = unsafe {
		(
			code(&snippet_count, &snippet_count_end),
			code(&snippet_count, &snippet_l1).len() as u64,
			code(&snippet_count, &snippet_end),
		)
	};
	// SAFETY: as above.
	let sender = unsafe { code(&snippet_count, &snippet_sender) }.len() as u64;
	memory.write_bytes(CODE, all);
	for memory_of in [0, at::L2] {
		memory.write_bytes(memory_of + VECTOR_DOORBELL, count);
	}
	// A branch to itself.
	memory.write(at::L2 + at::L2_CODE, u64::from(0x4800_0000_u32));
	write_l2_tables(&vm);
	memory.write(at::HV_STATE + hv_state::VERSION, 1_u64);
	memory.write(at::HV_STATE + hv_state::LPID_TOKEN, LPID);
	memory.write(at::HV_STATE + hv_state::LPCR, LPCR);
	memory.write(at::HV_STATE + hv_state::TB_OFFSET, 0_u64);
	memory.write(at::HV_STATE + hv_state::SPRG + 24, at::L2_COUNT);
	memory.write(at::PT_REGS + pt_regs::NIP, at::L2_CODE);
	memory.write(at::PT_REGS + pt_regs::MSR, (MSR | Msr::EE).bits());
	let mut first = vcpu(
		&vm,
		0,
		CODE + l1,
		&[
			(14, at::HV_STATE),
			(15, at::PT_REGS),
			(16, at::SHARED),
			(17, 20 * MILLISECOND),
			(18, at::PARTITION_TABLE),
			(19, at::SHARED + shared::TAKEN_L1),
		],
		MSR | Msr::EE,
	)?;
	let gprs = [(16, at::SHARED), (17, DOORBELLS), (20, 100 * MILLISECOND)];
	let mut second = vcpu(&vm, 1, CODE + sender, &gprs, MSR)?;
	let failed = AtomicBool::new(false);
	let (args, sent) = std::thread::scope(|scope| {
		let sending = scope.spawn(|| {
			let sent = until_done(&mut second);
			failed.store(sent.is_err(), Ordering::Relaxed);
			// In any case the L1 has to come to its end.
			vm.memory.write(at::SHARED + shared::STOP, 1_u64);
			sent
		});
		let args = until_done(&mut first);
		vm.memory.write(at::SHARED + shared::ENTRIES, 2_u64);
		(args, sending.join().expect("it does not panic"))
	});
	let word = |offset| memory.read::<u64>(at::SHARED + offset);
	let code = args?[0];
	if code != 0 {
		return Err(format!("H_ENTER_NESTED answered {}", code as i64).into());
	}
	sent?;
	let l2: u64 = memory.read(at::L2 + at::L2_COUNT);
	let (l1, late) = (word(shared::TAKEN_L1), word(shared::LATE));
	if (l1, l2, late) != (DOORBELLS, 0, 0) {
		return wrong(format!(
			"of {DOORBELLS} doorbells the L1 took {l1} and its L2 {l2}; {late} were late"
		));
	}
	Ok(format!("{DOORBELLS} doorbells"))
}

/// A partition table and a tree for the L2, which has one page of 2 MiB at address 0.
fn write_l2_tables(vm: &Vm) {
	const VALID: u64 = 1 << 63;
	const LEAF: u64 = 1 << 62;
	const HR: u64 = 1 << 63;
	// Reference and change, and read, write and execute.
	const LEAF_BITS: u64 = 0x100 | 0x80 | 0x4 | 0x2 | 0x1;
	// A tree for 52 bits (split in two fields: 21 = 52 - 31), whose root has 13 of them.
	const RTS_52: u64 = (21 >> 3) << 61 | (21 & 7) << 5;
	const ROOT_BITS: u64 = 13;
	const LEVEL_BITS: u64 = 9;
	let entry = |address: u64, value: u64| vm.memory.write(address, value.to_be());
	for lpid in 0..2 {
		let table = at::PARTITION_TABLE + 16 * lpid;
		entry(table, HR | RTS_52 | at::ROOT | ROOT_BITS);
		entry(table + 8, 0);
	}
	entry(at::ROOT, VALID | at::PUD | LEVEL_BITS);
	entry(at::PUD, VALID | at::PMD | LEVEL_BITS);
	entry(at::PMD, VALID | LEAF | at::L2 | LEAF_BITS);
}

/// A guest that sleeps in KVM_RUN keeps its DSCR when the host's default changes.
pub fn dscr_kept(path: Column) -> Verdict {
	const DEFAULT: &str = "/sys/devices/system/cpu/dscr_default";
	/// 300 ms.
	const DEC: u64 = 153_600_000;
	choose(path)?;
	let before = std::fs::read_to_string(DEFAULT).map_err(|e| Failure::Wrong(e.to_string()))?;
	let mut asleep = 0;
	for value in [0_u64, 0x10, 0] {
		for default in ["7", "0"] {
			let vm = Vm::new(RAM)?;
			// SAFETY: the labels exist for as long as the program runs.
			let (count, all, start) = unsafe {
				(
					code(&snippet_count, &snippet_count_end),
					code(&snippet_count, &snippet_end),
					code(&snippet_count, &snippet_cede).len() as u64,
				)
			};
			vm.memory.write_bytes(CODE, all);
			vm.memory.write_bytes(VECTOR_DECREMENTER, count);
			let gprs = [(14, DEC), (15, value), (19, at::SHARED)];
			let mut vcpu = vcpu(&vm, 0, CODE + start, &gprs, MSR)?;
			let thread = AtomicI32::new(0);
			let args = std::thread::scope(|scope| {
				let running = scope.spawn(|| {
					thread.store(timer::thread(), Ordering::Release);
					until_done(&mut vcpu)
				});
				std::thread::sleep(Duration::from_millis(100));
				asleep += u64::from(!running.is_finished());
				let written = std::fs::write(DEFAULT, default);
				let args = running.join().expect("it does not panic");
				written.map_err(|e| Failure::Wrong(e.to_string()))?;
				args
			});
			let restored = std::fs::write(DEFAULT, before.trim());
			let args = args?;
			restored.map_err(|e| Failure::Wrong(e.to_string()))?;
			if args[0] != value {
				return wrong(format!(
					"DSCR is {:#x} instead of {value:#x} after a sleep, the default became {default}",
					args[0]
				));
			}
		}
	}
	if asleep == 0 {
		return wrong("no guest was asleep in time".to_owned());
	}
	Ok(format!("{asleep} sleeps"))
}

/// The hcall numbers that these guests use are those of the kernel.
const _: () = assert!(Number::CEDE.0 == 0xe0);
