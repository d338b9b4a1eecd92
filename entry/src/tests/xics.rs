// SPDX-License-Identifier: GPL-2.0-only
//! Hcalls of XICS on a XIVE that is not there: answers against a model of XICS, no interrupt lost or
//! taken twice, and the order of accesses and barriers.

mod model;
mod order;
mod random;
mod xive;

use hcall::Code;

use self::xive::Kind;
use crate::layout::kernel as layout;
use crate::views::*;
use crate::xics::hcalls::{cppr, eoi, ipi, ipoll, xirr, xirr_x};
use crate::xics::{Bus, Presenter, TooHard};

const NONE: u8 = 0xff;
const IPI: u32 = 2;
const DUMMY: u32 = 1;
const ENTRIES: usize = 256;
/// Where pages of registers are; no memory.
const TIMA: u64 = 0x1000_0000;
const PAGES: u64 = 0x2000_0000;
const PAGE: u64 = 0x1_0000;
/// The first source's interrupt number. Sources are in the block of that number.
const FIRST: u32 = 0x1400;

const SOURCES: [(Kind, u8); 6] = [
	(Kind::Load, 5),
	(Kind::Store, 5),
	(Kind::Load, 4),
	(Kind::Level, 6),
	(Kind::Load, 0),
	(Kind::Store, 3),
];
