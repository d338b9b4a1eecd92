// SPDX-License-Identifier: GPL-2.0-only
//! Which registers host and guest have, by the rows of the SPRs, and a machine with values in them.

use powerpc::{Lpcr, Spr};

use super::fake_cpu::*;
use crate::switch::{self, Context, hfscr};

/// What the rows say of a register that is switched.
pub(super) struct Row {
	pub(super) spr: Spr,
	group: Group,
	/// How wide the guest's value is kept.
	width: u32,
	when: When,
	host: Host,
	checkpointed: bool,
	guest: fn(&Context) -> u64,
	set_guest: fn(&Context, u64),
	/// Sets what the kernel keeps of the host's value, if it does.
	set_host: fn(&Context, u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Group {
	User,
	Supervisor,
	Debug,
	GuestOnly,
	Interrupt,
	Transactions,
}

#[allow(non_camel_case_types)] // As in the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
	always,
	ebb,
	tm,
	dawr,
}

#[allow(non_camel_case_types)] // As in the rows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Host {
	register,
	task,
	paca,
	zero,
	dont_care,
}

macro_rules! is_there {
	() => {
		false
	};
	($mark:ident) => {
		true
	};
}

macro_rules! set_host {
	(task, $set:ident) => {
		|context, value| context.task.$set(value)
	};
	(paca, $set:ident) => {
		|context, value| context.paca.$set(value)
	};
	($elsewhere:ident, $set:ident) => {
		|_, _| ()
	};
}

macro_rules! rows {
	($($(#[$group_doc:meta])* $group:ident {
		$(
			$(#[$doc:meta])*
			$name:ident / $set:ident: $spr:ident = $number:literal,
				$home:ident($($member:tt)*) as $width:ident, $when:ident,
				$host:ident $(($($kept:tt)*))? $(+ $checkpointed:ident)?
				$(, guest($mask:expr $(, problem state $problem:literal)?))?;
		)*
	})*) => {
		/// Every register that is switched.
		pub(super) const ROWS: &[Row] = &[$($(Row {
			spr: Spr::$spr,
			group: Group::$group,
			width: $width::BITS,
			when: When::$when,
			host: Host::$host,
			checkpointed: is_there!($($checkpointed)?),
			guest: |context| context.$home.$name().into(),
			set_guest: |context, value| context.$home.$set(value as $width),
			set_host: set_host!($host, $set),
		},)*)*];
	};
}
powerpc::switched_sprs!(rows);

/// Registers without a row that the guest may change, and the host must have back.
const RULED_HOST: [Spr; 8] = [
	Spr::HFSCR,
	Spr::PIDR,
	Spr::LPIDR,
	Spr::LPCR,
	Spr::PSSCR,
	Spr::CTRLT,
	Spr::DPDES,
	Spr::PCR,
];

/// Registers without a row that a guest writes itself, with how wide the vcpu keeps them.
const RULED_GUEST: [(Spr, u32); 3] = [(Spr::CTRLT, 1), (Spr::PIDR, 32), (Spr::PSSCR_PR, 64)];

/// What the guest may change and the host must have back. The host's values are
/// spread over these; the task and the PACA have them too, where the rows say so.
pub(super) fn host_sprs() -> Vec<Spr> {
	let rows = |paca| {
		let kept = ROWS.iter().filter(|row| row.host != Host::dont_care);
		kept.filter(move |row| (row.host == Host::paca) == paca)
			.map(|row| row.spr)
	};
	rows(false).chain(RULED_HOST).chain(rows(true)).collect()
}

/// What the vcpu keeps, but for SRR1: that has an MSR that a guest can have.
pub(super) fn vcpu_sprs() -> Vec<Spr> {
	let rows = ROWS.iter().map(|row| row.spr);
	let ruled = RULED_GUEST.map(|(spr, _)| spr);
	rows.filter(|spr| *spr != Spr::SRR1).chain(ruled).collect()
}

/// What a guest writes itself, with how wide the vcpu keeps it.
pub(super) fn guest_sprs() -> Vec<(Spr, u32)> {
	let rows = ROWS
		.iter()
		.filter(|row| row.group != Group::Debug && ![Spr::SRR1, Spr::VTB].contains(&row.spr));
	let rows = rows.map(|row| (row.spr, row.width));
	rows.chain(RULED_GUEST).collect()
}

/// What of these the kernel's `__kvmppc_restore_tm` and `__kvmppc_save_tm` leave as the
/// checkpoint has it.
pub(super) fn checkpointed_sprs() -> Vec<Spr> {
	let rows = ROWS.iter().filter(|row| row.checkpointed);
	rows.map(|row| row.spr).collect()
}

/// What a light exit must leave as it finds it, the host's MMU context apart.
pub(super) fn untouched_sprs() -> Vec<Spr> {
	let rows = ROWS
		.iter()
		.filter(|row| row.group != Group::Interrupt && ![Spr::AMR, Spr::IAMR].contains(&row.spr));
	let ruled = [Spr::HFSCR, Spr::PSSCR_PR, Spr::CTRLT, Spr::DPDES, Spr::PCR];
	rows.map(|row| row.spr).chain(ruled).collect()
}

fn row(spr: Spr) -> Option<&'static Row> {
	ROWS.iter().find(|row| row.spr == spr)
}

/// The guest's value, as the vcpu or its vcore keeps it.
pub(super) fn in_vcpu(context: &Context, spr: Spr) -> u64 {
	let vcpu = context.vcpu;
	match spr {
		Spr::CTRLT => vcpu.ctrl().into(),
		Spr::PIDR => vcpu.pid().into(),
		Spr::PSSCR_PR => vcpu.psscr(),
		other => match row(other) {
			Some(row) => (row.guest)(context),
			None => panic!("{other:?} is not in the vcpu"),
		},
	}
}

fn set_in_vcpu(context: &Context, spr: Spr, value: u64) {
	let vcpu = context.vcpu;
	match spr {
		Spr::CTRLT => vcpu.set_ctrl(value as u32 & 1),
		Spr::PIDR => vcpu.set_pid(value as u32),
		Spr::PSSCR_PR => vcpu.set_psscr(value & 0x8000_0000_0000_00ff),
		other => match row(other) {
			Some(row) => (row.set_guest)(context, value),
			None => panic!("{other:?} is not in the vcpu"),
		},
	}
}

/// A machine with these values in the host's SPRs, the vcpu and the guest's mind: of
/// [`host_sprs`], [`vcpu_sprs`] and [`guest_sprs`].
pub(super) fn machine(
	host: &[u64],
	vcpu_values: &[u64],
	guest: &[u64],
	facilities: u64,
) -> Machine {
	let mut m = Machine::new();
	for (spr, value) in host_sprs().into_iter().zip(host) {
		m.set(spr, *value);
	}
	let context = m.context;
	// Values that the host has by its own rules.
	for row in ROWS.iter().filter(|row| row.host == Host::zero) {
		m.set(row.spr, 0);
	}
	m.set(Spr::DPDES, 0);
	m.set(Spr::CTRLT, 1);
	m.set(Spr::PCR, switch::PCR_MASK);
	m.set(Spr::PIDR, m.spr(Spr::PIDR) & 0xffff_ffff);
	m.set(Spr::VRSAVE, m.spr(Spr::VRSAVE) & 0xffff_ffff);
	m.set(Spr::PSSCR, m.spr(Spr::PSSCR) & !(1 << 10));
	context.kvm.set_host_lpid(m.spr(Spr::LPIDR) as u32);
	m.set(Spr::LPIDR, context.kvm.host_lpid().into());
	// The host is radix.
	m.set(Spr::LPCR, m.spr(Spr::LPCR) | (Lpcr::HR | Lpcr::UPRT).bits());
	context.kvm.set_host_lpcr(m.spr(Spr::LPCR));
	context.kvm.set_lpid(7);
	for row in ROWS {
		(row.set_host)(&context, m.spr(row.spr));
	}

	for (spr, value) in vcpu_sprs().into_iter().zip(vcpu_values) {
		set_in_vcpu(&context, spr, *value);
	}
	context.vcpu.set_hfscr(facilities);

	for ((spr, width), value) in guest_sprs().into_iter().zip(guest) {
		m.guest_writes.insert(spr.0, value & !0 >> (64 - width));
	}
	m.guest_writes.insert(Spr::SRR1.0, GUEST_MSR.bits());
	m
}

/// [`machine`] with one value in each of the host's, the vcpu's and the guest's.
pub(super) fn uniform([host, vcpu, guest]: [u64; 3], facilities: u64) -> Machine {
	machine(
		&vec![host; host_sprs().len()],
		&vec![vcpu; vcpu_sprs().len()],
		&vec![guest; guest_sprs().len()],
		facilities,
	)
}

/// The order in which journals number the values of the vcpu and of the guest. The journals were
/// reviewed with these values. A register that is not here has its number and 0x1000, so that
/// a new row changes no value of the others.
const NUMBERED: [Spr; 30] = [
	Spr::TAR,
	Spr::VRSAVE,
	Spr::EBBHR,
	Spr::EBBRR,
	Spr::BESCR,
	Spr::TIDR,
	Spr::FSCR,
	Spr::DSCR,
	Spr::PSPB,
	Spr::IAMR,
	Spr::AMR,
	Spr::UAMOR,
	Spr::CTRLT,
	Spr::PIDR,
	Spr::PSSCR_PR,
	Spr::SPRG0,
	Spr::SPRG1,
	Spr::SPRG2,
	Spr::SPRG3,
	Spr::DAR,
	Spr::DSISR,
	Spr::SRR0,
	Spr::TEXASR,
	Spr::TFHAR,
	Spr::TFIAR,
	Spr::CIABR,
	Spr::DAWR0,
	Spr::DAWRX0,
	Spr::VTB,
	Spr::IC,
];

/// [`machine`] with a value for each register that tells which register the value is of.
pub(super) fn distinct(facilities: u64) -> Machine {
	let value = |first: u64, spr: Spr| match NUMBERED.iter().position(|one| *one == spr) {
		Some(position) => first + position as u64,
		None => 0x1000 + u64::from(spr.0),
	};
	let mut numbers = 0x100..;
	let host = host_sprs().into_iter().map(|spr| {
		let numbered = NUMBERED.contains(&spr) || RULED_HOST.contains(&spr);
		let number = numbered.then(|| numbers.next()).flatten();
		number.unwrap_or(0x1000 + u64::from(spr.0))
	});
	let vcpu = vcpu_sprs().into_iter().map(|spr| value(0x118, spr));
	let guest = guest_sprs().into_iter().map(|(spr, _)| value(0x100, spr));
	machine(
		&host.collect::<Vec<_>>(),
		&vcpu.collect::<Vec<_>>(),
		&guest.collect::<Vec<_>>(),
		facilities,
	)
}

/// Is `spr` switched at all with these facilities?
pub(super) fn switched(spr: Spr, facilities: u64, dawr: bool, assist: bool) -> bool {
	match row(spr).map(|row| row.when) {
		Some(When::ebb) => facilities & hfscr::EBB != 0,
		Some(When::tm) => assist && facilities & hfscr::TM != 0,
		Some(When::dawr) => dawr,
		Some(When::always) | None => true,
	}
}
