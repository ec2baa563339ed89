#include "proto/counters.h"

static const struct {
	const char *name, *words;
	enum counter_source source;
} rows[COUNTER_MAX] = {
#define COUNTER(name, source, words) { #name, words, COUNTER_SOURCE_##source },
#include "proto/counters.def"
#undef COUNTER
};

const char *counter_name(enum counter c)
{
	return rows[c].name;
}

const char *counter_words(enum counter c)
{
	return rows[c].words;
}

enum counter_source counter_source(enum counter c)
{
	return rows[c].source;
}

int64_t counters_unaccounted(const uint64_t counters[COUNTER_MAX])
{
	uint64_t left = counters[COUNTER_taken] - counters[COUNTER_filtered] - counters[COUNTER_lane_full] -
			counters[COUNTER_malformed] - counters[COUNTER_merge_full] - counters[COUNTER_lane_damaged];
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		if (rows[c].source == COUNTER_SOURCE_OUTCOME)
			left -= counters[c];
	return (int64_t)left;
}
