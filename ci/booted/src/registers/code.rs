// SPDX-License-Identifier: GPL-2.0-only
//! Instructions that a test has a guest run in place of the payload.

use hcall::Number;
use protocol::map;
use vmm::machine::{Failure, Machine};

/// Where they are: memory that the payload does not use.
const CODE: u64 = map::FRESH;

/// A sequence of instructions, which begins again at its end.
pub struct Code(Vec<u32>);

impl Code {
	/// An empty one.
	pub fn new() -> Self {
		Self(vec![])
	}

	/// More instructions at the end.
	pub fn push(&mut self, instructions: impl IntoIterator<Item = u32>) {
		self.0.extend(instructions);
	}

	/// Has the guest continue with the first of them.
	pub fn start(mut self, machine: &mut Machine) -> Result<(), Failure> {
		let back = 4 * self.0.len() as u32;
		self.0.push(18 << 26 | (back.wrapping_neg() & 0x03ff_fffc));
		for (address, instruction) in (CODE..).step_by(4).zip(self.0) {
			machine
				.memory()
				.write_bytes(address, &instruction.to_le_bytes());
		}
		let mut regs = machine.vcpu().regs()?;
		regs.pc = CODE;
		machine.vcpu().set_regs(&regs)?;
		Ok(())
	}
}

pub const fn mfspr(gpr: u32, spr: u32) -> u32 {
	31 << 26 | gpr << 21 | (spr & 31) << 16 | (spr >> 5) << 11 | 339 << 1
}

pub const fn mtspr(spr: u32, gpr: u32) -> u32 {
	31 << 26 | gpr << 21 | (spr & 31) << 16 | (spr >> 5) << 11 | 467 << 1
}

pub const fn li(gpr: u32, value: u64) -> u32 {
	assert!(value < 0x8000);
	14 << 26 | gpr << 21 | value as u32
}

pub const fn ori(gpr: u32, value: u64) -> u32 {
	assert!(value < 0x1_0000);
	24 << 26 | gpr << 21 | gpr << 16 | value as u32
}

pub const fn mr(to: u32, from: u32) -> u32 {
	31 << 26 | from << 21 | to << 16 | from << 11 | 444 << 1
}

/// `to` = `from` without the bits of `mask`.
pub const fn andc(to: u32, from: u32, mask: u32) -> u32 {
	31 << 26 | from << 21 | to << 16 | mask << 11 | 60 << 1
}

pub const fn ld(gpr: u32, address: u64) -> u32 {
	58 << 26 | gpr << 21 | address as u32
}

pub const fn std(gpr: u32, address: u64) -> u32 {
	62 << 26 | gpr << 21 | address as u32
}

/// Writes an entry of the SLB.
pub const fn slbmte(vsid: u32, esid: u32) -> u32 {
	31 << 26 | vsid << 21 | esid << 11 | 402 << 1
}

/// Reads the segment of an entry.
pub const fn slbmfee(gpr: u32, index: u32) -> u32 {
	31 << 26 | gpr << 21 | index << 11 | 915 << 1
}

/// Reads the rest of it.
pub const fn slbmfev(gpr: u32, index: u32) -> u32 {
	31 << 26 | gpr << 21 | index << 11 | 851 << 1
}

const SC1: u32 = 0x4400_0022;
pub const ISYNC: u32 = 0x4c00_012c;

/// An hcall, as instructions.
pub fn hcall(number: Number) -> [u32; 3] {
	[li(3, 0), ori(3, number.0), SC1]
}
