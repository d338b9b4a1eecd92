// SPDX-License-Identifier: GPL-2.0-only
//! Handlers in the table of fast handlers that make a light exit.
//!
//! The trampoline leaves them two arguments more: r4 is SRR1, and r5 is SRR0.

use core::ptr::NonNull;

use hcall::{Code, FastTable, Handler, Number};
use powerpc::{Counters, LightCounter, P9Vcpu, SpanKind};

use crate::entry_point::{paca, vcpu_of};
use crate::fast::enabled::if_enabled;
use crate::light::{self, Structures};
use crate::power9::{Power9, light_registers, pointer};
use crate::switch::{Kernel, trap};
use crate::timing::pmu;
use crate::views::{KvmView, VcoreView, VcpuView};

// SAFETY: a function of the glue with this type (kvm_p9_light.h).
unsafe extern "C" {
	fn kvm_p9_light_hcall(vcpu: *mut u8) -> i64;
}

type Light = unsafe extern "C" fn(NonNull<P9Vcpu>, u64, u64) -> Code;

/// A light handler as the table has it.
const fn handler(light: Light) -> Handler {
	// SAFETY: only the trampoline calls what is in the table, and has the further arguments
	// in their registers.
	unsafe { core::mem::transmute::<Light, Handler>(light) }
}

/// Two functions that make a table with the handlers of module `$handlers`.
macro_rules! tables {
	($handlers:ident: $with:ident, $without_exit:ident) => {
		/// The table with light handlers. The hcalls of XICS have fast handlers; if the table has none of
		/// them, C answers in a light exit.
		pub(crate) const fn $with(table: FastTable) -> FastTable {
			table
				.with(Number::CEDE, handler($handlers::h_cede))
				.with(Number::PROD, handler($handlers::h_prod))
				.with(Number::CONFER, handler($handlers::h_confer))
				.or(Number::CPPR, handler($handlers::h_cppr))
				.or(Number::EOI, handler($handlers::h_eoi))
				.or(Number::IPI, handler($handlers::h_ipi))
				.or(Number::IPOLL, handler($handlers::h_ipoll))
				.or(Number::XIRR, handler($handlers::h_xirr))
				.or(Number::XIRR_X, handler($handlers::h_xirr_x))
				.with(
					Number::LOGICAL_CI_LOAD,
					handler($handlers::h_logical_ci_load),
				)
				.with(
					Number::LOGICAL_CI_STORE,
					handler($handlers::h_logical_ci_store),
				)
				.with(Number::RANDOM, handler($handlers::h_random))
				.with(Number::SET_MODE, handler($handlers::h_set_mode))
		}

		/// The table with handlers that call nothing. They also run in real mode, for hash guests. What they
		/// leave can be a light exit, which `switch::run` makes.
		pub(crate) const fn $without_exit(table: FastTable) -> FastTable {
			table
				.with(Number::CEDE, handler($handlers::h_cede))
				.with(Number::PROD, handler($handlers::h_prod_or_full))
				.with(Number::RANDOM, handler($handlers::h_random_or_full))
				.with(Number::SET_MODE, handler($handlers::h_set_mode))
		}
	};
}

tables!(untimed: with, without_exit);
tables!(timed: timed_with, timed_without_exit);

macro_rules! handlers {
	($($name:ident: $number:ident = $function:ident;)*) => {
		mod untimed {
			use super::*;

			$(
				/// The handler of that hcall, if userspace lets the kernel handle it.
				///
				/// # Safety
				///
				/// As for any handler in the table.
				// The timed one calls it.
				#[inline(never)]
				pub(super) unsafe extern "C" fn $name(p9: NonNull<P9Vcpu>, srr1: u64, srr0: u64) -> Code {
					// SAFETY: the trampoline calls this, as `$function` requires.
					unsafe {
						if_enabled::<{ Number::$number.0 }>(p9, || $function(p9, srr1, srr0))
					}
				}
			)*
		}

		mod timed {
			use super::*;
			use crate::fast::timed::run;

			$(
				/// The same handler, timed.
				///
				/// # Safety
				///
				/// As for any handler in the table.
				pub(super) unsafe extern "C" fn $name(p9: NonNull<P9Vcpu>, srr1: u64, srr0: u64) -> Code {
					// SAFETY: the trampoline calls this as it calls the other.
					unsafe {
						run(
							p9,
							SpanKind::LightHcall,
							Number::$number,
							|| untimed::$name(p9, srr1, srr0),
						)
					}
				}
			)*
		}
	};
}

handlers! {
	h_cede: CEDE = cede;
	h_confer: CONFER = any;
	h_cppr: CPPR = any;
	h_eoi: EOI = any;
	h_ipi: IPI = any;
	h_ipoll: IPOLL = any;
	h_logical_ci_load: LOGICAL_CI_LOAD = any;
	h_logical_ci_store: LOGICAL_CI_STORE = any;
	h_prod: PROD = prod;
	h_prod_or_full: PROD = prod_or_full;
	h_random: RANDOM = random_or_any;
	h_random_or_full: RANDOM = random_or_full;
	h_set_mode: SET_MODE = set_mode;
	h_xirr: XIRR = any;
	h_xirr_x: XIRR_X = any;
}

/// The counters of this CPU.
#[inline(always)]
fn this_cpu(own: &P9Vcpu) -> Option<&Counters> {
	// SAFETY: set at the full entry, on this CPU, and per-CPU memory stays.
	unsafe { own.light.counters.get().as_ref() }
}

/// Counts on this CPU.
#[inline(always)]
pub(crate) fn count(own: &P9Vcpu, which: LightCounter) {
	if let Some(counters) = this_cpu(own)
		&& let Some(counter) = counters.light.get(which as usize)
	{
		counter.add(1);
	}
}

/// Says why the exit that is under way becomes a full one, for the end of the exit.
#[inline(always)]
pub(crate) fn refuse(own: &P9Vcpu, why: LightCounter) {
	if let Some(counters) = this_cpu(own) {
		counters.reason.set(why as u64);
	}
}

/// H_CEDE of a vcpu that has work.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn cede(p9: NonNull<P9Vcpu>, srr1: u64, _: u64) -> Code {
	// SAFETY: the caller's word.
	let (own, vcpu) = unsafe { (p9.as_ref(), vcpu_of(p9)) };
	let mut power9 = Power9::for_handler(paca());
	// SAFETY: the trampoline returns to the guest by HSRR0 and HSRR1.
	if unsafe { light::cede(&mut power9, vcpu, own.light.lpcr.get(), srr1) } {
		count(own, LightCounter::Cede);
		Code::SUCCESS
	} else {
		refuse(own, LightCounter::FullCede);
		Code::TOO_HARD
	}
}

/// H_PROD for the same vcpu as the last time, if that is awake. Others go to C, which looks for
/// the vcpu, and wakes it.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn prod(p9: NonNull<P9Vcpu>, srr1: u64, srr0: u64) -> Code {
	// SAFETY: the caller's word. To set the flag again does no harm.
	unsafe {
		match prod_awake(p9) {
			true => Code::SUCCESS,
			false => any(p9, srr1, srr0),
		}
	}
}

/// H_PROD for the same vcpu as the last time, if that is awake.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn prod_or_full(p9: NonNull<P9Vcpu>, _: u64, _: u64) -> Code {
	// SAFETY: the caller's word.
	match unsafe { prod_awake(p9) } {
		true => Code::SUCCESS,
		false => Code::TOO_HARD,
	}
}

/// Prods the vcpu, if it is the same as the last time. Returns whether there is no more to do. A
/// vcpu is in the linear map.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn prod_awake(p9: NonNull<P9Vcpu>) -> bool {
	// SAFETY: the caller's word.
	let (own, caller) = unsafe { (p9.as_ref(), vcpu_of(p9)) };
	if let Some(target) = NonNull::new(own.light.prod_vcpu.get().cast_mut())
		&& own.light.prod_id.get() == caller.gpr4()
	{
		let mut power9 = Power9::for_handler(paca());
		// SAFETY: C found it among the VM's vcpus, which all stay as long as the VM. The two
		// fields are for other vcpus, too.
		if light::prod(&mut power9, unsafe { VcpuView::new(target.cast()) }) {
			count(own, LightCounter::Prod);
			return true;
		}
	}
	false
}

/// What `darn` answers if there is no random number.
const NO_NUMBER: u64 = u64::MAX;

/// H_RANDOM: a conditioned number of the CPU's own generator, as `arch_get_random_seed_longs()`
/// takes it on a POWER9.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn random_or_any(p9: NonNull<P9Vcpu>, srr1: u64, srr0: u64) -> Code {
	// SAFETY: the caller's word.
	unsafe {
		match random(p9) {
			true => Code::SUCCESS,
			false => any(p9, srr1, srr0),
		}
	}
}

/// H_RANDOM; without a number on the full path.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn random_or_full(p9: NonNull<P9Vcpu>, _: u64, _: u64) -> Code {
	// SAFETY: the caller's word.
	match unsafe { random(p9) } {
		true => Code::SUCCESS,
		false => Code::TOO_HARD,
	}
}

/// Answers H_RANDOM, unless there is no number.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn random(p9: NonNull<P9Vcpu>) -> bool {
	let value: u64;
	// SAFETY: every POWER9 has the instruction, which changes no more than a register. L=1 asks
	// for a conditioned number (Power ISA 3.0B, Book I, 3.3.9).
	unsafe { core::arch::asm!("darn {}, 1", out(reg) value, options(nomem, nostack)) };
	if value == NO_NUMBER {
		return false;
	}
	// SAFETY: the caller's word.
	let (own, caller) = unsafe { (p9.as_ref(), vcpu_of(p9)) };
	caller.set_gpr4(value);
	count(own, LightCounter::Random);
	true
}

/// H_SET_MODE for CIABR, which a debugger in the guest sets with each switch of tasks, and for DAWR where no
/// guest may set it, as on a POWER9 by default.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(always)]
unsafe fn set_mode(p9: NonNull<P9Vcpu>, _: u64, _: u64) -> Code {
	// SAFETY: the caller's word; a vcpu's vcore lives as long as the vcpu.
	let (own, vcpu, vcore) = unsafe {
		let vcpu = vcpu_of(p9);
		let vcore = VcoreView::new(NonNull::new_unchecked(vcpu.vcore() as *mut u8));
		(p9.as_ref(), vcpu, vcore)
	};
	let mut power9 = Power9::for_handler(paca());
	match light::set_mode(&mut power9, vcpu, vcore, Power9::dawr_enabled) {
		Some(code) => {
			count(own, LightCounter::SetMode);
			code
		}
		None => {
			refuse(own, LightCounter::FullHcall);
			Code::TOO_HARD
		}
	}
}

/// An hcall that C answers in a light exit.
///
/// # Safety
///
/// As for any handler in the table.
#[inline(never)]
unsafe extern "C" fn any(p9: NonNull<P9Vcpu>, srr1: u64, srr0: u64) -> Code {
	// SAFETY: the caller's word.
	let (own, vcpu) = unsafe { (p9.as_ref(), vcpu_of(p9)) };
	let paca = paca();
	let mut power9 = Power9::for_handler(paca);
	if !pmu::nobody_has_the_pmu(vcpu, paca) {
		refuse(own, LightCounter::FullPmu);
		return Code::TOO_HARD;
	}
	let registers = light_registers(own);
	// SAFETY: a vcpu's VM and vcore live as long as the vcpu. The trampoline has turned the
	// MMU on. The table is a radix guest's, and was set by the entry that set `registers`.
	unsafe {
		let structures = Structures {
			vcore: VcoreView::new(NonNull::new_unchecked(vcpu.vcore() as *mut u8)),
			kvm: KvmView::new(NonNull::new_unchecked(vcpu.kvm() as *mut u8)),
			paca,
		};
		let area = power9.exception_area(trap::SYSCALL);
		let body = |_: &mut Power9| kvm_p9_light_hcall(pointer(vcpu));
		Code(light::hcall(
			&mut power9,
			structures,
			registers,
			area,
			(srr0, srr1),
			body,
		))
	}
}
