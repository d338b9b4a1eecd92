// SPDX-License-Identifier: GPL-2.0-only
//! The bodies against a model, and against each other at the same time.

mod contend;
mod fake;
mod fault;
mod model;
mod random;
mod translation;
