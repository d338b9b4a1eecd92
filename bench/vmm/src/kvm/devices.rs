// SPDX-License-Identifier: GPL-2.0-only
//! What a VM can have besides memory and vcpus: DMA windows, VFIO groups, eventfds.

use core::ptr;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{failed, ioctl, ioctl_in};
use crate::abi;

/// What VFIO groups are made known to a VM by. When it is dropped the VM's tables have no
/// hardware any more.
pub struct Vfio(pub(super) OwnedFd);

impl Vfio {
	/// Makes a group known.
	pub fn add(&self, group: &impl AsRawFd) -> Result<()> {
		// SAFETY: the attribute is a file descriptor.
		unsafe { self.set(abi::KVM_DEV_VFIO_GROUP_ADD, &group.as_raw_fd()) }
			.map_err(failed("KVM_DEV_VFIO_GROUP_ADD"))
	}

	/// Takes a group away, and its hardware from the VM's tables.
	pub fn remove(&self, group: &impl AsRawFd) -> Result<()> {
		// SAFETY: the attribute is a file descriptor.
		unsafe { self.set(abi::KVM_DEV_VFIO_GROUP_DEL, &group.as_raw_fd()) }
			.map_err(failed("KVM_DEV_VFIO_GROUP_DEL"))
	}

	/// Has the group's hardware table at the same addresses follow the window's.
	pub fn attach(&self, group: &impl AsRawFd, window: &TceWindow) -> Result<()> {
		let value = abi::VfioSpaprTce {
			groupfd: group.as_raw_fd(),
			tablefd: window.fd.as_raw_fd(),
		};
		// SAFETY: the attribute is such a structure.
		unsafe { self.set(abi::KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, &value) }
			.map_err(failed("KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE"))
	}

	/// # Safety
	///
	/// The attribute must be a `T`.
	unsafe fn set<T>(&self, attr: u64, value: &T) -> Result<()> {
		let attr = abi::DeviceAttr {
			flags: 0,
			group: abi::KVM_DEV_VFIO_GROUP,
			attr,
			addr: ptr::from_ref(value).expose_provenance() as u64,
		};
		// SAFETY: the structure is what the request reads, and so is what it points to, as
		// the caller promises.
		unsafe { ioctl_in(&self.0, abi::KVM_SET_DEVICE_ATTR, &attr) }
	}
}

/// An attribute of an interrupt controller, with 64 bits at `addr`.
fn controller_attr(group: u32, attr: u64, addr: u64) -> abi::DeviceAttr {
	abi::DeviceAttr {
		flags: 0,
		group,
		attr,
		addr,
	}
}

/// Sets a source of an interrupt controller with the interface of XICS.
pub fn set_source(controller: &OwnedFd, irq: u64, state: u64) -> Result<()> {
	set_controller(controller, abi::KVM_DEV_XICS_GRP_SOURCES, irq, state)
}

/// Sets an attribute of an interrupt controller to 64 bits, which some attributes do not need.
pub fn set_controller(controller: &OwnedFd, group: u32, attr: u64, value: u64) -> Result<()> {
	let addr = (&raw const value).expose_provenance() as u64;
	let attr = controller_attr(group, attr, addr);
	// SAFETY: the request reads the structure, and the 64 bits that it points to.
	unsafe { ioctl_in(controller, abi::KVM_SET_DEVICE_ATTR, &attr) }
		.map_err(failed("KVM_SET_DEVICE_ATTR of an interrupt controller"))
}

/// The state of a source.
pub fn source(controller: &OwnedFd, irq: u64) -> Result<u64> {
	let mut state = 0_u64;
	let addr = (&raw mut state).expose_provenance() as u64;
	let attr = controller_attr(abi::KVM_DEV_XICS_GRP_SOURCES, irq, addr);
	// SAFETY: the request reads the structure, and writes the 64 bits that it points to.
	unsafe { ioctl_in(controller, abi::KVM_GET_DEVICE_ATTR, &attr) }
		.map_err(failed("KVM_GET_DEVICE_ATTR(XICS)"))?;
	Ok(state)
}

/// What creates windows for a VM.
pub struct Windows(pub(super) OwnedFd);

impl Windows {
	/// Creates an emulated DMA window.
	pub fn create(&self, window: &abi::SpaprTce64) -> Result<TceWindow> {
		let argument = ptr::from_ref(window).expose_provenance() as u64;
		// SAFETY: the request reads a structure of that type there.
		let fd = unsafe { ioctl(&self.0, abi::KVM_CREATE_SPAPR_TCE_64, argument) }
			.map_err(failed("KVM_CREATE_SPAPR_TCE_64"))?;
		Ok(TceWindow {
			// SAFETY: the ioctl has just returned this fd, and no other code has it.
			fd: unsafe { OwnedFd::from_raw_fd(fd) },
			entries: window.size,
		})
	}
}

/// An emulated DMA window. The table goes when this is dropped.
pub struct TceWindow {
	fd: OwnedFd,
	entries: u64,
}

impl TceWindow {
	/// Its table. Every page of it that is looked at comes into being by that.
	pub fn table(&self) -> Result<Vec<u64>> {
		let (size, entries) = (self.entries as usize * 8, self.entries as usize);
		// SAFETY: a new mapping, nothing is replaced.
		let map = unsafe {
			libc::mmap(
				ptr::null_mut(),
				size,
				libc::PROT_READ,
				libc::MAP_SHARED,
				self.fd.as_raw_fd(),
				0,
			)
		};
		if map == libc::MAP_FAILED {
			return Err(failed("mapping a TCE table")(Error::last_os_error()));
		}
		let first: *const u64 = map.cast();
		let read = |index| {
			// SAFETY: the mapping has that many entries; vcpus may be writing them.
			unsafe { first.add(index).read_volatile() }
		};
		let table = (0..entries).map(read).collect();
		// SAFETY: the mapping from above; `table` holds copies, so no code uses the mapping.
		unsafe { libc::munmap(map, size) };
		Ok(table)
	}
}

/// An eventfd.
pub struct EventFd(pub(super) OwnedFd);

impl EventFd {
	/// Creates one that is not signalled.
	pub fn new() -> Result<Self> {
		// SAFETY: no address is passed.
		let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
		if fd < 0 {
			return Err(failed("eventfd")(Error::last_os_error()));
		}
		// SAFETY: eventfd() has just returned this fd, and no other code has it.
		Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
	}

	/// Signals it.
	pub fn signal(&self) -> Result<()> {
		let one = 1_u64;
		// SAFETY: it reads 8 bytes.
		if unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) } < 0 {
			return Err(failed("signalling an eventfd")(Error::last_os_error()));
		}
		Ok(())
	}

	/// How often it was signalled since the last time this was asked.
	pub fn take(&self) -> Result<u64> {
		let mut count = 0_u64;
		// SAFETY: it writes 8 bytes, or nothing.
		if unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) } < 0 {
			let error = Error::last_os_error();
			if error.kind() != ErrorKind::WouldBlock {
				return Err(error);
			}
		}
		Ok(count)
	}
}
