#include "unit/check.h"

#include "common/escape.h"
#include "kit/maps.h"
#include "kit/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void our_own_maps_are_read(void **state)
{
	(void)state;
	int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
	struct maps m;
	assert_int_equal(maps_read(&m, fd), 0);
	close(fd);
	const struct map_entry *e = maps_find(&m, (uintptr_t)&our_own_maps_are_read);
	assert_non_null(e);
	assert_true(e->flags & MAP_IS_EXEC && e->flags & MAP_IS_FILE);
	assert_non_null(strstr(m.paths + e->path, "test_kit"));
	int on_stack = 0;
	e = maps_find(&m, (uintptr_t)&on_stack);
	assert_true(e->flags & MAP_IS_STACK);
	unsigned vdso = 0, vsyscall = 0;
	for (size_t i = 0; i < m.n; i++) {
		vdso += !!(m.entries[i].flags & MAP_IS_VDSO);
		vsyscall += !!(m.entries[i].flags & MAP_IS_VSYSCALL);
	}
	assert_int_equal(vdso, 1);
#ifdef __x86_64__
	assert_true(vsyscall <= 1);
#endif
	assert_null(maps_find(&m, 1));
	assert_null(maps_find(&m, UINT64_MAX));
	maps_free(&m);
}

static void bad_lines_are_skipped(void **state)
{
	(void)state;
	const char *text = "1000-2000 r-xp 00000000 08:01 42   /a b (deleted)\n"
			   "garbage\n"
			   "3000-2000 r-xp 00000000 08:01 42   /backwards\n"
			   "1800-2800 r-xp 00000000 08:01 42   /overlapping\n"
			   "fffffffffffffffff-2 r-xp 0 08:01 42 /too long\n"
			   "4000-5000 rw-p 00000000 00:00 0\n"
			   "5000-6000 rw-p 00000000 00:00 0";
	struct maps m;
	assert_int_equal(maps_parse(&m, text, strlen(text)), 0);
	assert_int_equal(m.n, 3);
	assert_string_equal(m.paths + m.entries[0].path, "/a b (deleted)");
	assert_true(m.entries[0].device == (8ULL << 32 | 1) && m.entries[0].inode == 42);
	assert_int_equal(m.entries[2].end, 0x6000);
	maps_free(&m);
}

static void an_ended_image_is_told(void **state)
{
	(void)state;
	struct maps m;
	int fd = open("/proc/2/maps", O_RDONLY | O_CLOEXEC); /* kthreadd */
	if (fd < 0)
		skip();
	assert_int_equal(maps_read(&m, fd), -ESRCH);
	close(fd);
}

static void a_table_holds_what_was_put(void **state)
{
	(void)state;
	struct table t = { 0 };
	char key[32];
	for (uint64_t i = 1; i <= 50000; i++) {
		size_t n = (size_t)snprintf(key, sizeof key, "key %d", (int)i);
		uint64_t *at = table_at(&t, key, n);
		assert_true(at && !*at);
		*at = i;
	}
	for (uint64_t i = 1; i <= 50000; i++) {
		size_t n = (size_t)snprintf(key, sizeof key, "key %d", (int)i);
		assert_int_equal(*table_find(&t, key, n), i);
	}
	assert_null(table_find(&t, "no", 2));
	table_clear(&t);
	assert_null(table_find(&t, "key 1", 5));
	table_free(&t);
}

static void expect_escaped(const char *in, size_t n, const char *out)
{
	char got[ESCAPE_MAX];
	assert_int_equal(escape_name(got, sizeof got, in, n), strlen(out));
	assert_string_equal(got, out);
}

static void names_are_escaped(void **state)
{
	(void)state;
	expect_escaped("plain", 5, "plain");
	expect_escaped("a;b", 3, "a:b");
	expect_escaped("a\nb\x1b[0m\x7f", 8, "a\\x0ab\\x1b[0m\\x7f");
	expect_escaped("\0", 1, "\\x00");
	expect_escaped("Привет 🚀", strlen("Привет 🚀"), "Привет 🚀");
	expect_escaped("\xff\xc0\xaf", 3, "\\xff\\xc0\\xaf"); /* invalid, and an overlong '/' */
	expect_escaped("\xed\xa0\x80", 3, "\\xed\\xa0\\x80"); /* a surrogate */
	expect_escaped("\xc2\x85", 2, "\\xc2\\x85");          /* NEL, a C1 control */
	expect_escaped("a\xe2\x80\xae"
		       "b",
		5,
		"a\\xe2\\x80\\xae"
		"b");                                         /* right-to-left override */
	expect_escaped("\xe2\x80\xa8", 3, "\\xe2\\x80\\xa8"); /* line separator: ends a line in JavaScript */
	/* what cannot be seen: a soft hyphen, a mark for Arabic, a tag of the last planes */
	expect_escaped("a\xc2\xad", 3, "a\\xc2\\xad");
	expect_escaped("\xd8\x9c", 2, "\\xd8\\x9c");
	expect_escaped("\xf3\xa0\x81\x81", 4, "\\xf3\\xa0\\x81\\x81");
	/* and what can: a space that does not break, a number sign for Arabic, a code point that is nobody's */
	expect_escaped("\xc2\xa0\xd8\x80\xcd\xb8", 6, "\xc2\xa0\xd8\x80\xcd\xb8");
	expect_escaped("\xf4\x90\x80\x80", 4, "\\xf4\\x90\\x80\\x80"); /* beyond Unicode */
	char small[8];
	assert_int_equal(escape_name(small, sizeof small, "aaaaaaaaaaaa", 12), 7);
	assert_string_equal(small, "aaaa...");
	assert_true(escape_name(small, sizeof small, "ééééééé", 14) < sizeof small);
	char line[32];
	escape_text(line, sizeof line, "a;b\n", 4);
	assert_string_equal(line, "a;b\\x0a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(our_own_maps_are_read),
		cmocka_unit_test(bad_lines_are_skipped),
		cmocka_unit_test(an_ended_image_is_told),
		cmocka_unit_test(a_table_holds_what_was_put),
		cmocka_unit_test(names_are_escaped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
