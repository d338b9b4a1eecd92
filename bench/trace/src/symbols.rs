// SPDX-License-Identifier: GPL-2.0-only
//! Which function of the kernel an instruction belongs to, and in what it is written.
//!
//! vmlinux has the names. It does not say which of them come from assembly: that is
//! asked from the objects that it was linked from, by the caller, who knows where
//! they are and what they were made of ([`Sources`]).

use std::collections::HashMap;

use object::{Object, ObjectSection, ObjectSymbol, SectionFlags, SymbolKind};

/// Whose instructions they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Origin {
	/// The guest's own.
	Guest,
	/// Interrupt vectors and the kernel's other assembly, and the firmware.
	Asm,
	/// This project's assembly.
	Trampoline,
	/// This project's Rust.
	Rust,
	/// The kernel's C.
	C,
	/// Userspace on the host.
	User,
}

/// Names that are not C's.
#[derive(Default)]
pub struct Sources(HashMap<String, Origin>);

impl Sources {
	/// All functions of a relocatable object are of that kind.
	pub fn add(&mut self, object: &[u8], kind: Origin) -> Result<(), String> {
		let file = object::File::parse(object).map_err(|error| error.to_string())?;
		for (_, name) in code_symbols(&file) {
			self.0.insert(name, kind);
		}
		Ok(())
	}

	/// Whether any name is of that kind.
	pub fn has(&self, kind: Origin) -> bool {
		self.0.values().any(|&known| known == kind)
	}
}

const SHF_EXECINSTR: u64 = 4;

/// Names and addresses of what lies in executable sections.
fn code_symbols<'a>(file: &'a object::File<'a>) -> impl Iterator<Item = (u64, String)> + 'a {
	file.symbols().filter_map(move |symbol| {
		let section = file.section_by_index(symbol.section_index()?).ok()?;
		let SectionFlags::Elf { sh_flags } = section.flags() else {
			return None;
		};
		let code = matches!(symbol.kind(), SymbolKind::Text | SymbolKind::Unknown);
		let name = symbol.name().ok()?;
		// What remains of local labels: kallsyms leaves them out, too.
		let label = name.is_empty() || name.starts_with(".L") || name.starts_with('$');
		(sh_flags & SHF_EXECINSTR != 0 && code && !label)
			.then(|| (symbol.address(), name.to_owned()))
	})
}

/// A function of the kernel, or what assembly has instead.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
	/// Address in the kernel's linear map.
	pub start: u64,
	/// As readers should see it.
	pub name: String,
	/// In what it is written.
	pub kind: Origin,
}

/// A kernel's functions by address.
pub struct Symbols {
	functions: Vec<Function>,
	/// Ranges of executable sections.
	text: Vec<(u64, u64)>,
}

/// Where the kernel's linear map starts.
pub const LINEAR: u64 = 0xc000_0000_0000_0000;

impl Symbols {
	/// From vmlinux. An error if it has no symbols.
	pub fn new(vmlinux: &[u8], sources: &Sources) -> Result<Self, String> {
		let file = object::File::parse(vmlinux).map_err(|error| error.to_string())?;
		let mut text = Vec::new();
		for section in file.sections() {
			// What only boots is freed then, and may well become a guest's memory.
			let kept = !section
				.name()
				.is_ok_and(|name| name.starts_with(".init") || name.starts_with(".exit"));
			if let SectionFlags::Elf { sh_flags } = section.flags()
				&& sh_flags & SHF_EXECINSTR != 0
				&& kept
			{
				text.push((section.address(), section.address() + section.size()));
			}
		}
		let mut all: Vec<(u64, String)> = code_symbols(&file).collect();
		// Of several names for one address the one whose source is known says most, and
		// section boundaries say least.
		all.sort_by_cached_key(|(address, name)| {
			let boundary = name.starts_with("__start") || name.starts_with('_');
			(
				*address,
				!sources.0.contains_key(name),
				boundary,
				name.clone(),
			)
		});
		all.dedup_by_key(|(address, _)| *address);
		if all.is_empty() {
			return Err("it has no symbols".to_owned());
		}
		let functions = all
			.into_iter()
			.map(|(start, name)| {
				let kind = sources.0.get(&name).copied().unwrap_or(Origin::C);
				Function {
					start,
					name: format!("{:#}", rustc_demangle::demangle(&name)),
					kind,
				}
			})
			.collect();
		Ok(Self { functions, text })
	}

	/// For a kernel without symbols: all of it is one function.
	pub fn unknown() -> Self {
		const SIZE: u64 = 64 << 20;
		Self {
			functions: vec![Function {
				start: LINEAR,
				name: "kernel".to_owned(),
				kind: Origin::C,
			}],
			text: vec![(LINEAR, LINEAR + SIZE)],
		}
	}

	#[cfg(test)]
	pub(crate) fn of(functions: &[(u64, &str, Origin)], end: u64) -> Self {
		Self {
			functions: functions
				.iter()
				.map(|&(start, name, kind)| Function {
					start,
					name: name.to_owned(),
					kind,
				})
				.collect(),
			text: vec![(LINEAR, end)],
		}
	}

	/// The function at an address of the linear map.
	pub fn at(&self, address: u64) -> Option<&Function> {
		let inside = |&(start, end): &(u64, u64)| (start..end).contains(&address);
		if !self.text.iter().any(inside) {
			return None;
		}
		let after = self
			.functions
			.partition_point(|function| function.start <= address);
		self.functions.get(after.checked_sub(1)?)
	}

	/// End of the code that stays after booting, in the linear map.
	pub fn end(&self) -> u64 {
		self.text
			.iter()
			.map(|&(_, end)| end)
			.max()
			.unwrap_or(LINEAR)
	}

	/// The function of that name.
	pub fn named(&self, name: &str) -> Option<&Function> {
		self.functions.iter().find(|function| function.name == name)
	}

	/// Whether there is a function of that name.
	pub fn has(&self, name: &str) -> bool {
		self.named(name).is_some()
	}
}

/// Whether one of `words` is in a kernel's code.
pub fn contains_word(vmlinux: &[u8], words: &[u32]) -> Result<bool, String> {
	let file = object::File::parse(vmlinux).map_err(|error| error.to_string())?;
	for section in file.sections() {
		if let SectionFlags::Elf { sh_flags } = section.flags()
			&& sh_flags & SHF_EXECINSTR != 0
		{
			let data = section.data().map_err(|error| error.to_string())?;
			let (code, _) = data.as_chunks::<4>();
			if code
				.iter()
				.any(|&bytes| words.contains(&u32::from_le_bytes(bytes)))
			{
				return Ok(true);
			}
		}
	}
	Ok(false)
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn addresses_belong_to_the_function_before_them() {
		let symbols = Symbols::of(
			&[
				(LINEAR + 0x100, "vector", Origin::Asm),
				(LINEAR + 0x200, "c", Origin::C),
			],
			LINEAR + 0x300,
		);
		let name = |offset| symbols.at(LINEAR + offset).map(|f| f.name.as_str());
		assert_eq!(name(0xfc), None);
		assert_eq!(name(0x100), Some("vector"));
		assert_eq!(name(0x1fc), Some("vector"));
		assert_eq!(name(0x2fc), Some("c"));
		assert_eq!(name(0x300), None);
		assert!(symbols.has("c") && !symbols.has("d"));
		assert_eq!(symbols.named("c").map(|c| c.start), Some(LINEAR + 0x200));
		assert_eq!(symbols.end(), LINEAR + 0x300);
	}

	#[test]
	fn what_is_no_kernel_is_refused() {
		assert!(Symbols::new(b"not an ELF file", &Sources::default()).is_err());
		assert!(Sources::default().add(b"", Origin::Asm).is_err());
	}
}
