// SPDX-License-Identifier: GPL-2.0-only
//! The section on what was measured: kernels, machine and compilers.

use maud::{Markup, html};

use super::parts::scrolling;
use super::words::short_hash;
use crate::report::Environment;

pub(super) fn environment(env: &Environment) -> Markup {
	let rows = [
		("Kernel", env.kernel_release.clone()),
		("Configuration", short_hash(&env.config_hash)),
		("Rust object", short_hash(&env.object_hash)),
		("Machine", env.qemu.clone()),
		("icount", env.icount.clone()),
		("Rust compiler", env.rustc.clone()),
	];
	html! {
		dl.environment {
			@for (name, value) in rows {
				div { dt { (name) } dd { @if value.is_empty() { "unknown" } @else { (value) } } }
			}
		}
		@if !env.kernels.is_empty() {
			(scrolling("kernels", &html! { "Kernels that were booted" }, &html! {
				thead {
					tr {
						@for header in ["Series", "Release", "Debian package", "Configuration", "C compiler"] {
							th scope="col" { (header) }
						}
					}
				}
				tbody {
					@for kernel in &env.kernels {
						tr {
							th scope="row" { (kernel.series) }
							td { (kernel.release) }
							td { (kernel.package_version) }
							td { (short_hash(&kernel.config_hash)) }
							td { (kernel.compiler) }
						}
					}
				}
			}))
		}
	}
}
