// SPDX-License-Identifier: GPL-2.0-only
//! What light exits know of the last full entry, and how they are counted.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::{self, NonNull};

use super::counters::Counters;
use super::{CType, shared};

impl CType for *const Counters {
	const NAME: &'static str = "struct kvm_p9_counters *";
}

shared! {
	/// What a light exit needs of the last full entry.
	#[derive(Debug)]
	pub struct Light = "kvm_p9_light" {
		/// The guest's LPCR.
		pub lpcr: Cell<u64>,
		/// The host's PIDR.
		pub host_pidr: Cell<u64>,
		/// The host's AMR.
		pub host_amr: Cell<u64>,
		/// The host's IAMR.
		pub host_iamr: Cell<u64>,
		/// Host timebase at which the guest has to be out: HDEC was set for it.
		pub limit: Cell<u64>,
		/// Which table of fast handlers the entry was told to use. With another one a light
		/// exit does not go back to the guest.
		pub table: Cell<u64>,
		/// This CPU's counters, as long as the guest's state is loaded on it.
		pub counters: Cell<*const Counters>,
		/// Which vcpu the last H_PROD was for: its number, as the guest knows it.
		pub prod_id: Cell<u64>,
		/// That vcpu, which stays as long as the VM, or null.
		pub prod_vcpu: Cell<*const c_void>,
		/// What of the guest's is still loaded while a light exit may sleep, and what has to
		/// come back; or null.
		pub loaded: Cell<*const c_void>,
	}
}

impl Light {
	/// As the kernel initialises it: all zeroes.
	pub const fn new() -> Self {
		Self {
			lpcr: Cell::new(0),
			host_pidr: Cell::new(0),
			host_amr: Cell::new(0),
			host_iamr: Cell::new(0),
			limit: Cell::new(0),
			table: Cell::new(0),
			counters: Cell::new(ptr::null()),
			prod_id: Cell::new(0),
			prod_vcpu: Cell::new(ptr::null()),
			loaded: Cell::new(ptr::null()),
		}
	}
}

/// What became of an access in a light exit. The glue has the values as `KVM_P9_ABI_ANSWER_`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Answered {
	/// Nothing has changed: the exit has to be a full one.
	Refused = 0,
	/// The access is done, and the guest can go on.
	Done = 1,
	/// The access is done, and there is work for the run loop.
	DoneLeave = 2,
}

impl Answered {
	/// By the value that the glue returned. The glue has no other values; an unknown one leaves the
	/// guest, after which nothing depends on it.
	pub const fn from_glue(value: i32) -> Self {
		match value {
			0 => Self::Refused,
			1 => Self::Done,
			_ => Self::DoneLeave,
		}
	}
}

/// What a guest stored to that has no translation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
	/// The memory of this slot of the kernel, of which the host may map a page.
	Memory(NonNull<u8>),
	/// This device of the kernel, as its range on a bus.
	Device(NonNull<u8>),
	/// Neither: a device of userspace, or memory that takes the full exit.
	Other,
}

impl Target {
	/// The bit that tells a slot from a device, in the glue's value. Neither's address has it.
	pub const MEMORY: usize = 1;

	/// By the value that the glue returned.
	pub fn from_glue(value: *mut u8) -> Self {
		let address = value.map_addr(|address| address & !Self::MEMORY);
		match NonNull::new(address) {
			Some(slot) if value.addr() & Self::MEMORY != 0 => Self::Memory(slot),
			Some(device) => Self::Device(device),
			None => Self::Other,
		}
	}
}

/// What became of an interrupt of the host, a page fault, or an hcall that may sleep, in a light exit. The glue has the
/// first two values as `KVM_P9_ABI_SERVE_`, and returns the third as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Served {
	/// It is done, and all of the host's context is back: there is work for the run loop, or the
	/// thread was scheduled out.
	Left,
	/// It is not done, and all of the host's context is back.
	Refused,
	/// The guest can go on, until this host timebase: that of the host's next timer.
	GoOn(u64),
}

impl Served {
	/// The glue's values. No timer is so early.
	pub const LEFT: u64 = 0;
	/// See [`LEFT`](Self::LEFT).
	pub const REFUSED: u64 = 1;

	/// By the value that the glue returned.
	pub const fn from_glue(value: u64) -> Self {
		match value {
			Self::LEFT => Self::Left,
			Self::REFUSED => Self::Refused,
			limit => Self::GoOn(limit),
		}
	}
}

impl Default for Light {
	fn default() -> Self {
		Self::new()
	}
}

macro_rules! light_counters {
	($($(#[$doc:meta])* $variant:ident: $c:literal = $name:literal;)*) => {
		/// What became of an exit that was considered for the light way.
		#[derive(Clone, Copy, PartialEq, Eq, Debug)]
		#[repr(usize)]
		pub enum LightCounter {
			$($(#[$doc])* $variant,)*
		}

		impl LightCounter {
			/// All of them, in order.
			pub const ALL: &[Self] = &[$(Self::$variant),*];
			/// How many there are.
			pub const COUNT: usize = Self::ALL.len();

			/// Stands for none of them.
			pub const NONE: u64 = Self::COUNT as u64;

			/// Stands for none of them, where reasons are not counted.
			pub const SILENT: u64 = Self::NONE + 1;

			/// The name in debugfs.
			pub const fn name(self) -> &'static str {
				match self {
					$(Self::$variant => $name,)*
				}
			}

			/// Whether it is one of those of which each entry with light exits on has exactly one:
			/// why the next exit was full.
			pub fn is_full(self) -> bool {
				self == Self::Work || self.name().starts_with("not_light_")
			}

			/// The end of the name in C's `enum kvm_p9_light_counter`.
			pub const fn c_name(self) -> &'static str {
				match self {
					$(Self::$variant => $c,)*
				}
			}
		}
	};
}

light_counters! {
	/// Answered: H_CEDE of a vcpu that has work.
	Cede: "LIGHT_CEDE" = "light_h_cede";
	/// Answered: H_PROD.
	Prod: "LIGHT_PROD" = "light_h_prod";
	/// Answered: H_CONFER that yields to none.
	Confer: "LIGHT_CONFER" = "light_h_confer";
	/// Answered: H_RANDOM.
	Random: "LIGHT_RANDOM" = "light_h_random";
	/// Answered: H_SET_MODE for CIABR, or for a watchpoint that no guest may set.
	SetMode: "LIGHT_SET_MODE" = "light_h_set_mode";
	/// Answered: H_LOGICAL_CI_LOAD.
	CiLoad: "LIGHT_CI_LOAD" = "light_h_logical_ci_load";
	/// Answered: H_LOGICAL_CI_STORE.
	CiStore: "LIGHT_CI_STORE" = "light_h_logical_ci_store";
	/// Answered: the hcalls of XICS.
	Xics: "LIGHT_XICS" = "light_h_xics";
	/// Answered: a store to an eventfd, or to another device of the kernel.
	Store: "LIGHT_STORE" = "light_store";
	/// Answered: `msgsndp`, a doorbell for another vcpu.
	Doorbell: "LIGHT_DOORBELL" = "light_doorbell";
	/// Answered: a storage fault of a hash guest that is the guest's own.
	HashFault: "LIGHT_HASH_FAULT" = "light_hash_fault";
	/// Answered: a page fault of a radix guest, by the host.
	Fault: "LIGHT_FAULT" = "light_page_fault";
	/// Answered: an hcall of a radix guest for which the kernel may sleep.
	Call: "LIGHT_CALL" = "light_h_other";
	/// Served: the host's timer.
	Timer: "LIGHT_TIMER" = "light_host_timer";
	/// Served: an interrupt of the host from a device or from another CPU.
	Interrupt: "LIGHT_INTERRUPT" = "light_host_interrupt";
	/// Of the served: the exit became a full one after it, because of work for the run loop.
	Work: "LIGHT_WORK" = "light_then_full";
	/// Of the served: the thread was scheduled out meanwhile, which took the guest's context away.
	Flushed: "LIGHT_FLUSHED" = "light_flushed";
	/// Of the answered: an interrupt was sent after it, to end the guest's run.
	Kicks: "LIGHT_KICKS" = "light_kicks";
	/// Of the answered: the kernel had used FP, VMX or VSX.
	Reloads: "LIGHT_RELOADS" = "light_reloads";
	/// Full exit: the vcpu that cedes has no work, and sleeps.
	FullCede: "FULL_CEDE" = "not_light_cede_without_work";
	/// Full exit: the handler can't answer the hcall.
	FullHcall: "FULL_HCALL" = "not_light_hcall_refused";
	/// Full exit: any other hcall, which no light handler was called for.
	FullOtherHcall: "FULL_OTHER_HCALL" = "not_light_other_hcall";
	/// Full exit: a store without a translation, to no device of the kernel, or one that the device
	/// did not take.
	FullStore: "FULL_STORE" = "not_light_store_no_device";
	/// Full exit: a store to memory without a translation: a page fault.
	FullStoreFault: "FULL_STORE_FAULT" = "not_light_store_to_memory";
	/// Full exit: a page fault, and work for the run loop, or a page that can't be mapped.
	FullFault: "FULL_FAULT" = "not_light_fault_refused";
	/// Full exit: the instruction of a store to a device, or of a doorbell, was not to be had.
	FullFetch: "FULL_FETCH" = "not_light_fetch_failed";
	/// Full exit: a load without a translation, from memory or from a device.
	FullLoad: "FULL_LOAD" = "not_light_load";
	/// Full exit: an instruction fetch without a translation.
	FullExecute: "FULL_EXECUTE" = "not_light_instruction_fetch";
	/// Full exit: an interrupt of the host, and work for the run loop.
	FullInterrupt: "FULL_INTERRUPT" = "not_light_interrupt_with_work";
	/// Full exit: an interrupt of the host, out of a radix guest with the MMU off, or out of a
	/// transaction.
	FullMmuOff: "FULL_MMU_OFF" = "not_light_interrupt_mmu_off";
	/// Full exit: the guest or the host uses the PMU.
	FullPmu: "FULL_PMU" = "not_light_pmu_in_use";
	/// Full exit: a tracepoint of the run loop is on.
	FullTraced: "FULL_TRACED" = "not_light_traced";
	/// Full exit: anything else, such as a facility that the guest may not use.
	FullOther: "FULL_OTHER" = "not_light_other";
	/// No exit: an interrupt was pending, or the time was up, before the guest was entered.
	NotEntered: "NOT_ENTERED" = "not_light_not_entered";
}
