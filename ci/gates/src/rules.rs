// SPDX-License-Identifier: GPL-2.0-only
//! The rules for the object that is linked into the kernel, and what breaks each of them.
//!
//! The source says what the switch path may do. The rules hold for what the compiler and
//! the assembler made of the source:
//!
//! - The Rust object defines its entry points globally and nothing else. The object takes
//!   only the symbols in `entry/undefined.allow` from the kernel: a panic that can happen
//!   would add a symbol.
//! - The Rust object has no writable data.
//! - No instruction in the object or in the trampoline touches a floating-point, vector or
//!   VSX register. Those registers belong to the guest or to the user.
//! - The code of a fast hcall, trampoline and handlers, uses a short list of SPRs. LPIDR,
//!   PIDR, LPCR, the timebase and the PMU are not on the list. Only timed handlers
//!   (`kvm_p9.stats`), which have a table of their own, and the function that stamps the
//!   arrival of an hcall read the timebase and the counter of cycles. H_XIRR_X reads the timebase.
//! - Handlers call no function of the kernel, and so none that could block, with two
//!   exceptions: `kvm_p9_tce_kill()` in the glue invalidates the TCE caches of the PHBs
//!   through firmware. That function calls nothing else and touches no SPR but (H)SRR0/1.
//!   `do_uaccess_flush()` of the kernel is a leaf in assembly.
//! - All of the Rust object, of the trampoline, and of the glue that Rust calls before the context
//!   of the host is back is in `.noinstr.text`, where the kernel puts no kprobe.
//! - Handlers of TCE hcalls clamp the guest's index without a branch.
//! - Each function's text and stack are printed and limited.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use harness::check::{Check, Found};
use harness::paths;
use kbuild::object::{ENTRY_POINTS, TEXT_BOUNDS};
use powerpc::{FULL_PATH_STACK, HANDLER_STACK};

use crate::insn::SprAccess;
use crate::object::{Function, ObjectFile};

/// Of the Rust object, in bytes. Hcalls of XICS are some 7 KiB of them, light exits of hash guests 7, page
/// faults of radix guests and the flush 3.
const MAX_TEXT: u64 = 104 * 1024;
/// Of any entry point, in bytes, without what the kernel's functions use.
const MAX_STACK: u32 = 1024;
/// The same on ways that begin at functions of their own: to hardware's TCE tables, where C's handlers
/// need 880, and to page table hcalls after a full exit. Those are on top of the switch, as fast
/// handlers are.
const MAX_STACK_APART: u32 = 1600;
const _: () = assert!((MAX_STACK_APART as u64) < HANDLER_STACK);
const APART: [&str; 3] = [
	"::hardware::commit::write_",
	"::hardware::commit::check::",
	"::hpt::full_path::answer",
];
/// The same where the full path calls in, with the stack of the vcpu's task as C has it.
const MAX_STACK_FULL_PATH: u32 = 1856;
const FULL_PATH: &str = "kvm_p9_tce";
/// Entry points that run, or call functions that run, while the mode byte has its guest value. What
/// they need below the caller of the trampoline must fit into the trampoline's frame.
const AROUND_GUEST: [(&str, Below); 3] = [
	("kvm_p9_rs_vcpu_entry", Below::Frame),
	("kvm_p9_time_entry", Below::Caller),
	("kvm_p9_time_exit", Below::Caller),
];

/// SPRs that the way of a fast hcall may read or write, by number and name.
const FAST_SPRS: [(u16, &str); 9] = [
	(1, "XER"),
	(8, "LR"),
	(9, "CTR"),
	(26, "SRR0"),
	(27, "SRR1"),
	(28, "CFAR"),
	(314, "HSRR0"),
	(315, "HSRR1"),
	(896, "PPR"),
];

/// What handlers may refer to outside of the object: the TOC, variables of the glue's,
/// and two functions.
const HANDLERS_MAY: [&str; 7] = [
	".TOC.",
	"do_uaccess_flush",
	"kvm_p9_host_facts",
	"kvm_p9_kernel_pgd",
	"kvm_p9_page_address",
	"kvm_p9_phb_useraddrptr",
	GLUE_FUNCTION,
];

/// The glue's function that handlers call.
const GLUE_FUNCTION: &str = "kvm_p9_tce_kill";

/// What that may refer to.
const GLUE_MAY: [&str; 2] = [".TOC.", "__opal_call"];

/// What handlers that are timed may read besides: the timebase, and PMC6 (cycles).
const CLOCKS: [u16; 2] = [268, 792];

/// What the fast handler of H_XIRR_X reads besides: the guest's timebase, which the guest asks for.
const TIMEBASE: u16 = 268;
const TIMEBASE_FUNCTION: &str = "entry::fast::enabled::h_xirr_x";

/// SPRs that a light exit may use besides: the MMU context, the timebase, the decrementers,
/// the registers of user access, what an interrupt of the host overwrites, and what H_SET_MODE
/// sets.
const LIGHT_SPRS: [(u16, &str); 12] = [
	(18, "DSISR"),
	(19, "DAR"),
	(22, "DEC"),
	(29, "AMR"),
	(48, "PIDR"),
	(61, "IAMR"),
	(187, "CIABR"),
	(268, "TB"),
	(286, "TBU40"),
	(310, "HDEC"),
	(318, "LPCR"),
	(319, "LPIDR"),
];

/// The one function that a light exit calls.
const LIGHT_FUNCTION: &str = "kvm_p9_light_hcall";

/// What the C side of light exits refers to: what begins and ends one, and all that one may
/// call. None of it sleeps, but for what [`SLEEPERS`] have: kvmppc_load_last_inst() is called with page faults disabled. (On bare metal
/// the functions for nested guests are never called.)
const LIGHT_GLUE_MAY: &[&str] = &[
	".TOC.",
	"__kvmhv_is_nestedv2",
	"__kvmhv_nestedv2_cached_reload",
	"__kvmhv_nestedv2_mark_dirty",
	"__msr_check_and_clear",
	"__tracepoint_kvm_guest_enter",
	"__tracepoint_kvm_guest_exit",
	"__tracepoint_kvm_hcall_enter",
	"__tracepoint_kvm_hcall_exit",
	"__tracepoint_kvmppc_run_vcpu_enter",
	"__tracepoint_kvmppc_run_vcpu_exit",
	"_raw_spin_lock",
	"analyse_instr",
	"arch_get_random_seed_longs",
	"decrementers_next_tb",
	"do_uaccess_flush",
	"enable_kernel_vsx",
	"irq_stat",
	"kvm_p9_counters",
	"kvm_p9_counts_cycles",
	"kvm_p9_dispatch",
	"kvm_p9_fast_table",
	"kvm_p9_fetch",
	"kvm_p9_load_vectors",
	"kvm_p9_path_is_rust",
	"kvm_p9_rs_flush",
	"kvm_p9_scrub_guest_pmc",
	"kvm_p9_store_vectors",
	"kvmppc_h_logical_ci_load",
	"kvmppc_h_logical_ci_store",
	"kvmppc_hpte_hv_fault",
	"kvmppc_load_last_inst",
	"kvmppc_xive_xics_hcall",
	"mmu_feature_keys",
	"strict_msr_control",
	"uaccess_flush_key",
	"xa_find",
	"xa_find_after",
	"xa_load",
];

/// The functions on the C side that enable interrupts, and what these call, which may sleep.
const SERVE_FUNCTIONS: [&str; 4] = [
	"kvm_p9_light_call",
	"kvm_p9_light_fault",
	"kvm_p9_light_hv_fault",
	"kvm_p9_light_serve",
];

/// What only those functions may call.
const SERVE_MAY: &[&str] = &["arch_local_irq_restore", "rcu_note_context_switch"];

/// What only these may call. That sleeps, or looks at page tables that userspace changes.
const SLEEPERS: [(&str, &[&str]); 2] = [
	(
		"kvm_p9_light_hv_fault",
		&[
			"__find_linux_pte",
			"fault_in_safe_writeable",
			"gfn_to_hva_memslot",
			"kvmppc_book3s_instantiate_page",
		],
	),
	("kvm_p9_light_hv_call", &["kvmppc_pseries_do_hcall"]),
];

/// Objects of the glue.
const GLUE: [&str; 9] = [
	"debugfs", "light", "light_hv", "main", "mmu", "params", "pmu", "tce", "trace",
];

/// Functions of the glue that others call by a pointer before the context of the host is back.
/// Those that a light exit calls by a pointer run with the host's MMU context, where a probe is
/// allowed.
const BY_POINTER: [&str; 1] = ["kvm_p9_light_traced"];

/// What the Rust object takes besides where an option is on.
const TAKEN_WITH: [(&str, &str); 1] = [("CONFIG_KVM_BOOK3S_HV_P9_TIMING=y", "accumulate_time")];

/// What the compiler adds to functions where an option asks for it: the kernel's functions of which
/// the names begin so. They depend on the context of the host.
const INSTRUMENTATION: [&str; 7] = [
	"_mcount",
	"__asan_",
	"__cyg_profile_",
	"__gcov_",
	"__sanitizer_cov_",
	"__tsan_",
	"__ubsan_",
];

/// How a function is reached, which decides what it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
	/// A fast handler.
	Fast,
	/// A fast handler that is timed.
	Timed,
	/// The fast handler of H_XIRR_X, which gives the guest its timebase.
	Timebase,
	/// A light exit.
	Light,
}

impl Way {
	/// By the function's name.
	fn of(name: &str) -> Self {
		let plain = format!("{:#}", rustc_demangle::demangle(name));
		match plain {
			_ if is_timed(name) => Self::Timed,
			_ if plain == TIMEBASE_FUNCTION => Self::Timebase,
			_ if plain.contains("entry::fast::light::") || plain.contains("entry::light::") => {
				Self::Light
			}
			_ => Self::Fast,
		}
	}
}

/// Whether this is the name of a handler that is timed.
fn is_timed(name: &str) -> bool {
	format!("{:#}", rustc_demangle::demangle(name)).starts_with("entry::fast::timed::")
}

/// Where the stack pointer of a function's caller is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
	/// The function calls the trampoline.
	Frame,
	/// The trampoline calls the function.
	Caller,
}

/// A rule's name, and what breaks it.
type Finding = (&'static str, Vec<String>);

impl Function {
	fn bad_spr(&self, way: Way) -> Option<SprAccess> {
		self.code
			.iter()
			.filter_map(|insn| insn.spr())
			.filter(|access| match access {
				SprAccess::Read(spr) => match way {
					Way::Timed => !CLOCKS.contains(spr),
					Way::Timebase => *spr != TIMEBASE,
					_ => true,
				},
				SprAccess::Write(_) => true,
			})
			.find(|access| {
				let (SprAccess::Read(spr) | SprAccess::Write(spr)) = access;
				let light = way == Way::Light && LIGHT_SPRS.iter().any(|(known, _)| known == spr);
				!light && !FAST_SPRS.iter().any(|(known, _)| known == spr)
			})
	}
}

/// The objects that the gates look at.
struct Objects {
	rust: ObjectFile,
	trampoline: ObjectFile,
	vectors: ObjectFile,
	glue: BTreeMap<&'static str, ObjectFile>,
	/// What the Rust object may take from the kernel.
	allowed: BTreeSet<String>,
}

impl Objects {
	fn read(tree: &Path) -> Result<Self> {
		let kvm = tree.join("arch/powerpc/kvm");
		let object = |name: &str| ObjectFile::read(&kvm.join(format!("kvm_p9_{name}.o")));
		let mut glue = BTreeMap::new();
		for name in GLUE {
			glue.insert(name, object(name)?);
		}
		Ok(Self {
			rust: object("rust")?,
			trampoline: object("entry")?,
			vectors: object("vectors")?,
			glue,
			allowed: allow_list(&paths::root().join("entry/undefined.allow"))?,
		})
	}

	/// The rules that hold in each configuration of the kernel.
	fn findings(&self) -> Vec<Finding> {
		let assembly = [&self.trampoline, &self.vectors];
		rust_findings(&self.rust, &self.allowed)
			.into_iter()
			.chain(trampoline_findings(&self.trampoline))
			.chain(glue_findings(&self.glue["tce"]))
			.chain(probe_findings(&self.rust, &assembly, &self.glue))
			.collect()
	}

	fn light(&self) -> [&ObjectFile; 2] {
		[&self.glue["light"], &self.glue["light_hv"]]
	}
}

/// The gates, for the objects in the kernel tree that was built at `tree`, and a table of
/// what its functions take.
pub fn run(tree: &Path) -> Result<Found> {
	let objects = Objects::read(tree)?;
	let findings = objects
		.findings()
		.into_iter()
		.chain(light_findings(&objects.light()));
	let checks = findings.map(|(rule, broken)| {
		let complaint = (!broken.is_empty()).then(|| broken.join("; "));
		Check::new(format!("object: {rule}"), complaint)
	});
	Ok(Found {
		text: table(&objects.rust),
		checks: checks.collect(),
	})
}

/// What breaks the rules in a tree of another configuration than that of the tests. The list of
/// what light exits may call is left out: options add to what the kernel's own functions call.
pub fn of_configuration(tree: &Path) -> Result<Vec<String>> {
	let mut objects = Objects::read(tree)?;
	let config = fs::read_to_string(tree.join(".config"))?;
	for (option, symbol) in TAKEN_WITH {
		if config.lines().any(|line| line == option) {
			objects.allowed.insert(symbol.to_owned());
		}
	}
	let findings = objects.findings();
	let broken = findings.into_iter().filter(|(_, what)| !what.is_empty());
	Ok(broken
		.map(|(rule, what)| format!("{rule}: {}", what.join(", ")))
		.collect())
}

fn rust_findings(rust: &ObjectFile, allowed: &BTreeSet<String>) -> Vec<Finding> {
	let entries: BTreeSet<_> = ENTRY_POINTS
		.iter()
		.chain(&TEXT_BOUNDS)
		.map(|entry| String::from(*entry))
		.collect();
	let globals = rust.globals.symmetric_difference(&entries);
	let unused = allowed.difference(&rust.undefined);
	let undefined = rust.undefined.difference(allowed);
	let panics = rust.functions.keys().filter(|name| name.contains("panic"));
	let handlers = rust.reachable(&rust.pointed_at);
	let handlers = handlers.iter().map(|name| (name, &rust.functions[name]));

	vec![
		("only entry points are global", globals.cloned().collect()),
		(
			"takes only allowed symbols from the kernel",
			undefined.cloned().collect(),
		),
		(
			"allows no symbol that it does not take",
			unused.cloned().collect(),
		),
		("no panic", panics.cloned().collect()),
		(
			"no writable data",
			some(rust.writable != 0, || format!("{} bytes", rust.writable)),
		),
		(
			"text below 104 KiB",
			some(rust.text >= MAX_TEXT, || format!("{} bytes", rust.text)),
		),
		(
			"stack below 1 KiB, or 1600 bytes on two ways",
			stack_findings(rust),
		),
		(
			"stack of the full path fits into the trampoline's frame",
			around_guest(rust),
		),
		("no FP or vector instruction", fp_or_vector(rust)),
		(
			"has fast handlers",
			some(rust.pointed_at.is_empty(), || String::from("no table")),
		),
		(
			"handlers leave SPRs alone",
			handlers
				.clone()
				.filter_map(|(name, f)| {
					f.bad_spr(Way::of(name))
						.map(|access| format!("{name}: {access:?}"))
				})
				.collect(),
		),
		(
			"handlers call nothing of the kernel",
			handlers
				.flat_map(|(name, f)| f.outside.iter().map(move |outside| (name, outside)))
				.filter(|(_, outside)| !HANDLERS_MAY.contains(&outside.as_str()))
				.filter(|(name, outside)| Way::of(name) != Way::Light || *outside != LIGHT_FUNCTION)
				.map(|(name, outside)| format!("{name}: {outside}"))
				.collect(),
		),
		(
			"no function takes a kprobe",
			rust.elsewhere.iter().cloned().collect(),
		),
		("TCE handlers clamp the guest's index", unclamped(rust)),
	]
}

/// Handlers of TCE hcalls that use an index which a mispredicted branch alone checks.
fn unclamped(rust: &ObjectFile) -> Vec<String> {
	let clamps = |name: &String| rust.functions[name].clamps();
	let is_tce = |name: &&String| format!("{:#}", rustc_demangle::demangle(name)).contains("tce");
	let roots = rust.pointed_at.iter().filter(is_tce);
	roots
		.filter(|root| {
			let reachable = rust.reachable(&BTreeSet::from([(*root).clone()]));
			!reachable.iter().any(clamps)
		})
		.cloned()
		.collect()
}

fn trampoline_findings(trampoline: &ObjectFile) -> Vec<Finding> {
	let fast = trampoline.functions.get("kvm_p9_exit_hcall");
	let fast_sprs = match fast {
		None => vec![String::from("there is no kvm_p9_exit_hcall")],
		Some(fast) if !fast.code.iter().any(|insn| insn.is_hrfid()) => {
			vec![String::from(
				"kvm_p9_exit_hcall does not return to the guest",
			)]
		}
		Some(fast) => fast
			.bad_spr(Way::Fast)
			.iter()
			.map(|access| format!("{access:?}"))
			.collect(),
	};
	let arrival = match trampoline.functions.get("kvm_p9_stamp_hcall") {
		None => vec![String::from("there is no kvm_p9_stamp_hcall")],
		Some(arrival) => arrival
			.bad_spr(Way::Timed)
			.iter()
			.map(|access| format!("{access:?}"))
			.collect(),
	};
	vec![
		(
			"no FP or vector instruction in the trampoline",
			fp_or_vector(trampoline),
		),
		("fast path uses only its SPRs", fast_sprs),
		("a timed hcall's arrival only reads clocks", arrival),
	]
}

fn light_findings(objects: &[&ObjectFile; 2]) -> Vec<Finding> {
	let what = objects
		.iter()
		.flat_map(|object| &object.undefined)
		.filter(|symbol| {
			let sleepers = SLEEPERS.iter().map(|(_, list)| *list);
			let mut lists = [LIGHT_GLUE_MAY, SERVE_MAY].into_iter().chain(sleepers);
			!lists.any(|list| list.contains(&symbol.as_str()))
		})
		.cloned()
		.collect();
	vec![
		("what light exits may call is a list", what),
		(
			"few functions of light exits enable interrupts, and two sleep",
			enables_interrupts(objects),
		),
	]
}

fn enables_interrupts(objects: &[&ObjectFile; 2]) -> Vec<String> {
	let functions = || objects.iter().flat_map(|object| &object.functions);
	let calls =
		|f: &Function, what: &[&str]| f.outside.iter().any(|to| what.contains(&to.as_str()));
	let enables = functions()
		.filter(|(name, f)| !SERVE_FUNCTIONS.contains(&name.as_str()) && calls(f, SERVE_MAY));
	let sleeps = functions().filter(|(name, f)| {
		let mut others = SLEEPERS.iter().filter(|(sleeper, _)| name != sleeper);
		others.any(|(_, list)| calls(f, list))
	});
	let mut findings: Vec<_> = enables
		.chain(sleeps)
		.map(|(name, _)| format!("{name} does, too"))
		.collect();
	for expected in SERVE_FUNCTIONS {
		if !functions().any(|(name, f)| name == expected && calls(f, SERVE_MAY)) {
			findings.push(format!("there is no {expected} that does"));
		}
	}
	findings
}

fn glue_findings(glue: &ObjectFile) -> Vec<Finding> {
	let roots = BTreeSet::from([String::from(GLUE_FUNCTION)]);
	if !glue.functions.contains_key(GLUE_FUNCTION) {
		let what = format!("there is no {GLUE_FUNCTION}");
		return vec![("what handlers call stays small", vec![what])];
	}
	let reachable = glue.reachable(&roots);
	let functions = || reachable.iter().map(|name| (name, &glue.functions[name]));
	let outside = functions()
		.flat_map(|(name, f)| f.outside.iter().map(move |outside| (name, outside)))
		.filter(|(_, outside)| !GLUE_MAY.contains(&outside.as_str()))
		.map(|(name, outside)| format!("{name}: {outside}"));
	let sprs = functions().filter_map(|(name, f)| {
		let access = f.bad_spr(Way::Fast)?;
		Some(format!("{name}: {access:?}"))
	});
	let vectors = functions().filter_map(|(name, f)| {
		let vector = f.code.iter().find(|insn| insn.uses_fp_or_vector())?;
		Some(format!("{name}: FP or vector instruction {:08x}", vector.0))
	});
	let what = outside.chain(sprs).chain(vectors).collect();
	vec![("what handlers call stays small", what)]
}

/// Functions in which a probe would find the context of a guest: all in assembly, and of the glue
/// those that Rust or assembly calls, with what they call.
fn probe_findings(
	rust: &ObjectFile,
	assembly: &[&ObjectFile],
	glue: &BTreeMap<&str, ObjectFile>,
) -> Vec<Finding> {
	let mut broken: BTreeSet<_> = assembly.iter().flat_map(|one| &one.elsewhere).collect();
	let callers = assembly.iter().copied().chain([rust]);
	let mut todo: Vec<&str> = callers
		.flat_map(|one| one.undefined.iter().map(String::as_str))
		.chain(BY_POINTER)
		.collect();
	let mut seen = BTreeSet::new();
	let mut instrumented = Vec::new();
	while let Some(name) = todo.pop() {
		// The kernel's own functions are called in the same context by the C path.
		for object in glue.values() {
			let Some((name, function)) = object.functions.get_key_value(name) else {
				continue;
			};
			if !seen.insert(name.as_str()) {
				continue;
			}
			todo.extend(
				function
					.calls
					.iter()
					.chain(&function.outside)
					.map(String::as_str),
			);
			if object.elsewhere.contains(name) {
				broken.insert(name);
			}
			let added = function.outside.iter().filter(|to| is_added(to));
			let added = added.map(|to| format!("{name}: {to}"));
			instrumented.extend(added);
			if object.traceable.contains(name) {
				instrumented.push(format!("{name}: function tracer"));
			}
		}
	}
	let missing = BY_POINTER.iter().chain([&GLUE_FUNCTION]);
	let missing = missing.filter(|name| !seen.contains(**name));
	let missing = missing.map(|name| format!("there is no {name}"));
	let what = broken.into_iter().cloned().chain(missing).collect();
	vec![
		("no function takes a probe in a guest's context", what),
		(
			"no function is instrumented in a guest's context",
			instrumented,
		),
	]
}

/// Whether the compiler adds calls of this function.
fn is_added(name: &str) -> bool {
	INSTRUMENTATION.iter().any(|start| name.starts_with(start))
}

fn some(broken: bool, what: impl FnOnce() -> String) -> Vec<String> {
	broken.then(what).into_iter().collect()
}

fn stack_findings(rust: &ObjectFile) -> Vec<String> {
	let is_apart = |name: &str| {
		let name = format!("{:#}", rustc_demangle::demangle(name));
		APART.iter().any(|part| name.contains(part))
	};
	let roots = ENTRY_POINTS.iter().map(|entry| String::from(*entry));
	let mut findings = Vec::new();
	for name in roots.chain(rust.pointed_at.iter().cloned()) {
		let stacks = [
			(MAX_STACK, rust.stack(&name, &mut Vec::new(), &is_apart)),
			(
				match name.as_str() {
					FULL_PATH => MAX_STACK_FULL_PATH,
					_ => MAX_STACK_APART,
				},
				rust.stack(&name, &mut Vec::new(), &|_| false),
			),
		];
		let bad = stacks.into_iter().find_map(|(limit, stack)| match stack {
			Ok(stack) if stack <= limit => None,
			Ok(stack) => Some(format!("{name} needs {stack} bytes of {limit}")),
			Err(error) => Some(error.to_string()),
		});
		findings.extend(bad);
	}
	findings
}

/// Functions of the full path whose stack pointer could be where a handler can have it, by which
/// `kvm_p9_interrupted` tells both from each other.
fn around_guest(rust: &ObjectFile) -> Vec<String> {
	let mut findings = Vec::new();
	for (name, below) in AROUND_GUEST {
		let needs = rust
			.stack(name, &mut Vec::new(), &|_| false)
			.map(|stack| match below {
				Below::Frame => stack - rust.functions[name].frame(),
				Below::Caller => stack,
			});
		match needs {
			Ok(needs) if u64::from(needs) <= FULL_PATH_STACK => {}
			Ok(needs) => findings.push(format!("{name} needs {needs} bytes of {FULL_PATH_STACK}")),
			Err(error) => findings.push(error.to_string()),
		}
	}
	findings
}

fn fp_or_vector(file: &ObjectFile) -> Vec<String> {
	let mut found = Vec::new();
	for (name, function) in &file.functions {
		for (n, insn) in function.code.iter().enumerate() {
			if insn.uses_fp_or_vector() {
				found.push(format!(
					"{name}+{:#x}: FP or vector instruction {:08x}",
					n * 4,
					insn.0
				));
			}
		}
	}
	found
}

fn table(rust: &ObjectFile) -> String {
	let mut table = format!("{:>6} {:>6} {:>6}  function\n", "text", "frame", "stack");
	for (name, function) in &rust.functions {
		let stack = rust.stack(name, &mut Vec::new(), &|_| false);
		let stack = stack.map_or_else(|_| String::from("?"), |bytes| bytes.to_string());
		let (text, frame) = (function.code.len() * 4, function.frame());
		table.push_str(&format!(
			"{text:>6} {frame:>6} {stack:>6}  {:#}\n",
			rustc_demangle::demangle(name)
		));
	}
	table
}

/// A list of symbols, one a line, `#` for comments.
fn allow_list(path: &PathBuf) -> Result<BTreeSet<String>> {
	let text =
		fs::read_to_string(path).with_context(|| format!("can't read {}", paths::short(path)))?;
	Ok(text
		.lines()
		.map(str::trim)
		.filter(|line| !line.is_empty() && !line.starts_with('#'))
		.map(String::from)
		.collect())
}

#[cfg(test)]
mod tests;
