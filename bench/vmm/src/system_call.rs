// SPDX-License-Identifier: GPL-2.0-only
//! The host's null system call, which the guests' round trips compare with.

use std::arch::asm;

use vmm::machine::Failure;

use crate::bench::Figures;

/// Times the host's null system call, in this process.
pub fn measure(iterations: u64, batches: u64) -> Result<Figures, Failure> {
	let parent = std::os::unix::process::parent_id();
	let mut figures = Figures {
		empty_ticks: vec![],
		ticks: vec![],
		fast: None,
		spans: Vec::new(),
	};
	macro_rules! time {
		($call:literal) => {{
			let (begin, end, wrong): (u64, u64, u64);
			// SAFETY: the system call has no argument and changes nothing; what the kernel may
			// change of the registers is listed.
			unsafe {
				asm!(
					"li {wrong}, 0",
					".long {BEGIN}",
					"mftb {begin}",
					"2:",
					"li 0, {number}",
					"mr 3, {expected}",
					$call,
					"xor 3, 3, {expected}",
					"or {wrong}, {wrong}, 3",
					"addi {count}, {count}, -1",
					"cmpdi {count}, 0",
					"bne 2b",
					"mftb {end}",
					".long {END}",
					BEGIN = const protocol::marker::BEGIN,
					END = const protocol::marker::END,
					number = const libc::SYS_getppid,
					expected = in(reg) u64::from(parent),
					count = inout(reg_nonzero) iterations => _,
					begin = out(reg) begin,
					end = out(reg) end,
					wrong = out(reg) wrong,
					out("r0") _, out("r3") _, out("r4") _, out("r5") _, out("r6") _,
					out("r7") _, out("r8") _, out("r9") _, out("r10") _, out("r11") _,
					out("r12") _, out("cr0") _, out("cr1") _, out("cr5") _, out("cr6") _,
					out("cr7") _, out("ctr") _, out("xer") _,
					options(nostack),
				);
			}
			if wrong != 0 {
				return crate::scene::wrong("getppid() is not the parent".to_owned());
			}
			end - begin
		}};
	}
	for _ in 0..batches {
		figures.empty_ticks.push(time!(""));
		figures.ticks.push(time!("li 3, -1\nsc"));
	}
	Ok(figures)
}
