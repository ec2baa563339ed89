#include "loop.h"

#include "common/clock.h"

#include <errno.h>

static struct event_base *base;
static bool stopping;
static int64_t turn_ns; /* when the first callback of this turn began; 0: none yet */
static int64_t stall_ns_max;
enum { STALL_BUCKETS = 32 }; /* by powers of two of a microsecond: to half an hour */
static uint64_t stalls[STALL_BUCKETS], turns;

int loop_init(void)
{
	struct event_config *config = event_config_new();
	if (!config)
		return -ENOMEM;
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base ? 0 : -ENOMEM;
}

void loop_free(void)
{
	if (base)
		event_base_free(base);
	base = NULL;
}

static void note_stall(int64_t ns)
{
	uint64_t us = (uint64_t)(ns / NS_PER_US);
	unsigned bucket = us ? 64U - (unsigned)__builtin_clzll(us) : 0;
	stalls[bucket < STALL_BUCKETS ? bucket : STALL_BUCKETS - 1]++;
	turns++;
	if (ns > stall_ns_max)
		stall_ns_max = ns;
}

int loop_run(void)
{
	while (!stopping) {
		turn_ns = 0;
		int r = event_base_loop(base, EVLOOP_ONCE);
		if (r < 0)
			return -EIO;
		if (turn_ns)
			note_stall(monotonic_ns() - turn_ns);
	}
	return 0;
}

void loop_stop(void)
{
	stopping = true;
}

uint64_t loop_stall_us_max(void)
{
	return (uint64_t)(stall_ns_max / NS_PER_US);
}

uint64_t loop_stall_us(unsigned percent)
{
	uint64_t below = 0;
	for (unsigned i = 0; i < STALL_BUCKETS; i++) {
		below += stalls[i];
		if (below && below * 100 >= turns * percent)
			return 1ULL << i;
	}
	return 0;
}

uint64_t loop_turns(void)
{
	return turns;
}

static void begin_callback(void)
{
	if (!turn_ns)
		turn_ns = monotonic_ns();
}

static void on_ready(evutil_socket_t fd, short what, void *context)
{
	struct watch *w = context;
	(void)fd;
	begin_callback();
	w->ready(w->context, what);
}

void watch_set(struct watch *w, int fd, short what, void (*ready)(void *, short), void *context)
{
	watch_clear(w);
	w->ready = ready;
	w->context = context;
	event_assign(&w->event, base, fd, (short)(what | EV_PERSIST), on_ready, w);
	w->on = !event_add(&w->event, NULL);
}

void watch_signal(struct watch *w, int number, void (*ready)(void *, short), void *context)
{
	watch_set(w, number, EV_SIGNAL, ready, context);
}

void watch_clear(struct watch *w)
{
	if (w->on)
		event_del(&w->event);
	w->on = false;
}

static void on_due(evutil_socket_t fd, short what, void *context)
{
	struct timer *t = context;
	(void)fd;
	(void)what;
	begin_callback();
	t->due(t->context);
}

void timer_set(struct timer *t, int64_t delay_ns, void (*due)(void *), void *context)
{
	timer_clear(t);
	t->due = due;
	t->context = context;
	if (!t->assigned)
		event_assign(&t->event, base, -1, 0, on_due, t);
	t->assigned = true;
	if (delay_ns < 0)
		delay_ns = 0;
	struct timeval delay = { delay_ns / NS_PER_S, (delay_ns % NS_PER_S + NS_PER_US - 1) / NS_PER_US };
	if (delay.tv_usec >= 1000000) {
		delay.tv_sec++;
		delay.tv_usec -= 1000000;
	}
	event_add(&t->event, &delay);
}

void timer_clear(struct timer *t)
{
	if (t->assigned)
		event_del(&t->event);
}
