/* Code objects that are gone by the time that they are looked at: what the window copied of them holds, and what is read of the live process
 * only if they are still there. */
#include "kit/collect.h"
#include "python/python.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum {
	MINOR = 11,
	CODE = 0x1000,
	FILE_NAME = 0x1400,
	NAME = 0x1600,
	LINES = 0x1800,
	END = 0x1a00,
	TYPE = 0x88, /* somewhere */
	FIRST_LINE = 9,
	UNITS = 8,
	COMPACT_ASCII = 1 << 2 | 1 << 5 | 1 << 6, /* kind 1 */
};

/* Memory from CODE on; what lies behind `end` cannot be read. */
struct image {
	uint8_t bytes[END - CODE];
	uint64_t end;
};

static int read_image(void *context, uint64_t address, void *buf, size_t n)
{
	const struct image *image = context;
	if (address < CODE || address > image->end || n > image->end - address)
		return -EFAULT;
	memcpy(buf, image->bytes + address - CODE, n);
	return 0;
}

static void put(struct image *image, uint64_t address, const void *bytes, size_t n)
{
	memcpy(image->bytes + address - CODE, bytes, n);
}

static void put_word(struct image *image, uint64_t address, uint64_t value)
{
	put(image, address, &value, sizeof value);
}

static void put_text(const struct python_layout *l, struct image *image, uint64_t address, const char *text)
{
	put_word(image, address + l->str_length, strlen(text));
	put_word(image, address + l->str_state, COMPACT_ASCII);
	put(image, address + l->str_ascii_data, text, strlen(text));
}

/* All of it is in the line after the first one, or `further` lines on. */
static void put_lines(const struct python_layout *l, struct image *image, uint8_t further)
{
	const uint8_t table[] = { 0x80 | 13 << 3 | (UNITS - 1), (uint8_t)(further << 1) };
	put_word(image, LINES + l->bytes_size, sizeof table);
	put(image, LINES + l->bytes_data, table, sizeof table);
}

static struct image a_function(const struct python_layout *l)
{
	struct image image = { .end = END };
	const int32_t first_line = FIRST_LINE;
	put_word(&image, CODE, 1); /* one reference */
	put_word(&image, CODE + 8, TYPE);
	put_word(&image, CODE + 16, UNITS);
	put_word(&image, CODE + l->code_file, FILE_NAME);
	put_word(&image, CODE + l->code_qualname, NAME);
	put_word(&image, CODE + l->code_name, NAME);
	put_word(&image, CODE + l->code_lines, LINES);
	put(&image, CODE + l->code_first_line, &first_line, sizeof first_line);
	put_text(l, &image, FILE_NAME, "<made 1020>");
	put_text(l, &image, NAME, "made_1020");
	put_lines(l, &image, 1);
	return image;
}

static uint32_t frame_id(uint32_t line)
{
	struct collect_source ids = { 0 };
	return collect_source_frame(FRAME_PYTHON, &ids, "made_1020", "<made 1020>", line, FIRST_LINE);
}

/* What becomes of a frame in the function's only line. */
static void check(struct image *captured, struct image *live, int expected, uint32_t line)
{
	const struct python_layout *l = python_layout_of(MINOR);
	const struct python_memory window = { captured, read_image }, now = { live, read_image };
	const struct python_frame frame = { CODE, CODE + l->code + 2 };
	struct python_codes *codes = python_codes_new();
	uint32_t id = 0;
	assert_non_null(codes);
	assert_int_equal(python_codes_frame(codes, l, &window, &now, &frame, &id), expected);
	if (!expected)
		assert_int_equal(id, frame_id(line));
	python_codes_free(codes);
}

static void lines_are_of_the_code_that_was_sampled(void **state)
{
	const struct python_layout *l = python_layout_of(MINOR);
	struct image captured = a_function(l), live = captured;
	(void)state;
	put_lines(l, &live, 2); /* its memory has become another's, which has the same addresses */
	check(&captured, &live, 0, FIRST_LINE + 1);
}

static void a_long_table_is_read_from_the_live_process(void **state)
{
	const struct python_layout *l = python_layout_of(MINOR);
	struct image captured = a_function(l), live = captured;
	(void)state;
	captured.end = LINES + l->bytes_data;
	check(&captured, &live, 0, FIRST_LINE + 1);
}

/* What wrote over the table need not have written over the code: a reference count of nothing, or the allocator's address in its place, says it. */
static void lines_of_freed_code_are_not_believed(void **state)
{
	static const uint64_t freed[] = { 0, 0x7f5a12345670, 0x7f5a00000001 };
	const struct python_layout *l = python_layout_of(MINOR);
	(void)state;
	for (size_t i = 0; i < sizeof freed / sizeof *freed; i++) {
		struct image captured = a_function(l), live = captured;
		captured.end = LINES + l->bytes_data;
		put_lines(l, &live, 2);
		put_word(&live, CODE, freed[i]);
		check(&captured, &live, 0, 0);
	}
}

static void another_object_in_its_place_is_not_its_code(void **state)
{
	const struct python_layout *l = python_layout_of(MINOR);
	struct image captured = a_function(l), live = captured;
	(void)state;
	captured.end = LINES + l->bytes_data;
	put_word(&live, CODE + 8, TYPE + 0x100);
	check(&captured, &live, 0, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_of_the_code_that_was_sampled),
		cmocka_unit_test(a_long_table_is_read_from_the_live_process),
		cmocka_unit_test(lines_of_freed_code_are_not_believed),
		cmocka_unit_test(another_object_in_its_place_is_not_its_code),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
