#include "merge/missed.h"

#include "kit/table.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What is known of a process from the stretch itself. */
struct names {
	char comm[16];
};

enum {
	NAMES_MAX =
		4096 /* processes that were renamed in the stretch; the others have the names that the streams gave them */
};

struct missed {
	struct profile *profile;
	uint64_t snapshot, *counters;
	struct table counts; /* pid -> samples */
	struct table places; /* pid -> place in names, from 1 */
	struct names *names;
	size_t nnames;
};

/* An earlier snapshot's mark, whose reader closed its part without having come to it: what it counts, nobody has told. */
static void take_mark(struct missed *m, const struct lane_mark *mark)
{
	for (enum counter c = 0; c < COUNTER_MAX && mark->snapshot < m->snapshot; c++)
		if (counter_source(c) == COUNTER_SOURCE_SAMPLER)
			m->counters[c] += mark->counters[c];
}

static int take(struct missed *m, const uint8_t *record, size_t n)
{
	const struct lane_record *head = (const void *)record;
	if (head->type == LANE_SAMPLE && n >= sizeof(struct lane_sample)) {
		uint64_t *count = table_at(&m->counts, &head->pid, sizeof head->pid);
		if (!count)
			return -ENOMEM;
		++*count;
	} else if ((head->type == LANE_EXEC || (head->type == LANE_COMM && head->pid == head->tid)) &&
		   n >= sizeof(struct lane_event)) {
		const struct lane_event *event = (const void *)record;
		uint64_t *place = table_at(&m->places, &head->pid, sizeof head->pid);
		if (!place || (!*place && m->nnames == NAMES_MAX))
			return 0;
		if (!*place)
			*place = ++m->nnames;
		memcpy(m->names[*place - 1].comm, event->comm, sizeof event->comm);
	} else if (head->type == LANE_MARK && n >= sizeof(struct lane_mark)) {
		take_mark(m, (const void *)record);
	}
	return 0;
}

static int read_ring(struct missed *m, const struct lane *lane, uint32_t cpu)
{
	static union {
		struct lane_record head;
		uint8_t bytes[LANE_RECORD_MAX];
	} record;
	struct lane_state state = lane_state(lane, cpu);
	uint64_t at = lane_tail(lane, cpu);
	if (state.mark_snapshot != m->snapshot || state.mark_end - at > lane->ring_size)
		return 0; /* no mark: those samples are the next snapshot's */
	while (at != state.mark_end) {
		int n = lane_get(lane, cpu, at, record.bytes, sizeof record.bytes);
		if (n <= 0 || (uint64_t)n > state.mark_end - at)
			return -EBADMSG;
		int r = take(m, record.bytes, (size_t)n);
		if (r < 0)
			return r;
		at += (uint64_t)n;
	}
	return 0;
}

/* The process that the streams know by this number, if any: the last one, should there be several. */
static uint32_t known_process(const struct profile *p, uint32_t pid)
{
	for (uint32_t i = profile_process_count(p); i; i--)
		if (profile_process(p, i).pid == pid)
			return i;
	return 0;
}

static int add_process(struct missed *m, uint32_t pid, uint64_t count, uint32_t stack)
{
	struct profile_task task = { .pid = pid };
	uint32_t process = known_process(m->profile, pid), id;
	uint64_t *place = table_find(&m->places, &pid, sizeof pid);
	int r = 0;
	if (process) {
		task.start_time = profile_process(m->profile, process).start_time;
		task.comm = profile_process(m->profile, process).comm;
	}
	if (place && *place) {
		const char *comm = m->names[*place - 1].comm;
		r = profile_add_string(m->profile, comm, strnlen(comm, sizeof m->names->comm), &task.comm);
	} else if (!task.comm) {
		char text[32];
		int n = snprintf(text, sizeof text, "[process %u]", pid);
		r = profile_add_string(m->profile, text, (size_t)n, &task.comm);
	}
	if (!r)
		task.thread = task.comm;
	r = r ? r : profile_add_task(m->profile, task, &id);
	if (r < 0) {
		profile_drop(m->profile, count);
		return r;
	}
	const struct profile_sample sample = { .task = id, .stack = stack, .outcome = COUNTER_missed, .count = count };
	r = profile_add_sample(m->profile, &sample);
	if (r < 0)
		profile_drop(m->profile, count);
	return r;
}

static int add_stack(struct profile *p, const char *why, uint32_t *ret_stack)
{
	char text[256];
	struct profile_frame frame = { .kind = FRAME_SYNTHETIC };
	uint32_t id;
	int n = snprintf(text, sizeof text, "[%s]", why);
	int r = profile_add_string(p, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1, &frame.name);
	r = r ? r : profile_add_frame(p, frame, &id);
	return r ? r : profile_add_stack(p, &id, 1, ret_stack);
}

int missed_add(
	struct profile *p, const struct lane *lane, uint64_t snapshot, const char *why, uint64_t counters[COUNTER_MAX])
{
	static struct names names[NAMES_MAX];
	struct missed m = { .profile = p, .snapshot = snapshot, .counters = counters, .names = names };
	uint32_t stack = 0;
	int result = 0, added = add_stack(p, why, &stack);
	for (uint32_t cpu = 0; cpu < lane->cpus; cpu++) {
		int r = lane_used(lane, cpu) ? read_ring(&m, lane, cpu) : 0;
		result = result ? result : r;
	}
	for (size_t i = 0; i < m.counts.size; i++) {
		const void *key;
		size_t n;
		uint32_t pid;
		const uint64_t *count = table_slot(&m.counts, i, &key, &n);
		if (!count)
			continue;
		memcpy(&pid, key, sizeof pid);
		if (added < 0)
			profile_drop(p, *count);
		else
			added = add_process(&m, pid, *count, stack);
	}
	table_free(&m.counts);
	table_free(&m.places);
	return result ? result : added;
}
