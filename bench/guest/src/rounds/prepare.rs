// SPDX-License-Identifier: GPL-2.0-only
//! What each way out of the guest needs, and what that way changes.

use hcall::{Code, Number};
use protocol::regs::{self, Pattern};
use protocol::round::{self, RoundKind, RoundPlan, Words};
use protocol::{map, private};

use super::instances::*;
use crate::{at, tell, values};

const MSR_TM: u64 = 1 << 32;
const MSR_VEC: u64 = 1 << 25;
const MSR_VSX: u64 = 1 << 23;
const MSR_EE: u64 = 1 << 15;
const MSR_PR: u64 = 1 << 14;
const MSR_FP: u64 = 1 << 13;
const MSR_PMM: u64 = 1 << 2;
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
pub(super) enum After {
	/// The next one.
	Next,
	/// The next one, with an hcall's code in r3.
	Hcall(Code),
	/// An interrupt: its vector, SRR0 and what its SRR1 has besides MSR.
	Interrupt { vector: u64, srr0: u64, bits: u64 },
}

/// A round that is about to be run.
pub(super) struct Round {
	pub(super) instance: &'static Instance,
	pub(super) after: After,
	/// Words that hold something else afterwards than what was filled.
	pub(super) changed: [(usize, u64); 3],
	pub(super) changes: usize,
	/// Two words of which the first has to be what was filled into the second.
	pub(super) copied: Option<(usize, usize)>,
	/// A word that may have any value.
	pub(super) any: Option<usize>,
	/// A word of memory that has to hold a value afterwards.
	pub(super) memory: Option<(u64, u64)>,
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
pub(super) struct Shadow {
	table: [u64; map::TCE_PAGES as usize],
	device: [u8; map::DEVICE_SIZE as usize],
}
const _: () = assert!(size_of::<Shadow>() as u64 <= map::RAM - map::ROUND_SHADOW);

pub(super) struct State {
	pub(super) pattern: Pattern,
	pub(super) translated: bool,
	pub(super) plan: RoundPlan,
	/// The next page of `map::TOUCH` that has no translation, if there is one left.
	pub(super) page: u64,
	pub(super) shadow: &'static mut Shadow,
}

impl State {
	fn below(&mut self, limit: u64) -> u64 {
		self.pattern.next() % limit
	}

	/// The way out of a round. The first rounds take each of the plan's ways once. Then each way is as
	/// likely, but those that need hundreds of hcalls.
	pub(super) fn kind(&mut self, number: u64) -> RoundKind {
		let rare = RoundKind::Ebb.bit() | RoundKind::Tm.bit();
		if self.plan.is_shared() {
			// Nor those that run with interrupts on, but for H_CEDE, which waits for one:
			// a decrementer of another's may come, late (QEMU's timers are threads).
			let enabled =
				RoundKind::Doorbell.bit() | RoundKind::Problem.bit() | RoundKind::Decrementer.bit();
			self.plan.kinds &= !(rare | enabled);
		}
		let planned = |kind: &RoundKind| self.plan.kinds & kind.bit() != 0;
		let mut each = RoundKind::ALL.into_iter().filter(planned);
		if let Some(kind) = usize::try_from(number).ok().and_then(|n| each.nth(n)) {
			return kind;
		}
		loop {
			let kind = RoundKind::ALL[self.below(RoundKind::ALL.len() as u64) as usize];
			let skip = rare & kind.bit() != 0 && self.below(16) != 0;
			let only_rare = self.plan.kinds & !rare == 0;
			if self.plan.kinds & kind.bit() != 0 && (!skip || only_rare) {
				return kind;
			}
		}
	}

	/// A value for every register.
	pub(super) fn words(&mut self, msr: u64) -> Words {
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
	pub(super) fn prepare(&mut self, kind: RoundKind, words: &mut Words) -> Round {
		match kind {
			RoundKind::Null => hcall(words, Number::NULL, &[], Code::SUCCESS),
			RoundKind::Prod => hcall(words, Number::PROD, &[u64::MAX], Code::PARAMETER),
			RoundKind::Unknown => hcall(words, private::UNKNOWN, &[], Code::FUNCTION),
			RoundKind::GetTce
			| RoundKind::PutTce
			| RoundKind::PutTceIndirect
			| RoundKind::StuffTce => self.prepare_tce(kind, words),
			RoundKind::Cede => {
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
			RoundKind::MmioLoad => self.prepare_load(words),
			RoundKind::MmioStore => self.prepare_store(words),
			RoundKind::TouchLoad => {
				let page = self.untouched();
				words[6] = page + 16;
				Round::new(&instance_ld).changes(5, content(page))
			}
			RoundKind::TouchStore => {
				words[6] = self.untouched() + 24;
				let mut round = Round::new(&instance_std);
				round.memory = Some((words[6], words[5]));
				round
			}
			RoundKind::TouchFetch => {
				// The page branches back.
				words[regs::CTR] = self.untouched();
				Round::new(&instance_branch).changes(regs::CFAR, words[regs::CTR])
			}
			RoundKind::Illegal => {
				let exit = instance_illegal.exit;
				Round::new(&instance_illegal).interrupted(PROGRAM, exit, PROGRAM_ILLEGAL)
			}
			RoundKind::Trap => {
				let exit = instance_trap.exit;
				Round::new(&instance_trap).interrupted(PROGRAM, exit, PROGRAM_TRAP)
			}
			RoundKind::Tir => Round::new(&instance_tir).changes(5, 0),
			RoundKind::Doorbell => {
				// A message of type 5 to thread 0.
				words[5] = 5 << 27;
				words[round::MSR] |= MSR_EE;
				let after = instance_doorbell.after;
				Round::new(&instance_doorbell).interrupted(DOORBELL, after, 0)
			}
			RoundKind::Ebb => {
				words[round::CALLS_BEFORE] = CALLS_BEFORE;
				Round::new(&instance_ebbrr).copies(5, regs::spr_index(805))
			}
			RoundKind::Tm => {
				words[round::CALLS_BEFORE] = CALLS_BEFORE;
				words[round::MSR] |= MSR_TM;
				Round::new(&instance_tfhar).copies(5, regs::spr_index(128))
			}
			RoundKind::Pmu => {
				const MMCR2: usize = round::PMU + 2;
				let mut round = Round::new(&instance_mmcr2);
				if self.plan.pmu != 0 {
					return round.copies(5, MMCR2);
				}
				// Not the guest's: zero from KVM, or an old value where KVM does not emulate.
				round.any = Some(5);
				round
			}
			RoundKind::Interrupt => Round::new(&instance_interrupt),
			RoundKind::Problem => {
				// rfid goes there.
				words[regs::SRR0] = instance_problem.exit + 4;
				words[regs::SRR1] = words[round::MSR] | MSR_PR | MSR_EE;
				words[round::MSR] &= !MSR_EE;
				let after = instance_problem.after;
				Round::new(&instance_problem).interrupted(SYSTEM_CALL, after, 0)
			}
			RoundKind::Decrementer => {
				words[round::MSR] |= MSR_EE;
				words[round::SET_DEC] = 20_000 + self.below(20_000);
				let exit = instance_spin.exit;
				Round::new(&instance_spin).interrupted(DECREMENTER, exit, 0)
			}
			RoundKind::ProdAwake => hcall(words, Number::PROD, &[0], Code::SUCCESS),
			RoundKind::Random => {
				let mut round = hcall(words, Number::RANDOM, &[], Code::SUCCESS);
				round.any = Some(4);
				round
			}
			RoundKind::Confer => {
				// SAFETY: KVM writes the field, and this only reads it.
				let count = unsafe { at::<u32>(map::VPA + map::VPA_YIELD_COUNT).read_volatile() };
				let args = [0, u32::from_be(count).into()];
				let mut round = hcall(words, Number::CONFER, &args, Code::SUCCESS);
				// The count differs from run to run.
				round.any = Some(5);
				round
			}
			RoundKind::PageInit => {
				// H_ZERO_PAGE (hvcall.h).
				const ZERO_PAGE: u64 = 1 << (63 - 48);
				let args = [ZERO_PAGE, map::PAGE_INIT];
				let mut round = hcall(words, Number::PAGE_INIT, &args, Code::SUCCESS);
				let word = self.within(map::PAGE_INIT) & !0xf000;
				// SAFETY: the page is for this only.
				unsafe { at::<u64>(word).write_volatile(word) };
				round.memory = Some((word, 0));
				round
			}
			RoundKind::EventCall => {
				let args = [4, map::MMIO_EVENT, words[6]];
				hcall(words, Number::LOGICAL_CI_STORE, &args, Code::SUCCESS)
			}
			RoundKind::EventStore => {
				words[6] = map::MMIO_EVENT_ANY;
				Round::new(match self.below(3) {
					0 => &instance_stb,
					1 => &instance_stw,
					_ => &instance_std,
				})
			}
			RoundKind::Missing => {
				words[6] = self.within(map::MISSING);
				data_storage(&instance_ld, words[6], NO_TRANSLATION)
			}
			RoundKind::MissingFetch => {
				let address = self.within(map::MISSING);
				words[regs::CTR] = address;
				Round::new(&instance_branch).interrupted(INST_STORAGE, address, NO_TRANSLATION)
			}
			RoundKind::ReadOnly => {
				words[6] = self.within(map::READ_ONLY);
				data_storage(&instance_std, words[6], STORE_NOT_ALLOWED)
			}
		}
	}

	/// An aligned address in a page.
	fn within(&mut self, page: u64) -> u64 {
		page + self.below(map::TOUCH_PAGE / 8) * 8
	}

	fn prepare_tce(&mut self, kind: RoundKind, words: &mut Words) -> Round {
		let mut tce = map::tce(self.below(512));
		if kind == RoundKind::StuffTce {
			// It is for taking permissions away only.
			tce &= !3;
		}
		let count = 1 + self.below(16);
		let index = self.below(map::TCE_PAGES - count);
		let (first, ioba) = (index as usize, index << map::TCE_SHIFT);
		let written = match kind {
			RoundKind::PutTce => 1,
			RoundKind::GetTce => 0,
			_ => count as usize,
		};
		let table = &mut self.shadow.table[first..];
		for (entry, place) in table[..written].iter_mut().enumerate() {
			*place = match kind {
				RoundKind::PutTceIndirect => map::tce(entry as u64),
				_ => tce,
			};
		}
		let (number, args) = match kind {
			RoundKind::GetTce => (Number::GET_TCE, [map::LIOBN, ioba, tce, count]),
			RoundKind::PutTce => (Number::PUT_TCE, [map::LIOBN, ioba, tce, count]),
			RoundKind::StuffTce => (Number::STUFF_TCE, [map::LIOBN, ioba, tce, count]),
			_ => (
				Number::PUT_TCE_INDIRECT,
				[map::LIOBN, ioba, map::TCE_LIST, count],
			),
		};
		let mut round = hcall(words, number, &args, Code::SUCCESS);
		if kind == RoundKind::GetTce {
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
pub(super) fn content(page: u64) -> u64 {
	page.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// An access that the guest gets a data storage interrupt for.
fn data_storage(instance: &'static Instance, address: u64, dsisr: u64) -> Round {
	Round::new(instance)
		.interrupted(DATA_STORAGE, instance.exit, 0)
		.changes(DAR, address)
		.changes(DSISR, dsisr)
}
