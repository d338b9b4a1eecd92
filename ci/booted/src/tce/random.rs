// SPDX-License-Identifier: GPL-2.0-only
//! Random numbers, the same for the same seed.

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
	pub fn next(&mut self) -> u64 {
		self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
		let mut z = self.0;
		z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
		z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
		z ^ z >> 31
	}

	pub fn below(&mut self, n: u64) -> u64 {
		self.next() % n
	}

	/// True in `percent` of all cases.
	pub fn chance(&mut self, percent: u64) -> bool {
		self.below(100) < percent
	}

	pub fn of<T: Copy>(&mut self, choice: &[T]) -> T {
		choice[self.below(choice.len() as u64) as usize]
	}

	/// How many entries, for a window with that many.
	pub fn pages(&mut self, size: u64) -> u64 {
		match self.below(100) {
			0..55 => 1 + self.below(4),
			55..75 => 1 + self.below(64),
			75..80 => 0,
			80..86 => self.below(600),
			86..93 => self.of(&[511, 512, 513]),
			93..95 => self.of(&[size - 1, size, size + 1]),
			_ => self.of(&[
				u64::MAX,
				u64::MAX - 3,
				1 << 63,
				(1 << 52) + 1,
				1 << 32 | 1,
				0x1_0000_0000,
			]),
		}
	}
}
