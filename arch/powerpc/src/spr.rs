// SPDX-License-Identifier: GPL-2.0-only
//! The special purpose registers that the switch path uses: one row each.
//!
//! A register is in one of two lists. [`switched_sprs!`](crate::switched_sprs) has those whose
//! values are exchanged, [`ruled_sprs!`](crate::ruled_sprs) those with a rule of their own.
//! Numbers and names come from both. The order of the switch, the accessors of the kernel's
//! fields, the fields' lines in `kvm_p9_layout.c`, what the tests on the fake CPU try and what the
//! booted tests fill come from the rows of the first.

use core::fmt;

/// A special purpose register, by its number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spr(pub u16);

/// Calls `$with` with the registers that are switched, in groups that are switched at one time.
/// What follows in braces comes before the rows.
///
/// A row is
///
/// `get / set: NAME = number, home(field) as width, condition, host, guest(mask);`
///
/// - `get` and `set` name the accessors of the field that keeps the guest's value. `home` is the
///   structure of the kernel that has the field: `vcpu` or `vcore`.
/// - `condition` says when the register is switched: `always`, or a field of `sprs::Conditions`.
/// - `host` says where the host's value is: `register`, if only the register knows; `task(field)`
///   or `paca(field)`, if the kernel keeps a copy of 64 bits there; `zero`, if the value is always
///   0; and `dont_care`, if the host has no use for a value. Then the content of the register at
///   an entry is unknown, so the guest's value is always written, and none is restored.
/// - `+ checkpointed` marks a register that the checkpoint of a transaction contains, too. The
///   kernel leaves the checkpointed value in the register when it loads or saves a checkpoint.
///   DSCR is not marked, because the kernel restores DSCR.
/// - `guest(mask)` is there if a guest's kernel can write the register: the bits that the booted
///   tests fill. Bits that do not exist may be among them, because what the register holds is
///   read back. Bits that would make the guest's own code or data inaccessible may not. `problem
///   state n` is the number of the register for problem state, if that is another one.
#[macro_export]
macro_rules! switched_sprs {
	($with:path $(, {$($more:tt)*})?) => {
		$with! {
			$({$($more)*})?
			/// Registers that problem state sees. The host's values are in the task, where
			/// `save_sprs()` put them when KVM_RUN began; `__switch_to()` saves and restores
			/// the same set.
			User {
				/// Target Address Register: for branches.
				tar / set_tar: TAR = 815, vcpu(arch.tar) as u64, always,
					task(thread.tar) + checkpointed, guest(!0);
				/// Vector Register Save Register: which vector registers are in use.
				vrsave / set_vrsave: VRSAVE = 256, vcpu(arch.vrsave) as u32, always,
					task(thread.vrsave) + checkpointed, guest(0xffff_ffff);
				/// Event-Based Branch Handler Register.
				ebbhr / set_ebbhr: EBBHR = 804, vcpu(arch.ebbhr) as u64, ebb,
					task(thread.ebbhr), guest(!0);
				/// Event-Based Branch Return Register.
				ebbrr / set_ebbrr: EBBRR = 805, vcpu(arch.ebbrr) as u64, ebb,
					task(thread.ebbrr), guest(!0);
				/// Branch Event Status and Control Register.
				bescr / set_bescr: BESCR = 806, vcpu(arch.bescr) as u64, ebb,
					task(thread.bescr), guest(!0);
				/// Thread ID (POWER9 User's Manual; ISA 3.0B, 4.3.5), for `wait` and accelerators.
				tidr / set_tidr: TIDR = 144, vcpu(arch.tid) as u64, always,
					task(thread.tidr), guest(0xffff);
				/// Facility Status and Control Register: which facilities problem state has. Kernel
				/// code may run with the guest's, because FSCR applies to problem state only.
				// SCV, MSGP, TAR, EBB, DSCR.
				fscr / set_fscr: FSCR = 153, vcpu(arch.fscr) as u64, always,
					task(thread.fscr), guest(0x1584);
				/// Data Stream Control Register: prefetching, a hint.
				dscr / set_dscr: DSCR = 17, vcpu(arch.dscr) as u64, always,
					task(thread.dscr), guest(0x1ff_ffff, problem state 3);
				/// Problem State Priority Boost Register: how long problem state may have a high
				/// priority.
				pspb / set_pspb: PSPB = 159, vcpu(arch.pspb) as u32, always,
					zero, guest(0xffff_ffff);
				/// Software-use register 3. The host's vDSO finds the number of the CPU there.
				sprg3 / set_sprg3: SPRG3 = 275, vcpu(arch.shregs.sprg3) as u64, always,
					paca(sprg_vdso), guest(!0);
				/// User Authority Mask Override Register: which bits of AMR problem state may change.
				/// The host has no such bits.
				uamor / set_uamor: UAMOR = 157, vcpu(arch.uamor) as u64, always,
					zero, guest(!0);
			}
			/// Registers that the kernel's own accesses to user memory depend on (KUAP and
			/// KUEP keep AMR and IAMR; with radix they apply to user pages only, so that the
			/// switch path may run with the guest's).
			Supervisor {
				/// Instruction Authority Mask Register: execution of user pages by the kernel.
				// Key 0 is what the pages of the booted tests' payload have.
				iamr / set_iamr: IAMR = 61, vcpu(arch.iamr) as u64, always,
					register, guest(!0 >> 2);
				/// Authority Mask Register: access to user pages by the kernel.
				amr / set_amr: AMR = 29, vcpu(arch.amr) as u64, always,
					register + checkpointed, guest(!0 >> 2);
			}
			/// Breakpoints and watchpoints. A guest sets them by H_SET_MODE, which refuses
			/// those for hypervisor state, so they cannot trigger in the host; what they must
			/// not do is to outlive the guest.
			Debug {
				/// Completed Instruction Address Breakpoint Register.
				ciabr / set_ciabr: CIABR = 187, vcpu(arch.ciabr) as u64, always, register;
				/// Data Address Watchpoint Register 0: the address.
				dawr0 / set_dawr0: DAWR0 = 180, vcpu(arch.dawr0) as u64, dawr, register;
				/// Data Address Watchpoint Register Extension 0: the conditions.
				dawrx0 / set_dawrx0: DAWRX0 = 188, vcpu(arch.dawrx0) as u64, dawr, register;
			}
			/// Registers that the host does nothing with.
			GuestOnly {
				/// Software-use register 0 of the guest's kernel. A hypervisor has HSPRG0 and HSPRG1.
				sprg0 / set_sprg0: SPRG0 = 272, vcpu(arch.shregs.sprg0) as u64, always,
					dont_care, guest(!0);
				/// Software-use register 1, likewise.
				sprg1 / set_sprg1: SPRG1 = 273, vcpu(arch.shregs.sprg1) as u64, always,
					dont_care, guest(!0);
				/// Software-use register 2, likewise.
				sprg2 / set_sprg2: SPRG2 = 274, vcpu(arch.shregs.sprg2) as u64, always,
					dont_care, guest(!0);
				/// Virtual Time Base of the guest, which counts on while another runs.
				vtb / set_vtb: VTB = 849, vcore(vtb) as u64, always, dont_care;
				/// Instruction Counter of the guest. The host's tools do not read the register.
				ic / set_ic: IC = 848, vcpu(arch.ic) as u64, always, dont_care;
			}
			/// Registers that any interrupt overwrites, a machine check among them: loaded as
			/// late as can be, and saved by the trampoline before anything else is done.
			Interrupt {
				/// Save/Restore Register 0: where the guest's last interrupt came from.
				srr0 / set_srr0: SRR0 = 26, vcpu(arch.shregs.srr0) as u64, always,
					dont_care, guest(!0);
				/// Save/Restore Register 1: and in which state.
				srr1 / set_srr1: SRR1 = 27, vcpu(arch.shregs.srr1) as u64, always,
					dont_care, guest(!0);
				/// Data Address Register: the guest's last faulting address.
				dar / set_dar: DAR = 19, vcpu(arch.shregs.dar) as u64, always,
					dont_care, guest(!0);
				/// Data Storage Interrupt Status Register: and why it faulted.
				dsisr / set_dsisr: DSISR = 18, vcpu(arch.shregs.dsisr) as u32, always,
					dont_care, guest(0xffff_ffff);
			}
			/// Registers of transactional memory, when there is no transaction: otherwise
			/// `kvmppc_restore_tm_hv()` and `kvmppc_save_tm_hv()` have them. The task's own
			/// are saved (`kvmppc_save_user_regs()`), and loaded with its next use.
			Transactions {
				/// Transaction EXception And Summary Register: why the last transaction failed.
				texasr / set_texasr: TEXASR = 130, vcpu(arch.texasr) as u64, tm,
					dont_care, guest(!0);
				/// Transaction Failure Handler Address Register: where a failing transaction goes.
				tfhar / set_tfhar: TFHAR = 128, vcpu(arch.tfhar) as u64, tm,
					dont_care, guest(!0);
				/// Transaction Failure Instruction Address Register: where the last one failed.
				tfiar / set_tfiar: TFIAR = 129, vcpu(arch.tfiar) as u64, tm,
					dont_care, guest(!0);
			}
		}
	};
}

/// Calls `$with` with the registers that have a rule of their own: name, number and rule. The
/// switch accesses them where the rule says.
#[macro_export]
macro_rules! ruled_sprs {
	($with:ident) => {
		$with! {
			/// Logical Partition ID.
			LPIDR = 319, "MMU context: between barriers, last in and first out";
			/// Logical Partitioning Control Register.
			LPCR = 318, "the same, and before HDEC: its [HDICE] lets HDEC be an exception";
			/// Process ID.
			PIDR = 48, "the same; the guest's changes as it likes";
			/// Hypervisor Facility Status and Control Register.
			HFSCR = 190, "facilities of [HV]=0, [TM] and [EBB] until the guest uses them again";
			/// Processor Stop Status and Control Register.
			PSSCR = 855, "with transactional memory in need of help, [FAKE_SUSPEND] goes along";
			/// PSSCR through its privileged, not hypervisor, name.
			PSSCR_PR = 823, "what a guest sees of it, and what a host without that need switches";
			/// Processor Utilization of Resources Register.
			PURR = 309, "a count: what the guest used is added to the host's";
			/// Scaled Processor Utilization of Resources Register.
			SPURR = 308, "the same";
			/// Control Register, for reading.
			CTRLF = 136, "the run latch: the host's is on, the guest's is read by this number";
			/// Control Register, for writing.
			CTRLT = 152, "and written by this one";
			/// Directed Privileged Doorbell Exception State.
			DPDES = 176, "a doorbell that was asked for, or that the guest did not take";
			/// Processor Compatibility Register.
			PCR = 338, "a compatibility mode, if any; the host's has only reserved bits";
			/// Timebase, upper 40 bits, for writing.
			TBU40 = 286, "the timebase is moved by the guest's offset, if any";
			/// Hypervisor Decrementer.
			HDEC = 310, "when the guest has to be out; how long it ran";
			/// Decrementer.
			DEC = 22, "from an absolute time, and back into one; the host's by its timer";
			/// Hypervisor Save/Restore Register 0.
			HSRR0 = 314, "the way in";
			/// Hypervisor Save/Restore Register 1.
			HSRR1 = 315, "the way in";
			/// Hypervisor Emulation Instruction Register.
			HEIR = 339, "by the trap, read only";
			/// Monitor Mode Control Register 0.
			MMCR0 = 795, "the kernel switches the PMU; see `cycles`";
			/// Monitor Mode Control Register 2.
			MMCR2 = 785, "the same";
			/// Performance Monitor Counter 6: cycles.
			PMC6 = 792, "the same";
			/// Access Segment Descriptor Register.
			ASDR = 816, "by the trap, read only";
		}
	};
}

/// A field of one of the kernel's structures that has the value of a switched register.
#[derive(Clone, Copy, Debug)]
pub struct SprField {
	/// The structure, as a row names it.
	pub home: &'static str,
	/// The name of the field's accessor.
	pub name: &'static str,
	/// The field, as C names it.
	pub member: &'static str,
	/// Width in bits.
	pub bits: u32,
}

impl SprField {
	/// The structure, as C names it.
	///
	/// # Panics
	///
	/// If no row may have that home.
	pub fn structure(&self) -> &'static str {
		match self.home {
			"vcpu" => "kvm_vcpu",
			"vcore" => "kvmppc_vcore",
			"task" => "task_struct",
			"paca" => "paca_struct",
			home => panic!("{home} is no structure of the kernel"),
		}
	}
}

/// The name of the offset in `kvm_p9_layout.h`.
impl fmt::Display for SprField {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		let letters = self.home.chars().chain(['_']).chain(self.name.chars());
		letters
			.flat_map(char::to_uppercase)
			.try_for_each(|letter| fmt::Write::write_char(f, letter))
	}
}

macro_rules! switched {
	($(
		$(#[$group_doc:meta])*
		$group:ident {
			$(
				$(#[$doc:meta])*
				$name:ident / $set:ident: $spr:ident = $number:literal,
					$home:ident($member:ident $(. $more:ident)*) as $width:ident, $when:ident,
					$host:ident $(($kept:ident $(. $kept_more:ident)*))?
					$(+ $checkpointed:ident)? $(, guest($mask:expr $(, problem state $problem:literal)?))?;
			)*
		}
	)*) => {
		/// Registers that are switched. Numbers: Power ISA 3.0B, Book III, 4.4.1 (figure 18), but
		/// for those noted.
		impl Spr {
			$($($(#[$doc])* pub const $spr: Self = Self($number);)*)*

			/// Those that are switched, with their names.
			pub const SWITCHED: &[(Self, &str)] = &[$($((Self::$spr, stringify!($spr))),*),*];
		}

		impl SprField {
			/// All of them, in the order of the rows.
			pub const ALL: &[Self] = &[$($(
				Self {
					home: stringify!($home),
					name: stringify!($name),
					member: concat!(stringify!($member) $(, ".", stringify!($more))*),
					bits: $width::BITS,
				},
				$(Self {
					home: stringify!($host),
					name: stringify!($name),
					member: concat!(stringify!($kept) $(, ".", stringify!($kept_more))*),
					bits: u64::BITS,
				},)?
			)*)*];
		}
	};
}
switched_sprs!(switched);

macro_rules! ruled {
	($($(#[$doc:meta])* $spr:ident = $number:literal, $rule:literal;)*) => {
		/// Registers with a rule of their own.
		impl Spr {
			$($(#[$doc])* pub const $spr: Self = Self($number);)*

			/// Those with a rule of their own, with their names.
			pub const RULED: &[(Self, &str)] = &[$((Self::$spr, stringify!($spr))),*];
		}
	};
}
ruled_sprs!(ruled);

impl Spr {
	/// Its name, for people.
	pub fn name(self) -> Option<&'static str> {
		let mut all = Self::SWITCHED.iter().chain(Self::RULED);
		all.find(|(spr, _)| *spr == self).map(|(_, name)| *name)
	}
}

impl fmt::Debug for Spr {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		match self.name() {
			Some(name) => f.write_str(name),
			None => write!(f, "SPR {}", self.0),
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn each_spr_is_listed_once() {
		let mut listed: Vec<_> = Spr::SWITCHED.iter().chain(Spr::RULED).collect();
		listed.sort();
		for pair in listed.windows(2) {
			assert_ne!(pair[0].0, pair[1].0, "{} and {}", pair[0].1, pair[1].1);
		}
	}

	#[test]
	fn each_field_has_a_name_of_its_own() {
		let names: std::collections::BTreeSet<_> = SprField::ALL
			.iter()
			.map(|field| field.to_string())
			.collect();
		assert_eq!(names.len(), SprField::ALL.len());
		let tar = SprField::ALL[0];
		assert_eq!(tar.to_string(), "VCPU_TAR");
		assert_eq!((tar.structure(), tar.member), ("kvm_vcpu", "arch.tar"));
		for field in SprField::ALL {
			assert!(field.structure().starts_with(['k', 't', 'p']));
		}
	}
}
