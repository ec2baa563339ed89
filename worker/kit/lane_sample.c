#include "kit/lane_worker.h"

#include "common/clock.h"
#include "kit/collect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	STACK_FRAMES_MAX = STREAM_MAX_FRAMES, /* kernel, user, and up to three that say something about them */
	SWITCH_MAX = 64 << 10, /* bytes from a stored stack pointer to what the walk first needs above it */
	DEEPEST_SAMPLES = 64,  /* how long a deep stack is remembered */
};

/* The stack as it stood when it was sampled, and what is known of the code around it. */
struct context {
	const struct runtime *runtime;
	struct target *target;
	uint32_t stack_max;
	uint64_t sp;
	const uint8_t *stack, *other;
	size_t stack_bytes, other_bytes;
	uint64_t other_at;
	int64_t time;
	bool waiting; /* a file was asked for */
	bool misfit;  /* an address outside the known maps */
	uint64_t deepest, missed;
	const uint8_t
		*carried; /* what the words of the stack are to be compared with; NULL: they are known to be the same */
	size_t carried_bytes;
	const uint8_t *captured; /* by the runtime, in the window that the stack was read in; NULL: nothing */
	size_t captured_bytes;
	bool moved; /* one was not */
};

/* Instructions are looked at too (a signal trampoline without tables): they are in the file. */
static bool read_code(const struct context *c, uint64_t address, void *buf, size_t n)
{
	const struct code_range *range = c->target ? target_code(c->target, address) : NULL;
	struct module *m = range ? range->module : NULL;
	return m && m->state == MODULE_READY && n <= range->end - address &&
	       !elf_read(&m->elf, buf, n, address - range->start + range->offset);
}

static int read_memory(void *context, uint64_t address, void *buf, size_t n)
{
	struct context *c = context;
	uint64_t offset = address - c->sp, other = address - c->other_at;
	if (other <= c->other_bytes && n <= c->other_bytes - other) {
		memcpy(buf, c->other + other, n);
		return 0;
	}
	if (offset > c->stack_bytes || n > c->stack_bytes - offset) {
		if (read_code(c, address, buf, n))
			return 0;
		c->missed = address;
		return -EFAULT;
	}
	if (n == sizeof(uint64_t)) /* nearly always */
		memcpy(buf, c->stack + offset, sizeof(uint64_t));
	else
		memcpy(buf, c->stack + offset, n);
	if (c->carried && offset + n <= c->carried_bytes && memcmp(buf, c->carried + offset, n))
		c->moved = true;
	if (offset + n > c->deepest)
		c->deepest = offset + n;
	return 0;
}

static int find_code(void *context, uint64_t pc, struct unwind_code *ret)
{
	struct context *c = context;
	if (c->runtime->made && c->target && c->runtime->made(c->target, pc)) {
		*ret = (struct unwind_code) { .vaddr = pc, .made = true };
		return 0;
	}
	const struct code_range *range = c->target ? target_code(c->target, pc) : NULL;
	if (!range) {
		c->misfit = true;
		return -ENOENT;
	}
	struct module *m = range->module;
	if (!m) {
		*ret = (struct unwind_code) { .vaddr = pc };
		return 0;
	}
	module_ask(m, c->target->pid, c->target->start_time, range->start, range->end);
	if (module_pending(m)) {
		c->waiting = true;
		return -ENOENT;
	}
	*ret = (struct unwind_code) {
		.cfi = module_cfi(m), .vaddr = module_vaddr(m, pc - range->start + range->offset), .is_go = m->elf.is_go
	};
	return 0;
}

static int step_made(const struct unwind_env *env, struct unwind_made *made)
{
	const struct context *c = env->context;
	made->captured = c->captured;
	made->captured_bytes = c->captured_bytes;
	return c->runtime->step(c->target, env, made);
}

/* Reads as much of the stack next time as was needed of late; twice that, because stacks grow. A deep one is remembered for one
 * to two rounds of samples. */
static void learn_depth(struct context *c, bool short_of)
{
	struct target *t = c->target;
	uint32_t need = short_of ? c->stack_max : (uint32_t)c->deepest * 2;
	if (need > t->deepest[0])
		t->deepest[0] = need;
	uint32_t want = t->deepest[0] > t->deepest[1] ? t->deepest[0] : t->deepest[1];
	if (t->since_deepest < DEEPEST_SAMPLES && want < TARGET_STACK_FIRST && !t->deepest[1])
		want = TARGET_STACK_FIRST;
	if (++t->since_deepest >= DEEPEST_SAMPLES) {
		t->deepest[1] = t->deepest[0];
		t->deepest[0] = t->since_deepest = 0;
	}
	want = want < TARGET_STACK_MIN ? TARGET_STACK_MIN : want > c->stack_max ? c->stack_max : want;
	atomic_store(&t->want, (want + 4095) & ~4095U);
}

/* The walk needed memory that is not in what was read. The word of the stack that leads there most closely is where the
 * next window looks for the other stack: a saved stack pointer in a signal frame, a saved frame pointer on Go's system
 * stack. */
static void learn_switch(struct context *c, uint64_t range)
{
	struct target *t = c->target;
	uint64_t slot = 0, distance = SWITCH_MAX;
	for (size_t i = 0; i + 8 <= c->stack_bytes; i += 8) {
		uint64_t word;
		memcpy(&word, c->stack + i, sizeof word);
		if (word - c->sp >= c->stack_bytes && c->missed - word < distance) {
			distance = c->missed - word;
			slot = c->sp + i;
		}
	}
	if (!slot)
		return;
	for (size_t i = 0; i < TARGET_SWITCHES; i++)
		if (atomic_load(&t->switches[i].slot) == slot && atomic_load(&t->switches[i].range) == range)
			return;
	struct stack_switch *s = &t->switches[t->next_switch++ % TARGET_SWITCHES];
	atomic_store(&s->range, range);
	atomic_store(&s->slot, slot);
}

static void learn(struct context *c, const struct window_entry *entry, enum unwind_end end)
{
	bool elsewhere = c->missed && (c->missed < c->sp || c->missed >= entry->end);
	learn_depth(c, end == UNWIND_NO_MEMORY && !elsewhere);
	if (elsewhere)
		learn_switch(c, entry->start);
}

struct ending {
	enum counter outcome;
	const char *frame; /* stands at the root of a stack that is not complete */
};

/* What a window that did not find the sampled stack says; outcome complete: it did find it. */
static struct ending ending_of_window(enum window_status status)
{
	switch (status) {
	case WINDOW_EARLY:
		return (struct ending) { COUNTER_early, "[sampled before its memory was lent]" };
	case WINDOW_LATE:
		return (struct ending) { COUNTER_late, "[read too late]" };
	case WINDOW_MOVED:
		return (struct ending) { COUNTER_moved, "[moved on before it was read]" };
	case WINDOW_UNREADABLE:
		return (struct ending) { COUNTER_unreadable, "[stack not readable]" };
	default:
		return (struct ending) { COUNTER_complete, NULL };
	}
}

static struct ending ending_of(enum window_status status, const struct target *t, enum unwind_end end)
{
	if (end == UNWIND_OUTERMOST)
		return (struct ending) { COUNTER_complete, NULL };
	if (t && t->own)
		return (struct ending) { COUNTER_own, "[Bulkhead: its own memory is not read]" };
	if (t && t->avoided)
		return (struct ending) { COUNTER_unreadable, "[not read: its memory hung a reader]" };
	struct ending ending = ending_of_window(status);
	/* What the sample carries holds though its thread has moved on; it was not for lack of it that the walk ended. */
	bool carried = status == WINDOW_MOVED && (end == UNWIND_NO_RULE || end == UNWIND_NO_CODE);
	if (ending.outcome != COUNTER_complete && !carried)
		return ending;
	if (end == UNWIND_NO_MEMORY || end == UNWIND_TOO_DEEP)
		return (struct ending) { COUNTER_truncated, "[deeper than was read]" };
	return (struct ending) { COUNTER_unwalkable, "[no way to the caller]" };
}

/* The user part. False: wait. */
static bool walk(enum window_status status, const struct lane_sample *s, struct context *c, struct unwind_frame *user,
	size_t *ret_n, enum unwind_end *ret_end)
{
	const struct unwind_env env = { .context = c, .read = read_memory, .code = find_code, .step = step_made };
	for (int tries = 0; tries < 2; tries++) {
		struct regs regs = { .known = (1ULL << REG_COUNT) - 1 };
		memcpy(regs.r, s->regs, sizeof regs.r);
		c->misfit = c->waiting = false;
		c->deepest = c->missed = 0;
		*ret_n = unwind(&env, &regs, user, UNWIND_MAX_FRAMES, ret_end);
		if (c->waiting)
			return false;
		/* A stack that is new is read next time; for code that no event told of, the walk is tried once more. */
		if (c->target && status == WINDOW_UNREADABLE)
			(void)target_refresh(c->target, c->time, false);
		if (*ret_end == UNWIND_OUTERMOST || !c->misfit || !c->target ||
			!target_refresh(c->target, c->time, true))
			return true;
	}
	return true;
}

/* Everything about one sample of which the size is not known beforehand; static: one thread, and 30 KiB. */
static struct unwind_frame user[UNWIND_MAX_FRAMES];
static uint32_t frames[STACK_FRAMES_MAX];

/* The user part, from what was read in the window if that holds, else from what the sample carries. False: wait. */
static bool walk_user(const struct window_entry *entry, const struct lane_sample *s, const uint8_t *carried,
	struct context *c, size_t *ret_n, enum unwind_end *ret_end, enum window_status *status)
{
	if (*status == WINDOW_STILL || *status == WINDOW_WRITTEN) {
		c->stack = window_stack(entry);
		c->stack_bytes = entry->stack_bytes;
		c->other = window_other(entry);
		c->other_bytes = entry->other_bytes;
		c->other_at = entry->other_at;
		c->carried = *status == WINDOW_WRITTEN ? carried : NULL;
		c->carried_bytes = s->stack_bytes;
		c->captured = entry->captured_bytes ? window_captured(entry) : NULL;
		c->captured_bytes = entry->captured_bytes;
		if (!walk(*status, s, c, user, ret_n, ret_end))
			return false;
		if (!c->moved) {
			learn(c, entry, *ret_end);
			return true;
		}
		*status = WINDOW_MOVED;
	}
	c->stack = carried;
	c->stack_bytes = s->stack_bytes;
	c->other_bytes = 0;
	c->carried = c->captured = NULL;
	return walk(*status, s, c, user, ret_n, ret_end);
}

uint32_t sample_stack_max(const struct runtime *runtime)
{
	return runtime->stack_max ? runtime->stack_max : TARGET_STACK_MAX;
}

uint32_t sample_native_frame(struct target *t, const struct unwind_frame *frame)
{
	uint64_t address = frame->exact ? frame->pc : frame->pc - 1;
	return collect_user_frame(t, t ? target_code(t, address) : NULL, address);
}

/* The runtime's frames among the native ones, where its structures were read together with the stack (else NULL). What it rejects leaves the native
 * stack and one frame that says so. */
static struct ending mix(const struct runtime *runtime, const struct window_entry *captured, enum window_status status,
	const struct native_stack *stack, struct ending ending, struct mixed *out)
{
	const size_t before = out->n;
	const char *words = NULL;
	enum counter outcome = COUNTER_complete;
	bool known = captured || (runtime->knows && stack->target && runtime->knows(stack->target));
	struct target *t = stack->target;
	if (!known && runtime->wants && t && !t->ended_ns && t->taken_ns >= t->image_ns) {
		t->taken = true; /* the sampler says so */
		if (!runtime->wants(t))
			target_take(t, false);
	}
	/* What the sample carries may be the whole native stack, but of the runtime's frames it has none. */
	if (!known && runtime->mix && ending.outcome == COUNTER_complete)
		ending = ending_of_window(status);
	if (!known && runtime->mix && ending.outcome == COUNTER_complete)
		ending = (struct ending) { COUNTER_early, "[sampled before its runtime was known]" };
	if (known) {
		outcome = runtime->mix(stack, captured ? window_captured(captured) : NULL,
			captured ? captured->captured_bytes : 0, out, &words);
		if (outcome == COUNTER_complete)
			return out->outcome == COUNTER_complete ? ending : (struct ending) { out->outcome, NULL };
	}
	out->n = before;
	for (size_t i = 0; i < stack->n; i++)
		out->frames[out->n++] = sample_native_frame(stack->target, &stack->frames[i]);
	if (ending.frame)
		out->frames[out->n++] = collect_synthetic_frame(ending.frame);
	if (words)
		out->frames[out->n++] = collect_synthetic_frame(words);
	return outcome == COUNTER_complete ? ending : (struct ending) { outcome, NULL };
}

/* Its lane's worker is away: native has its samples. */
static const char *words_of_away(unsigned runtime, unsigned away)
{
	static char words[RUNTIME_MAX][2][40];
	const char *name = runtime < RUNTIME_MAX ? runtime_name((enum runtime_id)runtime) : NULL;
	if (!runtime || !name)
		return NULL;
	char *text = words[runtime][away == AWAY_DISABLED];
	if (!*text)
		snprintf(
			text, sizeof words[0][0], "[%s: %s]", name, away == AWAY_DISABLED ? "disabled" : "not running");
	return text;
}

bool sample_take(const struct runtime *runtime, const struct window_entry *entry)
{
	const struct lane_sample *s = (const void *)(entry + 1);
	const uint64_t *kernel = (const void *)(s + 1);
	int64_t now = monotonic_ns();
	struct target *t = s->head.pid ? target_get(s->head.pid) : NULL;
	if (t) {
		t->taken_ns = (int64_t)s->head.time;
		target_sampled(t, now, s->has_user);
	}
	if (t && target_pending(t, now))
		return false;

	size_t nuser = 0;
	enum unwind_end end = UNWIND_NO_RULE; /* of a 32-bit process */
	enum window_status status = entry->status;
	struct context c = { .runtime = runtime,
		.target = t,
		.stack_max = sample_stack_max(runtime),
		.sp = s->regs[REG_SP],
		.time = (int64_t)s->head.time };
	if (s->has_user == LANE_USER_64 &&
		!walk_user(entry, s, (const uint8_t *)(kernel + s->nkernel), &c, &nuser, &end, &status))
		return false;

	struct mixed out = { .frames = frames, .max = STACK_FRAMES_MAX, .outcome = COUNTER_complete };
	for (uint16_t i = 0; i < s->nkernel; i++)
		frames[out.n++] = collect_kernel_frame(kernel[i]);
	struct ending ending = { COUNTER_kernel_thread, NULL };
	if (s->has_user)
		ending = ending_of(status, t, end);
	struct native_stack stack = { t, user, nuser, end == UNWIND_OUTERMOST, ending.frame };
	/* What was captured is of the moment of the stack that was read, not of the one that the sample carries. */
	bool of_now = entry->captured_bytes && (status == WINDOW_STILL || status == WINDOW_WRITTEN);
	ending = mix(runtime, of_now ? entry : NULL, status, &stack, ending, &out);
	const char *away = words_of_away(s->runtime, s->away);
	if (away)
		frames[out.n++] = collect_synthetic_frame(away);
	if (!out.n)
		frames[out.n++] = collect_synthetic_frame("[nothing known]");
	if (t)
		t->outcomes[ending.outcome]++;
	collect_sample(collect_task(t, s->head.pid, s->head.tid), frames, out.n, ending.outcome);
	return true;
}
