// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's own phases.

use std::collections::BTreeMap;

use cases::case;
use protocol::{Column, GuestMode};
use vmm::machine::Failure;

use super::{ENABLE, machine, perform, read};
use crate::common::{choose, wrong};

/// Count, total, least and most of each of the kernel's own phases.
fn phases(file: &str) -> Result<BTreeMap<String, [u64; 4]>, Failure> {
	let mut all = BTreeMap::new();
	for line in read(file)?.lines() {
		let parsed = line.split_once(": ").and_then(|(name, rest)| {
			let numbers: Vec<u64> = rest.split(' ').flat_map(|word| word.parse()).collect();
			Some((name.to_owned(), <[u64; 4]>::try_from(numbers).ok()?))
		});
		let Some((name, numbers)) = parsed else {
			return wrong(format!("{file}: \"{line}\""));
		};
		all.insert(name, numbers);
	}
	Ok(all)
}

/// The phases that CONFIG_KVM_BOOK3S_HV_P9_TIMING adds come out alike on both paths.
pub fn timings(guest: GuestMode) -> Result<String, Failure> {
	const CALLS: u64 = 2000;
	const UNKNOWN: u64 = 200;
	let mut by_path = vec![];
	for path in [Column::C, Column::RustFull] {
		choose(path)?;
		let mut machine = machine(guest, &ENABLE)?;
		let file = format!("{}/vcpu0/timings", machine.vm().debugfs());
		if !std::path::Path::new(&file).exists() {
			return Err(Failure::Unsupported(
				"the kernel was built without CONFIG_KVM_BOOK3S_HV_P9_TIMING".into(),
			));
		}
		perform(&mut machine, case!("h_prod"), CALLS)?;
		perform(&mut machine, case!("unknown"), UNKNOWN)?;
		by_path.push(phases(&file)?);
	}
	let [c, rust] = &by_path[..] else {
		unreachable!("two paths");
	};
	let names = [
		"vcpu_entry",
		"guest_entry",
		"in_guest",
		"guest_exit",
		"vcpu_exit",
		"hypercall",
		"page_fault",
	];
	if c.keys().ne(rust.keys()) || names.iter().any(|name| !c.contains_key(*name)) {
		return wrong(format!("phases are {:?} and {:?}", c.keys(), rust.keys()));
	}
	let mut told = vec![];
	for name in names {
		let (c, rust) = (c[name], rust[name]);
		for [count, total, min, max] in [c, rust] {
			if count == 0 || min > max || min * count > total || total > max * count {
				return wrong(format!("{name}: C {c:?}, Rust {rust:?}"));
			}
		}
		// The host's timer comes in now and then.
		let least = match name {
			"guest_entry" | "in_guest" | "guest_exit" | "hypercall" => CALLS + UNKNOWN,
			"vcpu_entry" | "vcpu_exit" => UNKNOWN,
			_ => 1,
		};
		if c[0] < least || rust[0] < least || c[0].abs_diff(rust[0]) > 20 {
			return wrong(format!("{name}: {} by C, {} by Rust", c[0], rust[0]));
		}
		told.push(format!("{name} {}/{}", c[1] / c[0], rust[1] / rust[0]));
	}
	Ok(format!("mean ns C/Rust: {}", told.join(", ")))
}
