// SPDX-License-Identifier: GPL-2.0-only
//! What the machines reported, and what is made of it.
//!
//! The VMM runs as init of an emulated host and can only talk through its
//! console, where the kernel and the firmware talk too. [`console`] finds its
//! lines there. [`measure`] turns ticks of the timebase into instructions per
//! round trip, [`report`] is the file that a run leaves behind, [`table`] and [`costly`]
//! what the user sees of it, [`html`] the same and more for a browser, [`spread`] how far
//! several runs lie apart, and [`compare`] what got slower from one to another.

pub mod compare;
pub mod console;
pub mod costly;
pub mod html;
pub mod measure;
mod names;
pub mod report;
pub mod sample;
pub mod spread;
pub mod table;
