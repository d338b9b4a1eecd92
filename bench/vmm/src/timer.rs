// SPDX-License-Identifier: GPL-2.0-only
//! Timers that interrupt the calling thread's KVM_RUN.

use core::{mem, ptr};
use std::io::{Error, Result};
use std::time::Duration;

/// The signal. Its handler does nothing: that it comes is all.
const SIGNAL: i32 = libc::SIGALRM;

extern "C" fn nothing(_: i32) {}

/// Makes the signal interrupt system calls instead of ending the process.
pub fn install_handler() -> Result<()> {
	// SAFETY: zero is a valid sigaction: no flags (so no restart), an empty mask.
	let mut action: libc::sigaction = unsafe { mem::zeroed() };
	action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
	// SAFETY: the handler is async-signal-safe, as it does nothing.
	if unsafe { libc::sigaction(SIGNAL, &action, ptr::null_mut()) } < 0 {
		return Err(Error::last_os_error());
	}
	Ok(())
}

/// What a clock that every kernel has says now.
fn read(clock: libc::clockid_t) -> Duration {
	let mut time = libc::timespec {
		tv_sec: 0,
		tv_nsec: 0,
	};
	// SAFETY: it fills the structure.
	let result = unsafe { libc::clock_gettime(clock, &mut time) };
	assert_eq!(result, 0, "every kernel has clock {clock}");
	Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time since boot, for comparing with when a timer should have gone off.
pub fn now() -> Duration {
	read(libc::CLOCK_MONOTONIC)
}

/// CPU time that the calling thread has used.
pub fn thread_time() -> Duration {
	read(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// The calling thread, for [`interrupt`].
///
/// Not by gettid(): the standard library has it as a weak symbol. Link-time optimisation
/// may make the C library's a weak symbol, too, which the linker then leaves out.
pub fn thread() -> i32 {
	// SAFETY: the system call takes no argument and cannot fail.
	unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

/// Sends one of our threads the signal.
pub fn interrupt(thread: i32) {
	// SAFETY: it takes no address. A thread that is gone, or not there yet, gets nothing.
	unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, SIGNAL) };
}

/// Timers that expire one after the other and disturb no other code: their signals are
/// blocked, and are counted later.
pub struct Volley(Vec<libc::timer_t>);

impl Volley {
	/// `count` of them, not set.
	pub fn new(count: u64) -> Result<Self> {
		block(libc::SIG_BLOCK)?;
		let mut volley = Self(vec![]);
		for _ in 0..count {
			// SAFETY: zero is a valid sigevent.
			let mut event: libc::sigevent = unsafe { mem::zeroed() };
			event.sigev_notify = libc::SIGEV_SIGNAL;
			event.sigev_signo = libc::SIGRTMIN();
			volley.0.push(create(&mut event)?);
		}
		Ok(volley)
	}

	/// Sets the first `count` of them: one `delay` from now, then one each `interval`.
	pub fn set(&self, count: u64, delay: Duration, interval: Duration) -> Result<()> {
		let mut when = now() + delay;
		for &timer in self.0.iter().take(count as usize) {
			set(timer, when, Duration::ZERO, libc::TIMER_ABSTIME)?;
			when += interval;
		}
		Ok(())
	}

	/// How many went off since the last time this was asked.
	pub fn gone_off(&self) -> u64 {
		let (signals, zero) = (volley_signal(), timespec(Duration::ZERO));
		let mut count = 0;
		// SAFETY: it reads the two structures, and writes nothing. A blocked signal that
		// waits is taken without its handler.
		while unsafe { libc::sigtimedwait(&signals, ptr::null_mut(), &zero) } >= 0 {
			count += 1;
		}
		count
	}
}

impl Drop for Volley {
	fn drop(&mut self) {
		for &timer in &self.0 {
			// SAFETY: the timer exists, and is ours.
			unsafe { libc::timer_delete(timer) };
		}
		self.gone_off();
		block(libc::SIG_UNBLOCK).expect("it could be blocked");
	}
}

/// The set of signals with that of a [`Volley`].
fn volley_signal() -> libc::sigset_t {
	// SAFETY: both fill the set, and the signal exists.
	unsafe {
		let mut signals: libc::sigset_t = mem::zeroed();
		libc::sigemptyset(&mut signals);
		libc::sigaddset(&mut signals, libc::SIGRTMIN());
		signals
	}
}

fn block(how: i32) -> Result<()> {
	let signals = volley_signal();
	// SAFETY: it reads the set.
	match unsafe { libc::pthread_sigmask(how, &signals, ptr::null_mut()) } {
		0 => Ok(()),
		errno => Err(Error::from_raw_os_error(errno)),
	}
}

fn create(event: &mut libc::sigevent) -> Result<libc::timer_t> {
	let mut id: libc::timer_t = ptr::null_mut();
	// SAFETY: it reads the event and fills the id.
	if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, event, &mut id) } < 0 {
		return Err(Error::last_os_error());
	}
	Ok(id)
}

fn set(timer: libc::timer_t, first: Duration, interval: Duration, flags: i32) -> Result<()> {
	let when = libc::itimerspec {
		it_interval: timespec(interval),
		it_value: timespec(first),
	};
	// SAFETY: the timer exists and the structure is valid.
	if unsafe { libc::timer_settime(timer, flags, &when, ptr::null_mut()) } < 0 {
		return Err(Error::last_os_error());
	}
	Ok(())
}

fn timespec(duration: Duration) -> libc::timespec {
	libc::timespec {
		tv_sec: duration.as_secs() as i64,
		tv_nsec: i64::from(duration.subsec_nanos()),
	}
}

/// A timer; dropping it disarms it.
pub struct Timer(libc::timer_t);

impl Timer {
	fn new(first: Duration, interval: Duration, flags: i32) -> Result<Self> {
		// SAFETY: zero is a valid sigevent.
		let mut event: libc::sigevent = unsafe { mem::zeroed() };
		event.sigev_notify = libc::SIGEV_THREAD_ID;
		event.sigev_signo = SIGNAL;
		event.sigev_notify_thread_id = thread();
		let timer = Self(create(&mut event)?);
		set(timer.0, first, interval, flags)?;
		Ok(timer)
	}

	/// Once, at a time that [`now`] will reach.
	pub fn at(when: Duration) -> Result<Self> {
		Self::new(when, Duration::ZERO, libc::TIMER_ABSTIME)
	}

	/// First after `first`, then again and again: a single signal could come just
	/// before KVM_RUN and be lost.
	pub fn every(interval: Duration, first: Duration) -> Result<Self> {
		Self::new(first, interval, 0)
	}
}

impl Drop for Timer {
	fn drop(&mut self) {
		// SAFETY: the timer exists, and is ours.
		unsafe { libc::timer_delete(self.0) };
	}
}
