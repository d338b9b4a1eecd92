// SPDX-License-Identifier: GPL-2.0-only
//! The hcall bodies on a model of the kernel's tables and memory.

mod hcalls;
mod model;
