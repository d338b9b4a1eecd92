// SPDX-License-Identifier: GPL-2.0-only
//! Stage `mitigations`: booted tests on a host that flushes caches and buffers.

use booted::registry::Also;

use crate::booted_machine;
use crate::stage::{Stage, stage};

/// The last word on the command line wins. What the flushes could disturb is
/// registers, so without --all these are compared and the rest is left.
pub const STAGE: Stage = stage("mitigations", |args| {
	booted_machine::parts(args, "mitigations", "mitigations=auto", |test| {
		args.all || test.is_also(Also::Mitigations)
	})
});
