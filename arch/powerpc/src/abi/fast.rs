// SPDX-License-Identifier: GPL-2.0-only
//! The list of fast handlers.

/// Calls `$with` with the list of fast handlers: one row each.
///
/// A row is `Variant: NUMBER = function`: the variant of [`FastHcall`], the hcall's constant in
/// `hcall::Number`, and the function of that name that `entry/src/fast.rs` has in scope. From the
/// rows come the tables of handlers and of timed handlers, the vcpu's counters, the kinds of spans,
/// and the names in debugfs. The kernel's `enum kvm_p9_hcall` has the same order, as
/// `KVM_P9_NUMBER`; `kvm_p9_abi.h` asserts that.
#[macro_export]
macro_rules! fast_handlers {
	($with:ident) => {
		$with! {
			/// The NULL hcall.
			Null: NULL = null;
			/// H_GET_TCE.
			GetTce: GET_TCE = h_get_tce;
			/// H_PUT_TCE.
			PutTce: PUT_TCE = h_put_tce;
			/// H_PUT_TCE_INDIRECT.
			PutTceIndirect: PUT_TCE_INDIRECT = h_put_tce_indirect;
			/// H_STUFF_TCE.
			StuffTce: STUFF_TCE = h_stuff_tce;
			/// H_REMOVE.
			Remove: REMOVE = h_remove;
			/// H_ENTER.
			Enter: ENTER = h_enter;
			/// H_READ.
			Read: READ = h_read;
			/// H_CLEAR_MOD.
			ClearMod: CLEAR_MOD = h_clear_mod;
			/// H_CLEAR_REF.
			ClearRef: CLEAR_REF = h_clear_ref;
			/// H_PROTECT.
			Protect: PROTECT = h_protect;
			/// H_BULK_REMOVE.
			BulkRemove: BULK_REMOVE = h_bulk_remove;
			/// H_XIRR.
			Xirr: XIRR = h_xirr;
			/// H_XIRR_X.
			XirrX: XIRR_X = h_xirr_x;
			/// H_EOI.
			Eoi: EOI = h_eoi;
			/// H_IPI.
			Ipi: IPI = h_ipi;
			/// H_IPOLL.
			Ipoll: IPOLL = h_ipoll;
			/// H_CPPR.
			Cppr: CPPR = h_cppr;
		}
	};
}

macro_rules! define {
	($($(#[$doc:meta])* $variant:ident: $number:ident = $function:ident;)*) => {
		/// An hcall that has a fast handler.
		#[derive(Clone, Copy, PartialEq, Eq, Debug)]
		#[repr(u64)]
		pub enum FastHcall {
			$($(#[$doc])* $variant,)*
		}

		impl FastHcall {
			/// All of them, in order.
			pub const ALL: &[Self] = &[$(Self::$variant),*];

			/// How many there are.
			pub const COUNT: usize = Self::ALL.len();

			/// Whether it is one of the page table hcalls of hash guests.
			pub const fn is_page_table(self) -> bool {
				matches!(
					self,
					Self::Remove
						| Self::Enter | Self::Read
						| Self::ClearMod | Self::ClearRef
						| Self::Protect | Self::BulkRemove
				)
			}

			/// The name in debugfs, after the path: `h_get_tce`.
			pub const fn name(self) -> &'static str {
				match self {
					$(Self::$variant => stringify!($function),)*
				}
			}

			/// The end of the name in `enum kvm_p9_hcall`: `GET_TCE`.
			pub const fn c_name(self) -> &'static str {
				match self {
					$(Self::$variant => stringify!($number),)*
				}
			}
		}
	};
}

fast_handlers!(define);
