// SPDX-License-Identifier: GPL-2.0-only
//! The SPRs that are switched, each once.
//!
//! A row says what the register is called, where the guest's value lives in the
//! vcpu, what the host's value is, and when the register is switched at all. From
//! the rows of a group come the reading of the host's values, the loading of the
//! guest's, the reading back of the guest's, and the restoring of the host's, in
//! the order of the rows, so a register that is loaded cannot be forgotten later.
//! To add an SPR, add its row (and its field to `views` and `kvm_p9_layout.c`).
//!
//! Each of these functions does only one kind of access, because an mfspr waits for
//! an mtspr before it; and a write happens only if it changes the value.
//!
//! The groups are apart because they are switched at different times:
//!
//! - [`User`]: what the host's userspace, and no other part of the host, sees. A
//!   light exit can leave the guest's values in until the task is scheduled out or
//!   returns to userspace.
//! - [`Supervisor`]: what the host kernel itself runs with.
//! - [`Debug`]: what would stop the host kernel in its tracks. The guest cannot write
//!   these itself.

use powerpc::{Cpu, Spr};

use crate::views::{TaskView, VcpuView};

/// What decides whether a register is switched in this entry.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
	/// The guest has the event-based branch facility (HFSCR[EBB]).
	pub ebb: bool,
	/// Watchpoints are usable on this host (`dawr_enabled()`).
	pub dawr: bool,
	/// The CPU has a TIDR.
	pub tidr: bool,
	/// Always.
	pub always: bool,
}

/// Where a host's value comes from: the register, the task, or nowhere, as the host
/// always has zero there.
macro_rules! host {
	(register, $cpu:ident, $task:ident, $spr:ident, $name:ident) => {
		$cpu.mfspr::<{ Spr::$spr.0 }>()
	};
	(task, $cpu:ident, $task:ident, $spr:ident, $name:ident) => {
		u64::from($task.$name())
	};
	(zero, $cpu:ident, $task:ident, $spr:ident, $name:ident) => {
		0
	};
}

macro_rules! group {
	(
		$(#[$doc:meta])*
		$group:ident {
			$($(#[$why:meta])* $name:ident: $spr:ident, $set:ident as $width:ident, $when:ident, $host:ident;)*
		}
	) => {
		$(#[$doc])*
		#[derive(Clone, Copy, Debug)]
		pub struct $group {
			$($(#[$why])* $name: u64,)*
		}

		impl $group {
			/// The host's values.
			#[allow(unused_variables)] // Not every group has values in both places.
			#[inline(always)]
			pub fn host<C: Cpu>(cpu: &mut C, task: TaskView, on: Conditions) -> Self {
				$(let $name = if on.$when { host!($host, cpu, task, $spr, $name) } else { 0 };)*
				Self { $($name),* }
			}

			/// Loads the guest's values over the host's.
			///
			/// # Safety
			///
			/// The registers must hold the host's values; the guest must be what runs
			/// next, but for code that does not depend on these registers.
			#[inline(always)]
			pub unsafe fn load<C: Cpu>(&self, cpu: &mut C, vcpu: VcpuView, on: Conditions) {
				$(if on.$when && u64::from(vcpu.$name()) != self.$name {
					// SAFETY: the caller vouches for what runs next.
					unsafe { cpu.mtspr::<{ Spr::$spr.0 }>(vcpu.$name().into()) };
				})*
			}

			/// What the vcpu has: the guest's values before it ran, and also after, where
			/// the guest cannot change the register.
			#[allow(dead_code)]
			#[inline(always)]
			pub fn of(vcpu: VcpuView, on: Conditions) -> Self {
				$(let $name = if on.$when { vcpu.$name().into() } else { 0 };)*
				Self { $($name),* }
			}

			/// Reads the guest's values back.
			#[allow(dead_code)]
			#[inline(always)]
			pub fn guest<C: Cpu>(cpu: &mut C, on: Conditions) -> Self {
				$(let $name = if on.$when { cpu.mfspr::<{ Spr::$spr.0 }>() } else { 0 };)*
				Self { $($name),* }
			}

			/// Stores them in the vcpu.
			#[allow(dead_code)]
			#[inline(always)]
			pub fn store(&self, vcpu: VcpuView, on: Conditions) {
				$(if on.$when {
					vcpu.$set(self.$name as $width);
				})*
			}

			/// Restores the host's values over `guest`'s.
			///
			/// # Safety
			///
			/// `self` must be what the host had.
			#[inline(always)]
			pub unsafe fn restore<C: Cpu>(&self, cpu: &mut C, guest: &Self, on: Conditions) {
				$(if on.$when && guest.$name != self.$name {
					// SAFETY: the host's own value, by the caller's word.
					unsafe { cpu.mtspr::<{ Spr::$spr.0 }>(self.$name) };
				})*
			}
		}
	};
}

group! {
	/// Registers that problem state sees. The host's values are in the task, where
	/// `save_sprs()` put them when KVM_RUN began; `__switch_to()` saves and restores
	/// the same set.
	User {
		/// Branch target.
		tar: TAR, set_tar as u64, always, task;
		/// Which vector registers are in use.
		vrsave: VRSAVE, set_vrsave as u32, always, task;
		/// Event-based branch handler.
		ebbhr: EBBHR, set_ebbhr as u64, ebb, task;
		/// Event-based branch return address.
		ebbrr: EBBRR, set_ebbrr as u64, ebb, task;
		/// Event-based branch control.
		bescr: BESCR, set_bescr as u64, ebb, task;
		/// Thread ID, for `wait` and accelerators.
		tidr: TIDR, set_tidr as u64, tidr, task;
		/// Which facilities problem state has. Kernel code may run with the guest's:
		/// it applies to problem state only.
		fscr: FSCR, set_fscr as u64, always, task;
		/// Prefetching. A hint.
		dscr: DSCR, set_dscr as u64, always, task;
		/// How long problem state may have a high priority.
		pspb: PSPB, set_pspb as u32, always, zero;
	}
}

group! {
	/// Registers that the kernel's own accesses to user memory depend on (KUAP and
	/// KUEP keep AMR and IAMR; with radix they apply to user pages only, so that the
	/// switch path may run with the guest's).
	Supervisor {
		/// Execution of user pages by the kernel.
		iamr: IAMR, set_iamr as u64, always, register;
		/// Access to user pages by the kernel.
		amr: AMR, set_amr as u64, always, register;
		/// Which bits of AMR problem state may change; the host has no such bits.
		uamor: UAMOR, set_uamor as u64, always, zero;
	}
}

group! {
	/// Breakpoints and watchpoints. A guest sets them by H_SET_MODE, which refuses
	/// those for hypervisor state, so they cannot trigger in the host; what they must
	/// not do is to outlive the guest.
	Debug {
		/// Instruction breakpoint.
		ciabr: CIABR, set_ciabr as u64, always, register;
		/// Watchpoint address.
		dawr0: DAWR0, set_dawr0 as u64, dawr, register;
		/// Watchpoint conditions.
		dawrx0: DAWRX0, set_dawrx0 as u64, dawr, register;
	}
}
