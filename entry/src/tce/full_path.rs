// SPDX-License-Identifier: GPL-2.0-only
//! TCE hcalls on the full path: the kernel supplies what an attempt lacked, and calls again.

use core::ptr::NonNull;

use hcall::{Code, Number};
use powerpc::{HostFacts, Needs, P9Vcpu, TceCall};
use tce::{Progress, Refusal, Table, TooHard};

use super::context::{CallSite, HcallContext};
use super::table::{Any, KernelTable};

// SAFETY: a variable of kvm_p9_main.c, which is written during boot only.
unsafe extern "C" {
	safe static kvm_p9_host_facts: u64;
}

/// Has a body answer an hcall of any number, on a table of any kind.
#[inline(always)]
pub(crate) fn general(
	caller: &HcallContext<'_>,
	number: Number,
	progress: &mut Progress,
) -> Result<(), Refusal> {
	let table = KernelTable::<Any>::new(caller.table_apart()?, caller.path);
	general_on(caller, table, number, progress)
}

/// The same for a table that was found.
#[inline(always)]
pub(crate) fn general_on(
	caller: &HcallContext<'_>,
	table: KernelTable<'_, Any>,
	number: Number,
	progress: &mut Progress,
) -> Result<(), Refusal> {
	match number {
		Number::GET_TCE => caller.run(&table, Number::GET_TCE, progress),
		Number::PUT_TCE => caller.run(&table, Number::PUT_TCE, progress),
		Number::PUT_TCE_INDIRECT => caller.run(&table, Number::PUT_TCE_INDIRECT, progress),
		Number::STUFF_TCE => caller.run(&table, Number::STUFF_TCE, progress),
		_ => Err(TooHard::CFallback.into()),
	}
}

/// Answers a TCE hcall on the full path, or [`Code::TOO_HARD`], with `call` saying why:
/// then the kernel supplies what is missing and calls again.
///
/// # Safety
///
/// `p9` must be part of the vcpu that does the hcall, which the current thread runs.
/// `kvm->srcu` must have been held for reading since before the first call for this hcall,
/// or RCU for H_GET_TCE; and interrupts must be off if `call` says so.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvm_p9_tce(p9: NonNull<P9Vcpu>, call: &mut TceCall) -> Code {
	let facts = HostFacts::from_bits_retain(kvm_p9_host_facts);
	let path = CallSite::Full {
		list_read: call.list_read != 0,
		irqs_off: call.irqs_off != 0,
	};
	// SAFETY: KVM passes `p9` of the vcpu that it runs, and holds `kvm->srcu`, or RCU for H_GET_TCE.
	let caller = unsafe { HcallContext::new(p9, path) };
	if !facts.contains(HostFacts::CPU_SUPPORTED | HostFacts::RADIX) {
		call.needs = Needs::CFallback as u64;
		return Code::TOO_HARD;
	}
	let number = Number(call.number);
	let mut progress = Progress {
		done: call.done,
		good: call.good,
	};
	let Err(refusal) = general(&caller, number, &mut progress) else {
		return Code::SUCCESS;
	};
	(call.done, call.good) = (progress.done, progress.good);
	if let Refusal::TooHard(hard) = refusal {
		if progress.done == 0 {
			// The next attempt reads the list anew: this one may have it in this CPU's byte
			// order by now. A later step goes on with that.
			call.list_read = 0;
		}
		call.needs = caller.needs(hard, call) as u64;
	}
	refusal.code()
}

impl HcallContext<'_> {
	/// Tells the kernel what is missing.
	#[cold]
	pub(crate) fn needs(&self, hard: TooHard, call: &mut TceCall) -> Needs {
		match (hard, self.table_apart()) {
			(TooHard::Userspace, _) => Needs::Userspace,
			(TooHard::TceList, _) => Needs::TceList,
			(TooHard::Resched, _) => Needs::Resched,
			(TooHard::IrqsOff, _) => Needs::IrqsOff,
			(TooHard::TablePage(number), Ok(stt)) => {
				call.table = stt.address().addr().get() as u64;
				call.index = number;
				Needs::TablePage
			}
			(TooHard::TableLevel { table: of, index }, Ok(stt)) => {
				let table = KernelTable::<Any>::new(stt, self.path);
				let attached = table.attached().ok();
				let Some(one) = attached.and_then(|attached| *attached.get(of)?) else {
					return Needs::CFallback;
				};
				call.table = one.0.address().addr().get() as u64;
				call.index = one.0.offset().wrapping_add(index);
				Needs::TableLevel
			}
			_ => Needs::CFallback,
		}
	}
}
