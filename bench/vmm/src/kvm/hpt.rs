// SPDX-License-Identifier: GPL-2.0-only
//! The page table (HPT) of a hash guest: what it has, and its size.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

use super::{failed, ioctl, is_unsupported};
use crate::abi;

/// An entry of the HPT as the guest sees it: two doublewords.
pub type Hpte = [u64; 2];

/// What reads and resizes the HPT of a VM.
pub struct HptFiles(pub(super) OwnedFd);

impl HptFiles {
	/// A file that reads the HPT. While it is open KVM notes changes of HPTEs.
	pub fn open(&self) -> Result<HptFile> {
		let request = abi::GetHtabFd::default();
		let argument = (&raw const request).expose_provenance() as u64;
		// SAFETY: the request reads a structure of that type there.
		let fd = unsafe { ioctl(&self.0, abi::KVM_PPC_GET_HTAB_FD, argument) }
			.map_err(failed("KVM_PPC_GET_HTAB_FD"))?;
		// SAFETY: the ioctl has just returned this fd, and no other code has it.
		let fd = unsafe { OwnedFd::from_raw_fd(fd) };
		Ok(HptFile {
			file: fd.into(),
			entries: BTreeMap::new(),
		})
	}

	/// Gives the HPT another size, as QEMU does for a guest.
	pub fn resize(&self, order: u32) -> Result<()> {
		let request = abi::ResizeHpt {
			flags: 0,
			shift: order,
			pad: 0,
		};
		let argument = (&raw const request).expose_provenance() as u64;
		// SAFETY: both requests read a structure of that type there.
		let resize = |number| unsafe { ioctl(&self.0, number, argument) };
		// KVM answers how long the rest may take, which is more than it needs.
		while resize(abi::KVM_PPC_RESIZE_HPT_PREPARE)
			.map_err(failed("KVM_PPC_RESIZE_HPT_PREPARE"))?
			> 0
		{
			std::thread::sleep(Duration::from_millis(1));
		}
		resize(abi::KVM_PPC_RESIZE_HPT_COMMIT).map_err(|error| {
			assert!(!is_unsupported(&error), "PREPARE has accepted the same");
			failed("KVM_PPC_RESIZE_HPT_COMMIT")(error)
		})?;
		Ok(())
	}
}

/// A file that reads the HPT, and the HPT as it was read.
pub struct HptFile {
	file: std::fs::File,
	/// The HPTEs in use, by index.
	pub entries: BTreeMap<u64, Hpte>,
}

impl HptFile {
	/// Reads changes until the end of the HPT, and says how many HPTEs changed. The first time all HPTEs
	/// are new.
	pub fn read(&mut self) -> Result<u64> {
		let mut buffer = [0_u8; 1 << 15];
		let mut changes = 0;
		loop {
			let size = self.file.read(&mut buffer)?;
			let mut rest = &buffer[..size];
			while !rest.is_empty() {
				// `struct kvm_get_htab_header`: index, valid HPTEs that follow, invalid HPTEs after those.
				let header = u64::from_le(word(&mut rest)?);
				let index = header & 0xffff_ffff;
				let (valid, invalid) = (header >> 32 & 0xffff, header >> 48);
				for index in index..index + valid {
					let entry = [word(&mut rest)?, word(&mut rest)?];
					self.entries.insert(index, entry.map(u64::from_be));
				}
				let gone = index + valid..index + valid + invalid;
				self.entries.retain(|index, _| !gone.contains(index));
				changes += valid + invalid;
			}
			// A read is shorter than it may be at the end of the HPT only.
			if size + 24 < buffer.len() {
				return Ok(changes);
			}
		}
	}
}

/// The next doubleword.
fn word(from: &mut &[u8]) -> Result<u64> {
	let short = || Error::new(ErrorKind::UnexpectedEof, "the HPT's file ends in an HPTE");
	let (word, rest) = from.split_first_chunk::<8>().ok_or_else(short)?;
	*from = rest;
	Ok(u64::from_ne_bytes(*word))
}
