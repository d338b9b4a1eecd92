// SPDX-License-Identifier: GPL-2.0-only
//! The SPRs that are switched, each once.
//!
//! The rows are in `powerpc::switched_sprs!`, which documents what a row has. The rows of a
//! group generate four functions here: read the host's values, load the guest's, save the guest's,
//! restore the host's, in the order of the rows. So a register that is loaded is always
//! restored. CONTRIBUTING.md has the recipe to add an SPR.
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
//! - [`GuestOnly`]: what the host has no use for. A light exit can leave them, too, until
//!   another vcpu comes.
//! - [`Interrupt`]: what any interrupt overwrites: loaded last, and saved by the trampoline.
//! - [`Transactions`]: what can only be touched while MSR\[TM\] is on.
//!
//! Registers that have no value to be exchanged, but a rule of their own, are in
//! `powerpc::ruled_sprs!`, each with the rule, and `switch` has them where the rule says.

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

/// Whether the host's value is known without its register.
macro_rules! is_kept_elsewhere {
	(register) => {
		false
	};
	($elsewhere:ident) => {
		true
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
			$(
				$(#[$why:meta])*
				$name:ident / $set:ident: $spr:ident = $number:literal,
					$home:ident($($member:tt)*) as $width:ident, $when:ident,
					$host:ident $(($($kept:tt)*))? $(+ $checkpointed:ident)?
					$(, guest($mask:expr $(, problem state $problem:literal)?))?;
			)*
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

			/// No host's value is known by its register only.
			pub const KEPT_ELSEWHERE: bool = true $(&& is_kept_elsewhere!($host))*;

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
						// SAFETY: the guest runs next, which this function requires.
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
						// SAFETY: the host's own value: `self` is what the host had.
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
						// SAFETY: the host's own value: `self` is what the host had.
						unsafe { cpu.mtspr::<{ Spr::$spr.0 }>(host) };
					}
				})*
			}
		}
	};
}

macro_rules! groups {
	($($(#[$doc:meta])* $group:ident { $($rows:tt)* })*) => {
		$(group! { $(#[$doc])* $group { $($rows)* } })*

		/// The groups' registers.
		#[cfg(test)]
		pub const GROUPS: &[&[Spr]] = &[$($group::SPRS),*];
	};
}
powerpc::switched_sprs!(groups);
