// SPDX-License-Identifier: GPL-2.0-only
//! Spans of made-up instructions; the file of spans.

use super::file::FIRST_LINE;
use super::*;
use proptest::prelude::*;

const CEDE: u64 = 0xe0;
const PUT: u64 = 0x20;

/// Real addresses as they come, from a vector to the entry of the guest.
fn exit(recorder: &mut Recorder, vector: u64, r3: u64, more: &[(Part, u64)]) {
	recorder.host(0, Part::Kernel, vector, r3, 0);
	for &(part, real) in more {
		match part {
			Part::User => recorder.user(0),
			part => recorder.host(0, part, real, !0, 0),
		}
	}
	recorder.enter(0);
	// The guest's instructions, which are not counted.
	recorder.user(0);
}

fn recorded(work: impl FnOnce(&mut Recorder)) -> Recording {
	let mut recorder = Recorder::default();
	recorder.enter(0);
	recorder.begin(7);
	work(&mut recorder);
	recorder.end().unwrap()
}

fn span(event: ExitReason, instructions: [u64; 3], interrupts: u64) -> Span {
	Span {
		sort: Sort {
			event,
			landmarks: 0,
		},
		instructions,
		interrupts,
		switches: 0,
	}
}

/// Of the quiet spans.
fn code(phase: &Recording, event: ExitReason) -> Option<&HashMap<u64, u64>> {
	let sort = Sort {
		event,
		landmarks: 0,
	};
	phase.code.get(&CodeOf { sort, quiet: true })
}

use Part::{Firmware, Kernel, User};

#[test]
fn spans_belong_to_what_the_guest_left_for() {
	let phase = recorded(|recorder| {
		for _ in 0..3 {
			// With the MMU on, and off.
			exit(
				recorder,
				0x4c00,
				PUT,
				&[(Kernel, 0x8000), (Firmware, 0x3000_0000)],
			);
		}
		exit(recorder, 0xc00, CEDE, &[(Kernel, 0x8000), (User, 0)]);
		exit(recorder, 0x4500, PUT, &[]);
		exit(recorder, 0x4ea0, PUT, &[(Kernel, 0x8000)]);
	});
	let wanted = BTreeMap::from([
		(span(ExitReason::Hcall(PUT), [2, 1, 0], 0), 3),
		(span(ExitReason::Hcall(CEDE), [2, 0, 1], 0), 1),
		(span(ExitReason::Vector(0x500), [1, 0, 0], 0), 1),
		(span(ExitReason::Vector(0xea0), [2, 0, 0], 0), 1),
	]);
	assert_eq!((phase.tag, &phase.spans), (7, &wanted));
	assert_eq!(
		code(&phase, ExitReason::Hcall(PUT)).unwrap(),
		&HashMap::from([(0x4c00, 3), (0x8000, 3), (0x3000_0000, 3)])
	);
	// Userspace had a turn.
	assert!(code(&phase, ExitReason::Hcall(CEDE)).is_none());
}

#[test]
fn a_system_call_of_the_hosts_is_no_hcall() {
	let phase = recorded(|recorder| {
		exit(
			recorder,
			0x4c00,
			CEDE,
			&[(User, 0), (Kernel, 0x4c00), (User, 0)],
		);
	});
	let wanted = BTreeMap::from([(span(ExitReason::Hcall(CEDE), [2, 0, 2], 0), 1)]);
	assert_eq!(phase.spans, wanted);
}

#[test]
fn interrupts_of_the_host_are_told() {
	let phase = recorded(|recorder| {
		exit(
			recorder,
			0x4c00,
			PUT,
			&[(Kernel, 0x8000), (Kernel, 0x4900), (Kernel, 0x8004)],
		);
	});
	let wanted = span(ExitReason::Hcall(PUT), [4, 0, 0], 1);
	assert_eq!(phase.spans, BTreeMap::from([(wanted, 1)]));
	assert!(!wanted.is_quiet() && code(&phase, ExitReason::Hcall(PUT)).is_none());
}

#[test]
fn what_is_done_twice_is_counted_once() {
	let phase = recorded(|recorder| {
		// The kernel's load is refused, done again; then userspace's.
		let load = (Kernel, 0x8000);
		exit(recorder, 0x4c00, PUT, &[load, (Kernel, 0x4300), load]);
		exit(
			recorder,
			0x4c00,
			CEDE,
			&[(User, 0), (Kernel, 0x4300), (User, 0)],
		);
	});
	let wanted = BTreeMap::from([
		(span(ExitReason::Hcall(PUT), [3, 0, 0], 0), 1),
		(span(ExitReason::Hcall(CEDE), [2, 0, 1], 0), 1),
	]);
	assert_eq!(phase.spans, wanted);
	assert_eq!(code(&phase, ExitReason::Hcall(PUT)).unwrap()[&0x8000], 1);
}

#[test]
fn an_exit_without_vector_is_lost() {
	let phase = recorded(|recorder| {
		recorder.host(0, Kernel, 0x8000, PUT, 0);
		recorder.enter(0);
	});
	let wanted = BTreeMap::from([(span(ExitReason::Lost, [1, 0, 0], 0), 1)]);
	assert_eq!(phase.spans, wanted);
}

#[test]
fn what_begins_in_the_host_is_in_no_span() {
	let mut recorder = Recorder::default();
	recorder.begin(0);
	recorder.user(0);
	exit(&mut recorder, 0x4c00, PUT, &[]);
	assert!(recorder.in_guest(0));
	exit(&mut recorder, 0x4c00, PUT, &[]);
	let phase = recorder.end().unwrap();
	let wanted = BTreeMap::from([(span(ExitReason::Hcall(PUT), [1, 0, 0], 0), 1)]);
	assert_eq!(phase.spans, wanted);
	assert_eq!(phase.others, BTreeMap::from([(0, [1, 0, 1])]));
	assert_eq!(recorder.end(), None);
}

#[test]
fn what_a_cpu_did_before_a_phase_is_known() {
	let mut recorder = Recorder::default();
	recorder.enter(1);
	recorder.begin(0);
	assert!(recorder.in_guest(1) && !recorder.in_guest(0));
	recorder.host(1, Kernel, 0x4c00, PUT, 0);
	recorder.enter(1);
	let phase = recorder.end().unwrap();
	assert_eq!(phase.spans[&span(ExitReason::Hcall(PUT), [1, 0, 0], 0)], 1);
	// Out of a phase, too.
	recorder.enter(1);
	recorder.host(1, Kernel, 0x4c00, PUT, 0);
	assert!(!recorder.in_guest(1));
}

#[test]
fn a_span_is_a_threads_wherever_it_runs() {
	const VCPU: u64 = 0x1000;
	const OTHER: u64 = 0x2000;
	let phase = recorded(|recorder| {
		recorder.switch(0, VCPU);
		recorder.host(0, Kernel, 0x4c00, CEDE, 0);
		recorder.switch(0, OTHER);
		recorder.host(0, Kernel, 0x4500, 0, 0);
		recorder.host(0, Kernel, 0x8000, 0, landmark::IDLE);
		recorder.user(0);
		recorder.switch(1, VCPU);
		recorder.host(1, Kernel, 0x8000, 0, landmark::FULL);
		recorder.host(1, Firmware, 0x3000_0000, 0, 0);
		recorder.enter(1);
		recorder.user(1);
		assert!(recorder.in_guest(1) && !recorder.in_guest(0));
	});
	let mut wanted = span(ExitReason::Hcall(CEDE), [2, 1, 0], 0);
	wanted.sort.landmarks = landmark::FULL;
	wanted.switches = 1;
	assert_eq!(phase.spans, BTreeMap::from([(wanted, 1)]));
	assert!(!wanted.is_quiet());
	assert_eq!((wanted.way(), wanted.hypervisor()), (Way::Full, 3));
	assert_eq!(phase.others, BTreeMap::from([(landmark::IDLE, [2, 0, 1])]));
}

#[test]
fn what_lasts_at_the_end_is_in_no_span() {
	let phase = recorded(|recorder| recorder.host(0, Kernel, 0x4c00, CEDE, landmark::LIGHT));
	assert!(phase.spans.is_empty() && phase.code.is_empty());
	assert_eq!(phase.others, BTreeMap::from([(landmark::LIGHT, [1, 0, 0])]));
}

#[test]
fn landmarks_tell_the_way() {
	let way = |landmarks| {
		let mut span = span(ExitReason::Hcall(CEDE), [1, 0, 0], 0);
		span.sort.landmarks = landmarks;
		span.way()
	};
	assert_eq!(way(0), Way::Fast);
	assert_eq!(way(landmark::LIGHT), Way::Light);
	// A light exit that became a full one.
	assert_eq!(way(landmark::LIGHT | landmark::FULL), Way::Full);
}

#[test]
fn vectors_are_where_linux_has_them() {
	for (real, wanted) in [
		(0xc00, Some(0xc00)),
		(0x4c00, Some(0xc00)),
		(0x4e80, Some(0xe80)),
		(0x5500, Some(0x1500)),
		(0xc04, None),
		(0x8c00, None),
		(1 << 40 | 0xc00, None),
	] {
		assert_eq!(vector(real), wanted, "{real:x}");
	}
}

fn written(phases: &[Recording]) -> Vec<u8> {
	let mut bytes = Vec::new();
	write_start(&mut bytes).unwrap();
	for phase in phases {
		write(&mut bytes, phase).unwrap();
	}
	write_end(&mut bytes).unwrap();
	bytes
}

fn some() -> Recording {
	recorded(|recorder| {
		exit(recorder, 0x4c00, PUT, &[(Kernel, 0x8000), (Kernel, 0x8004)]);
		exit(recorder, 0x4c00, PUT, &[(Kernel, 0x8004)]);
		exit(recorder, 0x4500, 0, &[(Firmware, 0x3000_0000), (User, 0)]);
		recorder.host(0, Kernel, 0x8000, PUT, 0);
	})
}

#[test]
fn what_is_cut_off_is_known_as_such() {
	let whole = written(&[some(), some()]);
	assert_eq!(read(&whole[..]).unwrap(), [some(), some()]);
	for length in 0..whole.len() {
		let error = read(&whole[..length]).unwrap_err();
		assert!(!error.to_string().contains('\n'));
		assert!(
			matches!(error, Error::Truncated | Error::NotSpans),
			"{length}: {error}"
		);
	}
}

#[test]
fn other_files_and_damage_are_told() {
	let text = |bytes| String::from_utf8(bytes).unwrap();
	let good = text(written(&[some()]));
	let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
	let other = good.replace("spans 2", "spans 1");
	assert_eq!(
		error(&other),
		"this is not a record of spans of this version"
	);
	assert_eq!(error(""), "this is not a record of spans of this version");
	assert!(matches!(read(&b"\x7fELF\xff\n"[..]), Err(Error::NotSpans)));
	for (from, to) in [
		("span hcall:20", "span hcall:xyz"),
		("phase 7", "phase"),
		("phase 7\n", ""),
		("quiet 8000", "quiet fffffffffffffffc"),
		("quiet 8000", "silent 8000"),
		("end\n", "end\nend\n"),
		("span hcall", "\u{fffd}"),
	] {
		let bad = good.replacen(from, to, 1);
		assert_ne!(bad, good, "{from}");
		let error = error(&bad);
		assert!(
			error.starts_with("the record of spans is damaged in line "),
			"{error}"
		);
	}
	let line = good.lines().find(|line| line.starts_with("span")).unwrap();
	let twice = good.replacen(line, &format!("{line}\n{line}"), 1);
	assert!(matches!(read(twice.as_bytes()), Err(Error::Corrupt(4))));
}

fn any_span() -> impl Strategy<Value = Span> {
	let event = prop_oneof![
		(0u64..8).prop_map(ExitReason::Hcall),
		any::<u64>().prop_map(ExitReason::Hcall),
		any::<u16>().prop_map(ExitReason::Vector),
		Just(ExitReason::Lost),
	];
	let sort = (event, 0u8..8).prop_map(|(event, landmarks)| Sort { event, landmarks });
	let counts = (0u64..3, 0u64..3);
	(sort, any::<[u64; 3]>(), counts).prop_map(|(sort, instructions, counts)| Span {
		sort,
		instructions,
		interrupts: counts.0,
		switches: counts.1,
	})
}

proptest! {
	#[test]
	fn what_is_written_is_read(
		spans in proptest::collection::btree_map(any_span(), any::<u64>(), 0..20),
		others in proptest::collection::btree_map(any::<u8>(), any::<[u64; 3]>(), 0..4),
		quiet in any::<bool>(),
		code in proptest::collection::hash_map((0u64..50).prop_map(|n| 4 * n), 1u64..4, 1..50),
	) {
		let phase = Recording {
			tag: 9,
			spans,
			code: BTreeMap::from([(CodeOf { sort: span(ExitReason::Hcall(PUT), [0; 3], 0).sort, quiet }, code)]),
			others,
		};
		let back = read(&written(std::slice::from_ref(&phase))[..]).unwrap();
		prop_assert_eq!(back, [phase]);
	}

	#[test]
	fn nothing_makes_the_reader_fall(lines in "(phase|span|others|code|end|quiet| |[0-9a-f]|:|hcall|\n|.){0,80}") {
		let text = format!("{FIRST_LINE}\nphase 0\n{lines}\nend\n");
		let _ = read(text.as_bytes());
	}

	#[test]
	fn no_instruction_is_lost(
		steps in proptest::collection::vec((0u8..4, 0u64..0x1800), 0..200),
	) {
		// Without refused instructions, spans and other threads have what was executed.
		let mut recorder = Recorder::default();
		recorder.begin(0);
		let mut executed = 0;
		for (what, word) in steps {
			let real = 4 * word;
			let cpu = (word % 2) as usize;
			match what {
				0 => recorder.enter(cpu),
				1 if !recorder.in_guest(cpu) => {
					executed += 1;
					recorder.user(cpu);
				}
				2 | 3 if vector(real).is_none_or(|vector| !REFUSED.contains(&vector)) => {
					executed += 1;
					recorder.host(cpu, Part::Kernel, real, 0, 0);
				}
				_ => {}
			}
		}
		let phase = recorder.end().unwrap();
		let in_spans: u64 = phase.spans.iter().map(|(span, count)| span.len() * count).sum();
		let others: u64 = phase.others.values().flatten().sum();
		prop_assert_eq!(in_spans + others, executed);
	}
}
