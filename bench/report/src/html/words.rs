// SPDX-License-Identifier: GPL-2.0-only
//! Numbers, ratios and names, as the page writes them.

use protocol::Column;

use crate::report::Modelled;
use crate::table::{self, grouped};

/// A path's name in the page.
pub(super) fn label(path: Column) -> &'static str {
	match path {
		Column::Asm510 => "5.10 asm",
		Column::C => "C",
		Column::RustFull => "Rust full",
		Column::RustFast => "Rust fast",
	}
}

/// A figure, as precisely as the terminal has it.
pub(super) fn number(value: f64) -> String {
	grouped(&table::figure(Some(value)))
}

/// A part of a figure, or a count, which are whole numbers unless they are a mean.
pub(super) fn amount(value: f64) -> String {
	if value >= 1000.0 {
		return number(value);
	}
	let decimals = if value < 10.0 { 2 } else { 1 };
	let text = format!("{value:.decimals$}");
	text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Modelled cycles: they are not known to a fraction.
pub(super) fn cycles(value: f64) -> String {
	amount(if value < 10.0 { value } else { value.round() })
}

/// A share of a whole.
pub(super) fn percent(share: f64) -> String {
	match 100.0 * share {
		0.0 => "0%".to_owned(),
		..0.5 => "<1%".to_owned(),
		percent => format!("{percent:.0}%"),
	}
}

/// Modelled cycles and their error, whose second digit is the last that can mean anything.
pub(super) fn with_error(cycles: Modelled) -> String {
	let unit = 10_f64.powf((cycles.error.log10() - 1.0).floor()).max(1.0);
	let round = |value: f64| grouped(&format!("{:.0}", (value / unit).round() * unit));
	// If a line has to end, then before the error.
	format!(
		"{} \u{b1}\u{a0}{}",
		round(cycles.median),
		round(cycles.error)
	)
}

/// How much a figure differs, with a sign that isn't a hyphen.
pub(super) fn difference(from: f64, to: f64) -> String {
	let by = to - from;
	if by.abs() < 0.005 {
		"0".to_owned()
	} else if by < 0.0 {
		format!("\u{2212}{}", amount(-by))
	} else {
		format!("+{}", amount(by))
	}
}

/// How many times, as precisely as it is of use.
pub(super) fn times(ratio: f64) -> String {
	match ratio {
		..10.0 => format!("{ratio:.2}"),
		..100.0 => format!("{ratio:.1}"),
		_ => format!("{ratio:.0}"),
	}
}

/// A figure by another: "C ÷ 16.3" if that is so much more, "C × 1.2" if it is less.
pub(super) fn by(what: &str, of: f64, figure: f64) -> String {
	let ratio = of / figure;
	if !ratio.is_finite() || ratio <= 0.0 {
		String::new()
	} else if (ratio - 1.0).abs() < 0.005 {
		format!("= {what}")
	} else if ratio > 1.0 {
		format!("{what} \u{f7} {}", times(ratio))
	} else {
		format!("{what} \u{d7} {}", times(1.0 / ratio))
	}
}

/// Nouns with their number.
pub(super) fn counted(number: usize, one: &str, many: &str) -> String {
	format!("{number} {}", if number == 1 { one } else { many })
}

pub(super) fn short_hash(hash: &str) -> String {
	hash.chars().take(16).collect()
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn numbers() {
		assert_eq!(number(9.96), "10.0");
		assert_eq!(number(2068.4), "2,068");
		assert_eq!(number(1_234_567.0), "1,234,567");
		assert_eq!(grouped("123.45"), "123.45");
		assert_eq!(
			[0.0, 2.04, 33.62, 134.5, 2260.0].map(amount),
			["0", "2.04", "33.6", "134.5", "2,260"]
		);
		assert_eq!([3.61, 223.5].map(cycles), ["3.61", "224"]);
		assert_eq!([0.0, 0.004, 0.26].map(percent), ["0%", "<1%", "26%"]);
		assert_eq!(difference(3.0, 1.5), "\u{2212}1.5");
		assert_eq!(difference(1.0, 3.0), "+2");
		assert_eq!(difference(1.0, 1.001), "0");
	}

	#[test]
	fn ratios_say_of_what() {
		assert_eq!(by("C", 2068.0, 127.0), "C \u{f7} 16.3");
		assert_eq!(by("C", 2055.0, 2325.0), "C \u{d7} 1.13");
		assert_eq!(by("C", 2055.0, 2055.4), "= C");
		assert_eq!(by("C", 2055.0, 0.0), "");
	}

	#[test]
	fn errors_end_the_precision() {
		let text = |median, error| with_error(Modelled { median, error }).replace('\u{a0}', " ");
		assert_eq!(text(6605.0, 1321.0), "6,600 \u{b1} 1,300");
		assert_eq!(text(414.4, 83.2), "414 \u{b1} 83");
		assert_eq!(text(509.0, 0.0), "509 \u{b1} 0");
	}
}
