// SPDX-License-Identifier: GPL-2.0-only
//! The walk for a guest's instruction.

use std::collections::BTreeMap;

use powerpc::Msr;
use proptest::prelude::*;

use super::fake_cpu::Memory;
use crate::fetch::instruction;
use crate::views::{KvmView, VcpuView};

const VALID: u64 = 1 << 63;
const LEAF: u64 = 1 << 62;
const READ: u64 = 4;
const EXECUTE: u64 = 1;
const PRIVILEGED: u64 = 8;
/// A tree of 52 bits, less 31, in the two fields of a process table entry.
const RTS: u64 = (21 >> 3) << 61 | (21 & 7) << 5;

/// A guest, with the doublewords of its memory.
struct Guest {
	vcpu: VcpuView,
	kvm: KvmView,
	memory: BTreeMap<u64, u64>,
	_structures: [Memory; 2],
}

/// Where the tables are.
const PROCESS_TABLE: u64 = 0x10_0000;
const ROOT: u64 = 0x20_0000;
const TABLES: [u64; 3] = [0x30_0000, 0x31_0000, 0x32_0000];

impl Guest {
	/// A guest at `nia`, whose instruction is on a page of `1 << shift` bytes at `page`.
	fn new(nia: u64, pid: u32, shift: u32, page: u64, flags: u64, last_bits: u64) -> Self {
		let mut structures = [Memory::new(), Memory::new()];
		let [vcpu, kvm] = &mut structures;
		// SAFETY: memory of this test, with room for all fields.
		let (vcpu, kvm) = unsafe { (VcpuView::new(vcpu.at()), KvmView::new(kvm.at())) };
		vcpu.set_nip(nia);
		vcpu.set_msr(Msr::IR.bits());
		vcpu.set_pid(pid);
		kvm.set_process_table(1 << 63 | PROCESS_TABLE | 4);
		let mut memory = BTreeMap::new();
		let own = if nia >> 62 == 3 { 0 } else { u64::from(pid) };
		memory.insert(PROCESS_TABLE + 16 * own, RTS | ROOT | 13);
		let bits = [13, 9, 9, last_bits];
		let (mut table, mut left) = (ROOT, 52);
		for (level, next) in bits
			.into_iter()
			.zip(TABLES.map(Some).into_iter().chain([None]))
		{
			left -= level;
			let at = table + 8 * (nia >> left & ((1 << level) - 1));
			if left == u64::from(shift) {
				memory.insert(at, VALID | LEAF | page | flags);
				break;
			}
			let next = next.expect("a page of that size");
			let next_level = bits[TABLES.iter().position(|&t| t == next).unwrap() + 1];
			memory.insert(at, VALID | next | next_level);
			table = next;
		}
		let memory = memory
			.into_iter()
			.map(|(at, entry): (u64, u64)| (at, entry.to_be()))
			.collect();
		Self {
			vcpu,
			kvm,
			memory,
			_structures: structures,
		}
	}

	fn fetch(&self) -> Option<u32> {
		instruction(self.vcpu, self.kvm, |at| self.memory.get(&at).copied())
	}
}

fn nia() -> impl Strategy<Value = u64> {
	(any::<u64>(), any::<bool>()).prop_map(|(address, kernel)| {
		let address = address & ((1 << 52) - 1) & !3;
		if kernel { address | 3 << 62 } else { address }
	})
}

/// Page sizes of a POWER9: 4 KiB and 64 KiB with another last level, 2 MiB, 1 GiB.
fn sizes() -> impl Strategy<Value = (u32, u64)> {
	prop_oneof![Just((12, 9)), Just((16, 5)), Just((21, 9)), Just((30, 5))]
}

proptest! {
	/// What the tables map is found: for kernel and user addresses, for each page size.
	#[test]
	fn the_instruction_is_found(
		nia in nia(),
		pid in 0_u32..4096,
		(shift, last_bits) in sizes(),
		page in any::<u64>(),
		word in any::<u64>(),
		is_privileged in any::<bool>(),
		is_user in any::<bool>(),
	) {
		let page = page & 0x01ff_ffff_ffff_f000 & !((1 << shift) - 1) | 1 << 48;
		let flags = EXECUTE | READ | if is_privileged { PRIVILEGED } else { 0 };
		let mut guest = Guest::new(nia, pid, shift, page, flags, last_bits);
		guest.vcpu.set_msr(Msr::IR.bits() | if is_user { Msr::PR.bits() } else { 0 });
		let at = page | nia & ((1 << shift) - 1);
		guest.memory.insert(at & !7, word);
		let half = if at & 4 == 0 { word as u32 } else { (word >> 32) as u32 };
		let found = guest.fetch();
		prop_assert_eq!(found, (!(is_privileged && is_user)).then_some(half));
	}

	/// One thing is wrong, and nothing is found.
	#[test]
	fn what_is_wrong_is_refused(
		nia in nia(),
		pid in 0_u32..4096,
		(shift, last_bits) in sizes(),
		wrong in 0..9_usize,
	) {
		let page = 1 << 48;
		let flags = match wrong {
			0 => READ,
			_ => READ | EXECUTE,
		};
		let mut guest = Guest::new(nia, pid, shift, page, flags, last_bits);
		guest.memory.insert((page | nia & ((1 << shift) - 1)) & !7, 7 << 32 | 7);
		if wrong != 0 {
			prop_assert_eq!(guest.fetch(), Some(7));
		}
		let own = PROCESS_TABLE + if nia >> 62 == 3 { 0 } else { 16 * u64::from(pid) };
		let change = |memory: &mut BTreeMap<u64, u64>, at: u64, to: fn(u64) -> u64| {
			let entry = memory.get_mut(&at).expect("an entry");
			*entry = to(u64::from_be(*entry)).to_be();
		};
		let first = ROOT + 8 * (nia >> 39 & 0x1fff);
		match wrong {
			0 => {}
			1 => guest.vcpu.set_nip(nia ^ 1 << 62),
			2 => guest.vcpu.set_nip(nia | 1 << 57),
			// The process table ends before it.
			3 => {
				guest.vcpu.set_nip(nia & !(3 << 62));
				guest.vcpu.set_pid(0x1000);
			}
			4 => change(&mut guest.memory, own, |entry| entry ^ 1 << 61),
			5 => change(&mut guest.memory, own, |entry| entry ^ 1),
			6 => change(&mut guest.memory, own, |entry| entry | 1 << 12),
			7 => change(&mut guest.memory, first, |entry| entry & !VALID),
			_ => change(&mut guest.memory, first, |entry| entry | LEAF),
		}
		prop_assert_eq!(guest.fetch(), None);
	}

	/// In real mode the address is the guest's real one.
	#[test]
	fn real_mode_needs_no_tables(nia in any::<u64>(), word in any::<u64>()) {
		let mut guest = Guest::new(0, 0, 12, 0, 0, 9);
		guest.vcpu.set_nip(nia & !3);
		guest.vcpu.set_msr(0);
		let at = nia & !3 & ((1 << 60) - 1);
		guest.memory = BTreeMap::from([(at & !7, word)]);
		let half = if at & 4 == 0 { word as u32 } else { (word >> 32) as u32 };
		prop_assert_eq!(guest.fetch(), Some(half));
	}

	/// Tables of any content end the walk after at most six reads.
	#[test]
	fn a_hostile_guest_gets_nothing_else(
		nia in any::<u64>(),
		pid in any::<u32>(),
		msr in any::<u64>(),
		table in any::<u64>(),
		entries in proptest::collection::vec(any::<u64>(), 6),
		shapes in proptest::collection::vec(0..4_u8, 6),
	) {
		let guest = Guest::new(nia & 0xffff_ffff_ffff, pid & 0xfff, 12, 0, 0, 9);
		guest.vcpu.set_nip(nia);
		guest.vcpu.set_pid(pid);
		guest.vcpu.set_msr(msr);
		guest.kvm.set_process_table(table);
		let mut reads = 0;
		let found = instruction(guest.vcpu, guest.kvm, |_| {
			// Plausible ones get further.
			let entry = match shapes[reads] {
				0 => return None,
				1 => entries[reads],
				2 => RTS | VALID | entries[reads] & 0x0000_ffff_fff0_0000 | 13,
				_ => VALID | entries[reads] & 0x0000_ffff_fff0_0000 | 9,
			};
			reads += 1;
			Some(entry.to_be())
		});
		prop_assert!(reads <= 6);
		let least = if msr & Msr::IR.bits() != 0 { 3 } else { 1 };
		prop_assert!(found.is_none() || reads >= least);
	}
}
