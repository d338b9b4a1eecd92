// SPDX-License-Identifier: GPL-2.0-only
//! What the runner and the tests of system resets know of each other.

/// Where the runner interrupts the guest's CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupts {
	/// A system reset at each instruction of the fast path.
	ResetEverywhere,
	/// A system reset at each instruction at which the guest is lost.
	ResetOfArrival,
}

impl Interrupts {
	/// By the name of the test.
	pub fn of(test: &str) -> Option<Self> {
		let starts = [
			("nmi-lost-", Self::ResetOfArrival),
			("nmi-", Self::ResetEverywhere),
		];
		let found = starts
			.into_iter()
			.find(|(start, _)| test.starts_with(start));
		found.map(|(_, interrupts)| interrupts)
	}
}

/// The end of what a test has to say: how many interrupts there were.
pub fn counted(interrupts: u64) -> String {
	format!("{interrupts} interrupts")
}

/// What [`counted`] says.
pub fn count_of(detail: &str) -> Option<u64> {
	let (rest, unit) = detail.rsplit_once(' ')?;
	let number = rest.rsplit(' ').next()?;
	(unit == "interrupts").then(|| number.parse().ok())?
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn what_is_counted_is_read() {
		assert_eq!(count_of(&counted(17)), Some(17));
		assert_eq!(count_of(&format!("5 hcalls; {}", counted(0))), Some(0));
		assert_eq!(count_of("17 hcalls"), None);
		assert_eq!(count_of("interrupts"), None);
	}

	#[test]
	fn names_say_which_interrupts() {
		let arrival = Interrupts::of("nmi-lost-radix-null");
		assert_eq!(arrival, Some(Interrupts::ResetOfArrival));
		let everywhere = Interrupts::of("nmi-registers-radix-null");
		assert_eq!(everywhere, Some(Interrupts::ResetEverywhere));
		assert_eq!(Interrupts::of("probe-radix-c"), None);
	}
}
