// SPDX-License-Identifier: GPL-2.0-only
//! A hostile VMM.
//!
//! Random values go into a vcpu by KVM_SET_REGS, KVM_SET_SREGS and KVM_SET_ONE_REG: every
//! register that the kernel's header has, with values that are most likely to hurt. Then
//! it is run. Each case is done with two new VMs, one on the C path and one on the Rust
//! path, and every answer is written down: errors, values read back, exits. The two lists
//! must be the same, and the kernel must not complain.
//!
//! The guest's memory is full of `sc 1`, at every vector and where it starts, so that
//! nearly everything that can happen to it ends in an hcall soon, and says by the
//! registers where. What doesn't is ended by a signal.

use std::fmt::Write;
use std::time::Duration;

use hcall::Code;
use protocol::Column;
use protocol::regs::Pattern;

use crate::kmsg::Kmsg;
use vmm::abi::{
	KVM_REG_PPC_DEC_EXPIRY, KVM_REG_PPC_TB_OFFSET, KVM_REG_PPC_U32, KVM_REG_PPC_U64,
	KVM_REG_PPC_U128, Regs,
};
use vmm::host;
use vmm::kvm::{Exit, Vcpu, Vm};
use vmm::machine::Failure;
use vmm::timer::Timer;

/// Rounds of a register test in whose time a case is done.
pub const ROUNDS_OF_CASE: u64 = 10;

const RAM: u64 = 1 << 20;
/// Where the guest starts, most of the time.
const START: u64 = 0x1_0000;
/// Cases in the same VMs, as to end a VM takes the kernel long. A VM has no more vcpus than
/// the kernel may have CPUs, which is 8.
const CASES_OF_VM: u64 = 8;
/// What a run may take.
const RUN: Duration = Duration::from_micros(400);

/// LPCR: where interrupts arrive.
const AIL: u128 = 0x0180_0000;

/// Every register of asm/kvm.h, and some that aren't.
fn ids() -> Vec<u64> {
	const TM: u64 = 0x8000_0000;
	let plain = (0x01..=0xca_u64).map(|number| {
		let size = match number {
			0xd
			| 0x18..=0x1f
			| 0x81
			| 0x85..=0x8b
			| 0x9d
			| 0x9e
			| 0xa4
			| 0xb4
			| 0xb7
			| 0xb8
			| 0xbb
			| 0xbf => KVM_REG_PPC_U32,
			0x40..=0x7f | 0x83 | 0x84 | 0x8d => KVM_REG_PPC_U128,
			_ => KVM_REG_PPC_U64,
		};
		size | number
	});
	let tm = (0..=0x6b_u64).map(|number| {
		let size = match number {
			0x20..=0x5f => KVM_REG_PPC_U128,
			0x67 => KVM_REG_PPC_U32,
			_ => KVM_REG_PPC_U64,
		};
		size | TM | number
	});
	// LPCR has two sizes.
	plain.chain([KVM_REG_PPC_U32 | 0xb5]).chain(tm).collect()
}

/// Registers that matter to the entry path, so that they are tried more often: LPCR, TB
/// offset, DEC, VPA, PTCR, compatibility mode, DAWR, DAWRX, CIABR, PSSCR, PID, TM SPRs,
/// AMR, IAMR, FSCR, DPDES, CTRL's neighbours, PPR.
const OFTEN: [u64; 22] = [
	KVM_REG_PPC_U64 | 0xb5,
	KVM_REG_PPC_TB_OFFSET,
	KVM_REG_PPC_DEC_EXPIRY,
	KVM_REG_PPC_U64 | 0x82,
	KVM_REG_PPC_U128 | 0x83,
	KVM_REG_PPC_U128 | 0x84,
	KVM_REG_PPC_U64 | 0xc0,
	KVM_REG_PPC_U32 | 0xb7,
	KVM_REG_PPC_U64 | 0xaa,
	KVM_REG_PPC_U64 | 0xab,
	KVM_REG_PPC_U64 | 0xac,
	KVM_REG_PPC_U64 | 0xbd,
	KVM_REG_PPC_U64 | 0xb2,
	KVM_REG_PPC_U64 | 0xa0,
	KVM_REG_PPC_U64 | 0xa2,
	KVM_REG_PPC_U64 | 0x0e,
	KVM_REG_PPC_U64 | 0x9f,
	KVM_REG_PPC_U64 | 0xa3,
	KVM_REG_PPC_U64 | 0xa9,
	KVM_REG_PPC_U64 | 0xb6,
	KVM_REG_PPC_U64 | 0xae,
	KVM_REG_PPC_U64 | 0x10,
];

/// Does its value depend on when it is read? DEC_EXPIRY, IC, VTB, PURR, SPURR; once the
/// guest ran, what a PMU that it may have set off changes.
fn is_clock(id: u64, ran: bool) -> bool {
	match id & 0xffff_ffff {
		0xbe | 0xad | 0xae | 0xa | 0xb => true,
		0x10..=0x1f => ran,
		_ => false,
	}
}

/// A source of values that hurt.
struct Random(Pattern);

impl Random {
	fn below(&mut self, limit: u64) -> u64 {
		self.0.next() % limit
	}

	fn of<T: Copy>(&mut self, choice: &[T]) -> T {
		choice[self.below(choice.len() as u64) as usize]
	}

	fn value(&mut self) -> u64 {
		let random = self.0.next();
		match self.below(10) {
			0 => 0,
			1 => u64::MAX,
			2 => 1 << (random & 63),
			3 => !(1 << (random & 63)),
			4 => random & 0xffff,
			// In memory, at its end, behind it.
			5 => random % (2 * RAM),
			6 => RAM - 8 + random % 16,
			// The kernel's.
			7 => 0xc000_0000_0000_0000 | random >> 16,
			8 => i64::MIN as u64 ^ (random & 1),
			_ => random,
		}
	}

	/// MSR: all sorts of it, but mostly such that something of the guest runs.
	fn msr(&mut self) -> u64 {
		const USUAL: u64 = 0x8000_0000_0000_1003;
		match self.below(6) {
			0 => self.value(),
			1 => USUAL | self.value(),
			// [HV], [TS], [TM] and [PR].
			2 => USUAL | self.of(&[1 << 60, 1 << 33, 2 << 33, 3 << 33, 1 << 32, 0x4000]),
			3 => USUAL | (3 << 33 | 1 << 32 | 1 << 60),
			// Translation without tables; floating point.
			4 => USUAL | self.of(&[0x30, 0x20, 0x10, 0x280_2000, 0x8000]),
			_ => USUAL ^ 1 << self.below(64),
		}
	}
}

/// A vcpu, and what it said so far.
struct Side {
	vcpu: Vcpu,
	answers: String,
	ran: bool,
	/// The guest was stopped somewhere: where is a matter of time.
	lost: bool,
}

/// A step, drawn once and done on both sides.
enum Op {
	One(u64, u128),
	Regs(Box<Regs>),
	Sregs(u64),
	Run(i64),
}

/// A VM whose memory is full of hcalls.
fn new_vm(radix: bool) -> Result<Vm, Failure> {
	// `sc 1` and, once it is answered, again.
	const STUB: [u32; 2] = [0x4400_0022, 0x4bff_fffc];
	let vm = Vm::new(RAM)?;
	let vectors = (0..0x5000).step_by(0x20);
	for address in vectors.chain([START]) {
		let stub = u64::from(STUB[1]) << 32 | u64::from(STUB[0]);
		vm.memory.write(address, stub);
	}
	if radix {
		// A table of zeroes: nothing is mapped.
		vm.set_process_table(0x2_0000)?;
	}
	Ok(vm)
}

impl Side {
	fn new(vm: &Vm, id: u64) -> Result<Self, Failure> {
		let vcpu = vm.create_vcpu(id)?;
		vcpu.enable_papr()?;
		vcpu.set_regs(&Regs {
			pc: START,
			msr: 0x8000_0000_0000_1003,
			..Regs::default()
		})?;
		Ok(Self {
			vcpu,
			answers: String::new(),
			ran: false,
			lost: false,
		})
	}

	fn say(&mut self, text: std::fmt::Arguments<'_>) {
		self.answers
			.write_fmt(format_args!("{text}\n"))
			.expect("a string takes everything");
	}

	fn read(&mut self, id: u64) {
		match self.vcpu.one_reg(id) {
			Ok(_) if is_clock(id, self.ran) => self.say(format_args!("{id:#x} is a clock")),
			Ok(value) => self.say(format_args!("{id:#x} is {value:#x}")),
			Err(e) => self.say(format_args!(
				"{id:#x} can't be read: {:?}",
				e.raw_os_error()
			)),
		}
	}

	fn done(&mut self, what: &str, result: std::io::Result<()>) {
		let errno = result.err().map(|e| e.raw_os_error());
		self.say(format_args!("{what}: {errno:?}"));
	}

	fn perform(&mut self, op: &Op) -> Result<(), Failure> {
		match op {
			Op::One(id, value) => {
				let result = self.vcpu.set_one_reg(*id, *value);
				self.done(&format!("{id:#x} = {value:#x}"), result);
				self.read(*id);
			}
			Op::Regs(regs) => {
				let result = self.vcpu.set_regs(regs);
				self.done(&format!("registers with MSR {:#x}", regs.msr), result);
				let back = self.vcpu.regs()?;
				self.say(format_args!("{back:x?}"));
			}
			Op::Sregs(seed) => {
				let mut random = Random(Pattern::new(*seed));
				let mut sregs = self.vcpu.sregs()?;
				if random.below(4) == 0 {
					sregs.0[0] = random.value();
				}
				for word in &mut sregs.0[3..131] {
					*word = random.value();
				}
				let result = self.vcpu.set_sregs(&sregs);
				self.done("special registers", result);
				let back = self.vcpu.sregs()?;
				self.say(format_args!("{back:x?}"));
			}
			Op::Run(code) => {
				let _timer = Timer::every(RUN, RUN)?;
				let exit = self.vcpu.run();
				self.ran = true;
				match exit {
					Ok(Exit::Hcall(number, args)) => {
						self.say(format_args!("hcall {:#x} {args:x?}", number.0));
						self.vcpu.answer(Code(*code));
					}
					Ok(Exit::Mmio(mmio)) => {
						self.say(format_args!("{mmio:x?}"));
						self.vcpu.answer_load((*code as u64).to_le_bytes());
					}
					Ok(Exit::Interrupted) => {
						self.say(format_args!("interrupted"));
						self.lost = true;
					}
					Ok(Exit::Fault) => self.say(format_args!("KVM_RUN: EFAULT")),
					Ok(Exit::Other(reason)) => self.say(format_args!("exit reason {reason}")),
					Err(e) => self.say(format_args!("KVM_RUN: {:?}", e.raw_os_error())),
				}
			}
		}
		Ok(())
	}
}

/// What a case does.
fn ops(random: &mut Random, ids: &[u64]) -> Vec<Op> {
	let mut ops = vec![];
	for _ in 0..1 + random.below(8) {
		ops.push(match random.below(8) {
			0 | 1 => {
				let mut regs = Regs {
					pc: START,
					msr: random.msr(),
					cr: random.value(),
					ctr: random.value(),
					lr: random.value(),
					xer: random.value(),
					srr0: random.value(),
					srr1: random.value(),
					pid: random.value(),
					sprg: std::array::from_fn(|_| random.value()),
					gpr: std::array::from_fn(|_| random.value()),
				};
				if random.below(8) == 0 {
					regs.pc = random.value();
				}
				// An hcall for userspace, mostly: others may do anything.
				regs.gpr[3] = 0xf1ec;
				Op::Regs(Box::new(regs))
			}
			2 => Op::Sregs(random.0.next()),
			kind => {
				let id = if kind <= 5 {
					random.of(&OFTEN)
				} else {
					random.of(ids)
				};
				let value = value(random);
				// Without AIL: an interrupt whose handler can't be fetched is one after the
				// other without an instruction, and where instructions are what makes time go
				// on, no signal ever ends that.
				let mask = if id & 0xffff_ffff == 0xb5 { AIL } else { 0 };
				Op::One(id, value & !mask)
			}
		});
	}
	for _ in 0..1 + random.below(3) {
		ops.push(Op::Run(random.value() as i64));
	}
	ops
}

fn value(random: &mut Random) -> u128 {
	u128::from(random.value()) << 64 | u128::from(random.value())
}

/// One case on one path, with a new vcpu: all answers, and whether it had to be stopped.
fn perform(
	path: Column,
	vm: &Vm,
	id: u64,
	ops: &[Op],
	ids: &[u64],
) -> Result<(String, bool), Failure> {
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut side = Side::new(vm, id)?;
	for op in ops {
		side.perform(op)?;
		if side.lost {
			return Ok((side.answers, true));
		}
	}
	for &id in ids {
		side.read(id);
	}
	let regs = side.vcpu.regs()?;
	side.say(format_args!("{regs:x?}"));
	let sregs = side.vcpu.sregs()?;
	side.say(format_args!("{sregs:x?}"));
	Ok((side.answers, false))
}

/// The first line that differs.
fn difference(c: &str, rust: &str) -> String {
	let mut lines = c.lines().zip(rust.lines());
	match lines.find(|(c, rust)| c != rust) {
		Some((c, rust)) => format!("\"{rust}\" instead of \"{c}\""),
		None => format!(
			"{} answers instead of {}",
			rust.lines().count(),
			c.lines().count()
		),
	}
}

/// The same cases on both paths.
pub fn differential(path: Column, seed: u64, cases: u64) -> Result<String, Failure> {
	let ids = ids();
	let mut kmsg = Kmsg::from_now()?;
	let (mut hcalls, mut lost, mut refused, mut unsteady) = (0, 0, 0, 0);
	let mut random = Random(Pattern::new(seed));
	let mut vms = None;
	for case in 0..cases {
		let id = case % CASES_OF_VM;
		let radix = (case / CASES_OF_VM).is_multiple_of(2);
		if id == 0 {
			drop(vms.take());
		}
		let [vm_c, vm_rust] = match &vms {
			Some(vms) => vms,
			None => vms.insert([new_vm(radix)?, new_vm(radix)?]),
		};
		let ops = ops(&mut random, &ids);
		let told = |why: String| Failure::Wrong(format!("case {case} of --seed {seed}: {why}"));
		// To read all takes longer than the rest.
		let ids = if id == 0 { &ids[..] } else { &OFTEN };
		let of_c = perform(Column::C, vm_c, id, &ops, ids)?;
		let complaints = kmsg.complaints()?;
		if !complaints.is_empty() {
			let ops = of_c.0.lines().take(2 * ops.len()).collect::<Vec<_>>();
			return Err(told(format!(
				"on the C path the kernel says {complaints:?} after {ops:?}"
			)));
		}
		let of_rust = perform(path, vm_rust, id, &ops, ids)?;
		let complaints = kmsg.complaints()?;
		if !complaints.is_empty() {
			let ops = of_rust.0.lines().take(2 * ops.len()).collect::<Vec<_>>();
			return Err(told(format!(
				"the kernel says {complaints:?} after {ops:?}"
			)));
		}
		if of_c != of_rust {
			// Is it a matter of time on one path alone? In VMs of their own, as vcpus of
			// one VM share some of it.
			let mut seen = [vec![], vec![]];
			for _ in 0..3 {
				for (path, seen) in [Column::C, path].into_iter().zip(&mut seen) {
					seen.push(perform(path, &new_vm(radix)?, 0, &ops, ids)?);
				}
			}
			let [of_c_again, of_rust_again] = seen;
			let agreed = of_c_again.iter().any(|c| of_rust_again.contains(c));
			let steady = [&of_c_again, &of_rust_again]
				.iter()
				.all(|seen| seen.iter().all(|one| *one == seen[0]));
			if steady || !agreed {
				return Err(told(difference(&of_c.0, &of_rust.0)));
			}
			unsteady += 1;
		}
		hcalls += of_c.0.matches("\nhcall ").count();
		refused += of_c.0.matches(": Some(").count();
		lost += u64::from(of_c.1);
	}
	let what = format!(
		"{cases} cases: {hcalls} hcalls, {lost} guests stopped by a signal, {refused} requests \
		 refused, {unsteady} differ from time to time on one path alone"
	);
	// Tests that nothing passes through would pass as well.
	if hcalls < cases as usize / 2 || refused == 0 || unsteady > cases / 50 {
		return Err(Failure::Wrong(what));
	}
	Ok(what)
}
