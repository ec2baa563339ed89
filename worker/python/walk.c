#include "python/walk.h"

#include "kit/regs.h"

enum {
	CHUNK_BYTES_MAX = 64 << 10, /* of one chunk of frames */
	CHUNKS_MAX = 16,
	BLOCK_BYTES = 16 << 10, /* read around a frame that is in no chunk: its callers are mostly near */
};

void walk_begin(struct scratch *s)
{
	s->nblocks = 0;
	s->used = 0;
}

void walk_know(struct scratch *s, uint64_t address, const void *bytes, size_t n)
{
	if (s->nblocks < WALK_BLOCKS_MAX)
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
	if (s->reads >= WALK_READS_MAX || s->nblocks == WALK_BLOCKS_MAX || most > WALK_SCRATCH_BYTES - s->used)
		return NULL;
	s->reads++;
	ssize_t n = window_read_part(s->read, address, s->memory + s->used, most);
	if (n < (ssize_t)least)
		return NULL;
	const uint8_t *bytes = s->memory + s->used;
	walk_know(s, address, bytes, (size_t)n);
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
	uint64_t chunk = python_word(thread, s->layout->datastack_chunk),
		 top = python_word(thread, s->layout->datastack_chunk + 8);
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
			frame = python_word(bytes, l->frame_previous);
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
	uint64_t cframe = l->cframe == PYTHON_NONE ? 0 : python_word(thread, l->cframe), at = w->root;
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
		uint64_t code = python_word(frame, l->frame_code);
		if (!code)
			return PYTHON_TORN;
		at = python_word(frame, l->frame_previous);
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
		uint64_t code = python_word(frame, l->frame_code);
		if (!code || frame[l->frame_owner] > PYTHON_OWNER_LOOP)
			return PYTHON_TORN;
		bool entry = frame[l->frame_is_entry];
		at = python_word(frame, l->frame_previous);
		if (!put(w, code, python_word(frame, l->frame_instruction)) || (entry && !put(w, 0, cframe)))
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
		uint64_t code = python_word(frame, l->frame_code) & ~l->tag_mask, mark = at;
		if (owner > PYTHON_OWNER_LOOP || (!code && owner != PYTHON_OWNER_LOOP))
			return PYTHON_TORN;
		marked = owner == PYTHON_OWNER_LOOP;
		at = python_word(frame, l->frame_previous);
		if (!(marked ? put(w, 0, mark) : put(w, code, python_word(frame, l->frame_instruction))))
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

enum python_status walk_thread(struct walk *w, const uint8_t *thread, uint64_t thread_at)
{
	const struct python_layout *l = w->scratch->layout;
	w->n = w->from;
	w->root_at = thread_at + l->frame;
	w->root = python_word(thread, l->frame);
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
