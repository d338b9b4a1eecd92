// SPDX-License-Identifier: GPL-2.0-only
//! Tables that hardware translates with.
//!
//! DMA of a passed-through device goes through a table of the host's hardware. VFIO owns
//! that table and *attaches* it to the guest's table: every write of the guest has to be
//! written there too, translated. The guest's table holds guest addresses. A hardware table
//! has two values for each entry: the host address of the page, for the device, and the
//! userspace address, by which KVM and VFIO find the [`Region`] of the page. A region is
//! memory that userspace has registered for DMA. Its pages are pinned, and the region counts
//! the entries that map it. While the count is above its minimum, the region cannot be
//! unregistered.
//!
//! # Order
//!
//! [`write`] does all that can fail before it changes anything: it finds every page that is
//! to be mapped, and counts the page as mapped. Then, table by table and entry by entry, it
//! exchanges what the hardware sees, and remembers the region of the old value; together with the
//! last table it writes the guest's own table. When all entries of a table are written, it
//! invalidates the TCE cache of the hardware once, for entries that mapped something or do now. (No
//! document says that a host bridge does not cache entries that map nothing, and Linux invalidates
//! in both directions.) Only when that is done for all tables, the counts of the old pages are
//! dropped: as soon as the count of a region allows it, its pages may be unpinned and reused.
//!
//! A list that is written in several calls is looked at in several calls before. Between two calls
//! only userspace can change what was found out, by registering memory or by changing slots.
//! Each call looks at what it writes once more.
//!
//! # Runs
//!
//! Consecutive entries mostly map pages that are next to each other: in one memory slot, one region
//! and one page of the host. What they have in common is looked up once, and the counts of
//! regions change once for all of them. The two passes over the entries find the same
//! regions, because each looks up the same pages in the same order, and among the regions that
//! are known the first that has the page is taken.
//!
//! # Two vcpus at the same entry
//!
//! The lowest bit of the userspace address, which is the address of a page, is a lock of
//! this one entry of the hardware table. A vcpu that exchanges an entry holds the lock for
//! these few instructions, with interrupts disabled, and never two locks at a time. The
//! kernel's own handlers and VFIO's ioctls take the lock, too (`kvm_p9_tce_lock.h`). So a
//! removed mapping is counted back once, for the region that it was counted for, independent
//! of the tables and page sizes that the hardware table is attached to. The guest's own table
//! is written under the lock of the last of the hardware entries that stand for its entry. If
//! there is just one, as nearly always, the two tables agree in any order of the vcpus. If
//! there are more, two vcpus that write the same entry at the same time may leave a mix, as
//! with C.
//!
//! No entry is written without its lock, not even to unmap what maps nothing: another vcpu or an
//! ioctl can map something there at any time, and the guest's own table would then disagree.

mod commit;
mod lock;
mod regions;

use core::sync::atomic::AtomicU64;

use commit::NotWhole;
pub use regions::{Extent, Piece, Region};

use crate::hcalls::{MAX_WRITES, Values};
use crate::{GuestMemory, Refusal, Table};

/// Attached tables of one guest's table that are written here. More are possible: one
/// for each PCI host bridge that has a device with this window.
pub const MAX_ATTACHED: usize = 4;

/// Regions that one hcall's pages may lie in, or have lain in.
const MAX_REGIONS: usize = 5;

/// A hardware table.
pub trait Attached: Copy {
	/// Size of its pages, as a shift; not above that of the guest's table.
	fn page_shift(&self) -> u32;

	/// The entry at this index, and all later ones in the same array. `None` if there is no
	/// array yet: then nothing is mapped there.
	fn entries(&self, index: u64) -> Option<EntrySlice<'_>>;

	/// Invalidates what the hardware has cached of `count` entries from `first` on, and returns
	/// when that is complete.
	fn invalidate(&self, first: u64, count: u64);
}

/// Consecutive entries of a hardware table, as many of one as of the other; big-endian,
/// both.
#[derive(Clone, Copy, Debug)]
pub struct EntrySlice<'a> {
	/// Host addresses with permissions, as the hardware reads them.
	pub tces: &'a [AtomicU64],
	/// Userspace addresses.
	pub users: &'a [AtomicU64],
}

impl<'a> EntrySlice<'a> {
	/// No entry.
	pub(crate) const NONE: Self = Self {
		tces: &[],
		users: &[],
	};

	/// Those from number `at` on.
	#[inline]
	pub(crate) fn from(self, at: u64) -> Self {
		match (self.tces.get(at as usize..), self.users.get(at as usize..)) {
			(Some(tces), Some(users)) => Self { tces, users },
			_ => Self::NONE,
		}
	}

	/// The first `count` of them, if there are that many.
	#[inline]
	pub(crate) fn up_to(self, count: usize) -> Self {
		let count = count.min(self.tces.len()).min(self.users.len());
		Self {
			tces: self.tces.get(..count).unwrap_or(&[]),
			users: self.users.get(..count).unwrap_or(&[]),
		}
	}
}

/// How many entries of the guest's one call may write or look at, if it may do a part.
#[inline(never)]
pub(crate) fn step<T: Table>(table: &T) -> Result<usize, Refusal> {
	let page_shift = table.window().page_shift;
	let tables = table.attached()?;
	let parts = tables
		.iter()
		.map_while(Option::as_ref)
		.map(|one| 1_u64 << page_shift.saturating_sub(one.page_shift()))
		.fold(0, u64::wrapping_add);
	// The parts of a single entry are written together.
	let steps = (MAX_WRITES as u64).checked_div(parts);
	Ok(steps.map_or(MAX_WRITES, |steps| steps.max(1) as usize))
}

/// Looks for what [`write`] could not do, and changes nothing.
pub(crate) use commit::check;

/// Writes the first `count` values to entries from `index` on, of all attached tables and
/// of the guest's own. The pages of further values, up to `checked`, are only looked for.
///
/// [`Refusal::TooHard`] if that can't be done, with nothing changed, unless userspace
/// registers memory or changes the same entries by ioctls just now.
#[inline(always)]
pub fn write<T: Table, G: GuestMemory>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	counts: (usize, usize),
) -> Result<(), Refusal> {
	// One after the other, so that their stack frames do not add up.
	match commit::write_whole(table, guest, index, values, counts) {
		Ok(result) => result,
		Err(NotWhole) => commit::write_parts(table, guest, index, values, counts),
	}
}
