// SPDX-License-Identifier: GPL-2.0-only
//! Another kernel takes over a machine whose CPUs run guests: by kexec, or after a crash.
//!
//! The first half of a test runs guests on all CPUs, and starts the other kernel. Init of the other kernel
//! finds in its environment which test it is the second half of. After a crash the second half looks for
//! each CPU in the memory of the kernel that crashed.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cases::{Case, case};
use protocol::regs::Pattern;
use protocol::{Column, GuestMode};
use vmm::machine::{Failure, Stop};
use vmm::timer::{self, Timer};

use crate::common::{Verdict, choose, counter, counters, named, wrong};
use crate::cpus;
use crate::kmsg::Kmsg;
use crate::nmi::AWAITS_RESET;
use crate::registers::hcall::c_path_cfar;
use crate::soak::{check_registers, check_registers_beside};
use crate::storms;

/// The variable that tells the second half which test it belongs to, and what the first half knew.
const AFTER: &str = "kvm_p9_after";
/// The kernel that takes over, and its initramfs.
const KERNEL: &str = "/vmlinux";
const INITRD: &str = "/initrd";
/// The memory of a kernel that crashed.
const VMCORE: &str = "/proc/vmcore";
/// CPUs of the machine. On the first one runs what ends the kernel.
const CPUS: usize = 3;
/// What runs on each of the others.
const STORMS: [&Case; CPUS - 1] = [case!("null"), case!("h_prod")];
/// What the timebase of these guests is ahead of the host's. Another kernel would not get along with a
/// CPU that has the timebase of a guest.
const AHEAD: u128 = 1 << 44;
/// How long guests run before the other kernel is started, and in it.
const TIME: Duration = Duration::from_millis(1500);
/// Fewer hcalls than this would say little.
const ENOUGH: u64 = 100;

/// What ends the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
	/// The system call.
	Kexec,
	/// A panic.
	Panic,
	/// A system reset of all CPUs, which the runner makes.
	SystemReset,
}

/// What a thread with a guest tells.
#[derive(Default)]
struct Told {
	thread: AtomicI32,
	rounds: AtomicU64,
}

/// Hcalls of one kind on a CPU.
fn storm(
	case: &'static Case,
	cpu: usize,
	ahead: u128,
	told: &Told,
	stop: &AtomicBool,
) -> Result<(), Failure> {
	let _here = cpus::OneCpu::new(cpu)?;
	let mut machine = storms::start(GuestMode::Radix, case)?;
	machine
		.vcpu()
		.set_one_reg(vmm::abi::KVM_REG_PPC_TB_OFFSET, ahead)?;
	told.thread.store(timer::thread(), Ordering::Relaxed);
	let interval = Duration::from_millis(5);
	let _timer = Timer::every(interval, interval)?;
	while !stop.load(Ordering::Relaxed) {
		match machine.step()? {
			Stop::Interrupted => told
				.rounds
				.store(machine.outcome().rounds, Ordering::Relaxed),
			_ => return wrong(format!("the storm of {} ended", case.name)),
		}
	}
	Ok(())
}

/// The first half. It returns only if something is wrong.
pub fn leave(test: &str, path: Column, end: End, seed: u64) -> Verdict {
	let cfar = c_path_cfar(GuestMode::Radix)?;
	choose(path)?;
	let before = counters()?;
	// A system reset can come while a CPU has the timebase of a guest, and a crash kernel would go on with
	// it, on the C path, too.
	let is_reset = end == End::SystemReset;
	let ahead = if is_reset { 0 } else { AHEAD };
	let told: [Told; CPUS - 1] = Default::default();
	let (stop, registers) = (AtomicBool::new(false), AtomicU64::new(0));
	let third = AtomicI32::new(0);
	std::thread::scope(|scope| {
		let (stop, registers, third) = (&stop, &registers, &third);
		let mut threads = vec![];
		for (cpu, (case, told)) in (1..).zip(STORMS.into_iter().zip(&told)) {
			threads.push(scope.spawn(move || storm(case, cpu, ahead, told, stop)));
		}
		if !is_reset {
			threads.push(scope.spawn(move || {
				third.store(timer::thread(), Ordering::Relaxed);
				check_registers(GuestMode::Radix, cfar, seed, stop, registers)
			}));
		}
		let result = (|| {
			let _here = cpus::OneCpu::new(0)?;
			let until =
				Instant::now() + TIME + Duration::from_micros(Pattern::new(seed).next() % 20_000);
			while Instant::now() < until && !threads.iter().any(|thread| thread.is_finished()) {
				std::thread::sleep(Duration::from_millis(1));
			}
			let few = |value: &AtomicU64| value.load(Ordering::Relaxed) < ENOUGH;
			if told.iter().any(|told| few(&told.rounds)) || !is_reset && few(registers) {
				return wrong("the guests did next to nothing".into());
			}
			if path == Column::RustFast {
				let after = counters()?;
				for name in ["fast_null", "light_h_prod"] {
					if counter(&after, name) - counter(&before, name) < ENOUGH {
						return wrong(format!("{name} has not grown"));
					}
				}
			}
			let own = AtomicI32::new(timer::thread());
			let on_cpus: Vec<_> = core::iter::once(&own)
				.chain(told.iter().map(|told| &told.thread))
				.chain([third])
				.map(|thread| thread.load(Ordering::Relaxed).to_string())
				.collect();
			load(&format!("{AFTER}={test}:{}", on_cpus.join(",")), end)?;
			go(end)?;
			wrong("the kernel did not end".into())
		})();
		stop.store(true, Ordering::Relaxed);
		let ended = threads
			.into_iter()
			.try_for_each(|thread| thread.join().expect("it doesn't panic"));
		ended.and(result)
	})
}

/// Loads the other kernel, to which the command line adds one word.
fn load(word: &str, end: End) -> Result<(), Failure> {
	const ON_CRASH: u64 = 2;
	let given = fs::read_to_string("/proc/cmdline")?;
	// A kernel that runs after a crash has no room for one more.
	let kept = given.split_whitespace().filter(|word| {
		!word.starts_with(AFTER) && (end == End::Kexec || !word.starts_with("crashkernel="))
	});
	let words: Vec<_> = kept.chain([word]).collect();
	let line = format!("{}\0", words.join(" "));
	let open = |path| File::open(path).map_err(|e| Failure::Wrong(format!("{path}: {e}")));
	let (kernel, initrd) = (open(KERNEL)?, open(INITRD)?);
	let flags = if end == End::Kexec { 0 } else { ON_CRASH };
	// SAFETY: the kernel reads both files and the line, whose length includes its NUL.
	let result = unsafe {
		libc::syscall(
			libc::SYS_kexec_file_load,
			kernel.as_raw_fd(),
			initrd.as_raw_fd(),
			line.len(),
			line.as_ptr(),
			flags,
		)
	};
	if result < 0 {
		let error = std::io::Error::last_os_error();
		return wrong(format!("kexec_file_load: {error}"));
	}
	Ok(())
}

/// Ends the kernel.
fn go(end: End) -> Result<(), Failure> {
	const KEXEC: i32 = 0x4558_4543;
	match end {
		End::Kexec => {
			// SAFETY: no address is passed.
			unsafe { libc::reboot(KEXEC) };
			Err(std::io::Error::last_os_error().into())
		}
		End::Panic => fs::write("/proc/sysrq-trigger", "c").map_err(Failure::from),
		End::SystemReset => {
			println!("{AWAITS_RESET}");
			std::thread::sleep(Duration::from_secs(60));
			Ok(())
		}
	}
}

/// What init of the other kernel is the second half of.
pub struct After {
	/// The name of the test.
	pub test: String,
	/// The thread that ended the kernel, those of the storms, and that of the third guest.
	threads: Vec<u32>,
}

impl After {
	/// If it is.
	pub fn of_environment() -> Option<Self> {
		let text = std::env::var(AFTER).ok()?;
		let (test, threads) = text.split_once(':')?;
		let threads = threads.split(',').map(|thread| thread.parse().ok());
		Some(Self {
			test: test.to_owned(),
			threads: threads.collect::<Option<_>>()?,
		})
	}

	/// Whether the kernel before has crashed.
	pub fn is_crash(&self) -> bool {
		fs::exists(VMCORE).unwrap_or(false)
	}

	/// The second half: all CPUs are there, the kernel has nothing to say, and guests run on each path.
	pub fn arrive(&self, seed: u64) -> Verdict {
		const ONLINE: &str = "/sys/devices/system/cpu/online";
		let mut lines = vec![];
		if self.is_crash() {
			lines.push(self.find_cpus()?);
		} else if self.test.starts_with("crash") {
			return wrong(format!("there is no {VMCORE}"));
		}
		let online = fs::read_to_string(ONLINE)?;
		let all = format!("0-{}", CPUS - 1);
		if online.trim() != all {
			return wrong(format!("CPUs {} are online, not {all}", online.trim()));
		}
		for path in [Column::C, Column::RustFast] {
			let cfar = c_path_cfar(GuestMode::Radix)?;
			choose(path)?;
			let (rounds, _) = check_registers_beside::<()>(seed, TIME, cfar, &[])
				.map_err(|failure| named(failure, path.name()))?;
			if rounds < ENOUGH {
				return wrong(format!("{rounds} rounds of registers on {}", path.name()));
			}
			lines.push(format!("{rounds} rounds of registers on {}", path.name()));
		}
		let complaints = Kmsg::from_boot().and_then(|mut kmsg| kmsg.complaints())?;
		let reports = ["WARNING:", "BUG:", "Oops:"];
		let bad = |line: &&String| reports.iter().any(|report| line.contains(report));
		match complaints.iter().find(bad) {
			Some(line) => wrong(format!("the kernel has logged {line:?}")),
			None => Ok(lines.join(", ")),
		}
	}

	/// The registers of each CPU are in the memory of the kernel that crashed, with the thread that ran there.
	fn find_cpus(&self) -> Verdict {
		let core = File::open(VMCORE)?;
		let notes = prstatus(&core)?;
		let found: Vec<_> = notes
			.iter()
			.map(|note| format!("{} at {:#x}", note.thread, note.nip))
			.collect();
		let line = format!("{} notes of threads: {}", notes.len(), found.join(", "));
		// A system reset comes to any thread.
		let ended = self.test.starts_with("crash-reset")
			|| notes.first().map(|note| note.thread) == self.threads.first().copied();
		// A thread of the kernel may have been on one of the other CPUs.
		let with_guest = notes.iter().skip(1);
		let with_guest = with_guest.filter(|note| self.threads[1..].contains(&note.thread));
		let in_kernel = |note: &Prstatus| note.nip >> 60 == 0xc;
		let all = notes.len() == CPUS && notes.iter().all(in_kernel);
		if !all || !ended || with_guest.count() == 0 {
			return wrong(format!("{line}; the threads were {:?}", self.threads));
		}
		Ok(line)
	}
}

/// What a note of type NT_PRSTATUS says.
struct Prstatus {
	thread: u32,
	nip: u64,
}

/// The notes of that type, in the order of the CPUs.
fn prstatus(core: &File) -> Result<Vec<Prstatus>, Failure> {
	const PT_NOTE: u32 = 4;
	const NT_PRSTATUS: u32 = 1;
	let mut header = [0; 64];
	core.read_exact_at(&mut header, 0)?;
	let word = |bytes: &[u8], at: usize| {
		u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
	};
	let long = |bytes: &[u8], at: usize| {
		u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
	};
	if header[..4] != *b"\x7fELF" {
		return wrong(format!("{VMCORE} is no ELF file"));
	}
	let (segments, count) = (long(&header, 32), u64::from(word(&header, 56) & 0xffff));
	let mut found = vec![];
	for index in 0..count {
		let mut segment = [0; 56];
		core.read_exact_at(&mut segment, segments + 56 * index)?;
		if word(&segment, 0) != PT_NOTE {
			continue;
		}
		let mut notes = vec![0; long(&segment, 32) as usize];
		core.read_exact_at(&mut notes, long(&segment, 8))?;
		let mut at = 0;
		while at + 12 <= notes.len() {
			let [name, size, kind] = [0, 4, 8].map(|place| word(&notes, at + place));
			if size == 0 {
				break;
			}
			let content = at + 12 + (name as usize).next_multiple_of(4);
			at = content + (size as usize).next_multiple_of(4);
			if at > notes.len() {
				return wrong("a note has no end".into());
			}
			// struct elf_prstatus: pr_pid, and pr_reg, whose word 32 is NIP.
			if kind == NT_PRSTATUS {
				found.push(Prstatus {
					thread: word(&notes, content + 32),
					nip: long(&notes, content + 112 + 8 * 32),
				});
			}
		}
	}
	Ok(found)
}
