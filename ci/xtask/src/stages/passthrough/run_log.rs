// SPDX-License-Identifier: GPL-2.0-only
//! The lines that host and guest print of one run.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use diskcheck::WORKERS;

use crate::client::Transcript;

/// The lines of a transcript that are of one run: those whose first word is its number.
pub(super) struct RunLog<'a> {
	pub(super) transcript: &'a Transcript,
	pub(super) run: u64,
}

impl<'a> RunLog<'a> {
	pub(super) fn all(&self, name: &str) -> Vec<&'a str> {
		let run = self.run.to_string();
		let of_run = |text: &'a str| match text.split_once(' ') {
			Some((number, rest)) => (number == run).then_some(rest),
			None => (text == run).then_some(""),
		};
		self.transcript
			.all(name)
			.into_iter()
			.filter_map(of_run)
			.collect()
	}

	fn one(&self, name: &str) -> Result<&'a str> {
		match self.all(name)[..] {
			[text] => Ok(text),
			[] => bail!("no line '@{name} {}'", self.run),
			_ => bail!("several lines '@{name} {}'", self.run),
		}
	}

	pub(super) fn is(&self, name: &str, wanted: &str) -> Result<()> {
		let text = self.one(name)?;
		ensure!(text == wanted, "{name} is '{text}', not '{wanted}'");
		Ok(())
	}

	pub(super) fn numbers<const N: usize>(&self, name: &str) -> Result<[u64; N]> {
		numbers(name, self.one(name)?)
	}

	/// How many steps each worker did.
	pub(super) fn steps(&self) -> Result<[u64; WORKERS as usize]> {
		self.numbers("guest work")
	}

	/// How much each counter has grown while the guest worked.
	pub(super) fn counts(&self) -> Result<BTreeMap<&'a str, u64>> {
		let mut counts = [BTreeMap::new(), BTreeMap::new()];
		for line in self.all("host counter") {
			let words: Vec<_> = line.split(' ').collect();
			let [when, name, value] = words[..] else {
				bail!("'@host counter {} {line}'?", self.run);
			};
			let value: u64 = value.parse().with_context(|| format!("counter '{line}'"))?;
			let when = usize::from(when == "after");
			ensure!(
				counts[when].insert(name, value).is_none(),
				"{name} is counted twice"
			);
		}
		let [before, after] = counts;
		ensure!(!before.is_empty(), "no counters");
		let grown = before.into_iter().map(|(name, before)| {
			let after = after
				.get(name)
				.with_context(|| format!("{name} is not counted again"))?;
			Ok((
				name,
				after
					.checked_sub(before)
					.with_context(|| format!("{name} shrinks"))?,
			))
		});
		grown.collect()
	}
}

pub(super) fn numbers<const N: usize>(name: &str, text: &str) -> Result<[u64; N]> {
	let numbers: Vec<u64> = text
		.split(' ')
		.filter_map(|word| word.parse().ok())
		.collect();
	numbers
		.try_into()
		.map_err(|_| anyhow::anyhow!("{name} is '{text}'"))
}
