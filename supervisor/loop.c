#include "loop.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { AGAIN_MS = 100 }; /* what the kernel had no memory for */

static struct event_base *base;
static bool stopping;
static struct {
	struct watch watch;
	int fd;
	void (*came)(void *context, int number);
	void *context;
} signals = { .fd = -1 };
static int64_t turn_ns, turn_cpu_ns; /* when the first callback of this turn began, by each clock; 0: none yet */
static uint64_t turns;
/* Of microseconds: each power of two in four parts, to half an hour. */
enum { TIME_PARTS = 4, TIME_BUCKETS = 32 * TIME_PARTS };
static struct times {
	uint64_t count[TIME_BUCKETS];
	int64_t max_ns;
} stalls, work;

int loop_init(void)
{
	struct event_config *config = event_config_new();
	if (!config)
		return -ENOMEM;
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER); /* else each timer wakes us once too early */
	base = event_base_new_with_config(config);
	event_config_free(config);
	return base ? 0 : -ENOMEM;
}

void loop_free(void)
{
	if (signals.fd >= 0) {
		watch_clear(&signals.watch);
		close(signals.fd);
		signals.fd = -1;
	}
	if (base)
		event_base_free(base);
	base = NULL;
}

static unsigned bucket_of(uint64_t us)
{
	if (us < TIME_PARTS)
		return (unsigned)us;
	unsigned power = 63U - (unsigned)__builtin_clzll(us);
	return (power - 1) * TIME_PARTS + (unsigned)(us >> (power - 2)) % TIME_PARTS;
}

/* Where a bucket begins. */
static uint64_t bucket_us(unsigned bucket)
{
	if (bucket < TIME_PARTS)
		return bucket;
	return (uint64_t)(TIME_PARTS + bucket % TIME_PARTS) << (bucket / TIME_PARTS - 1);
}

static void note(struct times *times, int64_t ns)
{
	unsigned bucket = bucket_of((uint64_t)(ns / NS_PER_US));
	times->count[bucket < TIME_BUCKETS ? bucket : TIME_BUCKETS - 1]++;
	if (ns > times->max_ns)
		times->max_ns = ns;
}

static void end_turn(void)
{
	note(&stalls, monotonic_ns() - turn_ns);
	note(&work, clock_ns(CLOCK_THREAD_CPUTIME_ID) - turn_cpu_ns);
	turns++;
}

int loop_run(void)
{
	while (!stopping) {
		turn_ns = 0;
		int r = event_base_loop(base, EVLOOP_ONCE);
		if (r < 0)
			return -EIO;
		if (turn_ns)
			end_turn();
	}
	return 0;
}

void loop_stop(void)
{
	stopping = true;
}

static uint64_t below(const struct times *times, unsigned percent)
{
	uint64_t sum = 0;
	for (unsigned i = 0; i < TIME_BUCKETS; i++) {
		sum += times->count[i];
		if (sum && sum * 100 >= turns * percent)
			return bucket_us(i + 1);
	}
	return 0;
}

static struct loop_turn_us figures(const struct times *times)
{
	return (struct loop_turn_us) { below(times, 50), below(times, 99), (uint64_t)(times->max_ns / NS_PER_US) };
}

struct loop_turn_us loop_stall(void)
{
	return figures(&stalls);
}

struct loop_turn_us loop_work(void)
{
	return figures(&work);
}

uint64_t loop_turns(void)
{
	return turns;
}

static void begin_callback(void)
{
	if (turn_ns)
		return;
	turn_ns = monotonic_ns();
	turn_cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

static void on_ready(evutil_socket_t fd, short what, void *context)
{
	struct watch *w = context;
	(void)fd;
	begin_callback();
	w->ready(w->context, what);
}

static void add(struct watch *w)
{
	const struct timeval later = { 0, AGAIN_MS * (NS_PER_MS / NS_PER_US) };
	if (!event_add(&w->event, NULL))
		return;
	log_warn("fd %d cannot be watched, it is tried again: %s", (int)event_get_fd(&w->event), strerror(errno));
	event_add(&w->again, &later);
}

static void on_again(evutil_socket_t fd, short what, void *context)
{
	(void)fd;
	(void)what;
	begin_callback();
	add(context);
}

void watch_set(struct watch *w, int fd, short what, void (*ready)(void *, short), void *context)
{
	watch_clear(w);
	w->ready = ready;
	w->context = context;
	event_assign(&w->event, base, fd, (short)(what | EV_PERSIST), on_ready, w);
	event_assign(&w->again, base, -1, 0, on_again, w);
	w->on = true;
	add(w);
}

void watch_clear(struct watch *w)
{
	if (w->on) {
		event_del(&w->event);
		event_del(&w->again);
	}
	w->on = false;
}

static void on_signals(void *context, short what)
{
	struct signalfd_siginfo one;
	(void)context;
	(void)what;
	if (read(signals.fd, &one, sizeof one) == sizeof one) /* the next one: in the next turn */
		signals.came(signals.context, (int)one.ssi_signo);
}

int loop_signals(const int *numbers, void (*came)(void *context, int number), void *context)
{
	sigset_t set;
	sigemptyset(&set);
	for (; *numbers; numbers++)
		sigaddset(&set, *numbers);
	signals.came = came;
	signals.context = context;
	signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals.fd < 0 || sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	watch_set(&signals.watch, signals.fd, EV_READ, on_signals, NULL);
	return 0;
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
