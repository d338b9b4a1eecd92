// SPDX-License-Identifier: GPL-2.0-only
//! Page table hcalls without end, while the VMM changes the memory and the page table.
//!
//! A vcpu knows what the HPTEs of its own have, and checks each answer. By these HPTEs it loads and
//! stores with data translation on: each page has a mark, and a word that only this vcpu writes.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::hammer::{self, Hammer, MARKED, OWN, PROTECTION, R_C, R_R, V_FLAGS};
use protocol::regs::Pattern;
use protocol::{map, private};

use crate::{at, tell};

/// Rounds after which the decrementer is set again: before it runs out.
const DEC_ROUNDS: u64 = 1024;
/// R and C.
const RC: u64 = R_R | R_C;

/// The hcalls, in the order of their counts.
const HCALLS: [Number; hammer::HCALLS] = [
	Number::ENTER,
	Number::REMOVE,
	Number::BULK_REMOVE,
	Number::PROTECT,
	Number::READ,
	Number::CLEAR_REF,
	Number::CLEAR_MOD,
];

/// H_ENTER: this HPTE of the group.
const EXACT: u64 = 1 << 39;
/// H_READ: four HPTEs.
const READ_4: u64 = 1 << 37;
/// H_REMOVE, H_PROTECT: only with this AVPN.
const AVPN: u64 = 1 << 31;
/// H_REMOVE: only with none of these bits.
const ANDCOND: u64 = 1 << 30;

const SUCCESS: u64 = Code::SUCCESS.0 as u64;
const FULL: u64 = Code::PTEG_FULL.0 as u64;
const NOT_FOUND: u64 = Code::NOT_FOUND.0 as u64;

struct State<'a> {
	hammer: &'a mut Hammer,
	pattern: Pattern,
	vcpu: usize,
	/// R and C that an HPTE had at some time. KVM leaves them in an HPTE without a page, where H_READ
	/// finds them after H_CLEAR_REF and H_CLEAR_MOD.
	ever: [u64; OWN],
	/// Stamps that this vcpu has used.
	stamps: u64,
}

impl State<'_> {
	fn below(&mut self, limit: u64) -> u64 {
		self.pattern.next() % limit
	}

	fn bad(&mut self, line: u32, what: [u64; 5]) {
		if self.hammer.bad == 0 {
			let [a, b, c, d, e] = what;
			self.hammer.first_bad = [line.into(), a, b, c, d, e];
		}
		self.hammer.bad += 1;
	}

	/// Does an hcall.
	fn call(&mut self, number: Number, args: [u64; 4], more: [u64; 4]) -> Call {
		let mut call = Call {
			number: number.0,
			args,
			more,
			..Call::default()
		};
		// SAFETY: these hcalls write the page table and registers only. What they map is not what
		// the code runs on.
		unsafe { crate::asm::call(&raw mut call) };
		self.hammer.rounds += 1;
		if call.code == SUCCESS
			&& let Some(kind) = HCALLS.iter().position(|&hcall| hcall == number)
		{
			self.hammer.succeeded[kind] += 1;
		}
		call
	}

	/// Does an hcall on an HPTE, which must have this code.
	fn expect(&mut self, number: Number, flags: u64, index: u64, third: u64, code: u64) -> Call {
		let call = self.call(number, [flags, index, third, 0], [0; 4]);
		if call.code != code {
			self.bad(line!(), [number.0, flags, index, third, call.code]);
		}
		call
	}

	/// Checks a second doubleword of an HPTE of its own, with the R and C that may be set.
	fn check_r(&mut self, line: u32, own: usize, r: u64, may: u64) {
		let hpte = self.hammer.own[own];
		// Hardware may set R at any time. The mark is part of the answer of two hcalls.
		let is_rest_right = (r ^ hpte.r) & !(RC | MARKED) == 0;
		if !is_rest_right || hpte.set & !r != 0 || r & R_C & !may != 0 {
			let index = hammer::own_index(self.vcpu, own);
			self.bad(line, [index, r, hpte.r, hpte.set, may]);
		}
	}

	/// Notes R and C that an access has set.
	fn note(&mut self, own: usize, rc: u64) {
		let hpte = &mut self.hammer.own[own];
		hpte.set |= rc;
		hpte.may |= rc;
		self.ever[own] |= rc;
	}

	fn enter_own(&mut self, own: usize) {
		let random = self.pattern.next();
		let index = hammer::own_index(self.vcpu, own);
		let v = hammer::own_v(self.vcpu, own);
		let number = match random % 8 {
			0 => hammer::ACCESSED * hammer::SLOT_PAGES + random / 8 % (hammer::SLOT_PAGES + 1),
			_ => random / 8 % (hammer::ACCESSED * hammer::SLOT_PAGES),
		};
		let address = hammer::page_address(number, random >> 16 & 1 != 0);
		let part = random >> 20 & (hammer::PARTS - 1);
		let protection = match random >> 24 & 3 {
			0 => hammer::PP_READ,
			_ => hammer::PP_WRITE,
		};
		let r = hammer::r_of(address, part, hammer::is_large(own)) | protection;
		let rc = random >> 32 & RC;
		let call = self.call(Number::ENTER, [EXACT, index, v, r | rc], [0; 4]);
		if call.code != SUCCESS || call.r4 != index {
			self.bad(line!(), [index, v, r, call.code, call.r4]);
			return;
		}
		self.hammer.own[own] = hammer::Own {
			r,
			set: rc,
			may: rc,
		};
		self.ever[own] = rc;
		if random >> 60 == 0 {
			let code = self.call(Number::ENTER, [EXACT, index, v, r], [0; 4]).code;
			if code != FULL {
				self.bad(line!(), [index, v, r, code, 0]);
			}
		}
	}

	fn remove_own(&mut self, own: usize) {
		let (index, v) = (
			hammer::own_index(self.vcpu, own),
			hammer::own_v(self.vcpu, own),
		);
		let (flags, third, is_there) = match self.below(8) {
			0 => (AVPN, (v & !V_FLAGS) ^ 1 << 20, false),
			1 => (ANDCOND, v & 0xf_ffff_f000, false),
			2 => (ANDCOND, !v & 0xf_ffff_f000, true),
			3 | 4 => (AVPN, v & !V_FLAGS, true),
			_ => (0, 0, true),
		};
		let code = if is_there { SUCCESS } else { NOT_FOUND };
		let call = self.expect(Number::REMOVE, flags, index, third, code);
		if is_there {
			if call.r4 != v {
				self.bad(line!(), [index, call.r4, v, 0, 0]);
			}
			let may = self.hammer.own[own].may;
			self.check_r(line!(), own, call.results[0], may);
			self.hammer.own[own].r = 0;
		}
	}

	/// Some of its own, those that are not in use as well.
	fn bulk_remove_own(&mut self) {
		let mut words = [0xc0 << 56; 8];
		let first = self.below(OWN as u64) as usize;
		let count = 1 + self.below(4) as usize;
		for n in 0..count {
			let own = (first + n) % OWN;
			let v = hammer::own_v(self.vcpu, own);
			let (kind, compared) = match self.below(4) {
				0 => (0x41, !v & 0xf_ffff_f000),
				1 => (0x42, v & !V_FLAGS),
				_ => (0x40, 0),
			};
			words[2 * n] = kind << 56 | hammer::own_index(self.vcpu, own);
			words[2 * n + 1] = compared;
		}
		let [a, b, c, d, e, f, g, h] = words;
		let call = self.call(Number::BULK_REMOVE, [a, b, c, d], [e, f, g, h]);
		let mut results = [call.r4; 8];
		results[1..].copy_from_slice(&call.results);
		for n in 0..count {
			let own = (first + n) % OWN;
			let hpte = self.hammer.own[own];
			let response = results[2 * n];
			let expected = if hpte.r != 0 { 0x80 << 56 } else { 0x90 << 56 };
			let expected = expected | words[2 * n] & !(0xfc << 56);
			// R and C are between the kind and the index.
			let (rc, rest) = (response >> 51 & RC, response & !(RC << 51));
			if call.code != SUCCESS || rest != expected {
				self.bad(line!(), [call.code, n as u64, response, expected, 0]);
			}
			if hpte.r != 0 {
				self.check_r(line!(), own, hpte.r | rc, hpte.may);
				self.hammer.own[own].r = 0;
			}
		}
	}

	fn protect_own(&mut self, own: usize) {
		let random = self.pattern.next();
		let (index, v) = (
			hammer::own_index(self.vcpu, own),
			hammer::own_v(self.vcpu, own),
		);
		let protection = match random & 3 {
			0 => hammer::PP_READ,
			_ => hammer::PP_WRITE,
		};
		// The low bits of the key, and no execution.
		let bits = protection | random & 0xe04;
		let (flags, third, code) = match random >> 60 {
			0 => (AVPN, (v & !V_FLAGS) ^ 1 << 20, NOT_FOUND),
			1..8 => (AVPN, v & !V_FLAGS, SUCCESS),
			_ => (0, 0, SUCCESS),
		};
		self.expect(Number::PROTECT, flags | bits, index, third, code);
		if code == SUCCESS {
			let hpte = &mut self.hammer.own[own];
			hpte.r = hpte.r & !PROTECTION | bits;
		}
	}

	fn read_own(&mut self, own: usize) {
		let (index, v) = (
			hammer::own_index(self.vcpu, own),
			hammer::own_v(self.vcpu, own),
		);
		let flags = if self.below(2) == 0 { READ_4 } else { 0 };
		let call = self.expect(Number::READ, flags, index, 0, SUCCESS);
		let mut words = [call.r4; 8];
		words[1..].copy_from_slice(&call.results);
		let at = if flags != 0 { index as usize % 4 } else { 0 };
		let (got_v, got_r) = (words[2 * at], words[2 * at + 1]);
		if self.hammer.own[own].r != 0 {
			if got_v != v {
				self.bad(line!(), [index, got_v, v, flags, 0]);
			}
			let may = self.ever[own];
			self.check_r(line!(), own, got_r, may);
		} else if got_v & hammer::V_VALID != 0 {
			self.bad(line!(), [index, got_v, got_r, flags, 0]);
		}
	}

	/// H_CLEAR_REF or H_CLEAR_MOD.
	fn clear_own(&mut self, own: usize, number: Number, bit: u64) {
		let index = hammer::own_index(self.vcpu, own);
		let call = self.expect(number, 0, index, 0, SUCCESS);
		let may = self.hammer.own[own].may;
		self.check_r(line!(), own, call.r4, may);
		let hpte = &mut self.hammer.own[own];
		hpte.set &= !bit;
		hpte.may &= !bit;
	}

	/// A load or a store by an HPTE of its own.
	fn access(&mut self, own: usize) {
		let hpte = self.hammer.own[own];
		let Some((number, address)) = hammer::accessed_page(hpte.r) else {
			return;
		};
		let ea = hammer::own_address(self.vcpu, own);
		let (part, offset) = if hammer::is_large(own) {
			let part = self.below(hammer::PARTS);
			(part, part * hammer::PART)
		} else {
			(hammer::part_of(hpte.r), 0)
		};
		let is_store = hpte.r & 3 == hammer::PP_WRITE && self.below(2) == 0;
		let word = ea + offset + hammer::written_at(self.vcpu);
		let place = (number * hammer::PARTS + part) as usize;
		if is_store {
			let value = hammer::mix(self.pattern.next()) | 1;
			// SAFETY: the HPTE translates the address to a page that no Rust code uses.
			unsafe { crate::asm::store_translated(word, value) };
			self.hammer.written[place] = value;
			self.hammer.stores += 1;
			self.note(own, RC);
			return;
		}
		// SAFETY: the HPTE translates both addresses.
		let (mark, value) = unsafe {
			(
				crate::asm::load_translated(ea + offset),
				crate::asm::load_translated(word),
			)
		};
		self.hammer.loads += 2;
		self.note(own, R_R);
		if mark != hammer::mark(address, part) {
			self.bad(line!(), [ea, hpte.r, mark, hammer::mark(address, part), 0]);
		}
		if value != self.hammer.written[place] {
			let written = self.hammer.written[place];
			self.bad(line!(), [ea, hpte.r, value, written, number << 8 | part]);
		}
	}

	fn count(counts: &mut [u64; 2], stamp: u64) {
		counts[0] += 1;
		counts[1] = counts[1].wrapping_add(hammer::mix(stamp));
	}

	fn enter_contended(&mut self, index: u64) {
		let stamp = self.stamps << 1 | self.vcpu as u64;
		self.stamps += 1;
		let is_open = hammer::OPEN_GROUPS.contains(&(index / hammer::GROUP));
		let flags = if is_open && self.below(4) != 0 {
			0
		} else {
			EXACT
		};
		let v = hammer::contended_v(stamp, index);
		let r = hammer::contended_r(stamp);
		let call = self.call(Number::ENTER, [flags, index, v, r], [0; 4]);
		let same = if flags == 0 {
			(call.r4 ^ index) & !(hammer::GROUP - 1) == 0
		} else {
			call.r4 == index
		};
		match call.code {
			SUCCESS if same => Self::count(&mut self.hammer.entered, stamp),
			FULL => self.hammer.lost[0] += 1,
			code => self.bad(line!(), [flags, index, v, code, call.r4]),
		}
	}

	/// The first doubleword of a contended HPTE that is in use, and its stamp.
	fn read_contended(&mut self, index: u64) -> Option<(u64, u64)> {
		let v = self.expect(Number::READ, 0, index, 0, SUCCESS).r4;
		if v & hammer::V_VALID == 0 {
			return None;
		}
		let stamp = hammer::stamp_of(index, v);
		if stamp.is_none() {
			self.bad(line!(), [index, v, 0, 0, 0]);
		}
		stamp.map(|stamp| (v, stamp))
	}

	/// Checks what an hcall has found of an HPTE with that stamp.
	fn check_contended(&mut self, line: u32, index: u64, stamp: u64, r: u64) {
		if !hammer::fits_stamp(stamp, r) {
			let expected = hammer::contended_r(stamp);
			self.bad(line, [index, stamp, r, expected, 0]);
		}
	}

	/// Removes an HPTE or changes it, if it is still the one that was read.
	fn change_contended(&mut self, index: u64) {
		let Some((v, stamp)) = self.read_contended(index) else {
			self.enter_contended(index);
			return;
		};
		let random = self.pattern.next();
		let avpn = v & !V_FLAGS;
		match random % 8 {
			0 => {
				let bits = hammer::PP_WRITE | random >> 8 & 0xe05;
				let args = [AVPN | bits, index, avpn, 0];
				let code = self.call(Number::PROTECT, args, [0; 4]).code;
				self.count_lost(code, index);
			}
			// Without a condition: what is there now may have another stamp, or none.
			number @ (1 | 2) => {
				let number = [Number::CLEAR_REF, Number::CLEAR_MOD][number as usize - 1];
				let code = self.call(number, [0, index, 0, 0], [0; 4]).code;
				self.count_lost(code, index);
			}
			3..5 => self.bulk_remove_contended(index),
			_ => {
				let flags = if random >> 63 == 0 { AVPN } else { 0 };
				let call = self.call(Number::REMOVE, [flags, index, avpn, 0], [0; 4]);
				if call.code != SUCCESS {
					self.count_lost(call.code, index);
					return;
				}
				let found = hammer::stamp_of(index, call.r4);
				match found {
					Some(found) if flags == 0 || found == stamp => {
						Self::count(&mut self.hammer.removed, found);
						self.check_contended(line!(), index, found, call.results[0]);
					}
					_ => self.bad(line!(), [flags, index, v, call.r4, call.results[0]]),
				}
			}
		}
	}

	/// The only other answer is that the HPTE is another one by now.
	fn count_lost(&mut self, code: u64, index: u64) {
		match code {
			SUCCESS => {}
			NOT_FOUND => self.hammer.lost[1] += 1,
			code => self.bad(line!(), [index, code, 0, 0, 0]),
		}
	}

	fn bulk_remove_contended(&mut self, first: u64) {
		let mut words = [0xc0 << 56; 8];
		let mut stamps = [0; 4];
		let mut count = 0;
		for n in 0..4 {
			let index = match n {
				0 => first,
				_ => hammer::contended_index(self.below(hammer::CONTENDED)),
			};
			if let Some((v, stamp)) = self.read_contended(index) {
				words[2 * count] = 0x42 << 56 | index;
				words[2 * count + 1] = v & !V_FLAGS;
				stamps[count] = stamp;
				count += 1;
			}
		}
		let [a, b, c, d, e, f, g, h] = words;
		let call = self.call(Number::BULK_REMOVE, [a, b, c, d], [e, f, g, h]);
		let mut results = [call.r4; 8];
		results[1..].copy_from_slice(&call.results);
		for (n, &stamp) in stamps.iter().enumerate().take(count) {
			let response = results[2 * n];
			// Without the bits of the answer, and without R and C.
			let echo = (response ^ words[2 * n]) & !(0xfc << 56);
			match response >> 60 {
				8 if echo == 0 => Self::count(&mut self.hammer.removed, stamp),
				9 if echo == 0 => self.hammer.lost[1] += 1,
				_ => self.bad(
					line!(),
					[call.code, n as u64, response, words[2 * n], stamp],
				),
			}
		}
		if call.code != SUCCESS {
			self.bad(line!(), [call.code, count as u64, 0, 0, 0]);
		}
	}

	fn round(&mut self) {
		if self.below(3) == 0 {
			let index = hammer::contended_index(self.below(hammer::CONTENDED));
			match self.below(3) {
				0 => self.enter_contended(index),
				_ => self.change_contended(index),
			}
			return;
		}
		let own = self.below(OWN as u64) as usize;
		let choice = self.below(16);
		if choice == 0 {
			self.bulk_remove_own();
		} else if self.hammer.own[own].r == 0 {
			match choice {
				1 => self.read_own(own),
				_ => self.enter_own(own),
			}
		} else {
			match choice {
				1 | 2 => self.remove_own(own),
				3 | 4 => self.protect_own(own),
				5 => self.read_own(own),
				6 => self.clear_own(own, Number::CLEAR_REF, R_R),
				7 => self.clear_own(own, Number::CLEAR_MOD, R_C),
				_ => self.access(own),
			}
		}
	}
}

/// The segments of the HPTEs of a vcpu's own.
fn set_segments(vcpu: usize) {
	const VALID: u64 = 1 << 27;
	const PAGES_64K: u64 = 0x110;
	for kind in 0..hammer::OWN_OF_GROUP {
		let size = if hammer::is_large(kind) { PAGES_64K } else { 0 };
		let vsid = hammer::own_vsid(vcpu, kind) << 12 | size;
		let esid = hammer::own_segment(kind) | VALID | kind as u64;
		// SAFETY: the code runs with translation off.
		unsafe { asm!("slbmte {}, {}", "isync", in(reg) vsid, in(reg) esid, options(nostack)) };
	}
}

/// A word that the VMM accesses at any time.
fn word(address: u64) -> &'static AtomicU64 {
	// SAFETY: the word is there for good, is aligned, and is accessed as a whole only.
	unsafe { AtomicU64::from_ptr(at::<u64>(address)) }
}

/// Where a vcpu begins that the VMM gave a block and a stack.
#[unsafe(no_mangle)]
extern "C" fn hammer_main(block: *mut Hammer) -> ! {
	// SAFETY: the block is this vcpu's, and the VMM reads it only after the vcpu has told that it
	// is done, or single counters.
	let hammer = unsafe { &mut *block };
	let vcpu = hammer.vcpu as usize;
	let pattern = Pattern::new(hammer.seed);
	set_segments(vcpu);
	let mut state = State {
		hammer,
		pattern,
		vcpu,
		ever: [0; OWN],
		stamps: 0,
	};
	let mut rounds = 0_u64;
	let stop = word(map::HAMMER_STOP);
	while stop.load(Ordering::Relaxed) == 0 {
		if rounds.is_multiple_of(DEC_ROUNDS) {
			// SAFETY: no interrupt comes of it.
			unsafe { asm!("mtspr 22, {}", in(reg) 0x7fff_ffff_u64, options(nomem, nostack)) };
		}
		rounds += 1;
		state.round();
	}
	loop {
		tell(private::DONE, 0);
	}
}
