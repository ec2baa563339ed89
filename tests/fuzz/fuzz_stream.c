/* The reader of profile streams: what it delivers keeps the rules, and written again it reads the same. */
#include "proto/stream.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct check {
	struct stream_writer again;
	uint32_t strings, mappings, frames, tasks, stacks;
};

static void must(int what)
{
	if (!what)
		abort();
}

static int on_section(void *context)
{
	struct check *c = context;
	c->strings = c->mappings = c->frames = c->tasks = c->stacks = 0;
	stream_section(&c->again);
	return 0;
}

static int on_string(void *context, uint32_t id, const uint8_t *bytes, size_t n)
{
	struct check *c = context;
	must(id == ++c->strings && n <= STREAM_MAX_STRING);
	must(stream_put_string(&c->again, bytes, n) == id);
	return 0;
}

static int on_mapping(void *context, uint32_t id, const struct stream_mapping *m)
{
	struct check *c = context;
	must(id == ++c->mappings && m->file <= c->strings && m->build_id <= c->strings && m->start <= m->limit);
	must(stream_put_mapping(&c->again, m) == id);
	return 0;
}

static int on_frame(void *context, uint32_t id, const struct stream_frame *f)
{
	struct check *c = context;
	must(id == ++c->frames && f->kind < FRAME_KIND_MAX && f->mapping <= c->mappings);
	must(f->name <= c->strings && f->file <= c->strings);
	must(stream_put_frame(&c->again, f) == id);
	return 0;
}

static int on_name(void *context, uint32_t frame, uint32_t name, uint32_t file, uint32_t line, uint32_t start_line)
{
	struct check *c = context;
	must(frame && frame <= c->frames && name <= c->strings && file <= c->strings);
	stream_put_name(&c->again, frame, name, file, line, start_line);
	return 0;
}

static int on_task(void *context, uint32_t id, const struct stream_task *t)
{
	struct check *c = context;
	must(id == ++c->tasks && t->comm <= c->strings && t->thread <= c->strings && t->container <= c->strings);
	must(stream_put_task(&c->again, t) == id);
	return 0;
}

static int on_stack(void *context, uint32_t id, const uint32_t *frames, size_t n)
{
	struct check *c = context;
	must(id == ++c->stacks && n <= STREAM_MAX_FRAMES);
	for (size_t i = 0; i < n; i++)
		must(frames[i] && frames[i] <= c->frames);
	must(stream_put_stack(&c->again, frames, n) == id);
	return 0;
}

static int on_sample(void *context, uint32_t task, uint32_t stack, enum counter outcome, uint64_t count)
{
	struct check *c = context;
	must(task <= c->tasks && stack <= c->stacks && counter_source(outcome) == COUNTER_SOURCE_OUTCOME);
	stream_put_sample(&c->again, task, stack, outcome, count);
	return 0;
}

static void read_with(struct check *c, const uint8_t *data, size_t size, int *ret)
{
	struct stream_handler handler = { .context = c,
		.section = on_section,
		.string = on_string,
		.mapping = on_mapping,
		.frame = on_frame,
		.name = on_name,
		.task = on_task,
		.stack = on_stack,
		.sample = on_sample };
	*ret = stream_read(data, size, &handler);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct check first = { 0 }, second = { 0 };
	int r;
	read_with(&first, data, size, &r);
	must(!first.again.out.failed && first.again.out.len <= size);
	read_with(&second, first.again.out.data, first.again.out.len, &r);
	must(r == 0 && second.again.out.len == first.again.out.len);
	buf_free(&first.again.out);
	buf_free(&second.again.out);
	return 0;
}
