/* The frames of a virtual thread that are in the heap: where the objects have them, and what is copied of them. */
#include "java/continuation.h"

#include "check.h"
#include "java_image.h"

#include <stdlib.h>

enum {
	BASE = 0x100000,
	ALL = 0x8000,
	STACK = BASE,
	VARIABLES = BASE + 0x800,
	CLASSES = BASE + 0x1000, /* each has 0x400 */
	OBJECTS = BASE + 0x4000,
	SHIFT = 3,
	CONTINUATION = OBJECTS,
	CHUNK = OBJECTS + 0x100,
	PARENT = OBJECTS + 0x800,
	BARRIER = 0xbeef000,
	TAIL = 20, /* offsets of fields, as the classes say */
	CHUNK_PARENT = 36,
	CHUNK_SIZE = 12,
	CHUNK_SP = 24,
	CHUNK_BOTTOM = 28,
	CHUNK_FRAMES = 48,
	WORD = 8,
	BARRIER_AT = 20, /* words from the stack pointer */
};

struct machine {
	struct java_image image;
	struct java_layout layout;
	struct java_memory memory;
	struct java_chunks chunks;
	uint8_t to[JAVA_CHUNKS_BYTES];
};

static uint32_t narrow(uint64_t address)
{
	return (uint32_t)((address - BASE) >> SHIFT);
}

struct field {
	const char *name;
	uint8_t offset, flags;
};

static void put_symbol(struct machine *m, uint64_t at, const char *text)
{
	uint16_t n = (uint16_t)strlen(text);
	java_image_put(&m->image, at + 4, &n, sizeof n);
	java_image_put(&m->image, at + 6, text, n);
}

/* A class, its constant pool behind it, its symbols, and its list of fields. UNSIGNED5 of a small number is one more than it. */
static void put_class(
	struct machine *m, uint64_t at, const char *name, uint32_t bytes, const struct field *fields, uint8_t n)
{
	uint64_t pool = at + 0x80, list = at + 0x180, symbols = at + 0x200;
	uint8_t numbers[64] = { (uint8_t)(n + 1), 1 };
	uint32_t count = 2;
	java_image_half(&m->image, at + 8, bytes);
	java_image_word(&m->image, at + 24, symbols);
	java_image_word(&m->image, at + 40, list);
	java_image_word(&m->image, at + 48, pool);
	java_image_half(&m->image, pool + 60, n + 1U);
	put_symbol(m, symbols, name);
	for (uint8_t i = 0; i < n; i++) {
		uint64_t symbol = symbols + 0x40 + i * 0x20U;
		put_symbol(m, symbol, fields[i].name);
		java_image_word(&m->image, pool + 72 + (i + 1U) * WORD, symbol);
		const uint8_t row[] = { (uint8_t)(i + 2), 1, (uint8_t)(fields[i].offset + 1), 1,
			(uint8_t)(fields[i].flags + 1) };
		memcpy(numbers + count, row, sizeof row);
		count += sizeof row;
		if (fields[i].flags & 1)
			numbers[count++] = 99; /* its constant */
	}
	java_image_half(&m->image, list, count);
	java_image_put(&m->image, list + 4, numbers, count);
}

static void put_chunk(struct machine *m, uint64_t at, uint64_t parent, uint32_t size, uint32_t sp, uint32_t bottom)
{
	java_image_word(&m->image, at, 1);
	java_image_half(&m->image, at + 8, narrow(CLASSES + 0x800));
	java_image_half(&m->image, at + CHUNK_PARENT, parent ? narrow(parent) : 0);
	java_image_half(&m->image, at + CHUNK_SIZE, size);
	java_image_half(&m->image, at + CHUNK_SP, sp);
	java_image_half(&m->image, at + CHUNK_BOTTOM, bottom);
	for (uint32_t i = 0; i < size; i++)
		java_image_word(&m->image, at + CHUNK_FRAMES + i * WORD, at + i);
}

/* A stack whose frames end in a barrier, and one word of arguments before the ContinuationEntry. */
static void put_stack(struct machine *m)
{
	java_image_word(&m->image, STACK, BARRIER); /* an old one: no entry is behind it */
	java_image_word(&m->image, STACK + BARRIER_AT * WORD, BARRIER);
	java_image_word(&m->image, STACK + (BARRIER_AT + 3) * WORD, CONTINUATION);
	java_image_word(&m->image, STACK + (BARRIER_AT + 5) * WORD, 1);
}

static struct machine *make(void)
{
	static const struct field tail[] = { { "scope", 12, 1 }, { "tail", TAIL, 0 } };
	static const struct field chunk[] = { { "parent", CHUNK_PARENT, 0 }, { "size", CHUNK_SIZE, 0 },
		{ "sp", CHUNK_SP, 0 }, { "bottom", CHUNK_BOTTOM, 0 } };
	struct machine *m = calloc(1, sizeof *m);
	assert_non_null(m);
	m->image = (struct java_image) { BASE, calloc(1, ALL), ALL };
	assert_non_null(m->image.bytes);
	m->memory = java_image_memory(&m->image);
	m->layout = java_layout_as(25);
	static const enum java_field variables[] = { JAVA_class_base, JAVA_class_shift, JAVA_oop_base, JAVA_oop_shift };
	for (size_t i = 0; i < 4; i++) {
		m->layout.of[variables[i]] = (struct java_value) { true, i & 1 ? 4 : WORD, VARIABLES + i * WORD };
		java_image_word(&m->image, VARIABLES + i * WORD, i & 1 ? SHIFT : BASE);
	}
	put_class(m, CLASSES, "java/lang/VirtualThread$VThreadContinuation", 32, NULL, 0);
	put_class(m, CLASSES + 0x400, "jdk/internal/vm/Continuation", 32, tail, 2);
	put_class(m, CLASSES + 0x800, "jdk/internal/vm/StackChunk", CHUNK_FRAMES, chunk, 4);
	java_image_word(&m->image, CLASSES + 32, CLASSES + 0x400); /* its super class */
	java_image_word(&m->image, CONTINUATION, 1);
	java_image_half(&m->image, CONTINUATION + 8, narrow(CLASSES));
	java_image_half(&m->image, CONTINUATION + TAIL, narrow(CHUNK));
	put_chunk(m, CHUNK, PARENT, 20, 5, 18);
	put_chunk(m, PARENT, 0, 10, 4, 10);
	put_stack(m);
	return m;
}

static int learn(struct machine *m)
{
	return java_chunks_learn(&m->chunks, &m->layout, &m->memory, BARRIER, CONTINUATION);
}

static size_t copy(struct machine *m)
{
	return java_chunk_copy(&m->chunks, &m->memory, STACK, m->image.bytes, 32 * WORD, m->to, sizeof m->to);
}

static void finish(struct machine *m)
{
	free(m->image.bytes);
	free(m);
}

static void assert_chunk(const uint8_t *at, uint64_t object, uint32_t sp, uint32_t bottom)
{
	struct java_chunk chunk;
	memcpy(&chunk, at, sizeof chunk);
	assert_int_equal(chunk.behind, STACK + (BARRIER_AT + 1) * WORD);
	assert_int_equal(chunk.first, object + CHUNK_FRAMES + sp * WORD);
	assert_int_equal(chunk.bottom, object + CHUNK_FRAMES + bottom * WORD);
	assert_int_equal(chunk.bytes, (bottom - sp + 2) * WORD);
	assert_int_equal(chunk.continuation, CONTINUATION);
	assert_false(chunk.cut);
	assert_int_equal(java_word(at, sizeof chunk), object + sp - 2); /* from the record below the first frame on */
}

static void chunks_are_copied_from_the_innermost_on(void **state)
{
	struct machine *m = make();
	(void)state;
	assert_int_equal(learn(m), 0);
	const size_t first = sizeof(struct java_chunk) + (18 - 5 + 2) * WORD;
	assert_int_equal(copy(m), first + sizeof(struct java_chunk) + (10 - 4 + 2) * WORD);
	assert_chunk(m->to, CHUNK, 5, 18);
	assert_chunk(m->to + first, PARENT, 4, 10);
	put_chunk(m, CHUNK, PARENT, 20, 20, 20); /* fetched whole */
	assert_int_equal(copy(m), sizeof(struct java_chunk) + (10 - 4 + 2) * WORD);
	assert_chunk(m->to, PARENT, 4, 10);
	finish(m);
}

static void references_may_be_whole_and_headers_compact(void **state)
{
	struct machine *m = make();
	(void)state;
	java_image_word(&m->image, CONTINUATION + TAIL, CHUNK);
	java_image_word(&m->image, CHUNK + CHUNK_PARENT, PARENT);
	assert_int_equal(learn(m), 0);
	assert_int_equal(m->chunks.oop_bytes, WORD);
	assert_true(copy(m) > 0);
	java_image_word(&m->image, CONTINUATION, (uint64_t)narrow(CLASSES) << 42 | 1);
	java_image_word(&m->image, CHUNK, (uint64_t)narrow(CLASSES + 0x800) << 42 | 1);
	java_image_word(&m->image, PARENT, (uint64_t)narrow(CLASSES + 0x800) << 42 | 1);
	java_image_half(&m->image, CONTINUATION + 8, 0);
	assert_int_equal(copy(m), 0); /* of another class, as far as was learned */
	assert_int_equal(learn(m), 0);
	assert_true(m->chunks.compact);
	assert_true(copy(m) > 0);
	finish(m);
}

static void what_makes_no_sense_is_not_copied(void **state)
{
	static const uint32_t wrong[][3] = { { 20, 21, 20 }, { 20, 0xffffffff, 20 }, { 20, 1, 20 }, { 20, 5, 21 },
		{ 0x7fffffff, 5, 0x7fffffff }, { 0xffffffff, 5, 0xfffffffe } };
	struct machine *m = make();
	(void)state;
	assert_int_equal(learn(m), 0);
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		put_chunk(m, CHUNK, 0, 20, 5, 20);
		java_image_half(&m->image, CHUNK + CHUNK_SIZE, wrong[i][0]);
		java_image_half(&m->image, CHUNK + CHUNK_SP, wrong[i][1]);
		java_image_half(&m->image, CHUNK + CHUNK_BOTTOM, wrong[i][2]);
		assert_int_equal(copy(m), 0);
	}
	put_chunk(m, CHUNK, 0, 20, 5, 20);
	java_image_word(&m->image, CHUNK, 3); /* a collector has moved it */
	assert_int_equal(copy(m), 0);
	put_chunk(m, CHUNK, CHUNK, 20, 5, 20); /* its own parent */
	struct java_chunk chunk;
	assert_int_equal(copy(m), 8 * (sizeof chunk + 17 * WORD));
	memcpy(&chunk, m->to + 7 * (sizeof chunk + 17 * WORD), sizeof chunk);
	assert_true(chunk.cut);
	put_chunk(m, CHUNK, PARENT, 20, 5, 20);
	java_image_word(&m->image, PARENT, 3); /* the outer ones are not to be had */
	assert_int_equal(copy(m), sizeof chunk + 17 * WORD);
	memcpy(&chunk, m->to, sizeof chunk);
	assert_true(chunk.cut);
	java_image_half(&m->image, CONTINUATION + TAIL, narrow(OBJECTS + 0x3ff8));
	assert_int_equal(copy(m), 0);
	finish(m);
}

static void classes_that_make_no_sense_are_not_learned(void **state)
{
	struct machine *m = make();
	(void)state;
	java_image_word(&m->image, CLASSES + 32, CLASSES); /* its own super class */
	assert_true(learn(m) < 0);
	java_image_word(&m->image, CLASSES + 32, CLASSES + 0x400);
	java_image_half(&m->image, CLASSES + 0x400 + 0x180, 0xffffffff); /* the list's length */
	assert_true(learn(m) < 0);
	java_image_half(&m->image, CLASSES + 0x400 + 0x180, 3);
	assert_true(learn(m) < 0);
	finish(m);
	m = make();
	java_image_half(&m->image, CLASSES + 0x800 + 8, 1 << 20); /* an object of a MiB */
	assert_true(learn(m) < 0);
	finish(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chunks_are_copied_from_the_innermost_on),
		cmocka_unit_test(references_may_be_whole_and_headers_compact),
		cmocka_unit_test(what_makes_no_sense_is_not_copied),
		cmocka_unit_test(classes_that_make_no_sense_are_not_learned),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
