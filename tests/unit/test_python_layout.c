/* Where CPython keeps what we read: the tables against each other, and what an interpreter may say of itself. */
#include "python/layout.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

enum {
	VERSION = 8,
	FREE_THREADED = 16,
	VERSION_13 = 0x030d00f0,
	VERSION_14 = 0x030e00f0,
};

/* _Py_DebugOffsets of a release: the place of a word, and what stands there. */
struct said {
	uint16_t at;
	uint64_t value;
};

static const struct said says_13[] = { { 24, 4000 }, { 40, 632 }, { 48, 8000 }, { 64, 7264 }, { 72, 7344 },
	{ 152, 304 }, { 168, 8 }, { 184, 72 }, { 192, 152 }, { 200, 160 }, { 208, 232 }, { 224, 80 }, { 232, 8 },
	{ 240, 0 }, { 248, 56 }, { 264, 70 }, { 272, 208 }, { 280, 112 }, { 288, 120 }, { 296, 128 }, { 304, 136 },
	{ 312, 68 }, { 344, 200 }, { 512, 40 }, { 520, 16 }, { 528, 32 }, { 536, 64 }, { 544, 32 }, { 552, 16 },
	{ 560, 40 } };

static const struct said says_14[] = { { 24, 4000 }, { 40, 808 }, { 48, 8000 }, { 64, 7272 }, { 72, 7344 },
	{ 176, 304 }, { 192, 8 }, { 208, 72 }, { 216, 152 }, { 224, 160 }, { 232, 232 }, { 248, 88 }, { 256, 8 },
	{ 264, 0 }, { 272, 56 }, { 288, 74 }, { 312, 216 }, { 320, 112 }, { 328, 120 }, { 336, 128 }, { 344, 136 },
	{ 352, 68 }, { 384, 208 }, { 592, 40 }, { 600, 16 }, { 608, 32 }, { 616, 64 }, { 624, 32 }, { 632, 16 },
	{ 640, 40 } };

#define SAYS (sizeof says_13 / sizeof *says_13)

static void set(uint8_t *image, size_t at, uint64_t value)
{
	memcpy(image + at, &value, sizeof value);
}

static void make(uint8_t *image, uint64_t version)
{
	const struct said *says = version == VERSION_14 ? says_14 : says_13;
	memset(image, 0, PYTHON_OFFSETS_BYTES);
	memcpy(image, "xdebugpy", 8);
	set(image, VERSION, version);
	for (size_t i = 0; i < SAYS; i++)
		set(image, says[i].at, says[i].value);
}

static int read_layout(const uint8_t *image, struct python_layout *l, const char **why)
{
	return python_layout_read(l, image, PYTHON_OFFSETS_BYTES, why);
}

static void refused(const uint8_t *image, const char *word)
{
	struct python_layout l = { .minor = 77 };
	const char *why = NULL;
	assert_int_equal(read_layout(image, &l, &why), -EINVAL);
	assert_non_null(why);
	assert_non_null(strstr(why, word));
	assert_int_equal(l.minor, 77); /* untouched */
}

static void within(uint16_t field, unsigned width, unsigned size)
{
	if (field != PYTHON_NONE)
		assert_true(field + width <= size);
}

/* What is read of a structure covers every field that is used. */
static void check_spans(const struct python_layout *l)
{
	const uint16_t thread[] = { l->thread_next, l->frame, l->cframe, l->thread_id, l->native_thread_id };
	const uint16_t code[] = { l->code_file, l->code_name, l->code_qualname, l->code_lines };
	for (size_t i = 0; i < sizeof thread / sizeof *thread; i++)
		within(thread[i], 8, l->thread_bytes);
	if (l->datastack_chunk != PYTHON_NONE)
		within(l->datastack_chunk, 16, l->thread_bytes);
	for (size_t i = 0; i < sizeof code / sizeof *code; i++)
		within(code[i], 8, l->code_bytes);
	within(l->code_first_line, 4, l->code_bytes);
	within(l->frame_previous, 8, l->frame_bytes);
	within(l->frame_code, 8, l->frame_bytes);
	within(l->frame_instruction, l->minor >= 11 ? 8 : 4, l->frame_bytes);
	within(l->frame_owner, 1, l->frame_bytes);
	within(l->frame_is_entry, 1, l->frame_bytes);
	if (l->minor <= 10)
		within(l->code, 8, l->code_bytes);
	within(l->str_length, 8, PYTHON_OBJECT_MAX);
	within(l->str_state, 4, PYTHON_OBJECT_MAX);
	assert_in_range(l->thread_bytes, 1, PYTHON_THREAD_MAX);
	assert_in_range(l->frame_bytes, PYTHON_FRAME_MIN, PYTHON_FRAME_MAX);
	assert_in_range(l->code_bytes, 1, PYTHON_CODE_MAX);
}

static void tables_cover_what_they_name(void **state)
{
	(void)state;
	for (unsigned minor = PYTHON_MINOR_MIN; minor < PYTHON_MINOR_OFFSETS; minor++) {
		const struct python_layout *l = python_layout_of(minor);
		assert_non_null(l);
		assert_int_equal(l->minor, minor);
		check_spans(l);
	}
	assert_null(python_layout_of(PYTHON_MINOR_MIN - 1));
	assert_null(python_layout_of(PYTHON_MINOR_OFFSETS));
}

static void releases_are_read(void **state)
{
	uint8_t image[PYTHON_OFFSETS_BYTES];
	struct python_layout l;
	const char *why;
	(void)state;
	make(image, VERSION_13);
	assert_int_equal(read_layout(image, &l, &why), 0);
	check_spans(&l);
	assert_int_equal(l.interpreters_head, 632);
	assert_int_equal(l.threads_head, 7344);
	assert_int_equal(l.frame_owner, 70);
	assert_int_equal(l.code, 200);
	assert_int_equal(l.str_data, 56);
	assert_int_equal(l.tag_mask, 0);
	make(image, VERSION_14);
	assert_int_equal(read_layout(image, &l, &why), 0);
	check_spans(&l);
	assert_int_equal(l.interpreter_next, 7272);
	assert_int_equal(l.frame_owner, 74);
	assert_int_equal(l.code, 208);
	assert_int_equal(l.tag_mask, 3);
}

static void not_yet_or_not_ours(void **state)
{
	uint8_t image[PYTHON_OFFSETS_BYTES] = { 0 };
	struct python_layout l;
	const char *why;
	(void)state;
	assert_int_equal(read_layout(image, &l, &why), -EAGAIN);
	make(image, VERSION_13);
	assert_int_equal(python_layout_read(&l, image, sizeof image - 1, &why), -EINVAL);
	image[7] = 'z';
	refused(image, "does not say");
	make(image, 0x030f00f0);
	refused(image, "unknown version");
	make(image, 0x040d00f0);
	refused(image, "unknown version");
	make(image, VERSION_13 | 1ULL << 32);
	refused(image, "unknown version");
	make(image, 0x030e00c2); /* 3.14.0rc2 */
	refused(image, "pre-release");
	make(image, VERSION_13);
	set(image, FREE_THREADED, 1);
	refused(image, "free-threaded");
}

/* Every word that is used, replaced by each of these: refused, or a layout that stays in its bounds. */
static void hostile_words(void **state)
{
	static const uint64_t bad[] = { UINT64_MAX, 1ULL << 63, INT64_MAX, UINT64_MAX - 7, 1ULL << 32, 1ULL << 16,
		65535, 65528 };
	static const uint64_t versions[] = { VERSION_13, VERSION_14 };
	uint8_t image[PYTHON_OFFSETS_BYTES];
	(void)state;
	for (size_t v = 0; v < 2; v++)
		for (size_t i = 0; i < SAYS; i++)
			for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
				const struct said *says = v ? says_14 : says_13;
				struct python_layout l;
				const char *why;
				make(image, versions[v]);
				set(image, says[i].at, bad[k]);
				if (!read_layout(image, &l, &why))
					check_spans(&l);
			}
}

static void zero_sizes_are_refused(void **state)
{
	static const uint16_t sizes[] = { 24, 48, 152, 224, 272, 512, 536, 560 /* of PyASCIIObject */ };
	uint8_t image[PYTHON_OFFSETS_BYTES];
	(void)state;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		make(image, VERSION_13);
		set(image, sizes[i], 0);
		refused(image, "makes no sense");
	}
}

static void fields_end_in_their_structure(void **state)
{
	uint8_t image[PYTHON_OFFSETS_BYTES];
	struct python_layout l;
	const char *why;
	(void)state;
	make(image, VERSION_13);
	set(image, 272, 144); /* a code object whose last pointer just fits, but not its instructions */
	refused(image, "makes no sense");
	make(image, VERSION_13);
	set(image, 184, 74); /* a pointer that is not aligned */
	refused(image, "makes no sense");
	make(image, VERSION_13);
	set(image, 224, 71); /* the owner is the last byte */
	assert_int_equal(read_layout(image, &l, &why), 0);
	set(image, 224, 70);
	refused(image, "makes no sense");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_cover_what_they_name),
		cmocka_unit_test(releases_are_read),
		cmocka_unit_test(not_yet_or_not_ours),
		cmocka_unit_test(hostile_words),
		cmocka_unit_test(zero_sizes_are_refused),
		cmocka_unit_test(fields_end_in_their_structure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
