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
}

/// Addresses of a kernel.
pub struct Kernel {
	/// The trampoline of hcalls: first and last.
	pub hcall: (u64, u64),
	/// What takes the time of an hcall's arrival.
	stamp: (u64, u64),
	/// Where an hcall becomes a full exit.
	pub exit: u64,
	/// The Rust object.
	rust: (u64, u64),
	/// The flush of the L1D cache, which handlers call.
	flush: (u64, u64),
	/// The end of the interrupt vectors.
	vectors: u64,
	/// From the vector of hcalls to the trampoline.
	to_hcall: [(u64, u64); 4],
	/// The platform's handler of system resets, which this machine's firmware does not need.
	pub reset: u64,
	/// Where the kernel looks for a handler: the instruction, and the register and the displacement
	/// of what it loads.
	pub looks: (u64, usize, u64),
	/// Offset in the PACA of the stack pointer while a guest runs.
	host_r1: u64,
	/// Offset in the PACA of the mode byte.
	in_guest: u64,
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
	/// In the trampoline, which has kept what a system reset overwrites.
	Trampoline,
	/// In the kernel, with MSR\[RI\] set.
	Host,
	/// From the vector of hcalls to where the trampoline has kept it, for a guest of kvm-p9.
	Arrival,
	/// In another interrupt vector.
	Vector,
	/// In the kernel, with MSR\[RI\] clear: entry and exit, and the ends of interrupts.
	Switch,
}

impl Place {
	/// Its name.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Guest => "guest",
			Self::Handler => "handler",
			Self::Trampoline => "trampoline",
			Self::Host => "host",
			Self::Vector => "vector",
			Self::Arrival => "arrival",
			Self::Switch => "entry and exit",
		}
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
		let hcall = symbol("kvm_p9_exit_hcall")?;
		let offsets = image.tree().join("include/generated/asm-offsets.h");
		let offsets = fs::read_to_string(offsets)?;
		let offset = |name: &str| {
			let start = format!("#define {name} ");
			let rest = offsets.lines().find_map(|line| line.strip_prefix(&start));
			let number = rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
			number.with_context(|| format!("no {name}"))
		};
		let exception = symbol("system_reset_exception")?;
		let at = exception.section_index().context("no section")?;
		let code = file
			.section_by_index(at)?
			.data_range(exception.address(), exception.size())?
			.context("no code")?;
		let looks = looks(code).context("system_reset_exception() looks for no handler")?;
		let stamp = symbol("kvm_p9_stamp_hcall")?;
		let kvm_hcall = VIRTUAL | (address("kvm_hcall")? - address("_stext")?);
		let flush = address("do_uaccess_flush")?;
		let to_kvm = address("kvmppc_hcall")?;
		Ok(Self {
			hcall: (hcall.address(), hcall.address() + hcall.size()),
			exit: address("kvm_p9_exit_interrupt")?,
			rust: (address("kvm_p9_rs_text")?, address("kvm_p9_rs_text_end")?),
			flush: (flush, flush + 22 * 4),
			vectors: address("__end_interrupts")?,
			reset: address("pnv_system_reset_exception")?,
			looks: (exception.address() + looks.0, looks.1, looks.2),
			to_hcall: [
				(VIRTUAL | 0xc00, VIRTUAL | 0xd00),
				(VIRTUAL | 0x4c00, VIRTUAL | 0x4d00),
				(kvm_hcall, kvm_hcall + 17 * 4),
				(to_kvm, to_kvm + 4 * 4),
			],
			stamp: (stamp.address(), stamp.address() + stamp.size()),
			host_r1: offset("HSTATE_HOST_R1")?,
			in_guest: offset("HSTATE_IN_GUEST")?,
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

	/// The vector of hcalls, with the MMU on and off.
	pub const fn vectors(&self) -> [u64; 2] {
		[VIRTUAL | 0x4c00, 0xc00]
	}

	/// The vectors of system calls, with the MMU on.
	pub const fn system_calls(&self) -> [u64; 2] {
		[VIRTUAL | 0x4c00, VIRTUAL | 0x3000]
	}

	/// The place of a CPU. The trampoline has kept what it has to from `kept` on.
	pub fn place(&self, state: &State, kept: u64) -> Place {
		let pc = state.pc | VIRTUAL;
		let within = |(start, end): (u64, u64)| (start..end).contains(&pc);
		let guest = state.mode == MODE_P9_RS;
		let arrives = self.to_hcall.into_iter().any(within)
			|| within((self.hcall.0, kept))
			|| within(self.stamp);
		if state.msr & msr::HV == 0 {
			Place::Guest
		} else if guest && arrives {
			Place::Arrival
		} else if pc < self.vectors {
			Place::Vector
		} else if guest && within((kept, self.hcall.1)) {
			Place::Trampoline
		} else if guest
			&& (within(self.rust) || within(self.flush))
			&& state.msr & msr::FP == 0
			&& state.host_r1.wrapping_sub(state.r1) <= HANDLER_STACK
		{
			Place::Handler
		} else if state.msr & msr::RI != 0 && !guest {
			Place::Host
		} else {
			Place::Switch
		}
	}
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
