/* In the frozen window: the sampled thread stands still, and so does all of its interpreter that it alone changes. What its frames are is
 * found by walk.c; here is what becomes of them, and of the code objects that are new. */
#include "python/walk.h"

#include "common/clock.h"
#include "kit/regs.h"

#include <errno.h>
#include <sys/mman.h>

enum {
	CODES_MAX = 12,   /* code objects looked at in one window */
	TEXT_BYTES = 320, /* of a name, with the head of its object */
	LINES_BYTES =
		512, /* of a line table, likewise: code that lives shorter than it takes to be read later is short */
	TRIES = 2,   /* before frames that change are given up */
};

/* One for each CPU's thread, touched as far as stacks need. */
static uint8_t *scratch_memory(uint32_t cpu)
{
	static uint8_t *of[LANE_MAX_CPUS];
	if (of[cpu])
		return of[cpu];
	void *map = mmap(NULL, WALK_SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	of[cpu] = map == MAP_FAILED ? NULL : map;
	return of[cpu];
}

/* What the main thread reads of a code object may have become another's by then: new ones are copied here. */
struct pieces {
	struct scratch *scratch;
	uint8_t *at, *end;
	uint32_t n;
};

static const uint8_t *copy(struct pieces *p, uint64_t address, size_t n)
{
	struct python_piece piece = { address, n };
	if (!address || p->scratch->reads >= WALK_READS_MAX || (size_t)(p->end - p->at) < sizeof piece + n)
		return NULL;
	uint8_t *bytes = p->at + sizeof piece;
	p->scratch->reads++;
	ssize_t got = window_read_part(p->scratch->read, address, bytes, n);
	if (got <= 0)
		return NULL;
	piece.n = (uint64_t)got & ~7ULL;
	memcpy(p->at, &piece, sizeof piece);
	p->at = bytes + piece.n;
	p->n++;
	return bytes;
}

/* What the main thread knows it is spared; only that it is still the same is looked at. */
static void copy_code(struct pieces *p, const struct python_process *process, uint64_t address, bool young)
{
	const struct python_layout *l = &process->layout;
	uint8_t *before = p->at;
	const uint8_t *head = copy(p, address, l->code_bytes);
	if (!head)
		return;
	if (young && python_codes_same(process->codes, address, python_code_print(l, head), monotonic_ns())) {
		p->at = before;
		p->n--;
		return;
	}
	uint64_t name = python_word(head, l->code_qualname != PYTHON_NONE ? l->code_qualname : l->code_name),
		 file = python_word(head, l->code_file), code = python_word(head, l->code),
		 lines = python_word(head, l->code_lines);
	copy(p, name, TEXT_BYTES);
	copy(p, file, TEXT_BYTES);
	copy(p, lines, LINES_BYTES);
	if (l->datastack_chunk == PYTHON_NONE) /* its instructions are an object of their own */
		copy(p, code, PYTHON_OBJECT_MAX);
	p->scratch->read->teaches = true;
}

static void copy_codes(
	struct pieces *p, const struct python_process *process, const struct python_frame *frames, uint32_t n)
{
	uint64_t done[CODES_MAX];
	uint32_t ndone = 0;
	for (uint32_t i = 0; i < n && ndone < CODES_MAX; i++) {
		uint64_t code = frames[i].code;
		enum python_known known = code ? python_codes_known(process->codes, code) : PYTHON_CODE_TRUSTED;
		bool seen = known == PYTHON_CODE_TRUSTED;
		for (uint32_t k = 0; k < ndone && !seen; k++)
			seen = done[k] == code;
		if (seen)
			continue;
		done[ndone++] = code;
		copy_code(p, process, code, known == PYTHON_CODE_YOUNG);
	}
}

static enum python_status status_of(int error)
{
	return error == -ENOENT ? PYTHON_NO_THREAD : PYTHON_UNREADABLE;
}

/* Near the innermost end of the thread's own stack: what is read again there, for its stillness, says it of these bytes too. */
static bool proven(struct window_read *read, uint64_t address, size_t n)
{
	uint64_t end = address - read->sample->regs[REG_SP] + n;
	if (end < n || end > WINDOW_PROOF_MAX || end > read->stack_bytes)
		return false;
	if (read->proof < end)
		read->proof = end;
	return true;
}

/* The frames of one thread state, behind those that are there already. */
static enum python_status capture_one(struct scratch *s, struct walk *w, uint64_t at, uint8_t *thread)
{
	const struct python_layout *l = s->layout;
	uint64_t root;
	for (int i = 0; i < TRIES; i++) {
		walk_begin(s);
		walk_know(s, s->read->sample->regs[REG_SP], s->read->stack, s->read->stack_bytes);
		walk_know(s, at, thread, l->thread_bytes);
		enum python_status status = walk_thread(w, thread, at);
		/* Other threads of the process run on: the root says whether it was ours all the time. */
		if (status != PYTHON_WHOLE || proven(s->read, w->root_at, sizeof root))
			return status;
		s->reads++;
		if (!window_read(s->read, w->root_at, &root, sizeof root) && root == w->root)
			return status;
		s->reads++;
		if (window_read(s->read, at, thread, l->thread_bytes) < 0)
			return PYTHON_UNREADABLE;
	}
	return PYTHON_TORN;
}

/* Where on the C stack the innermost call of a chain is. */
static uint64_t place_of(const struct python_frame *frames, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!frames[i].code)
			return frames[i].instruction;
	return UINT64_MAX;
}

/* A thread that is in several interpreters has a chain in each: the one whose calls are further down the C stack comes first. */
static void order_last(struct walk *w, uint32_t *starts, uint32_t n)
{
	uint32_t from = starts[n - 1], length = w->n - from, to = n - 1;
	uint64_t place = place_of(w->frames + from, length);
	uint8_t *room = w->scratch->memory;
	size_t bytes = length * sizeof *w->frames;
	while (to && place < place_of(w->frames + starts[to - 1], from - starts[to - 1]))
		to--;
	if (to == n - 1 || bytes > WALK_SCRATCH_BYTES)
		return;
	memcpy(room, w->frames + from, bytes);
	memmove(w->frames + starts[to] + length, w->frames + starts[to], (from - starts[to]) * sizeof *w->frames);
	memcpy(w->frames + starts[to], room, bytes);
	for (uint32_t i = n - 1; i > to; i--)
		starts[i] = starts[i - 1] + length;
}

static enum python_status capture(struct python_process *p, struct scratch *s, struct walk *w)
{
	static _Thread_local uint8_t thread[PYTHON_THREAD_MAX];
	uint64_t states[PYTHON_STATES_MAX];
	uint32_t starts[PYTHON_STATES_MAX], n = 0;
	int found = python_thread_find(s->read, p, thread, states, &s->reads);
	if (found < 0)
		return status_of(found);
	for (int i = 0; i < found; i++) {
		if (i && window_read(s->read, states[i], thread, p->layout.thread_bytes) < 0)
			return PYTHON_UNREADABLE;
		starts[n] = w->from = w->n;
		enum python_status status = capture_one(s, w, states[i], thread);
		if (status != PYTHON_WHOLE)
			return status;
		if (w->n > starts[n])
			order_last(w, starts, ++n);
	}
	return PYTHON_WHOLE;
}

size_t python_capture(struct window_read *read, uint8_t *to, size_t room)
{
	struct python_process *p = atomic_load(&read->target->runtime);
	struct scratch s = { .read = read, .memory = scratch_memory(read->cpu) };
	const size_t frames_room = sizeof(struct python_frame) * PYTHON_FRAMES_MAX;
	struct python_capture head = { 0 };
	if (!p || !atomic_load(&p->ready) || !s.memory || room < sizeof head + frames_room)
		return 0;
	s.process = p;
	s.layout = &p->layout;
	struct walk w = { .scratch = &s, .frames = (void *)(to + sizeof head) };
	head.status = capture(p, &s, &w);
	if (head.status != PYTHON_WHOLE)
		w.n = 0;
	struct pieces pieces = { &s, to + sizeof head + w.n * sizeof *w.frames, to + room, 0 };
	copy_codes(&pieces, p, w.frames, w.n);
	head.nframes = w.n;
	head.npieces = pieces.n;
	head.reads = s.reads;
	memcpy(to, &head, sizeof head);
	return (size_t)(pieces.at - to);
}
