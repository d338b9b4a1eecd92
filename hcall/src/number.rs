// SPDX-License-Identifier: GPL-2.0-only
//! Hcall numbers.
//!
//! A number is any 64-bit value that the guest had in r3. So [`Number`] is an open newtype:
//! an unknown value is a value, never an error. The constants are those of PAPR (LoPAR 14.5,
//! and `arch/powerpc/include/asm/hvcall.h`).

use powerpc::FastHcall;

macro_rules! number_of {
	($($(#[$doc:meta])* $variant:ident: $number:ident = $function:ident;)*) => {
		const fn number_of(hcall: FastHcall) -> Number {
			match hcall {
				$(FastHcall::$variant => Number::$number,)*
			}
		}
	};
}

powerpc::fast_handlers!(number_of);

/// What the guest had in r3 at its `sc 1`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Number(pub u64);

impl Number {
	/// H_REMOVE: remove an entry of a hash guest's page table.
	pub const REMOVE: Self = Self(0x04);
	/// H_ENTER: insert an entry into a hash guest's page table.
	pub const ENTER: Self = Self(0x08);
	/// H_READ: read one entry of a hash guest's page table, or four.
	pub const READ: Self = Self(0x0c);
	/// H_CLEAR_MOD: clear the change bit of an entry.
	pub const CLEAR_MOD: Self = Self(0x10);
	/// H_CLEAR_REF: clear the reference bit of an entry.
	pub const CLEAR_REF: Self = Self(0x14);
	/// H_PROTECT: change protection and key of an entry.
	pub const PROTECT: Self = Self(0x18);
	/// H_GET_TCE: read one TCE.
	pub const GET_TCE: Self = Self(0x1c);
	/// H_PUT_TCE: write one TCE.
	pub const PUT_TCE: Self = Self(0x20);
	/// H_SET_DABR: on Linux 5.10 the cheapest hcall that its real-mode table answers.
	pub const SET_DABR: Self = Self(0x28);
	/// H_PAGE_INIT: clear or copy a page.
	pub const PAGE_INIT: Self = Self(0x2c);
	/// H_LOGICAL_CI_LOAD: load from a device's register.
	pub const LOGICAL_CI_LOAD: Self = Self(0x3c);
	/// H_LOGICAL_CI_STORE: store to a device's register.
	pub const LOGICAL_CI_STORE: Self = Self(0x40);
	/// H_EOI: end an interrupt of XICS, and set the priority that the vcpu had before it.
	pub const EOI: Self = Self(0x64);
	/// H_CPPR: set the vcpu's priority.
	pub const CPPR: Self = Self(0x68);
	/// H_IPI: send an interrupt to a vcpu, with a priority.
	pub const IPI: Self = Self(0x6c);
	/// H_IPOLL: look which interrupt a vcpu would get.
	pub const IPOLL: Self = Self(0x70);
	/// H_XIRR: accept an interrupt.
	pub const XIRR: Self = Self(0x74);
	/// The benchmark's NULL hcall. It does nothing and answers H_SUCCESS.
	///
	/// PAPR assigns 0x7c and 0xdc and nothing between them, and neither Linux nor
	/// QEMU uses a number from that gap, so it is free for a private one. It has
	/// to lie below 0x304 because the real-mode hcall table of Linux 5.10 ends
	/// there, and at or below MAX_HCALL_OPCODE so that `enabled_hcalls` governs
	/// it: it is off in every VM until KVM_CAP_PPC_ENABLE_HCALL turns it on.
	pub const NULL: Self = Self(0xd8);
	/// H_REGISTER_VPA: (de)register the VPA, SLB shadow buffer or dispatch log.
	pub const REGISTER_VPA: Self = Self(0xdc);
	/// H_CEDE: wait for an interrupt.
	pub const CEDE: Self = Self(0xe0);
	/// H_CONFER: yield to another vcpu.
	pub const CONFER: Self = Self(0xe4);
	/// H_PROD: wake another vcpu.
	pub const PROD: Self = Self(0xe8);
	/// H_BULK_REMOVE: remove up to four entries of a hash guest's page table.
	pub const BULK_REMOVE: Self = Self(0x124);
	/// H_STUFF_TCE: write one value to consecutive TCEs.
	pub const STUFF_TCE: Self = Self(0x138);
	/// H_PUT_TCE_INDIRECT: write up to 512 TCEs from a list in guest memory.
	pub const PUT_TCE_INDIRECT: Self = Self(0x13c);
	/// H_XIRR_X: the same as H_XIRR, with the time.
	pub const XIRR_X: Self = Self(0x2fc);
	/// H_RANDOM: a random number.
	pub const RANDOM: Self = Self(0x300);
	/// H_SET_MODE: DAWR, CIABR, endianness, AIL.
	pub const SET_MODE: Self = Self(0x31c);

	/// The number of an hcall that has a fast handler.
	pub const fn of(hcall: FastHcall) -> Self {
		number_of(hcall)
	}

	/// Index into a table or bitmap with a place for every PAPR number up to
	/// `max`; `None` for a number that has no place there.
	///
	/// PAPR numbers are multiples of 4: a misaligned number becomes huge.
	#[inline]
	pub const fn index(self, max: Number) -> Option<usize> {
		let rotated = self.0.rotate_right(2);
		if rotated <= max.0 >> 2 {
			Some(rotated as usize)
		} else {
			None
		}
	}
}
