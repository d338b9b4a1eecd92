// SPDX-License-Identifier: GPL-2.0-only
//! `cargo xtask bench` with what can be done with its reports, and `compare-stock`.
//!
//! The kernel under test serves three columns in one boot, Linux 5.10 the fourth.
//! A problem with one figure does not keep the others from being shown. All problems are
//! listed and set the exit code.

mod collector;
mod command;
mod environment;
mod figures;
mod plan;
mod reports;
mod run;
mod stock;
mod tasks;

pub use command::{Cli, main};
pub use figures::without_debugfs;
pub use plan::Plan;
pub use reports::{THRESHOLD, client, disk, read, reference_path, render};
pub use run::{Args, Outcome, run};
pub use stock::{StockArgs, compare_stock, compare_stock_main};
