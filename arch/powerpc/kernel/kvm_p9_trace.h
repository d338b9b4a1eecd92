/* SPDX-License-Identifier: GPL-2.0-only */
#if !defined(KVM_P9_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define KVM_P9_TRACE_H

#include <linux/tracepoint.h>

#undef TRACE_SYSTEM
#define TRACE_SYSTEM kvm_p9

int kvm_p9_trace_reg(void);
void kvm_p9_trace_unreg(void);

/*
 * An hcall that a fast handler answered. A handler can't trace, as it runs in the
 * context of the guest. The event is emitted after the next exit; tb is the time of
 * the hcall. A vcpu stores a few events. When there is no room, the next hcall takes
 * the full path, which emits them, so that none is lost.
 */
TRACE_EVENT_FN(fast_hcall,
	TP_PROTO(int vcpu_id, u32 number, u64 r4, s64 code, u64 tb, u32 ticks),
	TP_ARGS(vcpu_id, number, r4, code, tb, ticks),

	TP_STRUCT__entry(
		__field(u64, tb)
		__field(u64, r4)
		__field(s64, code)
		__field(int, vcpu_id)
		__field(u32, number)
		__field(u32, ticks)
	),

	TP_fast_assign(
		__entry->tb = tb;
		__entry->r4 = r4;
		__entry->code = code;
		__entry->vcpu_id = vcpu_id;
		__entry->number = number;
		__entry->ticks = ticks;
	),

	TP_printk("VCPU %d: hcall=%#x r4=%#llx code=%lld tb=%llu ticks=%u",
		  __entry->vcpu_id, __entry->number, __entry->r4,
		  __entry->code, __entry->tb, __entry->ticks),

	kvm_p9_trace_reg, kvm_p9_trace_unreg
);

#endif /* KVM_P9_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE kvm_p9_trace

#include <trace/define_trace.h>
