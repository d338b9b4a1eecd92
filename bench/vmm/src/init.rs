// SPDX-License-Identifier: GPL-2.0-only
//! What a program that is init of the emulated host begins and ends with.

use crate::console::{Line, say};
use crate::{host, timer};

fn set_up() -> Result<(), String> {
	if host::is_5_10() {
		host::avoid_scv();
	}
	host::set_up().map_err(|e| format!("setting up: {e}"))?;
	timer::install_handler().map_err(|e| format!("setting up: {e}"))?;
	say(&Line::Hello {
		release: &host::release(),
		params: host::has_parameters(),
	});
	Ok(())
}

/// Sets the host up, does the work, says how it ended, and turns the machine off.
pub fn run(work: fn() -> Result<(), String>) -> ! {
	std::panic::set_hook(Box::new(|info| {
		say(&Line::Fatal {
			why: &info.to_string(),
		});
		host::power_off();
	}));
	match set_up().and_then(|()| work()) {
		Ok(()) => say(&Line::Done),
		Err(why) => say(&Line::Fatal { why: &why }),
	}
	host::power_off();
}
