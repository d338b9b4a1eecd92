// SPDX-License-Identifier: GPL-2.0-only
//! A VM with the payload in it.
//!
//! The translated guest gets its process table and radix tree from us, so that it
//! runs with translation on from its first instruction. The tree is an identity map
//! of all its memory, and of a device, in 2 MiB pages, open to problem state too. Effective
//! addresses of quadrant 3 (0xc...) use the same tree, as both use PID 0: that is where AIL = 3
//! puts the interrupt vectors. The hash guest with translation on starts in real mode and
//! makes its map itself: its page table is the hypervisor's.
//!
//! A machine can have a second vcpu, its [`Peer`], which runs in a thread of its own and
//! answers doorbells.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use hcall::{Code, Number};
use powerpc::{Lpcr, Msr};
use protocol::block::{Contender, Turns};
use protocol::slots::Storm;
use protocol::{Command, GuestMode, Job, Outcome, map, private};

use crate::kvm::{Controller, Exit, TceWindow, Vcpu, VectorRegs, Vm};
use crate::user_regs::UserRegs;
use crate::{abi, elf, kvm, timer};

mod hammer;

/// What a guest that is to turn hash translation on finds in r4.
const TURN_ON: u64 = 1;

/// Where the payload is: in the folder in which the program starts.
const PAYLOAD: &str = "guest";

/// What a guest kernel runs with.
const MSR_REAL: Msr = Msr::SF.union(Msr::ME).union(Msr::RI).union(Msr::LE);
/// With instruction and data translation.
const MSR_TRANSLATED: Msr = MSR_REAL.union(Msr::IR).union(Msr::DR);

/// What is above the stack pointer of a vcpu that begins in Rust code: room for what a callee saves
/// in the frame of its caller.
const STACK_FRAME: u64 = 256;

/// What a machine is to be like.
#[derive(Clone, Copy)]
pub struct Config<'a> {
	/// Translation.
	pub guest: GuestMode,
	/// Hcalls to enable.
	pub enable: &'a [Number],
	/// Create the DMA window of the TCE cases.
	pub window: bool,
}

/// A hash guest is made for this.
fn is_translated(guest: GuestMode) -> bool {
	matches!(guest, GuestMode::Radix | GuestMode::Hash)
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
	window: Option<TceWindow>,
	pc: u64,
	guest: GuestMode,
	/// Before the VM: it is removed first.
	controller: Option<OwnedFd>,
	vm: Vm,
}

impl Machine {
	/// Builds one, ready to run its first command.
	pub fn new(config: Config<'_>) -> Result<Self, Failure> {
		Self::with_threads(config, 1)
	}

	/// The same, with another vcpu that was created before its own, and does not run.
	pub fn after_other(config: Config<'_>, id: u64) -> Result<(Self, Vcpu), Failure> {
		let mut other = None;
		let machine = Self::build(config, 1, |vm| {
			other = Some(vm.create_vcpu(id)?);
			Ok(())
		})?;
		let other = other.expect("it was created");
		other.enable_papr()?;
		Ok((machine, other))
	}

	/// The same, with a second vcpu on the same core.
	pub fn with_peer(config: Config<'_>) -> Result<(Self, Peer), Failure> {
		let machine = Self::with_threads(config, 2)?;
		let vcpu = machine.vm.create_vcpu(1)?;
		let mut regs = machine.prepare(&vcpu, 1)?;
		// In real mode: it has no tables if the guest is a hash guest, and in a radix
		// guest it doesn't need its own.
		regs.gpr[3] = Number::REGISTER_VPA.0;
		regs.gpr[4] = VPA_AREA;
		regs.gpr[5] = 1;
		regs.gpr[6] = map::PEER_VPA;
		regs.gpr[20] = protocol::loop_body::doorbell(0);
		vcpu.set_regs(&regs)?;
		let vpa_size = map::VPA_SIZE.to_be_bytes();
		let size_at = map::PEER_VPA + map::VPA_SIZE_OFFSET;
		machine.vm.memory.write_bytes(size_at, &vpa_size);
		Ok((machine, Peer(vcpu)))
	}

	fn with_threads(config: Config<'_>, threads: u64) -> Result<Self, Failure> {
		Self::build(config, threads, |_| Ok(()))
	}

	/// `before` is called before the first vcpu is created.
	fn build(
		config: Config<'_>,
		threads: u64,
		before: impl FnOnce(&Vm) -> Result<(), Failure>,
	) -> Result<Self, Failure> {
		let vm = Vm::new(map::RAM)?;
		for &number in config.enable {
			vm.set_hcall(number, true).map_err(|e| {
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
		match config.guest {
			GuestMode::Radix => {
				write_tables(&vm);
				vm.set_process_table(map::PROCESS_TABLE)?;
			}
			GuestMode::Hash | GuestMode::HashReal => vm.set_hash(map::HPT_ORDER)?,
			// A VM is a radix guest from the start.
			GuestMode::Real => {}
			GuestMode::Host => return Err(Failure::Unsupported("that is no guest".to_owned())),
		}
		if threads > 1 {
			vm.set_threads(threads)?;
		}
		let window = if config.window {
			for index in 0..512 {
				vm.memory
					.write(map::TCE_LIST + 8 * index, map::tce(index).to_be());
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
		before(&vm)?;
		let vcpu = vm.create_vcpu(0)?;
		let machine = Self {
			vcpu,
			window,
			pc,
			guest: config.guest,
			controller: None,
			vm,
		};
		let mut regs = machine.prepare(&machine.vcpu, 0)?;
		if config.guest == GuestMode::Hash {
			regs.gpr[4] = TURN_ON;
		}
		machine.vcpu.set_regs(&regs)?;
		Ok(machine)
	}

	/// Gives the machine an interrupt controller. Its vcpu must not have run.
	pub fn add_controller(&mut self, kind: Controller) -> Result<(), Failure> {
		self.create_controller(kind)?;
		self.connect(kind)
	}

	/// The first half of that.
	pub fn create_controller(&mut self, kind: Controller) -> Result<(), Failure> {
		self.controller = Some(self.vm.create_controller(kind)?);
		Ok(())
	}

	/// The second half.
	pub fn connect(&self, kind: Controller) -> Result<(), Failure> {
		Ok(self.vcpu.connect(kind, self.controller()?, 0)?)
	}

	/// A vcpu that is a server of the interrupt controller, and does not run.
	pub fn connect_other(&self, kind: Controller, server: u64) -> Result<Vcpu, Failure> {
		let vcpu = self.vm.create_vcpu(server)?;
		vcpu.enable_papr()?;
		vcpu.connect(kind, self.controller()?, server)?;
		Ok(vcpu)
	}

	/// The interrupt controller, which is removed with the result.
	pub fn take_controller(&mut self) -> Option<OwnedFd> {
		self.controller.take()
	}

	/// The interrupt controller.
	pub fn controller(&self) -> Result<&OwnedFd, Failure> {
		let none = || Failure::Wrong("no interrupt controller".into());
		self.controller.as_ref().ok_or_else(none)
	}

	/// Sets a source of the interrupt controller: KVM_DEV_XICS_GRP_SOURCES.
	pub fn set_source(&self, irq: u64, state: u64) -> Result<(), Failure> {
		Ok(kvm::set_source(self.controller()?, irq, state)?)
	}

	/// Its state. KVM masks all sources for that, and unmasks them.
	pub fn source(&self, irq: u64) -> Result<u64, Failure> {
		Ok(kvm::source(self.controller()?, irq)?)
	}

	/// A device sends an interrupt, or sets the level of a level-sensitive one.
	pub fn set_irq(&self, irq: u64, level: bool) -> Result<(), Failure> {
		Ok(self.vm.set_irq(irq as u32, level)?)
	}

	/// Makes a vcpu one of this machine's; says what registers it starts with.
	fn prepare(&self, vcpu: &Vcpu, id: u64) -> Result<abi::Regs, Failure> {
		let mut lpcr = Lpcr::ILE;
		if is_translated(self.guest) {
			lpcr |= Lpcr::AIL_3;
		}
		let msr = if self.guest == GuestMode::Radix && id == 0 {
			MSR_TRANSLATED
		} else {
			MSR_REAL
		};
		vcpu.enable_papr()?;
		vcpu.set_lpcr(lpcr.bits())?;
		Ok(abi::Regs {
			pc: self.pc,
			msr: msr.bits(),
			..abi::Regs::default()
		})
	}

	/// Lets KVM handle an hcall, or has KVM pass it to userspace.
	pub fn set_hcall(&self, number: Number, in_kernel: bool) -> Result<(), Failure> {
		Ok(self.vm.set_hcall(number, in_kernel)?)
	}

	/// Guest memory.
	pub fn memory(&self) -> &Arc<kvm::Memory> {
		&self.vm.memory
	}

	/// The vcpu.
	pub fn vcpu(&mut self) -> &mut Vcpu {
		&mut self.vcpu
	}

	/// Another vcpu, which does TCE hcalls and nothing else, as the block for it says.
	pub fn contend(&self, id: u64, block: Contender) -> Result<Vcpu, Failure> {
		let address = map::CONTENDERS + id * map::CONTENDER_SIZE;
		self.vm.memory.write(address, block);
		self.other_vcpu(id, |gpr| gpr[21] = address)
	}

	/// Two vcpus that wake each other, with the block at [`map::CONTENDERS`].
	///
	/// With XICS, which the machine has to have then, they wake each other by interrupts.
	pub fn take_turns(
		&self,
		ids: [u64; 2],
		block: Turns,
		by_xics: bool,
	) -> Result<[Vcpu; 2], Failure> {
		self.vm.memory.write(map::CONTENDERS, block);
		let vcpu = |own: usize| {
			let vcpu = self.other_vcpu(ids[own], |gpr| {
				gpr[22] = map::CONTENDERS;
				gpr[23] = own as u64;
				gpr[24] = if by_xics { ids[own] } else { 0 };
				gpr[25] = ids[1 - own];
			})?;
			if by_xics {
				vcpu.connect(Controller::Xics, self.controller()?, ids[own])?;
			}
			Ok::<_, Failure>(vcpu)
		};
		Ok([vcpu(0)?, vcpu(1)?])
	}

	/// Another vcpu, which does TCE hcalls while memory slots change, as the block for it says. A
	/// radix guest runs with translation on.
	pub fn storm(&self, id: u64, block: Storm) -> Result<Vcpu, Failure> {
		let address = map::CONTENDERS + id * map::CONTENDER_SIZE;
		let stack = map::OTHER_STACKS + (id + 1) * map::OTHER_STACK_SIZE;
		self.vm.memory.write(address, block);
		let vcpu = self.other_vcpu(id, |gpr| {
			gpr[1] = stack - STACK_FRAME;
			gpr[26] = address;
		})?;
		if self.guest == GuestMode::Radix {
			let mut regs = vcpu.regs()?;
			regs.msr = MSR_TRANSLATED.bits();
			vcpu.set_regs(&regs)?;
		}
		Ok(vcpu)
	}

	/// What such a vcpu did.
	pub fn stormed(&self, id: u64) -> Storm {
		let address = map::CONTENDERS + id * map::CONTENDER_SIZE;
		self.vm.memory.read(address)
	}

	/// One more vcpu, in real mode, with its VPA beside its block.
	fn other_vcpu(&self, id: u64, set: impl FnOnce(&mut [u64; 32])) -> Result<Vcpu, Failure> {
		self.begin(self.vm.create_vcpu(id)?, id, set)
	}

	fn begin(
		&self,
		vcpu: Vcpu,
		id: u64,
		set: impl FnOnce(&mut [u64; 32]),
	) -> Result<Vcpu, Failure> {
		let mut regs = self.prepare(&vcpu, id)?;
		set(&mut regs.gpr);
		vcpu.set_regs(&regs)?;
		// Without a VPA, KVM takes it that the guest uses the PMU, and then nothing is fast.
		let vpa = map::CONTENDERS + id * map::CONTENDER_SIZE + map::CONTENDER_VPA;
		vcpu.set_one_reg(KVM_REG_PPC_VPA_ADDR, vpa.into())?;
		Ok(vcpu)
	}

	/// What such a vcpu did so far.
	pub fn contended(&self, id: u64) -> Contender {
		let address = map::CONTENDERS + id * map::CONTENDER_SIZE;
		self.vm.memory.read(address)
	}

	/// The DMA window's table, as it is.
	pub fn table(&self) -> Result<Vec<u64>, Failure> {
		match &self.window {
			Some(window) => Ok(window.table()?),
			None => Err("no window".to_owned().into()),
		}
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
		self.perform_with(command, limit, |_, event| match event {
			Request::Call(call) => {
				seen(call);
				Ok(())
			}
			Request::Access(mmio) => Err(unexpected(&mmio)),
			Request::Batch | Request::Signal => Ok(()),
		})
	}

	/// Lets the guest do `command`, and tells `on` what it does that comes here. Hcalls are
	/// answered with H_FUNCTION, and loads find [`map::MMIO_VALUE`].
	pub fn perform_with(
		&mut self,
		command: Command,
		limit: Duration,
		mut on: impl FnMut(&Self, Request) -> Result<(), Failure>,
	) -> Result<Outcome, Failure> {
		self.start(command);
		let end = Instant::now() + limit;
		let _alarm = timer::Timer::every(Duration::from_millis(200), limit)?;
		loop {
			match self.step()? {
				Stop::Done(outcome) => return Ok(*outcome),
				Stop::Call((private::BATCH, _)) => on(self, Request::Batch)?,
				Stop::Call(call) => on(self, Request::Call(call))?,
				Stop::Mmio(mmio) => {
					if mmio.is_write == 0 {
						self.vcpu.answer_load(map::MMIO_VALUE.to_le_bytes());
					}
					on(self, Request::Access(mmio))?;
				}
				Stop::Interrupted if Instant::now() >= end => {
					let rounds = self.outcome().rounds;
					return Err(Failure::Wrong(format!(
						"the guest isn't done after {} s (rounds so far: {rounds})",
						limit.as_secs()
					)));
				}
				Stop::Interrupted => on(self, Request::Signal)?,
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

	/// Runs until something happens, with `before` in all our own registers. Says what was
	/// in them then.
	pub fn step_with_user_regs(
		&mut self,
		before: &mut UserRegs,
	) -> Result<(Stop, UserRegs), Failure> {
		let (exit, after) = self.vcpu.run_with_user_regs(before)?;
		Ok((self.settle(exit)?, after))
	}

	/// Runs until something happens.
	pub fn step(&mut self) -> Result<Stop, Failure> {
		let exit = self.vcpu.run()?;
		self.settle(exit)
	}

	fn settle(&mut self, exit: Exit) -> Result<Stop, Failure> {
		let (number, args) = match exit {
			Exit::Hcall(number, args) => (number, args),
			Exit::Interrupted => return Ok(Stop::Interrupted),
			Exit::Mmio(mmio) => return Ok(Stop::Mmio(mmio)),
			Exit::Fault => {
				return Err(Failure::Wrong(
					"KVM_RUN: the guest's memory is missing".into(),
				));
			}
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
					Outcome::OK => Ok(Stop::Done(Box::new(outcome))),
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
				Ok(Stop::Call((number, args)))
			}
		}
	}
}

/// What happened.
pub enum Stop {
	/// The command is done.
	Done(Box<Outcome>),
	/// The guest did an hcall that KVM didn't handle; it gets H_FUNCTION.
	Call(Call),
	/// The guest accessed a device.
	Mmio(abi::Mmio),
	/// A signal came.
	Interrupted,
}

/// Of a guest that has no device.
pub fn unexpected(mmio: &abi::Mmio) -> Failure {
	Failure::Wrong(format!(
		"the guest accessed a device at {:#x}",
		mmio.phys_addr
	))
}

/// What a guest does in the course of a command that comes to us.
pub enum Request {
	/// An hcall.
	Call(Call),
	/// An access to a device's register.
	Access(abi::Mmio),
	/// The next thing is a batch: its announcement was asked for.
	Batch,
	/// A signal ended KVM_RUN.
	Signal,
}

/// The second vcpu, before it runs.
pub struct Peer(Vcpu);

impl Peer {
	/// Runs it in a thread while `body` runs in this one.
	pub fn while_running<T>(self, body: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
		let Self(mut vcpu) = self;
		let (stop, thread) = (AtomicBool::new(false), AtomicI32::new(0));
		std::thread::scope(|scope| {
			let running = scope.spawn(|| {
				thread.store(timer::thread(), Ordering::Release);
				while !stop.load(Ordering::Acquire) {
					match vcpu.run()? {
						Exit::Interrupted => {}
						other => {
							return Err(Failure::Wrong(format!(
								"the second vcpu stopped: {other:?}"
							)));
						}
					}
				}
				Ok(())
			});
			let result = body();
			stop.store(true, Ordering::Release);
			// A single signal could come just before KVM_RUN and be lost.
			while !running.is_finished() {
				timer::interrupt(thread.load(Ordering::Acquire));
				std::thread::sleep(Duration::from_millis(1));
			}
			running.join().expect("it doesn't panic")?;
			result
		})
	}
}

/// The one-reg of the VPA's address (`asm/kvm.h`).
const KVM_REG_PPC_VPA_ADDR: u64 = abi::KVM_REG_PPC_U64 | 0x82;

/// H_REGISTER_VPA's flag for the VPA itself.
const VPA_AREA: u64 = 1 << (63 - 18);

/// The process table and the tree below its entry 0.
fn write_tables(vm: &Vm) {
	const VALID: u64 = 1 << 63;
	const LEAF: u64 = 1 << 62;
	// Reference and change, and read, write and execute for everybody.
	const LEAF_BITS: u64 = 0x100 | 0x80 | 0x4 | 0x2 | 0x1;
	// As a device's registers are mapped.
	const NON_IDEMPOTENT: u64 = 2 << 4;
	// A tree for 52 bits (split in two fields: 21 = 52 - 31), whose root has 13 of them.
	const RTS_52: u64 = (21 >> 3) << 61 | (21 & 7) << 5;
	const ROOT_BITS: u64 = 13;
	const LEVEL_BITS: u64 = 9;
	let entry = |address: u64, value: u64| vm.memory.write(address, value.to_be());
	entry(map::PROCESS_TABLE, RTS_52 | map::RADIX_ROOT | ROOT_BITS);
	entry(map::PROCESS_TABLE + 8, 0);
	entry(map::RADIX_ROOT, VALID | map::RADIX_PUD | LEVEL_BITS);
	entry(map::RADIX_PUD, VALID | map::RADIX_PMD | LEVEL_BITS);
	let leaves = (0..map::RAM)
		.chain(map::DEVICE..map::DEVICE + map::LEAF_SIZE)
		.chain(map::TOUCH..map::TOUCH + map::TOUCH_SIZE);
	for address in leaves.step_by(map::LEAF_SIZE as usize) {
		entry(
			map::RADIX_PMD + 8 * (address / map::LEAF_SIZE),
			VALID | LEAF | address | LEAF_BITS,
		);
	}
	entry(
		map::RADIX_PMD + 8 * (map::MMIO_EVENT / map::LEAF_SIZE),
		VALID | LEAF | map::MMIO_EVENT | NON_IDEMPOTENT | LEAF_BITS,
	);
}
