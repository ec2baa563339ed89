#include "kit/kit.h"

#include "common/clock.h"
#include "common/log.h"
#include "kit/lockdown.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static struct kit *self;

static void log_to_supervisor(enum log_level level, const char *text)
{
	size_t n = strlen(text);
	(void)channel_send(&self->channel, MSG_LOG, -1, (uint64_t)level, (const void *)text, n);
}

/* Real-time priority is taken while we may, handed to this thread by inheritance, and given up by all others: the filter lets no
 * thread raise itself. */
static struct {
	pthread_mutex_t lock;
	pthread_cond_t turn;
	void *(*run)(void *);
	void *argument;
	pthread_t made;
	int result;
	enum { IDLE, WANTED, MADE } stage;
} maker = { .lock = PTHREAD_MUTEX_INITIALIZER, .turn = PTHREAD_COND_INITIALIZER };

enum { THREAD_STACK_BYTES = 128 << 10 };

static void *make_threads(void *unused)
{
	(void)unused;
	prctl(PR_SET_NAME, "maker");
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	pthread_mutex_lock(&maker.lock);
	for (;;) {
		while (maker.stage != WANTED)
			pthread_cond_wait(&maker.turn, &maker.lock);
		maker.result = pthread_create(&maker.made, &attr, maker.run, maker.argument);
		maker.stage = MADE;
		pthread_cond_broadcast(&maker.turn);
	}
	return NULL;
}

int kit_thread(void *(*run)(void *), void *argument, pthread_t *ret)
{
	pthread_mutex_lock(&maker.lock);
	maker.run = run;
	maker.argument = argument;
	maker.stage = WANTED;
	pthread_cond_broadcast(&maker.turn);
	while (maker.stage != MADE)
		pthread_cond_wait(&maker.turn, &maker.lock);
	int r = -maker.result;
	*ret = maker.made;
	maker.stage = IDLE;
	pthread_mutex_unlock(&maker.lock);
	return r;
}

/* What is kept for the readers goes, and the supervisor's urgency, with which we were started: its nice value, and its session, whose
 * share of the CPUs is ours, too (autogroup). A supervisor that runs with nice(1) has us below all that already, and no way up. */
static int become_plain(void)
{
	struct sched_param plain = { 0 };
	if (sched_setscheduler(0, SCHED_OTHER, &plain) || setsid() < 0)
		return -1;
	return getpriority(PRIO_PROCESS, 0) < 0 ? setpriority(PRIO_PROCESS, 0, 0) : 0;
}

/* NULL, or what failed. */
static const char *start_maker(void)
{
	pthread_t thread;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	errno = pthread_create(&thread, &attr, make_threads, NULL);
	pthread_attr_destroy(&attr);
	return errno ? "threads" : NULL;
}

static bool try_pinning(void)
{
	cpu_set_t all, one;
	int cpu = sched_getcpu();
	if (cpu < 0 || sched_getaffinity(0, sizeof all, &all))
		return false;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return !sched_setaffinity(0, sizeof one, &one) && !sched_setaffinity(0, sizeof all, &all);
}

/* Its limits, and the second, less polite request to end. The first process of a PID namespace gets no signal that it has no handler
 * for, SIGKILL apart, so the cause would be lost. */
static void on_signal(int number)
{
	_exit(number == SIGXCPU ? KIT_EXIT_CPU : number == SIGXFSZ ? KIT_EXIT_OUTPUT : KIT_EXIT_OK);
}

void kit_start(struct kit *kit, const char *name, enum party party, unsigned needs, int argc, char **argv)
{
	*kit = (struct kit) { .name = name };
	self = kit;
	char *end = NULL;
	unsigned long uid = argc > 1 ? strtoul(argv[1], &end, 10) : 0;
	if (!uid || !end || *end || uid > 0x7fffffff)
		_exit(KIT_EXIT_USAGE); /* a person ran it: only the supervisor can */
	if (channel_init(&kit->channel, KIT_CHANNEL_FD, (uint8_t)party, PARTY_SUPERVISOR) < 0)
		_exit(KIT_EXIT_MEMORY);
	log_process(name);
	log_set_sink(log_to_supervisor);
	const struct sigaction end_with_cause = { .sa_handler = on_signal };
	static const int signals[] = { SIGTERM, SIGXCPU, SIGXFSZ };
	for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
		(void)sigaction(signals[i], &end_with_cause, NULL);
	mallopt(M_ARENA_MAX, 1); /* one thread allocates; an arena for each costs memory */
	if (needs & KIT_REALTIME && argc > 2 && !strcmp(argv[2], "realtime")) {
		struct sched_param on = { .sched_priority = 1 };
		kit->realtime = !sched_setscheduler(0, SCHED_FIFO, &on);
	}
	if (needs & KIT_REALTIME && !kit->realtime)
		(void)setpriority(PRIO_PROCESS, 0, -20);
	const char *refused = lockdown((uid_t)uid, &kit->landlock_abi);
	if (!refused && needs & KIT_REALTIME)
		refused = start_maker();
	if (!refused && become_plain())
		refused = "priority";
	if (!refused)
		refused = lockdown_seccomp(needs);
	if (refused) {
		log_error("no sandbox, no work: %s: %s", refused, strerror(errno));
		_exit(KIT_EXIT_SANDBOX);
	}
	if (needs & KIT_REALTIME)
		kit->pinned = try_pinning();
#ifdef BULKHEAD_SANITIZE
	uint64_t sanitizer = 1;
#else
	uint64_t sanitizer = 0;
#endif
	int r = channel_send(&kit->channel, MSG_READY, -1, (uint64_t)PROTO_VERSION, (uint64_t)kit->landlock_abi,
		(uint64_t)kit->realtime, (uint64_t)kit->pinned, sanitizer);
	if (r < 0)
		_exit(KIT_EXIT_PROTOCOL);
}

int kit_receive(struct kit *kit, struct frame *ret)
{
	const char *why = NULL;
	int r = channel_recv(&kit->channel, ret, &why);
	if (r == -EAGAIN)
		return 0;
	if (r == -EPIPE)
		_exit(KIT_EXIT_OK); /* law 8 */
	if (r < 0) {
		log_error("the supervisor sent %s", why ? why : strerror(-r));
		_exit(KIT_EXIT_PROTOCOL);
	}
	return 1;
}

enum { RUN_NS = 1000 * 1000, BREATH_NS = 100 * 1000 };

void kit_breathe(int64_t *rested_ns)
{
	int64_t now = monotonic_ns();
	if (now - *rested_ns < RUN_NS)
		return;
	nanosleep(&(struct timespec) { 0, BREATH_NS }, NULL);
	*rested_ns = monotonic_ns();
}

void kit_pin_thread(const struct kit *kit, uint32_t cpu)
{
	char name[16];
	snprintf(name, sizeof name, "cpu%u", cpu);
	prctl(PR_SET_NAME, name);
	size_t size = CPU_ALLOC_SIZE(cpu + 1);
	cpu_set_t *set = kit->pinned ? CPU_ALLOC(cpu + 1) : NULL;
	if (!set)
		return;
	CPU_ZERO_S(size, set);
	CPU_SET_S(cpu, size, set);
	if (sched_setaffinity(0, size, set))
		log_warn("CPU %u: not pinned: %s", cpu, strerror(errno));
	CPU_FREE(set);
}
