// SPDX-License-Identifier: GPL-2.0-only
//! Structures and lists that the kernel glue and Rust share.
//!
//! Each is defined here, once. The crate kvm-p9-kbuild prints `kvm_p9_abi.h` from these definitions: whole
//! structures where only the glue uses them, and where a kernel header has to have the structure
//! the assertions that it is the same.

pub mod counters;
pub mod fast;
pub mod host;
pub mod light;
pub mod stats;
pub mod tce_call;
pub mod vcpu;

use core::cell::Cell;
use core::ffi::c_void;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

/// A type that a field of a shared structure can have, and how C says it.
pub trait CType {
	/// The C type of one element.
	const NAME: &'static str;
	/// How many elements, if it is an array.
	const LENGTH: Option<usize> = None;
}

macro_rules! c_types {
	($($rust:ty = $c:literal;)*) => {
		$(impl CType for $rust {
			const NAME: &'static str = $c;
		})*
	};
}

c_types! {
	u64 = "u64";
	i64 = "s64";
	u32 = "u32";
	AtomicU64 = "u64";
	AtomicU32 = "u32";
	*const c_void = "const void *";
}

impl<T: CType> CType for Cell<T> {
	const NAME: &'static str = T::NAME;
}

impl<T> CType for AtomicPtr<T> {
	const NAME: &'static str = "void *";
}

impl<T: CType, const N: usize> CType for [T; N] {
	const NAME: &'static str = T::NAME;
	const LENGTH: Option<usize> = Some(N);
}

/// A field of a shared structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
	/// Its name, in Rust and in C.
	pub name: &'static str,
	/// Bytes from the structure's start.
	pub offset: usize,
	/// The C type of one element.
	pub c_type: &'static str,
	/// How many elements, if it is an array.
	pub length: Option<usize>,
}

/// A structure that both sides know.
pub trait Shared: Sized {
	/// Its name in C.
	const C_NAME: &'static str;
	/// Its fields, in order.
	const FIELDS: &'static [Field];
}

/// Defines a shared structure. Padding is an error: then the layout follows from the order and the
/// widths of the fields, and is the same on the host as on the target.
macro_rules! shared {
	(
		$(#[$doc:meta])*
		$vis:vis struct $name:ident = $c_name:literal {
			$($(#[$field_doc:meta])* $field_vis:vis $field:ident: $type:ty,)*
		}
	) => {
		$(#[$doc])*
		#[repr(C)]
		$vis struct $name {
			$($(#[$field_doc])* $field_vis $field: $type,)*
		}

		impl $crate::abi::Shared for $name {
			const C_NAME: &'static str = $c_name;
			const FIELDS: &'static [$crate::abi::Field] = &[
				$($crate::abi::Field {
					name: stringify!($field),
					offset: core::mem::offset_of!($name, $field),
					c_type: <$type as $crate::abi::CType>::NAME,
					length: <$type as $crate::abi::CType>::LENGTH,
				},)*
			];
		}

		impl $crate::abi::CType for $name {
			const NAME: &'static str = concat!("struct ", $c_name);
		}

		const _: () = assert!(0 $(+ size_of::<$type>())* == size_of::<$name>(), "padding");
	};
}
pub(crate) use shared;
