/* The books balance whatever is lent, given back and lost. */
#include "unit/check.h"

#include "ledger.h"

#include <errno.h>

static void test_lend_and_give_back(void **context)
{
	(void)context;
	struct ledger l = { 0 };
	uint64_t mem = ledger_add(&l, 2, 7, LEASE_MEM, 42, 1000);
	uint64_t process = ledger_add(&l, 2, 7, LEDGER_PROCESS, 99, 900);
	assert_true(mem && process && mem != process);
	assert_int_equal(ledger_fds(&l), 1);
	assert_int_equal(ledger_pids(&l), 1);
	const struct ledger_row *row = ledger_find(&l, mem);
	assert_non_null(row);
	assert_int_equal(row->pid, 42);
	assert_int_equal(row->incarnation, 7);
	assert_int_equal(row->birth_ns, 1000);
	assert_int_equal(ledger_release(&l, 3, mem), -ENOENT);     /* someone else's */
	assert_int_equal(ledger_release(&l, 2, process), -ENOENT); /* a process is not given back */
	assert_int_equal(ledger_release(&l, 2, mem), 0);
	assert_int_equal(ledger_release(&l, 2, mem), -ENOENT); /* twice */
	assert_int_equal(ledger_release(&l, 2, 0), -ENOENT);
	assert_int_equal(ledger_release(&l, 2, UINT64_MAX), -ENOENT);
	assert_int_equal(ledger_fds(&l), 0);
	ledger_free(&l);
}

static void test_an_old_id_is_not_a_new_row(void **context)
{
	(void)context;
	struct ledger l = { 0 };
	uint64_t first = ledger_add(&l, 0, 1, LEASE_MAPS, 1, 0);
	assert_int_equal(ledger_release(&l, 0, first), 0);
	uint64_t second = ledger_add(&l, 0, 1, LEASE_MAPS, 1, 0); /* in the same place */
	assert_int_not_equal(first, second);
	assert_null(ledger_find(&l, first));
	assert_int_equal(ledger_release(&l, 0, first), -ENOENT);
	assert_non_null(ledger_find(&l, second));
	ledger_free(&l);
}

static void test_a_dead_worker_has_no_rows(void **context)
{
	(void)context;
	struct ledger l = { 0 };
	for (int i = 0; i < 3000; i++)
		assert_true(ledger_add(&l, (unsigned)i % 3, 1, LEASE_MEM, i, i));
	ledger_add(&l, 1, 1, LEDGER_PROCESS, 5, 0);
	assert_int_equal(ledger_drop(&l, 1), 1001);
	assert_int_equal(l.fds[1] + l.pids[1], 0);
	assert_int_equal(ledger_fds(&l), 2000);
	assert_int_equal(ledger_drop(&l, 1), 0);
	uint32_t at = 0, seen = 0;
	for (const struct ledger_row *row; (row = ledger_next(&l, &at)); seen++)
		assert_int_not_equal(row->owner, 1);
	assert_int_equal(seen, 2000);
	ledger_free(&l);
}

static void test_quarantine_keeps_its_rows(void **context)
{
	(void)context;
	struct ledger l = { 0 };
	uint64_t id = ledger_add(&l, 1, 1, LEASE_MEM, 5, 0);
	ledger_add(&l, 1, 1, LEDGER_PROCESS, 6, 0);
	ledger_transfer(&l, 1, 20);
	assert_int_equal(l.fds[1] + l.pids[1], 0);
	assert_int_equal(l.fds[20], 1);
	assert_int_equal(l.pids[20], 1);
	assert_int_equal(ledger_release(&l, 1, id), -ENOENT); /* its successor cannot give it back */
	assert_int_equal(ledger_drop(&l, 20), 2);
	assert_int_equal(ledger_fds(&l) + ledger_pids(&l), 0);
	ledger_free(&l);
}

static void test_full_books(void **context)
{
	(void)context;
	struct ledger l = { 0 };
	uint64_t last = 0;
	for (int i = 0; i < LEDGER_MAX_ROWS; i++) {
		last = ledger_add(&l, 0, 1, LEASE_MEM, 1, 0);
		assert_true(last);
	}
	assert_int_equal(ledger_add(&l, 0, 1, LEASE_MEM, 1, 0), 0);
	assert_int_equal(ledger_release(&l, 0, last), 0);
	assert_true(ledger_add(&l, 0, 1, LEASE_MEM, 1, 0));
	assert_int_equal(ledger_add(&l, LEDGER_MAX_OWNERS, 1, LEASE_MEM, 1, 0), 0);
	ledger_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lend_and_give_back),
		cmocka_unit_test(test_an_old_id_is_not_a_new_row),
		cmocka_unit_test(test_a_dead_worker_has_no_rows),
		cmocka_unit_test(test_quarantine_keeps_its_rows),
		cmocka_unit_test(test_full_books),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
