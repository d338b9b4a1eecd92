// SPDX-License-Identifier: GPL-2.0-only
//! The page's colours, light and dark.
//!
//! They are here and not in the style sheet so that the tests below can compute what
//! they are chosen for: text that can be read, marks that stand out from what they are
//! on, and four series that stay apart for every kind of colour vision. Nothing is told
//! by colour alone, all the same.

use std::fmt;

use protocol::Column;

/// An sRGB colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Colour(u32);

impl fmt::Display for Colour {
	fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
		write!(f, "#{:06x}", self.0)
	}
}

/// The colours for one kind of surroundings.
#[derive(Clone, Copy, Debug)]
pub struct Theme {
	/// Behind everything.
	pub page: Colour,
	/// Behind figures and tables.
	pub surface: Colour,
	/// What is to be read.
	pub text: Colour,
	/// What may be read.
	pub muted: Colour,
	/// Rules and grids; nothing depends on seeing them.
	pub line: Colour,
	/// Links, and what has the focus.
	pub link: Colour,
	/// One for each of [`Column::ALL`].
	pub series: [Colour; Column::ALL.len()],
}

/// For light surroundings, and for paper.
pub const LIGHT: Theme = Theme {
	page: Colour(0xf6f7f9),
	surface: Colour(0xffffff),
	text: Colour(0x1a1d22),
	muted: Colour(0x565d68),
	line: Colour(0xdcdfe4),
	link: Colour(0x0b57b0),
	series: [
		Colour(0xc17615),
		Colour(0x595e67),
		Colour(0x2788dd),
		Colour(0x06206b),
	],
};

/// For dark ones.
pub const DARK: Theme = Theme {
	page: Colour(0x14171b),
	surface: Colour(0x1c2026),
	text: Colour(0xe9ebee),
	muted: Colour(0xa6adb8),
	line: Colour(0x363c45),
	link: Colour(0x8ec1ff),
	series: [
		Colour(0xc46922),
		Colour(0xabb0b7),
		Colour(0x2f71d6),
		Colour(0xb8f4fc),
	],
};

impl Theme {
	/// As declarations of CSS variables.
	pub fn variables(&self) -> String {
		let mut css = format!(
			"--page:{};--surface:{};--text:{};--muted:{};--line:{};--link:{};",
			self.page, self.surface, self.text, self.muted, self.line, self.link
		);
		for (path, colour) in Column::ALL.into_iter().zip(self.series) {
			css.push_str(&format!("--{}:{colour};", class(path)));
		}
		css
	}
}

/// A path's name where CSS needs one.
pub fn class(path: Column) -> &'static str {
	match path {
		Column::Asm510 => "asm",
		Column::C => "c",
		Column::RustFull => "full",
		Column::RustFast => "fast",
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	type Linear = [f64; 3];

	fn linear(colour: Colour) -> Linear {
		[16, 8, 0].map(|shift| {
			let value = f64::from((colour.0 >> shift) & 0xff) / 255.0;
			if value <= 0.04045 {
				value / 12.92
			} else {
				((value + 0.055) / 1.055).powf(2.4)
			}
		})
	}

	/// Contrast as WCAG 2 defines it.
	fn contrast(a: Colour, b: Colour) -> f64 {
		let luminance = |colour| {
			let [r, g, b] = linear(colour);
			0.2126 * r + 0.7152 * g + 0.0722 * b
		};
		let (a, b) = (luminance(a), luminance(b));
		(a.max(b) + 0.05) / (a.min(b) + 0.05)
	}

	fn apply(matrix: [[f64; 3]; 3], [x, y, z]: Linear) -> Linear {
		matrix.map(|[a, b, c]| a * x + b * y + c * z)
	}

	/// What is seen by whom, in linear light: Machado, Oliveira and Fernandes,
	/// "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009,
	/// severity 1.
	const VISIONS: [(&str, [[f64; 3]; 3]); 4] = [
		(
			"trichromat",
			[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
		),
		(
			"protanope",
			[
				[0.152286, 1.052583, -0.204868],
				[0.114503, 0.786281, 0.099216],
				[-0.003882, -0.048116, 1.051998],
			],
		),
		(
			"deuteranope",
			[
				[0.367322, 0.860646, -0.227968],
				[0.280085, 0.672501, 0.047413],
				[-0.011820, 0.042940, 0.968881],
			],
		),
		(
			"tritanope",
			[
				[1.255528, -0.076749, -0.178779],
				[-0.078411, 0.930809, 0.147602],
				[0.004733, 0.691367, 0.303900],
			],
		),
	];

	/// Ottosson's OKLab, in which distance is what is seen as one.
	fn oklab(light: Linear) -> Linear {
		let cones = apply(
			[
				[0.4122214708, 0.5363325363, 0.0514459929],
				[0.2119034982, 0.6806995451, 0.1073969566],
				[0.0883024619, 0.2817188376, 0.6299787005],
			],
			light.map(|value| value.clamp(0.0, 1.0)),
		);
		apply(
			[
				[0.2104542553, 0.7936177850, -0.0040720468],
				[1.9779984951, -2.4285922050, 0.4505937099],
				[0.0259040371, 0.7827717662, -0.8086757660],
			],
			cones.map(f64::cbrt),
		)
	}

	fn distance(a: Linear, b: Linear) -> f64 {
		let squares = a.into_iter().zip(b).map(|(a, b)| (a - b).powi(2));
		squares.sum::<f64>().sqrt()
	}

	#[test]
	fn the_measures_are_right() {
		assert_eq!(contrast(Colour(0), Colour(0xffffff)), 21.0);
		// The lightest grey that passes for text on white.
		assert!((contrast(Colour(0x767676), Colour(0xffffff)) - 4.54).abs() < 0.01);
		// Red and green of equal lightness are one colour to a deuteranope.
		let seen = |vision: usize, colour| oklab(apply(VISIONS[vision].1, linear(colour)));
		let apart = |vision| {
			distance(
				seen(vision, Colour(0xc0503c)),
				seen(vision, Colour(0x7d7a1e)),
			)
		};
		assert!(apart(0) > 0.12 && apart(2) < 0.06);
	}

	#[test]
	fn text_can_be_read() {
		for theme in [LIGHT, DARK] {
			for ground in [theme.page, theme.surface] {
				assert!(contrast(theme.text, ground) >= 7.0, "{theme:?}");
				assert!(contrast(theme.muted, ground) >= 4.5, "{theme:?}");
				assert!(contrast(theme.link, ground) >= 4.5, "{theme:?}");
			}
		}
	}

	#[test]
	fn marks_stand_out() {
		for theme in [LIGHT, DARK] {
			for colour in theme.series {
				for ground in [theme.page, theme.surface] {
					assert!(contrast(colour, ground) >= 3.0, "{colour} on {ground}");
				}
			}
		}
	}

	#[test]
	fn series_stay_apart_for_everybody() {
		for theme in [LIGHT, DARK] {
			for (who, vision) in VISIONS {
				for (index, &a) in theme.series.iter().enumerate() {
					for &b in &theme.series[index + 1..] {
						let [x, y] = [a, b].map(|colour| oklab(apply(vision, linear(colour))));
						let apart = distance(x, y);
						assert!(apart >= 0.15, "{who}: {a} and {b} are {apart:.3} apart");
					}
				}
			}
		}
	}
}
