// SPDX-License-Identifier: GPL-2.0-only
//! Timers that interrupt the calling thread's KVM_RUN.

use core::sync::atomic::{AtomicU64, Ordering};
use core::{mem, ptr};
use std::io::{Error, Result};
use std::time::Duration;

/// The signal. Its handler does nothing: that it comes is all.
const SIGNAL: i32 = libc::SIGALRM;

extern "C" fn nothing(_: i32) {}

/// Makes the signal interrupt system calls instead of ending the process.
pub fn install_handler() -> Result<()> {
	handle(SIGNAL, nothing)
}

/// Gives a signal a handler, which must be async-signal-safe.
fn handle(signal: i32, handler: extern "C" fn(i32)) -> Result<()> {
	// SAFETY: zero is a valid sigaction: no flags (so no restart), an empty mask.
	let mut action: libc::sigaction = unsafe { mem::zeroed() };
	action.sa_sigaction = handler as usize;
	// SAFETY: of the handlers here, one does nothing, and the other adds to an atomic variable.
	if unsafe { libc::sigaction(signal, &action, ptr::null_mut()) } < 0 {
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

/// What the timers of a [`Volley`] do to the thread.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
	/// Nothing: their signals are blocked, and are counted later.
	Blocked,
	/// Their signals end KVM_RUN. A handler counts them.
	Handler,
}

/// Signals that the handler has counted.
static HANDLED: AtomicU64 = AtomicU64::new(0);

extern "C" fn count(_: i32) {
	// Only this thread gets them, and asks.
	HANDLED.fetch_add(1, Ordering::Relaxed);
}

/// Timers of the calling thread that expire one after the other.
pub struct Volley {
	timers: Vec<libc::timer_t>,
	delivery: Delivery,
}

impl Volley {
	/// `count` of them, not set.
	pub fn new(count: u64, delivery: Delivery) -> Result<Self> {
		let notify = match delivery {
			Delivery::Blocked => {
				block(libc::SIG_BLOCK)?;
				libc::SIGEV_SIGNAL
			}
			Delivery::Handler => {
				handle(libc::SIGRTMIN(), self::count)?;
				libc::SIGEV_THREAD_ID
			}
		};
		let mut volley = Self {
			timers: vec![],
			delivery,
		};
		for _ in 0..count {
			volley.timers.push(create(libc::SIGRTMIN(), notify)?);
		}
		Ok(volley)
	}

	/// Sets the first `count` of them: one `delay` from now, then one each `interval`.
	pub fn set(&self, count: u64, delay: Duration, interval: Duration) -> Result<()> {
		let mut when = now() + delay;
		for &timer in self.timers.iter().take(count as usize) {
			set(timer, when, Duration::ZERO, libc::TIMER_ABSTIME)?;
			when += interval;
		}
		Ok(())
	}

	/// How many went off since the last time this was asked.
	pub fn gone_off(&self) -> u64 {
		if self.delivery == Delivery::Handler {
			return HANDLED.swap(0, Ordering::Relaxed);
		}
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
		for &timer in &self.timers {
			// SAFETY: the timer exists, and is ours.
			unsafe { libc::timer_delete(timer) };
		}
		self.gone_off();
		if self.delivery == Delivery::Blocked {
			block(libc::SIG_UNBLOCK).expect("it could be blocked");
		}
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

/// A timer that sends this signal, to the process (`SIGEV_SIGNAL`) or to the calling thread
/// (`SIGEV_THREAD_ID`).
fn create(signal: i32, notify: i32) -> Result<libc::timer_t> {
	// SAFETY: zero is a valid sigevent.
	let mut event: libc::sigevent = unsafe { mem::zeroed() };
	event.sigev_notify = notify;
	event.sigev_signo = signal;
	event.sigev_notify_thread_id = thread();
	let mut id: libc::timer_t = ptr::null_mut();
	// SAFETY: it reads the event and fills the id.
	if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut id) } < 0 {
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
		let timer = Self(create(SIGNAL, libc::SIGEV_THREAD_ID)?);
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
