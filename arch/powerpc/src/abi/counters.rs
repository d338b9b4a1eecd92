// SPDX-License-Identifier: GPL-2.0-only
//! Counters of how each entry was made, for each CPU.

use core::sync::atomic::{AtomicU64, Ordering};

use super::light::LightCounter;
use super::{CType, shared};

shared! {
	/// Per-CPU counters.
	///
	/// One CPU writes them, with preemption off, and any CPU reads them: they are atomic, but never
	/// need a read-modify-write.
	#[derive(Debug)]
	pub struct Counters = "kvm_p9_counters" {
		/// Entries by the Rust path.
		pub entry_rust: Counter,
		/// Entries by C because the CPU is not a supported POWER9.
		pub c_cpu: Counter,
		/// Entries by C because the host uses the hash MMU.
		pub c_host_mmu: Counter,
		/// Entries by C because the guest is secure.
		pub c_secure: Counter,
		/// Page table hcalls of hash guests that Rust answered after a full exit.
		pub full_page_table: Counter,
		/// Exits that were considered for the light way.
		pub light: [Counter; LightCounter::COUNT],
		/// Why the exit that is under way is a full one, as a [`LightCounter`];
		/// [`NONE`](LightCounter::NONE) if only the trap tells.
		pub reason: Counter,
	}
}

impl Default for Counters {
	fn default() -> Self {
		Self {
			entry_rust: Counter::default(),
			c_cpu: Counter::default(),
			c_host_mmu: Counter::default(),
			c_secure: Counter::default(),
			full_page_table: Counter::default(),
			light: [const { Counter::new(0) }; LightCounter::COUNT],
			reason: Counter::default(),
		}
	}
}

/// One counter of [`Counters`] or of a vcpu.
#[repr(transparent)]
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
	/// A counter that stands at `n`.
	pub const fn new(n: u64) -> Self {
		Self(AtomicU64::new(n))
	}

	/// Sets it. Only the owning CPU or vcpu may call this.
	#[inline]
	pub fn set(&self, n: u64) {
		self.0.store(n, Ordering::Relaxed);
	}

	/// Adds `n`. Only the owning CPU or vcpu may call this.
	///
	/// Relaxed: nothing else is published by a counter.
	#[inline]
	pub fn add(&self, n: u64) {
		self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
	}

	/// Its value.
	#[inline]
	pub fn get(&self) -> u64 {
		self.0.load(Ordering::Relaxed)
	}
}

impl CType for Counter {
	const NAME: &'static str = "u64";
}
