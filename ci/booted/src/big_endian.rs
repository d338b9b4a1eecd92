// SPDX-License-Identifier: GPL-2.0-only
//! A big-endian guest (MSR\[LE\] = 0) gets the same answers and keeps the same registers on all
//! paths.
//!
//! The guest writes the list of H_PUT_TCE_INDIRECT with its own stores. PAPR has the entries of a
//! list in big-endian order, and so has C.

use std::time::{Duration, Instant};

use hcall::{Code, Number};
use powerpc::Msr;
use protocol::block::Call;
use protocol::{Column, GuestMode, map, private};
use vmm::abi::{KVM_REG_PPC_U64, Regs};
use vmm::host;
use vmm::kvm::Exit;
use vmm::machine::{Config, Failure, Machine};
use vmm::timer::Timer;

use crate::common::{PATHS, Verdict, choose, counters, named, wrong};
use crate::tce::TCES;

/// Longer than a turn takes, in the time of the emulated host.
const LIMIT: Duration = Duration::from_secs(2);
/// The one-reg of the VPA's address (`asm/kvm.h`).
const VPA_ADDR: u64 = KVM_REG_PPC_U64 | 0x82;
/// Where the instructions are.
const CODE: u64 = map::FRESH;
/// Entries of the list, and what they begin with.
const ENTRIES: u64 = 8;
const FIRST: u64 = map::tce(3);
/// Where in the table the list goes.
const PLACE: u64 = 100;
/// How often the guest does all of it.
const TURNS: u64 = 40;
/// Bytes that a device has.
const BYTES: [u8; 8] = [0x81, 0x42, 0x24, 0x43, 0xc6, 0x18, 0xe7, 0xf5];

const fn entry(index: u64) -> u64 {
	index << map::TCE_SHIFT
}

/// What the guest calls. H_PROD first, so that H_CEDE does not wait.
const CALLS: [(Number, [u64; 4]); 12] = [
	(Number::NULL, [0; 4]),
	(
		Number::PUT_TCE_INDIRECT,
		[map::LIOBN, entry(PLACE), map::TCE_LIST, ENTRIES],
	),
	(Number::GET_TCE, [map::LIOBN, entry(PLACE + 2), 0, 0]),
	(Number::PUT_TCE, [map::LIOBN, entry(5), map::tce(77), 0]),
	(Number::GET_TCE, [map::LIOBN, entry(5), 0, 0]),
	(Number::STUFF_TCE, [map::LIOBN, entry(6), 0x5000, 4]),
	(Number::GET_TCE, [map::LIOBN, entry(9), 0, 0]),
	(
		Number::PUT_TCE,
		[map::LIOBN, entry(map::TCE_PAGES), map::tce(1), 0],
	),
	(Number::PROD, [0; 4]),
	(Number::CEDE, [0; 4]),
	(Number::RANDOM, [0; 4]),
	(private::UNKNOWN, [1, 2, 3, 4]),
];
/// The place of H_RANDOM.
const RANDOM: usize = 10;

/// An instruction with two registers and a displacement.
const fn displaced(opcode: u32, gpr: u32, base: u32, displacement: u64) -> u32 {
	opcode << 26 | gpr << 21 | base << 16 | displacement as u32 & 0xffff
}
const fn ld(gpr: u32, base: u32, displacement: u64) -> u32 {
	displaced(58, gpr, base, displacement)
}
const fn std(gpr: u32, base: u32, displacement: u64) -> u32 {
	displaced(62, gpr, base, displacement)
}
const fn addi(gpr: u32, base: u32, value: u64) -> u32 {
	displaced(14, gpr, base, value)
}
const SC1: u32 = 0x4400_0022;
/// mtmsrd r5, with L = 1: only MSR\[EE\] and MSR\[RI\].
const MTMSRD_5: u32 = 31 << 26 | 5 << 21 | 1 << 16 | 178 << 1;
const MTDEC_6: u32 = 31 << 26 | 6 << 21 | 22 << 16 | 467 << 1;

/// The guest: r28 has the list, r29 a device if there is one, r31 the calls, r30 their number.
fn program(has_device: bool) -> Vec<u32> {
	let mut code = vec![
		// Interrupts off, which H_CEDE turns on, and no decrementer.
		addi(5, 0, 2),
		MTMSRD_5,
		displaced(15, 6, 0, 0x7fff),
		MTDEC_6,
		// The list.
		displaced(15, 5, 0, FIRST >> 16),
		displaced(24, 5, 5, FIRST),
	];
	for index in 0..ENTRIES {
		code.extend([std(5, 28, 8 * index), addi(5, 5, 1 << map::TCE_SHIFT)]);
	}
	// r26 counts down.
	code.push(addi(26, 30, 0));
	let start = code.len();
	code.extend((0..9).map(|word| ld(3 + word, 31, 8 * u64::from(word))));
	code.push(SC1);
	code.push(std(3, 31, 72));
	code.extend((4..12).map(|gpr| std(gpr, 31, 80 + 8 * (u64::from(gpr) - 4))));
	code.push(addi(31, 31, size_of::<Call>() as u64));
	// addi r26, r26, -1; cmpdi r26, 0; bne.
	code.push(addi(26, 26, 0xffff));
	code.push(11 << 26 | 1 << 21 | 26 << 16);
	let back = 4 * (code.len() - start) as u32;
	code.push(16 << 26 | 4 << 21 | 2 << 16 | back.wrapping_neg() & 0xfffc);
	if has_device {
		// A load and a store of each length that the guest has its own order of bytes for.
		for (load, store) in [(32, 36), (40, 44), (34, 38)] {
			code.extend([displaced(load, 14, 29, 0), displaced(store, 14, 29, 8)]);
		}
		code.extend([ld(15, 29, 0), std(15, 29, 8)]);
		// lwbrx, stwbrx.
		code.push(31 << 26 | 16 << 21 | 29 << 11 | 534 << 1);
		code.push(31 << 26 | 16 << 21 | 29 << 11 | 662 << 1);
		// TIR, which KVM emulates.
		code.push(31 << 26 | 17 << 21 | (446 & 31) << 16 | (446 >> 5) << 11 | 339 << 1);
	}
	code.extend([addi(3, 0, 0), displaced(24, 3, 3, private::DONE.0), SC1]);
	code
}

/// What is left to compare.
#[derive(PartialEq, Eq, Debug)]
struct Found {
	/// r3 to r11 after each.
	calls: Vec<[u64; 9]>,
	table: Vec<u64>,
	registers: Vec<u64>,
	/// What userspace saw: numbers and arguments of hcalls, addresses and bytes of accesses.
	seen: Vec<[u64; 5]>,
}

struct Rig {
	machine: Machine,
	has_device: bool,
}

impl Rig {
	fn new(guest: GuestMode) -> Result<Self, Failure> {
		let mut enable = TCES.to_vec();
		enable.extend([Number::NULL, Number::RANDOM]);
		let mut machine = Machine::new(Config {
			guest,
			enable: &enable,
			window: true,
		})?;
		// A hash guest in real mode reaches memory only.
		let has_device = !guest.is_hash();
		for (place, word) in (CODE..).step_by(4).zip(program(has_device)) {
			machine.memory().write_bytes(place, &word.to_be_bytes());
		}
		machine.vcpu().set_one_reg(VPA_ADDR, map::VPA.into())?;
		Ok(Self {
			machine,
			has_device,
		})
	}

	/// The guest does all of it once.
	fn turn(&mut self, seed: u64) -> Result<Found, Failure> {
		let place = |index: usize| map::CALLS + (index * size_of::<Call>()) as u64;
		for (index, (number, args)) in CALLS.into_iter().enumerate() {
			let memory = self.machine.memory();
			let words = [number.0].into_iter().chain(args).chain([seed; 4]);
			for (at, word) in (place(index)..).step_by(8).zip(words) {
				memory.write(at, word.to_be());
			}
		}
		let msr = self.machine.vcpu().regs()?.msr;
		let mut regs = Regs {
			pc: CODE,
			msr: msr & !Msr::LE.bits(),
			..Regs::default()
		};
		for (n, gpr) in (1..).zip(&mut regs.gpr) {
			*gpr = seed.wrapping_mul(2 * n + 1);
		}
		regs.gpr[28] = map::TCE_LIST;
		regs.gpr[29] = map::MMIO_USER;
		regs.gpr[30] = CALLS.len() as u64;
		regs.gpr[31] = map::CALLS;
		self.machine.vcpu().set_regs(&regs)?;
		let seen = self.run()?;
		let end = self.machine.vcpu().regs()?;
		let memory = self.machine.memory();
		let calls = (0..CALLS.len()).map(|index| {
			core::array::from_fn(|word| {
				if index == RANDOM && word == 1 {
					return 0;
				}
				u64::from_be(memory.read(place(index) + 72 + 8 * word as u64))
			})
		});
		let mut registers = end.gpr.to_vec();
		registers.extend([end.pc, end.msr, end.cr, end.lr, end.ctr, end.xer]);
		Ok(Found {
			calls: calls.collect(),
			table: self.machine.table()?,
			registers,
			seen,
		})
	}

	fn run(&mut self) -> Result<Vec<[u64; 5]>, Failure> {
		let mut seen = vec![];
		let end = Instant::now() + LIMIT;
		let _timer = Timer::every(Duration::from_millis(500), LIMIT)?;
		loop {
			let vcpu = self.machine.vcpu();
			match vcpu.run()? {
				Exit::Hcall(private::DONE, _) => {
					vcpu.answer(Code::SUCCESS);
					return Ok(seen);
				}
				Exit::Hcall(number @ private::UNKNOWN, args) => {
					seen.push([number.0, args[0], args[1], args[2], args[3]]);
					vcpu.answer(Code::FUNCTION);
				}
				Exit::Mmio(mmio) if mmio.is_write == 0 => {
					seen.push([mmio.phys_addr, mmio.len.into(), 0, 0, 0]);
					vcpu.answer_load(BYTES);
				}
				Exit::Mmio(mmio) => {
					let mut data = mmio.data;
					data[mmio.len as usize..].fill(0);
					let data = u64::from_be_bytes(data);
					seen.push([mmio.phys_addr, mmio.len.into(), 1, data, 0]);
				}
				Exit::Interrupted if Instant::now() < end => {}
				exit => return wrong(format!("a big-endian guest: {exit:x?}")),
			}
		}
	}
}

/// What the answers must be, on all paths.
fn check(found: &Found, has_device: bool) -> Result<(), Failure> {
	let success = Code::SUCCESS.0 as u64;
	for (index, (call, (number, _))) in found.calls.iter().zip(CALLS).enumerate() {
		let code = match index {
			7 => Code::PARAMETER.0 as u64,
			11 => Code::FUNCTION.0 as u64,
			_ => success,
		};
		if call[0] != code {
			return wrong(format!("hcall {:#x}: code {}", number.0, call[0] as i64));
		}
	}
	let read = [2, 4, 6].map(|index: usize| found.calls[index][1]);
	let expected = [FIRST + (2 << map::TCE_SHIFT), map::tce(77), 0x5000];
	if read != expected {
		return wrong(format!("H_GET_TCE: {read:x?} instead of {expected:x?}"));
	}
	for index in 0..ENTRIES {
		let (entry, expected) = (
			found.table[(PLACE + index) as usize],
			FIRST + (index << map::TCE_SHIFT),
		);
		if entry != expected {
			return wrong(format!(
				"entry {index} of the list: {entry:#x}, not {expected:#x}"
			));
		}
	}
	if has_device {
		// What the guest loads and stores is what the bytes are to a big-endian guest.
		let whole = u64::from_be_bytes(BYTES);
		if found.registers[15] != whole {
			return wrong(format!("ld found {:#x}", found.registers[15]));
		}
		let word = u64::from(u32::from_le_bytes([BYTES[0], BYTES[1], BYTES[2], BYTES[3]]));
		if found.registers[16] != word {
			return wrong(format!("lwbrx found {:#x}", found.registers[16]));
		}
		let stores = found
			.seen
			.iter()
			.filter(|seen| seen[2] == 1 && seen[0] != private::UNKNOWN.0);
		for store in stores {
			let kept = BYTES.iter().enumerate();
			let bytes = kept.map(|(n, byte)| if n < store[1] as usize { *byte } else { 0 });
			let bytes: Vec<u8> = bytes.collect();
			if store[3].to_be_bytes() != *bytes {
				return wrong(format!("{} bytes were stored as {:#x}", store[1], store[3]));
			}
		}
	}
	Ok(())
}

/// Exits that a fast handler or a light exit has answered so far.
fn short_exits() -> Result<u64, Failure> {
	let counters = counters()?;
	let is_short = |name: &str| name.starts_with("fast_") || host::is_light_answer(name);
	let short = counters.iter().filter(|(name, _)| is_short(name));
	Ok(short.map(|(_, count)| count).sum())
}

/// A guest on each path.
pub fn compare(guest: GuestMode, seed: u64) -> Verdict {
	let mut first: Vec<Found> = vec![];
	let mut fast = 0;
	for path in PATHS {
		choose(path)?;
		let mut rig = Rig::new(guest)?;
		let before = short_exits()?;
		for turn in 0..TURNS {
			let found = rig.turn(seed.wrapping_add(turn) | 1)?;
			check(&found, rig.has_device).map_err(|failure| named(failure, path.name()))?;
			match first.get(turn as usize) {
				None => first.push(found),
				Some(expected) if *expected == found => {}
				Some(expected) => {
					return wrong(format!(
						"{}, turn {turn}: {found:x?} instead of {expected:x?}",
						path.name()
					));
				}
			}
		}
		fast = short_exits()? - before;
		if path != Column::RustFast && fast != 0 {
			return wrong(format!("{}: {fast} fast", path.name()));
		}
	}
	// By handlers or light exits: all but the one for userspace. The first turn has to find out about
	// lists and pages.
	let all = TURNS * (CALLS.len() as u64 - 1);
	if fast < all - all / 8 {
		return wrong(format!("{fast} of {all} hcalls fast: {:?}", counters()?));
	}
	Ok(format!(
		"{TURNS} turns of {} hcalls, {fast} of {all} fast",
		CALLS.len()
	))
}
