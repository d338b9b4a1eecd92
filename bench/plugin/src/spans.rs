// SPDX-License-Identifier: GPL-2.0-only
//! Spans: what the hypervisor executes from a guest's exit to the next entry.
//!
//! `-plugin libkvm_p9_plugin.so,spans=FILE,kernel=END,switch=ADDRESS,landmark=BIT:ADDRESS`,
//! where the kernel's code lies below the real address END. At the address of `switch` a CPU
//! is about to run the thread that r4 has. A landmark is told of those that come by its
//! address ([`trace::span::landmark`]). All addresses are real ones.
//!
//! Between two markers every instruction of the kernel
//! and the firmware comes here, and every one of userspace while the hypervisor runs;
//! a guest's cost the test of a flag. Effective addresses don't tell them apart, as a guest's
//! kernel has the same ones: the place in the emulator's memory does. Entries and exits of
//! guests, and changes of threads, come here at any time: when a phase begins it is known
//! what each CPU does.
//!
//! The hypervisor enters a guest by an hrfid with MSR[HV] zero in HSRR1; one to its own
//! userspace has it set.

use std::fs::File;
use std::io::BufWriter;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::marker;
use qemu_plugin::{
	CallbackFlags, Instruction, PluginCondition, RegisterDescriptor, TranslationBlock, VCPUIndex,
	qemu_plugin_get_registers,
};
use trace::attribute::FIRMWARE;
use trace::span::{self, Part, Recorder};

use crate::{Flag, die, little_endian, named};

const HRFID: u32 = 0x4c00_0224;
const MSR_HV: u64 = 1 << 60;

/// What the plugin is told of the kernel: real addresses.
pub struct Kernel {
	/// The end of its code.
	pub end: u64,
	/// Where a CPU changes its thread.
	pub switch: u64,
	/// Landmarks, by their bit.
	pub landmarks: Vec<(u8, u64)>,
}

/// Registers that are read, by the emulator's names for them.
struct Registers {
	r3: RegisterDescriptor<'static>,
	r4: RegisterDescriptor<'static>,
	hsrr1: RegisterDescriptor<'static>,
}

struct State {
	recorder: Recorder,
	registers: Option<Registers>,
	out: BufWriter<File>,
	kernel: Kernel,
	/// How many CPUs there are.
	cpus: VCPUIndex,
	/// Where the emulator has real address 0.
	memory: Option<u64>,
	/// A phase lasts.
	on: Flag,
	/// A phase lasts, and the hypervisor runs.
	host: Flag,
}

static STATE: OnceLock<Mutex<State>> = OnceLock::new();

/// `None` if spans aren't what is recorded.
fn state() -> Option<MutexGuard<'static, State>> {
	let state = STATE.get()?;
	Some(state.lock().unwrap_or_else(PoisonError::into_inner))
}

/// What an instruction is, if it is the hypervisor's in any case.
#[derive(Clone, Copy)]
struct Host {
	part: Part,
	real: u64,
	landmarks: u8,
}

impl State {
	fn classify(&self, instruction: &Instruction<'_>) -> Option<Host> {
		let real = instruction.haddr().wrapping_sub(self.memory?);
		if real < self.kernel.end {
			let here = self.kernel.landmarks.iter().filter(|(_, at)| *at == real);
			return Some(Host {
				part: Part::Kernel,
				real,
				landmarks: here.fold(0, |all, (bit, _)| all | bit),
			});
		}
		let firmware = instruction.vaddr() == real && FIRMWARE.contains(&real);
		firmware.then_some(Host {
			part: Part::Firmware,
			real,
			landmarks: 0,
		})
	}

	/// Of one CPU, after what it does may have changed.
	fn flags(&mut self, cpu: VCPUIndex) {
		let on = self.recorder.is_on();
		self.on.set(cpu, on);
		self.host
			.set(cpu, on && !self.recorder.in_guest(cpu as usize));
	}

	fn read(&self, register: impl Fn(&Registers) -> &RegisterDescriptor<'static>) -> u64 {
		match &self.registers {
			Some(registers) => little_endian(register(registers)),
			None => die("no CPU has been made"),
		}
	}

	fn arm(&mut self) {
		let tag = self.read(|registers| &registers.r3);
		self.recorder.begin(tag);
		(0..self.cpus).for_each(|cpu| self.flags(cpu));
	}

	fn disarm(&mut self) {
		let phase = self.recorder.end();
		(0..self.cpus).for_each(|cpu| self.flags(cpu));
		if let Some(phase) = phase {
			self.write(|out| span::write(out, &phase));
		}
	}

	fn write(&mut self, what: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
		if let Err(error) = what(&mut self.out) {
			die(&format!("writing the spans: {error}"));
		}
	}

	/// Which of the flags must be set is the caller's business.
	fn host(&mut self, cpu: VCPUIndex, host: Host, r3: u64) {
		let Host {
			part,
			real,
			landmarks,
		} = host;
		let left = self.recorder.in_guest(cpu as usize);
		self.recorder.host(cpu as usize, part, real, r3, landmarks);
		if left {
			self.flags(cpu);
		}
	}

	/// An hrfid of the kernel's.
	fn maybe_enter(&mut self, cpu: VCPUIndex) {
		if self.read(|registers| &registers.hsrr1) & MSR_HV == 0 {
			self.recorder.enter(cpu as usize);
			self.flags(cpu);
		}
	}
}

/// Begins a file.
pub fn start(path: &str, kernel: Kernel) {
	let out = File::create(path).and_then(|file| {
		let mut out = BufWriter::new(file);
		span::write_start(&mut out).map(|()| out)
	});
	let out = out.unwrap_or_else(|error| die(&format!("{path}: {error}")));
	let state = State {
		recorder: Recorder::default(),
		registers: None,
		out,
		kernel,
		cpus: 0,
		memory: None,
		on: Flag::new(),
		host: Flag::new(),
	};
	if STATE.set(Mutex::new(state)).is_err() {
		die("started twice");
	}
}

/// Ends it. A phase that lasts is none.
pub fn finish() {
	if let Some(mut state) = state() {
		state.write(span::write_end);
	}
}

/// A CPU was made. Says whether it is of interest.
pub fn cpu(cpu: VCPUIndex) -> qemu_plugin::Result<bool> {
	let Some(mut state) = state() else {
		return Ok(false);
	};
	let mut all = qemu_plugin_get_registers()?;
	let mut take = |name| named(&mut all, name);
	state.registers = Some(Registers {
		r3: take("r3"),
		r4: take("r4"),
		hsrr1: take("hsrr1"),
	});
	state.cpus = state.cpus.max(cpu + 1);
	state.flags(cpu);
	Ok(true)
}

/// A block was translated. Says whether it is of interest.
pub fn translated(block: &TranslationBlock<'_>) -> bool {
	let Some(mut state) = state() else {
		return false;
	};
	for instruction in block.instructions() {
		if state.memory.is_none() {
			// The first instruction of all, where a POWER9 begins, with the MMU off.
			state.memory = Some(instruction.haddr().wrapping_sub(instruction.vaddr()));
		}
		watch(&state, &instruction);
	}
	true
}

/// What is done at an instruction, on a CPU, also between phases.
type Always = Box<dyn Fn(&mut State, VCPUIndex) + Send + Sync>;

fn watch(state: &State, instruction: &Instruction<'_>) {
	let mut bytes = [0; 4];
	if instruction.read_data(&mut bytes) != bytes.len() {
		die("QEMU has an instruction that is not 4 bytes long");
	}
	let word = u32::from_le_bytes(bytes);
	let always = |cb: Always| {
		instruction.register_execute_callback_flags(
			move |cpu| with(|state| cb(state, cpu)),
			CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
		);
	};
	match word {
		marker::ARM => return always(Box::new(|state, _| state.arm())),
		marker::DISARM => return always(Box::new(|state, _| state.disarm())),
		_ => {}
	}
	let Some(host) = state.classify(instruction) else {
		instruction.register_conditional_execute_callback(
			move |cpu| with(|state| state.recorder.user(cpu as usize)),
			PluginCondition::QEMU_PLUGIN_COND_NE,
			state.host.0,
			0,
		);
		return;
	};
	if word == HRFID {
		always(Box::new(move |state, cpu| {
			state.host(cpu, host, 0);
			state.maybe_enter(cpu);
		}));
	} else if host.part == Part::Kernel && span::vector(host.real).is_some() {
		always(Box::new(move |state, cpu| {
			let r3 = match span::vector(host.real) {
				Some(span::SYSTEM_CALL) => state.read(|registers| &registers.r3),
				_ => 0,
			};
			state.host(cpu, host, r3);
		}));
	} else if host.part == Part::Kernel && host.real == state.kernel.switch {
		always(Box::new(move |state, cpu| {
			state.host(cpu, host, 0);
			let thread = state.read(|registers| &registers.r4);
			state.recorder.switch(cpu as usize, thread);
		}));
	} else {
		instruction.register_conditional_execute_callback(
			move |cpu| with(|state| state.host(cpu, host, 0)),
			PluginCondition::QEMU_PLUGIN_COND_NE,
			state.on.0,
			0,
		);
	}
}

fn with(what: impl FnOnce(&mut State)) {
	if let Some(mut state) = state() {
		what(&mut state);
	}
}
