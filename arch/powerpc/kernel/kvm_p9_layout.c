// SPDX-License-Identifier: GPL-2.0-only
/*
 * Offsets and constants of the configured kernel that Rust and the trampoline use,
 * beyond asm-offsets.h. Compiled to assembly only; see Makefile.kvm_p9.
 */
#include <linux/hash.h>
#include <linux/kbuild.h>
#include <linux/kvm_host.h>
#include <linux/rbtree.h>
#include <linux/sched.h>
#include <linux/xarray.h>
#include <asm/exception-64s.h>
#include <asm/hvcall.h>
#include <asm/hw_irq.h>
#include <asm/iommu.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/lppaca.h>
#include <asm/mm_iommu.h>
#include <asm/paca.h>
#include <asm/page.h>
#include <asm/reg.h>
#include <asm/tce.h>
#include <asm/xics.h>
#include <asm/xive-regs.h>
#include <asm/xive.h>

#include "book3s_hv.h"
#include "book3s_xive.h"
#include "kvm_p9.h"

/* A field that Rust uses, and its width in bits */
#define FIELD(sym, str, mem, width) \
	do { \
		static_assert(sizeof_field(struct str, mem) * 8 == (width)); \
		OFFSET(sym, str, mem); \
	} while (0)
#define FIELD64(sym, str, mem)	FIELD(sym, str, mem, 64)
#define FIELD32(sym, str, mem)	FIELD(sym, str, mem, 32)
#define FIELD16(sym, str, mem)	FIELD(sym, str, mem, 16)
#define FIELD8(sym, str, mem)	FIELD(sym, str, mem, 8)

/* With the MMU off only stacks in the linear map can be used */
static_assert(!IS_ENABLED(CONFIG_VMAP_STACK));

int main(void)
{
	/* Fields of switched SPRs, by their rows in arch/powerpc/src/spr.rs */
	KVM_P9_ABI_SPR_FIELDS(FIELD);

	/* struct kvm_vcpu */
	FIELD64(VCPU_KVM, kvm_vcpu, kvm);
	FIELD64(VCPU_VCORE, kvm_vcpu, arch.vcore);
	FIELD64(VCPU_NESTED, kvm_vcpu, arch.nested);
	FIELD8(VCPU_CEDED, kvm_vcpu, arch.ceded);
	FIELD32(VCPU_TRAP, kvm_vcpu, arch.trap);
	FIELD8(VCPU_DOORBELL_REQUEST, kvm_vcpu, arch.doorbell_request);
	FIELD8(VCPU_NESTED_DOORBELL_REQUEST, kvm_vcpu, arch.nested_doorbell_request);
	FIELD8(VCPU_PRODDED, kvm_vcpu, arch.prodded);
	FIELD8(VCPU_LOAD_EBB, kvm_vcpu, arch.load_ebb);
	FIELD8(VCPU_LOAD_TM, kvm_vcpu, arch.load_tm);
	FIELD32(VCPU_IRQ_TYPE, kvm_vcpu, arch.irq_type);
	FIELD64(VCPU_XIVE_VCPU, kvm_vcpu, arch.xive_vcpu);
	FIELD8(VCPU_XIVE_PUSHED, kvm_vcpu, arch.xive_pushed);
	FIELD32(VCPU_SLB_MAX, kvm_vcpu, arch.slb_max);
	FIELD32(VCPU_SLB_NR, kvm_vcpu, arch.slb_nr);
	FIELD32(VCPU_PID, kvm_vcpu, arch.pid);
	FIELD64(VCPU_LAST_INST, kvm_vcpu, arch.last_inst);
	FIELD64(VCPU_EMUL_INST, kvm_vcpu, arch.emul_inst);
	FIELD64(VCPU_FAULT_DAR, kvm_vcpu, arch.fault_dar);
	FIELD32(VCPU_FAULT_DSISR, kvm_vcpu, arch.fault_dsisr);
	FIELD64(VCPU_FAULT_GPA, kvm_vcpu, arch.fault_gpa);
	FIELD64(VCPU_DEC_EXPIRES, kvm_vcpu, arch.dec_expires);
	FIELD64(VCPU_PC, kvm_vcpu, arch.regs.nip);
	FIELD64(VCPU_INTR_MSR, kvm_vcpu, arch.intr_msr);
	FIELD64(VCPU_MSR, kvm_vcpu, arch.shregs.msr);
	FIELD64(VCPU_GPR3, kvm_vcpu, arch.regs.gpr[3]);
	FIELD64(VCPU_GPR4, kvm_vcpu, arch.regs.gpr[4]);
	FIELD64(VCPU_GPR5, kvm_vcpu, arch.regs.gpr[5]);
	FIELD64(VCPU_GPR6, kvm_vcpu, arch.regs.gpr[6]);
	FIELD64(VCPU_GPR7, kvm_vcpu, arch.regs.gpr[7]);
	FIELD64(VCPU_GPR8, kvm_vcpu, arch.regs.gpr[8]);
	FIELD64(VCPU_GPR9, kvm_vcpu, arch.regs.gpr[9]);
	FIELD64(VCPU_GPR10, kvm_vcpu, arch.regs.gpr[10]);
	FIELD64(VCPU_GPR11, kvm_vcpu, arch.regs.gpr[11]);
	FIELD64(VCPU_GPR12, kvm_vcpu, arch.regs.gpr[12]);
	FIELD64(VCPU_GPR13, kvm_vcpu, arch.regs.gpr[13]);
	FIELD64(VCPU_CTR, kvm_vcpu, arch.regs.ctr);
	FIELD64(VCPU_CFAR, kvm_vcpu, arch.cfar);
	FIELD64(VCPU_PPR, kvm_vcpu, arch.ppr);
	FIELD32(VCPU_CTRL, kvm_vcpu, arch.ctrl);
	FIELD64(VCPU_HFSCR, kvm_vcpu, arch.hfscr);
	FIELD64(VCPU_VPA, kvm_vcpu, arch.vpa.pinned_addr);
	FIELD64(VCPU_PSSCR, kvm_vcpu, arch.psscr);
	FIELD64(VCPU_PURR, kvm_vcpu, arch.purr);
	FIELD64(VCPU_SPURR, kvm_vcpu, arch.spurr);

	/* struct lppaca */
	FIELD8(VPA_PMCREGS_IN_USE, lppaca, pmcregs_in_use);

	/* struct kvmppc_slb */
	FIELD64(SLB_ORIGE, kvmppc_slb, orige);
	FIELD64(SLB_ORIGV, kvmppc_slb, origv);

	/* struct kvm_nested_guest */
	FIELD32(NESTED_SHADOW_LPID, kvm_nested_guest, shadow_lpid);

	/* struct kvmppc_vcore */
	FIELD64(VCORE_TB_OFFSET, kvmppc_vcore, tb_offset);
	FIELD64(VCORE_TB_OFFSET_APPLIED, kvmppc_vcore, tb_offset_applied);
	FIELD64(VCORE_PCR, kvmppc_vcore, pcr);
	FIELD16(VCORE_PCPU, kvmppc_vcore, pcpu);

	/* struct kvm */
	FIELD64(KVM_LPID, kvm, arch.lpid);
	FIELD32(KVM_HOST_LPID, kvm, arch.host_lpid);
	FIELD64(KVM_HOST_LPCR, kvm, arch.host_lpcr);
	FIELD64(KVM_VRMA_SLB_V, kvm, arch.vrma_slb_v);
	FIELD64(KVM_PROCESS_TABLE, kvm, arch.process_table);
	FIELD8(KVM_RADIX, kvm, arch.radix);
	FIELD8(KVM_SECURE_GUEST, kvm, arch.secure_guest);
	FIELD64(KVM_MEMSLOTS, kvm, memslots[0]);
	FIELD64(KVM_MM, kvm, mm);
	FIELD64(KVM_HPT_TABLE, kvm, arch.hpt.virt);
	FIELD32(KVM_HPT_ORDER, kvm, arch.hpt.order);
	FIELD64(KVM_HPT_REVS, kvm, arch.hpt.rev);
	FIELD32(KVM_HPTE_MOD_INTEREST, kvm, arch.hpte_mod_interest);
	FIELD32(KVM_ONLINE_VCORES, kvm, arch.online_vcores);
	FIELD64(KVM_MMU_SEQUENCE, kvm, mmu_invalidate_seq);
	FIELD64(KVM_MMU_IN_PROGRESS, kvm, mmu_invalidate_in_progress);

	FIELD64(KVM_XIVE, kvm, arch.xive);
	FIELD64(KVM_VCPUS, kvm, vcpu_array.xa_head);
	FIELD32(KVM_ONLINE_VCPUS, kvm, online_vcpus);

	/* struct xa_node */
	FIELD8(XA_NODE_SHIFT, xa_node, shift);

	/* struct kvmppc_xive_vcpu and xive_q */
	FIELD32(VP_SERVER, kvmppc_xive_vcpu, server_num);
	FIELD8(VP_CPPR, kvmppc_xive_vcpu, cppr);
	FIELD8(VP_HW_CPPR, kvmppc_xive_vcpu, hw_cppr);
	FIELD8(VP_MFRR, kvmppc_xive_vcpu, mfrr);
	FIELD8(VP_PENDING, kvmppc_xive_vcpu, pending);
	FIELD64(VP_STAT_XIRR, kvmppc_xive_vcpu, stat_vm_h_xirr);
	FIELD64(VP_STAT_IPOLL, kvmppc_xive_vcpu, stat_vm_h_ipoll);
	FIELD64(VP_STAT_CPPR, kvmppc_xive_vcpu, stat_vm_h_cppr);
	FIELD64(VP_STAT_EOI, kvmppc_xive_vcpu, stat_vm_h_eoi);
	FIELD64(VP_STAT_IPI, kvmppc_xive_vcpu, stat_vm_h_ipi);
	FIELD64(QUEUE_PAGE, xive_q, qpage);
	FIELD32(QUEUE_MASK, xive_q, msk);
	FIELD32(QUEUE_INDEX, xive_q, idx);
	FIELD32(QUEUE_TOGGLE, xive_q, toggle);
	FIELD32(QUEUE_COUNT, xive_q, count);
	FIELD32(QUEUE_LEFT, xive_q, pending_count);

	/* struct kvmppc_xive_irq_state and xive_irq_data */
	FIELD8(SOURCE_PRIORITY, kvmppc_xive_irq_state, guest_priority);
	FIELD8(SOURCE_IN_EOI, kvmppc_xive_irq_state, in_eoi);
	FIELD8(SOURCE_OLD_P, kvmppc_xive_irq_state, old_p);
	FIELD8(SOURCE_LSI, kvmppc_xive_irq_state, lsi);
	FIELD8(SOURCE_ASSERTED, kvmppc_xive_irq_state, asserted);
	FIELD32(SOURCE_SERVER, kvmppc_xive_irq_state, act_server);
	FIELD32(SOURCE_PT_NUMBER, kvmppc_xive_irq_state, pt_number);
	FIELD64(SOURCE_PT_DATA, kvmppc_xive_irq_state, pt_data);
	FIELD64(ESB_FLAGS, xive_irq_data, flags);
	FIELD64(ESB_EOI_PAGE, xive_irq_data, eoi_page);
	FIELD64(ESB_EOI_MMIO, xive_irq_data, eoi_mmio);
	FIELD64(ESB_TRIG_PAGE, xive_irq_data, trig_page);
	FIELD64(ESB_TRIG_MMIO, xive_irq_data, trig_mmio);

	/* struct mm_struct, and the regions that it has registered for DMA */
	FIELD64(MM_PGD, mm_struct, pgd);
	FIELD64(MM_REGIONS, mm_struct, context.iommu_group_mem_list.next);
	FIELD64(REGION_NEXT, mm_iommu_table_group_mem_t, next.next);
	FIELD64(REGION_MAPPED, mm_iommu_table_group_mem_t, mapped);
	FIELD32(REGION_PAGE_SHIFT, mm_iommu_table_group_mem_t, pageshift);
	FIELD64(REGION_UA, mm_iommu_table_group_mem_t, ua);
	FIELD64(REGION_ENTRIES, mm_iommu_table_group_mem_t, entries);
	FIELD64(REGION_HPAS, mm_iommu_table_group_mem_t, hpas);
	FIELD64(REGION_DEV_HPA, mm_iommu_table_group_mem_t, dev_hpa);

	/* struct kvm_memslots, kvm_memory_slot and rb_node */
	FIELD64(MEMSLOTS_GENERATION, kvm_memslots, generation);
	FIELD64(MEMSLOTS_LAST_USED, kvm_memslots, last_used_slot);
	FIELD64(MEMSLOTS_GFN_TREE, kvm_memslots, gfn_tree.rb_node);
	FIELD32(MEMSLOTS_NODE_IDX, kvm_memslots, node_idx);
	FIELD64(SLOT_BASE_GFN, kvm_memory_slot, base_gfn);
	FIELD64(SLOT_NPAGES, kvm_memory_slot, npages);
	FIELD64(SLOT_USER, kvm_memory_slot, userspace_addr);
	FIELD64(SLOT_DIRTY_BITMAP, kvm_memory_slot, dirty_bitmap);
	FIELD64(SLOT_RMAPS, kvm_memory_slot, arch.rmap);
	FIELD32(SLOT_FLAGS, kvm_memory_slot, flags);
	FIELD64(NODE_LEFT, rb_node, rb_left);
	FIELD64(NODE_RIGHT, rb_node, rb_right);

	/* struct kvmppc_spapr_tce_table */
	FIELD64(STT_LIOBN, kvmppc_spapr_tce_table, liobn);
	FIELD32(STT_PAGE_SHIFT, kvmppc_spapr_tce_table, page_shift);
	FIELD64(STT_OFFSET, kvmppc_spapr_tce_table, offset);
	FIELD64(STT_SIZE, kvmppc_spapr_tce_table, size);
	FIELD64(STT_IOMMU_TABLES, kvmppc_spapr_tce_table, iommu_tables.next);
	FIELD64(STT_P9_NEXT, kvmppc_spapr_tce_table, p9_next);

	/* struct kvmppc_spapr_tce_iommu_table, iommu_table and iommu_table_ops */
	FIELD64(STIT_NEXT, kvmppc_spapr_tce_iommu_table, next.next);
	FIELD64(STIT_TABLE, kvmppc_spapr_tce_iommu_table, tbl);
	FIELD64(IOMMU_LEVELS, iommu_table, it_indirect_levels);
	FIELD64(IOMMU_LEVEL_SIZE, iommu_table, it_level_size);
	FIELD64(IOMMU_SIZE, iommu_table, it_size);
	FIELD64(IOMMU_OFFSET, iommu_table, it_offset);
	FIELD64(IOMMU_BASE, iommu_table, it_base);
	FIELD64(IOMMU_PAGE_SHIFT, iommu_table, it_page_shift);
	FIELD64(IOMMU_USERSPACE, iommu_table, it_userspace);
	FIELD64(IOMMU_OPS, iommu_table, it_ops);
	FIELD8(IOMMU_RETIRED, iommu_table, it_retired);
	FIELD64(IOMMU_OPS_USER, iommu_table_ops, useraddrptr);

	/* struct paca_struct */
	FIELD64(PACA_CURRENT, paca_struct, __current);
	FIELD16(PACA_INDEX, paca_struct, paca_index);
	FIELD8(PACA_IRQ_HAPPENED, paca_struct, irq_happened);
	FIELD8(PACA_IN_GUEST, paca_struct, kvm_hstate.in_guest);
	FIELD8(PACA_FAKE_SUSPEND, paca_struct, kvm_hstate.fake_suspend);
	FIELD8(PACA_SRR_VALID, paca_struct, srr_valid);
	FIELD8(PACA_HSRR_VALID, paca_struct, hsrr_valid);
	FIELD8(PACA_PMCREGS_IN_USE, paca_struct, pmcregs_in_use);
	FIELD64(PACA_TIMA_VIRT, paca_struct, kvm_hstate.xive_tima_virt);
	FIELD64(PACA_TIMA_PHYS, paca_struct, kvm_hstate.xive_tima_phys);

	/* struct task_struct */
	FIELD64(TASK_USER_REGS, task_struct, thread.regs);

	/* Offsets into a save area; EX_* are bytes */
	DEFINE(EX_R9, EX_R9); /* u64 */
	DEFINE(EX_R10, EX_R10); /* u64 */
	DEFINE(EX_R11, EX_R11); /* u64 */
	DEFINE(EX_R12, EX_R12); /* u64 */
	DEFINE(EX_R13, EX_R13); /* u64 */
	DEFINE(EX_DAR, EX_DAR); /* u64 */
	DEFINE(EX_DSISR, EX_DSISR); /* u32 */
	DEFINE(EX_CFAR, EX_CFAR); /* u64 */
	DEFINE(EX_PPR, EX_PPR); /* u64 */
	DEFINE(EX_CTR, EX_CTR); /* u64 */

	/* Whole structures, and what is in them by other means */
	OFFSET(VCPU_P9, kvm_vcpu, arch.p9);
	OFFSET(VCPU_P9_FULL, kvm_vcpu, arch.p9_served.full);
	OFFSET(VCPU_SLB, kvm_vcpu, arch.slb);
	DEFINE(SLB_ENTRIES, ARRAY_SIZE(((struct kvm_vcpu *)0)->arch.slb));
	DEFINE(SIZEOF_SLB_ENTRY, sizeof(struct kvmppc_slb));
	DEFINE(SLB_VALID, SLB_ESID_V);
	OFFSET(VCPU_FP, kvm_vcpu, arch.fp);
	OFFSET(VCPU_VR, kvm_vcpu, arch.vr);
	OFFSET(FP_STATE_FPSCR, thread_fp_state, fpscr);
	OFFSET(VR_STATE_VSCR, thread_vr_state, vscr);
	OFFSET(KVM_NEED_TLB_FLUSH, kvm, arch.need_tlb_flush);
	DEFINE(SIZEOF_REV, sizeof(struct revmap_entry));
	DEFINE(SIZEOF_CPUMASK, sizeof(cpumask_t));
	FIELD64(KVM_MMIO_UPDATE, kvm, arch.mmio_update);
	OFFSET(VCPU_MMIO_CACHE, kvm_vcpu, arch.mmio_cache.entry);
	DEFINE(MMIO_CACHE_ENTRIES, MMIO_HPTE_CACHE_SIZE);
	DEFINE(SIZEOF_MMIO_CACHE_ENTRY, sizeof(struct mmio_hpte_cache_entry));
	FIELD64(MMIO_CACHE_ADDRESS, mmio_hpte_cache_entry, eaddr);
	FIELD32(MMIO_CACHE_SHIFT, mmio_hpte_cache_entry, slb_base_pshift);
	FIELD64(MMIO_CACHE_UPDATE, mmio_hpte_cache_entry, mmio_update);
	OFFSET(XA_NODE_SLOTS, xa_node, slots);
	DEFINE(XA_SLOTS, XA_CHUNK_SIZE);
	OFFSET(VP_QUEUES, kvmppc_xive_vcpu, queues);
	DEFINE(VP_QUEUE_COUNT, KVMPPC_XIVE_Q_COUNT);
	DEFINE(SIZEOF_QUEUE, sizeof(struct xive_q));
	OFFSET(VP_IPI_DATA, kvmppc_xive_vcpu, vp_ipi_data);
	OFFSET(XIVE_BLOCKS, kvmppc_xive, src_blocks);
	OFFSET(BLOCK_SOURCES, kvmppc_xive_src_block, irq_state);
	DEFINE(SIZEOF_SOURCE, sizeof(struct kvmppc_xive_irq_state));
	OFFSET(SOURCE_IPI_DATA, kvmppc_xive_irq_state, ipi_data);
	OFFSET(NESTED_NEED_TLB_FLUSH, kvm_nested_guest, need_tlb_flush);
	OFFSET(KVM_P9_TABLES, kvm, arch.p9.tables);
	OFFSET(KVM_ENABLED_HCALLS, kvm, arch.enabled_hcalls);
	OFFSET(STT_PAGES, kvmppc_spapr_tce_table, pages);
	OFFSET(SLOT_GFN_NODE, kvm_memory_slot, gfn_node);
	DEFINE(SIZEOF_NODE, sizeof(struct rb_node));
	OFFSET(PT_REGS_MSR, pt_regs, msr);
	OFFSET(PACA_EXGEN_AREA, paca_struct, exgen);
	OFFSET(PACA_EXMC_AREA, paca_struct, exmc);
	OFFSET(PACA_EXNMI_AREA, paca_struct, exnmi);
	DEFINE(SIZEOF_HOST_OS_SPRS, sizeof(struct p9_host_os_sprs));

	/* Numbers and codes */
	DEFINE(PAGE_SHIFT, PAGE_SHIFT);
	DEFINE(SLOT_INVALID, KVM_MEMSLOT_INVALID);
	DEFINE(PTE_INVALID, _PAGE_INVALID);
	DEFINE(PTE_BUSY, H_PAGE_BUSY);
	DEFINE(PTE_RWX, _PAGE_RWX);
	DEFINE(PTE_WRITE, _PAGE_WRITE);
	DEFINE(PTE_ACCESSED, _PAGE_ACCESSED);
	DEFINE(PTE_DIRTY, _PAGE_DIRTY);
	DEFINE(PTE_SOFT_DIRTY, _PAGE_SOFT_DIRTY);
	DEFINE(PTE_CACHING, _PAGE_CACHE_CTL);
	DEFINE(PTE_TOLERANT, _PAGE_TOLERANT);
	DEFINE(PTE_NON_IDEMPOTENT, _PAGE_NON_IDEMPOTENT);
	DEFINE(PTE_PRESENT, _PAGE_PRESENT);
	DEFINE(PTE_LEAF, _PAGE_PTE);
	DEFINE(TREE_BITS, RADIX_PGD_INDEX_SIZE + RADIX_PUD_INDEX_SIZE + RADIX_PMD_INDEX_SIZE +
			  RADIX_PTE_INDEX_SIZE + PAGE_SHIFT);
	DEFINE(TREE_ROOT_BITS, RADIX_PGD_INDEX_SIZE);
	DEFINE(TREE_LAST_BITS, RADIX_PTE_INDEX_SIZE);
	DEFINE(LINEAR_MAP, PAGE_OFFSET);
	DEFINE(LINEAR_MAP_SIZE, RADIX_KERN_VIRT_START - PAGE_OFFSET);
	DEFINE(REGION_PAGE_WRITTEN, MM_IOMMU_TABLE_GROUP_PAGE_DIRTY);
	DEFINE(REGION_PAGE_MASK, MM_IOMMU_TABLE_GROUP_PAGE_MASK);
	DEFINE(KVM_P9_TABLE_BITS, KVM_P9_TABLE_BITS);
	DEFINE(HASH_32_FACTOR, GOLDEN_RATIO_32);
	DEFINE(TCE_PCI_READ, TCE_PCI_READ);
	DEFINE(TCE_PCI_WRITE, TCE_PCI_WRITE);
	DEFINE(HCALL_GET_TCE, H_GET_TCE);
	DEFINE(HCALL_PUT_TCE, H_PUT_TCE);
	DEFINE(HCALL_PUT_TCE_INDIRECT, H_PUT_TCE_INDIRECT);
	DEFINE(HCALL_STUFF_TCE, H_STUFF_TCE);
	DEFINE(HCALL_SUCCESS, H_SUCCESS);
	DEFINE(HCALL_PARAMETER, H_PARAMETER);
	DEFINE(HCALL_NULL, KVMPPC_H_NULL);
	DEFINE(HCALL_MAX, MAX_HCALL_OPCODE);
	DEFINE(HCALL_TOO_HARD, H_TOO_HARD);
	DEFINE(GUEST_MODE_NONE, KVM_GUEST_MODE_NONE);
	DEFINE(GUEST_MODE_P9_RS, KVM_GUEST_MODE_HV_P9_RS);
	DEFINE(INST_FETCH_FAILED, KVM_INST_FETCH_FAILED);
	DEFINE(IRQ_HARD_DIS, PACA_IRQ_HARD_DIS);
	DEFINE(PCR_RESERVED, PCR_MASK);
	DEFINE(HV_LPCR_LD, LPCR_LD);
	DEFINE(HV_LPCR_HDICE, LPCR_HDICE);
	DEFINE(DSISR_STORE, DSISR_ISSTORE);
	DEFINE(HISI_WRITE, HSRR1_HISI_WRITE);
	DEFINE(DSISR_SRR1_MATCH, DSISR_SRR1_MATCH_64S);
	DEFINE(DSISR_CANARY, HDSISR_CANARY);
	DEFINE(SRR1_STATUS, ~SRR1_MSR_BITS);
	DEFINE(SRR1_IS_PREFIXED, SRR1_PREFIXED);
	DEFINE(DSISR_ODD, DSISR_UNSUPP_MMU | DSISR_BADACCESS | DSISR_PRTABLE_FAULT | DSISR_SET_RC);
	DEFINE(FEATURE_TM_ASSIST, CPU_FTR_P9_TM_HV_ASSIST);
	DEFINE(IRQ_TYPE_XICS, KVMPPC_IRQ_XICS);
	DEFINE(XICS_BLOCKS, KVMPPC_XICS_MAX_ICS_ID + 1);
	DEFINE(XICS_BLOCK_SHIFT, KVMPPC_XICS_ICS_SHIFT);
	DEFINE(XICS_IRQ_IPI, XICS_IPI);
	DEFINE(XICS_IRQ_DUMMY, XICS_DUMMY);
	DEFINE(XICS_MASKED, MASKED);
	DEFINE(ESB_FLAG_STORE_EOI, XIVE_IRQ_FLAG_STORE_EOI);
	DEFINE(ESB_FLAG_LSI, XIVE_IRQ_FLAG_LSI);
	DEFINE(ESB_STORE_EOI, XIVE_ESB_STORE_EOI);
	DEFINE(ESB_LOAD_EOI, XIVE_ESB_LOAD_EOI);
	DEFINE(ESB_SET_PQ_00, XIVE_ESB_SET_PQ_00);
	DEFINE(ESB_Q, XIVE_ESB_VAL_Q);
	DEFINE(TIMA_ACK, TM_SPC_ACK_OS_REG);
	DEFINE(TIMA_ACK_INTERRUPT, TM_QW1_NSR_EO);
	DEFINE(TIMA_OS, TM_QW1_OS);
	DEFINE(TIMA_CPPR, TM_QW1_OS + TM_CPPR);
	DEFINE(TIMA_SET_PENDING, TM_SPC_SET_OS_PENDING);

	/* What is configured in or out */
	DEFINE(HAVE_QUEUED_SPINLOCK, IS_ENABLED(CONFIG_PPC_QUEUED_SPINLOCKS) &&
				     !IS_ENABLED(CONFIG_PREEMPT_RT));
#if defined(CONFIG_PPC_QUEUED_SPINLOCKS) && !defined(CONFIG_PREEMPT_RT)
	OFFSET(BLOCK_LOCK, kvmppc_xive_src_block, lock.raw_lock.val);
	OFFSET(KVM_MMU_LOCK, kvm, mmu_lock.rlock.raw_lock.val);
	DEFINE(SPINLOCK_LOCKED, _Q_LOCKED_VAL);
	DEFINE(SPINLOCK_OWNER_SHIFT, _Q_OWNER_CPU_OFFSET);
	DEFINE(SPINLOCK_TAIL, _Q_TAIL_CPU_MASK);
#else
	/* No handler takes a lock */
	DEFINE(BLOCK_LOCK, 0);
	DEFINE(KVM_MMU_LOCK, 0);
	DEFINE(SPINLOCK_LOCKED, 0);
	DEFINE(SPINLOCK_OWNER_SHIFT, 0);
	DEFINE(SPINLOCK_TAIL, 0);
#endif
	DEFINE(HAVE_TM, IS_ENABLED(CONFIG_PPC_TRANSACTIONAL_MEM));
	DEFINE(HAVE_TIMING, IS_ENABLED(CONFIG_KVM_BOOK3S_HV_P9_TIMING));
#ifdef CONFIG_KVM_BOOK3S_HV_P9_TIMING
	OFFSET(VCPU_TIME_IN_GUEST, kvm_vcpu, arch.in_guest);
	OFFSET(VCPU_TIME_GUEST_EXIT, kvm_vcpu, arch.guest_exit);
#endif

	return 0;
}
