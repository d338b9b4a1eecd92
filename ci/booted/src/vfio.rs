// SPDX-License-Identifier: GPL-2.0-only
//! Hardware TCE tables, and a device whose DMA goes through them.
//!
//! The device is QEMU's `edu`, which copies up to 4 KiB between memory and a buffer of
//! its own, at any bus address. Nothing else reaches that buffer; so what it has read
//! goes to the mailbox, a page that userspace maps behind the end of the guest's window,
//! and what it is to write comes from there. It starts a copy a tenth of a second after
//! it was told to: nothing where time is counted in instructions.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::fs::File;
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm::abi;
use vmm::kvm::{Memory, failed, ioctl, ioctl_in};

const DEVICES: &str = "/sys/bus/pci/devices";
/// Its vendor and device, as sysfs has them.
const EDU: [&str; 2] = ["0x1234", "0x11e8"];

fn read(path: &Path) -> Result<String> {
	let text = std::fs::read_to_string(path)
		.map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display())))?;
	Ok(text.trim().to_owned())
}

fn write(path: &Path, text: &str) -> Result<()> {
	std::fs::write(path, text).map_err(|e| Error::new(e.kind(), format!("{}: {e}", path.display())))
}

/// The machine's `edu`s, in the order of their addresses.
fn devices() -> Result<Vec<PathBuf>> {
	let mut found = vec![];
	for entry in std::fs::read_dir(DEVICES)? {
		let path = entry?.path();
		let [vendor, device] = ["vendor", "device"].map(|name| read(&path.join(name)));
		if [vendor?.as_str(), device?.as_str()] == EDU {
			found.push(path);
		}
	}
	found.sort();
	Ok(found)
}

/// Binds them to vfio-pci, for good, and does without resetting them each time that a
/// group is opened or closed: only their whole bus can be reset, and the kernel warns of
/// that. It warns of this as well, so it is to be done before anybody listens.
pub fn take_devices() -> Result<()> {
	for device in devices()? {
		write(&device.join("driver_override"), "vfio-pci")?;
		write(&device.join("reset_method"), "\n")?;
		write(Path::new("/sys/bus/pci/drivers_probe"), &name(&device))?;
		let driver = name(&device.join("driver").canonicalize()?);
		if driver != "vfio-pci" {
			let device = device.display();
			return Err(Error::other(format!("{device} has the driver {driver}")));
		}
	}
	Ok(())
}

fn name(path: &Path) -> String {
	let name = path.file_name().unwrap_or_default();
	name.to_string_lossy().into_owned()
}

/// An IOMMU group with one device in it, which is ours.
pub struct Group {
	fd: File,
	/// The device's address.
	name: String,
}

impl AsRawFd for Group {
	fn as_raw_fd(&self) -> RawFd {
		self.fd.as_raw_fd()
	}
}

impl Group {
	/// The groups of the first so many `edu`s. NotFound if there aren't so many.
	pub fn open(count: usize) -> Result<Vec<Self>> {
		let devices = devices()?;
		if devices.len() < count {
			let there = devices.len();
			return Err(Error::new(
				std::io::ErrorKind::NotFound,
				format!("{there} devices for DMA instead of {count}"),
			));
		}
		devices[..count].iter().map(|path| Self::of(path)).collect()
	}

	fn of(device: &Path) -> Result<Self> {
		let group = name(&device.join("iommu_group").canonicalize()?);
		let path = format!("/dev/vfio/{group}");
		let fd = File::options().read(true).write(true).open(&path);
		Ok(Self {
			fd: fd.map_err(|e| Error::new(e.kind(), format!("{path}: {e}")))?,
			name: name(device),
		})
	}
}

/// A structure's size, as VFIO wants to be told.
const fn size<T>() -> u32 {
	size_of::<T>() as u32
}

/// What a group's hardware tables and memory for DMA belong to.
pub struct Container(File);

impl Container {
	/// One with the group in it, and no window.
	pub fn new(group: &Group) -> Result<Self> {
		let path = "/dev/vfio/vfio";
		let fd = File::options().read(true).write(true).open(path);
		let this = Self(fd.map_err(|e| Error::new(e.kind(), format!("{path}: {e}")))?);
		// SAFETY: the request reads an fd there.
		unsafe { ioctl_in(group, abi::VFIO_GROUP_SET_CONTAINER, &this.0.as_raw_fd()) }
			.map_err(failed("VFIO_GROUP_SET_CONTAINER"))?;
		// SAFETY: no address is passed.
		unsafe { ioctl(&this.0, abi::VFIO_SET_IOMMU, abi::VFIO_SPAPR_TCE_V2_IOMMU) }
			.map_err(failed("VFIO_SET_IOMMU"))?;
		// The default window, which isn't made until it is needed.
		this.remove_window(0)?;
		Ok(this)
	}

	/// Removes the window that begins at that bus address.
	pub fn remove_window(&self, bus: u64) -> Result<()> {
		let remove = abi::TceRemove {
			argsz: size::<abi::TceRemove>(),
			flags: 0,
			start_addr: bus,
		};
		// SAFETY: the structure is what the request reads.
		unsafe { ioctl_in(&self.0, abi::VFIO_IOMMU_SPAPR_TCE_REMOVE, &remove) }
			.map_err(failed("VFIO_IOMMU_SPAPR_TCE_REMOVE"))
	}

	/// Creates a window of so many bytes. Returns its first bus address.
	pub fn create_window(&self, page_shift: u32, bytes: u64, levels: u32) -> Result<u64> {
		let mut create = abi::TceCreate {
			argsz: size::<abi::TceCreate>(),
			flags: 0,
			page_shift,
			resv1: 0,
			window_size: bytes,
			levels,
			resv2: 0,
			start_addr: 0,
		};
		let argument = (&raw mut create).expose_provenance() as u64;
		// SAFETY: the request reads and writes a structure of that type there.
		unsafe { ioctl(&self.0, abi::VFIO_IOMMU_SPAPR_TCE_CREATE, argument) }
			.map_err(failed("VFIO_IOMMU_SPAPR_TCE_CREATE"))?;
		Ok(create.start_addr)
	}

	/// Allows DMA to a part of memory, which stays where it is until that is taken back.
	pub fn register(&self, memory: &Memory, offset: u64, bytes: u64) -> Result<()> {
		let argument = part(memory, offset, bytes);
		// SAFETY: the request reads this structure only. It pins pages, and a device that
		// writes to them later writes to memory that the VMM shares.
		unsafe { ioctl_in(&self.0, abi::VFIO_IOMMU_SPAPR_REGISTER_MEMORY, &argument) }
			.map_err(failed("VFIO_IOMMU_SPAPR_REGISTER_MEMORY"))
	}

	/// Takes that back. It comes into force when nothing is mapped there any more; if
	/// something is, the kernel says nothing, and it never does.
	pub fn unregister(&self, memory: &Memory, offset: u64, bytes: u64) -> Result<()> {
		let argument = part(memory, offset, bytes);
		// SAFETY: as above.
		unsafe { ioctl_in(&self.0, abi::VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY, &argument) }
			.map_err(failed("VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY"))
	}

	/// Maps a part of registered memory at a bus address, without the guest.
	pub fn map(&self, bus: u64, memory: &Memory, offset: u64, bytes: u64) -> Result<()> {
		let argument = abi::DmaMap {
			argsz: size::<abi::DmaMap>(),
			flags: abi::VFIO_DMA_MAP_FLAG_READ | abi::VFIO_DMA_MAP_FLAG_WRITE,
			vaddr: memory.user_address(offset),
			iova: bus,
			size: bytes,
		};
		// SAFETY: as above.
		unsafe { ioctl_in(&self.0, abi::VFIO_IOMMU_MAP_DMA, &argument) }
			.map_err(failed("VFIO_IOMMU_MAP_DMA"))
	}

	/// Unmaps what is there.
	pub fn unmap(&self, bus: u64, bytes: u64) -> Result<()> {
		let argument = abi::DmaUnmap {
			argsz: size::<abi::DmaUnmap>(),
			flags: 0,
			iova: bus,
			size: bytes,
		};
		// SAFETY: the structure is what the request reads.
		unsafe { ioctl_in(&self.0, abi::VFIO_IOMMU_UNMAP_DMA, &argument) }
			.map_err(failed("VFIO_IOMMU_UNMAP_DMA"))
	}
}

fn part(memory: &Memory, offset: u64, bytes: u64) -> abi::RegisterMemory {
	assert!(bytes <= memory.size() && offset <= memory.size() - bytes);
	abi::RegisterMemory {
		argsz: size::<abi::RegisterMemory>(),
		flags: 0,
		vaddr: memory.user_address(offset),
		size: bytes,
	}
}

/// The kilobytes that the kernel has locked for this process: registered memory, and
/// tables.
pub fn locked_kb() -> Result<u64> {
	let path = Path::new("/proc/self/status");
	let text = read(path)?;
	text.lines()
		.find_map(|line| {
			line.strip_prefix("VmLck:")?
				.strip_suffix("kB")?
				.trim()
				.parse()
				.ok()
		})
		.ok_or_else(|| Error::other(format!("{}: no VmLck", path.display())))
}

/// A device that copies.
// The order of the fields is the order in which they are dropped.
pub struct Edu {
	registers: Registers,
	_fd: OwnedFd,
	/// Memory that is mapped at the bus address.
	mailbox: Arc<Memory>,
	bus: u64,
}

/// Its registers, by offset.
mod register {
	/// What it is.
	pub const IDENTITY: usize = 0;
	/// Where a copy comes from.
	pub const SOURCE: usize = 0x80;
	/// Where it goes to.
	pub const DESTINATION: usize = 0x88;
	/// Its bytes.
	pub const COUNT: usize = 0x90;
	/// Bits below.
	pub const COMMAND: usize = 0x98;
	/// All of them.
	pub const SIZE: usize = 1 << 20;
}

/// What the device says in [`register::IDENTITY`], but for its version.
const IDENTITY: u32 = 0xed;
/// Starts a copy, and is set until it is done.
const RUN: u64 = 1 << 0;
/// From the device to memory.
const TO_MEMORY: u64 = 1 << 1;
/// Where the device has its buffer.
const BUFFER: u64 = 0x4_0000;
/// Its bytes.
pub const BUFFER_SIZE: u64 = 4096;
/// When a copy starts.
const DELAY: Duration = Duration::from_millis(100);
/// Longer than it takes.
const LIMIT: Duration = Duration::from_secs(20);

impl Edu {
	/// The device of a group in a container. The mailbox is a page of `1 << page_shift`
	/// bytes that it maps at the bus address.
	pub fn new(group: &Group, container: &Container, bus: u64, page_shift: u32) -> Result<Self> {
		let name = std::ffi::CString::new(group.name.as_str())?;
		let argument = name.as_ptr().expose_provenance() as u64;
		// SAFETY: the request reads a C string there.
		let fd = unsafe { ioctl(group, abi::VFIO_GROUP_GET_DEVICE_FD, argument) }
			.map_err(failed("VFIO_GROUP_GET_DEVICE_FD"))?;
		// SAFETY: the kernel has just returned this fd, and no other code has it.
		let fd = unsafe { OwnedFd::from_raw_fd(fd) };
		let config = region(&fd, abi::VFIO_PCI_CONFIG_REGION_INDEX)?.offset;
		let fd = allow_dma(fd, config)?;
		let bar = region(&fd, abi::VFIO_PCI_BAR0_REGION_INDEX)?;
		if bar.size != register::SIZE as u64 {
			return Err(Error::other(format!("{:#x} bytes of registers", bar.size)));
		}
		let registers = Registers::new(&fd, bar.offset)?;
		let identity = registers.identity();
		if identity & 0xff != IDENTITY {
			return Err(Error::other(format!("the device says it is {identity:#x}")));
		}
		let bytes = (1 << page_shift).max(1 << 16);
		let mailbox = Arc::new(Memory::new(bytes)?);
		container.register(&mailbox, 0, bytes as u64)?;
		container.map(bus, &mailbox, 0, 1 << page_shift)?;
		Ok(Self {
			registers,
			_fd: fd,
			mailbox,
			bus,
		})
	}

	fn copy(&self, source: u64, destination: u64, count: u64, direction: u64) -> Result<()> {
		self.registers.write(register::SOURCE, source);
		self.registers.write(register::DESTINATION, destination);
		self.registers.write(register::COUNT, count);
		self.registers.write(register::COMMAND, RUN | direction);
		let end = Instant::now() + LIMIT;
		let mut pause = DELAY;
		while self.registers.read(register::COMMAND) & RUN != 0 {
			if Instant::now() >= end {
				return Err(Error::other("the device doesn't come to its end"));
			}
			std::thread::sleep(pause);
			pause = Duration::from_millis(1);
		}
		Ok(())
	}

	/// Has the device read `bytes` from the bus to some place in its buffer.
	fn fetch(&self, bus: u64, place: u64, bytes: u64) -> Result<()> {
		assert!(place + bytes <= BUFFER_SIZE);
		self.copy(bus, BUFFER + place, bytes, 0)
	}

	/// Has it write to the bus from there.
	fn store(&self, place: u64, bus: u64, bytes: u64) -> Result<()> {
		assert!(place + bytes <= BUFFER_SIZE);
		self.copy(BUFFER + place, bus, bytes, TO_MEMORY)
	}

	/// What the device finds at each of the bus addresses, 8 bytes each, or `nothing` or 0
	/// where its reading fails.
	pub fn read(&self, addresses: &[u64], nothing: u64) -> Result<Vec<u64>> {
		let bytes = addresses.len() as u64 * 8;
		let places = (0..bytes).step_by(8);
		for place in places.clone() {
			self.mailbox.write(place, nothing);
		}
		self.fetch(self.bus, 0, bytes)?;
		for (place, &address) in places.clone().zip(addresses) {
			self.fetch(address, place, 8)?;
		}
		for place in places.clone() {
			self.mailbox.write(place, 0_u64);
		}
		self.store(0, self.bus, bytes)?;
		Ok(places.map(|place| self.mailbox.read(place)).collect())
	}

	/// Has the device write 8 bytes to each of the bus addresses.
	pub fn write(&self, values: &[(u64, u64)]) -> Result<()> {
		let bytes = values.len() as u64 * 8;
		let places = (0..bytes).step_by(8);
		for (place, &(_, value)) in places.clone().zip(values) {
			self.mailbox.write(place, value);
		}
		self.fetch(self.bus, 0, bytes)?;
		for (place, &(address, _)) in places.zip(values) {
			self.store(place, address, 8)?;
		}
		Ok(())
	}
}

fn region(device: &impl AsRawFd, index: u32) -> Result<abi::RegionInfo> {
	let mut info = abi::RegionInfo {
		argsz: size::<abi::RegionInfo>(),
		index,
		..abi::RegionInfo::default()
	};
	let argument = (&raw mut info).expose_provenance() as u64;
	// SAFETY: the request reads and writes a structure of that type there.
	unsafe { ioctl(device, abi::VFIO_DEVICE_GET_REGION_INFO, argument) }
		.map_err(failed("VFIO_DEVICE_GET_REGION_INFO"))?;
	Ok(info)
}

/// Lets the device answer at its registers and do DMA.
fn allow_dma(device: OwnedFd, config: u64) -> Result<OwnedFd> {
	/// The command register, and its bits for memory and for being a bus master.
	const COMMAND: u64 = 4;
	const MEMORY: u16 = 1 << 1;
	const MASTER: u16 = 1 << 2;
	let file = File::from(device);
	let mut command = [0; 2];
	file.read_exact_at(&mut command, config + COMMAND)?;
	let command = u16::from_le_bytes(command) | MEMORY | MASTER;
	file.write_all_at(&command.to_le_bytes(), config + COMMAND)?;
	Ok(file.into())
}

/// The mapping of the registers. QEMU gives this device the byte order of the CPUs of the
/// machine, which for a POWER is big-endian, also under a little-endian kernel.
struct Registers(NonNull<u8>);

impl Registers {
	fn new(device: &impl AsRawFd, offset: u64) -> Result<Self> {
		// SAFETY: a new mapping, nothing is replaced.
		let map = unsafe {
			libc::mmap(
				ptr::null_mut(),
				register::SIZE,
				libc::PROT_READ | libc::PROT_WRITE,
				libc::MAP_SHARED,
				device.as_raw_fd(),
				offset as i64,
			)
		};
		if map == libc::MAP_FAILED {
			return Err(failed("mapping a device")(Error::last_os_error()));
		}
		Ok(Self(
			NonNull::new(map.cast()).expect("mmap maps nothing at 0"),
		))
	}

	fn identity(&self) -> u32 {
		// SAFETY: inside the mapping, and aligned; this register has 4 bytes.
		let value: u32 = unsafe { self.0.add(register::IDENTITY).cast().read_volatile() };
		u32::from_be(value)
	}

	fn read(&self, register: usize) -> u64 {
		// SAFETY: inside the mapping, and aligned; these registers have 8 bytes.
		u64::from_be(unsafe { self.0.add(register).cast().read_volatile() })
	}

	fn write(&self, register: usize, value: u64) {
		// SAFETY: as above. What DMA does with memory is what the device's container
		// allows, and that is shared memory.
		unsafe { self.0.add(register).cast().write_volatile(value.to_be()) };
	}
}

impl Drop for Registers {
	fn drop(&mut self) {
		let map: *mut c_void = self.0.as_ptr().cast();
		// SAFETY: our mapping.
		unsafe { libc::munmap(map, register::SIZE) };
	}
}
