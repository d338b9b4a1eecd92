// SPDX-License-Identifier: GPL-2.0-only
//! Spans: what the hypervisor executes from a guest's exit to the next entry.
//!
//! `-plugin libkvm_p9_plugin.so,spans=FILE,kernel=END`, where the kernel's code lies
//! below the real address END. Between two markers every instruction of the kernel
//! and the firmware comes here, and every one of userspace while the hypervisor runs;
//! a guest's cost the test of a flag. Effective addresses don't tell them apart, as a guest's
//! kernel has the same ones: the place in the emulator's memory does.
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

use crate::{Flag, die, little_endian};

const HRFID: u32 = 0x4c00_0224;
const MSR_HV: u64 = 1 << 60;

/// Registers that are read, by the emulator's names for them.
struct Registers {
	r3: RegisterDescriptor<'static>,
	msr: RegisterDescriptor<'static>,
	hsrr1: RegisterDescriptor<'static>,
}

struct State {
	recorder: Recorder,
	registers: Option<Registers>,
	out: BufWriter<File>,
	/// End of the kernel's code.
	kernel: u64,
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
}

impl State {
	fn classify(&self, instruction: &Instruction<'_>) -> Option<Host> {
		let real = instruction.haddr().wrapping_sub(self.memory?);
		if real < self.kernel {
			let part = Part::Kernel;
			return Some(Host { part, real });
		}
		let firmware = instruction.vaddr() == real && FIRMWARE.contains(&real);
		firmware.then_some(Host {
			part: Part::Firmware,
			real,
		})
	}

	fn flags(&self, cpu: VCPUIndex, on: bool) {
		self.on.set(cpu, on);
		self.host.set(cpu, on && !self.recorder.in_guest());
	}

	fn read(&self, register: impl Fn(&Registers) -> &RegisterDescriptor<'static>) -> u64 {
		match &self.registers {
			Some(registers) => little_endian(register(registers)),
			None => die("no CPU has been made"),
		}
	}

	fn arm(&mut self, cpu: VCPUIndex) {
		let in_guest = self.read(|registers| &registers.msr) & MSR_HV == 0;
		let tag = self.read(|registers| &registers.r3);
		self.recorder.begin(tag, in_guest);
		self.flags(cpu, true);
	}

	fn disarm(&mut self, cpu: VCPUIndex) {
		self.flags(cpu, false);
		if let Some(phase) = self.recorder.end() {
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
		let left = self.recorder.in_guest();
		self.recorder.host(host.part, host.real, r3);
		if left {
			self.flags(cpu, true);
		}
	}

	/// An hrfid of the kernel's.
	fn maybe_enter(&mut self, cpu: VCPUIndex) {
		if self.read(|registers| &registers.hsrr1) & MSR_HV == 0 {
			self.recorder.enter();
			self.flags(cpu, true);
		}
	}
}

/// Begins a file.
pub fn start(path: &str, kernel: u64) {
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
	let mut take = |name| {
		let at = all.iter().position(|register| register.name == name);
		let at = at.unwrap_or_else(|| die(&format!("QEMU doesn't let plugins read {name}")));
		all.swap_remove(at)
	};
	state.registers = Some(Registers {
		r3: take("r3"),
		msr: take("msr"),
		hsrr1: take("hsrr1"),
	});
	state.flags(cpu, false);
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

fn watch(state: &State, instruction: &Instruction<'_>) {
	let mut bytes = [0; 4];
	if instruction.read_data(&mut bytes) != bytes.len() {
		die("QEMU has an instruction that is not 4 bytes long");
	}
	let word = u32::from_le_bytes(bytes);
	let marker = |cb: fn(&mut State, VCPUIndex)| {
		instruction.register_execute_callback_flags(
			move |cpu| with(|state| cb(state, cpu)),
			CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
		);
	};
	match word {
		marker::ARM => return marker(State::arm),
		marker::DISARM => return marker(State::disarm),
		_ => {}
	}
	let Some(host) = state.classify(instruction) else {
		instruction.register_conditional_execute_callback(
			move |_| with(|state| state.recorder.user()),
			PluginCondition::QEMU_PLUGIN_COND_NE,
			state.host.0,
			0,
		);
		return;
	};
	let when_on = |cb: fn(&mut State, VCPUIndex, Host), flags| {
		instruction.register_conditional_execute_callback_flags(
			move |cpu| with(|state| cb(state, cpu, host)),
			flags,
			PluginCondition::QEMU_PLUGIN_COND_NE,
			state.on.0,
			0,
		);
	};
	if span::vector(host.real) == Some(span::SYSTEM_CALL) {
		when_on(
			|state, cpu, host| {
				let r3 = state.read(|registers| &registers.r3);
				state.host(cpu, host, r3);
			},
			CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
		);
	} else if word == HRFID {
		when_on(
			|state, cpu, host| {
				state.host(cpu, host, 0);
				state.maybe_enter(cpu);
			},
			CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
		);
	} else {
		when_on(
			|state, cpu, host| state.host(cpu, host, 0),
			CallbackFlags::QEMU_PLUGIN_CB_NO_REGS,
		);
	}
}

fn with(what: impl FnOnce(&mut State)) {
	if let Some(mut state) = state() {
		what(&mut state);
	}
}
