// SPDX-License-Identifier: GPL-2.0-only
//! Which cells of the tables there are: cases, and the columns that a kernel serves.

use anyhow::Result;
use cases::{CASES, Case};
use harness::kernel::Image;
use harness::process::Usage;
use protocol::Column;

/// The series that has real-mode handlers in assembly.
pub const ASM_SERIES: &str = "5.10";

pub fn chosen_cases(names: Option<&[String]>) -> Result<Vec<&'static Case>> {
	let Some(names) = names else {
		return Ok(CASES.iter().collect());
	};
	let mut cases = Vec::new();
	for name in names {
		let case = Case::from_name(name.trim()).ok_or_else(|| {
			let known: Vec<_> = CASES.iter().map(|case| case.name).collect();
			let known = known.join(", ");
			Usage(format!("unknown case '{}'; known: {known}", name.trim()))
		})?;
		if !cases.contains(&case) {
			cases.push(case);
		}
	}
	Ok(cases)
}

/// Which columns a kernel serves.
pub fn paths_of(image: &Image) -> &'static [Column] {
	if image.series == ASM_SERIES {
		&[Column::Asm510]
	} else {
		&[Column::C, Column::RustFull, Column::RustFast]
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn an_unknown_case_is_named() {
		let error = chosen_cases(Some(&["null".to_owned(), "nil".to_owned()])).unwrap_err();
		assert!(error.is::<Usage>());
		assert!(
			error
				.to_string()
				.starts_with("unknown case 'nil'; known: null, "),
			"{error}"
		);
	}
}
