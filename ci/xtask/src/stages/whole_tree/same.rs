// SPDX-License-Identifier: GPL-2.0-only
//! Whether two objects are the same: sections that are loaded, and relocations.
//!
//! rustc puts a hash of the crate into the names of functions, and orders functions by their names. The
//! hash depends on how rustc is called. So functions are compared one by one, each with that of the same
//! name without hashes, wherever it is.

use std::collections::{BTreeMap, BTreeSet};

use ::object::{
	File, Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionFlags, SectionIndex,
	SymbolIndex, SymbolKind, SymbolSection, elf::SHF_ALLOC,
};
use anyhow::Result;

/// A function, or a section without functions: bytes, and relocations by offset.
type Part = (Vec<u8>, BTreeSet<(u64, String)>);

/// The first part in which two objects differ.
pub(super) fn difference(a: &[u8], b: &[u8]) -> Result<Option<String>> {
	let (a, b) = (parts(a)?, parts(b)?);
	let names: BTreeSet<_> = a.keys().chain(b.keys()).collect();
	let differing = names.into_iter().find(|name| a.get(*name) != b.get(*name));
	Ok(differing.map(|name| format!("{name} differs")))
}

struct Function {
	name: String,
	size: u64,
}

/// The functions of an object, by section and by where they begin.
type Functions = BTreeMap<(usize, u64), Function>;

fn functions(file: &File<'_>) -> Result<Functions> {
	let mut found = Functions::new();
	let mut names = BTreeSet::new();
	for symbol in file.symbols() {
		let (Some(section), SymbolKind::Text, 1..) =
			(symbol.section_index(), symbol.kind(), symbol.size())
		else {
			continue;
		};
		let mut name = format!("{:#}", rustc_demangle::demangle(symbol.name()?));
		while !names.insert(name.clone()) {
			name.push('\'');
		}
		let size = symbol.size();
		found.insert((section.0, symbol.address()), Function { name, size });
	}
	Ok(found)
}

/// The function that has this address, and where in it that is.
fn function_at(functions: &Functions, section: SectionIndex, address: u64) -> Option<(&str, u64)> {
	let section = section.0;
	let (&(_, start), function) = functions
		.range((section, 0)..=(section, address))
		.next_back()?;
	let offset = address - start;
	(offset < function.size).then_some((&function.name, offset))
}

fn parts(bytes: &[u8]) -> Result<BTreeMap<String, Part>> {
	let file = File::parse(bytes)?;
	let functions = functions(&file)?;
	let mut found = BTreeMap::new();
	let loaded = |flags| matches!(flags, SectionFlags::Elf { sh_flags } if sh_flags & u64::from(SHF_ALLOC) != 0);
	let sections = file.sections().filter(|section| loaded(section.flags()));
	for (number, section) in sections.enumerate() {
		// In a C object several sections may share a name.
		let section_name = format!("{} #{number}", section.name()?);
		let (index, data) = (section.index(), section.data()?);
		let mut own = functions
			.range((index.0, 0)..(index.0 + 1, 0))
			.map(|(&(_, start), function)| ((start - section.address()) as usize, function))
			.peekable();
		// What is between functions is never reached.
		if own.peek().is_none() {
			found.insert(section_name.clone(), (data.to_owned(), BTreeSet::new()));
		}
		for (start, function) in own {
			let code = &data[start..start + function.size as usize];
			found.insert(function.name.clone(), (code.to_owned(), BTreeSet::new()));
		}
		for (at, relocation) in section.relocations() {
			let target = match relocation.target() {
				RelocationTarget::Symbol(index) => {
					target(&file, &functions, index, relocation.addend())?
				}
				other => format!("{other:?}{:+}", relocation.addend()),
			};
			let (part, at) = function_at(&functions, index, at).unwrap_or((&section_name, at));
			let (_, relocations) = found.entry(part.to_owned()).or_default();
			relocations.insert((at, format!("{:?} {target}", relocation.flags())));
		}
	}
	Ok(found)
}

/// What a relocation refers to: by its place, or by its name if it has no place here.
fn target(
	file: &File<'_>,
	functions: &Functions,
	index: SymbolIndex,
	addend: i64,
) -> Result<String> {
	let symbol = file.symbol_by_index(index)?;
	let SymbolSection::Section(section) = symbol.section() else {
		return Ok(format!("{}{addend:+}", symbol.name()?));
	};
	let address = symbol.address().wrapping_add_signed(addend);
	if let Some((name, offset)) = function_at(functions, section, address) {
		return Ok(format!("{name}+{offset:#x}"));
	}
	let section = file.section_by_index(section)?;
	Ok(format!("{}:{address:#x}", section.name()?))
}

#[cfg(test)]
mod tests {
	use super::*;

	#[inline(never)]
	#[unsafe(no_mangle)]
	extern "C" fn a_function_of_the_test(value: u64) -> u64 {
		std::hint::black_box(value)
	}

	/// An instruction of a function is another one: in this program itself.
	#[test]
	fn a_change_is_found() {
		assert_eq!(a_function_of_the_test(1), 1);
		let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
		assert_eq!(difference(&program, &program).unwrap(), None);
		let file = File::parse(&*program).unwrap();
		let function = file.symbol_by_name("a_function_of_the_test").unwrap();
		let section = file
			.section_by_index(function.section_index().unwrap())
			.unwrap();
		let (start, _) = section.file_range().unwrap();
		let mut changed = program.clone();
		changed[(start + function.address() - section.address()) as usize] ^= 1;
		assert_eq!(
			difference(&program, &changed).unwrap().as_deref(),
			Some("a_function_of_the_test differs")
		);
	}
}
