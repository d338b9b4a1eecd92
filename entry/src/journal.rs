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

use powerpc::{Cpu, Lpcr, Msr, Spr};
use proptest::prelude::*;

use crate::layout::kernel as layout;
use crate::sprs::{GROUPS, RULES};
use crate::switch::{self, Context, Kernel, Kind, Profile, hfscr, trap};
use crate::views::{ExceptionView, KvmView, NestedView, PacaView, TaskView, VcoreView, VcpuView};

/// What happened, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
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
struct Memory(Box<[u64]>);

impl Memory {
	fn new() -> Self {
		Self(vec![0; 2048].into())
	}

	fn at(&mut self) -> NonNull<u8> {
		NonNull::new(self.0.as_mut_ptr()).unwrap().cast()
	}
}

/// The processor, the kernel around it, and what the guest will do.
///
/// Time passes with each access: a tick of the timebase, and of HDEC and DEC.
struct Machine {
	sprs: BTreeMap<u16, u64>,
	/// The SLB's valid entries.
	slb: BTreeMap<u64, (u64, u64)>,
	msr: u64,
	tb: u64,
	events: Vec<Event>,
	context: Context,
	exceptions: ExceptionView,
	/// What the guest leaves in SPRs.
	guest_writes: BTreeMap<u16, u64>,
	/// Traps that it comes out with, one a run.
	traps: Vec<u32>,
	/// SPRs as the guest found them.
	found: BTreeMap<u16, u64>,
	/// The SLB as the guest found it, and as it leaves it, if it is a hash guest.
	found_slb: BTreeMap<u64, (u64, u64)>,
	guest_slb: Option<BTreeMap<u64, (u64, u64)>>,
	/// Its interrupts arrive with the MMU on.
	arrives_virtual: bool,
	/// What a transaction began with: of these registers the processor has the values
	/// in a checkpoint.
	checkpoint: BTreeMap<u16, u64>,
	/// How long it runs.
	runs: u64,
	/// How long ago the time was read that the switch is told.
	late: u64,
	/// The timebase as the guest found it.
	found_tb: u64,
	/// An interrupt is pending when the host's timer is set again.
	timer_due: bool,
	lpcr: u64,
	nested: NestedView,
	emulates: bool,
	dawr: bool,
	_memory: Vec<Memory>,
}

const DECREMENTER_MAX: u64 = (1 << 55) - 1;
/// SRR1's and so the guest's MSR at the end of its run.
const GUEST_MSR: Msr = Msr::SF.union(Msr::ME).union(Msr::RI).union(Msr::LE);
const HOST_MSR: Msr = GUEST_MSR
	.union(Msr::HV)
	.union(Msr::EE)
	.union(Msr::IR)
	.union(Msr::DR)
	.union(Msr::FP)
	.union(Msr::VEC)
	.union(Msr::VSX)
	.union(Msr::TM);

impl Machine {
	fn new() -> Self {
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
			timer_due: false,
			lpcr: LPCR,
			nested,
			emulates: false,
			dawr: false,
			_memory: memory,
		}
	}

	/// Runs the guest, with assistance for transactional memory or without.
	fn run(&mut self, assist: bool) -> (u32, u64) {
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
		let trap = match (assist, radix, context.nested.is_some()) {
			(true, true, false) => run!(true, 0),
			(true, true, true) => run!(true, 1),
			(true, false, _) => run!(true, 2),
			(false, true, false) => run!(false, 0),
			(false, true, true) => run!(false, 1),
			(false, false, _) => run!(false, 2),
		};
		(trap, tb)
	}

	fn spr(&self, spr: Spr) -> u64 {
		self.sprs.get(&spr.0).copied().unwrap_or(0)
	}

	fn set(&mut self, spr: Spr, value: u64) {
		self.sprs.insert(spr.0, value);
	}

	/// Makes the guest one that uses the hash MMU.
	fn hash(&mut self) {
		self.context.kvm.set_radix(0);
		self.lpcr = HASH_LPCR;
		self.arrives_virtual = false;
		self.context.vcpu.set_slb_nr(32);
		self.guest_slb = Some(BTreeMap::new());
	}

	/// Makes the vcpu an L2.
	fn l2(&mut self) {
		self.nested.set_shadow_lpid(77);
		self.context.nested = Some(self.nested);
	}

	/// Something is accessed: is it allowed, and time passes.
	fn event(&mut self, event: Event) {
		self.events.push(event);
		self.tb += 1;
		let lpcr = Lpcr::from_bits_retain(self.spr(Spr::LPCR));
		let guest_loaded = self.spr(Spr::LPIDR) != u64::from(self.context.kvm.host_lpid());
		if guest_loaded && self.lpcr == HASH_LPCR && !lpcr.contains(Lpcr::HR) {
			let mmu = Msr::from_bits_retain(self.msr) & (Msr::IR | Msr::DR);
			assert!(
				mmu.is_empty(),
				"{event:?} with the MMU on in a hash guest's context"
			);
		}
	}

	/// A register that counts down.
	fn count(&self, spr: Spr, bits: u32) -> u64 {
		let left = self.spr(spr).wrapping_sub(self.tb);
		// As wide as it is implemented, with its sign.
		((left << (64 - bits)) as i64 >> (64 - bits)) as u64
	}

	fn position(&self, event: impl Fn(&Event) -> bool) -> usize {
		self.events.iter().position(event).expect("it happens")
	}

	fn journal(&self) -> String {
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

const LPCR: u64 = 0x40_0000_0340_f000 | 1 << 17 | Lpcr::HR.bits();
const HASH_LPCR: u64 = LPCR & !(Lpcr::HR.bits() | Lpcr::UPRT.bits());

/// A profile: transactional memory, and the kind of guest by number.
struct Model<const TM_ASSIST: bool, const KIND: u8>;
impl<const TM_ASSIST: bool, const KIND: u8> Profile for Model<TM_ASSIST, KIND> {
	fn tm_assist() -> bool {
		TM_ASSIST
	}
	const KIND: Kind = [Kind::Radix, Kind::L2, Kind::Hash][KIND as usize];
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
			// They count on, whatever the time is.
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
		assert_eq!(self.spr(Spr::LPCR), HASH_LPCR, "out of reach");
		self.slb.insert(esid & 0xfff, (esid & !0xfff, vsid));
	}

	fn slb_esid(&mut self, index: u64) -> u64 {
		self.event(Event::SlbReadEsid(index));
		assert_eq!(self.spr(Spr::LPCR), HASH_LPCR, "out of reach");
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

	fn pmu_to_host(&mut self, _: VcpuView) {
		self.event(Event::Call("pmu_to_host"));
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

	unsafe fn run_guest(&mut self, vcpu: VcpuView) {
		assert!(
			!Msr::from_bits_retain(self.msr).contains(Msr::EE),
			"interrupts are enabled"
		);
		self.event(Event::Guest);
		self.found = self.sprs.clone();
		self.found_slb = self.slb.clone();
		self.found_tb = self.tb;
		self.tb += self.runs;
		self.sprs.extend(&self.guest_writes);
		if let Some(dec) = self.guest_writes.get(&Spr::DEC.0) {
			self.set(Spr::DEC, dec.wrapping_add(self.tb));
		}
		match &self.guest_slb {
			Some(slb) => self.slb = slb.clone(),
			// All that it can reach.
			None => self.slb = (0..4).map(|index| (index, (1 << 27, 0xbad))).collect(),
		}
		self.context.paca.set_trap(self.traps.remove(0).into());
		vcpu.set_msr(
			self.guest_writes
				.get(&Spr::SRR1.0)
				.copied()
				.unwrap_or(GUEST_MSR.bits()),
		);
		let trap = self.context.paca.trap() as u32 & !2;
		self.msr = (Msr::SF | Msr::HV | Msr::ME | Msr::LE).bits();
		// Machine check, system reset and HMI are taken with the MMU off always.
		let real = [trap::SYSTEM_RESET, trap::MACHINE_CHECK, trap::HMI].contains(&trap);
		if self.arrives_virtual && !real {
			self.msr |= (Msr::IR | Msr::DR).bits();
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

	fn exception_area(&self, _: u32) -> ExceptionView {
		self.exceptions
	}
}

/// What the guest may change and the host must have back. The host's values are
/// spread over these; the task has them too, where the list of SPRs says so.
const HOST: [Spr; 24] = [
	Spr::TAR,
	Spr::VRSAVE,
	Spr::EBBHR,
	Spr::EBBRR,
	Spr::BESCR,
	Spr::TIDR,
	Spr::FSCR,
	Spr::DSCR,
	Spr::PSPB,
	Spr::IAMR,
	Spr::AMR,
	Spr::UAMOR,
	Spr::CIABR,
	Spr::DAWR0,
	Spr::DAWRX0,
	Spr::HFSCR,
	Spr::PIDR,
	Spr::LPIDR,
	Spr::LPCR,
	Spr::PSSCR,
	Spr::CTRLT,
	Spr::DPDES,
	Spr::PCR,
	Spr::SPRG3,
];

/// What a guest writes itself, with how wide the vcpu keeps it.
const GUEST: [(Spr, u32); 25] = [
	(Spr::TAR, 64),
	(Spr::VRSAVE, 32),
	(Spr::EBBHR, 64),
	(Spr::EBBRR, 64),
	(Spr::BESCR, 64),
	(Spr::TIDR, 64),
	(Spr::FSCR, 64),
	(Spr::DSCR, 64),
	(Spr::PSPB, 32),
	(Spr::IAMR, 64),
	(Spr::AMR, 64),
	(Spr::UAMOR, 64),
	(Spr::CTRLT, 1),
	(Spr::PIDR, 32),
	(Spr::PSSCR_PR, 64),
	(Spr::SPRG0, 64),
	(Spr::SPRG1, 64),
	(Spr::SPRG2, 64),
	(Spr::SPRG3, 64),
	(Spr::DAR, 64),
	(Spr::DSISR, 32),
	(Spr::SRR0, 64),
	(Spr::TEXASR, 64),
	(Spr::TFHAR, 64),
	(Spr::TFIAR, 64),
];

/// What of these the kernel's `__kvmppc_restore_tm` and `__kvmppc_save_tm` leave as the
/// checkpoint has it.
const CHECKPOINTED: [Spr; 3] = [Spr::TAR, Spr::VRSAVE, Spr::AMR];

fn in_vcpu(vcpu: VcpuView, spr: Spr) -> u64 {
	match spr {
		Spr::TAR => vcpu.tar(),
		Spr::VRSAVE => vcpu.vrsave().into(),
		Spr::EBBHR => vcpu.ebbhr(),
		Spr::EBBRR => vcpu.ebbrr(),
		Spr::BESCR => vcpu.bescr(),
		Spr::TIDR => vcpu.tidr(),
		Spr::FSCR => vcpu.fscr(),
		Spr::DSCR => vcpu.dscr(),
		Spr::PSPB => vcpu.pspb().into(),
		Spr::IAMR => vcpu.iamr(),
		Spr::AMR => vcpu.amr(),
		Spr::UAMOR => vcpu.uamor(),
		Spr::CTRLT => vcpu.ctrl().into(),
		Spr::PIDR => vcpu.pid().into(),
		Spr::PSSCR_PR => vcpu.psscr(),
		Spr::SPRG0 => vcpu.sprg0(),
		Spr::SPRG1 => vcpu.sprg1(),
		Spr::SPRG2 => vcpu.sprg2(),
		Spr::SPRG3 => vcpu.sprg3(),
		Spr::DAR => vcpu.dar(),
		Spr::DSISR => vcpu.dsisr().into(),
		Spr::SRR0 => vcpu.srr0(),
		Spr::TEXASR => vcpu.texasr(),
		Spr::TFHAR => vcpu.tfhar(),
		Spr::TFIAR => vcpu.tfiar(),
		other => panic!("{other:?} is not in the vcpu"),
	}
}

/// A machine with these values in the host's SPRs, the vcpu and the guest's mind.
fn machine(host: &[u64], vcpu_values: &[u64], guest: &[u64], facilities: u64) -> Machine {
	let mut m = Machine::new();
	for (spr, value) in HOST.iter().zip(host) {
		m.set(*spr, *value);
	}
	let Context {
		vcpu,
		vcore,
		kvm,
		paca,
		task,
		nested: _,
	} = m.context;
	// Values that the host has by its own rules.
	for spr in [Spr::PSPB, Spr::UAMOR, Spr::DPDES] {
		m.set(spr, 0);
	}
	m.set(Spr::CTRLT, 1);
	m.set(Spr::PCR, switch::PCR_MASK);
	m.set(Spr::PIDR, m.spr(Spr::PIDR) & 0xffff_ffff);
	m.set(Spr::VRSAVE, m.spr(Spr::VRSAVE) & 0xffff_ffff);
	m.set(Spr::PSSCR, m.spr(Spr::PSSCR) & !(1 << 10));
	kvm.set_host_lpid(m.spr(Spr::LPIDR) as u32);
	m.set(Spr::LPIDR, kvm.host_lpid().into());
	// The host is radix.
	m.set(Spr::LPCR, m.spr(Spr::LPCR) | (Lpcr::HR | Lpcr::UPRT).bits());
	kvm.set_host_lpcr(m.spr(Spr::LPCR));
	kvm.set_lpid(7);
	paca.set_sprg3(m.spr(Spr::SPRG3));
	task.set_tar(m.spr(Spr::TAR));
	task.set_vrsave(m.spr(Spr::VRSAVE));
	task.set_ebbhr(m.spr(Spr::EBBHR));
	task.set_ebbrr(m.spr(Spr::EBBRR));
	task.set_bescr(m.spr(Spr::BESCR));
	task.set_tidr(m.spr(Spr::TIDR));
	task.set_fscr(m.spr(Spr::FSCR));
	task.set_dscr(m.spr(Spr::DSCR));

	let mut values = vcpu_values.iter().copied();
	let mut next = || values.next().unwrap();
	vcpu.set_tar(next());
	vcpu.set_vrsave(next() as u32);
	vcpu.set_ebbhr(next());
	vcpu.set_ebbrr(next());
	vcpu.set_bescr(next());
	vcpu.set_tidr(next());
	vcpu.set_fscr(next());
	vcpu.set_dscr(next());
	vcpu.set_pspb(next() as u32);
	vcpu.set_iamr(next());
	vcpu.set_amr(next());
	vcpu.set_uamor(next());
	vcpu.set_ctrl(next() as u32 & 1);
	vcpu.set_pid(next() as u32);
	vcpu.set_psscr(next() & 0x8000_0000_0000_00ff);
	vcpu.set_sprg0(next());
	vcpu.set_sprg1(next());
	vcpu.set_sprg2(next());
	vcpu.set_sprg3(next());
	vcpu.set_dar(next());
	vcpu.set_dsisr(next() as u32);
	vcpu.set_srr0(next());
	vcpu.set_texasr(next());
	vcpu.set_tfhar(next());
	vcpu.set_tfiar(next());
	vcpu.set_ciabr(next());
	vcpu.set_dawr0(next());
	vcpu.set_dawrx0(next());
	vcore.set_vtb(next());
	vcpu.set_hfscr(facilities);

	for ((spr, width), value) in GUEST.iter().zip(guest) {
		m.guest_writes.insert(spr.0, value & !0 >> (64 - width));
	}
	m.guest_writes.insert(Spr::SRR1.0, GUEST_MSR.bits());
	m
}

fn facilities() -> impl Strategy<Value = u64> {
	(any::<bool>(), any::<bool>())
		.prop_map(|(ebb, tm)| (ebb as u64 * hfscr::EBB) | (tm as u64 * hfscr::TM) | 1 << 60)
}

/// Values as hosts and guests have them: often equal, often zero.
fn values(n: usize) -> impl Strategy<Value = Vec<u64>> {
	proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0x55), any::<u64>()], n)
}

/// What kind of guest, and how it comes out.
#[derive(Clone, Copy, Debug)]
enum Sort {
	/// Radix, interrupts arrive with the MMU on.
	Radix,
	/// Radix, in real mode.
	Real,
	/// An L2.
	L2,
	/// Hash.
	Hash,
}

fn kinds() -> impl Strategy<Value = Sort> {
	prop_oneof![
		Just(Sort::Radix),
		Just(Sort::Real),
		Just(Sort::L2),
		Just(Sort::Hash)
	]
}

/// How long the CPU was held up between the reading of the time and the switch: not at all,
/// or for up to eight times what the timebase's low bits count.
fn late() -> impl Strategy<Value = u64> {
	prop_oneof![Just(0), 0..1_u64 << 27]
}

/// Ways out that need no more than SPRs.
fn traps() -> impl Strategy<Value = u32> {
	proptest::sample::select(vec![
		trap::SYSCALL,
		trap::H_DATA_STORAGE,
		trap::H_INST_STORAGE,
		trap::HV_DECREMENTER,
		trap::HMI,
		trap::MACHINE_CHECK,
		H_VIRT,
	])
}

/// Hypervisor virtualization: an external interrupt for the host.
const H_VIRT: u32 = 0xea0;

impl Machine {
	fn of(&mut self, kind: Sort) {
		match kind {
			Sort::Radix => {}
			Sort::Real => self.arrives_virtual = false,
			Sort::L2 => self.l2(),
			Sort::Hash => self.hash(),
		}
	}
}

/// Is `spr` switched at all with these facilities?
fn switched(spr: Spr, facilities: u64, dawr: bool, assist: bool) -> bool {
	match spr {
		Spr::EBBHR | Spr::EBBRR | Spr::BESCR => facilities & hfscr::EBB != 0,
		Spr::TEXASR | Spr::TFHAR | Spr::TFIAR => assist && facilities & hfscr::TM != 0,
		Spr::DAWR0 | Spr::DAWRX0 => dawr,
		_ => true,
	}
}

proptest! {
	/// Whatever the host, the vcpu and the guest have in their registers: the guest
	/// finds what the vcpu has, the vcpu gets what the guest leaves, and the host is
	/// as it was. A suspended transaction, be it loaded, saved or both, has registers
	/// of its own.
	#[test]
	fn nobody_sees_anothers_registers(
		host in values(HOST.len()),
		vcpu_values in values(29),
		guest in values(GUEST.len()),
		checkpoint in values(CHECKPOINTED.len()),
		suspended in proptest::array::uniform2(any::<bool>()),
		facilities in facilities(),
		assist in any::<bool>(),
		dawr in any::<bool>(),
		kind in kinds(),
		way_out in traps(),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, facilities);
		m.of(kind);
		m.dawr = dawr;
		m.traps = vec![way_out];
		let vcpu = m.context.vcpu;
		m.checkpoint = CHECKPOINTED.iter().map(|spr| spr.0).zip(checkpoint).collect();
		let [loaded, saved] = suspended.map(|suspended| {
			if suspended { GUEST_MSR | Msr::TS_S } else { GUEST_MSR }.bits()
		});
		vcpu.set_msr(loaded);
		m.guest_writes.insert(Spr::SRR1.0, saved);
		let before = m.sprs.clone();
		let had: BTreeMap<_, _> = GUEST.iter().map(|(spr, _)| (spr.0, in_vcpu(vcpu, *spr))).collect();
		// `sc` leaves these.
		if way_out == trap::SYSCALL {
			m.guest_writes.insert(Spr::SRR0.0, m.context.vcpu.nip());
		}
		// A facility that it doesn't have it can't write.
		m.guest_writes.retain(|spr, _| switched(Spr(*spr), facilities, dawr, assist));
		let (trap, _) = m.run(assist);
		prop_assert_eq!(trap, way_out);

		for (spr, _) in GUEST {
			if !switched(spr, facilities, dawr, assist) || assist && spr == Spr::PSSCR_PR {
				continue;
			}
			let found = m.found.get(&spr.0).copied().unwrap_or(0);
			prop_assert_eq!(found, had[&spr.0], "the guest's {:?}", spr);
			prop_assert_eq!(in_vcpu(vcpu, spr), m.guest_writes[&spr.0], "the vcpu's {:?}", spr);
		}
		let lpid = if matches!(kind, Sort::L2) { 77 } else { 7 };
		for (spr, value) in [(Spr::CIABR, vcpu.ciabr()), (Spr::HFSCR, facilities),
			(Spr::LPCR, m.lpcr), (Spr::LPIDR, lpid)]
		{
			prop_assert_eq!(m.found[&spr.0], value, "the guest's {:?}", spr);
		}
		for spr in HOST {
			prop_assert_eq!(m.spr(spr), before[&spr.0], "the host's {:?}", spr);
		}
		prop_assert!(m.slb.is_empty(), "the guest's SLB is left");
		prop_assert_eq!(m.context.paca.in_guest(), layout::GUEST_MODE_NONE as u8);
		// Interrupts are either off, and the host knows, or on.
		let msr = Msr::from_bits_retain(m.msr);
		prop_assert_eq!(msr | Msr::EE, HOST_MSR);
		let known = if msr.contains(Msr::EE) { 0 } else { layout::IRQ_HARD_DIS as u8 };
		prop_assert_eq!(m.context.paca.irq_happened(), known);
	}

	/// The order of things, for any values.
	#[test]
	fn order_is_kept(
		host in values(HOST.len()),
		vcpu_values in values(29),
		guest in values(GUEST.len()),
		facilities in facilities(),
		assist in any::<bool>(),
		kind in kinds(),
		way_out in traps(),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, facilities);
		m.of(kind);
		m.traps = vec![way_out];
		m.run(assist);
		let ran = m.position(|e| *e == Event::Guest);
		let (entry, exit) = m.events.split_at(ran);
		for half in [entry, exit] {
			// An mfspr behind an mtspr waits for it. Those of transactional memory
			// can only be read once MSR has its facility on.
			let first = half.iter().position(|e| matches!(e, Event::Write(..))).unwrap();
			for event in &half[first..] {
				let late = match event {
					Event::Read(Spr::TEXASR | Spr::TFHAR | Spr::TFIAR) => false,
					Event::Read(_) | Event::Timebase => true,
					_ => false,
				};
				prop_assert!(!late, "{:?} behind the first write", event);
			}
		}
		// The barriers stand before the first of these three is written.
		let mmu = |half: &[Event]| half.iter().position(|e| {
			matches!(e, Event::Write(Spr::LPIDR | Spr::PIDR | Spr::LPCR, _))
		}).unwrap();
		let (there, back) = (mmu(entry), mmu(exit));
		prop_assert_eq!(&entry[there - 2..there], &[Event::Hwsync, Event::Isync]);
		prop_assert_eq!(&exit[back - 1], &Event::Hwsync);
		let write = |half: &[Event], spr| {
			half.iter().position(|e| matches!(e, Event::Write(s, _) if *s == spr)).unwrap()
		};
		prop_assert!(write(entry, Spr::LPIDR) < write(entry, Spr::LPCR));
		prop_assert!(write(entry, Spr::LPCR) < write(entry, Spr::HDEC));
		// In the same order, or the time between them counts twice.
		prop_assert_eq!(write(entry, Spr::HDEC) + 1, write(entry, Spr::DEC));
		let read = |spr| exit.iter().position(|e| *e == Event::Read(spr)).unwrap();
		prop_assert_eq!(read(Spr::HDEC) + 1, read(Spr::DEC));
		let mmu_back = write(exit, Spr::LPCR);
		let msr = exit.iter().position(|e| matches!(e, Event::WriteMsr(_))).unwrap();
		prop_assert!(mmu_back < msr, "MSR before the host's MMU context");
		let cleared = exit.iter().rposition(|e| {
			matches!(e, Event::SlbClear(_) | Event::SlbClearAll | Event::SlbReadVsid(_))
		}).unwrap();
		prop_assert!(cleared < write(exit, Spr::PIDR));
		// A guest that came out by an interrupt leaves it to C to enable them.
		if [H_VIRT, trap::HV_DECREMENTER, trap::HMI].contains(&way_out) {
			prop_assert_eq!(m.msr & Msr::EE.bits(), 0);
		}
	}

	/// A hash guest has its SLB, whatever is in it, and it alone.
	#[test]
	fn slb_is_the_hash_guests(
		slbs in proptest::collection::vec(
			proptest::collection::btree_map(0..32_u64, (any::<u64>(), any::<u64>()), 0..32), 2),
	) {
		let valid = |slb: &BTreeMap<u64, (u64, u64)>| -> BTreeMap<u64, (u64, u64)> {
			slb.iter().map(|(i, (e, v))| (*i, (e & !0xfff | 1 << 27, *v))).collect()
		};
		let (before, after) = (valid(&slbs[0]), valid(&slbs[1]));
		let mut m = machine(&[0x11; 24], &[0; 29], &[0; 25], 0);
		m.hash();
		let vcpu = m.context.vcpu;
		vcpu.set_slb_max(before.len() as u32);
		for (n, (index, (esid, vsid))) in before.iter().enumerate() {
			let entry = vcpu.slb(n as u32).unwrap();
			entry.set_orige(esid | index);
			entry.set_origv(*vsid);
		}
		// Not all entries that the guest leaves have to be valid.
		let mut left = after.clone();
		left.entry(31).or_insert((0xabc0_0000, 5));
		m.guest_slb = Some(left);
		m.run(true);
		prop_assert_eq!(&m.found_slb, &before);
		let saved: BTreeMap<u64, (u64, u64)> = (0..vcpu.slb_max()).map(|n| {
			let entry = vcpu.slb(n).unwrap();
			(entry.orige() & 0xfff, (entry.orige() & !0xfff, entry.origv()))
		}).collect();
		prop_assert_eq!(saved.len(), vcpu.slb_max() as usize);
		let after: BTreeMap<_, _> = after.into_iter().chain(
			(!slbs[1].contains_key(&31) && 0xabc0_0000_u64 & 1 << 27 != 0)
				.then_some((31, (0xabc0_0000, 5)))).collect();
		prop_assert_eq!(&saved, &after);
	}

	/// No SPR of these groups is written with the value that it has.
	#[test]
	fn equal_values_are_not_written(
		host in values(HOST.len()),
		vcpu_values in values(29),
		guest in values(GUEST.len()),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, hfscr::EBB);
		let mut file = m.sprs.clone();
		m.run(true);
		let groups = [Spr::TAR, Spr::VRSAVE, Spr::EBBHR, Spr::EBBRR, Spr::BESCR, Spr::TIDR,
			Spr::FSCR, Spr::DSCR, Spr::PSPB, Spr::SPRG3, Spr::IAMR, Spr::AMR, Spr::UAMOR,
			Spr::CIABR];
		for event in &m.events {
			match event {
				Event::Write(spr, value) => {
					let old = file.insert(spr.0, *value);
					prop_assert!(!groups.contains(spr) || old != Some(*value), "{:?}", event);
				}
				Event::Guest => file.extend(&m.guest_writes),
				_ => {}
			}
		}
	}

	/// Guest and host timebase stay apart by the offset, whatever the low bits do and
	/// however long the CPU was held up before the switch.
	#[test]
	fn timebase_comes_back(low in any::<u32>(), offset in 0..1_u64 << 40, late in late()) {
		let offset = offset & !0xff_ffff;
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		m.tb = 1 << 50 | u64::from(low);
		m.late = late;
		m.context.vcore.set_tb_offset(offset);
		let start = m.tb;
		let (_, tb) = m.run(true);
		let way_in = late + m.position(|e| *e == Event::Guest) as u64 + 1;
		prop_assert_eq!(m.found_tb, start + way_in + offset, "the guest's");
		// A tick for each access, and what the guest ran.
		let passed = late + m.runs + m.events.len() as u64;
		prop_assert_eq!(m.tb, start + passed, "{:#x} to {:#x}", start, m.tb);
		prop_assert!(tb >= start && tb <= m.tb);
		prop_assert_eq!(m.context.vcore.tb_offset_applied(), 0);
	}

	/// An L1 may want its L2's timebase moved by what TBU40 can't: the host's stays.
	#[test]
	fn timebase_comes_back_from_an_absurd_offset(low in any::<u32>(), offset in any::<u64>()) {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		m.l2();
		m.tb = 1 << 50 | u64::from(low);
		m.context.vcore.set_tb_offset(offset);
		let start = m.tb;
		m.run(true);
		let passed = m.runs + m.events.len() as u64;
		prop_assert_eq!(m.tb, start + passed, "{:#x} to {:#x}", start, m.tb);
	}

	/// An expiry time that the guest leaves alone stays what it is, however long the
	/// ways in and out take, and one that it sets is off by less than a way in.
	#[test]
	fn decrementer_does_not_drift(
		low in any::<u32>(),
		offset in prop_oneof![Just(0), (0..1_u64 << 40).prop_map(|offset| offset & !0xff_ffff)],
		after in 0..1_u64 << 40,
		runs in 0..1_u64 << 30,
		late in late(),
		kind in kinds(),
		set in proptest::option::of(0..1_u64 << 30),
		way_out in prop_oneof![Just(trap::SYSCALL), Just(trap::H_DATA_STORAGE), Just(H_VIRT)],
	) {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		m.of(kind);
		m.tb = 1 << 50 | u64::from(low);
		m.runs = runs;
		m.late = late;
		m.traps = vec![way_out];
		m.context.vcore.set_tb_offset(offset);
		let expires = m.tb.wrapping_add(offset).wrapping_add(after);
		m.context.vcpu.set_dec_expires(expires);
		if let Some(dec) = set {
			m.guest_writes.insert(Spr::DEC.0, dec);
		}
		let start = m.tb;
		let (_, tb) = m.run(true);
		let way_in = late + m.position(|e| *e == Event::Guest) as u64;
		let left = m.context.vcpu.dec_expires();
		match set {
			None => prop_assert_eq!(left, expires),
			Some(dec) => {
				let exact = start + way_in + runs + offset + dec;
				prop_assert!(left <= exact + 1 && exact - left <= way_in + 1);
			}
		}
		// The time told is behind by less than a way in and the rest of the way out.
		prop_assert!(tb <= m.tb && m.tb - tb <= late + m.events.len() as u64);
	}

	/// Out by HDEC is out of time, also by the time told.
	#[test]
	fn limit_that_was_reached_is_in_the_past(limit in 1..1_u64 << 40, more in 0..100_u64) {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		let limit = m.tb + limit;
		let (context, mut tb) = (m.context, m.tb);
		m.traps = vec![trap::HV_DECREMENTER];
		// HDEC is negative by then.
		m.runs = limit - m.tb + 1 + more;
		// SAFETY: no processor is involved.
		unsafe { switch::run::<Model<true, 0>, _>(&mut m, context, limit, LPCR, &mut tb) };
		prop_assert!(tb >= limit);
	}
}

#[test]
fn usage_is_charged_to_the_guest() {
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
	m.set(Spr::PURR, 1000);
	m.context.vcpu.set_purr(50);
	m.guest_writes.insert(Spr::PURR.0, 80);
	m.run(true);
	assert_eq!(m.context.vcpu.purr(), 80);
	assert_eq!(m.spr(Spr::PURR), 1030);
}

#[test]
fn limit_in_the_past_is_no_entry() {
	let mut m = Machine::new();
	let (context, mut tb) = (m.context, m.tb);
	let limit = tb - 1;
	// SAFETY: no processor is involved.
	let trap = unsafe { switch::run::<Model<true, 0>, _>(&mut m, context, limit, LPCR, &mut tb) };
	assert_eq!((trap, m.events.len()), (trap::HV_DECREMENTER, 0));
}

#[test]
fn pending_interrupt_is_no_entry() {
	const DOORBELL: u8 = 2;
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
	m.context.paca.set_irq_happened(DOORBELL);
	let (trap, _) = m.run(true);
	assert_eq!(trap, trap::NONE);
	assert!(
		!m.events
			.iter()
			.any(|e| matches!(e, Event::Write(..) | Event::Guest))
	);
	// Whoever enables interrupts again must know that they are off.
	assert_eq!(
		m.context.paca.irq_happened(),
		DOORBELL | layout::IRQ_HARD_DIS as u8
	);
}

#[test]
fn facilities_that_a_context_switch_took_away_are_put_back() {
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
	m.msr &= !Msr::VSX.bits();
	m.run(true);
	let set = m.events.iter().find(|e| matches!(e, Event::WriteMsr(_)));
	let expected = HOST_MSR.bits() & !Msr::EE.bits();
	assert_eq!(set, Some(&Event::WriteMsr(expected)));
}

#[test]
fn each_trap_keeps_what_its_handler_needs() {
	for (trap, asdr, heir, fault) in [
		(trap::H_DATA_STORAGE, true, false, true),
		(trap::H_INST_STORAGE, true, false, false),
		(trap::H_EMUL_ASSIST, false, true, false),
		(trap::MACHINE_CHECK, false, false, true),
		(trap::SYSCALL, false, false, false),
		(0xea0, false, false, false),
	] {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		m.traps = vec![trap | 2];
		m.guest_writes.insert(Spr::ASDR.0, 0xa5d0);
		m.guest_writes.insert(Spr::HEIR.0, 0x4e18);
		m.exceptions.set_dar(0xda0);
		m.exceptions.set_dsisr(0xd51);
		m.exceptions.set_r13(0x13);
		m.exceptions.set_ppr(0x44);
		let (got, _) = m.run(true);
		let vcpu = m.context.vcpu;
		assert_eq!(got, trap);
		assert_eq!(vcpu.fault_gpa(), if asdr { 0xa5d0 } else { 0 }, "{trap:#x}");
		assert_eq!(vcpu.emul_inst(), if heir { 0x4e18 } else { 0 }, "{trap:#x}");
		assert_eq!(vcpu.fault_dar(), if fault { 0xda0 } else { 0 }, "{trap:#x}");
		assert_eq!(
			vcpu.fault_dsisr(),
			if fault { 0xd51 } else { 0 },
			"{trap:#x}"
		);
		assert_eq!((vcpu.gpr13(), vcpu.ppr()), (0x13, 0x44));
		let called = m.events.contains(&Event::Call("machine_check"));
		assert_eq!(called, trap == trap::MACHINE_CHECK);
	}
}

#[test]
fn unavailable_facility_is_told_by_hfscr() {
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
	m.traps = vec![trap::H_FAC_UNAVAIL];
	m.guest_writes.insert(Spr::HFSCR.0, 7 << 56);
	m.run(true);
	assert_eq!(m.context.vcpu.hfscr(), 7 << 56);
}

#[test]
fn doorbell_goes_in_and_comes_out() {
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
	m.context.vcpu.set_doorbell_request(1);
	m.run(true);
	// The guest took it not: it is asked for again, and the host has none.
	assert_eq!(m.found[&Spr::DPDES.0], 1);
	assert_eq!(m.context.vcpu.doorbell_request(), 1);
	assert_eq!(m.spr(Spr::DPDES), 0);
}

#[test]
fn compatibility_mode_ends_with_the_guest() {
	const ARCH_207: u64 = 4;
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
	m.context.vcore.set_pcr(ARCH_207);
	m.run(true);
	assert_eq!(m.found[&Spr::PCR.0], ARCH_207 | switch::PCR_MASK);
	assert_eq!(m.spr(Spr::PCR), switch::PCR_MASK);
}

#[test]
fn decrementer_of_32_bits_has_a_sign() {
	for (lpcr, dec, expected) in [(LPCR, 0xffff_fff0, 0xffff_fff0_i64), (0, 0xffff_fff0, -16)] {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		m.lpcr = lpcr;
		m.guest_writes.insert(Spr::DEC.0, dec);
		let (_, tb) = m.run(true);
		let left = m.context.vcpu.dec_expires().wrapping_sub(tb) as i64;
		// It counts until it is read.
		let ticks = m.events.len() as i64;
		assert!((expected - ticks..=expected).contains(&left), "{left:#x}");
	}
}

#[test]
fn facility_is_taken_away_when_its_count_wraps() {
	for (bit, set) in [
		(hfscr::EBB, VcpuView::set_load_ebb as fn(VcpuView, u8)),
		(hfscr::TM, VcpuView::set_load_tm),
	] {
		for (count, kept) in [(254, true), (255, false)] {
			let mut m = machine(&[0; 24], &[0; 29], &[0; 25], bit);
			set(m.context.vcpu, count);
			m.run(true);
			assert_eq!(
				m.context.vcpu.hfscr() & bit != 0,
				kept,
				"{bit:#x} at {count}"
			);
		}
	}
}

#[test]
fn suspended_transaction_is_saved_before_fake_suspend_goes() {
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], hfscr::TM);
	m.context.vcpu.set_msr((GUEST_MSR | Msr::TS_S).bits());
	m.guest_writes
		.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
	m.run(true);
	let save = m.position(|e| *e == Event::Call("save_tm"));
	let ran = m.position(|e| *e == Event::Guest);
	assert!(m.position(|e| *e == Event::Call("restore_tm")) < ran);
	let psscr = m
		.events
		.iter()
		.rposition(|e| matches!(e, Event::Write(Spr::PSSCR, _)))
		.unwrap();
	assert!(save < psscr);
}

/// Where host and guest have the same in a register there is nothing to switch, but for
/// what the transaction leaves there.
#[test]
fn checkpoint_reaches_neither_guest_nor_host() {
	for (loaded, saved) in [(true, false), (false, true), (true, true)] {
		let state = |suspended| {
			let ts = if suspended { Msr::TS_S } else { Msr::empty() };
			(GUEST_MSR | ts).bits()
		};
		let mut m = machine(&[0x55; 24], &[0x55; 29], &[0x55; 25], hfscr::TM);
		m.checkpoint = CHECKPOINTED.map(|spr| (spr.0, 0xbad)).into();
		m.context.vcpu.set_msr(state(loaded));
		m.guest_writes.clear();
		m.guest_writes.insert(Spr::SRR1.0, state(saved));
		m.run(true);
		for spr in CHECKPOINTED {
			let which = format!("{spr:?}, {loaded} {saved}");
			assert_eq!(m.found[&spr.0], 0x55, "the guest's {which}");
			assert_eq!(in_vcpu(m.context.vcpu, spr), 0x55, "the vcpu's {which}");
			assert_eq!(m.spr(spr), 0x55, "the host's {which}");
		}
	}
}

#[test]
fn transactional_memory_that_the_cpu_lacks_is_not_touched() {
	// Userspace can put any transaction state into a vcpu's MSR.
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], hfscr::TM);
	m.context.vcpu.set_msr((GUEST_MSR | Msr::TS_S).bits());
	m.msr &= !Msr::TM.bits();
	m.run(false);
	for event in &m.events {
		let touches = match event {
			Event::Call(name) => name.ends_with("_tm"),
			Event::Read(spr) | Event::Write(spr, _) => {
				[Spr::TEXASR, Spr::TFHAR, Spr::TFIAR].contains(spr)
			}
			Event::WriteMsr(msr) => Msr::from_bits_retain(*msr).intersects(Msr::TM | Msr::TS),
			_ => false,
		};
		assert!(!touches, "{event:?}");
	}
}

#[test]
fn emulated_softpatch_goes_straight_back() {
	for (emulates, runs) in [(true, 2), (false, 1)] {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], hfscr::TM);
		m.guest_writes
			.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
		m.traps = vec![trap::HV_SOFTPATCH, trap::SYSCALL];
		m.emulates = emulates;
		let (trap, _) = m.run(true);
		let ran = m.events.iter().filter(|e| **e == Event::Guest).count();
		assert_eq!(ran, runs);
		assert_eq!(
			trap,
			if emulates {
				trap::SYSCALL
			} else {
				trap::HV_SOFTPATCH
			}
		);
	}
}

/// Two guests of one hypervisor can each have a suspended transaction or none; mtmsrd
/// must not pretend to another state than the processor's.
#[test]
fn transaction_state_is_the_processors() {
	for (before, after) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
		let state = |suspended| {
			let ts = if suspended == 1 {
				Msr::TS_S
			} else {
				Msr::empty()
			};
			(GUEST_MSR | ts).bits()
		};
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], hfscr::TM);
		m.context.vcpu.set_msr(state(before));
		m.guest_writes.insert(Spr::SRR1.0, state(after));
		m.run(true);
		let last = m.events.iter().rev().find_map(|e| match e {
			Event::WriteMsr(msr) => Some(*msr),
			_ => None,
		});
		let found = Msr::from_bits_retain(last.unwrap()) & Msr::TS;
		assert_eq!(
			found.bits(),
			state(after) & Msr::TS.bits(),
			"{before} {after}"
		);
	}
}

#[test]
fn interrupts_come_on_with_the_last_mtmsrd_if_nothing_is_against_it() {
	type Change = fn(&mut Machine);
	let cases: [(&str, Change, bool); 6] = [
		("nothing", |_| {}, true),
		(
			"an interrupt context",
			|m| m.context.vcpu.set_xive_pushed(1),
			false,
		),
		("a timer", |m| m.timer_due = true, false),
		("an external interrupt", |m| m.traps = vec![H_VIRT], false),
		("real mode", |m| m.arrives_virtual = false, false),
		(
			"a transaction",
			|m| {
				m.context.vcpu.set_hfscr(hfscr::TM);
				m.guest_writes
					.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
			},
			false,
		),
	];
	for (what, change, on) in cases {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		change(&mut m);
		m.run(true);
		assert_eq!(m.msr & Msr::EE.bits() != 0, on, "{what}");
	}
}

#[test]
fn srrs_of_an_hcall_are_what_the_trampoline_saved() {
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
	let vcpu = m.context.vcpu;
	vcpu.set_nip(0x4000);
	m.run(true);
	assert_eq!((vcpu.srr0(), vcpu.srr1()), (0x4000, GUEST_MSR.bits()));
}

#[test]
fn dpdes_is_read_if_it_can_be_other_than_zero() {
	for (request, facilities, read) in [(0, 0, false), (1, 0, true), (0, hfscr::MSGP, true)] {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], facilities);
		m.context.vcpu.set_doorbell_request(request);
		m.guest_writes.insert(Spr::DPDES.0, request.into());
		m.run(true);
		assert_eq!(m.events.contains(&Event::Read(Spr::DPDES)), read);
	}
}

#[test]
fn facilities_of_an_l2_are_its_l1s_decision() {
	let mut m = machine(&[0; 24], &[0; 29], &[0; 25], hfscr::EBB | hfscr::TM);
	m.l2();
	let vcpu = m.context.vcpu;
	vcpu.set_load_ebb(255);
	vcpu.set_load_tm(255);
	m.run(true);
	assert_eq!(vcpu.hfscr(), hfscr::EBB | hfscr::TM);
	assert_eq!((vcpu.load_ebb(), vcpu.load_tm()), (255, 255));
}

#[test]
fn only_listed_sprs_are_accessed() {
	for kind in [Sort::Radix, Sort::Hash] {
		for way_out in [trap::SYSCALL, trap::H_DATA_STORAGE, trap::HV_SOFTPATCH] {
			let distinct: Vec<u64> = (0x100..0x140).collect();
			let all = hfscr::EBB | hfscr::TM | hfscr::MSGP;
			let mut m = machine(&distinct[..24], &distinct[24..53], &distinct[..25], all);
			m.of(kind);
			m.dawr = true;
			m.traps = vec![way_out];
			m.run(true);
			for event in &m.events {
				if let Event::Read(spr) | Event::Write(spr, _) = event {
					let grouped = GROUPS.iter().any(|group| group.contains(spr));
					let ruled = RULES.iter().any(|(ruled, _)| ruled == spr);
					assert!(grouped != ruled, "{spr:?}");
				}
			}
		}
	}
}

/// How many there are of each costly operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Costs {
	mfspr: usize,
	mtspr: usize,
	mftb: usize,
	mtmsrd: usize,
	isync: usize,
	hwsync: usize,
	slbmte: usize,
}

fn costs(events: &[Event]) -> Costs {
	let count = |f: fn(&Event) -> bool| events.iter().filter(|event| f(event)).count();
	Costs {
		mfspr: count(|e| matches!(e, Event::Read(_))),
		mtspr: count(|e| matches!(e, Event::Write(..))),
		mftb: count(|e| *e == Event::Timebase),
		mtmsrd: count(|e| matches!(e, Event::WriteMsr(_) | Event::WriteEeRi(_))),
		isync: count(|e| *e == Event::Isync),
		hwsync: count(|e| *e == Event::Hwsync),
		slbmte: count(|e| matches!(e, Event::SlbClear(_) | Event::SlbWrite(..))),
	}
}

/// The round trip that an hcall is for a guest like Linux: most registers that problem
/// state has are as the host's are, facilities are not in use, no timebase offset. An
/// operation more is a decision, so this says exactly how many there are.
#[test]
fn costly_operations_of_an_hcall() {
	let linux = || {
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		m.context.vcpu.set_ctrl(1);
		m.guest_writes.insert(Spr::CTRLT.0, 1);
		m
	};
	let mut m = linux();
	m.run(true);
	let ours = Costs {
		mfspr: 8 + 24,
		mtspr: 19 + 8,
		mftb: 0,
		mtmsrd: 2,
		isync: 1,
		hwsync: 2,
		slbmte: 4,
	};
	assert_eq!(costs(&m.events), ours, "{}", m.journal());
	assert_ne!(m.msr & Msr::EE.bits(), 0);

	// C's, by its source (Linux 6.12, kvmhv_vcpu_entry_p9() and what it calls), for
	// the same values; and the mtmsrd with which its caller enables interrupts.
	let c = Costs {
		mfspr: 9 + 26,
		mtspr: 21 + 9,
		mftb: 1,
		mtmsrd: 3,
		isync: 2,
		hwsync: 2,
		slbmte: 4,
	};
	assert!(ours.mfspr < c.mfspr && ours.mtspr < c.mtspr && ours.mftb < c.mftb);
	assert!(ours.mtmsrd < c.mtmsrd && ours.isync + ours.hwsync < c.isync + c.hwsync);
	assert_eq!(ours.slbmte, c.slbmte);

	// An offset costs a reading more than in C: it takes the real time to move it, and
	// there is a second look for the carry, both ways.
	let mut m = linux();
	m.context.vcore.set_tb_offset(1 << 40);
	m.run(true);
	assert_eq!(costs(&m.events).mftb, 4);
	assert_eq!(costs(&m.events).mtspr, ours.mtspr + 2);
}

/// The journals that a reviewer should read when one changes.
#[test]
fn journals() {
	type Change = fn(&mut Machine);
	let with_slb = |m: &mut Machine| {
		m.hash();
		// Fewer than there are, for the reader.
		m.context.vcpu.set_slb_nr(4);
		m.context.vcpu.set_slb_max(2);
		for (n, index) in [0_u64, 3].into_iter().enumerate() {
			let entry = m.context.vcpu.slb(n as u32).unwrap();
			entry.set_orige(0xc000_0000_0800_0000 | index);
			entry.set_origv(0x5000 + index);
		}
		m.guest_slb = Some(BTreeMap::from([(1, (0xd000_0000_0800_0000, 0x501))]));
	};
	let distinct: Vec<u64> = (0x100..0x140).collect();
	let cases: [(&str, u32, u64, Change); 16] = [
		("hcall", trap::SYSCALL, 0, |_| {}),
		("hcall-first-entry", trap::SYSCALL, 0, |m| {
			// A vcpu as it was made: only what KVM and userspace must set.
			let fresh = machine(&[0; 24], &[0; 29], &[0; 25], hfscr::EBB | hfscr::TM);
			m.context = fresh.context;
			m._memory.extend(fresh._memory);
		}),
		("hcall-real-mode", trap::SYSCALL, 0, |m| {
			m.arrives_virtual = false
		}),
		("hcall-xive", trap::SYSCALL, 0, |m| {
			m.context.vcpu.set_xive_pushed(1)
		}),
		("hcall-l2", trap::SYSCALL, 0, Machine::l2),
		("hcall-hash", trap::SYSCALL, 0, with_slb),
		(
			"hcall-ebb-tm-offset",
			trap::SYSCALL,
			hfscr::EBB | hfscr::TM,
			|m| {
				m.context.vcore.set_tb_offset(1 << 32);
			},
		),
		("hcall-ebb", trap::SYSCALL, hfscr::EBB, |_| {}),
		("hcall-transaction", trap::SYSCALL, hfscr::TM, |m| {
			m.context.vcpu.set_msr((GUEST_MSR | Msr::TS_S).bits());
			m.guest_writes
				.insert(Spr::SRR1.0, (GUEST_MSR | Msr::TS_S).bits());
		}),
		("hcall-offset", trap::SYSCALL, 0, |m| {
			m.context.vcore.set_tb_offset(1 << 32)
		}),
		("page-fault", trap::H_DATA_STORAGE, 0, |_| {}),
		("page-fault-hash", trap::H_DATA_STORAGE, 0, with_slb),
		("machine-check", trap::MACHINE_CHECK, 0, |_| {}),
		("external-interrupt", H_VIRT, 0, |_| {}),
		("decrementer", trap::HV_DECREMENTER, 0, |m| {
			m.timer_due = true
		}),
		("hmi-offset", trap::HMI, 0, |m| {
			m.context.vcore.set_tb_offset(1 << 32)
		}),
	];
	for (name, trap, facilities, change) in cases {
		let mut m = machine(
			&distinct[..24],
			&distinct[24..53],
			&distinct[..25],
			facilities,
		);
		m.traps = vec![trap];
		change(&mut m);
		m.run(true);
		insta::assert_snapshot!(name, m.journal());
	}
}
