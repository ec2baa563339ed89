#include "merge/draft.h"

#include "merge/intern.h"
#include "merge/profile.h"

#include <errno.h>
#include <stdlib.h>

/* `added`: the id in the profile, 0 until then. References are indexes over all sections, beginning at 1; 0 is none. */
struct draft_string {
	const uint8_t *bytes;
	uint32_t n, added;
};

struct draft_mapping {
	struct stream_mapping m;
	uint32_t added;
};

struct draft_frame {
	struct stream_frame f;
	uint32_t added;
};

struct draft_task {
	struct stream_task t;
	uint32_t added;
};

struct draft_stack {
	uint32_t first, n; /* in `links` */
	uint32_t added;
};

struct draft_sample {
	uint32_t task, stack, outcome;
	uint32_t count;
};

struct draft {
	struct room room;
	struct list strings, mappings, frames, tasks, stacks, samples;
	struct list links;   /* uint32_t: the frames of all stacks */
	struct intern hints; /* struct hint_key */
	struct list hinted;  /* struct hint, by hint */
	struct {
		uint32_t strings, mappings, frames, tasks, stacks;
	} base; /* of the current section */
	uint32_t sections;
	uint64_t dropped;
	int error; /* the limit that was reached; from there on, samples are only counted */
};

/* Where the code of a frame is, for all processes that map the file in the same way. */
struct hint_key {
	uint64_t address, start, offset;
	uint32_t kind, file, build_id;
	uint32_t padding;
};

/* The name of the code there. */
struct hint {
	struct stream_frame f;
	uint32_t name; /* in the profile */
	bool ambiguous;
};

struct draft *draft_new(size_t limit)
{
	struct draft *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	d->room = room_new(limit);
	d->hints.room = &d->room;
	return d;
}

void draft_free(struct draft *d)
{
	struct list *lists[] = { &d->strings, &d->mappings, &d->frames, &d->tasks, &d->stacks, &d->samples, &d->links,
		&d->hinted };
	for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
		list_free(lists[i], &d->room);
	intern_free(&d->hints);
	free(d);
}

static uint32_t absolute(uint32_t base, uint32_t id)
{
	return id ? base + id : 0;
}

static int on_section(void *context)
{
	struct draft *d = context;
	d->sections++;
	d->base.strings = d->strings.n;
	d->base.mappings = d->mappings.n;
	d->base.frames = d->frames.n;
	d->base.tasks = d->tasks.n;
	d->base.stacks = d->stacks.n;
	return 0;
}

static int on_string(void *context, uint32_t id, const uint8_t *bytes, size_t n)
{
	(void)id;
	struct draft *d = context;
	struct draft_string *s = d->error ? NULL : list_push(&d->strings, &d->room, sizeof *s, &d->error);
	if (s)
		*s = (struct draft_string) { .bytes = bytes, .n = (uint32_t)n };
	return 0;
}

static int on_mapping(void *context, uint32_t id, const struct stream_mapping *mapping)
{
	(void)id;
	struct draft *d = context;
	struct draft_mapping *m = d->error ? NULL : list_push(&d->mappings, &d->room, sizeof *m, &d->error);
	if (!m)
		return 0;
	m->m = *mapping;
	m->m.file = absolute(d->base.strings, mapping->file);
	m->m.build_id = absolute(d->base.strings, mapping->build_id);
	return 0;
}

static int on_frame(void *context, uint32_t id, const struct stream_frame *frame)
{
	(void)id;
	struct draft *d = context;
	struct draft_frame *f = d->error ? NULL : list_push(&d->frames, &d->room, sizeof *f, &d->error);
	if (!f)
		return 0;
	f->f = *frame;
	f->f.mapping = absolute(d->base.mappings, frame->mapping);
	f->f.name = absolute(d->base.strings, frame->name);
	f->f.file = absolute(d->base.strings, frame->file);
	return 0;
}

static int on_name(void *context, uint32_t frame, uint32_t name, uint32_t file, uint32_t line, uint32_t start_line)
{
	struct draft *d = context;
	if (d->error)
		return 0;
	struct stream_frame *f = &((struct draft_frame *)d->frames.items)[d->base.frames + frame - 1].f;
	f->name = absolute(d->base.strings, name);
	f->file = absolute(d->base.strings, file);
	f->line = line;
	f->start_line = start_line;
	return 0;
}

static int on_task(void *context, uint32_t id, const struct stream_task *task)
{
	(void)id;
	struct draft *d = context;
	struct draft_task *t = d->error ? NULL : list_push(&d->tasks, &d->room, sizeof *t, &d->error);
	if (!t)
		return 0;
	t->t = *task;
	t->t.comm = absolute(d->base.strings, task->comm);
	t->t.thread = absolute(d->base.strings, task->thread);
	t->t.container = absolute(d->base.strings, task->container);
	return 0;
}

static int on_stack(void *context, uint32_t id, const uint32_t *frames, size_t n)
{
	(void)id;
	struct draft *d = context;
	uint32_t first = d->links.n;
	for (size_t i = 0; i < n && !d->error; i++) {
		uint32_t *link = list_push(&d->links, &d->room, sizeof *link, &d->error);
		if (link)
			*link = d->base.frames + frames[i];
	}
	struct draft_stack *s = d->error ? NULL : list_push(&d->stacks, &d->room, sizeof *s, &d->error);
	if (s)
		*s = (struct draft_stack) { .first = first, .n = (uint32_t)n };
	return 0;
}

static int on_sample(void *context, uint32_t task, uint32_t stack, enum counter outcome, uint64_t count)
{
	struct draft *d = context;
	struct draft_sample *s = d->error ? NULL : list_push(&d->samples, &d->room, sizeof *s, &d->error);
	if (!s) {
		d->dropped += count;
		return 0;
	}
	*s = (struct draft_sample) { .task = absolute(d->base.tasks, task),
		.stack = absolute(d->base.stacks, stack),
		.outcome = outcome,
		.count = (uint32_t)count };
	return 0;
}

int draft_read(struct draft *d, const uint8_t *bytes, size_t n)
{
	struct stream_handler handler = { .context = d,
		.section = on_section,
		.string = on_string,
		.mapping = on_mapping,
		.frame = on_frame,
		.name = on_name,
		.task = on_task,
		.stack = on_stack,
		.sample = on_sample };
	int r = stream_read(bytes, n, &handler);
	return r < 0 ? r : d->error;
}

static int add_string(struct draft *d, struct profile *p, uint32_t index, uint32_t *ret_id)
{
	struct draft_string *s = index ? (struct draft_string *)d->strings.items + (index - 1) : NULL;
	if (s && !s->added) {
		int r = profile_add_string(p, s->bytes, s->n, &s->added);
		if (r < 0)
			return r;
	}
	*ret_id = s ? s->added : 0;
	return 0;
}

static int add_mapping(struct draft *d, struct profile *p, uint32_t index, uint32_t *ret_id)
{
	struct draft_mapping *m = index ? (struct draft_mapping *)d->mappings.items + (index - 1) : NULL;
	if (m && !m->added) {
		struct profile_mapping mapping = { .start = m->m.start, .limit = m->m.limit, .offset = m->m.offset };
		int r = add_string(d, p, m->m.file, &mapping.file);
		if (!r)
			r = add_string(d, p, m->m.build_id, &mapping.build_id);
		if (!r)
			r = profile_add_mapping(p, &mapping, &m->added);
		if (r < 0)
			return r;
	}
	*ret_id = m ? m->added : 0;
	return 0;
}

/* Code whose address means the same throughout the stream: not JIT code, which moves. */
static bool can_be_hinted(const struct stream_frame *f)
{
	return f->kind == FRAME_KERNEL ? f->address != 0 : f->kind == FRAME_NATIVE && f->mapping;
}

static int hint_key(struct draft *d, struct profile *p, const struct stream_frame *f, struct hint_key *ret)
{
	struct hint_key key = { .address = f->address, .kind = f->kind };
	if (f->kind == FRAME_NATIVE) {
		uint32_t id;
		int r = add_mapping(d, p, f->mapping, &id);
		if (r < 0)
			return r;
		struct profile_mapping mapping = profile_mapping(p, id);
		key.start = mapping.start;
		key.offset = mapping.offset;
		key.file = mapping.file;
		key.build_id = mapping.build_id;
	}
	*ret = key;
	return 0;
}

/* Frames named at two names for one address (inlined calls) give no hint: nothing is guessed. */
static int learn_hint(struct draft *d, struct profile *p, const struct draft_frame *frame)
{
	struct hint_key key;
	uint32_t id, name;
	int r = hint_key(d, p, &frame->f, &key);
	if (!r)
		r = add_string(d, p, frame->f.name, &name);
	if (!r)
		r = intern(&d->hints, &key, sizeof key, &id);
	if (r < 0)
		return r;
	if (id <= d->hinted.n) {
		struct hint *known = (struct hint *)d->hinted.items + (id - 1);
		known->ambiguous |= known->name != name;
		return 0;
	}
	struct hint *hint = list_push(&d->hinted, &d->room, sizeof *hint, &r);
	if (hint)
		*hint = (struct hint) { .name = name, .f = frame->f };
	return r;
}

static int take_hint(struct draft *d, struct profile *p, struct draft_frame *frame)
{
	struct hint_key key;
	int r = hint_key(d, p, &frame->f, &key);
	if (r < 0)
		return r;
	uint32_t id = intern_find(&d->hints, &key, sizeof key);
	const struct hint *hint = id ? (const struct hint *)d->hinted.items + (id - 1) : NULL;
	if (!hint || hint->ambiguous)
		return 0;
	frame->f.name = hint->f.name;
	frame->f.file = hint->f.file;
	frame->f.start_line = hint->f.start_line;
	frame->f.line = hint->f.line;
	return 0;
}

/* What one life of a worker named helps the frames that another left without a name. */
static int share_names(struct draft *d, struct profile *p)
{
	struct draft_frame *frames = d->frames.items;
	int r = 0;
	for (uint32_t i = 0; i < d->frames.n && !r; i++) {
		if (frames[i].f.name && can_be_hinted(&frames[i].f))
			r = learn_hint(d, p, &frames[i]);
	}
	for (uint32_t i = 0; i < d->frames.n && !r; i++) {
		if (!frames[i].f.name && can_be_hinted(&frames[i].f))
			r = take_hint(d, p, &frames[i]);
	}
	return r;
}

static int add_frame(struct draft *d, struct profile *p, uint32_t index, uint32_t *ret_id)
{
	struct draft_frame *f = (struct draft_frame *)d->frames.items + (index - 1);
	if (!f->added) {
		struct profile_frame frame = {
			.address = f->f.address, .kind = f->f.kind, .line = f->f.line, .start_line = f->f.start_line
		};
		int r = add_mapping(d, p, f->f.mapping, &frame.mapping);
		if (!r)
			r = add_string(d, p, f->f.name, &frame.name);
		if (!r)
			r = add_string(d, p, f->f.file, &frame.file);
		if (!r)
			r = profile_add_frame(p, frame, &f->added);
		if (r < 0)
			return r;
	}
	*ret_id = f->added;
	return 0;
}

static int add_stack(struct draft *d, struct profile *p, uint32_t index, uint32_t *ret_id)
{
	uint32_t frames[STREAM_MAX_FRAMES];
	struct draft_stack *s = index ? (struct draft_stack *)d->stacks.items + (index - 1) : NULL;
	if (!s)
		return profile_add_stack(p, &index, 0, ret_id);
	if (!s->added) {
		const uint32_t *links = (const uint32_t *)d->links.items + s->first;
		int r = 0;
		for (uint32_t i = 0; i < s->n && !r; i++)
			r = add_frame(d, p, links[i], &frames[i]);
		if (!r)
			r = profile_add_stack(p, frames, s->n, &s->added);
		if (r < 0)
			return r;
	}
	*ret_id = s->added;
	return 0;
}

static int add_task(struct draft *d, struct profile *p, uint32_t index, uint32_t *ret_id)
{
	struct draft_task *t = index ? (struct draft_task *)d->tasks.items + (index - 1) : NULL;
	if (t && !t->added) {
		struct profile_task task = { .pid = t->t.pid, .start_time = t->t.start_time };
		int r = add_string(d, p, t->t.comm, &task.comm);
		if (!r)
			r = add_string(d, p, t->t.thread, &task.thread);
		if (!r)
			r = add_string(d, p, t->t.container, &task.container);
		if (!r)
			r = profile_add_task(p, task, &t->added);
		if (r < 0)
			return r;
	}
	*ret_id = t ? t->added : 0;
	return 0;
}

static int add_sample(struct draft *d, struct profile *p, const struct draft_sample *s)
{
	struct profile_sample sample = { .outcome = (enum counter)s->outcome, .count = s->count };
	int r = add_task(d, p, s->task, &sample.task);
	if (!r)
		r = add_stack(d, p, s->stack, &sample.stack);
	if (!r)
		r = profile_add_sample(p, &sample);
	return r;
}

int draft_add_to(struct draft *d, struct profile *p)
{
	profile_drop(p, d->dropped);
	int error = d->sections > 1 ? share_names(d, p) : 0;
	const struct draft_sample *samples = d->samples.items;
	for (uint32_t i = 0; i < d->samples.n; i++) {
		int r = add_sample(d, p, &samples[i]);
		if (r < 0) {
			profile_drop(p, samples[i].count);
			error = r;
		}
	}
	return error;
}
