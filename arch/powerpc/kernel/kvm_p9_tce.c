// SPDX-License-Identifier: GPL-2.0-only
/*
 * Hardware TCE tables: what Rust has to know of those of the host, and operations on
 * them that need kernel functions.
 */
#include <linux/export.h>
#include <linux/init.h>
#include <linux/iommu.h>
#include <linux/kvm_host.h>
#include <linux/rculist.h>
#include <asm/asm-prototypes.h>
#include <asm/firmware.h>
#include <asm/iommu.h>
#include <asm/kvm_book3s.h>
#include <asm/kvm_ppc.h>
#include <asm/opal.h>
#include <asm/reg.h>

#include "../platforms/powernv/pci.h"
#include "book3s_hv.h"
#include "kvm_p9.h"

EXPORT_SYMBOL_GPL(kvm_p9_tce);

/*
 * page_address(page) is page * [0] + [1], modulo 2^64. All struct pages are in one array, so
 * page - array is a multiple of their size, and a multiplication divides it.
 */
u64 kvm_p9_page_address[2] __ro_after_init;

/* useraddrptr() in the iommu_table_ops of PHB tables; 0 if the host has no PHBs */
u64 kvm_p9_phb_useraddrptr __ro_after_init;

void __init kvm_p9_tce_init(void)
{
	u64 even = sizeof(struct page) & -sizeof(struct page);
	u64 odd = sizeof(struct page) / even, inverse = odd;
	int i;

	/* An odd number is its own inverse modulo 8; each step doubles the bits */
	for (i = 0; i < 5; i++)
		inverse *= 2 - odd * inverse;
	BUILD_BUG_ON(PAGE_SIZE % (sizeof(struct page) & -sizeof(struct page)));
	kvm_p9_page_address[0] = PAGE_SIZE / even * inverse;
	kvm_p9_page_address[1] = PAGE_OFFSET -
				 (u64)pfn_to_page(0) * kvm_p9_page_address[0];

	if (firmware_has_feature(FW_FEATURE_OPAL))
		kvm_p9_phb_useraddrptr = (u64)pnv_tce_useraddrptr;
}

/* Allocate the levels of a hardware table for an entry. Called under RCU. */
bool kvm_p9_make_tce_levels(struct iommu_table *tbl, unsigned long entry)
{
	return pnv_tce_useraddrptr(tbl, entry, true);
}
EXPORT_SYMBOL_GPL(kvm_p9_make_tce_levels);

/*
 * Beyond that many pages, let the PHB forget all of a PE. For each single page firmware waits
 * for the PHB, and interrupts are off. For the PE firmware waits once.
 */
#define KILL_PAGES_MAX	32

/*
 * iommu_tce_kill() of PHB tables on a POWER9, callable from a fast handler. There the
 * context of the guest is loaded: nothing can be traced, and (H)SRR0/1 hold the way
 * back to the guest. Firmware runs in real mode, which does not depend on the guest
 * context. Firmware reads the guest's timebase, but uses differences only. MSR[EE] is
 * off, also in firmware.
 */
noinstr void kvm_p9_tce_kill(struct iommu_table *tbl, unsigned long entry, unsigned long pages)
{
	unsigned long srr0 = mfspr(SPRN_SRR0), srr1 = mfspr(SPRN_SRR1);
	unsigned long hsrr0 = mfspr(SPRN_HSRR0), hsrr1 = mfspr(SPRN_HSRR1);
	struct iommu_table_group_link *tgl;
	unsigned long kind = OPAL_PCI_TCE_KILL_PAGES, size = 1ul << tbl->it_page_shift;
	unsigned long address = entry << tbl->it_page_shift;

	if (pages > KILL_PAGES_MAX) {
		kind = OPAL_PCI_TCE_KILL_PE;
		size = address = pages = 0;
	}

	list_for_each_entry_lockless(tgl, &tbl->it_group_list, next) {
		struct pnv_ioda_pe *pe = container_of(tgl->table_group, struct pnv_ioda_pe,
						      table_group);

		__opal_call(pe->phb->opal_id, kind, pe->pe_number, size, address, pages,
			    0, 0, OPAL_PCI_TCE_KILL, mfmsr());
	}

	mtspr(SPRN_HSRR0, hsrr0);
	mtspr(SPRN_HSRR1, hsrr1);
	mtspr(SPRN_SRR0, srr0);
	mtspr(SPRN_SRR1, srr1);
}
