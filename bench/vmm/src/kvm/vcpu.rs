// SPDX-License-Identifier: GPL-2.0-only
//! A vcpu: its registers, and KVM_RUN.

use core::ffi::c_void;
use core::ptr::{self, NonNull};
use std::io::{Error, Result};
use std::os::fd::{AsRawFd, OwnedFd};

use hcall::{Code, Number};

use super::{failed, ioctl, ioctl_in};
use crate::abi;
use crate::user_regs::{UserRegs, kvm_run_with_user_regs};

/// Why a vcpu stopped.
#[derive(Clone, Copy, Debug)]
pub enum Exit {
	/// An hcall for userspace. Its answer is taken up by the next run.
	Hcall(Number, [u64; 9]),
	/// An access to a device. A load's data are taken up by the next run.
	Mmio(abi::Mmio),
	/// A signal came.
	Interrupted,
	/// The guest stores to memory that this process may only read.
	Fault,
	/// Anything else, by KVM's number.
	Other(u32),
}

// SAFETY: what takes a shared reference does ioctls only, which the kernel orders.
unsafe impl Sync for Vcpu {}

/// A vcpu.
pub struct Vcpu {
	pub(super) fd: OwnedFd,
	pub(super) run: NonNull<abi::KvmRun>,
	pub(super) mmap_size: usize,
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
	/// Keeps the mapping of the run structure from children that are forked: it would keep the VM.
	pub fn keep_from_children(&self) -> Result<()> {
		// SAFETY: the mapping is the vcpu's own; nothing of it changes for this process.
		let result = unsafe {
			libc::madvise(
				self.run.as_ptr().cast(),
				self.mmap_size,
				libc::MADV_DONTFORK,
			)
		};
		if result != 0 {
			return Err(failed("keeping the vcpu from children")(
				Error::last_os_error(),
			));
		}
		Ok(())
	}

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
			libc::EFAULT => return Ok(Exit::Fault),
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
