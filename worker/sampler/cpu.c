#include "sampler/sampler.h"

#include "common/clock.h"
#include "common/log.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	RECORD_MAX = 1 << 16, /* perf_event_header.size is 16 bits */
	RETRY_MS = 5,         /* while a lane is too full for a mark or a notice */
};

static void tell_main(const struct cpu *cpu)
{
	uint64_t one = 1;
	(void)!write(cpu->done, &one, sizeof one);
}

/* Says of processes what is to be said, as far as the lane has room now. */
static void say_notice(struct cpu *cpu, uint64_t position)
{
	struct notice *notice = atomic_load(&cpu->notice);
	if (!notice)
		return;
	for (; notice->said < notice->n; notice->said++) {
		uint32_t pid = notice->pids[notice->said];
		struct lane_event event = { .head = {
						    sizeof event, notice->type, (uint64_t)monotonic_ns(), pid, pid } };
		struct lane_piece piece = { &event, sizeof event };
		if (!taps_put(&cpu->taps, notice->lane, &piece, 1))
			break;
	}
	taps_publish(&cpu->taps, position);
	if (notice->said < notice->n)
		return;
	free(notice);
	atomic_store(&cpu->notice, NULL);
	tell_main(cpu);
}

static void drain(struct cpu *cpu, uint64_t *position)
{
	struct perf_event_mmap_page *page = (void *)cpu->samples.ring;
	uint64_t size = (uint64_t)cpu->samples.pages * PAGE, tail = *position;
	uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
	const uint8_t *data = cpu->samples.ring + PAGE;
	while (tail < head) {
		struct perf_event_header header; /* records are 8-byte aligned: a header never wraps */
		memcpy(&header, data + (tail & (size - 1)), sizeof header);
		if (header.size < sizeof header || header.size > head - tail) {
			taps_counters(&cpu->taps, RUNTIME_NONE)[COUNTER_taken]++;
			taps_counters(&cpu->taps, RUNTIME_NONE)[COUNTER_malformed]++;
			tail = head;
		} else {
			const uint8_t *record = data + (tail & (size - 1));
			size_t first = size - (tail & (size - 1));
			if (first < header.size) {
				memcpy(cpu->scratch, record, first);
				memcpy(cpu->scratch + first, data, header.size - first);
				record = cpu->scratch;
			}
			record_handle(&cpu->taps, record, header.size);
			tail += header.size;
		}
		taps_publish(&cpu->taps, tail);
		*position = tail;
		__atomic_store_n(&page->data_tail, tail, __ATOMIC_RELEASE);
		kit_breathe(&cpu->rested_ns);
	}
}

/* An event whose ring is full wakes no one. */
static void empty(const struct event *event)
{
	struct perf_event_mmap_page *page = (void *)event->ring;
	__atomic_store_n(&page->data_tail, __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

static void *run(void *argument)
{
	struct cpu *cpu = argument;
	struct perf_event_mmap_page *page = (void *)cpu->samples.ring;
	uint64_t position =
		taps_position(&cpu->taps, __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), page->data_tail);
	kit_pin_thread(cpu->kit, cpu->id);
	sigset_t none;
	sigemptyset(&none);
	for (;;) {
		uint64_t mark = atomic_load(&cpu->mark);
		drain(cpu, &position);
		say_notice(cpu, position);
		taps_wake(&cpu->taps);
		if (mark && taps_mark(&cpu->taps, mark)) {
			atomic_store(&cpu->mark, 0);
			tell_main(cpu);
		}
		struct pollfd fds[] = { { cpu->samples.fd, POLLIN, 0 }, { cpu->wake.fd, POLLIN, 0 } };
		struct timespec retry = { 0, RETRY_MS * NS_PER_MS };
		/* The signal of cpu_mark is open only in here, so a mark asked for in between is not slept over. */
		bool pending = atomic_load(&cpu->mark) || atomic_load(&cpu->notice);
		int r = ppoll(fds, 2, pending ? &retry : NULL, &none);
		cpu->rested_ns = monotonic_ns();
		if (r > 0 && fds[1].revents)
			empty(&cpu->wake);
		if (r > 0 && fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) {
			drain(cpu, &position);
			taps_wake(&cpu->taps);
			atomic_store(&cpu->gone, true);
			tell_main(cpu);
			return NULL;
		}
	}
}

static size_t ring_bytes(const struct event *event)
{
	return ((size_t)event->pages + 1) * PAGE;
}

static int map_ring(struct event *event)
{
	void *ring = mmap(NULL, ring_bytes(event), PROT_READ | PROT_WRITE, MAP_SHARED, event->fd, 0);
	if (ring == MAP_FAILED)
		return -errno;
	event->ring = ring;
	return 0;
}

static void close_event(const struct event *event)
{
	munmap(event->ring, ring_bytes(event));
	close(event->fd);
}

int cpu_start(struct cpu *cpu, uint64_t snapshot)
{
	int r = map_ring(&cpu->samples);
	r = r ? r : map_ring(&cpu->wake);
	if (r)
		return r;
	empty(&cpu->wake);
	cpu->scratch = malloc(RECORD_MAX); /* touched only as far as records need */
	if (!cpu->scratch)
		return -ENOMEM;
	taps_open(&cpu->taps, cpu->id, snapshot);
	taps_use(&cpu->taps);
	return kit_thread(run, cpu, &cpu->thread);
}

void cpu_mark(struct cpu *cpu, uint64_t snapshot)
{
	atomic_store(&cpu->mark, snapshot);
	pthread_kill(cpu->thread, SIGUSR1);
}

void cpu_say(struct cpu *cpu, struct notice *notice)
{
	atomic_store(&cpu->notice, notice);
	pthread_kill(cpu->thread, SIGUSR1);
}

void cpu_end(struct cpu *cpu)
{
	pthread_join(cpu->thread, NULL);
	close_event(&cpu->samples);
	close_event(&cpu->wake);
	free(cpu->scratch);
	free(atomic_load(&cpu->notice)); /* the first sample of such a process will tell of it */
}
