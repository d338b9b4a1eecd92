// SPDX-License-Identifier: GPL-2.0-only
//! What all registers must hold after a round.

use protocol::round::{self, RoundPlan, RoundReport, Words};
use protocol::{Command, regs};

use super::instances::{instance_cede, instance_problem};
use super::prepare::{After, Round};
use crate::{SRR1_STATUS, hcall_cr};

const MSR_SF: u64 = 1 << 63;
const MSR_ME: u64 = 1 << 12;
const MSR_IR_DR: u64 = 0x30;
const MSR_LE: u64 = 1;

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

/// What all registers must hold after a round.
pub(super) fn expected(
	round: &Round,
	command: &Command,
	filled: &Words,
	translated: bool,
) -> Words {
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
pub(super) fn clocks(
	plan: &RoundPlan,
	filled: &Words,
	got: &Words,
	report: &mut RoundReport,
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
