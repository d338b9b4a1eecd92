// SPDX-License-Identifier: GPL-2.0-only
//! What a POWER9 may make of a sequence of instructions, in cycles.
//!
//! QEMU has no pipeline, so what comes out of it is instructions. This walks along
//! a round trip and adds up what the literature says that its operations cost; `power9.toml`
//! has the costs and where they are from. Order matters: a read of a special register that
//! comes soon after a write waits for it, an isync costs more behind a write of LPIDR, and
//! the same read a hundred instructions later waits for nothing.
//!
//! Two figures are not published: what an ordinary instruction takes, and what a write of
//! the registers that choose an address space does. They are chosen such that two round trips whose cycles *are*
//! published come out right ([`fit`](Model::fit)), and two more of which something is
//! published say how wrong the rest is. README.md says what all that is worth.

pub mod reference;

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use trace::attribute::Phase;
use trace::insn::Op;

/// An instruction, as far as the model looks at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ModelInsn {
	/// What.
	pub op: Op,
	/// Whether the next instruction is elsewhere.
	pub jumps: bool,
	/// Which part of the round trip.
	pub phase: Phase,
}

/// The costs that come with the program.
pub const POWER9: &str = include_str!("../power9.toml");

/// How a cost is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
	/// Stated in its source.
	Published,
	/// Worked out from a difference that is.
	Inferred,
	/// Taken from the nearest thing that is.
	Assumed,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cost {
	operations: Vec<String>,
	cycles: Option<f64>,
	low: Option<f64>,
	high: Option<f64>,
	/// They change the context.
	#[serde(default)]
	context: bool,
	#[expect(dead_code, reason = "for readers of the file; it has to be there")]
	status: Status,
	source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Behind {
	first: Vec<String>,
	second: Vec<String>,
	cycles: f64,
	#[expect(dead_code, reason = "for readers of the file; it has to be there")]
	status: Status,
	source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stall {
	writes: Vec<String>,
	waits: Vec<String>,
	cycles: f64,
	#[expect(dead_code, reason = "for readers of the file; it has to be there")]
	status: Status,
	source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fitted {
	plain: Vec<String>,
	mmu: Vec<String>,
}

/// What a published figure is used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub enum Role {
	/// The free parameters are chosen by it.
	#[serde(rename = "fit")]
	Fit,
	/// It says how wrong the model is.
	#[serde(rename = "held out")]
	HeldOut,
}

/// A round trip whose cycles are published.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
	/// What it is.
	pub name: String,
	/// Cycles.
	pub cycles: f64,
	/// What for.
	pub role: Role,
	/// Which of [`reference`]'s sequences.
	pub data: String,
	/// By whom.
	pub source: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
	cost: Vec<Cost>,
	sequence: Vec<Cost>,
	behind: Vec<Behind>,
	stall: Stall,
	fit: Fitted,
	path: Vec<Published>,
}

/// Why a file of costs is refused, or a fit has failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error(String);

impl fmt::Display for Error {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		f.write_str(&self.0)
	}
}

impl std::error::Error for Error {}

fn error<T>(text: impl fmt::Display) -> Result<T, Error> {
	Err(Error(text.to_string()))
}

/// Where in its range a cost is taken to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
	/// Its least.
	Low,
	/// Its middle.
	Middle,
	/// Its greatest.
	High,
}

impl Cost {
	fn at(&self, at: At) -> Result<f64, Error> {
		let (low, high) = match (self.cycles, self.low, self.high) {
			(Some(cycles), None, None) => (cycles, cycles),
			(None, Some(low), Some(high)) if low <= high => (low, high),
			_ => {
				return error(format_args!(
					"{:?}: neither cycles nor a range",
					self.operations
				));
			}
		};
		if !(0.0..10_000.0).contains(&low) || !(0.0..10_000.0).contains(&high) {
			return error(format_args!("{:?}: no number of cycles", self.operations));
		}
		Ok(match at {
			At::Low => low,
			At::Middle => (low + high) / 2.0,
			At::High => high,
		})
	}
}

/// The two figures that are not published.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Parameters {
	/// Cycles of an ordinary instruction.
	pub plain: f64,
	/// Cycles of a write of LPIDR, PIDR or LPCR.
	pub mmu: f64,
}

/// What the model needs to know of a kind of instruction.
#[derive(Clone, Copy, Debug)]
struct Behaviour {
	/// `None`: it is an ordinary instruction.
	cycles: Option<f64>,
	/// It chooses an address space, for the fitted cost.
	mmu: bool,
	/// It changes the context.
	context: bool,
	/// It is one that `waits` for another that `writes`.
	writes: bool,
	waits: bool,
	/// Index of the rules by which something costs more behind it, a bit each.
	first: u32,
	/// The same of those by which it costs more.
	second: u32,
}

/// Costs, ready to be used.
pub struct Model {
	file: File,
	costs: HashMap<String, f64>,
	context: Vec<String>,
	known: std::cell::RefCell<HashMap<Op, Behaviour>>,
}

fn names(op: Op) -> [Option<String>; 2] {
	match op.names() {
		Some((kind, own)) => [own, Some(kind.to_owned())],
		None => [None, None],
	}
}

fn listed(list: &[String], op: Op) -> bool {
	names(op)
		.iter()
		.flatten()
		.any(|name| list.iter().any(|other| other == name))
}

impl Model {
	/// Reads a file of costs. `at` says what to make of ranges.
	pub fn new(text: &str, at: At) -> Result<Self, Error> {
		let file: File = toml::from_str(text).map_err(|e| Error(e.to_string()))?;
		let mut costs = HashMap::new();
		for cost in &file.cost {
			let cycles = cost.at(at)?;
			if cost.source.trim().is_empty() {
				return error(format_args!("{:?}: no source", cost.operations));
			}
			for name in &cost.operations {
				if let Some((_, register)) = name.split_once("spr:")
					&& !trace::insn::Spr::is_name(register)
				{
					return error(format_args!("{name}: no such register"));
				}
				if costs.insert(name.clone(), cycles).is_some() {
					return error(format_args!("{name} has two costs"));
				}
			}
		}
		for sequence in &file.sequence {
			sequence.at(at)?;
		}
		let sourced = file.behind.iter().all(|rule| !rule.source.is_empty())
			&& !file.stall.source.is_empty()
			&& file.path.iter().all(|path| !path.source.is_empty());
		if !sourced {
			return error("a rule or a path has no source");
		}
		if file.behind.len() > 32 {
			return error("too many rules");
		}
		if file.fit.plain != ["*"] {
			return error("fit.plain is everything that has no cost, or nothing can be fitted");
		}
		Ok(Self {
			context: file
				.cost
				.iter()
				.filter(|cost| cost.context)
				.flat_map(|cost| cost.operations.iter().cloned())
				.collect(),
			file,
			costs,
			known: Default::default(),
		})
	}

	/// Round trips whose cycles are published.
	pub fn published(&self) -> &[Published] {
		&self.file.path
	}

	fn behaviour(&self, op: Op) -> Behaviour {
		if let Some(&known) = self.known.borrow().get(&op) {
			return known;
		}
		let cycles = names(op)
			.iter()
			.flatten()
			.find_map(|name| self.costs.get(name))
			.copied();
		let mut behaviour = Behaviour {
			cycles,
			mmu: listed(&self.file.fit.mmu, op),
			context: listed(&self.context, op),
			// LR and CTR are renamed and have kinds of their own, so they are in neither.
			writes: listed(&self.file.stall.writes, op),
			waits: listed(&self.file.stall.waits, op),
			first: 0,
			second: 0,
		};
		for (index, rule) in self.file.behind.iter().enumerate() {
			behaviour.first |= u32::from(listed(&rule.first, op)) << index;
			behaviour.second |= u32::from(listed(&rule.second, op)) << index;
		}
		self.known.borrow_mut().insert(op, behaviour);
		behaviour
	}

	/// Cycles of each instruction of a sequence.
	pub fn cycles(&self, steps: &[ModelInsn], parameters: Parameters) -> Vec<f64> {
		let mut cycles = Vec::with_capacity(steps.len());
		// Since the beginning.
		let mut now = 0.0;
		// When the last write of a special register will be done.
		let mut written: f64 = 0.0;
		// Rules whose first part has been seen.
		let mut pending = 0u32;
		let interrupt = self.costs.get("interrupt").copied().unwrap_or_default();
		let mut index = 0;
		while index < steps.len() {
			if let Some((length, cost)) = self.sequence(&steps[index..]) {
				cycles.extend((1..length).map(|_| 0.0));
				cycles.push(cost);
				now += cost;
				index += length;
				continue;
			}
			let step = steps[index];
			let behaviour = self.behaviour(step.op);
			let mut cost = behaviour.cycles.unwrap_or(parameters.plain);
			if behaviour.mmu {
				cost = parameters.mmu;
			}
			// It goes on elsewhere, and no branch and no return is why.
			let branches = matches!(step.op, Op::Branch { .. });
			if step.jumps && !branches && !behaviour.context {
				cost += interrupt;
			}
			let met = pending & behaviour.second;
			for (index, rule) in self.file.behind.iter().enumerate() {
				if met >> index & 1 != 0 {
					cost = cost.max(rule.cycles);
				}
			}
			pending &= !met;
			pending |= behaviour.first;
			// What refetches has everything before it done, and so waits as well.
			if behaviour.waits || behaviour.context {
				cost += f64::max(written - now, 0.0);
			}
			now += cost;
			if behaviour.writes {
				written = now + self.file.stall.cycles;
			}
			cycles.push(cost);
			index += 1;
		}
		cycles
	}

	/// Whether `steps` begin with one of the sequences; its length and its cost.
	fn sequence(&self, steps: &[ModelInsn]) -> Option<(usize, f64)> {
		// Almost everything is over here.
		steps[0].op.names()?;
		self.file.sequence.iter().find_map(|sequence| {
			let length = sequence.operations.len();
			let matches = steps.len() >= length
				&& sequence
					.operations
					.iter()
					.zip(steps)
					.all(|(name, step)| listed(std::slice::from_ref(name), step.op));
			let cost = sequence.at(At::Middle).ok()?;
			matches.then_some((length, cost))
		})
	}

	/// Cycles of a round trip without the loop around it.
	pub fn total(&self, round: &[ModelInsn], empty: &[ModelInsn], parameters: Parameters) -> f64 {
		let sum = |steps| self.cycles(steps, parameters).iter().sum::<f64>();
		sum(round) - sum(empty)
	}

	/// Chooses the parameters such that the published round trips come out right.
	pub fn fit(&self) -> Result<Parameters, Error> {
		let given: Vec<&Published> = self
			.file
			.path
			.iter()
			.filter(|path| path.role == Role::Fit)
			.collect();
		let [short, long] = given[..] else {
			return error("two parameters need two figures");
		};
		let residual = |parameters| -> Result<[f64; 2], Error> {
			let of = |path: &Published| {
				let sequence = reference::get(&path.data)?;
				let total = self.total(&sequence.round, &sequence.empty, parameters);
				Ok(total - path.cycles)
			};
			Ok([of(short)?, of(long)?])
		};
		// Newton: but for the stalls, which get shorter, the model is linear in both.
		let mut at = Parameters {
			plain: 0.7,
			mmu: 50.0,
		};
		const STEP: f64 = 1e-4;
		for _ in 0..100 {
			let [a, b] = residual(at)?;
			if a.abs() < 1e-6 && b.abs() < 1e-6 {
				break;
			}
			let [ap, bp] = residual(Parameters {
				plain: at.plain + STEP,
				..at
			})?;
			let [am, bm] = residual(Parameters {
				mmu: at.mmu + STEP,
				..at
			})?;
			let (ap, bp, am, bm) = (ap - a, bp - b, am - a, bm - b);
			let determinant = (ap * bm - am * bp) / (STEP * STEP);
			if determinant.abs() < 1e-9 {
				return error("the two figures don't tell the parameters apart");
			}
			at.plain -= (a * bm - am * b) / STEP / determinant;
			at.mmu -= (ap * b - a * bp) / STEP / determinant;
		}
		let [a, b] = residual(at)?;
		if a.abs() > 0.01 || b.abs() > 0.01 {
			return error(format_args!(
				"no fit: {a:.1} and {b:.1} cycles are left over"
			));
		}
		// Six are dispatched a cycle at most, and no plain one takes as long as a mtspr.
		if !(1.0 / 6.0..12.0).contains(&at.plain) || !(12.0..2000.0).contains(&at.mmu) {
			return error(format_args!(
				"the fit gives {:.2} cycles an instruction and {:.0} a write of LPIDR",
				at.plain, at.mmu
			));
		}
		Ok(at)
	}
}

/// A model, fitted, with what is known of its error.
pub struct Fitting {
	models: [(Model, Parameters); 3],
	/// How far off it was where it can be compared, as a part of the published figure.
	pub held_out: f64,
}

/// What the model makes of a round trip.
#[derive(Clone, PartialEq, Debug)]
pub struct Prediction {
	/// Cycles.
	pub cycles: f64,
	/// Half the width of the range in which they are thought to be.
	pub error: f64,
	/// Of each phase, in the order of the first instruction of each.
	pub phases: Vec<(Phase, f64)>,
}

impl Fitting {
	/// Fits the model to what is published; also at both ends of all ranges.
	pub fn new(text: &str) -> Result<Self, Error> {
		let fitted = |at| -> Result<_, Error> {
			let model = Model::new(text, at)?;
			let parameters = model.fit()?;
			Ok((model, parameters))
		};
		let mut fitting = Self {
			models: [fitted(At::Middle)?, fitted(At::Low)?, fitted(At::High)?],
			held_out: 0.0,
		};
		let checks = fitting.checks()?;
		if checks.is_empty() {
			return error("nothing is held out, so nothing says how wrong the model is");
		}
		fitting.held_out = checks
			.iter()
			.map(|(path, cycles)| (cycles / path.cycles - 1.0).abs())
			.fold(0.0, f64::max);
		Ok(fitting)
	}

	/// The parameters.
	pub fn parameters(&self) -> Parameters {
		self.models[0].1
	}

	/// The parameters with all ranges at their least and at their greatest.
	pub fn range(&self) -> [Parameters; 2] {
		[self.models[1].1, self.models[2].1]
	}

	/// What was held out, and what the model says of it.
	pub fn checks(&self) -> Result<Vec<(&Published, f64)>, Error> {
		let (model, parameters) = &self.models[0];
		model
			.published()
			.iter()
			.filter(|path| path.role == Role::HeldOut)
			.map(|path| {
				let sequence = reference::get(&path.data)?;
				Ok((
					path,
					model.total(&sequence.round, &sequence.empty, *parameters),
				))
			})
			.collect()
	}

	/// Cycles of one of `trips` round trips, without the loop around each. `empty` is the
	/// loop, once.
	pub fn predict(&self, round: &[ModelInsn], empty: &[ModelInsn], trips: usize) -> Prediction {
		let trips = trips.max(1) as f64;
		let totals = self.models.each_ref().map(|(model, parameters)| {
			let sum = |steps| model.cycles(steps, *parameters).iter().sum::<f64>();
			sum(round) / trips - sum(empty)
		});
		let [cycles, low, high] = totals;
		let spread = (low - cycles).abs().max((high - cycles).abs());
		let (model, parameters) = &self.models[0];
		let mut phases: Vec<(Phase, f64)> = Vec::new();
		for (step, cycles) in round.iter().zip(model.cycles(round, *parameters)) {
			match phases.iter_mut().find(|(phase, _)| *phase == step.phase) {
				Some((_, sum)) => *sum += cycles / trips,
				None => phases.push((step.phase, cycles / trips)),
			}
		}
		let looped: f64 = model.cycles(empty, *parameters).iter().sum();
		if let Some((_, guest)) = phases.iter_mut().find(|(phase, _)| *phase == Phase::Guest) {
			*guest -= looped;
		}
		Prediction {
			cycles,
			error: f64::hypot(self.held_out * cycles, spread),
			phases,
		}
	}
}

#[cfg(test)]
mod tests;
