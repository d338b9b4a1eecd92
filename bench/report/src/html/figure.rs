// SPDX-License-Identifier: GPL-2.0-only
//! The page's figures, as SVG.
//!
//! All are [`WIDTH`] units wide, which is about a phone's width in CSS pixels: what is
//! legible there needs no other layout anywhere else, only more figures in a row. Each
//! has a title and a description that says what it shows in words; the numbers are in
//! the page's tables, too.

use maud::{Markup, Render, html};
use protocol::Column;

use super::palette::class;
use super::words::{amount, cycles, label};

/// Of every figure, in its own units.
const WIDTH: f64 = 340.0;

/// A coordinate: a tenth of a unit is less than anybody sees.
struct At(f64);

impl Render for At {
	fn render_to(&self, to: &mut String) {
		let mut text = format!("{:.1}", self.0);
		if let Some(whole) = text.strip_suffix(".0") {
			text.truncate(whole.len());
		}
		to.push_str(&text);
	}
}

/// A logarithmic scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LogScale {
	low: i32,
	high: i32,
	end: f64,
}

impl LogScale {
	/// For these figures: from a decade below the least, so that its bar has a length.
	pub fn over(figures: impl IntoIterator<Item = f64>) -> Self {
		let logs = figures.into_iter().filter(|figure| *figure > 0.0);
		let range = logs.map(f64::log10).fold(None, |range, log| match range {
			None => Some((log, log)),
			Some((min, max)) => Some((log.min(min), log.max(max))),
		});
		let (min, max) = range.unwrap_or((1.0, 2.0));
		let low = min.floor() as i32 - i32::from(min - min.floor() < 0.3);
		Self {
			low,
			high: max.floor() as i32,
			end: max.max(f64::from(low + 1)),
		}
	}

	/// Where a figure is, from 0 to 1.
	pub fn position(&self, figure: f64) -> f64 {
		let low = f64::from(self.low);
		let position = (figure.log10() - low) / (self.end - low);
		// Of nothing there is no logarithm.
		if position.is_nan() {
			0.0
		} else {
			position.clamp(0.0, 1.0)
		}
	}

	/// Powers of ten, not more than there is room for, and what to write there.
	pub fn ticks(&self) -> Vec<(f64, String)> {
		let step = (self.high - self.low) / 6 + 1;
		(self.low..=self.high)
			.step_by(step as usize)
			.map(|power| (10_f64.powi(power), power_of_ten(power)))
			.collect()
	}
}

fn power_of_ten(power: i32) -> String {
	match power {
		0..3 => 10_u32.pow(power as u32).to_string(),
		3..6 => format!("{}k", 10_u32.pow(power as u32 - 3)),
		6..9 => format!("{}M", 10_u32.pow(power as u32 - 6)),
		_ => format!("1e{power}"),
	}
}

/// What a bar stands for.
pub enum Shown {
	/// A figure, and perhaps how far it may be off.
	Figure {
		/// The bar's length.
		value: f64,
		/// To both sides.
		error: Option<f64>,
		/// To be written beside it.
		text: String,
		/// Behind that, if there is a column for it.
		ratio: Option<String>,
	},
	/// No figure; why, briefly.
	Note(String),
}

/// Bars that belong together.
pub struct Group {
	/// What they have in common.
	pub heading: String,
	/// The bars.
	pub bars: Vec<(Column, Shown)>,
}

/// How a figure is made known.
pub struct Naming<'a> {
	/// Unique on the page.
	pub id: &'a str,
	/// Short.
	pub title: &'a str,
	/// All that can be seen, in words.
	pub description: &'a str,
}

impl Naming<'_> {
	/// The figure, with a name and a description.
	fn figure(&self, height: f64, content: &Markup) -> Markup {
		let (title, description) = (format!("{}-t", self.id), format!("{}-d", self.id));
		html! {
			svg role="img" viewBox={ "0 0 " (At(WIDTH)) " " (At(height)) }
				aria-labelledby=(title) aria-describedby=(description) {
				title id=(title) { (self.title) }
				desc id=(description) { (self.description) }
				(content)
			}
		}
	}
}

/// Fill patterns that the figures use; they are there once for the page.
pub fn patterns() -> Markup {
	html! {
		svg.patterns width="0" height="0" aria-hidden="true" focusable="false" {
			defs {
				@for path in Column::ALL {
					pattern id={ "modelled-" (class(path)) } width="5" height="5"
						patternUnits="userSpaceOnUse" patternTransform="rotate(45)" {
						rect.(class(path)) width="2.2" height="5" {}
					}
				}
			}
		}
	}
}

/// The mark of a path: solid for what was counted, hatched for what was modelled.
fn bar(path: Column, modelled: bool, x: f64, y: f64, width: f64, height: f64) -> Markup {
	// What is there can be seen, however small.
	let width = width.max(1.0);
	html! {
		@if modelled {
			rect class={ "modelled " (class(path)) } x=(At(x)) y=(At(y)) width=(At(width))
				height=(At(height)) style={ "fill:url(#modelled-" (class(path)) ")" } {}
		} @else {
			rect.(class(path)) x=(At(x)) y=(At(y)) width=(At(width)) height=(At(height)) {}
		}
	}
}

/// Where each of these begins if they follow one another; the last one's end behind.
fn starts(lengths: impl Iterator<Item = f64>) -> Vec<f64> {
	let mut starts = vec![0.0];
	let mut end = 0.0;
	for length in lengths {
		end += length;
		starts.push(end);
	}
	starts
}

/// Bars on a logarithmic scale, in groups, each with its number beside it.
pub fn bars(naming: &Naming, scale: LogScale, groups: &[Group], modelled: bool) -> Markup {
	const LEFT: f64 = 66.0;
	const RIGHT: f64 = 208.0;
	const VALUE: f64 = 266.0;
	const PITCH: f64 = 17.0;
	const HEADING: f64 = 20.0;
	const GAP: f64 = 6.0;
	let position = |figure| LEFT + (RIGHT - LEFT) * scale.position(figure);
	let height = |group: &Group| HEADING + PITCH * group.bars.len() as f64 + GAP;
	let starts = starts(groups.iter().map(height));
	let bottom = starts[groups.len()];
	let content = html! {
		@for (figure, text) in scale.ticks() {
			text.tick x=(At(position(figure))) y=(At(bottom + 12.0)) text-anchor="middle" { (text) }
		}
		text.tick x=(At(WIDTH)) y=(At(bottom + 12.0)) text-anchor="end" {
			"log scale"
		}
		@for (group, start) in groups.iter().zip(starts) {
			text.heading x="0" y=(At(start + 13.0)) { (group.heading) }
			@let (first, last) = (start + HEADING - 3.0, start + height(group) - GAP - 3.0);
			@for (figure, _) in scale.ticks().iter().filter(|_| !group.bars.is_empty()) {
				line.grid x1=(At(position(*figure))) y1=(At(first)) x2=(At(position(*figure))) y2=(At(last)) {}
			}
			@for (index, (path, shown)) in group.bars.iter().enumerate() {
				@let y = start + HEADING + PITCH * index as f64;
				text x="0" y=(At(y + 9.5)) { (label(*path)) }
				@match shown {
					Shown::Note(why) => text.note x=(At(LEFT)) y=(At(y + 9.5)) { (why) },
					Shown::Figure { value, error, text, ratio } => {
						(bar(*path, modelled, LEFT, y, position(*value) - LEFT, 11.0))
						@if let Some(error) = error {
							@let (from, to) = (position(value - error), position(value + error));
							path.whisker d={
								"M" (At(from)) " " (At(y + 5.5)) "H" (At(to))
								"M" (At(from)) " " (At(y + 2.5)) "v6"
								"M" (At(to)) " " (At(y + 2.5)) "v6"
							} {}
						}
						@let end = if ratio.is_some() { VALUE } else { WIDTH };
						text.value x=(At(end)) y=(At(y + 9.5)) text-anchor="end" { (text) }
						@if let Some(ratio) = ratio {
							text.ratio x=(At(WIDTH)) y=(At(y + 9.5)) text-anchor="end" { (ratio) }
						}
					}
				}
			}
		}
	};
	naming.figure(bottom + 16.0, &content)
}

/// One step of a waterfall.
pub struct Bar<'a> {
	/// What happens in it.
	pub name: &'a str,
	/// Counted.
	pub instructions: f64,
	/// Modelled, where there is a model.
	pub cycles: Option<f64>,
}

/// Steps in their order, each where the one before it ended: instructions on the left
/// and, if there are any, modelled cycles on the right, each on a scale of its own.
pub fn waterfall(naming: &Naming, path: Column, steps: &[Bar]) -> Markup {
	const TOP: f64 = 20.0;
	const PITCH: f64 = 31.0;
	let both = steps.iter().any(|step| step.cycles.is_some());
	let bottom = TOP + PITCH * steps.len() as f64;
	let panels: &[(bool, f64, f64)] = if both {
		&[(false, 0.0, 160.0), (true, 180.0, WIDTH)]
	} else {
		&[(false, 0.0, WIDTH)]
	};
	let content = html! {
		@for &(modelled, left, right) in panels {
			// The numbers stand to the right of the bars.
			@let end = right - 46.0;
			@let text = if modelled { cycles } else { amount };
			@let length = |step: &Bar| if modelled {
				step.cycles
			} else {
				Some(step.instructions)
			};
			@let starts = starts(steps.iter().map(|step| length(step).unwrap_or(0.0)));
			@let total = starts[steps.len()];
			@let scale = (end - left) / if total > 0.0 { total } else { 1.0 };
			text.heading x=(At(left)) y="11" {
				@if modelled { "modelled cycles" } @else { "instructions" }
			}
			text.heading x=(At(right)) y="11" text-anchor="end" { (text(total)) }
			line.grid x1=(At(left)) y1="16" x2=(At(left)) y2=(At(bottom)) {}
			line.grid x1=(At(end)) y1="16" x2=(At(end)) y2=(At(bottom)) {}
			@for (index, step) in steps.iter().enumerate() {
				@let y = TOP + PITCH * index as f64 + 15.0;
				@if let Some(length) = length(step) {
					@let (from, to) = (left + starts[index] * scale, left + starts[index + 1] * scale);
					(bar(path, modelled, from.min(end - 1.0), y, to - from, 11.0))
					@if index + 1 < steps.len() {
						line.joint x1=(At(to)) y1=(At(y + 11.0)) x2=(At(to)) y2=(At(y + PITCH)) {}
					}
					text.value x=(At(right)) y=(At(y + 9.5)) text-anchor="end" { (text(length)) }
				} @else {
					text.note x=(At(right)) y=(At(y + 9.5)) text-anchor="end" { "none" }
				}
			}
		}
		// Last, so that the lines pass behind them.
		@for (index, step) in steps.iter().enumerate() {
			text.over x="0" y=(At(TOP + PITCH * index as f64 + 11.0)) { (shortened(step.name, 52)) }
		}
	};
	naming.figure(bottom + 2.0, &content)
}

/// A text of so many characters at most; the whole of it is in the table.
fn shortened(text: &str, most: usize) -> String {
	if text.chars().count() <= most {
		return text.to_owned();
	}
	let mut short: String = text.chars().take(most - 1).collect();
	short.push('\u{2026}');
	short
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn a_scale_reaches_from_below_the_least_to_the_greatest() {
		let scale = LogScale::over([127.0, 2068.0, 153_628.0]);
		assert_eq!(scale.position(153_628.0), 1.0);
		assert_eq!(scale.position(10.0), 0.0);
		assert!(scale.position(127.0) > 0.2);
		let ticks: Vec<String> = scale.ticks().into_iter().map(|(_, text)| text).collect();
		assert_eq!(ticks, ["10", "100", "1k", "10k", "100k"]);
	}

	#[test]
	fn equal_factors_are_equal_lengths() {
		let scale = LogScale::over([20.0, 50_000.0]);
		let length = |from, to| scale.position(to) - scale.position(from);
		assert!((length(50.0, 500.0) - length(3_000.0, 30_000.0)).abs() < 1e-12);
	}

	#[test]
	fn a_scale_of_anything_is_a_scale() {
		for figures in [
			vec![],
			vec![0.0],
			vec![1.0],
			vec![1000.0],
			vec![1e-9, 1e15],
			vec![f64::MIN_POSITIVE],
		] {
			let scale = LogScale::over(figures.iter().copied());
			let ticks = scale.ticks();
			assert!(
				!ticks.is_empty() && ticks.len() < 8,
				"{figures:?}: {ticks:?}"
			);
			for figure in figures.into_iter().chain([0.0, -1.0, 1.0, 1e300]) {
				let position = scale.position(figure);
				assert!((0.0..=1.0).contains(&position), "{figure}: {position}");
			}
		}
	}

	#[test]
	fn long_names_are_cut() {
		assert_eq!(shortened("exit", 4), "exit");
		assert_eq!(shortened("entry", 4), "ent\u{2026}");
	}

	#[test]
	fn coordinates_are_short() {
		let text = |value| html! { (At(value)) }.into_string();
		assert_eq!(text(12.0), "12");
		assert_eq!(text(12.345), "12.3");
	}
}
