// SPDX-License-Identifier: GPL-2.0-only
//! Who takes a guest in.

use powerpc::{Counter, Counters, HostFacts};

use crate::switch::GuestKind;

/// What an entry's guest is, as far as it matters who takes it in and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GuestFacts {
	/// An L2 guest: the vcpu runs on behalf of a nested hypervisor.
	pub nested: bool,
	/// The guest uses the radix MMU.
	pub radix: bool,
	/// The guest is, or is about to become, a secure guest of the ultravisor.
	pub secure: bool,
}

impl GuestFacts {
	/// How it is switched to.
	#[inline]
	pub fn kind(self) -> GuestKind {
		match self {
			// An L1 uses radix, and its L2s do.
			Self { nested: true, .. } => GuestKind::L2,
			Self { radix: true, .. } => GuestKind::Radix,
			Self { radix: false, .. } => GuestKind::Hash,
		}
	}
}

/// The outcome of [`choose`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryPath {
	/// The Rust path.
	Rust,
	/// The C path: the CPU is not a POWER9 that we know.
	CCpu,
	/// The C path: the host's MMU is hash, and the trampoline relies on radix
	/// to reach kernel memory under the guest's LPIDR.
	CHostMmu,
	/// The C path: a secure guest, which returns by ultracall.
	CSecure,
}

impl EntryPath {
	/// The counter that tells of this outcome.
	pub fn counter(self, counters: &Counters) -> &Counter {
		match self {
			EntryPath::Rust => &counters.entry_rust,
			EntryPath::CCpu => &counters.c_cpu,
			EntryPath::CHostMmu => &counters.c_host_mmu,
			EntryPath::CSecure => &counters.c_secure,
		}
	}
}

/// Who takes this guest in. What the Rust path does not support takes the C
/// path; the first reason found is the one that is counted.
#[inline]
pub fn choose(host: HostFacts, guest: GuestFacts) -> EntryPath {
	if !host.contains(HostFacts::CPU_SUPPORTED) {
		EntryPath::CCpu
	} else if !host.contains(HostFacts::RADIX) {
		EntryPath::CHostMmu
	} else if guest.secure {
		EntryPath::CSecure
	} else {
		EntryPath::Rust
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn guests() -> impl Iterator<Item = GuestFacts> {
		(0..8).map(|bits| GuestFacts {
			nested: bits & 1 != 0,
			radix: bits & 2 != 0,
			secure: bits & 4 != 0,
		})
	}

	#[test]
	fn only_secure_guests_and_unknown_hosts_go_to_c() {
		for host in (0..8).map(HostFacts::from_bits_retain) {
			for guest in guests() {
				let rust = choose(host, guest) == EntryPath::Rust;
				let known = HostFacts::CPU_SUPPORTED | HostFacts::RADIX;
				assert_eq!(
					rust,
					host.contains(known) && !guest.secure,
					"{host:?} {guest:?}"
				);
			}
		}
	}

	#[test]
	fn only_plain_radix_guests_are_of_that_kind() {
		for guest in guests() {
			let plain = guest.radix && !guest.nested;
			assert_eq!(guest.kind() == GuestKind::Radix, plain, "{guest:?}");
			assert_eq!(guest.kind() == GuestKind::L2, guest.nested, "{guest:?}");
		}
	}

	#[test]
	fn each_outcome_has_its_own_counter() {
		let all = HostFacts::all();
		let guest = GuestFacts::default();
		let secure = GuestFacts {
			secure: true,
			..guest
		};
		let cases = [
			(choose(all, guest), EntryPath::Rust),
			(choose(HostFacts::RADIX, guest), EntryPath::CCpu),
			(choose(HostFacts::CPU_SUPPORTED, guest), EntryPath::CHostMmu),
			(choose(all, secure), EntryPath::CSecure),
		];
		let counters = Counters::default();
		for (n, (path, expected)) in cases.into_iter().enumerate() {
			assert_eq!(path, expected);
			assert_eq!(
				path.counter(&counters).get(),
				0,
				"{path:?} shares a counter"
			);
			path.counter(&counters).add(n as u64 + 1);
			assert_eq!(path.counter(&counters).get(), n as u64 + 1);
		}
	}
}
