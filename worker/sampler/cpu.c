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
	RETRY_MS = 5,         /* while a lane is too full for a mark */
};

static bool put_small(const struct lane *lane, uint32_t cpu, struct lane_state *state, void *record, size_t n)
{
	struct lane_piece piece = { record, n };
	return lane_put(lane, cpu, state, &piece, 1);
}

bool cpu_put_mark(const struct lane *lane, uint32_t cpu, uint64_t snapshot)
{
	struct lane_state state = lane_state(lane, cpu);
	struct lane_mark mark = { .head = { sizeof mark, LANE_MARK, (uint64_t)monotonic_ns(), 0, 0 },
		.snapshot = snapshot };
	memcpy(mark.counters, state.counters, sizeof mark.counters);
	if (!put_small(lane, cpu, &state, &mark, sizeof mark))
		return false;
	state.mark_snapshot = snapshot;
	state.mark_end = state.head;
	memcpy(state.mark_counters, state.counters, sizeof state.mark_counters);
	memset(state.counters, 0, sizeof state.counters);
	lane_publish(lane, cpu, &state);
	lane_wake(lane, cpu);
	return true;
}

/* Says which processes ran before us, as far as the lane has room now. */
static void put_appeared(struct cpu *cpu, struct lane_state *state)
{
	struct appeared *list = atomic_load(&cpu->appeared);
	if (!list)
		return;
	for (; list->next < list->n; list->next++) {
		uint32_t pid = list->pids[list->next];
		struct lane_event event = { .head = {
						    sizeof event, LANE_APPEARED, (uint64_t)monotonic_ns(), pid, pid } };
		if (!put_small(cpu->lane, cpu->id, state, &event, sizeof event))
			return;
		lane_publish(cpu->lane, cpu->id, state);
	}
	free(list);
	atomic_store(&cpu->appeared, NULL);
}

/* Where to go on. The lane knows exactly what was published; the kernel's tail follows it within one record. Further
 * apart, the event is a new one (its CPU came back), and the kernel's word counts. */
static uint64_t first_position(const struct lane_state *state, uint64_t head, uint64_t tail)
{
	return state->position - tail <= RECORD_MAX && head - state->position <= head - tail ? state->position : tail;
}

static void drain(struct cpu *cpu, struct lane_state *state)
{
	struct perf_event_mmap_page *page = (void *)cpu->samples.ring;
	uint64_t size = (uint64_t)cpu->samples.pages * PAGE, tail = state->position;
	uint64_t head = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
	const uint8_t *data = cpu->samples.ring + PAGE;
	struct record_sink sink = { cpu->lane, cpu->id, state };
	while (tail < head) {
		struct perf_event_header header; /* records are 8-byte aligned: a header never wraps */
		memcpy(&header, data + (tail & (size - 1)), sizeof header);
		if (header.size < sizeof header || header.size > head - tail) {
			state->counters[COUNTER_taken]++;
			state->counters[COUNTER_malformed]++;
			tail = head;
		} else {
			const uint8_t *record = data + (tail & (size - 1));
			size_t first = size - (tail & (size - 1));
			if (first < header.size) {
				memcpy(cpu->scratch, record, first);
				memcpy(cpu->scratch + first, data, header.size - first);
				record = cpu->scratch;
			}
			(void)record_handle(
				&sink, record, header.size); /* a lost process event is made good by the next sample */
			tail += header.size;
		}
		state->position = tail;
		lane_publish(cpu->lane, cpu->id, state);
		__atomic_store_n(&page->data_tail, tail, __ATOMIC_RELEASE);
	}
}

/* An event whose ring is full wakes no one. */
static void empty(const struct event *event)
{
	struct perf_event_mmap_page *page = (void *)event->ring;
	__atomic_store_n(&page->data_tail, __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), __ATOMIC_RELEASE);
}

static void tell_main(const struct cpu *cpu)
{
	uint64_t one = 1;
	(void)!write(cpu->done, &one, sizeof one);
}

static void *run(void *argument)
{
	struct cpu *cpu = argument;
	struct lane_state state = lane_state(cpu->lane, cpu->id);
	struct perf_event_mmap_page *page = (void *)cpu->samples.ring;
	state.position = first_position(&state, __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE), page->data_tail);
	kit_pin_thread(cpu->kit, cpu->id);
	sigset_t none;
	sigemptyset(&none);
	for (;;) {
		uint64_t before = state.head, mark = atomic_load(&cpu->mark);
		drain(cpu, &state);
		put_appeared(cpu, &state);
		if (state.head != before)
			lane_wake(cpu->lane, cpu->id);
		if (mark && cpu_put_mark(cpu->lane, cpu->id, mark)) {
			state = lane_state(cpu->lane, cpu->id);
			atomic_store(&cpu->mark, 0);
			tell_main(cpu);
		}
		struct pollfd fds[] = { { cpu->samples.fd, POLLIN, 0 }, { cpu->wake.fd, POLLIN, 0 } };
		struct timespec retry = { 0, RETRY_MS * NS_PER_MS };
		/* The signal of cpu_mark is open only in here, so a mark asked for in between is not slept over. */
		bool pending = atomic_load(&cpu->mark) || atomic_load(&cpu->appeared);
		int r = ppoll(fds, 2, pending ? &retry : NULL, &none);
		if (r > 0 && fds[1].revents)
			empty(&cpu->wake);
		if (r > 0 && fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) {
			drain(cpu, &state);
			lane_wake(cpu->lane, cpu->id);
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
	if (!lane_used(cpu->lane, cpu->id)) {
		lane_use(cpu->lane, cpu->id);
		/* A ring that joins late must not make its reader wait for marks that were written before it came. */
		(void)cpu_put_mark(cpu->lane, cpu->id, snapshot);
	}
	return kit_thread(run, cpu, &cpu->thread);
}

void cpu_mark(struct cpu *cpu, uint64_t snapshot)
{
	atomic_store(&cpu->mark, snapshot);
	pthread_kill(cpu->thread, SIGUSR1);
}

void cpu_appeared(struct cpu *cpu, struct appeared *list)
{
	atomic_store(&cpu->appeared, list);
	pthread_kill(cpu->thread, SIGUSR1);
}

void cpu_end(struct cpu *cpu)
{
	pthread_join(cpu->thread, NULL);
	close_event(&cpu->samples);
	close_event(&cpu->wake);
	free(cpu->scratch);
	free(atomic_load(&cpu->appeared)); /* the first sample of such a process will tell of it */
}
