// SPDX-License-Identifier: GPL-2.0-only
//! The SPRs that are switched, each once.
//!
//! A row has the name of the register, the place of the guest's value, the condition under
//! which the register is switched, and what the host has in the register. The rows of a
//! group generate four functions: read the host's values, load the guest's, save the guest's,
//! restore the host's, in the order of the rows. So a register that is loaded is always
//! restored. CONTRIBUTING.md has the recipe to add an SPR.
//!
//! What the host has there is one of
//!
//! - `register`: only the register knows;
//! - `task`, `paca`: the kernel keeps a copy there, in a field of the same name;
//! - `zero`: always zero;
//! - `dont_care`: no value that the host needs. The content of the register at an entry is
//!   unknown, so the guest's value is always written, and no value is restored.
//!
//! A row that ends in `checkpointed` is of a register that the checkpoint of a transaction
//! contains, too. The kernel leaves the checkpointed value in the register when it loads or
//! saves a checkpoint. DSCR is not marked, because the kernel restores DSCR.
//!
//! Each of these functions does only one kind of access, because an mfspr waits for
//! an mtspr before it. A write happens only if it changes the value, or if the old value is
//! unknown.
//!
//! The groups are apart because they are switched at different times:
//!
//! - [`User`]: what the host's userspace, and no other part of the host, sees. A
//!   light exit can leave the guest's values in until the task is scheduled out or
//!   returns to userspace.
//! - [`Supervisor`]: what the host kernel itself runs with.
//! - [`Debug`]: registers that could stop the host kernel. The guest cannot write these
//!   directly.
//! - [`Guest`]: what the host has no use for. A light exit can leave them, too, until
//!   another vcpu comes.
//! - [`Interrupt`]: what any interrupt overwrites: loaded last, read first.
//! - [`Transactions`]: what can only be touched while MSR\[TM\] is on.
//!
//! Registers that have no value to be exchanged, but a rule of their own, are in
//! [`RULES`], each with the rule, and `switch` has them where the rule says.

use powerpc::{Cpu, Spr};

use crate::switch::Context;

/// What decides whether a register is switched in this entry.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
	/// The guest has the event-based branch facility (HFSCR\[EBB\]).
	pub ebb: bool,
	/// The guest has transactional memory (HFSCR\[TM\]), and so has the CPU.
	pub tm: bool,
	/// Watchpoints are usable on this host (`dawr_enabled()`).
	pub dawr: bool,
	/// SRR0 and SRR1 hold what is not known otherwise.
	pub srr: bool,
}

/// Whether a row's register is switched in this entry.
macro_rules! applies {
	(always, $when:ident) => {
		true
	};
	($field:ident, $when:ident) => {
		$when.$field
	};
}

/// What only the register knows of the host's value has to be remembered.
macro_rules! remembered {
	(register, $cpu:ident, $spr:ident) => {
		$cpu.mfspr::<{ Spr::$spr.0 }>()
	};
	($elsewhere:ident, $cpu:ident, $spr:ident) => {
		0
	};
}

/// The host's value, if it has one.
macro_rules! host {
	(register, $remembered:expr, $context:ident, $name:ident) => {
		Some($remembered)
	};
	(task, $remembered:expr, $context:ident, $name:ident) => {
		Some(u64::from($context.task.$name()))
	};
	(paca, $remembered:expr, $context:ident, $name:ident) => {
		Some(u64::from($context.paca.$name()))
	};
	(zero, $remembered:expr, $context:ident, $name:ident) => {
		Some(0)
	};
	(dont_care, $remembered:expr, $context:ident, $name:ident) => {
		None
	};
}

/// Whether a row has the mark.
macro_rules! is_checkpointed {
	() => {
		false
	};
	(checkpointed) => {
		true
	};
}

macro_rules! group {
	(
		$(#[$doc:meta])*
		$group:ident {
			$($(#[$why:meta])* $name:ident: $spr:ident, $home:ident.$set:ident as $width:ident, $when:ident, $host:ident $(, $checkpointed:ident)?;)*
		}
	) => {
		$(#[$doc])*
		#[allow(dead_code)] // Of the host's values that are kept elsewhere nothing is here.
		#[derive(Clone, Copy, Debug)]
		pub struct $group {
			$($(#[$why])* pub(crate) $name: u64,)*
		}

		#[allow(dead_code, unused_variables)] // Not every group has or needs all of it.
		impl $group {
			/// Its registers, in order.
			pub const SPRS: &[Spr] = &[$(Spr::$spr),*];

			/// Reads of the host's values those that only the registers know.
			#[inline(always)]
			pub fn host<C: Cpu>(cpu: &mut C, when: Conditions) -> Self {
				$(let $name = if applies!($when, when) { remembered!($host, cpu, $spr) } else { 0 };)*
				Self { $($name),* }
			}

			/// Loads the guest's values over the host's.
			///
			/// # Safety
			///
			/// The registers must hold the host's values; the guest must be what runs
			/// next, but for code that does not depend on these registers.
			#[inline(always)]
			pub unsafe fn load<C: Cpu>(&self, cpu: &mut C, context: &Context, when: Conditions) {
				$(if applies!($when, when) {
					let guest = u64::from(context.$home.$name());
					let host: Option<u64> = host!($host, self.$name, context, $name);
					if host != Some(guest) {
						// SAFETY: the caller vouches for what runs next.
						unsafe { cpu.mtspr::<{ Spr::$spr.0 }>(guest) };
					}
				})*
			}

			/// Saves the guest's values.
			#[inline(always)]
			pub fn save<C: Cpu>(cpu: &mut C, context: &Context, when: Conditions) {
				$(if applies!($when, when) {
					let guest = cpu.mfspr::<{ Spr::$spr.0 }>();
					context.$home.$set(guest as $width);
				})*
			}

			/// Restores the host's values over the guest's, which are saved, or are what
			/// was loaded if the guest can't change them.
			///
			/// # Safety
			///
			/// `self` must be what the host had.
			#[inline(always)]
			pub unsafe fn restore<C: Cpu>(&self, cpu: &mut C, context: &Context, when: Conditions) {
				$(if applies!($when, when) {
					let guest = u64::from(context.$home.$name());
					let host: Option<u64> = host!($host, self.$name, context, $name);
					if let Some(host) = host && host != guest {
						// SAFETY: the host's own value, by the caller's word.
						unsafe { cpu.mtspr::<{ Spr::$spr.0 }>(host) };
					}
				})*
			}

			/// Restores the host's values of checkpointed registers without a comparison. After
			/// that, [`load`](Self::load) and [`restore`](Self::restore) are right again, which
			/// compare values in memory.
			///
			/// # Safety
			///
			/// `self` must be what the host had.
			#[inline(always)]
			pub unsafe fn restore_checkpointed<C: Cpu>(
				&self,
				cpu: &mut C,
				context: &Context,
				when: Conditions,
			) {
				$(if is_checkpointed!($($checkpointed)?) && applies!($when, when) {
					let host: Option<u64> = host!($host, self.$name, context, $name);
					if let Some(host) = host {
						// SAFETY: the host's own value, by the caller's word.
						unsafe { cpu.mtspr::<{ Spr::$spr.0 }>(host) };
					}
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
		tar: TAR, vcpu.set_tar as u64, always, task, checkpointed;
		/// Which vector registers are in use.
		vrsave: VRSAVE, vcpu.set_vrsave as u32, always, task, checkpointed;
		/// Event-based branch handler.
		ebbhr: EBBHR, vcpu.set_ebbhr as u64, ebb, task;
		/// Event-based branch return address.
		ebbrr: EBBRR, vcpu.set_ebbrr as u64, ebb, task;
		/// Event-based branch control.
		bescr: BESCR, vcpu.set_bescr as u64, ebb, task;
		/// Thread ID, for `wait` and accelerators.
		tidr: TIDR, vcpu.set_tidr as u64, always, task;
		/// Which facilities problem state has. Kernel code may run with the guest's:
		/// it applies to problem state only.
		fscr: FSCR, vcpu.set_fscr as u64, always, task;
		/// Prefetching. A hint.
		dscr: DSCR, vcpu.set_dscr as u64, always, task;
		/// How long problem state may have a high priority.
		pspb: PSPB, vcpu.set_pspb as u32, always, zero;
		/// Which CPU this is, for the host's vDSO.
		sprg3: SPRG3, vcpu.set_sprg3 as u64, always, paca;
	}
}

group! {
	/// Registers that the kernel's own accesses to user memory depend on (KUAP and
	/// KUEP keep AMR and IAMR; with radix they apply to user pages only, so that the
	/// switch path may run with the guest's).
	Supervisor {
		/// Execution of user pages by the kernel.
		iamr: IAMR, vcpu.set_iamr as u64, always, register;
		/// Access to user pages by the kernel.
		amr: AMR, vcpu.set_amr as u64, always, register, checkpointed;
		/// Which bits of AMR problem state may change; the host has no such bits.
		uamor: UAMOR, vcpu.set_uamor as u64, always, zero;
	}
}

group! {
	/// Breakpoints and watchpoints. A guest sets them by H_SET_MODE, which refuses
	/// those for hypervisor state, so they cannot trigger in the host; what they must
	/// not do is to outlive the guest.
	Debug {
		/// Instruction breakpoint.
		ciabr: CIABR, vcpu.set_ciabr as u64, always, register;
		/// Watchpoint address.
		dawr0: DAWR0, vcpu.set_dawr0 as u64, dawr, register;
		/// Watchpoint conditions.
		dawrx0: DAWRX0, vcpu.set_dawrx0 as u64, dawr, register;
	}
}

group! {
	/// Registers that the host does nothing with.
	Guest {
		/// The guest kernel's. A host that is a hypervisor has HSPRG0 and HSPRG1.
		sprg0: SPRG0, vcpu.set_sprg0 as u64, always, dont_care;
		/// The same.
		sprg1: SPRG1, vcpu.set_sprg1 as u64, always, dont_care;
		/// The same.
		sprg2: SPRG2, vcpu.set_sprg2 as u64, always, dont_care;
		/// The guest's virtual time, which counts on while another runs.
		vtb: VTB, vcore.set_vtb as u64, always, dont_care;
		/// Instructions that the guest completed. The host's tools do not read it.
		ic: IC, vcpu.set_ic as u64, always, dont_care;
	}
}

group! {
	/// Registers that any interrupt overwrites, a machine check among them: loaded as
	/// late as can be and read as early.
	Interrupt {
		/// Where the guest's last interrupt came from.
		srr0: SRR0, vcpu.set_srr0 as u64, srr, dont_care;
		/// And in which state.
		srr1: SRR1, vcpu.set_srr1 as u64, srr, dont_care;
		/// The guest's last faulting address.
		dar: DAR, vcpu.set_dar as u64, always, dont_care;
		/// And why it faulted.
		dsisr: DSISR, vcpu.set_dsisr as u32, always, dont_care;
	}
}

group! {
	/// Registers of transactional memory, when there is no transaction: otherwise
	/// `kvmppc_restore_tm_hv()` and `kvmppc_save_tm_hv()` have them. The task's own
	/// are saved (`kvmppc_save_user_regs()`), and loaded with its next use.
	Transactions {
		/// Why the last transaction failed.
		texasr: TEXASR, vcpu.set_texasr as u64, tm, dont_care;
		/// Where a failing transaction goes.
		tfhar: TFHAR, vcpu.set_tfhar as u64, tm, dont_care;
		/// Where the last one failed.
		tfiar: TFIAR, vcpu.set_tfiar as u64, tm, dont_care;
	}
}

/// The groups' registers.
pub const GROUPS: [&[Spr]; 6] = [
	User::SPRS,
	Supervisor::SPRS,
	Debug::SPRS,
	Guest::SPRS,
	Interrupt::SPRS,
	Transactions::SPRS,
];

/// Registers with a rule of their own.
pub const RULES: [(Spr, &str); 22] = [
	(
		Spr::LPIDR,
		"MMU context: between barriers, last in and first out",
	),
	(
		Spr::LPCR,
		"the same, and before HDEC: its [HDICE] lets HDEC be an exception",
	),
	(Spr::PIDR, "the same; the guest's changes as it likes"),
	(
		Spr::HFSCR,
		"facilities of [HV]=0, [TM] and [EBB] until the guest uses them again",
	),
	(
		Spr::PSSCR,
		"with transactional memory in need of help, [FAKE_SUSPEND] goes along",
	),
	(
		Spr::PSSCR_PR,
		"what a guest sees of it, and what a host without that need switches",
	),
	(
		Spr::PURR,
		"a count: what the guest used is added to the host's",
	),
	(Spr::SPURR, "the same"),
	(
		Spr::CTRLF,
		"the run latch: the host's is on, the guest's is read by this number",
	),
	(Spr::CTRLT, "and written by this one"),
	(
		Spr::DPDES,
		"a doorbell that was asked for, or that the guest did not take",
	),
	(
		Spr::PCR,
		"a compatibility mode, if any; the host's has only reserved bits",
	),
	(
		Spr::TBU40,
		"the timebase is moved by the guest's offset, if any",
	),
	(Spr::HDEC, "when the guest has to be out; how long it ran"),
	(
		Spr::DEC,
		"from an absolute time, and back into one; the host's by its timer",
	),
	(Spr::HSRR0, "the way in"),
	(Spr::HSRR1, "the way in"),
	(Spr::HEIR, "by the trap, read only"),
	(Spr::MMCR0, "the kernel switches the PMU; see `cycles`"),
	(Spr::MMCR2, "the same"),
	(Spr::PMC6, "the same"),
	(Spr::ASDR, "by the trap, read only"),
];

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn each_spr_is_listed_once() {
		let listed = GROUPS.iter().copied().flatten().copied();
		let mut listed: Vec<_> = listed.chain(RULES.iter().map(|(spr, _)| *spr)).collect();
		listed.sort();
		for pair in listed.windows(2) {
			assert_ne!(pair[0], pair[1], "twice");
		}
		assert_eq!(listed, {
			let mut all = Spr::ALL.to_vec();
			all.sort();
			all
		});
	}
}
