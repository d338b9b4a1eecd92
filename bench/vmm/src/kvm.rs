// SPDX-License-Identifier: GPL-2.0-only
//! A VM and its vcpu, one safe function per ioctl.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hcall::{Code, Number};

use crate::abi;
use crate::user_regs::{UserRegs, kvm_run_with_user_regs};

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

/// Guest memory: one anonymous mapping, which the guest may change at any time.
pub struct Memory {
	base: NonNull<u8>,
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
unsafe impl Plain for protocol::round::Plan {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::block::Hammer {}
// SAFETY: words.
unsafe impl Plain for protocol::block::Turns {}
// SAFETY: 64-bit words only.
unsafe impl Plain for protocol::round::Report {}

impl Memory {
	/// Maps `size` bytes.
	pub fn new(size: usize) -> Result<Self> {
		// SAFETY: a new mapping, nothing is replaced.
		let base = unsafe {
			libc::mmap(
				ptr::null_mut(),
				size,
				libc::PROT_READ | libc::PROT_WRITE,
				libc::MAP_SHARED | libc::MAP_ANONYMOUS,
				-1,
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
	/// is in it stays.
	pub fn forget_translations(&self) -> Result<()> {
		// SAFETY: the mapping is shared, so this drops no data; there are no references.
		let result =
			unsafe { libc::madvise(self.base.as_ptr().cast(), self.size, libc::MADV_DONTNEED) };
		if result < 0 {
			return Err(failed("madvise(MADV_DONTNEED)")(Error::last_os_error()));
		}
		Ok(())
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
) -> Result<()> {
	let region = abi::MemoryRegion {
		slot,
		flags: 0,
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
		unsafe { set_slot(&vm.fd, 0, 0, &vm.memory, ram) }?;
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
		assert!(size <= memory.size(), "{size:#x} bytes are too many");
		let vm = self.fd.try_clone()?;
		// SAFETY: the slot ends with the value that is returned, before the memory.
		unsafe { set_slot(&vm, slot, address, memory, size) }?;
		Ok(Slot {
			vm,
			slot,
			address,
			memory: memory.clone(),
		})
	}

	/// Lets KVM handle an hcall that by default goes to userspace. InvalidInput if it
	/// can't.
	pub fn enable_hcall(&self, number: Number) -> Result<()> {
		let cap = abi::EnableCap {
			cap: abi::KVM_CAP_PPC_ENABLE_HCALL,
			flags: 0,
			args: [number.0, 1, 0, 0],
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

	/// Makes it a hash guest, with an empty page table of `1 << order` bytes.
	pub fn set_hash(&self, order: u32) -> Result<()> {
		// SAFETY: the request reads a u32 there.
		unsafe { ioctl_in(&self.fd, abi::KVM_PPC_ALLOCATE_HTAB, &order) }
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
	pub fn add_event(&self, event: &Event, address: u64, length: u32) -> Result<()> {
		self.add_event_for(event, address, length, None)
	}

	/// The same, but only of this value, if there is one.
	pub fn add_event_for(
		&self,
		event: &Event,
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

	/// What creates windows for it, also from another thread.
	pub fn windows(&self) -> Result<Windows> {
		Ok(Windows(self.fd.try_clone()?))
	}

	/// Creates an emulated DMA window.
	pub fn create_window(&self, window: &abi::SpaprTce64) -> Result<Window> {
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
		let fd = unsafe { OwnedFd::from_raw_fd(fd) };
		assert!(self.mmap_size >= size_of::<abi::Run>());
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

/// What VFIO groups are made known to a VM by. When it is dropped the VM's tables have no
/// hardware any more.
pub struct Vfio(OwnedFd);

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
	pub fn attach(&self, group: &impl AsRawFd, window: &Window) -> Result<()> {
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

/// What creates windows for a VM.
pub struct Windows(OwnedFd);

impl Windows {
	/// Creates an emulated DMA window.
	pub fn create(&self, window: &abi::SpaprTce64) -> Result<Window> {
		let argument = ptr::from_ref(window).expose_provenance() as u64;
		// SAFETY: the request reads a structure of that type there.
		let fd = unsafe { ioctl(&self.0, abi::KVM_CREATE_SPAPR_TCE_64, argument) }
			.map_err(failed("KVM_CREATE_SPAPR_TCE_64"))?;
		Ok(Window {
			// SAFETY: the ioctl has just returned this fd, and no other code has it.
			fd: unsafe { OwnedFd::from_raw_fd(fd) },
			entries: window.size,
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

impl Drop for Slot {
	fn drop(&mut self) {
		// SAFETY: no memory is left there.
		let removed = unsafe { set_slot(&self.vm, self.slot, self.address, &self.memory, 0) };
		removed.expect("what was added can be removed");
	}
}

/// An emulated DMA window. The table goes when this is dropped.
pub struct Window {
	fd: OwnedFd,
	entries: u64,
}

impl Window {
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
pub struct Event(OwnedFd);

impl Event {
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

/// Why a vcpu stopped.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
	/// An hcall for userspace. Its answer is taken up by the next run.
	Hcall(Number, [u64; 9]),
	/// An access to a device. A load's data are taken up by the next run.
	Mmio(abi::Mmio),
	/// A signal came.
	Interrupted,
	/// Anything else, by KVM's number.
	Other(u32),
}

// SAFETY: what takes a shared reference does ioctls only, which the kernel orders.
unsafe impl Sync for Vcpu {}

/// A vcpu.
pub struct Vcpu {
	fd: OwnedFd,
	run: NonNull<abi::Run>,
	mmap_size: usize,
}

/// A guest's interrupt controller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Controller {
	/// Hcalls only. On a POWER9 KVM implements it with the host's XIVE.
	Xics,
	/// The guest has the hardware's interface.
	Xive,
}

// SAFETY: the run structure is a mapping of the whole process; a vcpu has one user at a
// time, whichever thread that is.
unsafe impl Send for Vcpu {}

impl Vcpu {
	/// Makes KVM treat `sc 1` as PAPR says.
	pub fn enable_papr(&self) -> Result<()> {
		let cap = abi::EnableCap {
			cap: abi::KVM_CAP_PPC_PAPR,
			flags: 0,
			args: [0; 4],
			pad: [0; 64],
		};
		// SAFETY: the structure is what the request reads; no address in it.
		unsafe { ioctl_in(&self.fd, abi::KVM_ENABLE_CAP, &cap) }.map_err(failed("KVM_CAP_PPC_PAPR"))
	}

	/// Connects the vcpu, which is that server, to an interrupt controller of its VM. KVM
	/// then loads the vcpu's interrupt context with each entry.
	pub fn connect(&self, kind: Controller, device: &OwnedFd, server: u64) -> Result<()> {
		let (cap, state) = match kind {
			Controller::Xics => (abi::KVM_CAP_IRQ_XICS, abi::KVM_REG_PPC_ICP_STATE),
			Controller::Xive => (abi::KVM_CAP_PPC_IRQ_XIVE, abi::KVM_REG_PPC_VP_STATE),
		};
		let cap = abi::EnableCap {
			cap,
			flags: 0,
			args: [device.as_raw_fd() as u64, server, 0, 0],
			pad: [0; 64],
		};
		// SAFETY: the structure is what the request reads; no address in it.
		unsafe { ioctl_in(&self.fd, abi::KVM_ENABLE_CAP, &cap) }
			.map_err(failed("connecting a vcpu to its interrupt controller"))?;
		// Only a vcpu that is connected has it.
		self.one_reg(state)
			.map(drop)
			.map_err(failed("reading a vcpu's interrupt context"))
	}

	/// Sets the bits of LPCR that belong to the guest.
	pub fn set_lpcr(&self, value: u64) -> Result<()> {
		let addr = ptr::from_ref(&value).expose_provenance() as u64;
		let reg = abi::OneReg {
			id: abi::KVM_REG_PPC_LPCR_64,
			addr,
		};
		// SAFETY: the structure is what the request reads, and it points to 64 bits.
		unsafe { ioctl_in(&self.fd, abi::KVM_SET_ONE_REG, &reg) }
			.map_err(failed("KVM_SET_ONE_REG(LPCR)"))
	}

	/// Sets the registers.
	pub fn set_regs(&self, regs: &abi::Regs) -> Result<()> {
		// SAFETY: the structure is what the request reads.
		unsafe { ioctl_in(&self.fd, abi::KVM_SET_REGS, regs) }.map_err(failed("KVM_SET_REGS"))
	}

	/// Answers the hcall that the last run ended with.
	pub fn answer(&mut self, code: Code) {
		// SAFETY: the run structure is ours while the vcpu doesn't run.
		unsafe { (&raw mut (*self.run.as_ptr()).hcall_ret).write_volatile(code.0 as u64) };
	}

	fn mmio(&self) -> *mut abi::Mmio {
		// SAFETY: inside the run structure, and the union there holds it, too.
		unsafe { (&raw mut (*self.run.as_ptr()).hcall_nr).cast() }
	}

	/// Answers the load from a device that the last run ended with: bytes in the order of
	/// their addresses.
	pub fn answer_load(&mut self, data: [u8; 8]) {
		// SAFETY: the run structure is ours while the vcpu doesn't run.
		unsafe { (&raw mut (*self.mmio()).data).write_volatile(data) };
	}

	/// Gets a register of 128 bits at most; `id` says how many.
	pub fn one_reg(&self, id: u64) -> Result<u128> {
		let mut value = 0_u128;
		let addr = (&raw mut value).expose_provenance() as u64;
		// SAFETY: the structure is what the request reads, and it points to 128 bits, which
		// is what the largest register has.
		unsafe { ioctl_in(&self.fd, abi::KVM_GET_ONE_REG, &abi::OneReg { id, addr }) }?;
		Ok(value)
	}

	/// Sets one.
	pub fn set_one_reg(&self, id: u64, value: u128) -> Result<()> {
		let addr = ptr::from_ref(&value).expose_provenance() as u64;
		// SAFETY: as above.
		unsafe { ioctl_in(&self.fd, abi::KVM_SET_ONE_REG, &abi::OneReg { id, addr }) }
	}

	/// Gets the special registers.
	pub fn sregs(&self) -> Result<Box<abi::Sregs>> {
		let mut sregs = Box::new(abi::Sregs([0; 154]));
		let addr = (&raw mut *sregs).expose_provenance() as u64;
		// SAFETY: it fills a structure of that size.
		unsafe { ioctl(&self.fd, abi::KVM_GET_SREGS, addr) }.map_err(failed("KVM_GET_SREGS"))?;
		Ok(sregs)
	}

	/// Sets the special registers.
	pub fn set_sregs(&self, sregs: &abi::Sregs) -> Result<()> {
		// SAFETY: the structure is what the request reads.
		unsafe { ioctl_in(&self.fd, abi::KVM_SET_SREGS, sregs) }
	}

	/// Gets the registers.
	pub fn regs(&self) -> Result<abi::Regs> {
		let mut regs = abi::Regs::default();
		let addr = (&raw mut regs).expose_provenance() as u64;
		// SAFETY: it fills a structure of that type.
		unsafe { ioctl(&self.fd, abi::KVM_GET_REGS, addr) }.map_err(failed("KVM_GET_REGS"))?;
		Ok(regs)
	}

	/// Changes what an hcall for userspace will give back besides r3: r4 to r12.
	pub fn change_args(&mut self, change: impl FnOnce(&mut [u64; 9])) {
		// SAFETY: the run structure is ours while the vcpu doesn't run.
		unsafe {
			let place = &raw mut (*self.run.as_ptr()).hcall_args;
			let mut args = place.read_volatile();
			change(&mut args);
			place.write_volatile(args);
		}
	}

	/// Runs the guest.
	pub fn run(&mut self) -> Result<Exit> {
		let errno = kvm_run(&self.fd);
		self.exit(errno)
	}

	/// Runs the guest with `before` in our own vector registers, and says what was in
	/// them afterwards.
	pub fn run_with(&mut self, before: &VectorRegs) -> Result<(Exit, VectorRegs)> {
		let (errno, after) = kvm_run_with(&self.fd, before);
		Ok((self.exit(errno)?, after))
	}

	/// Runs the guest with `before` in all our own registers, and says what was in them
	/// afterwards.
	pub fn run_with_user_regs(&mut self, before: &mut UserRegs) -> Result<(Exit, UserRegs)> {
		let mut after = UserRegs::zero();
		let fd = self.fd.as_raw_fd();
		// SAFETY: a vcpu, and two structures of ours.
		let errno = unsafe { kvm_run_with_user_regs(fd, before, &raw mut after) };
		Ok((self.exit(errno as i32)?, after))
	}

	fn exit(&self, errno: i32) -> Result<Exit> {
		match errno {
			0 => {}
			libc::EINTR => return Ok(Exit::Interrupted),
			errno => return Err(failed("KVM_RUN")(Error::from_raw_os_error(errno))),
		}
		// SAFETY: KVM_RUN has filled it and is over; every bit pattern is valid.
		let run = unsafe { self.run.as_ptr().read_volatile() };
		Ok(match run.exit_reason {
			abi::KVM_EXIT_PAPR_HCALL => Exit::Hcall(Number(run.hcall_nr), run.hcall_args),
			abi::KVM_EXIT_MMIO => {
				// SAFETY: as above; this exit uses the same bytes for that structure.
				let mmio: abi::Mmio = unsafe { self.mmio().read_volatile() };
				Exit::Mmio(mmio)
			}
			abi::KVM_EXIT_INTR => Exit::Interrupted,
			reason => Exit::Other(reason),
		})
	}
}

impl Drop for Vcpu {
	fn drop(&mut self) {
		let run: *mut c_void = self.run.as_ptr().cast();
		// SAFETY: our mapping.
		unsafe { libc::munmap(run, self.mmap_size) };
	}
}

/// Was this error the kernel's way of saying that it doesn't know the request?
pub fn is_unsupported(error: &Error) -> bool {
	error.kind() == ErrorKind::InvalidInput
}

/// The system call KVM_RUN, with `$before` and `$after` around its `sc`.
///
/// Not through libc, because of a bug that is at least in Linux 5.10 to 7.3: if the
/// thread is scheduled out inside KVM_RUN it comes back with the *guest's* FP, VMX and
/// VSX registers, of which a caller may expect f14 to f31 and v20 to v31 kept. So the
/// compiler is told that none is, and the status registers are put back by hand.
macro_rules! kvm_run_call {
	($fd:expr, [$($before:literal,)*], [$($after:literal,)*], $($operand:tt)*) => {{
		#[repr(C, align(16))]
		struct Status([u64; 4]);
		let mut status = Status([0; 4]);
		let errno: u64;
		core::arch::asm!(
			"mffs 0",
			"stfd 0, 0({status})",
			"mfvscr 0",
			"stvx 0, {sixteen}, {status}",
			$($before,)*
			"sc",
			"bso 2f",
			"li 3, 0",
			"2:",
			$($after,)*
			"lfd 0, 0({status})",
			"mtfsf 255, 0",
			"lvx 0, {sixteen}, {status}",
			"mtvscr 0",
			status = in(reg_nonzero) &raw mut status,
			sixteen = in(reg) 16,
			inlateout("r0") libc::SYS_ioctl => _,
			inlateout("r3") $fd.as_raw_fd() as u64 => errno,
			inlateout("r4") abi::KVM_RUN => _,
			inlateout("r5") 0_u64 => _,
			out("r6") _, out("r7") _, out("r8") _, out("r9") _,
			out("r10") _, out("r11") _, out("r12") _,
			out("cr0") _, out("cr1") _, out("cr5") _, out("cr6") _, out("cr7") _,
			out("ctr") _, out("xer") _,
			out("f0") _, out("f1") _, out("f2") _, out("f3") _, out("f4") _, out("f5") _,
			out("f6") _, out("f7") _, out("f8") _, out("f9") _, out("f10") _, out("f11") _,
			out("f12") _, out("f13") _, out("f14") _, out("f15") _, out("f16") _,
			out("f17") _, out("f18") _, out("f19") _, out("f20") _, out("f21") _,
			out("f22") _, out("f23") _, out("f24") _, out("f25") _, out("f26") _,
			out("f27") _, out("f28") _, out("f29") _, out("f30") _, out("f31") _,
			out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _,
			out("v6") _, out("v7") _, out("v8") _, out("v9") _, out("v10") _, out("v11") _,
			out("v12") _, out("v13") _, out("v14") _, out("v15") _, out("v16") _,
			out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _,
			out("v22") _, out("v23") _, out("v24") _, out("v25") _, out("v26") _,
			out("v27") _, out("v28") _, out("v29") _, out("v30") _, out("v31") _,
			$($operand)*
		);
		errno as i32
	}};
}

/// KVM_RUN; returns an errno, or 0.
fn kvm_run(fd: &OwnedFd) -> i32 {
	// SAFETY: a system call that takes no address. It changes guest memory and the run
	// structure, neither of which Rust has references to.
	unsafe { kvm_run_call!(fd, [], [],) }
}

/// The 64 vector-scalar registers, which hold FP and VMX registers too.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(16))]
pub struct VectorRegs(pub [u128; 64]);

/// KVM_RUN with `before` in the registers; says what was in them when it returned.
fn kvm_run_with(fd: &OwnedFd, before: &VectorRegs) -> (i32, VectorRegs) {
	let mut after = VectorRegs([0; 64]);
	// SAFETY: as for `kvm_run`; it reads the one array and writes the other, each once
	// over. r6, r7 and r8 are lost, as after any system call.
	let errno = unsafe {
		kvm_run_call!(
			fd,
			[
				"mr 6, {before}",
				".set .Lvsr, 0",
				".rept 64",
				".long 31 << 26 | (.Lvsr & 31) << 21 | 6 << 11 | 844 << 1 | .Lvsr >> 5",
				"addi 6, 6, 16",
				".set .Lvsr, .Lvsr + 1",
				".endr",
			],
			[
				"mr 6, {after}",
				".set .Lvsr, 0",
				".rept 64",
				".long 31 << 26 | (.Lvsr & 31) << 21 | 6 << 11 | 972 << 1 | .Lvsr >> 5",
				"addi 6, 6, 16",
				".set .Lvsr, .Lvsr + 1",
				".endr",
			],
			before = in(reg_nonzero) before,
			after = in(reg_nonzero) &raw mut after,
		)
	};
	(errno, after)
}
