// SPDX-License-Identifier: GPL-2.0-only
//! Cases, guest modes and columns are written by their names.

macro_rules! by_name {
	($module:ident, $what:literal, $type:ty, $name:expr, $find:expr) => {
		pub mod $module {
			use serde::de::{Deserialize, Deserializer, Error};
			use serde::ser::Serializer;

			/// For `#[serde(serialize_with)]`.
			pub fn serialize<S: Serializer>(value: &$type, to: S) -> Result<S::Ok, S::Error> {
				let name: fn(&$type) -> &'static str = $name;
				to.serialize_str(name(value))
			}

			/// For `#[serde(deserialize_with)]`.
			pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<$type, D::Error> {
				let name = String::deserialize(from)?;
				let find: fn(&str) -> Option<$type> = $find;
				find(&name).ok_or_else(|| {
					D::Error::custom(format_args!("no {} is called '{name}'", $what))
				})
			}
		}
	};
}

by_name!(
	case,
	"case",
	&'static cases::Case,
	|case| case.name,
	cases::Case::from_name
);
by_name!(
	guest,
	"guest mode",
	protocol::GuestMode,
	|mode| mode.name(),
	protocol::GuestMode::from_name
);
by_name!(
	path,
	"column",
	protocol::Column,
	|column| column.name(),
	protocol::Column::from_name
);
