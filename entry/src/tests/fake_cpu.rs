// SPDX-License-Identifier: GPL-2.0-only
//! The switch on a processor that writes everything down.
//!
//! The journal is an ordered list of reads, writes and barriers. What a host looks
//! like after a guest ran, what a guest finds and what of it is kept are properties,
//! tried with any values; the order is looked at in a few journals that are kept as
//! reviewed snapshots, and in the rules that hold for all of them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ptr::NonNull;

use ::hpt::fault::{Fault, Owner};
use powerpc::{Answered, Cpu, Lpcr, Msr, Served, Spr, Target};

use crate::layout::kernel as layout;
use crate::light::Registers;
use crate::switch::{self, Context, GuestKind, Kernel, Loaded, Profile, Service, hfscr, trap};
use crate::views::{ExceptionView, KvmView, NestedView, PacaView, TaskView, VcoreView, VcpuView};

/// What happened, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
	Read(Spr),
	Write(Spr, u64),
	Timebase,
	ReadMsr,
	WriteMsr(u64),
	WriteEeRi(u64),
	Hwsync,
	Isync,
	SlbClear(u64),
	SlbClearAll,
	SlbWrite(u64, u64),
	SlbReadEsid(u64),
	SlbReadVsid(u64),
	Call(&'static str),
	Guest,
}

/// Memory for one of the kernel's structures, with room for any invented offset.
pub(super) struct Memory(Box<[u64]>);

impl Memory {
	pub(super) fn new() -> Self {
		Self(vec![0; 2048].into())
	}

	pub(super) fn at(&mut self) -> NonNull<u8> {
		NonNull::new(self.0.as_mut_ptr()).unwrap().cast()
	}
}

/// The processor, the kernel around it, and what the guest will do.
///
/// Time passes with each access: a tick of the timebase, and of HDEC and DEC.
pub(super) struct Machine {
	pub(super) sprs: BTreeMap<u16, u64>,
	/// The SLB's valid entries.
	pub(super) slb: BTreeMap<u64, (u64, u64)>,
	pub(super) msr: u64,
	pub(super) tb: u64,
	pub(super) events: Vec<Event>,
	pub(super) context: Context,
	pub(super) exceptions: ExceptionView,
	/// What the guest leaves in SPRs.
	pub(super) guest_writes: BTreeMap<u16, u64>,
	/// Traps that it comes out with, one a run.
	pub(super) traps: Vec<u32>,
	/// SPRs as the guest found them.
	pub(super) found: BTreeMap<u16, u64>,
	/// The SLB as the guest found it, and as it leaves it, if it is a hash guest.
	pub(super) found_slb: BTreeMap<u64, (u64, u64)>,
	pub(super) guest_slb: Option<BTreeMap<u64, (u64, u64)>>,
	/// Its interrupts arrive with the MMU on.
	pub(super) arrives_virtual: bool,
	/// What a transaction began with: of these registers the processor has the values
	/// in a checkpoint.
	pub(super) checkpoint: BTreeMap<u16, u64>,
	/// How long it runs.
	pub(super) runs: u64,
	/// How long ago the time was read that the switch is told.
	pub(super) late: u64,
	/// The timebase as the guest found it.
	pub(super) found_tb: u64,
	/// The timebase when the guest left for the first time.
	pub(super) first_exit_tb: u64,
	/// What each run of the guest adds to PURR and SPURR.
	pub(super) guest_used: u64,
	/// An interrupt is pending when the host's timer is set again.
	pub(super) timer_due: bool,
	pub(super) lpcr: u64,
	/// Light exits are on, and this happens in one.
	pub(super) light: Option<Light>,
	/// An hcall that the guest makes at the end of its first run is answered so.
	pub(super) hcall: Option<Light>,
	/// Storage faults of a hash guest may be answered, and are this one's.
	pub(super) fault: Option<Owner>,
	/// This address is a device's.
	pub(super) device: Option<u64>,
	/// What was asked of the last one.
	pub(super) asked: Option<Fault>,
	/// A page fault of a radix guest is at memory that the host can map.
	pub(super) memory: bool,
	/// An H_PUT_TCE_INDIRECT was left to the kernel for its list.
	pub(super) wants_list: bool,
	/// The address that was asked for, and whether it is stored to.
	pub(super) asked_memory: Option<(u64, bool)>,
	/// Registers before and after that, the save area after it, and times.
	pub(super) seen: Option<Seen>,
	/// The timebase at the start of a handler.
	pub(super) window_tb: Option<u64>,
	/// The host's registers before the first entry.
	pub(super) host_before: BTreeMap<u16, u64>,
	/// What a full entry has a light exit know.
	pub(super) registers: Option<Registers>,
	pub(super) nested: NestedView,
	pub(super) emulates: bool,
	pub(super) dawr: bool,
	/// Watchpoints are enabled or disabled while interrupts are served, and the host sets one.
	pub(super) dawr_changes: bool,
	pub(super) _memory: Vec<Memory>,
}

/// See [`Machine::seen`].
pub(super) type Seen = (BTreeMap<u16, u64>, BTreeMap<u16, u64>, [u64; 8], [u64; 3]);

/// What happens in the window of a light exit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Light {
	/// The handler answers, or after interrupts there is no work for the run loop.
	pub(super) answers: bool,
	/// A store leaves work for the run loop. Or the thread is scheduled out in a page fault.
	pub(super) leaves_work: bool,
	/// Interrupts of the host can be served.
	pub(super) may_serve: bool,
	/// The host takes an interrupt.
	pub(super) interrupt: bool,
	/// The host sets its timer to this.
	pub(super) timer: Option<u64>,
	/// How long the handler takes.
	pub(super) takes: u64,
}

pub(super) const DECREMENTER_MAX: u64 = (1 << 55) - 1;

/// SRR1's and so the guest's MSR at the end of its run.
pub(super) const GUEST_MSR: Msr = Msr::SF.union(Msr::ME).union(Msr::RI).union(Msr::LE);

pub(super) const HOST_MSR: Msr = GUEST_MSR
	.union(Msr::HV)
	.union(Msr::EE)
	.union(Msr::IR)
	.union(Msr::DR)
	.union(Msr::FP)
	.union(Msr::VEC)
	.union(Msr::VSX)
	.union(Msr::TM);

impl Machine {
	pub(super) fn new() -> Self {
		let mut memory: Vec<_> = (0..7).map(|_| Memory::new()).collect();
		// SAFETY: each has memory of its own that lives as long as the machine.
		let (context, exceptions, nested) = unsafe {
			let context = Context {
				vcpu: VcpuView::new(memory[0].at()),
				vcore: VcoreView::new(memory[1].at()),
				kvm: KvmView::new(memory[2].at()),
				paca: PacaView::new(memory[3].at()),
				task: TaskView::new(memory[4].at()),
				nested: None,
			};
			let exceptions = ExceptionView::new(memory[5].at());
			(context, exceptions, NestedView::new(memory[6].at()))
		};
		context.vcpu.set_msr(GUEST_MSR.bits());
		context.kvm.set_radix(1);
		Self {
			sprs: BTreeMap::new(),
			slb: BTreeMap::new(),
			msr: HOST_MSR.bits(),
			tb: 1 << 40,
			events: Vec::new(),
			context,
			exceptions,
			guest_writes: BTreeMap::new(),
			traps: vec![trap::SYSCALL],
			found: BTreeMap::new(),
			found_slb: BTreeMap::new(),
			guest_slb: None,
			arrives_virtual: true,
			checkpoint: BTreeMap::new(),
			runs: 1000,
			late: 0,
			found_tb: 0,
			first_exit_tb: 0,
			guest_used: 0,
			timer_due: false,
			lpcr: LPCR,
			light: None,
			hcall: None,
			fault: None,
			device: None,
			asked: None,
			memory: false,
			wants_list: false,
			asked_memory: None,
			seen: None,
			window_tb: None,
			host_before: BTreeMap::new(),
			registers: None,
			nested,
			emulates: false,
			dawr: false,
			dawr_changes: false,
			_memory: memory,
		}
	}

	/// Runs the guest, with assistance for transactional memory or without.
	pub(super) fn run(&mut self, assist: bool) -> (u32, u64) {
		self.host_before = self.sprs.clone();
		let (context, mut tb) = (self.context, self.tb);
		let limit = tb + 1_000_000;
		self.tb += self.late;
		let lpcr = self.lpcr;
		macro_rules! run {
			($tm_assist:literal, $kind:literal) => {
				// SAFETY: no processor is involved.
				unsafe {
					switch::run::<Model<$tm_assist, $kind>, _>(self, context, limit, lpcr, &mut tb)
				}
			};
		}
		let radix = context.kvm.radix() != 0;
		let hash_light = self.light.is_some() || self.fault.is_some();
		let trap = match (assist, radix, context.nested.is_some()) {
			(true, true, false) if self.light.is_some() => run!(true, 3),
			(false, true, false) if self.light.is_some() => run!(false, 3),
			(true, true, false) => run!(true, 0),
			(true, true, true) => run!(true, 1),
			(true, false, _) if hash_light => run!(true, 4),
			(false, false, _) if hash_light => run!(false, 4),
			(true, false, _) => run!(true, 2),
			(false, true, false) => run!(false, 0),
			(false, true, true) => run!(false, 1),
			(false, false, _) => run!(false, 2),
		};
		(trap, tb)
	}

	pub(super) fn spr(&self, spr: Spr) -> u64 {
		self.sprs.get(&spr.0).copied().unwrap_or(0)
	}

	pub(super) fn set(&mut self, spr: Spr, value: u64) {
		self.sprs.insert(spr.0, value);
	}

	/// Makes the guest one that uses the hash MMU.
	pub(super) fn hash(&mut self) {
		self.context.kvm.set_radix(0);
		self.lpcr = HASH_LPCR;
		self.arrives_virtual = false;
		self.context.vcpu.set_slb_nr(32);
		self.guest_slb = Some(BTreeMap::new());
	}

	/// Makes the vcpu an L2.
	pub(super) fn l2(&mut self) {
		self.nested.set_shadow_lpid(77);
		self.context.nested = Some(self.nested);
	}

	/// Something is accessed: is it allowed, and time passes.
	pub(super) fn event(&mut self, event: Event) {
		self.events.push(event);
		self.tb += 1;
		let lpcr = Lpcr::from_bits_retain(self.spr(Spr::LPCR));
		let guest_loaded = self.spr(Spr::LPIDR) != u64::from(self.context.kvm.host_lpid());
		if guest_loaded && is_hash(self.lpcr) && !lpcr.contains(Lpcr::HR) {
			let mmu = Msr::from_bits_retain(self.msr) & (Msr::IR | Msr::DR);
			assert!(
				mmu.is_empty(),
				"{event:?} with the MMU on in a hash guest's context"
			);
		}
	}

	/// A register that counts down.
	pub(super) fn count(&self, spr: Spr, bits: u32) -> u64 {
		let left = self.spr(spr).wrapping_sub(self.tb);
		// As wide as it is implemented, with its sign.
		((left << (64 - bits)) as i64 >> (64 - bits)) as u64
	}

	pub(super) fn position(&self, event: impl Fn(&Event) -> bool) -> usize {
		self.events.iter().position(event).expect("it happens")
	}

	pub(super) fn journal(&self) -> String {
		let mut text = String::new();
		for event in &self.events {
			match event {
				Event::Read(spr) => writeln!(text, "    read  {spr:?}"),
				Event::Write(spr, value) => writeln!(text, "    write {spr:?} = {value:#x}"),
				Event::Timebase => writeln!(text, "    read  TB"),
				Event::ReadMsr => writeln!(text, "    read  MSR"),
				Event::WriteMsr(value) => writeln!(text, "    write MSR = {value:#x}"),
				Event::WriteEeRi(value) => writeln!(text, "    write MSR[EE,RI] = {value:#x}"),
				Event::Hwsync => writeln!(text, "hwsync"),
				Event::Isync => writeln!(text, "isync"),
				Event::SlbClear(index) => writeln!(text, "    clear SLB entry {index}"),
				Event::SlbClearAll => writeln!(text, "    clear SLB"),
				Event::SlbWrite(e, v) => writeln!(text, "    write SLB entry {e:#x} = {v:#x}"),
				Event::SlbReadEsid(index) => writeln!(text, "    read  SLB entry {index}, ESID"),
				Event::SlbReadVsid(index) => writeln!(text, "    read  SLB entry {index}, VSID"),
				Event::Call(name) => writeln!(text, "call {name}"),
				Event::Guest => writeln!(text, "guest"),
			}
			.unwrap();
		}
		text
	}
}

pub(super) const LPCR: u64 = 0x40_0000_0340_f000 | 1 << 17 | Lpcr::HR.bits();

/// Whether it is that, but for where interrupts go.
fn is_hash(lpcr: u64) -> bool {
	const ANY: u64 = Lpcr::AIL_3.bits() | layout::HV_LPCR_LD as u64;
	(lpcr ^ HASH_LPCR) & !ANY == 0
}

pub(super) const HASH_LPCR: u64 = LPCR & !(Lpcr::HR.bits() | Lpcr::UPRT.bits());

/// A profile: transactional memory, and the kind of guest by number.
pub(super) struct Model<const TM_ASSIST: bool, const KIND: u8>;

impl<const TM_ASSIST: bool, const KIND: u8> Profile for Model<TM_ASSIST, KIND> {
	fn tm_assist() -> bool {
		TM_ASSIST
	}
	const KIND: GuestKind = [
		GuestKind::Radix,
		GuestKind::L2,
		GuestKind::Hash,
		GuestKind::Radix,
		GuestKind::Hash,
	][KIND as usize];
	const LIGHT: bool = KIND >= 3;
}

impl Cpu for Machine {
	fn mfspr<const N: u16>(&mut self) -> u64 {
		self.event(Event::Read(Spr(N)));
		match Spr(N) {
			// Reading and writing have numbers of their own.
			Spr::CTRLF => self.spr(Spr::CTRLT),
			Spr::HDEC => self.count(Spr::HDEC, 56),
			Spr::DEC if self.lpcr & layout::HV_LPCR_LD as u64 == 0 => {
				self.count(Spr::DEC, 32) & 0xffff_ffff
			}
			Spr::DEC => self.count(Spr::DEC, 56),
			spr => self.spr(spr),
		}
	}

	unsafe fn mtspr<const N: u16>(&mut self, value: u64) {
		let guest_mode = self.context.paca.in_guest() == layout::GUEST_MODE_P9_RS as u8;
		if [Spr::LPIDR, Spr::LPCR, Spr::PIDR].contains(&Spr(N)) {
			assert!(guest_mode, "{:?} written with the host's mode byte", Spr(N));
		}
		self.event(Event::Write(Spr(N), value));
		let value = match Spr(N) {
			// As the time when it will be 0.
			Spr::HDEC | Spr::DEC => value.wrapping_add(self.tb),
			_ => value,
		};
		self.set(Spr(N), value);
		if Spr(N) == Spr::TBU40 {
			let tb = value & !0xff_ffff | self.tb & 0xff_ffff;
			// HDEC and DEC continue, independent of the new timebase.
			for spr in [Spr::HDEC, Spr::DEC] {
				let moved = self.spr(spr).wrapping_add(tb.wrapping_sub(self.tb));
				self.set(spr, moved);
			}
			self.tb = tb;
		}
	}

	fn mftb(&mut self) -> u64 {
		self.event(Event::Timebase);
		self.tb
	}

	fn mfmsr(&mut self) -> u64 {
		self.event(Event::ReadMsr);
		self.msr
	}

	unsafe fn mtmsrd(&mut self, msr: u64) {
		self.msr = msr;
		self.event(Event::WriteMsr(msr));
		if msr & Msr::EE.bits() != 0 {
			assert_eq!(self.context.paca.irq_happened(), 0, "enabled, but not said");
			assert_eq!(self.context.paca.in_guest(), layout::GUEST_MODE_NONE as u8);
			assert_eq!(self.context.vcpu.xive_pushed(), 0);
		}
	}

	unsafe fn mtmsrd_ee_ri(&mut self, msr: u64) {
		self.event(Event::WriteEeRi(msr));
		let bits = (Msr::EE | Msr::RI).bits();
		self.msr = self.msr & !bits | msr & bits;
	}

	fn hwsync(&mut self) {
		self.event(Event::Hwsync);
	}

	fn isync(&mut self) {
		self.event(Event::Isync);
	}

	unsafe fn slb_clear<const INDEX: u64>(&mut self) {
		assert!(INDEX < 4, "out of reach");
		self.event(Event::SlbClear(INDEX));
		self.slb.remove(&INDEX);
	}

	unsafe fn slb_write(&mut self, esid: u64, vsid: u64) {
		self.event(Event::SlbWrite(esid, vsid));
		assert!(is_hash(self.spr(Spr::LPCR)), "out of reach");
		self.slb.insert(esid & 0xfff, (esid & !0xfff, vsid));
	}

	fn slb_esid(&mut self, index: u64) -> u64 {
		self.event(Event::SlbReadEsid(index));
		assert!(is_hash(self.spr(Spr::LPCR)), "out of reach");
		self.slb.get(&index).map_or(0, |entry| entry.0)
	}

	fn slb_vsid(&mut self, index: u64) -> u64 {
		self.event(Event::SlbReadVsid(index));
		self.slb.get(&index).map_or(0, |entry| entry.1)
	}
}

impl Kernel for Machine {
	fn pmu_to_guest(&mut self, _: VcpuView) {
		self.event(Event::Call("pmu_to_guest"));
	}

	fn pmu_to_host(&mut self, vcpu: VcpuView) {
		self.event(Event::Call("pmu_to_host"));
		// As for a guest that has used the PMU, and does not announce it.
		vcpu.set_hfscr(vcpu.hfscr() & !hfscr::PM);
	}

	unsafe fn load_vectors(&mut self, _: VcpuView) {
		let needed = Msr::FP | Msr::VEC | Msr::VSX;
		assert!(
			Msr::from_bits_retain(self.msr).contains(needed),
			"facilities are off"
		);
		self.event(Event::Call("load_vectors"));
	}

	fn store_vectors(&mut self, _: VcpuView) {
		let needed = Msr::FP | Msr::VEC | Msr::VSX;
		assert!(
			Msr::from_bits_retain(self.msr).contains(needed),
			"facilities are off"
		);
		self.event(Event::Call("store_vectors"));
	}

	fn restore_tm(&mut self, vcpu: VcpuView, _: u64) {
		self.event(Event::Call("restore_tm"));
		// The checkpoint is what the registers held at trechkpt. DSCR is put back.
		self.sprs.extend(&self.checkpoint);
		self.set(Spr::TEXASR, vcpu.texasr());
		self.set(Spr::TFHAR, vcpu.tfhar());
		self.set(Spr::TFIAR, vcpu.tfiar());
	}

	fn save_tm(&mut self, vcpu: VcpuView, _: u64) {
		self.event(Event::Call("save_tm"));
		assert_ne!(self.msr & Msr::TS.bits(), 0, "there is no transaction");
		// treclaim loads the checkpoint and ends the transaction. DSCR is put back.
		self.sprs.extend(&self.checkpoint);
		vcpu.set_texasr(self.spr(Spr::TEXASR));
		vcpu.set_tfhar(self.spr(Spr::TFHAR));
		vcpu.set_tfiar(self.spr(Spr::TFIAR));
		self.msr &= !Msr::TS.bits();
	}

	fn tm_emulation_early(&mut self, _: VcpuView) -> bool {
		self.event(Event::Call("tm_emulation_early"));
		self.emulates
	}

	fn flush_tlb_if_needed(&mut self, _: &Context, nested: Option<NestedView>) {
		assert_eq!(nested.is_some(), self.context.nested.is_some());
		let lpid = match nested {
			Some(nested) => nested.shadow_lpid().into(),
			None => self.context.kvm.lpid(),
		};
		assert_eq!(self.spr(Spr::LPIDR), lpid, "flushed by another LPID");
		self.event(Event::Call("flush_tlb_if_needed"));
	}

	unsafe fn slb_clear_all(&mut self) {
		self.event(Event::SlbClearAll);
		self.slb.clear();
	}

	unsafe fn load_way_in(&mut self, nia: u64, msr: u64) {
		// SAFETY: nothing depends on the registers here.
		unsafe {
			self.mtspr::<{ Spr::HSRR0.0 }>(nia);
			self.mtspr::<{ Spr::HSRR1.0 }>(msr);
		}
	}

	unsafe fn run_guest(&mut self, vcpu: VcpuView) {
		assert!(
			!Msr::from_bits_retain(self.msr).contains(Msr::EE),
			"interrupts are enabled"
		);
		assert_eq!(
			self.spr(Spr::HFSCR) & !vcpu.hfscr(),
			0,
			"a facility that the kernel has taken away"
		);
		self.event(Event::Guest);
		self.found = self.sprs.clone();
		self.found_slb = self.slb.clone();
		self.found_tb = self.tb;
		self.tb += self.runs;
		if self.first_exit_tb == 0 {
			self.first_exit_tb = self.tb;
		}
		for spr in [Spr::PURR, Spr::SPURR] {
			let count = self.spr(spr).wrapping_add(self.guest_used);
			self.set(spr, count);
		}
		self.sprs.extend(&self.guest_writes);
		if let Some(dec) = self.guest_writes.get(&Spr::DEC.0) {
			self.set(Spr::DEC, dec.wrapping_add(self.tb));
		}
		match &self.guest_slb {
			Some(slb) => self.slb = slb.clone(),
			// All that it can reach.
			None => self.slb = (0..4).map(|index| (index, (1 << 27, 0xbad))).collect(),
		}
		vcpu.set_trap(self.traps.remove(0));
		vcpu.set_msr(
			self.guest_writes
				.get(&Spr::SRR1.0)
				.copied()
				.unwrap_or(GUEST_MSR.bits()),
		);
		let trap = vcpu.trap() & !2;
		// `sc` has left NIA and MSR there.
		if trap == trap::SYSCALL {
			self.set(Spr::SRR0, vcpu.nip());
			self.set(Spr::SRR1, vcpu.msr());
		}
		vcpu.set_srr0(self.spr(Spr::SRR0));
		vcpu.set_srr1(self.spr(Spr::SRR1));
		vcpu.set_dar(self.spr(Spr::DAR));
		vcpu.set_dsisr(self.spr(Spr::DSISR) as u32);
		self.msr = (Msr::SF | Msr::HV | Msr::ME | Msr::LE).bits();
		// Machine check, system reset and HMI are taken with the MMU off always.
		let real = [trap::SYSTEM_RESET, trap::MACHINE_CHECK, trap::HMI].contains(&trap);
		if self.arrives_virtual && !real {
			self.msr |= (Msr::IR | Msr::DR).bits();
		}
		if let Some(light) = self.hcall.take() {
			let area = self.exceptions;
			area.set_r9(1);
			area.set_r10(2);
			area.set_r11(3);
			area.set_r12(4);
			area.set_r13(5);
			area.set_ppr(6);
			area.set_cfar(7);
			area.set_ctr(8);
			let tb = self.tb;
			let before = self.light_hcall(light);
			self.event(Event::Call("end of the light exit"));
			let area = [
				area.r9(),
				area.r10(),
				area.r11(),
				area.r12(),
				area.r13(),
				area.ppr(),
				area.cfar(),
				area.ctr(),
			];
			let times = [tb, self.window_tb.expect("the handler ran"), self.tb];
			self.seen = Some((before, self.sprs.clone(), area, times));
		}
	}

	fn machine_check(&mut self, _: VcpuView) {
		self.event(Event::Call("machine_check"));
	}

	fn hmi(&mut self, _: VcpuView) {
		self.event(Event::Call("hmi"));
	}

	fn rearm_host_dec(&mut self, _: u64) {
		assert!(
			Msr::from_bits_retain(self.msr).contains(Msr::IR | Msr::DR),
			"the MMU is off"
		);
		self.event(Event::Call("rearm_host_dec"));
		assert_eq!(self.msr & Msr::EE.bits(), 0);
		if self.timer_due {
			let paca = self.context.paca;
			paca.set_irq_happened(paca.irq_happened() | 8);
		}
	}

	fn decrementer_max(&self) -> u64 {
		DECREMENTER_MAX
	}

	fn dawr_enabled(&self) -> bool {
		self.dawr
	}

	fn time_in_guest(&mut self, _: VcpuView) {}

	fn time_guest_exit(&mut self, _: VcpuView) {}

	fn answers_faults(&self, _: VcpuView) -> bool {
		self.fault.is_some()
	}

	fn is_known_device(&self, _: VcpuView, _: KvmView, address: u64) -> bool {
		self.device == Some(address)
	}

	fn fault_owner(&mut self, _: VcpuView, fault: Fault) -> Owner {
		let mmu = Msr::from_bits_retain(self.msr) & (Msr::IR | Msr::DR);
		assert!(mmu.is_empty(), "the MMU is on under a hash guest's LPCR");
		self.event(Event::Call("fault_owner"));
		self.asked = Some(fault);
		self.fault.expect("faults may be answered")
	}

	fn count_fault(&mut self, _: VcpuView) {
		self.event(Event::Call("count_fault"));
	}

	fn exception_area(&self, _: u32) -> ExceptionView {
		self.exceptions
	}

	fn entered(&mut self) {}

	fn set_light(&mut self, _: VcpuView, registers: Registers, _: u64) {
		self.registers = Some(registers);
	}

	fn light(&self, _: VcpuView) -> Registers {
		self.registers.expect("there was a full entry")
	}

	fn light_may_serve(&mut self, _: VcpuView) -> bool {
		self.event(Event::Call("light_may_serve"));
		self.light.expect("light exits are on").may_serve
	}

	fn light_may_call(&mut self, _: VcpuView) -> bool {
		self.event(Event::Call("light_may_call"));
		self.light.expect("light exits are on").may_serve
	}

	fn wants_list(&self, _: VcpuView) -> bool {
		self.wants_list
	}

	fn light_find_memory(&mut self, _: VcpuView, address: u64, store: bool) -> Option<NonNull<u8>> {
		self.event(Event::Call("light_find_memory"));
		self.asked_memory = Some((address, store));
		self.memory.then(NonNull::dangling)
	}

	fn light_serve<P: Profile>(
		&mut self,
		loaded: &Loaded<'_>,
		service: Service,
		trap: u32,
	) -> Served {
		self.serve::<P>(loaded, service, trap)
	}

	fn light_find_target(&mut self, _: VcpuView, _: u64) -> Target {
		self.event(Event::Call("light_find_target"));
		match self.memory {
			true => Target::Memory(NonNull::dangling()),
			false => Target::Device(NonNull::dangling()),
		}
	}

	fn nobody_has_the_pmu(&mut self, _: VcpuView) -> bool {
		self.event(Event::Call("nobody_has_the_pmu"));
		true
	}

	fn light_ring(&mut self, vcpu: VcpuView) -> Answered {
		self.light_store(vcpu, NonNull::dangling())
	}

	fn light_hash_finds_device(&mut self, _: VcpuView, address: u64) -> bool {
		assert_eq!(self.device, Some(address));
		self.event(Event::Call("light_hash_finds_device"));
		self.fault.is_some()
	}

	fn light_hash_store(&mut self, vcpu: VcpuView) -> Answered {
		assert_eq!(vcpu.amr(), self.guest_writes[&Spr::AMR.0]);
		self.light_store(vcpu, NonNull::dangling())
	}

	fn light_hash_hcall(&mut self, vcpu: VcpuView) -> Answered {
		let nip = vcpu.nip();
		let answered = self.light_store(vcpu, NonNull::dangling());
		vcpu.set_nip(nip);
		answered
	}

	fn light_store(&mut self, vcpu: VcpuView, _: NonNull<u8>) -> Answered {
		let light = self.light.expect("light exits are on");
		assert_eq!(vcpu.pid(), self.guest_writes[&Spr::PIDR.0] as u32);
		self.in_window(light);
		if !light.answers {
			return Answered::Refused;
		}
		vcpu.set_nip(vcpu.nip() + 4);
		match light.leaves_work {
			true => Answered::DoneLeave,
			false => Answered::Done,
		}
	}
}

/// What kind of guest, and how it comes out.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sort {
	/// Radix, interrupts arrive with the MMU on.
	Radix,
	/// Radix, in real mode.
	Real,
	/// An L2.
	L2,
	/// Hash.
	Hash,
}

impl Machine {
	pub(super) fn of(&mut self, kind: Sort) {
		match kind {
			Sort::Radix => {}
			Sort::Real => self.arrives_virtual = false,
			Sort::L2 => self.l2(),
			Sort::Hash => self.hash(),
		}
	}
}

/// Hypervisor virtualization: an external interrupt for the host.
pub(super) const H_VIRT: u32 = 0xea0;
