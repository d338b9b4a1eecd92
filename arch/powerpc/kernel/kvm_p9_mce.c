// SPDX-License-Identifier: GPL-2.0-only
/*
 * Machine checks of the host while it enters a guest or answers an hcall. The trampoline calls
 * this in real mode with the context of a guest loaded: all are noinstr.
 */
#include <linux/kvm_host.h>
#include <asm/mce.h>
#include <asm/paca.h>
#include <asm/ppc-opcode.h>
#include <asm/tlbflush.h>

#include "kvm_p9.h"

/*
 * Correct what the machine check is about, and say whether that was possible. The kernel's early
 * handler has only recorded the event, because the mode byte was set. Flush what it would flush
 * otherwise: translations. Then queue the event for the log, as the kernel does for machine checks of
 * its own. If nothing can be done, the event stays where the kernel finds it when it ends the host.
 */
noinstr bool kvm_p9_correct_machine_check(void)
{
	struct mce_info *info = local_paca->mce_info;
	int index = info->mce_nest_count - 1;
	struct machine_check_event *event;

	if (index < 0 || index >= MAX_MC_EVT)
		return false;
	event = &info->mce_event[index];
	if (event->error_type == MCE_ERROR_TYPE_ERAT)
		asm volatile(PPC_ISA_3_0_INVALIDATE_ERAT : : : "memory");
	else if (event->error_type == MCE_ERROR_TYPE_TLB)
		tlbiel_all();
	else
		return false;
	event->disposition = MCE_DISPOSITION_RECOVERED;
	machine_check_queue_event();
	return true;
}
