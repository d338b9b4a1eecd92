// SPDX-License-Identifier: GPL-2.0-only
//! Where the instructions of a round trip go.
//!
//! The figures of the benchmark come from a machine without the plugin. This module boots the
//! same image, payload and VMM once more, with the project's QEMU plugin, for fewer round
//! trips, and adds what the figures consist of: costly operations, phases with their
//! functions, and modelled cycles. Both runs must execute the same instructions. So the
//! plugin's count is compared with the guest's timebase in the same run, and the round trip
//! with the figure of the other run.

mod boot;
mod checks;
mod command;
mod fill;
mod plugin;
mod sources;
mod traced;

pub use boot::{Outcome, run};
pub use checks::checks;
pub use command::{Args, main};
pub use fill::fill;
pub use plugin::{available, plugin, possible};
pub use sources::sources;
