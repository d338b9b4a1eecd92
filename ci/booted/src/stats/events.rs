// SPDX-License-Identifier: GPL-2.0-only
//! The trace event of fast hcalls.

use std::collections::BTreeMap;

use cases::case;
use protocol::{Column, GuestMode};
use vmm::host;
use vmm::machine::Failure;

use super::served::{of, served};
use super::{ENABLE, EVENT, TRACING, machine, perform, read, write};
use crate::common::{choose, wrong};

/// One trace event.
#[derive(Debug, PartialEq, Eq)]
struct Event {
	vcpu: u64,
	hcall: u64,
	r4: u64,
	code: i64,
	tb: u64,
	ticks: u64,
}

fn event(line: &str) -> Option<Event> {
	let (_, rest) = line.split_once(" fast_hcall: VCPU ")?;
	let (vcpu, fields) = rest.split_once(": ")?;
	let fields: BTreeMap<_, _> = fields
		.split(' ')
		.filter_map(|field| field.split_once('='))
		.collect();
	let hex = |name: &str| {
		let text = fields.get(name)?;
		u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
	};
	Some(Event {
		vcpu: vcpu.parse().ok()?,
		hcall: hex("hcall")?,
		r4: hex("r4")?,
		code: fields.get("code")?.parse().ok()?,
		tb: fields.get("tb")?.parse().ok()?,
		ticks: fields.get("ticks")?.parse().ok()?,
	})
}

/// All fast hcalls are traced, in their order, and only while the event is enabled.
pub fn traced(guest: GuestMode) -> Result<String, Failure> {
	choose(Column::RustFast)?;
	host::mount_tracefs()?;
	let enable = format!("{TRACING}/{EVENT}");
	let trace = format!("{TRACING}/trace");
	let events = || -> Result<Vec<Event>, Failure> {
		read(&trace)?
			.lines()
			.filter(|line| !line.starts_with('#'))
			.map(|line| event(line).ok_or_else(|| Failure::Wrong(format!("trace: \"{line}\""))))
			.collect()
	};
	let mut machine = machine(guest, &ENABLE)?;
	let name = machine.vm().name();
	perform(&mut machine, case!("h_put_tce"), 2)?;
	write(&trace, "")?;

	let before = served()?;
	write(&enable, "1")?;
	let result = perform(&mut machine, case!("null"), 500)
		.and_then(|_| perform(&mut machine, case!("h_get_tce"), 100));
	write(&enable, "0")?;
	result?;
	let after = served()?;
	let traced = events()?;
	perform(&mut machine, case!("null"), 50)?;
	if events()?.len() != traced.len() {
		return wrong("an event came after they had been turned off".into());
	}
	write(&trace, "")?;

	let mut told = vec![];
	for (case, calls, hcall, r4) in [
		(case!("null"), 500, "null", 0),
		(
			case!("h_get_tce"),
			100,
			"h_get_tce",
			case!("h_get_tce").args[0],
		),
	] {
		let (a, b) = (of(&before, &name, hcall)?, of(&after, &name, hcall)?);
		let (fast, full) = (b[0] - a[0], b[1] - a[1]);
		let number = case.number.0;
		let these = traced.iter().filter(|event| event.hcall == number);
		let good = these
			.clone()
			.filter(|event| (event.vcpu, event.r4, event.code) == (0, r4, 0) && event.ticks > 0)
			.count() as u64;
		let what = format!(
			"{hcall}: {calls} calls, {fast} fast, {full} full, {} events, {good} of them right",
			these.count()
		);
		// A vcpu remembers 8, so one in 9 at most is sent the other way.
		if fast + full != calls || good != fast || full == 0 || full > calls / 8 {
			return wrong(what);
		}
		told.push(what);
	}
	if traced
		.windows(2)
		.any(|pair| pair[0].tb + pair[0].ticks > pair[1].tb)
	{
		return wrong("events are out of order".into());
	}
	Ok(told.join("; "))
}
