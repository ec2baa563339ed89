#include "kit/window.h"

#include "common/clock.h"
#include "common/log.h"
#include "kit/regs.h"
#include "kit/target.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
	RING_BYTES = 4 << 20, /* touched only as far as main is behind: an empty ring is filled from its start again */
	FULL_SLEEP_NS = 1000 * 1000, /* while main does not drain: the lane holds the rest */
	PAGE = 4096,
	BUCKETS = 40 * 4, /* latency: four to the octave, from 1 us */
};

struct window {
	const struct kit *kit;
	const struct lane *lane;
	uint32_t cpu;
	int bell;
	window_capture *capture; /* NULL: no runtime */
	uint32_t stack_max;
	pthread_t thread;
	uint8_t *ring;
	_Atomic uint64_t head, tail;
	_Atomic uint64_t epoch; /* odd while inside */
	_Atomic uint32_t latency[BUCKETS], still[BUCKETS];
	_Atomic uint32_t reads, read_in; /* of targets' memory, and in how many windows */
	uint64_t seen_epoch;             /* main's: at the last retirement */
	bool teaches;                    /* main learns from this sample how the next ones are to be read */
	union {
		struct lane_sample sample;
		uint8_t bytes[LANE_RECORD_MAX];
	} record;
};

static struct window *windows[LANE_MAX_CPUS];
static uint32_t ncpus;
static const struct lane *main_lane;

struct retired {
	struct retired *next;
	void *p;
	void (*release)(void *);
};

static struct retired *fresh, *waiting;

static uint32_t rounded(uint32_t n)
{
	return (n + 15) & ~15U;
}

static void enter(struct window *w)
{
	atomic_fetch_add(&w->epoch, 1);
}

static void leave(struct window *w)
{
	atomic_fetch_add(&w->epoch, 1);
}

static unsigned bucket_of(uint64_t us)
{
	if (us < 4)
		return (unsigned)us;
	unsigned octave = 63 - (unsigned)__builtin_clzll(us);
	unsigned b = octave * 4 + (unsigned)(us >> (octave - 2) & 3);
	return b < BUCKETS ? b : BUCKETS - 1;
}

static uint64_t bucket_us(unsigned b)
{
	return b < 8 ? b & 3 : (4ULL + b % 4) << (b / 4 - 2);
}

/* The range around an address, from the view, or, for memory mapped since the maps were read (a new thread's stack),
 * from the kernel itself (6.11 and later; linux/fs.h). The rule is the same: readable, writable, private, anonymous. */
bool window_find_range(struct view *view, uint64_t address, struct view_range *ret)
{
	const struct view_range *known = view_range_of(view, address);
	if (known) {
		*ret = *known;
		return true;
	}
	struct {
		uint64_t size, flags, address, start, end, vma_flags, page_size, offset, inode;
		uint32_t dev_major, dev_minor, name_size, build_id_size;
		uint64_t name, build_id;
	} query = { .size = sizeof query, .address = address };
	_Static_assert(sizeof query == 104, "struct procmap_query as in kernel 6.11");
	const uint64_t readable = 1, writable = 2, shared = 8;
	if (ioctl(view->maps, WINDOW_PROCMAP_QUERY, &query) || query.inode ||
		(query.vma_flags & (readable | writable | shared)) != (readable | writable))
		return false;
	atomic_fetch_add_explicit(&view->asked, 1, memory_order_relaxed);
	*ret = (struct view_range) { query.start, query.end };
	return address >= query.start && address < query.end;
}

/* How often the frozen thread that runs this has read since the window began. */
static _Thread_local uint32_t reads;

static ssize_t read_target(const struct view *view, void *to, size_t n, uint64_t at)
{
	reads++;
	return pread(view->mem, to, n, (off_t)at);
}

/* From an address upwards, as far as the range, the target's habit and the room go. */
static size_t read_part(
	struct view *view, const struct view_range *range, uint64_t at, size_t want, size_t room, uint8_t *to)
{
	size_t n = range->end - at;
	n = n < want ? n : want;
	n = n < room ? n : room;
	ssize_t got = read_target(view, to, n, at);
	if (got == 0)
		atomic_store(&view->gone, true);
	return got > 0 ? (size_t)got & ~(size_t)7 : 0;
}

ssize_t window_read_part(const struct window_read *read, uint64_t address, void *buf, size_t n)
{
	struct view_range range;
	if (!window_find_range(read->view, address, &range))
		return -EFAULT;
	if (n > range.end - address)
		n = range.end - address;
	ssize_t got = read_target(read->view, buf, n, address);
	if (got == 0)
		atomic_store(&read->view->gone, true);
	return got > 0 ? got : got < 0 ? -errno : -ESRCH;
}

int window_read(const struct window_read *read, uint64_t address, void *buf, size_t n)
{
	ssize_t got = window_read_part(read, address, buf, n);
	return got == (ssize_t)n ? 0 : got < 0 ? (int)got : -EIO;
}

uint64_t window_range_end(const struct window_read *read, uint64_t address)
{
	struct view_range range;
	return window_find_range(read->view, address, &range) ? range.end : 0;
}

/* Where the stack goes on, if it is known to go on elsewhere. */
static uint64_t other_stack(
	const struct target *t, const struct view_range *range, uint64_t sp, const uint8_t *stack, size_t n)
{
	for (size_t i = 0; i < TARGET_SWITCHES; i++) {
		uint64_t offset = atomic_load(&t->switches[i].slot) - sp, value;
		if (atomic_load(&t->switches[i].range) != range->start || n < sizeof value || offset > n - sizeof value)
			continue;
		memcpy(&value, stack + offset, sizeof value);
		if (value - sp >= n)
			return value;
	}
	return 0;
}

/* Reads the sampled thread's stack into `to` and proves that it stood still. The copy in the sample was made in the
 * interrupt. */
static enum window_status read_stack(
	struct window *w, uint8_t *to, size_t room, struct window_entry *entry, size_t capture_room)
{
	const struct lane_sample *s = &w->record.sample;
	const uint8_t *carried = w->record.bytes + sizeof *s + s->nkernel * sizeof(uint64_t);
	uint64_t sp = s->regs[REG_SP];
	int64_t now = monotonic_ns(), age = now - (int64_t)s->head.time;
	atomic_fetch_add(&w->latency[bucket_of(age > 0 ? (uint64_t)(age / NS_PER_US) : 0)], 1);
	if (age > WINDOW_LATE_NS)
		return WINDOW_LATE;
	struct target *t = target_find(s->head.pid);
	w->teaches = t && atomic_fetch_add(&t->seen, 1) < TARGET_YOUNG;
	struct view *view = t ? atomic_load(&t->view) : NULL;
	if (!view || atomic_load(&view->gone))
		return WINDOW_EARLY;
	struct view_range range, other_range;
	lane_reading(w->lane, w->cpu, s->head.pid, view->start_time, now);
	if (!window_find_range(view, sp, &range))
		return WINDOW_UNREADABLE;
	size_t want = atomic_load(&t->want), n = read_part(view, &range, sp, want, room, to), other = 0;
	if (!n)
		return atomic_load(&view->gone) ? WINDOW_EARLY : WINDOW_UNREADABLE;
	uint64_t other_at = other_stack(t, &range, sp, to, n);
	size_t after = rounded((uint32_t)n);
	if (other_at && after < room && window_find_range(view, other_at, &other_range))
		other = read_part(view, &other_range, other_at, want, room - after, to + after);
	size_t captured = 0, common = s->stack_bytes < n ? s->stack_bytes : n;
	size_t proof = common < WINDOW_PROOF ? common : WINDOW_PROOF;
	if (w->capture) {
		struct window_read read = { w->kit, w->cpu, t, view, s, to, n, proof, false };
		captured = w->capture(&read, to + after + rounded((uint32_t)other), capture_room);
		proof = read.proof;
		w->teaches |= read.teaches;
	}
	uint8_t again[WINDOW_PROOF_MAX];
	if (read_target(view, again, proof, sp) != (ssize_t)proof || memcmp(again, to, proof))
		return WINDOW_MOVED;
	/* A thread that is woken over cannot return to user mode before us, but a system call that it is in may go on where the
	 * kernel is not preemptible. */
	bool same = !memcmp(to, carried, common);
	if (!same && !s->nkernel)
		return WINDOW_MOVED;
	entry->stack_bytes = (uint32_t)n;
	entry->other_at = other_at;
	entry->start = range.start;
	entry->end = range.end;
	entry->other_bytes = (uint32_t)other;
	entry->captured_bytes = (uint32_t)captured;
	return same ? WINDOW_STILL : WINDOW_WRITTEN;
}

/* The same, and what it took. */
static enum window_status read_sample(
	struct window *w, uint8_t *to, size_t room, struct window_entry *entry, size_t capture_room)
{
	int64_t begin = monotonic_ns();
	reads = 0;
	enum window_status status = read_stack(w, to, room, entry, capture_room);
	if (reads) {
		atomic_fetch_add(&w->still[bucket_of((uint64_t)(monotonic_ns() - begin) / NS_PER_US)], 1);
		atomic_fetch_add(&w->reads, reads);
		atomic_fetch_add(&w->read_in, 1);
	}
	return status;
}

/* A size of 0 says: go on at the start. */
static void put_end(struct window *w, uint64_t at)
{
	memset(w->ring + at % RING_BYTES, 0, sizeof((struct window_entry *)NULL)->size);
}

/* So that no more of the ring is touched than has to be. While it is empty its tail may be ours: main moves it only over an entry, or, if
 * it finds the end before it finds the tail moved, to the same place (window_peek). */
static void begin_anew(struct window *w, uint64_t head)
{
	uint64_t start = head + RING_BYTES - head % RING_BYTES;
	put_end(w, head);
	atomic_store_explicit(&w->head, start, memory_order_release);
	atomic_store_explicit(&w->tail, start, memory_order_release);
}

/* A stretch of n bytes without a wrap, or NULL; *ret_skip: bytes left unused before it. */
static uint8_t *reserve(struct window *w, size_t n, size_t *ret_skip)
{
	uint64_t head = atomic_load_explicit(&w->head, memory_order_relaxed);
	uint64_t used = head - atomic_load_explicit(&w->tail, memory_order_acquire);
	if (!used && head % RING_BYTES >= n) {
		begin_anew(w, head);
		*ret_skip = 0;
		return w->ring;
	}
	size_t offset = head % RING_BYTES, left = RING_BYTES - offset, skip = left < n ? left : 0;
	if (used + skip + n > RING_BYTES)
		return NULL;
	*ret_skip = skip;
	return w->ring + (offset + skip) % RING_BYTES;
}

/* For the stack, and another as large that it may go on in. */
static size_t room_for(struct window *w)
{
	enter(w);
	const struct target *t = target_find(w->record.sample.head.pid);
	size_t want = t ? 2 * (size_t)atomic_load(&t->want) : TARGET_STACK_FIRST;
	leave(w);
	return rounded((uint32_t)(want < w->stack_max ? want : w->stack_max));
}

/* Moves one record from the lane's ring into ours, with the stack. False: main is behind. */
static bool pass_on(struct window *w, uint32_t bytes, uint64_t lane_end)
{
	const struct lane_sample *s = &w->record.sample;
	bool user = s->head.type == LANE_SAMPLE && bytes >= sizeof *s && s->has_user == LANE_USER_64 &&
		    bytes >= sizeof *s + s->nkernel * sizeof(uint64_t) + s->stack_bytes;
	size_t fixed = sizeof(struct window_entry) + rounded(bytes), room = user ? room_for(w) : 0, skip = 0;
	size_t capture = user && w->capture ? WINDOW_CAPTURE_MAX : 0;
	uint8_t *at = reserve(w, fixed + room + capture, &skip);
	if (!at && room) {
		room = capture = 0; /* nearly full: the record alone, and what it carries */
		at = reserve(w, fixed, &skip);
	}
	if (!at)
		return false;
	struct window_entry entry = { .lane_end = lane_end, .record_bytes = bytes };
	w->teaches = false;
	if (user) {
		enter(w);
		entry.status = room ? read_sample(w, at + fixed, room, &entry, capture) : WINDOW_LATE;
		lane_reading(w->lane, w->cpu, 0, 0, 0);
		leave(w);
	}
	entry.size = (uint32_t)fixed + rounded(entry.stack_bytes) + rounded(entry.other_bytes) +
		     rounded(entry.captured_bytes);
	memcpy(at, &entry, sizeof entry);
	memcpy(at + sizeof entry, w->record.bytes, bytes);
	uint64_t head = atomic_load_explicit(&w->head, memory_order_relaxed);
	if (skip)
		put_end(w, head);
	atomic_store_explicit(&w->head, head + skip + entry.size, memory_order_release);
	return true;
}

/* The bell's counter tells the two kinds of ringing apart. */
enum { RING_WAKES = 1 };
static const uint64_t ring_urgent = 1ULL << 32;
static _Atomic bool dozing; /* main does not look by itself */

static void ring_bell(const struct window *w, uint64_t how)
{
	(void)!write(w->bell, &how, sizeof how);
}

/* Samples, names and ends can wait for main's next turn; a process that appears, a mapping, and a mark cannot. */
static bool is_urgent(uint32_t type)
{
	return type != LANE_SAMPLE && type != LANE_COMM && type != LANE_EXIT;
}

static void *run(void *argument)
{
	struct window *w = argument;
	kit_pin_thread(w->kit, w->cpu);
	uint64_t position = lane_tail(w->lane, w->cpu);
	int64_t rested_ns = monotonic_ns();
	for (;;) {
		int n = lane_get(w->lane, w->cpu, position, w->record.bytes, sizeof w->record);
		if (n < 0) {
			log_error("CPU %u: the lane's indices are corrupt", w->cpu);
			_exit(KIT_EXIT_PROTOCOL);
		}
		if (!n) {
			lane_wait(w->lane, w->cpu, position, -1);
			rested_ns = monotonic_ns();
			continue;
		}
		/* Short records have no sample's fields; what they lack is not to be the last one's. */
		if ((size_t)n < sizeof w->record.sample)
			memset(w->record.bytes + n, 0, sizeof w->record.sample - (size_t)n);
		while (!pass_on(w, (uint32_t)n, position + (uint32_t)n)) {
			ring_bell(w, ring_urgent);
			nanosleep(&(struct timespec) { 0, FULL_SLEEP_NS }, NULL);
		}
		position += (uint32_t)n;
		uint64_t used = atomic_load_explicit(&w->head, memory_order_relaxed) - atomic_load(&w->tail);
		if (is_urgent(w->record.sample.head.type) || w->teaches || used > RING_BYTES / 4)
			ring_bell(w, ring_urgent);
		atomic_thread_fence(memory_order_seq_cst); /* as in windows_doze */
		if (atomic_load(&dozing) && atomic_exchange(&dozing, false))
			ring_bell(w, RING_WAKES);
		kit_breathe(&rested_ns);
	}
	return NULL;
}

static int start(const struct kit *kit, const struct lane *lane, uint32_t cpu, int bell, window_capture *capture,
	uint32_t stack_max)
{
	struct window *w = calloc(1, sizeof *w);
	if (!w)
		return -ENOMEM;
	*w = (struct window) {
		.kit = kit, .lane = lane, .cpu = cpu, .bell = bell, .capture = capture, .stack_max = stack_max
	};
	lane_reading(lane, cpu, 0, 0, 0); /* what a predecessor was killed in the middle of is not our doing */
	w->ring = mmap(NULL, RING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int r = w->ring == MAP_FAILED ? -ENOMEM : kit_thread(run, w, &w->thread);
	if (r) {
		if (w->ring != MAP_FAILED)
			munmap(w->ring, RING_BYTES);
		free(w);
		return r;
	}
	windows[cpu] = w;
	return 0;
}

const uint8_t *window_stack(const struct window_entry *entry)
{
	return (const uint8_t *)(entry + 1) + rounded(entry->record_bytes);
}

const uint8_t *window_other(const struct window_entry *entry)
{
	return window_stack(entry) + rounded(entry->stack_bytes);
}

const uint8_t *window_captured(const struct window_entry *entry)
{
	return window_other(entry) + rounded(entry->other_bytes);
}

int windows_start(const struct kit *kit, const struct lane *lane, int bell, window_capture *capture, uint32_t stack_max)
{
	ncpus = lane->cpus;
	main_lane = lane;
	window_main_reads(0, 0);
	for (uint32_t cpu = 0; cpu < ncpus; cpu++) {
		int r = !windows[cpu] && lane_used(lane, cpu) ? start(kit, lane, cpu, bell, capture, stack_max) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

void window_main_reads(uint32_t pid, uint64_t start_time)
{
	if (main_lane)
		lane_reading(main_lane, LANE_MAIN_THREAD, pid, start_time, monotonic_ns());
}

bool window_active(uint32_t cpu)
{
	return windows[cpu];
}

const struct window_entry *window_peek(uint32_t cpu)
{
	struct window *w = windows[cpu];
	if (!w)
		return NULL;
	for (;;) {
		uint64_t tail = atomic_load_explicit(&w->tail, memory_order_acquire);
		if (atomic_load_explicit(&w->head, memory_order_acquire) == tail)
			return NULL;
		const struct window_entry *entry = (void *)(w->ring + tail % RING_BYTES);
		uint32_t size = __atomic_load_n(&entry->size, __ATOMIC_RELAXED);
		atomic_thread_fence(memory_order_acquire);
		if (atomic_load_explicit(&w->tail, memory_order_relaxed) != tail)
			continue; /* begun anew before we saw the head: what is here now is another entry's */
		if (size)
			return entry;
		atomic_store_explicit(&w->tail, tail + RING_BYTES - tail % RING_BYTES, memory_order_release);
	}
}

bool window_backlog(void)
{
	for (uint32_t cpu = 0; cpu < ncpus; cpu++)
		if (window_peek(cpu))
			return true;
	return false;
}

bool windows_doze(bool doze)
{
	atomic_store(&dozing, doze);
	/* An entry that comes before this look is seen here; one that comes after sees us doze. */
	atomic_thread_fence(memory_order_seq_cst);
	if (!doze || !window_backlog())
		return true;
	atomic_store(&dozing, false);
	return false;
}

bool window_bell_urgent(uint64_t rung)
{
	return rung >= ring_urgent;
}

void window_drop(uint32_t cpu)
{
	const struct window_entry *entry = window_peek(cpu);
	if (entry)
		atomic_fetch_add(&windows[cpu]->tail, entry->size);
}

void window_retire(void *p, void (*release)(void *))
{
	struct retired *r = malloc(sizeof *r);
	if (!r)
		return; /* a leak in a process that is out of memory: its budget ends it */
	*r = (struct retired) { fresh, p, release };
	fresh = r;
}

void window_reclaim(void)
{
	for (uint32_t cpu = 0; cpu < ncpus && waiting; cpu++)
		if (windows[cpu] && windows[cpu]->seen_epoch & 1 &&
			atomic_load(&windows[cpu]->epoch) == windows[cpu]->seen_epoch)
			return; /* still in the window it was in */
	while (waiting) {
		struct retired *r = waiting;
		waiting = r->next;
		r->release(r->p);
		free(r);
	}
	waiting = fresh;
	fresh = NULL;
	for (uint32_t cpu = 0; cpu < ncpus; cpu++)
		if (windows[cpu])
			windows[cpu]->seen_epoch = atomic_load(&windows[cpu]->epoch);
}

bool window_retiring(void)
{
	return fresh || waiting;
}

/* Adds up, and empties, one of the two histograms of each window. */
static void take(bool still, uint64_t *ret_p50, uint64_t *ret_p99)
{
	uint64_t sum[BUCKETS] = { 0 }, all = 0, below = 0;
	for (uint32_t cpu = 0; cpu < ncpus; cpu++)
		for (unsigned b = 0; windows[cpu] && b < BUCKETS; b++)
			sum[b] += atomic_exchange(still ? &windows[cpu]->still[b] : &windows[cpu]->latency[b], 0);
	for (unsigned b = 0; b < BUCKETS; b++)
		all += sum[b];
	*ret_p50 = *ret_p99 = 0;
	for (unsigned b = 0; b < BUCKETS && all; b++) {
		if (below * 2 < all && (below + sum[b]) * 2 >= all)
			*ret_p50 = bucket_us(b);
		if (below * 100 < all * 99 && (below + sum[b]) * 100 >= all * 99)
			*ret_p99 = bucket_us(b);
		below += sum[b];
	}
}

bool window_times(struct window_times *ret)
{
	struct window_times times = { 0 };
	uint64_t all = 0, read_in = 0;
	take(false, &times.latency_p50_us, &times.latency_p99_us);
	take(true, &times.still_p50_us, &times.still_p99_us);
	for (uint32_t cpu = 0; cpu < ncpus; cpu++) {
		all += windows[cpu] ? atomic_exchange(&windows[cpu]->reads, 0) : 0;
		read_in += windows[cpu] ? atomic_exchange(&windows[cpu]->read_in, 0) : 0;
	}
	if (!read_in)
		return false;
	times.reads_per_thousand = all * 1000 / read_in;
	*ret = times;
	return true;
}
