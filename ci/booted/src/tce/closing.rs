// SPDX-License-Identifier: GPL-2.0-only
//! A table that userspace closes under a running guest.

use std::time::{Duration, Instant};

use hcall::{Code, Number};
use protocol::block::Call;
use protocol::{Column, GuestMode, map};

use vmm::host;
use vmm::kvm::Memory;
use vmm::machine::{Config, Failure, Machine};

use super::{PAGE, TCES, fast, perform, window};

/// A guest reads and writes a table while userspace closes it and opens another, and
/// looks at memory that comes free for entries which came too late.
pub fn closing_table(guest: GuestMode, path: Column) -> Result<String, Failure> {
	const CLOSES: u64 = 200;
	/// What closing may take: the vcpu has to leave the guest.
	const PROMPT: Duration = Duration::from_millis(100);
	/// An address that nothing else in this process or kernel would write.
	const ENTRY: u64 = 0x2b_5a5a_5a5a_5000;
	host::choose(path).map_err(Failure::Unsupported)?;
	let mut machine = Machine::new(Config {
		guest,
		enable: &TCES,
		window: false,
	})?;
	let calls = (0..512_u64).map(|index| {
		let number = if index % 2 == 0 {
			Number::PUT_TCE
		} else {
			Number::GET_TCE
		};
		Call {
			number: number.0,
			args: [map::LIOBN, (index / 2) << map::TCE_SHIFT, ENTRY, 0],
			..Call::default()
		}
	});
	let calls: Vec<Call> = calls.collect();
	let windows = machine.vm().windows()?;
	let before = fast()?;
	let (hcalls, closed) = std::thread::scope(|scope| {
		let closer = scope.spawn(|| {
			let mut worst = Duration::ZERO;
			for close in 0..CLOSES {
				let window =
					windows.create(&window(map::LIOBN, map::TCE_SHIFT, 0, map::TCE_PAGES))?;
				std::thread::sleep(Duration::from_micros(100 + 37 * (close % 40)));
				let start = Instant::now();
				drop(window);
				worst = worst.max(start.elapsed());
				// Where its page may be now.
				let free = Memory::new(8 * PAGE as usize)?;
				for page in 0..8 {
					free.write(page * PAGE, 0_u64);
				}
				std::thread::sleep(Duration::from_micros(50));
				for address in (0..8 * PAGE).step_by(8) {
					if free.read::<u64>(address) == ENTRY {
						return Err(Failure::Wrong("a closed table was written to".into()));
					}
				}
			}
			Ok(worst)
		});
		let hcalls = (|| {
			let (mut answered, mut refused) = (0_u64, 0_u64);
			while !closer.is_finished() {
				let (done, _) = perform(&mut machine, &calls)?;
				for call in done {
					let found =
						call.number == Number::GET_TCE.0 && call.r4 != 0 && call.r4 != ENTRY;
					match Code(call.code as i64) {
						Code::SUCCESS if !found => answered += 1,
						Code::FUNCTION => refused += 1,
						code => {
							return Err(Failure::Wrong(format!(
								"hcall {:#x} {:x?} returned {} and r4 {:#x}",
								call.number, call.args, code.0, call.r4
							)));
						}
					}
				}
			}
			Ok((answered, refused))
		})();
		(hcalls, closer.join().expect("it doesn't panic"))
	});
	let ((answered, refused), worst) = (hcalls?, closed?);
	let served = fast()? - before;
	let what = format!(
		"{answered} hcalls on a table, {refused} without, {served} fast, {CLOSES} tables closed \
		 within {} us",
		worst.as_micros()
	);
	let expected = if path == Column::RustFast {
		served > 0
	} else {
		served == 0
	};
	if !expected || answered == 0 || refused == 0 || worst > PROMPT {
		return Err(Failure::Wrong(what));
	}
	Ok(what)
}
