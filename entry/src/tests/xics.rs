// SPDX-License-Identifier: GPL-2.0-only
//! Hcalls of XICS on a XIVE that is not there: answers against a model of XICS, no interrupt lost or
//! taken twice, and the order of accesses and barriers.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ptr::NonNull;

use hcall::Code;
use proptest::prelude::*;

use crate::layout::kernel as layout;
use crate::views::*;
use crate::xics::hcalls::{cppr, eoi, ipi, ipoll, xirr, xirr_x};
use crate::xics::{Bus, Presenter, TooHard};

const NONE: u8 = 0xff;
const IPI: u32 = 2;
const DUMMY: u32 = 1;
const ENTRIES: usize = 256;
/// Where pages of registers are; no memory.
const TIMA: u64 = 0x1000_0000;
const PAGES: u64 = 0x2000_0000;
const PAGE: u64 = 0x1_0000;
/// The first source's interrupt number. Sources are in the block of that number.
const FIRST: u32 = 0x1400;

/// Zeroed memory for a structure.
struct Area(Vec<u64>);

impl Area {
	fn new(bytes: usize) -> Self {
		Self(vec![0; bytes / 8])
	}

	fn at(&mut self) -> NonNull<u8> {
		NonNull::from(self.0.as_mut_slice()).cast()
	}

	fn set(&mut self, offset: usize, value: u64) {
		self.0[offset / 8] = value;
	}
}

/// What an ESB does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
	/// Load to end, and a page to trigger.
	Load,
	/// Store to end.
	Store,
	/// The XIVE's own level-sensitive interrupts.
	Level,
}

/// An interrupt in the XIVE.
#[derive(Clone, Copy, Debug)]
struct Esb {
	p: bool,
	q: bool,
	kind: Kind,
	server: usize,
	priority: u8,
	number: u32,
}

/// A vcpu's context in the XIVE, and its queues.
struct Context {
	cppr: u8,
	pending: u8,
	queues: Vec<Option<Area>>,
	next: [usize; 8],
	generation: [u32; 8],
}

/// The XIVE.
struct Xive {
	esbs: Vec<Esb>,
	contexts: Vec<Context>,
}

impl Xive {
	fn event(&mut self, esb: usize) {
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

	fn trigger(&mut self, esb: usize) {
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
	fn set(&mut self, esb: usize, p: bool, q: bool) -> u64 {
		let old = u64::from(self.esbs[esb].p) << 1 | u64::from(self.esbs[esb].q);
		(self.esbs[esb].p, self.esbs[esb].q) = (p, q);
		old
	}

	fn end(&mut self, esb: usize) {
		if self.set(esb, false, false) & 1 != 0 {
			self.trigger(esb);
		}
	}
}

impl Context {
	fn priority(&self) -> u8 {
		match self.pending {
			0 => NONE,
			pending => pending.trailing_zeros() as u8,
		}
	}

	/// The vcpu is interrupted.
	fn signals(&self) -> bool {
		self.priority() < self.cppr
	}
}

/// An access, or a barrier with what memory holds then: CPPR, MFRR and whether an H_EOI is in
/// progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
	Load(u64),
	Store(u64, u8),
	Eieio,
	Sync { cppr: u8, mfrr: u8, in_eoi: bool },
}

/// A VM with XICS.
struct Machine {
	xive: RefCell<Xive>,
	journal: RefCell<Vec<Event>>,
	rcu: Cell<bool>,
	kvm: KvmView,
	presentations: Vec<PresentationView>,
	sources: Vec<SourceView>,
	lock: NonNull<u32>,
	_memory: Vec<Area>,
}

/// A vcpu of it: the fake of a CPU.
struct Vcpu<'a> {
	machine: &'a Machine,
	index: usize,
	is_real: bool,
}

impl Machine {
	/// A VM whose vcpus have these numbers. The last `sources` ESBs are sources, and the first are
	/// the vcpus' IPIs.
	fn new(servers: &[u32], sources: &[(Kind, u8)]) -> Self {
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

	fn vcpu(&self, index: usize) -> Vcpu<'_> {
		Vcpu {
			machine: self,
			index,
			is_real: false,
		}
	}

	/// A device's interrupt.
	fn trigger(&self, source: usize) {
		let esb = self.presentations.len() + source;
		self.xive.borrow_mut().trigger(esb);
	}

	/// As the kernel masks a source: P and Q are kept, and the ESB sends nothing.
	fn mask(&self, n: usize) {
		let source = self.sources[n];
		if source.priority() != NONE {
			source.set_priority(NONE);
			let esb = self.presentations.len() + n;
			let old = self.xive.borrow_mut().set(esb, true, false);
			source.set_old_p((old >> 1) as u8);
		}
	}

	/// As the kernel unmasks it.
	fn unmask(&self, n: usize, old_q: bool) {
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
	fn state(&self) -> Vec<u64> {
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
	fn own(&self) -> PresentationView {
		self.machine.presentations[self.index]
	}

	fn presenter(&self) -> Presenter<'_, Self> {
		Presenter {
			bus: self,
			own: self.own(),
			kvm: self.machine.kvm,
		}
	}

	fn note(&self, event: Event) {
		self.machine.journal.borrow_mut().push(event);
	}
}

/// The ESB that a page is of, whether the page triggers, and the register.
fn decode(at: u64) -> (usize, bool, u64) {
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

/// XICS as the guest sees it: what one vcpu is presented.
#[derive(Clone, Debug)]
struct Model {
	cppr: u8,
	mfrr: u8,
	queues: [VecDeque<u32>; 7],
}

impl Model {
	fn best(&self) -> (u32, u8) {
		let queued = (0..7).find(|&level| !self.queues[level].is_empty());
		let queued = queued.filter(|&level| (level as u8) < self.cppr);
		match queued {
			Some(level) if (level as u8) < self.mfrr || self.mfrr >= self.cppr => {
				(self.queues[level][0], level as u8)
			}
			_ if self.mfrr < self.cppr => (IPI, self.mfrr),
			_ => (0, self.cppr),
		}
	}

	/// Whether this interrupt can be presented; if so it is.
	fn take(&mut self, irq: u32) -> bool {
		let priority = match irq {
			0 => return true,
			IPI => self.mfrr,
			_ => match self
				.queues
				.iter()
				.position(|queue| queue.front() == Some(&irq))
			{
				Some(level) => level as u8,
				None => return false,
			},
		};
		if priority >= self.cppr {
			return false;
		}
		if irq != IPI {
			self.queues[usize::from(priority)].pop_front();
		}
		self.cppr = priority;
		true
	}
}

#[derive(Clone, Copy, Debug)]
enum Step {
	Trigger(usize),
	Accept(usize),
	/// Ends the last accepted interrupt, or, if there is none, this number.
	End(usize, u32),
	Priority(usize, u64),
	Send(usize, usize, u64),
	Look(usize, usize),
	Mask(usize),
	Unmask(usize),
}

const SOURCES: [(Kind, u8); 6] = [
	(Kind::Load, 5),
	(Kind::Store, 5),
	(Kind::Load, 4),
	(Kind::Level, 6),
	(Kind::Load, 0),
	(Kind::Store, 3),
];

fn steps() -> impl Strategy<Value = Vec<Step>> {
	let (vcpu, source) = (0..2_usize, 0..SOURCES.len());
	let priority = prop_oneof![0..8_u64, Just(0xff), any::<u64>()];
	let step = prop_oneof![
		4 => source.clone().prop_map(Step::Trigger),
		4 => vcpu.clone().prop_map(Step::Accept),
		4 => (vcpu.clone(), prop_oneof![Just(0_u32), Just(IPI), Just(0xff_ffff), Just(0x77)])
			.prop_map(|(v, irq)| Step::End(v, irq)),
		1 => (vcpu.clone(), priority.clone()).prop_map(|(v, p)| Step::Priority(v, p)),
		3 => (vcpu.clone(), vcpu.clone(), priority).prop_map(|(v, to, p)| Step::Send(v, to, p)),
		1 => (vcpu.clone(), vcpu).prop_map(|(v, of)| Step::Look(v, of)),
		1 => source.clone().prop_map(Step::Mask),
		1 => source.prop_map(Step::Unmask),
	];
	proptest::collection::vec(step, 1..200)
}

/// What the XIVE has put into the queues since the last look goes into the model.
struct Run<'a> {
	machine: &'a Machine,
	models: Vec<Model>,
	/// Of each vcpu and priority: how many entries were seen.
	seen: Vec<[(usize, u32); 7]>,
	accepted: Vec<Vec<u64>>,
	/// Of each source: triggers, accepted, and whether one was accepted since the last trigger.
	counts: Vec<(u32, u32, bool)>,
	saved_q: Vec<bool>,
}

impl<'a> Run<'a> {
	fn new(machine: &'a Machine) -> Self {
		let servers = machine.presentations.len();
		Self {
			machine,
			models: vec![
				Model {
					cppr: 0,
					mfrr: NONE,
					queues: Default::default(),
				};
				servers
			],
			seen: vec![[(0, 1); 7]; servers],
			accepted: vec![vec![]; servers],
			counts: vec![(0, 0, true); machine.sources.len()],
			saved_q: vec![false; machine.sources.len()],
		}
	}

	fn collect(&mut self) {
		let mut xive = self.machine.xive.borrow_mut();
		for (context, (model, seen)) in xive
			.contexts
			.iter_mut()
			.zip(self.models.iter_mut().zip(&mut self.seen))
		{
			for (level, (at, generation)) in seen.iter_mut().enumerate() {
				let queue = context.queues[level].as_mut().unwrap().at().cast::<u32>();
				loop {
					// SAFETY: an entry of the queue.
					let entry = u32::from_be(unsafe { queue.add(*at).read() });
					if entry >> 31 != *generation {
						break;
					}
					let irq = entry & !(1 << 31);
					if irq != IPI {
						model.queues[level].push_back(irq);
					}
					*at = (*at + 1) % ENTRIES;
					*generation ^= u32::from(*at == 0);
				}
			}
		}
	}

	/// The XIVE tells of a priority whose queue is empty: it was pushed because C did not know that
	/// better, or for an MFRR that was taken back. C then does not hear of the next priority. There is
	/// none, or one that is less favoured, and the XIVE interrupts again for the best.
	fn is_stale(&self, v: usize) -> bool {
		let first = usize::from(self.machine.xive.borrow().contexts[v].priority());
		first == 7 || (first < 7 && self.models[v].queues[first].is_empty())
	}

	/// H_XIRR.
	fn accept(&mut self, v: usize) -> Result<u64, TestCaseError> {
		self.collect();
		let vcpu = self.machine.vcpu(v);
		for _ in 0..8 {
			let is_stale = self.is_stale(v);
			let best = self.models[v].best();
			let before = self.models[v].cppr;
			let found = xirr(&vcpu.presenter()).expect("queues are short");
			prop_assert_eq!(found >> 24, u64::from(before));
			let irq = found as u32 & 0xff_ffff;
			if irq == best.0 || !is_stale {
				prop_assert_eq!(irq, best.0, "vcpu {}", v);
			} else {
				let signals = self.machine.xive.borrow().contexts[v].signals();
				prop_assert!(signals, "vcpu {}: {:x?} and no signal", v, best);
				if irq == 0 {
					continue;
				}
			}
			prop_assert!(self.models[v].take(irq), "vcpu {}: {:#x}", v, irq);
			if irq != 0 {
				self.accepted[v].push(found);
			}
			if irq >= FIRST {
				let count = &mut self.counts[(irq - FIRST) as usize];
				(count.1, count.2) = (count.1 + 1, true);
			}
			return Ok(found);
		}
		Err(TestCaseError::fail(
			"an interrupt that is signalled and never there",
		))
	}

	fn end(&mut self, v: usize, other: u32) -> Result<(), TestCaseError> {
		let vcpu = self.machine.vcpu(v);
		let value = match self.accepted[v].pop() {
			Some(xirr) => xirr,
			// Nothing to end: the CPPR stays.
			None => u64::from(self.models[v].cppr) << 24 | u64::from(other),
		};
		let irq = value as u32 & 0xff_ffff;
		let expected = match irq {
			0 | IPI => Code::SUCCESS,
			_ if irq >> 10 == FIRST >> 10 => Code::SUCCESS,
			_ => Code::PARAMETER,
		};
		prop_assert_eq!(eoi(&vcpu.presenter(), value), Ok(expected));
		self.models[v].cppr = clamp((value >> 24) as u8);
		Ok(())
	}

	fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
		match step {
			Step::Trigger(n) => {
				self.counts[n].0 += 1;
				self.counts[n].2 = false;
				self.machine.trigger(n);
			}
			Step::Accept(v) => {
				self.accept(v)?;
			}
			Step::End(v, irq) => self.end(v, irq)?,
			Step::Priority(v, value) => {
				let vcpu = self.machine.vcpu(v);
				prop_assert_eq!(cppr(&vcpu.presenter(), value), Ok(Code::SUCCESS));
				self.models[v].cppr = clamp(value as u8);
			}
			Step::Send(v, to, mfrr) => {
				let vcpu = self.machine.vcpu(v);
				let server = self.machine.presentations[to].server();
				prop_assert_eq!(
					ipi(&vcpu.presenter(), server.into(), mfrr),
					Ok(Code::SUCCESS)
				);
				// C looks at all of the value for the CPPR; what has more than 8 bits tells none.
				self.models[to].mfrr = mfrr as u8;
			}
			Step::Look(v, of) => {
				self.collect();
				let vcpu = self.machine.vcpu(v);
				let model = &self.models[of];
				let (irq, _) = model.best();
				let expected = u64::from(irq | u32::from(model.cppr) << 24);
				let server = self.machine.presentations[of].server();
				let before = self.machine.state();
				let found = ipoll(&vcpu.presenter(), server.into());
				if v != of {
					prop_assert_eq!(found, Err(TooHard));
					prop_assert_eq!(self.machine.state(), before);
					return Ok(());
				}
				let (code, found) = found.expect("queues are short");
				prop_assert_eq!(code, Code::SUCCESS);
				if self.is_stale(v) && found != expected {
					prop_assert_eq!(found >> 24, u64::from(model.cppr));
					prop_assert!(model.clone().take(found as u32 & 0xff_ffff));
				} else {
					prop_assert_eq!(found, expected);
				}
				prop_assert_eq!(self.machine.state(), before);
			}
			Step::Mask(n) => {
				let esb = self.machine.presentations.len() + n;
				if self.machine.sources[n].priority() != NONE {
					self.saved_q[n] = self.machine.xive.borrow().esbs[esb].q;
					self.machine.mask(n);
				}
			}
			Step::Unmask(n) => self.machine.unmask(n, self.saved_q[n]),
		}
		for v in 0..self.models.len() {
			self.check(v)?;
		}
		Ok(())
	}

	/// The XIVE has the vcpu's CPPR, and interrupts the vcpu if there is something to accept.
	fn check(&mut self, v: usize) -> Result<(), TestCaseError> {
		self.collect();
		let (own, model) = (self.machine.presentations[v], &self.models[v]);
		let xive = self.machine.xive.borrow();
		let context = &xive.contexts[v];
		prop_assert_eq!(own.cppr(), model.cppr);
		prop_assert_eq!(own.hw_cppr(), context.cppr);
		prop_assert_eq!(own.cppr(), context.cppr);
		let (irq, _) = model.best();
		// An MFRR of more than 8 bits is not told. Priorities of an MFRR above 7 go as 7, below
		// which the CPPR of an open vcpu is not.
		if irq > IPI {
			prop_assert!(context.signals(), "vcpu {}: {:#x} and no signal", v, irq);
		}
		Ok(())
	}

	/// All that was sent arrives.
	fn drain(&mut self) -> Result<(), TestCaseError> {
		for n in 0..self.machine.sources.len() {
			self.step(Step::Unmask(n))?;
		}
		for v in 0..self.models.len() {
			self.step(Step::Send(v, v, 0xff))?;
			self.step(Step::Priority(v, 0xff))?;
		}
		for _ in 0..100 {
			for v in 0..self.models.len() {
				while !self.accepted[v].is_empty() {
					self.end(v, 0)?;
				}
				self.step(Step::Priority(v, 0xff))?;
				let signals = self.machine.xive.borrow().contexts[v].signals();
				let xirr = self.accept(v)?;
				prop_assert!(
					signals || xirr & 0xff_ffff == 0,
					"{:#x} without a signal",
					xirr
				);
			}
		}
		for (n, &(sent, accepted, is_last)) in self.counts.iter().enumerate() {
			prop_assert!(is_last, "source {}: the last interrupt is lost", n);
			prop_assert!(accepted <= sent, "source {}: {} of {}", n, accepted, sent);
		}
		Ok(())
	}
}

fn clamp(priority: u8) -> u8 {
	match priority {
		0xff | 0..6 => priority,
		_ => 6,
	}
}

proptest! {
	#![proptest_config(ProptestConfig::with_cases(512))]

	/// Random hcalls of two vcpus, and interrupts meanwhile.
	#[test]
	fn hcalls_do_what_the_model_does(steps in steps(), servers in prop_oneof![
		Just([0_u32, 1]), Just([8, 0]), Just([0, 77]), Just([5, 0xffff_ffff]),
	]) {
		let machine = Machine::new(&servers, &SOURCES);
		let mut run = Run::new(&machine);
		for step in steps {
			run.step(step)?;
		}
		run.drain()?;
		let calls = |f: fn(PresentationView) -> u64| machine.presentations.iter().map(|&p| f(p)).sum::<u64>();
		prop_assert!(calls(PresentationView::stat_xirr) >= 200);
		prop_assert!(calls(PresentationView::stat_cppr) >= 200);
		prop_assert!(calls(PresentationView::stat_ipi) >= 2);
	}
}

fn sync(cppr: u8, mfrr: u8, in_eoi: bool) -> Event {
	Event::Sync { cppr, mfrr, in_eoi }
}

/// Where the pages of an ESB are.
fn pages(esb: u64) -> (u64, u64) {
	(PAGES + 2 * esb * PAGE, PAGES + (2 * esb + 1) * PAGE)
}

const CPPR: u64 = TIMA + 0x11;
const PENDING: u64 = TIMA + 0x812;
const ACK: u64 = TIMA + 0x810;

#[test]
fn accesses_and_barriers_are_in_order() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let (vcpu, other) = (machine.vcpu(0), machine.vcpu(1));
	let journal = || machine.journal.take();
	assert_eq!(cppr(&vcpu.presenter(), 0xff), Ok(Code::SUCCESS));
	// The CPPR is in memory before the barrier, and the MFRR is read after it.
	assert_eq!(
		journal(),
		[sync(NONE, NONE, false), Event::Store(CPPR, NONE)]
	);
	cppr(&other.presenter(), 0xff).unwrap();
	journal();

	// H_IPI: the MFRR, the barrier, the trigger.
	assert_eq!(ipi(&vcpu.presenter(), 1, 4), Ok(Code::SUCCESS));
	let (eoi_page, trigger_page) = pages(1);
	assert_eq!(
		journal(),
		[sync(NONE, 4, false), Event::Store(trigger_page, 0)]
	);
	// Its H_XIRR: acknowledge, barrier, queue; the IPI is ended before the MFRR is looked at. The
	// CPPR of the XIVE is that of the IPI's queue, and is corrected.
	assert_eq!(xirr(&other.presenter()), Ok(0xff00_0002));
	assert_eq!(
		journal(),
		[
			Event::Eieio,
			Event::Load(ACK),
			sync(NONE, 4, false),
			Event::Load(eoi_page + 0xc00),
			Event::Store(CPPR, 4),
		]
	);
	// The MFRR is still there, so H_EOI presents it again.
	assert_eq!(eoi(&other.presenter(), 0xff00_0002), Ok(Code::SUCCESS));
	assert_eq!(
		journal(),
		[
			sync(NONE, 4, false),
			Event::Store(PENDING, 4),
			Event::Store(CPPR, NONE),
		]
	);
	// A sender does not tell a vcpu whose CPPR does not let the IPI through.
	cppr(&other.presenter(), 4).unwrap();
	journal();
	assert_eq!(ipi(&vcpu.presenter(), 1, 4), Ok(Code::SUCCESS));
	assert_eq!(journal(), [sync(NONE, 4, false)]);
	// It finds it when it lets it through.
	cppr(&other.presenter(), 5).unwrap();
	assert_eq!(
		journal(),
		[
			sync(5, 4, false),
			Event::Store(PENDING, 4),
			Event::Store(CPPR, 5),
		]
	);
}

#[test]
fn sources_are_ended_in_order() {
	for (n, (kind, _)) in SOURCES.into_iter().enumerate() {
		let machine = Machine::new(&[0], &SOURCES);
		let vcpu = machine.vcpu(0);
		let journal = || machine.journal.take();
		cppr(&vcpu.presenter(), 0xff).unwrap();
		machine.trigger(n);
		let xirr = xirr(&vcpu.presenter()).unwrap();
		assert_eq!(xirr, 0xff00_0000 | u64::from(FIRST + n as u32));
		// It came again: Q is set.
		machine.trigger(n);
		journal();
		let before = vcpu.own().cppr();
		assert_eq!(eoi(&vcpu.presenter(), xirr), Ok(Code::SUCCESS));
		let (eoi_page, trigger_page) = pages(1 + n as u64);
		let ended = match kind {
			Kind::Load => vec![Event::Load(eoi_page + 0xc00), Event::Store(trigger_page, 0)],
			Kind::Store => vec![Event::Store(eoi_page + 0x400, 0)],
			Kind::Level => vec![Event::Load(eoi_page)],
		};
		// `in_eoi` is set before the first barrier, and cleared after the second one.
		let mut expected = vec![sync(before, NONE, true)];
		expected.extend(ended);
		expected.push(sync(NONE, NONE, true));
		expected.push(Event::Store(PENDING, before));
		expected.push(Event::Store(CPPR, NONE));
		assert_eq!(journal(), expected, "{kind:?}");
		assert_eq!(machine.sources[n].in_eoi(), 0);
	}
}

#[test]
fn an_emulated_level_is_sent_again_while_it_is_there() {
	let machine = Machine::new(&[0], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	machine.sources[0].set_lsi(1);
	machine.sources[0].set_asserted(1);
	machine.trigger(0);
	let accepted = xirr(&vcpu.presenter()).unwrap();
	eoi(&vcpu.presenter(), accepted).unwrap();
	assert_eq!(xirr(&vcpu.presenter()), Ok(accepted));
	machine.sources[0].set_asserted(0);
	eoi(&vcpu.presenter(), accepted).unwrap();
	assert_eq!(xirr(&vcpu.presenter()), Ok(0xff00_0000));
}

#[test]
fn a_masked_source_remembers_the_end() {
	let machine = Machine::new(&[0], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	machine.trigger(0);
	let accepted = xirr(&vcpu.presenter()).unwrap();
	machine.mask(0);
	assert_eq!(machine.sources[0].old_p(), 1);
	// Another CPU has the lock: C waits for it, and nothing has changed.
	let before = machine.state();
	// SAFETY: the lock word of the test's own memory.
	unsafe { machine.lock.write(0x2001) };
	assert_eq!(eoi(&vcpu.presenter(), accepted), Err(TooHard));
	assert_eq!(machine.state(), before);
	assert_eq!(vcpu.own().stat_eoi(), 0);
	// SAFETY: the same.
	unsafe { machine.lock.write(0) };
	machine.journal.take();
	assert_eq!(eoi(&vcpu.presenter(), accepted), Ok(Code::SUCCESS));
	assert_eq!(machine.sources[0].old_p(), 0);
	// SAFETY: the same.
	assert_eq!(unsafe { machine.lock.read() }, 0);
	// The ESB is left alone.
	let expected = [
		sync(accepted_priority(), NONE, true),
		sync(NONE, NONE, true),
		Event::Store(CPPR, NONE),
	];
	assert_eq!(machine.journal.take(), expected);
}

/// The CPPR after the first source is accepted.
fn accepted_priority() -> u8 {
	SOURCES[0].1
}

#[test]
fn an_interrupt_that_moved_away_is_for_c() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	machine.trigger(0);
	machine.sources[0].set_server(1);
	let before = machine.state();
	machine.journal.take();
	assert_eq!(cppr(&vcpu.presenter(), 3), Err(TooHard));
	assert_eq!((machine.state(), machine.journal.take()), (before, vec![]));
	// C replaces the entry, and it is skipped.
	let page = vcpu.own().queue(5).unwrap().page() as *mut u32;
	// SAFETY: the first entry of the queue.
	unsafe { page.write_volatile((1 << 31 | DUMMY).to_be()) };
	assert_eq!(cppr(&vcpu.presenter(), 3), Ok(Code::SUCCESS));
	cppr(&vcpu.presenter(), 0xff).unwrap();
	assert_eq!(xirr(&vcpu.presenter()), Ok(0xff00_0000));
	assert_eq!(vcpu.own().queue(5).unwrap().index(), 1);
}

#[test]
fn a_queue_is_not_read_for_ever() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	let page = vcpu.own().queue(5).unwrap().page() as *mut u32;
	for entry in 0..ENTRIES - 1 {
		// SAFETY: an entry of the queue.
		unsafe { page.add(entry).write_volatile((1 << 31 | DUMMY).to_be()) };
	}
	machine.xive.borrow_mut().contexts[0].pending |= 1 << 5;
	assert_eq!(xirr(&vcpu.presenter()), Err(TooHard));
	// C finds what was acknowledged.
	assert_eq!(vcpu.own().pending(), 1 << 5);
	assert_eq!(ipoll(&vcpu.presenter(), 0), Err(TooHard));
	assert_eq!(cppr(&vcpu.presenter(), 0), Err(TooHard));
	// H_EOI says that there may be something.
	assert_eq!(eoi(&vcpu.presenter(), 0xff00_0002), Ok(Code::SUCCESS));
	assert_eq!(vcpu.own().pending(), 1 << 5);
	assert!(machine.xive.borrow().contexts[0].signals());
}

#[test]
fn a_queue_that_was_left_settles_its_count() {
	let machine = Machine::new(&[0], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	let queue = vcpu.own().queue(5).unwrap();
	queue.set_count(3);
	queue.set_left(2);
	machine.trigger(0);
	xirr(&vcpu.presenter()).unwrap();
	assert_eq!((queue.count(), queue.left()), (3, 2));
	xirr(&vcpu.presenter()).unwrap();
	eoi(&vcpu.presenter(), 0xff00_1400).unwrap();
	assert_eq!((queue.count(), queue.left()), (1, 0));
}

#[test]
fn without_a_queue_an_ipi_is_ended_by_its_priority() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let (vcpu, other) = (machine.vcpu(0), machine.vcpu(1));
	machine.xive.borrow_mut().contexts[1].queues[0] = None;
	other.own().queue(0).unwrap().set_page(0);
	cppr(&other.presenter(), 0xff).unwrap();
	for _ in 0..3 {
		ipi(&vcpu.presenter(), 1, 4).unwrap();
		assert!(machine.xive.borrow().contexts[1].signals());
		assert_eq!(xirr(&other.presenter()), Ok(0xff00_0002));
		let esb = machine.xive.borrow().esbs[1];
		assert!(!esb.p && !esb.q);
		ipi(&other.presenter(), 1, 0xff).unwrap();
		eoi(&other.presenter(), 0xff00_0002).unwrap();
	}
}

#[test]
fn numbers_are_looked_at_as_c_does() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let vcpu = machine.vcpu(0);
	let presenter = vcpu.presenter();
	for server in [2, 63, 64, 77, 0xffff_ffff, u64::MAX] {
		assert_eq!(
			ipi(&presenter, server, 4),
			Ok(Code::PARAMETER),
			"{server:#x}"
		);
		assert_eq!(ipoll(&presenter, server), Ok((Code::PARAMETER, 0)));
	}
	assert_eq!((vcpu.own().stat_ipi(), vcpu.own().stat_ipoll()), (6, 6));
	// The low half of a server's number counts; of an MFRR the low byte is kept, and all of it
	// is compared.
	cppr(&presenter, 0xff).unwrap();
	machine.journal.take();
	assert_eq!(ipi(&presenter, 1 << 32, 0x1_0003), Ok(Code::SUCCESS));
	assert_eq!(vcpu.own().mfrr(), 3);
	assert_eq!(machine.journal.take(), [sync(NONE, NONE, false)]);
	ipi(&presenter, 0, 0xff).unwrap();
	// Of a CPPR the low byte counts.
	for (value, expected) in [(0x100, 0), (0x105, 5), (7, 6), (0xfe, 6), (0x1ff, 0xff)] {
		cppr(&presenter, value).unwrap();
		assert_eq!(vcpu.own().cppr(), expected, "{value:#x}");
	}
	// Of an XIRR the low 32 bits.
	for irq in [1, 0x77, FIRST - 0x400, 0xff_ffff] {
		let xirr = 0xabcd_0000_ff00_0000 | u64::from(irq);
		assert_eq!(eoi(&presenter, xirr), Ok(Code::PARAMETER), "{irq:#x}");
	}
	// An H_EOI of nothing sets the CPPR all the same.
	assert_eq!(eoi(&presenter, 0x0700_0077), Ok(Code::PARAMETER));
	assert_eq!(vcpu.own().cppr(), 6);
	assert_eq!(xirr_x(&presenter), Ok((0x0600_0000, 0x1234_5678_9abc)));
}

#[test]
fn other_vcpus_are_found_while_rcu_waits() {
	// 66 slots do not fit into one node.
	for servers in [vec![3, 9], (0..64).rev().collect::<Vec<u32>>()] {
		let machine = Machine::new(&servers, &SOURCES);
		let vcpu = machine.vcpu(0);
		for (index, &server) in servers.iter().enumerate() {
			ipi(&vcpu.presenter(), server.into(), index as u64).unwrap();
			assert_eq!(machine.presentations[index].mfrr(), index as u8);
		}
		// More vcpus than are looked at: C says that there is none.
		machine.kvm.set_online_vcpus(65);
		assert_eq!(ipi(&vcpu.presenter(), 99, 4), Err(TooHard));
		machine.rcu.set(false);
		let own = machine.presentations[0].server();
		assert_eq!(ipi(&vcpu.presenter(), own.into(), 4), Ok(Code::SUCCESS));
		let other = machine.presentations[1].server();
		assert_eq!(ipi(&vcpu.presenter(), other.into(), 4), Err(TooHard));
	}
}

#[test]
fn a_tree_of_vcpus_has_nodes() {
	let mut root = Area::new(4096 + 8 * 64);
	let mut leaf = Area::new(4096 + 8 * 64);
	let mut structures = [Area::new(4096), Area::new(16 * 4096)];
	let [vcpu, own] = &mut structures;
	// SAFETY: memory of this test, with room for all fields.
	let (vcpu, own, nodes) = unsafe {
		(
			VcpuView::new(vcpu.at()),
			PresentationView::new(own.at()),
			[XaNodeView::new(root.at()), XaNodeView::new(leaf.at())],
		)
	};
	own.set_server(0x45);
	vcpu.set_xive_vcpu(own.address().as_ptr() as u64);
	nodes[0].set_shift(6);
	root.set(layout::XA_NODE_SLOTS + 8, leaf.at().as_ptr() as u64 | 2);
	leaf.set(
		layout::XA_NODE_SLOTS + 8 * 5,
		vcpu.address().as_ptr() as u64,
	);
	let machine = Machine::new(&[0, 1], &SOURCES);
	machine.kvm.set_vcpus(root.at().as_ptr() as u64 | 2);
	let caller = machine.vcpu(0);
	assert_eq!(ipi(&caller.presenter(), 0x45, 7), Ok(Code::SUCCESS));
	assert_eq!(own.mfrr(), 7);
	for missing in [0x44, 0x46, 0x85, 0x1045] {
		assert_eq!(ipi(&caller.presenter(), missing, 7), Ok(Code::PARAMETER));
	}
	// In the middle of a change, or a value: C looks.
	for odd in [257 << 2 | 2, 256 << 2 | 2, 1] {
		leaf.set(layout::XA_NODE_SLOTS + 8 * 5, odd);
		assert_eq!(ipi(&caller.presenter(), 0x45, 7), Err(TooHard));
	}
}
