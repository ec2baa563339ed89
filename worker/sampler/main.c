/* bulkhead-sampler: see sampler.h. Exit codes: kit.h. */
#include "common/log.h"
#include "proto/lease.h"
#include "sampler/sampler.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { NOTICE_MAX = 1024 /* processes in one notice */ };

static struct kit kit;
static int done = -1;
static uint32_t ncpus; /* places of `cpus`; the same in all lanes */
static struct cpu *cpus[LANE_MAX_CPUS];
static uint64_t marking, marked;                         /* the mark under way (0: none), and the last one written */
static struct notice *notices, **last_notice = &notices; /* that no CPU's thread has taken yet */

static void nothing(int signal)
{
	(void)signal; /* it only ends a poll */
}

static void lend_perf(const struct frame *f)
{
	static struct event wake; /* the event to be woken by is lent first */
	static uint64_t wake_id;
	uint64_t id = f->field[2].u, pages = f->field[3].u;
	if (id >= ncpus || pages > 1 << 16 || !pages || pages & (pages - 1)) {
		log_error("a perf event for CPU %llu does not fit the lane", (unsigned long long)id);
		_exit(KIT_EXIT_PROTOCOL);
	}
	struct event event = { .lease = f->field[0].u, .fd = f->fd, .pages = (uint32_t)pages };
	if (f->field[1].u == LEASE_PERF_WAKE) {
		wake = event;
		wake_id = id;
		return;
	}
	if (!wake.lease || wake_id != id) {
		log_error("CPU %llu: no event to be woken by", (unsigned long long)id);
		_exit(KIT_EXIT_PROTOCOL);
	}
	struct cpu *cpu = calloc(1, sizeof *cpu);
	if (!cpu)
		_exit(KIT_EXIT_MEMORY);
	*cpu = (struct cpu) { .kit = &kit, .id = (uint32_t)id, .samples = event, .wake = wake, .done = done };
	wake = (struct event) { .fd = -1 };
	int r = cpu_start(cpu, marked);
	if (r < 0) {
		log_error("CPU %llu: cannot map its ring: %s", (unsigned long long)id, strerror(-r));
		_exit(KIT_EXIT_MEMORY);
	}
	cpus[id] = cpu;
}

/* A value of LEASE_LANE: the runtime above, the number of CPUs below. */
static void lend_lane(const struct frame *f)
{
	unsigned id = (unsigned)(f->field[2].u >> 32);
	uint32_t count = (uint32_t)f->field[2].u;
	int r = id < RUNTIME_MAX && (!ncpus || ncpus == count)
			? lane_open(&outlets[id].lane, f->fd, count, (uint32_t)f->field[3].u)
			: -EINVAL;
	if (r < 0) {
		log_error("the lane does not open: %s", strerror(-r));
		_exit(KIT_EXIT_PROTOCOL);
	}
	ncpus = count;
	close(f->fd);
	(void)channel_send(&kit.channel, MSG_RELEASE, -1, &f->field[0].u, (size_t)1);
}

static void lend_routes(const struct frame *f)
{
	if (!route_init(f->fd)) {
		log_error("the memory of the routes does not open");
		_exit(KIT_EXIT_PROTOCOL);
	}
	close(f->fd);
	(void)channel_send(&kit.channel, MSG_RELEASE, -1, &f->field[0].u, (size_t)1);
}

static void lend(const struct frame *f)
{
	switch (f->field[1].u) {
	case LEASE_PERF_WAKE:
	case LEASE_PERF:
		lend_perf(f);
		break;
	case LEASE_LANE:
		lend_lane(f);
		break;
	case LEASE_ROUTES:
		lend_routes(f);
		break;
	case LEASE_DOORBELL:
		if (f->field[2].u < RUNTIME_MAX)
			outlets[f->field[2].u].doorbell = f->fd;
		break;
	default:
		close(f->fd);
	}
}

/* Notices are said in order, by whichever CPU's thread is free. */
static void hand_out(void)
{
	for (uint32_t i = 0; i < ncpus && notices; i++) {
		if (!cpus[i] || atomic_load(&cpus[i]->notice) || atomic_load(&cpus[i]->gone))
			continue;
		struct notice *first = notices;
		notices = first->next;
		if (!notices)
			last_notice = &notices;
		cpu_say(cpus[i], first);
	}
}

static void notify(enum runtime_id lane, enum lane_record_type type, const uint32_t *pids, size_t n)
{
	struct notice *notice = n ? malloc(sizeof *notice + n * sizeof *pids) : NULL;
	if (!notice)
		return; /* the first sample of each will tell */
	*notice = (struct notice) { .lane = lane, .type = type, .n = n };
	memcpy(notice->pids, pids, n * sizeof *pids);
	*last_notice = notice;
	last_notice = &notice->next;
	hand_out();
}

/* The pids of a frame, at most NOTICE_MAX. */
static size_t pids_of(const struct frame *f, uint32_t *pids)
{
	size_t n = f->field[1].n < NOTICE_MAX ? f->field[1].n : NOTICE_MAX;
	for (size_t i = 0; i < n; i++)
		pids[i] = (uint32_t)f->field[1].array[i];
	return n;
}

static void processes(const struct frame *f)
{
	uint32_t pids[NOTICE_MAX];
	size_t n = pids_of(f, pids);
	for (size_t i = 0; i < n && f->field[0].u; i++)
		route_follow(pids[i]);
	if (f->field[0].u)
		route_follow_only();
	notify(RUNTIME_NONE, LANE_APPEARED, pids, n);
}

/* Only of processes that were asked for, and that are not there yet. */
static void introduce(const struct frame *f)
{
	uint32_t pids[NOTICE_MAX], from = 0;
	enum runtime_id id = (enum runtime_id)f->field[0].u;
	size_t n = pids_of(f, pids), kept = 0;
	if (f->field[0].u >= RUNTIME_MAX || !outlets[id].lane.map)
		return;
	for (size_t i = 0; i < n; i++)
		if (route_follows(pids[i]) && route_of(pids[i]) != id)
			pids[kept++] = pids[i];
	notify(id, LANE_APPEARED, pids, kept);
	/* To a new worker: all whose samples wait for it. */
	while (!n && (kept = route_list(id, &from, pids, NOTICE_MAX)))
		notify(id, LANE_APPEARED, pids, kept);
}

static void route(const struct frame *f)
{
	uint32_t pids[NOTICE_MAX];
	enum runtime_id to = (enum runtime_id)f->field[0].u;
	size_t n = pids_of(f, pids);
	if (f->field[0].u >= RUNTIME_MAX || !outlets[to].lane.map)
		return;
	for (size_t i = 0; i < n; i++) {
		enum runtime_id from = route_of(pids[i]);
		if (from == to || !route_follows(pids[i]))
			continue;
		route_set(pids[i], to);
		notify(from, LANE_LEFT, &pids[i], 1);
		if (to == RUNTIME_NONE)
			notify(to, LANE_APPEARED, &pids[i], 1);
	}
}

static void away(const struct frame *f)
{
	if (f->field[0].u && f->field[0].u < RUNTIME_MAX)
		atomic_store(&outlets[f->field[0].u].away, (uint8_t)f->field[1].u);
}

/* A ring whose CPU is offline has no thread: its marks are written here. */
static void mark_orphan(uint32_t cpu, uint64_t snapshot)
{
	struct taps taps;
	taps_open(&taps, cpu, snapshot);
	while (!taps_mark(&taps, snapshot))
		poll(NULL, 0, 5);
}

static void begin_mark(uint64_t snapshot)
{
	marking = snapshot;
	for (uint32_t i = 0; i < ncpus; i++)
		if (cpus[i])
			cpu_mark(cpus[i], snapshot);
	for (uint32_t i = 0; i < ncpus; i++)
		if (!cpus[i] && taps_used(i))
			mark_orphan(i, snapshot);
}

static void look_at_cpus(void)
{
	bool open = false;
	for (uint32_t i = 0; i < ncpus; i++) {
		if (cpus[i] && atomic_load(&cpus[i]->gone)) {
			uint64_t leases[] = { cpus[i]->samples.lease, cpus[i]->wake.lease },
				 missed = atomic_load(&cpus[i]->mark);
			cpu_end(cpus[i]);
			free(cpus[i]);
			cpus[i] = NULL;
			(void)channel_send(&kit.channel, MSG_RELEASE, -1, leases, (size_t)2);
			if (missed)
				mark_orphan(i, missed);
		}
		open |= cpus[i] && atomic_load(&cpus[i]->mark);
	}
	if (marking && !open) {
		marked = marking;
		marking = 0;
		(void)channel_send(&kit.channel, MSG_MARKED, -1, marked, (const uint64_t *)NULL, (size_t)0);
	}
}

static void handle(const struct frame *f)
{
	switch (f->row->number) {
	case MSG_START:
		marked = f->field[0].u ? f->field[0].u - 1 : 0;
		break;
	case MSG_LEND:
		lend(f);
		break;
	case MSG_PROCESSES:
		processes(f);
		break;
	case MSG_INTRODUCE:
		introduce(f);
		break;
	case MSG_ROUTE:
		route(f);
		break;
	case MSG_AWAY:
		away(f);
		break;
	case MSG_MARK:
		begin_mark(f->field[0].u);
		break;
	case MSG_SHED:
		malloc_trim(0);
		break;
	case MSG_STOP: /* what is published is in the lane, all else in the kernel's ring: a successor finds both */
		_exit(KIT_EXIT_OK);
	}
}

int main(int argc, char **argv)
{
	kit_start(&kit, "sampler", PARTY_SAMPLER, KIT_REALTIME, argc, argv);
	struct sigaction wake = { .sa_handler = nothing };
	sigaction(SIGUSR1, &wake, NULL);
	sigset_t blocked; /* in all threads; cpu.c opens it in its poll */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &blocked, NULL);
	done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (;;) {
		struct pollfd fds[] = { { kit.channel.fd, POLLIN, 0 }, { done, POLLIN, 0 } };
		poll(fds, 2, -1);
		uint64_t count;
		if (fds[1].revents & POLLIN && read(done, &count, sizeof count) > 0)
			look_at_cpus();
		hand_out();
		struct frame f;
		while (kit_receive(&kit, &f))
			handle(&f);
	}
}
