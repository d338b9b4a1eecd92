// SPDX-License-Identifier: GPL-2.0-only
//! Bars in a logarithmic scale: a card for each case.

use std::collections::BTreeSet;

use maud::{Markup, html};
use protocol::Column;

use super::figure::{self, Group, LogScale, Naming, Shown};
use super::page::{Page, Row};
use super::parts::reason_link;
use super::words::label;

/// A card for each case, with what `shown` says of each cell.
pub(super) fn cards(
	page: &Page,
	prefix: &str,
	unit: &str,
	modelled: bool,
	scale: LogScale,
	shown: impl Fn(Row, Column) -> Option<Shown>,
) -> Markup {
	html! {
		div.cards {
			@for (case, guests) in &page.cases {
				@let mut cited = BTreeSet::new();
				@let groups: Vec<Group> = guests
					.iter()
					.filter_map(|&guest| group(page, (*case, guest), &shown, &mut cited))
					.collect();
				@if groups.iter().any(|group| group.bars.iter().any(|(_, shown)| matches!(shown, Shown::Figure { .. }))) || !modelled {
					@let id = format!("{prefix}-{}", case.name);
					@let title = format!("{}: {unit} per round trip", case.name);
					figure.card {
						figcaption { code { (case.name) } span.muted { " " (unit) } }
						(figure::bars(
							&Naming { id: &id, title: &title, description: &in_words(&groups) },
							scale,
							&groups,
							modelled,
						))
						@if !cited.is_empty() {
							ul.cited {
								@for number in cited {
									li { (reason_link(number)) " " (page.reasons[number - 1]) }
								}
							}
						}
					}
				}
			}
		}
	}
}

fn group(
	page: &Page,
	row: Row,
	shown: impl Fn(Row, Column) -> Option<Shown>,
	cited: &mut BTreeSet<usize>,
) -> Option<Group> {
	let absent: Vec<_> = Column::ALL.map(|path| page.absence(row, path)).to_vec();
	let heading = format!("{} guest", row.1.name());
	// The same for all paths is said once.
	if let (Some(same), true) = (absent[0], absent.iter().all(|&one| one == absent[0])) {
		cited.insert(same.1);
		return Some(Group {
			heading: format!("{heading}: {} [{}]", same.0, same.1),
			bars: Vec::new(),
		});
	}
	let bars: Vec<_> = Column::ALL
		.into_iter()
		.zip(absent)
		.filter_map(|(path, absent)| {
			let shown = shown(row, path).or_else(|| {
				let (what, number) = absent?;
				cited.insert(number);
				Some(Shown::Note(format!("{what} [{number}]")))
			})?;
			Some((path, shown))
		})
		.collect();
	(!bars.is_empty()).then_some(Group { heading, bars })
}

/// What a card shows, for those who don't see it.
fn in_words(groups: &[Group]) -> String {
	let sentence = |group: &Group| {
		let bars = group.bars.iter().map(|(path, shown)| match shown {
			Shown::Figure { text, ratio, .. } => match ratio.as_deref() {
				Some(ratio) if !ratio.is_empty() => format!("{} {text} ({ratio})", label(*path)),
				_ => format!("{} {text}", label(*path)),
			},
			Shown::Note(why) => format!("{} {why}", label(*path)),
		});
		let bars = bars.collect::<Vec<_>>().join(", ");
		if bars.is_empty() {
			format!("{}.", group.heading)
		} else {
			format!("{}: {bars}.", group.heading)
		}
	};
	groups.iter().map(sentence).collect::<Vec<_>>().join(" ")
}
