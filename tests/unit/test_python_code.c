/* How line tables and instructions decode, by hand-made ones. Strings and whole code objects: e2e/test_python_code.py. */
#include "python/code.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A lambda of one line has no table in 3.8 and 3.9: it is all first line. */
static void an_empty_lnotab_is_all_first_line(void **state)
{
	static const uint8_t none[1];
	(void)state;
	assert_int_equal(python_line(8, none, 0, 56, 4), 56);
	assert_int_equal(python_line(9, none, 0, 56, 0), 56);
	assert_int_equal(python_line(10, none, 0, 56, 4), 0);
	assert_int_equal(python_line(11, none, 0, 56, 4), 0);
}

static void lnotab_goes_back_too(void **state)
{
	static const uint8_t table[] = { 4, 3, 6, 0xfe };
	(void)state;
	assert_int_equal(python_line(9, table, sizeof table, 10, 2), 10);
	assert_int_equal(python_line(9, table, sizeof table, 10, 4), 13);
	assert_int_equal(python_line(9, table, sizeof table, 10, 10), 11);
}

static void ranges_without_a_line_have_a_length(void **state)
{
	static const uint8_t table[] = { 4, 1, 4, 0x80, 0xff, 2 };
	(void)state;
	assert_int_equal(python_line(10, table, sizeof table, 10, 2), 11);
	assert_int_equal(python_line(10, table, sizeof table, 10, 4), 0);
	assert_int_equal(python_line(10, table, sizeof table, 10, 8), 13);
	assert_int_equal(python_line(10, table, sizeof table, 10, 8 + 255), 0);
}

static void locations_end_at_their_last_unit(void **state)
{
	/* one line (+1), 2 units; none, 1 unit; no columns (-1), 1 unit */
	static const uint8_t table[] = { 0x80 | 11 << 3 | 1, 0, 0, 0x80 | 15 << 3, 0x80 | 13 << 3, 3 };
	(void)state;
	assert_int_equal(python_line(12, table, sizeof table, 10, -1), 10);
	assert_int_equal(python_line(12, table, sizeof table, 10, 2), 11);
	assert_int_equal(python_line(12, table, sizeof table, 10, 4), 0);
	assert_int_equal(python_line(12, table, sizeof table, 10, 6), 10);
	assert_int_equal(python_line(12, table, sizeof table, 10, 8), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_empty_lnotab_is_all_first_line),
		cmocka_unit_test(lnotab_goes_back_too),
		cmocka_unit_test(ranges_without_a_line_have_a_length),
		cmocka_unit_test(locations_end_at_their_last_unit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
