#include "kit/retry.h"

#include "common/clock.h"

enum {
	FIRST_PAUSE_MS = 2, /* as long as it may just be starting... */
	START_MS = 200,
	LAST_PAUSE_MS = 5000, /* ...and then doubled, up to this */
};

static int64_t next_ns = INT64_MAX;

static void expect(const struct retry *r)
{
	if (r->again_ns < next_ns)
		next_ns = r->again_ns;
}

void retry_begin(struct retry *r)
{
	*r = (struct retry) { .born_ns = monotonic_ns(), .pause_ns = FIRST_PAUSE_MS * NS_PER_MS };
}

void retry_later(struct retry *r)
{
	const int64_t last = LAST_PAUSE_MS * NS_PER_MS;
	r->again_ns = monotonic_ns() + r->pause_ns;
	if (!retry_is_young(r))
		r->pause_ns = r->pause_ns * 2 < last ? r->pause_ns * 2 : last;
	expect(r);
}

void retry_never(struct retry *r)
{
	r->again_ns = 0;
}

bool retry_is_young(const struct retry *r)
{
	return monotonic_ns() - r->born_ns < START_MS * NS_PER_MS;
}

bool retry_turn(void)
{
	if (monotonic_ns() < next_ns)
		return false;
	next_ns = INT64_MAX;
	return true;
}

int64_t retry_next_ns(void)
{
	return next_ns;
}

bool retry_is_due(const struct retry *r)
{
	if (!r->again_ns)
		return false;
	if (r->again_ns <= monotonic_ns())
		return true;
	expect(r);
	return false;
}
