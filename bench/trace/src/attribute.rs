// SPDX-License-Identifier: GPL-2.0-only
//! Whose instructions a round trip consists of, what they are, and in which phase.
//!
//! The phases hold for every path, the C code's and Rust's, Linux 5.10's too:
//!
//! | phase | from | to |
//! |---|---|---|
//! | guest | the loop | its `sc 1`, or another instruction that leaves the guest |
//! | vector | the interrupt vector | the code that saves the guest's GPRs |
//! | trampoline in | [`EXIT`], or any assembly of ours | the first instruction of C or Rust |
//! | handler | what that assembly *calls*: a fast or real-mode handler; on the full path [`HANDLER`] | its return |
//! | exit switch | what that assembly *returns* to | the return of the function that switches |
//! | host, out | there | the handler, or userspace |
//! | userspace | the VMM's own instructions | |
//! | host, in | after handler or userspace | the call of the function that switches, [`SWITCH`] |
//! | entry switch | there | the assembly that enters the guest, [`ENTER`] |
//! | trampoline out | there, or a fast handler's return | the guest |
//!
//! An exit without handler and userspace is "host, out" until the switch begins. Where
//! the compiler has put the switching function into its caller, as in 5.10, the calls of
//! [`INLINED`] stand for its bounds: they are its first and its last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use protocol::map;

use crate::insn::{self, Op};
use crate::round::{Round, TracedInsn};
use crate::symbols::{LINEAR, Origin, Symbols};

/// Assembly that an exit from a guest comes to after the vector.
const EXIT: [&str; 3] = [
	"kvmppc_p9_exit_hcall",
	"kvmppc_p9_exit_interrupt",
	"kvmppc_interrupt_hv",
];
/// Assembly that leaves a fast path for the full one.
const TOO_HARD: [&str; 2] = ["kvm_p9_exit_interrupt", "guest_exit_cont"];
/// Assembly that returns to the guest from a real-mode handler.
const FAST_RETURN: &str = "fast_guest_return";
/// Assembly that enters the guest.
const ENTER: [&str; 3] = [
	"kvm_p9_run_guest_site",
	"kvmppc_p9_enter_guest",
	"__kvmhv_vcpu_entry_p9",
];
/// Functions that switch to the guest's state and back.
const SWITCH: [&str; 4] = [
	"kvm_p9_vcpu_entry",
	"kvmhv_vcpu_entry_p9",
	"kvmhv_p9_guest_entry",
	"kvmhv_load_hv_regs_and_go",
];
/// What a switching function calls first and last, where it has no symbol.
const INLINED: (&str, &str) = ("kvmppc_subcore_enter_guest", "kvmppc_subcore_exit_guest");
/// What answers hcalls on the full path.
const HANDLER: &str = "kvmppc_pseries_do_hcall";

/// Real addresses of the firmware, which the kernel calls now and then.
pub const FIRMWARE: std::ops::Range<u64> = 0x3000_0000..0x3400_0000;

/// A part of a round trip.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[expect(missing_docs, reason = "said in the module's documentation")]
pub enum Phase {
	Guest,
	Vector,
	TrampolineIn,
	Handler,
	ExitSwitch,
	HostOut,
	Userspace,
	HostIn,
	EntrySwitch,
	TrampolineOut,
}

impl fmt::Display for Phase {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(match self {
			Self::Guest => "guest",
			Self::Vector => "vector",
			Self::TrampolineIn => "trampoline in",
			Self::Handler => "handler",
			Self::ExitSwitch => "exit switch",
			Self::HostOut => "host, out",
			Self::Userspace => "userspace",
			Self::HostIn => "host, in",
			Self::EntrySwitch => "entry switch",
			Self::TrampolineOut => "trampoline out",
		})
	}
}

/// An instruction, and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Labelled<'a> {
	/// What it is.
	pub op: Op,
	/// Whether the next one executed is not the next one in memory.
	pub jumps: bool,
	/// Whose it is.
	pub kind: Origin,
	/// Of which function.
	pub function: &'a str,
	/// When.
	pub phase: Phase,
}

/// Whose an instruction is.
fn owner<'a>(step: &TracedInsn, symbols: &'a Symbols) -> (Origin, &'a str, bool) {
	// Real addresses find the kernel's code with the MMU on and off.
	if step.real < 1 << 60
		&& let Some(function) = symbols.at(LINEAR + step.real)
	{
		// The local entry point comes after two instructions that find the TOC.
		let first = matches!(LINEAR + step.real - function.start, 0 | 8);
		return (function.kind, &function.name, first);
	}
	if step.address == step.real && FIRMWARE.contains(&step.real) {
		return (Origin::Asm, "firmware (OPAL)", false);
	}
	// The guest's effective addresses are its real ones; its vectors are also at
	// quadrant 3's beginning.
	if step.address & !(0xf << 60) < map::RAM {
		return (Origin::Guest, "guest", false);
	}
	(Origin::User, "VMM", false)
}

/// Says of each instruction whose and what it is.
pub fn label<'a>(round: &Round, symbols: &'a Symbols) -> Vec<Labelled<'a>> {
	let steps = &round.steps;
	let owners: Vec<_> = steps.iter().map(|step| owner(step, symbols)).collect();

	// Where the switching function returns to: after the call of it that is in this
	// round. The exit belongs to the call of the round before, from the same place.
	let mut outermost = None;
	let mut returns = BTreeSet::new();
	for index in 1..steps.len() {
		let (kind, name, first) = owners[index];
		let entered = first && owners[index - 1].1 != name;
		if entered && kind != Origin::Guest && outermost.is_none() && SWITCH.contains(&name) {
			outermost = Some(index);
			returns.insert(steps[index - 1].address + 4);
		}
		if ENTER.contains(&name) {
			outermost = None;
		}
	}

	let inlined = !SWITCH.iter().any(|name| symbols.has(name));
	// All that the host does before the return from userspace belongs to the exit.
	let mut to_userspace = vec![false; steps.len()];
	let mut later = false;
	for (index, &(kind, _, _)) in owners.iter().enumerate().rev() {
		later = match kind {
			Origin::User => true,
			Origin::Guest => false,
			_ => later,
		};
		to_userspace[index] = later;
	}
	let mut phase = Phase::Guest;
	let mut handler_returns = None;
	let mut handled = false;
	let mut labelled = Vec::with_capacity(steps.len());
	for (index, step) in steps.iter().enumerate() {
		let (kind, name, first) = owners[index];
		let before = index.checked_sub(1).map(|index| &steps[index]);
		let entered = first && index > 0 && owners[index - 1].1 != name;
		let called = before.is_some_and(|before| {
			matches!(insn::decode(before.word), Op::Branch { link: true, .. })
				&& before.address + 4 != step.address
		});
		if inlined && entered && name == INLINED.1 {
			returns.extend(before.map(|before| before.address + 4));
		}
		let switches = |name| SWITCH.contains(&name) || inlined && name == INLINED.0;
		let host = if handled && !to_userspace[index] {
			Phase::HostIn
		} else {
			Phase::HostOut
		};
		phase = match (phase, kind) {
			(_, Origin::Guest) => {
				handled = false;
				Phase::Guest
			}
			(Phase::Guest, Origin::Trampoline) => Phase::TrampolineIn,
			(Phase::Guest, _) => Phase::Vector,
			(Phase::Vector, Origin::Trampoline) => Phase::TrampolineIn,
			(Phase::Vector, Origin::Asm) if EXIT.contains(&name) => Phase::TrampolineIn,
			(Phase::Vector, Origin::Asm) => Phase::Vector,
			// An interrupt for the host.
			(Phase::Vector, _) => host,
			(Phase::TrampolineIn, Origin::Rust | Origin::C) if called => {
				handler_returns = before.map(|before| before.address + 4);
				Phase::Handler
			}
			(Phase::TrampolineIn | Phase::TrampolineOut, Origin::Rust | Origin::C) => {
				Phase::ExitSwitch
			}
			(Phase::TrampolineIn, _) if name == FAST_RETURN => Phase::TrampolineOut,
			(Phase::TrampolineOut, _) if TOO_HARD.contains(&name) => Phase::TrampolineIn,
			(Phase::Handler, _) if handler_returns == Some(step.address) => {
				handler_returns = None;
				if kind == Origin::C {
					handled = true;
					if !to_userspace[index] {
						Phase::HostIn
					} else {
						Phase::HostOut
					}
				} else {
					Phase::TrampolineOut
				}
			}
			(Phase::ExitSwitch | Phase::EntrySwitch, _) if ENTER.contains(&name) => {
				Phase::TrampolineOut
			}
			(Phase::ExitSwitch | Phase::EntrySwitch, _) if returns.contains(&step.address) => host,
			(Phase::HostOut | Phase::HostIn, Origin::User) => {
				handled = true;
				Phase::Userspace
			}
			(Phase::Userspace, Origin::User) => Phase::Userspace,
			(Phase::HostOut | Phase::HostIn | Phase::Userspace, _) if entered && switches(name) => {
				Phase::EntrySwitch
			}
			(Phase::HostOut | Phase::HostIn, _) if entered && name == HANDLER => {
				handler_returns = before.map(|before| before.address + 4);
				Phase::Handler
			}
			(Phase::Userspace, _) => host,
			(phase, _) => phase,
		};
		let next = steps.get(index + 1).or(steps.first());
		labelled.push(Labelled {
			op: insn::decode(step.word),
			jumps: next.is_some_and(|next| next.address != step.address + 4),
			kind,
			function: name,
			phase,
		});
	}
	labelled
}

/// Operations by their names.
pub fn count(steps: &[Labelled<'_>]) -> BTreeMap<String, f64> {
	let mut counts: BTreeMap<String, f64> = BTreeMap::new();
	for step in steps {
		if let Some((kind, own)) = step.op.names() {
			*counts.entry(kind.to_owned()).or_default() += 1.0;
			if let Some(own) = own {
				*counts.entry(own).or_default() += 1.0;
			}
		}
		if step.jumps && matches!(step.op, Op::Branch { .. }) {
			*counts.entry("taken branch".to_owned()).or_default() += 1.0;
		}
	}
	counts
}

/// A function's part in a phase.
#[derive(Clone, PartialEq, Debug)]
pub struct Share {
	/// Its name.
	pub name: String,
	/// In what it is written.
	pub kind: Origin,
	/// Its instructions.
	pub instructions: u64,
}

/// One phase of a round trip.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
	/// Which.
	pub phase: Phase,
	/// Its instructions.
	pub instructions: u64,
	/// Whose they are, the most first.
	pub functions: Vec<Share>,
}

/// Sums up by phase, in the order of their first instructions.
pub fn phases(steps: &[Labelled<'_>]) -> Vec<Part> {
	let mut order = Vec::new();
	let mut shares: BTreeMap<Phase, BTreeMap<(&str, Origin), u64>> = BTreeMap::new();
	for step in steps {
		if !order.contains(&step.phase) {
			order.push(step.phase);
		}
		*shares
			.entry(step.phase)
			.or_default()
			.entry((step.function, step.kind))
			.or_default() += 1;
	}
	order
		.into_iter()
		.map(|phase| {
			let mut functions: Vec<Share> = shares[&phase]
				.iter()
				.map(|(&(name, kind), &instructions)| Share {
					name: name.to_owned(),
					kind,
					instructions,
				})
				.collect();
			functions.sort_by_key(|share| std::cmp::Reverse(share.instructions));
			Part {
				phase,
				instructions: functions.iter().map(|share| share.instructions).sum(),
				functions,
			}
		})
		.collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	const NOP: u32 = 0x6000_0000;
	const SC: u32 = 0x4400_0022;
	const BL: u32 = 0x4800_0001;
	const BLR: u32 = 0x4e80_0020;
	const HRFID: u32 = 0x4c00_0224;
	const MTLPCR: u32 = 31 << 26 | (318 & 31) << 16 | (318 >> 5) << 11 | 467 << 1;

	const VECTOR: u64 = 0x4c00;
	const OUR_EXIT: u64 = 0x6000;
	const OUR_ENTER: u64 = 0x6100;
	const RUST_HANDLER: u64 = 0x6200;
	const RUST_SWITCH: u64 = 0x6300;
	const SEAM: u64 = 0x6400;
	const RUN: u64 = 0x7000;
	const HCALL: u64 = 0x7100;
	const SYSCALL: u64 = 0x7200;
	const USER: u64 = 0x1000_0000;
	const GUEST: u64 = 0x1_0000;

	fn symbols() -> Symbols {
		let at = |real: u64| LINEAR + real;
		Symbols::of(
			&[
				(at(VECTOR), "exc_virt_0x4c00_system_call", Origin::Asm),
				(at(OUR_EXIT), "kvm_p9_exit_hcall", Origin::Trampoline),
				(at(OUR_ENTER), "kvm_p9_run_guest_site", Origin::Trampoline),
				(at(RUST_HANDLER), "entry::handlers::null", Origin::Rust),
				(at(RUST_SWITCH), "entry::switch", Origin::Rust),
				(at(SEAM), "kvm_p9_vcpu_entry", Origin::Trampoline),
				(at(RUN), "kvmhv_run_single_vcpu", Origin::C),
				(at(HCALL), "kvmppc_pseries_do_hcall", Origin::C),
				(at(SYSCALL), "system_call_exception", Origin::C),
			],
			LINEAR + 0x8000,
		)
	}

	/// Kernel addresses are given as real ones.
	fn round(steps: &[(u64, u32)]) -> Round {
		Round {
			steps: steps
				.iter()
				.map(|&(at, word)| match at {
					USER.. => TracedInsn {
						address: at,
						real: 0x5000_0000 + at,
						word,
						state: 0,
					},
					GUEST.. => TracedInsn {
						address: at,
						real: 0x4000_0000 + at,
						word,
						state: 0,
					},
					_ => TracedInsn {
						address: LINEAR + at,
						real: at,
						word,
						state: 0,
					},
				})
				.collect(),
			trips: 1,
			same: 1,
			of: 1,
		}
	}

	fn phases_of(steps: &[(u64, u32)]) -> Vec<(Phase, u64)> {
		let symbols = symbols();
		phases(&label(&round(steps), &symbols))
			.into_iter()
			.map(|part| (part.phase, part.instructions))
			.collect()
	}

	#[test]
	fn a_fast_round_trip() {
		let steps = [
			(GUEST, NOP),
			(GUEST + 4, SC),
			(VECTOR, NOP),
			(OUR_EXIT, NOP),
			(OUR_EXIT + 4, BL),
			(RUST_HANDLER, NOP),
			(RUST_HANDLER + 4, BLR),
			(OUR_EXIT + 8, NOP),
			(OUR_EXIT + 12, HRFID),
		];
		assert_eq!(
			phases_of(&steps),
			[
				(Phase::Guest, 2),
				(Phase::Vector, 1),
				(Phase::TrampolineIn, 2),
				(Phase::Handler, 2),
				(Phase::TrampolineOut, 2),
			]
		);
	}

	fn full() -> Vec<(u64, u32)> {
		vec![
			(GUEST + 4, SC),
			(VECTOR, NOP),
			(OUR_EXIT, BLR),
			(RUST_SWITCH, MTLPCR),
			(RUST_SWITCH + 4, BLR),
			// The call below is at RUN + 0x20.
			(RUN + 0x24, NOP),
			(RUN + 0x28, BL),
			(HCALL, NOP),
			(HCALL + 4, BLR),
			(RUN + 0x2c, NOP),
			(RUN + 0x20, BL),
			(SEAM, NOP),
			(RUST_SWITCH, NOP),
			(RUST_SWITCH + 8, BL),
			(OUR_ENTER, HRFID),
		]
	}

	#[test]
	fn a_full_round_trip() {
		assert_eq!(
			phases_of(&full()),
			[
				(Phase::Guest, 1),
				(Phase::Vector, 1),
				(Phase::TrampolineIn, 1),
				(Phase::ExitSwitch, 2),
				(Phase::HostOut, 2),
				(Phase::Handler, 2),
				(Phase::HostIn, 2),
				(Phase::EntrySwitch, 3),
				(Phase::TrampolineOut, 1),
			]
		);
	}

	#[test]
	fn a_round_trip_to_userspace() {
		let mut steps = full();
		// After the handler's return, at RUN + 0x2c.
		steps.splice(
			10..10,
			[
				(SYSCALL, HRFID),
				(USER, NOP),
				(USER + 4, 0x4400_0002),
				(SYSCALL, NOP),
			],
		);
		assert_eq!(
			phases_of(&steps)[4..9],
			[
				(Phase::HostOut, 4),
				(Phase::Handler, 2),
				(Phase::Userspace, 2),
				(Phase::HostIn, 2),
				(Phase::EntrySwitch, 3),
			]
		);
	}

	#[test]
	fn a_switch_that_has_no_symbol() {
		let at = |real: u64| LINEAR + real;
		let symbols = Symbols::of(
			&[
				(at(VECTOR), "exc_virt_0x4c00_system_call", Origin::Asm),
				(at(OUR_EXIT), "kvmppc_interrupt_hv", Origin::Asm),
				(at(OUR_ENTER), "__kvmhv_vcpu_entry_p9", Origin::Asm),
				(at(RUST_HANDLER), INLINED.0, Origin::C),
				(at(RUST_SWITCH), INLINED.1, Origin::C),
				(at(RUN), "kvmhv_run_single_vcpu", Origin::C),
			],
			LINEAR + 0x8000,
		);
		let steps = [
			(GUEST, SC),
			(VECTOR, NOP),
			(OUR_EXIT, BLR),
			(RUN + 0x80, MTLPCR),
			(RUN + 0x84, BL),
			(RUST_SWITCH, BLR),
			(RUN + 0x88, NOP),
			(RUN + 0x8c, NOP),
			(RUN + 0x40, BL),
			(RUST_HANDLER, BLR),
			(RUN + 0x44, MTLPCR),
			(OUR_ENTER, HRFID),
		];
		let round = round(&steps);
		let phases: Vec<_> = phases(&label(&round, &symbols))
			.into_iter()
			.map(|part| (part.phase, part.instructions))
			.collect();
		assert_eq!(
			phases,
			[
				(Phase::Guest, 1),
				(Phase::Vector, 1),
				(Phase::TrampolineIn, 1),
				(Phase::ExitSwitch, 3),
				(Phase::HostOut, 3),
				(Phase::EntrySwitch, 2),
				(Phase::TrampolineOut, 1),
			]
		);
	}

	#[test]
	fn a_fast_handler_that_gives_up() {
		let steps = [
			(GUEST, SC),
			(VECTOR, NOP),
			(OUR_EXIT, BL),
			(RUST_HANDLER, BLR),
			(OUR_EXIT + 4, NOP),
			(OUR_EXIT + 8, BLR),
			(RUST_SWITCH, MTLPCR),
			(OUR_ENTER, HRFID),
		];
		assert_eq!(
			phases_of(&steps),
			[
				(Phase::Guest, 1),
				(Phase::Vector, 1),
				(Phase::TrampolineIn, 1),
				(Phase::Handler, 1),
				(Phase::TrampolineOut, 3),
				(Phase::ExitSwitch, 1),
			]
		);
	}

	#[test]
	fn nothing_is_lost_and_everything_counted() {
		let symbols = symbols();
		let round = round(&full());
		let labelled = label(&round, &symbols);
		let total: u64 = phases(&labelled).iter().map(|part| part.instructions).sum();
		assert_eq!(total, round.steps.len() as u64);
		let counts = count(&labelled);
		assert_eq!(counts["mtspr"], 1.0);
		assert_eq!(counts["mtspr:LPCR"], 1.0);
		assert_eq!(counts["hrfid"], 1.0);
		// Three returns and three calls; the round ends where it began.
		assert_eq!(counts["taken branch"], 6.0);
	}
}
