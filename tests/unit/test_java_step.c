/* From one frame of HotSpot's code to its caller, in a small virtual machine: a compiled method, an interpreter, stubs, and a stack. */
#include "java/java.h"

#include "check.h"
#include "java_image.h"

#include <stdlib.h>
#include <string.h>

enum {
	BASE = 0x100000,
	ALL = 0x20000,
	STACK = BASE,
	METHOD = BASE + 0x2000,
	NAMES = BASE + 0x3000,
	MAP = BASE + 0x4000,
	HEAP = BASE + 0x8000,
	HEAP_END = BASE + ALL,
	SHIFT = 7,
	SEGMENTS = 32, /* of each blob */
	HEADER = 16,   /* HeapBlock */
	CODE = 1024,   /* from a blob's address to its code */
	CODE_BYTES = 1024,
	FRAME = 6 * 8, /* bytes of the compiled method's */
};

struct machine {
	struct java_image image;
	struct java_vm vm;
	uint64_t compiled, interpreter, stubs; /* blobs */
};

static uint64_t put_blob(struct machine *m, unsigned i, const char *name, uint32_t frame_words)
{
	uint64_t first = i * SEGMENTS, blob = HEAP + (first << SHIFT) + HEADER, at = NAMES + i * 64;
	for (unsigned k = 0; k < SEGMENTS; k++)
		m->image.bytes[MAP - BASE + first + k] = (uint8_t)k;
	java_image_put(&m->image, at, name, strlen(name) + 1);
	java_image_word(&m->image, blob + 96, at);
	java_image_half(&m->image, blob + 12, (SEGMENTS << SHIFT) - HEADER);
	java_image_half(&m->image, blob + 20, 64);
	java_image_half(&m->image, blob + 28, frame_words);
	java_image_word(&m->image, blob + 32, blob + CODE);
	java_image_word(&m->image, blob + 40, blob + CODE + CODE_BYTES);
	memset(m->image.bytes + (blob + CODE - BASE), 0x90, CODE_BYTES);
	return blob;
}

static void put_method(struct machine *m)
{
	uint64_t constant = METHOD + 0x100, pool = METHOD + 0x200, klass = METHOD + 0x300, names = METHOD + 0x400;
	java_image_word(&m->image, METHOD + 8, constant);
	java_image_word(&m->image, constant + 8, pool);
	java_image_half(&m->image, constant + 32, 100 | 1 << 16); /* 100 bytes of code; name 1 */
	java_image_word(&m->image, pool + 24, klass);
	java_image_half(&m->image, pool + 60, 4);
	java_image_word(&m->image, pool + 72 + 8, names);
	java_image_word(&m->image, klass + 24, names + 64);
	java_image_put(&m->image, names + 4, "\3\0run", 5);
	java_image_put(&m->image, names + 64 + 4, "\3\0a/B", 5);
}

static void make(struct machine *m)
{
	memset(m, 0, sizeof *m);
	m->image = (struct java_image) { BASE, calloc(1, ALL), ALL };
	assert_non_null(m->image.bytes);
	m->vm.layout = java_layout_as(17);
	m->vm.memory = java_image_memory(&m->image);
	m->vm.heaps = (struct java_heaps) { 1, { { HEAP, HEAP_END, MAP, SHIFT } } };
	m->compiled = put_blob(m, 0, "nmethod", FRAME / 8);
	m->interpreter = put_blob(m, 1, "Interpreter", 0);
	m->stubs = put_blob(m, 2, "StubRoutines (1)", 0);
	m->vm.call_stub_return = m->stubs + CODE + 100;
	uint64_t b = m->compiled, code = b + CODE, tables = CODE + CODE_BYTES;
	java_image_word(&m->image, b + 112, METHOD);
	java_image_word(&m->image, b + 224, code);
	java_image_word(&m->image, b + 128, code + 900); /* where deoptimised frames go on */
	java_image_half(&m->image, b + 300, 16);
	java_image_half(&m->image, b + 260, (uint32_t)tables);
	java_image_word(&m->image, b + 120, b + tables + 8);
	java_image_half(&m->image, b + 268, (uint32_t)tables + 16);
	java_image_half(&m->image, b + 272, (uint32_t)tables + 16);
	java_image_put(&m->image, code, "\x55\x48\x83\xec\x20", 5); /* push %rbp; sub $0x20, %rsp */
	put_method(m);
}

static int read_stack(void *context, uint64_t address, void *buf, size_t n)
{
	return address >= STACK && address < STACK + 0x2000 ? java_image_read(context, address, buf, n) : -EFAULT;
}

static int no_code(void *context, uint64_t pc, struct unwind_code *ret)
{
	(void)context;
	(void)pc;
	(void)ret;
	return -ENOENT;
}

struct stepped {
	int r;
	struct regs regs;
	struct java_note note;
	enum java_trouble trouble;
};

static struct stepped step(struct machine *m, bool exact, uint64_t pc, uint64_t sp, uint64_t fp)
{
	const struct unwind_env env = { &m->image, read_stack, no_code, NULL };
	struct stepped s = { .regs = { .known = (1ULL << REG_COUNT) - 1 } };
	s.regs.r[REG_PC] = pc;
	s.regs.r[REG_SP] = sp;
	s.regs.r[REG_FP] = fp;
	struct unwind_made made = { .regs = &s.regs, .exact = exact };
	s.r = java_step(&m->vm, &env, &made, &s.note, &s.trouble);
	return s;
}

static void assert_caller(const struct stepped *s, uint64_t pc, uint64_t sp, uint64_t fp)
{
	assert_int_equal(s->r, UNWIND_CALLER);
	assert_int_equal(s->regs.r[REG_PC], pc);
	assert_int_equal(s->regs.r[REG_SP], sp);
	assert_int_equal(s->regs.r[REG_FP], fp);
	assert_false(regs_known(&s->regs, DWARF_RBX));
}

static void finish(struct machine *m)
{
	java_vm_forget(&m->vm);
	free(m->image.bytes);
}

static void a_compiled_frame_has_its_size(void **state)
{
	struct machine m;
	(void)state;
	make(&m);
	java_image_word(&m.image, STACK + FRAME - 8, 0x1111);
	java_image_word(&m.image, STACK + FRAME - 16, 0x2222);
	struct stepped s = step(&m, false, m.compiled + CODE + 200, STACK, 7);
	assert_caller(&s, 0x1111, STACK + FRAME, 0x2222);
	assert_int_equal(s.note.kind, JAVA_NOTE_COMPILED);
	finish(&m);
}

/* In the first instructions it is not there yet. */
static void a_compiled_frame_that_is_being_made(void **state)
{
	struct machine m;
	(void)state;
	make(&m);
	java_image_word(&m.image, STACK, 0x1111);
	java_image_word(&m.image, STACK + 8, 0x3333);
	struct stepped s = step(&m, true, m.compiled + CODE, STACK, 7);
	assert_caller(&s, 0x1111, STACK + 8, 7);
	s = step(&m, true, m.compiled + CODE + 1, STACK, 7);
	assert_caller(&s, 0x3333, STACK + 16, 0x1111);
	finish(&m);
}

/* A caller that is to be interpreted is returned to elsewhere, and its frame says where it really called. */
static void a_deoptimised_frame_is_where_it_was(void **state)
{
	struct machine m;
	(void)state;
	make(&m);
	java_image_word(&m.image, STACK + 16, m.compiled + CODE + 300);
	java_image_word(&m.image, STACK + FRAME - 8, 0x1111);
	struct stepped s = step(&m, false, m.compiled + CODE + 900, STACK, 7);
	assert_int_equal(s.r, UNWIND_CALLER);
	assert_int_equal(s.note.pc, m.compiled + CODE + 300);
	finish(&m);
}

/* The caller is at 0x1111, with 0x2222 for its frame pointer and what is 0x40 above this one for its stack pointer. */
static void put_interpreted(struct machine *m, uint64_t fp, uint64_t at, uint64_t bytecode)
{
	java_image_word(&m->image, fp, 0x2222);
	java_image_word(&m->image, fp + 8, 0x1111);
	java_image_word(&m->image, fp - 8, fp + 0x40);
	java_image_word(&m->image, fp - 24, METHOD);
	java_image_word(&m->image, at, bytecode);
}

static void an_interpreted_frame_is_at_its_record(void **state)
{
	struct machine m;
	uint64_t fp = STACK + 0x100, codes = METHOD + 0x100 + 48;
	(void)state;
	make(&m);
	put_interpreted(&m, fp, fp - 64, codes + 17);
	struct stepped s = step(&m, false, m.interpreter + CODE + 200, STACK, fp);
	assert_caller(&s, 0x1111, fp + 0x40, 0x2222);
	assert_int_equal(s.note.kind, JAVA_NOTE_INTERPRETED);
	assert_int_equal(s.note.method, METHOD);
	assert_int_equal(s.note.bci, 17);
	/* a bytecode that is none of the method's */
	java_image_word(&m.image, fp - 64, codes + 100);
	s = step(&m, false, m.interpreter + CODE + 200, STACK, fp);
	assert_int_not_equal(s.r, UNWIND_CALLER);
	assert_int_equal(s.trouble, JAVA_TROUBLE_UNDECIDED);
	/* a frame pointer that is none */
	s = step(&m, false, m.interpreter + CODE + 200, STACK, STACK - 8);
	assert_int_not_equal(s.r, UNWIND_CALLER);
	finish(&m);
}

/* Its innermost frame begins with the bytecode, and nothing below that may be read: it was, and the stack ended there. */
static void an_interpreted_frame_of_8_ends_with_its_bytecode(void **state)
{
	struct machine m;
	uint64_t fp = STACK + 56, codes = METHOD + 0x100 + 48;
	(void)state;
	make(&m);
	m.vm.layout.major = JAVA_8;
	m.vm.layout.bytecode_at = java_layout_as(JAVA_8).bytecode_at;
	put_interpreted(&m, fp, fp - 56, codes + 17);
	struct stepped s = step(&m, true, m.interpreter + CODE + 200, STACK, fp);
	assert_caller(&s, 0x1111, fp + 0x40, 0x2222);
	assert_int_equal(s.note.bci, 17);
	/* while garbage is collected, its index */
	java_image_word(&m.image, fp - 56, 18);
	s = step(&m, false, m.interpreter + CODE + 200, STACK, fp);
	assert_caller(&s, 0x1111, fp + 0x40, 0x2222);
	assert_int_equal(s.note.bci, 18);
	finish(&m);
}

/* Native code called here: its registers come back, so that its tables can be followed. */
static void the_call_stub_gives_the_callers_registers_back(void **state)
{
	struct machine m;
	uint64_t fp = STACK + 0x100;
	(void)state;
	make(&m);
	java_image_word(&m.image, fp, 0x2222);
	java_image_word(&m.image, fp + 8, 0x1111);
	for (uint64_t below = 7; below <= 11; below++)
		java_image_word(&m.image, fp - below * 8, below);
	struct stepped s = step(&m, false, m.vm.call_stub_return, STACK, fp);
	assert_int_equal(s.r, UNWIND_CALLER);
	assert_int_equal(s.note.kind, JAVA_NOTE_CALL_STUB);
	assert_int_equal(s.regs.r[DWARF_RBX], 7);
	assert_int_equal(s.regs.r[DWARF_R15], 11);
	assert_int_equal(s.regs.r[REG_PC], 0x1111);
	assert_int_equal(s.regs.r[REG_SP], fp + 16);
	finish(&m);
}

static void code_that_is_no_longer_there_is_torn(void **state)
{
	struct machine m;
	(void)state;
	make(&m);
	memset(m.image.bytes + (MAP - BASE), 0xff, SEGMENTS);
	struct stepped s = step(&m, false, m.compiled + CODE + 200, STACK, 7);
	assert_int_not_equal(s.r, UNWIND_CALLER);
	assert_int_equal(s.trouble, JAVA_TROUBLE_TORN);
	finish(&m);
}

/* An address that is another method's by now is noticed by the compile id, when it is looked at again. */
static void code_that_has_been_replaced_is_noticed(void **state)
{
	struct machine m;
	struct java_known *known;
	(void)state;
	make(&m);
	m.vm.now_ns = 1;
	assert_int_equal(java_vm_blob(&m.vm, m.compiled + CODE, &known), 0);
	assert_int_equal(known->blob.compile_id, 0);
	java_image_half(&m.image, m.compiled + 304, 78);
	m.vm.now_ns += (JAVA_LOOK_AGAIN_MS + 1) * 1000000LL;
	assert_int_equal(java_vm_blob(&m.vm, m.compiled + CODE, &known), 0);
	assert_int_equal(known->blob.compile_id, 78);
	assert_int_equal(m.vm.torn, 1);
	finish(&m);
}

/* What a sample of one compiled frame counts as. `then`: how many collections there had been; the process has none. */
static enum counter outcome_of(const uint8_t *then)
{
	static struct target target = { .pid = 1234, .mem = -1, .maps_fd = -1, .perf_map = -1 };
	struct machine m;
	make(&m);
	struct java_process p = { .vm = m.vm, .ready = true };
	struct regs regs = { .known = (1ULL << REG_COUNT) - 1 };
	const struct unwind_env env = { &m.image, read_stack, no_code, NULL };
	const struct unwind_frame frame = { .pc = m.compiled + CODE + 200, .sp = STACK, .made = true };
	const struct native_stack stack = { &target, &frame, 1, true, NULL };
	struct unwind_made made = { .regs = &regs };
	uint32_t ids[8];
	struct mixed out = { ids, 0, 8, COUNTER_complete };
	const char *words = NULL;
	regs.r[REG_PC] = frame.pc;
	regs.r[REG_SP] = STACK;
	atomic_store(&p.collections, STACK + 0x800);
	atomic_store(&target.runtime, &p);
	assert_int_equal(java_step_made(&target, &env, &made), UNWIND_CALLER);
	assert_int_equal(java_mix(&stack, then, then ? JAVA_CAPTURE_BYTES : 0, &out, &words), COUNTER_complete);
	atomic_store(&target.runtime, NULL);
	m.vm = p.vm;
	finish(&m);
	return out.outcome;
}

/* Two compiled frames and an interpreted one that are in the heap, between the barrier and the carrier. */
static void frames_in_the_heap_are_walked_where_they_were_copied(void **state)
{
	enum { AT = 0x600000, WORDS = 40 };
	struct machine m;
	(void)state;
	make(&m);
	uint64_t barrier = put_blob(&m, 3, "StubRoutines (continuation stubs)", 0) + CODE + 50;
	uint64_t pc = m.compiled + CODE + 200, interpreted = m.interpreter + CODE + 300,
		 carrier = m.compiled + CODE + 400;
	uint8_t captured[JAVA_CAPTURE_BYTES + sizeof(struct java_chunk) + WORDS * 8] = { 0 };
	struct java_chunk chunk = { .behind = STACK + 0x108,
		.first = AT + 16,
		.bottom = AT + 34 * 8,
		.bytes = WORDS * 8,
		.continuation = 0x700000 };
	uint64_t words[WORDS] = { 0 };
	/* The carrier's frame, as it is found behind the ContinuationEntry. */
	java_image_word(&m.image, STACK + 0x108 + 8, 0x700000);
	java_image_word(&m.image, STACK + 0x108 + 3 * 8, 1);
	java_image_word(&m.image, STACK + 0x108 + 7 * 8, STACK + 0x800);
	java_image_put(&m.image, carrier - 5, "\xe8\0\0\0\0", 5);
	java_image_word(&m.image, STACK + 0x108 + 8 * 8, carrier);
	words[1] = pc; /* the innermost; its frame is 6 words */
	words[2 + 4] = 26 - 6;
	words[2 + 5] = interpreted; /* its record is at the 26th word, that far from where that is kept */
	words[26 - 3] = METHOD;
	words[26 - 8] = METHOD + 0x100 + 48 + 7;
	words[26 - 1] = 28 - 26;
	words[27] = pc;
	words[28 + 4] = 0;
	words[28 + 5] = barrier;
	memcpy(captured + JAVA_CAPTURE_BYTES, &chunk, sizeof chunk);
	memcpy(captured + JAVA_CAPTURE_BYTES + sizeof chunk, words, sizeof words);
	const struct unwind_env env = { &m.image, read_stack, no_code, NULL };
	struct stepped s = { .regs = { .known = (1ULL << REG_COUNT) - 1 } };
	struct unwind_made made = { .regs = &s.regs, .captured = captured, .captured_bytes = sizeof captured };
	s.regs.r[REG_PC] = barrier;
	s.regs.r[REG_SP] = STACK + 0x108;
	m.vm.sample = 1;
	s.r = java_step(&m.vm, &env, &made, &s.note, &s.trouble);
	assert_caller(&s, pc, AT + 16, 0);
	assert_true(made.switched);
	assert_int_equal(s.note.kind, JAVA_NOTE_FETCHED);
	s.r = java_step(&m.vm, &env, &made, &s.note, &s.trouble);
	assert_caller(&s, interpreted, AT + 8 * 8, AT + 26 * 8);
	assert_false(made.switched);
	s.r = java_step(&m.vm, &env, &made, &s.note, &s.trouble);
	assert_int_equal(s.note.kind, JAVA_NOTE_INTERPRETED);
	assert_int_equal(s.note.bci, 7);
	assert_caller(&s, pc, AT + 28 * 8, 0);
	s.r = java_step(&m.vm, &env, &made, &s.note, &s.trouble);
	assert_caller(&s, carrier, STACK + 0x108 + 9 * 8, STACK + 0x800);
	assert_true(made.switched);
	assert_false(s.note.cut);
	/* All of it again, with less of the last frame: the carrier is found, and that something lacks is known. */
	chunk.bytes = 30 * 8;
	memcpy(captured + JAVA_CAPTURE_BYTES, &chunk, sizeof chunk);
	s.regs.r[REG_PC] = barrier;
	s.regs.r[REG_SP] = STACK + 0x108;
	for (int i = 0; i < 4; i++)
		s.r = java_step(&m.vm, &env, &made, &s.note, &s.trouble);
	assert_caller(&s, carrier, STACK + 0x108 + 9 * 8, STACK + 0x800);
	assert_true(made.switched);
	assert_true(s.note.cut);
	/* What was copied is of another continuation. */
	chunk.continuation++;
	memcpy(captured + JAVA_CAPTURE_BYTES, &chunk, sizeof chunk);
	s.regs.r[REG_PC] = barrier;
	s.regs.r[REG_SP] = STACK + 0x108;
	s.r = java_step(&m.vm, &env, &made, &s.note, &s.trouble);
	assert_caller(&s, carrier, STACK + 0x108 + 9 * 8, STACK + 0x800);
	assert_int_equal(s.note.kind, JAVA_NOTE_BARRIER);
	finish(&m);
}

/* The sample is from long before its names are read: they are its own as long as nothing was collected in between. */
static void a_name_read_behind_a_collection_is_late(void **state)
{
	static const uint8_t none[JAVA_CAPTURE_BYTES], other[JAVA_CAPTURE_BYTES] = { 1 };
	(void)state;
	assert_int_equal(outcome_of(none), COUNTER_complete);
	assert_int_equal(outcome_of(other), COUNTER_late);
	assert_int_equal(outcome_of(NULL), COUNTER_late);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_compiled_frame_has_its_size),
		cmocka_unit_test(a_compiled_frame_that_is_being_made),
		cmocka_unit_test(a_deoptimised_frame_is_where_it_was),
		cmocka_unit_test(an_interpreted_frame_is_at_its_record),
		cmocka_unit_test(an_interpreted_frame_of_8_ends_with_its_bytecode),
		cmocka_unit_test(the_call_stub_gives_the_callers_registers_back),
		cmocka_unit_test(code_that_is_no_longer_there_is_torn),
		cmocka_unit_test(code_that_has_been_replaced_is_noticed),
		cmocka_unit_test(frames_in_the_heap_are_walked_where_they_were_copied),
		cmocka_unit_test(a_name_read_behind_a_collection_is_late),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
