#include "proto/lane.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(struct lane_producer_page) <= LANE_PAGE, "a page holds the producer's words");
_Static_assert(sizeof(struct lane_consumer_page) <= LANE_PAGE, "a page holds the consumer's words");
_Static_assert(sizeof(struct lane_commit_page) <= LANE_PAGE, "a page holds the commit words");

static const int lane_seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

static bool sizes_valid(uint32_t cpus, uint32_t ring_size)
{
	return cpus && cpus <= LANE_MAX_CPUS && ring_size >= LANE_RING_MIN && ring_size <= 1U << 30 &&
	       !(ring_size & (ring_size - 1));
}

static size_t slot_offset(uint32_t cpu, uint32_t ring_size)
{
	return LANE_PAGE + (size_t)cpu * (2 * LANE_PAGE + (size_t)ring_size);
}

static size_t lane_size(uint32_t cpus, uint32_t ring_size)
{
	return slot_offset(cpus, ring_size);
}

int lane_create(uint32_t cpus, uint32_t ring_size)
{
	if (!sizes_valid(cpus, ring_size))
		return -EINVAL;
	int fd = memfd_create("bulkhead-lane", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)lane_size(cpus, ring_size)) || fcntl(fd, F_ADD_SEALS, lane_seals)) {
		int error = errno;
		close(fd);
		return -error;
	}
	return fd;
}

static int peek(int fd, void *to, size_t n, size_t offset)
{
	ssize_t got = pread(fd, to, n, (off_t)offset);
	return got == (ssize_t)n ? 0 : got < 0 ? -errno : -EIO;
}

int lane_peek_commit(int fd, uint64_t *ret_snapshot, uint64_t *ret_bytes)
{
	struct {
		uint64_t snapshot, stream_bytes;
		uint32_t noted, pad;
		uint64_t noted_bytes;
	} page;
	_Static_assert(sizeof page == offsetof(struct lane_commit_page, doing), "the same words, not atomic");
	int r = peek(fd, &page, sizeof page, 0);
	if (r < 0)
		return r;
	*ret_snapshot = page.snapshot;
	*ret_bytes = page.noted ? page.noted_bytes : page.stream_bytes;
	return 0;
}

static int peek_state(int fd, uint32_t cpu, uint32_t ring_size, struct lane_state *ret)
{
	struct {
		uint32_t generation, wake, used, pad;
		struct lane_state slot[2];
	} page;
	_Static_assert(sizeof page == sizeof(struct lane_producer_page), "the same words, not atomic");
	int r = peek(fd, &page, sizeof page, slot_offset(cpu, ring_size));
	if (!r)
		*ret = page.slot[page.generation & 1];
	return r;
}

int lane_peek_counters(int fd, uint32_t cpus, uint32_t ring_size, uint64_t counters[COUNTER_MAX])
{
	for (uint32_t cpu = 0; cpu < cpus; cpu++) {
		struct lane_state state = { 0 };
		int r = peek_state(fd, cpu, ring_size, &state);
		if (r < 0)
			return r;
		for (enum counter c = 0; c < COUNTER_MAX; c++)
			counters[c] += state.counters[c];
	}
	return 0;
}

static size_t tail_offset(uint32_t cpu, uint32_t ring_size)
{
	return slot_offset(cpu, ring_size) + LANE_PAGE;
}

/* Both ends of each ring, one after the other. */
struct peeked {
	int fd;
	uint32_t cpus, ring_size, next, cpu; /* cpu: whose ring this is */
	uint64_t tail;
	struct lane_state state;
};

/* 1: there is one more. 0: there was none. Or -errno. */
static int peek_next(struct peeked *ring)
{
	if (ring->next == ring->cpus)
		return 0;
	ring->cpu = ring->next++;
	int r = peek(ring->fd, &ring->tail, sizeof ring->tail, tail_offset(ring->cpu, ring->ring_size));
	r = r ? r : peek_state(ring->fd, ring->cpu, ring->ring_size, &ring->state);
	return r ? r : 1;
}

/* More than the ring holds makes no sense. */
static uint64_t unread(const struct peeked *ring)
{
	uint64_t bytes = ring->state.head - ring->tail;
	return bytes <= ring->ring_size ? bytes : 0;
}

int lane_peek_backlog(int fd, uint32_t cpus, uint32_t ring_size, uint64_t *ret_bytes)
{
	struct peeked ring = { .fd = fd, .cpus = cpus, .ring_size = ring_size };
	uint64_t sum = 0;
	int r;
	while ((r = peek_next(&ring)) > 0)
		sum += unread(&ring);
	if (!r)
		*ret_bytes = sum;
	return r;
}

int lane_peek_fullest(int fd, uint32_t cpus, uint32_t ring_size, uint64_t *ret_bytes)
{
	struct peeked ring = { .fd = fd, .cpus = cpus, .ring_size = ring_size };
	uint64_t most = 0;
	int r;
	while ((r = peek_next(&ring)) > 0)
		most = unread(&ring) > most ? unread(&ring) : most;
	if (!r)
		*ret_bytes = most;
	return r;
}

static int poke(int fd, const void *from, size_t n, size_t offset)
{
	ssize_t put = pwrite(fd, from, n, (off_t)offset);
	return put == (ssize_t)n ? 0 : put < 0 ? -errno : -EIO;
}

int lane_settle(int fd, uint32_t cpus, uint32_t ring_size, uint32_t *ret_damaged)
{
	struct {
		uint64_t snapshot, stream_bytes;
		uint32_t noted, pad;
		uint64_t noted_bytes;
	} page;
	struct lane_tail noted;
	uint32_t damaged = 0;
	int r = peek(fd, &page, sizeof page, 0);
	for (uint32_t i = 0; !r && i < page.noted && i < LANE_COMMIT_MAX; i++) {
		r = peek(fd, &noted, sizeof noted, offsetof(struct lane_commit_page, noted_tail) + i * sizeof noted);
		if (!r && noted.cpu < cpus)
			r = poke(fd, &noted.tail, sizeof noted.tail, tail_offset(noted.cpu, ring_size));
	}
	if (!r && page.noted) {
		uint64_t counters[COUNTER_MAX];
		r = peek(fd, counters, sizeof counters, offsetof(struct lane_commit_page, noted_counters));
		r = r ? r : poke(fd, counters, sizeof counters, offsetof(struct lane_commit_page, counters));
		page.stream_bytes = page.noted_bytes;
		page.noted = 0;
		r = r ? r : poke(fd, &page, sizeof page, 0);
	}
	struct peeked ring = { .fd = fd, .cpus = cpus, .ring_size = ring_size };
	while (!r && (r = peek_next(&ring)) > 0) {
		r = 0;
		if (ring.state.head - ring.tail <= ring_size)
			continue;
		damaged++;
		r = poke(fd, &ring.state.head, sizeof ring.state.head, tail_offset(ring.cpu, ring_size));
	}
	if (!r)
		*ret_damaged = damaged;
	return r;
}

/* Whether the mark that was written last was not read yet. */
static bool is_ahead(const struct peeked *ring)
{
	uint64_t end = ring->state.mark_end;
	return end != ring->tail && end - ring->tail <= ring->ring_size;
}

int lane_peek_marks(
	int fd, uint32_t cpus, uint32_t ring_size, uint64_t snapshot, bool unread_only, uint64_t counters[COUNTER_MAX])
{
	struct peeked ring = { .fd = fd, .cpus = cpus, .ring_size = ring_size };
	int r;
	while ((r = peek_next(&ring)) > 0) {
		if (ring.state.mark_snapshot != snapshot || (unread_only && !is_ahead(&ring)))
			continue;
		for (enum counter c = 0; c < COUNTER_MAX; c++)
			counters[c] += ring.state.mark_counters[c];
	}
	return r;
}

int lane_peek_done(int fd, uint32_t cpus, uint32_t ring_size, uint64_t snapshot)
{
	struct peeked ring = { .fd = fd, .cpus = cpus, .ring_size = ring_size };
	bool any = false;
	int r;
	while ((r = peek_next(&ring)) > 0) {
		if (!ring.state.head)
			continue; /* nothing was ever written, not even the mark that a ring begins with */
		if (ring.state.mark_snapshot != snapshot || is_ahead(&ring))
			return 0;
		any = true;
	}
	return r ? r : any;
}

int lane_skip(int fd, uint32_t cpus, uint32_t ring_size, uint64_t snapshot)
{
	struct peeked ring = { .fd = fd, .cpus = cpus, .ring_size = ring_size };
	int r;
	while ((r = peek_next(&ring)) > 0) {
		if (ring.state.mark_snapshot != snapshot || !is_ahead(&ring))
			continue;
		r = poke(fd, &ring.state.mark_end, sizeof ring.state.mark_end, tail_offset(ring.cpu, ring_size));
		if (r < 0)
			break;
	}
	return r;
}

int lane_peek_committed(int fd, uint64_t counters[COUNTER_MAX])
{
	uint64_t both[2][COUNTER_MAX];
	uint32_t noted;
	_Static_assert(offsetof(struct lane_commit_page, noted_counters) ==
			       offsetof(struct lane_commit_page, counters) + sizeof both[0],
		"one behind the other");
	int r = peek(fd, &noted, sizeof noted, offsetof(struct lane_commit_page, noted));
	r = r ? r : peek(fd, both, sizeof both, offsetof(struct lane_commit_page, counters));
	for (enum counter c = 0; c < COUNTER_MAX && !r; c++)
		counters[c] += both[!!noted][c];
	return r;
}

static void add_suspect(const struct lane_suspect *one, struct lane_suspect *list, unsigned *n, unsigned max)
{
	if (!one->pid || *n == max)
		return;
	for (unsigned i = 0; i < *n; i++)
		if (list[i].pid == one->pid && list[i].start_time == one->start_time)
			return;
	list[(*n)++] = *one;
}

int lane_peek_reading(
	int fd, uint32_t cpus, uint32_t ring_size, int64_t before_ns, struct lane_suspect *ret, unsigned max)
{
	struct lane_suspect one = { 0 };
	unsigned n = 0;
	_Static_assert(sizeof one == sizeof(struct lane_reading), "the same words, not atomic");
	int r = peek(fd, &one, sizeof one, offsetof(struct lane_commit_page, reading));
	for (uint32_t cpu = 0; !r; cpu++) {
		if (one.since_ns < before_ns)
			add_suspect(&one, ret, &n, max);
		if (cpu == cpus)
			break;
		r = peek(fd, &one, sizeof one,
			slot_offset(cpu, ring_size) + LANE_PAGE + offsetof(struct lane_consumer_page, reading));
	}
	return r < 0 ? r : (int)n;
}

static int open_mapped(struct lane *lane, int fd, uint32_t cpus, uint32_t ring_size, int protection)
{
	if (!sizes_valid(cpus, ring_size))
		return -EINVAL;
	size_t size = lane_size(cpus, ring_size);
	struct stat st;
	if (fstat(fd, &st))
		return -errno;
	/* Unsealed, the other end could shrink it under us: SIGBUS. */
	int seals = fcntl(fd, F_GET_SEALS);
	if (st.st_size != (off_t)size || seals < 0 || (seals & lane_seals) != lane_seals)
		return -EINVAL;
	void *map = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*lane = (struct lane) { .map = map, .map_size = size, .commit = map, .cpus = cpus, .ring_size = ring_size };
	return 0;
}

int lane_open(struct lane *lane, int fd, uint32_t cpus, uint32_t ring_size)
{
	return open_mapped(lane, fd, cpus, ring_size, PROT_READ | PROT_WRITE);
}

int lane_open_read_only(struct lane *lane, int fd, uint32_t cpus, uint32_t ring_size)
{
	return open_mapped(lane, fd, cpus, ring_size, PROT_READ);
}

void lane_close(struct lane *lane)
{
	if (lane->map)
		munmap(lane->map, lane->map_size);
	*lane = (struct lane) { 0 };
}

struct lane_ring lane_ring(const struct lane *lane, uint32_t cpu)
{
	uint8_t *slot = lane->map + slot_offset(cpu, lane->ring_size);
	return (struct lane_ring) { (void *)slot, (void *)(slot + LANE_PAGE), slot + 2 * (size_t)LANE_PAGE };
}

static void copy_in(const struct lane *lane, uint8_t *ring, uint64_t at, const void *from, size_t n)
{
	size_t offset = at & (lane->ring_size - 1), first = lane->ring_size - offset;
	if (first > n)
		first = n;
	memcpy(ring + offset, from, first);
	memcpy(ring, (const uint8_t *)from + first, n - first);
}

static void copy_out(const struct lane *lane, const uint8_t *ring, uint64_t at, void *to, size_t n)
{
	size_t offset = at & (lane->ring_size - 1), first = lane->ring_size - offset;
	if (first > n)
		first = n;
	memcpy(to, ring + offset, first);
	memcpy((uint8_t *)to + first, ring, n - first);
}

struct lane_state lane_state(const struct lane *lane, uint32_t cpu)
{
	struct lane_producer_page *page = lane_ring(lane, cpu).producer;
	return page->slot[atomic_load(&page->generation) & 1];
}

bool lane_put(
	const struct lane *lane, uint32_t cpu, struct lane_state *state, const struct lane_piece *pieces, size_t n)
{
	struct lane_ring ring = lane_ring(lane, cpu);
	uint64_t used = state->head - atomic_load_explicit(&ring.consumer->tail, memory_order_acquire);
	size_t size = 0;
	for (size_t i = 0; i < n; i++)
		size += pieces[i].n;
	/* A tail in front of head or more than a ring behind is a lie of the consumer's: nothing fits until it is
	 * mended. */
	if (used > lane->ring_size || size > lane->ring_size - used)
		return false;
	for (size_t i = 0; i < n; i++) {
		copy_in(lane, ring.data, state->head, pieces[i].data, pieces[i].n);
		state->head += pieces[i].n;
	}
	return true;
}

void lane_publish(const struct lane *lane, uint32_t cpu, const struct lane_state *state)
{
	struct lane_producer_page *page = lane_ring(lane, cpu).producer;
	uint32_t next = atomic_load_explicit(&page->generation, memory_order_relaxed) + 1;
	page->slot[next & 1] = *state;
	atomic_store_explicit(&page->generation, next, memory_order_release);
}

void lane_wake(const struct lane *lane, uint32_t cpu)
{
	struct lane_ring ring = lane_ring(lane, cpu);
	atomic_fetch_add(&ring.producer->wake, 1);
	if (atomic_load(&ring.consumer->asleep))
		syscall(SYS_futex, &ring.producer->wake, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void lane_use(const struct lane *lane, uint32_t cpu)
{
	atomic_store(&lane_ring(lane, cpu).producer->used, 1);
}

bool lane_used(const struct lane *lane, uint32_t cpu)
{
	return atomic_load(&lane_ring(lane, cpu).producer->used);
}

/* The published head. A producer that laps us between two loads is retried; one that never stops looks idle. */
static uint64_t published_head(const struct lane *lane, uint32_t cpu, uint64_t position)
{
	const struct lane_producer_page *page = lane_ring(lane, cpu).producer;
	for (int tries = 0; tries < 16; tries++) {
		uint32_t generation = atomic_load_explicit(&page->generation, memory_order_acquire);
		uint64_t head = *(const volatile uint64_t *)&page->slot[generation & 1].head;
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&page->generation, memory_order_relaxed) == generation)
			return head;
	}
	return position;
}

int lane_get(const struct lane *lane, uint32_t cpu, uint64_t position, void *buf, size_t size)
{
	uint64_t ready = published_head(lane, cpu, position) - position;
	if (!ready)
		return 0;
	const uint8_t *data = lane_ring(lane, cpu).data;
	struct lane_record record;
	if (ready > lane->ring_size || ready < sizeof record)
		return -EBADMSG;
	copy_out(lane, data, position, &record, sizeof record);
	if (record.size < sizeof record || record.size > ready || record.size > size || record.size & 7)
		return -EBADMSG;
	copy_out(lane, data, position, buf, record.size);
	memcpy(buf, &record, sizeof record); /* the size that was checked, whatever the ring says by now */
	return (int)record.size;
}

uint64_t lane_tail(const struct lane *lane, uint32_t cpu)
{
	return atomic_load_explicit(&lane_ring(lane, cpu).consumer->tail, memory_order_relaxed);
}

void lane_wait(const struct lane *lane, uint32_t cpu, uint64_t position, int timeout_ms)
{
	struct lane_ring ring = lane_ring(lane, cpu);
	atomic_store(&ring.consumer->asleep, 1);
	uint32_t wake = atomic_load(&ring.producer->wake);
	if (published_head(lane, cpu, position) == position) {
		struct timespec limit = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
		syscall(SYS_futex, &ring.producer->wake, FUTEX_WAIT, wake, timeout_ms < 0 ? NULL : &limit, NULL, 0);
	}
	atomic_store(&ring.consumer->asleep, 0);
}

void lane_reading(const struct lane *lane, uint32_t cpu, uint32_t pid, uint64_t start_time, int64_t now_ns)
{
	struct lane_reading *reading =
		cpu == LANE_MAIN_THREAD ? &lane->commit->reading : &lane_ring(lane, cpu).consumer->reading;
	if (pid) {
		atomic_store_explicit(&reading->start_time, start_time, memory_order_relaxed);
		atomic_store_explicit(&reading->since_ns, now_ns, memory_order_relaxed);
	}
	atomic_store_explicit(&reading->pid, pid, memory_order_release);
}

static void redo(const struct lane *lane)
{
	struct lane_commit_page *page = lane->commit;
	uint32_t n = atomic_load(&page->noted);
	atomic_store(&page->stream_bytes, atomic_load(&page->noted_bytes));
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		atomic_store(&page->counters[c], atomic_load(&page->noted_counters[c]));
	for (uint32_t i = 0; i < n && i < LANE_COMMIT_MAX; i++)
		if (page->noted_tail[i].cpu < lane->cpus)
			atomic_store(
				&lane_ring(lane, page->noted_tail[i].cpu).consumer->tail, page->noted_tail[i].tail);
	atomic_store(&page->noted, 0);
}

void lane_commit(const struct lane *lane, const struct lane_tail *tails, uint32_t n, uint64_t stream_bytes,
	const uint64_t counters[COUNTER_MAX])
{
	struct lane_commit_page *page = lane->commit;
	if (n > LANE_COMMIT_MAX)
		n = LANE_COMMIT_MAX;
	memcpy(page->noted_tail, tails, n * sizeof *tails);
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		atomic_store_explicit(&page->noted_counters[c], counters[c], memory_order_relaxed);
	atomic_store(&page->noted_bytes, stream_bytes);
	atomic_store(&page->noted, n);
	redo(lane);
}

enum { DEATHS_MAX = 2 };

bool lane_begin(const struct lane *lane, uint32_t cpu, uint64_t end)
{
	struct lane_commit_page *page = lane->commit;
	if (atomic_load_explicit(&page->died_of, memory_order_relaxed) == end && page->deaths >= DEATHS_MAX &&
		page->doing_cpu == cpu)
		return false;
	atomic_store_explicit(&page->doing_cpu, cpu, memory_order_relaxed);
	atomic_store_explicit(&page->doing, end, memory_order_release);
	return true;
}

void lane_end(const struct lane *lane)
{
	atomic_store_explicit(&lane->commit->doing, 0, memory_order_release);
}

/* A predecessor that was at work on an entry died of it, or by chance at that moment: twice is no chance. */
static void count_death(struct lane_commit_page *page)
{
	uint64_t doing = atomic_load(&page->doing);
	if (!doing)
		return;
	page->deaths = page->died_of == doing ? page->deaths + 1 : 1;
	page->died_of = doing;
}

void lane_commit_stream(const struct lane *lane, uint64_t snapshot, uint64_t stream_bytes)
{
	struct lane_commit_page *page = lane->commit;
	/* What was counted for the one before has been told by now, by CLOSED or by the supervisor's look at the lane. */
	for (enum counter c = 0; c < COUNTER_MAX && page->snapshot != snapshot; c++)
		atomic_store(&page->counters[c], 0);
	atomic_store(&page->stream_bytes, stream_bytes);
	atomic_store(&page->snapshot, snapshot);
}

void lane_counters(const struct lane *lane, uint64_t ret[COUNTER_MAX])
{
	for (enum counter c = 0; c < COUNTER_MAX; c++)
		ret[c] = atomic_load(&lane->commit->counters[c]);
}

uint64_t lane_recover(const struct lane *lane, uint64_t *ret_snapshot)
{
	if (atomic_load(&lane->commit->noted))
		redo(lane);
	count_death(lane->commit);
	atomic_store(&lane->commit->doing, 0);
	*ret_snapshot = atomic_load(&lane->commit->snapshot);
	return atomic_load(&lane->commit->stream_bytes);
}
