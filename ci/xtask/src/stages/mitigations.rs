// SPDX-License-Identifier: GPL-2.0-only
//! Stage `mitigations`: booted tests on a host that flushes caches and buffers.

use crate::booted_machine;
use crate::stage::{Stage, stage};

/// The last word on the command line wins. What the flushes could disturb is
/// registers, so without --all these are compared and the rest is left.
pub const STAGE: Stage = stage("mitigations", |args| {
	let registers = |name: &str| {
		["detect-", "regs-", "pr-"]
			.iter()
			.any(|p| name.starts_with(p))
	};
	booted_machine::parts(args, "mitigations", "mitigations=auto", |name| {
		args.all || registers(name)
	})
});
