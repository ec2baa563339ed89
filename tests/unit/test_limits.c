/* CPU lists, rate limits, places on the status socket. */
#include "unit/check.h"

#include "supervisor.h"

#include "common/bucket.h"
#include "common/clock.h"

#include <errno.h>

static void expect_cpus(const char *text, const char *wanted)
{
	struct cpu_set_bits set;
	assert_int_equal(cpulist_parse(text, &set), 0);
	for (uint32_t cpu = 0; wanted[cpu]; cpu++)
		if (cpu_has(&set, cpu) != (wanted[cpu] == '1'))
			fail_msg("\"%s\": CPU %u", text, cpu);
}

static void test_cpu_lists(void **context)
{
	(void)context;
	expect_cpus("0-3,8,10-11\n", "1111000010110");
	expect_cpus("0\n", "10");
	expect_cpus("63-64", "0000000000000000000000000000000000000000000000000000000000000001100");
	expect_cpus("\n", "0000");
	expect_cpus("", "0000");
	static const char *const wrong[] = { "a", "1-", "-1", "3-1", "1,", "1,\n", "1 2", "1-2-3", "1;2", "1\n2", " 1",
		"0x1" };
	struct cpu_set_bits set;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (cpulist_parse(wrong[i], &set) != -EINVAL)
			fail_msg("\"%s\" is a list", wrong[i]);
}

static void test_cpu_limit(void **context)
{
	(void)context;
	struct cpu_set_bits set;
	assert_int_equal(cpulist_parse("0-7", &set), 0);
	assert_int_equal(cpulist_limit(&set), 8);
	assert_int_equal(cpulist_parse("64", &set), 0);
	assert_int_equal(cpulist_limit(&set), 65);
	assert_int_equal(cpulist_parse("", &set), 0);
	assert_int_equal(cpulist_limit(&set), 0);
	assert_int_equal(cpulist_parse("4000-99999", &set), 0); /* more than lanes can have */
	assert_int_equal(cpulist_limit(&set), LANE_MAX_CPUS);
	assert_false(cpu_has(&set, LANE_MAX_CPUS));
}

static void test_bucket(void **context)
{
	(void)context;
	struct bucket b = { 0 };
	int64_t now = 1000 * NS_PER_S;
	for (int i = 0; i < 50; i++)
		assert_true(bucket_take(&b, 50, now));
	assert_false(bucket_take(&b, 50, now));
	assert_false(bucket_take(&b, 50, now + 19 * NS_PER_MS));
	assert_true(bucket_take(&b, 50, now + 20 * NS_PER_MS));
	assert_false(bucket_take(&b, 50, now + 20 * NS_PER_MS));
	int taken = 0;
	for (int64_t t = 1; t <= 10000; t++)
		taken += bucket_take(&b, 50, now + NS_PER_S + t * NS_PER_MS);
	assert_in_range(taken, 540, 551); /* ten seconds, and one that was saved up */
	struct bucket none = { 0 };
	for (int i = 0; i < 100000; i++)
		assert_true(bucket_take(&none, 0, now));
}

/* Sixteen idle clients, and bulkhead(1) of an operator found no place. */
static void test_idle_clients_do_not_lock_root_out(void **context)
{
	enum { N = 8, ALICE = 1000, BOB = 1001 };
	struct status_place places[N];
	(void)context;
	for (unsigned i = 0; i < N; i++)
		places[i] = (struct status_place) { true, i % 2 ? ALICE : BOB, 100 - i };
	assert_int_equal(status_place(places, N, 0), 7);    /* whoever was silent for longest */
	assert_int_equal(status_place(places, N, 1002), 7); /* any user's, for a new one */
	assert_int_equal(status_place(places, N, BOB), 6);  /* one who holds enough only puts himself out */
	places[3].taken = false;
	assert_int_equal(status_place(places, N, 0), 3);
	assert_int_equal(status_place(places, N, BOB), 6);
	assert_int_equal(status_place(places, N, ALICE), 3); /* three, now */
	for (unsigned i = 0; i < N; i++)
		places[i] = (struct status_place) { true, 0, 100 + i };
	assert_int_equal(status_place(places, N, ALICE), N); /* root is not put out by others */
	assert_int_equal(status_place(places, N, 0), 0);
	places[5].uid = ALICE;
	assert_int_equal(status_place(places, N, 0), 5); /* others before root, however young */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cpu_lists),
		cmocka_unit_test(test_cpu_limit),
		cmocka_unit_test(test_bucket),
		cmocka_unit_test(test_idle_clients_do_not_lock_root_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
