// SPDX-License-Identifier: GPL-2.0-only
//! The plugin by which QEMU tells what it executes.
//!
//! It does as little as possible: it records the instructions of each batch, in
//! order, and leaves it to the runner to say what they are and whose. When a batch
//! begins and ends, the payload and the VMM say themselves, by executing words that
//! do nothing (`protocol::marker`); outside of batches each instruction costs one test
//! of a flag that QEMU does inline.
//!
//! `-plugin libkvm_p9_plugin.so,out=FILE` with one CPU and `-icount`, which makes
//! QEMU execute in one thread and interrupt nothing in between, so what is recorded
//! is what the emulated timebase counts.
//!
//! `paca=SOFT:MODE` says where in the PACA the kernel has the byte that holds interrupts back, and
//! the byte that says that a guest runs. Both and the MSR are read after each instruction that may
//! change them, and at each vector ([`trace::format::state`]).
//!
//! With `spans=FILE` it records something else, for workloads that are too long for that
//! ([`spans`]).
//!
//! A load or store that faults is seen when it is tried and again when it is done, while
//! virtual time counts it once: the runner sorts that out (`trace::round`).

mod spans;

use std::collections::HashMap;
use std::ffi::c_int;
use std::fs::File;
use std::io::BufWriter;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use protocol::marker;
use qemu_plugin::install::{Args, Info};
use qemu_plugin::sys;
use qemu_plugin::{
	CallbackFlags, HasCallbacks, Instruction, PluginCondition, PluginId, PluginU64, Register,
	RegisterDescriptor, TranslationBlock, VCPUIndex, qemu_plugin_get_registers,
	qemu_plugin_register_atexit_cb,
};
use trace::format::{Batch, Place, Window, Writer, state};
use trace::insn;

/// What is being recorded, and for whom.
struct Recorder {
	/// Every instruction that was translated.
	places: Vec<Place>,
	index: HashMap<Place, u32>,
	/// Registers that are read.
	registers: Option<Registers>,
	/// Where the PACA has what a state is made of.
	paca: Paca,
	/// The state, and whether it may have changed.
	state: u8,
	is_stale: bool,
	/// What it has said.
	tag: Option<u64>,
	/// What the next batch is.
	next: Batch,
	window: Option<Window>,
	out: Option<Writer<BufWriter<File>>>,
	/// Whether instructions are recorded. QEMU reads it before each.
	flag: Flag,
}

/// Registers by the emulator's names for them.
struct Registers {
	/// By which the VMM says what it measures.
	r3: RegisterDescriptor<'static>,
	msr: RegisterDescriptor<'static>,
	/// The address of the PACA.
	hsprg0: RegisterDescriptor<'static>,
}

/// Offsets in the PACA.
#[derive(Clone, Copy, Default)]
struct Paca {
	/// The byte by which the kernel holds interrupts back: `irq_soft_mask`.
	soft_mask: u64,
	/// The mode byte: `kvm_hstate.in_guest`.
	in_guest: u64,
}

const MSR_HV: u64 = 1 << 60;
const MSR_EE: u64 = 1 << 15;
const MSR_PR: u64 = 1 << 14;
/// The bit of `irq_soft_mask` that holds all interrupts back (`IRQS_DISABLED`).
const IRQS_DISABLED: u8 = 1;

/// A word in QEMU that translated code can test without a call of the plugin.
#[derive(Clone, Copy)]
struct Flag(PluginU64);

// SAFETY: it is a handle, which QEMU lets any thread use.
unsafe impl Send for Flag {}
// SAFETY: as above.
unsafe impl Sync for Flag {}

impl Flag {
	fn new() -> Self {
		// SAFETY: has no preconditions; the scoreboard lives as long as QEMU.
		let score = unsafe { sys::qemu_plugin_scoreboard_new(size_of::<u64>()) };
		Self(PluginU64 { score, offset: 0 })
	}

	fn set(self, cpu: VCPUIndex, on: bool) {
		// SAFETY: QEMU calls us for CPUs that it has told of, and has an entry for each.
		unsafe { sys::qemu_plugin_u64_set(self.0, cpu, u64::from(on)) };
	}
}

static RECORDER: OnceLock<Mutex<Recorder>> = OnceLock::new();

fn recorder() -> MutexGuard<'static, Recorder> {
	RECORDER
		.get_or_init(|| {
			Mutex::new(Recorder {
				places: Vec::new(),
				index: HashMap::new(),
				registers: None,
				paca: Paca::default(),
				state: 0,
				is_stale: true,
				tag: None,
				next: Batch::Empty,
				window: None,
				out: None,
				flag: Flag::new(),
			})
		})
		.lock()
		.unwrap_or_else(PoisonError::into_inner)
}

/// Ends QEMU: the run of the emulated machine is useless, and nothing else would show that.
fn die(why: &str) -> ! {
	eprintln!("kvm-p9 plugin: {why}");
	std::process::exit(1);
}

/// Takes the register of that name.
fn named(all: &mut Vec<RegisterDescriptor<'static>>, name: &str) -> RegisterDescriptor<'static> {
	match all.iter().position(|register| register.name == name) {
		Some(at) => all.swap_remove(at),
		None => die(&format!("QEMU doesn't let plugins read {name}")),
	}
}

// SAFETY: functions of GLib, which QEMU has, with these types.
unsafe extern "C" {
	fn g_byte_array_new() -> *mut sys::GByteArray;
	fn g_byte_array_free(array: *mut sys::GByteArray, with_data: c_int) -> *mut u8;
}

/// A byte of memory, by its effective address. The crate's function for this hands QEMU a byte
/// array that GLib has not made, and GLib writes beyond the end of that.
fn byte(address: u64) -> Option<u8> {
	// SAFETY: QEMU calls a callback for the CPU whose memory is read, and makes the array as long
	// as it has to be. Nothing uses the array afterwards.
	unsafe {
		let array = g_byte_array_new();
		let is_read = sys::qemu_plugin_read_memory_vaddr(address, array, 1);
		let byte = (is_read && (*array).len == 1).then(|| *(*array).data);
		g_byte_array_free(array, 1);
		byte
	}
}

/// What a register has, in a callback that may read registers, of a CPU that is little-endian.
fn little_endian(register: &RegisterDescriptor<'static>) -> u64 {
	// QEMU gives registers as its debugger interface does: in the byte order of MSR[LE].
	let bytes = register.read().ok().and_then(|bytes| bytes.try_into().ok());
	let Some(bytes) = bytes else {
		die(&format!(
			"{} can't be read, or is not 64 bits",
			register.name
		));
	};
	u64::from_le_bytes(bytes)
}

impl Recorder {
	fn entry(&mut self, place: Place) -> u32 {
		*self.index.entry(place).or_insert_with(|| {
			self.places.push(place);
			(self.places.len() - 1) as u32
		})
	}

	fn arm(&mut self) {
		let Some(registers) = &self.registers else {
			die("no CPU has been made");
		};
		self.tag = Some(little_endian(&registers.r3));
		self.next = Batch::Empty;
	}

	/// What is so now.
	fn look(&self) -> u8 {
		let Some(registers) = &self.registers else {
			die("no CPU has been made");
		};
		let msr = little_endian(&registers.msr);
		if msr & MSR_HV == 0 || msr & MSR_PR != 0 {
			return 0;
		}
		let paca = little_endian(&registers.hsprg0);
		let byte = |offset: u64| match byte(paca.wrapping_add(offset)) {
			Some(byte) => byte,
			None => die("the PACA can't be read"),
		};
		let mut state = 0;
		if msr & MSR_EE == 0 || byte(self.paca.soft_mask) & IRQS_DISABLED != 0 {
			state |= state::INTERRUPTS_OFF;
		}
		if byte(self.paca.in_guest) != 0 {
			state |= state::GUEST_MODE;
		}
		state
	}

	/// The next instruction is executed.
	fn push(&mut self, entry: u32, changes: Changes) {
		if self.window.is_none() {
			return;
		}
		if self.is_stale || changes.before {
			self.state = self.look();
		}
		self.is_stale = changes.after;
		let state = self.state;
		if let Some(window) = &mut self.window {
			window.push(entry, state);
		}
	}

	fn begin(&mut self, cpu: VCPUIndex) {
		if let Some(tag) = self.tag {
			self.window = Some(Window {
				tag,
				kind: self.next,
				runs: Vec::new(),
			});
			self.next = match self.next {
				Batch::Empty => Batch::Calls,
				Batch::Calls => Batch::Empty,
			};
			self.is_stale = true;
			self.flag.set(cpu, true);
		}
	}

	fn end(&mut self, cpu: VCPUIndex) {
		self.flag.set(cpu, false);
		let (Some(window), Some(out)) = (self.window.take(), &mut self.out) else {
			return;
		};
		if let Err(error) = out.window(&window, |entry| self.places[entry as usize]) {
			die(&format!("writing the trace: {error}"));
		}
	}
}

/// When the state may be another one.
#[derive(Clone, Copy)]
struct Changes {
	/// Where the instruction begins: at a vector.
	before: bool,
	/// After the instruction.
	after: bool,
}

struct Plugin;

impl Plugin {
	fn watch(instruction: &Instruction<'_>, recorder: &mut Recorder) {
		let mut bytes = [0; 4];
		if instruction.read_data(&mut bytes) != bytes.len() {
			die("QEMU has an instruction that is not 4 bytes long");
		}
		let place = Place {
			address: instruction.vaddr(),
			memory: instruction.haddr(),
			// Everything but the first instructions of the firmware is little-endian.
			word: u32::from_le_bytes(bytes),
		};
		let own = |cb: fn(&mut Recorder, VCPUIndex)| {
			instruction.register_execute_callback_flags(
				move |cpu| cb(&mut self::recorder(), cpu),
				CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
			);
		};
		match place.word {
			marker::ARM => own(|recorder, _| recorder.arm()),
			marker::DISARM => own(|recorder, _| recorder.tag = None),
			marker::BEGIN => own(Recorder::begin),
			marker::END => own(Recorder::end),
			_ => {
				let entry = recorder.entry(place);
				let changes = Changes {
					before: insn::is_vector(place.address),
					after: insn::changes_state(place.word),
				};
				instruction.register_conditional_execute_callback_flags(
					move |_| self::recorder().push(entry, changes),
					CallbackFlags::QEMU_PLUGIN_CB_R_REGS,
					PluginCondition::QEMU_PLUGIN_COND_NE,
					recorder.flag.0,
					0,
				);
			}
		}
	}
}

impl HasCallbacks for Plugin {
	fn on_vcpu_init(&mut self, _: PluginId, cpu: VCPUIndex) -> qemu_plugin::Result<()> {
		if spans::cpu(cpu)? {
			return Ok(());
		}
		let mut all = qemu_plugin_get_registers()?;
		let mut take = |name| named(&mut all, name);
		let registers = Registers {
			r3: take("r3"),
			msr: take("msr"),
			hsprg0: take("hsprg0"),
		};
		let mut recorder = recorder();
		recorder.registers = Some(registers);
		recorder.flag.set(cpu, false);
		Ok(())
	}

	fn on_translation_block_translate(
		&mut self,
		_: PluginId,
		block: TranslationBlock<'_>,
	) -> qemu_plugin::Result<()> {
		if spans::translated(&block) {
			return Ok(());
		}
		let mut recorder = recorder();
		for instruction in block.instructions() {
			Self::watch(&instruction, &mut recorder);
		}
		Ok(())
	}
}

impl Register for Plugin {
	fn register(&mut self, id: PluginId, args: &Args, info: &Info) -> qemu_plugin::Result<()> {
		let values = |name: &'static str| {
			let of_arg = move |arg: &String| arg.strip_prefix(name).map(str::to_owned);
			args.raw.iter().filter_map(of_arg)
		};
		let value = |name| values(name).next();
		if let Some(path) = value("spans=") {
			let hex = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
			let landmark = |text: String| {
				let (bit, address) = text.split_once(':')?;
				Some((bit.parse().ok()?, hex(address)?))
			};
			let kernel = || {
				Some(spans::Kernel {
					end: hex(&value("kernel=")?)?,
					switch: hex(&value("switch=")?)?,
					landmarks: values("landmark=").map(landmark).collect::<Option<_>>()?,
				})
			};
			let Some(kernel) = kernel() else {
				die("spans=FILE needs kernel=0xEND, switch=0xADDRESS and landmark=BIT:0xADDRESS");
			};
			spans::start(&path, kernel);
			return qemu_plugin_register_atexit_cb(id, |_| spans::finish());
		}
		if info
			.system
			.as_ref()
			.is_none_or(|system| system.max_vcpus != 1)
		{
			die("needs a machine with one CPU");
		}
		let Some(path) = value("out=") else {
			die("needs out=FILE or spans=FILE");
		};
		let offsets = || {
			let offsets = value("paca=")?;
			let (soft_mask, in_guest) = offsets.split_once(':')?;
			Some(Paca {
				soft_mask: soft_mask.parse().ok()?,
				in_guest: in_guest.parse().ok()?,
			})
		};
		let Some(paca) = offsets() else {
			die("out=FILE needs paca=SOFT:MODE, decimal offsets");
		};
		recorder().paca = paca;
		let out = File::create(&path).and_then(|file| Writer::new(BufWriter::new(file)));
		match out {
			Ok(out) => recorder().out = Some(out),
			Err(error) => die(&format!("{path}: {error}")),
		}
		qemu_plugin_register_atexit_cb(id, |_| {
			if let Some(out) = &mut recorder().out
				&& let Err(error) = out.finish()
			{
				die(&format!("writing the trace: {error}"));
			}
		})
	}
}

qemu_plugin::register!(Plugin);
