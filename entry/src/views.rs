// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's structures, as far as the switch path uses them.
//!
//! A view is a pointer to one of the kernel's structures together with the right
//! to use it. Its accessors come from one list of fields, each with the width that
//! the kernel's compiler reported and `layout` asserts; those of switched SPRs come from the
//! rows of the SPRs. The offsets are the configured kernel's; in host tests they are invented,
//! one field after the other.

use core::ptr::NonNull;

use crate::layout::kernel::{self as layout, Field};

macro_rules! view {
	(
		$(#[$doc:meta])*
		$view:ident {
			$($(#[$field_doc:meta])* $field:ident / $set:ident: $width:ident @ $offset:ident;)*
		}
	) => {
		$(#[$doc])*
		#[derive(Clone, Copy, Debug)]
		pub struct $view(NonNull<u8>);

		#[allow(dead_code)]
		impl $view {
			/// # Safety
			///
			/// `at` must point to the kernel's structure of that name. The structure must stay
			/// for as long as the view or a copy of the view, and no other code may use these
			/// fields during that time, except that other CPUs may write fields of which only
			/// one read is made.
			pub unsafe fn new(at: NonNull<u8>) -> Self {
				Self(at)
			}

			/// Its address.
			pub fn address(self) -> NonNull<u8> {
				self.0
			}

		}

		$(field! { $view: $(#[$field_doc])* $field / $set: $width @ $offset })*
	};
}

/// The accessors of one field.
macro_rules! field {
	(
		$view:ident: $(#[$doc:meta])*
		$field:ident / $set:ident: $width:ident @ $($offset:ident)::+
	) => {
		#[allow(dead_code)]
		impl $view {
			#[doc = concat!("Reads `", stringify!($($offset)::+), "` of `kvm_p9_layout.c`.")]
			$(#[doc = ""] #[$doc])*
			#[inline(always)]
			pub fn $field(self) -> $width {
				const FIELD: Field = layout::$($offset)::+;
				// SAFETY: `new` was promised a structure that has this field at this
				// offset. Volatile, as other CPUs may write some of them.
				unsafe { self.0.add(FIELD.offset).cast::<$width>().read_volatile() }
			}

			#[doc = concat!("Writes `", stringify!($($offset)::+), "`.")]
			#[inline(always)]
			pub fn $set(self, value: $width) {
				const FIELD: Field = layout::$($offset)::+;
				// SAFETY: `new` was promised a structure that has this field at this offset.
				unsafe { self.0.add(FIELD.offset).cast::<$width>().write_volatile(value) }
			}
		}

		// As wide as the kernel's compiler made it.
		const _: () = assert!(
			size_of::<$width>() == layout::$($offset)::+.size,
			stringify!($($offset)::+)
		);
	};
}

/// The fields of switched SPRs: the guest's value, and what the kernel keeps of the host's.
macro_rules! spr_fields {
	($($(#[$group_doc:meta])* $group:ident {
		$(
			$(#[$doc:meta])*
			$name:ident / $set:ident: $spr:ident = $number:literal,
				$home:ident($($member:tt)*) as $width:ident, $when:ident,
				$host:ident $(($($kept:tt)*))? $(+ $checkpointed:ident)?
				$(, guest($mask:expr $(, problem state $problem:literal)?))?;
		)*
	})*) => {
		$($(
			spr_field! { $home: $(#[$doc])* $name / $set: $width }
			spr_field! { $host: $(#[$doc])* $name / $set: u64 }
		)*)*
	};
}

macro_rules! spr_field {
	(vcpu: $($field:tt)*) => { spr_field! { VcpuView, vcpu: $($field)* } };
	(vcore: $($field:tt)*) => { spr_field! { VcoreView, vcore: $($field)* } };
	(task: $($field:tt)*) => { spr_field! { TaskView, task: $($field)* } };
	(paca: $($field:tt)*) => { spr_field! { PacaView, paca: $($field)* } };
	($view:ident, $home:ident: $(#[$doc:meta])* $name:ident / $set:ident: $width:ident) => {
		field! { $view: $(#[$doc])* $name / $set: $width @ $home::$name }
	};
	// Not in memory: `register`, `zero`, `dont_care`.
	($nowhere:ident: $($field:tt)*) => {};
}

powerpc::switched_sprs!(spr_fields);

view! {
	/// `struct kvm_vcpu`: the vcpu that the current thread runs.
	VcpuView {
		kvm / set_kvm: u64 @ VCPU_KVM;
		vcore / set_vcore: u64 @ VCPU_VCORE;
		nested / set_nested: u64 @ VCPU_NESTED;
		ceded / set_ceded: u8 @ VCPU_CEDED;
		/// What the guest came out with: the trampoline keeps it here.
		trap / set_trap: u32 @ VCPU_TRAP;
		doorbell_request / set_doorbell_request: u8 @ VCPU_DOORBELL_REQUEST;
		/// As `doorbell_request`, for the L2 that the vcpu runs.
		nested_doorbell_request / set_nested_doorbell_request: u8 @ VCPU_NESTED_DOORBELL_REQUEST;
		prodded / set_prodded: u8 @ VCPU_PRODDED;
		load_ebb / set_load_ebb: u8 @ VCPU_LOAD_EBB;
		load_tm / set_load_tm: u8 @ VCPU_LOAD_TM;
		/// The kind of interrupt controller that the vcpu is connected to.
		irq_type / set_irq_type: u32 @ VCPU_IRQ_TYPE;
		/// What KVM keeps of it for the XIVE, or 0.
		xive_vcpu / set_xive_vcpu: u64 @ VCPU_XIVE_VCPU;
		/// The vcpu's interrupt context is on this CPU.
		xive_pushed / set_xive_pushed: u8 @ VCPU_XIVE_PUSHED;
		/// How many entries of `slb` are in use.
		slb_max / set_slb_max: u32 @ VCPU_SLB_MAX;
		/// How many entries the CPU's SLB has.
		slb_nr / set_slb_nr: u32 @ VCPU_SLB_NR;
		pid / set_pid: u32 @ VCPU_PID;
		last_inst / set_last_inst: u64 @ VCPU_LAST_INST;
		emul_inst / set_emul_inst: u64 @ VCPU_EMUL_INST;
		fault_dar / set_fault_dar: u64 @ VCPU_FAULT_DAR;
		fault_dsisr / set_fault_dsisr: u32 @ VCPU_FAULT_DSISR;
		fault_gpa / set_fault_gpa: u64 @ VCPU_FAULT_GPA;
		dec_expires / set_dec_expires: u64 @ VCPU_DEC_EXPIRES;

		nip / set_nip: u64 @ VCPU_PC;
		/// The MSR that the guest's interrupts begin with.
		intr_msr / set_intr_msr: u64 @ VCPU_INTR_MSR;
		msr / set_msr: u64 @ VCPU_MSR;
		gpr3 / set_gpr3: u64 @ VCPU_GPR3;
		gpr4 / set_gpr4: u64 @ VCPU_GPR4;
		gpr5 / set_gpr5: u64 @ VCPU_GPR5;
		gpr6 / set_gpr6: u64 @ VCPU_GPR6;
		gpr7 / set_gpr7: u64 @ VCPU_GPR7;
		gpr8 / set_gpr8: u64 @ VCPU_GPR8;
		gpr9 / set_gpr9: u64 @ VCPU_GPR9;
		gpr10 / set_gpr10: u64 @ VCPU_GPR10;
		gpr11 / set_gpr11: u64 @ VCPU_GPR11;
		gpr12 / set_gpr12: u64 @ VCPU_GPR12;
		gpr13 / set_gpr13: u64 @ VCPU_GPR13;
		ctr / set_ctr: u64 @ VCPU_CTR;
		cfar / set_cfar: u64 @ VCPU_CFAR;
		ppr / set_ppr: u64 @ VCPU_PPR;

		ctrl / set_ctrl: u32 @ VCPU_CTRL;

		hfscr / set_hfscr: u64 @ VCPU_HFSCR;
		/// The kernel's address of its VPA, or 0.
		vpa_address / set_vpa_address: u64 @ VCPU_VPA;
		psscr / set_psscr: u64 @ VCPU_PSSCR;
		purr / set_purr: u64 @ VCPU_PURR;
		spurr / set_spurr: u64 @ VCPU_SPURR;
	}
}

impl VcpuView {
	/// The vcpu's VPA, if it has registered one.
	#[inline(always)]
	pub fn vpa(self) -> Option<VpaView> {
		let address = NonNull::new(self.vpa_address() as *mut u8)?;
		// SAFETY: it is pinned for as long as the vcpu is in use.
		Some(unsafe { VpaView::new(address) })
	}

	/// A hash guest's SLB entry, as saved; none if there is no room for so many.
	#[inline(always)]
	pub fn slb(self, index: u32) -> Option<SlbEntryView> {
		let index = index as usize;
		if index >= layout::SLB_ENTRIES {
			return None;
		}
		// SAFETY: an element of an array of that many in this structure.
		unsafe {
			let array = self.0.add(layout::VCPU_SLB);
			Some(SlbEntryView::new(
				array.add(index * layout::SIZEOF_SLB_ENTRY),
			))
		}
	}
}

view! {
	/// `struct lppaca`: memory that the guest shares and writes at any time.
	VpaView {
		/// The guest uses the PMU.
		pmcregs_in_use / set_pmcregs_in_use: u8 @ VPA_PMCREGS_IN_USE;
	}
}

view! {
	/// `struct kvmppc_slb`.
	SlbEntryView {
		/// The ESID half, with the index.
		orige / set_orige: u64 @ SLB_ORIGE;
		/// The VSID half.
		origv / set_origv: u64 @ SLB_ORIGV;
	}
}

view! {
	/// `struct kvm_nested_guest`: an L2, as its vcpus share it.
	NestedView {
		/// Its partition on this machine.
		shadow_lpid / set_shadow_lpid: u32 @ NESTED_SHADOW_LPID;
	}
}

view! {
	/// `struct kvmppc_vcore`; on POWER9 a vcore is one vcpu's.
	VcoreView {
		/// Guest timebase less host timebase.
		tb_offset / set_tb_offset: u64 @ VCORE_TB_OFFSET;
		/// What of it is in the timebase now.
		tb_offset_applied / set_tb_offset_applied: u64 @ VCORE_TB_OFFSET_APPLIED;
		pcr / set_pcr: u64 @ VCORE_PCR;
		pcpu / set_pcpu: u16 @ VCORE_PCPU;
	}
}

view! {
	/// `struct kvm`, shared by all its vcpus: only read here.
	KvmView {
		lpid / set_lpid: u64 @ KVM_LPID;
		host_lpid / set_host_lpid: u32 @ KVM_HOST_LPID;
		host_lpcr / set_host_lpcr: u64 @ KVM_HOST_LPCR;
		process_table / set_process_table: u64 @ KVM_PROCESS_TABLE;
		radix / set_radix: u8 @ KVM_RADIX;
		secure_guest / set_secure_guest: u8 @ KVM_SECURE_GUEST;
		memslots / set_memslots: u64 @ KVM_MEMSLOTS;
		mm / set_mm: u64 @ KVM_MM;
		/// A hash guest's HPT, in the linear map.
		hpt_table / set_hpt_table: u64 @ KVM_HPT_TABLE;
		/// Logarithm of its size.
		hpt_order / set_hpt_order: u32 @ KVM_HPT_ORDER;
		/// What the kernel keeps for each HPTE, in vmalloc space.
		hpt_revs / set_hpt_revs: u64 @ KVM_HPT_REVS;
		/// Readers of KVM_PPC_GET_HTAB_FD that want to know of changes.
		hpte_mod_interest / set_hpte_mod_interest: u32 @ KVM_HPTE_MOD_INTEREST;
		online_vcores / set_online_vcores: u32 @ KVM_ONLINE_VCORES;
		/// How many MMU notifications there were.
		mmu_notifications / set_mmu_notifications: u64 @ KVM_MMU_SEQUENCE;
		/// How many MMU notifications are in progress.
		mmu_notified / set_mmu_notified: u64 @ KVM_MMU_IN_PROGRESS;
		/// The interrupt controller, if it uses the host's XIVE.
		xive / set_xive: u64 @ KVM_XIVE;
		/// The XArray of vcpus: its root.
		vcpus / set_vcpus: u64 @ KVM_VCPUS;
		/// How many vcpus are in use.
		online_vcpus / set_online_vcpus: u32 @ KVM_ONLINE_VCPUS;
		/// How often what is known of devices went out of date.
		mmio_update / set_mmio_update: u64 @ KVM_MMIO_UPDATE;
		/// The segment of a hash guest in real mode, as in an SLB entry.
		vrma_slb_v / set_vrma_slb_v: u64 @ KVM_VRMA_SLB_V;
	}
}

impl VcpuView {
	/// What [`kvm`](Self::kvm) reads. A vcpu is of one VM for as long as it lives, so the read is
	/// not volatile, and the compiler makes one of several.
	#[cfg_attr(not(kernel), allow(dead_code))]
	#[inline(always)]
	pub fn own_kvm(self) -> u64 {
		// SAFETY: `new` was promised a structure that has this field at this offset.
		unsafe { self.0.add(layout::VCPU_KVM.offset).cast::<u64>().read() }
	}
}

view! {
	/// `struct mmio_hpte_cache_entry`: an address that is a device's.
	MmioCacheView {
		address_of / set_address_of: u64 @ MMIO_CACHE_ADDRESS;
		page_shift / set_page_shift: u32 @ MMIO_CACHE_SHIFT;
		update / set_update: u64 @ MMIO_CACHE_UPDATE;
	}
}

view! {
	/// `struct paca_struct`: this CPU's.
	PacaView {
		current / set_current: u64 @ PACA_CURRENT;
		irq_happened / set_irq_happened: u8 @ PACA_IRQ_HAPPENED;
		in_guest / set_in_guest: u8 @ PACA_IN_GUEST;
		fake_suspend / set_fake_suspend: u8 @ PACA_FAKE_SUSPEND;
		/// SRR0 and SRR1 hold what the next rfid needs.
		srr_valid / set_srr_valid: u8 @ PACA_SRR_VALID;
		/// The same of HSRR0, HSRR1 and hrfid.
		hsrr_valid / set_hsrr_valid: u8 @ PACA_HSRR_VALID;
		/// The host uses the PMU.
		pmcregs_in_use / set_pmcregs_in_use: u8 @ PACA_PMCREGS_IN_USE;
		/// The XIVE's thread interrupt management area, where the kernel has mapped it.
		tima_virt / set_tima_virt: u64 @ PACA_TIMA_VIRT;
		/// The same, as a real address.
		tima_phys / set_tima_phys: u64 @ PACA_TIMA_PHYS;
	}
}

view! {
	/// `struct task_struct`: the current one's.
	TaskView {
		user_regs / set_user_regs: u64 @ TASK_USER_REGS;
	}
}

view! {
	/// One of the PACA's save areas for an interrupt's first registers.
	ExceptionView {
		r9 / set_r9: u64 @ EX_R9;
		r10 / set_r10: u64 @ EX_R10;
		r11 / set_r11: u64 @ EX_R11;
		r12 / set_r12: u64 @ EX_R12;
		r13 / set_r13: u64 @ EX_R13;
		dar / set_dar: u64 @ EX_DAR;
		dsisr / set_dsisr: u32 @ EX_DSISR;
		cfar / set_cfar: u64 @ EX_CFAR;
		ppr / set_ppr: u64 @ EX_PPR;
		ctr / set_ctr: u64 @ EX_CTR;
	}
}

view! {
	/// `struct kvm_memslots`: the memory slots of a VM that are in force.
	SlotsView {
		generation / set_generation: u64 @ MEMSLOTS_GENERATION;
		last_used / set_last_used: u64 @ MEMSLOTS_LAST_USED;
		gfn_tree / set_gfn_tree: u64 @ MEMSLOTS_GFN_TREE;
		node_idx / set_node_idx: u32 @ MEMSLOTS_NODE_IDX;
	}
}

view! {
	/// `struct kvm_memory_slot`.
	SlotView {
		base_gfn / set_base_gfn: u64 @ SLOT_BASE_GFN;
		npages / set_npages: u64 @ SLOT_NPAGES;
		/// Where it is in userspace.
		user / set_user: u64 @ SLOT_USER;
		dirty_bitmap / set_dirty_bitmap: u64 @ SLOT_DIRTY_BITMAP;
		/// The reverse map of a hash guest, in vmalloc space.
		rmaps / set_rmaps: u64 @ SLOT_RMAPS;
		flags / set_flags: u32 @ SLOT_FLAGS;
	}
}

view! {
	/// `struct rb_node`, in a memory slot.
	NodeView {
		left / set_left: u64 @ NODE_LEFT;
		right / set_right: u64 @ NODE_RIGHT;
	}
}

view! {
	/// `struct kvmppc_spapr_tce_table`.
	SttView {
		liobn / set_liobn: u64 @ STT_LIOBN;
		page_shift / set_page_shift: u32 @ STT_PAGE_SHIFT;
		offset / set_offset: u64 @ STT_OFFSET;
		size / set_size: u64 @ STT_SIZE;
		iommu_tables / set_iommu_tables: u64 @ STT_IOMMU_TABLES;
		p9_next / set_p9_next: u64 @ STT_P9_NEXT;
	}
}

view! {
	/// `struct kvmppc_spapr_tce_iommu_table`: the attachment of a hardware table.
	StitView {
		next / set_next: u64 @ STIT_NEXT;
		table / set_table: u64 @ STIT_TABLE;
	}
}

view! {
	/// `struct iommu_table`: a hardware table.
	IommuTableView {
		/// Levels of the table less one.
		levels / set_levels: u64 @ IOMMU_LEVELS;
		/// Entries of an array of each level.
		level_size / set_level_size: u64 @ IOMMU_LEVEL_SIZE;
		/// Entries.
		size / set_size: u64 @ IOMMU_SIZE;
		/// Number of the first entry, for everybody else.
		offset / set_offset: u64 @ IOMMU_OFFSET;
		base / set_base: u64 @ IOMMU_BASE;
		page_shift / set_page_shift: u64 @ IOMMU_PAGE_SHIFT;
		/// Of the same shape, with userspace addresses.
		userspace / set_userspace: u64 @ IOMMU_USERSPACE;
		ops / set_ops: u64 @ IOMMU_OPS;
		/// VFIO took it out of use.
		retired / set_retired: u8 @ IOMMU_RETIRED;
	}
}

view! {
	/// `struct iommu_table_ops`.
	IommuOpsView {
		useraddrptr / set_useraddrptr: u64 @ IOMMU_OPS_USER;
	}
}

view! {
	/// `struct mm_struct`.
	MmView {
		/// The root of its page table.
		pgd / set_pgd: u64 @ MM_PGD;
		/// The first of its regions, in a circle.
		regions / set_regions: u64 @ MM_REGIONS;
	}
}

view! {
	/// `struct mm_iommu_table_group_mem_t`: memory that is registered for DMA.
	RegionView {
		next / set_next: u64 @ REGION_NEXT;
		page_shift / set_page_shift: u32 @ REGION_PAGE_SHIFT;
		/// Where it begins in userspace.
		user / set_user: u64 @ REGION_UA;
		/// The kernel's pages of it.
		entries / set_entries: u64 @ REGION_ENTRIES;
		/// Host addresses of pages, or null for a device's memory.
		hpas / set_hpas: u64 @ REGION_HPAS;
		/// Where a device's memory begins.
		device / set_device: u64 @ REGION_DEV_HPA;
	}
}

view! {
	/// `struct xa_node`: a node of an XArray.
	XaNodeView {
		/// How many bits of an index are below this node.
		shift / set_shift: u8 @ XA_NODE_SHIFT;
	}
}

view! {
	/// `struct kvmppc_xive_vcpu`: a vcpu's interrupt presentation. Other vcpus write the MFRR, and read
	/// all fields.
	PresentationView {
		/// The vcpu's number, as the guest knows it.
		server / set_server: u32 @ VP_SERVER;
		/// The guest's CPPR.
		cppr / set_cppr: u8 @ VP_CPPR;
		/// The CPPR in the XIVE.
		hw_cppr / set_hw_cppr: u8 @ VP_HW_CPPR;
		/// The priority of its IPI, or [`layout::XICS_MASKED`] if there is none.
		mfrr / set_mfrr: u8 @ VP_MFRR;
		/// Priorities whose queues may have interrupts, as bits.
		pending / set_pending: u8 @ VP_PENDING;
		stat_xirr / set_stat_xirr: u64 @ VP_STAT_XIRR;
		stat_ipoll / set_stat_ipoll: u64 @ VP_STAT_IPOLL;
		stat_cppr / set_stat_cppr: u64 @ VP_STAT_CPPR;
		stat_eoi / set_stat_eoi: u64 @ VP_STAT_EOI;
		stat_ipi / set_stat_ipi: u64 @ VP_STAT_IPI;
	}
}

impl PresentationView {
	/// The queue of a priority.
	#[inline(always)]
	pub fn queue(self, priority: u32) -> Option<QueueView> {
		let index = priority as usize;
		if index >= layout::VP_QUEUE_COUNT {
			return None;
		}
		// SAFETY: an element of an array of that many in this structure.
		unsafe {
			let array = self.0.add(layout::VP_QUEUES);
			Some(QueueView::new(array.add(index * layout::SIZEOF_QUEUE)))
		}
	}

	/// The ESB of the interrupt that tells the vcpu of a new MFRR.
	#[inline(always)]
	pub fn ipi(self) -> EsbView {
		// SAFETY: a part of this structure.
		unsafe { EsbView::new(self.0.add(layout::VP_IPI_DATA)) }
	}
}

view! {
	/// `struct xive_q`: an event queue. The XIVE writes entries; the vcpu that reads them writes
	/// index and toggle.
	QueueView {
		/// The page of entries, or 0.
		page / set_page: u64 @ QUEUE_PAGE;
		/// How many entries there are, less 1.
		mask / set_mask: u32 @ QUEUE_MASK;
		/// The next entry.
		index / set_index: u32 @ QUEUE_INDEX;
		/// The top bit of an entry that was there in the last round.
		toggle / set_toggle: u32 @ QUEUE_TOGGLE;
		/// How many interrupts are routed here: atomic.
		count / set_count: u32 @ QUEUE_COUNT;
		/// How many of them left while the queue may have had entries: atomic.
		left / set_left: u32 @ QUEUE_LEFT;
	}
}

view! {
	/// `struct kvmppc_xive_irq_state`: a source of interrupts.
	SourceView {
		/// The priority that the guest has set, or [`layout::XICS_MASKED`].
		priority / set_priority: u8 @ SOURCE_PRIORITY;
		/// An H_EOI is in progress.
		in_eoi / set_in_eoi: u8 @ SOURCE_IN_EOI;
		/// Of a masked interrupt: P when it was masked.
		old_p / set_old_p: u8 @ SOURCE_OLD_P;
		/// Level-sensitive, of an emulated device.
		lsi / set_lsi: u8 @ SOURCE_LSI;
		/// Of such: the level.
		asserted / set_asserted: u8 @ SOURCE_ASSERTED;
		/// The server that gets it.
		server / set_server: u32 @ SOURCE_SERVER;
		/// The number in the XIVE, if it is a passed-through device's, or 0.
		pt_number / set_pt_number: u32 @ SOURCE_PT_NUMBER;
		/// The ESB of the passed-through device's interrupt.
		pt_data / set_pt_data: u64 @ SOURCE_PT_DATA;
	}
}

impl SourceView {
	/// The ESB that the source has now.
	#[inline(always)]
	pub fn esb(self) -> Option<EsbView> {
		if self.pt_number() != 0 {
			let passed_through = NonNull::new(self.pt_data() as *mut u8)?;
			// SAFETY: the host's interrupt, which stays until it is unmapped. To unmap it, KVM masks
			// the source, and waits for an H_EOI in progress.
			return Some(unsafe { EsbView::new(passed_through) });
		}
		// SAFETY: a part of this structure.
		Some(unsafe { EsbView::new(self.0.add(layout::SOURCE_IPI_DATA)) })
	}
}

view! {
	/// `struct xive_irq_data`: the event state buffer (ESB) of an interrupt.
	EsbView {
		flags / set_flags: u64 @ ESB_FLAGS;
		/// The page for EOI, as a real address.
		eoi_real / set_eoi_real: u64 @ ESB_EOI_PAGE;
		/// The same, where the kernel has mapped it.
		eoi_mapped / set_eoi_mapped: u64 @ ESB_EOI_MMIO;
		/// The page to trigger the interrupt, as a real address, or 0.
		trigger_real / set_trigger_real: u64 @ ESB_TRIG_PAGE;
		/// The same, where the kernel has mapped it, or 0.
		trigger_mapped / set_trigger_mapped: u64 @ ESB_TRIG_MMIO;
	}
}
