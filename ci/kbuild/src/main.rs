// SPDX-License-Identifier: GPL-2.0-only
//! The program that kbuild runs: see the library of this crate.

use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kbuild::{abi, object};

const USAGE: &str = "usage: kvm-p9-kbuild abi\n       \
	kvm-p9-kbuild object --layout FILE --output FILE";

#[derive(Debug, PartialEq, Eq)]
enum Task {
	/// Print the header with what Rust defines.
	Abi,
	/// Build the Rust object.
	Object {
		/// Layout of the configured kernel's structures.
		layout: PathBuf,
		/// Path of the object.
		output: PathBuf,
	},
}

impl Task {
	fn parse(words: impl IntoIterator<Item = String>) -> Option<Self> {
		let words: Vec<String> = words.into_iter().collect();
		let words: Vec<&str> = words.iter().map(String::as_str).collect();
		match words[..] {
			["abi"] => Some(Self::Abi),
			["object", "--layout", layout, "--output", output] => Some(Self::Object {
				layout: layout.into(),
				output: output.into(),
			}),
			_ => None,
		}
	}
}

/// The checkout: cargo names this crate's folder when it runs the program. Without cargo
/// the folder is the one in which the program was compiled.
fn root() -> PathBuf {
	let krate = env::var_os("CARGO_MANIFEST_DIR")
		.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
	let root = krate.ancestors().nth(2).unwrap_or(Path::new("/"));
	root.to_owned()
}

fn main() -> ExitCode {
	let Some(task) = Task::parse(env::args().skip(1)) else {
		eprintln!("{USAGE}");
		return ExitCode::from(2);
	};
	let result = match task {
		Task::Abi => {
			print!("{}", abi::header());
			Ok(())
		}
		Task::Object { layout, output } => object::build(&root(), &layout, &output),
	};
	match result {
		Ok(()) => ExitCode::SUCCESS,
		Err(error) => {
			eprintln!("kvm-p9-kbuild: {error}");
			ExitCode::FAILURE
		}
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	fn parse(line: &str) -> Option<Task> {
		Task::parse(line.split_whitespace().map(str::to_owned))
	}

	#[test]
	fn only_the_two_commands_of_the_makefile_are_taken() {
		assert_eq!(parse("abi"), Some(Task::Abi));
		assert_eq!(
			parse("object --layout a.h --output b.o"),
			Some(Task::Object {
				layout: "a.h".into(),
				output: "b.o".into(),
			})
		);
		for line in [
			"",
			"abi now",
			"object",
			"object --layout a.h",
			"object --output b.o --layout",
			"gates",
		] {
			assert_eq!(parse(line), None, "{line}");
		}
	}
}
