// SPDX-License-Identifier: GPL-2.0-only
//! Random hcalls and interrupts against the model.

use hcall::Code;
use proptest::prelude::*;

use super::model::Model;
use super::xive::*;
use super::*;

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
