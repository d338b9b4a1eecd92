// SPDX-License-Identifier: GPL-2.0-only
//! The parts of the KVM and VFIO APIs that we use, as powerpc has them.
//!
//! By hand, because the usual crates don't serve powerpc64, whose ioctl numbers are
//! also encoded unlike everybody else's (three direction bits, 13 size bits); libc's
//! `_IOW` and friends know that.
#![expect(
	missing_docs,
	reason = "fields and constants have the names of the kernel's headers, which document them"
)]

use core::mem::{offset_of, size_of};
use libc::Ioctl;
use static_assertions::{assert_eq_size, const_assert_eq};

/// A memory slot (KVM_SET_USER_MEMORY_REGION).
#[repr(C)]
pub struct MemoryRegion {
	pub slot: u32,
	pub flags: u32,
	pub guest_phys_addr: u64,
	pub memory_size: u64,
	pub userspace_addr: u64,
}

assert_eq_size!(MemoryRegion, [u8; 32]);
const_assert_eq!(offset_of!(MemoryRegion, slot), 0);
const_assert_eq!(offset_of!(MemoryRegion, flags), 4);
const_assert_eq!(offset_of!(MemoryRegion, guest_phys_addr), 8);
const_assert_eq!(offset_of!(MemoryRegion, memory_size), 16);
const_assert_eq!(offset_of!(MemoryRegion, userspace_addr), 24);

/// A capability to turn on (KVM_ENABLE_CAP).
#[repr(C)]
pub struct EnableCap {
	pub cap: u32,
	pub flags: u32,
	pub args: [u64; 4],
	pub pad: [u8; 64],
}

assert_eq_size!(EnableCap, [u8; 104]);
const_assert_eq!(offset_of!(EnableCap, cap), 0);
const_assert_eq!(offset_of!(EnableCap, flags), 4);
const_assert_eq!(offset_of!(EnableCap, args), 8);
const_assert_eq!(offset_of!(EnableCap, pad), 40);

/// One register by number (KVM_SET_ONE_REG); `addr` points to its value.
#[repr(C)]
pub struct OneReg {
	pub id: u64,
	pub addr: u64,
}

assert_eq_size!(OneReg, [u8; 16]);
const_assert_eq!(offset_of!(OneReg, id), 0);
const_assert_eq!(offset_of!(OneReg, addr), 8);

/// The registers of KVM_GET_REGS and KVM_SET_REGS.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Regs {
	pub pc: u64,
	pub cr: u64,
	pub ctr: u64,
	pub lr: u64,
	pub xer: u64,
	pub msr: u64,
	pub srr0: u64,
	pub srr1: u64,
	pub pid: u64,
	pub sprg: [u64; 8],
	pub gpr: [u64; 32],
}

assert_eq_size!(Regs, [u64; 49]);
const_assert_eq!(offset_of!(Regs, pc), 0);
const_assert_eq!(offset_of!(Regs, cr), 8);
const_assert_eq!(offset_of!(Regs, ctr), 16);
const_assert_eq!(offset_of!(Regs, lr), 24);
const_assert_eq!(offset_of!(Regs, xer), 32);
const_assert_eq!(offset_of!(Regs, msr), 40);
const_assert_eq!(offset_of!(Regs, srr0), 48);
const_assert_eq!(offset_of!(Regs, srr1), 56);
const_assert_eq!(offset_of!(Regs, pid), 64);
const_assert_eq!(offset_of!(Regs, sprg), 72);
const_assert_eq!(offset_of!(Regs, gpr), 136);

/// `struct kvm_sregs`, as words: the first has the PVR, and from the fourth on there are
/// 64 SLB entries of two words each.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Sregs(pub [u64; 154]);

assert_eq_size!(Sregs, [u8; 1232]);

/// A DMA window (KVM_CREATE_SPAPR_TCE_64); offset and size in its own pages.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SpaprTce64 {
	pub liobn: u64,
	pub page_shift: u32,
	pub flags: u32,
	pub offset: u64,
	pub size: u64,
}

assert_eq_size!(SpaprTce64, [u8; 32]);
const_assert_eq!(offset_of!(SpaprTce64, liobn), 0);
const_assert_eq!(offset_of!(SpaprTce64, page_shift), 8);
const_assert_eq!(offset_of!(SpaprTce64, flags), 12);
const_assert_eq!(offset_of!(SpaprTce64, offset), 16);
const_assert_eq!(offset_of!(SpaprTce64, size), 24);

/// How the guest translates (KVM_PPC_CONFIGURE_V3_MMU).
#[repr(C)]
pub struct MmuV3Config {
	pub flags: u64,
	pub process_table: u64,
}

assert_eq_size!(MmuV3Config, [u8; 16]);
const_assert_eq!(offset_of!(MmuV3Config, flags), 0);
const_assert_eq!(offset_of!(MmuV3Config, process_table), 8);

/// Which pages of a memory slot are dirty (KVM_GET_DIRTY_LOG); `dirty_bitmap` points to a bit a page.
#[repr(C)]
pub struct DirtyLog {
	pub slot: u32,
	pub padding1: u32,
	pub dirty_bitmap: u64,
}

assert_eq_size!(DirtyLog, [u64; 2]);
const_assert_eq!(offset_of!(DirtyLog, dirty_bitmap), 8);

/// A file that reads the page table of a hash guest (KVM_PPC_GET_HTAB_FD).
#[derive(Default)]
#[repr(C)]
pub struct GetHtabFd {
	pub flags: u64,
	pub start_index: u64,
	pub reserved: [u64; 2],
}

assert_eq_size!(GetHtabFd, [u64; 4]);

/// Another size for that page table (KVM_PPC_RESIZE_HPT_PREPARE, KVM_PPC_RESIZE_HPT_COMMIT).
#[repr(C)]
pub struct ResizeHpt {
	pub flags: u64,
	pub shift: u32,
	pub pad: u32,
}

assert_eq_size!(ResizeHpt, [u64; 2]);
const_assert_eq!(offset_of!(ResizeHpt, shift), 8);

/// Only stores of one value signal the eventfd.
pub const KVM_IOEVENTFD_FLAG_DATAMATCH: u32 = 1;

/// An eventfd that sends an interrupt (KVM_IRQFD).
#[repr(C)]
pub struct IrqFd {
	pub fd: u32,
	pub gsi: u32,
	pub flags: u32,
	pub resamplefd: u32,
	pub pad: [u8; 16],
}

assert_eq_size!(IrqFd, [u8; 32]);
const_assert_eq!(offset_of!(IrqFd, fd), 0);
const_assert_eq!(offset_of!(IrqFd, gsi), 4);

/// An eventfd that stores signal (KVM_IOEVENTFD).
#[repr(C)]
pub struct IoEventFd {
	pub datamatch: u64,
	pub addr: u64,
	/// Length of the store, or 0 for any.
	pub len: u32,
	pub fd: i32,
	pub flags: u32,
	pub pad: [u8; 36],
}

assert_eq_size!(IoEventFd, [u8; 64]);
const_assert_eq!(offset_of!(IoEventFd, datamatch), 0);
const_assert_eq!(offset_of!(IoEventFd, addr), 8);
const_assert_eq!(offset_of!(IoEventFd, len), 16);
const_assert_eq!(offset_of!(IoEventFd, fd), 20);
const_assert_eq!(offset_of!(IoEventFd, flags), 24);
const_assert_eq!(offset_of!(IoEventFd, pad), 28);

/// `struct kvm_run` as far as an hcall's exit goes.
#[repr(C)]
pub struct KvmRun {
	pub request_interrupt_window: u8,
	pub immediate_exit: u8,
	pub padding: [u8; 6],
	pub exit_reason: u32,
	pub ready_for_interrupt_injection: u8,
	pub if_flag: u8,
	pub flags: u16,
	pub cr8: u64,
	pub apic_base: u64,
	pub hcall_nr: u64,
	pub hcall_ret: u64,
	pub hcall_args: [u64; 9],
}

const_assert_eq!(offset_of!(KvmRun, immediate_exit), 1);
const_assert_eq!(offset_of!(KvmRun, exit_reason), 8);
const_assert_eq!(offset_of!(KvmRun, flags), 14);
const_assert_eq!(offset_of!(KvmRun, cr8), 16);
const_assert_eq!(offset_of!(KvmRun, apic_base), 24);
const_assert_eq!(offset_of!(KvmRun, hcall_nr), 32);
const_assert_eq!(offset_of!(KvmRun, hcall_ret), 40);
const_assert_eq!(offset_of!(KvmRun, hcall_args), 48);
const_assert_eq!(size_of::<KvmRun>(), 120);

/// The same for an access to a device, at the same place in [`KvmRun`].
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Mmio {
	pub phys_addr: u64,
	pub data: [u8; 8],
	pub len: u32,
	pub is_write: u8,
	pub padding: [u8; 3],
}

assert_eq_size!(Mmio, [u64; 3]);
const_assert_eq!(offset_of!(Mmio, phys_addr), 0);
const_assert_eq!(offset_of!(Mmio, data), 8);
const_assert_eq!(offset_of!(Mmio, len), 16);
const_assert_eq!(offset_of!(Mmio, is_write), 20);

/// A device of KVM's own (KVM_CREATE_DEVICE); KVM fills in `fd`.
#[repr(C)]
pub struct CreateDevice {
	pub kind: u32,
	pub fd: u32,
	pub flags: u32,
}

assert_eq_size!(CreateDevice, [u32; 3]);
const_assert_eq!(offset_of!(CreateDevice, fd), 4);

/// A line of an interrupt controller (KVM_IRQ_LINE).
#[repr(C)]
pub struct IrqLevel {
	pub irq: u32,
	pub level: u32,
}

assert_eq_size!(IrqLevel, [u32; 2]);

/// An attribute of such a device (KVM_SET_DEVICE_ATTR); `addr` points to its value.
#[repr(C)]
pub struct DeviceAttr {
	pub flags: u32,
	pub group: u32,
	pub attr: u64,
	pub addr: u64,
}

assert_eq_size!(DeviceAttr, [u64; 3]);
const_assert_eq!(offset_of!(DeviceAttr, group), 4);
const_assert_eq!(offset_of!(DeviceAttr, attr), 8);
const_assert_eq!(offset_of!(DeviceAttr, addr), 16);

/// The value of KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE: whose hardware serves which table.
#[repr(C)]
pub struct VfioSpaprTce {
	pub groupfd: i32,
	pub tablefd: i32,
}

assert_eq_size!(VfioSpaprTce, [i32; 2]);
const_assert_eq!(offset_of!(VfioSpaprTce, tablefd), 4);

/// Userspace memory for DMA (VFIO_IOMMU_SPAPR_REGISTER_MEMORY and its counterpart).
#[repr(C)]
pub struct RegisterMemory {
	pub argsz: u32,
	pub flags: u32,
	pub vaddr: u64,
	pub size: u64,
}

assert_eq_size!(RegisterMemory, [u64; 3]);
const_assert_eq!(offset_of!(RegisterMemory, vaddr), 8);
const_assert_eq!(offset_of!(RegisterMemory, size), 16);

/// A DMA window of the hardware (VFIO_IOMMU_SPAPR_TCE_CREATE); the kernel says where it
/// starts.
#[repr(C)]
pub struct TceCreate {
	pub argsz: u32,
	pub flags: u32,
	pub page_shift: u32,
	pub resv1: u32,
	pub window_size: u64,
	pub levels: u32,
	pub resv2: u32,
	pub start_addr: u64,
}

assert_eq_size!(TceCreate, [u64; 5]);
const_assert_eq!(offset_of!(TceCreate, page_shift), 8);
const_assert_eq!(offset_of!(TceCreate, window_size), 16);
const_assert_eq!(offset_of!(TceCreate, levels), 24);
const_assert_eq!(offset_of!(TceCreate, start_addr), 32);

/// Where such a window starts (VFIO_IOMMU_SPAPR_TCE_REMOVE).
#[repr(C)]
pub struct TceRemove {
	pub argsz: u32,
	pub flags: u32,
	pub start_addr: u64,
}

assert_eq_size!(TceRemove, [u64; 2]);
const_assert_eq!(offset_of!(TceRemove, start_addr), 8);

/// What userspace maps for DMA itself (VFIO_IOMMU_MAP_DMA).
#[repr(C)]
pub struct DmaMap {
	pub argsz: u32,
	pub flags: u32,
	pub vaddr: u64,
	pub iova: u64,
	pub size: u64,
}

assert_eq_size!(DmaMap, [u64; 4]);
const_assert_eq!(offset_of!(DmaMap, vaddr), 8);
const_assert_eq!(offset_of!(DmaMap, iova), 16);
const_assert_eq!(offset_of!(DmaMap, size), 24);

/// What userspace unmaps (VFIO_IOMMU_UNMAP_DMA).
#[repr(C)]
pub struct DmaUnmap {
	pub argsz: u32,
	pub flags: u32,
	pub iova: u64,
	pub size: u64,
}

assert_eq_size!(DmaUnmap, [u64; 3]);
const_assert_eq!(offset_of!(DmaUnmap, iova), 8);
const_assert_eq!(offset_of!(DmaUnmap, size), 16);

/// A region of a passed-through device (VFIO_DEVICE_GET_REGION_INFO).
#[derive(Default)]
#[repr(C)]
pub struct RegionInfo {
	pub argsz: u32,
	pub flags: u32,
	pub index: u32,
	pub cap_offset: u32,
	pub size: u64,
	pub offset: u64,
}

assert_eq_size!(RegionInfo, [u64; 4]);
const_assert_eq!(offset_of!(RegionInfo, index), 8);
const_assert_eq!(offset_of!(RegionInfo, size), 16);
const_assert_eq!(offset_of!(RegionInfo, offset), 24);

/// VFIO's ioctls carry no size: each structure has its own.
const fn vfio(number: u32) -> Ioctl {
	const TYPE: u32 = b';' as u32;
	const BASE: u32 = 100;
	libc::_IO(TYPE, BASE + number)
}

pub const VFIO_SET_IOMMU: Ioctl = vfio(2);
pub const VFIO_GROUP_SET_CONTAINER: Ioctl = vfio(4);
pub const VFIO_GROUP_GET_DEVICE_FD: Ioctl = vfio(6);
pub const VFIO_DEVICE_GET_REGION_INFO: Ioctl = vfio(8);
pub const VFIO_IOMMU_MAP_DMA: Ioctl = vfio(13);
pub const VFIO_IOMMU_UNMAP_DMA: Ioctl = vfio(14);
pub const VFIO_IOMMU_SPAPR_REGISTER_MEMORY: Ioctl = vfio(17);
pub const VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY: Ioctl = vfio(18);
pub const VFIO_IOMMU_SPAPR_TCE_CREATE: Ioctl = vfio(19);
pub const VFIO_IOMMU_SPAPR_TCE_REMOVE: Ioctl = vfio(20);

/// The IOMMU type whose memory is registered.
pub const VFIO_SPAPR_TCE_V2_IOMMU: u64 = 7;
pub const VFIO_DMA_MAP_FLAG_READ: u32 = 1 << 0;
pub const VFIO_DMA_MAP_FLAG_WRITE: u32 = 1 << 1;
pub const VFIO_PCI_BAR0_REGION_INDEX: u32 = 0;
pub const VFIO_PCI_CONFIG_REGION_INDEX: u32 = 7;

const KVMIO: u32 = 0xae;

pub const KVM_CREATE_VM: Ioctl = libc::_IO(KVMIO, 0x01);
pub const KVM_CHECK_EXTENSION: Ioctl = libc::_IO(KVMIO, 0x03);
pub const KVM_GET_VCPU_MMAP_SIZE: Ioctl = libc::_IO(KVMIO, 0x04);
pub const KVM_CREATE_VCPU: Ioctl = libc::_IO(KVMIO, 0x41);
pub const KVM_GET_DIRTY_LOG: Ioctl = libc::_IOW::<DirtyLog>(KVMIO, 0x42);
pub const KVM_SET_USER_MEMORY_REGION: Ioctl = libc::_IOW::<MemoryRegion>(KVMIO, 0x46);
pub const KVM_IRQFD: Ioctl = libc::_IOW::<IrqFd>(KVMIO, 0x76);
pub const KVM_IOEVENTFD: Ioctl = libc::_IOW::<IoEventFd>(KVMIO, 0x79);
pub const KVM_RUN: Ioctl = libc::_IO(KVMIO, 0x80);
pub const KVM_GET_REGS: Ioctl = libc::_IOR::<Regs>(KVMIO, 0x81);
pub const KVM_SET_REGS: Ioctl = libc::_IOW::<Regs>(KVMIO, 0x82);
pub const KVM_GET_SREGS: Ioctl = libc::_IOR::<Sregs>(KVMIO, 0x83);
pub const KVM_SET_SREGS: Ioctl = libc::_IOW::<Sregs>(KVMIO, 0x84);
pub const KVM_ENABLE_CAP: Ioctl = libc::_IOW::<EnableCap>(KVMIO, 0xa3);
pub const KVM_PPC_ALLOCATE_HTAB: Ioctl = libc::_IOWR::<u32>(KVMIO, 0xa7);
pub const KVM_CREATE_SPAPR_TCE_64: Ioctl = libc::_IOW::<SpaprTce64>(KVMIO, 0xa8);
pub const KVM_PPC_GET_HTAB_FD: Ioctl = libc::_IOW::<GetHtabFd>(KVMIO, 0xaa);
pub const KVM_GET_ONE_REG: Ioctl = libc::_IOW::<OneReg>(KVMIO, 0xab);
pub const KVM_SET_ONE_REG: Ioctl = libc::_IOW::<OneReg>(KVMIO, 0xac);
pub const KVM_PPC_RESIZE_HPT_PREPARE: Ioctl = libc::_IOR::<ResizeHpt>(KVMIO, 0xad);
pub const KVM_PPC_RESIZE_HPT_COMMIT: Ioctl = libc::_IOR::<ResizeHpt>(KVMIO, 0xae);
pub const KVM_PPC_CONFIGURE_V3_MMU: Ioctl = libc::_IOW::<MmuV3Config>(KVMIO, 0xaf);
pub const KVM_CREATE_DEVICE: Ioctl = libc::_IOWR::<CreateDevice>(KVMIO, 0xe0);
pub const KVM_SET_DEVICE_ATTR: Ioctl = libc::_IOW::<DeviceAttr>(KVMIO, 0xe1);
pub const KVM_GET_DEVICE_ATTR: Ioctl = libc::_IOW::<DeviceAttr>(KVMIO, 0xe2);
pub const KVM_IRQ_LINE: Ioctl = libc::_IOW::<IrqLevel>(KVMIO, 0x61);

/// Dirty pages of the memory slot are logged.
pub const KVM_MEM_LOG_DIRTY_PAGES: u32 = 1 << 0;
/// Type of a VM that KVM-HV runs.
pub const KVM_VM_PPC_HV: u64 = 1;
pub const KVM_CAP_PPC_SMT: u32 = 64;
pub const KVM_CAP_PPC_PAPR: u32 = 68;
pub const KVM_CAP_PPC_ENABLE_HCALL: u32 = 104;
pub const KVM_CAP_PPC_HWRNG: u32 = 115;
pub const KVM_EXIT_MMIO: u32 = 6;
pub const KVM_EXIT_INTR: u32 = 10;
pub const KVM_EXIT_PAPR_HCALL: u32 = 19;
/// Registers of powerpc, 32, 64 and 128 bits wide.
pub const KVM_REG_PPC_U32: u64 = 0x1020_0000_0000_0000;
pub const KVM_REG_PPC_U64: u64 = 0x1030_0000_0000_0000;
pub const KVM_REG_PPC_U128: u64 = 0x1040_0000_0000_0000;
pub const KVM_REG_PPC_LPCR_64: u64 = KVM_REG_PPC_U64 | 0xb5;
pub const KVM_REG_PPC_MMCR0: u64 = KVM_REG_PPC_U64 | 0x10;
pub const KVM_REG_PPC_PMC6: u64 = KVM_REG_PPC_U32 | 0x1d;
pub const KVM_REG_PPC_TB_OFFSET: u64 = KVM_REG_PPC_U64 | 0x9c;
pub const KVM_REG_PPC_DEC_EXPIRY: u64 = KVM_REG_PPC_U64 | 0xbe;
pub const KVM_REG_PPC_DAWR: u64 = KVM_REG_PPC_U64 | 0xaa;
pub const KVM_REG_PPC_DAWRX: u64 = KVM_REG_PPC_U64 | 0xab;
pub const KVM_REG_PPC_CIABR: u64 = KVM_REG_PPC_U64 | 0xac;
pub const KVM_PPC_MMUV3_RADIX: u64 = 1;
pub const KVM_PPC_MMUV3_GTSE: u64 = 2;
/// Interrupt controllers of a guest: the older interface, which KVM has on top of the host's XIVE,
/// and the one of a POWER9.
pub const KVM_DEV_TYPE_XICS: u32 = 3;
pub const KVM_DEV_TYPE_XIVE: u32 = 9;
/// Attributes of the first that are its sources.
pub const KVM_DEV_XICS_GRP_SOURCES: u32 = 1;
/// Of the second: what is done at once, sources, how they are routed, and a barrier after an
/// interrupt.
pub const KVM_DEV_XIVE_GRP_CTRL: u32 = 1;
pub const KVM_DEV_XIVE_GRP_SOURCE: u32 = 2;
pub const KVM_DEV_XIVE_GRP_SOURCE_CONFIG: u32 = 3;
pub const KVM_DEV_XIVE_GRP_SOURCE_SYNC: u32 = 5;
pub const KVM_DEV_XIVE_RESET: u64 = 1;
pub const KVM_DEV_XIVE_EQ_SYNC: u64 = 2;
pub const KVM_CAP_IRQ_XICS: u32 = 92;
pub const KVM_CAP_PPC_IRQ_XIVE: u32 = 169;
/// The state of a vcpu in one, and in the other.
pub const KVM_REG_PPC_ICP_STATE: u64 = KVM_REG_PPC_U64 | 0x8c;
pub const KVM_REG_PPC_VP_STATE: u64 = KVM_REG_PPC_U128 | 0x8d;
/// The device that brings VFIO groups and VMs together.
pub const KVM_DEV_TYPE_VFIO: u32 = 4;
pub const KVM_DEV_VFIO_GROUP: u32 = 1;
pub const KVM_DEV_VFIO_GROUP_ADD: u64 = 1;
pub const KVM_DEV_VFIO_GROUP_DEL: u64 = 2;
pub const KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE: u64 = 3;
