// SPDX-License-Identifier: GPL-2.0-only
//! Tests whose guests are a few instructions, without the payload.
//!
//! The code is assembled into this program and copied to guest memory, so it has to be
//! position independent. Guests run in real mode, and have their interrupt vectors at 0.

use core::arch::global_asm;
use core::slice;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use hcall::Number;
use powerpc::{Lpcr, Msr};
use protocol::{Column, private};
use vmm::kvm::{Exit, Vcpu, Vm};
use vmm::machine::Failure;
use vmm::{abi, timer};

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
);

// SAFETY: the labels of the code above.
unsafe extern "C" {
	static snippet_count: u8;
	static snippet_count_end: u8;
	static snippet_cede: u8;
	static snippet_end: u8;
}

/// The code between two labels.
fn code(start: &'static u8, end: &'static u8) -> &'static [u8] {
	let (start, end) = (&raw const *start, &raw const *end);
	// SAFETY: both labels are in the same piece of assembly, in this order.
	unsafe { slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The interrupt vector of the decrementer.
const VECTOR_DECREMENTER: u64 = 0x900;
/// Where the guest counts its interrupts.
const COUNT: u64 = 0x4_0000;

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
			let gprs = [(14, DEC), (15, value), (19, COUNT)];
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
