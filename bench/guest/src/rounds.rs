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

use hcall::Number;
use protocol::block::Mismatch;
use protocol::regs::Pattern;
use protocol::round::{self, RoundKind, RoundPlan, RoundReport, Words};
use protocol::{Command, Outcome, map};

use crate::{at, slb, translated};
use expected::{clocks, expected};
use instances::instance_branch;
use prepare::{After, Round, Shadow, State, content};

mod expected;
mod instances;
mod prepare;

/// Replaces an instruction; returns what it was.
///
/// # Safety
///
/// The code that runs next must expect the new instruction.
unsafe fn patch(address: u64, instruction: u32) -> u32 {
	let place = at::<u32>(address);
	// SAFETY: the payload's own text, which it may write. The caller expects the new instruction.
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
	let plan = unsafe { ptr::read_volatile(at::<RoundPlan>(map::ROUND_PLAN)) };
	// SAFETY: only the VMM uses this memory, too, and only while the guest is not running. Zero
	// is valid. `set_up_pages` and these are the first accesses of the job.
	let (report, shadow) = unsafe {
		let report = at::<RoundReport>(map::ROUND_REPORT);
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
	let touches =
		RoundKind::TouchLoad.bit() | RoundKind::TouchStore.bit() | RoundKind::TouchFetch.bit();
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
		let kind = state.kind(number);
		let mut words = state.words(own_msr);
		let round = state.prepare(kind, &mut words);
		let mut slb = None;
		if plan.slb != 0 {
			let entries = slb::random(&mut state.pattern, state.translated);
			// SAFETY: entries of that function.
			unsafe { slb::load(&entries) };
			slb = Some(entries);
		}
		let (filled, mut got) = run_round(&round, &words, state.translated);
		let slb = slb.map(|written| (written, slb::read()));
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
			if round.any == Some(word) {
				continue;
			}
			report.digest = (report.digest ^ got[word])
				.wrapping_mul(0x9e37_79b9_7f4a_7c15)
				.rotate_left(23);
		}
		for (clock, expected) in late.into_iter().flatten() {
			wrong(clock, expected, got[clock]);
		}
		if let Some((written, found)) = slb {
			for (index, (written, found)) in written.into_iter().zip(found).enumerate() {
				if !written.is_kept_in(found) {
					let (expected, got) = match written.esid == found.esid {
						true => (written.vsid, found.vsid),
						false => (written.esid, found.esid),
					};
					wrong(round::SLB + index, expected, got);
				}
			}
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
	// SAFETY: a byte of the VPA that the guest may write.
	unsafe { at::<u8>(map::VPA + map::VPA_PMCREGS_IN_USE).write_volatile(0) };
}
