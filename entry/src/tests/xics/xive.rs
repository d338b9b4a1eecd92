// SPDX-License-Identifier: GPL-2.0-only
//! The XIVE, and a machine whose vcpus have XICS on it.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use super::*;

/// Zeroed memory for a structure.
pub(super) struct Area(Vec<u64>);

impl Area {
	pub(super) fn new(bytes: usize) -> Self {
		Self(vec![0; bytes / 8])
	}

	pub(super) fn at(&mut self) -> NonNull<u8> {
		NonNull::from(self.0.as_mut_slice()).cast()
	}

	pub(super) fn set(&mut self, offset: usize, value: u64) {
		self.0[offset / 8] = value;
	}
}

/// What an ESB does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
	/// Load to end, and a page to trigger.
	Load,
	/// Store to end.
	Store,
	/// The XIVE's own level-sensitive interrupts.
	Level,
}

/// An interrupt in the XIVE.
#[derive(Clone, Copy, Debug)]
pub(super) struct Esb {
	pub(super) p: bool,
	pub(super) q: bool,
	pub(super) kind: Kind,
	pub(super) server: usize,
	pub(super) priority: u8,
	pub(super) number: u32,
}

/// A vcpu's context in the XIVE, and its queues.
pub(super) struct Context {
	pub(super) cppr: u8,
	pub(super) pending: u8,
	pub(super) queues: Vec<Option<Area>>,
	pub(super) next: [usize; 8],
	pub(super) generation: [u32; 8],
}

/// The XIVE.
pub(super) struct Xive {
	pub(super) esbs: Vec<Esb>,
	pub(super) contexts: Vec<Context>,
}

impl Xive {
	pub(super) fn event(&mut self, esb: usize) {
		let Esb {
			server,
			priority,
			number,
			..
		} = self.esbs[esb];
		let context = &mut self.contexts[server];
		let level = usize::from(priority);
		if let Some(queue) = &mut context.queues[level] {
			let at = context.next[level];
			let entry = (context.generation[level] << 31 | number).to_be();
			// SAFETY: an entry of the queue, which the code under test reads through its own pointer.
			unsafe { queue.at().cast::<u32>().add(at).write_volatile(entry) };
			context.next[level] = (at + 1) % ENTRIES;
			if context.next[level] == 0 {
				context.generation[level] ^= 1;
			}
		}
		context.pending |= 1 << priority;
	}

	pub(super) fn trigger(&mut self, esb: usize) {
		let Esb { p, q, .. } = self.esbs[esb];
		match (p, q) {
			(false, false) => {
				self.esbs[esb].p = true;
				self.event(esb);
			}
			(true, _) => self.esbs[esb].q = true,
			// Off.
			(false, true) => {}
		}
	}

	/// Sets P and Q, and returns both of before.
	pub(super) fn set(&mut self, esb: usize, p: bool, q: bool) -> u64 {
		let old = u64::from(self.esbs[esb].p) << 1 | u64::from(self.esbs[esb].q);
		(self.esbs[esb].p, self.esbs[esb].q) = (p, q);
		old
	}

	pub(super) fn end(&mut self, esb: usize) {
		if self.set(esb, false, false) & 1 != 0 {
			self.trigger(esb);
		}
	}
}

impl Context {
	pub(super) fn priority(&self) -> u8 {
		match self.pending {
			0 => NONE,
			pending => pending.trailing_zeros() as u8,
		}
	}

	/// The vcpu is interrupted.
	pub(super) fn signals(&self) -> bool {
		self.priority() < self.cppr
	}
}

/// An access, or a barrier with what memory holds then: CPPR, MFRR and whether an H_EOI is in
/// progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
	Load(u64),
	Store(u64, u8),
	Eieio,
	Sync { cppr: u8, mfrr: u8, in_eoi: bool },
}

/// A VM with XICS.
pub(super) struct Machine {
	pub(super) xive: RefCell<Xive>,
	pub(super) journal: RefCell<Vec<Event>>,
	pub(super) rcu: Cell<bool>,
	pub(super) kvm: KvmView,
	pub(super) presentations: Vec<PresentationView>,
	pub(super) sources: Vec<SourceView>,
	pub(super) lock: NonNull<u32>,
	pub(super) _memory: Vec<Area>,
}

/// A vcpu of it: the fake of a CPU.
pub(super) struct Vcpu<'a> {
	pub(super) machine: &'a Machine,
	pub(super) index: usize,
	pub(super) is_real: bool,
}

impl Machine {
	/// A VM whose vcpus have these numbers. The last `sources` ESBs are sources, and the first are
	/// the vcpus' IPIs.
	pub(super) fn new(servers: &[u32], sources: &[(Kind, u8)]) -> Self {
		let mut memory = vec![];
		let mut area = |bytes: usize| {
			memory.push(Area::new(bytes));
			memory.last_mut().unwrap().at()
		};
		let esb = |view: EsbView, index: usize, kind: Kind| {
			let page = PAGES + 2 * index as u64 * PAGE;
			view.set_eoi_mapped(page);
			view.set_trigger_mapped(page + PAGE);
			view.set_eoi_real(page);
			view.set_trigger_real(page + PAGE);
			view.set_flags(match kind {
				Kind::Load => 0,
				Kind::Store => 1,
				Kind::Level => 2,
			});
		};
		let mut esbs = vec![];
		let mut contexts = vec![];
		let mut presentations = vec![];
		// SAFETY: memory of this test, with room for all fields. The same holds below.
		let kvm = unsafe { KvmView::new(area(4096)) };
		let node = area(4096 + 8 * 64);
		// SAFETY: memory of this test, with room for all fields.
		let slots =
			|slot: usize| unsafe { node.add(layout::XA_NODE_SLOTS).cast::<u64>().add(slot) };
		for (index, &server) in servers.iter().enumerate() {
			// SAFETY: memory of this test, with room for all fields.
			let own = unsafe { PresentationView::new(area(16 * 4096)) };
			// SAFETY: memory of this test, with room for all fields.
			let vcpu = unsafe { VcpuView::new(area(4096)) };
			vcpu.set_xive_vcpu(own.address().as_ptr() as u64);
			own.set_server(server);
			own.set_mfrr(NONE);
			esb(own.ipi(), index, Kind::Load);
			esbs.push(Esb {
				p: false,
				q: false,
				kind: Kind::Load,
				server: index,
				priority: 0,
				number: IPI,
			});
			// SAFETY: memory of this test, with room for all fields.
			unsafe { slots(index).write(vcpu.address().as_ptr() as u64) };
			if servers.len() == 1 {
				kvm.set_vcpus(vcpu.address().as_ptr() as u64);
			} else {
				kvm.set_vcpus(node.as_ptr() as u64 | 2);
			}
			let mut queues: Vec<Option<Area>> = (0..8)
				.map(|level| (level < 7).then(|| Area::new(ENTRIES * 4)))
				.collect();
			for (level, queue) in queues.iter_mut().enumerate() {
				let view = own.queue(level as u32).unwrap();
				if let Some(queue) = queue {
					view.set_page(queue.at().as_ptr() as u64);
					view.set_mask(ENTRIES as u32 - 1);
				}
			}
			contexts.push(Context {
				cppr: 0,
				pending: 0,
				queues,
				next: [0; 8],
				generation: [1; 8],
			});
			presentations.push(own);
		}
		kvm.set_online_vcpus(servers.len() as u32);
		let xive = area(4096 + 8 * 1024);
		let block = area(4096 + 16 * 2 * 4096);
		kvm.set_xive(xive.as_ptr() as u64);
		let number = (FIRST >> layout::XICS_BLOCK_SHIFT) as usize;
		// SAFETY: memory of this test, with room for all fields.
		unsafe {
			let blocks = xive.add(layout::XIVE_BLOCKS).cast::<u64>();
			blocks.add(number).write(block.as_ptr() as u64);
		}
		let mut views = vec![];
		for (n, &(kind, priority)) in sources.iter().enumerate() {
			// SAFETY: memory of this test, with room for all fields.
			let source = unsafe {
				let sources = block.add(layout::BLOCK_SOURCES);
				SourceView::new(sources.add(n * layout::SIZEOF_SOURCE))
			};
			source.set_priority(priority);
			source.set_server(servers[n % servers.len()]);
			esb(source.esb().unwrap(), servers.len() + n, kind);
			esbs.push(Esb {
				p: false,
				q: false,
				kind,
				server: n % servers.len(),
				priority,
				number: FIRST + n as u32,
			});
			views.push(source);
		}
		Self {
			xive: RefCell::new(Xive { esbs, contexts }),
			journal: RefCell::default(),
			rcu: Cell::new(true),
			kvm,
			presentations,
			sources: views,
			// SAFETY: memory of this test, with room for all fields.
			lock: unsafe { block.add(layout::BLOCK_LOCK).cast() },
			_memory: memory,
		}
	}

	pub(super) fn vcpu(&self, index: usize) -> Vcpu<'_> {
		Vcpu {
			machine: self,
			index,
			is_real: false,
		}
	}

	/// A device's interrupt.
	pub(super) fn trigger(&self, source: usize) {
		let esb = self.presentations.len() + source;
		self.xive.borrow_mut().trigger(esb);
	}

	/// As the kernel masks a source: P and Q are kept, and the ESB sends nothing.
	pub(super) fn mask(&self, n: usize) {
		let source = self.sources[n];
		if source.priority() != NONE {
			source.set_priority(NONE);
			let esb = self.presentations.len() + n;
			let old = self.xive.borrow_mut().set(esb, true, false);
			source.set_old_p((old >> 1) as u8);
		}
	}

	/// As the kernel unmasks it.
	pub(super) fn unmask(&self, n: usize, old_q: bool) {
		let source = self.sources[n];
		if source.priority() == NONE {
			let esb = self.presentations.len() + n;
			let mut xive = self.xive.borrow_mut();
			if old_q {
				xive.set(esb, true, true);
			}
			if source.old_p() == 0 {
				xive.end(esb);
			}
			source.set_priority(xive.esbs[esb].priority);
		}
	}

	/// All that an hcall can change, without statistics.
	pub(super) fn state(&self) -> Vec<u64> {
		let of = |own: &PresentationView| {
			let queues = (0..8).flat_map(|level| {
				let queue = own.queue(level).unwrap();
				[queue.index(), queue.toggle(), queue.count(), queue.left()].map(u64::from)
			});
			let own = [own.cppr(), own.hw_cppr(), own.mfrr(), own.pending()];
			own.map(u64::from)
				.into_iter()
				.chain(queues)
				.collect::<Vec<_>>()
		};
		let sources = self.sources.iter().flat_map(|source| {
			let state = [source.priority(), source.in_eoi(), source.old_p()];
			state.map(u64::from)
		});
		self.presentations
			.iter()
			.flat_map(of)
			.chain(sources)
			.collect()
	}
}

impl Vcpu<'_> {
	pub(super) fn own(&self) -> PresentationView {
		self.machine.presentations[self.index]
	}

	pub(super) fn presenter(&self) -> Presenter<'_, Self> {
		Presenter {
			bus: self,
			own: self.own(),
			kvm: self.machine.kvm,
		}
	}

	pub(super) fn note(&self, event: Event) {
		self.machine.journal.borrow_mut().push(event);
	}
}

/// The ESB that a page is of, whether the page triggers, and the register.
pub(super) fn decode(at: u64) -> (usize, bool, u64) {
	let page = (at - PAGES) / PAGE;
	((page / 2) as usize, page % 2 == 1, at % PAGE)
}

impl Bus for Vcpu<'_> {
	fn is_real(&self) -> bool {
		self.is_real
	}

	fn tima(&self) -> u64 {
		TIMA
	}

	fn cpu(&self) -> u16 {
		self.index as u16
	}

	fn rcu_waits(&self) -> bool {
		self.machine.rcu.get()
	}

	fn timebase(&self) -> u64 {
		0x1234_5678_9abc
	}

	unsafe fn load16(&self, at: u64) -> u16 {
		self.note(Event::Load(at));
		assert_eq!(at, TIMA + 0x810);
		let mut xive = self.machine.xive.borrow_mut();
		let context = &mut xive.contexts[self.index];
		let signals = context.signals();
		if signals {
			context.cppr = context.priority();
			context.pending &= !(1 << context.cppr);
		}
		(u16::from(signals) << 15 | u16::from(context.cppr)).to_be()
	}

	unsafe fn load64(&self, at: u64) -> u64 {
		self.note(Event::Load(at));
		let mut xive = self.machine.xive.borrow_mut();
		if at == TIMA + 0x10 {
			return u64::from(xive.contexts[self.index].priority()).to_be();
		}
		let (esb, triggers, register) = decode(at);
		assert!(!triggers);
		match (xive.esbs[esb].kind, register) {
			(Kind::Load, 0xc00) => xive.set(esb, false, false).to_be(),
			(Kind::Level, 0) => {
				xive.end(esb);
				0
			}
			odd => panic!("{odd:?}"),
		}
	}

	unsafe fn store8(&self, at: u64, value: u8) {
		self.note(Event::Store(at, value));
		let mut xive = self.machine.xive.borrow_mut();
		let context = &mut xive.contexts[self.index];
		match at - TIMA {
			0x11 => context.cppr = value,
			0x812 => context.pending |= 1 << value,
			odd => panic!("{odd:#x}"),
		}
	}

	unsafe fn store_zero64(&self, at: u64) {
		self.note(Event::Store(at, 0));
		let mut xive = self.machine.xive.borrow_mut();
		match decode(at) {
			(esb, true, 0) => xive.trigger(esb),
			(esb, false, 0x400) if xive.esbs[esb].kind == Kind::Store => xive.end(esb),
			odd => panic!("{odd:?}"),
		}
	}

	fn eieio(&self) {
		self.note(Event::Eieio);
	}

	fn sync(&self) {
		let in_eoi = self
			.machine
			.sources
			.iter()
			.any(|source| source.in_eoi() != 0);
		let last = self.machine.presentations.last().unwrap();
		self.note(Event::Sync {
			cppr: self.own().cppr(),
			mfrr: last.mfrr(),
			in_eoi,
		});
	}
}
