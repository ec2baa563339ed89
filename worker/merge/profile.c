#include "merge/profile.h"

#include "common/cleanup.h"
#include "common/escape.h"
#include "merge/draft.h"
#include "merge/intern.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct process_key {
	uint64_t start_time;
	uint32_t pid, padding;
};

struct process_state {
	uint64_t samples;
	uint32_t comm;
};

struct sample_key {
	uint32_t task, stack, outcome;
};

struct profile {
	struct room room;
	struct intern strings, mappings, frames, tasks, processes, stacks, samples;
	struct list process_states; /* struct process_state, by process */
	struct list counts;         /* uint64_t, by sample */
	uint64_t outcomes[COUNTER_MAX];
	uint64_t total, dropped;
};

struct profile *profile_new(void)
{
	struct profile *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	p->room = room_new(PROFILE_MAX_BYTES);
	struct intern *tables[] = { &p->strings, &p->mappings, &p->frames, &p->tasks, &p->processes, &p->stacks,
		&p->samples };
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
		tables[i]->room = &p->room;
	return p;
}

void profile_free(struct profile *p)
{
	if (!p)
		return;
	struct intern *tables[] = { &p->strings, &p->mappings, &p->frames, &p->tasks, &p->processes, &p->stacks,
		&p->samples };
	for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
		intern_free(tables[i]);
	list_free(&p->process_states, &p->room);
	list_free(&p->counts, &p->room);
	free(p);
}

int profile_add_stream(struct profile *p, const uint8_t *bytes, size_t n)
{
	p->room.limit = p->room.used + (PROFILE_MAX_BYTES - p->room.used) / 2;
	struct draft *draft = draft_new(PROFILE_DRAFT_MAX_BYTES);
	if (!draft)
		return -ENOMEM;
	int read = draft_read(draft, bytes, n);
	int added = draft_add_to(draft, p);
	draft_free(draft);
	return read < 0 ? read : added;
}

int profile_add_string(struct profile *p, const void *bytes, size_t n, uint32_t *ret_id)
{
	if (!n) {
		*ret_id = 0;
		return 0;
	}
	char text[ESCAPE_MAX];
	size_t len = escape_name(text, sizeof text, bytes, n);
	return intern(&p->strings, text, len, ret_id);
}

int profile_add_mapping(struct profile *p, const struct profile_mapping *mapping, uint32_t *ret_id)
{
	return intern(&p->mappings, mapping, sizeof *mapping, ret_id);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash && slash[1] ? slash + 1 : path;
}

/* What gProfiler's users know the runtimes' frames by. */
static const char *suffix_of(uint32_t kind)
{
	static const char *const suffixes[FRAME_KIND_MAX] = {
		[FRAME_PYTHON] = "_[p]",
		[FRAME_JAVA_JIT] = "_[j]",
		[FRAME_JAVA_INLINED] = "_[i]",
		[FRAME_JAVA_INTERPRETED] = "_[0]",
		[FRAME_JAVA_C1] = "_[1]",
	};
	return suffixes[kind];
}

/* The one place where a frame gets the name that people see. Its parts are escaped already. */
static int add_display(struct profile *p, const struct profile_frame *frame, uint32_t *ret_id)
{
	char text[2 * ESCAPE_MAX + sizeof " (:4294967295)_[p]" + sizeof "+0xffffffffffffffff"];
	const char *name = profile_string(p, frame->name);
	const char *file = frame->mapping ? profile_string(p, profile_mapping(p, frame->mapping).file) : "";
	if (frame->kind == FRAME_KERNEL)
		snprintf(text, sizeof text, "%s_[k]", *name ? name : "[unknown]");
	else if (frame_has_source(frame->kind) && frame->line)
		snprintf(text, sizeof text, "%s (%s:%" PRIu32 ")%s", name, profile_string(p, frame->file), frame->line,
			suffix_of(frame->kind));
	else if (frame->kind == FRAME_PYTHON || (frame_has_source(frame->kind) && frame->file))
		snprintf(text, sizeof text, "%s (%s)%s", name, profile_string(p, frame->file), suffix_of(frame->kind));
	else if (frame_has_source(frame->kind))
		snprintf(text, sizeof text, "%s%s", name, suffix_of(frame->kind));
	else if (*name)
		snprintf(text, sizeof text, "%s", name);
	else if (frame->kind == FRAME_NATIVE && *file)
		snprintf(text, sizeof text, "%s+0x%" PRIx64, base_name(file), frame->address);
	else
		snprintf(text, sizeof text, "[unknown]");
	return intern(&p->strings, text, strlen(text), ret_id);
}

int profile_add_frame(struct profile *p, struct profile_frame frame, uint32_t *ret_id)
{
	int r = add_display(p, &frame, &frame.display);
	if (r < 0)
		return r;
	frame.padding = 0;
	return intern(&p->frames, &frame, sizeof frame, ret_id);
}

int profile_add_task(struct profile *p, struct profile_task task, uint32_t *ret_id)
{
	struct process_key key = { .start_time = task.start_time, .pid = task.pid };
	int r = intern(&p->processes, &key, sizeof key, &task.process);
	if (r < 0)
		return r;
	while (p->process_states.n < intern_count(&p->processes)) {
		if (!list_push(&p->process_states, &p->room, sizeof(struct process_state), &r))
			return r;
	}
	if (task.comm)
		((struct process_state *)p->process_states.items)[task.process - 1].comm = task.comm;
	task.padding = 0;
	return intern(&p->tasks, &task, sizeof task, ret_id);
}

int profile_add_stack(struct profile *p, const uint32_t *frames, size_t n, uint32_t *ret_id)
{
	return intern(&p->stacks, frames, n * sizeof *frames, ret_id);
}

int profile_add_sample(struct profile *p, const struct profile_sample *sample)
{
	if (!sample->count)
		return 0;
	struct sample_key key = { .task = sample->task, .stack = sample->stack, .outcome = sample->outcome };
	uint32_t id;
	int r = intern(&p->samples, &key, sizeof key, &id);
	if (r < 0)
		return r;
	while (p->counts.n < id) {
		if (!list_push(&p->counts, &p->room, sizeof(uint64_t), &r))
			return r;
	}
	((uint64_t *)p->counts.items)[id - 1] += sample->count;
	p->outcomes[sample->outcome] += sample->count;
	p->total += sample->count;
	if (sample->task) {
		uint32_t process = profile_task(p, sample->task).process;
		((struct process_state *)p->process_states.items)[process - 1].samples += sample->count;
	}
	return 0;
}

void profile_drop(struct profile *p, uint64_t samples)
{
	p->dropped += samples;
}

uint64_t profile_total(const struct profile *p)
{
	return p->total;
}

uint64_t profile_dropped(const struct profile *p)
{
	return p->dropped;
}

uint64_t profile_outcome(const struct profile *p, enum counter outcome)
{
	return p->outcomes[outcome];
}

uint32_t profile_string_count(const struct profile *p)
{
	return intern_count(&p->strings);
}

uint32_t profile_mapping_count(const struct profile *p)
{
	return intern_count(&p->mappings);
}

uint32_t profile_frame_count(const struct profile *p)
{
	return intern_count(&p->frames);
}

uint32_t profile_stack_count(const struct profile *p)
{
	return intern_count(&p->stacks);
}

/* Only what is whole: a table may have grown when its list could not. */
uint32_t profile_process_count(const struct profile *p)
{
	return p->process_states.n;
}

uint32_t profile_sample_count(const struct profile *p)
{
	return p->counts.n;
}

const char *profile_string(const struct profile *p, uint32_t id)
{
	return id ? intern_get(&p->strings, id, NULL) : "";
}

struct profile_mapping profile_mapping(const struct profile *p, uint32_t id)
{
	return *(const struct profile_mapping *)intern_get(&p->mappings, id, NULL);
}

struct profile_frame profile_frame(const struct profile *p, uint32_t id)
{
	return *(const struct profile_frame *)intern_get(&p->frames, id, NULL);
}

struct profile_task profile_task(const struct profile *p, uint32_t id)
{
	if (!id)
		return (struct profile_task) { 0 };
	return *(const struct profile_task *)intern_get(&p->tasks, id, NULL);
}

struct profile_process profile_process(const struct profile *p, uint32_t id)
{
	const struct process_key *key = intern_get(&p->processes, id, NULL);
	const struct process_state *state = (const struct process_state *)p->process_states.items + (id - 1);
	return (struct profile_process) {
		.start_time = key->start_time, .samples = state->samples, .pid = key->pid, .comm = state->comm
	};
}

const uint32_t *profile_stack(const struct profile *p, uint32_t id, size_t *ret_n)
{
	size_t bytes;
	const uint32_t *frames = intern_get(&p->stacks, id, &bytes);
	*ret_n = bytes / sizeof *frames;
	return frames;
}

struct profile_sample profile_sample(const struct profile *p, uint32_t id)
{
	const struct sample_key *key = intern_get(&p->samples, id, NULL);
	return (struct profile_sample) { .task = key->task,
		.stack = key->stack,
		.outcome = (enum counter)key->outcome,
		.count = ((const uint64_t *)p->counts.items)[id - 1] };
}
