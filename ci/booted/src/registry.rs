// SPDX-License-Identifier: GPL-2.0-only
//! Every booted test: one table, a row a test.
//!
//! A row is expanded to a test for each of its guest modes and paths. The runner's list of
//! tests, the machines that run them, and what the program in the machine can run all
//! follow from the table. `ci/booted-tests` shows it expanded.

use protocol::{Column, GuestMode};

/// The machine that runs a test.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Boot {
	/// The first of two machines that count instructions.
	First,
	/// The second of them.
	Second,
	/// A machine whose CPUs run at the same time.
	Smp,
	/// Such a machine, in the soak stage.
	Soak,
	/// A kernel with CONFIG_KVM_BOOK3S_HV_P9_TIMING, in the timing stage.
	Timing,
	/// A kernel with lockdep and other checks, in the debug stage.
	Debug,
	/// A machine that a debugger interrupts, in the nmi stage.
	Nmi,
	/// A kernel with CPU hotplug and more that is beside guests, in the hazards stage.
	Hazards,
	/// A machine that goes on with another kernel, in the hazards stage.
	Kexec,
}

impl Boot {
	/// All of them.
	pub const ALL: [Self; 9] = [
		Self::First,
		Self::Second,
		Self::Smp,
		Self::Soak,
		Self::Timing,
		Self::Debug,
		Self::Nmi,
		Self::Hazards,
		Self::Kexec,
	];

	/// Its name in the list of tests.
	pub const fn name(self) -> &'static str {
		match self {
			Self::First => "first",
			Self::Second => "second",
			Self::Smp => "smp",
			Self::Soak => "soak",
			Self::Timing => "timing",
			Self::Debug => "debug",
			Self::Nmi => "nmi",
			Self::Hazards => "hazards",
			Self::Kexec => "kexec",
		}
	}
}

/// Where a row's tests are run.
#[derive(Clone, Copy)]
enum OnMachine {
	/// Radix guests on the first machine, all others on the second.
	ByGuest,
	On(Boot),
}

/// Where a test is run besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Also {
	/// On a host with mitigations, even without `--all`.
	Mitigations,
	/// On the next kernel series, if its guest is radix.
	Next,
	/// The same, if its path is one of Rust.
	NextRust,
	/// In the debug stage, if its path is that with fast handlers, or if the test chooses paths.
	/// Not for a test whose decrementer or signal has to come at a certain instruction of the guest.
	Checked,
}

/// A row of the table.
pub struct Row {
	/// The test's name, in which `{guest}` and `{path}` stand for names of those.
	name: &'static str,
	guests: &'static [GuestMode],
	/// Empty if the test chooses paths itself.
	paths: &'static [Column],
	place: OnMachine,
	also: &'static [Also],
	#[cfg(target_arch = "powerpc64")]
	body: fn(&TestRun<'_>) -> crate::common::Verdict,
}

const GUESTS: &[GuestMode] = &[GuestMode::Radix, GuestMode::Real];
const ALL: &[GuestMode] = &[
	GuestMode::Radix,
	GuestMode::Real,
	GuestMode::Hash,
	GuestMode::HashReal,
];
/// Those that can have a device in their address space.
const STORES: &[GuestMode] = &[GuestMode::Radix, GuestMode::Real, GuestMode::Hash];
const HASH: &[GuestMode] = &[GuestMode::Hash, GuestMode::HashReal];
/// Whose code is not in the part of the page table that a resize drops.
const HASH_REAL: &[GuestMode] = &[GuestMode::HashReal];
/// What can begin with any instruction.
const SIMPLE: &[GuestMode] = &[GuestMode::Radix, GuestMode::Real, GuestMode::HashReal];
/// With translation on.
const MAPPED: &[GuestMode] = &[GuestMode::Radix, GuestMode::Hash];
/// With translation on, and without and with the hash MMU.
const SLOTS: &[GuestMode] = &[GuestMode::Radix, GuestMode::HashReal];
/// One of each MMU. A hash guest with translation on makes an hcall for each page before it begins.
const QUICK: &[GuestMode] = &[GuestMode::Radix, GuestMode::HashReal];
const RADIX: &[GuestMode] = &[GuestMode::Radix];
const PATHS: &[Column] = &[Column::C, Column::RustFull, Column::RustFast];
const RUST: &[Column] = &[Column::RustFull, Column::RustFast];
const NONE: &[Column] = &[];

macro_rules! table {
	($(($name:literal, $guests:ident, $paths:ident, $place:expr, [$($also:ident),*], $body:expr),)*) => {
		/// The table.
		const ROWS: &[Row] = &[$(Row {
			name: $name,
			guests: $guests,
			paths: $paths,
			place: $place,
			also: &[$(Also::$also),*],
			#[cfg(target_arch = "powerpc64")]
			body: $body,
		}),*];
	};
}

#[cfg(target_arch = "powerpc64")]
use {
	crate::nmi::Kind,
	crate::registers::{decrementer, exits, hcall, one_reg, selfcheck, slb},
	crate::tce_hardware::{contend, contend::Meanwhile, counts, differential, translation},
	crate::{
		allocations, big_endian, checked, crypt, disturb, flush, forks, halt, hcalls, hostile_vmm,
		hotplug, interrupts, kexec, ksm, page_table, resets, shared_file, slots, soak, stats,
		stores, storms, tce, turns, user_regs, watchpoints, xics,
	},
	cases::case,
	std::time::Duration,
	vmm::kvm::Controller,
};

use Boot::{First, Hazards, Kexec, Nmi, Second, Smp, Soak, Timing};
use OnMachine::{ByGuest, On};

// The columns: name, guests, paths, machine, where besides, function.
table! {
	// Who answers an hcall, and with what.
	("probe-{guest}-c",                       ALL,    NONE,  ByGuest, [Next], |t| hcalls::probe_c(t.guest())),
	("probe-{guest}-{path}-null-off",         ALL,    RUST,  ByGuest, [Next], |t| hcalls::probe_rust(t.guest(), t.path(), false)),
	("probe-{guest}-{path}-null-on",          ALL,    RUST,  ByGuest, [Next], |t| hcalls::probe_rust(t.guest(), t.path(), true)),
	("set-mode-{guest}-{path}",               ALL,    PATHS, ByGuest, [],     |t| hcalls::set_mode(t.guest(), t.path())),
	("xics-{guest}",                          ALL,    NONE,  ByGuest, [Next, Checked], |t| xics::calls(t.guest())),
	("xics-diff-{guest}",                     ALL,    NONE,  ByGuest, [Next, Checked], |t| xics::differential(t.guest(), t.seed, t.amounts.part(t.amounts.tce_calls))),
	("xics-ipoll-other-{guest}-{path}",       GUESTS, PATHS, ByGuest, [], |t| xics::poll_other(t.guest(), t.path())),
	("xics-sources-{guest}",                  SLOTS,  NONE,  ByGuest, [Next, Checked], |t| xics::sources(t.guest())),
	("stores-{guest}",                        STORES, NONE,  ByGuest, [Next, Checked], |t| stores::stores(t.guest())),
	("disabled-null-{guest}-{path}",          ALL,    PATHS, ByGuest, [],     |t| hcalls::disabled(t.guest(), t.path())),
	("disabled-all-{guest}-{path}",           ALL,    PATHS, ByGuest, [Next], |t| hcalls::turned_off(t.guest(), t.path())),
	("switch-path-{guest}",                   ALL,    NONE,  ByGuest, [Checked],     |t| hcalls::switch_path(t.guest(), t.seed)),
	("fast-counted-{guest}",                  ALL,    NONE,  ByGuest, [Next], |t| hcalls::fast_counted(t.guest())),
	("big-endian-{guest}",                    SIMPLE, NONE,  ByGuest, [Next], |t| big_endian::compare(t.guest(), t.seed)),
	("pr-sc1-{path}-null",                    RADIX,  PATHS, On(Second), [Mitigations], |t| hcalls::problem_state(t.path(), case!("null"))),
	("pr-sc1-{path}-h_prod",                  RADIX,  PATHS, On(Second), [Mitigations], |t| hcalls::problem_state(t.path(), case!("h_prod"))),

	// What the tests rely on would be noticed.
	("selfcheck-code-{guest}",                GUESTS, NONE,  ByGuest, [Mitigations], |t| hcalls::selfcheck_code(t.guest())),
	("selfcheck-exception-{guest}",           GUESTS, NONE,  ByGuest, [Mitigations], |t| hcalls::selfcheck_exception(t.guest())),
	("selfcheck-registers-hcall-{guest}",     GUESTS, NONE,  ByGuest, [Mitigations], |t| hcall::selfcheck(t.guest(), t.seed)),
	("selfcheck-registers-exits-{guest}",     GUESTS, NONE,  ByGuest, [Mitigations], |t| selfcheck::exits(t.guest(), t.seed, hcall::c_path_cfar(t.guest())?)),

	// Registers of the guest.
	("registers-hcall-{guest}-{path}-null",   ALL,    PATHS, ByGuest, [Mitigations, Next], |t| hcall::survive(t.guest(), t.path(), case!("null"), t.seed, t.amounts.rounds)),
	("registers-hcall-{guest}-{path}-h_prod", ALL,    PATHS, ByGuest, [Mitigations, Next], |t| hcall::survive(t.guest(), t.path(), case!("h_prod"), t.seed, t.amounts.rounds)),
	("registers-hcall-{guest}-{path}-unknown", ALL,    PATHS, ByGuest, [Mitigations, Next], |t| hcall::survive(t.guest(), t.path(), case!("unknown"), t.seed, t.amounts.rounds)),
	("registers-hcall-{guest}-rust-fast-timed", ALL,    NONE, ByGuest, [Mitigations, Next], |t| hcall::survive_timed(t.guest(), t.seed, t.amounts.rounds)),
	("registers-exits-{guest}",               ALL,    NONE,  ByGuest, [],     |t| exits::compare(t.guest(), PATHS, None, t.seed, t.amounts.rounds, hcall::c_path_cfar(t.guest())?)),
	// The same with the vcpu's interrupt context loaded.
	("registers-exits-{guest}-xics",          MAPPED, NONE,  On(Second), [], |t| exits::compare(t.guest(), PATHS, Some(Controller::Xics), t.seed, t.amounts.rounds, hcall::c_path_cfar(t.guest())?)),
	("registers-exits-{guest}-xive",          MAPPED, NONE,  On(Second), [], |t| exits::compare(t.guest(), PATHS, Some(Controller::Xive), t.seed, t.amounts.rounds, hcall::c_path_cfar(t.guest())?)),
	("registers-exits-{guest}-timed",         ALL,    NONE,  ByGuest, [],     |t| exits::compare_timed(t.guest(), t.seed, t.amounts.rounds, hcall::c_path_cfar(t.guest())?)),
	("registers-exits-{guest}-migrate",       ALL,    NONE,  ByGuest, [Checked],     |t| exits::migrate(t.guest(), t.seed, t.amounts.rounds / 2, hcall::c_path_cfar(t.guest())?)),

	("registers-slb-private-{path}",          RADIX,  PATHS, On(Second), [], |t| slb::is_private(t.path())),
	("decrementer-expired-{guest}-{path}",    GUESTS, PATHS, ByGuest, [],     |t| decrementer::expired(t.guest(), t.path())),
	("decrementer-wakes-{guest}-{path}",      GUESTS, PATHS, ByGuest, [Next, Checked], |t| decrementer::wakes(t.guest(), Some(t.path()), t.seed, 60)),
	("decrementer-wakes-{guest}-switch",      GUESTS, NONE,  ByGuest, [Checked],     |t| decrementer::wakes(t.guest(), None, t.seed, 120)),
	("decrementer-clock-step-{path}",         RADIX,  PATHS, On(Second), [Next],     |t| decrementer::clock_step(t.guest(), t.path())),
	("registers-one-reg-{guest}-{path}",      ALL,    PATHS, ByGuest, [],     |t| one_reg::all(t.guest(), t.path(), t.seed)),

	// Registers of the process that calls KVM_RUN.
	("user-fp-{guest}-{path}",                GUESTS, PATHS, ByGuest, [NextRust], |t| user_regs::fp(t.guest(), t.path(), t.seed, t.amounts.part(60))),
	("user-regs-{guest}-{path}-idle",         GUESTS, PATHS, ByGuest, [],     |t| user_regs::kept(t.guest(), t.path(), false, t.seed)),
	("user-regs-{guest}-{path}-busy",         GUESTS, PATHS, ByGuest, [Checked],     |t| user_regs::kept(t.guest(), t.path(), true, t.seed)),

	// Storms of hcalls.
	("signal-storm-{guest}-{path}-null",      ALL,    PATHS, ByGuest, [Checked],     |t| storms::signal(t.guest(), t.path(), case!("null"), t.amounts.part(20))),
	("signal-storm-{guest}-{path}-h_prod",    GUESTS, PATHS, ByGuest, [],     |t| storms::signal(t.guest(), t.path(), case!("h_prod"), t.amounts.part(20))),
	("resched-storm-{guest}-{path}-null",     ALL,    PATHS, ByGuest, [Checked],     |t| storms::resched(t.guest(), t.path(), case!("null"), t.amounts.millis(600))),
	("resched-storm-{guest}-{path}-h_prod",   GUESTS, PATHS, ByGuest, [],     |t| storms::resched(t.guest(), t.path(), case!("h_prod"), t.amounts.millis(600))),

	// A light exit that becomes a full one.
	("flush-costs-{guest}",                   MAPPED, NONE,  ByGuest, [],     |t| flush::cost_of_leaving(t.guest())),

	// Halt polling.
	("halt-poll-wake-up",                     RADIX,  NONE,  On(First), [Next], |_| halt::wake_up()),
	("halt-poll-ends-{path}",                 RADIX,  RUST,  On(First), [],   |t| halt::ends(t.path())),

	// TCE tables.
	("tce-diff-{guest}",                      ALL,    NONE,  ByGuest, [Next, Checked], |t| tce::differential(t.guest(), t.seed, t.amounts.tce_calls)),
	("tce-lists-{guest}-{path}",              ALL,    PATHS, ByGuest, [Next, Checked], |t| tce::several_lists(t.guest(), t.path())),
	("tce-moving-list-{guest}-{path}",        ALL,    PATHS, ByGuest, [Checked],     |t| tce::moving_list(t.guest(), t.path())),
	("tce-closing-table-{guest}-{path}",      GUESTS, PATHS, ByGuest, [Checked],     |t| tce::closing_table(t.guest(), t.path())),

	// The page table of a hash guest.
	("hpt-allocate-{guest}",                  SLOTS,  NONE,  ByGuest, [Next, Checked], |t| page_table::allocation_fails(t.guest())),
	("hpt-bits-{guest}-{path}",               HASH,   PATHS, ByGuest, [Checked],     |t| page_table::bits(t.guest(), t.path())),
	("hpt-diff-{guest}-{path}",               HASH,   RUST,  ByGuest, [Checked],     |t| page_table::differential(t.guest(), t.path(), t.seed, t.amounts.hpt_calls)),

	// What kvm-p9 tells operators.
	("stats-times-{guest}",                   ALL,    NONE,  ByGuest, [Checked],     |t| stats::counted(t.guest())),
	("stats-light-times-{guest}",             RADIX,  NONE,  ByGuest, [],     |t| stats::light(t.guest())),
	("stats-cycles-{guest}",                  GUESTS, NONE,  ByGuest, [],     |t| stats::cycles(t.guest())),
	("stats-cycles-guest-pmu-{guest}",        GUESTS, NONE,  ByGuest, [],     |t| stats::guest_has_the_pmu(t.guest())),
	("stats-cycles-perf-{guest}",             GUESTS, NONE,  ByGuest, [],     |t| stats::perf_has_the_pmu(t.guest())),
	("stats-cycles-perf-comes-{guest}",       GUESTS, NONE,  ByGuest, [Checked],     |t| stats::perf_comes_and_goes(t.guest())),
	("stats-later-vcpu-{guest}",              GUESTS, NONE,  ByGuest, [],     |t| stats::later_vcpu(t.guest())),
	("stats-off-is-free-{guest}",             GUESTS, NONE,  ByGuest, [],     |t| stats::free(t.guest())),
	("stats-vms-{guest}",                     GUESTS, NONE,  ByGuest, [Checked],     |t| stats::by_vm(t.guest())),
	("trace-fast-hcall-{guest}",              GUESTS, NONE,  ByGuest, [Checked],     |t| stats::traced(t.guest())),

	// A VMM that means harm.
	("hostile-{path}",                        RADIX,  RUST,  On(First), [],   |t| hostile_vmm::differential(t.path(), t.seed, t.amounts.rounds / hostile_vmm::ROUNDS_OF_CASE)),

	// TCE tables that hardware follows.
	("tce-hw-dma-{path}",                     RADIX,  PATHS, On(First), [Checked],   |t| translation::translation(t.guest(), t.path())),
	("tce-hw-count-{path}",                   RADIX,  PATHS, On(First), [Checked],   |t| counts::counts(t.guest(), t.path())),
	("tce-hw-list-unmap-{path}",              RADIX,  PATHS, On(First), [],   |t| counts::list_unmaps(t.guest(), t.path())),
	("tce-hw-slot-end-{path}",                RADIX,  PATHS, On(First), [],   |t| translation::slot_end(t.guest(), t.path())),
	("tce-hw-diff-{path}",                    RADIX,  RUST,  On(First), [Checked],   |t| differential::differential(t.guest(), t.path(), t.seed, t.amounts.tce_calls / 4)),

	// On CPUs that run at the same time.
	("smp-tce-contend",                       RADIX,  NONE,  On(Smp), [Checked],     |t| soak::contend(t.guest(), t.seed, t.amounts.millis(8000))),
	("smp-tce-slots-{guest}-{path}",          SLOTS,  PATHS, On(Smp), [Checked],     |t| slots::storm(t.guest(), t.path(), t.seed, t.amounts.millis(5000))),
	("smp-hpt-hammer-{path}",                 HASH_REAL, PATHS, On(Smp), [Checked],  |t| page_table::hammer(t.guest(), t.path(), 2, t.seed, t.amounts.millis(12_000))),
	("smp-hpt-alone-{path}",                  HASH_REAL, PATHS, On(Smp), [Checked],  |t| page_table::hammer(t.guest(), t.path(), 1, t.seed, t.amounts.millis(6000))),
	("smp-tce-hw-contend-{path}",             RADIX,  PATHS, On(Smp), [Checked],     |t| contend::contend(t.path(), t.seed, Meanwhile::Registrations, t.amounts.millis(6000))),
	("smp-tce-hw-attach-{path}",              RADIX,  PATHS, On(Smp), [Checked],     |t| contend::contend(t.path(), t.seed, Meanwhile::Attachments, t.amounts.millis(6000))),
	("smp-tce-hw-remove-{path}",              RADIX,  PATHS, On(Smp), [Checked],     |t| contend::contend(t.path(), t.seed, Meanwhile::Removals, t.amounts.millis(6000))),
	("smp-prod-cede-{path}",                  RADIX,  PATHS, On(Smp), [Checked],     |t| turns::wake_each_other(t.path(), t.amounts.millis(4000), false)),
	("smp-xics-ipi-{path}",                   RADIX,  PATHS, On(Smp), [Checked],     |t| turns::wake_each_other(t.path(), t.amounts.millis(4000), true)),
	("smp-xics-release-{path}",               RADIX,  PATHS, On(Smp), [Checked],     |t| xics::release(t.path())),
	("smp-irq-closing",                       RADIX,  NONE,  On(Smp), [Checked],     |_| xics::closing()),
	("smp-sources-at-once",                   RADIX,  NONE,  On(Smp), [Checked],     |_| xics::sources_at_once()),
	("smp-halt-poll-turns-{path}",            RADIX,  RUST,  On(Smp), [Checked],     |t| halt::turns_while_polling(t.path(), t.amounts.millis(3000))),
	("smp-halt-poll-switch",                  RADIX,  NONE,  On(Smp), [Checked],     |t| halt::switch(t.seed, t.amounts.millis(5000))),
	("smp-disturb-{path}",                    RADIX,  PATHS, On(Smp), [Checked],     |t| disturb::registers(t.path(), t.seed, t.amounts.millis(6000))),
	("smp-forks-{path}",                      RADIX,  PATHS, On(Smp), [Checked],     |t| forks::registers(t.path(), t.seed, t.amounts.millis(6000))),
	("smp-interrupts-{path}",                 RADIX,  PATHS, On(Smp), [Checked],     |t| interrupts::registers(t.path(), t.seed, t.amounts.millis(6000))),
	("smp-watchpoint-{path}",                 RADIX,  PATHS, On(Smp), [Checked],     |t| watchpoints::registers(t.path(), t.seed, t.amounts.millis(6000))),
	("smp-soak",                              RADIX,  NONE,  On(Soak), [],    |t| soak::all(t.seed, Duration::from_secs(60 * t.amounts.soak_minutes))),
	("smp-soak-hpt-{path}",                   HASH_REAL, PATHS, On(Soak), [], |t| page_table::hammer(t.guest(), t.path(), 2, t.seed, Duration::from_secs(10 * t.amounts.soak_minutes))),

	// System resets and machine checks of the host.
	("nmi-registers-{guest}-null",             ALL,    NONE,  On(Nmi), [],     |t| resets::registers(Kind::SystemReset, t.guest(), Column::RustFast, case!("null"), t.seed)),
	("nmi-registers-{guest}-h_prod",           GUESTS, NONE,  On(Nmi), [],     |t| resets::registers(Kind::SystemReset, t.guest(), Column::RustFast, case!("h_prod"), t.seed)),
	("nmi-light-{guest}-h_prod",               HASH,   NONE,  On(Nmi), [],     |t| resets::registers(Kind::SystemReset, t.guest(), Column::RustFast, case!("h_prod"), t.seed)),
	("nmi-codes-{guest}-h_put_tce_indirect",   MAPPED, NONE,  On(Nmi), [],     |t| resets::codes(Kind::SystemReset, t.guest(), case!("h_put_tce_indirect_16"))),
	("nmi-codes-{guest}-h_enter",              HASH,   NONE,  On(Nmi), [],     |t| resets::codes(Kind::SystemReset, t.guest(), case!("h_enter_remove"))),
	("nmi-entry-{guest}-null",                 ALL,    NONE,  On(Nmi), [],     |t| resets::registers(Kind::SystemReset, t.guest(), Column::RustFull, case!("null"), t.seed)),
	("nmi-exit-{guest}-null",                  ALL,    NONE,  On(Nmi), [],     |t| resets::registers(Kind::SystemReset, t.guest(), Column::RustFull, case!("null"), t.seed)),
	("nmi-lost-{guest}-null",                  SIMPLE, NONE,  On(Nmi), [],     |t| resets::lost(Kind::SystemReset, t.guest(), case!("null"), t.seed)),
	("nmi-random-{guest}-compute",             MAPPED, NONE,  On(Nmi), [],     |t| resets::random(Kind::SystemReset, t.guest(), case!("decrementer"), 500)),
	("nmi-random-{guest}-null",                QUICK,  NONE,  On(Nmi), [],     |t| resets::random(Kind::SystemReset, t.guest(), case!("null"), 50000)),
	("nmi-random-{guest}-h_prod",              QUICK,  NONE,  On(Nmi), [],     |t| resets::random(Kind::SystemReset, t.guest(), case!("h_prod"), 10000)),
	("nmi-random-{guest}-h_put_tce_indirect",  QUICK,  NONE,  On(Nmi), [],     |t| resets::random(Kind::SystemReset, t.guest(), case!("h_put_tce_indirect_512"), 1000)),
	("mce-registers-{guest}-null",             ALL,    NONE,  On(Nmi), [],     |t| resets::registers(Kind::MachineCheck, t.guest(), Column::RustFast, case!("null"), t.seed)),
	("mce-light-{guest}-h_prod",               HASH,   NONE,  On(Nmi), [],     |t| resets::registers(Kind::MachineCheck, t.guest(), Column::RustFast, case!("h_prod"), t.seed)),
	("mce-entry-{guest}-null",                 ALL,    NONE,  On(Nmi), [],     |t| resets::registers(Kind::MachineCheck, t.guest(), Column::RustFull, case!("null"), t.seed)),
	("mce-exit-{guest}-null",                  ALL,    NONE,  On(Nmi), [],     |t| resets::registers(Kind::MachineCheck, t.guest(), Column::RustFull, case!("null"), t.seed)),
	("mce-lost-{guest}-null",                  SIMPLE, NONE,  On(Nmi), [],     |t| resets::lost(Kind::MachineCheck, t.guest(), case!("null"), t.seed)),

	// What the host does beside a guest, on a kernel that can do it.
	("smp-hotplug-{path}",                    RADIX,  PATHS, On(Hazards), [], |t| hotplug::registers(t.path(), t.seed, t.amounts.millis(12_000))),
	("smp-crypt-{path}",                      RADIX,  PATHS, On(Hazards), [], |t| crypt::registers(t.path(), t.seed, t.amounts.millis(12_000))),
	("smp-ksm-{path}",                        RADIX,  PATHS, On(Hazards), [], |t| ksm::registers(t.path(), t.seed, t.amounts.millis(12_000))),

	// Another kernel takes over. What follows runs on that kernel.
	("kexec-{path}",                          RADIX,  PATHS, On(Kexec), [],   |t| kexec::leave(t.name(), t.path(), kexec::End::Kexec, t.seed)),
	("crash-reset-{path}",                    RADIX,  PATHS, On(Kexec), [],   |t| kexec::leave(t.name(), t.path(), kexec::End::SystemReset, t.seed)),
	("crash-{path}",                          RADIX,  PATHS, On(Kexec), [],   |t| kexec::leave(t.name(), t.path(), kexec::End::Panic, t.seed)),

	// A kernel that checks itself, and has a RAM disk.
	("shared-file-{path}",                    RADIX,  PATHS, On(Boot::Debug), [], |t| shared_file::stores(t.guest(), t.path())),
	// On a kernel that injects faults.
	("failing-allocations-{guest}-{path}",     SIMPLE, PATHS, On(Boot::Debug), [], |t| allocations::fail(t.guest(), t.path())),
	// The last of a machine whose kernel checks itself.
	("no-report-since-boot",                  RADIX,  NONE,  On(Boot::Debug), [], |_| checked::no_report_since_boot()),
	("no-kasan-report-since-boot",            RADIX,  NONE,  On(Boot::Debug), [], |_| checked::no_kasan_report_since_boot()),

	// The kernel's own account of where time goes.
	("timings-{guest}",                       GUESTS, NONE,  On(Timing), [],  |t| stats::timings(t.guest())),
}

/// A test: a row with one of its guests and paths.
pub struct Test {
	/// Its name.
	pub name: String,
	/// The machine that runs it.
	pub boot: Boot,
	row: &'static Row,
	guest: GuestMode,
	path: Option<Column>,
}

impl Test {
	/// Is it run there, too?
	pub fn is_also(&self, also: Also) -> bool {
		match also {
			Also::Mitigations => self.row.also.contains(&also),
			Also::Checked => {
				let path = matches!(self.path, None | Some(Column::RustFast));
				self.row.also.contains(&also) && path
			}
			Also::Next | Also::NextRust => {
				let rust = matches!(self.path, Some(Column::RustFull | Column::RustFast));
				self.guest == GuestMode::Radix
					&& (self.row.also.contains(&Also::Next)
						|| self.row.also.contains(&Also::NextRust) && rust)
			}
		}
	}

	/// Runs it.
	#[cfg(target_arch = "powerpc64")]
	pub(crate) fn run(&self, seed: u64, amounts: crate::job::Amounts) -> crate::common::Verdict {
		(self.row.body)(&TestRun {
			name: &self.name,
			guest: self.guest,
			path: self.path,
			seed,
			amounts,
		})
	}
}

/// What a test's function is told.
#[cfg(target_arch = "powerpc64")]
struct TestRun<'a> {
	name: &'a str,
	guest: GuestMode,
	path: Option<Column>,
	seed: u64,
	amounts: crate::job::Amounts,
}

#[cfg(target_arch = "powerpc64")]
impl TestRun<'_> {
	fn name(&self) -> &str {
		self.name
	}

	fn guest(&self) -> GuestMode {
		self.guest
	}

	fn path(&self) -> Column {
		self.path.expect("the row has paths")
	}
}

impl Row {
	fn test(&'static self, guest: GuestMode, path: Option<Column>) -> Test {
		let name = self.name.replace("{guest}", guest.name());
		Test {
			name: match path {
				Some(path) => name.replace("{path}", path.name()),
				None => name,
			},
			boot: match self.place {
				OnMachine::On(boot) => boot,
				OnMachine::ByGuest if guest == GuestMode::Radix => Boot::First,
				OnMachine::ByGuest => Boot::Second,
			},
			row: self,
			guest,
			path,
		}
	}
}

/// All tests, in the order in which a machine runs its own.
pub fn tests() -> Vec<Test> {
	let mut tests = vec![];
	for row in ROWS {
		for &guest in row.guests {
			if row.paths.is_empty() {
				tests.push(row.test(guest, None));
			}
			tests.extend(row.paths.iter().map(|&path| row.test(guest, Some(path))));
		}
	}
	tests
}

#[cfg(test)]
mod tests {
	use super::*;
	use std::collections::BTreeSet;
	use std::fmt::Write;

	/// The tests, as `ci/booted-tests` has them.
	fn list() -> String {
		let mut text = String::from(
			"# SPDX-License-Identifier: GPL-2.0-only\n\
			 # Every booted test, after the machine that runs it: an extract of the table in\n\
			 # ci/booted/src/registry.rs. After a change of the table:\n\
			 # BLESS=1 cargo test --package kvm-p9-booted\n",
		);
		let tests = super::tests();
		for boot in Boot::ALL {
			for test in tests.iter().filter(|test| test.boot == boot) {
				write!(text, "{} {}", boot.name(), test.name).unwrap();
				for also in [Also::Mitigations, Also::Next, Also::Checked] {
					if test.is_also(also) {
						write!(text, " +{}", format!("{also:?}").to_lowercase()).unwrap();
					}
				}
				text.push('\n');
			}
		}
		text
	}

	#[test]
	fn the_list_is_the_tables() {
		let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../booted-tests");
		let list = list();
		if std::env::var_os("BLESS").is_some() {
			std::fs::write(file, &list).unwrap();
		}
		let found = std::fs::read_to_string(file).unwrap();
		let lines = |text: &str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
		let (found_lines, lines) = (lines(&found), lines(&list));
		let lost: Vec<_> = found_lines.difference(&lines).collect();
		let new: Vec<_> = lines.difference(&found_lines).collect();
		assert!(
			found == list,
			"the table and ci/booted-tests differ; the table lacks {lost:#?} and has {new:#?}; \
			 BLESS=1 writes the list anew"
		);
	}

	#[test]
	fn every_test_has_a_name_of_its_own() {
		let mut seen = BTreeSet::new();
		for test in super::tests() {
			assert!(!test.name.contains(['{', '}']), "{}", test.name);
			assert!(seen.insert(test.name.clone()), "{} twice", test.name);
		}
	}

	#[test]
	fn every_machine_has_tests() {
		let tests = super::tests();
		for boot in Boot::ALL {
			assert!(
				tests.iter().any(|test| test.boot == boot),
				"{}",
				boot.name()
			);
		}
		for also in [Also::Mitigations, Also::Next, Also::Checked] {
			assert!(tests.iter().any(|test| test.is_also(also)), "{also:?}");
		}
	}

	#[test]
	fn the_next_series_gets_radix_guests_only() {
		let next: Vec<_> = super::tests()
			.into_iter()
			.filter(|test| test.is_also(Also::Next))
			.collect();
		assert!(next.iter().all(|test| test.guest == GuestMode::Radix));
		assert!(
			next.iter()
				.any(|test| test.name == "user-fp-radix-rust-full")
		);
		assert!(!next.iter().any(|test| test.name == "user-fp-radix-c"));
	}
}
