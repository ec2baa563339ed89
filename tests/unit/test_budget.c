/* What budgets and pressure decide. */
#include "unit/check.h"

#include "budget.h"
#include "pressure.h"

#include "common/clock.h"

#include <string.h>

static const struct budget row = { .cpu_percent = 40,
	.cpu_percent_per_cpu = 5,
	.memory = 256 << 20,
	.memory_recycle = 192 << 20,
	.memory_shed = 128 << 20,
	.memory_per_cpu = 4 << 20,
	.creep_window_ns = 60 * NS_PER_S };

static void the_ladder_has_its_steps_in_order(void **state)
{
	(void)state;
	struct memory_limits limits = budget_memory(&row, 2, 0);
	assert_int_equal(limits.shed, 136 << 20);
	assert_int_equal(limits.kill, 264 << 20);
	assert_int_equal(budget_memory_step(&limits, 136 << 20), MEMORY_FINE);
	assert_int_equal(budget_memory_step(&limits, (136 << 20) + 1), MEMORY_SHED);
	assert_int_equal(budget_memory_step(&limits, 201 << 20), MEMORY_RECYCLE);
	assert_int_equal(budget_memory_step(&limits, 265 << 20), MEMORY_KILL);
	assert_int_equal(budget_memory(&row, 2, 1).kill, 132 << 20);
	assert_int_equal(budget_memory(&row, 2, 3).kill, 33 << 20);
	assert_int_equal(budget_memory(&row, 2, 99).kill, 33 << 20);
	assert_int_equal(budget_cpu_percent(&row, 8), 80);
}

/* Feeds a value a second; true when creep was found. */
static bool feed(struct creep *c, uint64_t (*memory)(int second), int seconds)
{
	for (int i = 1; i <= seconds; i++)
		if (creep_note(c, &row, memory(i), i * NS_PER_S))
			return true;
	return false;
}

static uint64_t leaks(int second)
{
	return (10ULL << 20) + (uint64_t)second * (1 << 20);
}

static uint64_t leaks_little(int second)
{
	return (10ULL << 20) + (uint64_t)second * 1024;
}

static uint64_t fills_a_cache(int second)
{
	return second < 40 ? leaks(second) : leaks(40);
}

static uint64_t goes_up_and_down(int second)
{
	return (10ULL << 20) + (uint64_t)(second % 25) * (4 << 20);
}

static void only_what_grows_all_the_time_creeps(void **state)
{
	(void)state;
	assert_true(feed(&(struct creep) { 0 }, leaks, 80));
	assert_false(feed(&(struct creep) { 0 }, leaks, 50)); /* not for a whole window */
	assert_false(feed(&(struct creep) { 0 }, leaks_little, 1000));
	assert_false(feed(&(struct creep) { 0 }, fills_a_cache, 1000));
	assert_false(feed(&(struct creep) { 0 }, goes_up_and_down, 1000));
	struct budget never = row;
	never.creep_window_ns = 0;
	assert_false(creep_note(&(struct creep) { 0 }, &never, 1, 1));
}

static void pressure_is_read_as_the_kernel_writes_it(void **state)
{
	(void)state;
	static const char text[] =
		"some avg10=12.34 avg60=1.00 avg300=0.10 total=99\nfull avg10=5.00 avg60=0.00 avg300=0.00 total=1\n";
	assert_true(pressure_parse(text, "some") > 12.33 && pressure_parse(text, "some") < 12.35);
	assert_true(pressure_parse(text, "full") == 5);
	static const char *const wrong[] = { "", "some", "some avg10=", "full avg10=3", "some avg10=-1",
		"some avg10=101", "sometimes", "some avg10=nan" };
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		assert_true(pressure_parse(wrong[i], "some") < 0);
}

static void pressure_comes_at_once_and_goes_slowly(void **state)
{
	(void)state;
	struct pressure p = { 0 };
	int64_t now = NS_PER_S;
	assert_false(pressure_note(&p, &(struct pressure_reading) { 9, 0, 90 }, now));
	assert_true(pressure_note(&p, &(struct pressure_reading) { 50, 20, 0 }, now));
	assert_int_equal(p.level, 2);
	assert_true(pressure_note(&p, &(struct pressure_reading) { 90, 45, 0 }, now));
	assert_int_equal(p.level, 3);
	/* less, but more than half of what brought it: it stays */
	for (int i = 0; i < 100; i++)
		assert_false(pressure_note(&p, &(struct pressure_reading) { 60, 25, 0 }, now += NS_PER_S));
	int changes = 0, seconds = 0;
	while (p.level && ++seconds < 1000)
		changes += pressure_note(&p, &(struct pressure_reading) { 0, 0, 0 }, now += NS_PER_S);
	assert_int_equal(changes, 3);
	assert_in_range(seconds, 3 * PRESSURE_CALM_MS / 1000, 3 * PRESSURE_CALM_MS / 1000 + 5);
}

static void the_rate_is_halved_and_comes_back(void **state)
{
	(void)state;
	struct rate r = { 0 };
	assert_int_equal(rate_next(&r, 99), 99);
	uint32_t rates[] = { 49, 24, 12, 12 };
	for (int i = 0; i < 4; i++) {
		r.lagged = true;
		assert_int_equal(rate_next(&r, 99), rates[i]);
	}
	assert_int_equal(rate_next(&r, 99), 12);
	assert_int_equal(rate_next(&r, 99), 12);
	assert_int_equal(rate_next(&r, 99), 24);
	for (int i = 0; i < 6; i++)
		(void)rate_next(&r, 99);
	assert_int_equal(rate_next(&r, 99), 99);
	r.lagged = true;
	assert_int_equal(rate_next(&r, 1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_ladder_has_its_steps_in_order),
		cmocka_unit_test(only_what_grows_all_the_time_creeps),
		cmocka_unit_test(pressure_is_read_as_the_kernel_writes_it),
		cmocka_unit_test(pressure_comes_at_once_and_goes_slowly),
		cmocka_unit_test(the_rate_is_halved_and_comes_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
