// SPDX-License-Identifier: GPL-2.0-only
//! What is measured, in which guest, on which path.
//!
//! A case is a round trip: something that a guest does once per iteration of a loop,
//! and that takes it out of the guest. Most are one hcall, one a load or store that
//! needs emulation, some are an interrupt. What differs between the loops is
//! [`Round`]; all of them start an iteration with r3 to r7 set ([`Case::number`],
//! [`Case::args`]) and compare r3 at its end ([`Case::code`]). A right r3 alone proves
//! little, so the VMM knows more evidence for each case (`bench/vmm/src/bench.rs`).

use hcall::{Code, Number};

use crate::{map, private};

/// A round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Case {
	/// The benchmark's own hcall, which does nothing.
	Null,
	/// H_PROD to a vcpu that doesn't exist: a virtual-mode round trip and little else.
	HProd,
	/// H_RANDOM: the CPU's random number generator.
	HRandom,
	/// H_SET_MODE: sets CIABR to 0, its most frequent value.
	HSetMode,
	/// H_CEDE of a vcpu whose decrementer has run out: KVM finds that there is work,
	/// doesn't put the vcpu to sleep, and delivers the decrementer interrupt. Setting the
	/// decrementer and the guest's ten instructions in the interrupt are in the figure.
	HCede,
	/// H_LOGICAL_CI_STORE of 4 bytes to an ioeventfd.
	HLogicalCiStore,
	/// A number that no kernel knows, answered by userspace.
	Unknown,
	/// H_GET_TCE.
	HGetTce,
	/// H_PUT_TCE into an emulated table.
	HPutTce,
	/// H_PUT_TCE_INDIRECT with one entry.
	HPutTceIndirect,
	/// H_PUT_TCE_INDIRECT with 16.
	HPutTceIndirect16,
	/// H_PUT_TCE_INDIRECT with 512.
	HPutTceIndirect512,
	/// H_STUFF_TCE over 512 entries.
	HStuffTce512,
	/// A store of 4 bytes to an ioeventfd that wants exactly that: KVM fetches and
	/// decodes the instruction.
	MmioEvent,
	/// A store of 4 bytes to an ioeventfd that takes any length, as virtio's doorbells
	/// are: KVM looks at the address only.
	MmioEventAny,
	/// A store of 4 bytes that userspace emulates.
	MmioStore,
	/// A load of 4 bytes that userspace emulates.
	MmioLoad,
	/// A host timer goes off while the guest computes: exit by the hypervisor
	/// decrementer, the host's timer interrupt with one timer (whose signal is blocked),
	/// and entry.
	///
	/// The guest's own decrementer doesn't come into it: on a POWER9 it interrupts the
	/// guest without an exit. The loop's [`SPIN`] instructions are subtracted.
	Decrementer,
	/// A doorbell to another vcpu on the same host CPU, and one back: `msgsndp`, which
	/// KVM emulates for the virtual threads of a core, and H_CEDE until the answer is
	/// there. Two of each, two interrupts and two context switches of the host. Some thirty of
	/// the instructions are the guests' own. The other vcpu runs in real mode.
	Doorbell,
	/// A store into a page of guest memory that the host has to allocate and clear (64
	/// KiB of it).
	FirstTouch,
	/// H_GET_TCE and H_PUT_TCE where tables are few or many, small or large.
	Scale(Access, Tables),
	/// For scale: the host's own `getppid()`, with no guest in sight.
	Getppid,
}

/// What one of the [`Case::Scale`] cases does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
	/// H_GET_TCE.
	Get,
	/// H_PUT_TCE.
	Put,
}

/// The tables that a VM has. The one in use is the oldest, which a list that grows at its
/// head finds last, and its last entry is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tables {
	/// One table for a window of 4 KiB.
	OneSmall,
	/// 64 of them.
	ManySmall,
	/// One table for a window of 1 GiB.
	OneLarge,
	/// 64 of them.
	ManyLarge,
}

impl Tables {
	/// How many there are.
	pub const fn count(self) -> u64 {
		match self {
			Self::OneSmall | Self::OneLarge => 1,
			Self::ManySmall | Self::ManyLarge => 64,
		}
	}

	/// Entries of each, for pages of 4 KiB.
	pub const fn entries(self) -> u64 {
		match self {
			Self::OneSmall | Self::ManySmall => 1,
			Self::OneLarge | Self::ManyLarge => 1 << (30 - map::TCE_SHIFT),
		}
	}

	/// I/O address of the entry that is used: the last.
	const fn ioba(self) -> u64 {
		(self.entries() - 1) << map::TCE_SHIFT
	}
}

/// What a guest does once per iteration. The codes are part of the command block, open
/// like everything there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub struct Round(pub u64);

impl Round {
	/// `sc 1`
	pub const HCALL: Self = Self(0);
	/// Stores the low 4 bytes of r4 at r5.
	pub const STORE: Self = Self(1);
	/// Loads 4 bytes at r5 into r3.
	pub const LOAD: Self = Self(2);
	/// Stores r4 at r5, which grows by r6 each time.
	pub const TOUCH: Self = Self(3);
	/// Sets DEC to r4, `sc 1`. Takes the decrementer interrupt.
	pub const CEDE: Self = Self(4);
	/// Counts down from r4.
	pub const SPIN: Self = Self(5);
	/// `msgsndp r4`, `sc 1`. Takes the doorbell interrupt.
	pub const DOORBELL: Self = Self(6);

	/// The vector of the interrupt that each round ends with, or 0.
	pub const fn vector(self) -> u64 {
		match self {
			Self::CEDE => 0x900,
			Self::DOORBELL => 0xa00,
			_ => 0,
		}
	}
}

/// Rows of the table that belong together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
	/// Hcalls that are not about TCEs.
	Hcall,
	/// Hcalls on a TCE table.
	Tce,
	/// Loads and stores outside memory.
	Mmio,
	/// Interrupts, other vcpus, page faults.
	Other,
	/// What many or large TCE tables cost.
	Scale,
	/// Not a guest's.
	Host,
}

impl Kind {
	/// The headline of its rows.
	pub const fn title(self) -> &'static str {
		match self {
			Self::Hcall => "hypercalls",
			Self::Tce => "TCE hypercalls (emulated table)",
			Self::Mmio => "device registers",
			Self::Other => "interrupts and page faults",
			Self::Scale => "1 or 64 TCE tables, windows of 4 KiB or 1 GiB",
			Self::Host => "for scale: the host's null system call",
		}
	}
}

/// Iterations of the guest's empty loop in one round of [`Case::Decrementer`]: also the
/// instructions, and under icount the nanoseconds, from one timer to the next. More than
/// an exit costs on any path, or timers would go off together.
pub const SPIN: u64 = 16_384;

/// A message of `msgsndp` that rings a thread's doorbell: type 5.
pub const fn doorbell(thread: u64) -> u64 {
	5 << 27 | thread
}

impl Case {
	/// All of them, in the order of the table.
	pub const ALL: [Self; 29] = [
		Self::Null,
		Self::HProd,
		Self::HRandom,
		Self::HSetMode,
		Self::HCede,
		Self::HLogicalCiStore,
		Self::Unknown,
		Self::HGetTce,
		Self::HPutTce,
		Self::HPutTceIndirect,
		Self::HPutTceIndirect16,
		Self::HPutTceIndirect512,
		Self::HStuffTce512,
		Self::MmioEvent,
		Self::MmioEventAny,
		Self::MmioStore,
		Self::MmioLoad,
		Self::Decrementer,
		Self::Doorbell,
		Self::FirstTouch,
		Self::Scale(Access::Get, Tables::OneSmall),
		Self::Scale(Access::Get, Tables::ManySmall),
		Self::Scale(Access::Get, Tables::OneLarge),
		Self::Scale(Access::Get, Tables::ManyLarge),
		Self::Scale(Access::Put, Tables::OneSmall),
		Self::Scale(Access::Put, Tables::ManySmall),
		Self::Scale(Access::Put, Tables::OneLarge),
		Self::Scale(Access::Put, Tables::ManyLarge),
		Self::Getppid,
	];

	/// The name in reports and on command lines.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Null => "null",
			Self::HProd => "h_prod",
			Self::HRandom => "h_random",
			Self::HSetMode => "h_set_mode",
			Self::HCede => "h_cede",
			Self::HLogicalCiStore => "h_logical_ci_store",
			Self::Unknown => "unknown",
			Self::HGetTce => "h_get_tce",
			Self::HPutTce => "h_put_tce",
			Self::HPutTceIndirect => "h_put_tce_indirect",
			Self::HPutTceIndirect16 => "h_put_tce_indirect_16",
			Self::HPutTceIndirect512 => "h_put_tce_indirect_512",
			Self::HStuffTce512 => "h_stuff_tce_512",
			Self::MmioEvent => "mmio_ioeventfd",
			Self::MmioEventAny => "mmio_ioeventfd_any",
			Self::MmioStore => "mmio_store",
			Self::MmioLoad => "mmio_load",
			Self::Decrementer => "decrementer",
			Self::Doorbell => "doorbell",
			Self::FirstTouch => "first_touch",
			Self::Scale(Access::Get, Tables::OneSmall) => "h_get_tce_1x4k",
			Self::Scale(Access::Get, Tables::ManySmall) => "h_get_tce_64x4k",
			Self::Scale(Access::Get, Tables::OneLarge) => "h_get_tce_1x1g",
			Self::Scale(Access::Get, Tables::ManyLarge) => "h_get_tce_64x1g",
			Self::Scale(Access::Put, Tables::OneSmall) => "h_put_tce_1x4k",
			Self::Scale(Access::Put, Tables::ManySmall) => "h_put_tce_64x4k",
			Self::Scale(Access::Put, Tables::OneLarge) => "h_put_tce_1x1g",
			Self::Scale(Access::Put, Tables::ManyLarge) => "h_put_tce_64x1g",
			Self::Getppid => "getppid",
		}
	}

	/// The case of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|case| case.name() == name)
	}

	/// What it belongs to.
	pub const fn kind(self) -> Kind {
		match self {
			Self::Null
			| Self::HProd
			| Self::HRandom
			| Self::HSetMode
			| Self::HCede
			| Self::HLogicalCiStore
			| Self::Unknown => Kind::Hcall,
			Self::HGetTce
			| Self::HPutTce
			| Self::HPutTceIndirect
			| Self::HPutTceIndirect16
			| Self::HPutTceIndirect512
			| Self::HStuffTce512 => Kind::Tce,
			Self::MmioEvent | Self::MmioEventAny | Self::MmioStore | Self::MmioLoad => Kind::Mmio,
			Self::Decrementer | Self::Doorbell | Self::FirstTouch => Kind::Other,
			Self::Scale(..) => Kind::Scale,
			Self::Getppid => Kind::Host,
		}
	}

	/// What the guest does in an iteration.
	pub const fn round(self) -> Round {
		match self {
			Self::MmioEvent | Self::MmioEventAny | Self::MmioStore => Round::STORE,
			Self::MmioLoad => Round::LOAD,
			Self::FirstTouch => Round::TOUCH,
			Self::HCede => Round::CEDE,
			Self::Decrementer => Round::SPIN,
			Self::Doorbell => Round::DOORBELL,
			_ => Round::HCALL,
		}
	}

	/// What r3 holds when the guest does it; for an hcall, its number.
	pub const fn number(self) -> Number {
		match self {
			Self::Null => Number::NULL,
			Self::HProd => Number::PROD,
			Self::HRandom => Number::RANDOM,
			Self::HSetMode => Number::SET_MODE,
			Self::HCede | Self::Doorbell => Number::CEDE,
			Self::HLogicalCiStore => Number::LOGICAL_CI_STORE,
			Self::Unknown => private::UNKNOWN,
			Self::HGetTce | Self::Scale(Access::Get, _) => Number::GET_TCE,
			Self::HPutTce | Self::Scale(Access::Put, _) => Number::PUT_TCE,
			Self::HPutTceIndirect | Self::HPutTceIndirect16 | Self::HPutTceIndirect512 => {
				Number::PUT_TCE_INDIRECT
			}
			Self::HStuffTce512 => Number::STUFF_TCE,
			// Not hcalls: r3 stays what it is, but for the load.
			Self::MmioEvent
			| Self::MmioEventAny
			| Self::MmioStore
			| Self::MmioLoad
			| Self::Decrementer
			| Self::FirstTouch
			| Self::Getppid => Number(0),
		}
	}

	/// What r4 to r7 hold.
	pub const fn args(self) -> [u64; 4] {
		match self {
			Self::Null | Self::Unknown | Self::HRandom | Self::Getppid => [0; 4],
			// No vcpu, and KVM sees that at once: any other id is searched for.
			Self::HProd => [u64::MAX, 0, 0, 0],
			// Resource 1 is CIABR; its new value is 0.
			Self::HSetMode => [0, 1, 0, 0],
			// The decrementer's new value: it has run out.
			Self::HCede => [u64::MAX, 0, 0, 0],
			Self::HLogicalCiStore => [4, map::MMIO_EVENT, map::MMIO_VALUE, 0],
			Self::HGetTce => [map::LIOBN, 0, 0, 0],
			Self::HPutTce => [map::LIOBN, 0, Self::tce(0), 0],
			Self::HPutTceIndirect => [map::LIOBN, 0, map::TCE_LIST, 1],
			Self::HPutTceIndirect16 => [map::LIOBN, 0, map::TCE_LIST, 16],
			Self::HPutTceIndirect512 => [map::LIOBN, 0, map::TCE_LIST, 512],
			Self::HStuffTce512 => [map::LIOBN, 0, 0, 512],
			Self::MmioEvent => [map::MMIO_VALUE, map::MMIO_EVENT, 0, 0],
			Self::MmioEventAny => [map::MMIO_VALUE, map::MMIO_EVENT_ANY, 0, 0],
			Self::MmioStore | Self::MmioLoad => [map::MMIO_VALUE, map::MMIO_USER, 0, 0],
			Self::Decrementer => [SPIN, 0, 0, 0],
			Self::Doorbell => [doorbell(1), 0, 0, 0],
			Self::FirstTouch => [map::FRESH_VALUE, map::FRESH, map::FRESH_PAGE, 0],
			Self::Scale(_, tables) => [map::LIOBN, tables.ioba(), Self::tce(0), 0],
		}
	}

	/// What r3 has to hold afterwards.
	pub const fn code(self) -> Code {
		match self {
			Self::HProd => Code::PARAMETER,
			Self::Unknown => Code::FUNCTION,
			Self::MmioLoad => Code(map::MMIO_VALUE as i64),
			_ => Code::SUCCESS,
		}
	}

	/// KVM hands this one to userspace until KVM_CAP_PPC_ENABLE_HCALL enables it.
	pub const fn needs_enabling(self) -> bool {
		matches!(
			self,
			Self::Null
				| Self::HRandom
				| Self::HSetMode
				| Self::HLogicalCiStore
				| Self::HPutTceIndirect
				| Self::HPutTceIndirect16
				| Self::HPutTceIndirect512
				| Self::HStuffTce512
		)
	}

	/// It needs the DMA window that every machine can have.
	pub const fn needs_window(self) -> bool {
		matches!(self.kind(), Kind::Tce)
	}

	/// The VMM has to do something before each batch.
	pub const fn needs_preparation(self) -> bool {
		matches!(self, Self::Decrementer | Self::FirstTouch)
	}

	/// How many round trips end in userspace: all or none.
	pub const fn ends_in_userspace(self) -> bool {
		matches!(self, Self::Unknown | Self::MmioStore | Self::MmioLoad)
	}

	/// The counter of its fast handler, if it has one.
	pub const fn fast_counter(self) -> Option<&'static str> {
		match self.number() {
			Number::NULL => Some("fast_null"),
			Number::GET_TCE => Some("fast_h_get_tce"),
			Number::PUT_TCE => Some("fast_h_put_tce"),
			Number::PUT_TCE_INDIRECT => Some("fast_h_put_tce_indirect"),
			Number::STUFF_TCE => Some("fast_h_stuff_tce"),
			_ => None,
		}
	}

	/// By how much a batch of it has to be smaller than others, because it costs that
	/// much more, or has room for no more.
	pub const fn weight(self) -> u64 {
		match self {
			Self::HPutTceIndirect512 | Self::HStuffTce512 => 32,
			// The spin costs; and it takes a timer for each round.
			Self::Decrementer => 32,
			Self::Doorbell | Self::HPutTceIndirect16 => 8,
			Self::FirstTouch => 16,
			_ => 1,
		}
	}

	/// Whether every round trip executes the same instructions. Where the host's scheduler
	/// or memory allocator has a part in it, they may differ a little from run to run.
	pub const fn is_steady(self) -> bool {
		!matches!(self, Self::Decrementer | Self::Doorbell | Self::FirstTouch)
	}

	/// The least number of exits that so many round trips take.
	pub const fn exits(self, rounds: u64) -> u64 {
		match self {
			// Timers that go off while the host deals with its own tick make none.
			Self::Decrementer => rounds - rounds / 16,
			_ => rounds,
		}
	}

	/// In which guests it is measured.
	pub const fn guests(self) -> &'static [Guest] {
		match self.kind() {
			Kind::Host => &[Guest::Host],
			// The same tables whichever the guest: one will do.
			Kind::Scale => &[Guest::Radix],
			_ => &[Guest::Radix, Guest::Real, Guest::Hash, Guest::HashReal],
		}
	}

	/// Why there can't be a figure.
	pub const fn absent(self, guest: Guest, path: Path) -> Option<&'static str> {
		match (self.kind(), guest, path) {
			(Kind::Mmio, Guest::HashReal, _) => {
				Some("a hash guest in real mode reaches nothing but its memory")
			}
			(Kind::Host, _, Path::RustFull | Path::RustFast) => {
				Some("no guest is entered: the same as C")
			}
			(_, Guest::Hash | Guest::HashReal, Path::RustFast) if self.fast_counter().is_some() => {
				Some("hash guests have no fast handlers")
			}
			_ => None,
		}
	}

	/// Entry `index` of the list of TCEs: a page of guest memory, read and write.
	pub const fn tce(index: u64) -> u64 {
		const READ: u64 = 1;
		const WRITE: u64 = 2;
		(map::TCE_TARGET + (index << map::TCE_SHIFT)) | READ | WRITE
	}
}

/// How the guest runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guest {
	/// A radix guest with translation off: an hcall arrives in real mode.
	Real,
	/// Radix translation on, AIL = 3: an hcall arrives with the MMU on.
	Radix,
	/// A hash guest with translation on, in pages of 64 KiB.
	Hash,
	/// A hash guest with translation off: it sees its memory through the virtual real
	/// mode area.
	HashReal,
	/// No guest at all.
	Host,
}

impl Guest {
	/// All of them, in the order of the table.
	pub const ALL: [Self; 5] = [
		Self::Radix,
		Self::Real,
		Self::Hash,
		Self::HashReal,
		Self::Host,
	];

	/// The modes of a radix guest.
	pub const RADIX: [Self; 2] = [Self::Radix, Self::Real];

	/// The name in reports.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Real => "real",
			Self::Radix => "radix",
			Self::Hash => "hash",
			Self::HashReal => "hash-real",
			Self::Host => "host",
		}
	}

	/// The mode of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|guest| guest.name() == name)
	}

	/// It uses the hash MMU.
	pub const fn is_hash(self) -> bool {
		matches!(self, Self::Hash | Self::HashReal)
	}
}

/// Who serves the round trip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Path {
	/// Linux 5.10, the last with real-mode handlers in assembly on a POWER9.
	Asm510,
	/// The C entry and exit path.
	C,
	/// The Rust path without fast handlers.
	RustFull,
	/// The Rust path with them.
	RustFast,
}

impl Path {
	/// All of them, in the order of the table.
	pub const ALL: [Self; 4] = [Self::Asm510, Self::C, Self::RustFull, Self::RustFast];

	/// The name in reports.
	pub const fn name(self) -> &'static str {
		match self {
			Self::Asm510 => "asm-5.10",
			Self::C => "c",
			Self::RustFull => "rust-full",
			Self::RustFast => "rust-fast",
		}
	}

	/// The path of that name.
	pub fn from_name(name: &str) -> Option<Self> {
		Self::ALL.into_iter().find(|path| path.name() == name)
	}
}

/// What the kernel's counters say of a measurement, each as the difference that the
/// measurement made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Served {
	/// Answered by this case's fast handler.
	pub fast: u64,
	/// Answered by any other.
	pub other_fast: u64,
	/// Entries by Rust.
	pub rust: u64,
	/// Entries by C although Rust was asked to.
	pub c: u64,
}

/// What [`Served::judge`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
	/// The path in question served it.
	AsAsked,
	/// C did, as it does for all such guests.
	ByC,
	/// Somebody else did, or nobody knows.
	Wrong,
}

impl Served {
	/// Did `path` serve the `rounds` round trips of a case? This is for kernels that have
	/// the counters.
	pub fn judge(self, case: Case, path: Path, rounds: u64) -> Verdict {
		let fast = self.fast + self.other_fast;
		let right = match path {
			_ if matches!(case.kind(), Kind::Host) => fast + self.rust + self.c == 0,
			Path::Asm510 | Path::C => fast + self.rust + self.c == 0,
			Path::RustFull => fast == 0 && self.c == 0 && self.rust >= case.exits(rounds),
			Path::RustFast if case.fast_counter().is_some() => {
				// A few entries are due to the host's timer and to begin and end.
				self.fast == rounds
					&& self.other_fast == 0
					&& self.c == 0 && self.rust < rounds.div_ceil(8) + 8
			}
			Path::RustFast => fast == 0 && self.c == 0 && self.rust >= case.exits(rounds),
		};
		if right {
			Verdict::AsAsked
		} else if matches!(path, Path::RustFull | Path::RustFast)
			&& fast + self.rust == 0
			&& self.c >= case.exits(rounds)
		{
			Verdict::ByC
		} else {
			Verdict::Wrong
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::collections::BTreeSet;

	#[test]
	fn names_are_unique_and_lead_back() {
		for case in Case::ALL {
			assert_eq!(Case::from_name(case.name()), Some(case));
		}
		for guest in Guest::ALL {
			assert_eq!(Guest::from_name(guest.name()), Some(guest));
		}
		for path in Path::ALL {
			assert_eq!(Path::from_name(path.name()), Some(path));
		}
		assert_eq!(Case::from_name("h_nothing"), None);
	}

	#[test]
	fn kinds_are_together() {
		let mut kinds: Vec<_> = Case::ALL.map(|case| case.kind().title()).to_vec();
		kinds.dedup();
		let different: BTreeSet<_> = kinds.iter().collect();
		assert_eq!(different.len(), kinds.len(), "{kinds:?}");
	}

	#[test]
	fn batches_are_512_and_inside_the_window() {
		for case in Case::ALL
			.into_iter()
			.filter(|case| case.name().ends_with("_512"))
		{
			assert_eq!(case.args()[3], 512);
		}
		assert!(map::TCE_LIST.is_multiple_of(4096));
	}

	#[test]
	fn every_tce_points_into_guest_memory() {
		for index in 0..512 {
			let page = Case::tce(index) & !((1 << map::TCE_SHIFT) - 1);
			assert!(page >= map::TCE_TARGET && page + 4096 <= map::RAM);
			assert_eq!(Case::tce(index) - page, 3);
		}
	}

	#[test]
	fn what_tables_are_called_is_what_they_are() {
		for case in Case::ALL {
			let Case::Scale(_, tables) = case else {
				continue;
			};
			let size = match tables.entries() << map::TCE_SHIFT {
				0x1000 => "4k",
				0x4000_0000 => "1g",
				_ => "?",
			};
			let expected = format!("_{}x{size}", tables.count());
			assert!(case.name().ends_with(&expected), "{}", case.name());
			assert_eq!(
				(case.args()[1] >> map::TCE_SHIFT) + 1,
				tables.entries(),
				"not the last entry"
			);
		}
	}

	#[test]
	fn private_numbers_are_outside_the_enabled_bitmap() {
		for number in [
			private::DONE,
			private::EXCEPTION,
			private::PANIC,
			private::UNKNOWN,
			private::BATCH,
			private::UNTOUCH,
		] {
			assert_eq!(number.index(Number(0x500)), None);
		}
	}

	#[test]
	fn only_interrupts_have_vectors() {
		for case in Case::ALL {
			let interrupts = matches!(case, Case::HCede | Case::Doorbell);
			assert_eq!(case.round().vector() != 0, interrupts, "{}", case.name());
		}
	}

	#[test]
	fn a_path_is_believed_only_with_its_counters() {
		use Verdict::{AsAsked, ByC, Wrong};
		let served = |fast, other_fast, rust, c| Served {
			fast,
			other_fast,
			rust,
			c,
		};
		for (case, path, counters, expected) in [
			(Case::Null, Path::C, served(0, 0, 0, 0), AsAsked),
			(Case::Null, Path::C, served(0, 0, 1, 0), Wrong),
			(Case::Null, Path::C, served(1, 0, 0, 0), Wrong),
			(Case::Null, Path::RustFull, served(0, 0, 100, 0), AsAsked),
			(Case::Null, Path::RustFull, served(0, 0, 99, 0), Wrong),
			(Case::Null, Path::RustFull, served(1, 0, 100, 0), Wrong),
			(Case::Null, Path::RustFull, served(0, 0, 0, 0), Wrong),
			(Case::Null, Path::RustFull, served(0, 0, 0, 100), ByC),
			(Case::Null, Path::RustFast, served(100, 0, 2, 0), AsAsked),
			(Case::Null, Path::RustFast, served(99, 0, 2, 0), Wrong),
			(Case::Null, Path::RustFast, served(101, 0, 2, 0), Wrong),
			(Case::Null, Path::RustFast, served(100, 1, 2, 0), Wrong),
			(Case::Null, Path::RustFast, served(100, 0, 100, 0), Wrong),
			(Case::Null, Path::RustFast, served(0, 0, 100, 0), Wrong),
			(Case::HProd, Path::RustFast, served(0, 0, 100, 0), AsAsked),
			(Case::HProd, Path::RustFast, served(0, 1, 100, 0), Wrong),
			(Case::HProd, Path::RustFast, served(0, 0, 100, 1), Wrong),
			(Case::HProd, Path::RustFast, served(0, 0, 0, 101), ByC),
			(Case::HProd, Path::RustFast, served(0, 0, 0, 99), Wrong),
			(Case::Getppid, Path::C, served(0, 0, 0, 0), AsAsked),
			(Case::Getppid, Path::C, served(0, 0, 0, 100), Wrong),
		] {
			assert_eq!(
				counters.judge(case, path, 100),
				expected,
				"{} {} {counters:?}",
				case.name(),
				path.name()
			);
		}
	}

	#[test]
	fn whatever_has_a_fast_handler_names_its_counter() {
		for case in Case::ALL {
			let fast = case == Case::Null || matches!(case.kind(), Kind::Tce | Kind::Scale);
			assert_eq!(case.fast_counter().is_some(), fast, "{}", case.name());
		}
	}
}
