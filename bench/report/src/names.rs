// SPDX-License-Identifier: GPL-2.0-only
//! Cases, guests and paths are written by their names.

macro_rules! by_name {
	($module:ident, $type:ty) => {
		pub mod $module {
			use serde::de::{Deserialize, Deserializer, Error};
			use serde::ser::Serializer;

			/// For `#[serde(serialize_with)]`.
			pub fn serialize<S: Serializer>(value: &$type, to: S) -> Result<S::Ok, S::Error> {
				to.serialize_str(value.name())
			}

			/// For `#[serde(deserialize_with)]`.
			pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<$type, D::Error> {
				let name = String::deserialize(from)?;
				<$type>::from_name(&name).ok_or_else(|| {
					D::Error::custom(format_args!(
						"no {} is called '{name}'",
						stringify!($module)
					))
				})
			}
		}
	};
}

by_name!(case, protocol::Case);
by_name!(guest, protocol::Guest);
by_name!(path, protocol::Path);
