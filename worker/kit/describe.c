#include "kit/describe.h"

#include "common/bucket.h"
#include "common/clock.h"

#include <string.h>

static struct kit *kit;
static const struct runtime *runtime;
static uint64_t request; /* 0: none */
static size_t bucket;
static struct bucket rate;

void describe_init(struct kit *k, const struct runtime *r)
{
	kit = k;
	runtime = r;
}

void describe_begin(uint64_t id)
{
	request = id;
	bucket = 0;
}

static const char *why_not(const struct target *t)
{
	if (t->own)
		return "it is Bulkhead itself, which reads no memory of its own";
	if (t->avoided)
		return "a read of its memory never ended: it is left alone for some minutes";
	return "";
}

static bool send_one(struct target *t)
{
	struct description d = { .runtime = t->found, .version = "", .why = why_not(t) };
	if (t->found != RUNTIME_NONE && !*d.why)
		d.why = "the worker of its runtime has not taken it yet";
	if (runtime->describe && !*d.why)
		runtime->describe(t, &d);
	const uint64_t *o = t->outcomes;
	uint64_t samples = 0;
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		samples += o[c];
	const uint64_t numbers[TARGET_NUMBERS] = { t->pid, t->start_time, d.runtime, t->taken, samples, o[COUNTER_torn],
		o[COUNTER_skewed], o[COUNTER_unreadable], o[COUNTER_truncated], o[COUNTER_late] + o[COUNTER_early] };
	return channel_send(&kit->channel, MSG_TARGET, -1, request, numbers, (size_t)TARGET_NUMBERS,
		       (const void *)t->comm, strnlen(t->comm, sizeof t->comm), (const void *)d.version,
		       strlen(d.version), (const void *)d.why, strlen(d.why)) == 0;
}

/* A runtime's worker may have looked at a process that is none of its own, or no longer: it was one when it was sampled. */
static bool is_ours(const struct target *t)
{
	return runtime->id == RUNTIME_NONE || t->introduced_ns || t->taken;
}

/* Threads of the kernel, and what is ending, have no memory. */
static bool is_of_interest(const struct target *t)
{
	return !t->kernel && !t->ended_ns &&
	       (t->own || t->avoided || (!t->refused && (t->asked || t->ncode) && is_ours(t)));
}

/* A bucket that did not fit is sent again as a whole: the supervisor takes the last word on each process. */
bool describe_turn(void)
{
	uint32_t per_s = message_row(MSG_TARGET)->max_per_s / 2;
	for (; request; bucket++) {
		struct target *t = NULL;
		bool more = target_in_bucket(bucket, &t);
		if (!more) {
			if (channel_send(&kit->channel, MSG_DESCRIBED, -1, request) == 0)
				request = 0;
			return request;
		}
		for (; t; t = atomic_load(&t->next))
			if (is_of_interest(t) && (!bucket_take(&rate, per_s, monotonic_ns()) || !send_one(t)))
				return true;
	}
	return false;
}
