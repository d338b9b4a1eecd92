// SPDX-License-Identifier: GPL-2.0-only
//! The rounds of `asm/rounds.s`.

/// One round in assembly.
#[repr(C)]
pub(super) struct Instance {
	pub(super) run: unsafe extern "C" fn(),
	/// The instruction that leaves the guest.
	pub(super) exit: u64,
	/// Where it goes on.
	pub(super) after: u64,
}

macro_rules! instances {
	($($name:ident)*) => {
		unsafe extern "C" {
			$(pub(super) safe static $name: Instance;)*
		}
	};
}
instances! {
	instance_sc instance_cede instance_interrupt instance_problem instance_spin instance_branch
	instance_illegal instance_trap instance_tir instance_doorbell instance_ebbrr
	instance_tfhar instance_mmcr2 instance_lbz instance_lha instance_lwbrx instance_ld
	instance_ldu instance_stb instance_sthbrx instance_stw instance_std instance_lfd
	instance_stfd instance_lxvd2x instance_stxvd2x
}
