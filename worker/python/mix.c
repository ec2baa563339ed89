#include "python/python.h"

#include "common/clock.h"
#include "kit/collect.h"

#include <errno.h>
#include <string.h>

/* What was captured, taken apart. */
struct captured {
	struct python_capture head;
	const uint8_t *frames;
	const uint8_t *pieces, *end;
};

static bool take_apart(struct captured *c, const uint8_t *bytes, size_t n)
{
	if (n < sizeof c->head)
		return false;
	memcpy(&c->head, bytes, sizeof c->head);
	c->frames = bytes + sizeof c->head;
	c->end = bytes + n;
	if (c->head.nframes > PYTHON_FRAMES_MAX ||
		c->head.nframes * sizeof(struct python_frame) > (size_t)(c->end - c->frames))
		return false;
	c->pieces = c->frames + c->head.nframes * sizeof(struct python_frame);
	return true;
}

static struct python_frame frame_at(const struct captured *c, uint32_t i)
{
	struct python_frame frame;
	memcpy(&frame, c->frames + i * sizeof frame, sizeof frame);
	return frame;
}

static int read_captured(void *context, uint64_t address, void *buf, size_t n)
{
	const struct captured *c = context;
	const uint8_t *at = c->pieces;
	for (uint32_t i = 0; i < c->head.npieces && c->end - at >= (ptrdiff_t)sizeof(struct python_piece); i++) {
		struct python_piece piece;
		memcpy(&piece, at, sizeof piece);
		at += sizeof piece;
		if (piece.n > (size_t)(c->end - at))
			return -EFAULT;
		uint64_t offset = address - piece.address;
		if (offset <= piece.n && n <= piece.n - offset) {
			memcpy(buf, at + offset, n);
			return 0;
		}
		at += piece.n;
	}
	return -EFAULT;
}

static bool in_loop(const struct python_process *p, const struct unwind_frame *frame)
{
	uint64_t pc = frame->exact ? frame->pc : frame->pc - 1;
	return pc - p->loop_begin < p->loop_end - p->loop_begin;
}

/* Which native frame each mark lies in, outermost last; its place in `stack`, or stack->n where the native frames do not go so far. */
struct places {
	const struct python_process *process;
	const struct native_stack *stack;
	size_t next; /* native frames in front of it have been passed */
	bool any;    /* a mark has its place */
};

/* The innermost call of the loop has no frame in its first and last instructions, nor in what it calls there. Every other one has: it called
 * on from its frame. */
static bool may_lack_its_mark(struct places *p)
{
	bool may = !p->any;
	p->any = true;
	return may;
}

static bool by_address(struct places *p, uint64_t address, size_t *ret)
{
	const struct native_stack *s = p->stack;
	for (size_t i = p->next; i < s->n; i++) {
		uint64_t end = i + 1 < s->n ? s->frames[i + 1].sp : UINT64_MAX;
		bool last_of_some = i + 1 == s->n && !s->whole; /* how far it goes is not known */
		if (address >= s->frames[i].sp && address < end && !last_of_some) {
			p->any = true;
			*ret = i;
			return true;
		}
		if (in_loop(p->process, &s->frames[i]) && !may_lack_its_mark(p))
			return false;
	}
	*ret = s->n;
	return !s->whole;
}

/* 3.8 and 3.9: the calls of the loop in their order. */
static bool by_count(struct places *p, size_t *ret)
{
	const struct native_stack *s = p->stack;
	for (size_t i = p->next; i < s->n; i++)
		if (in_loop(p->process, &s->frames[i])) {
			p->any = true;
			*ret = i;
			return true;
		}
	*ret = s->n;
	return !s->whole;
}

/* Of calls that are counted: whether the innermost lacks its mark. */
static bool one_lacks_its_mark(const struct places *p, uint32_t marks, size_t *ret)
{
	uint32_t calls = 0;
	for (size_t i = p->stack->n; i-- > 0;)
		if (in_loop(p->process, &p->stack->frames[i])) {
			calls++;
			*ret = i;
		}
	return calls == marks + 1;
}

static bool put(struct mixed *out, uint32_t frame)
{
	if (out->n == out->max)
		return false;
	out->frames[out->n++] = frame;
	return true;
}

/* Native frames up to a place. */
static bool put_native(struct places *p, size_t until, struct mixed *out)
{
	const struct native_stack *s = p->stack;
	for (; p->next < until; p->next++)
		if (!put(out, sample_native_frame(s->target, &s->frames[p->next])))
			return false;
	return true;
}

struct job {
	struct python_process *process;
	const struct native_stack *stack;
	struct captured captured;
	struct mixed *out;
	const char *words;
};

static enum counter refuse(struct job *job, enum counter outcome, const char *words)
{
	job->words = words;
	return outcome;
}

/* One run of frames in the place of the call that executes it. */
static enum counter put_run(struct job *job, uint32_t from, uint32_t to)
{
	const struct python_memory captured = { &job->captured, read_captured },
				   live = { job->stack->target, python_read_live };
	for (uint32_t i = from; i < to; i++) {
		struct python_frame frame = frame_at(&job->captured, i);
		uint32_t id;
		int r = python_codes_frame(job->process->codes, &job->process->layout, &captured, &live, &frame, &id);
		if (r == -ESTALE || r == -EINVAL)
			return refuse(job, COUNTER_torn, "[python: a code object that is no longer there]");
		if (r)
			return refuse(job, COUNTER_unreadable, "[python: not readable]");
		if (!put(job->out, id))
			return refuse(job, COUNTER_truncated, "[python: deeper than was read]");
	}
	return COUNTER_complete;
}

static bool calls_the_loop(const struct job *job)
{
	for (size_t i = 0; i < job->stack->n; i++)
		if (in_loop(job->process, &job->stack->frames[i]))
			return true;
	return false;
}

static uint32_t count_marks(const struct captured *c)
{
	uint32_t n = 0;
	for (uint32_t i = 0; i < c->head.nframes; i++)
		n += !frame_at(c, i).code;
	return n;
}

static enum counter place_all(struct job *job)
{
	const struct native_stack *s = job->stack;
	struct places places = { .process = job->process, .stack = s };
	bool counted = job->process->layout.minor < 10, ended = false;
	uint32_t from = 0;
	size_t innermost = 0;
	if (counted && s->whole && one_lacks_its_mark(&places, count_marks(&job->captured), &innermost)) {
		places.any = true;
		if (!put_native(&places, innermost + 1, job->out))
			return refuse(job, COUNTER_truncated, "[python: deeper than was read]");
	}
	for (uint32_t i = 0; i < job->captured.head.nframes; i++) {
		struct python_frame mark = frame_at(&job->captured, i);
		size_t at;
		if (mark.code)
			continue;
		if (!(counted ? by_count(&places, &at) : by_address(&places, mark.instruction, &at)))
			return refuse(job, COUNTER_skewed, "[python: its frames do not match the native ones]");
		if (!put_native(&places, at, job->out))
			return refuse(job, COUNTER_truncated, "[python: deeper than was read]");
		/* Callers that only Python knows stand behind the word that says where the native ones end. */
		if (at == s->n && !ended) {
			ended = true;
			if (s->ending && !put(job->out, collect_synthetic_frame(s->ending)))
				return refuse(job, COUNTER_truncated, "[python: deeper than was read]");
		}
		enum counter outcome = put_run(job, from, i);
		if (outcome != COUNTER_complete)
			return outcome;
		if (at < s->n) {
			/* a call whose frames are all gone, or not yet there, stands for itself */
			if (i == from && !put_native(&places, at + 1, job->out))
				return refuse(job, COUNTER_truncated, "[python: deeper than was read]");
			places.next = at + 1;
		}
		from = i + 1;
	}
	/* No call of the loop may be left without its mark. */
	for (size_t i = places.next; i < s->n && s->whole; i++)
		if (in_loop(job->process, &s->frames[i]) && !may_lack_its_mark(&places))
			return refuse(job, COUNTER_skewed, "[python: its frames do not match the native ones]");
	if (!put_native(&places, s->n, job->out) ||
		(s->ending && !ended && !put(job->out, collect_synthetic_frame(s->ending))))
		return refuse(job, COUNTER_truncated, "[python: deeper than was read]");
	return COUNTER_complete;
}

enum counter python_mix(
	const struct native_stack *stack, const uint8_t *bytes, size_t n, struct mixed *out, const char **ret_words)
{
	struct target *t = stack->target;
	struct job job = { t ? atomic_load(&t->runtime) : NULL, stack, .out = out };
	enum counter outcome = COUNTER_complete;
	if (!job.process || !take_apart(&job.captured, bytes, n))
		return COUNTER_unreadable;
	python_threads_look(t, job.process);
	switch (job.captured.head.status) {
	case PYTHON_WHOLE:
		outcome = place_all(&job);
		break;
	case PYTHON_NO_THREAD:
		outcome = calls_the_loop(&job)
				  ? refuse(&job, COUNTER_skewed, "[python: its thread state was not found]")
				  : place_all(&job);
		break;
	case PYTHON_TORN:
		outcome = refuse(&job, COUNTER_torn, "[python: its frames changed while they were read]");
		break;
	case PYTHON_TRUNCATED:
		outcome = refuse(&job, COUNTER_truncated, "[python: deeper than was read]");
		break;
	default:
		outcome = refuse(&job, COUNTER_unreadable, "[python: not readable]");
		(void)python_threads_learn(t, job.process); /* they may be more than the window looks at */
	}
	/* Memory that is new: the next time it is known, where the kernel cannot be asked. */
	if (outcome == COUNTER_unreadable)
		(void)target_refresh(t, monotonic_ns(), false);
	*ret_words = job.words;
	return outcome;
}
