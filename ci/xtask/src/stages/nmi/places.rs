// SPDX-License-Identifier: GPL-2.0-only
//! What the debugger has to know of the kernel.

use std::fs;

use ::object::{Object, ObjectSection, ObjectSymbol};
use anyhow::{Context, Result};
use harness::kernel::Image;
use powerpc::HANDLER_STACK;

/// Real addresses lack these bits.
const VIRTUAL: u64 = 0xc000_0000_0000_0000;

/// MSR bits.
pub mod msr {
	/// Hypervisor, or the host.
	pub const HV: u64 = 1 << 60;
	/// Problem state.
	pub const PR: u64 = 1 << 14;
	/// Floating point is available.
	pub const FP: u64 = 1 << 13;
	/// An interrupt is recoverable.
	pub const RI: u64 = 1 << 1;
	/// Little-endian.
	pub const LE: u64 = 1;
}

/// Addresses of a kernel. Pairs are first and last.
pub struct Kernel {
	/// The trampoline of hcalls.
	pub hcall: (u64, u64),
	/// What takes the time of an hcall's arrival.
	stamp: (u64, u64),
	/// What enters a guest.
	run_guest: (u64, u64),
	/// What any other exit arrives at, and an hcall that becomes a full exit.
	pub exit: (u64, u64),
	/// Where the Rust path begins for each entry.
	pub entry: u64,
	/// The Rust object.
	rust: (u64, u64),
	/// The flush of the L1D cache, which handlers call.
	flush: (u64, u64),
	/// The end of the interrupt vectors.
	vectors: u64,
	/// From the vectors to the trampoline.
	to_kvm: (u64, u64),
	/// The platform's handler of system resets, which this machine's firmware does not need.
	pub reset: u64,
	/// Where the glue looks at a machine check.
	pub correct: u64,
	/// Where KVM looks at a machine check of a guest.
	pub of_guest: u64,
	/// What the kernel says of a machine check that it has survived.
	pub print: u64,
	/// Where the kernel looks for a handler: the instruction, and the register and the displacement
	/// of what it loads.
	pub looks: (u64, usize, u64),
	/// Offset in the PACA of the stack pointer while a guest runs.
	host_r1: u64,
	/// Offset in the PACA of the mode byte.
	in_guest: u64,
	/// Offset in the PACA of the number of system resets that are handled.
	in_nmi: u64,
}

/// The mode byte while the context of a guest of kvm-p9 is loaded.
const MODE_P9_RS: u8 = 6;

/// Where a CPU is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
	/// The guest computes.
	Guest,
	/// In a fast handler.
	Handler,
	/// In the trampoline, which has what a system reset overwrites.
	Trampoline,
	/// On the way into a guest of kvm-p9, or out of it once MSR\[FP\] is set again.
	Entry,
	/// On the way out of it before, after the trampoline.
	Exit,
	/// In the kernel, with MSR\[RI\] set.
	Host,
	/// From a vector to where the trampoline has the guest's NIA and MSR, or to the full exit, for a
	/// guest of kvm-p9.
	Lost,
	/// In an interrupt vector of the host.
	Vector,
	/// In firmware, which is big-endian.
	Firmware,
	/// In the kernel, with MSR\[RI\] clear or in a system reset: ends of interrupts, and what a handler
	/// calls.
	Switch,
}

impl Place {
	/// Its name.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Guest => "guest",
			Self::Handler => "handler",
			Self::Trampoline => "trampoline",
			Self::Entry => "entry",
			Self::Exit => "exit",
			Self::Host => "host",
			Self::Vector => "vector of the host",
			Self::Firmware => "firmware",
			Self::Lost => "guest lost",
			Self::Switch => "other",
		}
	}

	/// Whether it is the guest's, or the host's on behalf of the guest, and the host survives.
	pub const fn is_survived(self) -> bool {
		!matches!(
			self,
			Self::Host | Self::Vector | Self::Switch | Self::Firmware
		)
	}
}

/// What tells where a CPU is.
pub struct State {
	/// The next instruction.
	pub pc: u64,
	/// MSR.
	pub msr: u64,
	/// Stack pointer.
	pub r1: u64,
	/// The host's, while a guest runs.
	pub host_r1: u64,
	/// The mode byte.
	pub mode: u8,
	/// System resets that are being handled.
	pub in_nmi: u8,
}

impl Kernel {
	/// By the symbols of an image.
	pub fn of(image: &Image) -> Result<Self> {
		let bytes = fs::read(image.vmlinux())?;
		let file = ::object::File::parse(&*bytes)?;
		let symbol = |name: &str| {
			let found = file.symbols().find(|symbol| symbol.name() == Ok(name));
			found.with_context(|| format!("the kernel has no {name}"))
		};
		let address = |name: &str| anyhow::Ok(symbol(name)?.address());
		let whole = |name: &str| {
			let symbol = symbol(name)?;
			anyhow::Ok((symbol.address(), symbol.address() + symbol.size()))
		};
		let offsets = image.tree().join("include/generated/asm-offsets.h");
		let offsets = fs::read_to_string(offsets)?;
		let offset = |name: &str| {
			let start = format!("#define {name} ");
			let rest = offsets.lines().find_map(|line| line.strip_prefix(&start));
			let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
			number.with_context(|| format!("no {name}"))
		};
		let code = |from: u64, length: u64| {
			let mut parts = file.sections().filter_map(|section| {
				let part = section.data_range(from, length);
				part.ok().flatten()
			});
			parts.next().context("no code")
		};
		let exception = symbol("system_reset_exception")?;
		let looks = looks(code(exception.address(), exception.size())?)
			.context("system_reset_exception() looks for no handler")?;
		let flush = address("do_uaccess_flush")?;
		let length =
			length_of_flush(code(flush, 64 * 4)?).context("do_uaccess_flush() has no end")?;
		Ok(Self {
			hcall: whole("kvm_p9_exit_hcall")?,
			stamp: whole("kvm_p9_stamp_hcall")?,
			run_guest: whole("kvm_p9_run_guest")?,
			exit: whole("kvm_p9_exit_interrupt")?,
			entry: address("kvm_p9_rs_vcpu_entry")?,
			rust: (address("kvm_p9_rs_text")?, address("kvm_p9_rs_text_end")?),
			flush: (flush, flush + length),
			vectors: address("__end_interrupts")?,
			to_kvm: (address("kvmppc_hcall")?, address("kvmppc_p9_enter_guest")?),
			reset: address("pnv_system_reset_exception")?,
			correct: address("kvm_p9_correct_machine_check")?,
			of_guest: address("kvmppc_realmode_machine_check")?,
			print: address("machine_check_print_event_info")?,
			looks: (exception.address() + looks.0, looks.1, looks.2),
			host_r1: offset("HSTATE_HOST_R1")?,
			in_guest: offset("HSTATE_IN_GUEST")?,
			in_nmi: offset("PACA_IN_NMI")?,
		})
	}

	/// Where in a PACA the host's stack pointer is while a guest runs.
	pub fn host_r1(&self, paca: u64) -> u64 {
		paca + self.host_r1
	}

	/// Where in a PACA the mode byte is.
	pub fn in_guest(&self, paca: u64) -> u64 {
		paca + self.in_guest
	}

	/// Where in a PACA the number of system resets is.
	pub fn in_nmi(&self, paca: u64) -> u64 {
		paca + self.in_nmi
	}

	/// The vector of hcalls, with the MMU on and off.
	pub const fn vectors(&self) -> [u64; 2] {
		[VIRTUAL | 0x4c00, 0xc00]
	}

	/// The vectors of system calls, with the MMU on.
	pub const fn system_calls(&self) -> [u64; 2] {
		[VIRTUAL | 0x4c00, VIRTUAL | 0x3000]
	}

	/// The place of a CPU. The trampoline has the guest's NIA and MSR from `read` on.
	pub fn place(&self, state: &State, read: u64) -> Place {
		/// What follows where the trampoline goes to the full path: it reads SRR0 and SRR1.
		const TO_FULL_PATH: u64 = 5 * 4;
		/// The branch to what all this is about.
		const TO_INTERRUPTED: u64 = 4;
		/// More than the full path needs of the stack above the trampoline's frame.
		const FULL_PATH: u64 = 2048;
		let pc = state.pc | VIRTUAL;
		let within = |(start, end): (u64, u64)| (start..end).contains(&pc);
		let guest = state.mode == MODE_P9_RS;
		let full = self.hcall.1 - TO_FULL_PATH;
		let arrives = pc < self.vectors
			|| within(self.to_kvm)
			|| within((self.hcall.0, read))
			|| within((full, self.hcall.1))
			|| within(self.stamp)
			|| within((self.exit.0, self.exit.1 - TO_INTERRUPTED));
		// The stub gives registers of a big-endian CPU in the other order.
		if state.msr & msr::LE == 0 {
			Place::Firmware
		} else if state.msr & msr::HV == 0 {
			Place::Guest
		} else if state.in_nmi != 0 {
			Place::Switch
		} else if !guest && pc < self.vectors {
			Place::Vector
		} else if !guest {
			match state.msr & msr::RI {
				0 => Place::Switch,
				_ => Place::Host,
			}
		} else if within(self.run_guest) || state.msr & msr::FP != 0 {
			Place::Entry
		} else if within((read, full)) {
			Place::Trampoline
		} else if arrives {
			Place::Lost
		} else if state.r1.wrapping_sub(state.host_r1).wrapping_sub(1) < FULL_PATH {
			Place::Exit
		} else if (within(self.rust) || within(self.flush))
			&& state.host_r1.wrapping_sub(state.r1) <= HANDLER_STACK
		{
			Place::Handler
		} else {
			Place::Switch
		}
	}
}

/// From the beginning to the second `blr` of the flush of the L1D cache, the first of which is the
/// fourth instruction and may be patched over.
fn length_of_flush(code: &[u8]) -> Option<u64> {
	const BLR: u32 = 0x4e80_0020;
	let mut words = code
		.chunks_exact(4)
		.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
	let last = 4 + words.by_ref().skip(4).position(|word| word == BLR)? as u64;
	Some(4 * (last + 1))
}

/// The first pair of `ld r12, D(RA)` and `cmpdi r12, 0`: its offset, RA and D.
fn looks(code: &[u8]) -> Option<(u64, usize, u64)> {
	const LD_R12: u32 = 58 << 26 | 12 << 21;
	const CMPDI_R12: u32 = 0x2c2c_0000;
	let words: Vec<_> = code
		.chunks_exact(4)
		.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
		.collect();
	let index = words
		.windows(2)
		.position(|pair| pair[0] & 0xffe0_0003 == LD_R12 && pair[1] == CMPDI_R12)?;
	let base = (words[index] >> 16 & 31) as usize;
	let displacement = i64::from(words[index] as i16 & !3);
	Some((4 * index as u64, base, displacement as u64))
}

/// The address with the MMU off.
pub const fn real(address: u64) -> u64 {
	address & !VIRTUAL
}
