// SPDX-License-Identifier: GPL-2.0-only
//! A decrementer that expired while userspace had the vcpu.

use std::time::{Duration, Instant};

use hcall::Number;
use protocol::{Column, GuestMode, private};
use vmm::machine::{Failure, Stop};
use vmm::timer::Timer;

use super::code::{Code, hcall, li, mfspr, mtspr};
use crate::common::{Verdict, choose, machine, wrong};

/// What the guest sets DEC to: expired a thousand ticks ago.
const EXPIRED: u64 = 1000;
/// Longer than it takes 32 bits of `DEC` to change their sign: 2^31 ticks of 512 MHz are 4.2 s.
const PAUSE: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);

/// The guest, without the large decrementer (LPCR\[LD\] = 0) and with interrupts disabled,
/// exits to userspace with an expired decrementer. Userspace sleeps. DEC still has to be
/// negative, or the guest's timer interrupt comes seconds late.
pub fn expired(guest: GuestMode, path: Column) -> Verdict {
	choose(path)?;
	let mut machine = machine(guest, &[Number::NULL])?;
	let mut code = Code::new();
	// r5 = -EXPIRED, by subtraction from 0: neg r5, r5.
	code.push([li(5, EXPIRED), 31 << 26 | 5 << 21 | 5 << 16 | 104 << 1]);
	code.push([mtspr(22, 5)]);
	code.push(hcall(private::UNKNOWN));
	code.push([mfspr(4, 22)]);
	code.push(hcall(private::UNKNOWN));
	code.start(&mut machine)?;
	let mut call = || -> Result<u64, Failure> {
		let end = Instant::now() + LIMIT;
		let _timer = Timer::every(Duration::from_millis(500), LIMIT)?;
		loop {
			match machine.step()? {
				Stop::Call((private::UNKNOWN, args)) => return Ok(args[0]),
				Stop::Interrupted if Instant::now() < end => {}
				_ => return wrong("the guest does not exit as it should".to_owned()),
			}
		}
	};
	call()?;
	std::thread::sleep(PAUSE);
	let dec = call()? as i32;
	if dec < 0 {
		Ok(format!("DEC is {dec} after {} s", PAUSE.as_secs()))
	} else {
		wrong(format!("DEC is {dec}, and the timer interrupt is lost"))
	}
}
