// SPDX-License-Identifier: GPL-2.0-only
//! The counter of cycles, for spans of time that are measured.
//!
//! PMC6 counts cycles, if it is not frozen. The guest or perf may use the PMU, and both announce
//! that. A guest sets a flag in its VPA; while the flag is clear, the guest runs with
//! HFSCR\[PM\] clear and can neither see nor change the PMU. The host sets a flag in the PACA.
//! While the PMU is not used, it is frozen, and KVM does not switch it. Then, and only while
//! times are on, a vcpu starts counters 5 and 6 ([`Mmcr0::COUNTING`]). No condition or event is
//! enabled, so no interrupt can follow, and no other counter moves.
//!
//! # How long
//!
//! The counter continues in the host's part of KVM_RUN, so that all of a full exit is
//! counted. `kvm_p9_sched_out()` in the glue stops the counter when KVM_RUN returns, and when
//! the thread is scheduled out. So the counter runs in no other task, on no idle CPU, and for
//! no other vcpu. The glue also stops the counter, on all CPUs, when times are turned off. Then
//! the counter is cleared, and MMCR0 is \[FC\], as KVM and perf leave it.
//!
//! # Other users of the PMU
//!
//! - perf may take the PMU by an interrupt in the host's part. perf writes MMCR0 with \[FC\]
//!   before it sets up a counter, and then writes all registers that it depends on. perf freezes
//!   counters that it does not use, and its interrupt clears an idle counter that has
//!   overflowed. perf has conditions enabled while it has events, and leaves \[FC\] set
//!   afterwards. So MMCR0 never has the value [`Mmcr0::COUNTING`] again after perf.
//! - the guest may announce at any time that it uses the PMU. KVM loads the guest's registers
//!   at the next entry. But if the guest announced that while it ran, KVM saves our values as
//!   the guest's; the glue corrects that at each exit (`kvm_p9_scrub_guest_pmc()`).
//!
//! So MMCR0, with the CPU that the vcpu remembers, tells whether the counter has continued: see
//! [`enter`].

use powerpc::{Cpu, Cycles, Mmcr0, Spr, Stats};

use crate::switch::hfscr;
use crate::views::{PacaView, VcpuView};

/// Whether neither the guest nor the host uses the PMU, on entry. Call this after
/// `switch_pmu_to_guest()`, which tests the same flags, and sets HFSCR\[PM\] if it loads the
/// guest's PMU.
pub fn nobody_has_the_pmu(vcpu: VcpuView, paca: PacaView) -> bool {
	let guest_says_so = vcpu.vpa().is_some_and(|vpa| vpa.pmcregs_in_use() == 0);
	guest_says_so && vcpu.hfscr() & hfscr::PM == 0 && paca.pmcregs_in_use() == 0
}

/// Before the guest runs on `cpu_number`: start the counter if it is `wanted`. `wanted` may be
/// set only while the PMU is not used.
#[inline]
pub fn enter<C: Cpu>(cpu: &mut C, stats: &Stats, cpu_number: u16, wanted: bool) -> Counter {
	let here = u64::from(cpu_number) + 1;
	let ours = stats.counter.get();
	if !wanted && ours == 0 {
		return Counter::Foreign;
	}
	let mmcr0 = Mmcr0::from_bits_retain(cpu.mfspr::<{ Spr::MMCR0.0 }>());
	if mmcr0 == Mmcr0::COUNTING && ours == here {
		// If it is no longer wanted it may be about to be saved as the guest's.
		return if wanted {
			Counter::Continues
		} else {
			Counter::Foreign
		};
	}
	stats.counter.set(0);
	if !wanted || !mmcr0.contains(Mmcr0::FC) {
		return Counter::Foreign;
	}
	// SAFETY: the PMU is frozen and not used. The last user may have left an MMCR2 with which
	// PMC6 does not count in some state; the next user writes its own value.
	unsafe {
		cpu.mtspr::<{ Spr::MMCR2.0 }>(0);
		cpu.mtspr::<{ Spr::MMCR0.0 }>(Mmcr0::COUNTING.bits());
	}
	stats.counter.set(here);
	Counter::Begins
}

/// What [`enter`] found, or did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counter {
	/// The counter is not ours.
	Foreign,
	/// The counter begins to count now.
	Begins,
	/// The counter has counted since the last exit of the vcpu.
	Continues,
}

impl Counter {
	/// Reads it.
	#[inline]
	pub fn read<C: Cpu>(self, cpu: &mut C) -> Cycles {
		match self {
			Self::Foreign => Cycles::Unknown,
			Self::Begins => Cycles::Begun(read(cpu)),
			Self::Continues => Cycles::Continued(read(cpu)),
		}
	}
}

/// PMC6, which may belong to another user.
#[inline]
pub fn read<C: Cpu>(cpu: &mut C) -> u32 {
	cpu.mfspr::<{ Spr::PMC6.0 }>() as u32
}

#[cfg(test)]
mod tests {
	use std::ptr::NonNull;

	use super::*;
	use crate::views::VpaView;

	const HERE: u16 = 3;
	const FROZEN: u64 = Mmcr0::FC.bits();

	/// A PMU, and what was written to it.
	struct Pmu {
		mmcr0: u64,
		mmcr2: u64,
		pmc6: u64,
		writes: Vec<(Spr, u64)>,
		reads: Vec<Spr>,
	}

	impl Pmu {
		fn new(mmcr0: u64) -> Self {
			Self {
				mmcr0,
				mmcr2: !0,
				pmc6: 0xffff_ffff_0000_0005,
				writes: Vec::new(),
				reads: Vec::new(),
			}
		}

		/// As the glue does when the thread leaves the CPU.
		fn sched_out(&mut self, stats: &Stats) {
			if self.mmcr0 == Mmcr0::COUNTING.bits() {
				self.mmcr0 = FROZEN;
				self.pmc6 = 0;
			}
			stats.counter.set(0);
		}
	}

	impl Cpu for Pmu {
		fn mfspr<const N: u16>(&mut self) -> u64 {
			self.reads.push(Spr(N));
			match Spr(N) {
				Spr::MMCR0 => self.mmcr0,
				Spr::PMC6 => self.pmc6,
				other => panic!("{other:?} is read"),
			}
		}

		unsafe fn mtspr<const N: u16>(&mut self, value: u64) {
			self.writes.push((Spr(N), value));
			assert_ne!(self.mmcr0 & FROZEN, 0, "a PMU that is in use is written");
			match Spr(N) {
				Spr::MMCR0 => self.mmcr0 = value,
				Spr::MMCR2 => self.mmcr2 = value,
				other => panic!("{other:?} is written"),
			}
		}

		fn mftb(&mut self) -> u64 {
			unreachable!("the timebase")
		}

		fn mfmsr(&mut self) -> u64 {
			unreachable!("MSR")
		}

		unsafe fn mtmsrd(&mut self, _: u64) {
			unreachable!("MSR")
		}

		unsafe fn mtmsrd_ee_ri(&mut self, _: u64) {
			unreachable!("MSR")
		}

		fn hwsync(&mut self) {}

		fn isync(&mut self) {}

		unsafe fn slb_clear<const INDEX: u64>(&mut self) {
			unreachable!("SLB")
		}

		unsafe fn slb_write(&mut self, _: u64, _: u64) {
			unreachable!("SLB")
		}

		fn slb_esid(&mut self, _: u64) -> u64 {
			unreachable!("SLB")
		}

		fn slb_vsid(&mut self, _: u64) -> u64 {
			unreachable!("SLB")
		}
	}

	#[test]
	fn it_begins_once_and_goes_on() {
		let (mut pmu, stats) = (Pmu::new(FROZEN), Stats::new());
		assert_eq!(enter(&mut pmu, &stats, HERE, true), Counter::Begins);
		// Nothing counts by halves: MMCR0 comes last.
		assert_eq!(
			pmu.writes,
			[(Spr::MMCR2, 0), (Spr::MMCR0, Mmcr0::COUNTING.bits())]
		);
		assert_eq!(stats.counter.get(), u64::from(HERE) + 1);
		for _ in 0..2 {
			assert_eq!(enter(&mut pmu, &stats, HERE, true), Counter::Continues);
		}
		assert_eq!(pmu.writes.len(), 2);
		assert_eq!(Counter::Begins.read(&mut pmu), Cycles::Begun(5));
		assert_eq!(Counter::Continues.read(&mut pmu), Cycles::Continued(5));
	}

	#[test]
	fn no_register_is_touched_if_it_is_not_wanted() {
		let (mut pmu, stats) = (Pmu::new(FROZEN), Stats::new());
		assert_eq!(enter(&mut pmu, &stats, HERE, false), Counter::Foreign);
		assert_eq!(Counter::Foreign.read(&mut pmu), Cycles::Unknown);
		assert!(pmu.reads.is_empty() && pmu.writes.is_empty());
	}

	#[test]
	fn what_runs_is_somebodys() {
		// perf's, with counter-negative conditions and exceptions; all off but not frozen;
		// and one that looks like ours and is not.
		for mmcr0 in [0x0600_c010, 0, Mmcr0::COUNTING.bits()] {
			let (mut pmu, stats) = (Pmu::new(mmcr0), Stats::new());
			assert_eq!(enter(&mut pmu, &stats, HERE, true), Counter::Foreign);
			assert!(pmu.writes.is_empty(), "{mmcr0:#x}");
			assert_eq!(stats.counter.get(), 0);
		}
	}

	#[test]
	fn another_cpus_counter_is_not_ours() {
		let (mut pmu, stats) = (Pmu::new(FROZEN), Stats::new());
		enter(&mut pmu, &stats, HERE, true);
		// Even if it looked the same there.
		let mut other = Pmu::new(Mmcr0::COUNTING.bits());
		assert_eq!(enter(&mut other, &stats, HERE + 1, true), Counter::Foreign);
		assert!(other.writes.is_empty());
		// And it is a begin there.
		other.mmcr0 = FROZEN;
		assert_eq!(enter(&mut other, &stats, HERE + 1, true), Counter::Begins);
		assert_eq!(
			enter(&mut other, &stats, HERE + 1, true),
			Counter::Continues
		);
	}

	#[test]
	fn a_thread_that_was_away_begins_again() {
		let (mut pmu, stats) = (Pmu::new(FROZEN), Stats::new());
		enter(&mut pmu, &stats, HERE, true);
		pmu.sched_out(&stats);
		assert_eq!(pmu.mmcr0, FROZEN);
		assert_eq!(enter(&mut pmu, &stats, HERE, true), Counter::Begins);
	}

	#[test]
	fn whoever_took_it_keeps_it_and_it_begins_again_afterwards() {
		let (mut pmu, stats) = (Pmu::new(FROZEN), Stats::new());
		enter(&mut pmu, &stats, HERE, true);
		// perf comes, goes on while the guest runs (KVM has it frozen then), and goes.
		pmu.mmcr0 = 0x8600_c010;
		pmu.writes.clear();
		assert_eq!(enter(&mut pmu, &stats, HERE, false), Counter::Foreign);
		assert!(pmu.writes.is_empty());
		assert_eq!(stats.counter.get(), 0);
		assert_eq!(enter(&mut pmu, &stats, HERE, true), Counter::Begins);
		// It came and went within one span.
		pmu.mmcr0 = FROZEN;
		assert_eq!(enter(&mut pmu, &stats, HERE, true), Counter::Begins);
	}

	#[test]
	fn the_glue_can_tell_what_a_guest_was_given_by_mistake() {
		let (mut pmu, stats) = (Pmu::new(FROZEN), Stats::new());
		enter(&mut pmu, &stats, HERE, true);
		// The guest said between KVM's look and ours that it uses the PMU: this run isn't
		// counted, but what KVM saves at its end is still ours.
		assert_eq!(enter(&mut pmu, &stats, HERE, false), Counter::Foreign);
		assert_ne!(stats.counter.get(), 0);
		// All later values of the PMU are the guest's, even if they look like ours.
		pmu.mmcr0 = FROZEN;
		enter(&mut pmu, &stats, HERE, false);
		assert_eq!(stats.counter.get(), 0);
		pmu.mmcr0 = Mmcr0::COUNTING.bits();
		assert_eq!(enter(&mut pmu, &stats, HERE, false), Counter::Foreign);
		assert_eq!(stats.counter.get(), 0);
	}

	#[test]
	fn the_pmu_has_users_in_three_places() {
		let mut memory = [const { [0_u64; 1024] }; 3];
		let [vcpu, paca, vpa] = &mut memory;
		// SAFETY: memory of their own, with room for any invented offset.
		let (vcpu, paca, vpa) = unsafe {
			let at = |memory: &mut [u64]| NonNull::new_unchecked(memory.as_mut_ptr()).cast();
			(
				VcpuView::new(at(vcpu)),
				PacaView::new(at(paca)),
				VpaView::new(at(vpa)),
			)
		};
		// Without a VPA the guest has everything.
		assert!(!nobody_has_the_pmu(vcpu, paca));
		vcpu.set_vpa_address(vpa.address().as_ptr() as u64);
		vcpu.set_hfscr(!hfscr::PM);
		assert!(nobody_has_the_pmu(vcpu, paca));

		vpa.set_pmcregs_in_use(1);
		assert!(!nobody_has_the_pmu(vcpu, paca));
		vpa.set_pmcregs_in_use(0);
		vcpu.set_hfscr(hfscr::PM);
		assert!(!nobody_has_the_pmu(vcpu, paca));
		vcpu.set_hfscr(0);
		paca.set_pmcregs_in_use(1);
		assert!(!nobody_has_the_pmu(vcpu, paca));
		paca.set_pmcregs_in_use(0);
		assert!(nobody_has_the_pmu(vcpu, paca));
	}
}
