// SPDX-License-Identifier: GPL-2.0-only
//! The measurements.

use cases::{Case, Setup};
use protocol::{Column, GuestMode};
use vmm::console::{Line, say};
use vmm::host;
use vmm::machine::{Config, Failure, Machine};

use crate::scene::Scene;
use crate::{marker, system_call};

/// What was measured.
pub struct Figures {
	pub empty_ticks: Vec<u64>,
	pub ticks: Vec<u64>,
	/// Round trips that fast handlers served, where that is counted.
	pub fast: Option<u64>,
}

fn measure(
	case: &'static Case,
	mode: GuestMode,
	column: Column,
	iterations: u64,
	batches: u64,
) -> Result<Figures, Failure> {
	if let Some(why) = case.absent(mode, column) {
		return Err(Failure::Unsupported(why.to_owned()));
	}
	host::choose(column).map_err(Failure::Unsupported)?;
	if case.setup == Setup::NoGuest {
		return system_call::measure(iterations, batches);
	}
	let config = Config {
		guest: mode,
		enable: case.enable,
		window: case.setup == Setup::Window,
	};
	if case.setup == Setup::Peer {
		let (machine, peer) = Machine::with_peer(config)?;
		let mut scene = Scene::new(case, machine, iterations)?;
		return peer.while_running(|| scene.measure(column, iterations, batches));
	}
	let machine = Machine::new(config)?;
	Scene::new(case, machine, iterations)?.measure(column, iterations, batches)
}

/// Measures every cell and reports each on the console.
pub fn run(
	cases: &[&'static Case],
	modes: &[GuestMode],
	columns: &[Column],
	iterations: u64,
	batches: u64,
) {
	for &column in columns {
		for &case in cases {
			for &mode in case.modes.iter().filter(|mode| modes.contains(mode)) {
				marker::arm(case, mode, column);
				let measured = measure(case, mode, column, iterations, batches);
				marker::disarm();
				let (case, guest, path) = (case.name, mode.name(), column.name());
				match measured {
					Ok(figures) => say(&Line::Result {
						case,
						guest,
						path,
						iterations,
						empty_ticks: &figures.empty_ticks,
						ticks: &figures.ticks,
						fast: figures.fast,
					}),
					Err(Failure::Unsupported(why)) => say(&Line::Na {
						case,
						guest,
						path,
						why: &why,
					}),
					Err(Failure::Wrong(why)) => say(&Line::Error {
						case,
						guest,
						path,
						why: &why,
					}),
				}
			}
		}
	}
}
