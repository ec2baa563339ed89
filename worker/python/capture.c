/* In the frozen window: the sampled thread stands still, and so does all of its interpreter that it alone changes. Few and large reads: the
 * thread state, the chunks that its frames lie in, and single frames only where they lie elsewhere (generators, 3.10 and before). Every
 * address comes from hostile memory, so all of it is bounded: reads, frames, bytes. */
#include "python/python.h"

#include "kit/regs.h"

#include "common/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

enum {
	BLOCKS_MAX = 128, /* stretches of memory in the scratch */
	SCRATCH_BYTES = 1 << 20,
	CHUNK_BYTES_MAX = 64 << 10, /* of one chunk of frames */
	CHUNKS_MAX = 16,
	BLOCK_BYTES = 16 << 10, /* read around a frame that is in no chunk: its callers are mostly near */
	READS_MAX = 128,        /* in one window */
	CODES_MAX = 12,         /* code objects looked at in one window */
	TEXT_BYTES = 320,       /* of a name, with the head of its object */
	TRIES = 2,              /* before frames that change are given up */
};

/* Memory of the target that has been read already. */
struct block {
	uint64_t address;
	size_t n;
	const uint8_t *bytes;
};

struct scratch {
	struct window_read *read;
	const struct python_process *process;
	const struct python_layout *layout;
	struct block blocks[BLOCKS_MAX];
	uint32_t nblocks, reads;
	uint8_t *memory; /* SCRATCH_BYTES */
	size_t used;
};

/* One for each CPU's thread, touched as far as stacks need. */
static uint8_t *scratch_memory(uint32_t cpu)
{
	static uint8_t *of[LANE_MAX_CPUS];
	if (of[cpu])
		return of[cpu];
	void *map = mmap(NULL, SCRATCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	of[cpu] = map == MAP_FAILED ? NULL : map;
	return of[cpu];
}

static void add_block(struct scratch *s, uint64_t address, const void *bytes, size_t n)
{
	if (s->nblocks < BLOCKS_MAX)
		s->blocks[s->nblocks++] = (struct block) { address, n, bytes };
}

static const uint8_t *in_blocks(const struct scratch *s, uint64_t address, size_t n)
{
	for (uint32_t i = s->nblocks; i-- > 0;) {
		uint64_t offset = address - s->blocks[i].address;
		if (offset < s->blocks[i].n && n <= s->blocks[i].n - offset)
			return s->blocks[i].bytes + offset;
	}
	return NULL;
}

/* As much of [address, address + most) as may be read, at least `least` bytes; kept in the scratch. */
static const uint8_t *read_block(struct scratch *s, uint64_t address, size_t least, size_t most)
{
	if (s->reads >= READS_MAX || s->nblocks == BLOCKS_MAX || most > SCRATCH_BYTES - s->used)
		return NULL;
	s->reads++;
	ssize_t n = window_read_part(s->read, address, s->memory + s->used, most);
	if (n < (ssize_t)least)
		return NULL;
	const uint8_t *bytes = s->memory + s->used;
	add_block(s, address, bytes, (size_t)n);
	s->used += ((size_t)n + 15) & ~(size_t)15;
	return bytes;
}

/* n bytes, from what is there, or with what lies around it. */
static const uint8_t *get(struct scratch *s, uint64_t address, size_t n)
{
	const uint8_t *bytes = in_blocks(s, address, n);
	uint64_t before = s->layout->datastack_chunk == PYTHON_NONE ? address % BLOCK_BYTES : 0;
	if (bytes)
		return bytes;
	/* Frames on the heap: a caller is older, and often lies below. */
	if (before && read_block(s, address - before, before + n, BLOCK_BYTES + n))
		return in_blocks(s, address, n);
	return read_block(s, address, n, before ? BLOCK_BYTES - before + n : n);
}

static uint64_t word(const uint8_t *bytes, uint16_t offset)
{
	uint64_t value;
	memcpy(&value, bytes + offset, sizeof value);
	return value;
}

static bool get_word(struct scratch *s, uint64_t address, uint64_t *ret)
{
	const uint8_t *bytes = get(s, address, sizeof *ret);
	if (bytes)
		memcpy(ret, bytes, sizeof *ret);
	return bytes;
}

/* _PyStackChunk (pycore_pystate.h, 3.11 and later): previous, size in bytes, and, of all but the newest, how many words of data are used.
 * How far the newest is used is the word behind the thread state's pointer to it. */
static void read_chunks(struct scratch *s, const uint8_t *thread)
{
	uint64_t chunk = word(thread, s->layout->datastack_chunk), top = word(thread, s->layout->datastack_chunk + 8);
	size_t n = top - chunk <= CHUNK_BYTES_MAX ? top - chunk : BLOCK_BYTES;
	for (int i = 0; chunk && i < CHUNKS_MAX; i++) {
		const uint8_t *bytes =
			read_block(s, chunk, PYTHON_CHUNK_HEAD, n < PYTHON_CHUNK_HEAD ? PYTHON_CHUNK_HEAD : n);
		uint64_t head[3];
		if (!bytes)
			return; /* what lies in there is looked for one by one */
		memcpy(head, bytes, sizeof head);
		chunk = head[0];
		n = BLOCK_BYTES; /* how much of the one before is used, it says itself, and a page more costs little */
	}
}

struct walk {
	struct scratch *scratch;
	struct python_frame *frames;
	uint32_t n, from; /* from: where this chain begins */
	uint64_t root,
		root_at; /* what the thread state, or the _PyCFrame, says is the innermost frame, and where it says so */
};

static bool put(struct walk *w, uint64_t code, uint64_t instruction)
{
	if (w->n == PYTHON_FRAMES_MAX)
		return false;
	w->frames[w->n++] = (struct python_frame) { code, instruction };
	return true;
}

/* The outermost _PyCFrame is part of the thread state. */
static bool is_root(uint64_t cframe, uint64_t thread_at)
{
	enum { THREAD_STATE_BYTES = 1024 /* at least as many as a PyThreadState has in 3.10 to 3.12 */ };
	return cframe - thread_at < THREAD_STATE_BYTES;
}

/* 3.10 links the _PyCFrame of a call before its frame, and takes it away before. How many more there are of them than of frames: 0; 1 or -1
 * while a call begins or ends; else they do not fit. */
static bool count_difference(struct scratch *s, uint64_t cframe, uint64_t frame, uint64_t thread_at, int *ret)
{
	const struct python_layout *l = s->layout;
	int difference = 0;
	for (uint32_t n = 0; n < PYTHON_FRAMES_MAX && (frame || !is_root(cframe, thread_at)); n++) {
		if (frame) {
			const uint8_t *bytes = get(s, frame, l->frame_bytes);
			if (!bytes)
				return false;
			frame = word(bytes, l->frame_previous);
			difference--;
		}
		if (is_root(cframe, thread_at))
			continue;
		if (!get_word(s, cframe + l->cframe_previous, &cframe))
			return false;
		difference++;
	}
	*ret = difference;
	return true;
}

/* 3.8 to 3.10: each frame is a call of the loop. From 3.10 on a _PyCFrame on the C stack says where. */
static enum python_status walk_objects(struct walk *w, const uint8_t *thread, uint64_t thread_at)
{
	const struct python_layout *l = w->scratch->layout;
	uint64_t cframe = l->cframe == PYTHON_NONE ? 0 : word(thread, l->cframe), at = w->root;
	int more = 0;
	if (cframe && !count_difference(w->scratch, cframe, at, thread_at, &more))
		return PYTHON_UNREADABLE;
	if (more > 1 || more < -1)
		return PYTHON_TORN;
	/* The call that begins or ends stands for itself. */
	if (more > 0 && (!put(w, 0, cframe) || !get_word(w->scratch, cframe + l->cframe_previous, &cframe)))
		return PYTHON_UNREADABLE;
	if (more < 0 && !get_word(w->scratch, at + l->frame_previous, &at))
		return PYTHON_UNREADABLE;
	while (at) {
		const uint8_t *frame = get(w->scratch, at, l->frame_bytes);
		int32_t instruction;
		if (!frame)
			return PYTHON_UNREADABLE;
		memcpy(&instruction, frame + l->frame_instruction, sizeof instruction);
		uint64_t code = word(frame, l->frame_code);
		if (!code)
			return PYTHON_TORN;
		at = word(frame, l->frame_previous);
		if (!put(w, code, (uint64_t)(int64_t)instruction) || !put(w, 0, cframe))
			return PYTHON_TRUNCATED;
		if (cframe && !get_word(w->scratch, cframe + l->cframe_previous, &cframe))
			return PYTHON_UNREADABLE;
	}
	return PYTHON_WHOLE;
}

/* Behind the mark of a call of the loop: what its predecessor's _PyCFrame says is the caller is what the frame says. */
static enum python_status leave_call(struct walk *w, uint64_t *cframe, uint64_t caller)
{
	const struct python_layout *l = w->scratch->layout;
	uint64_t outer;
	if (!get_word(w->scratch, *cframe + l->cframe_previous, cframe) ||
		!get_word(w->scratch, *cframe + l->cframe_frame, &outer))
		return PYTHON_UNREADABLE;
	return outer == caller ? PYTHON_WHOLE : PYTHON_TORN;
}

/* 3.11: the frame that the loop was called with is marked. */
static enum python_status walk_entries(struct walk *w, uint64_t cframe)
{
	const struct python_layout *l = w->scratch->layout;
	enum python_status status = PYTHON_WHOLE;
	for (uint64_t at = w->root; at && status == PYTHON_WHOLE;) {
		const uint8_t *frame = get(w->scratch, at, l->frame_bytes);
		if (!frame)
			return PYTHON_UNREADABLE;
		uint64_t code = word(frame, l->frame_code);
		if (!code || frame[l->frame_owner] > PYTHON_OWNER_LOOP)
			return PYTHON_TORN;
		bool entry = frame[l->frame_is_entry];
		at = word(frame, l->frame_previous);
		if (!put(w, code, word(frame, l->frame_instruction)) || (entry && !put(w, 0, cframe)))
			return PYTHON_TRUNCATED;
		if (entry)
			status = leave_call(w, &cframe, at);
	}
	return status;
}

/* From 3.12 on a frame of its own, on the C stack, marks each call of the loop. */
static enum python_status walk_marks(struct walk *w, uint64_t cframe)
{
	const struct python_layout *l = w->scratch->layout;
	enum python_status status = PYTHON_WHOLE;
	bool marked = true;
	for (uint64_t at = w->root; at && status == PYTHON_WHOLE;) {
		const uint8_t *frame = get(w->scratch, at, l->frame_bytes);
		if (!frame)
			return PYTHON_UNREADABLE;
		uint8_t owner = frame[l->frame_owner];
		uint64_t code = word(frame, l->frame_code) & ~l->tag_mask, mark = at;
		if (owner > PYTHON_OWNER_LOOP || (!code && owner != PYTHON_OWNER_LOOP))
			return PYTHON_TORN;
		marked = owner == PYTHON_OWNER_LOOP;
		at = word(frame, l->frame_previous);
		if (!(marked ? put(w, 0, mark) : put(w, code, word(frame, l->frame_instruction))))
			return PYTHON_TRUNCATED;
		if (marked && cframe)
			status = leave_call(w, &cframe, at);
	}
	/* the outermost was called by somebody */
	return status == PYTHON_WHOLE && !marked ? PYTHON_TORN : status;
}

static enum python_status walk_frames(struct walk *w, uint64_t cframe)
{
	return w->scratch->layout->frame_is_entry != PYTHON_NONE ? walk_entries(w, cframe) : walk_marks(w, cframe);
}

static bool in_a_register(const struct lane_sample *sample, uint64_t value)
{
	for (unsigned i = 0; i < REG_COUNT; i++)
		if (sample->regs[i] == value)
			return true;
	return false;
}

/* 3.11 and 3.12. A call of the loop links its _PyCFrame a few instructions before its frame; what the _PyCFrame says in between is what the
 * stack had there before, and the call stands for itself. The code of that beginning is also where each Python function begins and goes on;
 * then a register holds the frame. */
static enum python_status walk_cframes(struct walk *w, uint64_t cframe, uint64_t thread_at)
{
	const struct python_layout *l = w->scratch->layout;
	const struct lane_sample *sample = w->scratch->read->sample;
	const struct python_process *p = w->scratch->process;
	uint64_t at = sample->regs[REG_PC] - p->loop_begin;
	bool links = at < p->beginning && cframe - sample->regs[REG_SP] < p->cframe_room[at] &&
		     !in_a_register(sample, w->root);
	if (!links || is_root(cframe, thread_at))
		return walk_frames(w, cframe);
	if (!put(w, 0, cframe) || !get_word(w->scratch, cframe + l->cframe_previous, &cframe) ||
		!get_word(w->scratch, cframe + l->cframe_frame, &w->root))
		return PYTHON_UNREADABLE;
	w->root_at = cframe + l->cframe_frame;
	return walk_frames(w, cframe);
}

static enum python_status walk(struct walk *w, const uint8_t *thread, uint64_t thread_at)
{
	const struct python_layout *l = w->scratch->layout;
	w->n = w->from;
	w->root_at = thread_at + l->frame;
	w->root = word(thread, l->frame);
	if (l->datastack_chunk == PYTHON_NONE)
		return walk_objects(w, thread, thread_at);
	uint64_t cframe = l->cframe_frame != PYTHON_NONE ? w->root : 0;
	if (cframe) {
		w->root_at = cframe + l->cframe_frame;
		if (!get_word(w->scratch, w->root_at, &w->root))
			return PYTHON_UNREADABLE;
	}
	if (w->root)
		read_chunks(w->scratch, thread);
	return cframe ? walk_cframes(w, cframe, thread_at) : walk_frames(w, 0);
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
	if (!address || p->scratch->reads >= READS_MAX || (size_t)(p->end - p->at) < sizeof piece + n)
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
	uint64_t name = word(head, l->code_qualname != PYTHON_NONE ? l->code_qualname : l->code_name),
		 file = word(head, l->code_file), code = word(head, l->code);
	copy(p, name, TEXT_BYTES);
	copy(p, file, TEXT_BYTES);
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

/* The frames of one thread state, behind those that are there already. */
static enum python_status capture_one(struct scratch *s, struct walk *w, uint64_t at, uint8_t *thread)
{
	const struct python_layout *l = s->layout;
	uint64_t root;
	for (int i = 0; i < TRIES; i++) {
		s->nblocks = 0;
		s->used = 0;
		add_block(s, s->read->sample->regs[REG_SP], s->read->stack, s->read->stack_bytes);
		add_block(s, at, thread, l->thread_bytes);
		enum python_status status = walk(w, thread, at);
		s->reads++;
		/* Other threads of the process run on: the root says whether it was ours all the time. */
		if (status != PYTHON_WHOLE ||
			(!window_read(s->read, w->root_at, &root, sizeof root) && root == w->root))
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
	if (to == n - 1 || bytes > SCRATCH_BYTES)
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
