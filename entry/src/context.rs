// SPDX-License-Identifier: GPL-2.0-only
//! What the switch is generic over and works on: the structures of one entry, the kind of guest and
//! of CPU, and the rest of the kernel.

use core::ptr::NonNull;

use ::hpt::fault::{Fault, Owner};
use powerpc::{Answered, Cpu, Served, Target};

use crate::light::Registers;
use crate::switch::{Loaded, Service};
use crate::views::{ExceptionView, KvmView, NestedView, PacaView, TaskView, VcoreView, VcpuView};

/// What a CPU model has, and what kind of guest it is. Constants, so that a switch
/// path is compiled for each and tests none of it.
pub trait Profile {
	/// The kind of guest.
	const KIND: GuestKind;
	/// Light exits are on. Not for L2 guests.
	const LIGHT: bool = false;
	/// The CPU has transactional memory, and the hypervisor has to help with it
	/// (POWER9 DD2.2 and 2.3). Without, it has none: an MSR or HFSCR that says
	/// otherwise is userspace's, and must not make this code use the facility. To ask costs
	/// nothing that matters.
	fn tm_assist() -> bool;
}

/// What kind of guest the vcpu is at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestKind {
	/// It uses the radix MMU.
	Radix,
	/// It is a guest of a guest that is a hypervisor, and uses the radix MMU.
	L2,
	/// It uses the hash MMU.
	Hash,
}

/// What the switch needs of the rest of the kernel, besides the processor.
pub trait Kernel: Cpu {
	/// `switch_pmu_to_guest()` / `switch_pmu_to_host()`, which know by the VPA and by
	/// demand faulting whether the PMU is anybody's.
	fn pmu_to_guest(&mut self, vcpu: VcpuView);
	/// See [`pmu_to_guest`](Self::pmu_to_guest).
	fn pmu_to_host(&mut self, vcpu: VcpuView);
	/// Loads the guest's FP, VMX and VSX registers, with FPSCR and VSCR.
	///
	/// # Safety
	///
	/// MSR[FP,VEC,VSX] must be set, and the values in the registers must be saved or dead.
	unsafe fn load_vectors(&mut self, vcpu: VcpuView);
	/// Stores them.
	fn store_vectors(&mut self, vcpu: VcpuView);
	/// `kvmppc_restore_tm_hv()` / `kvmppc_save_tm_hv()`, for an active transaction. Both
	/// may leave values of its checkpoint in the registers that are marked so.
	fn restore_tm(&mut self, vcpu: VcpuView, msr: u64);
	/// See [`restore_tm`](Self::restore_tm).
	fn save_tm(&mut self, vcpu: VcpuView, msr: u64);
	/// `kvmhv_p9_tm_emulation_early()`: whether the guest can go straight on.
	fn tm_emulation_early(&mut self, vcpu: VcpuView) -> bool;
	/// Flushes this CPU's translations for the guest if another CPU asked for it.
	fn flush_tlb_if_needed(&mut self, context: &Context, nested: Option<NestedView>);
	/// Clears the whole SLB, with what is cached of it.
	///
	/// # Safety
	///
	/// The host must not translate by the SLB.
	unsafe fn slb_clear_all(&mut self);
	/// Loads HSRR0 and HSRR1 while the mode byte has its guest value, so that a system reset in between
	/// is survived.
	///
	/// # Safety
	///
	/// The guest must run next, and its SRR0 and SRR1 must be loaded after this.
	unsafe fn load_way_in(&mut self, nia: u64, msr: u64);
	/// Puts the GPRs in and runs the guest.
	///
	/// # Safety
	///
	/// All of the guest's state must be loaded.
	unsafe fn run_guest(&mut self, vcpu: VcpuView);
	/// `kvmppc_realmode_machine_check()`.
	fn machine_check(&mut self, vcpu: VcpuView);
	/// `kvmppc_p9_realmode_hmi_handler()`.
	fn hmi(&mut self, vcpu: VcpuView);
	/// `timer_rearm_host_dec()`.
	fn rearm_host_dec(&mut self, tb: u64);
	/// The largest value of the decrementer (`decrementer_max`).
	fn decrementer_max(&self) -> u64;
	/// Watchpoints are usable (`dawr_enabled()`).
	fn dawr_enabled(&self) -> bool;
	/// The phases of CONFIG_KVM_BOOK3S_HV_P9_TIMING.
	fn time_in_guest(&mut self, vcpu: VcpuView);
	/// See [`time_in_guest`](Self::time_in_guest).
	fn time_guest_exit(&mut self, vcpu: VcpuView);
	/// Has the end of the exit know that the guest was entered.
	fn entered(&mut self);
	/// Has light exits know these values until the next full entry.
	fn set_light(&mut self, vcpu: VcpuView, registers: Registers, limit: u64);
	/// What [`set_light`](Self::set_light) was told.
	fn light(&self, vcpu: VcpuView) -> Registers;
	/// What the guest stored to. Memory only if there is no work for the run loop, and the guest may be
	/// entered again as it was.
	fn light_find_target(&mut self, vcpu: VcpuView, address: u64) -> Target;
	/// Whether a light exit can leave the PMU alone: neither the guest nor the host uses it. If it
	/// can't, that is noted as the reason for which the exit is full.
	fn nobody_has_the_pmu(&mut self, vcpu: VcpuView) -> bool;
	/// Sends the doorbell that the guest's instruction asks for, or changes nothing. Called in
	/// [`light::window`](crate::light::window).
	fn light_ring(&mut self, vcpu: VcpuView) -> Answered;
	/// Whether the kernel has a device at the effective address of a hash guest, which it knows as a
	/// device's. The MMU is off.
	fn light_hash_finds_device(&mut self, vcpu: VcpuView, address: u64) -> bool;
	/// Answers the store of a hash guest to an address that the kernel knows as a device's, or
	/// changes nothing. Called in [`light::window`](crate::light::window).
	fn light_hash_store(&mut self, vcpu: VcpuView) -> Answered;
	/// Answers the hcall of a hash guest, or changes nothing. Called in
	/// [`light::window`](crate::light::window).
	fn light_hash_hcall(&mut self, vcpu: VcpuView) -> Answered;
	/// Answers the store, or changes nothing. Called in [`light::window`](crate::light::window).
	fn light_store(&mut self, vcpu: VcpuView, device: NonNull<u8>) -> Answered;
	/// Whether an interrupt of the host can be served in a light exit: there is no work for the
	/// run loop, and the guest may be entered again as it was.
	fn light_may_serve(&mut self, vcpu: VcpuView) -> bool;
	/// The same for an hcall that the kernel answers, which may sleep.
	fn light_may_call(&mut self, vcpu: VcpuView) -> bool;
	/// Whether the handler of the guest's H_PUT_TCE_INDIRECT left it to the kernel to read the list.
	fn wants_list(&self, vcpu: VcpuView) -> bool;
	/// The memory slot at the guest's address, if the host can map a page of it in a light exit: there
	/// is no work for the run loop, and the guest may be entered again as it was.
	fn light_find_memory(
		&mut self,
		vcpu: VcpuView,
		address: u64,
		store: bool,
	) -> Option<NonNull<u8>>;
	/// Enables interrupts with the host's context in place: for as long as the host has any, or until it
	/// has mapped a page or answered an hcall. What is `loaded` is flushed if the guest can't go on after it.
	fn light_serve<P: Profile>(
		&mut self,
		loaded: &Loaded<'_>,
		service: Service,
		trap: u32,
	) -> Served;
	/// Whether hcalls and storage faults of a hash guest may be answered without a full exit: neither
	/// the guest nor the host uses the PMU.
	fn answers_faults(&self, vcpu: VcpuView) -> bool;
	/// Whether the kernel knows the address as a device's.
	fn is_known_device(&self, vcpu: VcpuView, kvm: KvmView, address: u64) -> bool;
	/// Whose a storage fault of a hash guest is. The MMU is off.
	fn fault_owner(&mut self, vcpu: VcpuView, fault: Fault) -> Owner;
	/// Counts a storage fault that was answered.
	fn count_fault(&mut self, vcpu: VcpuView);
	/// The save area that an interrupt with this trap number used.
	fn exception_area(&self, trap: u32) -> ExceptionView;
}

/// The structures of one entry.
#[derive(Clone, Copy)]
pub struct Context {
	/// The vcpu.
	pub vcpu: VcpuView,
	/// Its vcore.
	pub vcore: VcoreView,
	/// Its VM.
	pub kvm: KvmView,
	/// This CPU.
	pub paca: PacaView,
	/// The current task.
	pub task: TaskView,
	/// The L2 guest that the vcpu is at present, for one of that kind.
	pub nested: Option<NestedView>,
}
