// SPDX-License-Identifier: GPL-2.0-only
//! The memory of a guest is on an encrypted disk, and the kernel decrypts a page of it with vector registers
//! while the page fault of the guest is handled.
//!
//! The disk is in memory, so that the thread that reads a page decrypts the page itself: dm-crypt with
//! `no_read_workqueue` on a RAM disk. If a light exit handles the fault, the vector registers are still the
//! guest's until the kernel saves them.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::{Column, GuestMode, map};
use vmm::kvm::{self, Memory};
use vmm::machine::Failure;

use crate::common::{Verdict, choose, counter, counters, wrong};
use crate::cpus;
use crate::registers::arena::Arena;
use crate::registers::hcall::c_path_cfar;
use crate::soak::check_registers_of;

/// The encrypted disk, and what is below it.
const NAME: &str = "kvm-p9";
const BELOW: &str = "/dev/ram0";
/// The kernel's implementation of AES-XTS that uses vector registers.
const DRIVER: &str = "p8_aes_xts";
const SECTOR: u64 = 512;
/// Fewer of each than this would say little.
const ENOUGH: u64 = 50;

/// `struct dm_ioctl`, and after it one target with its parameters.
#[repr(C)]
struct Request {
	version: [u32; 3],
	data_size: u32,
	data_start: u32,
	target_count: u32,
	open_count: i32,
	flags: u32,
	event_nr: u32,
	padding: u32,
	dev: u64,
	name: [u8; 128],
	uuid: [u8; 129],
	data: [u8; 7],
	/// `struct dm_target_spec`.
	sector_start: u64,
	length: u64,
	status: i32,
	next: u32,
	target_type: [u8; 16],
	parameters: [u8; 256],
}

/// What the number of a request says that the structure has.
const HEADER: usize = core::mem::offset_of!(Request, sector_start);
const _: () = assert!(HEADER == 312);

const CREATE: u32 = 3;
const REMOVE: u32 = 4;
/// Also resumes.
const SUSPEND: u32 = 6;
const LOAD: u32 = 9;

/// Copies a text, which ends with the first zero.
fn put(place: &mut [u8], text: &str) {
	place[..text.len()].copy_from_slice(text.as_bytes());
}

/// Does a request for the disk. Returns the number of its device.
fn ask(control: &File, number: u32, parameters: &str) -> Result<u64, Failure> {
	let mut request = Request {
		version: [4, 0, 0],
		data_size: size_of::<Request>() as u32,
		data_start: HEADER as u32,
		target_count: u32::from(number == LOAD),
		open_count: 0,
		flags: 0,
		event_nr: 0,
		padding: 0,
		dev: 0,
		name: [0; 128],
		uuid: [0; 129],
		data: [0; 7],
		sector_start: 0,
		length: map::TOUCH_SIZE / SECTOR,
		status: 0,
		next: 0,
		target_type: [0; 16],
		parameters: [0; 256],
	};
	put(&mut request.name, NAME);
	put(&mut request.target_type, "crypt");
	put(&mut request.parameters, parameters);
	let code = libc::_IOWR::<[u8; HEADER]>(0xfd, number);
	let argument = (&raw mut request).expose_provenance() as u64;
	// SAFETY: the request reads and writes as many bytes there as the structure says.
	unsafe { kvm::ioctl(control, code, argument) }
		.map_err(|e| Failure::Wrong(format!("request {number} to the device mapper: {e}")))?;
	Ok(request.dev)
}

/// An encrypted disk as large as the memory that rounds touch.
struct Disk {
	control: File,
	file: File,
	/// The content is there that all guests want.
	is_filled: AtomicBool,
}

impl Disk {
	fn new() -> Result<Self, Failure> {
		let open = |path: &str| {
			let options = File::options().read(true).write(true).open(path);
			options.map_err(|e| Failure::Wrong(format!("{path}: {e}")))
		};
		let control = open("/dev/mapper/control")?;
		ask(&control, CREATE, "")?;
		let key = "0123456789abcdef".repeat(4);
		let table = format!("aes-xts-plain64 {key} 0 {BELOW} 0 1 no_read_workqueue");
		let made = ask(&control, LOAD, &table)
			.and_then(|_| ask(&control, SUSPEND, ""))
			.and_then(|_| open("/dev/dm-0"));
		match made {
			Ok(file) => Ok(Self {
				control,
				file,
				is_filled: AtomicBool::new(false),
			}),
			Err(failure) => {
				ask(&control, REMOVE, "")?;
				Err(failure)
			}
		}
	}

	/// Memory with the content of the disk. A page is read when it is touched, alone.
	///
	/// What the guest writes does not get to the disk, so the content stays the same for all guests.
	fn memory(&self) -> Result<Memory, Failure> {
		let memory = Memory::private_of_file(&self.file, map::TOUCH_SIZE as usize)?;
		self.advise(libc::POSIX_FADV_RANDOM)?;
		Ok(memory)
	}

	/// Has the kernel forget the memory. What the guest put there first is on the disk from then on.
	fn forget(&self, memory: &Memory) -> Result<(), Failure> {
		if !self.is_filled.swap(true, Ordering::Relaxed) {
			for page in (0..map::TOUCH_SIZE).step_by(map::TOUCH_PAGE as usize) {
				let words = [0, 8, 16].map(|place| memory.read::<u64>(page + place).to_ne_bytes());
				self.file.write_all_at(words.as_flattened(), page)?;
			}
			self.file.sync_data()?;
		}
		memory.forget_translations()?;
		self.advise(libc::POSIX_FADV_DONTNEED)
	}

	fn remove(self) -> Result<(), Failure> {
		drop(self.file);
		ask(&self.control, REMOVE, "").map(drop)
	}

	fn advise(&self, advice: i32) -> Result<(), Failure> {
		// SAFETY: no address is passed.
		match unsafe { libc::posix_fadvise(self.file.as_raw_fd(), 0, 0, advice) } {
			0 => Ok(()),
			errno => Err(std::io::Error::from_raw_os_error(errno).into()),
		}
	}
}

/// Runs a guest that checks its registers, now on one CPU and now on the other, a part of whose memory is
/// decrypted again and again.
pub fn registers(path: Column, seed: u64, time: Duration) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	let before = counters()?;
	let disk = Arc::new(Disk::new()?);
	let file = "/proc/crypto";
	let known = fs::read_to_string(file)?;
	if !known.contains(DRIVER) {
		return wrong(format!("{file} has no {DRIVER}"));
	}
	let make = |guest| {
		let (memory, disk) = (disk.memory()?, disk.clone());
		Arena::of_memory(
			guest,
			memory,
			Arc::new(move |memory: &_| disk.forget(memory)),
		)
	};
	let nap = |stop: &AtomicBool| {
		cpus::nap(stop, Duration::from_micros(900));
		Ok(())
	};
	let result = check_registers_of(&make, seed, time, cfar, &[&nap]);
	let Some(disk) = Arc::into_inner(disk) else {
		return wrong("the disk is still in use".into());
	};
	disk.remove()?;
	let (rounds, _) = result?;
	let mut line = format!("{rounds} rounds of registers");
	if rounds == 0 {
		return wrong(line);
	}
	let after = counters()?;
	let grown = |name| counter(&after, name) - counter(&before, name);
	let (faults, reloads) = (grown("light_page_fault"), grown("light_reloads"));
	line += &format!(
		", {faults} page faults handled by light exits, {reloads} light exits in which the kernel used \
		 vector registers"
	);
	if path == Column::RustFast && (faults < ENOUGH || reloads < ENOUGH) {
		return wrong(line);
	}
	Ok(line)
}
