// SPDX-License-Identifier: GPL-2.0-only
//! A VM and what belongs to it, one safe function per ioctl.

mod devices;
mod hpt;
mod memory;
mod vcpu;

use core::ptr::{self, NonNull};
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;

use hcall::Number;

use crate::abi;
pub use devices::{EventFd, TceWindow, Vfio, Windows, set_controller, set_source, source};
pub use hpt::{HptFile, HptFiles, Hpte};
pub use memory::{Memory, Plain};
pub use vcpu::{Controller, Exit, Vcpu, VectorRegs};

/// An ioctl whose argument is a number.
///
/// # Safety
///
/// `request` must not take `argument` for an address, or it must be one that the
/// request may use.
pub unsafe fn ioctl(fd: &impl AsRawFd, request: libc::Ioctl, argument: u64) -> Result<i32> {
	// SAFETY: the fd is open; the rest is the caller's promise.
	let result = unsafe { libc::ioctl(fd.as_raw_fd(), request, argument) };
	if result < 0 {
		Err(Error::last_os_error())
	} else {
		Ok(result)
	}
}

/// An ioctl that reads a structure of ours.
///
/// # Safety
///
/// `request` must read a `T`, and its other effects must be sound.
pub unsafe fn ioctl_in<T>(fd: &impl AsRawFd, request: libc::Ioctl, argument: &T) -> Result<()> {
	// SAFETY: as the caller promises.
	unsafe {
		ioctl(
			fd,
			request,
			ptr::from_ref(argument).expose_provenance() as u64,
		)
	}?;
	Ok(())
}

/// Names the ioctl that failed.
pub fn failed(what: &'static str) -> impl FnOnce(Error) -> Error {
	move |e| Error::new(e.kind(), format!("{what}: {e}"))
}

/// Was this error the kernel's way of saying that it doesn't know the request?
pub fn is_unsupported(error: &Error) -> bool {
	error.kind() == ErrorKind::InvalidInput
}

/// Puts the first `size` bytes of `memory` to a guest real address, or with 0 bytes
/// nothing any more.
///
/// # Safety
///
/// The memory must stay for as long as it is there.
unsafe fn set_slot(
	vm: &OwnedFd,
	slot: u32,
	address: u64,
	memory: &Memory,
	size: u64,
	flags: u32,
) -> Result<()> {
	let region = abi::MemoryRegion {
		slot,
		flags,
		guest_phys_addr: address,
		memory_size: size,
		userspace_addr: memory.base.as_ptr().expose_provenance() as u64,
	};
	// SAFETY: the caller sees to the mapping, which is only accessed as shared memory.
	unsafe { ioctl_in(vm, abi::KVM_SET_USER_MEMORY_REGION, &region) }
		.map_err(failed("KVM_SET_USER_MEMORY_REGION"))
}

/// A VM of KVM-HV.
// The order of the fields is the order in which they are dropped.
pub struct Vm {
	fd: OwnedFd,
	mmap_size: usize,
	/// Its memory, from guest real address 0.
	pub memory: Arc<Memory>,
}

impl Vm {
	/// Creates one with `ram` bytes of memory.
	pub fn new(ram: u64) -> Result<Self> {
		let kvm = File::options()
			.read(true)
			.write(true)
			.open("/dev/kvm")
			.map_err(failed("opening /dev/kvm"))?;
		// SAFETY: neither takes an address.
		let (mmap_size, fd) = unsafe {
			(
				ioctl(&kvm, abi::KVM_GET_VCPU_MMAP_SIZE, 0)
					.map_err(failed("KVM_GET_VCPU_MMAP_SIZE"))?,
				ioctl(&kvm, abi::KVM_CREATE_VM, abi::KVM_VM_PPC_HV)
					.map_err(failed("KVM_CREATE_VM"))?,
			)
		};
		// SAFETY: KVM_CREATE_VM has just returned this fd, and no other code has it.
		let fd = unsafe { OwnedFd::from_raw_fd(fd) };
		let memory = Memory::new(ram as usize).map_err(failed("mapping guest memory"))?;
		let memory = Arc::new(memory);
		let vm = Self {
			fd,
			mmap_size: mmap_size as usize,
			memory,
		};
		// SAFETY: the mapping outlives the VM.
		unsafe { set_slot(&vm.fd, 0, 0, &vm.memory, ram, 0) }?;
		Ok(vm)
	}

	/// What the kernel calls it: our pid and the fd.
	pub fn name(&self) -> String {
		format!("{}-{}", std::process::id(), self.fd.as_raw_fd())
	}

	/// Its folder in debugfs.
	pub fn debugfs(&self) -> String {
		format!("/sys/kernel/debug/kvm/{}", self.name())
	}

	/// Gives the guest more memory, in a slot of its own.
	pub fn add_memory(&self, slot: u32, address: u64, memory: Memory) -> Result<Slot> {
		let size = memory.size();
		self.add_part(slot, address, &Arc::new(memory), size)
	}

	/// Gives the guest the first `size` bytes of some memory, in the same way.
	pub fn add_part(
		&self,
		slot: u32,
		address: u64,
		memory: &Arc<Memory>,
		size: u64,
	) -> Result<Slot> {
		self.add_with(slot, address, memory, size, 0)
	}

	/// Gives the guest memory whose dirty pages are logged.
	pub fn add_logged(&self, slot: u32, address: u64, memory: Memory) -> Result<Slot> {
		let size = memory.size();
		let flags = abi::KVM_MEM_LOG_DIRTY_PAGES;
		self.add_with(slot, address, &Arc::new(memory), size, flags)
	}

	fn add_with(
		&self,
		slot: u32,
		address: u64,
		memory: &Arc<Memory>,
		size: u64,
		flags: u32,
	) -> Result<Slot> {
		assert!(size <= memory.size(), "{size:#x} bytes are too many");
		let vm = self.fd.try_clone()?;
		// SAFETY: the slot ends with the value that is returned, before the memory.
		unsafe { set_slot(&vm, slot, address, memory, size, flags) }?;
		Ok(Slot {
			vm,
			slot,
			address,
			memory: memory.clone(),
		})
	}

	/// Lets KVM handle an hcall, or has KVM pass it to userspace. InvalidInput if KVM does not
	/// know the hcall.
	pub fn set_hcall(&self, number: Number, in_kernel: bool) -> Result<()> {
		let cap = abi::EnableCap {
			cap: abi::KVM_CAP_PPC_ENABLE_HCALL,
			flags: 0,
			args: [number.0, in_kernel.into(), 0, 0],
			pad: [0; 64],
		};
		// SAFETY: the structure is what the request reads; no address in it.
		unsafe { ioctl_in(&self.fd, abi::KVM_ENABLE_CAP, &cap) }
			.map_err(failed("KVM_CAP_PPC_ENABLE_HCALL"))
	}

	/// Gives the guest radix translation with a process table of 4 KiB.
	pub fn set_process_table(&self, address: u64) -> Result<()> {
		// Bit 0 says radix; the size field's 0 means 4 KiB.
		const RADIX: u64 = 1 << 63;
		let config = abi::MmuV3Config {
			flags: abi::KVM_PPC_MMUV3_RADIX | abi::KVM_PPC_MMUV3_GTSE,
			process_table: RADIX | address,
		};
		// SAFETY: the structure is what the request reads; the address is the guest's.
		unsafe { ioctl_in(&self.fd, abi::KVM_PPC_CONFIGURE_V3_MMU, &config) }
			.map_err(failed("KVM_PPC_CONFIGURE_V3_MMU"))
	}

	/// Has KVM allocate an empty page table of `1 << order` bytes for a hash guest.
	pub fn allocate_hpt(&self, order: u32) -> Result<()> {
		// SAFETY: the request reads a u32 there.
		unsafe { ioctl_in(&self.fd, abi::KVM_PPC_ALLOCATE_HTAB, &order) }
	}

	/// Makes it a hash guest, with an empty page table of `1 << order` bytes.
	pub fn set_hash(&self, order: u32) -> Result<()> {
		self.allocate_hpt(order)
			.map_err(failed("KVM_PPC_ALLOCATE_HTAB"))?;
		let config = abi::MmuV3Config {
			flags: 0,
			process_table: 0,
		};
		// SAFETY: the structure is what the request reads; no address in it.
		unsafe { ioctl_in(&self.fd, abi::KVM_PPC_CONFIGURE_V3_MMU, &config) }
			.map_err(failed("KVM_PPC_CONFIGURE_V3_MMU"))
	}

	/// Makes so many consecutive vcpu ids threads of one core, which can send each other
	/// doorbells. Before the first vcpu.
	pub fn set_threads(&self, threads: u64) -> Result<()> {
		let cap = abi::EnableCap {
			cap: abi::KVM_CAP_PPC_SMT,
			flags: 0,
			args: [threads, 0, 0, 0],
			pad: [0; 64],
		};
		// SAFETY: the structure is what the request reads; no address in it.
		unsafe { ioctl_in(&self.fd, abi::KVM_ENABLE_CAP, &cap) }.map_err(failed("KVM_CAP_PPC_SMT"))
	}

	/// Whether the host has a random number generator that is a device.
	pub fn has_random_device(&self) -> Result<bool> {
		// SAFETY: no address is passed.
		let answer = unsafe {
			ioctl(
				&self.fd,
				abi::KVM_CHECK_EXTENSION,
				abi::KVM_CAP_PPC_HWRNG.into(),
			)
		};
		Ok(answer.map_err(failed("KVM_CHECK_EXTENSION"))? > 0)
	}

	/// Lets stores of `length` bytes (0: any number) at `address` signal the eventfd.
	pub fn add_event(&self, event: &EventFd, address: u64, length: u32) -> Result<()> {
		self.add_event_for(event, address, length, None)
	}

	/// The same, but only of this value, if there is one.
	pub fn add_event_for(
		&self,
		event: &EventFd,
		address: u64,
		length: u32,
		value: Option<u64>,
	) -> Result<()> {
		let event = abi::IoEventFd {
			datamatch: value.unwrap_or(0),
			addr: address,
			len: length,
			fd: event.0.as_raw_fd(),
			flags: value.map_or(0, |_| abi::KVM_IOEVENTFD_FLAG_DATAMATCH),
			pad: [0; 36],
		};
		// SAFETY: the structure is what the request reads; KVM takes its own reference
		// to the eventfd.
		unsafe { ioctl_in(&self.fd, abi::KVM_IOEVENTFD, &event) }.map_err(failed("KVM_IOEVENTFD"))
	}

	/// Lets an eventfd send an interrupt of the interrupt controller.
	pub fn add_irq_event(&self, event: &EventFd, irq: u32) -> Result<()> {
		let event = abi::IrqFd {
			fd: event.0.as_raw_fd() as u32,
			gsi: irq,
			flags: 0,
			resamplefd: 0,
			pad: [0; 16],
		};
		// SAFETY: the structure is what the request reads; KVM takes its own reference
		// to the eventfd.
		unsafe { ioctl_in(&self.fd, abi::KVM_IRQFD, &event) }.map_err(failed("KVM_IRQFD"))
	}

	/// What reads and resizes the page table of a hash guest, also from another thread.
	pub fn hpt(&self) -> Result<HptFiles> {
		Ok(HptFiles(self.fd.try_clone()?))
	}

	/// What creates windows for it, also from another thread.
	pub fn windows(&self) -> Result<Windows> {
		Ok(Windows(self.fd.try_clone()?))
	}

	/// Creates an emulated DMA window.
	pub fn create_window(&self, window: &abi::SpaprTce64) -> Result<TceWindow> {
		self.windows()?.create(window)
	}

	/// Creates what VFIO groups are made known to the VM by.
	pub fn create_vfio(&self) -> Result<Vfio> {
		let fd = self
			.create_device(abi::KVM_DEV_TYPE_VFIO)
			.map_err(failed("KVM_CREATE_DEVICE(VFIO)"))?;
		Ok(Vfio(fd))
	}

	/// Creates an interrupt controller. It is removed with the result.
	pub fn create_controller(&self, kind: Controller) -> Result<OwnedFd> {
		let (device, name) = match kind {
			Controller::Xics => (abi::KVM_DEV_TYPE_XICS, "KVM_CREATE_DEVICE(XICS)"),
			Controller::Xive => (abi::KVM_DEV_TYPE_XIVE, "KVM_CREATE_DEVICE(XIVE)"),
		};
		self.create_device(device).map_err(failed(name))
	}

	/// A device sends an interrupt, or sets the level of a level-sensitive one.
	pub fn set_irq(&self, irq: u32, level: bool) -> Result<()> {
		let line = abi::IrqLevel {
			irq,
			level: level.into(),
		};
		// SAFETY: the structure is what the request reads.
		unsafe { ioctl_in(&self.fd, abi::KVM_IRQ_LINE, &line) }.map_err(failed("KVM_IRQ_LINE"))
	}

	fn create_device(&self, kind: u32) -> Result<OwnedFd> {
		let mut device = abi::CreateDevice {
			kind,
			fd: 0,
			flags: 0,
		};
		let argument = (&raw mut device).expose_provenance() as u64;
		// SAFETY: the request reads and writes a structure of that type there.
		unsafe { ioctl(&self.fd, abi::KVM_CREATE_DEVICE, argument) }?;
		// SAFETY: KVM_CREATE_DEVICE has just returned this fd, and no other code has it.
		Ok(unsafe { OwnedFd::from_raw_fd(device.fd as i32) })
	}

	/// Creates the vcpu with that id.
	pub fn create_vcpu(&self, id: u64) -> Result<Vcpu> {
		// SAFETY: no address is passed.
		let fd = unsafe { ioctl(&self.fd, abi::KVM_CREATE_VCPU, id) }
			.map_err(failed("KVM_CREATE_VCPU"))?;
		// SAFETY: KVM_CREATE_VCPU has just returned this fd, and no other code has it.
		self.vcpu(unsafe { OwnedFd::from_raw_fd(fd) })
	}

	/// The same vcpu once more, for a thread that runs it from now on.
	pub fn same_vcpu(&self, vcpu: &Vcpu) -> Result<Vcpu> {
		self.vcpu(vcpu.fd.try_clone()?)
	}

	fn vcpu(&self, fd: OwnedFd) -> Result<Vcpu> {
		assert!(self.mmap_size >= size_of::<abi::KvmRun>());
		// SAFETY: a new mapping of the vcpu's run structure.
		let run = unsafe {
			libc::mmap(
				ptr::null_mut(),
				self.mmap_size,
				libc::PROT_READ | libc::PROT_WRITE,
				libc::MAP_SHARED,
				fd.as_raw_fd(),
				0,
			)
		};
		if run == libc::MAP_FAILED {
			return Err(failed("mapping the vcpu")(Error::last_os_error()));
		}
		let run = NonNull::new(run.cast()).expect("mmap maps nothing at 0");
		Ok(Vcpu {
			fd,
			run,
			mmap_size: self.mmap_size,
		})
	}
}

/// More memory of a VM's, which is taken away from it when this is dropped.
pub struct Slot {
	vm: OwnedFd,
	slot: u32,
	address: u64,
	/// The memory, by offset.
	pub memory: Arc<Memory>,
}

impl Slot {
	/// Its guest real address.
	pub fn address(&self) -> u64 {
		self.address
	}

	/// The pages that are dirty since the last time, by number, if dirty pages are logged.
	pub fn dirty_pages(&self, page_size: u64) -> Result<Vec<u64>> {
		let pages = self.memory.size() / page_size;
		let mut bitmap = vec![0_u64; pages.div_ceil(64) as usize];
		let log = abi::DirtyLog {
			slot: self.slot,
			padding1: 0,
			dirty_bitmap: bitmap.as_mut_ptr().expose_provenance() as u64,
		};
		// SAFETY: the request reads the structure, and writes a bit for each page of the slot in
		// doublewords.
		unsafe { ioctl_in(&self.vm, abi::KVM_GET_DIRTY_LOG, &log) }
			.map_err(failed("KVM_GET_DIRTY_LOG"))?;
		let is_dirty =
			|page: &u64| u64::from_le(bitmap[(page / 64) as usize]) >> (page % 64) & 1 != 0;
		Ok((0..pages).filter(is_dirty).collect())
	}

	/// Moves the memory to another guest real address.
	pub fn move_to(&mut self, address: u64) -> Result<()> {
		// SAFETY: the slot stays, and with it the memory.
		unsafe {
			set_slot(
				&self.vm,
				self.slot,
				address,
				&self.memory,
				self.memory.size(),
				0,
			)
		}?;
		self.address = address;
		Ok(())
	}
}

impl Drop for Slot {
	fn drop(&mut self) {
		// SAFETY: no memory is left there.
		let removed = unsafe { set_slot(&self.vm, self.slot, self.address, &self.memory, 0, 0) };
		removed.expect("what was added can be removed");
	}
}
