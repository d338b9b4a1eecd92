// SPDX-License-Identifier: GPL-2.0-only
//! The table of cases, in the order of the reports.

use hcall::{Code, Number};
use protocol::loop_body::doorbell;
use protocol::map::{self, tce};
use protocol::{GuestMode, LoopBody, hpte, private};

use crate::{Case, Evidence, Group, Hcall, Setup, Tables};

/// Iterations of the guest's empty loop in one round of `decrementer`: also the
/// instructions, and under icount the nanoseconds, from one timer to the next. More than
/// an exit costs on any path, or timers would go off together.
pub const SPIN: u64 = 16_384;

/// An hcall that KVM answers with H_SUCCESS, and the values that most fields have.
const HCALL: Case = Case {
	name: "",
	group: Group::Hcall,
	modes: &[
		GuestMode::Radix,
		GuestMode::Real,
		GuestMode::Hash,
		GuestMode::HashReal,
	],
	body: LoopBody::HCALL,
	number: Number(0),
	args: [0; 4],
	code: Code::SUCCESS,
	enable: &[],
	setup: Setup::Plain,
	before: None,
	evidence: &[],
	fast: None,
	also_fast: &[],
	weight: 1,
	varies: None,
	shared_exits: 0,
	overcounted: 0,
	only_patched: false,
};

/// H_PUT_TCE of the first entry: not the one that the cases put there.
const PUT_OTHER: Option<Hcall> = Some(Hcall {
	number: Number::PUT_TCE,
	args: [map::LIOBN, 0, tce(511), 0],
});

/// A TCE hcall on the window, whose first entry is in use.
const TCE: Case = Case {
	group: Group::Tce,
	setup: Setup::Window,
	before: PUT_OTHER,
	..HCALL
};

const GET_TCE: Case = Case {
	number: Number::GET_TCE,
	fast: Some("fast_h_get_tce"),
	..TCE
};

const PUT_TCE: Case = Case {
	number: Number::PUT_TCE,
	fast: Some("fast_h_put_tce"),
	..TCE
};

const INDIRECT: Case = Case {
	number: Number::PUT_TCE_INDIRECT,
	enable: &[Number::PUT_TCE_INDIRECT],
	fast: Some("fast_h_put_tce_indirect"),
	..TCE
};

/// H_PUT_TCE_INDIRECT of the whole list.
const WHOLE_LIST: [u64; 4] = [map::LIOBN, 0, map::TCE_LIST, 512];

/// A load or store outside memory.
const MMIO: Case = Case {
	group: Group::Mmio,
	..HCALL
};

const OTHER: Case = Case {
	group: Group::Other,
	..HCALL
};

/// H_ENTER of a page that the host has, in a place of its own.
const PAGE_TABLE: Case = Case {
	group: Group::PageTable,
	modes: &[GuestMode::Hash, GuestMode::HashReal],
	number: Number::ENTER,
	args: [hpte::EXACT, hpte::FIRST, hpte::V, hpte::R],
	fast: Some("fast_h_enter"),
	also_fast: &["fast_h_remove"],
	..HCALL
};

/// An hcall on an HPTE that was entered before, one after the other. The guest enters and removes
/// them outside of what is timed.
const AT_HPTE: Case = Case {
	body: LoopBody::AT_HPTE,
	args: [0, hpte::FIRST, 0, 0],
	also_fast: &["fast_h_enter", "fast_h_remove"],
	// As many HPTEs as iterations, or four times as many.
	weight: 8,
	..PAGE_TABLE
};

/// H_GET_TCE where tables are few or many, small or large.
const fn get_scale(name: &'static str, count: u64, entries: u64) -> Case {
	let args = [map::LIOBN, (entries - 1) << map::TCE_SHIFT, tce(0), 0];
	Case {
		name,
		group: Group::Scale,
		// The same tables in every guest: one mode will do.
		modes: &[GuestMode::Radix],
		args,
		setup: Setup::Tables(Tables { count, entries }),
		before: Some(Hcall {
			number: Number::PUT_TCE,
			args,
		}),
		evidence: GET_EVIDENCE,
		..GET_TCE
	}
}

const GET_EVIDENCE: &[Evidence] = &[Evidence::LastR4(tce(0))];

/// H_PUT_TCE in the same tables.
const fn put_scale(name: &'static str, count: u64, entries: u64) -> Case {
	let case = get_scale(name, count, entries);
	Case {
		number: PUT_TCE.number,
		fast: PUT_TCE.fast,
		before: Some(Hcall {
			number: Number::PUT_TCE,
			args: [case.args[0], case.args[1], tce(511), 0],
		}),
		evidence: &[Evidence::LastEntry],
		..case
	}
}

/// Entries of a window of 1 GiB.
const LARGE: u64 = 1 << (30 - map::TCE_SHIFT);

/// All cases, in the order of the tables.
pub const CASES: &[Case] = &[
	// The benchmark's own hcall, which does nothing.
	Case {
		name: "null",
		number: Number::NULL,
		enable: &[Number::NULL],
		fast: Some("fast_null"),
		only_patched: true,
		..HCALL
	},
	// To a vcpu that does not exist: a virtual-mode round trip and little else. KVM rejects
	// this id at once, and would search for any other.
	Case {
		name: "h_prod",
		number: Number::PROD,
		args: [u64::MAX, 0, 0, 0],
		code: Code::PARAMETER,
		fast: Some("light_h_prod"),
		..HCALL
	},
	// To a vcpu that is awake: the guest's own.
	Case {
		name: "h_prod_awake",
		number: Number::PROD,
		fast: Some("light_h_prod"),
		..HCALL
	},
	// The CPU's random number generator.
	Case {
		name: "h_random",
		number: Number::RANDOM,
		enable: &[Number::RANDOM],
		setup: Setup::RandomDevice,
		fast: Some("light_h_random"),
		evidence: &[Evidence::NewR4],
		..HCALL
	},
	// Sets resource 1, CIABR, to 0, its most frequent value.
	Case {
		name: "h_set_mode",
		number: Number::SET_MODE,
		args: [0, 1, 0, 0],
		enable: &[Number::SET_MODE],
		fast: Some("light_h_set_mode"),
		evidence: &[Evidence::CiabrCleared],
		..HCALL
	},
	// The first of two hcalls for each interrupt of a guest with XICS, here without an interrupt.
	// The result has the vcpu's priority and no number.
	Case {
		name: "h_xirr",
		number: Number::XIRR,
		args: [u64::MAX, 0, 0, 0],
		setup: Setup::Xics,
		fast: Some("fast_h_xirr"),
		evidence: &[Evidence::LastR4(0)],
		..HCALL
	},
	// The second one, here of an IPI.
	Case {
		name: "h_eoi",
		number: Number::EOI,
		args: [0xff00_0002, 0, 0, 0],
		setup: Setup::Xics,
		fast: Some("fast_h_eoi"),
		..HCALL
	},
	// Takes an IPI back, as a guest does that has accepted it.
	Case {
		name: "h_ipi",
		number: Number::IPI,
		args: [0, 0xff, 0, 0],
		setup: Setup::Xics,
		fast: Some("fast_h_ipi"),
		..HCALL
	},
	// The CPPR stays: all queues are looked at.
	Case {
		name: "h_cppr",
		number: Number::CPPR,
		args: [0, 0, 0, 0],
		setup: Setup::Xics,
		fast: Some("fast_h_cppr"),
		..HCALL
	},
	// A vcpu whose decrementer has run out: KVM finds that there is work, does not put the
	// vcpu to sleep, and delivers the decrementer interrupt. The figure includes setting
	// the decrementer and the guest's ten instructions in the interrupt.
	Case {
		name: "h_cede",
		body: LoopBody::CEDE,
		number: Number::CEDE,
		args: [u64::MAX, 0, 0, 0],
		fast: Some("light_h_cede"),
		..HCALL
	},
	// 4 bytes to an ioeventfd.
	Case {
		name: "h_logical_ci_store",
		number: Number::LOGICAL_CI_STORE,
		args: [4, map::MMIO_EVENT, map::MMIO_VALUE, 0],
		enable: &[Number::LOGICAL_CI_STORE],
		fast: Some("light_h_logical_ci_store"),
		setup: Setup::Event {
			address: map::MMIO_EVENT,
			bytes: 4,
		},
		evidence: &[Evidence::Signals],
		..HCALL
	},
	// A number that no kernel knows: userspace answers.
	Case {
		name: "unknown",
		number: private::UNKNOWN,
		code: Code::FUNCTION,
		evidence: &[Evidence::UserHcalls],
		..HCALL
	},
	Case {
		name: "h_get_tce",
		args: [map::LIOBN, 0, 0, 0],
		before: Some(Hcall {
			number: Number::PUT_TCE,
			args: [map::LIOBN, 0, tce(0), 0],
		}),
		evidence: &[Evidence::LastR4(tce(0)), Evidence::Entries(1)],
		..GET_TCE
	},
	Case {
		name: "h_put_tce",
		args: [map::LIOBN, 0, tce(0), 0],
		evidence: &[Evidence::Entries(1)],
		..PUT_TCE
	},
	Case {
		name: "h_put_tce_indirect",
		args: [map::LIOBN, 0, map::TCE_LIST, 1],
		evidence: &[Evidence::Entries(1)],
		..INDIRECT
	},
	Case {
		name: "h_put_tce_indirect_16",
		args: [map::LIOBN, 0, map::TCE_LIST, 16],
		evidence: &[Evidence::Entries(16)],
		weight: 8,
		..INDIRECT
	},
	Case {
		name: "h_put_tce_indirect_512",
		args: WHOLE_LIST,
		evidence: &[Evidence::Entries(512)],
		weight: 32,
		..INDIRECT
	},
	// The list is put before, so that there is something to clear.
	Case {
		name: "h_stuff_tce_512",
		number: Number::STUFF_TCE,
		args: [map::LIOBN, 0, 0, 512],
		enable: &[Number::STUFF_TCE, Number::PUT_TCE_INDIRECT],
		before: Some(Hcall {
			number: Number::PUT_TCE_INDIRECT,
			args: WHOLE_LIST,
		}),
		evidence: &[Evidence::Entries(0)],
		fast: Some("fast_h_stuff_tce"),
		weight: 32,
		..TCE
	},
	Case {
		name: "h_enter",
		body: LoopBody::ENTER,
		args: PAGE_TABLE.args,
		also_fast: &["fast_h_remove"],
		evidence: &[Evidence::LastIndex],
		..AT_HPTE
	},
	Case {
		name: "h_remove",
		body: LoopBody::REMOVE,
		number: Number::REMOVE,
		fast: Some("fast_h_remove"),
		also_fast: &["fast_h_enter"],
		evidence: &[Evidence::LastR4(hpte::V)],
		..AT_HPTE
	},
	// As Linux removes the pages of a process.
	Case {
		name: "h_bulk_remove_4",
		body: LoopBody::BULK_REMOVE,
		number: Number::BULK_REMOVE,
		args: [
			hpte::REQUEST | hpte::FIRST,
			0,
			hpte::REQUEST | (hpte::FIRST + 1),
			0,
		],
		fast: Some("fast_h_bulk_remove"),
		also_fast: &["fast_h_enter"; hpte::BULK as usize],
		..AT_HPTE
	},
	// Makes the page read-only for problem state.
	Case {
		name: "h_protect",
		number: Number::PROTECT,
		args: [1, hpte::FIRST, 0, 0],
		fast: Some("fast_h_protect"),
		..AT_HPTE
	},
	Case {
		name: "h_read",
		number: Number::READ,
		fast: Some("fast_h_read"),
		evidence: &[Evidence::LastR4(hpte::V)],
		..AT_HPTE
	},
	// R and C are those that the guest gave: the page is not accessed by the HPTE.
	Case {
		name: "h_clear_ref",
		number: Number::CLEAR_REF,
		enable: &[Number::CLEAR_REF],
		fast: Some("fast_h_clear_ref"),
		evidence: &[Evidence::LastR4(hpte::R)],
		..AT_HPTE
	},
	Case {
		name: "h_clear_mod",
		number: Number::CLEAR_MOD,
		enable: &[Number::CLEAR_MOD],
		fast: Some("fast_h_clear_mod"),
		evidence: &[Evidence::LastR4(hpte::R)],
		..AT_HPTE
	},
	// An entry of the page table comes and goes.
	Case {
		name: "h_enter_remove",
		body: LoopBody::ENTER_REMOVE,
		..PAGE_TABLE
	},
	// Meanwhile it is made read-only.
	Case {
		name: "h_enter_protect_remove",
		body: LoopBody::ENTER_PROTECT_REMOVE,
		also_fast: &["fast_h_remove", "fast_h_protect"],
		..PAGE_TABLE
	},
	// A store of 4 bytes to an ioeventfd that takes exactly 4: KVM fetches and decodes the
	// instruction.
	Case {
		name: "mmio_ioeventfd",
		body: LoopBody::STORE,
		args: [map::MMIO_VALUE, map::MMIO_EVENT, 0, 0],
		setup: Setup::Event {
			address: map::MMIO_EVENT,
			bytes: 4,
		},
		evidence: &[Evidence::Signals],
		..MMIO
	},
	// A store of 4 bytes to an ioeventfd that takes any length, as virtio's doorbells do:
	// KVM looks at the address only.
	Case {
		name: "mmio_ioeventfd_any",
		body: LoopBody::STORE,
		args: [map::MMIO_VALUE, map::MMIO_EVENT_ANY, 0, 0],
		setup: Setup::Event {
			address: map::MMIO_EVENT_ANY,
			bytes: 0,
		},
		evidence: &[Evidence::Signals],
		..MMIO
	},
	// A store of 4 bytes that userspace emulates.
	Case {
		name: "mmio_store",
		body: LoopBody::STORE,
		args: [map::MMIO_VALUE, map::MMIO_USER, 0, 0],
		evidence: &[Evidence::UserStores],
		..MMIO
	},
	// A load of 4 bytes that userspace emulates: r3 is what was loaded.
	Case {
		name: "mmio_load",
		body: LoopBody::LOAD,
		args: [map::MMIO_VALUE, map::MMIO_USER, 0, 0],
		code: Code(map::MMIO_VALUE as i64),
		evidence: &[Evidence::UserLoads],
		..MMIO
	},
	// A host timer goes off while the guest computes: exit by the hypervisor decrementer,
	// the host's timer interrupt with one timer (whose signal is blocked), and entry.
	//
	// The guest's own decrementer is not involved: on a POWER9 it interrupts the guest
	// without an exit. The loop's SPIN instructions are subtracted.
	Case {
		name: "decrementer",
		body: LoopBody::SPIN,
		args: [SPIN, 0, 0, 0],
		setup: Setup::Timers,
		evidence: &[Evidence::TimerExits],
		// The loop costs; and each round trip takes a timer.
		weight: 32,
		varies: Some("the host's timers"),
		// A timer that goes off while the host handles its own tick makes no exit.
		shared_exits: 2,
		..OTHER
	},
	// The same, but the timer's signal ends KVM_RUN. Its handler counts it, and the VMM
	// calls KVM_RUN again.
	Case {
		name: "signal",
		body: LoopBody::SPIN,
		// Room for the next timer to go off when the guest runs again.
		args: [4 * SPIN, 0, 0, 0],
		setup: Setup::Signals,
		evidence: &[Evidence::EndedRuns],
		weight: 32,
		varies: Some("the host's timers"),
		// A signal that comes while the VMM handles another one ends no run.
		shared_exits: 2,
		..OTHER
	},
	// A doorbell to another vcpu on the same host CPU, and one back: msgsndp, which KVM
	// emulates for the virtual threads of a core, and H_CEDE until the answer is there.
	// Two of each, two interrupts and two context switches of the host. Some thirty of the
	// instructions are the guests' own. The other vcpu runs in real mode.
	Case {
		name: "doorbell",
		body: LoopBody::DOORBELL,
		number: Number::CEDE,
		args: [doorbell(1), 0, 0, 0],
		setup: Setup::Peer,
		weight: 8,
		varies: Some("the host's scheduler"),
		// Two messages.
		overcounted: 4,
		..OTHER
	},
	// A store into a page of guest memory that the host has to allocate and clear (64 KiB).
	Case {
		name: "first_touch",
		body: LoopBody::TOUCH,
		args: [map::FRESH_VALUE, map::FRESH, map::FRESH_PAGE, 0],
		setup: Setup::FreshPages,
		evidence: &[Evidence::Pages],
		// A batch has room for FRESH_PAGES.
		weight: 16,
		varies: Some("the host's page allocator"),
		..OTHER
	},
	get_scale("h_get_tce_1x4k", 1, 1),
	get_scale("h_get_tce_64x4k", 64, 1),
	get_scale("h_get_tce_1x1g", 1, LARGE),
	get_scale("h_get_tce_64x1g", 64, LARGE),
	put_scale("h_put_tce_1x4k", 1, 1),
	put_scale("h_put_tce_64x4k", 64, 1),
	put_scale("h_put_tce_1x1g", 1, LARGE),
	put_scale("h_put_tce_64x1g", 64, LARGE),
	// For scale: the host's own null system call.
	Case {
		name: "getppid",
		group: Group::Host,
		modes: &[GuestMode::Host],
		setup: Setup::NoGuest,
		..HCALL
	},
];
