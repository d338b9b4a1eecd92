// SPDX-License-Identifier: GPL-2.0-only
//! The kernel that we are init of: mounts, paths, counters, power-off.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::IntoRawFd;

use proto::Path;

const PARAMETERS: &str = "/sys/module/kvm_p9/parameters";
const COUNTERS: &str = "/sys/kernel/debug/kvm_p9/counters";

fn mount(fstype: &str, target: &str) -> Result<()> {
	std::fs::create_dir_all(target)?;
	let [fstype, target] = [fstype, target].map(|name| CString::new(name).expect("no NUL in it"));
	// SAFETY: both are C strings; these file systems take no data.
	let result = unsafe {
		libc::mount(
			fstype.as_ptr(),
			target.as_ptr(),
			fstype.as_ptr(),
			0,
			core::ptr::null(),
		)
	};
	if result < 0 {
		let error = Error::last_os_error();
		// CONFIG_DEVTMPFS_MOUNT may have been quicker.
		if error.raw_os_error() != Some(libc::EBUSY) {
			return Err(error);
		}
	}
	Ok(())
}

/// Mounts what we need and puts stdin, stdout and stderr on the console.
pub fn set_up() -> Result<()> {
	for (fstype, target) in [
		("devtmpfs", "/dev"),
		("proc", "/proc"),
		("sysfs", "/sys"),
		("debugfs", "/sys/kernel/debug"),
	] {
		mount(fstype, target).map_err(|e| Error::new(e.kind(), format!("{target}: {e}")))?;
	}
	let console = std::fs::File::options()
		.read(true)
		.write(true)
		.open("/dev/console")?;
	let fd = console.into_raw_fd();
	for standard in 0..=2 {
		// SAFETY: the fd is open; the standard ones are only used through `std`, which
		// doesn't mind.
		if unsafe { libc::dup2(fd, standard) } < 0 {
			return Err(Error::last_os_error());
		}
	}
	Ok(())
}

/// Writes everything out and turns the machine off.
pub fn power_off() -> ! {
	// SAFETY: neither has preconditions.
	unsafe {
		libc::sync();
		libc::reboot(libc::RB_POWER_OFF);
	}
	// Only without the right to: we are not init.
	std::process::exit(1);
}

/// `uname -r`.
pub fn release() -> String {
	// SAFETY: zero is a valid utsname, and uname fills it.
	let names = unsafe {
		let mut names: libc::utsname = core::mem::zeroed();
		libc::uname(&mut names);
		names
	};
	names
		.release
		.iter()
		.take_while(|&&c| c != 0)
		.map(|&c| char::from(c))
		.collect()
}

/// Does the kernel let us choose the path?
pub fn has_parameters() -> bool {
	std::path::Path::new(PARAMETERS).is_dir()
}

/// Writes one of the parameters.
pub fn set_parameter(name: &str, value: &str) -> Result<()> {
	let file = format!("{PARAMETERS}/{name}");
	std::fs::write(&file, value).map_err(|e| Error::new(e.kind(), format!("{file}: {e}")))
}

/// Makes vcpus take that path; says why this kernel can't.
pub fn choose(path: Path) -> core::result::Result<(), String> {
	let old = release().starts_with("5.10.");
	match path {
		Path::Asm510 if old => return Ok(()),
		Path::Asm510 => return Err("only Linux 5.10 has this path".into()),
		_ if old => return Err("Linux 5.10 doesn't have this path".into()),
		Path::C if !has_parameters() => return Ok(()),
		Path::RustFull | Path::RustFast if !has_parameters() => {
			return Err("this kernel has no kvm_p9 parameters".into());
		}
		_ => {}
	}
	let (name, fast) = match path {
		Path::RustFull => ("rust", "0"),
		Path::RustFast => ("rust", "1"),
		_ => ("c", "0"),
	};
	set_parameter("fast", fast)
		.and_then(|()| set_parameter("path", name))
		.map_err(|e| e.to_string())
}

/// The counters, or `None` on a kernel without.
pub fn counters() -> Option<BTreeMap<String, u64>> {
	let text = std::fs::read_to_string(COUNTERS).ok()?;
	text.lines()
		.map(|line| {
			let (name, value) = line.split_once(' ')?;
			Some((name.to_owned(), value.trim().parse().ok()?))
		})
		.collect()
}

/// Hcalls served by fast handlers so far.
pub fn fast_total() -> Option<u64> {
	let counters = counters()?;
	Some(
		counters
			.iter()
			.filter(|(name, _)| name.starts_with("fast_"))
			.map(|(_, n)| n)
			.sum(),
	)
}
