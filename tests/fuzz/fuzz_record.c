/* The kernel is trusted, but a record parser that can be led astray is not wanted all the same; then the lane's reader,
 * on what comes out and on a ring full of the fuzzer's bytes. */
#include "proto/lane.h"
#include "sampler/sampler.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct lane lane; /* of native, and of a runtime */
	static uint8_t record[LANE_RECORD_MAX], bytes[1 << 16];
	if (!lane.map) {
		if (lane_open(&lane, lane_create(1, LANE_RING_MIN), 1, LANE_RING_MIN) < 0 ||
			lane_open(&outlets[RUNTIME_python].lane, lane_create(1, LANE_RING_MIN), 1, LANE_RING_MIN) < 0 ||
			!route_init(routes_create()))
			abort();
		outlets[RUNTIME_NONE].lane = lane;
	}
	if (size < 8 || size > sizeof bytes)
		return 0;
	memcpy(bytes, data, size);
	struct lane_state state = { 0 };
	atomic_store(&lane_ring(&lane, 0).consumer->tail, 0);
	lane_publish(&lane, 0, &state);
	struct taps taps;
	taps_open(&taps, 0, 0);
	lane_use(&lane, 0);
	record_handle(&taps, bytes, size);
	taps_publish(&taps, size);
	state = lane_state(&lane, 0);
	for (uint64_t at = 0;;) {
		int n = lane_get(&lane, 0, at, record, sizeof record);
		if (n < 0)
			abort(); /* our own sampler wrote it */
		if (!n)
			break;
		at += (uint64_t)n;
	}
	memcpy(lane_ring(&lane, 0).data, data, size < LANE_RING_MIN ? size : LANE_RING_MIN);
	state.head = size & ~7ULL;
	lane_publish(&lane, 0, &state);
	for (uint64_t at = 0; at < state.head;) {
		int n = lane_get(&lane, 0, at, record, sizeof record);
		if (n <= 0)
			break;
		at += (uint64_t)n;
	}
	return 0;
}
