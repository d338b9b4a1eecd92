// SPDX-License-Identifier: GPL-2.0-only
//! A VM with the payload in it.
//!
//! The translated guest gets its process table and radix tree from us, so that it
//! runs with translation on from its first instruction. The tree is an identity map
//! of all its memory in 2 MiB pages, open to problem state too. Effective addresses
//! of quadrant 3 (0xc...) use the same tree, as both use PID 0: that is where AIL = 3
//! puts the interrupt vectors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use powerpc::{Lpcr, Msr};
use proto::{Command, Guest, Job, Outcome, map, private};

use crate::kvm::{Exit, Vcpu, VectorRegs, Vm, Window};
use crate::{abi, elf, kvm, timer};

/// Where the payload is in the initramfs.
const PAYLOAD: &str = "/guest";

/// What a guest kernel runs with.
const MSR_REAL: Msr = Msr::SF.union(Msr::ME).union(Msr::RI).union(Msr::LE);
/// With instruction and data translation.
const MSR_TRANSLATED: Msr = MSR_REAL.union(Msr::IR).union(Msr::DR);

/// What a machine is to be like.
#[derive(Clone, Copy)]
pub struct Config<'a> {
	/// Translation.
	pub guest: Guest,
	/// Hcalls to enable.
	pub enable: &'a [Number],
	/// Create the DMA window of the TCE cases.
	pub window: bool,
}

/// Why there is no result.
#[derive(Debug)]
pub enum Failure {
	/// The kernel lacks something.
	Unsupported(String),
	/// Something is wrong.
	Wrong(String),
}

impl From<std::io::Error> for Failure {
	fn from(error: std::io::Error) -> Self {
		Self::Wrong(error.to_string())
	}
}

impl From<String> for Failure {
	fn from(why: String) -> Self {
		Self::Wrong(why)
	}
}

/// An hcall that ended in userspace.
pub type Call = (Number, [u64; 9]);

/// A VM with the payload in it.
// The order of the fields is the order in which they are dropped.
pub struct Machine {
	vcpu: Vcpu,
	_window: Option<Window>,
	vm: Vm,
}

impl Machine {
	/// Builds one, ready to run its first command.
	pub fn new(config: Config<'_>) -> Result<Self, Failure> {
		let vm = Vm::new(map::RAM)?;
		for &number in config.enable {
			vm.enable_hcall(number).map_err(|e| {
				if kvm::is_unsupported(&e) {
					let number = number.0;
					Failure::Unsupported(format!("this kernel has no hcall {number:#x} to enable"))
				} else {
					e.into()
				}
			})?;
		}
		let file = std::fs::read(PAYLOAD).map_err(|e| format!("reading {PAYLOAD}: {e}"))?;
		let pc = elf::load(&file, &vm.memory)?;
		let vpa_size = map::VPA_SIZE.to_be_bytes();
		vm.memory
			.write_bytes(map::VPA + map::VPA_SIZE_OFFSET, &vpa_size);
		let mut lpcr = Lpcr::ILE;
		let mut msr = MSR_REAL;
		if config.guest == Guest::Radix {
			write_tables(&vm);
			vm.set_process_table(map::PROCESS_TABLE)?;
			lpcr |= Lpcr::AIL_3;
			msr = MSR_TRANSLATED;
		}
		let window = if config.window {
			for index in 0..512 {
				vm.memory
					.write(map::TCE_LIST + 8 * index, proto::Case::tce(index).to_be());
			}
			Some(vm.create_window(&abi::SpaprTce64 {
				liobn: map::LIOBN,
				page_shift: map::TCE_SHIFT,
				flags: 0,
				offset: 0,
				size: map::TCE_PAGES,
			})?)
		} else {
			None
		};
		let vcpu = vm.create_vcpu(0)?;
		vcpu.enable_papr()?;
		vcpu.set_lpcr(lpcr.bits())?;
		vcpu.set_regs(&abi::Regs {
			pc,
			msr: msr.bits(),
			..abi::Regs::default()
		})?;
		Ok(Self {
			vcpu,
			_window: window,
			vm,
		})
	}

	/// Guest memory.
	pub fn memory(&self) -> &Arc<kvm::Memory> {
		&self.vm.memory
	}

	/// The VM, for giving it more than [`Config`] can say.
	pub fn vm(&self) -> &Vm {
		&self.vm
	}

	/// Lets the guest do `command`, and answers H_FUNCTION to every hcall of its that
	/// comes here, `seen` having looked at it.
	pub fn perform(
		&mut self,
		command: Command,
		limit: Duration,
		mut seen: impl FnMut(Call),
	) -> Result<Outcome, Failure> {
		self.start(command);
		let end = Instant::now() + limit;
		let _alarm = timer::Timer::every(Duration::from_millis(200), limit)?;
		loop {
			match self.step()? {
				Step::Done(outcome) => return Ok(*outcome),
				Step::Call(call) => seen(call),
				Step::Interrupted if Instant::now() >= end => {
					let rounds = self.outcome().rounds;
					return Err(Failure::Wrong(format!(
						"the guest isn't done after {} s (rounds so far: {rounds})",
						limit.as_secs()
					)));
				}
				Step::Interrupted => {}
			}
		}
	}

	/// Gives the guest a command. Only between commands.
	pub fn start(&mut self, command: Command) {
		assert!(command.job != Job::default(), "no job");
		self.vm.memory.write(map::COMMAND, command);
	}

	/// The outcome so far.
	pub fn outcome(&self) -> Outcome {
		self.vm.memory.read(map::OUTCOME)
	}

	/// Runs once, with `before` in our own vector registers. Says whether a signal ended
	/// it, and what was in them then.
	pub fn step_with(&mut self, before: &VectorRegs) -> Result<(bool, VectorRegs), Failure> {
		let (exit, after) = self.vcpu.run_with(before)?;
		Ok((matches!(exit, Exit::Interrupted), after))
	}

	/// Runs until something happens.
	pub fn step(&mut self) -> Result<Step, Failure> {
		let (number, args) = match self.vcpu.run()? {
			Exit::Hcall(number, args) => (number, args),
			Exit::Interrupted => return Ok(Step::Interrupted),
			Exit::Other(reason) => {
				return Err(Failure::Wrong(format!(
					"KVM_RUN ended with exit reason {reason}"
				)));
			}
		};
		match number {
			private::DONE => {
				self.vcpu.answer(Code::SUCCESS);
				let outcome = self.outcome();
				match outcome.status {
					Outcome::OK => Ok(Step::Done(Box::new(outcome))),
					Outcome::NO_VPA => Err(Failure::Wrong(format!(
						"H_REGISTER_VPA answered {}",
						outcome.wrong_code as i64
					))),
					status => Err(Failure::Wrong(format!("the guest's status is {status}"))),
				}
			}
			private::EXCEPTION => Err(Failure::Wrong(format!(
				"the guest took exception {:#x}: SRR0 {:#x} SRR1 {:#x} DAR {:#x} DSISR {:#x}",
				args[0], args[1], args[2], args[3], args[4]
			))),
			private::PANIC => Err(Failure::Wrong(format!(
				"the guest panicked in line {}",
				args[0]
			))),
			_ => {
				self.vcpu.answer(Code::FUNCTION);
				Ok(Step::Call((number, args)))
			}
		}
	}
}

/// What happened.
pub enum Step {
	/// The command is done.
	Done(Box<Outcome>),
	/// The guest did an hcall that KVM didn't handle; it gets H_FUNCTION.
	Call(Call),
	/// A signal came.
	Interrupted,
}

/// The process table and the tree below its entry 0.
fn write_tables(vm: &Vm) {
	const VALID: u64 = 1 << 63;
	const LEAF: u64 = 1 << 62;
	// Reference and change, and read, write and execute for everybody.
	const LEAF_BITS: u64 = 0x100 | 0x80 | 0x4 | 0x2 | 0x1;
	// A tree for 52 bits (split in two fields: 21 = 52 - 31), whose root has 13 of them.
	const RTS_52: u64 = (21 >> 3) << 61 | (21 & 7) << 5;
	const ROOT_BITS: u64 = 13;
	const LEVEL_BITS: u64 = 9;
	const LEAF_SIZE: u64 = 2 << 20;
	let entry = |address: u64, value: u64| vm.memory.write(address, value.to_be());
	entry(map::PROCESS_TABLE, RTS_52 | map::RADIX_ROOT | ROOT_BITS);
	entry(map::PROCESS_TABLE + 8, 0);
	entry(map::RADIX_ROOT, VALID | map::RADIX_PUD | LEVEL_BITS);
	entry(map::RADIX_PUD, VALID | map::RADIX_PMD | LEVEL_BITS);
	for index in 0..map::RAM / LEAF_SIZE {
		entry(
			map::RADIX_PMD + 8 * index,
			VALID | LEAF | (index * LEAF_SIZE) | LEAF_BITS,
		);
	}
}
