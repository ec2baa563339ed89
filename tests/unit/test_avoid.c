/* Whom nobody opens for a while. */
#include "unit/check.h"

#include "avoid.h"

#include "common/clock.h"
#include "proto/lease.h"

#include <stdlib.h>

static const int64_t now = NS_PER_S, age = AVOIDED_MS * NS_PER_MS;

static void test_a_hung_open_is_avoided_by_kind_and_for_a_while(void **context)
{
	struct avoid_table table = { 0 };
	(void)context;
	assert_false(avoid_is_listed(&table, 7, 70, LEASE_MAPPED_FILE, now));
	avoid_add(&table, 7, 0, LEASE_MAPPED_FILE, now);
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MAPPED_FILE, now + age - 1));
	assert_true(avoid_is_listed(&table, 7, 0, LEASE_MAPPED_FILE, now));
	assert_false(avoid_is_listed(&table, 7, 70, LEASE_MEM, now));
	assert_false(avoid_is_listed(&table, 8, 70, LEASE_MAPPED_FILE, now));
	assert_false(avoid_is_listed(&table, 7, 70, LEASE_MAPPED_FILE, now + age));
}

static void test_who_gets_the_pid_next_is_not_avoided(void **context)
{
	struct avoid_table table = { 0 };
	(void)context;
	avoid_hold(&table, 7, 70, now);
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MEM, now));
	assert_false(avoid_is_listed(&table, 7, 71, LEASE_MEM, now));
	assert_false(avoid_is_listed(&table, 7, 0, LEASE_MEM, now)); /* the opener will say */
}

static void test_all_that_takes_the_lock_on_its_memory_is_avoided(void **context)
{
	struct avoid_table table = { 0 };
	(void)context;
	avoid_hold(&table, 7, 70, now);
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MAPS, now));
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MAPPED_FILE, now));
	assert_false(avoid_is_listed(&table, 7, 70, LEASE_ABOUT, now)); /* its name is still told */
	assert_false(avoid_is_listed(&table, 7, 70, LEASE_PERF_MAP, now));
}

static void test_while_someone_hangs_in_it_and_then_for_a_while(void **context)
{
	struct avoid_table table = { 0 };
	int64_t later = now + 100 * age;
	(void)context;
	avoid_hold(&table, 7, 70, now);
	avoid_hold(&table, 7, 70, now);
	avoid_let_go(&table, 7, 70, later);
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MEM, later + 100 * age)); /* the other one still hangs */
	avoid_let_go(&table, 7, 70, later);
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MEM, later + age - 1));
	assert_false(avoid_is_listed(&table, 7, 70, LEASE_MEM, later + age));
	avoid_let_go(&table, 7, 70, later);                      /* one too many is none */
	avoid_add(&table, 7, 70, AVOID_MEMORY, later + age - 1); /* another one hung, and could be killed */
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MEM, later + age));
	avoid_hold(&table, 7, 70, later);
	avoid_add(&table, 7, 70, AVOID_MEMORY, later);
	assert_true(avoid_is_listed(&table, 7, 70, LEASE_MEM, later + 100 * age));
}

static void test_a_full_table_forgets_whoever_is_nearly_over(void **context)
{
	struct avoid_table table = { 0 };
	unsigned n = 0, at = 0;
	(void)context;
	avoid_hold(&table, 1, 10, now);
	for (int i = 0; i < 10 * AVOIDED_MAX; i++)
		avoid_add(&table, 100 + i, 0, LEASE_MEM, now + i);
	assert_true(avoid_is_listed(&table, 1, 10, LEASE_MEM, now)); /* never one in which someone hangs */
	assert_true(avoid_is_listed(&table, 100 + 10 * AVOIDED_MAX - 1, 0, LEASE_MEM, now));
	assert_false(avoid_is_listed(&table, 100, 0, LEASE_MEM, now));
	while (avoid_next(&table, &at, now))
		n++;
	assert_int_equal(n, AVOIDED_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_hung_open_is_avoided_by_kind_and_for_a_while),
		cmocka_unit_test(test_who_gets_the_pid_next_is_not_avoided),
		cmocka_unit_test(test_all_that_takes_the_lock_on_its_memory_is_avoided),
		cmocka_unit_test(test_while_someone_hangs_in_it_and_then_for_a_while),
		cmocka_unit_test(test_a_full_table_forgets_whoever_is_nearly_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
