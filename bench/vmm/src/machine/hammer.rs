// SPDX-License-Identifier: GPL-2.0-only
//! Vcpus that do page table hcalls.

use protocol::hammer::Hammer;
use protocol::map;

use super::{Failure, Machine, STACK_FRAME};
use crate::kvm::Vcpu;

impl Machine {
	/// A vcpu which does page table hcalls, as the block for it says: another one, or the first one,
	/// which is the only one then.
	pub fn hammer(&self, id: u64, block: Hammer, is_alone: bool) -> Result<Vcpu, Failure> {
		let address = map::CONTENDERS + id * map::CONTENDER_SIZE;
		let stack = map::OTHER_STACKS + (id + 1) * map::OTHER_STACK_SIZE;
		self.vm.memory.write(address, block);
		let vcpu = match is_alone {
			true => self.vm.same_vcpu(&self.vcpu)?,
			false => self.vm.create_vcpu(id)?,
		};
		self.begin(vcpu, id, |gpr| {
			gpr[1] = stack - STACK_FRAME;
			gpr[27] = address;
		})
	}

	/// What such a vcpu did.
	pub fn hammered(&self, id: u64) -> Hammer {
		let address = map::CONTENDERS + id * map::CONTENDER_SIZE;
		self.vm.memory.read(address)
	}
}
