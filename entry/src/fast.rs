// SPDX-License-Identifier: GPL-2.0-only
//! The fast handlers: one list, by hcall number.

mod tce;
mod timed;

use hcall::{FastTable, Number};

pub(crate) static FAST: FastTable = FastTable::null()
	.with(Number::GET_TCE, tce::h_get_tce)
	.with(Number::PUT_TCE, tce::h_put_tce)
	.with(Number::PUT_TCE_INDIRECT, tce::h_put_tce_indirect)
	.with(Number::STUFF_TCE, tce::h_stuff_tce);

pub(crate) static NO_FAST: FastTable = FastTable::empty();

/// The same handlers, timed.
pub(crate) static TIMED_FAST: FastTable = FastTable::empty()
	.with(Number::NULL, timed::null)
	.with(Number::GET_TCE, timed::h_get_tce)
	.with(Number::PUT_TCE, timed::h_put_tce)
	.with(Number::PUT_TCE_INDIRECT, timed::h_put_tce_indirect)
	.with(Number::STUFF_TCE, timed::h_stuff_tce);
