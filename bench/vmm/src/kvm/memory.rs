// SPDX-License-Identifier: GPL-2.0-only
//! Guest memory.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};

use super::failed;

/// Guest memory: one mapping, mostly anonymous, which the guest may change at any time.
pub struct Memory {
	pub(super) base: NonNull<u8>,
	size: usize,
	addresses_stay: AtomicBool,
}

// SAFETY: it is a mapping of the whole process, and there are no references into it.
unsafe impl Send for Memory {}
// SAFETY: every access is volatile, as the guest may always interfere, too.
unsafe impl Sync for Memory {}

/// What may be copied into and out of guest memory as bytes.
///
/// # Safety
///
/// Any bytes must be a valid value, and there must be no padding.
pub unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for u8 {}
// SAFETY: an integer.
unsafe impl Plain for u64 {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::Command {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::Outcome {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::block::Probe {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::block::Call {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::round::RoundPlan {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::block::Contender {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::block::Turns {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::slots::Shared {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::slots::Storm {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::round::RoundReport {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::hammer::Hammer {}

impl Memory {
	/// Maps `size` bytes.
	pub fn new(size: usize) -> Result<Self> {
		Self::with_flags(size, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1)
	}

	/// Maps the first `size` bytes of a file, which has what is written to the memory.
	pub fn shared_of_file(file: &File, size: usize) -> Result<Self> {
		Self::with_flags(size, libc::MAP_SHARED, file.as_raw_fd())
	}

	/// Maps the first `size` bytes of a file, which never has what is written to the memory.
	pub fn private_of_file(file: &File, size: usize) -> Result<Self> {
		Self::with_flags(size, libc::MAP_PRIVATE, file.as_raw_fd())
	}

	/// The same, but after a fork a page becomes another one when it is written.
	pub fn private(size: usize) -> Result<Self> {
		Self::with_flags(size, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
	}

	fn with_flags(size: usize, flags: i32, fd: i32) -> Result<Self> {
		// SAFETY: a new mapping, nothing is replaced.
		let base = unsafe {
			libc::mmap(
				ptr::null_mut(),
				size,
				libc::PROT_READ | libc::PROT_WRITE,
				flags,
				fd,
				0,
			)
		};
		if base == libc::MAP_FAILED {
			return Err(Error::last_os_error());
		}
		let base = NonNull::new(base.cast()).expect("mmap maps nothing at 0");
		Ok(Self {
			base,
			size,
			addresses_stay: AtomicBool::new(false),
		})
	}

	/// Makes sure that no other memory ever gets these user addresses, for a kernel that
	/// might keep them too long.
	pub fn keep_addresses(&self) {
		self.addresses_stay.store(true, Ordering::Relaxed);
	}

	fn at<T>(&self, address: u64) -> *mut T {
		let end = address.checked_add(size_of::<T>() as u64);
		assert!(
			end.is_some_and(|end| end <= self.size as u64),
			"{address:#x} is outside"
		);
		assert!(
			address.is_multiple_of(align_of::<T>() as u64),
			"{address:#x} is misaligned"
		);
		// SAFETY: inside the mapping, as just checked.
		unsafe { self.base.add(address as usize) }.cast().as_ptr()
	}

	/// Copies a value out.
	pub fn read<T: Plain>(&self, address: u64) -> T {
		// SAFETY: `at` checked it; volatile as the guest may be writing.
		unsafe { ptr::read_volatile(self.at(address)) }
	}

	/// Copies a value in.
	pub fn write<T: Plain>(&self, address: u64, value: T) {
		// SAFETY: `at` checked it; volatile as the guest may be reading.
		unsafe { ptr::write_volatile(self.at(address), value) }
	}

	/// Where it is for this process, and so for what takes userspace's addresses.
	pub fn user_address(&self, address: u64) -> u64 {
		self.at::<u8>(address).expose_provenance() as u64
	}

	/// Its bytes.
	pub fn size(&self) -> u64 {
		self.size as u64
	}

	/// Replaces host pages by new ones, all zero.
	pub fn renew(&self, address: u64, size: usize) -> Result<()> {
		assert!(address + size as u64 <= self.size as u64);
		let start = self.at::<u8>(address);
		// SAFETY: inside our own mapping, to which there are no references.
		let renewed = unsafe {
			libc::mmap(
				start.cast(),
				size,
				libc::PROT_READ | libc::PROT_WRITE,
				libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
				-1,
				0,
			)
		};
		if renewed == libc::MAP_FAILED {
			return Err(failed("renewing guest memory")(Error::last_os_error()));
		}
		Ok(())
	}

	/// How many bytes of a range the host has pages for.
	pub fn resident(&self, address: u64, size: usize) -> Result<usize> {
		assert!(address + size as u64 <= self.size as u64);
		// SAFETY: no preconditions.
		let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
		let mut pages = vec![0_u8; size.div_ceil(page)];
		let start = self.at::<u8>(address);
		// SAFETY: it writes a byte for each page of the range.
		if unsafe { libc::mincore(start.cast(), size, pages.as_mut_ptr()) } < 0 {
			return Err(failed("mincore")(Error::last_os_error()));
		}
		Ok(page * pages.iter().filter(|&&flags| flags & 1 != 0).count())
	}

	/// Moves the pages of another piece of memory to `address`, where they replace what
	/// is there at once.
	pub fn take_over(&self, address: u64, other: Memory) -> Result<()> {
		assert!(address + other.size as u64 <= self.size as u64);
		let start = self.at::<u8>(address);
		// SAFETY: inside our own mapping, to which there are no references, and likewise
		// the other, which is gone from its place afterwards.
		let moved = unsafe {
			libc::mremap(
				other.base.as_ptr().cast(),
				other.size,
				other.size,
				libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED,
				start.cast::<c_void>(),
			)
		};
		if moved == libc::MAP_FAILED {
			return Err(failed("moving guest memory")(Error::last_os_error()));
		}
		core::mem::forget(other);
		Ok(())
	}

	/// Takes this process's, and with it the guest's, translations of all of it away. What
	/// is in it stays, but memory of a file that is private gets the content of the file.
	pub fn forget_translations(&self) -> Result<()> {
		self.forget_part(0, self.size)
	}

	/// The same for a part of memory that is not private.
	pub fn forget_part(&self, address: u64, size: usize) -> Result<()> {
		assert!(address + size as u64 <= self.size as u64);
		let start = self.at::<u8>(address);
		// SAFETY: there are no references into the mapping, so its content may change.
		let result = unsafe { libc::madvise(start.cast(), size, libc::MADV_DONTNEED) };
		if result < 0 {
			return Err(failed("madvise(MADV_DONTNEED)")(Error::last_os_error()));
		}
		Ok(())
	}

	/// Lets the kernel merge pages of private memory with equal pages.
	pub fn merge(&self) -> Result<()> {
		let (start, size) = (self.base.as_ptr().cast(), self.size);
		// SAFETY: our own mapping; its content stays as it is.
		if unsafe { libc::madvise(start, size, libc::MADV_MERGEABLE) } < 0 {
			return Err(failed("madvise(MADV_MERGEABLE)")(Error::last_os_error()));
		}
		Ok(())
	}

	/// Lets this process, and with it the guest, only read a part, or write it again.
	pub fn protect(&self, address: u64, size: usize, writable: bool) -> Result<()> {
		assert!(address + size as u64 <= self.size as u64);
		let start = self.at::<u8>(address);
		let write = if writable { libc::PROT_WRITE } else { 0 };
		// SAFETY: inside our own mapping, to which there are no references.
		let result = unsafe { libc::mprotect(start.cast(), size, libc::PROT_READ | write) };
		if result < 0 {
			return Err(failed("mprotect")(Error::last_os_error()));
		}
		Ok(())
	}

	/// Maps the same pages of a part of shared memory anew, in place of the mapping that is there.
	pub fn remap(&self, address: u64, size: usize) -> Result<()> {
		assert!(address + size as u64 <= self.size as u64);
		let start = self.at::<u8>(address).cast::<c_void>();
		// SAFETY: of a shared mapping, size 0 makes a second mapping of the same pages elsewhere.
		let copy = unsafe { libc::mremap(start, 0, size, libc::MREMAP_MAYMOVE) };
		if copy == libc::MAP_FAILED {
			return Err(failed("mapping memory twice")(Error::last_os_error()));
		}
		let copy = Self {
			base: NonNull::new(copy.cast()).expect("mremap maps nothing at 0"),
			size,
			addresses_stay: AtomicBool::new(false),
		};
		self.take_over(address, copy)
	}

	/// Copies bytes in.
	pub fn write_bytes(&self, address: u64, bytes: &[u8]) {
		for (address, &byte) in (address..).zip(bytes) {
			self.write(address, byte);
		}
	}
}

impl Drop for Memory {
	fn drop(&mut self) {
		let base = self.base.as_ptr().cast();
		if *self.addresses_stay.get_mut() {
			// SAFETY: instead of our mapping, one without memory.
			let nothing = unsafe {
				libc::mmap(
					base,
					self.size,
					libc::PROT_NONE,
					libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
					-1,
					0,
				)
			};
			assert!(nothing == base, "memory can be replaced by nothing");
			return;
		}
		// SAFETY: our mapping; KVM keeps no pointer, it looks pages up as it needs them
		// and the VM's fds are closed before (see `Vm`).
		unsafe { libc::munmap(base, self.size) };
	}
}
