// SPDX-License-Identifier: GPL-2.0-only
//! Guest to host.

use core::ptr::NonNull;

use hcall::Number;
use powerpc::{Answered, Msr, Spr, Target};

use super::enter::{self, Facilities, Host};
use super::facilities::{self, has_tm};
use super::serve::Run;
use super::{
	Doorbell, HFSCR_CAUSE_SHIFT, INST_FETCH_FAILED, PCR_MASK, PSSCR_FAKE_SUSPEND_SHIFT, hfscr, slb,
	trap,
};
use crate::context::{Context, GuestKind, Kernel, Profile};
use crate::layout::kernel as layout;
use crate::light::{self, Structures};
use crate::sprs::{self, Conditions, Supervisor, User};
use crate::views::VcpuView;

/// How the guest's run ended.
#[derive(Clone, Copy)]
pub(super) struct Out {
	/// The trap number.
	pub(super) trap: u32,
	/// The guest's own instruction ended the run: no interrupt is pending or recorded.
	pub(super) synchronous: bool,
	/// The timebase may have been set during the exit.
	pub(super) timebase_changed: bool,
}

/// Saves what the next interrupt would overwrite, and the trampoline has not saved. Calls the handlers of
/// the kernel that must run while the guest's state is loaded (HMI, machine check).
#[inline(always)]
pub(super) fn save_interrupt_state<K: Kernel>(k: &mut K, context: &Context) -> Out {
	let Context { vcpu, .. } = *context;
	// Interrupts with HSRRs are told by bit 1, which only other paths use.
	let trap = vcpu.trap() & !2;

	let saved = k.exception_area(trap);
	vcpu.set_gpr9(saved.r9());
	vcpu.set_gpr10(saved.r10());
	vcpu.set_gpr11(saved.r11());
	vcpu.set_gpr12(saved.r12());
	vcpu.set_gpr13(saved.r13());
	vcpu.set_ppr(saved.ppr());
	vcpu.set_cfar(saved.cfar());
	vcpu.set_ctr(saved.ctr());
	vcpu.set_last_inst(INST_FETCH_FAILED);

	let mut out = Out {
		trap,
		synchronous: false,
		timebase_changed: false,
	};
	match trap {
		trap::SYSCALL => out.synchronous = true,
		trap::H_DATA_STORAGE => {
			out.synchronous = true;
			vcpu.set_fault_dar(saved.dar());
			vcpu.set_fault_dsisr(saved.dsisr());
			vcpu.set_fault_gpa(k.mfspr::<{ Spr::ASDR.0 }>());
		}
		trap::H_INST_STORAGE => {
			out.synchronous = true;
			vcpu.set_fault_gpa(k.mfspr::<{ Spr::ASDR.0 }>());
		}
		trap::H_EMUL_ASSIST => {
			out.synchronous = true;
			vcpu.set_emul_inst(k.mfspr::<{ Spr::HEIR.0 }>());
		}
		trap::HV_SOFTPATCH => vcpu.set_emul_inst(k.mfspr::<{ Spr::HEIR.0 }>()),
		trap::H_FAC_UNAVAIL => {
			out.synchronous = true;
			vcpu.set_hfscr(k.mfspr::<{ Spr::HFSCR.0 }>());
		}
		trap::HMI => {
			out.timebase_changed = true;
			k.hmi(vcpu);
		}
		trap::MACHINE_CHECK => {
			out.timebase_changed = true;
			vcpu.set_fault_dar(saved.dar());
			vcpu.set_fault_dsisr(saved.dsisr());
			k.machine_check(vcpu);
		}
		trap::SYSTEM_RESET => out.timebase_changed = true,
		_ => {}
	}
	out
}

/// ASDR has the page's address, and at its top bits that are no address.
const ASDR_PAGE: u64 = 0x0fff_ffff_ffff_f000;

/// What a light exit can answer of an exit that is no hcall.
#[derive(Clone, Copy)]
pub(super) enum Job {
	/// A store to this device of the kernel.
	Store(NonNull<u8>),
	/// `msgsndp`: a doorbell of the guest for another vcpu of its core.
	Doorbell,
	/// A store of a hash guest, at an address that the kernel knows as a device's.
	HashStore,
	/// An hcall of a hash guest, which has no handler that makes a light exit.
	HashHcall,
}

/// What a radix guest came out for, as far as that was looked at.
#[derive(Clone, Copy)]
pub(super) enum Found {
	/// Nothing was looked at.
	Nothing,
	/// A job that a light exit can answer.
	Job(Job),
	/// A store to this memory, of which the host may map a page.
	Memory(NonNull<u8>),
	/// A store that takes the full exit.
	OtherStore,
}

/// What the guest came out for, if a light exit can answer it: outside a transaction, by
/// a guest with translation on. All other exits pass here, too, so the cheap tests come first.
#[inline(always)]
pub(super) fn find_job<K: Kernel>(k: &mut K, context: &Context) -> Found {
	/// What a store is that has no translation, and nothing else is wrong.
	const MASK: u32 = (layout::DSISR_ODD | layout::DSISR_STORE) as u32;
	let Context { vcpu, .. } = *context;
	match vcpu.trap() & !2 {
		trap @ trap::H_DATA_STORAGE
			if k.exception_area(trap).dsisr() & MASK == layout::DSISR_STORE as u32 =>
		{
			find_target(k, vcpu)
		}
		trap::H_FAC_UNAVAIL => find_doorbell(k, vcpu),
		_ => Found::Nothing,
	}
}

/// What a hash guest came out for, if a light exit can answer it: an hcall of the kernel's that never
/// sleeps. Its handlers run with the MMU off, and cannot call C.
#[inline(always)]
pub(super) fn find_hash_job<K: Kernel>(k: &mut K, context: &Context) -> Found {
	const HCALLS: [Number; 4] = [
		Number::PROD,
		Number::CONFER,
		Number::LOGICAL_CI_LOAD,
		Number::LOGICAL_CI_STORE,
	];
	let Context { vcpu, .. } = *context;
	let answers = vcpu.trap() & !2 == trap::SYSCALL
		&& HCALLS.contains(&Number(vcpu.gpr3()))
		&& !Msr::from_bits_retain(vcpu.msr()).intersects(Msr::TS | Msr::PR)
		&& k.answers_faults(vcpu);
	if answers {
		Found::Job(Job::HashHcall)
	} else {
		Found::Nothing
	}
}

/// The job, if the access of a hash guest to a device is a store to one of the kernel, with
/// translation on and outside a transaction.
#[inline(always)]
pub(super) fn may_store_to_device<K: Kernel>(k: &mut K, vcpu: VcpuView) -> Found {
	let msr = Msr::from_bits_retain(vcpu.msr());
	let area = k.exception_area(trap::H_DATA_STORAGE);
	let may = area.dsisr() & layout::DSISR_STORE as u32 != 0
		&& msr.contains(Msr::DR)
		&& !msr.intersects(Msr::TS)
		&& k.light_hash_finds_device(vcpu, area.dar());
	if may {
		Found::Job(Job::HashStore)
	} else {
		Found::Nothing
	}
}

/// Whether the guest has translation on, and is not in a transaction.
#[inline(always)]
fn may_be_light<K: Kernel>(k: &mut K, vcpu: VcpuView) -> bool {
	!Msr::from_bits_retain(vcpu.msr()).intersects(Msr::TS)
		&& Msr::from_bits_retain(k.mfmsr()).contains(Msr::IR | Msr::DR)
}

#[inline(never)]
fn find_target<K: Kernel>(k: &mut K, vcpu: VcpuView) -> Found {
	let page = k.mfspr::<{ Spr::ASDR.0 }>() & ASDR_PAGE;
	let address = page | k.exception_area(trap::H_DATA_STORAGE).dar() & 0xfff;
	// With the PMU in use it has to be switched first.
	if !may_be_light(k, vcpu) || !k.nobody_has_the_pmu(vcpu) {
		return Found::Nothing;
	}
	match k.light_find_target(vcpu, address) {
		Target::Memory(slot) => Found::Memory(slot),
		Target::Device(device) => Found::Job(Job::Store(device)),
		Target::Other => Found::OtherStore,
	}
}

#[inline(never)]
fn find_doorbell<K: Kernel>(k: &mut K, vcpu: VcpuView) -> Found {
	let facility = k.mfspr::<{ Spr::HFSCR.0 }>() >> HFSCR_CAUSE_SHIFT;
	let is_doorbell = facility == hfscr::MSGP.trailing_zeros().into();
	match is_doorbell && may_be_light(k, vcpu) && k.nobody_has_the_pmu(vcpu) {
		true => Found::Job(Job::Doorbell),
		false => Found::Nothing,
	}
}

/// Tries to do such a job in a light exit. If the job is done, the guest can go
/// straight on, and the result is `None`. If not, the exit goes on as a full one. If the job is
/// done but left work for the run loop, the exit goes on as a full one with the trap
/// [`NONE`](trap::NONE): the run loop has nothing to answer.
///
/// # Safety
///
/// As for [`light::window`].
#[inline(never)]
pub(super) unsafe fn leave_lightly<P: Profile, K: Kernel>(
	k: &mut K,
	context: Context,
	job: Job,
) -> Option<Out> {
	// Both kinds of exit need all of this.
	let out = save_interrupt_state(k, &context);
	let Context {
		vcpu,
		vcore,
		kvm,
		paca,
		..
	} = context;
	let is_hash = matches!(P::KIND, GuestKind::Hash);
	// For the search for the instruction, or for what translates the address. In the window the
	// registers are the host's.
	vcpu.set_pid(k.mfspr::<{ Spr::PIDR.0 }>() as u32);
	if is_hash {
		vcpu.set_amr(k.mfspr::<{ Spr::AMR.0 }>());
		// SAFETY: a radix host translates nothing by the SLB.
		unsafe { slb::take(k, vcpu) };
	}
	let structures = Structures { vcore, kvm, paca };
	let registers = k.light(vcpu);
	let body = |k: &mut K| {
		if is_hash {
			// SAFETY: the MMU context is the host's, which has what runs at the same address
			// with translation off and on.
			unsafe { turn_mmu_on(k) };
		}
		let answered = match job {
			Job::Store(device) => k.light_store(vcpu, device),
			Job::Doorbell => k.light_ring(vcpu),
			Job::HashStore => k.light_hash_store(vcpu),
			Job::HashHcall => k.light_hash_hcall(vcpu),
		};
		if is_hash {
			// SAFETY: what follows uses the linear map only.
			unsafe { enter::turn_mmu_off(k) };
		}
		answered
	};
	// SAFETY: the guest's context is loaded, which this function requires. What an interrupt overwrites is saved, and is loaded again on
	// both ways: by the loop that called this, or by the next full entry.
	let (answered, _) = unsafe { light::window(k, structures, registers, body) };
	if is_hash {
		// SAFETY: the MMU is off, the SLB clear, and LPCR the guest's.
		unsafe { slb::load(k, vcpu) };
	}
	match answered {
		Answered::Refused => return Some(out),
		Answered::DoneLeave => {
			return Some(Out {
				trap: trap::NONE,
				..out
			});
		}
		Answered::Done => {}
	}
	// SAFETY: as on the way in.
	unsafe { enter::load_way_back(k, vcpu) };
	None
}

/// Turns the MMU on. Synchronises the context.
///
/// # Safety
///
/// The MMU context must be the host's.
#[inline(always)]
pub(super) unsafe fn turn_mmu_on<K: Kernel>(k: &mut K) {
	let msr = k.mfmsr() | (Msr::IR | Msr::DR).bits();
	// SAFETY: the kernel's text and stack are at the same address with translation on.
	unsafe { k.mtmsrd(msr) };
}

/// Loads NIA and MSR as the emulation of a transactional memory instruction left them, and HFSCR.
///
/// # Safety
///
/// The guest must run next.
#[inline(always)]
pub(super) unsafe fn go_straight_on<K: Kernel>(k: &mut K, context: &Context) {
	// SAFETY: interrupts that use these are disabled.
	unsafe {
		enter::load_hfscr(k, context.vcpu);
		k.load_way_in(context.vcpu.nip(), context.vcpu.msr());
	}
}

/// What a light exit does with the host's interrupts enabled.
#[derive(Clone, Copy)]
pub enum Service {
	/// It serves the host's interrupts.
	Interrupts,
	/// It has the host map a page of this memory slot, for which it may sleep.
	Fault {
		/// The kernel's slot.
		slot: NonNull<u8>,
		/// The guest stores to the page.
		store: bool,
	},
	/// It has the kernel answer an hcall, which may sleep.
	Hcall,
}

/// What of that the guest left for: an interrupt of the host, memory that the host has not mapped, or an hcall.
/// The guest must not be in a transaction, and a radix guest must have translation on. Page faults and
/// hcalls of hash guests take the full exit. All exits but the shortest pass here: the cheap tests come first.
#[inline(always)]
pub(super) fn find_service<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	found: Found,
) -> Option<Service> {
	/// What neither storage interrupt says of a translation that is only not there.
	const ODD: u64 = layout::DSISR_ODD as u64;
	let Context { vcpu, .. } = *context;
	match found {
		Found::Memory(slot) => return Some(Service::Fault { slot, store: true }),
		Found::OtherStore => return None,
		Found::Nothing | Found::Job(_) => {}
	}
	match vcpu.trap() & !2 {
		trap::HV_DECREMENTER | trap::H_DOORBELL | trap::H_VIRT => {
			may_serve::<P, _>(k, vcpu).then_some(Service::Interrupts)
		}
		trap @ trap::H_DATA_STORAGE if matches!(P::KIND, GuestKind::Radix) => {
			let dsisr = k.exception_area(trap).dsisr();
			if u64::from(dsisr) & ODD != 0 {
				return None;
			}
			find_memory(k, vcpu, dsisr & layout::DSISR_STORE as u32 != 0)
		}
		trap::H_INST_STORAGE if matches!(P::KIND, GuestKind::Radix) => {
			if vcpu.msr() & (ODD | layout::HISI_WRITE as u64) != 0 {
				return None;
			}
			find_memory(k, vcpu, false)
		}
		trap::SYSCALL if matches!(P::KIND, GuestKind::Radix) => {
			let may = may_sleep(k, vcpu) && may_call(k, vcpu);
			may.then_some(Service::Hcall)
		}
		_ => None,
	}
}

/// Whether the kernel always answers this hcall, which no handler has answered, and may sleep for it. Others
/// are userspace's, or may be, or change what an entry of the guest depends on. H_CEDE has a way of its own.
#[inline(always)]
fn may_sleep<K: Kernel>(k: &K, vcpu: VcpuView) -> bool {
	match Number(vcpu.gpr3()) {
		Number::CONFER | Number::PAGE_INIT => true,
		// The handler knows the table, and lacks the list only.
		Number::PUT_TCE_INDIRECT => k.wants_list(vcpu),
		_ => false,
	}
}

#[inline(never)]
fn may_call<K: Kernel>(k: &mut K, vcpu: VcpuView) -> bool {
	!Msr::from_bits_retain(vcpu.msr()).contains(Msr::PR)
		&& may_be_light(k, vcpu)
		&& k.light_may_call(vcpu)
}

#[inline(never)]
fn find_memory<K: Kernel>(k: &mut K, vcpu: VcpuView, store: bool) -> Option<Service> {
	let address = k.mfspr::<{ Spr::ASDR.0 }>() & ASDR_PAGE;
	if !may_be_light(k, vcpu) {
		return None;
	}
	let slot = k.light_find_memory(vcpu, address, store)?;
	Some(Service::Fault { slot, store })
}

#[inline(never)]
fn may_serve<P: Profile, K: Kernel>(k: &mut K, vcpu: VcpuView) -> bool {
	let may = match P::KIND {
		GuestKind::Hash => !Msr::from_bits_retain(vcpu.msr()).intersects(Msr::TS),
		GuestKind::Radix | GuestKind::L2 => may_be_light(k, vcpu),
	};
	may && k.light_may_serve(vcpu)
}

/// What was read of the guest and has a rule of its own.
pub(super) struct GuestSaved {
	purr: u64,
	spurr: u64,
	pub(super) doorbell: bool,
	hdec_left: u64,
	dec: u64,
}

impl GuestSaved {
	/// Reads all of the guest's registers that the exit's first instructions have not read.
	#[inline(always)]
	pub(super) fn save<K: Kernel>(
		k: &mut K,
		context: &Context,
		when: Conditions,
		doorbell: Doorbell,
	) -> Self {
		let vcpu = context.vcpu;
		let purr = k.mfspr::<{ Spr::PURR.0 }>();
		let spurr = k.mfspr::<{ Spr::SPURR.0 }>();
		save_deferred(k, context, when);
		Supervisor::save(k, context, when);
		vcpu.set_pid(k.mfspr::<{ Spr::PIDR.0 }>() as u32);
		// After PIDR, or hostile-* finds another value than C under QEMU, which seems not to know
		// PSSCR_PR: mfspr leaves what the general register held.
		vcpu.set_psscr(k.mfspr::<{ Spr::PSSCR_PR.0 }>());
		Self::read(k, purr, spurr, doorbell)
	}

	/// Reads the doorbell, HDEC and DEC. The others were read before.
	#[inline(always)]
	pub(super) fn read<K: Kernel>(k: &mut K, purr: u64, spurr: u64, doorbell: Doorbell) -> Self {
		Self {
			purr,
			spurr,
			doorbell: doorbell.readable && k.mfspr::<{ Spr::DPDES.0 }>() != 0,
			hdec_left: k.mfspr::<{ Spr::HDEC.0 }>(),
			dec: k.mfspr::<{ Spr::DEC.0 }>(),
		}
	}
}

/// Saves what a light exit leaves the guest's, also while interrupts are enabled: all but PSSCR.
#[inline(always)]
pub(super) fn save_deferred<K: Kernel>(k: &mut K, context: &Context, when: Conditions) {
	let vcpu = context.vcpu;
	User::save(k, context, when);
	sprs::GuestOnly::save(k, context, when);
	vcpu.set_ctrl(k.mfspr::<{ Spr::CTRLF.0 }>() as u32);
}

/// Times of an exit.
#[derive(Clone, Copy)]
pub(super) struct Times {
	/// The host's timebase.
	pub(super) tb: u64,
	/// What was added to the timebase for the guest.
	pub(super) applied: u64,
	/// The host's PURR and SPURR, with what the guest used.
	pub(super) purr: u64,
	pub(super) spurr: u64,
}

/// Computes the host's time, and saves the guest's decrementer, doorbell, PURR and SPURR.
#[inline(always)]
pub(super) fn account<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	guest: &GuestSaved,
	run: &Run,
	out: Out,
	lpcr: u64,
) -> Times {
	let vcpu = context.vcpu;
	// See "Time" in docs/entry-exit.md.
	let applied = context.vcore.tb_offset_applied();
	let tb = if out.timebase_changed {
		k.mftb().wrapping_sub(applied)
	} else {
		run.started
			.wrapping_add(run.hdec.wrapping_sub(guest.hdec_left))
	};
	let dec = if lpcr & layout::HV_LPCR_LD as u64 == 0 {
		// Without the large decrementer it has 32 bits.
		guest.dec as i32 as u64
	} else {
		guest.dec
	};
	vcpu.set_dec_expires(dec.wrapping_add(tb).wrapping_add(applied));
	if guest.doorbell {
		Doorbell::request::<P>(vcpu, 1);
	}
	let purr = run.purr.wrapping_add(guest.purr.wrapping_sub(vcpu.purr()));
	let spurr = run
		.spurr
		.wrapping_add(guest.spurr.wrapping_sub(vcpu.spurr()));
	vcpu.set_purr(guest.purr);
	vcpu.set_spurr(guest.spurr);
	Times {
		tb,
		applied,
		purr,
		spurr,
	}
}

/// Whether the guest is in a transaction.
///
/// An interrupt suspends a transaction, and mtmsrd must not change that: with another \[TS\] than
/// the processor has it would be a program interrupt. So `msr` gets the suspended state.
#[inline(always)]
pub(super) fn suspends_transaction<P: Profile>(context: &Context, msr: &mut u64) -> bool {
	let active = has_tm::<P>() && Msr::from_bits_retain(context.vcpu.msr()).intersects(Msr::TS);
	if active {
		*msr |= Msr::TS_S.bits();
	}
	active
}

/// Whether MSR may be restored after all else. See "Enabling interrupts" in docs/entry-exit.md.
#[inline(always)]
pub(super) fn may_restore_msr_last<P: Profile, K: Kernel>(
	k: &mut K,
	transaction: bool,
	out: Out,
) -> bool {
	!matches!(P::KIND, GuestKind::Hash) && !transaction && out.synchronous && {
		Msr::from_bits_retain(k.mfmsr()).contains(Msr::IR | Msr::DR)
	}
}

/// Saves the vector registers of a guest in a transaction, and the transaction.
///
/// # Safety
///
/// `host` must be this entry's, and the facilities on in MSR.
#[inline(always)]
pub(super) unsafe fn save_transaction<K: Kernel>(
	k: &mut K,
	context: &Context,
	host: &Host,
	when: Conditions,
) {
	k.store_vectors(context.vcpu);
	k.save_tm(context.vcpu, context.vcpu.msr());
	// SAFETY: each value is the host's own. The registers hold the checkpoint's values now, not
	// those that were saved.
	unsafe {
		host.user.restore_checkpointed(k, context, when);
		host.supervisor.restore_checkpointed(k, context, when);
	}
}

/// Counts the use of event-based branches, if they are switched.
#[inline(always)]
pub(super) fn age_ebb<P: Profile>(context: &Context, when: Conditions) {
	if when.ebb {
		facilities::age::<P>(
			context,
			hfscr::EBB,
			VcpuView::load_ebb,
			VcpuView::set_load_ebb,
		);
	}
}

/// Restores MSR after all else. Enables interrupts as well, if none is recorded.
///
/// # Safety
///
/// `msr` must be what the host had; all other registers must be the host's, but for those of
/// facilities.
#[inline(always)]
pub(super) unsafe fn restore_msr_last<K: Kernel>(k: &mut K, context: &Context, mut msr: u64) {
	let Context { vcpu, paca, .. } = *context;
	if paca.irq_happened() == layout::IRQ_HARD_DIS as u8 && vcpu.xive_pushed() == 0 {
		paca.set_irq_happened(0);
		msr |= Msr::EE.bits();
	}
	// SAFETY: the host's MSR. Facilities' registers are not used before they are saved.
	unsafe { k.mtmsrd(msr) };
}

/// Clears or saves the SLB, and restores PIDR, LPIDR and LPCR.
///
/// # Safety
///
/// `host` must be this entry's; code must keep to quadrant 3, or have the MMU off, until MSR is the
/// host's.
#[inline(always)]
pub(super) unsafe fn restore_mmu_context<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	host: &Host,
) {
	// SAFETY: a radix host translates nothing by the SLB; `host` is this entry's, and code keeps
	// to quadrant 3 until MSR is the host's: this function requires both.
	unsafe {
		if matches!(P::KIND, GuestKind::Hash) {
			slb::take(k, context.vcpu);
		} else {
			slb::clear_four(k);
		}
		load_host_mmu_context(k, context, host.pidr);
	}
}

/// Restores PIDR, LPIDR and LPCR.
///
/// # Safety
///
/// As for [`restore_mmu_context`].
#[inline(always)]
pub(super) unsafe fn load_host_mmu_context<K: Kernel>(k: &mut K, context: &Context, pidr: u64) {
	let kvm = context.kvm;
	// SAFETY: the three registers' values are the host's.
	unsafe {
		// See "Barriers" in docs/entry-exit.md.
		k.hwsync();
		k.mtspr::<{ Spr::PIDR.0 }>(pidr);
		k.mtspr::<{ Spr::LPIDR.0 }>(kvm.host_lpid().into());
		k.mtspr::<{ Spr::LPCR.0 }>(kvm.host_lpcr());
	}
}

/// Restores the host's SPRs, once its MMU context is there.
///
/// # Safety
///
/// `host` and `times` must be this entry's.
#[inline(always)]
pub(super) unsafe fn restore_sprs<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	host: &Host,
	run: &Run,
	when: Conditions,
	doorbell: bool,
	times: Times,
) {
	// SAFETY: each value is the host's own.
	unsafe {
		k.mtspr::<{ Spr::PURR.0 }>(times.purr);
		k.mtspr::<{ Spr::SPURR.0 }>(times.spurr);
		run.debug.restore(k, context, run.when(when));
		if doorbell {
			k.mtspr::<{ Spr::DPDES.0 }>(0);
		}
		// At least as large as DEC, so that it never is what ends a host's sleep.
		k.mtspr::<{ Spr::HDEC.0 }>(k.decrementer_max());
		k.rearm_host_dec(times.tb);

		restore_deferred::<P, _>(k, context, &host.user, host.facilities(), when);
		host.supervisor.restore(k, context, when);
	}
}

/// Restores what a light exit leaves the guest's.
///
/// # Safety
///
/// `user` and `host` must be this entry's.
#[inline(always)]
pub(super) unsafe fn restore_deferred<P: Profile, K: Kernel>(
	k: &mut K,
	context: &Context,
	user: &User,
	host: Facilities,
	when: Conditions,
) {
	let Context {
		vcpu, vcore, paca, ..
	} = *context;
	// SAFETY: each value is the host's own.
	unsafe {
		if P::tm_assist() {
			// [FAKE_SUSPEND] was needed until the transaction was saved.
			let fake_suspend = u64::from(paca.fake_suspend()) << PSSCR_FAKE_SUSPEND_SHIFT;
			k.mtspr::<{ Spr::PSSCR.0 }>(host.psscr | fake_suspend);
		}
		k.mtspr::<{ Spr::HFSCR.0 }>(host.hfscr);
		if vcore.pcr() != 0 {
			k.mtspr::<{ Spr::PCR.0 }>(PCR_MASK);
		}
		user.restore(k, context, when);
		if vcpu.ctrl() & 1 == 0 {
			k.mtspr::<{ Spr::CTRLT.0 }>(1);
		}
	}
}
