// SPDX-License-Identifier: GPL-2.0-only
//! What the tests of properties try: values, kinds of guests, ways out.

use proptest::prelude::*;

use super::fake_cpu::{H_VIRT, Sort};
use crate::switch::{hfscr, trap};

pub(super) fn facilities() -> impl Strategy<Value = u64> {
	(any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(ebb, tm, pm)| {
		(ebb as u64 * hfscr::EBB) | (tm as u64 * hfscr::TM) | (pm as u64 * hfscr::PM) | 1 << 60
	})
}

/// Values as hosts and guests have them: often equal, often zero.
pub(super) fn values(n: usize) -> impl Strategy<Value = Vec<u64>> {
	proptest::collection::vec(prop_oneof![Just(0), Just(1), Just(0x55), any::<u64>()], n)
}

pub(super) fn kinds() -> impl Strategy<Value = Sort> {
	prop_oneof![
		Just(Sort::Radix),
		Just(Sort::Real),
		Just(Sort::L2),
		Just(Sort::Hash)
	]
}

/// How long the CPU was held up between the reading of the time and the switch: not at all,
/// or for up to eight times what the timebase's low bits count.
pub(super) fn late() -> impl Strategy<Value = u64> {
	prop_oneof![Just(0), 0..1_u64 << 27]
}

/// Ways out that need no more than SPRs.
pub(super) fn traps() -> impl Strategy<Value = u32> {
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
