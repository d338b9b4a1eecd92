// SPDX-License-Identifier: GPL-2.0-only
//! Spans out of what the plugin tells of each instruction.

use std::collections::HashMap;

use super::{
	ASYNCHRONOUS, CodeOf, ExitReason, Part, REFUSED, Recording, SYSTEM_CALL, Sort, Span, vector,
};

/// A span that lasts.
struct Open {
	span: Span,
	/// Where the kernel's and the firmware's instructions were.
	code: Vec<u64>,
	/// Whose the last one was.
	last: Option<Part>,
}

impl Open {
	fn new(event: ExitReason) -> Self {
		Self {
			span: Span {
				sort: Sort {
					event,
					landmarks: 0,
				},
				instructions: [0; 3],
				interrupts: 0,
				switches: 0,
			},
			code: Vec::new(),
			last: None,
		}
	}

	fn host(&mut self, part: Part, real: u64, vector: Option<u16>, landmarks: u8) {
		match vector {
			Some(vector) if ASYNCHRONOUS.contains(&vector) => self.span.interrupts += 1,
			Some(vector) if REFUSED.contains(&vector) => {
				if let Some(last) = self.last.take() {
					self.span.instructions[last as usize] -= 1;
					if last != Part::User {
						self.code.pop();
					}
				}
			}
			_ => {}
		}
		self.span.instructions[part as usize] += 1;
		self.span.sort.landmarks |= landmarks;
		self.code.push(real);
		self.last = Some(part);
	}
}

/// What a CPU does.
#[derive(Clone, Copy)]
struct Cpu {
	/// Which thread it runs: any number that no other thread has.
	thread: u64,
	in_guest: bool,
}

/// Makes spans of what is executed. CPUs have numbers, and so have threads.
#[derive(Default)]
pub struct Recorder {
	phase: Option<Recording>,
	cpus: Vec<Cpu>,
	/// By the thread. A thread whose guest runs has none.
	open: HashMap<u64, Open>,
	/// Threads that have been in no span since the phase began.
	others: HashMap<u64, (u8, [u64; 3])>,
}

impl Recorder {
	/// A phase begins.
	pub fn begin(&mut self, tag: u64) {
		self.phase = Some(Recording {
			tag,
			..Recording::default()
		});
		self.open.clear();
		self.others.clear();
	}

	/// It is over. What lasts is no span. `None` if none has begun.
	pub fn end(&mut self) -> Option<Recording> {
		let mut phase = self.phase.take()?;
		// What lasts has not shown which way it takes.
		let lasting = self
			.open
			.drain()
			.map(|(_, Open { span, .. })| (span.sort.landmarks, span.instructions));
		let others = self.others.drain().map(|(_, other)| other);
		for (landmarks, instructions) in lasting.chain(others) {
			let sum = phase.others.entry(landmarks).or_default();
			for (sum, more) in sum.iter_mut().zip(instructions) {
				*sum += more;
			}
		}
		Some(phase)
	}

	fn cpu(&mut self, cpu: usize) -> &mut Cpu {
		while self.cpus.len() <= cpu {
			// Until the CPU first changes its thread, its own number stands for one: addresses of
			// threads are larger.
			let thread = self.cpus.len() as u64;
			let in_guest = false;
			self.cpus.push(Cpu { thread, in_guest });
		}
		&mut self.cpus[cpu]
	}

	/// Whether a phase lasts.
	pub fn is_on(&self) -> bool {
		self.phase.is_some()
	}

	/// Whether the next instruction of a CPU that is not the kernel's and not the firmware's is
	/// a guest's.
	pub fn in_guest(&mut self, cpu: usize) -> bool {
		self.cpu(cpu).in_guest
	}

	/// A CPU is about to run another thread.
	pub fn switch(&mut self, cpu: usize, thread: u64) {
		let last = std::mem::replace(&mut self.cpu(cpu).thread, thread);
		if let Some(open) = self.open.get_mut(&last) {
			open.span.switches += 1;
		}
	}

	/// An instruction of the hypervisor's kernel or firmware is executed, at a real
	/// address. If an hcall may arrive by it, r3 is the number. Needed outside of phases for
	/// [vectors](vector) only.
	pub fn host(&mut self, cpu: usize, part: Part, real: u64, r3: u64, landmarks: u8) {
		let vector = match part {
			Part::Kernel => vector(real),
			_ => None,
		};
		let Cpu { thread, in_guest } = self.cpu(cpu);
		let (thread, left) = (*thread, std::mem::take(in_guest));
		if self.phase.is_none() {
			return;
		}
		if left {
			let event = match vector {
				Some(SYSTEM_CALL) => ExitReason::Hcall(r3),
				Some(vector) => ExitReason::Vector(vector),
				None => ExitReason::Lost,
			};
			let mut open = Open::new(event);
			open.host(part, real, None, landmarks);
			self.open.insert(thread, open);
		} else if let Some(open) = self.open.get_mut(&thread) {
			open.host(part, real, vector, landmarks);
		} else {
			let (all, instructions) = self.others.entry(thread).or_default();
			*all |= landmarks;
			instructions[part as usize] += 1;
		}
	}

	/// An instruction of the hypervisor's userspace or a guest's is executed.
	pub fn user(&mut self, cpu: usize) {
		let Cpu { thread, in_guest } = *self.cpu(cpu);
		if self.phase.is_none() || in_guest {
			return;
		}
		if let Some(open) = self.open.get_mut(&thread) {
			open.span.instructions[Part::User as usize] += 1;
			open.last = Some(Part::User);
		} else {
			self.others.entry(thread).or_default().1[Part::User as usize] += 1;
		}
	}

	/// A guest is entered by the instruction that was executed last.
	pub fn enter(&mut self, cpu: usize) {
		let Cpu { thread, in_guest } = self.cpu(cpu);
		*in_guest = true;
		let thread = *thread;
		if let (Some(open), Some(phase)) = (self.open.remove(&thread), &mut self.phase) {
			Self::close(phase, open);
		}
	}

	fn close(phase: &mut Recording, open: Open) {
		let of = CodeOf {
			sort: open.span.sort,
			quiet: open.span.is_quiet(),
		};
		let code = phase.code.entry(of).or_default();
		for real in open.code {
			*code.entry(real).or_default() += 1;
		}
		*phase.spans.entry(open.span).or_default() += 1;
	}
}
