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

use powerpc::{Cpu, Msr, Spr};
use proptest::prelude::*;

use crate::layout::kernel as layout;
use crate::switch::{self, Context, Kernel, Profile, hfscr, trap};
use crate::views::{ExceptionView, KvmView, PacaView, TaskView, VcoreView, VcpuView};

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
	Call(&'static str),
	Guest,
}

/// Memory for one of the kernel's structures, with room for any invented offset.
struct Memory(Box<[u64]>);

impl Memory {
	fn new() -> Self {
		Self(vec![0; 1024].into())
	}

	fn at(&mut self) -> NonNull<u8> {
		NonNull::new(self.0.as_mut_ptr()).unwrap().cast()
	}
}

/// The processor, the kernel around it, and what the guest will do.
struct Machine {
	sprs: BTreeMap<u16, u64>,
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
		let mut memory: Vec<_> = (0..6).map(|_| Memory::new()).collect();
		// SAFETY: each has memory of its own that lives as long as the machine.
		let (context, exceptions) = unsafe {
			let context = Context {
				vcpu: VcpuView::new(memory[0].at()),
				vcore: VcoreView::new(memory[1].at()),
				kvm: KvmView::new(memory[2].at()),
				paca: PacaView::new(memory[3].at()),
				task: TaskView::new(memory[4].at()),
			};
			(context, ExceptionView::new(memory[5].at()))
		};
		context.vcpu.set_msr(GUEST_MSR.bits());
		Self {
			sprs: BTreeMap::new(),
			msr: HOST_MSR.bits(),
			tb: 1 << 40,
			events: Vec::new(),
			context,
			exceptions,
			guest_writes: BTreeMap::new(),
			traps: vec![trap::SYSCALL],
			found: BTreeMap::new(),
			emulates: false,
			dawr: false,
			_memory: memory,
		}
	}

	/// Runs the guest, with assistance for transactional memory or without.
	fn run(&mut self, assist: bool) -> (u32, u64) {
		let (context, mut tb) = (self.context, self.tb);
		let limit = tb + 1_000_000;
		// SAFETY: no processor is involved.
		let trap = unsafe {
			if assist {
				switch::run::<Assist, _>(self, context, limit, LPCR, &mut tb)
			} else {
				switch::run::<NoAssist, _>(self, context, limit, LPCR, &mut tb)
			}
		};
		(trap, tb)
	}

	fn spr(&self, spr: Spr) -> u64 {
		self.sprs.get(&spr.0).copied().unwrap_or(0)
	}

	fn set(&mut self, spr: Spr, value: u64) {
		self.sprs.insert(spr.0, value);
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
				Event::Call(name) => writeln!(text, "call {name}"),
				Event::Guest => writeln!(text, "guest"),
			}
			.unwrap();
		}
		text
	}
}

const LPCR: u64 = 0x40_0000_0340_f000 | 1 << 17;

struct Assist;
impl Profile for Assist {
	const TM_ASSIST: bool = true;
}

struct NoAssist;
impl Profile for NoAssist {
	const TM_ASSIST: bool = false;
}

impl Cpu for Machine {
	fn mfspr<const N: u16>(&mut self) -> u64 {
		self.events.push(Event::Read(Spr(N)));
		// Reading and writing have numbers of their own.
		let spr = if Spr(N) == Spr::CTRLF {
			Spr::CTRLT
		} else {
			Spr(N)
		};
		self.spr(spr)
	}

	unsafe fn mtspr<const N: u16>(&mut self, value: u64) {
		self.events.push(Event::Write(Spr(N), value));
		self.set(Spr(N), value);
		let guest_mode = self.context.paca.in_guest() == layout::GUEST_MODE_P9_RS as u8;
		if [Spr::LPIDR, Spr::LPCR, Spr::PIDR].contains(&Spr(N)) {
			assert!(guest_mode, "{:?} written with the host's mode byte", Spr(N));
		}
		if Spr(N) == Spr::TBU40 {
			self.tb = value & !0xff_ffff | self.tb & 0xff_ffff;
		}
	}

	fn mftb(&mut self) -> u64 {
		self.events.push(Event::Timebase);
		self.tb += 1;
		self.tb
	}

	fn mfmsr(&mut self) -> u64 {
		self.events.push(Event::ReadMsr);
		self.msr
	}

	unsafe fn mtmsrd(&mut self, msr: u64) {
		self.events.push(Event::WriteMsr(msr));
		self.msr = msr;
	}

	unsafe fn mtmsrd_ee_ri(&mut self, msr: u64) {
		self.events.push(Event::WriteEeRi(msr));
		let bits = (Msr::EE | Msr::RI).bits();
		self.msr = self.msr & !bits | msr & bits;
	}

	fn hwsync(&mut self) {
		self.events.push(Event::Hwsync);
	}

	fn isync(&mut self) {
		self.events.push(Event::Isync);
	}

	unsafe fn slb_clear<const INDEX: u64>(&mut self) {
		self.events.push(Event::SlbClear(INDEX));
	}
}

impl Kernel for Machine {
	fn pmu_to_guest(&mut self, _: VcpuView) {
		self.events.push(Event::Call("pmu_to_guest"));
	}

	fn pmu_to_host(&mut self, _: VcpuView) {
		self.events.push(Event::Call("pmu_to_host"));
	}

	unsafe fn load_vectors(&mut self, _: VcpuView) {
		let needed = Msr::FP | Msr::VEC | Msr::VSX;
		assert!(
			Msr::from_bits_retain(self.msr).contains(needed),
			"facilities are off"
		);
		self.events.push(Event::Call("load_vectors"));
	}

	fn store_vectors(&mut self, _: VcpuView) {
		let needed = Msr::FP | Msr::VEC | Msr::VSX;
		assert!(
			Msr::from_bits_retain(self.msr).contains(needed),
			"facilities are off"
		);
		self.events.push(Event::Call("store_vectors"));
	}

	fn restore_tm(&mut self, _: VcpuView, _: u64) {
		self.events.push(Event::Call("restore_tm"));
	}

	fn save_tm(&mut self, _: VcpuView, _: u64) {
		self.events.push(Event::Call("save_tm"));
	}

	fn tm_emulation_early(&mut self, _: VcpuView) -> bool {
		self.events.push(Event::Call("tm_emulation_early"));
		self.emulates
	}

	fn flush_tlb_if_needed(&mut self, _: KvmView, _: u16) {
		assert_eq!(
			self.spr(Spr::LPIDR),
			self.context.kvm.lpid(),
			"flushed by another LPID"
		);
		self.events.push(Event::Call("flush_tlb_if_needed"));
	}

	unsafe fn run_guest(&mut self, vcpu: VcpuView) {
		assert!(
			!Msr::from_bits_retain(self.msr).contains(Msr::EE),
			"interrupts are enabled"
		);
		self.events.push(Event::Guest);
		self.found = self.sprs.clone();
		self.sprs.extend(&self.guest_writes);
		self.context.paca.set_trap(self.traps.remove(0).into());
		vcpu.set_msr(
			self.guest_writes
				.get(&Spr::SRR1.0)
				.copied()
				.unwrap_or(GUEST_MSR.bits()),
		);
		// The interrupt, in real mode.
		self.msr = (Msr::SF | Msr::HV | Msr::ME | Msr::LE).bits();
	}

	fn machine_check(&mut self, _: VcpuView) {
		self.events.push(Event::Call("machine_check"));
	}

	fn hmi(&mut self, _: VcpuView) {
		self.events.push(Event::Call("hmi"));
	}

	fn rearm_host_dec(&mut self, _: u64) {
		assert!(
			Msr::from_bits_retain(self.msr).contains(Msr::IR | Msr::DR),
			"the MMU is off"
		);
		self.events.push(Event::Call("rearm_host_dec"));
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
	kvm.set_host_lpcr(m.spr(Spr::LPCR));
	kvm.set_lpid(7);
	paca.set_sprg_vdso(m.spr(Spr::SPRG3));
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
	/// as it was.
	#[test]
	fn nobody_sees_anothers_registers(
		host in values(HOST.len()),
		vcpu_values in values(29),
		guest in values(GUEST.len()),
		facilities in facilities(),
		assist in any::<bool>(),
		dawr in any::<bool>(),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, facilities);
		m.dawr = dawr;
		let vcpu = m.context.vcpu;
		let before = m.sprs.clone();
		let had: BTreeMap<_, _> = GUEST.iter().map(|(spr, _)| (spr.0, in_vcpu(vcpu, *spr))).collect();
		// A facility that it doesn't have it can't write.
		m.guest_writes.retain(|spr, _| switched(Spr(*spr), facilities, dawr, assist));
		let (trap, _) = m.run(assist);
		prop_assert_eq!(trap, trap::SYSCALL);

		for (spr, _) in GUEST {
			if !switched(spr, facilities, dawr, assist) || assist && spr == Spr::PSSCR_PR {
				continue;
			}
			let found = m.found.get(&spr.0).copied().unwrap_or(0);
			prop_assert_eq!(found, had[&spr.0], "the guest's {:?}", spr);
			prop_assert_eq!(in_vcpu(vcpu, spr), m.guest_writes[&spr.0], "the vcpu's {:?}", spr);
		}
		for (spr, value) in [(Spr::CIABR, vcpu.ciabr()), (Spr::HFSCR, facilities),
			(Spr::LPCR, LPCR), (Spr::LPIDR, 7)]
		{
			prop_assert_eq!(m.found[&spr.0], value, "the guest's {:?}", spr);
		}
		for spr in HOST {
			prop_assert_eq!(m.spr(spr), before[&spr.0], "the host's {:?}", spr);
		}
		prop_assert_eq!(m.msr, HOST_MSR.bits() & !Msr::EE.bits());
		prop_assert_eq!(m.context.paca.in_guest(), layout::GUEST_MODE_NONE as u8);
	}

	/// The order of things, for any values.
	#[test]
	fn order_is_kept(
		host in values(HOST.len()),
		vcpu_values in values(29),
		guest in values(GUEST.len()),
		facilities in facilities(),
		assist in any::<bool>(),
	) {
		let mut m = machine(&host, &vcpu_values, &guest, facilities);
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
					Event::Read(_) => true,
					_ => false,
				};
				prop_assert!(!late, "{:?} behind the first write", event);
			}
			// Both barriers stand before the first of these three is written.
			let mmu = half.iter().position(|e| {
				matches!(e, Event::Write(Spr::LPIDR | Spr::PIDR | Spr::LPCR, _))
			}).unwrap();
			prop_assert_eq!(&half[mmu - 2..mmu], &[Event::Hwsync, Event::Isync]);
		}
		let write = |half: &[Event], spr| {
			half.iter().position(|e| matches!(e, Event::Write(s, _) if *s == spr)).unwrap()
		};
		prop_assert!(write(entry, Spr::LPIDR) < write(entry, Spr::LPCR));
		prop_assert!(write(entry, Spr::LPCR) < write(entry, Spr::HDEC));
		let mmu_back = write(exit, Spr::LPCR);
		let msr = exit.iter().position(|e| matches!(e, Event::WriteMsr(_))).unwrap();
		prop_assert!(mmu_back < msr, "MSR before the host's MMU context");
		let cleared = exit.iter().position(|e| *e == Event::SlbClear(3)).unwrap();
		prop_assert!(cleared < write(exit, Spr::PIDR));
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
			Spr::FSCR, Spr::DSCR, Spr::PSPB, Spr::IAMR, Spr::AMR, Spr::UAMOR, Spr::CIABR];
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

	/// Guest and host timebase stay apart by the offset, whatever the low bits do.
	#[test]
	fn timebase_comes_back(low in any::<u32>(), offset in 0..1_u64 << 40) {
		let offset = offset & !0xff_ffff;
		let mut m = machine(&[0; 24], &[0; 29], &[0; 25], 0);
		m.tb = 1 << 50 | u64::from(low);
		m.context.vcore.set_tb_offset(offset);
		let start = m.tb;
		let (_, tb) = m.run(true);
		// One tick for each mftb of the fake, at most.
		prop_assert!(m.tb >= start && m.tb < start + 16, "{:#x} to {:#x}", start, m.tb);
		prop_assert!(tb >= start && tb <= m.tb);
		prop_assert_eq!(m.context.vcore.tb_offset_applied(), 0);
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
	let trap = unsafe { switch::run::<Assist, _>(&mut m, context, limit, LPCR, &mut tb) };
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
		m.guest_writes.insert(Spr::DEC.0, dec);
		let (context, mut tb) = (m.context, m.tb);
		// SAFETY: no processor is involved.
		unsafe { switch::run::<Assist, _>(&mut m, context, tb + 9, lpcr, &mut tb) };
		assert_eq!(
			m.context.vcpu.dec_expires(),
			tb.wrapping_add(expected as u64)
		);
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

/// The journals that a reviewer should read when one changes.
#[test]
fn journals() {
	let distinct: Vec<u64> = (0x100..0x140).collect();
	for (name, trap, facilities, offset) in [
		("hcall", trap::SYSCALL, 0, 0),
		(
			"hcall-ebb-tm-offset",
			trap::SYSCALL,
			hfscr::EBB | hfscr::TM,
			1 << 32,
		),
		("page-fault", trap::H_DATA_STORAGE, 0, 0),
		("machine-check", trap::MACHINE_CHECK, 0, 0),
	] {
		let mut m = machine(
			&distinct[..24],
			&distinct[24..53],
			&distinct[..25],
			facilities,
		);
		m.traps = vec![trap];
		m.context.vcore.set_tb_offset(offset);
		m.run(true);
		insta::assert_snapshot!(name, m.journal());
	}
}
