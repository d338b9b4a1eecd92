// SPDX-License-Identifier: GPL-2.0-only
//! Object files, as far as the rules look at them: functions, what they call, symbols.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use ::object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};
use anyhow::{Context, Result, ensure};
use harness::paths;

use crate::insn::Insn;

/// One function of an object file.
#[derive(Debug)]
pub struct Function {
	pub code: Vec<Insn>,
	/// Functions of the same object that it calls.
	pub calls: BTreeSet<String>,
	/// Undefined symbols that it refers to.
	pub outside: BTreeSet<String>,
}

impl Function {
	/// Whether an index is replaced by 0 without a branch, as `tce::clamp()` does it.
	pub fn clamps(&self) -> bool {
		let mut pairs = self.code.windows(2);
		pairs.any(|pair| pair[0].is_cmpld_cr0() && pair[1].is_isel_lt())
	}

	pub fn frame(&self) -> u32 {
		self.code
			.iter()
			.filter_map(|insn| insn.frame())
			.max()
			.unwrap_or(0)
	}
}

/// The section of all functions: the kernel puts no probe into it.
const TEXT: &str = ".noinstr.text";

/// The section of places that depend on what the CPU can do.
pub const FEATURES: &str = "__ftr_fixup";

/// The section of places at which the function tracer patches code.
const TRACED: &str = "__patchable_function_entries";

/// An object file, as far as the gates look at it.
#[derive(Debug)]
pub struct ObjectFile {
	pub functions: BTreeMap<String, Function>,
	pub globals: BTreeSet<String>,
	pub undefined: BTreeSet<String>,
	/// Functions that data points at: the tables of handlers.
	pub pointed_at: BTreeSet<String>,
	pub writable: u64,
	pub text: u64,
	/// Functions that are not in [`TEXT`].
	pub elsewhere: BTreeSet<String>,
	/// Functions that the function tracer can patch without a call in them.
	pub traceable: BTreeSet<String>,
}

impl ObjectFile {
	pub fn read(path: &Path) -> Result<Self> {
		let data = fs::read(path).with_context(|| format!("can't read {}", paths::short(path)))?;
		Self::parse(&data).with_context(|| paths::short(path))
	}

	pub fn parse(data: &[u8]) -> Result<Self> {
		let file = ::object::File::parse(data)?;
		let mut globals = BTreeSet::new();
		let mut undefined = BTreeSet::new();
		let mut starts: BTreeMap<(usize, u64), (String, u64)> = BTreeMap::new();
		for symbol in file.symbols() {
			let name = symbol.name()?.to_owned();
			match symbol.section_index() {
				Some(section) => {
					if symbol.is_global() {
						globals.insert(name.clone());
					}
					if symbol.kind() == SymbolKind::Text && symbol.size() != 0 {
						starts.insert((section.0, symbol.address()), (name, symbol.size()));
					}
				}
				None if symbol.is_undefined() && !name.is_empty() => {
					undefined.insert(name);
				}
				None => {}
			}
		}
		let function_at = |section: SectionIndex, address: u64| {
			starts
				.range(..=(section.0, address))
				.next_back()
				.filter(|((at, start), (_, size))| *at == section.0 && address < start + size)
				.map(|(_, (name, _))| name.clone())
		};

		let mut functions = BTreeMap::new();
		let mut elsewhere = BTreeSet::new();
		for ((index, start), (name, size)) in &starts {
			let section = file.section_by_index(SectionIndex(*index))?;
			if section.name()? != TEXT {
				elsewhere.insert(name.clone());
			}
			let data = section.data()?;
			let bytes = data
				.get(*start as usize..(*start + *size) as usize)
				.with_context(|| format!("{name} reaches beyond its section"))?;
			let code = bytes
				.chunks_exact(4)
				.map(|w| Insn(u32::from_le_bytes(w.try_into().unwrap())));
			let function = Function {
				code: code.collect(),
				calls: BTreeSet::new(),
				outside: BTreeSet::new(),
			};
			functions.insert(name.clone(), function);
		}

		let mut pointed_at = BTreeSet::new();
		let mut traceable = BTreeSet::new();
		let (mut writable, mut text) = (0, 0);
		for section in file.sections() {
			let name = section.name()?;
			if name == TEXT {
				text += section.size();
			}
			if [".data", ".bss"].iter().any(|kind| name.starts_with(kind))
				&& !name.starts_with(".data.rel.ro")
			{
				writable += section.size();
			}
			for (offset, relocation) in section.relocations() {
				let RelocationTarget::Symbol(target) = relocation.target() else {
					continue;
				};
				let symbol = file.symbol_by_index(target)?;
				let inside = symbol.section_index().and_then(|section| {
					let address = symbol.address().wrapping_add_signed(relocation.addend());
					function_at(section, address)
				});
				match function_at(section.index(), offset) {
					Some(caller) => {
						let caller = functions.get_mut(&caller).expect("found by its name");
						if let Some(callee) = inside {
							caller.calls.insert(callee);
						} else if symbol.is_undefined() {
							caller.outside.insert(symbol.name()?.to_owned());
						}
					}
					// Says where the kernel patches code, and is no table of handlers.
					None if name == FEATURES => {}
					None if name == TRACED => traceable.extend(inside),
					None => pointed_at.extend(inside),
				}
			}
		}
		Ok(Self {
			functions,
			globals,
			undefined,
			pointed_at,
			writable,
			text,
			elsewhere,
			traceable,
		})
	}

	/// The deepest stack below and including `name`, in bytes, but for functions that are
	/// left out.
	pub fn stack(
		&self,
		name: &str,
		above: &mut Vec<String>,
		left_out: &dyn Fn(&str) -> bool,
	) -> Result<u32> {
		if left_out(name) {
			return Ok(0);
		}
		ensure!(
			!above.iter().any(|n| n == name),
			"{name} is recursive: no bound on its stack"
		);
		let function = &self.functions[name];
		above.push(name.to_owned());
		let mut deepest = 0;
		for callee in &function.calls {
			deepest = deepest.max(self.stack(callee, above, left_out)?);
		}
		above.pop();
		Ok(function.frame() + deepest)
	}

	/// `roots` and everything of this object that they call.
	pub fn reachable(&self, roots: &BTreeSet<String>) -> BTreeSet<String> {
		let mut seen = BTreeSet::new();
		let mut todo: Vec<_> = roots.iter().cloned().collect();
		while let Some(name) = todo.pop() {
			if seen.insert(name.clone()) {
				todo.extend(self.functions[&name].calls.iter().cloned());
			}
		}
		seen
	}
}
