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

static struct kit kit;
static struct lane lane;
static int doorbell = -1, done = -1;
static struct cpu *cpus[LANE_MAX_CPUS];
static uint64_t marking, marked; /* the mark under way (0: none), and the last one written */

static void nothing(int signal)
{
	(void)signal; /* it only ends a poll */
}

static void ring_doorbell(void)
{
	uint64_t one = 1;
	if (doorbell >= 0)
		(void)!write(doorbell, &one, sizeof one);
}

static void lend_perf(const struct frame *f)
{
	static struct event wake; /* the event to be woken by is lent first */
	static uint64_t wake_id;
	uint64_t id = f->field[2].u, pages = f->field[3].u;
	if (!lane.map || id >= lane.cpus || pages > 1 << 16 || !pages || pages & (pages - 1)) {
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
	*cpu = (struct cpu) {
		.kit = &kit, .lane = &lane, .id = (uint32_t)id, .samples = event, .wake = wake, .done = done
	};
	wake = (struct event) { .fd = -1 };
	int r = cpu_start(cpu, marked);
	if (r < 0) {
		log_error("CPU %llu: cannot map its ring: %s", (unsigned long long)id, strerror(-r));
		_exit(KIT_EXIT_MEMORY);
	}
	cpus[id] = cpu;
	ring_doorbell();
}

static void lend(const struct frame *f)
{
	int r;
	switch (f->field[1].u) {
	case LEASE_PERF_WAKE:
	case LEASE_PERF:
		lend_perf(f);
		break;
	case LEASE_LANE:
		r = lane_open(&lane, f->fd, (uint32_t)f->field[2].u, (uint32_t)f->field[3].u);
		if (r < 0) {
			log_error("the lane does not open: %s", strerror(-r));
			_exit(KIT_EXIT_PROTOCOL);
		}
		follow_init(&lane);
		close(f->fd);
		(void)channel_send(&kit.channel, MSG_RELEASE, -1, &f->field[0].u, (size_t)1);
		break;
	case LEASE_DOORBELL:
		doorbell = f->fd;
		break;
	default:
		close(f->fd);
	}
}

static void processes(const struct frame *f)
{
	size_t n = f->field[1].n;
	struct appeared *list = malloc(sizeof *list + n * sizeof *list->pids);
	if (!list)
		_exit(KIT_EXIT_MEMORY);
	list->n = n;
	list->next = 0;
	for (size_t i = 0; i < n; i++) {
		list->pids[i] = (uint32_t)f->field[1].array[i];
		if (f->field[0].u)
			follow_add(list->pids[i]);
	}
	if (f->field[0].u)
		follow_only();
	for (uint32_t i = 0; i < lane.cpus; i++) {
		if (cpus[i] && !atomic_load(&cpus[i]->appeared)) {
			cpu_appeared(cpus[i], list);
			return;
		}
	}
	free(list); /* no CPU has room: the first sample of each will tell */
}

/* Rings whose CPU is offline have no thread: their marks are written here. */
static void mark_orphans(void)
{
	for (uint32_t i = 0; i < lane.cpus; i++)
		if (!cpus[i] && lane_used(&lane, i))
			while (!cpu_put_mark(&lane, i, marking))
				poll(NULL, 0, 5);
}

static void begin_mark(uint64_t snapshot)
{
	marking = snapshot;
	for (uint32_t i = 0; i < lane.cpus; i++)
		if (cpus[i])
			cpu_mark(cpus[i], snapshot);
	mark_orphans();
}

static void look_at_cpus(void)
{
	bool open = false;
	for (uint32_t i = 0; i < lane.cpus; i++) {
		if (cpus[i] && atomic_load(&cpus[i]->gone)) {
			uint64_t leases[] = { cpus[i]->samples.lease, cpus[i]->wake.lease },
				 missed = atomic_load(&cpus[i]->mark);
			cpu_end(cpus[i]);
			free(cpus[i]);
			cpus[i] = NULL;
			(void)channel_send(&kit.channel, MSG_RELEASE, -1, leases, (size_t)2);
			if (missed)
				while (!cpu_put_mark(&lane, i, missed))
					poll(NULL, 0, 5);
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
		struct frame f;
		while (kit_receive(&kit, &f))
			handle(&f);
	}
}
