// SPDX-License-Identifier: GPL-2.0-only
//! The hcalls, and their fast handlers.
//!
//! C counts each hcall in the statistics of the vcpu, with any answer. So does each body here, unless C
//! has to answer.

use core::sync::atomic::AtomicU32;

use hcall::Code;

use super::{
	Bus, Cursor, DUMMY, IPI, MASKED, MOST, Presenter, Scan, TooHard, end, eoi_page,
	priority_from_guest, trigger, try_lock,
};
use crate::layout::kernel as layout;
use crate::views::SourceView;

/// The interrupt number, and the CPPR in the upper byte.
#[inline(always)]
fn xirr_of(irq: u32, cppr: u8) -> u64 {
	(irq | u32::from(cppr) << 24).into()
}

/// H_XIRR: accepts an interrupt. Returns r4: the interrupt and the CPPR before it.
#[inline(always)]
pub fn xirr<B: Bus>(presenter: &Presenter<'_, B>) -> Result<u64, TooHard> {
	let own = presenter.own;
	presenter.acknowledge();
	let cppr = own.cppr();
	let irq = presenter.scan(own.pending(), Scan::Fetch)?;
	own.set_stat_xirr(own.stat_xirr().wrapping_add(1));
	Ok(xirr_of(irq, cppr))
}

/// H_XIRR_X: the same, with the timebase for r5.
#[inline(always)]
pub fn xirr_x<B: Bus>(presenter: &Presenter<'_, B>) -> Result<(u64, u64), TooHard> {
	Ok((xirr(presenter)?, presenter.bus.timebase()))
}

/// Has the source send the next interrupt. A masked source only remembers that the guest has ended
/// this one.
#[inline(always)]
fn end_at_source<B: Bus>(
	presenter: &Presenter<'_, B>,
	source: SourceView,
	lock: &AtomicU32,
) -> Result<(), TooHard> {
	if source.priority() == MASKED {
		let _lock = try_lock(presenter.bus, lock)?;
		if source.priority() != MASKED {
			// It was unmasked meanwhile.
			return Err(TooHard);
		}
		// So that an EOI is made when it is unmasked.
		source.set_old_p(0);
		return Ok(());
	}
	let esb = source.esb().ok_or(TooHard)?;
	let page = eoi_page(presenter.bus, esb).ok_or(TooHard)?;
	end(presenter.bus, esb, page);
	if source.lsi() != 0 && source.asserted() != 0 {
		trigger(presenter.bus, esb);
	}
	Ok(())
}

/// H_EOI: ends an interrupt, and sets the CPPR, which is in the upper byte.
#[inline(always)]
pub fn eoi<B: Bus>(presenter: &Presenter<'_, B>, xirr: u64) -> Result<Code, TooHard> {
	let own = presenter.own;
	let cppr = priority_from_guest((xirr >> 24) as u8);
	let irq = xirr as u32 & 0xff_ffff;
	let mut code = Code::SUCCESS;
	let source = match irq {
		// An IPI is the MFRR; what told of it was ended when it was accepted.
		0 | IPI => None,
		_ => {
			let source = presenter.source(irq);
			if source.is_none() {
				code = Code::PARAMETER;
			}
			source
		}
	};
	if let Some((source, lock)) = source {
		source.set_in_eoi(1);
		// The CPU that masks the source sees `in_eoi`, or this hcall sees that the source is masked.
		presenter.bus.sync();
		if let Err(TooHard) = end_at_source(presenter, source, lock) {
			source.set_in_eoi(0);
			return Err(TooHard);
		}
	}
	own.set_stat_eoi(own.stat_eoi().wrapping_add(1));
	own.set_cppr(cppr);
	// Between the CPPR and the MFRR below, as in H_IPI. Also, what was stored to and loaded from the
	// source is complete before `in_eoi` says so.
	presenter.bus.sync();
	if let Some((source, _)) = source {
		source.set_in_eoi(0);
	}
	presenter.scan(own.pending(), Scan::Eoi)?;
	presenter.push_pending();
	presenter.write_cppr(cppr);
	Ok(code)
}

/// H_IPI: sets the MFRR of a vcpu, and tells the vcpu of it if its CPPR lets it through.
#[inline(always)]
pub fn ipi<B: Bus>(presenter: &Presenter<'_, B>, server: u64, mfrr: u64) -> Result<Code, TooHard> {
	let own = presenter.own;
	let target = presenter.server(server)?;
	own.set_stat_ipi(own.stat_ipi().wrapping_add(1));
	let Some(target) = target else {
		return Ok(Code::PARAMETER);
	};
	target.set_mfrr(mfrr as u8);
	// Between the MFRR and the CPPR, as in H_EOI and H_CPPR. Also, the vcpu that is told finds the
	// MFRR.
	presenter.bus.sync();
	if mfrr < target.cppr().into() {
		trigger(presenter.bus, target.ipi());
	}
	Ok(Code::SUCCESS)
}

/// H_IPOLL: looks for an interrupt of the vcpu. Returns r4: the interrupt and the CPPR; or a code.
///
/// What C finds of another vcpu it writes to r4 of that vcpu. That is left to C.
#[inline(always)]
pub fn ipoll<B: Bus>(presenter: &Presenter<'_, B>, server: u64) -> Result<(Code, u64), TooHard> {
	let own = presenter.own;
	let count = || own.set_stat_ipoll(own.stat_ipoll().wrapping_add(1));
	if u64::from(own.server()) != server {
		if presenter.server(server)?.is_some() {
			return Err(TooHard);
		}
		count();
		return Ok((Code::PARAMETER, 0));
	}
	let at = presenter.bus.tima() + layout::TIMA_OS as u64;
	// SAFETY: reads the context on this CPU, which is the vcpu's.
	let state = u64::from_be(unsafe { presenter.bus.load64(at) });
	// Its last byte has the priority of what is pending.
	let pending = match state as u8 {
		priority @ ..8 => 1 << priority,
		_ => 0,
	};
	let irq = presenter.scan(own.pending() | pending, Scan::Poll)?;
	count();
	Ok((Code::SUCCESS, xirr_of(irq, own.cppr())))
}

/// Whether a queue below the CPPR has an interrupt that was routed to another vcpu since. It would
/// wait there until the CPPR is raised again.
#[inline(always)]
fn has_rerouted<B: Bus>(presenter: &Presenter<'_, B>, cppr: u8) -> Result<bool, TooHard> {
	let mut left = MOST;
	let mut priority = u32::from(cppr);
	while let Some(queue) = presenter.own.queue(priority) {
		let mut cursor = Cursor::new(queue);
		loop {
			let irq = match cursor.next() {
				0 => break,
				irq => irq,
			};
			if irq != IPI
				&& irq != DUMMY
				&& let Some((source, _)) = presenter.source(irq)
				&& source.server() != presenter.own.server()
			{
				return Ok(true);
			}
			left -= 1;
			if left == 0 {
				return Err(TooHard);
			}
		}
		priority += 1;
	}
	Ok(false)
}

/// H_CPPR: sets the CPPR.
#[inline(always)]
pub fn cppr<B: Bus>(presenter: &Presenter<'_, B>, cppr: u64) -> Result<Code, TooHard> {
	let own = presenter.own;
	let cppr = priority_from_guest(cppr as u8);
	let is_raised = cppr > own.cppr();
	if !is_raised && has_rerouted(presenter, cppr)? {
		// C takes such interrupts out of the queue, and has them sent again.
		return Err(TooHard);
	}
	own.set_stat_cppr(own.stat_cppr().wrapping_add(1));
	own.set_cppr(cppr);
	// Between the CPPR and the MFRR below, as in H_IPI.
	presenter.bus.sync();
	if is_raised {
		presenter.push_pending();
	}
	presenter.write_cppr(cppr);
	Ok(Code::SUCCESS)
}

#[cfg(kernel)]
pub(crate) use handlers::*;

/// What the trampoline calls.
#[cfg(kernel)]
mod handlers {
	use core::ptr::NonNull;

	use hcall::Code;
	use powerpc::{FastHcall, P9Vcpu};

	use super::super::kernel::answer;

	macro_rules! handlers {
		($($(#[$doc:meta])* $name:ident = $hcall:ident, |$presenter:ident, $vcpu:ident| $body:block)*) => {
			$(
				$(#[$doc])*
				///
				/// # Safety
				///
				/// The trampoline calls this, for the vcpu that `p9` is part of.
				#[inline(always)]
				pub(crate) unsafe extern "C" fn $name(p9: NonNull<P9Vcpu>) -> Code {
					// SAFETY: the trampoline calls this function, as `answer` requires.
					unsafe { answer(p9, FastHcall::$hcall, |$presenter, $vcpu| $body) }
				}
			)*
		};
	}

	handlers! {
		/// H_XIRR: the interrupt and the CPPR in r4.
		h_xirr = Xirr, |presenter, vcpu| {
			vcpu.set_gpr4(super::xirr(presenter)?);
			Ok(Code::SUCCESS)
		}

		/// H_XIRR_X: also the timebase in r5.
		h_xirr_x = XirrX, |presenter, vcpu| {
			let (xirr, timebase) = super::xirr_x(presenter)?;
			vcpu.set_gpr4(xirr);
			vcpu.set_gpr5(timebase);
			Ok(Code::SUCCESS)
		}

		/// H_EOI(XIRR).
		h_eoi = Eoi, |presenter, vcpu| {
			super::eoi(presenter, vcpu.gpr4())
		}

		/// H_IPI(server, MFRR).
		h_ipi = Ipi, |presenter, vcpu| {
			super::ipi(presenter, vcpu.gpr4(), vcpu.gpr5())
		}

		/// H_IPOLL(server): the interrupt and the CPPR in r4.
		h_ipoll = Ipoll, |presenter, vcpu| {
			let (code, xirr) = super::ipoll(presenter, vcpu.gpr4())?;
			if code == Code::SUCCESS {
				vcpu.set_gpr4(xirr);
			}
			Ok(code)
		}

		/// H_CPPR(CPPR).
		h_cppr = Cppr, |presenter, vcpu| {
			super::cppr(presenter, vcpu.gpr4())
		}
	}
}
