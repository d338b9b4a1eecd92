// SPDX-License-Identifier: GPL-2.0-only
//! The guest payload.
//!
//! It registers a VPA as every Linux guest does, with `pmcregs_in_use` 0, so that
//! KVM leaves the PMU alone. Then it does what the command block says, over and
//! over: do, write the outcome, tell the VMM with an hcall, look at the next command.
//! Whether translation is on was decided by the VMM, with the MSR it started us with;
//! the code is the same. But a hash guest's tables are the hypervisor's, so there it asks
//! us to fill them and turn translation on.
#![no_std]
#![no_main]

mod asm;
mod hammer;
mod rounds;
mod slb;
mod slots;

use asm::Loop;
use core::panic::PanicInfo;
use core::ptr;
use hcall::{Code, Number};
use protocol::block::{Call, Mismatch, Probe};
use protocol::regs::{self, Pattern, Registers};
use protocol::{Command, Job, LoopBody, Outcome, hpte, map, private};

/// MSR bits that an interrupt doesn't copy into SRR1, but overwrites: 33 to 36 and
/// 42 to 47, counted from the left.
const SRR1_STATUS: u64 = 0x783f_0000;
/// MSR\[IR\].
const MSR_IR: u64 = 0x20;

/// The blocks that lie at fixed addresses.
fn at<T>(address: u64) -> *mut T {
	ptr::with_exposed_provenance_mut(address as usize)
}

fn outcome() -> *mut Outcome {
	at(map::OUTCOME)
}

/// Tells the VMM; it decides whether this ever returns.
fn tell(number: Number, a: u64) {
	// SAFETY: the VMM changes the command block at most, which is read volatile.
	unsafe { asm::hcall(number.0, a, 0, 0, 0) };
}

fn translated() -> bool {
	let msr: u64;
	// SAFETY: reading the MSR has no effect.
	unsafe { core::arch::asm!("mfmsr {}", out(reg) msr, options(nomem, nostack)) };
	msr & MSR_IR != 0
}

/// Code of H_REGISTER_VPA. Bits 16 to 18 of the flags choose the area: 1 is the VPA.
fn register_vpa() -> u64 {
	const VPA: u64 = 1 << (63 - 18);
	// SAFETY: the map reserves the memory of the VPA; no other code uses it.
	unsafe { asm::hcall(Number::REGISTER_VPA.0, VPA, 0, map::VPA, 0) }
}

/// The segment of a hash guest with translation on: 256 MiB, with pages of 64 KiB only. Any number
/// would do.
const VSID: u64 = 0x12_3456;
/// Pages of a hash guest, as a shift.
const HASH_PAGE_SHIFT: u64 = 16;

/// What a page of a hash guest is: bits of the second doubleword of its entry.
#[derive(Clone, Copy)]
enum Page {
	/// Reference and change; read and write for everybody.
	Memory = 0x100 | 0x80 | 0x10 | 2,
	/// The same for reading only.
	ReadOnly = 0x100 | 0x80 | 0x10 | 3,
	/// As memory, but caching inhibited and guarded.
	Device = 0x100 | 0x80 | 0x20 | 0x8 | 2,
}

/// Enters a page of the identity map into the hash page table.
fn enter_page(address: u64, page: Page) {
	enter_page_at(address, address, page);
}

/// Enters a page of guest memory at another address.
fn enter_page_at(address: u64, memory: u64, page: Page) {
	const VALID: u64 = 1;
	const LARGE: u64 = 4;
	const LP_64K: u64 = 1 << 12;
	const GROUPS: u64 = 1 << (map::HPT_ORDER - 7);
	let hash = VSID ^ (address >> HASH_PAGE_SHIFT);
	// The virtual page number without its low 23 bits, which the hash tells.
	let high = ((VSID << 28 | address) >> 23) << 7 | LARGE | VALID;
	let low = memory | LP_64K | page as u64;
	let group = (hash & (GROUPS - 1)) * 8;
	// SAFETY: the page is not translated yet, and when it is, all will find itself where it
	// was.
	let code = unsafe { asm::hcall(Number::ENTER.0, 0, group, high, low) };
	assert!(code as i64 == Code::SUCCESS.0);
}

/// Enters what rounds use besides.
fn enter_arena() {
	enter_page(map::DEVICE, Page::Device);
	// With memory of the host behind it, or the HPTE would be absent for ever: the guest may not
	// store there, and nothing else is done with the page.
	// SAFETY: a page that no other code uses.
	unsafe { ptr::read_volatile(at::<u64>(map::FRESH)) };
	enter_page_at(map::READ_ONLY, map::FRESH, Page::ReadOnly);
	for page in 0..map::TOUCH_SIZE >> HASH_PAGE_SHIFT {
		enter_page(map::TOUCH + (page << HASH_PAGE_SHIFT), Page::Memory);
	}
}

/// Makes every page ours in the hash page table, and turns translation on: an identity
/// map, and the same again at 0xc000000000000000 for interrupts (AIL = 3).
fn turn_hash_translation_on() {
	// Pages larger than 4 KiB (L), and of 64 KiB (LP = 1).
	const SLB_64K: u64 = 0x100 | 0x10;
	const SLB_VALID: u64 = 1 << 27;
	const MSR_TRANSLATION: u64 = 0x30;

	for page in 0..map::RAM >> HASH_PAGE_SHIFT {
		enter_page(page << HASH_PAGE_SHIFT, Page::Memory);
	}
	enter_page(map::MMIO_EVENT, Page::Device);
	// SAFETY: the segments hold what was there before.
	unsafe {
		core::arch::asm!(
			"slbmte {flags}, {low}",
			"slbmte {flags}, {high}",
			"isync",
			"mfmsr {msr}",
			"or {msr}, {msr}, {on}",
			"mtmsrd {msr}",
			"isync",
			flags = in(reg) VSID << 12 | SLB_64K,
			low = in(reg) SLB_VALID,
			high = in(reg) 0xc << 60 | SLB_VALID | 1,
			on = in(reg) MSR_TRANSLATION,
			msr = out(reg) _,
			options(nostack),
		);
	}
}

/// Times the loop without the round trip.
fn time_empty(body: LoopBody, state: &mut Loop) -> u64 {
	match body {
		LoopBody::TOUCH => asm::time_no_touches(state),
		// The host's timers interrupt only the other one.
		LoopBody::SPIN => asm::time_spins(state),
		LoopBody::AT_HPTE | LoopBody::ENTER | LoopBody::REMOVE => asm::time_no_hptes(state),
		LoopBody::BULK_REMOVE => asm::time_no_bulk_removes(state),
		_ => asm::time_nothing(state),
	}
}

/// Times the loop.
fn time(body: LoopBody, state: &mut Loop) -> u64 {
	// SAFETY: the cases write into their own DMA window, where no memory is, or into pages
	// that no other code uses. `bench` has announced that interrupts are expected.
	unsafe {
		match body {
			LoopBody::STORE => asm::time_stores(state),
			LoopBody::LOAD => asm::time_loads(state),
			LoopBody::TOUCH => asm::time_touches(state),
			LoopBody::CEDE => asm::time_cedes(state),
			LoopBody::SPIN => asm::time_spins(state),
			LoopBody::DOORBELL => asm::time_doorbells(state),
			LoopBody::ENTER_REMOVE => asm::time_enters(state),
			LoopBody::ENTER_PROTECT_REMOVE => asm::time_protects(state),
			LoopBody::AT_HPTE | LoopBody::ENTER | LoopBody::REMOVE => asm::time_at_hptes(state),
			LoopBody::BULK_REMOVE => asm::time_bulk_removes(state),
			_ => asm::time_hcalls(state),
		}
	}
}

/// Enters the HPTEs that a batch finds, from the first index. Returns how many hcalls failed.
fn enter_hptes(count: u64) -> u64 {
	let enter = |index: u64| {
		// SAFETY: no address that the guest uses has its hash there.
		unsafe { asm::hcall(Number::ENTER.0, hpte::EXACT, index, hpte::V, hpte::R) }
	};
	count_failed(count, enter)
}

/// Removes the HPTEs that a batch leaves. Returns how many hcalls failed.
fn remove_hptes(count: u64) -> u64 {
	// SAFETY: as above.
	let remove = |index| unsafe { asm::hcall(Number::REMOVE.0, 0, index, 0, 0) };
	count_failed(count, remove)
}

fn count_failed(count: u64, hcall: impl Fn(u64) -> u64) -> u64 {
	let indexes = hpte::FIRST..hpte::FIRST + count.min(hpte::COUNT);
	let codes = indexes.map(hcall);
	codes.filter(|&code| code as i64 != Code::SUCCESS.0).count() as u64
}

fn bench(command: &Command, outcome: &mut Outcome) {
	let waited = at::<u64>(map::SAVE + asm::save::WAITED);
	// SAFETY: the word is there and only the vectors read it.
	unsafe { ptr::write_volatile(waited, command.body.vector()) };
	for batch in 0..(command.batches as usize).min(outcome.ticks.len()) {
		let mut state = Loop {
			number: command.number,
			args: command.args,
			// Without an hcall r3 stays what it was.
			code: command.number,
			iterations: command.iterations,
			..Loop::default()
		};
		outcome.empty_ticks[batch] = time_empty(command.body, &mut state);
		outcome.mismatches += state.mismatches;
		state.code = command.code as u64;
		if command.announce != 0 {
			tell(private::BATCH, batch as u64);
		}
		let hptes = command.iterations * command.body.hptes_before();
		outcome.mismatches += enter_hptes(hptes);
		outcome.ticks[batch] = time(command.body, &mut state);
		if outcome.mismatches == 0 {
			outcome.wrong_code = state.wrong_code;
		}
		outcome.mismatches += state.mismatches;
		let hptes = command.iterations * command.body.hptes_after();
		outcome.mismatches += remove_hptes(hptes);
		outcome.last_r4 = state.last_r4;
		outcome.interrupts += state.interrupts;
		outcome.rounds += command.iterations;
	}
	// SAFETY: as above.
	unsafe { ptr::write_volatile(waited, 0) };
}

/// One set of values for every register.
fn values(pattern: &mut Pattern, number: u64, translated: bool) -> Registers {
	let mut values = [0; regs::COUNT];
	values.fill_with(|| pattern.next());
	values[3] = number;
	values[regs::CR] &= 0xffff_ffff;
	for (word, spr) in values[regs::SPR..].iter_mut().zip(regs::SPRS) {
		*word &= if translated {
			spr.mask_translated
		} else {
			spr.mask
		};
		*word |= spr.set;
	}
	values
}

/// What an hcall makes of CR. The host's system call vector has to compare before it can
/// save anything, to tell a guest's `sc 1` from one of its own, so CR0 comes back as
/// "greater" and a copy of XER\[SO\] (PAPR lets hcalls change it). The rest stays.
fn hcall_cr(cr: u64, xer: u64) -> u64 {
	const CR0: u64 = 0xf000_0000;
	const CR0_GT: u64 = 0x4000_0000;
	const CR0_SO: u64 = 0x1000_0000;
	const XER_SO: u64 = 0x8000_0000;
	cr & !CR0 | CR0_GT | if xer & XER_SO != 0 { CR0_SO } else { 0 }
}

/// Notes a register that is not what it should be.
fn differs(outcome: &mut Outcome, round: u64, register: usize, expected: u64, got: u64) {
	if outcome.mismatches == 0 {
		outcome.mismatch = Mismatch {
			register: register as u64,
			expected,
			got,
			round,
		};
	}
	outcome.mismatches += 1;
}

fn registers(command: &Command, outcome: &mut Outcome) {
	let translated = translated();
	let mut pattern = Pattern::new(command.seed);
	let (filled, got) = (at::<Registers>(map::FILL), at::<Registers>(map::GOT));
	let mut previous = [0; regs::COUNT];
	for round in 0..command.iterations {
		let slb = (command.slb != 0).then(|| slb::random(&mut pattern, translated));
		if let Some(entries) = &slb {
			// SAFETY: entries of that function.
			unsafe { slb::load(entries) };
		}
		// SAFETY: both blocks are there and only the assembly uses them besides. The masks
		// keep the payload's memory accessible, and the hcalls that rounds are made with
		// change no memory. Volatile because the assembly reads and writes them.
		let (filled, got) = unsafe {
			ptr::write_volatile(filled, values(&mut pattern, command.number, translated));
			asm::register_round();
			(ptr::read_volatile(filled), ptr::read_volatile(got))
		};
		let mut expected = filled;
		expected[3] = command.code as u64;
		expected[regs::CR] = hcall_cr(filled[regs::CR], filled[regs::XER]);
		expected[regs::CTR] = command.ctr;
		expected[regs::CFAR] = command.cfar;
		expected[regs::SRR0] = asm::after_register();
		expected[regs::SRR1] = filled[regs::MSR] & !SRR1_STATUS;
		for register in (0..regs::COUNT).filter(|&register| regs::exists(register)) {
			if round > 0 {
				outcome.varied[register] |= filled[register] ^ previous[register];
			}
			let (expected, got) = (expected[register], got[register]);
			if got != expected {
				differs(outcome, round, register, expected, got);
			}
		}
		for (index, (written, found)) in slb.into_iter().flatten().zip(slb::read()).enumerate() {
			if !written.is_kept_in(found) {
				differs(
					outcome,
					round,
					protocol::round::SLB + index,
					written.esid,
					found.esid,
				);
			}
		}
		previous = filled;
		outcome.rounds = round + 1;
	}
}

fn storm(command: &Command, outcome: &mut Outcome) -> ! {
	// SAFETY: the hcalls of a storm change no memory; the counters outlive us.
	unsafe {
		asm::storm(
			command.number,
			command.code as u64,
			&raw mut outcome.rounds,
			&raw mut outcome.mismatches,
		)
	}
}

fn probe(command: &Command, outcome: &mut Outcome) {
	let count = (command.iterations as usize).min(map::MAX_PROBES);
	for index in 0..count {
		let entry = at::<Probe>(map::PROBES).wrapping_add(index);
		// SAFETY: inside the array; no argument names memory of ours.
		unsafe {
			let number = ptr::read_volatile(&raw const (*entry).number);
			let code = asm::probe(number, Probe::first_arg(index as u64));
			ptr::write_volatile(&raw mut (*entry).code, code);
		}
		outcome.rounds += 1;
	}
}

fn calls(command: &Command, outcome: &mut Outcome) {
	let count = (command.iterations as usize).min(map::MAX_CALLS);
	for index in 0..count {
		let call = at::<Call>(map::CALLS).wrapping_add(index);
		// SAFETY: inside the array. The VMM chooses hcalls that write only to the two
		// registers, to DMA windows and to parts of the page table that the payload does not use.
		// By these the VMM has stored and loaded what the payload does not use either.
		unsafe {
			let [a, b, ..] = ptr::read_volatile(&raw const (*call).args);
			match Number(ptr::read_volatile(&raw const (*call).number)) {
				private::SET_SEGMENT => slb::set(a, b),
				private::LOAD => {
					ptr::write_volatile(&raw mut (*call).r4, asm::load_translated(a));
				}
				private::STORE => asm::store_translated(a, b),
				_ => asm::call(call),
			}
		}
		outcome.rounds += 1;
	}
}

fn claim_pmu(outcome: &mut Outcome) {
	let in_use = at::<u8>(map::VPA + map::VPA_PMCREGS_IN_USE);
	// SAFETY: a byte of the VPA that is for us to write, and a word of memory that nothing else uses. The
	// host has no page there, so KVM switches the PMU before the registers are read, and the asm must not
	// move across the store. Reading the registers has no effect.
	let (mmcr0, pmc6): (u64, u64) = unsafe {
		in_use.write_volatile(1);
		at::<u64>(map::FRESH).write_volatile(map::FRESH_VALUE);
		let (mmcr0, pmc6);
		core::arch::asm!("mfspr {}, 795", out(reg) mmcr0, options(nostack));
		core::arch::asm!("mfspr {}, 792", out(reg) pmc6, options(nostack));
		(mmcr0, pmc6)
	};
	tell(private::UNKNOWN, mmcr0 | pmc6 << 32);
	// SAFETY: as above.
	unsafe { in_use.write_volatile(0) };
	outcome.rounds = 1;
}

fn problem_state(command: &Command, outcome: &mut Outcome) {
	// SAFETY: the VMM gives this job to translated guests only; the save area is the
	// assembly's.
	unsafe {
		asm::problem_state_hcall(command.number);
		let srr = at::<u64>(map::SAVE + asm::save::SRR);
		outcome.srr0 = ptr::read_volatile(srr).wrapping_sub(asm::after_problem_state());
		outcome.srr1 = ptr::read_volatile(srr.add(1));
	}
	outcome.rounds = 1;
}

#[unsafe(no_mangle)]
extern "C" fn main(hash_translation: u64) -> ! {
	if hash_translation != 0 {
		turn_hash_translation_on();
	}
	let vpa = register_vpa();
	let mut needs_arena = hash_translation != 0;
	loop {
		// SAFETY: the block is there, and the VMM writes it only while we wait in `tell`.
		let command = unsafe { ptr::read_volatile(at::<Command>(map::COMMAND)) };
		// SAFETY: the block is there; the VMM reads it only while we are not running,
		// or single counters of a storm.
		let outcome = unsafe { &mut *outcome() };
		*outcome = Outcome {
			status: Outcome::RUNNING,
			rounds: 0,
			mismatches: 0,
			wrong_code: vpa,
			last_r4: 0,
			mismatch: Mismatch::default(),
			srr0: 0,
			srr1: 0,
			empty_ticks: [0; protocol::block::MAX_BATCHES],
			ticks: [0; protocol::block::MAX_BATCHES],
			varied: [0; regs::COUNT],
			interrupts: 0,
		};
		let mut status = Outcome::OK;
		if vpa as i64 != Code::SUCCESS.0 {
			status = Outcome::NO_VPA;
		} else {
			match command.job {
				Job::BENCH => bench(&command, outcome),
				Job::REGISTERS => registers(&command, outcome),
				Job::STORM => storm(&command, outcome),
				Job::PROBE => probe(&command, outcome),
				Job::PROBLEM => problem_state(&command, outcome),
				Job::TRAP => asm::trap(),
				Job::CALLS => calls(&command, outcome),
				Job::CLAIM_PMU => claim_pmu(outcome),
				Job::ROUNDS => {
					rounds::run(&command, outcome, core::mem::take(&mut needs_arena));
				}
				_ => status = Outcome::UNKNOWN_JOB,
			}
		}
		outcome.status = status;
		tell(private::DONE, status);
	}
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
	let line = info.location().map_or(0, |location| location.line());
	loop {
		tell(private::PANIC, u64::from(line));
	}
}
