#include "python/python.h"

#include "common/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	PROBES = 8, /* places that a thread may have */
	LEARN_MS = 1000,
	LOOK_MS = 250,   /* between two looks for more interpreters and threads */
	WALK_READS = 48, /* in one window: new threads stand at the head of the list */
	NONE_MS = 100,   /* how long a thread without a state is believed to have none */
	POINTERS = 2,
};

static const uint32_t BEING_WRITTEN = UINT32_MAX; /* no thread's number */

/* How the lists are read: in the window, or at normal priority. */
struct source {
	int (*read)(void *context, uint64_t address, void *buf, size_t n);
	void *context;
	uint32_t reads, most;
};

static int get(struct source *s, uint64_t address, void *buf, size_t n)
{
	if (s->reads >= s->most)
		return -E2BIG;
	s->reads++;
	return s->read(s->context, address, buf, n);
}

/* What is known of the sampled thread: its number as the interpreter knows it, or, where that is of a PID namespace and not known, its
 * stack: the thread's descriptor is at the upper end of the mapping that the stack is in. */
struct wanted {
	uint32_t tid; /* in the target's namespace; 0: not known */
	uint64_t sp, stack_end;
};

static int is_it(struct source *s, const struct python_process *p, const uint8_t *state, const struct wanted *wanted)
{
	const struct python_layout *l = &p->layout;
	uint64_t descriptor = python_word(state, l->thread_id);
	if (!wanted->tid)
		return descriptor > wanted->sp && descriptor < wanted->stack_end;
	if (l->native_thread_id != PYTHON_NONE)
		return python_word(state, l->native_thread_id) == wanted->tid;
	uint32_t tid;
	int r = get(s, descriptor + p->pthread_tid, &tid, sizeof tid);
	return r == -E2BIG ? r : !r && tid == wanted->tid;
}

typedef int visit(void *context, struct source *s, const uint8_t *state, uint64_t address);

/* All thread states of all interpreters. 0: each was visited; what `call` returned when that was not 0; or what a read said. */
static int each_thread(struct source *s, const struct python_process *p, uint8_t *state, visit *call, void *context)
{
	const struct python_layout *l = &p->layout;
	uint64_t interpreter;
	int r = get(s, p->runtime + l->interpreters_head, &interpreter, sizeof interpreter);
	for (int i = 0; !r && interpreter && i < PYTHON_INTERPRETERS_MAX; i++) {
		uint64_t at, next;
		r = get(s, interpreter + l->threads_head, &at, sizeof at);
		for (int n = 0; !r && at && n < PYTHON_THREADS_MAX; n++) {
			r = get(s, at, state, l->thread_bytes);
			r = r ? r : call(context, s, state, at);
			at = r ? 0 : python_word(state, l->thread_next);
		}
		r = r ? r : get(s, interpreter + l->interpreter_next, &next, sizeof next);
		interpreter = r ? 0 : next;
	}
	return r;
}

struct search {
	const struct python_process *process;
	const struct wanted *wanted;
	uint64_t *found;
	int n, most;
};

static int look(void *context, struct source *s, const uint8_t *state, uint64_t address)
{
	struct search *search = context;
	int r = is_it(s, search->process, state, search->wanted);
	if (r > 0)
		search->found[search->n++] = address;
	return r < 0 ? r : search->n == search->most;
}

static int read_in_window(void *context, uint64_t address, void *buf, size_t n)
{
	return window_read(context, address, buf, n);
}

/* Its place, or the one that it would have: a free one, else somebody's. */
static struct python_thread *slot_of(struct python_threads *threads, uint32_t tid)
{
	uint32_t first = tid * 0x9e3779b1U >> 8;
	struct python_thread *free = NULL;
	for (uint32_t i = 0; i < PROBES; i++) {
		struct python_thread *slot = &threads->thread[(first + i) & (threads->size - 1)];
		uint32_t there = atomic_load(&slot->tid);
		if (there == tid)
			return slot;
		if (!there && !free)
			free = slot;
	}
	return free ? free : &threads->thread[first & (threads->size - 1)];
}

static void remember(struct python_threads *threads, uint32_t tid, uint64_t state, int64_t none_until_ns)
{
	struct python_thread *slot = slot_of(threads, tid);
	if (!atomic_load(&slot->tid))
		atomic_fetch_add(&threads->taken, 1);
	atomic_store(&slot->tid, BEING_WRITTEN);
	atomic_store(&slot->state, state);
	atomic_store(&slot->none_until_ns, none_until_ns);
	atomic_store(&slot->tid, tid);
}

static struct wanted wanted_of(const struct window_read *read, const struct python_process *p)
{
	uint32_t tid = read->sample->head.tid;
	struct wanted wanted = { .tid = tid };
	if (p->ntid != p->tid) /* in a PID namespace of its own */
		wanted.tid = tid == p->tid ? p->ntid : 0;
	if (!wanted.tid) {
		wanted.sp = read->sample->regs[REG_SP];
		wanted.stack_end = window_range_end(read, wanted.sp);
	}
	return wanted;
}

/* All its states, in all interpreters. */
static int find_many(struct window_read *read, struct python_process *p, uint8_t *state, uint64_t *ret, uint32_t *reads)
{
	const struct wanted wanted = wanted_of(read, p);
	struct source s = { read_in_window, read, 0, WALK_READS };
	struct search search = { p, &wanted, ret, 0, PYTHON_STATES_MAX };
	int r = each_thread(&s, p, state, look, &search);
	s.most++;
	r = r < 0 ? r : search.n ? get(&s, ret[0], state, p->layout.thread_bytes) : -ENOENT;
	*reads += s.reads;
	return r < 0 ? r : search.n;
}

int python_thread_find(
	struct window_read *read, struct python_process *p, uint8_t *state, uint64_t *ret, uint32_t *reads)
{
	uint32_t tid = read->sample->head.tid;
	const struct wanted wanted = wanted_of(read, p);
	struct source s = { read_in_window, read, 0, WALK_READS };
	struct python_threads *threads = atomic_load(&p->threads);
	if (atomic_load(&p->many))
		return find_many(read, p, state, ret, reads);
	struct python_thread *slot = slot_of(threads, tid);
	bool known = atomic_load(&slot->tid) == tid;
	*ret = atomic_load(&slot->state);
	if (known && !*ret && monotonic_ns() < atomic_load(&slot->none_until_ns))
		return -ENOENT;
	int r = known && *ret ? get(&s, *ret, state, p->layout.thread_bytes) : -ENOENT;
	r = r ? r : is_it(&s, p, state, &wanted) > 0 ? 0 : -ENOENT;
	if (r) {
		struct search search = { p, &wanted, ret, 0, 1 };
		r = each_thread(&s, p, state, look, &search);
		r = r > 0 ? 0 : r ? r : -ENOENT;
		if (r == -E2BIG)
			read->teaches = true; /* python_threads_learn */
		else if (!r || r == -ENOENT)
			remember(threads, tid, r ? 0 : *ret, r ? monotonic_ns() + NONE_MS * NS_PER_MS : 0);
	}
	*reads += s.reads;
	return r ? r : 1;
}

struct lesson {
	const struct python_process *process;
	struct python_threads *threads; /* NULL: only counted */
	int n;
};

static int learn(void *context, struct source *s, const uint8_t *state, uint64_t address)
{
	struct lesson *lesson = context;
	const struct python_process *p = lesson->process;
	uint32_t tid = 0;
	lesson->n++;
	if (p->ntid != p->tid || !lesson->threads)
		return 0; /* their numbers outside are not known */
	if (p->layout.native_thread_id != PYTHON_NONE)
		tid = (uint32_t)python_word(state, p->layout.native_thread_id);
	else if (get(s, python_word(state, p->layout.thread_id) + p->pthread_tid, &tid, sizeof tid) < 0)
		tid = 0;
	if (tid)
		remember(lesson->threads, tid, address, 0);
	return 0;
}

struct python_threads *python_threads_new(uint32_t size)
{
	struct python_threads *threads = calloc(1, sizeof *threads + size * sizeof *threads->thread);
	if (threads)
		threads->size = size;
	return threads;
}

/* Room for four times as many as there are. */
static struct python_threads *larger(struct python_process *p, int n)
{
	struct python_threads *threads = atomic_load(&p->threads), *fresh;
	uint32_t size = threads->size;
	while (size < 4U * (uint32_t)n && size < PYTHON_THREADS_MAX)
		size *= 2;
	if (size == threads->size || !(fresh = python_threads_new(size)))
		return threads;
	atomic_store(&p->threads, fresh);
	window_retire(threads, free);
	return fresh;
}

/* A list that loops, or has no end, costs what this allows, and no more than once a second. */
static bool may_learn(struct python_process *p)
{
	int64_t now = monotonic_ns();
	if (p->learned_ns && now - p->learned_ns < LEARN_MS * NS_PER_MS)
		return false;
	p->learned_ns = now;
	return true;
}

int python_threads_learn(struct target *t, struct python_process *p)
{
	if (!may_learn(p))
		return -EAGAIN;
	uint8_t state[PYTHON_THREAD_MAX];
	struct source s = { python_read_live, t, 0, POINTERS * PYTHON_THREADS_MAX };
	struct lesson lesson = { .process = p };
	int r = each_thread(&s, p, state, learn, &lesson);
	if (r < 0 || !lesson.n)
		return r;
	int n = lesson.n;
	s.reads = 0;
	lesson.threads = larger(p, n);
	r = each_thread(&s, p, state, learn, &lesson);
	return r < 0 ? r : n;
}

void python_threads_look(struct target *t, struct python_process *p)
{
	const struct python_threads *threads = atomic_load(&p->threads);
	struct source s = { python_read_live, t, 0, POINTERS };
	uint64_t first, next;
	int64_t now = monotonic_ns();
	if (now - p->looked_ns < LOOK_MS * NS_PER_MS)
		return;
	p->looked_ns = now;
	if (!get(&s, p->runtime + p->layout.interpreters_head, &first, sizeof first) &&
		!get(&s, first + p->layout.interpreter_next, &next, sizeof next))
		atomic_store(&p->many, next != 0);
	if (atomic_load(&threads->taken) * 2 > threads->size)
		(void)python_threads_learn(t, p);
}
