// SPDX-License-Identifier: GPL-2.0-only
//! Tables that hardware translates with.
//!
//! A passed-through device's DMA goes through a table of the host's hardware, which
//! VFIO owns and which is *attached* to the guest's: what the guest writes into its
//! own has to be written there too, translated. The guest's table holds guest
//! addresses; a hardware table has two values for each entry, the host address of the
//! page, for the device, and the userspace address, by which KVM and VFIO find the
//! [`Region`] that the page belongs to. A region is memory that userspace has
//! registered for DMA. Its pages are pinned, and it counts the entries that map it:
//! while there is one it can't be unregistered.
//!
//! # Order
//!
//! [`write`] does all that can fail before it changes anything: every page that is to
//! be mapped is found, and counted as mapped. Then, entry by entry, it exchanges what
//! the hardware sees, writes the guest's own table, and remembers whom the old value
//! counted for. When all entries are written the hardware is told, once, to forget
//! those of them that mapped something, or do so now: we know of nothing that says a
//! host bridge doesn't cache entries that map nothing, and Linux tells it both ways.
//! Only then is the old pages' count given back: as soon as a region's count allows it,
//! its pages may become somebody else's.
//!
//! # Two vcpus at the same entry
//!
//! The lowest bit of the userspace address, which is that of a page, is a lock of this
//! one entry of the hardware table. Whoever exchanges an entry holds it, for these few
//! instructions, with interrupts off, and never two at a time; the kernel's own handlers
//! and VFIO's ioctls take it, too (`kvm_p9_tce_lock.h`). So what is removed is counted
//! back once, for the region that it was counted for, whichever guest's tables and page
//! sizes the hardware table is attached to. The guest's own table is written under the
//! lock of the last of the entries that stand for its entry: if there is just one, as
//! nearly always, the two agree whoever comes first. If there are more, two vcpus that
//! write the same entry at the same time may leave some of one's and some of the other's,
//! as with C.

mod commit;
mod lock;
mod regions;

use core::sync::atomic::AtomicU64;

use commit::Entries;
pub use regions::Region;
use regions::Tally;

use crate::hcalls::Values;
use crate::{GuestMemory, Refusal, Table};

/// Attached tables of one guest's table that are written here. More are possible: one
/// for each PCI host bridge that has a device with this window.
pub const MAX_ATTACHED: usize = 4;

/// Regions that one hcall's pages may lie in, or have lain in.
const MAX_REGIONS: usize = 5;

/// A table of the hardware's.
pub trait Attached: Copy {
	/// Size of its pages, as a shift; not above that of the guest's table.
	fn page_shift(&self) -> u32;

	/// The entry at this index, and all behind it that are in the same array. `None`
	/// if there is no array yet: then nothing is mapped there.
	fn entries(&self, index: u64) -> Option<EntrySlice<'_>>;

	/// Has the hardware forget what it knows of `count` entries from `first` on, and
	/// returns when it has.
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

/// Writes the first `count` values to entries from `index` on, of all attached tables and
/// of the guest's own. The pages of further values, up to `checked`, are only looked for.
///
/// [`Refusal::TooHard`] if that can't be done, with nothing changed, unless userspace
/// registers memory or changes the same entries by ioctls just now.
pub fn write<T: Table, G: GuestMemory>(
	table: &T,
	guest: &G,
	index: u64,
	values: Values<'_>,
	(count, checked): (usize, usize),
) -> Result<(), Refusal> {
	let entries = Entries {
		table,
		guest,
		tables: table.attached()?,
		index,
		values,
		count,
		checked,
	};
	let mut new = Tally::new();
	entries.reserve(&mut new)?;
	entries.commit(&new)
}
