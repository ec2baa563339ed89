#include "sampler/sampler.h"

#include "common/clock.h"

#include <string.h>
#include <unistd.h>

enum { RECORD_MAX = 1 << 16 /* perf_event_header.size is 16 bits */ };

struct outlet outlets[RUNTIME_MAX] = { [0 ... RUNTIME_MAX - 1] = { .doorbell = -1 } };

static bool is_open(unsigned id)
{
	return outlets[id].lane.map;
}

void taps_open(struct taps *taps, uint32_t cpu, uint64_t marked)
{
	*taps = (struct taps) { .cpu = cpu, .marked = marked };
	for (unsigned id = 0; id < RUNTIME_MAX; id++)
		if (is_open(id))
			taps->states[id] = lane_state(&outlets[id].lane, cpu);
}

enum runtime_id taps_lane(uint32_t pid)
{
	enum runtime_id id = route_of(pid);
	return is_open(id) && !atomic_load_explicit(&outlets[id].away, memory_order_relaxed) ? id : RUNTIME_NONE;
}

static bool put_mark(struct taps *taps, unsigned id, uint64_t snapshot)
{
	struct lane_state *state = &taps->states[id];
	struct lane_mark mark = { .head = { sizeof mark, LANE_MARK, (uint64_t)monotonic_ns(), 0, 0 },
		.snapshot = snapshot };
	struct lane_piece piece = { &mark, sizeof mark };
	memcpy(mark.counters, state->counters, sizeof mark.counters);
	if (!lane_put(&outlets[id].lane, taps->cpu, state, &piece, 1))
		return false;
	state->mark_snapshot = snapshot;
	state->mark_end = state->head;
	memcpy(state->mark_counters, state->counters, sizeof state->mark_counters);
	memset(state->counters, 0, sizeof state->counters);
	lane_publish(&outlets[id].lane, taps->cpu, state);
	lane_wake(&outlets[id].lane, taps->cpu);
	return true;
}

static void use(struct taps *taps, unsigned id)
{
	uint64_t one = 1;
	lane_use(&outlets[id].lane, taps->cpu);
	/* A ring that joins late must not make its reader wait for marks that were written before it came. */
	(void)put_mark(taps, id, taps->marked);
	if (outlets[id].doorbell >= 0)
		(void)!write(outlets[id].doorbell, &one, sizeof one);
}

static bool any_used(unsigned id)
{
	for (uint32_t cpu = 0; cpu < outlets[id].lane.cpus; cpu++)
		if (lane_used(&outlets[id].lane, cpu))
			return true;
	return false;
}

void taps_use(struct taps *taps)
{
	for (unsigned id = 0; id < RUNTIME_MAX; id++)
		if (is_open(id) && !lane_used(&outlets[id].lane, taps->cpu) && (id == RUNTIME_NONE || !any_used(id)))
			use(taps, id);
}

bool taps_used(uint32_t cpu)
{
	return is_open(RUNTIME_NONE) && lane_used(&outlets[RUNTIME_NONE].lane, cpu);
}

bool taps_put(struct taps *taps, enum runtime_id lane, const struct lane_piece *pieces, size_t n)
{
	if (!is_open(lane))
		return false;
	if (!lane_used(&outlets[lane].lane, taps->cpu))
		use(taps, lane);
	taps->touched |= 1U << lane;
	return lane_put(&outlets[lane].lane, taps->cpu, &taps->states[lane], pieces, n);
}

uint64_t *taps_counters(struct taps *taps, enum runtime_id lane)
{
	if (!is_open(lane))
		lane = RUNTIME_NONE;
	if (!lane_used(&outlets[lane].lane, taps->cpu))
		use(taps, lane);
	taps->touched |= 1U << lane;
	return taps->states[lane].counters;
}

/* A record that went into two lanes: should we die between them, the first has it without its position, and a successor puts it there
 * again. Those are events, which may come twice; a sample goes into one lane. */
void taps_publish(struct taps *taps, uint64_t position)
{
	unsigned last = taps->touched ? 31U - (unsigned)__builtin_clz(taps->touched) : RUNTIME_NONE;
	for (unsigned id = 0; id < last; id++)
		if (taps->touched >> id & 1)
			lane_publish(&outlets[id].lane, taps->cpu, &taps->states[id]);
	taps->states[last].position = position;
	lane_publish(&outlets[last].lane, taps->cpu, &taps->states[last]);
	taps->woken |= taps->touched;
	taps->touched = 0;
}

void taps_wake(struct taps *taps)
{
	for (unsigned id = 0; id < RUNTIME_MAX && taps->woken; id++)
		if (taps->woken >> id & 1)
			lane_wake(&outlets[id].lane, taps->cpu);
	taps->woken = 0;
}

/* A lane knows exactly what was published in it; the kernel's tail follows within one record. Further apart, it is of an earlier record,
 * or the event is a new one (its CPU came back), and the kernel's word counts. */
uint64_t taps_position(const struct taps *taps, uint64_t head, uint64_t tail)
{
	uint64_t position = tail;
	for (unsigned id = 0; id < RUNTIME_MAX; id++) {
		uint64_t known = taps->states[id].position;
		if (is_open(id) && known - tail <= RECORD_MAX && known - tail > position - tail &&
			known - tail <= head - tail)
			position = known;
	}
	return position;
}

bool taps_mark(struct taps *taps, uint64_t snapshot)
{
	bool all = true;
	for (unsigned id = 0; id < RUNTIME_MAX; id++)
		if (is_open(id) && lane_used(&outlets[id].lane, taps->cpu) &&
			taps->states[id].mark_snapshot != snapshot)
			all &= put_mark(taps, id, snapshot);
	if (all)
		taps->marked = snapshot;
	return all;
}
