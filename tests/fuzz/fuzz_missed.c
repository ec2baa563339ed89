/* A lane whose reader is dead, as merge reads it: the sampler that wrote it and the reader that left it may both have been taken over.
 * Input: the tail, the mark's end, then the ring's first bytes. */
#include "common/buf.h"
#include "merge/missed.h"
#include "merge/profile.h"
#include "proto/lane.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SNAPSHOT = 7 };

static void must(bool holds)
{
	if (!holds)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	static struct lane lane;
	struct cursor c = { .p = data, .end = data + size };
	if (fd < 0) {
		fd = lane_create(1, LANE_RING_MIN);
		must(fd >= 0 && !lane_open(&lane, fd, 1, LANE_RING_MIN));
		lane_use(&lane, 0);
	}
	uint64_t tail = cursor_varint(&c), end = cursor_varint(&c);
	struct lane_ring ring = lane_ring(&lane, 0);
	size_t n = c.failed ? 0 : (size_t)(c.end - c.p);
	if (n > LANE_RING_MIN)
		n = LANE_RING_MIN;
	memset(ring.data, 0, LANE_RING_MIN);
	for (size_t i = 0; i < n; i++) /* where the tail points to, so that it is seen */
		ring.data[(tail + i) % LANE_RING_MIN] = c.p[i];
	atomic_store(&ring.consumer->tail, tail);
	struct lane_state state = { .head = end, .mark_snapshot = SNAPSHOT, .mark_end = end };
	lane_publish(&lane, 0, &state);
	struct profile *p = profile_new();
	if (!p)
		return 0;
	uint64_t counters[COUNTER_MAX] = { 0 };
	(void)missed_add(p, &lane, SNAPSHOT, "native: missed the deadline", counters);
	for (enum counter i = 0; i < COUNTER_MAX; i++)
		must(!counters[i] || counter_source(i) == COUNTER_SOURCE_SAMPLER);
	must(profile_total(p) + profile_dropped(p) <= LANE_RING_MIN / sizeof(struct lane_record));
	must(profile_outcome(p, COUNTER_missed) == profile_total(p));
	profile_free(p);
	return 0;
}
