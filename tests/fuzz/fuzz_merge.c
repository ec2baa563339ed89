/* Hostile streams all the way through the merge worker: two streams from one input, summed, in every format. */
#include "merge/encode.h"

#include <fcntl.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int null = -1;
	if (null < 0)
		null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	struct profile *p = profile_new();
	if (!p || null < 0)
		abort();
	size_t half = size / 2;
	profile_add_stream(p, data, half);
	profile_add_stream(p, data + half, size - half);
	uint64_t before = profile_total(p);
	profile_add_stream(p, data, size);
	if (profile_total(p) < before)
		abort();
	uint64_t sum = 0, outcomes = 0;
	for (uint32_t i = 1; i <= profile_sample_count(p); i++)
		sum += profile_sample(p, i).count;
	for (int i = 0; i < COUNTER_MAX; i++)
		outcomes += profile_outcome(p, (enum counter)i);
	if (sum != profile_total(p) || outcomes != sum)
		abort();
	struct profile_meta meta = {
		.frequency_hz = 99, .event = "cpu-clock", .hostname = "host", .missing = "native: lag\n"
	};
	meta.counters[COUNTER_complete] = profile_outcome(p, COUNTER_complete);
	if (encode_pprof(p, &meta, null) || encode_folded(p, &meta, null) || encode_html(p, &meta, null) ||
		encode_summary(p, &meta, null))
		abort();
	profile_free(p);
	return 0;
}
