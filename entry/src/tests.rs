// SPDX-License-Identifier: GPL-2.0-only
//! The switch on a processor that is not there.

mod fake_cpu;
mod fetch;
mod journals;
mod light;
mod order;
mod properties;
mod radix;
mod registers;
mod storage;
mod strategies;
mod xics;
