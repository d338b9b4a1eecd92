// SPDX-License-Identifier: GPL-2.0-only
//! KVM_PPC_ALLOCATE_HTAB that cannot succeed: of an order that is none, and of one for which there is no
//! memory.

use hcall::Number;
use protocol::block::Call;
use protocol::{GuestMode, map, private};
use vmm::machine::{Failure, Machine};

use super::EXACT;
use crate::common::{Verdict, machine, wrong};
use crate::tce::perform;

/// Orders that KVM does not have. 0 is what KVM has noted if there is no page table.
const NONE: [u32; 5] = [0, 17, 47, 1 << 31, u32::MAX];
/// The largest that KVM has: of 64 TiB.
const TOO_LARGE: u32 = 46;
/// An HPTE that no guest needs.
const INDEX: u64 = 8 * 1000;
const V: u64 = 0x1234_5678 << 12 | 1;
const R: u64 = 0x1_0000 | 2;

/// Asks for a page table, and expects this error.
fn refused(machine: &Machine, order: u32, errno: i32) -> Result<(), Failure> {
	match machine.vm().allocate_hpt(order) {
		Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
		other => wrong(format!("a page table of order {order}: {other:?}")),
	}
}

/// What the guest finds in the HPTE.
fn entry(machine: &mut Machine) -> Result<[u64; 2], Failure> {
	let call = Call {
		number: Number::READ.0,
		args: [0, INDEX, 0, 0],
		..Call::default()
	};
	let (done, to_userspace) = perform(machine, &[call])?;
	match (done.first(), to_userspace.is_empty()) {
		(Some(done), true) if done.code == 0 => Ok([done.r4, done.results[0]]),
		(done, _) => wrong(format!("H_READ: {done:x?}")),
	}
}

/// A guest goes on as before if userspace asks for what there is not, and with an empty page table after
/// there was no memory for another one.
pub fn allocation_fails(guest: GuestMode) -> Verdict {
	let mut machine = machine(guest, &[])?;
	let is_hash = matches!(guest, GuestMode::Hash | GuestMode::HashReal);
	let refuse = |machine: &Machine| {
		NONE.iter()
			.try_for_each(|&order| refused(machine, order, libc::EINVAL))
	};
	let unknown = Call {
		number: private::UNKNOWN.0,
		..Call::default()
	};
	// Before it has run.
	refuse(&machine)?;
	if !is_hash {
		perform(&mut machine, &[unknown])?;
		refuse(&machine)?;
		// The guest's translation is a radix tree of its own, which a hash guest would not have.
		perform(&mut machine, &[unknown])?;
		return Ok(format!("{} orders refused, twice", NONE.len()));
	}
	let enter = Call {
		number: Number::ENTER.0,
		args: [EXACT, INDEX, V, R],
		..Call::default()
	};
	perform(&mut machine, &[enter])?;
	let [v, r] = entry(&mut machine)?;
	if v & 1 == 0 {
		return wrong(format!("H_ENTER has left {v:#x} {r:#x}"));
	}
	refuse(&machine)?;
	let kept = entry(&mut machine)?;
	if kept != [v, r] {
		return wrong(format!("an HPTE became {kept:x?}, was {:x?}", [v, r]));
	}
	refused(&machine, TOO_LARGE, libc::ENOMEM)?;
	// There is none.
	refuse(&machine)?;
	let mut file = machine.vm().hpt()?.open()?;
	file.read()?;
	if !file.entries.is_empty() {
		return wrong(format!("{} HPTEs of no page table", file.entries.len()));
	}
	// KVM allocates one if userspace does not.
	let lost = entry(&mut machine)?;
	machine.vm().allocate_hpt(map::HPT_ORDER)?;
	let empty = entry(&mut machine)?;
	if lost[0] & 1 != 0 || empty[0] & 1 != 0 {
		return wrong(format!("an HPTE is still there: {lost:x?}, {empty:x?}"));
	}
	Ok(format!(
		"{} orders refused, three times; no memory for order {TOO_LARGE}",
		NONE.len()
	))
}
