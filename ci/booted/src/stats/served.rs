// SPDX-License-Identifier: GPL-2.0-only
//! Who answered, by VM: the file `vms`.

use std::collections::BTreeMap;

use cases::case;
use protocol::{Column, GuestMode};
use vmm::command;
use vmm::machine::Failure;

use super::{ENABLE, LIMIT, VMS, machine, perform, read};
use crate::common::{choose, wrong};

/// Fast, full and to userspace, by VM and hcall.
pub(super) type Served = BTreeMap<(String, String), [u64; 3]>;

pub(super) fn served() -> Result<Served, Failure> {
	let mut all = BTreeMap::new();
	let text = read(VMS)?;
	for line in text.lines().filter(|line| !line.starts_with('#')) {
		let words: Vec<_> = line.split(' ').collect();
		let [vm, hcall, numbers @ ..] = &words[..] else {
			return wrong(format!("{VMS}: \"{line}\""));
		};
		let numbers: Vec<u64> = numbers.iter().flat_map(|word| word.parse()).collect();
		let Ok(numbers) = <[u64; 3]>::try_from(numbers) else {
			return wrong(format!("{VMS}: \"{line}\""));
		};
		let key = ((*vm).to_owned(), (*hcall).to_owned());
		if all.insert(key, numbers).is_some() {
			return wrong(format!("{VMS}: twice {vm} {hcall}"));
		}
	}
	Ok(all)
}

pub(super) fn of(served: &Served, vm: &str, hcall: &str) -> Result<[u64; 3], Failure> {
	let key = (vm.to_owned(), hcall.to_owned());
	match served.get(&key) {
		Some(numbers) => Ok(*numbers),
		None => wrong(format!("{VMS}: no line {vm} {hcall}")),
	}
}

/// Every VM has its own numbers, they add up, and they outlive it.
pub fn by_vm(guest: GuestMode) -> Result<String, Failure> {
	choose(Column::RustFast)?;
	let before = served()?;
	let mut one = machine(guest, &ENABLE)?;
	// Here NULL, H_PUT_TCE_INDIRECT and H_STUFF_TCE are userspace's.
	let mut other = machine(guest, &[])?;
	let names = [one.vm().name(), other.vm().name()];

	perform(&mut one, case!("null"), 100)?;
	perform(&mut one, case!("h_put_tce"), 40)?;
	perform(&mut one, case!("h_put_tce_indirect"), 30)?;
	perform(&mut one, case!("h_stuff_tce_512"), 20)?;
	perform(&mut one, case!("h_get_tce"), 10)?;
	choose(Column::RustFull)?;
	perform(&mut one, case!("null"), 7)?;
	perform(&mut one, case!("h_get_tce"), 5)?;
	let mut command = command::timing(case!("null"), 9, 1);
	command.code = hcall::Code::FUNCTION.0;
	other.perform(command, LIMIT, |_| {})?;
	// Nothing is counted on the C path.
	choose(Column::C)?;
	perform(&mut one, case!("null"), 1000)?;
	choose(Column::RustFast)?;

	let now = served()?;
	let got = |vm: &str, hcall: &str| of(&now, vm, hcall);
	// The first of its kind took the full path: no page of the table, no list.
	let expected = [
		(0, "null", [100, 7, 0]),
		(0, "h_put_tce", [39, 1, 0]),
		(0, "h_put_tce_indirect", [29, 1, 0]),
		(0, "h_stuff_tce", [20, 0, 0]),
		(0, "h_get_tce", [10, 5, 0]),
		(1, "null", [0, 0, 9]),
		(1, "h_put_tce", [0, 0, 0]),
		(1, "h_get_tce", [0, 0, 0]),
	];
	for (vm, hcall, numbers) in expected {
		let found = got(&names[vm], hcall)?;
		if found != numbers {
			return wrong(format!("VM {vm}: {hcall} {found:?} instead of {numbers:?}"));
		}
	}
	drop((one, other));
	let after = served()?;
	if names.iter().any(|name| of(&after, name, "null").is_ok()) {
		return wrong("a VM is shown that was destroyed".into());
	}
	for hcall in [
		"null",
		"h_put_tce",
		"h_put_tce_indirect",
		"h_stuff_tce",
		"h_get_tce",
	] {
		let sum = |vm: &str| -> Result<[u64; 3], Failure> {
			let (a, b) = (of(&before, vm, hcall)?, of(&after, vm, hcall)?);
			Ok(std::array::from_fn(|n| b[n] - a[n]))
		};
		let mut both = [0; 3];
		for (_, _, numbers) in expected.iter().filter(|(_, name, _)| *name == hcall) {
			for (sum, number) in both.iter_mut().zip(numbers) {
				*sum += number;
			}
		}
		if sum("destroyed")? != both || sum("total")? != both {
			return wrong(format!(
				"{hcall}: {both:?} by two VMs, {:?} when they are gone, {:?} in all",
				sum("destroyed")?,
				sum("total")?
			));
		}
	}
	Ok("two VMs, fast, full, to userspace, and gone".into())
}
