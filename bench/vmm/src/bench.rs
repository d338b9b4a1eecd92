// SPDX-License-Identifier: GPL-2.0-only
//! The measurements.

use cases::{Case, Setup};
use protocol::{Column, GuestMode};
use vmm::console::{Line, Span, say};
use vmm::host;
use vmm::machine::{Config, Failure, Machine};

use crate::job::Job;
use crate::scene::Scene;
use crate::{marker, spans, system_call};

/// What was measured.
pub struct Figures {
	pub empty_ticks: Vec<u64>,
	pub ticks: Vec<u64>,
	/// Round trips that fast handlers served, where that is counted.
	pub fast: Option<u64>,
	/// Spans of the vcpus, if they were asked for and the kernel has them.
	pub spans: Vec<Span>,
}

fn measure(
	case: &'static Case,
	mode: GuestMode,
	column: Column,
	job: &Job,
) -> Result<Figures, Failure> {
	if let Some(why) = case.absent(mode, column) {
		return Err(Failure::Unsupported(why.to_owned()));
	}
	host::choose(column).map_err(Failure::Unsupported)?;
	if case.setup == Setup::NoGuest {
		return system_call::measure(job.iterations, job.batches);
	}
	let config = Config {
		guest: mode,
		enable: case.enable,
		window: case.setup == Setup::Window,
	};
	let measure = |scene: &mut Scene| {
		let mut figures = scene.measure(column, job.iterations, job.batches)?;
		// While the machine is there: its vcpus have the times.
		if job.spans {
			figures.spans = spans::read()?;
		}
		Ok(figures)
	};
	if case.setup == Setup::Peer {
		let (machine, peer) = Machine::with_peer(config)?;
		let mut scene = Scene::new(case, machine, job.iterations)?;
		return peer.while_running(|| measure(&mut scene));
	}
	let machine = Machine::new(config)?;
	measure(&mut Scene::new(case, machine, job.iterations)?)
}

/// Measures every cell and reports each on the console.
pub fn run(job: &Job) -> Result<(), String> {
	if job.spans {
		host::set_parameter("stats", "1").map_err(|e| e.to_string())?;
	}
	for &column in &job.paths {
		for &case in &job.cases {
			for &mode in case.modes.iter().filter(|mode| job.guests.contains(mode)) {
				marker::arm(case, mode, column);
				let measured = measure(case, mode, column, job);
				marker::disarm();
				report(case, mode, column, job.iterations, measured);
			}
		}
	}
	if job.spans {
		host::set_parameter("stats", "0").map_err(|e| e.to_string())?;
	}
	Ok(())
}

fn report(
	case: &Case,
	mode: GuestMode,
	column: Column,
	iterations: u64,
	measured: Result<Figures, Failure>,
) {
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
			spans: &figures.spans,
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
