#include "proto/stream.h"

#include <errno.h>
#include <string.h>

static size_t varint_size(uint64_t v)
{
	size_t n = 1;
	while (v >>= 7)
		n++;
	return n;
}

/* A record is whole or not there: a reader would take half a record for the end of the stream. */
static bool finish(struct stream_writer *w, size_t start)
{
	if (!w->out.failed)
		return true;
	w->out.len = start;
	return false;
}

static bool put_bytes(struct stream_writer *w, enum stream_record type, const void *bytes, size_t n)
{
	size_t start = w->out.len;
	buf_put_u8(&w->out, (uint8_t)type);
	buf_put_varint(&w->out, n);
	buf_put(&w->out, bytes, n);
	return finish(w, start);
}

static bool put_fields(struct stream_writer *w, enum stream_record type, const uint64_t *fields, size_t n)
{
	size_t start = w->out.len, size = 0;
	for (size_t i = 0; i < n; i++)
		size += varint_size(fields[i]);
	buf_put_u8(&w->out, (uint8_t)type);
	buf_put_varint(&w->out, size);
	for (size_t i = 0; i < n; i++)
		buf_put_varint(&w->out, fields[i]);
	return finish(w, start);
}

void stream_section(struct stream_writer *w)
{
	if (!w->out.limit)
		w->out.limit = STREAM_MAX_BYTES;
	w->strings = w->mappings = w->frames = w->tasks = w->stacks = 0;
	put_fields(w, STREAM_SECTION, (uint64_t[]) { STREAM_VERSION }, 1);
}

uint32_t stream_put_string(struct stream_writer *w, const void *bytes, size_t n)
{
	if (n > STREAM_MAX_STRING)
		n = STREAM_MAX_STRING;
	if (w->strings == STREAM_MAX_IDS || !put_bytes(w, STREAM_STRING, bytes, n))
		return 0;
	return ++w->strings;
}

uint32_t stream_put_mapping(struct stream_writer *w, const struct stream_mapping *mapping)
{
	uint64_t fields[] = { mapping->file, mapping->build_id, mapping->start, mapping->limit, mapping->offset };
	if (w->mappings == STREAM_MAX_IDS || !put_fields(w, STREAM_MAPPING, fields, 5))
		return 0;
	return ++w->mappings;
}

uint32_t stream_put_frame(struct stream_writer *w, const struct stream_frame *frame)
{
	uint64_t fields[] = { frame->kind, frame->mapping, frame->address, frame->name, frame->file, frame->line,
		frame->start_line };
	if (w->frames == STREAM_MAX_IDS || !put_fields(w, STREAM_FRAME, fields, 7))
		return 0;
	return ++w->frames;
}

void stream_put_name(
	struct stream_writer *w, uint32_t frame, uint32_t name, uint32_t file, uint32_t line, uint32_t start_line)
{
	put_fields(w, STREAM_NAME, (uint64_t[]) { frame, name, file, line, start_line }, 5);
}

uint32_t stream_put_task(struct stream_writer *w, const struct stream_task *task)
{
	uint64_t fields[] = { task->pid, task->start_time, task->comm, task->thread, task->container };
	if (w->tasks == STREAM_MAX_IDS || !put_fields(w, STREAM_TASK, fields, 5))
		return 0;
	return ++w->tasks;
}

uint32_t stream_put_stack(struct stream_writer *w, const uint32_t *frames, size_t n)
{
	if (n > STREAM_MAX_FRAMES || w->stacks == STREAM_MAX_IDS)
		return 0;
	size_t start = w->out.len, size = 0;
	for (size_t i = 0; i < n; i++)
		size += varint_size(frames[i]);
	buf_put_u8(&w->out, STREAM_STACK);
	buf_put_varint(&w->out, size);
	for (size_t i = 0; i < n; i++)
		buf_put_varint(&w->out, frames[i]);
	if (!finish(w, start))
		return 0;
	return ++w->stacks;
}

void stream_put_sample(struct stream_writer *w, uint32_t task, uint32_t stack, enum counter outcome, uint64_t count)
{
	put_fields(w, STREAM_SAMPLE, (uint64_t[]) { task, stack, outcome, count }, 4);
}

/* What is defined so far in the section being read. */
struct reader {
	const struct stream_handler *handler;
	bool in_section;
	uint32_t strings, mappings, frames, tasks, stacks;
};

/* An integer of at most `max`; anything larger fails the cursor. */
static uint64_t field(struct cursor *c, uint64_t max)
{
	uint64_t v = cursor_varint(c);
	if (v > max)
		c->failed = true;
	return c->failed ? 0 : v;
}

static uint32_t field32(struct cursor *c, uint32_t max)
{
	return (uint32_t)field(c, max);
}

static bool whole(const struct cursor *c)
{
	return !c->failed && c->p == c->end;
}

static int read_section(struct reader *r, struct cursor *c)
{
	if (field(c, STREAM_VERSION) != STREAM_VERSION || !whole(c))
		return -EBADMSG;
	*r = (struct reader) { .handler = r->handler, .in_section = true };
	return r->handler->section ? r->handler->section(r->handler->context) : 0;
}

static int read_string(struct reader *r, struct cursor *c)
{
	size_t n = (size_t)(c->end - c->p);
	if (n > STREAM_MAX_STRING || r->strings == STREAM_MAX_IDS)
		return -EBADMSG;
	r->strings++;
	return r->handler->string ? r->handler->string(r->handler->context, r->strings, c->p, n) : 0;
}

static int read_mapping(struct reader *r, struct cursor *c)
{
	struct stream_mapping m = { .file = field32(c, r->strings), .build_id = field32(c, r->strings) };
	m.start = field(c, UINT64_MAX);
	m.limit = field(c, UINT64_MAX);
	m.offset = field(c, UINT64_MAX);
	if (!whole(c) || m.start > m.limit || r->mappings == STREAM_MAX_IDS)
		return -EBADMSG;
	r->mappings++;
	return r->handler->mapping ? r->handler->mapping(r->handler->context, r->mappings, &m) : 0;
}

static int read_frame(struct reader *r, struct cursor *c)
{
	struct stream_frame f = { .kind = field32(c, FRAME_KIND_MAX - 1), .mapping = field32(c, r->mappings) };
	f.address = field(c, UINT64_MAX);
	f.name = field32(c, r->strings);
	f.file = field32(c, r->strings);
	f.line = field32(c, UINT32_MAX);
	f.start_line = field32(c, UINT32_MAX);
	if (!whole(c) || r->frames == STREAM_MAX_IDS)
		return -EBADMSG;
	r->frames++;
	return r->handler->frame ? r->handler->frame(r->handler->context, r->frames, &f) : 0;
}

static int read_name(struct reader *r, struct cursor *c)
{
	uint32_t frame = field32(c, r->frames);
	uint32_t name = field32(c, r->strings);
	uint32_t file = field32(c, r->strings);
	uint32_t line = field32(c, UINT32_MAX);
	uint32_t start_line = field32(c, UINT32_MAX);
	if (!whole(c) || !frame)
		return -EBADMSG;
	if (!r->handler->name)
		return 0;
	return r->handler->name(r->handler->context, frame, name, file, line, start_line);
}

static int read_task(struct reader *r, struct cursor *c)
{
	struct stream_task t = { .pid = field32(c, INT32_MAX), .start_time = field(c, UINT64_MAX) };
	t.comm = field32(c, r->strings);
	t.thread = field32(c, r->strings);
	t.container = field32(c, r->strings);
	if (!whole(c) || r->tasks == STREAM_MAX_IDS)
		return -EBADMSG;
	r->tasks++;
	return r->handler->task ? r->handler->task(r->handler->context, r->tasks, &t) : 0;
}

static int read_stack(struct reader *r, struct cursor *c)
{
	uint32_t frames[STREAM_MAX_FRAMES];
	size_t n = 0;
	while (c->p < c->end && n < STREAM_MAX_FRAMES) {
		frames[n] = field32(c, r->frames);
		if (!frames[n++])
			return -EBADMSG;
	}
	if (!whole(c) || r->stacks == STREAM_MAX_IDS)
		return -EBADMSG;
	r->stacks++;
	return r->handler->stack ? r->handler->stack(r->handler->context, r->stacks, frames, n) : 0;
}

static int read_sample(struct reader *r, struct cursor *c)
{
	uint32_t task = field32(c, r->tasks);
	uint32_t stack = field32(c, r->stacks);
	uint32_t outcome = field32(c, COUNTER_MAX - 1);
	uint64_t count = field(c, STREAM_MAX_COUNT);
	if (!whole(c) || counter_source((enum counter)outcome) != COUNTER_SOURCE_OUTCOME)
		return -EBADMSG;
	if (!r->handler->sample)
		return 0;
	return r->handler->sample(r->handler->context, task, stack, (enum counter)outcome, count);
}

static int read_record(struct reader *r, unsigned type, struct cursor *payload)
{
	if (!r->in_section && type != STREAM_SECTION)
		return -EBADMSG;
	switch (type) {
	case STREAM_SECTION:
		return read_section(r, payload);
	case STREAM_STRING:
		return read_string(r, payload);
	case STREAM_MAPPING:
		return read_mapping(r, payload);
	case STREAM_FRAME:
		return read_frame(r, payload);
	case STREAM_NAME:
		return read_name(r, payload);
	case STREAM_TASK:
		return read_task(r, payload);
	case STREAM_STACK:
		return read_stack(r, payload);
	case STREAM_SAMPLE:
		return read_sample(r, payload);
	default:
		return -EBADMSG;
	}
}

int stream_read(const uint8_t *bytes, size_t n, const struct stream_handler *handler)
{
	struct reader reader = { .handler = handler };
	bool too_long = n > STREAM_MAX_BYTES;
	if (!n)
		return 0;
	struct cursor c = { .p = bytes, .end = bytes + (too_long ? STREAM_MAX_BYTES : n) };
	while (c.p < c.end) {
		unsigned type = cursor_u8(&c);
		uint64_t size = field(&c, STREAM_MAX_BYTES);
		const uint8_t *at = cursor_bytes(&c, (size_t)size);
		if (c.failed)
			return -EBADMSG;
		struct cursor payload = { .p = at, .end = at + size };
		int r = read_record(&reader, type, &payload);
		if (r < 0)
			return r;
	}
	return too_long ? -EBADMSG : 0;
}
