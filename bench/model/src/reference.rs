// SPDX-License-Identifier: GPL-2.0-only
//! Round trips whose cycles are published, as the plugin recorded them.
//!
//! They are kept in the repository, so that the fit doesn't depend on what is on the
//! machine: `cargo xtask trace --reference` records them anew. A file has the kinds of
//! instructions in order, not the instructions: `*` is any that the model doesn't tell
//! apart, `>` after a name says that what follows is elsewhere, and `;` separates the
//! round trip from the empty loop.

use trace::attribute::Phase;
use trace::insn::{Barrier, Op, Spr};

use crate::{Error, ModelInsn};

/// A round trip and the loop around it.
pub struct Sequence {
	/// Both.
	pub round: Vec<ModelInsn>,
	/// The loop alone.
	pub empty: Vec<ModelInsn>,
}

/// Their names and their files' content.
pub const ALL: [(&str, &str); 3] = [
	("asm-5.10-null", include_str!("../reference/asm-5.10-null")),
	(
		"asm-5.10-h_prod",
		include_str!("../reference/asm-5.10-h_prod"),
	),
	("c-6.12-null", include_str!("../reference/c-6.12-null")),
];

/// The sequence of that name.
pub fn get(name: &str) -> Result<Sequence, Error> {
	let (_, text) = ALL
		.iter()
		.find(|(known, _)| *known == name)
		.ok_or_else(|| Error(format!("there is no reference {name}")))?;
	parse(text).map_err(|Error(why)| Error(format!("{name}: {why}")))
}

/// Reads a file's content.
pub fn parse(text: &str) -> Result<Sequence, Error> {
	let mut parts = [Vec::new(), Vec::new()];
	let mut part = 0;
	for word in text
		.lines()
		.filter(|line| !line.starts_with('#'))
		.flat_map(str::split_whitespace)
	{
		if word == ";" {
			part += 1;
			continue;
		}
		let steps = parts
			.get_mut(part)
			.ok_or_else(|| Error("more than two parts".to_owned()))?;
		let (word, jumps) = match word.strip_suffix('>') {
			Some(word) => (word, true),
			None => (word, false),
		};
		let (count, name) = match word.split_once('x') {
			Some((count, name)) if count.bytes().all(|b| b.is_ascii_digit()) => {
				let count: usize = count
					.parse()
					.map_err(|_| Error(format!("{word}: no count")))?;
				(count, name)
			}
			_ => (1, word),
		};
		if count == 0 || count > 1 << 20 || (jumps && count > 1) {
			return Err(Error(format!("{word}: no such count")));
		}
		let op = op(name).ok_or_else(|| Error(format!("{name}: no such instruction")))?;
		let step = ModelInsn {
			op,
			jumps,
			phase: Phase::Guest,
		};
		steps.extend(std::iter::repeat_n(step, count));
	}
	let [round, empty] = parts;
	if round.is_empty() || empty.is_empty() {
		return Err(Error("a part is missing".to_owned()));
	}
	Ok(Sequence { round, empty })
}

/// What a name in a file stands for.
fn op(name: &str) -> Option<Op> {
	let spr = |name: &str| {
		Spr::from_name(name).or_else(|| name.strip_prefix("SPR")?.parse().ok().map(Spr))
	};
	Some(match name {
		"*" => Op::Plain,
		"b" => Op::Branch {
			link: false,
			to_lr: false,
		},
		"mtlr" => Op::Mtspr(Spr::LR),
		"mtctr" => Op::Mtspr(Spr::CTR),
		"mflr" => Op::Mfspr(Spr::LR),
		"mfctr" => Op::Mfspr(Spr::CTR),
		"mftb" => Op::Mftb,
		"mtmsrd:L=0" => Op::Mtmsrd(0),
		"mtmsrd:L=1" => Op::Mtmsrd(1),
		"mfmsr" => Op::Mfmsr,
		"isync" => Op::Isync,
		"sync:hwsync" => Op::Barrier(Barrier::Hwsync),
		"sync:lwsync" => Op::Barrier(Barrier::Lwsync),
		"sync:ptesync" => Op::Barrier(Barrier::Ptesync),
		"sync:eieio" => Op::Barrier(Barrier::Eieio),
		"slb:slbmte" => Op::Slb("slbmte"),
		"slb:slbia" => Op::Slb("slbia"),
		"tlb:tlbsync" => Op::Tlb("tlbsync"),
		"tlb:tlbie" => Op::Tlb("tlbie"),
		"tlb:tlbiel" => Op::Tlb("tlbiel"),
		"larx" => Op::Larx,
		"stcx." => Op::Stcx,
		"rfid" => Op::Rfid,
		"hrfid" => Op::Hrfid,
		"rfscv" => Op::Rfscv,
		"sc:0" => Op::Sc(0),
		"sc:1" => Op::Sc(1),
		"scv" => Op::Scv,
		_ => {
			if let Some(name) = name.strip_prefix("mtspr:") {
				Op::Mtspr(spr(name)?)
			} else {
				Op::Mfspr(spr(name.strip_prefix("mfspr:")?)?)
			}
		}
	})
}

/// Writes one.
pub fn render(title: &str, round: &[ModelInsn], empty: &[ModelInsn]) -> String {
	let mut text = format!("# {title}\n");
	for (index, steps) in [round, empty].into_iter().enumerate() {
		if index > 0 {
			text.push_str(";\n");
		}
		let mut line = String::new();
		let mut rest = steps;
		while let Some(first) = rest.first() {
			let word = word(*first);
			let same = rest.iter().take_while(|step| self::word(**step) == word);
			let count = if word.ends_with('>') { 1 } else { same.count() };
			rest = &rest[count..];
			let word = if count > 1 {
				format!("{count}x{word}")
			} else {
				word
			};
			if line.len() + word.len() > 78 {
				text.push_str(line.trim_end());
				text.push('\n');
				line.clear();
			}
			line.push_str(&word);
			line.push(' ');
		}
		text.push_str(line.trim_end());
		text.push('\n');
	}
	text
}

fn word(step: ModelInsn) -> String {
	let name = match step.op {
		Op::Branch { .. } => "b".to_owned(),
		Op::Plain
		| Op::Load
		| Op::Store
		| Op::LoadVector
		| Op::StoreVector
		| Op::LoadInhibited
		| Op::StoreInhibited => "*".to_owned(),
		op => match op.names() {
			Some((_, Some(own))) => own,
			Some((kind, None)) => kind.to_owned(),
			None => "*".to_owned(),
		},
	};
	// An ordinary branch that isn't taken is like any other instruction.
	match (name.as_str(), step.jumps) {
		("b", false) => "*".to_owned(),
		(_, true) => format!("{name}>"),
		_ => name,
	}
}

#[cfg(test)]
mod tests {
	use super::*;

	#[test]
	fn all_of_them_can_be_read() {
		for (name, text) in ALL {
			let sequence = get(name).unwrap_or_else(|error| panic!("{error}"));
			assert!(
				sequence.round.len() > 100 && sequence.empty.len() == 10,
				"{name}"
			);
			// And come out again as they are.
			let title = text.lines().next().unwrap().trim_start_matches("# ");
			assert_eq!(
				render(title, &sequence.round, &sequence.empty),
				text,
				"{name}"
			);
		}
		assert!(get("nothing").is_err());
	}

	#[test]
	fn what_cannot_be_is_refused() {
		for text in [
			"",
			"* *",
			"* ; * ; *",
			"quux ; *",
			"0x* ; *",
			"9x*> ; *",
			"mtspr:NO ; *",
		] {
			assert!(parse(text).is_err(), "{text}");
		}
		let one = parse("# title\n12x* mtspr:LPCR\nb> ; 3x*").unwrap();
		assert_eq!((one.round.len(), one.empty.len()), (14, 3));
		assert!(one.round[13].jumps);
	}
}
