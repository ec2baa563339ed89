#include "java/java.h"

#include "common/clock.h"
#include "kit/collect.h"

#include <errno.h>
#include <string.h>

/* Without the number of collections: what was first read longer than this behind the sample may have taken another's place. */
enum { LATE_NS = 5 * 1000 * 1000 };

/* Of the walk at hand, by the frame's place: the unwinder is followed by `java_mix` before the next sample is walked. */
static struct java_note notes[UNWIND_MAX_FRAMES];

bool java_made(struct target *t, uint64_t pc)
{
	const struct java_process *p = atomic_load(&t->runtime);
	return p && p->ready && java_heap_of(&p->vm.heaps, pc);
}

/* While a virtual thread stops, what it has on the stack is in the heap, too: from the caller of the native method on that puts it there. */
static bool is_being_frozen(
	struct java_process *p, const struct java_note *note, size_t index, uint64_t pc, uint64_t next)
{
	if (!index || index <= p->last_made)
		p->native_caller = p->native_frame = 0;
	p->last_made = index;
	if (note->kind == JAVA_NOTE_COMPILED && note->known->blob.kind == JAVA_BLOB_NATIVE)
		p->native_frame = index + 1;
	else if (p->native_frame && p->native_frame == index)
		p->native_caller = pc;
	return note->kind == JAVA_NOTE_FETCHED && next == p->native_caller;
}

int java_step_made(struct target *t, const struct unwind_env *env, struct unwind_made *made)
{
	struct java_process *p = atomic_load(&t->runtime);
	if (!p || made->index >= UNWIND_MAX_FRAMES)
		return UNWIND_NO_RULE;
	struct java_note *note = &notes[made->index];
	uint64_t pc = made->regs->r[REG_PC];
	p->vm.now_ns = monotonic_ns();
	int r = java_step(&p->vm, env, made, note, &p->trouble);
	if (is_being_frozen(p, note, made->index, pc, made->regs->r[REG_PC])) {
		*made->regs = p->vm.fetched.carrier;
		p->vm.fetched.bytes = NULL;
		note->kind = JAVA_NOTE_BARRIER;
	}
	return r;
}

struct job {
	struct java_process *process;
	const struct native_stack *stack;
	struct mixed *out;
	size_t limit;
	const uint8_t *collections; /* how many there had been when the sample was taken; NULL: not known */
	bool torn, unreadable, late;
	bool lost;  /* the callers of the frame at hand are not to be believed */
	bool young; /* a method of the frame at hand is not known for long */
};

static bool put(struct job *job, uint32_t frame)
{
	if (job->out->n >= job->limit)
		return false;
	job->out->frames[job->out->n++] = frame;
	return true;
}

static bool put_stub(struct job *job, const struct java_note *note)
{
	struct java_known *known = note->known;
	struct collect_source once = { 0 }; /* a routine's name is one of several in its blob */
	const char *routine =
		note->kind == JAVA_NOTE_CALL_STUB ? "call_stub" : java_vm_routine(&job->process->vm, note->entry);
	const char *name = routine ? routine : known->name;
	return put(job, collect_source_frame(FRAME_JIT, routine ? &once : &known->ids, name, "", 0, 0));
}

/* Whether what was read for the first time at `read_ns` may have taken another's place since the sample was taken: only a collection of
 * garbage frees methods and, but for a few that nobody runs, the code that was compiled of them. */
static bool is_late(const struct job *job, int64_t read_ns)
{
	struct java_process *p = job->process;
	int64_t behind_ns = read_ns - job->stack->target->taken_ns;
	uint8_t now[JAVA_CAPTURE_BYTES];
	if (behind_ns <= 0)
		return false;
	if (!job->collections)
		return behind_ns > LATE_NS;
	return java_read(&p->vm.memory, atomic_load(&p->collections), now, sizeof now) < 0 ||
	       memcmp(now, job->collections, sizeof now) != 0;
}

static bool put_late(struct job *job)
{
	job->late = true;
	return put(job, collect_synthetic_frame("[java: a method that was looked at too late]"));
}

static bool put_method(struct job *job, enum frame_kind kind, uint64_t address, int32_t bci)
{
	struct java_vm *vm = &job->process->vm;
	struct java_named *named;
	int r = java_vm_method(vm, address, &named);
	if (r) {
		*(r == -EINVAL || r == -ESTALE ? &job->torn : &job->unreadable) = true;
		return put(job, collect_synthetic_frame("[java: a method that cannot be read]"));
	}
	const struct java_method *m = &named->method;
	if (is_late(job, named->read_ns))
		return put_late(job);
	job->young |= java_vm_is_young(vm, named);
	/* Before the first bytecode is where the method begins, as HotSpot itself has it. */
	uint32_t lowest,
		line = m->lines ? java_line(m->lines, m->nlines, vm->layout.excluded, bci < 0 ? 0 : bci, &lowest) : 0;
	return put(job, collect_source_frame(kind, &named->ids, m->name, m->file, line, m->first_line));
}

/* One frame of compiled code: the methods that were inlined where it is, innermost first. */
static bool put_compiled(struct job *job, const struct java_note *note, bool called_java)
{
	static struct java_scope scopes[JAVA_INLINED_MAX];
	struct java_known *known = note->known;
	const struct java_blob *b = &known->blob;
	bool c1 = b->level >= 1 && b->level <= 3;
	enum frame_kind outermost = c1 ? FRAME_JAVA_C1 : FRAME_JAVA_JIT;
	int n = b->kind == JAVA_BLOB_NATIVE ? 0 : java_vm_scopes(&job->process->vm, known);
	if (!n && b->kind != JAVA_BLOB_NATIVE && note->pc >= b->code)
		n = java_scopes_at(
			&job->process->vm.layout, &known->scopes, (uint32_t)(note->pc - b->code), called_java, scopes);
	/* The return address of each Java call is listed: where it is not, other code is there by now than that which called. */
	if ((n < 0 && n != -ENOENT) || (!n && called_java && known->tables)) {
		job->torn = job->lost = true;
		return true;
	}
	if (is_late(job, known->read_ns))
		return put_late(job);
	size_t before = job->out->n;
	job->young = false;
	bool fits = n > 0 || put_method(job, outermost, b->method, -1);
	for (int i = 0; i < n && fits; i++)
		fits = put_method(job, i + 1 < n ? FRAME_JAVA_INLINED : outermost, scopes[i].method, scopes[i].bci);
	/* Compiled code goes with the classes that it is of: if it has gone since, these may be names of others. */
	if (!job->young || !java_vm_still(&job->process->vm, known))
		return fits;
	job->torn = job->lost = true;
	job->out->n = before;
	return true;
}

static const char in_heap[] = "[java: callers of a virtual thread that are in the heap]";

static bool put_frame(struct job *job, size_t i)
{
	const struct java_note *note = &notes[i], *callee = i ? &notes[i - 1] : NULL;
	bool called_java = callee && job->stack->frames[i - 1].made && !note->exact &&
			   (callee->kind == JAVA_NOTE_COMPILED || callee->kind == JAVA_NOTE_INTERPRETED ||
				   callee->kind == JAVA_NOTE_FETCHED);
	if (!job->stack->frames[i].made)
		return put(job, sample_native_frame(job->stack->target, &job->stack->frames[i]));
	switch (note->kind) {
	case JAVA_NOTE_COMPILED:
		return put_compiled(job, note, called_java);
	case JAVA_NOTE_INTERPRETED:
		return put_method(job, FRAME_JAVA_INTERPRETED, note->method, note->bci);
	case JAVA_NOTE_STUB:
	case JAVA_NOTE_CALL_STUB:
		return put_stub(job, note);
	case JAVA_NOTE_BARRIER:
		return put(job, collect_synthetic_frame(in_heap));
	case JAVA_NOTE_FETCHED:
		return true;
	default:
		return put(job, collect_synthetic_frame("[java: code that is not known]"));
	}
}

/* What is to be said of a stack that ends too early, and what it counts as; NULL: what the walk has said. */
static const char *ending_of(const struct job *job, enum counter *ret)
{
	const struct native_stack *s = job->stack;
	bool in_java = !s->whole && s->n && s->frames[s->n - 1].made;
	enum java_trouble trouble = in_java ? job->process->trouble : JAVA_TROUBLE_NONE;
	bool failed = in_java || job->torn || job->unreadable;
	if ((job->late && s->whole) || (failed && is_late(job, monotonic_ns()))) {
		*ret = COUNTER_late;
		return "[read too late]";
	}
	if (trouble == JAVA_TROUBLE_TORN || job->torn) {
		*ret = COUNTER_torn;
		return "[java: code that is no longer there]";
	}
	if (trouble == JAVA_TROUBLE_UNREADABLE || job->unreadable) {
		*ret = COUNTER_unreadable;
		return "[java: not readable]";
	}
	return NULL;
}

static void begin_next(struct java_process *p)
{
	p->reads = 0;
	p->vm.sample++;
}

enum counter java_mix(
	const struct native_stack *stack, const uint8_t *captured, size_t n, struct mixed *out, const char **ret_words)
{
	struct job job = { atomic_load(&stack->target->runtime), stack, out, .limit = out->n + JAVA_FRAMES_MAX };
	job.collections = n >= JAVA_CAPTURE_BYTES ? captured : NULL;
	(void)ret_words;
	if (!job.process)
		return COUNTER_unreadable;
	if (job.limit > out->max - 1)
		job.limit = out->max - 1;
	for (size_t i = 0; i < stack->n && !job.lost; i++)
		if (!put_frame(&job, i) ||
			(stack->frames[i].made && notes[i].cut && !put(&job, collect_synthetic_frame(in_heap)))) {
			begin_next(job.process);
			out->frames[out->n++] = collect_synthetic_frame("[deeper than was read]");
			out->outcome = COUNTER_truncated;
			return COUNTER_complete;
		}
	begin_next(job.process);
	const char *words = ending_of(&job, &out->outcome);
	/* Memory that is new, or a file that was not to be had: the next time it may be known. */
	if (!stack->whole || words)
		(void)target_refresh(stack->target, monotonic_ns(), false);
	if (words || stack->ending)
		out->frames[out->n++] = collect_synthetic_frame(words ? words : stack->ending);
	return COUNTER_complete;
}
