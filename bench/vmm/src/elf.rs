// SPDX-License-Identifier: GPL-2.0-only
//! Loads a static ELF file: just enough for the payload.

use crate::kvm::Memory;

const PT_LOAD: u32 = 1;
const EM_PPC64: u16 = 21;

fn field<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N], String> {
	file.get(at..)
		.and_then(|rest| rest.first_chunk())
		.copied()
		.ok_or_else(|| format!("the payload ends before offset {at:#x}"))
}

/// Copies the segments to where they want to be and returns the entry point.
pub fn load(file: &[u8], memory: &Memory) -> Result<u64, String> {
	let half = |at| field(file, at).map(u16::from_le_bytes);
	let word = |at| field(file, at).map(u32::from_le_bytes);
	let long = |at| field(file, at).map(u64::from_le_bytes);
	// Magic, 64 bits, little-endian.
	if field(file, 0)? != *b"\x7fELF\x02\x01" || half(18)? != EM_PPC64 {
		return Err("the payload is no ppc64le ELF file".into());
	}
	let (headers, size, count) = (long(32)? as usize, half(54)? as usize, half(56)? as usize);
	for header in (0..count).map(|index| headers + index * size) {
		if word(header)? != PT_LOAD {
			continue;
		}
		let (offset, address, length) = (
			long(header + 8)? as usize,
			long(header + 16)?,
			long(header + 32)? as usize,
		);
		let bytes = offset
			.checked_add(length)
			.and_then(|end| file.get(offset..end))
			.ok_or("a segment of the payload reaches past its end")?;
		// What the file doesn't have is zero already: the mapping is new.
		memory.write_bytes(address, bytes);
	}
	long(24)
}
