/* Perf maps: what JITs write, and what a target could write to mislead or exhaust the reader. */
#include "kit/perfmap.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "kit/symbols.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

enum { QUERIES_MAX = 8 };

static int file_of(const void *text, size_t len)
{
	int fd = memfd_create("perfmap", MFD_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
	return fd;
}

/* Resolves the addresses (0 ends the list) and compares each name; "" stands for none. */
static void expect(const char *map, const uint64_t *addresses, const char *const *names)
{
	cleanup_close int fd = file_of(map, strlen(map));
	struct symbol_query queries[QUERIES_MAX] = { 0 };
	size_t n = 0;
	for (; addresses[n]; n++)
		queries[n].vaddr = addresses[n];
	assert_int_equal(perfmap_resolve(fd, queries, n), 0);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(queries[i].name ? queries[i].name : "", names[i]);
		free(queries[i].name);
	}
}

#define EXPECT(map, addresses, ...) expect(map, (const uint64_t[])addresses, (const char *const[]) { __VA_ARGS__ })
/* clang-format off */
#define AT(...) { __VA_ARGS__, 0 }
/* clang-format on */

static void lines_name_their_ranges(void **state)
{
	(void)state;
	EXPECT("3000 10 LazyCompile:*f /srv/a b.js:1\n1000 20 first\n2000 8 no newline at the end",
		AT(0xfff, 0x1000, 0x101f, 0x1020, 0x2007, 0x2008, 0x300f), "", "first", "first", "",
		"no newline at the end", "", "LazyCompile:*f /srv/a b.js:1");
}

static void prefixes_and_cases_are_accepted(void **state)
{
	(void)state;
	EXPECT("0x1000 0x20 a\n0XABCD0 10 b\nabCE0\t10\tc\n", AT(0x1001, 0xabcd1, 0xabce1), "a", "b", "c");
}

static void later_lines_win_where_they_overlap(void **state)
{
	(void)state;
	EXPECT("1000 100 old\n1040 40 new\n", AT(0x103f, 0x1040, 0x107f, 0x1080), "old", "new", "new", "old");
	EXPECT("1040 40 inner\n1000 100 outer\n", AT(0x103f, 0x1040, 0x107f, 0x1080), "outer", "outer", "outer",
		"outer");
}

static void garbage_lines_are_skipped(void **state)
{
	(void)state;
	EXPECT("\n\n1000\n1000 20\n1000 20 \nxyz 20 a\n1000 zz a\n1000 0 empty\n-1000 20 minus\n"
	       "11111111111111111 20 wide\nffffffffffffffff 20 wraps\n0x 20 x\n100020 joined\n2000 20 good\n",
		AT(0x1000, 0x2000, UINT64_MAX), "", "good", "");
}

static void overlong_names_are_cut(void **state)
{
	(void)state;
	static char map[300000];
	size_t n = (size_t)sprintf(map, "1000 20 ");
	memset(map + n, 'x', 200000);
	n += 200000;
	/* What follows the cut is no line of its own. */
	n += (size_t)sprintf(map + n, " 3000 20 inside\n2000 20 after\n");
	cleanup_close int fd = file_of(map, n);
	struct symbol_query queries[] = { { .vaddr = 0x1000 }, { .vaddr = 0x2000 }, { .vaddr = 0x3000 } };
	assert_int_equal(perfmap_resolve(fd, queries, 3), 0);
	assert_int_equal(strlen(queries[0].name), SYMBOL_NAME_MAX);
	assert_string_equal(queries[1].name, "after");
	assert_null(queries[2].name);
	free(queries[0].name);
	free(queries[1].name);
}

static void names_that_are_known_stay(void **state)
{
	(void)state;
	cleanup_close int fd = file_of("1000 20 other\n", 14);
	char known[] = "known";
	struct symbol_query queries[] = { { .vaddr = 0x1000, .start = 7, .name = known } };
	assert_int_equal(perfmap_resolve(fd, queries, 1), 0);
	assert_ptr_equal(queries[0].name, known);
	assert_int_equal(queries[0].start, 7);
}

static void of_a_too_large_file_the_end_counts(void **state)
{
	(void)state;
	cleanup_close int fd = file_of("1000 20 head\n", 13);
	static const char tail[] = "\n2000 20 tail\n";
	assert_int_equal(pwrite(fd, tail, sizeof(tail) - 1, (off_t)PERFMAP_MAX_BYTES + 100), sizeof(tail) - 1);
	struct symbol_query queries[] = { { .vaddr = 0x1000 }, { .vaddr = 0x2000 } };
	assert_int_equal(perfmap_resolve(fd, queries, 2), 0);
	assert_null(queries[0].name);
	assert_string_equal(queries[1].name, "tail");
	free(queries[1].name);
}

static void a_map_that_covers_all_too_often_is_given_up(void **state)
{
	(void)state;
	enum { QUERIES = 4096, LINES = 8192 };
	static const char line[] = "1000 ffffff a\n";
	cleanup_free char *map = malloc(LINES * (sizeof(line) - 1));
	for (size_t i = 0; i < LINES; i++)
		memcpy(map + i * (sizeof(line) - 1), line, sizeof(line) - 1);
	cleanup_close int fd = file_of(map, LINES * (sizeof(line) - 1));
	cleanup_free struct symbol_query *queries = calloc(QUERIES, sizeof(*queries));
	for (size_t i = 0; i < QUERIES; i++)
		queries[i].vaddr = 0x1000 + i;
	assert_int_equal(perfmap_resolve(fd, queries, QUERIES), -E2BIG);
	for (size_t i = 0; i < QUERIES; i++)
		assert_null(queries[i].name);
}

static void errors_are_told(void **state)
{
	(void)state;
	struct symbol_query query = { .vaddr = 1 };
	assert_int_equal(perfmap_resolve(-1, &query, 1), -EBADF);
	cleanup_close int fd = file_of("", 0);
	assert_int_equal(perfmap_resolve(fd, &query, 1), 0);
	assert_int_equal(perfmap_resolve(fd, NULL, 0), 0);
	assert_null(query.name);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_name_their_ranges),
		cmocka_unit_test(prefixes_and_cases_are_accepted),
		cmocka_unit_test(later_lines_win_where_they_overlap),
		cmocka_unit_test(garbage_lines_are_skipped),
		cmocka_unit_test(overlong_names_are_cut),
		cmocka_unit_test(names_that_are_known_stay),
		cmocka_unit_test(of_a_too_large_file_the_end_counts),
		cmocka_unit_test(a_map_that_covers_all_too_often_is_given_up),
		cmocka_unit_test(errors_are_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
