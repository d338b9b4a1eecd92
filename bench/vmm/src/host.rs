// SPDX-License-Identifier: GPL-2.0-only
//! The kernel that we are init of: mounts, paths, counters, power-off.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{Error, Result};
use std::os::fd::IntoRawFd;

use cases::{Case, Served};
use protocol::Column;

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
	for (fstype, target) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
		mount(fstype, target).map_err(|e| Error::new(e.kind(), format!("{target}: {e}")))?;
	}
	// Only the counters are there, and who wants them says that they are missing.
	let _ = mount("debugfs", "/sys/kernel/debug");
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

/// Mounts tracefs, if it isn't.
pub fn mount_tracefs() -> Result<()> {
	let target = "/sys/kernel/tracing";
	mount("tracefs", target).map_err(|e| Error::new(e.kind(), format!("{target}: {e}")))
}

/// Writes everything out, and turns the machine off. A machine that has other work is started again:
/// `kvm_p9_end=reboot` on the kernel's command line, which the kernel gives to init as a variable.
pub fn end() -> ! {
	let how = match std::env::var("kvm_p9_end").as_deref() {
		Ok("reboot") => libc::RB_AUTOBOOT,
		_ => libc::RB_POWER_OFF,
	};
	// SAFETY: neither has preconditions.
	unsafe {
		libc::sync();
		libc::reboot(how);
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

/// Is it the kernel of [`Column::Asm510`]?
pub fn is_5_10() -> bool {
	release().starts_with("5.10.")
}

/// Makes the C library use `sc` for system calls and not `scv`.
///
/// When a hash guest has run, Linux 5.10 does not restore the host's FSCR, and `scv` is
/// an illegal instruction from then on.
pub fn avoid_scv() {
	// SAFETY: that word of the thread's control block has the CPU's features, at a place
	// that is part of the ABI (compilers read it for `__builtin_cpu_supports()`). It only
	// tells what may be used, and is copied to new threads.
	unsafe {
		core::arch::asm!(
			"ld {word}, -28776(13)",
			"andc {word}, {word}, {scv}",
			"std {word}, -28776(13)",
			word = out(reg) _,
			scv = in(reg) 0x0010_0000_u64,
			options(nostack),
		);
	}
}

/// Does the kernel let us choose the path?
pub fn has_parameters() -> bool {
	std::path::Path::new(PARAMETERS).is_dir()
}

/// Reads one of the parameters.
pub fn parameter(name: &str) -> Result<String> {
	let text = std::fs::read_to_string(format!("{PARAMETERS}/{name}"))?;
	Ok(text.trim().to_owned())
}

/// Writes one of the parameters.
pub fn set_parameter(name: &str, value: &str) -> Result<()> {
	let file = format!("{PARAMETERS}/{name}");
	std::fs::write(&file, value).map_err(|e| Error::new(e.kind(), format!("{file}: {e}")))
}

/// Makes vcpus take that path; says why this kernel can't.
pub fn choose(path: Column) -> core::result::Result<(), String> {
	let old = is_5_10();
	match path {
		Column::Asm510 if old => return Ok(()),
		Column::Asm510 => return Err("only Linux 5.10 has this path".into()),
		_ if old => return Err("Linux 5.10 doesn't have this path".into()),
		Column::C if !has_parameters() => return Ok(()),
		Column::RustFull | Column::RustFast if !has_parameters() => {
			return Err("this kernel has no kvm_p9 parameters".into());
		}
		_ => {}
	}
	let (name, fast) = match path {
		Column::RustFull => ("rust", "0"),
		Column::RustFast => ("rust", "1"),
		_ => ("c", "0"),
	};
	set_parameter("fast", fast)
		.and_then(|()| set_parameter("light", fast))
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

/// Page table hcalls of hash guests that Rust answered after a full exit so far.
pub fn full_page_table() -> Option<u64> {
	counters()?.get("full_page_table").copied()
}

/// Whether a counter counts light exits that answer the guest.
pub fn is_light_answer(name: &str) -> bool {
	["light_store", "light_doorbell"].contains(&name) || name.starts_with("light_h_")
}

/// Whether a counter counts light exits.
fn is_light_exit(name: &str) -> bool {
	const OTHERS: [&str; 3] = [
		"light_host_timer",
		"light_host_interrupt",
		"light_page_fault",
	];
	is_light_answer(name) || OTHERS.contains(&name)
}

/// What the counters say of a case so far, or `None` on a kernel without.
pub fn served(case: &Case) -> Option<Served> {
	let counters = counters()?;
	let mut served = Served::default();
	for (name, count) in counters {
		if Some(name.as_str()) == case.fast {
			served.fast += count;
		} else if case.also_fast.contains(&name.as_str()) {
			served.also_fast += count;
		} else if name.starts_with("fast_") {
			served.other_fast += count;
		} else if name == "entry_rust" || is_light_exit(&name) {
			// A light exit makes no entry.
			served.rust += count;
		} else if name.starts_with("c_") {
			served.c += count;
		}
	}
	Some(served)
}

/// The reasons for which C took entries although Rust was asked to.
pub fn reasons() -> Vec<(String, u64)> {
	let counters = counters().unwrap_or_default().into_iter();
	counters
		.filter(|(name, _)| name.starts_with("c_"))
		.collect()
}

/// Guest exits by the hypervisor's decrementer so far, of all VMs there are.
pub fn decrementer_exits() -> Result<u64> {
	// The second is Linux 5.10's name for it.
	let files = ["dec_exits", "dec"].map(|name| format!("/sys/kernel/debug/kvm/{name}"));
	let text = files
		.iter()
		.find_map(|file| std::fs::read_to_string(file).ok())
		.ok_or_else(|| {
			Error::other(format!("neither {} nor {} can be read", files[0], files[1]))
		})?;
	text.trim().parse().map_err(Error::other)
}
