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

static void handle_sample(struct taps *taps, struct words *w)
{
	uint64_t kernel[LANE_MAX_KERNEL];
	const uint8_t *stack = NULL;
	struct lane_sample s = { .head.type = LANE_SAMPLE };
	if (!parse_sample(w, &s, kernel, &stack)) {
		uint64_t *counters = taps_counters(taps, RUNTIME_NONE);
		counters[COUNTER_taken]++;
		counters[COUNTER_malformed]++;
		return;
	}
	enum runtime_id wanted = route_of(s.head.pid), lane = taps_lane(s.head.pid);
	uint64_t *counters = taps_counters(taps, lane);
	counters[COUNTER_taken]++;
	if (!route_follows(s.head.pid)) {
		counters[COUNTER_filtered]++;
		return;
	}
	if (lane != wanted) {
		s.runtime = (uint16_t)wanted;
		s.away = atomic_load(&outlets[wanted].away);
	}
	size_t chain = s.nkernel * sizeof *kernel;
	if (sizeof s + chain + s.stack_bytes > LANE_RECORD_MAX)
		s.stack_bytes = (uint32_t)(LANE_RECORD_MAX - sizeof s - chain);
	s.head.size = (uint32_t)(sizeof s + chain + s.stack_bytes);
	struct lane_piece pieces[] = { { &s, sizeof s }, { kernel, chain }, { stack, s.stack_bytes } };
	if (!taps_put(taps, lane, pieces, stack ? 3 : 2))
		counters[COUNTER_lane_full]++;
}

static void put_event(struct taps *taps, enum runtime_id lane, struct lane_event *event)
{
	if (!route_follows(event->head.pid))
		return;
	event->head.size = sizeof *event;
	struct lane_piece piece = { event, sizeof *event };
	(void)taps_put(taps, lane, &piece, 1);
}

/* Also to native, which may have had the process before, or while its own lane's worker was away. */
static void put_event_to_both(struct taps *taps, enum runtime_id lane, struct lane_event *event)
{
	if (lane != RUNTIME_NONE)
		put_event(taps, RUNTIME_NONE, event);
	put_event(taps, lane, event);
}

/* sample_id_all puts { pid, tid; time; cpu } behind every record that is not a sample. */
enum { SAMPLE_ID_BYTES = 24, SAMPLE_ID_TIME = 8 };

static void handle_task(struct taps *taps, struct words *w, bool born, uint64_t time)
{
	uint32_t pid, parent, tid;
	if (!take(w, &pid, 4) || !take(w, &parent, 4) || !take(w, &tid, 4))
		return;
	struct lane_event event = {
		.head = { .type = born ? LANE_FORK : LANE_EXIT, .time = time, .pid = pid, .tid = tid }
	};
	if (born ? pid == parent : pid != tid)
		return; /* threads of a process */
	if (!born) {
		put_event_to_both(taps, taps_lane(pid), &event);
		return;
	}
	route_fork(parent, pid, time);
	event.value = parent;
	put_event(taps, taps_lane(pid), &event);
}

static void handle_exec(struct taps *taps, struct lane_event *event)
{
	enum runtime_id before = taps_lane(event->head.pid);
	route_exec(event->head.pid, event->head.time);
	if (before != RUNTIME_NONE) {
		struct lane_event left = *event;
		left.head.type = LANE_LEFT;
		put_event(taps, before, &left);
	}
	put_event(taps, RUNTIME_NONE, event);
}

static void handle_comm(struct taps *taps, struct words *w, bool exec, uint64_t time)
{
	struct lane_event event = { .head = { .type = exec ? LANE_EXEC : LANE_COMM, .time = time } };
	if (!take(w, &event.head.pid, 4) || !take(w, &event.head.tid, 4))
		return;
	size_t n = (size_t)(w->end - w->at) - SAMPLE_ID_BYTES;
	memcpy(event.comm, w->at, n < sizeof event.comm ? n : sizeof event.comm);
	if (exec)
		handle_exec(taps, &event);
	else
		put_event(taps, taps_lane(event.head.pid), &event);
}

/* PERF_RECORD_MMAP2. What is mapped is told by the event itself: /proc/PID/maps would tell of a later moment, when a plugin may
 * have gone and another one lie in its place. */
static void handle_map(struct taps *taps, struct words *w, uint64_t time)
{
	static const uint8_t padding[8];
	struct lane_map map = { .head = { .type = LANE_MAP, .time = time } };
	uint64_t length, generation;
	uint32_t device[2], prot_flags[2];
	if (!take(w, &map.head.pid, 4) || !take(w, &map.head.tid, 4) ||
		map.head.pid == UINT32_MAX /* a kernel module */ || !take(w, &map.start, 8) || !take(w, &length, 8) ||
		!take(w, &map.offset, 8) || !take(w, device, 8) || !take(w, &map.inode, 8) ||
		!take(w, &generation, 8) || !take(w, prot_flags, 8) || w->end - w->at < SAMPLE_ID_BYTES)
		return;
	if (!route_follows(map.head.pid))
		return;
	map.end = map.start + length;
	map.device = (uint64_t)device[0] << 32 | device[1];
	map.path_bytes = strnlen((const char *)w->at, (size_t)(w->end - w->at) - SAMPLE_ID_BYTES);
	if (map.path_bytes > LANE_PATH_MAX)
		map.path_bytes = LANE_PATH_MAX;
	size_t pad = -map.path_bytes & 7;
	map.head.size = (uint32_t)(sizeof map + map.path_bytes + pad);
	struct lane_piece pieces[] = { { &map, sizeof map }, { w->at, map.path_bytes }, { padding, pad } };
	(void)taps_put(taps, taps_lane(map.head.pid), pieces, 3);
}

void record_handle(struct taps *taps, const uint8_t *record, size_t size)
{
	struct perf_event_header header;
	memcpy(&header, record, sizeof header);
	struct words w = { record + sizeof header, record + size };
	if (header.type == PERF_RECORD_SAMPLE) {
		handle_sample(taps, &w);
		return;
	}
	uint64_t time = 0, lost[2];
	if ((size_t)(w.end - w.at) >= SAMPLE_ID_BYTES)
		memcpy(&time, w.end - SAMPLE_ID_BYTES + SAMPLE_ID_TIME, sizeof time);
	else if (header.type == PERF_RECORD_COMM)
		return;
	switch (header.type) {
	case PERF_RECORD_FORK:
	case PERF_RECORD_EXIT:
		handle_task(taps, &w, header.type == PERF_RECORD_FORK, time);
		break;
	case PERF_RECORD_COMM:
		if ((size_t)(w.end - w.at) >= SAMPLE_ID_BYTES + 8)
			handle_comm(taps, &w, header.misc & PERF_RECORD_MISC_COMM_EXEC, time);
		break;
	case PERF_RECORD_MMAP2:
		handle_map(taps, &w, time);
		break;
	case PERF_RECORD_LOST:
		if (take(&w, lost, sizeof lost))
			taps_counters(taps, RUNTIME_NONE)[COUNTER_kernel_lost] += lost[1];
		break;
	case PERF_RECORD_LOST_SAMPLES:
		if (take(&w, lost, sizeof *lost))
			taps_counters(taps, RUNTIME_NONE)[COUNTER_kernel_lost] += lost[0];
		break;
	default:
		break;
	}
}
