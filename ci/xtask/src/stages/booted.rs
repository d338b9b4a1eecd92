// SPDX-License-Identifier: GPL-2.0-only
//! Stage `booted`: the tests that run on the emulated host.

use crate::booted_machine;
use crate::stage::{Stage, stage};

/// All booted tests.
pub const STAGE: Stage = stage("booted", |args| {
	booted_machine::parts(args, "booted", "", |_| true)
});
