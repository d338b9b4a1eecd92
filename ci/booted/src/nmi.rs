// SPDX-License-Identifier: GPL-2.0-only
//! What the runner and the tests of system resets and machine checks know of each other.

/// What interrupts the guest's CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
	/// A system reset, by the monitor's command `nmi`.
	SystemReset,
	/// A machine check that can be corrected, as the hardware would make it: a multihit in the ERAT.
	MachineCheck,
}

/// Where the runner interrupts the guest's CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where {
	/// At each instruction of the fast path from where NIA and MSR are kept.
	Fast,
	/// At each instruction of the fast path before, where the guest is lost.
	Arrival,
	/// At each instruction of the entry from where the mode byte is set.
	Entry,
	/// At each instruction of the exit after the trampoline, until the mode byte is reset.
	Exit,
	/// The same of a light exit that is made after the trampoline, and of its way back into the guest.
	Light,
	/// At random times, so often.
	Random(u64),
}

/// What a test says on the console when all CPUs are to have a system reset, for a crash kernel.
pub const AWAITS_RESET: &str = "kvm-p9 awaits a system reset";

/// What the runner does while a test runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interrupts {
	/// What.
	pub kind: Kind,
	/// Where.
	pub at: Where,
}

/// Interrupts of a test at random times.
pub const AT_RANDOM: u64 = 100;

impl Interrupts {
	/// By the name of the test.
	pub fn of(test: &str) -> Option<Self> {
		let (kind, rest) = test.split_once('-')?;
		let kind = match kind {
			"nmi" => Kind::SystemReset,
			"mce" => Kind::MachineCheck,
			_ => return None,
		};
		let at = match rest.split('-').next()? {
			"lost" => Where::Arrival,
			"entry" => Where::Entry,
			"exit" => Where::Exit,
			"light" => Where::Light,
			"random" => Where::Random(AT_RANDOM),
			_ => Where::Fast,
		};
		Some(Self { kind, at })
	}
}

/// What a test has seen of the runner's interrupts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
	/// Interrupts that the kernel has counted or logged.
	pub interrupts: u64,
	/// Guests that were told by a machine check that they cannot go on.
	pub lost: u64,
	/// Guests that were told of a machine check after which they can.
	pub told: u64,
}

impl Seen {
	/// The end of what a test has to say.
	pub fn text(self) -> String {
		let Self {
			interrupts,
			lost,
			told,
		} = self;
		format!("{interrupts} interrupts, {lost} guests lost, {told} told")
	}

	/// What [`text`](Self::text) says.
	pub fn of(detail: &str) -> Option<Self> {
		let text = detail.rsplit("; ").next()?;
		let mut parts = text.split(", ");
		let mut number = |unit: &str| {
			let part = parts.next()?;
			part.strip_suffix(unit)?.parse().ok()
		};
		Some(Self {
			interrupts: number(" interrupts")?,
			lost: number(" guests lost")?,
			told: number(" told")?,
		})
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn what_is_counted_is_read() {
		let seen = Seen {
			interrupts: 17,
			lost: 4,
			told: 1,
		};
		assert_eq!(Seen::of(&seen.text()), Some(seen));
		assert_eq!(Seen::of(&format!("5 hcalls; {}", seen.text())), Some(seen));
		assert_eq!(Seen::of("17 hcalls"), None);
		assert_eq!(Seen::of("17 interrupts"), None);
	}

	#[test]
	fn names_say_which_interrupts() {
		let of = |test| Interrupts::of(test).map(|found| (found.kind, found.at));
		let reset = Kind::SystemReset;
		assert_eq!(of("nmi-lost-radix-null"), Some((reset, Where::Arrival)));
		assert_eq!(of("nmi-registers-radix-null"), Some((reset, Where::Fast)));
		let random = Where::Random(AT_RANDOM);
		assert_eq!(
			of("mce-random-radix-null"),
			Some((Kind::MachineCheck, random))
		);
		assert_eq!(
			of("mce-entry-radix-null"),
			Some((Kind::MachineCheck, Where::Entry))
		);
		assert_eq!(of("nmi-exit-real-null"), Some((reset, Where::Exit)));
		assert_eq!(of("nmi-light-hash-h_prod"), Some((reset, Where::Light)));
		assert_eq!(of("probe-radix-c"), None);
	}
}
