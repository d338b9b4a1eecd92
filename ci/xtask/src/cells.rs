// SPDX-License-Identifier: GPL-2.0-only
//! Which cells of the tables there are: cases, and the columns that a kernel serves.

use anyhow::Result;
use harness::kernel::Image;
use harness::process::Usage;
use protocol::{Case, Path};

/// The series that has real-mode handlers in assembly.
pub const ASM_SERIES: &str = "5.10";

pub fn chosen_cases(names: Option<&[String]>) -> Result<Vec<Case>> {
	let Some(names) = names else {
		return Ok(Case::ALL.to_vec());
	};
	let mut cases = Vec::new();
	for name in names {
		let case = Case::from_name(name.trim()).ok_or_else(|| {
			let known = Case::ALL.map(Case::name).join(", ");
			Usage(format!("unknown case '{}'; known: {known}", name.trim()))
		})?;
		if !cases.contains(&case) {
			cases.push(case);
		}
	}
	Ok(cases)
}

/// Which columns a kernel serves.
pub fn paths_of(image: &Image) -> &'static [Path] {
	if image.series == ASM_SERIES {
		&[Path::Asm510]
	} else {
		&[Path::C, Path::RustFull, Path::RustFast]
	}
}
