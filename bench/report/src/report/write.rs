// SPDX-License-Identifier: GPL-2.0-only
//! Writes a report: whole, or as a reference to compare with.

use crate::report::{Entry, Report};

impl Report {
	/// As the content of a file to compare with: without phases, which nothing is compared
	/// by, and a line for each figure.
	pub fn to_reference(&self) -> serde_json::Result<String> {
		let lines = |lines: Vec<String>| lines.join(",\n\t\t");
		let results = self.results.iter().map(|entry| {
			serde_json::to_string(&Entry {
				phases: Vec::new(),
				..entry.clone()
			})
		});
		let missing = self.missing.iter().map(serde_json::to_string);
		Ok(format!(
			"{{\n\t\"version\": {},\n\t\"unit\": {},\n\t\"environment\": {},\n\t\"results\": [\n\t\t{}\n\t],\n\t\"missing\": [\n\t\t{}\n\t]\n}}\n",
			self.version,
			serde_json::to_string(&self.unit)?,
			serde_json::to_string(&self.environment)?,
			lines(results.collect::<Result<_, _>>()?),
			lines(missing.collect::<Result<_, _>>()?),
		))
	}

	/// As a file's content.
	pub fn to_json(&self) -> serde_json::Result<String> {
		let mut text = serde_json::to_string_pretty(self)?;
		text.push('\n');
		Ok(text)
	}
}

#[cfg(test)]
mod tests {
	use super::*;
	use crate::report::tests::sample;
	use crate::report::{Environment, VERSION};

	#[test]
	fn it_survives_the_round_trip() {
		let report = sample();
		let text = report.to_json().unwrap();
		assert!(text.ends_with("}\n"));
		assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
	}

	#[test]
	fn fields_have_the_names_that_readers_expect() {
		let json: serde_json::Value = serde_json::from_str(&sample().to_json().unwrap()).unwrap();
		assert_eq!(json["version"], VERSION);
		for field in [
			"kernel_release",
			"config_hash",
			"qemu",
			"rustc",
			"object_hash",
		] {
			assert!(json["environment"][field].is_string(), "{field}");
		}
		let first = &json["results"][0];
		assert_eq!(first["case"], "null");
		assert_eq!(first["guest"], "radix");
		assert_eq!(first["path"], "asm-5.10");
		assert_eq!(first["iterations"], 512);
		for field in ["min", "median", "max"] {
			assert!(first["instructions"][field].is_number(), "{field}");
			assert!(first["empty_loop"][field].is_number(), "{field}");
		}
		assert_eq!(json["missing"][0]["case"], "h_prod");
	}

	#[test]
	fn what_was_written_is_read() {
		for text in [
			sample().to_json().unwrap(),
			sample().to_reference().unwrap(),
		] {
			assert_eq!(Report::read(text.as_bytes()).unwrap(), sample());
		}
	}

	#[test]
	fn a_reference_has_what_is_compared_and_a_line_for_each_figure() {
		let whole = crate::sample::report();
		let text = whole.to_reference().unwrap();
		let read = Report::read(text.as_bytes()).unwrap();
		assert_eq!(read.results.len(), whole.results.len());
		for (read, whole) in read.results.iter().zip(&whole.results) {
			assert_eq!(read.instructions, whole.instructions);
			assert_eq!(read.costly, whole.costly);
			assert!(read.phases.is_empty());
			assert_eq!(read.modelled_cycles, whole.modelled_cycles);
		}
		let lines = text
			.lines()
			.filter(|line| line.contains("\"instructions\":{"));
		assert_eq!(lines.count(), whole.results.len());
		let none = Report::new(Environment::default()).to_reference().unwrap();
		assert!(Report::read(none.as_bytes()).is_ok());
	}
}
