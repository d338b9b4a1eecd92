// SPDX-License-Identifier: GPL-2.0-only
//! Which functions a TCE hcall consists of on each path, and what differs from C's.

use std::collections::BTreeMap;

use ::trace::attribute::FIRMWARE;
use ::trace::span::{self, ExitReason};
use ::trace::symbols::{self, LINEAR, Symbols};
use harness::process::say;
use hcall::Number;
use protocol::Column;
use serde::Serialize;

use super::section::TCE;
use crate::spans::LOCAL_ENTRY;

/// A function's part of a TCE hcall.
#[derive(Clone, PartialEq, Debug, Serialize)]
struct Function {
	name: String,
	/// In what it is written.
	kind: String,
	/// Instructions per hcall.
	instructions: f64,
	/// Calls per hcall: how often its first instruction was executed. Unknown and 0 for
	/// the firmware.
	calls: f64,
}

struct Sum {
	kind: symbols::Origin,
	instructions: u64,
	/// Executions of what may be the one entry point and the other.
	global: u64,
	local: u64,
}

impl Sum {
	fn new(kind: symbols::Origin) -> Self {
		Self {
			kind,
			instructions: 0,
			global: 0,
			local: 0,
		}
	}
}

/// Which functions the quiet spans of a hcall consist of, on one path.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Profile {
	path: &'static str,
	hcall: &'static str,
	/// Most instructions first.
	functions: Vec<Function>,
}

impl Profile {
	pub(super) fn new(
		path: Column,
		(number, hcall): (Number, &'static str),
		sections: &[&span::Recording],
		symbols: &Symbols,
	) -> Option<Self> {
		let event = ExitReason::Hcall(number.0);
		let spans: u64 = sections
			.iter()
			.flat_map(|section| &section.spans)
			.filter(|(span, _)| span.sort.event == event && span.is_quiet())
			.map(|(_, count)| count)
			.sum();
		let mut functions: BTreeMap<&str, Sum> = BTreeMap::new();
		let codes = sections.iter().flat_map(|section| &section.code);
		let codes = codes.filter(|(of, _)| of.sort.event == event && of.quiet);
		for (&real, &count) in codes.flat_map(|(_, code)| code) {
			let (name, kind, start) = match symbols.at(LINEAR + real) {
				_ if FIRMWARE.contains(&real) => ("firmware (OPAL)", symbols::Origin::Asm, None),
				Some(function) => (
					function.name.as_str(),
					function.kind,
					Some(function.start - LINEAR),
				),
				None => ("unknown", symbols::Origin::Asm, None),
			};
			let sum = functions.entry(name).or_insert_with(|| Sum::new(kind));
			sum.instructions += count;
			match start.map(|start| real - start) {
				Some(0) => sum.global += count,
				Some(LOCAL_ENTRY) => sum.local += count,
				_ => {}
			}
		}
		if spans == 0 {
			return None;
		}
		let each = |sum: u64| (sum as f64 / spans as f64 * 100.0).round() / 100.0;
		let mut functions: Vec<Function> = functions
			.into_iter()
			.map(|(name, sum)| Function {
				name: name.to_owned(),
				kind: format!("{:?}", sum.kind).to_lowercase(),
				instructions: each(sum.instructions),
				calls: each(sum.global.max(sum.local)),
			})
			.collect();
		functions.sort_by(|a, b| b.instructions.total_cmp(&a.instructions));
		Some(Self {
			path: path.name(),
			hcall,
			functions,
		})
	}

	/// What another has more, by function, the greatest differences first.
	fn difference<'a>(&'a self, other: &'a Self) -> Vec<(&'a str, f64)> {
		let mut differences: BTreeMap<&str, f64> = BTreeMap::new();
		for (profile, sign) in [(self, -1.0), (other, 1.0)] {
			for function in &profile.functions {
				*differences.entry(&function.name).or_default() += sign * function.instructions;
			}
		}
		let mut differences: Vec<_> = differences.into_iter().collect();
		differences.retain(|(_, difference)| difference.abs() >= 0.5);
		differences.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
		differences
	}
}

/// Functions of which the paths differ most.
const TOLD: usize = 8;

pub(super) fn tell_differences(profiles: &[Profile]) {
	for (_, hcall) in TCE {
		let of = |path: Column| {
			profiles
				.iter()
				.find(|profile| profile.path == path.name() && profile.hcall == hcall)
		};
		for path in [Column::RustFull, Column::RustFast] {
			let (Some(c), Some(ours)) = (of(Column::C), of(path)) else {
				continue;
			};
			let all = c.difference(ours);
			let sum: f64 = all.iter().map(|(_, difference)| difference).sum();
			let told: Vec<String> = all
				.iter()
				.take(TOLD)
				.map(|(name, difference)| format!("{name} {difference:+.0}"))
				.collect();
			say(format_args!(
				"{hcall} on {} against C: {sum:+.0}; {}",
				path.name(),
				told.join(", ")
			));
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn profiles_tell_what_is_more() {
		let profile = |functions: &[(&str, f64)]| Profile {
			path: "c",
			hcall: "H_STUFF_TCE",
			functions: functions
				.iter()
				.map(|&(name, instructions)| Function {
					name: name.to_owned(),
					kind: "c".to_owned(),
					instructions,
					calls: 1.0,
				})
				.collect(),
		};
		let c = profile(&[("same", 5.0), ("c_only", 400.0), ("less", 10.0)]);
		let rust = profile(&[("same", 5.2), ("rust_only", 300.0), ("less", 4.0)]);
		assert_eq!(
			c.difference(&rust),
			[("c_only", -400.0), ("rust_only", 300.0), ("less", -6.0)]
		);
	}
}
