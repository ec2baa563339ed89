#include "sampler/sampler.h"

#include "proto/perf_regs.h"

#include <linux/perf_event.h>
#include <string.h>

/* A cursor over the 64-bit words of one record. */
struct words {
	const uint8_t *at, *end;
};

static bool take(struct words *w, void *to, size_t n)
{
	if ((size_t)(w->end - w->at) < n)
		return false;
	memcpy(to, w->at, n);
	w->at += n;
	return true;
}

static const uint8_t *skip(struct words *w, size_t n)
{
	const uint8_t *at = w->at;
	if ((size_t)(w->end - w->at) < n)
		return NULL;
	w->at += n;
	return at;
}

/* The kernel's part of the chain, without the markers (values of PERF_CONTEXT_MAX and above) between the parts. */
static bool take_chain(struct words *w, uint64_t *kernel, uint16_t *ret_n)
{
	uint64_t n;
	if (!take(w, &n, sizeof n) || n > (size_t)(w->end - w->at) / sizeof n)
		return false;
	uint16_t kept = 0;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t ip = PERF_CONTEXT_MAX;
		if (take(w, &ip, sizeof ip) && ip < PERF_CONTEXT_MAX && kept < LANE_MAX_KERNEL)
			kernel[kept++] = ip;
	}
	*ret_n = kept;
	return true;
}

/* sample_type TID | TIME | CPU | CALLCHAIN | REGS_USER | STACK_USER (supervisor/priv_perf.c), in the kernel's order. */
static bool parse_sample(struct words *w, struct lane_sample *s, uint64_t *kernel, const uint8_t **ret_stack)
{
	uint64_t abi, copied, filled;
	uint32_t cpu[2];
	if (!take(w, &s->head.pid, sizeof s->head.pid) || !take(w, &s->head.tid, sizeof s->head.tid) ||
		!take(w, &s->head.time, sizeof s->head.time) || !take(w, cpu, sizeof cpu) ||
		!take_chain(w, kernel, &s->nkernel) || !take(w, &abi, sizeof abi))
		return false;
	s->cpu = cpu[0];
	if (s->head.pid > INT32_MAX) /* -1: a thread on its last steps, which has no number any more */
		s->head.pid = s->head.tid = 0;
	if (abi != PERF_SAMPLE_REGS_ABI_NONE) {
		s->has_user = (uint16_t)abi;
		for (size_t i = 0; i < PERF_REGS_COUNT; i++)
			if (!take(w, &s->regs[perf_regs_dwarf[i]], sizeof *s->regs))
				return false;
	}
	if (!take(w, &copied, sizeof copied))
		return false;
	if (copied) {
		*ret_stack = copied <= (size_t)(w->end - w->at) ? skip(w, copied) : NULL;
		if (!*ret_stack || !take(w, &filled, sizeof filled))
			return false;
		if (filled > copied)
			filled = copied;
		s->stack_bytes = (uint32_t)(filled & ~7ULL);
	}
	return true;
}

static void handle_sample(const struct record_sink *sink, struct words *w)
{
	uint64_t kernel[LANE_MAX_KERNEL], *counters = sink->state->counters;
	const uint8_t *stack = NULL;
	struct lane_sample s = { .head.type = LANE_SAMPLE };
	counters[COUNTER_taken]++;
	if (!parse_sample(w, &s, kernel, &stack)) {
		counters[COUNTER_malformed]++;
		return;
	}
	if (!follow_has(s.head.pid)) {
		counters[COUNTER_filtered]++;
		return;
	}
	size_t chain = s.nkernel * sizeof *kernel;
	if (sizeof s + chain + s.stack_bytes > LANE_RECORD_MAX)
		s.stack_bytes = (uint32_t)(LANE_RECORD_MAX - sizeof s - chain);
	s.head.size = (uint32_t)(sizeof s + chain + s.stack_bytes);
	struct lane_piece pieces[] = { { &s, sizeof s }, { kernel, chain }, { stack, s.stack_bytes } };
	if (!lane_put(sink->lane, sink->cpu, sink->state, pieces, stack ? 3 : 2))
		counters[COUNTER_lane_full]++;
}

static bool put_event(const struct record_sink *sink, struct lane_event *event)
{
	if (!follow_has(event->head.pid))
		return true;
	event->head.size = sizeof *event;
	struct lane_piece piece = { event, sizeof *event };
	return lane_put(sink->lane, sink->cpu, sink->state, &piece, 1);
}

/* sample_id_all puts { pid, tid; time; cpu } behind every record that is not a sample. */
enum { SAMPLE_ID_BYTES = 24, SAMPLE_ID_TIME = 8 };

static bool handle_task(const struct record_sink *sink, struct words *w, bool born, uint64_t time)
{
	uint32_t pid, parent, tid;
	if (!take(w, &pid, 4) || !take(w, &parent, 4) || !take(w, &tid, 4))
		return true;
	struct lane_event event = {
		.head = { .type = born ? LANE_FORK : LANE_EXIT, .time = time, .pid = pid, .tid = tid }
	};
	if (born ? pid == parent : pid != tid)
		return true; /* threads of a process */
	if (born) {
		follow_fork(parent, pid);
		event.value = parent;
	}
	return put_event(sink, &event);
}

static bool handle_comm(const struct record_sink *sink, struct words *w, bool exec, uint64_t time)
{
	struct lane_event event = { .head = { .type = exec ? LANE_EXEC : LANE_COMM, .time = time } };
	if (!take(w, &event.head.pid, 4) || !take(w, &event.head.tid, 4))
		return true;
	size_t n = (size_t)(w->end - w->at) - SAMPLE_ID_BYTES;
	memcpy(event.comm, w->at, n < sizeof event.comm ? n : sizeof event.comm);
	return put_event(sink, &event);
}

/* PERF_RECORD_MMAP2. What is mapped is told by the event itself: /proc/PID/maps would tell of a later moment, when a plugin may
 * have gone and another one lie in its place. */
static bool handle_map(const struct record_sink *sink, struct words *w, uint64_t time)
{
	static const uint8_t padding[8];
	struct lane_map map = { .head = { .type = LANE_MAP, .time = time } };
	uint64_t length, generation;
	uint32_t device[2], prot_flags[2];
	if (!take(w, &map.head.pid, 4) || !take(w, &map.head.tid, 4) ||
		map.head.pid == UINT32_MAX /* a kernel module */ || !take(w, &map.start, 8) || !take(w, &length, 8) ||
		!take(w, &map.offset, 8) || !take(w, device, 8) || !take(w, &map.inode, 8) ||
		!take(w, &generation, 8) || !take(w, prot_flags, 8) || w->end - w->at < SAMPLE_ID_BYTES)
		return true;
	if (!follow_has(map.head.pid))
		return true;
	map.end = map.start + length;
	map.device = (uint64_t)device[0] << 32 | device[1];
	map.path_bytes = strnlen((const char *)w->at, (size_t)(w->end - w->at) - SAMPLE_ID_BYTES);
	if (map.path_bytes > LANE_PATH_MAX)
		map.path_bytes = LANE_PATH_MAX;
	size_t pad = -map.path_bytes & 7;
	map.head.size = (uint32_t)(sizeof map + map.path_bytes + pad);
	struct lane_piece pieces[] = { { &map, sizeof map }, { w->at, map.path_bytes }, { padding, pad } };
	return lane_put(sink->lane, sink->cpu, sink->state, pieces, 3);
}

bool record_handle(const struct record_sink *sink, const uint8_t *record, size_t size)
{
	struct perf_event_header header;
	memcpy(&header, record, sizeof header);
	struct words w = { record + sizeof header, record + size };
	if (header.type == PERF_RECORD_SAMPLE) {
		handle_sample(sink, &w);
		return true;
	}
	uint64_t time = 0, lost[2];
	if ((size_t)(w.end - w.at) >= SAMPLE_ID_BYTES)
		memcpy(&time, w.end - SAMPLE_ID_BYTES + SAMPLE_ID_TIME, sizeof time);
	else if (header.type == PERF_RECORD_COMM)
		return true;
	switch (header.type) {
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
		return handle_task(sink, &w, header.type == PERF_RECORD_FORK, time);
	case PERF_RECORD_COMM:
		return (size_t)(w.end - w.at) < SAMPLE_ID_BYTES + 8 ||
		       handle_comm(sink, &w, header.misc & PERF_RECORD_MISC_COMM_EXEC, time);
	case PERF_RECORD_MMAP2:
		return handle_map(sink, &w, time);
	case PERF_RECORD_LOST:
		if (take(&w, lost, sizeof lost))
			sink->state->counters[COUNTER_kernel_lost] += lost[1];
		return true;
	case PERF_RECORD_LOST_SAMPLES:
		if (take(&w, lost, sizeof *lost))
			sink->state->counters[COUNTER_kernel_lost] += lost[0];
		return true;
	default:
		return true;
	}
}
