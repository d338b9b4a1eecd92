// SPDX-License-Identifier: GPL-2.0-only
//! XICS without a XIVE.

use std::collections::VecDeque;

use super::*;

/// XICS as the guest sees it: what one vcpu is presented.
#[derive(Clone, Debug)]
pub(super) struct Model {
	pub(super) cppr: u8,
	pub(super) mfrr: u8,
	pub(super) queues: [VecDeque<u32>; 7],
}

impl Model {
	pub(super) fn best(&self) -> (u32, u8) {
		let queued = (0..7).find(|&level| !self.queues[level].is_empty());
		let queued = queued.filter(|&level| (level as u8) < self.cppr);
		match queued {
			Some(level) if (level as u8) < self.mfrr || self.mfrr >= self.cppr => {
				(self.queues[level][0], level as u8)
			}
			_ if self.mfrr < self.cppr => (IPI, self.mfrr),
			_ => (0, self.cppr),
		}
	}

	/// Whether this interrupt can be presented; if so it is.
	pub(super) fn take(&mut self, irq: u32) -> bool {
		let priority = match irq {
			0 => return true,
			IPI => self.mfrr,
			_ => match self
				.queues
				.iter()
				.position(|queue| queue.front() == Some(&irq))
			{
				Some(level) => level as u8,
				None => return false,
			},
		};
		if priority >= self.cppr {
			return false;
		}
		if irq != IPI {
			self.queues[usize::from(priority)].pop_front();
		}
		self.cppr = priority;
		true
	}
}
