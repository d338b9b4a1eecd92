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
//! With `spans=FILE` it records something else, for workloads that are too long for that
//! ([`spans`]).
//!
//! A load or store that faults is seen when it is tried and again when it is done, while
//! virtual time counts it once: the runner sorts that out (`trace::round`).

mod spans;

use std::collections::HashMap;
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
use trace::format::{Batch, Place, Window, Writer};

/// What is being recorded, and for whom.
struct Recorder {
	/// Every instruction that was translated.
	places: Vec<Place>,
	index: HashMap<Place, u32>,
	/// Register 3, by which the VMM says what it measures.
	r3: Option<RegisterDescriptor<'static>>,
	/// What it has said.
	tag: Option<u64>,
	/// What the next batch is.
	next: Batch,
	window: Option<Window>,
	out: Option<Writer<BufWriter<File>>>,
	/// Whether instructions are recorded. QEMU reads it before each.
	flag: Flag,
}

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
				r3: None,
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
		let Some(r3) = &self.r3 else {
			die("QEMU doesn't let plugins read r3");
		};
		self.tag = Some(little_endian(r3));
		self.next = Batch::Empty;
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
				instruction.register_conditional_execute_callback(
					move |_| {
						if let Some(window) = &mut self::recorder().window {
							window.push(entry);
						}
					},
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
		let registers = qemu_plugin_get_registers()?;
		let mut recorder = recorder();
		recorder.r3 = registers.into_iter().find(|register| register.name == "r3");
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
