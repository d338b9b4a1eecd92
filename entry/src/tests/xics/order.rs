// SPDX-License-Identifier: GPL-2.0-only
//! Accesses and barriers in their order, and single rules.

use super::xive::*;
use super::*;

fn sync(cppr: u8, mfrr: u8, in_eoi: bool) -> Event {
	Event::Sync { cppr, mfrr, in_eoi }
}

/// Where the pages of an ESB are.
fn pages(esb: u64) -> (u64, u64) {
	(PAGES + 2 * esb * PAGE, PAGES + (2 * esb + 1) * PAGE)
}

const CPPR: u64 = TIMA + 0x11;
const PENDING: u64 = TIMA + 0x812;
const ACK: u64 = TIMA + 0x810;

#[test]
fn accesses_and_barriers_are_in_order() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let (vcpu, other) = (machine.vcpu(0), machine.vcpu(1));
	let journal = || machine.journal.take();
	assert_eq!(cppr(&vcpu.presenter(), 0xff), Ok(Code::SUCCESS));
	// The CPPR is in memory before the barrier, and the MFRR is read after it.
	assert_eq!(
		journal(),
		[sync(NONE, NONE, false), Event::Store(CPPR, NONE)]
	);
	cppr(&other.presenter(), 0xff).unwrap();
	journal();

	// H_IPI: the MFRR, the barrier, the trigger.
	assert_eq!(ipi(&vcpu.presenter(), 1, 4), Ok(Code::SUCCESS));
	let (eoi_page, trigger_page) = pages(1);
	assert_eq!(
		journal(),
		[sync(NONE, 4, false), Event::Store(trigger_page, 0)]
	);
	// Its H_XIRR: acknowledge, barrier, queue; the IPI is ended before the MFRR is looked at. The
	// CPPR of the XIVE is that of the IPI's queue, and is corrected.
	assert_eq!(xirr(&other.presenter()), Ok(0xff00_0002));
	assert_eq!(
		journal(),
		[
			Event::Eieio,
			Event::Load(ACK),
			sync(NONE, 4, false),
			Event::Load(eoi_page + 0xc00),
			Event::Store(CPPR, 4),
		]
	);
	// The MFRR is still there, so H_EOI presents it again.
	assert_eq!(eoi(&other.presenter(), 0xff00_0002), Ok(Code::SUCCESS));
	assert_eq!(
		journal(),
		[
			sync(NONE, 4, false),
			Event::Store(PENDING, 4),
			Event::Store(CPPR, NONE),
		]
	);
	// A sender does not tell a vcpu whose CPPR does not let the IPI through.
	cppr(&other.presenter(), 4).unwrap();
	journal();
	assert_eq!(ipi(&vcpu.presenter(), 1, 4), Ok(Code::SUCCESS));
	assert_eq!(journal(), [sync(NONE, 4, false)]);
	// It finds it when it lets it through.
	cppr(&other.presenter(), 5).unwrap();
	assert_eq!(
		journal(),
		[
			sync(5, 4, false),
			Event::Store(PENDING, 4),
			Event::Store(CPPR, 5),
		]
	);
}

#[test]
fn sources_are_ended_in_order() {
	for (n, (kind, _)) in SOURCES.into_iter().enumerate() {
		let machine = Machine::new(&[0], &SOURCES);
		let vcpu = machine.vcpu(0);
		let journal = || machine.journal.take();
		cppr(&vcpu.presenter(), 0xff).unwrap();
		machine.trigger(n);
		let xirr = xirr(&vcpu.presenter()).unwrap();
		assert_eq!(xirr, 0xff00_0000 | u64::from(FIRST + n as u32));
		// It came again: Q is set.
		machine.trigger(n);
		journal();
		let before = vcpu.own().cppr();
		assert_eq!(eoi(&vcpu.presenter(), xirr), Ok(Code::SUCCESS));
		let (eoi_page, trigger_page) = pages(1 + n as u64);
		let ended = match kind {
			Kind::Load => vec![Event::Load(eoi_page + 0xc00), Event::Store(trigger_page, 0)],
			Kind::Store => vec![Event::Store(eoi_page + 0x400, 0)],
			Kind::Level => vec![Event::Load(eoi_page)],
		};
		// `in_eoi` is set before the first barrier, and cleared after the second one.
		let mut expected = vec![sync(before, NONE, true)];
		expected.extend(ended);
		expected.push(sync(NONE, NONE, true));
		expected.push(Event::Store(PENDING, before));
		expected.push(Event::Store(CPPR, NONE));
		assert_eq!(journal(), expected, "{kind:?}");
		assert_eq!(machine.sources[n].in_eoi(), 0);
	}
}

#[test]
fn an_emulated_level_is_sent_again_while_it_is_there() {
	let machine = Machine::new(&[0], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	machine.sources[0].set_lsi(1);
	machine.sources[0].set_asserted(1);
	machine.trigger(0);
	let accepted = xirr(&vcpu.presenter()).unwrap();
	eoi(&vcpu.presenter(), accepted).unwrap();
	assert_eq!(xirr(&vcpu.presenter()), Ok(accepted));
	machine.sources[0].set_asserted(0);
	eoi(&vcpu.presenter(), accepted).unwrap();
	assert_eq!(xirr(&vcpu.presenter()), Ok(0xff00_0000));
}

#[test]
fn a_masked_source_remembers_the_end() {
	let machine = Machine::new(&[0], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	machine.trigger(0);
	let accepted = xirr(&vcpu.presenter()).unwrap();
	machine.mask(0);
	assert_eq!(machine.sources[0].old_p(), 1);
	// Another CPU has the lock: C waits for it, and nothing has changed.
	let before = machine.state();
	// SAFETY: the lock word of the test's own memory.
	unsafe { machine.lock.write(0x2001) };
	assert_eq!(eoi(&vcpu.presenter(), accepted), Err(TooHard));
	assert_eq!(machine.state(), before);
	assert_eq!(vcpu.own().stat_eoi(), 0);
	// SAFETY: the same.
	unsafe { machine.lock.write(0) };
	machine.journal.take();
	assert_eq!(eoi(&vcpu.presenter(), accepted), Ok(Code::SUCCESS));
	assert_eq!(machine.sources[0].old_p(), 0);
	// SAFETY: the same.
	assert_eq!(unsafe { machine.lock.read() }, 0);
	// The ESB is left alone.
	let expected = [
		sync(accepted_priority(), NONE, true),
		sync(NONE, NONE, true),
		Event::Store(CPPR, NONE),
	];
	assert_eq!(machine.journal.take(), expected);
}

/// The CPPR after the first source is accepted.
fn accepted_priority() -> u8 {
	SOURCES[0].1
}

#[test]
fn an_interrupt_that_moved_away_is_for_c() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	machine.trigger(0);
	machine.sources[0].set_server(1);
	let before = machine.state();
	machine.journal.take();
	assert_eq!(cppr(&vcpu.presenter(), 3), Err(TooHard));
	assert_eq!((machine.state(), machine.journal.take()), (before, vec![]));
	// C replaces the entry, and it is skipped.
	let page = vcpu.own().queue(5).unwrap().page() as *mut u32;
	// SAFETY: the first entry of the queue.
	unsafe { page.write_volatile((1 << 31 | DUMMY).to_be()) };
	assert_eq!(cppr(&vcpu.presenter(), 3), Ok(Code::SUCCESS));
	cppr(&vcpu.presenter(), 0xff).unwrap();
	assert_eq!(xirr(&vcpu.presenter()), Ok(0xff00_0000));
	assert_eq!(vcpu.own().queue(5).unwrap().index(), 1);
}

#[test]
fn a_queue_is_not_read_for_ever() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	let page = vcpu.own().queue(5).unwrap().page() as *mut u32;
	for entry in 0..ENTRIES - 1 {
		// SAFETY: an entry of the queue.
		unsafe { page.add(entry).write_volatile((1 << 31 | DUMMY).to_be()) };
	}
	machine.xive.borrow_mut().contexts[0].pending |= 1 << 5;
	assert_eq!(xirr(&vcpu.presenter()), Err(TooHard));
	// C finds what was acknowledged.
	assert_eq!(vcpu.own().pending(), 1 << 5);
	assert_eq!(ipoll(&vcpu.presenter(), 0), Err(TooHard));
	assert_eq!(cppr(&vcpu.presenter(), 0), Err(TooHard));
	// H_EOI says that there may be something.
	assert_eq!(eoi(&vcpu.presenter(), 0xff00_0002), Ok(Code::SUCCESS));
	assert_eq!(vcpu.own().pending(), 1 << 5);
	assert!(machine.xive.borrow().contexts[0].signals());
}

#[test]
fn a_queue_that_was_left_settles_its_count() {
	let machine = Machine::new(&[0], &SOURCES);
	let vcpu = machine.vcpu(0);
	cppr(&vcpu.presenter(), 0xff).unwrap();
	let queue = vcpu.own().queue(5).unwrap();
	queue.set_count(3);
	queue.set_left(2);
	machine.trigger(0);
	xirr(&vcpu.presenter()).unwrap();
	assert_eq!((queue.count(), queue.left()), (3, 2));
	xirr(&vcpu.presenter()).unwrap();
	eoi(&vcpu.presenter(), 0xff00_1400).unwrap();
	assert_eq!((queue.count(), queue.left()), (1, 0));
}

#[test]
fn without_a_queue_an_ipi_is_ended_by_its_priority() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let (vcpu, other) = (machine.vcpu(0), machine.vcpu(1));
	machine.xive.borrow_mut().contexts[1].queues[0] = None;
	other.own().queue(0).unwrap().set_page(0);
	cppr(&other.presenter(), 0xff).unwrap();
	for _ in 0..3 {
		ipi(&vcpu.presenter(), 1, 4).unwrap();
		assert!(machine.xive.borrow().contexts[1].signals());
		assert_eq!(xirr(&other.presenter()), Ok(0xff00_0002));
		let esb = machine.xive.borrow().esbs[1];
		assert!(!esb.p && !esb.q);
		ipi(&other.presenter(), 1, 0xff).unwrap();
		eoi(&other.presenter(), 0xff00_0002).unwrap();
	}
}

#[test]
fn numbers_are_looked_at_as_c_does() {
	let machine = Machine::new(&[0, 1], &SOURCES);
	let vcpu = machine.vcpu(0);
	let presenter = vcpu.presenter();
	for server in [2, 63, 64, 77, 0xffff_ffff, u64::MAX] {
		assert_eq!(
			ipi(&presenter, server, 4),
			Ok(Code::PARAMETER),
			"{server:#x}"
		);
		assert_eq!(ipoll(&presenter, server), Ok((Code::PARAMETER, 0)));
	}
	assert_eq!((vcpu.own().stat_ipi(), vcpu.own().stat_ipoll()), (6, 6));
	// The low half of a server's number counts; of an MFRR the low byte is kept, and all of it
	// is compared.
	cppr(&presenter, 0xff).unwrap();
	machine.journal.take();
	assert_eq!(ipi(&presenter, 1 << 32, 0x1_0003), Ok(Code::SUCCESS));
	assert_eq!(vcpu.own().mfrr(), 3);
	assert_eq!(machine.journal.take(), [sync(NONE, NONE, false)]);
	ipi(&presenter, 0, 0xff).unwrap();
	// Of a CPPR the low byte counts.
	for (value, expected) in [(0x100, 0), (0x105, 5), (7, 6), (0xfe, 6), (0x1ff, 0xff)] {
		cppr(&presenter, value).unwrap();
		assert_eq!(vcpu.own().cppr(), expected, "{value:#x}");
	}
	// Of an XIRR the low 32 bits.
	for irq in [1, 0x77, FIRST - 0x400, 0xff_ffff] {
		let xirr = 0xabcd_0000_ff00_0000 | u64::from(irq);
		assert_eq!(eoi(&presenter, xirr), Ok(Code::PARAMETER), "{irq:#x}");
	}
	// An H_EOI of nothing sets the CPPR all the same.
	assert_eq!(eoi(&presenter, 0x0700_0077), Ok(Code::PARAMETER));
	assert_eq!(vcpu.own().cppr(), 6);
	assert_eq!(xirr_x(&presenter), Ok((0x0600_0000, 0x1234_5678_9abc)));
}

#[test]
fn other_vcpus_are_found_while_rcu_waits() {
	// 66 slots do not fit into one node.
	for servers in [vec![3, 9], (0..64).rev().collect::<Vec<u32>>()] {
		let machine = Machine::new(&servers, &SOURCES);
		let vcpu = machine.vcpu(0);
		for (index, &server) in servers.iter().enumerate() {
			ipi(&vcpu.presenter(), server.into(), index as u64).unwrap();
			assert_eq!(machine.presentations[index].mfrr(), index as u8);
		}
		// More vcpus than are looked at: C says that there is none.
		machine.kvm.set_online_vcpus(65);
		assert_eq!(ipi(&vcpu.presenter(), 99, 4), Err(TooHard));
		machine.rcu.set(false);
		let own = machine.presentations[0].server();
		assert_eq!(ipi(&vcpu.presenter(), own.into(), 4), Ok(Code::SUCCESS));
		let other = machine.presentations[1].server();
		assert_eq!(ipi(&vcpu.presenter(), other.into(), 4), Err(TooHard));
	}
}

#[test]
fn a_tree_of_vcpus_has_nodes() {
	let mut root = Area::new(4096 + 8 * 64);
	let mut leaf = Area::new(4096 + 8 * 64);
	let mut structures = [Area::new(4096), Area::new(16 * 4096)];
	let [vcpu, own] = &mut structures;
	// SAFETY: memory of this test, with room for all fields.
	let (vcpu, own, nodes) = unsafe {
		(
			VcpuView::new(vcpu.at()),
			PresentationView::new(own.at()),
			[XaNodeView::new(root.at()), XaNodeView::new(leaf.at())],
		)
	};
	own.set_server(0x45);
	vcpu.set_xive_vcpu(own.address().as_ptr() as u64);
	nodes[0].set_shift(6);
	root.set(layout::XA_NODE_SLOTS + 8, leaf.at().as_ptr() as u64 | 2);
	leaf.set(
		layout::XA_NODE_SLOTS + 8 * 5,
		vcpu.address().as_ptr() as u64,
	);
	let machine = Machine::new(&[0, 1], &SOURCES);
	machine.kvm.set_vcpus(root.at().as_ptr() as u64 | 2);
	let caller = machine.vcpu(0);
	assert_eq!(ipi(&caller.presenter(), 0x45, 7), Ok(Code::SUCCESS));
	assert_eq!(own.mfrr(), 7);
	for missing in [0x44, 0x46, 0x85, 0x1045] {
		assert_eq!(ipi(&caller.presenter(), missing, 7), Ok(Code::PARAMETER));
	}
	// In the middle of a change, or a value: C looks.
	for odd in [257 << 2 | 2, 256 << 2 | 2, 1] {
		leaf.set(layout::XA_NODE_SLOTS + 8 * 5, odd);
		assert_eq!(ipi(&caller.presenter(), 0x45, 7), Err(TooHard));
	}
}
