// SPDX-License-Identifier: GPL-2.0-only
//! From console lines to figures, tables and a page.
//!
//! The VMM runs as init of an emulated host, and can report through the console only, where
//! the kernel and the firmware write too. [`console`] finds the VMM's lines there. [`measure`]
//! turns ticks of the timebase into instructions per round trip, and [`report`] is the file
//! that a run leaves. [`headline`] has the nine rows that say most, [`table`], [`costly`] and
//! [`longest`] the tables on the terminal, [`html`] the page, [`spread`] the distance of several runs,
//! [`compare`] what got slower, and [`results`] the generated parts of the documents.
//! [`disk`] reads the figures of the disk test, and [`iron`] those of a real machine.

pub mod client;
pub mod compare;
pub mod console;
pub mod costly;
pub mod disk;
pub mod headline;
pub mod html;
pub mod iron;
pub mod longest;
pub mod measure;
mod names;
pub mod report;
pub mod results;
pub mod sample;
pub mod spread;
pub mod table;
