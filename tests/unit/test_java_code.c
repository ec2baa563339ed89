/* Numbers, lines, inlined scopes and code heaps, as HotSpot writes them and as nobody should. */
#include "java/code.h"
#include "java/method.h"

#include "check.h"
#include "java_image.h"

#include <stdlib.h>
#include <string.h>

#define BYTES(...) (const uint8_t[]) { __VA_ARGS__ }, sizeof((const uint8_t[]) { __VA_ARGS__ })

static bool decode(const uint8_t *bytes, size_t n, uint8_t excluded, uint32_t *ret, size_t *used)
{
	*used = 0;
	return java_unsigned5(bytes, n, used, excluded, ret);
}

static void numbers_of_one_to_five_bytes(void **state)
{
	uint32_t value = 0;
	size_t used;
	(void)state;
	assert_true(decode(BYTES(0), 0, &value, &used));
	assert_int_equal(value, 0);
	assert_true(decode(BYTES(191), 0, &value, &used));
	assert_int_equal(value, 191);
	assert_true(decode(BYTES(192, 0), 0, &value, &used));
	assert_int_equal(value, 192);
	assert_int_equal(used, 2);
	/* from 20 on, 0 is left out */
	assert_true(decode(BYTES(1), 1, &value, &used));
	assert_int_equal(value, 0);
	assert_true(decode(BYTES(192, 1), 1, &value, &used));
	assert_int_equal(value, 191);
	assert_false(decode(BYTES(0), 1, &value, &used));
	assert_false(decode(BYTES(192, 0), 1, &value, &used));
	/* the fifth byte is the last, whatever it is */
	assert_true(decode(BYTES(255, 255, 255, 255, 255, 255), 0, &value, &used));
	assert_int_equal(used, 5);
}

static void a_number_without_an_end_is_none(void **state)
{
	uint32_t value = 7;
	size_t used;
	(void)state;
	assert_false(decode(BYTES(192), 0, &value, &used));
	assert_false(decode(BYTES(255, 255, 255, 255), 0, &value, &used));
	assert_false(decode((const uint8_t[]) { 0 }, 0, 0, &value, &used));
	assert_int_equal(value, 7);
}

static void lines_of_bytecodes(void **state)
{
	/* bci 0, line 10 (an escape and two signed numbers); bci 4, line 11 in one byte; bci 44, line 6; the end */
	static const uint8_t first[] = { 0xff, 0, 10 << 1, 4 << 3 | 1, 0xff, 40 << 1, 9, 0 };
	uint32_t lowest = 0;
	(void)state;
	assert_int_equal(java_line(first, sizeof first, 0, 0, &lowest), 10);
	assert_int_equal(java_line(first, sizeof first, 0, 3, &lowest), 10);
	assert_int_equal(java_line(first, sizeof first, 0, 4, &lowest), 11);
	assert_int_equal(java_line(first, sizeof first, 0, 43, &lowest), 11);
	assert_int_equal(java_line(first, sizeof first, 0, 44, &lowest), 6);
	assert_int_equal(lowest, 6);
	assert_int_equal(java_line(first, sizeof first, 0, -1, &lowest), 0);
	assert_int_equal(java_lines_length(first, sizeof first, 0), sizeof first);
	assert_int_equal(java_lines_length(first, sizeof first - 1, 0), 0);
}

static void names_of_classes(void **state)
{
	char out[64];
	(void)state;
	java_class_name(out, sizeof out, "java/util/HashMap$Node", 22);
	assert_string_equal(out, "java.util.HashMap$Node");
	java_class_name(out, sizeof out, "Main$$Lambda$14+0x0000000800c03000", 34);
	assert_string_equal(out, "Main$$Lambda$14");
	java_class_name(out, sizeof out, "Main$$Lambda+0x000075e1c4003208", 31);
	assert_string_equal(out, "Main$$Lambda");
	java_class_name(out, 5, "java/lang/String", 16);
	assert_string_equal(out, "java");
}

/* One compiled method: pcs of -1, 16 (two scopes), 32 (one), the end. Scopes: at 1 { outer 0, method 1, bci 5 }, at 4 { outer 1, method 2,
 * bci 7 }. */
struct tables {
	uint8_t pcs[4 * 16], data[8], metadata[2 * 8];
	struct java_scopes scopes;
};

static void set_pc(struct tables *t, size_t i, int32_t offset, uint32_t scope)
{
	memcpy(t->pcs + i * 16, &offset, sizeof offset);
	memcpy(t->pcs + i * 16 + 4, &scope, sizeof scope);
}

static void make_tables(struct tables *t)
{
	static const uint8_t data[] = { 0, 0, 1, 6, 1, 2, 8, 0 };
	static const uint64_t methods[] = { 0x1000, 0x2000 };
	memset(t, 0, sizeof *t);
	set_pc(t, 0, -1, 0);
	set_pc(t, 1, 16, 4);
	set_pc(t, 2, 32, 1);
	set_pc(t, 3, 1 << 20, 0);
	memcpy(t->data, data, sizeof data);
	memcpy(t->metadata, methods, sizeof methods);
	t->scopes = (struct java_scopes) { t->pcs, t->data, t->metadata, 4, sizeof t->data, 2 };
}

static void inlined_methods_innermost_first(void **state)
{
	struct java_layout l = java_layout_as(17);
	struct java_scope scopes[JAVA_INLINED_MAX];
	struct tables t;
	(void)state;
	make_tables(&t);
	assert_int_equal(java_scopes_at(&l, &t.scopes, 16, true, scopes), 2);
	assert_int_equal(scopes[0].method, 0x2000);
	assert_int_equal(scopes[0].bci, 7);
	assert_int_equal(scopes[1].method, 0x1000);
	assert_int_equal(scopes[1].bci, 5);
	assert_int_equal(java_scopes_at(&l, &t.scopes, 32, true, scopes), 1);
	/* an address between two: the next that is listed */
	assert_int_equal(java_scopes_at(&l, &t.scopes, 20, false, scopes), 1);
	assert_int_equal(java_scopes_at(&l, &t.scopes, 20, true, scopes), 0);
	assert_int_equal(java_scopes_at(&l, &t.scopes, 40, false, scopes), 0);
}

static void scopes_that_lie_are_rejected(void **state)
{
	struct java_layout l = java_layout_as(17);
	struct java_scope scopes[JAVA_INLINED_MAX];
	struct tables t;
	(void)state;
	make_tables(&t);
	t.data[5] = 3; /* a method that there is not */
	assert_int_equal(java_scopes_at(&l, &t.scopes, 16, true, scopes), -EINVAL);
	make_tables(&t);
	t.data[4] = 4; /* a scope that is its own caller */
	assert_int_equal(java_scopes_at(&l, &t.scopes, 16, true, scopes), -EINVAL);
	make_tables(&t);
	t.scopes.data_bytes = 6; /* a stream that ends too early */
	assert_int_equal(java_scopes_at(&l, &t.scopes, 16, true, scopes), -EINVAL);
	set_pc(&t, 1, 16, 1 << 30);
	assert_int_equal(java_scopes_at(&l, &t.scopes, 16, true, scopes), -EINVAL);
}

enum { HEAP = 0x100000, HEAP_BYTES = 0x10000, MAP = HEAP + HEAP_BYTES, NAME = MAP + 0x1000, ALL = 0x20000, SHIFT = 7 };

static void make_heap(struct java_image *image, struct java_heap *heap)
{
	image->base = HEAP;
	image->n = ALL;
	image->bytes = calloc(1, ALL);
	assert_non_null(image->bytes);
	memset(image->bytes + (MAP - HEAP), 0xff, HEAP_BYTES >> SHIFT);
	*heap = (struct java_heap) { HEAP, HEAP + HEAP_BYTES, MAP, SHIFT };
	java_image_put(image, NAME, "nmethod", 8);
	/* a block of 300 segments from the second on */
	for (unsigned i = 0; i < 300; i++)
		image->bytes[MAP - HEAP + 2 + i] = (uint8_t)(i < 254 ? i : i - 253);
	uint64_t blob = HEAP + (2 << SHIFT) + 16;
	java_image_word(image, blob + 96, NAME);
	java_image_half(image, blob + 12, 300 << SHIFT);
	java_image_half(image, blob + 20, 40);
	java_image_half(image, blob + 28, 6);
	java_image_word(image, blob + 32, blob + 1024);
	java_image_word(image, blob + 40, blob + 8192);
	java_image_word(image, blob + 224, blob + 1024 + 32);
	java_image_half(image, blob + 260, 9000);
	java_image_word(image, blob + 120, blob + 9016);
	java_image_half(image, blob + 268, 9048);
	java_image_half(image, blob + 272, 9048 + 64);
	java_image_half(image, blob + 304, 77);
	java_image_half(image, blob + 308, 4);
}

static void a_blob_is_found_from_any_of_its_addresses(void **state)
{
	struct java_layout l = java_layout_as(17);
	struct java_image image;
	struct java_heap heap;
	struct java_blob b;
	char name[JAVA_BLOB_NAME];
	(void)state;
	make_heap(&image, &heap);
	struct java_memory memory = java_image_memory(&image);
	for (uint64_t pc = HEAP + (2 << SHIFT) + 16; pc < HEAP + (302 << SHIFT); pc += 1000) {
		assert_int_equal(java_blob_find(&b, name, &l, &memory, &heap, pc), 0);
		assert_string_equal(name, "nmethod");
		assert_int_equal(b.kind, JAVA_BLOB_COMPILED);
		assert_int_equal(b.frame_bytes, 48);
		assert_int_equal(b.compile_id, 77);
		assert_int_equal(b.level, 4);
		assert_int_equal(b.nmetadata, 2);
		assert_int_equal(b.npcs, 4);
		assert_int_equal(b.entry, b.code + 32);
		assert_int_equal(b.frame_complete, b.code + 40);
	}
	assert_int_equal(java_blob_find(&b, name, &l, &memory, &heap, HEAP + (400 << SHIFT)), -ENOENT);
	free(image.bytes);
}

static void a_segment_map_that_lies_leads_nowhere(void **state)
{
	struct java_layout l = java_layout_as(17);
	struct java_image image;
	struct java_heap heap;
	struct java_blob b;
	char name[JAVA_BLOB_NAME];
	(void)state;
	make_heap(&image, &heap);
	struct java_memory memory = java_image_memory(&image);
	image.bytes[MAP - HEAP + 3] = 200; /* in front of the first segment */
	assert_int_equal(java_blob_find(&b, name, &l, &memory, &heap, HEAP + (3 << SHIFT)), -EINVAL);
	java_image_half(&image, HEAP + (2 << SHIFT) + 16 + 12, UINT32_MAX); /* a blob that is larger than the heap */
	assert_int_equal(java_blob_find(&b, name, &l, &memory, &heap, HEAP + (2 << SHIFT) + 20), -EINVAL);
	heap.segments = 8; /* a map that cannot be read */
	assert_int_equal(java_blob_find(&b, name, &l, &memory, &heap, HEAP + (2 << SHIFT) + 20), -EFAULT);
	free(image.bytes);
}

/* In 8 a variable holds the only one, and there is no array. */
static void the_only_heap_of_8(void **state)
{
	enum { AT = HEAP, CODE_HEAP = HEAP + 8 };
	struct java_layout l = java_layout_as(JAVA_8);
	struct java_image image = { HEAP, calloc(1, ALL), ALL };
	struct java_memory memory = java_image_memory(&image);
	struct java_heaps heaps;
	(void)state;
	l.of[JAVA_heap] = (struct java_value) { true, 8, AT };
	assert_int_equal(java_heaps_read(&heaps, &l, &memory), -EAGAIN);
	java_image_word(&image, AT, CODE_HEAP);
	java_image_word(&image, CODE_HEAP, 0x1000);
	java_image_word(&image, CODE_HEAP + 8, 0x9000);
	java_image_word(&image, CODE_HEAP + 112, MAP);
	java_image_half(&image, CODE_HEAP + 248, SHIFT);
	assert_int_equal(java_heaps_read(&heaps, &l, &memory), 0);
	assert_int_equal(heaps.n, 1);
	assert_ptr_equal(java_heap_of(&heaps, 0x8fff), &heaps.heap[0]);
	assert_null(java_heap_of(&heaps, 0x9000));
	free(image.bytes);
}

/* A method's names are the same, however many others have them, too: in 8 and 11 the count is behind the length. */
static void how_many_use_a_name_does_not_change_it(void **state)
{
	enum { METHOD = HEAP, CONST = HEAP + 0x100, POOL = HEAP + 0x200, KLASS = HEAP + 0x300, SYMBOL = HEAP + 0x500 };
	static const unsigned releases[] = { JAVA_8, 11, 17 };
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct java_layout l = java_layout_as(releases[i]);
		struct java_image image = { HEAP, calloc(1, ALL), ALL };
		struct java_memory memory = java_image_memory(&image);
		struct java_method one, more, other;
		size_t count = releases[i] < 13 ? 2 : 0;
		if (releases[i] == 11) /* else as 17 */
			l.of[JAVA_symbol_length].value = 0;
		java_image_word(&image, METHOD + 8, CONST);
		java_image_word(&image, CONST + 8, POOL);
		java_image_half(&image, CONST + 32, 100 | 1 << 16);
		java_image_word(&image, POOL + 24, KLASS);
		java_image_half(&image, POOL + 60, 4);
		java_image_word(&image, POOL + l.of[JAVA_sizeof_pool].value + 8, SYMBOL);
		java_image_word(&image, KLASS + l.of[JAVA_klass_name].value, SYMBOL);
		java_image_word(&image, SYMBOL, 0x0003000300030003);
		assert_int_equal(java_method_head(&one, &l, &memory, METHOD), 0);
		java_image_put(&image, SYMBOL + count, "\4", 1);
		assert_int_equal(java_method_head(&more, &l, &memory, METHOD), 0);
		java_image_put(&image, SYMBOL + 4, "\4", 1);
		assert_int_equal(java_method_head(&other, &l, &memory, METHOD), 0);
		assert_int_equal(one.name_stamp, more.name_stamp);
		assert_int_not_equal(one.name_stamp, other.name_stamp);
		free(image.bytes);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_of_one_to_five_bytes),
		cmocka_unit_test(a_number_without_an_end_is_none),
		cmocka_unit_test(lines_of_bytecodes),
		cmocka_unit_test(names_of_classes),
		cmocka_unit_test(inlined_methods_innermost_first),
		cmocka_unit_test(scopes_that_lie_are_rejected),
		cmocka_unit_test(a_blob_is_found_from_any_of_its_addresses),
		cmocka_unit_test(a_segment_map_that_lies_leads_nowhere),
		cmocka_unit_test(the_only_heap_of_8),
		cmocka_unit_test(how_many_use_a_name_does_not_change_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
