/* The tables by which HotSpot says where its structures are: as it makes them, and as a target may. */
#include "java/layout.h"

#include "check.h"
#include "java_image.h"

#include <stdlib.h>
#include <string.h>

enum {
	BASE = 0x10000,
	BYTES = 256 << 10,
	VARIABLES = BASE,
	STRUCTS = BASE + 0x1000,
	TYPES = STRUCTS + 0x8000,
	CONSTANTS = TYPES + 0x2000,
	NAMES = CONSTANTS + 0x2000,
	STATICS = BASE + 0x20000,
	STRUCT_ROW = 48, /* type, field, type string, is static, offset, address */
	TYPE_ROW = 16,
	CONSTANT_ROW = 16,
};

static const struct {
	const char *type, *field;
	enum java_field id;
} fields[] = {
#define FIELD(name, type, field) { type, field, JAVA_##name },
#define ALSO(name, type, field)
#define SIZE(name, type)
#define CONSTANT(name, constant)
#define ALSO_CONSTANT(name, constant)
#include "java/layout.def"
#undef FIELD
#undef ALSO
#undef SIZE
#undef CONSTANT
#undef ALSO_CONSTANT
};

static const struct {
	const char *type;
	enum java_field id;
} sizes[] = {
#define FIELD(name, type, field)
#define ALSO(name, type, field)
#define SIZE(name, type) { type, JAVA_sizeof_##name },
#define CONSTANT(name, constant)
#define ALSO_CONSTANT(name, constant)
#include "java/layout.def"
#undef FIELD
#undef ALSO
#undef SIZE
#undef CONSTANT
#undef ALSO_CONSTANT
};

struct machine {
	struct java_image image;
	struct java_tables tables;
	uint64_t names, rows;
};

static uint64_t put_name(struct machine *m, const char *name)
{
	uint64_t at = m->names;
	java_image_put(&m->image, at, name, strlen(name) + 1);
	m->names += strlen(name) + 1;
	return at;
}

static uint64_t variable(struct machine *m, size_t i, uint64_t value)
{
	java_image_word(&m->image, VARIABLES + i * 8, value);
	return VARIABLES + i * 8;
}

static const char *type_of(uint8_t width)
{
	return width == 1 ? "CompLevel" : width == 2 ? "u2" : width == 4 ? "int" : "address";
}

static void put_struct(
	struct machine *m, const char *type, const char *field, uint8_t width, bool is_static, uint64_t value)
{
	uint64_t row = m->rows;
	java_image_word(&m->image, row, put_name(m, type));
	java_image_word(&m->image, row + 8, put_name(m, field));
	java_image_word(&m->image, row + 16, put_name(m, type_of(width)));
	java_image_half(&m->image, row + 24, is_static);
	java_image_word(&m->image, row + 32, is_static ? 0 : value);
	java_image_word(&m->image, row + 40, is_static ? value : 0);
	m->rows += STRUCT_ROW;
}

static bool is_static(enum java_field id)
{
	return id == JAVA_heaps || id == JAVA_heap || id == JAVA_call_stub_return || id == JAVA_collected_heap ||
	       id == JAVA_version_major || id == JAVA_version_text;
}

static void set_major(struct machine *m, uint32_t major)
{
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		if (fields[i].id == JAVA_version_major)
			java_image_half(&m->image, STATICS + 16 * i, major);
}

/* All that a release says. */
static void make(struct machine *m, unsigned major)
{
	const struct java_layout says = java_layout_as(major);
	memset(m, 0, sizeof *m);
	m->image = (struct java_image) { BASE, calloc(1, BYTES), BYTES };
	assert_non_null(m->image.bytes);
	m->names = NAMES;
	m->rows = STRUCTS;
	m->tables = (struct java_tables) { variable(m, 0, STRUCTS), variable(m, 1, STRUCT_ROW), variable(m, 2, 0),
		variable(m, 3, 8), variable(m, 4, 16), variable(m, 5, 24), variable(m, 6, 32), variable(m, 7, 40),
		variable(m, 8, TYPES), variable(m, 9, TYPE_ROW), variable(m, 10, 0), variable(m, 11, 8),
		variable(m, 12, CONSTANTS), variable(m, 13, CONSTANT_ROW), variable(m, 14, 0), variable(m, 15, 8) };
	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
		enum java_field id = fields[i].id;
		if (id == (major == JAVA_8 ? JAVA_heaps : JAVA_heap))
			continue;
		if (is_static(id))
			put_struct(m, fields[i].type, fields[i].field, 8, true, STATICS + 16 * i);
		else if (says.of[id].known)
			put_struct(m, fields[i].type, fields[i].field, says.of[id].width, false, says.of[id].value);
		if (id == JAVA_version_text)
			java_image_word(&m->image, STATICS + 16 * i, put_name(m, "17.0.15+6-Debian"));
	}
	uint64_t row = TYPES;
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++, row += TYPE_ROW) {
		java_image_word(&m->image, row, put_name(m, sizes[i].type));
		java_image_word(&m->image, row + 8, says.of[sizes[i].id].known ? says.of[sizes[i].id].value : 64);
	}
	java_image_word(&m->image, CONSTANTS, put_name(m, "frame::entry_frame_call_wrapper_offset"));
	java_image_half(&m->image, CONSTANTS + 8, (uint32_t)-6);
	set_major(m, major == JAVA_8 ? 25 : major);
}

static int read_layout(struct machine *m, struct java_layout *l, const char **why)
{
	struct java_memory memory = java_image_memory(&m->image);
	*why = "";
	return java_layout_read(l, &memory, &m->tables, why);
}

static void each_release_is_read_as_it_says(void **state)
{
	static const unsigned releases[] = { 8, 17, 25 };
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct machine m;
		struct java_layout l, says = java_layout_as(releases[i]);
		const char *why;
		make(&m, releases[i]);
		assert_int_equal(read_layout(&m, &l, &why), 0);
		assert_int_equal(l.major, releases[i]);
		assert_string_equal(
			l.version, releases[i] == JAVA_8 ? "8 (HotSpot 17.0.15+6-Debian)" : "17.0.15+6-Debian");
		assert_int_equal(l.bytecode_at, releases[i] == JAVA_8 ? 7 : 8);
		assert_int_equal(l.excluded, releases[i] >= 20);
		for (size_t k = 0; k < sizeof fields / sizeof *fields; k++)
			if (says.of[fields[k].id].known && !is_static(fields[k].id)) {
				assert_int_equal(l.of[fields[k].id].value, says.of[fields[k].id].value);
				assert_int_equal(l.of[fields[k].id].width, says.of[fields[k].id].width);
			}
		assert_true((int64_t)l.of[JAVA_constant_call_wrapper].value == -6);
		free(m.image.bytes);
	}
}

static void refused(struct machine *m, int error, const char *words)
{
	struct java_layout l;
	const char *why;
	assert_int_equal(read_layout(m, &l, &why), error);
	assert_int_equal(l.major, 0);
	if (words)
		assert_non_null(strstr(why, words));
	free(m->image.bytes);
}

static void a_machine_that_is_not_initialised_is_looked_at_again(void **state)
{
	struct machine m;
	(void)state;
	make(&m, 17);
	variable(&m, 1, 0);
	refused(&m, -EAGAIN, NULL);
}

static void an_old_machine_is_refused_by_name(void **state)
{
	struct machine m;
	(void)state;
	make(&m, 10);
	refused(&m, -EINVAL, "older than 11, and not 8");
}

/* 8 has its number only when it has begun; 7 has one heap, too. */
static void an_8_that_starts_is_looked_at_again(void **state)
{
	struct machine m;
	struct java_layout l;
	const char *why;
	(void)state;
	make(&m, JAVA_8);
	set_major(&m, 0);
	assert_int_equal(read_layout(&m, &l, &why), -EAGAIN);
	assert_int_equal(l.major, 0);
	set_major(&m, 25);
	assert_int_equal(read_layout(&m, &l, &why), 0);
	assert_int_equal(l.major, JAVA_8);
	set_major(&m, 24);
	refused(&m, -EINVAL, "older than 11, and not 8");
}

/* It was taken for one that is understood at the second look. */
static void a_refused_layout_is_of_no_release(void **state)
{
	struct machine m;
	(void)state;
	make(&m, 17);
	for (uint64_t row = STRUCTS; row < m.rows; row += STRUCT_ROW)
		java_image_word(&m.image, row + 32, 60000);
	refused(&m, -EINVAL, "does not say");
}

static void tables_that_lie_are_refused(void **state)
{
	struct machine m;
	(void)state;
	make(&m, 17);
	variable(&m, 1, 4096); /* rows that are too long */
	refused(&m, -EINVAL, "no sense");
	make(&m, 17);
	variable(&m, 7, STRUCT_ROW); /* a column behind the row */
	refused(&m, -EINVAL, "no sense");
	make(&m, 17);
	variable(&m, 0, BASE + BYTES - 8); /* rows that cannot be read */
	refused(&m, -EAGAIN, NULL);
	make(&m, 17);
	java_image_word(&m.image, STRUCTS + 32 + STRUCT_ROW, UINT64_MAX); /* an offset that is none */
	refused(&m, -EINVAL, "does not say");
}

/* A table whose rows never end: bounded by what can be read, and by a number. */
static void a_table_without_an_end_is_left(void **state)
{
	struct machine m;
	(void)state;
	make(&m, 17);
	variable(&m, 1, 8);
	for (size_t i = 2; i < 8; i++)
		variable(&m, i, 0);
	for (uint64_t at = STRUCTS; at + 8 <= BASE + BYTES; at += 8)
		java_image_word(&m.image, at, NAMES);
	refused(&m, -EINVAL, "no sense");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_release_is_read_as_it_says),
		cmocka_unit_test(a_machine_that_is_not_initialised_is_looked_at_again),
		cmocka_unit_test(an_old_machine_is_refused_by_name),
		cmocka_unit_test(an_8_that_starts_is_looked_at_again),
		cmocka_unit_test(a_refused_layout_is_of_no_release),
		cmocka_unit_test(tables_that_lie_are_refused),
		cmocka_unit_test(a_table_without_an_end_is_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
