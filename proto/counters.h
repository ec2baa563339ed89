/* The counters of counters.def as an enum, with names and words. */
#ifndef PROTO_COUNTERS_H
#define PROTO_COUNTERS_H

#include <stdbool.h>
#include <stdint.h>

enum counter {
#define COUNTER(name, source, words) COUNTER_##name,
#include "proto/counters.def"
#undef COUNTER
	COUNTER_MAX
};

enum counter_source { COUNTER_SOURCE_SAMPLER, COUNTER_SOURCE_OUTCOME, COUNTER_SOURCE_MERGE, COUNTER_SOURCE_SUPERVISOR };

const char *counter_name(enum counter c);
const char *counter_words(enum counter c);
enum counter_source counter_source(enum counter c);

/* taken - filtered - lane_full - malformed - merge_full - lane_damaged - the sum of outcomes: 0 when every sample is accounted for. */
int64_t counters_unaccounted(const uint64_t counters[COUNTER_MAX]);

#endif
