// SPDX-License-Identifier: GPL-2.0-only
//! Whose registers KVM_RUN returns with.
//!
//! A system call may lose the volatile registers, and Linux then clears them: so these may
//! be zero, too, but not what a guest had. Which registers there are: see
//! [`vmm::user_regs`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cases::case;
use protocol::regs::Pattern;
use protocol::round::{RoundKind, RoundPlan};
use protocol::{Column, GuestMode};
use vmm::kvm::VectorRegs;
use vmm::machine::{Failure, Stop};
use vmm::timer::Timer;
use vmm::user_regs::{self, UserRegs};

use crate::common::{Verdict, choose, wrong};
use crate::cpus::OneCpu;
use crate::registers::arena::{self, Arena};
use crate::storms;

/// Groups of registers, by what becomes of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Class {
	/// Non-volatile GPRs, LR, CR2 to CR4.
	Integer,
	/// Volatile GPRs, CTR, XER, the rest of CR.
	Volatile,
	/// FP, VMX and VSX registers.
	Vectors,
	/// FPSCR, VSCR.
	VectorStatus,
	/// VRSAVE.
	Vrsave,
	/// TAR.
	Tar,
	/// DSCR.
	Dscr,
	/// SPRG3.
	Sprg3,
	/// AMR.
	Amr,
}

impl fmt::Display for Class {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(match self {
			Self::Integer => "GPRs, LR or CR",
			Self::Volatile => "volatile GPRs, CTR or XER",
			Self::Vectors => "FP, VMX or VSX",
			Self::VectorStatus => "FPSCR or VSCR",
			Self::Vrsave => "VRSAVE",
			Self::Tar => "TAR",
			Self::Dscr => "DSCR",
			Self::Sprg3 => "SPRG3",
			Self::Amr => "AMR",
		})
	}
}

/// Which registers are not what they were, if `after` was found where
/// `before` was filled in.
fn lost(after: &UserRegs, before: &UserRegs) -> Vec<Class> {
	const CR_VOLATILE: u64 = 0xff00_0fff;
	let own_or_zero = |now: u64, then: u64| now == then || now == 0;
	let volatile = (6..=12).all(|n| own_or_zero(after.gpr[n], before.gpr[n]))
		&& own_or_zero(after.ctr, before.ctr)
		&& own_or_zero(after.xer, before.xer)
		// CR0 says whether there was an error.
		&& own_or_zero(
			after.cr & CR_VOLATILE & 0x0fff_ffff,
			before.cr & CR_VOLATILE & 0x0fff_ffff,
		);
	let integer = (14..32).all(|n| after.gpr[n] == before.gpr[n])
		&& after.lr == before.lr
		&& after.cr & !CR_VOLATILE == before.cr & !CR_VOLATILE;
	[
		(integer, Class::Integer),
		(volatile, Class::Volatile),
		(after.vsr == before.vsr, Class::Vectors),
		(
			after.fpscr == before.fpscr && after.vscr == before.vscr,
			Class::VectorStatus,
		),
		(after.vrsave == before.vrsave, Class::Vrsave),
		(after.tar == before.tar, Class::Tar),
		(after.dscr == before.dscr, Class::Dscr),
		(after.sprg3 == before.sprg3, Class::Sprg3),
		(after.amr == before.amr, Class::Amr),
	]
	.into_iter()
	.filter_map(|(kept, class)| (!kept).then_some(class))
	.collect()
}

/// What the C path is known to lose (docs/differences-from-c.md).
const LOST_BY_C: [Class; 2] = [Class::Vectors, Class::VectorStatus];

/// KVM_RUN, again and again, of a guest that changes every register, with values of our
/// own in all registers: which come back? Beside another thread that wants the CPU, too.
pub fn kept(guest: GuestMode, path: Column, busy: bool, seed: u64) -> Result<String, Failure> {
	let runs_wanted = if busy { 24 } else { 200 };
	choose(path)?;
	let _one_cpu = OneCpu::new(0)?;
	let mut arena = Arena::new(guest)?;
	// What isn't checked here may be off; the guest's timer is then late.
	let plan = RoundPlan {
		kinds: arena::kinds(guest) & !RoundKind::Decrementer.bit(),
		pmu: 0,
		dec_tolerance: u64::MAX >> 8,
		dec_slip: 0,
		longest: u64::MAX >> 8,
		table_is_ours: 1,
		..RoundPlan::default()
	};
	// H_PROD's CFAR isn't known here, so the guest's own complaints are of no interest.
	arena.start(arena::command(u64::MAX, seed, 0), plan);
	let stop = AtomicBool::new(false);
	let mut pattern = Pattern::new(seed);
	let result = std::thread::scope(|scope| {
		if busy {
			scope.spawn(|| {
				while !stop.load(Ordering::Relaxed) {
					std::hint::spin_loop();
				}
			});
		}
		let result = (|| {
			let interval = Duration::from_millis(if busy { 12 } else { 2 });
			let _timer = Timer::every(interval, interval)?;
			let mut losses: BTreeMap<Class, u64> = BTreeMap::new();
			let (mut runs, mut left) = (0, runs_wanted);
			while left > 0 {
				let mut before = UserRegs::filled(|| pattern.next());
				(before.sprg3, before.amr) = user_regs::read_only();
				let (step, after) = arena.machine.step_with_user_regs(&mut before)?;
				// Beside a busy thread, what matters is runs that lasted until a signal.
				if !busy || matches!(step, Stop::Interrupted) {
					left -= 1;
				}
				runs += 1;
				for class in lost(&after, &before) {
					*losses.entry(class).or_default() += 1;
				}
				if arena.serve(step)?.is_some() {
					return Err(Failure::Wrong("the rounds ended by themselves".into()));
				}
				if busy && runs > 2000 * runs_wanted {
					return Err(Failure::Wrong("no signal ended a run".into()));
				}
			}
			Ok((runs, losses))
		})();
		stop.store(true, Ordering::Relaxed);
		result
	});
	let (runs, lost) = result?;
	let list: Vec<String> = lost
		.iter()
		.map(|(class, times)| format!("{class} {times} times"))
		.collect();
	let list = list.join(", ");
	let known = path == Column::C && lost.keys().all(|class| LOST_BY_C.contains(class));
	match (lost.is_empty(), known) {
		(true, _) if path == Column::C && busy => Err(Failure::Wrong(format!(
			"the C path's known bug did not show in {runs} runs"
		))),
		(true, _) => Ok(format!("unchanged after {runs} runs")),
		(false, true) => Ok(format!(
			"the C path's known bug: of {runs} runs, lost {list}"
		)),
		(false, false) => Err(Failure::Wrong(format!("of {runs} runs, lost {list}"))),
	}
}

/// Whose FP, VMX and VSX registers KVM_RUN returns with, while another thread wants
/// the CPU.
///
/// Linux's C path returns with the guest's once the thread has been scheduled out inside
/// KVM_RUN. That this test finds it there shows that it would find it on the Rust path.
pub fn fp(guest: GuestMode, path: Column, seed: u64, runs: u64) -> Verdict {
	const INTERVAL: Duration = Duration::from_millis(15);
	choose(path)?;
	let _one_cpu = OneCpu::new(0)?;
	let mut machine = storms::start(guest, case!("h_prod"))?;
	let stop = AtomicBool::new(false);
	let wrong_runs = std::thread::scope(|scope| {
		scope.spawn(|| {
			while !stop.load(Ordering::Relaxed) {
				std::hint::spin_loop();
			}
		});
		let result = (|| {
			let _timer = Timer::every(INTERVAL, INTERVAL)?;
			let mut wrong_runs = 0;
			let mut pattern = Pattern::new(seed);
			for _ in 0..runs {
				let before = VectorRegs(std::array::from_fn(|_| {
					u128::from(pattern.next()) << 64 | u128::from(pattern.next())
				}));
				let (interrupted, after) = machine.step_with(&before)?;
				if !interrupted {
					return wrong("the storm ended too early".into());
				}
				wrong_runs += u64::from(after != before);
			}
			Ok(wrong_runs)
		})();
		stop.store(true, Ordering::Relaxed);
		result
	})?;
	match (path, wrong_runs) {
		(Column::C, 0) => wrong(format!(
			"the C path's known bug did not show in {runs} runs"
		)),
		(Column::C, _) => Ok(format!(
			"the C path's known bug: wrong after {wrong_runs} of {runs} runs"
		)),
		(_, 0) => Ok(format!("unchanged after {runs} runs")),
		_ => wrong(format!(
			"not the caller's after {wrong_runs} of {runs} runs"
		)),
	}
}
