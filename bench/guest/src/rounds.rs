// SPDX-License-Identifier: GPL-2.0-only
//! Rounds that leave the guest in every way there is.
//!
//! Each round draws its way out and a value for every register, prepares what that way
//! needs (an address in a register, a vector that leads back), runs the assembly, and
//! then says for every register what it must hold: what was filled, but for what the
//! architecture and PAPR say of this way out.
//!
//! Where an interrupt is part of the round, its vector is for that long a branch to the
//! round's second half: there is no register to spare for asking whether it was expected.

use core::arch::asm;
use core::ptr;

use hcall::{Code, Number};
use protocol::block::Mismatch;
use protocol::regs::{self, Pattern};
use protocol::round::{self, Kind, Plan, Report, Words};
use protocol::{Command, Outcome, map, private};

use crate::{SRR1_STATUS, at, hcall_cr, tell, translated, values};

/// One round in assembly.
#[repr(C)]
struct Instance {
	run: unsafe extern "C" fn(),
	/// The instruction that leaves the guest.
	exit: u64,
	/// Where it goes on.
	after: u64,
}

macro_rules! instances {
	($($name:ident)*) => {
		unsafe extern "C" {
			$(safe static $name: Instance;)*
		}
	};
}
instances! {
	instance_sc instance_cede instance_interrupt instance_problem instance_spin instance_branch
	instance_illegal instance_trap instance_tir instance_doorbell instance_ebbrr
	instance_tfhar instance_mmcr2 instance_lbz instance_lha instance_lwbrx instance_ld
	instance_ldu instance_stb instance_sthbrx instance_stw instance_std instance_lfd
	instance_stfd instance_lxvd2x instance_stxvd2x
}

const MSR_SF: u64 = 1 << 63;
const MSR_TM: u64 = 1 << 32;
const MSR_VEC: u64 = 1 << 25;
const MSR_VSX: u64 = 1 << 23;
const MSR_EE: u64 = 1 << 15;
const MSR_PR: u64 = 1 << 14;
const MSR_FP: u64 = 1 << 13;
const MSR_ME: u64 = 1 << 12;
const MSR_IR_DR: u64 = 0x30;
const MSR_PMM: u64 = 1 << 2;
const MSR_LE: u64 = 1;
/// Bits of MSR that a round may be with or without. Not FE0 and FE1: what is filled into
/// FPSCR may be an enabled exception, which would then be taken.
const MSR_RANDOM: u64 = MSR_TM | MSR_VEC | MSR_VSX | MSR_EE | MSR_FP | MSR_PMM;

/// SRR1 of a program interrupt: illegal instruction, trap.
const PROGRAM_ILLEGAL: u64 = 0x8_0000;
const PROGRAM_TRAP: u64 = 0x2_0000;

const DAR: usize = regs::spr_index(19);
const DSISR: usize = regs::spr_index(18);

/// DSISR, or SRR1 of an instruction storage interrupt: no translation; a store, not allowed.
const NO_TRANSLATION: u64 = 0x4000_0000;
const STORE_NOT_ALLOWED: u64 = 0x0a00_0000;

const DATA_STORAGE: u64 = 0x300;
const INST_STORAGE: u64 = 0x400;
const PROGRAM: u64 = 0x700;
const DECREMENTER: u64 = 0x900;
const DOORBELL: u64 = 0xa00;
const SYSTEM_CALL: u64 = 0xc00;

/// Entries after which KVM looks whether a facility is still used, and some more.
const CALLS_BEFORE: u64 = 260;
/// The number of vs5 and f5, which rounds load and store.
const VS5: usize = regs::VSR + 10;

/// What came after the instruction.
enum After {
	/// The next one.
	Next,
	/// The next one, with an hcall's code in r3.
	Hcall(Code),
	/// An interrupt: its vector, SRR0 and what its SRR1 has besides MSR.
	Interrupt { vector: u64, srr0: u64, bits: u64 },
}

/// A round that is about to be run.
struct Round {
	instance: &'static Instance,
	after: After,
	/// Words that hold something else afterwards than what was filled.
	changed: [(usize, u64); 3],
	changes: usize,
	/// Two words of which the first has to be what was filled into the second.
	copied: Option<(usize, usize)>,
	/// A word that may have any value.
	any: Option<usize>,
	/// A word of memory that has to hold a value afterwards.
	memory: Option<(u64, u64)>,
}

impl Round {
	fn new(instance: &'static Instance) -> Self {
		Self {
			instance,
			after: After::Next,
			changed: [(0, 0); 3],
			changes: 0,
			copied: None,
			any: None,
			memory: None,
		}
	}

	fn changes(mut self, word: usize, value: u64) -> Self {
		if let Some(place) = self.changed.get_mut(self.changes) {
			*place = (word, value);
			self.changes += 1;
		}
		self
	}

	fn copies(mut self, word: usize, from: usize) -> Self {
		self.copied = Some((word, from));
		self
	}

	fn interrupted(mut self, vector: u64, srr0: u64, bits: u64) -> Self {
		self.after = After::Interrupt { vector, srr0, bits };
		self
	}
}

/// What the guest remembers of its table and of the device: what it wrote there.
#[repr(C)]
struct Shadow {
	table: [u64; map::TCE_PAGES as usize],
	device: [u8; map::DEVICE_SIZE as usize],
}
const _: () = assert!(size_of::<Shadow>() as u64 <= map::RAM - map::ROUND_SHADOW);

struct State {
	pattern: Pattern,
	translated: bool,
	plan: Plan,
	/// The next page of `map::TOUCH` that has no translation, if there is one left.
	page: u64,
	shadow: &'static mut Shadow,
}

impl State {
	fn below(&mut self, limit: u64) -> u64 {
		self.pattern.next() % limit
	}

	/// A way out: each of the plan's is as likely, but those that need hundreds of hcalls.
	fn kind(&mut self) -> Kind {
		let rare = Kind::Ebb.bit() | Kind::Tm.bit();
		if self.plan.is_shared() {
			// Nor those that run with interrupts on, but for H_CEDE, which waits for one:
			// a decrementer of another's may come, late (QEMU's timers are threads).
			let enabled = Kind::Doorbell.bit() | Kind::Problem.bit() | Kind::Decrementer.bit();
			self.plan.kinds &= !(rare | enabled);
		}
		loop {
			let kind = Kind::ALL[self.below(Kind::ALL.len() as u64) as usize];
			let skip = rare & kind.bit() != 0 && self.below(16) != 0;
			let only_rare = self.plan.kinds & !rare == 0;
			if self.plan.kinds & kind.bit() != 0 && (!skip || only_rare) {
				return kind;
			}
		}
	}

	/// A value for every register.
	fn words(&mut self, msr: u64) -> Words {
		let mut words = [0; round::COUNT];
		let values = values(&mut self.pattern, 0, self.translated);
		words[..regs::COUNT].copy_from_slice(&values);
		words[3] = self.pattern.next();
		for (index, spr) in round::PMU_SPRS.iter().enumerate() {
			words[round::PMU + index] = self.pattern.next() & spr.mask | spr.set;
		}
		words[round::MSR] = msr & !MSR_RANDOM | self.pattern.next() & MSR_RANDOM;
		words[round::WITH_PMU] = self.plan.pmu;
		// Some seconds: no interrupt comes of it.
		words[round::SET_DEC] = 0x6000_0000 | self.pattern.next() & 0x0fff_ffff;
		if self.plan.is_shared() {
			// Time isn't looked at, and may be the machine's that all this is emulated on.
			words[round::SET_DEC] = 0x7fff_ffff;
			words[round::MSR] &= !MSR_EE;
		}
		words
	}

	/// A page without a translation.
	fn untouched(&mut self) -> u64 {
		if self.page >= map::TOUCH + map::TOUCH_SIZE {
			tell(private::UNTOUCH, 0);
			self.page = map::TOUCH;
		}
		self.page += map::TOUCH_PAGE;
		self.page - map::TOUCH_PAGE
	}

	/// Prepares a round.
	fn prepare(&mut self, kind: Kind, words: &mut Words) -> Round {
		match kind {
			Kind::Null => hcall(words, Number::NULL, &[], Code::SUCCESS),
			Kind::Prod => hcall(words, Number::PROD, &[u64::MAX], Code::PARAMETER),
			Kind::Unknown => hcall(words, private::UNKNOWN, &[], Code::FUNCTION),
			Kind::GetTce | Kind::PutTce | Kind::PutTceIndirect | Kind::StuffTce => {
				self.prepare_tce(kind, words)
			}
			Kind::Cede => {
				// H_CEDE enables interrupts.
				words[round::MSR] &= !MSR_EE;
				words[round::SET_DEC] = 20_000 + self.below(20_000);
				let mut round = hcall(words, Number::CEDE, &[], Code::SUCCESS);
				round.instance = &instance_cede;
				let waiting = instance_cede.exit + 4;
				round
					.changes(3, Code::SUCCESS.0 as u64)
					.interrupted(DECREMENTER, waiting, MSR_EE)
			}
			Kind::MmioLoad => self.prepare_load(words),
			Kind::MmioStore => self.prepare_store(words),
			Kind::TouchLoad => {
				let page = self.untouched();
				words[6] = page + 16;
				Round::new(&instance_ld).changes(5, content(page))
			}
			Kind::TouchStore => {
				words[6] = self.untouched() + 24;
				let mut round = Round::new(&instance_std);
				round.memory = Some((words[6], words[5]));
				round
			}
			Kind::TouchFetch => {
				// The page branches back.
				words[regs::CTR] = self.untouched();
				Round::new(&instance_branch).changes(regs::CFAR, words[regs::CTR])
			}
			Kind::Illegal => {
				let exit = instance_illegal.exit;
				Round::new(&instance_illegal).interrupted(PROGRAM, exit, PROGRAM_ILLEGAL)
			}
			Kind::Trap => {
				let exit = instance_trap.exit;
				Round::new(&instance_trap).interrupted(PROGRAM, exit, PROGRAM_TRAP)
			}
			Kind::Tir => Round::new(&instance_tir).changes(5, 0),
			Kind::Doorbell => {
				// A message of type 5 to thread 0.
				words[5] = 5 << 27;
				words[round::MSR] |= MSR_EE;
				let after = instance_doorbell.after;
				Round::new(&instance_doorbell).interrupted(DOORBELL, after, 0)
			}
			Kind::Ebb => {
				words[round::CALLS_BEFORE] = CALLS_BEFORE;
				Round::new(&instance_ebbrr).copies(5, regs::spr_index(805))
			}
			Kind::Tm => {
				words[round::CALLS_BEFORE] = CALLS_BEFORE;
				words[round::MSR] |= MSR_TM;
				Round::new(&instance_tfhar).copies(5, regs::spr_index(128))
			}
			Kind::Pmu => {
				const MMCR2: usize = round::PMU + 2;
				let mut round = Round::new(&instance_mmcr2);
				if self.plan.pmu != 0 {
					return round.copies(5, MMCR2);
				}
				// Not the guest's: zero from KVM, or an old value where KVM does not emulate.
				round.any = Some(5);
				round
			}
			Kind::Interrupt => Round::new(&instance_interrupt),
			Kind::Problem => {
				// rfid goes there.
				words[regs::SRR0] = instance_problem.exit + 4;
				words[regs::SRR1] = words[round::MSR] | MSR_PR | MSR_EE;
				words[round::MSR] &= !MSR_EE;
				let after = instance_problem.after;
				Round::new(&instance_problem).interrupted(SYSTEM_CALL, after, 0)
			}
			Kind::Decrementer => {
				words[round::MSR] |= MSR_EE;
				words[round::SET_DEC] = 20_000 + self.below(20_000);
				let exit = instance_spin.exit;
				Round::new(&instance_spin).interrupted(DECREMENTER, exit, 0)
			}
			Kind::ProdAwake => hcall(words, Number::PROD, &[0], Code::SUCCESS),
			Kind::Random => {
				let mut round = hcall(words, Number::RANDOM, &[], Code::SUCCESS);
				round.any = Some(4);
				round
			}
			Kind::EventCall => {
				let args = [4, map::MMIO_EVENT, words[6]];
				hcall(words, Number::LOGICAL_CI_STORE, &args, Code::SUCCESS)
			}
			Kind::EventStore => {
				words[6] = map::MMIO_EVENT_ANY;
				Round::new(match self.below(3) {
					0 => &instance_stb,
					1 => &instance_stw,
					_ => &instance_std,
				})
			}
			Kind::Missing => {
				words[6] = self.within(map::MISSING);
				data_storage(&instance_ld, words[6], NO_TRANSLATION)
			}
			Kind::MissingFetch => {
				let address = self.within(map::MISSING);
				words[regs::CTR] = address;
				Round::new(&instance_branch).interrupted(INST_STORAGE, address, NO_TRANSLATION)
			}
			Kind::ReadOnly => {
				words[6] = self.within(map::READ_ONLY);
				data_storage(&instance_std, words[6], STORE_NOT_ALLOWED)
			}
		}
	}

	/// An aligned address in a page.
	fn within(&mut self, page: u64) -> u64 {
		page + self.below(map::TOUCH_PAGE / 8) * 8
	}

	fn prepare_tce(&mut self, kind: Kind, words: &mut Words) -> Round {
		let mut tce = map::tce(self.below(512));
		if kind == Kind::StuffTce {
			// It is for taking permissions away only.
			tce &= !3;
		}
		let count = 1 + self.below(16);
		let index = self.below(map::TCE_PAGES - count);
		let (first, ioba) = (index as usize, index << map::TCE_SHIFT);
		let written = match kind {
			Kind::PutTce => 1,
			Kind::GetTce => 0,
			_ => count as usize,
		};
		let table = &mut self.shadow.table[first..];
		for (entry, place) in table[..written].iter_mut().enumerate() {
			*place = match kind {
				Kind::PutTceIndirect => map::tce(entry as u64),
				_ => tce,
			};
		}
		let (number, args) = match kind {
			Kind::GetTce => (Number::GET_TCE, [map::LIOBN, ioba, tce, count]),
			Kind::PutTce => (Number::PUT_TCE, [map::LIOBN, ioba, tce, count]),
			Kind::StuffTce => (Number::STUFF_TCE, [map::LIOBN, ioba, tce, count]),
			_ => (
				Number::PUT_TCE_INDIRECT,
				[map::LIOBN, ioba, map::TCE_LIST, count],
			),
		};
		let mut round = hcall(words, number, &args, Code::SUCCESS);
		if kind == Kind::GetTce {
			round = round.changes(4, table[0]);
			round.any = (self.plan.table_is_ours == 0).then_some(4);
		}
		round
	}

	/// Somewhere in the device.
	fn place(&mut self, words: &mut Words) -> usize {
		let offset = self.below(map::DEVICE_SIZE / 16) * 16;
		words[6] = map::DEVICE + offset;
		offset as usize
	}

	fn prepare_load(&mut self, words: &mut Words) -> Round {
		let place = self.place(words);
		let byte = |offset: usize| u64::from(self.shadow.device[place + offset]);
		let little = |offset: usize, size: usize| {
			(0..size).fold(0, |sum, i| sum | byte(offset + i) << (8 * i))
		};
		let (lfd, lxv) = (instance_lfd.after, instance_lxvd2x.after);
		let round = match self.pattern.next() % 7 {
			0 => Round::new(&instance_lbz).changes(5, little(0, 1)),
			1 => Round::new(&instance_lha).changes(5, little(0, 2) as i16 as u64),
			2 => {
				let big = (little(0, 4) as u32).swap_bytes();
				Round::new(&instance_lwbrx).changes(5, big.into())
			}
			3 => Round::new(&instance_ld).changes(5, little(0, 8)),
			4 => {
				words[6] -= 8;
				Round::new(&instance_ldu)
					.changes(5, little(0, 8))
					.changes(6, words[6] + 8)
			}
			// The FP register is the second word of the vector, in memory order.
			5 => Round::new(&instance_lfd).changes(VS5 + 1, little(0, 8)),
			_ => Round::new(&instance_lxvd2x)
				.changes(VS5 + 1, little(0, 8))
				.changes(VS5, little(8, 8)),
		};
		if [lfd, lxv].contains(&round.instance.after) {
			words[round::MSR] |= MSR_FP | MSR_VEC | MSR_VSX;
		}
		round
	}

	fn prepare_store(&mut self, words: &mut Words) -> Round {
		let place = self.place(words);
		let (gpr, dw) = (words[5], [words[VS5 + 1], words[VS5]]);
		let mut put = |value: u64, size: usize| {
			self.shadow.device[place..place + size].copy_from_slice(&value.to_le_bytes()[..size]);
		};
		let instance = match self.pattern.next() % 6 {
			0 => {
				put(gpr, 1);
				&instance_stb
			}
			1 => {
				put((gpr as u16).swap_bytes().into(), 2);
				&instance_sthbrx
			}
			2 => {
				put(gpr, 4);
				&instance_stw
			}
			3 => {
				put(gpr, 8);
				&instance_std
			}
			4 => {
				words[round::MSR] |= MSR_FP;
				put(dw[0], 8);
				&instance_stfd
			}
			_ => {
				words[round::MSR] |= MSR_FP | MSR_VEC | MSR_VSX;
				put(dw[0], 8);
				let second = &mut self.shadow.device[place + 8..place + 16];
				second.copy_from_slice(&dw[1].to_le_bytes());
				&instance_stxvd2x
			}
		};
		Round::new(instance)
	}
}

/// An hcall with those arguments; the other registers are filled.
fn hcall(words: &mut Words, number: Number, args: &[u64], code: Code) -> Round {
	words[3] = number.0;
	words[4..4 + args.len()].copy_from_slice(args);
	Round {
		after: After::Hcall(code),
		..Round::new(&instance_sc)
	}
}

/// What lies in a page to be touched.
fn content(page: u64) -> u64 {
	page.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Replaces an instruction; returns what it was.
///
/// # Safety
///
/// The code that runs next must expect the new instruction.
unsafe fn patch(address: u64, instruction: u32) -> u32 {
	let place = at::<u32>(address);
	// SAFETY: text of ours, that we may write; the caller's word for the rest.
	unsafe {
		let old = ptr::read_volatile(place);
		ptr::write_volatile(place, instruction);
		asm!("dcbst 0, {0}", "sync", "icbi 0, {0}", "isync", in(reg) place);
		old
	}
}

/// `ba target`
fn branch(target: u64) -> u32 {
	18 << 26 | (target as u32 & 0x03ff_fffc) | 2
}

/// An access that the guest gets a data storage interrupt for.
fn data_storage(instance: &'static Instance, address: u64, dsisr: u64) -> Round {
	Round::new(instance)
		.interrupted(DATA_STORAGE, instance.exit, 0)
		.changes(DAR, address)
		.changes(DSISR, dsisr)
}

/// What an interrupt leaves in MSR.
fn interrupt_msr(translated: bool) -> u64 {
	MSR_SF | MSR_ME | MSR_LE | if translated { MSR_IR_DR } else { 0 }
}

/// Where it arrives.
fn interrupt_address(vector: u64, translated: bool) -> u64 {
	if translated {
		0xc000_0000_0000_4000 + vector
	} else {
		vector
	}
}

fn run_round(round: &Round, words: &Words, translated: bool) -> (Words, Words) {
	let vector = match round.after {
		After::Interrupt { vector, .. } => Some(if translated {
			map::VECTORS_AIL + vector
		} else {
			map::VECTORS + vector
		}),
		_ => None,
	};
	let (filled, got) = (at::<Words>(map::FILL), at::<Words>(map::GOT));
	// SAFETY: both blocks are there and only the assembly uses them besides. What is
	// filled keeps the payload's memory accessible; what the instruction writes is the
	// table's, the device's, or a page that no other code uses. The vector is put back before
	// anything else can need it.
	unsafe {
		let old = vector.map(|at| (at, patch(at, branch(round.instance.after))));
		ptr::write_volatile(filled, *words);
		(round.instance.run)();
		if let Some((at, old)) = old {
			patch(at, old);
		}
		(ptr::read_volatile(filled), ptr::read_volatile(got))
	}
}

/// What all registers must hold after a round.
fn expected(round: &Round, command: &Command, filled: &Words, translated: bool) -> Words {
	let mut expected = *filled;
	let hcall = |expected: &mut Words| {
		expected[regs::CR] = hcall_cr(filled[regs::CR], filled[regs::XER]);
		expected[regs::CTR] = command.ctr;
		expected[regs::CFAR] = command.cfar;
	};
	match round.after {
		After::Next => {}
		After::Hcall(code) => {
			hcall(&mut expected);
			expected[3] = code.0 as u64;
			expected[regs::SRR0] = round.instance.after;
			expected[regs::SRR1] = filled[regs::MSR] & !SRR1_STATUS;
		}
		After::Interrupt { vector, srr0, bits } => {
			if srr0 == instance_cede.exit + 4 {
				hcall(&mut expected);
			}
			expected[regs::SRR0] = srr0;
			let msr = if srr0 == instance_problem.after {
				filled[regs::SRR1]
			} else {
				filled[regs::MSR]
			};
			expected[regs::SRR1] = msr & !SRR1_STATUS | bits;
			expected[regs::MSR] = interrupt_msr(translated);
			// The branch in the vector.
			expected[regs::CFAR] = interrupt_address(vector, translated);
		}
	}
	for &(word, value) in &round.changed[..round.changes] {
		expected[word] = value;
	}
	if let Some((word, from)) = round.copied {
		expected[word] = filled[from];
	}
	expected
}

/// Which clock went wrong, and what it should have been at least.
fn clocks(
	plan: &Plan,
	filled: &Words,
	got: &Words,
	report: &mut Report,
) -> [Option<(usize, u64)>; 6] {
	let passed = |clock: usize| got[clock].wrapping_sub(filled[clock]);
	let ticks = passed(round::TB);
	let mut wrong = [None; 6];
	if ticks > plan.longest {
		wrong[0] = Some((round::TB, filled[round::TB]));
	}
	let dec = filled[round::DEC].wrapping_sub(ticks);
	let error = i64::from(got[round::DEC].wrapping_sub(dec) as i32);
	// Each exit adds to it.
	let exits = 1 + filled[round::CALLS_BEFORE] / 16;
	let tolerance = plan.dec_tolerance.saturating_mul(exits);
	if error.unsigned_abs() <= tolerance {
		report.dec_error = report.dec_error.max(error.unsigned_abs());
	} else if plan.dec_slip != 0 && (error + plan.dec_slip as i64).unsigned_abs() <= tolerance {
		report.dec_slips += 1;
	} else {
		wrong[1] = Some((round::DEC, dec));
	}
	let others = [round::VTB, round::PURR, round::SPURR, round::IC];
	for (wrong, clock) in wrong[2..].iter_mut().zip(others) {
		// None goes backwards, or faster than the timebase, give or take a little between
		// the readings.
		if passed(clock) > ticks.saturating_add(plan.dec_tolerance) {
			*wrong = Some((clock, filled[clock]));
		}
	}
	wrong
}

/// Puts something to load and to branch to into the pages that rounds touch.
fn set_up_pages() {
	let pages = (map::TOUCH..map::TOUCH + map::TOUCH_SIZE).step_by(map::TOUCH_PAGE as usize);
	for page in pages {
		// SAFETY: the VMM put memory there, which no other code uses.
		unsafe {
			patch(page, branch(instance_branch.after));
			ptr::write_volatile(at::<u64>(page + 16), content(page));
		}
	}
}

/// Does the rounds.
pub fn run(command: &Command, outcome: &mut Outcome, needs_arena: bool) {
	// SAFETY: the VMM wrote it before it gave the command.
	let plan = unsafe { ptr::read_volatile(at::<Plan>(map::ROUND_PLAN)) };
	// SAFETY: only the VMM uses this memory, too, and only while the guest is not running. Zero
	// is valid. `set_up_pages` and these are the first accesses of the job.
	let (report, shadow) = unsafe {
		let report = at::<Report>(map::ROUND_REPORT);
		let shadow = at::<Shadow>(map::ROUND_SHADOW);
		ptr::write_bytes(report, 0, 1);
		ptr::write_bytes(shadow, 0, 1);
		(&mut *report, &mut *shadow)
	};
	// SAFETY: a byte of the VPA that is for us to write.
	unsafe {
		at::<u8>(map::VPA + map::VPA_PMCREGS_IN_USE).write_volatile(u8::from(plan.pmu != 0));
	}
	if plan.pmu != 0 {
		// KVM looks at the byte with the next entry. No fast handler answers this.
		// SAFETY: it changes nothing.
		unsafe { crate::asm::hcall(Number::PROD.0, u64::MAX, 0, 0, 0) };
	}
	if needs_arena {
		crate::enter_arena();
	}
	let touches = Kind::TouchLoad.bit() | Kind::TouchStore.bit() | Kind::TouchFetch.bit();
	if plan.kinds & touches != 0 {
		set_up_pages();
	}
	for first in (0..map::TCE_PAGES).step_by(512) {
		// SAFETY: it writes to the DMA window only, which is ours: what we remember of it
		// is zero, so make it so.
		unsafe {
			let ioba = first << map::TCE_SHIFT;
			crate::asm::hcall(Number::STUFF_TCE.0, map::LIOBN, ioba, 0, 512);
		}
	}
	let own_msr: u64;
	// SAFETY: reading the MSR has no effect.
	unsafe { asm!("mfmsr {}", out(reg) own_msr, options(nomem, nostack)) };
	let mut state = State {
		pattern: Pattern::new(command.seed),
		translated: translated(),
		plan,
		page: map::TOUCH + map::TOUCH_SIZE,
		shadow,
	};
	let mut previous = [0; round::COUNT];
	for number in 0..command.iterations {
		let kind = state.kind();
		let mut words = state.words(own_msr);
		let round = state.prepare(kind, &mut words);
		let (filled, mut got) = run_round(&round, &words, state.translated);
		let expected = expected(&round, command, &filled, state.translated);
		if let Some(word) = round.any {
			got[word] = expected[word];
		}
		let late = clocks(&plan, &filled, &got, report);
		let mut wrong = |register: usize, expected: u64, got: u64| {
			let index = outcome.mismatches as usize;
			if let Some(place) = report.mismatches.get_mut(index) {
				*place = Mismatch {
					register: register as u64,
					expected,
					got,
					round: number,
				};
				report.mismatch_kinds[index] = kind as u64;
			}
			outcome.mismatches += 1;
		};
		for word in (0..round::COUNT).filter(|&word| round::is_compared(word)) {
			let not_ours = plan.is_shared() && round::is_on_demand(word);
			if not_ours || (round::PMU..round::CLOCK).contains(&word) && plan.pmu == 0 {
				continue;
			}
			if number > 0 {
				report.varied[word] |= filled[word] ^ previous[word];
			}
			if got[word] != expected[word] {
				wrong(word, expected[word], got[word]);
			}
			report.digest = (report.digest ^ got[word])
				.wrapping_mul(0x9e37_79b9_7f4a_7c15)
				.rotate_left(23);
		}
		for (clock, expected) in late.into_iter().flatten() {
			wrong(clock, expected, got[clock]);
		}
		if let Some((address, value)) = round.memory {
			// SAFETY: the page that the round wrote to.
			let got = unsafe { ptr::read_volatile(at::<u64>(address)) };
			if got != value {
				wrong(round::MEMORY, value, got);
			}
		}
		report.kinds[kind as usize] += 1;
		previous = filled;
		// SAFETY: the counter is ours; volatile as the VMM may be looking.
		unsafe { ptr::write_volatile(&raw mut outcome.rounds, number + 1) };
	}
	// SAFETY: as above.
	unsafe { at::<u8>(map::VPA + map::VPA_PMCREGS_IN_USE).write_volatile(0) };
}
