// SPDX-License-Identifier: GPL-2.0-only
//! What a program begins and ends with that is init of a host. A program that is not init leaves the
//! machine as it is.

use std::process::ExitCode;

use crate::console::{Line, say};
use crate::{host, timer};

fn set_up() -> Result<(), String> {
	if host::is_5_10() {
		host::avoid_scv();
	}
	if is_init() {
		host::set_up().map_err(|e| format!("setting up: {e}"))?;
	}
	timer::install_handler().map_err(|e| format!("setting up: {e}"))?;
	say(&Line::Hello {
		release: &host::release(),
		params: host::has_parameters(),
	});
	Ok(())
}

/// Whether the program is init: the machine is the program's.
pub fn is_init() -> bool {
	std::process::id() == 1
}

/// Sets the host up, does the work and says how it ended. Init then ends the machine.
pub fn run(work: fn() -> Result<(), String>) -> ExitCode {
	std::panic::set_hook(Box::new(|info| {
		say(&Line::Fatal {
			why: &info.to_string(),
		});
		if is_init() {
			host::end();
		}
		std::process::exit(1);
	}));
	let result = set_up().and_then(|()| work());
	match &result {
		Ok(()) => say(&Line::Done),
		Err(why) => say(&Line::Fatal { why }),
	}
	if is_init() {
		host::end();
	}
	ExitCode::from(u8::from(result.is_err()))
}
