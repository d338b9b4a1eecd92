// SPDX-License-Identifier: GPL-2.0-only
//! Each rule is broken on purpose.

use super::*;
use crate::insn::Insn;

fn function(words: &[u32]) -> Function {
	Function {
		code: words.iter().copied().map(Insn).collect(),
		calls: BTreeSet::new(),
		outside: BTreeSet::new(),
	}
}

/// A Rust object that passes: the entry points and one handler.
fn good() -> ObjectFile {
	let name = |name: &str| String::from(name);
	ObjectFile {
		functions: ENTRY_POINTS
			.iter()
			.map(|entry| (name(entry), function(&[0xf821_ffc1])))
			.chain([(name("handler"), function(&[0x7c68_03a6]))])
			.collect(),
		globals: ENTRY_POINTS
			.iter()
			.chain(&TEXT_BOUNDS)
			.map(|global| name(global))
			.collect(),
		undefined: BTreeSet::from([name("allowed")]),
		pointed_at: BTreeSet::from([name("handler")]),
		writable: 0,
		text: 64,
		elsewhere: BTreeSet::new(),
		traceable: BTreeSet::new(),
	}
}

/// The rules that `rust` breaks.
fn broken(rust: &ObjectFile) -> Vec<&'static str> {
	let findings = rust_findings(rust, &BTreeSet::from([String::from("allowed")]));
	findings
		.into_iter()
		.filter(|(_, what)| !what.is_empty())
		.map(|(rule, _)| rule)
		.collect()
}

#[test]
fn good_object_passes() {
	assert_eq!(broken(&good()), Vec::<&str>::new());
}

#[test]
fn each_rule_is_enforced() {
	fn handler(object: &mut ObjectFile) -> &mut Function {
		object.functions.get_mut("handler").unwrap()
	}
	type Break = fn(&mut ObjectFile);
	let cases: [(&str, Break); 14] = [
		("only entry points are global", |o| {
			o.globals.insert(String::from("extra"));
		}),
		("takes only allowed symbols from the kernel", |o| {
			o.undefined.insert(String::from("printk"));
		}),
		("allows no symbol that it does not take", |o| {
			o.undefined.clear()
		}),
		("no panic", |o| {
			o.functions
				.insert(String::from("core9panicking"), function(&[]));
		}),
		("no writable data", |o| o.writable = 8),
		("text below 104 KiB", |o| o.text = MAX_TEXT),
		("stack below 1 KiB, or 1600 bytes on two ways", |o| {
			handler(o).code.push(Insn(0xf821_8001))
		}),
		(
			"stack of the full path fits into the trampoline's frame",
			|o| {
				let callee = String::from("serve");
				o.functions.insert(callee.clone(), function(&[0xf821_fc41]));
				let entry = o.functions.get_mut("kvm_p9_rs_vcpu_entry").unwrap();
				entry.calls.insert(callee);
			},
		),
		("no FP or vector instruction", |o| {
			handler(o).code.push(Insn(0xc823_0000))
		}),
		("has fast handlers", |o| o.pointed_at.clear()),
		("handlers leave SPRs alone", |o| {
			handler(o).code.push(Insn(0x7c7f_4ba6))
		}),
		("handlers call nothing of the kernel", |o| {
			handler(o).outside.insert(String::from(GLUE_FUNCTION));
			handler(o).outside.insert(String::from("allowed"));
		}),
		("no function takes a kprobe", |o| {
			o.elsewhere.insert(String::from("handler"));
		}),
		("TCE handlers clamp the guest's index", |o| {
			let name = String::from("h_put_tce");
			let code = [CMPLD, 0x6000_0000, ISEL];
			o.functions.insert(name.clone(), function(&code));
			o.pointed_at.insert(name);
		}),
	];
	assert_eq!(cases.len(), rust_findings(&good(), &BTreeSet::new()).len());
	for (rule, break_it) in cases {
		let mut object = good();
		break_it(&mut object);
		assert_eq!(broken(&object), [rule]);
	}
}

/// `cmpld r3, r4` and `isel r5, r3, r6, lt`.
const CMPLD: u32 = 0x7c23_2040;
const ISEL: u32 = 0x7ca3_301e;

#[test]
fn clamp_may_be_in_a_function_that_a_handler_calls() {
	let mut object = good();
	let [root, callee] = ["h_put_tce", "body"].map(String::from);
	let mut handler = function(&[]);
	handler.calls.insert(callee.clone());
	object.functions.insert(root.clone(), handler);
	object.functions.insert(callee, function(&[CMPLD, ISEL]));
	object.pointed_at.insert(root);
	assert!(broken(&object).is_empty());
}

#[test]
fn only_timed_handlers_read_clocks() {
	let (mftb, mttbl) = (0x7c6c_42a6, 0x7c7c_43a6);
	// PMC6 by its privileged number; PMC5; and MMCR0.
	let (mfpmc6, mtpmc6) = (0x7c78_c2a6, 0x7c78_c3a6);
	let (mfpmc5, mfmmcr0) = (0x7c77_c2a6, 0x7c7b_c2a6);
	let broken_with = |name: &str, word| {
		let mut object = good();
		object
			.functions
			.insert(String::from(name), function(&[word]));
		object.pointed_at.insert(String::from(name));
		broken(&object)
	};
	let timed = "_RNvNtNtCseJo9QQ1QxOe_5entry4fast5timed4null";
	let plain = "_RNvNtCseJo9QQ1QxOe_5entry8handlers9h_any_one";
	assert!(is_timed(timed) && !is_timed(plain) && !is_timed("timed"));
	for word in [mftb, mfpmc6] {
		assert!(broken_with(timed, word).is_empty(), "{word:#x}");
		assert_eq!(broken_with(plain, word), ["handlers leave SPRs alone"]);
	}
	for word in [mttbl, mtpmc6, mfpmc5, mfmmcr0] {
		assert_eq!(broken_with(timed, word), ["handlers leave SPRs alone"]);
	}
	let h_xirr_x = "_RNvNtNtCs6zBCXFne6mQ_5entry4fast7enabled8h_xirr_x";
	let h_xirr = "_RNvNtNtCs6zBCXFne6mQ_5entry4fast7enabled6h_xirr";
	assert!(broken_with(h_xirr_x, mftb).is_empty());
	for (name, word) in [(h_xirr_x, mttbl), (h_xirr_x, mfpmc6), (h_xirr, mftb)] {
		assert_eq!(broken_with(name, word), ["handlers leave SPRs alone"]);
	}
}

#[test]
fn what_handlers_call_is_looked_at() {
	let broken = |words: &[u32], outside: &str| {
		let mut glue = good();
		let mut kill = function(words);
		kill.outside.insert(String::from(outside));
		glue.functions.insert(String::from(GLUE_FUNCTION), kill);
		glue_findings(&glue)[0].1.len()
	};
	let (mfhsrr0, mtlpidr, lfd) = (0x7c7a_4aa6, 0x7c7f_4ba6, 0xc823_0000);
	assert_eq!(broken(&[mfhsrr0], "__opal_call"), 0);
	assert_eq!(broken(&[mfhsrr0], "opal_call"), 1);
	assert_eq!(broken(&[mtlpidr], "__opal_call"), 1);
	assert_eq!(broken(&[lfd, mtlpidr], "printk"), 3);
	assert_eq!(glue_findings(&good())[0].1.len(), 1);
}

#[test]
fn trampoline_may_only_use_its_sprs() {
	let broken = |hcall: &[u32], arrival: &[u32]| {
		let mut object = good();
		for (name, words) in [
			("kvm_p9_exit_hcall", hcall),
			("kvm_p9_stamp_hcall", arrival),
		] {
			object.functions.insert(String::from(name), function(words));
		}
		let findings = trampoline_findings(&object);
		let broken = findings.iter().filter(|(_, what)| !what.is_empty());
		broken.map(|(rule, _)| *rule).collect::<Vec<_>>()
	};
	let (hrfid, mtspr_hsrr0, mtspr_lpidr, mftb) =
		(0x4c00_0224, 0x7c9a_4ba6, 0x7c7f_4ba6, 0x7c6c_42a6);
	let (mfpmc6, mtpmc6) = (0x7c78_c2a6, 0x7c78_c3a6);
	let fast = ["fast path uses only its SPRs"];
	let arrival = ["a timed hcall's arrival only reads clocks"];
	assert!(broken(&[mtspr_hsrr0, hrfid], &[mftb, mfpmc6]).is_empty());
	assert_eq!(broken(&[mtspr_hsrr0], &[]), fast);
	assert_eq!(broken(&[mtspr_lpidr, hrfid], &[]), fast);
	assert_eq!(broken(&[mftb, hrfid], &[]), fast);
	assert_eq!(broken(&[mfpmc6, hrfid], &[]), fast);
	assert_eq!(broken(&[hrfid], &[mtspr_lpidr]), arrival);
	assert_eq!(broken(&[hrfid], &[mtpmc6]), arrival);
	let missing = trampoline_findings(&good());
	let missing = missing.iter().filter(|(_, what)| !what.is_empty());
	assert_eq!(missing.count(), 2);
}

#[test]
fn glue_in_a_guests_context_takes_no_probe() {
	let name = |name: &str| String::from(name);
	let object = |functions: &[&str], elsewhere: &[&str]| ObjectFile {
		functions: functions
			.iter()
			.map(|one| (name(one), function(&[])))
			.collect(),
		elsewhere: {
			let own = elsewhere.iter().filter(|one| functions.contains(one));
			own.map(|one| name(one)).collect()
		},
		undefined: BTreeSet::new(),
		..good()
	};
	let broken = |elsewhere: &[&str]| {
		let mut rust = good();
		rust.undefined = [GLUE_FUNCTION, "may_serve", "printk"].map(name).into();
		let assembly = object(&["run_guest"], elsewhere);
		let mut light = object(&["may_serve", "outlined", "init"], elsewhere);
		let may_serve = light.functions.get_mut("may_serve").unwrap();
		may_serve.calls.insert(name("outlined"));
		may_serve.outside.insert(name("flush"));
		let hv = object(&[BY_POINTER[0], "hcall"], elsewhere);
		let mmu = object(&[GLUE_FUNCTION, "flush"], elsewhere);
		let glue = BTreeMap::from([("light", light), ("hv", hv), ("mmu", mmu)]);
		probe_findings(&rust, &[&assembly], &glue)[0].1.clone()
	};
	assert!(broken(&["init", "hcall"]).is_empty());
	for one in ["run_guest", "may_serve", "outlined", "flush", BY_POINTER[0]] {
		assert!(broken(&[one]).contains(&name(one)), "{one}");
	}
	let none = probe_findings(&good(), &[], &BTreeMap::new());
	assert_eq!(none[0].1.len(), 2);
}

#[test]
fn glue_in_a_guests_context_is_not_instrumented() {
	let name = |name: &str| String::from(name);
	let broken = |change: &dyn Fn(&mut ObjectFile)| {
		let mut rust = good();
		rust.undefined = [GLUE_FUNCTION].map(name).into();
		let mut glue = good();
		glue.functions = [GLUE_FUNCTION, "init"]
			.map(|one| (name(one), function(&[])))
			.into();
		change(&mut glue);
		probe_findings(&rust, &[], &BTreeMap::from([("tce", glue)]))[1]
			.1
			.clone()
	};
	let calls = |glue: &mut ObjectFile, from: &str, to: &str| {
		let from = glue.functions.get_mut(from).unwrap();
		from.outside.insert(to.to_owned());
	};
	assert!(broken(&|glue| calls(glue, GLUE_FUNCTION, "__opal_call")).is_empty());
	assert!(broken(&|glue| calls(glue, "init", "_mcount")).is_empty());
	assert_eq!(
		broken(&|glue| calls(glue, GLUE_FUNCTION, "__asan_load8_noabort")),
		["kvm_p9_tce_kill: __asan_load8_noabort"]
	);
	assert_eq!(
		broken(&|glue| glue.traceable = BTreeSet::from([name(GLUE_FUNCTION)])),
		["kvm_p9_tce_kill: function tracer"]
	);
}

#[test]
fn stack_adds_up_and_recursion_is_an_error() {
	let mut object = good();
	let entry = ENTRY_POINTS[0];
	object
		.functions
		.get_mut("handler")
		.unwrap()
		.code
		.push(Insn(0xf821_ff81));
	object
		.functions
		.get_mut(entry)
		.unwrap()
		.calls
		.insert(String::from("handler"));
	assert_eq!(
		object.stack(entry, &mut Vec::new(), &|_| false).unwrap(),
		64 + 128
	);
	let without = object.stack(entry, &mut Vec::new(), &|name| name == "handler");
	assert_eq!(without.unwrap(), 64);
	object
		.functions
		.get_mut("handler")
		.unwrap()
		.calls
		.insert(String::from(entry));
	assert!(object.stack(entry, &mut Vec::new(), &|_| false).is_err());
}
