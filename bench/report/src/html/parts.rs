// SPDX-License-Identifier: GPL-2.0-only
//! What several sections are made of: headers, tables that scroll, and words for what is absent.

use maud::{Markup, html};
use protocol::Column;

use super::palette::class;
use super::words::label;

/// Nothing, and in words for those who don't see that.
pub(super) fn dash(words: &str) -> Markup {
	html! { span.absent { span aria-hidden="true" { "\u{2013}" } span.unseen { (words) } } }
}

pub(super) fn reason_link(number: usize) -> Markup {
	html! { a href={ "#reason-" (number) } aria-label={ "reason " (number) } { "[" (number) "]" } }
}

/// A table that may be wider than a phone: it scrolls, the page doesn't.
pub(super) fn scrolling(id: &str, caption: &Markup, content: &Markup) -> Markup {
	let caption_id = format!("{id}-caption");
	html! {
		div.scroll role="region" tabindex="0" aria-labelledby=(caption_id) {
			table id=(id) {
				caption id=(caption_id) { span { (caption) } }
				(content)
			}
		}
	}
}

pub(super) fn swatch(path: Column) -> Markup {
	html! {
		svg.swatch width="10" height="10" aria-hidden="true" focusable="false" {
			rect.(class(path)) width="10" height="10" {}
		}
	}
}

/// Column headers for the paths.
pub(super) fn path_headers(paths: &[Column]) -> Markup {
	html! {
		@for path in paths {
			th scope="col" { (swatch(*path)) (label(*path)) }
		}
	}
}

/// For what this report does not have.
pub(super) fn lacking(what: &str) -> Markup {
	html! { p.muted { "This report has no " (what) ": they were not recorded in this run." } }
}
